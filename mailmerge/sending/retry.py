"""When a refused row is tried again: pure arithmetic, jitter handed in."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_JITTER = 0.2


class RetryPolicy(Struct, frozen=True):
    """Waits between tries, how many tries, and how long at most since the first."""

    delays: tuple[float, ...]
    """Seconds after the first, second ... try; the last one repeats. None at all: nothing is tried again."""
    tries: int = 8
    give_up_after: timedelta = timedelta(hours=48)

    def next_at(
        self,
        tries: int,
        first: datetime,
        now: datetime,
        random: Callable[[], float],
        *,
        asked: float | None = None,
    ) -> datetime | None:
        """Tell when to try again after *tries* tries, the first of them at *first*.

        Args:
            tries: how many tries the row has used up, this one included.
            first: when the first of them was.
            now: the time of the refusal.
            random: gives a number from 0 up to 1.
            asked: seconds that the server, or what we know of its words, asks us to wait.

        Returns:
            The time, or None: the row has expired.

        """
        if not self.delays or tries >= self.tries or now - first >= self.give_up_after:
            return None
        delay = self.delays[min(max(tries, 1), len(self.delays)) - 1]
        delay *= 1 + _JITTER * (2 * random() - 1)
        if asked is not None:
            # Whoever names a time means at least that long.
            delay = max(delay, asked * (1 + _JITTER * random()))
        return now + timedelta(seconds=delay)
