"""Statistics of the ledger for the report page: everything is summed in SQL, for any number of rows.

They are about history, that is about attempts and contacted rows; the present state of rows is in
`mailmerge.ledger.reader`.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this package

from __future__ import annotations

import json
from functools import cached_property
from itertools import pairwise
from statistics import median
from typing import TYPE_CHECKING

from mailmerge.history import ROWS_NAMED, Answer, Bin, Domain, Runs, Timeline, Times, Waits
from mailmerge.model import Status
from mailmerge.sqlite import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from mailmerge.ledger.databases import LedgerDatabase

MOST_BINS = 120
MOST_DOMAINS = 20
MOST_REPLIES = 40

_SCAN_STEPS = 20_000
_WIDTHS = (1, 2, 5, 10, 15, 30)  # seconds and minutes; hours and days follow
_NICE = (
    *_WIDTHS,
    *(60 * n for n in _WIDTHS),
    *(3600 * n for n in (1, 2, 3, 6, 12, 24, 48, 96, 168, 336, 672)),
)
_LEAST_PAUSE = 120.0

# The part behind the last "@": strip from the right all characters except "@", and keep what was stripped.
_DOMAIN = "lower(substr(a.address, length(rtrim(a.address, replace(a.address, '@', ''))) + 1))"
# The plus keeps SQLite from using the index: in the order of first contact both tables are read in sequence.
_CONTACTED = "delivery d JOIN attempt a ON a.id = d.attempt WHERE +d.campaign = ?1 AND d.status <> 'pending'"
# A row that a killed run left open was settled when that was noticed: that time must not be measured.
_ANSWERED = "campaign = ?1 AND code IS NOT NULL AND settled > at"


class Aggregates:
    """The statistics of one campaign of a ledger; nothing is read before it is needed.

    Args:
        db: the ledger.
        campaign: the campaign's number in it.
        numbers: returns the row numbers of keys in the list; keys that left the list have none.

    """

    def __init__(
        self, db: LedgerDatabase, campaign: int, numbers: Callable[[Sequence[str]], Mapping[str, int]]
    ) -> None:
        self._db = db
        self._campaign = campaign
        self._numbers = numbers

    @cached_property
    def _firsts(self) -> tuple[str, str]:
        """The first attempts on each connection, as JSON: those that open a run, and the others."""
        query = "SELECT run, min(id) FROM attempt WHERE campaign = ?1 GROUP BY run, connection ORDER BY 2"
        opening: dict[object, int] = {}
        others = [
            _int(first)
            for run, first in self._rows(query)
            if opening.setdefault(run, _int(first)) != _int(first)
        ]
        return json.dumps(list(opening.values())), json.dumps(others)

    def _rows(self, query: str, *more: object) -> list[tuple[object, ...]]:
        return self._db.rows(query, (self._campaign, *more))

    def runs(self, kind: str = "send") -> Runs:
        """Return the first start, the last end and the number of runs."""
        query = (
            "SELECT started, ended, reason, count(*) OVER (), min(started) OVER () FROM run "
            "WHERE campaign = ?1 AND kind = ?2 ORDER BY id DESC LIMIT 1"
        )
        found = self._rows(query, kind)
        if not found:
            return Runs()
        ((latest, ended, reason, count, first),) = found
        return Runs(_int(count), _moment(first), _moment(ended), str(reason), _moment(latest))

    def timeline(self, most: int = MOST_BINS) -> Timeline:
        """Return the number of outcomes in at most *most* bins of time."""
        span = "SELECT min(settled), max(settled) FROM attempt WHERE campaign = ?1 AND settled IS NOT NULL"
        ((first, last),) = self._rows(span)
        if first is None:
            return Timeline()
        start, end = _float(first), _float(last)
        step = _step(end - start)
        begin = start // step * step
        slot = "CAST(({0} - ?2) * 1000 AS BIGINT) / ?3"
        found = self._rows(
            f"SELECT {slot.format('settled')} AS slot, status, count(*) FROM attempt "
            "WHERE campaign = ?1 AND settled IS NOT NULL GROUP BY slot, status ORDER BY slot",
            begin,
            int(step * 1000),
        )
        opened = self._rows(
            f"SELECT {slot.format('a.settled')} AS slot, count(*) FROM attempt a WHERE a.campaign = ?1 "
            "AND a.id IN (SELECT CAST(value AS BIGINT) FROM json_each(?4)) AND a.settled IS NOT NULL "
            "GROUP BY slot",
            begin,
            int(step * 1000),
            self._firsts[1],
        )
        return _binned(begin, step, found, {_int(number): _int(count) for number, count in opened}, most)

    def domains(self, most: int = MOST_DOMAINS) -> tuple[tuple[Domain, ...], int]:
        """Return the domains with the most contacted rows, most failures first, and how many there are."""
        sums = ", ".join(f"count(*) FILTER (WHERE d.status = '{status}')" for status in Status)
        rows = self._rows(
            f"SELECT {_DOMAIN} AS domain, {sums}, count(*) AS total, count(*) OVER () "
            f"FROM {_CONTACTED} AND a.address <> '' "
            "GROUP BY domain ORDER BY total DESC, domain LIMIT ?2",
            most,
        )
        domains = [
            Domain(str(name), {status: n for status, n in zip(Status, map(_int, numbers), strict=True) if n})
            for name, *numbers, _, _ in rows
        ]
        domains.sort(key=lambda domain: (-domain.failed_share, -domain.total, domain.name))
        return tuple(domains), _int(rows[0][-1]) if rows else 0

    def answers(self, most: int = MOST_REPLIES) -> tuple[Answer, ...]:
        """Return the last reply codes of contacted rows with the server's text, the most frequent first."""
        groups = self._rows(
            "WITH kinds AS (SELECT d.status AS status, a.code AS code, a.enhanced AS enhanced, "
            f"count(*) AS n, min(a.id) AS first FROM {_CONTACTED} GROUP BY d.status, a.code, a.enhanced) "
            "SELECT k.status, k.code, k.enhanced, k.n, a.reply, d.note FROM kinds k "
            "JOIN attempt a ON a.id = k.first JOIN delivery d ON d.campaign = a.campaign AND d.key = a.key "
            "ORDER BY k.n DESC, k.first LIMIT ?2",
            most,
        )
        rows = self._first_rows()
        return tuple(
            Answer(
                Status(str(status)),
                None if code is None else _int(code),
                str(enhanced),
                str(reply or note or ""),
                _int(count),
                tuple(rows.get((status, code, enhanced), ())),
            )
            for status, code, enhanced, count, reply, note in groups
        )

    def _first_rows(self) -> dict[tuple[object, ...], list[int]]:
        query = f"""
        WITH ranked AS (
            SELECT d.key, d.status, a.code, a.enhanced,
                row_number() OVER (PARTITION BY d.status, a.code, a.enhanced ORDER BY a.row) AS place
            FROM {_CONTACTED} AND d.status NOT IN ('accepted', 'drafted'))
        SELECT status, code, enhanced, key FROM ranked WHERE place <= ?2
        """
        found = list(self._rows(query, ROWS_NAMED))
        numbers = self._numbers([str(key) for *_, key in found])
        rows: dict[tuple[object, ...], list[int]] = {}
        for *answer, key in found:
            if key in numbers:
                rows.setdefault(tuple(answer), []).append(numbers[str(key)])
        return {answer: sorted(named) for answer, named in rows.items()}

    def times(self) -> Times:
        """Return how long the server took to answer."""
        ((count, longest),) = self._rows(f"SELECT count(*), max(settled - at) FROM attempt WHERE {_ANSWERED}")
        total = _int(count)
        if not total:
            return Times()
        places = [max(1, -(-total * part // 100)) for part in (50, 95, 99)]
        query = f"""
        WITH ranked AS (SELECT settled - at AS took, row_number() OVER (ORDER BY settled - at) AS place
                        FROM attempt WHERE {_ANSWERED})
        SELECT place, took FROM ranked WHERE place IN (?2, ?3, ?4)
        """
        took = {_int(place): _float(seconds) for place, seconds in self._rows(query, *places)}
        p50, p95, p99 = (took[place] for place in places)
        return Times(total, p50, p95, p99, _float(longest))

    def waits(self) -> Waits:
        """Return what the time of all runs was spent on."""
        query = """
        WITH paced AS (
            SELECT id, at, settled, number, run, lag(run) OVER sequence AS run_before,
                lag(scope) OVER sequence AS before,
                max(settled) OVER (sequence ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS free
            FROM attempt WHERE campaign = ?1 AND settled IS NOT NULL AND reason <> 'stopped'
            WINDOW sequence AS (ORDER BY id)),
        gaps AS (
            SELECT CASE WHEN at > free AND coalesce(run, 0) = coalesce(run_before, 0) THEN at - free ELSE 0.0
                END AS gap,
                CASE WHEN settled > at AND at >= coalesce(free, at) THEN settled - at
                     WHEN settled > free AND at < free THEN settled - free ELSE 0.0 END AS busy,
            CASE WHEN before = 'account' THEN 'account'
                 WHEN number > 1 THEN 'retry'
                 WHEN id IN (SELECT CAST(value AS BIGINT) FROM json_each(?2)) THEN 'network'
                 ELSE 'pace' END AS kind FROM paced)
        SELECT kind, coalesce(sum(gap), 0.0), coalesce(sum(busy), 0.0) FROM gaps GROUP BY kind
        """
        gaps: dict[str, float] = {}
        busy = 0.0
        for kind, gap, answering in self._rows(query, self._firsts[1]):
            gaps[str(kind)] = _float(gap)
            busy += _float(answering)
        return Waits(busy, *(gaps.get(kind, 0.0) for kind in ("pace", "retry", "network", "account")))


def _int(value: object) -> int:
    return int(value) if isinstance(value, (int, float)) else 0


def _float(value: object) -> float:
    return float(value) if isinstance(value, (int, float)) else 0.0


def _moment(value: object) -> datetime | None:
    return moment(value) if isinstance(value, (int, float)) else None


def _step(span: float) -> float:
    """Return the width of the slots that SQL counts in: whole seconds, at most a few thousand slots."""
    return next((width for width in _NICE if span / width <= _SCAN_STEPS), span / _SCAN_STEPS)


def _binned(
    begin: float,
    step: float,
    found: Iterable[tuple[object, ...]],
    opened: Mapping[int, int],
    most: int,
) -> Timeline:
    """Combine slots into bins, without long stretches that have none."""
    slots: dict[int, dict[Status, int]] = {}
    for number, status, count in found:
        slots.setdefault(_int(number), {})[Status(str(status))] = _int(count)
    stretches = list(_stretches(sorted(slots), step))
    factor = _factor(stretches, step, most)
    bins: list[Bin] = []
    before = None
    for first, last in stretches:
        for start in range(first, last + 1, factor):
            pause = (first - before) * step if before is not None and start == first else 0.0
            bins.append(_bin(begin + start * step, slots, opened, range(start, start + factor), pause))
        before = last
    return Timeline(step * factor, tuple(bins))


def _bin(
    at: float, slots: Mapping[int, Mapping[Status, int]], opened: Mapping[int, int], part: range, pause: float
) -> Bin:
    totals: dict[Status, int] = {}
    connections = 0
    for number in part:
        connections += opened.get(number, 0)
        for status, count in slots.get(number, {}).items():
            totals[status] = totals.get(status, 0) + count
    return Bin(at, totals, connections, pause)


def _stretches(numbers: Sequence[int], step: float) -> Iterator[tuple[int, int]]:
    """Yield first and last slot of each stretch between two long pauses."""
    usual = median(other - number for number, other in pairwise(numbers)) if len(numbers) > 1 else 0.0
    # With one message every three minutes, three minutes are not a pause.
    longest = max(_LEAST_PAUSE / step, (numbers[-1] - numbers[0]) / 40, 8 * usual)
    first = previous = numbers[0]
    for number in numbers:
        if number - previous > longest:
            yield first, previous
            first = number
        previous = number
    yield first, previous


def _factor(stretches: Sequence[tuple[int, int]], step: float, most: int) -> int:
    """Return how many slots make a bin of a round width, so that there are at most *most* bins."""

    def bins(factor: int) -> int:
        return sum((last - first) // factor + 1 for first, last in stretches)

    for width in _NICE:
        if width >= step and width % step == 0 and bins(int(width / step)) <= most:
            return int(width / step)
    return max(1, sum(last - first + 1 for first, last in stretches) // max(1, most - len(stretches)) + 1)
