"""Our connection against servers that others wrote, in every mode, with refusals among the messages."""

from __future__ import annotations

from contextlib import closing

import pytest

from mailmerge.addresses import Address
from mailmerge.model import Envelope, Message, Outcome, Status
from mailmerge.smtp.connection import Connection, Credentials, Endpoint
from mailmerge.smtp.state import Closed, Completed, ReleaseNeeded


def message(number: int, to: str = "", *, size: int = 0) -> Message:
    """Return message *number*."""
    recipient = Address(*to.split("@")) if to else Address(f"to{number}", "example.com")
    text = (
        b"From: me@example.org\r\nTo: %b\r\nSubject: %d\r\nMessage-ID: <%d@example.org>\r\n\r\nline one\r\n"
        % (str(recipient).encode(), number, number)
    )
    body = (b"x" * 70 + b"\r\n") * (size // 72)
    return Message(
        f"<{number}@example.org>",
        str(number),
        number,
        Envelope(Address("me", "example.org"), (recipient,)),
        (text, body),
    )


def deliver(connection: Connection, messages: list[Message]) -> dict[int, Outcome]:
    """Hand all *messages* over and return their outcomes."""
    outcomes: dict[int, Outcome] = {}
    queue = list(messages)
    with closing(connection):
        connection.open()
        while len(outcomes) < len(messages):
            while queue and connection.can_accept():
                offered = queue.pop(0)
                connection.submit(offered, offered.row)
            events = connection.poll(10)
            assert events, "the server is stuck"
            for event in events:
                if isinstance(event, Completed):
                    outcomes[event.token] = event.outcome
                assert not isinstance(event, Closed), event
            connection.release([event.token for event in events if isinstance(event, ReleaseNeeded)])
    return outcomes


def mixed() -> list[Message]:
    """Return 60 messages: one large, one refused, one put off."""
    messages = [message(number) for number in range(60)]
    messages[7] = message(7, size=400_000)
    messages[20] = message(20, "reject@example.com")
    messages[41] = message(41, "defer@example.com")
    return messages


@pytest.mark.program("postfix", "saslpasswd2")
@pytest.mark.parametrize("tls", ["starttls", "tls"])
@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_postfix(postfix, pipeline, tls) -> None:
    """Postfix takes every message once, in all modes, over TLS either way, refusals in between."""
    server = Endpoint(
        "localhost" if tls == "starttls" else postfix.host,
        postfix.port if tls == "starttls" else postfix.tls_port,
        tls,
        "client.example",
        postfix.ca_file,
    )
    credentials = Credentials(postfix.user, "password", lambda: postfix.password)
    connection = Connection(server, credentials, pipeline=pipeline)

    outcomes = deliver(connection, mixed())

    assert connection.mode == pipeline
    assert connection.max_size == postfix.max_size
    assert outcomes[20].status is Status.REJECTED
    assert outcomes[41].status is Status.DEFERRED
    others = [number for number in range(60) if number not in {20, 41}]
    assert {outcomes[number].status for number in others} == {Status.ACCEPTED}
    received = postfix.received(len(others))
    subjects = sorted(int(each.content.split(b"Subject: ")[1].split(b"\r\n")[0]) for each in received)
    assert subjects == others


@pytest.mark.program("smtp-sink")
@pytest.mark.parametrize("pipeline", ["off", "auto"])
def test_smtp_sink(smtp_sink, pipeline) -> None:
    """smtp-sink takes every message once, in clear."""
    sink = smtp_sink()
    connection = Connection(Endpoint(sink.host, sink.port, "none", "client.example"), pipeline=pipeline)

    outcomes = deliver(connection, [message(number) for number in range(60)])

    assert {outcome.status for outcome in outcomes.values()} == {Status.ACCEPTED}
    assert len(sink.received()) == 60


@pytest.mark.parametrize("pipeline", ["off", "overlap", "window"])
def test_sandbox(sandbox, pipeline) -> None:
    """The sandbox takes every message once, byte for byte, in all modes."""
    server = Endpoint(sandbox.host, sandbox.port, "starttls", "client.example", sandbox.ca_file)
    credentials = Credentials(sandbox.user, "password", lambda: sandbox.password)
    connection = Connection(server, credentials, pipeline=pipeline)
    messages = [message(number, size=200_000 * (number == 5)) for number in range(40)]

    outcomes = deliver(connection, messages)

    assert connection.mode == pipeline
    assert {outcome.status for outcome in outcomes.values()} == {Status.ACCEPTED}
    assert [each.content for each in sandbox.messages] == [each.content for each in messages]


def test_aiosmtpd(aiosmtpd_server) -> None:
    """An aiosmtpd without PIPELINING is served one command at a time."""
    server = Endpoint(
        aiosmtpd_server.host, aiosmtpd_server.port, "starttls", "client.example", aiosmtpd_server.ca_file
    )
    credentials = Credentials(aiosmtpd_server.user, "password", lambda: aiosmtpd_server.password)
    connection = Connection(server, credentials)

    outcomes = deliver(connection, [message(number) for number in range(20)])

    assert connection.mode == "off"
    assert {outcome.status for outcome in outcomes.values()} == {Status.ACCEPTED}
