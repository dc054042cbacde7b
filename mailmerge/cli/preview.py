"""``mailmerge preview``: look at the messages as they would be sent."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_options, limit_option, load_campaign, rows_option
from mailmerge.cli.output import note, out
from mailmerge.errors import CampaignFileError, FileError
from mailmerge.text import plural

if TYPE_CHECKING:
    from mailmerge.campaign import Campaign

_FILE = click.Path(path_type=Path)


@click.command("preview")
@campaign_options()
@rows_option
@limit_option
@click.option(
    "--sample",
    type=click.IntRange(min=1),
    metavar="N",
    help="N rows spread over the list, and every row with a problem.",
)
@click.option("--no-open", is_flag=True, help="Do not open the page in a browser.")
@click.option("--watch", is_flag=True, help="Serve the page to this machine and reload it at every change.")
@click.option(
    "--port", type=click.IntRange(0, 65535), default=0, help="With --watch: the port; default: any free one."
)
@click.option("--terminal", is_flag=True, help="Show messages here instead: one unless --limit says more.")
@click.option("--eml", type=_FILE, metavar="DIR", help="Write one .eml file a row there.")
@click.option("--mbox", type=_FILE, metavar="FILE", help="Write all messages to one mbox file.")
def command(*, terminal: bool, eml: Path | None, mbox: Path | None, watch: bool, **options: Any) -> int:
    """Show messages exactly as they would be sent; nothing is sent.

    Writes out/preview.html, one page that holds the whole campaign and loads nothing, and opens it where
    there is a display. --terminal shows headers, text and structure here; --eml and --mbox write the very
    bytes that go on the wire.
    """
    from mailmerge.cli import preview_output

    page = preview_output.ReportOptions(options)
    if watch:
        return preview_output.watch(page, options)
    campaign = load_campaign(options)
    if not (terminal or eml or mbox):
        return preview_output.write(page, campaign)
    rows, limit = page.request.rows, page.request.limit
    if terminal:
        _show(campaign.messages(rows=rows, limit=limit or (None if rows else 1), keep=False))
    _write_files(campaign, rows, limit, eml, mbox)
    return 0


def _write_files(
    campaign: Campaign, rows: str | None, limit: int | None, eml: Path | None, mbox: Path | None
) -> None:
    from mailmerge.preview.message_files import write_eml, write_mbox

    try:
        if eml:
            count = write_eml(campaign.messages(rows=rows, limit=limit), eml)
            out(f"Wrote {plural(count, 'message')} to {eml}/")
        if mbox:
            count = write_mbox(campaign.messages(rows=rows, limit=limit), mbox)
            out(f"Wrote {plural(count, 'message')} to {mbox}")
    except FileError as error:
        raise CampaignFileError(
            error.message, code="C486", hint=error.hint or "--eml wants a folder, --mbox a file"
        ) from None


def _show(messages: Any) -> None:
    from mailmerge.preview.terminal import lines

    count = 0
    for message in messages:
        count += 1
        out(f"--- row {message.row} ---")
        for line in lines(message):
            out(line)
    if not count:
        note("There is no message to show: see `mailmerge check`.")
