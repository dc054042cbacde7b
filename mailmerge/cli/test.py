"""``mailmerge test``: chosen rows' messages, to yourself only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, interactive, out, show_diagnostics
from mailmerge.cli.send import ask_secret
from mailmerge.cli.signals import Stop
from mailmerge.model import Status

if TYPE_CHECKING:
    from pathlib import Path


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
    """Send the messages of --rows (default: the first row) to yourself: no one else gets anything.

    To and envelope are yours, there is no Cc or Bcc, and an X-Mailmerge-Test header says which row it was. No
    row's state changes.
    """
    from mailmerge.campaign.run import SendRequest
    from mailmerge.campaign.test_send import send_tests

    campaign = load_campaign(options)
    request = SendRequest(
        rows=rows,
        ca_file=accounts_ca_file,
        transcript=transcript,
        ask_secret=ask_secret if interactive() else None,
    )
    with Stop() as stop:
        report = send_tests(campaign, request, me, stop=stop.flag)
    for result in report.results:
        if as_json:
            emit("test", row=result.row, status=result.status, reply=result.reply, to=result.to)
        else:
            told = f"row {result.row:<5} {result.status:<9} {result.reply}"
            out(f"{told}   -> {result.to}  (would go to {result.meant_for})")
    if report.error:
        show_diagnostics(report.error.diagnostics)
        return report.error.exit_code
    return 0 if all(result.status is Status.ACCEPTED for result in report.results) else 3
