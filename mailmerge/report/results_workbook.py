# ruff: noqa: SLF001
"""Workbooks: ``results.xlsx``, ``failed.xlsx``. Imported only where one is written.

While writing, openpyxl keeps a sheet in a temporary file of its own, which a crash leaves behind with all of
its content. It has no option for that, so its writers are made to use our scratch folder here (openpyxl 3.1).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from openpyxl import Workbook
from openpyxl.cell import WriteOnlyCell
from openpyxl.styles import Font
from openpyxl.utils import get_column_letter
from openpyxl.worksheet._writer import WorksheetWriter

from mailmerge.files import ScratchFolder, replace_file
from mailmerge.recipients.recipient_list import SheetCell
from mailmerge.report.result_files import COLUMNS, NAMES, cell_text, record, workbook_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

    from mailmerge.model import Result

ROWS_PER_SHEET = 1_048_575
"""Most rows of a sheet below its header row."""


def write_workbook(path: Path, results: Iterable[Result]) -> None:
    """Write all results to *path*, readable by its owner only, in as many sheets as they need.

    Every cell is text, never a formula.

    Raises:
        FileError: it cannot be written.

    """
    book = Workbook(write_only=True)
    sheet: Any = None
    with ScratchFolder() as scratch:
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
        with replace_file(path) as stream:
            book.save(stream)


def write_copies(
    path: Path, sheet: str, headings: Sequence[str], rows: Iterable[Iterable[SheetCell]]
) -> None:
    """Write cells as in another workbook, with types and formats.

    Args:
        path: the file.
        sheet: the name of its only sheet.
        headings: the headings of all columns.
        rows: the cells below the headings.

    Raises:
        FileError: it cannot be written.

    """
    book = Workbook(write_only=True)
    with ScratchFolder() as scratch:
        page: Any = book.create_sheet()
        page.title = sheet
        page.freeze_panes = "A2"
        _begin_sheet(page, scratch.path)
        page.append([_copied(page, SheetCell(heading, "s"), bold=True) for heading in headings])
        for cells in rows:
            page.append([_copied(page, cell) for cell in cells])
        with replace_file(path) as stream:
            book.save(stream)


def _copied(sheet: Any, source: SheetCell, *, bold: bool = False) -> Any:
    """Return a cell that is read back as *source*, to the last digit; text is never a formula."""
    cell: Any = WriteOnlyCell(sheet)
    value = source.value
    if source.kind == "s":
        value = workbook_text(str(value))
    elif source.kind == "n" and value is not None:
        value = str(value) if isinstance(value, int) else repr(value)  # openpyxl keeps 16 digits by itself
    # Bypasses its setter, which guesses types, turns strings into formulas, and cuts long ones.
    cell._value = value
    cell.data_type = source.kind
    cell.number_format = source.number_format
    if bold:
        cell.font = Font(bold=True)
    return cell


def _new_sheet(book: Workbook, scratch: Path) -> Any:
    count = len(book.sheetnames)
    sheet: Any = book.create_sheet("results" if not count else f"results ({count + 1})")
    sheet.freeze_panes = "A2"
    for number, column in enumerate(COLUMNS, 1):
        sheet.column_dimensions[get_column_letter(number)].width = column.width
    _begin_sheet(sheet, scratch)
    heads = [WriteOnlyCell(sheet, name) for name in NAMES]
    for head in heads:
        head.font = Font(bold=True)
    sheet.append(heads)
    return sheet


class _SheetWriter(WorksheetWriter):
    def __init__(self, sheet: Any, scratch: Path) -> None:
        super().__init__(sheet, str(scratch / f"{sheet.parent.worksheets.index(sheet)}.xml"))

    def cleanup(self) -> None:
        """Do nothing: the folder is removed as a whole."""


def _begin_sheet(sheet: Any, scratch: Path) -> None:
    """Make a sheet of a write-only workbook keep its rows in *scratch*; its columns are fixed now."""
    sheet._writer = _SheetWriter(sheet, scratch)
    sheet._writer.write_top()
