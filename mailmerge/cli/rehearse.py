"""``mailmerge rehearse``: the whole run against a built-in server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import note, out
from mailmerge.cli.plan_view import show_plan, show_plan_json
from mailmerge.cli.progress import Bar
from mailmerge.cli.report_view import show_report
from mailmerge.cli.signals import GracefulStop
from mailmerge.text import duration

if TYPE_CHECKING:
    from mailmerge.campaign.plan import Plan


@click.command("rehearse")
@campaign_argument
@options_of("rehearse")
def command(*, as_json: bool, quiet: bool, verbose: bool, real_time: bool, **options: Any) -> int:
    """Simulate the whole run with a built-in server, with real TLS and sign-in; nothing leaves this machine.

    Ledger and quota are discarded afterwards. Results and the first received messages are kept in
    out/rehearsal. The server can be told to misbehave, so that you see what a bad day looks like. --fail
    takes CODE:SHARE or COMMAND:CODE:SHARE and may be repeated: 450:2%, mail:421:1%,
    "content:554 5.7.1 spam:0.5%"; the commands are ehlo, auth, mail, rcpt, data, content.
    """
    from mailmerge.campaign.rehearsal import Rehearsal
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

    with bar, GracefulStop() as stop:
        report = campaign.rehearse(
            request,
            Rehearsal(faults, real_time=real_time),
            planned=planned,
            observe=bar.observe,
            stop=stop.flag,
        )
    show_report(report, as_json=as_json, verbose=verbose)
    if not as_json:
        if pace[0] >= 1 and not real_time:
            note(f"In real time this run would take about {duration(pace[0])}.")
        if report.folder:
            out(f"Messages as the server received them: {report.folder / 'messages'}/")
        out("This was a rehearsal: nothing left this machine.")
        out(f"Next: {campaign.suggested('preview')}")
    return stop.code if report.exit_code == 130 else report.exit_code
