"""Large lists: memory stays flat, the start costs little per row, a look costs next to nothing.

30,000 rows; where ``MAILMERGE_SOAK_SECONDS`` is set, 100,000.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest

from mailmerge.model import Status
from reliability.bench import Bench, people
from reliability.moody import MoodyServer
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
LARGE = 100_000 if os.environ.get("MAILMERGE_SOAK_SECONDS") else 30_000
SMALL = 6_000  # enough to fill every cache of fixed size
MEGABYTE = 1024.0
_RUN = """
import json, sys, time
from pathlib import Path
from mailmerge.campaign import Campaign
from mailmerge.campaign import run as campaign_run

def memory():
    # Not getrusage(): that begins with what the process that started this one held.
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

begun = time.process_time()
seen = {}
def confirm(plan):
    seen.update(plan=time.process_time() - begun, planned=memory())
    return True
report = Campaign.load(Path(sys.argv[1])).send(request=campaign_run.SendRequest(), confirm=confirm)
print(json.dumps({**seen, "code": report.exit_code, "peak": memory(), "all": time.process_time() - begun}))
"""


@dataclass(frozen=True)
class Measured:
    """One run in a process of its own: CPU seconds to the plan and in all, peak memory in KiB."""

    code: int
    plan: float
    all: float
    planned: float
    peak: float


def measured(bench: Bench) -> Measured:
    """Send in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", _RUN, str(bench.folder)],
        env=unmeasured(bench.mailmerge.environ),
        capture_output=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return Measured(**json.loads(done.stdout))


@pytest.fixture(scope="module")
def sent(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Bench, Measured, Measured]]:
    """A large campaign that was sent, with what a small one and it took."""
    with MoodyServer(mode="window") as server:
        small = Bench(tmp_path_factory.mktemp("small"), server, rows=SMALL)
        small.write(send='pipeline = "window"')
        least = measured(small)
        assert server.idle()
        server.accepted.clear()
        large = Bench(tmp_path_factory.mktemp("large"), server, rows=LARGE)
        large.write(send='pipeline = "window"')
        most = measured(large)
        yield large, least, most


def test_a_large_list_is_sent_whole(sent: tuple[Bench, Measured, Measured]) -> None:
    """Every row once, and all the promises."""
    bench, _, most = sent
    assert most.code == 0
    assert bench.check()[Status.ACCEPTED] == LARGE


def test_memory_is_flat(sent: tuple[Bench, Measured, Measured]) -> None:
    """Caches fill up to their fixed size; beyond that a row may cost 400 octets, less than its message."""
    _, least, most = sent
    print(f"peak {least.peak / MEGABYTE:.1f} MB for {SMALL} rows, {most.peak / MEGABYTE:.1f} MB for {LARGE}")  # noqa: T201

    assert most.peak - least.peak < 10 * MEGABYTE + (LARGE - SMALL) * 0.4
    assert most.peak < 100 * MEGABYTE


def test_the_start_is_linear_and_small(sent: tuple[Bench, Measured, Measured]) -> None:
    """A plan over all rows, rendered and listed, takes a fraction of a millisecond for each."""
    _, least, most = sent
    print(f"plan {least.plan:.2f} s for {SMALL} rows, {most.plan:.2f} s for {LARGE}")  # noqa: T201
    each = (most.plan - least.plan) / (LARGE - SMALL)

    assert each < 0.0005


def test_continuing_is_cheap(sent: tuple[Bench, Measured, Measured]) -> None:
    """The same command again finds nothing to do, with as little memory."""
    bench, _, most = sent
    again = measured(bench)
    print(f"again {again.all:.2f} s")  # noqa: T201

    assert again.code == 0
    assert again.all < most.all
    assert again.peak < most.peak + 4 * MEGABYTE
    assert bench.check()[Status.ACCEPTED] == LARGE


def test_status_is_instant(sent: tuple[Bench, Measured, Measured]) -> None:
    """The status of all rows is one look into the ledger."""
    bench, _, _ = sent
    campaign = bench.campaign()
    best = 10.0
    for _ in range(3):
        began = time.perf_counter()
        assert campaign.status().counts[Status.ACCEPTED] == LARGE
        best = min(best, time.perf_counter() - began)
    print(f"status {best * 1000:.0f} ms")  # noqa: T201

    assert best < 1.0  # a tenth of that on an idle machine


def test_another_row_at_the_end(sent: tuple[Bench, Measured, Measured]) -> None:
    """One new row among many that are done: one message."""
    bench, _, _ = sent
    assert bench.server is not None
    bench.rows = LARGE + 1
    bench.write(send='pipeline = "window"', people_csv=people(LARGE + 1))
    assert measured(bench).code == 0
    assert bench.check()[Status.ACCEPTED] == LARGE + 1
