"""How a fleet's ledger grows, and what its pace costs: octets of a row, and slots of one rate by sessions.

``fleet_growth.py ROWS`` starts a PostgreSQL of its own, without fsync, and prints one line of JSON. Rates
by the wall clock mean little where the machine does other things; octets are always right.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).parents[1] / "tests"))

from mailmerge.clock import SystemClock
from mailmerge.ledger.claims import Slot
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.ledger.shared_rates import SharedThrottle
from mailmerge.ledger.work import QueuedRow, enqueue
from mailmerge.model import Rate
from servers.postgres import Postgres

if TYPE_CHECKING:
    from mailmerge.postgres import PostgresDatabase

SESSIONS = (1, 8, 32)
_SIZES = """
SELECT relname, pg_relation_size(oid) + coalesce(pg_indexes_size(oid), 0) FROM pg_class
WHERE relnamespace = 'mailmerge'::regnamespace AND relname IN ('work', 'delivery', 'attempt')
"""


def sizes(db: PostgresDatabase, campaign: int, rows: int) -> dict[str, int]:
    """Return the octets that a row takes in each table, its indexes included, when all are accepted."""
    found = {name: round(octets / rows) for name, octets in db.rows(_SIZES)}
    db.execute(
        """INSERT INTO mailmerge.attempt (id, campaign, run, key, row, address, number, at, message_id, date,
        utc_offset, recipients, size, digest, frozen, row_digest, version, connection, status, rows, reply)
        SELECT n, campaign, 1, key, row, recipients[1], 1, 0, '<' || md5(key) || '@example.org>', 0, 0, 1,
            4000, encode(sha256(key::bytea), 'hex'), encode(sha256(key::bytea), 'hex'), md5(key), 1,
            'a1b2c3d4e5f6', 'accepted', '', '250 2.0.0 Ok: queued as 4XyZ1a2b3c'
        FROM mailmerge.work WHERE campaign = ?""",
        (campaign,),
    )
    db.execute(
        """INSERT INTO mailmerge.delivery (campaign, key, status, tries, updated, version, attempt)
        SELECT campaign, key, 'accepted', 1, 0, 1, n FROM mailmerge.work WHERE campaign = ?""",
        (campaign,),
    )
    return found | {name: round(octets / rows) for name, octets in db.rows(_SIZES) if name != "work"}


def slots(place: ServerPlace, sessions: int, seconds: float) -> float:
    """Count the slots per second that these sessions take of one rate that never delays them."""
    taken = [0] * sessions
    until = time.monotonic() + seconds

    def work(session: int) -> None:
        with place.session() as db:
            clock = SystemClock()
            pace = SharedThrottle(lambda: db, clock, f"account {sessions}", [Rate(1_000_000, 1.0)])
            while time.monotonic() < until:
                if pace.delay(clock.monotonic()) == 0 and pace.take(clock.monotonic()) is not None:
                    taken[session] += 1

    threads = [threading.Thread(target=work, args=(session,)) for session in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(sum(taken) / seconds)


def claims(place: ServerPlace, campaign: int, sessions: int, rows: int) -> float:
    """Count the rows a second that so many sessions claim of one campaign, a hundred at a time."""
    with place.session() as db:
        db.execute("UPDATE mailmerge.work SET epoch = NULL WHERE campaign = ?", (campaign,))
        db.execute("VACUUM ANALYZE mailmerge.work")
    began = time.monotonic()

    def work() -> None:
        slot = Slot.open(place, worker="benchmark", account="work")
        while slot.claim(campaign, 100):
            pass
        slot.db.close()

    threads = [threading.Thread(target=work) for _ in range(sessions)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return round(rows / (time.monotonic() - began))


def main(rows: int) -> None:
    """Measure all of it."""
    with Postgres() as server:
        place = ServerPlace(server.new_database(), "benchmark")
        with place.open_for_writing("spring", now=lambda: datetime.now(UTC)) as ledger, place.session() as db:
            campaign = ledger.number
            keys = (f"user{n}@example.com" for n in range(rows))
            enqueue(
                db, campaign, 1, (QueuedRow(n, key, n, "example.com", (key,)) for n, key in enumerate(keys))
            )
            found: dict[str, object] = {"octets": sizes(db, campaign, rows)}
        found["claims"] = {sessions: claims(place, campaign, sessions, rows) for sessions in SESSIONS}
        found["slots"] = {sessions: slots(place, sessions, 2.0) for sessions in SESSIONS}
    print(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 50_000)
