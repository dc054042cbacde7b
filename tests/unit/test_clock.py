"""Clocks: real, virtual, and what is noticed when the wall clock moves by itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from mailmerge.clock import ClockWatch, SystemClock, VirtualClock

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)


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
