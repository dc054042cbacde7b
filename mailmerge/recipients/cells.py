"""Workbook cells to values, as a person sees them in the sheet.

Texts stay as they are; whole numbers are integers, with leading zeros (as text) where the format asks for
them; other numbers are decimals; dates, times and booleans are themselves. Percent and currency signs belong
to the format and are left to the template's filters: 26 % is 0.26.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING

from mailmerge.recipients.numbers import plain_number, with_leading_zeros
from mailmerge.recipients.recipient_list import MAX_CELL, CellError

if TYPE_CHECKING:
    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell

    from mailmerge.model import Value

_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LITERAL = re.compile(r'\\.|"[^"]*"|\[(?!hh?\]|mm?\]|ss?\])[^\]]*\]|_.|\*.', re.IGNORECASE)


def cell_value(cell: ReadOnlyCell | EmptyCell) -> Value | CellError:
    """Turn a cell into a value; an empty cell is the empty string."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        return CellError(
            "D131",
            f"the cell shows the error {value}",
            "fix the formula in the sheet, or empty the cell",
            str(value),
        )
    if isinstance(value, datetime | date | time | timedelta):
        return _moment(value, cell.number_format)
    if isinstance(value, int | float) and not isinstance(value, bool):
        return _number(value, cell.number_format)
    return value if isinstance(value, bool) else _text(str(value))


def uncalculated() -> CellError:
    """Stand in for a formula whose result was never saved."""
    return CellError(
        "D132",
        "the cell contains a formula that was never calculated",
        "open and save it in your spreadsheet program: this stores the results",
        "",
    )


def _text(value: str) -> Value | CellError:
    if len(value) > MAX_CELL:
        message = f"a cell of {len(value):,} characters; at most {MAX_CELL:,} can be used"
        return CellError("D109", message, "shorten it", value[:40] + "…")
    if "_x" in value:  # how the file format writes control characters
        return _ESCAPED.sub(
            lambda match: chr(int(match[1], 16)) if int(match[1], 16) < 32 else match[0], value
        )
    return value


def _number(value: float, number_format: str) -> Value:
    number = plain_number(value) if isinstance(value, float) else value
    if isinstance(number, int):
        return with_leading_zeros(number, number_format) or number
    return number


def _moment(value: datetime | date | time | timedelta, number_format: str) -> Value | CellError:
    if isinstance(value, timedelta):
        return _duration(value, number_format)
    has_date, has_time = _parts(number_format)
    if isinstance(value, time):
        if has_date and not has_time:
            return CellError(
                "D134",
                f"the cell is formatted as a date but contains the time {value}",
                "correct the date, or empty the cell",
                str(value),
            )
        return value.replace(microsecond=0)
    if isinstance(value, datetime):
        value = (value + timedelta(milliseconds=500)).replace(microsecond=0)
        if has_date and not has_time:
            return value.date()
        if has_time and not has_date:
            return value.time()
    return value


def _duration(value: timedelta, number_format: str) -> str:
    minutes, seconds = divmod(round(value.total_seconds()), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}" + (f":{seconds:02}" if "s" in number_format.lower() else "")


@lru_cache(maxsize=256)
def _parts(number_format: str) -> tuple[bool, bool]:
    """Whether a format shows a date, and whether it shows a time of day; ``m`` may be either."""
    plain = _LITERAL.sub("", number_format.partition(";")[0]).lower()
    has_time = "h" in plain or "s" in plain.replace("am/pm", "")
    has_date = "d" in plain or "y" in plain or ("m" in plain and not has_time)
    return has_date, has_time
