"""A plan in PostgreSQL: what loading, reading and thawing cost; storing.py COUNT prints one line of JSON.

It starts a server of its own, as tests do, so it needs Debian's PostgreSQL. Seconds are those of the wall,
the ratios compare processor time of this process within one run.
"""

from __future__ import annotations

import hashlib
import io
import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

sys.path.append(str(Path(__file__).parents[1] / "tests"))

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.plan.store import PlanReader

NOW = datetime(2026, 11, 27, 9, 41, tzinfo=UTC)
FILE = b"%PDF of 64 KiB  " * 4096


def _timed(action: Callable[[], object]) -> tuple[float, float]:
    wall, processor = time.perf_counter(), time.process_time()
    action()
    return time.perf_counter() - wall, time.process_time() - processor


def _plan(folder: Path, count: int) -> PlanReader:
    """Make a plan of newsletters, every tenth with one of a hundred files."""
    from msgspec.structs import replace

    from mailmerge.model import FrozenFile
    from mailmerge.plan.sqlite_store import SqlitePlanWriter
    from plans import frozen, row

    files = [
        FrozenFile(b"/a.pdf", "a.pdf", hashlib.sha256(FILE + b"%d" % n).hexdigest(), len(FILE + b"%d" % n))
        for n in range(100)
    ]
    paragraph = (
        b"<p>The same for all of you: a paragraph of a newsletter, and one more sentence.</p>\r\n" * 90
    )
    with SqlitePlanWriter(folder / "plan", NOW) as writer:
        for n in range(count):
            message = frozen(n)
            body: tuple[bytes | int, ...] = (*message.body, paragraph)
            own = (files[n % 100],) if n % 10 == 0 else ()
            writer.add_message(n, replace(message, body=(*body, *range(len(own))), files=own))
            writer.add_row(row(n, message=n, frozen=message.digest, cells=(f"p{n}@example.org", f"P{n}")))
        return writer.finish(b"", b"")


def main(count: int) -> dict[str, float]:
    """Load, read and thaw *count* messages."""
    from mailmerge.plan.composer import identifier
    from mailmerge.plan.loading import load
    from mailmerge.plan.server_store import ServerPlan
    from mailmerge.plan.stored_messages import WorkerThawer
    from mailmerge.postgres import PostgresDatabase
    from servers.postgres import Postgres

    with (
        tempfile.TemporaryDirectory() as folder,
        Postgres() as server,
        PostgresDatabase.connect(server.url(), "the benchmark") as db,
        _plan(Path(folder), count) as plan,
    ):
        numbers = {hashlib.sha256(FILE + b"%d" % n).hexdigest(): b"%d" % n for n in range(100)}
        loaded, loading = _timed(
            lambda: load(db, 1, plan, b"{}", lambda file: io.BytesIO(FILE + numbers[file.sha256]))
        )
        again, _ = _timed(lambda: load(db, 1, plan, b"{}"))
        stored = ServerPlan.open(db, 1, to_send=True)
        local_rows, local = _timed(lambda: sum(1 for _ in plan.rows()))
        stored_rows, reading = _timed(lambda: sum(1 for _ in stored.rows()))
        worker = WorkerThawer(stored)

        def thaw() -> None:
            for number in range(count):
                found = worker.message(number, number + 2)
                worker.thaw(found, message_id=identifier(bytes(32), found), date=NOW)

        thawed, _ = _timed(thaw)
        (size,) = db.row("SELECT pg_total_relation_size('plan_row') + pg_total_relation_size('plan_message')")
    return {
        "load, s": loaded,
        "load, processor us/message": loading / count * 1e6,
        "load again, s": again,
        "rows here, s": local_rows,
        "rows there, s": stored_rows,
        "rows there / rows here": reading / local,
        "messages/s of one slot": count / thawed,
        "octets/message": float(size) / count,
    }


if __name__ == "__main__":
    print(json.dumps(main(int(sys.argv[1]) if len(sys.argv) > 1 else 100_000), indent=1))
