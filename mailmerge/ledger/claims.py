"""How one session of a fleet claims its rows, promises to hand them over, and records their outcomes.

**Why nobody gets a message twice.** A row that is promised is ``handing_over``, and no statement here or
elsewhere promises a row that is. That needs no clock. Everything else only decides who does the work, and
when a row that nobody is responsible for is called in doubt:

    work: waits --claim--> claimed by a slot --promise--> delivery: handing_over --settle--> accepted ...
             ^----- given back, or the slot's lease ran out -----'      '-- lease ran out --> in_doubt

- A promise, a claim and a recovery begin with the slot's own row, so a slot that was found silent promises
  nothing any more, and one that has just promised is not found silent.
- A claim ahead, on another connection, only shares that row: promises pass meanwhile, a recovery does not.
- The end of a message is sent only while the slot's lease is valid by its *own* clocks: it is counted from
  before the lease was requested, so the server's can only be longer.
- An outcome names its attempt. It settles that attempt's row even if others have called it in doubt
  meanwhile, and changes nothing once the row was handed over again. So it can be recorded twice.
- A database that is gone accepts no promise; outcomes wait here, no more than were in flight. A promise whose
  commit is uncertain is never acted on, and is taken back under its number.

Every step is one statement for all of its rows. Tables are searched by keys in arrays, never joined as a
whole, however little the server knows of their size yet.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import contextlib
import os
import platform
from typing import TYPE_CHECKING, Any, Final, Self

from msgspec import Struct

from mailmerge.clock import SystemClock
from mailmerge.errors import LedgerError
from mailmerge.ledger.reader import status_of
from mailmerge.ledger.shared_suppression import EVERY_CAMPAIGN, covered
from mailmerge.model import Delivery
from mailmerge.postgres import NOW
from mailmerge.sqlite import moment, zoned

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailmerge.clock import Clock
    from mailmerge.exchange import Statements
    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.postgres import PostgresDatabase

LEASE: Final = 30.0
"""How many seconds a lease lasts after it was renewed."""
_MARGIN: Final = 0.1
"""The part of a lease that its own holder does not use: for clocks that run unevenly."""
_GONE: Final = "L720"
_ANSWER_WITHIN: Final = 10.0
"""Seconds after which a database that does not answer is treated as gone."""

ALIVE = f"""
alive AS (
    UPDATE mailmerge.slot SET until = {NOW} + ?2, campaign = ?3, doing = 'sending'
    WHERE epoch = ?1 AND until > {NOW} AND ended IS NULL AND lost IS NULL
    RETURNING epoch
)"""
STATE = "coalesce((SELECT state FROM mailmerge.fleet WHERE campaign = ?3), 'cancelled')"
RUNNING = f"EXISTS (SELECT 1 FROM alive) AND {STATE} = 'running'"
OPTED_OUT = f"""CASE WHEN EXISTS (SELECT 1 FROM mailmerge.opt_out WHERE campaign IN ({EVERY_CAMPAIGN}, ?3))
    THEN {covered("?3", "w.recipients")} ELSE false END"""
_OPEN_SLOT = f"""
INSERT INTO mailmerge.slot (epoch, worker, account, holder, since, until)
VALUES (nextval('mailmerge.slot_epoch'), ?1, ?2, ?3, {NOW}, {NOW} + ?4) RETURNING epoch
"""
_KEEP = f"WITH {ALIVE} SELECT (SELECT count(*) FROM alive), {STATE}"
_CLAIM = f"""
WITH {ALIVE},
due AS (
    SELECT w.key, {OPTED_OUT} AS opted_out FROM mailmerge.work w
    WHERE w.campaign = ?3 AND w.epoch IS NULL AND {RUNNING}
        AND w.next_at <= extract(epoch from statement_timestamp())::float8
    ORDER BY w.next_at, w.n LIMIT ?4 FOR UPDATE SKIP LOCKED
), taken AS (
    UPDATE mailmerge.work w SET epoch = ?1
    WHERE w.campaign = ?3 AND w.key = ANY(ARRAY(SELECT key FROM due WHERE NOT opted_out))
    RETURNING w.plan, w.n, w.key, w.row, w.domain, w.recipients
), gone AS (
    DELETE FROM mailmerge.work
    WHERE campaign = ?3 AND key = ANY(ARRAY(SELECT key FROM due WHERE opted_out)) RETURNING key
)
SELECT (SELECT count(*) FROM alive), (SELECT count(*) FROM gone), t.plan, t.n, t.key, t.row, t.domain,
    t.recipients, h.status, h.tries, h.first_at, h.generation, h.attempt, h.message_id, h.date, h.utc_offset
FROM (SELECT 1) one LEFT JOIN taken t ON true LEFT JOIN LATERAL (
    SELECT d.status, d.tries, d.first_at, d.generation, d.attempt, a.message_id, a.date, a.utc_offset
    FROM mailmerge.delivery d LEFT JOIN mailmerge.attempt a ON a.id = d.attempt
    WHERE d.campaign = ?3 AND d.key = t.key LIMIT 1) h ON true
"""
_CLAIM_AHEAD = _CLAIM.replace(
    ALIVE,
    f"""
alive AS (
    SELECT epoch FROM mailmerge.slot
    WHERE epoch = ?1 AND until > {NOW} AND ended IS NULL AND lost IS NULL AND ?2 > 0
    FOR KEY SHARE
)""",
)
# What was promised stays the slot's until it is settled, or its lease runs out.
_GIVE_BACK_CLAIMS = """
UPDATE mailmerge.work w SET epoch = NULL WHERE w.epoch = ?1 AND NOT EXISTS (
    SELECT 1 FROM mailmerge.delivery d JOIN mailmerge.attempt a ON a.id = d.attempt
    WHERE d.campaign = w.campaign AND d.key = w.key AND d.status = 'handing_over' AND a.epoch = ?1)
"""
_LEAVE = "DELETE FROM mailmerge.work WHERE campaign = ? AND key = ? AND epoch = ?"
# A claim or a promise that an older connection still had under way may commit while this waits for its row. A
# statement sees what was committed before it began: only those after this one see everything the slot has.
LOCK_SLOT = "SELECT epoch FROM mailmerge.slot WHERE epoch = ?1 FOR UPDATE"
_END_SLOT = f"""
UPDATE mailmerge.slot SET ended = {NOW} WHERE epoch = ?1 AND lost IS NULL
    AND NOT EXISTS (SELECT 1 FROM mailmerge.work WHERE epoch = ?1)
"""


class Claimed(Struct, frozen=True, gc=False):
    """A row that a slot may promise, with what is known about it."""

    plan: int
    n: int
    """Its place in the plan."""
    key: str
    row: int
    domain: str
    recipients: tuple[str, ...]
    attempt: int | None = None
    """The number of its latest attempt; None: it was never attempted."""
    known: Delivery | None = None
    """What happened to it: status, tries, first attempt, generation, and Message-ID and Date of the latest
    attempt. None: it was never contacted."""


class Asked(Struct):
    """Statements that were sent, and what they came to once that was heard."""

    at: tuple[float, float]
    """When, by the steady clock and by the wall clock."""
    leased: bool
    found: list[list[Any]] = []
    error: LedgerError | None = None

    @property
    def gone(self) -> bool:
        """Whether the database was gone: nobody knows whether anything was changed."""
        return self.error is not None and self.error.code == _GONE


class Promising(Struct, frozen=True):
    """Promises under way; see `mailmerge.ledger.slot_writer.SlotWriter.begin_intent`."""

    end: Callable[[], frozenset[str]]
    answer_at: Callable[[], int] = lambda: -1
    """Returns the descriptor on which the answer will arrive; -1: calling this takes no time."""

    def __call__(self) -> frozenset[str]:
        """Wait for the end."""
        return self.end()


class Slot:
    """One session's right to claim rows; owns a connection to the database. Get one from `open`.

    Not for several threads.

    Args:
        place: the ledger.
        db: a connection of its own.
        epoch: its number.
        seconds: how long its lease lasts.
        asked: when the lease was asked for: by the steady clock, and by the wall clock.
        clock: this machine's clocks.

    """

    def __init__(
        self,
        place: ServerPlace,
        db: PostgresDatabase,
        epoch: int,
        *,
        seconds: float,
        asked: tuple[float, float],
        clock: Clock,
    ) -> None:
        self.epoch = epoch
        self.seconds = seconds
        self._db = db
        self._under_way: Asked | None = None
        self.clock = clock
        self.lost = False
        """Whether its lease ran out before it was renewed: it claims and promises nothing any more."""
        self.gone = False
        """Whether the database could not be reached when it was asked last."""
        self.claimed: dict[tuple[int, str], Claimed] = {}
        """The rows that it has claimed, by campaign and key."""
        self._place = place
        self._asked = asked

    @classmethod
    def open(
        cls,
        place: ServerPlace,
        *,
        worker: str,
        account: str,
        seconds: float = LEASE,
        clock: Clock | None = None,
    ) -> Self:
        """Open a slot, under a number that no other ever had.

        Args:
            place: the ledger.
            worker: what people call the worker.
            account: whose session it is.
            seconds: how long its lease lasts.
            clock: this machine's clocks.

        Raises:
            LedgerError: the database cannot be reached, or has no ledger of this version.

        """
        clock = clock or SystemClock()
        db = place.session(answer_within=_answer_within(seconds))
        try:
            asked = _both(clock)
            holder = f"pid {os.getpid()} on {platform.node()}"
            (epoch,) = db.row(_OPEN_SLOT, (worker, account, holder, seconds))
        except BaseException:
            db.close()
            raise
        return cls(place, db, int(epoch), seconds=seconds, asked=asked, clock=clock)

    @property
    def answer_within(self) -> float:
        """Seconds after which a database that does not answer is treated as gone."""
        return _answer_within(self.seconds)

    @property
    def deadline(self) -> float:
        """Until when, by our steady clock, the end of a message may be sent."""
        return self._asked[0] + self.seconds * (1 - _MARGIN)

    def holds(self) -> bool:
        """Return whether the lease is certainly valid: by both clocks, as one of them may stop."""
        steady, wall = _both(self.clock)
        return not self.lost and max(steady - self._asked[0], wall - self._asked[1]) < self.seconds * (
            1 - _MARGIN
        )

    def claim(self, campaign: int, count: int) -> list[Claimed]:
        """Claim the next *count* rows that are due, in order; fewer if there are not that many.

        Rows whose recipients have opted out leave the queue here.

        Raises:
            LedgerError: the database cannot be asked. Nothing is known to be claimed; what was comes back by
                itself, or with `give_back`.

        """
        while True:
            rows = self.ask([(_CLAIM, (self.epoch, self.seconds, campaign, count))])[0]
            if found := self._note(campaign, rows):
                return found
            if self.lost or not rows[0][1]:
                return []

    def begin_claim(self, db: PostgresDatabase, campaign: int, count: int) -> Callable[[], list[Claimed]]:
        """Begin to claim more rows on another connection, while this slot's own promises what it has.

        The lease is not renewed by it. What it returns waits for the end: the rows, none also where all of
        them have opted out.

        Raises:
            LedgerError: as `claim`, and so does what it returns.

        """
        db.send([(_CLAIM_AHEAD, (self.epoch, self.seconds, campaign, count))])
        return lambda: self._note(campaign, db.receive()[0])

    def _note(self, campaign: int, rows: list[Any]) -> list[Claimed]:
        if not rows[0][0]:
            self.lost = True
            return []
        found = sorted((_claimed(row) for row in rows if row[4] is not None), key=lambda row: row.n)
        for row in found:
            self.claimed[campaign, row.key] = row
        return found

    def keep(self, campaign: int) -> str:
        """Renew the lease; return the state of the campaign's fleet.

        Raises:
            LedgerError: the database cannot be asked.

        """
        return str(self.ask([(_KEEP, (self.epoch, self.seconds, campaign))])[0][0][1])

    def give_back(self) -> None:
        """Release what was claimed and not promised.

        Raises:
            LedgerError: the database cannot be asked; what was claimed comes back when the lease runs out.

        """
        self.ask([(one, (self.epoch,)) for one in (LOCK_SLOT, _GIVE_BACK_CLAIMS)], leased=False)
        self.claimed.clear()

    def leave(self, campaign: int, row: Claimed) -> None:
        """Remove a claimed row from the queue because it cannot be sent as stored; its state is unchanged.

        Raises:
            LedgerError: the database cannot be asked.

        """
        self.ask([(_LEAVE, (campaign, row.key, self.epoch))], leased=False)
        self.claimed.pop((campaign, row.key), None)

    def close(self) -> None:
        """Close the slot, if nothing promised is open: no outcome can come any more. Never raises."""
        with contextlib.suppress(LedgerError):
            if not self.gone:
                statements = (LOCK_SLOT, _GIVE_BACK_CLAIMS, _END_SLOT)
                self.ask([(one, (self.epoch,)) for one in statements], leased=False)
        self.db.close()

    def ask(self, statements: Statements, *, leased: bool = True) -> list[list[Any]]:
        """Run statements, all or none, in one round trip; return the rows of each.

        *leased*: the last of them renews the lease, and begins its row with how many slots that were.

        Raises:
            LedgerError: nothing was changed; or, where `gone` is set, nobody knows.

        """
        return self.finish(self.start(statements, leased=leased))

    def start(self, statements: Statements, *, leased: bool = True) -> Asked:
        """Send what `ask` would ask, and do not wait: `finish` gives what it came to."""
        db = self.db
        asked = Asked(_both(self.clock), leased)
        try:
            db.send(statements)
        except LedgerError as error:
            self.learn(error)
            asked.error = error
        else:
            self._under_way = asked
        return asked

    def finish(self, asked: Asked) -> list[list[Any]]:
        """Wait for what was started; return the rows of each statement.

        Raises:
            LedgerError: nothing was changed; or, where `gone` is set, nobody knows.

        """
        if asked is self._under_way:
            self._hear()
        if asked.error is not None:
            raise asked.error
        return asked.found

    def answer_at(self, asked: Asked) -> int:
        """Return the descriptor on which the answer will arrive; -1: `finish` takes no time."""
        if asked is not self._under_way:
            return -1
        with contextlib.suppress(LedgerError):  # `finish` finds out as well
            return self._db.answer_at()
        return -1

    def _hear(self) -> None:
        """Take in the answer to what is under way, whoever wants it."""
        asked, self._under_way = self._under_way, None
        if asked is None:
            return
        try:
            asked.found = self._db.receive()
        except LedgerError as error:
            self.learn(error)
            asked.error = error
            return
        if asked.leased and asked.found[-1][0][0]:
            self._asked = asked.at
        elif asked.leased:
            self.lost = True

    @property
    def db(self) -> PostgresDatabase:
        """The connection, with nothing under way on it."""
        self._hear()
        return self._db

    @db.setter
    def db(self, other: PostgresDatabase) -> None:
        self._db, self._under_way = other, None

    def learn(self, error: LedgerError) -> None:
        """Take note of what was raised: whether the database is gone."""
        if error.code == _GONE:
            self.gone = True
            self._db.close()

    def reconnect(self) -> bool:
        """Reconnect to the database; return whether that was possible.

        Raises:
            LedgerError: it is there, and does not let us in.

        """
        if not self.gone:
            return True
        try:
            self.db = self._place.session(answer_within=self.answer_within)
        except LedgerError as error:
            if error.code == _GONE:
                return False
            raise
        self.gone = False
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _answer_within(lease: float) -> float:
    return min(_ANSWER_WITHIN, lease / 2)


def _both(clock: Clock) -> tuple[float, float]:
    return clock.monotonic(), clock.now().timestamp()


def _claimed(cells: Sequence[Any]) -> Claimed:
    _, _, plan, n, key, row, domain, recipients, status, *history = cells
    if status is None:
        return Claimed(plan, n, key, row, domain, tuple(recipients))
    tries, first_at, generation, attempt, message_id, date, offset = history
    known = Delivery(
        key, row, "", status_of(status), attempts=tries, message_id=message_id or "",
        date=None if date is None else zoned(date, offset or 0), first_attempt=moment(first_at),
        generation=generation,
    )  # fmt: skip
    return Claimed(plan, n, key, row, domain, tuple(recipients), attempt, known)
