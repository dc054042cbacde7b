"""What it costs to promise and to settle a message on disk: ledgers.py FOLDER prints one line of JSON."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from measure import run_json

if TYPE_CHECKING:
    from setting import Setting
    from table import Results

    from mailmerge.model import Attempt

GROUPS = (1, 16, 64)
MESSAGES = 3200


def measure_ledger(setting: Setting, results: Results) -> None:
    """Fill in microseconds a message for several group sizes."""
    with tempfile.TemporaryDirectory(dir=setting.folder) as folder:
        found = run_json([setting.python, Path(__file__), folder])
    alone = results.get("build, messages/s of one core", "newsletter", "ours")
    ratio = results.get("build / rendering alone (nodemailer: nunjucks)", "newsletter", "ours")
    floor = 1e6 / alone * ratio**-1 if alone and ratio else None
    for group in GROUPS:
        cost = found[str(group)]
        results.put(
            "ledger, us/message (intent and outcome, synchronous=FULL)", f"groups of {group}", "ours", cost
        )
        if floor and group > 1:
            results.at_most(f"ledger in groups of {group} / rendering", cost / floor, 0.25)


def attempt(key: str, row: int, moment: datetime) -> Attempt:
    """Return what is recorded of the first attempt to send a newsletter."""
    from mailmerge.model import Attempt

    return Attempt(
        key=key,
        row=row,
        address=key,
        number=1,
        message_id=f"<{row:040x}@example.com>",
        date=moment,
        recipients=1,
        size=19_000,
        digest="0" * 64,
        frozen="0" * 64,
        row_digest="0" * 16,
        version="version",
        connection="0" * 12,
    )


def _attempts(group: int) -> float:
    """Promise and settle in groups; each commit carries the outcomes of the group before."""
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import Outcome, Phase, Reply, Scope, Status

    now = datetime.now(UTC)
    outcome = Outcome(
        Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250, ("2.0.0 Ok: queued as 4F1A2B3C",))
    )
    count = MESSAGES if group > 1 else MESSAGES // 8
    attempts = [attempt(f"user{number}@example.com", number + 2, now) for number in range(count)]
    with Ledger.open(Path(sys.argv[1], f"ledger-{group}.db"), "benchmark") as ledger:
        ledger.note_version("version", {})
        ledger.start_run("send", "version")
        settled: list[Settlement] = []
        began = time.perf_counter()
        for start in range(0, count, group):
            part = attempts[start : start + group]
            ledger.attempts.record_intent(part, settled)
            settled = [
                Settlement(attempt, outcome, Status.ACCEPTED, now, None, counts=True) for attempt in part
            ]
        ledger.attempts.record_outcomes(settled)
        return (time.perf_counter() - began) / count * 1e6


if __name__ == "__main__":
    print(json.dumps({group: _attempts(group) for group in GROUPS}))
