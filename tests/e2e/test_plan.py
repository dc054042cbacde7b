"""The plan on the command line: made once, trusted only where it applies, and what rows are named by."""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from contextlib import closing
from typing import TYPE_CHECKING

import pytest

import faultd
from faultd import FaultServer, say
from servers import programs
from servers.command import EVERYBODY, one_error, results, statuses

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from faultd import Fault
    from servers.command import Done, Mailmerge

UNCHANGED = re.compile(r"planned \d\d:\d\d, nothing has changed since")


def plans(mailmerge: Mailmerge, suffix: str = "plan") -> list[Path]:
    """Return the files of all plans."""
    return sorted((mailmerge.folder / "home/cache").glob(f"*.{suffix}"))


def reverse(people: Path) -> None:
    """Sort the rows of a list the other way round."""
    head, *rows = people.read_text("utf-8").splitlines()
    people.write_text("\n".join([head, *reversed(rows)]) + "\n", "utf-8")


# --- made once --------------------------------------------------------------------------------------------


def test_what_was_checked_is_not_planned_again(mailmerge, sandbox):
    """A second check, a preview and the sending read the plan of the first check, and say so."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    first = mailmerge("check", "spring")
    assert not UNCHANGED.search(first.err)
    (plan,) = plans(mailmerge)
    made = plan.stat().st_ino

    again = mailmerge("check", "spring")
    assert UNCHANGED.search(again.err), again
    assert again.out.splitlines()[:-1] == first.out.splitlines()[:-1]
    assert mailmerge("preview", "spring", "--no-open").code == 0
    sent = mailmerge("send", "spring", "--yes")

    assert sent.code == 0, sent
    assert UNCHANGED.search(sent.err), sent
    assert [path.stat().st_ino for path in plans(mailmerge)] == [made]


def test_a_changed_list_is_planned_anew(mailmerge):
    """What is shown then is what the list says now."""
    folder = mailmerge.campaign()
    assert mailmerge("check", "spring").code == 0
    people = folder / "people.csv"
    people.write_text(people.read_text("utf-8") + "di@example.org,Di\n", "utf-8")

    done = mailmerge("check", "spring")

    assert not UNCHANGED.search(done.err), done
    assert "4 of 4 rows can be sent" in done.out


def torn(plan: Path, _messages: Path) -> None:
    plan.write_bytes(plan.read_bytes()[:-1000])


def empty(plan: Path, _messages: Path) -> None:
    plan.write_bytes(b"")


def of_another_version(plan: Path, _messages: Path) -> None:
    with closing(sqlite3.connect(plan)) as db:
        db.execute("PRAGMA user_version = 99")


def of_another_program(plan: Path, _messages: Path) -> None:
    plan.unlink()
    with closing(sqlite3.connect(plan)) as db:
        db.execute("CREATE TABLE row (n)")


def messages_torn(_plan: Path, messages: Path) -> None:
    messages.write_bytes(messages.read_bytes()[:-10])


def messages_gone(_plan: Path, messages: Path) -> None:
    messages.unlink()


def messages_damaged(_plan: Path, messages: Path) -> None:
    data = bytearray(messages.read_bytes())
    data[-20] ^= 0xFF
    messages.write_bytes(data)


def rows_damaged(plan: Path, _messages: Path) -> None:
    with closing(sqlite3.connect(plan)) as db, db:
        db.execute("UPDATE row SET data = x'00' WHERE n = 1")


@pytest.mark.parametrize(
    "damage",
    [
        torn,
        empty,
        of_another_version,
        of_another_program,
        messages_torn,
        messages_gone,
    ],
)
@pytest.mark.parametrize("command", ["check", "preview", "send"])
def test_a_plan_that_cannot_be_trusted_is_made_again(mailmerge, sandbox, damage, command):
    """Nobody notices but by the time it takes: exit 0, every message as it is."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("check", "spring").code == 0
    damage(*plans(mailmerge), *plans(mailmerge, "messages"))

    done = mailmerge(
        command, "spring", *{"send": ["--yes", "--keep-plan"], "preview": ["--no-open"]}.get(command, [])
    )

    assert done.code == 0, done
    assert "Traceback" not in done.err
    if command == "send":
        assert [message.rcpt_to[0] for message in sandbox.messages] == [*EVERYBODY]
    assert UNCHANGED.search(mailmerge("check", "spring").err)


def page_torn(plan: Path, _messages: Path) -> None:
    data = bytearray(plan.read_bytes())
    with closing(sqlite3.connect(plan)) as db:
        (root,) = db.execute("SELECT rootpage FROM sqlite_master WHERE name = 'row'").fetchone()
        (size,) = db.execute("PRAGMA page_size").fetchone()
    data[(root - 1) * size : root * size] = bytes(size)
    plan.write_bytes(data)


@pytest.mark.parametrize("damage", [messages_damaged, rows_damaged, page_torn])
@pytest.mark.parametrize("command", ["check", "preview", "send"])
def test_damage_inside_a_plan_costs_no_command(mailmerge, sandbox, damage, command):
    """What is damaged is made again while the command runs: exit 0, every message as it is, each once."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("check", "spring").code == 0
    damage(*plans(mailmerge), *plans(mailmerge, "messages"))
    more = {"send": ["--yes"], "preview": ["--no-open"]}.get(command, [])

    done = mailmerge(command, "spring", *more)

    assert done.code == 0, done
    assert "C491" not in done.err
    if command == "send":
        assert sorted(message.rcpt_to[0] for message in sandbox.messages) == sorted(EVERYBODY)


def test_a_plan_of_another_user_is_not_read(mailmerge):
    """Whoever can write into the cache folder cannot say what is sent."""
    programs.require_root()
    mailmerge.campaign()
    assert mailmerge("check", "spring").code == 0
    (plan,) = plans(mailmerge)
    os.chown(plan, 12345, 12345)

    done = mailmerge("check", "spring")

    assert done.code == 0, done
    assert not UNCHANGED.search(done.err), done


# --- beside each other --------------------------------------------------------------------------------------


def many(count: int) -> str:
    """Write a list."""
    return "email,name\n" + "".join(f"p{n}@example.org,P{n}\n" for n in range(count))


def test_another_check_beside_a_running_send(mailmerge):
    """Other rows are planned beside it; what was shown before is what is sent."""
    folder = mailmerge.campaign(people_csv=many(4))
    with FaultServer({"content": {1: faultd.after(4, say("250 2.0.0 ok"))}}, extensions=()) as server:
        mailmerge.account(server)
        running = mailmerge.start("send", "spring", "--yes")
        assert server.wait_for(lambda: "DATA" in server.verbs(), 30)
        beside = mailmerge("check", "spring", "--where", "name == 'P1'")
        shown = mailmerge("preview", "spring", "--no-open")
        done = mailmerge.finish(running)

    assert (beside.code, shown.code, done.code) == (0, 0, 0), (beside, shown, done)
    assert "1 of 4 rows can be sent" in beside.out
    assert len(server.accepted) == 4
    assert statuses(folder) == ["accepted"] * 4
    assert mailmerge("status", "spring").out.startswith("spring: 4 rows")


def test_a_preview_while_a_new_plan_is_made(mailmerge):
    """Each sees a whole plan: nobody meets one that is half made."""
    folder = mailmerge.campaign(people_csv=many(3))
    assert mailmerge("check", "spring").code == 0
    (folder / "people.csv").write_text(many(6000), "utf-8")

    planning = mailmerge.start("check", "spring")
    shown = [mailmerge("preview", "spring", "--terminal", "--rows", "4000") for _ in range(3)]
    page = mailmerge("preview", "spring", "--no-open")
    done = mailmerge.finish(planning)

    assert done.code == 0, done
    assert "6,000 of 6,000 rows can be sent" in done.out
    assert all("p3998@example.org" in one.out for one in shown)
    assert "6,000 rows" in page.out
    assert plans(mailmerge, "draft") == []


def test_two_names_in_one_folder(mailmerge, sandbox):
    """Each has its own plan, its own rows and its own end; purging one leaves the other's."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    for name, where in (("one", "name != 'Bo'"), ("two", "name == 'Bo'")):
        done = mailmerge("send", "spring", "--yes", "--name", name, "--where", where)
        assert done.code == 0, done

    assert len(plans(mailmerge)) == 2
    assert "2  accepted" in mailmerge("status", "spring", "--name", "one").out
    assert "1  accepted" in mailmerge("status", "spring", "--name", "two").out
    assert mailmerge("purge", "spring", "--name", "one", "--yes").code == 0
    assert len(plans(mailmerge)) == 1
    again = mailmerge("send", "spring", "--yes", "--name", "two", "--where", "name == 'Bo'")
    assert (again.code, len(sandbox.messages)) == (0, 3), again


def test_purge_during_a_send_is_refused(mailmerge):
    """Exit 7, nothing is removed; afterwards it removes the plans, too."""
    folder = mailmerge.campaign()
    with FaultServer({"content": {1: faultd.after(3, say("250 2.0.0 ok"))}}, extensions=()) as server:
        mailmerge.account(server)
        running = mailmerge.start("send", "spring", "--yes")
        assert server.wait_for(lambda: "DATA" in server.verbs(), 30)
        refused = mailmerge("purge", "spring", "--yes")
        assert len(plans(mailmerge)) == len(plans(mailmerge, "messages")) == 1
        done = mailmerge.finish(running)

    assert refused.code == 7, refused
    assert done.code == 0, done
    assert statuses(folder) == ["accepted"] * 3
    assert mailmerge("purge", "spring", "--yes").code == 0
    assert plans(mailmerge) == plans(mailmerge, "messages") == []


SCRIPT = """\
from pathlib import Path
from mailmerge import Campaign

with Path("ran").open("a") as file:
    file.write("once\\n")
rows = ({"email": f"p{n}@example.org", "name": f"P{n}"} for n in range(5000))
campaign = Campaign.from_rows(
    rows, subject="Hi {{ name }}", text="Dear {{ name }}", sender="me@example.org", state=Path("state")
)
print(campaign.check().ready)
"""


def test_a_script_without_a_guard_runs_once(mailmerge):
    """Planning never runs the program that asked for it a second time."""
    (mailmerge.folder / "script.py").write_text(SCRIPT, "utf-8")

    done = subprocess.run(
        [sys.executable, "-P", "script.py"],
        cwd=mailmerge.folder,
        env=mailmerge.environ,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )

    assert (done.returncode, done.stdout) == (0, "5000\n"), done
    assert (mailmerge.folder / "ran").read_text() == "once\n"


# --- where it cannot be kept ---------------------------------------------------------------------------


def test_a_cache_folder_that_cannot_be_used(mailmerge):
    """It is said in words, exit 2, and what the hint says works."""
    mailmerge.campaign()
    (mailmerge.folder / "file").write_text("not a folder")

    refused = mailmerge("check", "spring", MAILMERGE_CACHE_DIR=str(mailmerge.folder / "file"))

    assert refused.code == 2, refused
    one_error(refused, "C488", "file", "MAILMERGE_CACHE_DIR")
    moved = mailmerge("check", "spring", MAILMERGE_CACHE_DIR=str(mailmerge.folder / "elsewhere"))
    assert moved.code == 0, moved
    assert len(list((mailmerge.folder / "elsewhere").glob("*.plan"))) == 1


# --- rows that a person names ---------------------------------------------------------------------------


@pytest.fixture
def doubtful(mailmerge):
    """A campaign with rows 2 accepted, 3 rejected and 4 in doubt, whose list was sorted since."""
    folder = mailmerge.campaign()
    faults: dict[str, dict[int, Fault]] = {
        "RCPT": {2: say("550 5.1.1 no such user")},
        "content": {2: faultd.drop},
    }
    with FaultServer(faults, extensions=()) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--set", "send.max_rejected=90%")
        assert done.code == 4, done
        reverse(folder / "people.csv")
        assert mailmerge("check", "spring").code == 0
        yield folder


def forget_plans(mailmerge: Mailmerge) -> None:
    """Do as a cleaning program does."""
    for path in (*plans(mailmerge), *plans(mailmerge, "messages")):
        path.unlink()


@pytest.mark.parametrize("forget", [lambda _mailmerge: None, forget_plans])
def test_rows_have_the_numbers_of_the_last_report(mailmerge, doubtful, forget):
    """However the list was sorted since, and whether its plan is still there or not."""
    forget(mailmerge)

    assert "row 4  cy@example.org" in mailmerge("resolve", "spring").out
    assert mailmerge("report", "spring").code == 0
    assert [(row["row"], row["address"], row["status"]) for row in results(doubtful)] == [
        ("2", "ana@example.com", "accepted"),
        ("3", "bo@example.net", "rejected"),
        ("4", "cy@example.org", "in_doubt"),
    ]
    assert mailmerge("resolve", "spring", "--rows", "2").out == "No row is in doubt.\n"
    assert mailmerge("resolve", "spring", "--rows", "4", "--as-accepted").out.startswith("1 row recorded")
    assert mailmerge("requeue", "spring", "--rows", "3").out.startswith("Requeued 1 row.")
    assert mailmerge("status", "spring", "--json").objects[0]["statuses"] == {"accepted": 2, "pending": 1}


COMMANDS: list[Callable[[str], list[str]]] = [
    lambda rows: ["resolve", "--rows", rows],
    lambda rows: ["resolve", "--rows", rows, "--as-accepted"],
    lambda rows: ["resolve", "--rows", rows, "--resend"],
    lambda rows: ["requeue", "--rows", rows],
    lambda rows: ["requeue", "--rows", rows, "--accepted", "--yes"],
]


@pytest.mark.parametrize("forget", [lambda _mailmerge: None, forget_plans])
@pytest.mark.parametrize(
    ("rows", "named"), [("5", "row 5"), ("2-50", "row 50"), ("4,70-80", "rows 70-80"), ("3-4,9-", "rows 9-")]
)
def test_an_unknown_row_number_is_refused(mailmerge, doubtful, rows, named, forget):
    """Exit 2 in words, by every command that takes rows of the last report, and nothing is changed."""
    forget(mailmerge)
    before = mailmerge("status", "spring").out

    for command in COMMANDS:
        name, *more = command(rows)
        done: Done = mailmerge(name, "spring", *more)
        assert done.code == 2, done
        one_error(done, "D159", named)

    assert mailmerge("status", "spring").out == before
    assert mailmerge("resolve", "spring", "--rows", "2-").code == 0
