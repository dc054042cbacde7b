"""Dovecot's submission server, which offers PIPELINING and crashes at commands behind a message."""

from __future__ import annotations

from contextlib import closing
from typing import TYPE_CHECKING

import pytest

from mailmerge.addresses import Address
from mailmerge.model import Envelope, Message, Status
from mailmerge.sandbox import SandboxServer
from mailmerge.smtp.connection import Connection, Credentials, Endpoint, ServerProfile
from mailmerge.smtp.state import Closed, Completed, ReleaseNeeded
from reliability.bench import Bench
from reliability.conversing import told
from servers.dovecot import Dovecot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 6


@pytest.fixture
def relay() -> Iterator[SandboxServer]:
    """The server behind it, which takes everything."""
    with SandboxServer(tls="none", user=None) as server:
        yield server


@pytest.fixture
def dovecot(relay: SandboxServer) -> Iterator[Dovecot]:
    """Dovecot as it comes."""
    server = Dovecot(relay.port)
    yield server
    server.stop()


@pytest.mark.parametrize("pipeline", ["auto", "window"])
def test_b30_dovecot_gets_nothing_behind_a_message(
    dovecot: Dovecot, relay: SandboxServer, pipeline: str, tmp_path: Path
) -> None:
    """It is known by its greeting: all rows are accepted, it never crashes, and no row is risked."""
    bench = Bench(tmp_path / "bench", rows=ROWS)
    bench.mailmerge.account(dovecot, tls="none", ca_file=None)
    bench.write(send=f'pipeline = "{pipeline}"')
    report = bench.send()
    assert set(bench.states().values()) == {Status.ACCEPTED}, told(report)
    assert (relay.received_count, dovecot.crashes()) == (ROWS, 0)


def message(number: int) -> Message:
    """Return message *number*."""
    envelope = Envelope(Address("me", "example.org"), (Address(f"to{number}", "example.net"),))
    return Message(f"<{number}@x>", str(number), number, envelope, (b"Subject: x\r\n\r\n", b"hello\r\n"))


def test_b30_dovecot_unrecognised_costs_one_row(dovecot: Dovecot, relay: SandboxServer) -> None:
    """Where nobody has told us, the trial does: one row in doubt, the others accepted in the plain way."""
    profile = ServerProfile()
    endpoint = Endpoint(dovecot.host, dovecot.port, "none", "client.example")
    credentials = Credentials(dovecot.user, "password", lambda: dovecot.password)
    left, statuses = list(range(1, ROWS + 1)), {}
    for _ in range(3):
        with closing(Connection(endpoint, credentials, profile=profile)) as connection:
            connection.open()
            while left or connection.in_flight:
                while left and connection.can_accept():
                    connection.submit(message(left[0]), left.pop(0))
                events = connection.poll(5)
                for event in events:
                    if isinstance(event, Completed):
                        statuses[event.token] = event.outcome.status
                        left += [event.token] * (event.outcome.status is Status.PENDING)
                connection.release([e.token for e in events if isinstance(e, ReleaseNeeded)])
                if any(isinstance(event, Closed) for event in events):
                    break
    assert sorted(statuses.values()) == [Status.ACCEPTED] * (ROWS - 1) + [Status.IN_DOUBT]
    assert (dovecot.crashes(), profile.borne, relay.received_count) == (1, False, ROWS)
