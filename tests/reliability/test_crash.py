"""A1 to A8: what a crash or a lost connection leaves behind, and what the next run makes of it."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faultd import Dropped, abort, drop, hang, raw, say, say_and_drop
from mailmerge.model import Status
from mailmerge.sending.runs import Reason
from mailmerge.smtp.connection import Deadlines
from reliability.bench import Bench, address, taken_order
from reliability.clocks import SkippingClock
from reliability.killing import KILLED, Warm
from reliability.moody import MoodyServer, taken_unsaid

if TYPE_CHECKING:
    from collections.abc import Callable

    from faultd import Fault, Peer

MODES = ["off", "overlap", "window"]


def killing(warm: Warm, reply: bytes) -> Fault:
    """Kill the sender, then answer the dead."""

    def fault(_peer: Peer) -> bytes:
        warm.kill()
        return reply

    return fault


@pytest.mark.parametrize("moment", ["MAIL", "RCPT", "DATA"])
def test_a01_killed_before_the_end_left(moment: str, bench: Bench, server: MoodyServer, warm: Warm) -> None:
    """The row stays pending and is sent once by the next run, without a doubt."""
    server.change_mood({moment: {1: killing(warm, b"250 2.0.0 too late\r\n")}})

    assert warm.run(bench) == KILLED
    assert set(bench.states().values()) == {Status.PENDING}

    assert warm.run(bench) == 0
    assert taken_order(server) == [address(1), address(2), address(3)]
    assert bench.check()[Status.ACCEPTED] == 3


@pytest.mark.parametrize("taken", [True, False])
def test_a02_killed_before_the_answer(bench: Bench, server: MoodyServer, warm: Warm, *, taken: bool) -> None:
    """The row is in doubt whether it was taken or not, is not sent again, and the summary names it."""
    server.change_mood({("taken" if taken else "refuse"): {2: killing(warm, b"451 4.3.0 too late\r\n")}})

    assert warm.run(bench) == KILLED
    assert bench.states()[address(2)] is Status.HANDING_OVER

    done = bench.mailmerge("send", "spring", "--yes")
    assert done.code == 4
    assert "mailmerge resolve spring" in done.out
    listed = bench.mailmerge("resolve", "spring")
    assert "row 3  p2@example.net" in listed.out
    assert bench.check()[Status.IN_DOUBT] == 1
    assert taken_order(server).count(address(2)) == (1 if taken else 0)


@pytest.mark.parametrize("as_accepted", [True, False])
def test_a02_only_a_person_ends_a_doubt(
    bench: Bench, server: MoodyServer, warm: Warm, *, as_accepted: bool
) -> None:
    """``--as-accepted`` settles the row unsent; ``--resend`` sends it again, same Date, same Message-ID."""
    server.change_mood({"taken": {2: killing(warm, b"250 2.0.0 too late\r\n")}})
    assert warm.run(bench) == KILLED
    assert bench.send().exit_code == 4

    bench.mailmerge("resolve", "spring", "--as-accepted" if as_accepted else "--resend")
    report = bench.send()

    assert report.exit_code == 0
    copies = [message.content for message in server.accepted if message.recipients == (b"p2@example.net",)]
    assert len(copies) == (1 if as_accepted else 2)
    assert len(set(copies)) == 1
    bench.check(resent=() if as_accepted else {address(2)})


def _misfortunes() -> dict[str, Fault]:
    return {"taken": taken_unsaid, "closed": drop, "reset": abort, "no SMTP": raw(b"wat\r\n")}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", _misfortunes())
def test_a04_the_answer_is_lost(name: str, mode: str, tmp_path: Path) -> None:
    """The row is in doubt, the next one goes over a new connection; exit code 4."""
    with MoodyServer({"taken": {4: _misfortunes()[name]}}, mode=mode) as server:
        bench = Bench(tmp_path, server, rows=6)
        bench.write(send=f'pipeline = "{mode}"')
        report = bench.send(clock=SkippingClock())

        counts = bench.check()
        states = bench.states()
    assert report.exit_code == 4
    assert states[address(4)] is Status.IN_DOUBT
    assert counts[Status.ACCEPTED] + counts[Status.IN_DOUBT] == 6
    if mode != "window":
        assert counts[Status.IN_DOUBT] == 1


@pytest.mark.parametrize("mode", MODES)
def test_a04_three_lost_answers_in_a_row_stop_the_run(mode: str, tmp_path: Path) -> None:
    """Something between us and the server cuts connections: rows not handed over stay pending."""
    with MoodyServer({"taken": taken_unsaid}, mode=mode) as server:
        bench = Bench(tmp_path, server, rows=200)
        bench.write(send=f'pipeline = "{mode}"')
        report = bench.send(clock=SkippingClock())
        counts = bench.check()

    assert report.exit_code == 4
    assert report.reason == Reason.BREAKER
    assert counts[Status.PENDING] > 0
    if mode != "window":
        assert counts.by_status == {Status.PENDING: 197, Status.IN_DOUBT: 3}


def test_a05_a_server_that_is_silent_after_the_end(bench: Bench, server: MoodyServer) -> None:
    """When patience ends the row is in doubt, and that connection is never used again."""
    server.change_mood({"taken": {2: hang}})
    began = time.monotonic()
    report = bench.send(clock=SkippingClock(), deadlines=Deadlines(content=0.4))

    assert 0.4 <= time.monotonic() - began < 5
    assert report.exit_code == 4
    assert bench.states()[address(2)] is Status.IN_DOUBT
    assert taken_order(server) == [address(1), address(2), address(3)]
    assert server.verbs().count("EHLO") == 2
    bench.check()


def test_a05_the_patience_is_ten_minutes() -> None:
    """RFC 5321 section 4.5.3.2.6: a server may take that long to say that it took a message."""
    assert Deadlines().content == 600


def _attachment(bench: Bench, octets: int) -> None:
    (bench.folder / "film.bin").write_bytes(bytes(range(256)) * (octets // 256))
    bench.write(message='[[attach]]\npath = "film.bin"')


def _after(count: int, act: Callable[[], object]) -> Fault:
    """Invite the content, take about *count* octets of it, then act, before more is read.

    What nobody reads fills the buffers of both sockets, so that a client of more than these is still writing.
    """

    def fault(peer: Peer) -> bytes:
        read, limit = peer.receive, peer.server.octets + count

        def receive() -> None:
            if peer.server.octets > limit:
                peer.receive = read  # type: ignore[method-assign]
                act()
            read()

        peer.receive = receive  # type: ignore[method-assign]
        peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        return b"354 go ahead\r\n"

    return fault


def _more_than_buffers() -> int:
    """Return how many octets never fit into what an operating system keeps of a connection."""
    limits = Path("/proc/sys/net/ipv4/tcp_wmem")
    return 1_000_000 + (int(limits.read_text("ascii").split()[2]) if limits.exists() else 8_000_000)


def _dropped() -> None:
    raise Dropped


def test_a06_a_connection_that_dies_inside_the_content(bench: Bench, server: MoodyServer) -> None:
    """A large message is cut off, the end never left: no doubt, the row is sent again and taken once."""
    server.extensions = ("PIPELINING", "8BITMIME")
    _attachment(bench, _more_than_buffers())
    server.change_mood({"DATA": {2: _after(1_000_000, _dropped)}})
    report = bench.send(clock=SkippingClock())

    assert report.exit_code == 0
    assert taken_order(server) == [address(1), address(2), address(3)]
    assert bench.check()[Status.ACCEPTED] == 3


def test_a06_killed_inside_the_content(bench: Bench, server: MoodyServer, warm: Warm) -> None:
    """A long upload stays retryable to its last chunk: after a kill the row is pending."""
    server.extensions = ("PIPELINING", "8BITMIME")
    _attachment(bench, _more_than_buffers())
    server.change_mood({"DATA": {1: _after(100_000, warm.kill)}})
    assert warm.run(bench) == KILLED
    assert bench.states()[address(1)] is Status.PENDING

    assert warm.run(bench) == 0
    assert taken_order(server) == [address(1), address(2), address(3)]
    bench.check()


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [
        ("450 4.2.0 not now", Status.DEFERRED, 5),
        ("451 4.3.0 local error", Status.ACCEPTED, 0),
        ("452 4.3.1 mail system full", Status.ACCEPTED, 0),
        ("550 5.7.1 not this one", Status.REJECTED, 3),
        ("554 5.6.0 bad content", Status.REJECTED, 3),
    ],
)
def test_a07_an_answer_is_never_a_doubt(
    mode: str, reply: str, status: Status, code: int, tmp_path: Path
) -> None:
    """4yz and 5yz in reply to the content are definite: whom they are about decides what follows."""
    with MoodyServer({"refuse": {2: say(reply)}}, mode=mode) as server:
        bench = Bench(tmp_path, server, rows=5)
        bench.write(send=f'pipeline = "{mode}"')
        report = bench.send(clock=SkippingClock())
        counts = bench.check()

        assert counts[Status.IN_DOUBT] == 0
        assert report.exit_code == code
        assert counts.by_status == {Status.ACCEPTED: 4, status: 5 if status is Status.ACCEPTED else 1}


@pytest.mark.parametrize("mode", MODES)
def test_a08_closed_right_after_the_answer(mode: str, tmp_path: Path) -> None:
    """The row is accepted; the next ones go over a new connection, undamaged, and nothing is an error."""
    with MoodyServer({"taken": say_and_drop("250 2.0.0 and goodbye")}, mode=mode) as server:
        bench = Bench(tmp_path, server, rows=5)
        bench.write(send=f'pipeline = "{mode}"')
        report = bench.send(clock=SkippingClock())
        counts = bench.check()
        order = taken_order(server)

    if mode != "window":
        assert report.exit_code == 0
        assert order == [address(number) for number in range(1, 6)]
    assert counts[Status.ACCEPTED] + counts[Status.IN_DOUBT] == 5
