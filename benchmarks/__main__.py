"""Run the benchmarks: python benchmarks [--quick] [--only PART ...]."""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from bodies import measure_bodies
from building import measure_building
from documents import measure_documents
from fleet import measure_fleet
from formats import measure_formats
from guarding import measure_guard
from ledgers import measure_ledger
from lists import measure_lists
from network import network
from planning import measure_planning
from running import measure_memory, measure_runs
from session import measure_sessions, measure_throttle
from setting import Setting
from signatures import measure_signatures
from sinks import sinks
from starting import measure_starting
from table import Results
from workbooks import measure_workbooks

if TYPE_CHECKING:
    from collections.abc import Callable

ROOT = Path(__file__).resolve().parent.parent
PARTS = (
    *("build", "bodies", "plan", "sign", "guard", "documents", "start"),
    *("lists", "workbooks", "formats", "ledger", "fleet"),
    *("session", "throttle", "run", "memory"),
)


def main() -> int:
    """Measure, print the table, write it down."""
    parser = argparse.ArgumentParser(prog="benchmarks")
    parser.add_argument("--quick", action="store_true", help="about three minutes")
    parser.add_argument(
        "--only", nargs="+", choices=PARTS, default=PARTS, metavar="PART", help=", ".join(PARTS)
    )
    parser.add_argument("--write", action="store_true", help="put the table into RESULTS.md, too")
    asked = parser.parse_args()
    place = ROOT / "build" / "bench"
    folder = place / "work"
    folder.mkdir(parents=True, exist_ok=True)
    setting = Setting(
        folder=folder,
        python=Path(sys.executable),
        rival=place / "rival" / "bin" / "python",
        modules=place / "node" / "node_modules",
        node=bool(shutil.which("node")) and (place / "node" / "node_modules" / "nodemailer").is_dir(),
        quick=asked.quick,
    )
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # and so end what was started
    results, saved = Results(), place / "results.json"
    results.load(saved)
    began = time.monotonic()
    measure(setting, set(asked.only), results)
    results.save(saved)
    text = results.markdown(PARTS)
    print(text)
    print(f"{(time.monotonic() - began) / 60:.1f} minutes", file=sys.stderr)
    if asked.write:
        (ROOT / "benchmarks" / "RESULTS.md").write_text(f"# Results\n\n{text}", "utf-8")
    return 0


def measure(setting: Setting, parts: set[str], results: Results) -> None:
    """Measure the parts that were asked for; one that fails is noted and does not end the others."""
    run = headline(setting.quick)

    def attempt(part: str, do: Callable[[], None]) -> None:
        if part not in parts:
            return
        print(f"measuring: {part}", file=sys.stderr, flush=True)
        results.begin(part, run)
        try:
            do()
        except (OSError, RuntimeError, KeyError, subprocess.SubprocessError) as error:
            results.note(f"{part}: not measured to its end: {error}")

    attempt("build", lambda: measure_building(setting, results))
    attempt("bodies", lambda: measure_bodies(setting, results))
    attempt("plan", lambda: measure_planning(setting, results))
    attempt("sign", lambda: measure_signatures(setting, results))
    attempt("documents", lambda: measure_documents(setting, results))
    attempt("guard", lambda: measure_guard(setting, results))
    attempt("start", lambda: measure_starting(setting, results))
    attempt("lists", lambda: measure_lists(setting, results))
    attempt("workbooks", lambda: measure_workbooks(setting, results))
    attempt("formats", lambda: measure_formats(setting, results))
    attempt("ledger", lambda: measure_ledger(setting, results))
    attempt("fleet", lambda: measure_fleet(setting, results))
    if not parts & {"session", "throttle", "run", "memory"}:
        return
    with network(setting.folder) as line, sinks(line, setting.folder) as ports:
        attempt("session", lambda: measure_sessions(setting, line, ports, results))
        attempt(
            "throttle", lambda: measure_throttle(setting, line, ports.get("postfix", ports["csink"]), results)
        )
        line.set_line(0)
        attempt("run", lambda: measure_runs(setting, line, ports["csink"], results))
        attempt("memory", lambda: measure_memory(setting, line, ports["csink"], results))


def headline(quick: bool) -> str:
    """Return when and on what this was measured."""
    model = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [
            line.partition(":")[2].strip()
            for line in info.read_text().splitlines()
            if line.startswith("model name")
        ]
        model = names[0] if names else model
    how = "short" if quick else "full"
    return (
        f"{datetime.now(UTC):%Y-%m-%d}, {how} measurement, Python {platform.python_version()}, "
        f"{os.cpu_count()} x {model}, {platform.system()} {platform.release()}, "
        f"load {os.getloadavg()[0]:.1f} at the start"
    )


if __name__ == "__main__":
    sys.exit(main())
