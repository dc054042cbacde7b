"""From the ledger to a person: result files, the summary, and the exit code that says it in one number."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailmerge.errors import ListError
from mailmerge.model import Counts, Status
from mailmerge.report.files import FAILED, ReportFiles
from mailmerge.report.summary import Summary

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path

    from mailmerge.delivery.ledger import Ledger
    from mailmerge.errors import MailmergeError
    from mailmerge.recipients import RecipientList

FINISHED = "finished"
INTERRUPTED = "interrupted"


@dataclass(frozen=True, slots=True)
class Report:
    """What a campaign has come to after a run."""

    campaign: str
    summary: Summary
    exit_code: int
    folder: Path | None = None
    """Where the result files are; None: they could not be written."""
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

    @property
    def counts(self) -> Counts:
        """How many rows are in each state."""
        return self.summary.counts


def write_report(
    ledger: Ledger, recipients: RecipientList | None, folder: Path
) -> tuple[Summary, Path | None, int]:
    """Write the result files; without a readable list there is no ``failed.csv``.

    A folder that cannot be written loses the files, never the summary: the ledger can make them again.
    """
    summary = Summary()
    try:
        files = ReportFiles(folder)
        files.write(ledger.results(), summary.add)
        failed = _write_failed(files, ledger, recipients) if recipients is not None else 0
    except OSError:
        summary = Summary()
        for result in ledger.results():
            summary.add(result)
        return summary, None, 0
    return summary, folder, failed


def _write_failed(files: ReportFiles, ledger: Ledger, recipients: RecipientList) -> int:
    failed = {result.row: result for result in ledger.results() if result.status in FAILED and result.row}
    try:
        rows = [(cells, failed[row]) for row, cells in recipients.originals(failed)] if failed else []
    except ListError:  # the list itself was the problem, and has been told
        return 0
    return files.write_failed(recipients.columns.headings, rows)


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


def rows_in_failed(path: Path) -> str:
    """Read which rows a ``failed.csv`` is about, as a row selection.

    Raises:
        ListError: it is none of ours, or names no rows.

    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row.get("mailmerge_row") or "" for row in csv.DictReader(file)]
    except (OSError, UnicodeDecodeError) as error:
        raise ListError(f"cannot read {path}: {error}", code="D100") from error
    numbers = [row for row in rows if row.isdecimal()]
    if not numbers:
        raise ListError(
            f"{path} names no rows", code="D152", hint="it needs the column mailmerge_row of our failed.csv"
        )
    return ",".join(numbers)
