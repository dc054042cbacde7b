"""What the shells complete: the real ones ask the command as they do at a terminal."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from pathlib import Path

    from servers.command import Mailmerge

pytestmark = pytest.mark.skipif("sys.platform == 'win32'")

CONFIG = """\
[accounts.work]
host = "smtp.example.org"
[accounts.worship]
host = "smtp.example.org"
[ledgers.office]
url = "postgresql://db.example.org/mail"
"""


@pytest.fixture
def at_home(mailmerge: Mailmerge) -> Mailmerge:
    """Return a place with accounts, ledger, two campaigns, another folder, and the command on the path."""
    mailmerge.config.write_text(CONFIG, encoding="utf-8")
    for name in ("spring", "sprint"):
        (mailmerge.folder / name).mkdir()
        (mailmerge.folder / name / "campaign.toml").touch()
    (mailmerge.folder / "springs").mkdir()
    programs = mailmerge.folder / "home" / "bin"
    programs.mkdir()
    command = programs / "mailmerge"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m mailmerge "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    mailmerge.environ["PATH"] = f"{programs}{os.pathsep}{mailmerge.environ['PATH']}"
    return mailmerge


def test_bash(at_home: Mailmerge) -> None:
    """The script for bash fills what bash reads completions from."""
    script = """\
eval "$(mailmerge completion bash)"
COMP_WORDS=(mailmerge status spri); COMP_CWORD=2
_mailmerge_completion mailmerge spri status
printf '%s\\n' "${COMPREPLY[@]}"; complete -p mailmerge
"""
    lines = said(at_home, ["bash", "--norc", "-c", script])
    assert lines[:2] == ["spring", "sprint"]
    assert lines[2].endswith("-F _mailmerge_completion mailmerge")


@pytest.mark.program("fish")
def test_fish(at_home: Mailmerge) -> None:
    """Fish shows the values with whole descriptions."""
    script = (
        'mailmerge completion fish | source; complete -C "mailmerge sen"; complete -C "mailmerge status spri"'
    )
    assert said(at_home, ["fish", "--no-config", "-c", script]) == [
        "send\tShow the plan, ask, send, and report; run again to continue.",
        "spring",
        "sprint",
    ]


@pytest.mark.program("zsh")
def test_zsh(at_home: Mailmerge) -> None:
    """zsh, at a terminal, completes what is typed when the tabulator key is pressed."""
    import pty

    typed = at_home.folder / "typed"
    setup = f"""\
PS1='ready> '; autoload -Uz compinit; compinit -u -D
eval "$(mailmerge completion zsh)"
_show() {{ print -r -- "$BUFFER" >'{typed}.part'; mv '{typed}.part' '{typed}' }}
zle -N _show; bindkey '^X' _show
"""
    (at_home.folder / "home" / ".zshrc").write_text(setup, encoding="utf-8")
    environ = {**at_home.environ, "ZDOTDIR": str(at_home.folder / "home"), "TERM": "dumb"}
    terminal, inside = pty.openpty()
    shell = subprocess.Popen(
        ["zsh", "-i"],
        stdin=inside,
        stdout=inside,
        stderr=inside,
        cwd=at_home.folder,
        env=environ,
        start_new_session=True,
    )
    os.close(inside)
    try:
        seen = _until_ready(terminal)
        os.write(terminal, b"mailmerge resol\t\x18")
        assert _content(typed) == "mailmerge resolve \n", seen
    finally:
        shell.kill()
        shell.wait()
        os.close(terminal)


def _until_ready(terminal: int) -> bytes:
    seen = b""
    while b"ready> " not in seen:
        seen += os.read(terminal, 1000)
    return seen


def _content(path: Path) -> str:
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return path.read_text("utf-8")


def said(mailmerge: Mailmerge, command: list[str]) -> list[str]:
    """Return the lines that a shell writes."""
    done = subprocess.run(
        command,
        cwd=mailmerge.folder,
        env=mailmerge.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


def test_the_script_for_powershell(at_home: Mailmerge) -> None:
    """It asks the command as the command expects to be asked, and its brackets are in pairs."""
    script = at_home("completion", "powershell").out
    assert script.startswith("Register-ArgumentCompleter -Native -CommandName mailmerge -ScriptBlock {\n")
    assert "%(" not in script
    for opening, closing in ("()", "[]", "{}"):
        assert script.count(opening) == script.count(closing)
    (asking,) = re.findall(r"\$env:_MAILMERGE_COMPLETE = '(\w+)'", script)
    words = "mailmerge\nsend\n--account"
    answer = at_home(_MAILMERGE_COMPLETE=asking, COMP_WORDS=words, COMP_WORD="wors")
    assert (answer.out, answer.err) == ("plain\tworship\taccount of your config.toml\n", "")
