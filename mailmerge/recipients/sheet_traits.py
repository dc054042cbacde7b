"""What a sheet specifies about cells apart from their content: which are merged, and what they link to."""

from __future__ import annotations

from typing import TYPE_CHECKING
from urllib.parse import unquote

from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.recipient_list import CellError
from mailmerge.recipients.workbook import cell_name
from mailmerge.text import excerpt, plural
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailmerge.recipients.workbook import Range, SheetRow
    from mailmerge.values import Cell

_FIRST = 3
"""The number of ranges or cells that a warning names."""
_LONGEST = 40
"""The number of characters of a cell that it shows."""


class MergedCells:
    """Fills merged cells: the value of the first row counts for all of them, in the first column.

    Files store the value once; leftovers in the other cells are not shown by any program.

    Args:
        ranges: the merged cells of a sheet.

    """

    def __init__(self, ranges: Sequence[Range]) -> None:
        self._waiting = sorted(ranges, key=lambda one: one.top, reverse=True)
        self._open: dict[int, tuple[Range, Cell | CellError]] = {}
        self.down: dict[str, Range] = {}
        """Ranges whose value was copied to a row below, by name."""
        self.across: dict[str, Range] = {}
        """Ranges over several columns of a row."""

    def fill(self, row: SheetRow) -> None:
        """Fill the cells of the next row."""
        if not (self._open or self._waiting):
            return
        number, cells = row.number, row.cells
        while self._waiting and self._waiting[-1].top <= number:
            merged = self._waiting.pop()
            begins = merged.top == number and merged.left <= len(cells)
            self._open[merged.left] = merged, cells[merged.left - 1] if begins else ""
        for left, (merged, value) in list(self._open.items()):
            if merged.bottom < number:
                del self._open[left]
                continue
            for covered in range(left, min(merged.right, len(cells))):
                cells[covered] = ""
            if merged.top < number:
                self._fill(cells, merged, value)
            if merged.right > left:
                self.across[merged.name] = merged

    def _fill(self, cells: list[Cell | CellError], merged: Range, value: Cell | CellError) -> None:
        if value.__class__ is not str or value:
            cells.extend([""] * (merged.left - len(cells)))
            self.down[merged.name] = merged
        if merged.left <= len(cells):
            cells[merged.left - 1] = value

    def warnings(self, shown: str, sheet: str, header: int, width: int) -> Iterator[Diagnostic]:
        """Return warnings about merged cells in the rows below the *header* and in its columns."""
        down, across = (
            [one for one in found.values() if one.bottom > header and one.left <= width]
            for found in (self.down, self.across)
        )
        place = Place(path=shown, cell=f"sheet {sheet}")
        if down:
            yield Diagnostic(
                "D285",
                f"{_listed(down)} of merged cells: the value of the first row counts for each of them",
                "if it does not, unmerge them and fill in every cell",
                severity=Severity.WARNING,
                place=place,
            )
        if across:
            yield Diagnostic(
                "D286",
                f"{_listed(across)} of merged cells over several columns: the value is that of the first",
                "unmerge them, and give every column its own cell",
                severity=Severity.WARNING,
                place=place,
            )


class LinkedCells:
    """Compares cells with the addresses that their links lead to.

    Args:
        links: targets by row and column; more may come while rows are read.
        columns: those that matter, from 1.

    """

    def __init__(self, links: Mapping[tuple[int, int], str], columns: frozenset[int]) -> None:
        self._links = links
        self._columns = columns
        self._known = 0
        self._linked: Sequence[int] = ()
        self._count = 0
        self._first: list[str] = []

    def look(self, row: SheetRow) -> None:
        """Compare the cells of the next row."""
        if not self._links:
            return
        if len(self._links) != self._known:
            self._known = len(self._links)
            self._linked = sorted({column for _, column in self._links} & self._columns)
        for column in self._linked:
            target = self._links.get((row.number, column), "")
            if target[:7].lower() == "mailto:" and column <= len(row.cells):
                self._compare(unquote(target[7:].partition("?")[0]).strip(), row, column)

    def _compare(self, address: str, row: SheetRow, column: int) -> None:
        texts = [_text(cell) for cell in row.cells]
        shown = texts[column - 1]
        wanted = address.casefold()
        # A name may link to the address next to it.
        if (
            not shown
            or not wanted
            or wanted in shown.casefold()
            or any(wanted == text.casefold() for text in texts)
        ):
            return
        self._count += 1
        if len(self._first) < _FIRST:
            name = cell_name(row.number, column)
            self._first.append(
                f'{name} shows "{excerpt(shown, _LONGEST)}" and leads to {excerpt(address, _LONGEST)}'
            )

    def warnings(self, shown: str, sheet: str) -> Iterator[Diagnostic]:
        """Return warnings about cells that show a different address from the one that they link to."""
        if self._count:
            first = ", ".join(self._first) + (", ..." if self._count > len(self._first) else "")
            yield Diagnostic(
                "D287",
                f"{plural(self._count, 'cell')} with a link to a different address: {first}",
                "the displayed address is used; if the link is right, type its address into the cell",
                severity=Severity.WARNING,
                place=Place(path=shown, cell=f"sheet {sheet}"),
            )


def _listed(ranges: Sequence[Range]) -> str:
    names = ", ".join(one.name for one in ranges[:_FIRST])
    return f"{plural(len(ranges), 'range')} ({names}{', ...' if len(ranges) > _FIRST else ''})"


def _text(cell: Cell | CellError) -> str:
    return "" if isinstance(cell, CellError) else str(displayed(cell)).strip()
