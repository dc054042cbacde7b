"""Selections of rows by number: ``--rows 2-50,77``."""

from __future__ import annotations

import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import CampaignFileError

if TYPE_CHECKING:
    from collections.abc import Iterable

_PART = r"([0-9]{1,7})(?:\s*([-–])\s*([0-9]{1,7})?)?\Z"
LAST_ROW = 10_000_000
"""No list has more rows; this number represents the end of the list."""


class RowSelection(Struct, frozen=True):
    """A set of row numbers as sorted, disjoint, inclusive ranges."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, row: object) -> bool:
        if not isinstance(row, int):
            return False
        index = bisect_right(self.ranges, (row, LAST_ROW)) - 1
        return index >= 0 and self.ranges[index][0] <= row <= self.ranges[index][1]

    def names(self, row: int, rows: Iterable[int] = ()) -> bool:
        """Return whether a row is selected, or one that shares its message, which is sent as a whole."""
        return row in self or any(other in self for other in rows)

    @property
    def last(self) -> int:
        """The last row that can be selected."""
        return self.ranges[-1][1]

    def __str__(self) -> str:
        return ",".join(_show(first, last) for first, last in self.ranges)


def parse_rows(text: str) -> RowSelection:
    """Read row numbers and ranges, both ends included; ``77-`` extends to the end of the list.

    Raises:
        CampaignFileError: the text is not a selection of rows, or it includes the header row.

    """
    found = sorted(_range(part.strip(), text) for part in text.split(","))
    merged = [found[0]]
    for first, last in found[1:]:
        if first <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(last, merged[-1][1]))
        else:
            merged.append((first, last))
    return RowSelection(tuple(merged))


def _range(part: str, text: str) -> tuple[int, int]:
    match = re.match(_PART, part)
    if not match:
        raise CampaignFileError(
            f'"{text}" is not a selection of rows' if part else f'"{text}" has an empty part',
            code="C430",
            hint="separate row numbers and ranges with commas: 2-50,77",
        )
    first = int(match[1])
    last = int(match[3]) if match[3] else LAST_ROW if match[2] else first
    if last < first:
        raise CampaignFileError(f'"{part}" ends before it begins', code="C430", hint=f"write {last}-{first}")
    if first < 2:
        raise CampaignFileError(
            f"row {first} is not a row of recipients",
            code="C430",
            hint="rows are numbered as the spreadsheet shows them: the header is 1, the first recipient is 2",
        )
    return first, last


def _show(first: int, last: int) -> str:
    if last == LAST_ROW:
        return f"{first}-"
    return str(first) if first == last else f"{first}-{last}"
