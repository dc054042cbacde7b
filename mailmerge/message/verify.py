"""The final check of our header block before it is used: a mismatch is a bug, never the user's fault.

Deliberately knows nothing of how the block was made, and is cheap enough to run on every message.
"""

from __future__ import annotations

import re
from binascii import a2b_base64, a2b_qp
from functools import lru_cache
from typing import TYPE_CHECKING

from mailmerge.addresses import Address, AddressError
from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.model import FrozenMessage

_WORD = lazy_re(rb"=\?[!-<>@-~]+\?([bqBQ])\?([!->@-~]*)\?=")
_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=\r\n"
_TELLING = 6
_QUOTED = lazy_re(rb'"(?:[^"\\]|\\.)*"')


class UnfitMessageError(RuntimeError):
    """Our output is not what was intended: a bug of ours; the message must not be sent."""


def verify_headers(block: bytes, names: Sequence[str]) -> None:
    """Check that *block* is exactly the fields *names*, in order, in clean ASCII lines with CRLF.

    Raises:
        UnfitMessageError: it is not.

    """
    if not _grammar(tuple(names)).fullmatch(block):
        raise UnfitMessageError("bug: the header is not what was intended")


@lru_cache(maxsize=64)
def _grammar(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Return a pattern for the correct block: each name once, printable ASCII, lines up to 998 octets."""
    field = rb":[ -~]{0,%d}(?:\r\n [ -~]{0,996}[!-~])*\r\n"
    return re.compile(b"".join(re.escape(name.encode()) + field % (995 - len(name)) for name in names))


_FIELDS = lazy_re(rb"(?:[!-9;-~]{1,76}:[ -~]{0,996}\r\n(?: [ -~]{1,996}\r\n)*)+")
_ADDED = lazy_re(
    rb"^(?:Date|Message-ID|X-Mailmerge-ID|Bcc|DKIM-Signature|Return-Path):", re.IGNORECASE | re.MULTILINE
)


def is_sound(frozen: FrozenMessage) -> bool:
    """Return whether a frozen message that another program may have written can be thawed and handed over.

    Its addresses must be valid, its header must consist of fields, and it must contain no bare CR or LF.
    """
    addresses = (frozen.envelope.mail_from, *frozen.envelope.rcpt_to)
    try:
        if any(Address.parse(str(address)) != address for address in addresses):
            return False
        Address.parse(frozen.sender)
    except AddressError:
        return False
    if not _FIELDS.fullmatch(frozen.head) or _ADDED.search(frozen.head):
        return False
    for piece in frozen.body:
        if isinstance(piece, int):
            if not 0 <= piece < len(frozen.files):
                return False
        elif not piece.isascii() or not piece.count(b"\r\n") == piece.count(b"\n") == piece.count(b"\r"):
            return False
    return True


def has_secret(piece: bytes, secrets: Sequence[bytes], *, header: bool = False) -> bool:
    """Return whether a piece of a message contains one of *secrets*, as it is or once it is decoded.

    Args:
        piece: the encoded body of a part, or header fields.
        secrets: what it must not contain.
        header: the piece is header fields.

    """
    for secret in secrets:
        halves, forms = _searched(secret)
        readings = _header_readings(piece) if header else _body_readings(piece, halves)
        if any(form in text for text in readings for form in forms):
            return True
    return False


def _body_readings(piece: bytes, halves: tuple[bytes, bytes]) -> Iterator[bytes]:
    # Quoted-printable leaves letters and digits alone, and may break a line once in between. Halves of a few
    # letters are found in any text, and slowly: decoding it all takes no longer.
    if len(halves[0]) < _TELLING or halves[0] in piece or halves[1] in piece:
        yield piece
        yield a2b_qp(piece)
    if not piece[:64].translate(None, _BASE64):
        yield _base64(piece)


def _header_readings(piece: bytes) -> Iterator[bytes]:
    yield piece
    yield piece.replace(b"\r\n", b"")
    words = _WORD.findall(piece) if b"=?" in piece else ()
    yield b"".join(a2b_qp(text, header=True) if kind in b"qQ" else _base64(text) for kind, text in words)


def _base64(text: bytes) -> bytes:
    try:
        return a2b_base64(text)
    except ValueError:
        return b""


@lru_cache(maxsize=64)
def _searched(secret: bytes) -> tuple[tuple[bytes, bytes], frozenset[bytes]]:
    """Return two pieces of a secret, one of which any encoding keeps, and how text and HTML write it."""
    text = secret.decode()
    from html import escape

    in_html = escape(text, quote=False)
    forms = {text, in_html, escape(text), in_html.replace('"', "&#34;").replace("'", "&#39;")}
    # The first letter of a line may be encoded as a number.
    runs = re.findall(rb"(?<=[A-Za-z0-9])[A-Za-z0-9]{5,}", secret)
    longest = max(runs, key=len, default=b"")
    half = len(longest) // 2
    return (longest[:half], longest[half:]), frozenset(form.encode() for form in forms)


def verify_addresses(field: bytes, addresses: list[str]) -> None:
    """Check that an address field names exactly *addresses*, in order.

    Raises:
        UnfitMessageError: it does not.

    """
    if field.count(b"@") == 1 and b"," not in field:  # the usual case
        bracket = field[-3:] == b">\r\n"
        found = [
            field[field.rfind(b"<" if bracket else b" ") + 1 : -3 if bracket else -2].decode(
                "ascii", "replace"
            )
        ]
    else:
        found = _addresses(field)
    if found != addresses:
        raise UnfitMessageError("bug: an address field differs from the envelope")


def _addresses(field: bytes) -> list[str]:
    plain = field if b'"' not in field else _QUOTED.sub(b"", field)
    plain = plain[plain.find(b":") + 1 :]
    found = []
    for item in plain.split(b","):
        start = item.find(b"<")
        address = item.strip() if start < 0 else item[start + 1 : item.find(b">", start)]
        found.append(address.decode("ascii", "replace"))
    return found


def verify_bodies(segments: Sequence[bytes]) -> None:
    """Check that the encoded parts are ASCII and end their lines.

    Raises:
        UnfitMessageError: they are not.

    """
    for segment in segments:
        if not segment.isascii() or segment[-2:] != b"\r\n":
            raise UnfitMessageError("bug: an encoded part is not clean ASCII")
