"""Locks, account usage and the index of campaigns: what processes share."""

from __future__ import annotations

import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.clock import VirtualClock
from mailmerge.errors import InUseError, LedgerError
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.locks import AccountLock, CampaignLock, LockWait
from mailmerge.ledger.registry import CampaignRegistry
from mailmerge.model import Rate

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
DAY = timedelta(days=1)

HOLDER = """
import sys
from pathlib import Path
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.locks import CampaignLock
lock = CampaignLock(Path(sys.argv[1]))
lock.acquire()
print("held", flush=True)
sys.stdin.read()
"""


# --- locks ----------------------------------------------------------------------------------------------


@pytest.fixture
def holder(tmp_path: Path):
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"held\n"
        yield process
        process.kill()


def test_a14_the_second_process_is_told_who_has_it(holder, tmp_path: Path) -> None:
    """Exit 7 within a second, with pid and time; a killed holder leaves nothing behind."""
    before = time.monotonic()
    with pytest.raises(InUseError, match=rf"in use by pid {holder.pid} since \d\d:\d\d$") as caught:
        CampaignLock(tmp_path).acquire()
    assert time.monotonic() - before < 1
    assert caught.value.exit_code == 7
    holder.kill()
    holder.wait()
    with CampaignLock(tmp_path, wait=LockWait(1.0)):
        pass


def test_whoever_deletes_the_lock_file_gets_no_second_holder(holder, tmp_path: Path) -> None:
    """The folder is locked as well; with the holder's end all is free."""
    (tmp_path / "lock").unlink()
    assert CampaignLock(tmp_path).is_held()
    with pytest.raises(InUseError, match="this campaign is in use by another process"):
        CampaignLock(tmp_path).acquire()
    holder.kill()
    holder.wait()
    with CampaignLock(tmp_path):
        pass


def test_who_looks_at_a_lock_leaves_it_alone(tmp_path: Path) -> None:
    """It is held or not; nothing is made, and a look between others' looks does not take it."""
    lock = CampaignLock(tmp_path)
    assert not lock.is_held()
    assert not list(tmp_path.iterdir())
    with CampaignLock(tmp_path):
        assert lock.is_held()
    assert not lock.is_held()
    with CampaignLock(tmp_path):
        pass


def test_a_table_that_an_earlier_version_did_not_make_is_empty(tmp_path: Path) -> None:
    """Whoever only looks makes no table, and misses none."""
    path = tmp_path / "campaigns.db"
    with CampaignRegistry(path) as registry:
        registry._db.execute("DROP TABLE high_water")
    before = path.read_bytes()
    with CampaignRegistry(path, read_only=True) as registry:
        registry.refuse_missing(tmp_path / "ledger.db", "spring")
    assert path.read_bytes() == before


def test_a_registry_of_an_earlier_version_can_be_looked_at(tmp_path: Path) -> None:
    """Each table that it lacks is empty, and nothing in the file changes."""
    path = tmp_path / "campaigns.db"
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE known (ledger TEXT, campaign TEXT, mark INTEGER, noted REAL)")
    connection.close()
    before = path.read_bytes()
    with CampaignRegistry(path, read_only=True) as registry:
        for table in ("high_water", "campaign", "message", "person", "soft_bounce"):
            assert list(registry._db.execute(f"SELECT * FROM {table}")) == []
    assert path.read_bytes() == before


INTERRUPTED = """
import os, sqlite3, sys
connection = sqlite3.connect(sys.argv[1], isolation_level=None)
connection.execute("PRAGMA cache_size = 1")
connection.execute("BEGIN")
connection.execute("CREATE TABLE begun (text TEXT)")
connection.executemany("INSERT INTO begun VALUES (?)", [("x" * 3000,)] * 50)
os._exit(9)
"""


def test_a_registry_whose_maker_was_killed_can_be_looked_at(tmp_path: Path) -> None:
    """What a killed process had begun, before there was a log, is undone."""
    path = tmp_path / "campaigns.db"
    with CampaignRegistry(path):
        pass
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = DELETE")
    connection.close()
    before = path.read_bytes()
    subprocess.run([sys.executable, "-c", INTERRUPTED, str(path)], check=False)
    journal = path.with_name("campaigns.db-journal")
    interrupted = journal.exists()
    with CampaignRegistry(path, read_only=True) as registry:
        registry.refuse_missing(tmp_path / "ledger.db", "spring")

    assert interrupted
    assert (journal.exists(), path.read_bytes()) == (False, before)


def test_a15_accounts_are_locked_apart(tmp_path: Path) -> None:
    """Another account is free, the same one is not; a released one is free again."""
    with AccountLock(tmp_path, "smtp.example.org me"):
        with AccountLock(tmp_path, "smtp.example.org you"):
            pass
        with pytest.raises(InUseError, match=r"the account smtp.example.org me is in use by pid"):
            AccountLock(tmp_path, "smtp.example.org me").acquire()
    with AccountLock(tmp_path, "smtp.example.org me") as lock, pytest.raises(RuntimeError, match="already"):
        lock.acquire()


def test_waiting_for_a_lock_ends(tmp_path: Path) -> None:
    """With a wait, the lock is asked for again until then; odd text in the file does no harm."""
    with CampaignLock(tmp_path):
        (tmp_path / "lock").write_text("{]")
        before = time.monotonic()
        with pytest.raises(InUseError, match="another process"):
            CampaignLock(tmp_path, wait=LockWait(0.1)).acquire()
        assert time.monotonic() - before >= 0.1
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_a_wait_for_a_lock_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once, with the time at which it ends at the latest; a short one is not worth a word."""
    told: list[datetime] = []
    steady = iter(range(1000))
    monkeypatch.setattr(time, "monotonic", lambda: next(steady) * 0.5)
    monkeypatch.setattr(time, "sleep", lambda _seconds: None)
    with CampaignLock(tmp_path):
        for wait in (0.0, 60.0):
            with pytest.raises(InUseError):
                CampaignLock(tmp_path, wait=LockWait(wait, tell=told.append)).acquire()
    (until,) = told
    assert 50 < (until - datetime.now(UTC)).total_seconds() <= 60


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_a_lock_that_cannot_be_made_is_told() -> None:
    """No traceback where the folder cannot be written."""
    with pytest.raises(LedgerError, match="cannot use"):
        CampaignLock(Path("/proc/self/none")).acquire()


@pytest.mark.parametrize(
    ("kind", "lost"),
    [(AccountUsage, "what accounts have sent"), (CampaignRegistry, "how far each campaign has got")],
)
def test_what_is_lost_with_a_state_file_is_said(
    tmp_path: Path, kind: type[AccountUsage | CampaignRegistry], lost: str
) -> None:
    """Who moves a damaged file away knows the price of it; on a full disk nobody is told to."""
    path = tmp_path / "state.db"
    path.write_bytes(b"no database" * 500)
    with pytest.raises(LedgerError) as damaged:
        kind(path)
    assert lost in str(damaged.value.hint)
    path.unlink()
    with kind(path) as state:
        state._db.execute("PRAGMA max_page_count = 1")
        with pytest.raises(LedgerError, match="the disk is full") as full:
            state._db.execute("CREATE TABLE more AS SELECT randomblob(100000)")
    assert "move" not in str(full.value.hint)


# --- account usage --------------------------------------------------------------------------------------


@pytest.fixture
def usage(tmp_path: Path):
    with AccountUsage(tmp_path / "usage.db") as opened:
        yield opened


def test_a26_the_rolling_day_is_counted(usage: AccountUsage) -> None:
    """Recipients, not messages; a second after 24 hours they are free again."""
    limit = [Rate(5, 86400)]
    assert usage.reserve("a", 3, NOW, limit) is not None
    assert usage.reserve("a", 3, NOW + timedelta(hours=1), limit) is None
    assert usage.reserve("b", 5, NOW, limit) is not None
    assert usage.reserve("a", 2, NOW + timedelta(hours=1), limit) is not None
    assert usage.free_at("a", limit, NOW + timedelta(hours=2), 3) == NOW + DAY
    assert usage.free_at("a", limit, NOW + timedelta(hours=2), 4) == NOW + timedelta(hours=25)
    assert usage.reserve("a", 3, NOW + DAY - timedelta(seconds=1), limit) is None
    assert usage.reserve("a", 3, NOW + DAY, limit) is not None
    assert usage.used("a", NOW) == 5


def test_two_processes_share_a_quota(usage: AccountUsage, tmp_path: Path) -> None:
    """What another connection reserves counts here, immediately and after a restart."""
    limit = [Rate(3, 86400)]
    assert usage.reserve("a", 1, NOW, limit)
    with AccountUsage(tmp_path / "usage.db") as other:
        assert other.reserve("a", 1, NOW, limit)
        assert usage.reserve("a", 1, NOW, limit)
        assert other.reserve("a", 1, NOW, limit) is None
    with AccountUsage(tmp_path / "usage.db") as later:
        assert later.reserve("a", 1, NOW, limit) is None


def test_only_what_was_not_handed_over_comes_back(usage: AccountUsage) -> None:
    """A release frees exactly its own recipients."""
    limit = [Rate(3, 86400)]
    first = usage.reserve("a", 2, NOW, limit)
    usage.reserve("a", 1, NOW, limit)
    assert first is not None
    usage.release(first)
    assert usage.used("a", NOW - DAY) == 1
    assert usage.reserve("a", 2, NOW, limit) is not None
    assert list(usage.history("a", NOW - DAY)) == [NOW, NOW]


def test_a20_a_clock_set_back_frees_nothing(usage: AccountUsage) -> None:
    """Entries of the future count, and the wait is at most one window."""
    limit = [Rate(2, 86400)]
    usage.reserve("a", 1, NOW, limit)
    earlier = NOW - timedelta(days=3)
    assert usage.reserve("a", 1, earlier, limit) is not None
    assert usage.reserve("a", 1, earlier, limit) is None
    free = usage.free_at("a", limit, earlier, 2)
    assert free is not None
    assert free <= earlier + DAY


def test_an_account_without_limits_is_counted_too(usage: AccountUsage) -> None:
    """History warms up a throttle even where nothing limits the account."""
    quota = usage.quota("a", (), VirtualClock(NOW))
    first, second = quota.reserve(7), quota.reserve(2)
    assert first is not None
    assert second is not None
    assert (quota.left(), quota.free_at()) == (None, None)
    quota.commit()
    assert usage.used("a", NOW - DAY) == 9
    assert len(list(usage.history("a", NOW - DAY))) == 2
    third = quota.reserve(1)
    assert third is not None
    quota.release(third)
    assert usage.used("a", NOW - DAY) == 9


def test_counts_with_and_without_limits_are_the_same_counts(usage: AccountUsage) -> None:
    """What was counted while nothing was limited weighs when a limit is asked for, and vice versa."""
    limits = [Rate(4, 86400)]
    assert usage.reserve("work", 1, NOW, limits)
    assert usage.reserve("work", 2, NOW)
    assert usage.reserve("work", 2, NOW, limits) is None
    assert usage.reserve("work", 1, NOW, limits)
    assert usage.used("work", NOW - DAY) == 4


def test_a_bound_quota_says_what_is_left(usage: AccountUsage) -> None:
    """The tightest limit counts."""
    clock = VirtualClock(NOW)
    quota = usage.quota("a", [Rate(5, 3600), Rate(8, 86400)], clock)
    for _ in range(5):
        assert quota.reserve(1)
    assert (quota.left(), quota.reserve(1)) == (0, None)
    assert quota.free_at() == NOW + timedelta(hours=1)
    clock.sleep(3600)
    assert quota.left() == 3


@settings(max_examples=30, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(0, 40), st.integers(1, 4)), max_size=60),
    count=st.integers(3, 12),
    seconds=st.sampled_from([10.0, 60.0, 100.0]),
)
def test_no_window_holds_more_recipients_than_the_quota(steps, count, seconds, tmp_path_factory) -> None:
    """Whatever the pace, every window of the limit's length keeps to it."""
    path = tmp_path_factory.mktemp("usage") / "usage.db"
    now, sent = NOW, []
    with AccountUsage(path) as usage:
        for wait, recipients in steps:
            now += timedelta(seconds=wait)
            limit = [Rate(count, seconds)]
            if usage.reserve("a", recipients, now, limit) is not None:
                sent.append((now, recipients))
            else:
                free = usage.free_at("a", limit, now, recipients)
                assert free is not None
                assert free > now
    for start, _ in sent:
        inside = [n for at, n in sent if start <= at < start + timedelta(seconds=seconds)]
        assert sum(inside) <= count


def test_a_damaged_state_file_is_told(tmp_path: Path) -> None:
    """The hint says that only memory of quotas is lost with it."""
    path = tmp_path / "usage.db"
    path.write_bytes(os.urandom(5000))
    with pytest.raises(LedgerError, match="cannot use") as caught:
        AccountUsage(path)
    assert "move this file away" in (caught.value.hint or "")


# --- index of campaigns ---------------------------------------------------------------------------------


@pytest.fixture
def index(tmp_path: Path):
    with CampaignRegistry(tmp_path / "state" / "campaigns.db") as opened:
        yield opened


def ledger_at(folder: Path, name: str = "spring", *, handed_over: int = 0) -> Ledger:
    folder.mkdir(exist_ok=True)
    ledger = Ledger.open(folder / "ledger.db", name, now=lambda: NOW)
    with sqlite3.connect(ledger.path) as db:
        db.execute("UPDATE campaign SET handed_over = ? WHERE name = ?", (handed_over, name))
    return ledger


def refused(index: CampaignRegistry, ledger: Ledger, *, alone: bool = True) -> str:
    """Return the message with which a ledger is refused."""
    with pytest.raises(LedgerError) as caught:
        index.check(ledger, ledger.path, alone=alone)
    assert caught.value.exit_code == 8
    return str(caught.value)


def test_an_older_ledger_of_a_known_campaign_is_refused(index: CampaignRegistry, tmp_path: Path) -> None:
    """The high-water mark never goes down; equal or higher is fine, other campaigns are others."""
    with ledger_at(tmp_path / "a", handed_over=39) as spring, ledger_at(tmp_path / "a", "autumn") as autumn:
        index.note(spring, 40)
        index.note(spring, 30)
        index.check(autumn, autumn.path)
        assert "has 39 hand-overs, there were 40" in refused(index, spring)
    with ledger_at(tmp_path / "a", handed_over=40) as spring:
        index.check(spring, spring.path)


def test_a_mark_goes_with_the_ledger(index: CampaignRegistry, tmp_path: Path) -> None:
    """In a renamed folder an older ledger is as old as it was; a moved one is fine, and is not missed."""
    with ledger_at(tmp_path / "a", handed_over=3) as spring:
        index.note(spring, 3)
    moved = (tmp_path / "a").rename(tmp_path / "b")
    with ledger_at(moved, handed_over=3) as spring:
        index.check(spring, spring.path)
    with ledger_at(moved, handed_over=2) as spring:
        assert "has 2 hand-overs, there were 3" in refused(index, spring)
        index.note(spring, 3)
    index.refuse_missing(tmp_path / "a" / "ledger.db", "spring")


def test_a_copied_ledger_is_told_from_a_moved_one(index: CampaignRegistry, tmp_path: Path) -> None:
    """While both exist, only the one that was seen last continues; `take_place` says that it is the other.

    A copy that knows as much may be looked at.
    """
    with ledger_at(tmp_path / "a", handed_over=3) as spring:
        index.note(spring, 3)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with ledger_at(tmp_path / "a", handed_over=3) as spring, ledger_at(tmp_path / "b", handed_over=3) as copy:
        assert "is a copy of the one in" in refused(index, copy)
        index.check(copy, copy.path, alone=False)
        index.check(spring, spring.path)
        index.take_place(copy)
        index.check(copy, copy.path)
        assert "is a copy of the one in" in refused(index, spring)


def test_a_ledger_that_was_never_used_may_be_copied(index: CampaignRegistry, tmp_path: Path) -> None:
    """A folder in which nothing was sent is a template for others, until one of them has sent."""
    with ledger_at(tmp_path / "a") as spring:
        index.note(spring, 0)
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    with ledger_at(tmp_path / "b") as copy:
        index.check(copy, copy.path)


def test_a_missing_or_exchanged_ledger_of_a_known_campaign_is_refused(
    index: CampaignRegistry, tmp_path: Path
) -> None:
    """It is never silently started again; one that handed nothing over may be."""
    path = tmp_path / "a" / "ledger.db"
    index.refuse_missing(path, "spring")
    with ledger_at(tmp_path / "a") as spring:
        index.note(spring, 0)
        index.refuse_missing(path, "spring")
        index.note(spring, 1)
    path.unlink()
    with pytest.raises(LedgerError, match="is missing") as caught:
        index.refuse_missing(path, "spring")
    assert "--name NEW" in (caught.value.hint or "")
    with ledger_at(tmp_path / "a", handed_over=5) as another:
        assert "is not the one that was there" in refused(index, another)
    index.forget_place(path, "spring")
    index.refuse_missing(path, "spring")


def test_b30_what_a_server_bears_is_remembered_for_30_days(tmp_path: Path) -> None:
    """By host and port; after that it is tried again, and so it is where the clock was set back."""
    with AccountUsage(tmp_path / "usage.db") as usage:
        assert usage.borne("mx.example.org", 587, NOW) is None
        usage.note_borne("mx.example.org", 587, NOW, borne=False)
        assert usage.borne("mx.example.org", 587, NOW + timedelta(days=29)) is False
        assert usage.borne("mx.example.org", 465, NOW) is None
        assert usage.borne("mx.example.org", 587, NOW + timedelta(days=30)) is None
        assert usage.borne("mx.example.org", 587, NOW - timedelta(days=1)) is None
        usage.note_borne("mx.example.org", 587, NOW, borne=True)
        assert usage.borne("mx.example.org", 587, NOW) is True
