"""Rules for people who hear the message, or see it badly (WCAG 2.2, as far as mail can follow it)."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.colours import contrast, effective_colours, shown_colour
from mailmerge.check.message_view import Finding

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lxml.etree import _Element as Element

    from mailmerge.check.html_document import Page
    from mailmerge.check.message_view import Shape

_EMPTY_WORDS = frozenset(
    """here|click here|click|link|this|more|read more|hier|hier klicken|klicken sie hier|mehr|ici|cliquez ici
    |aquí|haga clic aquí|qui|clicca qui|点击这里|点这里|这里|点击""".replace("\n", "")
    .replace("    ", "")
    .split("|")
)
_HEADING = re.compile(r"h([1-6])\Z")


def language(shape: Shape) -> Iterator[Finding]:
    """Look for the language that a screen reader should speak."""
    page = shape.page
    if page is None or any(element.get("lang") for element in page.elements[:12]):
        return
    html = next(page.all("html"), None)
    yield _about(
        page,
        html,
        "H230",
        "the HTML does not say its language",
        'write <html lang="en">: screen readers choose the voice by it',
    )


def alternative_texts(shape: Shape) -> Iterator[Finding]:
    """Pictures that say nothing to those who do not see them."""
    page = shape.page
    images = [i for i in page.all("img") if i.get("alt") is None and not page.hidden(i)] if page else []
    if images:
        times = f" ({len(images)} pictures)" if len(images) > 1 else ""
        yield _about(
            page,
            images[0],
            "H231",
            f"a picture has no alternative text{times}",
            'write what it says: alt="Spring sale"; for decoration alone: alt=""',
        )


def table_roles(shape: Shape) -> Iterator[Finding]:
    """Tables that only place things are read out as tables unless they say that they are none."""
    page = shape.page
    tables = [table for table in page.all("table") if _is_layout(table)] if page else []
    if tables:
        times = f" ({len(tables)} tables)" if len(tables) > 1 else ""
        yield _about(
            page,
            tables[0],
            "H232",
            f"a layout table has no role{times}",
            'write <table role="presentation">; a table of data has <th> cells instead',
        )


def _is_layout(table: Element) -> bool:
    if table.get("role") or table.get("summary"):
        return False
    # What stands in a table inside of it belongs to that one.
    own = (e for e in table.iter("th", "caption") if next(e.iterancestors("table"), None) is table)
    return next(own, None) is None


def low_contrast(shape: Shape) -> Iterator[Finding]:
    """Text that is too close to its background: under 4.5 to 1, or 3 to 1 where it is large."""
    page = shape.page
    seen = set()
    for element, text in page.visible() if page else ():
        colours = effective_colours(page, element) if page else None
        if colours is None or not re.search(r"\w", text):
            continue
        ink, paper, large = colours
        ratio = contrast(ink, paper)
        if ratio < (3 if large else 4.5) and (ink, paper) not in seen:
            seen.add((ink, paper))
            yield _about(
                page,
                element,
                "H233",
                f"text is hard to read: {shown_colour(ink)} on {shown_colour(paper)} has a contrast of "
                f"{ratio:.1f} to 1",
                f"{'3' if large else '4.5'} to 1 is the least for {'large' if large else 'normal'} text: "
                "take a darker or lighter colour",
            )


def link_texts(shape: Shape) -> Iterator[Finding]:
    """Links whose words do not say where they lead."""
    page = shape.page
    for link in page.all("a") if page else ():
        if page is None or not link.get("href") or page.hidden(link):
            continue
        words = page.words(link).strip(" .:!»>→")
        if not words:
            yield _about(
                page,
                link,
                "H234",
                "a link has no words",
                "give it text, or its picture an alt text: a screen reader reads the address out instead",
            )
        elif words.casefold() in _EMPTY_WORDS:
            yield _about(
                page,
                link,
                "H234",
                f"a link's words do not say where it leads: {words!r}",
                "links are read out one by one without the text around them: name the goal",
            )


def heading_order(shape: Shape) -> Iterator[Finding]:
    """Headings that leave out a level."""
    page = shape.page
    before = 0
    for element in page.elements if page else ():
        match = _HEADING.match(str(element.tag))
        if not match:
            continue
        level = int(match[1])
        if before and level > before + 1:
            yield _about(
                page,
                element,
                "H235",
                f"after <h{before}> comes <h{level}>: a level is left out",
                f"people jump from heading to heading: use <h{before + 1}> and give it the size you want",
            )
        before = level


def _about(page: Page | None, element: Element | None, code: str, message: str, hint: str) -> Finding:
    offset, width = page.spot(element) if page and element is not None else (None, 1)
    return Finding(code, message, hint, offset=offset, width=width)
