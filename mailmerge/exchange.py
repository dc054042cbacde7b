"""Statements that go to PostgreSQL in one write, all or none, and whose answers may be read later.

It is libpq's pipeline mode: everything up to the Sync is one transaction, and an error keeps the server from
obeying what is behind it. psycopg's own transaction waits for the server three times, and cannot leave a
commit under way while messages travel.
"""

from __future__ import annotations

import re
import select
import time
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    Statements = Sequence[tuple[str, Sequence[object]]]

NUMBERED: Final = re.compile(r"\?(\d+)")
"""The place of a value in a statement of ours, by its number."""
WITHOUT_NUL: Final = str.maketrans({"\0": r"\x00"})
"""PostgreSQL's text cannot contain the character; it is shown like this everywhere."""
_BOOL, _BYTEA, _INT8, _FLOAT8, _TEXTS, _UNKNOWN = 16, 17, 20, 701, 1009, 0
"""PostgreSQL's numbers of types (pg_type.oid); a string is of whatever type its place has."""
_QUOTED: Final = str.maketrans({"\\": "\\\\", '"': r"\""})


class Exchange:
    """One connection's statements under way; nothing else may be asked of it before `receive`.

    Args:
        connection: psycopg's, in autocommit mode.
        prepare: whether statements are prepared once: not where a pooler is in between.
        answer_within: seconds after which a server that is silent counts as gone; None: it may take its time.

    """

    def __init__(self, connection: Any, *, prepare: bool, answer_within: float | None) -> None:
        self._connection = connection
        self._prepare = prepare
        self._answer_within = answer_within
        self._names: dict[tuple[str, tuple[int, ...]], bytes] = {}
        self._count = 0
        self._answers: list[bool] = []
        """For each command under way, whether its rows are wanted."""
        self._unsent, self._sent_at = 0, 0.0

    def send(self, statements: Statements) -> None:
        """Send statements, with ``?1`` or ``?`` for the values of each, and do not wait for the answer.

        Raises:
            psycopg.Error: the connection is lost.

        """
        server = self._connection.pgconn
        server.enter_pipeline_mode()
        self._answers = []
        for statement, cells in statements:
            values, types = _written(cells)
            if not self._prepare:
                server.send_query_params(_numbered(statement), values, types)
            else:
                name = self._names.get((statement, types))
                if name is None:
                    self._count += 1
                    name = self._names[statement, types] = b"mailmerge_%d" % self._count
                    server.send_prepare(name, _numbered(statement), types)
                    self._answers.append(False)
                server.send_query_prepared(name, values)
            self._answers.append(True)
        server.pipeline_sync()
        self._unsent, self._sent_at = server.flush(), time.monotonic()

    def answer_at(self) -> int:
        """Return the descriptor on which the answer will arrive; -1: it is there, or should be.

        Raises:
            psycopg.Error: the connection is lost.

        """
        server = self._connection.pgconn
        if self._unsent:
            self._unsent = server.flush()
        late = self._answer_within is not None and time.monotonic() - self._sent_at > self._answer_within
        poll = select.poll()
        poll.register(server.socket, select.POLLIN)
        return -1 if self._unsent or late or poll.poll(0) else int(server.socket)

    def receive(self) -> list[list[Any]]:
        """Wait for the answer to what was sent; return the rows of each statement.

        Raises:
            psycopg.Error: nothing was changed; or the connection is lost, and nobody knows.

        """
        from psycopg.errors import error_from_result
        from psycopg.pq import ExecStatus

        results, ended = [], False
        server = self._connection.pgconn
        try:
            while True:
                result = self._result(ended=ended)
                if result is not None and result.status == ExecStatus.PIPELINE_SYNC:
                    break
                ended = result is None
                if not ended:
                    results.append(result)
        except BaseException:
            self._connection.close()
            raise
        server.exit_pipeline_mode()
        for result in results:
            if result.status == ExecStatus.FATAL_ERROR:
                self._names.clear()
                if self._connection.info.transaction_status.name == "INERROR":
                    self._connection.rollback()
                raise error_from_result(result, encoding="utf-8")
        return [self._rows(result) for result, wanted in zip(results, self._answers, strict=True) if wanted]

    def _result(self, *, ended: bool) -> Any:
        """Read the next result; None: those of one statement end, which cannot come twice."""
        from psycopg import OperationalError

        server = self._connection.pgconn
        until = None if self._answer_within is None else time.monotonic() + self._answer_within
        unsent = server.flush()
        while server.is_busy():
            self._wait(until, unsent)
            server.consume_input()
            unsent = unsent and server.flush()
        result = server.get_result()
        if result is None and ended:
            raise OperationalError(server.get_error_message() or "the connection is lost")
        return result

    def _wait(self, until: float | None, unsent: int) -> None:
        from psycopg import OperationalError

        poll = select.poll()
        poll.register(self._connection.pgconn.socket, select.POLLIN | (select.POLLOUT if unsent else 0))
        left = None if until is None else max(0.0, until - time.monotonic()) * 1000
        if not poll.poll(left):
            # A cable that was cut, or a server that was stopped: the system would wait for minutes.
            raise OperationalError(f"no answer within {self._answer_within:g} seconds")

    def _rows(self, result: Any) -> list[Any]:
        if not result.nfields:
            return []
        from psycopg.adapt import Transformer

        reader = Transformer(self._connection)
        reader.set_pgresult(result)
        return list(reader.load_rows(0, result.ntuples, tuple))


@lru_cache(maxsize=128)
def _numbered(statement: str) -> bytes:
    """Put a statement's places into PostgreSQL's own words: ``$1``."""
    if "?1" in statement:
        return NUMBERED.sub(r"$\1", statement).encode()
    first, *rest = statement.split("?")
    return "".join([first, *(f"${at}{part}" for at, part in enumerate(rest, 1))]).encode()


def _written(cells: Sequence[object]) -> tuple[list[bytes | None], tuple[int, ...]]:
    """Write values as PostgreSQL reads them; return them with their types."""
    values: list[bytes | None] = []
    types: list[int] = []
    for cell in cells:
        value, type_ = _value(cell)
        values.append(value)
        types.append(type_)
    return values, tuple(types)


def _value(cell: object) -> tuple[bytes | None, int]:
    found: tuple[bytes | None, int]
    match cell:
        case str():
            found = (cell.translate(WITHOUT_NUL) if "\0" in cell else cell).encode(), _UNKNOWN
        case None:
            found = None, _UNKNOWN
        case bool():
            found = (b"t" if cell else b"f"), _BOOL
        case int():
            found = b"%d" % cell, _INT8
        case float():
            found = repr(cell).encode(), _FLOAT8
        case bytes():
            found = b"\\x" + cell.hex().encode(), _BYTEA
        case list():
            found = texts(cell).encode(), _TEXTS
        case _:
            raise TypeError(f"no type of PostgreSQL's is known for {type(cell).__name__}")
    return found


def texts(cells: Sequence[str]) -> str:
    """Write strings as an array of PostgreSQL's."""
    if not cells:
        return "{}"
    text = "".join(cells)
    if "\0" in text:
        cells = [cell.translate(WITHOUT_NUL) for cell in cells]
        text = "\\"
    if '"' in text or "\\" in text:
        cells = [cell.translate(_QUOTED) for cell in cells]
    return '{"' + '","'.join(cells) + '"}'


# --- arrays, as PostgreSQL writes them: much quicker than one value after the other ------------------------


def arrays(columns: Sequence[tuple[str, str]], rows: Sequence[Sequence[Any]]) -> list[str]:
    """Write each column of *rows* as an array.

    Args:
        columns: the name and the type of each: ``bigint``, ``float8``, ``text``, ``bytea``.
        rows: their values.

    """
    if not rows:
        return ["{}" for _ in columns]
    return [
        _WRITTEN[type_](cells) for (_, type_), cells in zip(columns, zip(*rows, strict=True), strict=True)
    ]


def _numbers(cells: Sequence[float | None]) -> str:
    return "{" + ",".join(["NULL" if cell is None else repr(cell) for cell in cells]) + "}"


def _octets(cells: Sequence[bytes | None]) -> str:
    return "{" + ",".join(["NULL" if cell is None else f'"\\\\x{cell.hex()}"' for cell in cells]) + "}"


_WRITTEN: Final[Mapping[str, Callable[[Any], str]]] = {
    "bigint": _numbers,
    "float8": _numbers,
    "text": texts,
    "bytea": _octets,
}
