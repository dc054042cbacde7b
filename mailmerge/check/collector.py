"""Collects diagnostics over any number of rows in bounded memory: the same problem is kept once."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.model import Diagnostic, Severity

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

FIRST_ROWS = 8
"""How many row numbers a group remembers."""
GROUPS_PER_CODE = 200
"""Past this many different problems of one code the rest is only counted."""


class Group(Struct):
    """One problem, as it was first met, and where else it occurs."""

    first: Diagnostic
    count: int = 0
    rows: list[int] = field(default_factory=list)

    def add(self, row: int | None) -> None:
        """Count one more occurrence."""
        self.count += 1
        if row is not None and len(self.rows) < FIRST_ROWS and (not self.rows or self.rows[-1] != row):
            self.rows.append(row)


class Problems:
    """All problems found so far, grouped; iterates over the groups, errors first, in order of discovery."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        self._ignore = frozenset(ignore)
        self._groups: dict[tuple[object, ...], Group] = {}
        self._per_code: dict[str, int] = {}
        self.uncounted: dict[str, int] = {}
        """Code: how many occurrences were counted but not kept."""

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Take in what was found, except warnings with a code the campaign silences."""
        for found in diagnostics:
            if found.code not in self._ignore or found.severity is Severity.ERROR:
                self._add(found)

    def _add(self, found: Diagnostic) -> None:
        place = found.place
        where = (place.path, place.line, place.column) if place and place.cell is None else None
        identity = (found.code, found.message, where)
        group = self._groups.get(identity)
        if group is None:
            if self._per_code.get(found.code, 0) >= GROUPS_PER_CODE:
                self.uncounted[found.code] = self.uncounted.get(found.code, 0) + 1
                return
            self._per_code[found.code] = self._per_code.get(found.code, 0) + 1
            group = self._groups[identity] = Group(found)
        group.add(found.row)

    def __iter__(self) -> Iterator[Group]:
        groups = self._groups.values()
        yield from (group for group in groups if group.first.severity is Severity.ERROR)
        yield from (group for group in groups if group.first.severity is not Severity.ERROR)

    def count(self, severity: Severity) -> int:
        """How many different problems of this severity there are."""
        return sum(group.first.severity is severity for group in self._groups.values())

    @property
    def campaign_errors(self) -> list[Group]:
        """Errors that are about the campaign, not about single rows: nothing can be sent."""
        return [group for group in self if group.first.severity is Severity.ERROR and stops(group.first)]


def stops(diagnostic: Diagnostic) -> bool:
    """Whether this error stops the whole campaign: it is no row's own fault."""
    return diagnostic.row is None or diagnostic.code.startswith("T")
