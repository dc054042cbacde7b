"""The run's connections, as the sender sees them, without sockets or SMTP."""

from __future__ import annotations

import contextlib
import math
import select
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from mailmerge.errors import SessionError
from mailmerge.smtp.state import Revised

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Reservation
    from mailmerge.model import Attempt, Message, Outcome
    from mailmerge.sending.runs import RowDecision
    from mailmerge.sending.throttle import Turn
    from mailmerge.sending.work_queue import Job
    from mailmerge.smtp.deadlines import Wait
    from mailmerge.smtp.state import Event

_PROBE_AFTER = 5.0


class Transport(Protocol):
    """A connection to the server, as the sender sees it."""

    @property
    def id(self) -> str:
        """The connection's name in the record of an attempt."""
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
        """The server's SIZE, in octets; None: not stated."""
        ...

    def opening(self) -> Iterator[Wait]:
        """Connect, secure, greet, sign in, yielding what is waited for; raises `SessionError`."""
        ...

    def can_accept(self, interval: float = 0.0) -> bool:
        """Return whether another message may be submitted now.

        *interval*: seconds between two messages at the present rate; nothing is sent earlier than that
        requires.
        """
        ...

    def submit(self, message: Message, token: int) -> None:
        """Begin to send a message, all but its end."""
        ...

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages be sent: the intent to send them is durable."""
        ...

    def poll(self, timeout: float) -> list[Event]:
        """Write and read what is possible, waiting up to *timeout* seconds for something to happen."""
        ...

    def probing(self) -> Generator[Wait, None, bool]:
        """Check whether the server is still there (NOOP), yielding what is waited for.

        Only while nothing is in flight.
        """
        ...

    @property
    def wants_write(self) -> bool:
        """Whether it waits to write, not only to read."""
        ...

    def fileno(self) -> int:
        """Return the descriptor that a selector can wait for; -1: none."""
        ...

    def abort(self) -> list[Event]:
        """Close immediately and return the outcomes of what was in flight."""
        ...

    def close(self, *, within: float = math.inf) -> list[Event]:
        """End the session, with QUIT if that is possible within *within* seconds; never raises.

        Returns:
            The events meanwhile.

        """
        ...


class ConnectionSlot:
    """A place for one connection after another; `connection` is None between them.

    Opening a connection, and checking whether it still works, take several steps: the slot is `busy` then,
    and `advance` does the next one. So a silent server does not delay other connections.
    """

    def __init__(self, connect: Callable[[], Transport], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self.connection: Transport | None = None
        self.opened = False
        """Whether the last `advance` opened a connection."""
        self.wanted: Wait | None = None
        """What a busy slot waits for."""
        self._steps: Generator[Wait, None, None] | None = None
        self.retiring = False
        """Whether nothing more is submitted: the connection is closed once nothing is in flight."""
        self.submitted = 0
        self.answered = 0
        """How many messages on this connection were answered: a sign that it worked."""
        self._left: list[Event] = []
        """What happened while a connection was closed."""
        self._used: tuple[float, datetime] = (clock.monotonic(), clock.now())

    @property
    def useless(self) -> bool:
        """Whether messages were submitted on it and none of them was answered."""
        return self.submitted > 0 and self.answered == 0

    @property
    def busy(self) -> bool:
        """Whether a connection is being opened or checked."""
        return self._steps is not None

    def connect(self) -> bool:
        """Begin to open a connection; return whether there is one already.

        Raises:
            SessionError: none can be opened.

        """
        self._steps = self._opening()
        return self.advance()

    def advance(self) -> bool:
        """Do the next step of opening or checking, if any; return whether there is a connection to use.

        Raises:
            SessionError: the connection could not be opened.

        """
        self.opened = False
        if self._steps is not None:
            try:
                self.wanted = next(self._steps, None)
            except BaseException:
                self._steps = self.wanted = None
                raise
            if self.wanted is None:
                self._steps = None
        return self.connection is not None and not self.busy

    def _opening(self) -> Generator[Wait, None, None]:
        connection = self._connect()
        try:
            yield from connection.opening()
        except BaseException:
            connection.close()
            raise
        self.connection = connection
        self.opened = True
        self.retiring = False
        self.submitted = self.answered = 0
        self._touch()

    def close(self, *, within: float = math.inf) -> None:
        """Close the connection, if there is one."""
        self._give_up()
        connection, self.connection = self.connection, None
        self.retiring = False
        if connection is not None:
            # That it is closed is known; that an earlier outcome was wrong still has to be reported.
            self._left += [event for event in connection.close(within=within) if isinstance(event, Revised)]

    def _give_up(self) -> None:
        """Give up an opening or a check that was begun."""
        steps, self._steps, self.wanted = self._steps, None, None
        if steps is not None:
            steps.close()

    def left(self) -> list[Event]:
        """Return, once, what happened while connections were closed."""
        left, self._left = self._left, []
        return left

    def abort(self) -> list[Event]:
        """Cut the connection, if there is one, and return the outcomes of what was in flight."""
        self._give_up()
        connection, self.connection = self.connection, None
        self.retiring = False
        return [] if connection is None else connection.abort()

    def poll(self, timeout: float) -> list[Event]:
        """Return the connection's events, waiting up to *timeout* seconds for one."""
        left = self.left() if self._left else []
        events = []
        if self.connection is not None and not self.busy:
            events = self.connection.poll(0.0 if left else timeout)
        if events:
            self._touch()
        return left + events if left else events

    def alive(self) -> bool:
        """Return whether the connection can carry a message now; after a pause it is checked first.

        Both clocks are read, because the steady one stops while a laptop sleeps.
        """
        if self.connection is None:
            return False
        steady, wall = self._used
        idle = max(self._clock.monotonic() - steady, (self._clock.now() - wall).total_seconds())
        if idle < _PROBE_AFTER or self.connection.in_flight:
            return True
        self._steps = self._probing(self.connection)
        return self.advance()

    def _probing(self, connection: Transport) -> Generator[Wait, None, None]:
        alive = False
        with contextlib.suppress(SessionError):
            alive = yield from connection.probing()
        if alive:
            self._touch()
        else:
            self.connection, self.retiring = None, False
            connection.close()

    def _touch(self) -> None:
        self._used = (self._clock.monotonic(), self._clock.now())


class ConnectionPool:
    """As many slots as there are sessions: one, unless the user configured more."""

    def __init__(self, connect: Callable[[], Transport], clock: Clock, sessions: int) -> None:
        self._slots = [ConnectionSlot(connect, clock) for _ in range(sessions)]

    def __iter__(self) -> Iterator[ConnectionSlot]:
        return iter(self._slots)

    @property
    def connected(self) -> bool:
        """Whether there is any connection now."""
        return any(slot.connection is not None for slot in self._slots)

    def poll(self, timeout: float, other: int = -1) -> Iterator[tuple[ConnectionSlot, list[Event]]]:
        """Yield each slot with its connection's events; wait up to *timeout* seconds for the first one.

        *other*: a descriptor that ends the wait, too, once it can be read.
        """
        if len(self._slots) == 1 and other < 0:
            (slot,) = self._slots
            yield slot, slot.poll(timeout)
            return
        heard = False
        for slot in self._slots:
            events = slot.poll(0.0)
            heard = heard or bool(events)
            yield slot, events
        if not heard:
            self.wait(timeout, other)

    @property
    def busy(self) -> bool:
        """Whether any connection is being opened or checked."""
        return any(slot.busy for slot in self._slots)

    def wait(self, timeout: float, other: int = -1) -> None:
        """Wait up to *timeout* seconds until one of them has something to do, or *other* can be read."""
        to_read, to_write = [other] if other >= 0 else [], []
        for slot in self._slots:
            wanted = slot.wanted
            if wanted is not None:
                timeout = min(timeout, wanted.seconds)
                descriptor, writes = wanted.descriptor, wanted.to_write
            elif slot.connection is not None:
                descriptor, writes = slot.connection.fileno(), slot.connection.wants_write
            else:
                continue
            if descriptor >= 0:
                to_read.append(descriptor)
                to_write += [descriptor] if writes else []
        select.select(to_read, to_write, [], max(timeout, 0.0))

    def close(self, *, within: float = math.inf) -> None:
        """Close all connections, each within *within* seconds."""
        for slot in self._slots:
            slot.close(within=within)

    def abort(self) -> None:
        """Cut all connections, even with messages in flight."""
        for slot in self._slots:
            slot.abort()


class InFlight(Struct):
    """One message in flight on a connection."""

    token: int
    job: Job
    slot: ConnectionSlot
    attempt: Attempt
    """What the ledger records of it; it names its connection, as the slot may have another one by then."""
    reservation: Reservation | None
    turn: Turn | None = None
    """When its end may be sent, by rates that several workers share; None: as soon as it is recorded."""
    recorded: bool = False
    """Whether the intent to hand it over is on disk."""
    withheld: bool = False
    """Whether its end will never be sent."""


class Settled(Struct, frozen=True):
    """The outcome of a message whose session may still prove out of step."""

    flight: InFlight
    outcome: Outcome
    row: RowDecision


class UnconfirmedRows(dict[int, Settled]):
    """What was settled since the last sync point of its session, by token."""

    def confirm(self, connection: str) -> None:
        """Forget what a session settled after it has ended: it can no longer prove out of step."""
        for token in [token for token, one in self.items() if one.flight.attempt.connection == connection]:
            del self[token]
