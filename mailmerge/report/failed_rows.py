"""``failed.csv`` or ``failed.xlsx``: the rows that failed, to be corrected and used as a list.

The file has the list's format, and the list's own rows: reading it back gives the same values as the list, to
the last digit, with types and formats. Our columns follow: what went wrong.
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
    """Return the name of the file, which has the format of the list."""
    return _WORKBOOK if workbook else _TEXT


def write_failed_text(
    out: OutputFolder, headings: Iterable[str], rows: Sequence[tuple[Iterable[object], Result, str]]
) -> int:
    """Write ``failed.csv`` and return how many rows it has; without any, no file is left.

    Args:
        out: the folder of results.
        headings: the headings of the list's own columns.
        rows: the list's own cells, before types and defaults; the result of each row, and its mark.

    Raises:
        FileError: it cannot be written.

    """
    if rows:
        with out.writing(_TEXT) as path, files.replace_text(path) as table:
            table.write(FOR_EXCEL)
            writer = csv.writer(table, lineterminator="\r\n")
            writer.writerow([*headings, *OWN_COLUMNS])
            for cells, result, mark in rows:
                # The list's own cells are unchanged; reading the key removes its guard.
                writer.writerow([*map(displayed, cells), *map(text_cell, _ours(result)), mark])
    _keep(out, _TEXT if rows else None)
    return len(rows)


def write_failed_workbook(
    out: OutputFolder,
    sheet: str,
    headings: Iterable[str],
    rows: Sequence[tuple[Iterable[SheetCell], Result, str]],
) -> int:
    """Write ``failed.xlsx`` and return how many rows it has; without any, no file is left.

    Args:
        out: the folder of results.
        sheet: the name of the list's sheet, which becomes that of the file's only sheet.
        headings: the headings of the list's own columns.
        rows: the list's own cells as in the sheet, the result of each row, and its mark.

    Raises:
        FileError: it cannot be written.

    """
    if rows:
        from mailmerge.report.results_workbook import write_copies

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
    """Yield the cells of `OWN_COLUMNS` except the mark."""
    delivery = result.delivery
    yield result.status.value
    yield str((delivery.code if delivery else None) or "")
    yield (delivery.reply if delivery else "") or result.detail
    yield str(result.row or "")
    yield result.key


def _keep(out: OutputFolder, newest: str | None) -> None:
    """Remove the failed rows of an earlier run: an old file would be wrong about this one."""
    for name in {_TEXT, _WORKBOOK} - {newest}:
        out.remove(name)
