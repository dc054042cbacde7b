"""Lists of every kind from the first look to the last resent row."""

from __future__ import annotations

import json
import random
from pathlib import Path

import openpyxl
import pytest
from openpyxl.comments import Comment

from campaigns import TO_PEOPLE, campaign_toml
from faultd import FaultServer, say
from mailmerge.recipients.kinds import find_kind
from mailmerge.recipients.recipient_list import CellError
from mailmerge.recipients.workbook_list import open_workbook
from mailmerge.values import displayed
from number_formats import random_cells
from servers.command import one_error

LISTS = Path(__file__).parents[1] / "data" / "lists"
NOBODY = say("550 5.1.1 no such user")
PEOPLE = [
    {"email": "ana@example.com", "first_name": "Ana", "zip": "00716", "amount": 12.5},
    {"email": "bo@example.net", "first_name": "Bo", "zip": "02134"},
    {"email": "cem@example.org", "first_name": "Cem", "zip": "1", "amount": 99},
]
LINES = "".join(json.dumps(one) + "\n" for one in PEOPLE).encode()


def campaign_of(mailmerge, name, content=None):
    """Make a campaign over a list of this name."""
    several = 'sheet = "People"' if name.endswith(("ods", "xls")) else ""
    toml = campaign_toml(top='account = "test"', data=several, message=TO_PEOPLE).replace("people.csv", name)
    folder = mailmerge.campaign(
        campaign_toml=toml.replace("{{ name }}", "{{ first_name }}"),
        body_txt="{{ first_name }} {{ zip }} {{ amount }}\n",
    )
    (folder / "people.csv").unlink()
    if content is not None:
        (folder / name).write_bytes(content)
    return folder


def flat(message):
    """Return what a person reads of an accepted message."""
    return message.content.replace(b"=\r\n", b"").decode()


@pytest.mark.parametrize("suffix", ["ods", "xls"])
def test_a_workbook_of_another_program_from_check_to_resent(mailmerge, suffix):
    """It is mailed as the sheet shows it; failed rows and the copy are workbooks of Excel."""
    name = f"people.{suffix}"
    folder = campaign_of(mailmerge, name, (LISTS / name).read_bytes())
    with FaultServer({"RCPT": {1: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        checked = mailmerge("check", "spring", "-v")
        sent = mailmerge("send", "spring", "--yes", "--skip-invalid", "--set", "send.max_rejected=100%")
        failed = folder / "out" / "failed.xlsx"
        copied = mailmerge("report", "spring", "--copy", "copy.xlsx")
        again = mailmerge("requeue", "spring", "--from", failed)
        resent = mailmerge("send", "spring", "--list", failed, "--yes", "--skip-invalid")

    assert f'read as    {suffix.upper()}, sheet "People"' in checked.out + checked.err
    assert (sent.code, copied.code, again.code, resent.code) == (3, 0, 0, 3), (sent, copied, again, resent)
    assert [message.recipients[0] for message in server.accepted] == [
        b"jerome@example.org",
        b"wei@example.org",
    ]
    assert "01067 1,234.50 =E2=82=AC" in flat(server.accepted[1])
    sheet = openpyxl.load_workbook(mailmerge.folder / "copy.xlsx")["People"]
    rows = [[cell.value for cell in row] for row in sheet.iter_rows()]
    assert rows[0][-3:] == ["mailmerge_status", "mailmerge_code", "mailmerge_reply"]
    assert [row[-3] for row in rows[1:]] == ["rejected", "accepted", "invalid"]
    zip_code = sheet.cell(2, rows[0].index("zip") + 1)
    assert (zip_code.value, zip_code.number_format) == (1067, "00000")


def test_json_lines_from_check_to_resent(mailmerge):
    """Numbers go out as they are written; failed rows are a text list, and a copy is a workbook."""
    folder = campaign_of(mailmerge, "people.jsonl", LINES)
    with FaultServer({"RCPT": {2: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        sent = mailmerge("send", "spring", "--yes")
        failed = folder / "out" / "failed.csv"
        text = failed.read_text("utf-8-sig")
        wrong = mailmerge("report", "spring", "--copy", "copy.jsonl")
        copied = mailmerge("report", "spring", "--copy", "copy.xlsx")
        failed.write_text(text.replace("bo@example.net,Bo", "bodo@example.net,Bodo"), "utf-8-sig")
        resent = mailmerge("send", "spring", "--list", failed, "--yes")

    one_error(wrong, "D154", "name it copy.xlsx")
    assert (sent.code, copied.code, resent.code) == (3, 0, 0), (sent, copied, resent)
    assert "Ana 00716 12.5" in flat(server.accepted[0])
    assert "Bodo 02134" in flat(server.accepted[-1])
    sheet = openpyxl.load_workbook(mailmerge.folder / "copy.xlsx")["list"]
    assert [cell.value for cell in sheet["E"]] == ["mailmerge_status", "accepted", "rejected", "accepted"]


def test_standard_input_from_check_to_resent(mailmerge):
    """It is read once a command, the same list is the same plan, and failed rows find it again."""
    folder = campaign_of(mailmerge, "people.csv")
    other = LINES.replace(b"Cem", b"Dag")
    with FaultServer({"RCPT": {2: NOBODY}}, extensions=()) as server:
        mailmerge.account(server)
        first = mailmerge.piped(other, "check", "spring", "--list", "-")
        second = mailmerge.piped(LINES, "check", "spring", "--list", "-")
        asked = mailmerge.piped(LINES, "send", "spring", "--list", "-")
        sent = mailmerge.piped(LINES, "send", "spring", "--list", "-", "--yes")
        failed = folder / "out" / "failed.csv"
        again = mailmerge("requeue", "spring", "--from", failed)
        resent = mailmerge("send", "spring", "--list", failed, "--yes")

    assert first.err.startswith("standard input: JSON lines, UTF-8\nplanned now\n")
    assert "planned now (the rows changed)" in second.err
    one_error(asked, "C480", "add --yes")
    assert "nothing has changed since" in sent.out + sent.err
    assert (sent.code, again.code, resent.code) == (3, 0, 0), (sent, again, resent)
    assert "send spring --list=-" in first.err
    assert [message.recipients[0].decode() for message in server.accepted] == [
        "ana@example.com",
        "cem@example.org",
        "bo@example.net",
    ]
    assert "Bo 02134" in flat(server.accepted[-1])
    kept = list((mailmerge.folder / "home" / "cache" / "input").glob("*.stdin"))
    assert len(kept) == 2
    assert mailmerge("purge", "spring", "--yes").code == 0
    assert not any(path.exists() for path in kept)


def test_standard_input_has_to_give_a_list_and_the_campaign_a_name(mailmerge):
    """Nothing in the pipe, or a campaign without a name: an error, never a list of nobody."""
    campaign_of(mailmerge, "people.csv")
    one_error(mailmerge("check", "spring", "--list", "-"), "D220", "did the program before the pipe fail?")
    alone = ("--subject", "x", "--text", "spring/body.txt", "--from", "me@example.org", "--to", "{{ email }}")
    one_error(mailmerge.piped(LINES, "check", "--list", "-", *alone), "C406", "--name")
    assert mailmerge.piped(LINES, "check", "--list", "-", "--name", "may", *alone).code == 0


def test_init_makes_a_campaign_of_standard_input(mailmerge):
    """The list is copied under a name that says what it is, and nothing of it stays elsewhere."""
    done = mailmerge.piped(LINES, "init", "spring", "--list", "-", "--from", "me@example.org")

    assert done.code == 0, done
    assert (mailmerge.folder / "spring" / "people.jsonl").read_bytes() == LINES
    assert not list((mailmerge.folder / "home" / "cache" / "input").glob("*.stdin"))
    assert mailmerge("check", "spring").code == 0


TEXTS = (
    " leading", "trailing ", "two  blanks", "tab\there", "line\nbreak", "a\n\nb", "nbsp\u00a0x",
    "Jörg 张伟 🎉",
    "<b>&amp;", "'quoted'", '"double"', "=1+1", "#N/A", "TRUE", "00716", "1,5", "x" * 5000, "\u200bzero", "é",
)  # fmt: skip


def test_opendocument_is_read_as_libreoffice_shows_it(libreoffice, tmp_path):
    """Texts, numbers in 2,000 formats, links, notes, formulas: every cell is what its own export says."""
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  shown when a test fails
    numbers = random_cells(random.Random(seed), 2000)
    book = openpyxl.Workbook()
    sheet = book["Sheet"]
    for at, (number, code) in enumerate(numbers):
        sheet.cell(at // 8 + 1, at % 8 + 1, number).number_format = code
    for at, text in enumerate(TEXTS, 1):
        cell = sheet.cell(at, 9)
        cell.value = text
        cell.data_type = "s"
    sheet["J1"] = "=1+1"
    sheet["J2"] = '=IF(1=1,"yes","no")'
    sheet["J3"] = "=1/0"
    sheet["J4"] = True
    sheet["J5"], sheet["J5"].hyperlink = "here", "https://x.example/"
    sheet["J6"], sheet["J6"].comment = "noted", Comment("not this", "me")
    sheet["L9"] = "far"
    book.save(tmp_path / "list.xlsx")

    [zipped] = libreoffice.convert([tmp_path / "list.xlsx"], "ods", tmp_path)
    [flat] = libreoffice.convert([tmp_path / "list.xlsx"], "fods", tmp_path)
    [shown] = libreoffice.as_shown([tmp_path / "list.xlsx"], tmp_path)

    for path in (zipped, flat):
        read = open_workbook(path, path.name, find_kind(path, path.name))
        found = {one.number: one.cells for one in read.rows(read.sheets[0])}
        for number, wanted in enumerate(shown, 1):
            cells = [cell.shown if isinstance(cell, CellError) else displayed(cell) for cell in found[number]]
            cells += [""] * (len(wanted) - len(cells))
            # Room for a bracket or a minus belongs to the column.
            assert cells == [*map(str.strip, wanted[:8]), *wanted[8:]], (path.name, number)
