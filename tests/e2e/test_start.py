"""The first steps: init and what it makes, providers, test messages to oneself."""

from __future__ import annotations

import re
import tomllib
from typing import get_args

import openpyxl
import pytest

from mailmerge.options import StockTemplate
from servers.command import CAMPAIGN, one_error, sample, statuses, typed
from servers.mail import Received


@pytest.mark.parametrize("kind", ["letter", "newsletter", "invoice", "plain"])
def test_init_makes_a_campaign_that_runs(mailmerge, kind):
    """Each stock template fits any list's columns: check finds no error, a rehearsal goes through."""
    text = 'Vorname;Name;E-Mail;Kunden-Nr\nJörg;"Müller; Jörg";joerg@example.com;007\n'
    text += "娜;李娜;lina@example.net;008\n"
    (mailmerge.folder / "kunden.csv").write_text(text, "utf-8")

    made = mailmerge(
        "init", "neu", "--list", "kunden.csv", "--template", kind, "--from", "Ich <ich@example.org>"
    )

    assert made.code == 0, made
    assert (
        "Read ../kunden.csv (CSV, UTF-8, semicolon): 2 rows; columns: Vorname, Name, E-Mail, Kunden-Nr"
        in made.out
    )
    assert "The messages go to the addresses in column `e_mail`." in made.out
    assert "Next: mailmerge check neu" in made.out
    folder = mailmerge.folder / "neu"
    assert tomllib.loads((folder / "campaign.toml").read_text("utf-8"))["data"]["source"] == "../kunden.csv"
    assert not (folder / "kunden.csv").exists()
    if kind == "invoice":
        assert mailmerge("check", "neu").code == 3
        (folder / "attachments").mkdir()
        for number in ("007", "008"):
            (folder / f"attachments/{number}.pdf").write_text("an invoice")
    check = mailmerge("check", "neu")
    assert check.code == 0, check
    assert "2 of 2 rows can be sent." in check.out
    rehearse = mailmerge("rehearse", "neu")
    assert rehearse.code == 0, rehearse
    received = [
        Received("", (), path.read_bytes()).parse()
        for path in sorted((folder / "out/rehearsal/messages").glob("*.eml"))
    ]
    assert [message["To"].addresses[0].display_name for message in received] == ["Müller; Jörg", "李娜"]
    assert all(str(message["From"]) == "Ich <ich@example.org>" for message in received)


def test_the_stock_templates_are_listed(mailmerge):
    """``--template`` without a name says in a line each what there is, and makes nothing."""
    listed = mailmerge("init", "new", "--template")

    assert listed.code == 0, listed
    names = [line.split("  ")[0] for line in listed.out.splitlines()]
    assert names == list(get_args(StockTemplate))
    assert all(len(line) < 90 for line in listed.out.splitlines())
    assert not (mailmerge.folder / "new").exists()
    wrong = mailmerge("init", "new", "--template", "newsleter")
    assert (wrong.code, "'newsletter'" in wrong.err) == (2, True), wrong


def test_init_without_a_list(mailmerge):
    """Without a list there is a sample; a workbook is taken by its sheet."""
    assert mailmerge("init", "first").code == 0
    assert mailmerge("check", "first").code == 0

    folder = sample("invoices", mailmerge.folder)
    made = mailmerge("init", "second", "--list", folder / "invoices.xlsx", "--sheet", "Invoices")

    assert made.code == 0, made
    assert 'XLSX, sheet "Invoices"' in made.out
    check = mailmerge("check", "second")
    assert check.code == 0, check
    assert "6 of 6 rows" in check.out


def test_providers(mailmerge):
    """All in short, one in full; a near miss is named."""
    every = mailmerge("providers")
    assert every.code == 0
    for name, server in (("gmail", "smtp.gmail.com:"), ("qq", "smtp.qq.com:"), ("163", "smtp.163.com:")):
        (line,) = [line for line in every.out.splitlines() if line.startswith(f"  {name} ")]
        assert server in line
    one = mailmerge("providers", "qq")
    assert one.code == 0, one
    assert "smtp.qq.com:465" in one.out
    assert "authorization code" in one.out
    assert one.out.index("  中文步骤：\n    1. 用电脑浏览器登录") > one.out.index("    6. Use this code")
    wrong = mailmerge("providers", "gmial")
    assert wrong.code == 2, wrong
    one_error(wrong, "C410", "gmail")
    (values,) = mailmerge("providers", "gmail", "--json").objects
    assert (values["type"], values["name"]) == ("provider", "gmail")


def test_test_messages_go_to_me_only(mailmerge, sandbox):
    """Envelope and To are mine, nobody else gets anything, an extra header tells, and no row changes."""
    toml = (
        'name = "spring"\naccount = "test"\n[data]\nsource = "people.csv"\n[message]\n'
        'from = "Me <me@example.org>"\ncc = "boss@example.org"\nbcc = "archive@example.org"\n'
        'subject = "Hello {{ name }}"\ntext = "body.txt"\n'
    )
    campaign = mailmerge.campaign(campaign_toml=toml)
    mailmerge.account(sandbox)

    done = mailmerge("test", "spring", "--rows", "2,4", "--to", "me@example.net")

    assert done.code == 0, done
    assert "row 2     accepted" in done.out
    assert "-> me@example.net  (would go to ana@example.com)" in done.out
    first, second = sandbox.messages
    assert (first.rcpt_to, second.rcpt_to) == (("me@example.net",),) * 2
    one, two = (Received("", (), message.content).parse() for message in (first, second))
    assert (str(one["To"]), one["Cc"], one["Subject"]) == ("me@example.net", None, "Hello Ana")
    assert (one["X-Mailmerge-Test"], two["X-Mailmerge-Test"]) == ("row 2", "row 4")
    assert b"boss@" not in first.content
    assert b"archive@" not in first.content

    assert "accepted" not in mailmerge("status", "spring").out
    assert mailmerge("send", "spring", "--yes").code == 0
    assert statuses(campaign) == ["accepted"] * 3
    real = Received("", (), sandbox.messages[2].content).parse()
    assert real["Message-ID"] != one["Message-ID"]
    assert real["X-Mailmerge-Test"] is None


def test_test_needs_somebody(mailmerge, sandbox):
    """``--to`` or SMTP_TO says who I am; a bad address is refused."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    nobody = mailmerge("test", "spring")
    assert nobody.code == 2
    one_error(nobody, "C485", "SMTP_TO")
    wrong = mailmerge("test", "spring", "--to", "me@gmial,com")
    assert wrong.code == 2
    one_error(wrong, "C485", "me@gmial,com")
    done = mailmerge("test", "spring", SMTP_TO="me@example.net")

    assert done.code == 0, done
    assert [message.rcpt_to for message in sandbox.messages] == [("me@example.net",)]


def test_test_by_a_wrong_password(mailmerge, sandbox):
    """The same error as with send; exit 6."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    done = mailmerge("test", "spring", "--to", "me@example.net", MAILMERGE_SMTP_PASSWORD="wrong")

    assert done.code == 6, done
    one_error(done, "S601", "535")


def test_bad_day_in_rehearsal(mailmerge):
    """A rehearsal shows what refusals, deferrals and lost answers look like, and leaves nothing behind."""
    people = "email,name\n" + "".join(f"p{number}@example.com,P\n" for number in range(30))
    campaign = mailmerge.campaign(people_csv=people, campaign_toml=CAMPAIGN.replace('account = "test"\n', ""))
    bad = ["--fail", "550 5.1.1 Who?:15%", "--drop-after-data", "10%", "--seed", "3"]

    done = mailmerge("rehearse", "spring", *bad, "--set", "send.max_rejected=90%")

    assert done.code == 4, done
    assert "550 5.1.1 Who?" in done.out
    assert "in doubt" in done.out
    assert not (campaign / ".mailmerge").exists()
    assert mailmerge("status", "spring").out == "spring: nothing has been sent yet.\n"


def test_version_and_help(mailmerge):
    """The distribution's name is told; help lists every command with its exit codes."""
    version = mailmerge("--version")
    assert version.code == 0
    assert version.out.startswith("mailmerge-kit")
    helped = mailmerge("--help")
    assert helped.code == 0
    for word in ("init", "check", "send", "resolve", "purge", "Exit codes", "130/143"):
        assert word in helped.out


def two_lists(folder):
    """Write a workbook in which the sheet, the row of the headings and the hidden rows are all open."""
    book = openpyxl.Workbook()
    first = book["Sheet"]
    for sheet in (first, book.create_sheet("Old")):
        for row in (["Team", "Place"], ["Name", "Email"], ["Ann", "ann@x.org"], ["Bo", "bo@x.org"]):
            sheet.append(row)
    first.title = "New list"
    first.row_dimensions[4].hidden = True
    book.save(folder / "people.xlsx")


@pytest.mark.skipif("sys.platform == 'win32'")
def test_init_asks_what_is_open(mailmerge):
    """Each open question is asked once with the answers that there are, and decided in campaign.toml."""
    two_lists(mailmerge.folder)
    asked = ["init", "spring", "--list", "people.xlsx", "--template", "plain", "--from", "me@example.org"]
    asked += ["--sheet", "Nope", "--key", "nobody"]
    answers = [
        ("Sheet (Enter", ""),
        ("2  sheet Old", "1"),
        ("2  header 2", "2"),
        ("Key (Enter", ""),
        ("2  hidden send", "1"),
        ("Subject", ""),
    ]

    done = typed(mailmerge, [*asked, "--type", "Name=text"], answers)

    assert done.code == 0, done
    data = tomllib.loads((mailmerge.folder / "spring/campaign.toml").read_text("utf-8"))["data"]
    assert data == {
        "source": "../people.xlsx",
        "sheet": "New list",
        "header": 2,
        "hidden": "skip",
        "types": {"Name": "text"},
    }
    check = mailmerge("check", "spring")
    assert check.code == 0, check
    assert "1 of 1 row can be sent" in check.out


@pytest.mark.skipif("sys.platform == 'win32'")
def test_a_numbered_question_can_be_left(mailmerge):
    """It says how: q, as in the guide."""
    two_lists(mailmerge.folder)

    left = typed(mailmerge, ["init", "spring", "--list", "people.xlsx"], [("Number (1-2, q quits)", "q")])

    assert left.code != 0, left
    assert not (mailmerge.folder / "spring").exists()


def test_what_hints_about_lists_say_works(mailmerge):
    """Options that an error names are the way out: pasted after the command, each leads one step further."""
    two_lists(mailmerge.folder)
    command = ["init", "spring", "--list", "people.xlsx"]
    for code in ("D201", "D200"):
        refused = mailmerge(*command)
        assert (refused.code, code in refused.err) == (2, True), refused
        option = re.search(r"(--(?:sheet|header)) ('[^']+'|\w+)$", refused.err.strip().splitlines()[-1])
        assert option is not None, refused
        command += [option[1], option[2].strip("'")]
    made = mailmerge(*command, "--hidden", "send")
    assert made.code == 0, made
    assert command[-4:] == ["--sheet", "Old", "--header", "2"]
    assert mailmerge("check", "spring").code == 0
    wrong = mailmerge("init", "summer", "--list", "people.xlsx", "--type", "amount")
    assert (wrong.code, "C500" in wrong.err) == (2, True), wrong
