"""What every kind of workbook provides: its sheets, and their rows as a stream.

Each reader of a kind of file is a `Workbook`; `WorkbookList` makes a list from one of its sheets.
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
"""This many blank rows end a list; content below them is not part of it."""
_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?([0-9]{1,7})\Z")


class Sheet(Struct, frozen=True):
    """One worksheet: its tab's name, whether the tab is visible, and its part in the zip, if it has one."""

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
    """Whether it is a table, whose first row has the headings, and not just a name for cells."""
    totals: int = 0
    """Number of total rows at the end of the table."""

    @property
    def name(self) -> str:
        """The range in spreadsheet notation: ``B3:B5``."""
        return f"{cell_name(self.top, self.left)}:{cell_name(self.bottom, self.right)}"


class SheetRow(Struct):
    """One row with content."""

    number: int
    """The row's number from 1, as the sheet shows it."""
    cells: list[Cell | CellError]
    """From column A to the last cell with content, or a little further; gaps are empty cells."""
    hidden: bool = False
    """Whether it is hidden: manually, by a filter or by a collapsed group."""


class Workbook(ABC):
    """An open workbook; its rows are read when they are requested.

    All methods raise `ListError` for a damaged file.
    """

    kind: str
    """The name of the format for people: ``XLSX``."""
    shown: str
    """The workbook's name in messages."""
    sheets: Sequence[Sheet] = ()
    """The worksheets in the order of the tabs, without charts and macro sheets."""
    program: str = ""
    """The program that wrote it last, according to the file; empty: unknown."""
    active: str = ""
    """The name of the sheet that was open when it was saved; empty: unknown."""
    ranges: Mapping[str, Range] = MappingProxyType({})
    """Tables and named ranges, by name."""

    @abstractmethod
    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""

    @abstractmethod
    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as the file stores it, for a copy."""

    def close(self) -> None:  # noqa: B027
        """Close its file, if one is open; reading opens it again."""

    def about_rows(self, sheet: Sheet) -> int:  # noqa: ARG002
        """Return roughly how many rows there are, without reading them; 0: unknown."""
        return 0

    def merged(self, sheet: Sheet) -> Sequence[Range]:  # noqa: ARG002
        """Return the ranges of merged cells."""
        return ()

    def hidden_columns(self, sheet: Sheet) -> Sequence[range]:  # noqa: ARG002
        """Return the columns that are hidden, from 1."""
        return ()

    def links(self, sheet: Sheet) -> Mapping[tuple[int, int], str]:  # noqa: ARG002
        """Return the targets of links by row and column; complete when the rows have been read."""
        return MappingProxyType({})


def too_large(shown: str, what: str) -> ListError:
    """Return the error for a workbook that has more of something than any list."""
    return ListError(
        f"{shown} has {what}",
        code="D123",
        hint="copy the cells into a new workbook, or save it as CSV (UTF-8)",
        place=Place(path=shown),
    )


def damaged(shown: str, why: str) -> ListError:
    """Return the error for a workbook that cannot be read."""
    return ListError(
        f"{shown} cannot be read as a workbook: {why}",
        code="D124",
        hint="save it again as .xlsx in your spreadsheet program; if that fails, download or copy it again",
        place=Place(path=shown),
    )


def cell_name(row: int, column: int) -> str:
    """Return the name of a cell: row 31, column 1 is ``A31``."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row}"


def cell_position(name: str) -> tuple[int, int]:
    """Return row and column of a cell's name.

    Raises:
        ValueError: it is not the name of a cell.

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
        ValueError: it is not the name of a range.

    """
    start, _, end = name.partition(":")
    (top, left), (bottom, right) = cell_position(start), cell_position(end or start)
    return Range(sheet, min(top, bottom), min(left, right), max(top, bottom), max(left, right))
