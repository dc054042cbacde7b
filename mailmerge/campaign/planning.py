"""The plan of a campaign: taken from the cache while nothing has changed, else made again.

Whatever shows or sends messages gets them from here; the commands that only look back take the plan that the
last run worked on (`mailmerge.campaign.last_plan`).
"""

from __future__ import annotations

import contextlib
import functools
import os
import secrets
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec, TypeVar

import msgspec
from msgspec import Struct

from mailmerge.campaign.workspace import ledger_of
from mailmerge.errors import LedgerError, ListError, MailmergeError, PlanDamaged
from mailmerge.file_system import stamp_of
from mailmerge.ledger.ledger import Ledger
from mailmerge.plan.composer import Composer, recipe
from mailmerge.plan.facts import Facts, premises
from mailmerge.plan.path_log import PathLog
from mailmerge.plan.planner import Planner
from mailmerge.plan.rows import DIED, PlanSummary, cpus
from mailmerge.recipients import planned_rows, sha256

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.plan import KeptPlan
    from mailmerge.config.accounts import Account
    from mailmerge.options import Jobs
    from mailmerge.plan.cache import PlanCache, PlanOwner
    from mailmerge.plan.earlier import EarlierPlan
    from mailmerge.plan.path_log import LookedAtPaths
    from mailmerge.plan.store import PlanReader
    from mailmerge.recipients import RecipientList


_P = ParamSpec("_P")
_T = TypeVar("_T")
_CHANGES_TOLD = 5


class OpenPlan(Struct, frozen=True):
    """A plan, and the facts about the whole of it."""

    reader: PlanReader
    summary: PlanSummary
    source: str
    """The list, as the user named it."""
    sender: str
    """The template of From."""
    kept: KeptPlan
    """What finds it again."""
    earlier: bool = False
    """It was made before this command."""
    changes: tuple[str, ...] = ()
    """What has changed since the one before it was made."""
    anew: int | None = None
    """How many rows were planned again, the others being taken over from that one; None: all."""


class Planning:
    """Finds the plan of a campaign, or makes it.

    Args:
        definition: the campaign.
        recipients: its list.
        account: who sends, for From where the campaign does not set it.

    Raises:
        TemplateError: templates that do not compile, with every problem in them.

    """

    def __init__(
        self, definition: Definition, recipients: RecipientList, account: Account | None = None
    ) -> None:
        self._definition = definition
        self._recipients = recipients
        self._log = PathLog()
        self._source = None if definition.given_list is not None else self._look_at_list()
        self.composer = Composer(
            recipe(
                definition.file_for(recipients),
                account,
                out=definition.workspace.out,
                documents=plan_cache(definition).documents,
            ),
            recipients.columns,
            list_name=recipients.shown,
            files=self._log,
        ).sent_by(account)
        """The campaign's templates and message builder; the paths that it looks at are recorded."""
        recipients.reads(self.composer.renderer.used_names)
        # Nobody can tell whether rows that a program passes are the same as before.
        rows = secrets.token_hex(8) if self._source is None else ""
        # Rows of another list are chosen and corrected by this one: both are facts.
        self._others = [(path, self._log.stat(str(path))) for path in recipients.files[1:]]
        rows += "\n".join(str(path.absolute()) for path, _ in self._others)
        if definition.piped is not None:  # what was piped before still exists, and is another list
            rows += f"\n{definition.source}"
        key_id = ""
        if self.composer.needs_key:
            from mailmerge.campaign.unsubscribing import unsubscribe_key

            key_id = unsubscribe_key(definition).id
        self._premises = premises(
            definition.file,
            sender=self.composer.sender,
            rows=rows,
            key_id=key_id,
            makers=self.composer.makers,
        )
        self._changes: tuple[str, ...] = ()
        self._earlier: tuple[EarlierPlan, LookedAtPaths] | None = None

    def find(self, stack: ExitStack) -> OpenPlan | None:
        """Return a plan that was made before and is still valid, open until *stack* is closed."""
        cache = plan_cache(self._definition)
        found = cache.find(self._premises.digest(), datetime.now(UTC))
        if found is None:
            with cache.latest() or contextlib.nullcontext() as last:
                facts = Facts.decode(last.facts) if last else None
            self._changes = tuple(facts.changed_premises(self._premises, _CHANGES_TOLD)) if facts else ()
            return None
        with contextlib.ExitStack() as own:  # one that is not valid is released, and can be swept
            reader = own.enter_context(found)
            facts = Facts.decode(reader.facts)
            if facts is None or not reader.has_messages:
                return None
            try:
                summary = msgspec.msgpack.decode(reader.summary, type=PlanSummary)
            except msgspec.MsgspecError:
                return None
            self._changes = tuple(facts.changes(self._premises, _CHANGES_TOLD))
            if self._changes:
                anew = facts.changed_rows(self._premises, summary.understanding.rows // 2)
                if anew is not None and not self.composer.groups:
                    from mailmerge.plan.earlier import EarlierPlan

                    self._earlier = EarlierPlan(reader, summary, anew), facts.looked_at
                    stack.enter_context(own.pop_all())
                return None
            stack.enter_context(own.pop_all())
        return self._opened(reader, summary, earlier=True)

    def make(
        self, stack: ExitStack, progress: Callable[[int], None] | None = None, jobs: Jobs = 1
    ) -> OpenPlan:
        """Plan the whole list, and return the plan, open until *stack* is closed.

        Args:
            stack: closes it.
            progress: called now and then with the number of rows planned.
            jobs: how many processes make it, if it takes long.

        Raises:
            ListError: the list cannot be read to its end, or changed meanwhile.
            FileError: the plan cannot be kept.

        """
        cache = plan_cache(self._definition)
        cache.sweep(datetime.now(UTC), _is_last_plan)
        if self._earlier is not None:
            from mailmerge.plan.earlier import DiffersError

            earlier, _ = self._earlier
            with contextlib.suppress(DiffersError, PlanDamaged):
                reader, summary = self._write(cache, stack, progress, 1, earlier)
                return self._opened(reader, summary, anew=len(earlier.anew))
        try:
            return self._opened(*self._write(cache, stack, progress, cpus() if jobs == "auto" else jobs))
        except MailmergeError as error:
            if error.code == DIED:
                alone = "--jobs 1" if self._definition.invocation.typed else "jobs=1"
                error.hint = f"nothing was sent, and nothing is kept of the plan; {alone} needs no others"
            raise

    def _write(
        self,
        cache: PlanCache,
        stack: ExitStack,
        progress: Callable[[int], None] | None,
        jobs: int,
        earlier: EarlierPlan | None = None,
    ) -> tuple[PlanReader, PlanSummary]:
        data = self._definition.file.data
        planner = Planner(
            self.composer,
            self._recipients,
            ignore=sorted(self._definition.file.check.ignore),
            duplicates=data.duplicates,
            keyed=data.key is not None,
            jobs=jobs,
            take_paths=self._log.add,
        )
        with cache.writer(self._premises.digest(), datetime.now(UTC)) as writer:
            texts = cache.texts(datetime.now(UTC))
            summary = planner.plan(writer, progress or (lambda _rows: None), earlier, texts)
            if self._earlier is not None and earlier is not None:
                self._log.take_over(self._earlier[1], earlier.anew)
            facts = self._facts()
            reader = stack.enter_context(writer.finish(msgspec.msgpack.encode(summary), facts.encode()))
        return reader, summary

    def _opened(
        self, reader: PlanReader, summary: PlanSummary, *, earlier: bool = False, anew: int | None = None
    ) -> OpenPlan:
        from mailmerge.campaign.plan import KeptPlan

        path = plan_cache(self._definition).path(reader.name)
        kept = KeptPlan(self._definition, reader.name, path, self.composer, self._recipients)
        sender, shown = self.composer.sender, self._recipients.shown
        return OpenPlan(reader, summary, shown, sender, kept, earlier, self._changes, anew)

    def _look_at_list(self) -> os.stat_result:
        path = str(self._definition.source)
        try:
            return self._log.stat(path)
        except OSError as error:
            raise ListError(f"{path} cannot be read: {error.strerror}", code="D100") from error

    def _facts(self) -> Facts:
        """Return what was looked at; if a copy of the list was made, its contents are what was parsed."""
        if self._source is not None:
            path = str(self._definition.source)
            before, after = stamp_of(self._source), stamp_of(self._look_at_list())
            if before != after:
                raise ListError(
                    f"{path} changed while it was being read",
                    code="D125",
                    hint="wait until the program that writes it has finished, then try again",
                )
            self._log.hashed(path, self._source, sha256(self._recipients.path))
        for other, found in self._others:
            self._log.hashed(str(other), found, sha256(other))
        return Facts(self._premises, self._log.looked_at())


def reopen(kept: KeptPlan, stack: ExitStack) -> OpenPlan:
    """Return a plan that was made earlier, whatever has changed since, open until *stack* is closed.

    Raises:
        PlanDamaged: it no longer exists.

    """
    found = plan_cache(kept.definition).find(kept.name, datetime.now(UTC))
    if found is not None:
        reader = stack.enter_context(found)
        with contextlib.suppress(msgspec.MsgspecError):
            summary = msgspec.msgpack.decode(reader.summary, type=PlanSummary)
            shown, sender = kept.recipients.shown, kept.composer.sender
            return OpenPlan(reader, summary, shown, sender, kept, earlier=True)
    raise not_kept(kept)


def not_kept(kept: KeptPlan) -> PlanDamaged:
    """Return the error for a plan, or its messages, that is gone: those go when nothing is left to send."""
    return PlanDamaged(
        f"the plan of campaign {kept.definition.name!r} is not kept any more",
        hint="plan() makes a new one; what was sent before is not sent again",
    )


def once_more(command: Callable[_P, _T]) -> Callable[_P, _T]:
    """Decorate a read-only command to start again after it finds a damaged plan, which is gone by then."""

    @functools.wraps(command)
    def run(*given: _P.args, **named: _P.kwargs) -> _T:
        with contextlib.suppress(PlanDamaged):
            return command(*given, **named)
        return command(*given, **named)

    return run


def list_of(planned: OpenPlan) -> RecipientList | None:
    """Return the list of a plan as it was then; None: the file that it was read from has not changed."""
    kept = planned.kept
    if kept.definition.given_list is not None:
        return kept.recipients
    path = kept.definition.source.absolute()
    facts = Facts.decode(planned.reader.facts)
    with contextlib.suppress(OSError):
        now, wanted = bytes.fromhex(sha256(path)), os.fsencode(os.path.normpath(path))
        if facts and any(one.path == wanted and one.sha256 == now for one in facts.looked_at.paths):
            return None
    return planned_rows(kept.recipients, lambda: ((row.row, row.cells) for row in planned.reader.rows()))


def _is_last_plan(owner: PlanOwner, name: str) -> bool:
    """Return whether a campaign's last run worked on a plan; False if that cannot be determined."""
    try:
        with Ledger.open_read_only(ledger_of(Path(owner.folder)), owner.name) as ledger:
            last = ledger.last_run()
    except LedgerError:
        return False
    return last is not None and last.plan == name


def plan_cache(definition: Definition) -> PlanCache:
    """Return the kept plans of a campaign."""
    return definition.plan_cache
