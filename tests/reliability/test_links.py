"""E1 and E2: commands in a folder of planted links change nothing outside it; killed ones leave nothing."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faultd import FaultServer, say
from mailmerge import cli
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.command import Mailmerge

LADDER = [
    ("check", "spring"),
    ("preview", "spring", "--no-open"),
    ("preview", "spring", "--terminal"),
    ("preview", "spring", "--eml", "spring/eml", "--mbox", "spring/all.mbox"),
    ("rehearse", "spring"),
    ("test", "spring", "--to", "me@example.org", "--transcript", "spring/test.txt"),
    ("send", "spring", "--dry-run"),
    ("send", "spring", "--yes", "--limit", "1", "--transcript", "spring/dialogue.txt"),
    ("send", "spring", "--yes"),
    ("status", "spring"),
    ("report", "spring", "--copy", "spring/copy.csv"),
    ("report", "spring", "--xlsx"),
    ("report", "spring", "--redact"),
    ("resolve", "spring"),
    ("requeue", "spring"),
    ("purge", "spring", "--yes"),
]
FOLDERS = [".mailmerge", "out", "out/rehearsal", "out/rehearsal/messages", "out/redacted", "eml"]
STATE = ["lock", "ledger.db", "ledger.db-wal", "ledger.db-shm", "ledger.db-journal", "ballast", ".gitignore"]
OUT = [
    "results.csv",
    "results.jsonl",
    "results.xlsx",
    "failed.csv",
    "report.html",
    "preview.html",
    ".gitignore",
]
REPORTS = [
    *(f"out/{name}" for name in OUT),
    *(f"out/{folder}/{name}" for folder in ("rehearsal", "redacted") for name in OUT),
    "out/rehearsal/messages/00001-ana@example.com.eml",
    "eml/.written",
    "eml/00002-ana@example.com.eml",
]
NAMED = ["copy.csv", "all.mbox", "dialogue.txt", "test.txt"]
FILES = [*(f".mailmerge/{name}" for name in STATE), *REPORTS, *NAMED]
SLOW = 60
"""Seconds after which a command that waits for a pipe is ended."""


class Outside:
    """What is precious and outside the campaign's folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        for name in (
            "00002-ana@example.com.eml",
            "results.csv",
            "preview.html",
            "lock",
            "ledger.db",
            "old.eml",
        ):
            self.make(name)
        (folder / "messages").mkdir()
        self.make("messages/00001-ana@example.com.eml")
        self._before = self._state()

    def make(self, name: str) -> Path:
        """Make a precious file."""
        path = self.folder / name
        path.write_bytes(b"precious\n" * 100)
        os.utime(path, (1e9, 1e9))
        return path

    def expect(self) -> None:
        """Take what is there for what has to be there in the end."""
        self._before = self._state()

    def _state(self) -> dict[str, tuple[int, int, bytes]]:
        paths = [self.folder, *self.folder.rglob("*")]
        return {
            str(path): (
                path.lstat().st_mode,
                path.lstat().st_mtime_ns,
                b"" if path.is_dir() else path.read_bytes(),
            )
            for path in paths
        }

    def check(self, said: str) -> None:
        """See that nothing came, went or changed."""
        assert self._state() == self._before, said


@pytest.fixture
def outside(tmp_path: Path) -> Outside:
    """A folder of precious files."""
    return Outside(tmp_path / "precious")


@pytest.fixture
def spring(mailmerge: Mailmerge, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A campaign at a server that refuses one recipient; commands run in its parent folder."""
    with FaultServer({"RCPT": {3: say("550 5.1.1 no such user")}}, extensions=()) as server:
        mailmerge.account(server)
        (mailmerge.folder / "tmp").mkdir()
        mailmerge.environ["TMPDIR"] = str(mailmerge.folder / "tmp")
        monkeypatch.chdir(mailmerge.folder)
        for name in list(os.environ):
            if name.startswith(("MAILMERGE_", "SMTP_")):
                monkeypatch.delenv(name)
        for name, value in mailmerge.environ.items():
            monkeypatch.setenv(name, value)
        yield mailmerge.campaign()


def plant(place: Path, kind: str, outside: Outside) -> None:
    """Put something in the place of what we would write there."""
    place.parent.mkdir(parents=True, exist_ok=True)
    match kind:
        case "link":
            place.symlink_to(outside.folder / "results.csv")
        case "folder":
            place.symlink_to(outside.folder)
        case "nowhere":
            place.symlink_to(outside.folder / "nowhere")
        case "name":
            place.hardlink_to(outside.folder / "results.csv")
        case "pipe":
            os.mkfifo(place)


def climb(outside: Outside, capfd: pytest.CaptureFixture[str]) -> dict[tuple[str, ...], tuple[int, str]]:
    """Run every command in this process; after each, nothing outside has changed and nothing was a bug."""
    said = {}
    for command in LADDER:
        with patience(outside.folder.parent / "spring"):
            code = cli.run(command)
        captured = capfd.readouterr()
        said[command] = (code, captured.err)
        shown = f"{command}: {code}\n{captured.out}\n{captured.err}"
        outside.check(shown)
        assert "Traceback" not in captured.err, shown
        assert code != 1, shown
        assert code not in {2, 8} or "= hint: " in captured.err, shown
    return said


@contextlib.contextmanager
def patience(spring: Path) -> Iterator[None]:
    """End a command that waits at a pipe, also where SQLite does and hears no signal."""

    def too_slow(_number: int, _frame: object) -> None:
        raise TimeoutError(f"still waiting after {SLOW} s")

    def open_pipes() -> None:
        for path in spring.rglob("*"):
            if path.is_fifo():
                os.open(path, os.O_RDWR | os.O_NONBLOCK)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    before = signal.signal(signal.SIGUSR1, too_slow)
    timer = threading.Timer(SLOW, open_pipes)
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        signal.signal(signal.SIGUSR1, before)


def test_e1_the_ladder_itself(spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]) -> None:
    """Without anything planted every command works, so that the tests below see each of them at work."""
    said = climb(outside, capfd)

    assert [code for code, _ in said.values()] == [0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
    left = sorted(path.relative_to(spring).as_posix() for path in spring.rglob("*") if path.is_file())
    assert left == [
        *(
            ".mailmerge/.gitignore",
            ".mailmerge/ballast",
            ".mailmerge/ledger.db",
            ".mailmerge/lock",
            "all.mbox",
        ),
        *("body.txt", "campaign.toml", "copy.csv", "dialogue.txt", "eml/.written"),
        *(
            "eml/00002-ana@example.com.eml",
            "eml/00003-bo@example.net.eml",
            "eml/00004-cy@example.org.eml",
            "out/.gitignore",
            "people.csv",
            "test.txt",
        ),
    ]
    assert (spring / "out" / ".gitignore").read_text("ascii") == "*\n"
    assert (spring / ".mailmerge" / ".gitignore").read_text("ascii") == "*\n"


@pytest.mark.parametrize("kind", ["folder", "nowhere", "pipe"])
@pytest.mark.parametrize("place", FOLDERS)
def test_e1_a_folder_that_is_a_link(
    place: str, kind: str, spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing goes through it: the commands that would write there are refused, naming it, or do without."""
    plant(spring / place, kind, outside)
    outside.expect()
    said = climb(outside, capfd)

    told = [text for code, text in said.values() if code in {2, 8} and f"spring/{place}" in text]
    assert told
    assert (spring / place).is_symlink() == (kind != "pipe")


@pytest.mark.parametrize("kind", ["link", "nowhere", "name", "pipe"])
@pytest.mark.parametrize("place", [f".mailmerge/{name}" for name in STATE])
def test_e1_a_file_of_the_ledger_that_is_a_link(
    place: str, kind: str, spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]
) -> None:
    """Lock and ledger are used only if they are plain files with one name; else it is said, exit 8."""
    plant(spring / place, kind, outside)
    outside.expect()
    said = climb(outside, capfd)

    code, text = said["send", "spring", "--yes"]
    replaced = place.endswith(("ballast", ".gitignore")) or (
        place.endswith("ledger.db") and kind == "nowhere"
    )
    assert code == (3 if replaced else 8), text
    assert replaced or f"spring/{place}" in text
    assert (
        replaced or "symbolic link" in text or "hard link" in text or "plain file" in text or "empty" in text
    )


@pytest.mark.parametrize("kind", ["link", "nowhere", "name", "pipe"])
def test_e1_reports_that_are_links(
    kind: str, spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]
) -> None:
    """Whatever has the name of a report gives way to it: every command works."""
    for place in REPORTS:
        plant(spring / place, kind, outside)
    outside.expect()
    said = climb(outside, capfd)

    assert [code for code, _ in said.values()] == [0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
    assert stat.S_ISREG((spring / "eml" / "00002-ana@example.com.eml").lstat().st_mode)


@pytest.mark.parametrize("kind", ["link", "nowhere", "pipe", "name"])
@pytest.mark.parametrize("place", NAMED)
def test_e1_a_named_file_that_is_a_link(
    place: str, kind: str, spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]
) -> None:
    """A file that an option names is not written through a link: that command says so, the others work."""
    plant(spring / place, kind, outside)
    outside.expect()
    said = climb(outside, capfd)

    refused = [command for command, (code, _) in said.items() if code == 2]
    named = [command for command in LADDER if f"spring/{place}" in command]
    assert refused == ([] if kind == "name" else named)
    assert all(f"spring/{place}" in said[command][1] for command in refused)


@pytest.mark.parametrize("target", ["link", "nowhere"])
def test_e1_a_list_copy_that_is_a_link(
    target: str, spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]
) -> None:
    """A link with the name of a list's copy is neither read as the list nor written through."""
    import hashlib

    digest = hashlib.sha256((spring / "people.csv").read_bytes()).hexdigest()
    for name in (f"list-{digest[:12]}.csv", "list-0123456789ab.csv"):
        plant(spring / ".mailmerge" / name, target, outside)
    outside.expect()
    said = climb(outside, capfd)

    assert [code for code, _ in said.values()] == [0, 0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0]
    assert "precious" not in (spring / "copy.csv").read_text("utf-8")


def copied(path: Path) -> None:
    """Put a copy of a file in its place."""
    copy = path.with_name("copy")
    copy.write_bytes(path.read_bytes())
    copy.rename(path)


@pytest.mark.parametrize(
    ("place", "kind", "mend"),
    [
        ("out", "folder", lambda path: path.unlink()),
        ("out", "pipe", lambda path: path.rename(path.with_name("away"))),
        (".mailmerge", "folder", lambda path: path.unlink()),
        (".mailmerge/lock", "link", lambda path: path.unlink()),
        (".mailmerge/lock", "name", copied),
        ("out/rehearsal/messages", "folder", lambda path: path.unlink()),
    ],
)
def test_e1_what_the_hint_says_helps(
    place: str,
    kind: str,
    mend: Callable[[Path], object],
    spring: Path,
    outside: Outside,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """When what the error asks for was done, all commands work."""
    plant(spring / place, kind, outside)
    outside.expect()
    told = [
        text for command in LADDER[:-1] if (cli.run(command) in {2, 8}) and (text := capfd.readouterr().err)
    ]
    assert any(re.search("remove this link|move it away|put a copy of it", text) for text in told)
    mend(spring / place)
    rest = LADDER[-3:-1] if place.startswith("out") else LADDER

    assert {cli.run(command) for command in rest} <= {0, 3}


def test_e1_a_campaign_is_not_begun_through_a_link(
    spring: Path, outside: Outside, capfd: pytest.CaptureFixture[str]
) -> None:
    """`init` writes none of its files where a link has the name, wherever that leads."""
    (spring / "campaign.toml").unlink()
    for name, kind in (("body.txt", "nowhere"), ("campaign.toml", "link"), ("people.csv", "name")):
        (spring / name).unlink(missing_ok=True)
        plant(spring / name, kind, outside)
        outside.expect()
        assert cli.run(("init", "spring", "--template", "plain", "--from", "me@example.org")) == 2
        assert "already" in capfd.readouterr().err
        outside.check(name)


# --- as the kernel sees it -------------------------------------------------------------------------------

_CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<rest>.*)\) += (?P<result>-?\d+)(?:<(?P<real>[^>]*)>)?")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<(?P<at>[^>]*)>, )?"(?P<path>[^"]*)"')
_WRITES = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC")
_ONLY_READ = {
    "access",
    "faccessat",
    "faccessat2",
    "stat",
    "lstat",
    "newfstatat",
    "statx",
    "statfs",
    "readlink",
}
_ONLY_READ |= {
    "readlinkat",
    "execve",
    "getcwd",
    "chdir",
    "getxattr",
    "lgetxattr",
    "listxattr",
    "inotify_add_watch",
}


def writes(trace: Path, cwd: Path) -> Iterator[tuple[str, Path]]:
    """Yield every call that changes a file or may, with the path that it reaches."""
    for line in trace.read_text("utf-8", "replace").splitlines():
        call = _CALL.match(line)
        if call is None or call["name"] in _ONLY_READ or int(call["result"]) < 0:
            continue
        if call["name"] in {"open", "openat"}:
            if _WRITES.search(call["rest"]):
                yield line, Path(call["real"])
            continue
        for found in _PATH.finditer(call["rest"]):
            at = Path(found["at"] or cwd)
            path = Path(os.path.normpath(at / found["path"]))
            # The last name is what these calls change, so it is not followed.
            yield line, path.parent.resolve() / path.name


@pytest.mark.program("strace")
@pytest.mark.parametrize("planted", ["nothing", "reports", "folders"])
def test_e1_every_system_call_stays_inside(
    planted: str, spring: Path, outside: Outside, mailmerge: Mailmerge, tmp_path: Path
) -> None:
    """No command opens for writing, renames, makes or removes anything but in folders of ours."""
    for place, kind in {
        "nothing": [],
        "reports": [*((place, "link") for place in REPORTS), (".mailmerge/ballast", "link")],
        "folders": [("out", "folder"), ("eml", "folder")],
    }[planted]:
        plant(spring / place, kind, outside)
    outside.expect()
    ours = [spring, mailmerge.folder / "home"]
    foreign, calls = [], 0
    for number, command in enumerate(LADDER):
        trace = tmp_path / f"trace-{number}"
        done = subprocess.run(
            [
                *("strace", "-f", "--seccomp-bpf", "-y", "-s", "4096", "-o", str(trace)),
                *("-e", "trace=%file,fchmod,fchmodat"),
                *(sys.executable, "-P", "-m", "mailmerge", *command),
            ],
            cwd=mailmerge.folder,
            env={**unmeasured(mailmerge.environ), "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=120,
        )
        said = done.stdout.decode() + done.stderr.decode()
        assert "Traceback" not in said, said
        outside.check(said)
        seen = list(writes(trace, mailmerge.folder))
        calls += len(seen)
        foreign += [line for line, path in seen if not inside(path, ours, mailmerge.folder / "tmp")]
        assert list((mailmerge.folder / "tmp").iterdir()) == [], command

    assert foreign == []
    assert calls > 100, "the trace was not understood"


def inside(path: Path, ours: list[Path], temporary: Path) -> bool:
    """Return whether we may write there: a folder of ours, also one among the temporary files."""
    if path == Path(os.devnull) or any(path.is_relative_to(folder) for folder in ours):
        return True
    mine = path.relative_to(temporary).parts[:1] if path.is_relative_to(temporary) else ()
    return bool(mine and re.fullmatch(r"mailmerge-[0-9a-f]{16}", mine[0]))


# --- killed in the middle --------------------------------------------------------------------------------

KILLED_AT = [
    (("preview", "spring", "--no-open"), "rename", 8),
    (("preview", "spring", "--eml", "spring/eml", "--mbox", "spring/all.mbox"), "rename", 7),
    (("send", "spring", "--yes"), "rename", 8),
    (("rehearse", "spring"), "rename", 8),
    (("report", "spring", "--xlsx"), "rename", 5),
    (("report", "spring", "--copy", "spring/copy.csv"), "rename", 5),
    (("check", "spring"), "unlink", 2),
    (("report", "spring", "--xlsx"), "unlink", 6),
    (("rehearse", "spring"), "unlink", 2),
]


@pytest.mark.program("strace")
@pytest.mark.parametrize(("command", "call", "most"), KILLED_AT)
def test_e2_a_killed_command_leaves_nothing(
    command: tuple[str, ...], call: str, most: int, spring: Path, mailmerge: Mailmerge
) -> None:
    """SIGKILL as a draft takes its place, or as a scratch folder is removed: the next command clears up."""
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    left = 0
    for when in range(1, most + 1):
        killed = subprocess.run(
            [
                *("strace", "-f", "-o", os.devnull, "-e", f"inject=/^{call}:signal=SIGKILL:when={when}"),
                *(sys.executable, "-P", "-m", "mailmerge", *command),
            ],
            cwd=mailmerge.folder,
            env=unmeasured(mailmerge.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
            timeout=120,
        )
        left += len(drafts(mailmerge.folder))
        # A folder that only an option names is looked at when it is named again.
        assert mailmerge(*(command if "--eml" in command else ("status", "spring"))).code == 0
        assert drafts(mailmerge.folder) == [], when
        if killed.returncode not in {137, -signal.SIGKILL}:  # it made fewer of these calls
            break

    assert left, "it was never killed where it hurts"


def drafts(folder: Path) -> list[Path]:
    """Return the temporary files of ours that are left over."""
    return [*(folder / "tmp").iterdir(), *folder.rglob(".mailmerge-draft-*"), *folder.rglob("*.part")]
