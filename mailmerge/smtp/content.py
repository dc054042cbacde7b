"""The content of a message on the wire: dots doubled, an end of its own, and a gate in front of that end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.smtp.events import ReleaseNeeded
from mailmerge.smtp.state import Gate, Step, Trigger

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.smtp.events import Event
    from mailmerge.smtp.outbox import Outbox
    from mailmerge.smtp.reply_queue import ReplyQueue
    from mailmerge.smtp.transactions import Buffer, Transaction

LAST_CHUNK = 64 * 1024
"""How many octets of a message, its end included, wait for the release at most."""


class ContentWriter:
    """Queues contents, and asks for the release of their ends.

    What comes before the gate may travel at once, for nothing that is not whole can be accepted. A message
    of up to 64 KiB waits completely: then one commit on disk stands before one write, and not between two.
    """

    def __init__(self, replies: ReplyQueue, outbox: Outbox, events: list[Event]) -> None:
        self._replies = replies
        self._outbox = outbox
        self._events = events

    def by_data(self, transaction: Transaction) -> None:
        """Queue the content behind a 354 (RFC 5321 section 4.1.1.4)."""
        segments = transaction.message.segments
        if needs_stuffing(segments):
            segments = stuffed(segments)
        # The reply is owed from the content's first octet on: a server may refuse it half-way.
        self._replies.owe(Step.CONTENT, transaction, self._outbox.queued + 1)
        self._queue(transaction, segments, closing(segments))

    def by_chunk(self, transaction: Transaction) -> None:
        """Queue the content as one BDAT chunk: octets are counted, no dot is doubled (RFC 3030 section 2)."""
        due = self._replies.say(b"BDAT %d LAST" % transaction.message.size)
        self._replies.owe(Step.CHUNK, transaction, due)
        self._queue(transaction, transaction.message.segments, b"")

    def _queue(self, transaction: Transaction, segments: tuple[bytes, ...], end: bytes) -> None:
        head, tail = split(segments, end)
        for buffer in head:
            self._outbox.put(buffer)
        self._outbox.hold(transaction)
        transaction.end = self._outbox.put(tail)
        transaction.stage = transaction.stage.after(Trigger.CONTENT_QUEUED)
        self._replies.note_content(transaction.message.size)
        if not head:
            self.ask_release(transaction)

    def ask_release(self, transaction: Transaction) -> None:
        """Report, once, that only the end of this message is left to be written."""
        if transaction.gate is Gate.SHUT:
            transaction.gate = transaction.gate.after(Trigger.END_REACHED)
            self._events.append(ReleaseNeeded(transaction.token))


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
