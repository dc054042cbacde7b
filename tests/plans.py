"""Plans that contain only the rows a test needs, and the status of these in a ledger."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING, cast

from mailmerge.addresses import Address
from mailmerge.campaign.standing import Join, Standing
from mailmerge.model import Envelope, FrozenMessage, Status
from mailmerge.plan.repetitions import settle_repetitions
from mailmerge.plan.store import PlanRow
from mailmerge.recipients.suppression import Suppressed
from memory_plan import MemoryPlan

if TYPE_CHECKING:
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.plan.store import PlanReader


MADE = datetime(2026, 11, 27, 9, 41, tzinfo=UTC)


def row(n: int, status: Status = Status.PENDING, **more: object) -> PlanRow:
    """Make a row of a plan."""
    return PlanRow(n=n, row=n + 2, key=f"k{n}", address=f"p{n}@example.org", status=status, **more)  # type: ignore[arg-type]


def frozen(number: int, **more: object) -> FrozenMessage:
    """Make a frozen message."""
    body = f"Content-Type: text/plain\r\n\r\nDear number {number},\r\nthe same for all of you.\r\n".encode()
    values: dict[str, object] = {
        "row": number + 2,
        "key": f"k{number}",
        "envelope": Envelope(Address("me", "example.org"), (Address(f"p{number}", "example.org"),)),
        "sender": "me@example.org",
        "head": b"Subject: Hello\r\nMIME-Version: 1.0\r\n",
        "body": (body,),
        "files": (),
        "size": 400,
        "digest": hashlib.sha256(body).hexdigest(),
        **more,
    }
    return FrozenMessage(**values)  # type: ignore[arg-type]


def planned(*rows: PlanRow, unique_addresses: bool = False) -> PlanReader:
    """Make a plan of *rows*; those that repeat another one are found, as in a real one."""
    plan = MemoryPlan("0" * 16, datetime(2026, 11, 22, tzinfo=UTC))
    for row in rows:
        plan.add_row(row)
    for _ in settle_repetitions(plan, addresses=unique_addresses):
        pass
    return plan.finish(b"")


def people(*keys: str, status: Status = Status.PENDING, first: int = 2) -> list[PlanRow]:
    """Return rows with these keys, each with an address of its own."""
    return [
        PlanRow(n, row, key, f"{key}@example.org", status, holds=bool(key))
        for n, (row, key) in enumerate(enumerate(keys, first))
    ]


def standing(ledger: LedgerReader, *rows: PlanRow, unique_addresses: bool = False) -> Standing:
    """Return the status of *rows*, and keep it in the ledger where that can be written."""
    found = Standing(ledger, planned(*rows, unique_addresses=unique_addresses), Join(Suppressed()))
    if hasattr(ledger, "note_standing"):
        writable = cast("Ledger", ledger)
        found.reopen_corrected(writable)
        writable.note_standing(found.tally()[1])
    return found
