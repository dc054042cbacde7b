"""Our reader of workbooks: as openpyxl on what programs write, and on handmade files of every odd form."""

# ruff: noqa: DTZ001, E501, ISC004  the dates of a sheet have no time zone; XML by hand is wide

from __future__ import annotations

import io
import sys
import zipfile
from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from xml.parsers import expat

import openpyxl
import pytest
import xlsxwriter
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from mailmerge.errors import ListError
from mailmerge.model import Status
from mailmerge.recipients import open_list
from mailmerge.recipients.cells import exact_number, formatted_cell
from mailmerge.recipients.openpyxl_workbook import OpenpyxlWorkbook
from mailmerge.recipients.recipient_list import CellError
from mailmerge.recipients.xlsx import XlsxWorkbook
from mailmerge.recipients.xlsx_cells import Cells, SharedTexts, exact
from mailmerge.recipients.xlsx_package import DocumentTypeError
from mailmerge.values import Value, displayed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
STRICT = "http://purl.oclc.org/ooxml/spreadsheetml/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"

TYPES = '<?xml version="1.0"?><Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"/>'
ROOT = (
    f'<Relationships xmlns="{PACKAGE}"><Relationship Id="r" Type="{OFFICE}/officeDocument" '
    'Target="xl/workbook.xml"/></Relationships>'
)
RELATIONS = (
    f'<Relationships xmlns="{PACKAGE}">'
    f'<Relationship Id="r1" Type="{OFFICE}/worksheet" Target="worksheets/sheet1.xml"/>'
    f'<Relationship Id="r2" Type="{OFFICE}/sharedStrings" Target="sharedStrings.xml"/>'
    f'<Relationship Id="r3" Type="{OFFICE}/styles" Target="styles.xml"/></Relationships>'
)
STYLES = (
    f'<styleSheet xmlns="{MAIN}"><numFmts><numFmt numFmtId="164" formatCode="yyyy-mm-dd"/>'
    '<numFmt numFmtId="165" formatCode="00000"/></numFmts><cellStyleXfs><xf numFmtId="165"/></cellStyleXfs>'
    '<cellXfs><xf numFmtId="0"/><xf numFmtId="164"/><xf numFmtId="165"/><xf numFmtId="21"/></cellXfs>'
    '<dxfs><dxf><numFmt numFmtId="164" formatCode="[Red]0"/></dxf></dxfs></styleSheet>'
)


def book(
    *, data: str = "", before: str = "", after: str = "", texts: str = "", **parts: str | bytes
) -> bytes:
    """Make a workbook without a library: *data* is the XML of the rows; *parts* replace others by name."""
    workbook = (
        f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets>'
        "</workbook>"
    )
    made: dict[str, str | bytes] = {
        "[Content_Types].xml": TYPES,
        "_rels/.rels": ROOT,
        "xl/workbook.xml": workbook,
        "xl/_rels/workbook.xml.rels": RELATIONS,
        "xl/styles.xml": STYLES,
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{texts}</sst>',
        "xl/worksheets/sheet1.xml": (
            f'<worksheet xmlns="{MAIN}" xmlns:r="{OFFICE}">{before}<sheetData>{data}</sheetData>{after}'
            "</worksheet>"
        ),
        **parts,
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in made.items():
            if content:
                archive.writestr(name, content)
    return out.getvalue()


@pytest.fixture
def rows(tmp_path: Path) -> Callable[..., list[Any]]:
    """Read such a workbook: number, cells in short, whether it is hidden."""

    def read(content: bytes) -> list[Any]:
        path = tmp_path / "list.xlsx"
        path.write_bytes(content)
        made = XlsxWorkbook(path, "list.xlsx")
        return [
            (row.number, [short(cell) for cell in row.cells], *(["hidden"] if row.hidden else []))
            for row in made.rows(made.sheets[0])
        ]

    return read


def short(cell: Any) -> Any:
    """Return text unchanged, a value's displayed text in brackets, and the code of an error."""
    if isinstance(cell, CellError):
        return cell.code
    return f"<{cell.displayed}>" if isinstance(cell, Value) else cell


INLINE = '<c r="{}" t="inlineStr"><is><t>{}</t></is></c>'


# --- the oracle ----------------------------------------------------------------------------------------

FORMATS = ["General", "0.00", "00000", "#,##0", "0%", "yyyy-mm-dd", "dd.mm.yyyy hh:mm", "[h]:mm", "@"]
MARKS = "x_0D<&>\"' \t\n\u00e9\u5f20\U0001f600"
NUMBERS = st.integers(-(10**16), 10**16) | st.floats(allow_nan=False, allow_infinity=False, width=32)
OTHERS = st.one_of(
    st.none(),
    st.text(st.sampled_from(MARKS), max_size=12).filter(lambda text: "_x" not in text),
    st.booleans(),
    st.datetimes(datetime(1901, 1, 1), datetime(2200, 1, 1)).map(lambda at: at.replace(microsecond=0)),
)
CELLS = st.tuples(NUMBERS, st.sampled_from(FORMATS[:5])) | st.tuples(OTHERS, st.sampled_from(FORMATS))
TABLES = st.lists(st.lists(CELLS, max_size=6), max_size=8)


def by_openpyxl(path: Path, table: list[Any]) -> None:
    """Write a table with openpyxl, texts in their cells."""
    made = openpyxl.Workbook(write_only=True)
    sheet = made.create_sheet("S")
    for line in table:
        cells = []
        for value, code in line:
            cell = openpyxl.cell.WriteOnlyCell(sheet, value)
            if isinstance(value, str):
                cell.data_type = "s"  # no formulas
            cell.number_format = code
            cells.append(cell)
        sheet.append(cells)
    made.save(path)


def by_xlsxwriter(path: Path, table: list[Any], *, inline: bool) -> None:
    """Write a table with XlsxWriter, texts shared or in their cells."""
    made = xlsxwriter.Workbook(path, {"constant_memory": inline})
    sheet = made.add_worksheet("S")
    formats = {code: made.add_format({"num_format": code}) for code in FORMATS}
    for row, line in enumerate(table):
        for column, (value, code) in enumerate(line):
            writes = {str: sheet.write_string, datetime: sheet.write_datetime, bool: sheet.write_boolean}
            if value is None or value == "":
                sheet.write_blank(row, column, None, formats[code])
            else:
                writes.get(type(value), sheet.write_number)(row, column, value, formats[code])
    made.close()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TABLES, st.sampled_from(["openpyxl", "shared", "inline"]))
def test_cells_are_those_that_openpyxl_reads(tmp_path: Path, table: list[Any], writer: str) -> None:
    """Whatever is in the cells and whoever wrote them, rows, values and displayed texts are the same."""
    path = tmp_path / "list.xlsx"
    if writer == "openpyxl":
        by_openpyxl(path, table)
    else:
        by_xlsxwriter(path, table, inline=writer == "inline")

    found = [facts(made(path, "list.xlsx")) for made in (XlsxWorkbook, OpenpyxlWorkbook)]

    assert found[0] == found[1]


def facts(made: Any) -> list[Any]:
    """Return all that is known of the cells of a workbook's first sheet, without empty ones at the ends."""
    found = []
    for row in made.rows(made.sheets[0]):
        cells = [
            (type(cell).__name__, str(cell), cell.canonical) if isinstance(cell, Value) else cell
            for cell in row.cells
        ]
        while cells and cells[-1] == "":
            cells.pop()
        found.append((row.number, cells))
    return found


# --- odd forms, by hand --------------------------------------------------------------------------------

ROWS = {
    "rich text without how it is pronounced": (
        '<row r="1"><c r="A1" t="s"><v>0</v></c></row>',
        '<si><r><rPr><b/></rPr><t>Ann</t></r><r><t xml:space="preserve"> Lee</t></r>'
        '<rPh sb="0" eb="1"><t>アン</t></rPh><phoneticPr fontId="1"/></si>',
        [(1, ["Ann Lee"])],
    ),
    "rich text in its cell": (
        '<row r="1"><c r="A1" t="inlineStr"><is><r><t>a</t></r><rPh sb="0" eb="1"><t>x</t></rPh>'
        "<r><t> b </t></r></is></c></row>",
        "",
        [(1, ["a b "])],
    ),
    "text of a formula keeps its blanks": (
        '<row r="1">\n <c r="A1" t="str">\n<f>B1</f>\n<v> a </v>\n</c>\n<c r="B1"> <v> 5 </v> </c></row>',
        "",
        [(1, [" a ", "<5>"])],
    ),
    "booleans and errors": (
        '<row r="1"><c r="A1" t="b"><v>1</v></c><c r="B1" t="b"><v>false</v></c><c r="C1" t="e"><v>#N/A</v></c>'
        '<c r="D1" t="b"><v>2</v></c><c r="E1" t="x"><v>2</v></c></row>',
        "",
        [(1, ["<TRUE>", "<FALSE>", "D131", "D165", "D165"])],
    ),
    "dates as ISO 8601 writes them": (
        '<row r="1"><c r="A1" t="d" s="1"><v>2026-03-05T00:00:00</v></c><c r="B1" t="d"><v>2026-03-05</v></c>'
        '<c r="C1" t="d"><v>2026-03-05T14:30:00Z</v></c><c r="D1" t="d" s="3"><v>09:05:00</v></c>'
        '<c r="E1" t="d"><v>2026-99-99</v></c></row>',
        "",
        [(1, ["<2026-03-05>", "<2026-03-05>", "<2026-03-05 14:30>", "<9:05:00>", "D165"])],
    ),
    "rows and cells without names": (
        "<row><c><v>1</v></c><c/><c><v>2</v></c></row><row r='4'><c r='B4'/><c><v>3</v></c></row><row>"
        "<c><v>4</v></c></row>",
        "",
        [(1, ["<1>", "", "<2>"]), (4, ["", "", "<3>"]), (5, ["<4>"])],
    ),
    "cells out of order": (
        '<row r="2"><c r="C2"><v>3</v></c><c r="A2"><v>1</v></c></row>',
        "",
        [(2, ["<1>", "", "<3>"])],
    ),
    "hidden by hand, by a filter, and by a height of nothing": (
        '<row r="1" hidden="1"><c r="A1"><v>1</v></c></row><row r="2" hidden="true"><c r="A2"><v>1</v></c></row>'
        '<row r="3" ht="0" customHeight="1"><c r="A3"><v>1</v></c></row><row r="4" hidden="0" ht="15">'
        '<c r="A4"><v>1</v></c></row>',
        "",
        [(1, ["<1>"], "hidden"), (2, ["<1>"], "hidden"), (3, ["<1>"], "hidden"), (4, ["<1>"])],
    ),
    "comments, CDATA and entities": (
        '<!-- <row r="1"/> --><row r="1"><c r="A1" t="inlineStr"><is><t><![CDATA[<a&b>]]></t></is></c>'
        '<c r="B1" t="inlineStr"><is><t>&lt;&#233;&amp;</t></is></c></row>',
        "",
        [(1, ["<a&b>", "<é&"])],
    ),
    "entities in rows that are else plain": (
        '<row r="1"><c r="A1" t="inlineStr"><is><t>a&amp;b</t></is></c></row>'
        '<row r="2"><c r="A2" t="inlineStr"><is><t>c</t></is></c></row>',
        "",
        [(1, ["a&b"]), (2, ["c"])],
    ),
    "characters as the format writes them": (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" t="inlineStr"><is><t>_x0041_ _x005f_x0041_</t></is></c>'
        '<c r="C1" t="inlineStr"><is><t>_xD800_</t></is></c></row>',
        "<si><t>a_x000D_b_x005F_x000D_c</t></si>",
        [(1, ["a\rb_x000D_c", "A _x0041_", "_xD800_"])],
    ),
    "numbers": (
        '<row r="1"><c r="A1"><v>0.1</v></c><c r="B1"><v>0.30000000000000004</v></c><c r="C1"><v>-0</v></c>'
        '<c r="D1"><v>1E3</v></c><c r="E1"><v>3.0</v></c><c r="F1" s="2"><v>716</v></c><c r="G1"><v>1_0</v></c>'
        '<c r="H1"><v>٣</v></c><c r="I1"><v>nan</v></c></row>',
        "",
        [(1, ["<0.1>", "<0.3>", "<0>", "<1000>", "<3>", "<00716>", "D165", "D165", "D165"])],
    ),
    "texts and formats that are not there": (
        '<row r="1"><c r="A1" t="s"><v>1</v></c><c r="B1" t="s"><v>-1</v></c><c r="C1" s="9"><v>1</v></c>'
        '<c r="D1" t="s"><v>0</v></c><c r="E1" t="s"/><c r="F1" t="s"><v/></c></row>',
        "<si><t>there</t></si>",
        [(1, ["D165", "D165", "D165", "there"])],
    ),
    "formulas": (
        '<row r="1"><c r="A1"><f>B1</f><v>0</v></c><c r="B1"><f>1</f></c><c r="C1" t="str"><f>""</f><v></v></c>'
        '<c r="D1"><f>1</f><v/></c><c r="E1"><f t="shared" si="0"/><v>5</v></c></row>',
        "",
        [(1, ["<0>", "D132", "", "D132", "<5>"])],
    ),
    "empty texts and blank rows": (
        '<row r="1"><c r="A1" t="s"><v>0</v></c><c r="B1" s="1"/></row><row r="2"/><row r="3"><c r="A3"><v>1</v></c>'
        "</row>",
        "<si><t/></si>",
        [(3, ["<1>"])],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", ROWS)
def test_odd_rows(rows: Callable[..., list[Any]], case: str) -> None:
    """Each form that a program may write is read as a spreadsheet program reads it."""
    data, texts, expected = ROWS[case]
    assert rows(book(data=data, texts=texts)) == expected


DAMAGED = {
    "a cell twice": '<row r="1"><c r="A1"><v>1</v></c><c r="A1"><v>2</v></c></row>',
    "a cell of another row": '<row r="3"><c r="A13"><v>1</v></c></row>',
    "a cell without a column": '<row r="3"><c r="3"><v>1</v></c></row>',
    "a row twice": '<row r="1"><c r="A1"><v>1</v></c></row><row r="1"><c r="A1"><v>1</v></c></row>',
    "an open element": '<row r="1"><c r="A1"><v>1</v></row>',
    "the end is missing": '<row r="1"><c r="A1"><v>1</v></c></row></sheetData',
    "no characters": '<row r="1"><c r="A1" t="inlineStr"><is><t>\x01</t></is></c></row>',
}


@pytest.mark.parametrize("case", DAMAGED)
def test_damaged_rows(rows: Callable[..., list[Any]], case: str) -> None:
    """What no program writes is refused, not guessed at."""
    with pytest.raises(ListError) as caught:
        rows(book(data=DAMAGED[case]))
    assert caught.value.code == "D124"


ANN = f'<row r="1">{INLINE.format("A1", "Ann")}</row>'
SHARED = '<row r="1"><c r="A1" t="s"><v>0</v></c></row>'
SHEET = f'<worksheet xmlns="{MAIN}"><sheetData>{ANN}</sheetData></worksheet>'
PACKAGES: dict[str, dict[str, Any]] = {
    "strict": {
        "xl/worksheets/sheet1.xml": SHEET.replace(MAIN, STRICT),
        "_rels/.rels": ROOT.replace(OFFICE, "http://purl.oclc.org/ooxml/officeDocument/relationships"),
    },
    "prefixes": {
        "xl/worksheets/sheet1.xml": SHEET.replace("</", "</x:")
        .replace("<", "<x:").replace("<x:/x:", "</x:").replace("xmlns=", "xmlns:x="),
        "xl/workbook.xml": f'<m:workbook xmlns:m="{MAIN}" xmlns:q="{OFFICE}"><m:sheets>'
        '<m:sheet name="S" sheetId="1" q:id="r1"/></m:sheets></m:workbook>',
    },
    "UTF-16": {
        "xl/worksheets/sheet1.xml": f'<?xml version="1.0" encoding="UTF-16"?>{SHEET}'.encode("utf-16"),
        "xl/workbook.xml": "",
        "xl/_rels/workbook.xml.rels": "",
        "XL\\Workbook.xml": f'<?xml version="1.0" encoding="utf-16"?><workbook xmlns="{MAIN}" xmlns:r="{OFFICE}">'
        '<sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>'.encode("utf-16"),
        "XL\\_RELS\\workbook.XML.rels": RELATIONS,
    },
    "Latin-1": {
        "xl/worksheets/sheet1.xml": f'<?xml version="1.0" encoding="iso-8859-1"?>{SHEET}'.encode("latin-1"),
    },
    "absolute names": {"xl/_rels/workbook.xml.rels": RELATIONS.replace('Target="', 'Target="/XL/')},
    "names with backslashes": {
        "xl/_rels/workbook.xml.rels": RELATIONS.replace("worksheets/sheet1", ".\\worksheets\\sheet1")
    },
    "parts elsewhere": {
        "_rels/.rels": ROOT.replace("xl/workbook.xml", "/book/main.xml"),
        "book/main.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><sheets><sheet name="S" sheetId="1" '
        'r:id="r1"/></sheets></workbook>',
        "book/_rels/main.xml.rels": RELATIONS.replace('Target="', 'Target="../xl/'),
    },
    "no shared texts": {"xl/sharedStrings.xml": ""},
    "no styles": {"xl/styles.xml": ""},
    "no relations of the package": {"_rels/.rels": ""},
    "styles that are broken": {"xl/styles.xml": STYLES.replace("<dxfs>", '<fills><fill x="y"/></fills><dxfs>')},
}  # fmt: skip


@pytest.mark.parametrize("case", PACKAGES)
def test_odd_packages(rows: Callable[..., list[Any]], case: str) -> None:
    """Parts are found and read however they are named, prefixed and encoded."""
    assert rows(book(data=ANN, **PACKAGES[case])) == [(1, ["Ann"])]


def test_parts_that_declare_a_document_type_are_refused(tmp_path: Path) -> None:
    """In any part: nothing is expanded, nothing fetched, and openpyxl is not asked either."""
    declared = '<?xml version="1.0"?><!DOCTYPE a [<!ENTITY b "c">]>'
    for part in ("xl/workbook.xml", "xl/_rels/workbook.xml.rels", "xl/styles.xml", "xl/sharedStrings.xml"):
        with zipfile.ZipFile(io.BytesIO(book(data=SHARED, texts="<si><t>Ann</t></si>"))) as archive:
            text = archive.read(part).decode()
        path = tmp_path / "list.xlsx"
        path.write_bytes(book(data=SHARED, texts="<si><t>Ann</t></si>", **{part: declared + text}))
        with pytest.raises(ListError, match="document type"):
            list(open_list(path))


def test_dates_count_from_1904_where_the_workbook_says_so(rows: Callable[..., list[Any]]) -> None:
    """The same number is four years and a day later."""
    data = '<row r="1"><c r="A1" s="1"><v>44623</v></c></row>'
    with zipfile.ZipFile(io.BytesIO(book())) as archive:
        text = archive.read("xl/workbook.xml").decode()
    mac = text.replace("<sheets>", '<workbookPr date1904="1"/><sheets>')
    assert rows(book(data=data)) == [(1, ["<2022-03-03>"])]
    assert rows(book(data=data, **{"xl/workbook.xml": mac})) == [(1, ["<2026-03-04>"])]


def test_formulas_that_are_to_be_calculated_first(rows: Callable[..., list[Any]]) -> None:
    """Where the workbook says that results are to be recalculated, 0 and nothing are not results."""
    data = (
        '<row r="1"><c r="A1"><f>B1</f><v>0</v></c><c r="B1"><f>1</f><v>7</v></c><c r="C1" t="str"><f>""</f><v></v>'
        '</c><c r="D1"><v>0</v></c><c r="E1"><f t="array" ref="E1:E2">B1</f><v>0</v></c></row>'
        '<row r="2"><c r="D2"><v>0</v></c><c r="E2"><v>0</v></c></row><row r="3"><c r="E3"><v>0</v></c></row>'
    )
    with zipfile.ZipFile(io.BytesIO(book())) as archive:
        text = archive.read("xl/workbook.xml").decode()
    anew = text.replace("</workbook>", '<calcPr calcId="1" fullCalcOnLoad="1"/></workbook>')
    assert rows(book(data=data)) == [
        (1, ["<0>", "<7>", "", "<0>", "<0>"]),
        (2, ["", "", "", "<0>", "<0>"]),
        (3, ["", "", "", "", "<0>"]),
    ]
    assert rows(book(data=data, **{"xl/workbook.xml": anew})) == [
        (1, ["D132", "<7>", "D132", "<0>", "D132"]),
        (2, ["", "", "", "<0>", "D132"]),
        (3, ["", "", "", "", "<0>"]),
    ]


KINDS = st.sampled_from(["", "n", "s", "b", "e", "str", "d"])
FORMULAS = st.sampled_from(
    [
        "",
        "<f>B1&amp;&quot;x&quot;</f>",
        "<f/>",
        '<f t="shared" si="0"/>',
        '<f t="array" ref="A1:C2">B1</f>',
        "<f>HYPERLINK(&quot;mailto:a@example.org&quot;,1)</f>",
        '<f ca="1">hyperlink("https://example.org/?a=1&amp;b=2")</f>',
    ]
)
RESULTS = st.sampled_from(
    [
        "",
        "<v/>",
        "<v></v>",
        *(
            f"<v>{text}</v>"
            for text in ["0", "0.0", "-0", "7", "-1", "1", "99", " 5 ", "1e3", "&#49;", "a&lt;b", "#N/A", "x"]
        ),
    ]
)
SHEETS = st.lists(
    st.lists(st.tuples(KINDS, FORMULAS, RESULTS), min_size=1, max_size=4), min_size=1, max_size=3
)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
@example(sheet=[[("s", "", "<v>1</v>"), ("s", "", "<v>-1</v>")]], recalculated=False)
@given(sheet=SHEETS, recalculated=st.booleans())
def test_both_ways_to_read_a_row_agree(tmp_path: Path, sheet: list[Any], recalculated: bool) -> None:
    """What one expression reads is what the XML parser reads, formulas, their links and bad cells included."""
    data = ""
    for number, line in enumerate(sheet, 1):
        cells = zip("ABCD", line, strict=False)
        data += f'<row r="{number}">'
        for letter, (kind, formula, result) in cells:
            data += f'<c r="{letter}{number}"' + (f' t="{kind}"' if kind else "") + f">{formula}{result}</c>"
        data += "</row>"
    with zipfile.ZipFile(io.BytesIO(book())) as archive:
        text = archive.read("xl/workbook.xml").decode()
    if recalculated:
        text = text.replace("</workbook>", '<calcPr calcId="1" fullCalcOnLoad="1"/></workbook>')
    read = []
    for before in ("", "<!-- a comment goes to the parser -->"):
        path = tmp_path / "list.xlsx"
        texts = "<si><t>Ann</t></si><si><t>Bo</t></si>"
        path.write_bytes(book(data=data, before=before, texts=texts, **{"xl/workbook.xml": text}))
        made = XlsxWorkbook(path, "list.xlsx")
        read.append((list(made.rows(made.sheets[0])), made.links(made.sheets[0])))
    assert read[0] == read[1]


# --- what a sheet says besides ---------------------------------------------------------------------------


def people(*lines: str, after: str = "", **parts: str) -> bytes:
    """Make a sheet of texts: a line is a row, its cells are separated by pipes."""
    data = ""
    for number, line in enumerate(lines, 1):
        cells = zip("ABCDEF", line.split("|"), strict=False)
        data += f'<row r="{number}">'
        data += "".join(INLINE.format(f"{at}{number}", text) for at, text in cells if text) + "</row>"
    return book(data=data, after=after, **parts)


@pytest.mark.parametrize(
    ("merged", "team", "warnings"),
    [
        ("C2:C3", ["Red", "Red", "Blue"], ["D285"]),
        ("C2:C4", ["Red", "Red", "Red"], ["D285"]),
        ("B2:C2", ["", "", "Blue"], ["D286"]),
        ("C3:C4", ["Red", "", ""], []),
        ("F2:F4", ["Red", "", "Blue"], []),
        ("C9:C99", ["Red", "", "Blue"], []),
    ],
)
def test_merged_cells_have_the_value_of_the_first(
    tmp_path: Path, merged: str, team: list[str], warnings: list[str]
) -> None:
    """The value fills down, not to the right; what is under a merged cell is not shown, and not used."""
    path = tmp_path / "list.xlsx"
    lines = ("email|name|team", "a@x.org|Ann|Red", "b@x.org|Bob", "c@x.org|Cy|Blue")
    path.write_bytes(people(*lines, after=f'<mergeCells count="1"><mergeCell ref="{merged}"/></mergeCells>'))

    read = open_list(path)

    assert [recipient.values[2] for recipient in read] == team
    assert [warning.code for warning in read.warnings] == warnings
    assert len(list(read)) == 3
    assert [warning.code for warning in read.warnings] == warnings


@pytest.mark.parametrize(
    ("shown", "target", "warned"),
    [
        ("a@x.org", "mailto:a@x.org", False),
        ("A@x.org", "MAILTO:a%40x.org?subject=Hi", False),
        ("Ann &lt;a@x.org&gt;", "mailto:a@x.org", False),
        ("a@x.org", "mailto:b@x.org", True),
        ("a@x.org", "https://x.org/", False),
        ("Ann", "mailto:a@x.org", True),
    ],
)
def test_a_link_to_another_address_is_told(tmp_path: Path, shown: str, target: str, *, warned: bool) -> None:
    """What the cell shows is used; a link that writes to somebody else is a warning with the cell."""
    path = tmp_path / "list.xlsx"
    relations = (
        f'<Relationships xmlns="{PACKAGE}"><Relationship Id="h" Type="{OFFICE}/hyperlink" Target="{target}" '
        'TargetMode="External"/></Relationships>'
    )
    link = '<hyperlinks><hyperlink ref="A2" r:id="h"/></hyperlinks>'
    path.write_bytes(
        people("email|n", f"{shown}|1", after=link, **{"xl/worksheets/_rels/sheet1.xml.rels": relations})
    )

    read = open_list(path)

    assert [recipient.values[0] for recipient in read] == [shown.replace("&lt;", "<").replace("&gt;", ">")]
    assert [(one.code, "A2" in one.message) for one in read.warnings] == ([("D287", True)] if warned else [])


def test_a_link_by_formula_is_told(tmp_path: Path) -> None:
    """HYPERLINK() shows one text and leads to another, as a link does."""
    path = tmp_path / "list.xlsx"
    cell = '<c r="A2" t="str"><f>HYPERLINK("mailto:b@x.org","a@x.org")</f><v>a@x.org</v></c>'
    path.write_bytes(book(data=f'<row r="1">{INLINE.format("A1", "email")}</row><row r="2">{cell}</row>'))
    read = open_list(path)
    assert [recipient.values[0] for recipient in read] == ["a@x.org"]
    assert [warning.code for warning in read.warnings] == ["D287"]


def test_tables_names_and_the_active_sheet_are_known(tmp_path: Path) -> None:
    """Tables without their totals, named ranges, the sheet that was seen last and the program."""
    made = xlsxwriter.Workbook(tmp_path / "list.xlsx")
    made.add_worksheet("Notes")
    sheet = made.add_worksheet("It's people")
    options = {"name": "Members", "total_row": True, "columns": [{"header": "email"}, {"header": "n"}]}
    sheet.add_table("B3:C6", options)
    sheet.activate()
    made.define_name("area", "='It''s people'!$B$3:$C$5")
    made.define_name("fixed", "=0.19")
    made.close()
    read = XlsxWorkbook(tmp_path / "list.xlsx", "list.xlsx")
    assert {name: (one.sheet, one.name) for name, one in read.ranges.items()} == {
        "area": ("It's people", "B3:C5"),
        "Members": ("It's people", "B3:C5"),
    }
    assert (read.active, read.program) == ("It's people", "Microsoft Excel")


# --- the file ------------------------------------------------------------------------------------------


def test_the_file_is_opened_once(tmp_path: Path) -> None:
    """From the headings to the last row; when that has been read, the file is closed."""
    path = tmp_path / "list.xlsx"
    path.write_bytes(people("email|n", *(f"p{at}@x.org|{at}" for at in range(100))))
    opened = []
    sys.addaudithook(lambda event, given: opened.append(given[0]) if event == "open" else None)

    read = open_list(path)
    header = len([one for one in opened if str(one) == str(path)])
    assert len(list(read)) == 100
    assert len([one for one in opened if str(one) == str(path)]) == header
    assert len(list(read)) == 100


def test_a_list_can_be_read_twice_at_a_time(tmp_path: Path) -> None:
    """Whoever comes to its end first does not close the file under the other."""
    path = tmp_path / "list.xlsx"
    made = xlsxwriter.Workbook(path)
    sheet = made.add_worksheet()
    for row in range(4000):
        sheet.write_row(
            row, 0, [f"p{row}@x.org" if row else "email", f"{row} of them", "never used" * (row > 1)]
        )
    sheet.write_string("C1", "n")
    made.close()
    read = open_list(path)
    first = iter(read)
    begun = [next(first) for _ in range(5)]
    whole = list(read)
    assert whole == [*begun, *first]
    assert list(read) == whole


def test_what_we_cannot_put_together_openpyxl_reads(tmp_path: Path) -> None:
    """A workbook whose sheets are related in no way that we know is read as openpyxl reads it."""
    path = tmp_path / "list.xlsx"
    made = openpyxl.Workbook()
    made["Sheet"].append(["email", "zip", "due", "sum", "ok"])
    made["Sheet"].append(["a@x.org", 716, datetime(2026, 3, 5), "=1+1", True])
    made["Sheet"]["B2"].number_format = "00000"
    made["Sheet"].row_dimensions[2].hidden = True
    made["Sheet"].merge_cells("F2:F3")
    made.save(path)

    read = OpenpyxlWorkbook(path, "list.xlsx")
    [_, row] = read.rows(read.sheets[0])

    assert (row.hidden, [short(cell) for cell in row.cells][:5]) == (
        True,
        ["a@x.org", "<00716>", "<2026-03-05 0:00:00>", "D132", "<TRUE>"],
    )
    assert [one.name for one in read.merged(read.sheets[0])] == ["F2:F3"]


@pytest.mark.parametrize("codec", ["utf-8", "utf-16", "utf-32"])
@pytest.mark.parametrize(
    "part",
    ["[Content_Types].xml", "xl/workbook.xml", "xl/worksheets/sheet1.xml", "docProps/core.xml", "odd.bin"],
)
def test_openpyxl_never_sees_a_document_type(tmp_path: Path, part: str, codec: str) -> None:
    """Whether or not defusedxml is installed: we refuse every part that has one, in any encoding, before."""
    made = openpyxl.Workbook()
    made.save(tmp_path / "made.xlsx")
    path = tmp_path / "list.xlsx"
    bomb = f'<?xml version="1.0" encoding="{codec}"?><!DOCTYPE a [<!ENTITY b "c">]><a>&b;</a>'
    with zipfile.ZipFile(tmp_path / "made.xlsx") as old, zipfile.ZipFile(path, "w") as new:
        for name in sorted({*old.namelist(), part}):
            new.writestr(name, bomb.encode(codec) if name == part else old.read(name))
    with pytest.raises(ListError) as caught:
        OpenpyxlWorkbook(path, "list.xlsx")
    expected = DocumentTypeError if codec != "utf-32" else expat.ExpatError
    assert isinstance(caught.value.__cause__, expected)


def test_openpyxl_reads_a_workbook_with_parts_that_are_not_xml(tmp_path: Path) -> None:
    """Pictures and the settings of printers do not cause a refusal."""
    made = openpyxl.Workbook()
    made["Sheet"].append(["email"])
    path = tmp_path / "list.xlsx"
    made.save(path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("xl/media/image1.png", b"\x89PNG\r\n\x1a\n<!DOCTYPE a>")
        archive.writestr("xl/printerSettings/printerSettings1.bin", "HP".encode("utf-16-le"))
        archive.writestr("xl/empty.bin", b"")
    read = OpenpyxlWorkbook(path, "list.xlsx")
    assert [row.cells for row in read.rows(read.sheets[0])] == [["email"]]


def test_openpyxl_is_not_asked_for_a_cell_at_the_end_of_the_world(tmp_path: Path) -> None:
    """It would make every cell before it: that is refused, and soon."""
    made = openpyxl.Workbook()
    made["Sheet"]["XFD1048576"] = "far"
    made.save(tmp_path / "list.xlsx")
    read = OpenpyxlWorkbook(tmp_path / "list.xlsx", "list.xlsx")
    with pytest.raises(ListError, match="too far apart"):
        list(read.rows(read.sheets[0]))


def test_cells_are_copied_as_the_file_keeps_them(tmp_path: Path) -> None:
    """Numbers with all digits and their formats, texts, truths; a formula without a result is an error."""
    path = tmp_path / "list.xlsx"
    data = (
        '<row r="1"><c r="A1" s="2"><v>716</v></c><c r="B1" t="s"><v>0</v></c><c r="D1" t="b"><v>1</v></c>'
        '<c r="E1"><f>1</f></c><c r="F1"><v>0.30000000000000004</v></c><c r="G1" t="e"><v>#N/A</v></c></row>'
    )
    path.write_bytes(book(data=data, texts="<si><t>Ann</t></si>"))
    read = XlsxWorkbook(path, "list.xlsx")
    [(number, cells)] = read.copies(read.sheets[0])
    assert (number, [(cell.value, cell.kind, cell.number_format) for cell in cells]) == (
        1,
        [
            (716, "n", "00000"),
            ("Ann", "s", "General"),
            (None, "n", "General"),
            (True, "b", "General"),
            ("#N/A", "e", "General"),
            (0.30000000000000004, "n", "General"),
            ("#N/A", "e", "General"),
        ],
    )


# --- what nothing reads --------------------------------------------------------------------------------

DAMAGE = (
    f'<row r="1">{INLINE.format("A1", "email")}{INLINE.format("B1", "name")}{INLINE.format("C1", "look up")}</row>'
    f'<row r="2">{INLINE.format("A2", "a@x.org")}{INLINE.format("B2", "Ann")}<c r="C2" t="e"><v>#N/A</v></c></row>'
    f'<row r="3">{INLINE.format("A3", "b@x.org")}{INLINE.format("B3", "Bob")}<c r="C3"><f>1+1</f></c></row>'
)


@pytest.mark.parametrize(
    ("text", "data", "invalid"),
    [
        ("{{ name }}", "", 0),
        ("{{ row['name'] }}", "", 0),
        ("{{ look_up }}", "", 2),
        ("{{ row['look up'] }}", "", 2),
        ("{% for cell in row.values() %}{{ cell }}{% endfor %}", "", 2),
        ("{{ name }}", "where = 'look_up != \"x\"'\n", 2),
        ("{{ name }}", 'key = "look up"\n', 2),
    ],
)
def test_a_damaged_cell_costs_its_row_only_where_it_is_read(
    campaign_factory: Any, text: str, data: str, invalid: int
) -> None:
    """By a template, `where` or the key: an error or a formula without a result elsewhere does not matter."""
    campaign_factory({"body.txt": text, "people.csv": None}, data=f'{data}source = "people.xlsx"')
    (campaign_factory.folder / "people.xlsx").write_bytes(book(data=DAMAGE))

    plan = campaign_factory.open().check()

    assert plan.statuses[Status.INVALID] == invalid
    assert plan.statuses[Status.PENDING] == 2 - invalid


def test_empty_text_next_to_the_list_adds_no_values(tmp_path: Path) -> None:
    """A row has one value a column, also if a cell beyond the headings contains only a space."""
    path = tmp_path / "list.xlsx"
    made: Any = openpyxl.Workbook()
    for line in (("email", "name"), ("a@example.org", "Ann", None, " ")):
        made.active.append(line)
    made.save(path)
    assert [recipient.values for recipient in open_list(path)] == [("a@example.org", "Ann")]


@pytest.mark.parametrize(
    "stored", ["0.1", "1234.5", "166.06750000000002", "0.30000000000000004", "-2.5E-3", "7"]
)
@pytest.mark.parametrize("code", ["General", "0.00", '#,##0.00 "€"', "0%", "dd.mm.yyyy", "h:mm"])
def test_quickly_made_cells_are_those_of_the_format(stored: str, code: str) -> None:
    """A number is shown, and kept to 15 digits, as by the function that makes a cell from any number."""
    made = Cells(SharedTexts(cast("Any", None), None), [code], date_1904=False).numbers[None][stored]
    number = exact_number(float(stored))
    assert number is not None
    expected = formatted_cell(number, code)
    assert repr(made) == repr(expected)


DIGITS = st.integers(-(10**18), 10**18).map(str)
DECIMALS = st.builds(
    "{}{}.{}".format,
    st.sampled_from(["", "-"]),
    st.integers(0, 10**16),
    st.text("0159", min_size=1, max_size=20),
)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
STORED = st.one_of(DIGITS, DECIMALS, FLOATS.map(repr), FLOATS.map("{:.16G}".format))


@settings(max_examples=1000, deadline=None)
@given(stored=STORED)
@example("-0")
@example("0.00009999")
@example("999999999999999.9")
@example("9999999999999999")
@example("0.30000000000000004")
def test_a_number_without_a_format_is_shown_as_by_the_formatter(stored: str) -> None:
    """What is not formatted, as it is shown as stored, is what the formatter would write."""
    made = Cells(SharedTexts(cast("Any", None), None), ["General"], date_1904=False).numbers[None][stored]
    number = exact(stored)
    expected = stored if number is None else formatted_cell(number, "General")

    assert repr(made) == repr(expected)
    assert displayed(cast("Any", made)) == displayed(cast("Any", expected))
