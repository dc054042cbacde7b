"""The ledger: states, durability, duplicates, counts, damage, and what people decide."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import sqlite3
import stat
from collections import Counter
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailmerge.campaign.standing import Join, Standing
from mailmerge.errors import LedgerError
from mailmerge.ledger import schema
from mailmerge.ledger.attempts import Revision, Settlement
from mailmerge.ledger.bounces import MailSummary
from mailmerge.ledger.databases import explained
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Attempt, Delivery, Outcome, Phase, Reply, Scope, Status
from mailmerge.recipients.suppression import Suppressed
from mailmerge.sqlite import Database
from plans import people, standing

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.ledger.reader import LedgerReader, Run
    from mailmerge.plan.store import PlanReader, PlanRow

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
ACCEPTED = Outcome(
    Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250, ("queued as 4F1A",), (2, 0, 0), b"250 ..")
)
REJECTED = Outcome(
    Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550, ("no such user",), (5, 1, 1)), "recipient"
)
DEFERRED = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(450, ("later",)), "greylist")
IN_DOUBT = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT)
DROPPED = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / ".mailmerge" / "ledger.db"


@pytest.fixture
def ledger(path: Path):
    with Ledger.open(path, "spring", now=lambda: NOW) as opened:
        opened.note_version("v1", {"subject": "a", "template": "b"})
        yield opened


def attempt(row: int, *, version: str = "v1", address: str = "", number: int = 1) -> Attempt:
    return Attempt(
        key=f"k{row}",
        row=row,
        address=address or f"u{row}@example.org",
        number=number,
        message_id=f"<m{row}@example.org>",
        date=datetime(2026, 11, 22, 11, 0, tzinfo=timezone(timedelta(hours=1))),
        recipients=1,
        size=1000,
        digest="d" * 64,
        frozen="f" * 64,
        row_digest="r" * 16,
        version=version,
        connection="c1",
    )


def settled(row: int, outcome: Outcome, status: Status | None = None, **more) -> Settlement:
    about = {key: more.pop(key) for key in ("version", "address") if key in more}
    return Settlement(attempt(row, **about), outcome, status or outcome.status, NOW, **more)


def fill(ledger: Ledger, rows: int = 5, status: Status = Status.PENDING) -> None:
    """Plan so many rows, and note where they stand."""
    keys = (f"k{row}" for row in range(2, 2 + rows))
    write_list(ledger, *(person(row) for row in people(*keys, status=status)))


def person(row: PlanRow) -> PlanRow:
    return replace(row, address=f"u{row.key[1:]}@example.org")


LATEST: dict[str, PlanReader] = {}
"""The plan of each campaign name."""


def write_list(ledger: Ledger, *rows: PlanRow) -> None:
    found = standing(ledger, *rows)
    assert found.plan is not None
    LATEST[ledger.campaign] = found.plan


def look(ledger: LedgerReader) -> Standing:
    """Say where the rows of the latest plan stand."""
    return Standing(ledger, LATEST.get(ledger.campaign), Join(Suppressed()))


def due(ledger: Ledger, now: datetime) -> list[Delivery]:
    return [
        row.delivery or Delivery(row.planned.key, row.planned.row, row.planned.address, Status.PENDING)
        for row in look(ledger).due(now)
    ]


def send(ledger: Ledger, row: int, outcome: Outcome = ACCEPTED, **more) -> None:
    about = {key: more[key] for key in ("version", "address") if key in more}
    ledger.attempts.record_intent([attempt(row, **about)])
    ledger.attempts.record_outcomes([settled(row, outcome, **more)])


def attempts(ledger: Ledger, *columns: str) -> list[tuple[object, ...]]:
    """All attempts in the file, oldest first."""
    with Database.connect(ledger.path, explained, read_only=True) as db:
        return db.rows(f"SELECT {', '.join(columns)} FROM attempt ORDER BY id")


def first_delivery(ledger: Ledger) -> Delivery:
    delivery = next(look(ledger).results()).delivery
    assert delivery is not None
    return delivery


def last_run(ledger: Ledger, kind: str = "send") -> Run:
    run = ledger.last_run(kind)
    assert run is not None
    return run


def states(ledger: Ledger) -> dict[int | None, Status]:
    return {result.row: result.status for result in look(ledger).results()}


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
        folder = copy.path.parent
    assert not folder.exists()
    assert path.read_bytes() == before
    with Ledger.scratch(None, "new") as empty:
        assert empty.counts().total == 0


# --- the list -------------------------------------------------------------------------------------------


def test_a16_rows_are_known_by_key(ledger: Ledger) -> None:
    """Sorted, grown and shrunk lists: nobody twice, nobody forgotten, the gone ones listed."""
    fill(ledger, 4)
    send(ledger, 2)
    send(ledger, 3)
    write_list(ledger, *map(person, people("k5", "k9", "k3")))
    assert [delivery.key for delivery in due(ledger, NOW)] == ["k5", "k9"]
    assert states(ledger) == {2: Status.PENDING, 3: Status.PENDING, 4: Status.ACCEPTED, None: Status.ACCEPTED}
    assert [delivery.key for delivery in look(ledger).gone()] == ["k2"]
    assert ledger.counts().total == 4
    assert [result.address for result in look(ledger).results() if result.row is None] == ["u2@example.org"]


def test_a17_a_corrected_address_gets_another_chance(ledger: Ledger) -> None:
    """With a key column, a rejected row whose address was mended is pending again; others are not."""
    fill(ledger, 3)
    send(ledger, 2, REJECTED)
    send(ledger, 3, REJECTED)
    second, third = people("k2", "k3")
    write_list(
        ledger, replace(second, address="U2@example.org"), replace(third, address="mended@example.org")
    )
    assert states(ledger) == {2: Status.REJECTED, 3: Status.PENDING}
    ledger.attempts.record_intent([attempt(3, address="mended@example.org")])


def test_what_happened_outlives_what_the_list_says(ledger: Ledger) -> None:
    """An accepted row that is suppressed now stays accepted; a deferred one becomes suppressed."""
    fill(ledger, 3)
    send(ledger, 2)
    send(ledger, 3, DEFERRED, next_at=NOW + timedelta(hours=1))
    fill(ledger, 3, Status.SUPPRESSED)
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.SUPPRESSED, 4: Status.SUPPRESSED}
    assert due(ledger, NOW + timedelta(days=1)) == []
    assert look(ledger).next_due() is None


# --- promise and outcome --------------------------------------------------------------------------------


def test_promises_and_outcomes_share_a_commit(ledger: Ledger) -> None:
    """The outcome of one row and the intent of the next are recorded together."""
    fill(ledger, 2)
    ledger.attempts.record_intent([attempt(2)])
    ledger.attempts.record_intent([attempt(3)], [settled(2, ACCEPTED)])
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.HANDING_OVER}
    assert ledger.attempts.handed_over == 2


def test_what_the_server_said_is_kept(ledger: Ledger) -> None:
    """The report sees reply, code, phase, Date and Message-ID of the last attempt."""
    fill(ledger, 1)
    send(ledger, 2, REJECTED)
    (result,) = look(ledger).results()
    delivery = result.delivery
    assert delivery is not None
    assert (delivery.code, delivery.enhanced, delivery.reply) == (550, "5.1.1", "no such user")
    assert (delivery.phase, delivery.reason, delivery.attempts) == ("rcpt", "recipient", 1)
    assert delivery.date == attempt(2).date
    assert delivery.date.utcoffset() == timedelta(hours=1)
    assert (delivery.message_id, delivery.version, delivery.row_digest) == (
        "<m2@example.org>",
        "v1",
        "r" * 16,
    )


def test_no_row_is_promised_twice(ledger: Ledger) -> None:
    """Whatever the caller believes, only a pending row is handed over; else all is undone."""
    fill(ledger, 3)
    send(ledger, 2)
    with pytest.raises(RuntimeError, match="not pending"):
        ledger.attempts.record_intent([attempt(3), attempt(2)])
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.PENDING, 4: Status.PENDING}
    ledger.attempts.record_intent([attempt(3)])
    with pytest.raises(RuntimeError, match="not pending"):
        ledger.attempts.record_intent([attempt(3)])
    assert ledger.attempts.handed_over == 2


def test_outcomes_without_promise_are_kept(ledger: Ledger) -> None:
    """A recipient refused before the content never needed a promise; every attempt is kept all the same."""
    fill(ledger, 1)
    ledger.attempts.record_outcomes([settled(2, DROPPED, counts=False), settled(2, DEFERRED, next_at=NOW)])
    ledger.attempts.record_intent([attempt(2, number=2)])
    ledger.attempts.record_outcomes([settled(2, ACCEPTED)])
    assert attempts(ledger, "status", "number", "raw") == [
        ("pending", 1, None),
        ("deferred", 1, b""),
        ("accepted", 2, b"250 .."),
    ]
    assert first_delivery(ledger).attempts == 2
    assert ledger.attempts.handed_over == 1


def test_a_dropped_promise_goes_back_to_pending(ledger: Ledger) -> None:
    """Nothing of it was taken: the row is offered again, and may be promised again in the same commit."""
    fill(ledger, 1)
    ledger.attempts.record_intent([attempt(2)])
    ledger.attempts.record_intent([attempt(2)], [settled(2, DROPPED, counts=False)])
    assert states(ledger) == {2: Status.HANDING_OVER}
    ledger.attempts.record_outcomes([settled(2, ACCEPTED)])
    assert attempts(ledger, "status", "previous") == [("pending", None), ("accepted", 1)]


def test_deferred_rows_come_back_when_due(ledger: Ledger) -> None:
    """Not before; and `next_due` says when."""
    fill(ledger, 2)
    later = NOW + timedelta(minutes=5)
    send(ledger, 3, DEFERRED, next_at=later)
    assert [delivery.row for delivery in due(ledger, NOW)] == [2]
    assert look(ledger).next_due() == later
    found = due(ledger, later)
    assert [(d.row, d.attempts, d.first_attempt) for d in found] == [(2, 0, None), (3, 1, NOW)]


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


def test_hostile_replies_can_be_recorded(ledger: Ledger) -> None:
    """A lone surrogate or NUL in a reply must not lose the outcome; it comes back fit to be shown."""
    fill(ledger, 1)
    odd = Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550, ("\udcff\x00\x1b]0;x",), raw=b"\xff"))
    send(ledger, 2, odd)
    assert first_delivery(ledger).reply == r"?\x00\x1b]0;x"


def test_two_kilobytes_of_a_reply_are_kept(ledger: Ledger) -> None:
    """A server may say 64 KB for each row; the beginning is what matters."""
    fill(ledger, 1)
    long = Reply(550, ("ü" * 30_000,), raw=b"550 " + b"x" * 60_000)
    send(ledger, 2, Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, long))
    reply = first_delivery(ledger).reply
    assert (len(reply.encode()), reply[-1]) == (2047, "…")
    assert len(str(long)) < 2_100


def test_an_unknown_version_is_our_mistake(ledger: Ledger) -> None:
    """Versions are noted before anything is sent with them."""
    with pytest.raises(RuntimeError, match="version"):
        ledger.attempts.record_intent([attempt(2, version="v9")])


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


def test_a18_versions_tell_what_changed(ledger: Ledger) -> None:
    """How many rows went out with which version, and which parts differ now."""
    fill(ledger, 4)
    send(ledger, 2)
    send(ledger, 3)
    ledger.note_version("v2", {"subject": "a", "template": "c"})
    send(ledger, 4, version="v2")
    send(ledger, 5, REJECTED, version="v2")
    assert [(v.digest, v.accepted) for v in ledger.versions()] == [("v1", 2), ("v2", 1)]
    assert ledger.versions()[0].changed({"subject": "a", "template": "c", "from": "x"}) == (
        "template",
        "from",
    )


def test_runs_are_recorded(ledger: Ledger) -> None:
    """Kind, version, end and counts; test runs apart from real ones."""
    assert ledger.last_run() is None
    ledger.start_run("send", "v1")
    fill(ledger, 1)
    send(ledger, 2)
    assert last_run(ledger).ended is None
    ledger.finish_run("finished", {"accepted": 1})
    number = ledger.start_run("test")
    run = last_run(ledger)
    assert (run.kind, run.pid, run.version, run.reason, run.counts) == (
        "send",
        os.getpid(),
        "v1",
        "finished",
        {"accepted": 1},
    )
    assert attempts(ledger, "run") == [(run.id,)]
    assert last_run(ledger, "test").id == number


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


def test_doubts_are_resolved_by_a_person(ledger: Ledger) -> None:
    """As accepted, or to be sent again; only rows in doubt, and one by one if asked."""
    fill(ledger, 4)
    ledger.attempts.record_intent([attempt(row) for row in (2, 3, 4)])
    ledger.repair()
    assert ledger.resolve(["k2", "k2", "k5", "nobody"], as_accepted=True) == 1
    assert ledger.resolve(None, as_accepted=False) == 2
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.PENDING, 4: Status.PENDING, 5: Status.PENDING}
    assert first_delivery(ledger).reason == "resolved as accepted"
    first = due(ledger, NOW)[0]
    assert (first.message_id, first.date) == ("<m3@example.org>", attempt(3).date)
    ledger.attempts.record_intent([attempt(3)])


def test_requeue_gives_back_all_tries(ledger: Ledger) -> None:
    """Rejected and expired rows; accepted ones only on their own demand."""
    fill(ledger, 4)
    send(ledger, 2, REJECTED)
    send(ledger, 3, DEFERRED, status=Status.EXPIRED)
    send(ledger, 4)
    assert ledger.requeue(["k4"]) == 0
    assert ledger.requeue(None) == 2
    assert ledger.requeue(["k4"], accepted=True) == 1
    assert {(d.row, d.attempts, d.first_attempt) for d in due(ledger, NOW)} == {
        (r, 0, None) for r in (2, 3, 4, 5)
    }


def test_a_requeued_row_is_of_another_generation(ledger: Ledger) -> None:
    """Each requeue counts; a row in doubt that is sent again is the very same message, so that does not."""
    fill(ledger, 4)
    send(ledger, 2, REJECTED)
    send(ledger, 3, IN_DOUBT)
    ledger.requeue(None)
    ledger.resolve(None, as_accepted=False)
    assert [(row.row, row.generation) for row in due(ledger, NOW)] == [(2, 1), (3, 0), (4, 0), (5, 0)]
    send(ledger, 2)
    ledger.requeue(["k2"], accepted=True)
    again = ledger.deliveries(["k2"]).get("k2")
    assert again is not None
    assert again.generation == 2


def test_what_is_recorded_of_one_row(ledger: Ledger) -> None:
    """By its key; with the row number that it had when it was contacted last."""
    fill(ledger, 2)
    send(ledger, 2)
    assert ledger.deliveries(["k2"]).get("k2") == first_delivery(ledger)
    assert ledger.deliveries(["k3"]).get("k3") is None


def test_a_message_that_went_out_before_is_found_with_its_first_date(ledger: Ledger) -> None:
    """By its Message-ID, however many other messages the row had meanwhile; another one has no Date yet."""
    fill(ledger, 2)
    dates = [datetime(2026, 11, day, 11, 0, tzinfo=timezone(timedelta(hours=day))) for day in range(1, 5)]
    for message_id, date in zip(["<x>", "<y>", "<x>", "<y>"], dates, strict=True):
        tried = replace(attempt(2), message_id=message_id, date=date)
        ledger.attempts.record_outcomes([Settlement(tried, DEFERRED, Status.DEFERRED, NOW)])
    delivery = ledger.deliveries(["k2"]).get("k2")
    assert delivery is not None
    found = [ledger.date_of(delivery, message_id) for message_id in ("<x>", "<y>", "<z>")]
    assert found == [dates[0], dates[3], None]
    assert found[0] is not None
    assert found[0].utcoffset() == timedelta(hours=1)
    other = due(ledger, NOW)[0]
    assert (other.key, ledger.date_of(other, "<x>")) == ("k3", None)


def test_attempts_that_follow_each_other_in_a_circle_end(ledger: Ledger) -> None:
    """In a damaged file, too."""
    fill(ledger, 2)
    send(ledger, 2, DEFERRED)
    ledger._db.execute("UPDATE attempt SET previous = id")
    delivery = ledger.deliveries(["k2"]).get("k2")
    assert delivery is not None
    assert ledger.date_of(delivery, "<other>") is None


def test_purge_leaves_counts_and_nothing_personal(ledger: Ledger, path: Path) -> None:
    """Addresses, keys and replies are gone from the bytes of the file; the campaign cannot go on."""
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


def test_b31_an_outcome_is_taken_back(ledger: Ledger) -> None:
    """Accepted becomes in doubt, deferred pending with its try given back; a row that moved on stays."""
    slipped = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT, reason="out_of_step")
    given_back = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, reason="out_of_step")
    ledger.attempts.record_intent([attempt(1), attempt(2)])
    ledger.attempts.record_outcomes([settled(1, ACCEPTED), settled(2, DEFERRED, next_at=NOW)])
    ledger.attempts.revise(Revision(settled(1, slipped, counts=False), Status.ACCEPTED, counted=True))
    ledger.attempts.revise(Revision(settled(2, given_back, counts=False), Status.DEFERRED, counted=True))
    ledger.attempts.revise(Revision(settled(2, slipped, counts=False), Status.ACCEPTED, counted=True))
    rows = ledger._db.rows("SELECT status, tries, next_at FROM delivery ORDER BY key")
    assert rows == [("in_doubt", 0, None), ("pending", 0, None)]
    reasons = ledger._db.rows("SELECT status, reason FROM attempt ORDER BY id")
    assert reasons == [("in_doubt", "out_of_step"), ("pending", "out_of_step")]


def test_a13_the_ledger_of_version_4_is_brought_up_to_date(ledger: Ledger, path: Path) -> None:
    """It had no reports and no copies; looking at it and bringing it up to date both find its rows."""
    fill(ledger)
    send(ledger, 2)
    ledger.close()
    with contextlib.closing(sqlite3.connect(path)) as db:
        db.executescript(
            "DROP TABLE copy; DROP TABLE bounce; DROP TABLE mail; ALTER TABLE delivery DROP COLUMN bounce; "
            "ALTER TABLE campaign DROP COLUMN mailbox; ALTER TABLE campaign DROP COLUMN halted; "
            "ALTER TABLE attempt DROP COLUMN rows; "
            "PRAGMA user_version = 4"
        )
    with Ledger.open_read_only(path, "spring") as looking:
        before = [delivery.status for delivery in looking.contacted(*Status)]
        assert looking.bounces.summary() == MailSummary()
    with Ledger.open(path, "spring") as newer:
        assert [delivery.status for delivery in newer.contacted(*Status)] == before != []
        assert newer.bounces.record("a", "dsn", [])
        assert newer.bounces.known(["a", "b"]) == {"a"}
