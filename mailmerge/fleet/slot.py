"""One sending slot: a `Sender` whose work, ledger, pace and limits are those of the whole fleet."""

from __future__ import annotations

import contextlib
import random
import time
from collections import deque
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.addresses import Address
from mailmerge.clock import SystemClock
from mailmerge.config.accounts import Account, sender_allowed
from mailmerge.errors import AuthError, LedgerError, MailmergeError, RowError
from mailmerge.fleet.terms import SendingTerms
from mailmerge.ledger.account_usage import QuotaRefusal
from mailmerge.ledger.claims import Slot
from mailmerge.ledger.shared_rates import SharedThrottle
from mailmerge.ledger.shared_usage import SharedQuota, take_session
from mailmerge.ledger.slot_writer import SlotWriter
from mailmerge.model import Scope
from mailmerge.plan.composer import identifier
from mailmerge.plan.server_store import ServerPlan
from mailmerge.plan.stored_messages import WorkerThawer
from mailmerge.sending.hours import HoursGate
from mailmerge.sending.policy import Policy, RetryPolicy
from mailmerge.sending.runs import Reason, RunEnd
from mailmerge.sending.sender import Sender
from mailmerge.sending.throttle import all_rates
from mailmerge.sending.work_queue import Job
from mailmerge.text import plural

if TYPE_CHECKING:
    import threading
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mailmerge.clock import Clock
    from mailmerge.fleet.jobs import Order
    from mailmerge.ledger.claims import Claimed
    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.model import Rate
    from mailmerge.plan.store import PlanRow
    from mailmerge.sending.runs import Progress
    from mailmerge.smtp.connection import Connection

_LIMIT_PAUSE = timedelta(minutes=10)
_FIRST_ROWS = 4
"""Fewest rows that a slot claims at a time: its speed is not known yet, or it is slow."""
_SOON_SENT = 2.0
"""Seconds that a slot's claimed rows should last, at the pace that it has shown."""
_LOOK_EVERY = 8
"""After how many rows it is checked whether the database has answered about the next ones."""
_ASKED = 3
_SESSION_PAUSE = timedelta(seconds=5)
_PATIENCE = 20
"""Seconds that a worker that is to stop waits for a database that is gone."""
_CLAIMED_SECONDS = 5.0
"""Seconds that a slot's claimed rows should last, at its account's rate."""


class WorkerAccount(Struct, frozen=True):
    """An account as a worker has it: complete, with connections to its server."""

    account: Account
    key: str
    """Its identity in the ledger: who signs in where."""
    slots: int
    connections: Callable[[Callable[[], bool], Callable[[], object]], Callable[[], Connection]]
    """Returns a function that makes connections. Its arguments: when not to wait any longer, and what makes
    the next message again, once the secret is known that it must not contain."""

    @property
    def name(self) -> str:
        """Its name in the fleet."""
        return self.account.name


class WorkerSettings(Struct, frozen=True):
    """The settings of a worker; tests set the times."""

    lease: float
    """Seconds for which a slot may hand over after it last asked."""
    window: int
    """How many rows a slot claims at a time at most."""
    until_done: bool = False
    """End when no campaign has anything left to send."""


class SlotEnd(Struct, frozen=True):
    """How a slot's work on a campaign ended."""

    reason: Reason
    message: str = ""
    again: datetime | None = None
    """When there may be something to do again; None: unknown."""
    campaign: str = ""
    slot: int | None = None
    counts: Mapping[str, int] = {}
    scope: Scope = Scope.ROW
    """What it is about: the campaign, the account wherever it is used, or this worker's way to its server."""
    foreign: bool = False
    """Whether the plan is one of another version of the program: others may send it."""

    def __str__(self) -> str:
        counts = ", ".join(f"{count:,} {status}" for status, count in self.counts.items()) or "nothing sent"
        return f"{counts}{f' ({self.message})' if self.message else ''}"


class _Watch:
    """The stop flag of a slot: waiting code checks it several times a second, which also renews the lease."""

    def __init__(
        self, stop: threading.Event, slot: Slot, writer: SlotWriter, tell: Callable[[bool], None]
    ) -> None:
        self._stop = stop
        self._slot = slot
        self._writer = writer
        self._tell = tell
        self._gone = False

    def is_set(self) -> bool:
        if not self._stop.is_set():
            self._writer.held_until()
        if self._slot.gone is not self._gone:
            self._gone = self._slot.gone
            self._tell(self._gone)
        return self._stop.is_set() or self._writer.over or self._writer.state != "running"


class SlotRun:
    """One slot's work on one campaign; use it once.

    Args:
        place: the ledger.
        account: who sends.
        order: the job's order.
        worker: the worker's name.
        settings: see `WorkerSettings`.
        stop: ends it after the messages in flight.
        observe: called at every step.
        database: called with True when the database is gone, with False when it is back.

    """

    def __init__(
        self,
        place: ServerPlace,
        account: WorkerAccount,
        order: Order,
        worker: str,
        settings: WorkerSettings,
        *,
        stop: threading.Event,
        observe: Callable[[Progress], None],
        database: Callable[[bool], None],
    ) -> None:
        self._database = database
        self._place = place
        self._account = account
        self._order = order
        self._worker = worker
        self._settings = settings
        self._stop = stop
        self._observe = observe
        self._clock = SystemClock()
        self._failure: MailmergeError | None = None
        self._thaw: Callable[[], object] = lambda: None

    def run(self, began: Callable[[Slot, SendingTerms], None]) -> SlotEnd:
        """Send until nothing is due, the campaign must not be sent any more, or it is stopped."""
        try:
            with (
                Slot.open(
                    self._place,
                    worker=self._worker,
                    account=self._account.key,
                    seconds=self._settings.lease,
                    clock=self._clock,
                ) as slot,
                self._place.session(answer_within=slot.answer_within) as db,
                ServerPlan.open(db, self._order.plan, to_send=True) as plan,
            ):
                terms = SendingTerms.decode(plan.terms)
                self._refuse_sender(terms)
                began(slot, terms)
                end = self._send(slot, plan, terms)
                counts = {str(status): count for status, count in end.counts.by_status.items()}
                return replace(
                    self._ended(end, slot), campaign=terms.campaign, slot=slot.epoch, counts=counts
                )
        except AuthError as error:
            return SlotEnd(Reason.REFUSED, error.message)
        except MailmergeError as error:
            reason = Reason.LEDGER if _is_gone(error) else Reason.FAILED
            scope = Scope.CONNECTION if _is_of_this_worker(error) else Scope.ROW
            return SlotEnd(reason, error.message, scope=scope, foreign=error.code == "L750")

    def _refuse_sender(self, terms: SendingTerms) -> None:
        for sender in terms.senders:
            if not sender_allowed(self._account.account, Address.parse(sender)):
                raise AuthError(f"account {self._account.name!r} may not send as {sender}", code="C461")

    def _send(self, slot: Slot, plan: ServerPlan, terms: SendingTerms) -> RunEnd:
        account = self._account
        own = account.account
        most = terms.slots_of(account.name) or account.slots
        # Slots that begin at the same time may ask for the same one: the loser asks again.
        if all(take_session(slot.db, account.key, most, slot.epoch) is None for _ in range(_ASKED)):
            said = "all sessions of the account are in use"
            return RunEnd(Reason.ACCOUNT_PAUSE, said, next_at=self._soon())
        with self._place.open_read_only(terms.campaign) as ledger:
            secret, halted = ledger.secret, ledger.bounces.halted
        if halted:
            return RunEnd(Reason.BREAKER, f"messages came back because of the account's limit: {halted}")
        limits = (own.quota,) if own.quota else ()
        quota = SharedQuota(lambda: slot.db, account.key, limits, self._clock)
        if refusal := quota.refusal():
            said = f"the server reported that the account's limit is used up: {refusal.said}"
            return RunEnd(Reason.QUOTA, said, next_at=refusal.until)
        writer = SlotWriter(slot, self._order.campaign, run=terms.run or None)
        watch = _Watch(self._stop, slot, writer, self._database)
        window = _window(all_rates(own.rate, terms.rates), terms, self._settings.window)
        work = _Work(slot, plan, terms, self, secret, window)
        sender = self._sender(slot, terms, writer, watch, quota)
        try:
            end = sender.run(work.jobs(self._order.campaign, watch))
        finally:
            work.close()
            self._record_rest(writer)
            writer.fold()
            with contextlib.suppress(LedgerError):  # more are counted than were sent
                quota.close()
        if end.reason is Reason.QUOTA and end.outcome and end.next_at:
            with contextlib.suppress(LedgerError):  # at worst it is asked once more
                quota.refuse(QuotaRefusal(end.next_at, str(end.outcome.reply)))
        return work.told(end)

    def _sender(
        self, slot: Slot, terms: SendingTerms, writer: SlotWriter, watch: _Watch, quota: SharedQuota
    ) -> Sender:
        account = self._account
        throttle = SharedThrottle(
            lambda: slot.db,
            self._clock,
            account.key,
            account.account.rate,
            campaign=str(self._order.campaign),
            campaign_rates=terms.rates,
            per_domain=terms.per_domain,
            jitter=terms.jitter,
        )
        return Sender(
            writer,
            account.connections(watch.is_set, lambda: self._thaw()),  # noqa: PLW0108  another one each time
            throttle,
            self._clock,
            policy=Policy(RetryPolicy(terms.retry), max_rejected=terms.max_rejected),
            stop=watch,
            observe=self._observe,
            random=random.random,
            quota=quota,
            held_until=writer.held_until,
            may_release=writer.may_release,
            closed_until=HoursGate(terms.schedule(account.account.timezone), self._clock),
        )

    def _soon(self) -> datetime:
        return self._clock.now() + _SESSION_PAUSE

    def _record_rest(self, writer: SlotWriter) -> None:
        """Wait for the database with outcomes that it does not have, but not for long after a stop."""
        patience = _PATIENCE
        while writer.backlog and not writer.reconnect():
            if self._stop.is_set():
                patience -= 1
                if patience < 0:
                    return
            self._clock.sleep(1.0)

    def _ended(self, end: RunEnd, slot: Slot) -> SlotEnd:
        now = self._clock.now()
        if slot.lost or slot.gone:
            return SlotEnd(Reason.LEDGER, "the ledger was out of reach for longer than the lease")
        if end.reason in {Reason.QUOTA, Reason.ACCOUNT_PAUSE}:
            return SlotEnd(end.reason, end.message, end.next_at or now + _LIMIT_PAUSE)
        if end.reason is Reason.NETWORK or (end.error is not None and _is_of_this_worker(end.error)):
            return SlotEnd(end.reason, end.message, scope=Scope.CONNECTION)
        again = now + _LIMIT_PAUSE if end.scope is Scope.ACCOUNT else None
        return SlotEnd(end.reason, end.error.message if end.error else end.message, again, scope=end.scope)


class _Ahead:
    """Rows that are claimed, and their messages fetched, while earlier ones are sent; each step asks once.

    Args:
        plan: where they are; its connection is used.
        claiming: waits for the rows that were asked for.

    """

    def __init__(self, plan: ServerPlan, claiming: Callable[[], list[Claimed]]) -> None:
        self.claimed: list[Claimed] = []
        self.rows: dict[str, PlanRow] = {}
        """Those of the plan, by key, without damaged ones."""
        self._plan = plan
        self._steps: deque[Callable[[], None]] = deque((partial(self._fetch, claiming), self._take))

    def advance(self) -> bool:
        """Do the next step, waiting for the database if it has not answered; return whether there was one.

        Raises:
            LedgerError: it cannot be asked.

        """
        if self._steps:
            self._steps.popleft()()
            return True
        return False

    def _fetch(self, claiming: Callable[[], list[Claimed]]) -> None:
        self.claimed = claiming()
        if not self.claimed or any(row.plan != self._plan.number for row in self.claimed):
            self._steps.clear()
            return
        self._plan.request([row.n for row in self.claimed])

    def _take(self) -> None:
        self.rows = self._plan.requested()


class _Work:
    """The jobs of a slot: rows that it claims, each thawed when its turn comes.

    While one lot of rows is sent, the next one is claimed and fetched on the plan's connection. Nothing is
    ever promised ahead: what was claimed for nothing returns with the slot's other rows.
    """

    def __init__(
        self, slot: Slot, plan: ServerPlan, terms: SendingTerms, run: SlotRun, secret: bytes, window: int
    ) -> None:
        self.failure: MailmergeError | None = None
        """Why no more of them could be made, or one could not."""
        self.gone = False
        """Whether the database is out of reach."""
        self.damaged = 0
        """How many could not be made, while the others continued."""
        self._slot = slot
        self._plan = plan
        self._terms = terms
        self._run = run
        self._secret = secret
        self._pace = _ClaimSize(window, slot.clock)
        self._thawer = WorkerThawer(plan, run._account.account)  # noqa: SLF001
        self._ahead: _Ahead | None = None
        self._dated = (0, datetime.fromtimestamp(0, UTC))

    def jobs(self, campaign: int, watch: _Watch) -> Iterator[Job]:
        """Yield what is due, as long as there is something."""
        try:
            while not watch.is_set() and (lot := self._next(campaign)).claimed:
                if any(row.plan != self._plan.number for row in lot.claimed):
                    self._slot.give_back()  # another plan was handed over meanwhile, with its own order
                    return
                self._pace.begin(len(lot.claimed))
                if count := self._pace.ahead():
                    claiming = self._slot.begin_claim(self._plan.db, campaign, count)
                    self._ahead = _Ahead(self._plan, claiming)
                for at, row in enumerate(lot.claimed):
                    if self._ahead is not None and not at % _LOOK_EVERY and self._plan.db.answer_at() < 0:
                        self._ahead.advance()
                    try:
                        job = self._job(row, lot.rows.get(row.key))
                    except RowError as error:  # it stays pending, and the others continue
                        self.damaged += 1
                        self.failure = error
                        self._slot.leave(campaign, row)
                        continue
                    yield job
        except MailmergeError as error:  # what is in flight is settled first
            self.gone = _is_gone(error)
            self.failure = None if self.gone else error

    def _next(self, campaign: int) -> _Ahead:
        """Return the rows to send next: those that were claimed ahead, if any."""
        ahead, self._ahead = self._ahead, None
        while ahead is not None and ahead.advance():
            pass
        if ahead is None or not ahead.claimed:
            ahead = _Ahead(self._plan, partial(self._slot.claim, campaign, self._pace.next()))
            while ahead.advance():
                pass
        return ahead

    def close(self) -> None:
        """Wait for a claim under way, so that the slot returns its rows with the others; never raises."""
        ahead, self._ahead = self._ahead, None
        with contextlib.suppress(LedgerError):
            while ahead is not None and ahead.advance():
                pass

    def _job(self, claimed: Claimed, row: PlanRow | None) -> Job:
        if row is None:
            raise RowError("what the database has of this row is damaged", code="L752", row=claimed.row)
        known = claimed.known
        frozen = self._thawer.message(row.message if row.message is not None else row.n, row.row)
        message_id = identifier(self._secret, frozen, known.generation if known else 0)
        repeated = known is not None and known.message_id == message_id
        date = (known.date if known and repeated else None) or self._now()
        thaw = partial(self._thawer.thaw, frozen, message_id=message_id, date=date)
        self._run._thaw = thaw  # noqa: SLF001
        return Job(
            message=thaw(),
            number=(known.attempts if known else 0) + 1,
            address=row.address,
            date=date,
            row_digest=row.row_digest,
            version=self._terms.version,
            first_attempt=known.first_attempt if known else None,
            rows=row.signature,
        )

    def told(self, end: RunEnd) -> RunEnd:
        """Return the end of a run with what prevented messages from being made."""
        if self.gone:
            return replace(end, reason=Reason.LEDGER, message="the ledger could not be reached")
        if self.failure is None:
            return end
        if self.damaged:
            left_out = f"{plural(self.damaged, 'row')} left out: {self.failure.message}"
            return replace(end, message=left_out)
        return replace(end, reason=Reason.FAILED, message=self.failure.message)

    def _now(self) -> datetime:
        second = int(time.time())
        if second != self._dated[0]:
            self._dated = second, datetime.fromtimestamp(second, UTC).astimezone()
        return self._dated[1]


def _is_gone(error: MailmergeError) -> bool:
    """Return whether the database is out of reach, and nothing is wrong with its contents."""
    return isinstance(error, LedgerError) and error.code == "L720"


def _is_of_this_worker(error: Exception) -> bool:
    """Tell whether the database is there and does not let this worker do its part: others may be luckier."""
    return isinstance(error, LedgerError) and error.code in {"L721", "L722"}


class _ClaimSize:
    """How many rows a slot claims at a time: others may be idle while a slow one keeps what it has.

    Args:
        most: the upper limit.
        clock: the time.

    """

    def __init__(self, most: int, clock: Clock) -> None:
        self._most = most
        self._clock = clock
        self._count = 0
        self._since = 0.0
        self._soon = 0.0
        """How many are sent soon, at the pace of the last ones; 0: it is not known yet."""

    def begin(self, count: int) -> None:
        """Note that as many rows begin to be taken now, and that all earlier ones have been."""
        now = self._clock.monotonic()
        if self._count:
            self._soon = _SOON_SENT * self._count / max(now - self._since, 0.001)
        self._since, self._count = now, count

    def next(self) -> int:
        """Return how many to claim when all of the last ones have been taken."""
        elapsed = max(self._clock.monotonic() - self._since, 0.001)
        return self._limited(_SOON_SENT * self._count / elapsed if self._count else 0.0)

    def ahead(self) -> int:
        """Return how many to claim while the last ones are taken; 0: those last long enough."""
        rest = self._soon - self._count
        return self._limited(rest) if rest >= self._count else 0

    def _limited(self, soon: float) -> int:
        # The first ones are taken faster than they are sent, as many as fit into the pipeline.
        return max(1, min(self._most, int(max(_FIRST_ROWS, min(soon, 2 * self._count)))))


def _window(rates: Sequence[Rate], terms: SendingTerms, most: int) -> int:
    """Return how many rows to claim at a time: nobody else can send what is claimed and not sent yet."""
    if not rates:
        return most
    shortest = min(rates, key=lambda rate: (rate.seconds, rate.count))
    slots = sum(account.slots for account in terms.accounts)
    return max(1, min(most, int(_CLAIMED_SECONDS * shortest.count / shortest.seconds / slots)))
