"""A copy of the user's own list with three columns more: what became of each row."""

from __future__ import annotations

import csv
from copy import copy
from typing import TYPE_CHECKING, Any

from mailmerge import files
from mailmerge.model import OWN_COLUMNS
from mailmerge.report.result_files import cell_text, text_cell

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mailmerge.model import Result

_WIDTHS = {"mailmerge_status": 16, "mailmerge_code": 12, "mailmerge_reply": 60}
COPY_COLUMNS = tuple(name for name in OWN_COLUMNS if name in _WIDTHS)
"""Status, code, and the server's words or why there are none."""


def copy_text(
    source: Path, target: Path, results: Iterable[Result], *, encoding: str, delimiter: str, header_row: int
) -> int:
    """Copy a text list, its own cells byte for byte as they are, and give the number of rows marked.

    Args:
        source: the list.
        target: the copy.
        results: one for each row, in the list's order.
        encoding: of both.
        delimiter: of both.
        header_row: number of the record that holds the headings, from 1.

    Raises:
        OSError: one of the files cannot be read or written.

    """
    marks = _Marks(results)
    with (
        source.open(encoding=encoding, newline="") as file,
        files.replace_text(target, encoding=encoding, named=True) as stream,
    ):
        ours: list[int] = []
        for row, (cells, raw) in enumerate(_records(file, delimiter), 1):
            if row < header_row or not any(map(str.strip, cells)):
                stream.write(raw)
                continue
            if row == header_row:
                names = [cell.strip().lower() for cell in cells]
                ours = [names.index(name) for name in COPY_COLUMNS if name in names]
                added: tuple[str, ...] = COPY_COLUMNS
            else:
                added = tuple(map(text_cell, marks.of(row)))
            stream.write(_extended(raw, cells, ours, added, delimiter))
    return marks.count


def _records(file: Iterable[str], delimiter: str) -> Iterator[tuple[list[str], str]]:
    """Yield each record with the very text it was read from."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    for cells in csv.reader(lines(), delimiter=delimiter, strict=True):
        yield cells, "".join(taken)
        taken.clear()


def _extended(raw: str, cells: list[str], ours: list[int], added: Iterable[str], delimiter: str) -> str:
    """Put our cells behind a record; those that an earlier copy put there are dropped."""
    text = raw.rstrip("\r\n")
    end = raw[len(text) :]
    if ours:
        text = _written([cell for at, cell in enumerate(cells) if at not in ours], delimiter)
    return text + delimiter + _written(added, delimiter) + end


def _written(cells: Iterable[str], delimiter: str) -> str:
    lines: list[str] = []
    writer = csv.writer(_Lines(lines), delimiter=delimiter, lineterminator="")
    writer.writerow(cells)
    return "".join(lines)


class _Lines:
    """As much of a file as `csv.writer` needs."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, text: str) -> None:
        """Take a line."""
        self._lines.append(text)


def copy_workbook(
    source: Path, target: Path, results: Iterable[Result], *, sheet: str, header_row: int
) -> int:
    """Copy a workbook with all its sheets and styles, and give the number of rows marked.

    Args:
        source: the list.
        target: the copy; macros stay only in an ``.xlsm``.
        results: one for each row, in the list's order.
        sheet: name of the sheet that is the list.
        header_row: the row with the headings.

    Raises:
        OSError: one of the files cannot be read or written.

    """
    from openpyxl import load_workbook

    from mailmerge.report.workbook import save_workbook

    book = load_workbook(source, keep_vba=target.suffix.lower() == ".xlsm")
    page: Any = book[sheet]
    first = _own_column(page, header_row)
    for offset, name in enumerate(COPY_COLUMNS):
        head = page.cell(header_row, first + offset)
        _put(head, name)
        _style(head, page.cell(header_row, first - 1) if first > 1 else None)
        page.column_dimensions[head.column_letter].width = _WIDTHS[name]
    marks = _Marks(results)
    for row in range(header_row + 1, page.max_row + 1):
        for offset, text in enumerate(marks.of(row)):
            _put(page.cell(row, first + offset), text)
    with files.replace_file(target, named=True) as stream:
        save_workbook(book, stream)
    return marks.count


def _own_column(page: Any, header_row: int) -> int:
    """Find where our columns begin: where an earlier copy put them, else behind the last heading."""
    last = 0
    for cell in page[header_row]:
        if str(cell.value or "").strip().lower() == COPY_COLUMNS[0]:
            return int(cell.column)
        if cell.value is not None:
            last = int(cell.column)
    return last + 1


def _put(cell: Any, text: str) -> None:
    cell.value = cell_text(text)
    # Text beginning with "=" would become a formula otherwise.
    cell.data_type = "s"


def _style(cell: Any, model: Any | None) -> None:
    if model is not None and model.has_style:
        for part in ("font", "fill", "border", "alignment"):
            setattr(cell, part, copy(getattr(model, part)))


class _Marks:
    """What to write beside each row; both sides come in the list's order."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = (result for result in results if result.row is not None)
        self._next = next(self._results, None)
        self.count = 0

    def of(self, row: int) -> tuple[str, str, str]:
        """Return the three texts for a row: empty ones for a row that the ledger does not list."""
        result = self._next
        while result is not None and (result.row or 0) < row:
            result = self._next = next(self._results, None)
        if result is None or result.row != row:
            return "", "", ""
        self.count += 1
        delivery = result.delivery
        code = f"{delivery.code or ''} {delivery.enhanced}".strip() if delivery else ""
        return result.status.value, code, (delivery.reply if delivery else "") or result.detail
