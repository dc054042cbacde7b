"""Results as people read them: counts, reasons with rows, files, and what to do next.

In a terminal, counts and reasons are tables; elsewhere they are plain lines.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from mailmerge.cli.output import emit, note, out, show_bug, show_diagnostics
from mailmerge.cli.plan_view import clock_time
from mailmerge.cli.terminal import Column, columns, table
from mailmerge.model import Counts, Status
from mailmerge.report.summary import WORDS
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.campaign.results import Report
    from mailmerge.report.summary import Explanation, Summary


def show_report(report: Report, *, as_json: bool = False, verbose: bool = False) -> None:
    """Show the result of a run.

    Args:
        report: the result.
        as_json: as one JSON object.
        verbose: with the traceback of a bug that prevented the report page.

    """
    if report.error:
        show_diagnostics(report.error.diagnostics)
    if as_json:
        _emit_report(report)
    else:
        _show_text(report)
    if report.bug is not None:
        show_bug(report.bug, "the report page could not be made; the results are complete", whole=verbose)


def _emit_report(report: Report) -> None:
    emit(
        "report",
        campaign=report.campaign,
        statuses=report.counts.by_status,
        reason=report.reason,
        next_at=report.next_at.isoformat() if report.next_at else None,
        folder=str(report.folder) if report.folder else None,
        page=str(report.page) if report.page else None,
        files=list(map(str, report.extra)),
        exit_code=report.exit_code,
    )


def _show_text(report: Report) -> None:
    for text in report.notes:
        note(text)
    out(report.summary.headline(), *report.counts)
    _explain(report.summary, report.counted)
    _name_files(report)
    for line in _next(report):
        out(line)


def _explain(summary: Summary, counted: str) -> None:
    if sys.stdout.isatty():
        _explain_in_table(summary.explanations(), counted)
        rest = summary.remarks()
    else:
        rest = summary.lines()
    for line in rest:
        out(line)


def _name_files(report: Report) -> None:
    if report.page:
        out(f"Report:  {report.page}")
    elif report.page_error and not report.bug:
        note(f"The report page could not be written ({report.page_error}); the results are complete.")
    out(_files(report))
    for path in report.extra:
        out(f"         {path}")


def _files(report: Report) -> str:
    if report.folder is None:
        why = f" ({report.folder_error})" if report.folder_error else ""
        lost = f"The result files could not be written{why}"
        going = report.continuation
        return f"{lost}; write them again from the ledger by: {going.command('report')}" if going else lost
    failed = (
        f"   {report.failed_name} ({plural(report.failed, 'row')}, ready to fix and resend)"
        if report.failed
        else ""
    )
    table, lines = (report.names.get(name, name) for name in ("results.csv", "results.jsonl"))
    return f"Results: {report.folder / table}   {lines}{failed}"


_LEDGER_GONE = "L713"
"""A person must put its copy in place first: no command continues before that."""


def _next(report: Report) -> Iterator[str]:
    going = report.continuation
    if going is None or (report.error is not None and report.error.code == _LEDGER_GONE):
        return
    doubtful = report.counts[Status.IN_DOUBT]
    if doubtful:
        yield f"Next: {going.command('resolve')}   for {plural(doubtful, report.counted)} in doubt"
    if going.left:
        when = f"   after {clock_time(report.next_at)}" if report.next_at else ""
        yield f"Next: {going.again}{when}   {going.remaining}"


def show_counts(counts: Counts, counted: str = "row") -> None:
    """Show how many rows or messages are in each state; in a table, with their share."""
    if not sys.stdout.isatty():
        for status in counts:
            out(f"  {counts[status]:>9,}  {WORDS[status]}")
        return
    rows = [
        (f"{counts[status]:,}", f"{100 * counts[status] / counts.total:.1f} %", WORDS[status])
        for status in counts
    ]
    head = (Column(f"{counted}s", number=True), Column("share", number=True), Column("state"))
    _print(head, rows)


def _explain_in_table(explanations: Iterable[Explanation], counted: str) -> None:
    """Show why rows were not accepted, with the server's reply and the rows."""
    entries = list(explanations)
    if not entries:
        return
    rows = [
        (
            WORDS[entry.status] if not number or entry.status is not entries[number - 1].status else "",
            f"{entry.count:,}",
            entry.words,
            entry.rows,
        )
        for number, entry in enumerate(entries)
    ]
    head = (Column("state"), Column(f"{counted}s", number=True), Column("why"), Column("which"))
    _print(head, rows)


def _print(head: Sequence[Column], rows: Sequence[Sequence[str]]) -> None:
    """Print a table; the words of states have the colours of the states."""
    states = {word: status for status, word in WORDS.items()}
    at = [column.heading for column in head].index("state")
    out()
    for line in table(head, rows, columns(sys.stdout) or 80):
        status = states.get(line[at].strip()) if at < len(line) else None
        out("  ".join(line).rstrip(), *([status] if status else []))
    out()
