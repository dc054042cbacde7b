"""Which rows the page shows: all of a short list, the troubled ones of a long one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.model import Result, Status

if TYPE_CHECKING:
    from collections.abc import Sequence

MOST_ROWS = 5000

_TROUBLE = frozenset(
    {
        Status.IN_DOUBT,
        Status.HANDING_OVER,
        Status.REJECTED,
        Status.EXPIRED,
        Status.DEFERRED,
        Status.INVALID,
    }
)


class PickedRows:
    """Is told of every result, in order, and keeps the few thousand that a page can show."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._first: list[Result] = []
        self._trouble: list[Result] = []
        self._others: list[Result] = []
        self.total = 0

    def add(self, result: Result) -> None:
        """Look at one result."""
        self.total += 1
        if len(self._first) < self._most:
            self._first.append(result)
        if result.status is Status.ACCEPTED:
            return
        kept = self._trouble if result.status in _TROUBLE else self._others
        if len(kept) < self._most:
            kept.append(result)

    @property
    def whole(self) -> bool:
        """Whether every row is shown."""
        return self.total <= self._most

    @property
    def rows(self) -> Sequence[Result]:
        """The rows to show, in the list's order; of a long list those with trouble before all others."""
        if self.whole:
            return self._first
        chosen = [*self._trouble, *self._others[: self._most - len(self._trouble)]]
        # Rows that are no longer in the list come last, as they do everywhere.
        return sorted(chosen, key=lambda result: (result.row is None, result.row or 0))
