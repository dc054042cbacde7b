"""What the desktop is asked for, and by which program."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING

import pytest

from mailmerge.cli.desktop import notification, notify

if TYPE_CHECKING:
    from pathlib import Path

TITLE, TEXT = 'mailmerge: $(reboot)"; x', "2 accepted <b>&"


def test_names_are_arguments_or_variables_never_script():
    """No program gets the campaign's name as part of what it runs, nor as an option."""
    commands = {name: notification(name, TITLE, TEXT) for name in ("linux", "darwin", "win32")}

    assert commands["linux"][0][-3:] == ["--", TITLE, "2 accepted &lt;b&gt;&amp;"]
    assert commands["darwin"][0][-2:] == [TITLE, TEXT]
    assert not any("reboot" in word for word in commands["win32"][0])
    assert commands["win32"][1] == {"MAILMERGE_TITLE": TITLE, "MAILMERGE_TEXT": TEXT}


@pytest.mark.skipif(sys.platform != "linux", reason="notify-send is Linux's")
@pytest.mark.parametrize(("display", "code", "shown"), [(":9", 0, True), (":9", 1, False), ("", 0, False)])
def test_a_program_of_this_machine_is_asked_where_there_is_a_display(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, display: str, code: int, *, shown: bool
) -> None:
    """The notification goes to notify-send on the PATH, without any password; without a display to nobody."""
    program, seen = tmp_path / "notify-send", tmp_path / "seen"
    program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" "$MAILMERGE_SMTP_PASSWORD" > {seen}\nexit {code}\n')
    program.chmod(0o700)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setenv("MAILMERGE_SMTP_PASSWORD", "secret")
    monkeypatch.delenv("WAYLAND_DISPLAY", raising=False)
    monkeypatch.delenv("DISPLAY", raising=False)
    if display:
        monkeypatch.setenv("DISPLAY", display)

    assert notify("mailmerge: spring", "2 accepted") is shown

    assert seen.exists() is bool(display)
    if display:
        assert seen.read_text() == "--app-name=mailmerge|--|mailmerge: spring|2 accepted||"
        assert os.environ["MAILMERGE_SMTP_PASSWORD"] == "secret"
