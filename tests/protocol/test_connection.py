"""Connections against servers that drop, stall, trickle, lie and refuse: real sockets, real TLS."""

from __future__ import annotations

import base64
import datetime as dt
import socket
import ssl
import time
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING

import pytest
import trustme
from msgspec.structs import replace

from faultd import (
    Dropped,
    FaultServer,
    abort,
    after,
    drop,
    endless,
    hang,
    raw,
    say,
    say_and_drop,
    slowly,
    trickle,
)
from mailmerge.addresses import Address
from mailmerge.errors import AuthError, ConnectionLost, InputError, ProtocolError, SessionError, TlsError
from mailmerge.model import Envelope, Message, Outcome, Phase, Scope, Status
from mailmerge.smtp.connect import block
from mailmerge.smtp.connection import Connection, Credentials, Deadlines, Endpoint, ServerProfile
from mailmerge.smtp.state import Closed, Completed, Event, ReleaseNeeded, Revised

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator
    from pathlib import Path

    from faultd import Fault, Peer
    from mailmerge.smtp.deadlines import Wait

PATIENCE = Deadlines(**dict.fromkeys(Deadlines.__struct_fields__, 5.0))


def impatient(*phases: str) -> Deadlines:
    """Return short deadlines for *phases* only, so that a busy machine fails no other."""
    return replace(PATIENCE, **dict.fromkeys(phases, 0.08))


CHUNKING = ("PIPELINING", "CHUNKING", "SIZE 10000000")


def message(number: int, *, recipients: int = 1, size: int = 0) -> Message:
    """Return a small message, or one of about *size* octets."""
    body = b"x" * 70 + b"\r\n"
    return Message(
        f"<{number}@example.org>",
        str(number),
        number,
        Envelope(
            Address("me", "example.org"),
            tuple(Address(f"to{number}.{i}", "example.net") for i in range(recipients)),
        ),
        (b"Subject: %d\r\n\r\n" % number, b"hello\r\n", body * (size // len(body))),
    )


class Run:
    """A minimal sender: offers, releases immediately, collects outcomes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.outcomes: dict[int, Outcome] = {}
        self.closed: Closed | None = None
        self.released: list[int] = []
        self.most_in_flight = 0
        self.modes: list[str] = []

    def send(self, messages: Iterable[Message], seconds: float = 5.0) -> Run:
        """Hand all *messages* over, until they are completed or the connection is gone."""
        queue = list(messages)
        until = time.monotonic() + seconds
        while (queue or self.connection.in_flight) and self.closed is None:
            assert time.monotonic() < until, "the run takes too long"
            while queue and self.connection.can_accept():
                offered = queue.pop(0)
                self.connection.submit(offered, offered.row)
                self.modes.append(self.connection.mode)
            self.most_in_flight = max(self.most_in_flight, self.connection.in_flight)
            self.take(0.05)
        return self

    def take(self, timeout: float) -> None:
        """Poll once and react."""
        needed = []
        for event in self.connection.poll(timeout):
            match event:
                case ReleaseNeeded(token):
                    needed.append(token)
                case Completed(token, outcome):
                    assert token not in self.outcomes
                    self.outcomes[token] = outcome
                case Revised(token, outcome):
                    self.outcomes[token] = outcome
                case Closed():
                    assert self.closed is None
                    self.closed = event
        self.released += needed
        self.connection.release(needed)

    def wait_closed(self, seconds: float = 3.0) -> Closed:
        """Poll until the end of the connection is reported."""
        until = time.monotonic() + seconds
        while self.closed is None:
            assert time.monotonic() < until, "no end in sight"
            self.take(0.05)
        return self.closed

    def statuses(self) -> list[Status]:
        """Return the outcomes' statuses by row."""
        return [self.outcomes[token].status for token in sorted(self.outcomes)]


def dial(server: FaultServer, **options: object) -> Connection:
    """Return a connection in clear to *server*, which is known to support pipelining, not yet open."""
    settings = {"deadlines": PATIENCE, "profile": ServerProfile(borne=True), **options}
    return Connection(Endpoint("127.0.0.1", server.port, "none", "client.example"), **settings)  # type: ignore[arg-type]


@contextmanager
def opened(server: FaultServer, **options: object) -> Iterator[Run]:
    """Open a connection, close it at the end."""
    with closing(dial(server, **options)) as connection:
        connection.open()
        yield Run(connection)


def refused_open(connection: Connection) -> SessionError:
    """Return the error of a connection that must not open."""
    with closing(connection), pytest.raises(SessionError) as caught:
        connection.open()
    assert not connection.opened
    assert connection.fileno() == -1
    return caught.value


# --- the good case ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("extensions", "pipeline", "mode", "most"),
    [
        ((), "auto", "off", 1),
        (("PIPELINING",), "off", "off", 1),
        (("PIPELINING",), "auto", "overlap", 2),
        (("PIPELINING",), "window", "overlap", 2),
        (CHUNKING, "auto", "overlap", 2),
        (CHUNKING, "window", "window", 8),
    ],
)
def test_modes(extensions: tuple[str, ...], pipeline: str, mode: str, most: int) -> None:
    """Each mode is used where the last EHLO allows it, and delivers every message once, in order."""
    with FaultServer(extensions=extensions) as server:
        with opened(server, pipeline=pipeline) as run:
            messages = [message(n, recipients=2 if n == 7 else 1) for n in range(1, 31)]
            run.send(messages)
            assert run.modes[-1] == mode
        assert run.statuses() == [Status.ACCEPTED] * 30
        assert [m.content for m in server.accepted] == [m.content for m in messages]
        assert server.accepted[6].recipients == (b"to7.0@example.net", b"to7.1@example.net")
        assert run.most_in_flight == most or (mode == "window" and run.most_in_flight >= most)
        assert server.verbs()[-1] == "QUIT"


@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
@pytest.mark.parametrize("encrypted", [False, True])
@pytest.mark.parametrize("size", [0, 300_000])
def test_release_precedes_the_end(
    pipeline: str, encrypted: bool, size: int, certificate: ssl.SSLContext, authority: Path
) -> None:
    """Before release() is called the server has not received the end of the content, small or large."""
    tls = certificate if encrypted else None
    with FaultServer(extensions=("PIPELINING", "CHUNKING"), tls=tls, implicit=True) as server:
        connection = secure(server, "tls" if encrypted else "none", ca=authority, pipeline=pipeline)
        with closing(connection):
            connection.open()
            sent = message(1, size=size)
            connection.submit(sent, 1)
            events: list[Event] = []
            while not events:
                events = connection.poll(0.05)
            assert events == [ReleaseNeeded(1)]
            assert connection.poll(0.03) == []
            kept_back = min(sent.size, 64 * 1024 - len(b".\r\n"))
            assert server.wait_for(lambda: server.octets >= sent.size - kept_back)
            assert connection.poll(0.03) == []
            commands = sum(len(command) + 2 for command in server.commands)
            assert server.octets <= commands + len(b"XXXX\r\n") + sent.size - kept_back
            assert not server.accepted
            connection.release([1])
            run = Run(connection)
            while not run.outcomes:
                run.take(0.05)
        assert run.statuses() == [Status.ACCEPTED]
        assert [m.content for m in server.accepted] == [sent.content]


# --- B1, B2, B3: time and size ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("verb", "words"),
    [("connect", "sent nothing within 0.08 s"), ("EHLO", "did not answer EHLO within 0.08 s")],
)
@pytest.mark.parametrize("fault", [hang, trickle("220-much to say", 0.02), trickle("250 " + "x" * 99, 0.02)])
def test_b1_b2_no_opening(verb: str, words: str, fault: Fault) -> None:
    """A silent or trickling server is given up at the total deadline of the reply, not of each octet."""
    with FaultServer({verb: fault}) as server:
        began = time.monotonic()
        error = refused_open(dial(server, deadlines=impatient("greeting", "ehlo")))
        assert time.monotonic() - began < 1
    assert isinstance(error, ConnectionLost)
    assert error.code == "S613"
    assert words in error.message


@pytest.mark.parametrize(
    ("verb", "phase", "status"),
    [
        ("MAIL", Phase.MAIL, Status.PENDING),
        ("RCPT", Phase.RCPT, Status.PENDING),
        ("DATA", Phase.DATA, Status.PENDING),
        ("content", Phase.CONTENT, Status.IN_DOUBT),
    ],
)
@pytest.mark.parametrize("fault", [hang, trickle("250 very slowly spoken", 0.02), drop, abort])
@pytest.mark.parametrize("pipeline", ["off", "overlap"])
def test_loss_at_each_phase(verb: str, phase: Phase, status: Status, fault: Fault, pipeline: str) -> None:
    """Only a message that was written whole is in doubt; before that it stays pending."""
    slow = fault not in {drop, abort}
    deadlines = impatient(verb.lower()) if slow else PATIENCE
    with FaultServer({verb: fault}) as server, opened(server, pipeline=pipeline, deadlines=deadlines) as run:
        run.send([message(1)])
        error = run.wait_closed().error
    outcome = run.outcomes[1]
    assert (outcome.status, outcome.phase, outcome.scope) == (status, phase, Scope.CONNECTION)
    assert isinstance(error, ConnectionLost)
    assert error.code == ("S613" if slow else "S610")
    assert outcome.reason == ("timeout" if slow else "dropped")


def test_b1_content_without_progress() -> None:
    """A server that stops reading a long content is given up, and the message is not in doubt."""
    with FaultServer({"DATA": slowly("354 go", 9)}, extensions=("PIPELINING",)) as server:
        server.read_little()
        with opened(server, deadlines=impatient("progress")) as run:
            run.send([message(1, size=9_000_000)])
            error = run.wait_closed().error
    assert error
    assert error.code == "S613"
    assert "accepted no more data" in error.message
    assert run.statuses() == [Status.PENDING]
    assert not server.accepted


def test_slow_upload_is_no_timeout() -> None:
    """Content may take longer than any deadline while it makes progress."""
    with FaultServer({"DATA": slowly("354 go", 0.003)}, extensions=("PIPELINING",)) as server:
        server.read_little()
        with opened(server, deadlines=replace(PATIENCE, progress=0.3)) as run:
            began = time.monotonic()
            run.send([message(1, size=2_000_000)])
            assert time.monotonic() - began > 0.3
    assert run.statuses() == [Status.ACCEPTED]
    assert len(server.accepted[0].content) > 1_900_000


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (endless(b"220-" + b"x" * 90 + b"\r\n"), "S633"),
        (endless(b"220-x\r\n"), "S633"),
        (endless(b"220 " + b"x" * 1000), "S633"),
        (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "S630"),
        (raw(b"HTTP/1.1 400 Bad Request\r\n"), "S631"),
        (raw(b"2xx hello\r\n"), "S630"),
        (raw(b"220-one\r\n250 two\r\n"), "S630"),
        (raw(b"220 only LF\n"), "S630"),
        (raw(b"220 a\0b\r\n"), "S630"),
    ],
)
def test_b3_b4_no_smtp(fault: Fault, code: str) -> None:
    """What is not SMTP, or never ends, is a protocol error immediately."""
    with FaultServer({"connect": fault}) as server:
        error = refused_open(dial(server))
    assert isinstance(error, ProtocolError)
    assert error.code == code


@pytest.mark.parametrize(("verb", "status"), [("RCPT", Status.PENDING), ("content", Status.IN_DOUBT)])
@pytest.mark.parametrize("reply", [b"25x ok\r\n", b"250-a\r\n550 b\r\n", b"250 \0\r\n", b"350 odd\r\n"])
def test_b4_garbage_for_a_reply(verb: str, status: Status, reply: bytes) -> None:
    """Garbage closes the connection; the message is in doubt only if it was written whole."""
    with FaultServer({verb: raw(reply)}) as server, opened(server) as run:
        run.send([message(1)])
        assert isinstance(run.wait_closed().error, ProtocolError)
    assert run.statuses() == [status]


def test_b5_reply_nobody_asked_for() -> None:
    """Data that waits before a command is sent is paired with nothing; which 250 was row 1's nobody knows."""
    with FaultServer({"content": {1: say("250 2.0.0 queued", "250 2.0.0 again")}}) as server:
        profile = ServerProfile()
        with opened(server, profile=profile) as run:
            run.send([message(1)])
            run.take(0.05)
            if run.closed is None:
                run.send([message(2)])
            error = run.wait_closed().error
        assert isinstance(error, ProtocolError)
        assert error.code == "S632"
        assert run.outcomes[1].status is Status.IN_DOUBT
        assert profile.ceiling == "grouped"
        assert "MAIL" not in server.verbs()[4:]


def test_b5_late_reply_is_not_reused() -> None:
    """After a timeout the connection is closed: the late reply finds nobody."""
    with (
        FaultServer({"RCPT": {1: after(0.3, say("250 late"))}}) as server,
        opened(server, deadlines=impatient("rcpt")) as run,
    ):
        run.send([message(1)])
        assert run.wait_closed().error
        assert not run.connection.opened
        run.connection.open()
        second = Run(run.connection).send([message(2)])
    assert run.statuses() == [Status.PENDING]
    assert second.statuses() == [Status.ACCEPTED]


# --- refusals and 421 ------------------------------------------------------------------------------------


@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_b8_refused_recipient_is_one_row(pipeline: str) -> None:
    """A refused recipient is one rejected row; the others are delivered, each once."""
    faults = {"RCPT": {2: say("550 5.1.1 no such user"), 4: say("450 4.2.0 greylisted, try again")}}
    with FaultServer(faults, extensions=CHUNKING) as server, opened(server, pipeline=pipeline) as run:
        run.send(message(n) for n in range(1, 7))
        accepted = [m.content.split(b"\r\n")[0] for m in server.accepted]
    expected = [Status.ACCEPTED] * 6
    expected[1], expected[3] = Status.REJECTED, Status.DEFERRED
    assert run.statuses() == expected
    assert run.outcomes[2].reason == "recipient"
    assert run.outcomes[2].refused[0][0] == Address("to2.0", "example.net")
    assert accepted == [b"Subject: %d" % n for n in (1, 3, 5, 6)]


@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_b9_several_recipients_are_a_barrier(pipeline: str) -> None:
    """If one recipient of a row is refused nothing of the row is sent, not even an empty message."""
    faults = {"RCPT": {3: say("550 5.1.1 no such user")}}
    with FaultServer(faults, extensions=CHUNKING) as server, opened(server, pipeline=pipeline) as run:
        run.send([message(1), message(2, recipients=3), message(3, recipients=2)])
        assert run.statuses() == [Status.ACCEPTED, Status.REJECTED, Status.ACCEPTED]
        assert [m.recipients for m in server.accepted] == [
            (b"to1.0@example.net",),
            (b"to3.0@example.net", b"to3.1@example.net"),
        ]
        verbs = server.verbs()
    refused = next(i for i, command in enumerate(server.commands) if b"to2.2@" in command)
    assert verbs[refused + 1] == "RSET"
    assert [str(address) for address, _ in run.outcomes[2].refused] == ["to2.1@example.net"]


@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_b10_refused_sender_is_met_once(pipeline: str) -> None:
    """After a refusal that is about the account no other message begins; all stay pending."""
    fault = {"MAIL": say("553 5.7.1 Mail from must equal authorized user")}
    with FaultServer(fault) as server, opened(server, pipeline=pipeline) as run:
        for number in (1, 2):
            if run.connection.can_accept():
                run.connection.submit(message(number), number)
        while run.connection.in_flight:
            run.take(0.05)
        assert server.verbs().count("MAIL") == 1
    assert set(run.statuses()) == {Status.PENDING}
    assert run.outcomes[1].scope is Scope.CONFIG
    assert run.outcomes[1].reason == "sender"


@pytest.mark.parametrize(
    ("verb", "status", "scope"),
    [
        ("MAIL", Status.PENDING, Scope.CONNECTION),
        ("RCPT", Status.PENDING, Scope.CONNECTION),
        ("DATA", Status.PENDING, Scope.CONNECTION),
        ("content", Status.PENDING, Scope.CONNECTION),
    ],
)
@pytest.mark.parametrize("stays", [False, True])
def test_b6_421_anywhere(verb: str, status: Status, scope: Scope, stays: bool) -> None:
    """A 421 is its command's reply, whether the server then closes or answers on: the row is pending."""
    fault = say("421 4.3.2 closing") if stays else say_and_drop("421 4.3.2 closing")
    with FaultServer({verb: fault}) as server, opened(server) as run:
        run.send([message(1)])
        error = run.wait_closed().error
        assert isinstance(error, ConnectionLost)
        assert error.reply
        assert error.reply.code == 421
    outcome = run.outcomes[1]
    assert (outcome.status, outcome.scope) == (status, scope)
    assert outcome.reply
    assert outcome.reply.code == 421


def test_b7_cap_is_learnt() -> None:
    """After a 421 behind three messages, later sessions stop at three of their own accord."""
    faults = {"MAIL": {4: say_and_drop("421 4.7.0 too many messages here")}}
    profile = ServerProfile()
    with FaultServer(faults) as server:
        with opened(server, pipeline="off", profile=profile) as run:
            run.send(message(n) for n in range(1, 9))
            assert run.wait_closed()
            assert run.statuses() == [Status.ACCEPTED] * 3 + [Status.PENDING]
            assert profile.messages_per_connection == 3
            run.connection.open()
            second = Run(run.connection).send(message(n) for n in range(4, 9))
            assert second.wait_closed().error is None
            assert second.statuses() == [Status.ACCEPTED] * 3
        assert server.verbs()[-1] == "QUIT"


def test_limits_mailmax_is_kept() -> None:
    """A server that states how many messages a session takes is left after as many (RFC 9422)."""
    with FaultServer(extensions=("PIPELINING", "LIMITS MAILMAX=2 RCPTMAX=100")) as server:
        with opened(server) as run:
            run.send(message(n) for n in range(1, 5))
            assert run.wait_closed().error is None
        assert run.statuses() == [Status.ACCEPTED] * 2
        assert server.verbs()[-1] == "QUIT"


def test_a8_closed_after_250() -> None:
    """A server that closes right after 250 has taken the message, and nobody is to blame."""
    with FaultServer({"content": say_and_drop("250 2.0.0 queued")}) as server, opened(server) as run:
        run.send([message(1)])
        assert run.wait_closed().error is None
    assert run.statuses() == [Status.ACCEPTED]


@pytest.mark.parametrize("goodbye", [b"", b"421 4.4.2 idle too long\r\n"])
def test_b17_idle_end_is_no_error(goodbye: bytes) -> None:
    """A server that ends an idle session blames no row and raises no error."""

    def idle_out(peer: Peer) -> None:
        peer.send(b"250 2.0.0 queued\r\n")
        peer.server.stopping.wait(0.05)
        peer.send(goodbye)
        raise Dropped

    with FaultServer({"content": idle_out}) as server, opened(server) as run:
        run.send([message(1)])
        assert run.wait_closed().error is None
        assert not run.connection.opened
    assert run.statuses() == [Status.ACCEPTED]


def answer(steps: Generator[Wait, None, bool]) -> bool:
    """Wait for whatever is wanted, and give the answer in the end."""
    while True:
        try:
            block(next(steps))
        except StopIteration as done:
            return bool(done.value)


def test_a21_probe() -> None:
    """NOOP tells a live server from a dead one before the next message is offered."""
    with FaultServer({"NOOP": {2: drop}}) as server, opened(server) as run:
        run.send([message(1)])
        assert answer(run.connection.probing()) is True
        run.send([message(2)])
        assert answer(run.connection.probing()) is False
        assert run.wait_closed().error is None
    assert run.statuses() == [Status.ACCEPTED] * 2


def test_b11_over_size_is_refused_at_home() -> None:
    """A message over the server's SIZE is refused without a word on the wire."""
    with FaultServer(extensions=("SIZE 1000",)) as server, opened(server) as run:
        run.send([message(1, size=2000)])
        assert run.connection.max_size == 1000
        outcome = run.outcomes[1]
        assert (outcome.status, outcome.reason, outcome.scope) == (Status.REJECTED, "size", Scope.ROW)
        assert "1000" in str(outcome.hint)
        assert server.verbs() == ["EHLO"]


@pytest.mark.parametrize("pipeline", ["overlap", "window"])
def test_in_doubt_is_exactly_what_was_written(pipeline: str) -> None:
    """At a drop, messages written whole and unanswered are in doubt; the others are not."""
    faults = {"content": {5: drop}, "BDAT": {20: drop}}
    with FaultServer(faults, extensions=CHUNKING) as server, opened(server, pipeline=pipeline) as run:
        run.send(message(n) for n in range(1, 40))
        error = run.wait_closed().error
        statuses = run.statuses()
        taken = len(server.accepted)
    assert isinstance(error, ConnectionLost)
    assert statuses[:taken] == [Status.ACCEPTED] * len(statuses[:taken])
    doubtful = statuses.count(Status.IN_DOUBT)
    assert statuses == [Status.ACCEPTED] * taken + [Status.IN_DOUBT] * doubtful + [Status.PENDING] * (
        len(statuses) - taken - doubtful
    )
    assert doubtful == 1 if pipeline == "overlap" else 2 <= doubtful <= 64


def test_reset_keeps_replies_that_arrived_before() -> None:
    """Replies already on their way count, though the server resets the connection behind them."""

    def answer_and_reset(peer: Peer) -> None:
        peer.send(b"250 2.0.0 queued\r\n")
        time.sleep(0.02)
        abort(peer)

    with FaultServer({"content": answer_and_reset}) as server, opened(server, pipeline="off") as run:
        run.send([message(1)])
    assert run.statuses() == [Status.ACCEPTED]


# --- window mode: only after the proof -------------------------------------------------------------------


def test_proof_fails_on_a_server_that_executes_content() -> None:
    """A server that takes a refused chunk for commands is found out before any message is sent."""
    profile = ServerProfile()
    with FaultServer(extensions=CHUNKING, discards=False) as server:
        with opened(server, pipeline="window", profile=profile) as run:
            run.send([message(1)])
            assert isinstance(run.wait_closed().error, ProtocolError)
            assert run.statuses() == [Status.PENDING]
            assert profile.ceiling == "overlap"
            run.connection.open()
            second = Run(run.connection).send(message(n) for n in range(1, 4))
        assert second.statuses() == [Status.ACCEPTED] * 3
        assert second.modes == ["overlap"] * 3
        assert server.verbs().count("BDAT") == 1


def test_window_steps_back_at_refusals() -> None:
    """Three refusals in a row shut the window until a message is accepted by DATA."""
    faults = {"RCPT": {n: say("550 5.1.1 no such user") for n in (1, 2, 3, 4)}}
    with FaultServer(faults, extensions=CHUNKING) as server, opened(server, pipeline="window") as run:
        run.send(message(n) for n in range(1, 12))
        assert run.statuses() == [Status.REJECTED] * 4 + [Status.ACCEPTED] * 7
        assert run.modes[4:6] == ["overlap", "overlap"]
        assert run.modes[-1] == "window"
        mails = [i for i, verb in enumerate(server.verbs()) if verb == "MAIL"]
        assert all(server.verbs()[i - 1] in {"RSET", "EHLO"} for i in mails[:4])


# --- C: TLS and sign-in ----------------------------------------------------------------------------------


def secure(
    server: FaultServer, tls: str = "starttls", *, ca: Path | None = None, **options: object
) -> Connection:
    """Return a connection that wants TLS, to ``localhost``."""
    settings = {"deadlines": PATIENCE, **options}
    return Connection(Endpoint("localhost", server.port, tls, "me", ca), **settings)  # type: ignore[arg-type]


PASSWORD = Credentials("ann@example.org", "password", lambda: "s3cret-pass")


@pytest.fixture(scope="module")
def ca() -> trustme.CA:
    """A certificate authority."""
    return trustme.CA(key_type=trustme.KeyType.ECDSA)


@pytest.fixture(scope="module")
def authority(ca: trustme.CA, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its certificate as a file."""
    path = tmp_path_factory.mktemp("ca") / "ca.pem"
    ca.cert_pem.write_to_path(str(path))
    return path


def context(ca: trustme.CA, *names: str, **options: object) -> ssl.SSLContext:
    """Return a server's context with a certificate for *names*."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA, **options).configure_cert(made)  # type: ignore[arg-type]
    return made


@pytest.fixture(scope="module")
def certificate(ca: trustme.CA) -> ssl.SSLContext:
    """A certificate for localhost."""
    return context(ca, "localhost")


@pytest.mark.parametrize("implicit", [False, True])
@pytest.mark.parametrize("pipeline", ["off", "window"])
def test_tls_and_sign_in(implicit: bool, pipeline: str, certificate: ssl.SSLContext, authority: Path) -> None:
    """Over TLS, implicit or by STARTTLS, the user signs in and messages of any size arrive."""
    with FaultServer(
        tls=certificate, implicit=implicit, users={"ann@example.org": "s3cret-pass"}, extensions=CHUNKING
    ) as server:
        lines: list[str] = []
        with closing(
            secure(
                server,
                "tls" if implicit else "starttls",
                ca=authority,
                credentials=PASSWORD,
                pipeline=pipeline,
                transcript=lines.append,
            )
        ) as connection:
            connection.open()
            run = Run(connection).send([message(1), message(2, size=500_000), *map(message, range(3, 20))])
        assert run.statuses() == [Status.ACCEPTED] * 19
        assert len(server.accepted[1].content) > 499_000
        assert server.verbs().count("EHLO") == (2 if implicit else 3)
        text = "\n".join(lines)
        assert "C: AUTH PLAIN ****" in text
        blob = base64.b64encode(b"\0ann@example.org\0s3cret-pass").decode()
        for secret in ("s3cret-pass", base64.b64encode(b"s3cret-pass").decode(), blob):
            assert secret not in text
        assert f"C: <{message(1).size} octets of content>" in text


def test_c1_one_mechanism_only(certificate: ssl.SSLContext, authority: Path) -> None:
    """A refused sign-in is final: one AUTH, the server's words, exit code 6."""
    with FaultServer({"AUTH": say_and_drop("535 Login fail")}, tls=certificate, users={"x": "y"}) as server:
        error = refused_open(secure(server, ca=authority, credentials=PASSWORD))
        assert isinstance(error, AuthError)
        assert (error.code, error.exit_code) == ("S601", 6)
        assert "535 Login fail" in error.message
        assert "authorization code" in str(error.hint)
        assert server.verbs().count("AUTH") == 1


def test_c2_sign_in_later(certificate: ssl.SSLContext, authority: Path) -> None:
    """A temporary refusal to sign in says when to try again, and is exit code 5."""
    fault = {"AUTH": say("454 4.7.0 Temporary authentication failure")}
    with FaultServer(fault, tls=certificate, users={"x": "y"}) as server:
        error = refused_open(secure(server, ca=authority, credentials=PASSWORD))
    assert (error.code, error.exit_code, error.retry_after) == ("S602", 5, 600)


def test_c5_starttls_missing_or_refused(certificate: ssl.SSLContext, authority: Path) -> None:
    """Without STARTTLS nothing but EHLO and STARTTLS is ever said in clear."""
    with FaultServer(users={"x": "y"}) as server:
        stripped = refused_open(secure(server, ca=authority, credentials=PASSWORD))
        assert server.verbs() == ["EHLO"]
    with FaultServer({"STARTTLS": say("454 4.7.0 not now")}, tls=certificate, users={"x": "y"}) as server:
        refused = refused_open(secure(server, ca=authority, credentials=PASSWORD))
        assert server.verbs() == ["EHLO", "STARTTLS"]
    for error, code in ((stripped, "S626"), (refused, "S627")):
        assert isinstance(error, TlsError)
        assert (error.code, error.exit_code) == (code, 6)


@pytest.mark.parametrize("pause", [None, 0.02])
def test_c6_injected_before_the_handshake(
    pause: float | None, certificate: ssl.SSLContext, authority: Path
) -> None:
    """Octets in clear behind the 220 to STARTTLS end the session, glued to it or not."""

    def inject(peer: Peer) -> None:
        peer.send(b"220 go" + (b"\r\n250 AUTH PLAIN\r\n" if pause is None else b"\r\n"))
        if pause:
            time.sleep(pause)
            peer.send(b"250 AUTH PLAIN\r\n")
        hang(peer)

    with FaultServer({"STARTTLS": inject}, tls=certificate, users={"x": "y"}) as server:
        error = refused_open(secure(server, ca=authority, credentials=PASSWORD))
        assert isinstance(error, TlsError)
        assert error.code == ("S628" if pause is None else "S625")
        assert server.verbs() == ["EHLO", "STARTTLS"]


def test_c7_certificates(ca: trustme.CA, certificate: ssl.SSLContext, authority: Path) -> None:
    """Each kind of bad certificate has its own words and code; all are exit code 6."""
    past = dt.datetime.now(dt.UTC) - dt.timedelta(days=2)
    cases = [
        (certificate, None, "S621", "authority we trust"),
        (context(ca, "localhost", not_after=past), authority, "S622", "has expired"),
        (context(ca, "mail.example.net"), authority, "S623", "not for localhost"),
    ]
    for served, trusted, code, words in cases:
        for mode in ("tls", "starttls"):
            with FaultServer(tls=served, implicit=mode == "tls", users={"x": "y"}) as server:
                error = refused_open(secure(server, mode, ca=trusted, credentials=PASSWORD))
                assert isinstance(error, TlsError)
                assert (error.code, error.exit_code) == (code, 6)
                assert words in error.message
                assert "AUTH" not in server.verbs()


def test_c7_insecure_is_for_loopback(certificate: ssl.SSLContext) -> None:
    """An unverified certificate is accepted on this machine and nowhere else."""
    with (
        FaultServer(tls=certificate, implicit=True) as server,
        closing(
            Connection(Endpoint("localhost", server.port, "tls", "me", insecure=True), deadlines=PATIENCE)
        ) as connection,
    ):
        connection.open()
        assert connection.opened
    with pytest.raises(InputError, match="must be verified"):
        Endpoint("mail.example.org", 465, "tls", "me", insecure=True)


def test_c7_unreadable_authority(certificate: ssl.SSLContext, tmp_path: Path) -> None:
    """A file of authorities that is missing is named."""
    with FaultServer(tls=certificate, implicit=True) as server:
        connection = secure(server, "tls", ca=tmp_path / "none.pem")
        with closing(connection), pytest.raises(InputError, match=r"none\.pem"):
            connection.open()


def test_b16_wrong_tls_mode(certificate: ssl.SSLContext, authority: Path) -> None:
    """TLS at a clear port and clear text at a TLS port both say which is which."""
    with FaultServer({"connect": after(0.03, say("220 faultd"))}) as server:
        error = refused_open(secure(server, "tls", ca=authority))
        assert isinstance(error, TlsError)
        assert error.code == "S625"
        assert "answered in plaintext, implicit TLS was expected: '220 faultd'" in error.message
    with FaultServer() as server:  # speaks first: perhaps before our first look
        error = refused_open(secure(server, "tls", ca=authority))
        assert (error.code, error.exit_code) == ("S625", 6)
    with FaultServer({"connect": raw(b"\x15\x03\x01\0\x02\x02\x46")}) as server:
        error = refused_open(secure(server, "starttls", ca=authority))
        assert isinstance(error, TlsError)
        assert (error.code, error.exit_code) == ("S625", 6)
    with FaultServer(tls=certificate, implicit=True) as server:
        error = refused_open(secure(server, "starttls", ca=authority, deadlines=impatient("greeting")))
        assert error.code == "S613"
        assert "port 465" in str(error.hint)
    with FaultServer(tls=certificate, implicit=True) as server:  # long before it gives up waiting
        patient_enough = replace(PATIENCE, wrong_tls=0.5)
        error = refused_open(secure(server, "starttls", ca=authority, deadlines=patient_enough))
        assert isinstance(error, TlsError)
        assert error.code == "S625"
        assert "expects implicit TLS" in error.message
    with FaultServer({"connect": {1: after(0.6, say("220 slow"))}}) as server:  # slow is not wrong
        connection = secure(server, "none", ca=authority, deadlines=impatient("wrong_tls"))
        with closing(connection):
            connection.open()
            assert connection.opened
    with FaultServer({"connect": after(0.03, raw(b"HTTP/1.1 400 Bad Request\r\n\r\n"))}) as server:
        error = refused_open(secure(server, "tls", ca=authority))
        assert error.code == "S631"


# --- names and ports -------------------------------------------------------------------------------------


def test_a23_name_and_port() -> None:
    """A name that does not exist and a closed port are told apart."""
    server = Endpoint("no-such-host.invalid", 465, "tls", "me")
    error = refused_open(Connection(server, deadlines=PATIENCE))
    assert isinstance(error, ConnectionLost)
    assert error.code in {"S611", "S614"}  # S614: this machine has no resolver at all
    if error.code == "S611":
        assert error.exit_code == 2
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    error = refused_open(Connection(Endpoint("127.0.0.1", port, "none", "me"), deadlines=PATIENCE))
    assert (error.code, error.exit_code) == ("S612", 5)


def test_each_address_is_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """If the first address of a name refuses us, the next one is tried."""
    with FaultServer() as server:
        first = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.2", 1))
        second = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port))
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [first, second])
        with opened(server) as run:
            assert run.connection.opened


@pytest.mark.parametrize("reply", ["554 5.7.1 no", "421 4.7.0 busy"])
def test_refused_greeting(reply: str) -> None:
    """A server that refuses to talk is quoted."""
    with FaultServer({"connect": say_and_drop(reply)}) as server:
        error = refused_open(dial(server))
    assert error.code == "S615"
    assert reply in error.message


@pytest.mark.parametrize("text", ["a\r\nMAIL FROM:<x>", "a b", "", "a\0"])
def test_c10_no_line_breaks(text: str) -> None:
    """Host, EHLO name and user with a line break are refused before connecting."""
    with pytest.raises(InputError):
        Endpoint(text, 25, "none", "me")
    with pytest.raises(InputError):
        Endpoint("localhost", 25, "none", text)
    if text not in {"", "a b"}:
        with pytest.raises(InputError):
            Credentials(text, "password", lambda: "x")
