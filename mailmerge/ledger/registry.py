"""Which ledgers this user has, and how far each had got: a lost or older one must not be taken for new."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mailmerge.errors import LedgerError
from mailmerge.ledger.databases import StateDatabase

if TYPE_CHECKING:
    from pathlib import Path

_SCHEMA = """
CREATE TABLE IF NOT EXISTS known (
    ledger TEXT NOT NULL, campaign TEXT NOT NULL, mark INTEGER NOT NULL, noted REAL NOT NULL,
    PRIMARY KEY (ledger, campaign)) WITHOUT ROWID;
"""
_NOTE = """
INSERT INTO known (ledger, campaign, mark, noted) VALUES (?, ?, ?, ?) ON CONFLICT (ledger, campaign)
DO UPDATE SET mark = max(mark, excluded.mark), noted = excluded.noted
"""


class CampaignRegistry(StateDatabase):
    """The user's campaigns with their high-water marks: how many hand-overs each ledger had recorded."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _SCHEMA)

    def mark(self, ledger: Path, campaign: str) -> int | None:
        """Return the high-water mark noted for a campaign; None: not known here."""
        query = "SELECT mark FROM known WHERE ledger = ? AND campaign = ?"
        found = self._db.row(query, (_name(ledger), campaign))
        return None if found is None else int(found[0])

    def check_present(self, ledger: Path, campaign: str) -> None:
        """Refuse to begin anew where messages were handed over before; ask before opening the ledger.

        Raises:
            LedgerError: the ledger file is gone.

        """
        mark = self.mark(ledger, campaign)
        if mark and not ledger.exists():
            raise LedgerError(
                f'the ledger of campaign "{campaign}" is missing: {ledger} (it knew of {mark} hand-overs)',
                code="L705",
                hint="restore it from a backup; to write to the whole list again, start anew with --name NEW",
            )

    def check(self, ledger: Path, campaign: str, handed_over: int) -> None:
        """Compare an opened ledger with what was noted.

        Raises:
            LedgerError: the ledger is older than it should be.

        """
        mark = self.mark(ledger, campaign)
        if mark is not None and handed_over < mark:
            raise LedgerError(
                f'the ledger of campaign "{campaign}" is older than it should be: {ledger} knows of '
                f"{handed_over} hand-overs, there were {mark}",
                code="L705",
                hint="an old copy, or a sync program put it back: find the newest one; nothing was sent",
            )

    def note(self, ledger: Path, campaign: str, handed_over: int) -> None:
        """Remember how far a campaign has got; a mark never goes down."""
        cells = (_name(ledger), campaign, handed_over, datetime.now(UTC).timestamp())
        self._db.execute(_NOTE, cells)

    def forget(self, ledger: Path, campaign: str) -> None:
        """Drop a campaign, as after a purge."""
        self._db.execute("DELETE FROM known WHERE ledger = ? AND campaign = ?", (_name(ledger), campaign))


def _name(ledger: Path) -> str:
    return str(ledger.resolve())
