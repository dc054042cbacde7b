"""One sheet of a workbook as a list, whichever kind of workbook it is."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING
from zipfile import BadZipFile

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.address_column import has_address
from mailmerge.recipients.csv_errors import is_row_number, row_numbers, unnamed
from mailmerge.recipients.heading_row import LOOKED_AT, read_headings
from mailmerge.recipients.kinds import FODS, XLS, XLSX, find_kind
from mailmerge.recipients.other_rows import OtherRows
from mailmerge.recipients.recipient_list import (
    MAX_PROBLEMS,
    CellError,
    Options,
    RecipientList,
    Record,
    SheetCell,
    list_error,
)
from mailmerge.recipients.sheet_traits import LinkedCells, MergedCells
from mailmerge.recipients.table_choice import Heads, choose_table, cut
from mailmerge.recipients.understanding import Understanding
from mailmerge.recipients.workbook import MAX_GAP, cell_name
from mailmerge.recipients.xlsx_package import DocumentTypeError
from mailmerge.suggest import word
from mailmerge.text import quoted
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Sequence
    from pathlib import Path

    from mailmerge.options import Hidden
    from mailmerge.recipients.heading_row import NumberedRow
    from mailmerge.recipients.kinds import FileKind
    from mailmerge.recipients.recipient_list import HeaderRow
    from mailmerge.recipients.workbook import Range, Sheet, SheetRow, Workbook
    from mailmerge.values import Cell


class WorkbookList(RecipientList):
    """One sheet of a workbook.

    What only the end of the sheet shows (which rows are hidden) is reported when the rows have been read.
    """

    def __init__(
        self,
        workbook: Workbook,
        path: Path,
        options: Options,
        *,
        sheet: str | None,
        area: str | None = None,
        header_row: int | None = None,
        hidden: Hidden,
    ) -> None:
        self.path = path
        self.shown = shown = workbook.shown
        self._book = workbook
        heads = Heads(workbook, self._heads)
        table = choose_table(workbook, heads, sheet=sheet, area=area, whole=header_row is not None)
        self._chosen = chosen = table.sheet
        self._table = table
        self.sheet = chosen.name
        if not chosen.visible and hidden == "refuse":
            raise self._error(
                "D121",
                f'the sheet "{chosen.name}" is hidden',
                f"`preview --hidden send` shows its rows; {_HIDDEN_HINT}",
            )
        header = self._read_header(heads, header_row)
        super().__init__(path, shown, header, options)
        self.addresses = self._others.names
        self.hidden_columns = _within(workbook.hidden_columns(chosen), header)
        self._plain = False
        self._hidden = hidden
        self._refuse_merged()
        self.understanding = Understanding(
            workbook.kind,
            sheet=chosen.name,
            why_sheet=table.why,
            area=table.told,
            program=workbook.program,
            heading_row=header.row,
            upper=header.upper,
            above=header.above,
            addresses=self.addresses,
        )

    def about_rows(self) -> int:
        """Return roughly how many rows the sheet has."""
        return self._book.about_rows(self._chosen)

    def _records(self) -> Iterator[Record]:
        header, others = self.header, self._others
        problems: list[Diagnostic] = []
        concealed: list[int] = []
        links = LinkedCells(
            self._book.links(self._chosen),
            frozenset(position + 1 for position in header.kept if position not in self._unread),
        )
        sign, at = others.sign
        blank, before = 0, header.row
        for found in self._rows_below(header.row):
            row, cells = found.number, found.cells
            blank, before = blank + row - before - 1, row
            if not _filled(cells):
                blank += 1
                continue
            self.blank_rows += blank  # rows below the last one do not count
            blank = 0
            if found.hidden and self._hidden == "refuse":
                concealed.append(row)
            if found.hidden and self._hidden == "skip":
                self.hidden_rows += 1
                continue
            if sign and not _has(sign, cells, at) and others.is_other(row, None, [*map(_told, cells)]):
                continue
            problems += self._outside(row, cells)
            if len(problems) >= MAX_PROBLEMS:
                break
            links.look(found)
            if not problems and not concealed:
                yield row, None, cells + [""] * (header.width - len(cells))
        self._book.close()
        if concealed:
            raise self._conceals(concealed)
        if problems:
            raise list_error(self.shown, problems[:MAX_PROBLEMS])
        self._tell_others()
        self._warn(*self._merged.warnings(self.shown, self.sheet, header.row, header.width))
        self._warn(*links.warnings(self.shown, self.sheet))

    def _warn(self, *warnings: Diagnostic) -> None:
        """Add the warnings found while rows were read, once however often they are read."""
        self.warnings = (*(one for one in self.warnings if one not in warnings), *warnings)

    def _rows_below(self, header_row: int) -> Iterator[SheetRow]:
        """Yield the rows of the sheet down to the end of the list, without cells that are not part of it."""
        before, area = header_row, self._table.area
        for row in self._filled_rows():
            if area is not None:
                if row.number > area.bottom + area.totals:
                    if self._table.found:
                        self._refuse_forgotten(row, area)
                    continue
                row.cells = [*[""] * (area.left - 1), *row.cells[area.left - 1 : area.right]]
            if row.number - before > MAX_GAP and _filled(row.cells):
                self._warn(self._end(row))
                return
            before = max(before, row.number)
            if row.number > header_row:
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
        numbered = 0 in unknown
        told = any(one.code == "D244" for one in self.warnings)
        if numbered and not told and cells and is_row_number(_shown(cells[0]).strip(), 0):
            self._warn(row_numbers(Place(path=self.shown, cell=f"sheet {self.sheet}, column A")))
        return [
            unnamed(_shown(cell), f"column {cell_name(row, at + 1).rstrip('0123456789')}", place, row)
            for at, cell in enumerate(cells)
            if (at >= header.width or at in unknown)
            and (shown := _shown(cell).strip())
            and not (numbered and is_row_number(shown, at))
            for place in (self._place(row, None, at),)
        ]

    def _heads(self, sheet: Sheet) -> Iterator[NumberedRow]:
        """Yield the first rows of a sheet that have content."""
        before = 0
        for row in self._book.rows(sheet):
            if _filled(row.cells):
                if row.number - before > MAX_GAP:
                    return
                before = row.number
                yield row.number, [_shown(cell) for cell in row.cells]

    def _read_header(self, heads: Heads, wanted: int | None) -> HeaderRow:
        area = self._table.area
        rows = [row for row in (cut(one, area) for one in self._first_rows(heads, area, wanted)) if row]
        if not rows:
            raise self._empty()
        texts = [(number, _without_end(cells)) for number, cells in rows]
        if area is not None and wanted is None:
            wanted = rows[0][0]
        header = read_headings(texts, wanted, self.shown, lambda row, at: self._place(row, None, at))
        totals = frozenset(range(area.bottom + 1, area.bottom + 1 + area.totals)) if area else frozenset()
        self.others = self._others = OtherRows(
            header, texts, self.shown, lambda row, _line: self._place(row, None, 0), totals=totals
        )
        return header

    def _first_rows(self, heads: Heads, area: Range | None, wanted: int | None) -> Iterable[NumberedRow]:
        """Return the rows in which the headings are searched for."""
        if area is None and wanted is None:
            return heads.rows(self._chosen)[:LOOKED_AT]
        first = max(area.top if area else 1, wanted or 1)
        below = (row for row in self._heads(self._chosen) if row[0] >= first)
        above = (row for row in self._heads(self._chosen) if row[0] < first)
        return [*above, *islice(below, LOOKED_AT)]

    def _empty(self) -> ListError:
        if self._table.area is not None:
            cells = self._table.name or self._table.area.name
            return self._error(
                "D206", f'the cells {cells} of the sheet "{self.sheet}" are empty', "specify others"
            )
        hint = "the first row contains the headings, each further row one recipient"
        first = next((row for row in self._book.rows(self._chosen) if _filled(row.cells)), None)
        if first is not None:
            hint = f"the first cell with content is {_first(first)}: move the table up"
        return self._error("D102", f'the sheet "{self.sheet}" is empty', hint)

    def _refuse_forgotten(self, row: SheetRow, area: Range) -> None:
        """Refuse to leave out people below a table that nobody specified."""
        at = self._others.addresses
        cell = row.cells[at] if 0 <= at < len(row.cells) else ""
        if isinstance(cell, str) and has_address(cell):
            raise self._error(
                "D205",
                f"row {row.number} has an address, but is below the table {quoted(self._table.name)} "
                f'({area.name}) of the sheet "{self.sheet}"',
                f"add it to the table, or specify what the list is: --header {self.header.row} for all below "
                f"the headings, or --range {word(self._table.name)} for the table alone",
            )

    def copies(self, rows: Container[int]) -> Iterator[tuple[int, tuple[SheetCell, ...]]]:
        """Yield the chosen rows as in the sheet, without columns that are not part of the list."""
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
            "D121",
            f'in the sheet "{self.sheet}" {what} hidden or filtered out{which}',
            f"`preview --hidden send --rows {','.join(map(str, rows[:5]))}` shows them; {_HIDDEN_HINT}",
        )

    def _refuse_merged(self) -> None:
        """Refuse headings that are merged: it is not certain which columns they belong to."""
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
        hint = "unmerge them: one row must contain the headings, each in its own cell"
        if inside[0].top == header.row == inside[0].bottom:
            hint = "if it is a title above the table, remove it: the first row must contain the headings"
        name = inside[0].name
        raise self._error("D126", f'in the sheet "{self.sheet}" the cells {name} are merged{more}', hint)

    def _end(self, row: SheetRow) -> Diagnostic:
        """Warn that content far below the list is not part of it."""
        stray = _first(row)
        return Diagnostic(
            code="D128",
            message=f"the list ends at {MAX_GAP:,} blank rows: {stray} and everything below is left out",
            hint="delete the content there, or move it up",
            severity=Severity.WARNING,
            place=Place(path=self.shown, cell=f"sheet {self.sheet}, cell {stray}"),
        )

    def _error(self, code: str, message: str, hint: str) -> ListError:
        place = Place(path=self.shown, cell=f"sheet {self.sheet}")
        return ListError(message, code=code, hint=hint, place=place)


def _within(concealed: Sequence[range], header: HeaderRow) -> frozenset[str]:
    """Return the names of the list's columns that are in one of the ranges."""
    pairs = zip(header.columns.names, header.kept, strict=True)
    return frozenset(name for name, at in pairs if any(at + 1 in columns for columns in concealed))


def open_workbook(path: Path, shown: str, kind: FileKind) -> Workbook:
    """Open a workbook of any kind.

    Raises:
        ListError: it is not a workbook, or is encrypted, damaged, or larger when unpacked than any list.

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
    """Open a workbook in Excel's format; openpyxl tries what we cannot assemble."""
    from mailmerge.recipients.xlsx import XlsxWorkbook

    try:
        return XlsxWorkbook(path, shown)
    except ListError as error:
        if error.code != "D124" or isinstance(error.__cause__, DocumentTypeError | BadZipFile):
            raise
        from mailmerge.recipients.openpyxl_workbook import OpenpyxlWorkbook

        try:
            return OpenpyxlWorkbook(path, shown)
        except ListError:  # openpyxl's message would help nobody
            raise error from None


_HIDDEN_HINT = "unhide them, or decide: --hidden skip or --hidden send (`hidden` of [data] in campaign.toml)"


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
                hint="delete the content there, or move it up",
                place=Place(path=book.shown, cell=f"sheet {sheet.name}, cell {stray}"),
            )
        before = row.number
        yield row.number, [_shown(cell) for cell in row.cells]


def _filled(cells: Sequence[Cell | CellError]) -> bool:
    return any(not isinstance(cell, str) or cell.strip() for cell in reversed(cells))


def _has(sign: str, cells: Sequence[Cell | CellError], at: int) -> bool:
    cell = cells[at] if at < len(cells) else ""
    return isinstance(cell, str) and sign in cell


def _told(cell: Cell | CellError) -> str:
    """Return a cell's text for judging its row: a failed or unknown result counts as a number."""
    return "0" if isinstance(cell, CellError) else str(displayed(cell))


def _without_end(cells: Sequence[str]) -> list[str]:
    """Leave out the blank cells at the end of a row."""
    end = next((at for at in range(len(cells), 0, -1) if cells[at - 1].strip()), 0)
    return [*cells[:end]]


def _first(row: SheetRow) -> str:
    """Return the name of the first cell with content in a row."""
    return next(cell_name(row.number, at) for at, cell in enumerate(row.cells, 1) if _filled([cell]))


def _shown(cell: Cell | CellError) -> str:
    return str(cell.shown or "formula" if isinstance(cell, CellError) else displayed(cell))
