"""The plan that the last run worked on, for commands that look back: rows have its numbers."""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from mailmerge.campaign.planning import plan_cache
from mailmerge.campaign.standing import Join, Standing
from mailmerge.campaign.stored import opt_outs, stored_plan
from mailmerge.campaign.suppression_store import store_path
from mailmerge.errors import ListError
from mailmerge.recipients import parse_rows
from mailmerge.recipients.suppression import Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.campaign.definition import Definition
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.plan.store import PlanReader


def join_now(definition: Definition) -> Join:
    """Join what applies at this moment, for looking back only: an unreadable opt-out list is not an error."""
    data = definition.file.data
    try:
        return Join.of_list(data, store=store_path(definition.environment))
    except ListError:
        return Join.of_list(data, suppressed=Suppressed())


@contextlib.contextmanager
def last_standing(
    definition: Definition, ledger: LedgerReader, *, running: Callable[[], bool] = lambda: False
) -> Iterator[Standing]:
    """Open the plan that the last run worked on, and return the state of its rows.

    *running* is whether another process is working on the campaign now.
    """
    join = join_now(definition)
    if ledger.server is not None:
        join.suppressed.include(opt_outs(ledger.server, ledger.number))
    with _last_plan(definition, ledger) or contextlib.nullcontext() as plan:
        yield Standing(ledger, plan, join, running=running)


def _last_plan(definition: Definition, ledger: LedgerReader) -> PlanReader | None:
    """Open the plan that the last run worked on: the one here, or else the one loaded next to the ledger."""
    last = ledger.last_run()
    if last is None or not last.plan:
        return None
    here = None if definition.only_ledger else plan_cache(definition).find(last.plan, datetime.now(UTC))
    return here or stored_plan(ledger, last.plan)


def keys_named(definition: Definition, ledger: LedgerReader, rows: str | None) -> list[str] | None:
    """Return the keys of the rows that a person names by their numbers in the last run's list; None: all.

    Raises:
        ListError: *rows* has a number that no row had.

    """
    if rows is None:
        return None
    ranges = parse_rows(rows).ranges
    with last_standing(definition, ledger) as standing:
        standing.refuse_unknown(ranges)
        return standing.keys_in(ranges)
