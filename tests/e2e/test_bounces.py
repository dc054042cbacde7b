"""``mailmerge bounces``: mail that came back, from a real server's report to the row that it is about."""

from __future__ import annotations

import re
import signal
from typing import TYPE_CHECKING

import pytest

from reports import answer, complaint, delivery_report
from servers.command import one_error, results, statuses
from servers.dovecot import DovecotImap
from servers.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path


def message_ids(campaign: Path) -> dict[str, str]:
    """Return the Message-ID of each row, by address."""
    return {row["address"]: row["message_id"] for row in results(campaign)}


@pytest.fixture
def sent(mailmerge, sandbox):
    """A campaign whose three rows were accepted."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes").code == 0
    return campaign


def maildir(folder: Path, *letters: bytes) -> Path:
    """Make a maildir of these messages."""
    for name in ("cur", "new", "tmp"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number, letter in enumerate(letters):
        (folder / "new" / f"{number}.test").write_bytes(letter)
    return folder


def test_f7_the_way_from_a_report_to_everything_that_shows_it(mailmerge, sent):
    """A row that came back is bounced in status, results, failed rows and page, suppressed, counted once."""
    ids = message_ids(sent)
    box = maildir(
        mailmerge.folder / "box",
        delivery_report(ids["bo@example.net"]),
        delivery_report(
            ids["cy@example.org"], address="cy@example.org", action="delayed", status="4.4.1", number=2
        ),
        delivery_report("<somebody@else.example>", address="x@else.example", number=3),
        answer(ids["ana@example.com"]),
        b"From: Ann <ann@example.com>\nTo: me@example.org\nSubject: Lunch?\n\nAt noon?\n",
    )
    done = mailmerge("bounces", "spring", "--maildir", box)

    assert done.code == 3, done
    assert "read 5 messages" in done.out
    assert re.search(r"row 3  hard +bo@example.net +550 5.1.1 <bo@example.net>: no such user", done.out), done
    assert "1 row bounced." in done.out
    assert "bo@example.net" in mailmerge("suppress", "list").out
    again = mailmerge("bounces", "spring", "--maildir", box)
    assert (again.code, "5 of them known before" in again.out, "bounced" in again.out) == (0, True, False)
    status = mailmerge("status", "spring")
    assert status.code == 0
    assert "1  bounced" in status.out
    assert "Mailbox last read: " in status.out
    report = mailmerge("report", "spring")
    assert report.code == 0
    rows = results(sent)
    assert statuses(sent) == ["accepted", "bounced", "accepted"]
    assert [row["bounce"] for row in rows] == [
        "auto_reply: auto_reply",
        "hard: recipient",
        "delayed: delayed",
    ]
    assert (rows[1]["code"], rows[1]["enhanced"]) == ("550", "5.1.1")
    assert [row["email"] for row in results(sent, "failed.csv")] == ["bo@example.net"]
    page = (sent / "out" / "report.html").read_text("utf-8")
    assert "rejected or bounced" in page
    assert "Mailbox last read" in page
    requeued = mailmerge("requeue", "spring")
    assert "Requeued 1 row" in requeued.out
    assert mailmerge("send", "spring", "--yes").code == 0
    assert statuses(sent) == ["accepted", "suppressed", "accepted"]


def test_f12_a_quota_report_stops_the_campaign_until_a_person_says_so(mailmerge, sent):
    """The row is bounced, nobody is suppressed; send refuses and names what resumes the campaign."""
    said = "smtp; 550 5.4.5 Message rejected. You have reached a limit for sending mail."
    report = delivery_report(message_ids(sent)["bo@example.net"], status="5.4.5", said=said)
    (mailmerge.folder / "quota.eml").write_bytes(report)
    done = mailmerge("bounces", "spring", "--eml", mailmerge.folder / "quota.eml", "--json")

    assert done.code == 5, done
    told, summary = done.objects
    assert (told["rows"], told["bounced"], told["suppressed"]) == ([3], True, [])
    assert (summary["sorts"], summary["bounced"]) == ({"quota": 1}, 1)
    assert "reached a limit" in summary["halted"]
    refused = mailmerge("send", "spring", "--yes")
    assert refused.code == 5
    one_error(refused, "B810", "mailmerge requeue spring")
    assert "Requeued 1 row" in mailmerge("requeue", "spring").out
    again = mailmerge("send", "spring", "--yes")
    assert again.code == 0, again
    assert statuses(sent) == ["accepted", "accepted", "accepted"]
    assert "Nobody" in mailmerge("suppress", "list").out


def test_f11_a_complaint_is_suppressed_everywhere(mailmerge, sent):
    """From an mbox, among other mail; the row itself was accepted and remains accepted."""
    letter = complaint(message_ids(sent)["bo@example.net"])
    box = mailmerge.folder / "box"
    box.write_bytes(
        b"From a@b Fri Nov 27 10:00:00 2026\nFrom: a@b.example\nSubject: hi\n\n>From here\n\n"
        b"From feedback@mail.example.net Fri Nov 27 10:00:01 2026\n" + letter + b"\n"
    )
    done = mailmerge("bounces", "spring", "--mbox", box)

    assert done.code == 0, done
    assert "1 address added to the suppression store" in done.out
    assert "bo@example.net" in mailmerge("suppress", "list").out
    mailmerge("report", "spring")
    assert statuses(sent) == ["accepted", "accepted", "accepted"]


def test_it_looks_again_until_it_is_asked_to_stop(mailmerge, sent):
    """With --watch; a signal ends the wait immediately, with the code of the signal."""
    box = maildir(mailmerge.folder / "box")
    process = mailmerge.start("bounces", "spring", "--maildir", box, "--watch", "10m", "--json")
    assert process.stdout is not None
    assert b'"looked_at": 0' in process.stdout.readline()
    process.send_signal(signal.SIGTERM)

    assert mailmerge.finish(process, timeout=10).code == 143


@pytest.mark.program("postfix", "saslpasswd2")
def test_f7_postfix_accepts_a_message_and_returns_it(mailmerge, postfix):
    """Nobody is there: its 250 makes the row accepted, and its own report bounced."""
    campaign = mailmerge.campaign(people_csv="email,name\ngone@example.com,Gone\nana@example.com,Ana\n")
    mailmerge.account(postfix)
    assert mailmerge("send", "spring", "--yes").code == 0
    box = postfix.folder / "mail" / "all"
    wait_until(
        lambda: any(b"delivery-status" in file.read_bytes() for file in box.glob("new/*")), "the report"
    )

    report = next(text for file in box.glob("new/*") if b"delivery-status" in (text := file.read_bytes()))
    (named,) = re.findall(rb"^Original-Envelope-Id: (\S+)", report, re.MULTILINE)

    done = mailmerge("bounces", "spring", "--maildir", box)

    assert b"Message-ID: <" + named + b">" in report
    assert done.code == 3, done
    assert mailmerge("report", "spring").code == 0
    assert statuses(campaign) == ["bounced", "accepted"]
    assert mailmerge("suppress", "list").out.split()[0] == "gone@example.com"


@pytest.mark.program("postfix", "saslpasswd2")
def test_f13_a_relay_that_replaces_the_message_id_keeps_our_own_field(mailmerge, postfix, monkeypatch):
    """Neither Message-ID, envelope id nor queue id is in the report, and its recipient is suppressed."""
    mailmerge.campaign(people_csv="email,name\ngone@example.com,Gone\n")
    monkeypatch.setattr(postfix, "port", postfix.renaming_port)
    mailmerge.account(postfix)
    postfix.clear()
    assert mailmerge("send", "spring", "--yes").code == 0
    box = postfix.folder / "mail" / "all"
    wait_until(
        lambda: any(b"delivery-status" in file.read_bytes() for file in box.glob("new/*")), "the report"
    )

    done = mailmerge("bounces", "spring", "--maildir", box)

    (report,) = [file.read_bytes() for file in box.glob("new/*")]
    assert b"Message-ID: <1@renamed.example>" in report
    assert b"Original-Envelope-Id" not in report
    assert done.code == 3, done
    assert mailmerge("suppress", "list").out.split()[0] == "gone@example.com"


@pytest.fixture
def dovecot(certificates):
    """A real IMAP server."""
    server = DovecotImap(certificates)
    yield server
    server.stop()


def test_f9_an_imap_mailbox_is_read_and_left_as_it_is(mailmerge, sandbox, dovecot):
    """Where the account says, over TLS; nothing is deleted or marked as read, and a report counts once."""
    campaign = mailmerge.campaign()
    place = f"imaps://{dovecot.user}@localhost:{dovecot.tls_port}/INBOX"
    command = ["printf", dovecot.password]
    mailmerge.account(sandbox, bounces=place, ca_file=str(sandbox.ca_file), password_command=command)
    assert mailmerge("send", "spring", "--yes").code == 0
    letter = delivery_report(message_ids(campaign)["bo@example.net"])
    dovecot.keep(letter, b"From: Ann <ann@example.com>\nSubject: Lunch?\n\nAt noon?\n")
    mailmerge.account(sandbox, bounces=place, ca_file=str(dovecot.ca_file), password_command=command)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]

    done = mailmerge("bounces", "spring", "--account", "test")

    assert done.code == 3, done
    assert "read 1 message" in done.out
    assert "1 row bounced." in done.out
    assert dovecot.kept() == ["new/0.test", "new/1.test"]
    starttls = f"imap://{dovecot.user}@localhost:{dovecot.port}"
    again = mailmerge("bounces", "spring", "--account", "test", "--imap", starttls)
    assert (again.code, "1 of them known before" in again.out) == (0, True), again
    mailmerge.account(sandbox, bounces=place, ca_file=None, password_command=["printf", "wrong"])
    untrusted = mailmerge("bounces", "spring", "--account", "test")
    assert untrusted.code == 6
    one_error(untrusted, "S621", "localhost")
    mailmerge.account(
        sandbox, bounces=place, ca_file=str(dovecot.ca_file), password_command=["printf", "wrong"]
    )
    refused = mailmerge("bounces", "spring", "--account", "test")
    assert refused.code == 6
    one_error(refused, "B805", "ann")
