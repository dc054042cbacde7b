"""Rows that are taken over from an earlier plan, if only files that single rows use have changed.

The list, the templates and everything that any row may depend on are the same, so a row whose own files are
the same is the same. The findings about the whole list are collected again from all rows. The few cases in
which a changed row would change what another one shows (it was the first with its layout, and has no message
now) are not handled: then the plan is made from scratch.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.check.lint import MOST_LAYOUTS, RowCounts
from mailmerge.model import Diagnostic, Status
from mailmerge.plan.repetitions import REPEATS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.check.lint import Lint, SeenLayout
    from mailmerge.model import FrozenMessage, Recipient
    from mailmerge.plan.rows import MadeRow, PlanSummary, RowMaker
    from mailmerge.plan.store import PlanReader, PlanRow

_OF_OTHER_ROWS = frozenset({"A313", "A320"})
"""Files that are, or seem to be, another row's."""


class DiffersError(Exception):
    """More than the changed rows differs from the earlier plan: it has to be made from scratch."""


class TakenRow(Struct, frozen=True):
    """A row as it was in the earlier plan, before it was compared with others."""

    row: PlanRow
    frozen: FrozenMessage | None
    findings: Sequence[Diagnostic]


class EarlierPlan:
    """A plan that is the same except for some rows; its rows are requested in the list's order.

    Args:
        reader: the plan.
        summary: its facts about the whole list.
        anew: the numbers of the rows that have to be made again.

    """

    def __init__(self, reader: PlanReader, summary: PlanSummary, anew: frozenset[int]) -> None:
        self.anew = anew
        self._reader = reader
        self._summary = summary
        self._rows = reader.rows()
        self._findings = (found for found in reader.findings() if found[0] is not None)
        self._ahead = next(self._findings, None)
        self._layouts = {layout.digest: layout.row for layout in summary.layouts}
        self._first_ready = min(summary.senders.values(), default=0)

    def prepare(self, lint: Lint) -> None:
        """Tell a lint what it would have learnt from the rows that are taken over.

        Raises:
            DiffersError: rows are invalid because of other rows.

        """
        if any(group.first.code in _OF_OTHER_ROWS for group in self._summary.findings.groups):
            raise DiffersError
        lint.recall(layout for layout in self._summary.layouts if layout.row not in self.anew)
        values = self._summary.unsubscribe_values.items()
        kept = {value: row for value, row in values if row not in self.anew}
        lint.add_counts(RowCounts(unsubscribe_values=kept))

    def take(self, n: int, recipient: Recipient) -> TakenRow:
        """Return the row at place *n* as it was.

        Raises:
            DiffersError: it is another row, after all.
            PlanDamaged: it cannot be read.

        """
        row = next(self._rows, None)
        if row is None or (row.n, row.row, row.row_digest) != (n, recipient.row, recipient.digest()):
            raise DiffersError
        findings = []
        while self._ahead is not None and self._ahead[0] == n:
            if self._ahead[1].code not in REPEATS:
                findings.append(self._ahead[1])
            self._ahead = next(self._findings, None)
        status, detail = row.status, row.detail
        if status is Status.DUPLICATE:
            status, detail = Status.PENDING, ""
        row = replace(row, status=status, detail=detail, holds=bool(row.key))
        if row.message is None or row.row in self.anew:
            return TakenRow(row, None, findings)
        return TakenRow(row, self._reader.message(row.message), findings)

    @property
    def sender(self) -> str:
        """From of the first message."""
        return self._summary.sender

    def renewed(self, n: int, recipient: Recipient, maker: RowMaker) -> MadeRow:
        """Make a row again.

        Raises:
            DiffersError: other rows differ because of it.

        """
        then = self.take(n, recipient).row
        [(made, layout)] = maker.examine([recipient])
        self._compare(then, made, layout)
        return maker.admitted(recipient, made, layout)

    def _compare(self, then: PlanRow, now: MadeRow, layout: SeenLayout | None) -> None:
        row, unsubscribe = then.row, self._summary.unsubscribe_values.values()
        if then.message is None and now.frozen is not None and row < max(unsubscribe, default=0):
            raise DiffersError
        if then.message is not None and now.frozen is None:
            if row in self._layouts.values() or row in unsubscribe:
                raise DiffersError
        elif then.message is None and layout is not None:
            first = self._layouts.get(layout.digest)
            full = len(self._layouts) >= MOST_LAYOUTS and row < max(self._layouts.values())
            if full if first is None else first > row:
                raise DiffersError
        if row == self._first_ready and now.status is not Status.PENDING:
            raise DiffersError
