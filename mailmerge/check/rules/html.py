"""Rules over the structure of the HTML, seen once per structure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import Page
    from mailmerge.check.message_view import Shape
    from mailmerge.check.source_locator import Origin

_ACTIVE = ("script", "form", "iframe", "object", "embed", "applet", "video", "audio")
_SAFE = re.compile(r"\{\{(?:(?!\}\}).)*?\|\s*safe\b", re.DOTALL)
_UNQUOTED = re.compile(r"""<[a-zA-Z][^<>]*?\s[\w:-]+\s*=(\{\{.*?\}\})""")
_LOOKS_LIKE_HTML = re.compile(r"<[a-zA-Z/!]")


def active_content(shape: Shape) -> Iterator[Finding]:
    """Elements that mail programs take out or warn of."""
    for tag in _ACTIVE:
        for element in shape.page.all(tag) if shape.page else ():
            yield _about(
                shape.page,
                element,
                "H201",
                f"mail programs take <{tag}> out, or warn of it",
                "link to a web page that has it",
            )
            break


def external_styles(shape: Shape) -> Iterator[Finding]:
    """Style sheets that would have to be loaded."""
    page = shape.page
    if page is None:
        return
    hint = "mail programs load none: put the rules into style attributes"
    for link in page.all("link"):
        if "stylesheet" in (link.get("rel") or "").lower():
            yield _about(page, link, "H202", "the HTML names a style sheet outside of it", hint)
    for element, rules in page.sheets:
        if any(rule.type == "at-rule" and rule.lower_at_keyword == "import" for rule in rules):
            yield _about(page, element, "H202", "a style sheet imports another one", hint)


def charset(shape: Shape) -> Iterator[Finding]:
    """Find a <meta> that names another encoding than the one messages are sent in."""
    for meta in shape.page.all("meta") if shape.page else ():
        named = meta.get("charset") or ""
        if (meta.get("http-equiv") or "").lower() == "content-type":
            named = (meta.get("content") or "").rpartition("charset=")[2]
        if named and named.strip().lower() not in {"utf-8", "utf8"}:
            yield _about(
                shape.page,
                meta,
                "H203",
                f"the HTML says it is {named.strip()}, messages are sent in UTF-8",
                'write <meta charset="utf-8">',
            )


def pictures(shape: Shape) -> Iterator[Finding]:
    """One picture as the whole message, and pictures without a width."""
    page = shape.page
    images = [image for image in page.all("img") if not page.hidden(image)] if page else []
    if not page or not images:
        return
    if len(images) == 1 and len(page.shown_text) < 40:
        yield _about(
            page,
            images[0],
            "H204",
            "the whole message is one picture",
            "with pictures off there is nothing to read, and filters count it as spam: write text",
        )
    without = [i for i in images if not i.get("width") and "width" not in page.style(i)]
    if without:
        times = f" ({len(without)} pictures)" if len(without) > 1 else ""
        yield _about(
            page,
            without[0],
            "H205",
            f"a picture has no width{times}",
            "Outlook shows it at its full size, and the text jumps when it comes: add width and height",
        )


def preheader(shape: Shape) -> Iterator[Finding]:
    """Find a letter to subscribers whose inbox line is left to chance."""
    page = shape.page
    if not shape.bulk or page is None:
        return
    body = page.root.find("body")
    for element in body.iter("div", "span", "p", "td") if body is not None else ():
        if page.hidden(element) and page.words(element):
            return
    yield Finding(
        "M218",
        "there is no preheader: inboxes show the first words of the HTML beside the subject",
        'begin the body with <div style="display:none">One sentence that makes people open it.</div>',
    )


def template_risks(origin: Origin) -> Iterator[Finding]:
    """Find what is dangerous whatever the rows hold: ``|safe``, values in bare attributes."""
    for name, text in origin.texts.items():
        if not _LOOKS_LIKE_HTML.search(text):
            continue
        for match in _SAFE.finditer(text):
            yield Finding(
                "T201",
                "`|safe` puts a value into the HTML unescaped",
                "whoever writes the list can change the whole message: use it for texts of your own only",
                origin.inside(name, match.start(), len(match[0])),
            )
        for match in _UNQUOTED.finditer(text):
            yield Finding(
                "T202",
                "a value stands in an attribute without quotes",
                'a blank in the cell ends the attribute: write name="{{ value }}"',
                origin.inside(name, match.start(1), len(match[1])),
            )


def _about(page: Page | None, element: Element, code: str, message: str, hint: str) -> Finding:
    offset, width = page.spot(element) if page else (None, 1)
    return Finding(code, message, hint, offset=offset, width=width)
