"""``mailmerge purge``: remove personal data that is no longer needed."""

from __future__ import annotations

from typing import Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import note, out, require_person


@click.command("purge")
@campaign_argument
@options_of("purge")
def command(*, yes: bool, **options: Any) -> int:
    """Remove addresses, replies and the copy of the list from the ledger, and the files in out/.

    Only counts remain. The campaign cannot be continued afterwards; your own list is not touched.
    """
    campaign = load_campaign(options, ledger_only=True)
    if not yes:
        require_person()
        if not click.confirm(f"Remove the personal data of campaign {campaign.name!r} for good?", err=True):
            note("Nothing was changed.")
            return 2
    campaign.purge()
    out(f"Removed the personal data of campaign {campaign.name!r}.")
    return 0
