"""Rates that all workers of a fleet share: the database hands out their slots.

A rate of N messages in T seconds applies to every window *at the receiver*, whichever worker sends. So the
database hands out *slots*, moments of its own clock: each T + d after the N-th last one, so (T + d) / N apart
on average. A message leaves within d after its slot, or gives the slot up and takes another one. Of any N + 1
that are used the last is T + d after the first, so they arrive at least T apart, whatever each of them did
within its d. (Without d, a message a little late and one in time come closer than T: 103 arrived where 100
were allowed.)

- d costs rate: a share d / (T + d) of it. It is a twentieth of T, so that 95 of 100 are left, at least 50 ms,
  or a worker's ordinary hiccups would cost slots, and at most 2 s, because no healthy one needs more. A
  message leaves in the first three fifths of it; the rest is for the way, which may be quicker or slower.
- One that was found to have left later than that, because its worker was stopped in between, is counted as
  that much later: the slots that follow keep their distance from it.
- Slots of the shortest rate of an account or a campaign are spaced by the step (T + d) / N. What a stalled
  worker lost, a quarter of T and a second at most, is made good by slots half as far apart, never by more
  than N of them within T + d. Longer rates, and those of recipient domains, may be used up at that pace.
- A slot is never taken long before it is used: one that lies too far ahead is not taken but asked for again
  then, so that nobody waits for what a dead worker took, or because another campaign waits.

**Clocks** need not agree. A worker compares its own steady clock with the server's: the answer was made
between question and receipt. It takes the slot as late, and the slot's end as early, as that allows.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import contextlib
import math
from collections import deque
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailmerge.errors import LedgerError
from mailmerge.model import SHORTEST_DELAY, SHORTEST_INTERVAL, SLOWEST, STEP_UP, STEP_UP_EVERY
from mailmerge.postgres import NOW, TableGroup
from mailmerge.text import slowed_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailmerge.clock import Clock
    from mailmerge.model import Rate
    from mailmerge.postgres import PostgresDatabase

    Database = Callable[[], PostgresDatabase]
    """Returns the connection to use now; raises `LedgerError` if the database is gone."""

_LEAST_LATE, _LATE_SHARE, _MOST_LATE = 0.05, 1 / 20, 2.0
_LEAVE_WITHIN = 0.6
"""The part of d in which a message leaves; the rest is for the way to the receiver."""
_DRIFT = 2e-4
"""By how much two steady clocks may run apart, seconds a second."""
_MOST_AT_ONCE = 16
_AHEAD = 0.25
"""Seconds ahead that a worker takes slots at most."""
_TRY_AGAIN = 1.0
_LOOK_EVERY = 1.0
_GOOD_AT_ONCE = 10
_DOMAINS_KEPT = 1000
_UNUSED_FOR = 40 * 86400

# "rate" has a row for each rate, and one ("pace ACCOUNT") for the pace that a server's complaints have led
# to: its step is 0 as long as there were none. Statements that need several rows lock them in order of names.
TABLES: Final = TableGroup(
    "rate",
    1,
    f"""
CREATE TABLE mailmerge.rate (
    name TEXT PRIMARY KEY,
    count BIGINT NOT NULL,
    seconds REAL NOT NULL,
    late REAL NOT NULL,
    step REAL NOT NULL,
    tat REAL NOT NULL DEFAULT 0,
    used REAL NOT NULL DEFAULT 0,
    head BIGINT NOT NULL DEFAULT 0,
    good BIGINT NOT NULL DEFAULT 0,
    halvings BIGINT NOT NULL DEFAULT 0,
    slowest REAL NOT NULL DEFAULT 0
) WITH (fillfactor = 20);
CREATE TABLE mailmerge.rate_slot (
    name TEXT NOT NULL,
    place BIGINT NOT NULL,
    at REAL NOT NULL,
    PRIMARY KEY (name, place)
) WITH (fillfactor = 50);
-- Gives slots, each counted in all rows that are wanted. What was counted for slots that were given up
-- ("instead") counts for the new ones, as long as it is among the last N.
CREATE FUNCTION mailmerge.take_slots(wanted TEXT[], lead FLOAT8, most INT, jitter FLOAT8, instead FLOAT8[])
RETURNS TABLE (slot FLOAT8, asked FLOAT8, taken BOOLEAN) LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    earliest FLOAT8;
    again TEXT[];
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    IF (SELECT count(*) FROM (SELECT 1 FROM mailmerge.rate r WHERE r.name = ANY(wanted)
            ORDER BY r.name FOR UPDATE) AS locked) < cardinality(wanted) THEN
        RETURN;  -- one of them was swept: whoever asked makes it again
    END IF;
    asked := {NOW};
    FOR i IN 1..most LOOP
        again := '{{}}';
        IF i <= cardinality(instead) THEN
            again := ARRAY(SELECT s.name FROM mailmerge.rate_slot s
                WHERE s.name = ANY(wanted) AND s.at = instead[i]);
        END IF;
        SELECT greatest(asked + lead,
                    max(r.used + r.step / 2) FILTER (WHERE r.step > 0 AND r.seconds > 0),
                    max(r.tat) FILTER (WHERE r.name <> ALL(again)),
                    max(s.at + r.seconds + r.late) FILTER (WHERE r.name <> ALL(again))),
               greatest(asked + lead, min(r.tat) FILTER (WHERE r.step > 0))
            INTO slot, earliest
            FROM mailmerge.rate r LEFT JOIN mailmerge.rate_slot s
                ON r.seconds > 0 AND s.name = r.name AND s.place = r.head % r.count
            WHERE r.name = ANY(wanted);
        -- Far ahead, or so late by one rate that another would stop meanwhile: not taken.
        taken := slot <= asked + lead + 1.0 AND slot <= earliest + 0.1;
        IF NOT taken AND i > 1 THEN
            RETURN;
        END IF;
        RETURN NEXT;
        IF NOT taken THEN
            RETURN;
        END IF;
        UPDATE mailmerge.rate r SET head = r.head + CASE WHEN r.name = ANY(again) THEN 0 ELSE 1 END,
                tat = CASE WHEN r.step = 0 THEN 0 WHEN r.name = ANY(again) THEN r.tat
                    -- A stall is made good, a pause is not.
                    ELSE CASE WHEN slot - r.tat < least(r.seconds / 4, 1.0) THEN r.tat ELSE slot END
                        + r.step * (1 + jitter * random()) END,
                used = greatest(r.used, slot)
            WHERE r.name = ANY(wanted);
        UPDATE mailmerge.rate_slot s SET at = slot WHERE s.name = ANY(again) AND s.at = instead[i];
        INSERT INTO mailmerge.rate_slot AS s (name, place, at)
            SELECT r.name, (r.head - 1) % r.count, slot FROM mailmerge.rate r
            WHERE r.name = ANY(wanted) AND r.name <> ALL(again) AND r.seconds > 0
            ON CONFLICT (name, place) DO UPDATE SET at = excluded.at;
    END LOOP;
END
$$;
""",
)

_TAKE = """
SELECT t.slot, t.asked, t.taken, p.step, p.halvings
FROM mailmerge.take_slots(?1::text[], ?2::float8, ?3::int, ?4::float8, ?6::float8[]) t, mailmerge.rate p
WHERE p.name = ?5
"""
_MAKE = """
INSERT INTO mailmerge.rate (name, count, seconds, late, step, head, used)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7) ON CONFLICT DO NOTHING
"""
_FILL = "INSERT INTO mailmerge.rate_slot VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING"
_LOOK = "SELECT step, halvings FROM mailmerge.rate WHERE name = ?1"
# Whoever hears the same complaint as another worker, and has not heard of its halving yet, adds none.
_HALVE = f"""
UPDATE mailmerge.rate SET step = least(CASE WHEN step > 0 THEN step ELSE ?2 END * 2, ?3), good = 0,
    tat = greatest(tat, {NOW} + least(CASE WHEN step > 0 THEN step ELSE ?2 END * 2, ?3)),
    halvings = halvings + 1,
    slowest = greatest(slowest, least(CASE WHEN step > 0 THEN step ELSE ?2 END * 2, ?3))
WHERE name = ?1 AND halvings = ?4
"""
_RECOVER = f"""
UPDATE mailmerge.rate SET good = CASE WHEN good + ?2 >= {STEP_UP_EVERY} THEN 0 ELSE good + ?2 END,
    step = CASE WHEN good + ?2 < {STEP_UP_EVERY} THEN step
        WHEN step / {STEP_UP} <= ?3 THEN 0 ELSE step / {STEP_UP} END
WHERE name = ?1 AND step > 0
"""
_SESSIONS = f"""
SELECT count(*) FROM mailmerge.session s JOIN mailmerge.slot l ON l.epoch = s.epoch
WHERE s.account = ?1 AND l.until > {NOW} AND l.ended IS NULL AND l.lost IS NULL
"""
_SWEEP = f"""
WITH gone AS (DELETE FROM mailmerge.rate WHERE used BETWEEN 1 AND {NOW} - {_UNUSED_FOR} RETURNING name)
DELETE FROM mailmerge.rate_slot WHERE name IN (SELECT name FROM gone)
"""
_MOVE_ON = "UPDATE mailmerge.rate_slot SET at = at + ?2 WHERE name = ANY(?1::text[]) AND at = ?3"


def sweep_rates(db: PostgresDatabase) -> None:
    """Forget the rates of domains and campaigns that nothing was sent to for long.

    Raises:
        LedgerError: the database cannot be asked.

    """
    db.execute(_SWEEP)


def lateness(seconds: float) -> float:
    """Return d for a window: within how many seconds after its slot a message is at the receiver."""
    return min(max(_LEAST_LATE, seconds * _LATE_SHARE), _MOST_LATE)


class _RateSlot(Struct, frozen=True):
    """A moment at which one message may leave, by the worker's own steady clock."""

    at: float
    until: float
    names: tuple[str, ...]
    told: float
    """The same by the server's clock."""


class _ServerClock:
    """By how much the server's clock is ahead of ours, as far as that is certain."""

    def __init__(self) -> None:
        self._least, self._most = -math.inf, math.inf
        self._seen = 0.0

    def learn(self, told: float, asked: float, heard: float) -> None:
        """Take a time that the server told, and when we asked and heard of it."""
        drift = (heard - self._seen) * _DRIFT
        self._seen = heard
        self._least = max(self._least - drift, told - heard)
        self._most = min(self._most + drift, told - asked)
        if self._least > self._most:  # it was set
            self._least, self._most = told - heard, told - asked

    def after(self, moment: float) -> float:
        """Return a time of ours that is certainly not before *moment* of the server's clock."""
        return moment - self._least

    def before(self, moment: float) -> float:
        """Return one that is certainly not after it."""
        return moment - self._most


class _RateTurn:
    """A message's slot, until it has left."""

    def __init__(
        self, throttle: SharedThrottle, slot: _RateSlot, domains: frozenset[str], began: float
    ) -> None:
        self._throttle = throttle
        self._slot = slot
        self._domains = domains
        self._began: float | None = began

    def wait(self, now: float) -> float:
        """Return how many seconds the end of the message has to wait; 0: it must be sent immediately."""
        if self._began is not None:
            self._throttle.learn_lead(self._began, now)
            self._began = None
        if now > self._slot.until:
            another = self._throttle.another(self._domains, self._slot)
            self._slot = another or self._slot
            now = self._throttle.monotonic()
        if now > self._slot.until:
            return max(self._throttle.asked_again(self._domains) - now, SHORTEST_DELAY)
        return max(self._slot.at - now, 0.0)

    def left(self, now: float) -> None:
        """Note that its end was written by *now*; where that was too late, others keep more distance."""
        self._throttle.note_left(self._slot, now)


class SharedThrottle:
    """The pace of one session, where all sessions of all workers share the rates; see the module.

    It never raises what the database does: where that is gone no slot is given, and nothing leaves.

    Args:
        database: returns the connection.
        clock: the send loop's clock.
        account: the account's identity.
        rates: those for everything that the account sends.
        campaign: the campaign's identity.
        campaign_rates: those for everything that is sent of the campaign.
        per_domain: those for each of its recipient domains.
        jitter: how much longer a step may be, as a share of it.

    """

    def __init__(
        self,
        database: Database,
        clock: Clock,
        account: str,
        rates: Sequence[Rate] = (),
        *,
        campaign: str = "",
        campaign_rates: Sequence[Rate] = (),
        per_domain: Sequence[Rate] = (),
        jitter: float = 0.0,
    ) -> None:
        self._database = database
        self.monotonic = clock.monotonic
        self._account = account
        self._pace = f"pace {account}"
        self._common = [
            *_named(f"account {account}", rates, spaced=True),
            *_named(f"campaign {campaign}", campaign_rates, spaced=True),
        ]
        self._campaign = campaign
        self._per_domain = tuple(per_domain)
        self._jitter = jitter
        self._made: set[str] = set()
        self._server = _ServerClock()
        self._free: dict[frozenset[str], deque[_RateSlot]] = {}
        spacings = [rate.seconds / rate.count for rate in (*rates, *campaign_rates)]
        self._full_interval = max(spacings[:1] + spacings[len(rates) : len(rates) + 1], default=0.0)
        self._slowed = 0.0
        """The step that complaints have led to; 0: none did."""
        self._halvings: int | None = None
        self._halvings_before = 0
        self._to_halve = False
        self._longest = self._full_interval
        self._good = 0
        self._passed: dict[frozenset[str], list[float]] = {}
        """Slots that were given up: they are counted, so the next ones need not be."""
        self._again: dict[frozenset[str], float] = {}
        """When the database is asked again that had no slot for these domains ..."""
        self._gone_until = -math.inf
        """... or was gone."""
        self._looked = -math.inf
        self._lead, self._lead_varies = 0.02, 0.01
        self._at_once = 1
        self._begun: deque[float] = deque(maxlen=16)
        self._last_left = -math.inf

    @property
    def interval(self) -> float:
        """Seconds between two messages of all sessions at the present rate; 0: as fast as possible."""
        return max(self._full_interval, self._slowed)

    def delay(self, now: float, domains: Iterable[str] = ()) -> float:
        """Return how many seconds from *now* a message to these *domains* has to wait; 0: it may begin."""
        self._look(now)
        if not self._limited:
            return 0.0
        key = self._key(domains)
        slot = self._next(key, self._reach)
        begin = self.asked_again(key) if slot is None else slot.at - self.lead
        wait = begin - self.monotonic()
        return max(wait, SHORTEST_DELAY) if wait > 0 or slot is None else 0.0

    def take(self, now: float, domains: Iterable[str] = ()) -> _RateTurn | None:
        """Count a message as begun at *now*; None: nothing limits when its end may leave."""
        self._begun.append(now)
        key = self._key(domains)
        free = self._free.get(key)
        turn = _RateTurn(self, free.popleft(), key, now) if free else None
        if key and not free:
            self._free.pop(key, None)
            if not self._passed.get(key):
                self._passed.pop(key, None)
        return turn

    def halve(self) -> None:
        """Halve the account's rate, in all sessions: the server reported that it is too fast."""
        self._to_halve = True
        self._free.clear()
        self._look(math.inf)

    def recover(self) -> None:
        """Count one accepted message: every fifty of all sessions restore a tenth of the rate."""
        if self._slowed:
            self._good += 1
            if self._good >= _GOOD_AT_ONCE:
                self._looked = -math.inf

    def notes(self) -> Iterator[str]:
        """Yield how the rate changed because of the server's complaints, if there were any."""
        halvings = (self._halvings or 0) - self._halvings_before
        if halvings:
            yield slowed_down(halvings, self._longest, self.interval, self._full_interval)

    # --- for its turns --------------------------------------------------------------------------------

    @property
    def lead(self) -> float:
        """Seconds that a message is begun before its slot: what it usually takes until its end may leave."""
        return self._lead + 2 * self._lead_varies

    @property
    def _reach(self) -> float:
        """Seconds from now in which a slot can be used: it need not be met, only not be missed by d."""
        return max(self.lead - self._lateness * _LEAVE_WITHIN * 0.7, 0.0)

    def learn_lead(self, began: float, ready: float) -> None:
        """Learn from a message how long that took; waiting for another's end is not part of it."""
        took = min(ready - max(began, self._last_left), 5.0)
        self._lead_varies += (abs(took - self._lead) - self._lead_varies) / 8
        self._lead += (took - self._lead) / 8

    def asked_again(self, domains: frozenset[str]) -> float:
        """Return when the database, which had no slot for these domains, is asked again."""
        return max(self._again.get(domains, -math.inf), self._gone_until)

    def another(self, domains: frozenset[str], passed: _RateSlot) -> _RateSlot | None:
        """Return a slot in place of one that has *passed*; None: none is available now."""
        self._at_once = 1
        self._passed.setdefault(domains, []).append(passed.told)
        return self._free[domains].popleft() if self._next(domains, 0.0) is not None else None

    def note_left(self, slot: _RateSlot, now: float) -> None:
        """Keep more distance after a message that was sent too late."""
        self._last_left = now
        if now > slot.until:
            with contextlib.suppress(LedgerError):
                self._database().execute(_MOVE_ON, (list(slot.names), now - slot.until, slot.told))

    # --- slots ----------------------------------------------------------------------------------------

    @property
    def _limited(self) -> bool:
        return bool(self._common or self._per_domain or self._slowed)

    def _key(self, domains: Iterable[str]) -> frozenset[str]:
        return frozenset(domains) if self._per_domain else frozenset()

    def _next(self, key: frozenset[str], lead: float) -> _RateSlot | None:
        """Return the next slot that can still be reached, requesting more if needed."""
        free = self._free.setdefault(key, deque())
        while free and free[0].until < self.monotonic() + min(lead, self._lead):
            self._passed.setdefault(key, []).append(free.popleft().told)
            self._at_once = 1
        if not free and self.monotonic() >= self.asked_again(key):
            free.extend(self._asked(key, lead))
        return free[0] if free else None

    def _asked(self, key: frozenset[str], lead: float) -> list[_RateSlot]:
        """Ask the database for slots; none: it has none now, or is gone; `asked_again` says when."""
        began = self.monotonic()
        try:
            names = self._names(key)
            passed = self._passed.get(key, [])
            cells = (names, lead, self._at_once, self._jitter, self._pace, passed)
            rows = self._database().rows(_TAKE, cells)
        except LedgerError:
            self._gone_until = self.monotonic() + _TRY_AGAIN
            return []
        heard = self.monotonic()
        if not rows:
            self._made.clear()
            return []
        self._server.learn(rows[0][1], began, heard)
        self._heard_of_pace(*rows[0][3:])
        if not rows[0][2]:
            if len(self._again) > _DOMAINS_KEPT:
                self._again = {one: at for one, at in self._again.items() if at > heard}
            self._again[key] = max(self._server.before(rows[0][0]) - lead - 0.01, heard + 0.001)
            return []
        self._passed[key] = passed[sum(taken for _, _, taken, *_ in rows) :]
        if key or self.lead > self.interval:  # one message at a time cannot use slots so close together
            self._at_once = 1
        elif self._at_once < min(_MOST_AT_ONCE, int(_AHEAD / max(self.interval, 0.001))):
            self._at_once += 1
        late = self._lateness * _LEAVE_WITHIN
        return [
            _RateSlot(self._server.after(slot), self._server.before(slot) + late, tuple(names), slot)
            for slot, _, taken, *_ in rows
            if taken
        ]

    def _names(self, key: frozenset[str]) -> list[str]:
        """Name the rows that a message to these domains needs, and make those that are not there."""
        self._make(self._common)
        named = [*self._common, _Named(self._pace, 1, 0.0, 0.0, 0.0)]
        for domain in sorted(key):
            named += _named(f"domain {self._campaign} {domain}", self._per_domain, spaced=False)
        self._make(named)
        return sorted(one.name for one in named)

    def _make(self, named: Iterable[_Named]) -> None:
        fresh = [one for one in named if one.name not in self._made]
        if not fresh:
            return
        db = self._database()
        for one in fresh:
            sent = [] if one.name.startswith("domain ") or not one.seconds else self._sent(db, one)
            with db.transaction():
                cells = (one.name, one.count, one.seconds, one.late, one.step, len(sent))
                if db.execute(_MAKE, (*cells, sent[-1] if sent else 0.0)).rowcount:
                    db.executemany(_FILL, [(one.name, place, at) for place, at in enumerate(sent)])
            self._made.add(one.name)

    def _sent(self, db: PostgresDatabase, one: _Named) -> list[float]:
        """Return the times of the account's latest messages, so that a start causes no burst."""
        query = (
            "SELECT at, messages FROM mailmerge.usage "
            f"WHERE account = ?1 AND at > {NOW} - ?2 AND messages > 0 ORDER BY at DESC LIMIT ?3"
        )
        rows = db.rows(query, (self._account, one.seconds, one.count))
        times = [float(at) for at, messages in rows for _ in range(min(messages, one.count))]
        return times[: one.count][::-1]

    # --- the pace that complaints lead to -------------------------------------------------------------

    @property
    def _lateness(self) -> float:
        lates = [one.late for one in self._common] + [lateness(rate.seconds) for rate in self._per_domain]
        return min(lates, default=_LEAST_LATE)

    def _look(self, now: float) -> None:
        """Report to the database what happened here, and read what happened elsewhere, once a second."""
        if now - self._looked < _LOOK_EVERY:
            return
        self._looked = self.monotonic()
        try:
            self._names(frozenset())
            db = self._database()
            if self._to_halve and self._halvings is not None:
                slowest = max(self._full_interval, 1.0) * SLOWEST
                base = self._full_interval or self._observed_interval(db)
                db.execute(_HALVE, (self._pace, base, slowest, self._halvings))
                self._to_halve = False
            if self._good:
                db.execute(_RECOVER, (self._pace, self._good, max(self._full_interval, SHORTEST_INTERVAL)))
                self._good = 0
            self._heard_of_pace(*db.row(_LOOK, (self._pace,)))
        except LedgerError:
            return

    def _heard_of_pace(self, step: float, halvings: int) -> None:
        if self._halvings is None:
            self._halvings_before = halvings
        self._halvings = halvings
        self._slowed = step
        self._longest = max(self._longest, step)

    def _observed_interval(self, db: PostgresDatabase) -> float:
        """Measure the pace of all sessions where no rate says what it is: each one's is taken to be ours."""
        if len(self._begun) < 2:
            return 0.5
        own = (self._begun[-1] - self._begun[0]) / (len(self._begun) - 1)
        (sessions,) = db.row(_SESSIONS, (self._account,))
        return max(own / max(int(sessions), 1), SHORTEST_INTERVAL)


class _Named(Struct, frozen=True):
    """A rate with the name of its row."""

    name: str
    count: int
    seconds: float
    late: float
    step: float


def _named(of: str, rates: Sequence[Rate], *, spaced: bool) -> list[_Named]:
    """Name the rates of an account, campaign or domain; the shortest one is spaced, if any is to be."""
    found = []
    for at, rate in enumerate(sorted(set(rates), key=lambda rate: (rate.seconds, rate.count))):
        late, even = lateness(rate.seconds), spaced and at == 0
        step = (rate.seconds + late) / rate.count if even else 0.0
        found.append(_Named(f"{of} {rate}", rate.count, float(rate.seconds), late, step))
    return found
