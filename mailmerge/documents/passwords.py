"""A PDF that opens only with its password: AES-256 (revision 6 of ISO 32000-2), by pypdf.

It protects the file at rest and in transit, unless somebody guesses the password: a birthday is one of about
30,000, tried in seconds. Where that matters, use a real secret, sent by another channel.

The format wants random salts, a random key and random initialisation vectors. Ours come from a keyed hash of
the document and the password, so the same row makes the same file; without either they are as good as random,
and no two documents share them.
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
    """Replaces the module ``secrets`` in pypdf: octets that only the document and the password determine."""

    def __init__(self, seed: bytes) -> None:
        self._seed = seed
        self._given = 0

    def token_bytes(self, count: int) -> bytes:
        self._given += 1
        block = hmac.new(self._seed, b"%d:%d" % (self._given, count), hashlib.sha512).digest()
        return block[:count]


def locked(content: bytes, password: str) -> bytes:
    """Return the PDF *content* encrypted with *password*.

    Raises:
        DocumentError: it cannot be the password of a PDF.

    """
    from pypdf import PdfReader, PdfWriter

    from mailmerge.documents import DocumentError

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
    """Normalise a password as PDF viewers do with what is typed: SASLprep (RFC 4013)."""
    import unicodedata

    return unicodedata.normalize("NFKC", password)


@contextlib.contextmanager
def _drawing_from(stream: _Stream) -> Iterator[None]:
    """Make pypdf draw its identifiers, salts, key and vectors from *stream*."""
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
