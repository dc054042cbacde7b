"""What a program that runs us hears meanwhile: its callback for outcomes, and the logger ``mailmerge``."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import logging
    from collections.abc import Callable, Sequence

    from mailmerge.ledger.attempts import Settlement
    from mailmerge.sending.runs import RunDecision

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
