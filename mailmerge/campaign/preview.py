"""Showing messages as they would be sent: one by one, or all on a page that follows the files.

The messages are those of the plan, over a throw-away copy of the ledger: what is shown as to be sent is what
would be sent. Where only some rows are asked for and no plan exists, only these are planned.
"""

from __future__ import annotations

import contextlib
from datetime import UTC, datetime
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.attachment_guard.name_columns import PersonNames
from mailmerge.campaign.opening import Access, open_run, open_standing
from mailmerge.campaign.planning import Planning, once_more
from mailmerge.campaign.preflight import refuse_if_broken
from mailmerge.campaign.standing import Join, Standing, StandingRow, stamp_of
from mailmerge.campaign.stored import needs_list, stored_messages
from mailmerge.campaign.suppression_store import store_path
from mailmerge.campaign.unsubscribing import going_out
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.errors import MailmergeError, RowError, TemplateError
from mailmerge.files import replace_file
from mailmerge.model import OWN_HEADER, Diagnostic, Severity, Status
from mailmerge.output_folder import OutputFolder
from mailmerge.plan.rows import RowMaker, plan_row
from mailmerge.preview.live import FileStates, file_states
from mailmerge.preview.preview_page import PageRow, PageWriter, diagnostic_values
from mailmerge.recipients import parse_rows
from mailmerge.recipients.list_survey import typed_rows
from mailmerge.render.environments import END, START, unmarked
from mailmerge.render.sources import PATH_TAG, fixed_folder
from mailmerge.report.summary import standing_line
from mailmerge.suggest import suggested
from mailmerge.text import attachments, printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.opening import OpenCampaign
    from mailmerge.model import FrozenMessage, Message, Recipient, Rendered
    from mailmerge.options import Jobs
    from mailmerge.plan.store import PlanReader
    from mailmerge.recipients import RowSelection
    from mailmerge.render import Renderer
    from mailmerge.suggest import Invocation

MOST_ROWS = 50_000
"""A longer list is sampled, and no page shows more rows than this."""
SAMPLE = 2_000
"""How many rows of such a list are shown in addition to those with a problem."""
_ROW_MARK = "1234567890"
"""Takes the place of a row's number; options of the page follow those given, so that the last one is ours."""


class PreviewRequest(Struct, frozen=True):
    """Which rows the page shows."""

    rows: str | None = None
    """``2-50,77``; None: all."""
    limit: int | None = None
    """At most this many."""
    sample: int | None = None
    """This many, spread over the list, and every row with a problem."""
    jobs: Jobs = 1
    """How many processes plan a long list; ``auto``: one for each processor, at most 8."""


class Previewed(Struct):
    """What was written."""

    path: Path
    rows: int = 0
    """Rows looked at."""
    shown: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: DiagnosticCollector = field(default_factory=DiagnosticCollector)
    counted: str = "row"
    """What is counted: a ``row``, or with ``data.group_by`` a ``message`` for one or several."""
    sampled: bool = False
    partial: bool = False
    """Only these rows were planned: what only the whole list shows was not checked."""
    files: dict[int, int] = field(default_factory=dict)
    """How many of the checked messages have how many attachments; empty: no rule attaches any."""


class ShownMessage(Struct, frozen=True):
    """A message to look at."""

    message: Message
    to_come: tuple[str, ...] = ()
    """The header fields that are made when it is sent: those of *message* are placeholders."""
    standing: str = ""
    """The status of its row, in one line."""
    rows: tuple[int, ...] = ()
    """All rows that it is for, if several."""


def messages(
    definition: Definition,
    *,
    rows: str | None = None,
    limit: int | None = None,
    left_out: dict[str, list[int]] | None = None,
    leaving: bool = False,
) -> Iterator[ShownMessage]:
    """Yield the messages as they would be sent, in the list's order; rows that would not are left out.

    Args:
        definition: what to show.
        rows: which rows; None: all.
        limit: at most this many messages.
        left_out: gets the numbers of the rows that are left out, by their status.
        leaving: a person sends them with another program: their unsubscribe links work.

    Raises:
        RowError: a row that was named in *rows* cannot become a message.

    """
    if definition.only_ledger:
        with open_standing(definition) as standing:
            for row, sent, dated, line in islice(
                stored_messages(definition, standing, rows, left_out, leaving=leaving), limit
            ):
                yield ShownMessage(sent, () if dated else ("Date",), line, row.planned.rows)
        return
    selection = parse_rows(rows) if rows else None
    with open_run(definition, Access.COPY) as opened:
        look = _Look(opened, partial=selection is not None or limit is not None, leaving=leaving)
        wanted = look.rows(selection)
        if limit is not None:
            wanted = look.first(wanted, limit)
        for shown in wanted:
            look.refuse(shown, named=selection is not None)
            message = look.message(shown)
            if message is not None:
                yield message
            elif left_out is not None:
                left_out.setdefault(str(shown.row.own), []).append(shown.recipient.row)


@once_more
def write_preview(
    definition: Definition,
    path: Path,
    request: PreviewRequest | None = None,
    *,
    live: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Previewed:
    """Write the page of a campaign to *path*, readable by its owner only; an older one is replaced whole.

    Args:
        definition: what to show.
        path: the HTML file.
        request: which rows.
        live: the page will be served and reloads itself.
        progress: called now and then with the number of rows checked.

    Raises:
        CampaignFileError: only the campaign's ledger is known.
        ListError: the list cannot be read.
        TemplateError: templates that do not compile.
        FileError: the file cannot be written.

    """
    if definition.only_ledger:
        raise needs_list(
            "the page is made", instead="--terminal, --eml and --mbox show what the workers have"
        )
    request = request or PreviewRequest()
    with open_run(definition, Access.COPY) as opened:
        partial = request.rows is not None or request.limit is not None
        look = _Look(opened, partial=partial, progress=progress, jobs=request.jobs)
        choice = _RowChoice(request, look.size)
        with _placed(definition, path) as placed, replace_file(placed) as stream:
            page = PageWriter(stream, definition.name, marks=(START, END), live=live)
            done = look.write(page, choice, placed)
            page.finish(look.facts(done, choice))
    done.shown, done.partial = page.count, look.size is None
    return done


@contextlib.contextmanager
def _placed(definition: Definition, path: Path) -> Iterator[Path]:
    """Add a number to the page's name if a person edited the one in the folder of results."""
    out = definition.workspace.out
    if path.parent != out:
        yield path
        return
    with OutputFolder(out).writing(path.name) as placed:
        yield placed


def write_broken(path: Path, title: str, error: MailmergeError) -> None:
    """Write a live page that shows why there is nothing to show, until the files are corrected."""
    with replace_file(path) as stream:
        page = PageWriter(stream, title, live=True)
        groups = [{**diagnostic_values(found), "count": 1, "rows": []} for found in error.diagnostics]
        facts = {"campaign": title, "broken": True, "counted": "row", "problems": groups, "made": _now()}
        page.finish({**facts, "columns": [], "counts": {}, "rows": 0, "live": True})


class _ShownRow(Struct, frozen=True):
    """A row to show."""

    recipient: Recipient
    row: StandingRow
    findings: tuple[Diagnostic, ...]
    frozen: FrozenMessage | None
    """None: the row has no message to show."""


class _Look:
    """The rows of a campaign to be shown: those of its plan, or a few that are planned for this alone.

    Args:
        opened: the campaign, over a copy of its ledger.
        partial: whether only some rows are wanted: without a plan, only these are planned.
        progress: called now and then with the number of rows planned.
        jobs: how many processes plan a long list.
        leaving: whether a person sends the messages: their unsubscribe links work then.

    """

    def __init__(
        self,
        opened: OpenCampaign,
        *,
        partial: bool = False,
        leaving: bool = False,
        progress: Callable[[int], None] | None = None,
        jobs: Jobs = 1,
    ) -> None:
        definition = opened.definition
        self._definition = definition
        self._ledger = opened.ledger
        self._recipients = opened.open_list()
        planning = Planning(definition, self._recipients, definition.account_of_sender())
        self._composer = going_out(definition, planning.composer) if leaving else planning.composer
        self._problems = DiagnosticCollector(definition.file.check.ignore)
        self._problems.add(definition.environment.warnings)
        self._join = Join.of_list(definition.file.data, store=store_path(definition.environment))
        if partial and not self._composer.groups:  # only the whole list shows which rows share a message
            self._planned = opened.find_plan(planning)
        else:
            self._planned = opened.plan(planning, progress, jobs)
        if self._planned is None:
            self._problems.add(self._recipients.warnings)
        else:
            self._problems.recall(self._planned.summary.findings)
        self._now = datetime.now(UTC).astimezone()
        """The Date of a message that is only looked at; each real attempt sets its own."""
        self.sender = self._planned.summary.sender if self._planned else ""

    @cached_property
    def _marking(self) -> Renderer:
        return self._composer.marking_renderer()

    @property
    def size(self) -> int | None:
        """How many rows there are; None: they have not been counted."""
        return self._planned.summary.understanding.rows if self._planned else None

    def rows(self, selection: RowSelection | None = None) -> Iterator[_ShownRow]:
        """Yield the rows, or those that are named."""
        planned = self._planned
        return self._made_now(selection) if planned is None else self._of_plan(planned.reader, selection)

    def _of_plan(self, plan: PlanReader, selection: RowSelection | None) -> Iterator[_ShownRow]:
        standing = Standing(self._ledger, plan, self._join)
        keyed = self._definition.file.data.key is not None
        found = plan.findings()
        ahead = next(found, None)
        for row in standing.rows():
            planned = row.planned
            findings: list[Diagnostic] = []
            while ahead is not None and (ahead[0] is None or ahead[0] <= planned.n):
                if ahead[0] == planned.n:
                    findings.append(ahead[1])
                ahead = next(found, None)
            if planned.first is not None or (
                selection is not None and not selection.names(planned.row, planned.rows)
            ):
                continue
            recipient = self._composer.recipient(plan, planned, keyed=keyed)
            frozen = None
            if planned.message is not None:
                frozen = self._composer.planned(plan, planned, keyed=keyed)
            yield _ShownRow(recipient, row, self._own(findings), frozen)

    def _made_now(self, selection: RowSelection | None) -> Iterator[_ShownRow]:
        """Plan only what is shown; what only the whole list shows is not checked."""
        lint = self._composer.lint()
        maker = RowMaker(self._composer, lint)
        standing = Standing(self._ledger, None, self._join)
        last = None if selection is None else selection.last
        known = self._recipients.warnings
        rows = typed_rows(self._recipients, self._composer.renderer.used_names)
        for n, recipient in enumerate(rows):
            if last is not None and recipient.row > last:
                break
            if selection is not None and recipient.row not in selection:
                continue
            made = maker.make(recipient)
            self._problems.add(made.findings)
            row = standing.of(plan_row(n, recipient, made))
            yield _ShownRow(recipient, row, self._own(made.findings), made.frozen)
        self._problems.add(one for one in self._recipients.warnings if one not in known)
        self._problems.add(lint.finish())

    def _own(self, findings: Iterable[Diagnostic]) -> tuple[Diagnostic, ...]:
        """Leave out what was found in the row but is about the template, and what its author ignores."""
        ignored = self._definition.file.check.ignore
        return tuple(
            found
            for found in findings
            if found.row is not None and (found.severity is Severity.ERROR or found.code not in ignored)
        )

    @staticmethod
    def first(rows: Iterator[_ShownRow], limit: int) -> Iterator[_ShownRow]:
        """Yield rows up to the one with the last message wanted."""
        count = 0
        for shown in rows:
            yield shown
            count += shown.row.own is Status.PENDING
            if count == limit:
                return

    def refuse(self, shown: _ShownRow, *, named: bool) -> None:
        """Stop at a row that cannot become a message, if that is the campaign's fault or it was *named*."""
        if shown.row.own is not Status.INVALID:
            return
        refuse_if_broken(self._problems)
        errors = [found for found in shown.findings if found.severity is Severity.ERROR]
        if named and errors:
            raise RowError(errors[0].message, code=errors[0].code, problems=errors)

    def message(self, shown: _ShownRow) -> ShownMessage | None:
        """Return the row's message as it would be sent; None: it would not be."""
        if shown.row.own is not Status.PENDING or shown.frozen is None:
            return None
        thawed = self._thawed(shown.frozen, shown.row)
        return replace(thawed, standing=self._standing(thawed.standing, shown.recipient))

    def _standing(self, line: str, recipient: Recipient) -> str:
        """Return the status of a row, and which variant of the bodies it gets."""
        variant = self._composer.renderer.variant(recipient)
        return f"{line} ({variant})" if variant else line

    def _thawed(self, frozen: FrozenMessage, row: StandingRow) -> ShownMessage:
        """Make the message; one that was sent before has the Date, and so the bytes, that it had then."""
        delivery = row.delivery
        message_id, date = stamp_of(self._ledger, frozen, delivery)
        message = self._composer.thaw(frozen, message_id=message_id, date=date or self._now)
        # A campaign that has no ledger yet has no secret either: its first run makes it.
        to_come = (*([] if date else ["Date"]), *(["Message-ID", OWN_HEADER] if self._ledger.new else []))
        went_out = delivery is not None and delivery.message_id == message_id
        line = standing_line(row.result, self._now, went_out=went_out)
        return ShownMessage(message, to_come, line, row.planned.rows)

    def write(self, page: PageWriter, choice: _RowChoice, path: Path) -> Previewed:
        """Check every row and write those that *choice* accepts."""
        done = Previewed(
            path, counted=self._definition.counted, problems=self._problems, sampled=choice.sampled
        )
        for shown in self.rows(choice.rows):
            status = shown.row.status
            done.counts[str(status)] = done.counts.get(str(status), 0) + 1
            done.rows += 1
            if shown.frozen is not None and self._composer.attaches and shown.row.planned.ready:
                count = sum(not file.content_id for file in shown.frozen.files)
                done.files[count] = done.files.get(count, 0) + 1
            problem = bool(shown.findings)
            if status is not Status.SKIPPED and choice.takes(
                shown.recipient.row, shown.row.planned.rows, problem=problem
            ):
                page.add(self._row(shown))
            else:
                choice.left_out += problem and choice.full
            if choice.enough:
                break
        return done

    def _row(self, shown: _ShownRow) -> PageRow:
        result, recipient = shown.row.result, shown.recipient
        line = standing_line(result, self._now, went_out=False)
        bare = PageRow(result, recipient, shown.findings, printable(line))
        try:
            rendered = self._composer.render(recipient)
            if shown.frozen is None:
                return bare
            thawed = self._thawed(shown.frozen, shown.row)
        except (RowError, TemplateError):  # such as a missing attachment: among the findings
            return bare
        return replace(
            bare,
            standing=printable(self._standing(thawed.standing, recipient)),
            message=thawed.message,
            to_come=thawed.to_come,
            rendered=rendered,
            marked=self._marked(recipient, rendered),
        )

    def _marked(self, recipient: Recipient, rendered: Rendered) -> Rendered | None:
        """Render the row with marks; None where a template does something else when there are marks."""
        try:
            marked = self._marking.render(recipient)
        except (RowError, TemplateError):
            return None
        same = _plain(marked.text) == _plain(rendered.text) and _plain(marked.html) == _plain(rendered.html)
        return marked if same else None

    def facts(self, done: Previewed, choice: _RowChoice) -> dict[str, Any]:
        """Return what the page shows about the whole."""
        columns, file = self._recipients.columns, self._definition.file
        used = self._composer.renderer.used_names
        return {
            "campaign": self._definition.name,
            "commands": page_commands(self._definition.invocation),
            "source": self._recipients.shown,
            "dialect": str(self._recipients.understanding),
            "sender": self.sender or self._composer.sender,
            "made": _now(),
            "columns": [
                {
                    "heading": heading,
                    "name": name,
                    "used": bool({name, heading} & used) or heading == file.data.key,
                }
                for heading, name in zip(columns.headings, columns.names, strict=True)
            ],
            "names": PersonNames(columns, file.message.to).places,
            "counts": done.counts,
            "rows": done.rows,
            "counted": done.counted,
            "blank": self._recipients.blank_rows,
            "hidden": self._recipients.hidden_rows,
            "sampled": choice.sampled,
            "limited": choice.limited,
            "left_out": choice.left_out,
            "files": attachments(done.files),
            "problems": [
                {**diagnostic_values(group.first), "count": group.count, "rows": group.rows}
                for group in self._problems
            ],
        }


def page_commands(invocation: Invocation) -> dict[str, str | list[str] | None]:
    """Return the commands that the page offers: the page only puts a row's number between two finished parts.

    None means that a command cannot be written so that it can be pasted.
    """
    rows = _ROW_MARK
    whole = {
        "check": suggested(invocation, "check"),
        "others": suggested(invocation, "preview", "--rows", "2-500"),
    }
    each = {
        "test": suggested(invocation, "test", "--rows", rows, "--to", "YOU@example.org"),
        "eml": suggested(invocation, "preview", "--rows", rows, "--eml", "DIR"),
    }
    return {
        **{name: str(found) if found.runs else None for name, found in whole.items()},
        **{name: str(found).rsplit(rows, 1) if found.runs else None for name, found in each.items()},
    }


class _RowChoice:
    """Decides row by row which ones the page shows."""

    def __init__(self, request: PreviewRequest, size: int | None) -> None:
        """*size*: how many rows there are, where that is known."""
        self.rows = parse_rows(request.rows) if request.rows else None
        """Which ones were named; None: none."""
        self._limit = min(request.limit or MOST_ROWS, MOST_ROWS)
        self._asked_limit = request.limit
        self._seen = self._taken = 0
        self._sample = request.sample
        self._total = size or 0
        if self._sample is None and self.rows is None and request.limit is None and self._total > MOST_ROWS:
            self._sample = SAMPLE
        self.sampled = self._sample is not None and self._sample < self._total
        self.limited = self.rows is not None or request.limit is not None
        self.left_out = 0
        """Rows with a problem for which there was no room."""

    @property
    def full(self) -> bool:
        """Whether no more rows fit."""
        return self._taken >= self._limit

    @property
    def enough(self) -> bool:
        """Whether the rest of the list need not be looked at."""
        return self._asked_limit is not None and self.full

    def takes(self, row: int, rows: Sequence[int] = (), *, problem: bool) -> bool:
        """Return whether this row, the next of the list, is shown; *rows* are all of its message."""
        self._seen += 1
        wanted = (self.rows is None or self.rows.names(row, rows)) and (problem or self._in_sample())
        taken = wanted and not self.full
        self._taken += taken
        return taken

    def _in_sample(self) -> bool:
        """Spread the sample evenly over the list."""
        if self._sample is None or not self.sampled:
            return True
        return self._seen * self._sample // self._total > (self._seen - 1) * self._sample // self._total


class Watched:
    """A campaign that is edited while its page is looked at.

    Args:
        load: opens the campaign as it is now.
        page: the file to keep up to date.
        request: which rows it shows.

    Raises:
        CampaignFileError: the campaign does not exist.

    """

    def __init__(self, load: Callable[[], Definition], page: Path, request: PreviewRequest) -> None:
        self._load = load
        self._page = page
        self._request = request
        self._definition = load()
        self._made_from: FileStates = {}
        self._seen: FileStates = {}

    @property
    def name(self) -> str:
        """The campaign's name, as it was when it could be opened last."""
        return self._definition.name

    def make(self) -> Previewed | MailmergeError:
        """Write the page from the current files; an error is shown on the page, and returned."""
        self._made_from = self._seen = self._look()
        try:
            self._definition = self._load()
            return write_preview(self._definition, self._page, self._request, live=True)
        except MailmergeError as error:
            write_broken(self._page, self._definition.name, error)
            return error

    def changed(self) -> bool:
        """Return whether files changed since the page was made, and were unchanged since the last call."""
        now = self._look()
        still = now == self._seen
        self._seen = now
        return still and now != self._made_from

    def _look(self) -> FileStates:
        file = self._definition.file
        message = file.message
        bodies = [body for body in (message.text, message.html, message.layout) if isinstance(body, Path)]
        files = [file.data.source, *file.data.suppress, *bodies, *([file.path] if file.path else [])]
        folders = (
            [file.folder] if file.path else [fixed_folder(one) for one in bodies if PATH_TAG.search(str(one))]
        )
        return file_states(map(Path, files), folders)


def _plain(chunks: tuple[str, ...] | None) -> str | None:
    return None if chunks is None else unmarked("".join(chunks))


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
