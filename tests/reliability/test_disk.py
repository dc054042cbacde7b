"""A10 to A13: full, read-only and damaged: what cannot be recorded is not sent."""

from __future__ import annotations

import contextlib
import re
import shutil
import sqlite3
from typing import TYPE_CHECKING

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mailmerge.errors import LedgerError, MailmergeError
from mailmerge.ledger import schema
from mailmerge.model import Status
from reliability.bench import NAME, Bench, address, taken_order
from reliability.clocks import SkippingClock
from reliability.disks import Disk
from reliability.invariants import check_invariants
from reliability.moody import MoodyServer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faultd import Peer
    from mailmerge.model import Counts
    from servers.command import Done

MODES = ["off", "overlap", "window"]
LEDGER_ROOM = 4_000_000
MANY = 60
"""Rows that make a ledger grow, so that its log's own room does not last."""


class OnDisk:
    """A campaign whose folder is on a small disk; home and reports are elsewhere."""

    def __init__(self, folder: Path, disk: Disk, server: MoodyServer, *, mode: str, rows: int = 8) -> None:
        self.bench = Bench(folder, server, rows=rows)
        self.bench.write(send=f'pipeline = "{mode}"')
        self.disk = disk
        self.server = server
        self._copy = folder / "copy"
        shutil.copytree(self.bench.folder, disk.path / NAME)

    def send(self) -> Done:
        """Run the command."""
        place, out = str(self.disk.inside / NAME), str(self.bench.folder / "out")
        return self.disk.mailmerge("send", place, "--yes", "--out", out, environ=self.bench.mailmerge.environ)

    def check(self) -> Counts:
        """Check the invariants on a copy of the ledger."""
        assert self.server.idle()
        self.disk.copy(f"{NAME}/.mailmerge", self.bench.folder / ".mailmerge")
        return check_invariants(self.bench.campaign(), self.server.accepted, rows=self.bench.rows)

    def states(self) -> dict[str, Status]:
        """Return every row's state."""
        self.check()
        return self.bench.states()


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Disk]:
    """A disk of a few megabytes."""
    with Disk(tmp_path / "disk", LEDGER_ROOM) as small:
        yield small


def filling(disk: Disk, *, without_ballast: bool = False) -> Callable[[Peer], bytes]:
    """Fill the disk while the server thinks about its answer."""

    def fault(_peer: Peer) -> bytes:
        if without_ballast:
            (disk.path / NAME / ".mailmerge" / "ballast").unlink(missing_ok=True)
        disk.fill()
        return b"250 2.0.0 as usual\r\n"

    return fault


def from_third(fault: Callable[[Peer], bytes]) -> dict[int, Callable[[Peer], bytes]]:
    """Let it happen to the third message and all later ones: what room there is in between is taken."""
    return dict.fromkeys(range(3, MANY + 3), fault)


def test_a10_full_before_the_hand_over(disk: Disk, server: MoodyServer, tmp_path: Path) -> None:
    """It continues in the log's own room; what cannot be promised is not handed over; exit 8, explained."""
    case = OnDisk(tmp_path / "case", disk, server, mode="off", rows=MANY)
    server.change_mood({"MAIL": from_third(filling(disk))})
    done = case.send()

    assert done.code == 8
    assert "cannot record progress" in done.err
    assert "the disk is full" in done.err
    taken = len(taken_order(server))
    assert 2 < taken < MANY
    assert case.check().by_status == {Status.ACCEPTED: taken, Status.PENDING: MANY - taken}

    disk.empty()
    server.change_mood({})
    assert case.send().code == 0
    assert taken_order(server) == [address(number) for number in range(1, MANY + 1)]
    case.check()


def test_a10_full_from_the_start(disk: Disk, server: MoodyServer, tmp_path: Path) -> None:
    """No room for the ledger: exit 8 and no connection."""
    case = OnDisk(tmp_path / "case", disk, server, mode="overlap")
    disk.fill()
    done = case.send()

    assert done.code == 8, done
    assert "error[L" in done.err
    assert server.commands == []


@pytest.mark.parametrize("mode", MODES)
def test_a11_full_after_the_message_was_taken(mode: str, disk: Disk, tmp_path: Path) -> None:
    """Whatever was taken is recorded, by the ballast's room if need be; the run stops with exit 8."""
    with MoodyServer({"taken": from_third(filling(disk))}, mode=mode) as server:
        case = OnDisk(tmp_path / "case", disk, server, mode=mode, rows=MANY)
        done = case.send()
        taken = len(taken_order(server))

        assert done.code == 8, done
        assert "the disk is full" in done.err
        assert 3 <= taken < MANY
        assert case.check().by_status == {Status.ACCEPTED: taken, Status.PENDING: MANY - taken}

        disk.empty()
        server.change_mood({})
        assert case.send().code == 0
        case.check()


def test_a11_without_ballast_a_row_is_recorded_or_told(
    disk: Disk, server: MoodyServer, tmp_path: Path
) -> None:
    """The log's own room may do; else stderr keeps row and reply, and the row is in doubt, not sent again."""
    case = OnDisk(tmp_path / "case", disk, server, mode="off", rows=MANY)
    server.change_mood({"taken": from_third(filling(disk, without_ballast=True))})
    done = case.send()

    assert done.code == 8
    last = len(taken_order(server))
    told = f"row {last + 1} <{address(last)}>: accepted, 250" in done.err
    assert case.states()[address(last)] is (Status.HANDING_OVER if told else Status.ACCEPTED)

    disk.empty()
    server.change_mood({})
    assert case.send().code == (4 if told else 0)
    assert taken_order(server) == [address(number) for number in range(1, MANY + 1)]


def test_a12_a_read_only_disk(disk: Disk, server: MoodyServer, tmp_path: Path) -> None:
    """Exit 8 before any connection; looking still works."""
    case = OnDisk(tmp_path / "case", disk, server, mode="off", rows=3)
    assert case.send().code == 0
    seen = len(server.commands)
    disk.protect()
    done = case.send()

    assert done.code == 8, done
    assert "read-only" in done.err.lower()
    assert len(server.commands) == seen
    environ = case.bench.mailmerge.environ
    status = disk.mailmerge("status", str(disk.inside / NAME), environ=environ)
    assert (status.code, "3  accepted" in status.out) == (0, True), status


def test_a12_a_network_disk_gets_the_older_journal(
    bench: Bench, server: MoodyServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where shared memory cannot be trusted WAL is not used, yet every commit is a flush."""
    monkeypatch.setattr(schema, "_on_network", lambda _path: True)
    report = bench.send()

    assert report.exit_code == 0
    assert not bench.ledger_path.with_name("ledger.db-wal").exists()
    assert bench.check()[Status.ACCEPTED] == 3
    with contextlib.closing(schema.connect(bench.ledger_path)) as db:
        assert db.execute("PRAGMA journal_mode").fetchone() == ("delete",)
        assert db.execute("PRAGMA synchronous").fetchone() == (2,)


def test_a12_a_cloud_folder_is_warned_about(server: MoodyServer, tmp_path: Path) -> None:
    """Another machine may put an old copy in the ledger's place: the plan says so."""
    bench = Bench(tmp_path / "Dropbox", server)
    done = bench.mailmerge("send", "spring", "--yes")

    assert done.code == 0
    assert "Dropbox" in done.out + done.err


def many(rows: int) -> str:
    """Write a list."""
    return "email,name\n" + "".join(f"person{n}@example.org,Person {n}\n" for n in range(rows))


def test_a10_no_room_for_the_plan(disk: Disk, server: MoodyServer, tmp_path: Path) -> None:
    """Known from the first rows: exit 2 with both numbers; what the hint says works."""
    bench = Bench(tmp_path / "case", server, rows=1)
    (bench.folder / "people.csv").write_text(many(15_000), "utf-8")
    environ = {**bench.mailmerge.environ, "MAILMERGE_CACHE_DIR": str(disk.inside / "cache")}
    done = disk.mailmerge("check", str(bench.folder), environ=environ)

    assert done.code == 2, done
    assert re.search(
        r"the plan of 15,00\d rows needs about \d\S* MB, and 3\.\d MB are free on its disk", done.err
    )
    assert "MAILMERGE_CACHE_DIR" in done.err
    assert not list((disk.path / "cache").glob("*.plan"))
    assert disk.mailmerge("check", str(bench.folder), environ=bench.mailmerge.environ).code == 0


def test_a10_no_room_for_the_ledger(disk: Disk, server: MoodyServer, tmp_path: Path) -> None:
    """Known from the number of rows: exit 2 with both numbers before anything is sent; a few rows fit."""
    case = OnDisk(tmp_path / "case", disk, server, mode="off")
    (disk.path / NAME / "people.csv").write_text(many(5000), "utf-8")
    done = case.send()

    assert done.code == 2, done
    said = r"recording what happens to 5,000 rows needs about 8\.\d MB, and \d\S* MB are free on its disk"
    assert re.search(said, done.err), done
    assert server.commands == []
    place, environ = str(disk.inside / NAME), case.bench.mailmerge.environ
    few = disk.mailmerge("send", place, "--yes", "--limit", "3", "--out", str(tmp_path), environ=environ)
    assert (few.code, len(taken_order(server))) == (0, 3), few


def test_a12_a_cache_folder_that_cannot_be_written(disk: Disk, server: MoodyServer, tmp_path: Path) -> None:
    """Exit 2 with an explanation; what the hint says works."""
    bench = Bench(tmp_path / "case", server, rows=3)
    disk.protect()
    environ = {**bench.mailmerge.environ, "MAILMERGE_CACHE_DIR": str(disk.inside / "cache")}
    done = disk.mailmerge("check", str(bench.folder), environ=environ)

    assert done.code == 2, done
    assert "read-only" in done.err.lower()
    assert "MAILMERGE_CACHE_DIR" in done.err
    assert disk.mailmerge("check", str(bench.folder), environ=bench.mailmerge.environ).code == 0


def test_a12_a_campaign_folder_that_cannot_be_written(
    disk: Disk, server: MoodyServer, tmp_path: Path
) -> None:
    """Everything that only looks works: plans are in the cache, the page is written where --out says."""
    case = OnDisk(tmp_path / "case", disk, server, mode="off", rows=3)
    disk.protect()
    place, environ = str(disk.inside / NAME), case.bench.mailmerge.environ

    for command in (
        ("check", place),
        ("preview", place, "--terminal"),
        ("preview", place, "--no-open", "--out", str(tmp_path / "page")),
        ("preview", place, "--eml", str(tmp_path / "eml")),
        ("status", place),
    ):
        done = disk.mailmerge(*command, environ=environ)
        assert done.code == 0, (command, done)
    assert (tmp_path / "page/preview.html").exists()
    refused = disk.mailmerge("preview", place, "--no-open", environ=environ)
    assert (refused.code, "--out DIR" in refused.err) == (2, True), refused


# --- A13 -------------------------------------------------------------------------------------------------

ROWS = 60
DONE = 30


class Half:
    """A campaign that is half done, and the files of its ledger as they were."""

    def __init__(self, folder: Path, server: MoodyServer) -> None:
        self.bench = Bench(folder, server, rows=ROWS)
        self.server = server
        assert self.bench.send(limit=DONE).exit_code == 0
        self.content = self.bench.ledger_path.read_bytes()

    def put(self, content: bytes) -> None:
        """Begin again with this as the ledger."""
        for left in self.bench.ledger_path.parent.glob("ledger.db-*"):
            left.unlink()
        self.bench.ledger_path.write_bytes(content)
        del self.server.accepted[DONE:]


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Half]:
    """A campaign with 30 of 60 rows accepted."""
    with MoodyServer(mode="window") as server:
        yield Half(tmp_path_factory.mktemp("half"), server)


@st.composite
def damages(draw: st.DrawFn) -> Callable[[bytes], bytes]:
    """Cut a file off, or write noise over a part of it."""
    place = draw(st.floats(0, 1, exclude_max=True))
    noise = draw(st.none() | st.binary(min_size=1, max_size=64) | st.binary(min_size=512, max_size=5000))

    def damage(content: bytes) -> bytes:
        at = int(place * len(content))
        if noise is None:
            return content[:at]
        return content[:at] + noise + content[at + len(noise) :]

    return damage


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=damages())
def test_a13_a_damaged_ledger_sends_nothing(damage: Callable[[bytes], bytes], half: Half) -> None:
    """Exit 8 and not one message; or, where the damage is in nothing that counts, nobody twice."""
    half.put(damage(half.content))
    told: MailmergeError = LedgerError("fine", hint="none")
    try:
        half.bench.send(clock=SkippingClock())
    except MailmergeError as error:
        told = error
    assert (told.exit_code, bool(told.hint)) == (8, True)
    assert half.server.idle()
    order = taken_order(half.server)
    assert len(order) == len(set(order)), "taken twice"
    assert len(order) in {DONE, ROWS}


@pytest.mark.parametrize("command", ["send", "status", "report", "resolve", "requeue"])
@pytest.mark.parametrize("size", [0, 100, 4096, 20_000])
def test_a13_every_command_tells_a_truncated_ledger(command: str, size: int, half: Half) -> None:
    """Exit 8 with an explanation; the file is left as it was."""
    half.put(half.content[:size])
    more = ["--yes"] if command == "send" else []
    done = half.bench.mailmerge(command, "spring", *more)

    assert done.code == 8, done
    assert "damaged" in done.err
    assert half.bench.ledger_path.read_bytes() == half.content[:size]


def test_a13_a_newer_ledger_is_left_alone(half: Half) -> None:
    """Exit 8: update mailmerge."""
    half.put(half.content)
    with contextlib.closing(sqlite3.connect(half.bench.ledger_path)) as db:
        db.execute("PRAGMA user_version = 99")
    done = half.bench.mailmerge("send", "spring", "--yes")

    assert done.code == 8
    assert "newer mailmerge" in done.err
    assert len(half.server.accepted) == DONE


def test_a13_a_missing_ledger_of_a_known_campaign(half: Half) -> None:
    """A deleted ledger is not a new beginning: exit 8, nobody gets it twice."""
    half.put(half.content)
    half.bench.ledger_path.unlink()
    done = half.bench.mailmerge("send", "spring", "--yes")

    assert done.code == 8
    assert "is missing" in done.err
    assert len(half.server.accepted) == DONE


def test_a13_an_older_copy_of_the_ledger(server: MoodyServer, tmp_path: Path) -> None:
    """A backup that a sync program put back: exit 8, because it has forgotten who was written to."""
    bench = Bench(tmp_path, server, rows=6)
    bench.send(limit=2)
    older = bench.ledger_path.read_bytes()
    bench.send(limit=2)
    bench.ledger_path.write_bytes(older)
    done = bench.mailmerge("send", "spring", "--yes")

    assert done.code == 8
    assert "older than it should be" in done.err
    assert len(server.accepted) == 4
