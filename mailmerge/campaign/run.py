"""One run of a campaign: what it would send, sending it, and its result.

Sending for real, a dry run and a rehearsal are the same run over another ledger, clock and server.
"""

from __future__ import annotations

import contextlib
import random
import time
from functools import partial
from itertools import islice
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.campaign.connect import (
    Transcript,
    connection_factory,
    find_account,
    pipelining_note,
    searching,
    server_profile,
)
from mailmerge.campaign.copies import SentCopies
from mailmerge.campaign.opening import Access, account_key, open_run
from mailmerge.campaign.planning import Planning, not_kept, plan_cache
from mailmerge.clock import SystemClock
from mailmerge.errors import AuthError, LedgerError, MailmergeError, PlanDamaged, RowError
from mailmerge.ledger.locks import LockWait
from mailmerge.recipients import parse_rows
from mailmerge.sending.group_commit import OutcomeListener, program_log
from mailmerge.sending.hours import schedule_of
from mailmerge.sending.runs import MAY_BE_SENT, Progress, Reason, RunEnd, tell_wait
from mailmerge.sending.throttle import all_rates

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.opening import OpenCampaign
    from mailmerge.campaign.plan import KeptPlan, Plan
    from mailmerge.campaign.planning import OpenPlan
    from mailmerge.campaign.preflight import HaltWatch
    from mailmerge.campaign.results import Report
    from mailmerge.campaign.standing import Standing, StandingRow
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.fleet.terms import FleetRequest
    from mailmerge.ledger.account_usage import AccountQuota
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import Version
    from mailmerge.options import Jobs
    from mailmerge.plan.composer import Composer
    from mailmerge.recipients import RecipientList
    from mailmerge.recipients.suppression import OptOutWatch
    from mailmerge.sending.runs import StopFlag
    from mailmerge.sending.sender import Sender
    from mailmerge.sending.throttle import Throttle
    from mailmerge.sending.work_queue import Job
    from mailmerge.smtp.connection import Connection, Deadlines
    from mailmerge.suggest import Invocation

    Connect = Callable[[], Connection]

_ROWS_NAMED = 10
_TELL_FROM = 2.0
"""Waits of at least this many seconds are shown."""
_SETTLED_EVERY = 5_000
"""After this many rows the ledger records up to which row all are settled: a resumed run begins there."""


class SendRequest(Struct, frozen=True):
    """The options of one run."""

    rows: str | None = None
    """Only these rows: ``2-50,77``."""
    limit: int | None = None
    follows: bool = False
    """The first few were sent a moment ago: the time to begin at has come."""
    dry_run: bool = False
    wait_lock: float = 0.0
    """Seconds to wait for another process that is using the campaign or the account."""
    wait: bool = False
    """Wait for deferred rows and long pauses instead of ending."""
    accept_changes: bool = False
    """Continue although the message differs from that of rows already accepted."""
    drafts: bool = False
    """Put the messages into the Drafts folder of the account's mailbox instead of sending them."""
    keep_plan: bool = False
    """Keep the finished messages in the cache folder when nothing is left to send."""
    accept_repeats: bool = False
    """Also send to rows that already got this very message."""
    fleet: FleetRequest | None = None
    """Let the workers of the ledger's database send."""
    ca_file: Path | None = None
    transcript: Path | None = None
    deadlines: Deadlines | None = None
    """How long the server may take for each reply; None: as in RFC 5321."""
    ask_secret: Callable[[str], str] | None = None
    progress: Callable[[int], None] | None = None
    """Called now and then with the number of rows planned."""
    jobs: Jobs = 1
    """How many processes plan a long list; ``auto``: one for each processor, at most 8."""
    begun: Callable[[], None] | None = None
    """Called once everything is known, confirmed and locked: from here on messages go to a server."""


def send(  # noqa: PLR0913  who watches, stops and is informed
    definition: Definition,
    request: SendRequest,
    *,
    confirm: Callable[[Plan], bool],
    observe: Callable[[Progress], None],
    stop: StopFlag,
    clock: Clock | None = None,
    on_outcome: Callable[[Settlement], None] | None = None,
    given: Plan | None = None,
    kind: type[Run] | None = None,
) -> Report | None:
    """Plan, unless the plan is *given*, ask, send and report; None: declined, a dry run, or left to workers.

    Raises:
        ValueError: the plan is another campaign's.
        MailmergeError: nothing was sent.
        BaseException: what *on_outcome* raised first, after everything was recorded and reported.

    """
    kept = None if given is None else given.handle
    if given is not None and (kept is None or not kept.is_of(definition)):
        raise ValueError(f"the plan is that of campaign {given.campaign!r} somewhere else, not of this one")
    clock = clock or SystemClock()
    account = find_account(definition, ca_file=request.ca_file)
    log = program_log()
    listener = OutcomeListener(on_outcome, log) if log is not None or on_outcome is not None else None
    sends = Access.FLEET if request.fleet else Access.SEND
    access = Access.COPY if request.dry_run else sends
    tell = partial(tell_wait, observe)
    wait = LockWait(request.wait_lock, stop.is_set, partial(tell, "campaign_lock"))
    with open_run(definition, access, clock=clock, wait=wait) as opened:
        run = (kind or Run)(
            opened, request, account, clock=clock, stop=stop, observe=observe, listener=listener, kept=kept
        )
        copies = SentCopies(opened, account, request.ask_secret, stop, drafts=request.drafts)
        plan = copies.announced(run.plan())
        if not confirm(plan) or request.dry_run:
            return None
        if plan.to_send and not request.fleet:
            opened.lock_account(account, wait=replace(wait, tell=partial(tell, "account_lock")))
        with Transcript(request.transcript) as transcript:
            profile = server_profile(account, opened.usage, clock)
            connect = connection_factory(
                account, definition.environment, prompt=request.ask_secret, transcript=transcript.write,
                deadlines=request.deadlines, give_up=stop.is_set, profile=profile,
            )  # fmt: skip
            end = run.execute(plan, connect)
        if end.reason is Reason.DETACHED:
            return None
        if text := pipelining_note(account, profile, remembered=True):
            end = replace(end, notes=(*end.notes, text))
        end = replace(end, notes=(*end.notes, *transcript.notes()))
        report = run.report(end, definition.workspace.out)
        report = replace(report, notes=(*report.notes, *run.copy(copies)))
        run.drop_messages(report, copies)
    if listener is not None and listener.failure is not None:
        raise listener.failure
    return report


class Run:
    """One run over one ledger; use it once: `plan`, then `execute`, then `report`.

    Args:
        opened: the campaign, its ledger and what is counted for the account.
        request: which rows, and how.
        account: who sends.
        clock: the time, and how to wait.
        stop: ends the run after the messages in flight.
        observe: called at every step.
        listener: called with outcomes that are durable; None: nobody wants them.
        kept: the plan to be sent; None: the one that is valid now, made if necessary.

    Raises:
        InputError: the list or the templates cannot be read.

    """

    def __init__(
        self,
        opened: OpenCampaign,
        request: SendRequest,
        account: Account,
        *,
        clock: Clock,
        stop: StopFlag,
        observe: Callable[[Progress], None],
        listener: OutcomeListener | None = None,
        kept: KeptPlan | None = None,
    ) -> None:
        self._listener = listener
        self._definition = opened.definition
        self._opened = opened
        self._ledger: Ledger = opened.ledger
        self._request = request
        self._account = account
        self._clock = clock
        self._stop = stop
        self._observe = observe
        self._send = opened.definition.file.send
        self._rates = all_rates(account.rate, self._send.rate)
        self._schedule = schedule_of(self._send, account, clock.now(), begun=request.follows)
        self._sessions = self._send.sessions or account.sessions
        self._selection = parse_rows(request.rows) if request.rows else None
        self._recipients: RecipientList
        self._composer: Composer
        self._planned: OpenPlan
        self._make_plan: Callable[[], OpenPlan]
        self._can_plan = kept is None
        if kept is None:
            self._recipients = opened.open_list()
            planning = Planning(opened.definition, self._recipients, account)
            self._composer = planning.composer
            self._make_plan = lambda: opened.plan(planning, request.progress, request.jobs)
        else:
            planned = opened.reopen(kept)
            self._recipients = opened.list_of(planned)
            self._composer = kept.composer.sent_by(account)
            self._make_plan = lambda: planned
        if request.drafts:  # whoever sends them signs them
            self._composer = self._composer.sent_by(account, signed=False)
        if self._composer.needs_key and not opened.ledger.throwaway:  # a rehearsal's links unsubscribe nobody
            from mailmerge.campaign.unsubscribing import going_out

            self._composer = going_out(opened.definition, self._composer)
        self._quota: AccountQuota | None = opened.quota(account)
        self._standing: Standing
        self._opt_outs: OptOutWatch
        self._halt: HaltWatch
        self._skipped: list[RowError] = []
        self._thaw: Callable[[], object] = lambda: None
        self._failure: MailmergeError | None = None
        self._seconds = 0.0

    # --- plan -----------------------------------------------------------------------------------------

    def plan(self) -> Plan:
        """Check every row of the list, and return what this run would send.

        Raises:
            InputError: the campaign itself is not valid, or not the one that rows were accepted with.
            FileError: the disk has no room for the plan, or for what happens to its rows.

        """
        try:
            return self._plan()
        except PlanDamaged:
            if not self._can_plan:
                raise
            return self._plan()  # the damaged one is gone by now, so a new one is made

    def _examine(self) -> Plan:
        self._planned = self._make_plan()
        from mailmerge.campaign.preflight import examine

        plan, self._standing = examine(self._definition, self._ledger, self._planned, account=self._account)
        return plan

    def _plan(self) -> Plan:
        plan, planned = self._examine(), self._planned
        from mailmerge.campaign import preflight
        from mailmerge.campaign.drafts import way_of
        from mailmerge.campaign.repeats import written_before
        from mailmerge.campaign.standing import partly_named
        from mailmerge.recipients.suppression import OptOutWatch

        self._halt = preflight.HaltWatch(self._definition, self._ledger, self._clock)
        self._opt_outs = OptOutWatch(self._standing.join.suppressed, self._clock)
        preflight.refuse_if_broken(plan.problems)
        preflight.refuse_halted(self._definition, self._ledger)
        versions = self._ledger.versions()
        if not self._request.accept_changes:
            preflight.refuse_changes(self._definition, versions, self._composer)
        to_send, first, last = self._extent(plan)
        if to_send and not planned.reader.has_messages:
            raise not_kept(planned.kept)
        self._opened.refuse_without_room(to_send)
        if to_send and not self._request.accept_repeats:
            self._refuse_repeats(versions)
        account = self._account
        whole = partly_named(self._chosen() if to_send else (), self._selection)
        before = written_before(self._opened, self._chosen() if to_send else ())
        return replace(
            plan,
            to_send=to_send,
            notices=(*plan.notices, *whole, *before),
            first=first,
            last=last,
            via=way_of(account, drafts=self._request.drafts),
            drafts=self._request.drafts,
            rates=self._rates,
            per_domain=self._send.per_domain,
            schedule=self._schedule,
            pipeline=account.pipeline,
            sessions=self._sessions,
            quota=account.quota,
            quota_used=self._quota_used(),
            deferred_until=self._standing.next_due(),
            in_doubt=self._standing.rows_in_doubt(),
            warnings=(
                *plan.warnings,
                *preflight.machine_warnings(self._definition, self._ledger, self._clock),
            ),
        )

    def _refuse_repeats(self, versions: Sequence[Version]) -> None:
        # Where a change was confirmed, whoever has the old message must not get the new one.
        changed = any(version.digest != self._composer.version for version in versions)
        all_count = self._request.accept_changes or changed
        from mailmerge.campaign.repeats import RepeatGuard

        guard = RepeatGuard(self._opened, self._standing, self._recipients.columns, self._chosen)
        guard.refuse(None if all_count else self._composer.version)

    def _extent(self, plan: Plan) -> tuple[int, str, str]:
        """Return how many messages this run would send, and the first and the last address."""
        from mailmerge.campaign.standing import extent_of

        if self._standing.is_the_plan and self._sends_all:
            ends = self._planned.reader.ready_ends()
            return (plan.ready, ends[0].address, ends[1].address) if ends else (0, "", "")
        if self._sends_all:
            return self._standing.extent(plan.counts, self._clock.now())
        return extent_of(self._chosen())

    @property
    def _sends_all(self) -> bool:
        """Whether this run is meant to send all that is left."""
        return self._selection is None and self._request.limit is None

    def _chosen(self) -> Iterator[StandingRow]:
        """Yield the rows of this run that are due now, in the list's order."""
        due = self._standing.due(self._clock.now())
        if self._selection is not None:
            due = (row for row in due if self._selection.names(row.planned.row, row.planned.rows))
        return islice(due, self._request.limit)

    def _quota_used(self) -> int:
        left = self._quota.left() if self._quota else None
        return 0 if left is None or self._account.quota is None else self._account.quota.count - left

    # --- execute --------------------------------------------------------------------------------------

    def execute(self, plan: Plan, connect: Connect) -> RunEnd:
        """Send what was planned, and what becomes due meanwhile if the run waits for that.

        What ends it is recorded in the ledger and in the returned value.
        """
        started = time.monotonic()
        if self._request.begun is not None:
            self._request.begun()
        self._ledger.start_run(
            "send", self._composer.version, self._invocation().record(), self._planned.reader.name
        )
        end = RunEnd(Reason.FINISHED)
        if plan.to_send or self._request.wait:
            self._opened.note_messages(ended=False)
        try:
            end = self._passes(plan, connect)
            self._ledger.attempts.refuse_vanished()
        except MailmergeError as error:
            self._failure = error
        except Exception:  # of the program that watches or signs in: it is raised later, the run ends here
            self._finish(RunEnd(Reason.INTERRUPTED))
            raise
        self._note_refusal(end)
        if self._failure is not None:
            stopped = end.reason is Reason.INTERRUPTED
            end = replace(end, reason=end.reason if stopped else Reason.FAILED, error=self._failure)
        elif end.reason is Reason.REFUSED and end.error is None:
            end = replace(end, error=AuthError(end.message, code="S607", hint=end.hint))
        self._finish(end)
        if isinstance(end.error, LedgerError) and end.error.code == "L713":
            end = replace(end, error=self._opened.rescued(end.error))
        if (unnoted := self._opened.note_messages(ended=True)) is not None:
            text = f"other campaigns may not know which messages this one sent: {unnoted.message}"
            end = replace(end, notes=(*end.notes, text))
        self._seconds = time.monotonic() - started
        return end

    def _finish(self, end: RunEnd) -> None:
        with contextlib.suppress(LedgerError):
            counts = {str(status): number for status, number in end.counts.by_status.items()}
            self._ledger.finish_run(str(end.reason), counts)
            if self._opt_outs.changed:
                self._ledger.note_standing(self._standing.tally()[1])
            else:
                self._standing.settle(self._ledger)

    def _note_refusal(self, end: RunEnd) -> None:
        """Remember a server's reply about the account's limit, so that it is not asked again too soon."""
        if self._quota and end.reason is Reason.QUOTA and end.outcome and end.next_at:
            from mailmerge.ledger.account_usage import QuotaRefusal

            with contextlib.suppress(LedgerError):  # at worst it is asked once more
                self._quota.refuse(QuotaRefusal(end.next_at, str(end.outcome.reply)))

    def _invocation(self) -> Invocation:
        """Return how this run is continued, also where its request came from a program."""
        return self._definition.invocation.having(rows=self._request.rows, limit=self._request.limit)

    def _passes(self, plan: Plan, connect: Connect) -> RunEnd:
        """Go through the list, and again as rows become due, if the run waits for that."""
        end = RunEnd(Reason.FINISHED)
        if self._request.drafts:
            return self._draft()
        if plan.to_send:
            from mailmerge.campaign.preflight import limit_reached

            end = limit_reached(self._definition, self._quota) or self._pass(connect)
        while end.reason is Reason.FINISHED and self._failure is None and self._sleep_until_due():
            end = end.followed_by(self._pass(connect))
        if end.reason is Reason.FINISHED and self._request.wait and self._stop.is_set():
            end = replace(end, reason=Reason.INTERRUPTED, message="stopped on request")
        return end

    def _draft(self) -> RunEnd:
        from mailmerge.campaign.drafts import Drafter

        self._ledger.note_version(self._composer.version, self._composer.parts)
        asking, told = self._request.ask_secret, self._observe
        drafter = Drafter(
            self._definition, self._account, self._ledger, self._clock, self._stop, told, asking
        )
        return drafter.run(self._work(), self._opted_out, self._held_until)

    def _pass(self, connect: Connect) -> RunEnd:
        """Go through the list once."""
        self._ledger.note_version(self._composer.version, self._composer.parts)
        end = self._sender(connect).run(self._work())
        if isinstance(self._failure, PlanDamaged) and self._can_plan and self._request.limit is None:
            self._failure = None  # the plan is gone by now, so it is made again
            self._examine()
            end = end.followed_by(self._sender(connect).run(self._work()))
        return end

    def _sender(self, connect: Connect) -> Sender:
        from mailmerge.sending.hours import HoursGate
        from mailmerge.sending.policy import Policy, RetryPolicy
        from mailmerge.sending.sender import Sender

        return Sender(
            self._ledger.attempts,
            searching(connect, lambda: self._thaw()),  # noqa: PLW0108  another one each time
            self._throttle(),
            self._clock,
            policy=Policy(
                RetryPolicy(self._send.retry), max_rejected=self._send.max_rejected, wait=self._request.wait
            ),
            stop=self._stop,
            observe=self._observe,
            random=random.random,
            quota=self._quota,
            sessions=self._sessions,
            mark=self._opened.note_mark,
            listener=self._listener,
            unwanted=self._opted_out,
            held_until=self._held_until,
            closed_until=HoursGate(self._schedule, self._clock),
        )

    def _held_until(self) -> float:
        """Read the opt-outs again now and then; return until when nothing may be offered at most.

        While they cannot be read nobody is written to: after a minute the run ends, once what is in flight is
        settled.
        """
        until = self._opt_outs.held_until()
        self._failure = self._failure or self._opt_outs.failure or self._halt.failure()
        return until

    def _opted_out(self, job: Job) -> bool:
        """Return whether a recipient of a message has opted out since the run began."""
        suppressed = self._opt_outs.suppressed
        return self._failure is not None or any(
            suppressed.covers(address.normalised) for address in job.message.envelope.rcpt_to
        )

    def _throttle(self) -> Throttle:
        """Begin where earlier runs have left the rates of account and domains."""
        from mailmerge.sending.throttle import Throttle, longest

        per_domain, usage = self._send.per_domain, self._opened.usage
        now, steady = self._clock.now(), self._clock.monotonic()
        sent = usage.history(account_key(self._account), now - longest(self._rates)) if usage else ()
        written_to = self._ledger.recent(now - longest(per_domain), now) if per_domain else ()
        return Throttle(
            self._rates,
            [steady - (now - moment).total_seconds() for moment in sent],
            jitter=self._send.jitter,
            random=random.random,
            per_domain=per_domain,
            domain_history=[
                (address.rpartition("@")[2].lower(), steady - (now - moment).total_seconds())
                for address, moment in written_to
            ],
        )

    def _work(self) -> Iterator[Job]:
        """Yield the messages that are due, each thawed when the sender asks for it."""
        from mailmerge.campaign.standing import troubled_last

        try:
            for count, row in enumerate(troubled_last(self._chosen()), 1):
                if self._failure is not None:
                    return
                if count % _SETTLED_EVERY == 0:
                    self._standing.settle(self._ledger)
                work = self._one(row)
                if work:
                    yield work
        except MailmergeError as error:  # what is in flight is settled first
            self._failure = error

    def _one(self, row: StandingRow) -> Job | None:
        from mailmerge.campaign.standing import stamp_of
        from mailmerge.sending.work_queue import Job

        known, planned = row.delivery, row.planned
        try:
            keyed = self._definition.file.data.key is not None
            frozen = self._composer.planned(self._planned.reader, planned, keyed=keyed)
            message_id, earlier = stamp_of(self._ledger, frozen, known)
            date = earlier or self._clock.now().astimezone().replace(microsecond=0)
            self._thaw = partial(self._composer.thaw, frozen, message_id=message_id, date=date)
            message = self._thaw()
        except RowError as error:
            # One of its files has changed since it was planned. The row stays pending.
            self._skipped.append(error)
            return None
        return Job(
            message=message,
            number=(known.attempts if known else 0) + 1,
            address=planned.address,
            date=date,
            row_digest=planned.row_digest,
            version=self._composer.version,
            first_attempt=known.first_attempt if known else None,
            rows=planned.signature,
        )

    def _sleep_until_due(self) -> bool:
        """Wait for the next deferred row; return False if there is none, or we must stop or need not wait."""
        if not self._request.wait or self._request.limit is not None:
            return False
        # Asked again each time, because the clock may be set while we wait.
        told: datetime | None = None
        while (due := self._standing.next_due()) is not None:
            rest = (due - self._clock.now()).total_seconds()
            if rest <= 0:
                return True
            if self._stop.is_set():
                return False
            if rest > _TELL_FROM and due != told:
                told = due
                tell_wait(self._observe, "deferred", due)
            self._clock.sleep(min(rest, 0.5))
        return False

    # --- report ---------------------------------------------------------------------------------------

    def report(self, end: RunEnd, folder: Path) -> Report:
        """Write the result files into *folder*, and return the state of the campaign."""
        from mailmerge.campaign.results import report_run

        skipped = (f"row {error.row}: not sent, {error.message}" for error in self._skipped[:_ROWS_NAMED])
        report = report_run(
            self._definition,
            self._standing,
            self._recipients,
            folder,
            account=self._account,
            end=replace(end, notes=(*end.notes, *skipped)),
            complete=self._request.rows is None and self._request.limit is None,
        )
        return replace(report, seconds=self._seconds)

    def copy(self, copies: SentCopies) -> Iterator[str]:
        """Make the copies of accepted messages that are missing; see `SentCopies.make`."""
        return copies.make(self._planned.reader, self._composer)

    def drop_messages(self, report: Report, copies: SentCopies) -> None:
        """Remove the finished messages from the cache if no row needs one any more."""
        waiting = copies.pending or any(report.counts[status] for status in MAY_BE_SENT)
        if not waiting and not self._request.keep_plan and not self._ledger.throwaway:
            plan_cache(self._definition).remove_messages(self._planned.reader.name)
