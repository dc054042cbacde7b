"""Converts workbook cells to our cells, as a person sees them in the sheet.

Text stays as it is; numbers, dates, times, durations and booleans are values whose displayed text comes from
their number format. Identity and comparison use the number alone.
"""

from __future__ import annotations

import math
import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mailmerge.recipients.recipient_list import MAX_CELL, CellError, long_cell
from mailmerge.values import (
    Date,
    DateTime,
    Duration,
    Number,
    Time,
    Truth,
    Value,
    canonical,
    kind_of,
    value_of,
)
from mailmerge.values.notation import number_text
from mailmerge.values.number_format import EPOCH, EPOCH_1904, number_format
from mailmerge.values.number_format.digits import SIGNIFICANT
from mailmerge.values.value import EARLY_DATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from openpyxl.cell.read_only import EmptyCell, ReadOnlyCell

    from mailmerge.values import Cell


"""Significant digits that a spreadsheet keeps and shows; a float's further digits are noise (0.1 + 0.2)."""
_ESCAPED = re.compile(r"_x([0-9A-Fa-f]{4})_")


def cell_value(cell: ReadOnlyCell | EmptyCell) -> Cell | CellError:
    """Turn a cell into a value; an empty cell is the empty string."""
    value = cell.value
    if value is None:
        return ""
    if cell.data_type == "e":
        return error_cell(str(value))
    if isinstance(value, bool):
        return Truth(value)
    if isinstance(value, datetime | date | time | timedelta):
        return _openpyxl_moment(cell, value)
    if isinstance(value, int | float):
        number = exact_number(value)
        return str(value) if number is None else formatted_cell(number, cell.number_format)
    cell_text = text_cell(str(value))
    write = text_format(cell.number_format)
    return write(cell_text).strip() if write and isinstance(cell_text, str) else cell_text


def _openpyxl_moment(cell: Any, value: Any) -> Cell | CellError:
    """Return the number of days from which openpyxl made a date, time or duration."""
    from openpyxl.utils.datetime import MAC_EPOCH
    from openpyxl.utils.datetime import to_excel as days_until

    epoch = cell.parent.parent.epoch
    days: Any = days_until(value, epoch)  # type: ignore[no-untyped-call]
    return formatted_cell(Decimal(repr(days)), cell.number_format, date_1904=epoch == MAC_EPOCH)


def unreadable(error: Exception) -> CellError:
    """Return the `CellError` for a cell that cannot be understood because of *error*."""
    why = f"{type(error).__name__}: {error}".partition("\n")[0]
    return CellError(
        "D165", f"the cell cannot be read ({why})", "type its value again, or empty the cell", ""
    )


def error_cell(shown: str) -> CellError:
    """Return the `CellError` for a cell that shows an error such as ``#N/A``."""
    return CellError(
        "D131",
        f"the cell shows the error {shown}",
        "correct the formula in the sheet, or empty the cell",
        shown,
    )


def object_cell(given: Any) -> Cell:
    """Turn a Python object into a cell: None and NaN are empty, an unknown type becomes its ``str``."""
    if given is None:
        return ""
    if isinstance(given, str):
        return str.__str__(given)  # plain `str`: one that declares itself safe HTML is a cell like any other
    value = given.item() if hasattr(given, "item") else given  # a NumPy scalar
    if isinstance(value, datetime) and value != value:  # noqa: PLR0124  pandas' NaT
        return ""
    if isinstance(value, float | Decimal):
        return _number_cell(value)
    return str.__str__(str(value)) if kind_of(value) in {None, str} else value_of(value)


def _number_cell(value: float | Decimal) -> Cell:
    kind = Decimal(value)
    if not kind.is_finite():
        return "" if kind.is_nan() else str(value)
    exact = exact_number(value) if isinstance(value, float) else value
    return value_of(exact)


def uncalculated() -> CellError:
    """Return the `CellError` for a formula whose result was never saved."""
    return CellError(
        "D132",
        "the cell contains a formula that was never calculated",
        "open it in Excel and save it; in LibreOffice calculate first (Ctrl+Shift+F9), then save it",
        "",
    )


def exact_number(number: float) -> Decimal | None:
    """Return the decimal number that was typed, without binary noise; None if infinite or not a number."""
    if isinstance(number, int):
        return Decimal(number)
    if not math.isfinite(number):
        return None
    if number.is_integer() and abs(number) < 2**53:  # as many digits as floats can distinguish
        return Decimal(int(number))
    shown = f"{number:.{SIGNIFICANT}g}"
    return Decimal(shown if abs(number) < 10**SIGNIFICANT else repr(float(shown)))


def text_cell(value: str) -> Cell | CellError:
    """Turn a string of a workbook into a cell, decoding escapes such as ``_x000D_`` (ST_Xstring)."""
    if "_x" in value:
        value = _ESCAPED.sub(_unescaped, value)
    return long_cell(value) if len(value) > MAX_CELL else value


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return found[0] if 0xD800 <= code < 0xE000 else chr(code)


MAX_FORMAT = 255
"""Most characters of a number format, as in spreadsheet programs."""
MOMENTS = frozenset({"date", "datetime", "time", "duration"})
"""Kinds of number formats that show a number as a date, a time or a duration."""
DAY_0 = datetime.fromordinal(EPOCH)
DAY_0_1904 = datetime.fromordinal(EPOCH_1904)
"""What dates are counted from in workbooks; the dates of a sheet have no time zone."""
_QUICK_DAYS = 2_900_000
"""Whole days before the year 9839 need no time of day."""
_MARCH_1900 = 61
"""Before this day Excel is a day ahead of LibreOffice: it counts 29 February 1900, which did not exist."""
DATED = frozenset({"date", "datetime"})
_MILLISECONDS = 86_400_000


def text_format(code: str) -> Callable[[str], str] | None:
    """Return the formatter of text for a format such as ``"Dear "@``; None if text is shown unchanged."""
    if "@" not in code and code.count(";") < 3:
        return None
    write = number_format(code).text
    return None if write("x").strip() == "x" else write


def formatted_cell(number: Decimal, code: str, *, date_1904: bool = False) -> Cell | CellError:
    """Make a cell from a number of a workbook, displayed by its number format.

    Args:
        number: days since the workbook's epoch where the format shows dates or times.
        code: the number format.
        date_1904: whether days are counted from 1904.

    """
    compiled = number_format(code)
    size = float(number)
    shown = compiled.show(size, EPOCH_1904 if date_1904 else EPOCH)
    if shown is None:
        return _not_shown(number, code)
    shown = shown.strip()  # room left for a bracket or a minus is column layout
    if compiled.kind in MOMENTS:
        try:
            cell = _moment(size, compiled.kind, shown, date_1904=date_1904)
        except OverflowError:  # a time format shows any number, but the day does not exist
            return _not_shown(number, code)
    else:
        cell = Number(number, None if shown == number_text(number) else shown)
    early = size < _MARCH_1900 and compiled.kind in DATED and not date_1904
    if (early or compiled.problem or compiled.system) and isinstance(cell, Value):
        return replace(cell, unsure=EARLY_DATE if early else code)
    return cell


def _not_shown(number: Decimal, code: str) -> CellError:
    return CellError(
        "D171",
        f"its format ({code}) cannot show the number {number_text(number)}",
        "correct the number, or give the cell another format",
        "",
    )


def _moment(serial: float, kind: str, shown: str, *, date_1904: bool) -> Cell | CellError:
    if kind == "duration":
        return Duration(timedelta(seconds=round(serial * 86_400)), shown)
    if kind == "date" and 1 <= serial < _QUICK_DAYS and serial.is_integer():
        return Date(date.fromordinal((EPOCH_1904 if date_1904 else EPOCH) + int(serial)), shown)
    moment = moment_of(serial, date_1904=date_1904)
    if kind == "time":
        return (
            Time(moment, shown) if isinstance(moment, time) else Time(moment.time(), shown, canonical(moment))
        )
    if isinstance(moment, time):
        why = f"is formatted as a date but contains the time {moment}"
        return CellError("D134", f"the cell {why}", "correct the date, or empty the cell", shown)
    if kind == "datetime":
        return DateTime(moment, shown)
    exact = canonical(moment)
    day = moment.date()
    return Date(day, shown, exact if exact != canonical(day) else None)


def moment_of(serial: float, *, date_1904: bool) -> datetime | time:
    """Turn days since the epoch into a datetime, to the second, or a time of day if there is none.

    Raises:
        OverflowError: the year is out of range.

    """
    whole, fraction = divmod(serial, 1)
    rest = timedelta(seconds=(round(fraction * _MILLISECONDS) + 500) // 1000)
    if 0 <= serial < 1 and not rest.days and not date_1904:
        return (DAY_0 + rest).time()
    return (DAY_0_1904 if date_1904 else DAY_0) + timedelta(days=whole) + rest
