"""Rules for people who use a screen reader or have low vision (WCAG 2.2, as far as it applies to mail).

The contrast of text with its background is success criterion 1.4.3.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, NamedTuple

from mailmerge.check.message_view import about, about_first
from mailmerge.check.rules import each_document
from mailmerge.colours import BLACK, UNKNOWN, WHITE, Colour, contrast, parse, shown_colour

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.check.message_view import Finding

_SIZE = re.compile(r"(\d*\.?\d+)(px|pt|em|rem|%)?")
_UNITS = {"px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0, "%": 0.16}
_HEADINGS = {"h1": 32.0, "h2": 24.0, "h3": 18.72}
_BOLD = frozenset({"b", "strong", "th", *_HEADINGS})
_BOLD_WEIGHT = re.compile(r"\bbold|\b[789]00\b")
_PICTURE = re.compile(r"url\(|gradient")
_USUAL_SIZE, _LARGE, _LARGE_IF_BOLD = 16.0, 24.0, 18.66
"""In pixels; for WCAG, text is large from 18 points, or from 14 points in bold."""


class Appearance(NamedTuple):
    """The colours and size of some text."""

    foreground: Colour
    background: Colour
    is_large: bool


def appearance(document: HtmlDocument, element: Element) -> Appearance | None:
    """Return the appearance of the text of *element*; None: it cannot be known, or nothing is declared.

    Only declarations in the elements themselves count: if a style sheet or an image may decide, nothing
    is reported.
    """
    foreground = background = size = None
    bold = False
    for node in (element, *element.iterancestors()):  # the nearest declaration wins
        style = document.style(node)
        if _decided_elsewhere(document, node, style):
            return None
        foreground = foreground or _foreground(node, style)
        background = background or _background(node, style)
        if UNKNOWN in (foreground, background):
            return None
        size = size or _size(style) or _HEADINGS.get(str(node.tag))
        bold = bold or node.tag in _BOLD or _is_bold(style)
    if foreground is None and background is None:
        return None
    large = (size or _USUAL_SIZE) >= (_LARGE_IF_BOLD if bold else _LARGE)
    return Appearance(foreground or BLACK, background or WHITE, large)


def _decided_elsewhere(document: HtmlDocument, node: Element, style: dict[str, str]) -> bool:
    """Return whether a style sheet may apply to *node*, or an image may be behind its text."""
    styled = document.sheets and (node.get("class") or node.get("id"))
    pictured = (
        node.get("background")
        or "background-image" in style
        or _PICTURE.search(style.get("background", "")) is not None
    )
    return bool(styled or pictured)


def _foreground(node: Element, style: dict[str, str]) -> Colour | None:
    written = style.get("color") or (node.get("color") if node.tag == "font" else None)
    if written:
        return parse(written)
    return UNKNOWN if node.tag == "a" else None  # mail programs choose the colour of links


def _background(node: Element, style: dict[str, str]) -> Colour | None:
    written = style.get("background-color") or style.get("background") or node.get("bgcolor")
    if not written or written in {"none", "transparent", "inherit"}:
        return None
    return parse(written.split()[0])


def _size(style: dict[str, str]) -> float | None:
    match = _SIZE.search(style.get("font-size") or style.get("font") or "")
    return float(match[1]) * _UNITS[match[2] or "px"] if match else None


def _is_bold(style: dict[str, str]) -> bool:
    weight = style.get("font-weight", "") or style.get("font", "")
    return _BOLD_WEIGHT.search(weight) is not None


_EMPTY_WORDS = frozenset(
    """here|click here|click|link|this|more|read more|hier|hier klicken|klicken sie hier|mehr|ici|cliquez ici
    |aquí|haga clic aquí|qui|clicca qui|点击这里|点这里|这里|点击""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_HEADING = re.compile(r"h([1-6])\Z")


@each_document
def language(document: HtmlDocument) -> Iterator[Finding]:
    """Find HTML without a language, by which screen readers choose their voice."""
    if any(element.get("lang") for element in document.elements[:12]):
        return
    html = next(document.all("html"), None)
    yield about(
        document,
        html,
        "H230",
        "the HTML does not declare its language",
        'write <html lang="en">: screen readers choose their voice by it',
    )


@each_document
def alternative_texts(document: HtmlDocument) -> Iterator[Finding]:
    """Find images without an alternative text."""
    images = [i for i in document.all("img") if i.get("alt") is None and not document.hidden(i)]
    yield from about_first(
        document,
        images,
        "image",
        "H231",
        "an image has no alternative text",
        'describe it: alt="Spring sale"; for pure decoration: alt=""',
    )


@each_document
def table_roles(document: HtmlDocument) -> Iterator[Finding]:
    """Find layout tables without a role: screen readers announce them as data tables."""
    tables = [table for table in document.all("table") if _is_layout(table)]
    yield from about_first(
        document,
        tables,
        "table",
        "H232",
        "a layout table has no role",
        'write <table role="presentation">; a data table has <th> cells instead',
    )


def _is_layout(table: Element) -> bool:
    if table.get("role") or table.get("summary"):
        return False
    # The cells of a nested table do not count.
    own = (e for e in table.iter("th", "caption") if next(e.iterancestors("table"), None) is table)
    return next(own, None) is None


@each_document
def low_contrast(document: HtmlDocument) -> Iterator[Finding]:
    """Find text with too little contrast: under 4.5 to 1, or under 3 to 1 if it is large."""
    seen = set()
    around, looks = None, None
    for element, text in document.visible:
        if element is not around:  # a paragraph of many lines is examined once
            around, looks = element, appearance(document, element)
        if looks is None or not re.search(r"\w", text):
            continue
        colours = looks.foreground, looks.background
        ratio, least = contrast(*colours), 3.0 if looks.is_large else 4.5
        if ratio < least and colours not in seen:
            seen.add(colours)
            yield about(
                document,
                element,
                "H233",
                f"text is hard to read: {' on '.join(map(shown_colour, colours))} has a contrast of "
                f"{ratio:.1f} to 1",
                f"{'large' if looks.is_large else 'normal'} text needs at least {least:g} to 1: "
                "use a darker or lighter colour",
            )


@each_document
def link_texts(document: HtmlDocument) -> Iterator[Finding]:
    """Find links whose text does not describe where they lead."""
    for link in document.all("a"):
        if not link.get("href") or document.hidden(link):
            continue
        words = document.words(link).strip(" .:!»>→")
        if not words:
            yield about(
                document,
                link,
                "H234",
                "a link has no text",
                "give it text, or its image an alt text: otherwise screen readers read out the address",
            )
        elif words.casefold() in _EMPTY_WORDS:
            yield about(
                document,
                link,
                "H234",
                f"a link's text does not say where it leads: {words!r}",
                "screen readers list links without the text around them: name the destination",
            )


@each_document
def heading_order(document: HtmlDocument) -> Iterator[Finding]:
    """Find headings that skip a level."""
    before = 0
    for element in document.elements:
        match = _HEADING.match(str(element.tag))
        if not match:
            continue
        level = int(match[1])
        if before and level > before + 1:
            yield about(
                document,
                element,
                "H235",
                f"<h{before}> is followed by <h{level}>: a level is missing",
                f"people navigate by headings: use <h{before + 1}> and style it as you like",
            )
        before = level
