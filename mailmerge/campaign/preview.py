"""Showing messages as they would be sent: one by one, or all on a page that follows the files.

Every row is looked at as the pre-flight does it, over a throw-away copy of the ledger: what is shown as to be
sent is what would be sent.
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

from mailmerge.campaign.composer import identifier
from mailmerge.campaign.opening import Access, open_run
from mailmerge.campaign.preflight import Inspection, Looked, refuse_if_broken
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.errors import MailmergeError, RowError, TemplateError
from mailmerge.files import replace_file
from mailmerge.model import Diagnostic, Severity, Status
from mailmerge.preview.live import FileStates, file_states
from mailmerge.preview.page_data import PageRow, diagnostic_values
from mailmerge.preview.preview_page import PageWriter
from mailmerge.recipients import parse_rows
from mailmerge.recipients.selection import Suppressed
from mailmerge.render.environments import END, START, unmarked
from mailmerge.suggest import suggested

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from mailmerge.campaign.definition import Definition
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import Message, Recipient, Rendered
    from mailmerge.recipients import RecipientList
    from mailmerge.render import Renderer
    from mailmerge.suggest import Invocation

MOST_ROWS = 50_000
"""A longer list is sampled, and no page holds more rows than this."""
SAMPLE = 2_000
"""How many rows of such a list are shown beside those with a problem."""
_PROGRESS_EVERY = 500
_ROW_MARK = "1234567890"
"""Stands for a row's number; what is asked for follows all that was given, so that the last one is ours."""


class PreviewRequest(Struct, frozen=True):
    """Which rows the page shows."""

    rows: str | None = None
    """``2-50,77``; None: all."""
    limit: int | None = None
    """At most so many."""
    sample: int | None = None
    """So many, spread over the list, and every row with a problem."""


class Previewed(Struct):
    """What was written."""

    path: Path
    rows: int = 0
    """Rows looked at."""
    shown: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: DiagnosticCollector = field(default_factory=DiagnosticCollector)
    sampled: bool = False


def messages(
    definition: Definition, *, rows: str | None = None, limit: int | None = None, keep: bool = True
) -> Iterator[Message]:
    """Yield the messages as they would be sent, in the list's order; rows that would not are left out.

    Rows that were contacted before get the Date they had then. With *keep* a new campaign gets its
    secret now, so that only the Date of a message is still to come; without, nothing is written.

    Raises:
        RowError: a row that was named in *rows* cannot become a message.

    """
    selection = parse_rows(rows) if rows else None
    with open_run(definition, Access.COPY) as opened:
        recipients = opened.open_list()
        secret = definition.workspace.secret_for_showing(definition.name, keep=keep)
        look = _Look(definition, recipients, opened.ledger, secret)
        count = 0
        with contextlib.closing(look.rows()) as looked_at:
            for recipient, looked, earlier in looked_at:
                if selection and recipient.row not in selection:
                    continue
                if looked.listed.status is Status.INVALID:
                    look.refuse(named=selection is not None)
                if looked.frozen is None or earlier is not None:
                    continue
                yield look.message(looked)
                count += 1
                if count == limit:
                    return


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
        progress: is told now and then how many rows were looked at.

    Raises:
        ListError: the list cannot be read.
        TemplateError: templates that do not compile.
        FileError: the file cannot be written.

    """
    request = request or PreviewRequest()
    with open_run(definition, Access.COPY) as opened:
        recipients = opened.open_list()
        choice = _Choice(request, recipients)
        secret = definition.workspace.secret_for_showing(definition.name)
        look = _Look(definition, recipients, opened.ledger, secret)
        with replace_file(path) as stream:
            page = PageWriter(stream, definition.name, marks=(START, END), live=live)
            done = look.write(page, choice, path, progress)
            page.finish(look.facts(done, choice))
    done.shown = page.count
    return done


def write_broken(path: Path, title: str, error: MailmergeError) -> None:
    """Write a live page that shows why there is nothing to show, until the files are mended."""
    with replace_file(path) as stream:
        page = PageWriter(stream, title, live=True)
        groups = [{**diagnostic_values(found), "count": 1, "rows": []} for found in error.diagnostics]
        facts = {"campaign": title, "broken": True, "problems": groups, "made": _now()}
        page.finish({**facts, "columns": [], "counts": {}, "rows": 0, "live": True})


class _Look:
    """One pass over the list; a row's templates are rendered once, and once more with marks for the page."""

    def __init__(
        self, definition: Definition, recipients: RecipientList, ledger: Ledger, secret: bytes
    ) -> None:
        self._definition = definition
        self._recipients = recipients
        self._ledger = ledger
        self._secret = secret
        self._composer = composer = definition.composer(recipients)
        self._data = definition.file.data
        self._problems = _Noting(definition.file.check.ignore)
        self._problems.add((*definition.environment.warnings, *recipients.warnings))
        self._inspection = Inspection(composer, Suppressed(self._data.suppress), None, self._problems)
        self._went_out = False
        """Whether a message was shown that had gone out before."""
        self._now = datetime.now(UTC).astimezone()
        """The Date of a message that is only looked at; each real attempt sets its own."""

    @cached_property
    def _marking(self) -> Renderer:
        return self._composer.marking_renderer()

    @property
    def noted(self) -> tuple[Diagnostic, ...]:
        """What was found in the latest row."""
        return tuple(self._problems.noted)

    def refuse(self, *, named: bool) -> None:
        """Stop at a row that cannot become a message, if that is the campaign's fault or it was *named*."""
        refuse_if_broken(self._problems)
        errors = [found for found in self._problems.noted if found.severity is Severity.ERROR]
        if named and errors:
            raise RowError(errors[0].message, code=errors[0].code, problems=errors)

    def rows(self) -> Generator[tuple[Recipient, Looked, int | None]]:
        """Look at every row; give what it is, and which earlier row it repeats."""
        keyed = self._data.key is not None and self._data.duplicates != "allow"
        with self._ledger.new_listing(unique_addresses=keyed) as listing:
            for recipient in self._recipients:
                self._problems.noted.clear()
                looked = self._inspection.look(recipient)
                yield recipient, looked, listing.add(looked.listed)

    def message(self, looked: Looked) -> Message:
        """Give the row's message; what went out before has the Date, and so the bytes, that it had then."""
        assert looked.rendered is not None
        frozen = looked.frozen or self._composer.freeze(looked.rendered)
        before = self._ledger.delivery(frozen.key)
        message_id = identifier(self._secret, frozen, before.generation if before else 0)
        date = self._ledger.date_of(before, message_id) if before else None
        self._went_out = self._went_out or date is not None
        return self._composer.thaw(frozen, message_id=message_id, date=date or self._now)

    def write(
        self, page: PageWriter, choice: _Choice, path: Path, progress: Callable[[int], None]
    ) -> Previewed:
        """Look at every row and write those that *choice* takes."""
        done = Previewed(path, problems=self._problems, sampled=choice.sampled)
        for recipient, looked, earlier in self.rows():
            status = Status.DUPLICATE if earlier is not None else looked.listed.status
            done.counts[str(status)] = done.counts.get(str(status), 0) + 1
            done.rows += 1
            problem = bool(self._problems.noted)
            if looked.listed.status is not Status.SKIPPED and choice.takes(recipient.row, problem=problem):
                page.add(self._row(recipient, looked, earlier))
            else:
                choice.left_out += problem and choice.full
            if done.rows % _PROGRESS_EVERY == 0:
                progress(done.rows)
            if choice.enough:
                break
        self._inspection.finish()
        return done

    def _row(self, recipient: Recipient, looked: Looked, earlier: int | None) -> PageRow:
        found, listed = self.noted, looked.listed
        if earlier is not None:
            words = f"repeats row {earlier}: only that one is sent"
            listed = replace(listed, status=Status.DUPLICATE, detail=words)
        if looked.rendered is None:
            return PageRow(listed, recipient, found)
        try:
            message = self.message(looked)
        except RowError:  # as for an attachment that is missing: among what was found
            return PageRow(listed, recipient, found)
        marked = self._marked(recipient, looked.rendered)
        return PageRow(listed, recipient, found, message, looked.rendered, marked)

    def _marked(self, recipient: Recipient, rendered: Rendered) -> Rendered | None:
        """Render the row with marks; None where a template does something else when there are marks."""
        try:
            marked = self._marking.render(recipient)
        except (RowError, TemplateError):
            return None
        same = _plain(marked.text) == _plain(rendered.text) and _plain(marked.html) == _plain(rendered.html)
        return marked if same else None

    def facts(self, done: Previewed, choice: _Choice) -> dict[str, Any]:
        """Say what the page should know about the whole."""
        columns, file = self._recipients.columns, self._definition.file
        used = self._composer.renderer.used_names
        return {
            "campaign": self._definition.name,
            "commands": page_commands(self._definition.invocation),
            "source": self._recipients.shown,
            "dialect": self._recipients.dialect,
            "sender": self._inspection.sender or self._composer.sender,
            "made": _now(),
            "columns": [
                {
                    "heading": heading,
                    "name": name,
                    "used": bool({name, heading} & used) or heading == file.data.key,
                }
                for heading, name in zip(columns.headings, columns.names, strict=True)
            ],
            "counts": done.counts,
            "rows": done.rows,
            "blank": self._recipients.blank_rows,
            "hidden": self._recipients.hidden_rows,
            "sampled": choice.sampled,
            "limited": choice.limited,
            "left_out": choice.left_out,
            "final": self._went_out,
            "problems": [
                {**diagnostic_values(group.first), "count": group.count, "rows": group.rows}
                for group in self._problems
            ],
        }


def page_commands(invocation: Invocation) -> dict[str, str | list[str] | None]:
    """Give the commands that the page offers: the page only puts a row's number between two finished parts.

    None stands for what cannot be written so that it can be pasted.
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


class _Choice:
    """Decides row by row which ones the page shows."""

    def __init__(self, request: PreviewRequest, recipients: RecipientList) -> None:
        self._rows = parse_rows(request.rows) if request.rows else None
        self._limit = min(request.limit or MOST_ROWS, MOST_ROWS)
        self._asked_limit = request.limit
        self._seen = self._taken = 0
        self._sample = request.sample
        if self._sample is None and self._rows is None and request.limit is None:
            longer = next(islice(recipients, MOST_ROWS, None), None) is not None
            self._sample = SAMPLE if longer else None
        self._total = sum(1 for _ in recipients) if self._sample is not None else 0
        self.sampled = self._sample is not None and self._sample < self._total
        self.limited = self._rows is not None or request.limit is not None
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

    def takes(self, row: int, *, problem: bool) -> bool:
        """Say whether this row, the next of the list, is shown."""
        self._seen += 1
        wanted = (self._rows is None or row in self._rows) and (problem or self._in_sample())
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
        CampaignFileError: there is no campaign to begin with.

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
        """Write the page from the files as they are; what stops that is shown on the page, and returned."""
        self._made_from = self._seen = self._look()
        try:
            self._definition = self._load()
            return write_preview(self._definition, self._page, self._request, live=True)
        except MailmergeError as error:
            write_broken(self._page, self._definition.name, error)
            return error

    def changed(self) -> bool:
        """Say whether files changed since the page was made, and have been still since the last call."""
        now = self._look()
        still = now == self._seen
        self._seen = now
        return still and now != self._made_from

    def _look(self) -> FileStates:
        file = self._definition.file
        bodies = [body for body in (file.message.text, file.message.html) if isinstance(body, Path)]
        files = [file.data.source, *file.data.suppress, *bodies, *([file.path] if file.path else [])]
        return file_states(map(Path, files), [file.folder] if file.path else [])


class _Noting(DiagnosticCollector):
    """A collector that also remembers what was found in the row that is being looked at."""

    def __init__(self, ignore: Iterable[str] = ()) -> None:
        super().__init__(ignore)
        self._silenced = frozenset(ignore)
        self.noted: list[Diagnostic] = []

    def add(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Take in what was found."""
        found = list(diagnostics)
        self.noted += [
            one
            for one in found
            if one.row is not None and (one.code not in self._silenced or one.severity is Severity.ERROR)
        ]
        super().add(found)


def _plain(chunks: tuple[str, ...] | None) -> str | None:
    return None if chunks is None else unmarked("".join(chunks))


def _now() -> str:
    return datetime.now(UTC).astimezone().isoformat(timespec="seconds")
