"""Rules for people who hear the message, or see it badly (WCAG 2.2, as far as mail can follow it)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.colours import appearance, contrast, shown_colour
from mailmerge.check.message_view import about
from mailmerge.check.rules import each_document

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.check.message_view import Finding

_EMPTY_WORDS = frozenset(
    """here|click here|click|link|this|more|read more|hier|hier klicken|klicken sie hier|mehr|ici|cliquez ici
    |aquí|haga clic aquí|qui|clicca qui|点击这里|点这里|这里|点击""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_HEADING = re.compile(r"h([1-6])\Z")


@each_document
def language(document: HtmlDocument) -> Iterator[Finding]:
    """Look for the language that a screen reader should speak."""
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
    """Pictures that say nothing to those who do not see them."""
    images = [i for i in document.all("img") if i.get("alt") is None and not document.hidden(i)]
    if images:
        times = f" ({len(images)} images)" if len(images) > 1 else ""
        yield about(
            document,
            images[0],
            "H231",
            f"an image has no alternative text{times}",
            'describe it: alt="Spring sale"; for pure decoration: alt=""',
        )


@each_document
def table_roles(document: HtmlDocument) -> Iterator[Finding]:
    """Tables that only place things are read out as tables unless they say that they are none."""
    tables = [table for table in document.all("table") if _is_layout(table)]
    if tables:
        times = f" ({len(tables)} tables)" if len(tables) > 1 else ""
        yield about(
            document,
            tables[0],
            "H232",
            f"a layout table has no role{times}",
            'write <table role="presentation">; a data table has <th> cells instead',
        )


def _is_layout(table: Element) -> bool:
    if table.get("role") or table.get("summary"):
        return False
    # What stands in a table inside of it belongs to that one.
    own = (e for e in table.iter("th", "caption") if next(e.iterancestors("table"), None) is table)
    return next(own, None) is None


@each_document
def low_contrast(document: HtmlDocument) -> Iterator[Finding]:
    """Text that is too close to its background: under 4.5 to 1, or 3 to 1 where it is large."""
    seen = set()
    for element, text in document.visible():
        looks = appearance(document, element)
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
    """Links whose words do not say where they lead."""
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
    """Headings that leave out a level."""
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
