"""What a run tells while it waits."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mailmerge.cli.progress import Bar
from mailmerge.model import Counts
from mailmerge.sending.runs import Progress


@pytest.mark.parametrize(
    ("why", "words"),
    [
        ("rate", "the rate"),
        ("network", "no connection"),
        ("account", "the server asked for a pause"),
        ("deferred", "rows that were deferred until then"),
    ],
)
def test_a_wait_says_why_and_until_when(why: str, words: str, capsys: pytest.CaptureFixture[str]) -> None:
    """One line, with the time of day, or the date where it is another one."""
    until = datetime.now(UTC) + timedelta(days=3)
    Bar().observe(Progress(Counts(), 0, waiting=why, until=until))
    assert capsys.readouterr().err == f"waiting until {until.astimezone():%Y-%m-%d %H:%M} ({words})\n"


def test_waits_between_two_messages_are_told_now_and_then(capsys: pytest.CaptureFixture[str]) -> None:
    """The first one; a slow rate is no reason for a line a message."""
    bar = Bar()
    for _ in range(5):
        bar.observe(Progress(Counts(), 0, waiting="rate", until=datetime.now(UTC) + timedelta(seconds=10)))
    assert capsys.readouterr().err.count("waiting until") == 1
