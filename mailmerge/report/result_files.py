"""Results as tables: ``results.csv``, ``results.jsonl``, and data frames.

A column is declared once, in `COLUMNS`, for every form of the results, including the workbook.

Files are written under a temporary name and then moved into place, readable by their owner only.
"""

from __future__ import annotations

import csv
import re
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, Literal

from msgspec import Struct
from msgspec.json import Encoder

from mailmerge import files
from mailmerge.model import Result, Status
from mailmerge.text import guarded, guarded_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    import pandas as pd

    from mailmerge.output_folder import OutputFolder

TABLE, LINES = "results.csv", "results.jsonl"
FAILED = frozenset({Status.REJECTED, Status.EXPIRED, Status.BOUNCED, Status.INVALID})
FOR_EXCEL = "\ufeff"  # this mark at the start makes Excel read the file as UTF-8
_LONGEST = 32_767
"""Most characters in a cell of a workbook."""
_LIKE_AN_ESCAPE = re.compile(r"_(?=x[0-9A-Fa-f]{4}_)")
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f]")
_ILLEGAL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")

Record = dict[str, str | int | None]
"""One result as plain values by column, times in ISO 8601 and UTC."""


class ResultColumn(Struct, frozen=True):
    """One column of the results, in every form in which they are written.

    Args:
        name: its heading; also the attribute that it shows, unless *attribute* names another one.
        width: its width in a workbook, in characters.
        kind: a data frame distinguishes whole numbers that may be missing, and times, from text.
        of_delivery: whether it is an attribute of the row's delivery: empty for rows that were never
            contacted.

    """

    name: str
    width: int
    kind: Literal["text", "number", "time"] = "text"
    of_delivery: bool = False
    attribute: str = ""


COLUMNS = (
    ResultColumn("row", 8, "number"),
    ResultColumn("key", 28),
    ResultColumn("address", 32),
    ResultColumn("status", 12, attribute="status.value"),
    ResultColumn("detail", 36),
    ResultColumn("code", 8, "number", of_delivery=True),
    ResultColumn("enhanced", 10, of_delivery=True),
    ResultColumn("reply", 60, of_delivery=True),
    ResultColumn("attempts", 10, "number", of_delivery=True),
    ResultColumn("phase", 10, of_delivery=True),
    ResultColumn("message_id", 40, of_delivery=True),
    ResultColumn("first_attempt", 22, "time", of_delivery=True),
    ResultColumn("updated", 22, "time", of_delivery=True),
    ResultColumn("next_at", 22, "time", of_delivery=True),
    ResultColumn("bounce", 24, of_delivery=True),
)
"""All columns: those of the row first, then those of its delivery."""

NAMES = tuple(column.name for column in COLUMNS)
_TIMES = tuple(column.name for column in COLUMNS if column.kind == "time")
_of_result = attrgetter(*(c.attribute or c.name for c in COLUMNS if not c.of_delivery))
_of_delivery = attrgetter(*(c.attribute or c.name for c in COLUMNS if c.of_delivery))
_NO_DELIVERY = (None,) * sum(column.of_delivery for column in COLUMNS)


def record(result: Result) -> Record:
    """Return one result as the values of `COLUMNS`."""
    delivery = result.delivery
    if delivery is None:
        return dict(zip(NAMES, _of_result(result) + _NO_DELIVERY, strict=True))
    values: Record = dict(zip(NAMES, _of_result(result) + _of_delivery(delivery), strict=True))
    for name in _TIMES:
        if values[name] is not None:
            values[name] = _time(values[name])
    return values


@lru_cache(maxsize=512)  # the rows of one window share these
def _time(moment: datetime | None) -> str | None:
    return moment.isoformat(timespec="seconds") if moment else None


def text_cell(value: str | int | None) -> str:
    """Return a value that is safe in a spreadsheet: text that would be a formula gets an apostrophe."""
    return guarded(value) if isinstance(value, str) else "" if value is None else str(value)


def cell_text(value: str | int | None) -> str:
    """Return a value as a workbook's text: characters that XML forbids are escaped, and its length is cut."""
    text = "" if value is None else str(value)
    shown = _ILLEGAL.sub(lambda found: found[0].encode("unicode_escape").decode("ascii"), text)
    return shown[:_LONGEST]


def workbook_text(text: str) -> str:
    """Return text in the form in which a workbook has it, so that spreadsheet programs show it unchanged.

    XML allows no control characters and reads a carriage return as a line feed: the format has escapes
    (``_x000D_``), and one for what looks like one of them.
    """
    shown = _LIKE_AN_ESCAPE.sub("_x005F_", text)
    return _CONTROL.sub(lambda found: f"_x{ord(found[0]):04X}_", shown)


class ReportFiles:
    """Writes ``results.csv`` and ``results.jsonl`` in parallel, row by row."""

    def __init__(self, out: OutputFolder) -> None:
        self._out = out

    def write(self, results: Iterable[Result], seen: Callable[[Result], None]) -> None:
        """Write both files in one pass; *seen* is called with every result.

        Raises:
            FileError: the folder cannot be written.

        """
        with (
            self._out.writing(TABLE) as table_path,
            self._out.writing(LINES) as lines_path,
            files.replace_text(table_path) as table,
            files.replace_text(lines_path) as json_lines,
        ):
            table.write(FOR_EXCEL)
            writer = csv.writer(table, lineterminator="\r\n")
            writer.writerow(NAMES)
            encode = Encoder().encode
            for result in results:
                values = record(result)
                writer.writerow(guarded_row(values.values()))
                json_lines.write(encode(values).decode() + "\n")
                seen(result)


def to_frame(records: Iterable[Record]) -> pd.DataFrame:
    """Return a pandas data frame with the columns of ``results.csv``: nullable numbers, times in UTC."""
    import pandas as pd

    columns: dict[str, list[str | int | None]] = {name: [] for name in NAMES}
    for one in records:
        for name, values in columns.items():
            values.append(one[name])
    frame = pd.DataFrame(columns, columns=list(NAMES))
    for column in COLUMNS:
        if column.kind == "time":
            frame[column.name] = pd.to_datetime(frame[column.name], utc=True, format="ISO8601")
        else:
            frame[column.name] = frame[column.name].astype("Int64" if column.kind == "number" else "string")
    return frame
