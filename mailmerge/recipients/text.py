"""Text lists: CSV, TSV and their kin, streamed by the standard library's csv module.

Nothing is guessed in silence: bytes that are not UTF-8 (and carry no byte order mark) are an error until the
user names the encoding, and a row that is not as wide as the header is an error, never padded or shifted.
"""

from __future__ import annotations

import csv
import io
from itertools import chain, islice
from typing import TYPE_CHECKING, TextIO

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.csv_errors import bad_bytes, damaged_cell, quoting, ragged, unnamed
from mailmerge.recipients.dialect import DELIMITERS, SAMPLE, find_delimiter, find_encoding
from mailmerge.recipients.header import Header, read_header
from mailmerge.recipients.recipient_list import (
    MAX_CELL,
    MAX_PROBLEMS,
    Options,
    RecipientList,
    Record,
    list_error,
)

if TYPE_CHECKING:
    from _csv import Reader as CsvReader
    from collections.abc import Iterator
    from pathlib import Path


_BLOCK = 16_384


class TextList(RecipientList):
    """A list in a text file with one delimiter and quoted cells."""

    def __init__(self, path: Path, shown: str, options: Options, encoding: str | None = None) -> None:
        if csv.field_size_limit() < MAX_CELL:  # a limit of the whole process: it is only ever raised
            csv.field_size_limit(MAX_CELL)
        self.path = path
        self.shown = shown
        self._encoding, encoding_shown = find_encoding(path, shown, encoding)
        sample = self._sample()
        self._delimiter, one_column = find_delimiter(sample)
        header = self._read_header()
        super().__init__(path, shown, header, options)
        kind = "TSV" if self._delimiter == "\t" else "CSV"
        delimiter = "one column" if one_column else DELIMITERS[self._delimiter]
        self.dialect = f"{kind}, {encoding_shown}, {delimiter}"

    @property
    def encoding(self) -> str:
        """The codec it was read with; ``utf-8-sig`` where it begins with a byte order mark."""
        return self._encoding

    @property
    def delimiter(self) -> str:
        """The character between two cells."""
        return self._delimiter

    def _records(self) -> Iterator[Record]:
        header = self._header
        width = header.width
        strip = str.strip
        careful = bool(header.unnamed)
        problems: list[Diagnostic] = []
        damage: list[str] = []
        row = header.row
        line = 1
        with self._open() as file:
            reader = self._reader(_lines(file, damage))
            try:
                next(islice(reader, row - 1, row))  # up to the header
                line = reader.line_num + 1
                for row, cells in enumerate(reader, header.row + 1):
                    if not cells or not (cells[0].strip() or any(map(strip, cells))):
                        self.blank_rows += 1
                    elif len(cells) == width and not careful and not damage:
                        yield row, line, cells
                    else:
                        problems += self._examine(row, line, cells)
                        careful = bool(problems or header.unnamed)  # from the first problem on: only problems
                        if len(problems) >= MAX_PROBLEMS:
                            break
                        if not problems:
                            yield row, line, cells
                    line = reader.line_num + 1
            except UnicodeDecodeError:
                raise self._not_in_encoding() from None
            except csv.Error as error:
                problems.append(quoting(error, self.shown, row + 1, line, reader.line_num))
        if problems:
            raise list_error(self.shown, problems[:MAX_PROBLEMS])

    def _examine(self, row: int, line: int, cells: list[str]) -> list[Diagnostic]:
        """Find what is wrong with a record that is not plainly right; nothing may be."""
        place = self._place(row, line, -1)
        found = [
            damaged_cell(cell, self._place(row, line, position), row)
            for position, cell in enumerate(cells)
            if "\0" in cell or "\ufffd" in cell
        ]
        if len(cells) != self._header.width:
            found.append(ragged(cells, self._header.width, self._delimiter, place, row))
        else:
            found += [
                unnamed(cells[position], f"column {position + 1}", place, row)
                for position in self._header.unnamed
                if cells[position].strip()
            ]
        return found

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  lines are closer
        known = position in self._header.kept
        heading = self.columns.headings[self._header.kept.index(position)] if known else ""
        return Place(path=self.shown, line=line, cell=f'column "{heading}"' if known else None)

    def _read_header(self) -> Header:
        damage: list[str] = []
        line = 1
        row = 0
        with self._open() as file:
            reader = self._reader(_lines(file, damage))
            try:
                for row, cells in enumerate(reader, 1):
                    place = Place(path=self.shown, line=line)
                    bad = [cell for cell in cells if damage and ("\0" in cell or "\ufffd" in cell)]
                    if bad:
                        raise list_error(self.shown, [damaged_cell(bad[0], place, row)])
                    if any(map(str.strip, cells)):
                        header, problems = read_header(cells, row, lambda _: place)  # noqa: B023  called at once
                        if problems:
                            raise list_error(self.shown, problems)
                        return header
                    line = reader.line_num + 1
            except UnicodeDecodeError:
                raise self._not_in_encoding() from None
            except csv.Error as error:
                raise list_error(
                    self.shown, [quoting(error, self.shown, row + 1, line, reader.line_num)]
                ) from None
        raise ListError(
            f"{self.shown} is empty",
            code="D102",
            hint="the first row holds the headings, each further row one recipient",
            place=Place(path=self.shown),
        )

    def _reader(self, lines: Iterator[str]) -> CsvReader:
        return csv.reader(lines, delimiter=self._delimiter, strict=True)

    def _open(self) -> TextIO:
        return self.path.open(encoding=self._encoding, newline="")

    def _sample(self) -> str:
        try:
            with self._open() as file:
                return file.read(SAMPLE)
        except UnicodeDecodeError:
            raise self._not_in_encoding() from None

    def _not_in_encoding(self) -> ListError:
        return list_error(self.shown, bad_bytes(self.path, self.shown, self._encoding, MAX_PROBLEMS))


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
