"""Attachments: from a file that was found to a MIME part, and to the name that readers see."""

from __future__ import annotations

# os.path, not Path: this runs on every row, and its handling of links is exact
# ruff: noqa: PTH119, PTH122
import hashlib
import os
import re
import stat
from functools import lru_cache
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from msgspec import Struct

from mailmerge.file_system import FILE_SYSTEM, FileSystem, PrivateFiles
from mailmerge.folders import open_to_read
from mailmerge.lazy_re import lazy_re
from mailmerge.message.file_search import FileProblem, FileSearch
from mailmerge.message.header_fields import content_type, disposition
from mailmerge.message.text_bodies import base64_lines, base64_size
from mailmerge.model import FrozenFile
from mailmerge.text import LONE_SURROGATE, quoted

if TYPE_CHECKING:
    import mimetypes
    from collections.abc import Iterator, Sequence

_BAD_IN_NAME = "[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+"
_SLASHES = lazy_re(r"[/\\]+")
_BIDI = "[\u200e\u200f\u061c\u202a-\u202e\u2066-\u2069]"
_NAME_BYTES = 240
_MAGIC_OCTETS = 4096
_IMAGES = (
    b"\x89PNG\r\n\x1a\n",
    b"\xff\xd8\xff",
    b"GIF87a",
    b"GIF89a",
    b"BM",
    b"II*\0",
    b"MM\0*",
    b"\0\0\1\0",
)
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


_OPAQUE = "application/octet-stream"
MESSAGE = "message/rfc822"
"""The media type of a message in a file (``.eml``)."""
_LONGEST_LINE = 998
_FIELD = lazy_re(rb"[!-9;-~]+[ \t]*:")
_NO_TEXT = lazy_re(rb"[\0\x1b]")
"""Text that contains one of these is not what it seems: UTF-16, ISO-2022-JP, or not text."""

FileState = tuple[int, int, int, int, int]
"""What shows, without reading a file, that it has changed."""


class _KnownFile(Struct, frozen=True):
    """What was found in a file when it was last read."""

    state: FileState
    sha256: str
    asked: str
    """The media type that its name suggests."""
    media_type: str
    """The media type with which it is sent."""
    octets: int
    """Its length in octets as sent."""


class FilePart(Struct, frozen=True):
    """A file of a message that is being frozen."""

    file: FrozenFile
    octets: int
    """The length of its MIME part in octets: header and encoded content."""


class FileStore:
    """Examines the files of messages that are frozen: each is read once, and again when it has changed."""

    _MOST = 10_000

    def __init__(
        self,
        files: FileSystem = FILE_SYSTEM,
        own: PrivateFiles | None = None,
        boundaries: Sequence[bytes] = (),
    ) -> None:
        """Create an empty store.

        Args:
            files: how files are examined.
            own: which files are ours and must not get into a message.
            boundaries: the boundaries of the messages: content that contains one is encoded.

        """
        self.files = files
        self.search = FileSearch(files, own)
        self._boundaries = boundaries
        self._known: dict[str, _KnownFile] = {}
        self._images: dict[str, FileState] = {}
        """Files that were found to be images, and their state then."""

    def attachment(self, path: str, label: str, *, own: bool = False, guarded: bool = False) -> FilePart:
        """Return a file as an attachment.

        Args:
            path: the path, already resolved.
            label: the name for readers, which `clean_name` cleans.
            own: whether no other row may get it.
            guarded: whether it is read for the people whom it names.

        """
        name = clean_name(label)
        wanted = re.sub(LONE_SURROGATE, "\ufffd", label) if is_shortened(label, name) else ""
        return self._part(path, name, own=own, guarded=guarded, wanted=wanted)

    def image(self, path: str, content_id: str, label: str = "") -> FilePart:
        """Return a file as an inline image.

        Args:
            path: the path, already resolved.
            content_id: its reference in the HTML.
            label: its name, if not that of the file.

        Raises:
            FileProblem: it is not an image, by its suffix or first octets: a cell must not show other files,
                and an author does not want an empty frame.

        """
        name = clean_name(label or os.path.basename(path))
        part = self._part(path, name, content_id=content_id)
        known = self._known[path].state
        if self._images.get(path) != known:
            with open_to_read(path) as file:
                begin = file.read(_MAGIC_OCTETS)
            if not part.file.media_type.startswith("image/") or not is_image(begin):
                raise FileProblem(
                    "A317",
                    f"inline image: {quoted(name)} is not an image",
                    "only images (PNG, JPEG, GIF, WebP, SVG ...) are shown in a message; attach other files",
                )
            if len(self._images) >= self._MOST:
                self._images.clear()
            self._images[path] = known
        return part

    def _part(self, path: str, name: str, **facts: Any) -> FilePart:
        """Return a file as a part, with more *facts* of `FrozenFile`."""
        try:
            known = self._look(path, guess_type(name, path))
        except OSError as error:
            raise FileProblem(
                "A303", f"cannot read {quoted(name)}: {(error.strerror or str(error)).lower()}"
            ) from None
        size = known.state[-1]
        if not size:
            raise FileProblem("A304", f"the file {quoted(name)} is empty (0 bytes)")
        media_type = known.media_type
        file = FrozenFile(os.fsencode(path), name, known.sha256, size, media_type=media_type, **facts)
        return FilePart(file, len(part_head(file)) + known.octets)

    def _look(self, path: str, asked: str) -> _KnownFile:
        """Return what is in a file whose name suggests the media type *asked*."""
        facts = self.files.stat(path)
        state = file_state(facts)
        known = self._known.get(path)
        if known is not None and (known.state, known.asked) == (state, asked):
            return known
        data = read_regular(path)
        sha256 = hashlib.sha256(data).hexdigest()
        self.files.hashed(path, facts, sha256)
        media_type = content_media_type(asked, data, self._boundaries)
        octets = len(with_crlf(data)) if media_type == MESSAGE else base64_size(len(data))
        known = _KnownFile((*state[:-1], len(data)), sha256, asked, media_type, octets)
        if len(self._known) >= self._MOST:
            self._known.clear()
        self._known[path] = known
        return known


class _EncodedFile(Struct, frozen=True):
    """A file as encoded in a message, and its state when it was read."""

    state: FileState
    body: bytes
    """MIME header, blank line and encoded content, as they follow a boundary line."""


class FileContents(Protocol):
    """The source of the files of frozen messages."""

    def state(self, file: FrozenFile) -> FileState:
        """Return, without reading the file, a state that differs once it has changed.

        Raises:
            FileProblem: it is another file, or not a regular one.
            OSError: it cannot be examined.

        """

    def read(self, file: FrozenFile) -> bytes:
        """Return its content, which the caller must verify.

        Raises:
            FileProblem: it cannot be the frozen file.
            OSError: it cannot be read.

        """


class FilesOnDisk:
    """The files themselves, where they were when the messages were frozen; see `FileContents`."""

    def state(self, file: FrozenFile) -> FileState:
        """See `FileContents`."""
        facts = os.lstat(file.path)
        if not stat.S_ISREG(facts.st_mode) or facts.st_size != file.size:
            raise _changed(file)
        return file_state(facts)

    def read(self, file: FrozenFile) -> bytes:
        """See `FileContents`."""
        return read_regular(file.path)


class EncodedFiles:
    """Reads files, verifies that they are those that were frozen, and encodes them."""

    def __init__(self, keep: int, contents: FileContents | None = None) -> None:
        """Create an empty cache.

        Args:
            keep: memory limit for recently read files, in octets; so shared files are encoded once.
            contents: the source of the files; default: the disk.

        """
        self._keep = keep
        self._contents = contents or FilesOnDisk()
        self._kept = 0
        self._parts: dict[FrozenFile, _EncodedFile] = {}
        self._secrets: tuple[bytes, ...] = ()
        self._refused: tuple[FrozenFile, FileState] | None = None
        """The file that was found changed last: if all messages have it, it is not read for each of them."""

    def search_for(self, secrets: tuple[bytes, ...]) -> None:
        """Refuse files that contain one of *secrets* from now on."""
        self._parts.clear()
        self._kept = 0
        self._secrets = written_in_files(secrets)

    def part(self, file: FrozenFile) -> bytes:
        """Return the MIME part of a file.

        Raises:
            FileProblem: it was removed or changed, cannot be read, or contains a secret.

        """
        try:
            state = self._contents.state(file)
            known = self._parts.get(file)
            if known is not None and known.state == state:
                self._parts[file] = self._parts.pop(file)  # moved to the end: the first one is dropped first
                return known.body
            if self._refused == (file, state):
                raise _changed(file)
            data = self._contents.read(file)
        except OSError as error:
            raise _unreadable(file, error) from None
        if hashlib.sha256(data).hexdigest() != file.sha256:
            self._refused = (file, state)
            raise _changed(file)
        if any(secret in data for secret in self._secrets):
            raise FileProblem("C492", f"the file {quoted(file.name)}")
        content = with_crlf(data) if file.media_type == MESSAGE else base64_lines(data)
        part = _EncodedFile(state, part_head(file) + content)
        self._remember(file, part)
        return part.body

    def _remember(self, file: FrozenFile, part: _EncodedFile) -> None:
        older = self._parts.pop(file, None)
        self._parts[file] = part
        self._kept += len(part.body) - (len(older.body) if older else 0)
        while self._kept > self._keep and len(self._parts) > 1:
            oldest = next(iter(self._parts))
            self._kept -= len(self._parts.pop(oldest).body)


def written_in_files(secrets: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the forms in which files may contain *secrets*."""
    return (*secrets, *(secret.decode().encode("utf-16-le") for secret in secrets))


def open_frozen(file: FrozenFile) -> BinaryIO:
    """Open a file of a frozen message, which may have changed since.

    Raises:
        FileProblem: it was removed, is not a regular file, or cannot be read.

    """
    try:
        stream = open_to_read(file.path)
        if stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            return stream
        stream.close()
    except OSError as error:
        raise _unreadable(file, error) from None
    raise _changed(file)


def pieces_of(file: FrozenFile, stream: BinaryIO, size: int) -> Iterator[bytes]:
    """Yield a file of a frozen message piece by piece, verifying that it is what was frozen.

    Args:
        file: the file as it was frozen.
        stream: the open file; closed at the end.
        size: octets of each piece except the last.

    Raises:
        FileProblem: it has changed, or cannot be read; the caller must not use the pieces.

    """
    digest, left = hashlib.sha256(), file.size
    try:
        with stream:
            while piece := stream.read(size):
                digest.update(piece)
                left -= len(piece)
                if left < 0:  # it may be endless now
                    break
                yield piece
    except OSError as error:
        raise _unreadable(file, error) from None
    if left or digest.hexdigest() != file.sha256:
        raise _changed(file)


def _unreadable(file: FrozenFile, error: OSError) -> FileProblem:
    if isinstance(error, FileNotFoundError | NotADirectoryError):
        return _problem(file, "was removed")
    return FileProblem("A303", f"cannot read {quoted(file.name)}: {(error.strerror or str(error)).lower()}")


def _changed(file: FrozenFile) -> FileProblem:
    return _problem(file, "changed")


def _problem(file: FrozenFile, what: str) -> FileProblem:
    kind = "image" if file.content_id else "attachment"
    return FileProblem(
        "A306",
        f"the {kind} {quoted(file.name)} {what} after the message was planned",
        "run the same command again: it reads all files again",
    )


def file_state(facts: os.stat_result) -> FileState:
    """Return the state that shows changes of a file, its size last."""
    return (facts.st_dev, facts.st_ino, facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size)


def part_head(file: FrozenFile) -> bytes:
    """Return the MIME header of a file's part, with the blank line after it."""
    kind = "inline" if file.content_id else "attachment"
    head = content_type(file.media_type, file.name) + disposition(kind, file.name)
    encoding = b"7bit" if file.media_type == MESSAGE else b"base64"  # RFC 2046 section 5.2.1: never base64
    head += b"Content-Transfer-Encoding: %b\r\n" % encoding
    if file.content_id:
        head += b"Content-ID: <" + file.content_id.encode("ascii") + b">\r\n"
    return head + b"\r\n"


def read_regular(path: str | bytes) -> bytes:
    """Read a regular file; a pipe or device is refused without waiting for it."""
    with open_to_read(path) as file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise FileProblem("A303", f"{quoted(os.path.basename(os.fsdecode(path)))} is not a regular file")
        return file.read()


def content_media_type(asked: str, data: bytes, boundaries: Sequence[bytes] = ()) -> str:
    """Return the type with which a file is sent, so that no reader decodes it as something else.

    Text states its charset, ``us-ascii`` or ``utf-8``; text in an unknown encoding is sent as opaque bytes,
    as is a message that cannot be sent unchanged.

    Args:
        asked: the type that its name suggests.
        data: its content.
        boundaries: the boundaries of the message around it.

    """
    if asked == MESSAGE:
        return MESSAGE if _is_seven_bit_message(data, boundaries) else _OPAQUE
    if not asked.startswith("text/"):
        return asked
    if _NO_TEXT.search(data):
        return _OPAQUE
    if data.isascii():
        return f"{asked}; charset=us-ascii"
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return _OPAQUE
    return f"{asked}; charset=utf-8"


def _is_seven_bit_message(data: bytes, boundaries: Sequence[bytes]) -> bool:
    """Return whether a file is a message that needs no encoding, which a part of this type must not have."""
    if not data.isascii() or b"\0" in data or _FIELD.match(data) is None:
        return False
    lines = data.replace(b"\r\n", b"\n").split(b"\n")
    starts = tuple(b"--" + boundary for boundary in boundaries)
    return all(
        len(line) <= _LONGEST_LINE and b"\r" not in line and not line.startswith(starts) for line in lines
    )


def with_crlf(data: bytes) -> bytes:
    """Return a message as it is sent: every line ends with CRLF, whatever program saved it."""
    return data.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


def is_shortened(label: str, name: str) -> bool:
    """Return whether *name*, which `clean_name` made from *label*, lacks visible characters of it."""
    return len(re.sub(r"\s", "", name)) < len(re.sub(r"\s", "", _composed(label)))


def _composed(label: str) -> str:
    import unicodedata

    return unicodedata.normalize("NFC", _SLASHES.sub("-", label.strip()))


def clean_name(name: str) -> str:
    """Return a file name to show: no folders, no invisible characters, no bidirectional controls.

    A slash may be part of the name's meaning (invoice 2025/117): it becomes a hyphen, and nothing is lost.
    """
    name = re.sub(_BIDI, "", re.sub(_BAD_IN_NAME, " ", _composed(name))).strip() or "attachment"
    if name.startswith("."):  # the stem came from an empty cell, or the file would be hidden
        name = "attachment." + name.lstrip(".")
    stem, dot, suffix = name.rpartition(".")
    if len(name.encode()) > _NAME_BYTES:
        ending = dot + suffix if stem and len(suffix) < 16 else ""
        room = _NAME_BYTES - len(ending.encode())
        name = name.encode()[:room].decode("utf-8", "ignore").strip() + ending
    return name


def is_image(begin: bytes) -> bool:
    """Return whether a file, by its first octets, is an image of a kind that mail programs show."""
    if begin.startswith(_IMAGES):
        return True
    if begin[:4] == b"RIFF":
        return begin[8:12] == b"WEBP"
    if begin[4:8] == b"ftyp":
        return begin[8:12] in {b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1"}
    text = begin.removeprefix(b"\xef\xbb\xbf").lstrip()
    return text.startswith(b"<") and b"<svg" in text


def guess_type(*names: str) -> str:
    """Guess the media type from the first file name that shows it; of composite types only messages."""
    for name in names:
        suffix = os.path.splitext(name.lower())[1]
        kind = _MORE_TYPES.get(suffix)
        if kind is None:
            kind, encoding = _types().guess_type("x" + suffix)
            kind = None if encoding else kind
        if kind is not None and not kind.startswith(("message/", "multipart/")):
            return kind
        if suffix == ".eml":
            return MESSAGE
    return _OPAQUE


@lru_cache(maxsize=1)
def _types() -> mimetypes.MimeTypes:
    """Return Python's own table: this machine's table must not change bytes."""
    import mimetypes

    return mimetypes.MimeTypes()  # on first use, because it reads the machine's tables anyway: 5 ms
