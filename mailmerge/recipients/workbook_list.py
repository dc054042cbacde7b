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

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.cells import UNREADABLE, cell_value, sheet_cell, uncalculated
from mailmerge.recipients.csv_errors import unnamed
from mailmerge.recipients.recipient_list import (
    MAX_PROBLEMS,
    CellError,
    Options,
    RecipientList,
    Record,
    SheetCell,
    list_error,
    read_header,
)
from mailmerge.recipients.xlsx_package import (
    MAX_FORMAT,
    MAX_GAP,
    SheetPart,
    cell_name,
    cell_position,
    damaged,
    read_package,
    read_traits,
    reading,
)
from mailmerge.text import did_you_mean
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence
    from pathlib import Path
    from typing import BinaryIO
    from xml.etree.ElementTree import Element

    from mailmerge.options import Hidden
    from mailmerge.recipients.recipient_list import Header
    from mailmerge.values import Cell

_CHUNK = 256
"""Rows taken from openpyxl at a time, after smaller beginnings: whoever wants the headings needs no more.

Its warnings are silenced around each chunk, not around the caller.
"""

_FAR = 64
"""Columns behind the last content from which on an empty cell does not count."""

_Cells = list["Cell | CellError"]


class WorkbookList(RecipientList):
    """One sheet of a workbook."""

    def __init__(
        self,
        path: Path,
        shown: str,
        options: Options,
        *,
        sheet: str | None,
        hidden: Hidden,
    ) -> None:
        self.path = path
        self.shown = shown
        parts = read_package(path, shown)
        chosen = _choose(parts, sheet, shown)
        self.sheet = chosen.name
        if not chosen.visible and hidden == "refuse":
            raise self._error("D121", f'the sheet "{chosen.name}" is hidden', _HIDDEN_HINT)
        self._traits = traits = read_traits(path, chosen.part, shown)
        super().__init__(path, shown, self._read_header(), options)
        self._plain = False
        first = self.header.row
        concealed = [row for row in traits.hidden if row > first]
        if concealed and hidden == "refuse":
            raise self._conceals(concealed)
        self._refuse_merged()
        self._skipped = frozenset(concealed) if hidden == "skip" else frozenset()
        visible = [part for part in parts if part.visible]
        several = sheet is None and len(visible) > 1
        kind = path.suffix[1:].upper()
        self.dialect = f'{kind}, sheet "{chosen.name}"' + (
            f" (the first of {len(visible)})" if several else ""
        )
        self.warnings = self._notes()

    def about_rows(self) -> int:
        """Give the number of the last row that has something in it."""
        return self._traits.last_row

    def _records(self) -> Iterator[Record]:
        header = self.header
        problems: list[Diagnostic] = []
        blank, before = 0, header.row
        for row, cells in self._rows():
            if row <= header.row:
                continue
            blank, before = blank + row - before - 1, row
            if not _filled(cells):
                blank += 1
                continue
            self.blank_rows += blank  # those below the last row do not count
            blank = 0
            if row in self._skipped:
                self.hidden_rows += 1
                continue
            problems += self._outside(row, cells)
            if len(problems) >= MAX_PROBLEMS:
                break
            if not problems:
                yield row, None, cells + [""] * (header.width - len(cells))
        if problems:
            raise list_error(self.shown, problems[:MAX_PROBLEMS])

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  sheets have no lines
        return Place(path=self.shown, cell=f"sheet {self.sheet}, cell {cell_name(row, position + 1)}")

    def _outside(self, row: int, cells: Sequence[Cell | CellError]) -> list[Diagnostic]:
        """Find cells with content in columns without a heading."""
        header = self.header
        if len(cells) <= header.width and not header.unnamed:
            return []
        unknown = frozenset(header.unnamed)
        return [
            unnamed(_shown(cell), f"column {cell_name(row, at + 1).rstrip('0123456789')}", place, row)
            for at, cell in enumerate(cells)
            if (at >= header.width or at in unknown) and _shown(cell).strip()
            for place in (self._place(row, None, at),)
        ]

    def _read_header(self) -> Header:
        for row, cells in self._rows():
            if _filled(cells):
                texts = [_shown(cell) for cell in cells]
                while not texts[-1].strip():
                    texts.pop()
                header, problems = read_header(texts, row, lambda at: self._place(row, None, at))  # noqa: B023
                if problems:
                    raise list_error(self.shown, problems)
                return header
        hint = "the first row contains the headings, each further row one recipient"
        if self._traits.stray:
            hint = f"the first cell with content is {self._traits.stray}: move the table up"
        raise self._error("D102", f'the sheet "{self.sheet}" is empty', hint)

    def copies(self, rows: Container[int]) -> Iterator[tuple[int, tuple[SheetCell, ...]]]:
        """Yield the chosen rows as they are in the sheet, without the columns that are not the list's own."""
        width = self.header.width
        for row, cells in self._sheet_rows():
            if row in rows:
                uncached = self._traits.uncached.get(row, ())
                found = [
                    sheet_cell(cell, uncalculated=column in uncached) for column, cell in enumerate(cells, 1)
                ]
                found += [SheetCell(None, "n")] * (width - len(found))
                yield row, tuple(found[position] for position in self.header.kept)

    def _rows(self) -> Iterator[tuple[int, _Cells]]:
        """Yield all rows of the list with their numbers, the header included."""
        uncached = self._traits.uncached
        for number, found in self._sheet_rows(cell_value):
            for column in uncached.get(number, ()):
                found.extend([""] * (column - len(found)))
                found[column - 1] = uncalculated()
            yield number, found

    def _sheet_rows(self, read: Callable[[Any], Any] = lambda cell: cell) -> Iterator[tuple[int, list[Any]]]:
        """Yield what *read* makes of the cells of all rows, with the rows' numbers."""
        return _sheet_rows(self.path, self.shown, self.sheet, self._traits.last_row, read)

    def _conceals(self, rows: list[int]) -> ListError:
        first = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        what = f"row {first} is" if len(rows) == 1 else f"{len(rows):,} rows are"
        which = "" if len(rows) == 1 else f" ({first})"
        return self._error(
            "D121", f'in the sheet "{self.sheet}" {what} hidden or filtered out{which}', _HIDDEN_HINT
        )

    def _refuse_merged(self) -> None:
        """Refuse merged cells inside the table: all but the first of them would be empty, unseen."""
        inside = [name for name in self._traits.merged if self._in_table(name)]
        if not inside:
            return
        more = f" (and {len(inside) - 1} more ranges)" if len(inside) > 1 else ""
        hint = "unmerge them and fill every cell"
        if cell_position(inside[0].partition(":")[0])[0] == self.header.row:
            hint = "if it is a title above the table, remove it: the first row must contain the headings"
        raise self._error("D126", f'in the sheet "{self.sheet}" the cells {inside[0]} are merged{more}', hint)

    def _in_table(self, name: str) -> bool:
        start, _, end = name.partition(":")
        try:
            (top, left), (bottom, _right) = cell_position(start), cell_position(end or start)
        except ValueError as error:
            raise damaged(self.shown, str(error)) from None
        return left <= self.header.width and bottom >= self.header.row and top <= self._traits.last_row

    def _notes(self) -> tuple[Diagnostic, ...]:
        stray = self._traits.stray
        if not stray:
            return ()
        return (
            Diagnostic(
                code="D128",
                message=f"the list ends at {MAX_GAP:,} blank rows: {stray} and what follows is left out",
                hint="delete what is there, or move it up",
                severity=Severity.WARNING,
                place=Place(path=self.shown, cell=f"sheet {self.sheet}, cell {stray}"),
            ),
        )

    def _error(self, code: str, message: str, hint: str) -> ListError:
        place = Place(path=self.shown, cell=f"sheet {self.sheet}")
        return ListError(message, code=code, hint=hint, place=place)


_HIDDEN_HINT = 'show them, or decide in [data]: hidden = "skip" or hidden = "send"'


def _choose(parts: list[SheetPart], wanted: str | None, shown: str) -> SheetPart:
    """Take the sheet by name, else the first one that can be seen."""
    if not parts:
        raise damaged(shown, "it has no worksheet")
    if wanted is None:
        return next((part for part in parts if part.visible), parts[0])
    names = {part.name: part for part in parts}
    if wanted in names:
        return names[wanted]
    listed = "the sheets are: " + ", ".join(f'"{name}"' for name in names)
    guess = did_you_mean(wanted, names)
    hint = f"{guess} {listed}" if guess else listed
    raise ListError(f'{shown} has no sheet "{wanted}"', code="D122", hint=hint, place=Place(path=shown))


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


def sheets_as_text(path: Path, shown: str) -> Iterator[tuple[str, Iterator[tuple[int, list[str]]]]]:
    """Yield each sheet of a workbook with its rows as texts, hidden ones too.

    Raises:
        ListError: it cannot be read, or has rows so far down that they could be overlooked.

    """
    for part in read_package(path, shown):
        traits = read_traits(path, part.part, shown)
        if traits.stray:
            raise ListError(
                f'in the sheet "{part.name}" {traits.stray} comes after more than {MAX_GAP:,} blank rows',
                code="D128",
                hint="delete what is there, or move it up",
                place=Place(path=shown, cell=f"sheet {part.name}, cell {traits.stray}"),
            )
        yield (
            part.name,
            _sheet_rows(path, shown, part.name, traits.last_row, lambda cell: _shown(cell_value(cell))),
        )


def _filled(cells: Sequence[Cell | CellError]) -> bool:
    return any(not isinstance(cell, str) or cell.strip() for cell in cells)


def _shown(cell: Cell | CellError) -> str:
    return str(cell.shown or "formula" if isinstance(cell, CellError) else displayed(cell))


@contextmanager
def _quiet(shown: str) -> Iterator[None]:
    """Let openpyxl neither warn about what does not matter here, nor end with an exception of its own."""
    with warnings.catch_warnings(), reading(shown):
        warnings.simplefilter("ignore")
        yield
