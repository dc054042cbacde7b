"""A worker: takes jobs for the accounts that it has, and runs each in a sending slot of its own.

procrastinate wakes it up (LISTEN, and polling where that does not get through), shows by its heartbeats that
it is alive, and gives it jobs; each is one thread with one SMTP session. What a job may send is decided by
the ledger.

Nothing here decides whether a message is sent, so everything may be repeated: a job whose worker is silent is
deferred again by whichever worker notices, and the slot that was silent finds out from the ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import LedgerError
from mailmerge.fleet import jobs
from mailmerge.fleet.slot import SlotRun
from mailmerge.fleet.terms import SendingTerms
from mailmerge.ledger import work
from mailmerge.model import Scope, Status
from mailmerge.plan.server_store import ServerPlan, own_version, program_of, remove_messages
from mailmerge.sending.runs import MAY_BE_SENT, Reason
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    import procrastinate

    from mailmerge.fleet.slot import SlotEnd, WorkerAccount, WorkerSettings
    from mailmerge.ledger.claims import Slot
    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.ledger.work import FleetView
    from mailmerge.postgres import PostgresDatabase
    from mailmerge.sending.runs import Progress

_LOOK = 0.2
"""Seconds within which a stop is noticed."""
_POLL = 5.0
"""Seconds after which a worker looks for jobs by itself: behind a pooler LISTEN does not work."""
_BACKOFF = (1.0, 2.0, 4.0, 8.0, 16.0, 30.0)
_NOT_REGISTERED = "23503"
"""PostgreSQL's code where a job is fetched by a worker that others have removed from the list of workers."""
_TEND_AT_LEAST = 0.5
_SPARE_THREADS = 4
_PRESENT_FOR = 3
"""Rounds of tending after which a silent worker is not counted any more."""


_REST = 60.0
"""Seconds without jobs of an account whose server keeps cutting connections."""
_LONGER = 6
"""How often that is doubled."""
_LONGER_NETWORK = 2
"""The same where its network is gone, which comes back by itself."""


class _Rest(Struct, frozen=True):
    """A time without jobs of an account."""

    until: float = 0.0
    """By the steady clock."""
    times: int = 0
    """How many there were since something was accepted."""


class WorkerEvent(Struct, frozen=True):
    """Something that a worker reports, without any address."""

    kind: str
    text: str
    account: str = ""
    campaign: str = ""
    slot: int | None = None
    """Its epoch in the ledger."""
    counts: Mapping[str, int] = {}
    detail: bool = False
    """Whether it is for verbose output only: it may quote a server that quotes an address."""


class FleetWorker:
    """One process that sends for a fleet; use it once.

    Args:
        place: the ledger.
        accounts: who it can send as, complete with their secrets.
        name: its name in the ledger: host and process.
        tell: called with every event, from several threads.
        stop: set from outside: it finishes what is in flight, returns everything else, and ends.
        settings: see `WorkerSettings`.

    """

    def __init__(
        self,
        place: ServerPlace,
        accounts: Sequence[WorkerAccount],
        *,
        name: str,
        tell: Callable[[WorkerEvent], None],
        stop: threading.Event,
        settings: WorkerSettings,
    ) -> None:
        self._place = place
        self._accounts = accounts
        self._name = name
        self._tell = tell
        self._stop = stop
        self._settings = settings
        self._since = datetime.now(UTC)
        self._refused: dict[str, str] = {}
        """Accounts that a server refused, with its reply: this worker does not try them again."""
        self._rests: dict[str, _Rest] = {}
        self._left: set[int] = set()
        """Plans of another version of the program, of which that was said."""
        self._halts = {account.name: threading.Event() for account in accounts}
        self._done = False
        self._presence_lock = threading.Lock()
        """Held while this worker's presence is written: what was true before never overwrites a refusal."""
        self._gone = False

    @property
    def refused(self) -> frozenset[str]:
        """The accounts that were refused."""
        return frozenset(self._refused)

    def run(self) -> None:
        """Work until it is stopped, no account is left that is accepted, or nothing is left to do."""
        asyncio.run(self._main())

    async def _main(self) -> None:
        slots = sum(account.slots for account in self._accounts)
        threads = ThreadPoolExecutor(slots + _SPARE_THREADS, thread_name_prefix="slot")
        asyncio.get_running_loop().set_default_executor(threads)
        asyncio.get_running_loop().set_exception_handler(_pass_over_lost_jobs)
        serving = [asyncio.create_task(self._serve(account)) for account in self._accounts]
        tending = asyncio.create_task(self._tend())
        try:
            while not (self._stop.is_set() or self._done or all(task.done() for task in serving)):
                await asyncio.sleep(_LOOK)
                if tending.done() and not self._stop.is_set():
                    tending.result()
        finally:
            for halt in self._halts.values():
                halt.set()
            for task in serving:
                task.cancel()
            ended = await asyncio.gather(*serving, return_exceptions=True)
            tending.cancel()
            await asyncio.gather(tending, return_exceptions=True)
            with contextlib.suppress(LedgerError), self._place.session() as db, self._presence_lock:
                jobs.say_gone(db, self._name)
                self._gone = True
            threads.shutdown()
        for error in ended:
            if isinstance(error, Exception):
                raise error

    # --- jobs -----------------------------------------------------------------------------------------

    async def _serve(self, account: WorkerAccount) -> None:
        """Take the jobs of one account, until it is refused; the database may come and go."""
        failures = 0
        while account.name not in self._refused:
            app = jobs.connect(self._place)
            self._register(app, account)
            began = time.monotonic()
            problem = ""
            try:
                async with app.open_async():
                    await self._take_jobs(app, account)
            except _gone() as error:
                if getattr(error.__cause__, "sqlstate", None) == _NOT_REGISTERED:
                    text = "this worker was silent for longer than its lease, and others took its jobs"
                    self._say("registering", f"{text}; it registers again", account)
                    continue
                problem = " ".join(str(error.__cause__ or error).split())
            if rest := self._rest_left(account):
                await asyncio.sleep(rest)
                failures = 0
                continue
            failures = 0 if time.monotonic() - began > _BACKOFF[-1] else failures + 1
            if account.name not in self._refused:
                wait = _BACKOFF[min(failures, len(_BACKOFF)) - 1] if failures else _BACKOFF[0]
                why = f"the ledger {self._place} cannot be reached{f': {problem}' if problem else ''}"
                self._say("database_gone", f"{why}; trying again in {wait:.0f} s", account)
                await asyncio.sleep(wait)

    async def _take_jobs(self, app: procrastinate.App, account: WorkerAccount) -> None:
        lease = self._settings.lease
        serving = asyncio.create_task(
            app.run_worker_async(
                queues=[jobs.queue_of(account.name, own_version())],
                concurrency=account.slots,
                name=self._name,
                fetch_job_polling_interval=_POLL,
                update_heartbeat_interval=lease / 3,
                stalled_worker_timeout=lease,
                delete_jobs="always",
                install_signal_handlers=False,
            )
        )
        try:
            while not (serving.done() or account.name in self._refused or self._rest_left(account)):
                await asyncio.wait([serving], timeout=_LOOK)
        finally:
            serving.cancel()  # it waits for the running jobs
            with contextlib.suppress(asyncio.CancelledError):
                await serving

    def _rest_left(self, account: WorkerAccount) -> float:
        """Return for how many seconds no jobs of an account are taken."""
        return max(0.0, self._rests.get(account.name, _Rest()).until - time.monotonic())

    def _register(self, app: procrastinate.App, account: WorkerAccount) -> None:
        async def send_slot(**order: Any) -> None:
            await asyncio.to_thread(self._send, account, jobs.Order(**order))

        app.task(name=jobs.TASK, queue=jobs.queue_of(account.name, own_version()))(send_slot)

    def _send(self, account: WorkerAccount, order: jobs.Order) -> None:
        """Do one job; the thread is a slot meanwhile."""
        halt, end = self._halts[account.name], None
        if not halt.is_set():
            told = partial(self._database, account)
            run = SlotRun(
                self._place,
                account,
                order,
                self._name,
                self._settings,
                stop=halt,
                observe=self._progress(account),
                database=told,
            )
            end = run.run(partial(self._began, account))
            self._say("slot_ended", str(end), account, end)
        try:
            self._go_on(account, order, end)
        except LedgerError as error:
            # The job stays: it is deferred again when this worker is not heard from any more.
            self._say("job_left", f"a job is left for later: {error.message}", account)

    def _go_on(self, account: WorkerAccount, order: jobs.Order, end: SlotEnd | None) -> None:
        """Make sure that what the slot has left is sent at some time, by some slot."""
        if end is not None and end.scope is not Scope.CONNECTION and end.counts.get(Status.ACCEPTED):
            self._rests.pop(account.name, None)
        if end is not None and end.reason is Reason.REFUSED:
            self._refuse(account, end.message)
        with self._place.session() as db:
            view = work.fleet_view(db, order.campaign)
            if view is None or view.state != "running":
                return
            if end is None:
                jobs.defer(db, [order])
            else:
                self._go_on_after(end, account, order, view, db)

    def _go_on_after(
        self, end: SlotEnd, account: WorkerAccount, order: jobs.Order, view: FleetView, db: PostgresDatabase
    ) -> None:
        if end.scope is Scope.CONNECTION:
            self._rest(account, end)
            jobs.defer(db, [order])  # for other workers, or for us when we look at jobs again
        elif end.foreign:
            jobs.defer(db, [replace(order, program=program_of(db, view.plan), plan=view.plan)])
        elif end.reason in {Reason.BREAKER, Reason.FAILED} and end.again is None:
            work.set_state(db, order.campaign, "paused", by=self._name, note=end.message)
            self._say("paused", f"the campaign is paused: {end.message}", account, end)
        elif end.again is not None:
            jobs.defer(db, [order], at=end.again)
        elif end.reason is not Reason.FINISHED or view.waiting:
            jobs.defer(db, [order])
        elif view.next_at is not None:
            jobs.defer(db, [order], at=view.next_at)
        else:
            self._finish(db, order.campaign)

    def _finish(self, db: PostgresDatabase, campaign: int | None = None) -> None:
        """Record, also in the campaigns' own records, which of them have nothing left (None: check all).

        Messages that nobody will send are removed.
        """
        for done in work.finish(db, campaign):
            with contextlib.suppress(LedgerError):  # the plan is lost: nothing to record or remove
                terms = _terms(db, done.plan)
                with self._place.open_for_writing(terms.campaign, create=False) as ledger:
                    ledger.attempts.run = terms.run or None
                    ledger.finish_run(str(Reason.FINISHED), {})
                    counts = ledger.states()
                if not terms.keeps_messages and not any(counts[status] for status in MAY_BE_SENT):
                    remove_messages(db, done.plan, loaded_before=done.since)
                self._tell(WorkerEvent("finished", "nothing is left to send", campaign=terms.campaign))

    def _rest(self, account: WorkerAccount, end: SlotEnd) -> None:
        """Take no jobs of an account for a while: something is wrong between this machine and its server."""
        times = self._rests.get(account.name, _Rest()).times
        seconds = _REST * 2 ** min(times, _LONGER_NETWORK if end.reason is Reason.NETWORK else _LONGER)
        self._rests[account.name] = _Rest(time.monotonic() + seconds, times + 1)
        text = f"{end.message}; others may send it, from here it is tried again in {seconds / 60:.0f} min"
        self._say("resting", text, account, end)

    def _refuse(self, account: WorkerAccount, why: str) -> None:
        self._refused[account.name] = why
        self._halts[account.name].set()
        with contextlib.suppress(LedgerError), self._place.session() as db:
            self._say_present(db)
        self._say("refused", f"not used here any more: {why}", account)

    # --- what somebody has to do now and then -------------------------------------------------------------

    @property
    def _tend_every(self) -> float:
        """The seconds between two rounds of tending."""
        return max(_TEND_AT_LEAST, self._settings.lease / 3)

    async def _tend(self) -> None:
        """Look after slots and jobs of silent workers; every worker does."""
        every = self._tend_every
        while True:
            app = jobs.connect(self._place)
            try:
                async with app.open_async():
                    while True:
                        await asyncio.to_thread(self._look_after_slots)
                        await self._look_after_jobs(app)
                        await asyncio.sleep(every)
            except LedgerError:
                await asyncio.sleep(every)
            except _gone():
                await asyncio.sleep(every)

    def _look_after_slots(self) -> None:
        with self._place.session() as db:
            found = work.recover(db)
            self._say_present(db)
            for campaign, plan in work.due(db):
                program = program_of(db, plan)
                if program not in {"", own_version()}:
                    self._leave(db, campaign, plan, program)
                    continue
                try:
                    accounts = _terms(db, plan).accounts
                except LedgerError as error:
                    if error.code == "L720":
                        raise
                    work.set_state(db, campaign, "paused", by=self._name, note=error.message)
                    continue
                jobs.defer(db, jobs.without_job(db, jobs.orders(campaign, plan, accounts, own_version())))
            self._finish(db)
            self._done = self._settings.until_done and not work.is_left(db)
        if found.doubts or found.returned:
            self._say(
                "recovered",
                f"{plural(len(found.slots), 'slot')} fell silent: {plural(found.returned, 'row')} given "
                f"back, {plural(found.doubts, 'row')} in doubt",
                None,
            )

    def _leave(self, db: PostgresDatabase, campaign: int, plan: int, program: str) -> None:
        """Say once that a campaign is left to workers of another version."""
        if plan in self._left:
            return
        self._left.add(plan)
        name = next(name for name, number in work.campaigns(db).items() if number == campaign)
        text = f"was planned by mailmerge-kit {program}, and this worker is {own_version()}: left to others"
        self._tell(WorkerEvent("other_version", text, campaign=name))

    async def _look_after_jobs(self, app: procrastinate.App) -> None:
        """Defer again the jobs of workers that have not been heard from for the length of a lease."""
        from procrastinate import exceptions
        from procrastinate.jobs import Status

        stalled = await app.job_manager.get_stalled_jobs(seconds_since_heartbeat=self._settings.lease)
        for job in stalled:
            try:
                await app.job_manager.retry_job(job, retry_at=datetime.now(UTC))
            except exceptions.UniqueViolation:  # the same one is waiting already
                await app.job_manager.finish_job(job, status=Status.FAILED, delete_job=True)

    def _say_present(self, db: PostgresDatabase) -> None:
        with self._presence_lock:
            if self._gone:
                return
            present = [
                jobs.PresentWorker(
                    self._name,
                    one.name,
                    one.slots,
                    own_version(),
                    self._since,
                    self._refused.get(one.name, ""),
                )
                for one in self._accounts
            ]
            jobs.say_present(db, present, _PRESENT_FOR * self._tend_every)

    # --- what is told -------------------------------------------------------------------------------------

    def _began(self, account: WorkerAccount, slot: Slot, terms: SendingTerms) -> None:
        self._tell(
            WorkerEvent("slot_began", f"slot {slot.epoch} begins", account.name, terms.campaign, slot.epoch)
        )

    def _database(self, account: WorkerAccount, gone: bool) -> None:
        """Report that a slot cannot reach the database, or can again."""
        if gone:
            text = f"the ledger {self._place} cannot be reached"
            self._say("database_gone", f"{text}; what is in flight is finished, nothing else sent", account)
        else:
            self._say("database_back", f"the ledger {self._place} can be reached again", account)

    def _progress(self, account: WorkerAccount) -> Callable[[Progress], None]:
        """Return an observer that reports rows, for verbose output."""

        def tell(progress: Progress) -> None:
            if progress.row is not None:
                reply = progress.outcome.reply if progress.outcome else None
                text = f"row {progress.row}: {progress.status}{f', {reply}' if reply else ''}"
                self._tell(WorkerEvent("row", text, account.name, detail=True))

        return tell

    def _say(self, kind: str, text: str, account: WorkerAccount | None, end: SlotEnd | None = None) -> None:
        name = account.name if account else ""
        if end is None:
            self._tell(WorkerEvent(kind, text, name))
        else:
            self._tell(WorkerEvent(kind, text, name, end.campaign, end.slot, end.counts))


def _terms(db: PostgresDatabase, plan: int) -> SendingTerms:
    with ServerPlan.open(db, plan) as found:
        return SendingTerms.decode(found.terms)


def _pass_over_lost_jobs(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Ignore a job whose end procrastinate could not record: it is done again, which does no harm."""
    if not isinstance(context.get("exception"), _gone()):
        loop.default_exception_handler(context)


def _gone() -> tuple[type[Exception], ...]:
    """Return the exceptions that procrastinate raises if the database cannot be used."""
    import psycopg
    from procrastinate.exceptions import ConnectorException

    return (ConnectorException, psycopg.Error, OSError)  # the pool's own is psycopg's
