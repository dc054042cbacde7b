"""The files of failed rows: what a list gave comes back, with types and formats, and what was corrected."""

# ruff: noqa: DTZ001  a sheet has no time zones; its cells are made past the setter that guesses types

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from openpyxl.cell import WriteOnlyCell

from mailmerge.model import Result, Status
from mailmerge.recipients import open_list
from mailmerge.report.failed_rows import write_failed_text, write_failed_workbook

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


def failed_workbook(path, folder):
    """Write all rows of a workbook as failed ones, and open that file."""
    people = open_list(path)
    rows = [recipient.row for recipient in people]
    copies = [
        (cells, Result(row, f"k{row}", "a@x.org", Status.REJECTED)) for row, cells in people.copies(rows)
    ]
    assert write_failed_workbook(folder, people.sheet, people.columns.headings, copies) == len(rows)
    return people, open_list(folder / "failed.xlsx", sheet=people.sheet)


def facts(recipient):
    """Give all that a template can see of a row."""
    return [
        (type(cell), cell if isinstance(cell, str) else (cell.value, cell.displayed, cell.canonical))
        for cell in recipient.values
    ]


@given(st.lists(st.lists(CELL, min_size=4, max_size=4), min_size=1, max_size=5))
def test_failed_xlsx_gives_back_every_cell(tmp_path_factory, rows):
    """Type, displayed and canonical text of every cell are those of the list, whatever is in it."""
    folder = tmp_path_factory.mktemp("failed")
    people, failed = failed_workbook(workbook(folder / "list.xlsx", rows), folder)

    assert failed.columns == people.columns
    assert [facts(recipient) for recipient in failed] == [facts(recipient) for recipient in people]


def test_failed_xlsx_of_a_workbook_that_libreoffice_made(tmp_path):
    """Dates, formats and the results of formulas come back; no formula is left, and errors stay errors."""
    people, failed = failed_workbook(PEOPLE, tmp_path)

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
        tmp_path, people.sheet, people.columns.headings, [(cells, result) for _, cells in people.copies({2})]
    )

    sheet = openpyxl.load_workbook(tmp_path / "failed.xlsx")["People"]
    cells = {name.value: (cell.value, cell.data_type) for name, cell in zip(sheet[1], sheet[2], strict=True)}
    assert cells["c0"] == cells["mailmerge_reply"] == cells["mailmerge_key"] == (start, "s")


def test_only_the_newest_failed_rows_are_there(tmp_path):
    """A file of the other kind, and one of an earlier run, go."""
    people = open_list(workbook(tmp_path / "list.xlsx", [[("s", "x", "General")]]))
    result = Result(2, "k", "a@x.org", Status.REJECTED)
    copies = [(cells, result) for _, cells in people.copies({2})]

    def names() -> list[str]:
        return sorted(path.name for path in tmp_path.glob("failed.*"))

    write_failed_text(tmp_path, ["email"], [(["a@x.org"], result)])
    assert names() == ["failed.csv"]
    write_failed_workbook(tmp_path, people.sheet, people.columns.headings, copies)
    assert names() == ["failed.xlsx"]
    write_failed_text(tmp_path, ["email"], [(["a@x.org"], result)])
    assert names() == ["failed.csv"]
    write_failed_workbook(tmp_path, people.sheet, people.columns.headings, [])
    assert names() == []
