"""Where a campaign keeps its data: ledger and list snapshot next to it, reports in ``out``."""

from __future__ import annotations

import contextlib
import re
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge import files, options
from mailmerge.errors import FileError
from mailmerge.lazy_re import lazy_re
from mailmerge.ledger.databases import unusable

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping

STATE_FOLDER = ".mailmerge"
_STATE_FILES = lazy_re(r"list-|ledger\.db\.v\d+\.bak\Z")
_REPORT_FILES = lazy_re(
    r"(?:results(?:-\d+)?\.(?:csv|jsonl|xlsx)|failed(?:-\d+)?\.(?:csv|xlsx)"
    r"|(?:report|preview)(?:-\d+)?\.html|\.written)\Z"
)
MESSAGE_FILES = lazy_re(r".*\.eml\Z", re.DOTALL)
"""Names of the messages that a rehearsal keeps."""


class Workspace(Struct, frozen=True):
    """The folders and files of one campaign."""

    folder: Path
    """Where campaign.toml is, or else the list; of a campaign without either: the folder for its state."""
    out: Path
    user_state: Path
    cache: Path
    """The folder that plans are kept in."""

    @property
    def state(self) -> Path:
        """The private folder of ledger, lock and snapshots."""
        return self.folder / STATE_FOLDER

    @property
    def ledger_path(self) -> Path:
        """The ledger, shared by all campaign names of this folder."""
        return ledger_of(self.folder)

    def make_state(self) -> None:
        """Create the private folder.

        Raises:
            LedgerError: it cannot be created.

        """
        try:
            files.private_folder(self.state)
        except FileError as error:
            raise unusable(error) from error

    def clear_snapshots(self, keep: Path | None) -> None:
        """Remove earlier copies of the list, all but the one to *keep*."""
        for copy in self._snapshots():
            if copy != keep:
                with contextlib.suppress(FileError):
                    files.remove_file(copy)

    @property
    def folders(self) -> dict[Path, re.Pattern[str]]:
        """All folders that we write into, and which files in them have personal data."""
        rehearsal = self.out / "rehearsal"
        return {
            self.state: _STATE_FILES,
            self.out: _REPORT_FILES,
            self.out / "redacted": _REPORT_FILES,
            rehearsal: _REPORT_FILES,
            rehearsal / "messages": MESSAGE_FILES,
        }

    def sweep(self) -> None:
        """Remove the drafts of processes that were killed."""
        files.sweep(*self.folders, named=[self.folder])

    def check_folders(self) -> None:
        """Check that the folders that we write into are ours.

        Raises:
            FileError: one of them is a link, is not a folder, or is somebody else's.

        """
        for folder in self.folders:
            files.contents(folder)

    def remove_personal_files(self) -> None:
        """Remove list copies, reports and drafts, nothing that is not ours.

        Raises:
            FileError: one of them cannot be removed, or its folder is not ours.

        """
        for folder, names in self.folders.items():
            files.clear(folder, names)

    def latest_snapshot(self) -> Path | None:
        """Return the copy of the list that the last run was made from."""
        copies = self._snapshots()
        return max(copies, key=lambda path: copies[path].st_mtime, default=None)

    def _snapshots(self) -> dict[Path, os.stat_result]:
        found = files.contents(self.state)
        return {self.state / name: facts for name, facts in found.items() if name.startswith("list-")}


def ledger_of(folder: Path) -> Path:
    """Return the ledger of the campaigns in a folder."""
    return folder / STATE_FOLDER / "ledger.db"


def folder_of_name(user_state: Path, name: str) -> Path:
    """Return the folder of a campaign that has nothing but its *name*; any string is one."""
    import hashlib

    readable = re.sub(r"[^\w-]+", "-", name)[:40].strip("-")
    return user_state / "campaigns" / f"{readable}-{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def user_state_folder(environ: Mapping[str, str]) -> Path:
    """Return the user's state folder, shared by all campaigns."""
    for variable in options.STATE_FOLDER.environment:
        if moved := environ.get(variable):
            return Path(moved)
    from platformdirs import user_state_path

    return user_state_path("mailmerge", appauthor=False)
