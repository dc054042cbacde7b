"""Retry times, breaker, verdicts, patience: the pure rules around the send loop."""

from __future__ import annotations

import math
import re
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailmerge.clock import ClockWatch, SystemClock, VirtualClock
from mailmerge.model import Outcome, Phase, Reply, Scope, Status
from mailmerge.options import CAMPAIGN, SendOptions
from mailmerge.sending.backoff import ReconnectBackoff, ServerPause
from mailmerge.sending.circuit_breaker import Breaker
from mailmerge.sending.policy import Effect, judge
from mailmerge.sending.retry import RetryPolicy

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ACCEPTED = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250))
REJECTED = Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550), "recipient")
DOUBT = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT)


def middle() -> float:
    """No jitter."""
    return 0.5


# --- retry ----------------------------------------------------------------------------------------------


@given(tries=st.integers(1, 7), chance=st.floats(0, 1, exclude_max=True))
def test_waits_follow_the_table_within_a_fifth(tries: int, chance: float) -> None:
    """Each wait is the table's, plus or minus 20 %."""
    policy = RetryPolicy(SendOptions().retry)
    at = policy.next_at(tries, NOW, NOW, lambda: chance)
    assert at is not None
    expected = [60, 300, 900, 3600, 10800, 21600, 43200][tries - 1]
    assert 0.8 * expected <= (at - NOW).total_seconds() <= 1.2 * expected


def test_a29_eight_tries_or_two_days_are_enough() -> None:
    """The eighth refusal, or any refusal 48 hours after the first try, lets the row expire."""
    policy = RetryPolicy(SendOptions().retry)
    assert policy.next_at(7, NOW, NOW, middle) is not None
    assert policy.next_at(8, NOW, NOW, middle) is None
    assert policy.next_at(2, NOW, NOW + timedelta(hours=48), middle) is None


def test_a_server_that_names_a_time_gets_at_least_that() -> None:
    """The longer of the table's and the server's wait counts, and jitter never shortens the server's."""
    policy = RetryPolicy(SendOptions().retry)
    assert policy.next_at(1, NOW, NOW, lambda: 0.0, asked=300) == NOW + timedelta(seconds=300)
    assert policy.next_at(5, NOW, NOW, middle, asked=300) == NOW + timedelta(hours=3)


def test_never_means_that_no_row_waits() -> None:
    """Without any pause the first refusal is the last one."""
    assert RetryPolicy(()).next_at(1, NOW, NOW, middle) is None
    assert RetryPolicy(()).next_at(1, NOW, NOW, middle, asked=300) is None


# --- verdicts -------------------------------------------------------------------------------------------


def verdict(outcome: Outcome, tries: int = 1):
    return judge(
        outcome, tries=tries, first=NOW, now=NOW, retry=RetryPolicy(SendOptions().retry), random=middle
    )


@pytest.mark.parametrize(
    ("outcome", "status", "effect", "counts", "again"),
    [
        (ACCEPTED, Status.ACCEPTED, Effect.GO_ON, True, False),
        (REJECTED, Status.REJECTED, Effect.GO_ON, True, False),
        (DOUBT, Status.IN_DOUBT, Effect.RECONNECT, False, False),
        (
            Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL),
            Status.PENDING,
            Effect.RECONNECT,
            False,
            True,
        ),
        (
            Outcome(Status.REJECTED, Scope.CONFIG, Phase.MAIL, Reply(553)),
            Status.PENDING,
            Effect.STOP_REFUSED,
            False,
            False,
        ),
        (
            Outcome(Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(421), "rate", 900.0),
            Status.PENDING,
            Effect.PAUSE,
            False,
            True,
        ),
        (
            Outcome(Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(550), "quota", 86400.0),
            Status.DEFERRED,
            Effect.STOP_QUOTA,
            False,
            False,
        ),
    ],
)
def test_scope_decides_who_suffers(outcome, status, effect, counts, again) -> None:
    """Row, connection, account and set-up refusals each have their own consequence."""
    found = verdict(outcome)
    assert (found.status, found.effect, found.counts, found.again) == (status, effect, counts, again)


def test_a_deferred_row_is_due_later_and_expires() -> None:
    """4yz about the row: next time by the table, or expired with the eighth."""
    deferred = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(450))
    assert verdict(deferred).next_at == NOW + timedelta(minutes=1)
    assert verdict(deferred, tries=8).status is Status.EXPIRED


# --- breaker --------------------------------------------------------------------------------------------


def trips_at(breaker: Breaker, outcomes: list[Outcome]) -> int | None:
    for number, outcome in enumerate(outcomes, 1):
        if breaker.note(outcome):
            return number
    return None


def test_ten_rejects_in_a_row_trip() -> None:
    """Nine and an accepted one do not."""
    assert trips_at(Breaker(1.0), [REJECTED] * 12) == 10
    assert trips_at(Breaker(1.0), ([REJECTED] * 9 + [ACCEPTED]) * 3) is None


def test_a_share_of_the_last_two_hundred_trips() -> None:
    """5 % of 200 are ten: the eleventh is too much, but old ones are forgotten."""
    assert trips_at(Breaker(0.05), [REJECTED, ACCEPTED] * 20) == 21
    rare = ([REJECTED] + [ACCEPTED] * 24) * 50
    assert trips_at(Breaker(0.05), rare) is None


def test_a_share_is_counted_exactly() -> None:
    """Of any whole percentage of 200 the very number is allowed, and one more is not."""
    for hundredths in range(1, 20):
        allowed = hundredths * 2
        breaker = Breaker(hundredths / 100, in_a_row=1000)
        assert trips_at(breaker, [REJECTED] * 200) == allowed + 1, hundredths


@given(text=st.from_regex(r"[0-9]{1,2}(\.[0-9]{1,12})?", fullmatch=True).map(lambda number: f"{number}%"))
def test_any_percentage_of_the_file_is_a_limit(text: str) -> None:
    """From the campaign file to the breaker's words a percentage keeps all its digits."""
    assume(float(text[:-1]) > 0)
    share = CAMPAIGN["send"]["max_rejected"].type.read(text)
    breaker = Breaker(share, in_a_row=1000)
    trips = [trip for _ in range(400) if (trip := breaker.note(REJECTED))]
    assert len(trips) == 400 - math.floor(float(text[:-1]) * 2 + 1e-9)
    shown = re.search(r"more than (\S+)% of the last 200", trips[0].reason)
    assert shown
    assert float(shown[1]) == pytest.approx(float(text[:-1]))
    assert "e" not in shown[1]


def test_a4_three_doubts_in_a_row_trip() -> None:
    """Two and an accepted one do not."""
    assert trips_at(Breaker(0.05), [DOUBT] * 3) == 3
    assert trips_at(Breaker(0.05), [DOUBT, DOUBT, ACCEPTED] * 4) is None


def test_refused_content_and_protocol_errors_trip_early() -> None:
    """Three contents in a row, deferred or rejected; two protocol errors in all."""
    spam = Outcome(Status.DEFERRED, Scope.ROW, Phase.CONTENT, Reply(451), "content")
    odd = Outcome(Status.REJECTED, Scope.ROW, Phase.MAIL, Reply(500), "protocol")
    assert trips_at(Breaker(0.05), [spam, spam, REJECTED, spam, spam, spam]) == 6
    assert trips_at(Breaker(0.05), [odd, ACCEPTED, odd]) == 3


def test_pauses_without_progress_trip() -> None:
    """The fourth pause with nothing accepted in between is the last."""
    breaker = Breaker(0.05)
    assert [breaker.note_pause() is None for _ in range(3)] == [True, True, True]
    breaker.note(ACCEPTED)
    assert [breaker.note_pause() is None for _ in range(4)] == [True, True, True, False]


# --- patience -------------------------------------------------------------------------------------------


def test_a22_reconnects_for_ten_minutes() -> None:
    """1, 2, 4 .. 60 seconds apart, ten minutes in total."""
    patience = ReconnectBackoff()
    patience.connected = True
    now, waits = 0.0, []
    while patience.setback(now):
        waits.append(patience.retry_at - now)
        now = patience.retry_at
    assert waits[:8] == [1, 2, 4, 8, 16, 32, 60, 60]
    assert 540 <= now <= 600


def test_a23_three_tries_at_the_start() -> None:
    """A server that was never reached is tried three times."""
    patience = ReconnectBackoff()
    assert [patience.setback(0.0) for _ in range(3)] == [True, True, False]


def test_b6_three_closings_in_a_row_are_enough() -> None:
    """An answered message in between starts the count anew."""
    patience = ReconnectBackoff()
    assert [patience.closing(), patience.closing()] == [True, True]
    patience.progress()
    assert [patience.closing(), patience.closing(), patience.closing()] == [True, True, False]


def test_a27_short_pauses_grow() -> None:
    """5, 10, 30 seconds are obeyed at once; twenty minutes only if asked to wait."""
    pausing = ServerPause(wait=False)
    waits = []
    for _ in range(3):
        assert pausing.order(5.0, 0.0) is None
        waits.append(pausing.until)
    assert waits == [5.0, 10.0, 30.0]
    assert pausing.order(5.0, 0.0) == 1200.0
    assert ServerPause(wait=True).order(900.0, 0.0) is None


# --- clocks ---------------------------------------------------------------------------------------------


def test_a_virtual_day_passes_at_once() -> None:
    """Sleeping moves both of a virtual clock's hands, and nothing else does."""
    clock = VirtualClock(NOW)
    clock.sleep(86400)
    assert (clock.now(), clock.monotonic()) == (NOW + timedelta(days=1), 86400)


def test_the_system_clock_moves() -> None:
    """Its steady hand goes forward and its wall clock is in UTC."""
    clock = SystemClock()
    before = clock.monotonic()
    clock.sleep(0.001)
    assert clock.monotonic() > before
    assert clock.now().utcoffset() == timedelta(0)


def test_a20_jumps_of_the_wall_clock_are_told() -> None:
    """Over a minute, in either direction, added up; what a time service does each day is not worth a word."""
    clock = VirtualClock(NOW)
    watch = ClockWatch(clock)
    clock.sleep(86400)
    watch.look()
    for seconds in (59, -30, 3600, 120, -86400):
        clock._start += timedelta(seconds=seconds)
        watch.look()
    assert list(watch.jumps) == [3629, 120, -86400]
    ahead, back = watch.notes()
    assert "62 min ahead" in ahead
    assert "1,440 min back" in back
