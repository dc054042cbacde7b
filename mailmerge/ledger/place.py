"""Where a campaign's ledger is: in a file of its folder, or in a database that machines share."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

from msgspec import Struct

from mailmerge.ledger import schema
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.locks import NO_WAIT, CampaignLock, LockWait
from mailmerge.ledger.reader import LedgerReader, now_utc

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime
    from pathlib import Path

    from mailmerge.ledger.schema import LedgerFile
    from mailmerge.ledger.server_place import ServerPlace


class FilePlace(Struct, frozen=True):
    """A file, which all campaigns of a folder share."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def known_as(self) -> Path | str:
        """What identifies it in the user's state folder."""
        return self.path

    def exists(self) -> bool:
        """Return whether there is a ledger."""
        return self.path.exists()

    def is_older(self) -> bool:
        """Return whether opening it for writing changes its tables."""
        return schema.is_older(self.path)

    def lock(self, campaign: str, wait: LockWait = NO_WAIT) -> CampaignLock:  # noqa: ARG002  of all in the file
        """Return the lock that lets one process work on the campaign."""
        return CampaignLock(self.path.parent, wait=wait)

    def is_held(self, campaign: str) -> bool:
        """Return whether a process works on the campaign now; nothing is created."""
        return self.lock(campaign).is_held()

    def has_fleet(self, campaign: str) -> bool:  # noqa: ARG002  no other machine uses a file
        """Return whether workers are sending the campaign, or have paused."""
        return False

    def open_for_writing(
        self,
        campaign: str,
        *,
        create: bool = True,
        now: Callable[[], datetime] = now_utc,
        beside: bool = False,
        lock: object = None,  # noqa: ARG002  the system knows who has it
    ) -> Ledger:
        """Open it; see `Ledger.open`."""
        return Ledger.open(self.path, campaign, create=create, now=now, beside=beside)

    def database_to_fill(self) -> LedgerFile:
        """Open the ledger, made if there is none, to write a campaign into it that it does not have."""
        if not self.exists():
            schema.create(self.path)
        return schema.connect(self.path)

    def open_read_only(self, campaign: str) -> LedgerReader:
        """Open it for reading; its bytes do not change."""
        return LedgerReader.open_read_only(self.path, campaign)


LedgerPlace: TypeAlias = "FilePlace | ServerPlace"
