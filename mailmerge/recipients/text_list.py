"""Text lists: CSV, TSV and similar formats, streamed by the standard library's csv module.

Nothing is guessed silently: an uncertain encoding is an error until the user specifies it, and a row that is
not as wide as the header row is an error, never padded or shifted.
"""

from __future__ import annotations

import csv
import io
from collections import deque
from contextlib import contextmanager
from functools import cached_property
from itertools import chain, islice, repeat, starmap
from operator import itemgetter, methodcaller
from typing import TYPE_CHECKING, Any, TextIO

from msgspec.structs import astuple

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place, Recipient
from mailmerge.recipients.address_column import understood
from mailmerge.recipients.csv_errors import (
    BLANK_QUOTE,
    NEVER_CLOSED,
    BlankQuote,
    damaged_cell,
    fenced,
    is_row_number,
    not_in_encoding,
    quoting,
    ragged_rows,
    row_numbers,
    rows_inside,
    swallowed,
    unnamed,
)
from mailmerge.recipients.dialect import find_dialect
from mailmerge.recipients.encodings import find_encoding
from mailmerge.recipients.heading_row import LOOKED_AT, read_headings
from mailmerge.recipients.other_rows import OtherRows
from mailmerge.recipients.recipient_list import (
    MAX_CELL,
    MAX_PROBLEMS,
    CellError,
    HeaderRow,
    Options,
    RecipientList,
    Record,
    list_error,
)
from mailmerge.recipients.understanding import Understanding
from mailmerge.text import unguarded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

_BLOCK = 65_536
_LONGEST_READ = 1 << 26
"""Characters in a cell beyond which reading the file stops."""
_LONGEST_RECORD = 100_000
"""Lines of a broken record after which no other problem is searched for."""
_BATCH = 32
"""Rows that are read together: few enough for the CPU cache, and for the first to come without delay."""
_END_OF_FILE = b"\x1a"
"""DOS programs write Ctrl-Z at the end of a text file."""
_NOTHING = b"\x1a\0\r\n"
_LOST = "\ufffd".encode()
_QUOTES_LOOKED_AT = 2 << 20
"""Bytes in which spaces before quotes are searched for, as three characters are not found as quickly as one.

A program that writes them does so everywhere, and beyond that a row which does not fit is examined anyway.
"""
_LONGEST_SIGN = 8
"""Bytes that are examined again together with the next ones."""


class TextList(RecipientList):
    """A list in a text file with one delimiter and quoted cells."""

    only_texts = True

    def __init__(
        self,
        path: Path,
        shown: str,
        options: Options,
        encoding: str | None = None,
        delimiter: str | None = None,
        *,
        header_row: int | None = None,
    ) -> None:
        if csv.field_size_limit() < MAX_CELL:  # a limit of the whole process, which is only ever raised
            csv.field_size_limit(MAX_CELL)
        self.path = path
        self.shown = shown
        found = find_encoding(path, shown, encoding)
        self._encoding = found.codec
        try:
            self.dialect = find_dialect(self._open, shown, delimiter)
        except UnicodeError:  # also for UTF-16 without a byte order mark
            raise self._not_in_encoding() from None
        header = self._read_header(header_row)
        super().__init__(path, shown, header, options)
        self.addresses = self._others.names
        kind = "TSV" if self.dialect.delimiter == "\t" else "CSV"
        understanding = Understanding(
            kind,
            str(found),
            self.dialect.name,
            heading_row=header.row,
            upper=header.upper,
            above=header.above,
            addresses=self.addresses,
        )
        self.understanding = understanding.noting(*self.dialect.notes())

    @property
    def encoding(self) -> str:
        """The codec it was read with; ``utf-8-sig`` where it begins with a byte order mark."""
        return self._encoding

    def about_rows(self) -> int:
        """Return the number of lines below the header: a cell with a line break counts as two rows."""
        with self.path.open("rb") as file:
            counts = [
                (block.count(b"\n"), block.count(b"\r")) for block in iter(lambda: file.read(1 << 20), b"")
            ]
        return max(map(sum, zip(*counts, strict=True)), default=0)

    def __iter__(self) -> Iterator[Recipient]:
        if not self._plain:
            return super().__iter__()
        return starmap(Recipient, chain.from_iterable(self._batches(plain=True)))

    def _records(self) -> Iterator[Record]:
        return chain.from_iterable(self._batches(plain=False))

    def _batches(self, *, plain: bool) -> Iterator[Iterable[Any]]:
        """Yield batches of records, or of the parts of recipients if each cell is its own value (*plain*).

        The hot loop: a few rows at a time are read, checked and passed on by C code alone, at the speed of
            csv.reader. If something is doubtful each row is examined, and after the first problem no row is
            yielded: all problems are reported together.
        """
        width, columns = self.header.width, self.columns
        rows = _DoubtfulRows(self, self._others)
        sign, at = self._others.sign  # a row without an address must be examined
        cell_at = itemgetter(at)
        is_right: Callable[[str], object] = methodcaller("__contains__", sign) if sign else str.strip
        # If csv accepts long cells, each row must be examined.
        damage = ["long"] if csv.field_size_limit() > MAX_CELL else []
        if self.header.unnamed:
            damage.append("a cell without a heading")
        with self._lines(damage) as lines:
            reader = self.dialect.reader(lines)
            deque(islice(reader, self.header.row - self._first_row + 1), maxlen=0)
            row, count = self.header.row, _BATCH
            while count == _BATCH and not rows.is_enough:
                line = reader.line_num + 1
                batch, trouble = _read_batch(reader)
                count = len(batch)
                if (
                    not damage
                    and reader.line_num - line + 1 == count
                    and set(map(len, batch)) == {width}
                    and all(map(is_right, map(cell_at, batch)))
                    and trouble is None
                ):
                    numbers = range(row + 1, row + 1 + count)
                    if plain:
                        yield zip(numbers, repeat(columns), map(tuple, batch), strict=False)
                    else:
                        yield zip(numbers, range(line, line + count), batch, strict=True)
                else:
                    yield self._examined(rows, damage, _with_lines(batch, row, line), plain=plain)
                row += count
                if trouble is not None:
                    line += sum(map(_lines_of, batch))
                    below = self._go_on(trouble, damage, rows.problems, row, (line, reader.line_num))
                    yield self._examined(rows, damage, below, plain=plain)
        self.blank_rows = rows.blank
        if rows.any or rows.is_enough:
            raise list_error(self.shown, rows.told())
        if rows.numbered:
            rows.warnings.append(row_numbers(Place(path=self.shown)))
        self.warnings = (*(one for one in self.warnings if one.code not in {"D243", "D244"}), *rows.warnings)
        self._tell_others()
        if plain and not rows.usable and row - self.header.row <= rows.blank + rows.others:
            raise self._no_rows()

    def _examined(
        self,
        rows: _DoubtfulRows,
        damage: list[str],
        records: Iterable[tuple[int, int, list[str]]],
        *,
        plain: bool,
    ) -> Iterator[Any]:
        """Yield the rows that can be used."""
        for row, line, cells in records:
            usable = rows.examine(row, line, cells, damage)
            if usable is not None:
                record = row, line, usable
                yield astuple(self._recipient(record)) if plain else record
            elif rows.is_enough:
                return

    @property
    def _first_row(self) -> int:
        """The number of the first record: a line that states the delimiter is not a row."""
        return 1 - int(self.dialect.stated)

    def _numbered(self, problems: list[Diagnostic]) -> Iterator[tuple[int, int, list[str]]]:
        """Yield all rows with number and first line; *problems* receives the errors of csv."""
        return self._below([], problems, self._first_row - 1, 0)

    def _below(
        self, damage: list[str], problems: list[Diagnostic], above: int, lines_above: int
    ) -> Iterator[tuple[int, int, list[str]]]:
        """Yield the rows below row *above*, which ends with line *lines_above*."""
        row, first = above, lines_above + 1
        with self._lines(damage) as lines:
            deque(islice(lines, lines_above), maxlen=0)
            reader = self.dialect.reader(lines)
            try:
                for row, cells in enumerate(reader, above + 1):
                    if row:
                        yield row, first, cells
                    first = lines_above + reader.line_num + 1
            except (UnicodeError, csv.Error) as error:
                yield from self._go_on(error, damage, problems, row, (first, lines_above + reader.line_num))

    def _go_on(
        self,
        error: Exception,
        damage: list[str],
        problems: list[Diagnostic],
        row: int,
        lines: tuple[int, int],
    ) -> Iterator[tuple[int, int, list[str]]]:
        """Resume after the record below *row* at which csv failed, which spans *lines* (first and last)."""
        first, last = lines
        if isinstance(error, UnicodeError):
            raise self._not_in_encoding() from None
        if "field larger" in str(error) and csv.field_size_limit() <= MAX_CELL:
            csv.field_size_limit(_LONGEST_READ)  # it is the problem of one row: resume with that row
            damage.append("long")
            yield from self._below(damage, problems, row, first - 1)
            return
        below = self._go_on_below(first, last)
        said = NEVER_CLOSED if below < last else str(error)
        with self._open() as file:
            escapes = any('\\"' in text for text in islice(file, first - 1, below))
        problems.append(quoting(said, self.shown, row + 1, first, last, escapes=escapes))
        if len(problems) < MAX_PROBLEMS and last - first < _LONGEST_RECORD:
            yield from self._below(damage, problems, row + 1, below)

    def _go_on_below(self, first: int, last: int) -> int:
        """Return the last line of a broken record: its first line, if the next line is a row by itself."""
        if last == first:
            return last
        with self._open() as file:
            line = next(islice(file, first, None), "")
        try:
            [cells] = self.dialect.reader([line])
        except (csv.Error, ValueError):
            return last
        return first if len(cells) > 1 or self.dialect.one_column else last

    @cached_property
    def _blank_quote(self) -> BlankQuote | None:
        spaced = self.dialect.spaced or self.dialect.one_column
        return None if spaced else BlankQuote(self.dialect.delimiter, self.dialect.quote)

    def padding(self) -> int:
        """Return the width of the first row if it is the header row with blank cells appended; else 0."""
        width = self.header.width
        for row, _, cells in self._numbered([]):
            if row > self.header.row and any(map(str.strip, cells)):
                return len(cells) if len(cells) > width and not any(map(str.strip, cells[width:])) else 0
        return 0

    def blank_quotes(self) -> list[Diagnostic]:
        """Report each line with a space before an opening quote."""
        with self._open() as file:
            if self._blank_quote is None:
                return []
            found = self._blank_quote.lines(file)
            return [self._blank_quote.problem(self.shown, *one) for one in islice(found, MAX_PROBLEMS)]

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  lines are closer
        known = position in self.header.kept
        heading = self.columns.headings[self.header.kept.index(position)] if known else ""
        return Place(path=self.shown, line=line, cell=f'column "{heading}"' if known else None)

    def _own_text(self, cell: str) -> str:
        """Return the text of a cell in one of our columns, without the character that disables formulas."""
        return unguarded(cell)

    def _read_header(self, wanted: int | None) -> HeaderRow:
        problems: list[Diagnostic] = []
        first: dict[int, tuple[int, list[str]]] = {}
        for row, line, cells in self._numbered(problems):
            if any(map(str.strip, cells)):
                first[row] = line, cells
            if problems or (len(first) >= LOOKED_AT if wanted is None else row >= wanted):
                break
        if not first and problems:
            raise list_error(self.shown, problems)
        if not first:
            raise ListError(
                f"{self.shown} is empty",
                code="D102",
                hint="the first row contains the headings, each further row one recipient",
                place=Place(path=self.shown),
            )

        def place(row: int, _at: int) -> Place:
            return Place(path=self.shown, line=first[row][0] if row in first else None)

        rows = [(row, cells) for row, (_, cells) in first.items()]
        for row, cells in rows:
            bad = next((cell for cell in cells if "\0" in cell or "\ufffd" in cell), None)
            if bad is not None and row == rows[0][0]:
                raise list_error(self.shown, [damaged_cell(bad, place(row, 0), row)])
        header = read_headings(rows, wanted, self.shown, place)
        self.others = self._others = OtherRows(
            header, rows, self.shown, lambda _row, line: Place(path=self.shown, line=line)
        )
        return header

    def _open(self) -> TextIO:
        return self.path.open(encoding=self._encoding, newline="")

    @contextmanager
    def _lines(self, damage: list[str]) -> Iterator[Iterator[str]]:
        """Return the lines of the list; *damage* is filled no later than its line is read."""
        if self._encoding not in {"utf-8", "utf-8-sig"}:
            with self._open() as file:
                yield chain.from_iterable(_blocks(file, damage, self._blank_quote))
            return
        watched = io.BufferedReader(_WatchedFile(self.path, damage, self._blank_quote), _BLOCK)
        with io.TextIOWrapper(watched, self._encoding, newline="") as file:
            yield file

    def _not_in_encoding(self) -> ListError:
        return not_in_encoding(self.path, self.shown, self._encoding)


def _read_batch(reader: Iterator[list[str]]) -> tuple[list[list[str]], Exception | None]:
    """Read some rows, and return them with the reason why there are no more; rows before an error count."""
    batch: list[list[str]] = []
    try:
        batch.extend(islice(reader, _BATCH))  # keeps the rows before an error
    except (UnicodeError, csv.Error) as error:
        return batch, error
    return batch, None


def _with_lines(batch: list[list[str]], row: int, line: int) -> Iterator[tuple[int, int, list[str]]]:
    """Yield records below *row* with number and first line."""
    for number, cells in enumerate(batch, row + 1):
        yield number, line, cells
        line += _lines_of(cells)


def _lines_of(cells: list[str]) -> int:
    """Return the number of lines that a record takes."""
    lines = 1
    for cell in cells:
        if "\n" in cell or "\r" in cell:
            lines += cell.count("\n") + cell.count("\r") - cell.count("\r\n")
    return lines


class _DoubtfulRows:
    """Examines the rows that are not plainly correct, and collects the problems of the list."""

    def __init__(self, recipients: TextList, others: OtherRows) -> None:
        self._list = recipients
        self._others = others
        self.others = 0
        """Rows that are not recipients."""
        self._header = recipients.header
        self.problems: list[Diagnostic] = []
        """Problems of quotes, unnamed columns and damage; the reader adds some too."""
        self.blank = 0
        """Rows that are blank."""
        self.usable = 0
        self._ragged: list[tuple[int, int, list[str]]] = []
        self._lost: list[Diagnostic] = []
        self._padding: int | None = None
        self._blank_quotes: list[Diagnostic] | None = None
        self.warnings: list[Diagnostic] = []
        self.numbered = False
        """Whether rows have numbers in a column without a heading."""

    @property
    def any(self) -> bool:
        """Whether there is any problem."""
        return bool(self.problems or self._ragged)

    @property
    def is_enough(self) -> bool:
        """Whether there are so many problems that more would not help."""
        return max(len(self.problems) + len(self._ragged), len(self._lost)) >= MAX_PROBLEMS

    def examine(
        self, row: int, line: int, cells: list[str], damage: list[str]
    ) -> list[str] | tuple[str | CellError, ...] | None:
        """Return the cells of a usable row; None: it is not a row, or some row has had a problem."""
        if self._is_none(row, line, cells):
            return None
        width = self._header.width
        self._look_for_rows_inside(row, line, cells)
        if not damage and len(cells) == width:
            self.usable += 1
            return cells
        if BLANK_QUOTE in damage:
            self._look_for_blank_quotes()
            damage[:] = [kind for kind in damage if kind != BLANK_QUOTE]
        cells = self._without_padding(cells)
        place = self._list.place(row, line, -1)
        if len(cells) != width:
            self._ragged.append((row, line, cells))
            self._look_for_blank_quotes()
        else:
            self.problems += [
                unnamed(cells[position], f"column {position + 1}", place, row)
                for position in self._header.unnamed
                if cells[position].strip() and not is_row_number(cells[position], position)
            ]
            self.numbered = self.numbered or (0 in self._header.unnamed and bool(cells[0].strip()))
        at = next((at for at, cell in enumerate(cells) if "\ufffd" in cell), None)
        if at is not None:  # once per row
            self._lost.append(damaged_cell(cells[at], self._list.place(row, line, at), row))
        if self.any or self.is_enough:
            damage.append("a problem")  # from now on every row comes here
            return None
        self.usable += 1
        return fenced(cells)

    def _is_none(self, row: int, line: int, cells: list[str]) -> bool:
        """Return whether a row is blank or not a recipient, and count it if so."""
        blank = not any(map(str.strip, cells))
        other = not blank and self._others.is_other(row, line, cells)
        self.blank += blank
        self.others += other
        return blank or other

    def _look_for_blank_quotes(self) -> None:
        if self._blank_quotes is None:
            self._blank_quotes = self._list.blank_quotes()
            self.problems += self._blank_quotes

    def _without_padding(self, cells: list[str]) -> list[str]:
        """Remove the blank cells at the end that every row has and the header row lacks."""
        width = self._header.width
        if len(cells) <= width or any(map(str.strip, cells[width:])):
            return cells
        if self._padding is None:
            self._padding = self._list.padding()
        return cells[:width] if len(cells) == self._padding else cells

    def _look_for_rows_inside(self, row: int, line: int, cells: list[str]) -> None:
        """Warn if a cell contains rows: an unclosed quote swallows the rows below it."""
        for cell in cells:
            if "@" in cell and ("\n" in cell or "\r" in cell) and len(self.warnings) < MAX_PROBLEMS:
                found = rows_inside(cell, cells, self._list.dialect)
                if found:
                    self.warnings.append(swallowed(found, self._list.place(row, line, -1), row))

    def told(self) -> list[Diagnostic]:
        """Return the problems in the order of their lines; if the whole list is damaged, only that."""
        if len(self._lost) >= MAX_PROBLEMS:  # not just a mistyped cell or two
            return self._lost
        known = {problem.place.line for problem in self.problems if problem.place}
        odd = [record for record in self._ragged if record[1] not in known]
        dialect, header = self._list.dialect, self._header
        address = next((at for at, name in enumerate(header.columns.headings) if understood(name).email), -1)
        found = ragged_rows(
            odd, header.width, dialect, address if address < 0 else header.kept[address], self._list.shown
        )
        return sorted([*self.problems, *found], key=lambda one: one.place.line or 0 if one.place else 0)[
            :MAX_PROBLEMS
        ]


# --- its lines -----------------------------------------------------------------------------------------


class _WatchedFile(io.RawIOBase):
    """Bytes of a list in UTF-8, checked before they become text, which costs nothing per line.

    Args:
        path: the file of the list.
        damage: receives the problems before the text with them is read.
        blank_quote: the bytes that begin a quote with a space before it.

    """

    def __init__(self, path: Path, damage: list[str], blank_quote: BlankQuote | None) -> None:
        self._file = path.open("rb", buffering=0)
        self._damage = damage
        self._quote = blank_quote.sign.encode() if blank_quote else b"\xff"
        self._rest = b""
        self._looked_at = 0
        self._ends = False

    def readable(self) -> bool:
        """Return True, as for every readable file."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Read the next bytes; a Ctrl-Z that ends the list is left out."""
        count = 0 if self._ends else self._file.readinto(buffer) or 0
        read = self._rest + bytes(buffer[:count])  # a match may be split
        self._rest = read[-_LONGEST_SIGN:]
        if b"\0" in read or (_LOST[:1] in read and _LOST in read):  # a single byte is found quickly
            self._damage.append("lost")
        if self._looked_at < _QUOTES_LOOKED_AT:
            self._looked_at += count
            if self._quote in read:
                self._damage.append(BLANK_QUOTE)
        if _END_OF_FILE in read:
            count = self._ended(bytes(buffer[:count]))
        return count

    def _ended(self, read: bytes) -> int:
        at = read.find(_END_OF_FILE)
        if at < 0 or read[at:].strip(_NOTHING):
            return len(read)
        position = self._file.tell()
        while more := self._file.read(_BLOCK):
            if more.strip(_NOTHING):
                self._file.seek(position)
                return len(read)
        self._ends = True
        return at

    def close(self) -> None:
        """Close the file."""
        self._file.close()
        super().close()


def _blocks(file: TextIO, damage: list[str], blank_quote: BlankQuote | None) -> Iterator[TextIO]:
    """Yield the text in parts, checked before their lines are read: the same for other encodings."""
    while block := file.read(_BLOCK) + file.readline():
        if "\0" in block or "\ufffd" in block:
            damage.append("lost")
        if blank_quote and blank_quote.sign in block:
            damage.append(BLANK_QUOTE)
        if "\x1a" in block:
            text, _, rest = block.partition("\x1a")
            nothing = _NOTHING.decode()
            more = "" if rest.strip(nothing) else file.read(_BLOCK)
            if not (rest + more).strip(nothing):
                yield io.StringIO(text, newline="")
                return
            block += more + (file.readline() if more else "")
        yield io.StringIO(block, newline="")
