"""Reading a CSV list, beside the csv module itself."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import fixtures
from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
ROUNDS = 5


def measure_lists(setting: Setting, results: Results) -> None:
    """Fill in rows a second, the time to the first row, and the growth of memory."""
    short, long = setting.memory_rows
    paths = {rows: fixtures.write_list(setting.folder / f"people-{rows}.csv", rows) for rows in (short, long)}
    middle = fixtures.write_list(setting.folder / "people-50000.csv", 50_000)
    timed = run_json([setting.python, HERE / "lists.py", "time", middle])
    section = "CSV list of 13 columns"
    results.put(section, "rows/s", "ours", 1e6 / timed["ours_us"])
    results.put(section, "rows/s", "stdlib", 1e6 / timed["csv_us"])
    results.put(section, "ms to the first row", "ours", timed["first_ms"])
    results.at_most("CSV rows as dicts / csv.reader + zip", timed["ratio"], 1.2)
    results.at_most("CSV rows with two typed columns / csv.reader + zip", timed["typed_ratio"], 1.6)
    results.at_most("first row of a CSV list", timed["first_ms"], 10, " ms")
    peaks = [_peak(setting, path) for path in paths.values()]
    for rows, peak in zip(paths, peaks, strict=True):
        results.put(section, f"peak memory, MiB, {rows:,} rows", "ours", peak)
    results.at_most(f"memory of reading, {short:,} to {long:,} rows: growth", peaks[1] - peaks[0], 5, " MiB")


def _peak(setting: Setting, path: Path) -> float:
    command = [str(setting.python), str(HERE / "lists.py"), "peak", str(path)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def _time(path: Path) -> None:
    """Let both readers read the whole list in turn."""
    import csv

    from mailmerge.recipients import open_list

    firsts, ours, typed, plain = [], [], [], []
    types = {"points": "decimal", "renewal": "date"}
    count = 0
    for _ in range(ROUNDS):
        began = time.perf_counter()
        next(iter(open_list(path)))
        firsts.append(time.perf_counter() - began)
        began = time.process_time()
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file)
            names = next(reader)
            for cells in reader:
                dict(zip(names, cells, strict=False))
        plain.append(time.process_time() - began)
        began = time.process_time()
        count = sum(1 for row in open_list(path) if row.fields)
        ours.append(time.process_time() - began)
        began = time.process_time()
        for row in open_list(path, types=types):
            row.fields  # noqa: B018  it makes the dict
        typed.append(time.process_time() - began)
    figures = {
        "ours_us": min(ours) / count * 1e6,
        "csv_us": min(plain) / count * 1e6,
        "ratio": min(ours) / min(plain),
        "typed_ratio": min(typed) / min(plain),
        "first_ms": min(firsts) * 1000,
    }
    print(json.dumps(figures))


def _read(path: Path) -> None:
    """Read the list to its end and say what memory that took at most."""
    import resource

    from mailmerge.recipients import open_list

    for _ in open_list(path):
        pass
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)


if __name__ == "__main__":
    {"time": _time, "peak": _read}[sys.argv[1]](Path(sys.argv[2]))
