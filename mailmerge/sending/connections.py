"""The run's connections, as the sender sees them: nothing here knows sockets or SMTP."""

from __future__ import annotations

import contextlib
import select
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from mailmerge.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Reservation
    from mailmerge.model import Message
    from mailmerge.sending.work_queue import Job
    from mailmerge.smtp.state import Event

_PROBE_AFTER = 5.0


class Connection(Protocol):
    """A connection to the server, as the sender sees it: nothing here knows sockets."""

    @property
    def id(self) -> str:
        """A name for the attempt's record."""
        ...

    @property
    def in_flight(self) -> int:
        """How many submitted messages have no outcome yet."""
        ...

    @property
    def mode(self) -> str:
        """``off``, ``overlap`` or ``window``."""
        ...

    @property
    def max_size(self) -> int | None:
        """The server's SIZE; None: it named none."""
        ...

    def open(self) -> None:
        """Connect, secure, greet, sign in; raises `SessionError`."""
        ...

    def can_accept(self) -> bool:
        """Return whether another message may be submitted now."""
        ...

    def submit(self, message: Message, token: int) -> None:
        """Begin to send a message, all but its end."""
        ...

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages leave: the intent to send them is durable."""
        ...

    def poll(self, timeout: float) -> list[Event]:
        """Write and read what there is, waiting up to *timeout* seconds for something to happen."""
        ...

    def probe(self) -> bool:
        """Ask whether the server is still there (NOOP); only while nothing is in flight."""
        ...

    @property
    def wants_write(self) -> bool:
        """Whether it waits to write, not only to read."""
        ...

    def fileno(self) -> int:
        """Return what a selector can wait for; -1: nothing."""
        ...

    def abort(self) -> list[Event]:
        """Close at once and return the outcomes of what was in flight."""
        ...

    def close(self) -> None:
        """End the session, politely where that is possible; never raises."""
        ...


class ConnectionSlot:
    """A place for one connection after another; `connection` is None between them."""

    def __init__(self, connect: Callable[[], Connection], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self.connection: Connection | None = None
        self.retiring = False
        """Nothing more is submitted: it is closed once nothing is in flight."""
        self.submitted = 0
        self.answered = 0
        """Messages that this connection brought to an answer: a sign that it worked."""
        self._used: tuple[float, datetime] = (clock.monotonic(), clock.now())

    @property
    def useless(self) -> bool:
        """Whether messages were submitted on it and none of them was answered."""
        return self.submitted > 0 and self.answered == 0

    def open(self) -> None:
        """Make a connection; raises `SessionError`."""
        connection = self._connect()
        try:
            connection.open()
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        self.retiring = False
        self.submitted = self.answered = 0
        self._touch()

    def close(self) -> None:
        """Return the connection up, if there is one."""
        connection, self.connection = self.connection, None
        self.retiring = False
        if connection is not None:
            connection.close()

    def abort(self) -> list[Event]:
        """Cut the connection, if there is one, and return the outcomes of what was in flight."""
        connection, self.connection = self.connection, None
        self.retiring = False
        return [] if connection is None else connection.abort()

    def poll(self, timeout: float) -> list[Event]:
        """Return what the connection has to say, waiting up to *timeout* seconds for it."""
        events = [] if self.connection is None else self.connection.poll(timeout)
        if events:
            self._touch()
        return events

    def alive(self) -> bool:
        """Return whether the connection can carry a message, asking the server after a pause.

        Both clocks are looked at, because the steady one stands still while a laptop sleeps.
        """
        if self.connection is None:
            return False
        steady, wall = self._used
        idle = max(self._clock.monotonic() - steady, (self._clock.now() - wall).total_seconds())
        if idle < _PROBE_AFTER or self.connection.in_flight:
            return True
        alive = False
        with contextlib.suppress(SessionError):
            alive = self.connection.probe()
        if alive:
            self._touch()
        else:
            self.close()
        return alive

    def _touch(self) -> None:
        self._used = (self._clock.monotonic(), self._clock.now())


class ConnectionPool:
    """As many slots as there are sessions: one, unless the user wants more."""

    def __init__(self, connect: Callable[[], Connection], clock: Clock, sessions: int) -> None:
        self._slots = [ConnectionSlot(connect, clock) for _ in range(sessions)]

    def __iter__(self) -> Iterator[ConnectionSlot]:
        return iter(self._slots)

    @property
    def connected(self) -> bool:
        """Whether there is any connection now."""
        return any(slot.connection is not None for slot in self._slots)

    def poll(self, timeout: float) -> Iterator[tuple[ConnectionSlot, list[Event]]]:
        """Yield each slot with what its connection has to say; wait up to *timeout* seconds for the first."""
        if len(self._slots) == 1:
            (slot,) = self._slots
            yield slot, slot.poll(timeout)
            return
        heard = False
        for slot in self._slots:
            events = slot.poll(0.0)
            heard = heard or bool(events)
            yield slot, events
        if not heard:
            found = [slot.connection for slot in self._slots if slot.connection is not None]
            found = [connection for connection in found if connection.fileno() >= 0]
            select.select(found, [connection for connection in found if connection.wants_write], [], timeout)

    def close(self) -> None:
        """Give all connections up."""
        for slot in self._slots:
            slot.close()

    def abort(self) -> None:
        """Cut all connections, whatever is in flight on them."""
        for slot in self._slots:
            slot.abort()


class InFlight(Struct):
    """One message under way on a connection."""

    token: int
    job: Job
    slot: ConnectionSlot
    connection: str
    """The connection's name, for the record: the slot may have another one by then."""
    reservation: Reservation | None
    recorded: bool = False
    """Whether the intent to hand it over is on disk."""
