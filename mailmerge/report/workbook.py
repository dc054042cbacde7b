"""``results.xlsx``: the same columns as ``results.csv``, every cell text, no formula anywhere."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from mailmerge import files
from mailmerge.report.result_files import COLUMNS, record

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from openpyxl import Workbook

    from mailmerge.model import Result

ROWS_PER_SHEET = 1_048_575
"""What a sheet can hold below its header."""

_LONGEST = 32_767
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
_WIDTHS = (8, 28, 32, 12, 36, 8, 10, 60, 10, 10, 40, 22, 22, 22)


def cell_text(value: str | int | None) -> str:
    """Make a value fit for a cell: what XML cannot hold is shown as escapes, and there is a limit."""
    text = "" if value is None else str(value)
    shown = _ILLEGAL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return shown[:_LONGEST]


def write_workbook(path: Path, results: Iterable[Result]) -> None:
    """Write all results to *path*, private to its owner, in as many sheets as they need.

    Raises:
        FileError: it cannot be written.

    """
    from openpyxl import Workbook
    from openpyxl.cell import WriteOnlyCell

    book = Workbook(write_only=True)
    sheet: Any = None
    with files.ScratchFolder() as scratch:
        for number, result in enumerate(results):
            if number % ROWS_PER_SHEET == 0:
                sheet = _new_sheet(book, scratch.path)
            cells = []
            for value in record(result).values():
                cell: Any = WriteOnlyCell(sheet, cell_text(value))
                # Text beginning with "=" would become a formula otherwise.
                cell.data_type = "s"
                cells.append(cell)
            sheet.append(cells)
        if sheet is None:
            _new_sheet(book, scratch.path)
        with files.replace_file(path) as stream:
            book.save(stream)


def _new_sheet(book: Workbook, scratch: Path) -> Any:
    from openpyxl.cell import WriteOnlyCell
    from openpyxl.styles import Font
    from openpyxl.utils import get_column_letter

    from mailmerge.report.sheet_files import begin_sheet

    count = len(book.sheetnames)
    sheet: Any = book.create_sheet("results" if not count else f"results ({count + 1})")
    sheet.freeze_panes = "A2"
    for column, width in enumerate(_WIDTHS, 1):
        sheet.column_dimensions[get_column_letter(column)].width = width
    begin_sheet(sheet, scratch)
    heads = [WriteOnlyCell(sheet, name) for name in COLUMNS]
    for head in heads:
        head.font = Font(bold=True)
    sheet.append(heads)
    return sheet
