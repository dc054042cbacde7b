"""Group commit: how long an outcome may wait for the next intents, and what goes to the ledger when."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from mailmerge.clock import VirtualClock
from mailmerge.errors import LedgerError
from mailmerge.model import Attempt, Outcome, Phase, Reply, Scope, Status
from mailmerge.sending.group_commit import OutcomeWriter
from mailmerge.sending.runs import RowDecision

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ACCEPTED = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250))
REJECTED = Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550))


class Noting:
    """A ledger that notes which rows were recorded, and how."""

    def __init__(self) -> None:
        self.handed_over = 0
        self.commits: list[tuple[list[int], list[int]]] = []
        self.revised: list[object] = []

    refused = ()

    begin_intent = None

    def record_intent(self, attempts, outcomes=()) -> tuple[str, ...]:
        self.handed_over += len(attempts)
        self.commits.append(([one.row for one in attempts], [one.attempt.row for one in outcomes]))
        return ()

    def record_outcomes(self, outcomes) -> None:
        self.record_intent((), outcomes)

    def give_back(self, keys) -> None:
        self.given_back = list(keys)

    def revise(self, revision) -> None:
        self.revised.append(revision)


class FullQuota:
    """An account's database that cannot be written."""

    def commit(self) -> None:
        raise LedgerError("the disk is full")


def attempt(row: int) -> Attempt:
    return Attempt(f"k{row}", row, "a@x.org", 1, f"<{row}@x>", NOW, 1, 10, "d", "f", "r", "v", "c1")


def settle(writer: OutcomeWriter, row: int, outcome: Outcome = ACCEPTED) -> None:
    writer.settle(attempt(row), outcome, RowDecision(outcome.status), NOW)


def test_an_accepted_row_waits_for_a_tenth_of_a_second_at_most() -> None:
    """Counted from the first one; a refusal does not wait at all, and nothing is due without outcomes."""
    clock, ledger = VirtualClock(NOW), Noting()
    writer = OutcomeWriter(ledger, clock)
    assert writer.commit_in() is None
    settle(writer, 2)
    clock.sleep(0.06)
    settle(writer, 3)
    assert writer.commit_in() == pytest.approx(0.04)
    clock.sleep(1)
    assert writer.commit_in() == 0
    writer.record()
    assert writer.commit_in() is None
    settle(writer, 4, REJECTED)
    assert writer.commit_in() == 0


def test_outcomes_go_with_the_next_intents() -> None:
    """One commit carries both, each outcome is recorded once, and nothing needs no commit."""
    ledger = Noting()
    writer = OutcomeWriter(ledger, VirtualClock(NOW))
    writer.record()
    settle(writer, 2)
    settle(writer, 3)
    writer.record([attempt(4), attempt(5)])
    writer.record([attempt(6)])
    settle(writer, 4)
    writer.record()
    assert ledger.commits == [([4, 5], [2, 3]), ([6], []), ([], [4])]


def test_messages_that_cannot_be_counted_are_not_handed_over() -> None:
    """The account's own database fails: outcomes are recorded all the same, intents are not."""
    ledger = Noting()
    writer = OutcomeWriter(ledger, VirtualClock(NOW), quota=FullQuota())  # type: ignore[arg-type]
    settle(writer, 2)
    with pytest.raises(LedgerError):
        writer.record([attempt(3)])
    assert ledger.commits == [([], [2])]


def test_a_mark_that_cannot_be_noted_does_not_end_the_run() -> None:
    """It is a safety net, and is tried again a second later."""
    clock, ledger, told = VirtualClock(NOW), Noting(), list[int]()

    def mark(count: int) -> None:
        told.append(count)
        raise LedgerError("the disk is full")

    writer = OutcomeWriter(ledger, clock, mark=mark)
    writer.record([attempt(2)])
    clock.sleep(0.9)
    writer.record([attempt(3)])
    clock.sleep(0.1)
    writer.record([attempt(4)])
    assert told == [1, 3]
