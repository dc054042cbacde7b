"""Thousands of cells, a number and a number format each, for asking other programs what they show of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge.values.number_format import EPOCH, languages, number_format

if TYPE_CHECKING:
    import random


def _codes(text: str) -> tuple[str, ...]:
    """Take a string of codes apart; a space at the end of one is written as ~."""
    return tuple(code.strip().replace("~", " ") for code in text.split("|"))


NUMBERS = (
    0, 1, -1, 0.5, -0.5, 1.005, 2.675, -2.675, 8.995, 99, 716, 1234.5, -1234.567, 0.256, 0.07,
    0.30000000000000004, 0.3333333333333333, 12.3456789, 1234567.891, 13800138000, 491512345678,
    123456789012345, 4111111111111111, 1.234567890123457e+16, 1e+21, 1e-05, 1.234e-05, -0.004,
    12345.678901234567, 46086, -99999.995, 1000000000.0, 5551234567,
)  # fmt: skip
MOMENTS = (
    46086, 46086.604166666664, 46086.604166, 46387.75, 46024.000011574, 36526, 73050.999988426, 61,
    18264.5, 43585, 43586.25, 45350.5, 46022.999, 0.25, 0.6041666666666666, 0.999, 1.086805555555556,
)  # fmt: skip
NUMBER_FORMATS = _codes("""
General | 0 | 0.0 | 0.00 | 0.000 | #,##0 | #,##0.00 | #,##0.0## | #.## | #.0# | 0.0? | ???.?? | # |
#,### | 0,000.0 | 00000 | 000-00-0000 | (000) 000-0000 | 0000 0000 0000 0000 | 00\\.00\\.00 | 0% | 0.00% |
#,##0 % | 0.0"%" | 0.00E+00 | 0E+0 | ##0.0E+0 | 0.##E-0 | #,##0, | 0.0,,"M" | #,##0.00 "€" |
#,##0.00 [$€-407] | [$€-2] #,##0.00 | [$-407]#,##0.00 | [$-40C]#,##0.00 [$€-40C] | $#,##0.00 |
[$$-409]#,##0.00 | [$¥-804]#,##0.00 | [$£-809]#,##0.00;[Red]-[$£-809]#,##0.00 | #,##0.00 [$CHF-807] |
[$-4009]#,##0.00 | [$EUR] #,##0.00 | #,##0.00\\ "zł" | #,##0.00\\ _€ | +0;-0;0 | 0;(0);"none" |
0.00;[Red]-0.00 | _-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-;_-* "-"??\\ "€"_-;_-@_- |
_("$"* #,##0.00_);_("$"* \\(#,##0.00\\);_("$"* "-"??_);_(@_) | #,##0_);[Red](#,##0) | "yes";"no";"maybe" |
0;; | ;;; | [>=1000]0.0,"k";0 | [<1]0.00;[>100]0;0.0 | [=1]0" day";0" days" | [Red][<0]-0.0;[Blue]0.0 |
"No. "0 | 0" Stk." | \\#0 | 0\\ \\k\\g | @ | General" units" | [Color 12]0.0 | 0;-0;;@ | 0.00 ;(0.00) |
* 0.00 | #,##0.00_~ | 0.0000000000 | 000 | 0.00- | -0 | (0)
""")
FRACTIONS = (
    0,
    1,
    -1,
    0.5,
    -0.5,
    1.005,
    2.675,
    0.256,
    0.07,
    1 / 3,
    12.3456789,
    1234.5,
    3.25,
    3.14159,
    99.999,
    0.001,
)
FRACTION_FORMATS = _codes("""
# ?/? | # ??/?? | # ??/16 | ?/8 | # #/# | 0 0/0 | # ???/??? | 0/0 | ??/?? | # ?/4 | 0" "?/2 | # ??/100
""")
MOMENT_FORMATS = _codes("""
dd.mm.yyyy | d.m.yy | yyyy-mm-dd | m/d/yyyy | mm/dd/yy | d-mmm-yy | d-mmm | mmm-yy | d mmmm yyyy |
mmmm d, yyyy | dddd | ddd dd.mm. | dddd, d. mmmm yyyy | mmmmm | mmmm yyyy | yyyy | yy | yyyymmdd |
dd/mm/yyyy hh:mm | yyyy-mm-dd hh:mm:ss | yyyy-mm-dd\\Thh:mm:ss | m/d/yy h:mm AM/PM | h:mm | hh:mm |
h:mm:ss | h:mm AM/PM | hh:mm:ss AM/PM | h AM/PM | mm:ss | mm:ss.0 | hh:mm:ss.000 | d". "mmmm |
[$-407]d. mmmm yyyy | [$-407]dddd, dd/mm/yy | [$-40C]dddd d mmmm yyyy | [$-409]mmmm d, yyyy;@ |
[$-409]h:mm AM/PM;@ | [$-409]d-mmm-yyyy;@ | [$-F800]dddd, mmmm dd, yyyy | [$-F400]h:mm:ss AM/PM |
[$-804]yyyy"年"m"月"d"日";@ | [$-411]yyyy"年"m"月"d"日";@ | [$-411]ggge"年"m"月"d"日";@ | [$-404]e/m/d;@ |
[$-107041E]d mmm yyyy | [$-D07041E]dd/mm/yyyy | [$-1010409]m/d/yyyy | [$-419]d mmmm yyyy |
[$-415]d mmmm yyyy | [$-405]d. mmmm yyyy | [$-40B]d. mmmm yyyy | [$-40D]d mmmm | "on "d.m. |
d\\.m\\.yyyy | [Blue]dd.mm.yyyy | dd.mm.yyyy;@ | d/m | hh\\hmm | "W"d | m | d | h | s | mm | dd mm
""")
DURATIONS = (
    0,
    0.25,
    1,
    1.086805555555556,
    0.041666666666666664,
    31.5,
    1234.567,
    -0.5,
    -1.25,
    0.00001,
    7.999999,
    100.1,
)
DURATION_FORMATS = _codes("""
[h]:mm | [hh]:mm:ss | [mm]:ss | [ss] | [h]:mm:ss.00 | [h]" h "mm" min" | [mm]:ss.0 |
[Red][h]:mm;[Blue]-[h]:mm
""")
LANGUAGE_FORMATS = (
    "dddd, d mmmm yyyy",
    "mmm d",
    "ddd",
    "mmmm",
    "mmmmm",
    "dd/mm/yyyy",
    "h:mm AM/PM",
    "#,##0.00",
)
FURTHER = {  # what others understand in another way, or not at all
    "[$-de-DE]d. mmmm yyyy": (46086,),
    "[$-en-US]h:mm AM/PM;@": (46086.75,),
    "aaa": (46086,),
    "yyy": (46086,),
    "mmmmmm": (46086,),
    "e/m/d": (46086,),
    "[DBNum1]0": (12.5,),
    "[DBNum1][$-804]General": (0, 10, 716, 10001, 1234567, 100001000, 20002000, -5),
    "[DBNum2][$-804]General": (12.5, 100010001, 46086, 12345678901234),
    "[DBNum2][$-404]General": (30, 1234567),
    "[DBNum1][$-411]General": (10, 11111111, 1100),
    "[DBNum2][$-411]General": (1234567,),
    "[DBNum2][$-412]General": (1001001,),
    "[DBNum4][$-412]General": (12345,),
    "[DBNum3][$-411]0000": (716,),
    "[DBNum2][$-804]0": (5, 25),
    '[DBNum2][$-804]yyyy"年"m"月"d"日"': (46086, 46022.5),
    '[DBNum3][$-411]yyyy"年"m"月"d"日"': (46086,),
    "[$-FC19]dd mmmm yyyy": (46086,),
    "[$-1060401]dd/mm/yyyy": (46086,),
    "yyyy-mm-dd": (1, 59, 60, -1.5, 0, 2958466, 1e10),
    "[h]:mm:ss": (2958466, 1e6),
    "[hhh]:mm": (0.25,),
    "[s].000": (0.25,),
    "# ?/?": (1e10,),
    "0%": (1.005, 0.285, 9.995),
    "h:mm:ss": (46086.6041666666,),
    "[>100]0;0.0": (-5,),
    "0;0;0;0;0": (1.5,),
    "0 days": (1.5,),
    "q": (46086,),
    '"open': (5,),
    "#,##0.-": (2.675,),
    "h:mm A/P": (0.75,),
}


def kind_of_difference(code: str, number: float, theirs: str) -> str:
    """Return why LibreOffice shows other text, as ``docs/lists.md`` calls it; empty: for no known reason."""
    compiled = number_format(code)
    earlier = compiled.show(number - A_HAIR, EPOCH)
    kinds = {
        "another code": compiled.problem is not None or code in OTHER_CODES,
        "numbers in characters": "[DBNum" in code
        and ("General" not in code or not float(number).is_integer()),
        "a language by name": re.search(r"\[\$-([a-z]{2}-[A-Z]{2}|FC19)\]", code) is not None,
        "no room": theirs == "#FMT",
        "half a percent": "%" in code,
        "a lost minus": re.search(r"\[[<>=]", code) is not None and number < 0,
        "the year 10000": compiled.kind == "date" and number >= YEAR_10000,
        "before an era": code.startswith("[$-404]e"),
        "a hair before a second": "s" in code and theirs == earlier,
        "a hair before a minute": "h" in code and theirs == earlier,
    }
    return next((kind for kind, applies in kinds.items() if applies), "")


A_HAIR = 1e-9
"""Days: a ten thousandth of a second."""
YEAR_10000 = 2958466
OTHER_CODES = {"[hhh]:mm", "[s].000", "yyy", "mmmmmm", "e/m/d", "#,##0.-", "h:mm A/P"}


def kind_of_excel_difference(code: str, number: float) -> str:
    """Return why ssf and numfmt, which do as Excel does, show other text; empty: for no known reason."""
    compiled = number_format(code)
    dated = compiled.kind in {"date", "datetime", "time"}
    kinds = {
        "up to 11 characters": compiled.kind in {"general", "text"} or "General" in code,
        "a point with nothing after it": "#" in code.partition(".")[2][:1],
        "fractions": "/" in code and not dated,
        "before March 1900": dated and number < MARCH_1900,
        "a second is rounded": dated and number * 86400 % 1 > 0.4,
        "languages": "[$-" in code,
    }
    return next((kind for kind, applies in kinds.items() if applies), "")


MARCH_1900 = 61


def cells() -> list[tuple[float, str]]:
    """Return all the cells: what is fixed, what each language writes, and some at random."""
    made: list[tuple[float, str]] = [(number, code) for code in NUMBER_FORMATS for number in NUMBERS]
    made += [(number, code) for code in FRACTION_FORMATS for number in FRACTIONS]
    made += [(number, code) for code in MOMENT_FORMATS for number in MOMENTS]
    made += [(number, code) for code in DURATION_FORMATS for number in DURATIONS]
    known = json.loads((Path(languages.__file__).parent / "languages.json").read_bytes())["languages"]
    for at, language in enumerate(sorted(known)):
        days = (46027 + 31 * (at % 12), 46024 + at % 7)
        for code in LANGUAGE_FORMATS:
            made += [
                (number, f"[$-{language}]{code}")
                for number in (*days, 1234567.891, 0.75)[:: 1 if "#" in code else 3]
            ]
    return [*made, *((number, code) for code, numbers in FURTHER.items() for number in numbers)]


def random_cells(chance: random.Random, count: int) -> list[tuple[float, str]]:
    """Return numbers as sheets have them, each with one of the formats."""
    found: list[tuple[float, str]] = []
    for _ in range(count):
        if chance.random() < 0.6:
            number = (
                round(chance.uniform(-0.2, 1) * 10.0 ** chance.randrange(0, 12), chance.randrange(5)) + 0.0
            )
            found.append((number, chance.choice(NUMBER_FORMATS)))
        else:
            number = chance.randrange(61, 73_000) + round(
                chance.randrange(86_400) / 86_400, 13 + chance.randrange(4)
            )
            found.append((number, chance.choice(MOMENT_FORMATS)))
    return found
