"""Group commit: outcomes wait a moment for the next promises, so that one transaction carries both."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Protocol

from mailmerge.errors import LedgerError
from mailmerge.ledger.attempts import Settlement
from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Quota
    from mailmerge.model import Attempt, Outcome
    from mailmerge.sending.policy import Verdict

_COMMIT_WITHIN = 0.1
_MARK_EVERY = 1.0


class LedgerWriter(Protocol):
    """The part of the ledger that the send loop writes to."""

    @property
    def handed_over(self) -> int:
        """How many hand-overs were ever recorded."""
        ...

    def record_intent(self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement] = ()) -> None:
        """Record the next hand-overs, and the outcomes so far, in one durable transaction."""
        ...

    def record_outcomes(self, outcomes: Sequence[Settlement]) -> None:
        """Record what became of attempts in one durable transaction."""
        ...


class OutcomeWriter:
    """Holds back outcomes for at most a tenth of a second; losing one could only widen the doubt."""

    def __init__(
        self,
        ledger: LedgerWriter,
        clock: Clock,
        mark: Callable[[int], None] | None,
        usage: Quota | None = None,
    ) -> None:
        self._ledger = ledger
        self._usage = usage
        self._clock = clock
        self._mark = mark
        self._settled: list[Settlement] = []
        self._since: float | None = None
        self._urgent = False
        self._marked_at = float("-inf")

    def settle(self, attempt: Attempt, outcome: Outcome, verdict: Verdict, now: datetime) -> None:
        """Take an outcome; it is not durable yet."""
        self._settled.append(
            Settlement(attempt, outcome, verdict.status, now, verdict.next_at, counts=verdict.counts)
        )
        if self._since is None:
            self._since = self._clock.monotonic()
        if outcome.status is not Status.ACCEPTED:
            self._urgent = True

    def commit_in(self) -> float | None:
        """Tell within how many seconds the outcomes must be recorded; None: there are none."""
        if self._since is None:
            return None
        return 0.0 if self._urgent else max(0.0, self._since + _COMMIT_WITHIN - self._clock.monotonic())

    def record(self, attempts: Sequence[Attempt] = ()) -> None:
        """Make outcomes so far and these promises durable.

        Raises:
            LedgerError: they are not, so none of *attempts* may be completed.

        """
        if attempts and self._usage is not None:
            try:
                self._usage.commit()
            except LedgerError:  # the ledger itself is well
                self._ledger.record_outcomes(self._settled)
                raise
        if attempts or self._settled:
            self._ledger.record_intent(attempts, self._settled)
        self._settled = []
        self._since = None
        self._urgent = False
        if self._clock.monotonic() - self._marked_at >= _MARK_EVERY:
            with contextlib.suppress(LedgerError):  # a safety net: it is tried again
                self.note_mark()

    def note_mark(self) -> None:
        """Tell outside how far the ledger has got."""
        self._marked_at = self._clock.monotonic()
        if self._mark is not None:
            self._mark(self._ledger.handed_over)
