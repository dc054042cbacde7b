"""The write path: intents before the wire, outcomes after, one durable transaction for a whole window."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import FileError, LedgerError
from mailmerge.ledger import schema
from mailmerge.ledger.records import offset_of, reached, stamp
from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mailmerge.ledger.records import Settlement
    from mailmerge.model import Attempt

_BALLAST = 1024 * 1024

_INTEND = """
INSERT INTO attempt (id, campaign, previous, run, key, row, address, number, at, message_id, date,
    utc_offset, recipients, size, digest, row_digest, version, connection, status)
VALUES (?1, ?2, (SELECT attempt FROM delivery WHERE campaign = ?2 AND key = ?4), ?3, ?4, ?5, ?6, ?7, ?8,
    ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18)
"""
# The condition is the last line of defence: no row is ever promised twice, whatever the caller believes.
_HAND_OVER = """
INSERT INTO delivery (campaign, key, status, tries, first_at, updated, version, attempt)
VALUES (?1, ?2, 'handing_over', 0, ?3, ?3, ?4, ?5)
ON CONFLICT (campaign, key) DO UPDATE SET status = 'handing_over', first_at = coalesce(first_at, ?3),
    updated = ?3, next_at = NULL, version = ?4, attempt = ?5, note = ''
WHERE status IN ('pending', 'deferred')
"""
_SETTLE_ATTEMPT = """
UPDATE attempt SET status = ?, settled = ?, scope = ?, phase = ?, reason = ?, code = ?, enhanced = ?,
    reply = ?, raw = ? WHERE id = ?
"""
_SETTLE = """
UPDATE delivery SET status = ?, tries = tries + ?, next_at = ?, updated = ?
WHERE campaign = ? AND key = ? AND status = 'handing_over'
"""
_SETTLE_UNPROMISED = """
INSERT INTO delivery (campaign, key, status, tries, next_at, first_at, updated, version, attempt)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)
ON CONFLICT (campaign, key) DO UPDATE SET status = ?3, tries = tries + ?4, next_at = ?5,
    first_at = coalesce(first_at, ?6), updated = ?6, version = ?7, attempt = ?8, note = ''
WHERE status IN ('pending', 'deferred')
"""

_HANDED_OVER = "UPDATE campaign SET handed_over = handed_over + ?, counts = '' WHERE id = ?"


class Journal:
    """Writes one campaign's attempts; knows which of them are open, because it is the only writer."""

    def __init__(self, db: sqlite3.Connection, path: Path, campaign: int, ballast: Path | None) -> None:
        self.versions: dict[str, int] = {}
        self._db = db
        self._path = path
        self._campaign = campaign
        self._ballast = ballast
        self._open: dict[str, int] = {}
        self._next = 1 + int(db.execute("SELECT coalesce(max(id), 0) FROM attempt").fetchone()[0])
        found = db.execute("SELECT digest, id FROM version WHERE campaign = ?", (campaign,))
        self.versions.update(found.fetchall())

    def promise(
        self,
        attempts: Sequence[Attempt],
        settlements: Sequence[Settlement],
        now: float,
        run: int | None,
    ) -> None:
        """Commit outcomes and intents together, or nothing.

        Raises:
            LedgerError: the intents are not promised.

        """
        opened, first = dict(self._open), self._next
        try:
            self._commit(attempts, settlements, now, run)
        except BaseException as error:
            self._open, self._next = opened, first
            if isinstance(error, sqlite3.Error):
                raise self._rescue(error, settlements, now, run) from error
            raise

    def _commit(
        self, attempts: Sequence[Attempt], settlements: Sequence[Settlement], now: float, run: int | None
    ) -> None:
        db = self._db
        db.execute("BEGIN IMMEDIATE")
        try:
            if settlements:
                self._settle(settlements, run)
            if attempts:
                self._intend(attempts, now, run)
            db.execute(_HANDED_OVER, (len(attempts), self._campaign))
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _intend(self, attempts: Sequence[Attempt], now: float, run: int | None) -> None:
        db, campaign = self._db, self._campaign
        insert, move = [], []
        for attempt in attempts:
            number, self._next = self._next, self._next + 1
            insert.append(self._attempt_cells(number, attempt, now, Status.HANDING_OVER, run))
            move.append((campaign, attempt.key, now, self._version_id(attempt.version), number))
            self._open[attempt.key] = number
        db.executemany(_INTEND, insert)
        if db.executemany(_HAND_OVER, move).rowcount != len(attempts):
            raise RuntimeError("a row was to be handed over that is not pending")

    def _settle(self, settlements: Sequence[Settlement], run: int | None) -> None:
        db, campaign = self._db, self._campaign
        ended: list[tuple[object, ...]] = []
        moved = []
        fresh: list[Settlement] = []
        for settlement in settlements:
            number = self._open.pop(settlement.attempt.key, None)
            if number is None:
                fresh.append(settlement)
                continue
            at = settlement.at.timestamp()
            where = (campaign, settlement.attempt.key)
            moved.append(
                (settlement.status.value, int(settlement.counts), stamp(settlement.next_at), at, *where)
            )
            ended.append((settlement.outcome.status.value, at, *reached(settlement.outcome), number))
        if moved and db.executemany(_SETTLE, moved).rowcount != len(moved):
            raise RuntimeError("a row was settled that was not being handed over")
        ended.extend(self._settle_unpromised(settlement, run) for settlement in fresh)
        db.executemany(_SETTLE_ATTEMPT, ended)

    def _settle_unpromised(self, settlement: Settlement, run: int | None) -> tuple[object, ...]:
        """Record an attempt that ended before its message needed a promise."""
        attempt, status, at = settlement.attempt, settlement.outcome.status, settlement.at.timestamp()
        number, self._next = self._next, self._next + 1
        self._db.execute(_INTEND, self._attempt_cells(number, attempt, at, status, run))
        head = (self._campaign, attempt.key, settlement.status.value, int(settlement.counts))
        tail = (stamp(settlement.next_at), at, self._version_id(attempt.version), number)
        if self._db.execute(_SETTLE_UNPROMISED, (*head, *tail)).rowcount != 1:
            raise RuntimeError("a row was settled that is neither pending nor promised")
        return (status.value, at, *reached(settlement.outcome), number)

    def _attempt_cells(
        self, number: int, attempt: Attempt, at: float, status: Status, run: int | None
    ) -> tuple[object, ...]:
        return (
            number,
            self._campaign,
            run,
            attempt.key,
            attempt.row,
            attempt.address,
            attempt.number,
            at,
            attempt.message_id,
            attempt.date.timestamp(),
            offset_of(attempt.date),
            attempt.recipients,
            attempt.size,
            attempt.digest,
            attempt.row_digest,
            self._version_id(attempt.version),
            attempt.connection,
            status.value,
        )

    def _version_id(self, digest: str) -> int:
        found = self.versions.get(digest)
        if found is None:
            raise RuntimeError("a campaign version must be noted before it is sent")
        return found

    def _rescue(
        self, error: sqlite3.Error, settlements: Sequence[Settlement], now: float, run: int | None
    ) -> LedgerError:
        """Record what already happened with the space the ballast kept free, then stop all the same."""
        explained = schema.explained(self._path, error)
        if not settlements:
            return explained
        if schema.is_full(error) and self._ballast is not None:
            opened, first = dict(self._open), self._next
            with contextlib.suppress(FileError):
                files.remove_file(self._ballast)
            try:
                self._commit((), settlements, now, run)
            except sqlite3.Error:
                self._open, self._next = opened, first
            else:
                return explained
        lost = "\n".join(f"  {settlement}" for settlement in settlements)
        return LedgerError(
            f"{explained.message}; these outcomes could not be recorded:\n{lost}",
            code=explained.code,
            hint="keep this text: the next run lists these rows as in doubt and sends none of them again",
        )

    def fill_ballast(self) -> None:
        """Set a little space aside, so that a full disk cannot make us forget what was accepted."""
        if self._ballast is None or files.size(self._ballast) == _BALLAST:
            return
        try:
            # Zeros might take no space at all.
            files.write_file(self._ballast, os.urandom(4096) * (_BALLAST // 4096))
        except FileError as error:
            raise LedgerError(
                f"cannot record progress in {self._path.parent}: {error.strerror}",
                code="L703",
                hint="a little free space is kept so that nothing is lost on a full disk; free some",
            ) from error
