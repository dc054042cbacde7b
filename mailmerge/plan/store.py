"""What a plan is for the code that fills and reads it: rows, frozen messages and findings, in list order.

`PlanWriter` and `PlanReader` are the whole interface; how a plan is kept is known nowhere else: in files by
`mailmerge.plan.sqlite_store`, in the database of a shared ledger by `mailmerge.plan.server_store`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, Self

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import FileError, PlanDamaged
from mailmerge.model import Diagnostic, FrozenMessage, Status
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path
    from types import EllipsisType
    from typing import BinaryIO

    from mailmerge.values import Cell as _Cell
else:
    _Cell = str | Number | Date | DateTime | Time | Duration | Truth  # what a cell is decoded into


FINISHED = "the plan is finished"
OUT_OF_ORDER = "rows are added in list order"
NOT_ADDED = "only a row that was added can be replaced"
NOT_PACKED = "the plan has no dictionary to pack with"


class PlanRow(Struct, frozen=True, array_like=True):
    """One row of the list, and what planning made of it."""

    n: int
    """Its place in the list, from 0."""
    row: int
    """Its number as the spreadsheet shows it."""
    key: str
    """Empty where it is not known."""
    address: str
    status: Status
    """``pending`` (its message is ready), ``invalid``, ``duplicate`` or ``skipped``.

    Suppression is not frozen into a plan, it is joined when the plan is read.
    """
    detail: str = ""
    """Why it is not pending, as text."""
    row_digest: str = ""
    recipients: tuple[str, ...] = ()
    """The envelope's addresses, normalised."""
    message: int | None = None
    """The number of its frozen message: the `n` of the first row that it is for."""
    size: int = 0
    """Octets of its message."""
    holds: bool = True
    """Whether the history of its key belongs to this row: of rows with one key, exactly one has that."""
    cells: tuple[_Cell, ...] = ()
    frozen: str = ""
    """Digest of its frozen message."""
    rows: tuple[int, ...] = ()
    """The numbers of all rows of its message, in the first of them; empty: the message is for this one."""
    others: tuple[int, ...] = ()
    """The places of all but the first of them."""
    signature: str = ""
    """See `mailmerge.plan.groups.signature`."""
    first: int | None = None
    """The number of the first row of its message, if that is another one.

    Such a row has the first one's values about the message; only place, number and cells are its own.
    """

    @property
    def ready(self) -> bool:
        """Whether it has a message that may be sent: of several rows with one message, the first has it."""
        return self.status is Status.PENDING and self.first is None

    @property
    def shares(self) -> bool:
        """Whether the history of its key belongs to this row, too."""
        return self.holds or self.first is not None


PackedRow = tuple[int, int, bool, bool, bytes, bytes, bytes]
"""A row as it is kept: ``n``, ``row``, ``ready``, ``holds``, key, address in small letters, the whole."""
PackedMessage = tuple[bytes, bytes, int]
"""A message as it is kept: its key, its frame, and the octets that the frame unpacks to."""


class PlanWriter(Protocol):
    """A plan that is being made; use it as a context manager: unless it is finished, nothing of it remains.

    Rows come in list order, a row's message before the row.
    """

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def add_row(self, row: PlanRow) -> None:
        """Add the next row.

        Raises:
            FileError: it cannot be kept.

        """

    def add_others(self, rows: Sequence[PlanRow]) -> None:
        """Add the further rows of the message of the row that was added last; they may be anywhere.

        Raises:
            FileError: they cannot be kept.

        """

    def replace_row(self, row: PlanRow) -> None:
        """Change a row that was added: the one with the same place in the list.

        Of the further rows of its message, state, detail and key change with it.

        Raises:
            FileError: it cannot be kept.

        """

    def sort(self, rows: Iterable[tuple[int, bytes, bytes]]) -> Iterator[tuple[int, bytes]]:
        """Put rows of the same group together, groups ordered by their first row.

        Args:
            rows: in list order: the place, the group (empty: only this row), and the data to be kept.

        Yields:
            The place of the first row of its group, and what was kept, row by row.

        Raises:
            FileError: they cannot be kept.

        """

    def repeated(self, *, addresses: bool, backwards: bool = False) -> Iterator[PlanRow]:
        """Yield in list order the rows added so far whose key occurs more than once; an empty key is none.

        Rows that are yielded may be replaced meanwhile.

        Args:
            addresses: also the rows that may be sent and whose address occurs more than once among those.
            backwards: the last row comes first, and rows that may not be sent count by address, too.

        """

    def add_message(self, number: int, frozen: FrozenMessage) -> None:
        """Add a message; numbers rise.

        Raises:
            FileError: it cannot be kept.

        """

    @property
    def dictionary(self) -> bytes | None:
        """What others need to pack messages for this plan; None: so far only the plan itself can."""

    def add_packed(
        self, row: PackedRow, message: PackedMessage | None, others: Sequence[PackedRow] = ()
    ) -> None:
        """Add a row, a message of its number, and its further rows, that were packed with `dictionary`.

        Raises:
            FileError: they cannot be kept.

        """

    def add_findings(self, n: int | None, findings: Sequence[Diagnostic]) -> None:
        """Add what was found in the row at place *n*; None: in the whole.

        Raises:
            FileError: it cannot be kept.

        """

    def begin_spool(self) -> BinaryIO:
        """Begin a private file for rows that wait to be made; nothing is left of it when this is closed.

        Raises:
            FileError: it cannot be made.

        """

    def read_spool(self) -> BinaryIO:
        """Open what was written to that file, for reading.

        Raises:
            FileError: it cannot be written to its end, or opened.

        """

    def expect(self, rows: int) -> None:
        """Make sure that there is room for a plan of about this many rows, judged by those added so far.

        Raises:
            FileError: there is too little.

        """

    def finish(self, summary: bytes, facts: bytes = b"") -> PlanReader:
        """Make it complete: checked, in its place, never changed again; and open it.

        Args:
            summary: what the planner wants to know about the whole without reading rows.
            facts: what the plan was made from, see `mailmerge.plan.facts`.

        Raises:
            FileError: it cannot be kept.

        """


class PlanReader(Protocol):
    """A finished plan; use it as a context manager."""

    @property
    def name(self) -> str:
        """What it is found by."""

    @property
    def made(self) -> datetime:
        """When it was made, in UTC."""

    @property
    def summary(self) -> bytes:
        """What `PlanWriter.finish` was given."""

    @property
    def facts(self) -> bytes:
        """What `PlanWriter.finish` was given."""

    @property
    def size(self) -> int:
        """How many rows it has."""

    @property
    def has_messages(self) -> bool:
        """Whether the frozen messages are still there: they are removed when nothing is left to send."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *_: object) -> None: ...

    def close(self) -> None:
        """Release it; it may be swept from now on."""

    def rows(self, *, after: int = -1, ready: bool = False) -> Iterator[PlanRow]:
        """Yield rows in list order, with no more than a page of them in memory.

        Args:
            after: only those behind this place in the list.
            ready: only those that may be sent.

        Raises:
            PlanDamaged: one cannot be read.

        """

    def rows_numbered(self, ranges: Iterable[tuple[int, int]]) -> Iterator[PlanRow]:
        """Yield the rows in these inclusive, sorted, disjoint ranges of row numbers.

        Raises:
            PlanDamaged: one cannot be read.

        """

    def addresses(self) -> Iterator[str]:
        """Yield the address of every row that has one, in small letters; the rows themselves are not read."""

    def ready_ends(self) -> tuple[PlanRow, PlanRow] | None:
        """Return the first and the last row that may be sent; None: there is none.

        Raises:
            PlanDamaged: one cannot be read.

        """

    def others(self, row: PlanRow) -> list[PlanRow]:
        """Return the further rows of a row's message.

        Raises:
            PlanDamaged: one cannot be read.

        """

    def holders(self, keys: Sequence[str]) -> dict[str, PlanRow]:
        """Return the rows that own these keys, by key; unknown keys are left out.

        Raises:
            PlanDamaged: one cannot be read.

        """

    def message(self, number: int) -> FrozenMessage:
        """Return a frozen message, its checksum and its key verified.

        Raises:
            PlanDamaged: it cannot be read, or it is not what was written.

        """

    def findings(self, n: int | EllipsisType | None = ...) -> Iterator[tuple[int | None, Diagnostic]]:
        """Yield findings with the place of their row, in the order in which they were added to it.

        Args:
            n: only those of the row at this place; None: only those in the whole. Without it: all, those in
                the whole first, then row by row.

        Raises:
            PlanDamaged: one cannot be read.

        """


def following(first: PlanRow, other: PlanRow) -> PlanRow:
    """Return a further row of a message with the result of the first one."""
    return replace(other, status=first.status, detail=first.detail, key=first.key)


def refuse(wrong: bool, why: str) -> None:
    """Stop a misuse of this class.

    Raises:
        RuntimeError: it is *wrong*.

    """
    if wrong:
        raise RuntimeError(why)


def damaged(path: Path, error: Exception) -> PlanDamaged:
    """Return the error for a plan that cannot be trusted."""
    why = error.strerror if isinstance(error, FileError) else str(error)
    return PlanDamaged(
        f"the plan {path} cannot be used: {why}",
        hint="run the same command again: the plan is made again, and nothing is lost",
    )
