"""What would happen if the campaign were sent now: the plan joined with the ledger."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.addresses import Address
from mailmerge.campaign.connect import find_account
from mailmerge.campaign.opening import Access, is_foreign, open_run
from mailmerge.campaign.outside import notices
from mailmerge.campaign.plan import OptOutSource, Plan
from mailmerge.campaign.planning import not_kept
from mailmerge.campaign.standing import Join, Standing, stamp_of
from mailmerge.campaign.stored import opt_outs
from mailmerge.campaign.suppression_store import store_path
from mailmerge.campaign.unsubscribing import going_out, key_to_copy
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.config.accounts import sender_allowed
from mailmerge.errors import CampaignFileError, CampaignHalted, TemplateError
from mailmerge.ledger.schema import sync_folder
from mailmerge.model import TO_BE_SENT, Counts, Diagnostic, Place, Status
from mailmerge.sending.runs import Reason, RunEnd
from mailmerge.suggest import suggested
from mailmerge.text import plural, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.planning import OpenPlan
    from mailmerge.check.diagnostics import Group
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.account_usage import AccountQuota
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.model import Message, Version
    from mailmerge.plan.composer import Composer
    from mailmerge.plan.rows import PlanSummary

_LOOK_EVERY = 1.0
"""Seconds between two checks whether the campaign was stopped."""


def examine(
    definition: Definition, ledger: Ledger, planned: OpenPlan, *, account: Account | None = None
) -> tuple[Plan, Standing]:
    """Determine the state of every row, and keep the counts in *ledger*.

    Raises:
        CampaignFileError: the account may not send as the From of a message.

    """
    summary = planned.summary
    problems = DiagnosticCollector(definition.file.check.ignore)
    problems.add(definition.environment.warnings)
    problems.recall(summary.findings)
    if account is not None:
        for sender in planned.summary.senders:
            check_sender(definition, account, sender)
    largest = summary.largest + planned.kept.composer.signature_size if summary.largest else 0
    standing = Standing(ledger, planned.reader, _join(definition, ledger, planned, account, largest))
    if summary.corrections:
        ledger.correct(summary.corrections)
    standing.reopen_corrected(ledger)
    statuses, counts = _counted(standing, ledger, summary, problems)
    if planned.kept.composer.groups and not ledger.untouched:
        problems.add(standing.changed_groups())
    plan = Plan(
        campaign=definition.name,
        source=planned.source,
        understanding=summary.understanding,
        problems=problems,
        counts=counts,
        statuses=statuses,
        unaddressed=summary.unaddressed,
        sharing=summary.sharing,
        counted=definition.counted,
        largest=largest,
        files=summary.files,
        notices=tuple(_notices(definition, ledger, planned, counts)),
        sender=summary.sender or planned.sender,
        planned=planned.reader.made if planned.earlier else None,
        changes=planned.changes,
        anew=planned.anew,
        kept=planned.kept.path,
        made_of=planned.reader.facts,
        handle=planned.kept,
        giver=planned_messages,
        opt_outs=tuple(
            OptOutSource(file.path, len(file), listed) for file, listed in standing.opt_outs() if file.stamp
        ),
    )
    return plan, standing


def _join(
    definition: Definition, ledger: Ledger, planned: OpenPlan, account: Account | None, largest: int
) -> Join:
    """Return what a plan is joined with when it is read: opt-outs, and the account's limit of size."""
    most = account.max_size if account else None
    join = Join.of_list(
        definition.file.data,
        store=store_path(definition.environment),
        max_size=most if most is not None and largest > most else None,
        added=planned.kept.composer.signature_size,
    )
    if ledger.server is not None:
        join.suppressed.include(opt_outs(ledger.server, ledger.number))
    return join


def _notices(definition: Definition, ledger: Ledger, planned: OpenPlan, counts: Counts) -> Iterator[str]:
    yield from _foreign(definition, ledger)
    yield from notices(definition.file, definition.environment, definition.named, planned.summary)
    yield from key_to_copy(definition, planned.kept.composer, counts)


def _foreign(definition: Definition, ledger: Ledger) -> Iterator[str]:
    """Yield a note if a ledger came with the folder: this machine cannot vouch for its accepted rows."""
    if is_foreign(definition, ledger):
        accepted = plural(ledger.counts()[Status.ACCEPTED], "accepted row")
        yield f"this folder brought a ledger of {accepted}, which this machine does not know"


def _counted(
    standing: Standing, ledger: Ledger, summary: PlanSummary, problems: DiagnosticCollector
) -> tuple[Counts, Counts]:
    """Count the rows by their own and their current states, reading each row only where that is needed."""
    own = standing.recall()
    if own is not None:
        return own, ledger.counts()
    if standing.is_the_plan:
        own = counts = Counts(summary.statuses)
    else:
        own, counts = standing.tally(problems)
    ledger.note_standing(counts)
    standing.keep(ledger, own)
    return own, counts


def planned_messages(plan: Plan) -> Iterator[Message]:
    """Yield the messages of a plan that are left to be sent; see `Plan.messages`.

    Raises:
        PlanDamaged: it no longer exists.
        RowError: a file has changed since, or is gone.

    """
    kept = plan.handle
    assert kept is not None
    definition = kept.definition
    account = None
    with contextlib.suppress(CampaignFileError):
        account = find_account(definition)
    composer = going_out(definition, kept.composer.sent_by(account))
    now = datetime.now(UTC).astimezone().replace(microsecond=0)
    with open_run(definition, Access.COPY) as opened:
        ledger, planned = opened.ledger, opened.reopen(kept)
        _, standing = examine(definition, ledger, planned, account=account)
        for row in standing.rows():
            if row.status not in TO_BE_SENT or row.planned.message is None:
                continue
            if row.planned.first is not None:
                continue
            if not planned.reader.has_messages:
                raise not_kept(kept)
            frozen = composer.planned(planned.reader, row.planned, keyed=definition.file.data.key is not None)
            message_id, date = stamp_of(ledger, frozen, row.delivery)
            yield composer.thaw(frozen, message_id=message_id, date=date or now)


def check_sender(definition: Definition, account: Account, sender: str) -> None:
    """Make sure that the account may send as this From address.

    Raises:
        CampaignFileError: it may not.

    """
    if not sender_allowed(account, Address.parse(sender)):
        raise CampaignFileError(
            f"account {account.name!r} may not send as {sender}",
            code="C461",
            hint="use the account's own address in message.from, or declare this one in its aliases",
            place=definition.file.places.get("message.from", Place()),
        )


def refuse_if_broken(problems: DiagnosticCollector) -> None:
    """Stop where the campaign itself, not single rows, is wrong.

    Raises:
        InputError: with all problems of the campaign.

    """
    broken = problems.campaign_errors
    if broken:
        shown = [_in_rows(group) for group in broken]
        first = shown[0]
        kind = TemplateError if first.code.startswith("T") else CampaignFileError
        raise kind(first.message, code=first.code, hint=first.hint, problems=shown)


def _in_rows(group: Group) -> Diagnostic:
    if group.count == 1:
        return group.first
    return replace(group.first, message=f"{group.first.message} (in {group.count:,} rows; one of them:)")


def refuse_halted(definition: Definition, ledger: LedgerReader) -> None:
    """Make sure that no report in the mailbox has stopped the campaign.

    Raises:
        CampaignHalted: one has, because the account's limit was reached after its messages had been accepted.

    """
    halted = ledger.bounces.halted
    if not halted:
        return
    again = suggested(definition.invocation, "requeue")
    raise CampaignHalted(
        f"messages came back because the account's limit was reached: {printable(halted)}",
        hint=f"{again} makes the rows that came back pending, and lets the campaign continue"
        if definition.invocation.typed
        else "the method `requeue` makes the rows that came back pending, and lets the campaign continue",
    )


def limit_reached(definition: Definition, quota: AccountQuota | None) -> RunEnd | None:
    """Return why nothing can be sent if the server has reported that the account's limit is used up."""
    refusal = quota.refusal() if quota else None
    if refusal is None:
        return None
    ask = suggested(definition.invocation, "test")
    hint = f"it is not asked again before then; if the limit was raised, this asks it: {ask}"
    return RunEnd(
        Reason.QUOTA,
        f"the server reported that the account's limit is used up: {refusal.said}",
        hint if definition.invocation.typed else None,
        next_at=refusal.until,
    )


def refuse_changes(definition: Definition, versions: Sequence[Version], composer: Composer) -> None:
    """Make sure that the message is the same as that of the rows accepted so far.

    Args:
        definition: the campaign.
        versions: those that rows were accepted with, latest last.
        composer: makes the message as it is now.

    Raises:
        CampaignFileError: it is another one.

    """
    # Rows were accepted with it, later than with any other version: the change was confirmed before.
    if not versions or versions[-1].digest == composer.version:
        return
    before = [version for version in versions if version.digest != composer.version]
    count = sum(version.accepted for version in before)
    changed = ", ".join(before[-1].changed(composer.parts)) or "the message"
    rows = "1 row was" if count == 1 else f"{count:,} rows were"
    raise CampaignFileError(
        f"campaign {definition.name!r} changed ({changed}) after {rows} accepted as it was",
        code="C470",
        hint="--accept-changes sends the rest as it is now; --name NEW starts over with the whole list"
        if definition.invocation.typed
        else "accept_changes sends the rest as it is now; another name starts over with the whole list",
    )


class HaltWatch:
    """Checks once a second whether a report has stopped the campaign that is being sent."""

    def __init__(self, definition: Definition, ledger: LedgerReader, clock: Clock) -> None:
        self._definition = definition
        self._ledger = ledger
        self._clock = clock
        self._next = 0.0

    def failure(self) -> CampaignHalted | None:
        """Return why the run must end; None: it may continue."""
        now = self._clock.monotonic()
        if now < self._next:
            return None
        self._next = now + _LOOK_EVERY
        try:
            refuse_halted(self._definition, self._ledger)
        except CampaignHalted as error:
            return error
        return None


_SET_BACK = 60.0
"""Seconds that the clock may be behind the last run before the plan warns."""


def machine_warnings(definition: Definition, ledger: LedgerReader, clock: Clock) -> Iterator[str]:
    """Yield what about this machine endangers the ledger or the order of its times."""
    synced = sync_folder(definition.workspace.folder)
    if synced:
        yield f"the ledger is in a {synced} folder: another machine may replace it with an old copy"
    last = ledger.last_run()
    behind = ((last.ended or last.started) - clock.now()).total_seconds() if last else 0.0
    if behind > _SET_BACK:
        yield f"this machine's clock is {behind:,.0f} s behind the end of the last run: is it right?"
