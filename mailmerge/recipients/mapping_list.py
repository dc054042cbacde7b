"""Rows from Python, mappings of headings to values, as a list of recipients."""

from __future__ import annotations

import contextlib
import weakref
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import msgspec

from mailmerge import files
from mailmerge.errors import ListError
from mailmerge.model import Place
from mailmerge.recipients.cells import object_cell
from mailmerge.recipients.recipient_list import (
    MAX_CELL,
    CellError,
    Options,
    RecipientList,
    Record,
    list_error,
    long_cell,
    read_header,
)
from mailmerge.recipients.understanding import Understanding
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mailmerge.values import Cell

_Kept = str | Number | Date | DateTime | Time | Duration | Truth | CellError
_Row = tuple["Cell | CellError", ...]
_BLOCK = 1000
_IN_MEMORY = 5
"""Blocks of rows that stay in memory."""
_SHOWN = "the rows"
_FIRST = 2
"""As in a spreadsheet, where row 1 has the headings."""


class RowList(RecipientList):
    """The rows of any iterable, read once and kept: it may be a generator, and its mappings may change later.

    The first are kept in memory, all others in a private temporary file that goes with the list.

    The keys of all rows together are the headings; missing values, None and NaN are empty cells. Rows without
    any value are skipped, like blank rows of a file.
    """

    def __init__(self, rows: Iterable[Mapping[str, object]], options: Options) -> None:
        self.shown = _SHOWN
        positions: dict[str, int] = {}
        self._rows = _KeptRows()
        for row, given in enumerate(rows, _FIRST):
            if not isinstance(given, Mapping):
                raise ListError(
                    f"row {row} must be a mapping of headings to values, not {type(given).__name__}",
                    code="D102",
                    hint='such as {"email": "ann@example.org"}; a data frame: Campaign.from_dataframe',
                    row=row,
                )
            cells: list[Cell | CellError] = [""] * len(positions)
            for heading, value in given.items():
                at = positions.setdefault(str(heading), len(positions))
                cell = _cell(value, row, heading)
                if at == len(cells):
                    cells.append(cell)
                else:
                    cells[at] = cell
            self._rows.add(tuple(cells))
        if not positions:
            raise ListError("the rows are empty", code="D102", hint="each row is one recipient")
        self._headings = tuple(positions)
        header, problems = read_header(
            self._headings, 1, lambda at: Place(path=_SHOWN, cell=f'"{self._headings[at]}"')
        )
        if problems:
            raise list_error(_SHOWN, problems)
        super().__init__(Path("rows"), _SHOWN, header, options)
        self._plain = False
        self.understanding = Understanding("Python rows")

    def about_rows(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

    def _records(self) -> Iterator[Record]:
        width = len(self._headings)
        for row, cells in enumerate(self._rows, _FIRST):
            if any(not isinstance(cell, str) or cell.strip() for cell in cells):
                # A heading that appeared later is an empty cell of the rows before it.
                yield row, None, cells if len(cells) == width else cells + ("",) * (width - len(cells))
            else:
                self.blank_rows += 1

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  rows have no lines
        return Place(path=_SHOWN, cell=f'"{self._headings[position]}" of row {row}')


class _KeptRows:
    """Rows in their order, in blocks: a million of them would take half a gigabyte of memory."""

    def __init__(self) -> None:
        self._blocks: list[list[_Row] | tuple[int, int]] = []
        """A block, or where it is in the file: the first octet, and how many."""
        self._latest: list[_Row] = []
        self._path: Path | None = None
        self._file: BinaryIO | None = None
        self._encode = msgspec.msgpack.Encoder().encode

    def __len__(self) -> int:
        return sum(
            len(block) if isinstance(block, list) else _BLOCK for block in (*self._blocks, self._latest)
        )

    def add(self, row: _Row) -> None:
        """Add a row behind the others."""
        self._latest.append(row)
        if len(self._latest) == _BLOCK:
            self._blocks.append(
                self._latest if len(self._blocks) < _IN_MEMORY else self._written(self._latest)
            )
            self._latest = []

    def _written(self, rows: list[_Row]) -> list[_Row] | tuple[int, int]:
        try:
            octets = self._encode(rows)
        except UnicodeEncodeError:  # a lone surrogate of the caller's: no file can contain it
            return rows
        if self._file is None:
            scratch = files.ScratchFolder()
            self._path = scratch.path / "rows"
            self._file = files.start_file(self._path)
            weakref.finalize(self, _forget, self._file, scratch)
        start = self._file.tell()
        self._file.write(octets)
        return start, len(octets)

    def __iter__(self) -> Iterator[_Row]:
        decode = msgspec.msgpack.Decoder(list[tuple[_Kept, ...]]).decode
        if self._file is not None:
            self._file.flush()
        with contextlib.nullcontext() if self._path is None else self._path.open("rb") as file:
            for block in (*self._blocks, self._latest):
                if isinstance(block, list):
                    yield from block
                    continue
                assert file is not None
                file.seek(block[0])
                yield from decode(file.read(block[1]))


def _forget(file: BinaryIO, scratch: files.ScratchFolder) -> None:
    file.close()
    scratch.close()


class PlannedRows(RecipientList):
    """The rows of a list that has changed since they were planned, types and defaults applied.

    Args:
        recipients: the list.
        rows: returns a fresh iterable of their numbers and cells at each call.

    """

    def __init__(
        self, recipients: RecipientList, rows: Callable[[], Iterable[tuple[int, tuple[Cell, ...]]]]
    ) -> None:
        header, _ = read_header(
            recipients.columns.headings, recipients.header_row, lambda _at: Place(path=recipients.shown)
        )
        super().__init__(recipients.path, recipients.shown, header, Options())
        self.understanding = recipients.understanding
        self.addresses = recipients.addresses
        self._rows = rows

    def _records(self) -> Iterator[Record]:
        for row, cells in self._rows():
            yield row, None, cells

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  rows have no lines
        return Place(path=self.shown, cell=f'"{self.columns.headings[position]}" of row {row}')


def _cell(value: object, row: int, heading: object) -> Cell | CellError:
    if isinstance(value, Mapping | list | tuple | set | frozenset | bytes | bytearray):
        raise ListError(
            f"row {row}: {str(heading)!r} is a {type(value).__name__}, not one value",
            code="D135",
            hint="use a string, a number, a date, a time, a duration, True or False",
            row=row,
        )
    cell = object_cell(value)
    if isinstance(cell, str) and len(cell) > MAX_CELL:
        return long_cell(cell)
    return cell
