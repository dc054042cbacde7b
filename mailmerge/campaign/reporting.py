"""From the ledger to a person: result files, the summary, and the exit code that says it in one number."""

from __future__ import annotations

import csv
import json
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import ListError
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import KEY_COLUMN, Counts, Status
from mailmerge.report.result_files import FAILED, record

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from datetime import datetime
    from pathlib import Path

    import pandas as pd

    from mailmerge.errors import MailmergeError
    from mailmerge.report.summary import Summary

FINISHED = "finished"
INTERRUPTED = "interrupted"


class Report(Struct, frozen=True):
    """What a campaign has come to after a run."""

    campaign: str
    summary: Summary
    exit_code: int
    folder: Path | None = None
    """Where the result files are; None: they could not be written."""
    page: Path | None = None
    """The report page; None: it was not wanted, or could not be written."""
    extra: tuple[Path, ...] = ()
    """Further files that were asked for: a workbook, a copy of the list."""
    failed: int = 0
    """How many rows ``failed.csv`` holds."""
    reason: str = FINISHED
    """Why the run ended."""
    error: MailmergeError | None = None
    """What stopped it, if something did."""
    next_at: datetime | None = None
    """When running again makes sense; None: now, or never."""
    seconds: float = 0.0
    sent_now: int = 0
    """How many messages this run got accepted."""
    notes: tuple[str, ...] = ()
    ledger: Path | None = None
    """The ledger it was made from; None: that is gone, as after a rehearsal."""

    @property
    def counts(self) -> Counts:
        """How many rows are in each state."""
        return self.summary.counts

    def to_dataframe(self) -> pd.DataFrame:
        """Give every row with its state as a pandas frame: the columns of ``results.csv``, times in UTC.

        What the ledger says now; after a rehearsal, what ``results.jsonl`` says.

        Raises:
            LedgerError: the ledger cannot be read.
            OSError: the result file cannot be read.

        """
        from mailmerge.report.result_files import to_frame

        if self.ledger is None:
            if self.folder is None:
                return to_frame(())
            with (self.folder / "results.jsonl").open(encoding="utf-8") as lines:
                return to_frame(map(json.loads, lines))
        with Ledger.open_read_only(self.ledger, self.campaign) as ledger:
            return to_frame(map(record, ledger.results()))


def exit_code(counts: Counts, end_code: int, *, complete: bool) -> int:
    """Say it in one number.

    Args:
        counts: how many rows are in each state.
        end_code: what ended the run: 0, or the code of the error that did.
        complete: whether the run was meant to do all that is left (no ``--limit``, no ``--rows``).

    """
    if end_code in {1, 6, 7, 8, 130, 143}:
        return end_code
    if counts[Status.IN_DOUBT]:
        return 4
    if end_code:
        return end_code
    if counts[Status.DEFERRED] or (complete and counts[Status.PENDING]):
        return 5
    if any(counts[status] for status in FAILED):
        return 3
    return 0


def keys_in_failed(path: Path, identify: Callable[[Path], Iterable[str]]) -> list[str]:
    """Find out who a ``failed.csv`` is about: people keep their keys, rows do not keep their numbers.

    Args:
        path: the file.
        identify: tells the keys of a list's rows, for a file without our column.

    Raises:
        ListError: it cannot be read, or names nobody.
        InputError: *identify* cannot tell who a row is.

    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            ours = KEY_COLUMN in (rows.fieldnames or ())
            keys = [row.get(KEY_COLUMN) or "" for row in rows] if ours else []
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ListError(f"cannot read {path}: {error}", code="D100") from error
    keys = [key for key in (keys if ours else identify(path)) if key]
    if not keys:
        raise ListError(f"{path} names no rows", code="D152", hint="give the failed.csv that a run wrote")
    return keys
