"""What goes into a run and what comes out of it."""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field

from mailmerge.model import Attempt, Counts, Message, Outcome, Status

if TYPE_CHECKING:
    from datetime import datetime

    from mailmerge.errors import MailmergeError


class StopFlag(Protocol):
    """Set from outside, by a signal handler for one: `threading.Event` is such a flag."""

    def is_set(self) -> bool:
        """Tell whether to stop."""
        ...


class Work(Struct, frozen=True):
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

    @property
    def domains(self) -> set[str]:
        """Whose mailboxes the message is for."""
        return {address.domain.lower() for address in self.message.envelope.rcpt_to}

    def attempt(self, connection: str) -> Attempt:
        """Give what the ledger promises before the message is handed over on *connection*."""
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
            digest=message.digest,
            row_digest=self.row_digest,
            version=self.version,
            connection=connection,
        )


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


class Progress(Struct, frozen=True):
    """One step of a run: a row's outcome, or the beginning of a wait."""

    counts: Counts
    in_flight: int
    row: int | None = None
    address: str = ""
    status: Status | None = None
    outcome: Outcome | None = None
    waiting: str = ""
    """Why nothing is sent just now: ``rate``, ``network``, ``account``; empty: something is."""
    until: datetime | None = None
