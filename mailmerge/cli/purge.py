"""``mailmerge purge``: remove personal data that is no longer needed."""

from __future__ import annotations

from typing import Any

import click

from mailmerge.cli.options import ledger_options, load_campaign, yes_option
from mailmerge.cli.output import interactive, note, out


@click.command("purge")
@ledger_options
@yes_option
def command(*, yes: bool, **options: Any) -> int:
    """Remove addresses, replies and the list's copy from the ledger, and the files in out/.

    What remains are counts. The campaign cannot be continued afterwards; your own list is not touched.
    """
    campaign = load_campaign(options, ledger_only=True)
    if not yes:
        if not interactive():
            note("error[C480]: there is nobody to ask: this is no terminal\n   = hint: add --yes")
            return 2
        click.confirm(
            f"Remove the personal data of campaign {campaign.name!r} for good?", abort=True, err=True
        )
    campaign.purge()
    out(f"The personal data of campaign {campaign.name!r} is gone.")
    return 0
