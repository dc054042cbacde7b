"""The files of failed rows: what a list gave comes back, with types and formats, and what was corrected."""

# ruff: noqa: DTZ001  a sheet has no time zones; its cells are made past the setter that guesses types

from __future__ import annotations

import csv
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl.cell import WriteOnlyCell

from mailmerge import Campaign
from mailmerge.campaign.results import write_failed
from mailmerge.errors import MailmergeError
from mailmerge.model import Result, Status
from mailmerge.output_folder import OutputFolder
from mailmerge.recipients import open_list
from mailmerge.recipients.failed_list import FailedList
from mailmerge.report.failed_rows import failed_name, write_failed_text, write_failed_workbook

PEOPLE = Path(__file__).parents[1] / "data" / "lists" / "people.xlsx"

FORMATS = ["General", "00000", "0%", "0.00", '#,##0.00" €"', "000-0000", "@", "[Red]0", '"No. "0']
MOMENTS = [
    "yyyy-mm-dd",
    "dd.mm.yyyy",
    "d mmm yy",
    "hh:mm",
    "hh:mm:ss",
    "yyyy-mm-dd hh:mm",
    "m/d/yy h:mm AM/PM",
]
TEXTS = st.one_of(
    st.text(
        st.characters(codec="utf-8", exclude_categories=("Cs", "Cc"), exclude_characters="\ufffe\uffff"),
        max_size=20,
    ),
    st.sampled_from(
        ["00716", "1E5", "2026-03-05", "TRUE", "=1+1", "'x", "_x000D_", " a ", "two\nlines", "#N/A", "0.10"]
    ),
)
NUMBERS = st.one_of(
    st.integers(-(10**18), 10**18),
    st.floats(allow_nan=False, allow_infinity=False, width=64),
    st.sampled_from([0.1 + 0.2, 1067, 0.26, 1e-7, 123456789012345678]),
)
DAYS = st.datetimes(datetime(1900, 3, 1), datetime(9999, 12, 30)).map(lambda at: at.replace(microsecond=0))
CELL = st.one_of(
    st.tuples(st.just("s"), TEXTS, st.sampled_from(["General", "@"])),
    st.tuples(st.just("n"), NUMBERS, st.sampled_from(FORMATS)),
    st.tuples(st.just("b"), st.booleans(), st.just("General")),
    st.tuples(st.just("d"), DAYS, st.sampled_from(MOMENTS)),
    st.tuples(st.just("d"), st.times().map(lambda at: at.replace(microsecond=0)), st.just("hh:mm:ss")),
    st.tuples(st.just("d"), st.integers(0, 10**7).map(lambda s: timedelta(seconds=s)), st.just("[h]:mm:ss")),
    st.tuples(st.just("e"), st.sampled_from(["#N/A", "#DIV/0!"]), st.just("General")),
    st.just(("n", None, "General")),
)


def workbook(path, rows):
    """Write a sheet of cells, each with its type and format, below headings."""
    book = openpyxl.Workbook(write_only=True)
    sheet = book.create_sheet("People")
    sheet.append(["email", *(f"c{number}" for number in range(len(rows[0])))])
    for number, row in enumerate(rows):
        cells = []
        for kind, value, number_format in row:
            cell: Any = WriteOnlyCell(sheet)
            cell._value, cell.data_type, cell.number_format = value, kind, number_format
            cells.append(cell)
        sheet.append([f"p{number}@x.org", *cells])
    book.save(path)
    return path


def failed_workbook(path, folder, sheet=None):
    """Write all rows of a workbook as failed ones, and open that file."""
    people = open_list(path, sheet=sheet)
    rows = [recipient.row for recipient in people]
    copies = [
        (cells, Result(row, f"k{row}", "a@x.org", Status.REJECTED), "abc")
        for row, cells in people.copies(rows)
    ]
    assert write_failed_workbook(OutputFolder(folder), people.sheet, people.columns.headings, copies) == len(
        rows
    )
    return people, open_list(folder / "failed.xlsx", sheet=people.sheet)


def facts(recipient):
    """Return everything that a template can see of a row."""
    return [
        (type(cell), cell if isinstance(cell, str) else (cell.value, cell.displayed, cell.canonical))
        for cell in recipient.values
    ]


@settings(max_examples=20)
@given(st.lists(st.lists(CELL, min_size=4, max_size=4), min_size=1, max_size=5))
@example([[("n", 1.7976931348623155e308, "General"), ("n", -1.7976931348623155e308, "0.00")] * 2])
def test_failed_xlsx_gives_back_every_cell(tmp_path_factory, rows):
    """Type, displayed and canonical text of every cell are those of the list, whatever is in it."""
    folder = tmp_path_factory.mktemp("failed")
    people, failed = failed_workbook(workbook(folder / "list.xlsx", rows), folder)

    assert failed.columns == people.columns
    assert [facts(recipient) for recipient in failed] == [facts(recipient) for recipient in people]


def test_failed_xlsx_of_a_workbook_that_libreoffice_made(tmp_path):
    """Dates, formats and the results of formulas come back; no formula is left, and errors stay errors."""
    people, failed = failed_workbook(PEOPLE, tmp_path, "People")

    assert [facts(recipient) for recipient in failed] == [facts(recipient) for recipient in people]
    sheet = openpyxl.load_workbook(tmp_path / "failed.xlsx")["People"]
    first = {name.value: cell for name, cell in zip(sheet[1], sheet[2], strict=True)}
    assert (first["due"].value, first["due"].number_format) == (datetime(2026, 3, 5), r"dd\.mm\.yyyy")
    assert (first["zip"].value, first["zip"].number_format) == (1067, "00000")
    assert (first["share"].value, first["share"].number_format) == (0.26, "0%")
    assert (first["member"].value, first["code"].value) == (True, "00123")
    assert first["total"].value == pytest.approx(0.3)
    assert {cell.data_type for row in sheet for cell in row}.isdisjoint("f")
    assert failed.columns.names[-1] == "code"


def test_a_formula_without_a_result_is_an_error_in_failed_xlsx(tmp_path):
    """The row stays unusable: an empty cell would be sent as if nothing were missing."""
    book = openpyxl.Workbook()
    book["Sheet"].append(["email", "due"])
    book["Sheet"].append(["a@x.org", "=TODAY()"])
    book.save(tmp_path / "list.xlsx")
    _, failed = failed_workbook(tmp_path / "list.xlsx", tmp_path)

    [recipient] = failed
    assert [problem.code for problem in recipient.problems] == ["D131"]


@pytest.mark.parametrize("start", ["=1+1", "+1", "-1", "@SUM(A1)"])
def test_no_cell_of_ours_is_a_formula_in_failed_xlsx(tmp_path, start):
    """A server's reply and a key are texts, exactly as they are."""
    path = workbook(tmp_path / "list.xlsx", [[("s", start, "General")]])
    people = open_list(path)
    result = Result(2, start, "a@x.org", Status.INVALID, start)
    write_failed_workbook(
        OutputFolder(tmp_path),
        people.sheet,
        people.columns.headings,
        [(cells, result, "abc") for _, cells in people.copies({2})],
    )

    sheet = openpyxl.load_workbook(tmp_path / "failed.xlsx")["People"]
    cells = {name.value: (cell.value, cell.data_type) for name, cell in zip(sheet[1], sheet[2], strict=True)}
    assert cells["c0"] == cells["mailmerge_reply"] == cells["mailmerge_key"] == (start, "s")


def test_only_the_newest_failed_rows_are_there(tmp_path):
    """A file of the other kind, and one of an earlier run, go."""
    people = open_list(workbook(tmp_path / "list.xlsx", [[("s", "x", "General")]]))
    result = Result(2, "k", "a@x.org", Status.REJECTED)
    copies = [(cells, result, "abc") for _, cells in people.copies({2})]

    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.glob("failed.*"))

    write_failed_text(OutputFolder(tmp_path), ["email"], [(["a@x.org"], result, "abc")])
    assert names() == ["failed.csv"]
    write_failed_workbook(OutputFolder(tmp_path), people.sheet, people.columns.headings, copies)
    assert names() == ["failed.xlsx"]
    write_failed_text(OutputFolder(tmp_path), ["email"], [(["a@x.org"], result, "abc")])
    assert names() == ["failed.csv"]
    write_failed_workbook(OutputFolder(tmp_path), people.sheet, people.columns.headings, [])
    assert names() == []


# --- as a list ----------------------------------------------------------------------------------------------

EVERYTHING = "{% for name, cell in row.items() %}{{ name }}={{ cell }}|{{ cell is string }};{% endfor %}"
TOML = 'name = "spring"\n[data]\nsource = "{}"\n[message]\nfrom = "me@example.org"\nto = "{{{{ email }}}}"\n'
TOML += 'subject = "Hello {{{{ c0 }}}}"\ntext = "body.txt"\n'


def campaign_over(folder, source, failed=None, toml=TOML):
    """Open a campaign over a list, or over a file of rows of it."""
    (folder / "campaign.toml").write_text(toml.format(source), "utf-8")
    (folder / "body.txt").write_text(EVERYTHING, "utf-8")
    options = {"data.source": str(failed)} if failed else {}
    return Campaign.load(folder, options, environ={"MAILMERGE_STATE_DIR": str(folder / "state")}).definition


def frozen(definition):
    """Return key and frozen digest of every row, or why it has none."""
    recipients = definition.open_list()
    composer = definition.composer(recipients)
    found = []
    for recipient in recipients:
        try:
            rendered = composer.render(recipient)
            message = composer.freeze(rendered)
            found.append((message.key, message.digest))
        except MailmergeError as error:
            found.append(("", str(error)))
    return found


def write_all_failed(folder, definition):
    """Write every row of a campaign's list as a failed one."""
    recipients = definition.open_list()
    keys = [key for key, _ in frozen(definition)]
    rows = [recipient.row for recipient in recipients]
    failed = {
        row: Result(row, key, "a@x.org", Status.REJECTED, "why") for row, key in zip(rows, keys, strict=True)
    }
    assert write_failed(OutputFolder(folder / "out"), failed, recipients) == len(rows)
    return folder / "out" / failed_name(workbook=bool(recipients.sheet))


@settings(max_examples=12)
@given(st.lists(st.lists(CELL, min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_rows_of_failed_xlsx_make_the_same_messages(tmp_path_factory, rows):
    """Same keys and, to the last octet, the same messages, also without the list; no row counts as edited."""
    folder = tmp_path_factory.mktemp("same")
    workbook(folder / "people.xlsx", rows)
    was = frozen(campaign_over(folder, "people.xlsx"))

    path = write_all_failed(folder, campaign_over(folder, "people.xlsx"))

    again = campaign_over(folder, "people.xlsx", path)
    assert isinstance(again.open_list(), FailedList)
    assert frozen(again) == was
    assert all(row.mark == row.written for row in open_list(path).marked())
    path.rename(folder / "alone.xlsx")
    assert frozen(campaign_over(folder, "alone.xlsx")) == was


@settings(max_examples=25)
@given(st.lists(st.lists(TEXTS, min_size=3, max_size=3), min_size=1, max_size=4))
def test_the_rows_of_failed_csv_make_the_same_messages(tmp_path_factory, rows):
    """Texts that look like numbers, dates, formulas or truths stay what they are; no row counts as edited."""
    folder = tmp_path_factory.mktemp("same")
    with (folder / "people.csv").open("w", encoding="utf-8-sig", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["email", "c0", "c1", "c2"])
        writer.writerows([f"p{number}@x.org", *row] for number, row in enumerate(rows))
    was = frozen(campaign_over(folder, "people.csv"))

    path = write_all_failed(folder, campaign_over(folder, "people.csv"))

    assert frozen(campaign_over(folder, "people.csv", path)) == was
    assert all(row.mark == row.written for row in open_list(path).marked())
    path.rename(folder / "alone.csv")
    assert frozen(campaign_over(folder, "alone.csv")) == was


def test_a_failed_file_is_utf_8_whatever_the_list_is(tmp_path):
    """The encoding that the campaign names is the list's."""
    (tmp_path / "people.csv").write_bytes("email,c0\na@x.org,Jörg\n".encode("cp1252"))
    toml = TOML.replace('source = "{}"', 'source = "{}"\nencoding = "cp1252"')

    path = write_all_failed(tmp_path, campaign_over(tmp_path, "people.csv", toml=toml))

    [recipient] = campaign_over(tmp_path, "people.csv", path, toml).open_list()
    assert recipient.values == ("a@x.org", "Jörg")


@pytest.mark.parametrize(("saved", "named"), [("cp1252", "cp1252"), ("utf-8", "cp1252"), ("utf-8", None)])
def test_a_failed_file_that_a_spreadsheet_program_has_saved(tmp_path, saved, named):
    """Without its mark, or in the encoding of Windows: the list itself stays what it is."""
    (tmp_path / "people.csv").write_text("email,c0\na@x.org,Jörg\nb@x.org,Zoë\n", "utf-8")
    path = write_all_failed(tmp_path, campaign_over(tmp_path, "people.csv"))
    path.write_bytes(path.read_text("utf-8-sig").replace("Jörg", "Jürgen").encode(saved))

    toml = TOML.replace('source = "{}"', f'source = "{{}}"\nencoding = "{named}"') if named else TOML
    found = list(campaign_over(tmp_path, "people.csv", path, toml).open_list())

    assert [recipient.values for recipient in found] == [("a@x.org", "Jürgen"), ("b@x.org", "Zoë")]


LIST = ["email,c0", "a@x.org,Ann", "b@x.org,Bob", "c@x.org,Cy"]


@pytest.fixture
def written(tmp_path):
    """Write a list and the file of its failed rows; gives a function that edits both and opens that file."""
    (tmp_path / "people.csv").write_text("\n".join(LIST), "utf-8")
    path = write_all_failed(tmp_path, campaign_over(tmp_path, "people.csv"))

    def edit(*, here=(), there=()):
        for file, changes in ((path, here), (tmp_path / "people.csv", there)):
            text = file.read_text("utf-8-sig")
            for old, new in changes:
                assert text.count(old) == 1 or old.endswith("\n") or file is path, text
                text = text.replace(old, new, 1)
            file.write_text(text, "utf-8-sig")
        definition = campaign_over(tmp_path, "people.csv", path)
        return definition.open_list()

    return edit


def test_an_unchanged_row_is_the_lists_row_as_it_is_now(written):
    """A name corrected in the list, and another order there, count; the file's copy is only a copy."""
    found = written(
        there=[("Bob", "Robert"), ("a@x.org,Ann\n", ""), ("c@x.org,Cy", "c@x.org,Cy\na@x.org,Ann")]
    )
    assert [(one.row, one.values[0], one.values[1], one.supersedes, one.problems) for one in found] == [
        (2, "a@x.org", "Ann", "", ()),
        (3, "b@x.org", "Robert", "", ()),
        (4, "c@x.org", "Cy", "", ()),
    ]


def test_an_edited_row_is_its_own_cells_and_supersedes_the_old_key(written):
    """Its old key is kept, to be recorded as corrected."""
    found = list(written(here=[("b@x.org", "bob@x.org")]))
    assert [(one.values[0], one.supersedes) for one in found] == [
        ("a@x.org", ""),
        ("bob@x.org", "b@x.org"),
        ("c@x.org", ""),
    ]
    assert not any(one.problems for one in found)


def test_a_row_edited_in_both_files_is_an_error_that_names_both(written):
    """Which of the two is meant is not guessed."""
    found = list(written(here=[("Bob", "Rob")], there=[("Bob", "Robert")]))
    [problem] = found[1].problems
    assert (problem.code, problem.row) == ("D156", 3)
    assert problem.message.startswith("b@x.org was edited here and in ")
    assert problem.message.endswith("people.csv (row 3 there)")
    assert problem.place is not None
    assert problem.place.path
    assert problem.place.path.endswith("failed.csv")


def test_the_same_edit_in_both_files_is_no_conflict(written):
    """The row is the list's, and the old key is superseded."""
    found = list(written(here=[("b@x.org", "bob@x.org")], there=[("b@x.org", "bob@x.org")]))
    assert (found[1].values[0], found[1].supersedes, found[1].problems) == ("bob@x.org", "b@x.org", ())


def test_an_unchanged_row_that_left_the_list_is_an_error(written):
    """Whoever was removed from the list, or corrected there, is not written to from an old copy."""
    found = list(written(there=[("b@x.org", "bob@x.org")]))
    [problem] = found[1].problems
    assert (problem.code, problem.message.partition(" from ")[0]) == ("D157", "b@x.org was removed")


def test_a_corrected_row_stays_a_correction_when_it_fails_again(written, tmp_path):
    """Written once more it is as it was corrected, and names the row of the list that it replaces."""
    recipients = written(here=[("b@x.org", "bob@x.org")])
    failed = {3: Result(3, "bob@x.org", "bob@x.org", Status.REJECTED)}
    write_failed(OutputFolder(tmp_path / "second"), failed, recipients)

    again = campaign_over(tmp_path, "people.csv", tmp_path / "second" / "failed.csv")
    [recipient] = again.open_list()
    assert (recipient.values, recipient.supersedes, recipient.problems) == (("bob@x.org", "Bob"), "", ())
    path = tmp_path / "second" / "failed.csv"
    path.write_text(path.read_text("utf-8-sig").replace("bob@x.org", "rob@x.org", 1), "utf-8-sig")
    [recipient] = campaign_over(tmp_path, "people.csv", path).open_list()
    assert (recipient.values[0], recipient.supersedes) == ("rob@x.org", "bob@x.org")


def test_our_columns_are_none_of_the_lists(written):
    """Neither templates nor checks see them."""
    assert written().columns.names == ("email", "c0")
