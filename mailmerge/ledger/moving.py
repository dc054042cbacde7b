"""Copying a campaign from one ledger into another one: to move it, to look ahead, or to rescue it.

Each ledger has its own numbers (of runs, attempts ..), so all of them are assigned again, in order. What was
written is compared with what was read by a digest in which such numbers are positions in that order.
"""

# ruff: noqa: S608  every piece of SQL here is made of the tables' own names

from __future__ import annotations

import hashlib
from bisect import bisect_left
from functools import cache
from itertools import islice
from typing import TYPE_CHECKING, Any

from mailmerge import files
from mailmerge.errors import LedgerError
from mailmerge.ledger import schema

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mailmerge.ledger.databases import LedgerDatabase

_BATCH = 1000
_NUMBERS: Mapping[str, Mapping[str, str]] = {
    "version": {"id": "version"},
    "run": {"id": "run"},
    "attempt": {"id": "attempt", "previous": "attempt", "run": "run", "version": "version"},
    "delivery": {"version": "version", "attempt": "attempt", "bounce": "bounce"},
    "mail": {},
    "bounce": {"id": "bounce", "attempt": "attempt"},
    "copy": {"attempt": "attempt"},
}
"""The tables that a campaign has rows in, and which of their columns are numbers of which table."""
_NUMBERED = ("version", "run", "attempt", "bounce")
_ORDER = {"delivery": "key", "mail": "mark", "copy": "attempt"}
_OF_CAMPAIGN = {"copy": "attempt IN (SELECT id FROM attempt WHERE campaign = ?1)"}


@cache
def columns(table: str) -> tuple[str, ...]:
    """Return the columns of a table in this version, without the campaign's number."""
    model = files.database_in_memory()
    try:
        model.executescript(schema.SCHEMA)
        return tuple(
            name for _, name, *_ in model.execute(f"PRAGMA table_info({table})") if name != "campaign"
        )
    finally:
        model.close()


class _RowIds:
    """The numbers that a campaign's rows of one table have, in their order."""

    def __init__(self, db: LedgerDatabase, table: str, campaign: int) -> None:
        query = f"SELECT id FROM {table} WHERE campaign = ? ORDER BY id"
        self.old = [int(number) for (number,) in db.stream(query, (campaign,))]
        self.new: Sequence[int] = ()

    def place(self, number: int | None) -> int | None:
        """Return the position of a number; None: it refers to nothing, as in a damaged ledger."""
        if number is None:
            return None
        at = bisect_left(self.old, number)
        return at if at < len(self.old) and self.old[at] == number else None

    def renewed(self, number: int | None) -> int | None:
        """Return the number in the other ledger."""
        at = self.place(number)
        return None if at is None else self.new[at]


def copy_campaign(source: LedgerDatabase, target: LedgerDatabase, name: str) -> None:
    """Write a campaign into another ledger, in one transaction, and verify that all of it is there.

    Args:
        source: the ledger that has it; nobody may write to it meanwhile.
        target: a ledger that does not have it.
        name: the campaign.

    Raises:
        LedgerError: the target has one of this name, or the copy differs; nothing was written.

    """
    own = ("id", *(column for column in columns("campaign") if column != "id"))
    known = source.row(f"SELECT {', '.join(own)} FROM campaign WHERE name = ?", (name,))
    if known is None:
        return
    old = int(known[0])
    whole = digest(source, old)  # a server aborts a transaction that is idle for a long time
    with target.transaction():
        there = target.row("SELECT id, handed_over, moved_to, secret FROM campaign WHERE name = ?", (name,))
        secret = bytes(known[own.index("secret")])
        # Begun there without an attempt; or the campaign itself, as it was when it was moved away.
        if there is not None and (not there[1] or (there[2] and bytes(there[3]) == secret)):
            attempts = "SELECT id FROM attempt WHERE campaign = ?"
            target.execute(f"DELETE FROM copy WHERE attempt IN ({attempts})", (there[0],))
            for table in ("version", "run", "mail", "bounce", "attempt", "delivery"):
                target.execute(f"DELETE FROM {table} WHERE campaign = ?", (there[0],))
            target.execute("DELETE FROM campaign WHERE id = ?", (there[0],))
        elif there is not None:
            raise LedgerError(
                f'the ledger {target.path} already has a campaign "{name}"',
                code="L724",
                hint="give this one another `name`, or run `ledger forget` for that one first",
            )
        marks = ", ".join("?" * (len(own) - 1))
        statement = f"INSERT INTO campaign ({', '.join(own[1:])}) VALUES ({marks}) RETURNING id"
        cells = [
            "" if column == "moved_to" else cell for column, cell in zip(own[1:], known[1:], strict=True)
        ]
        (new,) = target.row(statement, cells)
        numbers = {table: _RowIds(source, table, old) for table in _NUMBERED}
        for table, held in numbers.items():
            held.new = _taken(target, table, len(held.old))
        for table in _NUMBERS:
            _copy_table(source, target, table, (old, int(new)), numbers)
        if digest(target, int(new)) != whole:
            raise LedgerError(
                f"what was written to {target.path} differs from what was read from {source.path}",
                code="L724",
                hint="nothing was changed",
            )


def _copy_table(
    source: LedgerDatabase,
    target: LedgerDatabase,
    table: str,
    campaigns: tuple[int, int],
    numbers: Mapping[str, _RowIds],
) -> None:
    names = columns(table)
    of_campaign = table not in _OF_CAMPAIGN
    renumbered = [(names.index(column), numbers[of]) for column, of in _NUMBERS[table].items()]
    into = (*names, "campaign") if of_campaign else names
    statement = f"INSERT INTO {table} ({', '.join(into)}) VALUES ({', '.join('?' * len(into))})"
    # Deliveries keep the order of first contact, so that related rows stay together.
    order = "attempt" if table == "delivery" else _ORDER.get(table, "id")
    for batch in _batches(_rows(source, table, campaigns[0], order)):
        written = []
        for row in batch:
            cells = list(row)
            for at, held in renumbered:
                cells[at] = held.renewed(cells[at]) or (0 if at and cells[at] is not None else cells[at])
            written.append((*cells, campaigns[1]) if of_campaign else tuple(cells))
        target.executemany(statement, written)


def _rows(db: LedgerDatabase, table: str, campaign: int, order: str) -> Iterator[Sequence[Any]]:
    which = _OF_CAMPAIGN.get(table, "campaign = ?1")
    return db.stream(
        f"SELECT {', '.join(columns(table))} FROM {table} WHERE {which} ORDER BY {order}", (campaign,)
    )


def _batches(rows: Iterator[Sequence[Any]]) -> Iterable[list[Sequence[Any]]]:
    while batch := list(islice(rows, _BATCH)):
        yield batch


def _taken(db: LedgerDatabase, table: str, count: int) -> list[int]:
    """Reserve *count* numbers of a table, which nobody else will use; return the first."""
    if table == "attempt":
        taken: list[int] = []
        while len(taken) < count:
            first, most = db.next_numbers()
            taken.extend(range(first, first + min(most, count - len(taken))))
        return taken
    return db.take_ids(table, count)


def digest(db: LedgerDatabase, campaign: int) -> str:
    """Return the digest of everything that a ledger has of a campaign, independent of its numbers."""
    numbers = {table: _RowIds(db, table, campaign) for table in _NUMBERED}
    made = hashlib.blake2b(digest_size=16)
    row = db.row("SELECT secret, handed_over, name FROM campaign WHERE id = ?", (campaign,))
    made.update(repr((bytes(row[0]), *row[1:])).encode("utf-8", "surrogatepass"))
    for table, numbered in _NUMBERS.items():
        names = columns(table)
        places = [(names.index(column), numbers[of]) for column, of in numbered.items()]
        rows = []
        for cells in map(list, _rows(db, table, campaign, _ORDER.get(table, "id"))):
            for at, held in places:
                cells[at] = held.place(cells[at])
            text = repr([bytes(cell) if isinstance(cell, memoryview) else cell for cell in cells])
            rows.append(hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest())
        made.update(table.encode() + b"".join(sorted(rows)))  # servers sort strings by their own rules
    return made.hexdigest()
