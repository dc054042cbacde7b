"""Declared types of columns: ``types = { due = "date:%d/%m/%Y", amount = "decimal:de" }``."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from functools import lru_cache, partial
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import CampaignFileError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Diagnostic, Place
from mailmerge.text import excerpt, toml_key
from mailmerge.values import Date, DateTime, Number, Truth, displayed, notation
from mailmerge.values.locale_numbers import NOTATIONS, Notation, locales_reading, plainly

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mailmerge.values import Cell

_INTEGER = lazy_re(r"[+-]?[0-9]+\Z")
_REMEMBERED = 4096
"""Number of texts whose values are cached per type: dates and amounts of a list recur."""
_TIME_OF_DAY = lazy_re(r"%[-#]?[HIMSfpXcT]")


class CellType(Struct, frozen=True):
    """One type: how to read a cell, and how to describe what it expects."""

    column: str
    wanted: str
    """A description of the type: ``an integer``."""
    hint: str
    read: Callable[[Cell], Cell]
    """Converts a cell; raises ValueError if it does not fit."""
    others: Callable[[str], Iterable[str]] | None = None
    """Returns the types that read text which does not fit this one."""

    def misfit(self, cell: Cell, place: Place, row: int) -> Diagnostic:
        """Return the diagnostic for a cell that does not fit."""
        text = displayed(cell)
        hint = self.hint
        others = [f'"{name}"' for name in self.others(text)] if self.others else []
        if others:
            hint = f"types = {{ {toml_key(self.column)} = {' or '.join(others)} }} would read it; or {hint}"
        message = f'"{excerpt(text)}" is not {self.wanted}'
        return Diagnostic(code="D130", message=message, hint=hint, place=place, row=row)

    def default(self, text: str, name: str) -> Cell:
        """Return the column's default as a value.

        Raises:
            CampaignFileError: it does not fit the type.

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
    """Read a type's name: ``text``, ``integer``, ``decimal``, ``date`` or ``boolean``.

    ``decimal:de`` and ``integer:de`` read numbers as a locale writes them (CLDR's names: ``de``, ``de_CH``,
    ``en_IN``), ``date:%d/%m/%Y`` dates in a format of `datetime.strptime`.

    Raises:
        CampaignFileError: the type does not exist, or the date format or the locale is not valid.

    """
    name, colon, pattern = spec.partition(":")
    name = name.strip()
    if name == "date":
        return (
            _date_type(pattern, column)
            if colon
            else CellType(column, "a date", _ISO_HINT, _iso_date, _date_types)
        )
    if colon and name in {"decimal", "integer"}:
        return _number_type(name, pattern.strip(), column)
    if not colon and name in _TYPES:
        wanted, hint, read = _TYPES[name]
        others = partial(_number_types, name) if name in {"decimal", "integer"} else None
        return CellType(column, wanted, hint, read, others)
    raise CampaignFileError(
        f'`data.types.{column}`: "{spec}" is not a valid type',
        code="C421",
        hint="types are: text, integer, decimal, decimal:de, date, date:%d/%m/%Y, boolean",
    )


def number_type(locale: str) -> str:
    """Return the name of the type of a column whose notation was found."""
    return f"decimal:{locale}"


def notation_of(locale: str) -> Notation | None:
    """Return how a locale writes numbers according to CLDR; None: CLDR does not have the locale."""
    known = NOTATIONS.get(locale)
    if known is not None:
        return known
    from babel import Locale, UnknownLocaleError

    try:
        found = Locale.parse(locale.replace("-", "_"))
    except (UnknownLocaleError, ValueError, TypeError):
        return None
    systems = [found.number_symbols.get(name, {}) for name in (found.default_numbering_system, "latn")]
    decimal, groups = (
        "".join(dict.fromkeys(plainly(f"0{system.get(name, sign)}0")[1:-1] for system in systems))
        for name, sign in (("decimal", "."), ("group", ","))
    )
    return Notation(decimal, groups, found.decimal_formats[None].grouping[1] == 2)


def _number_type(name: str, locale: str, column: str) -> CellType:
    written = notation_of(locale)
    if written is None:
        raise CampaignFileError(
            f'`data.types.{column}`: "{locale}" is not a known locale',
            code="C421",
            hint=f"a locale is a language, and a country where that matters: {name}:de, {name}:fr, "
            f"{name}:de_CH, {name}:en_IN",
        )
    whole = name == "integer"

    def read(cell: Cell) -> Cell:
        if isinstance(cell, str):
            return read_text(cell.strip())
        if isinstance(cell, Number):
            return checked(cell)
        raise ValueError

    @lru_cache(maxsize=_REMEMBERED)
    def read_text(text: str) -> Cell:
        value = written.read(text)
        if value is None:
            raise ValueError
        return checked(Number(value, text))

    def checked(number: Number) -> Cell:
        if whole and number.value != number.value.to_integral_value():
            raise ValueError
        return number

    kind = "a whole number" if whole else "a number"
    example = f"1{written.groups[0]}234" + ("" if whole else f"{written.decimal[0]}50")
    hint = f"this column's numbers look like {example}"
    return CellType(column, f"{kind} as {locale} writes it", hint, read, partial(_number_types, name))


def _number_types(name: str, text: str) -> list[str]:
    """Return the names of the types that read text; if they disagree about it, all of them."""
    return [
        f"{name}:{locale}"
        for number, locale in locales_reading(text).items()
        if name == "decimal" or number == number.to_integral_value()
    ]


def _integer(cell: Cell) -> Cell:
    if isinstance(cell, str):
        text = cell.strip()
        if _INTEGER.match(text):
            return Number(Decimal(text), text)
    if isinstance(cell, Number) and cell.value == cell.value.to_integral_value():
        return cell
    raise ValueError


def _decimal(cell: Cell) -> Cell:
    if isinstance(cell, str):
        return _read_decimal(cell.strip())
    if isinstance(cell, Number):
        return cell
    raise ValueError


@lru_cache(maxsize=_REMEMBERED)
def _read_decimal(text: str) -> Cell:
    number = notation.read_number(text, exponent=True)
    if number is None:
        raise ValueError
    return Number(number, text)


def _boolean(cell: Cell) -> Cell:
    if isinstance(cell, Truth):
        return cell
    answer = notation.read_truth(displayed(cell))
    if answer is None:
        raise ValueError
    return Truth(answer, displayed(cell).strip())


def _iso_date(cell: Cell) -> Cell:
    if isinstance(cell, str):  # first: the usual case, and the quickest check
        return _read_iso_date(cell.strip())
    if isinstance(cell, DateTime):
        return Date(cell.value.date(), None, cell.canonical)
    if isinstance(cell, Date):
        return cell
    raise ValueError


@lru_cache(maxsize=_REMEMBERED)
def _read_iso_date(text: str) -> Cell:
    return Date(date.fromisoformat(text), text)


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
        if isinstance(cell, str):
            return read_text(cell.strip())
        return cell if with_time and isinstance(cell, Date | DateTime) else _iso_date(cell)

    @lru_cache(maxsize=_REMEMBERED)
    def read_text(text: str) -> Cell:
        try:
            found = datetime.strptime(text, pattern)  # noqa: DTZ007
        except ValueError:
            # Year first is never ambiguous, and failed.csv writes the dates of workbooks like this.
            found = datetime.fromisoformat(text)
        return DateTime(found, text) if with_time else Date(found.date(), text)

    kind = "a date and time" if with_time else "a date"
    hint = f"this column's dates look like {probe.strftime(pattern)}"
    return CellType(column, kind, hint, read, None if with_time else _date_types)


_DATE_FORMATS = (
    *("%d.%m.%Y", "%d.%m.%y", "%d/%m/%Y", "%m/%d/%Y", "%d/%m/%y", "%m/%d/%y", "%d-%m-%Y", "%m-%d-%Y"),
    *("%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日", "%d %B %Y", "%d %b %Y", "%B %d, %Y", "%b %d, %Y", "%d-%b-%Y"),
)
"""Common formats of dates; if several of them read a date, only the author can decide."""


def _date_types(text: str) -> list[str]:
    read: dict[date, str] = {}
    for pattern in _DATE_FORMATS:
        try:
            moment = datetime.strptime(text.strip(), pattern)  # noqa: DTZ007
        except ValueError:
            continue
        read.setdefault(moment.date(), f"date:{pattern}")
    return list(read.values())


def _is_date_format(pattern: str, probe: datetime) -> bool:
    try:
        return datetime.strptime(probe.strftime(pattern), pattern).date() == probe.date()  # noqa: DTZ007
    except ValueError:
        return False


_ISO_HINT = "write dates as 2026-11-28, or specify their format: date:%d/%m/%Y"
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
