"""Attachments: from a rule's text to a file inside its base folder, and from the file to a MIME part.

A path may come from a cell, so it is not trusted: relative only, regular files only, and what it resolves
to, links included, must lie under the rule's base folder.
"""

from __future__ import annotations

# os.path, not Path: this runs on every row, and its meaning of links is exact
# ruff: noqa: PTH112, PTH116, PTH117, PTH118, PTH119, PTH122, PTH123, PTH207
import hashlib
import os
import re
import stat
from functools import lru_cache
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.message.bodies import base64_lines
from mailmerge.message.headers import content_type, disposition
from mailmerge.text import quoted

if TYPE_CHECKING:
    import mimetypes
    from pathlib import Path

    from mailmerge.model import AttachmentName, Place
    from mailmerge.options import Missing

_BAD_IN_PATH = "[\x00-\x1f\x7f-\x9f\ud800-\udfff]"
_BAD_IN_NAME = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+"
_BIDI = "[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
_NAME_BYTES = 240
_MORE_TYPES = {
    ".7z": "application/x-7z-compressed",
    ".avif": "image/avif",
    ".docx": "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
    ".gz": "application/gzip",
    ".heic": "image/heic",
    ".ics": "text/calendar",
    ".md": "text/markdown",
    ".odp": "application/vnd.oasis.opendocument.presentation",
    ".ods": "application/vnd.oasis.opendocument.spreadsheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".pptx": "application/vnd.openxmlformats-officedocument.presentationml.presentation",
    ".rar": "application/vnd.rar",
    ".vcf": "text/vcard",
    ".webp": "image/webp",
    ".xlsx": "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet",
}


class AttachRule(Struct, frozen=True):
    """What a ``[[attach]]`` table says besides its templates."""

    base: Path
    """The folder that no attachment of this rule may lie outside of."""
    missing: Missing = "error"
    constant: AttachmentName | None = None
    """The attachment itself where it is the same for every row: read and encoded once."""
    place: Place | None = None
    """Where the rule's path is set, for messages."""


class FileProblem(Exception):
    """A file cannot be attached; the builder says whether the row or the campaign is to blame."""

    def __init__(self, code: str, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.hint = hint
        self.place: Place | None = None


class Part(Struct, frozen=True):
    """One encoded attachment or image."""

    body: bytes
    """Headers, blank line and base64, as they follow a boundary line."""
    sha256: str
    size: int
    """Octets of the file itself."""


class FileStore:
    """Reads and encodes files; what was read lately is kept, so that shared files are encoded once."""

    def __init__(self, keep: int = 64 << 20) -> None:
        """*keep* limits the memory for encoded files, in octets."""
        self._keep = keep
        self._kept = 0
        self._parts: dict[tuple[object, ...], Part] = {}

    def attachment(self, path: str, name: str) -> Part:
        """Return the file at *path*, already resolved, as an attachment called *name*."""
        return self._part(path, name, "attachment", "")

    def image(self, path: str, content_id: str) -> Part:
        """Return the file at *path* as an inline image."""
        return self._part(path, clean_name(os.path.basename(path)), "inline", content_id)

    def _part(self, path: str, name: str, kind: str, content_id: str) -> Part:
        shown = quoted(name)
        try:
            facts = os.stat(path)
            key = (path, facts.st_mtime_ns, facts.st_size, name, kind, content_id)
            if key in self._parts:
                part = self._parts.pop(key)
                self._parts[key] = part  # to the end: the first one is the one used longest ago
                return part
            data = read_regular(path)
        except OSError as error:
            raise FileProblem(
                "A303", f"cannot read {shown}: {(error.strerror or str(error)).lower()}"
            ) from None
        if not data:
            raise FileProblem("A304", f"the file {shown} is empty (0 bytes)")
        head = content_type(guess_type(name, path), name) + disposition(kind, name)
        head += b"Content-Transfer-Encoding: base64\r\n"
        if content_id:
            head += b"Content-ID: <" + content_id.encode("ascii") + b">\r\n"
        part = Part(head + b"\r\n" + base64_lines(data), hashlib.sha256(data).hexdigest(), len(data))
        self._remember(key, part)
        return part

    def _remember(self, key: tuple[object, ...], part: Part) -> None:
        self._parts[key] = part
        self._kept += len(part.body)
        while self._kept > self._keep and len(self._parts) > 1:
            oldest = next(iter(self._parts))
            self._kept -= len(self._parts.pop(oldest).body)


def read_regular(path: str) -> bytes:
    """Read a regular file; a pipe or device is refused without waiting for it."""
    flags = (
        os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
    )
    with open(os.open(path, flags | getattr(os, "O_CLOEXEC", 0)), "rb") as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileProblem("A303", f"{quoted(os.path.basename(path))} is not a regular file")
        return file.read()


def resolve(base: Path, path: str, missing: str = "error") -> list[str]:
    """Return the files that *path*, a relative path or glob, stands for, links resolved and sorted.

    Raises:
        FileProblem: there is none and *missing* is ``error``, or one is outside *base* or no regular file.

    """
    if not path:
        if missing == "skip":
            return []
        raise FileProblem(
            "A301", "the attachment's path is empty", 'set `missing = "skip"` if that is intended'
        )
    if re.search(_BAD_IN_PATH, path):
        raise FileProblem("A302", f"the attachment's path holds a control character: {quoted(path)}")
    if os.path.isabs(path) or path.startswith(("/", "\\", "~")) or re.match(r"[A-Za-z]:|\\\\", path):
        raise FileProblem("A302", f"the attachment's path must be relative: {quoted(path)}")
    import glob

    root = os.path.realpath(base)
    found = [os.path.join(root, path)]
    if glob.has_magic(path) and not os.path.lexists(found[0]):
        found = sorted(glob.glob(path, root_dir=root, recursive=True))
        found = [os.path.join(root, name) for name in found if not os.path.isdir(os.path.join(root, name))]
    checked = (_checked(root, file, path) for file in found)
    files = list(dict.fromkeys(file for file in checked if file))
    if not files and missing == "error":
        raise FileProblem("A301", f"no file {quoted(path)}", 'set `missing = "skip"` if that is intended')
    return files


def _checked(root: str, file: str, path: str) -> str | None:
    """Resolve links and check that a regular file inside *root* is left; None if there is no file."""
    real = os.path.realpath(file)
    if not (real + os.sep).startswith(root.rstrip(os.sep) + os.sep):
        raise FileProblem(
            "A302",
            f"{quoted(path)} leads outside the folder for attachments",
            "copy the file into the campaign's folder",
        )
    try:
        mode = os.stat(real).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise FileProblem("A303", f"cannot read {quoted(path)}: {(error.strerror or '').lower()}") from None
    if not stat.S_ISREG(mode):
        kind = "a folder" if stat.S_ISDIR(mode) else "not a regular file"
        raise FileProblem("A303", f"{quoted(path)} is {kind}")
    return real


def clean_name(name: str) -> str:
    """Return a file name to show: last component only, nothing invisible, nothing that turns text around."""
    import unicodedata

    name = unicodedata.normalize("NFC", re.split(r"[/\\]", name.strip())[-1])
    name = re.sub(_BIDI, "", re.sub(_BAD_IN_NAME, " ", name)).strip() or "attachment"
    if name.startswith("."):  # the stem came from an empty cell, or the file would be hidden
        name = "attachment." + name.lstrip(".")
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) > _NAME_BYTES:
        ending = dot + suffix if stem and len(suffix) < 16 else ""
        room = _NAME_BYTES - len(ending.encode())
        name = name.encode()[:room].decode("utf-8", "ignore").strip() + ending
    return name


def guess_type(*names: str) -> str:
    """Guess the media type from the first file name that tells; composite types are sent as opaque bytes."""
    for name in names:
        suffix = os.path.splitext(name.lower())[1]
        kind = _MORE_TYPES.get(suffix)
        if kind is None:
            kind, encoding = _types().guess_type("x" + suffix)
            kind = None if encoding else kind
        if kind is not None and not kind.startswith(("message/", "multipart/")):
            return kind
    return "application/octet-stream"


@lru_cache(maxsize=1)
def _types() -> mimetypes.MimeTypes:
    """Return Python's own table: what this machine happens to know must not change bytes."""
    import mimetypes

    return mimetypes.MimeTypes()  # on first use, because it reads the machine's tables all the same: 5 ms
