"""The geometry of the charts: figures in, plain numbers out, so templates only have to draw.

Widths are percentages and heights are pixels: a chart fills any page without stretching its text.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.model import Status
from mailmerge.text import duration, figure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mailmerge.history import Answer, Bin, Domain, Timeline, Times, Waits
    from mailmerge.model import Rate

HEIGHT = 190.0
"""Pixels from the baseline of a chart over time to its upper edge."""

SERIES: Mapping[str, str] = {
    "accepted": "accepted",
    "deferred": "deferred",
    "pending": "retried (not counted)",
    "rejected": "rejected",
    "bounced": "bounced",
    "in_doubt": "in doubt",
    "drafted": "drafted",
}
"""The kinds of outcome that charts distinguish, from the baseline upwards, and their names."""

_SERIES_OF = {
    Status.ACCEPTED: "accepted",
    Status.DEFERRED: "deferred",
    Status.PENDING: "pending",
    Status.REJECTED: "rejected",
    Status.EXPIRED: "rejected",
    Status.BOUNCED: "bounced",
    Status.IN_DOUBT: "in_doubt",
    Status.HANDING_OVER: "in_doubt",
    Status.DRAFTED: "drafted",
}
_PAUSE_WIDTH = 3
"""The width of a pause in bins, but never a large part of the chart."""
_LEAST_SHARE = 0.6
"""The least width of a part of a bar in per cent: otherwise one in a thousand would be invisible."""
_LEAST_SPAN = 10.0
"""Seconds over which throughput is averaged at least; a single message would be a spike."""


class Segment(Struct, frozen=True):
    """One block of a bar: its place and height in a stack, its start and length in a horizontal bar."""

    series: str
    start: float
    length: float
    count: int


class TimeBar(Struct, frozen=True):
    """One bar of a chart over time."""

    x: float
    width: float
    label: str
    """When the bar begins."""
    total: float
    parts: tuple[Segment, ...] = ()
    connections: int = 0
    pause: str = ""
    """Not a bar but a pause of this length; empty: a bar."""


class Grid(Struct, frozen=True):
    """The scale of a chart over time."""

    lines: tuple[tuple[float, str], ...]
    """Height in pixels from the top, and the value there."""
    ticks: tuple[tuple[float, str], ...]
    """Per cent from the left, and the time there."""


class TimeSeries(Struct, frozen=True):
    """A chart over time."""

    columns: tuple[TimeBar, ...]
    grid: Grid
    unit: str
    """The time that a bar covers."""
    line: float | None = None
    """Height of the line that marks the rate, in pixels from the top."""
    line_label: str = ""

    @property
    def bars(self) -> list[TimeBar]:
        """The columns that are not pauses."""
        return [column for column in self.columns if not column.pause]


class HorizontalBar(Struct, frozen=True):
    """One horizontal bar with its label."""

    label: str
    parts: tuple[Segment, ...]
    total: int
    share: float = 0.0
    y: float = 0.0


class Family(Struct, frozen=True):
    """Replies that begin with the same digit, or none at all."""

    name: str
    series: str
    answers: tuple[tuple[Answer, float], ...]
    """Each answer with the length of its bar in per cent."""

    @property
    def total(self) -> int:
        """How many rows received one of them."""
        return sum(answer.count for answer, _ in self.answers)


class Slice(Struct, frozen=True):
    """One part of the bar that shows where the time went."""

    series: str
    words: str
    seconds: float
    start: float
    length: float


def local(at: float) -> datetime:
    """Convert seconds since 1970 to a datetime in this machine's time zone."""
    return datetime.fromtimestamp(at, UTC).astimezone()


def by_series(counts: Mapping[Status, int]) -> dict[str, int]:
    """Combine states into the series of the charts, in their order."""
    totals = dict.fromkeys(SERIES, 0)
    for status, count in counts.items():
        if status in _SERIES_OF:
            totals[_SERIES_OF[status]] += count
    return {name: count for name, count in totals.items() if count}


def outcomes(timeline: Timeline) -> TimeSeries:
    """Stack the outcomes of each bin."""
    stacks = [by_series(bin_.by_status) for bin_ in timeline.bins]
    top = _ceiling(max((sum(stack.values()) for stack in stacks), default=0))

    def parts(index: int) -> tuple[float, tuple[Segment, ...]]:
        stack = stacks[index]
        return sum(stack.values()), tuple(_stacked(stack, top))

    return _over_time(timeline.bins, timeline.width, top, parts)


def throughput(timeline: Timeline, rates: Iterable[Rate]) -> TimeSeries:
    """Show messages per minute next to the rate limit."""
    each = max(1, math.ceil(_LEAST_SPAN / timeline.width))
    groups = list(_groups(timeline.bins, each))
    minutes = [max(len(group) * timeline.width, _LEAST_SPAN) / 60 for group in groups]
    speeds = [
        sum(by_series(bin_.by_status).get(name, 0) for bin_ in group for name in SERIES if name != "pending")
        / length
        for group, length in zip(groups, minutes, strict=True)
    ]
    fastest = max(speeds, default=0.0)
    rate = min(rates, key=lambda rate: rate.seconds, default=None)
    allowed = rate.count * 60 / rate.seconds if rate else None
    drawn = allowed is not None and allowed <= 4 * fastest
    top = _ceiling(max(fastest, allowed or 0.0) if drawn else fastest)

    def parts(index: int) -> tuple[float, tuple[Segment, ...]]:
        height = speeds[index] / top * HEIGHT
        return speeds[index], (Segment("speed", HEIGHT - height, height, round(speeds[index])),)

    chart = _over_time([group[0] for group in groups], timeline.width * each, top, parts)
    if rate is None or allowed is None:
        return chart
    words = f"rate {rate}" if drawn else f"the rate, {rate}, is above this scale"
    line = HEIGHT - allowed / top * HEIGHT if drawn else None
    return TimeSeries(chart.columns, chart.grid, chart.unit, line, words)


def domains(found: Sequence[Domain]) -> tuple[HorizontalBar, ...]:
    """Draw each domain as a bar of shares."""
    bars = []
    for number, domain in enumerate(found):
        counts = by_series(domain.by_status)
        bars.append(
            HorizontalBar(
                domain.name, tuple(shares(counts)), domain.total, domain.failed_share, number * 42.0
            )
        )
    return tuple(bars)


_FAMILIES = {
    2: ("2xx: accepted", "accepted"),
    4: ("4xx: temporary failure", "deferred"),
    5: ("5xx: rejected", "rejected"),
    0: ("No reply", "in_doubt"),
}


def families(answers: Iterable[Answer]) -> tuple[Family, ...]:
    """Group the replies by their first digit; bars compare the replies of one family."""
    grouped: dict[int, list[Answer]] = {}
    for answer in answers:
        digit = (answer.code or 0) // 100
        grouped.setdefault(digit if digit in _FAMILIES else 0, []).append(answer)
    made = []
    for digit in sorted(grouped, key=lambda digit: (digit == 0, digit)):
        name, series = _FAMILIES[digit]
        most = max(answer.count for answer in grouped[digit])
        bars = tuple(
            (answer, max(_LEAST_SHARE, round(100 * answer.count / most, 2))) for answer in grouped[digit]
        )
        made.append(Family(name, series, bars))
    return tuple(made)


def percentiles(times: Times) -> tuple[tuple[str, float, float], ...]:
    """Return each measure of the response time: its name, seconds, and its bar's length in per cent."""
    named = (
        ("50 % within", times.p50),
        ("95 % within", times.p95),
        ("99 % within", times.p99),
        ("slowest", times.longest),
    )
    top = times.longest or 1.0
    return tuple(
        (words, seconds, max(_LEAST_SHARE, round(100 * seconds / top, 2))) for words, seconds in named
    )


def waiting(waits: Waits, *, paced: bool) -> tuple[Slice, ...]:
    """Split the runs' time into a bar."""
    named = (
        ("answer", "handing over and waiting for the reply", waits.answer),
        ("pace", "keeping to the rate" if paced else "between messages", waits.pace),
        ("retry", "waiting to retry", waits.retry),
        ("network", "reconnecting", waits.network),
        ("account", "paused at the server's request", waits.account),
    )
    total = sum(seconds for *_, seconds in named)
    slices, start = [], 0.0
    for series, words, seconds in named:
        if seconds > 0:
            length = round(100 * seconds / total, 2)
            slices.append(Slice(series, words, seconds, round(start, 2), length))
            start += length
    return tuple(slices)


# --- scales -----------------------------------------------------------------------------------------------


def _over_time(
    bins: Sequence[Bin],
    width: float,
    top: float,
    parts: Callable[[int], tuple[float, tuple[Segment, ...]]],
) -> TimeSeries:
    pauses = sum(1 for bin_ in bins if bin_.pause)
    gap = min(_PAUSE_WIDTH, len(bins) / (4 * pauses)) if pauses else 0
    # A run of two bins is two bars, not two walls.
    unit = 100 / max(12, len(bins) + pauses * gap)
    columns: list[TimeBar] = []
    ticks: list[tuple[float, str]] = []
    x = 0.0
    for index, bin_ in enumerate(bins):
        if bin_.pause:
            columns.append(TimeBar(round(x, 3), round(unit * gap, 3), "", 0, pause=duration(bin_.pause)))
            x += unit * gap
        total, blocks = parts(index)
        label = f"{local(bin_.start):%Y-%m-%d %H:%M:%S}"
        columns.append(
            TimeBar(round(x, 3), round(unit, 3), label, total, blocks, connections=bin_.connections)
        )
        if index == 0 or bin_.pause or x - ticks[-1][0] >= 20:
            ticks.append((round(x, 3), _clock(bin_.start, width, bins)))
        x += unit
    return TimeSeries(tuple(columns), Grid(tuple(_lines(top)), tuple(_apart(ticks))), duration(width))


def _apart(ticks: Iterable[tuple[float, str]]) -> Iterator[tuple[float, str]]:
    """Leave out ticks that would overlap the previous one."""
    before = -100.0
    for x, label in ticks:
        if x - before >= 18 and x <= 90:
            yield x, label
            before = x


def _clock(at: float, width: float, bins: Sequence[Bin]) -> str:
    several_days = local(bins[0].start).date() != local(bins[-1].start).date()
    moment = local(at)
    if width >= 86_400:
        return f"{moment:%d %b}"
    if several_days:
        return f"{moment:%d %b %H:%M}"
    return f"{moment:%H:%M:%S}" if width < 60 else f"{moment:%H:%M}"


def _lines(top: float) -> Iterator[tuple[float, str]]:
    steps = 4 if top >= 4 and (top / 4).is_integer() else 2 if top >= 2 else 1
    for number in range(steps + 1):
        value = top * number / steps
        yield (
            round(HEIGHT - HEIGHT * number / steps, 1),
            figure(value),
        )


def _ceiling(value: float) -> float:
    """Round up to a number that is easy to divide."""
    if value <= 1:
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(step * power for step in (1, 2, 4, 5, 8, 10) if step * power >= value)


def _stacked(stack: Mapping[str, int], top: float) -> Iterator[Segment]:
    y = HEIGHT
    for series, count in stack.items():
        height = max(1.5, count / top * HEIGHT)
        y -= height
        yield Segment(series, round(max(y, 0.0), 2), round(height, 2), count)


def shares(counts: Mapping[str, int]) -> Iterator[Segment]:
    """Return counts as adjacent parts of a whole; even the smallest is visible; empty if all are 0."""
    if not counts:
        return
    total = sum(counts.values())
    shares = {name: max(_LEAST_SHARE, 100 * count / total) for name, count in counts.items()}
    scale = 100 / sum(shares.values())
    start = 0.0
    for name, count in counts.items():
        yield Segment(name, round(start, 2), round(shares[name] * scale, 2), count)
        start += shares[name] * scale


def _groups(bins: Sequence[Bin], each: int) -> Iterator[list[Bin]]:
    """Combine neighbouring bins, none across a pause; a short rest joins the group before it."""
    for stretch in _stretches(bins):
        starts = list(range(0, len(stretch), each))
        if len(starts) > 1 and len(stretch) - starts[-1] <= each / 2:
            starts.pop()
        for start, end in zip(starts, [*starts[1:], len(stretch)], strict=True):
            yield stretch[start:end]


def _stretches(bins: Sequence[Bin]) -> Iterator[list[Bin]]:
    stretch: list[Bin] = []
    for bin_ in bins:
        if bin_.pause and stretch:
            yield stretch
            stretch = []
        stretch.append(bin_)
    if stretch:
        yield stretch
