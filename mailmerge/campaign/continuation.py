"""The status of a campaign, and what continues it: the commands to suggest, and for how many rows."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.campaign.opening import open_standing
from mailmerge.errors import PlanDamaged
from mailmerge.ledger.bounces import MailSummary
from mailmerge.ledger.place import FilePlace
from mailmerge.model import TO_BE_SENT, Counts, Status
from mailmerge.recipients import parse_rows
from mailmerge.sending.runs import Reason
from mailmerge.suggest import Invocation, Suggestion, suggested
from mailmerge.text import plural

if TYPE_CHECKING:
    from datetime import datetime

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.standing import Standing
    from mailmerge.ledger.reader import LedgerReader, RunRecord
    from mailmerge.ledger.work import FleetView


class CampaignStatus(Struct, frozen=True):
    """The status of a campaign."""

    counts: Counts
    counted: str = "row"
    """What the counts count: a ``row``, or with ``data.group_by`` a ``message`` for one or several."""
    next_at: datetime | None = None
    """When the first deferred row is due."""
    last_run: datetime | None = None
    unfinished: bool = False
    """The last run has not ended, or was killed."""
    running: bool = False
    """A process is working on the campaign now."""
    mail: MailSummary = MailSummary()
    """What the sender's mailbox reported about it."""
    fleet: str = ""
    """``running``, ``paused``, ``cancelled`` or ``finished``, by workers; empty: they never had it."""
    sessions: int = 0
    """How many sessions of workers are sending it now."""
    queued: int = 0
    """How many rows they have yet to send."""


def campaign_status(definition: Definition) -> CampaignStatus:
    """Return how many rows are in each state, from the ledger alone.

    Raises:
        LedgerError: the ledger cannot be read, is missing, or older than it should be.

    """
    with open_standing(definition) as standing:
        if standing is None:
            return CampaignStatus(Counts())
        last, fleet = standing.ledger.last_run(), _fleet(definition, standing.ledger)
        by_status = dict(_counts(standing, fleet).by_status)
        if not standing.running and (lost := by_status.pop(Status.HANDING_OVER, 0)):
            by_status[Status.IN_DOUBT] = by_status.get(Status.IN_DOUBT, 0) + lost
        return CampaignStatus(
            Counts(by_status),
            counted=definition.counted,
            next_at=standing.next_due(),
            last_run=last.started if last else None,
            unfinished=bool(last and last.ended is None),
            running=standing.running,
            mail=standing.ledger.bounces.summary(),
            fleet=fleet.state if fleet else "",
            sessions=len(fleet.slots) if fleet else 0,
            queued=fleet.waiting + fleet.later + fleet.claimed if fleet else 0,
        )


def _fleet(definition: Definition, ledger: LedgerReader) -> FleetView | None:
    place = definition.ledger_place
    if isinstance(place, FilePlace):
        return None
    from mailmerge.ledger import work

    with place.database() as db:
        return work.fleet_view(db, ledger.number)


def _counts(standing: Standing, fleet: FleetView | None) -> Counts:
    """Count rows by state: those that will not be sent because of opt-outs are not pending.

    The ledger has the counts of the plan and of what happened since, and nothing happened to these. The
    plan's rows are counted for that, which takes a second where there are many: not while a run is at work.
    """
    counts = standing.ledger.counts()
    at_rest = (
        standing.join.suppressed and not standing.running if fleet is None else fleet.state == "finished"
    )
    if at_rest and any(counts[status] for status in TO_BE_SENT) and standing.plan:
        with contextlib.suppress(PlanDamaged):
            return standing.tally()[1]
    return counts


class Continuation(Struct, frozen=True):
    """How to continue."""

    invocation: Invocation
    left: int
    """The rows that are left to send and that `again` sends."""
    way: str = "send"
    """The command of the last run: ``send`` or ``drafts``."""
    counted: str = "row"
    """What `left` counts: a ``row``, or with ``data.group_by`` a ``message`` for one or several."""
    elsewhere: bool = False
    """`again` must be run where the campaign's folder is: only its ledger is known here."""
    by_fleet: bool = False
    """Workers have the campaign, so nobody else may send it."""

    @property
    def remaining(self) -> str:
        """How many are left, such as ``3 rows left``."""
        where = ", where the campaign's folder is" if self.elsewhere else ""
        return f"{plural(self.left, self.counted)} left{where}"

    @property
    def again(self) -> Suggestion:
        """The command that sends them."""
        return suggested(self.invocation, self.way, *(["--fleet"] if self.by_fleet else []))

    def command(self, name: str, *words: str) -> Suggestion:
        """Return another command for the same campaign."""
        return suggested(self.invocation, name, *words)


def continuation(definition: Definition, standing: Standing, *, rows: str | None = None) -> Continuation:
    """Return how the last run is continued.

    Its ``--rows`` apply as long as one of them is left; then all that are left are meant. Of a ``--limit``
    that a run was stopped before, the rest applies; a run that reached it has done what it was meant to do.

    Args:
        definition: the campaign.
        standing: the state of its rows.
        rows: only these, whichever the last run was for.

    """
    ledger = standing.ledger
    last = ledger.last_run()
    earlier = Invocation.recorded(last.command) if last else None
    invocation = definition.invocation.continuing(earlier)
    # The --rows of a command after the run have another meaning.
    chosen = rows or (earlier.one("rows") if earlier else None)
    fleet = _fleet(definition, ledger)
    counts = _counts(standing, fleet)
    left = sum(counts[status] for status in TO_BE_SENT)
    if chosen is not None:
        selection = parse_rows(chosen)
        named = sum(
            result.status in TO_BE_SENT
            and result.first is None
            and result.row is not None
            and selection.names(result.row, result.rows)
            for result in standing.results()
        )
        chosen, left = (chosen, named) if named else (None, left)
    limit = None if rows else _rest_of_limit(earlier, last)
    if limit is not None:
        left = min(left, limit)
    way = "drafts" if earlier and earlier.command == "drafts" else "send"
    if definition.only_ledger and earlier is not None:
        invocation = replace(invocation, campaign=earlier.campaign)
    return Continuation(
        invocation.having(rows=chosen, limit=limit),
        left,
        way,
        definition.counted,
        elsewhere=definition.only_ledger,
        by_fleet=fleet is not None and fleet.state in {"running", "paused"},
    )


def _rest_of_limit(earlier: Invocation | None, last: RunRecord | None) -> int | None:
    limit = earlier.one("limit") if earlier else None
    if limit is None or last is None or last.reason == str(Reason.FINISHED):
        return None
    rest = int(limit) - sum(last.counts.values())
    return rest if rest > 0 else None
