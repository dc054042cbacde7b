"""The nouns of a run: why it ends, what is decided after each outcome, what is told meanwhile."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.model import Counts, Outcome, Scope, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mailmerge.errors import MailmergeError
    from mailmerge.sending.work_queue import Job


class StopFlag(Protocol):
    """Set from outside, by a signal handler for one: `threading.Event` is such a flag."""

    def is_set(self) -> bool:
        """Return whether to stop."""
        ...


class NeverStop:
    """The stop flag of those who never stop."""

    def is_set(self) -> bool:
        """Say no."""
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
    """Somebody told the workers of a fleet to stop with the campaign."""
    DETACHED = "detached"
    """The workers of a fleet go on by themselves."""
    FAILED = "failed"
    """The list, a template or a file of the campaign let the run down."""


class RunEnd(Struct, frozen=True):
    """How a run ended: the rows not mentioned in *counts* are as they were."""

    reason: Reason
    message: str = ""
    """One sentence for the summary; empty when finished."""
    hint: str | None = None
    error: MailmergeError | None = None
    next_at: datetime | None = None
    """When it makes sense to run again, if that is known."""
    outcome: Outcome | None = None
    """The reply that ended it, if one did."""
    counts: Counts = field(default_factory=Counts)
    """Outcomes of this run by the state they left the row in."""
    notes: tuple[str, ...] = ()
    """What else a person should know of it, a sentence each."""
    scope: Scope = Scope.ROW
    """Whom it is about: the rows, which are anybody's, or this connection or account."""

    def followed_by(self, other: RunEnd) -> RunEnd:
        """Put two passes of one run together."""
        statuses = {*self.counts, *other.counts}
        counts = Counts({status: self.counts[status] + other.counts[status] for status in statuses})
        return replace(other, counts=counts, notes=(*self.notes, *other.notes))


MAY_BE_SENT = (Status.PENDING, Status.DEFERRED, Status.IN_DOUBT, Status.HANDING_OVER)
"""States of rows whose message may have to be sent yet, or again."""
UNANSWERED = frozenset({"dropped", "timeout", "withdrawn"})
"""Reasons of messages that a connection took along: what the server said was not their answer."""


# --- what is decided after each outcome: see `mailmerge.sending.policy` ------------------------------------


class Again(enum.Enum):
    """Whether, and when, a row is offered again in this run."""

    NO = enum.auto()
    NEXT = enum.auto()
    """In its old place of the order."""
    LAST = enum.auto()
    """Behind all others."""


class RowDecision(Struct, frozen=True):
    """Where an outcome leaves its row."""

    status: Status
    next_at: datetime | None = None
    """When a deferred row is due."""
    counts: bool = True
    """Whether a try is used up: only what is about the row itself does."""
    again: Again = Again.NO


class RunDecision(Struct, frozen=True):
    """What the run does about an outcome, beyond recording it; by default it goes on."""

    answered: bool = False
    """The connection did its work: its message got an answer that was about the message."""
    retire: bool = False
    """Submit nothing more on this connection, and close it once nothing is in flight on it."""
    slower: bool = False
    """Go at half the pace."""
    pause: float = 0.0
    """Seconds during which nothing is submitted."""
    reconnect: float = 0.0
    """Seconds before the next connection is made."""
    closing: bool = False
    """The server closed a connection with 421 before it had answered anything on it."""
    dropped: bool = False
    """The row's content ended the connection without a word."""
    blocked: frozenset[str] = frozenset()
    """Domains whose rows are left as they are from now on."""
    set_aside: bool = False
    """It was the row: the server answers others."""
    suspicion: bool = False
    """The row was refused for what seems to be about us."""
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
    """Names the connection: what is lost with it is one misfortune."""
    fresh: bool
    """Nothing was answered on that connection before, and it is not being given up."""
    now: datetime
    steady: float
    """The same moment in seconds of the steady clock."""
    random: Callable[[], float]
    """Gives a number from 0 up to 1, for jitter."""


def in_trouble(outcome: Outcome) -> bool:
    """Tell whether a message was answered by words about the server or the account, but no limit of ours."""
    limit = outcome.slower or outcome.reason == "quota"
    about = outcome.scope is Scope.CONNECTION or (outcome.scope is Scope.ACCOUNT and not limit)
    answered = outcome.reply is not None and outcome.reason not in UNANSWERED
    return about and answered and outcome.status in {Status.PENDING, Status.DEFERRED}


def ended_by(
    reason: Reason, said: str, outcome: Outcome, next_at: datetime | None = None, hint: str | None = None
) -> RunEnd:
    """End the run with the server's own words, where there are any."""
    message = f"{said}: {outcome.reply}" if outcome.reply else said
    return RunEnd(reason, message, outcome.hint or hint, None, next_at, outcome)


# --- what is told meanwhile -------------------------------------------------------------------------------


class Progress(Struct, frozen=True):
    """One step of a run: a row's outcome, or the beginning of a wait."""

    counts: Counts
    in_flight: int
    row: int | None = None
    address: str = ""
    status: Status | None = None
    outcome: Outcome | None = None
    waiting: str = ""
    """Why nothing is sent just now: ``rate``, ``network``, ``account``, ``deferred``, ``opt-outs``,
    ``campaign_lock``, ``account_lock``; of a fleet ``workers``, ``ledger``; empty: something is."""
    until: datetime | None = None


def tell_wait(observe: Callable[[Progress], None], why: str, until: datetime) -> None:
    """Tell that nothing is sent for a while, before anything was or between two passes."""
    observe(Progress(Counts(), 0, waiting=why, until=until))
