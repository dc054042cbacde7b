"""B1-B10 through the whole product: what a server may do to a conversation, and what becomes of the rows."""

from __future__ import annotations

import socket
import threading
from typing import TYPE_CHECKING

import pytest

from faultd import Dropped, abort, after, drop, endless, hang, raw, say, say_and_drop, trickle
from mailmerge.model import Status
from reliability.bench import NAME, Bench, address, taken_order
from reliability.clocks import SkippingClock
from reliability.conversing import PATIENCE, Caps, impatient, only_first, server_with, told
from reliability.invariants import attempts_of
from reliability.moody import MoodyServer, taken_unsaid

if TYPE_CHECKING:
    from pathlib import Path

    from faultd import Fault, Peer
    from mailmerge.campaign.results import Report
    from servers.certificates import Certificates

EVERYBODY = [address(number) for number in (1, 2, 3)]
GBK = "550 5.1.1 用户不存在".encode("gbk")


def run(bench: Bench, *impatient_phases: str) -> Report:
    """Run to the end; nobody sits out a pause, and only the phases named are short of time."""
    deadlines = impatient(*impatient_phases) if impatient_phases else PATIENCE
    return bench.send(clock=SkippingClock(), deadlines=deadlines)


def all_accepted(bench: Bench, report: Report) -> None:
    """Check that the misfortune cost nothing but time: everybody once, in the list's order."""
    assert (report.exit_code, taken_order(bench.server)) == (0, EVERYBODY), told(report)  # type: ignore[arg-type]
    assert bench.check()[Status.ACCEPTED] == 3


# --- B1-B5: silence, slowness, noise ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "phase"),
    [
        ("connect", "greeting"),
        ("EHLO", "ehlo"),
        ("MAIL", "mail"),
        ("RCPT", "rcpt"),
        ("DATA", "data"),
        ("QUIT", "quit"),
    ],
)
@pytest.mark.parametrize("fault", [hang, trickle("250 2.0.0 far too slow", 0.05)], ids=["B1", "B2"])
def test_b01_b02_no_whole_reply_in_time(
    verb: str, phase: str, fault: Fault, bench: Bench, server: MoodyServer
) -> None:
    """A deadline is for the whole reply: the row stays pending and goes over the next connection."""
    server.change_mood({verb: only_first(fault)})
    all_accepted(bench, run(bench, phase))
    assert server.verbs().count("EHLO") == (1 if verb in {"QUIT", "connect"} else 2)


def test_b01_no_connection(tmp_path: Path) -> None:
    """A port that swallows the first packet: three tries, then resumable, nothing sent."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
        waiting = [socket.socket() for _ in range(2)]
        for each in waiting:
            each.setblocking(False)
            each.connect_ex(full.getsockname())
        bench = Bench(tmp_path / "bench")
        bench.mailmerge.account(_At(full.getsockname()[1]))
        report = run(bench, "connect")
        for each in waiting:
            each.close()
    assert (report.exit_code, set(bench.states().values())) == (5, {Status.PENDING})
    assert "did not answer within 0.15 s" in told(report)


class _At:
    def __init__(self, port: int) -> None:
        self.port = port


def test_b01_no_handshake(tmp_path: Path, certificates: Certificates) -> None:
    """Silence in place of the TLS handshake is waited for as long as the handshake may take."""

    def agree_and_hang(peer: Peer) -> None:
        peer.send(b"220 go ahead\r\n")
        hang(peer)

    with server_with({"STARTTLS": only_first(agree_and_hang)}, tls=certificates.server_context()) as server:
        bench = Bench(tmp_path / "bench", server)
        bench.account(tls="starttls", ca_file=str(certificates.ca_file))
        all_accepted(bench, run(bench, "tls"))


def test_b01_no_answer_to_sign_in(tmp_path: Path) -> None:
    """A sign-in that is never answered is tried again on a new connection."""
    with server_with({"AUTH": only_first(hang)}, users={"ann": "pass word"}) as server:
        bench = Bench(tmp_path / "bench", server)
        bench.account(auth="password", user="ann")
        bench.mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "pass word"
        all_accepted(bench, run(bench, "auth"))


def test_b01_a_body_that_nobody_reads(tmp_path: Path) -> None:
    """Content may take as long as it likes, but not stop: such a row was not accepted, and goes again."""
    held = threading.Event()

    def go_ahead_and_sleep(peer: Peer) -> None:
        peer.send(b"354 go ahead\r\n")
        held.wait(5)
        raise Dropped

    with server_with({"DATA": only_first(go_ahead_and_sleep)}, extensions=()) as server:
        server.read_little()
        bench = Bench(tmp_path / "bench", server)
        bench.write(body_txt="word " * 1_000_000 + "\n")
        report = run(bench, "progress")
        held.set()
        all_accepted(bench, report)


def test_b01_silence_after_the_dot(bench: Bench, server: MoodyServer) -> None:
    """Only this silence leaves a doubt; the others continue over a new connection."""
    server.change_mood({"refuse": only_first(hang)})
    report = run(bench, "content")
    assert report.exit_code == 4
    assert bench.states()[address(1)] is Status.IN_DOUBT
    assert taken_order(server) == EVERYBODY[1:]
    assert "mailmerge resolve" in told(report)


@pytest.mark.parametrize("verb", ["connect", "EHLO", "MAIL", "RCPT", "DATA"])
@pytest.mark.parametrize(
    "fault",
    [
        endless(b"250-and another line\r\n" * 1000),
        raw(b"250 " + b"x" * 1_000_000),
        say("2xx fine"),
        say("250-one", "550 two"),
        raw(b"250 ok\n"),
        say(b"250 a\0b"),
        raw(b"\xff\xfe\r\n"),
    ],
    ids=["endless", "long", "2xx", "mixed", "LF", "NUL", "bytes"],
)
def test_b03_b04_no_reply_at_all(verb: str, fault: Fault, bench: Bench, server: MoodyServer) -> None:
    """Before the dot garbage costs a connection, no row and no memory."""
    server.change_mood({verb: only_first(fault)})
    all_accepted(bench, run(bench))


@pytest.mark.parametrize("reply", [b"250 ok\n", b"2xx\r\n", b"250-a\r\n550 b\r\n", b"250 \0\r\n", b""])
def test_b04_garbage_after_the_dot(reply: bytes, bench: Bench, server: MoodyServer) -> None:
    """Behind the dot the same garbage means that nobody can know."""

    def garble(peer: Peer) -> None:
        peer.send(reply)
        raise Dropped

    server.change_mood({"taken": {2: garble}})
    report = run(bench)
    assert report.exit_code == 4
    assert bench.states() == dict(
        zip(EVERYBODY, (Status.ACCEPTED, Status.IN_DOUBT, Status.ACCEPTED), strict=True)
    )
    bench.check()


def test_b04_foreign_words(bench: Bench, server: MoodyServer) -> None:
    """A reply in GBK is shown in its characters; its octets are kept as they came."""
    bench.knows_server()
    server.change_mood({"RCPT": {2: say(GBK)}})
    report = run(bench)
    assert report.exit_code == 3
    assert "用户不存在" in told(report)
    assert "用户不存在" in (bench.folder / "out" / "results.csv").read_text("utf-8-sig")
    assert (GBK + b"\r\n",) in attempts_of(bench.ledger_path, NAME, "raw")


@pytest.mark.parametrize("verb", ["EHLO", "MAIL", "RCPT"])
@pytest.mark.parametrize("pipeline", ["off", "overlap"])
def test_b05_one_reply_too_many(verb: str, pipeline: str, bench: Bench, server: MoodyServer) -> None:
    """A reply that answers nothing must not be paired with the next command."""
    bench.write(send=f'pipeline = "{pipeline}"')
    server.change_mood({verb: only_first(say("250 2.1.0 fine", "250 2.1.0 and fine"))})
    report = run(bench)
    counts = bench.check()
    assert counts[Status.ACCEPTED] == 3, told(report)
    assert len(server.accepted) == 3


def test_b05_a_reply_that_comes_too_late(bench: Bench, server: MoodyServer) -> None:
    """We have gone by then; the new connection hears nothing of it."""
    server.change_mood({"RCPT": only_first(after(0.4, say("550 5.1.1 no such user")))})
    all_accepted(bench, run(bench, "rcpt"))


# --- B6, B7: closing time -----------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["connect", "EHLO", "MAIL", "RCPT", "DATA", "refuse"])
def test_b06_421_at_any_point(verb: str, bench: Bench, server: MoodyServer) -> None:
    """The server closes: the row stays pending and goes over the next connection, behind the others."""
    bench.knows_server()
    server.change_mood({verb: only_first(say_and_drop("421 4.3.2 closing"))})
    report = run(bench)
    struck = 0 if verb in {"connect", "EHLO"} else 1
    assert (report.exit_code, taken_order(server)) == (0, [*EVERYBODY[struck:], *EVERYBODY[:struck]])
    assert bench.check()[Status.ACCEPTED] == 3


@pytest.mark.parametrize("verb", ["connect", "MAIL"])
def test_b06_421_for_ever(verb: str, bench: Bench, server: MoodyServer) -> None:
    """Three in a row: resumable, nothing sent, the server's words are told."""
    server.change_mood({verb: say_and_drop("421 4.3.2 come back tomorrow")})
    report = run(bench)
    assert (report.exit_code, set(bench.states().values())) == (5, {Status.PENDING})
    assert "421 4.3.2 come back tomorrow" in told(report)
    assert len(server.peers) == 3


@pytest.mark.parametrize(
    "refuse",
    [
        say("451 MI:DMC 127.0.0.1"),
        say("450 RP:DRC"),
        say_and_drop("421 4.7.0 Too many messages in this session"),
        say("452 4.3.2 too many messages per connection"),
    ],
    ids=["DMC", "DRC", "421", "452"],
)
@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_b07_a_cap_per_connection_is_learnt(refuse: Fault, pipeline: str, tmp_path: Path) -> None:
    """The row that met the cap goes again, last; from then on we leave before we are told to."""
    with MoodyServer({"MAIL": Caps(3, refuse)}, mode=pipeline) as server:
        bench = Bench(tmp_path / "bench", server, rows=10)
        bench.write(send=f'pipeline = "{pipeline}"')
        report = run(bench)
        assert report.exit_code == 0, told(report)
        assert bench.check()[Status.ACCEPTED] == 10
        taken = taken_order(server)
        assert sorted(taken) == sorted(address(number) for number in range(1, 11))
        refused = server.verbs().count("MAIL") - 10
        if pipeline == "window":  # each session begins with a trial of BDAT, and its MAIL counts for the cap
            assert refused <= len(server.peers) + 3
        else:
            assert (refused, len(server.peers)) == (1, 4)


# --- B8-B10: refusals ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_b08_an_unknown_recipient(pipeline: str, tmp_path: Path) -> None:
    """One row is rejected, its reply told, its line in failed.csv; everybody else is written to."""
    with MoodyServer({"RCPT": {2: say("550 5.1.1 no such user")}}, mode=pipeline) as server:
        bench = Bench(tmp_path / "bench", server)
        bench.write(send=f'pipeline = "{pipeline}"')
        bench.knows_server()
        report = run(bench)
        assert report.exit_code == 3
        assert "550 5.1.1 no such user" in told(report)
        states = bench.states()
        (refused,) = (who for who, state in states.items() if state is Status.REJECTED)
        assert bench.check()[Status.ACCEPTED] == 2
        assert len(server.peers) == 1
        assert refused in (bench.folder / "out" / "failed.csv").read_text("utf-8")


@pytest.mark.parametrize(
    ("reply", "status", "code"),
    [("550 5.1.1 no such user", Status.REJECTED, 3), ("450 4.2.0 busy", Status.DEFERRED, 5)],
)
@pytest.mark.parametrize("which", [1, 2])
def test_b09_one_of_two_recipients(
    which: int, reply: str, status: Status, code: int, bench: Bench, server: MoodyServer
) -> None:
    """A row is sent whole or not at all: no DATA after a refused recipient."""
    bench.write(message='cc = "boss@example.org"')
    server.change_mood({"RCPT": {which: say(reply)}})
    report = run(bench)
    assert report.exit_code == code, told(report)
    assert bench.states()[address(1)] is status
    assert [len(message.recipients) for message in server.accepted] == [2, 2]
    first = server.verbs()[: server.verbs().index("RSET")]
    assert "DATA" not in first
    assert reply in told(report)


@pytest.mark.parametrize(
    "reply",
    [
        "553 Mail from must equal authorized user",
        "501 mail from address must be same as authorization user",
        "436 MAIL FROM doesn't conform with authentication",
        "550 5.7.60 SMTP; Client does not have permissions to send as this sender",
        "553 5.7.1 sender address rejected",
    ],
)
@pytest.mark.parametrize("pipeline", ["off", "overlap"])
def test_b10_a_refused_sender(reply: str, pipeline: str, bench: Bench, server: MoodyServer) -> None:
    """It would be refused in every row: one MAIL, all rows pending, exit 6 with what to do."""
    bench.write(send=f'pipeline = "{pipeline}"')
    server.change_mood({"MAIL": say(reply)})
    report = run(bench)
    assert (report.exit_code, set(bench.states().values())) == (6, {Status.PENDING})
    assert server.verbs().count("MAIL") == 1
    shown = told(report)
    assert reply in shown
    assert "Send from the account's own address" in shown
    server.change_mood({})
    all_accepted(bench, run(bench))


@pytest.mark.parametrize("fault", [taken_unsaid, abort, drop], ids=["closed", "reset", "dropped"])
def test_b04_no_reply_after_the_dot(fault: Fault, bench: Bench, server: MoodyServer) -> None:
    """Taken or not, the end of the connection in place of the reply leaves a doubt, and says so."""
    server.change_mood({"taken": {2: fault}})
    report = run(bench)
    assert (report.exit_code, bench.states()[address(2)]) == (4, Status.IN_DOUBT)
    assert "the reply was lost after the message had been handed over" in told(report)
    assert taken_order(server) == EVERYBODY  # it was taken in truth: nobody may send it again unasked
