"""What kind of file a list is: recognised by its content; what is not a list gets a hint how to make one."""

from __future__ import annotations

import io
import sys
import zipfile
from pathlib import Path

import openpyxl
import pytest

from mailmerge.errors import ListError
from mailmerge.recipients import open_list
from mailmerge.recipients.suppression import read_opt_outs

LISTS = Path(__file__).parents[1] / "data" / "lists"
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
CSV = b"email,name\na@example.org,Ann\n"
JSON = b'{"email": "a@example.org", "name": "Ann"}\n'


def zipped(*names, **contents):
    """Make a zip file with empty parts of these names, and with these contents."""
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for name in names:
            archive.writestr(name, b"")
        for name, content in contents.items():
            archive.writestr(name, content)
    return made.getvalue()


def workbook():
    """Make a small workbook of Excel."""
    book = openpyxl.Workbook()
    book["Sheet"].append(["email", "name"])
    book["Sheet"].append(["a@example.org", "Ann"])
    made = io.BytesIO()
    book.save(made)
    return made.getvalue()


def ole(stream):
    """Make as much of a compound file as names one of its streams."""
    return OLE + bytes(504) + f"{stream}\0".encode("utf-16-le") + bytes(200)


def refused(path, name):
    """Open a list and return the error it must end with."""
    with pytest.raises(ListError) as caught:
        list(open_list(path, shown=name))
    return caught.value


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("people.pdf", b"%PDF-1.7\n", "a PDF document"),
        ("people.csv", b"%PDF-1.7\n", "a PDF document"),
        ("people.db", b"SQLite format 3\0" + bytes(50), "an SQLite database"),
        ("people.mdb", b"\0\1\0\0Standard Jet DB\0", "an Access database"),
        ("people.accdb", b"\0\1\0\0Standard ACE DB\0", "an Access database"),
        ("people.parquet", b"PAR1" + bytes(9), "a Parquet file"),
        ("people.csv", b"\x1f\x8b\x08" + bytes(9), "compressed (gzip)"),
        ("people.vcf", b"BEGIN:VCARD\r\nVERSION:3.0\r\n", "address cards (vCard)"),
        ("people.csv", b"\xef\xbb\xbfBEGIN:VCARD\r\nVERSION:3.0\r\n", "address cards (vCard)"),
        ("people.ldif", b"dn: cn=Ann,mail=a@example.org\r\n", "an LDIF address book"),
        ("people.url", b"[InternetShortcut]\r\nURL=https://x.example/\r\n", "a link to a web page"),
        ("people.slk", b"ID;PWXL;N;E\r\nP;PGeneral\r\n", "a SYLK table"),
        ("people.xls", b"ID;PWXL;N;E\r\nP;PGeneral\r\n", "a SYLK table"),
        (
            "people.xls",
            b"MIME-Version: 1.0\r\nContent-Type: multipart/related",
            "a web page with a table (MHTML)",
        ),
        ("people.xls", b"<html><table><tr><td>email</td></tr></table>", "a web page with a table (HTML)"),
        ("people.xls", "\ufeff<TABLE border=1><tr>".encode("utf-16-le"), "a web page with a table (HTML)"),
        ("people.csv", b"\n<!DOCTYPE html><html><body>Sign in", "a sign-in page"),
        (
            "people.xls",
            b'<?xml version="1.0"?><?mso-application progid="Excel.Sheet"?><Workbook>',
            "an XML spreadsheet of Excel 2003",
        ),
        ("people.xml", b'<?xml version="1.0"?><people/>', "an XML file"),
        (
            "people.gsheet",
            b'{"url":"https://docs.google.com/open?id=1","doc_id":"1"}',
            "only a link to a Google sheet",
        ),
        ("people.xlsb", zipped("[Content_Types].xml", "xl/workbook.bin"), "a binary Excel workbook"),
        ("people.docx", zipped("[Content_Types].xml", "word/document.xml"), "a Word document"),
        ("people.xlsx", zipped("[Content_Types].xml", "word/document.xml"), "a Word document"),
        ("people.numbers", zipped("Index/Document.iwa", "Metadata/Properties.plist"), "a Numbers document"),
        ("people.zip", zipped("mail/people.csv"), "a zip archive"),
        ("people.odt", zipped(mimetype=b"application/vnd.oasis.opendocument.text"), "an OpenDocument text"),
        ("people.xlsx", ole("EncryptedPackage"), "is encrypted"),
        ("people.doc", ole("WordDocument"), "a Word document"),
        ("people.msg", ole("__properties_version1.0"), "an Outlook message"),
        ("people.ods", b"", "is empty: the file has 0 bytes"),
        ("people.xlsx", bytes(5000), "only NUL bytes"),
        ("people.csv", bytes(5000), "only NUL bytes"),
        ("people.png", b"\x89PNG\r\n\x1a\n", "a picture"),
        ("people.numbers", b"old", "a Numbers document"),
        ("people.crdownload", CSV, "an unfinished download"),
        ("people.md", CSV, "(.md) is not a supported kind of list"),
        ("people", b"hello world\n", "(a file without suffix) is not a supported kind of list"),
        ("people.xlsx", b"hello world\n", "is not a workbook, despite its name"),
    ],
)
def test_what_is_no_list_is_called_what_it_is(tmp_path, name, content, words):
    """Other documents, archives, links and empty files are named, with the way to a list."""
    path = tmp_path / name
    path.write_bytes(content)

    error = refused(path, name)

    assert words in error.message
    assert (error.code, bool(error.hint)) == ("D120", True)


@pytest.mark.parametrize("suffix", [".xlsx", ".ods"])
@pytest.mark.parametrize("part", [0.02, 0.5, 0.9, 0.999])
def test_half_a_download_is_told(tmp_path, suffix, part):
    """A workbook that is cut off anywhere is damaged or incomplete."""
    content = (LISTS / f"people{suffix}").read_bytes()
    path = tmp_path / f"people{suffix}"
    path.write_bytes(content[: int(len(content) * part)])

    error = refused(path, path.name)

    assert (error.code, "damaged or incomplete" in error.message) == ("D124", True)
    assert "again" in (error.hint or "")


@pytest.mark.parametrize(
    ("name", "content", "kind", "told"),
    [
        ("people.csv", workbook(), 'XLSX, sheet "Sheet"', "people.csv is an Excel workbook"),
        ("people.xls", workbook(), 'XLSX, sheet "Sheet"', "people.xls is an Excel workbook"),
        ("people.xls", CSV, "CSV, UTF-8, comma", "people.xls is a text file"),
        ("people.xls", CSV.replace(b",", b"\t"), "TSV, UTF-8, tab", "people.xls is a text file"),
        (
            "people.xls",
            b"\xff\xfe" + CSV.decode().replace(",", "\t").encode("utf-16-le"),
            "TSV, UTF-16, tab",
            "people.xls is a text file",
        ),
        ("people.xlsx", CSV, "CSV, UTF-8, comma", "people.xlsx is a text file"),
        ("people.csv", JSON, "JSON lines, UTF-8", "people.csv is JSON"),
        ("PEOPLE.XLSX", workbook(), 'XLSX, sheet "Sheet"', None),
        ("PEOPLE.CSV", CSV, "CSV, UTF-8, comma", None),
        ("people", workbook(), 'XLSX, sheet "Sheet"', None),
        ("people", CSV, "CSV, UTF-8, comma", None),
        ("people", JSON, "JSON lines, UTF-8", None),
        ("people.xlsm", workbook(), 'XLSM, sheet "Sheet"', None),
        ("people.csv", b"ID;Person;email\n1;Ann;a@example.org\n", "CSV, UTF-8, semicolon", None),
        ("people.csv", b"<b>;email\n1;a@example.org\n", "CSV, UTF-8, semicolon", None),
        ("people.csv", b"table,email\n1,a@example.org\n", "CSV, UTF-8, comma", None),
    ],
)
def test_content_decides_and_a_wrong_name_is_said(tmp_path, name, content, kind, told):
    """What is certainly a list is read as what it is; a suffix in capitals or none does not matter."""
    path = tmp_path / name
    path.write_bytes(content)

    people = open_list(path, shown=name)

    assert str(people.understanding) == kind
    assert ["a@example.org" in recipient.values for recipient in people] == [True]
    assert [(one.code, one.message.partition(" despite")[0]) for one in people.warnings] == (
        [("D215", told)] if told else []
    )


@pytest.mark.parametrize(
    ("name", "address", "words"),
    [
        (
            "https:/docs.google.com/spreadsheets/d/1/edit",
            "https://docs.google.com/spreadsheets/d/1/edit",
            "File > Download > Microsoft Excel",
        ),
        ("spring/https:/acme.sharepoint.com/x.xlsx", "https://acme.sharepoint.com/x.xlsx", "Download a Copy"),
        ("HTTP:/x.example/list.csv", "HTTP://x.example/list.csv", "download it with your browser"),
    ],
)
def test_a_web_address_is_not_a_list(name, address, words):
    """A web address is refused as one, whole again, with the way to a file."""
    error = refused(Path(name), name)
    assert (error.code, error.message.partition(" is ")[0]) == ("D216", address)
    assert words in (error.hint or "")


@pytest.mark.parametrize("name", ["~$people.xlsx", ".~lock.people.xlsx#"])
@pytest.mark.parametrize("there", [True, False])
def test_a_lock_file_is_told(tmp_path, name, there):
    """The mark that another program leaves beside an open workbook is not the workbook."""
    if there:
        (tmp_path / name).write_bytes(b"\x05Ann" + bytes(100))
    error = refused(tmp_path / name, name)
    assert (error.code, error.hint) == ("D125", "specify the workbook itself: people.xlsx")


def test_a_missing_package_is_named(tmp_path, monkeypatch):
    """Where xlrd is not installed, an .xls list says which package reads it and how to get it."""
    monkeypatch.setitem(sys.modules, "xlrd", None)
    error = refused(LISTS / "people.xls", "people.xls")
    assert (error.code, 'pip install "mailmerge-kit[xls]"' in (error.hint or "")) == ("D217", True)


@pytest.mark.parametrize("name", ["stop.xls", "stop.csv", "stop"])
def test_opt_outs_of_every_kind_of_workbook(tmp_path, name):
    """A file of opt-outs may be any workbook, whatever it is called."""
    path = tmp_path / name
    path.write_bytes((LISTS / "uncalculated.xls").read_bytes())
    assert [str(address) for address in read_opt_outs(path).addresses] == ["a@x.org"]
