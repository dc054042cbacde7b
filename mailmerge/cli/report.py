"""``mailmerge report``: the result files again, from the ledger."""

from __future__ import annotations

from typing import Any

import click

from mailmerge.cli.options import json_option, ledger_options, load_campaign
from mailmerge.cli.send import place
from mailmerge.cli.summing_up import show_report


@click.command("report")
@ledger_options
@json_option
def command(*, as_json: bool, **options: Any) -> int:
    """Write results.csv, results.jsonl and failed.csv again from the ledger, and show the summary."""
    campaign = load_campaign(options, ledger_only=True)
    again = f"mailmerge send {place(campaign)}".rstrip()
    show_report(campaign.report(), as_json=as_json, again=again)
    return 0
