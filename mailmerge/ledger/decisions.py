"""What people decide about recorded rows: resolve, requeue, purge. The caller holds the transaction."""

# ruff: noqa: S608  every piece of SQL here is a constant of this package

from __future__ import annotations

import hashlib
import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable
    from datetime import datetime


def resolve(
    db: sqlite3.Connection,
    campaign: int,
    keys: Iterable[str] | None,
    now: datetime,
    *,
    as_accepted: bool,
) -> int:
    """Move rows in doubt to accepted, or back to pending."""
    if as_accepted:
        change = "status = 'accepted', note = 'resolved as accepted'"
    else:
        change = "status = 'pending', tries = 0, first_at = NULL, note = 'to be sent again'"
    return _move(db, campaign, keys, now, change, "status = 'in_doubt'")


def requeue(
    db: sqlite3.Connection,
    campaign: int,
    keys: Iterable[str] | None,
    now: datetime,
    *,
    accepted: bool,
) -> int:
    """Move rows whose story was over back to pending, their tries forgotten."""
    change = "status = 'pending', tries = 0, first_at = NULL, next_at = NULL, note = 'requeued'"
    which = "status = 'accepted'" if accepted else "status IN ('rejected', 'expired')"
    return _move(db, campaign, keys, now, change, which)


def _move(
    db: sqlite3.Connection,
    campaign: int,
    keys: Iterable[str] | None,
    now: datetime,
    change: str,
    which: str,
) -> int:
    statement = f"UPDATE delivery SET {change}, updated = ? WHERE campaign = ? AND {which}"
    cells = (now.timestamp(), campaign)
    if keys is None:
        return db.execute(statement, cells).rowcount
    # dict.fromkeys: a key named twice is one row.
    return db.executemany(f"{statement} AND key = ?", [(*cells, key) for key in dict.fromkeys(keys)]).rowcount


def purge(db: sqlite3.Connection, campaign: int, secret: bytes, now: datetime) -> None:
    """Overwrite what names a person; the secret goes too, so hashed keys cannot be tried out."""

    def hashed(key: str) -> str:
        return "purged:" + hmac.new(secret, key.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:32]

    db.create_function("hashed", 1, hashed, deterministic=True)
    db.execute("PRAGMA secure_delete = ON")
    db.execute("BEGIN IMMEDIATE")
    try:
        db.execute("DELETE FROM listing WHERE campaign = ?", (campaign,))
        db.execute(
            "UPDATE attempt SET key = hashed(key), address = '', reply = '', raw = NULL, message_id = '', "
            "digest = '', row_digest = '' WHERE campaign = ?",
            (campaign,),
        )
        db.execute("UPDATE delivery SET key = hashed(key), note = '' WHERE campaign = ?", (campaign,))
        db.execute(
            "UPDATE campaign SET secret = zeroblob(32), purged = ?, preflight = '', counts = '' WHERE id = ?",
            (now.timestamp(), campaign),
        )
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
    db.execute("VACUUM")
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
