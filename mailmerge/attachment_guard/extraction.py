"""The text of a file from any source: bounded in time, memory and length.

Files come from anywhere, so nothing here trusts them: archives that unpack to more than they should, document
types in XML, endless pages. It runs in a separate process, which is terminated if it takes too long.
"""

from __future__ import annotations

import io
import re
import time
import zipfile
import zlib
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct

from mailmerge.attachment_guard.words import word_set

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from lxml.etree import _Element as Element

State = Literal["read", "empty", "encrypted", "damaged", "large", "slow", "missing", "unstarted", "other"]
"""What came of reading a file.

Its text was read; it has none (a scan); it has a password; it is damaged; it is too large; it takes too long;
its reader is not installed, or cannot be started; its kind is not supported.
"""

KINDS: Final = word_set(
    ".pdf .docx .docm .dotx .xlsx .xlsm .pptx .odt .ods .odp .txt .text .csv .tsv .tab .html .htm "
    ".xhtml .md .json .xml .ics .vcf .eml .log .zip"
)
"""Suffixes of files that are read."""
PLAIN: Final = word_set(".txt .text .csv .tsv .tab .md .json .ics .vcf .log")
"""Suffixes of plain text files, which can be read in the main process."""
MOST_TEXT = 1_000_000
"""Most characters of text: the rest is not read."""
MOST_OCTETS = 64 << 20
"""Most octets of a file, and of its unpacked content."""
_SECONDS = 3.0
"""Seconds for the pages of a PDF, and for the files of an archive."""
_MOST_MEMBERS = 500
"""Most files of an archive."""
_WORD_PARTS = re.compile(r"word/(?:document|header\d*|footer\d*|footnotes|endnotes|comments)\.xml\Z")
_SLIDES = re.compile(r"ppt/(?:slides|notesSlides)/[^/]*\.xml\Z")
_SHEETS = re.compile(r"xl/worksheets/[^/]*\.xml\Z")
_DRAWINGS = re.compile(r"xl/(?:drawings/[^/]*\.xml|comments[^/]*\.xml)\Z")
_DOCUMENT_PARTS = word_set("word/document.xml xl/workbook.xml ppt/presentation.xml content.xml")
_LINES = word_set(
    "p div br tr li h1 h2 h3 h4 h5 h6 table section article header footer address dt dd title option hr"
)
_CELLS = frozenset({"td", "th"})
_HIDDEN = frozenset({"script", "style", "template", "noscript"})


class Extract(Struct, frozen=True, array_like=True):
    """What was read from a file."""

    state: State
    text: str = ""
    left: State | None = None
    """The result for files in an archive whose text is missing; None: all of them were read."""


class _UnreadableError(Exception):
    """A file's text cannot be read: the first argument is the `State`."""


def extract(data: bytes, suffix: str) -> Extract:
    """Return the text of a file.

    Args:
        data: the content of the file.
        suffix: the suffix of its name, in lower case; the first octets of the file outweigh it.

    """
    left = None
    try:
        if _is_bundle(data):
            text, left = _bundle(data)
        else:
            text = _reader(data, suffix)(data)
    except _UnreadableError as error:
        return Extract(error.args[0])
    except MemoryError:
        return Extract("large")
    text = text[:MOST_TEXT].encode("utf-8", "replace").decode("utf-8")
    return Extract("read", text, left) if any(map(str.isalnum, text)) else Extract(left or "empty")


def _reader(data: bytes, suffix: str) -> Callable[[bytes], str]:
    if b"%PDF-" in data[:1024]:
        return _pdf
    if data.startswith(b"PK\x03\x04"):
        return _archive
    if data.startswith(b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1") and suffix in {".docx", ".xlsx", ".pptx"}:
        raise _UnreadableError("encrypted")  # Office stores encrypted documents in a compound file
    if suffix in {".html", ".htm", ".xhtml"}:
        return _html
    if suffix == ".eml":
        return _message
    if suffix == ".xml":
        return _xml
    if suffix in PLAIN:
        return decoded
    raise _UnreadableError("damaged" if suffix in KINDS else "other")


def _xml(data: bytes) -> str:
    return "\n".join(map(str, _parse(data).itertext()))


def decoded(data: bytes) -> str:
    """Decode text: by its byte order mark, as UTF-8, or in a Western encoding that accepts any octets."""
    for mark, encoding in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if data.startswith(mark):
            return data.decode(encoding, "replace")
    head = data[:1000]
    if head.count(b"\0") > len(head) // 4:
        return data.decode(
            "utf-16-le" if head[1::2].count(b"\0") > len(head) // 4 else "utf-16-be", "replace"
        )
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError:
        return data.decode("cp1252", "replace")


# --- PDF --------------------------------------------------------------------------------------------------


def _pdf(data: bytes) -> str:
    try:
        import pypdfium2
    except ImportError:
        raise _UnreadableError("missing") from None
    ends = time.monotonic() + _SECONDS
    try:
        document = pypdfium2.PdfDocument(data)
    except pypdfium2.PdfiumError as error:
        raise _UnreadableError("encrypted" if "assword" in str(error) else "damaged") from None
    try:
        return "\n".join(_pages(document, ends))
    except pypdfium2.PdfiumError:
        raise _UnreadableError("damaged") from None
    finally:
        document.close()


def _pages(document: Any, ends: float) -> Iterator[str]:
    if document.get_formtype():
        document.init_forms()
    length = 0
    for number in range(len(document)):
        page = document[number]
        text = _page_text(document, number, page)
        yield text
        length += len(text)
        if length > MOST_TEXT:
            return
        if time.monotonic() > ends:
            raise _UnreadableError("slow")


def _page_text(document: Any, number: int, page: Any) -> str:
    """Return the text of a page, including form fields and annotations."""
    from pypdfium2 import raw

    if raw.FPDFPage_GetAnnotCount(page) > 0 and raw.FPDFPage_Flatten(page, raw.FLAT_NORMALDISPLAY) == 1:
        page.close()
        page = document[number]
    words = page.get_textpage()
    text: str = words.get_text_bounded()
    words.close()
    page.close()
    return text


# --- archives of XML --------------------------------------------------------------------------------------


def _archive(data: bytes) -> str:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            names = archive.namelist()
            if "word/document.xml" in names:
                return _texts(archive, filter(_WORD_PARTS.match, names))
            if "xl/workbook.xml" in names:
                return _workbook(archive, names)
            if "ppt/presentation.xml" in names:
                return _texts(archive, filter(_SLIDES.match, names))
            if "content.xml" in names:
                if b"encryption-data" in (_member(archive, "META-INF/manifest.xml") or b""):
                    raise _UnreadableError("encrypted")
                return _texts(archive, [name for name in ("content.xml", "styles.xml") if name in names])
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        raise _UnreadableError("damaged") from None
    raise _UnreadableError("other")


def _member(archive: zipfile.ZipFile, name: str) -> bytes | None:
    """Unpack a member; None: it does not exist."""
    try:
        found = archive.getinfo(name)
    except KeyError:
        return None
    if found.flag_bits & 1:
        raise _UnreadableError("encrypted")
    with archive.open(found) as stream:
        data = stream.read(MOST_OCTETS // 4 + 1)
    if len(data) > MOST_OCTETS // 4:
        raise _UnreadableError("large")
    return data


def _parse(data: bytes) -> Element:
    from lxml import etree

    if b"<!DOCTYPE" in data[:4096] or b"<!ENTITY" in data:
        raise _UnreadableError("damaged")
    parser = etree.XMLParser(resolve_entities=False, no_network=True, load_dtd=False, remove_comments=True)
    try:
        return etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise _UnreadableError("damaged") from None


def _local(element: Element) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _texts(archive: zipfile.ZipFile, names: Iterator[str] | list[str] | filter[str]) -> str:
    """Return the text of documents: runs of a paragraph belong together, paragraphs and cells do not."""
    found: list[str] = []
    total = 0
    for name in names:
        data = _member(archive, name)
        total += len(data or b"")
        if total > MOST_OCTETS:
            raise _UnreadableError("large")
        if data:
            _collect(_parse(data), found)
    return "".join(found)


_BREAKS = {
    "p": "\n",
    "h": "\n",
    "tab": "\t",
    "br": "\n",
    "cr": "\n",
    "tc": "\t",
    "line-break": "\n",
    "s": " ",
}
"""Elements of OOXML and OpenDocument, and the text at their ends."""


def _collect(root: Element, found: list[str]) -> None:
    from lxml import etree

    for event, element in etree.iterwalk(root, events=("start", "end")):
        name = _local(element)
        is_open_document = "opendocument" in str(element.tag)
        if event == "start":
            if (name == "t" or is_open_document) and element.text:
                found.append(element.text)
        else:
            if name in _BREAKS:
                found.append(_BREAKS[name])
            if is_open_document and element.tail:
                found.append(element.tail)


def _workbook(archive: zipfile.ZipFile, names: list[str]) -> str:
    """Return what the cells of all sheets show, hidden ones too, as far as it is stored as text or number."""
    shared: list[str] = []
    data = _member(archive, "xl/sharedStrings.xml")
    if data:
        shared = [_runs(item) for item in _parse(data) if _local(item) == "si"]
    found: list[str] = []
    total = len(data or b"")
    for name in filter(_SHEETS.match, names):
        data = _member(archive, name) or b""
        total += len(data)
        if total > MOST_OCTETS:
            raise _UnreadableError("large")
        for cell in _parse(data).iter("{*}c"):
            found += (_cell(cell, shared), "\t" if cell.getnext() is not None else "\n")
    return "".join(found) + _texts(archive, filter(_DRAWINGS.match, names))


def _runs(item: Element) -> str:
    """Return text without its phonetic guides."""
    return "".join(
        t.text or ""
        for t in item.iter("{*}t")
        if (parent := t.getparent()) is None or _local(parent) != "rPh"
    )


def _cell(cell: Element, shared: list[str]) -> str:
    if cell.get("t") == "inlineStr":
        return _runs(cell)
    value = next(cell.iter("{*}v"), None)
    text = "" if value is None or value.text is None else value.text
    if cell.get("t") != "s":
        return text
    return shared[int(text)] if text.isdecimal() and int(text) < len(shared) else ""


def _is_bundle(data: bytes) -> bool:
    """Return whether it is an archive of files, not a document that is stored as one."""
    if not data.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        return False
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            return _DOCUMENT_PARTS.isdisjoint(archive.namelist())
    except (zipfile.BadZipFile, ValueError, OSError):
        return False


def _bundle(data: bytes) -> tuple[str, State | None]:
    """Return the texts of an archive's files, with their names, and why the text of one is missing."""
    ends = time.monotonic() + _SECONDS
    texts: list[str] = []
    left: State | None = None
    total = 0
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            members = [one for one in archive.infolist() if not one.is_dir()]
            for number, one in enumerate(members):
                if number >= _MOST_MEMBERS or total > MOST_OCTETS or sum(map(len, texts)) > MOST_TEXT:
                    raise _UnreadableError("large")
                if time.monotonic() > ends:
                    raise _UnreadableError("slow")
                texts.append(f"\n{one.filename}\n")
                content = _member(archive, one.filename) or b""
                total += len(content)
                suffix = one.filename[one.filename.rfind(".") :].lower()
                found = Extract("other") if _is_bundle(content) else extract(content, suffix)
                texts.append(found.text)
                left = left or (None if found.state == "read" else found.state)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, OSError, ValueError):
        raise _UnreadableError("damaged") from None
    return "".join(texts), left


# --- HTML and messages ------------------------------------------------------------------------------------


def _html(data: bytes) -> str:
    from lxml import etree

    encoding = "utf-8"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        declared = re.search(rb"charset\s*=\s*[\"']?([\w-]+)", data[:2048])
        data = decoded(data).encode() if declared is None else _recoded(data, declared[1].decode("ascii"))
    parser = etree.HTMLParser(encoding=encoding, no_network=True, remove_comments=True, recover=True)
    try:
        root = etree.fromstring(data, parser)
    except (etree.XMLSyntaxError, ValueError):
        raise _UnreadableError("damaged") from None
    if root is None:
        return ""
    return "".join(_html_texts(root))


def _recoded(data: bytes, encoding: str) -> bytes:
    try:
        return data.decode(encoding, "replace").encode("utf-8", "replace")
    except LookupError:
        return decoded(data).encode()


def _html_texts(root: Element) -> Iterator[str]:
    from lxml import etree

    hidden = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        name = _local(element)
        if event == "start":
            hidden += name in _HIDDEN
            if name in _LINES:
                yield "\n"
            if not hidden:
                yield element.text or ""
                if name == "input":
                    yield f" {element.get('value') or ''} "
        else:
            hidden -= name in _HIDDEN
            if name in _LINES:
                yield "\n"
            elif name in _CELLS:
                yield "\t"
            if not hidden:
                yield element.tail or ""


def _message(data: bytes) -> str:
    """Return the header and the texts of a message, without its attachments."""
    from email import message_from_bytes, policy

    message = message_from_bytes(data, policy=policy.default)
    parts = [f"{name}: {message[name]}" for name in ("From", "To", "Cc", "Subject") if message[name]]
    for part in message.walk():
        if part.get_content_maintype() != "text" or part.is_multipart():
            continue
        content = part.get_payload(decode=True)
        if isinstance(content, bytes):
            parts.append(_html(content) if part.get_content_subtype() == "html" else decoded(content))
    return "\n".join(parts)
