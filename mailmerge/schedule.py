"""When messages may go out: from a moment on, within some hours of the week, outside of quiet hours.

Hours are those of a wall clock in one time zone. When the clock is put forward or back, a missing hour does
not count, and one that comes twice counts twice.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time, timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Iterator
    from zoneinfo import ZoneInfo

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_ALL_DAYS = frozenset(range(7))
_MIDNIGHT = time()
_AHEAD = 15
"""Days to look ahead: within a week every window has opened."""
_HOURS = lazy_re(
    r"(?:(?P<days>[a-z]{3}(?:\s*[-,]\s*[a-z]{3})*)\s+)?(?P<start>\d{1,2}:\d{2})\s*-\s*(?P<end>\d{1,2}:\d{2})\Z"
)


class Hours(Struct, frozen=True):
    """The same hours on some days of the week; those that end at or before their start end the next day."""

    days: frozenset[int]
    """0 is Monday; the days on which they begin."""
    start: time
    end: time

    @classmethod
    def parse(cls, text: str) -> Hours:
        """Read ``08:00-18:00`` or ``Mon-Fri 08:00-18:00``; ``22:00-07:00`` ends the next morning.

        Raises:
            ValueError: it is in another form; the message shows the right one.

        """
        found = _HOURS.match(text.strip().lower())
        if found is None:
            raise ValueError("write hours such as 08:00-18:00, or Mon-Fri 08:00-18:00")
        start, end = _clock(found["start"]), _clock(found["end"])
        return cls(_days(found["days"]) if found["days"] else _ALL_DAYS, start, end)

    def __str__(self) -> str:
        hours = f"{self.start:%H:%M}-{'24:00' if self.end == _MIDNIGHT else f'{self.end:%H:%M}'}"
        if self.days == _ALL_DAYS:
            return hours
        return f"{','.join(_DAYS[day].title() for day in sorted(self.days))} {hours}"

    def on(self, day: date, zone: ZoneInfo | None) -> tuple[datetime, datetime] | None:
        """Return beginning and end of the hours that begin on a day, in UTC; None: there are none."""
        if day.weekday() not in self.days:
            return None
        last = day + timedelta(days=1) if self.end <= self.start else day
        return _utc(day, self.start, zone), _utc(last, self.end, zone)


class Schedule(Struct, frozen=True):
    """When messages may go out."""

    start: datetime | None = None
    """Not before."""
    windows: tuple[Hours, ...] = ()
    """Only within one of these; none: at any hour."""
    quiet: tuple[Hours, ...] = ()
    """Never within one of these."""
    zone: ZoneInfo | None = None
    """Whose clock the hours are read from; None: this machine's."""

    def __bool__(self) -> bool:
        return bool(self.start or self.windows or self.quiet)

    def told(self) -> str:
        """Return when, without the beginning: ``within Mon 08:00-18:00, never 22:00-07:00 (UTC)``."""
        parts = [f"within {' or '.join(map(str, self.windows))}"] if self.windows else []
        parts += [f"never {' or '.join(map(str, self.quiet))}"] if self.quiet else []
        zone = f" ({self.zone.key})" if parts and self.zone else ""
        return ", ".join(parts) + zone

    def is_never_open(self, now: datetime) -> bool:
        """Return whether the quiet hours leave nothing of the week."""
        return self._closed_until(self.open_from(now) or now) is not None

    def open_from(self, now: datetime) -> datetime | None:
        """Return when messages may be sent next; None: now, or never again.

        Args:
            now: with its time zone.

        """
        at = max(now, self.start) if self.start else now
        for _ in range(4 * _AHEAD):  # each round leaves one closed stretch behind
            later = self._closed_until(at)
            if later is None:
                break
            at = later
        return at if at > now else None

    def closes_at(self, now: datetime) -> datetime:
        """Return until when the result of `open_from` for *now* is valid, at most a day ahead."""
        edges = [self.start] if self.start else []
        for hours in (*self.windows, *self.quiet):
            edges += (edge for pair in self._near(hours, now) for edge in pair)
        return min((edge for edge in edges if edge > now), default=now + timedelta(days=1))

    def _closed_until(self, at: datetime) -> datetime | None:
        for hours in self.quiet:
            for begin, end in self._near(hours, at):
                if begin <= at < end:
                    return end
        if not self.windows:
            return None
        near = sorted(pair for hours in self.windows for pair in self._near(hours, at))
        if any(begin <= at < end for begin, end in near):
            return None
        return next((begin for begin, end in near if begin > at and end > begin), None)

    def _near(self, hours: Hours, at: datetime) -> Iterator[tuple[datetime, datetime]]:
        """Yield the hours that begin from the day before *at* on."""
        first = at.astimezone(self.zone).date() - timedelta(days=1)
        for ahead in range(_AHEAD):
            pair = hours.on(first + timedelta(days=ahead), self.zone)
            if pair is not None and pair[0] < pair[1]:
                yield pair


def moment_of(text: str, now: datetime, zone: ZoneInfo | None) -> datetime:
    """Read when to begin: ``2026-12-01 09:00``, with a time zone or in *zone*, or ``09:00``, the next one.

    Args:
        text: the option's value.
        now: the time, with its zone.
        zone: whose clock it is read from; None: this machine's.

    Raises:
        ValueError: it is in another form; the message shows the right one.

    """
    plain = text.strip()
    if re.fullmatch(r"\d{1,2}:\d{2}", plain):
        clock, today = _clock(plain), now.astimezone(zone).date()
        later = (_utc(today + timedelta(days=ahead), clock, zone) for ahead in range(3))
        return next(at for at in later if at > now)
    try:
        found = datetime.fromisoformat(plain)
    except ValueError:
        raise ValueError("write a time such as 2026-12-01 09:00, or 09:00 for the next one") from None
    return found.astimezone(UTC) if found.tzinfo else _utc(found.date(), found.time(), zone)


def _clock(text: str) -> time:
    hour, minute = map(int, text.split(":"))
    if (hour, minute) == (24, 0):
        return _MIDNIGHT
    if hour > 23 or minute > 59:
        raise ValueError(f"{text} is not a time of the day")
    return time(hour, minute)


def _days(text: str) -> frozenset[int]:
    found: set[int] = set()
    for part in re.split(r"\s*,\s*", text):
        ends = [_day(name) for name in re.split(r"\s*-\s*", part)]
        if len(ends) > 2:
            raise ValueError(f"{part} is not a range of days")
        found |= {(ends[0] + step) % 7 for step in range((ends[-1] - ends[0]) % 7 + 1)}
    return frozenset(found)


def _day(name: str) -> int:
    if name not in _DAYS:
        raise ValueError(f"{name} is not a day: write Mon, Tue, Wed, Thu, Fri, Sat, Sun")
    return _DAYS.index(name)


def _utc(day: date, clock: time, zone: ZoneInfo | None) -> datetime:
    moment = datetime.combine(day, clock)
    return (moment.astimezone() if zone is None else moment.replace(tzinfo=zone)).astimezone(UTC)
