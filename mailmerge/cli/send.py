"""``mailmerge rehearse``, ``test`` and ``send``: to nobody, to yourself, to everybody."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec.structs import replace

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, interactive, note, out, require_person, show_diagnostics
from mailmerge.cli.progress import FINISHING, Bar, GracefulStop, PlanningTime, StoppedError
from mailmerge.errors import AuthError
from mailmerge.model import Severity, Status
from mailmerge.recipients.selection import LAST_ROW
from mailmerge.text import duration, padded, plural, rows_named

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.campaign import Campaign
    from mailmerge.campaign.plan import Plan
    from mailmerge.campaign.results import Report
    from mailmerge.campaign.run import SendRequest
    from mailmerge.campaign.trial import TrialReport
    from mailmerge.fleet.terms import FleetRequest
    from mailmerge.options import Jobs


@click.command("rehearse")
@campaign_argument
@options_of("rehearse")
def rehearse(*, as_json: bool, quiet: bool, verbose: bool, real_time: bool, **options: Any) -> int:
    """Simulate the whole run with a built-in server, with real TLS and sign-in; nothing leaves this machine.

    Ledger and quota are discarded afterwards. Results and the first received messages are kept in
    out/rehearsal. The server can be made to misbehave, to show what a bad day looks like. --fail accepts
    CODE:SHARE or COMMAND:CODE:SHARE and may be repeated: 450:2%, mail:421:1%,
    "content:554 5.7.1 spam:0.5%"; the commands are ehlo, auth, mail, rcpt, data, content.

    \b
    Example:
      mailmerge rehearse spring --fail 450:2% --drop 0.5%
    """  # noqa: D301  click's own mark
    from mailmerge.campaign.rehearsal import Rehearsal
    from mailmerge.campaign.run import SendRequest
    from mailmerge.cli.desktop import run_ended
    from mailmerge.cli.plan_view import show_plan, show_plan_json
    from mailmerge.cli.report_view import show_report
    from mailmerge.cli.sandbox import FAULTS
    from mailmerge.sandbox import FaultPlan

    faults = FaultPlan.parse(options.pop("refusals"), **{name: options.pop(name) for name in FAULTS})
    stop = GracefulStop()
    request = SendRequest(
        rows=options.pop("rows"),
        limit=options.pop("limit"),
        wait=options.pop("wait"),
        progress=PlanningTime(quiet=quiet or as_json),
        jobs=options.pop("jobs"),
        begun=stop.begin,
    )
    told, shown = options.pop("notify"), options.pop("open_report")
    campaign = load_campaign(options)
    bar = Bar(quiet=quiet or as_json, as_json=as_json)

    def planned(plan: Plan) -> None:
        if as_json:
            show_plan_json(plan)
        else:
            show_plan(plan, quiet=quiet)
        bar.begin(plan.to_send)

    with bar, stop:
        report = campaign.rehearse(
            request,
            Rehearsal(faults, real_time=real_time),
            planned=planned,
            observe=bar.observe,
            stop=stop.flag,
        )
    show_report(report, as_json=as_json, verbose=verbose)
    if not as_json:
        if report.seconds >= 1 and not real_time:
            note(f"In real time this run would take about {duration(report.seconds)}.")
        if report.folder:
            out(f"Messages as the server received them: {report.folder / 'messages'}/")
        out("This was a rehearsal: nothing left this machine.")
        out(f"Next: {campaign.suggested('preview')}")
    run_ended(report, told=told, shown=shown)
    return stop.code if report.exit_code == 130 else report.exit_code


@click.command("test")
@campaign_argument
@options_of("test")
def test(
    *,
    rows: str | None,
    me: str | None,
    accounts_ca_file: Path | None,
    transcript: Path | None,
    wait_lock: float,
    as_json: bool,
    **options: Any,
) -> int:
    """Send the messages of --rows (default: the first row) to yourself; nobody else gets anything.

    To and envelope are yours, and an X-Mailmerge-Test header names the row. Cc, Bcc,
    Disposition-Notification-To and List-Unsubscribe are left out; only the List-Unsubscribe of
    message.unsubscribe remains, and its token unsubscribes nobody in a test. No row's state changes.

    \b
    Example:
      mailmerge test spring --rows 2,17 --to me@example.org
    """  # noqa: D301  click's own mark
    from mailmerge.campaign.run import SendRequest
    from mailmerge.report.summary import WORDS

    campaign = load_campaign(options)
    stop = GracefulStop()
    request = SendRequest(
        rows=rows,
        wait_lock=wait_lock,
        ca_file=accounts_ca_file,
        transcript=transcript,
        ask_secret=_asking(stop) if interactive() else None,
        begun=stop.begin,
    )
    with stop:
        report = campaign.test(me, request, stop=stop.flag)
    for result in report.results:
        if as_json:
            several = {"rows": list(result.rows)} if len(result.rows) > 1 else {}
            emit("test", row=result.row, **several, status=result.status, reply=result.reply, to=result.to)
        else:
            told = f"{padded(rows_named(result.rows), 9)} {padded(WORDS[result.status], 9)} {result.reply}"
            out(f"{told}   -> {result.to}  (would go to {result.meant_for})", result.status)
    _say_changes(report)
    return _ended(report, stop)


def _say_changes(report: TrialReport) -> None:
    """Show what a test leaves out, so that nobody looks for it."""
    names = dict.fromkeys(name for result in report.results for name in result.left_out)
    if names:
        note(f"Left out of tests: {', '.join(names)}. To and Message-ID differ, too.")


def _ended(report: TrialReport, stop: GracefulStop) -> int:
    """Show why no more was sent, and return the exit code."""
    from mailmerge.campaign.results import end_code
    from mailmerge.cli.plan_view import clock_time
    from mailmerge.sending.runs import Reason

    end = report.end
    for text in end.notes:
        note(text)
    if end.error:
        show_diagnostics(end.error.diagnostics)
    if report.left:
        later = f"; try again after {clock_time(end.next_at)}" if end.next_at else ""
        note(f"{plural(report.left, 'test message')} not sent{later}.")
    if end.reason is Reason.INTERRUPTED:
        return stop.code
    refused = any(result.status is not Status.ACCEPTED for result in report.results)
    return end_code(end) or (3 if refused else 0)


@click.command("send")
@campaign_argument
@options_of("send")
def send(**options: Any) -> int:
    """Show the plan, ask for confirmation, send, and write the results.

    Running the same command again continues: no row is sent twice. "accepted" means that the server accepted
    the message. Results are in out/results.csv, also after Ctrl-C.

    \b
    Examples:
      mailmerge send spring --limit 1
      mailmerge send spring --yes --wait --quiet
    """  # noqa: D301  click's own mark
    sending = SendCommand(options)
    return sending.run(load_campaign(options))


@click.command("drafts")
@campaign_argument
@options_of("drafts")
def drafts(**options: Any) -> int:
    """Put the messages into the Drafts folder of your mailbox, for you to send.

    The account's `imap` names the mailbox. Plan, question and results are those of send, and the state is
    "drafted"; send skips such rows. Running the same command again continues.

    \b
    Example:
      mailmerge drafts spring --account work
    """  # noqa: D301  click's own mark
    drafting = SendCommand(options, drafts=True)
    return drafting.run(load_campaign(options))


class SendCommand:
    """The request on the command line; takes its own options out of *options*."""

    def __init__(self, options: dict[str, Any], *, drafts: bool = False) -> None:
        self.drafts = drafts
        self.rows: str | None = options.pop("rows")
        self.limit: int | None = options.pop("limit")
        self.first: int | None = options.pop("first", None)
        self.jobs: Jobs = options.pop("jobs")
        self.dry_run: bool = options.pop("dry_run")
        self.wait: bool = options.pop("wait", False)
        self.wait_lock: float = options.pop("wait_lock")
        self.accept_changes: bool = options.pop("accept_changes")
        self.accept_repeats: bool = options.pop("accept_repeats")
        self.keep_plan: bool = options.pop("keep_plan", False)
        self.ca_file: Path | None = options.pop("accounts_ca_file")
        self.transcript: Path | None = options.pop("transcript", None)
        self.fleet = _fleet_request(options, self.transcript)
        self.skip_invalid: bool = options.pop("skip_invalid")
        self.yes: bool = options.pop("yes")
        self.as_json: bool = options.pop("as_json")
        self.quiet: bool = options.pop("quiet")
        self.verbose: bool = options.pop("verbose")
        self.notify: bool = options.pop("notify", False)
        self.open_report: bool = options.pop("open_report", False)
        self._resolve = ""
        self._suggested: Callable[..., object] = str
        self._handed_over = False
        """Whether the workers of a fleet send it, and nothing else is done here."""
        self._idle = False
        """Whether there was nothing to send, and nothing for a person to do."""
        self._sent = False
        """Whether the first few were sent before, and only the others are asked about."""
        self.bar = Bar(quiet=self.quiet or self.as_json, as_json=self.as_json)

    def run(self, campaign: Campaign) -> int:
        """Show the plan, ask and send; return the exit code."""
        from mailmerge.campaign.run import SendRequest

        if not (self.yes or self.dry_run):
            require_person("add --yes to send without confirmation, or --dry-run to see the plan")
        bar, stop = (
            self.bar,
            GracefulStop("leaving the workers to themselves ..." if self.fleet else FINISHING),
        )
        self._resolve = str(campaign.suggested("resolve"))
        self._suggested = campaign.suggested
        request = SendRequest(
            rows=self.rows,
            limit=self.limit,
            progress=PlanningTime(quiet=self.quiet or self.as_json),
            jobs=self.jobs,
            dry_run=self.dry_run,
            wait=self.wait,
            wait_lock=self.wait_lock,
            accept_changes=self.accept_changes,
            accept_repeats=self.accept_repeats,
            drafts=self.drafts,
            keep_plan=self.keep_plan,
            ca_file=self.ca_file,
            transcript=self.transcript,
            fleet=self.fleet,
            ask_secret=_asking(stop) if interactive() else None,
            begun=stop.begin,
        )
        if self.first is not None and not self.dry_run:
            left = self._send_first(campaign, request, stop)
            if left is not None:
                return left
            bar = self.bar = Bar(quiet=self.quiet or self.as_json, as_json=self.as_json)
            request = replace(request, limit=self.limit, follows=True)
        with bar, stop:
            report = campaign.send(request=request, confirm=self.confirm, observe=bar.observe, stop=stop.flag)
        return self._ended(report, stop)

    def _ended(self, report: Report | None, stop: GracefulStop) -> int:
        from mailmerge.cli.desktop import run_ended
        from mailmerge.cli.report_view import show_report

        if report is None and self._handed_over:
            note("The workers are sending it.")
            note("From now on only `suppress --ledger` and `bounces --ledger` count; your own files do not.")
            for words in (("fleet", "--watch"), ("pause",), ("send", "--fleet")):
                note(f"  {self._suggested(*words)}   {_DETACHED[words[0]]}")
            return 0
        if report is None:
            return 0 if self.dry_run or self._sent else 2
        self._sent = True
        silent = self.quiet and self._idle and report.error is None and report.bug is None
        if not silent:
            show_report(report, as_json=self.as_json, verbose=self.verbose)
        run_ended(report, told=self.notify, shown=self.open_report)
        return stop.code if report.exit_code == 130 else report.exit_code

    def _send_first(self, campaign: Campaign, request: SendRequest, stop: GracefulStop) -> int | None:
        """Send the first few; return None if all were accepted: the others may follow once confirmed."""
        few = min(self.first or 0, self.limit or LAST_ROW)
        bar = self.bar
        with bar, stop:
            report = campaign.send(
                request=replace(request, limit=few), confirm=self.confirm, observe=bar.observe, stop=stop.flag
            )
        ended = self._ended(report, stop)
        if report is None or ended != 0:
            if report is not None:
                note("The others were not sent: first check what happened to these.")
            return ended
        if self.limit is not None:
            self.limit -= few
            if not self.limit:
                return ended
        return None

    def confirm(self, plan: Plan) -> bool:
        """Show the plan and ask; return False if nothing is to be sent."""
        from mailmerge.cli.plan_view import show_plan, show_plan_json

        if self._sent and not plan.to_send:  # the first few were all
            return False
        self._idle = not (plan.to_send or plan.in_doubt or plan.problems.count(Severity.ERROR))
        if self.quiet and self._idle and not self.dry_run:
            pass  # what earlier runs have shown is not shown again
        elif self.as_json:
            show_plan_json(plan)
        else:
            show_plan(plan, quiet=self.quiet, resolve=self._resolve)
        if self.dry_run:
            note("Dry run: nothing was sent or recorded.")
            return False
        agreed = plan.to_send == 0 or (
            self._unattended(plan) if self.yes else _typed(plan.to_send, self._doing, self._declined)
        )
        if agreed:
            self.bar.begin(plan.to_send)
            self._handed_over = self.fleet is not None and self.fleet.detach
        return agreed

    @property
    def _doing(self) -> str:
        return "put into Drafts" if self.drafts else "send"

    @property
    def _declined(self) -> str:
        return "The others were not sent" if self._sent else "Nothing was sent"

    def _unattended(self, plan: Plan) -> bool:
        if plan.statuses[Status.INVALID] and not self.skip_invalid:
            invalid = plural(plan.statuses[Status.INVALID], plan.counted)
            note(f"error[C481]: --yes was given, but {invalid} cannot be sent")
            note("   = hint: fix them, or add --skip-invalid to send the others")
            return False
        return True


_DETACHED = {
    "fleet": "shows their progress",
    "pause": "pauses them",
    "send": "follows them to the end, and writes the report",
}


def _fleet_request(options: dict[str, Any], transcript: Path | None) -> FleetRequest | None:
    """Return the request to the workers of a fleet; None if this process sends."""
    fleet, detach = options.pop("fleet", False), options.pop("detach", False)
    accounts: str | None = options.pop("accounts", None)
    if not fleet:
        if detach or accounts:
            raise click.UsageError(f"{'--detach' if detach else '--accounts'} needs --fleet")
        return None
    if transcript is not None:
        raise click.UsageError("--transcript and --fleet exclude each other: the sessions are the workers'")
    from mailmerge.campaign.fleet import account_names
    from mailmerge.fleet.terms import FleetRequest

    return FleetRequest(account_names(accounts) if accounts is not None else (), detach)


_ANSWERS = 3
"""How many numbers a person may type before the answer counts as no."""


def _typed(count: int, doing: str, declined: str) -> bool:
    """Ask for the number of messages; after a wrong one ask again, a few times."""
    note("")
    for left in reversed(range(_ANSWERS)):
        answer = click.prompt(
            f"Type the number of messages to {doing}, or Enter to stop",
            default="",
            show_default=False,
            err=True,
        )
        typed = answer.strip()
        if typed.replace(",", "") == str(count):
            return True
        if not typed:
            note(f"{declined}.")
            return False
        note(f"That is not {count:,}{'.' if left else f': {declined[0].lower()}{declined[1:]}.'}")
    return False


def _asking(stop: GracefulStop) -> Callable[[str], str]:
    """Return a function that asks for a secret, and can be interrupted by a request to stop."""

    def ask(question: str) -> str:
        try:
            with stop.at_once():
                return ask_secret(question)
        except StoppedError:
            raise AuthError("no password was given", code="S605") from None

    return ask


def ask_secret(question: str) -> str:
    """Ask for a password or token in the terminal, without echo."""
    answer: str = click.prompt(question, hide_input=True, err=True, prompt_suffix="")
    return answer
