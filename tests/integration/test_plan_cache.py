"""Kept plans: found again by their owner, swept when unused, and never trusted."""

from __future__ import annotations

import hashlib
import os
import shutil
import sqlite3
import stat
import sys
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailmerge import folders
from mailmerge.errors import FileError, PlanDamaged
from mailmerge.model import Status
from mailmerge.plan.cache import PlanCache, PlanOwner, user_cache_folder
from mailmerge.plan.message_file import PLAIN
from mailmerge.plan.store import PlanRow
from plans import frozen, row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.plan.store import PlanWriter

NOW = datetime(2026, 11, 27, 9, 41, tzinfo=UTC)
LATER = NOW + timedelta(days=14, minutes=1)
NAME = "0123456789abcdef"
"""The digest of its premises; a plan is mostly found by it."""
OWN = hashlib.sha256(b"facts").hexdigest()[:16]
"""Its name."""
OWNER = PlanOwner("/home/me/spring\udcff", "spring")
OTHER = PlanOwner("/home/me/summer", "summer")

needs_locks = pytest.mark.parametrize("cache", ["descriptors"], indirect=True)
"""Where folders have no descriptors, Windows keeps open files from being removed; this system does not."""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The cache folder; nobody has made it yet."""
    return tmp_path / "cache"


@pytest.fixture(params=["descriptors", "paths"])
def cache(folder: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> PlanCache:
    """The plans of a campaign, none yet; reached through open folders, and by their paths as on Windows."""
    if request.param == "paths":
        monkeypatch.setenv("TMPDIR", str(folder.parent))  # such a sweep takes the folders of others for lost
        monkeypatch.setattr(folders, "_DESCRIPTORS", False)
    return PlanCache(folder, OWNER)


def keep(
    cache: PlanCache, name: str = NAME, count: int = 3, summary: bytes = b"", facts: bytes = b"facts"
) -> Path:
    """Make a plan with the premises *name* and a message per row, used at NOW; return its database's path."""
    with cache.writer(name, NOW) as writer:
        for n in range(count):
            writer.add_message(n, frozen(n))
            writer.add_row(row(n, message=n))
        with writer.finish(summary, facts) as reader:
            path = cache.path(reader.name)
    os.utime(path, (NOW.timestamp(), NOW.timestamp()))
    return path


def kept(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.name != ".gitignore")


def is_there(cache: PlanCache, name: str = NAME) -> bool:
    reader = cache.find(name, NOW)
    if reader is not None:
        reader.close()
    return reader is not None


def test_a_kept_plan_is_found_again(cache: PlanCache) -> None:
    """What one command has made is opened by the next one; an unknown name is not there."""
    keep(cache, summary=b"s")

    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader:
        assert (reader.name, reader.made, reader.summary) == (OWN, NOW, b"s")
        assert reader.message(1) == frozen(1)
    assert not is_there(cache, "f" * 16)


def test_before_there_is_a_folder(cache: PlanCache, folder: Path) -> None:
    """Looking, sweeping and purging make no folder."""
    assert not is_there(cache)
    cache.sweep(NOW)
    cache.purge()
    cache.remove_messages(OWN)

    assert not folder.exists()


def test_another_campaigns_plan_is_not_found(cache: PlanCache, folder: Path) -> None:
    """Two campaigns with the very same facts have a plan each."""
    keep(cache)

    assert not is_there(PlanCache(folder, OTHER))


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no modes")
@needs_locks
def test_nobody_else_can_look_in(cache: PlanCache, folder: Path) -> None:
    """Folder and files are private, also where the folder was open to others before."""
    folder.mkdir(mode=0o755)
    path = keep(cache)

    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert (
        stat.S_IMODE(path.stat().st_mode)
        == stat.S_IMODE(path.with_suffix(".messages").stat().st_mode)
        == 0o600
    )


# --- nothing in it is trusted ------------------------------------------------------------------------------


def cut(path: Path, share: float) -> None:
    os.truncate(path, int(path.stat().st_size * share))


def execute(path: Path, *statements: str) -> None:
    with closing(sqlite3.connect(path)) as db, db:
        for statement in statements:
            db.execute(statement)


def another_database(path: Path) -> None:
    path.unlink()
    execute(path, "CREATE TABLE meta (name, value)")


def link_elsewhere(path: Path) -> None:
    elsewhere = path.parent.parent / "elsewhere"
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def hard_link(path: Path) -> None:
    os.link(path, path.parent.parent / "elsewhere")


def pipe(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def somebody_elses(path: Path) -> None:
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can give files away")
    os.chown(path, 12345, 12345)


UNTRUSTED: dict[str, Callable[[Path], object]] = {
    "empty": lambda path: os.truncate(path, 0),
    "torn early": lambda path: cut(path, 0.1),
    "torn late": lambda path: os.truncate(path, path.stat().st_size - 1),
    "longer": lambda path: path.open("ab").write(b"x" * 4096),
    "garbage": lambda path: path.write_bytes(b"garbage" * 5000),
    "a link": link_elsewhere,
    "a hard link": hard_link,
    "a pipe": pipe,
    "somebody else's": somebody_elses,
}
ONLY_DATABASE: dict[str, Callable[[Path], object]] = {
    "of another program": another_database,
    "of another version": lambda path: execute(path, "PRAGMA user_version = 99"),
    "without a name": lambda path: execute(path, "DELETE FROM meta WHERE name = 'name'"),
    "without a time": lambda path: execute(path, "UPDATE meta SET value = 'noon' WHERE name = 'made'"),
    "without a size": lambda path: execute(path, "UPDATE meta SET value = NULL WHERE name = 'rows'"),
    "of another name": lambda path: execute(path, "UPDATE meta SET value = 'abc' WHERE name = 'name'"),
}


@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.skipif(sys.platform == "win32", reason="plants links and pipes")
@pytest.mark.parametrize(
    ("suffix", "spoil"),
    [
        *[
            pytest.param(".plan", spoil, id=f"plan {name}")
            for name, spoil in (UNTRUSTED | ONLY_DATABASE).items()
        ],
        *[pytest.param(".messages", spoil, id=f"messages {name}") for name, spoil in UNTRUSTED.items()],
    ],
)
def test_what_cannot_be_trusted_is_not_there(
    cache: PlanCache, suffix: str, spoil: Callable[[Path], object]
) -> None:
    """A file that is torn, foreign or planted is passed over, and a new plan takes its place."""
    path = keep(cache, count=PLAIN + 100)
    spoil(path.with_suffix(suffix))

    assert not is_there(cache)
    keep(cache)
    assert is_there(cache)


def test_messages_of_another_plan_are_noticed(cache: PlanCache) -> None:
    """Of two plans with the same name, the one's messages are not the other's."""
    path = keep(cache)
    messages = path.with_suffix(".messages").read_bytes()
    keep(cache)
    path.with_suffix(".messages").write_bytes(messages)

    assert not is_there(cache)


@pytest.mark.parametrize("n", [0, PLAIN - 1, PLAIN, PLAIN + 99])
def test_a_damaged_message_is_noticed(cache: PlanCache, n: int) -> None:
    """One flipped bit anywhere in a message, and it is not given out; the others are."""
    plan = keep(cache, count=PLAIN + 100)
    path = plan.with_suffix(".messages")
    original, database = path.read_bytes(), plan.read_bytes()
    with closing(sqlite3.connect(plan)) as db:
        place, length = db.execute("SELECT place, length FROM message WHERE number = ?", (n,)).fetchone()

    for offset in (0, 1, 4, 5, 7, length // 2, length - 1):  # 6 says how much memory zstd may use
        spoiled = bytearray(original)
        spoiled[place + offset] ^= 1
        path.write_bytes(spoiled)
        plan.write_bytes(database)
        with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader:
            with pytest.raises(PlanDamaged, match="cannot be used"):
                reader.message(n)
            assert reader.message(1) == frozen(1)


def test_a_message_of_another_row_is_noticed(cache: PlanCache) -> None:
    """Whole as it is, a message that is found under another one's number is not given out."""
    path = keep(cache)
    execute(
        path,
        "UPDATE message SET (place, length, octets) ="
        " (SELECT place, length, octets FROM message WHERE number = 0) WHERE number = 1",
    )

    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader:
        assert reader.message(0) == frozen(0)
        with pytest.raises(PlanDamaged, match="another key"):
            reader.message(1)
    assert not is_there(cache)


@pytest.mark.parametrize("table", ["row", "finding"])
def test_a_damaged_entry_is_noticed(cache: PlanCache, table: str) -> None:
    """A row or finding that cannot be decoded is told as damage, not as an error of ours."""
    path = keep(cache)
    execute(path, "INSERT INTO finding (n, data) VALUES (1, x'C1')", f"UPDATE {table} SET data = x'91C1'")

    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader, pytest.raises(PlanDamaged):
        list(reader.rows() if table == "row" else reader.findings())
    assert not is_there(cache)


def test_a_damaged_page_is_noticed(cache: PlanCache) -> None:
    """Zeros in the middle of the database, as a power cut leaves them, are damage that is met only once."""
    path = keep(cache, count=3000)
    size = path.stat().st_size
    with path.open("r+b") as file:
        file.seek(size // 4096 // 2 * 4096)
        file.write(bytes(4096 * 8))

    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader, pytest.raises(PlanDamaged):
        [reader.message(found.message or 0) for found in reader.rows()]
    assert not is_there(cache)


@pytest.mark.skipif(sys.platform == "win32", reason="plants a link")
def test_a_folder_that_is_a_link_is_not_used(cache: PlanCache, folder: Path, tmp_path: Path) -> None:
    """Nothing is read, removed or written through a link in the place of the folder."""
    keep(cache)
    folder.rename(tmp_path / "elsewhere")
    folder.symlink_to(tmp_path / "elsewhere")

    assert not is_there(cache)
    cache.sweep(LATER)
    with pytest.raises(FileError, match="symbolic link"):
        cache.writer(NAME, NOW)
    assert len(kept(tmp_path / "elsewhere")) == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs a place where even root makes no folder")
def test_a_place_that_cannot_be_used() -> None:
    """Where nothing can be kept, an error says so, with another way."""
    with pytest.raises(FileError) as raised:
        PlanCache(Path(os.devnull) / "cache", OWNER).writer(NAME, NOW)

    assert "MAILMERGE_CACHE_DIR" in (raised.value.hint or "")


@pytest.fixture
def small_disk() -> Iterator[Callable[[int], None]]:
    """Let no file of this process grow larger than so many octets, as on a disk that is full."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda octets: resource.setrlimit(resource.RLIMIT_FSIZE, (octets, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize("full_of", ["rows", "messages"])
def test_a_full_disk_is_told(
    cache: PlanCache, folder: Path, small_disk: Callable[[int], None], full_of: str
) -> None:
    """On a full disk the plan is abandoned, an error says so, and the older plan is still there."""
    keep(cache)
    small_disk(1 << 16)
    with pytest.raises(FileError) as raised, cache.writer(NAME, NOW) as writer:
        fill(writer, full_of)
    small_disk(-1)

    assert (raised.value.filename or "").startswith(str(folder))
    assert full_of == "messages" or "MAILMERGE_CACHE_DIR" in (raised.value.hint or "")
    assert len(kept(folder)) == 2
    assert is_there(cache)


def fill(writer: PlanWriter, what: str) -> None:
    for n in range(5000):
        if what == "rows":
            writer.add_row(row(n, cells=("x" * 100,)))
        else:
            writer.add_message(n, frozen(n, body=(os.urandom(1000),)))
    writer.finish(b"").close()


# --- what is removed, and when -----------------------------------------------------------------------------


def test_an_unused_plan_is_swept(cache: PlanCache, folder: Path) -> None:
    """After 14 days without use both files go, whosever they are; a younger plan stays."""
    keep(cache)
    keep(PlanCache(folder, OTHER))
    young = "a" * 16
    keep(cache, young)
    reader = cache.find(young, LATER - timedelta(days=1))
    assert reader is not None
    reader.close()

    cache.sweep(NOW + timedelta(days=13, hours=23))
    assert len(kept(folder)) == 6
    cache.sweep(LATER)

    assert kept(folder) == [f"{OWNER.digest}-{young}-{OWN}.{suffix}" for suffix in ("messages", "plan")]


def test_a_plan_that_is_read_is_not_swept(cache: PlanCache) -> None:
    """As long as somebody has it open it stays, also when another one has closed it."""
    keep(cache)
    readers = [cache.find(NAME, NOW) for _ in range(2)]
    for reader in readers:
        assert reader is not None
        cache.sweep(LATER)
        assert cache.path(OWN).exists()
        reader.close()

    cache.sweep(LATER)
    assert not cache.path(OWN).exists()


def test_the_last_runs_plan_is_not_swept(cache: PlanCache, folder: Path) -> None:
    """A plan that its campaign names as in use stays, however old it is."""
    keep(cache)
    other = keep(cache, "a" * 16, facts=b"other").stem[-16:]
    keep(PlanCache(folder, OTHER))
    asked = set()

    def in_use(owner: PlanOwner, name: str) -> bool:
        asked.add((owner, name))
        return (owner, name) == (OWNER, OWN)

    PlanCache(folder, OTHER).sweep(LATER, in_use)

    assert asked == {(OWNER, OWN), (OWNER, other), (OTHER, OWN)}
    assert kept(folder) == [f"{OWNER.digest}-{NAME}-{OWN}.{suffix}" for suffix in ("messages", "plan")]


def test_an_older_plan_is_found_by_its_name(cache: PlanCache) -> None:
    """Premises find the plan that was used last, a name finds its own plan: that does not count as use."""
    old = keep(cache, facts=b"old").stem[-16:]
    path = keep(cache, facts=b"new")
    os.utime(path, (NOW.timestamp() + 60, NOW.timestamp() + 60))
    new = path.stem[-16:]
    for wanted, found, now in ((NAME, new, NOW + timedelta(hours=1)), (old, old, LATER), (NAME, new, LATER)):
        with cache.find(wanted, now) or pytest.fail("it is gone") as reader:
            assert reader.name == found

    assert old != new


def test_an_older_plan_is_swept(cache: PlanCache, folder: Path) -> None:
    """Of plans with the same premises the latest is kept, and those that are in use."""
    first, second = keep(cache, facts=b"1"), keep(cache, facts=b"2")
    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader:
        held = cache.path(reader.name)
        last = keep(cache, facts=b"3")
        for path, hours in ((first, 1), (second, 2), (last, 3)):
            at = NOW.timestamp() + 3600 * hours
            os.utime(path, (at, at))
        cache.sweep(NOW + timedelta(hours=4), lambda _owner, name: first.stem.endswith(name))
        assert {path for path in (first, second, last) if path.exists()} == {first, held, last}

    cache.sweep(NOW + timedelta(hours=4))
    assert kept(folder) == [last.with_suffix(".messages").name, last.name]


def test_what_nobody_can_read_is_swept(cache: PlanCache, folder: Path) -> None:
    """A torn plan and messages without a plan go as well; what is not a plan's stays."""
    path = keep(cache)
    cut(path, 0.5)
    lone = keep(cache, "a" * 16)
    lone.unlink()
    (folder / "notes.txt").write_text("x")
    for found in folder.iterdir():
        os.utime(found, (NOW.timestamp(), NOW.timestamp()))

    cache.sweep(LATER)

    assert kept(folder) == ["notes.txt"]


def test_frozen_messages_can_go_alone(cache: PlanCache) -> None:
    """Without its messages a plan still has its rows; whoever reads the messages continues."""
    path = keep(cache)
    with cache.find(NAME, NOW) or pytest.fail("it is gone") as before:
        cache.remove_messages(OWN)
        assert before.message(2) == frozen(2)

    assert not path.with_suffix(".messages").exists()
    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader:
        assert not reader.has_messages
        assert len(list(reader.rows())) == 3
        with pytest.raises(PlanDamaged, match="removed"):
            reader.message(1)
    assert is_there(cache)


@needs_locks
def test_purge_removes_what_is_the_campaigns(cache: PlanCache, folder: Path) -> None:
    """Every plan of the campaign goes, whole, torn or being read; no other campaign's, and no draft."""
    keep(cache)
    cut(keep(cache, "a" * 16), 0.5)
    others = PlanCache(folder, OTHER)
    keep(others)
    with others.writer("b" * 16, NOW) as writer, others.find(NAME, NOW) or pytest.fail("it is gone"):
        cache.purge()
        writer.finish(b"").close()

    assert {name.partition("-")[0] for name in kept(folder)} == {OTHER.digest}
    assert len(kept(folder)) == 4


@needs_locks
def test_drafts_of_dead_processes_go(cache: PlanCache, folder: Path) -> None:
    """What a killed process left half written goes with the next plan; one that is being written stays."""
    keep(cache)
    dead = folder / (".mailmerge-draft-" + "0" * 16)
    dead.mkdir()
    (dead / "x.plan").write_text("half")
    with cache.writer("a" * 16, NOW) as writer:
        keep(cache, "b" * 16)
        assert not dead.exists()
        writer.finish(b"").close()

    assert is_there(cache, "a" * 16)


@needs_locks
def test_two_at_the_same_time(cache: PlanCache) -> None:
    """Two commands that make the same plan do not disturb each other: the later one's is kept."""
    with cache.writer(NAME, NOW) as one, cache.writer(NAME, NOW) as other:
        one.add_message(0, frozen(0))
        one.add_row(row(0, message=0))
        other.add_row(PlanRow(n=0, row=2, key="", address="", status=Status.INVALID))
        other.finish(b"other").close()
        one.finish(b"one").close()

    with cache.find(NAME, NOW) or pytest.fail("it is gone") as reader:
        assert (reader.summary, reader.message(0)) == (b"one", frozen(0))


# --- where it is -------------------------------------------------------------------------------------------


def test_the_place_can_be_chosen(tmp_path: Path) -> None:
    """MAILMERGE_CACHE_DIR names the folder; without it, it is the user's cache folder."""
    assert user_cache_folder({"MAILMERGE_CACHE_DIR": str(tmp_path)}) == tmp_path
    assert user_cache_folder({"MAILMERGE_CACHE_DIR": ""}).name == "mailmerge"


def test_a_removed_folder_is_made_again(cache: PlanCache, folder: Path) -> None:
    """The folder may be deleted at any time."""
    keep(cache)
    shutil.rmtree(folder)

    assert not is_there(cache)
    keep(cache)
    assert is_there(cache)
