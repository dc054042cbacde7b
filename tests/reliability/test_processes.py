"""A14, A15, A21, A24, A35: other processes, signals, suspended machines, and outputs that go away."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from itertools import pairwise
from typing import TYPE_CHECKING, Self

import pytest

from mailmerge.model import Status
from reliability.bench import NAME, Bench, address, taken_order
from reliability.moody import MoodyServer
from servers.command import results
from servers.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from faultd import Peer
    from servers.command import Done

MODES = ["off", "overlap", "window"]


class Gate:
    """A fault: the answer waits until the gate is opened."""

    def __init__(self, *, at_most: float = 30.0) -> None:
        self._open = threading.Event()
        self._at_most = at_most

    def __call__(self, _peer: Peer) -> bytes:
        """Wait, then answer."""
        self._open.wait(self._at_most)
        return b"250 2.0.0 at last\r\n"

    def open(self) -> None:
        """Let all answers go."""
        self._open.set()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """A gate that does not outlive the test."""
    closed = Gate()
    yield closed
    closed.open()


class Running:
    """The command in the background; it is ended with the test, come what may."""

    def __init__(self, bench: Bench, *arguments: str) -> None:
        self.bench = bench
        self.process = bench.mailmerge.start("send", NAME, "--yes", *arguments)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()

    def taken(self, count: int) -> None:
        """Wait until the server has taken *count* messages."""
        server = self.bench.server
        assert server is not None
        wait_until(lambda: len(server.accepted) >= count or self.process.poll() is not None, f"{count} taken")
        assert len(server.accepted) >= count

    def signal(self, number: int) -> None:
        """Send it a signal."""
        self.process.send_signal(number)

    def end(self) -> Done:
        """Wait for it."""
        return self.bench.mailmerge.finish(self.process)


# --- A14, A15 --------------------------------------------------------------------------------------------


def test_a14_a_second_process_on_the_same_campaign(bench: Bench, server: MoodyServer, gate: Gate) -> None:
    """Exit 7 within a second, naming pid and time; a killed process leaves no lock behind."""
    server.change_mood({"taken": {1: gate}})
    with Running(bench) as first:
        first.taken(1)
        before = len(server.commands)
        began = time.monotonic()
        done = bench.mailmerge("send", NAME, "--yes")
        took = time.monotonic() - began
        assert done.code == 7
        assert f"this campaign is in use by pid {first.process.pid} since " in done.err
        assert len(server.commands) == before
        assert took < 2  # a second, and the start of Python on a busy machine
        assert bench.mailmerge("resolve", NAME, "--resend").code == 7
        assert bench.mailmerge("requeue", NAME).code == 7
        assert bench.mailmerge("status", NAME).code == 0

        first.signal(signal.SIGKILL)
        first.process.communicate()
    gate.open()
    assert bench.mailmerge("send", NAME, "--yes").code == 4
    assert bench.check().by_status == {Status.ACCEPTED: 2, Status.IN_DOUBT: 1}


def test_a15_a_second_campaign_on_the_same_account(
    bench: Bench, server: MoodyServer, gate: Gate, tmp_path: Path
) -> None:
    """One session per account: exit 7; when the first has ended the second one goes."""
    other = Bench(tmp_path / "other", server)
    other.write(body_txt="Dear {{ name }},\n\nthis is another letter.\n")
    shared = ("MAILMERGE_CONFIG", "MAILMERGE_STATE_DIR")
    other.mailmerge.environ |= {name: bench.mailmerge.environ[name] for name in shared}
    server.change_mood({"taken": {1: gate}})
    with Running(bench) as first:
        first.taken(1)
        before = len(server.commands)
        done = other.mailmerge("send", NAME, "--yes")
        assert done.code == 7
        assert "the account test@127.0.0.1 is in use by pid" in done.err
        assert len(server.commands) == before
        gate.open()
        assert first.end().code == 0
    assert bench.check()[Status.ACCEPTED] == 3
    server.accepted.clear()
    assert other.mailmerge("send", NAME, "--yes").code == 0
    assert other.check()[Status.ACCEPTED] == 3


def test_a15_waiting_for_the_other_run(bench: Bench, server: MoodyServer, gate: Gate) -> None:
    """With --wait-lock the second run begins when the first has ended, and finds nothing left to do."""
    server.change_mood({"taken": {1: gate}})
    with Running(bench) as first:
        first.taken(1)
        threading.Timer(0.5, gate.open).start()
        done = bench.mailmerge("send", NAME, "--yes", "--wait-lock", "60")
        assert first.end().code == 0
    assert done.code == 0, done.err
    assert bench.check()[Status.ACCEPTED] == 3


# --- A21 -------------------------------------------------------------------------------------------------


def test_a21_suspended_while_the_server_hangs_up(server: MoodyServer, tmp_path: Path) -> None:
    """A laptop's sleep, the connection gone: the run reconnects, makes up for nothing, all arrive once."""
    times: list[float] = []

    def note(_peer: Peer) -> bytes:
        times.append(time.monotonic())
        return b"250 2.0.0 noted\r\n"

    server.change_mood({"taken": note})
    bench = Bench(tmp_path, server, rows=20)
    with Running(bench, "--rate", "20/s") as running:
        running.taken(5)
        running.signal(signal.SIGSTOP)
        time.sleep(0.2)
        for peer in server.peers:
            peer.shutdown(socket.SHUT_RDWR)
        time.sleep(5.2)
        before = len(server.accepted)
        running.signal(signal.SIGCONT)
        done = running.end()

    gaps = [later - earlier for earlier, later in pairwise(times[before:])]
    assert done.code == 0, done
    assert bench.check()[Status.ACCEPTED] == 20
    assert sum(gaps) >= 0.9 * len(gaps) / 20, "a burst after the pause"
    assert server.verbs().count("EHLO") == 2


# --- A24 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a24_the_first_signal_finishes_what_is_in_flight(
    number: int, code: int, mode: str, tmp_path: Path
) -> None:
    """What was handed over gets its answer, the session ends with QUIT, a report is written; then resume."""
    with MoodyServer({"taken": {5: Gate(at_most=0.5)}}, mode=mode) as server:
        bench = Bench(tmp_path, server, rows=300)
        bench.write(send=f'pipeline = "{mode}"')
        with Running(bench) as running:
            running.taken(5)
            running.signal(number)
            done = running.end()
        counts = bench.check()

        assert done.code == code, done
        assert counts[Status.IN_DOUBT] == counts[Status.HANDING_OVER] == 0
        assert counts[Status.ACCEPTED] == len(server.accepted) < 300
        if mode == "off":  # where the next message had been begun, only closing keeps it from being sent
            assert server.verbs()[-1] == "QUIT"
        assert len(results(bench.folder)) == 300
        assert "Next: mailmerge send spring" in done.out

        assert bench.mailmerge("send", NAME, "--yes").code == 0
        assert bench.check()[Status.ACCEPTED] == 300


def _phases() -> dict[str, str]:
    return {
        "connect": "pending",
        "EHLO": "pending",
        "MAIL": "pending",
        "RCPT": "pending",
        "DATA": "pending",
        "taken": "in_doubt",
    }


@pytest.mark.parametrize(("verb", "state"), _phases().items())
def test_a24_signals_in_each_phase(verb: str, state: str, gate: Gate, tmp_path: Path) -> None:
    """Gone within a second: at the first signal, or at the second where an answer is waited for."""
    with MoodyServer({verb: {1: gate}}) as server:
        bench = Bench(tmp_path, server)
        with Running(bench) as running:
            wait_until(lambda: server.seen[verb] > 0, f"{verb} seen")
            time.sleep(0.05)
            began = time.monotonic()
            running.signal(signal.SIGINT)
            if state == "in_doubt":
                time.sleep(0.3)
                running.signal(signal.SIGINT)
            done = running.end()
        assert done.code == 130, done
        assert time.monotonic() - began < 2
        gate.open()
        assert server.idle()
        server.change_mood({})
        done = bench.mailmerge("send", NAME, "--yes")
        counts = bench.check()

        assert done.code == (4 if state == "in_doubt" else 0), done
        assert bench.states()[address(1)] == ("in_doubt" if state == "in_doubt" else "accepted")
        assert counts[Status.ACCEPTED] == (2 if state == "in_doubt" else 3)


# --- A35 -------------------------------------------------------------------------------------------------


def test_a35_a_report_folder_that_cannot_be_written(bench: Bench) -> None:
    """The run is not disturbed, the summary is shown, ``report`` writes the files when it can."""
    (bench.folder / "out").write_text("in the way", "utf-8")
    done = bench.mailmerge("send", NAME, "--yes")
    assert done.code == 0, done
    assert "could not be written" in done.out
    assert "spring/out: this is not a folder" in done.out
    assert bench.check()[Status.ACCEPTED] == 3
    again = bench.mailmerge("report", NAME)
    assert (again.code, "spring/out: this is not a folder" in again.err) == (2, True)

    (bench.folder / "out").unlink()
    assert bench.mailmerge("report", NAME).code == 0
    assert [row["status"] for row in results(bench.folder)] == ["accepted"] * 3


@pytest.fixture
def broken_pipe() -> Iterator[int]:
    """An output whose reader has gone."""
    reader, writer = os.pipe()
    os.close(reader)
    yield writer
    os.close(writer)


@pytest.mark.parametrize("streams", ["stdout", "stderr", "stdout stderr"])
@pytest.mark.parametrize("option", ["--quiet", "--json", "--skip-invalid"])
def test_a35_nobody_listens(streams: str, option: str, bench: Bench, broken_pipe: int) -> None:
    """Standard output or error closed by its reader: every row is sent and recorded all the same."""
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "mailmerge", "send", NAME, "--yes", option],
        cwd=bench.mailmerge.folder,
        env=bench.mailmerge.environ,
        stdin=subprocess.DEVNULL,
        stdout=broken_pipe if "stdout" in streams else subprocess.PIPE,
        stderr=broken_pipe if "stderr" in streams else subprocess.PIPE,
    )
    out, err = process.communicate(timeout=30)

    assert bench.check()[Status.ACCEPTED] == 3, (process.returncode, out, err)
    assert process.returncode == 0, (process.returncode, out, err)
    assert b"Traceback" not in (err or b"")
    assert len(results(bench.folder)) == 3


def test_a35_the_reader_leaves_in_the_middle(tmp_path: Path) -> None:
    """``mailmerge send --json | head -1``: the run continues to its end."""
    with MoodyServer() as server:
        bench = Bench(tmp_path, server, rows=200)
        command = [sys.executable, "-P", "-m", "mailmerge", "send", NAME, "--yes", "--json"]
        process = subprocess.Popen(
            command,
            cwd=bench.mailmerge.folder,
            env=bench.mailmerge.environ,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr is not None
        err = process.stderr.read()
        process.stderr.close()
        process.wait(30)

        assert bench.check()[Status.ACCEPTED] == 200, (process.returncode, err)
        assert process.returncode == 0, err
        assert taken_order(server) == [address(number) for number in range(1, 201)]
