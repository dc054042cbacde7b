"""Files that are made for each row: PDFs from HTML or Typst, text and tables; kept in the user's cache.

- `maker`: from the output of templates to a file, made once until one of its inputs changes
- `pages`: HTML to PDF, by WeasyPrint
- `typesetting`: Typst to PDF, by a compiler that is kept
- `passwords`: a PDF that opens only with its password
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from mailmerge.model import Place


class DocumentError(Exception):
    """A document cannot be made for this row."""

    def __init__(self, message: str, hint: str | None = None, place: Place | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.place = place


class Material(Protocol):
    """The files that a document may show: those of the campaign's folder, except private ones."""

    def find(self, name: str) -> tuple[str, str] | None:
        """Return path and SHA-256 of a file in the campaign's folder by name; None: it does not exist.

        Raises:
            FileProblem: this file must not be shown.

        """


def digest_of(*texts: str) -> str:
    """Return the SHA-256 of several strings in hexadecimal; their boundaries count."""
    sha = hashlib.sha256()
    for text in texts:
        data = text.encode("utf-8", "surrogatepass")
        sha.update(b"%d:%b" % (len(data), data))
    return sha.hexdigest()
