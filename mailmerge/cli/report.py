"""``mailmerge report``: the report page and the result files again, from the ledger."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mailmerge.cli.options import json_option, ledger_options, load_campaign
from mailmerge.cli.report_view import show_report
from mailmerge.cli.send import place


@click.command("report")
@ledger_options
@click.option("--html/--no-html", "page", default=True, help="Write report.html; default: yes.")
@click.option(
    "--xlsx", "workbook", is_flag=True, help="Write results.xlsx, too: every cell text, no formula."
)
@click.option(
    "--copy",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write a copy of your list with three columns more: status, code and reply of each row.",
)
@click.option(
    "--redact",
    is_flag=True,
    help="For sharing: hashes in place of addresses (domains stay) and keys; goes to out/redacted.",
)
@json_option
def command(
    *, page: bool, workbook: bool, copy: Path | None, redact: bool, as_json: bool, **options: Any
) -> int:
    """Write report.html, results.csv, results.jsonl and failed.csv again from the ledger."""
    if copy and redact:
        raise click.UsageError("--copy and --redact exclude each other: the copy holds your list as it is")
    from mailmerge.campaign.results import ReportOptions

    campaign = load_campaign(options, ledger_only=True)
    again = f"mailmerge send {place(campaign)}".rstrip()
    report = campaign.report(ReportOptions(page=page, workbook=workbook, copy=copy, redact=redact))
    show_report(report, as_json=as_json, again=again, page=page)
    return 0
