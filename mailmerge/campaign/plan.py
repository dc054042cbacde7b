"""What would happen if the campaign were sent now, as values: shown before anything is sent."""

from __future__ import annotations

import contextlib
import weakref
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge import files
from mailmerge.errors import FileError
from mailmerge.model import Counts, Status
from mailmerge.schedule import Schedule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from datetime import datetime
    from pathlib import Path

    from mailmerge.campaign.definition import Definition
    from mailmerge.check.diagnostics import DiagnosticCollector
    from mailmerge.model import Message, Rate
    from mailmerge.plan.composer import Composer
    from mailmerge.recipients import RecipientList, Understanding


class KeptPlan:
    """Finds a plan again that was made in this process, and keeps it from being swept until then.

    Args:
        definition: the campaign as it was planned.
        name: the plan's.
        path: where it is.
        composer: what made it: messages are thawed as they were frozen, whatever the templates contain now.
        recipients: the list that it was made from.

    """

    def __init__(
        self, definition: Definition, name: str, path: Path, composer: Composer, recipients: RecipientList
    ) -> None:
        self.definition = definition
        self.name = name
        self.path = path
        self.composer = composer
        self.recipients = recipients
        with contextlib.suppress(FileError):  # then it can be swept: whoever sends it gets an error
            weakref.finalize(self, files.open_own(path, hold=True).close)

    def is_of(self, definition: Definition) -> bool:
        """Return whether it is a plan of this campaign: the one of that name in that folder."""
        own = self.definition
        same = own.workspace.folder.resolve() == definition.workspace.folder.resolve()
        return same and own.name == definition.name


class OptOutSource(Struct, frozen=True):
    """A file of people who must not be written to, as a plan shows it."""

    path: Path
    entries: int
    """How many addresses and domains it has."""
    listed: int
    """How many addresses of the list are among them."""


BUILT_IN = "the built-in server"
"""The server of a rehearsal, as plan and report show it."""


class Plan(Struct, frozen=True):
    """What a campaign's list and templates make, row by row, and what of it one run would send.

    It is a snapshot: `Campaign.send` sends these messages, whatever has changed since. It is good for the
    process that made it.
    """

    campaign: str
    source: str
    """The list, as the user named it."""
    understanding: Understanding
    """How the list was read."""
    problems: DiagnosticCollector
    counts: Counts
    """The state of every row, earlier runs included."""
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
    schedule: Schedule = Schedule()
    """When messages may go out."""
    quota: Rate | None = None
    quota_used: int = 0
    largest: int = 0
    """Size of the largest message in octets."""
    files: Mapping[int, int] = field(default_factory=dict)
    """How many of the list's messages have how many attachments; empty: no rule attaches any."""
    notices: tuple[str, ...] = ()
    """What a campaign's folder reads from outside of it, and who gets copies and answers: a sentence each."""
    planned: datetime | None = None
    """When an earlier command planned it, since when nothing has changed; None: it was planned now."""
    changes: tuple[str, ...] = ()
    """What has changed since it was planned before, the first few things."""
    anew: int | None = None
    """How many rows were planned again because of that, the others being as planned before; None: all."""
    kept: Path | None = None
    """Where the plan is kept."""
    made_of: bytes = b""
    """What it was made from, as it is kept; `facts` is the readable form."""
    handle: KeptPlan | None = None
    """What finds the plan again; None: this object was constructed manually."""
    giver: Callable[[Plan], Iterator[Message]] | None = None
    """What `messages` calls."""
    deferred_until: datetime | None = None
    pipeline: str = "auto"
    """How messages may overlap on the wire: ``auto``, ``off``, ``overlap`` or ``window``."""
    sessions: int = 1
    drafts: bool = False
    """The messages go to the Drafts folder of the sender's mailbox; nothing is sent."""
    in_doubt: tuple[int, ...] = ()
    """Rows (the first few) that a person has to decide about."""
    warnings: tuple[str, ...] = ()
    opt_outs: tuple[OptOutSource, ...] = ()
    """Who is never written to: the files of the campaign, then the user's own store if there is one."""
    unaddressed: int = 0
    """How many of the skipped rows have no address."""
    sharing: int = 0
    """How many rows are in a message that another row is counted for (``data.group_by``)."""
    counted: str = "row"
    """What the figures count: a ``row``, or with ``data.group_by`` a ``message`` for one or several."""
    statuses: Counts = field(default_factory=Counts)
    """The states of the list's rows by themselves, without what happened to them earlier."""

    @property
    def facts(self) -> tuple[str, ...]:
        """What it was made from, in words: options, files, versions."""
        from mailmerge.plan.facts import Facts

        found = Facts.decode(self.made_of)
        return tuple(found.told()) if found else ()

    @property
    def rows(self) -> int:
        """How many rows the list has, without the blank and hidden ones that are left out."""
        return self.understanding.rows

    @property
    def ready(self) -> int:
        """How many rows of the list could become a message."""
        return self.statuses[Status.PENDING]

    @property
    def seconds(self) -> float:
        """Least duration of the run: the shortest rate is spaced evenly, longer ones count in blocks."""
        if not self.rates or self.to_send < 2:
            return 0.0
        shortest = min(self.rates, key=lambda rate: rate.seconds)
        gaps = self.to_send - 1
        blocks = (gaps // rate.count * rate.seconds for rate in self.rates)
        return max(gaps * shortest.seconds / shortest.count, *blocks)

    def messages(self) -> Iterator[Message]:
        """Yield the messages that are left to be sent, in the list's order, as sending this plan would.

        Rows that were accepted, or are left out for another reason, have none. A message that was tried
        before has the Date that it had then, the others the current one; before the campaign's first run the
        Message-IDs are temporary, too. Nothing is written.

        Raises:
            ValueError: the plan was constructed manually.
            PlanDamaged: the plan no longer exists.
            RowError: a file of the message has changed since it was planned, or is gone.

        """
        if self.giver is None:
            raise ValueError("only a plan that a campaign made has messages")
        return self.giver(self)

    @property
    def before(self) -> int:
        """How many rows earlier runs got accepted."""
        return self.counts[Status.ACCEPTED]
