"""The messages of a run in sending order, made as they are needed.

A message is made (rendered, its files read) when it is peeked at, so at most one is ever made in advance. The
queue has three sources, in this order: messages put back, by their place in the list; the source; messages
moved to the end.
"""

from __future__ import annotations

import bisect
import hashlib
import math
from collections import deque
from functools import cached_property
from typing import TYPE_CHECKING, Generic, Protocol, TypeVar

from msgspec import Struct

from mailmerge.model import Attempt, Message

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable
    from datetime import datetime

    from mailmerge.sending.throttle import Turn


class Job(Struct, frozen=True, dict=True):
    """One message to send, with what its attempt must record."""

    message: Message
    number: int
    """Which of the row's tries this is, from 1."""
    address: str
    date: datetime
    row_digest: str
    version: str
    first_attempt: datetime | None = None
    """When the first try was; None: this is it."""
    rows: str = ""
    """The rows of a message for several, as `Attempt` has them."""

    @cached_property
    def domains(self) -> frozenset[str]:
        """The domains of the message's recipients."""
        return frozenset(address.domain.lower() for address in self.message.envelope.rcpt_to)

    def attempt(self, connection: str) -> Attempt:
        """Return what the ledger records before the message is handed over on *connection*."""
        message = self.message
        return Attempt(
            key=message.key,
            row=message.row,
            address=self.address,
            number=self.number,
            message_id=message.message_id,
            date=self.date,
            recipients=len(message.envelope.rcpt_to),
            size=message.size,
            digest=_digest(message, self.date),
            frozen=message.frozen,
            row_digest=self.row_digest,
            version=self.version,
            connection=connection,
            rows=self.rows,
        )


def _digest(message: Message, date: datetime) -> str:
    """Return a digest of everything that determines the bytes of a message."""
    decisive = f"{message.frozen}\n{date.isoformat()}\n{message.message_id}"
    return hashlib.sha256(decisive.encode("utf-8", "surrogatepass")).hexdigest()


class WorkQueue:
    """Returns each message of *source* once, unless it is put back.

    Args:
        source: the messages in list order; it is never asked for more than one in advance.
        skip: returns whether a message is skipped when its turn comes.

    """

    def __init__(self, source: Iterable[Job], skip: Callable[[Job], bool] = lambda _job: False) -> None:
        self.failure: Exception | None = None
        """What *source* raised: it has no more messages, but what was put back can still be sent."""
        self._source = iter(source)
        self._skip = skip
        self._head: list[Job] = []
        """Messages put back, by row; or the one that was peeked at and not taken."""
        self._end: deque[Job] = deque()
        self._exhausted = False

    @property
    def empty(self) -> bool:
        """Whether nothing is left, as far as that is known without making another message."""
        return self._exhausted and not self._head and not self._end

    @property
    def head(self) -> Job | None:
        """The next message, if it has been made already."""
        return self._head[0] if self._head else None

    def peek(self) -> Job | None:
        """Return the next message without taking it; None: there is none now."""
        while self._head or self._pull():
            if not self._skip(self._head[0]):
                return self._head[0]
            self._head.pop(0)
        return None

    def take(self) -> Job:
        """Remove the message that `peek` returned, and return it."""
        return self._head.pop(0)

    def put_back(self, job: Job) -> None:
        """Queue a message again, in its old place in the order."""
        bisect.insort(self._head, job, key=lambda job: job.message.row)

    def remove(self, job: Job) -> bool:
        """Remove a message that was put back; return whether it was there."""
        for place in (self._head, self._end):
            for index, each in enumerate(place):
                if each is job:
                    del place[index]
                    return True
        return False

    def move_to_end(self, job: Job) -> None:
        """Queue a message again, behind all others."""
        self._end.append(job)

    def _pull(self) -> bool:
        if not self._exhausted:
            try:
                self._head.append(next(self._source))
            except StopIteration:
                self._exhausted = True
            except Exception as error:  # noqa: BLE001  the sender raises it once everything in flight is settled
                self.failure = error
                self._exhausted = True
            else:
                return True
        if self._end:
            self._head.append(self._end.popleft())
        return bool(self._head)


class Ending(Protocol):
    """A message in flight whose intent is recorded."""

    token: int
    turn: Turn | None

    @property
    def slot(self) -> object:
        """The slot of its connection."""
        ...


_Flight = TypeVar("_Flight", bound=Ending)


class HeldEnds(Generic[_Flight]):
    """Messages whose intents are recorded and whose ends have not been sent yet."""

    def __init__(self) -> None:
        self.next_turn = math.inf
        """When the next one may be sent, by the steady clock."""
        self._held: list[_Flight] = []

    def hold(self, flights: Iterable[_Flight]) -> None:
        """Add more of them."""
        self._held += flights

    def due(self, monotonic: Callable[[], float], in_flight: Container[int]) -> list[_Flight]:
        """Remove and return what may be sent now: in the order of submission on each connection.

        Those that are not *in_flight* any more are dropped.
        """
        self.next_turn = math.inf
        due: list[_Flight] = []
        rest: list[_Flight] = []
        waiting: set[object] = set()
        for flight in self._held:
            if flight.token not in in_flight:
                continue
            if flight.turn is not None and flight.slot not in waiting:
                now = monotonic()
                wait = flight.turn.wait(now)
                if wait > 0:
                    self.next_turn = min(self.next_turn, now + wait)
                    waiting.add(flight.slot)
            (rest if flight.slot in waiting else due).append(flight)
        self._held = rest
        return due
