"""The ledger as a slot's sender sees it: intents and outcomes of one campaign, each step one statement.

`mailmerge.ledger.claims` explains what they guarantee. Arrays go in, and what could not be promised comes
out; outcomes wait here while the database is gone.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct

from mailmerge.errors import LedgerError
from mailmerge.exchange import arrays
from mailmerge.ledger.attempts import IntentRefusedError, Revision, Settlement, reached
from mailmerge.ledger.claims import ALIVE, LOCK_SLOT, OPTED_OUT, RUNNING, STATE, Promising
from mailmerge.ledger.databases import AttemptNumbers
from mailmerge.model import TO_BE_SENT, Outcome, Phase, Scope, Status
from mailmerge.postgres import NOW
from mailmerge.sqlite import stamp

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.ledger.claims import Asked, Claimed, Slot
    from mailmerge.model import Attempt

_LOOK_EVERY: Final = 1.0
_REMEMBERED: Final = 2000
"""Settled rows whose outcome may still be revised."""
_GIVEN_BACK_FOR: Final = 900.0
"""Seconds for which a row waits that was refused for a reason that seems to be about us."""
_FOLDED_EVERY: Final = 1000

_ATTEMPT = (
    ("id", "bigint"), ("key", "text"), ("row", "bigint"), ("address", "text"), ("number", "bigint"),
    ("message_id", "text"), ("date", "float8"), ("utc_offset", "bigint"), ("recipients", "bigint"),
    ("size", "bigint"), ("digest", "text"), ("frozen", "text"), ("row_digest", "text"),
    ("version", "bigint"), ("connection", "text"), ("rows", "text"), ("previous", "bigint"),
)  # fmt: skip
_OUTCOME = (
    ("id", "bigint"), ("key", "text"), ("status", "text"), ("counts", "bigint"), ("next_at", "float8"),
    ("at", "float8"), ("outcome", "text"), ("scope", "text"), ("phase", "text"), ("reason", "text"),
    ("code", "bigint"), ("enhanced", "text"), ("reply", "text"), ("raw", "bytea"),
)  # fmt: skip
_ROW = (
    ("key", "text"), ("attempt", "bigint"), ("after", "float8"), ("plan", "bigint"), ("n", "bigint"),
    ("row", "bigint"), ("domain", "text"), ("recipients", "text"),
)  # fmt: skip


def _unnested(columns: Sequence[tuple[str, str]], first: int) -> str:
    """Write the table that parameters make, one array for each column, from number *first* on."""
    arrays = ", ".join(f"?{first + at}::{type_}[]" for at, (_, type_) in enumerate(columns))
    return f"(SELECT * FROM unnest({arrays}) AS v({', '.join(name for name, _ in columns)}))"


_ATTEMPT_COLUMNS = ", ".join(name for name, _ in _ATTEMPT)
_PROMISE = f"""
WITH {ALIVE},
v AS {_unnested(_ATTEMPT, 6)},
held AS (
    SELECT w.key, {OPTED_OUT} AS opted_out FROM mailmerge.work w
    WHERE w.campaign = ?3 AND w.key = ANY(?7::text[]) AND w.epoch = ?1 AND {RUNNING}
), gone AS (
    DELETE FROM mailmerge.work
    WHERE campaign = ?3 AND key = ANY(ARRAY(SELECT key FROM held WHERE opted_out))
), mine AS (
    SELECT v.key, v.id, v.version FROM v JOIN held ON held.key = v.key WHERE NOT held.opted_out
), handed AS (
    INSERT INTO mailmerge.delivery AS d (campaign, key, status, tries, first_at, updated, version, attempt)
    SELECT ?3, key, 'handing_over', 0, ?4, ?4, version, id FROM mine
    ON CONFLICT (campaign, key) DO UPDATE SET status = 'handing_over',
        first_at = coalesce(d.first_at, excluded.first_at), updated = excluded.updated, next_at = NULL,
        version = excluded.version, attempt = excluded.attempt, note = ''
    WHERE d.status IN ('pending', 'deferred')
    RETURNING d.key
), kept AS (
    INSERT INTO mailmerge.attempt ({_ATTEMPT_COLUMNS}, campaign, run, at, status, epoch)
    SELECT {", ".join(f"v.{name}" for name, _ in _ATTEMPT)}, ?3, ?5::bigint, ?4, 'handing_over', ?1
    FROM v JOIN handed ON handed.key = v.key
)
SELECT (SELECT count(*) FROM alive), {STATE}, ARRAY(SELECT key FROM v EXCEPT SELECT key FROM handed)
"""
_FINAL = "status NOT IN ('pending', 'deferred')"
_SETTLE = f"""
WITH v AS {_unnested(_OUTCOME, 4)},
ended AS (
    UPDATE mailmerge.attempt a SET status = v.outcome, settled = v.at, scope = v.scope, phase = v.phase,
        reason = v.reason, code = v.code, enhanced = v.enhanced, reply = v.reply, raw = v.raw
    FROM v WHERE a.id = v.id AND a.id = ANY(?4::bigint[]) RETURNING a.id
), moved AS (
    INSERT INTO mailmerge.delivery AS d (campaign, key, status, tries, next_at, updated, version, attempt)
    SELECT ?3, v.key, v.status, v.counts, v.next_at, v.at, 0, v.id FROM v JOIN ended ON ended.id = v.id
    ON CONFLICT (campaign, key) DO UPDATE SET status = excluded.status, tries = d.tries + excluded.tries,
        next_at = excluded.next_at, updated = excluded.updated
    WHERE d.attempt = excluded.attempt AND d.status IN ('handing_over', 'in_doubt', 'pending')
    RETURNING d.key, d.status
), gone AS (
    DELETE FROM mailmerge.work WHERE campaign = ?3 AND key = ANY(ARRAY(SELECT key FROM moved WHERE {_FINAL}))
)
SELECT count(*) FROM moved
"""
# A promise of which nobody heard may still be under way, or reach the server later by the connection that was
# given up. Locking the slot's row waits for the first; the second fails, as its attempt's number is taken.
_FENCE = f"""
INSERT INTO mailmerge.attempt ({_ATTEMPT_COLUMNS}, campaign, run, at, status, epoch)
SELECT {", ".join(f"v.{name}" for name, _ in _ATTEMPT)}, ?3, ?5::bigint, ?4, 'pending', ?1
FROM {_unnested(_ATTEMPT, 6)} v
ON CONFLICT (id) DO NOTHING
"""
# Another statement, so that it sees what the one before has waited for.
_TAKE_BACK = _SETTLE.replace(
    "JOIN ended ON ended.id = v.id",
    """JOIN ended ON ended.id = v.id
    WHERE EXISTS (SELECT 1 FROM mailmerge.delivery p
        WHERE p.campaign = ?3 AND p.key = v.key AND p.attempt = v.id LIMIT 1)""",
)
# These were never handed over, so only the slot that still has the row may record its outcome.
_SETTLE_WITHOUT_INTENT = f"""
WITH v AS {_unnested(_ATTEMPT, 6)},
o AS {_unnested(_OUTCOME, 6 + len(_ATTEMPT))},
mine AS (
    SELECT v.id FROM v JOIN mailmerge.work w ON w.key = v.key
    WHERE w.campaign = ?3 AND w.key = ANY(?7::text[]) AND w.epoch = ?1
), kept AS (
    INSERT INTO mailmerge.attempt ({_ATTEMPT_COLUMNS}, campaign, run, at, epoch, status, settled, scope,
        phase, reason, code, enhanced, reply, raw)
    SELECT {", ".join(f"v.{name}" for name, _ in _ATTEMPT)}, ?3, ?5::bigint, ?4, ?1, o.outcome, o.at,
        o.scope, o.phase, o.reason, o.code, o.enhanced, o.reply, o.raw
    FROM v JOIN mine ON mine.id = v.id JOIN o ON o.id = v.id
    ON CONFLICT (id) DO NOTHING RETURNING id
), moved AS (
    INSERT INTO mailmerge.delivery AS d (campaign, key, status, tries, next_at, first_at, updated, version,
        attempt)
    SELECT ?3, o.key, o.status, o.counts, o.next_at, o.at, o.at, v.version, o.id
    FROM o JOIN kept ON kept.id = o.id JOIN v ON v.id = o.id
    ON CONFLICT (campaign, key) DO UPDATE SET status = excluded.status, tries = d.tries + excluded.tries,
        next_at = excluded.next_at, first_at = coalesce(d.first_at, excluded.first_at),
        updated = excluded.updated, version = excluded.version, attempt = excluded.attempt, note = ''
    WHERE d.status IN ('pending', 'deferred')
    RETURNING d.key, d.status
), gone AS (
    DELETE FROM mailmerge.work WHERE campaign = ?3 AND key = ANY(ARRAY(SELECT key FROM moved WHERE {_FINAL}))
)
SELECT count(*) FROM moved
"""
_QUEUE_AGAIN = f"""
INSERT INTO mailmerge.work AS w (campaign, plan, n, key, row, domain, recipients, next_at)
SELECT ?3, v.plan, v.n, v.key, v.row, v.domain, string_to_array(v.recipients, ' '), {NOW} + v.after
FROM {_unnested(_ROW, 4)} v WHERE {STATE} <> 'cancelled'
    AND v.plan = (SELECT plan FROM mailmerge.fleet WHERE campaign = ?3) AND EXISTS (
    SELECT 1 FROM mailmerge.delivery d WHERE d.campaign = ?3 AND d.key = v.key AND d.attempt = v.attempt
        AND d.status IN ('pending', 'deferred') LIMIT 1)
ON CONFLICT (campaign, key) DO UPDATE SET epoch = NULL, next_at = excluded.next_at WHERE w.epoch = ?1
"""
# A pending row remains the slot's, unless the slot was found silent meanwhile.
_QUEUE_IF_LOST = f"{_QUEUE_AGAIN.rpartition('DO UPDATE')[0]}DO NOTHING"
_REVISE = f"""
WITH {ALIVE},
moved AS (
    UPDATE mailmerge.delivery SET status = ?6, tries = greatest(tries + ?7, 0), next_at = NULL, updated = ?8
    WHERE campaign = ?3 AND key = ?4 AND attempt = ?5 AND status = ?9 RETURNING key
), ended AS (
    UPDATE mailmerge.attempt SET status = ?10, settled = ?8, scope = ?11, phase = ?12, reason = ?13,
        code = ?14, enhanced = ?15, reply = ?16, raw = ?17
    WHERE id = ?5 AND EXISTS (SELECT 1 FROM moved)
), gone AS (
    DELETE FROM mailmerge.work WHERE campaign = ?3 AND key = ?4 AND ?6 NOT IN ('pending', 'deferred')
        AND EXISTS (SELECT 1 FROM moved)
), back AS (
    INSERT INTO mailmerge.work AS w (campaign, plan, n, key, row, domain, recipients, epoch, next_at)
    SELECT ?3, ?18, ?19, ?4, ?20, ?21, ?22, (SELECT epoch FROM alive), 0 FROM mailmerge.fleet f
    WHERE f.campaign = ?3 AND f.plan = ?18 AND ?6 IN ('pending', 'deferred') AND EXISTS (SELECT 1 FROM moved)
    ON CONFLICT (campaign, key) DO UPDATE SET epoch = excluded.epoch, next_at = 0 WHERE w.epoch IS NULL
)
SELECT (SELECT count(*) FROM alive), {STATE}
"""
_GIVE_BACK = """
UPDATE mailmerge.delivery SET status = 'pending', tries = greatest(tries - 1, 0), next_at = NULL, updated = ?1
WHERE campaign = ?2 AND key = ANY(?3::text[]) AND status IN ('deferred', 'expired')
"""
_HANDED_OVER = "UPDATE mailmerge.campaign SET handed_over = handed_over + ?, counts = '' WHERE id = ?"


class _Ended(Struct):
    """An outcome that is to be recorded: it keeps its attempt's number, however often that is tried."""

    settlement: Settlement
    number: int
    """The number of its attempt; 0: it has none yet, because nothing was promised."""
    promised: bool
    unsure: bool = False
    """Whether it is unknown if its promise was, or will be, committed; nothing of it left."""


class _Begun(Struct):
    """A transaction under way: what it records, and what it came to once that was heard."""

    asked: Asked | None
    """None: there was nothing to record, or the database is gone."""
    numbered: Sequence[tuple[int, Attempt]]
    backlog: list[_Ended]
    after: list[tuple[str, Sequence[object]]]
    refused: frozenset[str] = frozenset()
    error: LedgerError | None = None
    gone: bool = False
    """Whether the database was gone: what it would have promised was taken back."""
    lost: bool = False
    """Whether the slot's lease had run out: it promised nothing."""


class SlotWriter:
    """Records one campaign's intents and outcomes for a slot; the send loop writes to it.

    Args:
        slot: whose rows they are.
        campaign: the campaign's number in the ledger.
        run: the run that the attempts belong to.

    """

    def __init__(self, slot: Slot, campaign: int, *, run: int | None = None) -> None:
        self.handed_over = 0
        """How many hand-overs this slot has recorded of the campaign."""
        self.state = "running"
        """That of the campaign's fleet, as it was last heard of."""
        self.refused: set[str] = set()
        """Keys of claimed rows that we may not send after all: they are skipped."""
        self._slot = slot
        self._campaign = campaign
        self._run = run
        self._versions: dict[str, int] = {}
        self._open: dict[str, int] = {}
        """Keys of what was promised and has no outcome yet, with the number of the attempt."""
        self._latest: dict[str, int] = {}
        """The number of the latest attempt for each row that we still have."""
        self._settled: dict[str, tuple[int, Claimed]] = {}
        """What was settled recently, the oldest first: it may still be revised."""
        self._backlog: list[_Ended] = []
        self._after: list[tuple[str, Sequence[object]]] = []
        """What is to be done once the outcomes are recorded; each changes nothing the second time."""
        self._begun: _Begun | None = None
        self._numbers = AttemptNumbers()
        self._unfolded = 0
        self._heard_at = self._retry_at = float("-inf")

    @property
    def backlog(self) -> int:
        """How many outcomes wait for the database."""
        return len(self._backlog) + (len(self._begun.backlog) if self._begun is not None else 0)

    @property
    def over(self) -> bool:
        """Whether this slot must never send more of the campaign."""
        return self._slot.lost or self.state in {"cancelled", "finished"}

    def may_release(self) -> bool:
        """Return whether the end of a promised message may be sent now."""
        return self._slot.holds()

    def held_until(self) -> float:
        """Renew the lease and check the fleet's state, now and then.

        Returns:
            Until when, by the steady clock, nothing may be offered at most; 0: it may be now.

        """
        now = self._slot.clock.monotonic()
        if self._slot.gone:
            if now >= self._retry_at:
                self.reconnect()
        elif now - self._heard_at >= min(_LOOK_EVERY, self._slot.seconds / 4):
            with contextlib.suppress(LedgerError):
                self.state = self._slot.keep(self._campaign)
                self._heard_at = now
        held = self._slot.gone or self._slot.lost or self.state != "running"
        return now + _LOOK_EVERY if held else 0.0

    def reconnect(self) -> bool:
        """Reconnect to the database if it was gone, and record what waits; return whether that is done.

        Raises:
            LedgerError: the database is there, and does not take it.

        """
        self._retry_at = self._slot.clock.monotonic() + _LOOK_EVERY
        if not self._slot.reconnect():
            return False
        try:
            self._commit()
        except LedgerError as error:
            self._slot.learn(error)
            if self._slot.gone:
                return False
            raise
        return True

    def record_intent(
        self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement] = ()
    ) -> frozenset[str]:
        """Promise the next hand-overs, and record the outcomes so far, in one durable transaction.

        Where the database is gone, nothing is promised, and the outcomes wait here.

        Returns:
            The keys of those that are not promised: nothing of them may leave.

        Raises:
            IntentRefusedError: this slot promises nothing any more; outcomes are, and can be, recorded.
            LedgerError: the database is there, and does not take it.
            RuntimeError: a mistake of ours: a version that was not noted.

        """
        return self.begin_intent(attempts, outcomes)()

    def begin_intent(self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement] = ()) -> Promising:
        """Begin what `record_intent` does, while messages travel.

        Returns:
            What waits for its end, and returns and raises what `record_intent` does; to be called before
            anything else is recorded.

        """
        self._conclude()
        self._backlog += map(self._ended, outcomes)
        everyone = frozenset(attempt.key for attempt in attempts)
        if self._slot.gone and not self._slot.reconnect():
            return Promising(lambda: everyone)
        try:
            begun = self._start([(self._numbers.take(self._slot.db), attempt) for attempt in attempts])
        except LedgerError as error:
            self._slot.learn(error)
            if self._slot.gone:
                return Promising(lambda: everyone)
            raise
        return Promising(partial(self._end_intent, begun), partial(self._answer_at, begun))

    def _answer_at(self, begun: _Begun) -> int:
        return -1 if begun is not self._begun or begun.asked is None else self._slot.answer_at(begun.asked)

    def _end_intent(self, begun: _Begun) -> frozenset[str]:
        self._conclude()
        if begun.error is not None and not begun.gone:
            raise begun.error
        if begun.lost:
            raise IntentRefusedError(
                "this worker was silent for too long: its rows were given to others",
                code="L730",
                hint="nothing more was sent by this session; what was in flight is settled when it is known",
            )
        return begun.refused

    def record_outcomes(self, outcomes: Sequence[Settlement]) -> None:
        """Record the outcomes of attempts; if the database is gone, they wait here."""
        self.record_intent((), outcomes)

    def give_back(self, keys: Sequence[str]) -> None:
        """Make deferred rows pending again, for later, and do not count their last try."""
        at = self._slot.clock.now().timestamp()
        self._after.append((_GIVE_BACK, (at, self._campaign, list(keys))))
        rows = [self._settled[key] for key in keys if key in self._settled]
        if rows:
            again = [(number, row, _GIVEN_BACK_FOR) for number, row in rows]
            self._after.append(self._queue(_QUEUE_AGAIN, again))
        self.record_intent(())

    def revise(self, revision: Revision) -> None:
        """Replace the recorded outcome of an attempt, unless its row has changed since."""
        settlement = revision.settlement
        found = self._settled.get(settlement.attempt.key)
        if found is None:
            return
        number, row = found
        outcome = settlement.outcome
        cells = (
            *self._head(), row.key, number, settlement.status.value,
            int(settlement.counts) - int(revision.counted), settlement.at.timestamp(),
            revision.before.value, outcome.status.value, *reached(outcome),
            row.plan, row.n, row.row, row.domain, list(row.recipients),
        )  # fmt: skip
        if settlement.status in TO_BE_SENT:
            self._slot.claimed[self._campaign, row.key] = row
            self._latest[row.key] = number
        self._after.append((_REVISE, cells))
        self.record_intent(())

    def fold(self) -> None:
        """Add what was handed over to the campaign's count, now and then and at the end; never raises."""
        with contextlib.suppress(LedgerError):
            self._slot.ask([(_HANDED_OVER, (self._unfolded, self._campaign))], leased=False)
            self._unfolded = 0

    # --- one transaction ------------------------------------------------------------------------------

    def _head(self) -> tuple[object, ...]:
        return self._slot.epoch, self._slot.seconds, self._campaign

    def _ended(self, settlement: Settlement) -> _Ended:
        number = self._open.pop(settlement.attempt.key, 0)
        return _Ended(settlement, number, promised=number > 0)

    def _commit(self) -> None:
        """Record all that waits.

        Raises:
            LedgerError: nothing was changed; or, where the database is gone, nobody knows.

        """
        self._conclude()
        begun = self._start(())
        self._conclude()
        if begun.error is not None:
            raise begun.error

    def _start(self, numbered: Sequence[tuple[int, Attempt]]) -> _Begun:
        """Send all that waits to be recorded, and promises."""
        for ended in self._backlog:
            if not ended.number:
                ended.number = self._numbers.take(self._slot.db)
        statements = [*self._settling(), *self._after]
        for state, statement in ((Status.DEFERRED, _QUEUE_AGAIN), (Status.PENDING, _QUEUE_IF_LOST)):
            again = [
                (ended.number, row, _rest(ended.settlement))
                for ended in self._backlog
                if ended.settlement.status is state and (row := self._row(ended.settlement.attempt.key))
            ]
            if again:
                statements.append(self._queue(statement, again))
        if numbered:
            now = self._slot.clock.now().timestamp()
            cells = (*self._head(), now, self._run, *self._attempt_arrays(numbered))
            statements.append((_PROMISE, cells))
        asked = self._slot.start(statements, leased=bool(numbered)) if statements else None
        self._begun = _Begun(asked, numbered, self._backlog, self._after)
        self._backlog, self._after = [], []
        return self._begun

    def _conclude(self) -> None:
        """Wait for what is under way, and take in what it came to."""
        begun, self._begun = self._begun, None
        if begun is None or begun.asked is None:
            return
        try:
            found = self._slot.finish(begun.asked)
        except LedgerError as error:
            begun.error = error
            self._backlog[:0], self._after[:0] = begun.backlog, begun.after
            if begun.asked.gone:
                begun.gone, begun.refused = True, frozenset(attempt.key for _, attempt in begun.numbered)
                self._take_back(begun.numbered)
            return
        self._forget(begun.backlog)
        if begun.numbered:
            begun.lost = not found[-1][0][0]
            begun.refused = self._promised(begun.numbered, found[-1][0])

    def _promised(self, numbered: Sequence[tuple[int, Attempt]], said: Sequence[Any]) -> frozenset[str]:
        _, self.state, refused = said
        keys = frozenset(refused)
        if keys and self.state == "running" and not self._slot.lost:
            self.refused |= keys
        for number, attempt in numbered:
            if attempt.key not in keys:
                self._open[attempt.key] = self._latest[attempt.key] = number
        count = len(numbered) - len(keys)
        self._heard_at = self._slot.clock.monotonic()
        first = not self.handed_over
        self.handed_over += count
        self._unfolded += count
        if self._unfolded >= _FOLDED_EVERY or (first and count):
            self.fold()
        return keys

    def _take_back(self, numbered: Iterable[tuple[int, Attempt]]) -> None:
        """Record that these were never sent, whether or not their promise was committed."""
        outcome = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA, reason="withdrawn")
        now = self._slot.clock.now()
        for number, attempt in numbered:
            settlement = Settlement(attempt, outcome, Status.PENDING, now, counts=False)
            self._backlog.append(_Ended(settlement, number, promised=True, unsure=True))

    def _forget(self, done: Sequence[_Ended]) -> None:
        """Forget what is recorded now."""
        for ended in done:
            key = ended.settlement.attempt.key
            if ended.settlement.status is Status.PENDING:
                self._latest[key] = ended.number
                continue
            row = self._row(key)
            self._latest.pop(key, None)
            self._slot.claimed.pop((self._campaign, key), None)
            if row is not None:
                self._settled.pop(key, None)
                self._settled[key] = (ended.number, row)
        while len(self._settled) > _REMEMBERED:
            del self._settled[next(iter(self._settled))]

    def _row(self, key: str) -> Claimed | None:
        row = self._slot.claimed.get((self._campaign, key))
        return self._settled[key][1] if row is None and key in self._settled else row

    # --- parameters of statements ---------------------------------------------------------------------

    def _settling(self) -> Iterator[tuple[str, Sequence[object]]]:
        """Yield the statements for all outcomes, in order: a row occurs once in each."""
        group: list[_Ended] = []
        keys: set[str] = set()
        for ended in self._backlog:
            key = ended.settlement.attempt.key
            if group and (
                key in keys or (group[0].promised, group[0].unsure) != (ended.promised, ended.unsure)
            ):
                yield from self._settle(group)
                group, keys = [], set()
            group.append(ended)
            keys.add(key)
        if group:
            yield from self._settle(group)

    def _settle(self, group: Sequence[_Ended]) -> Iterator[tuple[str, Sequence[object]]]:
        outcomes = _outcome_arrays(group)
        if group[0].promised and not group[0].unsure:
            yield _SETTLE, (*self._head(), *outcomes)
            return
        attempts = self._attempt_arrays([(ended.number, ended.settlement.attempt) for ended in group])
        started = (*self._head(), group[0].settlement.at.timestamp(), self._run, *attempts)
        if group[0].unsure:
            yield LOCK_SLOT, (self._slot.epoch,)
            yield _FENCE, started
            yield _TAKE_BACK, (*self._head(), *outcomes)
        else:
            yield _SETTLE_WITHOUT_INTENT, (*started, *outcomes)

    def _queue(
        self, statement: str, rows: Sequence[tuple[int, Claimed, float]]
    ) -> tuple[str, Sequence[object]]:
        """Make rows wait again, each for its number of seconds, unless others have them."""
        columns = [
            (row.key, number, after, row.plan, row.n, row.row, row.domain, " ".join(row.recipients))
            for number, row, after in {row.key: (number, row, after) for number, row, after in rows}.values()
        ]
        return statement, (*self._head(), *arrays(_ROW, columns))

    def _attempt_arrays(self, numbered: Iterable[tuple[int, Attempt]]) -> list[str]:
        rows = []
        for number, attempt in numbered:
            offset = attempt.date.utcoffset()
            rows.append((
                number, attempt.key, attempt.row, attempt.address, attempt.number, attempt.message_id,
                attempt.date.timestamp(), int(offset.total_seconds()) if offset else 0, attempt.recipients,
                attempt.size, attempt.digest, attempt.frozen, attempt.row_digest,
                self._version(attempt.version), attempt.connection, attempt.rows, self._previous(attempt.key),
            ))  # fmt: skip
        return arrays(_ATTEMPT, rows)

    def _previous(self, key: str) -> int | None:
        if key in self._latest:
            return self._latest[key]
        row = self._slot.claimed.get((self._campaign, key))
        return None if row is None else row.attempt

    def _version(self, digest: str) -> int:
        if digest not in self._versions:
            query = "SELECT digest, id FROM mailmerge.version WHERE campaign = ?"
            self._versions = dict(self._slot.db.rows(query, (self._campaign,)))
        found = self._versions.get(digest)
        if found is None:
            raise RuntimeError("a campaign version must be recorded before it is sent")
        return found


def _rest(settlement: Settlement) -> float:
    """Return how many seconds a row has to wait, independent of our clock: the server's counts."""
    next_at = settlement.next_at
    return 0.0 if next_at is None else max(0.0, (next_at - settlement.at).total_seconds())


def _outcome_arrays(group: Sequence[_Ended]) -> list[str]:
    rows = []
    for ended in group:
        settlement = ended.settlement
        rows.append((
            ended.number, settlement.attempt.key, settlement.status.value, int(settlement.counts),
            stamp(settlement.next_at), settlement.at.timestamp(), settlement.outcome.status.value,
            *reached(settlement.outcome),
        ))  # fmt: skip
    return arrays(_OUTCOME, rows)
