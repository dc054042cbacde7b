"""The last look at a header block of ours before it is used: a mismatch is a bug, never the user's fault.

Deliberately knows nothing of how the block was made. It takes about a hundredth of the time that building
the message takes.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_ALLOWED = bytes(range(0x20, 0x7F)) + b"\r\n"
_QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
_LONGEST = 998


def verify_headers(block: bytes, names: Sequence[bytes]) -> None:
    """Check that *block* is exactly the fields *names*, in order, in clean ASCII lines with CRLF.

    Raises:
        RuntimeError: it is not; the message must not be sent.

    """
    lines = block.split(b"\r\n")
    problem = None
    if block.translate(None, _ALLOWED):
        problem = "a control or non-ASCII character"
    elif lines.pop() or b"" in lines:
        problem = "an empty line, or no line end"
    elif block.count(b"\r") != len(lines) or block.count(b"\n") != len(lines):
        problem = "a bare CR or LF"
    elif max(map(len, lines)) > _LONGEST:
        problem = "an overlong line"
    elif [line[: line.find(b":")] for line in lines if line[0] != 32] != list(names):
        problem = "fields other than those meant"
    if problem:
        raise RuntimeError(f"bug: a message header of ours holds {problem}; nothing was sent")


def verify_addresses(field: bytes, addresses: Sequence[str]) -> None:
    """Check that an address field names exactly *addresses*, in order.

    Raises:
        RuntimeError: it does not.

    """
    plain = field if b'"' not in field else _QUOTED.sub(b"", field)
    plain = plain[plain.find(b":") + 1 :]
    found = []
    for item in plain.split(b","):
        start = item.find(b"<")
        address = item.strip() if start < 0 else item[start + 1 : item.find(b">", start)]
        found.append(address.decode("ascii", "replace"))
    if found != list(addresses):
        raise RuntimeError("bug: an address field differs from the envelope; nothing was sent")


def verify_bodies(segments: Sequence[bytes]) -> None:
    """Check that the encoded parts are ASCII and end their lines.

    Raises:
        RuntimeError: they are not.

    """
    for segment in segments:
        if not segment.isascii() or segment[-2:] != b"\r\n":
            raise RuntimeError("bug: an encoded part is not clean ASCII; nothing was sent")
