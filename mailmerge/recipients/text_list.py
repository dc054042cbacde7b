"""Text lists: CSV, TSV and their kin, streamed by the standard library's csv module.

Nothing is guessed in silence: an encoding that is not certain is an error until the user names it, and a row
that is not as wide as the header is an error, never padded or shifted.
"""

from __future__ import annotations

import csv
import io
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.csv_errors import damaged_cell, fenced, not_in_encoding, quoting, ragged, unnamed
from mailmerge.recipients.encodings import find_encoding
from mailmerge.recipients.recipient_list import (
    MAX_CELL,
    MAX_PROBLEMS,
    Header,
    Options,
    RecipientList,
    Record,
    list_error,
    read_header,
)
from mailmerge.recipients.understanding import Understanding
from mailmerge.text import unguarded

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_BLOCK = 16_384
_LONGEST_READ = 1 << 26
"""Characters of a cell beyond which the file is given up."""
SAMPLE = 32_768
"""Characters that decide the delimiter."""
DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "pipe", ",": "comma"}
"""The rarer in running text, the earlier: where two fit equally well, the rarer one is meant."""


class TextList(RecipientList):
    """A list in a text file with one delimiter and quoted cells."""

    def __init__(self, path: Path, shown: str, options: Options, encoding: str | None = None) -> None:
        if csv.field_size_limit() < MAX_CELL:  # a limit of the whole process: it is only ever raised
            csv.field_size_limit(MAX_CELL)
        self.path = path
        self.shown = shown
        found = find_encoding(path, shown, encoding)
        self._encoding = found.codec
        sample = self._sample()
        self._delimiter, one_column = find_delimiter(sample)
        header = self._read_header()
        super().__init__(path, shown, header, options)
        kind = "TSV" if self._delimiter == "\t" else "CSV"
        delimiter = "one column" if one_column else DELIMITERS[self._delimiter]
        self.understanding = Understanding(kind, str(found), delimiter)

    @property
    def encoding(self) -> str:
        """The codec it was read with; ``utf-8-sig`` where it begins with a byte order mark."""
        return self._encoding

    @property
    def delimiter(self) -> str:
        """The character between two cells."""
        return self._delimiter

    def about_rows(self) -> int:
        """Count lines: a cell with a line break counts as two rows."""
        with self.path.open("rb") as file:
            return sum(block.count(b"\n") for block in iter(lambda: file.read(1 << 20), b""))

    def _records(self) -> Iterator[Record]:
        # The hot loop: what is plainly right passes at the speed of csv.reader. Where something is doubtful
        # each row is examined, and after the first problem no row is yielded: all problems are told together.
        width = self.header.width
        strip = str.strip
        suspicious = bool(self.header.unnamed)
        # Where csv lets long cells pass, each row has to be looked at.
        damage = ["long"] if csv.field_size_limit() > MAX_CELL else []
        problems: list[Diagnostic] = []
        lost: list[Diagnostic] = []
        with self._open() as file:
            for row, line, cells in self._numbered(file, damage, problems, after=self.header.row):
                if not cells or not (cells[0].strip() or any(map(strip, cells))):
                    self.blank_rows += 1
                elif len(cells) == width and not (suspicious or damage):
                    yield row, line, cells
                else:
                    problems += self._examine(row, line, cells)
                    lost += self._lost(row, line, cells)
                    if len(lost) >= MAX_PROBLEMS:  # not a mistyped cell or two: the whole list is damaged
                        problems = lost
                        break
                    if not problems:
                        yield row, line, fenced(cells)
                    elif len(problems) >= MAX_PROBLEMS:
                        break
                    suspicious = suspicious or bool(problems)
        if problems:
            raise list_error(self.shown, problems[:MAX_PROBLEMS])

    def _numbered(
        self, file: TextIO, damage: list[str], problems: list[Diagnostic], *, after: int = 0
    ) -> Iterator[tuple[int, int, list[str]]]:
        """Yield the records below row *after*, with row and first line; where csv gives up is a problem."""
        reader = csv.reader(_lines(file, damage), delimiter=self._delimiter, strict=True)
        row, line = after, 1
        try:
            if after:
                next(islice(reader, after - 1, after))
                line = reader.line_num + 1
            for row, cells in enumerate(reader, after + 1):
                yield row, line, cells
                line = reader.line_num + 1
        except UnicodeError:
            raise self._not_in_encoding() from None
        except csv.Error as error:
            if "field larger" in str(error) and csv.field_size_limit() <= MAX_CELL:
                csv.field_size_limit(_LONGEST_READ)  # it is one row's problem: go on with that row
                damage.append("long")
                file.seek(0)
                yield from self._numbered(file, damage, problems, after=row)
            else:
                problems.append(quoting(error, self.shown, row + 1, line, reader.line_num))

    def _examine(self, row: int, line: int, cells: list[str]) -> list[Diagnostic]:
        """Find what is wrong with a record that is not plainly right; nothing may be."""
        place = self._place(row, line, -1)
        found: list[Diagnostic] = []
        if len(cells) != self.header.width:
            found.append(ragged(cells, self.header.width, self._delimiter, place, row))
        else:
            found += [
                unnamed(cells[position], f"column {position + 1}", place, row)
                for position in self.header.unnamed
                if cells[position].strip()
            ]
        return found

    def _lost(self, row: int, line: int, cells: list[str]) -> list[Diagnostic]:
        """Say where characters were lost; of each row once."""
        at = next((at for at, cell in enumerate(cells) if "\ufffd" in cell), None)
        return [] if at is None else [damaged_cell(cells[at], self._place(row, line, at), row)]

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  lines are closer
        known = position in self.header.kept
        heading = self.columns.headings[self.header.kept.index(position)] if known else ""
        return Place(path=self.shown, line=line, cell=f'column "{heading}"' if known else None)

    def _own_text(self, cell: str) -> str:
        """Give the text of a cell of ours, without what keeps it from being a formula."""
        return unguarded(cell)

    def _read_header(self) -> Header:
        damage: list[str] = []
        problems: list[Diagnostic] = []
        with self._open() as file:
            for row, line, cells in self._numbered(file, damage, problems):
                place = Place(path=self.shown, line=line)
                bad = [cell for cell in cells if damage and ("\0" in cell or "\ufffd" in cell)]
                if bad:
                    raise list_error(self.shown, [damaged_cell(bad[0], place, row)])
                if any(map(str.strip, cells)):
                    header, problems = read_header(cells, row, lambda _: place)  # noqa: B023  not kept
                    if problems:
                        raise list_error(self.shown, problems)
                    return header
        if problems:
            raise list_error(self.shown, problems)
        raise ListError(
            f"{self.shown} is empty",
            code="D102",
            hint="the first row contains the headings, each further row one recipient",
            place=Place(path=self.shown),
        )

    def _open(self) -> TextIO:
        return self.path.open(encoding=self._encoding, newline="")

    def _sample(self) -> str:
        try:
            with self._open() as file:
                return file.read(SAMPLE)
        except UnicodeError:  # also of UTF-16 without a byte order mark
            raise self._not_in_encoding() from None

    def _not_in_encoding(self) -> ListError:
        return not_in_encoding(self.path, self.shown, self._encoding)


def _lines(file: TextIO, damage: list[str]) -> Iterator[str]:
    """Yield the lines of a file; *damage* is filled, no later than its line comes up, if there is any.

    Looking at blocks and leaving their lines to C costs nothing; looking at each line costs a tenth.
    """
    return chain.from_iterable(_blocks(file, damage))


def _blocks(file: TextIO, damage: list[str]) -> Iterator[TextIO]:
    while block := file.read(_BLOCK) + file.readline():
        if "\0" in block or "\ufffd" in block:
            damage.append(block[:1])
        yield io.StringIO(block, newline="")


# --- how it is written: decided by evidence or not at all ------------------------------------------------


def find_delimiter(sample: str) -> tuple[str, bool]:
    """Find the delimiter that makes most rows as wide as the header, and whether there is but one column."""
    several: list[tuple[float, int, int, str]] = []
    single: list[tuple[float, str]] = []
    for rank, delimiter in enumerate(DELIMITERS):
        widths = _widths(sample, delimiter)
        if not widths:  # nothing but delimiters and blanks
            return ",", True
        first, rows = widths[0], widths[1:]
        fit = rows.count(first) / len(rows) if rows else 1.0
        if first == 1:
            single.append((fit, delimiter))
        else:
            several.append((fit, first, -rank, delimiter))
    if several:
        return max(several)[3], False
    # "," wins a tie: it is what the file would use if it had a second column.
    return max(single, key=lambda found: (found[0], found[1] == ","), default=(1.0, ","))[1], True


def _widths(sample: str, delimiter: str) -> list[int]:
    """How many cells each record of the sample has; a record cut off at its end is left out."""
    widths: list[int] = []
    try:
        for cells in csv.reader(io.StringIO(sample, newline=""), delimiter=delimiter):
            if any(map(str.strip, cells)):
                widths.append(len(cells))  # noqa: PERF401  what came before an error counts
    except csv.Error:
        return widths
    if len(sample) >= SAMPLE and len(widths) > 1:
        widths.pop()
    return widths
