"""What this machine records besides the ledgers: how far each had got, and which messages were sent.

A ledger that was lost, or is older than it should be, must not be mistaken for a new one; and a message that
somebody has must not be sent to them again because the campaign has another name, or its folder was renamed.
Both are recorded in one database in the user's state folder. It names ledgers and campaigns; of messages it
only has keyed hashes, which identify nobody.
"""

from __future__ import annotations

import hashlib
import json
import os
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import LedgerError
from mailmerge.ledger.databases import StateDatabase, is_on_server
from mailmerge.ledger.reader import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mailmerge.ledger.reader import Sent
    from mailmerge.sqlite import Database

_SCHEMA = """
-- "secret" is a hash of the campaign's: what it knew of hand-overs goes with it, wherever its ledger is;
-- "ledger" and "name" say where it was seen last.
CREATE TABLE IF NOT EXISTS high_water (
    secret BLOB PRIMARY KEY, ledger TEXT NOT NULL, name TEXT NOT NULL, mark INTEGER NOT NULL,
    noted REAL NOT NULL) WITHOUT ROWID;
-- Which ledger the campaign of a folder has, where that is not the file in the folder.
CREATE TABLE IF NOT EXISTS home (
    folder TEXT NOT NULL, name TEXT NOT NULL, ledger TEXT NOT NULL, shown TEXT NOT NULL,
    PRIMARY KEY (folder, name)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS hash_key (id INTEGER PRIMARY KEY CHECK (id = 1), key BLOB NOT NULL);
-- "noted_to" is the last attempt in its ledger that "message" knows of;
-- "running" says that there may be later ones.
CREATE TABLE IF NOT EXISTS campaign (
    id INTEGER PRIMARY KEY, secret BLOB NOT NULL, ledger TEXT NOT NULL, name TEXT NOT NULL,
    noted_to INTEGER NOT NULL DEFAULT 0, running INTEGER NOT NULL DEFAULT 0, UNIQUE (secret, ledger));
CREATE TABLE IF NOT EXISTS message (
    hash INTEGER NOT NULL, campaign INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (hash, campaign)) WITHOUT ROWID;
-- Whom they went to.
CREATE TABLE IF NOT EXISTS person (
    hash INTEGER NOT NULL, campaign INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (hash, campaign)) WITHOUT ROWID;
-- Messages that came back for now, by person; "at" is when each was sent.
CREATE TABLE IF NOT EXISTS soft_bounce (
    person INTEGER NOT NULL, message INTEGER NOT NULL, at INTEGER NOT NULL,
    PRIMARY KEY (person, message)) WITHOUT ROWID;
"""
_NOTE = """
INSERT INTO high_water (secret, ledger, name, mark, noted) VALUES (?, ?, ?, ?, ?) ON CONFLICT (secret)
DO UPDATE SET ledger = excluded.ledger, name = excluded.name, mark = max(mark, excluded.mark),
    noted = excluded.noted
"""
# The hashes come in one string: a statement may have only so many parameters, and this one is compiled once.
_FIND = """
SELECT m.hash, m.campaign, m.at FROM json_each(?) j CROSS JOIN {} m ON m.hash = j.value ORDER BY m.at
"""
_BATCH = 5000
"""How many attempts are recorded in one step of the send loop."""


class CampaignRegistry(StateDatabase):
    """The user's campaigns with their high-water marks: how many hand-overs each ledger had recorded."""

    remembers = "how far each campaign has got and who has its messages"

    def __init__(self, path: Path, *, read_only: bool = False) -> None:
        super().__init__(path, _SCHEMA, read_only=read_only)
        self.messages = MessageRegistry(self._db)
        """Which messages were sent."""

    def refuse_missing(self, path: Path | str, name: str) -> None:
        """Refuse to start from scratch if messages were handed over before: the ledger lacks the campaign.

        Raises:
            LedgerError: there was a ledger with it, which is gone.

        """
        query = "SELECT max(mark) FROM high_water WHERE ledger = ? AND name = ?"
        (mark,) = self._db.row(query, (_name(path), name))
        if mark:
            gone = isinstance(path, Path) and not path.exists()
            where = path if gone else f"{path} does not have it"
            raise LedgerError(
                f'the ledger of campaign "{name}" is missing: {where} (it had {mark} hand-overs)',
                code="L705",
                hint="restore it from a backup; to write to the whole list again, use --name NEW",
            )

    def check(self, ledger: LedgerReader, path: Path | str, *, alone: bool = True) -> None:
        """Compare an opened ledger with what was recorded about its campaign, wherever its ledger was.

        Args:
            ledger: the ledger, or a temporary copy of it.
            path: where the ledger itself is.
            alone: whether another copy that continues is an error; otherwise it may be a copy for reading.

        Raises:
            LedgerError: it is older than it should be, different from the one that was here, or a copy.

        """
        if ledger.purged:
            return
        mark = self._known(ledger)[0]
        if mark and (alone or ledger.handed_over < mark) and self.is_copy(ledger, path):
            place = self._known(ledger)[1]
            raise LedgerError(
                f'the ledger of campaign "{ledger.campaign}" in {path} is a copy of the one in {place}',
                code="L712",
                hint="both would write to the same people",
            )
        self.refuse_older(ledger, path)
        self._refuse_another(ledger, path)

    def home(self, folder: Path, name: str) -> tuple[str, str] | None:
        """Return the ledger that a folder's campaign was moved to or begun in, and how it is shown."""
        query = "SELECT ledger, shown FROM home WHERE folder = ? AND name = ?"
        found = self._db.row(query, (str(folder.resolve()), name))
        return None if found is None else (str(found[0]), str(found[1]))

    def note_home(self, folder: Path, name: str, ledger: str, shown: str) -> None:
        """Record which ledger the campaign of a folder has."""
        cells = (str(folder.resolve()), name, ledger, shown)
        self._db.execute("INSERT OR REPLACE INTO home VALUES (?, ?, ?, ?)", cells)

    def other_homes(self, folder: Path, name: str, ledger: str) -> list[Path]:
        """Return other folders that have a campaign of this name in the ledger, and still exist."""
        query = "SELECT folder FROM home WHERE name = ? AND ledger = ? AND folder <> ? ORDER BY folder"
        found = self._db.rows(query, (name, ledger, str(folder.resolve())))
        return [other for (text,) in found if (other := Path(text)).is_dir()]

    def take_home(self, folder: Path, name: str, ledger: str) -> None:
        """Record that of all folders with a campaign of this name in a ledger, this one has it."""
        cells = (name, ledger, str(folder.resolve()))
        self._db.execute("DELETE FROM home WHERE name = ? AND ledger = ? AND folder <> ?", cells)

    def forget_home(self, folder: Path, name: str) -> None:
        """Forget which ledger the campaign of a folder has, and how far it had got."""
        home = self.home(folder, name)
        if home is not None:
            self.forget_place(home[0], name)
            cells = (str(folder.resolve()), name)
            self._db.execute("DELETE FROM home WHERE folder = ? AND name = ?", cells)

    def knows(self, ledger: LedgerReader) -> bool:
        """Return whether a campaign was ever seen on this machine, in any place."""
        return bool(self._known(ledger)[2])

    def is_newest(self, copy: LedgerReader, path: Path | str) -> bool:
        """Return whether a copy knows all hand-overs of the campaign whose ledger was last seen at *path*."""
        mark, place, name = self._known(copy)
        return 0 < mark <= copy.handed_over and (place, name) == (_name(path), copy.campaign)

    def is_copy(self, ledger: LedgerReader, path: Path | str) -> bool:
        """Return whether the ledger at *path* also is in the place where it was last seen."""
        _, place, name = self._known(ledger)
        return bool(name) and _is_also_at(Path(place), name, ledger.secret, path)

    def refuse_older(self, ledger: LedgerReader, path: Path | str) -> None:
        """Refuse a ledger with fewer hand-overs than its campaign had.

        Raises:
            LedgerError: it does.

        """
        mark, knows = self._known(ledger)[0], ledger.handed_over
        if knows < mark:
            raise LedgerError(
                f'the ledger of campaign "{ledger.campaign}" is older than it should be: {path} has '
                f"{knows} hand-overs, there were {mark}",
                code="L705",
                hint="it is an old copy, or a sync program restored it: find the newest; nothing was sent",
            )

    def _known(self, ledger: LedgerReader) -> tuple[int, str, str]:
        """Return a campaign's mark, and where it was last seen: its ledger and its name there."""
        query = "SELECT mark, ledger, name FROM high_water WHERE secret = ?"
        mark, place, name = self._db.row(query, (_hashed(ledger.secret),)) or (0, "", "")
        return int(mark), str(place), str(name)

    def _refuse_another(self, ledger: LedgerReader, path: Path | str) -> None:
        query = "SELECT max(mark) FROM high_water WHERE ledger = ? AND name = ? AND secret <> ?"
        (mark,) = self._db.row(query, (_name(path), ledger.campaign, _hashed(ledger.secret)))
        if mark:
            raise LedgerError(
                f'the ledger of campaign "{ledger.campaign}" in {path} is not the one that was there: that '
                f"had {mark} hand-overs",
                code="L705",
                hint="find the one that was there; nothing was sent",
            )

    def note(self, ledger: LedgerReader, handed_over: int) -> None:
        """Record how far a campaign has got, and where; a mark never goes down."""
        now = datetime.now(UTC).timestamp()
        cells = (_hashed(ledger.secret), ledger.known_as, ledger.campaign, handed_over, now)
        self._db.execute(_NOTE, cells)

    def moved(self, source: LedgerReader, target: LedgerReader) -> None:
        """Record that a campaign is in another ledger from now on, where its attempts have new numbers."""
        self.take_place(target)
        self._db.execute(
            "UPDATE OR IGNORE campaign SET ledger = ?, noted_to = 0 WHERE secret = ? AND ledger = ?",
            (target.known_as, _hashed(source.secret), source.known_as),
        )

    def take_place(self, ledger: LedgerReader) -> None:
        """Record a ledger's place as that of its campaign from now on, and forget what else was there."""
        with self._db.transaction():
            here = (ledger.known_as, ledger.campaign)
            self._db.execute("DELETE FROM high_water WHERE ledger = ? AND name = ?", here)
            self.note(ledger, ledger.handed_over)

    def forget_place(self, path: Path | str, name: str) -> bool:
        """Forget which campaign had this name in this ledger; return whether one was known."""
        query = "DELETE FROM high_water WHERE ledger = ? AND name = ?"
        return bool(self._db.execute(query, (_name(path), name)).rowcount)

    def forget(self, secret: bytes) -> None:
        """Remove a campaign, its mark and everything that it sent, as after a purge."""
        self._db.execute("DELETE FROM high_water WHERE secret = ?", (_hashed(secret),))
        self.messages.forget(secret)


def _is_also_at(place: Path, name: str, secret: bytes, path: Path | str) -> bool:
    """Return whether a campaign's ledger is also at *place*; True as well if that cannot be read.

    The same file may have two paths if a folder is mounted twice.
    """
    here = Path(path)
    if not place.exists() or (here.exists() and place.samefile(here)):
        return False
    try:
        with LedgerReader.open_read_only(place, name) as other:
            return other.secret == secret
    except LedgerError as error:
        return error.code not in {"L701", "L705"}


class Earlier(Struct, frozen=True):
    """The campaign that sent a message."""

    campaign: str
    ledger: Path | str
    """Its ledger's file, or how a ledger on a server is shown."""
    at: datetime


class MessageRegistry:
    """Which messages were sent, from every campaign of this user.

    The ledgers are authoritative, and this follows them: outcomes are read there and recorded here, starting
    after the last one that was recorded. So nothing is lost if it could not be recorded immediately, and no
    sender has to wait for it. The rest of a run that was killed, or is still running, is read from its
    ledger.

    Args:
        db: the registry.

    """

    def __init__(self, db: Database) -> None:
        self._db = db
        self._mine: int | None = None

    # --- recording ------------------------------------------------------------------------------------

    def begin(self, ledger: LedgerReader) -> None:
        """Record that a campaign begins to send.

        Raises:
            LedgerError: that cannot be recorded.

        """
        secret, here = _hashed(ledger.secret), ledger.known_as
        with self._db.transaction():
            self._db.execute("INSERT OR IGNORE INTO hash_key VALUES (1, ?)", (os.urandom(32),))
            own = self._own(ledger)
            number = next((number for number, place in own if place == here), own[0][0] if own else None)
            cells = (secret, here, ledger.campaign)
            if number is None:
                insert = "INSERT INTO campaign (secret, ledger, name, running) VALUES (?, ?, ?, 1)"
                number = self._db.execute(insert, cells).lastrowid
            else:
                update = "UPDATE campaign SET secret = ?, ledger = ?, name = ?, running = 1 WHERE id = ?"
                self._db.execute(update, (*cells, number))
        self._mine = number

    def note(self, ledger: LedgerReader, *, ended: bool = False, revised: int | None = None) -> None:
        """Record what has been settled since the last time; nothing before `begin`.

        Args:
            ledger: the one that was passed to `begin`.
            ended: whether nothing more will be settled: record all of it, however much it is.
            revised: the earliest attempt whose outcome was revised after it may have been recorded.

        Raises:
            LedgerError: it cannot be recorded now; the next call will.

        """
        while self._mine is not None:
            with self._db.transaction():
                query = "SELECT noted_to FROM campaign WHERE id = ?"
                noted = self._db.row(query, (self._mine,))
                if noted is None:  # purged
                    return
                # A refusal that was revised is before what was recorded.
                after = int(noted[0]) if revised is None else min(int(noted[0]), revised - 1)
                revised = None
                found = ledger.sent(after, _BATCH)
                # The outcome of an open attempt is recorded when it is known, and so is what follows it.
                settled = found if ended else _settled(found)
                digest = self._hasher()
                messages = [(digest(sent.frozen), self._mine, int(sent.at)) for sent in settled]
                self._db.executemany("INSERT OR REPLACE INTO message VALUES (?, ?, ?)", messages)
                people = [(digest(sent.address.lower()), self._mine, int(sent.at)) for sent in settled]
                self._db.executemany("INSERT OR REPLACE INTO person VALUES (?, ?, ?)", people)
                if settled:
                    cells = (settled[-1].attempt, self._mine)
                    self._db.execute("UPDATE campaign SET noted_to = ? WHERE id = ?", cells)
                if not ended or len(found) < _BATCH:
                    if ended:
                        self._db.execute("UPDATE campaign SET running = 0 WHERE id = ?", (self._mine,))
                    return

    def came_back(self, address: str, message_id: str, sent_at: float) -> int:
        """Record a soft bounce of a message to somebody; return how many there were in a row.

        A message in between that did not bounce resets the count. The same report may be recorded again.
        """
        with self._db.transaction():
            self._db.execute("INSERT OR IGNORE INTO hash_key VALUES (1, ?)", (os.urandom(32),))
            digest = self._hasher()
            person = digest(address.lower())
            cells = (person, digest(message_id), int(sent_at))
            self._db.execute("INSERT OR REPLACE INTO soft_bounce VALUES (?, ?, ?)", cells)
            query = "SELECT at FROM soft_bounce WHERE person = ? ORDER BY at DESC"
            returned = [int(at) for (at,) in self._db.rows(query, (person,))]
            others = [int(at) for (at,) in self._db.rows("SELECT at FROM person WHERE hash = ?", (person,))]
        count = 1
        for later, earlier in pairwise(returned):
            if any(earlier < at < later for at in others):
                break
            count += 1
        return count

    def arrived(self, address: str) -> None:
        """Record that a message to somebody arrived: earlier soft bounces do not count any more."""
        if self._db.row("SELECT 1 FROM hash_key") is not None:
            self._db.execute("DELETE FROM soft_bounce WHERE person = ?", (self._hasher()(address.lower()),))

    def forget(self, secret: bytes) -> None:
        """Remove everything that a campaign sent."""
        self._db.execute("PRAGMA secure_delete = ON")
        with self._db.transaction():
            mine = "SELECT id FROM campaign WHERE secret = ?"
            for table in ("message", "person"):
                self._db.execute(f"DELETE FROM {table} WHERE campaign IN ({mine})", (_hashed(secret),))  # noqa: S608
            self._db.execute("DELETE FROM campaign WHERE secret = ?", (_hashed(secret),))

    # --- queries --------------------------------------------------------------------------------------

    def others(self, ledger: LedgerReader) -> OtherMessages | None:
        """Return what campaigns other than this one have sent; None: there are none.

        Raises:
            LedgerError: that cannot be read.

        """
        own = {number for number, _ in self._own(ledger)}
        query = "SELECT id, secret, ledger, name, noted_to, running FROM campaign"
        others = [entry for entry in self._db.rows(query) if entry[0] not in own]
        if not others:
            return None
        digest = self._hasher()
        messages: dict[int, tuple[int, int]] = {}
        people: dict[int, tuple[int, int]] = {}
        for number, secret, path, name, noted_to, running in others:
            if running:
                for sent in _unnoted(secret, name, noted_to, (path, ledger.known_as)):
                    messages[digest(sent.frozen)] = (number, int(sent.at))
                    people[digest(sent.address.lower())] = (number, int(sent.at))
        servers = dict(self._db.rows("SELECT ledger, shown FROM home"))
        names: dict[int, tuple[str, Path | str]] = {
            number: (str(name), servers.get(path, "a database") if is_on_server(path) else Path(path))
            for number, _, path, name, *_ in others
        }
        return OtherMessages(self._db, digest, names, {"message": messages, "person": people})

    def _own(self, ledger: LedgerReader) -> list[tuple[int, str]]:
        """Return the entries of a campaign itself: where it is, and where it was before it was moved.

        A copy of its folder is another campaign: both may have continued since.
        """
        query, here = "SELECT id, ledger FROM campaign WHERE secret = ?", ledger.known_as
        found = self._db.rows(query, (_hashed(ledger.secret),))
        return [entry for entry in found if entry[1] == here or not Path(entry[1]).exists()]

    def _hasher(self) -> Callable[[str], int]:
        (key,) = self._db.row("SELECT key FROM hash_key")

        def digest(text: str) -> int:
            hashed = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()
            return int.from_bytes(hashed, "big", signed=True)

        return digest


class OtherMessages:
    """What other campaigns have sent; get it from `MessageRegistry.others`."""

    def __init__(
        self,
        db: Database,
        digest: Callable[[str], int],
        campaigns: Mapping[int, tuple[str, Path | str]],
        unnoted: Mapping[str, Mapping[int, tuple[int, int]]],
    ) -> None:
        self._db = db
        self._digest = digest
        self._campaigns = campaigns
        self._unnoted = unnoted

    def find(self, frozen: Sequence[str]) -> dict[str, Earlier]:
        """Return which of these messages were sent, by the digest of each, and by which campaign.

        Raises:
            LedgerError: that cannot be read.

        """
        return self._find("message", {self._digest(digest): digest for digest in frozen})

    def find_people(self, addresses: Sequence[str]) -> dict[str, Earlier]:
        """Return which of these addresses were written to, and by which campaign last.

        Raises:
            LedgerError: that cannot be read.

        """
        return self._find("person", {self._digest(address.lower()): address for address in addresses})

    def _find(self, table: str, hashes: Mapping[int, str]) -> dict[str, Earlier]:
        found = {
            hashed: (campaign, at)
            for hashed, campaign, at in self._db.rows(_FIND.format(table), (json.dumps([*hashes]),))
            if campaign in self._campaigns
        }
        unnoted = self._unnoted[table]
        if unnoted:
            found |= {hashed: unnoted[hashed] for hashed in hashes.keys() & unnoted.keys()}
        return {
            hashes[hashed]: Earlier(*self._campaigns[campaign], datetime.fromtimestamp(at, UTC))
            for hashed, (campaign, at) in found.items()
        }


def _settled(sent: Sequence[Sent]) -> Sequence[Sent]:
    """Yield the attempts before the first one that has no outcome yet."""
    first = next((place for place, attempt in enumerate(sent) if attempt.unsettled), len(sent))
    return sent[:first]


def _unnoted(secret: bytes, name: str, noted_to: int, places: Iterable[Path | str]) -> Iterator[Sent]:
    """Yield what a campaign sent that has not been recorded: it is running, or was killed.

    Its ledger is in one of *places*; if it is in none of them, that cannot be known.
    """
    for place in places:
        with suppress(LedgerError), LedgerReader.open_read_only(Path(place), name) as ledger:
            if _hashed(ledger.secret) == secret:
                while sent := ledger.sent(noted_to, _BATCH):
                    yield from sent
                    noted_to = sent[-1].attempt
                return


def _hashed(secret: bytes) -> bytes:
    return hashlib.blake2b(secret, digest_size=16).digest()


def _name(ledger: Path | str) -> str:
    """Return how a ledger's place is shown: a file, or a database on a server."""
    return ledger if isinstance(ledger, str) else str(ledger.resolve())
