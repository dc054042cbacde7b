"""The plain files of a report: ``results.csv``, ``results.jsonl`` and ``failed.csv``.

All are written to a temporary name first and then moved into place, readable by their owner only.
"""

from __future__ import annotations

import csv
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec.json import Encoder

from mailmerge import files
from mailmerge.model import Result, Status

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime
    from pathlib import Path

COLUMNS = (
    "row",
    "key",
    "address",
    "status",
    "detail",
    "code",
    "enhanced",
    "reply",
    "attempts",
    "phase",
    "message_id",
    "first_attempt",
    "updated",
    "next_at",
)
KEY_COLUMN = "mailmerge_key"
"""The column of ``failed.csv`` that says who a row is, whatever becomes of the list meanwhile."""
FAILED_COLUMNS = ("mailmerge_status", "mailmerge_code", "mailmerge_reply", "mailmerge_row", KEY_COLUMN)
"""Added to the list's own columns in ``failed.csv``, and ignored when it is used as a list."""

FAILED = frozenset({Status.REJECTED, Status.EXPIRED, Status.INVALID})
_FOR_EXCEL = "\ufeff"  # this mark at the start makes Excel read the file as UTF-8
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def record(result: Result) -> dict[str, str | int | None]:
    """One result as the values of `COLUMNS`; times in ISO 8601, UTC."""
    delivery = result.delivery
    values: dict[str, str | int | None] = {
        "row": result.row,
        "key": result.key,
        "address": result.address,
        "status": result.status.value,
        "detail": result.detail,
        **dict.fromkeys(COLUMNS[5:]),
    }
    if delivery:
        values |= {
            "code": delivery.code,
            "enhanced": delivery.enhanced,
            "reply": delivery.reply,
            "attempts": delivery.attempts,
            "phase": delivery.phase,
            "message_id": delivery.message_id,
            "first_attempt": _time(delivery.first_attempt),
            "updated": _time(delivery.updated),
            "next_at": _time(delivery.next_at),
        }
    return values


@lru_cache(maxsize=512)  # the rows of one window share theirs
def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def text_cell(value: str | int | None) -> str:
    """Make a value safe for a spreadsheet: text that would start a formula gets an apostrophe in front."""
    text = "" if value is None else str(value)
    return "'" + text if text.startswith(_FORMULA) else text


class ReportFiles:
    """Writes ``results.csv`` and ``results.jsonl`` side by side, row by row."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def write(self, results: Iterable[Result], seen: Callable[[Result], None]) -> None:
        """Write both files in one pass; *seen* is told of every result.

        Raises:
            FileError: the folder cannot be written.

        """
        with (
            files.replace_text(self._folder / "results.csv") as table,
            files.replace_text(self._folder / "results.jsonl") as json_lines,
        ):
            table.write(_FOR_EXCEL)
            writer = csv.writer(table, lineterminator="\r\n")
            writer.writerow(COLUMNS)
            encode = Encoder().encode
            for result in results:
                values = record(result)
                writer.writerow([text_cell(value) for value in values.values()])
                json_lines.write(encode(values).decode() + "\n")
                seen(result)

    def write_failed(self, headings: Iterable[str], rows: Iterable[tuple[Iterable[object], Result]]) -> int:
        """Write ``failed.csv``: the list's own columns and values as they were, then what went wrong.

        Returns how many rows it holds; without any the file is removed.
        """
        path = self._folder / "failed.csv"
        count = 0
        with files.replace_text(path) as table:
            table.write(_FOR_EXCEL)
            writer = csv.writer(table, lineterminator="\r\n")
            writer.writerow([*headings, *FAILED_COLUMNS])
            for cells, result in rows:
                writer.writerow([*map(str, cells), *_failure(result)])
                count += 1
        if not count:
            files.remove_file(path)
        return count


def _failure(result: Result) -> Iterator[str]:
    delivery = result.delivery
    yield result.status.value
    yield text_cell(delivery.code if delivery else None)
    yield text_cell((delivery.reply if delivery else "") or result.detail)
    yield text_cell(result.row)
    yield result.key  # as it is, like the list's own cells: it must be found again
