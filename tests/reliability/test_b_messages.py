"""B11-B17 through the whole product: sizes, contents, cuts, wrong ports and long pauses."""

from __future__ import annotations

import csv
import io
import socket
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultd import Dropped, after, hang, raw, say
from mailmerge.model import Status
from reliability.bench import Bench, address, people, taken_order
from reliability.clocks import SkippingClock
from reliability.conversing import (
    PATIENCE,
    Chopped,
    Glued,
    Lax,
    bodies,
    impatient,
    only_first,
    server_with,
    told,
)
from reliability.moody import MoodyServer
from servers.command import one_error

if TYPE_CHECKING:
    from pathlib import Path

    from faultd import Peer
    from servers.aio import AiosmtpdServer
    from servers.certificates import Certificates

EVERYBODY = [address(number) for number in (1, 2, 3)]


def list_of(texts: list[str]) -> str:
    """Write a list with a column ``said``."""
    out = io.StringIO()
    writer = csv.writer(out, quoting=csv.QUOTE_ALL)
    writer.writerow(["email", "name", "said"])
    writer.writerows([address(number), f"P {number}", text] for number, text in enumerate(texts, 1))
    return out.getvalue()


def lines_of(text: str) -> list[str]:
    """Split at any line end, which is all that a mail system may change."""
    return text.replace("\r\n", "\n").replace("\r", "\n").split("\n")


# --- B11, B12: what the server does not take ----------------------------------------------------------------


def test_b11_a_message_over_the_servers_size(tmp_path: Path) -> None:
    """It is never offered; both sizes are told, as encoded; the others go."""
    with server_with(extensions=("SIZE 3000",)) as server:
        bench = Bench(tmp_path / "bench", server)
        texts = ["short", "x " * 3000, "short"]
        bench.write(people_csv=list_of(texts), body_txt="{{ said }}\n")
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
        assert report.exit_code == 3
        assert taken_order(server) == [address(1), address(3)]
        assert server.verbs().count("MAIL") == 2
        assert bench.states()[address(2)] in {Status.INVALID, Status.REJECTED}
        shown = told(report)
        assert "3000" in shown.replace(",", "")
        assert any(str(size) in shown.replace(",", "") for size in range(6000, 6700)), shown


def test_b11_a_server_that_says_it_late(bench: Bench, server: MoodyServer) -> None:
    """A 552 is about the row's size, and final."""
    server.change_mood({"refuse": {2: say("552 5.3.4 Message size exceeds fixed limit")}})
    report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    assert (report.exit_code, bench.states()[address(2)]) == (3, Status.REJECTED)
    assert "552 5.3.4 Message size exceeds fixed limit" in told(report)


def test_b12_seven_bits_and_no_smtputf8(tmp_path: Path) -> None:
    """Without 8BITMIME nothing but ASCII leaves; an address that needs SMTPUTF8 is one invalid row."""
    with server_with(extensions=()) as server:
        bench = Bench(tmp_path / "bench", server)
        people_csv = "email,name\np1@example.net,Zoë\nzoë@example.net,B\np3@müller.example,Ü\n"
        bench.write(people_csv=people_csv, body_txt="Grüße, {{ name }}\n")
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
        assert (report.exit_code, report.counts[Status.INVALID]) == (3, 1)
        assert taken_order(server) == ["p1@example.net", "p3@xn--mller-kva.example"]
        for message in server.accepted:
            assert max(message.content) < 128
        assert bodies(server.accepted)[0].strip() == "Grüße, Zoë"


# --- B13-B15: what arrives is what was written --------------------------------------------------------------

ODD = st.lists(
    st.sampled_from(
        [
            ".",
            "..",
            "\n",
            "\r\n",
            "\r",
            "\n.\n",
            "\r\n.\r\n",
            "\r.\r",
            "a",
            " ",
            "\t",
            "=",
            "é",
            "好",
            "x" * 999,
        ]
    ),
    max_size=12,
).map("".join)


@settings(max_examples=4, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(texts=st.lists(ODD, min_size=25, max_size=25))
def test_b13_the_receiver_reads_what_was_written(
    texts: list[str], aiosmtpd_server: AiosmtpdServer, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Dots, bare line ends and endless lines come out at another program's server as they went in."""
    bench = Bench(tmp_path_factory.mktemp("b13"))
    bench.mailmerge.account(aiosmtpd_server)
    bench.write(people_csv=list_of(texts), body_txt="begin\n{{ said }}\nend\n")
    aiosmtpd_server.messages.clear()
    report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    sendable = [
        text for text, status in zip(texts, bench.states().values(), strict=True) if status != "invalid"
    ]
    assert report.counts[Status.ACCEPTED] == len(sendable) >= 20, told(report)
    for message, text in zip(aiosmtpd_server.received(), sendable, strict=True):
        lines = message.content.split(b"\r\n")
        assert all(len(line) <= 998 and not {0, 10, 13} & set(line) for line in lines)
        read = lines_of(message.parse().get_content())
        assert read[:1] == ["begin"], read
        assert [line.rstrip() for line in read[1:-2]] == [
            line.rstrip() for line in lines_of(text.strip())
        ] or [line.rstrip() for line in read[1:-2]] == [line.rstrip() for line in lines_of(text)]


SMUGGLED = "MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@example.com>\r\nDATA\r\nSubject: hi\r\n\r\nboo"


@pytest.mark.parametrize("kind", [MoodyServer, Lax], ids=["strict", "lax"])
@pytest.mark.parametrize("mode", ["off", "overlap"])
def test_b14_one_message_stays_one(mode: str, kind: type[MoodyServer], tmp_path: Path) -> None:
    """No cell ends its message early, whatever the server takes for an end."""
    ends = ["\n.\n", "\r.\r", "\r.\r\n", "\n.\r\n", "\r\n.\r\n", "\r\n.\n", "\r\n.\r"]
    texts = [f"before{end}{SMUGGLED}{end}after" for end in ends]
    with server_with(kind=kind, mode=mode) as server:
        bench = Bench(tmp_path / "bench", server, rows=len(texts))
        bench.write(people_csv=list_of(texts), body_txt="{{ said }}\n", send=f'pipeline = "{mode}"')
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
        assert report.exit_code == 0, told(report)
        assert taken_order(server) == [address(number) for number in range(1, len(texts) + 1)]
        assert {message.sender for message in server.accepted} == {b"me@example.org"}
        for body in bodies(server.accepted):
            assert body.count("victim@example.com") == 1
            assert body.rstrip().endswith("after")
        bench.check()


@pytest.mark.parametrize("kind", [Chopped, Glued], ids=["byte by byte", "glued together"])
@pytest.mark.parametrize("mode", ["off", "overlap", "window"])
def test_b15_however_replies_are_cut(mode: str, kind: type[MoodyServer], tmp_path: Path) -> None:
    """Replies in single octets or in one piece mean the same."""
    # Neither is in the trial of the window, which tries once more, alone, what was refused.
    faults = {"RCPT": {2: say("550-5.1.1 no", "550 5.1.1 such user"), 6: say("450 4.2.0 busy")}}
    with server_with(faults, kind=kind, mode=mode) as server:
        bench = Bench(tmp_path / "bench", server, rows=6)
        bench.knows_server()
        bench.write(send=f'pipeline = "{mode}"')
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
        counts = bench.check()
        assert (counts[Status.ACCEPTED], counts[Status.REJECTED], counts[Status.DEFERRED]) == (4, 1, 1)
        assert report.exit_code == 5
        assert len(server.peers) == 1


# --- B16: the wrong port ------------------------------------------------------------------------------------


def test_b16_tls_at_a_clear_port(tmp_path: Path) -> None:
    """Exit 6 in the first second: this port answered in clear; which port has which mode."""
    with server_with({"connect": after(0.05, say("220 faultd"))}) as server:
        bench = Bench(tmp_path / "bench", server)
        bench.account(tls="tls")
        done = bench.mailmerge("send", bench.folder, "--yes")
        assert done.code == 6
        one_error(
            done,
            "S625",
            f"port {server.port}",
            "answered in plaintext, implicit TLS was expected",
            "587",
            "465",
        )
        # The first words of TLS are random octets, which may look like lines to the server.
        assert {"EHLO", "HELO", "STARTTLS", "AUTH", "MAIL", "QUIT"}.isdisjoint(server.verbs())
        assert set(bench.states().values()) == {Status.PENDING}


def test_b16_clear_text_at_a_tls_port(
    tmp_path: Path, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server at 465 that says nothing waits for TLS: that is told long before five minutes are over."""
    look_up = socket.getaddrinfo
    with server_with(tls=certificates.server_context(), implicit=True) as server:

        def at_our_server(host: str, _port: int, **more: object) -> object:
            return look_up(host, server.port, **more)  # type: ignore[arg-type]

        monkeypatch.setattr(socket, "getaddrinfo", at_our_server)
        bench = Bench(tmp_path / "bench", server)
        bench.account(tls="starttls", port=465)
        report = bench.send(clock=SkippingClock(), deadlines=impatient("greeting", "wrong_tls"))
        assert report.exit_code == 6
        assert "expects implicit TLS" in told(report)
        assert "465" in told(report)
        assert server.accepted == []


def test_b16_a_web_server(tmp_path: Path) -> None:
    """HTTP is called by its name."""
    with server_with({"connect": raw(b"HTTP/1.1 400 Bad Request\r\n\r\n")}) as server:
        bench = Bench(tmp_path / "bench", server)
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
        assert report.exit_code in {5, 6}
        assert "a web server answered" in told(report)
        assert set(bench.states().values()) == {Status.PENDING}


# --- B17: long pauses ---------------------------------------------------------------------------------------


def test_b17_a_long_pause_gives_the_connection_back(bench: Bench, server: MoodyServer) -> None:
    """Three a minute are twenty seconds apart and keep the connection; one a minute says QUIT in between."""
    bench.write(send='rate = "3/m"')
    assert bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE).exit_code == 0
    assert server.verbs().count("QUIT") == 1
    server.commands.clear()
    bench.write(people_csv=people(6), send='rate = "1/m"')
    bench.rows = 6
    assert bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE).exit_code == 0
    bench.check()
    assert (server.verbs().count("EHLO"), server.verbs().count("QUIT")) == (3, 3)


@pytest.mark.parametrize("farewell", [b"421 4.4.2 idle for too long\r\n", b""], ids=["421", "closed"])
def test_b17_a_server_that_idles_out_is_no_error(farewell: bytes, bench: Bench, server: MoodyServer) -> None:
    """Between two messages the server may go: the next one finds a new connection, nothing is told."""

    def take_and_leave(peer: Peer) -> None:
        peer.send(b"250 2.0.0 taken\r\n" + farewell)
        raise Dropped

    bench.write(send='rate = "6/m"')
    server.change_mood({"taken": take_and_leave})
    report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    assert (report.exit_code, report.notes, report.error) == (0, (), None)
    assert taken_order(server) == EVERYBODY
    assert bench.check()[Status.ACCEPTED] == 3
    assert len(server.peers) == 3


def test_b17_a_server_that_died_meanwhile(bench: Bench, server: MoodyServer) -> None:
    """After a pause the server is asked whether it is still there; if it is not, no row has to suffer."""
    bench.write(send='rate = "6/m"')
    server.change_mood({"NOOP": only_first(hang)})
    report = bench.send(clock=SkippingClock(), deadlines=impatient("liveness"))
    assert (report.exit_code, taken_order(server)) == (0, EVERYBODY)
    assert len(server.peers) == 2
