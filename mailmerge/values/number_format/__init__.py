"""Displayed text: what a spreadsheet shows for a number in a cell, by the cell's number format.

A code such as ``#,##0.00 "€";[Red]-#,##0.00 "€"`` is compiled once. Without a language it is in English, as
in LibreOffice's English version: neither a workbook nor a cell records in which language its author saw it.
"""

from __future__ import annotations

import operator
from functools import lru_cache
from math import isfinite
from typing import TYPE_CHECKING

from mailmerge.values.number_format.digits import general, general_within, number_section
from mailmerge.values.number_format.languages import Numerals, language, numerals
from mailmerge.values.number_format.moments import EPOCH, EPOCH_1904, moment_section
from mailmerge.values.number_format.syntax import (
    BUILTIN,
    FormatSection,
    UnknownFormat,
    sections_of,
    written_code,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "BUILTIN",
    "EPOCH",
    "EPOCH_1904",
    "NumberFormat",
    "display",
    "general",
    "number_format",
    "written_code",
]

_OPERATORS: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "=": operator.eq,
    "<>": operator.ne,
}
_SYSTEM = {
    "F800": "dddd, mmmm d, yyyy",
    "X-SYSDATE": "dddd, mmmm d, yyyy",
    "F400": "hh:mm:ss AM/PM",
    "X-SYSTIME": "hh:mm:ss AM/PM",
}
_SYSTEMS = frozenset({*_SYSTEM, "X-SYSTEM"})
_MOST_COMPILED = 4096


class NumberFormat:
    """A compiled code.

    Attributes:
        kind: what it shows: ``general``, ``number``, ``text``, ``date``, ``datetime``, ``time`` or
            ``duration``.
        problem: what is not understood, to follow the format's name; None: nothing. Where there is a problem,
            numbers are shown as without a format.
        system: whether it looks different on other computers: the short date of the system.
        show: writes a number; None: this format cannot show it (a date in the year 12,000).
        text: writes text.

    """

    __slots__ = ("kind", "problem", "show", "system", "text")

    def __init__(self, code: str) -> None:
        self.problem: str | None = None
        self.kind = "general"
        self.system = False
        self.show: Callable[..., str | None] = _general
        self.text: Callable[[str], str] = str
        if code in {"General", ""}:
            return
        try:
            self._compile(sections_of(code))
        except UnknownFormat as error:
            self.problem = str(error)

    def _compile(self, sections: Sequence[FormatSection]) -> None:
        self.system = any(section.language.upper() in _SYSTEMS for section in sections)
        last = sections[-1]
        texts = last if last.has("cell") or len(sections) == 4 else None
        numeric = sections[:-1] if texts and len(sections) > 1 else sections
        shows = [_compiled(section) for section in numeric]
        self.kind = _kind(numeric[0])
        self.show = shows[0] if len(shows) == 1 and numeric[0].condition is None else _choice(numeric, shows)
        if texts:
            self.text = _text_section(texts)


@lru_cache(_MOST_COMPILED)
def number_format(code: str) -> NumberFormat:
    """Compile a code, once."""
    return NumberFormat(code)


def display(number: float, code: str, *, date_1904: bool = False) -> str:
    """Return a number as a wide cell with this format shows it.

    What the format cannot show is written as without one: `number_format` tells which these are.
    """
    size = float(number)
    if not isfinite(size):
        return str(size)
    shown = number_format(code).show(size, EPOCH_1904 if date_1904 else EPOCH)
    return general(size) if shown is None else shown


def _general(number: float, _epoch: int = EPOCH) -> str:
    return general(number)


def _compiled(section: FormatSection) -> Callable[..., str | None]:
    code = section.language.upper()
    if code in _SYSTEM and section.has("moment"):
        return _compiled(sections_of(_SYSTEM[code])[0])
    if section.has("moment", "elapsed", "half"):
        return moment_section(section.parts, language(section.language), _numerals(section, dated=True))
    if section.language and not section.parts:
        raise UnknownFormat("has neither digits nor parts of a date")
    if section.has("general", "cell"):
        return _with_general(section)
    show = number_section(section.parts, language(section.language))
    if (characters := _numerals(section)) is not None:
        return lambda number, _epoch=EPOCH: characters.replaced(show(number) or "")
    digits = language(section.language).digits
    if digits:
        numerals = str.maketrans(dict(zip("0123456789", digits, strict=True)))
        return lambda number, _epoch=EPOCH: (show(number) or "").translate(numerals)
    return lambda number, _epoch=EPOCH: show(number)


def _numerals(section: FormatSection, *, dated: bool = False) -> Numerals | None:
    """Find the characters that a section's numbers are written in; of no language, Chinese ones in dates.

    Raises:
        UnknownFormat: which language's is not said.

    """
    if not section.numerals:
        return None
    if not section.language and not dated:
        raise UnknownFormat(f"contains [DBNum{section.numerals}] and names no language")
    tag = language(section.language).tag if section.language else "zh-CN"
    if dated and tag.startswith("ko") and section.numerals > 3:
        return None
    return numerals(section.numerals, tag)


def _with_general(section: FormatSection) -> Callable[..., str | None]:
    if section.has("digit"):
        raise UnknownFormat("mixes digits with General or @")
    parts = [None if part.kind in {"general", "cell"} else part.text for part in section.parts]
    characters = _numerals(section)

    def show(number: float, _epoch: int = EPOCH) -> str:
        found = general_within(abs(number))
        if characters is not None:
            found = characters.general(found)
        text = "".join([found if part is None else part for part in parts])
        return f"-{text}" if number < 0 else text

    return show


def _text_section(section: FormatSection) -> Callable[[str], str]:
    if section.has("digit", "moment", "exponent"):
        return str
    parts = [None if part.kind == "cell" else part.text for part in section.parts]
    return lambda text: "".join([text if part is None else part for part in parts])


def _choice(
    sections: Sequence[FormatSection], shows: Sequence[Callable[..., str | None]]
) -> Callable[..., str | None]:
    """Choose a section by its condition; where two or three have none, by the sign of the number."""
    tests, bare = _conditions(sections)
    first, second = tests[0], tests[1] if len(tests) > 1 else None

    def show(number: float, epoch: int = EPOCH) -> str | None:
        at = 0 if first[0](number, first[1]) else 1
        if at and second is not None and not second[0](number, second[1]):
            at = 2
        if at >= len(shows):
            return general(number)
        return shows[at](-number if at in bare and number < 0 else number, epoch)

    return show


def _conditions(
    sections: Sequence[FormatSection],
) -> tuple[list[tuple[Callable[[float, float], bool], float]], set[int]]:
    """Return the conditions of the first sections, and the sections that only negative numbers reach.

    Those write no sign of their own: it is in the code, or is left out on purpose.
    """
    given = [section.condition for section in sections]
    count = len(sections)
    first = given[0] or (">" if count > 2 else ">=", 0.0)
    tests = [(_OPERATORS[first[0]], first[1])]
    second = given[1] if count > 1 else None
    if count > 2 or second:
        second = second or ("<", 0.0)
        tests.append((_OPERATORS[second[0]], second[1]))
    bare = set()
    if first[1] == 0 and first[0] in {"<", "<="}:
        bare.add(0)
    if (
        first[1] == 0
        and first[0] in {">", ">="}
        and count > 1
        and (not second or (second[0][0] == "<" and second[1] <= 0))
    ):
        bare.add(1)
    return tests, bare


def _kind(section: FormatSection) -> str:
    if section.has("elapsed"):
        return "duration"
    texts = [part.text for part in section.parts if part.kind == "moment"]
    if section.has("half") or texts:
        timed = section.has("half") or any(text[0] in "hs" for text in texts)
        dated = any(text[0] in "ydegab" or (text[0] == "m" and len(text) > 2) for text in texts) or not timed
        return "datetime" if dated and timed else "date" if dated else "time"
    if section.has("digit"):
        return "number"
    return "text" if section.has("cell") else "general" if section.has("general") else "number"
