"""Opening a campaign: locks, ledger, registry, list copy and account usage, taken in one order.

Every command comes through here: a ledger is never written without its lock, never trusted before it was
compared with what this machine knows about it, and never left in the middle of a hand-over.
"""

from __future__ import annotations

import contextlib
import enum
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.campaign import rescued
from mailmerge.campaign.ledger_moves import (
    forget_lost,
    move,
    note_home,
    refuse_before_opening,
    refuse_elsewhere,
    refuse_home_elsewhere,
    refuse_shared_name,
    source_of,
)
from mailmerge.campaign.planning import list_of, reopen
from mailmerge.clock import SystemClock
from mailmerge.errors import CampaignFileError, InUseError, LedgerError, ListError
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.locks import NO_WAIT, AccountLock, LockWait
from mailmerge.ledger.place import FilePlace
from mailmerge.ledger.registry import CampaignRegistry
from mailmerge.model import Status
from mailmerge.recipients import snapshot
from mailmerge.suggest import suggested
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from contextlib import ExitStack

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.plan import KeptPlan
    from mailmerge.campaign.planning import OpenPlan, Planning
    from mailmerge.campaign.standing import Standing
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.account_usage import AccountQuota
    from mailmerge.ledger.place import LedgerPlace
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.ledger.registry import OtherMessages
    from mailmerge.options import Jobs
    from mailmerge.recipients import RecipientList


class Access(enum.Enum):
    """What a command is going to do to the campaign's ledger."""

    SEND = enum.auto()
    """Write to it, made now if necessary; messages go to a server."""
    FLEET = enum.auto()
    """The same for a fleet, which may be sending it already."""
    TRIAL = enum.auto()
    """The same for messages to oneself, which change no row: a fleet may be sending it meanwhile."""
    DECIDE = enum.auto()
    """Write a person's decision into it; it must exist."""
    COPY = enum.auto()
    """Write to a copy that is discarded: what would happen from here on."""
    EMPTY = enum.auto()
    """Write to an empty one that is discarded: what would happen from the start."""


class OpenCampaign:
    """A campaign while a command works on it; get one from `open_run`."""

    def __init__(self, definition: Definition, ledger: Ledger, clock: Clock, stack: ExitStack) -> None:
        self.definition = definition
        self.ledger = ledger
        self._clock = clock
        self._stack = stack
        self.registry: CampaignRegistry | None = None
        """None where nothing will be handed over for real, as with `usage`."""
        self.looks_ahead = False
        """Whether this only shows what would happen from here on: a dry run, or a check."""
        self.usage: AccountUsage | None = None

    def open_list(self) -> RecipientList:
        """Open the list; where messages go to a server, a copy of it that nobody edits meanwhile.

        Raises:
            ListError: it cannot be read, or changed while it was copied.

        """
        recipients = self.definition.open_list()  # reports what is wrong, before any copy is made
        if self.ledger.throwaway or self.definition.given_list is not None:
            return recipients
        workspace = self.definition.workspace
        copy = snapshot(self.definition.source, workspace.state)
        workspace.clear_snapshots(keep=copy)
        return self.definition.open_list(copy)

    def plan(
        self, planning: Planning, progress: Callable[[int], None] | None = None, jobs: Jobs = 1
    ) -> OpenPlan:
        """Return the campaign's plan, open until the campaign is closed; *jobs* processes make it.

        Raises:
            ListError: the list cannot be read to its end.
            FileError: a new plan cannot be kept anywhere.

        """
        return self.find_plan(planning) or planning.make(self._stack, progress, jobs)

    def find_plan(self, planning: Planning) -> OpenPlan | None:
        """Return the campaign's plan if one exists and is valid, open until the campaign is closed."""
        return planning.find(self._stack)

    def reopen(self, kept: KeptPlan) -> OpenPlan:
        """Return a plan that was made earlier, whatever has changed since, open until the campaign is closed.

        Raises:
            PlanDamaged: it no longer exists.

        """
        return reopen(kept, self._stack)

    def list_of(self, planned: OpenPlan) -> RecipientList:
        """Return the list as it was when it was planned."""
        recipients = list_of(planned)
        if recipients is None:
            return self.open_list()
        if not self.ledger.throwaway:  # copies belong to other plans' lists
            self.definition.workspace.clear_snapshots(keep=None)
        return recipients

    def keys_named(self, rows: str | None) -> list[str] | None:
        """Return the keys of rows of the last run's list; see `mailmerge.campaign.last_plan.keys_named`."""
        from mailmerge.campaign.last_plan import keys_named

        return keys_named(self.definition, self.ledger, rows)

    def quota(self, account: Account) -> AccountQuota | None:
        """Return the account's limits and how much of them is used; None: nothing is counted here."""
        limits = (account.quota,) if account.quota else ()
        return self.usage.quota(account_key(account), limits, self._clock) if self.usage else None

    def lock_account(self, account: Account, *, wait: LockWait = NO_WAIT) -> None:
        """Lock the account until the campaign is closed: we open one session at most.

        Raises:
            InUseError: another process sends with it, for longer than *wait*.

        """
        folder = self.definition.workspace.user_state
        lock = AccountLock(folder, account_key(account), wait=wait)
        self._stack.enter_context(lock)
        if self.usage is not None:
            self.usage.guard(lock)

    def refuse_without_room(self, rows: int) -> None:
        """Make sure that the ledger has room for what happens to this many rows.

        Raises:
            FileError: the disk has too little.

        """
        path = self.ledger.path
        if not self.ledger.throwaway and isinstance(path, Path):
            files.refuse_without_room(
                path,
                Ledger.growth(rows),
                f"recording what happens to {plural(rows, 'row')} needs",
                "free some space, then run the same command again; nothing was sent",
            )

    def note_mark(self, handed_over: int) -> None:
        """Remember outside of the ledger how far it has got, so that an older copy is noticed."""
        if self.registry is not None:
            self.registry.note(self.ledger, handed_over)
            self.registry.messages.note(self.ledger)

    def note_messages(self, *, ended: bool) -> LedgerError | None:
        """Remember which messages were sent, before the first and after the last; return why it failed."""
        if self.registry is None:
            return None
        try:
            if ended:
                revised = self.ledger.attempts.first_revised
                self.registry.messages.note(self.ledger, ended=True, revised=revised)
            else:
                self.registry.messages.begin(self.ledger)
        except LedgerError as error:
            return error
        return None

    def rescued(self, error: LedgerError) -> LedgerError:
        """Keep the contents of a ledger whose file was deleted or replaced; add a hint to the *error*."""
        try:
            kept = rescued.keep(self.definition, self.ledger, self._clock.now().astimezone())
        except LedgerError:
            return error
        return _with_copy(error, kept)

    def forget_messages(self) -> None:
        """Forget outside of the ledger how far it had got, and which messages were sent.

        Raises:
            LedgerError: that cannot be written.

        """
        path = registry_path(self.definition)
        if path.exists():
            with CampaignRegistry(path) as registry:
                registry.forget(self.ledger.secret)
        rescued.forget(self.definition, self.ledger)

    @contextlib.contextmanager
    def other_messages(self) -> Iterator[OtherMessages | None]:
        """Open what other campaigns of this user have sent; None: nothing is known here.

        Raises:
            LedgerError: that cannot be read.

        """
        path = registry_path(self.definition)
        if self.registry is not None:
            yield self.registry.messages.others(self.ledger)
        elif self.looks_ahead and path.exists():
            with CampaignRegistry(path, read_only=True) as registry:
                yield registry.messages.others(self.ledger)
        else:
            yield None


@contextlib.contextmanager
def open_run(
    definition: Definition,
    access: Access,
    *,
    clock: Clock | None = None,
    wait: LockWait = NO_WAIT,
) -> Iterator[OpenCampaign]:
    """Open the campaign for one command, and close everything when it ends.

    Args:
        definition: which campaign.
        access: what is going to be done to its ledger.
        clock: gives the times that are recorded.
        wait: how to wait for another process that is working on the campaign.

    Raises:
        LedgerError: it is missing, older than it should be, damaged, or cannot be written.
        InUseError: another process works on the campaign.

    """
    clock = clock or SystemClock()
    with contextlib.ExitStack() as stack:
        if access in {Access.COPY, Access.EMPTY}:
            place = definition.ledger_place if access is Access.COPY else None
            ledger = stack.enter_context(_scratch(place, definition.name, clock))
            if place is not None:
                compare(definition, None if ledger.new else ledger)
            opened = OpenCampaign(definition, ledger, clock, stack)
            opened.looks_ahead = access is Access.COPY
            yield opened
            return
        sends = access in {Access.SEND, Access.FLEET, Access.TRIAL}
        if sends:
            definition.workspace.make_state()
        _refuse_undecided(definition, access)
        lock = None
        if access is not Access.TRIAL or not definition.ledger_place.has_fleet(definition.name):
            # Otherwise the process that follows the workers has the lock, and looks after it.
            lock = stack.enter_context(definition.ledger_place.lock(definition.name, wait))
        opened = (_for_sending if sends else _for_deciding)(definition, clock, stack, lock)
        if access is Access.SEND:
            opened.ledger.refuse_while_fleet()
        yield opened


def _scratch(place: LedgerPlace | None, name: str, clock: Clock) -> Ledger:
    """Make a throw-away copy of a ledger, or an empty one."""
    if place is None or isinstance(place, FilePlace):
        return Ledger.scratch(place.path if place else None, name, now=clock.now)
    if not place.exists():
        return Ledger.scratch(None, name, now=clock.now)
    with place.database() as db:
        return Ledger.scratch(db, name, now=clock.now)


def _refuse_undecided(definition: Definition, access: Access) -> None:
    """Refuse to decide about the rows of a ledger that does not exist."""
    place = definition.ledger_place
    if access is Access.DECIDE and not place.exists():
        compare(definition, None)
        raise LedgerError(
            f"no ledger was found at {place}", code="L705", hint="nothing has been sent from here yet"
        )


def registry_path(definition: Definition) -> Path:
    """Return the database in which this machine keeps what it knows about ledgers."""
    return definition.workspace.user_state / "campaigns.db"


def compare(definition: Definition, ledger: LedgerReader | None, *, alone: bool = True) -> None:
    """Compare a ledger with what this machine knows about it, before it is trusted.

    Args:
        definition: the campaign.
        ledger: its part of the ledger, or a throw-away copy of that; None: there is none.
        alone: see `CampaignRegistry.check`.

    Raises:
        LedgerError: it is missing, older than it should be, another one, or a copy.

    """
    path = registry_path(definition)
    if path.exists():
        with CampaignRegistry(path, read_only=True) as registry:
            _compared(definition, ledger, registry, alone=alone)


def _with_copy(error: LedgerError, kept: Path | None) -> LedgerError:
    """Return the *error* about a lost ledger, with a hint that names the copy that is *kept*, if any."""
    if kept is None:
        return error
    hint = f"its contents are kept: put a copy of {kept} in its place, then run the same command again"
    return LedgerError(error.message, code=error.code, hint=hint)


def _refuse_missing(definition: Definition, registry: CampaignRegistry) -> None:
    try:
        registry.refuse_missing(definition.ledger_place.known_as, definition.name)
    except LedgerError as error:
        raise _with_copy(error, rescued.newest(definition, registry)) from None


def _compared(
    definition: Definition, ledger: LedgerReader | None, registry: CampaignRegistry, *, alone: bool = True
) -> None:
    path = definition.ledger_place.known_as
    if ledger is None:
        _refuse_missing(definition, registry)
        refuse_elsewhere(definition, None, registry)
        return
    refuse_elsewhere(definition, ledger, registry)
    try:
        registry.check(ledger, path, alone=alone)
    except LedgerError as error:
        if error.code == "L705":
            raise _with_copy(error, rescued.newest(definition, registry)) from None
        if error.code != "L712":
            raise
        invocation = definition.invocation
        if invocation.typed:
            new = "give this one another `name`"
            begin = f"to start over here, with the whole list: {suggested(invocation, 'ledger forget')}"
            here = f"to continue here, and no longer there: {suggested(invocation, 'ledger move')}"
            hint = f"{new}; {begin}; {here}"
        else:
            hint = "give this one another name, or use its method `move_ledger` or `forget_ledger`"
        raise LedgerError(error.message, code="L712", hint=hint) from None


def is_foreign(definition: Definition, ledger: LedgerReader) -> bool:
    """Return whether a ledger came with the folder: messages were handed over, and none of them from here."""
    if not ledger.handed_over:
        return False
    path = registry_path(definition)
    if not path.exists():
        return True
    with CampaignRegistry(path, read_only=True) as registry:
        return not registry.knows(ledger)


def _for_sending(definition: Definition, clock: Clock, stack: ExitStack, lock: object) -> OpenCampaign:
    place, name, user_state = definition.ledger_place, definition.name, definition.workspace.user_state
    registry = stack.enter_context(CampaignRegistry(registry_path(definition)))
    refuse_before_opening(definition, registry)
    if not place.exists():
        _refuse_missing(definition, registry)
    ledger = stack.enter_context(place.open_for_writing(name, now=clock.now, lock=lock))
    if ledger.new:
        _refuse_missing(definition, registry)
    _compared(definition, ledger, registry)
    refuse_shared_name(definition, ledger, registry)
    note_home(definition, ledger, registry)
    if lock is not None:
        ledger.repair()
    opened = OpenCampaign(definition, ledger, clock, stack)
    opened.registry = registry
    opened.usage = stack.enter_context(AccountUsage(user_state / "usage.db"))
    return opened


def _for_deciding(definition: Definition, clock: Clock, stack: ExitStack, lock: object) -> OpenCampaign:
    ledger = stack.enter_context(_existing(definition, clock, lock))
    compare(definition, ledger)
    ledger.repair()
    return OpenCampaign(definition, ledger, clock, stack)


@contextlib.contextmanager
def open_beside(definition: Definition, *, clock: Clock | None = None) -> Iterator[OpenCampaign]:
    """Open a campaign to record what the mailbox reports about it, also while a run is sending.

    What a dead run was handing over is in doubt for everybody who opens the ledger; a live run keeps its
    rows. Only where the ledger's tables have to be changed first, nobody else may have it open.

    Raises:
        LedgerError: it does not exist, or cannot be read or written.
        InUseError: it has to be brought up to date, and another process is working on the campaign.

    """
    clock = clock or SystemClock()
    _refuse_undecided(definition, Access.DECIDE)
    place, name = definition.ledger_place, definition.name
    with contextlib.ExitStack() as stack:
        with place.lock(name) if place.is_older() else contextlib.nullcontext():
            try:
                ledger = place.open_for_writing(name, create=False, now=clock.now, beside=True)
            except LedgerError as error:
                if error.code == "L705":
                    compare(definition, None)
                raise
            stack.enter_context(ledger)
        compare(definition, ledger)
        if ledger.states()[Status.HANDING_OVER]:
            with contextlib.suppress(InUseError), place.lock(name):
                ledger.repair()
        opened = OpenCampaign(definition, ledger, clock, stack)
        opened.registry = stack.enter_context(CampaignRegistry(registry_path(definition)))
        yield opened


def _existing(definition: Definition, clock: Clock, lock: object) -> Ledger:
    """Open a ledger that must exist, for writing, under its *lock*."""
    try:
        return definition.ledger_place.open_for_writing(
            definition.name, create=False, now=clock.now, lock=lock
        )
    except LedgerError as error:
        if error.code == "L705":
            compare(definition, None)
        raise


def move_ledger(definition: Definition) -> None:
    """Decide that a campaign continues with the ledger that is here, wherever else a copy of it is.

    Raises:
        LedgerError: it does not exist, or is older than it should be.
        InUseError: another process works on the campaign.

    """
    from mailmerge.campaign.shared_ledger import servers

    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(CampaignRegistry(registry_path(definition)))
        source = source_of(definition, registry, servers(definition.environment))
        if source is not None:
            move(definition, source, registry)
            return
        _refuse_undecided(definition, Access.DECIDE)
        lock = stack.enter_context(definition.ledger_place.lock(definition.name))
        ledger = stack.enter_context(_existing(definition, SystemClock(), lock))
        registry.refuse_older(ledger, ledger.path)
        registry.take_place(ledger)
        if ledger.server is not None:
            registry.take_home(definition.workspace.folder, definition.name, ledger.known_as)
            note_home(definition, ledger, registry)


def forget_ledger(definition: Definition) -> str | None:
    """Let a campaign start over: what its ledger has is kept there, under another name.

    Returns:
        That name; None: the ledger was gone or its server does not answer, so only this machine's memory of
        it is gone.

    Raises:
        CampaignFileError: neither the ledger nor this machine has such a campaign.
        LedgerError: it cannot be read or written.
        InUseError: another process works on the campaign.

    """
    place = definition.ledger_place
    with contextlib.ExitStack() as stack:
        registry = stack.enter_context(CampaignRegistry(registry_path(definition)))
        kept = None
        if forget_lost(definition, registry):
            return None
        refuse_home_elsewhere(definition, registry)
        if place.exists():
            lock = stack.enter_context(place.lock(definition.name))
            kept = _set_aside(definition, registry, lock)
        if not registry.forget_place(place.known_as, definition.name) and kept is None:
            raise CampaignFileError(
                f'there is nothing to forget of campaign "{definition.name}": {place} does not have it',
                code="L780",
                hint="check the name and the ledger; a campaign that was never sent has nothing to forget",
            )
        return kept


def _set_aside(definition: Definition, registry: CampaignRegistry, lock: object) -> str | None:
    place = definition.ledger_place
    try:
        ledger = place.open_for_writing(definition.name, create=False, lock=lock)
    except LedgerError as error:
        if error.code != "L705":
            raise
        return None
    with ledger:
        ledger.refuse_while_fleet()
        ledger.repair()
        copied = registry.is_copy(ledger, place.known_as)
        if not copied:  # whoever has its messages must not get them again from the new one
            registry.messages.begin(ledger)
            registry.messages.note(ledger, ended=True)
        return ledger.set_aside(copied=copied)


def refuse_superseded(found: Mapping[str, str]) -> None:
    """Refuse to requeue where corrected rows were sent in the place of these.

    Raises:
        ListError: they were.

    """
    if not found:
        return
    named = ", ".join(f"{key} (superseded by {by})" for key, by in list(found.items())[:5])
    raise ListError(
        f"a corrected row was sent in the place of {named}{' …' if len(found) > 5 else ''}",
        code="D158",
        hint="nothing was requeued; correct the list itself as well",
    )


@contextlib.contextmanager
def open_read_only(definition: Definition) -> Iterator[LedgerReader | None]:
    """Open the ledger read-only, without a lock; None: nothing was ever recorded for this campaign.

    Raises:
        LedgerError: it cannot be read, is missing, or older than it should be.

    """
    place = definition.ledger_place
    ledger = None
    if place.exists():
        try:
            ledger = place.open_read_only(definition.name)
        except LedgerError as error:
            # The file has only other campaigns so far; a person who gave nothing but a name has mistyped it.
            if error.code != "L705" or definition.only_ledger:
                raise
    with ledger or contextlib.nullcontext():
        compare(definition, ledger, alone=False)
        yield ledger


@contextlib.contextmanager
def open_standing(definition: Definition) -> Iterator[Standing | None]:
    """Open ledger and last plan read-only, without a lock; None: nothing was ever recorded.

    Raises:
        LedgerError: the ledger cannot be read.

    """
    with open_read_only(definition) as ledger:
        if ledger is None:
            yield None
            return
        from mailmerge.campaign.last_plan import last_standing

        with last_standing(definition, ledger, running=lambda: is_running(definition)) as standing:
            yield standing


def is_running(definition: Definition) -> bool:
    """Return, from the lock, whether a process is working on the campaign now; makes no file."""
    return definition.ledger_place.is_held(definition.name)


def account_key(account: Account) -> str:
    """Return the account's name for locks and counts: what matters is who signs in where."""
    return f"{account.user or account.name}@{account.host}"
