"""What is wrong with campaign, list or templates: one clear message with code, place and hint; exit 2."""

from __future__ import annotations

import re
import shutil
from email import message_from_bytes

import openpyxl
import pytest

from servers.command import CAMPAIGN, SAMPLES, diagnostics, one_error, statuses


def lines(*rows: str) -> str:
    return "".join(row + "\n" for row in rows)


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        (
            {"people_csv": None},
            "D100",
            ["the list spring/people.csv does not exist", "check data.source or --list"],
        ),
        (
            {"campaign_toml": CAMPAIGN.replace("people.csv", "poeple.csv")},
            "D100",
            ["did you mean `people.csv`?"],
        ),
        ({"body_txt": None}, "T100", ["cannot read the template spring/body.txt", "people.csv"]),
        ({"people_csv": ""}, "D102", ["spring/people.csv is empty", "headings"]),
        ({"people_csv": "email,name\n"}, "D102", ["spring/people.csv has headings but no rows"]),
        (
            {"people_csv": lines("email,name", "a@example.com,Ana", "b@example.com,Bo,gold, yearly")},
            "D101",
            ["4 cells, the row of headings has 2", "spring/people.csv:3", '"Bo,gold, yearly"', "row 3"],
        ),
        ({"people_csv": lines("email,name", "a@example.com")}, "D101", ["1 cell", "people.csv:2", "comma"]),
        ({"people_csv": lines("email,name,Name", "a@example.com,x,y")}, "D107", ['"Name"', "people.csv:1"]),
        (
            {"campaign_toml": CAMPAIGN + '\n[send]\nrat = "60/m"\n'},
            "C401",
            [
                "`send.rat`",
                "spring/campaign.toml:14:1",
                " 14 | rat = ",
                "    | ^^^",
                "did you mean `send.rate` or `send.at`?",
            ],
        ),
        (
            {"campaign_toml": CAMPAIGN.replace('"spring"', "spring")},
            "C403",
            ["spring/campaign.toml:1:8", "quotes"],
        ),
        (
            {"campaign_toml": 'password = "geheim"\n' + CAMPAIGN},
            "C409",
            ["campaign.toml:1:1", "SMTP_AUTH"],
        ),
        (
            {"body_txt": "Dear {{ name }},\n\nyour plan: {{ nmae }}.\n"},
            "T102",
            ["`nmae`", "spring/body.txt:3:15", "    |               ^^^^", "did you mean `name`?"],
        ),
        (
            {"campaign_toml": CAMPAIGN.replace("Hello {{ name }}", "Hello {{ first }}")},
            "T102",
            ["`first`", "campaign.toml:9:21", "email, name"],
        ),
        (
            {"campaign_toml": CAMPAIGN + '\n[[attach]]\npath = "terms.pdf"\n'},
            "A301",
            ['no file "terms.pdf"', "campaign.toml:14:8", "missing"],
        ),
        (
            {"campaign_toml": CAMPAIGN + '\n[[attach]]\npath = "../secret.pdf"\n'},
            "A302",
            ["leads out of", "campaign.toml:14:8"],
        ),
    ],
)
def test_broken_campaign(mailmerge, sandbox, changes, code, words):
    """One message that says what, where and what next; nothing is sent."""
    campaign = mailmerge.campaign(**{name: text for name, text in changes.items() if text is not None})
    for name, text in changes.items():
        if text is None:
            (campaign / name.replace("_", ".")).unlink()
    mailmerge.account(sandbox)

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 2, done
    one_error(done, code, *words)
    assert "geheim" not in done.out + done.err
    assert sandbox.messages == []
    assert not (campaign / "out").exists()


def test_all_problems_at_once(mailmerge):
    """Every problem is reported in one go, not the next one only after the first is fixed."""
    toml = CAMPAIGN.replace("subject =", "subjct =").replace("source =", "sorce =") + '[send]\nrate = "60"\n'
    mailmerge.campaign(campaign_toml=toml)

    done = mailmerge("check", "spring")

    assert done.code == 2
    found = list(diagnostics(done.err))
    assert len(found) == 5, done
    assert any("`message.subjct`" in line for line in found)
    assert any("`data.sorce`" in line for line in found)
    assert any("60" in line for line in found)


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["check", "nowhere"], "C407", ["no campaign folder nowhere", "mailmerge init nowhere"]),
        (["check", "home"], "C407", ["no campaign.toml in home"]),
        (["check", "spring", "--set", "send.rat=60/m"], "C401", ["--set", "`send.rate`"]),
        (["check", "spring", "--key", "customer"], "C420", ["'customer'", "email, name"]),
        (["check", "spring", "--where", "plan == 'x'"], "C431", ["`plan`", "email, name"]),
        (["check", "spring", "--where", "name"], "C432", ['name == "yes"']),
        (["send", "spring", "--yes", "--rows", "x-y"], "C430", ["2-50,77"]),
        (["send", "spring", "--yes", "--account", "gmial"], "C410", ["gmial", "`gmail`"]),
        (["send", "spring", "--yes", "--rate", "60"], "C405", ['"60/m"']),
        (["send", "spring", "--yes", "--suppress", "gone.txt"], "D150", ["gone.txt"]),
        (["send", "spring", "--yes", "--transcript", "spring"], "C482", ["spring"]),
        (["preview", "spring", "--eml", "spring/body.txt"], "C486", ["spring/body.txt"]),
        (["preview", "spring", "--mbox", "spring"], "C486", ["spring"]),
        (["init", "spring"], "C450", ["spring already contains a campaign"]),
        (["requeue", "spring"], "L705", ["no ledger was found at"]),
    ],
)
def test_wrong_arguments(mailmerge, sandbox, arguments, code, words):
    """Options are checked like the file, and say what would be right."""
    mailmerge.campaign()
    mailmerge.account(sandbox)

    done = mailmerge(*arguments)

    assert done.code == (8 if code.startswith("L") else 2), done
    one_error(done, code, *words)
    assert sandbox.messages == []


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["sendd"], "Did you mean 'send'?"),
        (["send", "--dry"], "--dry-run"),
        (["send", "--limit", "0"], "--limit"),
        (["resolve", "spring", "--as-accepted", "--resend"], "exclude each other"),
    ],
)
def test_usage(mailmerge, arguments, said):
    """Commands and options near a miss are named; exit 2."""
    mailmerge.campaign()

    done = mailmerge(*arguments)

    assert done.code == 2
    assert said in done.err


# --- lists ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "content", "code", "words"),
    [
        ("people.xlsx", b"<table><tr><td>email", "D120", ["is a web page with a table", "CSV", ".xlsx"]),
        ("people.xlsx", b"PK\x03\x04" + bytes(99), "D124", ["incomplete", "download or copy it again"]),
        (
            "people.xlsx",
            b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + "EncryptedPackage".encode("utf-16le") + bytes(600),
            "D120",
            ["is encrypted", "save a copy without one"],
        ),
        ("people.xls", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(600), "D124", [".xls", ".xlsx"]),
        ("people.numbers", b"PK\x05\x06" + bytes(18), "D120", ["a zip archive"]),
        (
            "people.csv",
            "email,name\na@example.com,Jörg\n".encode("latin-1"),
            "D230",
            ["people.csv:2", "Windows-1252", '--encoding cp1252 reads "Jörg"'],
        ),
        ("people.csv", "folder", "D100", ["is not a file"]),
    ],
)
def test_wrong_kind_of_list(mailmerge, name, content, code, words):
    """A renamed, encrypted, foreign or badly encoded list is called what it is."""
    campaign = mailmerge.campaign(campaign_toml=CAMPAIGN.replace("people.csv", name))
    (campaign / "people.csv").unlink()
    if content == "folder":
        (campaign / name).mkdir()
    elif content == "xlsx":
        shutil.copy(SAMPLES / "invoices" / "invoices.xlsx", campaign / name)
    else:
        (campaign / name).write_bytes(content)

    done = mailmerge("check", "spring")

    assert done.code == 2, done
    one_error(done, code, *words)


@pytest.mark.parametrize(("hidden", "sent"), [("skip", ["ana@example.com"]), ("send", None)])
def test_hidden_rows(mailmerge, sandbox, hidden, sent):
    """A workbook with hidden rows is refused until it is said what is meant."""
    campaign = mailmerge.campaign(campaign_toml=CAMPAIGN.replace("people.csv", "people.xlsx"))
    book = openpyxl.Workbook()
    sheet = book.create_sheet("People", 0)
    for row in (("email", "name"), ("ana@example.com", "Ana"), ("bo@example.net", "Bo")):
        sheet.append(row)
    sheet.row_dimensions[3].hidden = True
    book.save(campaign / "people.xlsx")
    mailmerge.account(sandbox)

    refused = mailmerge("send", "spring", "--yes")
    assert refused.code == 2, refused
    one_error(refused, "D121", "row 3 is hidden", "--hidden skip", "--hidden send")
    shown = re.search("`(preview .*)` shows", refused.err)
    assert shown is not None
    assert (
        "To: Bo <bo@example.net>" in mailmerge("preview", "spring", *shown[1].split()[1:], "--terminal").out
    )
    done = mailmerge("send", "spring", "--yes", "--hidden", hidden)

    assert done.code == 0, done
    received = [message.rcpt_to[0] for message in sandbox.messages]
    assert received == (sent or ["ana@example.com", "bo@example.net"])


def test_bad_addresses(mailmerge, sandbox):
    """Each bad address is named with its row, its column and a guess; the good rows can go."""
    people = lines("email,name", "ana@example.com,Ana", '"kim@gmial,com",Kim', "bo@,Bo", ",Nobody")
    campaign = mailmerge.campaign(people_csv=people)
    mailmerge.account(sandbox)

    check = mailmerge("check", "spring")

    assert check.code == 3, check
    assert 'error[D110]: `email` is not an address: "kim@gmial,com"' in check.out
    assert "(row 3)" in check.out
    assert "--> spring/people.csv (column email)" in check.out
    assert "did you mean kim@gmail.com?" in check.out
    assert "1 of 4 rows can be sent (2 invalid, 1 without an address)." in check.out
    assert mailmerge("send", "spring", "--yes", "--skip-invalid").code == 3
    assert [message.rcpt_to for message in sandbox.messages] == [("ana@example.com",)]
    assert statuses(campaign) == ["accepted", "invalid", "invalid", "skipped"]


def test_junk_goes_to_nobody(mailmerge, sandbox):
    """A damaged greeting is an invalid row, damage elsewhere a warning, and the ends of cells are trimmed."""
    people = lines(
        "email,name,plan",
        *("ana@example.com,Ana,#NV", "bo@example.com,#REF!,gold", "cem@example.com,JÃ¶rg,gold"),
        *("di@example.com,nan,gold", "ed@example.com,nan,gold", "\u200bflo@gmial.com\u00a0, Flo \u200b,gold"),
        *(",Nobody,gold", "ana@example.com,Anna,gold"),
    )
    body = "Dear {{ name }},\nyour plan is {{ plan }}.\n"
    campaign = mailmerge.campaign(people_csv=people, body_txt=body)
    mailmerge.account(sandbox)

    check = mailmerge("check", "spring")

    assert check.code == 3, check
    assert sorted(line.partition("]")[0] for line in diagnostics(check.out)) == [
        *("error[D255", "error[D256", "error[D258", "warning[D255", "warning[D263", "warning[D265"),
    ]
    assert '1 cell of the column "plan" contains the error of a formula: "#NV" in row 2' in check.out
    assert "(2 rows: 5, 6)" in check.out
    assert (
        'row 9 (ana@example.com) is left out for row 2, and differs: name "Anna" instead of "Ana"'
        in check.out
    )
    summary = "2 of 8 rows can be sent (1 repeat another row, 4 invalid, 1 without an address); "
    assert summary + "spaces trimmed from 2 cells." in check.out
    assert mailmerge("send", "spring", "--yes", "--skip-invalid").code == 3
    received = {message.rcpt_to[0]: message_from_bytes(message.content) for message in sandbox.messages}
    assert received.keys() == {"ana@example.com", "flo@gmial.com"}
    assert b"Dear Flo,\r\n" in bytes(received["flo@gmial.com"].get_payload(decode=True))
    assert statuses(campaign) == [
        *("accepted", "invalid", "invalid", "invalid", "invalid", "accepted", "skipped", "duplicate")
    ]


def test_attachment_missing_for_some_rows(mailmerge, sandbox):
    """The rows without their file are named; ``missing = "skip"`` lets them go without it."""
    toml = CAMPAIGN + '\n[[attach]]\npath = "{{ name }}.pdf"\n'
    campaign = mailmerge.campaign(campaign_toml=toml, Ana_pdf="%PDF-1.4")
    mailmerge.account(sandbox)

    done = mailmerge("send", "spring", "--yes")
    assert done.code == 2, done
    found = [line for line in diagnostics(done.err) if "A301" in line]
    assert [('no file "Bo.pdf"  (row 3' in found[0]), ('no file "Cy.pdf"  (row 4' in found[1])] == [True] * 2
    assert "spring/campaign.toml:14:8" in done.err
    (campaign / "campaign.toml").write_text(toml + 'missing = "skip"\n')

    assert mailmerge("send", "spring", "--yes").code == 0
    assert [b"Ana.pdf" in message.content for message in sandbox.messages] == [True, False, False]


def test_attachment_too_large(mailmerge, sandbox):
    """The encoded size counts: over the account's limit the row is invalid before anything is sent."""
    toml = CAMPAIGN + '\n[[attach]]\npath = "{{ name }}.pdf"\n'
    files = {"Ana_pdf": "x", "Bo_pdf": "x" * 15_000, "Cy_pdf": "x"}
    campaign = mailmerge.campaign(campaign_toml=toml, **files)
    mailmerge.account(sandbox, max_size=20_000)

    refused = mailmerge("send", "spring", "--yes")
    assert refused.code == 2, refused
    assert "error[M501]: the message has 21," in refused.err
    assert "the account accepts 20,000  (row 3, bo@example.net)" in refused.err
    assert sandbox.messages == []

    assert mailmerge("send", "spring", "--yes", "--skip-invalid").code == 3
    assert statuses(campaign) == ["accepted", "invalid", "accepted"]
