"""The promises that are kept after every run, whatever happened to it: one function checks them."""

from __future__ import annotations

import contextlib
import hashlib
import re
import sqlite3
from collections import Counter
from email import message_from_bytes, policy
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from mailmerge.campaign.opening import open_standing
from mailmerge.campaign.planning import Planning
from mailmerge.ledger.place import FilePlace
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path

    from faultd import Accepted
    from mailmerge.campaign import Campaign
    from mailmerge.model import Counts, Result
    from mailmerge.plan.store import PlanReader

_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_BOUNDARY = re.compile(rb"(\r\n--=_[^\r]+\r\n)")
_NOT_KNOWN = {Status.IN_DOUBT, Status.HANDING_OVER}


def check_invariants(
    campaign: Campaign,
    taken: Sequence[Accepted],
    *,
    rows: int,
    resent: Collection[str] = (),
    settled: Collection[str] = (),
) -> Counts:
    """Compare the campaign's ledger with what the server took, and give the counts.

    Args:
        campaign: no process works on it.
        taken: every message the server took, told or not.
        rows: how many rows the list has.
        resent: addresses that a person asked to be written to again.
        settled: addresses that a person said had arrived.

    """
    with contextlib.ExitStack() as stack:
        standing = stack.enter_context(open_standing(campaign.definition))
        assert standing is not None
        if standing.plan is None:  # the campaign was moved since it ran: its plan is its old place's
            standing.plan = _plan_now(campaign, stack)
        results = list(standing.results())
        counts = standing.ledger.counts()
    place = campaign.definition.ledger_place
    ledger = place.path if isinstance(place, FilePlace) else place
    promised = set(attempts_of(ledger, campaign.name, "key", "message_id", "digest"))
    taken_by = Counter(address.decode() for message in taken for address in message.recipients)

    # Every row has one state, and the numbers add up to the list.
    listed = [result.row for result in results if result.row is not None]
    assert len(listed) == rows == len(set(listed)), f"{len(listed)} rows in the ledger, {rows} in the list"
    assert counts.total == len(results), f"{counts.total} counted, {len(results)} rows"

    # Every message belongs to one row, and is the very one the ledger promised.
    known = {result.address: result for result in results if result.status is not Status.DUPLICATE}
    strangers = set(taken_by) - set(known)
    assert not strangers, f"taken, but of no row: {sorted(strangers)[:5]}"
    for message in taken:
        _check_bytes(message, known, promised)

    # Nobody was written to twice, unless a person wanted it.
    twice = {address: n for address, n in taken_by.items() if n > 1 and address not in resent}
    assert not twice, f"taken twice: {list(twice.items())[:5]}"

    # What is called accepted was taken, and what was taken is called accepted or in doubt.
    for result in known.values():
        _check_state(result, taken_by[result.address], result.address in settled)
    return counts


def _plan_now(campaign: Campaign, stack: contextlib.ExitStack) -> PlanReader:
    planning = Planning(campaign.definition, campaign.definition.open_list())
    return (planning.find(stack) or planning.make(stack)).reader


def attempts_of(ledger: Path | ServerPlace, name: str, *columns: str) -> list[tuple[Any, ...]]:
    """Read these columns of all attempts, oldest first, past the code that the program reads them with."""
    wanted = ", ".join(f"a.{column}" for column in columns)
    query = (
        f"SELECT {wanted} FROM attempt a JOIN campaign c ON c.id = a.campaign WHERE c.name = ? ORDER BY a.id"
    )
    if isinstance(ledger, ServerPlace):
        import psycopg

        with psycopg.connect(ledger.conninfo, options="-c search_path=mailmerge") as connection:
            return connection.execute(query.replace("?", "%s"), (name,)).fetchall()
    with contextlib.closing(sqlite3.connect(f"{ledger.as_uri()}?mode=ro", uri=True)) as db:
        return db.execute(query, (name,)).fetchall()


def _check_bytes(message: Accepted, known: dict[str, Result], promised: set[tuple[Any, ...]]) -> None:
    rows = {known[address.decode()].key for address in message.recipients}
    assert len(rows) == 1, f"one message for several rows: {rows}"
    found = _MESSAGE_ID.search(message.content)
    assert found is not None
    promise = (rows.pop(), found[1].decode(), _digest(message))
    assert promise in promised, f"bytes that nobody promised: {message.recipients}"


def _digest(message: Accepted) -> str:
    """Make the digest of an attempt from what the server got."""
    date, message_id, own, rest = message.content.split(b"\r\n", 3)
    assert own == b"X-Mailmerge-ID: " + message_id.partition(b"<")[2].partition(b"@")[0]
    said = b"".join(map(_file, _BOUNDARY.split(rest)))
    frozen = hashlib.sha256(b" ".join(message.recipients) + b"\0" + said).hexdigest()
    moment = parsedate_to_datetime(date.decode().removeprefix("Date: ")).isoformat()
    return hashlib.sha256(f"{frozen}\n{moment}\n{message_id.decode()[12:]}".encode()).hexdigest()


def _file(piece: bytes) -> bytes:
    """Put what a digest takes for a file in its place; all else stays as it is."""
    if b"\r\nContent-Disposition:" not in piece.partition(b"\r\n\r\n")[0]:
        return piece
    part = message_from_bytes(piece, policy=policy.default)
    content = hashlib.sha256(bytes(part.get_payload(decode=True))).hexdigest()
    charset = part.get_content_charset()  # of text
    kind = part.get_content_type() + (f"; charset={charset}" if charset else "")
    return f"\0{content} {kind} {part.get_filename()}\0".encode()


def _check_state(result: Result, taken: int, settled: bool) -> None:
    where = f"row {result.row} <{result.address}> is {result.status}, the server took it {taken} times"
    if result.status is Status.ACCEPTED:
        assert taken or settled, where
    elif taken:
        assert result.status in _NOT_KNOWN, where
