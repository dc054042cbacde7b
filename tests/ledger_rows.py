"""Attempts, outcomes and small plans for tests of ledgers."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from mailmerge.campaign.standing import Join, Standing
from mailmerge.ledger.attempts import Settlement
from mailmerge.model import Attempt, Delivery, Outcome, Phase, Reply, Scope, Status
from mailmerge.recipients.suppression import Suppressed
from plans import people, standing

if TYPE_CHECKING:
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.reader import LedgerReader, RunRecord
    from mailmerge.plan.store import PlanReader, PlanRow

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ACCEPTED = Outcome(
    Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250, ("queued as 4F1A",), (2, 0, 0), b"250 ..")
)
REJECTED = Outcome(
    Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550, ("no such user",), (5, 1, 1)), "recipient"
)
DEFERRED = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(450, ("later",)), "greylist")
IN_DOUBT = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT)
DROPPED = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA)


def attempt(row: int, *, version: str = "v1", address: str = "", number: int = 1, **facts: object) -> Attempt:
    """Return what is recorded before the message of a row leaves; *facts* replace others of its fields."""
    made = Attempt(
        key=f"k{row}",
        row=row,
        address=address or f"u{row}@example.org",
        number=number,
        message_id=f"<m{row}@example.org>",
        date=datetime(2026, 11, 22, 11, 0, tzinfo=timezone(timedelta(hours=1))),
        recipients=1,
        size=1000,
        digest="d" * 64,
        frozen="f" * 64,
        row_digest="r" * 16,
        version=version,
        connection="c1",
    )
    return replace(made, **facts)


def settled(row: int, outcome: Outcome, status: Status | None = None, **more: Any) -> Settlement:
    about = {key: more.pop(key) for key in ("version", "address") if key in more}
    return Settlement(attempt(row, **about), outcome, status or outcome.status, NOW, **more)


def fill(ledger: Ledger, rows: int = 5, status: Status = Status.PENDING) -> None:
    """Plan this many rows, and record their status."""
    keys = (f"k{row}" for row in range(2, 2 + rows))
    write_list(ledger, *(person(row) for row in people(*keys, status=status)))


def person(row: PlanRow) -> PlanRow:
    return replace(row, address=f"u{row.key[1:]}@example.org")


LATEST: dict[str, PlanReader] = {}
"""The plan of each campaign name."""


def write_list(ledger: Ledger, *rows: PlanRow) -> None:
    found = standing(ledger, *rows)
    assert found.plan is not None
    LATEST[ledger.campaign] = found.plan


def look(ledger: LedgerReader) -> Standing:
    """Return the status of the rows of the latest plan."""
    return Standing(ledger, LATEST.get(ledger.campaign), Join(Suppressed()))


def due(ledger: Ledger, now: datetime) -> list[Delivery]:
    return [
        row.delivery or Delivery(row.planned.key, row.planned.row, row.planned.address, Status.PENDING)
        for row in look(ledger).due(now)
    ]


def send(ledger: Ledger, row: int, outcome: Outcome = ACCEPTED, **more: Any) -> None:
    about = {key: more[key] for key in ("version", "address") if key in more}
    ledger.attempts.record_intent([attempt(row, **about)])
    ledger.attempts.record_outcomes([settled(row, outcome, **more)])


def attempts(ledger: Ledger, *columns: str) -> list[tuple[object, ...]]:
    """All attempts in the ledger, oldest first."""
    return ledger._db.rows(f"SELECT {', '.join(columns)} FROM attempt ORDER BY id")


def first_delivery(ledger: Ledger) -> Delivery:
    delivery = next(look(ledger).results()).delivery
    assert delivery is not None
    return delivery


def last_run(ledger: Ledger, kind: str = "send") -> RunRecord:
    run = ledger.last_run(kind)
    assert run is not None
    return run


def states(ledger: Ledger) -> dict[int | None, Status]:
    return {result.row: result.status for result in look(ledger).results()}
