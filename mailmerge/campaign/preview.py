"""The preview page: every row looked at as `check` does it, with its message, written as one HTML file."""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.campaign.preflight import Inspection
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.errors import RowError, TemplateError
from mailmerge.files import replace_file
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Diagnostic, Severity, Status
from mailmerge.preview.page_data import PageRow, diagnostic_values
from mailmerge.preview.preview_page import PageWriter
from mailmerge.recipients import parse_rows
from mailmerge.recipients.selection import Suppressed
from mailmerge.render.environments import END, START, unmarked

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from mailmerge.campaign.campaign import Campaign
    from mailmerge.errors import MailmergeError
    from mailmerge.model import Listed, Message, Recipient, Rendered
    from mailmerge.recipients import RecipientList

MOST_ROWS = 50_000
"""A longer list is sampled, and no page holds more rows than this."""
SAMPLE = 2_000
"""How many rows of such a list are shown beside those with a problem."""
_PROGRESS_EVERY = 500


class PreviewRequest(Struct, frozen=True):
    """Which rows the page shows."""

    rows: str | None = None
    """``2-50,77``; None: all."""
    limit: int | None = None
    """At most so many."""
    sample: int | None = None
    """So many, spread over the list, and every row with a problem."""
    command: str = ""
    """The campaign as a command names it, for the command lines that the page offers."""


class Previewed(Struct):
    """What was written."""

    path: Path
    rows: int = 0
    """Rows looked at."""
    shown: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    problems: DiagnosticCollector = field(default_factory=DiagnosticCollector)
    sampled: bool = False


def write_preview(
    campaign: Campaign,
    path: Path,
    request: PreviewRequest | None = None,
    *,
    live: bool = False,
    progress: Callable[[int], None] = lambda _rows: None,
) -> Previewed:
    """Write the page of a campaign to *path*, readable by its owner only; an older one is replaced whole.

    Args:
        campaign: what to show.
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
    recipients = campaign.open_list()
    choice = _Choice(request, recipients)
    with Ledger.scratch(campaign.existing_ledger(), campaign.name) as ledger:
        look = _Look(campaign, recipients, ledger)
        with replace_file(path) as stream:
            page = PageWriter(stream, campaign.name, marks=(START, END), live=live)
            done = look.write(page, choice, path, progress)
            page.finish(look.facts(done, request, choice))
    done.shown = page.count
    return done


def write_broken(path: Path, title: str, error: MailmergeError, command: str = "") -> None:
    """Write a live page that shows why there is nothing to show, until the files are mended."""
    with replace_file(path) as stream:
        page = PageWriter(stream, title, live=True)
        groups = [{**diagnostic_values(found), "count": 1, "rows": []} for found in error.diagnostics]
        facts = {"campaign": title, "command": command, "broken": True, "problems": groups, "made": _now()}
        page.finish({**facts, "columns": [], "counts": {}, "rows": 0, "live": True})


class _Look:
    """One pass over the list."""

    def __init__(self, campaign: Campaign, recipients: RecipientList, ledger: Ledger) -> None:
        self._campaign = campaign
        self._recipients = recipients
        self._ledger = ledger
        self._data = campaign.file.data
        self._composer = campaign.assemble(recipients, campaign.workspace.secret_for_showing(campaign.name))
        self._marking = self._composer.marking_renderer()
        self._problems = _Noting(campaign.file.check.ignore)
        self._problems.add((*campaign.environment.warnings, *recipients.warnings))
        suppressed = Suppressed(self._data.suppress)
        self._inspection = Inspection(self._composer, suppressed, None, self._problems)
        self._dates = campaign.dates()

    def write(
        self, page: PageWriter, choice: _Choice, path: Path, progress: Callable[[int], None]
    ) -> Previewed:
        """Look at every row and write those that *choice* takes."""
        done = Previewed(path, problems=self._problems, sampled=choice.sampled)
        keyed = self._data.key is not None and self._data.duplicates != "allow"
        with self._ledger.new_listing(unique_addresses=keyed) as listing:
            for recipient in self._recipients:
                self._problems.noted.clear()
                listed, message = self._inspection.look(recipient)
                earlier = listing.add(listed)
                status = str(Status.DUPLICATE if earlier is not None else listed.status)
                done.counts[status] = done.counts.get(status, 0) + 1
                done.rows += 1
                problem = bool(self._problems.noted)
                if listed.status is not Status.SKIPPED and choice.takes(recipient.row, problem=problem):
                    page.add(self._row(recipient, listed, message, earlier))
                else:
                    choice.left_out += problem and choice.full
                if done.rows % _PROGRESS_EVERY == 0:
                    progress(done.rows)
                if choice.enough:
                    break
        self._inspection.finish()
        return done

    def _row(
        self, recipient: Recipient, listed: Listed, message: Message | None, earlier: int | None
    ) -> PageRow:
        found = tuple(self._problems.noted)
        if earlier is not None:
            words = f"repeats row {earlier}: only that one is sent"
            listed = replace(listed, status=Status.DUPLICATE, detail=words)
        try:
            rendered = self._composer.render(recipient)
            if message is None or listed.key in self._dates:
                # What went out before has the Date it had then, so that its bytes are those of then.
                date = self._dates.get(listed.key, datetime.now(UTC).astimezone())
                message = self._composer.message(rendered, date)
        except (RowError, TemplateError):
            return PageRow(listed, recipient, found)
        return PageRow(listed, recipient, found, message, rendered, self._marked(recipient, rendered))

    def _marked(self, recipient: Recipient, rendered: Rendered) -> Rendered | None:
        """Render the row with marks; None where a template does something else when there are marks."""
        try:
            marked = self._marking.render(recipient)
        except (RowError, TemplateError):
            return None
        same = _plain(marked.text) == _plain(rendered.text) and _plain(marked.html) == _plain(rendered.html)
        return marked if same else None

    def facts(self, done: Previewed, request: PreviewRequest, choice: _Choice) -> dict[str, Any]:
        """Say what the page should know about the whole."""
        columns, file = self._recipients.columns, self._campaign.file
        used = self._composer.renderer.used_names
        return {
            "campaign": self._campaign.name,
            "command": request.command,
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
            "final": bool(self._dates),
            "problems": [
                {**diagnostic_values(group.first), "count": group.count, "rows": group.rows}
                for group in self._problems
            ],
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
