"""What kind of file a list is: the content decides, and the name is only compared with it.

Programs write lists under misleading names (a web site's "Export to Excel" is usually an HTML or
tab-separated table), downloads stop halfway, and other documents look like lists in a folder. What is
certainly a list is read as its real kind; everything else is refused, with a way to get a list.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place, Severity

if TYPE_CHECKING:
    from pathlib import Path


class FileKind(Struct, frozen=True):
    """A kind of file that can be a list."""

    name: str
    title: str
    """For messages: ``an Excel workbook``."""
    suffixes: tuple[str, ...]
    """The usual suffixes, the best one first."""
    workbook: bool = False


XLSX = FileKind("xlsx", "an Excel workbook", (".xlsx", ".xlsm", ".xltx", ".xltm"), workbook=True)
ODS = FileKind("ods", "an OpenDocument spreadsheet", (".ods", ".ots"), workbook=True)
FODS = FileKind("fods", "a flat OpenDocument spreadsheet", (".fods",), workbook=True)
XLS = FileKind("xls", "an Excel 97-2003 workbook", (".xls", ".xlt"), workbook=True)
JSON = FileKind("json", "JSON", (".jsonl", ".ndjson", ".json", ".ldjson"))
PIPED = ".stdin"
"""The name of the private file with a list from standard input: text, if it is nothing else."""
TEXT = FileKind("text", "a text file", (".csv", ".tsv", ".tab", ".txt", PIPED))
KINDS = (XLSX, ODS, FODS, XLS, JSON, TEXT)
_BY_SUFFIX = {suffix: kind for kind in KINDS for suffix in kind.suffixes}

MOST_OCTETS = 4_000_000_000
"""The largest list."""
_START = 65_536
"""Number of bytes that are examined."""
_ZIP, _NO_ENTRIES, _OLE = b"PK\x03\x04", b"PK\x05\x06", b"\xd0\xcf\x11\xe0"
_MAX_DIRECTORY = 8 << 20
_SAVE = "open it in your spreadsheet program and save it as .xlsx or as CSV (UTF-8)"
_AGAIN = "download or copy it again: this is only a part of it"

_NO_TABLE = "a list must be a table"
_BINARY = (
    (b"%PDF-", "a PDF document", "export the table from the program that the PDF came from, as .xlsx or CSV"),
    (
        b"SQLite format 3\0",
        "an SQLite database",
        'export the table: sqlite3 -header -csv FILE "SELECT …" > list.csv',
    ),
    (b"\0\1\0\0Standard Jet DB", "an Access database", "in Access: External Data > Export > Excel"),
    (b"\0\1\0\0Standard ACE DB", "an Access database", "in Access: External Data > Export > Excel"),
    (
        b"PAR1",
        "a Parquet file",
        "with pandas: Campaign.from_dataframe(pandas.read_parquet(…)), or write it as CSV",
    ),
    (
        b"ARROW1\0\0",
        "an Arrow file",
        "with pandas: Campaign.from_dataframe(pandas.read_feather(…)), or write it as CSV",
    ),
    (
        b"\x89HDF\r\n",
        "an HDF5 file",
        "with pandas: Campaign.from_dataframe(pandas.read_hdf(…)), or write it as CSV",
    ),
    (b"$FL2", "an SPSS file", "in SPSS: File > Export > CSV Data or Excel"),
    (b"<stata_dta>", "a Stata file", "in Stata: export delimited or export excel"),
    (b"{\\rtf", "a Word document (RTF)", "copy the table into a spreadsheet program and save it as .xlsx"),
    (b"\x1f\x8b", "compressed (gzip)", "unpack it first: gunzip"),
    (b"BZh", "compressed (bzip2)", "unpack it first: bunzip2"),
    (b"\xfd7zXZ\0", "compressed (xz)", "unpack it first: unxz"),
    (b"\x28\xb5\x2f\xfd", "compressed (zstd)", "unpack it first: unzstd"),
    (b"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first, and name the list in it"),
    (b"Rar!\x1a\x07", "a RAR archive", "unpack it first, and name the list in it"),
    (b"bplist00", "a property list of macOS, perhaps a link to the list", "name the list itself"),
    (b"\x89PNG", "a picture", "a list must be a table, not a picture of one"),
    (b"\xff\xd8\xff", "a picture", "a list must be a table, not a picture of one"),
    (
        b"!BDN",
        "an Outlook data file",
        "in Outlook: File > Open & Export > Import/Export > Export to a file > CSV",
    ),
)
"""How files begin that are not lists: bytes, kind, the way to a list."""
_CARDS = ("address cards (vCard)", "import them into your address book, and export it as CSV")
_PAGE = ("a link to a web page", "open the link, and download the list")
_LDIF = ("an LDIF address book", "export the address book as CSV instead")
_WORDED = (
    ("begin:vcard", "", *_CARDS),
    ("begin:vcalendar", "", "a calendar (iCalendar)", _NO_TABLE),
    ("[internetshortcut]", "", *_PAGE),
    ("id;p", r"id;p[^\r\n]*\r?\n[a-z];", "a SYLK table", _SAVE),
    ("table", r"table\r?\n0,1\r?\n", "a DIF table", _SAVE),
    ("version: 1", r"version: 1\s+dn:", *_LDIF),
    ("dn: ", r"dn: \w+=", *_LDIF),
    ("mime-version:", "", "a web page with a table (MHTML)", _SAVE),
    ("from: <saved by", "", "a web page with a table (MHTML)", _SAVE),
    ("%!ps", "", "a PostScript document", _NO_TABLE),
)
"""How text files begin that are not lists: a regular expression for lower case, kind, the way to a list."""
_FOREIGN = {
    ".numbers": ("a Numbers document", "in Numbers: File > Export To > Excel (or CSV)"),
    ".gsheet": (
        "only a link to a Google sheet",
        "in Google Sheets: File > Download > Microsoft Excel (.xlsx)",
    ),
    ".xlsb": ("a binary Excel workbook", "in Excel: File > Save As > Excel Workbook (.xlsx)"),
    ".pdf": _BINARY[0][1:],
    ".docx": ("a Word document", "copy the table into a spreadsheet program and save it as .xlsx"),
    ".doc": ("a Word document", "copy the table into a spreadsheet program and save it as .xlsx"),
    ".odt": ("an OpenDocument text", "copy the table into a spreadsheet program and save it as .xlsx"),
    ".rtf": ("a Word document (RTF)", "copy the table into a spreadsheet program and save it as .xlsx"),
    ".pages": ("a Pages document", "copy the table into Numbers: File > Export To > Excel"),
    ".vcf": _CARDS,
    ".mdb": _BINARY[2][1:],
    ".accdb": _BINARY[2][1:],
    ".sqlite": _BINARY[1][1:],
    ".sqlite3": _BINARY[1][1:],
    ".db": _BINARY[1][1:],
    ".parquet": _BINARY[4][1:],
    ".feather": _BINARY[5][1:],
    ".dbf": ("a dBASE table", _SAVE),
    ".sav": _BINARY[7][1:],
    ".dta": _BINARY[8][1:],
    ".zip": ("a zip archive", "unpack it first, and name the list in it"),
    ".wk1": ("a Lotus 1-2-3 workbook", _SAVE),
    ".wks": ("a Works or Lotus 1-2-3 workbook", _SAVE),
    ".slk": ("a SYLK table", _SAVE),
    ".dif": ("a DIF table", _SAVE),
    ".ldif": _LDIF,
    ".html": ("a web page", _SAVE),
    ".htm": ("a web page", _SAVE),
    ".eml": ("a message", _NO_TABLE),
    ".msg": ("an Outlook message", _NO_TABLE),
    ".pst": (
        "an Outlook data file",
        "in Outlook: File > Open & Export > Import/Export > Export to a file > CSV",
    ),
    ".url": _PAGE,
    ".webloc": _PAGE,
    ".crdownload": ("an unfinished download", "wait until it is complete, or download it again"),
    ".part": ("an unfinished download", "wait until it is complete, or download it again"),
    ".download": ("an unfinished download", "wait until it is complete, or download it again"),
}
"""Suffixes of files that are not lists, for where the content does not show it."""
_IN_ZIP = (
    ("xl/workbook.bin", *_FOREIGN[".xlsb"]),
    ("word/document.xml", *_FOREIGN[".docx"]),
    (
        "ppt/presentation.xml",
        "a presentation",
        "copy the table into a spreadsheet program and save it as .xlsx",
    ),
    ("index/document.iwa", *_FOREIGN[".numbers"]),
    ("index.zip", *_FOREIGN[".numbers"]),
)
_IN_OLE = (
    ("EncryptedPackage", "encrypted", "open it with its password and save a copy without one"),
    ("WordDocument", *_FOREIGN[".doc"]),
    (
        "PowerPoint Document",
        "a presentation",
        "copy the table into a spreadsheet program and save it as .xlsx",
    ),
    ("__properties_version1.0", "an Outlook message", _NO_TABLE),
)
_HOSTS = (
    ("docs.google.com", "in Google Sheets: File > Download > Microsoft Excel (.xlsx)"),
    ("drive.google.com", "open it in Google Sheets: File > Download > Microsoft Excel (.xlsx)"),
    ("sharepoint.com", "in Excel for the web: File > Create a Copy > Download a Copy"),
    ("1drv.ms", "in Excel for the web: File > Create a Copy > Download a Copy"),
    ("onedrive.live.com", "in Excel for the web: File > Create a Copy > Download a Copy"),
    ("dropbox.com", "choose Download on that page"),
    ("www.icloud.com", "in Numbers: File > Download a Copy > Excel"),
    ("airtable.com", "in Airtable: the view's menu > Download CSV"),
    ("notion.so", "in Notion: … > Export > CSV"),
)


_JSON = r'\[?\s*\{\s*"|\[\s*\]'
_LINK = r'"doc_id"\s*:|"url"\s*:\s*"https://docs\.google\.com'
_WEB_ADDRESS = r"(?:^|[/\\])(https?|ftps?|sftp|s3|gs|webdavs?):[/\\]{1,2}(.*)"
_LONGEST_LINK = 2000


def refuse_name(path: Path, shown: str) -> None:
    """Refuse what the name alone shows: a web address, and the lock file of a program that has a file open.

    Raises:
        ListError: it is one of these.

    """
    name = str(path)
    address = re.search(_WEB_ADDRESS, name, re.IGNORECASE | re.DOTALL) if ":" in name else None
    if address:
        url = f"{address[1]}://{address[2]}"
        how = next((hint for host, hint in _HOSTS if host in url.lower()), "download it with your browser")
        raise ListError(
            f"{url} is a web address: a list must be a file on this computer",
            code="D216",
            hint=f"{how}; then specify the file",
            place=Place(path=url),
        )
    if path.name.startswith(("~$", ".~lock.")):
        raise ListError(
            f"{shown} is only the lock file of a workbook that is open in another program",
            code="D125",
            hint=f"specify the workbook itself: {_locked(path.name)}",
            place=Place(path=shown),
        )


def _locked(name: str) -> str:
    return name.removeprefix("~$") if name.startswith("~$") else name.removeprefix(".~lock.").rstrip("#")


def find_kind(path: Path, shown: str) -> FileKind:
    """Tell what kind of list a file is.

    Raises:
        ListError: it is not a list, is encrypted, or is incomplete.

    """
    suffix = path.suffix.lower()
    with path.open("rb") as file:
        start = file.read(_START)
    by_name = _BY_SUFFIX.get(suffix)
    if not start:
        if by_name is not None and not by_name.workbook:
            return by_name  # its own reader reports that it is empty
        raise _refused(shown, "is empty: the file has 0 bytes", f"{_AGAIN}, or save the list again")
    if not start.strip(b"\0") and len(start) > 1:
        raise _refused(shown, "contains only NUL bytes: it was never written completely", _AGAIN)
    if start.startswith((_ZIP, _NO_ENTRIES)):
        return _kind_of_zip(path, shown)
    if start.startswith(_OLE):
        return _kind_of_ole(path, shown)
    if re.match(rb"\x09[\x00\x02\x04\x08][\x04-\x10]\x00", start):
        return XLS  # workbooks before Excel 5 have no container
    for magic, what, hint in _BINARY:
        if start.startswith(magic):
            raise _refused(shown, f"is {what}", hint)
    return _kind_of_text(start, path, shown, by_name)


def is_workbook(path: Path) -> bool:
    """Return whether a file is a workbook, by its first bytes, or by its name if those do not show it."""
    by_name = _BY_SUFFIX.get(path.suffix.lower())
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError:
        start = b""  # whoever reads it reports that
    if start.startswith((_ZIP[:2], _OLE)):
        return True
    return by_name is not None and by_name.workbook


def misnamed(path: Path, shown: str, kind: FileKind) -> Diagnostic | None:
    """Return a warning that a list is of another kind than its name suggests; None if it is not."""
    suffix = path.suffix.lower()
    if suffix in {*kind.suffixes, "", PIPED}:
        return None
    return Diagnostic(
        code="D215",
        message=f"{shown} is {kind.title} despite its name, and is read as that",
        hint=f"name it {path.stem}{kind.suffixes[0]}",
        severity=Severity.WARNING,
        place=Place(path=shown),
    )


def _refused(shown: str, what: str, hint: str, code: str = "D120") -> ListError:
    return ListError(f"{shown} {what}", code=code, hint=hint, place=Place(path=shown))


def _kind_of_zip(path: Path, shown: str) -> FileKind:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.lower().lstrip("/") for name in archive.namelist()}
            mimetype = b""
            if "mimetype" in names and archive.getinfo("mimetype").file_size < 200:
                mimetype = archive.read("mimetype").strip()
    except (
        zipfile.BadZipFile,
        KeyError,
        ValueError,
        OSError,
        RuntimeError,
        NotImplementedError,
        EOFError,
    ) as error:
        raise _refused(shown, f"is damaged or incomplete ({error})", _AGAIN, "D124") from None
    for name, what, hint in _IN_ZIP:
        if name in names:
            raise _refused(shown, f"is {what}", hint)
    if mimetype.startswith(b"application/vnd.oasis.opendocument."):
        if b".spreadsheet" in mimetype:
            return ODS
        raise _refused(shown, f"is {_FOREIGN['.odt'][0]}", _FOREIGN[".odt"][1])
    if "content.xml" in names and "[content_types].xml" not in names:
        return ODS
    if "[content_types].xml" in names or any(name.startswith("xl/") for name in names):
        return XLSX
    inside = sorted(name for name in names if name.endswith((".csv", ".xlsx", ".ods", ".xls", ".tsv")))
    what, hint = _FOREIGN[".zip"]
    raise _refused(shown, f"is {what}", f"{hint}: {inside[0]}" if inside else hint)


def _kind_of_ole(path: Path, shown: str) -> FileKind:
    """Look for the names of streams: they are in a directory that may be anywhere in the file."""
    with path.open("rb") as file:
        content = file.read(_MAX_DIRECTORY)
        size = file.seek(0, 2)
        if size > _MAX_DIRECTORY:
            file.seek(max(_MAX_DIRECTORY, size - _MAX_DIRECTORY))
            content += file.read()
    for name, what, hint in _IN_OLE:
        if f"{name}\0".encode("utf-16-le") in content or (
            name == "EncryptedPackage" and name.encode("utf-16-le") in content
        ):
            raise _refused(shown, f"is {what}", hint)
    return XLS


def _kind_of_text(start: bytes, path: Path, shown: str, by_name: FileKind | None) -> FileKind:
    text = _decoded(start).lstrip("\ufeff \t\r\n")
    for prefix, pattern, what, hint in _WORDED:
        if text[: len(prefix)].lower() == prefix and re.match(pattern, text, re.IGNORECASE):
            raise _refused(shown, f"is {what}", hint)
    if text.startswith("<"):
        kind = _kind_of_markup(text, shown, by_name)
        if kind is not None:
            return kind
    if text.startswith(("{", "[")) and (by_name is JSON or re.match(_JSON, text)):
        if re.search(_LINK, text) and len(start) < _LONGEST_LINK:
            raise _refused(shown, f"is {_FOREIGN['.gsheet'][0]}", _FOREIGN[".gsheet"][1])
        return JSON
    if by_name is not None and not by_name.workbook:
        return by_name
    return _unnamed_text(text, path, shown, by_name)


def _unnamed_text(text: str, path: Path, shown: str, by_name: FileKind | None) -> FileKind:
    """Accept text as a table only if it looks like one: nothing else shows that it is."""
    suffix = path.suffix.lower()
    if by_name is None and suffix in _FOREIGN:
        what, hint = _FOREIGN[suffix]
        raise _refused(shown, f"is {what}", hint)
    if by_name is not None or not suffix:
        if _is_table(text):
            return TEXT
        if by_name is not None:
            hint = f"{_AGAIN}, or save the list again as .xlsx"
            raise _refused(shown, "is not a workbook, despite its name", hint)
        raise _refused(shown, "(a file without suffix) is not a supported kind of list", _SAVE)
    hint = f"if it is a table of text, name it {path.stem}.csv; else {_SAVE}"
    raise _refused(shown, f"({suffix}) is not a supported kind of list", hint)


def _kind_of_markup(text: str, shown: str, by_name: FileKind | None) -> FileKind | None:
    """Return the kind of a table in markup; None if it is not markup."""
    head = text[:4096].lower()
    if "urn:oasis:names:tc:opendocument:xmlns:office" in text and "<office:document" in head:
        return FODS
    if "urn:schemas-microsoft-com:office:spreadsheet" in head or 'progid="excel.sheet"' in head:
        raise _refused(shown, "is an XML spreadsheet of Excel 2003", _SAVE)
    if re.match(
        r"(<\?xml[^>]*>\s*)?(<!--.*?-->\s*)*<(!doctype html|html|head|body|meta|style|table|div)\b",
        head,
        re.DOTALL,
    ):
        if "<table" in text.lower():
            raise _refused(shown, "is a web page with a table (HTML), not a workbook or text table", _SAVE)
        raise _refused(
            shown,
            "is a web page (HTML), not the list: perhaps a sign-in page",
            "download the list again with your browser, signed in",
        )
    if re.match(r"<\?xml|<[a-z:]+[\s>]", head) and (
        by_name is None or by_name.workbook or head.startswith("<?xml")
    ):
        raise _refused(shown, "is an XML file, not a list", "export the list as .xlsx or CSV (UTF-8)")
    return None


def _decoded(start: bytes) -> str:
    """Return the beginning as text, with only its ASCII characters intact."""
    if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return start[: len(start) // 2 * 2].decode("utf-16", "replace")
    return start.decode("latin-1").removeprefix("ï»¿")


def _is_table(text: str) -> bool:
    """Return whether it is text with more than one column in almost every line."""
    if "\0" in text or re.search(r"[\x01-\x08\x0e-\x19\x1b-\x1f]", text):
        return False
    lines = [line for line in text.splitlines()[:50] if line.strip()]
    if len(text) >= _START:
        lines = lines[:-1]
    return "@" in text or any(
        len(lines) > 1 and all(mark in line for line in lines) for mark in ("\t", ";", ",", "|")
    )
