"""What files made for rows cost: a ticket of samples/workshop by Typst, and the same with a password."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

HERE = Path(__file__).parent
ROUNDS, TIMES = 3, 100
WANTED = 50.0
"""Milliseconds of processor time a PDF: 40 a second on two processors."""
KINDS = {"Typst": "", "Typst, with a password": 'password = "{{ ticket }}"\n'}


def measure_documents(setting: Setting, results: Results) -> None:
    """Fill in milliseconds of processor time a message for each kind."""
    timed = run_json([setting.python, HERE / "documents.py"])
    for kind in KINDS:
        results.put("a message with a PDF that is made, ms of processor time", kind, "ours", timed[kind])
        results.at_most(f"a PDF by {kind}", timed[kind], WANTED, " ms")


def _time() -> None:
    """Plan rows that all need a new PDF, in one process; the best of several turns counts."""
    from mailmerge import Campaign

    sample = (HERE.parent / "samples" / "workshop" / "ticket.typ").read_text("utf-8")
    best: dict[str, float] = {}
    for turn in range(ROUNDS):
        for kind, rule in KINDS.items():
            with tempfile.TemporaryDirectory() as name:
                folder = Path(name, "spring")
                folder.mkdir()
                (folder / "ticket.typ").write_text(sample, "utf-8")
                (folder / "body.txt").write_text("Dear {{ name }}, here is your ticket.\n", "utf-8")
                rows = (f"{turn}-{n},Ana {n},ana{n}@example.org,noon,5 EUR" for n in range(TIMES))
                (folder / "people.csv").write_text(
                    "\n".join(("ticket,name,email,starts,paid", *rows)), "utf-8"
                )
                (folder / "campaign.toml").write_text(
                    'name = "spring"\nvars = { workshop = "W", room = "R" }\n[data]\nsource = "people.csv"\n'
                    '[message]\nfrom = "me@example.org"\nsubject = "Ticket {{ ticket }}"\ntext = "body.txt"\n'
                    f'[[attach]]\ntemplate = "ticket.typ"\n{rule}',
                    "utf-8",
                )
                names = ("STATE_DIR", "CACHE_DIR", "CONFIG")
                environ = {f"MAILMERGE_{one}": str(Path(name, one.lower())) for one in names}
                began = time.process_time()
                plan = Campaign.load(folder, environ=environ).plan()
                took = (time.process_time() - began) / TIMES * 1000
                assert plan.ready == TIMES
                best[kind] = min(took, best.get(kind, took))
    print(json.dumps(best))


if __name__ == "__main__":
    sys.path.append(str(HERE.parent))
    _time()
