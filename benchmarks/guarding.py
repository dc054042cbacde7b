"""What it costs to read a file and see whom it names: ten kinds, in a list of a thousand people."""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
ROWS, SEED = 1000, 1
WANTED = 10.0


def measure_guard(setting: Setting, results: Results) -> None:
    """Fill in milliseconds of processor time a file for each kind."""
    timed = run_json([setting.python, HERE / "guarding.py", 100 if setting.quick else ROWS])
    for kind, took in timed.items():
        results.put("the attachment guard, ms/file", kind, "ours", took)
    results.at_most("the attachment guard, the slowest kind of file", max(timed.values()), WANTED, " ms")


def _time(count: int) -> None:
    """Read so many files of each kind; making them is not measured."""
    from attachment_corpus import KINDS, corpus, file_of
    from mailmerge.attachment_guard.extraction import extract
    from mailmerge.attachment_guard.naming import Identities

    took = {}
    for kind, suffix in KINDS.items():
        made = corpus(kind, SEED, ROWS)
        files = [file_of(suffix, text) for text in made.texts[:count]]
        began = time.process_time()
        identities = Identities()
        for n, (address, key, first, last) in enumerate(made.rows):
            identities.add(n, key=key, addresses=[address], names=[f"{first} {last}".strip()])
        seen = [identities.see(extract(data, suffix).text, (n,)) for n, data in enumerate(files)]
        for sighting in seen:
            identities.judge(sighting)
        took[f"{kind} ({suffix})"] = (time.process_time() - began) / count * 1000
    print(json.dumps(took))


if __name__ == "__main__":
    sys.path += [str(HERE.parent), str(HERE.parent / "tests")]
    _time(int(sys.argv[1]))
