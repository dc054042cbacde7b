"""Which mail programs do not support what the HTML uses, according to the data of caniemail.com.

The data is vendored (``data/caniemail.json``, MIT licence) and refreshed by ``scripts/refresh-caniemail``;
its date is shown with every finding. A construct is reported if a reader would notice: one of the widely
used programs lacks it, or a quarter of all that were tested. What only decorates (rounded corners, shadows,
hover, dark mode) or only helps those who have it (roles, labels) is never reported: without it the message
reads the same.
"""

from __future__ import annotations

import json
import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.check.html_document import declarations

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Mapping

    from lxml.etree import _Element as Element
    from tinycss2.ast import Node

    from mailmerge.check.html_document import HtmlDocument

WORTH = 0.25
"""A construct that this share of the tested programs does not support is always reported."""
WIDELY_USED = frozenset(
    {
        *("apple-mail.ios", "apple-mail.macos", "gmail.android", "gmail.desktop-webmail", "gmail.ios"),
        *("outlook.outlook-com", "outlook.windows", "yahoo.desktop-webmail"),
    }
)
DECORATION = frozenset(
    """accent-color animation at-keyframes at-font-face at-media at-media-device-pixel-ratio at-media-hover
    at-media-orientation at-media-prefers-color-scheme at-media-prefers-reduced-motion at-supports
    backdrop-filter background-blend-mode background-clip background-origin background-position
    background-repeat background-size border-radius border-radius-logical box-shadow caption-side color-scheme
    comments cursor filter font-kerning font-size-adjust font-stretch function-light-dark hyphens
    hyphenate-character hyphenate-limit-chars important inert-attribute unit-initial letter-spacing
    list-style-image
    list-style-position opacity orphans outline outline-offset overflow-wrap
    pseudo-class-active pseudo-class-focus pseudo-class-focus-visible pseudo-class-focus-within
    pseudo-class-hover pseudo-class-link pseudo-class-visited resize scroll-snap sytem-ui tab-size
    text-decoration-color text-decoration-skip-ink text-decoration-style text-decoration-thickness
    text-emphasis text-emphasis-position text-overflow text-shadow text-underline-offset
    text-underline-position text-wrap transform transition user-select widows word-break word-wrap
    max-height min-height white-space white-space-collapse""".split()  # noqa: SIM905
)
_HTML_DECORATION = frozenset(
    """aria-describedby aria-hidden aria-label aria-labelledby aria-live role lang dir target
    loading-attribute
    meta-color-scheme comments doctype body style semantics abbr acronym dfn wbr hidden required bdi link
    anchor-links address align height width""".split()  # noqa: SIM905
)
# Elements that have a rule and a code of their own are not reported twice.
_SAID_ELSEWHERE = frozenset({"at-import", "audio", "form", "object", "video"})

MJML_OWN = frozenset(
    {"css-border-spacing", "css-float", "css-height", "css-overflow", "css-table-layout", "css-word-spacing"}
)
"""What MJML's usual components compile to: an author of MJML could not leave it out."""

_PROPERTIES = {
    **dict.fromkeys(("gap", "column-gap", "row-gap"), "gap"),
    **dict.fromkeys(("top", "left", "right", "bottom"), "left-right-top-bottom"),
    **dict.fromkeys(("grid-template", "grid-template-columns", "grid-template-rows"), "grid-template"),
    **dict.fromkeys(("margin-inline", "margin-block"), "margin-inline-block"),
    **dict.fromkeys(("padding-inline", "padding-block"), "padding-inline-block"),
    **dict.fromkeys(("border-inline", "border-block"), "border-inline-block"),
    **dict.fromkeys(("margin-inline-start", "margin-inline-end"), "margin-inline-start-end"),
    **dict.fromkeys(("padding-inline-start", "padding-inline-end"), "padding-inline-start-end"),
    **dict.fromkeys(("margin-block-start", "margin-block-end"), "margin-block-start-end"),
    **dict.fromkeys(("padding-block-start", "padding-block-end"), "padding-block-start-end"),
    **dict.fromkeys(("column-rule", "column-width", "columns", "column-span"), "column-layout-properties"),
}
_FUNCTIONS = {
    "calc": "unit-calc",
    "clamp": "function-clamp",
    "max": "function-max",
    "min": "function-min",
    "light-dark": "function-light-dark",
    "linear-gradient": "linear-gradient",
    "radial-gradient": "radial-gradient",
    "conic-gradient": "conic-gradient",
    "var": "variables",
    **dict.fromkeys(("lch", "oklch", "lab", "oklab"), "modern-color"),
}
_ELEMENTS = {
    **dict.fromkeys(("h1", "h2", "h3", "h4", "h5", "h6"), "h1-h6"),
    **dict.fromkeys(("ul", "ol", "dl"), "lists"),
    **dict.fromkeys(("map", "area"), "image-maps"),
    **dict.fromkeys(
        ("article", "section", "main", "header", "footer", "nav", "aside", "figure"), "semantics"
    ),
}
_ATTRIBUTES = ("background", "srcset", "popover")
_PICTURES = {"jpeg": "jpg", "tif": "tiff", "heic": "heif"}
_PSEUDO = re.compile(r"(::?)([a-z-]+)")
_AT_MEDIA = ("prefers-color-scheme", "prefers-reduced-motion", "hover", "orientation", "device-pixel-ratio")


class Support(Struct, frozen=True):
    """The support for one construct, as caniemail.com tested it."""

    title: str
    without: tuple[str, ...]
    """Programs without support, by their short names."""
    tested: int

    @property
    def share(self) -> float:
        """Share of the tested programs without support."""
        return len(self.without) / self.tested if self.tested else 0.0

    @property
    def worth_saying(self) -> bool:
        """Whether readers with a widely used program, or with many of the others, would notice."""
        return bool(self.without) and (self.share >= WORTH or not WIDELY_USED.isdisjoint(self.without))


class ClientData(Struct, frozen=True):
    """The vendored data."""

    date: str
    clients: Mapping[str, str]
    """Short names, each with the name that people know."""
    features: Mapping[str, Support]

    def names(self, clients: tuple[str, ...], most: int = 4) -> str:
        """Return the names of *most* programs, the widely used first, and the number of the others."""
        ordered = sorted(clients, key=lambda client: (client not in WIDELY_USED, client))
        listed = [self.clients[client] for client in ordered[:most]]
        return ", ".join(listed) + (f" and {len(ordered) - most} more" if len(ordered) > most else "")


@cache
def client_data() -> ClientData:
    """Read the vendored data."""
    kept = json.loads((Path(__file__).parent / "data" / "caniemail.json").read_text("utf-8"))
    clients = kept["clients"]
    names = sorted(clients)
    features = {}
    for slug, (title, letters) in kept["features"].items():
        without = tuple(name for name, letter in zip(names, letters, strict=True) if letter == "n")
        features[slug] = Support(title, without, sum(letter != "u" for letter in letters))
    return ClientData(kept["date"], clients, features)


class Use(Struct, frozen=True):
    """One construct that the HTML uses."""

    slug: str
    element: Element


def used(document: HtmlDocument, but: Container[str] = ()) -> Iterator[Use]:
    """Yield every construct of *document* that the data contains and is worth reporting, except *but*."""
    features = client_data().features
    for slug, element in _constructs(document):
        support = features.get(slug)
        name = slug.partition("-")[2]
        shown = name not in (DECORATION if slug.startswith("css-") else _HTML_DECORATION)
        if support and shown and slug not in but and name not in _SAID_ELSEWHERE and support.worth_saying:
            yield Use(slug, element)


def _constructs(document: HtmlDocument) -> Iterator[tuple[str, Element]]:
    for element in document.elements:
        tag = str(element.tag)
        yield f"html-{_ELEMENTS.get(tag, tag)}", element
        for attribute in _ATTRIBUTES:
            if element.get(attribute) is not None:
                yield f"html-{attribute}", element
        if tag == "img":
            yield from ((slug, element) for slug in _picture(element.get("src") or ""))
        if style := element.get("style"):
            yield from ((slug, element) for slug in _declared(style))
    for element, rules in document.sheets:
        yield from ((slug, element) for slug in _sheet(rules))


def _picture(source: str) -> Iterator[str]:
    if source.lower().startswith("data:image"):
        yield "image-base64"
        return
    suffix = source.partition("?")[0].rpartition(".")[2].lower()
    yield f"image-{_PICTURES.get(suffix, suffix)}"


@lru_cache(maxsize=512)
def _declared(text: str) -> tuple[str, ...]:
    return tuple(_uses(text))


def _uses(text: str) -> Iterator[str]:
    for name, value, tokens in declarations(text):
        if name.startswith("--"):
            yield "css-variables"
            continue
        yield f"css-{_PROPERTIES.get(name, name)}"
        if name == "display":
            # Before a declaration for Outlook, a value that it does not support does no harm.
            yield f"css-display-{value.removeprefix('inline-')}"
        yield from _values(tokens)


def _values(tokens: list[Node]) -> Iterator[str]:
    for token in tokens:
        if token.type == "dimension":
            yield f"css-unit-{token.lower_unit}"
        elif token.type == "function":
            yield f"css-{_FUNCTIONS.get(token.lower_name, token.lower_name)}"
            yield from _values(token.arguments)


def _sheet(rules: list[Node]) -> Iterator[str]:
    import tinycss2

    for rule in rules:
        if rule.type == "at-rule":
            prelude = tinycss2.serialize(rule.prelude)
            media = [f"css-at-media-{name}" for name in _AT_MEDIA if name in prelude]
            yield from media or (f"css-at-{rule.lower_at_keyword}",)
            # The rules in @media are meant for programs that support it.
        elif rule.type == "qualified-rule":
            for colons, name in _PSEUDO.findall(tinycss2.serialize(rule.prelude)):
                yield f"css-pseudo-{'element' if colons == '::' else 'class'}-{name}"
            yield from _declared(tinycss2.serialize(rule.content))
