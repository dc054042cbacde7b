"""The end of a run as people read it: counts, reasons with rows, files, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.cli import tables
from mailmerge.cli.output import emit, note, out, show_diagnostics
from mailmerge.cli.plan_view import clock_time
from mailmerge.model import Status
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.campaign.reporting import Report
    from mailmerge.report.summary import Summary


def show_report(
    report: Report, *, as_json: bool = False, again: str | None = None, page: bool = True
) -> None:
    """Show what a run has come to.

    Args:
        report: what it has come to.
        as_json: as one JSON object.
        again: the command that continues it, if one can.
        page: whether there should be a report page.

    """
    if report.error:
        show_diagnostics(report.error.diagnostics)
    if as_json:
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
        return
    for text in report.notes:
        note(text)
    out(report.summary.headline())
    _explain(report.summary)
    _name_files(report, page=page)
    if again:
        for line in _next(report, again):
            out(line)


def _explain(summary: Summary) -> None:
    if tables.wanted():
        tables.show_explanations(summary.explanations())
        rest = summary.remarks()
    else:
        rest = summary.lines()
    for line in rest:
        out(line)


def _name_files(report: Report, *, page: bool) -> None:
    if report.page:
        out(f"Report:  {report.page}")
    elif report.folder and page:
        note("The report page could not be written; the results are complete.")
    out(_files(report))
    for path in report.extra:
        out(f"         {path}")


def _files(report: Report) -> str:
    if report.folder is None:
        return "The result files could not be written; `mailmerge report` makes them again from the ledger."
    failed = (
        f"   failed.csv ({plural(report.failed, 'row')}, ready to be mended and sent)"
        if report.failed
        else ""
    )
    return f"Results: {report.folder / 'results.csv'}   results.jsonl{failed}"


def _next(report: Report, again: str) -> Iterator[str]:
    counts = report.counts
    place = again.partition("mailmerge send")[2]
    if counts[Status.IN_DOUBT]:
        yield f"Next: mailmerge resolve{place}   for {plural(counts[Status.IN_DOUBT], 'row')} in doubt"
    if counts[Status.PENDING] or counts[Status.DEFERRED]:
        when = f"   after {clock_time(report.next_at)}" if report.next_at else ""
        yield f"Next: {again}{when}   {plural(counts[Status.PENDING] + counts[Status.DEFERRED], 'row')} left"
