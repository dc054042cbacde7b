"""What a connection reports to whoever sends through it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from mailmerge.errors import SessionError
    from mailmerge.model import Outcome


class PromiseNeeded(Struct, frozen=True):
    """The rest of message *token* would complete it: make the promise durable, then call ``promise``."""

    token: int


class Completed(Struct, frozen=True):
    """Message *token* has its outcome."""

    token: int
    outcome: Outcome


class Closed(Struct, frozen=True):
    """The connection is gone; every offered message has had its `Completed` before this event."""

    error: SessionError | None


Event = PromiseNeeded | Completed | Closed
