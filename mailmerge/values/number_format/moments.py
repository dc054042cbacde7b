"""Dates, times of day and durations: a number of days, as a format writes it.

Days are counted from 30 December 1899, like LibreOffice, or from 1 January 1904. Excel treats 1900 as a leap
year: before 1 March 1900 it is a day ahead.
"""

from __future__ import annotations

from datetime import date
from math import floor
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from mailmerge.values.number_format.syntax import FormatPart, UnknownFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailmerge.values.number_format.languages import Language, Numerals

EPOCH = date(1899, 12, 30).toordinal()
EPOCH_1904 = date(1904, 1, 1).toordinal()
_LAST = date.max.toordinal()
_DAY = 86_400
_MOST_DAYS = 1e9
_MOST_KEPT = 20_000
"""How many days' texts a format keeps: a list has the same few again and again."""

_YEAR, _MONTH, _DAY_OF_MONTH, _HOUR, _MINUTE, _SECOND, _HALF, _SHORT_YEAR, _FRACTION, _DATE = range(10)
_ELAPSED = {"hour": 10, "minute": 11, "second": 12}
"""Where a piece finds what it writes, in the tuple that a number is split into."""
_SIZES = {"hour": 3600, "minute": 60, "second": 1}
_UNITS = {"h": "hour", "s": "second", "d": "day", "y": "year"}
_FIELDS = {"hour": _HOUR, "minute": _MINUTE, "second": _SECOND}

_ERAS = (
    (date(2019, 5, 1), "令和", "R"),
    (date(1989, 1, 8), "平成", "H"),
    (date(1926, 12, 25), "昭和", "S"),
    (date(1912, 7, 30), "大正", "T"),
    (date(1868, 1, 1), "明治", "M"),
)
_MINGUO = 1911
_BUDDHIST = 543
_ZERO = FormatPart("digit", "0")


class _NumberPiece:
    """A piece that writes one of the numbers in a fixed way."""

    __slots__ = ("index", "template")

    def __init__(self, index: int, template: str) -> None:
        self.index = index
        self.template = template

    def __call__(self, moment: tuple[Any, ...]) -> str:
        return self.template % (moment[self.index],)


if TYPE_CHECKING:
    Piece = str | Callable[[tuple[Any, ...]], str]


def moment_section(
    parts: Sequence[FormatPart], language: Language, numerals: Numerals | None = None
) -> Callable[[float, int], str | None]:
    """Compile a section that shows a date, a time or a duration, in *numerals* if not in digits.

    Raises:
        UnknownFormat: it mixes them with digits, or has an unknown letter.

    """
    reader = _MomentCompiler(parts, language)
    pieces = reader.pieces()
    if numerals is not None:
        pieces = [
            _in_numerals(piece, numerals) if isinstance(piece, _NumberPiece) else piece for piece in pieces
        ]
    write = _joined(pieces, language.digits)
    if reader.elapsed:
        return _duration(write, reader)
    if reader.dated:
        return _datetime(write, reader.decimals) if reader.timed else _day(write)
    return _time(write, reader.decimals)


def _joined(pieces: Sequence[Piece], digits: str) -> Callable[[tuple[Any, ...]], str | None]:
    numerals = str.maketrans(dict(zip("0123456789", digits, strict=True))) if digits else None
    fields = [piece for piece in pieces if isinstance(piece, _NumberPiece)]
    if len(fields) > 1 and not numerals and all(isinstance(piece, str | _NumberPiece) for piece in pieces):
        template = "".join(
            [
                piece.template if isinstance(piece, _NumberPiece) else str(piece).replace("%", "%%")
                for piece in pieces
            ]
        )
        take = itemgetter(*[field.index for field in fields])
        return lambda moment: template % take(moment)

    def write(moment: tuple[Any, ...]) -> str | None:
        try:
            text = "".join([piece if isinstance(piece, str) else piece(moment) for piece in pieces])
        except LookupError:  # before the first era
            return None
        return text.translate(numerals) if numerals else text

    return write


def _in_numerals(field: _NumberPiece, numerals: Numerals) -> Piece:
    """Write a year digit by digit, 二〇二六, and any other number as it is spoken, 三十一."""
    if field.index in {_YEAR, _SHORT_YEAR, _FRACTION} or not numerals.tens:
        return lambda moment: numerals.replaced(field(moment))

    def write(moment: tuple[Any, ...]) -> str:
        number = moment[field.index]
        return numerals.short(number) if number < 100 else numerals.replaced(field(moment))

    return write


def _day(write: Callable[[tuple[Any, ...]], str | None]) -> Callable[[float, int], str | None]:
    known: dict[int, str | None] = {}

    def show(number: float, epoch: int) -> str | None:
        ordinal = floor(number) + epoch
        if ordinal in known:
            return known[ordinal]
        if not 1 <= ordinal <= _LAST:
            return None
        day = date.fromordinal(ordinal)
        if len(known) >= _MOST_KEPT:
            known.clear()
        found = known[ordinal] = write((day.year, day.month, day.day, 0, 0, 0, 12, day.year % 100, "", day))
        return found

    return show


def _datetime(
    write: Callable[[tuple[Any, ...]], str | None], decimals: int
) -> Callable[[float, int], str | None]:
    # A second that is nearly over is not rounded up, but a day is: it would be the wrong one.
    midnight = _DAY - 0.5 * 10.0**-decimals

    def show(number: float, epoch: int) -> str | None:
        whole = floor(number)
        raw = (number - whole) * _DAY
        if raw >= midnight:
            whole, raw = whole + 1, 0.0
        ordinal = whole + epoch
        if not 1 <= ordinal <= _LAST:
            return None
        day = date.fromordinal(ordinal)
        seconds, fraction = _cut(raw, whole, decimals)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        year = day.year
        return write(
            (year, day.month, day.day, hour, minute, second, hour % 12 or 12, year % 100, fraction, day)
        )

    return show


def _time(
    write: Callable[[tuple[Any, ...]], str | None], decimals: int
) -> Callable[[float, int], str | None]:
    def show(number: float, _epoch: int) -> str | None:
        whole = floor(number)
        seconds, fraction = _cut((number - whole) * _DAY, whole, decimals)
        minutes, second = divmod(seconds, 60)
        hour, minute = divmod(minutes, 60)
        return write((0, 0, 0, hour % 24, minute, second, hour % 12 or 12, 0, fraction, None))

    return show


def _duration(
    write: Callable[[tuple[Any, ...]], str | None], reader: _MomentCompiler
) -> Callable[[float, int], str | None]:
    decimals, unit = reader.decimals, reader.unit

    def show(number: float, _epoch: int) -> str | None:
        if not -_MOST_DAYS < number < _MOST_DAYS:
            return None
        seconds, fraction = _rounded(abs(number) * _DAY, decimals)
        minutes, second = divmod(seconds, 60)
        hours, minute = divmod(minutes, 60)
        text = write((0, 0, 0, hours % 24, minute, second, 0, 0, fraction, None, hours, minutes, seconds))
        blank = seconds < unit and not (decimals and fraction.strip("0"))
        return f"-{text}" if number < 0 and not blank else text

    return show


def _cut(raw: float, whole: int, decimals: int) -> tuple[int, str]:
    """Return the seconds of the day: cut off, never rounded up to a minute or second that has not come.

    What a number cannot distinguish is rounded anyway: a day in 2026 has room for microseconds only.
    """
    if not decimals:
        return int(raw + (5e-5 if whole else 5e-10)), ""
    seconds = round(raw, 4 if whole else 9)
    full = int(seconds)
    fraction = f"{seconds - full:.{decimals}f}"
    return full, fraction[2:] if fraction[0] == "0" else "9" * decimals


def _rounded(seconds: float, decimals: int) -> tuple[int, str]:
    if not decimals:
        return int(seconds + 0.5), ""
    whole, _, fraction = f"{seconds:.{decimals}f}".partition(".")
    return int(whole), fraction


class _MomentCompiler:
    """Goes through the parts of a section once and makes a piece of each."""

    def __init__(self, parts: Sequence[FormatPart], language: Language) -> None:
        self.parts = list(parts)
        self.language = language
        self.decimals = 0
        self.dated = False
        self.timed = False
        self.elapsed = any(part.kind == "elapsed" for part in parts)
        self.twelve = any(part.kind == "half" for part in parts)
        self._units = self._units_of()
        self.unit = min([_SIZES[unit] for unit in self._units if unit in _SIZES], default=1)
        """The smallest unit that is written, in seconds."""

    def _units_of(self) -> list[str]:
        """Return the unit of each part; ``m`` is a minute after hours and before seconds, else a month."""
        letters = [(at, part) for at, part in enumerate(self.parts) if part.kind in _MOMENTS]
        units = [""] * len(self.parts)
        for place, (at, part) in enumerate(letters):
            letter = part.text[0]
            if letter != "m":
                units[at] = _UNITS.get(letter, letter)
                continue
            before = letters[place - 1][1].text[0] if place else ""
            after = letters[place + 1][1].text[0] if place + 1 < len(letters) else ""
            minute = len(part.text) <= 2 and (before == "h" or after == "s")
            units[at] = "minute" if minute or part.kind == "elapsed" else "month"
        return units

    def pieces(self) -> list[Piece]:
        """Make the pieces."""
        made: list[Piece] = []
        at = 0
        while at < len(self.parts):
            piece, used = self._piece(at)
            made.append(piece)
            at += used
        return made

    def _piece(self, at: int) -> tuple[Piece, int]:
        part = self.parts[at]
        if part.kind in _MOMENTS:
            return self._of_unit(at), 1
        if part.kind == "half":
            self.timed = True
            return self._half(part.text), 1
        if part.kind == "point" and "second" in self._units[:at]:
            zeros = 0
            while self.parts[at + zeros + 1 : at + zeros + 2] == [_ZERO]:
                zeros += 1
            if zeros:
                self.decimals = zeros
                return _NumberPiece(_FRACTION, f"{self.language.point}%s"), zeros + 1
        if part.kind == "slash":
            return self.language.slash if any(unit in _DATED for unit in self._units) else "/", 1
        if part.kind == "digit":
            raise UnknownFormat("mixes digits with dates")
        if part.kind in {"exponent", "general", "percent", "cell", "letter"}:
            raise UnknownFormat(f'contains "{part.text}" in a date')
        return part.text, 1

    def _half(self, text: str) -> Piece:
        first, second = self.language.names.half if text.upper() == "AM/PM" else text.split("/")
        return lambda moment: first if moment[_HOUR] < 12 else second

    def _of_unit(self, at: int) -> Piece:
        part, unit = self.parts[at], self._units[at]
        width = len(part.text)
        if part.kind == "elapsed":
            return _NumberPiece(_ELAPSED[unit], f"%0{width}d")
        if unit in _FIELDS:
            self.timed = True
            index = _HALF if unit == "hour" and self.twelve and not self.elapsed else _FIELDS[unit]
            return _NumberPiece(index, "%d" if width == 1 else "%02d")
        if self.elapsed:
            raise UnknownFormat("mixes a duration with a date")
        self.dated = True
        return self._of_date(at, unit, width)

    def _of_date(self, at: int, unit: str, width: int) -> Piece:
        names = self.language.names
        if unit == "day" and width <= 2:
            return _NumberPiece(_DAY_OF_MONTH, "%d" if width == 1 else "%02d")
        if unit in {"day", "a"}:
            days = names.short_days if width == 3 else names.days
            return lambda moment: days[moment[_DATE].isoweekday() % 7]
        if unit == "month":
            return self._month(at, width)
        return self._era(width) if unit == "g" else self._year(width, unit)

    def _month(self, at: int, width: int) -> Piece:
        names = self.language.names
        if width <= 2:
            return _NumberPiece(_MONTH, "%d" if width == 1 else "%02d")
        if width == 3:
            months = names.short_months
        elif width == 5:
            months = names.narrow_months or [name[:1] for name in names.months]
        else:
            days = [i for i, part in enumerate(self.parts) if self._units[i] == "day" and len(part.text) <= 2]
            months = names.months
            if days:
                months = (names.after_day if days[0] < at else names.before_day) or months
        return lambda moment: months[moment[_MONTH] - 1]

    def _year(self, width: int, unit: str) -> Piece:
        calendar, era = "buddhist" if unit == "b" else self.language.calendar, unit == "e"
        if calendar == "taiwan" or (era and self.language.tag == "zh-TW"):
            template = "%d" if width <= 2 else "%03d"
            return lambda moment: template % _minguo(moment[_YEAR])
        if calendar == "japanese" or (era and self.language.tag == "ja-JP"):
            template = "%d" if width == 1 else "%02d"
            return lambda moment: template % _year_of_era(moment[_DATE])
        if calendar == "buddhist":
            template, size = ("%02d", 100) if width <= 2 and not era else ("%04d", 10_000)
            return lambda moment: template % ((moment[_YEAR] + _BUDDHIST) % size)
        return _NumberPiece(_SHORT_YEAR, "%02d") if width <= 2 and not era else _NumberPiece(_YEAR, "%04d")

    def _era(self, width: int) -> Piece:
        if self.language.calendar == "taiwan" or self.language.tag == "zh-TW":
            return "中華民國" if width > 2 else "民國"
        if self.language.calendar != "japanese" and self.language.tag != "ja-JP":
            raise UnknownFormat("names an era")
        return lambda moment: _era_name(moment[_DATE], width)


_MOMENTS = frozenset({"moment", "elapsed"})
_DATED = frozenset({"day", "month", "year", "e", "b"})


def _minguo(year: int) -> int:
    if year <= _MINGUO:
        raise LookupError(year)
    return year - _MINGUO


def _era_of(day: date) -> tuple[date, str, str]:
    for era in _ERAS:
        if day >= era[0]:
            return era
    raise LookupError(day)


def _year_of_era(day: date) -> int:
    return day.year - _era_of(day)[0].year + 1


def _era_name(day: date, width: int) -> str:
    _, name, letter = _era_of(day)
    return {1: letter, 2: name[:1]}.get(width, name)
