"""What a run prints and leaves behind: JSON lines, transcript, summary, result files; and when it refuses."""

from __future__ import annotations

import base64
import json

from faultd import FaultServer
from servers.command import EVERYBODY, one_error, results, statuses, subjects


def test_json_lines(mailmerge, sandbox):
    """``--json`` prints one object a line on stdout: plan, outcomes, report."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    done = mailmerge("send", "spring", "--yes", "--json")

    assert done.code == 0, done
    plan, *outcomes, report = done.objects
    assert {entry["v"] for entry in done.objects} == {1}
    assert (plan["type"], plan["to_send"], plan["first"]) == ("plan", 3, "ana@example.com")
    assert [(entry["type"], entry["row"], entry["status"]) for entry in outcomes] == [
        ("outcome", 2, "accepted"),
        ("outcome", 3, "accepted"),
        ("outcome", 4, "accepted"),
    ]
    assert outcomes[0]["code"] == 250
    assert (report["type"], report["statuses"], report["exit_code"]) == ("report", {"accepted": 3}, 0)


def test_transcript_masks_secrets(mailmerge, sandbox):
    """The dialogue is written line by line for its owner only, and no secret is in it in any spelling."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    done = mailmerge("send", "spring", "--yes", "-q", "--transcript", "dialogue.txt")

    assert done.code == 0, done
    path = mailmerge.folder / "dialogue.txt"
    assert path.stat().st_mode & 0o077 == 0
    text = path.read_text()
    assert "C: AUTH PLAIN ****\n" in text
    assert "MAIL FROM:<me@example.org>" in text
    assert "RCPT TO:<cy@example.org>" in text
    blob = base64.b64encode(f"\0{sandbox.user}\0{sandbox.password}".encode()).decode()
    for place in (text, done.out, done.err):
        assert sandbox.password not in place
        assert blob not in place


def test_failed_rows_and_their_replies(mailmerge):
    """One row refused, one deferred: the others go out, the summary names rows and replies, files add up."""
    people = "email,name\nana@example.com,Ana\nbo@example.net,Bo\ncy@example.org,Cy\ndi@example.com,Di\n"
    campaign = mailmerge.campaign(people_csv=people + "bad address,Ed\n")
    faults = {
        "RCPT": {
            2: lambda _: b"550 5.1.1 no such user here\r\n",
            3: lambda _: b"450 4.2.1 try again later\r\n",
        }
    }
    with FaultServer(faults, extensions=("SIZE 1000000",)) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--skip-invalid")

    assert done.code == 5, done
    assert "2 accepted   1 rejected   1 deferred   1 invalid" in done.out
    assert "550 5.1.1 no such user here  row 3" in done.out
    assert "450 4.2.1 try again later  row 4" in done.out
    assert "Next: mailmerge send spring   after " in done.out
    assert statuses(campaign) == ["accepted", "rejected", "deferred", "accepted", "invalid"]
    rejected = results(campaign)[1]
    assert (rejected["code"], rejected["enhanced"]) == ("550", "5.1.1")
    assert rejected["reply"] == "no such user here"
    lines = (campaign / "out/results.jsonl").read_text("utf-8").splitlines()
    assert [json.loads(line)["row"] for line in lines] == [2, 3, 4, 5, 6]
    failed = results(campaign, "failed.csv")
    assert [(row["email"], row["name"], row["mailmerge_status"]) for row in failed] == [
        ("bo@example.net", "Bo", "rejected"),
        ("bad address", "Ed", "invalid"),
    ]


def test_failed_csv_is_a_list(mailmerge, sandbox):
    """What failed can be corrected in ``failed.csv`` and sent as a list of its own, our columns ignored."""
    campaign = mailmerge.campaign(people_csv="email,name\nana@example.com,Ana\nbo@@example.net,Bö\n")
    mailmerge.account(sandbox)
    first = mailmerge("send", "spring", "--yes", "--skip-invalid")
    assert first.code == 3, first
    failed = campaign / "out" / "failed.csv"
    failed.write_text(failed.read_text("utf-8-sig").replace("bo@@", "bo@"), "utf-8")

    done = mailmerge("send", "spring", "--list", failed, "--yes")

    assert done.code == 0, done
    assert subjects(sandbox.messages) == {"ana@example.com": "Hello Ana", "bo@example.net": "Hello Bö"}


def test_no_file_at_all(mailmerge, sandbox):
    """A merge needs no campaign file: options say it all, the ledger lies beside the list."""
    mailmerge.campaign("lists")
    (mailmerge.folder / "lists" / "campaign.toml").unlink()
    mailmerge.account(sandbox)
    told = ["--list", "lists/people.csv"]
    message = ["--subject", "Hello {{ name }}", "--text", "lists/body.txt"]
    message += ["--from", "me@example.org", "--account", "test"]

    done = mailmerge("send", *told, *message, "--yes", "--limit", "2")
    assert done.code == 0, done
    assert (mailmerge.folder / "lists/.mailmerge/ledger.db").exists()
    assert mailmerge("send", *told, *message, "--yes").code == 0
    assert subjects(sandbox.messages) == EVERYBODY

    status = mailmerge("status", *told)
    assert (status.code, status.out.splitlines()[0]) == (0, "people: 3 rows"), status
    report = mailmerge("report", *told)
    assert report.code == 0, report
    assert "3 accepted" in report.out
    resolve = mailmerge("resolve", *told)
    assert (resolve.code, resolve.out) == (0, "No row is in doubt.\n"), resolve
    assert [row["key"] for row in results(mailmerge.folder / "lists")] == list(EVERYBODY)


def test_yes_with_invalid_rows(mailmerge, sandbox):
    """``--yes`` alone does not leave rows out silently: it wants ``--skip-invalid``."""
    campaign = mailmerge.campaign(people_csv="email,name\nana@example.com,Ana\nnowhere,Bo\n")
    mailmerge.account(sandbox)

    refused = mailmerge("send", "spring", "--yes")
    assert refused.code == 2, refused
    assert "error[C481]: --yes was given, but 1 row cannot be sent" in refused.err
    assert sandbox.messages == []
    done = mailmerge("send", "spring", "--yes", "--skip-invalid")

    assert done.code == 3, done
    assert list(subjects(sandbox.messages)) == ["ana@example.com"]
    assert statuses(campaign) == ["accepted", "invalid"]


def test_nobody_to_ask(mailmerge, sandbox):
    """Without a terminal and without ``--yes`` nothing is sent."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    done = mailmerge("send", "spring")

    assert done.code == 2
    one_error(done, "C480", "--yes", "--dry-run")
    assert sandbox.messages == []
