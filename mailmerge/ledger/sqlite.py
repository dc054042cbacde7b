"""Small databases in the user's state folder: what may be deleted, at the price of some memory."""

from __future__ import annotations

import contextlib
import sqlite3
from typing import TYPE_CHECKING, Self

from mailmerge import files
from mailmerge.errors import FileError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


class StateDatabase:
    """One of them, open for writing; use it as a context manager.

    Raises:
        LedgerError: the folder cannot be written, or the file is damaged.

    """

    def __init__(self, path: Path, schema: str) -> None:
        self._path = path
        self._db = _connect(path, schema)

    def close(self) -> None:
        """Close it; never raises."""
        with contextlib.suppress(sqlite3.Error):
            self._db.execute("PRAGMA busy_timeout = 100")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _connect(path: Path, schema: str) -> sqlite3.Connection:
    with guarded(path):
        db = files.open_database(path, create=True)
        try:
            # NORMAL: a power cut may forget a moment's usage, never damage the file.
            db.execute("PRAGMA synchronous = NORMAL")
            with contextlib.suppress(sqlite3.OperationalError):
                db.execute("PRAGMA journal_mode = WAL")
            db.executescript(schema)
        except BaseException:
            db.close()
            raise
    return db


@contextlib.contextmanager
def guarded(path: Path) -> Iterator[None]:
    """Turn what SQLite raises into a `LedgerError` that says what a person can do."""
    try:
        yield
    except FileError as error:
        raise LedgerError(
            f"cannot use {error.filename}: {error.strerror}",
            code="L710",
            hint=error.hint
            or "what an account has sent must be remembered; check the folder and its permissions",
        ) from error
    except sqlite3.Error as error:
        raise LedgerError(
            f"cannot use {path}: {error}",
            code="L710",
            hint="if the disk is fine, move this file away: only the memory of recent quotas is lost with it",
        ) from error


@contextlib.contextmanager
def transaction(db: sqlite3.Connection, path: Path) -> Iterator[None]:
    """Hold the write lock of the database for a moment, against other processes too."""
    with guarded(path):
        db.execute("BEGIN IMMEDIATE")
        try:
            yield
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise
