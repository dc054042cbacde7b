"""From the ledger to a person: result files, the report page, the summary, and the exit code."""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.attachment_guard.name_columns import PersonNames
from mailmerge.campaign.connect import find_account
from mailmerge.campaign.continuation import Continuation, continuation
from mailmerge.campaign.opening import open_standing
from mailmerge.campaign.plan import BUILT_IN
from mailmerge.campaign.standard_input import SHOWN
from mailmerge.campaign.stored import needs_list
from mailmerge.errors import FileError, LedgerError, ListError, MailmergeError
from mailmerge.folders import telling
from mailmerge.model import KEY_COLUMN, Counts, Status
from mailmerge.output_folder import OutputFolder
from mailmerge.recipients import is_workbook, open_list, row_mark, sha256
from mailmerge.report.failed_rows import failed_name, write_failed_text, write_failed_workbook
from mailmerge.report.result_files import FAILED, LINES, TABLE, ReportFiles, record
from mailmerge.report.summary import Redactor, RowSample, Summary
from mailmerge.sending.runs import Reason, RunEnd
from mailmerge.text import unguarded
from mailmerge.values import displayed
from mailmerge.version import program_version

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence
    from datetime import datetime

    import pandas as pd

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.standing import Standing
    from mailmerge.config.accounts import Account
    from mailmerge.model import Result
    from mailmerge.recipients import RecipientList
    from mailmerge.report.report_page import PageFacts

PAGE = "report.html"
_RESOLVE: tuple[tuple[str, ...], ...] = ((), ("--as-accepted",), ("--resend",))
WORKBOOK = "results.xlsx"
REDACTED = "redacted"
"""The folder, inside the one of the reports, of files that can be shared with others."""
_NEAR = 20
"""Rows that are this close are read together."""


class ReportOptions(Struct, frozen=True):
    """Which files a report has in addition to the usual ones."""

    page: bool = True
    workbook: bool = False
    copy: Path | None = None
    """Where to write a copy of the list with the result of each row."""
    redact: bool = False
    """Hashes in place of addresses and keys, in a separate folder."""


class WrittenFiles(Struct):
    """What was written."""

    summary: Summary
    out: OutputFolder | None
    """None: the result files could not be written, for *folder_error*."""
    folder_error: FileError | None = None
    failed: int = 0
    failed_name: str = ""
    page: Path | None = None
    page_error: Exception | None = None
    """Why the page is missing although one was wanted."""
    extra: tuple[Path, ...] = ()


class Report(Struct, frozen=True):
    """The state of a campaign after a run."""

    campaign: str
    summary: Summary
    exit_code: int
    folder: Path | None = None
    """Where the result files are; None: they could not be written, for *folder_error*."""
    folder_error: FileError | None = None
    names: Mapping[str, str] = MappingProxyType({})
    """The names of the files in *folder*, by their usual names, which they have unless a person edited an
    earlier one."""
    page: Path | None = None
    """The report page; None: it was not wanted, or there is a *page_error*."""
    page_error: Exception | None = None
    """Why the page could not be made; the results are complete without it."""
    extra: tuple[Path, ...] = ()
    """Further files that were asked for: a workbook, a copy of the list."""
    failed: int = 0
    """How many rows the file of the failed rows has."""
    failed_name: str = ""
    """That file's name in *folder*: ``failed.xlsx`` where the list is a workbook, else ``failed.csv``."""
    reason: str = Reason.FINISHED.value
    """Why the run ended."""
    error: MailmergeError | None = None
    """What stopped it, if something did."""
    next_at: datetime | None = None
    """When running again makes sense; None: now, or never."""
    seconds: float = 0.0
    sent_now: int = 0
    """How many messages this run got accepted."""
    notes: tuple[str, ...] = ()
    continuation: Continuation | None = None
    """The commands that continue it; None: there is nothing to continue, as after a rehearsal."""
    counted: str = "row"
    """What the figures count: a ``row``, or with ``data.group_by`` a ``message`` for one or several."""
    definition: Definition | None = None
    """The campaign, whose ledger it was made from; None: that is gone, as after a rehearsal."""

    @property
    def counts(self) -> Counts:
        """How many rows are in each state."""
        return self.summary.counts

    @property
    def bug(self) -> Exception | None:
        """The bug of ours that prevented the page, not a problem of the disk or the files."""
        return None if isinstance(self.page_error, OSError | MailmergeError) else self.page_error

    def to_dataframe(self) -> pd.DataFrame:
        """Return every row with its state as a data frame: the columns of ``results.csv``, times in UTC.

        The data comes from the ledger as it is now; after a rehearsal, from ``results.jsonl``.

        Raises:
            LedgerError: the ledger cannot be read.
            OSError: the result file cannot be read.

        """
        from mailmerge.report.result_files import to_frame

        if self.definition is None:
            if self.folder is None:
                return to_frame(())
            with (self.folder / self.names.get(LINES, LINES)).open(encoding="utf-8") as lines:
                return to_frame(map(json.loads, lines))
        with open_standing(self.definition) as standing:
            return to_frame(map(record, standing.results() if standing else ()))


_REASON_CODES = {
    Reason.FINISHED: 0,
    Reason.INTERRUPTED: 130,
    Reason.QUOTA: 5,
    Reason.BREAKER: 5,
    Reason.NETWORK: 5,
    Reason.REFUSED: 6,
    Reason.ACCOUNT_PAUSE: 5,
    Reason.LEDGER: 8,
    Reason.PAUSED: 5,
    Reason.DETACHED: 0,
    Reason.FAILED: 5,
}


def end_code(end: RunEnd) -> int:
    """Return the exit code for the end of a run alone."""
    if end.error is None:
        return _REASON_CODES[end.reason]
    # 2 means that nothing was sent.
    return 5 if end.error.exit_code == 2 and end.counts.total else end.error.exit_code


def exit_code(counts: Counts, end_code: int, *, complete: bool) -> int:
    """Return the exit code of a run.

    Args:
        counts: how many rows are in each state.
        end_code: what ended the run: 0, or the code of the error that did.
        complete: whether the run was meant to do all that is left (no ``--limit``, no ``--rows``).

    """
    if end_code in {1, 6, 7, 8, 129, 130, 143}:
        return end_code
    if counts[Status.IN_DOUBT]:
        return 4
    if end_code:
        return end_code
    if counts[Status.DEFERRED] or (complete and counts[Status.PENDING]):
        return 5
    if any(counts[status] for status in FAILED):
        return 3
    return 0


def keys_in_failed(path: Path, identify: Callable[[Path], Iterable[str]]) -> list[str]:
    """Return the keys in a file of failed rows: people keep their keys, rows do not keep their numbers.

    Args:
        path: the file.
        identify: yields the keys of a list's rows, for a file without our column.

    Raises:
        ListError: it cannot be read, or has no rows.
        InputError: *identify* cannot identify a row.

    """
    own = _keys_in_workbook(path) if is_workbook(path) else _keys_in_text(path)
    keys = [key for key in (identify(path) if own is None else own) if key]
    if not keys:
        raise ListError(
            f"{path} names no rows", code="D152", hint="name the failed.csv or failed.xlsx that a run wrote"
        )
    return keys


def _keys_in_text(path: Path) -> list[str] | None:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = csv.DictReader(file)
            if KEY_COLUMN not in (rows.fieldnames or ()):
                return None
            return [unguarded(row.get(KEY_COLUMN) or "") for row in rows]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ListError(f"cannot read {path}: {error}", code="D100") from error


def _keys_in_workbook(path: Path) -> list[str] | None:
    return open_list(path, hidden="send").own_cells(KEY_COLUMN)


def report_again(definition: Definition, wanted: ReportOptions) -> Report:
    """Write the files again from the ledger.

    Raises:
        LedgerError: the ledger does not exist, or cannot be read.
        ListError: no list can be copied.
        FileError: the files cannot be written.

    """
    workspace = definition.workspace
    with open_standing(definition) as standing:
        if standing is None:
            raise LedgerError(
                f"no ledger of campaign {definition.name!r} was found at {definition.ledger_place}",
                code="L705",
                hint="nothing was sent from here yet",
            )
        copy = workspace.latest_snapshot()
        known = copy is not None or definition.given_list is not None
        recipients = definition.open_list(copy) if known else None
        annotated = (_copy(definition, standing, recipients, wanted.copy),) if wanted.copy else ()
        report = report_run(
            definition, standing, recipients, workspace.out, account=_account(definition), wanted=wanted
        )
        if report.folder_error is not None:  # nothing but the files was asked for
            raise report.folder_error
        return replace(report, extra=(*report.extra, *annotated))


def report_run(
    definition: Definition,
    standing: Standing,
    recipients: RecipientList | None,
    folder: Path,
    *,
    account: Account | None,
    end: RunEnd | None = None,
    complete: bool = True,
    wanted: ReportOptions | None = None,
) -> Report:
    """Write the result files into *folder* and return the state of the campaign.

    Args:
        definition: the campaign.
        standing: the state of its rows.
        recipients: its list, if that can be read.
        folder: where the files go.
        account: who sent, or would.
        end: how the run that was made ended; None: there was none.
        complete: whether that run was meant to do all that is left (no ``--limit``, no ``--rows``).
        wanted: which files; default: those that every run writes.

    """
    source = _source(definition, recipients) if end is not None else None
    end = end or RunEnd(Reason.FINISHED)
    error = end.error
    stopped = (error.message if error else end.message).rstrip(".")
    throwaway = standing.ledger.throwaway
    going = None if throwaway else continuation(definition, standing)
    # A command line contains names of people and folders; a redacted page has none.
    shown = None if wanted and wanted.redact else going

    def facts() -> PageFacts:
        return page_facts(definition, standing, recipients, account, stopped=stopped, going=shown)

    to = definition.file.message.to
    written = publish(standing, recipients, folder, facts, wanted, source=source, to=to)
    report = Report(
        campaign=definition.name,
        summary=written.summary,
        exit_code=exit_code(written.summary.counts, end_code(end), complete=complete),
        folder=written.out.path if written.out else None,
        names=dict(written.out.names) if written.out else {},
        folder_error=written.folder_error,
        page=written.page,
        page_error=written.page_error,
        extra=written.extra,
        failed=written.failed,
        failed_name=written.failed_name,
        reason=str(end.reason),
        error=error,
        next_at=end.next_at or standing.next_due(),
        sent_now=end.counts[Status.ACCEPTED],
        notes=(*_said(end), *end.notes, *(written.out.notes() if written.out else ())),
        continuation=going,
        counted=definition.counted,
        definition=None if throwaway else definition,
    )
    return replace(report, exit_code=1) if report.bug and end.reason is not Reason.INTERRUPTED else report


def _said(end: RunEnd) -> Iterable[str]:
    """Yield why a run ended, if no error shows it."""
    if end.error is None:
        if end.message:
            yield end.message
        if end.hint:
            yield f"   = hint: {end.hint}"


def _source(definition: Definition, recipients: RecipientList | None) -> Path | None:
    """Return the campaign's list as a file; None: it is not a file, or could not be read."""
    if recipients is None or definition.given_list is not None:
        return None
    if definition.piped is not None and recipients.campaign_list == SHOWN:
        return definition.source
    return Path(recipients.campaign_list)


def publish(
    standing: Standing,
    recipients: RecipientList | None,
    folder: Path,
    facts: Callable[[], PageFacts],
    wanted: ReportOptions | None = None,
    *,
    source: Path | None = None,
    to: Sequence[str] = (),
) -> WrittenFiles:
    """Write what is wanted into *folder*; without a readable list there are no failed rows.

    A folder that cannot be written costs the files, never the summary: they can be made from the ledger.
    *source* is the campaign's list, for those who send failed rows again; *to* may name columns of names.
    """
    wanted = wanted or ReportOptions()
    redactor = None
    if wanted.redact:
        redactor = Redactor(standing.ledger.secret, _names(facts(), recipients, folder))
        folder /= REDACTED
    summary, picked = Summary(), RowSample()
    wants_failed = recipients is not None and redactor is None
    failures: dict[int, Result] = {}

    out = OutputFolder(folder, source=source)

    def results() -> Iterable[Result]:
        return redactor.results(standing.results()) if redactor else standing.results()

    def seen(result: Result) -> None:
        summary.add(result)
        picked.add(result)
        if wants_failed and result.row and result.status in FAILED:
            failures[result.row] = result

    try:
        ReportFiles(out).write(results(), seen)
        if recipients is not None and (summary.counts[Status.PENDING] or summary.counts[Status.DEFERRED]):
            out.spared = Path(recipients.shown)  # it is needed to continue
        failed = 0 if redactor or recipients is None else write_failed(out, failures, recipients)
    except FileError as error:
        summary = Summary()
        for result in results():
            summary.add(result)
        return WrittenFiles(summary, None, error)
    workbook = recipients is not None and bool(recipients.sheet)
    name = out.names.get(failed_name(workbook=workbook), "")
    published = WrittenFiles(summary, out, failed=failed, failed_name=name)
    if wanted.workbook:
        from mailmerge.report.results_workbook import write_workbook

        with out.writing(WORKBOOK) as path:
            write_workbook(path, results())
        published.extra = (path,)
    if wanted.page:
        people = people_of(standing, None if redactor else recipients, to, picked.rows)
        published.page = _write_page(published, standing, picked, facts, people, redactor)
    return published


def _write_page(
    published: WrittenFiles,
    standing: Standing,
    picked: RowSample,
    facts: Callable[[], PageFacts],
    people: Mapping[int, str],
    redactor: Redactor | None,
) -> Path | None:
    from mailmerge.report.report_page import write_page

    out = published.out
    if out is None:
        return None
    names = [out.names[TABLE], out.names[LINES], *([published.failed_name] if published.failed else [])]
    names += [extra.name for extra in published.extra]
    summary = published.summary
    try:
        said = replace(facts(), files=tuple(names))
        if redactor is not None:
            said = _redacted(said, redactor)
        with out.writing(PAGE) as path:
            figures, gone = standing.aggregates(), summary.gone
            write_page(
                path, said, summary.counts, picked, figures, gone=gone, people=people, redactor=redactor
            )
    except Exception as error:  # noqa: BLE001  handed on whole: the run is over, its results come first
        published.page_error = error
        with contextlib.suppress(FileError):
            out.remove(PAGE)  # an older page would show another run
        return None
    return path


def people_of(
    standing: Standing, recipients: RecipientList | None, to: Sequence[str], results: Iterable[Result]
) -> dict[int, str]:
    """Return the names of the people in a page's rows: the plan's cells in the columns of names."""
    names = PersonNames(recipients.columns, to) if recipients else None
    ranges: list[tuple[int, int]] = []
    for row in sorted({result.row for result in results if result.row}):
        if ranges and row - ranges[-1][1] < _NEAR:
            ranges[-1] = (ranges[-1][0], row)
        else:
            ranges.append((row, row))
    if standing.plan is None or names is None or not names.places:
        return {}
    rows = standing.plan.rows_numbered(ranges)
    return {row.row: names.of([displayed(cell) for cell in row.cells]) for row in rows}


def _names(facts: PageFacts, recipients: RecipientList | None, folder: Path) -> set[str]:
    """Return what identifies the campaign in a file to be shared: its name, its list and its folder."""
    found = {facts.campaign, facts.list_name, Path(facts.list_name).stem}
    places = [folder.absolute().parent]
    if recipients is not None:
        places.append(Path(recipients.shown).absolute().parent)
        found |= {recipients.shown, str(Path(recipients.shown).absolute())}
    for place in places:
        found |= {str(place), place.name, place.parent.name if place.name in {"out", ".mailmerge"} else ""}
    return found - {"", ".", "/", "out"}


def _redacted(facts: PageFacts, redactor: Redactor) -> PageFacts:
    return replace(
        facts,
        redacted=True,
        campaign=redactor.name(facts.campaign),
        account=redactor.words(facts.account),
        list_name=redactor.name(facts.list_name),
        list_digest="",
        stopped=redactor.words(facts.stopped),
    )


def write_failed(out: OutputFolder, failed: Mapping[int, Result], recipients: RecipientList) -> int:
    """Write the file of the failed rows, and return how many there are.

    Args:
        out: where it goes.
        failed: their results, by row.
        recipients: the list, which has their cells.

    Raises:
        FileError: it cannot be written.

    """
    headings, names = recipients.columns.headings, recipients.columns.names

    def signed(mark: str, row: int) -> str:
        origin = recipients.origin(row)
        return f"{mark}-{origin}" if origin else mark

    try:
        if not recipients.sheet:
            with telling(recipients.path):  # a copy of it, which may be gone by now
                originals = recipients.originals(failed) if failed else ()
                texts = [(row, list(map(displayed, cells))) for row, cells in originals]
            return write_failed_text(
                out,
                headings,
                [(cells, failed[row], signed(row_mark(names, cells), row)) for row, cells in texts],
            )
        marks = {row.row: row.mark for row in recipients.marked() if row.row in failed}
        copies = recipients.copies(failed)
        return write_failed_workbook(
            out,
            recipients.sheet,
            headings,
            [(cells, failed[row], signed(marks[row], row)) for row, cells in copies],
        )
    except ListError:  # the list itself was the problem, and has been reported
        return 0


def _copy(definition: Definition, standing: Standing, recipients: RecipientList | None, target: Path) -> Path:
    from mailmerge.report import annotated_list

    if definition.only_ledger:
        raise needs_list(
            "a copy is made", instead="without --copy, results.csv has every row with its status"
        )
    if recipients is None or definition.given_list is not None:
        raise ListError(
            "the list cannot be copied", code="D153", hint="--copy needs a list that came from a file"
        )
    suffixes = annotated_list.suffixes(recipients)
    if target.suffix.lower() not in suffixes:
        raise ListError(
            f"{target} cannot be a copy of {recipients.shown}",
            code="D154",
            hint=f"name it {target.with_suffix(suffixes[0]).name}",
        )
    if target.exists() and definition.piped is None and target.samefile(definition.source):
        raise ListError(f"{target} is the list itself", code="D154", hint="name another file for the copy")
    try:
        annotated_list.copy_list(recipients, target, standing.results())
    except FileError as error:
        raise ListError(error.message, code="D155", hint=error.hint) from error
    except OSError as error:
        raise ListError(f"cannot copy {recipients.path}: {error.strerror or error}", code="D155") from error
    return target


# --- what the page shows besides the ledger's figures -----------------------------------------------------


def page_facts(
    definition: Definition,
    standing: Standing,
    recipients: RecipientList | None,
    account: Account | None,
    *,
    stopped: str = "",
    going: Continuation | None = None,
) -> PageFacts:
    """Return them; *stopped* is a sentence with what ended the run, *going* the commands that continue it."""
    from mailmerge.report.report_page import PageFacts

    ledger = standing.ledger
    rehearsal = ledger.throwaway
    host = account.host if account else ""
    signed_in = f"{host} as {account.user}" if account and account.user else host
    rates = {*definition.file.send.rate, *(account.rate if account else ())}
    digest = ""
    mail = ledger.bounces.summary()
    if recipients is not None and definition.given_list is None:
        with contextlib.suppress(OSError):
            digest = sha256(recipients.path)
    return PageFacts(
        campaign=definition.name,
        account=BUILT_IN if rehearsal else signed_in,
        server=BUILT_IN if rehearsal else host,
        list_name="" if recipients is None else Path(recipients.shown).name,
        list_digest=digest,
        versions=tuple(ledger.versions()),
        rates=tuple(sorted(rates, key=lambda rate: rate.seconds)),
        resolve=tuple(str(going.command("resolve", *words)) for words in _RESOLVE) if going else (),
        again=str(going.again) if going else "",
        again_rows=going.left if going else None,
        counted=definition.counted,
        next_at=standing.next_due(),
        rehearsal=rehearsal,
        mailbox_read=mail.read,
        reports=mail.sorts,
        stopped=stopped,
        program_version=program_version(),
    )


def _account(definition: Definition) -> Account | None:
    """Return the account as it is now; a report can do without."""
    with contextlib.suppress(MailmergeError):
        return find_account(definition)
    return None
