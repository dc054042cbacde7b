"""When a refused row is tried again: pure arithmetic, jitter handed in."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

DEFAULT = "1m, 5m, 15m, 1h, 3h, 6h, 12h"

_SPAN = re.compile(r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*([smhd])\s*\Z", re.IGNORECASE)
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_JITTER = 0.2


class RetryPolicy(Struct, frozen=True):
    """Waits between tries, how many tries, and how long at most since the first."""

    delays: tuple[float, ...]
    """Seconds after the first, second ... try; the last one repeats."""
    tries: int = 8
    give_up_after: timedelta = timedelta(hours=48)

    @classmethod
    def parse(cls, text: str = DEFAULT) -> RetryPolicy:
        """Read waits such as ``1m, 5m, 15m, 1h``.

        Raises:
            ValueError: one of them is no span of time.

        """
        delays = []
        for part in text.split(","):
            match = _SPAN.match(part)
            if match is None or float(match[1]) <= 0:
                raise ValueError(f'"{part.strip()}" is no span of time: write 30s, 5m, 1h or 1d')
            delays.append(float(match[1]) * _SECONDS[match[2].lower()])
        return cls(tuple(delays))

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
        if tries >= self.tries or now - first >= self.give_up_after:
            return None
        delay = self.delays[min(max(tries, 1), len(self.delays)) - 1]
        delay *= 1 + _JITTER * (2 * random() - 1)
        if asked is not None:
            # Whoever names a time means at least that long.
            delay = max(delay, asked * (1 + _JITTER * random()))
        return now + timedelta(seconds=delay)
