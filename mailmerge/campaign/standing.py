"""The status of each row: the plan, what has happened to it, and what only this machine knows at this moment.

The plan has what list and templates make of a row, the ledger what happened to it. Joined to that, each time
it is asked, is what may change without either: who is never written to, and what the account accepts.

A fact of the ledger (being handed over, accepted, rejected, in doubt, expired, bounced) wins over the plan:
it has happened. An intention (pending, deferred) yields to what plan or join now makes of the row.
"""

from __future__ import annotations

from functools import cached_property
from itertools import chain, islice
from typing import TYPE_CHECKING, Self, TypeVar

from msgspec import Struct

from mailmerge.errors import ListError
from mailmerge.ledger.reader import IN_DOUBT
from mailmerge.model import TO_BE_SENT, Counts, Delivery, Diagnostic, Result, Status
from mailmerge.plan.composer import identifier
from mailmerge.plan.groups import corrected_elsewhere, edited_after, grown, new_rows, rows_in, shrunk_after
from mailmerge.recipients.selection import LAST_ROW
from mailmerge.recipients.suppression import Suppressed
from mailmerge.text import rows_named

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from mailmerge.check.diagnostics import DiagnosticCollector
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.reader import Bookmark, LedgerReader, Taken
    from mailmerge.ledger.statistics import Aggregates
    from mailmerge.model import FrozenMessage
    from mailmerge.options import DataOptions
    from mailmerge.plan.store import PlanReader, PlanRow
    from mailmerge.recipients import RowSelection
    from mailmerge.recipients.suppression import OptOuts

_Item = TypeVar("_Item")
_BATCH = 1000
"""Rows that are looked up in the ledger at a time."""
_TAKEN = frozenset({Status.ACCEPTED, Status.DRAFTED, Status.BOUNCED, *IN_DOUBT})
_CONTACTED = tuple(status for status in Status if status is not Status.PENDING)


class Join(Struct, frozen=True):
    """What applies to a row besides plan and ledger."""

    suppressed: Suppressed
    """Who is never written to."""
    max_size: int | None = None
    """Largest message that the account accepts, in octets; None: no limit known."""
    one_each: bool = False
    """Whether nobody gets more than one message: an address that was written to is not written to again."""
    added: int = 0
    """Octets that signatures add to each message."""

    @classmethod
    def of_list(
        cls,
        data: DataOptions,
        *,
        store: Path | None = None,
        suppressed: Suppressed | None = None,
        max_size: int | None = None,
        added: int = 0,
    ) -> Self:
        """Make the join from the campaign's options for its list; opt-outs are read if they are not given.

        Args:
            data: these options.
            store: the user's own suppression store.
            suppressed: who is never written to, where that is known already.
            max_size: largest message that the account accepts, in octets; None: no limit known.
            added: octets that signatures add to each message.

        Raises:
            ListError: one of them cannot be read.

        """
        if suppressed is None:
            suppressed = Suppressed(data.suppress, store)
        return cls(suppressed, max_size, one_each=data.duplicates != "allow", added=added)

    def of(self, row: PlanRow) -> tuple[Status, str]:
        """Return the status of a planned row, and why."""
        if row.status is not Status.PENDING:
            return row.status, row.detail
        for address in row.recipients:
            if self.suppressed.covers(address):
                return Status.SUPPRESSED, f"{address} is suppressed"
        too_large = self.too_large(row)
        return (Status.INVALID, too_large.message) if too_large else (Status.PENDING, "")

    def too_large(self, row: PlanRow) -> Diagnostic | None:
        """Return a problem if a message is larger than the account accepts."""
        size = row.size + self.added
        if self.max_size is None or size <= self.max_size:
            return None
        return Diagnostic(
            "M501",
            f"the message has {size:,} octets, the account accepts {self.max_size:,}",
            "attachments grow by 37 % when they are encoded; send a link instead",
            row=row.row,
            address=row.address,
        )


class StandingRow(Struct, frozen=True):
    """One row of the list, and its status."""

    planned: PlanRow
    own: Status
    """Its status without its history."""
    status: Status
    detail: str
    delivery: Delivery | None
    """What happened to it; None: it was never contacted, or another row has its key."""

    @property
    def result(self) -> Result:
        """The row as reports show it."""
        row = self.planned
        return Result(
            row.row, row.key, row.address, self.status, self.detail, self.delivery, row.rows, row.first
        )


class Standing:
    """The rows of one campaign, each with its state.

    Args:
        ledger: what has happened.
        plan: which rows there are; None: that is not known any more, only the contacted rows are.
        join: what applies besides the two.
        running: whether another process is working on the campaign now: what it is handing over is in
            flight, not in doubt.

    """

    def __init__(
        self,
        ledger: LedgerReader,
        plan: PlanReader | None,
        join: Join,
        *,
        running: Callable[[], bool] = lambda: False,
    ) -> None:
        self._running = running
        self._was_running = running()
        self.ledger = ledger
        self.plan = plan
        self.join = join
        self._bookmark: Bookmark | None = None
        self._marked = ""
        """The mark of the bookmark: the current one may differ, as opt-outs change."""

    def rows(self, *, after: int = -1) -> Iterator[StandingRow]:
        """Yield the rows of the list behind place *after*, in its order."""
        if self.plan is None:
            return
        untouched = self.ledger.untouched
        for batch in batches(self.plan.rows(after=after)):
            known = {} if untouched else self._known(batch)
            for row in batch:
                yield self._row(row, known.get(row.key) if row.shares else None)

    def of(self, row: PlanRow) -> StandingRow:
        """Return the status of one row, which need not be one of the plan's."""
        return self._row(row, self._known([row]).get(row.key))

    def _known(self, rows: Sequence[PlanRow]) -> dict[str, Delivery]:
        return self.ledger.deliveries(row.key for row in rows if row.shares)

    def _row(self, row: PlanRow, delivery: Delivery | None) -> StandingRow:
        own, detail = self._own(row)
        if delivery is None:
            return StandingRow(row, own, own, detail, None)
        delivery = _numbered(delivery, row)
        status = _joined(own, delivery.status)
        if status is Status.ACCEPTED and delivery.row_digest not in {"", row.row_digest}:
            new = self._joining(row, delivery)
            detail = (
                f"{rows_named(new)} came into the list after it was accepted"
                if new
                else "edited in the list since it was accepted"
            )
        elif delivery.bounce and status in {Status.ACCEPTED, Status.BOUNCED}:
            detail = delivery.bounce
        elif status is Status.DUPLICATE and own is Status.PENDING:
            detail = delivery.reason
        elif own is Status.DUPLICATE and status is not own:
            detail = ""  # it was the other one that repeated it, then
        return StandingRow(row, own, status, detail, delivery)

    def _joining(self, row: PlanRow, delivery: Delivery) -> tuple[int, ...]:
        """Return the new rows of a message that has more of them now than when it was sent."""
        if len(row.rows) <= len(_rows_then(delivery).split()):
            return ()
        return new_rows(row.signature, _rows_then(delivery))

    def changed_groups(self) -> Iterator[Diagnostic]:
        """Yield which rows are, as they are now, in no message, because theirs was sent before."""
        changed: list[int] = []
        corrected: list[int] = []
        shrunk: list[PlanRow] = []
        messages = 0
        for row in self.rows():
            planned, delivery = row.planned, row.delivery
            if delivery is None or row.status not in _TAKEN or planned.first:
                continue
            if delivery.row_digest in {"", planned.row_digest}:
                continue
            if new := self._joining(planned, delivery):
                yield grown(planned, new, row.status)
                continue
            now = planned.signature or f"{planned.row}:{planned.row_digest}"
            if new := new_rows(now, _rows_then(delivery)):
                (corrected if delivery.generation else changed).extend(new)
                messages += not delivery.generation
            elif len(now.split()) < len(_rows_then(delivery).split()):
                shrunk.append(planned)
        if changed:
            yield edited_after(sorted(changed), messages)
        if corrected:
            yield corrected_elsewhere(sorted(corrected))
        if shrunk:
            yield shrunk_after(shrunk)

    def _own(self, row: PlanRow) -> tuple[Status, str]:
        """Return the status of a row without its own history; that of other rows with its address counts."""
        own, detail = self.join.of(row)
        if own is Status.PENDING and self.join.one_each:
            earlier = self._taken_apart[0].get(row.address.lower())
            if earlier is not None and earlier[0] != row.key:
                return Status.DUPLICATE, f"{row.address} was written to earlier, as row {earlier[1]}"
        return own, detail

    # --- what need not be looked at again ---------------------------------------------------------------

    @property
    def _mark(self) -> str:
        """Return what identifies this plan with this join; empty: each row has to be read each time."""
        if self.plan is None or self.join.max_size is not None:
            return ""
        made = f"{self.plan.name} {self.plan.made.isoformat()}"
        return f"{made} {self.join.one_each} {self.join.suppressed.fingerprint}"

    def recall(self) -> Counts | None:
        """Return the counts of the rows without their history, if they were kept and are still valid."""
        self._marked = self._mark
        self._bookmark = self.ledger.bookmark(self._marked) if self._marked else None
        return self._bookmark.own if self._bookmark else None

    def keep(self, ledger: Ledger, own: Counts) -> None:
        """Keep the counts of the rows without their history, unless the history of other rows counts."""
        self._marked = self._mark
        if self._marked and not any(self._taken_apart):
            ledger.note_bookmark(self._marked, own)
            self._bookmark = ledger.bookmark(self._marked)

    @property
    def settled(self) -> int:
        """The place in the list up to which no row is pending, as far as that is known."""
        return self._bookmark.settled if self._bookmark else -1

    def settle(self, ledger: Ledger) -> None:
        """Find up to which place no row is pending, and keep it; what is in flight is not settled."""
        if self._bookmark is None:
            return
        settled = self.settled
        for row, own, state in self._states(after=settled):
            if own is Status.PENDING and state in {None, Status.PENDING, Status.HANDING_OVER}:
                break
            settled = row.n
        ledger.note_bookmark(self._marked, self._bookmark.own, settled)
        self._bookmark = ledger.bookmark(self._marked)

    @cached_property
    def _taken_apart(self) -> tuple[dict[str, tuple[str, int]], int]:
        """What was accepted, but not as a row that could be sent now to the same address.

        By address, the key and the number of the row that has the key now; and how many keys no row has.
        Nothing that is sent from this plan adds to it.
        """
        listed: dict[str, tuple[str, int]] = {}
        gone = 0
        if self._bookmark is not None:  # it was kept because there was nothing like that
            return listed, gone
        for taken, row in self._taken():
            if row is None:
                gone += 1
            else:
                listed[taken.address.lower()] = row.key, row.row
        return listed, gone

    def _taken(self) -> Iterator[tuple[Taken, PlanRow | None]]:
        for batch in batches(self.ledger.taken()):
            there = self._holders(batch)
            for taken in batch:
                row = there.get(taken.key)
                if row is None or not row.ready or row.address.lower() != taken.address.lower():
                    yield taken, row

    def taken_and_gone(self) -> Iterator[Taken]:
        """Yield what was accepted under keys that are no longer in the list."""
        if self._taken_apart[1]:
            yield from (taken for taken, row in self._taken() if row is None)

    def gone(self) -> Iterator[Delivery]:
        """Yield what happened to rows that are no longer in the list; without a plan, to every row."""
        states = _CONTACTED if self.plan is not None else tuple(Status)
        for batch in batches(self.ledger.contacted(*states)):
            there = self._holders(batch)
            yield from (delivery for delivery in batch if delivery.key not in there)

    def _holders(self, deliveries: Iterable[Delivery | Taken]) -> dict[str, PlanRow]:
        return {} if self.plan is None else self.plan.holders([delivery.key for delivery in deliveries])

    def results(self) -> Iterator[Result]:
        """Yield every row with its state, in list order, then those no longer in the list."""
        contacted = 0
        for row in self.rows():
            contacted += row.delivery is not None and row.planned.first is None
            yield row.result
        if contacted != self.ledger.states().total:
            yield from map(self._gone, self.gone())

    @property
    def is_the_plan(self) -> bool:
        """Whether every row is as it was planned: nothing has happened, and nothing else applies."""
        return self.ledger.untouched and not self.join.suppressed and self.join.max_size is None

    def tally(self, problems: DiagnosticCollector | None = None) -> tuple[Counts, Counts]:
        """Count the rows of the list by their status without their history, and all rows by state.

        The second count has the rows that are no longer in the list, too. *problems* collects what only the
        join forbids.
        """
        own: dict[Status, int] = {}
        counts: dict[Status, int] = {}
        contacted: dict[Status, int] = {}
        for row, itself, state in self._states():
            if row.first is not None:
                continue
            own[itself] = own.get(itself, 0) + 1
            if problems is not None and itself is Status.INVALID and row.ready:
                problems.add(filter(None, [self.join.too_large(row)]))
            if state is not None:
                contacted[state] = contacted.get(state, 0) + 1
            status = itself if state is None else _joined(itself, state)
            counts[status] = counts.get(status, 0) + 1
        states = self.ledger.states()
        for state in states:  # what is not in the list is gone
            if state is not Status.PENDING and (more := states[state] - contacted.get(state, 0)):
                counts[state] = counts.get(state, 0) + more
        return Counts(own), Counts(counts)

    def _states(self, *, after: int = -1) -> Iterator[tuple[PlanRow, Status, Status | None]]:
        """Yield each row of the list with its status without its history, and its state in the ledger."""
        if self.plan is None:
            return
        untouched = self.ledger.untouched
        for batch in batches(self.plan.rows(after=after)):
            known = {} if untouched else self.ledger.statuses(row.key for row in batch if row.holds)
            for row in batch:
                yield row, self._own(row)[0], known.get(row.key) if row.shares else None

    def opt_outs(self) -> list[tuple[OptOuts, int]]:
        """Return each source of opt-outs with how many addresses of the list are in it."""
        files = self.join.suppressed.files
        if self.plan is None or not self.join.suppressed:
            return [(file, 0) for file in files]
        addresses = set(self.plan.addresses())
        return [(file, sum(map(file.covers, addresses))) for file in files]

    # --- what is left to do ---------------------------------------------------------------------------

    def due(self, now: datetime) -> Iterator[StandingRow]:
        """Yield the rows to contact, in list order: pending ones and those due again."""
        rows = chain(self._waiting_before(), self._states(after=self.settled))
        open_rows = (
            (row, state)
            for row, itself, state in rows
            if itself is Status.PENDING and row.first is None and (state is None or state in TO_BE_SENT)
        )
        for batch in batches(open_rows):
            known = self._known([row for row, state in batch if state is not None])
            for row, state in batch:
                if state is None:  # it is pending without its history, and it has none
                    yield StandingRow(row, Status.PENDING, Status.PENDING, "", None)
                    continue
                found = self._row(row, known.get(row.key))
                if found.delivery is None or self.ledger.is_due(found.delivery, now):
                    yield found

    def extent(self, counts: Counts, now: datetime) -> tuple[int, str, str]:
        """Return how many rows are due, and the first and the last address; *counts*: all rows by state.

        While a bookmark is valid and no row is deferred, the pending ones are due: none has to be counted.
        """
        ends = self.plan.ready_ends() if self.plan is not None else None
        if self._bookmark and ends and not counts[Status.DEFERRED]:
            first = next(self.due(now), None)
            if first is not None and self.of(ends[1]).status is Status.PENDING:
                return counts[Status.PENDING], first.planned.address, ends[1].address
        return extent_of(self.due(now))

    def _waiting_before(self) -> Iterator[tuple[PlanRow, Status, Status]]:
        """Yield the settled rows that were deferred or not reached when tried again, in list order."""
        if self.plan is None or self.settled < 0:
            return
        found: list[tuple[PlanRow, Status]] = []
        for batch in batches(self.ledger.waiting()):
            there = self.plan.holders([key for key, _ in batch])
            found += ((there[key], state) for key, state in batch if key in there)
        for row, state in sorted(found, key=lambda one: one[0].n):
            if row.n <= self.settled:
                yield row, self._own(row)[0], state

    def next_due(self) -> datetime | None:
        """Return when the first deferred row of the list is due; None: no row is deferred."""
        for batch in batches(self.ledger.deferred()):
            there = {} if self.plan is None else self.plan.holders([key for key, _ in batch])
            for key, due in batch:
                row = there.get(key)
                if self.plan is None or (row is not None and self._own(row)[0] is Status.PENDING):
                    return due
        return None

    def reopen_corrected(self, ledger: Ledger) -> int:
        """Make refused rows pending again whose address was corrected in the list; return how many."""
        corrected: list[str] = []
        for batch in batches(ledger.contacted(Status.REJECTED, Status.BOUNCED)):
            there = self._holders(batch)
            for delivery in batch:
                row = there.get(delivery.key)
                if row is not None and row.status is Status.PENDING and not _same(row, delivery):
                    corrected.append(delivery.key)
        return ledger.reopen(corrected) if corrected else 0

    # --- rows that a person names ---------------------------------------------------------------------

    def in_doubt(self) -> list[Result]:
        """Return the rows that a person has to decide about, those of the list first."""
        doubtful = list(self.ledger.contacted(*IN_DOUBT))
        # Asked before and after they were read: a run may have begun, or ended, in between.
        if any(delivery.status is Status.HANDING_OVER for delivery in doubtful) and self.running:
            doubtful = [delivery for delivery in doubtful if delivery.status is Status.IN_DOUBT]
        there: dict[str, PlanRow] = {}
        for batch in batches(doubtful):
            there.update(self._holders(batch))
        listed = [
            self._row(row, delivery).result
            for delivery in doubtful
            if (row := there.get(delivery.key)) is not None
        ]
        listed.sort(key=lambda result: result.row or 0)
        return [*listed, *(self._gone(delivery) for delivery in doubtful if delivery.key not in there)]

    def rows_in_doubt(self, most: int = 12) -> tuple[int, ...]:
        """Return the numbers of the first rows that a person has to decide about."""
        return tuple(result.row for result in self.in_doubt()[:most] if result.row is not None)

    @property
    def running(self) -> bool:
        """Whether another process is working on the campaign now, or was when this was opened."""
        return self._was_running or self._running()

    def keys_in(self, ranges: Iterable[tuple[int, int]]) -> list[str]:
        """Return the keys of the rows in *ranges* of row numbers, both ends included.

        A row that repeats another one was not sent itself, so it is left out.
        """
        if self.plan is None:
            return self.ledger.keys_in(ranges)
        return list(dict.fromkeys(row.key for row in self.plan.rows_numbered(ranges) if row.shares))

    def refuse_unknown(self, ranges: Iterable[tuple[int, int]]) -> None:
        """Make sure that the rows that a person names exist.

        Raises:
            ListError: one of *ranges* has no row, or ends behind the last row.

        """
        for first, last in ranges:
            if not self._has_row(first, last):
                unknown = f"row {first}" if first == last else f"rows {first}-{last}"
            elif last < LAST_ROW and not self._has_row(last, LAST_ROW):
                unknown = f"row {last}"
            else:
                continue
            if self.plan is None:
                words, hint = f"{unknown}: nothing is recorded about it", "results.csv has the numbers"
            else:
                words = f"the list had no {unknown} when the last run looked at it"
                hint = "results.csv has the numbers; 2- means all rows from 2 on"
            raise ListError(words, code="D159", hint=hint)

    def _has_row(self, first: int, last: int) -> bool:
        if self.plan is None:
            return bool(self.ledger.keys_in([(first, last)]))
        return next(iter(self.plan.rows_numbered([(first, last)])), None) is not None

    def _gone(self, delivery: Delivery) -> Result:
        """Return the result of a row that no plan has, by the number that it had then."""
        row = delivery.row or None if self.plan is None else None
        detail = delivery.reason if delivery.status is Status.DUPLICATE else delivery.bounce
        rows = rows_in(delivery.rows) if row is not None else ()
        return Result(row, delivery.key, delivery.address, delivery.status, detail, delivery, rows)

    def numbers(self, keys: Sequence[str]) -> dict[str, int]:
        """Return the rows of the list that have these keys."""
        return {} if self.plan is None else {key: row.row for key, row in self.plan.holders(keys).items()}

    def aggregates(self) -> Aggregates:
        """Return the campaign's history in figures; nothing is read before it is asked for."""
        return self.ledger.aggregates(self.numbers)


def stamp_of(
    ledger: LedgerReader, frozen: FrozenMessage, delivery: Delivery | None
) -> tuple[str, datetime | None]:
    """Return the Message-ID of a row's message, and the Date that it was sent with; None: it was never sent.

    The same message keeps both each time that it is sent; another one has its own.
    """
    message_id = identifier(ledger.secret, frozen, delivery.generation if delivery else 0)
    return message_id, ledger.date_of(delivery, message_id) if delivery else None


def batches(items: Iterable[_Item], size: int = _BATCH) -> Iterator[list[_Item]]:
    """Yield the items in lists of *size*; the last one may be shorter."""
    source = iter(items)
    while batch := list(islice(source, size)):
        yield batch


def _joined(own: Status, state: Status) -> Status:
    """Return the state of a row that is *own* by itself and *state* in the ledger."""
    return own if own is not Status.PENDING and state in TO_BE_SENT else state


def _numbered(delivery: Delivery, row: PlanRow) -> Delivery:
    """Return a delivery with the number and the address that its row has in the list now."""
    if delivery.row == row.row and delivery.address == row.address:
        return delivery
    from msgspec.structs import replace

    return replace(delivery, row=row.row, address=row.address)


def _rows_then(delivery: Delivery) -> str:
    """Return the signature of the rows that a message was sent for."""
    return delivery.rows or f"{delivery.row}:{delivery.row_digest}"


def _same(row: PlanRow, delivery: Delivery) -> bool:
    return row.address.lower() == delivery.address.lower()


def extent_of(rows: Iterable[StandingRow]) -> tuple[int, str, str]:
    """Return how many rows these are, and the first and the last address."""
    count, first, last = 0, "", ""
    for row in rows:
        count, first, last = count + 1, first or row.planned.address, row.planned.address
    return count, first, last


def partly_named(rows: Iterable[StandingRow], selection: RowSelection | None) -> Iterator[str]:
    """Yield which rows are sent with those of a selection, because they share a message."""
    more: list[int] = []
    for row in rows if selection is not None else ():
        more += (other for other in row.planned.rows if selection is not None and other not in selection)
    if more:
        go = "goes" if len(more) == 1 else "go"
        yield f"{rows_named(more)} {go} with the chosen rows: they share a message"


def troubled_last(rows: Iterable[StandingRow]) -> Iterator[StandingRow]:
    """Move rows to the end that an earlier run left pending with a remark about the server.

    If only they cause it, they would otherwise stop this run, too, before anybody else is reached.
    """
    from mailmerge.sending.runs import UNANSWERED
    from mailmerge.smtp.reply_rules import DELAYED

    other = UNANSWERED | DELAYED
    troubled: list[StandingRow] = []
    for row in rows:
        known = row.delivery
        refused = known is not None and (known.code or 0) // 100 == 4 and known.reason not in other
        if refused and row.status is Status.PENDING:
            troubled.append(row)
        else:
            yield row
    yield from troubled
