"""Patience with network and server: how soon to try again, how long to pause, and when to stop.

Times are seconds of a steady clock.
"""

from __future__ import annotations

_AT_START = 3
_LONGEST = 60.0
_TOTAL = 600.0
_CLOSINGS = 3
_SHORT_PAUSES = (5.0, 10.0, 30.0, 1200.0)
_LONGEST_PAUSE = 4 * 3600.0
_OBEYED_ALWAYS = 60.0


class ReconnectBackoff:
    """Counts setbacks since something last went well."""

    def __init__(self) -> None:
        self.connected = False
        """Whether any connection of this run has ever stood."""
        self.retry_at = float("-inf")
        self._since: float | None = None
        self._setbacks = 0
        self._closings = 0

    def setback(self, now: float) -> bool:
        """Count a failed or useless connection; tell whether to try again, at `retry_at`."""
        if self._since is None:
            self._since = now
        self._setbacks += 1
        delay = min(_LONGEST, 2.0 ** min(self._setbacks - 1, 6))
        self.retry_at = now + delay
        if not self.connected:
            return self._setbacks < _AT_START
        return now + delay - self._since <= _TOTAL

    def closing(self) -> bool:
        """Count a connection that the server ended with 421; tell whether to go on."""
        self._closings += 1
        return self._closings < _CLOSINGS

    def progress(self) -> None:
        """Forget all setbacks: a message got its answer."""
        self._since = None
        self._setbacks = 0
        self._closings = 0


class ServerPause:
    """Obeys the server's orders to wait: short ones always, longer ones where the user said so.

    Orders that follow each other with nothing accepted in between grow: 5, 10, 30 seconds and 20 minutes
    where only the rate was too high, else doubling up to 4 hours.
    """

    def __init__(self, *, wait: bool) -> None:
        self.until = float("-inf")
        self.ordered = 0.0
        """Seconds of the last order, grown as it may have."""
        self._wait = wait
        self._orders = 0

    def over(self, now: float) -> bool:
        """Tell whether nothing has to be waited for."""
        return now >= self.until

    def order(self, seconds: float, now: float) -> float | None:
        """Take an order to wait; None: it is obeyed, else the seconds after which to run again."""
        if seconds <= _SHORT_PAUSES[0]:
            seconds = _SHORT_PAUSES[min(self._orders, len(_SHORT_PAUSES) - 1)]
        else:
            seconds = min(seconds * 2**self._orders, max(seconds, _LONGEST_PAUSE))
        self._orders += 1
        self.ordered = seconds
        if seconds <= _OBEYED_ALWAYS or self._wait:
            self.until = now + seconds
            return None
        return seconds

    def progress(self) -> None:
        """Forget the orders so far: something was accepted."""
        self._orders = 0
