"""One sheet of a workbook as a list, whichever kind of workbook it is."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zipfile import BadZipFile

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.csv_errors import unnamed
from mailmerge.recipients.kinds import FODS, XLS, XLSX, find_kind
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
from mailmerge.recipients.sheet_traits import LinkedCells, MergedCells
from mailmerge.recipients.understanding import Understanding
from mailmerge.recipients.workbook import MAX_GAP, cell_name, damaged
from mailmerge.recipients.xlsx_package import DocumentTypeError
from mailmerge.text import did_you_mean
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Container, Iterator, Sequence
    from pathlib import Path

    from mailmerge.options import Hidden
    from mailmerge.recipients.kinds import Kind
    from mailmerge.recipients.recipient_list import Header
    from mailmerge.recipients.workbook import Sheet, SheetRow, Workbook
    from mailmerge.values import Cell


class WorkbookList(RecipientList):
    """One sheet of a workbook.

    What only the end of the sheet tells (which rows are hidden) is told when the rows have been read.
    """

    def __init__(
        self, workbook: Workbook, path: Path, options: Options, *, sheet: str | None, hidden: Hidden
    ) -> None:
        self.path = path
        self.shown = shown = workbook.shown
        self._book = workbook
        self._chosen = chosen = _choose(workbook.sheets, sheet, shown)
        self.sheet = chosen.name
        if not chosen.visible and hidden == "refuse":
            raise self._error("D121", f'the sheet "{chosen.name}" is hidden', _HIDDEN_HINT)
        super().__init__(path, shown, self._read_header(), options)
        self._plain = False
        self._hidden = hidden
        self._refuse_merged()
        visible = [one for one in workbook.sheets if one.visible]
        several = sheet is None and len(visible) > 1
        why = f"the first of {len(visible)}" if several else ""
        self.understanding = Understanding(
            workbook.kind, sheet=chosen.name, why_sheet=why, program=workbook.program
        )

    def about_rows(self) -> int:
        """Say how many rows the sheet has, about."""
        return self._book.about_rows(self._chosen)

    def _records(self) -> Iterator[Record]:
        header = self.header
        problems: list[Diagnostic] = []
        concealed: list[int] = []
        links = LinkedCells(
            self._book.links(self._chosen),
            frozenset(position + 1 for position in header.kept if position not in self._unread),
        )
        blank, before = 0, header.row
        for found in self._rows():
            row, cells = found.number, found.cells
            if row <= header.row:
                continue
            blank, before = blank + row - before - 1, row
            if not _filled(cells):
                blank += 1
                continue
            self.blank_rows += blank  # those below the last row do not count
            blank = 0
            if found.hidden and self._hidden == "refuse":
                concealed.append(row)
            if found.hidden and self._hidden == "skip":
                self.hidden_rows += 1
                continue
            if len(problems) < MAX_PROBLEMS:
                problems += self._outside(row, cells)
            links.look(found)
            if not problems and not concealed:
                yield row, None, cells + [""] * (header.width - len(cells))
        self._book.close()
        if concealed:
            raise self._conceals(concealed)
        if problems:
            raise list_error(self.shown, problems[:MAX_PROBLEMS])
        self._warn(*self._merged.warnings(self.shown, self.sheet, header.row, header.width))
        self._warn(*links.warnings(self.shown, self.sheet))

    def _warn(self, *warnings: Diagnostic) -> None:
        """Add what was found while rows were read, once however often they are."""
        self.warnings = (*(one for one in self.warnings if one not in warnings), *warnings)

    def _rows(self) -> Iterator[SheetRow]:
        """Yield the rows of the sheet down to the end of the list."""
        before = self.header.row
        for row in self._filled_rows():
            if row.number - before > MAX_GAP and _filled(row.cells):
                self._warn(self._end(row))
                return
            before = max(before, row.number)
            yield row

    def _filled_rows(self) -> Iterator[SheetRow]:
        """Yield all rows of the sheet, merged cells filled."""
        self._merged = MergedCells(self._book.merged(self._chosen))
        for row in self._book.rows(self._chosen):
            self._merged.fill(row)
            yield row

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
        hint = "the first row contains the headings, each further row one recipient"
        for row in self._filled_rows():
            if not _filled(row.cells):
                continue
            if row.number > MAX_GAP:
                hint = f"the first cell with content is {_first(row)}: move the table up"
                break
            texts = [_shown(cell) for cell in row.cells]
            while not texts[-1].strip():
                texts.pop()
            header, problems = read_header(texts, row.number, lambda at: self._place(row.number, None, at))  # noqa: B023
            if problems:
                raise list_error(self.shown, problems)
            return header
        raise self._error("D102", f'the sheet "{self.sheet}" is empty', hint)

    def copies(self, rows: Container[int]) -> Iterator[tuple[int, tuple[SheetCell, ...]]]:
        """Yield the chosen rows as they are in the sheet, without the columns that are not the list's own."""
        width = self.header.width
        for row, cells in self._book.copies(self._chosen):
            if row in rows:
                found = [*cells, *[SheetCell(None, "n")] * (width - len(cells))]
                yield row, tuple(found[position] for position in self.header.kept)

    def _conceals(self, rows: list[int]) -> ListError:
        first = ", ".join(map(str, rows[:5])) + (" …" if len(rows) > 5 else "")
        what = f"row {first} is" if len(rows) == 1 else f"{len(rows):,} rows are"
        which = "" if len(rows) == 1 else f" ({first})"
        return self._error(
            "D121", f'in the sheet "{self.sheet}" {what} hidden or filtered out{which}', _HIDDEN_HINT
        )

    def _refuse_merged(self) -> None:
        """Refuse headings that are merged: it is not certain which columns they stand for."""
        header = self.header
        inside = [
            one
            for one in self._book.merged(self._chosen)
            if one.top <= header.row <= one.bottom
            and one.left <= header.width
            and (one.left < one.right or header.row < one.bottom)
        ]
        if not inside:
            return
        more = f" (and {len(inside) - 1} more ranges)" if len(inside) > 1 else ""
        hint = "unmerge them: one row has the headings, each in a cell of its own"
        if inside[0].top == header.row == inside[0].bottom:
            hint = "if it is a title above the table, remove it: the first row must contain the headings"
        name = inside[0].name
        raise self._error("D126", f'in the sheet "{self.sheet}" the cells {name} are merged{more}', hint)

    def _end(self, row: SheetRow) -> Diagnostic:
        """Say that what is so far below the list is no part of it."""
        stray = _first(row)
        return Diagnostic(
            code="D128",
            message=f"the list ends at {MAX_GAP:,} blank rows: {stray} and what follows is left out",
            hint="delete what is there, or move it up",
            severity=Severity.WARNING,
            place=Place(path=self.shown, cell=f"sheet {self.sheet}, cell {stray}"),
        )

    def _error(self, code: str, message: str, hint: str) -> ListError:
        place = Place(path=self.shown, cell=f"sheet {self.sheet}")
        return ListError(message, code=code, hint=hint, place=place)


def open_workbook(path: Path, shown: str, kind: Kind) -> Workbook:
    """Open a workbook of any kind.

    Raises:
        ListError: it is not one, encrypted, damaged, or would unpack to more than any list.

    """
    if kind is XLS:
        from mailmerge.recipients.xls_workbook import XlsWorkbook

        return XlsWorkbook(path, shown)
    if kind is not XLSX:
        from mailmerge.recipients.opendocument import OpenDocument

        return OpenDocument(path, shown, flat=kind is FODS)
    book = _open_xlsx(path, shown)
    if path.suffix.lower() not in kind.suffixes:
        book.kind = "XLSX"
    return book


def _open_xlsx(path: Path, shown: str) -> Workbook:
    """Open a workbook of Excel's format; what we cannot put together, openpyxl may try."""
    from mailmerge.recipients.xlsx import XlsxWorkbook

    try:
        return XlsxWorkbook(path, shown)
    except ListError as error:
        if error.code != "D124" or isinstance(error.__cause__, DocumentTypeError | BadZipFile):
            raise
        from mailmerge.recipients.openpyxl_workbook import OpenpyxlWorkbook

        try:
            return OpenpyxlWorkbook(path, shown)
        except ListError:  # what openpyxl says about it would help nobody
            raise error from None


_HIDDEN_HINT = 'show them, or decide in [data]: hidden = "skip" or hidden = "send"'


def _choose(sheets: Sequence[Sheet], wanted: str | None, shown: str) -> Sheet:
    """Take the sheet by name, else the first one that can be seen."""
    if not sheets:
        raise damaged(shown, "it has no worksheet")
    if wanted is None:
        return next((sheet for sheet in sheets if sheet.visible), sheets[0])
    names = {sheet.name: sheet for sheet in sheets}
    if wanted in names:
        return names[wanted]
    listed = "the sheets are: " + ", ".join(f'"{name}"' for name in names)
    guess = did_you_mean(wanted, names)
    hint = f"{guess} {listed}" if guess else listed
    raise ListError(f'{shown} has no sheet "{wanted}"', code="D122", hint=hint, place=Place(path=shown))


def sheets_as_text(path: Path, shown: str) -> Iterator[tuple[str, Iterator[tuple[int, list[str]]]]]:
    """Yield each sheet of a workbook with its rows as texts, hidden ones too.

    Raises:
        ListError: it cannot be read, or has rows so far down that they could be overlooked.

    """
    book = open_workbook(path, shown, find_kind(path, shown))
    for sheet in book.sheets:
        yield sheet.name, _texts(book, sheet)


def _texts(book: Workbook, sheet: Sheet) -> Iterator[tuple[int, list[str]]]:
    before = 0
    for row in book.rows(sheet):
        if row.number - before > MAX_GAP and _filled(row.cells):
            stray = _first(row)
            raise ListError(
                f'in the sheet "{sheet.name}" {stray} comes after more than {MAX_GAP:,} blank rows',
                code="D128",
                hint="delete what is there, or move it up",
                place=Place(path=book.shown, cell=f"sheet {sheet.name}, cell {stray}"),
            )
        before = row.number
        yield row.number, [_shown(cell) for cell in row.cells]


def _filled(cells: Sequence[Cell | CellError]) -> bool:
    return any(not isinstance(cell, str) or cell.strip() for cell in cells)


def _first(row: SheetRow) -> str:
    """Name the first cell of a row that has something in it."""
    return next(cell_name(row.number, at) for at, cell in enumerate(row.cells, 1) if _filled([cell]))


def _shown(cell: Cell | CellError) -> str:
    return str(cell.shown or "formula" if isinstance(cell, CellError) else displayed(cell))
