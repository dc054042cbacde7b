"""Workbooks (.xlsx, .xlsm), streamed by openpyxl; macros are never looked at."""

from __future__ import annotations

import codecs
import re
import warnings
from contextlib import ExitStack, contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any
from xml.etree.ElementTree import SubElement, tostring
from zipfile import ZipFile

from defusedxml import ElementTree
from openpyxl.cell.read_only import EMPTY_CELL, ReadOnlyCell
from openpyxl.reader.excel import ExcelReader
from openpyxl.styles.numbers import BUILTIN_FORMATS_MAX_SIZE
from openpyxl.worksheet._read_only import ReadOnlyWorksheet
from openpyxl.worksheet._reader import WorkSheetParser
from openpyxl.xml.constants import ARC_STYLE, SHARED_STRINGS, SHEET_MAIN_NS
from openpyxl.xml.functions import iterparse

from mailmerge.recipients.cells import UNREADABLE, cell_value, sheet_cell, uncalculated
from mailmerge.recipients.workbook import Range, SheetRow, Workbook, cell_position, cell_range, damaged
from mailmerge.recipients.xlsx_package import MAX_FORMAT, SheetTraits, read_package, read_traits, reading

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO
    from xml.etree.ElementTree import Element

    from mailmerge.recipients.recipient_list import SheetCell
    from mailmerge.recipients.workbook import Sheet

_CHUNK = 256
"""Rows taken from openpyxl at a time, after smaller beginnings: whoever wants the headings needs no more.

Its warnings are silenced around each chunk, not around the caller.
"""

_FAR = 64
"""Columns behind the last content from which on an empty cell does not count."""


class OpenpyxlWorkbook(Workbook):
    """A workbook as openpyxl reads it."""

    def __init__(self, path: Path, shown: str) -> None:
        self.kind = path.suffix[1:].upper()
        self.shown = shown
        self._path = path
        self.sheets = read_package(path, shown)
        self._traits: dict[str, SheetTraits] = {}

    def about_rows(self, sheet: Sheet) -> int:
        """Give the number of the last row that has something in it."""
        return self._look(sheet).last_row

    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""
        traits = self._look(sheet)
        hidden = frozenset(traits.hidden)
        for number, cells in _sheet_rows(self._path, self.shown, sheet.name, traits.last_row, cell_value):
            for column in traits.uncached.get(number, ()):
                cells.extend([""] * (column - len(cells)))
                cells[column - 1] = uncalculated()
            if any(cell.__class__ is not str or cell for cell in cells):
                yield SheetRow(number, cells, number in hidden)

    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as the file keeps it, for a copy."""
        traits = self._look(sheet)
        for number, cells in _sheet_rows(
            self._path, self.shown, sheet.name, traits.last_row, lambda cell: cell
        ):
            uncached = traits.uncached.get(number, ())
            yield number, [sheet_cell(cell, uncalculated=at in uncached) for at, cell in enumerate(cells, 1)]

    def merged(self, sheet: Sheet) -> Sequence[Range]:
        """Give the ranges of merged cells."""
        try:
            return [cell_range(sheet.name, name) for name in self._look(sheet).merged]
        except ValueError as error:
            raise damaged(self.shown, str(error)) from None

    def _look(self, sheet: Sheet) -> SheetTraits:
        if sheet.name not in self._traits:
            self._traits[sheet.name] = read_traits(self._path, sheet.part, self.shown)
        return self._traits[sheet.name]


class _Archive(ZipFile):
    """A workbook whose number formats are none too long: openpyxl matches each against expressions."""

    def read(self, name: Any, pwd: bytes | None = None) -> bytes:
        content = super().read(name, pwd)
        if name == ARC_STYLE and (_LONG_FORMAT.search(content) or content[:2] in _BOMS_16):
            root: Element = ElementTree.fromstring(content)
            for element in root.iter():
                if len(element.get("formatCode", "")) > MAX_FORMAT:
                    element.set("formatCode", _TOO_LONG)
            content = tostring(root)
        return content


_LONG_FORMAT = re.compile(rb"""formatCode\s*=\s*(?:"[^"]{256}|'[^']{256})""")
_BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_TOO_LONG = '"too long"'
"""A format that shows the same whatever the number is, in place of one that is too long."""


class _Reader(ExcelReader):
    """openpyxl's, but texts are read without making an object of each stretch of letters that look alike."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__(file, read_only=True, data_only=True, keep_links=False)
        self.archive = _Archive(file)

    def read_strings(self) -> None:
        package: Any = self.package
        part = package.find(SHARED_STRINGS)
        if part is None:
            return
        archive = self.archive
        with archive.open(part.PartName[1:]) as file:
            for _, element in iterparse(file):
                if element.tag == f"{_MAIN}si":
                    self.shared_strings.append(_letters(element).replace("x005F_", ""))
                    element.clear()

    def read_worksheets(self) -> None:
        book: Any = self.wb
        for sheet, relation in self.parser.find_sheets():
            if relation.target in self.valid_files and "chartsheet" not in relation.Type:
                page = _Page(book, sheet.name, relation.target, self.shared_strings)
                book._sheets.append(page)  # noqa: SLF001  as its own reader does


class _Page(ReadOnlyWorksheet):
    """openpyxl's, which would look through a sheet that does not claim a size until its end."""

    def _get_size(self) -> None:
        """Leave it: what a sheet claims is not believed."""


_MAIN = f"{{{SHEET_MAIN_NS}}}"


def _letters(element: Any) -> str:
    """Give the text of a text with formats, without how it is pronounced."""
    texts = [element.findtext(f"{_MAIN}t") or ""]
    texts += [stretch.findtext(f"{_MAIN}t") or "" for stretch in element.iterfind(f"{_MAIN}r")]
    return "".join(texts)


class _Parser(WorkSheetParser):
    """openpyxl's, but a cell that it cannot read is that cell's problem, not the workbook's."""

    def __init__(self, source: Any, sheet: Any) -> None:
        book = sheet.parent
        super().__init__(
            source,
            sheet._shared_strings,  # noqa: SLF001  as its own reader does, which cannot be told of ours
            data_only=book.data_only,
            epoch=book.epoch,
            date_formats=book._date_formats,  # noqa: SLF001
            timedelta_formats=book._timedelta_formats,  # noqa: SLF001
        )
        self._styles = len(book._cell_styles)  # noqa: SLF001
        formats = book._number_formats  # noqa: SLF001
        bad = formats.index(_TOO_LONG) + BUILTIN_FORMATS_MAX_SIZE if _TOO_LONG in formats else None
        self._unusable = {at for at, style in enumerate(book._cell_styles) if style.numFmtId == bad}  # noqa: SLF001

    def _check_format(self, cell: dict[str, Any]) -> None:
        style = int(cell["style_id"])
        if not 0 <= style < max(self._styles, 1):
            raise IndexError("there is no such format")
        if style in self._unusable and cell["data_type"] != "s" and cell["value"] is not None:
            raise ValueError(f"its number format has more than {MAX_FORMAT} characters")

    def parse_cell(self, element: Any) -> dict[str, Any]:
        try:
            text = element.find(f"{_MAIN}is") if element.get("t") == "inlineStr" else None
            if text is not None and len(text) > 1:
                letters = _letters(text)
                text.clear()
                SubElement(text, f"{_MAIN}t").text = letters
            cell: dict[str, Any] = super().parse_cell(element)
            self._check_format(cell)
        except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
            name = element.get("r")
            column = cell_position(name)[1] if name else max(self.col_counter, 1)
            why = f"{type(error).__name__}: {error}".partition("\n")[0]
            return {
                "row": self.row_counter,
                "column": column,
                "value": why,
                "data_type": UNREADABLE,
                "style_id": 0,
            }
        return cell


def _sheet_rows(
    path: Path, shown: str, name: str, last: int, read: Callable[[Any], Any]
) -> Iterator[tuple[int, list[Any]]]:
    """Yield what *read* makes of the cells of a sheet's rows up to the *last*, with the rows' numbers.

    Rows and columns that the file does not have are left out: they may be a million.
    """
    if not last:
        return
    with ExitStack() as stack:
        with _quiet(shown):
            # A file that openpyxl opens itself stays open where the workbook is damaged.
            file = stack.enter_context(path.open("rb"))
            # keep_links: other workbooks that this one refers to are nobody's business here.
            reader = _Reader(file)
            reader.read()
            sheet: Any = reader.wb[name]
            source = stack.enter_context(sheet._get_source())  # noqa: SLF001
            rows = _present(_Parser(source, sheet), sheet, last)
        size = 1
        while True:
            with _quiet(shown):
                chunk = [(number, [read(cell) for cell in cells]) for number, cells in islice(rows, size)]
            size = min(2 * size, _CHUNK)
            if not chunk:
                return
            yield from chunk


def _present(parser: _Parser, sheet: Any, last: int) -> Iterator[tuple[int, list[Any]]]:
    """Yield the rows that a sheet has, each as wide as its last cell with content, or a little wider."""
    for number, found in parser.parse():
        if number > last:
            return
        cells: list[Any] = []
        for cell in found:
            at = cell["column"] - 1
            if at > len(cells) + _FAR and cell["value"] in {None, ""}:
                continue
            while len(cells) < at:
                cells.append(EMPTY_CELL)
            made = ReadOnlyCell(sheet, **cell)
            if at == len(cells):
                cells.append(made)
            else:
                cells[at] = made
        yield number, cells
        if number == last:  # what follows the rows is nobody's business here
            return


@contextmanager
def _quiet(shown: str) -> Iterator[None]:
    """Let openpyxl neither warn about what does not matter here, nor end with an exception of its own."""
    with warnings.catch_warnings(), reading(shown):
        warnings.simplefilter("ignore")
        yield
