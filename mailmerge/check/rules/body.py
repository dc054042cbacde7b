"""Rules over the words of a message, row by row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.message_view import Look, Shape
    from mailmerge.check.source_locator import Origin

_LEFTOVER = re.compile(r"\{\{[^{}]{0,200}\}\}|\{%[^{}]{0,200}%\}")
_GREETINGS = (
    *("dear", "hello", "hi", "hey", "good morning", "good afternoon", "good evening"),
    *("liebe", "lieber", "hallo", "guten tag", "bonjour", "hola", "ciao"),
)
_INITIALS = frozenset("".join(greeting[0] + greeting[0].upper() for greeting in _GREETINGS))
_GREETING = re.compile(rf"\W{{0,3}}(?:{'|'.join(_GREETINGS)})[ \t]*[,!:]", re.IGNORECASE)
_PLACEHOLDER = re.compile(
    r"lorem ipsum|\bTODO\b|\bFIXME\b|\bXXX+\b|write your message here"
    r"|\[(?:your |insert |first ?name|name)[^\]\n]*\]"
)
_ADDRESS_IN_TEXT = re.compile(r"https?://", re.IGNORECASE)


def leftover_markup(look: Look) -> Iterator[Finding]:
    """Find a cell that holds template markup: cells are never rendered, so readers would see it."""
    for part, text in (("subject", look.rendered.subject), ("body", look.body)):
        if "{" in text and (match := _LEFTOVER.search(text)) and (cell := look.cell(match[0])):
            yield Finding(
                "D160",
                f"the {part} shows template markup from a cell: {match[0]}",
                "cells are never rendered: write the value itself, or use the column in the template",
                Place(cell=cell),
            )
            return


def replacement_character(look: Look) -> Iterator[Finding]:
    """U+FFFD stands where text was read in the wrong encoding."""
    for text in (look.rendered.subject, look.body):
        if "\ufffd" in text:
            cell = look.cell("\ufffd")
            yield Finding(
                "D161",
                "the message holds U+FFFD, the mark of text read in the wrong encoding",
                "open the list or template in its own program and save it as UTF-8",
                Place(cell=cell) if cell else None,
            )
            return


class Greeting:
    """Finds greetings without a name, where the template meant to print one: the cell is empty."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin

    def __call__(self, look: Look) -> Iterator[Finding]:
        """Yield what is wrong with the greeting of one row."""
        match = _greeting(look.body[:2000])
        if match and not self._origin.of(match[0]):  # "Hello," as it was written is how its author greets
            yield Finding(
                "D204",
                f"the greeting names nobody: {match[0].strip()!r}",
                'write {{ first or "there" }} in the template, or set data.defaults for the column',
            )


def _greeting(text: str) -> re.Match[str] | None:
    for line in text.split("\n"):
        # A plain comparison first: few lines begin like that, and the pattern takes ten times as long.
        first = line[:1]
        if first.isalpha() and (first not in _INITIALS or not line[:16].lower().startswith(_GREETINGS)):
            continue
        if match := _GREETING.match(line):
            return match
    return None


def placeholder(shape: Shape) -> Iterator[Finding]:
    """Text that was meant to be replaced before sending."""
    for text in (shape.look.rendered.subject, shape.look.body):
        if match := _PLACEHOLDER.search(text):
            yield Finding("M210", f"text that looks forgotten: {match[0]!r}", "write what belongs there")
            return


def no_text_part(shape: Shape) -> Iterator[Finding]:
    """HTML alone."""
    if shape.look.text is None:
        yield Finding(
            "M202", "there is no text part", "some readers and most spam filters want one: add message.text"
        )


def text_part_differs(shape: Shape) -> Iterator[Finding]:
    """Find a text part that says much less than the HTML, or leaves out its links."""
    text, page = shape.look.text, shape.page
    if text is None or page is None:
        return
    linked = any(_ADDRESS_IN_TEXT.match(link.get("href") or "") for link in page.all("a"))
    if linked and not _ADDRESS_IN_TEXT.search(text):
        yield Finding(
            "M217",
            "the HTML has links, the text part has none",
            "write each link's address into the text: some people read nothing else",
        )
    elif len(page.shown_text) > 400 and len(text.strip()) < len(page.shown_text) / 4:
        yield Finding(
            "M217",
            f"the text part has {len(text.strip()):,} characters, the HTML shows {len(page.shown_text):,}",
            "both parts should say the same: filters compare them, and some people read only the text",
        )
