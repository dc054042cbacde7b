"""Which sheet of a workbook is the list, and which part of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from openpyxl.workbook.defined_name import DefinedName
from openpyxl.worksheet.table import Table

from mailmerge import ListError
from mailmerge.recipients import open_list

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Rows = list[list[object]]
    Save = Callable[..., Path]

PEOPLE: Rows = [["email", "name"], ["ann@x.org", "Ann"], ["bo@x.org", "Bo"]]
PLACES: Rows = [["place", "people"], ["Rome", 3]]


@pytest.fixture
def save(tmp_path: Path) -> Save:
    """Make what saves sheets of rows as a workbook; *change* may do more to it."""

    def save(change: Callable[[Any], None] = lambda _book: None, **sheets: Rows) -> Path:
        book = openpyxl.Workbook()
        del book["Sheet"]
        for name, rows in sheets.items():
            sheet: Any = book.create_sheet(name)
            for row in rows:
                sheet.append(row)
        change(book)
        path = tmp_path / "list.xlsx"
        book.save(path)
        return path

    return save


def add_table(book: Any, sheet: str, name: str, cells: str, totals: int | None = None) -> None:
    """Put a table of Excel's into a workbook."""
    book[sheet].add_table(Table(displayName=name, ref=cells, totalsRowCount=totals))


def read(path: Path, **options: Any) -> tuple[str, list[int]]:
    """Open a list: how it was read, and the numbers of its rows."""
    recipients = open_list(path, shown="list.xlsx", **options)
    return str(recipients.understanding), [recipient.row for recipient in recipients]


def refused(path: Path, **options: Any) -> tuple[str, str, str]:
    """Return code, message and hint of the error that a list causes."""
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown="list.xlsx", **options))
    return caught.value.code, caught.value.message, caught.value.hint or ""


def test_the_only_sheet_with_addresses(save: Save) -> None:
    """It is taken wherever its tab is, and that is said."""
    path = save(
        Places=PLACES, Members=PEOPLE, Notes=[["ask office@x.org", "", "for more"], ["and", "others"]]
    )
    why = "the only one of 3 with a column of addresses"
    assert read(path) == (f'XLSX, sheet "Members" ({why})', [2, 3])
    assert read(path, sheet="Members")[0] == 'XLSX, sheet "Members"'


def test_several_sheets_with_addresses(save: Save) -> None:
    """They are named with the option that takes each, the one that was open first; hidden ones are none."""

    def change(book: Any) -> None:
        book.active = 1
        book["Old"].sheet_state = "hidden"

    path = save(change, Here=PEOPLE, There=PEOPLE, Old=PEOPLE, Places=PLACES)
    code, message, hint = refused(path)
    assert (code, message) == (
        "D201",
        '2 sheets of list.xlsx have a column of addresses: "There" (open when it was saved), "Here"',
    )
    assert hint == "specify which one is the list: --sheet There or --sheet Here"
    assert read(path, sheet="Old", hidden="send")[1] == [2, 3]


def test_sheets_without_addresses(save: Save) -> None:
    """The only one that is not empty is the list; where there are more, nobody knows."""
    logins: Rows = [["login", "name"], ["ann", "Ann"]]
    assert read(save(Empty=[], Logins=logins))[1] == [2]
    code, message, hint = refused(save(Logins=logins, Places=PLACES))
    assert (code, message.partition(":")[0]) == (
        "D201",
        "none of the 2 sheets of list.xlsx has a column of addresses",
    )
    assert hint == "specify which one is the list: --sheet Logins or --sheet Places"


def test_headings_below_a_title(save: Save) -> None:
    """The row of the headings is found in a sheet as in a text file, and reported."""
    path = save(Members=[["Choir 2026"], [], *PEOPLE, [], ["Total", 2]])
    assert read(path) == ('XLSX, sheet "Members", headings in row 3', [4, 5])
    recipients = open_list(path)
    list(recipients)
    assert [(told.code, told.row) for told in recipients.warnings] == [("D202", 7)]


def test_a_total_that_was_never_calculated(save: Save) -> None:
    """A sum whose result the file does not have belongs to no recipient."""
    rows = [["email", "name", "fee"], ["a@x.org", "A", 1], ["Total", None, "=SUM(C2:C2)"]]
    assert read(save(Members=rows))[1] == [2]


def test_a_row_that_is_said_to_have_the_headings(save: Save) -> None:
    """It is believed; an empty one is an error that names a likely one."""
    path = save(Members=[["x", "y"], [], *PEOPLE])
    assert read(path, header=3)[1] == [4, 5]
    assert refused(path, header=2) == (
        "D200",
        "row 2 of list.xlsx should contain the headings, but is blank",
        "row 3 may contain them: --header 3",
    )


AROUND: Rows = [
    ["Fees", "", "", ""],
    ["", "email", "name", "note"],
    ["", "a@x.org", "A"],
    ["", "b@x.org", "B"],
]


def test_a_table_of_the_sheet(save: Save) -> None:
    """Its rows and columns are the list, without what is around it and without its totals."""

    def change(book: Any) -> None:
        add_table(book, "Members", "Choir", "B2:C5", totals=1)
        book["Members"]["F3"] = "seen by Kim"

    path = save(change, Members=[*AROUND, ["", "2", "all"]])
    told = 'XLSX, sheet "Members", table Choir (B2:C4), headings in row 2'
    assert read(path) == (told.replace(", headings in row 2", ""), [3, 4])
    recipients = open_list(path)
    list(recipients)
    assert [warning.message for warning in recipients.warnings] == [
        'row 5 ("2 all") is a total, not a recipient: it is left out'
    ]


def test_somebody_below_the_table(save: Save) -> None:
    """Who was added below a table is not left out in silence; the ways out are named and work."""
    path = save(lambda book: add_table(book, "Members", "Choir", "A1:B2"), Members=PEOPLE)
    code, message, hint = refused(path)
    assert (code, message) == (
        "D205",
        'row 3 has an address, but is below the table "Choir" (A1:B2) of the sheet "Members"',
    )
    assert "--header 1" in hint
    assert "--range Choir" in hint
    assert read(path, header=1)[1] == [2, 3]
    assert read(path, area="Choir")[1] == [2]


def test_two_tables_of_a_sheet(save: Save) -> None:
    """Which one is the list is asked; a table without addresses is not a list."""

    def change(book: Any) -> None:
        add_table(book, "Members", "Choir", "A1:B3")
        add_table(book, "Members", "Band", "A5:B7")
        add_table(book, "Members", "Places", "D1:E2")

    path = save(
        change,
        Members=[
            ["email", "name", "", "place", "n"],
            ["a@x.org", "A", "", "Rome", 1],
            *PEOPLE[2:],
            [],
            *PEOPLE,
        ],
    )
    code, message, hint = refused(path)
    assert (code, hint) == ("D201", "specify which one is the list: --range Choir or --range Band")
    assert message.startswith('2 tables of the sheet "Members" have a column of addresses: "Choir" (A1:B3)')
    assert read(path, area="band") == ('XLSX, sheet "Members", table Band (A5:B7)', [6, 7])


@pytest.mark.parametrize(
    ("area", "sheet", "rows"),
    [
        ("B2:C4", "Members", [3, 4]),
        ("$B$2:$C$3", "Members", [3]),
        ("Members!B2:C4", None, [3, 4]),
        ("'Members'!b2:c4", None, [3, 4]),
        ("B:C", "Members", [3, 4]),
        ("choir", None, [3, 4]),
    ],
)
def test_cells_that_are_said_to_be_the_list(
    save: Save, area: str, sheet: str | None, rows: list[int]
) -> None:
    """Cells, columns and names choose what is read, with a sheet or without."""

    def change(book: Any) -> None:
        book.defined_names["Choir"] = DefinedName("Choir", attr_text="Members!$B$2:$C$4")

    path = save(change, Members=AROUND, Other=PEOPLE)
    if area == "B:C":
        path = save(change, Members=AROUND[1:] and [[], *AROUND[1:]], Other=PEOPLE)
    assert read(path, area=area, sheet=sheet)[1] == rows


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        ({"area": "Chor"}, "D206", 'list.xlsx has no table or range "Chor"'),
        ({"area": "Nowhere!A1:B2"}, "D122", 'list.xlsx has no sheet "Nowhere"'),
        ({"area": "Members!H1:J9"}, "D206", 'the cells H1:J9 of the sheet "Members" are empty'),
        ({"area": "Choir", "sheet": "Other"}, "D206", '"Choir" is in the sheet "Members", not in "Other"'),
    ],
)
def test_cells_that_cannot_be_the_list(save: Save, options: dict[str, str], code: str, message: str) -> None:
    """What is not there, or is empty, is an error with a way out."""
    path = save(lambda book: add_table(book, "Members", "Choir", "B2:C4"), Members=AROUND, Other=PEOPLE)
    found = refused(path, **options)
    assert found[:2] == (code, message)
    assert found[2]


def test_a_text_has_no_cells_to_choose(tmp_path: Path) -> None:
    """A range of a text list is an error, as a sheet is."""
    path = tmp_path / "list.csv"
    path.write_text("email\na@x.org\n")
    assert refused(path, area="A1:B2") == (
        "D122",
        "list.xlsx has no sheets",
        "leave the range out, or name a workbook",
    )


@pytest.mark.parametrize(
    ("sheets", "message", "hint"),
    [
        (
            {"Info": [["About"], ["made by us"]], "Data": PEOPLE},
            'the only sheet of list.xlsx with a column of addresses, "Data", is hidden',
            "specify which one is the list: --sheet Data --hidden skip or --sheet Info",
        ),
        (
            {"Info": PLACES, "Codes": PLACES, "Data": PEOPLE},
            'the only sheet of list.xlsx with a column of addresses, "Data", is hidden',
            "specify which one is the list: --sheet Data --hidden skip or --sheet Info or --sheet Codes",
        ),
        (
            {"Info": [], "Data": PEOPLE, "Data 2": PEOPLE},
            'the only sheets of list.xlsx with a column of addresses are hidden: "Data", "Data 2"',
            "specify which one is the list: --sheet Data --hidden skip or --sheet 'Data 2' --hidden skip",
        ),
    ],
)
def test_a_hidden_sheet_that_alone_has_addresses_is_named(
    save: Save, sheets: dict[str, Rows], message: str, hint: str
) -> None:
    """With the options that take it; one beside a visible list is not spoken of."""

    def hide(book: Any) -> None:
        for name in book.sheetnames:
            book[name].sheet_state = "hidden" if name.startswith("Data") else "visible"

    path = save(hide, **sheets)

    assert refused(path) == ("D201", message, hint)
    assert read(path, sheet="Data", hidden="skip")[1] == [2, 3]
    assert read(save(hide, List=PEOPLE, Data=PEOPLE))[1] == [2, 3]
    assert read(save(hide, List=PLACES, Data=PLACES))[1] == [2]
