"""G: a fleet that is killed, stopped, cut off and robbed of its database sends to nobody twice and loses nobody.

All is judged at the receiver, which notes every Message-ID before it says that it took the message. The long
form is ``tests/soak/fleet.py``.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mailmerge.model import Status
from reliability.bench import seeded
from reliability.fleet import Fleet, torment
from servers.receiver import Receiver

if TYPE_CHECKING:
    from pathlib import Path

    from servers.postgres import Postgres

ROWS = int(os.environ.get("MAILMERGE_FLEET_ROWS") or 40_000)
SECONDS = 75.0
SHARE = 0.004
"""Of how many messages the receiver drops the connection, or defers them."""


def test_g1_chaos(tmp_path: Path, postgres: Postgres) -> None:
    """Three workers of three slots: none twice, none lost, every doubt listed, doubts at most what was in flight."""
    dice = seeded()
    with (
        Receiver(tmp_path / "taken", seed=dice.randrange(1 << 30), share=SHARE, ports=3) as receiver,
        Fleet(tmp_path, postgres, receiver, rows=ROWS) as fleet,
    ):
        fleet.begin()
        fleet.start()
        faults = torment(fleet, dice, seconds=SECONDS, crashes=2)
        fleet.finish()
        counts = fleet.check(faults.doubts + fleet.doubts_by_cuts)
    print(f"{faults}: {counts}")  # noqa: T201  shown where a test fails

    assert faults.kills > 5
    assert counts[Status.ACCEPTED] > ROWS * 0.9
