# ruff: noqa: SLF001
"""Where openpyxl keeps a sheet while it writes a workbook: in a scratch folder of ours.

By itself it uses a temporary file with a name of its own, which a crash leaves behind with all that is in it.
It offers no way to say otherwise, so its writers are told here (openpyxl 3.1).
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, BinaryIO
from zipfile import ZIP_DEFLATED, ZipFile

from openpyxl.drawing.spreadsheet_drawing import SpreadsheetDrawing
from openpyxl.worksheet._writer import WorksheetWriter
from openpyxl.writer.excel import ExcelWriter

from mailmerge.files import ScratchFolder

if TYPE_CHECKING:
    from pathlib import Path

    from openpyxl import Workbook


class _SheetWriter(WorksheetWriter):
    def __init__(self, sheet: Any, scratch: Path) -> None:
        super().__init__(sheet, str(scratch / f"{sheet.parent.worksheets.index(sheet)}.xml"))

    def cleanup(self) -> None:
        """Leave the file: the folder goes as a whole."""


class _WorkbookWriter(ExcelWriter):
    def __init__(self, book: Workbook, archive: ZipFile, scratch: Path) -> None:
        super().__init__(book, archive)
        self._zip = archive
        self._scratch = scratch

    def write_worksheet(self, ws: Any) -> None:
        """Write one sheet as openpyxl does."""
        ws._drawing = SpreadsheetDrawing()
        ws._drawing.charts = ws._charts
        ws._drawing.images = ws._images
        writer: Any = _SheetWriter(ws, self._scratch)
        writer.write()
        ws._rels = writer._rels
        self._zip.write(writer.out, ws.path[1:])
        self.manifest.append(ws)


def begin_sheet(sheet: Any, scratch: Path) -> None:
    """Let a sheet of a write-only workbook keep its rows in *scratch*; its columns are settled now."""
    sheet._writer = _SheetWriter(sheet, scratch)
    sheet._writer.write_top()


def save_workbook(book: Workbook, stream: BinaryIO) -> None:
    """Write a workbook that was loaded as a whole.

    Raises:
        FileError: it cannot be written.

    """
    with ScratchFolder() as scratch, ZipFile(stream, "w", ZIP_DEFLATED) as archive:
        book.properties.modified = datetime.now(UTC).replace(tzinfo=None)
        _WorkbookWriter(book, archive, scratch.path).save()
