"""docs/automation.md: crontab, systemd units, hook and action are run, or verified, as they are printed."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faultd import FaultServer
from servers.command import statuses

if TYPE_CHECKING:
    from servers.command import Mailmerge

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "automation.md").read_text("utf-8")

pytestmark = pytest.mark.skipif("sys.platform == 'win32'")


def blocks(kind: str) -> list[str]:
    """Return the blocks of the page in this language."""
    return re.findall(rf"^```{kind}\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def installed(home: Path) -> Path:
    """Put the command where the page has it; it takes nothing from the environment of this test."""
    command = home / ".local" / "bin" / "mailmerge"
    command.parent.mkdir(parents=True)
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -P -m mailmerge "$@"\n', encoding="utf-8")
    command.chmod(0o755)
    return command


def test_the_crontab_runs_as_it_is_printed(mailmerge: Mailmerge) -> None:
    """In cron's poor environment: the first time it sends and says so, after that no line prints anything."""
    home = mailmerge.folder / "home"
    installed(home)
    (crontab,) = blocks("crontab")
    lines = [line for line in crontab.splitlines() if not re.match(r"#|\w+=", line)]
    commands = [line.split(maxsplit=5)[5] for line in lines]
    assert all(re.fullmatch(r"[\d*/]+", field) for line in lines for field in line.split(maxsplit=5)[:5])
    assert [command.split()[1] for command in commands] == ["send", "bounces", "status"]
    mailmerge.campaign("home/spring")
    for folder in ("cur", "new", "tmp"):
        (home / "Maildir" / folder).mkdir(parents=True)
    with FaultServer({}) as server:
        mailmerge.account(server)
        (home / ".config" / "mailmerge").mkdir(parents=True)
        mailmerge.config.rename(home / ".config" / "mailmerge" / "config.toml")
        first = _by_cron(commands[0], home)
        again = [_by_cron(command, home) for command in commands]
    assert (first.returncode, "3 accepted" in first.stdout, first.stderr) == (0, True, "")
    assert {(done.returncode, done.stdout, done.stderr) for done in again} == {(0, "", "")}
    assert statuses(home / "spring") == ["accepted"] * 3


def _by_cron(command: str, home: Path) -> subprocess.CompletedProcess[str]:
    environ = {"PATH": "/usr/bin:/bin", "HOME": str(home), "SHELL": "/bin/sh", "LOGNAME": "me"}
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.program("systemd-analyze")
def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """Systemd's own verifier says nothing; only the home folder is put in."""
    installed(tmp_path)
    names = []
    for unit in blocks("systemd"):
        where, _, text = unit.partition("\n")
        names.append(where.rpartition("/")[2])
        (tmp_path / names[-1]).write_text(text.replace("%h/", f"{tmp_path}/"), encoding="utf-8")
    assert names == ["mailmerge-spring.service", "mailmerge-spring.timer"]
    done = subprocess.run(
        ["systemd-analyze", "--user", "verify", *(f"./{name}" for name in names)],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "XDG_RUNTIME_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_hook_and_the_action_check_a_campaign(mailmerge: Mailmerge) -> None:
    """What pre-commit and GitHub run: nothing to say of a good campaign; a mistake ends them, at its line."""
    mailmerge.campaign("good")
    mailmerge.campaign("bad", body_txt="Hi {{ nmae }}\n")
    (entry,) = re.findall(
        r"^  entry: (.*)$", (ROOT / ".pre-commit-hooks.yaml").read_text("utf-8"), re.MULTILINE
    )
    hook = [mailmerge(*shlex.split(entry)[1:], folder) for folder in ("good", "bad")]
    assert [done.code for done in hook] == [0, 2], hook
    runner = mailmerge.folder / "runner"
    command = installed(mailmerge.folder / "home")
    (runner / "mailmerge" / "bin").mkdir(parents=True)
    (runner / "mailmerge" / "bin" / "mailmerge").symlink_to(command)
    script = (ROOT / "action.yml").read_text("utf-8").rstrip().splitlines()[-1]
    done = subprocess.run(
        ["bash", "-c", f"bin=bin; {script}"],
        cwd=mailmerge.folder,
        env={**mailmerge.environ, "RUNNER_TEMP": str(runner), "CAMPAIGN": "bad"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert re.match(r"::error .*file=bad/body.txt,line=1", done.stdout), done.stdout
