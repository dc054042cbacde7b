"""Workbooks: a real one written by LibreOffice (tests/data/lists), and hostile ones built here."""

# ruff: noqa: DTZ001  the dates of a sheet have no time zone

from __future__ import annotations

import io
import os
import random
import time as clock
import zipfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import openpyxl
import pytest

from mailmerge.errors import ListError
from mailmerge.recipients import open_list
from mailmerge.recipients.cells import exact_number, formatted_cell
from mailmerge.recipients.recipient_list import CellError
from mailmerge.recipients.workbook import cell_name, cell_position
from mailmerge.values import Date, DateTime

PEOPLE = Path(__file__).parents[1] / "data" / "lists" / "people.xlsx"
NAMESPACE = 'xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"'


def refused(path, **options):
    """Read a list to its end and return the error it must end with."""
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown="people.xlsx", **options))
    return caught.value


@pytest.fixture
def save(tmp_path):
    """Write rows with openpyxl, which stores no results for formulas."""

    def save(*rows, formats=(), name="people.xlsx"):
        book = openpyxl.Workbook()
        sheet = book["Sheet"]
        for row in rows:
            sheet.append(row)
        for cell, number_format in formats:
            sheet[cell].number_format = number_format
        book.save(tmp_path / name)
        return tmp_path / name

    return save


@pytest.fixture
def rewrite(save):
    """Replace the sheet's XML in a good workbook."""

    def rewrite(data, *, declaration=""):
        path = save(["email"], ["a@x.org"])
        sheet = f'<?xml version="1.0"?>{declaration}<worksheet {NAMESPACE}>{data}</worksheet>'
        with zipfile.ZipFile(path) as source:
            parts = {name: source.read(name) for name in source.namelist()}
        parts["xl/worksheets/sheet1.xml"] = sheet.encode()
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as target:
            for name, content in parts.items():
                target.writestr(name, content)
        return path

    return rewrite


def facts(cells):
    """Return texts unchanged, and of every other cell the value, the displayed and the canonical text."""
    return [cell if isinstance(cell, str) else (cell.value, cell.displayed, cell.canonical) for cell in cells]


def test_cells_are_what_a_person_sees():
    """Leading zeros, whole numbers, decimals, dates, times, booleans and Chinese come out as in the sheet."""
    people = open_list(PEOPLE, sheet="People")
    wei, jerome, _ = people
    assert str(people.understanding) == 'XLSX, sheet "People"'
    assert people.columns.names[:2] == ("email", "first_name")
    assert facts(wei.values) == [
        "wei@example.org",
        "张伟",
        (Decimal(1067), "01067", "1067"),
        (Decimal(13800138000), "13800138000", "13800138000"),
        (Decimal("1234.5"), "1,234.50 €", "1234.5"),
        (Decimal("0.26"), "26%", "0.26"),
        (date(2026, 3, 5), "05.03.2026", "2026-03-05"),
        (datetime(2026, 3, 5, 14, 30), "2026-03-05 14:30", "2026-03-05 14:30"),
        (time(9, 5), "09:05", "09:05"),
        (timedelta(hours=26, minutes=30), "26:30", "26:30"),
        (True, "TRUE", "TRUE"),
        (Decimal("0.3"), "0.3", "0.3"),
        "00123",
    ]
    assert jerome.row == 4
    assert facts(jerome.values[2:]) == [
        (Decimal(75001), "75001", "75001"),
        "",
        (Decimal("0.3"), "0.30 €", "0.3"),
        (Decimal(1), "100%", "1"),
        (date(1999, 12, 31), "31.12.1999", "1999-12-31"),
        (datetime(2026, 3, 5), "2026-03-05 00:00", "2026-03-05"),
        (time(23, 59, 59), "23:59", "23:59:59"),
        "",
        (False, "FALSE", "FALSE"),
        "",
        "two\nlines",
    ]
    assert [type(value) for value in wei.values[6:8]] == [Date, DateTime]
    assert people.blank_rows == 1


def test_error_cells_make_the_row_unusable():
    """A cell that shows #N/A is a problem of its row, named by its cell; a typed "#N/A" is text."""
    *_, nobody = open_list(PEOPLE, shown="people.xlsx", sheet="People")
    assert [(d.code, d.message, d.place and d.place.cell, d.row) for d in nobody.problems] == [
        ("D131", "the cell shows the error #N/A", "sheet People, cell B5", 5),
        ("D131", "the cell shows the error #DIV/0!", "sheet People, cell L5", 5),
    ]
    assert (nobody.values[1], nobody.values[-1]) == ("#N/A", "#N/A")


@pytest.mark.parametrize(
    ("sheet", "code", "message"),
    [
        ("Filtered", "D121", 'in the sheet "Filtered" 2 rows are hidden or filtered out (3, 5)'),
        ("Hidden rows", "D121", 'in the sheet "Hidden rows" row 2 is hidden or filtered out'),
        ("Secret", "D121", 'the sheet "Secret" is hidden'),
        ("Peple", "D122", 'people.xlsx has no sheet "Peple"'),
    ],
)
def test_hidden_and_merged_cells_need_a_decision(sheet, code, message):
    """Hidden rows, hidden sheets and merged headings are refused until the user says what is meant."""
    error = refused(PEOPLE, sheet=sheet)
    assert (error.code, str(error)) == (code, message)
    assert error.hint


@pytest.mark.parametrize(
    ("sheet", "hidden", "rows", "left_out"),
    [
        ("Filtered", "skip", [2, 4], 2),
        ("Filtered", "send", [2, 3, 4, 5], 0),
        ("Hidden rows", "skip", [3], 1),
        ("Secret", "send", [2], 0),
        ("Secret", "skip", [2], 0),
    ],
)
def test_hidden_rows_by_choice(sheet, hidden, rows, left_out):
    """Once said, hidden rows are left out and counted, or sent."""
    people = open_list(PEOPLE, sheet=sheet, hidden=hidden)
    assert [recipient.row for recipient in people] == rows
    assert people.hidden_rows == left_out


def test_the_list_ends_before_a_stray_cell_far_away():
    """A cell at XFD1048576 neither hangs nor hides: the list ends before it, with a warning."""
    start = clock.monotonic()
    people = open_list(PEOPLE, sheet="Stray")
    assert [recipient.row for recipient in people] == [2]
    assert [note.message for note in people.warnings] == [
        "the list ends at 1,000 blank rows: XFD1048576 and everything below is left out"
    ]
    assert clock.monotonic() - start < 2


def test_a_sheet_can_be_read_again():
    """Each iteration opens the file again and yields the same rows."""
    people = open_list(PEOPLE, sheet="People")
    assert list(people) == list(people)


def test_header_below_blank_rows(save):
    """The first row with content is the header; numbers stay the sheet's."""
    people = open_list(save([], [], ["email", "n"], [], ["a@x.org", 1]))
    assert [(recipient.row, facts(recipient.values)) for recipient in people] == [
        (5, ["a@x.org", (1, "1", "1")])
    ]


def test_short_rows_are_filled_and_cells_outside_refused(save):
    """A sheet's rows may end early; a value in a column without a heading is an error with its cell."""
    assert [r.values for r in open_list(save(["email", "n", "m"], ["a@x.org"]))] == [("a@x.org", "", "")]
    error = refused(save(["email", None, "m"], ["a@x.org", None, 1, 7], ["b@x.org", "x", 2]))
    assert [(d.code, d.message, d.place.cell) for d in error.diagnostics] == [
        ("D108", 'column D has no heading, but contains "7" in this row', "sheet Sheet, cell D2"),
        ("D108", 'column B has no heading, but contains "x" in this row', "sheet Sheet, cell B3"),
    ]


def test_the_index_of_pandas_is_no_column(save):
    """Whole numbers in column A without a heading are left out; nothing else of it is."""
    people = open_list(save([None, "email", "name"], [4, "a@x.org", "Ann"], [9, "b@x.org", "Bo"]))

    assert [recipient.values for recipient in people] == [("a@x.org", "Ann"), ("b@x.org", "Bo")]
    assert [one.code for one in people.warnings] == ["D244"]


def test_formula_without_result(save):
    """A formula that no spreadsheet program has calculated is a problem of its row, never an empty cell."""
    first, second = open_list(save(["email", "n"], ["a@x.org", "=1+1"], ["b@x.org", 2]))
    assert [(d.code, d.message) for d in first.problems] == [
        ("D132", "the cell contains a formula that was never calculated")
    ]
    assert second.problems == ()


@pytest.mark.parametrize(
    ("value", "number_format", "cell"),
    [
        (7, "000", (7, "007", "7")),
        (5551234, "000\\-0000", (5551234, "555-1234", "5551234")),
        (15551234, "000-0000", (15551234, "1555-1234", "15551234")),
        (7, "0", (7, "7", "7")),
        (7, "0.00", (7, "7.00", "7")),
        (-7, "000", (-7, "-007", "-7")),
        (0.256, "0%", (Decimal("0.256"), "26%", "0.256")),
        (-5, '_-* #,##0.00\\ "€"_-;\\-* #,##0.00\\ "€"_-', (-5, "-5.00 €", "-5")),
        (3.0, "General", (3, "3", "3")),
        (0.1 + 0.2, "General", (Decimal("0.3"), "0.3", "0.3")),
        (1e-7, "General", (Decimal("1E-7"), "0.0000001", "0.0000001")),
        (1e300, "General", (Decimal("1E+300"), "1E+300", "1" + "0" * 300)),
        (datetime(2026, 3, 5), "yyyy-mm-dd", (date(2026, 3, 5), "2026-03-05", "2026-03-05")),
        (datetime(2026, 3, 5, 18), "d/m/yy", (date(2026, 3, 5), "5/3/26", "2026-03-05 18:00")),
        (
            datetime(2026, 3, 5),
            "yyyy-mm-dd hh:mm",
            (datetime(2026, 3, 5), "2026-03-05 00:00", "2026-03-05"),
        ),
        (
            datetime(2026, 3, 5, 18),
            '[$-409]h:mm AM/PM "daily"',
            (time(18), "6:00 PM daily", "2026-03-05 18:00"),
        ),
        (datetime(2026, 3, 1), "mmmm", (date(2026, 3, 1), "March", "2026-03-01")),
        (timedelta(hours=26), "[h]:mm", (timedelta(hours=26), "26:00", "26:00")),
        (
            timedelta(hours=-26, minutes=-5),
            "[h]:mm:ss",
            (timedelta(hours=-26, minutes=-5), "-26:05:00", "-26:05"),
        ),
        (True, "General", (True, "TRUE", "TRUE")),
        ("a_x000D_\nb", "General", "a\r\nb"),
        (" ", "@", " "),
    ],
)
def test_numbers_and_dates_by_format(save, value, number_format, cell):
    """The format decides what is shown, and between date and moment; never what a cell is identified by."""
    path = save(["email", "n"], ["a@x.org", value], formats=[("B2", number_format)])
    [recipient] = open_list(path)
    assert facts(recipient.values[1:]) == [cell]
    assert not recipient.problems


@pytest.mark.parametrize(
    ("value", "formats"),
    [
        (7, ["General", "0", "0.00", "00000", "#,##0.00 €"]),
        (1.0, ["General", "0.0", "000"]),
        (0.26, ["General", "0%", "0.00"]),
        (datetime(2026, 3, 5), ["yyyy-mm-dd", "dd.mm.yyyy", "mmmm yyyy", "d/m/yy h:mm"]),
        (datetime(2026, 3, 5, 18), ["yyyy-mm-dd", "dd.mm.yyyy", "d/m/yy h:mm", "h:mm"]),
    ],
)
def test_a_new_format_does_not_make_a_new_row(save, value, formats):
    """Key and digest of a row are made of canonical texts: reformatting the column changes neither."""
    made = set()
    for number_format in formats:
        path = save(["id", "email"], [value, "a@x.org"], formats=[("A2", number_format)])
        [recipient] = open_list(path, key="id")
        made.add((recipient.key, recipient.digest()))
    assert len(made) == 1


def test_a_time_in_a_date_column(save):
    """A zero formatted as a date is not a date: the row is reported."""
    path = save(["email", "due"], ["a@x.org", 0], formats=[("B2", "dd.mm.yyyy")])
    [recipient] = open_list(path)
    assert [d.code for d in recipient.problems] == ["D134"]


def test_types_apply_to_workbooks(save):
    """Types work on cells as they do on text, and the type text gives what the sheet shows."""
    path = save(
        ["email", "n", "b", "d"], ["a@x.org", 7, True, datetime(2026, 3, 5)], formats=[("D2", "d/m/yy")]
    )
    types = {"n": "decimal", "b": "text", "d": "date:%d/%m/%Y"}
    [recipient] = open_list(path, types=types, key="n")
    assert facts(recipient.values) == [
        "a@x.org",
        (7, "7", "7"),
        "TRUE",
        (date(2026, 3, 5), "5/3/26", "2026-03-05"),
    ]
    assert recipient.key == "7"


@pytest.mark.parametrize(
    ("content", "code", "message"),
    [
        (b"email name\n", "D120", "people.xlsx is not a workbook, despite its name"),
        (b"", "D120", "people.xlsx is empty: the file has 0 bytes"),
        (
            b"\xd0\xcf\x11\xe0" + bytes(600) + "EncryptedPackage".encode("utf-16-le"),
            "D120",
            "people.xlsx is encrypted",
        ),
        (
            b"\xd0\xcf\x11\xe0" + bytes(600),
            "D124",
            "people.xlsx cannot be read as a workbook: it is damaged or incomplete",
        ),
        (
            b"PK\x03\x04" + bytes(60),
            "D124",
            "people.xlsx is damaged or incomplete (File is not a zip file)",
        ),
    ],
)
def test_files_that_are_not_a_workbook(tmp_path, content, code, message):
    """Encrypted, old, renamed and broken files are told apart, each with a hint."""
    path = tmp_path / "people.xlsx"
    path.write_bytes(content)
    error = refused(path)
    assert (error.code, str(error), bool(error.hint)) == (code, message, True)


def test_another_zip_file_is_not_a_workbook(tmp_path):
    """A ZIP file of another kind is not a workbook."""
    path = tmp_path / "people.xlsx"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
    assert refused(path).code == "D124"


def test_a_zip_bomb_is_refused_by_its_directory(rewrite):
    """A small file that unpacks to a huge cell is refused before anything is parsed."""
    text = "x" * (40 << 20)
    path = rewrite(
        f'<sheetData><row r="1"><c r="A1" t="inlineStr"><is><t>{text}</t></is></c></row></sheetData>'
    )
    assert path.stat().st_size < 100_000
    error = refused(path)
    assert (error.code, str(error)) == (
        "D123",
        "people.xlsx would unpack to 40 MB (xl/worksheets/sheet1.xml: 40 MB)",
    )


def test_document_types_are_refused(rewrite):
    """No entity is ever expanded."""
    path = rewrite("<sheetData/>", declaration='<!DOCTYPE worksheet [<!ENTITY a "aaaa">]>')
    assert "document type" in str(refused(path))


def test_rows_out_of_order_are_refused(rewrite):
    """Rows that openpyxl would drop in silence are an error."""
    row = '<row r="{0}"><c r="A{0}"><v>1</v></c></row>'
    path = rewrite(f"<sheetData>{row.format(2)}{row.format(1)}</sheetData>")
    assert "row 1 comes after row 2" in str(refused(path))


def test_a_table_far_down_is_no_list(rewrite):
    """A sheet that begins with more blank rows than a list may have does not cost their time."""
    path = rewrite('<sheetData><row r="999999999"><c r="A999999999"><v>1</v></c></row></sheetData>')
    assert refused(path).hint == "the first cell with content is A999999999: move the table up"


def test_rows_and_cells_without_names(rewrite):
    """A sheet may leave row numbers and cell names out; formulas are found there, too."""
    cell = '<c t="inlineStr"><is><t>{}</t></is></c>'
    path = rewrite(
        f"<sheetData><row>{cell.format('email')}{cell.format('n')}</row>"
        f"<row>{cell.format('a@x.org')}<c><f>1+1</f><v/></c></row></sheetData>"
    )
    [recipient] = open_list(path)
    assert (recipient.row, recipient.values[0]) == (2, "a@x.org")
    assert [d.code for d in recipient.problems] == ["D132"]


@pytest.mark.parametrize("number", ["1e999999999", "-" + "9" * 400, "1e308"])
def test_numbers_that_no_sheet_writes_cost_their_row_only(rewrite, number):
    """An endless number or one of 400 digits ends no list: the other rows come out."""
    cell = '<c t="inlineStr"><is><t>{}</t></is></c>'
    path = rewrite(
        f"<sheetData><row>{cell.format('email')}{cell.format('n')}</row>"
        f"<row>{cell.format('a@x.org')}<c><v>{number}</v></c></row>"
        f"<row>{cell.format('b@x.org')}<c><v>7</v></c></row></sheetData>"
    )
    odd, fine = open_list(path)
    assert len(facts(odd.values)) == 2
    assert facts(fine.values) == ["b@x.org", (7, "7", "7")]


def test_damaged_workbooks_never_crash(tmp_path):
    """Whatever is done to a workbook's bytes, the outcome is rows or a ListError."""
    good = PEOPLE.read_bytes()
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    path = tmp_path / "people.xlsx"
    for _ in range(40):
        bad = bytearray(good)
        if chance.random() < 0.3:
            del bad[chance.randrange(len(bad)) :]
        for _ in range(chance.randrange(1, 20)):
            if bad:
                bad[chance.randrange(len(bad))] = chance.randrange(256)
        path.write_bytes(bad)
        try:
            list(open_list(path, sheet="People"))
        except ListError as error:
            assert error.code in {"D120", "D121", "D122", "D123", "D124", "D126", "D102", "D107", "D108"}  # noqa: PT017


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="counts open files in /proc")
def test_a_damaged_workbook_is_closed_again(tmp_path):
    """Also while the error is still being looked at, its file is not open any more."""
    path = tmp_path / "people.xlsx"
    with zipfile.ZipFile(PEOPLE) as source, zipfile.ZipFile(path, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content[: len(content) // 2] if name == "xl/styles.xml" else content)

    with pytest.raises(ListError) as caught:
        list(open_list(path))

    assert caught.value.code == "D124"
    opened = [os.path.realpath(link) for link in Path("/proc/self/fd").iterdir()]
    assert str(path) not in opened


def test_xml_noise_never_crashes(tmp_path):
    """Damage inside the unpacked sheet, not only in the zip, ends in rows or a ListError."""
    with zipfile.ZipFile(PEOPLE) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")  # noqa: T201  shown when the test fails
    chance = random.Random(seed)
    path = tmp_path / "people.xlsx"
    for name in ("xl/worksheets/sheet1.xml", "xl/styles.xml", "xl/sharedStrings.xml", "xl/workbook.xml"):
        for _ in range(8):
            bad = bytearray(parts[name])
            for _ in range(chance.randrange(1, 4)):
                bad[chance.randrange(len(bad))] = chance.choice(b'09azAZ<>"/ &')
            out = io.BytesIO()
            with zipfile.ZipFile(out, "w") as target:
                for part, content in {**parts, name: bytes(bad)}.items():
                    target.writestr(part, content)
            path.write_bytes(out.getvalue())
            try:
                list(open_list(path, sheet="People"))
            except ListError as error:
                assert error.hint or error.code == "D102"  # noqa: PT017


@pytest.mark.parametrize(
    ("name", "position"), [("A1", (1, 1)), ("XFD1048576", (1048576, 16384)), ("AA27", (27, 27))]
)
def test_cell_names(name, position):
    """Names and positions are each other's inverse."""
    assert cell_position(name) == position
    assert cell_name(*position) == name


def test_numbers_without_end():
    """What is not a number is reported; what is whole is an integer however large."""
    assert exact_number(float("inf")) is None
    assert str(exact_number(13800138000.0)) == "13800138000"


@pytest.mark.parametrize("suffix", [".xlsx", ".xls"])
def test_formats_for_texts(tmp_path, libreoffice, suffix):
    """A format with a section for texts writes them, too; most have none, or one that only keeps room."""
    book = openpyxl.Workbook()
    sheet = book["Sheet"]
    sheet.append(["email", "a", "b", "c", "d"])
    sheet.append(["a@x.org", "Ann", "Ann", "Ann", "Ann"])
    for column, code in zip("BCDE", ('"Dear "@', ";;;", "0.00_);@_)", "@"), strict=True):
        sheet[f"{column}2"].number_format = code
    book.save(tmp_path / "list.xlsx")
    if suffix != ".xlsx":
        libreoffice.convert([tmp_path / "list.xlsx"], suffix[1:], tmp_path)
    [recipient] = open_list(tmp_path / f"list{suffix}")
    assert recipient.values == ("a@x.org", "Dear Ann", "", "Ann", "Ann")


@pytest.mark.parametrize("code", ["hh:mm", "mm:ss.0", "h AM/PM", "yyyy-mm-dd", "dd.mm.yyyy hh:mm", "[h]:mm"])
@pytest.mark.parametrize("number", ["2958465.9999999", "-1e15", "2958466", "123456789012345678", "1e300"])
@pytest.mark.parametrize("date_1904", [False, True])
def test_a_moment_of_no_year_that_there_is_ends_no_list(code: str, number: str, date_1904: bool) -> None:
    """Whichever reader has found the number: the cell is an error, or shown, and reading continues."""
    cell = formatted_cell(Decimal(number), code, date_1904=date_1904)
    assert cell.code == "D171" if isinstance(cell, CellError) else code == "[h]:mm"
