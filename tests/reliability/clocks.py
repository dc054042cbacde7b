"""Clocks for tests with real sockets: real time flows, but nobody has to sit out a pause."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta


class SkippingClock:
    """The machine's clocks, except that sleeping takes next to no time; *ahead* moves the wall clock."""

    def __init__(self, ahead: float = 0.0, *, nap: float = 0.002) -> None:
        self.ahead = timedelta(seconds=ahead)
        self.skipped = 0.0
        """Seconds that were slept without passing."""
        self.slept: list[float] = []
        self._nap = nap

    def now(self) -> datetime:
        """Return what time it would be."""
        return datetime.now(UTC) + timedelta(seconds=self.skipped) + self.ahead

    def monotonic(self) -> float:
        """Return steady seconds, those that were skipped included."""
        return time.monotonic() + self.skipped

    def sleep(self, seconds: float) -> None:
        """Let a moment pass for *seconds*."""
        nap = min(seconds, self._nap)
        time.sleep(nap)
        self.slept.append(seconds)
        self.skipped += max(0.0, seconds - nap)
