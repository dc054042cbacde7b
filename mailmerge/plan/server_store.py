"""A finished plan in PostgreSQL, so that other machines can send it, and report its results.

It is loaded by COPY in one transaction, in its stored form: rows and findings as msgspec encodes them,
messages in their frames. Files of messages are blobs by their SHA-256, each once, whatever plans have it. If
messages have unsubscribe tokens they are filled in here: the workers have no key for them; the digest of a
message stays that of the placeholder.

What is in the database was written by whoever has the role. So whatever is read has a largest size, a
checksum and a type, addresses and header fields are looked at again, and a file is what its name, the digest
of it, says.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import contextlib
import hashlib
import zlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final, Self

from mailmerge.errors import LedgerError, PlanDamaged
from mailmerge.exchange import arrays
from mailmerge.message.verify import is_sound
from mailmerge.model import Status
from mailmerge.plan.message_file import BadFrame, FrameReader
from mailmerge.plan.sqlite_store import FINDING, MESSAGE, ROW, UNDECODABLE, key_octets
from mailmerge.plan.store import PlanRow
from mailmerge.postgres import TableGroup, known_versions
from mailmerge.version import program_version, sources_version

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from types import EllipsisType

    from mailmerge.model import Diagnostic, FrozenMessage
    from mailmerge.postgres import PostgresDatabase

GROUP: Final = TableGroup(
    "plan",
    1,
    """
-- "terms" are what a worker needs to know of the campaign besides its messages; "digest" is that of all else
-- in this row. "messages" is how many there are; NULL: they were removed. "content" is the digest of what
-- the other tables have of it, so that who loads it again can tell whether that is still whole.
CREATE TABLE plan (
    id INTEGER PRIMARY KEY,
    campaign INTEGER NOT NULL,
    name TEXT NOT NULL,
    program TEXT NOT NULL,
    made TEXT NOT NULL,
    loaded REAL NOT NULL,
    size INTEGER NOT NULL,
    messages INTEGER,
    summary BLOB NOT NULL,
    facts BLOB NOT NULL,
    dictionary BLOB NOT NULL,
    digest BLOB NOT NULL,
    terms BLOB NOT NULL,
    content TEXT NOT NULL DEFAULT '',
    UNIQUE (campaign, name)
);
-- "holder" is a hash of its key where what has happened to that is about this row.
CREATE TABLE plan_row (
    plan INTEGER NOT NULL,
    n INTEGER NOT NULL,
    row INTEGER NOT NULL,
    ready BOOLEAN NOT NULL,
    holder BLOB,
    address BLOB NOT NULL,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (plan, n)
);
CREATE INDEX plan_row_number ON plan_row (plan, row);
CREATE INDEX plan_row_holder ON plan_row (plan, holder) WHERE holder IS NOT NULL;
CREATE TABLE plan_message (
    plan INTEGER NOT NULL,
    number INTEGER NOT NULL,
    key BLOB NOT NULL,
    octets INTEGER NOT NULL,
    frame BLOB NOT NULL,
    PRIMARY KEY (plan, number)
);
CREATE TABLE plan_finding (
    plan INTEGER NOT NULL,
    id INTEGER NOT NULL,
    n INTEGER,
    data BLOB NOT NULL,
    checksum INTEGER NOT NULL,
    PRIMARY KEY (plan, id)
);
CREATE INDEX plan_finding_row ON plan_finding (plan, n);
CREATE TABLE blob (sha256 BLOB PRIMARY KEY, size INTEGER NOT NULL);
CREATE TABLE blob_piece (
    sha256 BLOB NOT NULL,
    piece INTEGER NOT NULL,
    content BLOB NOT NULL,
    PRIMARY KEY (sha256, piece)
);
CREATE TABLE plan_blob (
    plan INTEGER NOT NULL,
    sha256 BLOB NOT NULL,
    PRIMARY KEY (plan, sha256)
);
CREATE INDEX plan_blob_of ON plan_blob (sha256);
-- Compressed already, or not to be gained anything with.
ALTER TABLE plan_message ALTER COLUMN frame SET STORAGE EXTERNAL;
ALTER TABLE blob_piece ALTER COLUMN content SET STORAGE EXTERNAL;
""",
)
_LOOKED_UP: Final = 100
"""How many damaged rows are looked for in the ledger: each time all of the campaign's keys are read."""
_LONGEST_ADDRESS: Final = 320
_KEY_OF: Final = """
SELECT key FROM delivery WHERE campaign = ? AND substring(sha256(convert_to(key, 'UTF8')) FROM 1 FOR 16) = ?
LIMIT 1
"""
_OF_A_PLAN: Final = ("plan_row", "plan_message", "plan_finding", "plan_blob")

_BLOBS_OF: Final = """
DELETE FROM blob WHERE sha256 IN (SELECT sha256 FROM plan_blob WHERE plan = ANY(?1)) RETURNING sha256
"""
_UNUSED_BLOBS: Final = """
DELETE FROM blob WHERE sha256 IN (SELECT sha256 FROM plan_blob WHERE plan = ANY(?1))
    AND NOT EXISTS (SELECT 1 FROM plan_blob o WHERE o.sha256 = blob.sha256 AND o.plan <> ALL(?1))
RETURNING sha256
"""
_MAY_REMOVE: Final = """
SELECT has_column_privilege('plan', 'messages', 'UPDATE') AND bool_and(has_table_privilege(t, 'DELETE'))
FROM unnest(ARRAY['plan_message', 'plan_blob', 'blob', 'blob_piece']) AS t
"""
_HAS_NO_MESSAGES: Final = "UPDATE plan SET messages = NULL WHERE id = ? AND loaded < ?"
CONTENT: Final = """
SELECT md5(concat(
    (SELECT string_agg(md5(address || data) || checksum || row, ',' ORDER BY n)
        FROM plan_row WHERE plan = ?1),
    (SELECT string_agg(md5(key || frame) || octets, ',' ORDER BY number) FROM plan_message WHERE plan = ?1),
    (SELECT string_agg(md5(data) || checksum, ',' ORDER BY id) FROM plan_finding WHERE plan = ?1),
    (SELECT string_agg(md5(content) || piece, ',' ORDER BY sha256, piece) FROM blob_piece
        WHERE sha256 IN (SELECT sha256 FROM plan_blob WHERE plan = ?1))))
"""
_HEAD: Final = "id, name, program, made, size, messages, summary, facts, dictionary, digest, terms"
BLOBS_LOCK: Final = 7307789
"""Plans are loaded side by side, but not while blobs are removed that one of them may have found."""
PIECE: Final = 1 << 20
"""Octets of a piece of a blob."""
LARGEST: Final = 256 << 20
"""The most octets that a message, or a file of one, may have: more than any mail service takes."""
_PAGE: Final = 1000
_AHEAD: Final = 100
"""Messages that are read together."""
_SMALL: Final = 1 << 16
"""Octets up to which values are read many at a time."""
_ROWS_AT: Final = f"""
SELECT n, CASE WHEN octet_length(data) <= {_SMALL} THEN data END, checksum FROM mailmerge.plan_row
WHERE plan = ?1 AND n = ANY(?2::bigint[])
"""
_MESSAGES_AT: Final = f"""
SELECT number, key, octets, frame FROM mailmerge.plan_message
WHERE plan = ?1 AND number = ANY(?2::bigint[]) AND octet_length(key) + octet_length(frame) <= {_SMALL}
"""
_HEADING: Final = 64 << 20
"""The most octets of summary, facts and dictionary together."""


def own_version() -> str:
    """Return the version of this program, as plans have it; that of sources identifies each edit."""
    version = program_version()
    return sources_version() if version.startswith("0+") else version


def program_of(db: PostgresDatabase, number: int) -> str:
    """Return the version of the program that made a plan; empty: the plan does not exist."""
    found = db.row("SELECT program FROM plan WHERE id = ?", (number,)) if is_there(db) else None
    return str(found[0]) if found else ""


def head_digest(*parts: object) -> bytes:
    """Return the digest of a plan's name and of everything else in its row except its terms."""
    made = hashlib.sha256()
    for part in parts:
        octets = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogatepass")
        made.update(b"%d %b " % (len(octets), octets))
    return made.digest()


def key_hash(key: bytes) -> bytes:
    """Return the hash by which the row that owns this key is found: an index accepts no long values."""
    return hashlib.sha256(key).digest()[:16]


# --- removing -------------------------------------------------------------------------------------------


def remove(db: PostgresDatabase, campaign: int, *, keep: Collection[int] = ()) -> int:
    """Remove a campaign's plans from the database, and the blobs that no other plan has; return how many.

    Args:
        db: open for writing.
        campaign: its number in the ledger.
        keep: the numbers of plans that stay.

    Raises:
        LedgerError: they cannot be removed.

    """
    if not is_there(db):
        return 0
    with db.transaction():
        query = "SELECT id FROM plan WHERE campaign = ? AND id <> ALL(?::int8[]) FOR UPDATE"
        plans = [int(number) for (number,) in db.rows(query, (campaign, list(keep)))]
        if plans:
            empty_plans(db, plans)
            db.execute("DELETE FROM plan WHERE id = ANY(?)", (plans,))
        return len(plans)


def remove_messages(db: PostgresDatabase, number: int, *, loaded_before: datetime) -> bool:
    """Remove a plan's messages and files, since nothing is left to be sent; its rows stay.

    Args:
        db: open for writing.
        number: the plan's.
        loaded_before: when it began to be sent, by the server's clock.

    Returns:
        Whether they are removed: not where it was loaded again since, nor where this user may not.

    Raises:
        LedgerError: they cannot be removed.

    """
    with db.transaction():
        if not db.row(_MAY_REMOVE)[0]:
            return False
        when = loaded_before.timestamp()
        if not db.execute(_HAS_NO_MESSAGES, (number, when)).rowcount:
            return False
        _remove_blobs(db, [number])
        db.execute("DELETE FROM plan_message WHERE plan = ?", (number,))
    return True


def empty_plans(db: PostgresDatabase, plans: list[int], *, anew: bool = False) -> None:
    """Remove everything that plans have except their own rows; in a transaction.

    *anew*: the plan is loaded again in the same transaction, and blobs that others share may be damaged, too.
    """
    _remove_blobs(db, plans, _BLOBS_OF if anew else _UNUSED_BLOBS)
    for table in _OF_A_PLAN:
        db.execute(f"DELETE FROM {table} WHERE plan = ANY(?)", (plans,))


def _remove_blobs(db: PostgresDatabase, plans: list[int], which: str = _UNUSED_BLOBS) -> None:
    db.execute("SELECT pg_advisory_xact_lock(?)", (BLOBS_LOCK,))
    unused = [bytes(sha256) for (sha256,) in db.rows(which, (plans,))]
    if unused:
        db.execute("DELETE FROM blob_piece WHERE sha256 = ANY(?)", (unused,))
    db.execute("DELETE FROM plan_blob WHERE plan = ANY(?)", (plans,))


def is_there(db: PostgresDatabase) -> bool:
    """Return whether the database has the tables for plans, of the version that this program supports."""
    return known_versions(db).get(GROUP.name) == GROUP.version


def is_readable(db: PostgresDatabase) -> bool:
    """Return whether the tables for plans exist, and this user may read them."""
    if not is_there(db):
        return False
    tables = "unnest(ARRAY['plan', 'plan_row', 'plan_message', 'plan_finding', 'blob_piece'])"
    return bool(db.row(f"SELECT bool_and(has_table_privilege(t, 'SELECT')) FROM {tables} AS t")[0])


# --- reading --------------------------------------------------------------------------------------------


class ServerPlan:
    """Reads a plan that was loaded; see `PlanReader`. Get one from `open` or `find`.

    It asks the database for a page at a time, and keeps neither transaction nor cursor open meanwhile.

    Args:
        db: the connection; closing the plan leaves it open.
        head: the plan's row.
        shown_for: the campaign's number, where it is only shown: a damaged row is then replaced by one that
            says so. None: it is to be sent, and a damaged row is an error.

    Raises:
        LedgerError: the row is damaged.

    """

    def __init__(self, db: PostgresDatabase, head: Sequence[object], *, shown_for: int | None = None) -> None:
        self._shown_for = shown_for
        self._replaced = 0
        number, name, program, made, size, messages, summary, facts, dictionary, digest, terms = head
        self.db = db
        self._ahead: dict[int, tuple[bytes, int, bytes]] = {}
        self._latest: dict[int, tuple[bytes, int, bytes]] = {}
        try:
            assert isinstance(number, int)
            assert isinstance(size, int)
            self.number = number
            self.name = str(name)
            self.program = str(program)
            self.made = datetime.fromisoformat(str(made)).astimezone(UTC)
            self.size = size
            self.has_messages = messages is not None
            self.summary, self.facts, self._dictionary, self.terms = (
                octets if isinstance(octets, bytes) else b"" for octets in (summary, facts, dictionary, terms)
            )
        except (AssertionError, ValueError) as error:
            raise _no_plan(db, number) from error
        parts = (program, made, size, self.summary, self.facts, self._dictionary)
        if digest != head_digest(self.name, *parts):
            raise _no_plan(db, number)
        self._unpack = FrameReader(lambda: self._dictionary or None).unpack

    @classmethod
    def open(cls, db: PostgresDatabase, number: int, *, to_send: bool = False) -> Self:
        """Open a plan.

        Args:
            db: where it was loaded.
            number: what `load` returned.
            to_send: its messages are to be sent, so another version of the program is refused.

        Raises:
            LedgerError: it does not exist or is damaged (L751), or another version's (L750).

        """
        found = cls._found(db, "id = ?", number) if is_there(db) else None
        if found is None:
            raise _no_plan(db, number)
        if to_send and found.program != own_version():
            raise LedgerError(
                f"plan {number} in {db.path} was made by mailmerge-kit {found.program}, and this is "
                f"{own_version()}",
                code="L750",
                hint="install the same version on all machines; nothing was sent from here",
            )
        return found

    @classmethod
    def find(cls, db: PostgresDatabase, campaign: int, name: str) -> Self | None:
        """Open a campaign's plan by its name, to show what is in it; None: it is not there.

        Raises:
            LedgerError: it is damaged (L751).

        """
        if not is_there(db):
            return None
        return cls._found(db, "campaign = ? AND name = ?", campaign, name, shown_for=campaign)

    @classmethod
    def _found(
        cls, db: PostgresDatabase, which: str, *cells: object, shown_for: int | None = None
    ) -> Self | None:
        size = "octet_length(summary) + octet_length(facts) + octet_length(dictionary) + octet_length(terms)"
        head = db.row(f"SELECT {_HEAD} FROM plan WHERE {which} AND {size} <= {_HEADING}", cells)
        return None if head is None else cls(db, head, shown_for=shown_for)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `PlanReader`; the connection stays open."""
        self._ahead.clear()
        self._latest.clear()

    # --- rows ---------------------------------------------------------------------------------------------

    def rows(self, *, after: int = -1, ready: bool = False) -> Iterator[PlanRow]:
        """See `PlanReader`."""
        return self._rows("n", "n > ?" + (" AND ready" if ready else ""), after)

    def rows_numbered(self, ranges: Iterable[tuple[int, int]]) -> Iterator[PlanRow]:
        """See `PlanReader`."""
        for first, last in ranges:
            yield from self._rows("row", f"row > ? AND row <= {int(last)}", first - 1)

    def _rows(self, column: str, which: str, after: int) -> Iterator[PlanRow]:
        """Yield the rows for which *which* is true, a page at a time, by a *column* that identifies them."""
        small = f"CASE WHEN octet_length(data) <= {_SMALL} THEN data END"
        query = (
            f"SELECT n, {small}, checksum, {column} FROM plan_row WHERE plan = ? AND {which} "
            f"ORDER BY {column} LIMIT {_PAGE}"
        )
        while True:
            page = self.db.rows(query, (self.number, after))
            for n, data, checksum, _ in page:
                yield self._row(n, data, checksum)
            if len(page) < _PAGE:
                return
            after = page[-1][3]

    def _some(self, which: str, *cells: object) -> list[PlanRow]:
        small = f"CASE WHEN octet_length(data) <= {_SMALL} THEN data END"
        query = f"SELECT n, {small}, checksum FROM plan_row WHERE plan = ? AND {which}"
        return [self._row(*found) for found in self.db.rows(query, (self.number, *cells))]

    def _row(self, n: int, data: bytes | None, checksum: int) -> PlanRow:
        caught: tuple[type[Exception], ...] = UNDECODABLE
        if self._shown_for is not None:
            caught = (*caught, PlanDamaged)
        with contextlib.suppress(*caught):
            if (row := ROW.decode(self._whole("plan_row", "n", n, data, checksum))).n == n:
                return row
        if self._shown_for is None:
            raise self._damaged(f"the row at place {n} is not what was written")
        return self._replacement(n)

    def _replacement(self, n: int) -> PlanRow:
        """Return what can be said of a damaged row: its number, and what the ledger has of it."""
        query = "SELECT row, address, holder FROM plan_row WHERE plan = ? AND n = ?"
        number, address, holder = self.db.row(query, (self.number, n))
        self._replaced += 1
        known = None
        if holder is not None and self._replaced <= _LOOKED_UP:
            known = self.db.row(_KEY_OF, (self._shown_for, holder))
        return PlanRow(
            n=n,
            row=number,
            key=known[0] if known else "",
            address=address[:_LONGEST_ADDRESS].decode("utf-8", "replace"),
            status=Status.INVALID,
            detail="what the database has of this row is damaged (L752)",
            holds=known is not None,
        )

    def _whole(self, table: str, column: str, place: int, data: bytes | None, checksum: int) -> bytes:
        """Return the data of a row or finding; *data* is None if it was too large to be read with others."""
        if data is None:
            which = f"plan = ? AND {column} = ? AND octet_length(data) <= {LARGEST}"
            query = f"SELECT data FROM {table} WHERE {which}"
            (data,) = self.db.row(query, (self.number, place)) or (b"",)
        assert data is not None
        if zlib.crc32(data) != checksum:
            raise self._damaged(f"{table} {place} is not what was written")
        return data

    def addresses(self) -> Iterator[str]:
        """See `PlanReader`; what is longer than an address can be is left out."""
        after = -1
        query = (
            "SELECT n, address FROM plan_row WHERE plan = ? AND n > ? AND address <> '' "
            f"AND octet_length(address) <= 1000 ORDER BY n LIMIT {_PAGE * 10}"
        )
        while page := self.db.rows(query, (self.number, after)):
            for _, address in page:
                yield address.decode("utf-8", "surrogatepass")
            after = page[-1][0]

    def ready_ends(self) -> tuple[PlanRow, PlanRow] | None:
        """See `PlanReader`."""
        ends = [*self._some("ready ORDER BY n LIMIT 1"), *self._some("ready ORDER BY n DESC LIMIT 1")]
        return (ends[0], ends[1]) if ends else None

    def others(self, row: PlanRow) -> list[PlanRow]:
        """See `PlanReader`."""
        return self._some("n = ANY(?) ORDER BY n", list(row.others)) if row.others else []

    def holders(self, keys: Sequence[str]) -> dict[str, PlanRow]:
        """See `PlanReader`."""
        wanted = {key for key in keys if key}
        hashes = [key_hash(key_octets(key)) for key in wanted]
        found = self._some("holder = ANY(?)", hashes) if hashes else []
        return {row.key: row for row in found if row.key in wanted}

    # --- messages -----------------------------------------------------------------------------------------

    def message(self, number: int) -> FrozenMessage:
        """See `PlanReader`."""
        if not self.has_messages:
            raise self._damaged("its messages were removed")
        if number not in self._ahead and not self._latest:
            self._take("number >= ? ORDER BY number LIMIT ?", number, _AHEAD)
        key, octets, frame = self._ahead.get(number) or self._large(number)
        try:
            frozen = MESSAGE.decode(self._unpack(frame, max(0, min(octets, LARGEST))))
        except (BadFrame, *UNDECODABLE) as error:
            raise self._damaged(f"message {number}: {error}") from error
        if key_octets(frozen.key) != key or not is_sound(frozen):
            raise self._damaged(f"message {number} is not what was written")
        return frozen

    def request(self, places: Sequence[int]) -> None:
        """Begin to read the rows at these places, with their messages, so that `message` finds those.

        Messages of the last two requests are kept, small ones only: one may be used while the next arrives.
        """
        cells = (self.number, arrays((("n", "bigint"),), [(n,) for n in places])[0])
        self.db.send([(_ROWS_AT, cells), (_MESSAGES_AT, cells)])

    def requested(self) -> dict[str, PlanRow]:
        """Wait for what was requested; return the rows by key, without damaged ones.

        Raises:
            LedgerError: the database cannot be asked.

        """
        found, messages = self.db.receive()
        latest = {number: (key, octets, frame) for number, key, octets, frame in messages}
        self._ahead, self._latest = self._latest | latest, latest
        rows: dict[str, PlanRow] = {}
        for n, data, checksum in found:
            with contextlib.suppress(PlanDamaged):
                row = self._row(n, data, checksum)
                rows[row.key] = row
        return rows

    def _take(self, which: str, *cells: object) -> None:
        query = (
            f"SELECT number, key, octets, frame FROM (SELECT * FROM plan_message WHERE plan = ? AND {which}) "
            f"AS m WHERE octet_length(key) + octet_length(frame) <= {_SMALL}"
        )
        found = self.db.rows(query, (self.number, *cells))
        self._ahead = {number: (key, octets, frame) for number, key, octets, frame in found}

    def _large(self, number: int) -> tuple[bytes, int, bytes]:
        found = self.db.row(
            "SELECT key, octets, frame FROM plan_message WHERE plan = ? AND number = ? "
            f"AND octet_length(key) + octet_length(frame) <= {LARGEST}",
            (self.number, number),
        )
        if found is None:
            raise self._damaged(f"it has no message {number}")
        return found  # type: ignore[no-any-return]

    # --- findings, and all as it is kept ------------------------------------------------------------------

    def findings(self, n: int | EllipsisType | None = ...) -> Iterator[tuple[int | None, Diagnostic]]:
        """See `PlanReader`."""
        which = "" if n is ... else "AND n IS NULL" if n is None else f"AND n = {int(n)}"
        for place, data in self._findings(which):
            if data is None:
                continue
            try:
                yield place, FINDING.decode(data)
            except UNDECODABLE as error:
                raise self._damaged("a finding is not what was written") from error

    def _findings(self, which: str = "") -> Iterator[tuple[int | None, bytes | None]]:
        """Yield findings; None for a damaged one of a plan that is only shown."""
        after = -1
        query = (
            f"SELECT id, n, CASE WHEN octet_length(data) <= {_SMALL} THEN data END, checksum "
            f"FROM plan_finding WHERE plan = ? AND id > ? {which} ORDER BY id LIMIT {_PAGE}"
        )
        while page := self.db.rows(query, (self.number, after)):
            for found, n, data, checksum in page:
                try:
                    yield n, self._whole("plan_finding", "id", found, data, checksum)
                except PlanDamaged:
                    if self._shown_for is None:
                        raise
                    yield n, None
            after = page[-1][0]

    def _damaged(self, why: str) -> PlanDamaged:
        return PlanDamaged(
            f"plan {self.number} in {self.db.path} cannot be used: {why}",
            hint="send it from the campaign's folder again: what is missing is loaded again, nothing is lost",
        )


def _no_plan(db: PostgresDatabase, number: object) -> LedgerError:
    return LedgerError(
        f"{db.path} has no plan {number} that can be used",
        code="L751",
        hint="send the campaign from its folder again: the plan is loaded again, and nothing is lost",
    )
