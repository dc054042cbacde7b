"""The one way to SQLite: how a file is opened, how a transaction ends, and what an error means to a person.

Three kinds of database use it: a campaign's ledger, and two small ones in the user's state folder (account
usage, registry of campaigns). They differ in what losing them costs, so each brings its own explanation.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from mailmerge import files
from mailmerge.errors import FileError, LedgerError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    Explain = Callable[[Path, Exception], LedgerError]

_PAGE = 500
"""Rows read in one go by `Database.stream`."""


class _Guard:
    """Turns what SQLite raises inside it into the error that a person reads."""

    def __init__(self, path: Path, explain: Explain) -> None:
        self._path = path
        self._explain = explain

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        # UnicodeDecodeError: damage in the middle of a text.
        if isinstance(error, FileError | sqlite3.Error | UnicodeDecodeError):
            raise self._explain(self._path, error) from error


class Database:
    """One open file; use it as a context manager.

    Every statement goes through here, so whatever SQLite raises comes out as a `LedgerError` in the user's
    terms, the original as its cause. A transaction is begun where it says so and nowhere else.

    Args:
        connection: open in autocommit mode.
        path: the file, for messages.
        explain: makes the error that a person reads of what SQLite raised.

    """

    def __init__(self, connection: sqlite3.Connection, path: Path, explain: Explain) -> None:
        self.connection = connection
        self.path = path
        self._explain = explain
        self._guard = _Guard(path, explain)

    @classmethod
    def connect(
        cls,
        path: Path,
        *,
        create: bool = False,
        read_only: bool = False,
        immutable: bool = False,
        explain: Explain | None = None,
    ) -> Self:
        """Open a file; the options are those of `mailmerge.files.open_database`.

        Args:
            path: the file.
            create: make an empty one, private to its owner, if there is none.
            read_only: change nothing in it.
            immutable: nobody changes it meanwhile, so that nothing is written beside it either.
            explain: see the class; default: the words for a ledger.

        Raises:
            LedgerError: it cannot be opened.

        """
        explain = explain or explained
        with _Guard(path, explain):
            connection = files.open_database(path, create=create, read_only=read_only, immutable=immutable)
        return cls(connection, path, explain)

    @classmethod
    @contextlib.contextmanager
    def filled(cls, path: Path) -> Iterator[Self]:
        """Fill a new database that takes *path*'s place, durably, when the context ends well.

        Raises:
            LedgerError: there is none; what was at *path* is still there.

        """
        with _Guard(path, explained), files.create_database(path) as connection:
            yield cls(connection, path, explained)

    def close(self) -> None:
        """Close the file as it is."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def explained(self, error: sqlite3.Error) -> LedgerError:
        """Make the error to raise, where *connection* itself was used."""
        return self._explain(self.path, error)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done inside, or nothing of it.

        IMMEDIATE takes the write lock at the start, against other processes too: a transaction that reads
        first and then finds that it cannot write would have to be begun again.

        Raises:
            LedgerError: nothing was changed.

        """
        self.execute("BEGIN IMMEDIATE")
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            # After some errors (a full disk, for one) SQLite has rolled back by itself.
            if self.connection.in_transaction:
                self.execute("ROLLBACK")
            raise

    def execute(self, statement: str, cells: Sequence[object] = ()) -> sqlite3.Cursor:
        """Run one statement."""
        with self._guard:
            return self.connection.execute(statement, cells)

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> sqlite3.Cursor:
        """Run one statement for each of *rows*."""
        with self._guard:
            return self.connection.executemany(statement, rows)

    def script(self, statements: str) -> None:
        """Run several statements; a script that does not begin a transaction itself is not one."""
        with self._guard:
            self.connection.executescript(statements)

    def row(self, query: str, cells: Sequence[object] = ()) -> Any:
        """Return the first row as a tuple, or None: there is none."""
        with self._guard:
            return self.connection.execute(query, cells).fetchone()

    def rows(self, query: str, cells: Sequence[object] = ()) -> list[Any]:
        """Return all rows, each a tuple."""
        with self._guard:
            return self.connection.execute(query, cells).fetchall()

    def stream(self, query: str, cells: Sequence[object] = ()) -> Iterator[Any]:
        """Yield all rows, however many there are, with no more than a page of them in memory."""
        cursor = self.execute(query, cells)
        while True:
            with self._guard:
                page = cursor.fetchmany(_PAGE)
            if not page:
                return
            yield from page

    def copy_to(self, target: Database) -> None:
        """Make *target* a copy of this database, whoever else has this one open."""
        with self._guard:
            self.connection.backup(target.connection)


# --- times: the tables hold seconds since 1970, UTC -------------------------------------------------------


def stamp(value: datetime | None) -> float | None:
    """Turn a time into what the tables hold."""
    return None if value is None else value.timestamp()


@lru_cache(maxsize=512)  # the rows of one window share theirs
def moment(value: float | None) -> datetime | None:
    """Turn what the tables hold back into a time, in UTC."""
    return None if value is None else datetime.fromtimestamp(value, UTC)


# --- the ledger's errors ----------------------------------------------------------------------------------


def is_full(error: BaseException | None) -> bool:
    """Return whether SQLite failed for want of space, or for a write error that looks like it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.Error) and code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


def explained(path: Path, error: Exception) -> LedgerError:
    """Say in the user's terms what an error of the database or of its file means for a ledger."""
    return unusable(error) if isinstance(error, FileError) else _explained(path, error)


def _explained(path: Path, error: Exception) -> LedgerError:
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


def unusable(error: FileError) -> LedgerError:
    """Make the error for a file or folder of a campaign that is not what it should be, or cannot be used."""
    return _unusable(error.filename, error.strerror or str(error), error.hint)


def unreadable(path: Path, why: str) -> LedgerError:
    """Make the error for a ledger that the system does not let us read."""
    return _unusable(path, why)


def _unusable(path: Path | str, why: str, hint: str | None = None) -> LedgerError:
    usual = "progress must be recorded before anything is sent; check the folder and its permissions"
    return LedgerError(f"cannot use {path}: {why}", code="L702", hint=hint or usual)


# --- the small databases of the user's state folder -------------------------------------------------------


class StateDatabase:
    """A database that may be deleted, at the price of some memory; use it as a context manager.

    Args:
        path: the file; made with its folder if it is not there.
        schema: statements that make its tables where they are missing.

    Raises:
        LedgerError: the folder cannot be written, or the file is damaged.

    """

    def __init__(self, path: Path, schema: str) -> None:
        self._db = Database.connect(path, create=True, explain=_memory_lost)
        try:
            # NORMAL: a power cut may forget a moment's usage, never damage the file.
            self._db.execute("PRAGMA synchronous = NORMAL")
            with contextlib.suppress(sqlite3.OperationalError):  # no shared memory: the older journal stays
                self._db.connection.execute("PRAGMA journal_mode = WAL")
            self._db.script(schema)
        except BaseException:
            self._db.close()
            raise

    def close(self) -> None:
        """Close it; never raises."""
        with contextlib.suppress(LedgerError):
            self._db.execute("PRAGMA busy_timeout = 100")
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _memory_lost(path: Path, error: Exception) -> LedgerError:
    if isinstance(error, FileError):
        usual = "what an account has sent must be remembered; check the folder and its permissions"
        return LedgerError(
            f"cannot use {error.filename}: {error.strerror}", code="L710", hint=error.hint or usual
        )
    return LedgerError(
        f"cannot use {path}: {error}",
        code="L710",
        hint="if the disk is fine, move this file away: only the memory of recent quotas is lost with it",
    )
