"""The rows worth a look: longest, shortest, biggest, and those that took a branch few others took."""

from __future__ import annotations

import heapq
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

_KEPT = 3
_RARE_SHARE = 0.05
_MOST_BRANCHES = 1000
_MOST_RARE = 50


class Unusual:
    """Watches rows go by and remembers the few that stand out; memory does not grow with the list."""

    def __init__(self) -> None:
        self._rows = 0
        self._longest: list[tuple[int, int]] = []
        self._shortest: list[tuple[int, int]] = []
        self._biggest: list[tuple[int, int]] = []
        self._smallest: list[tuple[int, int]] = []
        self._branches: dict[int, list[int]] = {}
        """Hash of a branch: how many rows took it, then the first of them."""

    def add(self, row: int, *, length: int, size: int, chunks: Iterable[str]) -> None:
        """Take in a row: the *length* of its text, the *size* of its message, its fixed *chunks*."""
        self._rows += 1
        ranks = (length, -length, size, -size)
        heaps = (self._longest, self._shortest, self._biggest, self._smallest)
        for heap, rank in zip(heaps, ranks, strict=True):
            heapq.heappush(heap, (rank, -row))  # of equal ones the first rows stay
            if len(heap) > _KEPT:
                heapq.heappop(heap)
        branch = hash(frozenset(chunks))
        if branch in self._branches or len(self._branches) < _MOST_BRANCHES:
            rows = self._branches.setdefault(branch, [0])
            rows[0] += 1
            if len(rows) <= _MOST_RARE:
                rows.append(row)

    def rows(self) -> dict[str, list[int]]:
        """Give the row numbers by what is unusual about them; what all rows share is not unusual."""
        return {
            "longest": _outliers(self._longest, self._shortest, self._rows),
            "shortest": _outliers(self._shortest, self._longest, self._rows),
            "biggest": _outliers(self._biggest, self._smallest, self._rows),
            "rare": self._rare(),
        }

    def _rare(self) -> list[int]:
        if len(self._branches) < 2:
            return []
        most = max(1, int(self._rows * _RARE_SHARE))
        rare = [rows[1:] for rows in self._branches.values() if rows[0] <= most]
        return sorted(row for rows in rare for row in rows)[:_MOST_RARE]


def _outliers(heap: list[tuple[int, int]], others: list[tuple[int, int]], rows: int) -> list[int]:
    """Give the rows in *heap*, the most unusual first; none if all rows are alike."""
    if rows <= _KEPT or -max(others)[0] == max(heap)[0]:
        return []
    return [-row for _, row in sorted(heap, reverse=True)]
