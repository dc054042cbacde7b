"""The values of a run: why it ends, what is decided after each outcome, its progress."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.model import TO_BE_SENT, Counts, Outcome, Scope, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mailmerge.errors import MailmergeError
    from mailmerge.sending.work_queue import Job


class StopFlag(Protocol):
    """Set from outside, for example by a signal handler: `threading.Event` is such a flag."""

    def is_set(self) -> bool:
        """Return whether to stop."""
        ...


class NeverStop:
    """A stop flag that is never set."""

    def is_set(self) -> bool:
        """Return False."""
        return False


class Reason(enum.StrEnum):
    """Why a run ended."""

    FINISHED = "finished"
    INTERRUPTED = "interrupted"
    QUOTA = "quota"
    BREAKER = "breaker"
    NETWORK = "network"
    REFUSED = "refused"
    """Sign-in, TLS, sender or set-up: a person must act."""
    ACCOUNT_PAUSE = "account_pause"
    LEDGER = "ledger"
    PAUSED = "paused"
    """Somebody told the workers of a fleet to stop sending the campaign."""
    DETACHED = "detached"
    """The workers of a fleet continue by themselves."""
    FAILED = "failed"
    """The list, a template or a file of the campaign could not be used."""


class RunEnd(Struct, frozen=True):
    """How a run ended: rows not in *counts* are unchanged."""

    reason: Reason
    message: str = ""
    """One sentence for the summary; empty when finished."""
    hint: str | None = None
    error: MailmergeError | None = None
    next_at: datetime | None = None
    """When to run again, if that is known."""
    outcome: Outcome | None = None
    """The reply that ended it, if one did."""
    counts: Counts = field(default_factory=Counts)
    """Outcomes of this run by the resulting state of the row."""
    notes: tuple[str, ...] = ()
    """What else a person should know, one sentence each."""
    scope: Scope = Scope.ROW
    """Whether it is about the rows, or about this connection or account."""

    def followed_by(self, other: RunEnd) -> RunEnd:
        """Return two passes of one run as one."""
        statuses = {*self.counts, *other.counts}
        counts = Counts({status: self.counts[status] + other.counts[status] for status in statuses})
        return replace(other, counts=counts, notes=(*self.notes, *other.notes))


MAY_BE_SENT = (Status.PENDING, Status.DEFERRED, Status.IN_DOUBT, Status.HANDING_OVER)
"""States of rows whose message may have to be sent yet, or again."""
UNANSWERED = frozenset({"dropped", "timeout", "withdrawn"})
"""Reasons of messages that were lost with their connection: the reply was not about them."""


# --- what is decided after each outcome: see `mailmerge.sending.policy` ------------------------------------


class Again(enum.Enum):
    """Whether, and when, a row is offered again in this run."""

    NO = enum.auto()
    NEXT = enum.auto()
    """In its old place of the order."""
    LAST = enum.auto()
    """Behind all others."""


class RowDecision(Struct, frozen=True):
    """The state of a row after an outcome."""

    status: Status
    next_at: datetime | None = None
    """When a deferred row is due."""
    counts: bool = True
    """Whether a try is used up: only by what is about the row itself."""
    again: Again = Again.NO


class RunDecision(Struct, frozen=True):
    """What the run does about an outcome, besides recording it; by default it continues."""

    answered: bool = False
    """Whether the connection worked: the reply was about its message."""
    retire: bool = False
    """Submit nothing more on this connection, and close it once nothing is in flight on it."""
    slower: bool = False
    """Whether to halve the rate."""
    pause: float = 0.0
    """Seconds during which nothing is submitted."""
    reconnect: float = 0.0
    """Seconds before the next connection is opened."""
    closing: bool = False
    """Whether the server closed a connection with 421 before it had answered anything on it."""
    dropped: bool = False
    """Whether the connection was closed without a reply after the row's content."""
    blocked: frozenset[str] = frozenset()
    """Domains whose rows are not attempted from now on."""
    set_aside: bool = False
    """Whether the row was the cause: the server accepts others."""
    suspicion: bool = False
    """Whether the row was refused for a reason that seems to be about us."""
    given_back: tuple[Job, ...] = ()
    """Rows that were deferred before and are pending again, as if they had not been tried."""
    stop: RunEnd | None = None
    """Why the run ends; what is in flight is still settled."""


class Decision(Struct, frozen=True):
    """What one outcome leads to."""

    row: RowDecision
    run: RunDecision = RunDecision(answered=True)


class Context(Struct, frozen=True):
    """Which message an outcome is about, and when it came."""

    job: Job
    connection: str
    """The connection's name: everything lost with it counts as one loss."""
    fresh: bool
    """Whether nothing was answered on that connection before, and it is not being closed."""
    now: datetime
    steady: float
    """The same time in seconds of the steady clock."""
    random: Callable[[], float]
    """Returns a number from 0 up to 1, for jitter."""


def in_trouble(outcome: Outcome) -> bool:
    """Return whether a message got a reply about the server or the account, except a rate or quota."""
    limit = outcome.slower or outcome.reason == "quota"
    about = outcome.scope is Scope.CONNECTION or (outcome.scope is Scope.ACCOUNT and not limit)
    answered = outcome.reply is not None and outcome.reason not in UNANSWERED
    return about and answered and outcome.status in TO_BE_SENT


def ended_by(
    reason: Reason, said: str, outcome: Outcome, next_at: datetime | None = None, hint: str | None = None
) -> RunEnd:
    """Return the end of a run, with the server's reply if there is one."""
    message = f"{said}: {outcome.reply}" if outcome.reply else said
    return RunEnd(reason, message, outcome.hint or hint, None, next_at, outcome)


# --- progress ---------------------------------------------------------------------------------------------


class Progress(Struct, frozen=True):
    """One step of a run: a row's outcome, or the beginning of a wait."""

    counts: Counts
    in_flight: int
    row: int | None = None
    address: str = ""
    status: Status | None = None
    outcome: Outcome | None = None
    waiting: str = ""
    """Why nothing is sent at the moment: ``rate``, ``network``, ``account``, ``deferred``, ``opt-outs``,
    ``campaign_lock``, ``account_lock``; of a fleet ``workers``, ``ledger``; empty: something is."""
    until: datetime | None = None


def tell_wait(observe: Callable[[Progress], None], why: str, until: datetime) -> None:
    """Report that nothing is sent for a while, before the first message or between two passes."""
    observe(Progress(Counts(), 0, waiting=why, until=until))
