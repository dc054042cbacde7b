"""The databases that record what has happened, and what an error in one means to a person.

A campaign's ledger, and the two small ones in the user's state folder (account usage, registry of campaigns).
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from functools import partial
from typing import TYPE_CHECKING, Any, Final, Protocol, Self

from mailmerge.errors import FileError, LedgerError
from mailmerge.files import database_in_memory
from mailmerge.sqlite import Database, is_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from contextlib import AbstractContextManager
    from datetime import datetime
    from pathlib import Path


ON_SERVER: Final = "postgresql ledger "
"""The prefix of the names that identify ledgers on a server."""


def is_on_server(known_as: str) -> bool:
    """Return whether the identity of a ledger is that of one on a server."""
    return known_as.startswith(ON_SERVER)


class LedgerDatabase(Protocol):
    """The database of a ledger: a file or a server. Statements are plain SQL with ``?`` or ``?1``."""

    @property
    def path(self) -> Path | str:
        """Where it is, for messages."""
        ...

    @property
    def known_as(self) -> str:
        """What identifies it elsewhere: the same for the same ledger."""
        ...

    @property
    def unsure(self) -> bool:
        """Whether the result of the last commit is unknown."""
        ...

    def transaction(self) -> AbstractContextManager[None]:
        """Commit everything that is done inside, or nothing."""
        ...

    def execute(self, statement: str, cells: Sequence[object] = ()) -> Any:
        """Run one statement; the result has a ``rowcount``."""
        ...

    def executemany(self, statement: str, rows: Iterable[Sequence[object]]) -> Any:
        """Run one statement for each of *rows*."""
        ...

    def row(self, query: str, cells: Sequence[object] = ()) -> Any:
        """Return the first row as a tuple, or None."""
        ...

    def rows(self, query: str, cells: Sequence[object] = ()) -> list[Any]:
        """Return all rows."""
        ...

    def stream(self, query: str, cells: Sequence[object] = ()) -> Iterator[Any]:
        """Yield all rows, a page at a time."""
        ...

    def change_mark(self) -> object:
        """Return what differs after every change of rows, by whomever; None: that is not known."""
        ...

    def next_numbers(self) -> tuple[int, int]:
        """Reserve numbers for attempts; return the first, and how many."""
        ...

    def take_ids(self, table: str, count: int) -> list[int]:
        """Reserve *count* numbers of another table; return the first."""
        ...

    def overwrite_removed(self) -> None:
        """Prepare to remove something for good."""
        ...

    def reclaim(self) -> None:
        """Overwrite what was removed, so that nothing of it is left."""
        ...

    def finish(self) -> None:
        """Close it after writing; never raises."""
        ...

    def close(self) -> None:
        """Close it."""
        ...


class AttemptNumbers:
    """The numbers of one writer's attempts, which it reserves in blocks."""

    def __init__(self) -> None:
        self._next, self._left = 0, 0

    def take(self, db: LedgerDatabase) -> int:
        """Return the next number."""
        if not self._left:
            self._next, self._left = db.next_numbers()
        number = self._next
        self._next, self._left = number + 1, self._left - 1
        return number


# --- the ledger's errors ----------------------------------------------------------------------------------


class CampaignBook:
    """What a ledger keeps about one campaign besides the states of its rows.

    Every method raises `LedgerError` if the ledger cannot be read or written.

    Args:
        db: the ledger.
        campaign: the campaign's number in it.
        now: the clock.

    """

    def __init__(self, db: LedgerDatabase, campaign: int, now: Callable[[], datetime]) -> None:
        self._db = db
        self._id = campaign
        self._now = now


def explained(path: Path, error: Exception) -> LedgerError:
    """Return what an error of the database or of its file means for a ledger, in the user's terms."""
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


def damaged(path: Path | str, detail: str) -> LedgerError:
    """Return the error for a ledger that cannot be trusted."""
    return LedgerError(
        f"the ledger is damaged: {path} ({detail})",
        code="L701",
        hint="restore it from a backup; without it, it is unknown who was written to, so nothing is sent",
    )


def unusable(error: FileError) -> LedgerError:
    """Return the error for a campaign's file or folder that is not what it should be, or cannot be used."""
    return _unusable(error.filename, error.strerror or str(error), error.hint)


def unreadable(path: Path, why: str) -> LedgerError:
    """Return the error for a ledger that the system does not allow us to read."""
    return _unusable(path, why)


def _unusable(path: Path | str, why: str, hint: str | None = None) -> LedgerError:
    usual = "progress must be recorded before anything is sent; check the folder and its permissions"
    return LedgerError(f"cannot use {path}: {why}", code="L702", hint=hint or usual)


def journal_is_empty(path: Path) -> bool:
    """Return whether a database is complete in its one file: nobody writes, and no writer was interrupted."""
    try:
        return path.with_name(path.name + "-wal").stat().st_size == 0
    except OSError:
        return not path.with_name(path.name + "-journal").exists()


# --- the small databases of the user's state folder -------------------------------------------------------


class StateDatabase:
    """A database that may be deleted, which loses what it remembers; use it as a context manager.

    Args:
        path: the file; created with its folder if it does not exist.
        schema: statements that create its tables if they are missing.
        read_only: change and create nothing; it must exist.

    Raises:
        LedgerError: the folder cannot be written, or the file is damaged.

    """

    remembers = ""
    """What is lost with the file."""

    def __init__(self, path: Path, schema: str, *, read_only: bool = False) -> None:
        explain = partial(_unusable_memory, self.remembers)
        if read_only and path.with_name(path.name + "-journal").exists():
            # Whoever made the file was killed before it had a log: only a writer can undo what it had begun.
            with contextlib.suppress(LedgerError), Database.connect(path, explain) as writer:
                writer.execute("SELECT count(*) FROM sqlite_master")
        self._db = Database.connect(
            path,
            explain,
            create=not read_only,
            read_only=read_only,
            # Otherwise SQLite leaves its shared memory file next to it, where nothing may be changed.
            immutable=read_only and journal_is_empty(path),
        )
        self._as_opened = file_identity(path)
        try:
            if read_only:
                self._stand_in(schema)
                return
            # NORMAL: a power cut may lose a moment's usage, but never damage the file.
            self._db.execute("PRAGMA synchronous = NORMAL")
            with contextlib.suppress(sqlite3.OperationalError):  # no shared memory: the older journal stays
                self._db.connection.execute("PRAGMA journal_mode = WAL")
            self._db.script(schema)
        except BaseException:
            self._db.close()
            raise

    def _stand_in(self, schema: str) -> None:
        """Create empty temporary tables for those that an earlier version lacks; the file is unchanged."""
        there = {name for (name,) in self._db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
        model = database_in_memory()
        try:
            model.executescript(schema)
            tables = model.execute("SELECT name, sql FROM sqlite_master WHERE type = 'table'").fetchall()
        finally:
            model.close()
        for name, made in tables:
            if name not in there:
                self._db.execute(made.replace("CREATE TABLE", "CREATE TEMP TABLE", 1))

    def refuse_vanished(self) -> None:
        """Check that what is written here will be found again.

        Raises:
            LedgerError: the file was deleted or replaced since it was opened.

        """
        if file_identity(self._db.path) != self._as_opened:
            raise LedgerError(
                f"{self._db.path} was deleted or replaced while it was in use",
                code="L710",
                hint=f"{self.remembers} must be recorded; run the same command again",
            )

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


def file_identity(path: Path | str) -> tuple[int, int] | None:
    """Return device and inode of the file with this name; None: no file has it."""
    try:
        facts = os.stat(path)  # noqa: PTH116  before every message
    except OSError:
        return None
    return identity_of(facts)


def identity_of(facts: os.stat_result) -> tuple[int, int]:
    """Return device and inode."""
    return facts.st_dev, facts.st_ino


def _unusable_memory(remembers: str, path: Path, error: Exception) -> LedgerError:
    if isinstance(error, FileError):
        usual = f"{remembers} must be recorded; check the folder and its permissions"
        return LedgerError(
            f"cannot use {error.filename}: {error.strerror}", code="L710", hint=error.hint or usual
        )
    if is_full(error):
        return LedgerError(
            f"cannot use {path}: {error}; the disk is full, or reports errors",
            code="L710",
            hint="free some space, then run the same command again; nothing more was sent",
        )
    return LedgerError(
        f"cannot use {path}: {error}",
        code="L710",
        hint=f"if the disk is fine, move this file away: what is lost with it is {remembers}",
    )
