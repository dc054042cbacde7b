"""``mailmerge test``: the messages of chosen rows, sent to yourself only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, interactive, note, out, show_diagnostics
from mailmerge.cli.plan_view import clock_time
from mailmerge.cli.send import ask_secret
from mailmerge.cli.signals import GracefulStop
from mailmerge.model import Status
from mailmerge.sending.runs import Reason
from mailmerge.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign.trial import TrialReport


@click.command("test")
@campaign_argument
@options_of("test")
def command(
    *,
    rows: str | None,
    me: str | None,
    accounts_ca_file: Path | None,
    transcript: Path | None,
    as_json: bool,
    **options: Any,
) -> int:
    """Send the messages of --rows (default: the first row) to yourself; nobody else gets anything.

    To and envelope are yours, and an X-Mailmerge-Test header names the row. There is no Cc or Bcc, no
    List-Unsubscribe and no Disposition-Notification-To. No row's state changes.
    """
    from mailmerge.campaign.run import SendRequest

    campaign = load_campaign(options)
    request = SendRequest(
        rows=rows,
        ca_file=accounts_ca_file,
        transcript=transcript,
        ask_secret=ask_secret if interactive() else None,
    )
    with GracefulStop() as stop:
        report = campaign.test(me, request, stop=stop.flag)
    for result in report.results:
        if as_json:
            emit("test", row=result.row, status=result.status, reply=result.reply, to=result.to)
        else:
            told = f"row {result.row:<5} {result.status:<9} {result.reply}"
            out(f"{told}   -> {result.to}  (would go to {result.meant_for})")
    _say_changes(report)
    return _ended(report, stop)


def _say_changes(report: TrialReport) -> None:
    """Say what a test has not, so that nobody looks for it."""
    names = dict.fromkeys(name for result in report.results for name in result.left_out)
    if names:
        note(f"Left out of tests: {', '.join(names)}. To and Message-ID are others, too.")


def _ended(report: TrialReport, stop: GracefulStop) -> int:
    """Say why no more was sent, and give the exit code."""
    from mailmerge.campaign.results import end_code

    end = report.end
    if end.error:
        show_diagnostics(end.error.diagnostics)
    if report.left:
        later = f"; try again after {clock_time(end.next_at)}" if end.next_at else ""
        note(f"{plural(report.left, 'test message')} not sent{later}.")
    if end.reason is Reason.INTERRUPTED:
        return stop.code
    refused = any(result.status is not Status.ACCEPTED for result in report.results)
    return end_code(end) or (3 if refused else 0)
