"""A campaign's history in figures, for the report page; `mailmerge.ledger.statistics` counts them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct, field

from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


ROWS_NAMED: Final = 12
"""Most rows that are named for one answer of a server; of further ones only the number is told."""


class Bin(Struct, frozen=True):
    """The outcomes of the attempts that ended in one stretch of time."""

    start: float
    """Seconds since 1970, UTC."""
    by_status: Mapping[Status, int] = field(default_factory=dict)
    """An attempt's own outcome: ``pending`` is one that did not count and was made again."""
    connections: int = 0
    """How many new connections carried their first message here, without those that open a run."""
    pause: float = 0.0
    """Seconds without any attempt before this bin that are left out of the series."""


class Timeline(Struct, frozen=True):
    """Outcomes over time in bins of equal width; long pauses are cut out."""

    width: float = 1.0
    """Seconds in a bin."""
    bins: tuple[Bin, ...] = ()


class Domain(Struct, frozen=True):
    """The results of the contacted rows of one domain."""

    name: str
    by_status: Mapping[Status, int]

    @property
    def total(self) -> int:
        """How many rows those are."""
        return sum(self.by_status.values())

    @property
    def failed_share(self) -> float:
        """The part of them that is anything but accepted."""
        return 1 - self.by_status.get(Status.ACCEPTED, 0) / self.total if self.total else 0.0


class Answer(Struct, frozen=True):
    """Rows with the same state and the same last reply code."""

    status: Status
    code: int | None
    """None: there was no reply."""
    enhanced: str
    words: str
    """The server's reply to the first of them, or else what a person decided about it."""
    count: int
    rows: tuple[int, ...] = ()
    """The first few rows of the list; none for accepted ones."""


class Times(Struct, frozen=True):
    """Seconds from the hand-over of a message to the server's answer."""

    count: int = 0
    p50: float = 0.0
    p95: float = 0.0
    p99: float = 0.0
    longest: float = 0.0


class Waits(Struct, frozen=True):
    """Where the time of the runs went, in seconds that add up to it."""

    answer: float = 0.0
    """At least one message was on its way to, or in the hands of, the server."""
    pace: float = 0.0
    """Nothing was: the next one was not due yet, or not ready."""
    retry: float = 0.0
    """... and what came next was a row's further try."""
    network: float = 0.0
    """... and what came next was a first try on a new connection."""
    account: float = 0.0
    """... and the server had asked the account to pause."""


class Runs(Struct, frozen=True):
    """Consecutive runs of one kind."""

    count: int = 0
    started: datetime | None = None
    """When the first one began."""
    ended: datetime | None = None
    """When the last one ended; None: it has not, or it died."""
    reason: str = ""
    """Why the last one ended."""
    latest: datetime | None = None
    """When the last one began."""
