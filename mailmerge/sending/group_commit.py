"""Group commit: outcomes wait a moment for the next intents, so that one transaction records both.

A flush to disk takes longer than everything else that is done for a message, and every message needs one
before its end may be sent. So its outcome does not get its own flush: it waits, at most a tenth of a second,
until the next intents have to be recorded anyway. With a window of messages in flight, one flush serves all
of it; with one message at a time there is one flush a message, not two.

A crash can only lose that an outcome was *known*: its row is ``handing_over`` on disk and becomes
``in_doubt``, never pending. An outcome that needs an explanation (a refusal, a doubt) is recorded without
waiting.

Once an outcome is durable, it is reported to the calling program: through its callback and the logger
``mailmerge``.
"""

from __future__ import annotations

import contextlib
import sys
from typing import TYPE_CHECKING, Final, Protocol

from mailmerge.errors import LedgerError
from mailmerge.ledger.attempts import IntentRefusedError, Revision, Settlement
from mailmerge.model import Counts, Outcome, Phase, Scope, Status
from mailmerge.sending.runs import Progress, RowDecision

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Collection, Sequence
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Quota
    from mailmerge.model import Attempt
    from mailmerge.sending.runs import RunDecision

_COMMIT_WITHIN = 0.1
_MARK_EVERY = 1.0


class IntentsUnderWay(Protocol):
    """Intents that are being recorded."""

    def __call__(self) -> Collection[str]:
        """Wait for the end; return, or raise, what `LedgerWriter.record_intent` does."""
        ...

    @property
    def answer_at(self) -> Callable[[], int]:
        """Returns the descriptor on which the answer will arrive; -1: waiting takes no time."""
        ...


class LedgerWriter(Protocol):
    """The part of the ledger that the send loop writes to."""

    @property
    def handed_over(self) -> int:
        """How many hand-overs were ever recorded."""
        ...

    @property
    def refused(self) -> Collection[str]:
        """The keys of rows that this process may no longer send."""
        ...

    def record_intent(
        self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement] = ()
    ) -> Collection[str]:
        """Record the next hand-overs, and the outcomes so far, in one durable transaction.

        Returns:
            The keys of those that may not be handed over, now or at all (`refused`).

        """
        ...

    @property
    def begin_intent(
        self,
    ) -> Callable[[Sequence[Attempt], Sequence[Settlement]], IntentsUnderWay] | None:
        """What begins what `record_intent` does, where that takes a round trip; None: it takes no time."""
        ...

    def record_outcomes(self, outcomes: Sequence[Settlement]) -> None:
        """Record the outcomes of attempts in one durable transaction."""
        ...

    def give_back(self, keys: Sequence[str]) -> None:
        """Make deferred rows pending again, and do not count their last try."""
        ...

    def revise(self, revision: Revision) -> None:
        """Record that an outcome was not what it seemed to be."""
        ...


class OutcomeWriter:
    """Delays outcomes for a moment, and records them with the next intents.

    Args:
        ledger: takes both.
        clock: measures how long outcomes have waited.
        quota: records what it reserved before the messages can be complete; None: no account is counted.
        recorded: called with the outcomes that are durable now; None: not called.
        mark: called now and then with the number of hand-overs in the ledger; None: not called.

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
        self.announces = ledger.begin_intent is not None
        """Whether the ledger is so far away that `announce` pays."""
        self._ledger = ledger
        self._recorded = recorded
        self._quota = quota
        self._clock = clock
        self._mark = mark
        self._settled: list[Settlement] = []
        self._announced: set[str] = set()
        """Keys whose intent is on the disk, or on its way there, and which were not settled since."""
        self._travelling: frozenset[str] = frozenset()
        """Those of them that are on their way."""
        self._unpromised: set[str] = set()
        """Keys that were announced in vain, until somebody asks."""
        self._end: IntentsUnderWay | None = None
        """What waits for the intents under way."""
        self._under_way: tuple[Sequence[Attempt], list[Settlement]] = ((), [])
        self._since: float | None = None
        self._urgent = False
        self._marked_at = float("-inf")

    def settle(self, attempt: Attempt, outcome: Outcome, row: RowDecision, now: datetime) -> None:
        """Add an outcome; it is not durable yet."""
        self._announced.discard(attempt.key)
        self._settled.append(Settlement(attempt, outcome, row.status, now, row.next_at, counts=row.counts))
        if self._since is None:
            self._since = self._clock.monotonic()
        if outcome.status is not Status.ACCEPTED:
            self._urgent = True

    def withdraw(self, attempt: Attempt, now: datetime) -> None:
        """Take an intent back whose message never left, if there may be one on the disk."""
        if self.is_announced(attempt):
            never = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA, reason="withdrawn")
            self.settle(attempt, never, RowDecision(Status.PENDING, counts=False), now)

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
        """Record immediately that the outcome of an attempt was not what was settled.

        Args:
            attempt: which one.
            outcome: its outcome as known now.
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
        """Return within how many seconds the outcomes must be recorded; None: not before something else."""
        if self._since is None or self._end is not None:
            return None
        return 0.0 if self._urgent else max(0.0, self._since + _COMMIT_WITHIN - self._clock.monotonic())

    @property
    def refused(self) -> Collection[str]:
        """The keys of rows that other workers have to send."""
        return self._ledger.refused

    def announce(self, attempts: Sequence[Attempt]) -> None:
        """Begin to record the intents of messages that are on their way, with the outcomes so far.

        Where the ledger is a round trip away, that passes while they travel; `record` waits for it.

        Raises:
            IntentRefusedError, LedgerError: as `record`.

        """
        begin = self._ledger.begin_intent
        if begin is None or not attempts:
            return
        try:
            self._count_against_quota()
        except IntentRefusedError:
            self._all_recorded()
            raise
        self._end = begin(attempts, self._settled)
        self._under_way = (attempts, self._settled)
        self._travelling = frozenset(attempt.key for attempt in attempts)
        self._announced |= self._travelling
        self._unpromised -= self._travelling
        self._settled, self._since, self._urgent = [], None, False

    def answer_at(self) -> int:
        """Return the descriptor on which the ledger will answer about intents under way; -1: it has."""
        return -1 if self._end is None else self._end.answer_at()

    def travelling(self) -> frozenset[str]:
        """Return the keys of intents about which the ledger has yet to answer."""
        return self._travelling if self.answer_at() >= 0 else frozenset()

    def is_announced(self, attempt: Attempt) -> bool:
        """Tell whether an intent may be on the disk of which nothing was settled."""
        return attempt.key in self._announced

    def record(self, attempts: Sequence[Attempt] = ()) -> Collection[str]:
        """Make the outcomes so far, and the intents to make *attempts*, durable.

        Outcomes may wait on where all of *attempts* were announced.

        Returns:
            The keys of those that may not be handed over.

        Raises:
            IntentRefusedError: the outcomes are durable, but none of *attempts* may be completed.
            LedgerError: the outcomes are not durable either.

        """
        keys = {each.key for each in attempts}
        known = self._announced | self._unpromised
        if not keys or self._end is None or not keys <= known or not keys.isdisjoint(self._travelling):
            self.conclude()
        refused = frozenset(self._unpromised & keys)
        self._unpromised -= keys
        rest = [each for each in attempts if each.key not in self._announced and each.key not in refused]
        try:
            if rest:
                self._count_against_quota()
                refused = refused.union(self._ledger.record_intent(rest, self._settled))
            elif self._settled and self._end is None and (not attempts or self._urgent):
                self._ledger.record_outcomes(self._settled)
            else:
                return refused
        except IntentRefusedError:
            self._all_recorded()
            raise
        self._announced.update(each.key for each in rest if each.key not in refused)
        self._all_recorded()
        self._mark_now_and_then()
        return refused

    def conclude(self) -> None:
        """Wait for the intents under way; `record` returns which of them may not be handed over.

        Raises:
            IntentRefusedError, LedgerError: as `record`.

        """
        end, self._end = self._end, None
        if end is None:
            return
        self._travelling = frozenset()
        attempts, settled = self._under_way
        try:
            refused = frozenset(end())
        except IntentRefusedError:
            self._announced.difference_update(attempt.key for attempt in attempts)
            self._tell(settled)
            raise
        self._unpromised |= refused & self._announced
        self._announced -= refused
        self._tell(settled)
        self._mark_now_and_then()

    def _mark_now_and_then(self) -> None:
        if self._clock.monotonic() - self._marked_at >= _MARK_EVERY:
            with contextlib.suppress(LedgerError):  # a safety net: it is tried again
                self.note_mark()

    def _tell(self, settled: Sequence[Settlement]) -> None:
        if settled and self._recorded is not None:
            self._recorded(settled)

    def _all_recorded(self) -> None:
        done, self._settled = self._settled, []
        self._since = None
        self._urgent = False
        self._tell(done)

    def _count_against_quota(self) -> None:
        """Count before the first of these messages can be complete: to count too many is safe."""
        if self._quota is None:
            return
        try:
            self._quota.commit()
        except LedgerError as error:  # the account's record failed, not the campaign's ledger
            self._ledger.record_outcomes(self._settled)
            raise IntentRefusedError.of(error) from error

    def note_mark(self) -> None:
        """Report how many hand-overs the ledger has recorded."""
        self._marked_at = self._clock.monotonic()
        if self._mark is not None:
            self._mark(self._ledger.handed_over)


_INFO: Final = 20
"""`logging.INFO`, without loading it."""


def program_log() -> logging.Logger | None:
    """Return the logger ``mailmerge``, which a program may listen to; None: nobody listens.

    A program that listens has loaded `logging` and added a handler: otherwise it is not loaded.
    """
    if "logging" not in sys.modules:
        return None
    import logging

    log = logging.getLogger("mailmerge")
    return log if log.hasHandlers() and log.isEnabledFor(logging.WARNING) else None


class OutcomeListener:
    """Reports every outcome to the calling program, once it is durable.

    Args:
        on_outcome: called with each; an exception from it, or Ctrl-C, is kept, to be raised when the run has
            ended and its report is written. Until then it is still called for all that are recorded.
        log: gets a line for each at INFO; None: nobody listens.

    """

    def __init__(
        self, on_outcome: Callable[[Settlement], None] | None, log: logging.Logger | None = None
    ) -> None:
        self.failure: BaseException | None = None
        self._log = log
        self._each = log is not None and log.isEnabledFor(_INFO)
        self._on_outcome = on_outcome

    def tell(self, settled: Sequence[Settlement]) -> None:
        """Report outcomes that were recorded together."""
        if self._log is not None and self._each:
            for settlement in settled:
                self._log.info("%s", settlement)
        if self._on_outcome is None:
            return
        for settlement in settled:
            try:
                self._on_outcome(settlement)
            except BaseException as error:  # noqa: BLE001  raised again when all is recorded and reported
                self.failure = self.failure or error

    def warn(self, run: RunDecision, why: object) -> None:
        """Log that the run pauses or reconnects, if it does."""
        if self._log is None:
            return
        if run.pause:
            self._log.warning("paused for %.0f s: %s", run.pause, why)
        elif run.reconnect:
            self._log.warning("connecting again in %.0f s: %s", run.reconnect, why)


class ProgressTally:
    """Counts the outcomes of rows, and reports progress to the run's observer.

    Args:
        observe: called at every step; an exception from it is kept, to be raised again when everything in
            flight is settled: a closed pipe must not lose an outcome.

    """

    def __init__(self, observe: Callable[[Progress], None]) -> None:
        self.failure: Exception | None = None
        self._observe = observe
        self._by_status: dict[Status, int] = {}

    @property
    def counts(self) -> Counts:
        """Outcomes of this run by the resulting state of the row."""
        return Counts(dict(self._by_status))

    def row(self, row: int, address: str, status: Status, outcome: Outcome, in_flight: int) -> None:
        """Count one row, and report it."""
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
        """Report that nothing is sent for a while."""
        self._tell(Progress(self.counts, 0, waiting=why, until=until))

    def _tell(self, progress: Progress) -> None:
        try:
            self._observe(progress)
        except Exception as error:  # noqa: BLE001  raised again by the sender
            self.failure = self.failure or error
