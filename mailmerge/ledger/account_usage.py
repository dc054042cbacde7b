"""How much an account has sent recently: rolling counts that campaigns and processes share.

Recipients are reserved before the hand-over. What was certainly not handed over may be released; what is in
doubt never is, because the provider may have counted it. Entries are in whole seconds, rounded up, so a busy
relay costs a row a second and no window ever ends early.

Clocks are not trusted. Within a run the steady clock counts, so a wall clock that jumps ahead frees nothing.
Entries in the future, from an earlier run whose clock was ahead and has been set since, are moved to now,
once, with their distances kept: they were sent by now, but it is unknown when.
"""

from __future__ import annotations

import bisect
import math
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from mailmerge.ledger.databases import StateDatabase

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mailmerge.clock import Clock
    from mailmerge.ledger.locks import AccountLock
    from mailmerge.model import Rate

_SCHEMA = """
CREATE TABLE IF NOT EXISTS usage (
    account TEXT NOT NULL, at INTEGER NOT NULL, messages INTEGER NOT NULL, recipients INTEGER NOT NULL,
    PRIMARY KEY (account, at)) WITHOUT ROWID;
-- Whether a server supports commands behind an unanswered message, and when that was found out.
CREATE TABLE IF NOT EXISTS server (
    host TEXT NOT NULL, port INTEGER NOT NULL, borne INTEGER NOT NULL, found REAL NOT NULL,
    PRIMARY KEY (host, port)) WITHOUT ROWID;
-- A server's reply about an account whose limit is used up, and until when it applies.
CREATE TABLE IF NOT EXISTS refused (
    account TEXT PRIMARY KEY, noted REAL NOT NULL, until REAL NOT NULL, said TEXT NOT NULL) WITHOUT ROWID;
"""
_ADD = """
INSERT INTO usage VALUES (?, ?, ?, ?) ON CONFLICT (account, at) DO UPDATE
SET messages = messages + excluded.messages, recipients = recipients + excluded.recipients
"""
_GIVE_BACK = """
UPDATE usage SET messages = max(0, messages - 1), recipients = max(0, recipients - ?)
WHERE account = ? AND at = ?
"""
KEPT_FOR = 32 * 86400
"""Seconds after which usage is forgotten: no quota counts for longer than a month."""
_TRUSTED_FOR = 30 * 86400.0
"""Seconds after which a server is tried again: it may be a different one by then."""
_AHEAD = 2.0
"""Seconds that an entry may be ahead of the clock: they are rounded up."""


class Reservation(Struct, frozen=True):
    """Recipients counted against an account at one second."""

    account: str
    at: int
    recipients: int


class QuotaRefusal(Struct, frozen=True):
    """A server's reply about an account whose limit is used up."""

    until: datetime
    """When to try again."""
    said: str
    """The reply."""


class Quota(Protocol):
    """What the sender asks before each message."""

    def reserve(self, recipients: int) -> Reservation | None:
        """Count a message's recipients; None: the account's limit does not allow them now."""
        ...

    def commit(self) -> None:
        """Record what was reserved, before the first of these messages can be complete."""
        ...

    def release(self, reservation: Reservation) -> None:
        """Release what was certainly not handed over."""
        ...

    def free_at(self, recipients: int) -> datetime | None:
        """Return when *recipients* more will fit; None: now."""
        ...


class _Tally:
    """An account's entries with a running sum per window: queries take the same time at any volume."""

    def __init__(self, version: int, entries: list[tuple[int, int]]) -> None:
        self.version = version
        self.entries = entries
        self._sums: dict[float, tuple[float, int, int]] = {}

    def add(self, at: int, recipients: int) -> None:
        if self.entries and at < self.entries[-1][0]:  # the clock was set back
            bisect.insort(self.entries, (at, recipients))
            self._sums.clear()
            return
        if self.entries and at == self.entries[-1][0]:
            recipients_before = self.entries.pop()[1]
            self.entries.append((at, recipients_before + recipients))
        else:
            self.entries.append((at, recipients))
        for seconds, (start, first, total) in self._sums.items():
            self._sums[seconds] = (start, first, total + recipients)

    def used(self, now: datetime, seconds: float) -> int:
        """Return the sum of entries younger than *seconds*; entries in the future count too."""
        start = now.timestamp() - seconds
        known = self._sums.get(seconds)
        if known is None or start < known[0]:
            known = (start, 0, sum(recipients for _, recipients in self.entries))
        _, first, total = known
        while first < len(self.entries) and self.entries[first][0] <= start:
            total -= self.entries[first][1]
            first += 1
        self._sums[seconds] = (start, first, total)
        return total


class AccountUsage(StateDatabase):
    """The counts of all accounts, in one small database of the user's state folder."""

    remembers = "what accounts have sent recently"

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)
        self.known_as = str(path)
        """Distinguishes these counts from those of another user of the machine."""
        self._seen: dict[str, _Tally] = {}
        self._pruned = False
        self._lock: AccountLock | None = None

    def guard(self, lock: AccountLock) -> None:
        """Refuse to count once *lock*, the account's, is lost."""
        self._lock = lock

    def refuse_vanished(self) -> None:
        """Check that what is written here will be found again, and that nobody else sends.

        Raises:
            LedgerError: the file, or the lock of the account, was deleted or replaced.

        """
        super().refuse_vanished()
        if self._lock is not None:
            self._lock.refuse_lost()

    def quota(self, account: str, limits: Sequence[Rate], clock: Clock) -> AccountQuota:
        """Return the quota of one account with its limits, for a sender."""
        self._bring_back(account, clock.now())
        return AccountQuota(self, account, limits, clock)

    def reserve(
        self,
        account: str,
        recipients: int,
        now: datetime,
        limits: Sequence[Rate] = (),
        at: datetime | None = None,
    ) -> Reservation | None:
        """Count *recipients* if every limit allows them at *now*, atomically between processes.

        Args:
            account: the account's identity.
            recipients: how many.
            now: the time that decides what is still counted.
            limits: all of them have to allow it.
            at: the time to record; default: *now*.

        Returns:
            The reservation, or None if a limit does not allow it now.

        """
        at_second = math.ceil((at or now).timestamp())
        self.refuse_vanished()
        with self._db.transaction():
            self._prune(now)
            tally = self._tally(account)
            if any(tally.used(now, limit.seconds) + recipients > limit.count for limit in limits):
                return None
            self._db.execute(_ADD, (account, at_second, 1, recipients))
            tally.add(at_second, recipients)
        return Reservation(account, at_second, recipients)

    def add(self, reservations: Sequence[Reservation]) -> None:
        """Count recipients for which no limit has to be checked, all together."""
        sums: dict[tuple[str, int], tuple[int, int]] = {}
        for given in reservations:
            messages, recipients = sums.get((given.account, given.at), (0, 0))
            sums[given.account, given.at] = (messages + 1, recipients + given.recipients)
        with self._db.transaction():
            self._prune(datetime.fromtimestamp(reservations[-1].at, UTC))
            self._db.executemany(_ADD, [(*key, *counts) for key, counts in sums.items()])
            self._seen.clear()

    def release(self, reservation: Reservation) -> None:
        """Release what was certainly not handed over."""
        with self._db.transaction():
            self._db.execute(_GIVE_BACK, (reservation.recipients, reservation.account, reservation.at))
            self._seen.pop(reservation.account, None)

    def used(self, account: str, since: datetime) -> int:
        """Count the recipients reserved after *since*."""
        query = "SELECT coalesce(sum(recipients), 0) FROM usage WHERE account = ? AND at > ?"
        return int(self._db.row(query, (account, since.timestamp()))[0])

    def history(self, account: str, since: datetime) -> Iterator[datetime]:
        """Return the times of the messages sent after *since*, oldest first: a throttle's history."""
        query = "SELECT at, messages FROM usage WHERE account = ? AND at > ? ORDER BY at"
        for at, messages in self._db.rows(query, (account, since.timestamp())):
            for _ in range(messages):
                yield datetime.fromtimestamp(at, UTC)

    def entries(self, account: str) -> list[tuple[int, int, int]]:
        """Return everything counted for an account: seconds with their messages and recipients, in order."""
        query = "SELECT at, messages, recipients FROM usage WHERE account = ? ORDER BY at"
        return self._db.rows(query, (account,))

    def free_at(
        self, account: str, limits: Sequence[Rate], now: datetime, recipients: int = 1
    ) -> datetime | None:
        """Return when *recipients* more will fit into every limit; None: now.

        Never later than one window from now, even where the clock was set back since.
        """
        with self._db.transaction():
            tally = self._tally(account)
        latest: float | None = None
        for limit in limits:
            excess = tally.used(now, limit.seconds) + recipients - limit.count
            if excess <= 0:
                continue
            start = now.timestamp() - limit.seconds
            free = now.timestamp() + limit.seconds
            for at, count in tally.entries[bisect.bisect_right(tally.entries, (start, math.inf)) :]:
                excess -= count
                if excess <= 0:
                    free = min(free, at + limit.seconds)
                    break
            latest = max(latest or 0.0, free)
        return None if latest is None else datetime.fromtimestamp(latest, UTC)

    def borne(self, host: str, port: int, now: datetime) -> bool | None:
        """Return whether a server supports commands behind an unanswered message; None: unknown."""
        row = self._db.row("SELECT borne, found FROM server WHERE host = ? AND port = ?", (host, port))
        if row is None or not 0 <= now.timestamp() - row[1] < _TRUSTED_FOR:
            return None
        return bool(row[0])

    def note_borne(self, host: str, port: int, now: datetime, *, borne: bool) -> None:
        """Record whether a server supports them."""
        cells = (host, port, int(borne), now.timestamp())
        with self._db.transaction():
            self._db.execute("INSERT OR REPLACE INTO server VALUES (?, ?, ?, ?)", cells)

    def _tally(self, account: str) -> _Tally:
        """Return the account's entries; they are only read again if another process has written since."""
        version = int(self._db.row("PRAGMA data_version")[0])
        known = self._seen.get(account)
        if known is not None and known.version == version:
            return known
        query = "SELECT at, recipients FROM usage WHERE account = ? ORDER BY at"
        tally = _Tally(version, self._db.rows(query, (account,)))
        self._seen[account] = tally
        return tally

    def refuse(self, account: str, refusal: QuotaRefusal, now: datetime) -> None:
        """Record that the server refused the account because of its limit."""
        times = (now.timestamp(), refusal.until.timestamp())
        with self._db.transaction():
            self._db.execute(
                "INSERT OR REPLACE INTO refused VALUES (?, ?, ?, ?)", (account, *times, refusal.said)
            )

    def refusal(self, account: str, now: datetime) -> QuotaRefusal | None:
        """Return the server's reply about the account's limit, until its time has come; None: none.

        A reply that was recorded with a clock that was ahead counts as received now.
        """
        found = self._db.row("SELECT noted, until, said FROM refused WHERE account = ?", (account,))
        if found is None:
            return None
        noted, until, said = found
        moment = now.timestamp()
        if noted > moment + _AHEAD:
            until -= noted - moment
            self.refuse(account, QuotaRefusal(datetime.fromtimestamp(until, UTC), said), now)
        return QuotaRefusal(datetime.fromtimestamp(until, UTC), said) if until > moment else None

    def forget_refusal(self, account: str) -> None:
        """Forget it: the server accepts messages again."""
        with self._db.transaction():
            self._db.execute("DELETE FROM refused WHERE account = ?", (account,))

    def _bring_back(self, account: str, now: datetime) -> None:
        """Move entries in the future to now, with their distances kept."""
        latest = now.timestamp() + _AHEAD
        query = "SELECT at, messages, recipients FROM usage WHERE account = ? AND at > ?"
        ahead = self._db.rows(query, (account, latest))
        if not ahead:
            return
        shift = max(at for at, *_ in ahead) - math.floor(now.timestamp())
        with self._db.transaction():
            self._db.execute("DELETE FROM usage WHERE account = ? AND at > ?", (account, latest))
            self._db.executemany(_ADD, [(account, at - shift, *counts) for at, *counts in ahead])
            self._seen.pop(account, None)

    def _prune(self, now: datetime) -> None:
        if not self._pruned:
            self._db.execute("DELETE FROM usage WHERE at < ?", (now.timestamp() - KEPT_FOR,))
            self._pruned = True


class AccountQuota:
    """One account's limits, asked by the sender before each message."""

    def __init__(self, usage: AccountUsage, account: str, limits: Sequence[Rate], clock: Clock) -> None:
        self._usage = usage
        self._account = account
        self._limits = tuple(limits)
        self._clock = clock
        self._began = clock.now() - timedelta(seconds=clock.monotonic())
        self._open: list[Reservation] = []

    def _times(self) -> tuple[datetime, datetime]:
        """Return the time that decides what counts, and the time to record.

        They differ once the wall clock was set: the earlier one frees nothing that should count, the later
        one forgets nothing too soon.
        """
        wall, steady = self._clock.now(), self._began + timedelta(seconds=self._clock.monotonic())
        return (wall, steady) if wall < steady else (steady, wall)

    def reserve(self, recipients: int) -> Reservation | None:
        """Count a message's recipients; None: a limit does not allow them now."""
        now, at = self._times()
        if self._limits:
            return self._usage.reserve(self._account, recipients, now, self._limits, at)
        reservation = Reservation(self._account, math.ceil(at.timestamp()), recipients)
        self._open.append(reservation)
        return reservation

    def commit(self) -> None:
        """Record what was reserved if no limit had to be checked.

        Raises:
            LedgerError: it cannot be counted, or the account is not ours alone any more.

        """
        self._usage.refuse_vanished()
        if self._open:
            self._usage.add(self._open)
            self._open = []

    def release(self, reservation: Reservation) -> None:
        """Release what was certainly not handed over."""
        self.commit()
        self._usage.release(reservation)

    def free_at(self, recipients: int = 1) -> datetime | None:
        """Return when *recipients* more will fit; None: now."""
        return self._usage.free_at(self._account, self._limits, self._times()[0], recipients)

    def left(self) -> int | None:
        """Return how many recipients may still be written to now; None: without limit."""
        now = self._times()[0]
        rest = [
            limit.count - self._usage.used(self._account, now - timedelta(seconds=limit.seconds))
            for limit in self._limits
        ]
        return max(0, min(rest)) if rest else None

    def refuse(self, refusal: QuotaRefusal) -> None:
        """Record that the server refused the account because of its limit."""
        self._usage.refuse(self._account, refusal, self._clock.now())

    def refusal(self) -> QuotaRefusal | None:
        """Return the server's reply about the account's limit, until its time has come; None: none."""
        return self._usage.refusal(self._account, self._clock.now())

    def forget_refusal(self) -> None:
        """Forget it: the server accepts messages again."""
        if self._usage.refusal(self._account, self._clock.now()):
            self._usage.forget_refusal(self._account)
