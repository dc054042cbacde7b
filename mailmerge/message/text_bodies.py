"""Text bodies: quoted-printable from cached chunks, or base64 where that is smaller.

A template yields its output in chunks, and most of them, the fixed texts, are the same in every message.
Encoding is therefore done per chunk and cached: `_ChunkCache` maps each chunk to its encoded bytes, and
a message body is one ``b"".join(map(cache.__getitem__, chunks))``. Quoted-printable normally forbids that,
because where a line must be broken depends on everything before it on that line. So every encoded chunk
begins and ends in column 0: one that does not end with a line break closes with a soft break (``=`` at the
end of a line, which decodes to nothing). Encoded chunks can then follow each other in any order and no
column is ever tracked, for 3 % more size. Since a line's beginning is always the beginning of a chunk or of
a line inside one, a leading dot is also dealt with once per chunk, and SMTP's dot-stuffing is never needed.
Row values join the cache (an address may come ten times in a message) and leave it when there are too many.
"""

from __future__ import annotations

import struct
from binascii import b2a_base64, b2a_qp
from functools import lru_cache
from typing import TYPE_CHECKING, Final, Protocol

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    import re
    from collections.abc import Callable, Iterable, Sequence

_LINE = 76  # RFC 2045 section 6.7: an encoded line, with the "=" of its soft break
_SOFT = b"=\r\n"
_PLAIN = lazy_re(r"(?!\.|From )[ -;>-~]{1,75}")
_DENSE = 64
_OVERLONG = lazy_re(rb"(?m)^([^\n]{74})(=(?:20|09)\r)$")
_LEADING = lazy_re(rb"(?m)^(?:\.+|From )")


class Rewriter(Protocol):
    """Changes chunks before they are encoded, such as images to ``cid:`` references."""

    def rewrite(self, chunk: str) -> str:
        """Return the chunk in the form to be encoded; called once per chunk until `forget`."""

    def rewritten(self, chunks: Iterable[str]) -> Iterable[str]:
        """Return the latest results of `rewrite` for chunks that it has seen."""

    def forget(self) -> None:
        """Drop the results for chunks that are not fixed: they will be requested again."""


class TextEncoder:
    """Encodes the bodies of one part (text or HTML) of a campaign."""

    def __init__(self, static: Iterable[str] = (), rewriter: Rewriter | None = None) -> None:
        """Encode *static*, the chunks that many messages share, and keep them."""
        self._rewriter = rewriter
        self._cache = _ChunkCache(self._encode, rewriter.forget if rewriter else None)
        self._cache.pin(static)

    def encode(self, chunks: Sequence[str]) -> tuple[bytes, bytes]:
        """Return the name of the transfer encoding and the body, which ends with a line break.

        Raises:
            UnicodeEncodeError: the text contains a lone surrogate.

        """
        cache = self._cache
        body = b"".join(map(cache.__getitem__, chunks))
        if body[-3:] == _SOFT or not body:
            body += b"\r\n"
        if cache.dense and not cache.dense.isdisjoint(chunks) and _base64_is_smaller(body):
            text = "".join(chunks if self._rewriter is None else self._rewriter.rewritten(chunks))
            return b"base64", base64_lines(_crlf(text) if text.endswith(("\n", "\r")) else _crlf(text + "\n"))
        return b"quoted-printable", body

    def _encode(self, chunk: str) -> bytes:
        return quoted_printable(chunk if self._rewriter is None else self._rewriter.rewrite(chunk))


class _ChunkCache(dict[str, bytes]):
    """Chunks and their encoded bytes; fixed ones stay, the others are dropped when there are too many."""

    _MOST = 20_000
    _MOST_BYTES = 32 << 20

    def __init__(self, encode: Callable[[str], bytes], forgotten: Callable[[], None] | None) -> None:
        super().__init__()
        self._forgotten = forgotten
        self._encode = encode
        self._pinned: dict[str, bytes] = {}
        self._bytes = 0
        self.dense: set[str] = set()
        """Chunks that base64 would make much smaller; only messages with one decide between the encodings."""

    def pin(self, chunks: Iterable[str]) -> None:
        """Encode fixed chunks now and keep them."""
        for chunk in chunks:
            self[chunk]  # encodes it
        self._pinned = dict(self)

    def __missing__(self, chunk: str) -> bytes:
        if len(self) > self._MOST or self._bytes > self._MOST_BYTES:
            self.clear()
            self.update(self._pinned)
            self._bytes = 0
            self.dense.intersection_update(self._pinned)
            if self._forgotten:
                self._forgotten()
        if _PLAIN.fullmatch(chunk):  # the usual cell
            encoded = self[chunk] = chunk.encode("ascii") + _SOFT
            return encoded
        chunk = "".join((chunk,))  # noqa: FLY002  Markup becomes str: its own methods are slow
        encoded = self._encode(chunk)
        self._bytes += len(encoded)
        if len(encoded) - len(chunk.encode()) * 1.37 > _DENSE:
            self.dense.add(chunk)
        self[chunk] = encoded
        return encoded


def quoted_printable(text: str) -> bytes:
    r"""Encode *text* so that the result begins and ends in column 0; line breaks become CRLF.

    No line is longer than 76 octets, begins with a dot, or begins with ``From ``.
    """
    if not text:
        return b""
    if (
        len(text) < _LINE
        and text.isascii()
        and text.isprintable()
        and "=" not in text
        and text[0] not in ".F"
    ):
        return text.encode("ascii") + _SOFT
    # b2a_qp breaks long lines with a bare LF unless it has seen a CRLF before: prepend one, and drop it again
    data = b2a_qp(b"\r\n" + _crlf(text), istext=True)[2:]
    last = len(data) - data.rfind(b"\n") - 1
    if last >= _LINE:  # no room for the closing "="
        cut = -3 if data[-3:-2] == b"=" else -1
        data = data[:cut] + _SOFT + data[cut:]
    # Looking for the octets first costs little: a pattern is tried at every line.
    if b"=20\r" in data or b"=09\r" in data:
        data = _OVERLONG.sub(rb"\1=\r\n\2", data)  # a space encoded at the very end of a full line
    if data[:1] in b".F" or b"\n." in data or b"\nFrom " in data:
        data = _LEADING.sub(_hide, data)
    return data if data.endswith(b"\r\n") else data + _SOFT


def _hide(match: re.Match[bytes]) -> bytes:
    """Encode what must not begin a line; the soft break keeps the length of the rest of the line."""
    found = match[0]
    return b"=46rom=\r\n " if found == b"From " else b"=2E=\r\n" * len(found)


def _base64_is_smaller(body: bytes) -> bool:
    """Decide from the quoted-printable itself: its marks show exactly how many bytes it encodes.

    So the choice depends on this message alone, and the same row always makes the same bytes. Text that
    is nearly all ASCII stays quoted-printable, which people can read.
    """
    marks = body.count(b"=")
    if marks * 8 < len(body):
        return False
    soft = body.count(_SOFT)
    raw = len(body) - 2 * (marks - soft) - 3 * soft
    return (raw + 2) // 3 * 4 * 78 // 76 < len(body)


BASE64_HEAD: Final = b"Content-Transfer-Encoding: base64\r\n\r\n"
"""The end of the header of a part in base64."""


def base64_lines(data: bytes) -> bytes:
    """Return base64 in lines of 76, with a final CRLF; nothing for no data."""
    encoded = b2a_base64(data, newline=False)
    if not encoded:
        return b""
    whole = len(encoded) // _LINE
    lines = _cutter(whole).unpack_from(encoded)
    rest = encoded[whole * _LINE :]
    return b"\r\n".join((*lines, rest, b"") if rest else (*lines, b""))


def base64_size(octets: int) -> int:
    """Return the length of `base64_lines` for a number of octets."""
    encoded = (octets + 2) // 3 * 4
    return encoded + 2 * -(-encoded // _LINE)


@lru_cache(maxsize=64)
def _cutter(lines: int) -> struct.Struct:
    """Return a function that cuts lines in C: half the time of slicing."""
    return struct.Struct(f"{_LINE}s" * lines)


def _crlf(text: str) -> bytes:
    if "\r" in text:
        text = text.replace("\r\n", "\n").replace("\r", "\n")
    return text.encode("utf-8").replace(b"\n", b"\r\n")
