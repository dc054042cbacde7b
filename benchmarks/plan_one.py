"""Plans without a command around them: plan_one.py FOLDER ROWS: one line of JSON.

Bare rendering, a plan of the campaign in FOLDER by one process, and the row rules of the lint take turns.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import builders
import fixtures
from campaign_folders import with_variables

from mailmerge import Campaign

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.check.lint import Lint
    from mailmerge.model import Recipient
    from mailmerge.plan.composer import Composer

ROUNDS = 3
TOGETHER = 20
"""Rows whose messages are made before they are read: as many as the planner makes together."""
WARM_UP = 500
"""Rows in which the first messages of most layouts are."""


def floor() -> Callable[[int], float]:
    """Return what renders a number of rows in Jinja2's sandbox, the very templates of the campaign."""
    mailing = fixtures.mailing("plain")
    text, html = with_variables(mailing, mailing.text), with_variables(mailing, mailing.html)
    render = builders.floor(fixtures.Mailing("plain", mailing.subject, text or "", html, {}), Path())

    def measure(count: int) -> float:
        rows = list(islice(fixtures.rows(count), count))
        began = time.process_time()
        for row in rows:
            render(row)
        return (time.process_time() - began) / count

    return measure


def planned(folder: Path, rows: int) -> float:
    """Plan the campaign again: read, render, build, lint, freeze, store; return the seconds for each row."""
    shutil.rmtree(folder / "cache", ignore_errors=True)
    campaign = Campaign.load(folder)
    began = time.process_time()
    campaign.plan()
    return (time.process_time() - began) / rows


def linted(composer: Composer, lint: Lint, rows: Iterator[Recipient], count: int) -> float:
    """Read the messages of the next rows; return the seconds for each, with the rules of its layout."""
    took = 0.0
    for _ in range(count // TOGETHER):
        rendered = [composer.render(recipient) for recipient in islice(rows, TOGETHER)]
        made = [(one, composer.freeze(one)) for one in rendered]
        began = time.process_time()
        for one, frozen in made:
            lint.examine(one, frozen)
        took += time.process_time() - began
    return took / count


def main() -> None:
    """Measure in turn and report the best of each."""
    folder, rows = Path(sys.argv[1]), int(sys.argv[2])
    os.environ["MAILMERGE_CONFIG"] = str(folder / "config.toml")
    os.environ["MAILMERGE_STATE_DIR"] = str(folder / "state")
    os.environ["MAILMERGE_CACHE_DIR"] = str(folder / "cache")
    definition = Campaign.load(folder).definition
    recipients = definition.open_list()
    composer = definition.composer(recipients)
    lint, several = composer.lint(), iter(recipients)
    linted(composer, lint, several, WARM_UP)
    render = floor()
    few = (rows - WARM_UP) // ROUNDS // TOGETHER * TOGETHER
    floors, plans, rules = [], [], []
    for _ in range(ROUNDS):
        floors.append(render(few))
        plans.append(planned(folder, rows))
        rules.append(linted(composer, lint, several, few))
    print(json.dumps({"floor": min(floors) * 1e6, "plan": min(plans) * 1e6, "lint": min(rules) * 1e6}))


if __name__ == "__main__":
    main()
