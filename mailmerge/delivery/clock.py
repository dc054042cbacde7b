"""Time as the sender sees it: real, or virtual for rehearsals that should not take hours."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Protocol


class Clock(Protocol):
    """Wall clock, steady clock and sleep in one, so that they cannot disagree."""

    def now(self) -> datetime:
        """Say what time it is, in UTC."""
        ...

    def monotonic(self) -> float:
        """Give seconds that never go backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Say what time it is, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Give the system's steady clock."""
        return time.monotonic()

    def sleep(self, seconds: float) -> None:
        """Sleep for real."""
        time.sleep(seconds)


class VirtualClock:
    """A clock that moves only when someone sleeps: a day's pacing passes in a moment."""

    def __init__(self, start: datetime | None = None) -> None:
        self._start = start or datetime.now(UTC)
        self._passed = 0.0

    def now(self) -> datetime:
        """Say the start plus all that was slept."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Give the seconds slept so far."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Advance by *seconds* at once."""
        self._passed += max(0.0, seconds)
