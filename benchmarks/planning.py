"""The plan: making it, and what it saves the commands that come after."""

from __future__ import annotations

import resource
import shutil
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fixtures
from campaign_folders import environment, write_campaign
from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
SECTION = "plan"
_TOGETHER = {10_000: 1.15, 100_000: 1.0}
"""Length of a list, and how long two processes may take to plan it, in the time of rendering it."""


def measure_planning(setting: Setting, results: Results) -> None:
    """Fill in what planning a newsletter costs, and how long the second command takes over a long list."""
    console = str(setting.python.with_name("mailmerge"))
    count = setting.run_rows
    people = fixtures.write_list(setting.folder / f"people-{count}.csv", count)
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        campaign = write_campaign(Path(name), people)
        alone = run_json([setting.python, HERE / "plan_one.py", campaign, count])
        processor, _ = _seconds([console, "check", "--quiet", "--jobs", "1"], campaign)
    results.put(SECTION, "bare rendering of the newsletter (R), us each", "ours", alone["floor"])
    results.put(SECTION, "row rules of the lint, us each", "ours", alone["lint"])
    results.put(SECTION, f"plan of {count:,} newsletters, processor time, us each", "ours", alone["plan"])
    each = processor / count * 1e6
    results.put(SECTION, f"check of {count:,} newsletters, the whole command, us each", "ours", each)
    results.at_most("row rules of the lint on a newsletter", alone["lint"], 25, " us")
    ratio = alone["plan"] / alone["floor"]
    results.at_most(f"plan of {count:,} rows (read to store), one process / rendering", ratio, 1.8)
    for length, most in _TOGETHER.items():
        _measure_two_processes(setting, results, length if not setting.quick else length // 10, most)
    _measure_second_commands(setting, results)
    _measure_resuming(setting, results)


def _measure_second_commands(setting: Setting, results: Results) -> None:
    """Fill in how long commands take until they show a plan that is there, and two rows without a plan."""
    console = str(setting.python.with_name("mailmerge"))
    long = setting.memory_rows[0] * (1 if setting.quick else 10)
    commands = {
        "check again, nothing changed": ([console, "check", "--quiet"], long),
        "send --dry-run after check": ([console, "send", "--dry-run", "--quiet"], long),
        "preview of one row, nothing planned": (
            [console, "preview", "--terminal", "--rows", "2"],
            setting.memory_rows[1],
        ),
    }
    for what, (command, rows) in commands.items():
        people = fixtures.write_list(setting.folder / f"people-{rows}.csv", rows)
        with tempfile.TemporaryDirectory(dir=setting.folder) as name:
            campaign = write_campaign(Path(name), people, variant="short")
            if "preview" not in command:
                _seconds([console, "check", "--quiet"], campaign)
            seconds = min(_seconds(command, campaign)[1] for _ in range(3))
        results.put(SECTION, f"{what}, {rows:,} short texts, s", "ours", seconds)
        results.at_most(f"{what}, {rows:,} rows", seconds, 0.5, " s")


def _measure_resuming(setting: Setting, results: Results) -> None:
    """Fill in how long a run that was killed at nine tenths of a long list takes until it continues."""
    rows = setting.memory_rows[1]
    people = fixtures.write_list(setting.folder / f"people-{rows}.csv", rows)
    done = rows * 9 // 10
    resume = [setting.python, HERE / "resume_one.py"]
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        campaign = write_campaign(Path(name), people, variant="short", pipeline="window")
        _seconds([str(part) for part in (*resume, campaign, "send", done)], campaign)
        seconds = min(
            float(run_json([*resume, campaign, "resume"], env=environment(campaign))) for _ in range(3)
        )
    label = f"resume at row {done:,} of {rows:,} short texts, start until the first message"
    results.put(SECTION, f"{label}, s", "ours", seconds)
    results.at_most(label, seconds, 1.0, " s")


def _measure_two_processes(setting: Setting, results: Results, count: int, most: float) -> None:
    """Fill in how long one process and two take over a list; R is measured between them."""
    console = str(setting.python.with_name("mailmerge"))
    people = fixtures.write_list(setting.folder / f"people-{count}.csv", count)
    took: dict[int, list[float]] = {1: [], 2: []}
    floors = []
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        campaign = write_campaign(Path(name), people)
        for _ in range(3):  # other programs want the processors, too: the best of each counts
            for jobs, times in took.items():
                shutil.rmtree(campaign / "cache", ignore_errors=True)
                times.append(_seconds([console, "check", "--quiet", "--jobs", str(jobs)], campaign)[1])
            command = [setting.python, HERE / "build_one.py", "plain", setting.build_seconds, "floor"]
            floors.append(run_json(command)["floor"][0])
    for jobs, times in took.items():
        label = f"check of {count:,} newsletters, {jobs} process{'es' * (jobs > 1)}, us each"
        results.put(SECTION, label, "ours", min(times) / count * 1e6)
    rendering = min(floors) * count / 1e6
    results.at_most(f"two processes, {count:,} rows / rendering", min(took[2]) / rendering, most)


def _seconds(command: list[str], folder: Path) -> tuple[float, float]:
    """Return processor time and time of a command."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, env=environment(folder)
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-600:] or done.stdout[-600:]}")
    took, after = time.perf_counter() - began, resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime, took
