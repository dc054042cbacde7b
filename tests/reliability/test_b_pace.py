"""Rates through the whole product: jitter, rates per domain, several sessions, a clock that jumps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import TYPE_CHECKING

import pytest

from mailmerge.errors import CampaignFileError
from mailmerge.model import Status
from reliability.bench import Bench, people
from reliability.clocks import SkippingClock
from reliability.conversing import PATIENCE, told

if TYPE_CHECKING:
    from mailmerge.sending.runs import Progress

SLACK = 1.0
"""Seconds that real time may take between the token and the promise, which is what the ledger knows."""


def promises(bench: Bench) -> list[tuple[float, str]]:
    """Return the times at which rows were promised, with their domains."""
    with bench.ledger() as ledger:
        found = list(ledger.recent(datetime.fromtimestamp(0, UTC), datetime.now(UTC) + timedelta(days=1000)))
    return [(at.timestamp(), address.partition("@")[2]) for address, at in found]


def fullest(times: list[float], seconds: float) -> int:
    """Count the fullest window of this length."""
    return max(sum(0 <= other - time < seconds for other in times) for time in times)


@pytest.mark.parametrize("sessions", [1, 3])
def test_b_rates_hold_over_runs_domains_and_sessions(sessions: int, bench: Bench) -> None:
    """Twenty rows in two runs, three rates and jitter: no window has too many, of any domain."""
    bench.rows = 20
    rows = [f"p{n}@{'one' if n % 3 else 'two'}.example,P\n" for n in range(20)]
    rates = f'rate = ["20/m", "12/5m"]\nper_domain = "4/2m"\njitter = "20%"\nsessions = {sessions}'
    bench.write(people_csv="email,name\n" + "".join(rows), send=rates)
    clock = SkippingClock(nap=0.0)
    assert bench.send(clock=clock, deadlines=PATIENCE, limit=7).exit_code == 0
    report = bench.send(clock=clock, deadlines=PATIENCE)
    assert (report.exit_code, report.counts[Status.ACCEPTED]) == (0, 20), told(report)
    taken = promises(bench)
    everybody = [time for time, _ in taken]
    assert fullest(everybody, 60 - SLACK) <= 20
    assert fullest(everybody, 300 - SLACK) <= 12
    for domain in ("one.example", "two.example"):
        assert fullest([time for time, where in taken if where == domain], 120 - SLACK) <= 4
    assert all(later - earlier > 3 - SLACK for earlier, later in pairwise(everybody))
    assert everybody[-1] - everybody[0] < 700  # and it does not dawdle: 14 to one domain need 360 s at least


@pytest.mark.parametrize("jump", [timedelta(days=-1), timedelta(days=365)], ids=["back", "ahead"])
def test_a20_the_clock_jumps_in_mid_run(jump: timedelta, bench: Bench) -> None:
    """No burst and no standstill: the pace is kept by the steady clock, and the jump is told."""
    bench.rows = 6
    bench.write(people_csv=people(6), send='rate = "6/m"')
    clock = SkippingClock(nap=0.0)
    steady: list[float] = []

    def observe(progress: Progress) -> None:
        if progress.status is not None:
            steady.append(clock.monotonic())
            if len(steady) == 3:
                clock.ahead += jump

    report = bench.send(clock=clock, deadlines=PATIENCE, observe=observe)
    assert (report.exit_code, report.counts[Status.ACCEPTED]) == (0, 6)
    assert all(9 < later - earlier < 12 for earlier, later in pairwise(steady))
    assert f"min {'back' if jump < timedelta(0) else 'ahead'} during the run" in told(report)


@pytest.mark.parametrize("line", ['jitter = "20"', 'jitter = "120%"', 'per_domain = "10"', "per_domain = []"])
def test_b_what_is_no_rate_or_share(line: str, bench: Bench) -> None:
    """A wrong value is shown with its place before anything is read."""
    bench.write(send=line)
    with pytest.raises(CampaignFileError, match=line.partition(" ")[0]) as caught:
        bench.campaign()
    (problem,) = caught.value.diagnostics
    assert problem.place
    assert problem.place.line
