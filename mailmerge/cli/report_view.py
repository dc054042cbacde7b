"""Results as people read them: counts, reasons with rows, files, and what to do next.

At a terminal counts and reasons are tables; wherever else the output goes, plain lines take their place.
rich knows how wide the terminal and how wide each character is, and leaves colours out under ``NO_COLOR``.
"""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Literal

from mailmerge.cli.output import emit, note, out, show_bug, show_diagnostics
from mailmerge.cli.plan_view import clock_time
from mailmerge.model import Counts, Status
from mailmerge.report.summary import WORDS
from mailmerge.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from rich.table import Table

    from mailmerge.campaign.results import Report
    from mailmerge.report.summary import Explanation, Summary

_COLOURS = {
    Status.ACCEPTED: "green",
    Status.DRAFTED: "green",
    Status.REJECTED: "red",
    Status.EXPIRED: "red",
    Status.BOUNCED: "red",
    Status.IN_DOUBT: "bold red",
    Status.HANDING_OVER: "bold red",
    Status.DEFERRED: "yellow",
    Status.INVALID: "magenta",
}


def show_report(report: Report, *, as_json: bool = False, verbose: bool = False) -> None:
    """Show what a run has come to.

    Args:
        report: what it has come to.
        as_json: as one JSON object.
        verbose: with the traceback of a bug that cost the report page.

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
    out(report.summary.headline())
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
        return (
            f"{lost}; from the ledger they are written again by: {going.command('report')}" if going else lost
        )
    failed = (
        f"   {report.failed_name} ({plural(report.failed, 'row')}, ready to fix and resend)"
        if report.failed
        else ""
    )
    table, lines = (report.names.get(name, name) for name in ("results.csv", "results.jsonl"))
    return f"Results: {report.folder / table}   {lines}{failed}"


def _next(report: Report) -> Iterator[str]:
    going = report.continuation
    if going is None:
        return
    doubtful = report.counts[Status.IN_DOUBT]
    if doubtful:
        yield f"Next: {going.command('resolve')}   for {plural(doubtful, report.counted)} in doubt"
    if going.left:
        when = f"   after {clock_time(report.next_at)}" if report.next_at else ""
        yield f"Next: {going.again}{when}   {going.remaining}"


def show_counts(counts: Counts, counted: str = "row") -> None:
    """Show how many rows or messages are in each state; in a table with their share."""
    if not sys.stdout.isatty():
        for status in counts:
            out(f"  {counts[status]:>9,}  {WORDS[status]}")
        return
    from rich.text import Text

    table = _table((f"{counted}s", "right"), ("share", "right"), ("state", "left"))
    for status in counts:
        share = 100 * counts[status] / counts.total
        table.add_row(
            f"{counts[status]:,}", f"{share:.1f} %", Text(WORDS[status], style=_COLOURS.get(status, ""))
        )
    _print(table)


def _explain_in_table(explanations: Iterable[Explanation], counted: str) -> None:
    """Show why rows were not accepted, with the server's words and the rows."""
    from rich.text import Text

    table = _table(("state", "left"), (f"{counted}s", "right"), ("why", "left"), ("which", "left"))
    before = None
    for entry in explanations:
        label = WORDS[entry.status] if entry.status is not before else ""
        before = entry.status
        table.add_row(
            Text(label, style=_COLOURS.get(entry.status, "")),
            f"{entry.count:,}",
            Text(printable(entry.words)),
            Text(printable(entry.rows), style="dim"),
        )
    if table.row_count:
        _print(table)


def _table(*columns: tuple[str, str]) -> Table:
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, header_style="dim")
    for name, justify in columns:
        number = justify == "right"
        table.add_column(
            name, justify="right" if number else "left", no_wrap=number, overflow="fold", min_width=4
        )
    return table


def _print(table: Table) -> None:
    from rich.console import Console

    # rich alone would leave bold and dim in.
    colours: Literal["auto"] | None = None if "NO_COLOR" in os.environ else "auto"
    Console(file=sys.stdout, color_system=colours, highlight=False, markup=False, emoji=False).print(table)
