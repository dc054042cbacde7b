"""Where files of single rows change, only these are planned again; the plan is as if made from nothing."""

from __future__ import annotations

import os
import shutil
import time
from typing import TYPE_CHECKING

import msgspec
import pytest
from msgspec.structs import replace

from campaigns import CampaignFactory
from mailmerge.model import Status
from mailmerge.plan.facts import Facts
from mailmerge.plan.rows import PlanSummary
from mailmerge.plan.sqlite_store import SqlitePlanReader

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.campaign.plan import Plan

ROWS = 60
HTML = """<html lang="en"><p>Dear {{ name }}</p>
{% if n|int % 20 == 7 %}<p style="display: grid">x</p>{% endif %}
{% if n|int == 32 %}<p style="display: flex">x</p>{% endif %}</html>
"""
ATTACH = """[[attach]]
path = "files/{{ n }}.pdf"
[[attach]]
path = "notes/{{ n }}-*.txt"
missing = "skip"
"""


@pytest.fixture
def factory(tmp_path: Path) -> CampaignFactory:
    """A campaign with a file for each row but every ninth, none of them touched lately."""
    return filled(CampaignFactory(tmp_path), ROWS)


def filled(factory: CampaignFactory, rows: int, **more: str) -> CampaignFactory:
    lines = [f"{email(n, rows)},{name(n)},{n}" for n in range(rows)]
    factory(
        {"body.html": HTML, "maps/all.txt": "for all"},
        rows=lines,
        heading="email,name,n",
        message="headers.List-Unsubscribe = '<https://example.org/u/{{ n }}>'",
        rest=ATTACH,
        **more,
    )
    for folder in ("files", "notes"):
        (factory.folder / folder).mkdir()
    for n in range(rows):
        if n % 9 != 4:
            (factory.folder / "files" / f"{n}.pdf").write_bytes(b"pdf of %d" % n)
    (factory.folder / "notes" / "12-a.txt").write_bytes(b"note")
    for path in [*factory.folder.rglob("*"), factory.folder]:
        os.utime(path, ns=(1, time.time_ns() - 3_600_000_000_000))
    return factory


def email(n: int, rows: int) -> str:
    domain = "example.org" if n % 2 else "gmail.com"
    return "nobody" if n % 25 == 3 else f"p{n % (rows - 4)}@{domain}"


def name(n: int) -> str:
    return "" if n % 11 == 2 else f"P{n}"


def contents(plan: Plan) -> dict[str, object]:
    """Return all of a plan except when it was made."""
    assert plan.kept is not None
    with SqlitePlanReader(plan.kept.with_suffix("")) as reader:
        rows = list(reader.rows())
        facts = Facts.decode(reader.facts)
        assert facts is not None
        return {
            "summary": msgspec.msgpack.decode(reader.summary, type=PlanSummary),
            "rows": rows,
            "messages": [reader.message(row.message) for row in rows if row.message is not None],
            "findings": list(reader.findings()),
            # Whether a file is young depends on how long the test takes.
            "paths": [replace(one, young=False) for one in facts.looked_at.paths],
            "patterns": facts.looked_at.patterns,
        }


def both(factory: CampaignFactory, cache: Path) -> tuple[Plan, dict[str, object], dict[str, object]]:
    """Plan with what there is from before, and from nothing."""
    plan = factory.open().check()
    renewed = contents(plan)
    shutil.rmtree(cache)
    return plan, renewed, contents(factory.open().check())


CHANGES: dict[str, tuple[Callable[[Path], object], int | None]] = {
    "one file changed": (lambda files: (files / "10.pdf").write_bytes(b"other"), 1),
    "one file appeared": (lambda files: (files / "13.pdf").write_bytes(b"new"), 7),
    "one file is gone": (lambda files: (files / "16.pdf").unlink(), 8),
    "a file cannot be sent": (lambda files: (files / "10.pdf").write_bytes(b""), 1),
    "one pattern matches more": (lambda files: (files.parent / "notes" / "14-b.txt").write_bytes(b"b"), 1),
    "the first row has no message now": (lambda files: (files / "0.pdf").unlink(), None),
    "a layout of its own is gone": (lambda files: (files / "32.pdf").unlink(), None),
    "the first of a layout is made anew": (lambda files: (files / "7.pdf").write_bytes(b"7"), 1),
    "several": (lambda files: [(files / f"{n}.pdf").write_bytes(b"x") for n in (4, 10, 22, 59)], 9),
    "the text changed": (lambda files: (files.parent / "body.txt").write_text("Hi {{ name }}\n"), None),
    "too many": (lambda files: [(files / f"{n}.pdf").write_bytes(b"x") for n in range(ROWS)], None),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_renewed_plan_is_like_one_made_from_nothing(
    factory: CampaignFactory, tmp_path: Path, change: str
) -> None:
    """Rows, messages, findings, what is told of the whole and the facts are the same, whatever changes."""
    factory.open().check()
    alter, anew = CHANGES[change]
    alter(factory.folder / "files")

    plan, renewed, fresh = both(factory, tmp_path / "cache")

    assert plan.anew == anew
    assert renewed == fresh
    assert {Status.PENDING, Status.INVALID} <= set(plan.statuses)


def test_it_is_renewed_again(factory: CampaignFactory, tmp_path: Path) -> None:
    """A plan that was renewed can be renewed again, and is then valid."""
    factory.open().check()
    for n in (10, 11, 10):
        (factory.folder / "files" / f"{n}.pdf").write_bytes(b"%d" % time.time_ns())
        assert factory.open().check().anew == 1

    plan, renewed, fresh = both(factory, tmp_path / "cache")
    assert (plan.anew, plan.planned is not None) == (None, True)
    assert renewed == fresh


def test_of_hundreds_of_files_one_changes(tmp_path: Path) -> None:
    """One of 300 rows is planned again."""
    factory = filled(CampaignFactory(tmp_path), 300)
    factory.open().check()
    (factory.folder / "files" / "200.pdf").write_bytes(b"corrected")

    plan, renewed, fresh = both(factory, tmp_path / "cache")

    assert (plan.anew, plan.changes) == (1, ("files/200.pdf changed",))
    assert renewed == fresh
