"""Which rows are meant (``--rows 2-50,77``), and which addresses must never be written to."""

from __future__ import annotations

import csv
import re
from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.addresses import Address, AddressError
from mailmerge.errors import CampaignFileError, ListError
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_PART = r"([0-9]{1,7})(?:\s*([-–])\s*([0-9]{1,7})?)?\Z"
LAST_ROW = 10_000_000
"""No list has more rows; it stands for the end of the list."""
_HEADINGS = frozenset({"email", "e-mail", "mail", "address", "mailmerge_address"})


class RowSelection(Struct, frozen=True):
    """A set of row numbers as sorted, disjoint, inclusive ranges."""

    ranges: tuple[tuple[int, int], ...]

    def __contains__(self, row: object) -> bool:
        if not isinstance(row, int):
            return False
        index = bisect_right(self.ranges, (row, LAST_ROW)) - 1
        return index >= 0 and self.ranges[index][0] <= row <= self.ranges[index][1]

    @property
    def last(self) -> int:
        """The last row that can be meant."""
        return self.ranges[-1][1]

    def __str__(self) -> str:
        return ",".join(_show(first, last) for first, last in self.ranges)


def parse_rows(text: str) -> RowSelection:
    """Read row numbers and ranges, both ends included; ``77-`` goes to the end of the list.

    Raises:
        CampaignFileError: the text is no such selection, or it names the header.

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
            hint="write row numbers and ranges with commas: 2-50,77",
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


# --- never -----------------------------------------------------------------------------------------------


class Suppressed:
    """A set of addresses and domains; an address is asked for in its normalised form."""

    def __init__(self, files: Iterable[Path] = ()) -> None:
        self._files = tuple(files)
        self._states: list[tuple[int, int, int]] | None = None
        self._addresses: set[str] = set()
        self._domains: set[str] = set()
        self.refresh()

    def __len__(self) -> int:
        return len(self._addresses) + len(self._domains)

    @property
    def fingerprint(self) -> str:
        """Tell these files, as they were read, from all others."""
        return repr([self._states, *map(str, self._files)])

    def covers(self, address: str) -> bool:
        """Tell whether nothing may be sent to *address*, given in its normalised form."""
        return address in self._addresses or address.rpartition("@")[2] in self._domains

    def refresh(self) -> bool:
        """Read the files again if one has changed since; tell whether.

        Raises:
            ListError: one cannot be read, or has an entry that is neither an address nor a domain.

        """
        states = [_state(path) for path in self._files]
        if states == self._states:
            return False
        before = self._addresses, self._domains
        self._addresses, self._domains = set(), set()
        try:
            for path in self._files:
                self._read(path)
        except ListError:
            self._addresses, self._domains = before
            raise
        self._states = states
        return True

    def _read(self, path: Path) -> None:
        # Fail closed: a list of people who said no is never skipped because it could not be read.
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror or "" if isinstance(error, OSError) else "it is not UTF-8"
            raise _unreadable(path, reason) from error
        rows = list(csv.reader(text.splitlines()))
        column = 0
        start = 0
        for index, heading in enumerate(rows[0] if rows else []):
            if heading.strip().lower() in _HEADINGS:
                column, start = index, 1
        for number, row in enumerate(rows[start:], start + 1):
            entry = row[column].strip() if len(row) > column else ""
            if entry and not entry.startswith("#"):
                self._add(entry, path, number)

    def _add(self, entry: str, path: Path, line: int) -> None:
        local, _, domain = entry.rpartition("@")
        try:
            if local:
                self._addresses.add(Address.parse(entry).normalised)
            else:
                self._domains.add(Address.parse(f"any@{domain}").domain)
        except AddressError as error:
            raise ListError(
                f'"{entry}" is neither an address nor @domain: {error}',
                code="D151",
                place=Place(path=str(path), line=line, source=entry),
                hint="write one entry per line, such as ana@example.org or @example.org",
            ) from None


def _state(path: Path) -> tuple[int, int, int]:
    """Tell what changes when somebody edits or replaces a file."""
    try:
        found = path.stat()
    except OSError as error:
        raise _unreadable(path, error.strerror or "") from error
    return found.st_mtime_ns, found.st_size, found.st_ino


def _unreadable(path: Path, reason: str) -> ListError:
    return ListError(
        f"cannot read the suppression file {path}: {reason}",
        code="D150",
        hint="nothing is sent without it; remove it from data.suppress if it is no longer needed",
    )
