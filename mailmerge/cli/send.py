"""``mailmerge send``: the plan, the question, the run, the report."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import interactive, note, require_person
from mailmerge.cli.progress import Bar
from mailmerge.cli.signals import GracefulStop
from mailmerge.model import Status
from mailmerge.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign import Campaign
    from mailmerge.campaign.plan import Plan


@click.command("send")
@campaign_argument
@options_of("send")
def command(**options: Any) -> int:
    """Show the plan, ask for confirmation, send, and write the results.

    Running the same command again continues: no row is sent twice. "accepted" means that the server accepted
    the message. Results are in out/results.csv, also after Ctrl-C.
    """
    sending = SendCommand(options)
    return sending.run(load_campaign(options))


class SendCommand:
    """What was asked for on the command line; takes its own options out of *options*."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.rows: str | None = options.pop("rows")
        self.limit: int | None = options.pop("limit")
        self.dry_run: bool = options.pop("dry_run")
        self.wait: bool = options.pop("wait")
        self.wait_lock: float = options.pop("wait_lock")
        self.accept_changes: bool = options.pop("accept_changes")
        self.ca_file: Path | None = options.pop("accounts_ca_file")
        self.transcript: Path | None = options.pop("transcript")
        self.skip_invalid: bool = options.pop("skip_invalid")
        self.yes: bool = options.pop("yes")
        self.as_json: bool = options.pop("as_json")
        self.quiet: bool = options.pop("quiet")
        self.verbose: bool = options.pop("verbose")
        self._resolve = ""
        self.bar = Bar(quiet=self.quiet or self.as_json, as_json=self.as_json)

    def run(self, campaign: Campaign) -> int:
        """Do it, and give the exit code."""
        from mailmerge.campaign.run import SendRequest

        if not (self.yes or self.dry_run):
            require_person("add --yes to send without confirmation, or --dry-run to see the plan")
        bar = self.bar
        self._resolve = str(campaign.suggested("resolve"))
        request = SendRequest(
            rows=self.rows,
            limit=self.limit,
            dry_run=self.dry_run,
            wait=self.wait,
            wait_lock=self.wait_lock,
            accept_changes=self.accept_changes,
            ca_file=self.ca_file,
            transcript=self.transcript,
            ask_secret=ask_secret if interactive() else None,
        )
        with bar, GracefulStop() as stop:
            report = campaign.send(request, confirm=self.confirm, observe=bar.observe, stop=stop.flag)
        if report is None:
            return 0 if self.dry_run else 2
        from mailmerge.cli.report_view import show_report

        show_report(report, as_json=self.as_json, verbose=self.verbose)
        return stop.code if report.exit_code == 130 else report.exit_code

    def confirm(self, plan: Plan) -> bool:
        """Show the plan and ask; False: nothing is sent."""
        from mailmerge.cli.plan_view import show_plan, show_plan_json

        if self.as_json:
            show_plan_json(plan)
        else:
            show_plan(plan, quiet=self.quiet, resolve=self._resolve)
        if self.dry_run:
            note("Dry run: nothing was sent or recorded.")
            return False
        agreed = plan.to_send == 0 or (self._unattended(plan) if self.yes else _typed(plan.to_send))
        if agreed:
            self.bar.begin(plan.to_send)
        return agreed

    def _unattended(self, plan: Plan) -> bool:
        if plan.statuses[Status.INVALID] and not self.skip_invalid:
            invalid = plural(plan.statuses[Status.INVALID], "row")
            note(f"error[C481]: --yes was given, and {invalid} cannot be sent")
            note("   = hint: fix them, or add --skip-invalid to send the others")
            return False
        return True


def _typed(count: int) -> bool:
    note("")
    answer = click.prompt(
        "Type the number of messages to send, or Enter to stop", default="", show_default=False, err=True
    )
    if answer.replace(",", "").strip() == str(count):
        return True
    note("Nothing was sent." if not answer.strip() else f"That is not {count:,}: nothing was sent.")
    return False


def ask_secret(question: str) -> str:
    """Ask for a password or token on the terminal, unseen."""
    answer: str = click.prompt(question, hide_input=True, err=True, prompt_suffix="")
    return answer
