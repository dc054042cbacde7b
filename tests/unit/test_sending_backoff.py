"""How long to wait: retry times, reconnects, pauses that a server orders."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.options import SendOptions
from mailmerge.sending.policy import RetryPolicy, reconnect_delay
from mailmerge.sending.throttle import pause_length

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
RETRY = RetryPolicy(SendOptions().retry)


def middle() -> float:
    """No jitter."""
    return 0.5


# --- rows -----------------------------------------------------------------------------------------------


@given(tries=st.integers(1, 7), chance=st.floats(0, 1, exclude_max=True))
def test_waits_follow_the_table_within_a_fifth(tries: int, chance: float) -> None:
    """Each wait is the table's, plus or minus 20 %."""
    at = RETRY.next_at(tries, NOW, NOW, lambda: chance)
    assert at is not None
    expected = [60, 300, 900, 3600, 10800, 21600, 43200][tries - 1]
    assert 0.8 * expected <= (at - NOW).total_seconds() <= 1.2 * expected


def test_a29_eight_tries_or_two_days_are_enough() -> None:
    """The eighth refusal, or any refusal 48 hours after the first try, lets the row expire."""
    assert RETRY.next_at(7, NOW, NOW, middle) is not None
    assert RETRY.next_at(8, NOW, NOW, middle) is None
    assert RETRY.next_at(2, NOW, NOW + timedelta(hours=48), middle) is None


def test_a_server_that_names_a_time_gets_at_least_that() -> None:
    """The longer of the table's and the server's wait counts, and jitter never shortens the server's."""
    assert RETRY.next_at(1, NOW, NOW, lambda: 0.0, asked=300) == NOW + timedelta(seconds=300)
    assert RETRY.next_at(5, NOW, NOW, middle, asked=300) == NOW + timedelta(hours=3)


def test_never_means_that_no_row_waits() -> None:
    """Without any pause the first refusal is the last one."""
    assert RetryPolicy(()).next_at(1, NOW, NOW, middle) is None
    assert RetryPolicy(()).next_at(1, NOW, NOW, middle, asked=300) is None


# --- connections ----------------------------------------------------------------------------------------


def test_a22_reconnects_for_ten_minutes() -> None:
    """1, 2, 4 .. 60 seconds apart, ten minutes in total."""
    now, waits = 1000.0, list[float]()
    while (delay := reconnect_delay(len(waits) + 1, 1000.0, now, connected=True)) is not None:
        waits.append(delay)
        now += delay
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert 540 <= now - 1000.0 <= 600


def test_a23_three_tries_at_the_start() -> None:
    """A server that was never reached is tried three times."""
    assert [reconnect_delay(n, 0.0, 0.0, connected=False) for n in (1, 2, 3)] == [1, 2, None]


# --- pauses ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("asked", "lengths"),
    [
        (1, [5, 10, 30, 1200, 1200]),
        (5, [5, 10, 30, 1200, 1200]),
        (6, [6, 12, 24, 48, 96]),
        (900, [900, 1800, 3600, 7200, 14400, 14400]),
        (3 * 3600, [3 * 3600, 4 * 3600, 4 * 3600]),
        (5 * 3600, [5 * 3600, 5 * 3600]),
    ],
)
def test_a27_pauses_in_a_row_grow(asked: float, lengths: list[float]) -> None:
    """Short ones in steps to twenty minutes; longer ones double up to four hours, or what was asked for."""
    assert [pause_length(asked, orders) for orders in range(len(lengths))] == lengths
