"""Displayed text: each part of a number format, beside what spreadsheet programs show."""

from __future__ import annotations

import random
import re
from decimal import ROUND_HALF_UP, Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.values.number_format import BUILTIN, display, number_format, written_code

ACCOUNTING = '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-;_-* "-"??\\ "€"_-;_-@_-'
PIECES = """0 # ? . , % E+ e- / @ ; [>1] [h] [$-407] [$€-1] "x" \\ _ * y mm dddd h s AM/PM General - [Red] g b
            aaa [ " 9"""
MARCH = 46086.604166666664
"""Thursday, 5 March 2026, 14:30."""


@pytest.mark.parametrize(
    ("code", "number", "shown"),
    [
        ("General", 716, "716"),
        ("General", 0.1 + 0.2, "0.3"),
        ("General", 123456789012345, "123456789012345"),
        ("General", 4111111111111111, "4111111111111111"),
        ("General", 12345678901234567, "1.23456789012346E+016"),
        ("General", 1e-9, "0.000000001"),
        ("General", -1.5e-10, "-1.5E-10"),
        ("General", 0.000123456789, "0.000123456789"),
        ("0", -0.4, "0"),
        ("0", 2.5, "3"),
        ("00000", 716, "00716"),
        ("000-00-0000", 12345678, "012-34-5678"),
        ("(000) 000-0000", 5551234567, "(555) 123-4567"),
        ("0.00", 1.005, "1.01"),
        ("0.00", 2.675, "2.68"),
        ("0.00", -2.675, "-2.68"),
        ("0.00", 8.995, "9.00"),
        ("0.0?", 1.5, "1.5 "),
        ("0.0##", 1.25, "1.25"),
        ("#,##0.00", 1234567.891, "1,234,567.89"),
        ("#,##0.00", 999.995, "1,000.00"),
        ("#,##0", -1234.5, "-1,235"),
        ("0,000", 1, "0,001"),
        ("#.##", 5, "5"),
        ("???.??", 1.5, "  1.5 "),
        ('#,##0.00 "€"', 1234.5, "1,234.50 €"),
        ("#,##0.00 [$€-407]", 1234.5, "1,234.50 €"),
        ("[$-407]#,##0.00 €", 1234.5, "1.234,50 €"),
        ("[$-40C]#,##0.00", 1234.5, "1\xa0234,50"),
        ("[$-4009]#,##0", 12345678, "1,23,45,678"),
        ("[$-807]#,##0.00", 1234.5, "1'234.50"),
        ("[$¥-804]#,##0.00", 99, "¥99.00"),
        ("[$-D00041E]0.00", 12.5, "๑๒.๕๐"),
        ("General", float("inf"), "inf"),
        ("[$USD] 0.00", -5, "-USD 5.00"),
        ("0%", 0.256, "26%"),
        ("0%", 1.005, "101%"),
        ("0.0%", 0.0005, "0.1%"),
        ('0.0"%"', 12, "12.0%"),
        ("#,##0,", 1234567, "1,235"),
        ("0.0,,", 1234567, "1.2"),
        ('0.0,,"M"', -1250000, "-1.3M"),
        ("0.00E+00", 1234.5, "1.23E+03"),
        ("0.00E+00", 9.999, "1.00E+01"),
        ("0.00E+00", 0, "0.00E+00"),
        ("##0.0E+0", 12345, "12.3E+3"),
        ("##0.0E+0", 0.5, "500.0E-3"),
        ("0E-0", 12345, "1E4"),
        ("# ?/?", 2.675, "2 2/3"),
        ("# ?/?", 5, "5    "),
        ("# ??/??", 3.14159, "3 14/99"),
        ("# ??/??", 3.25, "3  1/4 "),
        ("# ??/16", 2.675, "2 11/16"),
        ("?/8", 0.5, "4/8"),
        ("0 0/0", 1, "1 0/1"),
        ("+0;-0;0", 5, "+5"),
        ("N° 0", 7, "N° 7"),
        ("[<=9999999]###\\-####;\\(###\\)\\ ###\\-####", 5551234567, "(555) 123-4567"),
        ("+0;-0;0", -5, "-5"),
        ('0;(0);"none"', -5, "(5)"),
        ('0;(0);"none"', 0, "none"),
        ("0;;", -5, ""),
        (";;;", 7, ""),
        ('"paid";"owed"', -3, "owed"),
        ("[Red]0;[Color 5]-0", -5, "-5"),
        ('[>=1000]0,"k";0', 12345, "12k"),
        ('[>=1000]0,"k";0', -5, "-5"),
        ("[<1]0.00;[>100]0;0.0", 50, "50.0"),
        ('[=1]0" day";0" days"', 1, "1 day"),
        ('[=1]0" day";0" days"', 2, "2 days"),
        (ACCOUNTING, 1234.5, " 1,234.50 € "),
        (ACCOUNTING, -1234.5, "-1,234.50 € "),
        (ACCOUNTING, 0, " -   € "),
        ('"No. "General', 12, "No. 12"),
        ("@", 12.5, "12.5"),
    ],
)  # fmt: skip
def test_numbers(code, number, shown):
    """Digits, separators, signs, powers and fractions come out as a spreadsheet shows them."""
    assert display(number, code) == shown
    assert number_format(code).problem is None


@pytest.mark.parametrize(
    ("code", "number", "shown"),
    [
        ("dd.mm.yyyy", MARCH, "05.03.2026"),
        ("d/m/yy", MARCH, "5/3/26"),
        ("yyyy-mm-dd hh:mm:ss", MARCH, "2026-03-05 14:30:00"),
        ("yyyy-mm-ddThh:mm", MARCH, "2026-03-05T14:30"),
        ("mmmm d, yyyy", MARCH, "March 5, 2026"),
        ("ddd d-mmm-yy", MARCH, "Thu 5-Mar-26"),
        ("mmmmm", MARCH, "M"),
        ("dddd", MARCH, "Thursday"),
        ("[$-407]dddd, d. mmmm yyyy", MARCH, "Donnerstag, 5. März 2026"),
        ("[$-407]dd/mm/yyyy", MARCH, "05.03.2026"),
        ("[$-de-DE]d. mmmm yyyy", MARCH, "5. März 2026"),
        ("[$-de-LI,100]d. mmmm yyyy", MARCH, "5. März 2026"),
        ("[$-40C]d mmmm yyyy", MARCH, "5 mars 2026"),
        ("[$-419]d mmmm yyyy", MARCH, "5 марта 2026"),
        ("[$-405]d. mmmm", 46022 + 5, "5. ledna"),
        ("[$-405]mmmm", 46022 + 5, "leden"),
        ('[$-804]yyyy"年"m"月"d"日";@', MARCH, "2026年3月5日"),
        ('[$-411]ggge"年"m"月"d"日"', MARCH, "令和8年3月5日"),
        ("[$-1030411]ge.m.d", 43585, "H31.4.30"),
        ("[$-404]e/m/d", MARCH, "115/3/5"),
        ("[$-107041E]d mmm yyyy", MARCH, "5 มี.ค. 2569"),
        ("[$-D07041E]dd/mm/yyyy", MARCH, "๐๕/๐๓/๒๕๖๙"),
        ("[$-1010409]m/d/yyyy", MARCH, "3/5/2026"),
        ("[$-2010000]yyyy/mm/dd", MARCH, "2026/03/05"),
        ('[DBNum1][$-804]yyyy"年"m"月"d"日";@', MARCH, "二〇二六年三月五日"),
        ('[DBNum1][$-804]m"月"d"日" h"时"', 46022.0, "十二月三十一日 〇时"),
        ('[DBNum1][h]"小时"', 5.0, "一二〇小时"),
        ("[$-FC19]dd\\ mmmm\\ yyyy\\ \\г\\.;@", MARCH, "05 марта 2026 г."),
        ("[$-F419]yyyy, mmmm", MARCH, "2026, Март"),
        ("[$-407]d/\\ mmm/\\ yy;@", MARCH, "5. Mär. 26"),
        ("[$-F800]dddd, mmmm dd, yyyy", MARCH, "Thursday, March 5, 2026"),
        ("[$-F400]h:mm:ss AM/PM", 0.25, "06:00:00 AM"),
        ("[$-x-sysdate]dddd, mmmm dd, yyyy", MARCH, "Thursday, March 5, 2026"),
        ("h:mm AM/PM", 0.6041666666666666, "2:30 PM"),
        ("h:mm AM/PM", 0, "12:00 AM"),
        ("h:mm a/p", 0.75, "6:00 p"),
        ('h "h" mm', 0.75, "18 h 00"),
        ("[$-404]上午/下午h:mm", 0.75, "下午6:00"),
        ("mm:ss", 0.0127, "18:17"),
        ("m/d h:mm", MARCH, "3/5 14:30"),
        ("hh:mm", 0.9999999, "23:59"),
        ("hh:mm:ss.000", 0.5 + 1.25 / 86400, "12:00:01.250"),
        ("ss.0", 0.999999, "59.9"),
        ("yyyy-mm-dd hh:mm", 46086.9999999, "2026-03-06 00:00"),
        ("yyyy-mm-dd hh:mm", 46086.6041666667, "2026-03-05 14:30"),
        ("[h]:mm", 1.086805555555556, "26:05"),
        ("[h]:mm", -0.5, "-12:00"),
        ("[hh]:mm:ss", 1 / 24, "01:00:00"),
        ("[mm]:ss.0", 0.5, "720:00.0"),
        ("[ss]", 1, "86400"),
        ("yyyy", -693000, "0002"),
        ("d", 46086.75, "5"),
    ],
)
def test_dates_and_times(code, number, shown):
    """Every order, language and calendar; a minute that has not come is not shown."""
    assert display(number, code) == shown
    assert number_format(code).problem is None


@pytest.mark.parametrize(
    ("code", "number", "shown"),
    [
        ("[DBNum1][$-804]General", 0, "〇"),
        ("[DBNum1][$-804]General", 10, "一十"),
        ("[DBNum1][$-804]General", 1010, "一千〇一十"),
        ("[DBNum1][$-804]General", 100001000, "一亿〇一千"),
        ("[DBNum1][$-804]General", 200020002000, "二千亿二千万二千"),
        ("[DBNum1][$-804]General", 1000100010001, "一兆〇一亿〇一万〇一"),
        ("[DBNum1][$-zh-CN]General", 20, "二十"),
        ("[DBNum2][$-804]General", 10406, "壹万零肆佰零陆"),
        ("[DBNum2][$-804]General", -1234.56, "-壹仟贰佰叁拾肆.伍陆"),
        ("[DBNum2][$-804]General", 1e21, "1.00000000000000E+21"),
        ('[DBNum2][$-804]General"元整"', 25, "贰拾伍元整"),
        ("[DBNum2][$-804]0角0分", 25, "贰角伍分"),
        ("[DBNum2][$-804]#,##0.00", 1234.5, "壹,贰叁肆.伍零"),
        ("[DBNum2][$-404]General", 30015, "參萬零壹拾伍"),
        ("[DBNum2][$-C04]General", 2, "貳"),
        ("[DBNum1][$-411]General", 11111111, "一千百十一万一千百十一"),
        ("[DBNum1][$-411]General", 1101, "一千百一"),
        ("[DBNum2][$-411]General", 1234567, "百弐拾参萬四阡伍百六拾七"),
        ("[DBNum3][$-411]0000", 716, "０７１６"),
        ("[DBNum1][$-412]General", 10001, "一万一"),
        ("[DBNum2][$-412]General", 1001001, "壹佰萬壹阡零壹"),
        ("[DBNum3][$-412]General", 1234, "１천２백３십４"),
        ("[DBNum4][$-412]General", 12345, "일만이천삼백사십오"),
        ("[DBNum4][$-804]General", 12345, "12345"),
        ("[DBNum1][$-409]General", 1234, "1234"),
        ("[DBNum2][$-804]@", 25, "贰拾伍"),
        ('[DBNum2][$-804]yyyy"年"m"月"d"日"', 46022.5, "贰零贰伍年拾贰月叁拾壹日"),
        ('[DBNum2][$-411]yyyy"年"m"月"d"日"', MARCH, "弐零弐六年参月伍日"),
        ('[DBNum3][$-804]yyyy"年"m"月"d"日"', MARCH, "２０２６年３月５日"),
        ("[DBNum3][$-404]yy/mm/dd", MARCH, "２６/０３/０５"),
        ("[DBNum4][$-412]yyyy-mm-dd", MARCH, "2026-03-05"),
        ("B1dd/mm/yyyy", MARCH, "05/03/2026"),
    ],
)
def test_numbers_in_characters(code, number, shown):
    """As they are spoken where the format is General, else digit by digit; in dates years digit by digit."""
    assert display(number, code) == shown
    assert number_format(code).problem is None


def test_days_are_counted_from_two_epochs():
    """A workbook says from when it counts: the same number is another day."""
    assert display(44624, "yyyy-mm-dd", date_1904=True) == "2026-03-05"
    assert display(44624, "yyyy-mm-dd") == "2022-03-04"


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        ("General", "general"),
        ("0.00", "number"),
        ("@", "text"),
        ("[$-407]d. mmmm", "date"),
        ("mm/yy", "date"),
        ("h:mm", "time"),
        ("mm:ss", "time"),
        ("d.m.yy h:mm", "datetime"),
        ("[h]:mm", "duration"),
        ('0.00 "days"', "number"),
        ("[Red]0", "number"),
        ('"yes";"no"', "number"),
    ],
)
def test_what_a_format_shows(code, kind):
    """A format says whether a number is one, a date, a time or a duration; words in quotes do not."""
    assert number_format(code).kind == kind


@pytest.mark.parametrize(
    ("code", "problem"),
    [
        ("[DBNum5]0", "contains [DBNum5]"),
        ("[DBNum2]0", "contains [DBNum2] and names no language"),
        ("[DBNum1]General", "contains [DBNum1] and names no language"),
        ("B2dd/mm/yyyy", "counts by the Islamic calendar (B2)"),
        ("[$-F800]", "has neither digits nor parts of a date"),
        ("[$-1060401]dd/mm/yyyy", "counts by a calendar that is not known here ([$-1060401])"),
        ("[$-99]mmmm", "is in a language that is not known here ([$-99])"),
        ("[$-tlh]mmmm", "is in a language that is not known here ([$-tlh])"),
        ("0;0;0;0;0", "has more than 4 sections"),
        (";" * 10_000, "has more than 1024 characters"),
        ("0 days", "mixes digits with dates"),
        ("[h]:mm dd", "mixes a duration with a date"),
        ("0.00E+", "has an exponent without digits"),
        ("ggge", "names an era"),
        ("0 General", "mixes digits with General or @"),
        ("yyyy General", 'contains "general" in a date'),
        ("0." + "0" * 200, "has more than 127 decimals"),
        ("?/" + "9" * 200, "has a denominator of more than 9 digits"),
        ('0 "kg', "has a quote that does not end"),
        ("q", "has neither digits nor parts of a date"),
        ("yyyy q", 'contains "q" in a date'),
    ],
)
def test_what_is_not_understood_is_shown_as_without_a_format(code, problem):
    """An unknown format is reported as such, and the number is shown as without a format."""
    assert number_format(code).problem == problem
    assert display(1234.5, code) == "1234.5"


@pytest.mark.parametrize(
    ("code", "number"),
    [("yyyy", 3e6), ("yyyy", -7e5), ("[h]", 1e12), ("# ?/?", 1e10), ("[$-411]gg", -20_000)],
)
def test_what_a_format_cannot_show(code, number):
    """A day in no year, or a number with no room for it: the format says so."""
    assert number_format(code).show(number, 693_594) is None


def test_texts_have_a_section_of_their_own():
    """The section with @ writes text; without one, text stays unchanged."""
    assert number_format('0;-0;0;"Dear "@').text("Ann") == "Dear Ann"
    assert number_format(ACCOUNTING).text("Ann") == " Ann "
    assert number_format("0.00").text("Ann") == "Ann"
    assert number_format(";;;").text("Ann") == ""


def test_formats_that_workbooks_name_by_number():
    """Each is understood; those that look different on every computer are marked, and copied as written."""
    assert not [code for code in BUILTIN.values() if number_format(code).problem]
    assert {number for number, code in BUILTIN.items() if number_format(code).system} == {
        14, 22, *range(27, 37), *range(50, 59), 71, 72, 78
    }  # fmt: skip
    assert display(MARCH, BUILTIN[14]) == "3/5/2026"
    assert [written_code(BUILTIN[number]) for number in (2, 14, 22)] == ["0.00", "mm-dd-yy", "m/d/yy h:mm"]
    assert number_format("[$-F800]dddd").system
    assert not number_format("m/d/yyyy").system


@given(st.decimals(-(10**9), 10**9, places=3), st.integers(0, 2))
def test_money_is_rounded_as_a_person_does_it(amount, decimals):
    """Half a cent goes up, whatever the binary number that the file has is nearer to."""
    exact = abs(amount).quantize(Decimal(1).scaleb(-decimals), ROUND_HALF_UP)
    sign = "-" if amount < 0 and exact else ""
    plain = "0." + "0" * decimals if decimals else "0"
    assert display(float(amount), plain) == f"{sign}{exact}"
    assert display(float(amount), f"#,##{plain}") == f"{sign}{exact:,}"


def test_any_code_shows_something_quickly():
    """Whatever a format contains, there is text for every number, and no way to make it take long."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    pieces = re.findall(r"\S+", PIECES)
    for _ in range(1000):
        code = "".join(chance.choices(pieces, k=chance.randrange(1, 12)))
        for number in (0, 1.5, -46086.25, 1e300, -5e-324):
            assert isinstance(display(number, code), str)
        assert isinstance(number_format(code).text("a"), str)
