"""``mailmerge preview``: look at the messages as they would be sent."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, NoReturn

import click

from mailmerge.check.diagnostics import found
from mailmerge.cli.desktop import has_browser, open_page
from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import note, out, show_diagnostics
from mailmerge.cli.progress import RowCounter
from mailmerge.errors import CampaignFileError, FileError, MailmergeError
from mailmerge.files import ScratchFolder, write_file
from mailmerge.text import attachments, numbers, plural, rows_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailmerge.campaign import Campaign
    from mailmerge.campaign.preview import Previewed, PreviewRequest, ShownMessage, Watched
    from mailmerge.model import Message
    from mailmerge.options import Jobs
    from mailmerge.preview.live import PreviewServer

PAGE = "preview.html"
_MOST_NAMED = 5
_LOOK_EVERY = 0.3
"""Seconds between two checks of the files that ``--watch`` follows."""


@click.command("preview")
@campaign_argument
@options_of("preview")
def preview(
    *, terminal: bool, eml: Path | None, mbox: Path | None, unsent: bool, watch: bool, **options: Any
) -> int:
    """Show messages exactly as they would be sent; nothing is sent.

    Writes out/preview.html, one page that contains the whole campaign and loads nothing, and opens it if
    there is a display. --terminal shows headers, text and structure here; --eml and --mbox write the messages
    byte for byte. With --unsent, the --eml files are drafts that Outlook opens for sending. Date and
    Message-ID are made when a message is first sent: until then, files have temporary ones.

    \b
    Examples:
      mailmerge preview spring
      mailmerge preview spring --rows 2,17 --terminal
    """  # noqa: D301  click's own mark
    page = PreviewCommand(options)
    if unsent and not eml:
        raise click.UsageError("--unsent is for --eml DIR: it marks the files there as not sent")
    if watch:
        return page.watch(options)
    campaign = load_campaign(options, stored=True)
    if not (terminal or eml or mbox):
        return page.write(campaign)
    rows, limit = page.rows, page.limit
    if terminal:
        from mailmerge.campaign import preview

        most = limit or (None if rows else 1)
        if not _show(preview.messages(campaign.definition, rows=rows, limit=most)):
            note(f"No message to show. To see why: {campaign.suggested('check')}")
    _write_files(campaign, rows, limit, eml, mbox, unsent=unsent)
    return 0


def _write_files(
    campaign: Campaign,
    rows: str | None,
    limit: int | None,
    eml: Path | None,
    mbox: Path | None,
    *,
    unsent: bool,
) -> None:
    from mailmerge.campaign import preview
    from mailmerge.preview.messages import write_eml, write_mbox

    def write(write_to: Callable[[Iterator[Message], Path], int], path: Path, shown: str) -> None:
        left_out: dict[str, list[int]] = {}
        made = preview.messages(
            campaign.definition, rows=rows, limit=limit, left_out=left_out, leaving=unsent
        )
        count = write_to((one.message for one in made), path)
        out(f"Wrote {plural(count, 'message')} to {shown}{_left_out(left_out)}")

    try:
        if eml:
            write(partial(write_eml, unsent=unsent), eml, f"{eml}/")
        if mbox:
            write(write_mbox, mbox, f"{mbox}")
    except FileError as error:
        raise CampaignFileError(
            error.message, code="C486", hint=error.hint or "--eml takes a folder, --mbox a file"
        ) from None


def _left_out(rows: dict[str, list[int]]) -> str:
    """Return which rows have no file, and why."""
    if not rows:
        return ""
    kinds = [
        f"{len(found):,} {kind} (row{'s' if len(found) > 1 else ''} {_first(found)})"
        for kind, found in rows.items()
    ]
    return f". Left out, as they would not be sent: {', '.join(kinds)}"


def _first(rows: list[int]) -> str:
    return numbers(rows[:_MOST_NAMED], more=len(rows) > _MOST_NAMED)


def _show(messages: Iterator[ShownMessage]) -> int:
    """Print the messages, and return how many there are."""
    from mailmerge.preview.messages import message_lines

    count = 0
    for shown in messages:
        count += 1
        out(f"--- {rows_named(shown.rows or (shown.message.row,))} ---")
        out(shown.standing)
        for line in message_lines(shown.message, shown.to_come):
            out(line)
    return count


class PreviewCommand:
    """The options of the page; takes them out of *options*."""

    def __init__(self, options: dict[str, Any]) -> None:
        self._show: bool = not options.pop("no_open")
        self._port: int = options.pop("port")
        self.rows: str | None = options.pop("rows")
        self.limit: int | None = options.pop("limit")
        self._sample: int | None = options.pop("sample")
        self._jobs: Jobs = options.pop("jobs")

    def _request(self) -> PreviewRequest:
        from mailmerge.campaign.preview import PreviewRequest

        return PreviewRequest(self.rows, self.limit, self._sample, self._jobs)

    def write(self, campaign: Campaign) -> int:
        """Write the page, open it where that is possible, and return the exit code."""
        path = campaign.workspace.out / PAGE
        with RowCounter() as rows:
            try:
                done = campaign.preview(path, self._request(), progress=rows)
            except FileError as error:
                raise CampaignFileError(
                    error.message, code="C486", hint=error.hint or "--out DIR writes the page somewhere else"
                ) from None
        opened = self._show and has_browser() and open_page(path.resolve().as_uri())
        if done.shown:
            problems = found(done.problems)
            out(f"{problems[:1].upper()}{problems[1:]}. {_written(done, path, opened=opened)}")
            if done.partial:
                note("Checks of the whole list, such as duplicates and junk: not looked at.")
            if done.files:
                note(f"Files: {attachments(done.files)}")
        else:
            note(f"No {done.counted} to show. To see why: {campaign.suggested('check')}")
        return 0

    def watch(self, options: dict[str, Any]) -> int:
        """Serve the page until Ctrl-C, and make it again after every change; return the exit code."""
        from mailmerge.campaign.preview import Watched
        from mailmerge.preview.live import PreviewServer

        with ScratchFolder() as folder:
            page = folder.path / PAGE
            watched = Watched(lambda: load_campaign(dict(options)).definition, page, self._request())
            _tell(watched.make())
            try:
                server = PreviewServer(page, port=self._port)
            except OSError as error:
                words = (
                    f"cannot listen on port {self._port}: {error.strerror}; leave --port out for a free one"
                )
                raise click.ClickException(words) from None
            try:
                with server:
                    _serve(server, watched, folder.path, show=self._show)
            except KeyboardInterrupt:
                note("The preview has ended.")
        return 0


def _written(done: Previewed, path: Path, *, opened: bool) -> str:
    size = path.stat().st_size / 1e6
    which = f"{plural(done.shown, done.counted)}, {size:.1f} MB"
    if done.sampled:
        which = f"{done.shown:,} of {plural(done.rows, done.counted)}, {size:.1f} MB"
    return f"Wrote {path} ({which}){' and opened it' if opened else ''}."


def _serve(server: PreviewServer, watched: Watched, folder: Path, *, show: bool) -> NoReturn:
    out(f"{watched.name} is shown at {server.url} (this machine only)")
    note("It reloads when a template, the list or campaign.toml changes. Ctrl-C ends it.")
    if show and has_browser():
        # The address itself would be in the machine's list of processes, for everybody to see.
        page = folder / "open.html"
        write_file(page, server.ticket_page())
        open_page(page.as_uri())
    while True:
        time.sleep(_LOOK_EVERY)
        if watched.changed():
            _tell(watched.make())
            server.changed()


def _tell(made: Previewed | MailmergeError) -> None:
    now = time.strftime("%H:%M:%S")
    if isinstance(made, MailmergeError):
        note(f"{now}  the campaign cannot be shown:")
        show_diagnostics(made.diagnostics)
    else:
        note(f"{now}  {plural(made.shown, made.counted)}, {found(made.problems)}")
