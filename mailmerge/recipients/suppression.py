"""Files of addresses that must never be written to: one address or ``@domain`` a line, or a CSV column."""

from __future__ import annotations

import csv
import hashlib
from typing import TYPE_CHECKING

from mailmerge.addresses import Address, AddressError
from mailmerge.errors import ListError
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_HEADINGS = frozenset({"email", "e-mail", "mail", "address", "mailmerge_address"})


class Suppressed:
    """A set of addresses and domains; an address is asked for in its normalised form."""

    def __init__(self, files: Iterable[Path] = ()) -> None:
        self._addresses: set[str] = set()
        self._domains: set[str] = set()
        self.digest = hashlib.sha256()
        """Hash over the files' bytes: tells whether they are still the same."""
        for path in files:
            self._read(path)

    def __len__(self) -> int:
        return len(self._addresses) + len(self._domains)

    def covers(self, address: Address) -> bool:
        """Tell whether nothing may be sent to *address*."""
        return address.normalised in self._addresses or address.domain.lower() in self._domains

    def _read(self, path: Path) -> None:
        # Fail closed: a list of people who said no is never skipped because it could not be read.
        try:
            data = path.read_bytes()
            text = data.decode("utf-8-sig")
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
            raise ListError(
                f"cannot read the suppression file {path}: {reason}",
                code="D150",
                hint="nothing is sent without it; remove it from data.suppress if it is not needed any more",
            ) from error
        self.digest.update(data)
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
                hint="one entry a line, like ana@example.org or @example.org",
            ) from None
