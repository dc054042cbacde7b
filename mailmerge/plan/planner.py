"""From the list to the plan: every row becomes a frozen message, or the reason why it has none.

Three steps over one reading. *Read* and *make* go row by row: the templates run, the message is frozen, the
lint reads it, and all of it is stored. The *whole list* comes last: which rows repeat others, and what only
the list as a whole shows. Nothing that is sent is rendered a second time.
"""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.check.diagnostics import DiagnosticCollector, Findings
from mailmerge.errors import RowError, TemplateError
from mailmerge.model import Diagnostic, Severity, Status
from mailmerge.plan.composer import identity
from mailmerge.plan.store import PlanRow
from mailmerge.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from mailmerge.check.lint import Lint
    from mailmerge.model import FrozenMessage, Recipient, Rendered
    from mailmerge.plan.composer import Composer
    from mailmerge.plan.store import PlanWriter
    from mailmerge.recipients import RecipientList

_PROGRESS_EVERY = 500
_JUDGED = 1000
"""Rows after which it can be judged how much room the plan needs."""


class PlanSummary(Struct, frozen=True):
    """What a plan says about the list as a whole."""

    dialect: str
    """How the list was read."""
    rows: int
    blank_rows: int = 0
    hidden_rows: int = 0
    largest: int = 0
    """Size of the largest message in octets."""
    sender: str = ""
    """From of the first message."""
    senders: dict[str, int] = field(default_factory=dict)
    """Every From address, with the first row that has it."""
    statuses: dict[Status, int] = field(default_factory=dict)
    findings: Findings = field(default_factory=Findings)
    """What was found in list and messages, grouped."""
    files: dict[int, int] = field(default_factory=dict)
    """How many messages have how many attachments; empty where the campaign has no rule for any."""
    corrections: dict[str, str] = field(default_factory=dict)
    """Keys of refused rows that were corrected in a file of failed rows, with the keys they have now."""


class MadeRow(Struct, frozen=True):
    """What one row of the list is."""

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
        """Say what the row is, and give its message if there is one."""
        rendered = None
        try:
            if not self._composer.selects(recipient):
                return MadeRow(Status.SKIPPED, recipient.key or "", detail="where")
            rendered = self._composer.render(recipient)
            frozen = self._composer.freeze(rendered)
        except (RowError, TemplateError) as error:
            return _invalid(recipient, error, rendered)
        findings = self._lint.look(rendered, frozen)
        key, address = identity(rendered), str(rendered.to[0].address)
        for found in findings:
            if found.severity is Severity.ERROR:
                return MadeRow(Status.INVALID, key, address, found.message, findings, rendered, frozen)
        return MadeRow(Status.PENDING, key, address, "", findings, rendered, frozen)


def _invalid(recipient: Recipient, error: RowError | TemplateError, rendered: Rendered | None) -> MadeRow:
    key, address, detail = recipient.key or "", error.address or "", error.diagnostics[0].message
    return MadeRow(Status.INVALID, key, address, detail, error.diagnostics, rendered)


class Planner:
    """Makes one plan; use it once.

    Args:
        composer: the campaign's templates and message builder.
        recipients: its list.
        ignore: codes of warnings that the author overruled.
        duplicates: what rows are that repeat an address: ``first``, ``error`` or ``allow``.
        keyed: whether rows are told apart by a key column.

    """

    def __init__(
        self,
        composer: Composer,
        recipients: RecipientList,
        *,
        ignore: Sequence[str] = (),
        duplicates: str = "first",
        keyed: bool = False,
    ) -> None:
        self._composer = composer
        self._recipients = recipients
        self._lint = composer.lint()
        self._ignore = frozenset(ignore)
        self._problems = DiagnosticCollector(ignore)
        self._duplicates = duplicates
        self._unique_addresses = keyed and duplicates != "allow"
        self._statuses: dict[Status, int] = {}
        self._senders: dict[str, int] = {}
        self._corrections: dict[str, str] = {}
        self._files = FileOwners()
        self._sender = ""
        self._largest = 0

    def plan(self, writer: PlanWriter, progress: Callable[[int], None]) -> PlanSummary:
        """Go through the list into *writer*, which is then to be finished.

        Raises:
            ListError: the list cannot be read to its end.
            FileError: there is no room for the plan.

        """
        self._problems.add(self._recipients.warnings)
        rows = self._make(writer, progress)
        repeating = self._settle(writer)
        self._settle_files(writer, repeating)
        whole = self._lint.finish()
        writer.add_findings(None, whole)
        self._problems.add(whole)
        return PlanSummary(
            dialect=self._recipients.dialect,
            rows=rows,
            blank_rows=self._recipients.blank_rows,
            hidden_rows=self._recipients.hidden_rows,
            largest=self._largest,
            sender=self._sender,
            senders=self._senders,
            statuses=self._statuses,
            findings=self._problems.findings(),
            files=self._files.counts if self._composer.attaches else {},
            corrections=self._corrections,
        )

    def _make(self, writer: PlanWriter, progress: Callable[[int], None]) -> int:
        maker = RowMaker(self._composer, self._lint)
        n = -1
        for n, recipient in enumerate(self._recipients):
            made = maker.make(recipient)
            if made.findings:
                self._problems.add(made.findings)
                self._keep(writer, n, made.findings)
            message = None
            if made.frozen is not None:
                message = writer.add_message(made.frozen)
                if made.status is Status.PENDING:
                    self._note(made.frozen, made.rendered)
            row = plan_row(n, recipient, made, message)
            writer.add_row(row)
            if made.frozen is not None and made.status is Status.PENDING:
                self._files.add(row, made.frozen)
            if recipient.supersedes and made.status is Status.PENDING and recipient.supersedes != made.key:
                self._corrections[recipient.supersedes] = made.key
            self._statuses[made.status] = self._statuses.get(made.status, 0) + 1
            if (n + 1) % _PROGRESS_EVERY == 0:
                progress(n + 1)
                if n + 1 == _JUDGED:
                    writer.expect(self._recipients.about_rows())
        return n + 1

    def _keep(self, writer: PlanWriter, n: int, findings: Sequence[Diagnostic]) -> None:
        """Store what was found in a row, and what the row only happened to show of the whole."""
        told = [one for one in findings if one.code not in self._ignore or one.severity is Severity.ERROR]
        writer.add_findings(n, [one for one in told if one.row is not None])
        writer.add_findings(None, [one for one in told if one.row is None])

    def _note(self, frozen: FrozenMessage, rendered: Rendered | None) -> None:
        self._largest = max(self._largest, frozen.size)
        if frozen.sender not in self._senders:
            self._senders[frozen.sender] = frozen.row
            if not self._sender and rendered is not None:
                self._sender = str(rendered.from_)

    def _settle(self, writer: PlanWriter) -> set[int]:
        """Turn rows that repeat others into duplicates, and give their places in the list."""
        repeating = set()
        for row, earlier in settle_repetitions(writer, addresses=self._unique_addresses):
            repeating.add(row.n)
            self._change(Status.DUPLICATE)
            if self._duplicates == "error":
                found = _duplicate(row, earlier)
                self._problems.add([found])
                writer.add_findings(row.n, [found])
        return repeating

    def _settle_files(self, writer: PlanWriter, repeating: set[int]) -> None:
        """Make rows invalid that get a file that another row gets, too, and no rule says that they may."""
        for row, found in self._files.contested(repeating):
            self._change(Status.INVALID)
            self._problems.add([found])
            writer.add_findings(row.n, [found])
            writer.replace_row(replace(row, status=Status.INVALID, detail=found.message))

    def _change(self, status: Status) -> None:
        self._statuses[Status.PENDING] -= 1
        self._statuses[status] = self._statuses.get(status, 0) + 1


class FileOwners:
    """Which row got which file of its own, and how many files the messages have."""

    def __init__(self) -> None:
        self._first: dict[bytes, PlanRow] = {}
        self._rows: dict[bytes, list[PlanRow]] = {}
        """Of the files that several rows got: all of them."""
        self._attachments: dict[int, int] = {}
        """By place in the list, where it is not one."""
        self._messages = 0
        self.counts: dict[int, int] = {}
        """How many messages have how many attachments, once `contested` was asked."""

    def add(self, row: PlanRow, frozen: FrozenMessage) -> None:
        """Note the files of a row that may be sent."""
        self._messages += 1
        count = 0
        for file in frozen.files:
            count += not file.content_id
            if file.own:
                first = self._first.setdefault(file.path, row)
                if first is not row:
                    self._rows.setdefault(file.path, [first]).append(row)
        if count != 1:
            self._attachments[row.n] = count

    def contested(self, repeating: set[int]) -> Iterator[tuple[PlanRow, Diagnostic]]:
        """Yield each row with a file of another one, and what is wrong; those *repeating* others get none."""
        told: dict[int, tuple[PlanRow, Diagnostic]] = {}
        for path, several in self._rows.items():
            rows = [row for row in several if row.n not in repeating]
            for row in rows if len(rows) > 1 else ():
                told.setdefault(row.n, (row, _shared_file(path, row, rows)))
        left_out = repeating | told.keys()
        counts = Counter(count for n, count in self._attachments.items() if n not in left_out)
        others = self._messages - len(self._attachments)
        counts[1] += others - sum(n not in self._attachments for n in left_out)
        self.counts = {count: messages for count, messages in counts.items() if messages}
        yield from (told[n] for n in sorted(told))


def _shared_file(path: bytes, row: PlanRow, rows: Sequence[PlanRow]) -> Diagnostic:
    name = os.path.basename(os.fsdecode(path))  # noqa: PTH119  a text
    other = next(one for one in rows if one.n != row.n)
    more = f" and {plural(len(rows) - 2, 'more row')}" if len(rows) > 2 else ""
    return Diagnostic(
        "A313",
        f"{quoted(name)} is also the file of row {other.row} ({other.address}){more}",
        "make the path name one row only; if they are all meant to get it: `shared = true` in [[attach]]",
        severity=Severity.ERROR,
        row=row.row,
        address=row.address,
    )


def settle_repetitions(writer: PlanWriter, *, addresses: bool) -> Iterator[tuple[PlanRow, int]]:
    """Turn ready rows that repeat an earlier one into duplicates, and settle which row holds a key.

    Only rows that may be sent repeat, or are repeated: one that is left out (invalid, skipped) does not
    hide a later one. Of rows with one key the one that may be sent holds it, else one that repeats only
    another row's address, else the first.

    Args:
        writer: the plan, all its rows added.
        addresses: whether rows with different keys but the same address are duplicates, too.

    Yields:
        Each duplicate, with the number of the row that it repeats.

    """
    ready = {row.key for row in writer.repeated(addresses=False) if row.ready}
    held: dict[str, int] = {}
    written_to: dict[str, int] = {}
    own_key: dict[str, PlanRow] = {}
    for row in writer.repeated(addresses=addresses):
        if not row.ready:
            holds = bool(row.key) and row.key not in ready and row.key not in held
            if holds:
                held[row.key] = row.row
            if holds != row.holds:
                writer.replace_row(replace(row, holds=holds))
            continue
        address = row.address.lower()
        earlier = held.get(row.key) or (written_to.get(address) if addresses else None)
        if earlier is None:
            held[row.key] = written_to[address] = row.row
            continue
        duplicate = replace(row, status=Status.DUPLICATE, detail=f"repeats row {earlier}", holds=False)
        if row.key in held or row.key in own_key:
            writer.replace_row(duplicate)
        else:
            own_key[row.key] = duplicate
        yield row, earlier
    for key, row in own_key.items():
        # What happened to it earlier, when it was the first with this address, still happened to it.
        writer.replace_row(replace(row, holds=key not in held))


def plan_row(n: int, recipient: Recipient, made: MadeRow, message: int | None) -> PlanRow:
    """Put down what a row of the list is; *message* is the number of its frozen message."""
    return PlanRow(
        n=n,
        row=recipient.row,
        key=made.key,
        address=made.address,
        status=made.status,
        detail=made.detail,
        row_digest=recipient.digest(),
        recipients=made.recipients,
        message=message,
        size=0 if made.frozen is None else made.frozen.size,
        holds=bool(made.key),
        cells=recipient.values,
        frozen="" if made.frozen is None else made.frozen.digest,
    )


def _duplicate(row: PlanRow, earlier: int) -> Diagnostic:
    return Diagnostic(
        "D140",
        f"row {row.row} repeats {row.address} of row {earlier}",
        'remove one of them, or set data.duplicates = "first"',
        severity=Severity.ERROR,
    )
