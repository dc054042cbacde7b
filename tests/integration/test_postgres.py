"""The way to PostgreSQL, on a real server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge.errors import LedgerError
from mailmerge.postgres import PostgresDatabase, TableGroup, prepare

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.ledger.server_place import ServerPlace

THINGS = TableGroup(
    "things", 1, "CREATE TABLE thing (id INTEGER, name TEXT, content BLOB, at REAL, yes BOOLEAN)"
)
COLUMNS = {"id": "int8", "name": "text", "content": "bytea", "at": "float8", "yes": "bool"}


@pytest.fixture
def db(postgres_ledger: ServerPlace) -> Iterator[PostgresDatabase]:
    """A connection to a database with one table."""
    with PostgresDatabase.connect(postgres_ledger.conninfo, postgres_ledger.shown) as connection:
        prepare(connection, [THINGS])
        yield connection


def test_rows_come_by_copy_as_they_are(db: PostgresDatabase) -> None:
    """Each type, None, any octets and letters; a NUL, which no text there can have, is shown as elsewhere."""
    rows = [
        (1, "Zoë\t\\.\n", bytes(range(256)), 1.5, True),
        (1 << 40, "a\0b", b"", None, False),
        (3,) + (None,) * 4,
    ]

    assert db.copy("thing", COLUMNS, iter(rows)) == 3
    rows[1] = (1 << 40, r"a\x00b", *rows[1][2:])
    assert db.rows("SELECT * FROM thing ORDER BY id = 3, id") == [rows[0], rows[1], rows[2]]


def test_all_rows_are_added_or_none(db: PostgresDatabase) -> None:
    """Whether the rows end in an error, or the server refuses one; the connection stays usable."""

    def torn() -> Iterator[tuple[object, ...]]:
        yield (1, "a", b"", 0.0, True)
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        db.copy("thing", COLUMNS, torn())
    db.execute("CREATE UNIQUE INDEX once ON thing (id)")
    with pytest.raises(LedgerError, match="duplicate key"):
        db.copy("thing", COLUMNS, [(1, "a", b"", 0.0, True)] * 2)
    assert db.row("SELECT count(*) FROM thing") == (0,)


@pytest.mark.parametrize(
    "broken", ["INSERT INTO thing (id) VALUES ('x')", "SELECT 1 / ?::int", "no statement"]
)
def test_statements_in_one_go_are_all_done_or_none(
    db: PostgresDatabase, postgres_ledger: ServerPlace, broken: str
) -> None:
    """Wherever the refused statement is; nothing is left open, and the connection stays usable."""
    add = ("INSERT INTO thing (id) VALUES (?)", (1,))
    wrong = (broken, (0,) if "?" in broken else ())
    for statements in ([add, wrong], [wrong, add], [add, wrong, add]):
        with pytest.raises(LedgerError):  # noqa: PT012  sent together, refused when the answer is read
            db.send(statements)
            db.receive()
        assert db.row("SELECT count(*), pg_current_xact_id_if_assigned() FROM thing") == (0, None)
    db.send([add, ("SELECT count(*) FROM thing", ())])
    assert db.row("SELECT count(*) + 1 FROM thing") == (2,)  # what is asked meanwhile comes after it
    assert db.answer_at() == -1
    assert db.receive() == [[], [(1,)]]
    with PostgresDatabase.connect(postgres_ledger.conninfo, "again") as other:
        assert other.row("SELECT count(*) FROM thing") == (1,)


def test_the_mark_of_a_ledger_is_read_once(postgres_ledger: ServerPlace) -> None:
    """From when there is one: a command asks again and again which ledger it has."""
    assert (postgres_ledger.exists(), postgres_ledger.known_as) == (False, postgres_ledger.shown)
    postgres_ledger.open_for_writing("spring").close()
    known = postgres_ledger.known_as
    with postgres_ledger.session() as db:
        db.execute("UPDATE ledger SET mark = 'another'")

    assert (postgres_ledger.exists(), postgres_ledger.known_as) == (True, known)
