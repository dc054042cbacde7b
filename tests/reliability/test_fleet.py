"""G: a fleet that is killed, stopped, cut off and without its database writes to nobody twice, loses nobody.

All is judged at the receiver, which notes every Message-ID before it says that it took the message. The soak
sends a million messages and leaves the database away for ten minutes; ``MAILMERGE_FLEET_ROWS`` makes it less.
"""

from __future__ import annotations

import os
import time
from typing import TYPE_CHECKING

from mailmerge.model import Status
from reliability.bench import seeded
from reliability.fleet import IN_FLIGHT, LEASE, SLOTS, Fleet, torment
from servers.receiver import Receiver

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from servers.postgres import Postgres

SOAK = float(os.environ.get("MAILMERGE_SOAK_SECONDS") or 0) >= 600
ROWS = int(os.environ.get("MAILMERGE_FLEET_ROWS") or (1_000_000 if SOAK else 40_000))
FAULTS, CRASHES, SECONDS = (700, 20, 3 * 3600.0) if SOAK else (60, 2, 60.0)
PACE = {"rate": '"50/s"'}
GONE = 600.0 if SOAK else 6.0
"""Seconds without a database."""
SHARE = 0.004
"""Of how many messages the receiver drops the connection, or defers them."""


def test_g1_tormented_without_mercy(tmp_path: Path, postgres: Postgres) -> None:
    """Three workers of three slots: none twice, none lost, and no more doubts than were in flight."""
    dice = seeded()
    with (
        Receiver(tmp_path / "taken", seed=dice.randrange(1 << 30), share=SHARE, ports=3) as receiver,
        Fleet(tmp_path, postgres, receiver, rows=ROWS) as fleet,
    ):
        fleet.begin()
        fleet.start()
        faults = torment(fleet, dice, seconds=SECONDS, faults=FAULTS, crashes=CRASHES)
        fleet.finish(max(150.0, SECONDS / 10))
        counts = fleet.check(faults.doubts + fleet.doubts_by_cuts)
    print(f"{faults}: {counts}")  # noqa: T201  shown where a test fails

    assert faults.kills > 5
    assert counts[Status.ACCEPTED] > ROWS * 0.9


def test_g2_a_worker_that_is_cut_off_stops_before_its_lease_ends(tmp_path: Path, postgres: Postgres) -> None:
    """Nothing of it leaves after that; when it is back, its outcomes are known, and it continues."""
    with (
        Receiver(tmp_path / "taken") as receiver,
        Fleet(tmp_path, postgres, receiver, rows=150, modes=("window",), account=PACE) as fleet,
    ):
        fleet.begin()
        fleet.start()
        _until(lambda: fleet.taken() >= 20)
        fleet.database.stall()
        began = time.time()
        time.sleep(LEASE * 2)
        late = [message.when - began for message in receiver.taken()]
        fleet.database.go_on()
        fleet.finish()
        counts = fleet.check(IN_FLIGHT["window"] * SLOTS)

    assert max(late) < LEASE
    assert counts[Status.ACCEPTED] == 150


def test_g3_a_database_that_is_gone_for_long(tmp_path: Path, postgres: Postgres) -> None:
    """Workers finish what is in flight, send nothing else, and record it when the database is back."""
    with (
        Receiver(tmp_path / "taken", ports=3) as receiver,
        Fleet(tmp_path, postgres, receiver, rows=400, account=PACE) as fleet,
    ):
        fleet.begin()
        fleet.start()
        _until(lambda: fleet.taken() >= 60)
        postgres.stop("immediate")
        time.sleep(1.0)  # what was in flight
        taken = fleet.taken()
        time.sleep(GONE)
        meanwhile = fleet.taken() - taken
        alive = [machine.alive for machine in fleet.machines]
        postgres.start()
        fleet.finish()
        counts = fleet.check(0)

    assert meanwhile == 0
    assert all(alive)
    assert counts[Status.ACCEPTED] == 400


def _until(holds: Callable[[], bool], seconds: float = 30) -> None:
    until = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)
