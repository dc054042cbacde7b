"""The ledger's questions: what is due, how many, what became of whom. All of it is answered in SQL."""

# ruff: noqa: S608  every piece of SQL here is a constant of this package

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING

from mailmerge.ledger import schema
from mailmerge.ledger.records import (
    ATTEMPT_COLUMNS,
    DELIVERY_COLUMNS,
    DELIVERY_JOINS,
    STATUSES,
    delivery,
    moment,
    past_attempt,
)
from mailmerge.model import Counts, Delivery, Result, Status, Version

if TYPE_CHECKING:
    import sqlite3
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mailmerge.ledger.records import PastAttempt

_LISTED = "listing l LEFT JOIN delivery d ON l.holds AND d.campaign = l.campaign AND d.key = l.key"
# A fact (accepted, rejected, in doubt ...) outlives what the list now says of the row; an intention does not.
_STATE = """
CASE WHEN d.status IS NULL THEN l.status
     WHEN l.status = 'pending' OR d.status NOT IN ('pending', 'deferred') THEN d.status
     ELSE l.status END
"""
_DETAIL = """
CASE WHEN d.status = 'accepted' AND l.row_digest <> '' AND a.row_digest <> '' AND l.row_digest <> a.row_digest
     THEN 'edited in the list since it was accepted' ELSE l.detail END
"""
_GONE = """
delivery d WHERE d.campaign = ?1 AND d.status <> 'pending' AND NOT EXISTS (
    SELECT 1 FROM listing l WHERE l.campaign = d.campaign AND l.key = d.key AND l.holds)
"""
_STATUSES = """
SELECT status FROM listing WHERE campaign = ?1 UNION SELECT status FROM delivery WHERE campaign = ?1
"""
_STATUS_VALUES = frozenset(Status)
# A row that was deferred in the future tells that the clock was set back since: its time means nothing.
_SET_BACK = "d.updated > ?2 + 60"
_DUE = f"""
l.campaign = ?1 AND l.status = 'pending' AND (d.status IS NULL OR d.status = 'pending'
    OR (d.status = 'deferred' AND (d.next_at <= ?2 OR {_SET_BACK})))
"""


def due(
    db: sqlite3.Connection,
    path: Path,
    campaign: int,
    now: datetime,
    *,
    after_row: int,
    limit: int,
) -> list[Delivery]:
    """Give up to *limit* rows after *after_row* that may be contacted now."""
    query = (
        f"SELECT l.key, l.row, l.address, {DELIVERY_COLUMNS} FROM {_LISTED} {DELIVERY_JOINS} "
        f"WHERE {_DUE} AND l.row > ?3 ORDER BY l.row LIMIT ?4"
    )
    with schema.guarded(path):
        rows = db.execute(query, (campaign, now.timestamp(), after_row, limit)).fetchall()
    return [_due_delivery(path, row) for row in rows]


def _due_delivery(path: Path, row: tuple[object, ...]) -> Delivery:
    key, number, address, *cells = row
    if cells[0] is None:
        return Delivery(key=str(key), row=int(str(number)), address=str(address), status=Status.PENDING)
    return _delivery(path, str(key), int(str(number)), str(address), tuple(cells))


def _delivery(
    path: Path, key: str, row: int | None, address: str | None, cells: tuple[object, ...]
) -> Delivery:
    try:
        return delivery(key, row, address, cells)
    except (LookupError, ValueError, TypeError, OverflowError, OSError) as error:
        raise schema.damaged(path, f"entry of {key!r}: {error}") from error


def due_count(db: sqlite3.Connection, path: Path, campaign: int, now: datetime) -> int:
    """Count the rows that may be contacted now."""
    with schema.guarded(path):
        found = db.execute(
            f"SELECT count(*) FROM {_LISTED} WHERE {_DUE}", (campaign, now.timestamp())
        ).fetchone()
    return int(found[0])


def recent(
    db: sqlite3.Connection, path: Path, campaign: int, since: datetime
) -> Iterator[tuple[str, datetime]]:
    """Give addresses with the times at which they were written to after *since*, oldest first."""
    with schema.guarded(path):
        rows = db.execute(
            "SELECT address, at FROM attempt WHERE campaign = ? AND at > ? ORDER BY at",
            (campaign, since.timestamp()),
        ).fetchall()
    for address, at in rows:
        yield address, datetime.fromtimestamp(at, UTC)


def next_due(db: sqlite3.Connection, path: Path, campaign: int, now: datetime) -> datetime | None:
    """Tell when the first deferred row of the list is due."""
    with schema.guarded(path):
        # CROSS JOIN: else SQLite walks through the whole list and looks up each row.
        found = db.execute(
            f"SELECT min(CASE WHEN {_SET_BACK} THEN ?2 ELSE d.next_at END) "
            "FROM delivery d CROSS JOIN listing l "
            "ON l.campaign = d.campaign AND l.key = d.key AND l.holds AND l.status = 'pending' "
            "WHERE d.campaign = ?1 AND d.status = 'deferred'",
            (campaign, now.timestamp()),
        ).fetchone()
    return moment(found[0])


def counts(db: sqlite3.Connection, path: Path, campaign: int) -> Counts:
    """Count by state: the list's rows and those no longer in it."""
    listed = _counts(db, path, f"SELECT {_STATE} AS state FROM {_LISTED} WHERE l.campaign = ?1", campaign)
    left = gone(db, path, campaign)
    return Counts({status: listed[status] + left[status] for status in {*listed, *left}})


def kept_counts(db: sqlite3.Connection, path: Path, campaign: int) -> Counts | None:
    """Give what `counts` said last, if no row has moved since."""
    with schema.guarded(path):
        (kept,) = db.execute("SELECT counts FROM campaign WHERE id = ?", (campaign,)).fetchone()
    if not kept:
        return None
    try:
        return Counts({Status(status): int(number) for status, number in json.loads(kept).items()})
    except (ValueError, AttributeError, TypeError) as error:
        raise schema.damaged(path, f"the kept counts: {error}") from error


def keep_counts(db: sqlite3.Connection, campaign: int, counts: Counts) -> None:
    """Keep *counts* for `kept_counts`."""
    text = json.dumps({str(status): counts[status] for status in counts})
    db.execute("UPDATE campaign SET counts = ? WHERE id = ?", (text, campaign))


def gone(db: sqlite3.Connection, path: Path, campaign: int) -> Counts:
    """Count by state the rows no longer in the list."""
    return _counts(db, path, f"SELECT d.status AS state FROM {_GONE}", campaign)


def _counts(db: sqlite3.Connection, path: Path, states: str, campaign: int) -> Counts:
    with schema.guarded(path):
        names = [name for (name,) in db.execute(_STATUSES, (campaign,)) if name in _STATUS_VALUES]
        # One sum a state instead of GROUP BY, which would sort all rows in memory.
        sums = "".join(f", coalesce(sum(state = '{status}'), 0)" for status in names)
        total, *found = db.execute(f"SELECT count(*){sums} FROM ({states})", (campaign,)).fetchone()
    if sum(found) != total:
        raise schema.damaged(path, "a row is in no state that there is")
    return Counts({Status(name): number for name, number in zip(names, found, strict=True) if number})


def results(
    db: sqlite3.Connection,
    path: Path,
    campaign: int,
    only: Status | None = None,
) -> Iterator[Result]:
    """Stream every row's result, or those of one state; no more than a page is held in memory."""
    listed = (
        f"SELECT l.row, l.key, l.address, {_DETAIL}, {_STATE} AS state, {DELIVERY_COLUMNS} "
        f"FROM {_LISTED} {DELIVERY_JOINS} WHERE l.campaign = ?1 AND (?2 IS NULL OR state = ?2) ORDER BY l.row"
    )
    left = f"SELECT NULL, d.key, NULL, '', d.status, {DELIVERY_COLUMNS} FROM "
    left += _GONE.replace("delivery d", f"delivery d {DELIVERY_JOINS}", 1)
    left += " AND (?2 IS NULL OR d.status = ?2) ORDER BY a.row, d.key"
    for query in (listed, left):
        with schema.guarded(path):
            cursor = db.execute(query, (campaign, only))
        while True:
            with schema.guarded(path):
                page = cursor.fetchmany(500)
            if not page:
                break
            for row, key, address, detail, state, *cells in page:
                known = None if cells[0] is None else _delivery(path, key, row, address, tuple(cells))
                shown = address if known is None or address is not None else known.address
                yield Result(row, key, shown or "", _status(path, state), detail, known)


def in_doubt(db: sqlite3.Connection, path: Path, campaign: int, limit: int | None) -> list[Result]:
    """Give the rows in doubt, found through the deliveries: usually there are none."""
    with schema.guarded(path):
        first = db.execute(
            "SELECT 1 FROM delivery WHERE campaign = ? AND status = 'in_doubt' LIMIT 1", (campaign,)
        ).fetchone()
    return list(islice(results(db, path, campaign, Status.IN_DOUBT), limit)) if first else []


def _status(path: Path, text: str) -> Status:
    status = STATUSES.get(text)
    if status is None:
        raise schema.damaged(path, f"{text!r} is no state")
    return status


def attempts(db: sqlite3.Connection, path: Path, campaign: int, key: str) -> list[PastAttempt]:
    """Follow one row's chain of attempts."""
    query = f"""
    WITH RECURSIVE chain(id) AS (
        SELECT attempt FROM delivery WHERE campaign = ?1 AND key = ?2
        UNION SELECT a.previous FROM attempt a JOIN chain ON a.id = chain.id WHERE a.previous IS NOT NULL)
    SELECT {ATTEMPT_COLUMNS} FROM attempt a JOIN chain ON a.id = chain.id
    LEFT JOIN version v ON v.id = a.version ORDER BY a.id
    """
    with schema.guarded(path):
        rows = db.execute(query, (campaign, key)).fetchall()
    try:
        return [past_attempt(row) for row in rows]
    except (ValueError, TypeError, OverflowError, OSError) as error:
        raise schema.damaged(path, str(error)) from error


def keys_at(db: sqlite3.Connection, path: Path, campaign: int, rows: Iterable[int]) -> dict[int, str]:
    """Find keys by row numbers."""
    query = "SELECT key FROM listing WHERE campaign = ? AND row = ? AND holds"
    found = {}
    with schema.guarded(path):
        for row in rows:
            key = db.execute(query, (campaign, row)).fetchone()
            if key:
                found[row] = str(key[0])
    return found


def versions(db: sqlite3.Connection, path: Path, campaign: int) -> list[Version]:
    """Give the versions that were accepted somewhere, in the order of their latest acceptance."""
    query = """
    SELECT v.digest, v.parts, v.noted, d.n FROM version v JOIN (
        SELECT version, count(*) AS n, max(attempt) AS latest FROM delivery
        WHERE campaign = ?1 AND status = 'accepted' GROUP BY version) d ON d.version = v.id
    ORDER BY d.latest
    """
    with schema.guarded(path):
        rows = db.execute(query, (campaign,)).fetchall()
    return [
        Version(digest, json.loads(parts), datetime.fromtimestamp(at, UTC), n)
        for digest, parts, at, n in rows
    ]
