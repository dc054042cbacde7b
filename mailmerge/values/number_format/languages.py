"""How languages write numbers and dates: ``languages.json``, as LibreOffice 7.4 writes them.

scripts/write-format-languages makes that file. Babel has dots where spreadsheet programs have none ("Jan."
for "Jan"), and changes with its version.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import msgspec
from msgspec import Struct

from mailmerge.values.number_format.syntax import UnknownFormat


class Names(Struct, frozen=True):
    """Names of months (January first), days (Sunday first), and the halves of a day."""

    months: list[str]
    short_months: list[str]
    days: list[str]
    short_days: list[str]
    half: list[str]
    after_day: list[str] | None = None
    """Months after the number of a day, where they are inflected: ``5 ledna``."""
    before_day: list[str] | None = None
    narrow_months: list[str] | None = None


class Language(Struct, frozen=True):
    """A language of a region.

    Args:
        tag: ``de-AT``.
        names: of months and days.
        point: decimal separator.
        thousands: separator between groups of digits.
        grouping: digits of the groups from the right, ``3`` or ``3;2``.
        slash: what ``/`` in a date means.
        digits: its ``0`` to ``9``, where they are not those.
        calendar: ``""`` for ours, ``buddhist``, ``japanese``, ``taiwan``.

    """

    tag: str
    names: Names
    point: str = "."
    thousands: str = ","
    grouping: str = "3"
    slash: str = "/"
    digits: str = ""
    calendar: str = ""

    @property
    def plain(self) -> bool:
        """Whether digits are in groups of three."""
        return self.grouping == "3"

    def groups(self, count: int) -> bool:
        """Return whether a separator comes before the last *count* digits."""
        if count < 3 or self.plain:
            return count > 0 and count % 3 == 0
        return count % 2 == 1


_MONTHS = [
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
]  # fmt: skip
_DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]
ENGLISH = Language(
    "en-US",
    Names(_MONTHS, [name[:3] for name in _MONTHS], _DAYS, [name[:3] for name in _DAYS], ["AM", "PM"]),
)
_ENGLISH_CODES = {0x0, 0x400, 0x409, 0x7F, 0x800, 0xC00, 0xF400, 0xF800}
"""No language, the computer's own, and English."""
_OTHER_CODES = {0x040A: "0C0A", 0x0004: "0804", 0x7C04: "0404"}
_INFLECTED = {0xF400, 0xFC00}
"""Added to the main code of a language where Excel offers months by themselves, or after a day."""
_CALENDARS = {3: "japanese", 4: "taiwan", 7: "buddhist"}
_GREGORIAN = {0, 1, 2, 9, 0xA, 0xB, 0xC}
_DIGITS = {0xD: "๐๑๒๓๔๕๖๗๘๙"}


class _File(Struct):
    names: dict[str, Names]
    languages: dict[str, tuple[str, str, str, str, str, str]]


@cache
def language(code: str) -> Language:
    """Find a language: ``407``, ``D07041E`` (numerals, calendar, language) or ``de-DE``.

    Numerals of other scripts than Thai's are written as 0 to 9: they mean the same.

    Raises:
        UnknownFormat: it is not known here, or asks for a calendar that is not.

    """
    if not code:
        return ENGLISH
    if re.fullmatch(r"[0-9A-Fa-f]{1,8}", code):
        number = int(code, 16)
        found = _by_number(number & 0xFFFF)
        numerals, calendar = number >> 24, number >> 16 & 0xFF
        if calendar in _CALENDARS:
            found = msgspec.structs.replace(found, calendar=_CALENDARS[calendar])
        elif calendar not in _GREGORIAN:
            raise UnknownFormat(f"counts by a calendar that is not known here ([$-{code}])")
        if numerals in _DIGITS:
            found = msgspec.structs.replace(found, digits=_DIGITS[numerals])
        return found
    return _by_tag(code)


def _by_number(number: int) -> Language:
    if number in _ENGLISH_CODES:
        return ENGLISH
    key = _OTHER_CODES.get(number, f"{number:04X}")
    if number & 0xFF00 in _INFLECTED:
        key = f"04{number & 0xFF:02X}"
    if key not in _file().languages:
        raise UnknownFormat(f"is in a language that is not known here ([$-{number:X}])")
    return _read(key)


def _by_tag(code: str) -> Language:
    tag = code.partition(",")[0].lower()
    if tag in {"x-sysdate", "x-systime", "x-system"}:
        return ENGLISH
    languages = _file().languages
    for key, facts in languages.items():
        if facts[0].lower() == tag:
            return _read(key)
    for key, facts in languages.items():
        if facts[1] == tag.partition("-")[0]:
            return _read(key)
    raise UnknownFormat(f"is in a language that is not known here ([$-{code}])")


def _read(key: str) -> Language:
    tag, names, point, thousands, grouping, slash = _file().languages[key]
    return Language(tag, _file().names[names], point, thousands, grouping, slash)


@cache
def _file() -> _File:
    return msgspec.json.decode((Path(__file__).parent / "languages.json").read_bytes(), type=_File)
