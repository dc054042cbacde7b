"""Ours: one connection, its mode the first further argument; with a second, a folder, also sender and ledger.

A third argument is a rate a second that the throttle is asked for: then the times of the hand-overs are told.
"""

from __future__ import annotations

import random
import threading
import time
from collections import deque
from datetime import UTC, datetime
from itertools import cycle
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dialogue import SENDER, Watch, arguments

from mailmerge.addresses import Address
from mailmerge.model import Envelope, Message, Rate, Status
from mailmerge.smtp.connection import Connection, Endpoint
from mailmerge.smtp.state import Completed, ReleaseNeeded

if TYPE_CHECKING:
    from collections.abc import Iterator

SLICE = 1.0
OPENING = 1.0
"""Seconds in which a window grows: from 1 message in flight to 64 it takes seven round trips."""


def made(messages: list[tuple[str, bytes]]) -> Iterator[Message]:
    """Wrap the contents as our messages, each with a key of its own, in two segments."""
    sender = Address.parse(SENDER)
    for number, (recipient, content) in enumerate(cycle(messages)):
        envelope = Envelope(sender, (Address.parse(recipient),))
        yield Message(
            f"<{number}@example.com>", str(number), number + 2, envelope, (content[:800], content[800:])
        )


def transport_only(connection: Connection, messages: Iterator[Message], seconds: float) -> None:
    """Keep the connection busy; promises cost nothing."""
    connection.open()
    watch = Watch(seconds)
    offered = done = refused = 0
    while True:
        while connection.can_accept() and not watch.over():
            offered += 1
            connection.submit(next(messages), offered)
        if done == offered:
            break
        for event in connection.poll(SLICE):
            if isinstance(event, ReleaseNeeded):
                connection.release([event.token])
            elif isinstance(event, Completed):
                done += 1
                refused += event.outcome.status is not Status.ACCEPTED
    watch.report(done, refused=refused, mode=connection.mode)
    connection.close()


def with_ledger(
    connection: Connection, messages: Iterator[Message], seconds: float, folder: Path, rate: float
) -> None:
    """Send as a campaign does: throttle, durable promises, outcomes."""
    from mailmerge.clock import SystemClock
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.sending.policy import Policy, RetryPolicy
    from mailmerge.sending.sender import Sender
    from mailmerge.sending.throttle import Throttle
    from mailmerge.sending.work_queue import Job

    times: deque[float] = deque(maxlen=100_000)
    watch: list[Watch] = []
    submit = connection.submit

    def submit_and_note(message: Message, token: int) -> None:
        if not watch:  # opening the connection is not measured
            watch.append(Watch(seconds))
        times.append(time.perf_counter())
        submit(message, token)

    wire: Any = connection
    wire.submit = submit_and_note
    date = datetime.now(UTC)

    def work() -> Iterator[Job]:
        for message in messages:
            if watch and watch[0].over():
                return
            address = str(message.envelope.rcpt_to[0])
            yield Job(message, 1, address, date, "0" * 16, "version")

    with Ledger.open(folder / "ledger.db", "benchmark") as ledger:
        ledger.note_version("version", {})
        ledger.start_run("send", "version")
        sender = Sender(
            ledger.attempts,
            lambda: wire,
            Throttle([Rate(round(rate), 1.0)] if rate else []),
            SystemClock(),
            policy=Policy(RetryPolicy(()), max_rejected=1.0),
            stop=threading.Event(),
            observe=lambda _progress: None,
            random=random.random,
        )
        end = sender.run(work())
    accepted = end.counts[Status.ACCEPTED]
    watch[0].report(accepted, refused=end.counts.total - accepted, **(_pace(list(times)) if rate else {}))


def _pace(times: list[float]) -> dict[str, float]:
    """Return the rate that was reached once the window had opened, and the most in any second of all."""
    most = start = 0
    for number, moment in enumerate(times):
        while times[start] <= moment - 1.0:
            start += 1
        most = max(most, number - start + 1)
    steady = [moment for moment in times if moment - times[0] >= OPENING]
    return {"pace": (len(steady) - 1) / (steady[-1] - steady[0]), "most": most}


def main() -> None:
    """Do what the command line says."""
    host, port, seconds, messages, (mode, *more) = arguments()
    server = Endpoint(host, port, "none", "bench.example")
    connection = Connection(server, pipeline=mode)  # type: ignore[arg-type]
    if more:
        rate = float(more[1]) if len(more) > 1 else 0.0
        with_ledger(connection, made(messages), seconds, Path(more[0]), rate)
    else:
        transport_only(connection, made(messages), seconds)


main()
