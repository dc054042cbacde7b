"""Group commit: outcomes wait a moment for the next intents, so that one transaction carries both.

A flush of the disk costs more than all else that is done to a message, and every message needs one before its
end may leave. So its outcome does not get one of its own: it is held back, at most a tenth of a second, until
the next intents have to be recorded anyway. With a window of messages in flight one flush serves all of it;
with one message at a time there is one flush a message, not two.

What a crash can lose that way is only that an outcome was *known*: its row is ``handing_over`` on disk and
becomes ``in_doubt``. It is never taken for pending. An outcome that somebody will want to see explained (a
refusal, a doubt) is not held back at all.

Once an outcome is durable, a program that runs us hears of it: by its callback and the logger ``mailmerge``.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final, Protocol

from mailmerge.errors import LedgerError
from mailmerge.ledger.attempts import IntentRefusedError, Revision, Settlement
from mailmerge.model import Counts, Status
from mailmerge.sending.runs import Progress

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Quota
    from mailmerge.model import Attempt, Outcome
    from mailmerge.sending.runs import RowDecision, RunDecision

_COMMIT_WITHIN = 0.1
_MARK_EVERY = 1.0


class LedgerWriter(Protocol):
    """The part of the ledger that the send loop writes to."""

    @property
    def handed_over(self) -> int:
        """How many hand-overs were ever recorded."""
        ...

    @property
    def refused(self) -> Collection[str]:
        """The keys of rows that are not this process's to send any more."""
        ...

    def record_intent(
        self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement] = ()
    ) -> Collection[str]:
        """Record the next hand-overs, and the outcomes so far, in one durable transaction.

        Returns:
            The keys of those that may not be handed over, now or at all (`refused`).

        """
        ...

    def record_outcomes(self, outcomes: Sequence[Settlement]) -> None:
        """Record what became of attempts in one durable transaction."""
        ...

    def give_back(self, keys: Sequence[str]) -> None:
        """Make deferred rows pending again, with the try given back that they used up last."""
        ...

    def revise(self, revision: Revision) -> None:
        """Record that an outcome was not what it seemed to be."""
        ...


class OutcomeWriter:
    """Holds outcomes back for a moment, and records them with the next intents.

    Args:
        ledger: takes both.
        clock: says how long outcomes have waited.
        quota: is told to write down what it reserved before the messages can be complete; None: no account
            is counted.
        recorded: is told which outcomes are durable now; None: nobody wants to know.
        mark: is told now and then how many hand-overs the ledger knows of; None: nobody wants to know.

    """

    def __init__(
        self,
        ledger: LedgerWriter,
        clock: Clock,
        *,
        quota: Quota | None = None,
        mark: Callable[[int], None] | None = None,
        recorded: Callable[[Sequence[Settlement]], None] | None = None,
    ) -> None:
        self._ledger = ledger
        self._recorded = recorded
        self._quota = quota
        self._clock = clock
        self._mark = mark
        self._settled: list[Settlement] = []
        self._since: float | None = None
        self._urgent = False
        self._marked_at = float("-inf")

    def settle(self, attempt: Attempt, outcome: Outcome, row: RowDecision, now: datetime) -> None:
        """Take an outcome; it is not durable yet."""
        self._settled.append(Settlement(attempt, outcome, row.status, now, row.next_at, counts=row.counts))
        if self._since is None:
            self._since = self._clock.monotonic()
        if outcome.status is not Status.ACCEPTED:
            self._urgent = True

    def give_back(self, keys: Sequence[str]) -> None:
        """Make rows pending again whose deferral turned out not to be about them.

        Raises:
            LedgerError: it could not be recorded.

        """
        self.record()
        self._ledger.give_back(keys)

    def revise(
        self, attempt: Attempt, outcome: Outcome, old: RowDecision, row: RowDecision, now: datetime
    ) -> None:
        """Record at once that the attempt did not come to what was settled.

        Args:
            attempt: which one.
            outcome: what can be said of it now.
            old: what was decided about its row when it was settled.
            row: what is decided now.
            now: the time.

        Raises:
            LedgerError: it cannot be recorded.

        """
        self.record()
        settlement = Settlement(attempt, outcome, row.status, now, row.next_at, counts=row.counts)
        self._ledger.revise(Revision(settlement, old.status, counted=old.counts))
        if self._recorded is not None:
            self._recorded([settlement])

    def commit_in(self) -> float | None:
        """Return within how many seconds the outcomes must be recorded; None: there are none."""
        if self._since is None:
            return None
        return 0.0 if self._urgent else max(0.0, self._since + _COMMIT_WITHIN - self._clock.monotonic())

    @property
    def refused(self) -> Collection[str]:
        """The keys of rows that others have to send."""
        return self._ledger.refused

    def record(self, attempts: Sequence[Attempt] = ()) -> Collection[str]:
        """Make outcomes so far, and the intents to make *attempts*, durable.

        Returns:
            The keys of those that may not be handed over.

        Raises:
            IntentRefusedError: the outcomes are, but none of *attempts* may be completed.
            LedgerError: nor are the outcomes.

        """
        refused: Collection[str] = ()
        try:
            if attempts:
                self._count_against_quota()
                refused = self._ledger.record_intent(attempts, self._settled)
            elif self._settled:
                self._ledger.record_outcomes(self._settled)
        except IntentRefusedError:
            self._all_recorded()
            raise
        self._all_recorded()
        if self._clock.monotonic() - self._marked_at >= _MARK_EVERY:
            with contextlib.suppress(LedgerError):  # a safety net: it is tried again
                self.note_mark()
        return refused

    def _all_recorded(self) -> None:
        done, self._settled = self._settled, []
        self._since = None
        self._urgent = False
        if done and self._recorded is not None:
            self._recorded(done)

    def _count_against_quota(self) -> None:
        """Count before the first of these messages can be complete: too many counted is the safe side."""
        if self._quota is None:
            return
        try:
            self._quota.commit()
        except LedgerError as error:  # that of the account: the campaign's own is well
            self._ledger.record_outcomes(self._settled)
            raise IntentRefusedError.of(error) from error

    def note_mark(self) -> None:
        """Tell outside how far the ledger has got."""
        self._marked_at = self._clock.monotonic()
        if self._mark is not None:
            self._mark(self._ledger.handed_over)


_INFO: Final = 20
"""`logging.INFO`, without loading it."""


def program_log() -> logging.Logger | None:
    """Give the logger that a program may listen to, ``mailmerge``; None where nobody listens.

    A program that listens has loaded `logging` and added a handler: nobody else pays for it.
    """
    if "logging" not in sys.modules:
        return None
    import logging

    log = logging.getLogger("mailmerge")
    return log if log.hasHandlers() and log.isEnabledFor(logging.WARNING) else None


class OutcomeListener:
    """Tells the program that runs us of every outcome, once it is durable.

    Args:
        on_outcome: is told of each; what it raises is kept, to be raised when the run has ended and its
            report is written. It is told of all that are still recorded until then.
        log: a line for each at INFO; None: nobody listens.

    """

    def __init__(
        self, on_outcome: Callable[[Settlement], None] | None, log: logging.Logger | None = None
    ) -> None:
        self.failure: Exception | None = None
        self._log = log
        self._each = log is not None and log.isEnabledFor(_INFO)
        self._on_outcome = on_outcome

    def tell(self, settled: Sequence[Settlement]) -> None:
        """Tell of outcomes that were recorded together."""
        if self._log is not None and self._each:
            for settlement in settled:
                self._log.info("%s", settlement)
        if self._on_outcome is None:
            return
        for settlement in settled:
            try:
                self._on_outcome(settlement)
            except Exception as error:  # noqa: BLE001  raised again when everything is recorded and reported
                self.failure = self.failure or error

    def warn(self, run: RunDecision, why: object) -> None:
        """Log that a run pauses or connects again, if it does."""
        if self._log is None:
            return
        if run.pause:
            self._log.warning("paused for %.0f s: %s", run.pause, why)
        elif run.reconnect:
            self._log.warning("connecting again in %.0f s: %s", run.reconnect, why)


class ProgressTally:
    """Counts what became of the rows, and tells whoever watches the run.

    Args:
        observe: is told of every step; what it raises is kept, to be raised again when everything in flight
            is settled: a closed pipe must not cost us an outcome.

    """

    def __init__(self, observe: Callable[[Progress], None]) -> None:
        self.failure: Exception | None = None
        self._observe = observe
        self._by_status: dict[Status, int] = {}

    @property
    def counts(self) -> Counts:
        """Outcomes of this run by the state they left the row in."""
        return Counts(dict(self._by_status))

    def row(self, row: int, address: str, status: Status, outcome: Outcome, in_flight: int) -> None:
        """Count one row, and tell of it."""
        self._by_status[status] = self._by_status.get(status, 0) + 1
        self._tell(Progress(self.counts, in_flight, row, address, status, outcome))

    def taken_back(self, status: Status, rows: int) -> None:
        """Count *rows* that were in this state as pending again."""
        left = min(rows, self._by_status.get(status, 0))
        self._by_status[status] = self._by_status.get(status, 0) - left
        self._by_status[Status.PENDING] = self._by_status.get(Status.PENDING, 0) + left

    def take_back(self, status: Status) -> None:
        """Take one row out of the count of those in *status*."""
        self._by_status[status] -= 1

    def waiting(self, why: str, until: datetime) -> None:
        """Tell that nothing is sent for a while."""
        self._tell(Progress(self.counts, 0, waiting=why, until=until))

    def _tell(self, progress: Progress) -> None:
        try:
            self._observe(progress)
        except Exception as error:  # noqa: BLE001  raised again by the sender
            self.failure = self.failure or error
