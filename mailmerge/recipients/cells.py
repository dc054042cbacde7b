"""Workbook cells to cells of ours, as a person sees them in the sheet.

Texts stay as they are; numbers, dates, times, durations and booleans are values, shown with leading zeros or
elapsed hours where the format asks for them. Percent and currency signs belong to the format and are left to
the template's filters: 26 % is 0.26.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from mailmerge.recipients.recipient_list import MAX_CELL, NO_RESULT, CellError, SheetCell, long_cell
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth, canonical, kind_of, value_of

if TYPE_CHECKING:
    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell

    from mailmerge.values import Cell


UNREADABLE = "unreadable"
"""The type of a cell that the reader could not make sense of; its value says why."""
_SIGNIFICANT = 15
"""Digits that a spreadsheet keeps and shows; a float's further digits are noise (0.1 + 0.2)."""
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")
_LITERAL = re.compile(r'\\.|"[^"]*"|\[(?!hh?\]|mm?\]|ss?\])[^\]]*\]|_.|\*.', re.IGNORECASE)
_AROUND_ZEROS = re.compile(r'\\(.)|"([^"]*)"|\[\$[^\]]*\]|_.|\*.')


def cell_value(cell: ReadOnlyCell | EmptyCell) -> Cell | CellError:
    """Turn a cell into a value; an empty cell is the empty string."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type in {UNREADABLE, "e"}:
        return _unusable(cell.data_type, value)
    if isinstance(value, datetime | date | time | timedelta):
        return _moment(value, cell.number_format)
    if isinstance(value, bool):
        return Truth(value)
    if isinstance(value, int | float):
        return _number(value, cell.number_format)
    return _text(str(value))


def _unusable(data_type: str, value: object) -> CellError:
    if data_type == UNREADABLE:
        return CellError(
            "D165", f"the cell cannot be read ({value})", "type its value again, or empty the cell", ""
        )
    return CellError(
        "D131",
        f"the cell shows the error {value}",
        "correct the formula in the sheet, or empty the cell",
        str(value),
    )


def sheet_cell(cell: ReadOnlyCell | EmptyCell, *, uncalculated: bool = False) -> SheetCell:
    """Take a cell as it is in the sheet, for a copy; a formula is its result, and an error without one."""
    if uncalculated:
        return SheetCell(NO_RESULT, "e")
    if cell.value is None:
        return SheetCell(None, "n")
    if cell.data_type == UNREADABLE:
        return SheetCell("#VALUE!", "e")
    if isinstance(cell.value, float) and not math.isfinite(cell.value):
        return SheetCell(str(cell.value), "s")  # as `cell_value` reads it; no file can have it as a number
    return SheetCell(cell.value, cell.data_type, cell.number_format or "General")


def object_cell(given: Any) -> Cell:
    """Turn an object of a program into a cell: None and NaN are empty, of unknown types it is the text."""
    if given is None:
        return ""
    if isinstance(given, str):
        return str.__str__(given)  # exactly a text: one that calls itself safe HTML is a cell like any other
    value = given.item() if hasattr(given, "item") else given  # a NumPy scalar
    if isinstance(value, datetime) and value != value:  # noqa: PLR0124  pandas' NaT
        return ""
    if isinstance(value, float | Decimal) and not math.isfinite(value):
        return "" if math.isnan(value) else str(value)
    if isinstance(value, float):
        number = exact_number(value)
        return str(value) if number is None else Number(number)
    return str.__str__(str(value)) if kind_of(value) in {None, str} else value_of(value)


def uncalculated() -> CellError:
    """Stand in for a formula whose result was never saved."""
    return CellError(
        "D132",
        "the cell contains a formula that was never calculated",
        "open and save it in your spreadsheet program: this stores the results",
        "",
    )


def exact_number(number: float) -> Decimal | None:
    """Give the decimal number that was typed, without binary noise; None: it is infinite or no number."""
    if isinstance(number, int):
        return Decimal(number)
    if not math.isfinite(number):
        return None
    if number.is_integer() and abs(number) < 2**53:  # as far as floats tell one from the next
        return Decimal(int(number))
    return Decimal(repr(float(f"{number:.{_SIGNIFICANT}g}")))


def with_leading_zeros(number: int, number_format: str) -> str | None:
    """Write a whole number by a format of zeros, ``00000`` or ``000-0000``; None: it is not such a format."""
    pattern = _zeros(number_format)
    if pattern is None or number < 0:
        return None
    digits = list(str(number).rjust(pattern.count("0"), "0"))
    shown = [digits.pop() if char == "0" else char for char in reversed(pattern)]
    return "".join(digits) + "".join(reversed(shown))


def _text(value: str) -> Cell | CellError:
    if len(value) > MAX_CELL:
        return long_cell(value)
    if "_x" in value:  # how the file format writes control characters
        return _ESCAPED.sub(
            lambda match: chr(int(match[1], 16)) if int(match[1], 16) < 32 else match[0], value
        )
    return value


def _number(value: float, number_format: str) -> Cell:
    number = exact_number(value)
    if number is None:
        return str(value)
    shown = None
    if number_format != "General" and number == number.to_integral_value():
        shown = with_leading_zeros(int(number), number_format)
    return Number(number, shown)


def _moment(value: datetime | date | time | timedelta, number_format: str) -> Cell | CellError:
    if isinstance(value, timedelta):
        return _duration(value, number_format)
    has_date, has_time = _parts(number_format)
    if isinstance(value, datetime):
        moment = (value + timedelta(milliseconds=500)).replace(microsecond=0)
        if has_date and not has_time:
            return _day_of(moment)
        return Time(moment.time(), None, canonical(moment)) if has_time and not has_date else DateTime(moment)
    if isinstance(value, date):
        return Date(value)
    if has_date and not has_time:
        return CellError(
            "D134",
            f"the cell is formatted as a date but contains the time {value}",
            "correct the date, or empty the cell",
            str(value),
        )
    return Time(value.replace(microsecond=0))


def _day_of(moment: datetime) -> Date:
    """Take the day that a format shows; what it hides still belongs to the cell's identity."""
    exact = canonical(moment)
    day = moment.date()
    return Date(day, None, exact if exact != canonical(day) else None)


def _duration(value: timedelta, number_format: str) -> Duration:
    duration = timedelta(seconds=round(value.total_seconds()))
    minutes, seconds = divmod(abs(duration) // timedelta(seconds=1), 60)
    sign = "-" if duration < timedelta() else ""
    shown = f"{sign}{minutes // 60}:{minutes % 60:02}"
    return Duration(duration, shown + (f":{seconds:02}" if "s" in number_format.lower() else ""))


@lru_cache(maxsize=256)
def _parts(number_format: str) -> tuple[bool, bool]:
    """Whether a format shows a date, and whether it shows a time of day; ``m`` may be either."""
    plain = _LITERAL.sub("", number_format.partition(";")[0]).lower()
    has_time = "h" in plain or "s" in plain.replace("am/pm", "")
    has_date = "d" in plain or "y" in plain or ("m" in plain and not has_time)
    return has_date, has_time


@lru_cache(maxsize=256)
def _zeros(number_format: str) -> str | None:
    """Reduce a format to zeros and the separators between them, if it has nothing else."""
    pattern = _AROUND_ZEROS.sub(lambda match: match[1] or match[2] or "", number_format.partition(";")[0])
    return pattern if pattern.count("0") > 1 and re.fullmatch(r"0[0 /()-]*0", pattern) else None
