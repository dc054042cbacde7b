"""`mailmerge rehearse` on bad days: what the built-in server does, and what the run makes of it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest

from reliability.bench import Bench

if TYPE_CHECKING:
    from pathlib import Path

ROWS = 40


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    """A campaign without an account: a rehearsal needs none."""
    bench = Bench(tmp_path / "bench", rows=ROWS)
    toml = bench.folder / "campaign.toml"
    toml.write_text(toml.read_text().replace('account = "test"\n', ""))
    return bench


@pytest.mark.parametrize(
    ("options", "code", "says"),
    [
        (["--drop", "10%"], 4, r"(3\d) accepted +(\d) in doubt"),
        (["--drop", "10%", "--pipeline", "window"], 4, r"(\d\d) accepted +(\d+) in doubt"),
        (["--drop-after-data", "10%"], 4, r"(3\d) accepted +(\d) in doubt"),
        (["--per-connection", "7"], 0, r"(40) accepted()"),
        (["--per-minute", "15", "--wait"], 0, r"(40) accepted()"),
        (["--greylist", "5m", "--wait"], 0, r"(40) accepted()"),
        (["--greylist", "5m"], 5, r"(40) deferred()"),
        (["--fail", "550 5.1.1 gone:10%", "--fail", "mail:421:3%"], 3, r"(3\d) accepted +(\d) rejected"),
        (["--refuse-sign-in", "microsoft365"], 6, r"()(40) pending"),
        (["--fail", "auth:454:100%"], 5, r"()(40) pending"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_b_a_bad_day_rehearsed(options: list[str], code: int, says: str, bench: Bench) -> None:
    """Whatever the server does, all rows have a state, nobody is written to twice, and the end says so."""
    done = bench.mailmerge("rehearse", bench.folder, "--seed", "5", "--rate", "10/s", *options)
    print(*options, "seed 5")  # noqa: T201  shown where it fails
    assert done.code == code, done
    found = re.search(says, done.out)
    assert found, done
    assert sum(int(number) for number in found.groups() if number) == ROWS
    kept = list((bench.folder / "out" / "rehearsal" / "messages").iterdir())
    taken = [path.name.partition("-")[2] for path in kept]
    assert len(set(taken)) == len(taken)
    assert not bench.ledger_path.exists()
    assert "  via the built-in server\n" in done.err
    if took := re.search(r"would take about (.+)\.\n", done.err):  # what the report itself says
        assert f"after {took[1]}<" in (bench.folder / "out" / "rehearsal" / "report.html").read_text("utf-8")
    if code == 6:
        assert "535 5.7.139 SmtpClientAuthentication is disabled" in done.err
