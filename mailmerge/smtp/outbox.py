"""Octets waiting to be written, with gates that hold back the end of a message until it is released."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailmerge.smtp.state import Gate

if TYPE_CHECKING:
    from mailmerge.smtp.transactions import Buffer, Transaction


class Outbox:
    """A queue of buffers and gates that counts what was queued and what was handed to the kernel."""

    def __init__(self) -> None:
        self.queued = 0
        """Octets ever put in."""
        self.written = 0
        """Octets the connection reported as handed to the kernel."""
        self._queue: deque[Buffer | Transaction] = deque()

    def put(self, data: Buffer) -> int:
        """Append *data*; return the count of octets queued so far."""
        if data:
            self._queue.append(data)
            self.queued += len(data)
        return self.queued

    def hold(self, transaction: Transaction) -> None:
        """Append a gate: what follows stays until *transaction* is released."""
        self._queue.append(transaction)

    def gate(self) -> Transaction | None:
        """Return the transaction whose release alone holds up the queue."""
        while self._queue:
            head = self._queue[0]
            if isinstance(head, (bytes, memoryview)):
                return None
            if head.gate is not Gate.OPEN:
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
            if isinstance(item, (bytes, memoryview)):
                if len(item) >= octets:
                    found.append(memoryview(item)[:octets])
                    break
                found.append(item)
                octets -= len(item)
                if len(found) == count:
                    break
            elif item.gate is not Gate.OPEN:
                break
        return found

    def sent(self, octets: int) -> None:
        """Remove *octets* from the front: the kernel has them."""
        self.written += octets
        while octets:
            head = self._queue.popleft()
            if not isinstance(head, (bytes, memoryview)):
                continue
            if len(head) > octets:
                self._queue.appendleft(memoryview(head)[octets:])
                return
            octets -= len(head)

    def clear(self) -> None:
        """Forget what was not written; the counts stay."""
        self._queue.clear()
