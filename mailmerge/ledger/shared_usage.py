"""What an account has sent and may still send, counted in the database that all workers of a fleet share.

Recipients are counted by the second of the server's clock, rounded up, with a running sum for each window, so
queries take the same time at any volume. An account's lock is a row, locked for one statement.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import math
import platform
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from mailmerge.ledger.account_usage import KEPT_FOR, QuotaRefusal, Reservation
from mailmerge.ledger.shared_rates import sweep_rates
from mailmerge.postgres import NOW, TableGroup

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import AccountUsage
    from mailmerge.ledger.shared_rates import Database
    from mailmerge.model import Rate
    from mailmerge.postgres import PostgresDatabase


TABLES: Final = TableGroup(
    "usage",
    1,
    f"""
CREATE TABLE mailmerge.usage (
    account TEXT NOT NULL,
    at BIGINT NOT NULL,
    messages BIGINT NOT NULL,
    recipients BIGINT NOT NULL,
    PRIMARY KEY (account, at)
) WITH (fillfactor = 50);
-- What a machine has counted by itself, and up to which second it was added here.
CREATE TABLE mailmerge.usage_carried (
    account TEXT NOT NULL,
    origin TEXT NOT NULL,
    upto BIGINT NOT NULL,
    PRIMARY KEY (account, origin)
);
-- Running sums: what is counted in "usage" after "freed_to", and up to now.
CREATE TABLE mailmerge.quota (
    account TEXT NOT NULL,
    seconds REAL NOT NULL,
    used BIGINT NOT NULL,
    freed_to REAL NOT NULL,
    PRIMARY KEY (account, seconds)
) WITH (fillfactor = 20);
CREATE TABLE mailmerge.refused (
    account TEXT PRIMARY KEY,
    until REAL NOT NULL,
    said TEXT NOT NULL
);
CREATE TABLE mailmerge.session (
    account TEXT NOT NULL,
    number BIGINT NOT NULL,
    epoch BIGINT NOT NULL,
    PRIMARY KEY (account, number)
) WITH (fillfactor = 50);
CREATE FUNCTION mailmerge.count_usage(
    counted TEXT, at_second BIGINT, messages BIGINT, recipients BIGINT, counts BIGINT[], windows FLOAT8[]
) RETURNS BIGINT LANGUAGE plpgsql AS $$
#variable_conflict use_variable
DECLARE
    now_ FLOAT8;
BEGIN
    PERFORM set_config('synchronous_commit', 'on', true);
    -- The account's own lock: window 0, which is always there.
    INSERT INTO mailmerge.quota AS q VALUES (counted, 0, 0, 0) ON CONFLICT (account, seconds)
        DO UPDATE SET used = q.used + messages;
    now_ := {NOW};
    INSERT INTO mailmerge.quota (account, seconds, used, freed_to)
        SELECT counted, w, coalesce((SELECT sum(u.recipients) FROM mailmerge.usage u
            WHERE u.account = counted AND u.at > now_ - w), 0), now_ - w
        FROM unnest(windows) AS asked(w) ON CONFLICT DO NOTHING;
    UPDATE mailmerge.quota q SET freed_to = now_ - q.seconds, used = q.used - coalesce(
            (SELECT sum(u.recipients) FROM mailmerge.usage u
                WHERE u.account = counted AND u.at > q.freed_to AND u.at <= now_ - q.seconds), 0)
        WHERE q.account = counted AND q.seconds > 0 AND q.freed_to < now_ - q.seconds;
    IF EXISTS (SELECT 1 FROM unnest(counts, windows) AS l(most, w)
            JOIN mailmerge.quota q ON q.account = counted AND q.seconds = l.w
            WHERE q.used + recipients > l.most) THEN
        UPDATE mailmerge.quota q SET used = q.used - messages WHERE q.account = counted AND q.seconds = 0;
        RETURN NULL;
    END IF;
    at_second := coalesce(at_second, ceil(now_)::bigint + 1);
    INSERT INTO mailmerge.usage AS u VALUES (counted, at_second, messages, recipients)
        ON CONFLICT (account, at) DO UPDATE SET messages = u.messages + excluded.messages,
            recipients = u.recipients + excluded.recipients;
    UPDATE mailmerge.quota q SET used = q.used + recipients
        WHERE q.account = counted AND q.seconds > 0 AND at_second > q.freed_to;
    RETURN at_second;
END
$$;
""",
)

_COUNT = "SELECT mailmerge.count_usage(?1, ?2::bigint, ?3::bigint, ?4::bigint, ?5::bigint[], ?6::float8[])"
_LEFT = f"""
SELECT l.most - coalesce(sum(u.recipients), 0), l.most, l.w
FROM unnest(?2::bigint[], ?3::float8[]) AS l(most, w)
LEFT JOIN mailmerge.usage u ON u.account = ?1 AND u.at > {NOW} - l.w GROUP BY l.most, l.w
"""
_FREE_IN = f"""
SELECT coalesce(min(at), {NOW}) + ?2 - {NOW} FROM (
    SELECT u.at, sum(u.recipients) OVER (ORDER BY u.at) AS freed FROM mailmerge.usage u
    WHERE u.account = ?1 AND u.at > {NOW} - ?2) f WHERE freed >= ?3
"""
_REFUSE = f"""
INSERT INTO mailmerge.refused AS r VALUES (?1, {NOW} + ?2, ?3)
ON CONFLICT (account) DO UPDATE SET until = excluded.until, said = excluded.said
"""
_REFUSAL = f"SELECT until - {NOW}, said FROM mailmerge.refused WHERE account = ?1 AND until > {NOW}"
_FORGET = "DELETE FROM mailmerge.refused WHERE account = ?1"
_BLOCK = 50
_BLOCK_SHARE = 100
_BLOCK_FOR = 1.0
_FLUSH_EVERY = 1.0


class SharedQuota:
    """An account's limits, counted for all workers; has what `mailmerge.ledger.account_usage.Quota` asks for.

    Recipients are taken in small blocks, so that not each message needs a round trip; what is left of a block
    after a second is released. Without a limit they are only counted, once a second, as history.

    Args:
        database: returns the connection.
        account: the account's identity.
        limits: all of them have to allow it.
        clock: the send loop's clock.

    """

    def __init__(self, database: Database, account: str, limits: Sequence[Rate], clock: Clock) -> None:
        self._database = database
        self._account = account
        self._limits = tuple(limits)
        self._clock = clock
        self._block, self._block_at, self._block_until = 0, 0, 0.0
        self._messages, self._recipients, self._flushed = 0, 0, clock.monotonic()

    def reserve(self, recipients: int) -> Reservation | None:
        """Count a message's recipients; None: a limit does not allow them now.

        Raises:
            LedgerError: the database cannot be reached.

        """
        if not self._limits:
            self._messages += 1
            self._recipients += recipients
            return Reservation(self._account, 0, recipients)
        if self._block < recipients or self._clock.monotonic() > self._block_until:
            self._give_back_block()
            wanted = max(recipients, min(_BLOCK, *(one.count // _BLOCK_SHARE for one in self._limits)))
            if not self._take_block(wanted) and (wanted == recipients or not self._take_block(recipients)):
                return None
        self._block -= recipients
        self._messages += 1
        return Reservation(self._account, self._block_at, recipients)

    def commit(self) -> None:
        """Record what no limit had to allow, if that was a second ago; the rest is recorded already."""
        if not self._limits and self._clock.monotonic() - self._flushed >= _FLUSH_EVERY:
            self.close()

    def close(self) -> None:
        """Record what is not recorded yet, and release what was not needed.

        Raises:
            LedgerError: it cannot be written: messages that were reserved stay counted, or without a limit
                those of a second are missing.

        """
        self._flushed = self._clock.monotonic()
        if not self._limits and self._messages:
            self._count(None, self._messages, self._recipients, ())
            self._messages = self._recipients = 0
        self._give_back_block()

    def release(self, reservation: Reservation) -> None:
        """Release what was certainly not handed over."""
        if not self._limits:
            self._messages -= 1
            self._recipients -= reservation.recipients
        elif reservation.at == self._block_at and self._clock.monotonic() <= self._block_until:
            self._block += reservation.recipients
            self._messages -= 1
        else:
            self._count(reservation.at, -1, -reservation.recipients, ())

    def free_at(self, recipients: int = 1) -> datetime | None:
        """Return when *recipients* more will fit, by this machine's clock; None: now."""
        waits = []
        for left, most, seconds in self._left():
            if left < recipients:
                excess = min(recipients, most) - left
                (wait,) = self._database().row(_FREE_IN, (self._account, seconds, excess))
                waits.append(min(float(wait), seconds))
        return self._clock.now() + timedelta(seconds=max(waits)) if waits else None

    def left(self) -> int | None:
        """Return how many recipients may still be written to now; None: without limit."""
        return max(0, min(int(left) for left, *_ in self._left())) if self._limits else None

    def refuse(self, refusal: QuotaRefusal) -> None:
        """Record, for all workers, that the server refused the account because of its limit."""
        rest = (refusal.until - self._clock.now()).total_seconds()
        self._database().execute(_REFUSE, (self._account, max(rest, 0.0), refusal.said))

    def refusal(self) -> QuotaRefusal | None:
        """Return the server's reply to any worker about the account's limit, until its time has come."""
        found = self._database().row(_REFUSAL, (self._account,))
        return found and QuotaRefusal(self._clock.now() + timedelta(seconds=float(found[0])), found[1])

    def forget_refusal(self) -> None:
        """Forget it: the server accepts messages again."""
        self._database().execute(_FORGET, (self._account,))

    def _left(self) -> list[Any]:
        if not self._limits:
            return []
        counts, windows = [one.count for one in self._limits], [float(one.seconds) for one in self._limits]
        return self._database().rows(_LEFT, (self._account, counts, windows))

    def _take_block(self, recipients: int) -> bool:
        at = self._count(None, 0, recipients, self._limits)
        if at is None:
            return False
        self._block, self._block_at = recipients, at
        self._block_until = self._clock.monotonic() + _BLOCK_FOR
        self._messages = 0
        return True

    def _give_back_block(self) -> None:
        if self._limits and (self._block or self._messages):
            rest, messages = self._block, self._messages
            self._block = self._messages = 0
            self._block_until = -math.inf
            self._count(self._block_at, messages, -rest, ())

    def _count(self, at: int | None, messages: int, recipients: int, limits: Sequence[Rate]) -> int | None:
        cells = (self._account, at, messages, recipients)
        counts, windows = [one.count for one in limits], [float(one.seconds) for one in limits]
        (counted,) = self._database().row(_COUNT, (*cells, counts, windows))
        return None if counted is None else int(counted)


_BEGIN_CARRYING = "INSERT INTO mailmerge.usage_carried VALUES (?1, ?2, 0) ON CONFLICT DO NOTHING"
_CARRIED_UPTO = "SELECT upto FROM mailmerge.usage_carried WHERE account = ?1 AND origin = ?2 FOR UPDATE"
_NOTE_CARRIED = """
INSERT INTO mailmerge.usage_carried VALUES (?1, ?2, ?3)
ON CONFLICT (account, origin) DO UPDATE SET upto = excluded.upto
"""


def carry_usage(
    db: PostgresDatabase, account: str, origin: str, entries: Sequence[tuple[int, int, int]], now: float
) -> int:
    """Add what one machine has counted for an account by itself: moving to a fleet causes no burst.

    Args:
        db: the ledger.
        account: whose it is.
        origin: tells this machine's counts from any other's; what it has given before is not counted again.
        entries: second, messages, recipients, by this machine's wall clock, in order.
        now: the time of that clock.

    Returns:
        How many messages were added.

    """
    added = 0
    with db.transaction():
        db.execute(_BEGIN_CARRYING, (account, origin))
        (upto,) = db.row(_CARRIED_UPTO, (account, origin))
        (there,) = db.row(f"SELECT {NOW}")
        for at, messages, recipients in entries:
            if at > upto:
                second = math.ceil(there - (now - at))
                db.row(_COUNT, (account, second, messages, recipients, [], []))
                added += messages
        if entries:
            db.execute(_NOTE_CARRIED, (account, origin, max(upto, entries[-1][0])))
        db.execute("DELETE FROM mailmerge.usage WHERE account = ?1 AND at < ?2", (account, there - KEPT_FOR))
    return added


def carry_machine(db: PostgresDatabase, usage: AccountUsage, accounts: Iterable[str], clock: Clock) -> None:
    """Add all that this machine has counted for some accounts, and delete what is too old to matter."""
    origin = f"{platform.node()} {usage.known_as}"
    for account in accounts:
        carry_usage(db, account, origin, usage.entries(account), clock.now().timestamp())
    sweep_rates(db)


# --- sessions ---------------------------------------------------------------------------------------------

_FREE_SESSION = f"""
INSERT INTO mailmerge.session AS s (account, number, epoch)
SELECT ?1, n, ?3 FROM generate_series(1, ?2::bigint) n WHERE NOT EXISTS (
    SELECT 1 FROM mailmerge.session t JOIN mailmerge.slot l ON l.epoch = t.epoch
    WHERE t.account = ?1 AND t.number = n AND l.until > {NOW} AND l.ended IS NULL AND l.lost IS NULL
) ORDER BY n LIMIT 1
ON CONFLICT (account, number) DO UPDATE SET epoch = excluded.epoch WHERE NOT EXISTS (
    SELECT 1 FROM mailmerge.slot l WHERE l.epoch = s.epoch AND l.until > {NOW} AND l.ended IS NULL
        AND l.lost IS NULL)
RETURNING number
"""


def take_session(db: PostgresDatabase, account: str, most: int, epoch: int) -> int | None:
    """Take one of the sessions that an account may have open at the same time, for a slot of a worker.

    It is free again when that slot's lease ends, in whatever way: nothing has to be released, and a worker
    that died keeps none. The worker must have closed its connection by then.

    Returns:
        Its number, from 1; None: all are taken now.

    """
    found = db.row(_FREE_SESSION, (account, most, epoch))
    return None if found is None else int(found[0])
