"""What a campaign is continued with: the commands to suggest after a run, and how many rows they mean."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.model import Status
from mailmerge.recipients import parse_rows
from mailmerge.sending.runs import Reason
from mailmerge.suggest import Invocation, Suggestion, suggested

if TYPE_CHECKING:
    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.standing import Standing
    from mailmerge.ledger.reader import Run

_LEFT = frozenset({Status.PENDING, Status.DEFERRED})


class Continuation(Struct, frozen=True):
    """How to go on."""

    invocation: Invocation
    left: int
    """The rows that are left to send and that `again` means."""

    @property
    def again(self) -> Suggestion:
        """The command that sends them."""
        return suggested(self.invocation, "send")

    def command(self, name: str, *words: str) -> Suggestion:
        """Give another command for the same campaign."""
        return suggested(self.invocation, name, *words)


def continuation(definition: Definition, standing: Standing, *, rows: str | None = None) -> Continuation:
    """Tell how the last run is continued.

    Its ``--rows`` hold as long as one of them is left; then all that are left are meant. Of a ``--limit``
    that a run was stopped before, the rest holds; a run that reached it has done what it was to do.

    Args:
        definition: the campaign.
        standing: where its rows stand.
        rows: only these, whichever the last run was for.

    """
    ledger = standing.ledger
    last = ledger.last_run()
    earlier = Invocation.recorded(last.command) if last else None
    invocation = definition.invocation.continuing(earlier)
    # The --rows of a command after the run choose other things.
    chosen = rows or (earlier.one("rows") if earlier else None)
    counts = ledger.counts()
    left = sum(counts[status] for status in _LEFT)
    if chosen is not None:
        selection = parse_rows(chosen)
        named = sum(result.status in _LEFT and result.row in selection for result in standing.results())
        chosen, left = (chosen, named) if named else (None, left)
    limit = None if rows else _rest_of_limit(earlier, last)
    if limit is not None:
        left = min(left, limit)
    return Continuation(invocation.having(rows=chosen, limit=limit), left)


def _rest_of_limit(earlier: Invocation | None, last: Run | None) -> int | None:
    limit = earlier.one("limit") if earlier else None
    if limit is None or last is None or last.reason == str(Reason.FINISHED):
        return None
    rest = int(limit) - sum(last.counts.values())
    return rest if rest > 0 else None
