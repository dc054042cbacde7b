"""Rates as a pure function of time: no clock, no sleep, no threads.

Every rate applies to *every* window: at most N messages in any half-open window of length T, so the N-th last
message must be T old before the next may begin. In addition, the shortest rate is spaced evenly; longer ones
(2000 a day) may be used up at the pace of the short one. A pause is not made up for: after an hour's pause,
sending continues at the same pace, without a burst. Jitter only ever lengthens a wait. Rates may also apply
to each recipient domain.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING, Protocol

from mailmerge.model import SHORTEST_DELAY, SHORTEST_INTERVAL, SLOWEST, STEP_UP, STEP_UP_EVERY
from mailmerge.text import slowed_down

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailmerge.model import Rate

_FAST = 0.1
"""Seconds between two messages at ten a second: at this rate and above, replies may come too late for it."""
_STALL = 0.2
"""Seconds, two round trips, for which a session may wait for replies at such a rate and lose no turn."""
_MOMENT = 0.001
"""Seconds that may pass between a message's turn and the moment it is written, in which others may differ."""
_SWEEP_EVERY = 1000


class Turn(Protocol):
    """A message's turn in a rate that several workers share: a time at which its end may be sent."""

    def wait(self, now: float) -> float:
        """Return how many seconds the end has to wait; 0: it must be sent immediately.

        A caller that is too late for its turn loses it and gets another one.
        """
        ...

    def left(self, now: float) -> None:
        """Record that the end was written to the connection by *now*."""
        ...


class Pace(Protocol):
    """What the send loop needs: when the next message may begin and, with a shared rate, end."""

    @property
    def interval(self) -> float:
        """Seconds between two messages at the present rate; 0: as fast as possible."""
        ...

    def delay(self, now: float, domains: Iterable[str] = ()) -> float:
        """Return how many seconds from *now* a message to these *domains* has to wait; 0: it may begin."""
        ...

    def take(self, now: float, domains: Iterable[str] = ()) -> Turn | None:
        """Count a message as begun at *now*; None: its end may be sent whenever it is ready."""
        ...

    def halve(self) -> None:
        """Halve the rate: the server reported that we are too fast."""
        ...

    def recover(self) -> None:
        """Count one accepted message."""
        ...

    def notes(self) -> Iterable[str]:
        """Yield how the rate changed because of the server's complaints, if there were any."""
        ...


class _RateWindow:
    """The last N times of one rate."""

    def __init__(self, rate: Rate) -> None:
        self.length = float(rate.seconds) + _MOMENT
        self.times: deque[float] = deque(maxlen=rate.count)

    def delay(self, now: float) -> float:
        if len(self.times) < (self.times.maxlen or 0):
            return 0.0
        oldest = self.times[0]
        # Both forms, because rounding may make one of them true a little before the other.
        return max(oldest + self.length - now, self.length - (now - oldest))


class _Domains:
    """The windows of each recipient domain; those that have emptied are forgotten."""

    def __init__(self, rates: Sequence[Rate]) -> None:
        self._rates = rates
        self._longest = max((rate.seconds for rate in rates), default=0.0)
        self._windows: dict[str, list[_RateWindow]] = {}
        self._taken = 0

    def delay(self, domains: Iterable[str], now: float) -> float:
        windows = (window for domain in domains for window in self._windows.get(domain, ()))
        return max((window.delay(now) for window in windows), default=0.0)

    def take(self, domains: Iterable[str], now: float) -> None:
        if not self._rates:
            return
        for domain in domains:
            windows = self._windows.get(domain)
            if windows is None:
                windows = self._windows[domain] = [_RateWindow(rate) for rate in self._rates]
            for window in windows:
                window.times.append(now)
        self._taken += 1
        if self._taken % _SWEEP_EVERY == 0:
            fresh = {d: w for d, w in self._windows.items() if now - w[0].times[-1] <= self._longest}
            self._windows = fresh


class Throttle:
    """Computes how long to wait before the next message, and remembers those that were sent.

    Times are seconds of one steady clock. Histories contain the times (of the same clock, possibly negative)
    of messages that earlier runs have sent, so that a restart does not cause a burst.

    Args:
        rates: those for all messages together.
        history: times of earlier messages.
        jitter: how much longer a wait may be, as a share of it.
        random: returns a number from 0 up to 1, for the jitter.
        per_domain: the rates for each recipient domain.
        domain_history: domains with times of earlier messages.

    """

    def __init__(
        self,
        rates: Sequence[Rate],
        history: Iterable[float] = (),
        *,
        jitter: float = 0.0,
        random: Callable[[], float] = lambda: 0.0,
        per_domain: Sequence[Rate] = (),
        domain_history: Iterable[tuple[str, float]] = (),
    ) -> None:
        self._windows = [_RateWindow(rate) for rate in rates]
        self._jitter = jitter
        self._random = random
        self._domains = _Domains(per_domain)
        shortest = min(rates, key=lambda rate: (rate.seconds, rate.count), default=None)
        self._full_interval = shortest.seconds / shortest.count if shortest else 0.0
        self._interval = self._full_interval
        self._due = float("-inf")
        self._recent: deque[float] = deque(maxlen=16)
        self._good = 0
        self.halvings = 0
        """How often the server reported that we are too fast."""
        self.longest = self._interval
        """The interval at the lowest rate so far."""
        for moment in sorted(history):
            self.take(moment)
        for moment, domain in sorted((moment, domain) for domain, moment in domain_history):
            self._domains.take((domain,), moment)

    @property
    def interval(self) -> float:
        """Seconds between two messages at the present rate; 0: as fast as possible."""
        return self._interval

    def notes(self) -> Iterator[str]:
        """Yield how the rate changed because of the server's complaints, if there were any."""
        if self.halvings:
            yield slowed_down(self.halvings, self.longest, self._interval, self._full_interval)

    def delay(self, now: float, domains: Iterable[str] = ()) -> float:
        """Return how many seconds from *now* a message to these *domains* has to wait; 0: it may go."""
        wait = max((window.delay(now) for window in self._windows), default=0.0)
        wait = max(wait, self._due - now, self._domains.delay(domains, now))
        return max(wait, SHORTEST_DELAY) if wait > 0 else 0.0

    def take(self, now: float, domains: Iterable[str] = ()) -> None:
        """Count one message, to these *domains*, as sent at *now*."""
        for window in self._windows:
            window.times.append(now)
        self._domains.take(domains, now)
        self._recent.append(now)
        if self._interval:
            # A message that begins late must not delay all that follow, or the requested rate is never
            # reached; more than that moment would be catching up. The windows stay exact either way.
            waited = self._interval <= _FAST and now - self._due <= _STALL
            slack = _STALL if waited else min(max(self._interval / 2, 0.005), 0.02)
            jitter = 1 + self._jitter * self._random()
            self._due = max(self._due, now - slack) + self._interval * jitter

    def halve(self) -> None:
        """Halve the rate: the server reported that we are too fast."""
        if not self._interval:
            self._interval = self._observed_interval()
        slowest = max(self._full_interval, 1.0) * SLOWEST
        self._interval = min(self._interval * 2, slowest)
        if self._recent:
            self._due = max(self._due, self._recent[-1] + self._interval)
        self._good = 0
        self.halvings += 1
        self.longest = max(self.longest, self._interval)

    def recover(self) -> None:
        """Count one accepted message: every fifty of them restore a tenth of the rate."""
        if self._interval <= self._full_interval:
            return
        self._good += 1
        if self._good < STEP_UP_EVERY:
            return
        self._good = 0
        self._interval = max(self._interval / STEP_UP, self._full_interval)
        if not self._full_interval and self._interval < SHORTEST_INTERVAL:
            self._interval = 0.0

    def _observed_interval(self) -> float:
        if len(self._recent) < 2:
            return 0.5
        return max((self._recent[-1] - self._recent[0]) / (len(self._recent) - 1), SHORTEST_INTERVAL)


def all_rates(*rates: Iterable[Rate]) -> tuple[Rate, ...]:
    """Return the rates of several sources together, the shortest first: all of them apply."""
    return tuple(
        sorted({rate for some in rates for rate in some}, key=lambda rate: (rate.seconds, rate.count))
    )


def longest(rates: Iterable[Rate]) -> timedelta:
    """Return the longest period of any rate, for which a restart needs the history."""
    return timedelta(seconds=max((rate.seconds for rate in rates), default=0.0))


# --- pauses -------------------------------------------------------------------------------------------

# Pauses that a server requests with nothing accepted in between. Those of a few seconds mean "slower": they
# grow in steps. Longer ones are meant as pauses: they double.
_SHORT_PAUSES = (5.0, 10.0, 30.0, 1200.0)
_LONGEST_PAUSE = 4 * 3600.0


def pause_length(asked: float, orders: int) -> float:
    """Return how many seconds to pause when the server asks for *asked*, after *orders* in a row."""
    if asked <= _SHORT_PAUSES[0]:
        return _SHORT_PAUSES[min(orders, len(_SHORT_PAUSES) - 1)]
    return min(asked * 2.0**orders, max(asked, _LONGEST_PAUSE))
