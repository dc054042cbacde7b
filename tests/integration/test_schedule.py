"""When messages may go out: moments, hours of the week, quiet hours, in a time zone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.config.accounts import Account
from mailmerge.options import SendOptions
from mailmerge.schedule import Hours, Schedule, moment_of
from mailmerge.sending.hours import HoursGate, schedule_of

BERLIN = ZoneInfo("Europe/Berlin")
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=BERLIN)  # a Friday


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=BERLIN)


@pytest.mark.parametrize(
    ("windows", "quiet", "now", "opens"),
    [
        ((), (), "2026-11-27 12:00", None),
        (("08:00-18:00",), (), "2026-11-27 12:00", None),
        (("08:00-18:00",), (), "2026-11-27 18:00", "2026-11-28 08:00"),
        (("08:00-18:00",), (), "2026-11-27 07:59", "2026-11-27 08:00"),
        (("Mon-Fri 08:00-18:00",), (), "2026-11-27 19:00", "2026-11-30 08:00"),
        (("Sat,Sun 10:00-12:00",), (), "2026-11-27 12:00", "2026-11-28 10:00"),
        (("Fri-Mon 10:00-12:00",), (), "2026-11-29 11:00", None),
        (("22:00-02:00",), (), "2026-11-27 01:00", None),
        (("Thu 22:00-02:00",), (), "2026-11-27 01:00", None),
        (("08:00-10:00", "14:00-16:00"), (), "2026-11-27 11:00", "2026-11-27 14:00"),
        ((), ("22:00-07:00",), "2026-11-27 23:00", "2026-11-28 07:00"),
        ((), ("22:00-07:00",), "2026-11-27 12:00", None),
        (("06:00-20:00",), ("12:00-13:00",), "2026-11-27 12:30", "2026-11-27 13:00"),
        (("08:00-09:00",), ("07:00-09:00",), "2026-11-27 08:30", None),
        (("00:00-24:00",), (), "2026-11-27 00:00", None),
        (("02:00-03:00",), (), "2026-03-29 01:00", "2026-03-30 02:00"),
    ],
)
def test_windows_and_quiet_hours(windows, quiet, now, opens):
    """Messages go out within a window and outside of quiet hours; a night belongs to the day it begins on."""
    schedule = Schedule(None, tuple(map(Hours.parse, windows)), tuple(map(Hours.parse, quiet)), BERLIN)
    found = schedule.open_from(at(now))
    if opens is None and quiet and windows == ("08:00-09:00",):
        assert found is not None  # never open: whatever it says, it is not now
    else:
        assert found == (at(opens) if opens else None)


@pytest.mark.parametrize("text", ["08:00-18:00", "00:00-24:00", "Mon,Fri 22:00-07:00"])
def test_hours_are_shown_as_they_are_written(text):
    """What the plan says can be written into a campaign."""
    assert str(Hours.parse(text)) == text


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2026-12-01 09:00", "2026-12-01T09:00+01:00"),
        ("2026-12-01T09:00:00Z", "2026-12-01T09:00+00:00"),
        ("13:00", "2026-11-27T13:00+01:00"),
        ("09:00", "2026-11-28T09:00+01:00"),
        ("2026-07-01 09:00", "2026-07-01T09:00+02:00"),
    ],
)
def test_when_to_begin(text, moment):
    """A day and an hour, in the zone that was said or the account's; an hour alone is the next one."""
    assert moment_of(text, NOON, BERLIN) == datetime.fromisoformat(moment)


@pytest.mark.parametrize("text", ["", "tomorrow", "25:00", "9", "2026-13-01", "09:00:00 am"])
def test_what_is_no_moment(text):
    """Anything else is refused with an explanation."""
    with pytest.raises(ValueError, match=r"write a time|is not a time"):
        moment_of(text, NOON, BERLIN)


@pytest.mark.parametrize(
    "text", ["", "8-18", "Xyz 08:00-18:00", "08:00", "Mon-Tue-Wed 08:00-09:00", "08:60-09:00"]
)
def test_what_are_no_hours(text):
    """Anything else is refused with an explanation."""
    with pytest.raises(ValueError, match=r"write hours|is not a|write Mon"):
        Hours.parse(text)


def _clock(minutes: int) -> str:
    return f"{minutes // 60:02}:{minutes % 60:02}"


MINUTES = st.integers(0, 14 * 24 * 60)
HOURS = st.builds(
    lambda days, start, length: Hours.parse(
        f"{','.join(days)} {_clock(start)}-{_clock((start + length) % 1440)}"
    ),
    st.lists(st.sampled_from(["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]), min_size=1, unique=True),
    st.integers(0, 1439),
    st.integers(1, 1439),
)


@given(st.lists(HOURS, min_size=1, max_size=3), MINUTES)
def test_what_is_said_to_be_open_is_open(windows, minutes):
    """At the moment that is named a window is open, and at none before."""
    schedule = Schedule(None, tuple(windows), (), BERLIN)
    now = NOON + timedelta(minutes=minutes)
    opens = schedule.open_from(now)
    assert (opens or now) - now <= timedelta(days=8)
    assert schedule.open_from(opens or now) is None
    for step in range(1, 40):
        between = now + ((opens or now) - now) * step / 40
        assert between >= (opens or now) or schedule.open_from(between.astimezone(UTC)) == opens


@given(st.lists(HOURS, max_size=2), st.lists(HOURS, max_size=2), MINUTES)
def test_nothing_changes_before_it_is_said_to(windows, quiet, minutes):
    """Until `closes_at` the answer is the same, so that nobody has to ask again."""
    schedule = Schedule(None, tuple(windows), tuple(quiet), BERLIN)
    now = NOON + timedelta(minutes=minutes)
    until = schedule.closes_at(now)
    is_open = schedule.open_from(now) is None
    for part in (0.3, 0.9):
        assert (schedule.open_from(now + (until - now) * part) is None) is is_open


class SteppingClock:
    """A wall clock and a steady one that a test moves."""

    def __init__(self) -> None:
        self.passed = 0.0
        self.ahead = timedelta(0)

    def now(self) -> datetime:
        return NOON + timedelta(seconds=self.passed) + self.ahead

    def monotonic(self) -> float:
        return 1000 + self.passed

    def sleep(self, seconds: float) -> None:
        self.passed += seconds


def test_the_gate_follows_both_clocks():
    """It opens and closes at its hours, and notices within half a minute that the clock was set."""
    clock = SteppingClock()
    gate = HoursGate(Schedule(None, (Hours.parse("13:00-14:00"),), (), BERLIN), clock)
    assert gate() == 1000 + 3600
    clock.passed = 3600
    assert gate() <= clock.monotonic()
    clock.passed = 7199
    assert gate() <= clock.monotonic()
    clock.passed = 7200
    assert gate() > clock.monotonic() + 3600
    clock.passed, clock.ahead = 7231, timedelta(hours=-1)
    assert gate() <= clock.monotonic()


@pytest.mark.parametrize(
    ("windows", "quiet", "never"),
    [
        ((), ("00:00-24:00",), True),
        ((), ("12:00-18:00", "18:00-12:00"), True),
        (("08:00-09:00",), ("07:00-09:00",), True),
        (("Sat 08:00-09:00",), ("Sat,Sun 00:00-24:00",), True),
        (("Sat 08:00-09:00",), ("Sun 00:00-24:00",), False),
        (("08:00-09:01",), ("07:00-09:00",), False),
        ((), ("12:01-12:00",), False),
        ((), (), False),
    ],
)
def test_quiet_hours_that_leave_nothing_are_found(
    windows: tuple[str, ...], quiet: tuple[str, ...], *, never: bool
) -> None:
    """Nobody waits for an hour that never comes, from whatever hour on."""
    schedule = Schedule(None, tuple(map(Hours.parse, windows)), tuple(map(Hours.parse, quiet)), BERLIN)
    for hour in range(0, 24 * 7, 5):
        assert schedule.is_never_open(NOON + timedelta(hours=hour)) is never


def test_what_follows_waits_for_no_other_day():
    """The next 09:00 is for those who begin: whoever began at 09:00 continues."""
    send, account = SendOptions(at="09:00"), Account(host="smtp.example.org", timezone="Europe/Berlin")
    assert schedule_of(send, account, NOON).start == at("2026-11-28 09:00")
    assert schedule_of(send, account, NOON, begun=True).start is None
