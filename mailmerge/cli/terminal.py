"""A terminal as it is: its width, lines wrapped to it, tables in it, colours where they are wanted.

What goes anywhere else (a pipe, a file) is neither wrapped nor coloured: there one line is one message.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, Final, TextIO

import click
from msgspec import Struct

from mailmerge.lazy_re import lazy_re
from mailmerge.text import padded, printable, width

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mailmerge.model import Status
    from mailmerge.options import Color

_USUAL: Final = 80
_LEAST: Final = 20
"""Columns below which nothing is made narrower."""


def columns(stream: TextIO) -> int | None:
    """Return how many columns the terminal behind *stream* has; None: it is not a terminal.

    ``COLUMNS`` wins, as it does in other programs.
    """
    if not stream.isatty():
        return None
    wanted = os.environ.get("COLUMNS", "")
    if wanted.isascii() and wanted.isdigit() and int(wanted):
        return max(_LEAST, int(wanted[:6]))
    try:
        found = os.get_terminal_size(stream.fileno()).columns
    except (OSError, ValueError):
        found = 0
    return max(_LEAST, found or _USUAL)


_chosen: Color = "auto"
"""What ``--color`` said: errors are shown when its command has ended."""


def choose_colours(chosen: Color) -> None:
    """Set when `coloured` is true from now on."""
    global _chosen  # noqa: PLW0603  one command line, one choice
    _chosen = chosen


def coloured(stream: TextIO) -> bool:
    """Return whether colours are wanted.

    ``--color`` decides, then ``NO_COLOR`` and ``FORCE_COLOR``; else a terminal that has colours gets them.
    An empty ``NO_COLOR`` is the same as none (https://no-color.org).
    """
    if _chosen != "auto":
        return _chosen == "always"
    if os.environ.get("NO_COLOR"):
        return False
    if os.environ.get("FORCE_COLOR", "") not in {"", "0"}:
        return True
    return stream.isatty() and os.environ.get("TERM") != "dumb"


COLOURS: Final[Mapping[str, Mapping[str, Any]]] = {
    "accepted": {"fg": "green"},
    "drafted": {"fg": "green"},
    "rejected": {"fg": "red"},
    "expired": {"fg": "red"},
    "bounced": {"fg": "red"},
    "in_doubt": {"fg": "yellow", "bold": True},
    "handing_over": {"fg": "yellow", "bold": True},
    "deferred": {"fg": "cyan"},
    "invalid": {"fg": "magenta"},
}
"""How the word of a state is shown, always as the word; the others are as all text is."""
_SEVERITIES: Final = {"error": "red", "warning": "yellow"}


def painted(text: str, states: Iterable[Status] = (), word: str | None = None) -> str:
    """Return *text* with the words of these *states*, the first of each, and of an error in their colours.

    *word*: what names a state here, if it is not the state's own word.
    """
    found = re.match(r"(error|warning)\[[A-Z]\d{3}\](?=: )", text)
    if found:
        text = click.style(found[0], fg=_SEVERITIES[found[1]], bold=True) + text[found.end() :]
    if states:
        from mailmerge.report.summary import WORDS

        for status in filter(COLOURS.__contains__, states):
            before, found_word, after = text.partition(word or WORDS[status])
            text = before + click.style(found_word, **COLOURS[status]) + after if found_word else text
    return text


# --- wrapping -----------------------------------------------------------------------------------------

_STOP: Final = r"\s`<>\"“”，。；：、（）「」《》"
_WHOLE: Final = lazy_re(
    rf"""
      `[^`]*`                                                              # code, as messages mark it
    | (?<![\w/.-])mailmerge(?:[ ](?:'[^']*'|"[^"]*"|[^\s'"`])+(?<![,;]))+    # a command to copy
    | --[a-z][\w-]*(?:[ =](?:'[^']*'|"[^"]*"))?                            # an option with its quoted value
    | [a-z][a-z0-9+.-]*://[^{_STOP}]+                                      # an address of the web
    | [^{_STOP}]*[@/\\][^{_STOP}]*(?:（[^{_STOP}]*）[^{_STOP}]*)*              # an address, a path
    | [^{_STOP}]+\.[A-Za-z][A-Za-z0-9]{{1,4}}(?![\w])                        # a file
    """,
    re.VERBOSE,
)
"""What can be selected and pasted: no line ends within it."""
_NOT_FIRST: Final = frozenset("，。、；：！？）」』】》〉〕…—～·”’％ー々〻‥,.;:!?)]}'\"%")
_NOT_LAST: Final = frozenset("（「『【《〈〔“‘￥$([{'\"")
_AS_IT_IS: Final = lazy_re(r" +--> | *\d* +\| |Report: |Results: | +kept in |\$ | {6}(?! )")
"""Lines that are a path, a line of a file, a command or an example as a whole."""
_HANGS: Final = lazy_re(
    r"(?P<few>(?:error|warning)\[)"
    r"|(?P<all> *= hint: | *\d+\. +|[A-Z]\d{3}  [a-z]+ +|[A-Z][a-z]{1,7}: +"
    r"| *[^\W\d]\S*(?: \S+){0,2} {2,} *| {2}\S+ {2,})"
    r"|(?P<indent> *)"
)
_WIDEST_HANG: Final = 24


def wrapped(text: str, cells: int, hang: int = 0) -> list[str]:
    """Break *text* into lines of at most *cells* columns, all but the first behind *hang* spaces.

    What would be copied as a whole is never broken, even if it is wider: a terminal continues it on its next
    line, and still treats it as one. Chinese text breaks between characters, but not before a comma.
    """
    if width(text) <= cells:
        return [text]
    lines, line, used = [], "", 0
    for piece in _pieces(text):
        wide = width(piece.rstrip())
        if used > hang and line.strip() and used + wide > cells:  # behind its label is as good as below it
            lines.append(line.rstrip())
            line, used = " " * hang, hang
        line += piece
        used += width(piece)
    return [*lines, line.rstrip()]


def _pieces(text: str) -> Iterator[str]:
    """Yield the parts between which *text* may be broken, each with the spaces behind it."""
    from wcwidth import iter_graphemes

    whole = iter([*((found.start(), found.end()) for found in _WHOLE.finditer(text)), (len(text), len(text))])
    start, end = next(whole)
    begin = at = 0
    before = ""
    for part in iter_graphemes(text):
        while at >= end and start < len(text):
            start, end = next(whole)
        if at and not start < at < end:
            between = width(before) == 2 or width(part) == 2
            open_ = between and part[0] not in _NOT_FIRST and before[0] not in _NOT_LAST
            if part != " " and (before == " " or (open_ and before)):
                yield text[begin:at]
                begin = at
        before = part
        at += len(part)
    yield text[begin:]


def fitted(text: str, cells: int | None) -> list[str]:
    """Break a line of output for a terminal of *cells* columns; None: it stays one line."""
    if cells is None or width(text) <= cells or _AS_IT_IS.match(text):
        return [text]
    found = _HANGS.match(text)
    assert found is not None
    hang = 4 if found["few"] else width(found[0])
    if hang > min(_WIDEST_HANG, cells // 2):
        hang = len(text) - len(text.lstrip()) + 2
    return wrapped(text, cells, hang)


_NUMBERED: Final = lazy_re(r" *\d+ \| ")
_MARKED: Final = lazy_re(r" +\| ( *)(\^+)\Z")


def windowed(lines: Iterable[str], cells: int | None) -> Iterator[str]:
    """Yield *lines*; of a source line wider than *cells* columns only the part around its caret.

    If the terminal wrapped the line, the caret would be under another part of it.
    """
    before: str | None = None
    for line in lines:
        marked, numbered = _MARKED.match(line), _NUMBERED.match(before or "")
        if before is not None and marked and numbered and cells is not None:
            label = numbered[0]
            source, room = before[len(label) :], cells - len(label)
            start = len(marked[1])
            if width(source) > room > 1:
                from wcwidth import clip

                fits = start + len(marked[2]) <= room
                first = 0 if fits else max(0, min(start - room // 3, width(source) - room))
                yield f"{label}{clip(source, first, first + room)}"
                marks = marked[2][: room - (start - first)]
                before = f"{' ' * (len(label) - 2)}| {' ' * (start - first)}{marks}"
                continue
        if before is not None:
            yield before
        before = line
    if before is not None:
        yield before


def _folded(text: str, cells: int) -> Iterator[str]:
    """Break *text* into lines of *cells* columns, whatever it is: a table has no more room."""
    from wcwidth import iter_graphemes

    for line in wrapped(text, cells):
        part = ""
        for one in iter_graphemes(line):
            if width(part) + width(one) > cells:
                yield part
                part = ""
            part += one
        yield part


# --- tables -------------------------------------------------------------------------------------------


class Column(Struct, frozen=True):
    """A column of a table: its heading, and whether it has numbers, which end below each other."""

    heading: str
    number: bool = False


def table(head: Sequence[Column], rows: Sequence[Sequence[str]], cells: int) -> Iterator[list[str]]:
    """Yield the lines of a table in a terminal of *cells* columns: each the parts of its columns, padded.

    Columns of text share the room that there is; what does not fit continues on the next line.
    """
    shown = [[printable(cell) for cell in row] for row in rows]
    widths = [
        max(width(column.heading), *(width(row[at]) for row in shown)) for at, column in enumerate(head)
    ]
    room = cells - 2 * (len(head) - 1)
    while sum(widths) > room:
        widest = max((at for at, column in enumerate(head) if not column.number), key=lambda at: widths[at])
        if widths[widest] <= 4:
            break
        widths[widest] -= 1
    yield _row(head, [column.heading for column in head], widths)
    yield ["─" * min(cells, sum(widths) + 2 * (len(head) - 1))]
    for row in shown:
        parts = [list(_folded(cell, most)) for cell, most in zip(row, widths, strict=True)]
        for number in range(max(map(len, parts))):
            yield _row(head, [part[number] if number < len(part) else "" for part in parts], widths)


def _row(head: Sequence[Column], cells: Sequence[str], widths: Sequence[int]) -> list[str]:
    parts = zip(head, cells, widths, strict=True)
    return [padded(cell, most, right=column.number) for column, cell, most in parts]
