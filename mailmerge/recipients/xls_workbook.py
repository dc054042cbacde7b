"""Excel 97-2003 workbooks (.xls), read by xlrd, which is an extra: few lists are that old.

xlrd reads a file as a whole; a sheet has at most 65,536 rows. Which cells are formulas without a result it
does not report; that is found in the records of the sheet ([MS-XLS] 2.4.127). Macros are never looked at.
"""

from __future__ import annotations

import io
import math
import re
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mailmerge.errors import ListError, MailmergeError
from mailmerge.model import Place
from mailmerge.recipients.cells import (
    MAX_FORMAT,
    MOMENTS,
    error_cell,
    exact_number,
    formatted_cell,
    text_format,
    uncalculated,
)
from mailmerge.recipients.compound_file import MAGIC, CompoundFile
from mailmerge.recipients.recipient_list import MAX_CELL, SheetCell, long_cell
from mailmerge.recipients.workbook import Range, Sheet, SheetRow, Workbook, damaged, too_large
from mailmerge.recipients.xlsx_cells import DAYS_TO_1904, EMPTY, NOT_CALCULATED
from mailmerge.values import Truth
from mailmerge.values.number_format import number_format

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mailmerge.recipients.recipient_list import CellError
    from mailmerge.values import Cell

_EXACT = 1 << 53
"""Up to here a float represents exactly one integer."""
_MAX_SIZE = 256 << 20
"""Most bytes of a file: xlrd keeps all of them in memory."""
_TEXT, _NUMBER, _DATE, _BOOLEAN, _ERROR = 1, 2, 3, 4, 5
"""Types of cells in xlrd."""
_FORMULA, _END = 0x0006, 0x000A
_FORMULA_RECORD = struct.Struct("<HHH8sH")
"""Row, column, style, result, flags ([MS-XLS] 2.4.127)."""
_NOTHING = (bytes(8), b"\3\0\0\0\0\0\xff\xff")
"""Results: the number 0, and an empty string."""
_RECALCULATE = 3
"""Flags: calculate always, or when the file is opened."""
_TRUTH = re.compile(r'"([^"]+)";"\1";"([^"]+)"')
"""LibreOffice writes TRUE and FALSE, in any language, as numbers of this format."""
_PROPERTIES = "\5SummaryInformation"


class XlsWorkbook(Workbook):
    """A workbook as xlrd reads it."""

    kind = "XLS"

    def __init__(self, path: Path, shown: str) -> None:
        self.shown = shown
        self._path = path
        self._has_properties = True
        self._book = self._open()
        with self._reading():
            names = [str(name) for name in self._book.sheet_names()]
            visible = list(self._book._sheet_visibility)  # noqa: SLF001  sheets are not read yet
            self._date_1904 = self._book.datemode == 1
        self.sheets = [Sheet(name, visible[at] == 0, str(at)) for at, name in enumerate(names)]
        self._styles: dict[int, str] = {}

    def _open(self) -> Any:
        try:
            import xlrd
        except ImportError:
            raise ListError(
                f"{self.shown} is an Excel 97-2003 workbook: reading it requires the package xlrd",
                code="D217",
                hint='pip install "mailmerge-kit[xls]", or save the list as .xlsx or CSV (UTF-8)',
                place=Place(path=self.shown),
            ) from None
        if self._path.stat().st_size > _MAX_SIZE:
            raise too_large(self.shown, f"more than {_MAX_SIZE >> 20} MB")
        self._errors = xlrd.error_text_from_code
        with self._reading():
            return xlrd.open_workbook(
                file_contents=self._stream(self._path.read_bytes()),
                logfile=io.StringIO(),  # it prints about damage after which it continues
                formatting_info=True,
                on_demand=True,
                ragged_rows=True,
            )

    def _stream(self, content: bytes) -> bytes:
        """Extract the workbook's stream from its container: xlrd would follow cycles of sectors forever."""
        if not content.startswith(MAGIC):
            return content  # older than the container
        container = CompoundFile(content)
        self._has_properties = _PROPERTIES in container
        return container.read("Workbook" if "Workbook" in container else "Book")

    @contextmanager
    def _reading(self) -> Iterator[None]:
        """Turn all exceptions that xlrd raises for a damaged file into one error."""
        try:
            yield
        except MailmergeError:
            raise
        except Exception as error:
            what = str(error).partition("\n")[0]
            if "encrypted" in what.lower():
                raise ListError(
                    f"{self.shown} is encrypted",
                    code="D120",
                    hint="open it with its password and save a copy without one",
                    place=Place(path=self.shown),
                ) from None
            raise damaged(self.shown, "it is damaged or incomplete") from error

    def _sheet(self, sheet: Sheet) -> Any:
        with self._reading():
            return self._book.sheet_by_index(int(sheet.part))

    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""
        for number, hidden, cells in self._raw_rows(sheet):
            yield SheetRow(number, [self._value(cell) for cell in cells], hidden)

    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as the file keeps it, for a copy."""
        for number, _, cells in self._raw_rows(sheet):
            yield number, [self._moved(cell) for cell in cells] if self._date_1904 else cells

    @staticmethod
    def _moved(cell: SheetCell) -> SheetCell:
        """Return a cell whose date or time, if it has one, counts days from the epoch of 1900."""
        value: Any = cell.value
        if cell.kind != "n" or value is None or number_format(cell.number_format).kind not in MOMENTS:
            return cell
        return replace(cell, value=value + DAYS_TO_1904)

    def about_rows(self, sheet: Sheet) -> int:
        """Return the number of the last row of the sheet."""
        return int(self._sheet(sheet).nrows)

    def hidden_columns(self, sheet: Sheet) -> Sequence[range]:
        """Return the columns that are hidden, from 1."""
        columns = self._sheet(sheet).colinfo_map
        return [range(at + 1, at + 2) for at, column in columns.items() if column.hidden]

    def merged(self, sheet: Sheet) -> Sequence[Range]:
        """Return the ranges of merged cells."""
        found = self._sheet(sheet).merged_cells
        return [Range(sheet.name, top + 1, left + 1, bottom, right) for top, bottom, left, right in found]

    def links(self, sheet: Sheet) -> Mapping[tuple[int, int], str]:
        """Return the targets of links by row and column."""
        return {
            (link.frowx + 1, link.fcolx + 1): str(link.url_or_path or "")
            for link in self._sheet(sheet).hyperlink_list
        }

    def _raw_rows(self, sheet: Sheet) -> Iterator[tuple[int, bool, list[SheetCell]]]:
        page = self._sheet(sheet)
        with self._reading():
            stale = self._stale(int(sheet.part))
        for row in range(page.nrows):
            with self._reading():
                info = page.rowinfo_map.get(row)
                cells = [self._cell(page, row, column, stale) for column in range(page.row_len(row))]
                hidden = bool(info and (info.hidden or info.height == 0))
            if any(cell.value is not None for cell in cells):
                yield row + 1, hidden, cells

    def _cell(self, page: Any, row: int, column: int, stale: set[tuple[int, int]]) -> SheetCell:
        kind, value = page.cell_type(row, column), page.cell_value(row, column)
        if (row, column) in stale:
            return NOT_CALCULATED
        if kind in {_NUMBER, _DATE}:
            return self._number(float(value), page.cell_xf_index(row, column))
        if kind == _BOOLEAN:
            return SheetCell(bool(value), "b")
        if kind == _ERROR:
            return SheetCell(self._errors.get(value, "#VALUE!"), "e")
        if kind != _TEXT or not value:
            return EMPTY
        return SheetCell(value, "s", self._format(page.cell_xf_index(row, column)))

    def _number(self, number: float, style: int) -> SheetCell:
        if not math.isfinite(number):
            return SheetCell(str(number), "s")  # no program shows it as a number
        whole = number.is_integer() and abs(number) < _EXACT
        return SheetCell(int(number) if whole else number, "n", self._format(style))

    def _value(self, cell: SheetCell) -> Cell | CellError:
        value: Any = cell.value
        if cell is NOT_CALCULATED:
            return uncalculated()
        if cell.kind == "e":
            return error_cell(value)
        if cell.kind == "b":
            return Truth(value)
        number = exact_number(value) if cell.kind == "n" and value is not None else None
        if number is not None:
            if words := _TRUTH.fullmatch(cell.number_format):
                return Truth(number != 0, words[1] if number else words[2])
            return formatted_cell(number, cell.number_format, date_1904=self._date_1904)
        return _text(value or "", cell.number_format)

    def _format(self, style: int) -> str:
        found = self._styles.get(style)
        if found is None:
            known = self._book.format_map.get(self._book.xf_list[style].format_key)
            found = known.format_str if known and len(known.format_str) <= MAX_FORMAT else "General"
            self._styles[style] = found
        return found

    def _stale(self, at: int) -> set[tuple[int, int]]:
        """Find formulas whose results were never stored.

        They are 0 or empty. Either the record requires whoever opens the file to calculate it, or no result
        in the file is anything else and it has no properties, as libraries write it (xlwt, POI).
        """
        mem, end = self._book.mem, len(self._book.mem)
        position = self._book._sh_abs_posn[at]  # noqa: SLF001  the records are in no other place
        told: set[tuple[int, int]] = set()
        empty: set[tuple[int, int]] = set()
        calculated = False
        while 0 <= position <= end - 4:
            kind, length = struct.unpack_from("<HH", mem, position)
            if kind == _END:
                break
            if kind == _FORMULA and length >= _FORMULA_RECORD.size:
                row, column, _, result, flags = _FORMULA_RECORD.unpack_from(mem, position + 4)
                if result in _NOTHING:
                    (told if flags & _RECALCULATE else empty).add((row, column))
                else:
                    calculated = True
            position += 4 + length
        return told if calculated or self._has_properties else told | empty


def _text(text: str, code: str) -> Cell | CellError:
    write = text_format(code) if text else None
    if write is not None:
        text = write(text).strip()
    return text if len(text) <= MAX_CELL else long_cell(text)
