"""Types that a campaign gives to columns: ``types = { due = "date:%d/%m/%Y" }``."""

from __future__ import annotations

import re
from datetime import date, datetime
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import CampaignFileError
from mailmerge.model import Diagnostic, Place
from mailmerge.text import excerpt
from mailmerge.values import Date, DateTime, Number, Truth, displayed, notation

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.values import Cell

_INTEGER = r"[+-]?[0-9]+\Z"
_TIME_OF_DAY = re.compile(r"%[-#]?[HIMSfpXcT]")


class CellType(Struct, frozen=True):
    """One type: how to read a cell, and how to say what it wants."""

    column: str
    wanted: str
    """The type in words: ``an integer``."""
    hint: str
    read: Callable[[Cell], Cell]
    """Raises ValueError for a cell that does not fit."""

    def misfit(self, cell: Cell, place: Place, row: int) -> Diagnostic:
        """Say that a cell does not fit."""
        message = f'"{excerpt(displayed(cell))}" is not {self.wanted}'
        return Diagnostic(code="D130", message=message, hint=self.hint, place=place, row=row)

    def default(self, text: str, name: str) -> Cell:
        """Read the column's default.

        Raises:
            CampaignFileError: it does not fit the type either.

        """
        try:
            return self.read(text) if text.strip() else text
        except ValueError:
            raise CampaignFileError(
                f'`data.defaults.{name}`: "{text}" is not {self.wanted}',
                code="C421",
                hint=self.hint,
            ) from None


def cell_type(spec: str, column: str) -> CellType:
    """Read a type's name: ``text``, ``integer``, ``decimal``, ``date``, ``date:FORMAT`` or ``boolean``.

    Raises:
        CampaignFileError: there is no such type, or the date format is no format.

    """
    name, colon, pattern = spec.partition(":")
    name = name.strip()
    if name == "date":
        return _date_type(pattern, column) if colon else CellType(column, "a date", _ISO_HINT, _iso_date)
    if not colon and name in _TYPES:
        wanted, hint, read = _TYPES[name]
        return CellType(column, wanted, hint, read)
    raise CampaignFileError(
        f'`data.types.{column}`: there is no type "{spec}"',
        code="C421",
        hint="types are: text, integer, decimal, date, date:%d/%m/%Y, boolean",
    )


def _integer(cell: Cell) -> Cell:
    if isinstance(cell, str) and re.match(_INTEGER, cell.strip()):
        return Number(Decimal(cell.strip()), cell.strip())
    if isinstance(cell, Number) and cell.value == cell.value.to_integral_value():
        return cell
    raise ValueError


def _decimal(cell: Cell) -> Cell:
    if isinstance(cell, Number):
        return cell
    number = notation.read_number(cell, exponent=True) if isinstance(cell, str) else None
    if number is None:
        raise ValueError
    return Number(number, displayed(cell).strip())


def _boolean(cell: Cell) -> Cell:
    if isinstance(cell, Truth):
        return cell
    answer = notation.read_truth(displayed(cell))
    if answer is None:
        raise ValueError
    return Truth(answer, displayed(cell).strip())


def _iso_date(cell: Cell) -> Cell:
    if isinstance(cell, DateTime):
        return Date(cell.value.date(), None, cell.canonical)
    if isinstance(cell, Date):
        return cell
    text = _text(cell)
    return Date(date.fromisoformat(text), text)


def _text(cell: Cell) -> str:
    if isinstance(cell, str):
        return cell.strip()
    raise ValueError


def _date_type(pattern: str, column: str) -> CellType:
    with_time = bool(_TIME_OF_DAY.search(pattern))
    probe = datetime(2026, 11, 28, 13, 45)  # noqa: DTZ001  a cell's date has no time zone
    if not _is_date_format(pattern, probe):
        raise CampaignFileError(
            f'`data.types.{column}`: "{pattern}" is not a date format',
            code="C421",
            hint="a format names day, month and year: date:%d/%m/%Y, date:%Y-%m-%d, date:%d %B %Y",
        )

    def read(cell: Cell) -> Cell:
        if isinstance(cell, Date | DateTime):
            return cell if with_time else _iso_date(cell)
        text = _text(cell)
        try:
            found = datetime.strptime(text, pattern)  # noqa: DTZ007
        except ValueError:
            # Year first is never ambiguous, and failed.csv writes what a workbook held as a date like this.
            found = datetime.fromisoformat(text)
        return DateTime(found, text) if with_time else Date(found.date(), text)

    kind = "a date and time" if with_time else "a date"
    return CellType(column, kind, f"this column's dates look like {probe.strftime(pattern)}", read)


def _is_date_format(pattern: str, probe: datetime) -> bool:
    try:
        return datetime.strptime(probe.strftime(pattern), pattern).date() == probe.date()  # noqa: DTZ007
    except ValueError:
        return False


_ISO_HINT = "write dates as 2026-11-28, or name their format: date:%d/%m/%Y"
_TYPES: dict[str, tuple[str, str, Callable[[Cell], Cell]]] = {
    "text": ("text", "", displayed),
    "integer": ("an integer", "digits only: no decimals, no thousands separator", _integer),
    "decimal": (
        "a decimal number",
        "write 1234.50: a point for the decimals, no thousands separator",
        _decimal,
    ),
    "boolean": ("a yes or no", "use yes or no, true or false, 1 or 0", _boolean),
}
