"""``mailmerge check``: render every row, list every problem; no socket is opened."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import click

from mailmerge.check.wording import found
from mailmerge.cli.options import campaign_options, json_option, load_campaign, quiet_option
from mailmerge.cli.output import diagnostic_values, emit, note, out, plural, show_problems
from mailmerge.model import Severity, Status

if TYPE_CHECKING:
    from mailmerge.campaign.plan import Plan


@click.command("check")
@campaign_options()
@json_option
@quiet_option
def command(*, as_json: bool, quiet: bool, **options: Any) -> int:
    """Render every row and list all problems at once; nothing is sent.

    CAMPAIGN is a folder with campaign.toml, or such a file; default: this folder. With --list no campaign
    file is needed.
    """
    started = time.monotonic()
    plan = load_campaign(options).check()
    problems = plan.problems
    if as_json:
        for group in problems:
            emit("problem", **diagnostic_values(group))
        emit(
            "check",
            rows=plan.rows,
            statuses=plan.counts.by_status,
            ready=plan.ready,
            blank_rows=plan.blank_rows,
        )
    else:
        show_problems(problems, err=False, most=25)
        if not quiet:
            note(f"{plan.source}: {plan.dialect}")
            out(_ready(plan))
        passed = time.monotonic() - started
        out(f"Found {found(problems)} in {plural(plan.rows, 'row')} ({passed:.1f} s). Nothing was sent.")
    if problems.campaign_errors:
        return 2
    return 3 if problems.count(Severity.ERROR) else 0


def _ready(plan: Plan) -> str:
    left_out = ", ".join(
        f"{plan.statuses[status]:,} {word}"
        for status, word in (
            (Status.INVALID, "invalid"),
            (Status.DUPLICATE, "repeat an earlier one"),
            (Status.SUPPRESSED, "suppressed"),
            (Status.SKIPPED, "not selected"),
        )
        if plan.statuses[status]
    )
    blank = f"; {plural(plan.blank_rows, 'blank row')} skipped" if plan.blank_rows else ""
    without = f" ({left_out})" if left_out else ""
    return f"{plan.ready:,} of {plural(plan.rows, 'row')} can be sent{without}{blank}."
