"""A PDF that only opens with its password: AES-256 (revision 6 of ISO 32000-2), by pypdf.

It protects the file at rest and on its way, as far as nobody guesses the password: a birthday is one of some
30,000, tried in seconds. Send another secret by another way where that matters.

The format wants random salts, a random key and random initialisation vectors. Ours come from a keyed hash of
the document and the password, so that the same row makes the same file; to anybody who has neither they are
as random, and no two documents share them.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import io
import threading
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

_PATCHED = threading.Lock()


class _Stream:
    """Stands for the module ``secrets`` in pypdf: octets that only the document and the password decide."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._given = 0

    def token_bytes(self, count: int) -> bytes:
        self._given += 1
        block = hmac.new(self._seed, b"%d:%d" % (self._given, count), hashlib.sha512).digest()
        return block[:count]


def locked(content: bytes, password: str) -> bytes:
    """Give the PDF *content* so that *password* opens it, and nothing else does.

    Raises:
        DocumentError: it cannot be a password of a PDF.

    """
    from pypdf import PdfReader, PdfWriter

    from mailmerge.documents.material import DocumentError

    seed = hmac.new(password.encode("utf-8", "replace"), content, hashlib.sha256).digest()
    made = io.BytesIO()
    with _drawing_from(_Stream(seed)):
        writer = PdfWriter(clone_from=PdfReader(io.BytesIO(content)))
        try:
            writer.encrypt(_prepared(password), algorithm="AES-256")
        except UnicodeError:
            raise DocumentError("its password contains characters that no PDF password can have") from None
        writer.write(made)
    return made.getvalue()


def _prepared(password: str) -> str:
    """Normalise a password as readers do, who type it: SASLprep (RFC 4013) maps alike what looks alike."""
    import unicodedata

    return unicodedata.normalize("NFKC", password)


@contextlib.contextmanager
def _drawing_from(stream: _Stream) -> Iterator[None]:
    """Let pypdf draw its identifiers, salts, key and vectors from *stream*."""
    from pypdf import _encryption, _writer
    from pypdf._crypt_providers import _cryptography

    modules: tuple[Any, ...] = (_encryption, _cryptography, _writer)
    with _PATCHED:
        before = [module.secrets for module in modules]
        try:
            for module in modules:
                module.secrets = stream
            yield
        finally:
            for module, own in zip(modules, before, strict=True):
                module.secrets = own
