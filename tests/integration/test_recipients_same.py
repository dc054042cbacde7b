"""Any table comes back, and each kind of list makes the same messages."""

from __future__ import annotations

import csv
import io
import re
import zipfile
from decimal import Decimal
from typing import Any
from xml.sax.saxutils import escape

import openpyxl
import pandas as pd
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge import Campaign
from mailmerge.recipients import open_list

CELLS = st.text(
    st.characters(exclude_categories=["Cs", "Cc", "Co", "Cn"], exclude_characters="\ufffd"), max_size=12
)
NAMES = st.text("abcdé中 ,;|'\"\\^~#=+-@<>\t\n", max_size=12)
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-32", "gb18030")


@settings(max_examples=100, deadline=None)
@given(
    data=st.data(),
    delimiter=st.sampled_from(",;\t|^~"),
    encoding=st.sampled_from(ENCODINGS),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
    stated=st.booleans(),
)
def test_any_table_with_addresses_comes_back(
    tmp_path_factory, data, delimiter, encoding, quoting, end, stated
):
    """Whatever csv writes, in any dialect and encoding, with or without ``sep=``, is read cell by cell."""
    width = data.draw(st.integers(1, 4))
    others = st.lists(st.one_of(CELLS, NAMES), min_size=width, max_size=width)
    rows = [
        [f"p{at}@x.org", *row] for at, row in enumerate(data.draw(st.lists(others, min_size=1, max_size=6)))
    ]
    out = io.StringIO(newline="")
    if stated:
        out.write(f"sep={delimiter}{end}")
    if end == "\r":
        quoting = csv.QUOTE_ALL  # else csv leaves line feeds without quotes
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting, lineterminator=end)
    writer.writerows([["email", *(f"column{at}" for at in range(width))], *rows])
    path = tmp_path_factory.getbasetemp() / "any.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    named = encoding if encoding == "gb18030" else None
    assert [list(one.values) for one in open_list(path, encoding=named)] == rows


@settings(max_examples=25, deadline=None)
@given(rows=st.lists(st.lists(CELLS, min_size=2, max_size=2), min_size=1, max_size=5))
def test_any_table_of_texts_comes_back_from_a_workbook(tmp_path_factory, rows):
    """Texts that spreadsheets would take for something else are the texts that were written."""
    rows = [[f"p{at}@x.org", *row] for at, row in enumerate(rows)]
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    for at, row in enumerate([["email", "one", "two"], *rows], 1):
        for column, text in enumerate(row, 1):
            cell = sheet.cell(at, column, text)
            cell.data_type = "s"
    path = tmp_path_factory.getbasetemp() / "any.xlsx"
    book.save(path)
    assert [list(one.values) for one in open_list(path)] == rows


@settings(max_examples=50, deadline=None)
@given(rows=st.lists(st.lists(st.one_of(CELLS, NAMES), min_size=2, max_size=2), min_size=1, max_size=5))
def test_any_table_of_texts_comes_back_from_an_open_document(tmp_path_factory, rows):
    """Spaces, tabs and line breaks, too, have elements of their own there."""
    rows = [[f"p{at}@x.org", *row] for at, row in enumerate(rows)]
    cells = [[_text(text) for text in row] for row in [["email", "one", "two"], *rows]]
    path = _ods(tmp_path_factory.getbasetemp() / "any.ods", cells)
    assert [list(one.values) for one in open_list(path)] == rows


PEOPLE = [
    {"email": "ana@example.org", "name": "Ana Müller", "zip": "00716", "amount": Decimal("1234.50")},
    {"email": "bo@example.org", "name": "伟 <b>&", "zip": "01067", "amount": Decimal("9.00")},
    {"email": "cy@example.org", "name": 'O"Hara, "Cy"', "zip": "90210", "amount": Decimal("0.05")},
]
SHOWN = ["1,234.50", "9.00", "0.05"]


def _csv(folder, delimiter, encoding):
    path = folder / f"people-{encoding}.csv"
    with path.open("w", encoding=encoding, newline="") as file:
        writer = csv.writer(file, delimiter=delimiter)
        writer.writerow(PEOPLE[0])
        writer.writerows([*list(one.values())[:3], text] for one, text in zip(PEOPLE, SHOWN, strict=True))
    return path


def _xlsx(folder):
    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(list(PEOPLE[0]))
    for one in PEOPLE:
        sheet.append([*list(one.values())[:3], float(str(one["amount"]))])
        sheet.cell(sheet.max_row, 4).number_format = "#,##0.00"
    path = folder / "people.xlsx"
    book.save(path)
    return path


def _people():
    """Return the people as cells of OpenDocument: the displayed text is next to the value."""
    rows = [[_text(cell) for cell in PEOPLE[0]]]
    rows += [
        [*(_text(str(cell)) for cell in list(one.values())[:3]), _number(one["amount"], text)]
        for one, text in zip(PEOPLE, SHOWN, strict=True)
    ]
    return rows


OPEN_DOCUMENT = "application/vnd.oasis.opendocument.spreadsheet"


def _document(rows, element):
    """Write rows of cells as the XML of an OpenDocument sheet."""
    table = "".join(f"<table:table-row>{''.join(row)}</table:table-row>" for row in rows)
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text")
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><office:{element} {spaces} office:version="1.2" '
        f'office:mimetype="{OPEN_DOCUMENT}"><office:body><office:spreadsheet>'
        f'<table:table table:name="People">{table}</table:table></office:spreadsheet></office:body>'
        f"</office:{element}>"
    )


def _fods(folder):
    path = folder / "people.fods"
    path.write_text(_document(_people(), "document"), "utf-8")
    return path


def _ods(path, rows):
    """Write a packed OpenDocument sheet (OpenDocument 1.2, part 3)."""
    manifest = (
        '<manifest:manifest xmlns:manifest="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0">'
        f'<manifest:file-entry manifest:full-path="/" manifest:media-type="{OPEN_DOCUMENT}"/>'
        '<manifest:file-entry manifest:full-path="content.xml" manifest:media-type="text/xml"/>'
        "</manifest:manifest>"
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", OPEN_DOCUMENT)
        archive.writestr("content.xml", _document(rows, "document-content"))
        archive.writestr("META-INF/manifest.xml", manifest)
    return path


def _text(text):
    """Write a text cell: runs of spaces, tabs and line breaks have elements of their own."""
    inner = escape(text)
    inner = re.sub(" +", lambda blanks: f'<text:s text:c="{len(blanks[0])}"/>', inner)
    inner = inner.replace("\t", "<text:tab/>")
    paragraphs = "".join(f"<text:p>{line}</text:p>" for line in inner.split("\n"))
    return f'<table:table-cell office:value-type="string">{paragraphs}</table:table-cell>'


def _number(value, text):
    attributes = f'office:value-type="float" office:value="{value}"'
    return f"<table:table-cell {attributes}><text:p>{text}</text:p></table:table-cell>"


TEXT = "{{ name }} of {{ zip }} pays {{ '%.2f'|format(amount * 2) }}{% if amount > 9 %}, much{% endif %}"
"""Does not show the number itself: a frame and mappings have no format."""


def _made(campaign):
    """Return the messages of a campaign except for what differs whenever they are sent: date and ids."""
    plan = campaign.plan()
    assert (plan.rows, plan.ready) == (3, 3), [one.first.message for one in plan.problems]
    return [
        b"".join(
            line
            for line in one.content.splitlines(keepends=True)
            if not line.startswith((b"Date:", b"Message-ID:", b"X-Mailmerge-ID:"))
        )
        for one in plan.messages()
    ]


def _of_file(folder, path, text):
    options = {"data.source": str(path), "message.subject": "Hello {{ name }}", "message.text": f"{text}\n"}
    return _made(Campaign.load(None, {**options, "message.from": "me@example.org", "name": "same"}))


def test_the_same_list_makes_the_same_messages(tmp_path, monkeypatch):
    """As text in three dialects, as a workbook, as OpenDocument, as a frame and as mappings."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    paths = [
        _csv(tmp_path, ",", "utf-8"),
        _csv(tmp_path, ";", "utf-8-sig"),
        _csv(tmp_path, "\t", "utf-16"),
        _xlsx(tmp_path),
        _fods(tmp_path),
        _ods(tmp_path / "people.ods", _people()),
    ]
    options: Any = {
        "subject": "Hello {{ name }}",
        "text": f"{TEXT}\n",
        "sender": "me@example.org",
        "name": "same",
    }
    wanted = _made(Campaign.from_rows(PEOPLE, state=tmp_path / "rows", **options))
    assert b"2469.00" in wanted[0]
    assert _made(Campaign.from_dataframe(pd.DataFrame(PEOPLE), state=tmp_path / "frame", **options)) == wanted
    assert [_of_file(tmp_path, path, TEXT) for path in paths] == [wanted] * len(paths)

    shown = [_of_file(tmp_path, path, "{{ amount }}") for path in paths]
    assert shown == [shown[0]] * len(paths)
    assert [text.encode() in message for text, message in zip(SHOWN, shown[0], strict=True)] == [True] * 3
