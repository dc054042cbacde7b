"""The campaign's record: an intent before the hand-over, an outcome after, one SQLite file, one writer.

A row is ``handing_over`` on disk before its last bytes can be sent, so whatever ends the process, the file
has every row that may have been handed over. Nothing here retries, sleeps or decides: the sender does.

Reading a ledger is in `mailmerge.ledger.reader`, the path from intent to outcome in
`mailmerge.ledger.attempts`; here is who may write (one process, which has the campaign's lock), and what
changes rows outside of a run: repair, and what a person decides.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import hashlib
import hmac
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import LedgerError
from mailmerge.ledger import schema
from mailmerge.ledger.attempts import AttemptWriter
from mailmerge.ledger.databases import explained
from mailmerge.ledger.reader import LedgerReader, now_utc
from mailmerge.sqlite import Database

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from datetime import datetime

    from mailmerge.ledger.databases import LedgerDatabase
    from mailmerge.ledger.lease import Lease
    from mailmerge.model import Counts
    from mailmerge.postgres import PostgresDatabase

_UNTIL = " (until "
_ROW = 600
"""Octets of a row that was contacted once: 530 were measured, with addresses and replies of usual length."""
_LOG_ROW, _LOG = 1000, 16 << 20
"""Octets that a row adds to the write-ahead log, and the log's largest size."""
_TO_REPAIR = """
SELECT key, attempt, status = 'handing_over'{} FROM delivery
WHERE +campaign = ? AND (status = 'handing_over' OR superseded_by <> '')
"""
# What a fleet is handing over is left to the leases of its slots.
_OF_NO_FLEET = """ AND NOT EXISTS (SELECT 1 FROM attempt a JOIN slot s ON s.epoch = a.epoch
    WHERE a.id = delivery.attempt AND s.ended IS NULL AND s.lost IS NULL)"""
_DOUBT_ATTEMPTS = """
UPDATE attempt SET status = 'in_doubt', settled = ?1, phase = 'content', reason = 'stopped'
WHERE id IN (SELECT CAST(value AS BIGINT) FROM json_each(?2))
"""
_DOUBT = """
UPDATE delivery SET status = 'in_doubt', updated = ?2
WHERE campaign = ?1 AND key IN (SELECT value FROM json_each(?3)) AND status = 'handing_over'
"""
# A row that an earlier correction superseded is superseded by this one.
_CORRECTED = """
UPDATE delivery SET superseded_by = ?3 WHERE +campaign = ?1 AND (key = ?2 OR superseded_by = ?2)
    AND key <> ?3 AND status IN ('pending', 'deferred', 'rejected', 'expired', 'bounced')
"""
# A row that was written to before another was corrected to it is somebody else.
_SOMEBODY_ELSE = """
SELECT 1 FROM delivery d WHERE d.campaign = ?1 AND d.key = ?2
    AND d.status IN ('accepted', 'bounced', 'drafted', 'in_doubt', 'handing_over')
    AND NOT EXISTS (SELECT 1 FROM delivery o WHERE +o.campaign = ?1 AND o.superseded_by = ?2)
"""
_SUPERSEDED = """
UPDATE delivery SET status = 'duplicate', next_at = NULL, note = 'superseded by ' || superseded_by
WHERE +campaign = ?1 AND superseded_by <> ''
    AND status IN ('pending', 'deferred', 'rejected', 'expired', 'bounced')
    AND EXISTS (SELECT 1 FROM delivery s WHERE s.campaign = ?1 AND s.key = delivery.superseded_by
        AND s.status IN ('accepted', 'bounced', 'drafted', 'in_doubt'))
"""
_ALL_KEYS = """
SELECT key FROM delivery WHERE campaign = ?1 UNION SELECT superseded_by FROM delivery WHERE campaign = ?1
UNION SELECT key FROM attempt WHERE campaign = ?1 UNION SELECT key FROM bounce WHERE campaign = ?1
"""
_HASHED = "(SELECT hash FROM hashed WHERE hashed.key = {})"
_PURGE_DELIVERIES = f"""
UPDATE delivery SET key = {_HASHED.format("delivery.key")}, note = '',
    superseded_by = CASE superseded_by WHEN '' THEN '' ELSE {_HASHED.format("superseded_by")} END
WHERE campaign = ?
"""
_PURGE_BOUNCES = f"UPDATE bounce SET key = {_HASHED.format('bounce.key')}, words = '' WHERE campaign = ?"
_WITHOUT_ANSWER = """
SELECT d.key, a.message_id FROM delivery d JOIN attempt a ON a.id = d.attempt
WHERE +d.campaign = ? AND d.status = 'in_doubt' AND a.connection = ?
"""
_FORGET_COUNTS = "UPDATE campaign SET counts = '' WHERE id = ?"
_PURGE_CAMPAIGN = """
UPDATE campaign SET secret = ?, purged = ?, standing = '', bookmark = '', counts = '' WHERE id = ?
"""
_PURGE_ATTEMPTS = f"""
UPDATE attempt SET key = {_HASHED.format("attempt.key")}, address = '', reply = '', raw = NULL,
    message_id = '', digest = '', frozen = '', row_digest = '', rows = '' WHERE campaign = ?
"""
_AGAIN = "status = 'pending', tries = 0, first_at = NULL, next_at = NULL, bounce = NULL"
# A server that rejected the message, or already has it, must not mistake the new one for the old one.
_ANEW = f"{_AGAIN}, generation = generation + 1"


class Ledger(LedgerReader):
    """One campaign's part of a ledger file, to write; get one from `open` or `scratch`.

    Args:
        db: the file, open for writing; it is closed with this.
        campaign: which of the file's campaigns; created if it is new and *create* is true.
        create: whether a new campaign may be created.
        now: the clock.
        ballast: the file that keeps some space free; None: there is none.
        throwaway: the folder that `close` removes; None: the ledger is kept.
        lease: what ensures that only this process hands rows over; None: a lock of the system does.

    Raises:
        LedgerError: the campaign is not there, or was purged.

    """

    def __init__(
        self,
        db: LedgerDatabase,
        campaign: str,
        *,
        create: bool,
        now: Callable[[], datetime],
        ballast: Path | None = None,
        throwaway: files.ScratchFolder | None = None,
        lease: Lease | None = None,
    ) -> None:
        self.new = False
        """Whether the campaign was not in it before it was opened."""
        if create:
            made = db.execute(
                "INSERT INTO campaign (name, secret, created) VALUES (?, ?, ?) ON CONFLICT DO NOTHING",
                (campaign, os.urandom(32), now().timestamp()),
            )
            self.new = made.rowcount > 0
        super().__init__(db, campaign, now=now)
        if self.purged:
            raise LedgerError(
                f'the personal data of campaign "{campaign}" was purged; it can only be viewed',
                code="L709",
                hint="start a new one with --name NEW",
            )
        if lease is not None:
            lease.db = db
        self.attempts = AttemptWriter(db, self._id, now=now, ballast=ballast, lease=lease)
        """Records intents and outcomes while messages are sent."""
        self._folder = throwaway
        self.throwaway = throwaway is not None

    @staticmethod
    def growth(rows: int) -> int:
        """Return by how many octets the ledger, with its log, grows when *rows* rows are contacted once."""
        return rows * _ROW + min(rows * _LOG_ROW, _LOG)

    # --- opening and closing --------------------------------------------------------------------------

    @classmethod
    def open(
        cls,
        path: Path,
        campaign: str,
        *,
        create: bool = True,
        now: Callable[[], datetime] = now_utc,
        beside: bool = False,
    ) -> Ledger:
        """Open the ledger for writing, creating file and campaign if they are new; acquire the lock first.

        *beside*: only reports from the mailbox are written, which needs no lock: a run may be in progress,
        whose reserved disk space is not touched.

        Raises:
            LedgerError: missing (without *create*), damaged, too new, purged or not writable.

        """
        if create and not path.exists():
            schema.create(path)
        db = schema.connect(path)
        try:
            ledger = cls(db, campaign, create=create, now=now, ballast=path.with_name("ballast"))
            if not beside:
                ledger.attempts.fill_ballast()
        except BaseException:
            db.finish()
            raise
        return ledger

    @classmethod
    def scratch(
        cls,
        source: Path | LedgerDatabase | None,
        campaign: str,
        *,
        now: Callable[[], datetime] = now_utc,
    ) -> Ledger:
        """Return a temporary copy of *source*, or an empty ledger, for dry runs and rehearsals.

        It is in a private temporary folder that `close` removes; nothing in it is made durable.

        Raises:
            LedgerError: *source* exists but cannot be read.

        """
        folder = files.ScratchFolder()
        try:
            path = folder.path / "ledger.db"
            schema.create(path, durable=False)
            if isinstance(source, Path):
                if source.exists():
                    with (
                        schema.connect_read_only(source) as original,
                        Database.connect(path, explained) as copy,
                    ):
                        original.copy_to(copy)
            elif source is not None:
                from mailmerge.ledger.moving import copy_campaign

                with schema.connect(path, durable=False) as copy:
                    copy_campaign(source, copy, campaign)
            db = schema.connect(path, durable=False)
            try:
                return cls(db, campaign, create=True, now=now, throwaway=folder)
            except BaseException:
                db.close()
                raise
        except BaseException:
            folder.close()
            raise

    def close(self) -> None:
        """Close it, after emptying the log of a file; never raises."""
        if self._folder is None:
            self._db.finish()
        else:
            self._db.close()
            self._folder.close()

    def go_on_with(self, db: PostgresDatabase) -> None:
        """Use this connection to the server instead of one that was lost."""
        if self.server is not None:
            self.server.go_on_with(db)

    def copy_to(self, path: Path) -> None:
        """Write a copy of the whole ledger to *path*, even if its own file was deleted or replaced.

        Raises:
            LedgerError: that is not possible.

        """
        if isinstance(self._db, Database):
            with Database.filled(path, explained) as copy:
                self._db.copy_to(copy)
        else:
            from mailmerge.ledger.moving import copy_campaign

            schema.create(path)
            with schema.connect(path) as own:
                copy_campaign(self._db, own, self.campaign)

    # --- runs and versions ----------------------------------------------------------------------------

    def start_run(self, kind: str, version: str = "", command: str = "", plan: str = "") -> int:
        """Record that this process begins to work; attempts from now on carry the run's number.

        *command* is how a command line names the same campaign again, see `mailmerge.suggest`; *plan* names
        the plan with the rows.
        """
        cells = (self._id, kind, self._now().timestamp(), os.getpid(), version, command, plan)
        with self._db.transaction():
            (number,) = self._db.row(
                "INSERT INTO run (campaign, kind, started, pid, version, command, plan) "
                "VALUES (?, ?, ?, ?, ?, ?, ?) RETURNING id",
                cells,
            )
        self.attempts.run = int(number)
        return int(number)

    def finish_run(self, reason: str, counts: Mapping[str, int]) -> None:
        """Record how the run ended."""
        cells = (self._now().timestamp(), reason, json.dumps(dict(counts)), self.attempts.run)
        with self._db.transaction():
            self._db.execute("UPDATE run SET ended = ?, reason = ?, counts = ? WHERE id = ?", cells)
            self._db.execute(_SUPERSEDED, (self._id,))
            self._db.execute(_FORGET_COUNTS, (self._id,))
            kept = json.dumps(_by_name(self.counts()))
            self._db.execute("UPDATE campaign SET counts = ? WHERE id = ?", (kept, self._id))

    def note_version(self, digest: str, parts: Mapping[str, str]) -> None:
        """Record a campaign version: the digest of all of it, and of each part by name."""
        if digest in self.attempts.versions:
            return
        cells = (self._id, digest, json.dumps(dict(parts)), self._now().timestamp())
        with self._db.transaction():
            (number,) = self._db.row(
                "INSERT INTO version (campaign, digest, parts, noted) VALUES (?, ?, ?, ?) RETURNING id", cells
            )
        self.attempts.versions[digest] = int(number)

    def note_standing(self, counts: Counts) -> None:
        """Record how many rows are in each state now, including those never contacted, as in the plan."""
        text = json.dumps([_by_name(counts), _by_name(self.states())])
        with self._db.transaction():
            statement = "UPDATE campaign SET standing = ?, bookmark = '', counts = '' WHERE id = ?"
            self._db.execute(statement, (text, self._id))

    def note_bookmark(self, mark: str, own: Counts, settled: int = -1) -> None:
        """Record which part of the plan *mark* need not be read again, until a row changes."""
        text = json.dumps([mark, _by_name(own), settled])
        with self._db.transaction():
            self._db.execute("UPDATE campaign SET bookmark = ? WHERE id = ?", (text, self._id))

    def refuse_while_fleet(self) -> None:
        """Refuse to send a campaign that a fleet is sending.

        Raises:
            InUseError: a fleet is sending it, or has paused.

        """
        if self.server is not None:
            from mailmerge.ledger.work import refuse_while_fleet

            refuse_while_fleet(self.server, self._id)

    # --- rows that change outside of a run ------------------------------------------------------------

    def repair(self) -> int:
        """Mark what was being handed over when an earlier run died as in doubt.

        Returns:
            The number of rows. Nothing else is ever repaired.

        """
        repaired, which = 0, ""
        if self.server is not None:
            from mailmerge.ledger.work import recover

            repaired, which = recover(self.server).doubts, _OF_NO_FLEET
        now = self._now().timestamp()
        with self._db.transaction():
            found = self._db.rows(_TO_REPAIR.format(which), (self._id,))
            held = [row for row in found if row[2]]
            keys, attempts = (json.dumps([row[place] for row in held]) for place in (0, 1))
            self._db.execute(_DOUBT_ATTEMPTS, (now, attempts))
            repaired += int(self._db.execute(_DOUBT, (self._id, now, keys)).rowcount)
            superseded = found != held and self._db.execute(_SUPERSEDED, (self._id,)).rowcount
            if superseded or repaired:
                self._db.execute(_FORGET_COUNTS, (self._id,))
            return repaired

    def resolve(self, keys: Iterable[str] | None, *, as_accepted: bool) -> int:
        """Settle rows in doubt (None: all): they were accepted, or may be sent again, byte for byte.

        Returns:
            The number of rows; keys that are not in doubt are ignored.

        Raises:
            InUseError: a fleet's worker may still receive the reply for rows that would be sent again.

        """
        keys = None if keys is None else list(keys)
        if self.server is not None and not as_accepted:
            from mailmerge.ledger.work import refuse_while_answerable

            refuse_while_answerable(self.server, self._id, keys)
        accepted, again = (
            "status = 'accepted', note = 'resolved as accepted'",
            f"{_AGAIN}, note = 'to be sent again'",
        )
        return self._move(keys, accepted if as_accepted else again, "status = 'in_doubt'")

    def without_answer(self, connection: str) -> list[tuple[str, str]]:
        """Return key and Message-ID of the rows in doubt that were handed over on this *connection*."""
        return self._db.rows(_WITHOUT_ANSWER, (self._id, connection))

    def found_drafts(self, keys: Iterable[str]) -> int:
        """Settle rows in doubt whose messages are in the Drafts folder; return how many."""
        return self._move(keys, "status = 'drafted', note = 'found in Drafts'", "status = 'in_doubt'")

    def requeue(self, keys: Iterable[str] | None, *, accepted: bool = False) -> int:
        """Make rejected, expired and bounced rows (None: all) pending: a new message, their tries forgotten.

        Args:
            keys: which rows; those in another state are ignored.
            accepted: accepted rows instead.

        Returns:
            The number of rows.

        """
        self.bounces.go_on()
        which = (
            "status IN ('accepted', 'drafted')"
            if accepted
            else "status IN ('rejected', 'expired', 'bounced')"
        )
        return self._move(keys, f"{_ANEW}, note = 'requeued'", which)

    def _move(self, keys: Iterable[str] | None, change: str, which: str) -> int:
        statement = f"UPDATE delivery SET {change}, updated = ? WHERE {which} AND "
        cells = (self._now().timestamp(), self._id)
        with self._db.transaction():
            self._db.execute("UPDATE campaign SET bookmark = '', counts = '' WHERE id = ?", (self._id,))
            if keys is None:
                return int(self._db.execute(f"{statement} +campaign = ?", cells).rowcount)
            # dict.fromkeys: a key given twice is one row.
            named = [(*cells, key) for key in dict.fromkeys(keys)]
            return int(self._db.executemany(f"{statement} campaign = ? AND key = ?", named).rowcount)

    def correct(self, corrections: Mapping[str, str]) -> None:
        """Record which rows were corrected, old key to new: the old one is done once the new one is accepted.

        A run that ends, and `repair`, make them duplicates; before that they stay as they are.
        """
        with self._db.transaction():
            for old, new in corrections.items():
                if self._db.row(_SOMEBODY_ELSE, (self._id, new)) is None:
                    self._db.execute(_CORRECTED, (self._id, old, new))
            self._db.execute(_SUPERSEDED, (self._id,))
            self._db.execute(_FORGET_COUNTS, (self._id,))

    def superseded(self, keys: Iterable[str]) -> dict[str, str]:
        """Return which of these rows are not sent again, with the key of the corrected one that was."""
        query = "SELECT superseded_by FROM delivery WHERE campaign = ? AND key = ? AND status = 'duplicate'"
        found = ((key, self._db.row(query, (self._id, key))) for key in keys)
        return {key: row[0] for key, row in found if row is not None}

    def reopen(self, keys: Iterable[str]) -> int:
        """Make rejected and bounced rows with a corrected address pending again; return how many."""
        return self._move(keys, f"{_ANEW}, note = 'address corrected'", "status IN ('rejected', 'bounced')")

    def set_aside(self, *, copied: bool) -> str:
        """Free the campaign's name for a new one; return the name under which this one is kept.

        *copied*: it continues elsewhere, so what is kept here is another campaign.
        """
        kept = f"{self.campaign}{_UNTIL}{self._now().astimezone():%Y-%m-%d %H:%M:%S})"
        secret = os.urandom(32) if copied else self.secret
        with self._db.transaction():
            cells = (kept, secret, self._id)
            self._db.execute("UPDATE campaign SET name = ?, secret = ? WHERE id = ?", cells)
        return kept

    def seal(self, moved_to: str) -> None:
        """Record durably that the campaign continues in another ledger; empty: in this one after all."""
        with self._db.transaction():
            self._db.execute("UPDATE campaign SET moved_to = ? WHERE id = ?", (moved_to, self._id))

    def transfer_to(self, target: LedgerDatabase) -> None:
        """Write the campaign into another ledger, verified.

        Raises:
            LedgerError: the copy does not match; nothing was written.

        """
        from mailmerge.ledger.moving import copy_campaign

        copy_campaign(self._db, target, self.campaign)

    def set_aside_names(self) -> list[str]:
        """Return the names under which earlier campaigns of this name are kept, unless they were purged."""
        names = self._db.rows("SELECT name FROM campaign WHERE purged IS NULL")
        return [str(name) for (name,) in names if str(name).startswith(f"{self.campaign}{_UNTIL}")]

    def purge(self) -> None:
        """Remove personal data permanently: addresses and replies go, keys become irreversible hashes.

        Counts remain; the campaign cannot be continued afterwards.
        """
        db = self._db

        def hashed(key: str) -> str:
            digest = hmac.new(self.secret, key.encode("utf-8", "replace"), hashlib.sha256)
            return f"purged:{digest.hexdigest()[:32]}"

        db.overwrite_removed()
        with db.transaction():
            db.execute("CREATE TEMPORARY TABLE hashed (key TEXT PRIMARY KEY, hash TEXT NOT NULL)")
            keys = (key for (key,) in db.stream(_ALL_KEYS, (self._id,)))
            db.executemany("INSERT INTO hashed VALUES (?, ?)", ((key, hashed(key)) for key in keys))
            db.execute(_PURGE_ATTEMPTS, (self._id,))
            db.execute(_PURGE_DELIVERIES, (self._id,))
            db.execute(_PURGE_BOUNCES, (self._id,))
            db.execute("UPDATE run SET command = '' WHERE campaign = ?", (self._id,))
            # The secret goes too, so that guessed keys cannot be hashed and compared.
            db.execute(_PURGE_CAMPAIGN, (bytes(32), self._now().timestamp(), self._id))
            db.execute("DROP TABLE hashed")
        db.reclaim()


def _by_name(counts: Counts) -> dict[str, int]:
    return {str(status): counts[status] for status in counts}
