"""What it costs to write a number by its number format."""

from __future__ import annotations

import json
import random
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
ROUNDS = 5
CELLS = 20_000
TYPICAL = (
    "General",
    "0",
    "0.00",
    "#,##0.00",
    '#,##0.00 "€"',
    "00000",
    "0%",
    "dd.mm.yyyy",
    "yyyy-mm-dd",
    "h:mm",
    "[h]:mm",
)
RARE = (
    '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-;_-* "-"??\\ "€"_-;_-@_-',
    "[$-407]dddd, d. mmmm yyyy",
    "yyyy-mm-dd hh:mm:ss",
    "h:mm AM/PM",
    "000-00-0000",
    "0.00E+00",
    "# ??/??",
    '[>=1000]0.0,"k";0',
)


def measure_formats(setting: Setting, results: Results) -> None:
    """Fill in microseconds a cell for each format, on average and at worst."""
    timed = run_json([setting.python, HERE / "formats.py"])
    section = "a number by its format, us/cell"
    for code in (*TYPICAL, *RARE):
        results.put(section, f"`{code}`", "ours", timed[code])
    average = sum(timed[code] for code in TYPICAL) / len(TYPICAL)
    results.at_most("a number by a typical format, on average", average, 1, " us")
    results.at_most("a number by any format", max(timed.values()), 5, " us")


def _time() -> None:
    """Write different numbers by each format; the best of several turns counts."""
    from mailmerge.values.number_format import EPOCH, number_format

    chance = random.Random(716)
    sums = [round(chance.uniform(-1000, 100_000), chance.randrange(4)) for _ in range(CELLS)]
    days = [float(chance.randrange(14_000, 47_000)) + chance.randrange(1440) / 1440 for _ in range(CELLS)]
    best: dict[str, float] = {}
    for _ in range(ROUNDS):
        for code in (*TYPICAL, *RARE):
            compiled = number_format(code)
            show = compiled.show
            numbers = days if compiled.kind in {"date", "datetime", "time"} else sums
            began = time.process_time()
            for number in numbers:
                show(number, EPOCH)
            took = (time.process_time() - began) / CELLS * 1e6
            best[code] = min(took, best.get(code, took))
    print(json.dumps(best))


if __name__ == "__main__":
    sys.path.append(str(HERE.parent))
    _time()
