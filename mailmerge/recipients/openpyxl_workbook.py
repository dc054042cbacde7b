"""Workbooks as openpyxl reads them: the fallback for those whose parts we cannot assemble ourselves.

openpyxl refuses document types only where defusedxml is installed, and then not in every part. So each part
is checked here before openpyxl sees any.
"""

from __future__ import annotations

import re
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from xml.parsers import expat
from zipfile import BadZipFile, ZipFile

import openpyxl

from mailmerge.recipients.cells import cell_value, uncalculated
from mailmerge.recipients.recipient_list import SheetCell
from mailmerge.recipients.workbook import Range, Sheet, SheetRow, Workbook, cell_range, damaged
from mailmerge.recipients.xlsx_cells import NOT_CALCULATED
from mailmerge.recipients.xlsx_package import BLOCK, parser_of, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_LARGEST = 32 << 20
"""Most bytes of all parts together: openpyxl keeps every cell in memory."""
_MOST_CELLS = 2_000_000
"""Most cells of a sheet, including empty ones in between: openpyxl goes through all of them."""
_PERHAPS_XML = re.compile(rb"[\s\0]*(?:<|\xef\xbb\xbf|\xfe\xff|\xff\xfe)|\x4c\x6f\xa7\x94")
"""How XML begins in whatever encoding a parser finds by itself (XML 1.0, appendix F)."""


class OpenpyxlWorkbook(Workbook):
    """A workbook that openpyxl reads as a whole.

    Raises:
        ListError: openpyxl cannot read it either.

    """

    def __init__(self, path: Path, shown: str) -> None:
        self.kind = path.suffix[1:].upper()
        self.shown = shown
        with _quiet(shown), path.open("rb") as file:
            with ZipFile(file) as archive:
                if sum(part.file_size for part in archive.filelist) > _LARGEST:
                    raise BadZipFile("it is too large")
                _refuse_document_types(archive)
            self._results: Any = openpyxl.load_workbook(file, data_only=True, keep_links=False)
            self._formulas: Any = openpyxl.load_workbook(file, keep_links=False)
            self.sheets = [Sheet(one.title, one.sheet_state == "visible") for one in self._results.worksheets]
            active: Any = self._results.active
            self.active = active.title if active else ""

    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""
        found = self._results[sheet.name]
        for number, cells, missing in self._cells(sheet):
            values = [uncalculated() if at in missing else cell_value(cell) for at, cell in enumerate(cells)]
            hidden = bool(found.row_dimensions[number].hidden)
            if any(value.__class__ is not str or value for value in values):
                yield SheetRow(number, values, hidden)

    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as the file stores it, for a copy."""
        for number, cells, missing in self._cells(sheet):
            yield (
                number,
                [
                    NOT_CALCULATED
                    if at in missing
                    else SheetCell(cell.value, cell.data_type, cell.number_format or "General")
                    for at, cell in enumerate(cells)
                ],
            )

    def merged(self, sheet: Sheet) -> Sequence[Range]:
        """Return the ranges of merged cells."""
        with reading(self.shown):
            return [cell_range(sheet.name, str(one)) for one in self._results[sheet.name].merged_cells.ranges]

    def _cells(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[Any], frozenset[int]]]:
        """Yield rows of cells with the places of formulas whose results were never saved."""
        results, formulas = self._results[sheet.name], self._formulas[sheet.name]
        if results.max_row * results.max_column > _MOST_CELLS:
            raise damaged(self.shown, f"the cells of the sheet {sheet.name} are too far apart")
        for number, (cells, written) in enumerate(
            zip(results.iter_rows(), formulas.iter_rows(), strict=True), 1
        ):
            missing = frozenset(
                at for at, cell in enumerate(written) if cell.data_type == "f" and cells[at].value is None
            )
            yield number, cells, missing


def _refuse_document_types(archive: ZipFile) -> None:
    """Check every part, whatever its name: openpyxl takes the names of parts from other parts.

    Raises:
        DocumentTypeError: a part declares a document type.
        ExpatError: a part may be XML and is damaged; another parser could read it as something else.

    """
    for info in archive.filelist:
        parser = parser_of(info.filename)
        with archive.open(info) as part:
            block = part.read(BLOCK)
            perhaps_xml = _PERHAPS_XML.match(block)
            try:
                while block:
                    parser.Parse(block)
                    block = part.read(BLOCK)
                parser.Parse(b"", True)
            except expat.ExpatError:
                if perhaps_xml:
                    raise


@contextmanager
def _quiet(shown: str) -> Iterator[None]:
    """Suppress openpyxl's irrelevant warnings, and turn its exceptions into one `ListError`."""
    with warnings.catch_warnings(), reading(shown):
        warnings.simplefilter("ignore")
        yield
