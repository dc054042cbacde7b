"""What documents are made of, and what can go wrong: what all that make them share."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mailmerge.model import Place


class DocumentError(Exception):
    """A document cannot be made of this row."""

    def __init__(self, message: str, hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place


class Material(Protocol):
    """The files that a document may show: those of the campaign's folder, and none that are private."""

    def find(self, name: str) -> tuple[str, str] | None:
        """Give path and SHA-256 of the file that is called so in the campaign's folder; None: there is none.

        Raises:
            FileProblem: nothing of ours shows this file.

        """


def digest_of(*texts: str) -> str:
    """Give the SHA-256 of some texts, hexadecimal; where one ends and the next begins counts."""
    sha = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        sha.update(b"%d:%b" % (len(data), data))
    return sha.hexdigest()
