"""Who must never be written to: the files of opt-outs, read so that nobody on them is lost.

Reading fails closed. A file that cannot be read, a file with rows but without addresses, and a row without
addresses are errors: a list of people who said no is never skipped because it was not understood. Every
address of a row counts, unless its column's heading marks it as somebody else's (``Sender``, ``Referred
by``).
"""

from __future__ import annotations

import csv
import hashlib
import io
import os
import re
import stat
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct

from mailmerge.errors import ListError, MailmergeError
from mailmerge.file_system import stamp_of
from mailmerge.folders import read_plain
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.address_column import (
    HASH,
    Entries,
    address_columns,
    entries_in,
    has_entry,
    heading_words,
    names_somebody,
    tells_column,
    understood,
    written_entries,
)
from mailmerge.recipients.encodings import possible_texts
from mailmerge.recipients.heading_row import LOOKED_AT, find_headings
from mailmerge.recipients.recipient_list import MAX_CELL, MAX_PROBLEMS, list_error
from mailmerge.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

_MAX_SIZE = 256 << 20
_SAMPLE_ROWS = 1000
_LOOK_EVERY = 1.0
"""Seconds between two checks of the files during a run."""
_HASH_WORDS = frozenset({"hash", "hashes", "sha", "sha256", "digest"})
_OTHER_HASH = lazy_re(r"(?:\w+:)?(?:[0-9a-fA-F]{32}|[0-9a-fA-F]{40})")
"""MD5 or SHA-1: too weak to identify people, and not what we compare."""
_SAVE_AS_UTF_8 = "save it as CSV (UTF-8)"
WAIT = 60.0
"""Seconds that a run waits for a file that can no longer be read."""


class OptOuts(Struct, frozen=True):
    """The entries of one file."""

    path: Path
    addresses: frozenset[str] = frozenset()
    """Addresses as returned by `Address.normalised`."""
    domains: frozenset[str] = frozenset()
    hashes: frozenset[str] = frozenset()
    """SHA-256 of addresses in that form, 64 hex digits."""
    stamp: tuple[int, int, int] | None = None
    """A stamp that changes when somebody edits or replaces the file; None: the file does not exist."""
    digest: str = ""
    """A digest that differs for any other content."""

    def __len__(self) -> int:
        return len(self.addresses) + len(self.domains) + len(self.hashes)

    def covers(self, address: str) -> bool:
        """Return whether *address*, in its normalised form, is suppressed."""
        if address in self.addresses or address.rpartition("@")[2] in self.domains:
            return True
        return bool(self.hashes) and hash_of(address) in self.hashes


def is_other_hash(text: str) -> bool:
    """Return whether it looks like an MD5 or SHA-1 of an address."""
    return _OTHER_HASH.fullmatch(text.strip()) is not None


def hash_of(address: str) -> str:
    """Return the SHA-256 of an address in its normalised form: 64 hex digits."""
    return hashlib.sha256(address.encode("utf-8")).hexdigest()


class Suppressed:
    """The addresses and domains of several files; addresses are looked up in their normalised form.

    Once read, an entry applies for the life of this object, whatever happens to the file: one that is being
    written may be empty for a moment.

    Args:
        files: the files of opt-outs; each must exist.
        store: the user's own file; it may not exist yet, but once it exists it must not vanish.

    Raises:
        ListError: one of them cannot be read, or has an entry that is neither an address nor a domain.

    """

    def __init__(self, files: Iterable[Path] = (), store: Path | None = None) -> None:
        self._paths = tuple(files)
        self._store = store
        self.files: tuple[OptOuts, ...] = ()
        """The entries of each file, the user's own last."""
        self._addresses: set[str] = set()
        self._domains: set[str] = set()
        self._hashes: set[str] = set()
        self._elsewhere = OptOuts(Path())
        self.refresh()

    def __len__(self) -> int:
        return len(self._addresses) + len(self._domains) + len(self._hashes) + len(self._elsewhere)

    def entries(self) -> Iterator[str]:
        """Yield all entries: addresses, domains as ``@example.org``, and ``sha256:`` with hashes."""
        return written_entries(self._addresses, self._domains, self._hashes)

    @property
    def fingerprint(self) -> str:
        """A digest that differs for any other set of entries."""
        return repr([(str(file.path), file.digest) for file in self.files]) + self._elsewhere.digest

    def covers(self, address: str) -> bool:
        """Return whether *address*, in its normalised form, is suppressed."""
        if address in self._addresses or address.rpartition("@")[2] in self._domains:
            return True
        return (bool(self._hashes) and hash_of(address) in self._hashes) or self._elsewhere.covers(address)

    def include(self, entries: Iterable[str]) -> None:
        """Add entries that are kept elsewhere: addresses, ``@example.org``, ``sha256:`` with a hash."""
        found = frozenset(entries)
        domains = frozenset(entry[1:] for entry in found if entry.startswith("@"))
        hashes = frozenset(entry.removeprefix(HASH) for entry in found if entry.startswith(HASH))
        digest = hash_of("\n".join(sorted(found))) if found else ""
        self._elsewhere = OptOuts(Path(), found, domains, hashes, digest=digest)

    def refresh(self) -> bool:
        """Read files again that have changed; return whether any has.

        Raises:
            ListError: as above; the entries known before still apply.

        """
        known = {file.path: file for file in self.files}
        files = [_current(path, known.get(path)) for path in self._paths]
        if self._store is not None:
            files.append(_current(self._store, known.get(self._store), needed=False))
        changed = [file for file in files if known.get(file.path) is not file]
        for file in changed:
            self._addresses |= file.addresses
            self._domains |= file.domains
            self._hashes |= file.hashes
        self.files = tuple(files)
        return bool(changed)


def _current(path: Path, known: OptOuts | None, *, needed: bool = True) -> OptOuts:
    """Return the entries of a file now: *known* if it has not changed since it was read."""
    there = known is not None and known.stamp is not None
    stamp = _stamp(path, needed=needed or there)
    if known is not None and known.stamp == stamp:
        return known
    return OptOuts(path) if stamp is None else read_opt_outs(path)


class _SteadyClock(Protocol):
    def monotonic(self) -> float: ...


class OptOutWatch:
    """Checks the opt-outs again once a second during a run.

    While that fails nothing is offered to the server, and after a minute the run must end.
    """

    def __init__(self, suppressed: Suppressed, clock: _SteadyClock) -> None:
        self.suppressed = suppressed
        self.changed = False
        """Whether anybody has been added since the run began."""
        self.failure: MailmergeError | None = None
        """Why the run must end."""
        self._clock = clock
        self._next = 0.0
        self._since: float | None = None

    def held_until(self) -> float:
        """Check again if it is time; return until when (monotonic) nothing may be offered; 0: go ahead."""
        now = self._clock.monotonic()
        if self.failure is not None:
            return 0.0
        if now >= self._next:
            self._next = now + _LOOK_EVERY
            try:
                self.changed |= self.suppressed.refresh()
            except MailmergeError as error:
                self._since = now if self._since is None else self._since
                if now - self._since >= WAIT:
                    self.failure = error
                    return 0.0
            else:
                self._since = None
        return 0.0 if self._since is None else self._since + WAIT


# --- one file ------------------------------------------------------------------------------------------


class _Row(Struct, frozen=True):
    """A row of the file; blank rows and comments are left out."""

    place: Place
    cells: Sequence[str]


def read_opt_outs(path: Path) -> OptOuts:
    """Read a file of opt-outs: text with one or more addresses a line, CSV of any dialect, or a workbook.

    Raises:
        ListError: it cannot be read; it has rows but no addresses; a row has none. All problems are in one
            error.

    """
    from mailmerge.recipients.kinds import is_workbook

    stamp = _stamp(path)
    named = _named(path, _sheet_rows(path)) if is_workbook(path) else _named_in_any(path, _texts_of(path))
    if _stamp(path) != stamp:
        raise ListError(
            f"the suppression file {path} changed while it was being read",
            code="D150",
            hint="wait until the program that writes it has finished, then try again",
        )
    addresses, domains, hashes = named
    said = "\n".join([*sorted(addresses), "", *sorted(domains), *sorted(hashes)])
    digest = hashlib.sha256(said.encode()).hexdigest()[:16]
    return OptOuts(path, addresses, domains, hashes, stamp, digest)


def _named_in_any(path: Path, texts: Iterator[str]) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return what a file contains, which is the same in every encoding that it may have.

    Raises:
        ListError: it is not, or the likeliest reading has rows without an address.

    """
    named = _named(path, list(_text_rows(path, next(texts))))
    try:
        # A heading that one encoding shows as words is one in every encoding.
        same = all(_named(path, list(_text_rows(path, text)), headed=True) == named for text in texts)
    except ListError as error:  # such as a letter and the @ behind it read as one character
        if error.code != "D151":
            raise
        same = False
    if not same:
        raise _unreadable(
            path, "which addresses it has depends on its encoding, which it does not say", _SAVE_AS_UTF_8
        )
    return named


def _named(
    path: Path, rows: list[_Row], *, headed: bool = False
) -> tuple[frozenset[str], frozenset[str], frozenset[str]]:
    """Return the addresses, the domains and the hashes that the rows contain."""
    addresses: set[str] = set()
    domains: set[str] = set()
    hashes: set[str] = set()
    for entries in _entries(path, rows, headed=headed):
        addresses.update(entries.addresses)
        domains.update(entries.domains)
        hashes.update(entries.hashes)
    return frozenset(addresses), frozenset(domains), frozenset(hashes)


def _entries(path: Path, rows: list[_Row], *, headed: bool) -> Iterator[Entries]:
    """Yield the entries of each row.

    Args:
        path: the file, for errors.
        rows: its rows.
        headed: a first row without an address is known to be one of headings.

    Raises:
        ListError: with every row that has no entry.

    """
    if not rows:
        return
    rows = _below_titles(rows)
    first = rows[0]
    has_headings = not any(map(names_somebody, first.cells))
    body = rows[1:] if has_headings else rows
    width = max(len(row.cells) for row in islice(rows, _SAMPLE_ROWS))
    headings = [*(first.cells if has_headings else ()), *([""] * width)][:width]
    found = address_columns(headings, (row.cells for row in islice(body, _SAMPLE_ROWS)), has_entry)
    theirs = [column for column in found if column.heading.theirs]
    positions = [column.position for column in theirs]
    if has_headings and not (headed or _is_heading(first.cells, positions, alone=not body)):
        raise _no_heading(path, first)
    strict = {column.position for column in theirs if column.heading.email}
    strict = strict or {column.position for column in theirs[:1]}
    if not has_headings:  # lines of text rather than a table: anything that looks like an address must be one
        strict = set(range(width))
    others = {at for at, heading in enumerate(headings) if at not in strict and understood(heading).theirs}
    problems: list[Diagnostic] = []
    for row in body:
        entries = _row_entries(row, strict, others, width)
        if entries.any and entries.problem is None:
            yield entries
            continue
        problems.append(_says_nothing(row, entries))
        if len(problems) >= MAX_PROBLEMS:
            break
    if problems:
        raise list_error(str(path), problems)


def _below_titles(rows: list[_Row]) -> list[_Row]:
    """Leave out rows that are certainly above the headings and contain nothing like an address."""
    found = find_headings([(at, row.cells) for at, row in enumerate(rows[:LOOKED_AT])])
    above = rows[: found.row]
    if found.likely or found.upper or any(names_somebody(cell) for row in above for cell in row.cells):
        return rows
    return rows[found.row :]


def _row_entries(row: _Row, strict: set[int], others: set[int], width: int) -> Entries:
    """Find the addresses of a row: in its address columns, and in other cells with only addresses."""
    addresses: list[str] = []
    domains: list[str] = []
    hashes: list[str] = []
    for position, cell in enumerate(row.cells):
        surplus = position in others or position >= width
        if not (position in strict or (surplus and has_entry(cell))):
            continue
        entries = entries_in(cell)
        if entries.problem is not None:
            return entries
        addresses += entries.addresses
        domains += entries.domains
        hashes += entries.hashes
    return Entries(tuple(addresses), tuple(domains), tuple(hashes))


def _is_heading(cells: Sequence[str], positions: Sequence[int], *, alone: bool) -> bool:
    """Return whether the first row contains headings, and is not a row with a mistyped address.

    If *alone*, without rows below it, it must tell which column would have the addresses.
    """
    if alone:
        return any(tells_column(cell) or not _HASH_WORDS.isdisjoint(heading_words(cell)) for cell in cells)
    meanings = [understood(cell) for cell in cells if cell.strip()]
    if any(meaning.email or meaning.maybe or not meaning.theirs for meaning in meanings):
        return True
    if any(not _HASH_WORDS.isdisjoint(heading_words(cell)) for cell in cells):
        return True
    return len(meanings) > 1 and any(
        cells[at].strip() and "." not in cells[at] for at in positions if at < len(cells)
    )


def _no_heading(path: Path, row: _Row) -> ListError:
    shown = " | ".join(excerpt(cell) for cell in row.cells[:6])
    return ListError(
        f'{path}: "{shown}" is neither an address nor a row of headings',
        code="D151",
        place=row.place,
        hint='correct it, begin it with # to exclude it, or give the address column the heading "email"',
    )


def _says_nothing(row: _Row, entries: Entries) -> Diagnostic:
    if entries.problem is not None:
        message = f"neither an address nor @domain: {entries.problem}"
    else:
        shown = " | ".join(excerpt(cell) for cell in row.cells[:6] if cell.strip())
        message = f'this row contains no address: "{shown}"'
    meant = f"did you mean {entries.suggestion}? " if entries.suggestion else ""
    if any(map(is_other_hash, row.cells)):
        meant = "hashes of addresses must be SHA-256: 64 hex digits; "
    return Diagnostic(
        code="D151",
        message=message,
        hint=f"{meant}a row contains one or more addresses or @domains; begin it with # to exclude it",
        place=row.place,
    )


# --- the rows of a file --------------------------------------------------------------------------------


def _text_rows(path: Path, text: str) -> Iterator[_Row]:
    from mailmerge.recipients.dialect import find_delimiter

    if csv.field_size_limit() < MAX_CELL:
        csv.field_size_limit(MAX_CELL)
    lines = list(io.StringIO(text, newline=""))
    plain = "".join(line for line in lines if not line.lstrip().startswith("#"))
    delimiter, _ = find_delimiter(plain)
    if re.match(r"sep=[,;|\t]\s*$", plain, re.IGNORECASE | re.MULTILINE):
        delimiter = plain[4]
    try:
        records = list(_records(lines, delimiter, strict=True))
    except csv.Error:
        # A stray quote must not swallow the lines that follow: each line is read by itself.
        records = []
        for number, alone in enumerate(lines, 1):
            try:
                records += [(number, cells) for _, cells in _records([alone], delimiter, strict=False)]
            except csv.Error as error:
                place = Place(path=str(path), line=number)
                said = f"{path}: this line cannot be read: {error}"
                raise ListError(said, code="D151", place=place) from None
    for line, cells in records:
        if line == 1 and cells[0].lower() in {"sep=", f"sep={delimiter}"}:
            continue
        yield _Row(Place(path=str(path), line=line, source=lines[line - 1].rstrip("\r\n")), cells)


def _records(lines: Sequence[str], delimiter: str, *, strict: bool) -> Iterator[tuple[int, list[str]]]:
    """Yield the records with the number of their first line, without blank ones and comments."""
    reader = csv.reader(lines, delimiter=delimiter, strict=strict, skipinitialspace=True)
    line = 1
    for cells in reader:
        if any(map(str.strip, cells)) and not cells[0].lstrip().startswith("#"):
            yield line, cells
        line = reader.line_num + 1


def _texts_of(path: Path) -> Iterator[str]:
    """Yield the text of a file in each possible encoding: the letters of its names do not matter."""
    try:
        raw = read_plain(path, _MAX_SIZE)
    except OSError as error:
        raise _unreadable(path, error.strerror or "") from error
    try:
        for text in possible_texts(path, raw):
            if "\0" in text:
                raise _unreadable(path, "it contains NUL characters", _SAVE_AS_UTF_8)
            yield text
    except UnicodeDecodeError as error:
        raise _unreadable(path, f"it is not {error.encoding.upper()}", _SAVE_AS_UTF_8) from error


def _sheet_rows(path: Path) -> list[_Row]:
    """Return the rows of the only sheet with addresses, hidden ones too."""
    from mailmerge.recipients.workbook_list import sheets_as_text

    with_addresses: dict[str, list[_Row]] = {}
    filled: dict[str, list[_Row]] = {}
    for name, rows in sheets_as_text(path, str(path)):
        found = [
            _Row(Place(path=str(path), cell=f"sheet {name}, row {number}"), cells)
            for number, cells in rows
            if any(map(str.strip, cells)) and not next(filter(str.strip, cells)).lstrip().startswith("#")
        ]
        if found:
            filled[name] = found
            if any("@" in cell for row in found for cell in row.cells):
                with_addresses[name] = found
    if len(with_addresses) > 1:
        listed = ", ".join(f'"{name}"' for name in with_addresses)
        raise ListError(
            f"{path} has addresses on several sheets: {listed}",
            code="D151",
            place=Place(path=str(path)),
            hint="keep the sheet with the people who must not receive mail, and remove the others",
        )
    return next(iter((with_addresses or filled).values()), [])


def _stamp(path: Path, *, needed: bool = True) -> tuple[int, int, int] | None:
    """Return a stamp that changes when a file is edited or replaced; None: an optional file is missing."""
    try:
        found = os.stat(path)  # noqa: PTH116  one call, once a second
    except FileNotFoundError as error:
        if not needed:
            return None
        raise _unreadable(path, error.strerror or "") from error
    except OSError as error:
        raise _unreadable(path, error.strerror or "") from error
    if not stat.S_ISREG(found.st_mode):
        raise _unreadable(path, "it is not a regular file")
    if found.st_size > _MAX_SIZE:
        raise _unreadable(path, f"it has more than {_MAX_SIZE >> 20} MB")
    return stamp_of(found)


def _unreadable(path: Path, reason: str, hint: str = "") -> ListError:
    return ListError(
        f"cannot read the suppression file {path}: {reason}",
        code="D150",
        hint=hint or "check its name; nothing is sent while a file that data.suppress names cannot be read",
    )
