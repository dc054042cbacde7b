"""How languages write numbers and dates: ``languages.json`` and numerals, as LibreOffice 7.4 has them.

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


# --- numbers in Chinese, Japanese and Korean characters: [DBNum1] to [DBNum4] ------------------------------
#
# The tables are those of LibreOffice 7.4. General writes a number as it is spoken, 一千二百三十四; in other
# codes each digit is replaced, as Excel does. Sign, separators and decimal point stay as they are.

_FULL_WIDTH = "０１２３４５６７８９"
_HANGUL = "영일이삼사오육칠팔구"
_PLAIN = "0123456789"


class Numerals(Struct, frozen=True, dict=True):
    """How one language writes numbers."""

    digits: str
    """``0`` to ``9``."""
    tens: str = ""
    """Ten, a hundred, a thousand; empty: numbers are never spoken, only their digits are replaced."""
    powers: str = ""
    """Ten thousand, its square, its cube and so on."""
    gap: str = ""
    """Is written where places are skipped: 一百〇一."""
    elides: bool = False
    """Whether the 一 of ten and of a hundred is left out."""

    def replaced(self, text: str) -> str:
        """Replace each digit of text."""
        return text.translate(dict(zip(map(ord, _PLAIN), self.digits, strict=True)))

    def short(self, number: int) -> str:
        """Write a day, a month or an hour: 三十一, and 十二 without its 一."""
        tens, ones = divmod(number, 10)
        if not self.tens or not tens:
            return self.replaced(str(number))
        return f"{self.digits[tens] if tens > 1 else ''}{self.tens[0]}{self.digits[ones] if ones else ''}"

    def general(self, text: str) -> str:
        """Write what ``General`` shows, as it is spoken; decimals digit by digit, powers of ten in digits."""
        whole, point, decimals = text.partition(".")
        if not whole.isdecimal() or (decimals and not decimals.isdecimal()):
            return text
        spoken = self._spoken(whole) if self.tens else self.replaced(whole)
        return f"{spoken}{point}{self.replaced(decimals)}"

    def _spoken(self, digits: str) -> str:
        out: list[str] = []
        skipped = False
        groups = [digits[max(0, end - 4) : end] for end in range(len(digits), 0, -4)]
        if len(groups) > len(self.powers) + 1:
            return self.replaced(digits)
        for power in range(len(groups) - 1, -1, -1):
            group = groups[power]
            for at, digit in enumerate(group):
                if digit == "0":
                    skipped = True
                    continue
                place = len(group) - at - 1
                if skipped and out:
                    out.append(self.gap)
                skipped = False
                if not (self.elides and digit == "1" and place in {1, 2}):
                    out.append(self.digits[int(digit)])
                out.append(self.tens[place - 1] if place else "")
            if group.strip("0"):
                out.append(self.powers[power - 1] if power else "")
                skipped = False
        return "".join(out) or self.digits[0]


_ORDINARY, _TRADITIONAL_ORDINARY = "〇一二三四五六七八九", "零一二三四五六七八九"
_KNOWN = {
    ("zh", 1): Numerals(_ORDINARY, "十百千", "万亿兆", "〇"),
    ("zh", 2): Numerals("零壹贰叁肆伍陆柒捌玖", "拾佰仟", "万亿兆", "零"),
    ("zh", 3): Numerals(_FULL_WIDTH),
    ("zh-TW", 1): Numerals(_ORDINARY, "十百千", "萬億兆", "〇"),
    ("zh-TW", 2): Numerals("零壹貳參肆伍陸柒捌玖", "拾佰仟", "萬億兆", "零"),
    ("zh-TW", 3): Numerals(_FULL_WIDTH),
    ("ja", 1): Numerals(_ORDINARY, "十百千", "万億兆京", elides=True),
    ("ja", 2): Numerals("零壱弐参四伍六七八九", "拾百阡", "萬億兆京", elides=True),
    ("ja", 3): Numerals(_FULL_WIDTH),
    ("ko", 1): Numerals(_TRADITIONAL_ORDINARY, "十百千", "万億兆"),
    ("ko", 2): Numerals("零壹貳參四伍六七八九", "拾佰阡", "萬億兆", "零"),
    ("ko", 3): Numerals(_FULL_WIDTH, "십백천", "만억조"),
    ("ko", 4): Numerals(_HANGUL, "십백천", "만억조"),
}


@cache
def numerals(kind: int, tag: str) -> Numerals | None:
    """Find the numerals of ``[DBNum1]`` to ``[DBNum4]`` in a language; None: it writes 0 to 9."""
    if tag in {"zh-HK", "zh-MO"}:
        tag = "zh-TW"
    return _KNOWN.get((tag, kind)) or _KNOWN.get((tag.partition("-")[0], kind))
