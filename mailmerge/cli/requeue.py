"""``mailmerge requeue``: make rejected or expired rows pending again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import note, out, require_person
from mailmerge.text import plural

if TYPE_CHECKING:
    from pathlib import Path


@click.command("requeue")
@campaign_argument
@options_of("requeue")
def command(*, rows: str | None, failed: Path | None, accepted: bool, yes: bool, **options: Any) -> int:
    """Requeue rejected and expired rows: the next run tries them again.

    Without --rows or --from: all of them. --accepted requeues rows that the server has already accepted, and
    asks first.
    """
    if rows is not None and failed is not None:
        raise click.UsageError("--rows and --from exclude each other")
    campaign = load_campaign(options, ledger_only=True)
    if accepted and not yes and not _sure(rows, failed):
        note("Nothing was changed.")
        return 2
    count = campaign.requeue(rows, failed=failed, accepted=accepted)
    going = campaign.continuation(rows)
    out(f"Requeued {plural(count, 'row')}. Next: {going.again}   {plural(going.left, 'row')} left")
    return 0


def _sure(rows: str | None, failed: Path | None) -> bool:
    require_person()
    which = f"rows {rows}" if rows else f"the people in {failed}" if failed else "ALL accepted rows"
    answer = click.prompt(
        f"{which} will get the message a second time. Type 'again' to continue",
        default="",
        show_default=False,
        err=True,
    )
    return bool(answer == "again")
