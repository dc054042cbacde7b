"""The PowerShell blocks of the README, run as they are printed where there is PowerShell."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from servers.command import Mailmerge

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")
BLOCKS = re.findall(r"^```powershell\n(.*?)^```", README, re.DOTALL | re.MULTILINE)
SHELL = shutil.which("pwsh") or shutil.which("powershell")


def test_windows_has_its_block() -> None:
    """Somebody without a POSIX shell finds lines to type, and a job in which they are run."""
    assert [block.splitlines()[0].partition("  ")[0] for block in BLOCKS] == [
        "mailmerge login me@example.org"
    ]
    workflow = Path(__file__).parents[2] / ".github/workflows/test.yml"
    if workflow.exists():
        assert "tests/e2e/test_powershell.py" in workflow.read_text("utf-8")


@pytest.mark.skipif(SHELL is None and sys.platform != "win32", reason="PowerShell is not in Debian")
def test_the_block_runs_as_it_is_printed(mailmerge: Mailmerge) -> None:
    """All lines but those that ask at a terminal: sign-in and sending, which test_shell_blocks.py walks."""
    (mailmerge.folder / "contacts.csv").write_text("email,name\nana@example.org,Ana\n", encoding="utf-8")
    (block,) = BLOCKS
    lines = [line for line in block.splitlines() if not re.match(r"mailmerge (login|test|send)\b", line)]
    assert SHELL is not None
    for line in lines:
        stand_ins = (
            f"function mailmerge {{ & '{sys.executable}' -P -m mailmerge @args }}; function notepad {{ }}"
        )
        done = subprocess.run(
            [SHELL, "-NoProfile", "-Command", f"{stand_ins}; {line}; exit $LASTEXITCODE"],
            cwd=mailmerge.folder,
            env=mailmerge.environ,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, (line, done.stdout, done.stderr)


@pytest.mark.skipif(SHELL is None and sys.platform != "win32", reason="PowerShell is not in Debian")
def test_powershell_completes(mailmerge: Mailmerge) -> None:
    """The script that the command prints makes PowerShell complete commands, options and accounts."""
    mailmerge.config.write_text('[accounts.work]\nhost = "smtp.example.org"\n', encoding="utf-8")
    assert SHELL is not None
    lines = [
        f"function mailmerge {{ & '{sys.executable}' -P -m mailmerge @args }}",
        "mailmerge completion powershell | Out-String | Invoke-Expression",
    ]
    lines += [
        f"(TabExpansion2 '{typed}' {len(typed)}).CompletionMatches | % {{ $_.CompletionText }}"
        for typed in ("mailmerge resol", "mailmerge send --dry", "mailmerge send --account wor")
    ]
    done = subprocess.run(
        [SHELL, "-NoProfile", "-Command", "; ".join(lines)],
        cwd=mailmerge.folder,
        env=mailmerge.environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (["resolve", "--dry-run", "work"], "")
