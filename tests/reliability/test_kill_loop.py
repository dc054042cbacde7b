"""A3: the sender is killed at random, again and again, and after every kill the promises are kept.

``MAILMERGE_SOAK_SECONDS`` makes it run that long in all; by default each way has a number of kills.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from mailmerge.model import Counts, Status
from reliability.bench import Bench, seeded
from reliability.killing import KILLED, Warm
from reliability.moody import MoodyServer, moods

if TYPE_CHECKING:
    from pathlib import Path
    from random import Random

    from faultd import Fault, Peer
    from servers.postgres import Postgres

SECONDS = float(os.environ.get("MAILMERGE_SOAK_SECONDS") or 0)
KILLS = 8
ROWS = 500
WAYS = {
    "off": ("off", 1),
    "overlap": ("overlap", 1),
    "window": ("window", 1),
    "two sessions, overlap": ("overlap", 2),
    "two sessions, window": ("window", 2),
    "ledger on a server, off": ("off", 1),
    "ledger on a server, two sessions, window": ("window", 2),
}
CRASHES = 0.25
"""In what share of the runs the server that has the ledger goes down, too."""
HOUR = 3600.0
LEDGER = 8


@dataclass
class Score:
    """What a loop has seen; it continues *until* then, or, where nobody said how long, for some kills."""

    until: float
    kills: int = 0
    crashes: int = 0
    runs: int = 0
    campaigns: int = 0
    rows: int = 0
    taken: int = 0
    counts: dict[Status, int] = field(default_factory=dict)

    @property
    def enough(self) -> bool:
        """Return whether the sender may live from now on."""
        return time.monotonic() > self.until if SECONDS else self.kills >= KILLS

    def add(self, counts: Counts, taken: int) -> None:
        """Add a finished campaign."""
        self.campaigns += 1
        self.taken += taken
        for status in counts:
            self.counts[status] = self.counts.get(status, 0) + counts[status]

    def __str__(self) -> str:
        ends = ", ".join(f"{number} {status}" for status, number in self.counts.items())
        return (
            f"{self.kills} kills, {self.crashes} crashes of the ledger in {self.runs} runs "
            f"over {self.rows} rows of {self.campaigns} campaigns: "
            f"{ends}; {self.taken} messages taken"
        )


class Trap:
    """Kills the sender at the server's nth moment from now; the moments are all that it hears."""

    def __init__(self, warm: Warm) -> None:
        self._warm = warm
        self._left = 0
        self._lock = threading.Lock()

    def set(self, moments: int) -> None:
        """Arm it; 0: not."""
        with self._lock:
            self._left = moments

    def step(self) -> None:
        """Be told of a moment."""
        with self._lock:
            self._left -= 1
            if self._left == 0:
                self._warm.kill()


class Trapped(MoodyServer):
    """A moody server with a trap: it springs before a reply, so also when a message was taken unsaid."""

    trap: Trap | None = None

    def _fault(self, moment: str) -> Fault | None:
        if self.trap is not None:
            self.trap.step()
        return super()._fault(moment)

    def _answer(self, peer: Peer, verb: str, usual: bytes) -> bytes:
        if self.trap is not None:
            self.trap.step()
        return super()._answer(peer, verb, usual)


@pytest.mark.parametrize("way", WAYS)
def test_a03_killed_again_and_again(way: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """None taken twice, none lost, every doubt listed: after each kill, and when all is done."""
    random = seeded()
    database = request.getfixturevalue("postgres") if "server" in way else None
    mode, sessions = WAYS[way]
    score = Score(until=time.monotonic() + SECONDS / len(WAYS))
    with Warm(tmp_path / "log") as warm:
        while score.campaigns == 0 or not score.enough:
            with Trapped(moods(random), mode=mode) as server:
                server.trap = Trap(warm)
                ledger = None if database is None else database.new_database()
                bench = Bench(tmp_path / str(score.campaigns), server, rows=ROWS, ledger=ledger)
                bench.write(send=f'pipeline = "{mode}"\nsessions = {sessions}\nretry = "1m"')
                counts = _until_done(bench, warm, Dangers(server.trap, random, database), score)
                score.add(counts, len(server.accepted))
    print(f"{way}: {score}")  # noqa: T201  the point of a soak

    assert score.kills > 5
    assert score.counts.get(Status.ACCEPTED, 0) > ROWS / 2
    assert not {Status.PENDING, Status.DEFERRED, Status.HANDING_OVER} & set(score.counts)


@dataclass
class Dangers:
    """What a run has to fear."""

    trap: Trap
    random: Random
    database: Postgres | None
    """Goes down now and then; None: the ledger is a file."""


def _until_done(bench: Bench, warm: Warm, dangers: Dangers, score: Score) -> Counts:
    """Kill and start again until no row is left, checking the promises each time."""
    score.rows += bench.rows
    for run in range(10_000):
        code = _one_run(bench, warm, dangers, score, ahead=run * 13 * HOUR / 60, kill=not score.enough)
        if not bench.has_ledger:
            assert code in {KILLED, LEDGER}
            continue
        counts = _checked(bench, code)
        if counts is not None and not (counts[Status.PENDING] or counts[Status.DEFERRED]):
            return _settled(bench, warm, counts)
    raise AssertionError("the campaign never ends")


def _one_run(bench: Bench, warm: Warm, dangers: Dangers, score: Score, *, ahead: float, kill: bool) -> int:
    """Run once; the kill comes after a while, or at a moment of the conversation."""
    random, trap, database = dangers.random, dangers.trap, dangers.database
    by_moment = random.random() < 0.6
    trap.set(random.randrange(1, 200) if kill and by_moment else 0)
    warm.start(bench, ahead=ahead)
    killer = threading.Timer(random.uniform(0.0, 0.3), warm.kill)
    if kill and not by_moment:
        killer.start()
    if kill and database is not None and random.random() < CRASHES:
        time.sleep(random.uniform(0.0, 0.3))
        database.crash()
        score.crashes += 1
    code = warm.end()
    killer.cancel()
    trap.set(0)
    score.runs += 1
    score.kills += code == KILLED
    assert code in {KILLED, 0, 3, 4, 5} or (code == LEDGER and database is not None), code
    return code


def _checked(bench: Bench, code: int) -> Counts | None:
    """Check after one run; None: it was killed before the list was in the ledger."""
    assert bench.server is not None
    if code in {KILLED, LEDGER} and not bench.campaign().status().counts.total:
        assert not bench.server.accepted
        return None
    counts = bench.check()
    if code not in {KILLED, LEDGER}:
        assert counts[Status.HANDING_OVER] == 0
        assert (code == 4) == (counts[Status.IN_DOUBT] > 0), (code, counts)
    doubtful = {result.address for result in bench.campaign().in_doubt()}
    assert len(doubtful) == counts[Status.IN_DOUBT] + counts[Status.HANDING_OVER]
    return counts


def _settled(bench: Bench, warm: Warm, counts: Counts) -> Counts:
    """Run a last time: nothing is left, nothing is sent, doubts stay what they are."""
    before = len(bench.server.accepted) if bench.server else 0
    connections = bench.server.verbs().count("EHLO") if bench.server else 0
    warm.run(bench)
    after = bench.check()
    assert bench.server is not None
    assert len(bench.server.accepted) == before
    assert bench.server.verbs().count("EHLO") == connections
    assert after[Status.IN_DOUBT] == counts[Status.IN_DOUBT] + counts[Status.HANDING_OVER]
    return after
