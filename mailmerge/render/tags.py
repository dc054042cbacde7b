"""The tags of a template, taken out while it is converted, and put back afterwards.

Markdown, MJML and style sheets are converted once per template, not once per row. Jinja's tags mean nothing
to the converters, so each is replaced by a mark: two characters of a private-use plane around its number. The
result is a template again once the tags are back, and a row costs what it would cost if its author had
written that. A cell never takes part: it is printed, and escaped, when the row is rendered.

Messages point at what the author wrote: every tag that is put back begins a new line (inside the tag, where
nobody sees it), and `Derived` records which line of which file that was.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from jinja2 import Environment

OPEN: Final = "\U000f5ab3"
CLOSE: Final = "\U000f5ab4"
MARK: Final = lazy_re(f"{OPEN}([0-9]+){CLOSE}")
_BEGIN: Final = lazy_re(r"\{[{%][-+]?")
PLAIN_TAGS: Final = frozenset(
    {"if", "elif", "else", "endif", "for", "endfor", "set", "with", "endwith", "raw", "endraw"}
)
"""Tags that add nothing which is not in the template itself."""
LIKE_TAG: Final = lazy_re(r"\{(?=[{%#])")
_WORD: Final = lazy_re(r"\{%[-+]?\s*(\w+)")
_OPENING: Final = frozenset({"variable_begin", "block_begin", "raw_begin", "raw_end"})
_CLOSING: Final = frozenset({"variable_end", "block_end", "raw_begin", "raw_end"})


class Tag(Struct, frozen=True):
    """One tag as it was written."""

    source: str
    name: str
    """The template's name."""
    line: int
    by_line: bool = True
    """Whether lines follow it as in the template."""

    @property
    def word(self) -> str:
        """Its keyword: ``if``, ``endif``; empty: it prints a value."""
        found = _WORD.match(self.source)
        return found[1] if found else ""

    @property
    def trims(self) -> bool:
        """Whether it strips spaces and line breaks around it."""
        return "-" in (self.source[2:3], self.source[-3:-2])

    @property
    def expression(self) -> str:
        """What it prints, or what follows its keyword."""
        inside = self.source[2:-2].strip("-+ \t\n")
        return inside.removeprefix(self.word).strip()


class Derived(Struct, frozen=True):
    """A template that was derived from others."""

    text: str
    lines: Mapping[int, Tag]
    """By line: what begins there, and where that was written."""

    def origin(self, line: int) -> tuple[str, int] | None:
        """Return where a line was written: the template's name, and the line in it."""
        known = max((at for at in self.lines if at <= line), default=None)
        if known is None:
            return None
        tag = self.lines[known]
        return tag.name, tag.line + (line - known if tag.by_line else 0)


class _Lost(Struct, frozen=True):
    """The comments of one template."""

    known: int
    """How many comments all templates had."""
    lines: list[int]
    totals: list[int]
    """How many line breaks the first of them have together."""


class _MarkedLine(Struct, frozen=True):
    made: int
    """The line in the text with marks."""
    in_tags: int
    """How many lines the tags before it have."""


class _LineIndex:
    """Index of lines and marks: a place is found without reading what is before it."""

    def __init__(self, text: str, tags: Sequence[Tag]) -> None:
        self.text = text
        self._ends = [found.start() for found in re.finditer("\n", text)]
        marks = [(found.end(), int(found[1])) for found in MARK.finditer(text)]
        self._marks = [end for end, _ in marks]
        self._in_tags = [0, *accumulate(tags[number].source.count("\n") for _, number in marks)]

    def line(self, offset: int) -> _MarkedLine:
        """Return the line of a place."""
        made = 1 + bisect_left(self._ends, offset)
        return _MarkedLine(made, self._in_tags[bisect_right(self._marks, offset)])


class Tags:
    """The tags of one body and of what was put around it, by number."""

    def __init__(self, environment: Environment) -> None:
        self._environment = environment
        self._tags: list[Tag] = []
        self._left_out: list[tuple[str, int, int]] = []
        """Comments by template: the line of the result from which each is missing, and its line breaks."""
        self._lost_before: dict[str, _Lost] = {}
        self._indexed: _LineIndex | None = None

    def __getitem__(self, number: int) -> Tag:
        """Return the tag of a mark."""
        return self._tags[number]

    def __iter__(self) -> Iterator[Tag]:
        """Return all tags, in the order in which they were taken out."""
        return iter(self._tags)

    def add(self, source: str, name: str, line: int, *, by_line: bool = True) -> str:
        """Add a tag, and return its mark."""
        self._tags.append(Tag(source, name, line, by_line))
        return f"{OPEN}{len(self._tags) - 1}{CLOSE}"

    def anchor(self, name: str, line: int, *, by_line: bool = True) -> str:
        """Return a mark that only records where its place was written."""
        self._tags.append(Tag("", name, line, by_line))
        return f"{OPEN}{len(self._tags) - 1}{CLOSE}"

    def skip(self, count: int) -> str:
        """Return a mark for lines that were left out; it produces no text."""
        return self.anchor("", count)

    def take_out(self, source: str, name: str, *, by_line: bool = True, marked: bool = False) -> str:
        """Replace the tags of *source* with marks; comments are left out.

        Args:
            source: a template.
            name: its name in messages.
            by_line: its lines will still be lines when the tags are put back.
            marked: it contains marks already.

        Raises:
            TemplateSyntaxError: a tag or a string in one does not end.

        """
        source = source.replace("\r\n", "\n").replace("\r", "\n")
        if not marked:
            source = source.replace(OPEN, "").replace(CLOSE, "")
        pieces: list[str] = []
        at = begin = end = 0
        line, counted, made = 1, 0, 1
        for _, token, value in self._environment.lexer.tokeniter(source, name):
            at = source.index(value, at)  # a "-" has stripped the spaces before it
            if token in _OPENING or token == "comment_begin":  # noqa: S105  no password
                pieces.append(source[end:at])
                begin = at
                line, counted = line + source.count("\n", counted, begin), begin
                made += pieces[-1].count("\n")
            at += len(value)
            if token in _CLOSING:
                tag = source[begin:at].rstrip()  # a "-" also affects spaces after it
                at = begin + len(tag)
                pieces.append(self.add(tag, name, line, by_line=by_line))
                end = at
            elif token == "comment_end":  # noqa: S105
                at = begin + len(source[begin:at].rstrip())
                end = at + _line_end(pieces[-1], source, at)
                self._left_out.append((name, made, source.count("\n", begin, end)))
        pieces.append(source[end:])
        return "".join(pieces)

    def numbers(self, text: str) -> list[int]:
        """Return the numbers of the marks in *text*."""
        return [int(number) for number in MARK.findall(text)]

    def line_of(self, name: str, text: str, offset: int) -> int:
        """Return the original line, in template *name*, of a place in *text*, which `take_out` returned."""
        if self._indexed is None or self._indexed.text is not text:
            self._indexed = _LineIndex(text, self._tags)
        line = self._indexed.line(offset)
        return line.made + line.in_tags + self._lost(name, line.made)

    def _lost(self, name: str, line: int) -> int:
        """Return how many lines of comments are missing before a line."""
        sums = self._lost_before.get(name)
        if sums is None or sums.known != len(self._left_out):
            own = [(at, lost) for of, at, lost in self._left_out if of == name]
            sums = _Lost(
                len(self._left_out), [at for at, _ in own], [0, *accumulate(lost for _, lost in own)]
            )
            self._lost_before[name] = sums
        return sums.totals[bisect_right(sums.lines, line)]

    def put_back(self, text: str) -> Derived:
        """Return *text* with its tags put back, as a template."""
        pieces: list[str] = []
        lines: dict[int, Tag] = {}
        line, end, raw = 1, 0, False
        for mark in MARK.finditer(text):
            before = text[end : mark.start()] if raw else literal(text[end : mark.start()])
            tag = self[int(mark[1])]
            line += before.count("\n")
            pieces.append(before)
            if begin := _BEGIN.match(tag.source):
                inside = tag.source[begin.end() :]
                pieces += (begin[0], "\n", inside)
                lines.setdefault(line, tag)
                for more in range(inside.count("\n") + 1):
                    line += 1
                    lines[line] = replace(tag, line=tag.line + more)
            elif (
                tag.name and not tag.by_line and line in lines
            ):  # between blocks, where a line break has no effect
                pieces.append("\n")
                line += 1
                lines[line] = tag
            elif tag.name:
                at = line if line not in lines else line + 1
                lines[at] = replace(tag, line=tag.line + (at - line if tag.by_line else 0))
            elif lines:
                at, last = next(reversed(lines.items()))
                lines[line] = replace(last, line=last.line + line - at + tag.line)
            raw = tag.word == "raw" or (raw and tag.word != "endraw")
            end = mark.end()
        pieces.append(literal(text[end:]))
        return Derived("".join(pieces), lines)

    def put_back_in_lines(self, text: str) -> str:
        """Put the tags back on their lines of *text*, which has fewer line breaks than its source."""
        pieces: list[str] = []
        line, end = 1, 0
        for mark in MARK.finditer(text):
            before, tag = text[end : mark.start()], self[int(mark[1])]
            line += before.count("\n")
            begin = _BEGIN.match(tag.source)
            opened = begin[0] if begin else ""
            down = max(0, tag.line - line)
            pieces += (before, opened, "\n" * down, tag.source[len(opened) :])
            line += down + tag.source.count("\n")
            end = mark.end()
        pieces.append(text[end:])
        return "".join(pieces)

    def plain(self, text: str) -> str:
        """Return *text* with its tags as they were written."""
        return MARK.sub(lambda mark: self[int(mark[1])].source, text)


def literal(text: str) -> str:
    """Escape text that looks like a tag, such as a decoded entity."""
    return LIKE_TAG.sub('{{ "{" }}', text)


def _line_end(before: str, source: str, end: int) -> int:
    """Return how much of *source* is removed with a comment that has lines to itself: its line break."""
    alone = not before.rpartition("\n")[2].strip()
    rest = re.match(r"[ \t]*\n", source[end:]) if alone else None
    return len(rest[0]) if rest else 0
