"""Reading a ledger: what is due, how many rows are in each state, the outcome of each row.

Everything is queried in SQL, and long results are streamed. The ledger has the rows that were ever contacted,
by key; the plan has the rows of the list, and `mailmerge.campaign.standing` joins the two.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import cached_property
from itertools import starmap
from typing import TYPE_CHECKING, Any, Self, cast

from msgspec import Struct, field

from mailmerge.errors import LedgerError
from mailmerge.ledger import schema
from mailmerge.ledger.databases import damaged
from mailmerge.model import TO_BE_SENT, Counts, Delivery, Status, Version
from mailmerge.sqlite import Database, moment, zoned
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mailmerge.ledger.bounces import BounceBook
    from mailmerge.ledger.copies import CopyBook
    from mailmerge.ledger.databases import LedgerDatabase
    from mailmerge.ledger.statistics import Aggregates
    from mailmerge.postgres import PostgresDatabase


class RunRecord(Struct, frozen=True):
    """One process that worked on the campaign."""

    id: int
    kind: str
    """``send``, ``test`` ..."""
    started: datetime
    pid: int
    version: str
    ended: datetime | None = None
    """None: it is still running, or was killed."""
    reason: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)
    command: str = ""
    """How its command line named the campaign."""
    plan: str = ""
    """Identifies the plan that it worked on."""


class Bookmark(Struct, frozen=True):
    """What is known about the rows of one plan without reading them."""

    own: Counts
    """The number of rows by state in the plan, without their history."""
    settled: int
    """Up to this position in the list no row is pending; some may be deferred."""


class Taken(Struct, frozen=True):
    """A row whose message a server accepted, or may have accepted."""

    key: str
    address: str
    version: str
    """Digest of the campaign version that the message was made with."""
    row_digest: str


class Sent(Struct, frozen=True):
    """An attempt by which somebody may have got a message."""

    attempt: int
    frozen: str
    """Digest of the `FrozenMessage`."""
    address: str
    at: float
    """When, in seconds since 1970."""
    unsettled: bool
    """Whether its outcome is not known, now or ever."""


# --- from cells to values ---------------------------------------------------------------------------------


_STATUSES: Mapping[str, Status] = {status.value: status for status in Status}
"""The states by their values in the tables; calling `Status` takes four times as long."""


def status_of(text: str) -> Status:
    """Return the state for a value in the tables; raises `KeyError` if it is not a state."""
    return _STATUSES[text]


_DELIVERY: dict[str, tuple[str, Callable[[Any], object] | None]] = {
    "status": ("d.status", _STATUSES.__getitem__),
    "attempts": ("d.tries", None),
    "message_id": ("coalesce(a.message_id, '')", None),
    "date": ("a.date", None),  # with its time zone, which is the column after these
    "first_attempt": ("d.first_at", moment),
    "updated": ("d.updated", moment),
    "next_at": ("d.next_at", moment),
    "phase": ("coalesce(a.phase, '')", None),
    # A person's decision about a row takes precedence over the server's earlier reply.
    "reason": ("coalesce(nullif(d.note, ''), a.reason, '')", None),
    # The reason of a bounce takes precedence over the reply that accepted the message.
    "code": ("CASE d.status WHEN 'bounced' THEN b.code ELSE a.code END", None),
    "enhanced": ("coalesce(CASE d.status WHEN 'bounced' THEN b.enhanced ELSE a.enhanced END, '')", None),
    # A ledger may come from anybody.
    "reply": ("coalesce(CASE d.status WHEN 'bounced' THEN b.words ELSE a.reply END, '')", printable),
    "version": ("coalesce(v.digest, '')", None),
    "row_digest": ("coalesce(a.row_digest, '')", None),
    "generation": ("d.generation", None),
    "bounce": ("coalesce(b.sort || ': ' || b.reason, '')", printable),
    "rows": ("coalesce(a.rows, '')", None),
}
"""The fields of `Delivery` in the tables: what to select, and how to convert the value."""

_FIELDS = Delivery.__struct_fields__[3:]  # all but key, row and address, which the list may have newer
_COLUMNS = ", ".join((*(_DELIVERY[name][0] for name in _FIELDS), "coalesce(a.utc_offset, 0)"))
_DATE = _FIELDS.index("date")
_CONVERSIONS = tuple(
    (place, convert) for place, name in enumerate(_FIELDS) if (convert := _DELIVERY[name][1]) is not None
)


def _delivery(path: Path | str, key: str, row: int, address: str, cells: list[Any]) -> Delivery:
    """Return a `Delivery` made from the values of `_COLUMNS`."""
    offset = cells.pop()
    try:
        cells[_DATE] = None if cells[_DATE] is None else zoned(cells[_DATE], offset)
        for place, convert in _CONVERSIONS:
            cells[place] = convert(cells[place])
    except (LookupError, ValueError, TypeError, OverflowError, OSError) as error:
        raise damaged(path, f"entry of {key!r}: {error}") from error
    return Delivery(key, row, address, *cells)


def _counts(kept: Mapping[str, int]) -> Counts:
    return Counts({Status(status): int(number) for status, number in kept.items()})


# --- the questions in SQL ---------------------------------------------------------------------------------

# A plus before "campaign" keeps SQLite from using the index, which has the rows in the order of their keys:
# looking up every row by it takes up to twenty times as long as reading them in the order of first contact.
_CONTACTED = f"""
SELECT d.key, coalesce(a.row, 0), coalesce(a.address, ''), {_COLUMNS} FROM delivery d
LEFT JOIN attempt a ON a.id = d.attempt LEFT JOIN version v ON v.id = d.version
LEFT JOIN bounce b ON b.id = d.bounce
"""
# The keys come in one string: a statement may have only so many parameters, and this one is compiled once.
_OF_KEYS = f"{_CONTACTED} WHERE d.campaign = ?1 AND d.key IN (SELECT value FROM json_each(?2))"
_STATUSES_OF_KEYS = """
SELECT key, status FROM delivery WHERE campaign = ?1 AND key IN (SELECT value FROM json_each(?2))
"""
_IN_STATES = f"""
{_CONTACTED} WHERE +d.campaign = ?1 AND d.status IN (SELECT value FROM json_each(?2)) ORDER BY a.row, d.key
"""
_NUMBERED = """
SELECT d.key FROM delivery d JOIN attempt a ON a.id = d.attempt
WHERE +d.campaign = ? AND a.row BETWEEN ? AND ? ORDER BY a.row
"""
_SEVERAL = """
SELECT d.key, a.rows FROM delivery d JOIN attempt a ON a.id = d.attempt WHERE +d.campaign = ? AND a.rows <> ''
"""
_NUMBERS = r"([0-9]{1,8}):"
_WAITING = "SELECT key, status FROM delivery WHERE +campaign = ? AND status IN ('pending', 'deferred')"
_RECENT = """
SELECT address, moment FROM (
    SELECT address, CASE WHEN at <= ?3 THEN at ELSE
        coalesce((SELECT min(started) FROM run WHERE campaign = ?1 AND id > attempt.run AND started < ?3), ?3)
    END AS moment
    FROM attempt WHERE campaign = ?1 AND at > ?2
) moments WHERE moment > ?2 ORDER BY moment
"""
_DEFERRED = """
SELECT key, next_at, updated FROM delivery
WHERE campaign = ? AND status = 'deferred' AND next_at IS NOT NULL ORDER BY next_at
"""
# UNION drops repetitions, so that not even a damaged file causes an endless recursion.
_EARLIER_DATE = """
WITH RECURSIVE earlier (id) AS (
    SELECT attempt FROM delivery WHERE campaign = ?1 AND key = ?2
    UNION SELECT a.previous FROM attempt a JOIN earlier e ON a.id = e.id)
SELECT a.date, a.utc_offset FROM attempt a JOIN earlier e ON a.id = e.id
WHERE a.message_id = ?3 ORDER BY a.id LIMIT 1
"""
_SET_BACK = 60.0
"""In seconds. A row that is deferred this far into the future shows that the clock was set back since."""
_GOT_IT = (Status.ACCEPTED, Status.BOUNCED, Status.DRAFTED)
"""The states of the rows that are counted by the version that they were sent with."""
_VERSIONS = """
SELECT v.digest, v.parts, v.noted, d.n FROM version v JOIN (
    SELECT version, count(*) AS n, max(attempt) AS latest FROM delivery
    WHERE +campaign = ?1 AND status IN ('accepted', 'bounced', 'drafted') GROUP BY version) d
ON d.version = v.id
ORDER BY d.latest
"""
_OTHERS = tuple(name for name in _STATUSES if name != "accepted")
# Most rows are accepted: they are counted without comparing each with every state. One sum for each of the
# other states instead of GROUP BY, which would sort the rows in memory.
_STATES = f"""
SELECT (SELECT count(*) FROM delivery WHERE +campaign = ?1), count(*),
    {", ".join(f"count(*) FILTER (WHERE status = '{name}')" for name in _OTHERS)}
FROM delivery WHERE +campaign = ?1 AND status <> 'accepted'
"""
_LAST_RUN = """
SELECT id, kind, started, pid, version, ended, reason, counts, command, plan FROM run
WHERE campaign = ? AND kind = ? ORDER BY id DESC LIMIT 1
"""


_TAKEN = """
SELECT d.key, a.address, coalesce(v.digest, ''), a.row_digest FROM delivery d
JOIN attempt a ON a.id = d.attempt LEFT JOIN version v ON v.id = d.version
WHERE +d.campaign = ? AND d.status IN ('accepted', 'bounced', 'drafted', 'in_doubt', 'handing_over')
"""
_SENT = """
SELECT id, frozen, address, at, status = 'handing_over' FROM attempt
WHERE campaign = ? AND id > ? AND status IN ('accepted', 'drafted', 'in_doubt', 'handing_over')
ORDER BY id LIMIT ?
"""

IN_DOUBT = (Status.IN_DOUBT, Status.HANDING_OVER)
"""The states about which a person has to decide. What an interrupted run was handing over is not marked as in
doubt before the next run or decision (`Ledger.repair`)."""


def now_utc() -> datetime:
    """Return the time."""
    return datetime.now(UTC)


class LedgerReader:
    """One campaign's part of a ledger, for reading; use it as a context manager.

    Every method that reads the file raises `LedgerError` if it cannot be read.

    Args:
        db: the open file; it is closed with this.
        campaign: which of the file's campaigns.
        now: the clock.

    Raises:
        LedgerError: the file does not have the campaign.

    """

    def __init__(self, db: LedgerDatabase, campaign: str, *, now: Callable[[], datetime] = now_utc) -> None:
        found = db.row("SELECT id, secret, purged, moved_to FROM campaign WHERE name = ?", (campaign,))
        if found is None:
            known = ", ".join(str(name) for (name,) in db.rows("SELECT name FROM campaign ORDER BY id"))
            raise LedgerError(
                f'{db.path} has no campaign "{campaign}"',
                code="L705",
                hint=f"it has: {known}" if known else "nothing was sent from here yet",
            )
        self.path = db.path
        self.known_as = db.known_as
        """What identifies the ledger elsewhere."""
        self.campaign = campaign
        self._db = db
        self._now = now
        self._counted: tuple[object, Counts] = (None, Counts({}))
        """The rows by state, and the mark of the database when they were counted."""
        self._id: int = found[0]
        self.secret: bytes = found[1]
        """The campaign's secret: the key for what must not be guessed (Message-IDs)."""
        self.throwaway = False
        """Whether `close` removes it, as after a rehearsal."""
        self.moved_to: str = found[3]
        """The ledger that it continues in; this one is read-only then. Empty: this one."""
        self.server = None if isinstance(db, Database) else cast("PostgresDatabase", db)
        """The connection to its server; None: the ledger is a file."""
        self.purged = found[2] is not None
        """Whether only counts are left; its secret was erased."""

    @staticmethod
    def open_read_only(path: Path, campaign: str) -> LedgerReader:
        """Open an existing ledger for reading; its bytes do not change.

        Raises:
            LedgerError: missing, damaged, of another version, or without this campaign.

        """
        db = schema.connect_read_only(path)
        try:
            return LedgerReader(db, campaign)
        except BaseException:
            db.close()
            raise

    @property
    def number(self) -> int:
        """The campaign's number in this ledger."""
        return self._id

    @cached_property
    def bounces(self) -> BounceBook:
        """The reports in the sender's mailbox about it."""
        from mailmerge.ledger.bounces import BounceBook

        return BounceBook(self._db, self._id, self._now)

    @cached_property
    def copies(self) -> CopyBook:
        """Which messages have a copy in the user's own mailbox."""
        from mailmerge.ledger.copies import CopyBook

        return CopyBook(self._db, self._id, self._now)

    def close(self) -> None:
        """Close the file; never raises."""
        self._db.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def content(self) -> str:
        """Return the digest of everything that is recorded about the campaign: the same in every ledger."""
        from mailmerge.ledger.moving import digest

        return digest(self._db, self._id)

    # --- what is left to do ---------------------------------------------------------------------------

    def deferred(self) -> Iterator[tuple[str, datetime]]:
        """Yield the keys of deferred rows with the time at which each is due, in that order.

        A time from a clock that has been set back since is meaningless: such a row is due.
        """
        now = self._now()
        for key, next_at, updated in self._db.stream(_DEFERRED, (self._id,)):
            yield key, now if updated > now.timestamp() + _SET_BACK else moment(next_at) or now

    def waiting(self) -> Iterator[tuple[str, Status]]:
        """Yield the keys of contacted rows that have to be contacted again, deferred or pending."""
        if not self._has_any(TO_BE_SENT):
            return
        for key, state in self._db.stream(_WAITING, (self._id,)):
            yield key, _STATUSES[state]

    def is_due(self, delivery: Delivery, now: datetime) -> bool:
        """Return whether a row that was contacted before may be contacted again."""
        if delivery.status is Status.PENDING:
            return True
        if delivery.status is not Status.DEFERRED:
            return False
        ahead = (delivery.updated or now) - now
        due = delivery.next_at is not None and delivery.next_at <= now
        return due or ahead.total_seconds() > _SET_BACK

    def recent(self, since: datetime, now: datetime) -> Iterator[tuple[str, datetime]]:
        """Yield addresses with the times at which they were written to after *since*, oldest first.

        A time after *now* is from a clock that was ahead: the message was sent before the next run began, and
        by now.
        """
        times = (self._id, since.timestamp(), now.timestamp())
        for address, at in self._db.rows(_RECENT, times):
            yield address, datetime.fromtimestamp(at, UTC)

    # --- what happened to the rows ---------------------------------------------------------------------

    @property
    def untouched(self) -> bool:
        """Whether no row was ever contacted."""
        return self._db.row("SELECT 1 FROM delivery WHERE campaign = ? LIMIT 1", (self._id,)) is None

    def deliveries(self, keys: Iterable[str]) -> dict[str, Delivery]:
        """Return the deliveries of the rows with these keys, by key; rows never contacted are left out."""
        return {found.key: found for found in self._found(self._db.rows, _OF_KEYS, json.dumps([*keys]))}

    def date_of(self, delivery: Delivery, message_id: str) -> datetime | None:
        """Return the Date of the row's message when it was first sent; None: it never was."""
        if not delivery.message_id or delivery.message_id == message_id:
            return delivery.date
        found = self._db.row(_EARLIER_DATE, (self._id, delivery.key, message_id))
        try:
            return zoned(*found) if found and found[0] is not None else None
        except (ValueError, TypeError, OverflowError, OSError) as error:
            raise damaged(self.path, f"a Date of {delivery.key!r}: {error}") from error

    def statuses(self, keys: Iterable[str]) -> dict[str, Status]:
        """Return the states of contacted rows by key: quicker than `deliveries`."""
        found = self._db.rows(_STATUSES_OF_KEYS, (self._id, json.dumps([*keys])))
        try:
            return {key: _STATUSES[state] for key, state in found}
        except KeyError as error:
            raise damaged(self.path, f"{error} is not a state") from error

    def contacted(self, *states: Status) -> Iterator[Delivery]:
        """Yield the contacted rows that are in one of these *states*, by row number."""
        if Status.ACCEPTED not in states and not self._has_any(states):
            return iter(())
        return self._found(self._db.stream, _IN_STATES, json.dumps(states))

    def _found(
        self, ask: Callable[[str, Sequence[object]], Iterable[Any]], query: str, *cells: object
    ) -> Iterator[Delivery]:
        for key, row, address, *known in ask(query, (self._id, *cells)):
            yield _delivery(self.path, key, row, address, known)

    def taken(self) -> Iterator[Taken]:
        """Yield the rows that have their message, or may have it, whether or not they are in the list."""
        return starmap(Taken, self._db.stream(_TAKEN, (self._id,)))

    def sent(self, after: int, most: int) -> list[Sent]:
        """Return the next *most* attempts by which somebody may have got a message, in order.

        *after* is the number of an attempt: only later ones.
        """
        return [
            Sent(attempt, frozen, address, at, bool(unsettled))
            for attempt, frozen, address, at, unsettled in self._db.rows(_SENT, (self._id, after, most))
        ]

    def keys_in(self, ranges: Iterable[tuple[int, int]]) -> list[str]:
        """Return the keys of rows whose number was in *ranges*, ends included, when last contacted."""
        wanted = list(ranges)
        found = (self._db.rows(_NUMBERED, (self._id, first, last)) for first, last in wanted)
        keys = dict.fromkeys(key for rows in found for (key,) in rows)
        for key, rows in self._db.rows(_SEVERAL, (self._id,)):
            numbers = (int(number) for number in re.findall(_NUMBERS, rows))
            if any(first <= number <= last for number in numbers for first, last in wanted):
                keys.setdefault(key)
        return list(keys)

    @property
    def handed_over(self) -> int:
        """How many hand-overs were ever recorded: it only grows, so that an old copy is noticed."""
        return int(self._db.row("SELECT handed_over FROM campaign WHERE id = ?", (self._id,))[0])

    # --- how many rows are in each state ----------------------------------------------------------------

    def counts(self) -> Counts:
        """Return the number of rows by state, including those that are not in the list any more.

        These are the counts of the latest plan (`Ledger.note_standing`), updated by what happened since.
        """
        kept = self._kept_counts()
        if kept is not None:
            return kept
        planned, states = self._standing()
        counts = dict(planned.by_status)
        now = self.states()
        for status in {*now, *states}:
            counts[status] = counts.get(status, 0) + now[status] - states[status]
        counts[Status.PENDING] = counts.get(Status.PENDING, 0) - (now.total - states.total)
        return Counts({status: number for status, number in counts.items() if number > 0})

    def _kept_counts(self) -> Counts | None:
        """Return the counts at the end of a run, if no row has changed since."""
        (kept,) = self._db.row("SELECT counts FROM campaign WHERE id = ?", (self._id,))
        try:
            return _counts(json.loads(kept)) if kept else None
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged(self.path, f"the kept counts: {error}") from error

    def states(self) -> Counts:
        """Return the number of contacted rows by state."""
        mark = self._db.change_mark()
        if mark is None or mark != self._counted[0]:
            self._counted = mark, self._count_states()
        return self._counted[1]

    def _has_any(self, states: Iterable[Status]) -> bool:
        """Return whether a row may be in one of these few *states*; counting once replaces many searches."""
        if self._db.change_mark() is None:
            return True
        counts = self.states()
        return any(counts[state] for state in states)

    def _count_states(self) -> Counts:
        total, others, *numbers = self._db.row(_STATES, (self._id,))
        if sum(numbers) != others:
            raise damaged(self.path, "a row is in an unknown state")
        found = dict(zip(_OTHERS, numbers, strict=True))
        found["accepted"] = total - others
        return Counts({state: found[name] for name, state in _STATUSES.items() if found[name]})

    def _standing(self) -> tuple[Counts, Counts]:
        """Return the counts of the latest plan: all rows by state, and the contacted ones among them."""
        (kept,) = self._db.row("SELECT standing FROM campaign WHERE id = ?", (self._id,))
        if not kept:
            states = self.states()
            return Counts({**states.by_status, Status.PENDING: 0}), states
        try:
            counts, states = json.loads(kept)
            return _counts(counts), _counts(states)
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged(self.path, f"the kept counts: {error}") from error

    def bookmark(self, mark: str) -> Bookmark | None:
        """Return the bookmark of the plan *mark*; None: none that is still valid."""
        (kept,) = self._db.row("SELECT bookmark FROM campaign WHERE id = ?", (self._id,))
        if not kept:
            return None
        try:
            of, own, settled = json.loads(kept)
            return Bookmark(_counts(own), int(settled)) if of == mark else None
        except (ValueError, AttributeError, TypeError) as error:
            raise damaged(self.path, f"the bookmark: {error}") from error

    # --- runs and versions ----------------------------------------------------------------------------

    def last_run(self, kind: str = "send") -> RunRecord | None:
        """Return the latest run of this *kind*."""
        row = self._db.row(_LAST_RUN, (self._id, kind))
        if row is None:
            return None
        number, kind, started, pid, version, ended, reason, counts, command, plan = row
        begun = datetime.fromtimestamp(started, UTC)
        tally = json.loads(counts)
        return RunRecord(number, kind, begun, pid, version, moment(ended), reason, tally, command, plan)

    def versions(self) -> list[Version]:
        """Return the versions that rows were accepted with, latest last, each with its number of rows."""
        found = self._db.rows("SELECT digest, parts, noted FROM version WHERE campaign = ?", (self._id,))
        if len(found) > 1:
            found = self._db.rows(_VERSIONS, (self._id,))
        elif found:  # as nearly always: all rows were sent with it
            states = self.states()
            accepted = sum(states[state] for state in _GOT_IT)
            found = [(*found[0], accepted)] if accepted else []
        return [
            Version(digest, json.loads(parts), datetime.fromtimestamp(noted, UTC), accepted)
            for digest, parts, noted, accepted in found
        ]

    def aggregates(self, numbers: Callable[[Sequence[str]], Mapping[str, int]]) -> Aggregates:
        """Return the campaign's statistics; nothing is read before it is needed.

        *numbers* returns the row numbers of keys in the list.
        """
        from mailmerge.ledger.statistics import Aggregates

        return Aggregates(self._db, self._id, numbers)
