"""The work of a fleet: which rows are to be sent, who has claimed them, how those of a dead slot are freed.

A row's delivery remains authoritative: only a row that is pending or deferred there is ever handed over.
The queue next to it decides which rows workers may claim at all: *what is not in it, no worker sends*. A row
leaves it in the transaction that records how it ended.

A slot is one session of one worker; its lease is a time of the server's clock. A process that finds an
expired one releases what it had claimed to the others, and makes what it had promised *in doubt*: that is all
a lease decides. A promise and a recovery both lock the slot's row first, so only one of them happens.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Literal

from msgspec import Struct

from mailmerge.clock import SystemClock
from mailmerge.errors import InUseError, LedgerError
from mailmerge.postgres import NOW, TableGroup
from mailmerge.sqlite import moment
from mailmerge.text import local_time, plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from mailmerge.clock import Clock
    from mailmerge.postgres import PostgresDatabase

FleetState = Literal["running", "paused", "cancelled", "finished"]
"""What workers do about a campaign: they claim rows of one that is running, and of no other."""

LONGEST_REPLY: Final = 600.0
"""Seconds for which the reply to a message may be awaited after its end (RFC 5321 section 4.5.3.2.6)."""
_MAKE_WAY: Final = 45.0
"""Seconds within which workers return what they have of an earlier plan: longer than a lease."""
_REPLACED: Final = "a new plan replaces it"
"""Why a campaign is cancelled that is about to run again."""
_DEADLOCK: Final = "40P01"
"""PostgreSQL's codes for conflicts of two transactions, of which it aborted one."""
_KEPT: Final = 30 * 86400.0
"""Seconds for which a slot that has ended is remembered."""

TABLES: Final = TableGroup(
    "work",
    1,
    """
CREATE SEQUENCE mailmerge.slot_epoch;
-- One session of a worker. "until" is when its lease runs out, by this server's clock; "ended" is when it
-- closed in order, "lost" when somebody found its lease run out. No number ("epoch") is ever used again.
CREATE TABLE mailmerge.slot (
    epoch BIGINT PRIMARY KEY,
    worker TEXT NOT NULL,
    account TEXT NOT NULL,
    holder TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    ended REAL,
    lost REAL,
    campaign BIGINT,
    doing TEXT NOT NULL DEFAULT ''
) WITH (fillfactor = 50);
CREATE TABLE mailmerge.fleet (
    campaign BIGINT PRIMARY KEY,
    plan BIGINT NOT NULL,
    state TEXT NOT NULL,
    since REAL NOT NULL,
    by TEXT NOT NULL,
    note TEXT NOT NULL
);
-- The queue. A row without "epoch" waits until "next_at"; "recipients" are all addresses of its envelope.
CREATE TABLE mailmerge.work (
    campaign BIGINT NOT NULL,
    plan BIGINT NOT NULL,
    n BIGINT NOT NULL,
    key TEXT NOT NULL,
    row BIGINT NOT NULL,
    domain TEXT NOT NULL,
    recipients TEXT[] NOT NULL,
    epoch BIGINT,
    next_at REAL NOT NULL,
    PRIMARY KEY (campaign, key)
);
CREATE INDEX work_waiting ON mailmerge.work (campaign, next_at, n) WHERE epoch IS NULL;
CREATE INDEX work_claimed ON mailmerge.work (epoch) WHERE epoch IS NOT NULL;
-- Who promised it; none: a process that works on the campaign alone.
ALTER TABLE mailmerge.attempt ADD COLUMN epoch BIGINT;
-- Both are written twice for each message: the second time finds room beside the first, and no index changes.
ALTER TABLE mailmerge.attempt SET (fillfactor = 50);
ALTER TABLE mailmerge.delivery SET (fillfactor = 50);
DROP INDEX mailmerge.delivery_deferred;
CREATE INDEX delivery_due ON mailmerge.delivery (campaign, next_at) WHERE next_at IS NOT NULL;
""",
)

_STAGE = """
CREATE TEMPORARY TABLE queued (n BIGINT, key TEXT, row BIGINT, domain TEXT, recipients TEXT[], next_at FLOAT8)
ON COMMIT DROP
"""
_STAGED = {
    "n": "int8", "key": "text", "row": "int8", "domain": "text", "recipients": "text[]", "next_at": "float8",
}  # fmt: skip
_TAKE_STAGED = """
INSERT INTO mailmerge.work (campaign, plan, n, key, row, domain, recipients, next_at)
SELECT ?1, ?2, n, key, row, domain, recipients, next_at FROM queued q
WHERE NOT EXISTS (
    SELECT 1 FROM mailmerge.delivery d
    WHERE d.campaign = ?1 AND d.key = q.key AND d.status NOT IN ('pending', 'deferred'))
ORDER BY n ON CONFLICT (campaign, key) DO NOTHING
"""
_RUN = f"""
INSERT INTO mailmerge.fleet (campaign, plan, state, since, by, note) VALUES (?1, ?2, 'running', {NOW}, ?3, '')
ON CONFLICT (campaign) DO UPDATE SET plan = excluded.plan, state = 'running', since = excluded.since,
    by = excluded.by, note = ''
"""
_FORGET_COUNTS = "UPDATE mailmerge.campaign SET counts = '', bookmark = '' WHERE id = ?"
_SET_STATE = f"""
UPDATE mailmerge.fleet SET state = ?2, since = {NOW}, by = ?3, note = ?4
WHERE campaign = ?1 AND state = ANY(?5::text[])
"""
_BEFORE: Final[dict[FleetState, list[FleetState]]] = {
    "running": ["paused"],
    "paused": ["running"],
    "cancelled": ["running", "paused"],
    "finished": ["running"],
}
"""From which states a fleet may change to each; a new plan starts it from any."""
# A slot that is still working may have to revise an outcome, and then needs its row again.
_FINISH = f"""
UPDATE mailmerge.fleet f SET state = 'finished', since = {NOW} FROM mailmerge.fleet old
WHERE f.state = 'running' AND (?1::bigint IS NULL OR f.campaign = ?1)
    AND old.campaign = f.campaign AND old.since = f.since  -- else it has just been handed over again
    AND NOT EXISTS (SELECT 1 FROM mailmerge.work w WHERE w.campaign = f.campaign)
    AND NOT EXISTS (
        SELECT 1 FROM mailmerge.slot s
        WHERE s.campaign = f.campaign AND s.ended IS NULL AND s.lost IS NULL AND s.until > {NOW})
RETURNING f.campaign, f.plan, old.since
"""
_LOSE = f"""
UPDATE mailmerge.slot SET lost = {NOW} WHERE until < {NOW} AND lost IS NULL AND epoch = ANY(ARRAY(
    SELECT epoch FROM mailmerge.slot WHERE ended IS NULL AND lost IS NULL AND until < {NOW}
    FOR UPDATE SKIP LOCKED))
RETURNING epoch
"""
_DOUBT = f"""
WITH doubt AS (
    SELECT w.campaign, w.key, d.attempt FROM mailmerge.work w
    CROSS JOIN LATERAL (
        SELECT d.attempt FROM mailmerge.delivery d JOIN mailmerge.attempt a ON a.id = d.attempt
        WHERE d.campaign = w.campaign AND d.key = w.key AND d.status = 'handing_over' AND a.epoch = w.epoch
        LIMIT 1) d
    WHERE w.epoch = ANY(?1::bigint[])
), ended AS (
    UPDATE mailmerge.attempt SET status = 'in_doubt', settled = {NOW}, phase = 'content', reason = 'stopped'
    WHERE id = ANY(ARRAY(SELECT attempt FROM doubt)) AND status = 'handing_over' RETURNING id
), moved AS (
    -- Attempts before deliveries, as where outcomes are recorded: whoever comes second waits for the first.
    UPDATE mailmerge.delivery d SET status = 'in_doubt', updated = {NOW}
    FROM doubt JOIN ended ON ended.id = doubt.attempt
    WHERE d.campaign = doubt.campaign AND d.key = doubt.key AND d.attempt = doubt.attempt
        AND d.status = 'handing_over'
    RETURNING d.campaign, d.key
), gone AS (
    DELETE FROM mailmerge.work w USING moved WHERE w.campaign = moved.campaign AND w.key = moved.key
), counted AS (
    UPDATE mailmerge.campaign SET counts = '' WHERE id = ANY(ARRAY(SELECT campaign FROM moved))
)
SELECT count(*) FROM moved
"""
_RETURN = "UPDATE mailmerge.work SET epoch = NULL WHERE epoch = ANY(?1::bigint[])"
_FORGET_SLOTS = f"DELETE FROM mailmerge.slot WHERE coalesce(ended, lost) < {NOW} - {_KEPT} AND until < {NOW}"
_FLEET = "SELECT plan, state, since, by, note FROM mailmerge.fleet WHERE campaign = ?"
_COUNTS = f"""
SELECT count(*) FILTER (WHERE epoch IS NULL AND next_at <= {NOW}),
    count(*) FILTER (WHERE epoch IS NULL AND next_at > {NOW}),
    count(*) FILTER (WHERE epoch IS NOT NULL), min(next_at) FILTER (WHERE epoch IS NULL AND next_at > {NOW})
FROM mailmerge.work WHERE campaign = ?
"""
_SLOTS = f"""
SELECT s.epoch, s.worker, s.account, s.holder, s.since, s.until, s.doing, s.campaign, s.until - {NOW},
    (SELECT count(*) FROM mailmerge.work w WHERE w.epoch = s.epoch)
FROM mailmerge.slot s WHERE s.ended IS NULL AND s.lost IS NULL AND (?1::bigint IS NULL OR s.campaign = ?1)
ORDER BY s.worker, s.epoch
"""
_OF_ANOTHER_PLAN = """
SELECT EXISTS (SELECT 1 FROM mailmerge.fleet
        WHERE campaign = ?1 AND plan <> ?2 AND state IN ('running', 'paused')),
    (SELECT count(*) FROM mailmerge.work WHERE campaign = ?1 AND plan <> ?2 AND epoch IS NOT NULL)
"""
# What is promised has an outcome, or a doubt, whatever others do; what is only claimed may still be promised.
_MAY_BE_PROMISED = """
SELECT count(*) FROM mailmerge.work w WHERE w.campaign = ?1 AND w.epoch IS NOT NULL AND NOT EXISTS (
    SELECT 1 FROM mailmerge.delivery d JOIN mailmerge.attempt a ON a.id = d.attempt
    WHERE d.campaign = w.campaign AND d.key = w.key AND d.status = 'handing_over' AND a.epoch = w.epoch)
"""
_DUE = f"""
SELECT f.campaign, f.plan FROM mailmerge.fleet f WHERE f.state = 'running' AND EXISTS (
    SELECT 1 FROM mailmerge.work w WHERE w.campaign = f.campaign AND w.epoch IS NULL AND w.next_at <= {NOW})
"""
_AT_WORK = f"""
SELECT 1 FROM mailmerge.slot s JOIN mailmerge.campaign c ON c.id = s.campaign
WHERE c.name = ? AND s.ended IS NULL AND s.lost IS NULL AND s.until > {NOW} LIMIT 1
"""
_WITH_FLEET = """
SELECT 1 FROM mailmerge.fleet f JOIN mailmerge.campaign c ON c.id = f.campaign
WHERE c.name = ? AND f.state IN ('running', 'paused') LIMIT 1
"""
_LEFT = f"""
SELECT 1 FROM mailmerge.fleet f WHERE f.state = 'running'
    AND EXISTS (SELECT 1 FROM mailmerge.work w WHERE w.campaign = f.campaign)
    OR f.state = 'cancelled' AND f.note = '{_REPLACED}' AND f.since > {NOW} - {2 * _MAKE_WAY} LIMIT 1
"""
_DOUBTS = (
    "SELECT count(*) FROM mailmerge.delivery WHERE campaign = ? AND status IN ('in_doubt', 'handing_over')"
)
# A silent slot may still receive a reply; a slot that was closed in order has none left to receive.
_ANSWERABLE = f"""
SELECT max(s.until), count(*) FROM mailmerge.delivery d JOIN mailmerge.attempt a ON a.id = d.attempt
JOIN mailmerge.slot s ON s.epoch = a.epoch
WHERE d.campaign = ?1 AND d.status = 'in_doubt' AND a.reason = 'stopped' AND s.ended IS NULL
    AND s.until > {NOW} - {LONGEST_REPLY} AND (?2::text[] IS NULL OR d.key = ANY(?2::text[]))
"""


class QueuedRow(Struct, frozen=True, gc=False):
    """A row that a fleet is to send."""

    n: int
    """Its place in the plan: rows are claimed in this order."""
    key: str
    row: int
    """Its number in the list."""
    domain: str
    """Of its first recipient."""
    recipients: tuple[str, ...] = ()
    """The addresses of its envelope, as opt-outs name them."""
    next_at: float = 0.0
    """When it is due, in seconds since 1970 by the server's clock; 0: now."""


def enqueue(
    db: PostgresDatabase,
    campaign: int,
    plan: int,
    rows: Iterable[QueuedRow],
    *,
    by: str = "",
    clock: Clock | None = None,
) -> int:
    """Make *rows* the work of the campaign's fleet, and let it run; return how many rows wait now.

    What waited before is forgotten. What slots have claimed already is left alone if it is of the same plan;
    an earlier plan is cancelled, and what they have of it is waited for. A row that they have sent since the
    caller looked is left out: where no worker is running any more, it would be waited for in vain.

    Args:
        db: the ledger.
        campaign: its number there.
        plan: the number of the plan that has the messages.
        rows: those that are due, or will be.
        by: who says so, as `fleet_view` shows it.
        clock: waits for slots; None: the system's.

    Raises:
        InUseError: slots do not return what they have of an earlier plan; nothing of this one was begun.
        LedgerError: nothing was changed.

    """
    _make_way(db, campaign, plan, by, clock or SystemClock())
    with db.transaction():
        db.execute("DELETE FROM mailmerge.work WHERE campaign = ? AND epoch IS NULL", (campaign,))
        db.execute(_STAGE)
        cells = ((row.n, row.key, row.row, row.domain, [*row.recipients], row.next_at) for row in rows)
        db.copy("queued", _STAGED, cells)
        count = int(db.execute(_TAKE_STAGED, (campaign, plan)).rowcount)
        db.execute(_RUN, (campaign, plan, by))
        db.execute(_FORGET_COUNTS, (campaign,))
        db.execute("ANALYZE mailmerge.work")
    return count


def _make_way(db: PostgresDatabase, campaign: int, plan: int, by: str, clock: Clock) -> None:
    """Cancel what is left of an earlier plan, and wait until its slots have returned what they claimed.

    A row that is claimed has the messages of its plan: no worker could send it if it were returned to the
    queue of another one.

    Raises:
        InUseError: slots still have rows after 45 seconds; nothing of the new plan was begun.
        LedgerError: the database cannot be asked.

    """
    until = clock.monotonic() + _MAKE_WAY
    while True:
        active, claimed = db.row(_OF_ANOTHER_PLAN, (campaign, plan))
        if active:
            set_state(db, campaign, "cancelled", by=by, note=_REPLACED)
        if not claimed:
            return
        _wait_for_workers(db, claimed, until, clock)


def _wait_for_workers(db: PostgresDatabase, claimed: int, until: float, clock: Clock) -> None:
    recover(db)
    if clock.monotonic() > until:
        raise InUseError(
            f"workers still have {plural(claimed, 'row')} of an earlier plan of this campaign",
            code="L733",
            hint="they claim no more of it; run the same command again in a minute",
        )
    clock.sleep(0.25)


def set_state(
    db: PostgresDatabase, campaign: int, state: FleetState, *, by: str = "", note: str = ""
) -> bool:
    """Pause, resume or cancel a fleet; return whether it was in a state in which that can be done.

    A fleet that is paused claims and promises nothing; what is in flight gets its outcome. Cancelled: what
    waits is forgotten, the plan stays.

    Raises:
        LedgerError: nothing was changed.

    """
    with db.transaction():
        cells = (campaign, state, by, note, _BEFORE[state])
        changed = bool(db.execute(_SET_STATE, cells).rowcount)
        if changed and state == "cancelled":
            db.execute("DELETE FROM mailmerge.work WHERE campaign = ? AND epoch IS NULL", (campaign,))
    return changed


class Finished(Struct, frozen=True):
    """A fleet that has nothing left to do."""

    campaign: int
    plan: int
    since: datetime
    """When it began to run."""


def finish(db: PostgresDatabase, campaign: int | None = None) -> list[Finished]:
    """Say that fleets have finished which have no work left and no slot at work; return the new ones.

    Args:
        db: the ledger.
        campaign: only this one; None: all.

    """
    found = db.rows(_FINISH, (campaign,))
    return [Finished(int(number), int(plan), _moment(since)) for number, plan, since in found]


class Recovered(Struct, frozen=True):
    """What was found of slots whose lease has run out."""

    slots: tuple[int, ...] = ()
    returned: int = 0
    """Rows that they had claimed: others can claim them now."""
    doubts: int = 0
    """Rows that they had promised: in doubt now."""


def recover(db: PostgresDatabase) -> Recovered:
    """Take care of slots whose lease has run out: anybody may do it, at any time.

    Raises:
        LedgerError: nothing was changed.

    """
    while True:
        try:
            return _recovered(db)
        except LedgerError as error:
            if getattr(error.__cause__, "sqlstate", None) != _DEADLOCK:  # then it is simply done again
                raise


def _recovered(db: PostgresDatabase) -> Recovered:
    with db.transaction():
        lost = [int(epoch) for (epoch,) in db.rows(_LOSE)]
        if not lost:
            return Recovered()
        (doubts,) = db.row(_DOUBT, (lost,))
        returned = int(db.execute(_RETURN, (lost,)).rowcount)
        db.execute(_FORGET_SLOTS)
    return Recovered(tuple(lost), returned, int(doubts))


# --- to look at -------------------------------------------------------------------------------------------


class SlotView(Struct, frozen=True):
    """A slot whose lease was not found run out."""

    epoch: int
    worker: str
    account: str
    holder: str
    """Which process on which machine."""
    since: datetime
    until: datetime
    doing: str
    campaign: int | None
    claimed: int
    """Rows that it has, promised ones included."""
    silent: bool
    """Whether its lease has run out: `recover` has yet to find it."""


class FleetView(Struct, frozen=True):
    """How a campaign's fleet is getting on."""

    plan: int
    state: FleetState
    since: datetime
    """When that state began."""
    by: str
    note: str
    waiting: int
    """Rows that can be claimed now."""
    later: int
    """Rows that are deferred."""
    claimed: int
    next_at: datetime | None
    """When the first of *later* is due."""
    unsettled: int
    """Rows in doubt, or being handed over."""
    slots: tuple[SlotView, ...]


def fleet_view(db: PostgresDatabase, campaign: int) -> FleetView | None:
    """Look at a campaign's fleet; None: no fleet was ever to send it.

    Raises:
        LedgerError: it cannot be read.

    """
    found = db.row(_FLEET, (campaign,))
    if found is None:
        return None
    plan, state, since, by, note = found
    waiting, later, claimed, next_at = db.row(_COUNTS, (campaign,))
    (unsettled,) = db.row(_DOUBTS, (campaign,))
    return FleetView(
        plan, state, _moment(since), by, note, waiting, later, claimed, moment(next_at), unsettled,
        slots(db, campaign),
    )  # fmt: skip


def slots(db: PostgresDatabase, campaign: int | None = None) -> tuple[SlotView, ...]:
    """Look at the slots that work on a campaign now (None: on any, or on none yet)."""
    return tuple(
        SlotView(
            epoch, worker, account, holder, _moment(since), _moment(until), doing, number, claimed, rest < 0
        )
        for epoch, worker, account, holder, since, until, doing, number, rest, claimed in db.rows(
            _SLOTS, (campaign,)
        )
    )


def campaigns(db: PostgresDatabase) -> dict[str, int]:
    """Return the campaigns that a fleet has, or had, by name, the latest first."""
    query = "SELECT c.name, c.id FROM mailmerge.campaign c JOIN mailmerge.fleet f ON f.campaign = c.id"
    return {str(name): int(number) for name, number in db.rows(f"{query} ORDER BY f.since DESC, c.id")}


def due(db: PostgresDatabase) -> list[tuple[int, int]]:
    """Return the running campaigns with rows that can be claimed now, each with its plan."""
    return [(int(campaign), int(plan)) for campaign, plan in db.rows(_DUE)]


def is_at_work(db: PostgresDatabase, campaign: str) -> bool:
    """Return whether any slot works on a campaign now."""
    return db.row(_AT_WORK, (campaign,)) is not None


def is_with_fleet(db: PostgresDatabase, campaign: str) -> bool:
    """Return whether a fleet is sending a campaign, or has paused."""
    return db.row(_WITH_FLEET, (campaign,)) is not None


def is_left(db: PostgresDatabase) -> bool:
    """Return whether any campaign has work, now or later, or is about to get it with a new plan."""
    return db.row(_LEFT) is not None


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def plans_at_work(db: PostgresDatabase, campaign: int) -> list[int]:
    """Return the numbers of the plans that a campaign's fleet still has rows of."""
    found = db.rows("SELECT DISTINCT plan FROM mailmerge.work WHERE campaign = ?", (campaign,))
    return [int(plan) for (plan,) in found]


def forget(db: PostgresDatabase, campaign: int) -> None:
    """Remove a campaign's work and opt-outs, which contain addresses.

    Raises:
        LedgerError: nothing was changed.

    """
    with db.transaction():
        for table in ("work", "fleet", "opt_out"):
            db.execute(f"DELETE FROM mailmerge.{table} WHERE campaign = ?", (campaign,))


# --- what others must leave to a fleet --------------------------------------------------------------------


def refuse_while_fleet(db: PostgresDatabase, campaign: int, clock: Clock | None = None) -> None:
    """Refuse to send a campaign that a fleet is sending.

    Of one that was cancelled a moment ago, workers may still have rows: until they are returned, each could
    turn out to be promised. They are waited for.

    Raises:
        InUseError: one is sending it, or has paused, or does not return its rows within 45 seconds.

    """
    finish(db, campaign)  # the last worker may have died with its last row
    found = db.row(_FLEET, (campaign,))
    if found is None:
        return
    if found[1] not in {"running", "paused"}:
        clock = clock or SystemClock()
        until = clock.monotonic() + _MAKE_WAY
        while claimed := db.row(_MAY_BE_PROMISED, (campaign,))[0]:
            _wait_for_workers(db, claimed, until, clock)
        return
    busy = slots(db, campaign)
    who = ", ".join(dict.fromkeys(slot.worker for slot in busy[:5]))
    now = f"{plural(len(busy), 'session')} of {who}" if busy else "no worker at the moment"
    raise InUseError(
        f"a fleet is sending this campaign ({found[1]}; {now})",
        code="L731",
        hint="let it finish, or stop it with the command `cancel`; `pause` only stops it for a while",
    )


def refuse_while_answerable(db: PostgresDatabase, campaign: int, keys: Sequence[str] | None) -> None:
    """Refuse to send rows in doubt again whose outcome may still arrive.

    Args:
        db: the ledger.
        campaign: its number there.
        keys: which rows; None: all in doubt.

    Raises:
        InUseError: says from when on it can be done.

    """
    until, count = db.row(_ANSWERABLE, (campaign, None if keys is None else list(keys)))
    if count:
        at = local_time(_moment(until + LONGEST_REPLY), datetime.now(UTC))
        raise InUseError(
            f"{plural(count, 'row')} in doubt may still turn out to be accepted: a worker that has fallen "
            f"silent could still get the server's reply until {at}",
            code="L732",
            hint=f"nothing was changed; try again after {at}",
        )
