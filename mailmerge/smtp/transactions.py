"""One message on its way: its envelope, its content on the wire, and how many may fly at once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.model import Outcome, Scope, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.addresses import Address
    from mailmerge.model import Message, Reply
    from mailmerge.smtp.outbox import Buffer

LAST_CHUNK = 64 * 1024
"""How many octets of a message, its end included, wait for the promise at most."""


class Transaction:
    """From MAIL to the reply to the content."""

    __slots__ = (
        "asked",
        "by_chunk",
        "end",
        "message",
        "promised",
        "refusal",
        "refused",
        "start",
        "taken",
        "token",
        "unanswered",
        "unasked",
    )

    def __init__(self, message: Message, token: int) -> None:
        self.message = message
        self.token = token
        self.by_chunk = False
        self.unasked: list[Address] = []
        """Recipients whose RCPT was not written yet, the next one last."""
        self.unanswered = 0
        """Replies to the envelope that are still due."""
        self.taken = 0
        """Recipients the server has accepted."""
        self.refused: list[tuple[Address, Reply]] = []
        self.refusal: Outcome | None = None
        """The gravest refusal so far: it decides the row."""
        self.asked = False
        """`ReleaseNeeded` was reported."""
        self.promised = False
        self.start = 0
        """The outbox's count just behind the MAIL command."""
        self.end: int | None = None
        """The outbox's count just behind the last octet of the content; None: not queued."""

    @property
    def alone(self) -> bool:
        """Whether there is one recipient only, so that its refusal needs no barrier."""
        return len(self.message.envelope.rcpt_to) == 1

    def refuse(self, outcome: Outcome) -> None:
        """Note a refusal; one about the account outranks one about the row, a final one a passing one."""
        if self.refusal is None or _gravity(outcome) > _gravity(self.refusal):
            self.refusal = outcome


_SCOPES = (Scope.ROW, Scope.CONNECTION, Scope.ACCOUNT, Scope.CONFIG)


def _gravity(outcome: Outcome) -> tuple[int, bool]:
    return _SCOPES.index(outcome.scope), outcome.status is Status.REJECTED


# --- content on the wire ---------------------------------------------------------------------------------


def needs_stuffing(segments: Sequence[bytes]) -> bool:
    """Whether a line begins with a dot (RFC 5321 section 4.5.2), also across two segments.

    The builder sees to it that none does; a line break of any kind counts here, to be safe. Most
    octets are base64 without a dot: those cost one ``memchr``.
    """
    before = b"\n"
    for segment in segments:
        if segment[:1] == b"." and before == b"\n":
            return True
        if b"." in segment and b"\n." in segment:
            return True
        before = segment[-1:] or before
    return False


def stuffed(segments: Sequence[bytes]) -> tuple[bytes, ...]:
    """Double the dots that begin a line: the slow path that a sound message never takes."""
    content = b"".join(segments).replace(b"\n.", b"\n..")
    return (b"." + content if content.startswith(b".") else content,)


def split(segments: Sequence[bytes], end: bytes = b"") -> tuple[list[Buffer], bytes]:
    """Cut *segments* plus *end* into what may flow early and the last `LAST_CHUNK` octets at most.

    Large segments are not copied.
    """
    room = LAST_CHUNK - len(end)
    index = len(segments)
    while index and len(segments[index - 1]) <= room:
        index -= 1
        room -= len(segments[index])
    head: list[Buffer] = list(segments[:index])
    tail: list[Buffer] = list(segments[index:])
    if head and room:
        view = memoryview(head.pop())
        head.append(view[:-room])
        tail.insert(0, view[-room:])
    return head, b"".join((*tail, end))


def closing(segments: Sequence[bytes]) -> bytes:
    """Return what ends the content after DATA: a dot on a line of its own."""
    ending = b""
    for segment in reversed(segments):
        ending = segment[-2:] + ending
        if len(ending) >= 2:
            break
    return b".\r\n" if not ending or ending.endswith(b"\r\n") else b"\r\n.\r\n"


# --- how many at once ------------------------------------------------------------------------------------


class Window:
    """How many chunked messages may be unanswered: grows while all goes well, shrinks at refusals.

    1, 2, 4 .. 64 messages and 1 MiB. A refusal lets everything in flight finish and halves the window;
    after three in a row it shuts, until a message was accepted by other means: refused transactions
    use up the server's patience.
    """

    MOST_MESSAGES = 64
    MOST_OCTETS = 1 << 20
    _SHUT_AFTER = 3

    def __init__(self) -> None:
        self.messages = 1
        self.octets = 0
        """Octets in flight."""
        self.draining = False
        self._accepted = 0
        self._refused_in_a_row = 0

    @property
    def shut(self) -> bool:
        """Whether refusals have closed it for now."""
        return self._refused_in_a_row >= self._SHUT_AFTER

    def has_room(self, in_flight: int) -> bool:
        """Whether one more message may join *in_flight* others."""
        return not self.draining and in_flight < self.messages and self.octets < self.MOST_OCTETS

    def accepted(self) -> None:
        """Note an accepted message; a whole round of them doubles the window."""
        self._refused_in_a_row = 0
        self._accepted += 1
        if self._accepted >= self.messages:
            self.messages = min(2 * self.messages, self.MOST_MESSAGES)
            self._accepted = 0

    def refused(self) -> None:
        """Note a refused message."""
        self._refused_in_a_row += 1
        self._accepted = 0
        if not self.draining:
            self.messages = max(1, self.messages // 2)
            self.draining = True

    def drained(self) -> None:
        """Note that nothing is in flight."""
        self.draining = False
