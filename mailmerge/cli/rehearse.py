"""``mailmerge rehearse``: the whole run, on this machine only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import (
    campaign_options,
    json_option,
    limit_option,
    load_campaign,
    pipeline_option,
    quiet_option,
    rate_option,
    rows_option,
)
from mailmerge.cli.output import note, out
from mailmerge.cli.plan_view import show_plan, show_plan_json
from mailmerge.cli.progress import Bar
from mailmerge.cli.report_view import show_report
from mailmerge.cli.send import place
from mailmerge.cli.signals import Stop
from mailmerge.text import duration

if TYPE_CHECKING:
    from mailmerge.campaign.plan import Plan


@click.command("rehearse")
@campaign_options()
@rows_option
@limit_option
@rate_option
@pipeline_option
@click.option(
    "--fail",
    "refusals",
    multiple=True,
    metavar="450:2%",
    help="Refuse this share of recipients with this reply.",
)
@click.option("--drop-after-data", metavar="0.5%", default="0%", help="Lose this share of the final replies.")
@click.option(
    "--drop", metavar="0.5%", default="0%", help="Cut this share of messages off: before, in, after."
)
@click.option(
    "--per-connection", type=click.IntRange(min=1), metavar="N", help="Take N messages a connection."
)
@click.option("--per-minute", type=click.IntRange(min=1), metavar="N", help="Take N messages a minute.")
@click.option("--greylist", metavar="5m", default="0", help="Defer each new recipient for so long.")
@click.option("--refuse-sign-in", metavar="gmail", help="Refuse the sign-in as this provider does.")
@click.option("--delay", type=float, default=0.0, metavar="SECONDS", help="Let the server take its time.")
@click.option("--seed", type=int, metavar="N", help="Make the faults repeatable.")
@click.option("--real-time", is_flag=True, help="Keep the pace in real time; default: waits pass at once.")
@json_option
@quiet_option
def command(*, as_json: bool, quiet: bool, real_time: bool, **options: Any) -> int:
    """Do the whole run against a built-in server: real engine, TLS and sign-in; nothing leaves this machine.

    Ledger and quota are thrown away afterwards. Results and the first received messages are kept in
    out/rehearsal. The server misbehaves as you tell it to, so that you see what a bad day looks like.
    --fail takes CODE:SHARE or COMMAND:CODE:SHARE, several times if you like: 450:2%, mail:421:1%,
    "content:554 5.7.1 spam:0.5%"; the commands are ehlo, auth, mail, rcpt, data, content.
    """
    from mailmerge.campaign.rehearsal import Rehearsal, rehearse
    from mailmerge.campaign.run import SendRequest
    from mailmerge.sandbox import FaultPlan

    faults = FaultPlan.parse(
        options.pop("refusals"),
        drop_after_data=options.pop("drop_after_data"),
        drop=options.pop("drop"),
        per_connection=options.pop("per_connection"),
        per_minute=options.pop("per_minute"),
        greylist=options.pop("greylist"),
        refuse_sign_in=options.pop("refuse_sign_in"),
        delay=options.pop("delay"),
        seed=options.pop("seed"),
    )
    request = SendRequest(rows=options.pop("rows"), limit=options.pop("limit"), wait=not real_time)
    campaign = load_campaign(options)
    bar = Bar(quiet=quiet or as_json, as_json=as_json)
    pace: list[float] = []

    def planned(plan: Plan) -> None:
        pace.append(plan.seconds)
        if as_json:
            show_plan_json(plan)
        else:
            show_plan(plan, quiet=quiet)
        bar.begin(plan.to_send)

    with bar, Stop() as stop:
        report = rehearse(
            campaign,
            request,
            Rehearsal(faults, real_time=real_time),
            planned=planned,
            observe=bar.observe,
            stop=stop.flag,
        )
    show_report(report, as_json=as_json)
    if not as_json:
        where = place(campaign)
        if pace[0] >= 1 and not real_time:
            note(f"In real time this run takes about {duration(pace[0])}.")
        if report.folder:
            out(f"Messages as the server received them: {report.folder / 'messages'}/")
        out("This was a rehearsal: nothing left this machine.")
        out(f"Next: mailmerge preview {where}".rstrip())
    return report.exit_code
