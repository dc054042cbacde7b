"""Start-up: the help, and the time until a first message is rendered, beside a Python that does nothing."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fixtures
from campaign_folders import environment, write_campaign

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

ROUNDS = 15
_UNTIL_RENDERED = """\
import os, sys
from mailmerge.__main__ import prepare
prepare()
from mailmerge.cli import run
from mailmerge.render import Renderer
rendered = Renderer.render
def render_and_end(*arguments):
    rendered(*arguments)
    os._exit(0)
Renderer.render = render_and_end
run(["send", "--yes", "--quiet"])
sys.exit("nothing was rendered")
"""


def measure_starting(setting: Setting, results: Results) -> None:
    """Fill in milliseconds and ratios: the minimum of several rounds, for noise only adds."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        people = fixtures.write_list(Path(folder, "people.csv"), 10)
        campaign = write_campaign(Path(folder), people)
        bare = [str(setting.python), "-c", "pass"]
        console = setting.python.with_name("mailmerge")
        commands = {
            "python": bare,
            "help": [str(console), "--help"],
            "send": [str(console), "send", "--dry-run", "--quiet", "--limit", "1"],
            "first": [str(setting.python), "-c", _UNTIL_RENDERED],
            "rival": [str(setting.rival.with_name("mailmerge")), "--help"],
        }
        least = dict.fromkeys(commands, float("inf"))
        for _ in range(5 if setting.quick else ROUNDS):
            for name, command in commands.items():
                shutil.rmtree(campaign / "cache", ignore_errors=True)  # the first command of a campaign
                least[name] = min(least[name], _seconds(command, campaign))
    section = "start-up, times `python -c pass`"
    base = least["python"]
    results.put(section, "--help", "ours", least["help"] / base)
    results.put(section, "--help", "rival", least["rival"] / base)
    results.put(section, "send, until the first message is rendered", "ours", least["first"] / base)
    results.put(section, "send --dry-run of ten rows, whole", "ours", least["send"] / base)
    results.note(f"`python -c pass` takes {base * 1000:.1f} ms here.")
    results.at_most("--help / python -c pass", least["help"] / base, 5)
    results.at_most("send until the first rendered message / python -c pass", least["first"] / base, 12)


def _seconds(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    subprocess.run(
        command,
        cwd=folder,
        check=True,
        capture_output=True,
        env=environment(folder),
        stdin=subprocess.DEVNULL,
    )
    return time.perf_counter() - began
