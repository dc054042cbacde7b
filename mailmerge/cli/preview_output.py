"""The preview page from the command line: written and opened, or served and kept up to date."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn, Self

import click

from mailmerge.campaign.preview import PreviewRequest, write_preview
from mailmerge.campaign.watch import Watched
from mailmerge.check.diagnostics import found
from mailmerge.cli.options import load_campaign
from mailmerge.cli.output import interactive, note, out, show_diagnostics
from mailmerge.errors import CampaignFileError, FileError, MailmergeError
from mailmerge.files import ScratchFolder
from mailmerge.preview.live import PreviewServer
from mailmerge.text import plural

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign import Campaign
    from mailmerge.campaign.preview import Previewed

PAGE = "preview.html"
_LOOK_EVERY = 0.3
"""Seconds between two looks at the files that ``--watch`` follows."""
_LINE_EVERY = 30.0
"""Seconds between two lines where stderr is no terminal."""


class ReportOptions:
    """What the person at the command line wants of the page; takes its options out of *options*."""

    def __init__(self, options: dict[str, Any]) -> None:
        self.show: bool = not options.pop("no_open")
        self.port: int = options.pop("port")
        self.request = PreviewRequest(
            rows=options.pop("rows"),
            limit=options.pop("limit"),
            sample=options.pop("sample"),
            command=str(options["campaign"] or ""),
        )


def write(wanted: ReportOptions, campaign: Campaign) -> int:
    """Write the page, open it where that is possible, and return the exit code."""
    path = campaign.workspace.out / PAGE
    with _Rows() as rows:
        try:
            done = write_preview(campaign, path, wanted.request, progress=rows.reached)
        except FileError as error:
            raise CampaignFileError(
                error.message, code="C486", hint=error.hint or "--out DIR writes the page somewhere else"
            ) from None
    opened = wanted.show and _open(path.resolve().as_uri())
    if done.shown:
        problems = found(done.problems)
        out(f"{problems[:1].upper()}{problems[1:]}. {_written(done, path, opened=opened)}")
    else:
        note("There is no row to show: see `mailmerge check`.")
    return 0


def _written(done: Previewed, path: Path, *, opened: bool) -> str:
    size = path.stat().st_size / 1e6
    which = f"{plural(done.shown, 'row')}, {size:.1f} MB"
    if done.sampled:
        which = f"{done.shown:,} of {plural(done.rows, 'row')}, {size:.1f} MB"
    return f"Wrote {path} ({which}){' and opened it' if opened else ''}."


def _open(address: str) -> bool:
    """Open a browser if a person sits here and has a display."""
    if not interactive() or "CI" in os.environ:
        return False
    if sys.platform not in ("darwin", "win32") and not {"DISPLAY", "WAYLAND_DISPLAY"} & set(os.environ):
        return False
    import webbrowser

    return webbrowser.open(address)


class _Rows:
    """Says how many rows were looked at: a bar on a terminal, elsewhere a line now and then."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._last = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def reached(self, rows: int) -> None:
        """Show that so many rows are done."""
        if self._bar is None and sys.stderr.isatty():
            from tqdm import tqdm

            self._bar = tqdm(unit=" rows", file=sys.stderr, leave=False)
        if self._bar is not None:
            self._bar.update(rows - self._bar.n)
        elif time.monotonic() - self._last > _LINE_EVERY:
            self._last = time.monotonic()
            note(f"{rows:,} rows looked at")


def watch(wanted: ReportOptions, options: dict[str, Any]) -> int:
    """Serve the page until Ctrl-C, made again at every change; return the exit code."""
    signal.signal(signal.SIGTERM, _end)
    with ScratchFolder() as folder:
        page = folder.path / PAGE
        watched = Watched(lambda: load_campaign(dict(options)), page, wanted.request)
        _tell(watched.make())
        try:
            server = PreviewServer(page, port=wanted.port)
        except OSError as error:
            words = (
                f"cannot listen on port {wanted.port}: {error.strerror}; without --port any free one is taken"
            )
            raise click.ClickException(words) from None
        try:
            with server:
                _serve(server, watched, show=wanted.show)
        except KeyboardInterrupt:
            note("The preview has ended.")
    return 0


def _serve(server: PreviewServer, watched: Watched, *, show: bool) -> NoReturn:
    out(f"{watched.name} is shown at {server.url} (this machine only)")
    note("It reloads when a template, the list or campaign.toml changes. Ctrl-C ends it.")
    if show:
        _open(server.url)
    while True:
        time.sleep(_LOOK_EVERY)
        if watched.changed():
            _tell(watched.make())
            server.changed()


def _end(number: int, _frame: object) -> NoReturn:
    raise SystemExit(128 + number)


def _tell(made: Previewed | MailmergeError) -> None:
    now = time.strftime("%H:%M:%S")
    if isinstance(made, MailmergeError):
        note(f"{now}  the campaign cannot be shown:")
        show_diagnostics(made.diagnostics)
    else:
        note(f"{now}  {plural(made.shown, 'row')}, {found(made.problems)}")
