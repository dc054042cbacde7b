"""The two parts of an invitation in a message: one for calendar programs, and the same as a file.

The revision of an event (SEQUENCE) and the time of the message (DTSTAMP) must grow from one message about an
event to the next (RFC 5546, 2.1.4). Both come from the message's Date, which the ledger keeps: the same
message has the same values each time it is sent, a later one has later values. Until then the two lines are a
placeholder, so a frozen message is the same whenever it was planned.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mailmerge.message import verify
from mailmerge.message.header_fields import content_type, disposition
from mailmerge.message.text_bodies import quoted_printable

if TYPE_CHECKING:
    from collections.abc import Iterable

STAND_IN = "DTSTAMP:20000101T000000Z\r\nSEQUENCE:0\r\n"
"""The two lines of an event before its message is sent; values cannot contain line breaks."""
ROOM = 20
"""Octets by which a message can become longer than when it was frozen."""
_OPEN = STAND_IN.encode("ascii")
_QUOTED = b"Content-Transfer-Encoding: quoted-printable\r\n\r\n"
_HEAD = b'Content-Type: text/calendar; method=REQUEST; charset="utf-8"\r\n' + _QUOTED
_NAME = "invite.ics"
# Not text/calendar again: programs would ask twice.
_FILE = content_type("application/ics", _NAME) + disposition("attachment", _NAME) + _QUOTED
_FIRST = datetime(2025, 1, 1, tzinfo=UTC)
"""SEQUENCE counts the seconds from this time: it has 31 bits."""


def alternative(text: str) -> list[bytes | int]:
    """Return the part that calendar programs read, from the text of an iCalendar object."""
    body = quoted_printable(text)
    verify.verify_bodies((body,))
    return [_HEAD, body]


def file_part(text: str) -> bytes:
    """Return the same as a file: one piece, like other files."""
    return _FILE + quoted_printable(text)


def stamped(body: tuple[bytes | int, ...], date: datetime) -> tuple[bytes | int, ...]:
    """Insert the two lines into a frozen message that is an invitation; any other is unchanged.

    Args:
        body: its pieces, see `FrozenMessage.body`.
        date: its Date.

    """
    if _HEAD not in body:
        return body
    return tuple(_stamped(body, date))


def _stamped(body: Iterable[bytes | int], date: datetime) -> Iterable[bytes | int]:
    moment = date.astimezone(UTC)
    number = max(int((moment - _FIRST).total_seconds()), 0)
    lines = f"DTSTAMP:{moment:%Y%m%dT%H%M%SZ}\r\nSEQUENCE:{number}\r\n".encode("ascii")
    found = body_of_calendar = False
    for piece in body:
        is_file = isinstance(piece, bytes) and piece.startswith(_FILE)
        if isinstance(piece, bytes) and (body_of_calendar or is_file):
            piece = piece.replace(_OPEN, lines)  # noqa: PLW2901
        body_of_calendar = piece == _HEAD and not found
        found = found or body_of_calendar
        yield piece
