"""A39: a stop is obeyed within a second wherever nothing was handed over; nothing is offered after it."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
import time
from typing import TYPE_CHECKING

import pytest

from faultd import hang
from mailmerge.campaign.run import SendRequest
from mailmerge.model import Status
from reliability.bench import NAME, Bench
from reliability.moody import MoodyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailmerge.campaign.results import Report

PHASES = ["connect", "EHLO", "AUTH", "MAIL", "RCPT", "DATA"]
"""Where a server falls silent; "connect" is its greeting."""


class StopSoon:
    """A stop that is asked for a moment after the run has begun."""

    def __init__(self) -> None:
        self._begun = 0.0

    def begin(self) -> None:
        """Record that the run has begun."""
        self._begun = time.monotonic()

    def is_set(self) -> bool:
        """Return whether the moment has come."""
        return bool(self._begun) and self.waited > 0.3

    @property
    def waited(self) -> float:
        """Seconds since it began."""
        return time.monotonic() - self._begun


def stopped(bench: Bench) -> Report:
    """Send, stop soon, and see that this took no second."""
    stop = StopSoon()
    report = bench.send(stop=stop, begun=stop.begin)
    assert stop.waited < 1.3
    assert report.exit_code == 130
    assert report.counts.by_status == {Status.PENDING: bench.rows}
    return report


@pytest.fixture
def nobody(tmp_path: Path) -> Iterator[Bench]:
    """A campaign whose server takes no connection: the queue of those that wait is full."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listener.getsockname())
        bench = Bench(tmp_path)
        bench.mailmerge.account(Listening(listener.getsockname()[1]))
        yield bench


class Listening:
    """As much of a server as an account needs to know."""

    def __init__(self, port: int) -> None:
        self.port = port


@pytest.mark.parametrize("phase", PHASES)
def test_a39_a_silent_server_does_not_keep_us(phase: str, tmp_path: Path) -> None:
    """At the greeting, at EHLO, in the sign-in, and after each command that comes before the content."""
    with MoodyServer({phase: hang}) as server:
        server.users = {"me": "secret"}
        bench = Bench(tmp_path, server)
        if phase == "AUTH":
            bench.account(user="me", auth="password")
            bench.mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "secret"
        stopped(bench)
        assert server.accepted == []
        assert phase == "connect" or server.verbs()[-1] == phase


def test_a39_a_black_hole_does_not_keep_us(nobody: Bench) -> None:
    """Connecting takes for ever where nobody answers the first packet."""
    stopped(nobody)


def test_a39_a_resolver_does_not_keep_us(nobody: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """The look-up of a name is left behind."""
    gate = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_args, **_more: gate.wait(20) and [])
    stopped(nobody)
    gate.set()


def test_a39_a_password_command_does_not_keep_us(tmp_path: Path) -> None:
    """It is ended, too."""
    with MoodyServer() as server:
        bench = Bench(tmp_path, server)
        bench.account(user="me", auth="password", password_command=["sleep", "20"])
        stopped(bench)
        assert server.commands == []


def test_a39_a_test_is_stopped_as_well(tmp_path: Path) -> None:
    """`test` sends over a connection of its own."""
    with MoodyServer({"EHLO": hang}) as server:
        bench, stop = Bench(tmp_path, server), StopSoon()
        report = bench.campaign().test("me@example.org", SendRequest(begun=stop.begin), stop=stop)
        assert stop.waited < 1.3
        assert (report.end.reason.value, report.results) == ("interrupted", ())


def test_a39_one_silent_server_holds_up_no_other_session(tmp_path: Path) -> None:
    """While the first connection waits for its greeting, the second one sends the whole list."""
    with MoodyServer({"connect": {1: hang}}) as server:
        bench = Bench(tmp_path, server, rows=20)
        bench.write(send="sessions = 2")
        began = time.monotonic()
        assert bench.send().exit_code == 0
        assert time.monotonic() - began < 5
        assert len(server.accepted) == 20


@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
@pytest.mark.parametrize("command", ["send", "rehearse"])
def test_a39_a_signal_ends_the_command(command: str, number: int, code: int, tmp_path: Path) -> None:
    """Ctrl-C, a kill, a closed terminal: each has its exit code, and no temporary file is left."""
    temporary = tmp_path / "tmp"
    temporary.mkdir()
    with MoodyServer({"connect": hang}) as server:
        bench = Bench(tmp_path, server)
        options = ["--real-time", "--rate", "1/h"] if command == "rehearse" else ["--yes"]
        process = bench.mailmerge.start(command, NAME, *options, TMPDIR=str(temporary))
        assert wait_for(lambda: bool(server.peers) if command == "send" else any(temporary.iterdir()))
        time.sleep(0.3 if command == "rehearse" else 0.0)
        process.send_signal(number)
        began = time.monotonic()
        done = bench.mailmerge.finish(process)
        assert time.monotonic() - began < 2  # a second, on a busy machine
    assert done.code == code, done
    assert list(temporary.iterdir()) == []


def wait_for(condition: Callable[[], bool]) -> bool:
    """Wait until it is true, for ten seconds at most."""
    until = time.monotonic() + 10
    while not condition() and time.monotonic() < until:
        time.sleep(0.01)
    return condition()
