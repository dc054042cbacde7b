"""The last look at a header block of ours before it is used: a mismatch is a bug, never the user's fault.

Deliberately knows nothing of how the block was made, and is cheap enough to run on every message.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')


class UnfitMessageError(RuntimeError):
    """What we made is not what was meant: a bug of ours; the message must not be sent."""


def verify_headers(block: bytes, names: Sequence[str]) -> None:
    """Check that *block* is exactly the fields *names*, in order, in clean ASCII lines with CRLF.

    Raises:
        UnfitMessageError: it is not.

    """
    if not _grammar(tuple(names)).fullmatch(block):
        raise UnfitMessageError("bug: the header is not what was meant")


@lru_cache(maxsize=64)
def _grammar(names: tuple[str, ...]) -> re.Pattern[bytes]:
    """Describe the one right block: each name once, printable ASCII, folded lines of at most 998 octets."""
    field = rb":[ -~]{0,%d}(?:\r\n [ -~]{0,996}[!-~])*\r\n"
    return re.compile(b"".join(re.escape(name.encode()) + field % (995 - len(name)) for name in names))


def verify_addresses(field: bytes, addresses: list[str]) -> None:
    """Check that an address field names exactly *addresses*, in order.

    Raises:
        UnfitMessageError: it does not.

    """
    if field.count(b"@") == 1 and b"," not in field:  # what most are
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
