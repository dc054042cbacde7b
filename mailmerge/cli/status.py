"""``mailmerge status``: the state of every row, from the ledger alone."""

from __future__ import annotations

from typing import Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, out
from mailmerge.cli.plan_view import clock_time
from mailmerge.cli.report_view import show_counts
from mailmerge.model import Status
from mailmerge.text import plural


@click.command("status")
@campaign_argument
@options_of("status")
def command(*, as_json: bool, **options: Any) -> int:
    """Show how many rows are in each state; reads the ledger and nothing else."""
    campaign = load_campaign(options, ledger_only=True)
    status = campaign.status()
    if as_json:
        emit(
            "status",
            campaign=campaign.name,
            statuses=status.counts.by_status,
            next_at=status.next_at.isoformat() if status.next_at else None,
            last_run=status.last_run.isoformat() if status.last_run else None,
        )
        return 0
    if status.last_run is None and not status.counts.total:
        out(f"{campaign.name}: nothing has been sent yet.")
        return 0
    out(f"{campaign.name}: {plural(status.counts.total, 'row')}")
    show_counts(status.counts)
    if status.last_run:
        running = " (still running, or killed)" if status.unfinished else ""
        out(f"Last run: {clock_time(status.last_run)}{running}")
    if status.next_at:
        going = campaign.continuation()
        when = clock_time(status.next_at)
        out(f"Deferred rows can be sent from {when} on: {going.again}   {plural(going.left, 'row')} left")
    if status.counts[Status.IN_DOUBT]:
        out(f"Some rows are in doubt: {campaign.suggested('resolve')}")
    return 0
