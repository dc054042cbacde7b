"""What a workbook file is before anything parses it: a zip of sane size, with named sheets."""

from __future__ import annotations

import posixpath
import zipfile
from contextlib import contextmanager
from typing import TYPE_CHECKING

from defusedxml import ElementTree
from msgspec import Struct

from mailmerge.errors import ListError, MailmergeError
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from xml.etree.ElementTree import Element

_MAX_TOTAL = 1 << 30
_MAX_TEXTS = 256 << 20
"""The shared texts are held in memory as a whole."""
_LARGE = 16 << 20
_MAX_RATIO = 200
"""How far a large part may be compressed: sheets reach 10 to 50, a bomb 1,000."""
_MAX_XML = 4 << 20
_OLE = b"\xd0\xcf\x11\xe0"
_RELATION = "{http://schemas.openxmlformats.org/officeDocument/2006/relationships}id"


class SheetPart(Struct, frozen=True):
    """One worksheet: its tab's name, whether the tab can be seen, and its file in the zip."""

    name: str
    visible: bool
    part: str


def read_package(path: Path, shown: str) -> list[SheetPart]:
    """Check the file from outside and list its worksheets.

    Raises:
        ListError: it is no workbook, encrypted, a bomb, or damaged.

    """
    _check_kind(path, shown)
    with reading(shown), zipfile.ZipFile(path) as archive:
        _check_sizes(archive, shown)
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


def damaged(shown: str, why: str) -> ListError:
    """Make the error for a workbook that cannot be read."""
    return ListError(
        f"{shown} cannot be read as a workbook: {why}",
        code="D124",
        hint="open it in your spreadsheet program and save it anew as .xlsx (not as Strict Open XML)",
        place=Place(path=shown),
    )


def _check_kind(path: Path, shown: str) -> None:
    with path.open("rb") as file:
        start = file.read(8)
        rest = file.read(8 << 20) if start.startswith(_OLE) else b""
    if start.startswith(b"PK"):
        return
    if not start.startswith(_OLE):
        kind = "is empty" if not start else "is not a workbook, whatever its name says"
        hint = "if it is text, give it its own suffix (.csv); else save it anew as .xlsx"
    elif "EncryptedPackage".encode("utf-16-le") in rest:
        kind, hint = "is encrypted", "save a copy without a password"
    else:
        kind, hint = "is an old .xls workbook", "open it in your spreadsheet program and save it as .xlsx"
    raise ListError(f"{shown} {kind}", code="D120", hint=hint, place=Place(path=shown))


def _check_sizes(archive: zipfile.ZipFile, shown: str) -> None:
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
        hint="no list needs that: copy the cells into a new workbook, or save it as CSV (UTF-8)",
        place=Place(path=shown),
    )


def _sheets(archive: zipfile.ZipFile) -> Iterator[SheetPart]:
    roots = _relations(archive, "").values()
    main = next((part for kind, part in roots if kind.endswith("/officeDocument")), "xl/workbook.xml")
    relations = _relations(archive, main)
    for element in _xml(archive, main).iter():
        if element.tag.endswith("}sheet"):
            kind, part = relations[element.attrib[_RELATION]]
            if kind.endswith("/worksheet"):
                visible = element.get("state", "visible") == "visible"
                yield SheetPart(element.attrib["name"], visible, part)


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
