"""Copies of ledgers that were deleted or replaced during a run, kept in the user's state folder."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import LedgerError
from mailmerge.ledger.reader import LedgerReader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime
    from pathlib import Path

    from mailmerge.campaign.definition import Definition
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.registry import CampaignRegistry

_JOURNALS = ("", "-wal", "-shm")


def keep(definition: Definition, ledger: Ledger, now: datetime) -> Path:
    """Write what an open ledger has to a new file, and return its path.

    Raises:
        LedgerError: it cannot be read, or the copy not be written.

    """
    kept = _folder(definition) / f"ledger-{now:%Y%m%d-%H%M%S}.db"
    ledger.copy_to(kept)
    return kept


def newest(definition: Definition, registry: CampaignRegistry) -> Path | None:
    """Return a copy that has everything the campaign's lost ledger had; None: there is none."""
    here = definition.ledger_place.known_as
    for path in _kept(definition):
        with contextlib.suppress(LedgerError), LedgerReader.open_read_only(path, definition.name) as copy:
            if registry.is_newest(copy, here):
                return path
    return None


def forget(definition: Definition, ledger: LedgerReader) -> None:
    """Remove the copies that have a campaign, and those that cannot be read.

    Raises:
        FileError: one cannot be removed.

    """
    for path in _kept(definition):
        if _has(path, ledger):
            for journal in _JOURNALS:
                files.remove_file(path.with_name(path.name + journal))


def _folder(definition: Definition) -> Path:
    return definition.workspace.user_state / "rescued"


def _kept(definition: Definition) -> Iterator[Path]:
    folder = _folder(definition)
    yield from (
        folder / name for name in sorted(files.contents(folder), reverse=True) if name.endswith(".db")
    )


def _has(path: Path, ledger: LedgerReader) -> bool:
    try:
        with LedgerReader.open_read_only(path, ledger.campaign) as copy:
            return copy.secret == ledger.secret
    except LedgerError as error:
        return error.code != "L705"
