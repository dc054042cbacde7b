"""The status of rows: the plan, what happened to them, and what counts besides the two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from random import Random
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from ledger_rows import attempt
from mailmerge.campaign.standing import Join, Standing, extent_of
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.ledger.attempts import Settlement
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Counts, Outcome, Phase, Reply, Scope, Status
from mailmerge.recipients.suppression import Suppressed
from plans import people, planned, standing

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.plan.store import PlanRow

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
LATER = NOW + timedelta(minutes=5)


@pytest.fixture
def ledger() -> Iterator[Ledger]:
    with Ledger.scratch(None, "spring", now=lambda: NOW) as opened:
        opened.note_version("v1", {})
        yield opened


def contact(ledger: Ledger, row: int, key: str, status: Status, *, digest: str = "") -> None:
    """Record that a row was handed over, and what came of it."""
    address = f"{key}@example.org"
    made = attempt(row, key=key, address=address, message_id=f"<{address}>", date=NOW, row_digest=digest)
    ledger.attempts.record_intent([made])
    if status is not Status.HANDING_OVER:
        outcome = Outcome(status, Scope.ROW, Phase.RCPT, Reply(250, ("words",)))
        due = LATER if status is Status.DEFERRED else None
        ledger.attempts.record_outcomes([Settlement(made, outcome, status, NOW, due)])


def states(found: Standing) -> dict[int | None, Status]:
    return {result.row: result.status for result in found.results()}


# --- repetitions ------------------------------------------------------------------------------------------


def test_a30_the_second_row_with_a_key_repeats_the_first(ledger: Ledger) -> None:
    """Whatever is between them; what happens to the key is about the first."""
    found = standing(ledger, *people("a", "b", "a", "c", "a"))
    contact(ledger, 2, "a", Status.ACCEPTED)

    assert [result.detail for result in found.results() if result.status is Status.DUPLICATE] == [
        "repeats row 2"
    ] * 2
    assert [row.planned.row for row in found.due(NOW)] == [3, 5]
    assert found.keys_in([(2, 2), (4, 5), (99, 10_000_000)]) == ["a", "c"]
    assert found.keys_in([(1, 10_000_000)]) == ["a", "b", "c"]


def test_only_rows_that_are_sent_make_duplicates(ledger: Ledger) -> None:
    """A row left out by `where`, or an invalid one, does not hide a later one with the same key."""
    kinds = [Status.SKIPPED, Status.PENDING, Status.INVALID, Status.INVALID, Status.INVALID]
    rows = [replace(row, status=kind) for row, kind in zip(people("a", "a", "a", "", ""), kinds, strict=True)]
    found = standing(ledger, *rows)
    contact(ledger, 3, "a", Status.HANDING_OVER)

    assert [result.status for result in found.results()] == [
        Status.SKIPPED,
        Status.HANDING_OVER,
        Status.INVALID,
        Status.INVALID,
        Status.INVALID,
    ]


def test_what_happened_to_a_row_that_is_left_out_now(ledger: Ledger) -> None:
    """Of rows that are all left out the first has the key, and with it what came of it."""
    contact(ledger, 2, "a", Status.ACCEPTED)
    found = standing(ledger, *people("a", "a", status=Status.SKIPPED))

    assert states(found) == {2: Status.ACCEPTED, 3: Status.SKIPPED}


def test_a_repeated_address_where_rows_have_keys(ledger: Ledger) -> None:
    """Of rows with different keys and one address the first that may be sent is sent."""
    rows = [replace(row, address="Same@example.org") for row in people("a", "b", "c")]
    rows[0] = replace(rows[0], status=Status.INVALID)
    found = standing(ledger, *rows, unique_addresses=True)

    assert states(found) == {2: Status.INVALID, 3: Status.PENDING, 4: Status.DUPLICATE}


def test_a36_a_duplicate_by_address_keeps_what_happened_to_it(ledger: Ledger) -> None:
    """It was the first with its address when it was sent; the one before it now is the duplicate."""
    rows = people("new", "a", "b")
    rows[0] = replace(rows[0], address="A@example.org")
    contact(ledger, 2, "a", Status.ACCEPTED)
    found = Standing(ledger, planned(*rows, unique_addresses=True), Join(Suppressed(), one_each=True))

    assert states(found) == {2: Status.DUPLICATE, 3: Status.ACCEPTED, 4: Status.PENDING}
    assert [result.detail for result in found.results()] == [
        "A@example.org was written to earlier, as row 3",
        "",
        "",
    ]
    assert found.tally()[1].by_status == {Status.DUPLICATE: 1, Status.ACCEPTED: 1, Status.PENDING: 1}
    assert [row.planned.row for row in found.due(NOW)] == [4]


@pytest.mark.parametrize("one_each", [True, False])
def test_a36_an_address_that_its_row_has_no_longer(ledger: Ledger, one_each: bool) -> None:
    """It was written to as a row that has another address now: not again where addresses may not repeat."""
    rows = people("a", "b")
    rows[0] = replace(rows[0], address="else@example.org")
    rows[1] = replace(rows[1], address="a@example.org")
    contact(ledger, 2, "a", Status.IN_DOUBT)
    contact(ledger, 3, "b", Status.DEFERRED)
    found = Standing(ledger, planned(*rows, unique_addresses=one_each), Join(Suppressed(), one_each=one_each))

    assert states(found)[3] is (Status.DUPLICATE if one_each else Status.DEFERRED)
    assert (found.next_due() is None) is one_each


def test_a36_what_was_taken_under_a_key_that_is_gone(ledger: Ledger) -> None:
    """Accepted and in doubt; what was refused was never anybody's message."""
    for row, (key, status) in enumerate(
        [("a", Status.ACCEPTED), ("b", Status.REJECTED), ("c", Status.IN_DOUBT), ("d", Status.ACCEPTED)], 2
    ):
        contact(ledger, row, key, status)
    found = standing(ledger, *people("d", "e"))

    assert [taken.key for taken in found.taken_and_gone()] == ["a", "c"]


def test_a_duplicate_by_address_leaves_its_key_to_others(ledger: Ledger) -> None:
    """A key whose first row repeats another address is held by the next row with that key."""
    rows = people("a", "b", "b")
    rows[1] = replace(rows[1], address=rows[0].address)
    rows[2] = replace(rows[2], address="other@example.org")
    found = standing(ledger, *rows, unique_addresses=True)
    contact(ledger, 4, "b", Status.REJECTED)

    assert states(found) == {2: Status.PENDING, 3: Status.DUPLICATE, 4: Status.REJECTED}


# --- facts and intentions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("fact", [Status.ACCEPTED, Status.REJECTED, Status.EXPIRED, Status.IN_DOUBT])
@pytest.mark.parametrize("now", [Status.INVALID, Status.SKIPPED, Status.PENDING])
def test_a_fact_outlives_what_the_plan_says(ledger: Ledger, fact: Status, now: Status) -> None:
    """What has happened to a row is its state, whatever the list makes of it today."""
    contact(ledger, 2, "a", fact)
    found = standing(ledger, *people("a", status=now))

    assert states(found) == {2: fact}
    assert list(found.due(LATER)) == []
    assert found.tally()[0].by_status == {now: 1}
    assert found.tally()[1].by_status == {fact: 1}


@pytest.mark.parametrize("now", [Status.INVALID, Status.SKIPPED])
def test_an_intention_yields(ledger: Ledger, now: Status) -> None:
    """A deferred row that the list leaves out now is left out, and nothing waits for it."""
    contact(ledger, 2, "a", Status.DEFERRED)
    found = standing(ledger, *people("a", status=now))

    assert states(found) == {2: now}
    assert list(found.due(LATER)) == []
    assert found.next_due() is None


def test_a_suppressed_row(ledger: Ledger, tmp_path: Path) -> None:
    """Who is on the list of those never written to is left out, at any of the message's addresses."""
    (tmp_path / "never.txt").write_text("b@example.org\n@gone.example\n")
    rows = [
        replace(row, recipients=(row.address, *more))
        for row, more in zip(
            people("a", "b", "c", "d"), [(), (), ("x@gone.example",), ("x@else.example",)], strict=True
        )
    ]
    contact(ledger, 3, "b", Status.DEFERRED)
    found = Standing(ledger, planned(*rows), Join(Suppressed([tmp_path / "never.txt"])))

    assert states(found) == {2: Status.PENDING, 3: Status.SUPPRESSED, 4: Status.SUPPRESSED, 5: Status.PENDING}
    assert [result.detail for result in found.results()][1:3] == [
        "b@example.org is suppressed",
        "x@gone.example is suppressed",
    ]
    assert found.next_due() is None


def test_a_message_too_large_for_the_account(ledger: Ledger) -> None:
    """Its row is invalid for this account, and that is said each time."""
    problems = DiagnosticCollector()
    rows = [replace(row, size=size) for row, size in zip(people("a", "b"), [1000, 1001], strict=True)]
    found = Standing(ledger, planned(*rows), Join(Suppressed(), 1000))
    found.tally(problems)

    assert states(found) == {2: Status.PENDING, 3: Status.INVALID}
    assert [(group.first.code, group.rows) for group in problems] == [("M501", [3])]


def test_a_row_that_was_edited_after_it_was_accepted(ledger: Ledger) -> None:
    """It stays accepted, and it is said."""
    contact(ledger, 2, "a", Status.ACCEPTED, digest="old")
    contact(ledger, 3, "b", Status.ACCEPTED, digest="same")
    rows = [replace(row, row_digest="same") for row in people("a", "b")]
    found = standing(ledger, *rows)

    assert [result.detail for result in found.results()] == ["edited in the list since it was accepted", ""]


# --- rows that come and go --------------------------------------------------------------------------------


def many(rows: int, first: int = 2) -> list[PlanRow]:
    return people(*(f"k{number}" for number in range(rows)), first=first)


def test_long_lists_in_batches(ledger: Ledger) -> None:
    """More rows than are looked up at a time: each one once, in the list's order."""
    for number in range(0, 2500, 7):
        contact(ledger, number + 2, f"k{number}", Status.ACCEPTED)
    found = standing(ledger, *many(2500))

    assert [row.planned.row for row in found.rows()] == list(range(2, 2502))
    assert [row.planned.row - 2 for row in found.due(NOW)] == [n for n in range(2500) if n % 7]
    assert found.tally()[1].by_status == {Status.ACCEPTED: 358, Status.PENDING: 2142}


def test_rows_that_left_the_list(ledger: Ledger) -> None:
    """They come last, by the numbers they had; one that was never answered for is nobody's business."""
    for row, (key, state) in enumerate(
        [("c", Status.ACCEPTED), ("b", Status.REJECTED), ("a", Status.ACCEPTED), ("z", Status.PENDING)], 2
    ):
        contact(ledger, row, key, state)
    found = standing(ledger, *people("a", "new"))

    assert [(result.row, result.key) for result in found.results()] == [
        (2, "a"),
        (3, "new"),
        (None, "c"),
        (None, "b"),
    ]
    assert found.tally()[1].by_status == {Status.ACCEPTED: 2, Status.PENDING: 1, Status.REJECTED: 1}
    assert ledger.counts() == found.tally()[1]


def test_the_numbers_of_a_list_that_was_sorted(ledger: Ledger) -> None:
    """Rows have the numbers of the plan, also in what happened to them before."""
    contact(ledger, 2, "a", Status.IN_DOUBT)
    found = standing(ledger, *people("c", "b", "a"))

    [doubtful] = found.in_doubt()
    assert (doubtful.row, doubtful.delivery and doubtful.delivery.row) == (4, 4)
    assert found.numbers(["a", "b", "gone"]) == {"a": 4, "b": 3}
    assert found.keys_in([(4, 4)]) == ["a"]


def test_without_a_plan(ledger: Ledger) -> None:
    """When the plan is gone, contacted rows have the numbers that they had then."""
    standing(ledger, *people("a", "b", "c"))
    contact(ledger, 3, "b", Status.IN_DOUBT)
    contact(ledger, 4, "c", Status.DEFERRED)
    found = Standing(ledger, None, Join(Suppressed()))

    assert found.keys_in([(3, 3), (4, 9)]) == ["b", "c"]
    assert [result.key for result in found.in_doubt()] == ["b"]
    assert found.next_due() == LATER
    assert ledger.counts().by_status == {Status.PENDING: 1, Status.IN_DOUBT: 1, Status.DEFERRED: 1}


# --- where a run resumes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(60))
def test_a_bookmark_makes_no_difference(seed: int) -> None:
    """Whatever happens between: what is due, and the numbers, are those of looking at every row."""
    random = Random(seed)
    rows = people(*(f"k{number}" for number in range(40)))
    plan = planned(*rows)
    fates = [Status.ACCEPTED, Status.ACCEPTED, Status.REJECTED, Status.DEFERRED, Status.PENDING]
    with Ledger.scratch(None, "spring", now=lambda: NOW) as ledger:
        ledger.note_version("v1", {})
        for _run in range(6):
            found = Standing(ledger, plan, Join(Suppressed()))
            own = found.recall()
            if own is None:
                own, counts = found.tally()
                ledger.note_standing(counts)
                found.keep(ledger, own)
            now = NOW + timedelta(minutes=random.choice([0, 10]))
            whole = Standing(ledger, plan, Join(Suppressed()))

            assert [row.planned.row for row in found.due(now)] == [row.planned.row for row in whole.due(now)]
            assert (own, ledger.counts()) == whole.tally()
            assert found.extent(ledger.counts(), now) == extent_of(whole.due(now))
            for row in list(found.due(now))[: random.randrange(12)]:
                contact(ledger, row.planned.row, row.planned.key, random.choice(fates))
                if random.random() < 0.3:
                    found.settle(ledger)
            if random.random() < 0.5:
                contact_open = next(found.due(now), None)
                if contact_open is not None and random.random() < 0.5:
                    contact(ledger, contact_open.planned.row, contact_open.planned.key, Status.HANDING_OVER)
            found.settle(ledger)
            ledger.repair()
            if random.random() < 0.3:
                ledger.requeue(None)
            if random.random() < 0.3:
                ledger.resolve(None, as_accepted=False)


def test_a_run_that_resumes_begins_behind_what_is_settled(ledger: Ledger) -> None:
    """The rows before are not looked at; deferred ones among them come first when they are due."""
    rows = people(*(f"k{number}" for number in range(3000)))
    found = standing(ledger, *rows)
    found.keep(ledger, found.tally()[0])
    contact(ledger, 2, "k0", Status.DEFERRED)
    for number in range(1, 2000):
        contact(ledger, number + 2, f"k{number}", Status.ACCEPTED)
    found.settle(ledger)
    again = Standing(ledger, found.plan, Join(Suppressed()))

    assert again.recall() is not None
    assert again.settled == 1999
    assert next(again.due(NOW)).planned.row == 2002
    assert [row.planned.row for row, _ in zip(again.due(LATER), range(2), strict=False)] == [2, 2002]


def test_a_run_that_resumes_counts_no_row_where_the_counts_are_known(ledger: Ledger) -> None:
    rows = people(*(f"k{number}" for number in range(30)))
    found = standing(ledger, *rows)
    found.keep(ledger, found.tally()[0])
    for number in range(20):
        contact(ledger, number + 2, f"k{number}", Status.ACCEPTED)
    found.settle(ledger)
    given = Counts({Status.PENDING: 7})

    assert found.extent(given, NOW) == (7, "k20@example.org", "k29@example.org")
    contact(ledger, 31, "k29", Status.ACCEPTED)
    assert found.extent(given, NOW) == (9, "k20@example.org", "k28@example.org")
    contact(ledger, 30, "k28", Status.DEFERRED)
    assert found.extent(ledger.counts(), NOW) == (8, "k20@example.org", "k27@example.org")
    assert found.extent(ledger.counts(), LATER) == (9, "k20@example.org", "k28@example.org")


def test_opt_outs_are_looked_at_again(ledger: Ledger, tmp_path: Path) -> None:
    """What was kept applies to the files as they were: with another opt-out every row is checked again."""
    never = tmp_path / "never.txt"
    never.write_text("k3@example.org\n")
    rows = [replace(row, recipients=(row.address,)) for row in people("k2", "k3", "k4")]
    first = Standing(ledger, planned(*rows), Join(Suppressed([never])))
    first.keep(ledger, first.tally()[0])
    never.write_text("k3@example.org\nk4@example.org\n")
    second = Standing(ledger, first.plan, Join(Suppressed([never])))

    assert Standing(ledger, first.plan, first.join).recall() == first.tally()[0]
    assert second.recall() is None
