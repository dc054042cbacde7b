"""What the ledger takes and gives besides the model's nouns, and how rows of tables become them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field

from mailmerge.model import Attempt, Delivery, Outcome, Scope, Status

if TYPE_CHECKING:
    from collections.abc import Mapping


class Settlement(Struct, frozen=True):
    """How one attempt ended, and where that leaves its row."""

    attempt: Attempt
    outcome: Outcome
    status: Status
    """The row's new state: the outcome's own, or what the retry rules made of it."""
    at: datetime
    next_at: datetime | None = None
    counts: bool = True
    """Whether it uses up one of the row's tries."""

    def __str__(self) -> str:
        about = f"row {self.attempt.row} <{self.attempt.address}>: {self.outcome.status}"
        return f"{about}, {self.outcome.reply}" if self.outcome.reply else about


class Run(Struct, frozen=True):
    """One process that worked on the campaign."""

    id: int
    kind: str
    """``send``, ``test`` ..."""
    started: datetime
    pid: int
    version: str
    ended: datetime | None = None
    """None: it still runs, or it died."""
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)


class PastAttempt(Struct, frozen=True):
    """One attempt as the ledger keeps it."""

    attempt: Attempt
    at: datetime
    run: int | None
    status: Status
    settled: datetime | None
    scope: str
    phase: str
    reason: str
    code: int | None
    enhanced: str
    reply: str
    raw: bytes


STATUSES: Mapping[str, Status] = {status.value: status for status in Status}
"""The states by what the tables hold; calling `Status` takes four times as long."""


def stamp(moment: datetime | None) -> float | None:
    """Turn a time into what the tables hold: seconds since 1970, UTC."""
    return None if moment is None else moment.timestamp()


@lru_cache(maxsize=512)  # the rows of one window share theirs
def moment(value: float | None) -> datetime | None:
    """Turn a table's time back into one in UTC."""
    return None if value is None else datetime.fromtimestamp(value, UTC)


def reached(outcome: Outcome) -> tuple[str, str, str, int | None, str, str, bytes | None]:
    """Take an outcome apart for the attempt table: scope, phase, reason, code, enhanced, reply, raw."""
    reply = outcome.reply
    if reply is None:
        # Nobody answered, so what we have to say about it stands in: how large a message is, for one.
        said = (outcome.hint or "") if outcome.scope is Scope.ROW else ""
        return (outcome.scope.value, outcome.phase.value, outcome.reason, None, "", said, None)
    enhanced = "{}.{}.{}".format(*reply.enhanced) if reply.enhanced else ""
    # One lone surrogate in a hostile reply would make the whole commit fail.
    text = reply.text.encode("utf-8", "replace").decode()
    return (
        outcome.scope.value,
        outcome.phase.value,
        outcome.reason,
        reply.code,
        enhanced,
        text,
        reply.raw,
    )


DELIVERY_COLUMNS = """
d.status, d.tries, d.next_at, d.first_at, d.updated, d.note,
a.row, a.address, a.message_id, a.date, a.utc_offset,
a.phase, a.reason, a.code, a.enhanced, a.reply, v.digest, a.row_digest
"""
DELIVERY_JOINS = "LEFT JOIN attempt a ON a.id = d.attempt LEFT JOIN version v ON v.id = d.version"


def delivery(key: str, row: int | None, address: str | None, cells: tuple[Any, ...]) -> Delivery:
    """Make a `Delivery` of `DELIVERY_COLUMNS`; *row* and *address* are the list's, if it is still in it."""
    (status, tries, next_at, first_at, updated, note, attempted_row, attempted_address, message_id, date) = (
        cells[:10]
    )
    (offset, phase, reason, code, enhanced, reply, version, row_digest) = cells[10:]
    return Delivery(
        key=key,
        row=int(attempted_row or 0) if row is None else row,
        address=(attempted_address or "") if address is None else address,
        status=STATUSES[status],
        attempts=tries,
        message_id=message_id or "",
        date=None if date is None else local_date(date, offset),
        first_attempt=moment(first_at),
        updated=moment(updated),
        next_at=moment(next_at),
        phase=phase or "",
        reason=note or reason or "",
        code=code,
        enhanced=enhanced or "",
        reply=reply or "",
        version=version or "",
        row_digest=row_digest or "",
    )


ATTEMPT_COLUMNS = """
a.key, a.row, a.address, a.number, a.message_id, a.date, a.utc_offset, a.recipients, a.size, a.digest,
a.row_digest, coalesce(v.digest, ''), a.connection, a.at, a.run, a.status, a.settled, a.scope, a.phase,
a.reason, a.code, a.enhanced, a.reply, a.raw
"""


def past_attempt(cells: tuple[Any, ...]) -> PastAttempt:
    """Make a `PastAttempt` of `ATTEMPT_COLUMNS`."""
    key, row, address, number, message_id, date, offset, recipients, size, digest = cells[:10]
    row_digest, version, connection, at, run, status, settled, scope, phase = cells[10:19]
    reason, code, enhanced, reply, raw = cells[19:]
    return PastAttempt(
        attempt=Attempt(
            key=key,
            row=row,
            address=address,
            number=number,
            message_id=message_id,
            date=local_date(date, offset),
            recipients=recipients,
            size=size,
            digest=digest,
            row_digest=row_digest,
            version=version,
            connection=connection,
        ),
        at=datetime.fromtimestamp(at, UTC),
        run=run,
        status=Status(status),
        settled=moment(settled),
        scope=scope,
        phase=phase,
        reason=reason,
        code=code,
        enhanced=enhanced,
        reply=reply,
        raw=raw or b"",
    )


def local_date(date: float, offset: int) -> datetime:
    """Restore a Date header's moment in the time zone it was written in."""
    return datetime.fromtimestamp(date, timezone(timedelta(seconds=offset)) if offset else UTC)


def offset_of(date: datetime) -> int:
    """Give a Date's distance from UTC in seconds."""
    offset = date.utcoffset()
    return int(offset.total_seconds()) if offset else 0
