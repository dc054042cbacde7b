"""B30: servers that offer PIPELINING but tolerate no commands between the end of a message and its reply."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from campaigns import TO_PEOPLE, campaign_toml
from mailmerge.model import Status
from mailmerge.sandbox import FaultPlan, NoPipelining, SandboxServer
from reliability.bench import Bench
from reliability.conversing import impatient, told
from servers.command import Mailmerge

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 6


@pytest.fixture(params=NoPipelining, ids=str)
def strict(request: pytest.FixtureRequest) -> Iterator[SandboxServer]:
    """A server that does not tolerate it, in one of the ways that were seen."""
    with SandboxServer(tls="none", user=None, faults=FaultPlan(no_pipelining=request.param)) as server:
        yield server


def bench_at(server: SandboxServer, folder: Path, **send: str) -> Bench:
    """Make a campaign whose account is at *server*."""
    bench = Bench(folder, rows=ROWS)
    bench.mailmerge.account(server)
    bench.write(send="".join(f'{key} = "{value}"\n' for key, value in send.items()))
    return bench


@pytest.mark.parametrize("pipeline", ["auto", "window"])
def test_b30_at_most_one_row_in_doubt(strict: SandboxServer, pipeline: str, tmp_path: Path) -> None:
    """One row at most is in doubt, all others are accepted, each once; one line says why, and what to do."""
    kind = strict.faults.no_pipelining
    bench = bench_at(strict, tmp_path / "bench", pipeline=pipeline)
    report = bench.send(deadlines=impatient("trial", seconds=0.5))
    states = list(bench.states().values())
    doubts = int(kind is NoPipelining.CRASH)
    assert states.count(Status.IN_DOUBT) == doubts
    assert states.count(Status.ACCEPTED) == ROWS - doubts
    assert strict.received_count == ROWS
    assert told(report).count("does not accept the next message before it has answered the last") == 1
    assert told(report).count('pipeline = "off"') >= 1


def test_b30_it_is_remembered(tmp_path: Path) -> None:
    """The next run does not try it again, and costs nothing."""
    faults = FaultPlan(no_pipelining=NoPipelining.CRASH)
    with SandboxServer(tls="none", user=None, faults=faults) as server:
        bench = bench_at(server, tmp_path / "bench")
        bench.send()
        bench.rows = 2 * ROWS
        bench.write()
        report = bench.send()
        assert "before it has answered" not in told(report)
        assert list(bench.states().values()).count(Status.ACCEPTED) == 2 * ROWS - 1


def test_b30_a_slow_pace_needs_no_trial(tmp_path: Path) -> None:
    """Where two round trips a message are fast enough nothing is said behind a message."""
    faults = FaultPlan(no_pipelining=NoPipelining.CRASH)
    with SandboxServer(tls="none", user=None, faults=faults) as server:
        bench = bench_at(server, tmp_path / "bench", rate="5/s")
        report = bench.send()
    assert report.exit_code == 0, told(report)
    assert set(bench.states().values()) == {Status.ACCEPTED}


def test_b30_through_the_command_line(tmp_path: Path) -> None:
    """What a rehearsal plays is what a run does: all rows accepted, and the line that says why."""
    mailmerge = Mailmerge(tmp_path)
    folder = mailmerge.campaign("spring", campaign_toml=campaign_toml(message=TO_PEOPLE))
    done = mailmerge("rehearse", folder, "--no-pipelining", "554")
    assert (done.code, "3 accepted" in done.out + done.err) == (0, True), done
    assert 'pipeline = "off"' in done.out + done.err
