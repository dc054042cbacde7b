"""The jobs of a fleet, one for each sending slot, kept by procrastinate next to the ledger; their workers.

A job names the campaign that a slot is to send, and nothing else. The right to send a row is a row of the
ledger, so a job that is started twice, comes too late or is lost costs time, never a message. The queue of a
job is its account; its lock is the number of its slot, so that an account has no more sessions than allowed.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import hashlib
import logging
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final, Self

import msgspec
from msgspec import Struct

from mailmerge import postgres
from mailmerge.extras import require
from mailmerge.postgres import NOW, TableGroup

if TYPE_CHECKING:
    from collections.abc import Iterable

    import procrastinate

    from mailmerge.fleet.terms import FleetAccount
    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.postgres import PostgresDatabase

TASK: Final = "mailmerge.send_slot"
_POOL_SECONDS = 10
"""Seconds that a query waits for a connection before the database counts as gone."""
_MOST_CONNECTIONS = 4


class Order(Struct, frozen=True):
    """What one job asks for: a slot of this account sends this campaign."""

    campaign: int
    """Its number in the ledger."""
    plan: int
    account: str
    number: int
    """Which of the account's slots, from 0."""
    program: str = ""
    """The version of the program that made the plan: no other can send it."""

    @property
    def lock(self) -> str:
        """A value that no two running jobs share."""
        return f"{self.account}/{self.number}"

    @property
    def queueing_lock(self) -> str:
        """A value that no two waiting jobs share."""
        return f"{self.campaign}/{self.account}/{self.number}"


WORKERS: Final = TableGroup(
    "workers",
    1,
    """
-- Workers that would take jobs, for each of their accounts; "until" is when that expires if nothing is heard.
-- "refused" is why a worker does not use the account.
CREATE TABLE mailmerge.worker (
    name TEXT NOT NULL,
    account TEXT NOT NULL,
    slots INTEGER NOT NULL,
    version TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL,
    refused TEXT NOT NULL DEFAULT '',
    PRIMARY KEY (name, account)
);
""",
)
"""Workers without a job are silent: these rows show which are present."""


class PresentWorker(Struct, frozen=True):
    """A worker that was heard from recently, for one of its accounts."""

    name: str
    account: str
    slots: int
    """How many sessions it would open."""
    version: str
    since: datetime
    refused: str
    """Why it does not use the account any more; empty: it does."""


def queue_of(account: str, program: str) -> str:
    """Name the queue of an account's jobs for workers of one version: others may not do them."""
    # The channel on which workers are told of its jobs has room for no more than forty octets of it.
    return f"account {hashlib.sha256(f'{program} {account}'.encode()).hexdigest()[:24]}"


def tables() -> TableGroup:
    """Return procrastinate's tables; their version is that of its newest migration."""
    from pathlib import Path

    from procrastinate.schema import SchemaManager

    migrations = Path(SchemaManager.get_migrations_path()).glob("*.sql")
    newest = max(path.name for path in migrations)
    major, minor = newest.split(".")[:2]
    return TableGroup("jobs", int(major) * 100 + int(minor), SchemaManager.get_schema())


def prepare(db: PostgresDatabase) -> None:
    """Make the tables of the jobs if they do not exist.

    Raises:
        LedgerError: they cannot be made, or another version of procrastinate made them.
        CampaignFileError: the extra ``fleet`` is not installed.

    """
    require("fleet", "fleets")
    postgres.prepare(db, (tables(), WORKERS))


def is_there(db: PostgresDatabase) -> bool:
    """Return whether the database has the tables of the jobs and of the workers."""
    return WORKERS.name in postgres.known_versions(db)


def connect(place: ServerPlace) -> procrastinate.App:
    """Return procrastinate's application for this ledger, not open yet.

    Raises:
        CampaignFileError: the extra ``fleet`` is not installed.

    """
    require("fleet", "fleets")
    import procrastinate
    import psycopg

    class Searching(psycopg.AsyncConnection[Any]):
        """Finds our schema in each transaction: behind a pooler nothing else ensures that."""

        async def __aenter__(self) -> Self:
            await self.execute("SELECT set_config('search_path', 'mailmerge', true)")
            return await super().__aenter__()

    for name in ("procrastinate", "psycopg"):  # what a person needs to know, we report
        quiet = logging.getLogger(name)
        quiet.addHandler(logging.NullHandler())
        quiet.propagate = False
    return procrastinate.App(
        connector=procrastinate.PsycopgConnector(
            conninfo=place.conninfo,
            connection_class=Searching,
            kwargs={
                "application_name": "mailmerge",
                "connect_timeout": _POOL_SECONDS,
                "prepare_threshold": None,  # a pooler gives each transaction another connection
            },
            min_size=1,
            max_size=_MOST_CONNECTIONS,
            timeout=_POOL_SECONDS,
        )
    )


def orders(campaign: int, plan: int, accounts: Iterable[FleetAccount], program: str) -> list[Order]:
    """Return one order for each slot of these accounts, for workers of this version of the program."""
    return [
        Order(campaign, plan, account.name, number, program)
        for account in accounts
        for number in range(account.slots)
    ]


def defer(db: PostgresDatabase, wanted: Iterable[Order], *, at: datetime | None = None) -> int:
    """Let slots begin, now or not before *at*; those that are waiting already stay unchanged.

    A job that waits for workers of another version becomes one for these: the campaign was planned again.

    Returns:
        How many jobs are new.

    Raises:
        LedgerError: the database cannot be written.

    """
    new = 0
    with db.transaction():
        for order in wanted:
            cells: tuple[Any, ...] = (
                queue_of(order.account, order.program),
                TASK,
                order.lock,
                order.queueing_lock,
                msgspec.json.encode(order).decode(),
                at,
            )
            new += db.execute(_DEFER, cells).rowcount
    return new


# procrastinate's own method is one job per statement, and raises where one is waiting already.
_DEFER: Final = """
INSERT INTO mailmerge.procrastinate_jobs (queue_name, task_name, lock, queueing_lock, args, scheduled_at)
VALUES (?, ?, ?, ?, ?::jsonb, ?::timestamptz)
ON CONFLICT (queueing_lock) WHERE status = 'todo' DO UPDATE
    SET queue_name = excluded.queue_name, args = excluded.args
    WHERE procrastinate_jobs.queue_name <> excluded.queue_name
"""
_WITHDRAW: Final = """
DELETE FROM mailmerge.procrastinate_jobs
WHERE status = 'todo' AND task_name = ? AND (args->>'campaign')::bigint = ?
"""
_OPEN: Final = """
SELECT queueing_lock, queue_name FROM mailmerge.procrastinate_jobs
WHERE task_name = ? AND status IN ('todo', 'doing')
"""


def withdraw(db: PostgresDatabase, campaign: int) -> int:
    """Take back the jobs of a campaign that no worker has begun; return how many."""
    return int(db.execute(_WITHDRAW, (TASK, campaign)).rowcount)


def without_job(db: PostgresDatabase, wanted: Iterable[Order]) -> list[Order]:
    """Return those orders for which no job waits or runs: the last one could not be followed by another."""
    known = {tuple(found) for found in db.rows(_OPEN, (TASK,))}
    return [
        order
        for order in wanted
        if (order.queueing_lock, queue_of(order.account, order.program)) not in known
    ]


# --- who is there -------------------------------------------------------------------------------------------

_REFUSED_FOR = 60.0
"""Seconds for which others can see at least that an account was refused, even after the worker has ended."""
_PRESENT: Final = f"""
INSERT INTO mailmerge.worker (name, account, slots, version, since, until, refused)
VALUES (?1, ?2, ?3, ?4, {NOW}, {NOW} + ?5, ?6)
ON CONFLICT (name, account) DO UPDATE SET until = excluded.until, refused = excluded.refused
"""


def say_present(db: PostgresDatabase, workers: Iterable[PresentWorker], seconds: float) -> None:
    """Record which workers are present for the next *seconds*; forget those not heard from for a day.

    That one was refused can be seen for a minute at least, even after it has ended.
    """
    with db.transaction():
        for worker in workers:
            shown = max(seconds, _REFUSED_FOR) if worker.refused else seconds
            cells = (worker.name, worker.account, worker.slots, worker.version, shown, worker.refused)
            db.execute(_PRESENT, cells)
        db.execute(f"DELETE FROM mailmerge.worker WHERE until < {NOW} - 86400")


def say_gone(db: PostgresDatabase, name: str) -> None:
    """Record that a worker has ended; that it was refused somewhere can still be seen for a while."""
    db.execute("DELETE FROM mailmerge.worker WHERE name = ? AND refused = ''", (name,))


def present(db: PostgresDatabase) -> list[PresentWorker]:
    """Return the workers that are present."""
    query = "SELECT name, account, slots, version, since, refused FROM mailmerge.worker"
    return [
        PresentWorker(name, account, slots, version, datetime.fromtimestamp(since, UTC), refused)
        for name, account, slots, version, since, refused in db.rows(
            f"{query} WHERE until > {NOW} ORDER BY name, account"
        )
    ]


def waiting(db: PostgresDatabase) -> dict[str, int]:
    """Count the jobs that nobody has begun and that are due, by account."""
    found = db.rows(_WAITING, (TASK,))
    return {str(account): int(count) for account, count in found}


_WAITING: Final = """
SELECT args->>'account', count(*) FROM mailmerge.procrastinate_jobs
WHERE task_name = ? AND status = 'todo' AND coalesce(scheduled_at <= now(), true) GROUP BY 1 ORDER BY 1
"""
