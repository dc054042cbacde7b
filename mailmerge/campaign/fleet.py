"""A campaign that workers on many machines send: handing it over, following, stopping; and a worker itself.

The plan and what may be sent of it are loaded into the ledger's database; from then on the workers need
nothing from this machine, and this machine only observes.
"""

from __future__ import annotations

import contextlib
import os
import platform
import threading
import time
from datetime import datetime  # noqa: TC003  in values that are written as JSON
from typing import TYPE_CHECKING, Self

from msgspec import Struct
from msgspec.structs import replace

from mailmerge import postgres
from mailmerge.campaign import shared_ledger
from mailmerge.campaign.connect import (
    connection_factory,
    find_account,
    searching,
    server_profile,
    token_source,
)
from mailmerge.campaign.opening import account_key
from mailmerge.campaign.preflight import check_sender
from mailmerge.campaign.run import Run
from mailmerge.config.account_secrets import find_secret
from mailmerge.config.accounts import Account, default_config_path, resolve_account
from mailmerge.config.environment import Environment
from mailmerge.errors import AuthError, CampaignFileError, LedgerError
from mailmerge.fleet import jobs
from mailmerge.fleet.jobs import PresentWorker  # noqa: TC001  the same
from mailmerge.fleet.slot import WorkerAccount, WorkerSettings
from mailmerge.fleet.terms import FleetAccount, FleetRequest, SendingTerms
from mailmerge.fleet.worker import FleetWorker
from mailmerge.ledger import claims, work
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.ledger.shared_suppression import Carrier
from mailmerge.ledger.shared_usage import carry_machine
from mailmerge.message.dkim_keys import read_signatures
from mailmerge.model import TO_BE_SENT, Counts, Status
from mailmerge.plan.loading import load
from mailmerge.plan.server_store import GROUP as PLANS
from mailmerge.plan.server_store import ServerPlan, own_version, program_of, remove
from mailmerge.sending.runs import Progress, Reason, RunEnd
from mailmerge.suggest import suggested
from mailmerge.text import plural
from mailmerge.version import program_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.run import Connect
    from mailmerge.clock import Clock
    from mailmerge.fleet.worker import WorkerEvent
    from mailmerge.postgres import PostgresDatabase
    from mailmerge.smtp.connection import Connection

LEASE_SECONDS = "MAILMERGE_FLEET_LEASE"
"""For tests: seconds for which a slot may hand over after it last asked."""
WINDOW = "MAILMERGE_FLEET_WINDOW"
"""For tests: how many rows a slot claims at a time at most."""
_LOOK_EVERY = 0.5
_ABSENT_SECONDS = 5.0
"""Seconds that rows may wait for a worker before that is reported."""
_SETTLED = (
    Status.ACCEPTED, Status.REJECTED, Status.DEFERRED, Status.EXPIRED, Status.IN_DOUBT, Status.BOUNCED,
)  # fmt: skip


def server_of(definition: Definition) -> ServerPlace:
    """Return the database that has the campaign's ledger.

    Raises:
        CampaignFileError: its ledger is a file, which no worker can reach.

    """
    place = definition.ledger_place
    if isinstance(place, ServerPlace):
        return place
    raise CampaignFileError(
        "a fleet needs a ledger that machines share, and this campaign's is a file in its folder",
        code="C580",
        hint='write [ledgers.NAME] with url = "postgresql://…" into your config.toml, and add --ledger NAME; '
        "docs/fleet.md",
    )


# --- handing a campaign to the workers --------------------------------------------------------------------


def fleet_accounts(definition: Definition, names: Sequence[str]) -> tuple[Account, ...]:
    """Return the accounts that may send a campaign: those of these *names*, or its own.

    Raises:
        CampaignFileError: an account does not exist, or has no name by which workers could find it.

    """
    if names:
        return tuple(resolve_account(name, environment=definition.environment) for name in names)
    account = find_account(definition)
    if account.source not in {"config", "preset"} and definition.given_account is None:
        raise CampaignFileError(
            "workers find accounts by their names, and this campaign's account has none",
            code="C581",
            hint="write [accounts.NAME] into your config.toml and the workers', and add --accounts NAME",
        )
    return (account,)


def account_names(said: str) -> tuple[str, ...]:
    """Split a list of accounts, as in ``--accounts``.

    Raises:
        CampaignFileError: it names none.

    """
    found = tuple(dict.fromkeys(name.strip() for name in said.split(",") if name.strip()))
    if not found:
        raise CampaignFileError("no account is named", code="C581", hint="--accounts work,relay2")
    return found


class FleetRun(Run):
    """A run whose messages workers send; planning, questions and reports are those of `Run`."""

    _carrier: Carrier | None = None
    _refused_earlier: Sequence[PresentWorker] = ()

    @property
    def _fleet(self) -> FleetRequest:
        return self._request.fleet or FleetRequest()

    def _passes(self, plan: Plan, connect: Connect) -> RunEnd:  # noqa: ARG002  workers connect
        self._ledger.note_version(self._composer.version, self._composer.parts)
        self._opened.note_mark(self._ledger.handed_over)  # otherwise it would look like one from elsewhere
        place = server_of(self._definition)
        with place.database_to_fill() as db:
            jobs.prepare(db)
            postgres.prepare(db, (PLANS,))
            if plan.to_send:
                self._hand_over(db)
            sends = plan.to_send or work.is_at_work(db, self._definition.name)
        if self._fleet.detach and sends:
            return RunEnd(Reason.DETACHED, "the workers send it; nothing more is done from here")
        return self._follow(place)

    def _hand_over(self, db: PostgresDatabase) -> None:
        """Load what workers need, and let them begin."""
        accounts = fleet_accounts(self._definition, self._fleet.accounts)
        for account in accounts:
            for sender in self._planned.summary.senders:
                check_sender(self._definition, account, sender)
        slots = tuple(
            FleetAccount(account.name, self._send.sessions or account.sessions) for account in accounts
        )
        terms = SendingTerms(
            campaign=self._definition.name,
            senders=tuple(self._planned.summary.senders),
            version=self._composer.version,
            accounts=slots,
            retry=self._send.retry,
            max_rejected=self._send.max_rejected,
            rates=self._send.rate,
            per_domain=self._send.per_domain,
            jitter=self._send.jitter,
            window=self._send.window,
            quiet_hours=self._send.quiet_hours,
            timezone=self._send.timezone,
            run=self._ledger.attempts.run or 0,
            keeps_messages=self._request.keep_plan or not self._sends_all,
        )
        campaign = self._ledger.number
        number = load(db, campaign, self._planned.reader, terms.encode(), key=self._composer.token_key)
        self._refused_earlier = [worker for worker in jobs.present(db) if worker.refused]
        self._carry(db)
        if self._opened.usage is not None:
            carry_machine(db, self._opened.usage, map(account_key, accounts), self._clock)
        work.enqueue(db, campaign, number, self._queued(), by=process_name(), clock=self._clock)
        remove(db, campaign, keep={number, *work.plans_at_work(db, campaign)})
        jobs.defer(db, jobs.orders(campaign, number, slots, own_version()), at=self._schedule.start)

    def _carry(self, db: PostgresDatabase) -> None:
        """Load the current opt-outs of the files for the workers."""
        self._carrier = self._carrier or Carrier(self._ledger.number)
        self._carrier.carry(db, self._opt_outs.suppressed.entries())

    def _queued(self) -> Iterator[work.QueuedRow]:
        """Yield the rows of this run, and deferred ones if it sends all that is left."""
        rows = self._chosen()
        if self._sends_all:
            left = (row for row in self._standing.rows() if row.status in TO_BE_SENT)
            rows = (row for row in left if row.planned.first is None)
        for row in rows:
            planned, delivery = row.planned, row.delivery
            due = delivery.next_at if delivery else None
            yield work.QueuedRow(
                planned.n,
                planned.key,
                planned.row,
                planned.address.rpartition("@")[2].lower(),
                planned.recipients,
                due.timestamp() if due else 0.0,
            )

    def _finish(self, end: RunEnd) -> None:
        if end.reason not in {Reason.DETACHED, Reason.INTERRUPTED}:  # otherwise the last slot does
            super()._finish(end)

    # --- following ------------------------------------------------------------------------------------

    def _follow(self, place: ServerPlace) -> RunEnd:
        """Show the progress of the workers until nothing is due any more."""
        before = self._ledger.states()
        absent = _Absent(self._clock, self._schedule.start)
        with contextlib.ExitStack() as stack:
            db: PostgresDatabase | None = None
            gone = False
            while True:
                began = time.monotonic()
                try:
                    if db is None:
                        db = stack.enter_context(place.session())
                        self._ledger.go_on_with(place.session())
                    view, counts = self._looked(place, db, before)
                    end = self._over(view, jobs.present(db))
                except LedgerError:  # the workers know what to do, and we can only look again
                    stack.close()
                    if not gone:
                        self._observe(Progress(Counts(), 0, waiting="ledger"))
                    db, gone = None, True
                else:
                    gone = False
                    if end is not None:
                        return replace(end, counts=counts)
                    self._observe(Progress(counts, view.claimed if view else 0))
                    if absent.told(view):
                        self._observe(Progress(counts, 0, waiting="workers"))
                if self._stop.is_set():
                    return self._left()
                rest = max(_LOOK_EVERY, 10 * (time.monotonic() - began))  # many rows take long to look at
                while rest > 0 and not self._stop.is_set():
                    self._clock.sleep(min(_LOOK_EVERY, rest))
                    rest -= _LOOK_EVERY

    def _looked(
        self, place: ServerPlace, db: PostgresDatabase, before: Counts
    ) -> tuple[work.FleetView | None, Counts]:
        """Look at the fleet, and at the files of opt-outs, which apply to it while we are here."""
        self._opt_outs.held_until()
        if self._opt_outs.failure is not None:
            raise self._opt_outs.failure
        if self._opt_outs.changed:
            self._carry(db)
        work.recover(db)
        view = work.fleet_view(db, self._ledger.number)
        with place.open_read_only(self._definition.name) as ledger:
            return view, _since(before, ledger.states())

    def _over(self, view: work.FleetView | None, workers: Sequence[PresentWorker]) -> RunEnd | None:
        """Return why there is nothing to follow any more; None if there is."""
        if view is None or view.state == "finished":
            return RunEnd(Reason.FINISHED)
        if view.state in {"paused", "cancelled"}:
            why = f" ({view.note})" if view.note else ""
            said = f"the campaign was {view.state} by {view.by or 'somebody'}{why}"
            again = "resume" if view.state == "paused" else "send"
            return RunEnd(Reason.PAUSED, said, self._hint(f"to continue: {self._command(again)}"))
        if not view.waiting and not view.claimed and (not self._request.wait or not view.later):
            return RunEnd(Reason.FINISHED, next_at=view.next_at)
        workers = [worker for worker in workers if worker not in self._refused_earlier]
        refused = [worker for worker in workers if worker.refused]
        if refused and len(refused) == len(workers) and not view.slots:
            error = AuthError(f"no worker can sign in: {refused[0].refused}", code="S607")
            return RunEnd(Reason.REFUSED, error.message, error=error)
        return None

    def _left(self) -> RunEnd:
        watch, pause = self._command("fleet", "--watch"), self._command("pause")
        hint = self._hint(f"to watch them: {watch}; to pause them: {pause}")
        return RunEnd(Reason.INTERRUPTED, "the workers continue without this command", hint)

    def _command(self, name: str, *words: str) -> str:
        return str(suggested(self._definition.invocation, name, *words))

    def _hint(self, text: str) -> str | None:
        return text if self._definition.invocation.typed else None


class _Absent:
    """Notices that work is waiting and no worker takes it."""

    def __init__(self, clock: Clock, start: datetime | None) -> None:
        self._clock = clock
        self._since = clock.monotonic()
        self._start = start
        self._told = False

    def told(self, view: work.FleetView | None) -> bool:
        """Return, once for each time, whether that has lasted for a few seconds."""
        now = self._clock.monotonic()
        early = self._start is not None and self._clock.now() < self._start
        if view is None or view.slots or not view.waiting or early:
            self._since, self._told = now, False
        elif not self._told and now - self._since > _ABSENT_SECONDS:
            self._told = True
            return True
        return False


def _since(before: Counts, now: Counts) -> Counts:
    """Return how many more rows are in each state in which a worker leaves them."""
    return Counts({status: n for status in _SETTLED if (n := now[status] - before[status]) > 0})


def process_name() -> str:
    """Return this process's name for others: its number, and the machine."""
    return f"pid {os.getpid()} on {platform.node()}"


# --- looking and stopping, from any machine ---------------------------------------------------------------


class FleetCampaign(Struct, frozen=True):
    """The progress of one campaign of a fleet."""

    name: str
    state: str
    """``running``, ``paused``, ``cancelled`` or ``finished``."""
    since: datetime
    by: str
    note: str
    waiting: int
    """Rows that a worker may begin with now."""
    claimed: int
    """Rows that workers have."""
    deferred: int
    next_at: datetime | None
    """When the first deferred row is due."""
    unsettled: int
    """Rows in doubt, or being handed over."""
    program: str
    """The version of the program that planned it: workers of another version leave it alone."""


class FleetSlot(Struct, frozen=True):
    """One sending slot: a session of a worker."""

    number: int
    worker: str
    account: str
    campaign: str
    since: datetime
    claimed: int
    doing: str
    silent: bool
    """Nothing was heard from it for longer than its lease."""


class FleetStatus(Struct, frozen=True):
    """What the workers of a ledger are doing."""

    ledger: str
    campaigns: tuple[FleetCampaign, ...]
    workers: tuple[PresentWorker, ...]
    slots: tuple[FleetSlot, ...]
    jobs: Mapping[str, int]
    """Slots that nobody has begun with, by account."""


class Fleet:
    """The workers of a ledger, and what they have to send.

    Args:
        ledger: as ``--ledger`` names it; None: as ``MAILMERGE_LEDGER`` does.
        campaign: only this one, by its name; None: all.
        environ: environment variables; None: the process's.

    Raises:
        CampaignFileError: the ledger does not exist.

    """

    def __init__(
        self,
        ledger: str | None = None,
        campaign: str | None = None,
        *,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self.campaign = campaign
        environment = Environment.read(None, os.environ if environ is None else environ)
        self._place = named_server(ledger, environment)

    @classmethod
    def _of(cls, definition: Definition) -> Self:
        made = cls.__new__(cls)
        made.campaign = definition.name
        made._place = server_of(definition)  # noqa: SLF001  of this class
        return made

    def status(self) -> FleetStatus:
        """Return its current state.

        Raises:
            LedgerError: the ledger cannot be read, or does not have the campaign.

        """
        with self._place.database() as db:
            if not jobs.is_there(db):
                return FleetStatus(str(self._place), (), (), (), {})
            numbers = self._numbers(db)
            names = {number: name for name, number in numbers.items()}
            campaigns = [
                FleetCampaign(
                    name, view.state, view.since, view.by, view.note, view.waiting, view.claimed, view.later,
                    view.next_at, view.unsettled, program_of(db, view.plan),
                )
                for name, number in numbers.items()
                if (view := work.fleet_view(db, number)) is not None
            ]  # fmt: skip
            slots = [slot for slot in work.slots(db) if self.campaign is None or slot.campaign in names]
            return FleetStatus(
                str(self._place),
                tuple(campaigns),
                tuple(jobs.present(db)),
                tuple(
                    FleetSlot(
                        slot.epoch, slot.worker, slot.account, names.get(slot.campaign or 0, ""), slot.since,
                        slot.claimed, slot.doing, slot.silent,
                    )
                    for slot in slots
                ),
                jobs.waiting(db),
            )  # fmt: skip

    def _numbers(self, db: PostgresDatabase) -> dict[str, int]:
        if self.campaign is None:
            return work.campaigns(db)
        with self._place.open_read_only(self.campaign) as ledger:
            return {self.campaign: ledger.number}

    def pause(self, note: str = "") -> bool:
        """Let the workers pause the campaign; return whether they were sending it."""
        with self._writing() as (db, number):
            jobs.withdraw(db, number)
            return work.set_state(db, number, "paused", by=process_name(), note=note)

    def resume(self) -> bool:
        """Let the workers continue; return whether the campaign was paused.

        Raises:
            LedgerError: the plan is missing, so that they cannot continue.

        """
        with self._writing() as (db, number):
            view = work.fleet_view(db, number)
            if view is None or not work.set_state(db, number, "running", by=process_name()):
                return False
            with ServerPlan.open(db, view.plan) as plan:
                accounts = SendingTerms.decode(plan.terms).accounts
                jobs.defer(db, jobs.orders(number, view.plan, accounts, plan.program))
            return True

    def cancel(self) -> bool:
        """Take the campaign from the workers; return whether they had it."""
        with self._writing() as (db, number):
            jobs.withdraw(db, number)
            return work.set_state(db, number, "cancelled", by=process_name())

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[PostgresDatabase, int]]:
        if self.campaign is None:
            raise ValueError("which campaign?")
        with self._place.open_read_only(self.campaign) as ledger:
            number = ledger.number
        with self._place.database_to_fill() as db:
            jobs.prepare(db)
            yield db, number


def fleet_of(definition: Definition) -> Fleet:
    """Return the fleet of a campaign's ledger; raises as `server_of` does."""
    return Fleet._of(definition)  # noqa: SLF001  its own module


# --- a worker ---------------------------------------------------------------------------------------------


class Worker:
    """One process that sends for the fleets of a ledger, with these accounts; it never asks a question.

    Args:
        ledger: as ``--ledger`` names it; None: ``MAILMERGE_LEDGER``.
        accounts: accounts, or their names in ``config.toml``.
        until_done: end when no campaign has anything left to send.
        tell: called with every event, from several threads; None: nobody wants them.
        environ: environment variables; None: the process's.

    Raises:
        CampaignFileError: the ledger or an account does not exist, or is incomplete.

    """

    def __init__(
        self,
        ledger: str | None,
        accounts: Sequence[str | Account],
        *,
        until_done: bool = False,
        tell: Callable[[WorkerEvent], None] | None = None,
        environ: Mapping[str, str] | None = None,
    ) -> None:
        self._environment = Environment.read(None, os.environ if environ is None else environ)
        self._place = named_server(ledger, self._environment)
        self._accounts = [
            self._with_connections(
                account
                if isinstance(account, Account)
                else resolve_account(account, environment=self._environment)
            )
            for account in accounts
        ]
        self._tell = tell or (lambda _event: None)
        variables = self._environment.real
        self._settings = WorkerSettings(
            lease=float(variables.get(LEASE_SECONDS, claims.LEASE)),
            window=int(variables.get(WINDOW, "100")),
            until_done=until_done,
        )

    def check(self) -> list[str]:
        """Check that it could begin: database, tables, secrets, signing keys; return a line for each.

        Raises:
            LedgerError: the database cannot be reached, or is of another version.
            AuthError: a secret is missing.
            CampaignFileError: a signing key cannot be used.

        """
        with self._place.database_to_fill() as db:
            jobs.prepare(db)
            postgres.prepare(db, (PLANS,))
        said = [f"mailmerge-kit {program_version()}, ledger {self._place}"]
        for one in self._accounts:
            account = one.account
            if account.auth == "oauth":
                token_source(account, self._environment).token()
            elif account.signs_in and account.auth != "certificate":
                find_secret(account, self._environment)
            read_signatures(account.dkim)
            rates = ", ".join(map(str, account.rate)) or "no rate"
            host = f"{account.host}:{account.port}"
            said.append(f"account {one.name}: {host}, {plural(one.slots, 'session')} at most, {rates}")
        return said

    def run(self, stop: threading.Event | None = None) -> bool:
        """Work until *stop* is set; return whether it ended because every account was refused.

        Raises:
            LedgerError: the database cannot be used at all.

        """
        told, stop = self._tell, stop or threading.Event()
        working = FleetWorker(
            self._place, self._accounts, name=process_name(), tell=told, stop=stop, settings=self._settings
        )
        working.run()
        return len(working.refused) == len(self._accounts)

    def _with_connections(self, account: Account) -> WorkerAccount:
        def connections(give_up: Callable[[], bool], again: Callable[[], object]) -> Callable[[], Connection]:
            profile = server_profile(account)
            connect = connection_factory(account, self._environment, give_up=give_up, profile=profile)
            return searching(connect, again)

        return WorkerAccount(account, account_key(account), account.sessions, connections)


def named_server(ledger: str | None, environment: Environment) -> ServerPlace:
    """Return the database that a command line or the environment names.

    Raises:
        CampaignFileError: none is named, or it does not exist.

    """
    said = ledger or environment.real.get("MAILMERGE_LEDGER")
    if not said:
        raise CampaignFileError(
            "no ledger is named", code="C580", hint="--ledger NAME, or MAILMERGE_LEDGER; docs/fleet.md"
        )
    given = said != environment.real.get("MAILMERGE_LEDGER")
    return shared_ledger.named(said, default_config_path(environment), typed=given)
