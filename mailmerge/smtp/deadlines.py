"""How long we wait for each reply, and since when; the caller provides the time."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from mailmerge.errors import ConnectionLost
from mailmerge.smtp.endpoint import TLS_MODE_HINT
from mailmerge.smtp.state import Life, Overlap, Step
from mailmerge.text import figure

if TYPE_CHECKING:
    from mailmerge.smtp.session import Session


class Wait(NamedTuple):
    """What to wait for before a step that would block can continue; continuing early does no harm."""

    descriptor: int
    """The file descriptor to wait for; -1: none, only the time."""
    to_write: bool
    seconds: float
    """For how many seconds at most."""


class Deadlines(Struct, frozen=True, dict=True):
    """How long each reply may take in total, in seconds (RFC 5321 section 4.5.3.2, and Postfix's defaults).

    A reply's time starts when it is the next one due and its command was sent: with pipelining, others may be
    due before it. The time is for the whole reply, so that a server cannot keep us with an octet a minute.
    """

    connect: float = 30
    greeting: float = 300  # section 4.5.3.2.1
    ehlo: float = 300
    tls: float = 60
    auth: float = 60
    mail: float = 300  # section 4.5.3.2.2
    rcpt: float = 300  # section 4.5.3.2.3
    data: float = 120  # section 4.5.3.2.4
    content: float = 600
    """From the end of the content to its reply (section 4.5.3.2.6).

    The longest deadline, because a message that we give up too early is in doubt, and was often accepted.
    """
    progress: float = 180
    """Without the server reading a single octet of what we send (section 4.5.3.2.5)."""
    trial: float = 20
    """For each reply to an envelope behind a message, until it is known whether the server supports that.

    What is given up there was not handed over, so a short deadline costs nothing but a connection.
    """
    liveness: float = 30
    """For NOOP after a pause."""
    drain: float = 5
    """For replies still on their way after a 421 or a write error."""
    quit: float = 5
    """For the 221, which nothing depends on."""
    wrong_tls: float = 4
    """Without a plaintext greeting, until we check whether the port expects implicit TLS."""

    def of(self, step: Step) -> float:
        """Return how many seconds the reply to *step* may take."""
        return self._by_step[step]

    @cached_property
    def _by_step(self) -> dict[Step, float]:
        return {
            Step.GREETING: self.greeting,
            Step.EHLO: self.ehlo,
            Step.HELO: self.ehlo,
            Step.STARTTLS: self.tls,
            Step.AUTH: self.auth,
            Step.TRIAL_MAIL: self.mail,
            Step.TRIAL_CHUNK: self.mail,
            Step.TRIAL_RSET: self.mail,
            Step.TRIAL_NOOP: self.mail,
            Step.MAIL: self.mail,
            Step.RCPT: self.rcpt,
            Step.DATA: self.data,
            Step.CONTENT: self.content,
            Step.CHUNK: self.content,
            Step.LONE_DOT: self.content,
            Step.RSET: self.mail,
            Step.EARLY_RSET: self.mail,
            Step.NOOP: self.liveness,
            Step.QUIT: self.quit,
        }


_ENVELOPE = frozenset({Step.EARLY_RSET, Step.MAIL, Step.RCPT, Step.DATA})


class DeadlineTimer:
    """Computes when the present wait of a session is over.

    A wait begins when another reply becomes the next one due, when its command was sent, and when the
    session falls silent; some octets of a reply, or of a TLS record, do not restart it.
    """

    def __init__(self, deadlines: Deadlines) -> None:
        self._deadlines = deadlines
        self._watched: tuple[int, Step | None, bool, Life] | None = None
        self._since = 0.0
        self._progress = 0.0

    def wrote(self, now: float) -> None:
        """Record that the kernel accepted octets at the time *now*."""
        self._progress = now

    def since_written(self, now: float) -> float:
        """Return the seconds since the kernel last accepted octets, or since the connection was made."""
        return now - self._progress

    def due(self, session: Session, now: float) -> float | None:
        """Return when the present wait is over; None: no reply is due."""
        step = session.awaited
        watched = (session.answered, step, session.asked, session.life)
        if watched != self._watched:
            self._watched = watched
            self._since = now
        if session.life is Life.DRAINING:
            return self._since + self._deadlines.drain
        if step is None:
            return None
        if session.asked:
            return self._since + self._allowed(session, step)
        if session.outbox:
            # The server has not read all of our octets yet: it may be slow, but must make progress.
            return max(self._since, self._progress) + self._deadlines.progress
        return None  # it is we who wait, for a release

    def _allowed(self, session: Session, step: Step) -> float:
        seconds = self._deadlines.of(step)
        in_trial = session.overlap is Overlap.RUNNING and step in _ENVELOPE
        return min(seconds, self._deadlines.trial) if in_trial else seconds

    def too_late(self, session: Session, where: str) -> ConnectionLost:
        """Return the error for a wait that is over; *where* is host and port."""
        step = session.awaited
        if step is Step.GREETING:
            seconds = self._deadlines.greeting
            return ConnectionLost(
                f"{where}, sent nothing within {figure(seconds)} s", code="S613", hint=TLS_MODE_HINT
            )
        if step is None or not session.asked:
            seconds = self._deadlines.progress
            return ConnectionLost(f"{where}, accepted no more data for {figure(seconds)} s", code="S613")
        seconds = self._allowed(session, step)
        return ConnectionLost(f"{where}, did not answer {step.value} within {figure(seconds)} s", code="S613")
