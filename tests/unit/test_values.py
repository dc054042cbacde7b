"""Cells: their texts, and what hash, equality, order and arithmetic have to keep to, over any values."""

# ruff: noqa: DTZ001  a cell has no time zone

from __future__ import annotations

import operator
import pickle
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.values import (
    MISSING,
    BadValue,
    Date,
    DateTime,
    Duration,
    Number,
    Time,
    Truth,
    calculate,
    canonical,
    cell_of,
    contains,
    displayed,
    equal,
    find,
    kind_of,
    notation,
    order_keys,
    ordered,
    plain,
    repeated,
    rounded,
    same_as,
    signed,
    total,
    truth,
)

# --- strategies: few different values, so that equal ones meet ---------------------------------------------

numbers = st.one_of(
    st.sampled_from(
        [Decimal(text) for text in ("0", "-0", "1", "1.0", "1.00", "1.005", "1.01", "716", "1E+3")]
    ),
    st.decimals(allow_nan=False, allow_infinity=False),
)
days = st.one_of(st.dates(date(2026, 3, 4), date(2026, 3, 6)), st.dates())
moments = st.one_of(
    st.sampled_from([datetime(2026, 3, 5), datetime(2026, 3, 5, 9, 30), datetime(2026, 3, 5, 9, 30, 5)]),
    st.datetimes(),
)
times = st.one_of(st.sampled_from([time(0), time(9, 30), time(9, 30, 5)]), st.times())
durations = st.one_of(
    st.sampled_from([timedelta(0), timedelta(hours=9, minutes=30), timedelta(hours=26)]),
    st.timedeltas(timedelta(days=-9999), timedelta(days=9999)),
)
PLAIN = {
    Number: numbers,
    Date: days,
    DateTime: moments,
    Time: times,
    Duration: durations,
    Truth: st.booleans(),
}
WORDS = [
    "",
    "1",
    "1.0",
    "1.01",
    "00716",
    "716",
    "TRUE",
    "FALSE",
    "yes",
    "no",
    "2026-03-05",
    "March 2026",
    "09:30",
    "9:30",
]
texts = st.one_of(st.sampled_from(WORDS), st.text(max_size=12))


def cells(kind, *, shown=True):
    """Make cells of one type, some of them with a displayed text of their own."""
    own = st.one_of(st.none(), texts) if shown else st.none()
    return st.builds(kind, PLAIN[kind], own)


values = st.one_of(*map(cells, PLAIN))
anything = st.one_of(texts, values)


def answer(compare, left, right):
    """Return the answer; None: it is an error."""
    try:
        return compare(left, right)
    except BadValue:
        return None


# --- texts ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "shown", "exact"),
    [
        ("00716", "00716", "00716"),
        (Number(Decimal(716), "00716"), "00716", "716"),
        (Decimal("1.10"), "1.10", "1.1"),
        (Decimal("1E+3"), "1000", "1000"),
        (Decimal("1E-7"), "0.0000001", "0.0000001"),
        (Decimal("-0.00"), "-0.00", "0"),
        (Decimal("1E+5000"), "1E+5000", "1E+5000"),
        (Decimal("10E+5000"), "1.0E+5001", "1E+5001"),
        (13800138000.0, "13800138000", "13800138000"),
        (1e30, "1" + "0" * 30, "1" + "0" * 30),
        (0.1, "0.1", "0.1"),
        (7, "7", "7"),
        (True, "TRUE", "TRUE"),
        (Truth(False, "Nein"), "Nein", "FALSE"),
        (date(2026, 3, 5), "2026-03-05", "2026-03-05"),
        (datetime(2026, 3, 5), "2026-03-05 00:00", "2026-03-05"),
        (datetime(2026, 3, 5, 9, 30), "2026-03-05 09:30", "2026-03-05 09:30"),
        (datetime(2026, 3, 5, 9, 30, 5), "2026-03-05 09:30:05", "2026-03-05 09:30:05"),
        (datetime(2026, 3, 5, 9, 30, 5, 250), "2026-03-05 09:30:05", "2026-03-05 09:30:05.000250"),
        (Date(date(2026, 3, 5), None, "2026-03-05 09:30"), "2026-03-05", "2026-03-05 09:30"),
        (time(9, 30), "09:30", "09:30"),
        (time(9, 30, 5, 250), "09:30:05", "09:30:05.000250"),
        (timedelta(hours=9, minutes=30), "9:30", "09:30"),
        (timedelta(hours=26, seconds=5), "26:00:05", "26:00:05"),
        (timedelta(minutes=-90, microseconds=-1), "-1:30", "-01:30:00.000001"),
    ],
)
def test_displayed_and_canonical_text(value, shown, exact):
    """What the list shows, and the one text that no cell format changes."""
    assert (displayed(value), canonical(value)) == (shown, exact)
    assert str(cell_of(value)) == str(shown) or isinstance(value, bool)


@given(st.sampled_from(list(PLAIN)).flatmap(lambda kind: st.tuples(st.just(kind), PLAIN[kind], texts, texts)))
def test_no_format_changes_the_canonical_text(case):
    """The canonical text depends on the value alone, never on what is shown."""
    kind, value, one, other = case
    assert canonical(kind(value, one)) == canonical(kind(value, other)) == canonical(value)


@given(
    st.sampled_from(list(PLAIN)).flatmap(
        lambda kind: st.tuples(cells(kind, shown=False), cells(kind, shown=False))
    )
)
def test_canonical_texts_are_equal_where_values_are(pair):
    """Two values of one type have one canonical text exactly if they are equal."""
    left, right = pair
    assert (canonical(left) == canonical(right)) is equal(left, right)


@given(values)
def test_canonical_text_reads_back(value):
    """A canonical text means the value that it was made from, unless it is beyond what people write."""
    text = canonical(value)
    if "E" in text and isinstance(value, Number):
        return
    if isinstance(value, DateTime) and not any((value.value.hour, value.value.minute, value.value.second)):
        assert notation.read_moment(text) in {value.value, value.value.date()}
        return
    assert value.read(text) == value.value


@pytest.mark.parametrize("value", [None, float("nan"), float("inf"), Decimal("NaN"), Decimal("-Infinity")])
def test_nothing_to_show(value):
    """None, NaN and infinity have no text: they must not be printed as words."""
    with pytest.raises(BadValue):
        displayed(value)


@pytest.mark.parametrize(
    ("read", "text"),
    [
        (notation.read_number, "1,234"),
        (notation.read_number, "1_000"),
        (notation.read_number, "٣"),
        (notation.read_number, "1e5"),
        (notation.read_number, "nan"),
        (notation.read_number, ""),
        (notation.read_date, "2026-3-5"),
        (notation.read_date, "20260305"),
        (notation.read_date, "2026-02-30"),
        (notation.read_date, "10000-01-01"),
        (notation.read_date, "2026-03-05 09:30"),
        (notation.read_time, "9:30"),
        (notation.read_time, "24:00"),
        (notation.read_duration, "9:3"),
        (notation.read_duration, "9:60"),
        (notation.read_truth, "maybe"),
    ],
)
def test_texts_are_read_strictly(read, text):
    """What could be meant in another way is not read at all."""
    assert read(text) is None


# --- equality -----------------------------------------------------------------------------------------------


@given(anything, anything)
def test_equality_is_symmetric(left, right):
    """The answer does not depend on the side, and neither does whether there is one."""
    assert answer(equal, left, right) == answer(equal, right, left)


@given(anything)
def test_everything_equals_itself(value):
    """A cell is equal to itself and to each of its texts, if it answers at all."""
    assert equal(value, value) is True
    for text in (displayed(value), canonical(value)):
        assert answer(equal, value, text) in {True, None}


@given(values, values, values)
def test_equality_of_values_is_transitive(one, two, three):
    """Of three values: if the first two and the last two are equal, so are the first and the last."""
    if answer(equal, one, two) and answer(equal, two, three):
        assert answer(equal, one, three) is True


@given(st.sampled_from(list(PLAIN)).flatmap(lambda kind: st.tuples(cells(kind), cells(kind))), texts)
def test_equality_is_transitive_through_a_text_that_means_a_value(pair, text):
    """Two values that are equal to the same text are equal, if that text reads as a value of their type."""
    one, two = pair
    if one.read(text) is not None and answer(equal, one, text) and answer(equal, text, two):
        assert equal(one, two) is True


def test_a_displayed_text_may_say_less_than_the_value():
    """What cannot be helped: text that reads as nothing can be the displayed text of two values."""
    one, two = Date(date(2026, 3, 5), "March 2026"), Date(date(2026, 3, 6), "March 2026")
    assert (equal(one, "March 2026"), equal("March 2026", two), equal(one, two)) == (True, True, False)


@given(values, values)
def test_hash_and_equality_agree(left, right):
    """Python's own equality calls nothing equal that has another hash, and answers nothing for texts."""
    if answer(operator.eq, left, right):
        assert hash(left) == hash(right)
        assert len({left, right, left.value}) == 1
    for text in (displayed(left), canonical(left)):
        assert answer(operator.eq, left, text) is None
        assert answer(operator.ne, text, left) is None


@given(values, values)
def test_other_types_are_an_error_never_a_no(left, right):
    """Two values of unlike types are neither equal nor unequal, nor the one before the other."""
    if type(left) is not type(right):
        for compare in (equal, operator.eq, operator.ne, lambda a, b: ordered(operator.lt, a, b)):
            assert answer(compare, left, right) is None


@pytest.mark.parametrize(
    ("left", "right", "found"),
    [
        (Truth(True), "TRUE", True),
        (Truth(True), "true", None),
        (Truth(True), "yes", None),
        (Truth(True), "no", False),
        (Truth(True), "maybe", False),
        (True, "TRUE", True),
        (True, 1, None),
        (Date(date(2026, 3, 5), "05.03.2026"), "05.03.2026", True),
        (Date(date(2026, 3, 5), "05.03.2026"), "2026-03-05", True),
        (Date(date(2026, 3, 5), "05.03.2026"), "06.03.2026", False),
        (Date(date(2026, 3, 5)), "2026-03-05 00:00", None),
        (Date(date(2026, 3, 5)), "2026-03-06 00:00", False),
        (Date(date(2026, 3, 5)), datetime(2026, 3, 5), None),
        (DateTime(datetime(2026, 3, 5)), "2026-03-05", True),
        (DateTime(datetime(2026, 3, 5, 9)), "2026-03-05", None),
        (DateTime(datetime(2026, 3, 5, 9)), "2026-03-06", False),
        (DateTime(datetime(2026, 3, 5, 9)), "2026-03-05T09:00", None),
        (DateTime(datetime(2026, 3, 5, tzinfo=UTC)), datetime(2026, 3, 5), None),
        (Number(Decimal(716), "00716"), "00716", True),
        (Number(Decimal(716), "00716"), "716", True),
        (Number(Decimal(716), "00716"), "0716", None),
        (Number(Decimal(716), "00716"), "717", False),
        (Number(Decimal("1.005"), "1.01"), "1.01", None),
        (Number(Decimal("0.26"), "26%"), "26%", True),
        (99, "99", True),
        (99, "99.00", None),
        (99, "n/a", False),
        (99, "", False),
        (0.1, Decimal("0.1"), True),
        (Number(Decimal("0.1")), 0.1, True),
        ([1, "a"], [Number(Decimal(1)), "a"], True),
        ([1], ["1"], True),
        ({"a": 1}, {"a": 2}, False),
        ([1], 1, None),
        (Number(Decimal(1)), None, False),
    ],
)
def test_comparisons_that_matter(left, right, found):
    """Text has to be one of the value's two texts; what means the same in another form is an error."""
    assert answer(equal, left, right) is found


# --- order ------------------------------------------------------------------------------------------------


@given(st.sampled_from(list(PLAIN)).flatmap(lambda kind: st.tuples(cells(kind), cells(kind))))
def test_order_is_that_of_the_values(pair):
    """Values of one type are ordered as their Python values are, whatever is shown."""
    left, right = pair
    for compare in (operator.lt, operator.le, operator.gt, operator.ge):
        assert ordered(compare, left, right) is compare(left.value, right.value)


@pytest.mark.parametrize(
    ("left", "right", "less"),
    [
        ("9", "10", True),
        ("9.50", 10, True),
        (Number(Decimal(9)), "10", True),
        ("Ann", "Zoe", True),
        ("9", "Zoe", None),
        ("", "10", None),
        ("n/a", 10, None),
        ("1.234,50", "999", None),
        ("1.234,50", "2.000,00", None),
        ("05.03.2026", "06.02.2026", None),
        ("2026-03-05", "2026-03-06", True),
        ("9:30", "10:00", True),
        ("2026-03-05", Date(date(2026, 3, 6)), True),
        ("2026-03-05", DateTime(datetime(2026, 3, 6)), None),
        ("TRUE", Truth(True), None),
        (Date(date(2026, 3, 5)), DateTime(datetime(2026, 3, 6)), None),
        (datetime(2026, 3, 5), datetime(2026, 3, 6, tzinfo=UTC), None),
    ],
)
def test_texts_are_ordered_as_what_they_mean(left, right, less):
    """Text is read as the other side's type or is an error: never the order of characters for numbers."""
    assert answer(lambda a, b: ordered(operator.lt, a, b), left, right) is less


# --- look-ups ---------------------------------------------------------------------------------------------


@given(values, st.dictionaries(texts, st.integers(), max_size=4))
def test_a_value_finds_what_its_texts_find(value, table):
    """Looked up is the displayed, then the canonical text; that both are keys is an error."""
    keys = {displayed(value), canonical(value)} & table.keys()
    if len(keys) > 1:
        with pytest.raises(BadValue):
            find(table, value)
    else:
        assert find(table, value) == (table[keys.pop()] if keys else MISSING)


def test_two_keys_for_one_value_are_an_error():
    """Where the displayed and the canonical text are both keys, nobody knows which was meant."""
    zip_code = Number(Decimal(716), "00716")
    assert find({"00716": 1, "717": 2}, zip_code) == 1
    assert find({"716": 1, "0716": 2}, zip_code) == 1
    assert find({716: 1}, zip_code) == find({zip_code: 1}, "00716") == find({"1": 1}, 1) == 1
    assert find({"717": 2}, zip_code) is MISSING
    with pytest.raises(BadValue):
        find({"00716": 1, "716": 2}, zip_code)


@given(st.lists(anything, max_size=6), anything)
def test_in_a_list_is_equal_to_an_item(items, value):
    """``in`` and ``==`` agree."""
    found = [answer(equal, item, value) for item in items]
    if None not in found:
        assert contains(items, value) is (True in found)


def test_a_part_of_a_text_is_looked_for_by_what_is_shown():
    """716 shown as 00716 is in "00716", and neither in nor not in "10716"."""
    zip_code = Number(Decimal(716), "00716")
    assert contains("PR 00716", zip_code) is True
    assert contains("PR 00717", zip_code) is False
    with pytest.raises(BadValue):
        contains("10716", zip_code)
    assert contains(zip_code, "007") is True


@given(st.lists(anything, max_size=6))
def test_repeats_are_equal_and_share_their_texts(items):
    """A repeat is equal to the first of its kind; what is told apart has no text in common."""
    try:
        first = same_as(items)
    except BadValue:
        return
    for position, earlier in enumerate(first):
        assert answer(equal, items[position], items[earlier]) is True
    for left in range(len(items)):
        for right in range(left):
            if first[left] != first[right]:
                assert not {displayed(items[left]), canonical(items[left])} & {
                    displayed(items[right]),
                    canonical(items[right]),
                }


def test_two_days_that_are_shown_alike_make_no_group():
    """Grouping by what is shown and by what is meant would differ: that is an error."""
    march = [Date(date(2026, 3, 5), "March"), Date(date(2026, 3, 6), "March")]
    with pytest.raises(BadValue):
        same_as(march)
    assert same_as(["A", "a", "b"], fold=True) == [0, 0, 2]


def test_sorting_is_by_value():
    """Numbers in texts are sorted as numbers, beside values as those; mixtures are errors."""
    assert sorted(order_keys(["10", "9"])) == [9, 10]
    assert order_keys(["2026-03-06", Date(date(2026, 3, 5))]) == [date(2026, 3, 6), date(2026, 3, 5)]
    assert order_keys(["b", "A", "1"]) == ["b", "A", "1"]
    for mixed in (
        ["10", "9", "A"],
        ["n/a", Number(Decimal(1))],
        [Number(Decimal(1)), Date(date(2026, 3, 5))],
    ):
        with pytest.raises(BadValue):
            order_keys(mixed)


# --- arithmetic --------------------------------------------------------------------------------------------

small = st.decimals(-(10**9), 10**9, places=4)


@given(small, small, st.sampled_from(["+", "-", "*"]))
def test_numbers_are_exact(left, right, symbol):
    """Sums and products are those of decimals, also with floats of a template."""
    exactly = {"+": left + right, "-": left - right, "*": left * right}[symbol]
    assert calculate(symbol, Number(left), Number(right)).value == exactly
    assert calculate(symbol, Number(left, "shown"), right).value == exactly


@given(st.integers(-(10**6), 10**6), st.integers(-1000, 1000).filter(bool))
def test_whole_numbers_divide_as_in_templates(left, right):
    """``//`` and ``%`` round down for cells as they do for numbers in a template."""
    cell = Number(Decimal(left))
    assert calculate("//", cell, right).value == left // right
    assert calculate("%", cell, right).value == left % right


@pytest.mark.parametrize(
    ("symbol", "left", "right"),
    [
        ("/", Number(Decimal(1)), Number(Decimal(0))),
        ("%", Number(Decimal(1)), 0),
        ("/", Number(Decimal(0)), 0),
        ("+", Number(Decimal("9" * 29)), 1),
        ("*", Number(Decimal("1E+999999")), 10),
        ("**", 10, Number(Decimal(10**9))),
        ("**", 10, 10**9),
        ("+", Date(date(9999, 12, 31)), Duration(timedelta(days=1))),
        ("+", Date(date(2026, 3, 5)), Duration(timedelta(hours=1))),
        ("+", Date(date(2026, 3, 5)), 1),
        ("-", Date(date(2026, 3, 5)), DateTime(datetime(2026, 3, 4))),
        ("*", Duration(timedelta(days=9999)), 10**12),
        ("+", "99", "5"),
        ("*", "99", 2),
        ("-", "99", 2),
        ("+", "a", Number(Decimal(1))),
        ("*", "-", Number(Decimal(10**9))),
        ("*", "-", Number(Decimal("1.5"))),
        ("+", Truth(True), 1),
        ("%", "%d", "x"),
        ("%", "50", 7),
        ("*", "n/a", 2),
        ("*", 2, "1,5"),
        ("*", "", 2),
    ],
)
def test_what_has_no_result_is_an_error(symbol, left, right):
    """No sum of texts that are numbers, nothing beyond what can be kept, nothing that fills the memory."""
    with pytest.raises(BadValue):
        calculate(symbol, left, right)


def test_what_has_a_result():
    """Texts join and repeat, days and durations add up, and results are values again."""
    assert calculate("+", "a", "b") == "ab"
    assert repeated("-", Number(Decimal(3))) == repeated(3, "-") == "---"
    assert calculate("%", "%s: %d, %.1f", ("x", Number(Decimal(3)), Number(Decimal("2.25")))) == "x: 3, 2.2"
    assert calculate("%", "%(a)s", {"a": True}) == "TRUE"
    assert calculate("+", Number(Decimal("0.1")), 0.2).value == Decimal("0.3")
    assert calculate("-", Date(date(2026, 3, 6)), date(2026, 3, 5)).value == timedelta(days=1)
    assert calculate("+", Duration(timedelta(days=1)), Date(date(2026, 3, 5))).value == date(2026, 3, 6)
    assert calculate("/", Duration(timedelta(hours=3)), Duration(timedelta(hours=2))).value == Decimal("1.5")
    assert calculate("*", 2, Duration(timedelta(hours=3))).value == timedelta(hours=6)
    assert signed("-", Number(Decimal(1))).value == -1
    assert rounded(Number(Decimal("2.345")), 2, "ceil").value == Decimal("2.35")
    assert total([Duration(timedelta(hours=1)), Duration(timedelta(hours=2))]).value == timedelta(hours=3)


@pytest.mark.parametrize(
    ("result", "exact"),
    [
        (lambda: calculate("+", 0.1, 0.2), "0.3"),
        (lambda: calculate("-", 0.3, 0.1), "0.2"),
        (lambda: calculate("*", 1.1, 3), "3.3"),
        (lambda: calculate("*", calculate("+", 0.1, 0.2), Number(Decimal(99))), "29.7"),
        (lambda: calculate("/", 1.1, 11), "0.1"),
        (lambda: calculate("%", 0.3, 0.1), "0.0"),
        (lambda: total([0.1, 0.2]), "0.3"),
        (lambda: rounded(2.675, 2, "common"), "2.68"),
        (lambda: calculate("/", 7, 2), "3.5"),
    ],
)
def test_numbers_written_in_a_template_are_decimal(result, exact):
    """0.1 + 0.2 is 0.3, whether or not a cell is involved; an integer remains one."""
    made = result()
    assert str(made) == exact
    assert equal(made, float(exact))
    assert calculate("*", 3, 4).__class__ is calculate("//", 7, 2).__class__ is int


def test_python_numbers_of_a_value_are_right_or_refused():
    """A number that does not fit into what is asked for is refused, not bent."""
    seven, long = Number(Decimal(7)), Number(Decimal("12345678901234567890.5"))
    assert (int(seven), float(seven), operator.index(seven), int(long)) == (7, 7.0, 7, 12345678901234567890)
    assert float(Number(Decimal("3.333333333333333333333333333"))) == 3.3333333333333335
    for take, value in (
        (float, long),
        (operator.index, Number(Decimal("1.5"))),
        (int, Number(Decimal("1E+5000"))),
        (int, Date(date(2026, 3, 5))),
        (float, Truth(True)),
        (operator.index, Duration(timedelta(1))),
    ):
        with pytest.raises(BadValue):
            take(value)


# --- the rest ----------------------------------------------------------------------------------------------


@given(st.sampled_from([text for text in WORDS if text]), st.sampled_from(["", " ", "\t"]))
def test_blanks_and_case_do_not_matter_for_truth(word, blank):
    """A word means the same with spaces around it and in capitals."""

    def says(text):
        return answer(lambda value, _: truth(value), text, None)

    assert says(word) is says(blank + word.swapcase() + blank)


@given(values)
def test_a_value_is_a_plain_frozen_thing(value):
    """It can be kept, copied and sent to another process, and a cell of it is itself."""
    again: Any = pickle.loads(pickle.dumps(value))
    assert (again.value, again.displayed, again.canonical) == (value.value, value.displayed, value.canonical)
    assert cell_of(value) is value
    assert plain(value) is value.value
    assert kind_of(value) is type(value)
    with pytest.raises(AttributeError):
        setattr(value, "value", 1)  # noqa: B010  the type checker knows that it cannot be


def test_cells_of_plain_values():
    """Dates and fractions in variables become cells, texts and tables stay what they are."""
    made: Any = cell_of({"price": 0.1, "days": [date(2026, 3, 5)], "name": "x", "n": 3, "nan": float("nan")})
    assert (made["price"].value, made["days"][0].displayed) == (Decimal("0.1"), "2026-03-05")
    assert (made["name"], made["n"], made["nan"] != made["nan"]) == ("x", 3, True)


@pytest.mark.parametrize(
    ("text", "values"),
    [
        ("%(x)999999999d", {"x": 1}),
        ("%(x (y))-999999999d", {"x (y)": 1}),
        ("%999999999.1234f", 1.0),
        ("%5.999999999f", 1.0),
        ("%5.*f", (999_999_999, 1.0)),
    ],
)
def test_a_width_or_a_precision_that_fills_the_memory_is_refused(text: str, values: object) -> None:
    """Whether it is written or given, with a name or without."""
    with pytest.raises(BadValue, match="more than 1,000,000"):
        calculate("%", text, values)


def test_numbers_beside_a_format_are_no_widths() -> None:
    """Such as a telephone number after brackets."""
    assert calculate("%", "%(n)s (030) 12345678 0.12345678", {"n": "Ann"}) == "Ann (030) 12345678 0.12345678"
