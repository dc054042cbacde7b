"""What the desktop is asked for: to show a page, and to notify that a run has ended.

Only programs of this machine are started. A campaign's name is passed to them as an argument or variable,
never as part of a script. Without a desktop, nothing happens.
"""

from __future__ import annotations

import html
import os
import subprocess
import sys
from pathlib import PureWindowsPath
from typing import TYPE_CHECKING

from mailmerge.cli.output import interactive
from mailmerge.config.environment import secrets_hidden
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.campaign.results import Report

_SECONDS = 10
"""Seconds that a notification program may take; it is not waited for any longer."""
_APPLESCRIPT = (
    "on run argv",
    "display notification (item 2 of argv) with title (item 1 of argv)",
    "end run",
)
_POWERSHELL = (
    "$m = [Windows.UI.Notifications.ToastNotificationManager, Windows.UI.Notifications, ContentType = "
    "WindowsRuntime]; $x = $m::GetTemplateContent('ToastText02'); $t = $x.GetElementsByTagName('text'); "
    "[void]$t.Item(0).AppendChild($x.CreateTextNode($env:MAILMERGE_TITLE)); "
    "[void]$t.Item(1).AppendChild($x.CreateTextNode($env:MAILMERGE_TEXT)); "
    "$m::CreateToastNotifier('mailmerge').Show([Windows.UI.Notifications.ToastNotification, "
    "Windows.UI.Notifications, ContentType = WindowsRuntime]::new($x))"
)


def has_desktop() -> bool:
    """Return whether there is a display to show something on."""
    return sys.platform in ("darwin", "win32") or any(
        os.environ.get(name) for name in ("DISPLAY", "WAYLAND_DISPLAY")
    )


def has_browser() -> bool:
    """Return whether a person at this machine has a browser."""
    return interactive() and "CI" not in os.environ and has_desktop()


def open_page(address: str) -> bool:
    """Open a page in the browser; return False if there is none."""
    import webbrowser

    with secrets_hidden():
        return webbrowser.open(address)


def notification(platform: str, title: str, text: str) -> tuple[list[str], dict[str, str]]:
    """Return the command that shows a notification on *platform*, and its variables."""
    if platform == "darwin":
        scripts = [word for line in _APPLESCRIPT for word in ("-e", line)]
        return ["osascript", *scripts, title, text], {}
    if platform == "win32":  # by its path: Windows also looks in the working directory
        folder = PureWindowsPath(os.environ.get("SYSTEMROOT", r"C:\Windows"), "System32", "WindowsPowerShell")
        program = str(folder / "v1.0" / "powershell.exe")
        variables = {"MAILMERGE_TITLE": title, "MAILMERGE_TEXT": text}
        return [program, "-NoProfile", "-NonInteractive", "-Command", _POWERSHELL], variables
    # There, the text of a notification may have markup; its title may not.
    return ["notify-send", "--app-name=mailmerge", "--", title, html.escape(text, quote=False)], {}


def notify(title: str, text: str) -> bool:
    """Show a notification; return False without a desktop, or if none of its programs shows one."""
    if not has_desktop():
        return False
    command, variables = notification(sys.platform, printable(title), printable(text))
    return _run(command, variables)


def _run(command: list[str], variables: Mapping[str, str]) -> bool:
    with secrets_hidden():
        environment = {**os.environ, **variables}
    nothing = subprocess.DEVNULL
    try:
        done = subprocess.run(  # noqa: S603
            command,
            env=environment,
            timeout=_SECONDS,
            check=False,
            stdin=nothing,
            stdout=nothing,
            stderr=nothing,
        )
    except (OSError, subprocess.TimeoutExpired):  # the run has ended well without it
        return False
    return done.returncode == 0


def run_ended(report: Report, *, told: bool, shown: bool) -> None:
    """Notify on the desktop that a run has ended (if *told*), and open its page (if *shown*)."""
    if told:
        notify(f"mailmerge: {report.campaign}", report.summary.headline())
    if shown and report.page and has_desktop():
        open_page(report.page.resolve().as_uri())
