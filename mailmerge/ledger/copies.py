"""Which accepted messages have a copy in the user's own mailbox, and for which that is not certain.

These marks are separate: nothing here reads or changes the state of a row. They are made in two steps,
because no mail folder can be written in one transaction with the ledger: *begun* before a copy may be there,
*made* after. A copy that was begun and not made is looked for before it is made again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from mailmerge.ledger.databases import CampaignBook
from mailmerge.sqlite import zoned

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime


class Uncopied(NamedTuple):
    """An accepted message that does not have a copy yet, or may have one."""

    attempt: int
    key: str
    row: int
    message_id: str
    date: datetime
    """Its Date, in the time zone that it was written in."""
    frozen: str
    """Digest of the `FrozenMessage`."""
    begun: bool
    """Whether the copy may be there."""


# A message in doubt that a person, or a report in the mailbox, settled as accepted counts as accepted.
_LEFT = """
FROM attempt a LEFT JOIN copy c ON c.attempt = a.id
WHERE a.campaign = ? AND (a.status = 'accepted' OR a.status = 'in_doubt' AND EXISTS (
    SELECT 1 FROM delivery d WHERE d.campaign = a.campaign AND d.key = a.key AND d.attempt = a.id
    AND d.status = 'accepted')) AND a.message_id <> '' AND c.made IS NULL
"""
_UNCOPIED = f"""
SELECT a.id, a.key, a.row, a.message_id, a.date, a.utc_offset, a.frozen, c.attempt IS NOT NULL
{_LEFT} AND a.id > ? ORDER BY a.id LIMIT ?
"""
_BEGIN = "INSERT INTO copy (attempt) VALUES (?) ON CONFLICT DO NOTHING"
_MADE = "UPDATE copy SET made = ? WHERE attempt = ?"
_WITHDRAW = "DELETE FROM copy WHERE attempt = ? AND made IS NULL"


class CopyBook(CampaignBook):
    """One campaign's marks for copies; get one from `LedgerReader.copies`."""

    def left(self) -> int:
        """Return the number of accepted messages that do not certainly have a copy."""
        return int(self._db.row(f"SELECT count(*) {_LEFT}", (self._id,))[0])

    def uncopied(self, after: int, most: int) -> list[Uncopied]:
        """Return the next *most* messages without a copy, in the order in which they were sent.

        *after* is the number of an attempt: only later ones.
        """
        rows = self._db.rows(_UNCOPIED, (self._id, after, most))
        return [
            Uncopied(attempt, key, row, message_id, zoned(date, offset), frozen, bool(begun))
            for attempt, key, row, message_id, date, offset, frozen, begun in rows
        ]

    def begin(self, attempts: Iterable[int]) -> None:
        """Record durably that copies of these may be made from now on."""
        with self._db.transaction():
            self._db.executemany(_BEGIN, [(attempt,) for attempt in attempts])

    def settle(self, made: Iterable[int], withdrawn: Iterable[int] = ()) -> None:
        """Record that these copies are there, and that the *withdrawn* ones were not tried after all."""
        now = self._now().timestamp()
        with self._db.transaction():
            self._db.executemany(_MADE, [(now, attempt) for attempt in made])
            self._db.executemany(_WITHDRAW, [(attempt,) for attempt in withdrawn])
