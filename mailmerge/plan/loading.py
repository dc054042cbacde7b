"""A finished plan is written into the database: by COPY, as it is kept, all of it or nothing.

Files of messages become blobs, read piece by piece and verified meanwhile. If messages have unsubscribe
tokens, they are filled in, since the workers have no key for them; the digest of a message stays that of the
placeholder.
"""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Final

import msgspec

from mailmerge import masking
from mailmerge.errors import AttachmentError, LedgerError, PlanDamaged, SecretLeak
from mailmerge.masking import Secret
from mailmerge.message import Thawer, open_token
from mailmerge.message.attachments import open_frozen, pieces_of, written_in_files
from mailmerge.message.file_search import FileProblem
from mailmerge.model import FrozenFile  # noqa: TC001  decoded into
from mailmerge.plan.message_file import PLAIN_KIND, BadFrame, FrameReader, plain
from mailmerge.plan.server_store import (
    BLOBS_LOCK,
    CONTENT,
    GROUP,
    LARGEST,
    PIECE,
    ServerPlan,
    empty_plans,
    head_digest,
    key_hash,
    own_version,
)
from mailmerge.plan.sqlite_store import (
    FINDING,
    MESSAGE,
    UNDECODABLE,
    Form,
    MessagePacker,
    SqlitePlanReader,
    key_octets,
    pack_row,
)
from mailmerge.postgres import prepare
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import BinaryIO

    from mailmerge.model import FrozenMessage
    from mailmerge.plan.store import PackedMessage, PlanReader, PlanRow
    from mailmerge.postgres import PostgresDatabase
    from mailmerge.unsubscribe import UnsubscribeKey

_ROWS: Final = {
    "plan": "int8", "n": "int8", "row": "int8", "ready": "bool", "holder": "bytea", "address": "bytea",
    "data": "bytea", "checksum": "int8",
}  # fmt: skip
_MESSAGES: Final = {"plan": "int8", "number": "int8", "key": "bytea", "octets": "int8", "frame": "bytea"}
_FINDINGS: Final = {"plan": "int8", "id": "int8", "n": "int8", "data": "bytea", "checksum": "int8"}
_BLOBS: Final = {"plan": "int8", "sha256": "bytea"}
_PIECES: Final = {"sha256": "bytea", "piece": "int8", "content": "bytea"}
_ADD: Final = """
INSERT INTO plan (campaign, name, program, made, loaded, size, messages, summary, facts, dictionary,
    digest, terms)
VALUES (?, ?, ?, ?, extract(epoch FROM clock_timestamp()), ?, 0, ?, ?, '', '', ?)
ON CONFLICT DO NOTHING RETURNING id
"""
_ADD_AGAIN: Final = """
UPDATE plan SET program = ?, made = ?, loaded = extract(epoch FROM clock_timestamp()), size = ?, summary = ?,
    facts = ?, terms = ? WHERE id = ?
"""
_BEGIN_AGAIN: Final = "UPDATE plan SET loaded = extract(epoch FROM clock_timestamp()) WHERE id = ?"
_FINISH: Final = "UPDATE plan SET messages = ?, dictionary = ?, digest = ? WHERE id = ?"
_NEW_BLOBS: Final = """
INSERT INTO blob (sha256, size) SELECT b.sha256, b.size FROM unnest(?::bytea[], ?::int8[]) AS b(sha256, size)
ORDER BY 1 ON CONFLICT DO NOTHING RETURNING sha256
"""


class _Looked(msgspec.Struct):
    """What loading has to know about a frozen message."""

    key: str
    head: bytes
    files: tuple[FrozenFile, ...]


_LOOKED: Final = Form(_Looked)


def load(
    db: PostgresDatabase,
    campaign: int,
    plan: PlanReader,
    terms: bytes,
    files: Callable[[FrozenFile], BinaryIO] = open_frozen,
    key: UnsubscribeKey | None = None,
) -> int:
    """Write a finished plan into the database, all of it or nothing; an existing one only gets new *terms*.

    Args:
        db: open for writing; the tables for plans are made if necessary.
        campaign: its number in the ledger.
        plan: open, with its messages.
        terms: what else a worker needs to know about the campaign.
        files: opens the files of messages.
        key: makes their unsubscribe tokens, where they have any; it stays here.

    Returns:
        The plan's number there.

    Raises:
        PlanDamaged: the plan is not what was written.
        AttachmentError: a file has changed since the plan was made, or is gone.
        SecretLeak: a message or file contains a secret that is in use.
        LedgerError: it cannot be written.

    """
    prepare(db, [GROUP])
    with db.transaction():
        known = _known(db, campaign, plan.name)
        if known is not None:  # from here on the last worker of an earlier run leaves its messages alone
            db.execute(_BEGIN_AGAIN, (known,))
        torn = [known] if known is not None and not _is_whole(db, known) else []
        # A shared lock cannot be turned into an exclusive one.
        shared = "" if torn else "_shared"
        db.execute(f"SELECT pg_advisory_xact_lock{shared}(?)", (BLOBS_LOCK,))
        cells = (own_version(), plan.made.isoformat(), plan.size, plan.summary, plan.facts, terms)
        added = db.row(_ADD, (campaign, plan.name, *cells))
        if added is not None:
            known = int(added[0])
        elif torn:
            empty_plans(db, torn, anew=True)
            db.execute(_ADD_AGAIN, (*cells, known))
        else:
            known = _known(db, campaign, plan.name)
            db.execute("UPDATE plan SET terms = ? WHERE id = ?", (terms, known))
            assert known is not None
            return known
        assert known is not None
        _Loading(db, known, plan, key).run(files)
        (content,) = db.row(CONTENT, (known,))
        db.execute("UPDATE plan SET content = ? WHERE id = ?", (content, known))
        db.execute("ANALYZE plan_row, plan_message, plan_finding, blob_piece")  # else pages are searched for
    return known


def _known(db: PostgresDatabase, campaign: int, name: str) -> int | None:
    found = db.row("SELECT id FROM plan WHERE campaign = ? AND name = ?", (campaign, name))
    return None if found is None else int(found[0])


class _Loading:
    """One plan on its way into the database."""

    def __init__(
        self, db: PostgresDatabase, number: int, plan: PlanReader, key: UnsubscribeKey | None
    ) -> None:
        self._db = db
        self._number = number
        self._plan = plan
        self._key = key
        # No message may contain it, as when messages are sent by this machine.
        self._guard = Secret(key.secret.hex(), origin="the unsubscribe key") if key else None
        self._secrets = masking.in_use()
        self._in_files = written_in_files(self._secrets)
        self._thawer = Thawer()
        self._files: dict[str, FrozenFile] = {}
        self._dictionary = b""
        """What messages are unpacked with: the first frame."""

    def run(self, files: Callable[[FrozenFile], BinaryIO]) -> None:
        """Write everything but the beginning of the head."""
        db, number, plan = self._db, self._number, self._plan
        db.copy("plan_row", _ROWS, (self._row(row) for row in plan.rows()))
        found = ((n, FINDING.encode(finding)) for n, finding in plan.findings())
        findings = ((number, at, n, data, zlib.crc32(data)) for at, (n, data) in enumerate(found))
        db.copy("plan_finding", _FINDINGS, findings)
        count = db.copy("plan_message", _MESSAGES, self._messages())
        head = (own_version(), plan.made.isoformat(), plan.size, plan.summary, plan.facts, self._dictionary)
        db.execute(_FINISH, (count, self._dictionary, head_digest(plan.name, *head), number))
        blobs = {bytes.fromhex(sha256): file for sha256, file in self._files.items()}
        db.copy("plan_blob", _BLOBS, ((number, sha256) for sha256 in blobs))
        sizes = [file.size for file in blobs.values()]
        new = {bytes(sha256) for (sha256,) in db.rows(_NEW_BLOBS, (list(blobs), sizes))} if blobs else set()
        try:
            db.copy("blob_piece", _PIECES, self._pieces([blobs[sha256] for sha256 in sorted(new)], files))
        except FileProblem as problem:
            raise AttachmentError(problem.message, code=problem.code, hint=problem.hint) from None

    def _row(self, row: PlanRow) -> tuple[object, ...]:
        n, number, ready, holds, key, address, data = pack_row(row)
        holder = key_hash(key) if holds and key else None
        return self._number, n, number, ready, holder, address, data, zlib.crc32(data)

    def _messages(self) -> Iterator[tuple[object, ...]]:
        plan, own = self._plan, self._number
        unpack = FrameReader(lambda: self._dictionary).unpack
        packer: MessagePacker | None = None
        for number, (key, frame, octets) in _packed(plan):
            self._dictionary = self._dictionary or frame
            try:
                encoded = unpack(frame, octets)
                looked = _LOOKED.decode(encoded)
            except (BadFrame, *UNDECODABLE) as error:
                raise _unusable(plan.name, str(error)) from error
            if key_octets(looked.key) != key:
                raise _unusable(plan.name, f"message {number} has another key")
            for file in looked.files:
                self._files.setdefault(file.sha256, file)
            filled = self._filled(looked, encoded)
            if filled is None:
                yield own, number, key, octets, frame
            elif frame[:1] == PLAIN_KIND:
                encoded = MESSAGE.encode(filled)
                yield own, number, key, len(encoded), plain(encoded)
            else:
                packer = packer or MessagePacker(self._dictionary)
                _, packed, octets_filled = packer.pack(filled)
                yield own, number, key, octets_filled, packed

    def _filled(self, looked: _Looked, encoded: bytes) -> FrozenMessage | None:
        """Return a message with its unsubscribe token; None: it stays as it is."""
        is_open = open_token.is_in(looked.head)
        if not (is_open or self._secrets):
            return None
        frozen = MESSAGE.decode(encoded)
        if self._secrets:
            self._thawer.refuse_secrets(frozen, self._secrets)
        if not is_open:
            return None
        if self._key is None:
            raise RuntimeError("bug: a message has an unsubscribe link, and the key for it is missing")
        head, body = open_token.filled(frozen.head, frozen.body, self._key.token(frozen.envelope.rcpt_to[0]))
        return msgspec.structs.replace(frozen, head=head, body=body)

    def _pieces(
        self, wanted: Iterable[FrozenFile], files: Callable[[FrozenFile], BinaryIO]
    ) -> Iterator[tuple[object, ...]]:
        for file in wanted:
            sha256 = bytes.fromhex(file.sha256)
            if file.size > LARGEST:
                raise FileProblem(
                    "L754",
                    f"the file {quoted(file.name)} is larger than {LARGEST >> 20} MB",
                    "no mail service accepts it; send a link instead",
                )
            before = b""
            for at, piece in enumerate(pieces_of(file, files(file), PIECE)):
                if self._in_files:
                    self._refuse_secret(file, before + piece)
                    before = piece[-max(map(len, self._in_files)) :]
                yield sha256, at, piece

    def _refuse_secret(self, file: FrozenFile, data: bytes) -> None:
        if any(secret in data for secret in self._in_files):
            raise SecretLeak(
                f"the file {quoted(file.name)} contains a secret that is in use; it was not loaded",
                hint="change the secret if anybody else may have seen it",
            )


def _is_whole(db: PostgresDatabase, number: int) -> bool:
    try:
        if not ServerPlan.open(db, number).has_messages:
            return False
    except LedgerError as error:
        if error.code != "L751":
            raise
        return False
    (content,) = db.row(CONTENT, (number,))
    return bool(db.row("SELECT content = ? FROM plan WHERE id = ?", (content, number))[0])


def _packed(plan: PlanReader) -> Iterator[tuple[int, PackedMessage]]:
    """Yield the messages of a plan in their frames; nothing is verified."""
    if isinstance(plan, SqlitePlanReader):
        yield from plan.packed_messages()
        return
    for row in plan.rows():
        if row.message is not None and row.first is None:
            frozen = plan.message(row.message)
            encoded = MESSAGE.encode(frozen)
            yield row.message, (key_octets(frozen.key), plain(encoded), len(encoded))


def _unusable(name: str, why: str) -> PlanDamaged:
    return PlanDamaged(
        f"the plan {name} cannot be loaded: {why}",
        hint="run the same command again: the plan is made again, and nothing is lost",
    )
