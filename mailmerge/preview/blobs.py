"""Attachments and inline images inside the page: each once, and only as many as keep the page small."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 24 << 20
"""Octets of encoded files in one page."""


class Blobs:
    """Hands each new file to *write* once and gives references to it.

    A file that no longer fits is left out: its MIME header and size are all the page shows of it.
    """

    def __init__(self, write: Callable[[bytes], None], room: int = _MOST) -> None:
        self._write = write
        self._room = room
        self._numbers: dict[bytes, int] = {}
        self._kept: dict[int, tuple[bytes, int]] = {}
        """The very objects that messages share, so that they are hashed once."""

    def reference(self, part: bytes) -> dict[str, Any]:
        """Return ``{"blob": number}``, or ``{"head": ..., "size": ...}`` for a part left out."""
        known, number = self._kept.get(id(part), (None, -1))
        if known is part:
            return {"blob": number}
        digest = hashlib.sha256(part).digest()
        if digest in self._numbers:
            return {"blob": self._numbers[digest]}
        if len(part) > self._room:
            head = part[: part.find(b"\r\n\r\n") + 4]
            return {"head": head.decode("ascii"), "size": len(part)}
        self._room -= len(part)
        number = self._numbers[digest] = len(self._numbers)
        self._kept[id(part)] = (part, number)
        self._write(part)
        return {"blob": number}
