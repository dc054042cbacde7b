"""What would happen if the campaign were sent now, as values: shown before anything is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.model import Counts, Status

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from mailmerge.check.diagnostics import DiagnosticCollector
    from mailmerge.model import Rate


class Plan(Struct, frozen=True):
    """The plan of one run."""

    campaign: str
    source: str
    """The list, as the user named it."""
    dialect: str
    problems: DiagnosticCollector
    counts: Counts
    """The state of every row, earlier runs included."""
    rows: int
    blank_rows: int = 0
    hidden_rows: int = 0
    to_send: int = 0
    """How many messages this run would send."""
    recipients: int = 0
    """How many envelope recipients they have together."""
    first: str = ""
    last: str = ""
    """First and last address of this run."""
    sender: str = ""
    via: str = ""
    """``smtp.example.org as me@example.org``."""
    rates: tuple[Rate, ...] = ()
    per_domain: tuple[Rate, ...] = ()
    quota: Rate | None = None
    quota_used: int = 0
    largest: int = 0
    """Size of the largest message in octets."""
    planned: datetime | None = None
    """When an earlier command planned it, since when nothing has changed; None: it was planned just now."""
    changes: tuple[str, ...] = ()
    """What has changed since it was planned before, the first few things."""
    kept: Path | None = None
    """Where the plan is kept."""
    facts: tuple[str, ...] = ()
    """What it was made of, in words: options, files, versions."""
    deferred_until: datetime | None = None
    pipeline: str = "auto"
    """How messages may overlap on the wire: ``auto``, ``off``, ``overlap`` or ``window``."""
    sessions: int = 1
    in_doubt: tuple[int, ...] = ()
    """Rows (the first few) that a person has to decide about."""
    warnings: tuple[str, ...] = ()
    statuses: Counts = field(default_factory=Counts)
    """What the list's rows are by themselves, without what happened to them earlier."""

    @property
    def ready(self) -> int:
        """How many rows of the list could become a message."""
        return self.statuses[Status.PENDING]

    @property
    def seconds(self) -> float:
        """How long the run takes at least: the shortest rate is spaced evenly, longer ones hold in blocks."""
        if not self.rates or self.to_send < 2:
            return 0.0
        shortest = min(self.rates, key=lambda rate: rate.seconds)
        gaps = self.to_send - 1
        blocks = (gaps // rate.count * rate.seconds for rate in self.rates)
        return max(gaps * shortest.seconds / shortest.count, *blocks)

    @property
    def before(self) -> int:
        """How many rows earlier runs got accepted."""
        return self.counts[Status.ACCEPTED]
