"""From the list to the plan: every row becomes a frozen message, or the reason why it has none.

Three steps over one reading. *Read* and *make* go row by row: the templates run, the message is frozen, the
lint reads it, and all of it is stored. The *whole list* comes last: which rows repeat others, and what only
the list as a whole shows. Nothing that is sent is rendered a second time.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.model import Diagnostic, Severity, Status
from mailmerge.plan.groups import Grouping
from mailmerge.plan.repetitions import difference, repetition, settle_repetitions
from mailmerge.plan.rows import (
    CHUNK_FORM,
    NO_ADDRESS,
    Chunk,
    ChunkMaker,
    OwnFiles,
    PlanSummary,
    RowMaker,
    Spool,
    TellsTime,
    fault,
    other_rows,
    plan_row,
    superseded_by,
)
from mailmerge.plan.sqlite_store import ROW, pack_row
from mailmerge.plan.store import following
from mailmerge.recipients.list_survey import BLOCK, ListSurvey, Surveyed
from mailmerge.recipients.understanding import ColumnsSeen
from mailmerge.text import plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailmerge.addresses import Mailbox
    from mailmerge.model import FrozenMessage, Recipient
    from mailmerge.plan.composer import Composer
    from mailmerge.plan.earlier import EarlierPlan, TakenRow
    from mailmerge.plan.path_log import LookedAtPaths
    from mailmerge.plan.rows import GuardedFile, MadeRow, PackedRecord
    from mailmerge.plan.store import PlanRow, PlanWriter
    from mailmerge.plan.text_cache import TextCache
    from mailmerge.plan.workers import WorkerPool
    from mailmerge.recipients import RecipientList

_PROGRESS_EVERY = 500
_LOOK_EVERY = 100
"""Rows after which it is decided again whether workers should help."""
_LOOK_AFTER = 1.0
"""Seconds after which that is decided anyway."""
_COPIES_TOLD = 3
_ROWS_TIMED = 50
"""Rows whose files were made, after which the time for the others can be estimated."""
_LONG = 4.0
"""Seconds that are worth a message."""
_JUDGED = 1000
"""Rows after which the room for the plan can be estimated."""
_USUAL_PACE = 2000
"""Rows a second that one process makes, before it is known how many it really makes."""


class Planner:
    """Makes one plan; use it once.

    Args:
        composer: the campaign's templates and message builder.
        recipients: its list.
        ignore: codes of warnings that the author ignores.
        duplicates: how rows that repeat an address are treated: ``first``, ``last``, ``error`` or
            ``allow``.
        keyed: whether rows are identified by a key column.
        jobs: how many processes make rows, this one included.
        take_paths: called with the paths that the workers looked at.
        worth: seconds of work that must be left before workers are given some of it. A list that probably
            needs that much has them started while it is being read: loading what they need takes as long as
            a thousand rows.

    """

    def __init__(
        self,
        composer: Composer,
        recipients: RecipientList,
        *,
        ignore: Sequence[str] = (),
        duplicates: str = "first",
        keyed: bool = False,
        jobs: int = 1,
        take_paths: Callable[[LookedAtPaths], None] = lambda _paths: None,
        worth: float = 2.0,
    ) -> None:
        self._composer = composer
        self._recipients = recipients
        self._seen = ColumnsSeen(recipients.columns)
        self._lint = composer.lint()
        self._ignore = frozenset(ignore)
        self._problems = DiagnosticCollector(ignore)
        self._duplicates = duplicates
        self._unique_addresses = (keyed or composer.groups) and duplicates != "allow"
        self._jobs = jobs
        self._take_paths = take_paths
        self._worth = worth
        self._pool: WorkerPool | None = None
        """Workers that have been started."""
        self._ending = contextlib.ExitStack()
        """Ends them."""
        self._statuses: dict[Status, int] = {}
        self._unaddressed = 0
        self._senders: dict[str, int] = {}
        self._corrections: dict[str, str] = {}
        self._files = FileOwners()
        self._guarded: list[tuple[PlanRow, tuple[GuardedFile, ...]]] = []
        """The files of single rows, to be searched for the names of others."""
        self._copies: dict[str, None] = {}
        self._sender = ""
        self._largest = 0
        self._rows = 0
        self._progress: Callable[[int], None] = lambda _rows: None
        self._measured: tuple[float, int] | None = None
        self._making = composer.documents
        """Makes the files of rows, until the time that takes was shown."""
        self._warmed_up: tuple[float, int] | None = None
        """Seconds and rows of the first files, which include loading what makes them."""
        self._surveyed = Surveyed()
        self._spool: Spool
        self._grouping: Grouping | None = None
        self._sharing = 0

    def plan(
        self,
        writer: PlanWriter,
        progress: Callable[[int], None],
        earlier: EarlierPlan | None = None,
        texts: TextCache | None = None,
    ) -> PlanSummary:
        """Write the plan of the list into *writer*, which the caller then finishes.

        Args:
            writer: receives the plan.
            progress: called now and then with the number of rows planned.
            earlier: the plan that most rows are taken over from.
            texts: what was read from attachments before.

        Raises:
            DiffersError: they cannot be taken over.
            PlanDamaged: the earlier plan cannot be read.
            ListError: the list cannot be read to its end.
            FileError: the disk has no room for the plan.

        """
        self._progress = progress
        with self._ending:
            self._read(writer)
            self._make(writer, earlier)
        self._refuse_if_unaddressed(writer)
        repeating = self._settle(writer)
        self._guard_files(writer, repeating | self._settle_files(writer, repeating), texts)
        whole = self._lint.finish()
        writer.add_findings(None, whole)
        self._problems.add(whole)
        return PlanSummary(
            understanding=self._surveyed.told(self._recipients.understood(self._seen)),
            largest=self._largest,
            sender=self._sender,
            senders=self._senders,
            statuses=self._statuses,
            unaddressed=self._unaddressed,
            findings=self._problems.findings(),
            files=self._files.counts if self._composer.attaches else {},
            copies=tuple(islice(self._copies, _COPIES_TOLD)),
            copied=len(self._copies),
            corrections=self._corrections,
            layouts=self._lint.layouts,
            unsubscribe_values=self._lint.unsubscribe_values,
            sharing=self._sharing,
            reduced=self._grouping.reduced if self._grouping else 0,
        )

    def _read(self, writer: PlanWriter) -> None:
        """Read the list to its end, before any row is made: the types of its cells depend on all of them."""
        self._spool = Spool(writer, self._recipients.columns)
        renderer = self._composer.renderer
        survey = ListSurvey(self._recipients, renderer.used_names, renderer.written_names)
        rows = self._recipients.watched(self._seen)
        while block := list(islice(rows, BLOCK)):
            # Other findings in rows that are already invalid do not matter.
            survey.add(
                [recipient.row for recipient in block if not recipient.problems],
                [recipient.values for recipient in block if not recipient.problems],
            )
            self._spool.add(block)
            long = self._spool.rows >= self._worth * _USUAL_PACE
            if long and self._jobs > 1 and self._start_workers() is None:
                self._jobs = 1
        self._surveyed = survey.finish(self._composer.renderer.roles)
        writer.add_findings(None, self._surveyed.findings)
        self._problems.add((*self._recipients.warnings, *self._surveyed.findings))

    def _settled(self) -> Iterator[Recipient]:
        """Return the list's rows, as far as they depend on all of them."""
        return iter(self._surveyed.settled(self._spool) if self._surveyed.changes else self._spool)

    def _make(self, writer: PlanWriter, earlier: EarlierPlan | None) -> None:
        maker = RowMaker(self._composer, self._lint)
        rows = self._messages(writer)
        steps = maker.made(rows) if earlier is None else self._made_again(writer, earlier, maker, rows)
        for step in steps:
            for n, recipient, made in step:
                frozen, rendered = made.frozen, made.rendered
                if made.findings:
                    self._keep(writer, n, made.findings)
                if frozen is not None:
                    writer.add_message(n, frozen)
                row = plan_row(n, recipient, made)
                writer.add_row(row)
                if row.others:
                    writer.add_others(other_rows(row, recipient))
                    self._sharing += len(row.others)
                if made.status is Status.PENDING and frozen is not None and rendered is not None:
                    self._note(row.row, frozen.size, frozen.sender, rendered.from_)
                    others = row.others or recipient.supersedes or len(row.recipients) > 1
                    if others or self._composer.attaches:
                        self._note_more(row, frozen, superseded_by(recipient))
                self._count(writer, made.status, row.detail)
            self._tell_time()
            if self._jobs > 1 and writer.dictionary is not None and self._is_worth_workers():
                self._make_together(writer, rows)

    def _made_again(
        self,
        writer: PlanWriter,
        earlier: EarlierPlan,
        maker: RowMaker,
        rows: Iterator[tuple[int, Recipient]],
    ) -> Iterator[list[tuple[int, Recipient, MadeRow]]]:
        """Yield the rows that have changed since an earlier plan, and take over the others."""
        earlier.prepare(self._lint)
        for n, recipient in rows:
            if recipient.row in earlier.anew:
                yield [(n, recipient, earlier.renewed(n, recipient, maker))]
            else:
                self._take_over(writer, earlier.take(n, recipient), recipient.supersedes, earlier.sender)

    def _messages(self, writer: PlanWriter) -> Iterator[tuple[int, Recipient]]:
        """Return each row that represents a message, with its place in the list."""
        settled = self._settled()
        if not self._composer.groups:
            return enumerate(settled)
        columns = self._recipients.columns
        self._grouping = Grouping(
            self._composer,
            writer,
            lambda placed: CHUNK_FORM.encode(Chunk.of([placed])),
            lambda data: CHUNK_FORM.decode(data).placed(columns)[0],
        )
        corrected = self._recipients.campaign_list != self._recipients.shown
        return self._grouping.messages(settled, corrected=corrected)

    def _take_over(self, writer: PlanWriter, taken: TakenRow, supersedes: str, from_: str) -> None:
        """Add a row to the plan that is the same as in the earlier one."""
        row, frozen = taken.row, taken.frozen
        if taken.findings:
            self._keep(writer, row.n, taken.findings)
        if frozen is not None:
            self._lint.count_unseen(frozen.envelope.rcpt_to[0].domain)
            writer.add_message(row.n, frozen)
        writer.add_row(row)
        if row.ready and frozen is not None:
            self._note(row.row, frozen.size, frozen.sender, from_)
            self._note_more(row, frozen, (supersedes,) if supersedes else ())
        self._count(writer, row.status, row.detail)

    def _tell_time(self, *, now: bool = False) -> None:
        """Show, once, how long the files of the remaining rows will take, if that is long."""
        documents = self._making
        if documents is None or not documents.rows:
            return
        self._warmed_up = self._warmed_up or (documents.seconds, documents.rows)
        seconds, rows = documents.seconds - self._warmed_up[0], documents.rows - self._warmed_up[1]
        if not rows or not (now or seconds >= _LOOK_AFTER or rows >= _ROWS_TIMED):
            return
        self._making = None
        left = seconds / rows * (self._spool.rows - self._rows) / self._jobs
        told: object = self._progress
        if left >= _LONG and isinstance(told, TellsTime):
            told.takes(left)

    def _is_worth_workers(self) -> bool:
        """Return whether so much is left to be made that starting workers pays, if that is not done yet."""
        if self._pool is not None:
            return True
        now, done = time.monotonic(), self._rows
        self._measured = self._measured or (now, done)  # earlier work is not the time of a row
        began, before = self._measured
        if done == before or (done % _LOOK_EVERY and now - began < _LOOK_AFTER):
            return False
        took = (now - began) / (done - before)
        return took * (self._spool.rows - done) >= self._worth

    def _start_workers(self) -> WorkerPool | None:
        """Return the workers, which are started if they have not been; None: they cannot be started."""
        from mailmerge.plan.workers import WorkerPool, possible

        if self._pool is None and possible():
            with contextlib.suppress(OSError):
                self._pool = self._ending.enter_context(WorkerPool(self._jobs - 1))
        return self._pool

    def _make_together(self, writer: PlanWriter, rows: Iterator[tuple[int, Recipient]]) -> None:
        """Make the rest of the *rows* with workers; if none can be started, nothing happens."""
        from mailmerge.plan.worker_program import setup
        from mailmerge.plan.workers import SharedWork

        self._tell_time(now=True)
        dictionary, pool = writer.dictionary, self._start_workers()
        self._jobs = 1
        if dictionary is None or pool is None:
            return
        composer, recipients = self._composer, self._recipients
        told = setup(composer.recipe, recipients.columns, recipients.shown, dictionary, self._lint.layouts)
        pool.begin(told, composer.version)
        maker = ChunkMaker(composer, self._lint.another(), dictionary)
        for made in SharedWork(pool, maker, rows):
            self._lint.add_counts(made.counts)
            for record in made.records:
                self._take(writer, record)
        for looked_at in pool.looked_at():
            self._take_paths(looked_at)

    def _take(self, writer: PlanWriter, record: PackedRecord) -> None:
        """Add a row to the plan that was made by any process."""
        row, status, findings, others = record.row, record.status, record.findings, record.others
        if record.layout is not None:
            admitted = self._lint.admit(record.layout, row[1])
            findings = (*findings, *admitted)
            detail = fault(admitted)
            if status is Status.PENDING and detail is not None:
                status = Status.INVALID
                first = replace(ROW.decode(row[-1]), status=status, detail=detail)
                row = pack_row(first)
                others = tuple(pack_row(following(first, ROW.decode(other[-1]))) for other in others)
        if findings:
            self._keep(writer, row[0], findings)
        writer.add_packed(row, record.message, others)
        self._sharing += len(others)
        if status is Status.PENDING:
            self._note(row[1], record.size, record.sender, record.from_)
            if self._composer.attaches or self._composer.copies:
                planned = ROW.decode(row[-1])
                self._note_copies(planned.address, planned.recipients)
                if self._composer.attaches:
                    self._note_files(planned, record.files)
            for superseded in record.supersedes:
                self._note_correction(superseded, record.key)
        detail = ROW.decode(row[-1]).detail if status is Status.SKIPPED else ""
        self._count(writer, status, detail)

    def _count(self, writer: PlanWriter, status: Status, detail: str) -> None:
        self._unaddressed += status is Status.SKIPPED and detail == NO_ADDRESS
        self._statuses[status] = self._statuses.get(status, 0) + 1
        self._rows += 1
        if self._rows % _PROGRESS_EVERY == 0:
            self._progress(self._rows)
            if self._rows == _JUDGED:
                writer.expect(self._spool.rows)

    def _keep(self, writer: PlanWriter, n: int, findings: Sequence[Diagnostic]) -> None:
        """Keep what was found in a row, including what is not about that row alone."""
        self._problems.add(findings)
        told = [one for one in findings if one.code not in self._ignore or one.severity is Severity.ERROR]
        writer.add_findings(n, told)

    def _note(self, row: int, size: int, sender: str, from_: Mailbox | str) -> None:
        self._largest = max(self._largest, size)
        if sender not in self._senders:
            self._senders[sender] = row
            self._sender = self._sender or str(from_)

    def _note_more(self, row: PlanRow, frozen: FrozenMessage, superseded: Iterable[str]) -> None:
        """Record what the whole list needs about a message with files, for several rows, or corrected."""
        for key in superseded:
            self._note_correction(key, row.key)
        if len(row.recipients) > 1:
            self._note_copies(row.address, row.recipients)
        if self._composer.attaches:
            self._note_files(row, OwnFiles.of(frozen))

    def _note_copies(self, address: str, recipients: Sequence[str]) -> None:
        self._copies.update(dict.fromkeys(one for one in recipients if one != address.lower()))

    def _note_files(self, row: PlanRow, files: OwnFiles) -> None:
        self._files.add(row, files)
        if files.guarded:
            self._guarded.append((row, files.guarded))

    def _note_correction(self, superseded: str, key: str) -> None:
        if superseded and superseded != key:
            self._corrections[superseded] = key

    def _refuse_if_unaddressed(self, writer: PlanWriter) -> None:
        """Refuse a list in which no row has an address: then not the rows are wrong."""
        if self._unaddressed and self._unaddressed == self._rows:
            found = Diagnostic(
                "D141",
                "no row has an address: nobody to send to",
                'name the column that has them: to = "{{ email }}"',
            )
            writer.add_findings(None, [found])
            self._problems.add([found])

    def _settle(self, writer: PlanWriter) -> set[int]:
        """Turn rows that repeat others into duplicates, and return their places in the list."""
        repeating = set()
        columns, last = self._recipients.columns, self._duplicates == "last"
        for row, other in settle_repetitions(writer, addresses=self._unique_addresses, last=last):
            repeating.add(row.n)
            self._change(Status.DUPLICATE)
            if self._duplicates == "error":
                found: Diagnostic | None = repetition(row, other)
            else:
                found = difference(row, other, columns, self._composer.renderer.address_column)
            if found is not None:
                self._keep(writer, row.n, [found])
        return repeating

    def _settle_files(self, writer: PlanWriter, repeating: set[int]) -> set[int]:
        """Make rows invalid that get a file of another row, unless a rule allows it."""
        return {self._refuse(writer, *contested) for contested in self._files.contested(repeating)}

    def _guard_files(self, writer: PlanWriter, left_out: set[int], kept: TextCache | None) -> None:
        """Make rows invalid that get a file that names another row."""
        if not self._guarded:
            return
        from mailmerge.plan.guard import CODE, AttachmentGuard

        if CODE in self._ignore:
            return
        asked = self._composer.recipe.templates
        senders = [asked.from_, *asked.reply_to, *filter(None, [asked.sender])]
        guard = AttachmentGuard(self._recipients.columns, asked.to, senders=senders, jobs=self._jobs)
        for owner, guarded in self._guarded:
            guard.add(owner, guarded)
        with kept or contextlib.nullcontext() as texts:
            for row, found in guard.judge(self._settled, texts, left_out, lambda: self._progress(self._rows)):
                if found.severity is Severity.ERROR:
                    self._files.leave_out(self._refuse(writer, row, found))
                elif found.code not in self._ignore:
                    writer.add_findings(row.n, [found])
                    self._problems.add([found])
        findings = [found for found in guard.findings() if found.code not in self._ignore]
        writer.add_findings(None, findings)
        self._problems.add(findings)

    def _refuse(self, writer: PlanWriter, row: PlanRow, found: Diagnostic) -> int:
        """Make a row invalid after all; return its place in the list."""
        self._change(Status.INVALID)
        self._problems.add([found])
        writer.add_findings(row.n, [found])
        writer.replace_row(replace(row, status=Status.INVALID, detail=found.message))
        return row.n

    def _change(self, status: Status) -> None:
        self._statuses[Status.PENDING] -= 1
        self._statuses[status] = self._statuses.get(status, 0) + 1


class FileOwners:
    """Which row got which file of its own, and how many files the messages have."""

    def __init__(self) -> None:
        self._first: dict[bytes, PlanRow] = {}
        self._rows: dict[bytes, list[PlanRow]] = {}
        """The rows of each file that several rows got."""
        self._attachments: dict[int, int] = {}
        """By place in the list, where it is not one."""
        self._messages = 0
        self.counts: dict[int, int] = {}
        """How many messages have how many attachments, after `contested` was called."""

    def add(self, row: PlanRow, files: OwnFiles) -> None:
        """Add the files of a row that may be sent."""
        self._messages += 1
        for path in files.paths:
            first = self._first.setdefault(path, row)
            if first is not row:
                self._rows.setdefault(path, [first]).append(row)
        if files.attachments != 1:
            self._attachments[row.n] = files.attachments

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

    def leave_out(self, n: int) -> None:
        """Let the row at this place get no message after all, after `contested` was called."""
        count = self._attachments.get(n, 1)
        self.counts[count] -= 1
        if not self.counts[count]:
            del self.counts[count]


def _shared_file(path: bytes, row: PlanRow, rows: Sequence[PlanRow]) -> Diagnostic:
    name = os.path.basename(os.fsdecode(path))  # noqa: PTH119  a string
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
