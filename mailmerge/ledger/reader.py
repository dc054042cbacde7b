"""What a ledger can be asked: what is due, how many rows are where, what became of whom.

All of it is answered in SQL, and what can be long is streamed. Two tables are joined again and again: the
*listing*, the rows of the list as the latest plan saw them, and the *deliveries*, the rows that were ever
contacted, which know their last attempt. The key joins them, never the row number.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct, field

from mailmerge.errors import LedgerError
from mailmerge.ledger import schema
from mailmerge.ledger.databases import damaged
from mailmerge.model import Counts, Delivery, Result, Status, Version
from mailmerge.sqlite import moment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

    from mailmerge.ledger.statistics import Aggregates
    from mailmerge.sqlite import Database


class Run(Struct, frozen=True):
    """One process that worked on the campaign."""

    id: int
    kind: str
    """``send``, ``test`` ..."""
    started: datetime
    pid: int
    version: str
    ended: datetime | None = None
    """None: it still runs, or it died."""
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    command: str = ""
    """How its command line named the campaign."""


# --- from cells to values ---------------------------------------------------------------------------------


@lru_cache(maxsize=512)
def _local_date(date: float | None, offset: int) -> datetime | None:
    """Restore a Date header's moment in the time zone it was written in."""
    if date is None:
        return None
    return datetime.fromtimestamp(date, timezone(timedelta(seconds=offset)) if offset else UTC)


_STATUSES: Mapping[str, Status] = {status.value: status for status in Status}
"""The states by what the tables hold; calling `Status` takes four times as long."""

_DELIVERY: dict[str, tuple[str, Callable[[Any], object] | None]] = {
    "status": ("d.status", _STATUSES.__getitem__),
    "attempts": ("d.tries", None),
    "message_id": ("coalesce(a.message_id, '')", None),
    "date": ("a.date", None),  # with its zone, which is the column after all of these
    "first_attempt": ("d.first_at", moment),
    "updated": ("d.updated", moment),
    "next_at": ("d.next_at", moment),
    "phase": ("coalesce(a.phase, '')", None),
    # What a person decided about a row counts for more than what the server said before.
    "reason": ("coalesce(nullif(d.note, ''), a.reason, '')", None),
    "code": ("a.code", None),
    "enhanced": ("coalesce(a.enhanced, '')", None),
    "reply": ("coalesce(a.reply, '')", None),
    "version": ("coalesce(v.digest, '')", None),
    "row_digest": ("coalesce(a.row_digest, '')", None),
    "generation": ("d.generation", None),
}
"""The fields of `Delivery` that the tables know: what to select, and what makes the value of the cell."""

_FIELDS = Delivery.__struct_fields__[3:]  # all but key, row and address, which the list may know better
_COLUMNS = ", ".join((*(_DELIVERY[name][0] for name in _FIELDS), "coalesce(a.utc_offset, 0)"))
_DATE = _FIELDS.index("date")
_CONVERSIONS = tuple(
    (place, convert) for place, name in enumerate(_FIELDS) if (convert := _DELIVERY[name][1]) is not None
)


def _delivery(path: Path, key: str, row: int, address: str, cells: list[Any]) -> Delivery:
    """Make a `Delivery` of the cells of `_COLUMNS`."""
    offset = cells.pop()
    try:
        cells[_DATE] = _local_date(cells[_DATE], offset)
        for place, convert in _CONVERSIONS:
            cells[place] = convert(cells[place])
    except (LookupError, ValueError, TypeError, OverflowError, OSError) as error:
        raise damaged(path, f"entry of {key!r}: {error}") from error
    return Delivery(key, row, address, *cells)


# --- the questions in SQL ---------------------------------------------------------------------------------

_ATTEMPT = "LEFT JOIN attempt a ON a.id = d.attempt LEFT JOIN version v ON v.id = d.version"
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
_NOT_LISTED = """
NOT EXISTS (SELECT 1 FROM listing l WHERE l.campaign = d.campaign AND l.key = d.key AND l.holds)
"""
_GONE = f"d.campaign = ?1 AND d.status <> 'pending' AND {_NOT_LISTED}"
_ADDRESS = "coalesce(a.address, '')"
_RESULTS = f"""
SELECT l.row, l.key, l.address, {_DETAIL}, {_STATE}, {_COLUMNS}, l.row
FROM {_LISTED} {_ATTEMPT} WHERE l.campaign = ?1 ORDER BY l.row
"""
_RESULTS_GONE = f"""
SELECT NULL, d.key, {_ADDRESS}, '', d.status, {_COLUMNS}, coalesce(a.row, 0)
FROM delivery d {_ATTEMPT} WHERE {_GONE} ORDER BY a.row, d.key
"""
# From the deliveries to the list, not the other way round: few of them are in doubt.
_IN_DOUBT = f"""
SELECT l.row, d.key, coalesce(l.address, {_ADDRESS}), coalesce(l.detail, ''), d.status, {_COLUMNS},
    coalesce(l.row, a.row, 0)
FROM delivery d LEFT JOIN listing l ON l.campaign = d.campaign AND l.key = d.key AND l.holds {_ATTEMPT}
WHERE d.campaign = ?1 AND d.status IN ('in_doubt', 'handing_over')
ORDER BY l.row IS NULL, l.row, a.row, d.key LIMIT ?2
"""
_OF_KEY = f"""
SELECT coalesce(a.row, 0), {_ADDRESS}, {_COLUMNS} FROM delivery d {_ATTEMPT}
WHERE d.campaign = ?1 AND d.key = ?2
"""
# UNION drops what was met before, so that not even a damaged file makes it go round in circles.
_EARLIER_DATE = """
WITH RECURSIVE earlier (id) AS (
    SELECT attempt FROM delivery WHERE campaign = ?1 AND key = ?2
    UNION SELECT a.previous FROM attempt a JOIN earlier e ON a.id = e.id)
SELECT a.date, a.utc_offset FROM attempt a JOIN earlier e ON a.id = e.id
WHERE a.message_id = ?3 ORDER BY a.id LIMIT 1
"""
# A row that was deferred in the future tells that the clock was set back since: its time means nothing.
_SET_BACK = "d.updated > ?2 + 60"
_DUE = f"""
l.campaign = ?1 AND l.status = 'pending' AND (d.status IS NULL OR d.status = 'pending'
    OR (d.status = 'deferred' AND (d.next_at <= ?2 OR {_SET_BACK})))
"""
_DUE_PAGE = f"""
SELECT l.key, l.row, l.address, {_COLUMNS} FROM {_LISTED} {_ATTEMPT}
WHERE {_DUE} AND l.row > ?3 ORDER BY l.row LIMIT ?4
"""
_NEXT_DUE = f"""
SELECT min(CASE WHEN {_SET_BACK} THEN ?2 ELSE d.next_at END)
FROM delivery d CROSS JOIN listing l
    ON l.campaign = d.campaign AND l.key = d.key AND l.holds AND l.status = 'pending'
WHERE d.campaign = ?1 AND d.status = 'deferred'
"""
_STATES_THERE_ARE = """
SELECT status FROM listing WHERE campaign = ?1 UNION SELECT status FROM delivery WHERE campaign = ?1
"""
_VERSIONS = """
SELECT v.digest, v.parts, v.noted, d.n FROM version v JOIN (
    SELECT version, count(*) AS n, max(attempt) AS latest FROM delivery
    WHERE campaign = ?1 AND status = 'accepted' GROUP BY version) d ON d.version = v.id
ORDER BY d.latest
"""
_LAST_RUN = """
SELECT id, kind, started, pid, version, ended, reason, counts, command FROM run
WHERE campaign = ? AND kind = ? ORDER BY id DESC LIMIT 1
"""


def now_utc() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class LedgerReader:
    """One campaign's part of a ledger file, to look at; use it as a context manager.

    Every method that asks the file raises `LedgerError` if that cannot be read.

    Args:
        db: the open file; it is closed with this.
        campaign: which of the file's campaigns.
        now: the clock.

    Raises:
        LedgerError: the file does not know the campaign.

    """

    def __init__(self, db: Database, campaign: str, *, now: Callable[[], datetime] = now_utc) -> None:
        found = db.row("SELECT id, secret, purged FROM campaign WHERE name = ?", (campaign,))
        if found is None:
            known = ", ".join(str(name) for (name,) in db.rows("SELECT name FROM campaign ORDER BY id"))
            raise LedgerError(
                f'{db.path} has no campaign "{campaign}"',
                code="L705",
                hint=f"it has: {known}" if known else "nothing was sent from here yet",
            )
        self.path = db.path
        self.campaign = campaign
        self._db = db
        self._now = now
        self._id: int = found[0]
        self.secret: bytes = found[1]
        """Known to nobody else: keys what must not be guessed (Message-IDs)."""
        self.throwaway = False
        """Whether `close` removes it, as after a rehearsal."""
        self._purged = found[2] is not None

    @staticmethod
    def open_read_only(path: Path, campaign: str) -> LedgerReader:
        """Open an existing ledger for looking; its bytes do not change.

        Raises:
            LedgerError: missing, damaged, of another version, or without this campaign.

        """
        db = schema.connect_read_only(path)
        try:
            return LedgerReader(db, campaign)
        except BaseException:
            db.close()
            raise

    def close(self) -> None:
        """Close the file; never raises."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # --- what is left to do ---------------------------------------------------------------------------

    def due(self, now: datetime, *, after_row: int = 0, limit: int = 1000) -> list[Delivery]:
        """Return the next page of rows to contact, in list order: pending ones and those due again."""
        cells = (self._id, now.timestamp(), after_row, limit)
        return [
            Delivery(key, row, address, Status.PENDING)
            if known[0] is None
            else _delivery(self.path, key, row, address, known)
            for key, row, address, *known in self._db.rows(_DUE_PAGE, cells)
        ]

    def due_count(self, now: datetime) -> int:
        """Count the rows that `due` would give in all."""
        query = f"SELECT count(*) FROM {_LISTED} WHERE {_DUE}"
        return int(self._db.row(query, (self._id, now.timestamp()))[0])

    def next_due(self) -> datetime | None:
        """Return when the first deferred row of the list is due; None: no row is deferred."""
        return moment(self._db.row(_NEXT_DUE, (self._id, self._now().timestamp()))[0])

    def recent(self, since: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield addresses with the times at which they were written to after *since*, oldest first."""
        query = "SELECT address, at FROM attempt WHERE campaign = ? AND at > ? ORDER BY at"
        for address, at in self._db.rows(query, (self._id, since.timestamp())):
            yield address, datetime.fromtimestamp(at, UTC)

    # --- one row --------------------------------------------------------------------------------------

    def delivery(self, key: str) -> Delivery | None:
        """Return what is recorded of one row, with the row number that it had last; None: nothing."""
        found = self._db.row(_OF_KEY, (self._id, key))
        if found is None:
            return None
        row, address, *known = found
        return _delivery(self.path, key, row, address, known)

    def date_of(self, delivery: Delivery, message_id: str) -> datetime | None:
        """Return the Date that the row's message had when it went out first; None: it never did."""
        if not delivery.message_id or delivery.message_id == message_id:
            return delivery.date
        found = self._db.row(_EARLIER_DATE, (self._id, delivery.key, message_id))
        try:
            return _local_date(*found) if found else None
        except (ValueError, TypeError, OverflowError, OSError) as error:
            raise damaged(self.path, f"a Date of {delivery.key!r}: {error}") from error

    # --- where the rows stand -------------------------------------------------------------------------

    def counts(self) -> Counts:
        """Count rows by state, those that are no longer in the list included."""
        kept = self._kept_counts()
        return self._counted() if kept is None else kept

    def _kept_counts(self) -> Counts | None:
        """Return what was counted last, if no row has moved since."""
        (kept,) = self._db.row("SELECT counts FROM campaign WHERE id = ?", (self._id,))
        if not kept:
            return None
        try:
            return Counts({Status(status): int(number) for status, number in json.loads(kept).items()})
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged(self.path, f"the kept counts: {error}") from error

    def _counted(self) -> Counts:
        listed = self._count(f"SELECT {_STATE} AS state FROM {_LISTED} WHERE l.campaign = ?1")
        gone = self.gone()
        return Counts({status: listed[status] + gone[status] for status in {*listed, *gone}})

    def gone(self) -> Counts:
        """Count by state the contacted rows that are no longer in the list."""
        return self._count(f"SELECT d.status AS state FROM delivery d WHERE {_GONE}")

    def _count(self, states: str) -> Counts:
        found = self._db.rows(_STATES_THERE_ARE, (self._id,))
        names = [name for (name,) in found if name in _STATUSES]
        # One sum a state instead of GROUP BY, which would sort all rows in memory.
        sums = "".join(f", coalesce(sum(state = '{status}'), 0)" for status in names)
        total, *numbers = self._db.row(f"SELECT count(*){sums} FROM ({states})", (self._id,))
        if sum(numbers) != total:
            raise damaged(self.path, "a row is in an unknown state")
        return Counts({Status(name): number for name, number in zip(names, numbers, strict=True) if number})

    def results(self) -> Iterator[Result]:
        """Yield every row with its state, in list order, then those no longer in the list."""
        for query in (_RESULTS, _RESULTS_GONE):
            yield from map(self._result, self._db.stream(query, (self._id,)))

    def in_doubt(self, limit: int | None = None) -> list[Result]:
        """Return the rows that a person has to decide about, those of the list first.

        What an interrupted run was handing over is in doubt as well, though not marked so before the next
        run or decision (`Ledger.repair`).
        """
        rows = self._db.rows(_IN_DOUBT, (self._id, -1 if limit is None else limit))
        return list(map(self._result, rows))

    def _result(self, cells: tuple[Any, ...]) -> Result:
        row, key, address, detail, state, *delivery, contacted_row = cells
        known = None if delivery[0] is None else _delivery(self.path, key, contacted_row, address, delivery)
        return Result(row, key, address, self._status(state), detail, known)

    def _status(self, text: str) -> Status:
        status = _STATUSES.get(text)
        if status is None:
            raise damaged(self.path, f"{text!r} is not a state")
        return status

    def keys_in(self, ranges: Iterable[tuple[int, int]]) -> list[str]:
        """Return the keys of the rows in *ranges* of row numbers, both ends included.

        A row that repeats another one has no part in what became of that, so it is left out.
        """
        query = "SELECT key FROM listing WHERE campaign = ? AND row BETWEEN ? AND ? AND holds ORDER BY row"
        found = (self._db.rows(query, (self._id, first, last)) for first, last in ranges)
        return [key for rows in found for (key,) in rows]

    # --- runs and versions ----------------------------------------------------------------------------

    def last_run(self, kind: str = "send") -> Run | None:
        """Return the latest run of this *kind*."""
        row = self._db.row(_LAST_RUN, (self._id, kind))
        if row is None:
            return None
        number, kind, started, pid, version, ended, reason, counts, command = row
        begun = datetime.fromtimestamp(started, UTC)
        return Run(number, kind, begun, pid, version, moment(ended), reason, json.loads(counts), command)

    def versions(self) -> list[Version]:
        """Return the versions that rows were accepted with, latest accepted last, each with their number."""
        return [
            Version(digest, json.loads(parts), datetime.fromtimestamp(noted, UTC), accepted)
            for digest, parts, noted, accepted in self._db.rows(_VERSIONS, (self._id,))
        ]

    @property
    def preflight(self) -> str:
        """What the last complete pre-flight left to be remembered, or nothing."""
        return str(self._db.row("SELECT preflight FROM campaign WHERE id = ?", (self._id,))[0])

    def aggregates(self) -> Aggregates:
        """Return the campaign's history in figures; nothing is read before it is asked for."""
        from mailmerge.ledger.statistics import Aggregates

        return Aggregates(self._db, self._id)
