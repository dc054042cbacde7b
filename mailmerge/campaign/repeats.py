"""Rows that already have this message: they stop the run before anything is sent, unless a person agrees.

A row is identified by its key, and a campaign by its name and its ledger. If a key column was added half-way,
ids were exported again, or the campaign has another name or folder, people look new, and would get the same
letter twice. What they have does not change with that: a message of this campaign at their address, and the
very same message from any other.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge.campaign.standing import batches
from mailmerge.errors import CampaignFileError
from mailmerge.ledger.place import FilePlace
from mailmerge.model import Recipient
from mailmerge.recipients.recipient_list import find_column
from mailmerge.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Iterator
    from datetime import datetime

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.opening import OpenCampaign
    from mailmerge.campaign.standing import Standing, StandingRow
    from mailmerge.ledger.reader import Taken
    from mailmerge.ledger.registry import Earlier, OtherMessages
    from mailmerge.model import Columns
    from mailmerge.plan.store import PlanRow

    Chosen = Callable[[], Iterator[StandingRow]]

"""Rows whose messages are looked for at a time."""
_MOST_GONE = 100_000
"""How many keys that are gone from the list are compared with it at a time, so that memory is bounded."""
_NAMED = 3


class RepeatGuard:
    """Looks for rows of one run that already have their message.

    Args:
        opened: the campaign.
        standing: the state of its rows.
        columns: the list's headings.
        chosen: returns the rows that the run would send.

    """

    def __init__(self, opened: OpenCampaign, standing: Standing, columns: Columns, chosen: Chosen) -> None:
        self._opened = opened
        self._definition: Definition = opened.definition
        self._standing = standing
        self._columns = columns
        self._chosen = chosen

    def refuse(self, version: str | None) -> None:
        """Stop where a row of this run already has its message.

        Args:
            version: the content version whose messages count in this campaign; None: all do.

        Raises:
            CampaignFileError: some rows have it.
            LedgerError: what other campaigns sent cannot be read.

        """
        self._refuse_in_this_campaign(version)
        with self._opened.other_messages() as others:
            if others is not None and self._any(others):
                self._refuse_elsewhere(others)

    # --- in this campaign -----------------------------------------------------------------------------

    def _refuse_in_this_campaign(self, version: str | None) -> None:
        count, named = 0, []
        gone = (taken for taken in self._standing.taken_and_gone() if version in {None, taken.version})
        for part in batches(gone, _MOST_GONE):
            by_address: dict[str, list[Taken]] = {}
            for taken in part:
                by_address.setdefault(taken.address.lower(), []).append(taken)
            for row in self._chosen():
                planned = row.planned
                had = self._had(planned, by_address.get(planned.address.lower(), ()))
                if had is not None:
                    count += 1
                    named.append(f"row {planned.row} ({planned.address}, earlier {quoted(had.key)})")
                    del named[_NAMED:]
        if count:
            raise CampaignFileError(
                f"campaign {self._definition.name!r} has already written to the "
                f"{'address' if count == 1 else 'addresses'} of {plural(count, 'row')}, under "
                f"{'a key that is' if count == 1 else 'keys that are'} no longer in the list: "
                f"{_listed(named, count)}",
                code="C471",
                hint="with their old keys in the list, rows are recognised again; "
                f"{self._option()} sends to them anyway",
            )

    def _had(self, planned: PlanRow, earlier: Collection[Taken]) -> Taken | None:
        """Return what this row was before; None: it is somebody's first message, or another one of theirs."""
        if not earlier or self._standing.join.one_each:
            return next(iter(earlier), None)
        return next((taken for taken in earlier if self._same_cells(planned, taken)), None)

    def _same_cells(self, planned: PlanRow, taken: Taken) -> bool:
        """Return whether a row has the cells of an earlier one, except the key, or had no key column then."""
        data = self._definition.file.data
        key = None if data.group_by else data.key
        place = None if key is None else find_column(self._columns, key, "data.key")
        cells = planned.cells
        if place is None:
            return taken.row_digest == planned.row_digest
        before, behind = cells[:place], cells[place + 1 :]
        return taken.row_digest in {
            Recipient(planned.row, self._columns, then).digest()
            for then in ((*before, taken.key, *behind), (*before, *behind))
        }

    # --- in other campaigns ---------------------------------------------------------------------------

    def _any(self, others: OtherMessages) -> bool:
        """Return whether any message of the plan was sent elsewhere; usually none was, and that is quick."""
        plan = self._standing.plan
        if plan is None:
            return False
        digests = (row.frozen for row in plan.rows(after=self._standing.settled, ready=True))
        return any(others.find(part) for part in batches(digests))

    def _refuse_elsewhere(self, others: OtherMessages) -> None:
        count, named, first = 0, [], None
        for rows in batches(row.planned for row in self._chosen()):
            found = others.find([row.frozen for row in rows])
            for row in rows:
                earlier = found.get(row.frozen)
                if earlier is not None:
                    count += 1
                    first = first or earlier
                    named.append(f"row {row.row} ({row.address})")
                    del named[_NAMED:]
        if first is None:
            return
        had = "already has" if count == 1 else "already have"
        place = first.ledger if isinstance(first.ledger, str) else first.ledger.parent.parent
        where = f"last used in {place}, {first.at.astimezone():%Y-%m-%d}"
        raise CampaignFileError(
            f"{plural(count, 'row')} {had} this very message from campaign {first.campaign!r} ({where}): "
            f"{_listed(named, count)}",
            code="C472",
            hint=f"{self._way_back(first)}; {self._option()} sends to them anyway",
        )

    def _way_back(self, first: Earlier) -> str:
        place = self._definition.ledger_place
        own = place.path.resolve() if isinstance(place, FilePlace) else str(place)
        gone = isinstance(first.ledger, Path) and not first.ledger.exists()
        if first.ledger == own or gone:
            name = "--name" if self._definition.invocation.typed else "the name"
            return f"{name} {first.campaign} continues that campaign"
        return "that campaign can be continued where it is"

    def _option(self) -> str:
        return "--accept-repeats" if self._definition.invocation.typed else "accept_repeats"


def written_before(opened: OpenCampaign, chosen: Iterable[StandingRow]) -> Iterator[str]:
    """Yield how many of the people in these rows another campaign of this user has written to, if any.

    Raises:
        LedgerError: what other campaigns sent cannot be read.

    """
    count, latest = 0, None
    with opened.other_messages() as others:
        if others is None:
            return
        for rows in batches(row.planned.address.lower() for row in chosen):
            found = others.find_people(rows)
            count += sum(one in found for one in rows)
            latest = max((*([latest] if latest else ()), *found.values()), key=_time, default=None)
    if latest is not None:
        were = "was" if count == 1 else "were"
        yield f"{count:,} of these people {were} written to before, last in {latest.campaign!r}"


def _time(earlier: Earlier) -> datetime:
    return earlier.at


def _listed(named: list[str], count: int) -> str:
    more = count - len(named)
    return ", ".join(named) + (f" and {more:,} more" if more else "")
