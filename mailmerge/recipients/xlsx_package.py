"""What has to be known of a workbook before openpyxl streams it.

From outside: it is a zip of sane size, with named sheets. From one pass over the sheet's XML: what the
streaming reader does not tell, hidden rows, merged cells and formulas without a value. That pass sees which
cells have content, not what that is.
"""

from __future__ import annotations

import posixpath
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING
from xml.parsers import expat

from defusedxml import ElementTree
from msgspec import Struct, field

from mailmerge.errors import ListError, MailmergeError
from mailmerge.model import Place
from mailmerge.recipients.workbook import Sheet, cell_name, cell_position, damaged

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from xml.etree.ElementTree import Element

_MAX_TOTAL = 1 << 30
_MAX_TEXTS = 256 << 20
"""The shared texts are held in memory as a whole."""
_LARGE = 2 << 20
_MAX_RATIO = 200
"""How far a large part may be compressed: sheets reach 10 to 50, a bomb 1,000."""
_MAX_XML = 4 << 20
MAX_FORMAT = 255
"""Characters of a number format, as spreadsheet programs have it."""
_MAX_FORMATS = 10_000
_MAX_CELLS = 16_384
"""Cells of a row."""
_OLE = b"\xd0\xcf\x11\xe0"
_BLOCK = 65_536
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


def read_package(path: Path, shown: str) -> list[Sheet]:
    """Check the file from outside and list its worksheets.

    Raises:
        ListError: it is no workbook, encrypted, a bomb, or damaged.

    """
    _check_kind(path, shown)
    with reading(shown), zipfile.ZipFile(path) as archive:
        check_sizes(archive, shown)
        _check_formats(archive, shown)
        return list(_sheets(archive))


@contextmanager
def reading(shown: str) -> Iterator[None]:
    """Turn whatever zipfile, expat and openpyxl raise for a damaged file into one `ListError`.

    They fail in every way there is: struct.error, RuntimeError for a password, AttributeError for gaps.
    """
    try:
        yield
    except MailmergeError:
        raise
    except Exception as error:
        raise damaged(shown, f"{type(error).__name__}: {error}".partition("\n")[0]) from error


def _check_kind(path: Path, shown: str) -> None:
    with path.open("rb") as file:
        start = file.read(8)
        rest = file.read(8 << 20) if start.startswith(_OLE) else b""
    if start.startswith(b"PK"):
        return
    if not start.startswith(_OLE):
        kind = "is empty" if not start else "is not a workbook, despite its name"
        hint = "if it is text, give it its proper suffix (.csv); otherwise save it again as .xlsx"
    elif "EncryptedPackage".encode("utf-16-le") in rest:
        kind, hint = "is encrypted", "save a copy without a password"
    else:
        kind, hint = "is an old .xls workbook", "open it in your spreadsheet program and save it as .xlsx"
    raise ListError(f"{shown} {kind}", code="D120", hint=hint, place=Place(path=shown))


def check_sizes(archive: zipfile.ZipFile, shown: str) -> None:
    """Refuse what would unpack to more than any list.

    Raises:
        ListError: with the part that is to blame.

    """
    parts = archive.infolist()
    total = sum(part.file_size for part in parts)
    for part in parts:
        ratio = part.file_size / max(part.compress_size, 1)
        texts = part.filename.endswith("sharedStrings.xml")
        if (part.file_size > _LARGE and ratio > _MAX_RATIO) or (texts and part.file_size > _MAX_TEXTS):
            break
    else:
        if total <= _MAX_TOTAL:
            return
        part = max(parts, key=lambda one: one.file_size)
    raise ListError(
        f"{shown} would unpack to {total >> 20:,} MB ({part.filename}: {part.file_size >> 20:,} MB)",
        code="D123",
        hint="no list is that large: copy the cells into a new workbook, or save it as CSV (UTF-8)",
        place=Place(path=shown),
    )


def _check_formats(archive: zipfile.ZipFile, shown: str) -> None:
    """Refuse more number formats than any program writes."""
    count = 0

    def start(tag: str, _: dict[str, str]) -> None:
        nonlocal count
        count += tag.endswith("numFmt")

    for part in archive.namelist():
        if not part.lower().endswith("styles.xml"):
            continue
        parser = expat.ParserCreate()
        parser.StartElementHandler = start
        with archive.open(part) as file:
            while (block := file.read(_BLOCK)) and count <= _MAX_FORMATS:
                parser.Parse(block)
    if count > _MAX_FORMATS:
        raise ListError(
            f"{shown} has more than {_MAX_FORMATS:,} number formats",
            code="D123",
            hint="copy the cells into a new workbook, or save it as CSV (UTF-8)",
            place=Place(path=shown),
        )


def _sheets(archive: zipfile.ZipFile) -> Iterator[Sheet]:
    roots = _relations(archive, "").values()
    main = next((part for kind, part in roots if kind.endswith("/officeDocument")), "xl/workbook.xml")
    relations = _relations(archive, main)
    for element in _xml(archive, main).iter():
        if element.tag.endswith("}sheet"):
            kind, part = relations[element.attrib[_RELATION]]
            if kind.endswith("/worksheet"):
                visible = element.get("state", "visible") == "visible"
                yield Sheet(element.attrib["name"], visible, part)


def _relations(archive: zipfile.ZipFile, part: str) -> dict[str, tuple[str, str]]:
    folder, name = posixpath.split(part)
    root = _xml(archive, posixpath.join(folder, "_rels", f"{name}.rels"))
    return {
        element.attrib["Id"]: (
            element.attrib["Type"],
            posixpath.normpath(posixpath.join("/", folder, element.attrib["Target"])).lstrip("/"),
        )
        for element in root
    }


def _xml(archive: zipfile.ZipFile, part: str) -> Element:
    if archive.getinfo(part).file_size > _MAX_XML:
        raise zipfile.BadZipFile(f"{part} is too large")
    root: Element = ElementTree.fromstring(archive.read(part))
    return root


# --- one pass over a sheet -----------------------------------------------------------------------------


class SheetTraits(Struct):
    """What a pass over a sheet found; rows and columns count from 1."""

    last_row: int = 0
    """The last row with content; 0: there is none."""
    hidden: list[int] = field(default_factory=list)
    """Rows with content that are hidden by hand, by a filter or by a collapsed group."""
    merged: list[str] = field(default_factory=list)
    """Ranges such as ``B3:B5``."""
    uncached: dict[int, list[int]] = field(default_factory=dict)
    """Row to columns of formulas that were never calculated."""


def read_traits(path: Path, part: str, shown: str) -> SheetTraits:
    """Go through one sheet of a workbook.

    Raises:
        ListError: the sheet is damaged, or not written in order.

    """
    scan = _Scan()
    with reading(shown), zipfile.ZipFile(path) as archive, archive.open(part) as file:
        while block := file.read(_BLOCK):
            scan.feed(block)
        scan.close()
    return scan.traits


class _Scan:
    """Expat handlers; only elements begin here, as ends would cost as much again."""

    def __init__(self) -> None:
        self.traits = SheetTraits()
        self._row = 0
        self._column = 0
        self._hidden = False
        self._content = ""  # name of the row's first cell with content
        self._cell = ""
        self._type = ""
        self._formula = False
        self._in_value = False
        self._value = ""
        self._names: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, block: bytes) -> None:
        self._parser.Parse(block)

    def close(self) -> None:
        self._parser.Parse(b"", True)
        self._end_row()

    def _refuse(self, *_: object) -> None:
        raise ValueError("the sheet declares a document type")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = tag.rpartition(":")[2]
        if name == "c":
            if self._formula:
                self._end_formula()
            self._column += 1
            if self._column > _MAX_CELLS:
                raise ValueError(f"row {self._row} has more than {_MAX_CELLS:,} cells")
            self._cell = attributes.get("r", "")
            self._type = attributes.get("t", "")
        elif name in ("v", "is"):
            self._in_value = True
            self._content = self._content or self._cell or cell_name(self._row, self._column)
        elif name == "f":
            self._formula = True
            self._in_value = False
            self._value = ""
            self._content = self._content or self._cell or cell_name(self._row, self._column)
            self._parser.CharacterDataHandler = self._text
        elif name == "row":
            self._end_row()
            self._start_row(attributes)
        elif name == "mergeCell":
            self.traits.merged.append(attributes.get("ref", ""))

    def _text(self, text: str) -> None:
        if self._in_value:
            self._value += text

    def _start_row(self, attributes: dict[str, str]) -> None:
        row = int(attributes.get("r", self._row + 1))
        if row <= self._row:
            raise ValueError(f"row {row} comes after row {self._row}")
        self._row = row
        self._column = 0
        self._hidden = attributes.get("hidden") in ("1", "true") or attributes.get("ht") == "0"

    def _end_formula(self) -> None:
        self._parser.CharacterDataHandler = None
        self._formula = False
        # A text result may be empty; a result of any other type, or none, may not.
        if not self._value.strip() and self._type != "str":
            column = cell_position(self._cell)[1] if self._cell else self._column
            self.traits.uncached.setdefault(self._row, []).append(column)

    def _end_row(self) -> None:
        if self._formula:
            self._end_formula()
        traits = self.traits
        if not self._content:
            return
        traits.last_row = self._row
        if self._hidden:
            traits.hidden.append(self._row)
        self._content = ""
