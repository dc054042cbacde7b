"""``mailmerge preview``: look at the messages as they would be sent."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mailmerge.cli.options import campaign_options, limit_option, load_campaign, rows_option
from mailmerge.cli.output import note, out, plural
from mailmerge.errors import CampaignFileError


@click.command("preview")
@campaign_options()
@rows_option
@limit_option
@click.option(
    "--eml", type=click.Path(path_type=Path), metavar="DIR", help="Write one .eml file a row there."
)
@click.option(
    "--mbox", type=click.Path(path_type=Path), metavar="FILE", help="Write all messages to one mbox file."
)
@click.option(
    "--terminal", is_flag=True, help="Show them here (the default; one message unless --limit says more)."
)
def command(
    *,
    rows: str | None,
    limit: int | None,
    eml: Path | None,
    mbox: Path | None,
    terminal: bool,
    **options: Any,
) -> int:
    """Show messages exactly as they would be sent; nothing is sent.

    Without --eml or --mbox the first message (or --rows, --limit) is shown here: headers decoded, text
    part, MIME structure. Files hold the very bytes that go on the wire.
    """
    campaign = load_campaign(options)
    to_terminal = terminal or not (eml or mbox)
    if to_terminal:
        _show(campaign.messages(rows=rows, limit=limit or (None if rows else 1)))
    from mailmerge.preview.files import write_eml, write_mbox  # noqa: PLC0415  only for files

    try:
        if eml:
            count = write_eml(campaign.messages(rows=rows, limit=limit), eml)
            out(f"Wrote {plural(count, 'message')} to {eml}/")
        if mbox:
            count = write_mbox(campaign.messages(rows=rows, limit=limit), mbox)
            out(f"Wrote {plural(count, 'message')} to {mbox}")
    except OSError as error:
        raise CampaignFileError(
            f"cannot write {error.filename or eml or mbox}: {error.strerror}",
            code="C486",
            hint="--eml wants a folder, --mbox a file",
        ) from None
    return 0


def _show(messages: Any) -> None:
    from mailmerge.preview.terminal import lines  # noqa: PLC0415  the parser takes 60 ms

    count = 0
    for message in messages:
        count += 1
        out(f"--- row {message.row} ---")
        for line in lines(message):
            out(line)
    if not count:
        note("There is no message to show: see `mailmerge check`.")
