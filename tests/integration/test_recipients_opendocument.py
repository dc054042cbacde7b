"""OpenDocument spreadsheets: what LibreOffice wrote (tests/data/lists), and what is written here."""

# ruff: noqa: DTZ001, E501  the dates of a sheet have no time zone; a piece of XML is one line

from __future__ import annotations

import contextlib
import io
import struct
import tracemalloc
import zipfile
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.errors import ListError
from mailmerge.recipients import open_list
from mailmerge.recipients.kinds import find_kind
from mailmerge.recipients.recipient_list import CellError
from mailmerge.recipients.workbook import Range
from mailmerge.recipients.workbook_list import open_workbook
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth, canonical, displayed

LISTS = Path(__file__).parents[1] / "data" / "lists"
NAMESPACES = " ".join(
    f'xmlns:{prefix}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
    for prefix, name in {
        "office": "office",
        "table": "table",
        "text": "text",
        "style": "style",
        "number": "datastyle",
        "draw": "drawing",
        "manifest": "manifest",
        "config": "config",
        "meta": "meta",
    }.items()
)
MORE = (
    'xmlns:calcext="urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0" '
    'xmlns:xlink="http://www.w3.org/1999/xlink" xmlns:dc="http://purl.org/dc/elements/1.1/"'
)
STYLES = """\
<number:time-style style:name="N1" number:truncate-on-overflow="false">
<number:hours/><number:text>:</number:text><number:minutes number:style="long"/></number:time-style>
<number:time-style style:name="N2">
<number:hours number:style="long"/><number:text>:</number:text><number:minutes number:style="long"/>
</number:time-style>
<number:date-style style:name="N3"><number:day number:style="long"/><number:text>.</number:text>
<number:month number:style="long"/><number:text>.</number:text><number:year number:style="long"/>
</number:date-style>
<number:date-style style:name="N4"><number:year number:style="long"/><number:text>-</number:text>
<number:month number:style="long"/><number:text>-</number:text><number:day number:style="long"/>
<number:text> </number:text><number:hours number:style="long"/><number:text>:</number:text>
<number:minutes number:style="long"/></number:date-style>
<number:number-style style:name="N5">
<number:number number:decimal-places="0" number:min-integer-digits="5"/></number:number-style>
<number:currency-style style:name="N6P0"><number:number number:decimal-places="2"
number:min-decimal-places="2" number:min-integer-digits="1" number:grouping="true"/>
<number:text> </number:text><number:currency-symbol>€</number:currency-symbol></number:currency-style>
<number:currency-style style:name="N6"><number:text>-</number:text><number:number
number:decimal-places="2" number:min-decimal-places="2" number:min-integer-digits="1"
number:grouping="true"/><number:text> </number:text><number:currency-symbol>€</number:currency-symbol>
<style:map style:condition="value()&gt;=0" style:apply-style-name="N6P0"/></number:currency-style>
<style:style style:name="elapsed" style:family="table-cell" style:data-style-name="N1"/>
<style:style style:name="clock" style:family="table-cell" style:data-style-name="N2"/>
<style:style style:name="day" style:family="table-cell" style:data-style-name="N3"/>
<style:style style:name="moment" style:family="table-cell" style:data-style-name="N4"/>
<style:style style:name="zip" style:family="table-cell" style:data-style-name="N5"/>
<style:style style:name="money" style:family="table-cell" style:data-style-name="N6"/>
<style:style style:name="child" style:family="table-cell" style:parent-style-name="clock"/>
<style:style style:name="unseen" style:family="table"><style:table-properties table:display="false"/>
</style:style>
"""


def document(body, *, declaration=""):
    """Write a flat document around tables."""
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{declaration}<office:document {NAMESPACES} {MORE} '
        'office:mimetype="application/vnd.oasis.opendocument.spreadsheet">'
        f"<office:automatic-styles>{STYLES}</office:automatic-styles><office:body><office:spreadsheet>{body}"
        "</office:spreadsheet></office:body></office:document>"
    )


def row(*cells, attributes=""):
    """Write a row; a cell that is not XML is text."""
    written = "".join(
        cell
        if cell.startswith("<")
        else f'<table:table-cell office:value-type="string"><text:p>{cell}</text:p></table:table-cell>'
        for cell in cells
    )
    return f"<table:table-row{attributes}>{written}</table:table-row>"


def table(*rows, name="People", attributes=""):
    """Write a table."""
    return f'<table:table table:name="{name}"{attributes}>{"".join(rows)}</table:table>'


HEADINGS = row("email", "x")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("opendocument")


@pytest.fixture
def write(folder):
    """Write tables, flat or as a package, and give the path."""

    def write(body, *, zipped=False, **parts):
        content = document(body, declaration=parts.pop("declaration", ""))
        path = folder / ("list.ods" if zipped else "list.fods")
        if not zipped:
            path.write_text(content, "utf-8")
            return path
        made = io.BytesIO()
        with zipfile.ZipFile(made, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
            archive.writestr("content.xml", content)
            for name, part in parts.items():
                archive.writestr(name.replace("__", "/").replace("_", "."), part)
        path.write_bytes(made.getvalue())
        return path

    return write


def opened(path):
    """Open a workbook without making a list of it."""
    return open_workbook(path, path.name, find_kind(path, path.name))


def rows_of(path, sheet=0):
    """Return the texts of a sheet's rows by number; errors are their codes."""
    book = opened(path)
    return {
        one.number: [cell.code if isinstance(cell, CellError) else displayed(cell) for cell in one.cells]
        for one in book.rows(book.sheets[sheet])
    }


def value_of_cell(write, xml):
    """Return what a cell under ``x`` becomes."""
    [recipient] = open_list(write(table(HEADINGS, row("a@x.org", xml))))
    [problem] = recipient.problems or [None]
    return problem.code if problem else recipient.values[1]


def read_all(path):
    """Read every row of every sheet, and then the list."""
    book = opened(path)
    for sheet in book.sheets:
        for _ in book.rows(sheet):
            pass
    list(open_list(path, hidden="send"))


def refused(path, **options):
    """Read a list to its end and return the error it must end with."""
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown=path.name, **options))
    return caught.value


@pytest.mark.parametrize("suffix", [".ods", ".xls"])
def test_the_same_list_in_every_format_is_the_same(suffix):
    """What LibreOffice wrote comes out as from .xlsx: same texts, same identities, same types."""
    wanted, found = (open_list(LISTS / f"people{kind}", sheet="People") for kind in (".xlsx", suffix))

    assert found.columns == wanted.columns
    for one, other in zip(found, wanted, strict=True):
        assert [(displayed(value), canonical(value), type(value)) for value in one.values] == [
            (displayed(value), canonical(value), type(value)) for value in other.values
        ]
        assert [(problem.code, problem.place) for problem in one.problems] == [
            (problem.code, _renamed(problem.place, suffix)) for problem in other.problems
        ]


def _renamed(place, suffix):
    return type(place)(path=place.path.replace(".xlsx", suffix), cell=place.cell)


@pytest.mark.parametrize(
    ("content", "text"),
    [
        ("<text:p>Jörg</text:p>", "Jörg"),
        ("<text:p>a</text:p><text:p/><text:p>b</text:p>", "a\n\nb"),
        ('<text:p>a<text:s/>b<text:s text:c="3"/>c</text:p>', "a b   c"),
        ("<text:p>a<text:tab/>b<text:line-break/>c</text:p>", "a\tb\nc"),
        ("<text:p>\n   a\n   b\t c  \n </text:p>", "a b c"),
        ("<text:p>a </text:p>", "a "),
        ("<text:p>a <text:span>b <text:span>c</text:span></text:span> d</text:p>", "a b c d"),
        ('<text:p>see <text:a xlink:href="https://x.example/">here</text:a></text:p>', "see here"),
        ("<text:p>a\u00a0 b</text:p>", "a\u00a0 b"),
        ("<office:annotation><dc:creator>Me</dc:creator><text:p>note</text:p></office:annotation><text:p>a</text:p>", "a"),
        ("<text:p>a</text:p><draw:frame><draw:text-box><text:p>no</text:p></draw:text-box></draw:frame>", "a"),
        ("<text:p><text:ruby><text:ruby-base>漢</text:ruby-base><text:ruby-text>かん</text:ruby-text></text:ruby></text:p>", "漢"),
        ("<text:p>a<text:note><text:note-body><text:p>no</text:p></text:note-body></text:note>b</text:p>", "ab"),
        ("<text:p>1 &lt; 2 &amp; 3</text:p>", "1 < 2 & 3"),
    ],
)  # fmt: skip
def test_texts(write, content, text):
    """Paragraphs are lines, white space that counts has elements, and what is beside the text is left out."""
    xml = f'<table:table-cell office:value-type="string">{content}</table:table-cell>'
    assert value_of_cell(write, xml) == text


@pytest.mark.parametrize(
    ("attributes", "shown", "value"),
    [
        ('office:value-type="float" office:value="716"', "00716", Number(Decimal(716), "00716")),
        ('office:value-type="float" office:value="0.30000000000000004"', "0.3", Number(Decimal("0.3"), "0.3")),
        (
            'office:value-type="float" office:value="4111111111111111"',
            "4.11111E+15",
            Number(Decimal(4111111111111111), "4.11111E+15"),
        ),
        ('office:value-type="percentage" office:value="0.256"', "26%", Number(Decimal("0.256"), "26%")),
        ('office:value-type="currency" office:currency="EUR" office:value="-5"', "-5,00 €", Number(Decimal(-5), "-5,00 €")),
        ('office:value-type="float" office:value="12.5"', "", Number(Decimal("12.5"))),
        ('office:value-type="boolean" office:boolean-value="true"', "WAHR", Truth(True, "WAHR")),
        ('office:value-type="float" table:formula="of:=TRUE()" office:value="1"', "TRUE", Truth(True, "TRUE")),
        ('office:value-type="float" table:formula="of:=[.A1]&gt;3" office:value="0"', "FALSCH", Truth(False, "FALSCH")),
        ('office:value-type="float" table:formula="of:=1" office:value="1"', "1", Number(Decimal(1), "1")),
        ('office:value-type="date" office:date-value="2026-03-05" table:style-name="day"', "05.03.2026", Date(date(2026, 3, 5), "05.03.2026")),
        (
            'office:value-type="date" office:date-value="2026-03-05T14:30:00" table:style-name="day"',
            "05.03.2026",
            Date(date(2026, 3, 5), "05.03.2026", "2026-03-05 14:30"),
        ),
        (
            'office:value-type="date" office:date-value="2026-03-05T14:29:59.999999" table:style-name="moment"',
            "2026-03-05 14:30",
            DateTime(datetime(2026, 3, 5, 14, 30), "2026-03-05 14:30"),
        ),
        (
            'office:value-type="date" office:date-value="2026-03-05" table:style-name="moment"',
            "2026-03-05 00:00",
            DateTime(datetime(2026, 3, 5), "2026-03-05 00:00"),
        ),
        ('office:value-type="time" office:time-value="PT14H30M00S" table:style-name="clock"', "14:30", Time(time(14, 30), "14:30")),
        ('office:value-type="time" office:time-value="PT14H30M00S" table:style-name="child"', "14:30", Time(time(14, 30), "14:30")),
        ('office:value-type="time" office:time-value="PT26H05M00S" table:style-name="elapsed"', "26:05", Duration(timedelta(hours=26, minutes=5), "26:05")),
        (
            'office:value-type="time" office:time-value="PT26H05M00S" table:style-name="clock"',
            "02:05",
            Time(time(2, 5), "02:05", "1899-12-31 02:05"),
        ),
        ('office:value-type="time" office:time-value="-PT1H" table:style-name="elapsed"', "-1:00", Duration(timedelta(hours=-1), "-1:00")),
        ('office:value-type="date" office:date-value="-0044-03-15"', "15.3.-44", "15.3.-44"),
        ('office:value-type="date" office:date-value="12026-03-05"', "5.3.12026", "5.3.12026"),
        ('office:value-type="time" office:time-value="PT99999999999H"', "long", "long"),
        ('office:value-type="float" office:value="1e400"', "inf", "inf"),
        ('office:value-type="string" office:string-value="kept"', "", "kept"),
    ],
)  # fmt: skip
def test_values(write, attributes, shown, value):
    """The attributes give the value, the paragraph what is shown; a format tells times from durations."""
    text = f"<text:p>{shown}</text:p>" if shown else ""
    found = value_of_cell(write, f"<table:table-cell {attributes}>{text}</table:table-cell>")
    assert (type(found), displayed(found), canonical(found)) == (
        type(value),
        displayed(value),
        canonical(value),
    )


@pytest.mark.parametrize(
    ("xml", "code"),
    [
        ('table:formula="of:=A1" office:value-type="string" calcext:value-type="error"><text:p>#N/A</text:p>', "D131"),
        ('table:formula="of:=A1" office:value-type="float" office:value="0"><text:p>Err:502</text:p>', "D131"),
        ('table:formula="of:=A1" office:value-type="string"><text:p>#WERT!</text:p>', "D131"),
        ('table:formula="of:=A1" office:value-type="string"><text:p>#NV</text:p>', "D131"),
        ('table:formula="of:=A1">', "D132"),
        ('office:value-type="string"><text:p>' + "x" * 140_000 + "</text:p>", "D109"),
        ('office:value-type="string"><text:p>a<text:s text:c="999999999"/>b</text:p>', "D109"),
        ('office:value-type="string"><text:p>#N/A</text:p>', "#N/A"),
        ('table:formula="of:=A1" office:value-type="string"><text:p>#1 in town</text:p>', "#1 in town"),
        ('table:formula="of:=&quot;&quot;"><text:p/>', ""),
    ],
)  # fmt: skip
def test_cells_that_cannot_be_used_cost_their_row(write, xml, code):
    """Errors, formulas without a result and endless texts; what only looks like one is text."""
    assert value_of_cell(write, f"<table:table-cell {xml}</table:table-cell>") == code


def test_repeated_covered_and_wrapped(write):
    """Repeated rows and cells are there, what a merged cell covers is not, and groups change nothing."""
    blank = '<table:table-cell table:number-columns-repeated="3"/>'
    covered = (
        '<table:covered-table-cell office:value-type="string"><text:p>no</text:p></table:covered-table-cell>'
    )
    wide = '<table:table-cell table:number-columns-spanned="2" table:number-rows-spanned="2" office:value-type="string"><text:p>m</text:p></table:table-cell>'
    twice = '<table:table-cell table:number-columns-repeated="2" office:value-type="float" office:value="7"><text:p>7</text:p></table:table-cell>'
    path = write(
        table(
            f"<table:table-header-rows>{row('a', blank, 'b')}</table:table-header-rows>",
            row(blank, attributes=' table:number-rows-repeated="2"'),
            f"<table:table-row-group>{row(wide, covered, twice)}</table:table-row-group>",
            row('<table:covered-table-cell table:number-columns-repeated="2"/>', "x", attributes=' table:number-rows-repeated="3"'),
            row('<table:table-cell table:number-columns-repeated="16384"/>', attributes=' table:number-rows-repeated="1048570"'),
        )
    )  # fmt: skip
    assert rows_of(path) == {
        1: ["a", "", "", "", "b"],
        4: ["m", "", "7", "7"],
        5: ["", "", "x"],
        6: ["", "", "x"],
        7: ["", "", "x"],
    }
    book = opened(path)
    assert book.merged(book.sheets[0]) == [Range("People", 4, 1, 5, 2)]
    assert book.about_rows(book.sheets[0]) == 7


@pytest.mark.parametrize("how", ["collapse", "filter"])
@pytest.mark.parametrize("grouped", [True, False])
def test_hidden_and_filtered_rows_are_refused_until_decided(write, how, grouped):
    """By hand, by a filter or in a group that is closed."""
    hidden = row("b@x.org", "2", attributes="" if grouped else f' table:visibility="{how}"')
    if grouped:
        hidden = f'<table:table-row-group table:display="false">{hidden}</table:table-row-group>'
    path = write(table(HEADINGS, row("a@x.org", "1"), hidden, row("c@x.org", "3")))

    assert refused(path).code == "D121"
    assert [one.row for one in open_list(path, hidden="skip")] == [2, 4]
    assert [one.row for one in open_list(path, hidden="send")] == [2, 3, 4]


def test_sheets_names_links_and_program(write):
    """Hidden sheets, the active one, names of ranges, targets of links: as every workbook gives them."""
    link = '<table:table-cell office:value-type="string"><text:p><text:a xlink:href="mailto:a@x.org">Ana</text:a></text:p></table:table-cell>'
    inner = "<table:table-cell><table:table table:name='inner'><table:table-row/></table:table></table:table-cell>"
    path = write(
        table(HEADINGS, row(link, inner, "x"), name="It's all")
        + table(HEADINGS, name="Old", attributes=' table:style-name="unseen"')
        + '<table:named-expressions><table:named-range table:name="people" '
        "table:cell-range-address=\"$'It''s all'.$A$1:.$C$2\"/></table:named-expressions>"
        '<table:database-ranges><table:database-range table:name="db" '
        'table:target-range-address="Old.A1:Old.B1"/></table:database-ranges>',
        zipped=True,
        meta_xml=f"<office:document-meta {NAMESPACES}><office:meta><meta:generator>LibreOffice/25.2.3.2$Linux"
        "</meta:generator></office:meta></office:document-meta>",
        settings_xml=f"<office:document-settings {NAMESPACES}><config:config-item config:name='ActiveTable'>Old"
        "</config:config-item></office:document-settings>",
    )  # fmt: skip
    book = opened(path)
    assert [(sheet.name, sheet.visible) for sheet in book.sheets] == [("It's all", True), ("Old", False)]
    assert (book.kind, book.program, book.active) == ("ODS", "LibreOffice", "Old")
    assert book.ranges == {"people": Range("It's all", 1, 1, 2, 3), "db": Range("Old", 1, 1, 1, 2)}
    assert book.links(book.sheets[0]) == {(2, 1): "mailto:a@x.org"}
    assert rows_of(path) == {1: ["email", "x"], 2: ["Ana", "", "x"]}


def test_copies_keep_types_and_formats(write):
    """Excel shows the same of them: failed rows and copies of a list have its formats."""
    cells = (
        '<table:table-cell table:style-name="zip" office:value-type="float" office:value="716"/>',
        '<table:table-cell table:style-name="money" office:value-type="currency" office:value="-5"/>',
        '<table:table-cell table:style-name="day" office:value-type="date" office:date-value="2026-03-05"/>',
        '<table:table-cell table:style-name="elapsed" office:value-type="time" office:time-value="PT26H5M"/>',
    )
    book = opened(write(table(row(*cells))))
    [(_, found)] = book.copies(book.sheets[0])
    assert [(cell.value, cell.number_format) for cell in found] == [
        (716, "00000"),
        (-5, '#,##0.00 "€";-#,##0.00 "€"'),
        (date(2026, 3, 5), "dd.mm.yyyy"),
        (timedelta(hours=26, minutes=5), "[h]:mm"),
    ]


REPEATED = '<table:table-cell table:number-columns-repeated="{}" office:value-type="float" office:value="1"/>'


@pytest.mark.parametrize(
    "body",
    [
        table(HEADINGS, row("a@x.org", attributes=' table:number-rows-repeated="1048576"')),
        table(row(REPEATED.format(16384), attributes=' table:number-rows-repeated="300"')),
        table(row(REPEATED.format(16384), REPEATED.format(2))),
        table(HEADINGS, row("x", attributes=' table:number-rows-repeated="99999999999"')),
        table(HEADINGS, row("x", attributes=' table:number-rows-repeated="-1"')),
        table(HEADINGS, row('<table:table-cell office:value-type="float"/>')),
        table(HEADINGS, row('<table:table-cell office:value-type="float" office:value="x"/>')),
        table(HEADINGS) + "<",
        "",
    ],
)
def test_hostile_documents_are_refused(write, body):
    """Endless repetition, broken numbers and broken XML immediately end in an error of the list."""
    path = write(body)
    tracemalloc.start()
    with pytest.raises(ListError) as caught:
        read_all(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert caught.value.code == "D124"
    assert most < 20 << 20


def test_a_document_type_is_refused(write):
    """No entity is ever expanded."""
    declaration = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    assert refused(write(table(HEADINGS, row("&b;", "1")), declaration=declaration)).code == "D124"


def test_a_bomb_is_refused_by_its_directory(write):
    """What would unpack to far more than any list is not unpacked."""
    path = write(table(HEADINGS, row("a@x.org", "x" * (40 << 20))), zipped=True)
    tracemalloc.start()
    error = refused(path)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert error.code == "D123"
    assert most < 20 << 20


def test_an_encrypted_document_is_told(write):
    """A password is what its manifest says, not damage."""
    manifest = (
        f"<manifest:manifest {NAMESPACES}><manifest:file-entry><manifest:encryption-data/>"
        "</manifest:file-entry></manifest:manifest>"
    )
    error = refused(write(table(HEADINGS), zipped=True, **{"META-INF__manifest_xml": manifest}))
    assert (error.code, error.message) == ("D120", "list.ods is encrypted")


CELLS = st.text(
    st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffd\ufffe\uffff"), max_size=12
)


@settings(max_examples=60, deadline=None)
@given(rows=st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=4))
def test_any_texts_come_back(folder, rows):
    """Written as LibreOffice writes them, with spaces as elements, they are the same again."""

    def written(text):
        escaped = text.replace("&", "&amp;").replace("<", "&lt;").replace(" ", "<text:s/>")
        return f'<table:table-cell office:value-type="string"><text:p>{escaped}</text:p></table:table-cell>'

    path = folder / "any.fods"
    path.write_text(document(table(*(row(*map(written, cells)) for cells in rows))), "utf-8")
    found = rows_of(path)
    for number, cells in enumerate(rows, 1):
        kept = found.get(number, [])
        assert tuple(kept + [""] * (2 - len(kept))) == cells


@settings(max_examples=150, deadline=None)
@given(
    name=st.sampled_from(["people.fods", "people.ods", "people.xls", "uncalculated.xls"]),
    end=st.one_of(st.just(1.0), st.floats(0.01, 1)),
    changes=st.lists(st.tuples(st.floats(0, 0.999), st.binary(min_size=1, max_size=4)), max_size=5),
)
def test_hostile_bytes_are_an_error_or_rows(folder, name, end, changes):
    """Cut and changed bytes never end in anything but rows or a `ListError`."""
    good = (LISTS / name).read_bytes()
    content = bytearray(good[: int(len(good) * end)])
    for place, piece in changes:
        at = int(len(content) * place)
        content[at : at + len(piece)] = piece
    path = folder / f"hostile{Path(name).suffix}"
    path.write_bytes(content)
    with contextlib.suppress(ListError):
        people = open_list(path, hidden="send")
        list(people)
        list(people.copies(range(1, 100)))


@pytest.mark.parametrize("where", ["sectors", "short sectors", "table"])
def test_a_chain_of_sectors_that_is_a_ring_ends(folder, where):
    """The container of an .xls may send its reader round for ever: it is damaged."""
    content = bytearray((LISTS / "people.xls").read_bytes())
    table, short = (512 * (1 + struct.unpack_from("<I", content, at)[0]) for at in (76, 60))
    ring = struct.pack("<128I", *(n - n % 2 if n % 2 else n + 1 for n in range(128)))
    if where == "sectors":
        content[table : table + 512] = ring
    elif where == "short sectors":
        struct.pack_into("<I", content, 56, 0xFFFFFFFF)  # every stream is a short one
        content[short : short + 512] = ring
    else:
        struct.pack_into("<I", content, 68, 0)  # the table continues in a sector that names itself
        struct.pack_into("<I", content, 512 + 508, 0)
    path = folder / "ring.xls"
    path.write_bytes(content)
    if where == "table":  # what is before the ring is all that there is
        assert len(list(open_list(path, sheet="People"))) == 3
        return
    error = refused(path)
    assert (error.code, error.message) == (
        "D124",
        "ring.xls cannot be read as a workbook: it is damaged or incomplete",
    )
