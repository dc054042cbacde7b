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
from measure import run_json

from campaigns import environment, write_campaign

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
_TOGETHER = {10_000: 1.15, 100_000: 1.0}
"""Length of a list, and how long two processes may take to plan it, in the time of rendering it."""


def measure_planning(setting: Setting, results: Results) -> None:
    """Fill in what planning a newsletter costs, and how long the second command takes over a long list."""
    section = "plan"
    floor = run_json([setting.python, HERE / "build_one.py", "plain", setting.build_seconds, "floor"])
    console = str(setting.python.with_name("mailmerge"))
    count = setting.run_rows
    people = fixtures.write_list(setting.folder / f"people-{count}.csv", count)
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        campaign = write_campaign(Path(name), people)
        processor, _ = _seconds([console, "check", "--quiet"], campaign)
        each = processor / count * 1e6
        results.put(section, f"check of {count:,} newsletters, processor time, us each", "ours", each)
        results.at_most("read, render, freeze, lint and store / rendering", each / floor["floor"][0], 1.8)
    for length, most in _TOGETHER.items():
        _measure_two_processes(setting, results, length if not setting.quick else length // 10, most)
    long = setting.memory_rows[0] * (1 if setting.quick else 10)
    people = fixtures.write_list(setting.folder / f"people-{long}.csv", long)
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        campaign = write_campaign(Path(name), people, variant="short")
        alone = _seconds([console, "preview", "--terminal", "--rows", "2"], campaign)[1]
        _seconds([console, "check", "--quiet"], campaign)
        again = _seconds([console, "check", "--quiet"], campaign)[1]
        planned = _seconds([console, "send", "--dry-run", "--quiet"], campaign)[1]
    commands = {
        "preview of one row, nothing planned": alone,
        "check again, nothing changed": again,
        "send --dry-run after check": planned,
    }
    for command, seconds in commands.items():
        results.put(section, f"{command}, {long:,} short texts, s", "ours", seconds)
        results.at_most(f"{command}, {long:,} rows", seconds, 0.5, " s")


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
        results.put("plan", label, "ours", min(times) / count * 1e6)
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
