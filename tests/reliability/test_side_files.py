"""F1 to F3: what is written beside the ledger never costs a message or a doubt: full, closed or gone."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mailmerge.model import Status
from reliability.bench import NAME, Bench
from reliability.disks import Disk
from servers.command import Done, Mailmerge

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faultd import Peer
    from mailmerge.sending.runs import Progress
    from reliability.moody import MoodyServer

ROWS = 60


@pytest.fixture
def bench(tmp_path: Path, server: MoodyServer) -> Bench:
    """So many people that a transcript of them is longer than a page."""
    return Bench(tmp_path, server, rows=ROWS)


def meanwhile(action: Callable[[], object]) -> Callable[[Peer], bytes]:
    """Let something happen while the server takes the third message."""

    def fault(_peer: Peer) -> bytes:
        action()
        return b"250 2.0.0 as usual\r\n"

    return fault


# --- F1: what is written to a disk ------------------------------------------------------------------------


def fill(disk: Disk, _place: str) -> None:
    """Leave no room."""
    disk.fill()


def protect(disk: Disk, _place: str) -> None:
    """Let nothing be written."""
    disk.protect()


def vanish(disk: Disk, place: str) -> None:
    """Remove the file or the folder with all that is in it."""
    path = disk.path / place
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def block(disk: Disk, place: str) -> None:
    """Have a folder where the file belongs."""
    (disk.path / place).mkdir(parents=True)


FAULTS = {
    "full": (fill, "No space left on device"),
    "read-only": (protect, "Read-only file system"),
    "vanished": (vanish, "No such file"),
    "blocked": (block, "Is a directory"),
}
# What is open for writing in mid-run cannot be protected then, and what is not made yet cannot vanish.
ON_DISK = [
    (side, fault, when)
    for side, faults in {
        "transcript": ("full", "read-only", "vanished"),
        "state": ("full", "read-only", "vanished"),
        "out": ("full", "read-only", "vanished"),
        "out/results.csv": ("blocked",),
        "out/report.html": ("blocked",),
    }.items()
    for fault in faults
    for when in ("before", "in mid-run")
    if (fault, when) != ("vanished", "before")
    and (fault, when, side == "out") != ("read-only", "in mid-run", False)
]


@pytest.mark.parametrize(("side", "fault", "when"), ON_DISK)
def test_f1_a_side_file_that_cannot_be_written(
    side: str, fault: str, when: str, bench: Bench, server: MoodyServer, tmp_path: Path
) -> None:
    """All is sent and recorded; it is said once, and without the account's count nothing more is sent."""
    with Disk(tmp_path / "disk", 600_000) as disk:
        place = disk.inside / side.partition("/")[0]
        environ = dict(bench.mailmerge.environ)
        options = {
            "transcript": ["--transcript", str(place)],
            "state": [],
        }.get(side, ["--out", str(place)])
        if side == "state":
            environ["MAILMERGE_STATE_DIR"] = str(place)
            (disk.path / "state").mkdir(mode=0o700)

        act, reason = FAULTS[fault]

        def happen() -> None:
            act(disk, side)

        if when == "before":
            happen()
        else:
            server.change_mood({"taken": {3: meanwhile(happen)}})
        done = disk.mailmerge("send", str(bench.folder), "--yes", *options, environ=environ)

    taken = len(server.accepted)
    if side == "state":
        assert done.code == 8, done
        assert done.err.count("error[") == 1
        assert taken < ROWS
    elif (side, fault, when) == ("transcript", "read-only", "before"):
        # Whoever asks for a transcript is told before anything is sent that there cannot be one.
        assert (done.code, taken) == (2, 0), done
    else:
        assert (done.code, taken) == (0, ROWS), done
        # A file that vanished takes what is written to it; a folder that did is made again.
        assert (done.out + done.err).count(reason) == (fault != "vanished"), done
    if taken:
        assert bench.check()[Status.ACCEPTED] == taken


# --- F2: standard streams ---------------------------------------------------------------------------------


def shell(mailmerge: Mailmerge, command: str) -> Done:
    """Run a line of the shell, in which ``mailmerge`` is the command."""
    done = subprocess.run(
        ["sh", "-c", command.replace("mailmerge", f'"{sys.executable}" -P -m mailmerge', 1)],
        cwd=mailmerge.folder,
        env={**mailmerge.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        timeout=60,
        check=False,
    )
    return Done(done.returncode, done.stdout.decode(), done.stderr.decode())


STREAMS = [
    *(f"{stream}{fault}" for stream in ("1", "2") for fault in (">/dev/full", "</dev/null", ">&-")),
    "<&-",
    "<&- >&- 2>&-",
]


@pytest.mark.parametrize("redirection", STREAMS)
def test_f2_a_run_whose_output_cannot_be_written(redirection: str, bench: Bench, server: MoodyServer) -> None:
    """It continues to the end, with its own exit code; another stream, if any, reports the failure once."""
    done = shell(bench.mailmerge, f"mailmerge send {NAME} --yes {redirection}")
    assert done.code == 0, done
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err
    assert done.err.count("cannot be written") == (1 if redirection.startswith("1") else 0), done
    assert bench.check()[Status.ACCEPTED] == len(server.accepted) == ROWS


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
@pytest.mark.parametrize("when", ["before", "in mid-run"])
def test_f2_a_run_whose_reader_goes_away(stream: str, when: str, bench: Bench, server: MoodyServer) -> None:
    """As with ``mailmerge send | head``: nothing stays unrecorded, and the run ends by itself."""
    reader, writer = os.pipe()
    if when == "before":
        os.close(reader)
    else:
        server.change_mood({"taken": {3: meanwhile(lambda: os.close(reader))}})
    command = [sys.executable, "-P", "-m", "mailmerge", "send", NAME, "--yes"]
    done = subprocess.run(
        command,
        cwd=bench.mailmerge.folder,
        env=dict(bench.mailmerge.environ),
        stdout=writer if stream == "stdout" else subprocess.PIPE,
        stderr=writer if stream == "stderr" else subprocess.PIPE,
        timeout=60,
        check=False,
    )
    os.close(writer)
    assert done.returncode == 0, done
    assert b"Traceback" not in (done.stderr or b"")
    assert b"Exception ignored" not in (done.stderr or b"")
    assert bench.check()[Status.ACCEPTED] == len(server.accepted) == ROWS


@pytest.mark.parametrize(
    "command", [f"check {NAME}", f"status {NAME}", "providers", f"purge {NAME}", "nonsense"]
)
@pytest.mark.parametrize("redirection", ["<&- >&- 2>&-", ">/dev/full 2>/dev/full"])
def test_f2_a_command_without_any_stream(command: str, redirection: str, bench: Bench) -> None:
    """No file of ours takes a standard stream's place, and no exit code tells of a bug."""
    done = shell(bench.mailmerge, f"mailmerge {command} {redirection}")
    assert done.code in {0, 2, 8}, done


# --- F3: what is removed again ----------------------------------------------------------------------------


def test_f3_purge_leaves_nothing_about_anybody(bench: Bench, server: MoodyServer, tmp_path: Path) -> None:
    """Not in drafts of killed runs, plans, previews and rescued ledgers, nor of what was restarted since."""

    def vanish(_step: Progress) -> None:
        bench.ledger_path.unlink(missing_ok=True)

    bench.send(limit=3)
    bench.campaign().forget_ledger()
    assert bench.send(observe=vanish, accept_repeats=True).exit_code == 8
    (kept,) = (tmp_path / "home" / "state" / "rescued").glob("ledger-*.db")
    shutil.copy(kept, bench.ledger_path)
    bench.campaign().preview(bench.folder / "out" / "preview.html")
    for place in (".mailmerge", "out"):
        (bench.folder / place / ".mailmerge-draft-0123456789abcdef").write_text("p1@example.net")
    draft = tmp_path / "home" / "cache" / ".mailmerge-draft-0123456789abcdef"
    draft.mkdir()
    (draft / "plan.db").write_text("p1@example.net")

    bench.campaign().purge()
    left = [path for path in tmp_path.rglob("*") if path.is_file() and b"@example.net" in path.read_bytes()]
    assert left == [bench.folder / "people.csv"]
    assert list(kept.parent.glob("ledger-*")) == []
    bench.campaign().purge()  # what is written after it can be removed as well
