"""``mailmerge resolve``: decide about rows whose reply was lost."""

from __future__ import annotations

from typing import Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import out
from mailmerge.cli.plan_view import clock_time
from mailmerge.text import plural


@click.command("resolve")
@campaign_argument
@options_of("resolve")
def command(*, rows: str | None, as_accepted: bool, resend: bool, **options: Any) -> int:
    """List the rows in doubt, or settle them (all, or --rows).

    A row is in doubt when its message was handed over completely but the server's reply was lost: it may or
    may not have been sent. Look in the account's Sent folder, or ask the recipient; only you can decide.
    """
    if as_accepted and resend:
        raise click.UsageError("--as-accepted and --resend exclude each other")
    campaign = load_campaign(options, ledger_only=True)
    if as_accepted or resend:
        count = campaign.resolve(rows, as_accepted=as_accepted)
        what = "recorded as accepted" if as_accepted else "will be sent again by the next run"
        out(f"{plural(count, 'row')} {what}.")
        if resend and count:
            going = campaign.continuation(rows)
            out(f"Next: {going.again}   {plural(going.left, 'row')} left")
        return 0
    doubtful = list(campaign.in_doubt(rows))
    if not doubtful:
        out("No row is in doubt.")
        return 0
    for result in doubtful:
        delivery = result.delivery
        when = clock_time(delivery.updated) if delivery and delivery.updated else ""
        message_id = delivery.message_id if delivery else ""
        where = f"row {result.row}" if result.row is not None else "no longer in the list"
        out(f"{where:>9}  {result.address}  handed over {when}  {message_id}")
    out("")
    out(f"{plural(len(doubtful), 'row')} may or may not have been sent. Decide for all, or with --rows:")
    chosen = () if rows is None else ("--rows", rows)
    accept = campaign.suggested("resolve", *chosen, "--as-accepted")
    resend_them = campaign.suggested("resolve", *chosen, "--resend")
    out(f"  {accept}   they arrived: record them as accepted")
    out(f"  {resend_them}   send them again; some may arrive twice")
    return 0
