"""Rows that repeat others: which one is sent, and what is said of those that are left out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from mailmerge import Account, Campaign
from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mailmerge.campaign.plan import Plan

Row = tuple[str, str, str]
"""Address, number, amount."""


def plan(folder: Path, rows: Sequence[Row], **options: Any) -> Plan:
    """Plan a message for each row; one whose amount is not a number is invalid."""
    names = ("email", "number", "amount")
    return Campaign.from_rows(
        [dict(zip(names, row, strict=True)) for row in rows],
        subject="Hello",
        text="You owe {{ amount|money('EUR') }} for {{ number }}.",
        sender="me@example.org",
        account=Account(host="localhost", user="me@example.org", secret="x"),
        name="spring",
        state=folder,
        environ={"MAILMERGE_CACHE_DIR": str(folder / "cache")},
        **options,
    ).plan()


def sent(made: Plan) -> list[int]:
    """Return the numbers of the rows that are sent."""
    return [message.row for message in made.messages()]


def warnings(made: Plan, code: str = "D265") -> list[str]:
    """Return the warnings about rows that are left out."""
    return [group.first.message for group in made.problems if group.first.code == code]


ANA = [("ana@x.org", "1", "5"), ("bo@x.org", "2", "6"), ("ANA@x.org", "3", "7"), ("ana@x.org ", "4", "8")]
BROKEN = [("ana@x.org", "1", "5"), ("ana@x.org", "2", "6"), ("ana@x.org", "3", "none")]


@pytest.mark.parametrize(
    ("rows", "duplicates", "numbers"),
    [
        (ANA, "first", [2, 3]),
        (ANA, "last", [3, 5]),
        (BROKEN, "first", [2]),
        (BROKEN, "last", []),
        (BROKEN[::-1], "first", [3]),
        (BROKEN[::-1], "last", [4]),
    ],
)
def test_the_first_or_the_last_row_of_a_person_is_sent(tmp_path: Path, rows, duplicates, numbers) -> None:
    """One that is invalid hides nothing, but where it is the last word: the others are out of date then."""
    made = plan(tmp_path, rows, duplicates=duplicates)
    assert sent(made) == numbers
    assert made.statuses.total == len(rows)


@pytest.mark.parametrize("duplicates", ["first", "last"])
def test_keys_and_addresses_both_tell_a_person(tmp_path: Path, duplicates: str) -> None:
    """With a key column, a row repeats another one by its key or by its address."""
    rows = [("a@x.org", "1", "5"), ("b@x.org", "1", "5"), ("b@x.org", "2", "5"), ("c@x.org", "3", "5")]
    made = plan(tmp_path, rows, key="number", duplicates=duplicates)
    # The row in the middle repeats one by its key; it is left out, and hides none.
    assert sent(made) == [2, 4, 5]
    assert made.statuses[Status.DUPLICATE] == 1


def test_a_row_that_is_left_out_says_how_it_differs(tmp_path: Path) -> None:
    """A warning for each, with its number and both values; the same address in other letters is the same."""
    differs = 'is left out for row 2, and differs: number "{}" instead of "1", amount "{}" instead of "5"'
    assert warnings(plan(tmp_path, ANA)) == [
        f"row 4 (ANA@x.org) {differs.format(3, 7)}",
        f"row 5 (ana@x.org) {differs.format(4, 8)}",
    ]


def test_with_last_the_earlier_rows_are_told(tmp_path: Path) -> None:
    """The one that is sent comes later."""
    (found,) = warnings(plan(tmp_path, ANA[:3:2], duplicates="last"))
    assert found.startswith('row 2 (ana@x.org) is left out for row 3, and differs: number "1" instead of "3"')


def test_a_row_that_is_repeated_as_it_is_needs_no_warning(tmp_path: Path) -> None:
    """It is counted; spaces at the ends make no difference."""
    made = plan(tmp_path, [("ana@x.org", "1", "5"), ("ana@x.org", "1 ", "5")])
    assert (made.statuses[Status.DUPLICATE], warnings(made)) == (1, [])


def test_rows_without_an_address_are_skipped_and_counted(tmp_path: Path) -> None:
    """They are nobody's fault; an address in another column is named."""
    rows = [("ana@x.org", "1", "5"), ("", "2", "6"), (" \u200b", "bo@x.org", "7")]
    made = plan(tmp_path, rows)
    assert (made.statuses[Status.SKIPPED], made.unaddressed, sent(made)) == (2, 2, [2])
    assert warnings(made, "D266") == [
        '`email` is empty: the message has no recipient, but there is bo@x.org in the column "number"'
    ]
    (hint,) = [group.first.hint for group in made.problems if group.first.code == "D266"]
    assert hint is not None
    assert hint.endswith("{{ email or number }}")


def test_a_list_in_which_no_row_has_an_address_is_an_error(tmp_path: Path) -> None:
    """It is the wrong column, not the rows."""
    made = plan(tmp_path, [("", "1", "5"), ("", "2", "6")])
    assert [group.first.code for group in made.problems.campaign_errors] == ["D141"]
