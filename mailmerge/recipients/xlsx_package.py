"""The zip package of a workbook: limited in size, parts found by their relations, each read by expat alone.

Names of parts ignore case, have slashes of either kind, and are relative to the root or to the part that
refers to them. Elements are known by their local names: prefixes and strict namespaces make no difference.
"""

from __future__ import annotations

import codecs
import posixpath
import re
import weakref
import zipfile
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING
from urllib.parse import unquote
from xml.parsers import expat

from msgspec import Struct

from mailmerge.errors import ListError, MailmergeError
from mailmerge.model import Place
from mailmerge.recipients.workbook import damaged

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

_MAX_TOTAL = 1 << 30
_MAX_TEXTS = 256 << 20
"""The most bytes of the shared strings, which are kept in memory as a whole."""
_LARGE = 2 << 20
_MAX_RATIO = 200
"""Highest compression ratio of a large part: sheets reach 10 to 50, a zip bomb 1,000."""
_MAX_XML = 4 << 20
"""Most bytes of a part that describes relations of other parts."""
_MAX_PARTS = 20_000
TRUE = frozenset({"1", "true", "on"})
_FIRST_BLOCK = 8192
BLOCK = 65_536
_DECLARED = re.compile(r"""(<\?xml[^>]*\sencoding\s*=\s*["'])[^"']*""")
_BOMS_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_STARTS_16 = {b"<\0": "utf-16-le", b"\0<": "utf-16-be"}


class DocumentTypeError(Exception):
    """A part declares a document type, which no program writes: its entities could be harmful."""


class Relation(Struct, frozen=True):
    """A part's relation to another: the last word of its type, and the other's name or address."""

    kind: str
    target: str
    external: bool


class Package:
    """An open workbook.

    Raises:
        ListError: it is a zip bomb, or damaged.

    """

    def __init__(self, path: Path, shown: str) -> None:
        self.shown = shown
        self._path = path
        self._close: weakref.finalize[[], Package] | None = None
        self._zip: zipfile.ZipFile | None = None
        with reading(self):
            archive = self._archive()
            check_sizes(archive, shown)
            if len(archive.filelist) > _MAX_PARTS:
                raise zipfile.BadZipFile(f"it has more than {_MAX_PARTS:,} parts")
            self._names = {part_key(info.filename): info for info in reversed(archive.filelist)}

    def close(self) -> None:
        """Close the file; reading opens it again."""
        if self._close is not None:
            self._close()
        self._close = self._zip = None

    @property
    def is_open(self) -> bool:
        """Whether its file is open."""
        return self._zip is not None

    def find(self, name: str) -> zipfile.ZipInfo | None:
        """Return the zip entry of a part; None: the part does not exist."""
        return self._names.get(part_key(name))

    def size(self, name: str) -> int:
        """Return the unpacked size of a part in bytes; 0: the part does not exist."""
        info = self.find(name)
        return info.file_size if info else 0

    def part(self, name: str) -> IO[bytes]:
        """Open a part.

        Raises:
            KeyError: the part does not exist.

        """
        info = self.find(name)
        if info is None:
            raise KeyError(f"the part {name} is missing")
        archive = self._archive()
        return archive.open(info)

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield a part in pieces, a small one first, in an encoding that contains ASCII."""
        with self.part(name) as part:
            yield from blocks(part)

    def relations(self, name: str) -> dict[str, Relation]:
        """Return a part's relations to others, by id; the root's name is empty."""
        folder, file = posixpath.split(name)
        rels = posixpath.join(folder, "_rels", f"{file}.rels")
        found: dict[str, Relation] = {}

        def start(tag: str, attributes: dict[str, str]) -> None:
            if tag == "Relationship":
                target = attributes.get("Target", "")
                external = attributes.get("TargetMode") == "External"
                if not external:
                    target = posixpath.normpath(posixpath.join("/", folder, unquote(_slashed(target))))
                    target = target.lstrip("/")
                kind = attributes.get("Type", "").rpartition("/")[2]
                found[attributes.get("Id", "")] = Relation(kind, target, external)

        if self.find(rels):
            self.parse(rels, start)
        return found

    def parse(
        self,
        name: str,
        start: Callable[[str, dict[str, str]], object],
        end: Callable[[str, str], object] | None = None,
    ) -> None:
        """Parse a small part: *start* receives local names and attributes, *end* local names and text."""
        if self.size(name) > _MAX_XML:
            raise zipfile.BadZipFile(f"{name} is too large")
        texts: list[str] = []
        parser = parser_of(name)

        def started(tag: str, attributes: dict[str, str]) -> None:
            texts.clear()
            start(local(tag), attributes)

        parser.StartElementHandler = started
        if end is not None:
            ended = end
            parser.CharacterDataHandler = texts.append
            parser.EndElementHandler = lambda tag: ended(local(tag), "".join(texts))
        for block in self.blocks(name):
            parser.Parse(block)
        parser.Parse(b"", True)

    def _archive(self) -> zipfile.ZipFile:
        if self._zip is None:
            file = self._path.open("rb")
            self._close = weakref.finalize(self, file.close)
            self._zip = zipfile.ZipFile(file)
        return self._zip


def local(tag: str) -> str:
    """Return a name without its prefix."""
    return tag.rpartition(":")[2]


def parser_of(name: str) -> expat.XMLParserType:
    """Return a parser that refuses document types; *name* is that of the part."""
    parser = expat.ParserCreate()
    parser.buffer_text = True

    def refuse(*_: object) -> None:
        raise DocumentTypeError(f"{name} declares a document type")

    parser.StartDoctypeDeclHandler = refuse
    return parser


def blocks(part: IO[bytes]) -> Iterator[bytes]:
    """Yield a part in pieces, a small one first, in an encoding that contains ASCII."""
    block = part.read(_FIRST_BLOCK)
    codec = "utf-16" if block.startswith(_BOMS_16) else _STARTS_16.get(block[:2])
    if codec is None:
        yield block
        yield from iter(lambda: part.read(BLOCK), b"")
        return
    text = codecs.getincrementaldecoder(codec)()
    yield _DECLARED.sub(r"\1UTF-8", text.decode(block), count=1).encode()
    for more in iter(lambda: part.read(BLOCK), b""):
        yield text.decode(more).encode()
    yield text.decode(b"", final=True).encode()


@contextmanager
def reading(package: Package | str) -> Iterator[None]:
    """Turn anything zipfile, expat and openpyxl raise for a damaged file into one `ListError`.

    They raise many types: struct.error, RuntimeError for a password, AttributeError for gaps.
    """
    try:
        yield
    except MailmergeError:
        if isinstance(package, Package):
            package.close()
        raise
    except Exception as error:
        shown = package
        if isinstance(package, Package):
            package.close()
            shown = package.shown
        raise damaged(str(shown), f"{type(error).__name__}: {error}".partition("\n")[0]) from error


def _slashed(name: str) -> str:
    return name.replace("\\", "/")


def part_key(name: str) -> str:
    """Return a key that is equal for all names of one part."""
    return _slashed(name).lstrip("/").lower()


def check_sizes(archive: zipfile.ZipFile, shown: str) -> None:
    """Refuse a package that would unpack to more than any list.

    Raises:
        ListError: with the part that is responsible.

    """
    parts = archive.infolist()
    total = sum(part.file_size for part in parts)
    for part in parts:
        ratio = part.file_size / max(part.compress_size, 1)
        texts = part.filename.lower().endswith("sharedstrings.xml")
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
