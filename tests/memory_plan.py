"""A plan that is not stored: it passes the contract tests of stored ones, and costs unit tests nothing."""

from __future__ import annotations

import io
from bisect import bisect_left
from collections import Counter
from typing import TYPE_CHECKING, Self

from mailmerge.errors import PlanDamaged
from mailmerge.plan.store import FINISHED, NOT_ADDED, NOT_PACKED, OUT_OF_ORDER, following, refuse

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from types import EllipsisType
    from typing import BinaryIO

    from mailmerge.model import Diagnostic, FrozenMessage
    from mailmerge.plan.store import PackedMessage, PackedRow, PlanReader, PlanRow


class MemoryPlan:
    """Writer and reader in one."""

    def __init__(self, name: str, made: datetime) -> None:
        self.name = name
        self.made = made
        self.summary = b""
        self.facts = b""
        self.has_messages = True
        self._rows: list[PlanRow] = []
        self._last = -1
        self._messages: dict[int, FrozenMessage] = {}
        self._findings: dict[int | None, list[Diagnostic]] = {}
        self._finished = False
        self._spool = io.BytesIO()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Do nothing: it goes with its last user."""

    # --- writing --------------------------------------------------------------------------------------

    def add_row(self, row: PlanRow) -> None:
        """See `PlanWriter`."""
        refuse(self._finished, FINISHED)
        refuse(row.n <= self._last, OUT_OF_ORDER)
        self._last = row.n
        self._insert(row)

    def replace_row(self, row: PlanRow) -> None:
        """See `PlanWriter`."""
        refuse(self._finished, FINISHED)
        for one in (row, *(following(row, other) for other in self.others(row))):
            index = self._index(one.n)
            refuse(index == len(self._rows) or self._rows[index].n != one.n, NOT_ADDED)
            self._rows[index] = one

    def add_others(self, rows: Sequence[PlanRow]) -> None:
        """See `PlanWriter`."""
        refuse(self._finished, FINISHED)
        for row in rows:
            self._insert(row)

    def _insert(self, row: PlanRow) -> None:
        self._rows.insert(self._index(row.n), row)

    def sort(self, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
        """See `PlanWriter`."""
        first: dict[bytes, int] = {}
        sorted_ = [(first.setdefault(group, n) if group else n, n, kept) for n, group, kept in rows]
        return ((begin, kept) for begin, _, kept in sorted(sorted_))

    def repeated(self, *, addresses: bool, backwards: bool = False) -> Iterator[PlanRow]:
        """See `PlanWriter`."""
        firsts = [row for row in self._rows if row.first is None]
        keys = Counter(row.key for row in firsts if row.key)
        counting = [row for row in firsts if addresses and row.address and (row.ready or backwards)]
        written = Counter(row.address.lower() for row in counting)
        for row in list(reversed(firsts) if backwards else firsts):
            counts = row.ready or (backwards and bool(row.address))
            if keys[row.key] > 1 or (counts and written[row.address.lower()] > 1):
                yield row

    def add_message(self, number: int, frozen: FrozenMessage) -> None:
        """See `PlanWriter`."""
        refuse(self._finished, FINISHED)
        self._messages[number] = frozen

    @property
    def dictionary(self) -> bytes | None:
        """See `PlanWriter`; nothing is packed."""
        return None

    def add_packed(
        self,
        row: PackedRow,
        message: PackedMessage | None,
        others: Sequence[PackedRow] = (),
    ) -> None:
        """See `PlanWriter`."""
        refuse(True, NOT_PACKED)

    def add_findings(self, n: int | None, findings: Sequence[Diagnostic]) -> None:
        """See `PlanWriter`."""
        refuse(self._finished, FINISHED)
        if findings:
            self._findings.setdefault(n, []).extend(findings)

    def begin_spool(self) -> BinaryIO:
        """See `PlanWriter`; it is in memory, too."""
        self._spool = io.BytesIO()
        return self._spool

    def read_spool(self) -> BinaryIO:
        """See `PlanWriter`."""
        return io.BytesIO(self._spool.getvalue())

    def expect(self, rows: int) -> None:
        """See `PlanWriter`; memory is not looked at."""

    def finish(self, summary: bytes, facts: bytes = b"") -> PlanReader:
        """See `PlanWriter`."""
        refuse(self._finished, FINISHED)
        self.summary, self.facts, self._finished = summary, facts, True
        return self

    # --- reading --------------------------------------------------------------------------------------

    @property
    def size(self) -> int:
        """See `PlanReader`."""
        return len(self._rows)

    def rows(self, *, after: int = -1, ready: bool = False) -> Iterator[PlanRow]:
        """See `PlanReader`."""
        for row in self._rows[self._index(after + 1) :]:
            if row.ready or not ready:
                yield row

    def rows_numbered(self, ranges: Iterable[tuple[int, int]]) -> Iterator[PlanRow]:
        """See `PlanReader`."""
        for first, last in ranges:
            index = bisect_left(self._rows, first, key=lambda row: row.row)
            while index < len(self._rows) and self._rows[index].row <= last:
                yield self._rows[index]
                index += 1

    def addresses(self) -> Iterator[str]:
        """See `PlanReader`."""
        return (row.address.lower() for row in self._rows if row.address)

    def ready_ends(self) -> tuple[PlanRow, PlanRow] | None:
        """See `PlanReader`."""
        ready = list(self.rows(ready=True))
        return (ready[0], ready[-1]) if ready else None

    def others(self, row: PlanRow) -> list[PlanRow]:
        """See `PlanReader`."""
        return [self._rows[self._index(n)] for n in row.others]

    def holders(self, keys: Sequence[str]) -> dict[str, PlanRow]:
        """See `PlanReader`."""
        wanted = set(keys) - {""}
        return {row.key: row for row in self._rows if row.holds and row.key in wanted}

    def message(self, number: int) -> FrozenMessage:
        """See `PlanReader`."""
        if number not in self._messages:
            raise PlanDamaged(f"the plan {self.name} has no message {number}")
        return self._messages[number]

    def findings(self, n: int | EllipsisType | None = ...) -> Iterator[tuple[int | None, Diagnostic]]:
        """See `PlanReader`."""
        places = sorted(self._findings, key=lambda n: -1 if n is None else n) if n is ... else [n]
        for place in places:
            for finding in self._findings.get(place, ()):
                yield place, finding

    def _index(self, n: int) -> int:
        return bisect_left(self._rows, n, key=lambda row: row.n)
