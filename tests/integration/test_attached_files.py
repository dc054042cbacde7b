"""Who gets which file: a file is found by its exact name or not at all, and goes to its own row only."""

from __future__ import annotations

import unicodedata
from email import message_from_bytes, policy
from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign import Campaign
from mailmerge.message.file_search import FileProblem, FileSearch

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Literal

    from mailmerge.campaign.plan import Plan

    Form = Literal["NFC", "NFD"]

CAMPAIGN = """
[data]
source = "people.csv"
[message]
from = "me@example.org"
to = "{{ email }}"
subject = "Hi"
text = "body.txt"
"""


def planned(folder: Path, cells: list[str], files: list[str], rule: str, body: str = "Hi\n") -> Plan:
    """Check a campaign with these cells in the column `file`, and these files."""
    rows = "".join(f'p{n}@example.org,"{cell}"\n' for n, cell in enumerate(cells))
    (folder / "people.csv").write_text(f"email,file\n{rows}", encoding="utf-8")
    (folder / "campaign.toml").write_text(f"{CAMPAIGN}\n{rule and '[[attach]]'}\n{rule}\n", encoding="utf-8")
    (folder / "body.txt").write_text(body, encoding="utf-8")
    for name in files:
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(name, encoding="utf-8")
    return Campaign.load(folder, environ={"MAILMERGE_STATE_DIR": str(folder / "state")}).check()


def codes(plan: Plan) -> dict[int, str]:
    """Return the code of each row's problem."""
    return {row: group.first.code for group in plan.problems for row in group.rows}


def attached(plan: Plan) -> list[list[str | None]]:
    """Return the names of the files of each message."""
    messages = (message_from_bytes(b"".join(one.segments), policy=policy.default) for one in plan.messages())
    return [[part.get_filename() for part in message.iter_attachments()] for message in messages]


NUMBERS = ["f/1.pdf", "f/10.pdf", "f/21.pdf"]


@pytest.mark.parametrize(
    ("cells", "files", "rule", "found"),
    [
        (["1", "10"], NUMBERS, 'path = "f/{{ file }}*.pdf"', {2: "A313"}),
        (["1", "21"], NUMBERS, 'path = "f/*{{ file }}.pdf"', {2: "A313"}),
        (["a", "ab"], ["f/a.pdf", "f/ab.pdf"], 'path = "f/{{ file }}*.pdf"', {2: "A313", 3: "A313"}),
        (["1.pdf", "1.pdf"], NUMBERS, 'path = "f/{{ file }}"', {2: "A313", 3: "A313"}),
        (["1", "1"], NUMBERS, "path = \"f/{{ '1' if file }}.pdf\"", {2: "A313", 3: "A313"}),
        (["1", ""], NUMBERS, 'path = "f/{{ file }}.pdf"', {3: "A312"}),
        (["1", " "], NUMBERS, 'path = "f/{{ file }}*.pdf"\nmissing = "skip"', {2: "A313", 3: "A312"}),
        (["1", ""], NUMBERS, 'path = "f/{{ file }}"', {2: "A301", 3: "A312"}),
        (["1.pdf", "1.pdf"], NUMBERS, 'path = "f/{{ file }}"\nshared = true', {}),
        (["1.pdf", ""], NUMBERS, 'path = "f/{{ file }}"\nshared = true', {3: "A312"}),
        (["f/1.pdf", "f/"], NUMBERS, 'path = "{{ file }}"', {3: "A303"}),
        (["1", "1"], NUMBERS, 'path = "f/1.pdf"', {}),
        (["1", "1"], NUMBERS, 'path = "f/1.pdf"\nname = "{{ email }}.pdf"', {}),
        (["f/1.pdf", ""], NUMBERS, 'path = "{{ file }}"\nmissing = "skip"', {}),
        (["*", "?.pdf"], NUMBERS, 'path = "f/{{ file }}"', {2: "A301", 3: "A301"}),
        (["[1]", "1"], [*NUMBERS, "f/[1].pdf"], 'path = "f/{{ file }}.pdf"', {}),
    ],
)
def test_e3_a_file_of_one_row_goes_to_no_other(
    tmp_path: Path, cells: list[str], files: list[str], rule: str, found: dict[int, str]
) -> None:
    """A path that depends on the row names a file of its own for each, or the rows are invalid."""
    assert codes(planned(tmp_path, cells, files, rule)) == found


def test_a_row_that_repeats_another_takes_no_file_from_it(tmp_path: Path) -> None:
    """The same person twice in the list gets one message, with the file."""
    planned(tmp_path, ["1.pdf"], NUMBERS, 'path = "f/{{ file }}"')
    with (tmp_path / "people.csv").open("a") as people:
        people.write("p0@example.org,1.pdf\n")
    plan = Campaign.load(tmp_path, environ={"MAILMERGE_STATE_DIR": str(tmp_path / "state")}).check()

    assert (codes(plan), plan.files) == ({}, {1: 1})


@pytest.mark.parametrize(("stored", "written"), [("NFC", "NFD"), ("NFD", "NFC"), ("NFD", "NFD")])
def test_e4_composed_and_decomposed_names_are_one_file(tmp_path: Path, stored: Form, written: Form) -> None:
    """However accents are kept in the cell and on the disk, the file is found, by a path and by a glob."""
    kept, cell = (unicodedata.normalize(form, "é 김") for form in (stored, written))
    for pattern in ("ordner-ü/{{ file }}.pdf", "ordner-ü/{{ file }}*"):
        plan = planned(tmp_path, [cell], [f"ordner-ü/{kept}.pdf"], f'path = "{pattern}"')
        assert (codes(plan), attached(plan)) == ({}, [["é 김.pdf"]])


def test_e4_a_slash_in_a_name_is_kept_as_a_hyphen(tmp_path: Path) -> None:
    """`Rechnung 2025/117.pdf` keeps its number, and a warning says what became of the slash."""
    rule = 'path = "f/1.pdf"\nname = "Rechnung {{ file }}.pdf"'
    plan = planned(tmp_path, ["2025/117", "2026\\117"], NUMBERS, rule)

    assert codes(plan) == {2: "A214", 3: "A214"}
    assert attached(plan) == [["Rechnung 2025-117.pdf"], ["Rechnung 2026-117.pdf"]]


def test_how_many_files_the_messages_have_is_counted(tmp_path: Path) -> None:
    """Messages with one file, several and none, of the rows that can be sent; without a rule nothing is."""
    cells = ["f/1.pdf", "", "", "f/none.pdf", "f/21.pdf"]
    rule = 'path = "{{ file }}"\nmissing = "skip"\n[[attach]]\npath = "f/10.pdf"\n'
    assert planned(tmp_path, cells, NUMBERS, rule).files == {2: 2, 1: 3}
    assert planned(tmp_path, cells, NUMBERS, 'path = "{{ file }}"\nmissing = "skip"').files == {1: 2, 0: 3}
    assert planned(tmp_path, cells, NUMBERS, "").files == {}


@pytest.mark.parametrize(
    ("body", "rule", "warned"),
    [
        ("The invoice is attached.\n", "", True),
        ("anbei die Rechnung", "", True),
        ("Die Rechnung im Anhang", "", True),
        ("Veuillez trouver ci-jointe la facture", "", True),
        ("Le envio adjunto el recibo", "", True),
        ("请查收附件。", "", True),
        ("{{ file }}", "", False),
        ("The invoice is attached.\n", 'path = "f/1.pdf"', False),
        ("re-attached, unattached, attachmentless", "", False),
        ("We are attached to you; this is sent without attachments: no attachment.", "", False),
        ("It is attached to this message.", "", True),
        ("> please find attached\nThank you.", "", False),
    ],
)
def test_e4_a_forgotten_file_is_a_warning(tmp_path: Path, body: str, rule: str, *, warned: bool) -> None:
    """Words that promise a file, in a message that has none."""
    plan = planned(tmp_path, ["see attachment"], NUMBERS, rule, body)
    assert ("A215" in {group.first.code for group in plan.problems}) is warned


@pytest.mark.parametrize(
    ("path", "hint"),
    [
        ("f/report.pdf", 'did you mean "f/Report 1.pdf"?'),
        ("f/REPORT 1.PDF", 'did you mean "f/Report 1.pdf"?'),
        ("f/Report\u00a01.pdf ", 'did you mean "f/Report 1.pdf"?'),
        ("f/Report  1 .pdf", 'did you mean "f/Report 1.pdf"?'),
        ("F/Report 1.pdf", 'did you mean "f/Report 1.pdf"?'),
        ("f\\Report 1.pdf", 'did you mean "f/Report 1.pdf"?'),
        ("f/Report 1.pdf; Terms.pdf", "that cell names several files"),
        ("f/Terms.pdf, Report 1.pdf", "that cell names several files"),
        ("f/Terms.pdf; f/Report 1.pdf", "that cell names several files"),
        ("f/zzz.docx", "put the file there"),
    ],
)
def test_e4_what_was_meant_is_said_before_doing_without(tmp_path: Path, path: str, hint: str) -> None:
    """A name that is almost right gets the right one as a hint; to send without a file is named last."""
    (tmp_path / "f").mkdir()
    for name in ("Report 1.pdf", "Terms.pdf"):
        (tmp_path / "f" / name).write_text("x")
    with pytest.raises(FileProblem) as caught:
        FileSearch().find(tmp_path, path)
    shown = caught.value.hint or ""

    assert shown.startswith(hint)
    assert "skip" not in shown or shown.endswith('`missing = "skip"`')


LONG = "x" * 300


@pytest.mark.parametrize(
    ("rules", "found"),
    [
        ('path = "f/{{ file }}.pdf"', {}),
        ('path = "f/1.pdf"\nname = "{{ email }} ' + LONG + '.pdf"', {2: "A220", 3: "A220"}),
        ('path = "f/1.pdf"\nname = "in\\u202evoice.pdf"', {2: "A220", 3: "A220"}),
        ('path = "f/1.pdf"\nname = " two  words.pdf "', {}),
        ('path = "f/1.pdf"\nname = "u\\u0308.pdf"', {}),
        ('path = "f/1.pdf"\n[[attach]]\npath = "f/10.pdf"\nname = "1.PDF"', {2: "A221", 3: "A221"}),
        ('path = "f/1*.pdf"', {}),
    ],
)
def test_a_name_that_readers_cannot_go_by_is_told(tmp_path: Path, rules: str, found: dict[int, str]) -> None:
    """A name that lost characters, and two files of one message with one name, are warnings."""
    assert codes(planned(tmp_path, ["1", "10"], NUMBERS, rules)) == found
