"""After a run: status, report, resolve, requeue, purge."""

from __future__ import annotations

import contextlib
import json
import os
import sqlite3
from typing import TYPE_CHECKING

import pytest

import faultd
from faultd import FaultServer, say
from servers.command import CAMPAIGN, one_error, results, statuses, subjects, typed

if TYPE_CHECKING:
    from faultd import Fault


@pytest.fixture
def mixed(mailmerge):
    """A campaign after a bad day: one row accepted, one rejected, one in doubt; with its server."""
    campaign = mailmerge.campaign()
    faults: dict[str, dict[int, Fault]] = {
        "RCPT": {2: say("550 5.1.1 no such user")},
        "content": {2: faultd.drop},
    }
    with FaultServer(faults, extensions=()) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--set", "send.max_rejected=90%")
        assert done.code == 4, done
        assert statuses(campaign) == ["accepted", "rejected", "in_doubt"]
        yield campaign, server


def test_status(mailmerge, mixed):
    """Counts, last run and what waits for a person, for people and for programs; exit 0 always."""
    status = mailmerge("status", "spring")
    assert status.code == 0, status
    assert status.out.splitlines()[:4] == [
        "spring: 3 rows",
        "          1  accepted",
        "          1  rejected",
        "          1  in doubt",
    ]
    assert "Last run: " in status.out
    assert "mailmerge resolve" in status.out

    (values,) = mailmerge("status", "spring", "--json").objects
    assert values["statuses"] == {"accepted": 1, "rejected": 1, "in_doubt": 1}


def test_status_before_anything(mailmerge):
    """A campaign that never ran has a status, too, and asking for it makes no files."""
    campaign = mailmerge.campaign()

    done = mailmerge("status", "spring")

    assert (done.code, done.out) == (0, "spring: nothing has been sent yet.\n")
    assert not (campaign / ".mailmerge").exists()


def test_report_makes_the_files_again(mailmerge, mixed):
    """Lost reports come back from the ledger, byte for byte."""
    campaign, _ = mixed
    names = ("results.csv", "results.jsonl", "failed.csv")
    before = {name: (campaign / "out" / name).read_bytes() for name in names}
    for name in names:
        (campaign / "out" / name).unlink()

    done = mailmerge("report", "spring")

    assert done.code == 0, done
    assert "1 accepted   1 rejected   1 in doubt" in done.out
    assert {name: (campaign / "out" / name).read_bytes() for name in names} == before
    assert mailmerge("report", "spring", "--out", "elsewhere").code == 0
    assert (mailmerge.folder / "elsewhere/results.csv").read_bytes() == before["results.csv"]


def test_resolve_as_accepted(mailmerge, mixed):
    """A row found in the Sent folder counts as accepted; nothing more is sent."""
    campaign, server = mixed
    told = mailmerge("resolve", "spring")
    assert "row 4  cy@example.org  handed over" in told.out
    assert "1 row may or may not have been sent" in told.out

    assert mailmerge("resolve", "spring", "--rows", "2").out == "No row is in doubt.\n"
    settled = mailmerge("resolve", "spring", "--rows", "4", "--as-accepted")
    assert settled.out == "1 row recorded as accepted.\n", settled
    done = mailmerge("send", "spring", "--yes")

    assert done.code == 3, done
    assert statuses(campaign) == ["accepted", "rejected", "accepted"]
    assert len(server.accepted) == 1


def test_requeue_rejected(mailmerge, mixed):
    """A refused row gets another chance only on purpose: by ``--rows``, or by ``failed.csv``."""
    campaign, server = mixed
    mailmerge("resolve", "spring", "--as-accepted")

    none = mailmerge("requeue", "spring", "--rows", "2").out
    assert none == "Requeued 0 rows. None of them is rejected, expired or bounced.\n"
    back = mailmerge("requeue", "spring", "--from", campaign / "out" / "failed.csv")
    assert back.out.startswith("Requeued 1 row."), back
    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert statuses(campaign) == ["accepted"] * 3
    assert not (campaign / "out" / "failed.csv").exists()
    assert [message.recipients[0] for message in server.accepted] == [b"ana@example.com", b"bo@example.net"]


def test_requeue_rows_and_file_exclude_each_other(mailmerge, mixed):
    """Both together are a mistake in the command, and nothing is changed."""
    campaign, _ = mixed
    done = mailmerge("requeue", "spring", "--rows", "3", "--from", campaign / "out" / "failed.csv")
    assert done.code == 2, done
    assert "--rows and --from exclude each other" in done.err
    assert mailmerge("status", "spring", "--json").objects[0]["statuses"]["rejected"] == 1


def test_requeue_accepted_wants_to_be_sure(mailmerge, sandbox):
    """Sending a second time needs a word typed, or ``--yes``."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes").code == 0

    refused = mailmerge("requeue", "spring", "--accepted", "--rows", "3")
    assert refused.code == 2
    one_error(refused, "C480", "--yes")
    assert mailmerge("requeue", "spring", "--accepted", "--rows", "3", "--yes").code == 0
    assert mailmerge("send", "spring", "--yes").code == 0

    sent = [message.rcpt_to[0] for message in sandbox.messages]
    assert sent == ["ana@example.com", "bo@example.net", "cy@example.org", "bo@example.net"]


def test_address_mended_in_the_list(mailmerge, mixed):
    """A corrected address is another row: it is sent without any further word."""
    campaign, server = mixed
    mailmerge("resolve", "spring", "--as-accepted")
    people = campaign / "people.csv"
    people.write_text(people.read_text().replace("bo@example.net", "bo@example.com"))

    done = mailmerge("send", "spring", "--yes")

    assert [message.recipients[0] for message in server.accepted] == [b"ana@example.com", b"bo@example.com"]
    assert [(row["row"], row["address"], row["status"]) for row in results(campaign)] == [
        ("2", "ana@example.com", "accepted"),
        ("3", "bo@example.com", "accepted"),
        ("4", "cy@example.org", "accepted"),
        ("", "bo@example.net", "rejected"),
    ]
    assert "1 row counted above is not in this list" in done.out


def test_who_opts_out_after_a_run_is_not_pending(mailmerge, sandbox):
    """`status` counts the rows that the next run will send, whichever way they opted out."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    assert mailmerge("suppress", "add", "bo@example.net").code == 0

    (status,) = mailmerge("status", "spring", "--json").objects

    assert status["statuses"] == {"accepted": 1, "pending": 1, "suppressed": 1}


def test_purge_where_nothing_was_sent(mailmerge, sandbox):
    """No ledger exists that could be purged, but a rehearsal has left people's messages."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("rehearse", "spring").code == 0
    assert list((campaign / "out/rehearsal/messages").iterdir())
    done = mailmerge("purge", "spring", "--yes")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("Nothing was sent from here.")
    assert not list((campaign / "out/rehearsal/messages").iterdir())


def test_the_desktop_is_told_when_a_run_has_ended(mailmerge, tmp_path):
    """A notification has the numbers, and the browser gets the report page, where there is a display."""
    campaign = mailmerge.campaign(campaign_toml=CAMPAIGN.replace('account = "test"\n', ""))
    for name in ("notify-send", "firefox"):
        program = tmp_path / "programs" / name
        program.parent.mkdir(exist_ok=True)
        program.write_text(f'#!/bin/sh\nprintf "%s|" "$@" > {tmp_path / name}\n')
        program.chmod(0o700)
    seen = {"PATH": f"{program.parent}:{os.environ['PATH']}", "BROWSER": str(program)}

    assert mailmerge("rehearse", "spring", "--notify", "--open", **seen, DISPLAY="").code == 0
    assert mailmerge("rehearse", "spring", "--notify", "--open", **seen, DISPLAY=":9").code == 0

    told = (tmp_path / "notify-send").read_text("utf-8").split("|")
    assert told[2:4] == ["mailmerge: spring", "3 accepted"]
    page = campaign / "out/rehearsal/report.html"
    assert (tmp_path / "firefox").read_text("utf-8") == f"{page.resolve().as_uri()}|"


def test_purge(mailmerge, sandbox):
    """Afterwards no file of ours contains addresses, names or texts; the user's own list is left alone."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes").code == 0
    assert mailmerge("rehearse", "spring").code == 0

    refused = mailmerge("purge", "spring")
    assert refused.code == 2
    one_error(refused, "C480", "--yes")
    declined = typed(mailmerge, ["purge", "spring"], [("permanently?", "n")])
    assert declined.code == 2, declined
    assert mailmerge("status", "spring").out.startswith("spring: 3 rows")
    done = mailmerge("purge", "spring", "--yes")

    assert done.code == 0, done
    own = {campaign / "people.csv", campaign / "body.txt", campaign / "campaign.toml"}
    for path in {path for path in mailmerge.folder.rglob("*") if path.is_file()} - own:
        data = path.read_bytes()
        assert b"ana@example.com" not in data, path
        assert b"Ana" not in data, path
    with sqlite3.connect(campaign / ".mailmerge/ledger.db") as ledger:
        assert ledger.execute("SELECT count(*) FROM delivery").fetchone() == (3,)
    ledger.close()
    refused = mailmerge("send", "spring", "--yes")
    assert refused.code == 8, refused
    assert "--name NEW" in refused.err
    assert len(subjects(sandbox.messages)) == len(sandbox.messages) == 3


def test_ledger_lost_or_older(mailmerge, sandbox):
    """A ledger that is gone, or put back from an old copy, is noticed before anybody is written to twice."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    ledger = campaign / ".mailmerge" / "ledger.db"
    old = ledger.read_bytes()
    assert mailmerge("send", "spring", "--yes").code == 0

    ledger.write_bytes(old)
    older = mailmerge("send", "spring", "--yes")
    assert older.code == 8
    one_error(older, "L705", "older than it should be")
    ledger.unlink()
    gone = mailmerge("send", "spring", "--yes")

    assert gone.code == 8
    one_error(gone, "L705", "is missing", "--name NEW")
    assert len(sandbox.messages) == 3


def test_a_ledger_from_before_the_first_release_can_be_left_behind(mailmerge, sandbox):
    """Whatever would read it ends with exit code 8; what the hint says works."""
    mailmerge.account(sandbox)
    folder = mailmerge.campaign()
    assert mailmerge("send", "spring", "--yes").code == 0
    ledger = folder / ".mailmerge" / "ledger.db"
    with contextlib.closing(sqlite3.connect(ledger)) as db:
        db.execute("PRAGMA user_version = 3")
    for command in (
        ["send", "--yes"],
        ["status"],
        ["check"],
        ["preview", "--no-open"],
        ["send", "--yes", "--name", "other"],
    ):
        done = mailmerge(command[0], "spring", *command[1:])
        assert done.code == 8, command
        one_error(done, "L704", "older mailmerge (schema 3)", "move this file away", "--name NEW")

    ledger.rename(mailmerge.folder / "old.db")
    assert mailmerge("send", "spring", "--yes", "--name", "summer", "--accept-repeats").code == 0
    assert len(sandbox.messages) == 6


def test_results_as_json(mailmerge, mixed):
    """``report --json`` and results.jsonl agree with results.csv, row by row."""
    campaign, _ = mixed

    (report,) = mailmerge("report", "spring", "--json").objects

    assert report["statuses"] == {"accepted": 1, "rejected": 1, "in_doubt": 1}
    lines = (campaign / "out" / "results.jsonl").read_text("utf-8").splitlines()
    for values, row in zip(map(json.loads, lines), results(campaign), strict=True):
        assert {key: "" if value is None else str(value) for key, value in values.items()} == row
