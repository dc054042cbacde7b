"""Numbers as people write them: what is read by which notation, and what a column of them is."""

from __future__ import annotations

import tomllib
from datetime import date
from decimal import Decimal

import pytest
from babel import Locale
from babel.localedata import locale_identifiers
from babel.numbers import format_currency, format_decimal, format_percent
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.errors import CampaignFileError
from mailmerge.model import Place
from mailmerge.recipients.types import cell_type, notation_of
from mailmerge.values import canonical, displayed, plain
from mailmerge.values.locale_numbers import NOTATIONS, Notation, NumberColumn, Numbers


def _notation(locale: str) -> Notation:
    found = notation_of(locale)
    assert found is not None
    return found


@pytest.mark.parametrize(
    ("locale", "text", "number"),
    [
        ("de", "1.234,50", "1234.50"),
        ("de", "1.234,50 €", "1234.50"),
        ("de", "1.234,50\u00a0EUR", "1234.50"),
        ("de", "€ 12,-", "12"),
        ("de", "12,– €", "12"),
        ("de", "123,45-", "-123.45"),
        ("de", "-   5,00 €", "-5.00"),
        ("de", "€-5,00", "-5.00"),
        ("de", "(1.234,50 €)", "-1234.50"),
        ("de", "- €", "0"),
        ("de", "26 %", "0.26"),
        ("de", "1,38E+10", "13800000000"),
        ("en", "$1,234.50", "1234.50"),
        ("en", "($1,234.50)", "-1234.50"),
        ("en", "$(1,234.50)", "-1234.50"),
        ("en", "−5", "-5"),
        ("en", "–5", "-5"),
        ("en", "US$ 5", "5"),
        ("en", "$ -", "0"),
        ("en", "26%", "0.26"),
        ("en", "5‰", "0.005"),
        ("en", "１，２３４．５０", "1234.50"),
        ("en", ".5", "0.5"),
        ("fr", "1\u202f234,50 €", "1234.50"),
        ("fr", "1\u00a0234 567,5", "1234567.5"),
        ("de_CH", "1'234.50", "1234.50"),
        ("de_CH", "CHF 1’234.50", "1234.50"),
        ("de_CH", "CHF 12.-", "12"),
        ("de_CH", "12.—", "12"),
        ("en_IN", "12,34,567.00", "1234567.00"),
        ("en_IN", "₹1,00,000", "100000"),
        ("ar_EG", "١٬٢٣٤٫٥", "1234.5"),
        ("ar_EG", "1,234.5", "1234.5"),
        ("fa", "\u200e−۵", "-5"),
        ("tr", "%26", "0.26"),
        ("sv", "1 234,50 kr", "1234.50"),
        ("pl", "1234,50 zł", "1234.50"),
    ],
)
def test_a_number_is_read_as_its_locale_writes_it(locale, text, number):
    """Signs, groups, currency and percent of a locale, and of accountants, make one exact number."""
    assert _notation(locale).read(text) == Decimal(number)


@pytest.mark.parametrize(
    ("locale", "text"),
    [
        *(
            ("de", text)
            for text in ("1,234.50", "1.23", "01.234", "1.2345", "1.234.56", "12,34,567", "5 Stück")
        ),
        *(
            ("de", text)
            for text in ("", "-", "€", "(5", "5)", "(-5)", "--5", "-5-", "5 € €", "1,2,3", "1. 234")
        ),
        *(
            ("en", text)
            for text in ("1.234,50", "1 234", "1'234", "0,500", "1,234,56", "B12", "12:30", "1/2")
        ),
        *(("fr", text) for text in ("12 34", "1 234 56", "1.234,50")),
        *(("en_IN", text) for text in ("12,345,67", "1,2,345")),
        ("en", "9" * 61),
    ],
)
def test_what_is_not_a_number_of_the_locale(locale, text):
    """Groups in the wrong places, two signs, units and other locales' decimals are not numbers."""
    assert NOTATIONS[locale].read(text) is None


def test_every_locale_reads_what_it_writes():
    """What Babel writes in any of its locales, in its own digits or ours, is read back as the number."""
    wrong = []
    for name in locale_identifiers():
        if name.startswith("tok"):  # its groups of two have no others' last group of three
            continue
        notation, system = _notation(name), Locale.parse(name).default_numbering_system
        for number in (Decimal("1234567.25"), Decimal("-1234.5"), Decimal("0.75")):
            texts = {
                format_decimal(number, locale=name),
                format_decimal(number, locale=name, numbering_system=system),
                format_currency(number, "EUR", locale=name, numbering_system=system),
            }
            wrong += [(name, text) for text in texts if notation.read(text) != number]
        percent = format_percent(Decimal("0.26"), locale=name, numbering_system=system)
        wrong += [(name, percent)] * (notation.read(percent) != Decimal("0.26"))
    assert wrong == []


def test_notations_that_are_found_are_those_of_the_locales(monkeypatch):
    """The few that need no Babel are what Babel says of their locales."""
    monkeypatch.setattr("mailmerge.recipients.types.NOTATIONS", {})
    assert {locale: notation_of(locale) for locale in NOTATIONS} == NOTATIONS


@given(st.decimals(allow_nan=False, allow_infinity=False, places=2, min_value=-(10**12), max_value=10**12))
def test_any_amount_comes_back(number):
    """Whatever is formatted with groups and two decimals is read as that number, and by no other notation."""
    english = f"{number:,.2f}"
    written = {
        "en": english,
        "de": english.translate({44: ".", 46: ","}),
        "fr": english.translate({44: "\u202f", 46: ","}),
        "de_CH": english.replace(",", "’"),
    }
    for locale, text in written.items():
        read = {name: NOTATIONS[name].read(text) for name in NOTATIONS}
        assert read[locale] == number
        assert {other for other in read.values() if other is not None} == {number}


def find_notation(texts):
    """Read a column from its first cell that is not blank to its last, or until it is text."""
    column = NumberColumn()
    written = (text for text in texts if text and not text.isspace())
    return column.answer() if all(map(column.takes, written)) else Numbers()


@pytest.mark.parametrize(
    ("texts", "locale"),
    [
        (["1.234,50", "9,00"], "de"),
        (["1.234,50 €", "", "  ", "99,00 €", "5 €"], "de"),
        (["1,234.50", "9.00"], "en"),
        (["26%", "5 %"], "en"),
        (["−5", "3"], "en"),
        (["9,00"], "de"),
        (["1 234,50", "9,00"], "fr"),
        (["1'234"], "de_CH"),
        (["12,34,567.00", "5.00"], "en_IN"),
        (["1,234,567"], "en"),
        (["123,45-", "9,00"], "de"),
        (["$ 1,234.00", "$ -"], "en"),
        (["(1,234.50)", "17.00"], "en"),
        (["12.50", "99.00"], "en"),
        (["48.13721", "11.575"], "en"),
        (["1.234", "1.234,5"], "de"),
    ],
)
def test_the_notation_of_a_column_is_found(texts, locale):
    """One notation that reads all cells, and one cell that shows that they are numbers, are enough."""
    assert find_notation(texts).locale == locale


@pytest.mark.parametrize(
    "texts",
    [
        *(["01067", "10115"], ["1234", "99"], ["2026", "2025"], ["612 345 678"], ["+49 151 23456789"]),
        *(["0151 234", "030 123"], ["12.345.678"], ["10.123.123.123"], ["3.10", "3.9"], ["22.04", "20.10"]),
        *(["12.50", "9.00"], ["24.12", "31.01"], ["2026.03", "2025.12"], ["05.03.2026"], ["2026-03-05"]),
        *(["5/3/26"], ["09:30"], ["2-", "3"], ["(5)"], ["TOP 10", "TOP 20"], ["COP 26"], ["12 KM"], ["R2"]),
        *(["1,234.50", "1.234,50"], ["9,00", "soon"], ["26%", "5"], ["1.38E+10"], ["1,38E+10"], [], [" "]),
        *(["007", "1,5"], ["9" * 61], ["x" * 200_000], ["1.5", "2.10"]),
    ],
)
def test_what_may_be_something_else_stays_text(texts):
    """Ids, telephone numbers, zip codes, dates, times, versions, marks and mixtures are not numbers."""
    found = find_notation(texts)
    assert (found.locale, found.doubt) == ("", "")


@pytest.mark.parametrize(
    ("texts", "doubt"),
    [
        (["1.234"], '"1.234" is 1.234 or 1234'),
        (["5 €", "1,234 €"], '"1,234 €" is 1234 or 1.234'),
        (["5 €", "$5"], "it has amounts in several currencies: €, $"),
    ],
)
def test_a_doubtful_column_says_why(texts, doubt):
    """Where two notations make different numbers of a column, none is taken, and both are told."""
    found = find_notation(texts)
    assert (found.locale, found.doubt) == ("", doubt)


def test_typed_columns_keep_what_is_written():
    """A cell of a typed column shows its own text, and calculates with the number."""
    cell = cell_type("decimal:de", "amount").read(" 1.234,50 € ")
    assert (displayed(cell), plain(cell), canonical(cell)) == ("1.234,50 €", Decimal("1234.50"), "1234.5")
    whole = cell_type("integer:de", "n")
    assert plain(whole.read("1.234")) == 1234
    with pytest.raises(ValueError, match=r"^$"):
        whole.read("1,5")


@pytest.mark.parametrize(
    ("spec", "cell", "message", "hint"),
    [
        (
            "decimal:en",
            "1.234,50 €",
            '"1.234,50 €" is not a number as en writes it',
            'types = { x = "decimal:de" } would read it; or this column\'s numbers look like 1,234.50',
        ),
        (
            "decimal",
            "1.234,50",
            '"1.234,50" is not a decimal number',
            (
                'types = { x = "decimal:de" } would read it; or write 1234.50: a point for the decimals, '
                "no thousands separator"
            ),
        ),
        (
            "integer:fr",
            "soon",
            '"soon" is not a whole number as fr writes it',
            "this column's numbers look like 1 234",
        ),
        (
            "date",
            "05/03/2026",
            '"05/03/2026" is not a date',
            (
                'types = { x = "date:%d/%m/%Y" or "date:%m/%d/%Y" } would read it; '
                "or write dates as 2026-11-28, or specify their format: date:%d/%m/%Y"
            ),
        ),
        (
            "date:%d/%m/%Y",
            "31.12.2026",
            '"31.12.2026" is not a date',
            'types = { x = "date:%d.%m.%Y" } would read it; or this column\'s dates look like 28/11/2026',
        ),
    ],
)
def test_a_misfit_names_the_types_that_were_tried(spec, cell, message, hint):
    """A cell that does not fit its type says which type reads it; where two do, both."""
    problem = cell_type(spec, "x").misfit(cell, Place(), 2)
    assert (problem.code, problem.message, problem.hint) == ("D130", message, hint)


def test_a_hint_can_be_pasted_whatever_the_column_is_called():
    """TOML wants names of other letters in quotes."""
    hint = cell_type("decimal", "金额").misfit("1.234,50", Place(), 2).hint
    assert hint is not None
    pasted, _, _ = hint.partition(" would read it")
    assert tomllib.loads(pasted) == {"types": {"金额": "decimal:de"}}


def test_a_locale_that_does_not_exist():
    """A type with an unknown locale is the campaign's mistake, with examples."""
    with pytest.raises(CampaignFileError) as caught:
        cell_type("decimal:klingon", "amount")
    assert str(caught.value) == '`data.types.amount`: "klingon" is not a known locale'
    assert "decimal:de_CH" in str(caught.value.hint)


def test_locales_with_digits_of_their_own_read_ours_too():
    """Arabic lists have either digits, each with its own sign for decimals."""
    assert notation_of("ar_EG") == Notation("٫.", "٬,")


def test_dates_stay_as_written():
    """A typed date shows what was written."""
    cell = cell_type("date:%d.%m.%Y", "due").read("5.3.2026")
    assert (displayed(cell), plain(cell)) == ("5.3.2026", date(2026, 3, 5))
