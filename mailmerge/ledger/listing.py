"""The list as the ledger sees it: one transaction replaces it, an index finds the duplicates."""

from __future__ import annotations

import sqlite3
from typing import TYPE_CHECKING, Self

from mailmerge.ledger.schema import guarded
from mailmerge.model import Status

if TYPE_CHECKING:
    from pathlib import Path
    from types import TracebackType

    from mailmerge.model import Listed

_INSERT = "INSERT OR IGNORE INTO listing VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
_HOLDER = "SELECT row, status FROM listing WHERE campaign = ? AND key = ? AND holds"
_TAKE_ADDRESS = "INSERT OR IGNORE INTO listing_address VALUES (?, ?)"
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
    """Replaces a campaign's listing; use it as a context manager, an exception leaves the old one."""

    def __init__(
        self, db: sqlite3.Connection, campaign: int, path: Path, *, unique_addresses: bool = False
    ) -> None:
        self._unique = unique_addresses
        self._db = db
        self._campaign = campaign
        self._path = path
        self._cursor = db.cursor()

    def __enter__(self) -> Self:
        with guarded(self._path):
            self._db.execute("BEGIN IMMEDIATE")
            self._db.execute("UPDATE campaign SET counts = '' WHERE id = ?", (self._campaign,))
            others = self._db.execute(
                "SELECT 1 FROM listing WHERE campaign <> ? LIMIT 1", (self._campaign,)
            ).fetchone()
            if others:
                self._db.execute("DELETE FROM listing WHERE campaign = ?", (self._campaign,))
            else:
                self._db.execute("DELETE FROM listing")  # without WHERE SQLite drops whole pages
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if kind is not None:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            return
        with guarded(self._path):
            try:
                self._db.execute("DELETE FROM listing_address")
                self._db.execute(_CORRECTED, (self._campaign,))
                self._db.execute("COMMIT")
            except sqlite3.Error:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise

    def add(self, listed: Listed) -> int | None:
        """Record one row, in list order.

        Returns:
            None, or for a row that may be sent but repeats an earlier one: that row's number; it is then
            recorded as a duplicate.

        """
        try:
            return self._add(listed)
        except (sqlite3.Error, UnicodeEncodeError) as error:
            with guarded(self._path):
                raise error from None

    def _add(self, listed: Listed) -> int | None:
        status = listed.status
        holds = bool(listed.key) and status is not Status.DUPLICATE
        cells: list[object] = [
            self._campaign,
            listed.row,
            listed.key,
            listed.address,
            status.value,
            listed.detail,
            listed.recipients,
            holds,
            listed.row_digest,
        ]
        cursor = self._cursor
        if self._unique and status is Status.PENDING:
            earlier = self._same_address(listed)
            if earlier is not None:
                cells[4:8] = _repeats(earlier, listed)
                cursor.execute(_INSERT, cells)
                return earlier
        if cursor.execute(_INSERT, cells).rowcount:
            return None
        found = cursor.execute(_HOLDER, (self._campaign, listed.key)).fetchone() if holds else None
        if found is None or found[0] == listed.row:
            raise RuntimeError(f"row {listed.row} was added twice")
        earlier, state = found
        if status is not Status.PENDING:
            cells[7] = False
            cursor.execute(_INSERT, cells)
            return None
        if state != Status.PENDING:
            # The earlier row with this key is not going to be sent, so this one is no repetition.
            cursor.execute(_LET_GO, (self._campaign, earlier))
            cursor.execute(_INSERT, cells)
            return None
        cells[4:8] = _repeats(earlier, listed)
        cursor.execute(_INSERT, cells)
        return int(earlier)

    def _same_address(self, listed: Listed) -> int | None:
        address = listed.address.lower()
        if self._cursor.execute(_TAKE_ADDRESS, (address, listed.row)).rowcount:
            return None
        return int(self._cursor.execute(_ADDRESS, (address,)).fetchone()[0])


def _repeats(earlier: int, listed: Listed) -> list[object]:
    return [Status.DUPLICATE.value, f"repeats row {earlier}", listed.recipients, False]
