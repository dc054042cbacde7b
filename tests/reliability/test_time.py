"""A20 and A25 to A29: clocks that jump, quotas, rates, and servers that say "not now"."""

from __future__ import annotations

import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from faultd import say
from mailmerge.model import Status
from mailmerge.sending.runs import Reason
from reliability.bench import NAME, Bench, address, people, taken_order
from reliability.clocks import SkippingClock
from servers.command import results

if TYPE_CHECKING:
    from pathlib import Path

    from faultd import Fault, Peer
    from reliability.moody import MoodyServer

DAY = 86400.0
YEAR = 365 * DAY


class JumpingClock(SkippingClock):
    """Its wall clock is set once, after *looks* looks at it; the steady one knows nothing of that."""

    def __init__(self, jump: float, looks: int) -> None:
        super().__init__()
        self._jump = timedelta(seconds=jump)
        self._looks = looks

    def now(self) -> datetime:
        """Return the time, and jump when it is time to."""
        self._looks -= 1
        if self._looks == 0:
            self.ahead += self._jump
        return super().now()


def reply(text: str) -> bytes:
    """Make a reply line."""
    return text.encode() + b"\r\n"


# --- A20 -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("jump", [-DAY, YEAR, -3600.0, 3600.0])
def test_a20_a_jump_in_the_middle_of_a_run(jump: float, server: MoodyServer, tmp_path: Path) -> None:
    """Neither burst nor stall: the pace is kept by the steady clock."""
    bench = Bench(tmp_path, server, rows=30)
    bench.write(send='rate = "10/s"')
    clock = JumpingClock(jump, looks=40)
    began = clock.monotonic()
    report = bench.send(clock=clock)
    took = clock.monotonic() - began

    assert report.exit_code == 0
    assert abs(clock.ahead.total_seconds()) == abs(jump)
    assert 2.9 <= took < 10
    assert bench.check()[Status.ACCEPTED] == 30


@pytest.mark.parametrize("ahead", [DAY, YEAR])
def test_a20_a_row_deferred_by_a_clock_that_was_wrong(
    ahead: float, bench: Bench, server: MoodyServer
) -> None:
    """The clock was ahead when the row was deferred and is right now: no year-long wait, and a warning."""
    bench.write(send='pipeline = "off"')
    server.change_mood({"RCPT": {2: say("450 4.2.1 mailbox busy")}})
    assert bench.send(clock=SkippingClock(ahead)).exit_code == 5

    done = bench.mailmerge("send", NAME, "--yes")
    assert done.code == 0, done
    assert "clock is" in done.err
    assert "behind the end of the last run" in done.err
    assert bench.check()[Status.ACCEPTED] == 3


@pytest.mark.parametrize("ahead", [600.0, DAY, YEAR])
@pytest.mark.parametrize(
    ("send", "account", "longest"),
    [
        ('rate = "6/m"', {}, 25.0),
        ('per_domain = "3/m"', {}, 65.0),
        ("", {"quota": "20/d"}, 8.0),
    ],
    ids=["rate", "domain", "quota"],
)
def test_a20_a_clock_that_is_put_right(
    send: str, account: dict[str, str], longest: float, ahead: float, bench: Bench
) -> None:
    """What was sent by a clock that was ahead counts as sent by now: nobody waits a day, or a year."""
    bench.rows = 4
    bench.write(send=send)
    bench.account(**account)
    assert bench.send(clock=SkippingClock(ahead), limit=2).exit_code == 0
    clock = SkippingClock()
    began = clock.monotonic()
    assert bench.send(clock=clock).exit_code == 0
    assert clock.monotonic() - began < longest
    assert bench.check()[Status.ACCEPTED] == 4


def test_a20_a_clock_that_is_put_right_frees_no_quota(bench: Bench) -> None:
    """What was used up while the clock was ahead stays used up for a day, and not for a year."""
    bench.rows = 5
    bench.write()
    bench.account(quota="3/d")
    assert bench.send(clock=SkippingClock(YEAR)).exit_code == 5
    report = bench.send(clock=SkippingClock())
    assert (report.exit_code, report.counts[Status.ACCEPTED]) == (5, 3)
    later = bench.send(clock=SkippingClock(DAY + 60))
    assert (later.exit_code, later.counts[Status.ACCEPTED]) == (0, 5)


def test_a20_a_jump_ahead_in_mid_run_frees_no_quota(bench: Bench) -> None:
    """30 a day are 30, though the wall clock says after some of them that it is tomorrow."""
    bench.rows = 60
    bench.write(people_csv=people(60))
    bench.account(quota="30/d")
    clock = JumpingClock(DAY + 3600, looks=60)
    report = bench.send(clock=clock)
    assert clock.ahead.total_seconds() == DAY + 3600
    assert (report.exit_code, report.counts[Status.ACCEPTED]) == (5, 30)


def test_a20_set_back_while_waiting_for_a_deferred_row(bench: Bench, server: MoodyServer) -> None:
    """``--wait`` does not wait a day longer because the clock was set back by one."""
    bench.knows_server()
    server.change_mood({"RCPT": {2: say("450 4.2.1 mailbox busy")}})
    clock = JumpingClock(-DAY, looks=60)
    began = clock.monotonic()
    report = bench.send(clock=clock, wait=True)

    assert report.exit_code == 0
    assert clock.ahead.total_seconds() == -DAY
    assert clock.monotonic() - began < 600


@pytest.mark.parametrize(
    "change", [datetime(2026, 3, 29, 1, 0, tzinfo=UTC), datetime(2026, 10, 25, 1, 0, tzinfo=UTC)]
)
def test_a20_summer_time_is_no_time(
    change: datetime, bench: Bench, server: MoodyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Deferred for a minute over the change, tried again after a minute: no hour sooner or later."""
    monkeypatch.setenv("TZ", "Europe/Berlin")
    time.tzset()
    try:
        bench.write(send='pipeline = "off"')
        server.change_mood({"RCPT": {2: say("450 4.2.1 mailbox busy")}})
        ahead = (change - datetime.now(UTC)).total_seconds() - 30
        clock = SkippingClock(ahead)
        began = clock.monotonic()
        report = bench.send(clock=clock, wait=True)
        took = clock.monotonic() - began
    finally:
        monkeypatch.undo()
        time.tzset()

    assert report.exit_code == 0
    assert 48 <= took <= 75


# --- A25, A26 --------------------------------------------------------------------------------------------


def test_a25_the_quota_refuses_row_501_of_1500(server: MoodyServer, tmp_path: Path) -> None:
    """Exit 5 with the time to run again, no further MAIL; the next day begins with row 501."""
    bench = Bench(tmp_path, server, rows=1500)
    server.change_mood({"RCPT": {501: say("550 5.4.5 Daily user sending quota exceeded.")}})
    clock = SkippingClock()
    report = bench.send(clock=clock)

    assert report.exit_code == 5
    assert report.reason == Reason.QUOTA
    assert report.next_at is not None
    assert 23 * 3600 < (report.next_at - clock.now()).total_seconds() <= 25 * 3600
    assert server.verbs().count("MAIL") <= 502  # one may have been on its way already
    assert taken_order(server) == [address(number) for number in range(1, 501)]
    counts = bench.check()
    assert counts.by_status == {Status.ACCEPTED: 500, Status.DEFERRED: 1, Status.PENDING: 999}
    assert bench.states()[address(501)] is Status.DEFERRED

    report = bench.send(clock=SkippingClock(DAY + 3600), limit=700)
    assert report.exit_code == 0
    assert taken_order(server) == [address(number) for number in range(1, 1201)]
    bench.check()


def test_a26_the_own_cap_counts_all_campaigns(server: MoodyServer, tmp_path: Path) -> None:
    """At the account's limit the server is not even asked, by any campaign; a day later sending resumes."""
    first, second = Bench(tmp_path / "1", server, rows=5), Bench(tmp_path / "2", server, rows=5)
    first.account(quota="7/d")
    shared = ("MAILMERGE_CONFIG", "MAILMERGE_STATE_DIR")
    second.mailmerge.environ |= {name: first.mailmerge.environ[name] for name in shared}
    second.write(body_txt="Dear {{ name }},\n\nthis is another letter.\n")

    assert first.send().exit_code == 0
    server.accepted.clear()
    clock = SkippingClock()
    report = second.send(clock=clock)
    assert (report.exit_code, report.reason) == (5, Reason.QUOTA)
    assert report.next_at is not None
    assert 23 * 3600 < (report.next_at - clock.now()).total_seconds() <= 24 * 3600 + 2
    assert second.check().by_status == {Status.ACCEPTED: 2, Status.PENDING: 3}

    commands = len(server.commands)
    assert second.send(clock=SkippingClock(3600)).exit_code == 5
    assert "MAIL" not in server.verbs()[commands:]

    assert second.send(clock=SkippingClock(DAY + 5)).exit_code == 0
    assert second.check()[Status.ACCEPTED] == 5


# --- A27 to A29 ------------------------------------------------------------------------------------------


class Limiter:
    """Refuses more than *count* recipients in any second of *clock*."""

    def __init__(self, clock: SkippingClock, count: int) -> None:
        self._clock = clock
        self._count = count
        self._times: list[float] = []
        self.refused = 0

    def __call__(self, _peer: Peer) -> bytes:
        """Answer RCPT."""
        now = self._clock.monotonic()
        self._times = [moment for moment in self._times if moment > now - 1]
        if len(self._times) >= self._count:
            self.refused += 1
            return reply("454 4.7.0 Throttling failure: Maximum sending rate exceeded.")
        self._times.append(now)
        return reply("250 2.1.5 ok")


def test_a27_a_server_with_a_lower_rate(server: MoodyServer, tmp_path: Path) -> None:
    """Too fast is told by the server: we slow down, try the same row again, and lose none."""
    bench = Bench(tmp_path, server, rows=150)
    bench.write(send='rate = "20/s"')
    clock = SkippingClock(nap=0.0005)
    limiter = Limiter(clock, 5)
    server.change_mood({"RCPT": limiter})
    report = bench.send(clock=clock, wait=True)

    assert report.exit_code == 0, report.notes
    assert 0 < limiter.refused < 40
    assert taken_order(server) == [address(number) for number in range(1, 151)]
    bench.check()


class Greylist:
    """Takes a recipient only *seconds* after it was first named."""

    def __init__(self, clock: SkippingClock, seconds: float, names: set[str]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._names = names
        self._first: dict[str, float] = {}

    def __call__(self, peer: Peer) -> bytes:
        """Answer RCPT."""
        name = peer.server.commands[-1].decode().partition("<")[2].partition(">")[0]
        first = self._first.setdefault(name, self._clock.monotonic())
        if name in self._names and self._clock.monotonic() - first < self._seconds:
            return reply("451 4.7.1 Greylisted, please try again in 300 seconds")
        return reply("250 2.1.5 ok")


def refusing(name: str) -> Fault:
    """Refuse one recipient for now, for ever."""

    def fault(peer: Peer) -> bytes:
        busy = name.encode() in peer.server.commands[-1]
        return reply("450 4.2.1 not for you" if busy else "250 2.1.5 ok")

    return fault


def _greylisting(clock: SkippingClock) -> Fault:
    return Greylist(clock, 300, {address(2), address(5)})


def test_a28_greylisting_with_wait(server: MoodyServer, tmp_path: Path) -> None:
    """The others continue; with ``--wait`` a second pass brings the two in."""
    bench = Bench(tmp_path, server, rows=6)
    clock = SkippingClock(nap=0.0005)
    server.change_mood({"RCPT": _greylisting(clock)})
    report = bench.send(clock=clock, wait=True)

    assert report.exit_code == 0
    assert taken_order(server)[:4] == [address(number) for number in (1, 3, 4, 6)]
    assert clock.skipped >= 300
    assert bench.check()[Status.ACCEPTED] == 6


def test_a28_greylisting_without_wait(server: MoodyServer, tmp_path: Path) -> None:
    """Exit 5 and the time; the same command later sends the two, and only them."""
    bench = Bench(tmp_path, server, rows=6)
    clock = SkippingClock()
    server.change_mood({"RCPT": _greylisting(clock)})
    report = bench.send(clock=clock)
    assert report.exit_code == 5
    assert report.next_at is not None
    assert report.next_at - clock.now() >= timedelta(seconds=200)
    assert bench.check().by_status == {Status.ACCEPTED: 4, Status.DEFERRED: 2}

    clock.skipped += 600
    assert bench.send(clock=clock).exit_code == 0
    assert sorted(taken_order(server)[4:]) == [address(2), address(5)]
    bench.check()


def test_a29_not_now_for_ever(bench: Bench, server: MoodyServer) -> None:
    """Eight attempts, then the row has expired: exit 3 with the last reply, and it is not tried again."""
    server.change_mood({"RCPT": refusing(address(2))})
    clock = SkippingClock()
    codes = []
    for _ in range(10):
        report = bench.send(clock=clock)
        codes.append(report.exit_code)
        if report.next_at is None:
            break
        clock.skipped += max(0.0, (report.next_at - clock.now()).total_seconds()) + 1

    assert codes == [5] * 7 + [3]
    assert bench.check().by_status == {Status.ACCEPTED: 2, Status.EXPIRED: 1}
    row = results(bench.folder)[1]
    assert (row["status"], row["code"], row["attempts"]) == ("expired", "450", "8")
    assert "not for you" in row["reply"]
    tries = Counter(server.verbs())["MAIL"]
    assert bench.send(clock=clock).exit_code == 3
    assert Counter(server.verbs())["MAIL"] == tries


def test_a29_two_days_are_enough(bench: Bench, server: MoodyServer) -> None:
    """However few the attempts were: after 48 hours the row has expired."""
    server.change_mood({"RCPT": refusing(address(2))})
    assert bench.send().exit_code == 5
    assert bench.send(clock=SkippingClock(DAY)).exit_code == 5
    assert bench.send(clock=SkippingClock(2 * DAY + 60)).exit_code == 3
    assert bench.check()[Status.EXPIRED] == 1
