"""Workbook, copy of the list, redaction and data frame; and that no page can make a run fail."""

from __future__ import annotations

import csv
import io
import json
import re
import stat
import tracemalloc
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import openpyxl
import pytest
from msgspec.structs import replace
from openpyxl.styles import Font, PatternFill

from mailmerge.campaign.results import ReportOptions, publish
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Delivery, Result, Status
from mailmerge.output_folder import OutputFolder
from mailmerge.recipients import open_list
from mailmerge.recipients.dialect import Dialect
from mailmerge.recipients.text_list import TextList
from mailmerge.report import results_workbook
from mailmerge.report.annotated_list import COPY_COLUMNS, copy_text, copy_workbook
from mailmerge.report.result_files import NAMES, ReportFiles, record, to_frame
from mailmerge.report.results_workbook import write_workbook
from mailmerge.report.summary import Redactor
from plans import people, standing

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.campaign.standing import Standing
    from mailmerge.report.report_page import PageFacts

STARTS = ("=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", '=HYPERLINK("http://evil.test")')


def result(row: int, status: Status = Status.REJECTED, reply: str = "no such user", **more: Any) -> Result:
    """Make a contacted row's result."""
    address = more.get("address", f"a{row}@example.org")
    delivery = Delivery(
        key=address,
        row=row,
        address=address,
        status=status,
        attempts=1,
        code=550,
        enhanced="5.1.1",
        reply=reply,
        updated=datetime(2026, 11, 22, 10, 0, tzinfo=UTC),
    )
    return Result(row, address, address, status, more.get("detail", ""), delivery)


# --- Nothing becomes a formula ------------------------------------------------------------------------


@pytest.mark.parametrize("start", STARTS)
def test_no_cell_of_the_workbook_is_a_formula(tmp_path, start):
    """Every cell is text, whatever it begins with."""
    path = tmp_path / "results.xlsx"
    write_workbook(path, [result(2, reply=start, address=f"{start}@example.org", detail=start)])
    sheet = openpyxl.load_workbook(path)["results"]

    kinds = {cell.data_type for row in sheet.iter_rows() for cell in row if cell.value is not None}
    assert kinds <= {"s", "inlineStr"}
    assert str(sheet["H2"].value).replace("\r", "\n") == start.replace("\r", "\n")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("start", STARTS)
def test_our_columns_of_text_files_are_quoted(tmp_path, start):
    """CSV cells get an apostrophe, JSON stays as it is."""
    ReportFiles(OutputFolder(tmp_path)).write([result(2, reply=start)], lambda _: None)
    with (tmp_path / "results.csv").open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))

    assert rows[0]["reply"] == "'" + start.replace("\t=", "\t'=").replace("\r=", "\r'=")
    assert json.loads((tmp_path / "results.jsonl").read_text("utf-8"))["reply"] == start


def test_a_workbook_takes_what_xml_cannot_hold(tmp_path):
    """Control characters, lone surrogates and endless replies do not make it fail."""
    path = tmp_path / "results.xlsx"
    write_workbook(path, [result(2, reply="\x00\x1b[31m\ud800\ufffe" + "x" * 40_000)])
    shown = str(openpyxl.load_workbook(path)["results"]["H2"].value)

    assert shown.startswith(r"\x00\x1b[31m\ud800\ufffe")
    assert len(shown) == 32_767


def test_a_workbook_begins_a_new_sheet_when_one_is_full(tmp_path, monkeypatch):
    """Every sheet has the headings."""
    monkeypatch.setattr(results_workbook, "ROWS_PER_SHEET", 2)
    path = tmp_path / "results.xlsx"
    write_workbook(path, [result(row) for row in range(2, 7)])
    book = openpyxl.load_workbook(path)

    assert book.sheetnames == ["results", "results (2)", "results (3)"]
    assert [sheet.max_row for sheet in book] == [3, 3, 2]
    assert [cell.value for cell in book["results (3)"][1]] == list(NAMES)


# --- the copy of the list -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoding", "delimiter", "end"),
    [("utf-8", ",", "\n"), ("utf-8-sig", ";", "\r\n"), ("gb18030", "\t", "\r\n"), ("utf-16", ",", "\n")],
)
def test_a_copied_text_list_keeps_its_own_cells(tmp_path, encoding, delimiter, end):
    """Quotes, blank rows, line breaks in cells and a missing last line end are as they were."""
    rows = [
        'email,"the name"',
        'a@example.org,"Müller, ""Jörg"""',
        "",
        'b@example.org,"two',
        'lines"',
        "c@x.org,张",
    ]
    text = end.join(rows).replace(",", delimiter)
    source, target = tmp_path / "list.csv", tmp_path / "copy.csv"
    source.write_bytes(text.encode(encoding))
    results = [result(2, Status.ACCEPTED, "Ok"), result(4, reply="=no; such, user")]
    count = copy_text(source, target, results, encoding=encoding, dialect=Dialect(delimiter), header_row=1)
    copied = target.read_bytes().decode(encoding)
    plain = list(csv.reader(copied.splitlines(keepends=True), delimiter=delimiter))

    assert count == 2
    assert [row[2:] for row in plain] == [
        list(COPY_COLUMNS),
        ["accepted", "550 5.1.1", "Ok"],
        [],
        ["rejected", "550 5.1.1", "'=no; such, user"],
        ["", "", ""],
    ]
    lines = copied.split(end)
    assert [line.startswith(row.replace(",", delimiter)) for line, row in zip(lines, rows, strict=True)] == [
        True
    ] * 6
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_a_copy_keeps_the_line_that_states_the_delimiter(tmp_path):
    """It stays the first line, and the rows below it are those that the list has."""
    source, target = tmp_path / "list.csv", tmp_path / "copy.csv"
    source.write_text("sep=;\nemail;plan\na@x.org;gold\nb@x.org;free\n", "utf-8")
    people = open_list(source)
    assert isinstance(people, TextList)
    rows = [one.row for one in people]
    copy_text(
        source,
        target,
        [result(rows[1])],
        encoding="utf-8",
        dialect=people.dialect,
        header_row=people.header_row,
    )

    assert target.read_text("utf-8").splitlines() == [
        "sep=;",
        "email;plan;mailmerge_status;mailmerge_code;mailmerge_reply",
        "a@x.org;gold;;;",
        "b@x.org;free;rejected;550 5.1.1;no such user",
    ]


def test_a_copy_of_a_copy_has_the_columns_once(tmp_path):
    """What an earlier copy added is replaced."""
    source, again = tmp_path / "list.csv", tmp_path / "again.csv"
    source.write_text(
        "email,mailmerge_status,plan,mailmerge_code,mailmerge_reply\na@x.org,old,gold,1,2\n", "utf-8"
    )
    copy_text(source, again, [result(2)], encoding="utf-8", dialect=Dialect(), header_row=1)

    assert again.read_text("utf-8").splitlines() == [
        "email,plan,mailmerge_status,mailmerge_code,mailmerge_reply",
        "a@x.org,gold,rejected,550 5.1.1,no such user",
    ]


def test_a_copied_workbook_keeps_styles_and_other_sheets(tmp_path):
    """Our columns look like the heading next to them, contain text only, and come once."""
    source, target = tmp_path / "list.xlsx", tmp_path / "copy.xlsx"
    book = openpyxl.Workbook()
    sheet: Any = book.active
    sheet.title = "People"
    for row in ([], ["email", "sum"], ["a@example.org", "=1+1"], [], ["b@example.org", 2]):
        sheet.append(row)
    sheet["A2"].font = sheet["B2"].font = Font(bold=True, color="FF0000")
    sheet["B3"].fill = PatternFill("solid", fgColor="00FF00")
    sheet.column_dimensions["A"].width = 44
    book.create_sheet("Notes")["A1"] = "keep me"
    book.save(source)
    results = [result(3, Status.ACCEPTED, "=1+1"), result(5)]
    for one, other in ((source, target), (target, tmp_path / "again.xlsx")):
        assert copy_workbook(one, other, results, sheet="People", header_row=2, column=3) == 2
        copied = openpyxl.load_workbook(other)
        page = copied["People"]

        assert [cell.value for cell in page[2]] == ["email", "sum", *COPY_COLUMNS]
        assert [cell.value for cell in page[3]] == ["a@example.org", "=1+1", "accepted", "550 5.1.1", "=1+1"]
        assert [cell.data_type for cell in page[3]] == ["s", "f", "s", "s", "s"]
        assert page["C5"].value == "rejected"
        assert page["C2"].font.bold
        assert page["B3"].fill.fgColor.rgb == "0000FF00"
        assert page.column_dimensions["A"].width == 44
        assert copied["Notes"]["A1"].value == "keep me"
        assert stat.S_IMODE(other.stat().st_mode) == 0o600


def _workbook(path: Path, sheet: bytes, *, macros: bool = False) -> None:
    """Make a workbook whose only sheet is *sheet*, in a file that openpyxl wrote."""
    book = openpyxl.Workbook()
    made = io.BytesIO()
    book.save(made)
    with zipfile.ZipFile(made) as old, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as new:
        for name in old.namelist():
            content = old.read(name)
            if macros and name == "[Content_Types].xml":
                binary = (
                    b'<Default Extension="bin" ContentType="application/vnd.ms-office.vbaProject"/></Types>'
                )
                content = content.replace(PLAIN, MACROS).replace(b"</Types>", binary)
            elif macros and name.endswith("workbook.xml.rels"):
                content = content.replace(b"</Relationships>", VBA + b"</Relationships>")
            new.writestr(name, sheet if name == "xl/worksheets/sheet1.xml" else content)
        if macros:
            new.writestr("xl/vbaProject.bin", b"macros")


PLAIN = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"
MACROS = b"application/vnd.ms-excel.sheet.macroEnabled.main+xml"
VBA = (
    b'<Relationship Id="rV" Target="vbaProject.bin" '
    b'Type="http://schemas.microsoft.com/office/2006/relationships/vbaProject"/>'
)
SHEET = (
    '<?xml version="1.0" encoding="UTF-16"?>'
    '<x:worksheet xmlns:x="http://schemas.openxmlformats.org/spreadsheetml/2006/main">'
    '<x:dimension ref="A1:B3"/><x:cols><x:col min="2" max="9" width="5" hidden="1"/></x:cols><x:sheetData>'
    '<x:row r="1" spans="1:2"><x:c r="A1" t="inlineStr"><x:is><x:t>email</x:t></x:is></x:c>'
    '<x:c r="B1" t="inlineStr"><x:is><x:t>名</x:t></x:is></x:c></x:row><x:row r="2"/>'
    '<x:row><x:c t="inlineStr"><x:is><x:t>a@x.org</x:t></x:is></x:c><x:c r="C3"><x:v>1</x:v></x:c>'
    '<x:c r="D3"/><x:c r="G3"><x:v>7</x:v></x:c></x:row></x:sheetData></x:worksheet>'
)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_copied_sheet_is_the_same_but_for_our_columns(tmp_path, encoding):
    """Prefixes, empty rows, cells without names and behind ours; no column is said to be twice as wide."""
    source, target = tmp_path / "list.xlsx", tmp_path / "copy.xlsx"
    _workbook(source, SHEET.replace("UTF-16", encoding).encode(encoding))
    count = copy_workbook(source, target, [result(3)], sheet="Sheet", header_row=1, column=3)
    page = openpyxl.load_workbook(target)["Sheet"]
    with zipfile.ZipFile(target) as archive:
        written = archive.read("xl/worksheets/sheet1.xml").decode()

    assert count == 1
    assert [[cell.value for cell in row] for row in page.iter_rows()] == [
        ["email", "名", *COPY_COLUMNS, None, None],
        [None] * 7,
        ["a@x.org", None, "rejected", "550 5.1.1", "no such user", None, 7],
    ]
    columns = [dict(re.findall(r'(\w+)="(\d+)"', column)) for column in re.findall("<x:col .*?>", written)]
    assert [(one["min"], one["max"], one["width"]) for one in columns] == [
        ("2", "2", "5"), ("3", "3", "16"), ("4", "4", "12"), ("5", "5", "60"), ("6", "9", "5"),
    ]  # fmt: skip
    assert re.findall(r'ref="([^"]*)"', written) == ["A1:E3"]
    assert "spans" not in written


@pytest.mark.parametrize(("suffix", "kept"), [(".xlsx", False), (".xlsm", True)])
def test_macros_are_copied_only_into_a_file_that_is_named_so(tmp_path, suffix, kept):
    """The kind of the file, its relations and its parts agree with its name."""
    source, target = tmp_path / "list.xlsm", tmp_path / f"copy{suffix}"
    _workbook(source, SHEET.encode("utf-16"), macros=True)
    copy_workbook(source, target, [result(3)], sheet="Sheet", header_row=1, column=3)
    with zipfile.ZipFile(target) as archive:
        everything = b"".join(name.encode() + archive.read(name) for name in archive.namelist())

    assert (MACROS in everything, b"vba" in everything, PLAIN in everything) == (kept, kept, not kept)
    assert openpyxl.load_workbook(target)["Sheet"]["C3"].value == "rejected"


def test_a_copy_of_a_large_workbook_is_written_row_by_row(tmp_path):
    """What is in memory does not grow with the list: of 3,000 rows with 30 columns it was 45 MB."""
    row = "".join(f'<c t="n"><v>{number}</v></c>' for number in range(30))
    head = "".join(f'<c t="inlineStr"><is><t>c{number}</t></is></c>' for number in range(30))
    main = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
    rows = f"<row>{head}</row>" + f"<row>{row}</row>" * 3000
    source, target = tmp_path / "list.xlsx", tmp_path / "copy.xlsx"
    _workbook(source, f'<worksheet xmlns="{main}"><sheetData>{rows}</sheetData></worksheet>'.encode())
    results = [result(number) for number in range(2, 3002)]
    tracemalloc.start()
    try:
        count = copy_workbook(source, target, results, sheet="Sheet", header_row=1, column=31)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert count == 3000
    assert peak < 4 << 20


# --- Sharing --------------------------------------------------------------------------------------------


def test_redacted_results_name_nobody():
    """Addresses, keys and cells are gone from every text; the same person has the same hash."""
    one = Result(
        2,
        "ana@example.org",
        "Ana@example.org",
        Status.INVALID,
        'line break in `first`: "Ana Smith"',
        result(2, reply="<ANA@example.org>: user ana unknown, ask bo@example.net").delivery,
    )
    redactor = Redactor(b"secret")
    shown = redactor.result(one)
    text = json.dumps(record(shown)).lower()

    assert "ana@" not in text
    assert "ana " not in text
    assert "bo@" not in text
    assert "smith" not in text
    assert shown.address == redactor.address("ANA@example.org")
    assert shown.address.endswith("@example.org")
    assert shown.key == shown.address
    assert redactor.address("ana@example.org") != Redactor(b"other").address("ana@example.org")
    assert redactor.address("no address") == redactor.address("no address")
    assert "no" not in redactor.address("no address").split("@")


@pytest.mark.parametrize(
    "spelt",
    [
        "ana.b@münchen.example",
        "ANA.B@xn--mnchen-3ya.example",
        "ana.b%40xn--mnchen-3ya.example",
        "%61na.b@xn--mnchen-3ya.example",
        "ana.b=40xn--mnchen-3ya.example",
        "=61na.b=40xn--mnchen-3ya.example",
        "ana.b+40xn--mnchen-3ya.example",
        "ana.b&#64;xn--mnchen-3ya.example",
        '"ana.b"@xn--mnchen-3ya.example',
        "bounces+ana.b=xn--mnchen-3ya.example@lists.example",
        "out/00002-ana.b@xn--mnchen-3ya.example.eml",
        "files/ana.b.pdf",
    ],
)
def test_f43_an_address_is_hidden_in_every_spelling(spelt: str) -> None:
    """Case, IDN, percent-encoding, quoted-printable, xtext, VERP, file names: no spelling is left."""
    redactor = Redactor(b"secret")
    shown = redactor.result(result(2, address="ana.b@xn--mnchen-3ya.example", reply=f"550 no: <{spelt}> x"))
    assert shown.delivery is not None
    reply = shown.delivery.reply

    assert not re.search("ana|61na", reply, re.IGNORECASE)
    if spelt[0] in "aA%=":
        assert redactor.address("ana.b@münchen.example").partition("@")[0] in reply
    assert reply.startswith("550 no: ")


@pytest.mark.parametrize(
    "text", ["jo@x.example", "jo%40x.example", "v+jo=x.example@l.example", "JO=40x.example"]
)
def test_f43_short_names_are_hidden_before_their_domain(text: str) -> None:
    """Two letters are part of many words: they are hidden where they are an address."""
    shown = Redactor(b"secret").result(result(2, address="jo@x.example", reply=f"550 <{text}> joins"))
    assert shown.delivery is not None

    assert "joins" in shown.delivery.reply
    assert not re.search(r"\bjo\b|[<+]jo", shown.delivery.reply, re.IGNORECASE)


def test_f43_quotes_in_a_cell_hide_nothing_less() -> None:
    """What a diagnostic quotes is left out up to its very end, also where it was cut off."""
    redactor = Redactor(b"secret")
    for detail in ('no: "Ana \\"the Fox\\" Smith" here', 'no: "Ana Smi'):
        shown = redactor.result(replace(result(2), detail=detail)).detail
        assert shown in ('no: "…" here', 'no: "…"')


def scratch() -> Standing:
    """Make a ledger with two rows that were never contacted."""
    ledger = Ledger.scratch(None, "spring")
    ana, kim = people("ana@example.org", "x")
    wrong = replace(
        kim, address="kim@gmial,com", status=Status.INVALID, detail='"kim@gmial,com" is not an address'
    )
    return standing(ledger, replace(ana, address="ana@example.org"), wrong)


def facts() -> PageFacts:
    """Return the least that a page needs."""
    from mailmerge.report.report_page import PageFacts

    return PageFacts("spring")


def test_f43_everything_shared_is_redacted_and_private(tmp_path):
    """All files for sharing contain hashes; failed.csv with the user's own cells is not written."""
    with (found := scratch()).ledger:
        published = publish(found, None, tmp_path, facts, ReportOptions(workbook=True, redact=True))
    files = sorted((tmp_path / "redacted").iterdir())

    assert [path.name for path in files] == [
        ".written",
        "report.html",
        "results.csv",
        "results.jsonl",
        "results.xlsx",
    ]
    assert published.page == tmp_path / "redacted" / "report.html"
    assert {stat.S_IMODE(path.stat().st_mode) for path in files} == {0o600}
    for path in files[:-1]:
        text = path.read_text("utf-8")
        assert "ana@" not in text
        assert "kim" not in text
    sheet = openpyxl.load_workbook(files[-1])["results"]
    cells = {str(cell.value) for row in sheet.iter_rows() for cell in row}
    assert not [cell for cell in cells if "ana" in cell or "kim" in cell]


def test_no_page_makes_a_run_fail(tmp_path):
    """Whatever goes wrong with it, results and summary are there, and no older page pretends to be new."""

    def broken() -> PageFacts:
        raise ZeroDivisionError

    with (found := scratch()).ledger:
        assert publish(found, None, tmp_path, facts).page == tmp_path / "report.html"
        published = publish(found, None, tmp_path, broken)

    assert published.page is None
    assert published.summary.counts.total == 2
    assert sorted(path.name for path in tmp_path.iterdir()) == [".written", "results.csv", "results.jsonl"]


def test_where_nothing_can_be_written_the_summary_remains(tmp_path):
    """A file where the folder should be costs the files only."""
    (tmp_path / "out").write_text("", "utf-8")
    with (found := scratch()).ledger:
        published = publish(found, None, tmp_path / "out", facts)

    assert published.out is None
    assert published.page is None
    assert published.summary.counts[Status.INVALID] == 1


# --- data frames ----------------------------------------------------------------------------------------


def test_a_frame_has_the_columns_of_the_results():
    """Whole numbers stay whole beside missing ones, times know their zone."""
    frame = to_frame(map(record, [result(2), Result(None, "k", "x@y.org", Status.PENDING)]))

    assert list(frame.columns) == list(NAMES)
    assert frame["row"].tolist()[0] == 2
    assert frame["row"].isna().tolist() == [False, True]
    assert str(frame["code"].dtype) == "Int64"
    assert frame["updated"].iloc[0] == datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
    assert str(frame["next_at"].dt.tz) == "UTC"
    assert frame["status"].tolist() == ["rejected", "pending"]
    assert to_frame(()).empty
