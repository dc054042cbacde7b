"""One of the run's connections: the wire itself, what it has carried, and when it was last used."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from mailmerge.errors import SessionError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Reservation
    from mailmerge.model import Message
    from mailmerge.sending.runs import Work
    from mailmerge.smtp.events import Event

_PROBE_AFTER = 5.0


class Wire(Protocol):
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
        """Tell whether another message may be submitted now."""
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
        """Give what a selector can wait for; -1: nothing."""
        ...

    def abort(self) -> list[Event]:
        """Close at once and give the outcomes of what was in flight."""
        ...

    def close(self) -> None:
        """End the session, politely where that is possible; never raises."""
        ...


class Line:
    """A place for one connection after another; `wire` is None between them."""

    def __init__(self, connect: Callable[[], Wire], clock: Clock) -> None:
        self._connect = connect
        self._clock = clock
        self.wire: Wire | None = None
        self.retiring = False
        """No more offers: it is closed once nothing is in flight."""
        self.offered = 0
        self.answered = 0
        """Messages that this connection brought to an outcome: a sign that it worked."""
        self._used: tuple[float, datetime] = (clock.monotonic(), clock.now())

    def open(self) -> None:
        """Make a connection; raises `SessionError`."""
        wire = self._connect()
        try:
            wire.open()
        except BaseException:
            wire.close()
            raise
        self.wire = wire
        self.retiring = False
        self.offered = self.answered = 0
        self.touch()

    def close(self) -> None:
        """Give the connection up, if there is one."""
        wire, self.wire = self.wire, None
        self.retiring = False
        if wire is not None:
            wire.close()

    def abort(self) -> list[Event]:
        """Cut the connection, if there is one, and give the outcomes of what was in flight."""
        wire, self.wire = self.wire, None
        self.retiring = False
        return [] if wire is None else wire.abort()

    def touch(self) -> None:
        """Remember that the server was heard just now."""
        self._used = (self._clock.monotonic(), self._clock.now())

    def alive(self) -> bool:
        """Tell whether the connection can carry a message, asking the server after a pause.

        Both clocks are looked at, because the steady one stands still while a laptop sleeps.
        """
        if self.wire is None:
            return False
        steady, wall = self._used
        idle = max(self._clock.monotonic() - steady, (self._clock.now() - wall).total_seconds())
        if idle < _PROBE_AFTER or self.wire.in_flight:
            return True
        alive = False
        with contextlib.suppress(SessionError):
            alive = self.wire.probe()
        if alive:
            self.touch()
        else:
            self.close()
        return alive


class Flight(Struct):
    """One message under way on a line."""

    work: Work
    line: Line
    connection: str
    reservation: Reservation | None
    promised: bool = False
