"""A ledger by way of a real PgBouncer, which gives each transaction another connection of the server's."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import pytest

from ledger_rows import ACCEPTED, DEFERRED, NOW, attempt, settled
from mailmerge.clock import SystemClock, VirtualClock
from mailmerge.errors import LedgerError
from mailmerge.ledger.claims import Slot
from mailmerge.ledger.shared_rates import SharedThrottle
from mailmerge.ledger.shared_usage import SharedQuota, take_session
from mailmerge.ledger.slot_writer import SlotWriter
from mailmerge.ledger.work import QueuedRow, enqueue, recover
from mailmerge.model import Rate
from mailmerge.postgres import PostgresDatabase, TableGroup, prepare
from servers.postgres import PgBouncer

if TYPE_CHECKING:
    from mailmerge.ledger.server_place import ServerPlace
    from servers.postgres import Postgres

THINGS = TableGroup("things", 1, "CREATE TABLE mailmerge.thing (id INTEGER)")
TOLD = "SELECT current_setting('search_path'), current_setting('synchronous_commit')"


def test_nothing_that_we_set_reaches_others(pooled_ledger: ServerPlace, pooler: PgBouncer) -> None:
    """Each statement and transaction is told how we work; whoever has the connection next is not."""
    import psycopg

    with PostgresDatabase.connect(pooled_ledger.conninfo, "x") as db:
        prepare(db, [THINGS])
        assert db.pooled
        assert db.row(TOLD) == ("mailmerge", "on")
        with db.transaction():
            assert db.row(TOLD) == ("mailmerge", "on")
        db.send([(TOLD, ()), (TOLD, ())])
        assert [rows for (rows,) in db.receive()] == [("mailmerge", "on")] * 2
        for _ in range(8):  # a prepared statement would be on one of the server's connections alone
            db.row("SELECT count(*) FROM thing WHERE id = ?", (1,))
    with psycopg.connect(pooler.url(), autocommit=True) as other:
        for _ in range(5):
            assert other.execute("SHOW search_path").fetchone() == ('"$user", public',)
    with (
        PostgresDatabase.connect(pooled_ledger.conninfo, "x", read_only=True) as db,
        pytest.raises(LedgerError, match="read-only"),
    ):
        db.execute("INSERT INTO thing VALUES (1)")


def test_a_pooler_that_refuses_options_is_asked_without(postgres: Postgres) -> None:
    """PgBouncer as it is shipped refuses to connect with options of the server."""
    with PgBouncer(postgres) as strict, PostgresDatabase.connect(strict.url(), "x") as db:
        assert db.pooled
        assert db.row(TOLD) == ("mailmerge", "on")
    with PostgresDatabase.connect(postgres.url(), "x") as db:
        assert not db.pooled


def test_rows_are_streamed_while_others_are_written(pooled_ledger: ServerPlace) -> None:
    """All rows of the moment it began, outside of a transaction and in one, with many more than a page."""
    with PostgresDatabase.connect(pooled_ledger.conninfo, "x") as db:
        prepare(db, [THINGS])
        db.copy("thing", {"id": "int8"}, ((number,) for number in range(1200)))
        db.executemany("INSERT INTO thing VALUES (?)", [(1200,), (1201,)])
        seen: list[int] = []
        for (number,) in db.stream("SELECT id FROM thing WHERE id >= ? ORDER BY id", (1,)):
            if not seen:
                db.execute("INSERT INTO thing VALUES (5000)")
            seen.append(number)
        assert seen == list(range(1, 1202))
        with db.transaction():
            db.execute("DELETE FROM thing WHERE id > 2")
            assert list(db.stream("SELECT id FROM thing ORDER BY id")) == [(0,), (1,), (2,)]


def test_g6_a_fleet_works_by_way_of_a_pooler(pooled_ledger: ServerPlace) -> None:
    """Claims, promises, outcomes, leases, rates, quotas and sessions."""
    with (
        pooled_ledger.lock("spring") as lock,
        pooled_ledger.open_for_writing("spring", now=lambda: NOW, lock=lock) as ledger,
    ):
        ledger.note_version("v1", {})
        campaign = ledger._id
        db = pooled_ledger.database_to_fill()
        rows = (QueuedRow(n, f"k{n}", n, "example.org", (f"u{n}@example.org",)) for n in range(2, 6))
        enqueue(db, campaign, 7, rows, by="ann")
        slot = Slot.open(pooled_ledger, worker="one", account="work", clock=VirtualClock(NOW))
        writer = SlotWriter(slot, campaign)
        assert [row.row for row in slot.claim(campaign, 3)] == [2, 3, 4]
        assert take_session(db, "work", 1, slot.epoch) == 1
        assert take_session(db, "work", 1, slot.epoch + 1) is None
        clock = SystemClock()
        pace = SharedThrottle(lambda: db, clock, "work", [Rate(1000, 1.0)])
        while (wait := pace.delay(clock.monotonic())) > 0:
            time.sleep(wait)
        assert pace.take(clock.monotonic()) is not None
        assert SharedQuota(lambda: db, "work", [Rate(10, 60)], clock).reserve(1) is not None
        writer.record_intent([attempt(2), attempt(3)])
        writer.record_intent([attempt(4)], [settled(2, ACCEPTED), settled(3, DEFERRED)])
        db.execute("UPDATE slot SET until = until - 100")
        recover(db)
        states = dict(db.rows("SELECT key, status FROM delivery"))
        assert states == {"k2": "accepted", "k3": "deferred", "k4": "in_doubt"}
        assert take_session(db, "work", 1, slot.epoch + 1) == 1
        slot.close()
        db.close()
