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
from reliability.moody import MoodyServer
from servers.command import Done, Mailmerge

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faultd import Peer
    from mailmerge.sending.runs import Progress

ROWS = 60
SIDE = ["transcript", "state", "out"]


@pytest.fixture
def server() -> Iterator[MoodyServer]:
    """A server that takes everything."""
    with MoodyServer() as opened:
        yield opened


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


@pytest.mark.parametrize("side", SIDE)
@pytest.mark.parametrize("when", ["before", "in mid-run"])
def test_f1_a_full_disk(side: str, when: str, bench: Bench, server: MoodyServer, tmp_path: Path) -> None:
    """Whatever was taken is recorded, and all is sent; without the account's count nothing more is."""
    with Disk(tmp_path / "disk", 600_000) as disk:
        place = disk.inside / side
        options = {"transcript": ["--transcript", str(place)], "out": ["--out", str(place)]}.get(side, [])
        environ = dict(bench.mailmerge.environ)
        if side == "state":
            environ["MAILMERGE_STATE_DIR"] = str(place)
        if when == "before":
            disk.fill()
        else:
            server.change_mood({"taken": {3: meanwhile(disk.fill)}})
        done = disk.mailmerge("send", str(bench.folder), "--yes", *options, environ=environ)

    if side == "state":
        assert done.code == 8, done
        assert done.err.count("error[") == 1
    else:
        assert done.code == 0, done
        assert bench.check()[Status.ACCEPTED] == ROWS
        assert (done.out + done.err).count("No space left on device") == 1, done
    if server.accepted:
        assert bench.check()[Status.ACCEPTED] == len(server.accepted)


@pytest.mark.parametrize("side", ["state", "out"])
def test_f1_a_folder_that_vanishes(side: str, bench: Bench, server: MoodyServer, tmp_path: Path) -> None:
    """Results are written into a new folder; without the account's count nothing more is offered."""
    bench.send(limit=1)
    place = {"state": tmp_path / "home" / "state", "out": bench.folder / "out"}[side]

    def vanish(step: Progress) -> None:
        if place.exists() and step.counts[Status.ACCEPTED] == 2:
            shutil.rmtree(place)

    report = bench.send(observe=vanish)
    taken = len(server.accepted)
    if side == "out":
        assert (report.exit_code, taken) == (0, ROWS)
        assert (place / "results.csv").exists()
    else:
        assert (report.exit_code, taken) == (8, 3)
        assert report.error is not None
        assert report.error.code == "L710"
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


@pytest.mark.parametrize("redirection", [">/dev/full", "2>/dev/full", ">&-", "2>&-", "<&-", "<&- >&- 2>&-"])
def test_f2_a_run_whose_output_cannot_be_written(redirection: str, bench: Bench, server: MoodyServer) -> None:
    """It goes on to the end, with its own exit code; where there is another stream, it is said there once."""
    done = shell(bench.mailmerge, f"mailmerge send {NAME} --yes {redirection}")
    assert done.code == 0, done
    assert "Traceback" not in done.err
    assert "Exception ignored" not in done.err
    assert done.err.count("cannot be written") == (1 if redirection in {">/dev/full", ">&-"} else 0), done
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
    """Not in drafts of killed runs, plans, previews and rescued ledgers, nor of what began anew since."""

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
    bench.campaign().purge()  # what is written after it can be removed as well
