"""Whole runs from list to report, and the memory they need."""

from __future__ import annotations

import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fixtures
from campaign_folders import environment, write_campaign, write_rival
from measure import run_json

if TYPE_CHECKING:
    from network import Network
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
RIVAL_ROWS = 200
ROUNDS = 3
_PEAK = """\
import json, os, subprocess, sys, tempfile, time

def processes(root):
    parents = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                parents[int(pid)] = int(stat.read().rpartition(")")[2].split()[1])
        except OSError:
            pass
    found = [root]
    for one in found:
        found += [pid for pid, parent in parents.items() if parent == one]
    return found

def memory(pid):
    try:
        with open(f"/proc/{pid}/smaps_rollup") as shares:
            return next((int(line.split()[1]) for line in shares if line.startswith("Pss:")), 0)
    except OSError:
        return 0

peak = 0
with tempfile.TemporaryFile("w+") as said:
    command = subprocess.Popen(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=said)
    while command.poll() is None:
        peak = max(peak, sum(map(memory, processes(command.pid))))
        time.sleep(0.02)
    said.seek(0)
    print(json.dumps([command.returncode, said.read()[-400:], peak]))
"""
"""Finds the most memory that a command and its processes had at one moment, in KiB.

The proportional set size (PSS) counts a page that several processes share, such as Python's own code, once in
all, not once in each of them.
"""


def measure_runs(setting: Setting, network: Network, port: int, results: Results) -> None:
    """Send the same newsletter with ours and with awdeorio's mailmerge to the free server."""
    section = "whole run: list, check, build, ledger, session, report; messages/s"
    count = setting.run_rows
    people = fixtures.write_list(setting.folder / f"people-{count}.csv", count)
    few = fixtures.write_list(setting.folder / f"people-{RIVAL_ROWS}.csv", RIVAL_ROWS)
    rates = {"ours": _measure_overlap(setting, network, port, people, results)}
    send = [str(setting.python.with_name("mailmerge")), "send", "--yes", "--quiet", "--jobs", "2"]
    with tempfile.TemporaryDirectory(dir=setting.folder) as name:
        folder = Path(name)
        for _ in range(ROUNDS):
            campaign = write_campaign(
                folder / "window", people, host=network.host, port=port, pipeline="window"
            )
            took = _timed([*network.on_client(), *send], campaign)
            rates["window"] = max(rates.get("window", 0.0), count / took)
            shutil.rmtree(campaign)
            rival = write_rival(folder / "rival", few, network.host, port)
            command = [str(setting.rival.with_name("mailmerge")), "--no-dry-run", "--no-limit"]
            took = _timed([*network.on_client(), *command], rival)
            rates["rival"] = max(rates.get("rival", 0.0), RIVAL_ROWS / took)
        alone = write_campaign(folder / "alone", people)
        dry = run_json([setting.python, HERE / "whole_one.py", alone, count])
    for column, rate in rates.items():
        results.put(section, f"{count:,} newsletters, free server (mailmerge: {RIVAL_ROWS})", column, rate)
    whole = dry["plan_us"] + dry["send_us"] + dry["report_us"]
    bare = 1e6 / dry["floor_us"]
    results.put(section, "the same without a network, processor time", "ours", 1e6 / whole)
    results.note(f"Bare rendering of that newsletter: {bare:,.0f}/s of one core.")
    results.at_least("whole run in window, --jobs 2 / bare rendering", rates["window"] / bare, 0.4)
    results.at_least(
        "whole run in window, --jobs 2 / awdeorio's mailmerge", rates["window"] / rates["rival"], 20
    )
    results.at_most("list + check + build + ledger + report, no network / rendering", whole * bare / 1e6, 2.6)
    sending, reporting = (dry[part] * bare / 1e6 for part in ("send_us", "report_us"))
    results.at_most("send from a finished plan, no network, no report / rendering", sending, 0.8)
    results.at_most("the report of it / rendering", reporting, 0.25)


def _measure_overlap(setting: Setting, network: Network, port: int, people: Path, results: Results) -> float:
    """Send in overlap, and return the best rate.

    Each message waits for a commit of its own, so rendering is not the measure of it: the disk is. The disk
    changes from minute to minute, so each run takes turns with what it is compared with.
    """
    count = setting.run_rows
    console = str(setting.python.with_name("mailmerge"))
    turns: list[tuple[float, float, float]] = []
    for _ in range(ROUNDS):
        with tempfile.TemporaryDirectory(dir=setting.folder) as name:
            folder = Path(name)
            run = write_campaign(folder / "run", people, host=network.host, port=port, pipeline="overlap")
            command = [console, "send", "--yes", "--quiet", "--jobs", "2"]
            took = _timed([*network.on_client(), *command], run) / count
            commit = run_json([setting.python, HERE / "ledgers.py", folder])["1"] / 1e6
            planned = write_campaign(folder / "planned", people)
            plan = _timed([console, "check", "--quiet", "--jobs", "2"], planned) / count
            turns.append((took, plan, commit))
    plan, commit = (statistics.median(turn[part] for turn in turns) * 1e6 for part in (1, 2))
    results.note(f"Planning: {plan:,.0f} us a row, one durable commit: {commit:,.0f} us.")
    ratio = statistics.median(took / (plan + commit) for took, plan, commit in turns)
    results.at_most("whole run in overlap, --jobs 2 / (plan + one commit a message)", ratio, 1.15)
    return 1 / min(took for took, _, _ in turns)


def measure_memory(setting: Setting, network: Network, port: int, results: Results) -> None:
    """Find the peak memory of checks and runs over a short and a long list."""
    peaks: dict[str, list[float]] = {"check": [], "send": []}
    short, long = setting.memory_rows
    for rows in (short, long):
        people = fixtures.write_list(setting.folder / f"people-{rows}.csv", rows)
        with tempfile.TemporaryDirectory(dir=setting.folder) as name:
            campaign = write_campaign(
                Path(name), people, variant="short", host=network.host, port=port, pipeline="window"
            )
            for command, options in (("check", []), ("send", ["--yes"])):
                console = str(setting.python.with_name("mailmerge"))
                peak = _peak([*network.on_client(), console, command, "--quiet", *options], campaign)
                peaks[command].append(peak)
                results.put(
                    "peak memory of all processes, MiB (short text)",
                    f"{command}, {rows:,} rows",
                    "ours",
                    peak,
                )
    for command, (least, most) in peaks.items():
        results.at_most(f"memory of {command}, {short:,} to {long:,} rows: growth", most - least, 25, " MiB")


def _timed(command: list[str], folder: Path) -> float:
    began = time.perf_counter()
    done = subprocess.run(
        command, cwd=folder, check=False, capture_output=True, text=True, env=environment(folder)
    )
    if done.returncode:
        raise RuntimeError(f"{command}: {done.stderr[-600:] or done.stdout[-600:]}")
    return time.perf_counter() - began


def _peak(command: list[str], folder: Path) -> float:
    done = subprocess.run(
        [sys.executable, "-c", _PEAK, *command],
        cwd=folder,
        check=True,
        capture_output=True,
        env=environment(folder),
    )
    code, said, peak = json.loads(done.stdout)
    if code:
        raise RuntimeError(f"{command}: {said}")
    return float(peak) / 1024
