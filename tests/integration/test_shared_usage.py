"""What an account may do, shared by all workers through a real PostgreSQL: rates, quotas, opt-outs."""

from __future__ import annotations

import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from mailmerge.clock import SystemClock
from mailmerge.errors import LedgerError
from mailmerge.ledger.account_usage import QuotaRefusal
from mailmerge.ledger.claims import Slot
from mailmerge.ledger.shared_rates import SharedThrottle, lateness, sweep_rates
from mailmerge.ledger.shared_suppression import EVERY_CAMPAIGN, Carrier, OptOutTable, covered
from mailmerge.ledger.shared_usage import SharedQuota, carry_usage, take_session
from mailmerge.model import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.postgres import PostgresDatabase

HOUR, DAY = 3600.0, 86400.0


class AnotherClock(SystemClock):
    """The clock of another machine: minutes apart, and put ahead where a test does not wait."""

    def __init__(self, ahead: float = 0.0) -> None:
        self.ahead = ahead

    def now(self) -> datetime:
        """Return its wall clock."""
        return super().now() + timedelta(seconds=self.ahead)

    def monotonic(self) -> float:
        """Return its steady clock."""
        return super().monotonic() + self.ahead


@pytest.fixture
def connect(postgres_ledger: ServerPlace) -> Iterator[Callable[[], PostgresDatabase]]:
    """Make connections to a ledger."""
    opened: list[PostgresDatabase] = []

    def open_one() -> PostgresDatabase:
        opened.append(postgres_ledger.database_to_fill())
        return opened[-1]

    yield open_one
    for db in opened:
        db.close()


@pytest.fixture
def db(connect: Callable[[], PostgresDatabase]) -> PostgresDatabase:
    """One connection to a ledger."""
    return connect()


def throttle(db: PostgresDatabase, *rates: Rate, clock: SystemClock | None = None, **more) -> SharedThrottle:
    return SharedThrottle(lambda: db, clock or SystemClock(), "me@relay", rates, **more)


def sent(pace: SharedThrottle, clock: SystemClock, domains=()) -> float:
    """Send one message as the send loop does; return when it left, by the real clock."""
    while (wait := pace.delay(clock.monotonic(), domains)) > 0:
        assert wait < 5
        time.sleep(wait)
    turn = pace.take(clock.monotonic(), domains)
    while turn is not None and (wait := turn.wait(clock.monotonic())) > 0:
        time.sleep(wait)
    left = time.monotonic()
    if turn is not None:
        turn.left(clock.monotonic())
    return left


def most_in_a_window(times: list[float], length: float) -> int:
    return max(sum(begin <= moment < begin + length for moment in times) for begin in times)


# --- rates ----------------------------------------------------------------------------------------------


def test_g4_one_rate_for_sessions_whose_clocks_are_minutes_apart(connect) -> None:
    """Three sessions together keep to the rate in every window, and use nearly all of it."""
    clocks = [AnotherClock(), AnotherClock(60), AnotherClock(-60)]
    paces = [throttle(connect(), Rate(40, 0.5), clock=clock) for clock in clocks]
    times: list[float] = []

    def work(pace: SharedThrottle, clock: SystemClock) -> None:
        times.extend(sent(pace, clock) for _ in range(35))

    threads = [threading.Thread(target=work, args=pair) for pair in zip(paces, clocks, strict=True)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(times) == 105
    assert most_in_a_window(times, 0.5) <= 40
    assert max(times) - min(times) < 105 * (0.5 + lateness(0.5)) / 40 * 1.5


def test_whoever_is_late_takes_another_slot(db) -> None:
    """A message whose end is ready long after its slot waits for one that is still to come."""
    clock = AnotherClock()
    pace = throttle(db, Rate(2, 1.0), clock=clock)
    sent(pace, clock)
    while (wait := pace.delay(clock.monotonic())) > 0:
        time.sleep(wait)
    turn = pace.take(clock.monotonic())
    assert turn is not None
    clock.ahead += 0.4
    before = db.rows("SELECT at FROM mailmerge.rate_slot ORDER BY at")
    assert 0 < turn.wait(clock.monotonic()) <= 0.525 + 0.4
    after = db.rows("SELECT at FROM mailmerge.rate_slot ORDER BY at")
    assert after[0] == before[0]
    assert after[1][0] > before[1][0] + 0.2


def test_whoever_is_late_uses_up_a_longer_rate_once(db) -> None:
    """The slot that was given up counts in no other rate but the spaced one."""
    clock = AnotherClock()
    pace = throttle(db, Rate(100, 1.0), Rate(2, HOUR), clock=clock)
    for _ in range(2):
        while (wait := pace.delay(clock.monotonic())) > 0:
            assert wait < 5
            time.sleep(wait)
        turn = pace.take(clock.monotonic())
        assert turn is not None
        clock.ahead += 0.4
        while (wait := turn.wait(clock.monotonic())) > 0:
            time.sleep(wait)
    query = "SELECT at FROM mailmerge.rate_slot WHERE name LIKE '%/h' ORDER BY at"
    moments = [moment for (moment,) in db.rows(query)]
    (now,) = db.row("SELECT extract(epoch from clock_timestamp())::float8")
    assert len(moments) == 2
    assert moments[1] == pytest.approx(now, abs=0.2)
    assert pace.delay(clock.monotonic()) > HOUR - 5


def test_what_left_too_late_moves_the_slots_that_follow(db) -> None:
    """A worker that was stopped between its last look and the write: others keep that much more distance."""
    clock = AnotherClock()
    pace = throttle(db, Rate(10, 1.0), clock=clock)
    while (wait := pace.delay(clock.monotonic())) > 0:
        time.sleep(wait)
    turn = pace.take(clock.monotonic())
    assert turn is not None
    while turn.wait(clock.monotonic()) > 0:
        time.sleep(0.001)
    query = "SELECT at FROM mailmerge.rate_slot"
    before = db.row(query)[0]
    turn.left(clock.monotonic() + 7)
    assert db.row(query)[0] == pytest.approx(before + 7, abs=0.1)


def test_longer_rates_may_be_used_up_and_block_nothing_else(db) -> None:
    """Of 1000/s and 5/h only the first is spaced; the sixth waits an hour, and takes no slot until then."""
    clock = SystemClock()
    pace = throttle(db, Rate(1000, 1.0), Rate(5, HOUR))
    for _ in range(5):
        sent(pace, clock)
    assert pace.delay(clock.monotonic()) == pytest.approx(HOUR + lateness(HOUR), abs=3)
    other = throttle(db, Rate(1000, 1.0))
    assert other.delay(clock.monotonic()) < 0.2


def test_each_domain_has_its_own_rate(db) -> None:
    """What is used up for one recipient domain delays no other, also in another session."""
    clock = SystemClock()
    rates: dict[str, Any] = {"campaign": "7", "per_domain": [Rate(2, HOUR)]}
    for _ in range(2):
        sent(throttle(db, Rate(1000, 1.0), **rates), clock, {"gmail.com"})
    pace = throttle(db, Rate(1000, 1.0), **rates)
    assert pace.delay(clock.monotonic(), {"gmail.com", "x.org"}) == pytest.approx(HOUR + 2, abs=3)
    assert pace.delay(clock.monotonic(), {"x.org"}) < 0.5
    sent(throttle(db, Rate(1000, 1.0), **rates), clock, {"x.org"})
    another_campaign = throttle(db, Rate(1000, 1.0), campaign="8", per_domain=[Rate(2, HOUR)])
    assert another_campaign.delay(clock.monotonic(), {"gmail.com"}) < 0.5


def test_rates_that_nobody_used_for_long_are_forgotten(db) -> None:
    """A row that was swept is made again by whoever still counts on it."""
    clock = SystemClock()
    pace = throttle(db, Rate(1000, 1.0))
    sent(pace, clock)
    db.execute("UPDATE mailmerge.rate SET used = used - 41 * 86400")
    sweep_rates(db)
    assert db.rows("SELECT name FROM mailmerge.rate") == []
    pace._free.clear()
    sent(pace, clock)
    names = {name for (name,) in db.rows("SELECT name FROM mailmerge.rate")}
    assert names == {"account me@relay 1000/s", "pace me@relay"}


def test_the_rates_of_account_and_campaign_both_hold(db) -> None:
    """The slower one of them decides; a campaign without rates of its own is not held back by it."""
    clock = SystemClock()
    slow = throttle(db, Rate(1000, 1.0), campaign="7", campaign_rates=[Rate(1, 60.0)])
    sent(slow, clock)
    assert slow.delay(clock.monotonic()) == pytest.approx(62, abs=1)
    assert throttle(db, Rate(1000, 1.0), campaign="8").delay(clock.monotonic()) < 0.5


def test_too_fast_slows_all_sessions_down_once(db) -> None:
    """Two sessions that hear of the same complaint halve the pace once; all others know within a second."""
    clocks = [AnotherClock() for _ in range(3)]
    first, second, third = (throttle(db, Rate(100, 1.0), clock=clock) for clock in clocks)
    for pace, clock in zip((first, second, third), clocks, strict=True):
        pace.delay(clock.monotonic())
    first.halve()
    second.halve()
    assert (first.interval, second.interval, third.interval) == (0.02, 0.02, 0.01)
    clocks[2].ahead += 1.1
    third.delay(clocks[2].monotonic())
    assert third.interval == 0.02
    for _ in range(50):
        third.recover()
    clocks[2].ahead += 1.1
    third.delay(clocks[2].monotonic())
    assert third.interval == pytest.approx(0.02 / 1.1)
    assert list(third.notes()) == [
        "slowed down once at the server's request: lowest rate 3,000/min, 3,300/min at the end"
    ]


def test_an_account_without_rates_is_slowed_down_to_half_of_what_it_did(db) -> None:
    """Nobody waits at first; after a complaint slots are given out at half the pace."""
    clock = AnotherClock()
    pace = throttle(db, clock=clock)
    for _ in range(5):
        assert pace.delay(clock.monotonic()) == 0
        assert pace.take(clock.monotonic()) is None
        clock.ahead += 0.25
    pace.halve()
    assert pace.interval == pytest.approx(0.5, rel=0.1)
    assert 0 < pace.delay(clock.monotonic()) <= 0.6


def test_a_start_earns_no_burst(db) -> None:
    """What machines have counted by themselves is carried over once, and held against the rates."""
    now = datetime.now(UTC).timestamp()
    entries = [(int(now) - 1800, 3, 3), (int(now) - 60, 2, 4)]
    assert carry_usage(db, "me@relay", "machine a", entries, now) == 5
    assert carry_usage(db, "me@relay", "machine a", entries, now) == 0
    assert carry_usage(db, "me@relay", "machine b", [(int(now) + 60 - 600, 1, 1)], now + 60) == 1
    pace = throttle(db, Rate(1000, 1.0), Rate(6, HOUR))
    assert pace.delay(SystemClock().monotonic()) == pytest.approx(1800 + lateness(HOUR), abs=5)
    spaced = throttle(db, Rate(6, HOUR + 1))
    assert spaced.delay(SystemClock().monotonic()) == pytest.approx(1800, abs=10)
    assert SharedQuota(lambda: db, "me@relay", [Rate(10, HOUR)], SystemClock()).left() == 2


def test_without_its_database_nothing_leaves_and_nothing_fails() -> None:
    """A pace whose database is gone lets nothing leave, and asks again after a second."""

    def gone() -> PostgresDatabase:
        raise LedgerError("gone")

    pace = SharedThrottle(gone, SystemClock(), "me@relay", [Rate(100, 1.0)])
    assert 0.5 < pace.delay(time.monotonic()) <= 1
    pace.halve()
    assert list(pace.notes()) == []


# --- quotas ---------------------------------------------------------------------------------------------


def test_a_quota_is_counted_for_all_workers(connect) -> None:
    """However many ask at the same time, no more recipients are allowed than the limit has."""
    limits = [Rate(200, HOUR), Rate(1000, DAY)]
    granted: list[int] = []

    def work(db: PostgresDatabase) -> None:
        quota = SharedQuota(lambda: db, "me@relay", limits, SystemClock())
        granted.extend(2 for _ in range(60) if quota.reserve(2))
        quota.close()

    threads = [threading.Thread(target=work, args=(connect(),)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(granted) == 200
    quota = SharedQuota(lambda: connect(), "me@relay", limits, SystemClock())  # noqa: PLW0108
    assert quota.left() == 0
    free = quota.free_at(1)
    assert free is not None
    assert HOUR - 5 < (free - datetime.now(UTC)).total_seconds() <= HOUR


def test_what_was_not_used_is_given_back(db) -> None:
    """A message that was certainly not handed over, and the rest of a block, count for nobody."""
    clock = AnotherClock()
    quota = SharedQuota(lambda: db, "me@relay", [Rate(1000, HOUR)], clock)
    kept, released = quota.reserve(1), quota.reserve(3)
    assert kept is not None
    assert released is not None
    quota.release(released)
    quota.close()
    other = SharedQuota(lambda: db, "me@relay", [Rate(1000, HOUR)], clock)
    assert other.left() == 999
    quota.release(kept)
    assert other.left() == 1000
    assert quota.free_at(1000) is None


def test_used_recipients_are_free_again_after_the_window(db) -> None:
    """The running sum forgets what has left its window."""
    now = datetime.now(UTC).timestamp()
    carry_usage(db, "me@relay", "a", [(int(now) - 3599, 5, 5)], now)
    quota = SharedQuota(lambda: db, "me@relay", [Rate(5, HOUR)], SystemClock())
    assert quota.reserve(1) is None
    time.sleep(2.1)
    assert quota.reserve(1) is not None


def test_a_word_of_the_server_counts_for_all_workers(db) -> None:
    """That the limit is used up is known to every worker, until its time or until somebody knows better."""
    ahead = AnotherClock(60)
    first, second = (SharedQuota(lambda: db, "me@relay", [], clock) for clock in (ahead, SystemClock()))
    first.refuse(QuotaRefusal(ahead.now() + timedelta(hours=1), "550 5.4.5 daily limit"))
    refusal = second.refusal()
    assert refusal is not None
    assert refusal.said == "550 5.4.5 daily limit"
    assert (refusal.until - datetime.now(UTC)).total_seconds() == pytest.approx(HOUR, abs=2)
    second.forget_refusal()
    assert first.refusal() is None


def test_where_there_is_no_limit_messages_are_counted_once_a_second(db) -> None:
    """They are there for the next one who looks back, and cost no round trip each."""
    clock = AnotherClock()
    quota = SharedQuota(lambda: db, "me@relay", [], clock)
    for _ in range(3):
        quota.reserve(2)
        quota.commit()
    query = "SELECT sum(messages), sum(recipients) FROM mailmerge.usage"
    assert db.row(query) == (None, None)
    clock.ahead += 1
    quota.commit()
    assert db.row(query) == (3, 6)
    assert quota.left() is None


# --- sessions -------------------------------------------------------------------------------------------


def test_a_session_is_free_again_when_its_slot_s_lease_ends(postgres_ledger, db) -> None:
    """No more slots than the account may have sessions; a dead worker keeps none, whatever its connection."""
    slots = [Slot.open(postgres_ledger, worker="w", account="me@relay") for _ in range(3)]
    first, second, third = (slot.epoch for slot in slots)
    assert [take_session(db, "me@relay", 2, epoch) for epoch in (first, second, third)] == [1, 2, None]
    assert take_session(db, "other@relay", 2, third) == 1
    db.execute("UPDATE mailmerge.slot SET until = until - 100 WHERE epoch = ?", (first,))
    assert take_session(db, "me@relay", 2, third) == 1
    slots[1].close()
    assert take_session(db, "me@relay", 2, first) == 2
    for slot in (slots[0], slots[2]):
        slot.close()


# --- opt-outs -------------------------------------------------------------------------------------------


def test_g5_opt_outs_are_addresses_domains_and_hashes(db) -> None:
    """An entry covers what the user's own store would cover, whatever the case."""
    everyone, spring = OptOutTable(db), OptOutTable(db, 7)
    digest = "b0254c86634ff9d0800561732049ce09a2d003e1ea5bfd7ac4a2d3f3b1eb1c4b"
    assert everyone.add(["ann@example.org", "@gone.example"], source="suppress") == 2
    assert everyone.add(["ann@example.org"]) == 0
    assert spring.add([f"sha256:{digest}", "bob@example.org"]) == 2
    (hashed,) = db.row("SELECT encode(sha256('eve@example.org'), 'hex')")
    spring.add([f"sha256:{hashed}"])
    asked = ["ann@example.org", "x@gone.example", "x@not.gone.example", "bob@example.org", "eve@example.org"]
    assert spring.covered(asked) == {asked[0], asked[1], asked[3], asked[4]}
    assert everyone.covered(asked) == {asked[0], asked[1]}
    assert spring.covers("nobody@example.org") is False
    assert everyone.remove(["ann@example.org", "who@example.org"]) == {"ann@example.org"}
    first = next(iter(everyone.entries()))
    assert (first.entry, first.campaign) == ("@gone.example", EVERY_CAMPAIGN)


def test_the_condition_joins_a_claim(db) -> None:
    """A message is covered if any of its recipients is."""
    OptOutTable(db, 7).add(["bob@example.org"])
    query = f"SELECT {covered('?1', 'r.who')} FROM (VALUES (?2::text[]), (?3::text[])) AS r(who)"
    rows = db.rows(query, (7, ["ann@example.org", "Bob@example.org"], ["ann@example.org"]))
    assert [found for (found,) in rows] == [True, False]


def test_files_are_carried_into_the_table(db) -> None:
    """What a new command finds in no file is removed, what others added stays; then it only grows."""
    table = OptOutTable(db, 7)
    Carrier(7).carry(db, ["old@example.org", "both@example.org"])
    table.add(["bounced@example.org"], source="bounces")
    carrier = Carrier(7)
    assert carrier.carry(db, ["both@example.org", "new@example.org"]) == 1
    assert carrier.carry(db, ["later@example.org"]) == 1
    assert [entry.entry for entry in table.entries()] == [
        "both@example.org", "bounced@example.org", "later@example.org", "new@example.org",
    ]  # fmt: skip
