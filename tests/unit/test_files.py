"""files.py and its open folders: real files, links, pipes and processes; nothing outside is ever touched."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailmerge import files, folders
from mailmerge.errors import FileError, MailmergeError
from mailmerge.streams import point_nowhere
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

ROOT = Path(__file__).parents[2]
RACE, ROUNDS = (10.0, 1000) if "MAILMERGE_SOAK_SECONDS" in os.environ else (0.5, 30)
"""How long, in seconds, and how often others may get in between; `make soak` takes its time."""
DRAFT = re.compile(r"\.mailmerge-draft-[0-9a-f]{16}")

as_root = pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root may give files away")


@pytest.fixture(params=["descriptors", "paths"])
def ways(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> str:
    """Both ways to reach a file: through open directories, and by its path as on Windows."""
    # Owners are told apart in two ways, so that each would sweep what the other has in the same place.
    monkeypatch.setenv("TMPDIR", str(tmp_path_factory.mktemp("temporary")))
    if request.param == "paths":
        monkeypatch.setattr(folders, "_DESCRIPTORS", False)
    return str(request.param)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """The folder of reports of a campaign, not made yet."""
    (tmp_path / "spring").mkdir()
    return tmp_path / "spring" / "out"


class Precious:
    """Files outside that nobody may touch; `check` says whether somebody did."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "precious"
        (self.folder / "inner").mkdir(parents=True)
        self.file = self.folder / "letter.eml"
        self.file.write_bytes(b"dear diary")
        for name in ("results.csv", "inner/results.csv", "inner/00002-a.eml"):
            (self.folder / name).write_bytes(b"dear diary")
        self._before = self._state()

    def _state(self) -> list[tuple[str, bytes, int, int]]:
        return [
            (
                str(path),
                path.read_bytes() if path.is_file() else b"",
                path.stat().st_mtime_ns,
                path.stat().st_mode,
            )
            for path in sorted([self.folder, *self.folder.rglob("*")])
        ]

    def check(self) -> None:
        """Compare."""
        assert self._state() == self._before


@pytest.fixture
def precious(tmp_path: Path) -> Iterator[Precious]:
    """Something outside, looked at again when the test is over."""
    outside = Precious(tmp_path)
    yield outside
    outside.check()


def names(folder: Path) -> list[str]:
    """List a folder."""
    return sorted(path.name for path in folder.iterdir())


def mode(path: Path) -> int:
    """Return the permissions."""
    return stat.S_IMODE(path.lstat().st_mode)


def link(path: Path, target: Path) -> None:
    """Plant a symbolic link."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.symlink_to(target)


def hard_link(path: Path, target: Path) -> None:
    """Plant a second name."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.hardlink_to(target)


def pipe(path: Path, _target: Path) -> None:
    """Plant a pipe that nobody reads."""
    path.parent.mkdir(parents=True, exist_ok=True)
    os.mkfifo(path)


# --- replacing -------------------------------------------------------------------------------------------


def test_a_file_is_private_and_alone(ways: str, out: Path) -> None:
    """What was written is there, for its owner only; beside it is the word to git, and no draft."""
    files.write_file(out / "results.csv", b"row\r\n")

    assert (out / "results.csv").read_bytes() == b"row\r\n"
    assert mode(out / "results.csv") == 0o600
    assert mode(out) == 0o700
    assert names(out) == [".gitignore", "results.csv"]
    assert (out / ".gitignore").read_bytes() == b"*\n"


def test_a_folder_that_was_there_is_left_as_it_is(out: Path) -> None:
    """A folder that we did not make gets no .gitignore and keeps its permissions."""
    out.mkdir(mode=0o755)
    out.chmod(0o755)
    files.write_file(out / "results.csv", b"row\r\n")

    assert names(out) == ["results.csv"]
    assert mode(out) == 0o755


def test_a_failure_leaves_what_was_there(ways: str, out: Path) -> None:
    """If the content cannot be made, the older file stays and no draft is left."""
    files.write_file(out / "page", b"older")
    with contextlib.suppress(ZeroDivisionError), files.replace_file(out / "page") as stream:
        stream.write(b"newer")
        stream.flush()
        raise ZeroDivisionError

    assert (out / "page").read_bytes() == b"older"
    assert names(out) == [".gitignore", "page"]


@pytest.mark.parametrize("plant", [link, hard_link, pipe])
def test_what_has_the_name_is_replaced(
    plant: Callable[[Path, Path], None], ways: str, out: Path, precious: Precious
) -> None:
    """A link, a second name of some other file or a pipe gives way; what is behind it stays."""
    plant(out / "results.csv", precious.file)
    files.write_file(out / "results.csv", b"row")

    found = (out / "results.csv").lstat()
    assert (stat.S_ISREG(found.st_mode), found.st_nlink) == (True, 1)
    assert (out / "results.csv").read_bytes() == b"row"


def test_a_folder_in_the_place_of_a_file_is_told(ways: str, out: Path) -> None:
    """It is not removed, and the error names the whole path."""
    (out / "results.csv" / "kept").mkdir(parents=True)
    with pytest.raises(FileError, match=re.escape(str(out / "results.csv"))):
        files.write_file(out / "results.csv", b"row")

    assert names(out) == ["results.csv"]
    assert (out / "results.csv" / "kept").is_dir()


def test_text_keeps_its_line_ends_and_escapes_what_its_encoding_lacks(out: Path) -> None:
    """A text file has the line ends that were written; foreign characters do not stop it."""
    with files.replace_text(out / "copy.csv", encoding="latin-1") as stream:
        stream.write("é,日\r\nx\n")

    assert (out / "copy.csv").read_bytes() == b"\xe9,\\u65e5\r\nx\n"


def test_the_name_may_come_last(out: Path) -> None:
    """A draft takes the name that it was given while it was written."""
    with files.folder(out) as opened, opened.draft() as draft:
        draft.stream.write(b"rows")
        assert [name for name in names(out) if DRAFT.fullmatch(name)]
        draft.name = "list-123.csv"

    assert names(out) == [".gitignore", "list-123.csv"]


def test_a_write_that_fails_names_the_file(out: Path) -> None:
    """The error of a full disk (here: a limit on the size of files) says which file it was, and is ours."""
    script = f"""
import pathlib, resource
from mailmerge import files
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
path = pathlib.Path({str(out / "big")!r})
try:
    files.write_file(path, bytes(200_000))
except files.FileError as error:
    print(isinstance(error, OSError), error.filename == str(path), error.code, error)
"""
    done = run(script)

    assert done.startswith(f"True True C487 cannot write {out / 'big'}: File too large")
    assert names(out) == [".gitignore"]


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc/passwd", "../x"])
def test_a_name_is_one_name(name: str, out: Path) -> None:
    """What is not the name of something in the folder is a bug of ours, never a path."""
    with files.folder(out) as opened, pytest.raises(RuntimeError):
        opened.remove(name)


# --- files that the user named ---------------------------------------------------------------------------


@pytest.mark.parametrize("plant", [link, pipe])
def test_a_link_or_pipe_that_was_named_is_refused(
    plant: Callable[[Path, Path], None], ways: str, tmp_path: Path, precious: Precious
) -> None:
    """It is neither followed nor replaced; without it the same call works, as the hint says."""
    path = tmp_path / "copy.csv"
    plant(path, precious.file)
    with pytest.raises(FileError) as caught, files.replace_file(path, named=True) as stream:
        stream.write(b"x")
    with pytest.raises(FileError):
        files.start_file(path)

    assert caught.value.code == "C488"
    assert re.search("remove this link|move it away", caught.value.hint or "")
    path.unlink()
    with files.replace_file(path, named=True) as stream:
        stream.write(b"x")
    assert path.read_bytes() == b"x"


def test_the_way_to_a_named_file_is_the_users(tmp_path: Path, ways: str) -> None:
    """A folder on the way may be a link: the user named it; missing ones are made."""
    (tmp_path / "disk").mkdir()
    (tmp_path / "desktop").symlink_to(tmp_path / "disk")
    with files.replace_file(tmp_path / "desktop" / "new" / "copy.csv", named=True) as stream:
        stream.write(b"x")

    assert (tmp_path / "disk" / "new" / "copy.csv").read_bytes() == b"x"


def test_a_started_file_can_be_read_while_it_grows(tmp_path: Path, precious: Precious) -> None:
    """A transcript is there from its first line; another name of the older file keeps its content."""
    path = tmp_path / "dialogue.txt"
    hard_link(path, precious.file)
    with files.start_file(path) as stream:
        stream.write(b"S: 220\n")
        stream.flush()
        assert path.read_bytes() == b"S: 220\n"

    assert (mode(path), path.stat().st_nlink) == (0o600, 1)


def test_a_created_file_overwrites_nothing(tmp_path: Path, precious: Precious) -> None:
    """A file, and a link to nowhere, are left alone; a new file is as the user's own files are."""
    (tmp_path / "spring").mkdir()
    (tmp_path / "spring" / "body.txt").write_bytes(b"mine")
    (tmp_path / "spring" / "campaign.toml").symlink_to(precious.folder / "new.toml")
    for name in ("body.txt", "campaign.toml"):
        with pytest.raises(FileError):
            files.create_file(tmp_path / "spring" / name, b"ours")
    umask = os.umask(0o022)
    try:
        files.create_file(tmp_path / "spring" / "body.html", b"ours")
    finally:
        os.umask(umask)

    assert (tmp_path / "spring" / "body.txt").read_bytes() == b"mine"
    assert mode(tmp_path / "spring" / "body.html") == 0o644


# --- folders ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("planted", "written"),
    [
        ("out", "out/results.csv"),
        ("out", "out/rehearsal/results.csv"),
        ("out/rehearsal", "out/rehearsal/results.csv"),
        ("out/rehearsal", "out/rehearsal/messages/00002-a.eml"),
        ("out", "out/rehearsal/messages/00002-a.eml"),
        ("out/redacted", "out/redacted/results.csv"),
        ("out", "out/redacted/results.csv"),
        (".mailmerge", ".mailmerge/ballast"),
    ],
)
def test_no_folder_of_ours_is_followed(
    planted: str, written: str, ways: str, out: Path, precious: Precious
) -> None:
    """A link in the place of a folder is an error that names it; the hint, followed, lets it be written."""
    spring = out.parent
    link(spring / planted, precious.folder)
    for act in (
        lambda: files.write_file(spring / written, b"x"),
        lambda: files.remove_file(spring / written),
    ):
        with pytest.raises(FileError, match="symbolic link") as caught:
            act()
        assert caught.value.filename == str(spring / planted)
        assert caught.value.code == "C488"
        assert "remove this link" in (caught.value.hint or "")

    (spring / planted).unlink()
    files.write_file(spring / written, b"x")
    assert (spring / written).read_bytes() == b"x"
    kept_out = {path.parent.relative_to(spring).as_posix() for path in spring.rglob(".gitignore")}
    assert kept_out <= {"out", ".mailmerge"}


def test_the_way_to_our_folder_is_the_users(tmp_path: Path, ways: str) -> None:
    """The campaign's folder, and the folder around it, may be reached through links."""
    (tmp_path / "disk" / "spring").mkdir(parents=True)
    (tmp_path / "current").symlink_to(tmp_path / "disk" / "spring")
    files.write_file(tmp_path / "current" / "out" / "page", b"x")

    assert (tmp_path / "disk" / "spring" / "out" / "page").read_bytes() == b"x"


@pytest.mark.parametrize("plant", [pipe, lambda path, _target: path.write_bytes(b"")])
def test_no_folder_in_a_folders_place(
    plant: Callable[[Path, Path], None], ways: str, out: Path, tmp_path: Path
) -> None:
    """A file or a pipe there is an explained error, and does not keep us waiting."""
    plant(out, tmp_path)
    with pytest.raises(FileError, match="this is not a folder") as caught:
        files.write_file(out / "results.csv", b"x")

    assert caught.value.hint == "move it away"


@as_root
def test_the_folder_of_somebody_else_is_refused(out: Path) -> None:
    """Its owner could exchange what we write; once moved away as the hint says, it is not an obstacle."""
    out.mkdir()
    os.chown(out, 12345, 12345)
    for folder in (out, out.parent):
        folder.chmod(0o777)
    script = f"""
import os, pathlib
from mailmerge import files
os.chdir({str(out.parent)!r})
os.setgroups([]); os.setgid(54321); os.setuid(54321)
try:
    files.write_file(pathlib.Path("out/page"), b"x")
except files.FileError as error:
    print(error.code, error, "|", error.hint)
"""
    said = run(script)

    assert said.startswith("C489 cannot write out: this folder belongs to another user (number 12345)")
    assert "move it away" in said
    assert names(out) == []
    out.rename(out.parent / "theirs")
    assert run(script) == ""
    assert (out / "page").read_bytes() == b"x"


def test_a_disk_that_gives_everything_to_one_owner_is_no_obstacle(
    out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where whatever we make belongs to somebody else, that owner says nothing."""
    look = os.fstat

    def everything_is_theirs(handle: int) -> os.stat_result:
        found = look(handle)
        return os.stat_result((*found[:4], 12345, *found[5:]))

    monkeypatch.setattr(os, "fstat", everything_is_theirs)
    files.write_file(out / "page", b"x")
    files.write_file(out / "page", b"y")

    assert (out / "page").read_bytes() == b"y"


def test_a_private_folder_is_closed_to_others(tmp_path: Path) -> None:
    """A ledger's folder that came open to all is closed."""
    state = tmp_path / ".mailmerge"
    state.mkdir()
    state.chmod(0o777)
    files.private_folder(state)

    assert mode(state) == 0o700


def test_a_folder_exchanged_all_the_time_leads_nowhere_else(out: Path, precious: Precious) -> None:
    """While somebody swaps our folder for a link, back and forth, each write is in the folder or refused."""
    out.mkdir()
    away, over = out.parent / "away", threading.Event()

    def swap() -> None:
        while not over.is_set():
            out.rename(away)
            with contextlib.suppress(FileExistsError):  # we were quicker and made a new one
                out.symlink_to(precious.folder)
                out.unlink()
            with contextlib.suppress(OSError):
                away.rename(out)
                continue
            shutil.rmtree(away)

    thread = threading.Thread(target=swap)
    thread.start()
    written = refused = 0
    end = time.monotonic() + RACE
    while time.monotonic() < end:
        try:
            files.write_file(out / "results.csv", b"x")
            files.remove_file(out / "letter.eml")
            files.clear(out, re.compile(r".*\.eml\Z"))
            written += 1
        except FileError:
            refused += 1
    over.set()
    thread.join()

    precious.check()
    assert written
    assert refused


# --- locks -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("plant", "words"), [(link, "symbolic link"), (hard_link, "hard link"), (pipe, "not a plain file")]
)
def test_a_file_written_in_place_is_a_plain_one(
    plant: Callable[[Path, Path], None], words: str, ways: str, out: Path, precious: Precious
) -> None:
    """A lock is not taken on what may be something else; with that out of the way it is."""
    plant(out / "lock", precious.file)
    with pytest.raises(FileError, match=words) as caught:
        files.open_in_place(out / "lock")

    assert caught.value.hint
    (out / "lock").unlink()
    os.close(files.open_in_place(out / "lock"))
    assert mode(out / "lock") == 0o600


@pytest.mark.parametrize("plant", [link, hard_link, pipe])
def test_a_lock_exchanged_all_the_time_is_not_another_file(
    plant: Callable[[Path, Path], None], out: Path, precious: Precious
) -> None:
    """While somebody swaps the file for something else, what is opened is the file, or nothing."""
    out.mkdir()
    path, other, over = out / "lock", out / "other", threading.Event()

    def swap() -> None:
        while not over.is_set():
            plant(other, precious.file)
            other.rename(path)
            path.unlink(missing_ok=True)

    thread = threading.Thread(target=swap)
    thread.start()
    opened = 0
    end = time.monotonic() + RACE
    while time.monotonic() < end:
        with contextlib.suppress(FileError):
            handle = files.open_in_place(path)
            opened += 1
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
                os.write(handle, b"pid")
            assert stat.S_ISREG(os.fstat(handle).st_mode)
            os.close(handle)
    over.set()
    thread.join()

    assert opened


def test_a_copy_of_a_file_with_two_names_is_taken(out: Path, precious: Precious) -> None:
    """The hint for a hard link works: a copy in its place is a file of its own."""
    hard_link(out / "lock", precious.file)
    with pytest.raises(FileError, match="hard link") as caught:
        files.open_in_place(out / "lock")
    assert "put a copy of it in its place" in (caught.value.hint or "")

    (out / "copy").write_bytes((out / "lock").read_bytes())
    (out / "copy").rename(out / "lock")
    os.close(files.open_in_place(out / "lock"))


# --- removing --------------------------------------------------------------------------------------------


def test_removing_a_link_leaves_its_target(ways: str, out: Path, precious: Precious) -> None:
    """The link is removed; a name that does not exist is not an error."""
    link(out / "results.csv", precious.file)
    files.remove_file(out / "results.csv")
    files.remove_file(out / "results.csv")
    files.remove_file(out.parent / "elsewhere" / "results.csv")

    assert names(out) == []
    assert not (out.parent / "elsewhere").exists()


def test_clearing_takes_the_names_that_are_ours(ways: str, out: Path, precious: Precious) -> None:
    """Files of these names go, links of these names as links; other files and all folders stay."""
    out.mkdir()
    link(out / "a.eml", precious.file)
    (out / "b.eml").write_bytes(b"")
    (out / "c.eml").mkdir()
    (out / "notes.txt").write_bytes(b"")
    files.clear(out, re.compile(r".*\.eml\Z"))
    files.clear(out.parent / "nowhere", re.compile(""))

    assert names(out) == ["c.eml", "notes.txt"]


def test_a_tree_is_removed_and_nothing_behind_its_links(ways: str, out: Path, precious: Precious) -> None:
    """Links in the tree are removed as links, to files and to folders."""
    tree = out / "tree"
    link(tree / "inner" / "file", precious.file)
    link(tree / "inner" / "folder", precious.folder)
    (tree / "inner" / "own").write_bytes(b"")
    with files.folder(out) as opened:
        opened.remove_tree("tree")

    assert names(out) == []


def test_a_link_to_a_tree_is_not_removed_as_one(ways: str, out: Path, precious: Precious) -> None:
    """What a link points to is not a tree of ours."""
    link(out / "tree", precious.folder)
    with files.folder(out) as opened, pytest.raises(FileError, match="symbolic link"):
        opened.remove_tree("tree")


def test_a_tree_deeper_than_ours_is_left_alone(out: Path) -> None:
    """Nothing that we make is a hundred levels deep: an error, and no endless descent."""
    (out / "tree" / Path(*["deep"] * 100)).mkdir(parents=True)
    with files.folder(out) as opened, pytest.raises(FileError, match="mailmerge did not make this"):
        opened.remove_tree("tree")

    assert (out / "tree" / "deep").is_dir()


# --- drafts and scratch folders --------------------------------------------------------------------------


def run(script: str) -> str:
    """Run Python in a process of its own and give what it prints."""
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env=unmeasured(),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    return done.stdout.strip()


def holding(what: str, tmp_path: Path) -> subprocess.Popen[str]:
    """Start a process that keeps something of ours in use and waits."""
    script = f"import pathlib, sys\nfrom mailmerge import files\n{what}\nprint('ready', flush=True)\ninput()"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        cwd=ROOT,
        env={**unmeasured(), "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    """Kill it as nothing can be prepared for."""
    process.send_signal(signal.SIGKILL)
    process.communicate()


@pytest.mark.parametrize(
    "what",
    [
        "made = files.replace_file(out / 'page'); made.__enter__().write(b'half')",
        "made = files.replace_text(out / 'page'); made.__enter__().write('half')",
        "made = files.create_database(out / 'ledger.db'); made.__enter__().execute('CREATE TABLE t (a)')",
        "opened = files.folder(out); made = opened.draft(); made.__enter__().stream.write(b'half')",
    ],
)
def test_the_draft_of_a_killed_process_is_swept_and_that_of_a_living_one_is_not(what: str, out: Path) -> None:
    """Whose process lives keeps it; once that is killed, the next start in this folder removes it."""
    process = holding(f"out = pathlib.Path({str(out)!r})\n{what}", out.parent)
    drafts = [name for name in names(out) if DRAFT.fullmatch(name)]
    assert len(drafts) == 1
    files.sweep(out)
    assert set(names(out)) >= set(drafts)
    kill(process)
    assert set(names(out)) >= set(drafts)
    files.sweep(out)

    assert names(out) == [".gitignore"]


def test_a_draft_that_cannot_be_removed_stops_nobody(out: Path) -> None:
    """Others are swept all the same, and files are written; only who wants to clear all of it is told."""
    stubborn = out / ".mailmerge-draft-0123456789abcdef"
    (stubborn / Path(*["deep"] * 100)).mkdir(parents=True)
    (out / ".mailmerge-draft-fedcba9876543210").write_bytes(b"")
    (out / ".mailmerge-draft-00000000000000ff").write_bytes(b"")
    files.private_folder(out)
    files.write_file(out / "page", b"x")

    assert names(out) == [stubborn.name, "page"]
    with pytest.raises(FileError, match="mailmerge did not make this"):
        files.clear(out, re.compile("$a"))


def test_clearing_takes_the_drafts_of_living_processes_too(out: Path) -> None:
    """After a purge nothing is left, whoever was writing."""
    what = f"made = files.replace_file(pathlib.Path({str(out / 'page')!r})); made.__enter__()"
    process = holding(what, out.parent)
    files.clear(out, re.compile("$a"))
    assert names(out) == [".gitignore"]
    kill(process)


def test_the_scratch_folder_of_a_killed_process_is_swept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As long as its process lives it stays, with all that is in it; afterwards it goes at the next start."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    process = holding("scratch = files.ScratchFolder(); (scratch.path / 'copy').write_bytes(b'x')", tmp_path)
    (made,) = tmp_path.iterdir()
    assert re.fullmatch(r"mailmerge-[0-9a-f]{16}", made.name)
    assert mode(made) == 0o700
    files.sweep()
    assert (made / "copy").exists()
    kill(process)
    files.sweep()

    assert names(tmp_path) == []


def test_a_scratch_folder_goes_with_its_context(
    ways: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Closed once or twice, it is gone."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with files.ScratchFolder() as scratch:
        (scratch.path / "copy").write_bytes(b"x")
        assert scratch.path.parent == tmp_path
    scratch.close()

    assert names(tmp_path) == []


def test_what_only_looks_like_ours_is_left_alone(
    tmp_path: Path, precious: Precious, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A link or pipe with the name of a draft is not ours, nor are names a little different."""
    place = tmp_path / "tmp"
    place.mkdir()
    monkeypatch.setenv("TMPDIR", str(place))
    planted = ["mailmerge-0123456789abcdef", "mailmerge-notes", "mailmerge-0123456789abcdef.bak"]
    link(place / planted[0], precious.folder)
    (place / planted[1]).mkdir()
    (place / planted[2]).mkdir()
    link(place / ".mailmerge-draft-0123456789abcdef", precious.file)
    pipe(place / ".mailmerge-draft-fedcba9876543210", place)
    files.sweep(place)

    assert names(place) == sorted(
        [*planted, ".mailmerge-draft-0123456789abcdef", ".mailmerge-draft-fedcba9876543210"]
    )


@as_root
def test_the_scratch_folders_of_other_users_are_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even root, who could, does not remove them."""
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    theirs = tmp_path / "mailmerge-0123456789abcdef"
    theirs.mkdir()
    os.chown(theirs, 12345, 12345)
    files.sweep()

    assert theirs.exists()


def test_processes_that_write_and_sweep_at_the_same_time_lose_nothing(out: Path) -> None:
    """However a sweep falls between the making and the locking of a draft, every write succeeds."""
    script = f"""
import pathlib
from mailmerge import files
out = pathlib.Path({str(out)!r})
for number in range({ROUNDS}):
    files.write_file(out / "page", b"x")
    files.sweep(out)
    with files.create_database(out / "ledger.db") as db:
        db.execute("CREATE TABLE t (a)")
"""
    processes = [subprocess.Popen([sys.executable, "-c", script], cwd=ROOT) for _ in range(3)]

    assert [process.wait(120) for process in processes] == [0, 0, 0]
    assert names(out) == [".gitignore", "ledger.db", "page"]


def test_without_a_place_for_temporary_files_the_error_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that does not exist is passed over for the next one; none at all is an error with a hint."""
    monkeypatch.setenv("TMPDIR", "/nowhere")
    with files.ScratchFolder() as scratch:
        assert scratch.path.exists()
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(FileError) as caught:
        files.ScratchFolder()

    assert caught.value.hint == "set TMPDIR to one"


# --- databases -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal"])
@pytest.mark.parametrize("plant", [link, hard_link, pipe])
@pytest.mark.parametrize("how", [{}, {"create": True}, {"read_only": True}])
def test_no_database_is_opened_through_a_link(
    name: str,
    plant: Callable[[Path, Path], None],
    how: dict[str, bool],
    ways: str,
    out: Path,
    precious: Precious,
) -> None:
    """Neither the file nor one of its journals may be anything but a plain file with one name."""
    if name != "ledger.db":
        with files.create_database(out / "ledger.db") as db:
            db.execute("CREATE TABLE t (a)")
    plant(out / name, precious.file)
    with pytest.raises(FileError) as caught:
        files.open_database(out / "ledger.db", **how)

    assert caught.value.filename == str(out / name)
    (out / name).unlink()
    if name != "ledger.db" or "create" in how:
        files.open_database(out / "ledger.db", **how).close()


def test_a_database_is_private_from_the_start(ways: str, out: Path) -> None:
    """What is made is for its owner only, and an existing one is opened as it is."""
    db = files.open_database(out / "usage.db", create=True)
    db.execute("CREATE TABLE t (a)")
    db.close()
    again = files.open_database(out / "usage.db", create=True)

    assert again.execute("SELECT count(*) FROM t").fetchone() == (0,)
    again.close()
    assert mode(out / "usage.db") == 0o600


def test_a_missing_database_is_not_made_by_looking(out: Path) -> None:
    """Nothing is made unless that is wanted."""
    out.mkdir()
    for how in ({}, {"read_only": True}):
        with pytest.raises((FileError, sqlite3.OperationalError)):
            files.open_database(out / "usage.db", **how)

    assert names(out) == []


def test_a_read_only_database_cannot_be_written(out: Path) -> None:
    """SQLite itself refuses."""
    with files.create_database(out / "ledger.db") as db:
        db.execute("CREATE TABLE t (a)")
    for immutable in (False, True):
        reader = files.open_database(out / "ledger.db", read_only=True, immutable=immutable)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            reader.execute("INSERT INTO t VALUES (1)")
        reader.close()


def test_a_new_database_is_complete_or_not_there(ways: str, out: Path) -> None:
    """A failure while it is filled leaves the older one, or nothing."""
    with contextlib.suppress(ZeroDivisionError), files.create_database(out / "ledger.db") as db:
        db.execute("CREATE TABLE t (a)")
        raise ZeroDivisionError

    assert names(out) == [".gitignore"]


def test_opening_a_database_again_drops_no_lock_of_this_process(out: Path) -> None:
    """POSIX drops all locks of a process on a file when it closes any descriptor of it: we close none."""
    with files.create_database(out / "ledger.db") as db:
        db.execute("CREATE TABLE t (a)")
    db = files.open_database(out / "ledger.db")
    db.execute("BEGIN EXCLUSIVE")
    with contextlib.suppress(sqlite3.OperationalError):
        files.open_database(out / "ledger.db", create=True)
    files.size(out / "ledger.db")
    files.contents(out)
    files.sweep(out)
    said = run(
        "import sqlite3\n"
        f"db = sqlite3.connect({str(out / 'ledger.db')!r}, timeout=0, isolation_level=None)\n"
        "try:\n    db.execute('BEGIN IMMEDIATE'); print('taken')\n"
        "except sqlite3.OperationalError as error:\n    print(error)"
    )
    db.close()

    assert said == "database is locked"


def test_a_database_exchanged_while_it_is_opened_is_refused(out: Path) -> None:
    """Put in its place between our look and SQLite's, a link is found when SQLite has opened it."""
    for name in ("ledger.db", "other.db"):
        with files.create_database(out / name) as db:
            db.execute("CREATE TABLE t (a)")
    waiting = [out / "ledger.db"]

    def exchange(event: str, _arguments: object) -> None:
        if event == "sqlite3.connect" and waiting:
            path = waiting.pop()
            path.rename(out / "away.db")
            path.symlink_to(out / "other.db")

    sys.addaudithook(exchange)
    with pytest.raises(FileError, match="symbolic link"):
        files.open_database(out / "ledger.db")


# --- the rest --------------------------------------------------------------------------------------------


def test_a_stream_without_a_reader_goes_nowhere() -> None:
    """What is written afterwards is lost without an error."""
    reader, writer = os.pipe()
    os.close(reader)
    point_nowhere(writer)

    assert os.write(writer, b"x") == 1
    os.close(writer)


def test_the_error_is_one_of_ours_and_of_the_systems(out: Path) -> None:
    """Whoever catches either gets it, with the reason."""
    out.write_bytes(b"")
    with pytest.raises(MailmergeError) as caught:
        files.write_file(out / "page", b"x")
    error = caught.value

    assert isinstance(error, OSError)
    assert (error.filename, error.strerror) == (str(out), "this is not a folder, and a folder must be here")
    assert str(error) == error.message
    assert error.exit_code == 2


def open_descriptors() -> set[int]:
    """Return the numbers of all descriptors that this process has open."""
    found = set()
    for number in range(256):
        with contextlib.suppress(OSError):
            os.fstat(number)
            found.add(number)
    return found


def test_no_descriptor_is_left_open(out: Path, precious: Precious) -> None:
    """Neither success nor refusal costs a descriptor."""
    link(out / "lock", precious.file)
    link(out / "rehearsal", precious.folder)

    def everything() -> None:
        files.write_file(out / "page", b"x")
        for act in (
            lambda: files.open_in_place(out / "lock"),
            lambda: files.write_file(out / "rehearsal" / "messages" / "x", b""),
            lambda: files.open_database(out / "lock"),
            lambda: files.start_file(out / "lock"),
        ):
            with pytest.raises(FileError):
                act()
        files.sweep(out, out / "rehearsal", out / "nowhere")

    everything()
    before = open_descriptors()
    for _ in range(20):
        everything()

    assert open_descriptors() <= before
