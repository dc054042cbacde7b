"""Where a campaign keeps what it knows: ledger and list snapshot beside it, reports in ``out``."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import InUseError, LedgerError
from mailmerge.ledger.ledger import Ledger
from mailmerge.ledger.registry import CampaignRegistry

if TYPE_CHECKING:
    from collections.abc import Mapping

STATE_FOLDER = ".mailmerge"
STATE_VARIABLE = "MAILMERGE_STATE_DIR"
"""Environment variable that moves the user's state folder (account usage, index of campaigns)."""


class Workspace(Struct, frozen=True):
    """The folders and files of one campaign."""

    folder: Path
    """Where campaign.toml is, or else the list."""
    out: Path
    user_state: Path

    @property
    def state(self) -> Path:
        """The private folder of ledger, lock and snapshots."""
        return self.folder / STATE_FOLDER

    @property
    def ledger_path(self) -> Path:
        """The ledger, shared by all campaign names of this folder."""
        return self.state / "ledger.db"

    def make_state(self) -> None:
        """Create the private folder.

        Raises:
            LedgerError: it cannot be created.

        """
        try:
            self.state.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise LedgerError(
                f"cannot create {self.state}: {error.strerror}",
                code="L702",
                hint="progress must be recorded before anything is sent; check the folder's permissions",
            ) from error

    def clear_snapshots(self, keep: Path) -> None:
        """Remove earlier copies of the list."""
        for copy in self.state.glob("list-*"):
            if copy != keep:
                with contextlib.suppress(OSError):
                    copy.unlink()

    def remove_personal_files(self) -> None:
        """Remove list copies and reports, nothing that is not ours."""
        ours = [*self.state.glob("list-*"), *self.out.glob("rehearsal/**/*.eml")]
        names = ("results.csv", "results.jsonl", "results.xlsx", "failed.csv", "report.html", "preview.html")
        folders = (self.out, self.out / "rehearsal", self.out / "redacted")
        ours += [folder / name for folder in folders for name in names]
        for path in ours:
            with contextlib.suppress(FileNotFoundError):
                path.unlink()

    def latest_snapshot(self) -> Path | None:
        """Give the copy of the list that the last run was made from."""
        copies = [path for path in self.state.glob("list-*") if not path.name.endswith(".part")]
        return max(copies, key=lambda path: path.stat().st_mtime, default=None)

    def secret(self, name: str) -> bytes | None:
        """Give the campaign's secret; None: it has none yet.

        Raises:
            LedgerError: the ledger cannot be read.

        """
        if not self.ledger_path.exists():
            return None
        try:
            with Ledger.open_read_only(self.ledger_path, name) as ledger:
                return ledger.secret
        except LedgerError as error:
            if error.code == "L705":  # this name has not been used yet
                return None
            raise

    def secret_for_showing(self, name: str, *, keep: bool = True) -> bytes:
        """Give the campaign's secret, made now if it has none: what is shown has the bytes that will be sent.

        Without *keep*, and where it cannot be kept (a folder that cannot be written, a ledger that was lost,
        another process at work), it is a passing one: then Message-IDs and boundaries will differ.
        """
        known = self.secret(name)
        if known is not None or not keep:
            return known or os.urandom(32)
        try:
            with CampaignRegistry(self.user_state / "campaigns.db") as index:
                index.check_present(self.ledger_path, name)
            with Ledger.lock(self.ledger_path), Ledger.open(self.ledger_path, name) as ledger:
                return ledger.secret
        except (LedgerError, InUseError):
            return os.urandom(32)


def user_state_folder(environ: Mapping[str, str]) -> Path:
    """Give the user's state folder, shared by all campaigns."""
    if moved := environ.get(STATE_VARIABLE):
        return Path(moved)
    from platformdirs import user_state_path

    return user_state_path("mailmerge", appauthor=False)
