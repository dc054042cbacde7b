"""A plan in two files: ``<name>.plan``, an SQLite database, and ``<name>.messages`` with the frozen messages.

The name is the first digits of the SHA-256 of the plan's facts, so it is known when the plan is complete.
Both files are written under temporary names and renamed when they are complete, the messages first: so a
database has its messages next to it, or wrong ones, which their token shows. From then on neither changes.
Nothing is synchronised to disk: damage after a power cut is noticed when the plan is opened or read, and the
plan is made again.

Rows, messages and findings are kept as msgspec encodes them, with the few numbers that they are found by.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any, BinaryIO, Generic, Self, TypeVar

import msgspec

from mailmerge import files
from mailmerge.errors import FileError
from mailmerge.model import Diagnostic, FrozenMessage
from mailmerge.plan.message_file import (
    TOKEN,
    BadFrame,
    MessageFileReader,
    MessageFileWriter,
    compressed,
    compressor,
)
from mailmerge.plan.store import (
    FINISHED,
    NOT_ADDED,
    NOT_PACKED,
    OUT_OF_ORDER,
    PlanRow,
    damaged,
    following,
    refuse,
)
from mailmerge.sqlite import Database, grouped, is_full

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from pathlib import Path
    from types import EllipsisType

    from mailmerge.errors import MailmergeError, PlanDamaged
    from mailmerge.plan.store import PackedMessage, PackedRow, PlanReader

NAME_DIGITS = 16
SUFFIX = ".plan"
MESSAGES_SUFFIX = ".messages"
_SPOOL_SUFFIX = ".rows"

_APPLICATION = 0x6D6D706C  # "mmpl"
_FORMAT = 4
_BATCH = 1000
"""Rows that are inserted together: one by one costs several times as much."""
_LOOK_AHEAD = 100
"""Messages whose places are read together."""
_SCHEMA = f"""
PRAGMA application_id = {_APPLICATION};
PRAGMA user_version = {_FORMAT};
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA locking_mode = EXCLUSIVE;
CREATE TABLE meta (name TEXT PRIMARY KEY, value);
CREATE TABLE row (
    n INTEGER PRIMARY KEY, row INTEGER, ready INTEGER, holds INTEGER, key BLOB, address BLOB, data BLOB
);
CREATE TABLE message (number INTEGER PRIMARY KEY, key BLOB, place INTEGER, length INTEGER, octets INTEGER);
CREATE TABLE finding (id INTEGER PRIMARY KEY, n INTEGER, data BLOB);
BEGIN;
"""
_REPLACE = "UPDATE row SET row = ?, ready = ?, holds = ?, key = ?, address = ?, data = ? WHERE n = ?"
_REPEATED = """
SELECT data FROM row WHERE key IN (SELECT key FROM row WHERE key <> x'' GROUP BY key HAVING count(*) > 1)
"""
_REPEATED_ADDRESS = """
OR ({counts} AND address IN (SELECT address FROM row WHERE {counts} GROUP BY address HAVING count(*) > 1))
"""

_WITH_INDEXES = 1.3
"""What the database grows by when it is finished."""
_OTHERS = "SELECT data FROM row WHERE n IN (SELECT value FROM json_each(?)) ORDER BY n"
_ROOM = "free some space, or set MAILMERGE_CACHE_DIR to a folder that has some"


_Kept = TypeVar("_Kept")


class Form(Generic[_Kept]):
    """How values of one type are kept.

    Text that is not valid Unicode (lone surrogates in a caller's rows) has no UTF-8, so a value with such
    text is kept as JSON, which has escapes for it. All values are arrays or tables, so the first octet tells.
    """

    def __init__(self, kind: type[_Kept]) -> None:
        self._kind = kind
        self._encode = msgspec.msgpack.Encoder().encode

    @cached_property
    def _decode(self) -> Callable[[bytes], _Kept]:
        """Reads what is packed: most commands that make a plan never read a row of it with this form."""
        return msgspec.msgpack.Decoder(self._kind).decode

    def encode(self, value: _Kept) -> bytes:
        """Return what `decode` reads."""
        try:
            return self._encode(value)
        except UnicodeEncodeError:
            return json.dumps(msgspec.to_builtins(value)).encode("ascii")

    def decode(self, data: bytes) -> _Kept:
        """Read it back.

        Raises:
            ValueError: it is damaged.

        """
        if data[:1] in {b"{", b"["}:
            return msgspec.convert(json.loads(data), self._kind)
        return self._decode(data)


UNDECODABLE = (msgspec.MsgspecError, ValueError, TypeError, RuntimeError)
"""What `Form.decode` raises; RuntimeError: too deep, or an envelope without recipients."""
ROW = Form(PlanRow)
MESSAGE = Form(FrozenMessage)
FINDING = Form(Diagnostic)


def key_octets(text: str) -> bytes:
    """Return a key or an address as rows and messages are found by it."""
    return text.encode("utf-8", "surrogatepass")


def pack_row(row: PlanRow) -> PackedRow:
    """Pack a row; its key and its address find the first row of a message only."""
    if row.first is not None:
        return (row.n, row.row, False, False, b"", b"", ROW.encode(row))
    found_by = (row.n, row.row, row.ready, row.holds, key_octets(row.key), key_octets(row.address.lower()))
    return (*found_by, ROW.encode(row))


class MessagePacker:
    """Packs messages of one plan, but for its first ones.

    Args:
        dictionary: what `PlanWriter.dictionary` is.

    """

    def __init__(self, dictionary: bytes) -> None:
        self._compress = compressor(dictionary)

    def pack(self, frozen: FrozenMessage) -> PackedMessage:
        """Pack a message."""
        encoded = MESSAGE.encode(frozen)
        return key_octets(frozen.key), compressed(self._compress, encoded), len(encoded)


class SqlitePlanWriter:
    """Makes a plan in a folder of ours; see `PlanWriter`.

    Args:
        place: the beginning of the paths of both files; the plan's name and their suffixes follow.
        made: now, in UTC.
        owner: whose plan it is, for the sweep of the folder.

    Raises:
        FileError: no file can be made there.

    """

    def __init__(self, place: Path, made: datetime, owner: str = "") -> None:
        self._place = place
        self._made = made
        self._owner = owner
        self._token = os.urandom(TOKEN)
        self._rows: list[tuple[object, ...]] = []
        self._replaced: list[tuple[object, ...]] = []
        self._messages: list[tuple[int, bytes, int, int, int]] = []
        self._findings: list[tuple[int | None, bytes]] = []
        self._last = -1
        self._row_count = 0
        self._message_count = 0
        self._spool: BinaryIO | None = None
        with contextlib.ExitStack() as opened:
            self._drafts = opened.enter_context(files.Drafts(place.parent))
            self._stream = self._drafts.create(place.name + MESSAGES_SUFFIX)
            opened.callback(_discard, self._stream)
            connection = self._drafts.database(place.name + SUFFIX)
            path = place.with_name(place.name + SUFFIX)
            self._db = opened.enter_context(Database(connection, path, _unwritable))
            self._db.script(_SCHEMA)
            self._frames = MessageFileWriter(self._stream, self._token)
            self._opened: contextlib.ExitStack | None = opened.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Remove an unfinished plan."""
        opened, self._opened = self._opened, None
        if opened is not None:
            opened.close()

    def add_row(self, row: PlanRow) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        refuse(row.n <= self._last, OUT_OF_ORDER)
        self._add_row(pack_row(row))

    def _add_row(self, row: PackedRow) -> None:
        self._last = row[0]
        self._append(row)

    def _append(self, row: PackedRow) -> None:
        self._row_count += 1
        self._rows.append(row)
        if len(self._rows) >= _BATCH:
            self._flush()

    def replace_row(self, row: PlanRow) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        refuse(not 0 <= row.n <= self._last, NOT_ADDED)
        for one in (row, *(following(row, other) for other in self._others(row))):
            n, *columns = pack_row(one)
            self._replaced.append((*columns, n))
        if len(self._replaced) >= _BATCH:
            self._flush()

    def _others(self, row: PlanRow) -> list[PlanRow]:
        if not row.others:
            return []
        self._flush()
        return [ROW.decode(data) for (data,) in self._db.rows(_OTHERS, (json.dumps(row.others),))]

    def add_others(self, rows: Sequence[PlanRow]) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        for row in rows:
            self._append(pack_row(row))

    def sort(self, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
        """See `PlanWriter`."""
        return grouped(self._db, rows)

    def repeated(self, *, addresses: bool, backwards: bool = False) -> Iterator[PlanRow]:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        self._flush()
        # Only rows that have been passed are changed meanwhile, and no change moves a row.
        counts = "address <> x''" if backwards else "ready"
        written_to = _REPEATED_ADDRESS.format(counts=counts) if addresses else ""
        found = f"{_REPEATED} {written_to} ORDER BY n {'DESC' if backwards else 'ASC'}"
        for (data,) in self._db.stream(found):
            yield ROW.decode(data)

    def add_message(self, number: int, frozen: FrozenMessage) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        encoded = MESSAGE.encode(frozen)
        place, length = self._frames.add(encoded)
        self._message_count += 1
        self._messages.append((number, key_octets(frozen.key), place, length, len(encoded)))

    @property
    def dictionary(self) -> bytes | None:
        """See `PlanWriter`."""
        return self._frames.dictionary

    def add_packed(
        self, row: PackedRow, message: PackedMessage | None, others: Sequence[PackedRow] = ()
    ) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        refuse(self._frames.dictionary is None, NOT_PACKED)
        refuse(row[0] <= self._last, OUT_OF_ORDER)
        if message is not None:
            key, frame, unpacked = message
            place, length = self._frames.add_frame(frame)
            self._message_count += 1
            self._messages.append((row[0], key, place, length, unpacked))
        self._add_row(row)
        for other in others:
            self._append(other)

    def add_findings(self, n: int | None, findings: Sequence[Diagnostic]) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        self._findings += [(n, FINDING.encode(finding)) for finding in findings]

    def begin_spool(self) -> BinaryIO:
        """See `PlanWriter`."""
        assert self._opened is not None, FINISHED
        self._spool = self._drafts.create(self._place.name + _SPOOL_SUFFIX)
        self._opened.callback(_discard, self._spool)
        return self._spool

    def read_spool(self) -> BinaryIO:
        """See `PlanWriter`."""
        assert self._spool is not None, FINISHED
        self._spool.flush()
        return self._drafts.reopen(self._place.name + _SPOOL_SUFFIX)

    def _flush(self) -> None:
        run = self._db.executemany
        run("INSERT INTO row VALUES (?, ?, ?, ?, ?, ?, ?)", self._rows)
        run("INSERT INTO message VALUES (?, ?, ?, ?, ?)", self._messages)
        run("INSERT INTO finding (n, data) VALUES (?, ?)", self._findings)
        if self._replaced:
            changed = run(_REPLACE, self._replaced).rowcount
            refuse(changed != len(self._replaced), NOT_ADDED)
        for batch in (self._rows, self._messages, self._findings, self._replaced):
            batch.clear()

    def expect(self, rows: int) -> None:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        left = rows - self._row_count
        if left <= 0 or not self._row_count:
            return
        self._flush()
        (pages,) = self._db.row("PRAGMA page_count")
        (page,) = self._db.row("PRAGMA page_size")
        kept = pages * page * _WITH_INDEXES + self._frames.pace * self._message_count
        files.refuse_without_room(
            self._db.path, int(left * kept / self._row_count), f"the plan of {rows:,} rows needs", _ROOM
        )

    def finish(self, summary: bytes, facts: bytes = b"") -> PlanReader:
        """See `PlanWriter`."""
        refuse(self._opened is None, FINISHED)
        self._flush()
        self._db.execute("CREATE INDEX row_row ON row (row)")
        self._db.execute("CREATE INDEX row_key ON row (key) WHERE holds AND key <> x''")
        self._db.execute("CREATE INDEX finding_n ON finding (n)")
        name = hashlib.sha256(facts or self._token).hexdigest()[:NAME_DIGITS]
        meta: dict[str, object] = {
            "name": name,
            "owner": self._owner,
            "made": self._made.isoformat(),
            "summary": summary,
            "facts": facts,
            "rows": self._row_count,
            "token": self._token,
            "octets": self._frames.size,
        }
        self._db.executemany("INSERT INTO meta VALUES (?, ?)", meta.items())
        self._db.execute("COMMIT")
        self._check()
        self._db.close()
        self._stream.close()
        place = self._place.with_name(f"{self._place.name}-{name}")
        for suffix in (MESSAGES_SUFFIX, SUFFIX):  # in this order: whoever finds the database finds them, too
            self._drafts.call(self._place.name + suffix, place.name + suffix)
            self._drafts.adopt(place.name + suffix, durable=False)
        self.close()
        return SqlitePlanReader(place)

    def _check(self) -> None:
        """Check that everything that was added is there."""
        self._stream.flush()
        written = (
            *self._db.row("SELECT count(*) FROM row"),
            *self._db.row("SELECT count(*) FROM message"),
            os.fstat(self._stream.fileno()).st_size,
        )
        if written != (self._row_count, self._message_count, self._frames.size):
            raise FileError(self._db.path, "it is not what was written to it", hint="check the disk")


class SqlitePlanReader:
    """Reads a finished plan; see `PlanReader`.

    While it is open, `PlanCache.sweep` leaves the plan alone. It belongs to the thread that opened it.

    Args:
        place: the path of both files without their suffixes.

    Raises:
        PlanDamaged: it does not exist, or cannot be trusted.

    """

    def __init__(self, place: Path) -> None:
        path = place.with_name(place.name + SUFFIX)
        self._path = path
        self._checked = False
        self._places: dict[int, tuple[bytes, int, int, int]] = {}
        with contextlib.ExitStack() as opened:
            try:
                held = opened.enter_context(files.open_own(path, hold=True))
            except FileError as error:
                raise damaged(path, error) from error
            self._db = opened.enter_context(
                Database.connect(path, self._damaged, read_only=True, immutable=True)
            )
            self._check_form(os.fstat(held.fileno()).st_size)
            try:
                self.name: str = self._meta("name")
                self.made = datetime.fromisoformat(self._meta("made"))
                self.size = int(self._meta("rows"))
                self.owner: str = self._meta("owner")
            except (TypeError, ValueError) as error:
                raise damaged(path, error) from error
            self._frames = self._open_messages(place.with_name(place.name + MESSAGES_SUFFIX))
            if self._frames is not None:
                opened.callback(self._frames.close)
            self._opened = opened.pop_all()
            self._checked = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """See `PlanReader`."""
        self._opened.close()

    @property
    def summary(self) -> bytes:
        """See `PlanReader`."""
        return bytes(self._meta("summary"))

    @property
    def facts(self) -> bytes:
        """See `PlanReader`."""
        return bytes(self._meta("facts"))

    @property
    def has_messages(self) -> bool:
        """See `PlanReader`."""
        return self._frames is not None

    def rows(self, *, after: int = -1, ready: bool = False) -> Iterator[PlanRow]:
        """See `PlanReader`."""
        only = "AND ready" if ready else ""
        return self._rows(f"SELECT data FROM row WHERE n > ? {only} ORDER BY n", after)  # noqa: S608

    def rows_numbered(self, ranges: Iterable[tuple[int, int]]) -> Iterator[PlanRow]:
        """See `PlanReader`."""
        for first, last in ranges:
            yield from self._rows("SELECT data FROM row WHERE row BETWEEN ? AND ? ORDER BY row", first, last)

    def _rows(self, query: str, *cells: object) -> Iterator[PlanRow]:
        decode = ROW.decode
        for (data,) in self._db.stream(query, cells):
            try:
                yield decode(data)
            except UNDECODABLE as error:
                raise self._damaged(self._path, error) from error

    def addresses(self) -> Iterator[str]:
        """See `PlanReader`."""
        for (address,) in self._db.stream("SELECT address FROM row WHERE address <> x''", ()):
            yield address.decode("utf-8", "surrogatepass")

    def ready_ends(self) -> tuple[PlanRow, PlanRow] | None:
        """See `PlanReader`."""
        first = next(self._rows("SELECT data FROM row WHERE ready ORDER BY n LIMIT 1"), None)
        last = next(self._rows("SELECT data FROM row WHERE ready ORDER BY n DESC LIMIT 1"), None)
        return (first, last) if first is not None and last is not None else None

    def others(self, row: PlanRow) -> list[PlanRow]:
        """See `PlanReader`."""
        return list(self._rows(_OTHERS, json.dumps(row.others))) if row.others else []

    def holders(self, keys: Sequence[str]) -> dict[str, PlanRow]:
        """See `PlanReader`."""
        wanted = [found for key in keys if (found := key_octets(key))]
        marks = ", ".join("?" * len(wanted))
        query = f"SELECT data FROM row WHERE holds AND key <> x'' AND key IN ({marks})"  # noqa: S608
        return {row.key: row for row in self._rows(query, *wanted)}

    def message(self, number: int) -> FrozenMessage:
        """See `PlanReader`."""
        if self._frames is None:
            raise damaged(self._path, ValueError("its messages were removed"))
        found = self._places.get(number) or self._look_up(number)
        if found is None:
            raise self._damaged(self._path, ValueError(f"it has no message {number}"))
        key, place, length, octets = found
        try:
            frozen = MESSAGE.decode(self._frames.read(place, length, octets))
        except (BadFrame, OSError, *UNDECODABLE) as error:
            raise self._damaged(self._path, error) from error
        if key_octets(frozen.key) != key:
            raise self._damaged(self._path, ValueError(f"message {number} has another key"))
        return frozen

    def packed_messages(self) -> Iterator[tuple[int, PackedMessage]]:
        """Yield all messages as they are kept, with their numbers, in their order; nothing is verified.

        Raises:
            PlanDamaged: they cannot be read.

        """
        if self._frames is None:
            raise damaged(self._path, ValueError("its messages were removed"))
        for number, key, place, length, octets in self._db.stream("SELECT * FROM message ORDER BY number"):
            try:
                yield number, (key, self._frames.frame(place, length), octets)
            except OSError as error:
                raise self._damaged(self._path, error) from error

    def _look_up(self, number: int) -> tuple[bytes, int, int, int] | None:
        """Look up a message, and those after it, which are usually wanted next."""
        query = (
            "SELECT number, key, place, length, octets FROM message WHERE number >= ? ORDER BY number LIMIT ?"
        )
        self._places = {found: where for found, *where in self._db.rows(query, (number, _LOOK_AHEAD))}
        return self._places.get(number)

    def findings(self, n: int | EllipsisType | None = ...) -> Iterator[tuple[int | None, Diagnostic]]:
        """See `PlanReader`."""
        if n is ...:
            found = self._db.stream("SELECT n, data FROM finding ORDER BY n, id")
        else:
            found = self._db.stream("SELECT n, data FROM finding WHERE n IS ? ORDER BY id", (n,))
        for place, data in found:
            try:
                yield place, FINDING.decode(data)
            except UNDECODABLE as error:
                raise self._damaged(self._path, error) from error

    def _damaged(self, path: Path, error: Exception) -> PlanDamaged:
        """Return the error; a plan found to be damaged only now is removed, or it would be found again."""
        if self._checked:
            with contextlib.suppress(FileError):
                files.remove_file(self._path)
        return damaged(path, error)

    def _meta(self, name: str) -> Any:
        found = self._db.row("SELECT value FROM meta WHERE name = ?", (name,))
        if found is None:
            raise damaged(self._path, ValueError(f"it has no {name}"))
        return found[0]

    def _check_form(self, size: int) -> None:
        """Refuse a file that is not ours, of another version, or torn."""
        (application,) = self._db.row("PRAGMA application_id")
        (version,) = self._db.row("PRAGMA user_version")
        (pages,) = self._db.row("PRAGMA page_count")
        (page,) = self._db.row("PRAGMA page_size")
        if (application, version) != (_APPLICATION, _FORMAT) or size != pages * page:
            raise damaged(self._path, ValueError("it is torn, or of another version"))

    def _open_messages(self, path: Path) -> MessageFileReader | None:
        """Open the messages; None: they were removed."""
        first = self._db.row("SELECT place, length FROM message ORDER BY number LIMIT 1")
        token, octets = self._meta("token"), self._meta("octets")
        try:
            stream = files.open_own(path)
        except FileError as error:
            if error.errno == errno.ENOENT:
                return None
            raise damaged(path, error) from error
        try:
            return MessageFileReader(stream, token, octets, first)
        except (BadFrame, OSError) as error:
            stream.close()
            raise damaged(path, error) from error


def _discard(stream: BinaryIO) -> None:
    """Close a file that is given up: whether its last octets can be written does not matter any more."""
    with contextlib.suppress(FileError):
        stream.close()


def _unwritable(path: Path, error: Exception) -> MailmergeError:
    if isinstance(error, FileError):
        return error
    if is_full(error):
        return FileError(
            path,
            f"the disk has no space left for it ({error})",
            number=errno.ENOSPC,
            hint=_ROOM,
        )
    return FileError(path, str(error), hint="check the folder, or set MAILMERGE_CACHE_DIR to another one")
