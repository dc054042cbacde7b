"""Octets waiting to be written: contents as the wire wants them, and gates in front of their ends."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailmerge.smtp.state import Gate

if TYPE_CHECKING:
    from collections.abc import Sequence

Buffer = bytes | memoryview

LAST_CHUNK = 64 * 1024
"""How many octets of a message, its end included, wait for the release at most.

Large enough that most messages wait completely: one commit on disk, then one write, not one between two.
"""


class EndGate:
    """Stands before the end of the message *token*; what is queued behind it waits until it is open."""

    __slots__ = ("state", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.state = Gate.SHUT


class Outbox:
    """A queue of buffers and gates that counts what was queued and what was handed to the kernel."""

    def __init__(self) -> None:
        self.queued = 0
        """Octets ever put in."""
        self.written = 0
        """Octets the connection reported as handed to the kernel."""
        self._queue: deque[Buffer | EndGate] = deque()

    def put(self, data: Buffer) -> int:
        """Append *data*; return the count of octets queued so far."""
        if data:
            self._queue.append(data)
            self.queued += len(data)
        return self.queued

    def hold(self, gate: EndGate) -> None:
        """Append a gate: what follows stays until it is open."""
        self._queue.append(gate)

    def gate(self) -> EndGate | None:
        """Return the gate that alone holds up the queue."""
        while self._queue:
            head = self._queue[0]
            if not isinstance(head, EndGate):
                return None
            if head.state is not Gate.OPEN:
                return head
            self._queue.popleft()
        return None

    def __bool__(self) -> bool:
        """Whether something may be written now."""
        return bool(self._queue) and self.gate() is None

    @property
    def pending(self) -> bool:
        """Whether anything waits to be written, now or behind a gate."""
        return bool(self._queue)

    def buffers(self, count: int, octets: int) -> list[Buffer]:
        """Return what may be written now: at most *count* buffers, and *octets* (give or take none)."""
        found: list[Buffer] = []
        for item in self._queue:
            if isinstance(item, EndGate):
                if item.state is not Gate.OPEN:
                    break
                continue
            if len(item) >= octets:
                found.append(memoryview(item)[:octets])
                break
            found.append(item)
            octets -= len(item)
            if len(found) == count:
                break
        return found

    def sent(self, octets: int) -> None:
        """Remove *octets* from the front: the kernel has them."""
        self.written += octets
        while octets:
            head = self._queue.popleft()
            if isinstance(head, EndGate):
                continue
            if len(head) > octets:
                self._queue.appendleft(memoryview(head)[octets:])
                return
            octets -= len(head)

    def clear(self) -> None:
        """Forget what was not written; the counts stay."""
        self._queue.clear()


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
