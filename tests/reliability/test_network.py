"""A22 and A23: no network, half a network, and no server to begin with."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import pytest

from faultd import Dropped, abort, drop, hang
from mailmerge.model import Status
from mailmerge.sending.runs import Reason
from mailmerge.smtp.connection import Deadlines
from reliability.bench import NAME, Bench, address, seeded, taken_order
from reliability.clocks import SkippingClock
from reliability.moody import Dice, MoodyServer
from servers.programs import free_port

if TYPE_CHECKING:
    from pathlib import Path

    from faultd import Peer

MODES = ["off", "overlap", "window"]
HASTY = Deadlines(**{name: 0.001 * getattr(Deadlines(), name) for name in Deadlines.__struct_fields__})
"""A thousandth of the usual ones."""


def leaving(peer: Peer) -> None:
    """Hang up, and take no connection any more."""
    peer.server.stop_listening()
    raise Dropped


def test_a22_the_network_goes_away(tmp_path: Path) -> None:
    """Reconnects after 1, 2, 4 .. 60 s for ten minutes, then exit 5; what was not handed over is pending."""
    with MoodyServer({"MAIL": {4: leaving}}) as server:
        bench = Bench(tmp_path, server, rows=8)
        clock = SkippingClock(nap=0.0005)
        began = clock.monotonic()
        report = bench.send(clock=clock)
        took = clock.monotonic() - began
        counts = bench.check()

        assert (report.exit_code, report.reason) == (5, Reason.NETWORK)
        assert 540 <= took <= 720
        assert counts.by_status == {Status.ACCEPTED: 3, Status.PENDING: 5}
    with MoodyServer() as other:
        other.accepted += server.accepted
        bench.server = other
        bench.account()
        assert bench.send().exit_code == 0
        assert taken_order(other) == [address(number) for number in range(1, 9)]
        bench.check()


@pytest.mark.parametrize("verb", ["connect", "EHLO", "MAIL", "RCPT", "DATA"])
def test_a22_a_black_hole_before_the_end(verb: str, bench: Bench, server: MoodyServer) -> None:
    """No answer, no sign: when patience ends the row goes over another connection, once and without doubt."""
    server.change_mood({verb: {2 if verb in {"MAIL", "RCPT", "DATA"} else 1: hang}})
    report = bench.send(clock=SkippingClock(), deadlines=HASTY)

    assert report.exit_code == 0
    assert taken_order(server) == [address(1), address(2), address(3)]
    assert bench.check()[Status.ACCEPTED] == 3


@pytest.mark.parametrize("mode", MODES)
def test_a22_a_storm_of_resets(mode: str, tmp_path: Path) -> None:
    """Connections reset anywhere: run until nothing is left, nobody twice, each doubt listed."""
    random = seeded()
    storm = {verb: Dice(random, {abort: 0.04, drop: 0.02}) for verb in ("MAIL", "RCPT", "DATA", "refuse")}
    with MoodyServer({**storm, "connect": Dice(random, {abort: 0.2})}, mode=mode) as server:
        bench = Bench(tmp_path, server, rows=150)
        bench.write(send=f'pipeline = "{mode}"')
        clock = SkippingClock(nap=0.0005)
        for _ in range(100):
            report = bench.send(clock=clock)
            counts = bench.check()
            assert report.exit_code == (4 if counts[Status.IN_DOUBT] else 5 if counts[Status.PENDING] else 0)
            clock.skipped += 3600
            if not counts[Status.PENDING] + counts[Status.DEFERRED]:
                break

    assert counts[Status.ACCEPTED] + counts[Status.IN_DOUBT] == 150
    assert counts[Status.ACCEPTED] > 75


def test_a23_no_such_host(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name that does not exist: exit 2 with a hint, at the first try, nothing sent."""
    bench.account(host="smtp.exampel.invalid", tls="starttls")
    asked: list[object] = []

    def unknown(host: str, *_: object, **__: object) -> None:
        asked.append(host)
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    report = bench.send(clock=SkippingClock())

    assert report.exit_code == 2
    assert report.error is not None
    assert "the host smtp.exampel.invalid does not exist" in report.error.message
    assert "mailmerge providers" in str(report.error.hint)
    assert asked == ["smtp.exampel.invalid"]
    assert bench.check([])[Status.PENDING] == 3


def test_a23_nobody_at_the_port(bench: Bench) -> None:
    """Refused: three tries, then exit 5, nothing sent; the words tell the port."""
    port = free_port()
    bench.account(port=port)
    clock = SkippingClock()
    report = bench.send(clock=clock)

    assert report.exit_code == 5
    assert report.error is not None
    assert f"port {port}: the connection was refused" in report.error.message
    assert 1 <= clock.skipped < 60
    assert bench.check([])[Status.PENDING] == 3
    assert bench.mailmerge("status", NAME).code == 0


def test_a23_a_server_that_does_not_answer(bench: Bench, server: MoodyServer) -> None:
    """A connection that nobody greets: three tries with their deadlines, exit 5."""
    server.change_mood({"connect": hang})
    report = bench.send(clock=SkippingClock(), deadlines=HASTY)

    assert report.exit_code == 5
    assert server.seen["connect"] == 6  # each try also asks whether the port waits for TLS
    assert bench.check()[Status.PENDING] == 3
