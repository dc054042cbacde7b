"""Time as the sender sees it: real, or virtual for rehearsals that should not take hours."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator


class Clock(Protocol):
    """Wall clock, steady clock and sleep in one, so that they cannot disagree."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        ...

    def monotonic(self) -> float:
        """Return seconds that never go backwards."""
        ...

    def sleep(self, seconds: float) -> None:
        """Let *seconds* pass."""
        ...


class SystemClock:
    """The machine's clocks."""

    def now(self) -> datetime:
        """Return the time, in UTC."""
        return datetime.now(UTC)

    def monotonic(self) -> float:
        """Return the system's steady clock."""
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
        """Return the start plus all that was slept."""
        return self._start + timedelta(seconds=self._passed)

    def monotonic(self) -> float:
        """Return the seconds slept so far."""
        return self._passed

    def sleep(self, seconds: float) -> None:
        """Advance by *seconds* immediately."""
        self._passed += max(0.0, seconds)


class ClockWatch:
    """Notices that the wall clock moved by itself: it was set, or the machine slept.

    The steady clock of some systems stops meanwhile, so pace and pauses are not affected by either.
    """

    LEAST = 60.0
    """Seconds below which a jump is the daily work of a time service."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._distance = self._measured()
        self.jumps: list[float] = []
        """Seconds of each jump so far; negative: the clock was set back."""

    def look(self) -> None:
        """Compare the clocks; to be called now and then."""
        distance = self._measured()
        jump = distance - self._distance
        if abs(jump) >= self.LEAST:
            self.jumps.append(jump)
            self._distance = distance

    def notes(self) -> Iterator[str]:
        """Yield a sentence about each direction in which the clock went."""
        for direction, jumps in (
            ("ahead", [jump for jump in self.jumps if jump > 0]),
            ("back", [jump for jump in self.jumps if jump < 0]),
        ):
            if jumps:
                minutes = abs(sum(jumps)) / 60
                yield (
                    f"the clock went {minutes:,.0f} min {direction} during the run (it was set, or the "
                    "machine slept); the pace was kept, but times in the report may look odd"
                )

    def _measured(self) -> float:
        return self._clock.now().timestamp() - self._clock.monotonic()
