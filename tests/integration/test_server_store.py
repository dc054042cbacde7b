"""Plans in PostgreSQL: what is loaded, what another machine makes of it, and what it makes of damage."""

from __future__ import annotations

import contextlib
import hashlib
import io
import shutil
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from campaigns import TO_PEOPLE, campaign_toml, write_campaign, write_key
from mailmerge import Account, Campaign, DkimKey
from mailmerge.addresses import Address
from mailmerge.campaign.planning import Planning
from mailmerge.campaign.stored import stored_plan
from mailmerge.campaign.unsubscribing import unsubscribe_key
from mailmerge.errors import AttachmentError, LedgerError, PlanDamaged, RowError, SecretLeak
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.masking import Secret
from mailmerge.message.file_search import FileProblem
from mailmerge.model import FrozenFile, Status
from mailmerge.plan import server_store
from mailmerge.plan.composer import identifier
from mailmerge.plan.loading import load
from mailmerge.plan.message_file import plain
from mailmerge.plan.server_store import GROUP, PIECE, ServerPlan, remove, remove_messages
from mailmerge.plan.sqlite_store import MESSAGE, SqlitePlanWriter
from mailmerge.plan.stored_messages import StoredFiles, WorkerThawer
from mailmerge.postgres import PostgresDatabase, prepare
from mailmerge.unsubscribe import STAND_IN
from plans import MADE, frozen, row
from servers.command import sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailmerge.campaign.planning import OpenPlan
    from mailmerge.model import FrozenMessage, Message
    from mailmerge.plan.store import PlanReader

NOW = datetime(2026, 11, 27, 9, 41, tzinfo=UTC)
SECRET = bytes(range(32))
EVERYTHING: dict[str, str | bytes | None] = {
    "campaign.toml": campaign_toml(
        bodies="text html",
        message=f'{TO_PEOPLE}\nunsubscribe = "https://example.org/u/{{{{ token }}}}"',
        rest='[[attach]]\npath = "own/{{ name }}.pdf"\n[[attach]]\npath = "terms.eml"\n',
    ),
    "body.txt": "你好 {{ name }}\n{{ unsubscribe_url }}\n" + "你好" * 200 + "\n.\n",
    "body.html": '<img src="logo.png" alt="us"><p>{{ name }} <a href="{{ unsubscribe_url }}">x</a>'
    + "y" * 300,
    "logo.png": b"\x89PNG\r\n\x1a\n" + bytes(range(256)),
    "own/Ana.pdf": b"%PDF Ana",
    "own/Bo.pdf": b"%PDF Bo" * PIECE,
    "own/Cy.pdf": b"%PDF Cy",
    "terms.eml": "From: us@example.org\n\nThe terms.\n",
}


@pytest.fixture
def db(postgres_ledger: ServerPlace) -> Iterator[PostgresDatabase]:
    """A database with tables for plans."""
    with PostgresDatabase.connect(postgres_ledger.conninfo, postgres_ledger.shown) as connection:
        prepare(connection, [GROUP])
        yield connection


@pytest.fixture
def plan(tmp_path: Path) -> Iterator[PlanReader]:
    """A plan of three rows with a message each, the second with a file, and a finding."""
    content = FrozenFile(
        b"/there/a.pdf", "a.pdf", "ed7002b439e9ac845f22357d822bac1444730fbdb6016d3ec9432297b9ec9f73", 7
    )
    with SqlitePlanWriter(tmp_path / "made", MADE) as writer:
        for n in range(3):
            files = (content,) if n == 1 else ()
            writer.add_message(n, frozen(n, files=files, body=(b"A: b\r\n\r\nc\r\n", *range(len(files)))))
            writer.add_row(row(n, message=n))
        with writer.finish(b"summary", b"facts") as reader:
            yield reader


def content(_file: FrozenFile) -> io.BytesIO:
    """Open the one file of that plan."""
    return io.BytesIO(b"content")


@contextlib.contextmanager
def planned(campaign: Campaign, account: Account) -> Iterator[tuple[OpenPlan, Planning]]:
    """Plan a campaign."""
    planning = Planning(campaign.definition, campaign.definition.open_list(), account)
    with contextlib.ExitStack() as stack:
        yield planning.make(stack), planning


def thawed(reader: PlanReader, thaw: Callable[..., Message]) -> list[Message]:
    """Make every message of a plan, as a campaign with that secret would at that time."""

    def one(found: FrozenMessage) -> Message:
        return thaw(found, message_id=identifier(SECRET, found), date=NOW)

    return [
        one(reader.message(found.message)) for found in reader.rows(ready=True) if found.message is not None
    ]


@pytest.mark.parametrize(
    "name", ["everything", "newsletter", "statements", "workshop", "grades", "notice-zh"]
)
def test_a_worker_sends_what_the_planning_machine_would(
    db: PostgresDatabase, tmp_path: Path, name: str
) -> None:
    """Byte for byte, with the account's return path, signature and working links, when all files are gone."""
    own = name == "everything"
    folder = write_campaign(tmp_path / name, EVERYTHING) if own else sample(name, tmp_path)
    home = {f"MAILMERGE_{what}_DIR": str(tmp_path / what) for what in ("STATE", "CACHE")}
    campaign = Campaign.load(folder, environ={**home, "MAILMERGE_CONFIG": str(tmp_path / "config.toml")})
    write_key(tmp_path / "key.pem")
    account = Account(
        host="smtp.example.org",
        from_=Address.parse("me@example.org"),  # type: ignore[arg-type]
        return_path=Address.parse("bounces@example.org"),
        dkim=(DkimKey(selector="e1", key_file=tmp_path / "key.pem"),),
    )
    with planned(campaign, account) as (made, planning):
        key = unsubscribe_key(campaign.definition) if planning.composer.needs_key else None
        expected = thawed(made.reader, planning.composer.sent_by(account).with_tokens(key).thaw)
        looked_at = thawed(made.reader, planning.composer.sent_by(account, signed=False).thaw)
        number = load(db, 1, made.reader, b"{}", key=key)
    shutil.rmtree(folder)
    shutil.rmtree(tmp_path / "CACHE")
    server = ServerPlan.open(db, number, to_send=True)

    found = thawed(server, WorkerThawer(server, account).thaw)
    assert found == expected
    assert thawed(server, WorkerThawer(server, account).show) == looked_at
    assert len(found) > 2
    assert b"DKIM-Signature" in found[0].content
    assert STAND_IN.encode() not in b"".join(message.content for message in found)
    if key is not None:
        for secret in (key.secret, key.secret.hex().encode()):
            tables = ("plan", "plan_row", "plan_message", "plan_finding", "blob_piece")
            assert not any(
                secret in cell
                for table in tables
                for r in db.rows(f"SELECT * FROM {table}")
                for cell in r
                if isinstance(cell, bytes)
            )


def test_a_plan_is_loaded_once(db: PostgresDatabase, plan: PlanReader) -> None:
    """Again it has its number, and new terms; another campaign has its own, and the file is there once."""
    first = load(db, 1, plan, b"old", content)
    again = load(db, 1, plan, b"new", lambda _: pytest.fail("it was read again"))
    other = load(db, 2, plan, b"", lambda _: pytest.fail("it was read again"))

    assert (first, ServerPlan.open(db, first).terms) == (again, b"new")
    assert other != first
    assert db.row("SELECT count(*) FROM blob") == db.row("SELECT count(*) FROM blob_piece") == (1,)


@pytest.mark.parametrize("now", [b"changed", b"content and more", b"cont", None])
def test_a_file_that_is_another_one_loads_nothing(
    db: PostgresDatabase, plan: PlanReader, now: bytes | None
) -> None:
    """Nothing of the plan is there, and the words name the file."""

    def opened(file: FrozenFile) -> io.BytesIO:
        if now is None:
            raise FileProblem("A306", f'the attachment "{file.name}" was removed')
        return io.BytesIO(now)

    with pytest.raises(AttachmentError, match=r"a\.pdf") as caught:
        load(db, 1, plan, b"", opened)
    assert caught.value.code == "A306"
    assert db.row("SELECT count(*) FROM plan") == db.row("SELECT count(*) FROM blob") == (0,)


@pytest.mark.parametrize("secret", ["the same for all", "content of a file"])
def test_no_secret_gets_into_the_database(db: PostgresDatabase, tmp_path: Path, secret: str) -> None:
    """A message or a file that shows one that is in use stops the loading."""
    in_use = Secret(secret, origin="the account")
    data = b"x" * (PIECE - 5) + b"content of a file"
    file = FrozenFile(b"/a", "a.pdf", hashlib.sha256(data).hexdigest(), len(data))
    with SqlitePlanWriter(tmp_path / "made", MADE) as writer:
        writer.add_message(0, frozen(0, files=(file,)))
        with writer.finish(b"") as reader, pytest.raises(SecretLeak):
            load(db, 1, reader, b"", lambda _: io.BytesIO(data))
    assert db.row("SELECT count(*) FROM plan") == (0,), in_use


def test_blobs_go_with_the_last_plan_that_has_them(db: PostgresDatabase, plan: PlanReader) -> None:
    """Plans of others, and those that are to be kept, stay whole."""
    mine, other = load(db, 1, plan, b"", content), load(db, 2, plan, b"", content)

    assert remove(db, 1, keep=[mine]) == 0
    assert remove(db, 1) == 1
    assert ServerPlan.open(db, other).message(1) == plan.message(1)
    assert StoredFiles(db).read(plan.message(1).files[0]) == b"content"
    assert not remove_messages(db, other, loaded_before=datetime.now(UTC) - timedelta(hours=1))
    assert remove_messages(db, other, loaded_before=datetime.now(UTC) + timedelta(hours=1))
    assert db.row("SELECT count(*) FROM blob_piece") == db.row("SELECT count(*) FROM plan_message") == (0,)
    assert not ServerPlan.open(db, other).has_messages
    assert load(db, 2, plan, b"", content) == other
    assert ServerPlan.open(db, other).message(1) == plan.message(1)
    assert remove(db, 2) == 1
    left = ("plan", "plan_row", "plan_message", "plan_finding", "plan_blob", "blob", "blob_piece")
    assert [db.row(f"SELECT count(*) FROM {table}") for table in left] == [(0,)] * 7


def test_another_version_of_the_program_is_refused(db: PostgresDatabase, plan: PlanReader) -> None:
    """Who is to send it is told both versions; who only looks at it is not kept from that."""
    number = load(db, 1, plan, b"", content)
    head = (
        "9.9",
        plan.made.isoformat(),
        plan.size,
        plan.summary,
        plan.facts,
        db.row("SELECT dictionary FROM plan")[0],
    )
    db.execute("UPDATE plan SET program = '9.9', digest = ?", (server_store.head_digest(plan.name, *head),))

    with pytest.raises(LedgerError, match=r"mailmerge-kit 9\.9") as caught:
        ServerPlan.open(db, number, to_send=True)
    assert (caught.value.code, caught.value.exit_code) == ("L750", 8)
    assert ServerPlan.open(db, number).size == 3


HEADS = [
    "DELETE FROM plan", "UPDATE plan SET size = 4", "UPDATE plan SET made = 'never'",
    "UPDATE plan SET facts = ''",
    "UPDATE plan SET name = 'another'", "UPDATE plan SET summary = convert_to(repeat('x', 70000000), 'UTF8')",
    "DROP TABLE plan; DELETE FROM table_group", "UPDATE table_group SET version = 9",
]  # fmt: skip


@pytest.mark.parametrize("damage", HEADS)
def test_a_plan_that_is_none_is_told(db: PostgresDatabase, plan: PlanReader, damage: str) -> None:
    """One that is not there, damaged, or foreign."""
    number = load(db, 1, plan, b"", content)
    db.script(damage)

    with pytest.raises(LedgerError) as caught:
        ServerPlan.open(db, number)
    assert caught.value.code == "L751"


BODY = b"A: b\r\n\r\nc\r\n"
HOSTILE = {
    "another key": frozen(1, key="k2"),
    "a command in an address": frozen(
        1, envelope=replace(frozen(1).envelope, rcpt_to=(Address("a>\r\nRCPT TO:<b", "c.org"),))
    ),
    "a sender that is none": frozen(1, sender="me@example.org>\r\nBcc: x@y.org"),
    "a bare line feed": frozen(1, body=(b"A: b\r\n\r\nc\n.\nMAIL FROM:<>\r\n",)),
    "octets": frozen(1, body=(b"A: b\r\n\r\n\xff\r\n",)),
    "a header of ours": frozen(1, head=b"Subject: a\r\nBcc: x@y.org\r\nMIME-Version: 1.0\r\n"),
    "no header": frozen(1, head=b"Subject: a\r\n\r\nMIME-Version: 1.0\r\n"),
    "a file that it has not": frozen(1, body=(BODY, 1)),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_message_is_one_damaged_row(db: PostgresDatabase, plan: PlanReader, name: str) -> None:
    """Checksums do not help against who can write them: what would break the session is not handed over."""
    number = load(db, 1, plan, b"", content)
    encoded = MESSAGE.encode(HOSTILE[name])
    cells = (len(encoded), plain(encoded))
    db.execute("UPDATE plan_message SET octets = ?, frame = ? WHERE number = 1", cells)
    worker = WorkerThawer(ServerPlan.open(db, number))

    with pytest.raises(RowError) as caught:
        worker.message(1, 3)
    assert (caught.value.code, caught.value.row) == ("L752", 3)
    assert worker.message(2, 4) == plan.message(2)


DAMAGED = [
    "frame = 'P'", "frame = ''", "frame = 'Zabc'", "frame = overlay(frame placing 'x' from 9)", "octets = 3",
    "octets = -1", "octets = 1 << 40", "key = 'x'", "number = 7",
    "frame = convert_to(repeat('x', 100000), 'UTF8')",
    # nested deeper than any decoder goes, with its checksum
    "frame = decode('50b6a1f4d0', 'hex')",
]  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGED)
def test_a_damaged_message_is_one_damaged_row(db: PostgresDatabase, plan: PlanReader, damage: str) -> None:
    """The others are as they were."""
    number = load(db, 1, plan, b"", content)
    db.execute(f"UPDATE plan_message SET {damage.replace('1 << 40', str(1 << 40))} WHERE number = 1")
    server = ServerPlan.open(db, number)

    with pytest.raises(PlanDamaged):
        server.message(1)
    assert server.message(0) == plan.message(0)
    assert server.message(2) == plan.message(2)


@pytest.mark.parametrize(
    "damage", ["data = ''", "data = 'x'", "checksum = 0", "data = convert_to(repeat('[', 100000), 'UTF8')"]
)
def test_a_damaged_row_is_told(db: PostgresDatabase, plan: PlanReader, damage: str) -> None:
    """In words, wherever it is read to be sent; where it is shown, it is one row among the others."""
    number = load(db, 1, plan, b"", content)
    db.execute(f"UPDATE plan_row SET {damage} WHERE n = 1")
    server = ServerPlan.open(db, number)

    for read in (server.rows(), server.rows_numbered([(3, 3)])):
        with pytest.raises(PlanDamaged, match="not what was written"):
            list(read)
    assert [found.n for found in server.rows(after=1)] == [2]
    known = [*plan.rows()][1].key
    db.execute("CREATE TABLE IF NOT EXISTS delivery (campaign BIGINT, key TEXT)")  # the ledger's
    db.execute("INSERT INTO delivery VALUES (1, ?), (1, 'another')", (known,))
    shown = ServerPlan.find(db, 1, plan.name)
    assert shown is not None
    first, second, third = shown.rows()
    assert (first, third) == tuple(row for row in plan.rows() if row.n != 1)
    assert (second.n, second.row, second.key, second.status) == (1, 3, known, Status.INVALID)
    assert "is damaged" in second.detail


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM blob_piece",
        "UPDATE blob_piece SET content = 'another'",
        "UPDATE blob_piece SET content = 'content and more'",
        "UPDATE blob_piece SET piece = 1",
    ],
)
def test_a_damaged_blob_is_one_damaged_row(db: PostgresDatabase, plan: PlanReader, damage: str) -> None:
    """A file that is not what its digest says is never sent."""
    number = load(db, 1, plan, b"", content)
    db.execute(damage)
    worker = WorkerThawer(ServerPlan.open(db, number))

    with pytest.raises(RowError, match=r"a\.pdf") as caught:
        worker.thaw(worker.message(1, 3), message_id="<1@example.org>", date=NOW)
    assert caught.value.code in {"L753", "A306"}
    assert worker.thaw(worker.message(2, 4), message_id="<1@example.org>", date=NOW).row == 4


def test_an_open_unsubscribe_link_is_not_sent(db: PostgresDatabase, plan: PlanReader) -> None:
    """A plan that somebody loaded without its key reaches nobody with a link that does nothing."""
    worker = WorkerThawer(ServerPlan.open(db, load(db, 1, plan, b"", content)))
    head = f"List-Unsubscribe: <https://example.org/{STAND_IN}>\r\nMIME-Version: 1.0\r\n".encode()

    with pytest.raises(RowError, match="unsubscribe"):
        worker.thaw(frozen(1, head=head), message_id="<1@example.org>", date=NOW)


@pytest.mark.parametrize(
    "damage",
    [
        "UPDATE plan_row SET checksum = 0",
        "UPDATE plan_message SET frame = 'P'",
        "UPDATE blob_piece SET content = 'x'",
    ],
)
def test_what_is_damaged_is_loaded_again(db: PostgresDatabase, plan: PlanReader, damage: str) -> None:
    """Under the same number; a blob that another plan has, too."""
    number, other = load(db, 1, plan, b"", content), load(db, 2, plan, b"", content)
    db.script(damage)

    assert load(db, 1, plan, b"", content) == number
    server = ServerPlan.open(db, number)
    assert list(server.rows()) == list(plan.rows())
    assert server.message(1) == plan.message(1)
    file = plan.message(1).files[0]
    assert StoredFiles(db).read(file) == b"content"
    assert load(db, 2, plan, b"", content) == other
    assert ServerPlan.open(db, other).message(1) == plan.message(1)


def test_who_may_not_read_contents_still_sees_what_happened(
    postgres_ledger: ServerPlace, plan: PlanReader
) -> None:
    """Without a right to the tables of plans a ledger has none, and is read as before."""
    rights = "mailmerge.plan, mailmerge.plan_row, mailmerge.plan_message, mailmerge.plan_finding"
    with postgres_ledger.open_for_writing("spring") as ledger:
        assert ledger.server is not None
        load(ledger.server, ledger.number, plan, b"", content)
        ledger.server.script(
            "CREATE ROLE looker; GRANT USAGE ON SCHEMA mailmerge TO looker; "
            f"GRANT SELECT ON ALL TABLES IN SCHEMA mailmerge TO looker; REVOKE ALL ON {rights} FROM looker"
        )
        try:
            looking = ServerPlace(f"{postgres_ledger.conninfo}?options=-crole%3Dlooker", "here")
            with looking.open_read_only("spring") as reader:
                assert stored_plan(reader, plan.name) is None
                assert reader.counts().total == 0
            assert stored_plan(ledger, plan.name) is not None
        finally:
            ledger.server.script("DROP OWNED BY looker; DROP ROLE looker")
