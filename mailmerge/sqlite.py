"""The only access to SQLite: opening files, transactions, and what an error means to a person.

Several kinds of database use it: a campaign's ledger, its plans, and two small ones in the user's state
folder. They differ in what losing them costs, so each has its own explanation.
"""

from __future__ import annotations

import contextlib
import sqlite3
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, Self

from mailmerge import files
from mailmerge.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path

    from mailmerge.errors import MailmergeError

    Explain = Callable[[Path, Exception], MailmergeError]

_PAGE = 500
"""Rows read together by `Database.stream`."""


class _Guard:
    """Turns an error of SQLite inside it into the error that a person reads."""

    def __init__(self, path: Path, explain: Explain) -> None:
        self._path = path
        self._explain = explain

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        # UnicodeDecodeError: damage in the middle of a string.
        if isinstance(error, FileError | sqlite3.Error | UnicodeDecodeError):
            raise self._explain(self._path, error) from error


class Database:
    """One open file; use it as a context manager.

    Every statement goes through here, so an error of SQLite becomes the one that *explain* makes from it, in
    the user's terms, with the original as its cause. Transactions begin only where the code begins them.

    Args:
        connection: open in autocommit mode.
        path: the file, for messages.
        explain: makes the error that a person reads from that of SQLite.

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
        explain: Explain,
        *,
        create: bool = False,
        read_only: bool = False,
        immutable: bool = False,
    ) -> Self:
        """Open a file; the options are those of `mailmerge.files.open_database`.

        Args:
            path: the file.
            explain: see the class.
            create: make an empty one, private to its owner, if it does not exist.
            read_only: change nothing in it.
            immutable: nobody changes it meanwhile, so that nothing is written next to it either.

        Raises:
            MailmergeError: it cannot be opened.

        """
        with _Guard(path, explain):
            connection = files.open_database(path, create=create, read_only=read_only, immutable=immutable)
        return cls(connection, path, explain)

    @classmethod
    @contextlib.contextmanager
    def filled(cls, path: Path, explain: Explain) -> Iterator[Self]:
        """Fill a new database that takes *path*'s place, durably, when the context ends well.

        Raises:
            MailmergeError: it was not made; what was at *path* is still there.

        """
        with _Guard(path, explain), files.create_database(path) as connection:
            yield cls(connection, path, explain)

    def close(self) -> None:
        """Close the file."""
        self.connection.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def explained(self, error: sqlite3.Error) -> MailmergeError:
        """Return the error to raise, where *connection* itself was used."""
        return self._explain(self.path, error)

    @contextlib.contextmanager
    def transaction(self) -> Iterator[None]:
        """Commit what is done inside, or nothing of it.

        IMMEDIATE takes the write lock at the start, against other processes too: a transaction that reads
        first and then finds that it cannot write would have to start again.

        Raises:
            MailmergeError: nothing was changed.

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
        """Return the first row as a tuple, or None."""
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

    def change_mark(self) -> tuple[int, int] | None:
        """Return what differs after every change of rows, by whomever; None in a transaction.

        What a transaction has changed may still be taken back, and then the mark stays as it is. The parts:
        rows that this connection has changed, and SQLite's ``data_version``, which others' changes increase.
        """
        if self.connection.in_transaction:
            return None
        return self.connection.total_changes, self.row("PRAGMA data_version")[0]

    def overwrite_removed(self) -> None:
        """Make sure that what is removed from now on cannot be found in the file."""
        self.execute("PRAGMA secure_delete = ON")
        self.execute("PRAGMA temp_store = MEMORY")

    def reclaim(self) -> None:
        """Return the room of what was removed, and leave nothing of it in the log."""
        self.execute("VACUUM")
        self.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def copy_to(self, target: Database) -> None:
        """Make *target* a copy of this database, whoever else has this one open."""
        with self._guard:
            self.connection.backup(target.connection)


# Only places are sorted: the data of each row is looked up afterwards. Everything is in a file of SQLite's
# own, which no folder shows and which is gone with the connection.
_GROUPED = (
    "CREATE TEMP TABLE grouped (n INTEGER PRIMARY KEY, kind BLOB, kept BLOB)",
    "CREATE TEMP TABLE placed (first INTEGER, n INTEGER, PRIMARY KEY (first, n)) WITHOUT ROWID",
)
_PLACE = """
INSERT INTO placed
SELECT CASE WHEN kind = x'' THEN n ELSE min(n) OVER (PARTITION BY kind) END, n FROM grouped
"""
_SORTED = "SELECT p.first, g.kept FROM placed p JOIN grouped g ON g.n = p.n ORDER BY p.first, p.n"


def grouped(db: Database, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
    """Put rows of the same group together, groups ordered by their first row; once for each connection.

    Args:
        db: has room for them.
        rows: the place, the group (empty: only this row), and the data to be kept; places rise.

    Yields:
        The place of the first row of its group, and what was kept, row by row.

    """
    for statement in _GROUPED:  # a script would end the transaction
        db.execute(statement)
    source = iter(rows)
    while batch := list(islice(source, _PAGE)):
        db.executemany("INSERT INTO grouped VALUES (?, ?, ?)", batch)
    db.execute(_PLACE)
    yield from db.stream(_SORTED)


def is_full(error: BaseException | None) -> bool:
    """Return whether SQLite failed for want of space, or for a write error that looks like it."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return isinstance(error, sqlite3.Error) and code in {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR}


# --- times: the tables have seconds since 1970, UTC -------------------------------------------------------


def stamp(value: datetime | None) -> float | None:
    """Return a time as the tables have it."""
    return None if value is None else value.timestamp()


@lru_cache(maxsize=512)  # the rows of one window share theirs
def moment(value: float | None) -> datetime | None:
    """Return the time of a value in the tables, in UTC."""
    return None if value is None else datetime.fromtimestamp(value, UTC)


@lru_cache(maxsize=512)
def zoned(value: float, offset: int) -> datetime:
    """Return the time of a Date header in the zone in which it was written, *offset* seconds from UTC."""
    return datetime.fromtimestamp(value, timezone(timedelta(seconds=offset)) if offset else UTC)
