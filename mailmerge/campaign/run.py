"""The runs that talk to a server: sending for real, testing to oneself, rehearsing against the sandbox."""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.campaign.delivering import Delivering, longest_window, throttle_history
from mailmerge.campaign.preflight import refuse_if_broken
from mailmerge.clock import Clock, SystemClock
from mailmerge.config.accounts import resolve_account
from mailmerge.errors import AuthError, CampaignFileError, LedgerError, MailmergeError
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.locks import AccountLock
from mailmerge.ledger.registry import CampaignRegistry
from mailmerge.ledger.schema import sync_folder
from mailmerge.model import Counts, Status
from mailmerge.recipients import parse_rows, snapshot
from mailmerge.sending.runs import Progress, Reason, RunEnd

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailmerge.campaign.campaign import Campaign
    from mailmerge.campaign.composer import Composer
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.reporting import Report
    from mailmerge.config.accounts import Account
    from mailmerge.model import Rate
    from mailmerge.recipients import RecipientList
    from mailmerge.report.report_page import Facts
    from mailmerge.sending.runs import StopFlag
    from mailmerge.smtp.connection import Connection, Deadlines

    Connect = Callable[[], Connection]

_SET_BACK = 60.0
"""Seconds that the clock may be behind the last run before the plan says so."""
_REASON_CODES = {
    Reason.FINISHED: 0,
    Reason.INTERRUPTED: 130,
    Reason.QUOTA: 5,
    Reason.BREAKER: 5,
    Reason.NETWORK: 5,
    Reason.REFUSED: 6,
    Reason.ACCOUNT_PAUSE: 5,
    Reason.LEDGER: 8,
}


class NeverStop:
    """The stop flag of those who never stop."""

    def is_set(self) -> bool:
        """Say no."""
        return False


class SendRequest(Struct, frozen=True):
    """What is wanted of one run."""

    rows: str | None = None
    """Only these rows: ``2-50,77``."""
    limit: int | None = None
    dry_run: bool = False
    wait_lock: float = 0.0
    """Seconds to wait for another process that works on the campaign or with the account."""
    wait: bool = False
    """Wait for deferred rows and long pauses instead of ending."""
    accept_changes: bool = False
    """Go on although the message is another one than that of rows already accepted."""
    ca_file: Path | None = None
    transcript: Path | None = None
    deadlines: Deadlines | None = None
    """How long the server may take for each reply; None: as RFC 5321 has it."""
    ask_secret: Callable[[str], str] | None = None
    progress: Callable[[int], None] = field(default=lambda _rows: None)
    """Told now and then how many rows the pre-flight has seen."""


def find_account(campaign: Campaign, request: SendRequest) -> Account:
    """Resolve the campaign's account.

    Raises:
        CampaignFileError: there is none, or it is wrong.

    """
    sender = campaign.file.message.from_
    return resolve_account(
        campaign.file.account,
        environment=campaign.environment,
        overrides={
            "ca_file": None if request.ca_file is None else str(request.ca_file),
            "pipeline": campaign.file.send.pipeline,
        },
        campaign_from=sender if sender and "{" not in sender else None,
    )


def all_rates(account: Account, own: tuple[Rate, ...]) -> tuple[Rate, ...]:
    """Put the account's rates and the campaign's together: every one holds."""
    return tuple(sorted({*account.rate, *own}, key=lambda rate: (rate.seconds, rate.count)))


def send(
    campaign: Campaign,
    request: SendRequest,
    *,
    confirm: Callable[[Plan], bool],
    observe: Callable[[Progress], None],
    stop: StopFlag,
    clock: Clock | None = None,
) -> Report | None:
    """Plan, ask, send and report; None: declined, or a dry run.

    Raises:
        MailmergeError: nothing was sent.

    """
    clock = clock or SystemClock()
    account = find_account(campaign, request)
    if request.dry_run:
        with Ledger.scratch(campaign.existing_ledger(), campaign.name, now=clock.now) as ledger:
            run = SendRun(campaign, request, account, ledger, campaign.open_list(), clock, stop)
            plan = run.plan()
            refuse_if_broken(plan.problems)
            _refuse_changes(campaign, run.composer, ledger, accept=request.accept_changes)
            confirm(plan)
        return None
    with contextlib.ExitStack() as stack:
        ledger = open_ledger(campaign, stack, clock, wait=request.wait_lock, give_up=stop.is_set)
        copy = _snapshot(campaign)
        index = stack.enter_context(CampaignRegistry(campaign.workspace.user_state / "campaigns.db"))
        usage = stack.enter_context(AccountUsage(campaign.workspace.user_state / "usage.db"))
        run = SendRun(campaign, request, account, ledger, campaign.open_list(copy), clock, stop, usage)
        plan = run.plan()
        refuse_if_broken(plan.problems)
        _refuse_changes(campaign, run.composer, ledger, accept=request.accept_changes)
        if not confirm(plan):
            return None
        if plan.to_send:
            stack.enter_context(
                AccountLock(
                    campaign.workspace.user_state,
                    account_key(account),
                    wait=request.wait_lock,
                    give_up=stop.is_set,
                )
            )
        transcript = open_transcript(request, stack)
        connect: Connect = _later(lambda: _connections(campaign, account, request, transcript))

        def mark(handed_over: int) -> None:
            index.note(campaign.workspace.ledger_path, campaign.name, handed_over)

        return run.deliver(plan, connect, observe, campaign.workspace.out, mark)


def _connections(
    campaign: Campaign, account: Account, request: SendRequest, transcript: Callable[[str], None] | None
) -> Connect:
    from mailmerge.campaign.connect import connection_factory

    return connection_factory(
        account,
        campaign.environment,
        prompt=request.ask_secret,
        transcript=transcript,
        deadlines=request.deadlines,
    )


def _later(make: Callable[[], Connect]) -> Connect:
    """Look for the secret only when the first connection is made: a run with nothing to do needs none."""
    made: list[Connect] = []

    def connect() -> Connection:
        if not made:
            made.append(make())
        return made[0]()

    return connect


def open_transcript(request: SendRequest, stack: contextlib.ExitStack) -> Callable[[str], None] | None:
    """Begin the transcript that was asked for, closed with *stack*; None: none was."""
    if request.transcript is None:
        return None
    from mailmerge.campaign.connect import Transcript

    transcript = Transcript(request.transcript)
    stack.callback(transcript.close)
    return transcript.write


def open_ledger(
    campaign: Campaign,
    stack: contextlib.ExitStack,
    clock: Clock,
    *,
    wait: float = 0.0,
    give_up: Callable[[], bool] = lambda: False,
) -> Ledger:
    """Take the campaign's lock and open its ledger, checked against what is known of it."""
    workspace = campaign.workspace
    workspace.make_state()
    stack.enter_context(Ledger.lock(workspace.ledger_path, wait=wait, give_up=give_up))
    with CampaignRegistry(workspace.user_state / "campaigns.db") as index:
        index.check_present(workspace.ledger_path, campaign.name)
        ledger = stack.enter_context(Ledger.open(workspace.ledger_path, campaign.name, now=clock.now))
        index.check(workspace.ledger_path, campaign.name, ledger.attempts.handed_over)
    ledger.repair()
    return ledger


def _snapshot(campaign: Campaign) -> Path | None:
    if campaign.list_given:
        return None
    source = campaign.file.data.source
    campaign.open_list()  # says what is wrong with the list in its own words before it is copied
    copy = snapshot(source, campaign.workspace.state)
    campaign.workspace.clear_snapshots(keep=copy)
    return copy


def account_key(account: Account) -> str:
    """Name the account for locks and counts: what matters is who signs in where."""
    return f"{account.user or account.name}@{account.host}"


def _refuse_changes(campaign: Campaign, composer: Composer, ledger: Ledger, *, accept: bool) -> None:
    versions = ledger.versions()
    # Rows accepted as it is now, later than any other version: the change was agreed to before.
    if accept or not versions or versions[-1].digest == composer.version:
        return
    before = [version for version in versions if version.digest != composer.version]
    count = sum(version.accepted for version in before)
    changed = ", ".join(before[-1].changed(composer.parts)) or "the message"
    rows = "1 row was" if count == 1 else f"{count:,} rows were"
    raise CampaignFileError(
        f"campaign {campaign.name!r} changed ({changed}) after {rows} accepted as it was",
        code="C470",
        hint="--accept-changes sends the rest as it is now; --name NEW starts anew with the whole list",
    )


class SendRun:
    """One run of a campaign over one ledger, whichever ledger that is."""

    def __init__(
        self,
        campaign: Campaign,
        request: SendRequest,
        account: Account,
        ledger: Ledger,
        recipients: RecipientList,
        clock: Clock,
        stop: StopFlag,
        usage: AccountUsage | None = None,
    ) -> None:
        self._campaign = campaign
        self._request = request
        self._account = account
        self._ledger = ledger
        self._recipients = recipients
        self._clock = clock
        self.composer = campaign.assemble(recipients, ledger.secret, account)
        rates = all_rates(account, campaign.file.send.rate)
        key = account_key(account)
        limits = (account.quota,) if account.quota else ()
        history = usage.history(key, clock.now() - longest_window(rates)) if usage else ()
        self._delivering = Delivering(
            ledger=ledger,
            recipients=recipients,
            composer=self.composer,
            account=account,
            send=campaign.file.send,
            clock=clock,
            stop=stop,
            rates=rates,
            quota=usage.quota(key, limits, clock) if usage else None,
            history=list(throttle_history(history, clock)),
            selection=parse_rows(request.rows) if request.rows else None,
            limit=request.limit,
            sessions=campaign.file.send.sessions or account.sessions,
        )

    def plan(self) -> Plan:
        """Run the pre-flight and say what would be sent."""
        plan = self._campaign.examine(
            self._ledger,
            self._recipients,
            self.composer,
            account=self._account,
            reuse=True,
            progress=self._request.progress,
        )
        plan = self._delivering.complete(plan)
        return replace(plan, warnings=(*plan.warnings, *self._warnings()))

    def _warnings(self) -> Iterator[str]:
        synced = sync_folder(self._campaign.workspace.folder)
        if synced:
            yield f"the ledger lies in a {synced} folder: another machine may put an old copy in its place"
        last = self._ledger.last_run()
        behind = ((last.ended or last.started) - self._clock.now()).total_seconds() if last else 0.0
        if behind > _SET_BACK:
            yield f"this machine's clock is {behind:,.0f} s behind the end of the last run: is it right?"

    def deliver(
        self,
        plan: Plan,
        connect: Connect,
        observe: Callable[[Progress], None],
        out: Path,
        mark: Callable[[int], None] | None = None,
    ) -> Report:
        """Send what was planned, and report into *out*, whatever ends the run."""
        started = time.monotonic()
        self._ledger.start_run("send", self.composer.version)
        end = RunEnd(Reason.FINISHED)
        failure: MailmergeError | None = None
        try:
            if plan.to_send:
                end = self._send(connect, observe, mark)
                while self._request.wait and end.reason is Reason.FINISHED and self._sleep_until_due():
                    end = _joined(end, self._send(connect, observe, mark))
        except MailmergeError as error:
            failure = error
        with contextlib.suppress(LedgerError):
            counts = {str(status): number for status, number in end.counts.by_status.items()}
            self._ledger.finish_run("failed" if failure else str(end.reason), counts)
            self._ledger.counts()  # kept by the ledger, for whoever asks next
        return self._report(end, failure, out, time.monotonic() - started)

    def _send(
        self, connect: Connect, observe: Callable[[Progress], None], mark: Callable[[int], None] | None
    ) -> RunEnd:
        return self._delivering.run(connect, observe, wait=self._request.wait, mark=mark)

    def _sleep_until_due(self) -> bool:
        """Wait for the next deferred row; False: there is none, or we are to stop."""
        if self._request.limit is not None:
            return False
        # Asked anew each time, because the clock may be set while we wait.
        while (due := self._ledger.next_due()) is not None:
            rest = (due - self._clock.now()).total_seconds()
            if rest <= 0:
                return True
            if self._delivering.stop.is_set():
                return False
            self._clock.sleep(min(rest, 0.5))
        return False

    def _report(self, end: RunEnd, failure: MailmergeError | None, out: Path, seconds: float) -> Report:
        from mailmerge.campaign.reporting import Report, exit_code
        from mailmerge.campaign.results import publish

        error = failure or end.error
        if error is None and end.reason is Reason.REFUSED:
            error = AuthError(end.message, code="S607", hint=end.hint)
        code = error.exit_code if error else _REASON_CODES[end.reason]
        complete = self._request.rows is None and self._request.limit is None
        notes = [end.message] if end.message and error is None else []
        if end.hint and error is None:
            notes.append(f"   = hint: {end.hint}")
        notes += end.notes
        skipped = self._delivering.skipped
        notes += [f"row {problem.row}: not sent, {problem.message}" for problem in skipped[:10]]
        stopped = error.message if error else end.message
        published = publish(self._ledger, self._recipients, out, lambda: self._page_facts(stopped))
        return Report(
            campaign=self._campaign.name,
            summary=published.summary,
            exit_code=exit_code(published.summary.counts, code, complete=complete),
            folder=published.folder,
            page=published.page,
            failed=published.failed,
            reason=str(end.reason),
            error=error,
            next_at=end.next_at or self._ledger.next_due(),
            seconds=seconds,
            sent_now=end.counts[Status.ACCEPTED],
            notes=tuple(notes),
            ledger=None if self._ledger.throwaway else self._ledger.path,
        )

    def _page_facts(self, stopped: str) -> Facts:
        from mailmerge.campaign.results import page_facts

        rates, account = self._campaign.file.send.rate, self._account
        return page_facts(
            self._campaign, self._ledger, self._recipients, account, rates, stopped=stopped.rstrip(".")
        )


def _joined(before: RunEnd, end: RunEnd) -> RunEnd:
    """Put two passes of one run together."""
    statuses = {*before.counts, *end.counts}
    counts = Counts({status: before.counts[status] + end.counts[status] for status in statuses})
    return replace(end, counts=counts, notes=(*before.notes, *end.notes))
