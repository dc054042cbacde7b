"""``mailmerge status``, ``report``, ``resolve``, ``requeue``, ``purge``, ``ledger``: what comes after a run.

They read the ledger, and the list only where they must.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, note, out, require_person
from mailmerge.cli.plan_view import clock_time
from mailmerge.cli.report_view import show_counts, show_report
from mailmerge.clock import SystemClock
from mailmerge.model import Status
from mailmerge.text import padded, plural, rows_named

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mailmerge.campaign.continuation import CampaignStatus


@click.command("status")
@campaign_argument
@options_of("status")
def status(*, as_json: bool, quiet: bool, **options: Any) -> int:
    """Show how many rows are in each state; the list is not read again.

    With --quiet it prints nothing unless there is something to do: rows in doubt, a run that was killed, an
    account's limit that was reached, or deferred rows that are due and that no run is sending.

    \b
    Examples:
      mailmerge status spring
      mailmerge status spring --quiet
    """  # noqa: D301  click's own mark
    campaign = load_campaign(options, ledger_only=True)
    status = campaign.status()
    if quiet and not _wants_somebody(status):
        return 0
    if as_json:
        emit(
            "status",
            campaign=campaign.name,
            statuses=status.counts.by_status,
            next_at=status.next_at.isoformat() if status.next_at else None,
            last_run=status.last_run.isoformat() if status.last_run else None,
            running=status.running,
            mailbox_read=status.mail.read.isoformat() if status.mail.read else None,
            reports=status.mail.sorts,
            halted=status.mail.halted or None,
            fleet=status.fleet or None,
            sessions=status.sessions,
            queued=status.queued,
        )
        return 0
    if status.last_run is None and not status.counts.total:
        at_work = " A run is sending it now." if status.running else ""
        out(f"{campaign.name}: nothing has been sent yet.{at_work}")
        return 0
    out(f"{campaign.name}: {plural(status.counts.total, status.counted)}")
    show_counts(status.counts, status.counted)
    if status.last_run:
        killed = status.unfinished and not status.fleet
        running = " (still running)" if status.running else " (it was killed)" if killed else ""
        out(f"Last run: {clock_time(status.last_run)}{running}")
    if status.fleet:
        rows = f"{plural(status.queued, 'row')} to send, {plural(status.sessions, 'session')}"
        out(f"Workers: {status.fleet}, {rows}: {campaign.suggested('fleet')}")
    if status.mail.read:
        out(f"Mailbox last read: {clock_time(status.mail.read)}{_told(status.mail.sorts)}")
    if status.mail.halted:
        out(f"Stopped, the account's limit was reached: {campaign.suggested('requeue')}")
    if status.next_at:
        going = campaign.continuation()
        when = clock_time(status.next_at)
        out(f"Deferred {status.counted}s can be sent from {when} on: {going.again}   {going.remaining}")
    if status.counts[Status.IN_DOUBT]:
        out(f"Some {status.counted}s are in doubt: {campaign.suggested('resolve')}", Status.IN_DOUBT)
    return 0


def _wants_somebody(status: CampaignStatus) -> bool:
    """Return whether there is something to do that no run and no worker is doing."""
    at_work = status.running or bool(status.fleet)
    due = status.next_at is not None and status.next_at <= SystemClock().now()
    killed = status.unfinished and not at_work
    return bool(status.counts[Status.IN_DOUBT] or status.mail.halted or killed or (due and not at_work))


def _told(sorts: Mapping[str, int]) -> str:
    parts = [f"{count:,} {sort.replace('_', ' ')}" for sort, count in sorts.items()]
    return f"; rows that reports were about: {', '.join(parts)}" if parts else ""


@click.command("report")
@campaign_argument
@options_of("report")
def report(
    *,
    page: bool,
    workbook: bool,
    copy: Path | None,
    redact: bool,
    as_json: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Write report.html, results.csv, results.jsonl and the failed rows again from the ledger.

    \b
    Examples:
      mailmerge report spring --xlsx
      mailmerge report spring --copy people-with-results.xlsx
    """  # noqa: D301  click's own mark
    if copy and redact:
        raise click.UsageError("--copy and --redact exclude each other: the copy contains your whole list")
    from mailmerge.campaign.results import ReportOptions

    campaign = load_campaign(options, ledger_only=True)
    report = campaign.report(ReportOptions(page=page, workbook=workbook, copy=copy, redact=redact))
    show_report(report, as_json=as_json, verbose=verbose)
    return 1 if report.bug else 0


@click.command("resolve")
@campaign_argument
@options_of("resolve")
def resolve(*, rows: str | None, as_accepted: bool, resend: bool, **options: Any) -> int:
    """List the rows in doubt, or settle them (all, or --rows).

    A row is in doubt when its message was handed over completely but the server's reply was lost: it may or
    may not have been sent. Look into the account's Sent folder, or ask the recipient; only you can decide.

    \b
    Examples:
      mailmerge resolve spring
      mailmerge resolve spring --rows 17 --as-accepted
    """  # noqa: D301  click's own mark
    if as_accepted and resend:
        raise click.UsageError("--as-accepted and --resend exclude each other")
    campaign = load_campaign(options, ledger_only=True)
    if as_accepted or resend:
        count = campaign.resolve(rows, as_accepted=as_accepted)
        what = "recorded as accepted" if as_accepted else "will be sent again by the next run"
        out(f"{plural(count, campaign.definition.counted)} {what}.")
        if resend and count:
            going = campaign.continuation(rows)
            out(f"Next: {going.again}   {going.remaining}")
        return 0
    doubtful = list(campaign.in_doubt(rows))
    if not doubtful:
        out(f"No {campaign.definition.counted} is in doubt.")
        return 0
    for result in doubtful:
        delivery = result.delivery
        when = clock_time(delivery.updated) if delivery and delivery.updated else ""
        message_id = delivery.message_id if delivery else ""
        where = "no longer in the list" if result.row is None else rows_named(result.rows or (result.row,))
        line = f"{padded(where, 9, right=True)}  {result.address}  handed over {when}  {message_id}"
        out(line, Status.IN_DOUBT, word="handed over")
    out("")
    left = plural(len(doubtful), campaign.definition.counted)
    out(f"{left} may or may not have been sent. Decide for all, or with --rows:")
    chosen = () if rows is None else ("--rows", rows)
    accept = campaign.suggested("resolve", *chosen, "--as-accepted")
    resend_them = campaign.suggested("resolve", *chosen, "--resend")
    out(f"  {accept}   they arrived: record them as accepted")
    out(f"  {resend_them}   send them again; some may arrive twice")
    return 0


@click.command("requeue")
@campaign_argument
@options_of("requeue")
def requeue(*, rows: str | None, failed: Path | None, accepted: bool, yes: bool, **options: Any) -> int:
    """Requeue rejected and expired rows: the next run tries them again.

    Without --rows or --from: all of them. --accepted requeues rows that the server has already accepted; it
    asks first.

    \b
    Example:
      mailmerge requeue spring --rows 5,9-11
    """  # noqa: D301  click's own mark
    if rows is not None and failed is not None:
        raise click.UsageError("--rows and --from exclude each other")
    campaign = load_campaign(options, ledger_only=True)
    if accepted and not yes and not _sure(rows, failed, campaign.definition.counted):
        note("Nothing was changed.")
        return 2
    count = campaign.requeue(rows, failed=failed, accepted=accepted)
    if not count:
        which = "accepted" if accepted else "rejected, expired or bounced"
        out(f"Requeued 0 {campaign.definition.counted}s. None of them is {which}.")
        return 0
    going = campaign.continuation(rows)
    out(f"Requeued {plural(count, going.counted)}. Next: {going.again}   {going.remaining}")
    return 0


def _sure(rows: str | None, failed: Path | None, counted: str) -> bool:
    require_person()
    which = f"rows {rows}" if rows else f"the people in {failed}" if failed else f"ALL accepted {counted}s"
    answer = click.prompt(
        f"{which} will get the message a second time. Type 'again' to continue",
        default="",
        show_default=False,
        err=True,
    )
    return bool(answer == "again")


@click.command("purge")
@campaign_argument
@options_of("purge")
def purge(*, yes: bool, **options: Any) -> int:
    """Remove addresses, replies and the copy of the list from the ledger, and the files in out/.

    Only counts remain. The campaign cannot be continued afterwards, and no record remains of who got its
    messages. Your own list is not touched.

    \b
    Example:
      mailmerge purge spring
    """  # noqa: D301  click's own mark
    campaign = load_campaign(options, ledger_only=True)
    if not yes:
        require_person()
        if not click.confirm(
            f"Remove the personal data of campaign {campaign.name!r} permanently?", err=True
        ):
            note("Nothing was changed.")
            return 2
    if campaign.purge():
        out(f"Removed the personal data of campaign {campaign.name!r}.")
    else:
        out("Nothing was sent from here. Removed previews and reports of rehearsals, if there were any.")
    return 0


@click.group("ledger")
def ledger() -> None:
    """Accept a copied or moved ledger, or start over without a lost one.

    This machine remembers how far each campaign has got, and where its ledger is. If the ledger does not
    match that, no command trusts it until you have decided.

    \b
    Example:
      mailmerge ledger move spring
    """  # noqa: D301  click's own mark


@ledger.command("move")
@campaign_argument
@options_of("ledger move")
def move(**options: Any) -> int:
    """Continue with this ledger: the one in the folder, or the database that --ledger names.

    If the campaign has used another ledger until now, that one is copied, compared and sealed. A copy
    of the folder elsewhere can then no longer be continued.

    \b
    Example:
      mailmerge ledger move spring --ledger office
    """  # noqa: D301  click's own mark
    campaign = load_campaign(options, ledger_only=True)
    campaign.move_ledger()
    out(f"Campaign {campaign.name!r} continues here: {campaign.definition.ledger_place}")
    return 0


@ledger.command("forget")
@campaign_argument
@options_of("ledger forget")
def forget(*, yes: bool, **options: Any) -> int:
    """Start over: the next run writes to the whole list. The old ledger is kept under another name.

    \b
    Example:
      mailmerge ledger forget spring
    """  # noqa: D301  click's own mark
    campaign = load_campaign(options, ledger_only=True)
    if not yes:
        require_person()
        question = f"Start campaign {campaign.name!r} over, so that the next run writes to the whole list?"
        if not click.confirm(question, err=True):
            note("Nothing was changed.")
            return 2
    kept = campaign.forget_ledger()
    if kept is None and campaign.definition.is_lost:
        place = campaign.definition.ledger_place
        out(f"Campaign {campaign.name!r} starts over. {place} does not answer; its contents stay there.")
        return 0
    out(f"Campaign {campaign.name!r} starts over.{f' The old ledger is kept as {kept!r}.' if kept else ''}")
    return 0
