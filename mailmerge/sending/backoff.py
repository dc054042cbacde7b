"""How long to wait before trying again: a refused row, a lost connection, a server that wants rest.

Three questions, three growing waits; all of it arithmetic on what is handed in. Times are seconds of a steady
clock where a wait is short, wall-clock times where it may outlive the run.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

_JITTER = 0.2

# Reconnecting: 1, 2, 4 .. 60 s, for ten minutes in all; a server that was never reached is given up sooner,
# because a person who just typed the command waits for it.
_TRIES_AT_START = 3
_LONGEST_RECONNECT = 60.0
_RECONNECT_FOR = 600.0

# Pauses that a server orders with nothing accepted in between. Those of a few seconds mean "slower": they
# grow in steps. Longer ones were meant: they double.
_SHORT_PAUSES = (5.0, 10.0, 30.0, 1200.0)
_LONGEST_PAUSE = 4 * 3600.0


class RetryPolicy(Struct, frozen=True):
    """Waits between a row's tries, how many tries, and how long at most since the first."""

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
        """Return when to try again after *tries* tries, the first of them at *first*.

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


def reconnect_delay(setbacks: int, since: float, now: float, *, connected: bool) -> float | None:
    """Return how long to wait before the next connection.

    Args:
        setbacks: connections in a row that failed or brought no message to an answer, this one included.
        since: when the first of them did, in seconds of the steady clock.
        now: this moment.
        connected: whether any connection of this run was ever made.

    Returns:
        Seconds, or None: it is time to give up.

    """
    delay = min(_LONGEST_RECONNECT, 2.0 ** min(setbacks - 1, 6))
    if not connected:
        return delay if setbacks < _TRIES_AT_START else None
    return delay if now + delay - since <= _RECONNECT_FOR else None


def pause_length(asked: float, orders: int) -> float:
    """Return how many seconds to pause when the server asks for *asked*, after *orders* in a row."""
    if asked <= _SHORT_PAUSES[0]:
        return _SHORT_PAUSES[min(orders, len(_SHORT_PAUSES) - 1)]
    return min(asked * 2.0**orders, max(asked, _LONGEST_PAUSE))
