"""Each sample as a user runs it: checked, shown, rehearsed, sent; what arrived is compared with the list."""

from __future__ import annotations

import contextlib
import csv
import email.utils
import re
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import icalendar
import lxml.html
import openpyxl
import pytest

from servers.command import SAMPLES, results, sample, statuses
from servers.kept import KeepingSandbox
from servers.mail import Received
from servers.programs import free_port, require

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path


UNPACED = ("--rate", "1000/s")


def rows(path: Path, delimiter: str = ",") -> list[dict[str, str]]:
    """Read a list with the standard library: what the author of the list sees."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter=delimiter))


def by_recipient(messages: Iterable[Received]) -> dict[str, Received]:
    return {message.rcpt_to[0]: message for message in messages}


def text_of(message: Received, kind: str = "plain") -> str:
    part = message.parse().get_body((kind,))
    assert part is not None
    return str(part.get_content()).replace("\r\n", "\n")


def assert_sound(message: Received, domain: str) -> None:
    """Check what every message must have: Date of now, Message-ID of the sender's domain, no Bcc."""
    parsed = message.parse()
    now = datetime.now(UTC)
    assert now - timedelta(minutes=5) < email.utils.parsedate_to_datetime(parsed["Date"]) <= now
    assert re.fullmatch(rf"<[0-9a-f]{{32,}}@{re.escape(domain)}>", parsed["Message-ID"])
    assert parsed["MIME-Version"] == "1.0"
    assert "Bcc" not in parsed
    assert all(not part.defects for part in parsed.walk())
    for name in set(parsed.keys()):
        assert len(parsed.get_all(name, [])) == 1, name


@pytest.mark.parametrize(
    ("name", "count", "said", "first"),
    [
        ("newsletter", 24, "24 of 25 rows can be sent (1 not selected).", "row 2"),
        ("invoices", 6, "6 of 6 rows can be sent.", "row 2"),
        ("grades", 6, "6 of 6 rows can be sent.", "row 2"),
        ("notice-zh", 5, "5 of 5 rows can be sent.", "row 2"),
        ("statements", 3, "3 of 3 messages (6 rows) can be sent.", "rows 2, 4, 7"),
        ("workshop", 4, "4 of 4 rows can be sent.", "row 2"),
    ],
)
def test_looking_at_a_sample(mailmerge, name, count, said, first):
    """Check finds nothing, preview shows every message, and a rehearsal gets every row accepted."""
    folder = sample(name, mailmerge.folder)

    check = mailmerge("check", name)
    assert check.code == 0, check
    assert said in check.out
    assert "Found no problems" in check.out
    assert not (folder / ".mailmerge").exists()

    preview = mailmerge("preview", name, "--eml", "eml", "--terminal")
    assert preview.code == 0, preview
    assert f"--- {first} ---" in preview.out
    assert len(list((mailmerge.folder / "eml").glob("*.eml"))) == count

    rehearse = mailmerge("rehearse", name)
    assert rehearse.code == 0, rehearse
    assert f"{count} accepted" in rehearse.out
    assert "This was a rehearsal: nothing left this machine." in rehearse.out
    assert len(list((folder / "out/rehearsal/messages").glob("*.eml"))) == count
    assert "nothing has been sent yet" in mailmerge("status", name).out


def test_newsletter_over_tls_with_sign_in(mailmerge, aiosmtpd_server):
    """Every reader gets one letter with their own cells, the logo inside, and the unsubscribe link."""
    folder = sample("newsletter", mailmerge.folder)
    mailmerge.account(aiosmtpd_server)

    done = mailmerge("send", "newsletter", "--account", "test", "--yes", *UNPACED)

    assert done.code == 0, done
    received = by_recipient(aiosmtpd_server.received())
    readers = [row for row in rows(folder / "readers.csv") if row["Opted out"] != "yes"]
    assert list(received) == [reader["Email"] for reader in readers]
    for reader in readers:
        message = received[reader["Email"]]
        assert_sound(message, "garden.example")
        assert message.mail_from == "news@garden.example"
        assert message.rcpt_to == (reader["Email"],)
        parsed = message.parse()
        (to,) = parsed["To"].addresses
        assert (to.display_name, to.addr_spec) == (reader["Name"], reader["Email"])
        assert str(parsed["From"]) == "Riverside Garden Club <news@garden.example>"
        assert str(parsed["Reply-To"]) == "office@garden.example"
        assert parsed["Subject"] == f"{reader['First']}, your autumn garden letter"
        assert parsed["List-Unsubscribe"] == f"<https://garden.example/u/{reader['Token']}>"
        text, html = text_of(message), text_of(message, "html")
        assert text.startswith(f"Dear {reader['First']},\n")
        assert f"plot {reader['Plot']} has done well" in text
        assert f"your {reader['Favourite plant']} did too" in text
        assert f"<strong>{reader['Plot']}</strong>" in html
        assert f"https://garden.example/u/{reader['Token']}" in text
        assert f'href="https://garden.example/u/{reader["Token"]}"' in html
        (logo,) = [part for part in parsed.walk() if part.get_content_type() == "image/png"]
        assert logo.get_content() == (folder / "logo.png").read_bytes()
        assert f'src="cid:{logo["Content-ID"].strip("<>")}"' in html
    assert statuses(folder).count("accepted") == 24
    assert results(folder)[23]["status"] == "skipped"


@pytest.mark.program("postfix", "saslpasswd2")
def test_invoices_through_postfix(mailmerge, postfix):
    """Zeros, dates and money arrive as the workbook shows them, each with the row's own PDF, untouched."""
    folder = sample("invoices", mailmerge.folder)
    mailmerge.account(postfix)
    sheet = openpyxl.load_workbook(folder / "invoices.xlsx")["Invoices"]
    head, *table = sheet.iter_rows(values_only=True)

    done = mailmerge("send", "invoices", "--account", "test", "--yes", *UNPACED)

    assert done.code == 0, done
    received = by_recipient(postfix.received(len(table)))
    assert len(received) == len(table)
    for cells in table:
        row: dict[Any, Any] = dict(zip(head, cells, strict=True))
        message = received[row["Email"]]
        assert_sound(message, "lindgren.example")
        parsed = message.parse()
        (to,) = parsed["To"].addresses
        assert (to.display_name, to.addr_spec) == (row["Contact"], row["Email"])
        (sender,) = parsed["From"].addresses
        assert sender.display_name == "Lindgren & Daughters, accounts"
        assert parsed["Subject"] == f"Invoice {row['Invoice']} for {row['Customer']}"
        money = f"€{row['Amount']:,.2f}"
        date, due = (f"{row[key].day} {row[key]:%B %Y}" for key in ("Date", "Due"))
        text, html = text_of(message), text_of(message, "html")
        assert f"of {date} (customer no. {row['Customer no']:05d})" in text
        assert f"{money}, due on {due}" in text
        lines: Any = lxml.html.fromstring(html).xpath("//tr[th]")
        shown = {line[0].text: line[1].text for line in lines}
        assert shown["Customer no."] == f"{row['Customer no']:05d}"
        assert (shown["Amount"], shown["Due"]) == (money, due)
        (pdf,) = parsed.iter_attachments()
        assert pdf.get_content_type() == "application/pdf"
        assert pdf.get_filename() == f"Invoice {row['Invoice']} {row['Customer']}.pdf"
        assert pdf.get_content() == (folder / "pdf" / f"{row['Invoice']}.pdf").read_bytes()
    assert [result["key"] for result in results(folder)] == [cells[0] for cells in table]


@pytest.mark.program("smtp-sink")
def test_grades_to_a_sink(mailmerge, smtp_sink):
    """Both parents are written to, the office only in the envelope; the condition picks the right words."""
    folder = sample("grades", mailmerge.folder)
    sink = smtp_sink()
    mailmerge.account(sink)

    done = mailmerge("send", "grades", "--account", "test", "--yes", *UNPACED)

    assert done.code == 0, done
    received = by_recipient(sink.received())
    pupils = rows(folder / "grades.csv", ";")
    assert len(received) == len(pupils)
    for pupil in pupils:
        parents = [address.strip() for address in pupil["Parents"].split(",")]
        message = received[parents[0]]
        assert_sound(message, "school.example")
        assert message.rcpt_to == (*parents, "office@school.example")
        assert b"office@" not in message.content
        parsed = message.parse()
        assert [address.addr_spec for address in parsed["To"].addresses] == parents
        assert parsed["Subject"] == f"{pupil['First name']}'s grades, autumn term"
        assert parsed.get_content_type() == "text/plain"
        text = text_of(message)
        for heading, name in (("Maths", "Mathematics"), ("English", "English"), ("Sciences", "Sciences")):
            assert re.search(rf"^  {name} +{pupil[heading]}$", text, re.MULTILINE)
        worried = {"5", "6"} & {pupil[subject] for subject in ("Maths", "English", "Sciences")}
        assert ("we can help" in text) == bool(worried)
        assert ("can be proud" in text) != bool(worried)
        assert (f"Remark: {pupil['Remark']}\n" in text) == bool(pupil["Remark"])


def test_chinese_notice_with_another_account(mailmerge, sandbox):
    """Chinese columns, file names, subject and money; the QQ preset gives way to ``--account``."""
    folder = sample("notice-zh", mailmerge.folder)
    mailmerge.account(sandbox)

    done = mailmerge("send", "notice-zh", "--account", "test", "--yes", *UNPACED)

    assert done.code == 0, done
    tenants = rows(folder / "住户.csv")
    assert [message.rcpt_to for message in sandbox.messages] == [(tenant["邮箱"],) for tenant in tenants]
    for tenant, raw in zip(tenants, sandbox.messages, strict=True):
        message = received_from(raw)
        assert_sound(message, "qq.com")
        parsed = message.parse()
        (to,), (sender,) = parsed["To"].addresses, parsed["From"].addresses
        assert (to.display_name, to.addr_spec) == (tenant["姓名"], tenant["邮箱"])
        assert (sender.display_name, sender.addr_spec) == ("河畔花园物业", "10001@qq.com")
        assert parsed["Subject"] == f"【通知】{tenant['楼栋']}12月3日停水"
        text = text_of(message)
        assert text.startswith(f"{tenant['姓名']}{tenant['称呼']}，您好！")
        assert f"河畔花园{tenant['楼栋']}将于2026年12月3日" in text
        owed = float(tenant["欠费"])
        assert (f"尚欠 ¥{owed:,.2f}，" in text) == (owed > 0)
        assert (f"{tenant['房号']} 室" in text_of(message, "html")) == (owed > 0)
    assert {result["key"] for result in results(folder)} == {"0101", "0102", "0203", "0305", "0306"}


def received_from(message) -> Received:
    return Received(message.mail_from, message.rcpt_to, message.content)


# --- alert.py ---------------------------------------------------------------------------------------


def alert(mailmerge, text: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-P", str(SAMPLES / "alert.py"), text],
        cwd=mailmerge.folder,
        env={**mailmerge.environ, **environ},
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )


def settings(server, **changes: str) -> dict[str, str]:
    return {
        "SMTP_SERVER": server.host,
        "SMTP_PORT": str(server.port),
        "SMTP_TLS": "starttls",
        "SMTP_USER": server.user,
        "SMTP_FROM": "monitor@example.org",
        "SMTP_AUTH": server.password,
        "SMTP_TO": "admin@example.net",
        "SSL_CERT_FILE": str(server.ca_file),
        **changes,
    }


@pytest.mark.program("postfix", "saslpasswd2")
def test_alert_arrives(mailmerge, postfix):
    """The script sends one message over TLS with sign-in and says what the server answered."""
    done = alert(mailmerge, "disk full on db1: 98 %, Ärger", **settings(postfix))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("accepted: 250 2.0.0 Ok: queued as ")
    (message,) = postfix.received(1)
    assert_sound(message, "example.org")
    assert (message.mail_from, message.rcpt_to) == ("monitor@example.org", ("admin@example.net",))
    assert message.parse()["Subject"] == "ALERT: disk full on db1: 98 %, Ärger"
    assert text_of(message) == "disk full on db1: 98 %, Ärger\n"


@pytest.mark.program("postfix", "saslpasswd2")
@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"SMTP_AUTH": "wrong"}, ("sign-in refused: ", "535 5.7.8", "app password")),
        ({"SMTP_PORT": "closed"}, ("mail server not reached: ", "the connection was refused", "587 or 465")),
        ({"SMTP_SERVER": "no-such-host.invalid"}, ("mail server not reached: ", "no-such-host.invalid")),
        ({"SMTP_TO": "admin@"}, ("wrong address or text: ", "admin@")),
        ({"SSL_CERT_FILE": ""}, ("not sent: ", "certificate")),
        ({"SMTP_TO": "reject@example.com"}, ("rejected (recipient): 550 5.1.1",)),
    ],
)
def test_alert_says_what_went_wrong(mailmerge, postfix, changes, words):
    """Sign-in, connection, certificate, address and recipient are told apart, each in one line."""
    changes = {name: str(free_port()) if value == "closed" else value for name, value in changes.items()}

    done = alert(mailmerge, "disk full", **settings(postfix, **changes))

    assert done.returncode == 1
    assert done.stdout == ""
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert all(word in done.stderr for word in words), done.stderr
    assert "correct horse" not in done.stderr


def test_workshop(mailmerge, tmp_path):
    """Each guest gets an invitation, a code for the door, and a ticket of their own, made for the row."""
    folder = sample("workshop", mailmerge.folder)
    with KeepingSandbox(tls="none", user=None) as server:
        mailmerge.account(server)
        done = mailmerge("send", "workshop", "--account", "test", "--yes", *UNPACED)

    assert done.code == 0, done
    received = [Received(one.mail_from, one.rcpt_to, one.content) for one in server.messages]
    by_address = by_recipient(received)
    guests = rows(folder / "people.csv")
    assert sorted(by_address) == sorted(guest["email"] for guest in guests)
    for guest in guests:
        parts = list(by_address[guest["email"]].parse().walk())
        kinds = [part.get_content_type() for part in parts]
        assert kinds[5:] == ["image/png", "text/calendar", "application/pdf", "application/ics"]
        code, invitation, ticket, _ = parts[5:]
        for name, part in (("c.png", code), ("t.pdf", ticket)):
            (tmp_path / name).write_bytes(part.get_payload(decode=True))
        seen = _output("zbarimg", "-q", "--raw", tmp_path / "c.png")
        printed = _output("pdftotext", "-layout", tmp_path / "t.pdf", "-")
        event: Any = icalendar.Calendar.from_ical(invitation.get_content()).walk("VEVENT")[0]
        assert (seen.strip(), ticket.get_filename()) == (guest["ticket"], f"Ticket {guest['ticket']}.pdf")
        assert [guest[name] in printed for name in ("ticket", "name", "paid")] == [True, True, True]
        assert f"{event.start:%Y-%m-%d %H:%M}" == guest["starts"]
        assert event["ATTENDEE"] == f"mailto:{guest['email']}"


def _output(program: str, *arguments: object) -> str:
    command = [require(program), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_alert_over_the_servers_size(mailmerge):
    """What is larger than the server says it takes is not even begun."""
    with KeepingSandbox(tls="none", user=None, max_size=20_000) as server:
        environ = {"SMTP_SERVER": server.host, "SMTP_PORT": str(server.port)}
        environ |= {"SMTP_FROM": "monitor@example.org", "SMTP_TO": "admin@example.net"}

        done = alert(mailmerge, "x" * 30_000, **environ)

    assert done.returncode == 1
    assert done.stderr.startswith("rejected (size): ")
    assert "20000" in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert server.messages == []


# --- reminder.py ------------------------------------------------------------------------------------


def test_reminder_writes_once_for_each_overdue_invoice(mailmerge, sandbox):
    """Each run writes only for what became overdue since the last; the database knows all outcomes."""
    path, state = mailmerge.folder / "invoices.db", mailmerge.folder / "state"
    overdue = [
        ("07", "ann@example.org", "Ann"),
        ("08", "ann@example.org", "Ann"),
        ("09", "bo@example.org", "Bo"),
    ]

    def remind(number: str, email: str, name: str, due: str) -> subprocess.CompletedProcess[str]:
        with contextlib.closing(sqlite3.connect(path)) as database, database:
            database.execute("CREATE TABLE IF NOT EXISTS invoices (number, email, name, due, reminder)")
            database.execute("INSERT INTO invoices VALUES (?, ?, ?, ?, NULL)", (number, email, name, due))
        return subprocess.run(
            [sys.executable, "-P", str(SAMPLES / "reminder.py"), path.name, str(state)],
            cwd=mailmerge.folder,
            env={**mailmerge.environ, **settings(sandbox)},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )

    runs = [remind("06", "cy@example.org", "Cy", "2999-12-31")]
    runs += [remind(*invoice, "2026-01-31") for invoice in overdue]

    assert [run.returncode for run in runs] == [0, 0, 0, 0], runs
    received = [received_from(message) for message in sandbox.messages]
    assert [(message.rcpt_to[0], message.parse()["Subject"]) for message in received] == [
        (email, f"Invoice {number} is overdue") for number, email, _ in overdue
    ]
    assert text_of(received[0]).startswith("Dear Ann,\n\ninvoice 07 was due on 2026-01-31")
    with contextlib.closing(sqlite3.connect(path)) as database:
        noted = database.execute("SELECT number, reminder FROM invoices ORDER BY number").fetchall()
    assert noted == [("06", None), ("07", "accepted"), ("08", "accepted"), ("09", "accepted")]
    assert "INFO row 2 <ann@example.org>: accepted, 250" in runs[1].stderr
    assert "correct horse" not in "".join(run.stderr for run in runs)
    assert sorted(entry.name for entry in mailmerge.folder.iterdir() if entry.name.startswith(".m")) == []
