"""The unsubscribe token of a frozen message, open until it is sent: a placeholder of the same length.

Tokens are as long as the placeholder and consist of characters that quoted-printable leaves alone, so lines
break in the same places. Only text in base64 must be encoded again.
"""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode
from binascii import a2b_base64
from typing import TYPE_CHECKING

from mailmerge.lazy_re import lazy_re
from mailmerge.message.text_bodies import BASE64_HEAD, base64_lines
from mailmerge.unsubscribe import STAND_IN, address_digest

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mailmerge.addresses import Address

_OPEN = STAND_IN.encode("ascii")
_SOFT = b"=\r\n"
# A line has 75 characters before its soft break, and the token 72: it is broken at most once.
_HALVES = (_OPEN[: len(_OPEN) // 2], _OPEN[len(_OPEN) // 2 :])
_BROKEN = lazy_re(b"(?:=\r\n)?".join(re.escape(_OPEN[at : at + 1]) for at in range(len(_OPEN))))
_TOKEN = lazy_re(rb"(?<![A-Za-z0-9_-])[A-Za-z0-9_-]{72}(?![A-Za-z0-9_-])")


def is_in(head: bytes) -> bool:
    """Return from its header fields whether a frozen message waits for a token."""
    return _OPEN in head


def filled(head: bytes, body: Iterable[bytes | int], token: str) -> tuple[bytes, tuple[bytes | int, ...]]:
    """Return a frozen message with the token of its recipient inserted.

    Args:
        head: its header fields.
        body: its pieces, see `FrozenMessage.body`.
        token: as long as the placeholder.

    """
    made = token.encode("ascii")
    if len(made) != len(_OPEN):
        raise RuntimeError("an unsubscribe token has another length than its placeholder")
    pieces: list[bytes | int] = []
    before: bytes | int = b""
    for piece in body:
        if isinstance(piece, int):
            pieces.append(piece)
        elif isinstance(before, bytes) and before.endswith(BASE64_HEAD):
            pieces.append(_in_base64(piece, made))
        else:
            pieces.append(_in_quoted_printable(piece, made))
        before = piece
    return head.replace(_OPEN, made), tuple(pieces)


def emptied(
    head: bytes, body: tuple[bytes | int, ...], address: Address
) -> tuple[bytes, tuple[bytes | int, ...]]:
    """Replace *address*'s token, which `filled` inserted, with the placeholder, which unsubscribes nobody."""
    found = next((text for text in _TOKEN.findall(head) if _is_of(text, address)), None)
    if found is None:
        return head, body
    broken = re.compile(b"(?:=\r\n)?".join(re.escape(found[at : at + 1]) for at in range(len(found))))
    pieces: list[bytes | int] = []
    for at, piece in enumerate(body):
        before = body[at - 1] if at else b""
        if isinstance(piece, int):
            pieces.append(piece)
        elif isinstance(before, bytes) and before.endswith(BASE64_HEAD):
            text = a2b_base64(piece)
            pieces.append(base64_lines(text.replace(found, _OPEN)) if found in text else piece)
        else:
            pieces.append(broken.sub(_opened, piece))
    return head.replace(found, _OPEN), tuple(pieces)


def _opened(match: re.Match[bytes]) -> bytes:
    first = match[0].find(_SOFT)
    return _OPEN if first < 0 else _OPEN[:first] + _SOFT + _OPEN[first:]


def _is_of(text: bytes, address: Address) -> bool:
    return bytes.fromhex(address_digest(address)) in urlsafe_b64decode(text)


def _in_quoted_printable(piece: bytes, token: bytes) -> bytes:
    if _HALVES[0] not in piece and _HALVES[1] not in piece:
        return piece
    piece = piece.replace(_OPEN, token)
    if _HALVES[0] not in piece and _HALVES[1] not in piece:
        return piece

    def broken(match: re.Match[bytes]) -> bytes:
        first = match[0].find(_SOFT)
        return token[:first] + _SOFT + token[first:]

    return _BROKEN.sub(broken, piece)


def _in_base64(piece: bytes, token: bytes) -> bytes:
    text = a2b_base64(piece)
    return base64_lines(text.replace(_OPEN, token)) if _OPEN in text else piece
