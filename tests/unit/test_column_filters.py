"""How init prints the columns of a list: filters for typed columns, only where nothing changes by them."""

from __future__ import annotations

from datetime import date, datetime, time
from decimal import Decimal
from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign.column_filters import ColumnShapes, printing
from mailmerge.values import Date, DateTime, Number, Time, Truth

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.values import Cell

DAY, MOMENT = date(2026, 3, 5), datetime(2026, 3, 5, 9, 30)  # noqa: DTZ001


def shapes(cells: Sequence[Cell]) -> ColumnShapes:
    column = ColumnShapes()
    for cell in cells:
        column.add(cell)
    return column


def numbers(*shown: tuple[str, str]) -> list[Cell]:
    return [Number(Decimal(value), text) for value, text in shown]


@pytest.mark.parametrize(
    ("cells", "expression"),
    [
        (numbers(("1234.5", "1,234.50 €")), 'x|money("EUR")'),
        (numbers(("1234.5", "€1,234.50"), ("-3", "-€3.00")), 'x|money("EUR")'),
        (numbers(("1234.5", "EUR 1,234.50")), 'x|money("EUR")'),
        (numbers(("99.9", "$99.90")), 'x|money("USD")'),
        (numbers(("10", "£10.00")), 'x|money("GBP")'),
        (numbers(("5.5", "CHF 5.50")), 'x|money("CHF")'),
        (numbers(("1200", "¥1,200")), 'x|money("JPY")'),
        ([*numbers(("1", "€1.00")), ""], 'x|money("EUR", default="")'),
        (numbers(("1200", "1,200")), "x|number"),
        (numbers(("1200.5", "1,200.50"), ("3", "3.00")), "x|number(2)"),
        ([*numbers(("1200", "1,200")), " "], 'x|number(default="")'),
        ([Date(DAY, "05.03.2026")], "x|date"),
        ([Date(DAY, "5 March 2026"), ""], 'x|date(default="")'),
        ([Date(DAY, "3/5/26")], "x|date"),
        ([DateTime(MOMENT, "05.03.2026 09:30")], 'x|date ~ " " ~ x|time'),
        ([Time(time(9, 30), "9:30 AM")], "x|time"),
    ],
)
def test_a_typed_column_gets_its_filter(cells, expression):
    """Amounts by their currency, numbers by their decimals, days and times; a gap is printed as one."""
    assert printing({"x": "x"}, {"x": shapes(cells)}).expressions == {"x": expression}


@pytest.mark.parametrize(
    "cells",
    [
        numbers(("1234.5", "€1,235")),  # the list hides the cents
        numbers(("1200", "¥1,200.00")),  # yuan, or yen with decimals that there are none of
        numbers(("10", "10.00 kr")),  # of Sweden, Norway or Denmark
        numbers(("10", "10.00 zł")),  # English writes PLN
        numbers(("10", "A$10.00")),
        numbers(("10", "€10.00"), ("10", "$10.00")),
        numbers(("0.26", "26%")),
        numbers(("716", "00716")),
        numbers(("2026", "2026")),
        numbers(("1.5", "1.5 kg")),
        numbers(("1.125", "1.13")),
        [*numbers(("10", "€10.00")), "on request"],
        [Date(DAY, "March 2026")],
        [Date(DAY, "Thursday")],
        [Date(DAY, "05.03.")],
        [Truth(value=True)],
        ["Ann", "Bo"],
        ["", ""],
        [],
    ],
)
def test_what_a_filter_would_change_is_printed_as_the_list_shows_it(cells):
    """No currency is guessed, no cent and no month added, no id or year gets separators."""
    assert printing({"x": "x"}, {"x": shapes(cells)}).expressions == {"x": "x"}


def test_the_locale_is_the_one_that_the_numbers_are_written_in():
    """A list in German notation gives letters in German notation; English is what no line is needed for."""
    german = shapes(numbers(("1234.5", "1.234,50 €"), ("99", "99,00 €")))
    swiss = shapes(numbers(("1234.5", "1'234.50")))
    english = shapes(numbers(("1234.5", "€1,234.50")))

    found = [printing({"x": "x"}, {"x": column}) for column in (german, swiss, english)]

    assert [one.locale for one in found] == ["de", "de_CH", "en"]
    assert [one.expressions["x"] for one in found] == ['x|money("EUR")', "x|number(2)", 'x|money("EUR")']
    both = printing({"a": "a", "b": "b"}, {"a": german, "b": english})
    assert both.locale == "en"
    assert both.expressions == {"a": "a", "b": 'b|money("EUR")'}


def test_what_is_to_be_paid_and_when():
    """The amount is the column whose heading says so, or the only one with money; the day likewise."""
    money, day = shapes(numbers(("10", "€10.00"))), shapes([Date(DAY, "05.03.2026")])

    found = printing(
        {"net": "net", "total": 'row["Total"]', "sent": "sent", "due": "due"},
        {"net": money, "total": money, "sent": day, "due": day},
    )
    assert (found.amount, found.due) == ('row["Total"]|money("EUR")', "due|date")
    one = printing({"x": "x", "sent": "sent"}, {"x": money, "sent": day})
    assert (one.amount, one.due) == ('x|money("EUR")', "")
    several = printing({"x": "x", "y": "y"}, {"x": money, "y": money})
    assert several.amount == ""
