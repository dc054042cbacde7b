"""The ledger: states, durability, duplicates, counts, damage, and what people decide."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import stat
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.errors import LedgerError
from mailmerge.ledger import schema
from mailmerge.ledger.attempts import Settlement
from mailmerge.ledger.bounces import MailSummary
from mailmerge.ledger.databases import explained
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Status
from mailmerge.sqlite import Database
from plans import people

if TYPE_CHECKING:
    from collections.abc import Callable


from ledger_rows import (
    ACCEPTED,
    DEFERRED,
    DROPPED,
    IN_DOUBT,
    NOW,
    REJECTED,
    attempt,
    attempts,
    due,
    fill,
    look,
    person,
    send,
    settled,
    states,
    write_list,
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".mailmerge" / "ledger.db"


@pytest.fixture
def ledger(path: Path):
    with Ledger.open(path, "spring", now=lambda: NOW) as opened:
        opened.note_version("v1", {"subject": "a", "template": "b"})
        yield opened


# --- the file -------------------------------------------------------------------------------------------


def test_the_ledger_is_private(ledger: Ledger, path: Path) -> None:
    """Folder 0700, file 0600, and the ballast is really there."""
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.with_name("ballast").stat().st_size == 1024 * 1024


def test_a9_commits_are_durable(ledger: Ledger) -> None:
    """Write-ahead log and full synchronisation are on."""
    assert ledger._db.row("PRAGMA journal_mode") == ("wal",)
    assert ledger._db.row("PRAGMA synchronous") == (2,)


def test_a_clean_close_leaves_one_file(ledger: Ledger, path: Path) -> None:
    """Nothing of the write-ahead log is left after a clean exit."""
    fill(ledger)
    ledger.close()
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", "ballast", "ledger.db"]


def test_several_campaigns_share_a_file(ledger: Ledger, path: Path) -> None:
    """Each has its own secret, rows and counts."""
    fill(ledger, 3)
    send(ledger, 2)
    ledger.close()
    with Ledger.open(path, "autumn") as other:
        assert other.secret != ledger.secret
        assert len(other.secret) == 32
        assert other.counts().total == 0
        fill(other, 2)
    with Ledger.open(path, "spring") as again:
        assert again.secret == ledger.secret
        assert dict(again.counts().by_status) == {Status.PENDING: 2, Status.ACCEPTED: 1}


def test_looking_changes_no_byte(ledger: Ledger, path: Path) -> None:
    """A33: opening for reading leaves the file as it was, and an unknown campaign is told."""
    fill(ledger)
    ledger.close()
    before = path.read_bytes()
    with Ledger.open_read_only(path, "spring") as reader:
        assert reader.counts().total == 5
    with pytest.raises(LedgerError, match="no campaign") as caught:
        Ledger.open_read_only(path, "summer")
    assert "spring" in (caught.value.hint or "")
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", "ballast", "ledger.db"]


def test_looking_works_while_another_writes(ledger: Ledger, path: Path) -> None:
    """`status` sees what is committed, during a run."""
    fill(ledger)
    send(ledger, 2)
    with Ledger.open_read_only(path, "spring") as reader:
        assert reader.counts()[Status.ACCEPTED] == 1
        send(ledger, 3)
        assert reader.counts()[Status.ACCEPTED] == 2


def test_a_scratch_copy_leaves_the_original_alone(ledger: Ledger, path: Path) -> None:
    """Dry runs and rehearsals write into a copy that vanishes."""
    fill(ledger)
    ledger.close()
    before = path.read_bytes()
    with Ledger.scratch(path, "spring") as copy:
        send(copy, 2)
        assert copy.counts()[Status.ACCEPTED] == 1
        folder = Path(copy.path).parent
    assert not folder.exists()
    assert path.read_bytes() == before
    with Ledger.scratch(None, "new") as empty:
        assert empty.counts().total == 0


# --- the list -------------------------------------------------------------------------------------------


# --- promise and outcome --------------------------------------------------------------------------------


def test_counts_follow_the_rows(ledger: Ledger, path: Path) -> None:
    """Whatever changes a row's state, the numbers that the ledger gives are those of the rows."""
    fill(ledger, 9)
    ledger.start_run("send")
    steps: dict[str, Callable[[], object]] = {
        "nothing": lambda: None,
        "promise": lambda: ledger.attempts.record_intent([attempt(2), attempt(3), attempt(4)]),
        "accept": lambda: ledger.attempts.record_outcomes([settled(2, ACCEPTED)]),
        "reject": lambda: ledger.attempts.record_outcomes([settled(3, REJECTED)]),
        "without promise": lambda: ledger.attempts.record_outcomes([settled(5, DEFERRED, next_at=NOW)]),
        "repair": ledger.repair,
        "resolve": lambda: ledger.resolve(None, as_accepted=True),
        "requeue": lambda: ledger.requeue(None),
        "an end": lambda: ledger.finish_run("finished", {}),
        "requeue accepted": lambda: ledger.requeue(None, accepted=True),
        "accept again": lambda: send(ledger, 2),
        "shorter list": lambda: fill(ledger, 2),
        "no list": lambda: fill(ledger, 0),
        "end of the run": lambda: ledger.finish_run("finished", {}),
        "more": lambda: send(ledger, 7),
        "end again": lambda: ledger.finish_run("finished", {}),
        "purge": ledger.purge,
    }
    before = None
    for name, step in steps.items():
        step()
        counts = ledger.counts()
        found = Counter(result.status for result in look(ledger).results())
        if name == "purge":  # rows that were never contacted are forgotten
            del found[Status.PENDING]
        assert {status: counts[status] for status in counts} == dict(found), name
        same = {"nothing", "purge", "shorter list", "an end", "end of the run", "end again"}
        assert counts != before or name in same, name
        before = counts


def test_counts_that_were_kept_badly_are_damage(ledger: Ledger, path: Path) -> None:
    """What cannot have been written by us is told, not guessed at."""
    fill(ledger)
    for bad in ("[1]", "x", '[{"sent": 3}, {}]', '[{}, {"accepted": "many"}]', "7"):
        ledger._db.execute("UPDATE campaign SET standing = ?", (bad,))
        with pytest.raises(LedgerError) as caught:
            ledger.counts()
        assert caught.value.code == "L701"
        ledger._db.execute("UPDATE campaign SET standing = '', counts = ?", (bad,))
        with pytest.raises(LedgerError) as caught:
            ledger.counts()
        assert caught.value.code == "L701"
        ledger._db.execute("UPDATE campaign SET counts = ''")


@settings(max_examples=40, deadline=None)
@given(
    lists=st.lists(
        st.tuples(
            st.lists(st.integers(0, 12), max_size=15),
            st.lists(st.sampled_from(["ok", "reject", "defer", "drop", "stop"]), max_size=8),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_a16_any_edits_between_any_stops(lists) -> None:
    """Rows sorted, inserted, removed, doubled between stops: none sent twice, none without a state."""
    with Ledger.scratch(None, "x", now=lambda: NOW) as ledger:
        ledger.note_version("v1", {})
        sent: list[str] = []
        for persons, fates in lists:
            write_list(ledger, *map(person, people(*(f"k{number}" for number in persons))))
            for delivery, fate in zip(due(ledger, NOW), fates, strict=False):
                one = attempt(int(delivery.key[1:]))
                ledger.attempts.record_intent([one])
                if fate == "stop":
                    break
                outcome = {"ok": ACCEPTED, "reject": REJECTED, "defer": DEFERRED, "drop": DROPPED}[fate]
                sent += [delivery.key] * (fate == "ok")
                ledger.attempts.record_outcomes([Settlement(one, outcome, outcome.status, NOW, NOW)])
            ledger.repair()
            results = list(look(ledger).results())
            assert [result.row for result in results if result.row] == list(range(2, 2 + len(persons)))
            assert ledger.counts().total == len(results)
            assert ledger.counts()[Status.HANDING_OVER] == 0
        assert len(sent) == len(set(sent))


# --- repair, kill, damage -------------------------------------------------------------------------------


def test_a2_what_was_being_handed_over_is_in_doubt(ledger: Ledger, path: Path, tmp_path: Path) -> None:
    """A copy of the files as a crash leaves them: the promised row is in doubt, nothing else changes."""
    fill(ledger, 4)
    send(ledger, 2)
    send(ledger, 3, REJECTED)
    ledger.attempts.record_intent([attempt(4)])
    crashed = tmp_path / "crashed"
    shutil.copytree(path.parent, crashed)
    with Ledger.open(crashed / "ledger.db", "spring") as again:
        assert again.repair() == 1
        assert again.repair() == 0
        assert states(again) == {
            2: Status.ACCEPTED,
            3: Status.REJECTED,
            4: Status.IN_DOUBT,
            5: Status.PENDING,
        }
        assert [result.row for result in look(again).in_doubt()] == [4]
        assert attempts(again, "key", "reason")[-1] == ("k4", "stopped")
        assert [delivery.row for delivery in due(again, NOW)] == [5]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a3_a_killed_process_loses_no_promise(path: Path) -> None:
    """SIGKILL right after `promise` returned: the row is there."""
    child = os.fork()
    if child == 0:
        ledger = Ledger.open(path, "spring")
        ledger.note_version("v1", {})
        fill(ledger, 30)
        ledger.attempts.record_intent([attempt(2), attempt(3)])
        ledger.attempts.record_intent([attempt(4)], [settled(2, ACCEPTED)])
        os.kill(os.getpid(), signal.SIGKILL)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
    with Ledger.open(path, "spring") as ledger:
        assert ledger.attempts.handed_over == 3
        assert ledger.repair() == 2
        counts = ledger.counts()
        assert (counts[Status.ACCEPTED], counts[Status.IN_DOUBT], counts[Status.PENDING]) == (1, 2, 27)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "ledger.db"
    with Ledger.open(path, "spring", now=lambda: NOW) as ledger:
        ledger.note_version("v1", {})
        fill(ledger, 60)
        ledger.attempts.record_intent([attempt(row) for row in range(2, 40)])
        ledger.attempts.record_outcomes([settled(row, ACCEPTED) for row in range(2, 40)])
    return path.read_bytes()


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a13_damage_is_told_and_never_mended(data, whole, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Truncated or overwritten: a `LedgerError`, or a ledger that can be read; never a traceback."""
    folder = tmp_path_factory.mktemp("damage")
    path = folder / "ledger.db"
    if data.draw(st.booleans()):
        broken = whole[: data.draw(st.integers(0, len(whole) - 1))]
    else:
        place = data.draw(st.integers(0, len(whole) - 1))
        junk = data.draw(st.binary(min_size=1, max_size=3000))
        broken = (whole[:place] + junk + whole[place + len(junk) :])[: len(whole)]
    path.write_bytes(broken)
    try:
        with Ledger.open(path, "spring", now=lambda: NOW) as ledger:
            ledger.repair()
            found = [delivery.row for delivery in due(ledger, NOW)]
            list(look(ledger).results())
            ledger.counts()
    except LedgerError as error:
        found, told = [], error
    else:
        told = LedgerError("nothing", hint="none")
    assert (told.exit_code, bool(told.hint), len(found) <= 60) == (8, True, True)
    shutil.rmtree(folder)


@pytest.mark.parametrize(
    "content", [b"", b"hello", os.urandom(9000), b"SQLite format 3\x00" + b"\x00" * 5000]
)
def test_a13_what_is_no_ledger_is_never_replaced(path: Path, content: bytes) -> None:
    """An empty file, text, noise: exit 8 for writing and reading, and the bytes stay."""
    path.parent.mkdir()
    path.write_bytes(content)
    for way in (Ledger.open, Ledger.open_read_only):
        with pytest.raises(LedgerError, match="damaged"):
            way(path, "spring")
    assert path.read_bytes() == content


def test_a13_another_programs_database_is_refused(path: Path) -> None:
    """A valid SQLite file that is not ours is not touched."""
    path.parent.mkdir()
    db = sqlite3.connect(path)
    db.execute("CREATE TABLE t (x)")
    db.commit()
    db.close()
    with pytest.raises(LedgerError, match="not a mailmerge ledger"):
        Ledger.open(path, "spring")


def test_a13_a_newer_ledger_is_refused(ledger: Ledger, path: Path) -> None:
    """A later version's file is left to that version."""
    ledger.close()
    db = sqlite3.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    for way in (Ledger.open, Ledger.open_read_only):
        with pytest.raises(LedgerError, match="newer mailmerge"):
            way(path, "spring")


def test_a13_an_older_ledger_is_copied_then_migrated(tmp_path: Path) -> None:
    """The copy is the file as it was; a failing migration changes nothing."""
    path = tmp_path / "ledger.db"
    schema.create(path, schema="CREATE TABLE old (x); INSERT INTO old VALUES (7)", version=5)
    with Database.connect(path, explained) as db:
        with pytest.raises(LedgerError, match="nowhere"):
            schema.migrate(db, {5: "ALTER TABLE old ADD y; DROP TABLE nowhere"}, 6)
        assert db.row("SELECT * FROM old") == (7,)
        copy = schema.migrate(db, {5: "ALTER TABLE old ADD y", 6: "DELETE FROM old"}, 7)
        assert db.row("PRAGMA user_version") == (7,)
        assert db.row("SELECT count(*) FROM old") == (0,)
        assert schema.migrate(db, {}, 7) is None
    assert copy is not None
    assert stat.S_IMODE(copy.stat().st_mode) == 0o600
    old = sqlite3.connect(copy)
    assert old.execute("SELECT * FROM old").fetchone() == (7,)
    assert old.execute("PRAGMA user_version").fetchone() == (5,)
    old.close()


def test_a13_an_older_ledger_is_brought_up_to_date_by_the_next_run(
    ledger: Ledger, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looking at it changes nothing; its rows are all there, and a copy of it as it was."""
    fill(ledger)
    send(ledger, 2)
    ledger.close()
    older = path.read_bytes()
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)
    monkeypatch.setattr(schema, "MIGRATIONS", {schema.VERSION - 1: "ALTER TABLE run ADD COLUMN made_up TEXT"})
    with Ledger.open_read_only(path, "spring") as looking:
        assert looking.counts()[Status.ACCEPTED] == 1
        assert looking._db.rows("SELECT made_up FROM run") == []
    assert path.read_bytes() == older
    with Ledger.open(path, "spring") as newer:
        assert newer.counts()[Status.ACCEPTED] == 1
        assert newer.counts().total == 5
        assert newer._db.rows("SELECT made_up FROM run") == []
    with contextlib.closing(sqlite3.connect(path.with_name(f"ledger.db.v{schema.VERSION - 1}.bak"))) as db:
        assert db.execute("PRAGMA user_version").fetchone() == (schema.VERSION - 1,)
        assert db.execute("SELECT count(*) FROM attempt").fetchone() == (1,)
    with Ledger.open_read_only(path, "spring") as looking:
        assert looking.counts()[Status.ACCEPTED] == 1


@pytest.mark.parametrize("version", [0, 1, 3])
def test_a13_a_ledger_from_before_the_first_release_is_refused(
    ledger: Ledger, path: Path, version: int
) -> None:
    """In words, for writing, looking and copying, with exit code 8; the file stays as it is."""
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.execute(f"PRAGMA user_version = {version}")
    before = path.read_bytes()
    for way in (Ledger.open, Ledger.open_read_only, Ledger.scratch):
        with pytest.raises(LedgerError, match="older mailmerge") as caught:
            way(path, "spring")
        assert (caught.value.code, caught.value.exit_code) == ("L704", 8)
        assert "move this file away" in (caught.value.hint or "")
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == [".gitignore", "ballast", "ledger.db"]


def test_a_missing_ledger_is_told(path: Path) -> None:
    """Without permission to create, there must be one."""
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger.open(path, "spring", create=False)
    with pytest.raises(LedgerError, match="no ledger"):
        Ledger.open_read_only(path, "spring")


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs a folder that nobody can write")
def test_a12_an_unwritable_folder_is_told() -> None:
    """No traceback where the folder cannot be made."""
    with pytest.raises(LedgerError) as caught:
        Ledger.open(Path("/proc/self/.mailmerge/ledger.db"), "spring")
    assert (caught.value.code, caught.value.exit_code) == ("L702", 8)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a12_a_read_only_folder_is_found_before_sending(ledger: Ledger, path: Path) -> None:
    """Exit 8 with a hint, before anything is connected."""
    ledger.close()
    path.chmod(0o400)
    path.parent.chmod(0o500)
    try:
        with pytest.raises(LedgerError) as caught:
            Ledger.open(path, "spring")
        assert caught.value.code == "L702"
    finally:
        path.parent.chmod(0o700)


def test_a10_a_full_disk_promises_nothing(ledger: Ledger) -> None:
    """The promise fails with a clear message, no row has moved, and the database stays valid."""
    fill(ledger, 400)
    (pages,) = ledger._db.row("PRAGMA page_count")
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="disk is full") as caught:
        ledger.attempts.record_intent([attempt(row) for row in range(2, 402)])
    assert (caught.value.code, caught.value.exit_code) == ("L703", 8)
    assert ledger.counts()[Status.PENDING] == 400
    ledger._db.execute("PRAGMA max_page_count = 100000")
    ledger.attempts.record_intent([attempt(2)])
    assert ledger.attempts.handed_over == 1


def test_a11_the_ballast_saves_the_outcome(ledger: Ledger, path: Path) -> None:
    """Full after acceptance: outcomes are recorded with the ballast's space, the next promise is not made."""
    fill(ledger, 400)
    ledger.attempts.record_intent([attempt(2)])
    (pages,) = ledger._db.row("PRAGMA page_count")
    ledger._db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(LedgerError, match="disk is full"):
        ledger.attempts.record_intent([attempt(row) for row in range(3, 402)], [settled(2, ACCEPTED)])
    assert not path.with_name("ballast").exists()
    assert states(ledger)[2] is Status.ACCEPTED
    assert ledger.counts()[Status.HANDING_OVER] == 0


def test_a11_what_cannot_be_recorded_is_told(ledger: Ledger) -> None:
    """If even that fails, row and reply are in the message, and the row will be in doubt."""
    fill(ledger, 2)
    ledger.attempts.record_intent([attempt(2)])
    ledger._db.execute("PRAGMA query_only = ON")
    with pytest.raises(LedgerError, match=r"row 2 <u2@example\.org>: accepted, 250 2\.0\.0 queued as 4F1A"):
        ledger.attempts.record_outcomes([settled(2, ACCEPTED)])
    ledger._db.execute("PRAGMA query_only = OFF")
    assert ledger.repair() == 1


# --- versions, runs, decisions --------------------------------------------------------------------------


def test_rows_in_doubt_are_found_through_the_deliveries(ledger: Ledger, path: Path) -> None:
    """Also those that a dead run was handing over; rows of the list first, in its order, then those gone."""
    fill(ledger, 9)
    ledger.attempts.record_intent([attempt(row) for row in (9, 8, 2, 3, 4, 5)])
    ledger.attempts.record_outcomes([settled(2, ACCEPTED), settled(3, REJECTED), settled(4, IN_DOUBT)])
    fill(ledger, 7)
    with Ledger.open_read_only(path, "spring") as reader:
        found = [(result.row, result.key, result.status) for result in look(reader).in_doubt()]
        assert found == [
            (4, "k4", Status.IN_DOUBT),
            (5, "k5", Status.HANDING_OVER),
            (8, "k8", Status.HANDING_OVER),
            (None, "k9", Status.HANDING_OVER),
        ]
        assert {
            result.key: result for result in look(reader).results() if result.key in {"k4", "k5", "k8", "k9"}
        } == {result.key: result for result in look(reader).in_doubt()}


def test_purge_leaves_counts_and_nothing_personal(ledger: Ledger, path: Path) -> None:
    """Addresses, keys and replies are gone from the bytes of the file; the campaign cannot be resumed."""
    fill(ledger, 3)
    send(ledger, 2)
    send(ledger, 3, REJECTED)
    ledger.purge()
    assert dict(ledger.counts().by_status) == {Status.ACCEPTED: 1, Status.REJECTED: 1}
    secret = ledger.secret
    ledger.close()
    content = path.read_bytes()
    for trace in (b"example.org", b"no such user", b"k2", b"queued as", secret):
        assert trace not in content
    with pytest.raises(LedgerError, match="purged"):
        Ledger.open(path, "spring")
    with Ledger.open_read_only(path, "spring") as reader:
        assert reader.counts().total == 2


def test_sync_folders_are_recognised_by_name(tmp_path: Path) -> None:
    """A12: OneDrive, Dropbox and the like; others are not."""
    assert schema.sync_folder(tmp_path / "OneDrive - Example" / "c" / "ledger.db") == "OneDrive - Example"
    assert schema.sync_folder(tmp_path / "ledger.db") is None


# --- a session that proved out of step ----------------------------------------------------------------------


def test_a13_the_ledger_of_version_4_is_brought_up_to_date(ledger: Ledger, path: Path) -> None:
    """It had no reports and no copies; looking at it and bringing it up to date both find its rows."""
    fill(ledger)
    send(ledger, 2)
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TABLE copy; DROP TABLE bounce; DROP TABLE mail; ALTER TABLE delivery DROP COLUMN bounce; "
            "ALTER TABLE campaign DROP COLUMN mailbox; ALTER TABLE campaign DROP COLUMN halted; "
            "ALTER TABLE attempt DROP COLUMN rows; ALTER TABLE campaign DROP COLUMN moved_to; "
            "PRAGMA user_version = 4"
        )
    with Ledger.open_read_only(path, "spring") as looking:
        before = [delivery.status for delivery in looking.contacted(*Status)]
        assert looking.bounces.summary() == MailSummary()
    with Ledger.open(path, "spring") as newer:
        assert [delivery.status for delivery in newer.contacted(*Status)] == before != []
        assert newer.bounces.record("a", "dsn", [])
        assert newer.bounces.known(["a", "b"]) == {"a"}


def test_rows_are_counted_again_only_after_a_change(ledger: Ledger, path: Path) -> None:
    """Whoever changes them, here or elsewhere; what a transaction took back is not counted."""
    queries: list[str] = []
    with Ledger.open_read_only(path, "spring") as reader:
        assert isinstance(reader._db, Database)
        reader._db.connection.set_trace_callback(queries.append)

        def counted() -> int:
            queries.clear()
            assert reader.states() == ledger.states()
            return sum("FILTER" in query for query in queries)

        assert (counted(), counted()) == (1, 0)
        ledger.attempts.record_intent([attempt(2)])
        assert (counted(), counted()) == (1, 0)
        with contextlib.suppress(ZeroDivisionError), ledger._db.transaction():
            ledger._db.execute("DELETE FROM delivery")
            assert ledger.states().total == 0
            raise ZeroDivisionError
        assert counted() == 0
        assert ledger.states().total == 1


def test_every_row_is_read_in_sequence(ledger: Ledger) -> None:
    """Whoever wants to know about all rows does not look each of them up in the order of their keys."""
    fill(ledger, 9)
    for row in range(2, 7):
        send(ledger, row)
    send(ledger, 7, REJECTED)
    send(ledger, 8, DEFERRED, next_at=NOW)
    ledger.attempts.record_intent([attempt(9)])
    asked: list[str] = []
    assert isinstance(ledger._db, Database)
    ledger._db.connection.set_trace_callback(asked.append)

    assert ledger.repair() == 1
    ledger.correct({"k7": "k10"})
    assert ledger.counts().by_status == {**ledger.states().by_status, Status.PENDING: 1}
    assert [version.accepted for version in ledger.versions()] == [5]
    ledger.note_version("v2", {})
    assert [version.accepted for version in ledger.versions()] == [5]
    assert (list(ledger.waiting()), list(ledger.deferred())) == ([("k8", Status.DEFERRED)], [("k8", NOW)])
    assert [delivery.key for delivery in ledger.contacted(Status.IN_DOUBT, Status.HANDING_OVER)] == ["k9"]
    assert len(list(ledger.taken())) == 6
    assert ledger.keys_in([(2, 3), (9, 9)]) == ["k2", "k3", "k9"]
    assert ledger.without_answer("c1") == [("k9", "<m9@example.org>")]
    assert ledger.resolve(None, as_accepted=True) == 1
    assert ledger.requeue(["k7"]) == 1
    ledger.finish_run("finished", {})
    ledger._db.connection.set_trace_callback(None)

    ways = [
        way
        for query in dict.fromkeys(asked)
        if re.match(r"\s*(SELECT|UPDATE)", query)
        for *_, way in ledger._db.rows(f"EXPLAIN QUERY PLAN {query}")
        if re.search(r" (d|delivery)\b", way)
    ]
    assert [way for way in ways if "(campaign=?)" in way] == []
    assert sum(way.startswith("SCAN") for way in ways) > 10
    assert "SEARCH delivery USING INDEX sqlite_autoindex_delivery_1 (campaign=? AND key=?)" in ways
