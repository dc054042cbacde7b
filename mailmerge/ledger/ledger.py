"""The campaign's memory: a promise before the wire, an outcome after, one SQLite file, one writer.

A row is ``handing_over`` on disk before its last bytes can leave, so whatever kills the process, the file
knows every row that may have been handed over. Nothing here retries, sleeps or decides: the sender does.
"""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from mailmerge import files
from mailmerge.errors import LedgerError
from mailmerge.ledger import decisions, queries, schema
from mailmerge.ledger.journal import Journal
from mailmerge.ledger.listing import Listing
from mailmerge.ledger.locks import CampaignLock
from mailmerge.ledger.records import Run, moment

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mailmerge.ledger.records import PastAttempt, Settlement
    from mailmerge.ledger.statistics import Aggregates
    from mailmerge.model import Attempt, Counts, Delivery, Result, Version


def _now() -> datetime:
    return datetime.now(UTC)


class Ledger:
    """One campaign's part of a ledger file; get one from `open`, `open_read_only` or `scratch`."""

    def __init__(
        self,
        db: sqlite3.Connection,
        path: Path,
        campaign: str,
        *,
        now: Callable[[], datetime] = _now,
        ballast: bool = False,
        folder: files.ScratchFolder | None = None,
    ) -> None:
        self.path = path
        self.campaign = campaign
        self.writable = True
        self._db = db
        self._now = now
        self._folder = folder
        self._ballast = path.with_name("ballast") if ballast else None
        self._run: int | None = None
        self._id = 0
        self.secret = b""
        self._journal: Journal

    # --- opening and closing --------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: Path,
        campaign: str,
        *,
        create: bool = True,
        now: Callable[[], datetime] = _now,
    ) -> Ledger:
        """Open the ledger for writing, making file and campaign if they are new; hold the lock before.

        Raises:
            LedgerError: missing (without *create*), damaged, too new, purged or not writable.

        """
        if create and not path.exists():
            schema.create(path)
        ledger = cls(schema.connect(path), path, campaign, now=now, ballast=True)
        try:
            ledger._load(create=create)
            ledger._journal.fill_ballast()
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def open_read_only(cls, path: Path, campaign: str) -> Ledger:
        """Open an existing ledger for looking; its bytes do not change.

        Raises:
            LedgerError: missing, damaged, of another version, or without this campaign.

        """
        ledger = cls(schema.connect_read_only(path), path, campaign)
        ledger.writable = False
        try:
            ledger._load(create=False)
        except BaseException:
            ledger.close()
            raise
        return ledger

    @classmethod
    def scratch(
        cls,
        source: Path | None,
        campaign: str,
        *,
        now: Callable[[], datetime] = _now,
    ) -> Ledger:
        """Make a throw-away copy of *source*, or an empty ledger, for dry runs and rehearsals.

        It lives in a private temporary folder that `close` removes; nothing in it is made durable.

        Raises:
            LedgerError: *source* exists but cannot be read.

        """
        folder = files.ScratchFolder()
        try:
            path = folder.path / "ledger.db"
            schema.create(path, durable=False)
            if source is not None and source.exists():
                with (
                    schema.guarded(source),
                    contextlib.closing(schema.connect_read_only(source)) as original,
                    contextlib.closing(files.open_database(path)) as copy,
                ):
                    original.backup(copy)
            ledger = cls(schema.connect(path, durable=False), path, campaign, now=now, folder=folder)
            ledger._load(create=True)
        except BaseException:
            folder.close()
            raise
        return ledger

    def _load(self, *, create: bool) -> None:
        with schema.guarded(self.path):
            found = self._campaign_row()
            if found is None and not create:
                known = [name for (name,) in self._db.execute("SELECT name FROM campaign ORDER BY id")]
                raise LedgerError(
                    f'{self.path} has no campaign "{self.campaign}"',
                    code="L705",
                    hint=f"it has: {', '.join(known)}" if known else "nothing was sent from here yet",
                )
            if found is None:
                self._db.execute(
                    "INSERT INTO campaign (name, secret, created) VALUES (?, ?, ?)",
                    (self.campaign, os.urandom(32), self._now().timestamp()),
                )
                found = self._campaign_row()
            self._id, self.secret, purged = found or (0, b"", None)
            if purged is not None and self.writable:
                raise LedgerError(
                    f'the personal data of campaign "{self.campaign}" was purged; it can only be looked at',
                    code="L709",
                    hint="start a new one with --name NEW",
                )
            self._journal = Journal(self._db, self.path, self._id, self._ballast)

    def _campaign_row(self) -> tuple[int, bytes, float | None] | None:
        query = "SELECT id, secret, purged FROM campaign WHERE name = ?"
        row: tuple[int, bytes, float | None] | None = self._db.execute(query, (self.campaign,)).fetchone()
        return row

    @property
    def throwaway(self) -> bool:
        """Whether it is one that `close` removes."""
        return self._folder is not None

    def close(self) -> None:
        """Close the file, its WAL emptied; never raises."""
        if self._folder is not None:
            self._db.close()
            self._folder.close()
        elif self.writable:
            schema.close(self._db)
        else:
            self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @staticmethod
    def lock(path: Path, *, wait: float = 0.0, give_up: Callable[[], bool] = lambda: False) -> CampaignLock:
        """Make the lock that a writer of the ledger at *path* must hold; take it before `open`.

        Another holder is waited for up to *wait* seconds, or until *give_up* says so.
        """
        return CampaignLock(path.parent, wait=wait, give_up=give_up)

    # --- the list -------------------------------------------------------------------------------------

    def new_listing(self, *, unique_addresses: bool = False) -> Listing:
        """Begin to replace this campaign's listing; enter it as a context manager.

        *unique_addresses*: rows with different keys but the same address are duplicates, too.
        """
        return Listing(self._db, self._id, self.path, unique_addresses=unique_addresses)

    @property
    def preflight(self) -> str:
        """The digest under which the last complete pre-flight was recorded, or nothing."""
        with schema.guarded(self.path):
            return str(
                self._db.execute("SELECT preflight FROM campaign WHERE id = ?", (self._id,)).fetchone()[0]
            )

    def note_preflight(self, digest: str) -> None:
        """Remember that these very files (list, templates, attachments) passed the pre-flight."""
        with self._transaction():
            self._db.execute("UPDATE campaign SET preflight = ? WHERE id = ?", (digest, self._id))

    # --- promise and outcome --------------------------------------------------------------------------

    @property
    def handed_over(self) -> int:
        """How many hand-overs were ever promised: only grows, so an older copy of the file shows."""
        with schema.guarded(self.path):
            return int(
                self._db.execute("SELECT handed_over FROM campaign WHERE id = ?", (self._id,)).fetchone()[0]
            )

    def promise(self, attempts: Sequence[Attempt], settlements: Sequence[Settlement] = ()) -> None:
        """Record outcomes so far and the next hand-overs in one durable transaction.

        When this returns, it has reached the disk: only then may the last bytes of *attempts* leave.

        Raises:
            LedgerError: nothing of *attempts* was promised. A full disk is answered by giving up the
                ballast for the settlements; those that could not be recorded even so are in the text.

        """
        self._journal.promise(attempts, settlements, self._now().timestamp(), self._run)

    def repair(self) -> int:
        """Mark what was being handed over when an earlier run died as in doubt.

        Returns:
            How many rows that were. Nothing else is ever repaired.

        """
        with self._transaction(moving=True):
            now = self._now().timestamp()
            self._db.execute(
                "UPDATE attempt SET status = 'in_doubt', settled = ?2, phase = 'content', reason = 'stopped' "
                "WHERE id IN (SELECT attempt FROM delivery WHERE campaign = ?1 AND status = 'handing_over')",
                (self._id, now),
            )
            moved = self._db.execute(
                "UPDATE delivery SET status = 'in_doubt', updated = ?2 "
                "WHERE campaign = ?1 AND status = 'handing_over'",
                (self._id, now),
            )
            return moved.rowcount

    # --- runs and versions ----------------------------------------------------------------------------

    def start_run(self, kind: str, version: str = "") -> int:
        """Record that this process begins to work; attempts from now on carry the run's number."""
        with self._transaction():
            cells = (self._id, kind, self._now().timestamp(), os.getpid(), version)
            cursor = self._db.execute(
                "INSERT INTO run (campaign, kind, started, pid, version) VALUES (?, ?, ?, ?, ?)", cells
            )
            self._run = cursor.lastrowid
        return self._run or 0

    def finish_run(self, reason: str, counts: Mapping[str, int]) -> None:
        """Record how the run ended."""
        with self._transaction():
            cells = (self._now().timestamp(), reason, json.dumps(dict(counts)), self._run)
            self._db.execute("UPDATE run SET ended = ?, reason = ?, counts = ? WHERE id = ?", cells)

    def last_run(self, kind: str = "send") -> Run | None:
        """Give the latest run of this *kind*."""
        with schema.guarded(self.path):
            row = self._db.execute(
                "SELECT id, kind, started, pid, version, ended, reason, counts FROM run "
                "WHERE campaign = ? AND kind = ? ORDER BY id DESC LIMIT 1",
                (self._id, kind),
            ).fetchone()
        if row is None:
            return None
        number, kind, started, pid, version, ended, reason, counts = row
        begun = datetime.fromtimestamp(started, UTC)
        return Run(number, kind, begun, pid, version, moment(ended), reason, json.loads(counts))

    def note_version(self, digest: str, parts: Mapping[str, str]) -> None:
        """Make a campaign version known: the digest of all of it, and of each part by name."""
        if digest in self._journal.versions:
            return
        with self._transaction():
            cursor = self._db.execute(
                "INSERT INTO version (campaign, digest, parts, noted) VALUES (?, ?, ?, ?)",
                (self._id, digest, json.dumps(dict(parts)), self._now().timestamp()),
            )
            number = cursor.lastrowid or 0
        self._journal.versions[digest] = number

    def versions(self) -> list[Version]:
        """Give the versions that rows were accepted with, latest accepted last, each with their number."""
        return queries.versions(self._db, self.path, self._id)

    def accepted_with(self, digest: str) -> int:
        """Count the rows that were accepted with this version."""
        return next((version.accepted for version in self.versions() if version.digest == digest), 0)

    # --- looking --------------------------------------------------------------------------------------

    def due(self, now: datetime, *, after_row: int = 0, limit: int = 1000) -> list[Delivery]:
        """Give the next page of rows to contact, in list order: pending ones and those due again."""
        return queries.due(self._db, self.path, self._id, now, after_row=after_row, limit=limit)

    def due_count(self, now: datetime) -> int:
        """Count the rows that `due` would give in all."""
        return queries.due_count(self._db, self.path, self._id, now)

    def next_due(self) -> datetime | None:
        """Tell when the first deferred row of the list is due."""
        return queries.next_due(self._db, self.path, self._id, self._now())

    def recent(self, since: datetime) -> Iterator[tuple[str, datetime]]:
        """Give addresses with the times at which they were written to after *since*."""
        return queries.recent(self._db, self.path, self._id, since)

    def counts(self) -> Counts:
        """Count rows by state, those that are no longer in the list included.

        What was counted is kept until a row moves, so that asking again costs nothing.
        """
        kept = queries.kept_counts(self._db, self.path, self._id)
        if kept is None:
            kept = queries.counts(self._db, self.path, self._id)
            if self.writable:
                with self._transaction():
                    queries.keep_counts(self._db, self._id, kept)
        return kept

    def gone(self) -> Counts:
        """Count by state the contacted rows that are no longer in the list."""
        return queries.gone(self._db, self.path, self._id)

    def results(self) -> Iterator[Result]:
        """Give every row with its state, in list order, then those no longer in the list."""
        return queries.results(self._db, self.path, self._id)

    def aggregates(self) -> Aggregates:
        """Give the campaign's history in figures."""
        from mailmerge.ledger.statistics import Aggregates

        return Aggregates(self._db, self.path, self._id)

    def in_doubt(self, limit: int | None = None) -> list[Result]:
        """Give the rows in doubt, those of the list first."""
        return queries.in_doubt(self._db, self.path, self._id, limit)

    def attempts(self, key: str) -> list[PastAttempt]:
        """Give all attempts at one row, oldest first."""
        return queries.attempts(self._db, self.path, self._id, key)

    def keys_at(self, rows: Iterable[int]) -> dict[int, str]:
        """Find the keys of rows by their numbers in the current list; duplicates have none."""
        return queries.keys_at(self._db, self.path, self._id, rows)

    # --- a person's decisions -------------------------------------------------------------------------

    def resolve(self, keys: Iterable[str] | None, *, as_accepted: bool) -> int:
        """Settle rows in doubt (None: all): they were accepted, or may be sent again.

        Returns:
            How many rows it concerned; keys that are not in doubt are left alone.

        """
        with self._transaction(moving=True):
            return decisions.resolve(self._db, self._id, keys, self._now(), as_accepted=as_accepted)

    def requeue(self, keys: Iterable[str] | None, *, accepted: bool = False) -> int:
        """Make rejected and expired rows (None: all) pending again; *accepted* means accepted ones instead.

        Returns:
            How many rows it concerned.

        """
        with self._transaction(moving=True):
            return decisions.requeue(self._db, self._id, keys, self._now(), accepted=accepted)

    def purge(self) -> None:
        """Remove personal data for good: addresses and replies go, keys become hashes nobody can undo.

        Counts remain; the campaign cannot be continued afterwards.
        """
        with schema.guarded(self.path):
            decisions.purge(self._db, self._id, self.secret, self._now())

    @contextlib.contextmanager
    def _transaction(self, *, moving: bool = False) -> Iterator[None]:
        """Commit or roll back; *moving*: rows may change their state."""
        with schema.guarded(self.path):
            self._db.execute("BEGIN IMMEDIATE")
            try:
                if moving:
                    self._db.execute("UPDATE campaign SET counts = '' WHERE id = ?", (self._id,))
                yield
                self._db.execute("COMMIT")
            except BaseException:
                if self._db.in_transaction:
                    self._db.execute("ROLLBACK")
                raise
