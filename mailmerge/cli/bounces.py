"""``mailmerge bounces``: read the mail that came back, and record what became of each row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from msgspec import to_builtins

from mailmerge.cli.options import campaign_argument, load_campaign, options_of
from mailmerge.cli.output import emit, interactive, note, out, show_diagnostics
from mailmerge.cli.plan_view import clock_time
from mailmerge.cli.progress import GracefulStop
from mailmerge.clock import SystemClock
from mailmerge.errors import SessionError, TlsError
from mailmerge.model import Status
from mailmerge.text import cut, padded, plural

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.campaign import Campaign
    from mailmerge.campaign.bounces import BounceSummary, Postman, Told
    from mailmerge.sending.runs import StopFlag

_SLICE = 0.2
"""Seconds within which a stop is noticed."""
_LEAST_PAUSE = 10.0
"""Seconds between two looks, at least: mailboxes have limits of their own."""
_MEANINGS = {
    "hard": "the address does not exist, or is disabled",
    "soft": "not now: mailbox full, host unreachable, asked to wait",
    "policy": "refused because of the message or of who sends it",
    "quota": "the account's own limit",
    "unclear": "returned without a reason",
    "delayed": "delayed; a server is still trying",
    "success": "relayed, reports a server on the way",
    "complaint": "reported as spam by its recipient",
    "auto_reply": "answered by a program",
    "challenge": "answered by a program that wants a person to confirm",
}
_STATES = {
    **dict.fromkeys(("hard", "soft", "policy", "quota", "unclear"), (Status.BOUNCED,)),
    "delayed": (Status.DEFERRED,),
    "success": (Status.ACCEPTED,),
}
"""The state whose colour a sort of report has."""


@click.command("bounces")
@campaign_argument
@options_of("bounces")
def bounces(
    *,
    imap: str | None,
    maildir: Path | None,
    mbox_file: Path | None,
    eml_files: Path | None,
    every: str | None,
    as_json: bool,
    quiet: bool,
    verbose: bool,
    **options: Any,
) -> int:
    """Read the mail that came back, and record which rows bounced; nothing in the mailbox is changed.

    A report counts for a row if it names the message that the row was sent. Addresses that do not exist are
    added to the suppression store, as are people who complained. A message of the mailbox counts once,
    however often it is read, and the command may run while a campaign is being sent. With --quiet it prints
    nothing unless a new message concerns a row.

    \b
    Examples:
      mailmerge bounces spring --imap imaps://me@imap.example.org/INBOX
      mailmerge bounces spring --maildir ~/Maildir
    """  # noqa: D301  click's own mark
    from mailmerge.campaign.bounces import BounceRequest, postman

    pause = _pause(every)
    stop = GracefulStop()
    request = BounceRequest(
        imap=imap,
        maildir=maildir,
        mbox=mbox_file,
        eml=eml_files,
        ask_secret=_ask if interactive() else None,
    )
    campaign = load_campaign(options, ledger_only=True)
    clock = SystemClock()

    def tell(told: Told) -> None:
        _show(told, as_json=as_json, verbose=verbose)

    with stop:
        reader = postman(campaign.definition, request, clock=clock, stop=stop.flag)
        stop.begin()
        while True:
            summary = _read(reader, tell, again=pause is not None)
            if summary and (not quiet or summary.sorts or summary.suppressed or summary.halted):
                _show_summary(campaign, summary, as_json=as_json)
            if summary and pause is None and not stop.flag.is_set():
                return summary.exit_code
            if pause is None or not _slept(clock, pause, stop.flag):
                return stop.code


def _read(reader: Postman, tell: Callable[[Told], None], *, again: bool) -> BounceSummary | None:
    """Read the mail once; None: the network failed, which does not end a command that reads it *again*."""
    try:
        return reader.round(tell)
    except TlsError:
        raise
    except SessionError as error:
        if not again or error.exit_code != SessionError.exit_code:
            raise
        show_diagnostics(error.diagnostics)
        return None


def _pause(every: str | None) -> float | None:
    if every is None:
        return None
    from mailmerge.errors import CampaignFileError
    from mailmerge.validation import ValidationError, parse_span

    try:
        return max(parse_span(every), _LEAST_PAUSE)
    except ValidationError as error:
        issue = error.issues[0]
        raise CampaignFileError(f"`--watch` {issue.message}", code=issue.code, hint=issue.hint) from None


def _slept(clock: SystemClock, pause: float, stop: StopFlag) -> bool:
    """Wait for the next look; return False if we are asked to stop."""
    until = clock.monotonic() + pause
    while not stop.is_set():
        rest = until - clock.monotonic()
        if rest <= 0:
            return True
        clock.sleep(min(rest, _SLICE))
    return False


def _ask(question: str) -> str:
    return str(click.prompt(question.rstrip(": "), hide_input=True, err=True))


def _show(told: Told, *, as_json: bool, verbose: bool) -> None:
    """Show one message of the mailbox: those that concern a row, and with -v every report."""
    report = told.report
    if as_json:
        emit(
            "bounce",
            name=told.name,
            report=report.kind,
            evidence=told.evidence or None,
            rows=told.rows,
            keys=[one.key for one in told.returned],
            bounced=any(one.bounces and one.current for one in told.returned),
            suppressed=told.suppressed,
            recipients=[to_builtins(failure) for failure in report.failures],
            subject=report.subject,
        )
        return
    if not told.returned and not (verbose and report.kind != "other"):
        return
    for number, failure in enumerate(report.failures or (None,)):
        one = told.returned[number] if number < len(told.returned) else None
        row = f"row {told.rows[number]}" if number < len(told.rows) else "not ours"
        sort = one.sort if one else failure.sort if failure else report.kind
        address = failure.address if failure else ""
        words = (failure.words if failure else "") or report.subject
        line = f"{padded(row, 9, right=True)}  {padded(sort, 10)} {address}  {cut(words, 100)}".rstrip()
        out(line, *_STATES.get(sort, ()), word=sort)


def _show_summary(campaign: Campaign, summary: BounceSummary, *, as_json: bool) -> None:
    again = campaign.suggested("requeue")
    if as_json:
        emit(
            "bounces",
            campaign=campaign.name,
            looked_at=summary.looked_at,
            known=summary.known,
            foreign=summary.foreign,
            other=summary.other,
            waiting=summary.waiting,
            sorts=summary.sorts,
            bounced=summary.bounced,
            suppressed=summary.suppressed,
            halted=summary.halted or None,
            exit_code=summary.exit_code,
        )
        return
    known = f", {summary.known:,} of them known before" if summary.known else ""
    out(f"{clock_time(SystemClock().now())}: read {plural(summary.looked_at, 'message')}{known}")
    for sort, count in sorted(summary.sorts.items(), key=lambda item: -item[1]):
        line = f"  {count:>5,}  {padded(sort, 10)} {_MEANINGS.get(sort, '')}".rstrip()
        out(line, *_STATES.get(sort, ()), word=sort)
    for count, words in (
        (summary.foreign, "about other messages, ignored"),
        (summary.other, "not a report, ignored"),
        (summary.waiting, "to be read again when the run has the server's reply"),
    ):
        if count:
            out(f"  {count:>5,}  {words}")
    if summary.bounced:
        out(f"{plural(summary.bounced, campaign.definition.counted)} bounced.", Status.BOUNCED)
    if summary.suppressed:
        people = plural(summary.suppressed, "address", "addresses")
        out(f"{people} added to the suppression store: mailmerge suppress list")
    if summary.halted:
        note(f"The campaign is stopped: the account's limit was reached ({summary.halted}).")
        note(f"   = hint: {again} makes the {campaign.definition.counted}s pending, and lets it continue")
