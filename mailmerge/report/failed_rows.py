"""``failed.csv`` or ``failed.xlsx``: the rows that failed, to be corrected and used as a list.

The file is of the list's own kind, and its rows are the list's own: what is read back from it is what the
list gave, to the last digit and with types and formats. Behind them come columns of ours: what went wrong.
"""

from __future__ import annotations

import csv
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.model import OWN_COLUMNS
from mailmerge.recipients.recipient_list import SheetCell
from mailmerge.report.result_files import FOR_EXCEL, cell_text, text_cell
from mailmerge.values import displayed

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.model import Result
    from mailmerge.output_folder import OutputFolder

_TEXT = "failed.csv"
_WORKBOOK = "failed.xlsx"


def failed_name(*, workbook: bool) -> str:
    """Name the file: it is of the same kind as the list."""
    return _WORKBOOK if workbook else _TEXT


def write_failed_text(
    out: OutputFolder, headings: Iterable[str], rows: Sequence[tuple[Iterable[object], Result, str]]
) -> int:
    """Write ``failed.csv`` and return how many rows it has; without any there is no file.

    Args:
        out: where it goes.
        headings: of the list's own columns.
        rows: the list's own cells, before types and defaults; what became of each row, and its mark.

    Raises:
        FileError: it cannot be written.

    """
    if rows:
        with out.writing(_TEXT) as path, files.replace_text(path) as table:
            table.write(FOR_EXCEL)
            writer = csv.writer(table, lineterminator="\r\n")
            writer.writerow([*headings, *OWN_COLUMNS])
            for cells, result, mark in rows:
                # The list's own cells are as they are; the key is read as it was before it was guarded.
                writer.writerow([*map(displayed, cells), *map(text_cell, _ours(result)), mark])
    _keep(out, _TEXT if rows else None)
    return len(rows)


def write_failed_workbook(
    out: OutputFolder,
    sheet: str,
    headings: Iterable[str],
    rows: Sequence[tuple[Iterable[SheetCell], Result, str]],
) -> int:
    """Write ``failed.xlsx`` and return how many rows it has; without any there is no file.

    Args:
        out: where it goes.
        sheet: the name of the list's sheet, which will be that of its only one.
        headings: of the list's own columns.
        rows: the list's own cells as they are in the sheet, and what became of each row, and its mark.

    Raises:
        FileError: it cannot be written.

    """
    if rows:
        from mailmerge.report.workbook import write_copies

        def copies() -> Iterator[list[SheetCell]]:
            for cells, result, mark in rows:
                *said, key = _ours(result)
                yield [
                    *cells,
                    *(SheetCell(text, "s") for text in (*map(cell_text, said), key, mark)),
                ]

        with out.writing(_WORKBOOK) as path:
            write_copies(path, sheet, [*headings, *OWN_COLUMNS], copies())
    _keep(out, _WORKBOOK if rows else None)
    return len(rows)


def _ours(result: Result) -> Iterator[str]:
    """Yield the cells of `OWN_COLUMNS` but the mark."""
    delivery = result.delivery
    yield result.status.value
    yield str((delivery.code if delivery else None) or "")
    yield (delivery.reply if delivery else "") or result.detail
    yield str(result.row or "")
    yield result.key


def _keep(out: OutputFolder, newest: str | None) -> None:
    """Remove the failed rows of an earlier run: an old file would tell of this one what is not true."""
    for name in {_TEXT, _WORKBOOK} - {newest}:
        out.remove(name)
