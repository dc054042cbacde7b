"""A whole run without a network: whole_one.py FOLDER ROWS: one line of JSON.

Bare rendering and our run of the campaign in FOLDER (plan, ledger on disk, report) take turns. The run is
measured in three parts: planning it, sending what is planned, and the report.
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
from typing import TYPE_CHECKING, Any, cast

import builders
import fixtures
from campaign_folders import with_variables

from mailmerge import Campaign
from mailmerge.campaign import run as runs
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


def run(folder: Path) -> tuple[float, float, float]:
    """Send the campaign to nobody; return the seconds of planning, of sending, and of the report."""
    reports: list[float] = []
    write, replaced = runs.Run.report, cast("Any", runs.Run)

    def timed(*arguments: Any) -> object:
        began = time.process_time()
        report = write(*arguments)
        reports.append(time.process_time() - began)
        return report

    replaced.report = timed
    try:
        with tempfile.TemporaryDirectory(dir=folder) as state:
            os.environ["MAILMERGE_CONFIG"] = str(folder / "config.toml")
            os.environ["MAILMERGE_STATE_DIR"] = state
            os.environ["MAILMERGE_CACHE_DIR"] = f"{state}/cache"
            began = time.process_time()
            Campaign.load(folder).check()
            planned = time.process_time()
            report = Campaign.load(folder).send(confirm=lambda _plan: True)
            ended = time.process_time()
    finally:
        replaced.report = write
    shutil.rmtree(folder / ".mailmerge")
    if report is None or report.exit_code:
        raise RuntimeError(f"the run failed: {report}")
    (reporting,) = reports
    return planned - began, ended - planned - reporting, reporting


def main() -> None:
    """Measure in turn and report the least of each part."""
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    replaced: Any = runs
    replaced.connection_factory = lambda *_args, **_options: Yes
    floors, whole = [], []
    for _ in range(ROUNDS):
        floors.append(bare(rows))
        whole.append(run(folder))
    parts = [min(floors), *map(min, zip(*whole, strict=True))]
    names = ("floor_us", "plan_us", "send_us", "report_us")
    print(json.dumps({name: part / rows * 1e6 for name, part in zip(names, parts, strict=True)}))


if __name__ == "__main__":
    main()
