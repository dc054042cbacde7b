"""What a connection reports to whoever sends through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from mailmerge.errors import SessionError
    from mailmerge.model import Outcome


class ReleaseNeeded(Struct, frozen=True):
    """Only the end of message *token* is held back: what would make it complete at the server.

    The caller records durably that it is about to hand the message over, then calls ``release``. Until it
    has, no crash can leave a message that the server took and that nothing on disk mentions.
    """

    token: int


class Completed(Struct, frozen=True):
    """Message *token* has its outcome."""

    token: int
    outcome: Outcome


class Closed(Struct, frozen=True):
    """The connection is gone; every submitted message has had its `Completed` before this event."""

    error: SessionError | None


Event = ReleaseNeeded | Completed | Closed
