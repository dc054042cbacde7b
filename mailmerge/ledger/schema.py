"""The ledger's file: how it is made, opened, checked, migrated, and what its errors mean to a person."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import FileError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from contextlib import AbstractContextManager

APPLICATION_ID = 0x6D6D6C64
VERSION = 2

SCHEMA = """
-- "counts" holds how many rows are in each state, as JSON; whatever moves a row empties it.
CREATE TABLE campaign (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    secret BLOB NOT NULL,
    created REAL NOT NULL,
    handed_over INTEGER NOT NULL DEFAULT 0,
    preflight TEXT NOT NULL DEFAULT '',
    purged REAL,
    counts TEXT NOT NULL DEFAULT ''
);
CREATE TABLE version (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign,
    digest TEXT NOT NULL,
    parts TEXT NOT NULL,
    noted REAL NOT NULL,
    UNIQUE (campaign, digest)
);
CREATE TABLE run (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL REFERENCES campaign,
    kind TEXT NOT NULL,
    started REAL NOT NULL,
    pid INTEGER NOT NULL,
    version TEXT NOT NULL,
    ended REAL,
    reason TEXT NOT NULL DEFAULT '',
    counts TEXT NOT NULL DEFAULT '{}'
);
-- The list as the latest plan saw it. Exactly one row "holds" a key and with it the key's delivery.
CREATE TABLE listing (
    campaign INTEGER NOT NULL,
    row INTEGER NOT NULL,
    key TEXT NOT NULL,
    address TEXT NOT NULL,
    status TEXT NOT NULL,
    detail TEXT NOT NULL,
    recipients INTEGER NOT NULL,
    holds INTEGER NOT NULL,
    row_digest TEXT NOT NULL,
    PRIMARY KEY (campaign, row)
) WITHOUT ROWID;
CREATE UNIQUE INDEX listing_key ON listing (campaign, key) WHERE holds;
-- Filled while a listing is made whose rows are told apart by a key column: finds repeated addresses.
CREATE TABLE listing_address (
    address TEXT PRIMARY KEY,
    row INTEGER NOT NULL
) WITHOUT ROWID;
-- Where each contacted row stands: narrow, because every plan walks through all of it, and in the order of
-- first contact, so that the states of one window share a page whatever their keys are.
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
    note TEXT NOT NULL DEFAULT '',
    UNIQUE (campaign, key)
);
CREATE INDEX delivery_deferred ON delivery (campaign, next_at) WHERE status = 'deferred';
-- What happened each time, newest first along "previous".
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
    raw BLOB
);
"""

MIGRATIONS: Mapping[int, str] = {
    1: """
ALTER TABLE campaign ADD COLUMN counts TEXT NOT NULL DEFAULT '';
CREATE INDEX delivery_deferred ON delivery (campaign, next_at) WHERE status = 'deferred'
"""
}
"""Schema version -> SQL that makes the next version of it."""

_NETWORK = frozenset({"9p", "afs", "cifs", "fuse.sshfs", "ncpfs", "nfs", "nfs4", "smb3", "smbfs", "vboxsf"})
_WHOLE_CHECK_UP_TO = 64 * 1024 * 1024


def create(path: Path, *, schema: str = SCHEMA, version: int = VERSION, durable: bool = True) -> None:
    """Make an empty ledger: complete or not at all, readable by its owner only."""
    with guarded(path), _new(path, durable=durable) as db:
        db.execute(f"PRAGMA synchronous = {'FULL' if durable else 'OFF'}")
        marks = f"PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {version}"
        db.executescript(f"BEGIN; {schema}; {marks}; COMMIT")


def _new(path: Path, *, durable: bool) -> AbstractContextManager[sqlite3.Connection]:
    if durable:
        return files.create_database(path)
    return contextlib.closing(files.open_database(path, create=True))


def connect(path: Path, *, durable: bool = True) -> sqlite3.Connection:
    """Open an existing ledger for writing, checked and ready: WAL and FULL where the file system can.

    Without *durable* nothing is made to survive a crash: for throw-away copies.

    Raises:
        LedgerError: damaged, not ours, too new, or not writable.

    """
    refuse_empty(path)
    with guarded(path):
        db = files.open_database(path)
    try:
        with guarded(path):
            _check(db, path)
            _tune(db, path, durable=durable)
            # A write that changes nothing finds a read-only file now, not after the first message.
            db.execute("BEGIN IMMEDIATE")
            db.execute(f"PRAGMA user_version = {_version(db)}")
            db.execute("COMMIT")
            if _version(db) < VERSION:
                migrate(db, path)
    except BaseException:
        db.close()
        raise
    return db


def connect_read_only(path: Path) -> sqlite3.Connection:
    """Open an existing ledger without changing a byte of it, also while another process writes.

    Raises:
        LedgerError: missing, damaged, not ours, or of another version.

    """
    refuse_empty(path)
    ways = (False, True) if _journal_is_empty(path) else (False,)
    for number, immutable in enumerate(ways, 1):
        with guarded(path):
            db = files.open_database(path, read_only=True, immutable=immutable)
        try:
            with guarded(path):
                _check(db, path)
                _refuse_older(db, path)
                db.execute("PRAGMA query_only = ON")
            return db
        except LedgerError:
            db.close()
            if number == len(ways):
                raise
    raise RuntimeError("unreachable")


def close(db: sqlite3.Connection) -> None:
    """Close a writable ledger so that the one file holds everything."""
    with contextlib.suppress(sqlite3.Error):  # a reader may still be looking: then the WAL stays, valid
        db.execute("PRAGMA busy_timeout = 200")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()


def migrate(
    db: sqlite3.Connection,
    path: Path,
    migrations: Mapping[int, str] = MIGRATIONS,
    target: int = VERSION,
) -> Path | None:
    """Bring an older ledger to *target*; a copy of it as it was is kept beside it.

    Returns:
        The copy, or None if there was nothing to do.

    """
    version = _version(db)
    if version >= target:
        return None
    copy = path.with_name(f"{path.name}.v{version}.bak")
    with files.create_database(copy) as backup:
        db.backup(backup)
    while version < target:
        if version not in migrations:
            raise LedgerError(f"{path} has schema version {version}, which nothing can read", code="L701")
        try:
            db.executescript(f"BEGIN; {migrations[version]}; PRAGMA user_version = {version + 1}; COMMIT")
        except sqlite3.Error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
        version += 1
    return copy


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what SQLite and the file system raise into a `LedgerError` that says what a person can do."""
    try:
        yield
    except FileError as error:
        raise unusable(error) from error
    except (sqlite3.Error, UnicodeDecodeError) as error:
        raise explained(path, error) from error


def is_full(error: BaseException | None) -> bool:
    """Tell whether SQLite failed for want of space, or for a write error that looks like it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.Error) and code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def explained(path: Path, error: Exception) -> LedgerError:
    """Say in the user's terms what a database error means."""
    code = getattr(error, "sqlite_errorcode", sqlite3.SQLITE_CORRUPT) & 0xFF
    if code == sqlite3.SQLITE_FULL:
        return LedgerError(
            f"cannot record progress in {path}: the disk is full",
            code="L703",
            hint="free some space, then run the same command again; nothing recorded is lost",
        )
    if code == sqlite3.SQLITE_READONLY:
        return LedgerError(
            f"cannot write {path}: it, or its folder, is read-only",
            code="L702",
            hint="progress must be recorded before anything is sent; make the folder writable",
        )
    if code == sqlite3.SQLITE_CANTOPEN:
        return _unusable(path, "it cannot be opened")
    if code in {sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED}:
        return LedgerError(
            f"{path} is locked by another program",
            code="L706",
            hint="close what has it open (a database browser, a sync or backup program), then run again",
        )
    if code == sqlite3.SQLITE_IOERR:
        return LedgerError(
            f"cannot read or write {path}: {error}",
            code="L708",
            hint="the disk or network drive reports errors; nothing more was sent",
        )
    return damaged(path, str(error))


def damaged(path: Path, detail: str) -> LedgerError:
    """Make the error for a ledger that cannot be trusted."""
    return LedgerError(
        f"the ledger is damaged: {path} ({detail})",
        code="L701",
        hint="restore it from a backup; without it nobody can tell who was written to, so nothing is sent",
    )


def sync_folder(path: Path) -> str | None:
    """Name the cloud-sync program whose folder *path* lies in, if its name gives it away."""
    names = {"dropbox", "onedrive", "google drive", "googledrive", "icloud drive", "nextcloud", "nutstore"}
    for part in path.resolve().parts:
        plain = part.lower()
        if plain in names or plain.startswith(("onedrive -", "dropbox (")):
            return part
    return "iCloud Drive" if "Mobile Documents" in path.parts else None


def _check(db: sqlite3.Connection, path: Path) -> None:
    application = int(db.execute("PRAGMA application_id").fetchone()[0])
    if application != APPLICATION_ID:
        raise damaged(path, "it is not a mailmerge ledger")
    version = _version(db)
    if version > VERSION:
        raise LedgerError(
            f"{path} was written by a newer mailmerge (schema {version}, this one knows {VERSION})",
            code="L704",
            hint="update mailmerge-kit",
        )
    pages, size = (int(db.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "page_size"))
    if pages * size <= _WHOLE_CHECK_UP_TO:
        verdict = str(db.execute("PRAGMA integrity_check(1)").fetchone()[0])
        if verdict != "ok":
            raise damaged(path, " ".join(verdict.split()))


def _refuse_older(db: sqlite3.Connection, path: Path) -> None:
    if _version(db) < VERSION:
        raise LedgerError(
            f"{path} was written by an older mailmerge",
            code="L704",
            hint="`mailmerge send` brings it up to date, keeping a copy",
        )


def _tune(db: sqlite3.Connection, path: Path, *, durable: bool) -> None:
    db.execute("PRAGMA cache_size = -8192")
    db.execute("PRAGMA wal_autocheckpoint = 4000")
    if not durable:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("PRAGMA journal_mode = MEMORY")
        return
    db.execute("PRAGMA synchronous = FULL")
    if sys.platform == "darwin":
        # There a plain fsync leaves the data in the drive's cache.
        db.execute("PRAGMA fullfsync = ON")
        db.execute("PRAGMA checkpoint_fullfsync = ON")
    mode = "DELETE" if _on_network(path) else "WAL"
    with contextlib.suppress(sqlite3.OperationalError):  # no shared memory here: the old mode stays
        db.execute(f"PRAGMA journal_mode = {mode}")


def _version(db: sqlite3.Connection) -> int:
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def refuse_empty(path: Path) -> None:
    """Refuse a missing or empty file: `create` never leaves one, so a ledger was lost.

    Raises:
        LedgerError: it is missing, empty or unreadable.

    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise LedgerError(
            f"there is no ledger at {path}", code="L705", hint="nothing was sent from here yet"
        ) from None
    except OSError as error:
        raise _unusable(path, error.strerror or str(error)) from error
    if size == 0:
        raise damaged(path, "the file is empty")
    if not os.access(path, os.R_OK):
        raise _unusable(path, "you may not read it")


def _journal_is_empty(path: Path) -> bool:
    try:
        return path.with_name(path.name + "-wal").stat().st_size == 0
    except OSError:
        return not path.with_name(path.name + "-journal").exists()


def unusable(error: FileError) -> LedgerError:
    """Make the error for a file or folder of a campaign that is not what it should be, or cannot be used."""
    return _unusable(error.filename, error.strerror or str(error), error.hint)


def _unusable(path: Path | str, why: str, hint: str | None = None) -> LedgerError:
    return LedgerError(
        f"cannot use {path}: {why}",
        code="L702",
        hint=hint
        or "progress must be recorded before anything is sent; check the folder and its permissions",
    )


def _on_network(path: Path) -> bool:
    """Tell whether *path* lies on a file system whose shared memory cannot be trusted (Linux only)."""
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
