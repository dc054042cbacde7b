"""Rows from Python, mappings of headings to values, as a list of recipients."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

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

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mailmerge.values import Cell

_SHOWN = "the rows"
_FIRST = 2
"""As in a spreadsheet, where row 1 has the headings."""


class RowList(RecipientList):
    """The rows of any iterable, read once and kept: it may be a generator, and its mappings may change later.

    The keys of all rows together are the headings; missing values, None and NaN are empty cells. Rows without
    any value are skipped, like blank rows of a file.
    """

    def __init__(self, rows: Iterable[Mapping[str, object]], options: Options) -> None:
        self.shown = _SHOWN
        positions: dict[str, int] = {}
        self._rows: list[tuple[Cell | CellError, ...]] = []
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
            self._rows.append(tuple(cells))
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
