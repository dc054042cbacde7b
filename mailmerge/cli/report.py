"""``mailmerge report``: write the report page and the result files again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.report_view import show_report

if TYPE_CHECKING:
    from pathlib import Path


@click.command("report")
@campaign_argument
@options_of("report")
def command(
    *,
    page: bool,
    workbook: bool,
    copy: Path | None,
    redact: bool,
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Write report.html, results.csv, results.jsonl and the failed rows again from the ledger."""
    if copy and redact:
        raise click.UsageError("--copy and --redact exclude each other: the copy contains your list as it is")
    from mailmerge.campaign.results import ReportOptions

    campaign = load_campaign(options, ledger_only=True)
    report = campaign.report(ReportOptions(page=page, workbook=workbook, copy=copy, redact=redact))
    show_report(report, as_json=as_json, verbose=verbose)
    return 1 if report.bug else 0
