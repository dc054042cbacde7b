"""What the rows of a list become, and how they are made a chunk at a time.

`RowMaker` makes one row after another. `ChunkMaker` makes and packs the rows of a chunk: what depends on
earlier rows is left open (is a layout new? how often does something occur?), so that chunks can be made in
any order, by several processes, and are then added in the list's order. A plan is therefore the same however
many processes made it.
"""

from __future__ import annotations

import os
from itertools import chain, islice
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.check.diagnostics import Findings
from mailmerge.check.lint import KnownLayout, RowCounts, SeenLayout  # noqa: TC001  decoded into
from mailmerge.errors import MailmergeError, NoAddressError, RowError, TemplateError
from mailmerge.model import Diagnostic, Recipient, Severity, Status
from mailmerge.plan.composer import identity
from mailmerge.plan.groups import signature
from mailmerge.plan.repetitions import other_addresses
from mailmerge.plan.sqlite_store import Form, MessagePacker, pack_row
from mailmerge.plan.store import PackedMessage, PackedRow, PlanRow, PlanWriter
from mailmerge.recipients.understanding import Understanding  # noqa: TC001  decoded into
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from typing import BinaryIO

    from mailmerge.check.lint import Lint
    from mailmerge.model import Columns, FrozenMessage, Rendered
    from mailmerge.plan.composer import Composer
    from mailmerge.values import Cell as _Cell
else:
    _Cell = str | Number | Date | DateTime | Time | Duration | Truth  # what a cell is decoded into


TOGETHER = 20
"""Rows that are made together, step by step: few enough for the second cache of a processor."""
NO_ADDRESS = "no address"
"""Why a row without a recipient is skipped."""


@runtime_checkable
class TellsTime(Protocol):
    """Observes how many rows are planned, and how long it will take."""

    def takes(self, seconds: float) -> None:
        """Show, once, how long making the files of the rows will take."""


class MadeRow(Struct, frozen=True):
    """What one row of the list has become."""

    status: Status
    """``pending`` (ready to be sent), ``invalid`` or ``skipped``."""
    key: str = ""
    address: str = ""
    detail: str = ""
    """Why it has no message."""
    findings: Sequence[Diagnostic] = ()
    rendered: Rendered | None = None
    """None: its data cannot be rendered, or it was not selected."""
    frozen: FrozenMessage | None = None
    """None: its message cannot be made; an invalid row has one if reading it found the error."""

    @property
    def recipients(self) -> tuple[str, ...]:
        """Everyone the message is for, normalised."""
        if self.frozen is None:
            return ()
        return tuple(address.normalised for address in self.frozen.envelope.rcpt_to)


class RowMaker:
    """Makes the rows of one pass over a list.

    Args:
        composer: the campaign's templates and message builder.
        lint: reads the messages; it also counts what only the whole list shows.

    """

    def __init__(self, composer: Composer, lint: Lint) -> None:
        self._composer = composer
        self._lint = lint

    def make(self, recipient: Recipient) -> MadeRow:
        """Return what the row is, with its message if it has one; rows come in the list's order."""
        [(made, layout)] = self.examine([recipient])
        return self.admitted(recipient, made, layout)

    def made(self, rows: Iterator[tuple[int, Recipient]]) -> Iterator[list[tuple[int, Recipient, MadeRow]]]:
        """Yield what the rows are, each with its place in the list, as many at a time as fit together."""
        for step in self.steps(rows):
            examined = self.examine([recipient for _, recipient in step])
            yield [
                (n, recipient, self.admitted(recipient, made, layout))
                for (n, recipient), (made, layout) in zip(step, examined, strict=True)
            ]

    def admitted(self, recipient: Recipient, made: MadeRow, layout: SeenLayout | None) -> MadeRow:
        """Return what an examined row is, with the findings in its layout if that is new in the list."""
        if layout is None:
            return made
        found = self._lint.admit(layout, recipient.row)
        detail = fault(found) if made.status is Status.PENDING else None
        made = replace(made, findings=[*made.findings, *found])
        return made if detail is None else replace(made, status=Status.INVALID, detail=detail)

    def steps(self, rows: Iterator[tuple[int, Recipient]]) -> Iterator[list[tuple[int, Recipient]]]:
        """Yield so many rows as are best made together: where each needs a file made, one."""
        size = TOGETHER if self._composer.documents is None else 1
        while found := list(islice(rows, size)):
            yield found

    def examine(self, recipients: Sequence[Recipient]) -> list[tuple[MadeRow, SeenLayout | None]]:
        """Return what each row is by itself, and the findings in its layout if that is new here.

        All are rendered, then all are frozen, then all are read: row by row, each step would drive the
        others out of the processor's caches, and everything would take a third longer.

        Raises:
            MailmergeError: planning cannot continue; it is the error that row by row would raise, too.

        """
        try:
            return self._examine(recipients)
        except MailmergeError:
            if len(recipients) == 1:
                raise
        # Row by row, so that the error is the list's first: a step may have met one of a later row.
        return [examined for recipient in recipients for examined in self._examine([recipient])]

    def _examine(self, recipients: Sequence[Recipient]) -> list[tuple[MadeRow, SeenLayout | None]]:
        rendered = [self._rendered(recipient) for recipient in recipients]
        frozen = [one if isinstance(one, MadeRow) else self._frozen(one) for one in rendered]
        return [(one, None) if isinstance(one, MadeRow) else self._linted(*one) for one in frozen]

    def _rendered(self, recipient: Recipient) -> MadeRow | Rendered:
        try:
            # Rows that share a message were selected one by one before they were collected.
            if not recipient.others and not self._composer.selects(recipient):
                return MadeRow(Status.SKIPPED, recipient.key or "", detail="where")
            return self._composer.render(recipient)
        except NoAddressError as error:
            return self._unaddressed(recipient, error)
        except (RowError, TemplateError) as error:
            return self._invalid(recipient, error, None)

    def _frozen(self, rendered: Rendered) -> MadeRow | tuple[Rendered, FrozenMessage]:
        try:
            return rendered, self._composer.freeze(rendered)
        except (RowError, TemplateError) as error:
            return self._invalid(rendered.recipient, error, rendered)

    def _linted(self, rendered: Rendered, frozen: FrozenMessage) -> tuple[MadeRow, SeenLayout | None]:
        findings, layout = self._lint.examine(rendered, frozen)
        key, address = identity(rendered), str(rendered.to[0].address)
        detail = fault(findings) if findings else None
        if detail is not None:
            return MadeRow(Status.INVALID, key, address, detail, findings, rendered, frozen), layout
        return MadeRow(Status.PENDING, key, address, "", findings, rendered, frozen), layout

    def _invalid(
        self, recipient: Recipient, error: RowError | TemplateError, rendered: Rendered | None
    ) -> MadeRow:
        key, first = recipient.key or "", error.diagnostics[0]
        detail = first.message
        if recipient.others and first.row not in {None, recipient.row}:
            detail = f"row {first.row}: {detail}"
        address = error.address or self._composer.renderer.address(recipient)
        return MadeRow(Status.INVALID, key, address, detail, error.diagnostics, rendered)

    def _unaddressed(self, recipient: Recipient, error: NoAddressError) -> MadeRow:
        """Leave out a row without a recipient; report an address in another column."""
        others = other_addresses(recipient.columns, recipient.values)
        told = []
        if others:
            found = f"{error.message}, but there is {' and '.join(others.values())}"
            names = " or ".join([error.empty or "email", *others])
            hint = f"if they are to get it, use that column, too, in message.to: {{{{ {names} }}}}"
            told.append(
                Diagnostic(
                    "D266", found, hint, severity=Severity.WARNING, place=error.place, row=recipient.row
                )
            )
        return MadeRow(Status.SKIPPED, recipient.key or "", detail=NO_ADDRESS, findings=told)


def fault(findings: Iterable[Diagnostic]) -> str | None:
    """Return why a row with these findings is invalid; None: it is not."""
    errors = (found.message for found in findings if found.severity is Severity.ERROR)
    return next(errors, None)


def plan_row(n: int, recipient: Recipient, made: MadeRow) -> PlanRow:
    """Return the plan's row for a row of the list."""
    return PlanRow(
        n=n,
        row=recipient.row,
        key=made.key,
        address=made.address,
        status=made.status,
        detail=made.detail,
        row_digest=recipient.digest(),
        recipients=made.recipients,
        message=None if made.frozen is None else n,
        size=0 if made.frozen is None else made.frozen.size,
        holds=bool(made.key),
        cells=recipient.values,
        frozen="" if made.frozen is None else made.frozen.digest,
        rows=recipient.rows if recipient.others else (),
        others=tuple([n for n, _ in recipient.others]),
        signature=signature(recipient) if recipient.others else "",
    )


def superseded_by(recipient: Recipient) -> tuple[str, ...]:
    """Return the keys that a row, and the others of its message, had before they were corrected."""
    own = (recipient.supersedes,) if recipient.supersedes else ()
    if not recipient.others:
        return own
    return (*own, *(other.supersedes for _, other in recipient.others if other.supersedes))


def other_rows(first: PlanRow, recipient: Recipient) -> list[PlanRow]:
    """Return the plan's rows for the further rows of a message: like the *first* one, except their cells."""
    return [
        replace(
            first,
            n=n,
            row=other.row,
            cells=other.values,
            holds=False,
            rows=(),
            others=(),
            signature="",
            first=first.row,
        )
        for n, other in recipient.others
    ]


class PlanSummary(Struct, frozen=True):
    """What a plan has about the list as a whole."""

    understanding: Understanding
    """How the list was read."""
    largest: int = 0
    """Size of the largest message in octets."""
    sender: str = ""
    """From of the first message."""
    senders: dict[str, int] = field(default_factory=dict)
    """Every From address, with the first row that has it."""
    statuses: dict[Status, int] = field(default_factory=dict)
    unaddressed: int = 0
    """How many of the skipped ones have no address."""
    findings: Findings = field(default_factory=Findings)
    """What was found in list and messages, grouped."""
    files: dict[int, int] = field(default_factory=dict)
    """How many messages have how many attachments; empty where the campaign has no rule for any."""
    copies: tuple[str, ...] = ()
    """Who gets messages besides the rows' own addresses, the first few."""
    copied: int = 0
    """How many they are."""
    corrections: dict[str, str] = field(default_factory=dict)
    """Keys of refused rows that were corrected in a file of failed rows, with the keys they have now."""
    layouts: tuple[KnownLayout, ...] = ()
    """The layouts of the messages."""
    unsubscribe_values: dict[str, int] = field(default_factory=dict)
    """See `mailmerge.check.lint.Lint`."""
    sharing: int = 0
    """How many rows are in a message that another row represents."""
    reduced: int = 0
    """How many messages are without some of their rows, which ``where`` leaves out."""


# --- a chunk at a time ----------------------------------------------------------------------------------

DIED = "C473"
"""A process that helped to plan has ended."""
MOST_JOBS = 8
CHUNK = 100
"""Rows that are given to a worker together: some hundredths of a second."""
_Row = tuple[int, int, tuple[_Cell, ...], str | None, tuple[Diagnostic, ...], str]
"""A place, and a `Recipient` there without the columns, which are the same for all."""
_Given = tuple[int, int, tuple[_Cell, ...], str | None, tuple[Diagnostic, ...], str, tuple[_Row, ...]]
"""The same with the further rows of its message."""


class Chunk(Struct, frozen=True, array_like=True):
    """Consecutive rows of the list, except those that share the message of an earlier one."""

    given: tuple[_Given, ...]

    @classmethod
    def of(cls, placed: Iterable[tuple[int, Recipient]]) -> Chunk:
        """Take rows, each with its place in the list from 0."""
        return cls(
            tuple(
                [
                    (
                        n,
                        r.row,
                        r.values,
                        r.key,
                        r.problems,
                        r.supersedes,
                        tuple([_given(*other) for other in r.others]) if r.others else (),
                    )
                    for n, r in placed
                ]
            )
        )

    def placed(self, columns: Columns) -> list[tuple[int, Recipient]]:
        """Return the rows with their places."""
        return [
            (
                n,
                Recipient(
                    row,
                    columns,
                    values,
                    key,
                    problems,
                    supersedes,
                    tuple([_placed(other, columns) for other in others]) if others else (),
                ),
            )
            for n, row, values, key, problems, supersedes, others in self.given
        ]

    @property
    def n(self) -> int:
        """The place of the first one."""
        return self.given[0][0]

    @property
    def extent(self) -> str:
        """The numbers of its rows, for people."""
        first, last = self.given[0][1], self.given[-1][1]
        return f"rows {first:,} to {last:,}" if first != last else f"row {first:,}"


def _given(n: int, recipient: Recipient) -> _Row:
    r = recipient
    return n, r.row, r.values, r.key, r.problems, r.supersedes


def _placed(row: _Row, columns: Columns) -> tuple[int, Recipient]:
    n, number, values, key, problems, supersedes = row
    return n, Recipient(number, columns, values, key, problems, supersedes)


_CELLS_IN_MEMORY = 100_000
"""Some 10 MB."""
_HEAD = 4
"""Octets for the length of a chunk in the file."""
CHUNK_FORM = Form(Chunk)


class Spool:
    """Keeps the rows of a list between the step that reads all of them and the one that makes their messages.

    Some lists can be read only once, and a workbook takes long to read. Few rows are kept in memory, more of
    them, from the first on, in a file in the plan's own folder that is gone when the plan is finished.

    Args:
        writer: the plan's, which has a place for the file.
        columns: the list's.
        in_memory: how many cells are kept in memory.

    """

    def __init__(self, writer: PlanWriter, columns: Columns, *, in_memory: int = _CELLS_IN_MEMORY) -> None:
        self._writer = writer
        self._columns = columns
        self._most = in_memory // max(1, len(columns.names))
        self._blocks: list[Sequence[Recipient]] = []
        self._stream: BinaryIO | None = None
        self.rows = 0
        """How many it has."""

    def add(self, block: Sequence[Recipient]) -> None:
        """Add the next rows.

        Raises:
            FileError: they cannot be kept.

        """
        first, self.rows = self.rows, self.rows + len(block)
        if self._stream is None and self.rows <= self._most:
            self._blocks.append(block)
            return
        if self._stream is None:
            self._stream = self._writer.begin_spool()
            place = 0
            for earlier in self._blocks:  # their memory is wanted for what the rows become
                self._write(place, earlier)
                place += len(earlier)
            self._blocks.clear()
        self._write(first, block)

    def _write(self, first: int, block: Sequence[Recipient]) -> None:
        assert self._stream is not None
        data = CHUNK_FORM.encode(Chunk.of(enumerate(block, first)))
        self._stream.write(len(data).to_bytes(_HEAD, "big"))
        self._stream.write(data)

    def __iter__(self) -> Iterator[Recipient]:
        if self._stream is None:
            yield from chain.from_iterable(self._blocks)
            return
        with self._writer.read_spool() as stream:
            while head := stream.read(_HEAD):
                chunk = CHUNK_FORM.decode(stream.read(int.from_bytes(head, "big")))
                yield from (recipient for _, recipient in chunk.placed(self._columns))


class GuardedFile(Struct, frozen=True, array_like=True):
    """A file that is read for the row that it names."""

    path: bytes
    name: str
    """As the message shows it."""
    sha256: str


class OwnFiles(Struct, frozen=True, array_like=True):
    """The files of a message, as far as the whole list needs them."""

    attachments: int = 0
    """How many it has."""
    paths: tuple[bytes, ...] = ()
    """Those that no other row may get."""
    guarded: tuple[GuardedFile, ...] = ()
    """Those that are read for the row that they name."""

    @classmethod
    def of(cls, frozen: FrozenMessage) -> OwnFiles:
        """Take them from a message."""
        attachments = sum(not file.content_id for file in frozen.files)
        guarded = [GuardedFile(file.path, file.name, file.sha256) for file in frozen.files if file.guarded]
        return cls(attachments, tuple(file.path for file in frozen.files if file.own), tuple(guarded))


_NO_FILES = OwnFiles()


class PackedRecord(Struct, frozen=True, array_like=True):
    """A row that was made and packed, and what the whole list needs about it."""

    row: PackedRow
    status: Status
    message: PackedMessage | None
    size: int
    sender: str
    """The address of From; empty: it has no message."""
    from_: str
    """From as it is written; only up to the chunk's first row that is ready."""
    key: str
    supersedes: tuple[str, ...]
    """The keys of the rows that this one, and the others of its message, correct."""
    files: OwnFiles
    findings: tuple[Diagnostic, ...] = ()
    layout: SeenLayout | None = None
    """Findings in the first message of its layout that this process met."""
    others: tuple[PackedRow, ...] = ()
    """The further rows of its message."""


class PackedChunk(Struct, frozen=True, array_like=True):
    """The rows of a chunk."""

    records: tuple[PackedRecord, ...]
    counts: RowCounts


def _nothing() -> None:
    pass


class ChunkMaker:
    """Makes and packs chunks, in any order.

    Args:
        composer: the campaign's templates and message builder.
        lint: reads the messages.
        dictionary: what `PlanWriter.dictionary` is.

    """

    def __init__(self, composer: Composer, lint: Lint, dictionary: bytes) -> None:
        self._maker = RowMaker(composer, lint)
        self._lint = lint
        self._packer = MessagePacker(dictionary)

    def make(
        self, placed: Sequence[tuple[int, Recipient]], between: Callable[[], None] = _nothing
    ) -> PackedChunk:
        """Make the rows of a chunk, each with its place; after each few, call *between*."""
        self._lint.take_counts()  # those of a chunk that was given up
        records = []
        named = False
        for step in self._maker.steps(iter(placed)):
            examined = self._maker.examine([recipient for _, recipient in step])
            for (place, recipient), (made, layout) in zip(step, examined, strict=True):
                records.append(self._record(place, recipient, made, layout, named=named))
                named = named or (made.status is Status.PENDING and layout is None)
            between()
        return PackedChunk(tuple(records), self._lint.take_counts())

    def _record(
        self, n: int, recipient: Recipient, made: MadeRow, layout: SeenLayout | None, *, named: bool
    ) -> PackedRecord:
        frozen, rendered = made.frozen, made.rendered
        row = plan_row(n, recipient, made)
        return PackedRecord(
            pack_row(row),
            made.status,
            None if frozen is None else self._packer.pack(frozen),
            0 if frozen is None else frozen.size,
            "" if frozen is None else frozen.sender,
            "" if named or frozen is None or rendered is None else str(rendered.from_),
            made.key,
            superseded_by(recipient),
            _NO_FILES if frozen is None or not frozen.files else OwnFiles.of(frozen),
            tuple(made.findings),
            layout,
            tuple([pack_row(other) for other in other_rows(row, recipient)]) if row.others else (),
        )


def cpus() -> int:
    """Return how many processes ``auto`` means: one for each processor that we may use, up to `MOST_JOBS`."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(allowed, MOST_JOBS)
