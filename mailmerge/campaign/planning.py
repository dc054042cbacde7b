"""The plan of a campaign: taken from the cache while nothing has changed, else made anew.

Whatever shows or sends messages gets them from here; the commands that only look back take the plan that the
last run worked on, so that rows have the numbers that the last report had.
"""

from __future__ import annotations

import contextlib
import hashlib
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from mailmerge.campaign.standing import Join, Standing
from mailmerge.errors import ListError
from mailmerge.plan.cache import PlanCache, PlanOwner
from mailmerge.plan.planner import Planner, PlanSummary
from mailmerge.recipients import sha256
from mailmerge.recipients.selection import Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import ExitStack

    from mailmerge.campaign.definition import Definition
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.plan.composer import Composer
    from mailmerge.plan.store import PlanReader
    from mailmerge.recipients import RecipientList


class OpenPlan(Struct, frozen=True):
    """A plan, and what it says of the whole."""

    reader: PlanReader
    summary: PlanSummary
    source: str
    """The list, as the user named it."""
    sender: str
    """The template of From."""
    earlier: bool = False
    """It was made before this command."""


class Planning(Struct, frozen=True):
    """What a plan is made of.

    Args:
        definition: the campaign.
        recipients: its list.
        composer: its templates, compiled.

    """

    definition: Definition
    recipients: RecipientList
    composer: Composer

    def find(self, stack: ExitStack) -> OpenPlan | None:
        """Give a plan that was made before and still holds, open until *stack* is closed."""
        name = self._name()
        found = plan_cache(self.definition).find(name, datetime.now(UTC)) if name else None
        if found is None:
            return None
        reader = stack.enter_context(found)
        try:
            summary = msgspec.msgpack.decode(reader.summary, type=PlanSummary)
        except msgspec.MsgspecError:
            return None
        return self._opened(reader, summary, earlier=True) if reader.has_messages else None

    def make(self, stack: ExitStack, progress: Callable[[int], None] | None = None) -> OpenPlan:
        """Plan the whole list, and give the plan, open until *stack* is closed.

        Raises:
            ListError: the list cannot be read to its end.
            FileError: the plan cannot be kept.

        """
        data = self.definition.file.data
        planner = Planner(
            self.composer,
            self.recipients,
            ignore=sorted(self.definition.file.check.ignore),
            duplicates=data.duplicates,
            keyed=data.key is not None,
        )
        name = self._name() or secrets.token_hex(8)
        with plan_cache(self.definition).writer(name, datetime.now(UTC)) as writer:
            summary = planner.plan(writer, progress or (lambda _rows: None))
            reader = stack.enter_context(writer.finish(msgspec.msgpack.encode(summary)))
        return self._opened(reader, summary)

    def _opened(self, reader: PlanReader, summary: PlanSummary, *, earlier: bool = False) -> OpenPlan:
        return OpenPlan(reader, summary, self.recipients.shown, self.composer.sender, earlier)

    def _name(self) -> str:
        """Hash everything that planning looks at; empty where something cannot be known beforehand."""
        file, data = self.definition.file, self.definition.file.data
        per_row_files = any("{" in rule.path for rule in file.attach)
        if self.definition.given_list is not None or per_row_files:
            return ""
        facts = [
            sha256(self.recipients.path),
            self.composer.version,
            *map(str, (data.sheet, data.key, data.where, data.duplicates, data.hidden, data.encoding)),
            *sorted(file.check.ignore),
            *map(str, (sorted(data.types.items()), sorted(data.defaults.items()))),
        ]
        return hashlib.sha256("\x1f".join(facts).encode()).hexdigest()[:16]


def plan_cache(definition: Definition) -> PlanCache:
    """Give the kept plans of a campaign."""
    workspace = definition.workspace
    return PlanCache(workspace.cache, PlanOwner(str(workspace.folder.resolve()), definition.name))


def join_now(definition: Definition) -> Join:
    """Join what counts at this moment, for who only looks back: an unreadable opt-out list stops nobody."""
    try:
        return Join(Suppressed(definition.file.data.suppress))
    except ListError:
        return Join(Suppressed())


@contextlib.contextmanager
def last_standing(definition: Definition, ledger: LedgerReader) -> Iterator[Standing]:
    """Open the plan that the last run worked on, and give where its rows stand."""
    last = ledger.last_run()
    plan = plan_cache(definition).find(last.plan, datetime.now(UTC)) if last and last.plan else None
    with plan or contextlib.nullcontext():
        yield Standing(ledger, plan, join_now(definition))
