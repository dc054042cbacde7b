"""The user's own list of people who must not be written to, whatever the campaign.

A CSV file in the user's configuration folder, which a person can read and a spreadsheet program can open. It
is read like any file of opt-outs, and fails closed like them: what cannot be understood in it stops every
campaign until it is corrected. It is only ever replaced as a whole, by one process at a time.
"""

from __future__ import annotations

import csv
import io
from abc import ABC, abstractmethod
from datetime import datetime
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from mailmerge import files
from mailmerge.config.accounts import default_config_path
from mailmerge.errors import ListError
from mailmerge.ledger.locks import Lock, LockWait
from mailmerge.ledger.shared_suppression import OptOutTable
from mailmerge.model import Place
from mailmerge.recipients.address_column import HASH, entries_in, names_somebody, written_entries
from mailmerge.recipients.suppression import OptOuts, hash_of, is_other_hash, read_opt_outs

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import date
    from pathlib import Path

    from mailmerge.config.environment import Environment
    from mailmerge.ledger.server_place import ServerPlace

_NAME = "suppressed.csv"
_HEADINGS = ("email", "added", "source")


def store_path(environment: Environment) -> Path:
    """Return the place of the store: next to the user's ``config.toml``."""
    return default_config_path(environment).with_name(_NAME)


class StoredEntry(Struct, frozen=True):
    """One line of the store."""

    entry: str
    """An address, a domain as ``@example.org``, or ``sha256:`` and 64 hex digits, normalised."""
    added: str = ""
    """The date, ISO 8601."""
    source: str = ""
    """Where it came from: a file's name, or nothing if a person named it."""


class _StoreLock(Lock):
    """Only one process changes the store at a time."""

    code = "D162"


class _Store(ABC):
    """Where opt-outs are kept for all campaigns."""

    @abstractmethod
    def add(self, wanted: Iterable[str], *, day: date, source: str = "") -> int:
        """Add addresses and domains; return how many are new."""

    def add_file(self, path: Path, *, day: date) -> tuple[OptOuts, int]:
        """Add everybody in a file of opt-outs; return its entries and how many of these are new.

        Raises:
            ListError: the file cannot be read, or a row of it has no address: none is added then.

        """
        found = read_opt_outs(path)
        entries = written_entries(sorted(found.addresses), sorted(found.domains), sorted(found.hashes))
        return found, self.add(entries, day=day, source=path.name)


class SuppressionStore(_Store):
    """The store, for reading and changing it; use it as a context manager to change it.

    Args:
        path: the file.
        wait: seconds to wait for another process that is changing it.

    Raises:
        InUseError: another process is changing it, for more than *wait* seconds.
        LedgerError: the lock file cannot be made.
        FileError: the folder or the file cannot be written.
        ListError: its contents cannot be understood: nothing is changed then.

    """

    def __init__(self, path: Path, *, wait: float = 10.0) -> None:
        self.path = path
        self._lock = _StoreLock(
            path.with_name(f"{path.name}.lock"), f"the suppression store {path}", wait=LockWait(wait)
        )

    def __enter__(self) -> Self:
        files.named_folder(self.path.parent).close()
        self._lock.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self._lock.release()

    def entries(self) -> list[StoredEntry]:
        """Return its entries, in the order in which they were added."""
        if not self.path.exists():
            return []
        read_opt_outs(self.path)  # reports what is wrong with which line
        with self.path.open(encoding="utf-8-sig", newline="") as file:
            return list(_stored(file))

    def add(self, wanted: Iterable[str], *, day: date, source: str = "") -> int:
        """Add addresses and domains; return how many are new.

        Raises:
            ListError: one of *wanted* is neither an address nor ``@domain``: none is added then.

        """
        kept = self.entries()
        known = {stored.entry for stored in kept}
        fresh = dict.fromkeys(entry for entry in _normalised(wanted) if entry not in known)
        self._write([*kept, *(StoredEntry(entry, day.isoformat(), source) for entry in fresh)])
        return len(fresh)

    def remove(self, wanted: Iterable[str]) -> int:
        """Remove addresses and domains.

        Raises:
            ListError: one of *wanted* is not in the store: none is removed then.

        """
        kept = self.entries()
        known = {stored.entry for stored in kept}
        named = set(_normalised(wanted))
        # Somebody may be in it by the address, by its hash, or by both.
        hashes = {entry: f"{HASH}{hash_of(entry)}" for entry in named if not entry.startswith(("@", HASH))}
        unknown = sorted(entry for entry in named if not known & {entry, hashes.get(entry, entry)})
        gone = named.union(hashes.values())
        if unknown:
            raise _not_there(unknown[0], str(self.path))
        self._write([stored for stored in kept if stored.entry not in gone])
        return len(gone & known)

    def _write(self, entries: list[StoredEntry]) -> None:
        text = io.StringIO(newline="")
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(_HEADINGS)
        rows.writerows((stored.entry, stored.added, stored.source) for stored in entries)
        with files.replace_file(self.path, named=True) as stream:
            stream.write(text.getvalue().encode())


class SharedSuppressionStore(_Store):
    """The same in the ledger that the workers of a fleet share: for all of its campaigns.

    Args:
        place: the ledger.

    Raises:
        LedgerError: it cannot be reached, or this user may not change it.

    """

    def __init__(self, place: ServerPlace) -> None:
        self.path = str(place)
        """Its name in messages."""
        self._place = place

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open between two calls."""

    def entries(self) -> list[StoredEntry]:
        """Return its entries, including those that were loaded for one campaign."""
        if not self._place.exists():
            return []
        with self._place.database() as db:
            return [
                StoredEntry(
                    entry.entry, f"{datetime.fromtimestamp(entry.since).astimezone():%Y-%m-%d}", entry.source
                )
                for entry in OptOutTable(db).entries()
            ]

    def add(self, wanted: Iterable[str], *, day: date, source: str = "") -> int:  # noqa: ARG002  its own clock
        """Add addresses and domains, which count from the next promise on; return how many are new.

        Raises:
            ListError: one of *wanted* is neither an address nor ``@domain``: none is added then.

        """
        entries = list(_normalised(wanted))
        if not self._place.exists():  # people may opt out before anything was ever sent
            self._place.database_to_fill().close()
        with self._place.session() as db:
            return OptOutTable(db).add(entries, source=source)

    def remove(self, wanted: Iterable[str]) -> int:
        """Remove addresses and domains, also by their hashes.

        Raises:
            ListError: one of *wanted* is not in it: none is removed then.

        """
        named = list(_normalised(wanted))
        with self._place.session() as db, db.transaction():
            table = OptOutTable(db)
            gone = table.remove([*named, *(f"{HASH}{hash_of(entry)}" for entry in named)])
            unknown = [entry for entry in named if not gone & {entry, f"{HASH}{hash_of(entry)}"}]
            if unknown:
                carried = any(entry.entry == unknown[0] for entry in table.entries())
                raise _carried(unknown[0], self.path) if carried else _not_there(unknown[0], self.path)
        return len(gone)


def _carried(entry: str, store: str) -> ListError:
    return ListError(
        f"{entry} is there for one campaign only, whose own files have it",
        code="D163",
        hint="remove it from `data.suppress` or your own store, then `send --fleet` again",
        place=Place(path=store),
    )


def _not_there(entry: str, store: str) -> ListError:
    return ListError(
        f"{entry} is not in the suppression store",
        code="D163",
        hint="`suppress list` shows its entries; a domain is written as @example.org",
        place=Place(path=store),
    )


def _stored(file: io.TextIOBase | Iterable[str]) -> Iterator[StoredEntry]:
    """Read the lines of the store, also those that a person has added or changed."""
    headings: list[str] | None = None
    for cells in csv.reader(file, skipinitialspace=True):
        if not any(map(str.strip, cells)) or cells[0].lstrip().startswith("#"):
            continue
        if headings is None and not any(map(names_somebody, cells)):
            headings = cells
            continue
        named = dict(zip(headings or _HEADINGS, cells, strict=False))
        for cell in cells:
            found = entries_in(cell)
            if names_somebody(cell) and found.problem is None:
                for entry in found.written():
                    yield StoredEntry(entry, named.get("added", ""), named.get("source", ""))


def _normalised(wanted: Iterable[str]) -> Iterator[str]:
    """Yield each entry in the form in which it is kept.

    Raises:
        ListError: one is neither an address nor a domain.

    """
    for text in wanted:
        found = entries_in(text)
        if not found.any or found.problem is not None:
            meant = f"did you mean {found.suggestion}? " if found.suggestion else ""
            if is_other_hash(text):
                meant = "a hash must be the SHA-256 of the lower-case address, 64 hex digits; or "
            raise ListError(
                f'"{text}" is neither an address nor @domain'
                + (f": {found.problem}" if found.problem else ""),
                code="D151",
                hint=f"{meant}write ana@example.org, or @example.org for everybody there",
            )
        yield from found.written()
