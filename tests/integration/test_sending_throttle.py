"""The throttle's promise: at most N in any window, evenly spaced, without bursts."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.model import Rate
from mailmerge.sending.throttle import Throttle


def run(throttle: Throttle, pauses: list[float], start: float = 0.0) -> list[float]:
    """Take a token after each pause, waiting as the throttle says; give the times."""
    now, times = start, []
    for pause in pauses:
        now += pause
        while (delay := throttle.delay(now)) > 0:
            now += delay
        throttle.take(now)
        times.append(now)
    return times


def worst(times: list[float], seconds: float) -> int:
    """Count the fullest half-open window of this length."""
    best, first = 0, 0
    for last, time in enumerate(times):
        while time - times[first] >= seconds:
            first += 1
        best = max(best, last - first + 1)
    return best


rate = st.builds(
    Rate,
    st.integers(1, 30),
    st.one_of(st.sampled_from([1.0, 60.0, 3600.0, 0.1, 86400.0]), st.floats(0.01, 1e5)),
)


@settings(max_examples=100, deadline=None)
@given(
    rates=st.lists(rate, max_size=3),
    per_domain=st.lists(rate, max_size=2),
    jitter=st.sampled_from([0.0, 0.2, 1.0]),
    moves=st.lists(
        st.tuples(st.one_of(st.just(0.0), st.floats(0, 200)), st.sets(st.sampled_from("abc"), min_size=1)),
        min_size=1,
        max_size=120,
    ),
    start=st.one_of(st.just(0.0), st.floats(0, 2e9)),
    halvings=st.sets(st.integers(0, 119), max_size=3),
    seed=st.randoms(use_true_random=False),
)
def test_no_window_ever_holds_more_than_its_rate(
    rates, per_domain, jitter, moves, start, halvings, seed
) -> None:
    """Whatever the pauses, rates, domains, jitter and clock, no window exceeds its rate, halved or not."""
    throttle = Throttle(rates, jitter=jitter, random=seed.random, per_domain=per_domain)
    now, times = start, []
    by_domain: dict[str, list[float]] = {domain: [] for domain in "abc"}
    for number, (pause, domains) in enumerate(moves):
        now += pause
        while (delay := throttle.delay(now, domains)) > 0:
            now += delay
        throttle.take(now, domains)
        throttle.recover()
        if number in halvings:
            throttle.halve()
        times.append(now)
        for domain in domains:
            by_domain[domain].append(now)
    for one in rates:
        assert worst(times, one.seconds) <= one.count
    for one in per_domain:
        for found in by_domain.values():
            assert worst(found, one.seconds) <= one.count


def test_jitter_only_lengthens() -> None:
    """A fifth of jitter makes gaps from one to one and a fifth of the even gap, all through that range."""
    throttle = Throttle([Rate(60, 60)], jitter=0.2, random=Random(1).random)
    times = run(throttle, [0.0] * 200)
    gaps = [later - earlier for earlier, later in pairwise(times)]
    assert 0.99 <= min(gaps) < 1.05
    assert 1.15 < max(gaps) <= 1.2


def test_a_domain_does_not_hold_up_another() -> None:
    """Two an hour for one domain: the third message to it waits, the first to another does not."""
    throttle = Throttle((), per_domain=[Rate(2, 3600)], domain_history=[("a.example", -1800.0)])
    throttle.take(0.0, ["a.example"])
    assert throttle.delay(1.0, ["a.example"]) == pytest.approx(1799.0)
    assert throttle.delay(1.0, ["b.example"]) == 0.0
    assert throttle.delay(1.0, ["a.example", "b.example"]) == pytest.approx(1799.0)


def test_domains_are_forgotten_when_their_windows_are_empty() -> None:
    """Twenty thousand domains leave no more behind than those of the last window."""
    throttle = Throttle((), per_domain=[Rate(5, 60)])
    for number in range(20_000):
        throttle.take(number * 0.1, [f"d{number}.example"])
    assert len(throttle._domains._windows) < 2000


@settings(max_examples=50, deadline=None)
@given(
    earlier=st.lists(st.floats(-100, 0), max_size=40),
    rates=st.lists(st.builds(Rate, st.integers(1, 20), st.floats(1, 100)), min_size=1, max_size=2),
)
def test_a_warm_start_counts_earlier_runs(earlier, rates) -> None:
    """Messages of earlier runs take part in the windows."""
    throttle = Throttle(rates, earlier)
    times = run(throttle, [0.0] * 30)
    for one in rates:
        for time in times:
            window = [t for t in times if 0 <= time - t < one.seconds]
            before = [t for t in earlier if 0 <= time - t < one.seconds]
            assert len(window) + len(before) <= max(one.count, len(before))


def test_only_the_shortest_rate_is_spaced() -> None:
    """60/m spaces by a second; 100/d does not stretch that to a quarter of an hour."""
    times = run(Throttle([Rate(60, 60), Rate(100, 86400)]), [0.0] * 100)
    assert times[1] - times[0] == pytest.approx(1.0, abs=0.03)
    assert times[99] == pytest.approx(99.0, abs=0.1)


def test_the_longer_rate_ends_the_day() -> None:
    """The 101st of 100/d waits until the first is a day old."""
    times = run(Throttle([Rate(60, 60), Rate(100, 86400)]), [0.0] * 101)
    assert times[100] == pytest.approx(86400.0, abs=0.1)


def test_a_pause_earns_no_burst() -> None:
    """After an hour's sleep the pace is what it was."""
    times = run(Throttle([Rate(60, 60)]), [0.0, 0.0, 3600.0, 0.0, 0.0])
    assert times[3] - times[2] >= 0.97
    assert times[4] - times[3] >= 0.97


def test_a_late_poll_does_not_lower_the_rate() -> None:
    """Half a millisecond of lateness at each token costs less than one percent of 150/s."""
    throttle = Throttle([Rate(150, 1)])
    now = 0.0
    for _ in range(1500):
        while (delay := throttle.delay(now)) > 0:
            now += delay + 0.0005
        throttle.take(now)
    assert 1499 / now >= 150 * 0.97


@pytest.mark.parametrize("count", [10, 50, 150])
def test_a_round_trip_of_waiting_is_made_up_for(count: int) -> None:
    """At a fast rate, a session that waits for its server for a moment is as far as planned soon after."""
    pauses = [0.0] * (3 * count)
    pauses[count + count // 2] = 0.09 + 1 / count
    times = run(Throttle([Rate(count, 1)]), pauses)

    assert max(b - a for a, b in pairwise(times)) > 0.08
    assert times[-1] <= (len(times) - 1) / count * 1.002
    assert worst(times, 1.0) <= count


def test_halving_and_recovery() -> None:
    """Half the pace after a complaint; a tenth comes back per fifty good ones, never more than all."""
    throttle = Throttle([Rate(60, 60)])
    throttle.halve()
    assert throttle.interval == 2.0
    for _ in range(50):
        throttle.recover()
    assert throttle.interval == pytest.approx(2.0 / 1.1)
    assert list(throttle.notes()) == [
        "slowed down once at the server's request: lowest rate 30/min, 33/min at the end"
    ]
    for _ in range(1000):
        throttle.recover()
    assert throttle.interval == 1.0
    (note,) = throttle.notes()
    assert note.endswith("back to full speed at the end")


def test_halving_without_a_rate_uses_the_pace_so_far() -> None:
    """Where nothing was asked for, the observed pace is halved, and it recovers to no limit."""
    throttle = Throttle(())
    for number in range(10):
        assert throttle.delay(number * 0.1) == 0.0
        throttle.take(number * 0.1)
    throttle.halve()
    assert throttle.interval == pytest.approx(0.2)
    for _ in range(50 * 80):
        throttle.recover()
    assert throttle.interval == 0.0
