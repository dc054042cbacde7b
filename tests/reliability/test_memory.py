"""A37, A38: a ledger that is older than it should be, another one, a copy, or gone, before a run or in it."""

from __future__ import annotations

import shutil
import threading
from typing import TYPE_CHECKING

import pytest

from mailmerge.errors import InUseError, LedgerError
from mailmerge.ledger.locks import CampaignLock
from mailmerge.model import Status
from reliability.bench import NAME, Bench, taken_order
from reliability.conversing import told
from servers.command import one_error

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge import Campaign
    from mailmerge.sending.runs import Progress
    from reliability.moody import MoodyServer

COMMANDS: dict[str, Callable[[Campaign], object]] = {
    "status": lambda campaign: campaign.status(),
    "report": lambda campaign: campaign.report(),
    "continuation": lambda campaign: campaign.continuation(),
    "resolve": lambda campaign: campaign.in_doubt(),
    "resolve --resend": lambda campaign: campaign.resolve(None, as_accepted=False),
    "requeue": lambda campaign: campaign.requeue(),
    "check": lambda campaign: campaign.check(),
    "preview": lambda campaign: campaign.preview(campaign.workspace.out / "preview.html"),
    "send": lambda campaign: campaign.send(),
    "purge": lambda campaign: campaign.purge(),
}


@pytest.fixture
def bench(tmp_path: Path, server: MoodyServer) -> Bench:
    """Three people, one of whom has been written to, and a copy of the folder as it was then."""
    bench = Bench(tmp_path, server)
    bench.send(limit=1)
    shutil.copytree(bench.folder, tmp_path / "backup")
    return bench


def roll_back(bench: Bench) -> None:
    shutil.copy(bench.folder.parent / "backup" / ".mailmerge" / "ledger.db", bench.ledger_path)


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
@pytest.mark.parametrize("how", ["older", "missing"])
def test_a37_every_command_asks_whether_the_ledger_is_the_newest(how, command, bench: Bench) -> None:
    """One that was rolled back or deleted ends each of them with exit code 8; no result is overwritten."""
    bench.send()
    results = (bench.folder / "out" / "results.csv").read_bytes()
    roll_back(bench) if how == "older" else bench.ledger_path.unlink()
    with pytest.raises(LedgerError, match=r"older than it should be|is missing") as caught:
        command(bench.campaign())
    assert caught.value.exit_code == 8
    assert (bench.folder / "out" / "results.csv").read_bytes() == results


def test_a37_a_renamed_copy_with_an_older_ledger_sends_nothing(bench: Bench, server: MoodyServer) -> None:
    """What this machine knows goes with the campaign's secret, whatever the folder is called now."""
    bench.send()
    shutil.rmtree(bench.folder)
    (bench.folder.parent / "backup").rename(bench.folder.parent / "autumn")
    done = bench.mailmerge("send", "autumn", "--yes")
    assert done.code == 8, done
    one_error(done, "L705", "has 1 hand-overs, there were 3")
    assert len(taken_order(server)) == 3


def test_a37_of_a_folder_and_its_copy_one_goes_on(bench: Bench) -> None:
    """The copy is refused until a person says that it is the one that continues, or starts from scratch."""
    done = bench.mailmerge("send", "backup", "--yes")
    assert done.code == 8, done
    one_error(done, "L712", "is a copy of the one in")
    assert "mailmerge ledger move backup" in done.err
    assert bench.mailmerge("ledger", "move", "backup").code == 0
    with pytest.raises(LedgerError, match="is a copy of the one in"):
        bench.send()
    bench.campaign().forget_ledger()
    assert bench.campaign().status().counts.total == 0


@pytest.mark.parametrize("how", ["deleted", "replaced", "folder"])
def test_a38_a_ledger_that_vanishes_stops_the_run(
    how, bench: Bench, server: MoodyServer, tmp_path: Path
) -> None:
    """Nothing leaves after that, and what was known is kept: once restored, it continues as before."""

    def vanish(_step: Progress) -> None:
        match how:
            case "deleted":
                bench.ledger_path.unlink()
            case "replaced":
                new = tmp_path / "new.db"
                shutil.copy(bench.ledger_path, new)
                new.replace(bench.ledger_path)
            case _ if bench.ledger_path.exists():
                shutil.rmtree(bench.ledger_path.parent)

    report = bench.send(observe=vanish)
    assert report.exit_code == 8
    assert report.error is not None
    assert report.error.code == "L713"
    assert len(taken_order(server)) == 2
    (kept,) = (tmp_path / "home" / "state" / "rescued").glob("ledger-*.db")
    assert str(kept) in (report.error.hint or "")
    bench.ledger_path.parent.mkdir(exist_ok=True)
    for name in ("ledger.db-wal", "ledger.db-shm"):
        bench.ledger_path.with_name(name).unlink(missing_ok=True)
    shutil.copy(kept, bench.ledger_path)
    bench.send()
    assert bench.check()[Status.ACCEPTED] == 3


@pytest.mark.parametrize("then", ["missing", "older"])
def test_a38_the_copy_is_named_until_it_is_in_place(then: str, bench: Bench, tmp_path: Path) -> None:
    """No command that would fail is suggested; later commands name the copy, too, and no new list.

    It vanishes while the last rows are in flight, so nothing more would be recorded.
    """
    bench.send(limit=1)
    old = bench.ledger_path.read_bytes()

    def vanish(_step: Progress) -> None:
        if bench.ledger_path.exists():
            bench.ledger_path.rename(tmp_path / "gone.db")

    report = bench.send(observe=vanish)
    assert report.exit_code == 8
    assert "Next:" not in told(report)
    (kept,) = (tmp_path / "home" / "state" / "rescued").glob("ledger-*.db")
    if then == "older":
        bench.ledger_path.write_bytes(old)
    for command in (["send", NAME, "--yes"], ["status", NAME]):
        done = bench.mailmerge(*command)
        assert done.code == 8, done
        assert f"put a copy of {kept} in its place" in done.err, done
        assert "whole list" not in done.err
    shutil.copy(kept, bench.ledger_path)
    assert bench.mailmerge("send", NAME, "--yes").code == 0
    assert bench.check()[Status.ACCEPTED] == 3


def test_a38_a_deleted_lock_file_lets_nobody_in(bench: Bench) -> None:
    """The second process is told that the campaign is in use; the first one continues as before."""
    told = []

    def delete(_step: Progress) -> None:
        (bench.ledger_path.parent / "lock").unlink(missing_ok=True)
        with pytest.raises(InUseError) as caught:
            bench.campaign().requeue()
        told.append(caught.value.exit_code)

    assert bench.send(observe=delete).exit_code == 0
    assert told == [7, 7]


def test_a38_a_deleted_lock_of_the_account_stops_the_run(
    bench: Bench, server: MoodyServer, tmp_path: Path
) -> None:
    """From then on another process could send with the account, so this one hands nothing more over."""

    def delete(_step: Progress) -> None:
        for lock in (tmp_path / "home" / "state").glob("account-*.lock"):
            lock.unlink()

    report = bench.send(observe=delete)
    assert report.exit_code == 8
    assert report.error is not None
    assert report.error.code == "L711"
    assert len(taken_order(server)) == 2
    bench.send()
    assert bench.check()[Status.ACCEPTED] == 3


def test_a_test_waits_for_another_process(bench: Bench, server: MoodyServer) -> None:
    """With --wait-lock it goes out once the campaign is free, without it the command ends."""
    arguments = ("test", str(bench.folder), "--to", "me@example.org")
    with CampaignLock(bench.ledger_path.parent) as lock:
        refused = bench.mailmerge(*arguments)
        free = threading.Timer(0.5, lock.release)
        free.start()
        waited = bench.mailmerge(*arguments, "--wait-lock", "20")
        free.join()
    assert (refused.code, waited.code) == (7, 0), (refused, waited)
    assert taken_order(server)[-1] == "me@example.org"


def test_a38_what_a_living_run_hands_over_is_in_nobodys_doubt(bench: Bench, server: MoodyServer) -> None:
    """`status` knows from the lock that a run lives, and `resolve` lists none of its rows."""
    seen: list[object] = []

    def fault(_peer: object) -> bytes:
        status = bench.campaign().status()
        counts = status.counts
        seen.append((status.running, counts[Status.HANDING_OVER], counts[Status.IN_DOUBT]))
        seen.append(bench.campaign().in_doubt())
        return b"250 2.0.0 taken\r\n"

    server.change_mood({"taken": fault})
    bench.send(limit=1)
    assert seen == [(True, 1, 0), []]
    assert not bench.campaign().status().running
