"""``mailmerge preview``: look at the messages as they would be sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import note, out
from mailmerge.errors import CampaignFileError, FileError
from mailmerge.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign import Campaign


@click.command("preview")
@campaign_argument
@options_of("preview")
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
    from mailmerge.preview.messages import write_eml, write_mbox

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
    from mailmerge.preview.messages import message_lines

    count = 0
    for message in messages:
        count += 1
        out(f"--- row {message.row} ---")
        for line in message_lines(message):
            out(line)
    if not count:
        note("There is no message to show: see `mailmerge check`.")
