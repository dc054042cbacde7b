"""What is known about a campaign without its folder: the plan in the database of its ledger."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, TypeVar

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from mailmerge.campaign.definition import by_ledger
from mailmerge.errors import CampaignFileError, LedgerError, RowError
from mailmerge.model import Status
from mailmerge.options import Duplicates  # noqa: TC001  decoded into
from mailmerge.plan.facts import Facts
from mailmerge.recipients import parse_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.standing import Standing, StandingRow
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.model import Message
    from mailmerge.plan.server_store import ServerPlan
    from mailmerge.postgres import PostgresDatabase


class _Defined(Protocol):
    definition: Definition


_Opened = TypeVar("_Opened", bound=_Defined)


class _Counted(Struct, frozen=True):
    """What decides how the rows of a planned campaign are counted."""

    group_by: str | None = None
    duplicates: Duplicates = "first"
    key: str | None = None


def needs_list(what: str, *, instead: str) -> CampaignFileError:
    """Return the error for something that cannot be made from the ledger alone."""
    return CampaignFileError(
        f"{what} from the list, which is where the campaign's folder is", code="C582", hint=instead
    )


def stored_plan(ledger: LedgerReader, name: str) -> ServerPlan | None:
    """Open a plan that was loaded into the database of its ledger.

    None: it does not exist, is damaged, or this user may not read it.
    """
    if ledger.server is None:
        return None
    from mailmerge.plan.server_store import ServerPlan, is_readable

    try:
        return ServerPlan.find(ledger.server, ledger.number, name) if is_readable(ledger.server) else None
    except LedgerError as error:
        if error.code != "L751":
            raise
        return None


def opt_outs(db: PostgresDatabase, campaign: int) -> Iterator[str]:
    """Yield the entries of the table of opt-outs that apply to a campaign."""
    from mailmerge.ledger.shared_suppression import EVERY_CAMPAIGN, OptOutTable

    for entry in OptOutTable(db).entries():
        if entry.campaign in {EVERY_CAMPAIGN, campaign}:
            yield entry.entry


def open_stored(
    make: Callable[..., _Opened],
    options: Mapping[str, object],
    *,
    environ: Mapping[str, str] | None,
    out: Path | None,
    **more: object,
) -> _Opened:
    """Open a campaign of which only the name and the ledger are known.

    Args:
        make: makes a campaign from options.
        options: those that were given; see `mailmerge.campaign.definition.named_alone`.
        environ: environment variables; None: the process's own.
        out: the folder of reports; None: ``out`` in the working directory.
        more: further arguments of *make*.

    """
    known = by_ledger(options, os.environ if environ is None else environ)
    campaign = make(known, environ=environ, out=out or Path("out"), **more)
    campaign.definition = as_planned(replace(campaign.definition, only_ledger=True))
    return campaign


def as_planned(definition: Definition) -> Definition:
    """Return a campaign of which only the ledger is known, with its plan's way of counting rows.

    Raises:
        LedgerError: the ledger cannot be read.

    """
    with contextlib.suppress(LedgerError), definition.ledger_place.open_read_only(definition.name) as ledger:
        last = ledger.last_run()
        plan = stored_plan(ledger, last.plan) if last else None
        facts = Facts.decode(plan.facts) if plan is not None else None
        said = facts.premises.options if facts is not None else {}
        found = {name: said.get(f"data.{name}") for name in ("group_by", "duplicates", "key")}
        try:
            values = {name: json.loads(text) for name, text in found.items() if text is not None}
            told = msgspec.convert(values, _Counted)
        except (ValueError, msgspec.ValidationError):
            return definition
        data = definition.file.data
        data = replace(data, group_by=told.group_by, duplicates=told.duplicates, key=told.key)
        return replace(definition, file=replace(definition.file, data=data))
    return definition


def stored_messages(
    definition: Definition,
    standing: Standing | None,
    rows: str | None,
    left_out: dict[str, list[int]] | None,
    *,
    leaving: bool = False,
) -> Iterator[tuple[StandingRow, Message, bool, str]]:
    """Yield the messages of a campaign's stored plan, as they would be sent, in the list's order.

    Args:
        definition: the campaign.
        standing: the state of its rows; None: nothing is recorded about it.
        rows: which rows; None: all.
        left_out: gets the numbers of the rows that are left out, by their status.
        leaving: a person sends them with another program: their unsubscribe links work.

    Yields:
        The row, its message, whether it was sent with this Date, and the row's status, in a line.

    Raises:
        LedgerError: the database has no plan of the campaign.
        RowError: a message or file there is damaged.

    """
    from mailmerge.campaign.standing import stamp_of
    from mailmerge.plan.server_store import ServerPlan
    from mailmerge.plan.stored_messages import WorkerThawer
    from mailmerge.report.summary import standing_line

    selection, now = parse_rows(rows) if rows else None, datetime.now(UTC).astimezone()
    plan = standing.plan if standing is not None else None
    if standing is None or not isinstance(plan, ServerPlan) or not plan.has_messages:
        raise LedgerError(
            f"{definition.ledger_place} has no messages of campaign {definition.name!r}",
            code="L751",
            hint="they are there from `send --fleet` on until all are sent; or look from its folder",
        )
    worker = WorkerThawer(plan)
    make = worker.thaw if leaving else worker.show
    for row in standing.rows():
        planned = row.planned
        if planned.first is not None or not (selection is None or selection.names(planned.row, planned.rows)):
            continue
        if row.own is not Status.PENDING or planned.message is None:
            if left_out is not None:
                left_out.setdefault(str(row.own), []).append(planned.row)
            continue
        try:
            frozen = worker.message(planned.message, planned.row)
            message_id, date = stamp_of(standing.ledger, frozen, row.delivery)
            message = make(frozen, message_id=message_id, date=date or now)
        except RowError:
            if left_out is None:
                raise
            left_out.setdefault("damaged", []).append(planned.row)
            continue
        went_out = row.delivery is not None and row.delivery.message_id == message_id
        yield row, message, date is not None, standing_line(row.result, now, went_out=went_out)
