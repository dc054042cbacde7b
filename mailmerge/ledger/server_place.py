"""A campaign's ledger in a database that machines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailmerge import postgres
from mailmerge.errors import LedgerError
from mailmerge.ledger import schema, shared_rates, shared_suppression, shared_usage, work
from mailmerge.ledger.databases import ON_SERVER
from mailmerge.ledger.lease import Lease, is_held
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.locks import NO_WAIT, LockWait
from mailmerge.ledger.reader import LedgerReader, now_utc
from mailmerge.postgres import ATTEMPT_BLOCK, PostgresDatabase, TableGroup

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime


class ServerPlace(Struct, frozen=True, dict=True):
    """A database on a PostgreSQL server; which ledger it has is asked only once."""

    conninfo: str
    """The URL for libpq; it may contain a password, and is never shown."""
    shown: str
    """The same without a password."""

    def __str__(self) -> str:
        return self.shown

    @property
    def known_as(self) -> str:
        """What identifies it on this machine: the mark in the database."""
        return self._mark() or self.shown

    def _mark(self) -> str:
        """Return the mark in the database; empty: it has no ledger yet."""
        known = self.__dict__.get("mark", "")
        if not known:
            with self._connect(read_only=True) as db:
                if _is_there(db):
                    _check_version(db)
                    known = self.__dict__["mark"] = db.known_as
        return str(known)

    def database(self) -> PostgresDatabase:
        """Open it for reading, for any campaign."""
        return self._connect(read_only=True)

    def session(self, *, answer_within: float | None = None) -> PostgresDatabase:
        """Open it for writing row by row, for any campaign; see `PostgresDatabase.connect`.

        Raises:
            LedgerError: it cannot be reached, or does not have a ledger of this version.

        """
        db = PostgresDatabase.connect(self.conninfo, self.shown, answer_within=answer_within)
        try:
            _check_version(db)
            if not db.pooled:  # a query plan that is made while a table is small is kept while it grows
                db.execute("SET enable_seqscan = off")
                db.execute("SET plan_cache_mode = force_generic_plan")  # planning takes as long as a claim
        except BaseException:
            db.close()
            raise
        return db

    def exists(self) -> bool:
        """Return whether there is a ledger."""
        return bool(self._mark())

    def is_out_of_reach(self) -> bool:
        """Return whether the server does not answer now."""
        try:
            self._connect(read_only=True).close()
        except LedgerError as error:
            if error.code != "L720":
                raise
            return True
        return False

    def is_older(self) -> bool:
        """Return whether opening it for writing changes its tables: never, as other versions are refused."""
        return False

    def lock(self, campaign: str, wait: LockWait = NO_WAIT) -> Lease:
        """Return the lease that lets one process work on the campaign."""
        return Lease(self._ready, campaign, wait=wait)

    def is_held(self, campaign: str) -> bool:
        """Return whether a process works on the campaign now."""
        with self._connect(read_only=True) as db:
            _check_version(db)
            return is_held(db, campaign) or work.is_at_work(db, campaign)

    def has_fleet(self, campaign: str) -> bool:
        """Return whether workers are sending the campaign, or have paused."""
        with self._connect(read_only=True) as db:
            return _is_there(db) and work.is_with_fleet(db, campaign)

    def open_for_writing(
        self,
        campaign: str,
        *,
        create: bool = True,
        now: Callable[[], datetime] = now_utc,
        beside: bool = False,  # noqa: ARG002  a server keeps its own reserves
        lock: object = None,
    ) -> Ledger:
        """Open it, under a *lock* from `lock`; see `Ledger.open`."""
        db = self._ready()
        try:
            lease = lock if isinstance(lock, Lease) else None
            return Ledger(db, campaign, create=create, now=now, lease=lease)
        except BaseException:
            db.close()
            raise

    def database_to_fill(self) -> PostgresDatabase:
        """Open the ledger, made if there is none, to write a campaign into it that it does not have."""
        return self._ready()

    def knows(self, secret: bytes) -> bool:
        """Return whether it has the campaign with this secret, under any name."""
        with self._connect(read_only=True) as db:
            _check_version(db)
            return db.row("SELECT 1 FROM campaign WHERE secret = ?", (secret,)) is not None

    def open_read_only(self, campaign: str) -> LedgerReader:
        """Open it for reading."""
        db = self._connect(read_only=True)
        try:
            _check_version(db)
            return LedgerReader(db, campaign)
        except BaseException:
            db.close()
            raise

    def _ready(self) -> PostgresDatabase:
        db = self._connect()
        try:
            _prepare(db)
        except BaseException:
            db.close()
            raise
        return db

    def _connect(self, *, read_only: bool = False) -> PostgresDatabase:
        return PostgresDatabase.connect(self.conninfo, self.shown, read_only=read_only)


# --- its tables: those of the file, and some that only a server needs ---------------------------------------
#
# A row in the database with a lease decides who may write (see `Lease`), not a lock of the connection: a lost
# connection tells nothing about the process behind it.

_OURS = f"""
CREATE SEQUENCE attempt_block INCREMENT {ATTEMPT_BLOCK};
-- "mark" identifies this ledger, whatever name its server is reached by.
CREATE TABLE ledger (mark TEXT NOT NULL);
INSERT INTO ledger VALUES (md5(random()::text || clock_timestamp()::text));
-- Who works on a campaign, and until when nobody else may.
CREATE TABLE lease (
    campaign TEXT PRIMARY KEY,
    owner TEXT NOT NULL,
    holder TEXT NOT NULL,
    since REAL NOT NULL,
    until REAL NOT NULL
);
"""  # noqa: S608  a number of ours


_LEDGER = TableGroup("ledger", schema.VERSION, schema.SCHEMA + _OURS)
_GROUPS: Final = (
    _LEDGER, work.TABLES, shared_suppression.TABLES, shared_rates.TABLES, shared_usage.TABLES,
)  # fmt: skip
"""Everything that a ledger on a server consists of."""


def _prepare(db: PostgresDatabase) -> None:
    """Create the ledger's tables if they do not exist.

    Raises:
        LedgerError: they cannot be created, or are of another version.

    """
    postgres.prepare(db, _GROUPS)
    _check_version(db)


def _check_version(db: PostgresDatabase) -> None:
    """Check that the tables exist and are ours.

    Raises:
        LedgerError: they do not exist, or are of another version.

    """
    postgres.check_versions(db, _GROUPS)
    (mark,) = db.row("SELECT mark FROM ledger")
    db.known_as = f"{ON_SERVER}{mark}"


def _is_there(db: PostgresDatabase) -> bool:
    """Return whether the database has a ledger."""
    return _LEDGER.name in postgres.known_versions(db)
