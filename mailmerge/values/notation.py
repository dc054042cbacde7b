"""How each type of value is written, and how strictly text is read as one. Plain Python values only.

What is written here without a cell's own displayed text is also what a person would type: no exponent, no
trailing zeros that nobody wrote, dates in ISO 8601 format. Reading accepts exactly that: a guess (is 1.234 a
thousand or one? is 03/05 in March or in May?) would be sent to somebody.
"""

from __future__ import annotations

import re
from datetime import date, datetime, time, timedelta
from decimal import Decimal

from mailmerge.lazy_re import lazy_re

LARGEST_EXPONENT = 1000
"""Numbers beyond ten to this power are written with an exponent, not as a megabyte of zeros."""

_NUMBER = lazy_re(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)\Z")
_SCIENTIFIC = lazy_re(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)[eE][+-]?[0-9]{1,3}\Z")
_MOMENT = r"([0-9]{4}-[0-9]{2}-[0-9]{2})(?:[ T]([0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?))?\Z"
_TIME = r"[0-9]{2}:[0-9]{2}(?::[0-9]{2}(?:\.[0-9]{1,6})?)?\Z"
_DURATION = r"(-?)([0-9]{1,7}):([0-5][0-9])(?::([0-5][0-9])(\.[0-9]{1,6})?)?\Z"

_YES = (
    "true yes y on 1 x ✓ ✔ ☑ wahr ja j vrai oui verdadero vero verdadeiro si sí sì sim "
    "waar 真 是 はい да истина"
)
_NO = "false no n off 0 ✗ ✘ ☐ falsch nein faux non falso não nao onwaar nee 假 否 いいえ нет ложь"
_WORDS = dict.fromkeys(_YES.split(), True) | dict.fromkeys(_NO.split(), False)

# --- writing ---------------------------------------------------------------------------------------------


def number_text(number: Decimal) -> str:
    """Return a number in digits: trailing zeros are kept, an exponent is written out."""
    if -LARGEST_EXPONENT < number.adjusted() < LARGEST_EXPONENT:
        return f"{number:f}"
    return f"{number:E}"


def canonical_number(number: Decimal) -> str:
    """Return a number in the form that depends on its size alone: ``1``, ``1.0`` and ``1E+0`` are ``1``."""
    if not number:
        return "0"
    text = number_text(number)
    if "." in text:
        digits, exponent, power = text.partition("E")
        text = digits.rstrip("0").rstrip(".") + exponent + power
    return text


def moment_text(moment: datetime) -> str:
    """Write a date and time to the minute, or to the second where there are any."""
    return moment.isoformat(" ", "seconds" if moment.second else "minutes")


def canonical_moment(moment: datetime) -> str:
    """Write a date and time in full, and midnight as the date alone: a sheet has one number for both."""
    if not (moment.hour or moment.minute or moment.second or moment.microsecond or moment.tzinfo):
        return moment.date().isoformat()
    return moment.isoformat(" ") if moment.microsecond else moment_text(moment)


def time_text(moment: time) -> str:
    """Write a time of day to the minute, or to the second where there are any."""
    return moment.isoformat("seconds" if moment.second else "minutes")


def canonical_time(moment: time) -> str:
    """Write a time of day in full."""
    return moment.isoformat() if moment.microsecond else time_text(moment)


def duration_text(duration: timedelta) -> str:
    """Write hours and minutes, ``26:30``; seconds where there are any."""
    hours, minutes, seconds, _ = _parts(duration)
    return f"{_sign(duration)}{hours}:{minutes:02}" + (f":{seconds:02}" if seconds else "")


def canonical_duration(duration: timedelta) -> str:
    """Write it in full, and less than a day as a time of day: a sheet has one number for both."""
    hours, minutes, seconds, fraction = _parts(duration)
    text = f"{_sign(duration)}{hours:02}:{minutes:02}"
    if seconds or fraction:
        text += f":{seconds:02}"
    return text + (f".{fraction:06}" if fraction else "")


def _parts(duration: timedelta) -> tuple[int, int, int, int]:
    seconds, fraction = divmod(abs(duration) // timedelta(microseconds=1), 1_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    return hours, minutes, seconds, fraction


def _sign(duration: timedelta) -> str:
    return "-" if duration < timedelta() else ""


# --- reading ---------------------------------------------------------------------------------------------


def read_number(text: str, *, exponent: bool = False) -> Decimal | None:
    """Read ``1234.50``: digits, a point before decimals, a sign; ``1E-7`` only with *exponent*."""
    text = text.strip()
    if _NUMBER.match(text) or (exponent and _SCIENTIFIC.match(text)):
        return Decimal(text)
    return None


def read_date(text: str) -> date | None:
    """Read ``2026-03-05``."""
    moment = read_moment(text)
    return None if isinstance(moment, datetime) else moment


def read_moment(text: str) -> date | datetime | None:
    """Read ``2026-03-05`` as a date, ``2026-03-05 09:30`` (or with ``T``, or seconds) as a date and time."""
    text = text.strip()
    found = re.match(_MOMENT, text)
    try:
        if found is None:
            return None
        return datetime.fromisoformat(text) if found[2] else date.fromisoformat(text)
    except ValueError:
        return None


def read_time(text: str) -> time | None:
    """Read ``09:30`` or ``09:30:05``."""
    text = text.strip()
    try:
        return time.fromisoformat(text) if re.match(_TIME, text) else None
    except ValueError:
        return None


def read_duration(text: str) -> timedelta | None:
    """Read ``26:30`` or ``26:30:05``."""
    found = re.match(_DURATION, text.strip())
    if found is None:
        return None
    minus, hours, minutes, seconds, fraction = found.groups("0")
    duration = timedelta(
        hours=int(hours),
        minutes=int(minutes),
        seconds=int(seconds),
        microseconds=int(fraction.lstrip(".").ljust(6, "0")),
    )
    return duration if minus == "" else -duration


def read_truth(text: str) -> bool | None:
    """Read one of the words for yes and no, in any case: ``yes``, ``FALSE``, ``ja``, ``0``, ``x``, ``否``."""
    return _WORDS.get(text.strip().casefold())
