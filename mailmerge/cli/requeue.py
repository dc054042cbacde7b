"""``mailmerge requeue``: give refused rows another chance, on purpose."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mailmerge.cli.options import ledger_options, load_campaign, rows_option, yes_option
from mailmerge.cli.output import note, out, require_person
from mailmerge.text import plural


@click.command("requeue")
@ledger_options
@rows_option
@click.option(
    "--from",
    "failed",
    type=click.Path(path_type=Path),
    metavar="FAILED.CSV",
    help="The rows of this failed.csv.",
)
@click.option("--accepted", is_flag=True, help="Accepted rows instead: they will get the message twice.")
@yes_option
def command(*, rows: str | None, failed: Path | None, accepted: bool, yes: bool, **options: Any) -> int:
    """Put rejected and expired rows back in line: the next `mailmerge send` tries them again.

    Without --rows or --from, all of them. --accepted concerns rows that the server took already, and
    asks first.
    """
    campaign = load_campaign(options, ledger_only=True)
    if accepted and not yes and not _sure(rows):
        note("Nothing was changed.")
        return 2
    count = campaign.requeue(rows, failed=failed, accepted=accepted)
    out(f"{plural(count, 'row')} back in line. Next: mailmerge send")
    return 0


def _sure(rows: str | None) -> bool:
    require_person()
    which = f"rows {rows}" if rows else "ALL accepted rows"
    answer = click.prompt(
        f"{which} will get the message a second time. Type 'again' to go on",
        default="",
        show_default=False,
        err=True,
    )
    return bool(answer == "again")
