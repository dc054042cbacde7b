"""What every kind of workbook gives: its sheets, and their rows as a stream.

Readers of one kind of file each make a `Workbook`; `WorkbookList` makes a list of one of its sheets.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import ListError
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mailmerge.recipients.recipient_list import CellError, SheetCell
    from mailmerge.values import Cell

MAX_GAP = 1000
"""So many blank rows end a list; what stands below them is no part of it."""
_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?([0-9]{1,7})\Z")


class Sheet(Struct, frozen=True):
    """One worksheet: its tab's name, whether the tab can be seen, and its file where a zip has one for it."""

    name: str
    visible: bool = True
    part: str = ""


class Range(Struct, frozen=True):
    """Cells of a sheet, from the first to the last row and column; both count from 1."""

    sheet: str
    top: int
    left: int
    bottom: int
    right: int
    is_table: bool = False
    """It is a table that a program keeps, whose first row has the headings; not just a name for cells."""
    totals: int = 0
    """Rows of totals that the table has below it."""

    @property
    def name(self) -> str:
        """As people write it: ``B3:B5``."""
        return f"{cell_name(self.top, self.left)}:{cell_name(self.bottom, self.right)}"


class SheetRow(Struct):
    """One row with content."""

    number: int
    """From 1, as the sheet shows it."""
    cells: list[Cell | CellError]
    """From column A to the last cell with content, or a little further; what lies between is empty."""
    hidden: bool = False
    """By hand, by a filter or by a collapsed group."""


class Workbook(ABC):
    """A workbook that has been opened and found to be one; its rows are read when they are asked for.

    All methods raise `ListError` for a damaged file.
    """

    kind: str
    """As people call it: ``XLSX``."""
    shown: str
    """Its name in messages."""
    sheets: Sequence[Sheet] = ()
    """In the order of the tabs; charts and macro sheets left out."""
    program: str = ""
    """The program that wrote it last, as far as it says so."""
    active: str = ""
    """The name of the sheet that was seen when it was saved; empty: it does not say."""
    ranges: Mapping[str, Range] = MappingProxyType({})
    """Tables and named ranges, by name."""

    @abstractmethod
    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""

    @abstractmethod
    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as the file keeps it, for a copy."""

    def close(self) -> None:  # noqa: B027
        """Close its file, if one is open; it is opened again where something more is read."""

    def about_rows(self, sheet: Sheet) -> int:  # noqa: ARG002
        """Say how many rows there are, about, without reading them; 0: nobody knows."""
        return 0

    def merged(self, sheet: Sheet) -> Sequence[Range]:  # noqa: ARG002
        """Give the ranges of merged cells."""
        return ()

    def links(self, sheet: Sheet) -> Mapping[tuple[int, int], str]:  # noqa: ARG002
        """Give the targets of links by row and column; known when the rows have been read."""
        return MappingProxyType({})


def damaged(shown: str, why: str) -> ListError:
    """Make the error for a workbook that cannot be read."""
    return ListError(
        f"{shown} cannot be read as a workbook: {why}",
        code="D124",
        hint="save it again as .xlsx in your spreadsheet program; if that fails, download or copy it again",
        place=Place(path=shown),
    )


def cell_name(row: int, column: int) -> str:
    """Name a cell: row 31, column 1 is ``A31``."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row}"


def cell_position(name: str) -> tuple[int, int]:
    """Row and column of a cell's name.

    Raises:
        ValueError: it is no such name.

    """
    match = _REFERENCE.match(name)
    if not match:
        raise ValueError(f"{name!r} is not the name of a cell")
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(match[2]), column


def cell_range(sheet: str, name: str) -> Range:
    """Read the name of a range, ``B3:B5`` or one cell.

    Raises:
        ValueError: it is no such name.

    """
    start, _, end = name.partition(":")
    (top, left), (bottom, right) = cell_position(start), cell_position(end or start)
    return Range(sheet, min(top, bottom), min(left, right), max(top, bottom), max(left, right))
