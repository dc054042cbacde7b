"""Rules over the words of a message, row by row."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.check.message_view import Finding
from mailmerge.check.rules import each_layout, each_message
from mailmerge.model import Place
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.check.message_view import Layout, MessageView, SourceLocator

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
_SPEAKS_OF_ONE = re.compile(
    r"(?<![-\w\"'=/.#])(?:attached|attachments?|enclosed|anbei|(?:im|als) anhang|angehängt\w*"
    r"|in der anlage|beigefügt\w*"
    r"|ci-joint\w*|pi[eè]ces? jointes?|adjunt[oa]s?|in allegato|allegat[oiae]|em anexo|anexad[oa]s?"
    r"|bijlagen?|bijgevoegd\w*|w załączeniu|załącznik\w*|bifogad\w*|vedhæftet|vedlagt|liitteenä)\b"
    r"|附件|添付|첨부|вложени|прикреплен",
    re.IGNORECASE,
)
"""Words that promise a file, in the languages that mail merges are written in most."""
_ADDRESS_IN_TEXT = re.compile(r"https?://", re.IGNORECASE)


@each_message
def leftover_markup(view: MessageView) -> Iterator[Finding]:
    """Find a cell that holds template markup: cells are never rendered, so readers would see it."""
    for part, text in (("subject", view.rendered.subject), ("body", view.body)):
        if "{" in text and (match := _LEFTOVER.search(text)) and (cell := view.cell(match[0])):
            yield Finding(
                "D160",
                f"the {part} shows template markup from a cell: {match[0]}",
                "cells are never rendered: write the value itself, or use the column in the template",
                Place(cell=cell),
            )
            return


@each_message
def replacement_character(view: MessageView) -> Iterator[Finding]:
    """U+FFFD stands where text was read in the wrong encoding."""
    for text in (view.rendered.subject, view.body):
        if "\ufffd" in text:
            cell = view.cell("\ufffd")
            yield Finding(
                "D161",
                "the message contains U+FFFD, the mark of text read in the wrong encoding",
                "open the list or template in its own program and save it as UTF-8",
                Place(cell=cell) if cell else None,
            )
            return


@each_message
def greeting(view: MessageView) -> Iterator[Finding]:
    """Find greetings without a name where the template meant to print one: the cell is empty."""
    match = _greeting(view.body[:2000])
    if match and not view.sources.of(match[0]):  # "Hello," as it was written is how its author greets
        yield Finding(
            "D204",
            f"the greeting has no name: {match[0].strip()!r}",
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


@each_message
def file_forgotten(view: MessageView) -> Iterator[Finding]:
    """Find a message that speaks of an attachment and has none."""
    if any(not file.content_id for file in view.message.files):
        return
    fixed = view.sources.once(_fixed_words)
    body = view.rendered.html if view.rendered.text is None else view.rendered.text
    for chunk in (view.rendered.subject, *(body or ())):
        word = fixed[chunk] if chunk in fixed else _spoken(chunk)
        if word:
            yield Finding(
                "A215",
                f"the message says {quoted(word)}, but no file is attached",
                "attach the file with [[attach]] or --attach, or write where it is to be found",
                view.sources.of(word) if chunk in fixed else None,
            )
            return


def _fixed_words(sources: SourceLocator) -> dict[str, str]:
    """Look at what the templates say themselves once."""
    return {chunk: _spoken(chunk) for chunk in sources.fixed}


def _spoken(text: str) -> str:
    found = _SPEAKS_OF_ONE.search(text)
    return found[0] if found else ""


@each_layout
def placeholder(layout: Layout) -> Iterator[Finding]:
    """Text that was meant to be replaced before sending."""
    for text in (layout.view.rendered.subject, layout.view.body):
        if match := _PLACEHOLDER.search(text):
            yield Finding("M210", f"placeholder text was left in: {match[0]!r}", "replace it before sending")
            return


@each_layout
def no_text_part(layout: Layout) -> Iterator[Finding]:
    """HTML alone."""
    if layout.view.text is None:
        yield Finding(
            "M202", "there is no text part", "some readers and most spam filters expect one: add message.text"
        )


@each_layout
def text_part_differs(layout: Layout) -> Iterator[Finding]:
    """Find a text part that says much less than the HTML, or leaves out its links."""
    text, document = layout.view.text, layout.document
    if text is None or document is None:
        return
    linked = any(_ADDRESS_IN_TEXT.match(link.get("href") or "") for link in document.all("a"))
    if linked and not _ADDRESS_IN_TEXT.search(text):
        yield Finding(
            "M217",
            "the HTML has links, but the text part has none",
            "add the links' addresses to the text part: some people read only that",
        )
        return
    short, long = len(text.strip()), len(document.shown_text)
    if long > 400 and short < long / 4:
        yield Finding(
            "M217",
            f"the text part has {short:,} characters, but the HTML shows {long:,}",
            "both parts should say the same: filters compare them, and some people read only the text part",
        )
