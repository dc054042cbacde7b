"""What a run tells while it waits."""

from __future__ import annotations

import contextlib
import signal
from datetime import UTC, datetime, timedelta

import pytest

from mailmerge.cli.progress import Bar, GracefulStop, StoppedError
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
    """The first one is reported; a slow rate does not print a line for each message."""
    bar = Bar()
    for _ in range(5):
        bar.observe(Progress(Counts(), 0, waiting="rate", until=datetime.now(UTC) + timedelta(seconds=10)))
    assert capsys.readouterr().err.count("waiting until") == 1


def test_a_rehearsal_of_several_days_tells_each_night(capsys: pytest.CaptureFixture[str]) -> None:
    """Its clock runs ahead: every wait ends days away, but only some of the waits are long."""
    bar, now = Bar(), datetime.now(UTC)
    for day in range(3):
        for message in range(20):
            until = now + timedelta(days=day, seconds=3 * message)
            bar.observe(Progress(Counts(), 0, waiting="rate", until=until))
    assert capsys.readouterr().err.count("waiting until") == 3


def lose_a_signal() -> None:
    """Be asked to end where the exception that says so is lost, as in `input` while it flushes."""
    with contextlib.suppress(StoppedError):
        signal.raise_signal(signal.SIGTERM)


def test_a_signal_whose_exception_was_lost_still_ends_the_command() -> None:
    """Where sending would begin, where a question is answered, and at the end: nothing is begun after it."""
    stop = GracefulStop()
    with contextlib.suppress(StoppedError), stop:
        lose_a_signal()
        with pytest.raises(StoppedError) as caught:
            stop.begin()
        assert caught.value.code == 143

    with pytest.raises(StoppedError), GracefulStop():
        lose_a_signal()

    with GracefulStop() as stop:
        stop.begin()
        with pytest.raises(StoppedError), stop.at_once():
            lose_a_signal()
        assert stop.flag.is_set()
