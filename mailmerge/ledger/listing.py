"""The list as the ledger sees it: one transaction replaces it, an index finds the duplicates.

Exactly one row *holds* a key, and with it whatever happened to that key. Which one is decided while the rows
come in, in list order: the first one that may be sent. A row that is left out (invalid, suppressed, skipped)
holds its key only until one that may be sent asks for it.
"""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING

from mailmerge.model import Status

if TYPE_CHECKING:
    from mailmerge.model import Listed
    from mailmerge.sqlite import Database

_INSERT = """
INSERT OR IGNORE INTO listing (campaign, row, key, address, status, detail, recipients, holds, row_digest)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)
"""
_HOLDER = "SELECT row, status FROM listing WHERE campaign = ? AND key = ? AND holds"
_TAKE_ADDRESS = "INSERT OR IGNORE INTO listing_address (address, row) VALUES (?, ?)"
_ADDRESS = "SELECT row FROM listing_address WHERE address = ?"
_LET_GO = "UPDATE listing SET holds = 0 WHERE campaign = ? AND row = ?"
# An address corrected in the list gives a refused row another chance.
_CORRECTED = """
UPDATE delivery SET status = 'pending', tries = 0, next_at = NULL, first_at = NULL, note = 'address corrected'
WHERE campaign = ? AND status = 'rejected' AND EXISTS (
    SELECT 1 FROM listing l JOIN attempt a ON a.id = delivery.attempt
    WHERE l.campaign = delivery.campaign AND l.key = delivery.key AND l.holds AND l.status = 'pending'
    AND lower(l.address) <> lower(a.address))
"""


class Listing:
    """Takes the rows of a new listing in list order, inside of one transaction (`Ledger.new_listing`).

    Args:
        db: the ledger, in a transaction.
        campaign: the campaign's number in it.
        unique_addresses: whether rows with different keys but the same address are duplicates, too.

    """

    def __init__(self, db: Database, campaign: int, *, unique_addresses: bool = False) -> None:
        self._db = db
        self._campaign = campaign
        self._unique = unique_addresses
        self._cursor = db.connection.cursor()  # one for all rows: each has its price

    def begin(self) -> None:
        """Forget the listing so far."""
        db, mine = self._db, (self._campaign,)
        if db.row("SELECT 1 FROM listing WHERE campaign <> ? LIMIT 1", mine):
            db.execute("DELETE FROM listing WHERE campaign = ?", mine)
        else:
            db.execute("DELETE FROM listing")  # without WHERE SQLite drops whole pages

    def finish(self) -> None:
        """Draw the conclusions that need the whole list."""
        self._db.execute("DELETE FROM listing_address")
        self._db.execute(_CORRECTED, (self._campaign,))

    def add(self, listed: Listed) -> int | None:
        """Record one row.

        Returns:
            None, or for a row that may be sent but repeats an earlier one: that row's number; it is then
            recorded as a duplicate.

        Raises:
            LedgerError: it cannot be recorded.
            RuntimeError: a mistake of ours: the row's number was there already.

        """
        earlier = self._same_address(listed) if self._unique else None
        holds = earlier is None and bool(listed.key) and listed.status is not Status.DUPLICATE
        if earlier is None:
            # Nearly always this is all; only a row that collides with another one is looked at closely.
            if self._insert(listed, listed.status, listed.detail, holds=holds):
                return None
            earlier, holds = self._collision(listed, holds=holds)
        if earlier is None:
            self._insert(listed, listed.status, listed.detail, holds=holds)
        else:
            self._insert(listed, Status.DUPLICATE, f"repeats row {earlier}", holds=False)
        return earlier

    def _insert(self, listed: Listed, status: Status, detail: str, *, holds: bool) -> bool:
        cells = (
            self._campaign,
            listed.row,
            listed.key,
            listed.address,
            status.value,
            detail,
            listed.recipients,
            holds,
            listed.row_digest,
        )
        try:
            return self._cursor.execute(_INSERT, cells).rowcount == 1
        except sqlite3.Error as error:
            raise self._db.explained(error) from error

    def _collision(self, listed: Listed, *, holds: bool) -> tuple[int | None, bool]:
        """Settle which of two rows holds a key.

        Returns:
            The earlier row that *listed* repeats, if it does; and whether *listed* holds the key.

        """
        found = self._db.row(_HOLDER, (self._campaign, listed.key)) if holds else None
        if found is None or found[0] == listed.row:
            raise RuntimeError(f"row {listed.row} was added twice")
        row, status = found
        if listed.status is not Status.PENDING:
            return None, False  # it is not going to be sent, so it may be there beside the other one
        if status != Status.PENDING:
            # The earlier row is not going to be sent, so this one is no repetition.
            self._db.execute(_LET_GO, (self._campaign, row))
            return None, True
        return row, False

    def _same_address(self, listed: Listed) -> int | None:
        """Return the earlier row that may be sent to this address, where an address may not repeat."""
        if listed.status is not Status.PENDING:
            return None
        address = listed.address.lower()
        if self._db.execute(_TAKE_ADDRESS, (address, listed.row)).rowcount:
            return None
        return int(self._db.row(_ADDRESS, (address,))[0])
