"""A whole run without a network: whole_one.py FOLDER ROWS: one line of JSON.

Bare rendering and our run of the campaign in FOLDER (list, check, build, ledger on disk, report) take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import builders
import fixtures

from campaigns import with_variables
from mailmerge import Campaign
from mailmerge.campaign import connect
from mailmerge.model import Outcome, Phase, Reply, Scope, Status
from mailmerge.smtp.state import Completed, InStep, ReleaseNeeded

if TYPE_CHECKING:
    from collections.abc import Generator, Iterable, Iterator

ROUNDS = 3
WINDOW = 64


class Yes:
    """A connection to nowhere that accepts everything immediately."""

    id = "nowhere"
    mode = "window"
    max_size = None
    wants_write = False

    def __init__(self) -> None:
        self._events: list[Any] = []
        self.in_flight = 0
        self._outcome = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250, ("Ok",)))

    def opening(self) -> Iterator[Any]:
        """Wait for nothing."""
        return iter(())

    def can_accept(self, _interval: float = 0.0) -> bool:
        """Return whether the window is open."""
        return self.in_flight < WINDOW

    def submit(self, _message: object, token: int) -> None:
        """Ask for the promise."""
        self.in_flight += 1
        self._events.append(ReleaseNeeded(token))

    def release(self, tokens: Iterable[int]) -> None:
        """Accept what is promised."""
        accepted = tuple(tokens)
        self._events += (Completed(token, self._outcome) for token in accepted)
        self._events.append(InStep(accepted))

    def poll(self, _timeout: float) -> list[Any]:
        """Return what happened."""
        events, self._events = self._events, []
        self.in_flight -= sum(isinstance(event, Completed) for event in events)
        return events

    def probing(self) -> Generator[Any, None, bool]:
        """Report that all is well, and wait for nothing."""
        yield from ()
        return True

    def fileno(self) -> int:
        """Return nothing to wait for."""
        return -1

    def abort(self) -> list[Any]:
        """Do nothing."""
        return []

    def close(self, *, within: float = 0.0) -> list[Any]:  # noqa: ARG002
        """Do nothing."""
        return []


def bare(count: int) -> float:
    """Render the templates for *count* rows in Jinja2's sandbox; return the seconds."""
    mailing = fixtures.mailing("plain")
    text, html = with_variables(mailing, mailing.text), with_variables(mailing, mailing.html)
    render = builders.floor(fixtures.Mailing("plain", mailing.subject, text or "", html, {}), Path())
    rows = list(islice(fixtures.rows(count), count))
    began = time.process_time()
    for row in rows:
        render(row)
    return time.process_time() - began


def run(folder: Path) -> float:
    """Send the campaign to nobody; return the seconds."""
    with tempfile.TemporaryDirectory(dir=folder) as state:
        os.environ["MAILMERGE_CONFIG"] = str(folder / "config.toml")
        os.environ["MAILMERGE_STATE_DIR"] = state
        os.environ["MAILMERGE_CACHE_DIR"] = f"{state}/cache"
        began = time.process_time()
        report = Campaign.load(folder).send(confirm=lambda _plan: True)
        took = time.process_time() - began
    shutil.rmtree(folder / ".mailmerge")
    if report is None or report.exit_code:
        raise RuntimeError(f"the run failed: {report}")
    return took


def main() -> None:
    """Measure in turn and report the medians."""
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    replaced: Any = connect
    replaced.connection_factory = lambda *_args, **_options: Yes
    floors, runs = [], []
    for _ in range(ROUNDS):
        floors.append(bare(rows))
        runs.append(run(folder))
    floor, whole = min(floors), min(runs)
    print(json.dumps({"floor_us": floor / rows * 1e6, "run_us": whole / rows * 1e6, "ratio": whole / floor}))


if __name__ == "__main__":
    main()
