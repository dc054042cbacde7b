"""The ledger's file: its tables, how it is created, opened, checked and migrated, and why it is durable.

One thing must survive: *a row that may have been handed over is in the file before its last bytes can be
sent*. So a commit has to mean "on the disk":

- **WAL with synchronous=FULL**: a commit appends the changed pages to the log and flushes it once. (NORMAL
  would leave the flush to the next checkpoint: after a power cut, rows that were sent would be pending again,
  and be sent twice.) On macOS, where a flush stops at the drive's cache, ``fullfsync`` does not.
- **Network disks** do not have the reliable shared memory that WAL needs: there the rollback journal is used,
  which is slower but safe.
- **Ballast**: a megabyte reserved next to the file. A full disk stops the run at the next intent; what was
  accepted by then is recorded in the ballast's place (see `mailmerge.ledger.attempts`).
- **High-water mark**: ``campaign.handed_over`` only grows, and the user's registry remembers it. A file with
  fewer than the registry has is an old copy, and is refused (see `mailmerge.ledger.registry`).
- **Never replaced**: an empty, damaged or foreign file in the ledger's place is refused and not changed,
  because starting from scratch would mean writing to everybody again.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import LedgerError
from mailmerge.ledger.databases import damaged, explained, journal_is_empty, unreadable
from mailmerge.sqlite import Database

if TYPE_CHECKING:
    from collections.abc import Mapping

APPLICATION_ID = 0x6D6D6C64
VERSION = 8

# New in version 5. "mark" identifies a message in the mailbox, so that it counts once; "sort" is what a
# report means for its row (hard, soft, policy ..), "evidence" how the row was identified.
_BOUNCES = """
CREATE TABLE mail (
    campaign INTEGER NOT NULL,
    mark TEXT NOT NULL,
    kind TEXT NOT NULL,
    read REAL NOT NULL,
    UNIQUE (campaign, mark)
);
CREATE TABLE bounce (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    mark TEXT NOT NULL,
    key TEXT NOT NULL,
    attempt INTEGER NOT NULL,
    kind TEXT NOT NULL,
    sort TEXT NOT NULL,
    reason TEXT NOT NULL,
    evidence TEXT NOT NULL,
    read REAL NOT NULL,
    code INTEGER,
    enhanced TEXT NOT NULL,
    words TEXT NOT NULL
);
CREATE INDEX bounce_key ON bounce (campaign, key);
"""

# New in version 6: see `mailmerge.ledger.copies`. Without "made" the copy may or may not exist.
_COPIES = """
CREATE TABLE copy (
    attempt INTEGER PRIMARY KEY,
    made REAL
);
"""

SCHEMA = (
    """
-- "moved_to" names the ledger that it continues in: this one is read-only then.
-- "mailbox" is when mail was last read, "halted" why the campaign must not continue by itself.
-- "standing" is what the latest plan counted, as JSON: all rows by state, and the contacted ones of them.
-- "counts" is how many rows are in each state, kept when a run ends; whatever moves a row empties it.
-- "bookmark" tells, of one plan, how far the first rows are settled, so that resuming need not look at them.
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    secret BLOB NOT NULL,
    created REAL NOT NULL,
    handed_over INTEGER NOT NULL DEFAULT 0,
    purged REAL,
    standing TEXT NOT NULL DEFAULT '',
    bookmark TEXT NOT NULL DEFAULT '',
    counts TEXT NOT NULL DEFAULT '',
    mailbox REAL,
    halted TEXT NOT NULL DEFAULT '',
    moved_to TEXT NOT NULL DEFAULT ''
);
CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign,
    digest TEXT NOT NULL,
    parts TEXT NOT NULL,
    noted REAL NOT NULL,
    UNIQUE (campaign, digest)
);
-- "command" is how the run's command line named the campaign, as JSON: what continues it needs the same.
-- "plan" names the plan it worked on: rows have the numbers of the latest one.
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign,
    kind TEXT NOT NULL,
    started REAL NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    ended REAL,
    reason TEXT NOT NULL DEFAULT '',
    counts TEXT NOT NULL DEFAULT '{}',
    command TEXT NOT NULL DEFAULT '',
    plan TEXT NOT NULL DEFAULT ''
);
-- The state of each contacted row: narrow, because every plan walks through all of it, and in the order of
-- first contact, so that the states of one window share a page whatever their keys are.
-- "superseded_by" is the key of a corrected row: once that one was taken, this one is never sent again.
-- "bounce" is the latest report about it that counts.
CREATE TABLE delivery (
    campaign INTEGER NOT NULL,
    key TEXT NOT NULL,
    status TEXT NOT NULL,
    tries INTEGER NOT NULL,
    next_at REAL,
    first_at REAL,
    updated REAL NOT NULL,
    version INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    generation INTEGER NOT NULL DEFAULT 0,
    note TEXT NOT NULL DEFAULT '',
    superseded_by TEXT NOT NULL DEFAULT '',
    bounce INTEGER,
    UNIQUE (campaign, key)
);
CREATE INDEX delivery_deferred ON delivery (campaign, next_at) WHERE status = 'deferred';
-- What happened each time, newest first along "previous". "rows" are those of a message for several rows, see
-- `mailmerge.plan.groups.signature`; "row" is then the first of them.
CREATE TABLE attempt (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    previous INTEGER,
    run INTEGER,
    key TEXT NOT NULL,
    row INTEGER NOT NULL,
    address TEXT NOT NULL,
    number INTEGER NOT NULL,
    at REAL NOT NULL,
    message_id TEXT NOT NULL,
    date REAL NOT NULL,
    utc_offset INTEGER NOT NULL,
    recipients INTEGER NOT NULL,
    size INTEGER NOT NULL,
    digest TEXT NOT NULL,
    frozen TEXT NOT NULL,
    row_digest TEXT NOT NULL,
    version INTEGER NOT NULL,
    connection TEXT NOT NULL,
    status TEXT NOT NULL,
    settled REAL,
    scope TEXT NOT NULL DEFAULT '',
    phase TEXT NOT NULL DEFAULT '',
    reason TEXT NOT NULL DEFAULT '',
    code INTEGER,
    enhanced TEXT NOT NULL DEFAULT '',
    reply TEXT NOT NULL DEFAULT '',
    raw BLOB,
    rows TEXT NOT NULL DEFAULT ''
);
"""
    + _BOUNCES
    + _COPIES
)

MIGRATIONS: Mapping[int, str] = {
    4: f"""
ALTER TABLE campaign ADD COLUMN mailbox REAL;
ALTER TABLE campaign ADD COLUMN halted TEXT NOT NULL DEFAULT '';
ALTER TABLE delivery ADD COLUMN bounce INTEGER;
{_BOUNCES}
""",
    5: _COPIES,
    6: "ALTER TABLE attempt ADD COLUMN rows TEXT NOT NULL DEFAULT '';",
    7: "ALTER TABLE campaign ADD COLUMN moved_to TEXT NOT NULL DEFAULT '';",
}
"""Schema version -> SQL that upgrades it to the next one. From version 4 on all can be upgraded: a new
version adds its step here. Older ones were never released."""

_NETWORK = frozenset({"9p", "afs", "cifs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"})
_WHOLE_CHECK_UP_TO = 64 * 1024 * 1024


class LedgerFile(Database):
    """A ledger in one file, which one process at a time may write."""

    unsure = False
    """Whether the result of the last commit is unknown: never, for a file."""

    @property
    def known_as(self) -> str:
        """What identifies it elsewhere: the file's path."""
        return str(self.path.resolve())

    def next_numbers(self) -> tuple[int, int]:
        """Reserve numbers for attempts; return the first, and how many."""
        (last,) = self.row("SELECT coalesce(max(id), 0) FROM attempt")
        return int(last) + 1, sys.maxsize

    def take_ids(self, table: str, count: int) -> list[int]:
        """Reserve *count* numbers of another table; return the first."""
        (last,) = self.row(f"SELECT coalesce(max(id), 0) FROM {table}")  # noqa: S608  the name is ours
        return list(range(last + 1, last + 1 + count))

    def finish(self) -> None:
        """Close a writable ledger so that the one file contains everything; never raises."""
        with contextlib.suppress(LedgerError):  # a reader may be active: then the WAL stays, and is valid
            self.execute("PRAGMA busy_timeout = 200")
            self.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self.execute("PRAGMA journal_mode = DELETE")
        self.close()


def create(path: Path, *, schema: str = SCHEMA, version: int = VERSION, durable: bool = True) -> None:
    """Create an empty ledger: complete or not at all, readable by its owner only."""
    with (
        Database.filled(path, explained) if durable else Database.connect(path, explained, create=True) as db
    ):
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}"
        db.script(f"BEGIN; {schema}; {marks}; COMMIT")


def connect(path: Path, *, durable: bool = True) -> LedgerFile:
    """Open an existing ledger for writing, checked and ready: WAL and FULL if the file system supports them.

    Without *durable* nothing survives a crash: for temporary copies.

    Raises:
        LedgerError: damaged, not ours, too new, too old, or not writable.

    """
    refuse_empty(path)
    db = LedgerFile.connect(path, explained)
    try:
        _check(db)
        _tune(db, durable=durable)
        with db.transaction():  # a write that changes nothing finds a read-only file now, not in mid-run
            db.execute(f"PRAGMA user_version = {_version(db)}")
        migrate(db, MIGRATIONS, VERSION)
    except BaseException:
        db.close()
        raise
    return db


def connect_read_only(path: Path) -> LedgerFile:
    """Open an existing ledger without changing a byte of it, even while another process writes.

    If an older version wrote it, a copy in memory is upgraded and read.

    Raises:
        LedgerError: missing, damaged, not ours, or of a version that this one cannot read.

    """
    refuse_empty(path)
    if journal_is_empty(path):
        try:
            return _looking(path)
        except LedgerError:
            # WAL needs a file of shared memory beside the ledger even to read it, which a folder that is
            # not ours may refuse. With an empty log the one file is the whole truth.
            return _looking(path, immutable=True)
    return _looking(path)


def _looking(path: Path, *, immutable: bool = False) -> LedgerFile:
    db = LedgerFile.connect(path, explained, read_only=True, immutable=immutable)
    try:
        _check(db)
        if _version(db) < VERSION:
            db = _brought_up_to_date(db)
        db.execute("PRAGMA query_only = ON")
    except BaseException:
        db.close()
        raise
    return db


def _brought_up_to_date(db: Database) -> LedgerFile:
    """Copy a ledger of an older version into memory, upgraded to this one; the file is unchanged."""
    with db:
        copy = LedgerFile(files.database_in_memory(), db.path, explained)
        db.copy_to(copy)
    for version in range(_version(copy), VERSION):
        copy.script(f"BEGIN; {MIGRATIONS[version]}; PRAGMA user_version = {version + 1}; COMMIT")
    return copy


def is_older(path: Path) -> bool:
    """Return whether a ledger is of an older version, so that opening it for writing changes its tables.

    Raises:
        LedgerError: it cannot be read.

    """
    refuse_empty(path)
    with Database.connect(path, explained, read_only=True) as db:
        return _version(db) < VERSION


def migrate(db: Database, migrations: Mapping[int, str], target: int) -> Path | None:
    """Upgrade an older ledger to version *target*; a copy of the original is kept next to it.

    Args:
        db: the ledger, open for writing.
        migrations: a step for each version from its own on.
        target: a version of the schema.

    Returns:
        The copy, or None if there was nothing to do.

    Raises:
        LedgerError: the ledger is unchanged, or of a version in between.

    """
    version = _version(db)
    if version >= target:
        return None
    path = db.path
    kept = path.with_name(f"{path.name}.v{version}.bak")
    with Database.filled(kept, explained) as copy:
        db.copy_to(copy)
    while version < target:
        try:
            db.script(f"BEGIN; {migrations[version]}; PRAGMA user_version = {version + 1}; COMMIT")
        except LedgerError:
            if db.connection.in_transaction:
                db.execute("ROLLBACK")
            raise
        version += 1
    return kept


def sync_folder(path: Path) -> str | None:
    """Return the cloud-sync program whose folder *path* is in, as far as names show that."""
    names = {"dropbox", "onedrive", "google drive", "googledrive", "icloud drive", "nextcloud", "nutstore"}
    for part in path.resolve().parts:
        plain = part.lower()
        if plain in names or plain.startswith(("onedrive -", "dropbox (")):
            return part
    return "iCloud Drive" if "Mobile Documents" in path.parts else None


def _check(db: Database) -> None:
    (application,) = db.row("PRAGMA application_id")
    if application != APPLICATION_ID:
        raise damaged(db.path, "it is not a mailmerge ledger")
    version = _version(db)
    if version > VERSION:
        raise LedgerError(
            f"{db.path} was written by a newer mailmerge (schema {version}, this one supports {VERSION})",
            code="L704",
            hint="update mailmerge-kit",
        )
    if version < min(MIGRATIONS, default=VERSION):
        raise LedgerError(
            f"{db.path} was written by an older mailmerge (schema {version}), which this one cannot read",
            code="L704",
            hint="finish the campaign with the version that wrote it, or move this file away and start a "
            "new one with --name NEW, which writes to the whole list again",
        )
    # It may have come with somebody's folder, and a trigger in it could change what we record.
    (foreign,) = db.row(
        "SELECT count(*) FROM sqlite_master "
        "WHERE type NOT IN ('table', 'index') OR sql LIKE 'CREATE VIRTUAL%'"
    )
    if foreign:
        raise damaged(db.path, "it contains triggers, views or modules, which a genuine ledger does not have")
    (pages,), (size,) = db.row("PRAGMA page_count"), db.row("PRAGMA page_size")
    if pages * size <= _WHOLE_CHECK_UP_TO:
        (found,) = db.row("PRAGMA integrity_check(1)")
        if found != "ok":
            raise damaged(db.path, " ".join(str(found).split()))


def _tune(db: Database, *, durable: bool) -> None:
    db.execute("PRAGMA cache_size = -8192")
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    if not durable:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = MEMORY")
        return
    db.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        # On macOS a plain fsync leaves the data in the drive's cache.
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA checkpoint_fullfsync = ON")
    mode = "DELETE" if _on_network(db.path) else "WAL"
    with contextlib.suppress(sqlite3.OperationalError):  # without shared memory the old mode stays
        db.connection.execute(f"PRAGMA journal_mode = {mode}")


def _version(db: Database) -> int:
    return int(db.row("PRAGMA user_version")[0])


def refuse_empty(path: Path) -> None:
    """Refuse a missing or empty file: `create` never leaves one, so a ledger was lost.

    Raises:
        LedgerError: it is missing, empty or unreadable.

    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise LedgerError(
            f"no ledger was found at {path}", code="L705", hint="nothing was sent from here yet"
        ) from None
    except OSError as error:
        raise unreadable(path, error.strerror or str(error)) from error
    if size == 0:
        raise damaged(path, "the file is empty")
    if not os.access(path, os.R_OK):
        raise unreadable(path, "you may not read it")


def _on_network(path: Path) -> bool:
    """Return whether *path* is on a file system whose shared memory is not reliable (Linux only)."""
    try:
        mounts = Path("/proc/self/mounts").read_text("utf-8", "replace").splitlines()
    except OSError:
        return False
    here = path.resolve()
    best, kind = 0, ""
    for line in mounts:
        fields = line.split(" ")
        if len(fields) > 2:
            place = fields[1].replace("\\040", " ")
            if len(place) > best and here.is_relative_to(place):
                best, kind = len(place), fields[2]
    return kind in _NETWORK
