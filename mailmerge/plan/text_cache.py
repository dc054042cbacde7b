"""The texts read from a campaign's files, kept until they are purged: no file is read twice.

They are in one private file in the user's cache folder, next to the campaign's plans: a line with the version
that made them, then a frame for each text: the SHA-256 of the file (32 octets), the length (4) and the text,
packed. What cannot be read is ignored.
"""

from __future__ import annotations

import contextlib
import zlib
from typing import TYPE_CHECKING, Self

import msgspec

from mailmerge import files
from mailmerge.errors import FileError
from mailmerge.version import installed_versions

if TYPE_CHECKING:
    from pathlib import Path
    from typing import BinaryIO

    from mailmerge.attachment_guard.extraction import Extract

_FORMAT = 2
_SHA, _LENGTH = 32, 4
_MOST = 8 << 20
"""Most octets of one text."""


class TextCache:
    """Texts by the SHA-256 of their file; use it as a context manager: unused ones are dropped.

    Args:
        path: the file that they are kept in.

    """

    def __init__(self, path: Path) -> None:
        self._path = path
        reader = installed_versions({"pypdfium2"}).get("pypdfium2", "")
        self._header = f"mailmerge texts {_FORMAT} {reader}\n".encode()
        self._places: dict[str, tuple[int, int]] = {}
        self._used: set[str] = set()
        self._stack = contextlib.ExitStack()
        self._old: BinaryIO | None = None
        self._new: BinaryIO | None = None
        self._drafts: files.Drafts | None = None

    def __enter__(self) -> Self:
        with contextlib.suppress(FileError, OSError):
            self._old = self._stack.enter_context(files.open_own(self._path))
            self._index(self._old)
        return self

    def __exit__(self, *_: object) -> None:
        with self._stack:
            if self._drafts is not None and self._new is not None:
                for sha256 in self._used & self._places.keys():
                    self._append(sha256, self._packed(sha256))
                self._new.close()
                with contextlib.suppress(FileError):
                    self._drafts.adopt(self._path.name, durable=False)

    def _index(self, stream: BinaryIO) -> None:
        if stream.readline(200) != self._header:
            return
        while len(head := stream.read(_SHA + _LENGTH)) == _SHA + _LENGTH:
            length = int.from_bytes(head[_SHA:], "big")
            self._places[head[:_SHA].hex()] = (stream.tell(), length)
            stream.seek(length, 1)

    def _packed(self, sha256: str) -> bytes:
        assert self._old is not None
        place, length = self._places[sha256]
        self._old.seek(place)
        return self._old.read(length)

    def __contains__(self, sha256: str) -> bool:
        return sha256 in self._places

    def get(self, sha256: str) -> Extract | None:
        """Return what was read of a file; None: it was not."""
        if sha256 not in self._places:
            return None
        from mailmerge.attachment_guard.extraction import Extract

        with contextlib.suppress(zlib.error, msgspec.MsgspecError, OSError):
            unpacker = zlib.decompressobj()
            unpacked = unpacker.decompress(self._packed(sha256), _MOST)
            if unpacker.eof:
                found = msgspec.msgpack.decode(unpacked, type=Extract)
                self._used.add(sha256)
                return found
        return None

    def put(self, sha256: str, extract: Extract) -> None:
        """Keep what was read from a file, if that is possible."""
        with contextlib.suppress(FileError):
            if self._new is None:
                files.private_folder(self._path.parent)
                self._drafts = self._stack.enter_context(files.Drafts(self._path.parent))
                self._new = self._stack.enter_context(self._drafts.create(self._path.name))
                self._new.write(self._header)
            self._append(sha256, zlib.compress(msgspec.msgpack.encode(extract), 1))

    def _append(self, sha256: str, packed: bytes) -> None:
        assert self._new is not None
        self._new.write(bytes.fromhex(sha256) + len(packed).to_bytes(_LENGTH, "big") + packed)
        self._places.pop(sha256, None)
