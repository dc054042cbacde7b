"""The tables of a ledger in PostgreSQL: those of the file, and some that only a server needs.

A row in the database with a lease decides who may write (see `Lease`), not a lock of the connection: a lost
connection tells nothing about the process behind it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from mailmerge import postgres
from mailmerge.ledger import schema, shared_rates, shared_suppression, shared_usage, work
from mailmerge.ledger.databases import ON_SERVER
from mailmerge.postgres import ATTEMPT_BLOCK, TableGroup

if TYPE_CHECKING:
    from mailmerge.postgres import PostgresDatabase

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
GROUPS: Final = (
    _LEDGER, work.TABLES, shared_suppression.TABLES, shared_rates.TABLES, shared_usage.TABLES,
)  # fmt: skip
"""Everything that a ledger on a server consists of."""


def prepare(db: PostgresDatabase) -> None:
    """Create the ledger's tables if they do not exist.

    Raises:
        LedgerError: they cannot be created, or are of another version.

    """
    postgres.prepare(db, GROUPS)
    check_version(db)


def check_version(db: PostgresDatabase) -> None:
    """Check that the tables exist and are ours.

    Raises:
        LedgerError: they do not exist, or are of another version.

    """
    postgres.check_versions(db, GROUPS)
    (mark,) = db.row("SELECT mark FROM ledger")
    db.known_as = f"{ON_SERVER}{mark}"


def is_there(db: PostgresDatabase) -> bool:
    """Return whether the database has a ledger."""
    return _LEDGER.name in postgres.known_versions(db)
