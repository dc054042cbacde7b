"""From the ledger to files: results, the report page, a workbook, a copy of the list."""

from __future__ import annotations

import contextlib
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge import files
from mailmerge.campaign.reporting import Report, exit_code
from mailmerge.errors import FileError, ListError, MailmergeError
from mailmerge.ledger.ledger import Ledger
from mailmerge.recipients import sha256
from mailmerge.report.redaction import Redactor
from mailmerge.report.result_files import FAILED, ReportFiles
from mailmerge.report.summary import RowSample, Summary

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailmerge.campaign.campaign import Campaign
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.model import Rate, Result
    from mailmerge.recipients import RecipientList
    from mailmerge.report.report_page import Facts

PAGE = "report.html"
WORKBOOK = "results.xlsx"
REDACTED = "redacted"
"""The folder, inside the one of the reports, of files that can be handed to others."""


class ReportOptions(Struct, frozen=True):
    """Which files a report is to have besides the plain ones."""

    page: bool = True
    workbook: bool = False
    copy: Path | None = None
    """Where to write a copy of the list with what became of each row."""
    redact: bool = False
    """Hashes in place of addresses and keys, in a folder of its own."""


class WrittenFiles(Struct):
    """What was written."""

    summary: Summary
    folder: Path | None
    """None: the result files could not be written."""
    failed: int = 0
    page: Path | None = None
    extra: tuple[Path, ...] = ()


def report(campaign: Campaign, wanted: ReportOptions) -> Report:
    """Write the files again from the ledger.

    Raises:
        LedgerError: there is no ledger, or it cannot be read.
        ListError: there is no list that could be copied.

    """
    workspace = campaign.workspace
    with Ledger.open_read_only(workspace.ledger_path, campaign.name) as ledger:
        snapshot = workspace.latest_snapshot()
        recipients = campaign.open_list(snapshot) if snapshot or campaign.list_given else None
        account = _account(campaign)
        rates = campaign.file.send.rate

        def facts() -> Facts:
            return page_facts(campaign, ledger, recipients, account, rates)

        copy = (_copy(ledger, recipients, campaign, wanted.copy),) if wanted.copy else ()
        published = publish(ledger, recipients, workspace.out, facts, wanted)
        return Report(
            campaign=campaign.name,
            summary=published.summary,
            exit_code=exit_code(published.summary.counts, 0, complete=True),
            folder=published.folder,
            page=published.page,
            extra=(*published.extra, *copy),
            failed=published.failed,
            next_at=ledger.next_due(),
            ledger=ledger.path,
        )


def publish(
    ledger: LedgerReader,
    recipients: RecipientList | None,
    folder: Path,
    facts: Callable[[], Facts],
    wanted: ReportOptions | None = None,
) -> WrittenFiles:
    """Write what is wanted into *folder*; without a readable list there is no ``failed.csv``.

    A folder that cannot be written loses the files, never the summary: the ledger can make them again.
    """
    wanted = wanted or ReportOptions()
    redactor = Redactor(ledger.secret) if wanted.redact else None
    if redactor:
        folder /= REDACTED
    summary, picked = Summary(), RowSample()
    wants_failed = recipients is not None and redactor is None
    failures: dict[int, Result] = {}

    def results() -> Iterable[Result]:
        return redactor.results(ledger.results()) if redactor else ledger.results()

    def seen(result: Result) -> None:
        summary.add(result)
        picked.add(result)
        if wants_failed and result.row and result.status in FAILED:
            failures[result.row] = result

    try:
        plain = ReportFiles(folder)
        plain.write(results(), seen)
        failed = 0 if redactor or recipients is None else _write_failed(plain, failures, recipients)
    except FileError:
        summary = Summary()
        for result in results():
            summary.add(result)
        return WrittenFiles(summary, None)
    published = WrittenFiles(summary, folder, failed)
    if wanted.workbook:
        from mailmerge.report.workbook import write_workbook

        write_workbook(folder / WORKBOOK, results())
        published.extra = (folder / WORKBOOK,)
    if wanted.page:
        published.page = _write_page(published, ledger, picked, facts, redactor)
    return published


def _write_page(
    published: WrittenFiles,
    ledger: LedgerReader,
    picked: RowSample,
    facts: Callable[[], Facts],
    redactor: Redactor | None,
) -> Path | None:
    from mailmerge.report.report_page import write_page

    if published.folder is None:
        return None
    names = ["results.csv", "results.jsonl", *(["failed.csv"] if published.failed else [])]
    names += [extra.name for extra in published.extra]
    path = published.folder / PAGE
    # The run is over and recorded: whatever is wrong with a page about it, the summary has to follow.
    with contextlib.suppress(Exception):
        said = replace(facts(), files=tuple(names), redacted=redactor is not None)
        summary = published.summary
        write_page(
            path, said, summary.counts, picked, ledger.aggregates(), gone=summary.gone, redactor=redactor
        )
        return path
    with contextlib.suppress(FileError):
        files.remove_file(path)  # an older page would tell of another run
    return None


def _write_failed(plain: ReportFiles, failed: Mapping[int, Result], recipients: RecipientList) -> int:
    try:
        rows = [(cells, failed[row]) for row, cells in recipients.originals(failed)] if failed else []
    except ListError:  # the list itself was the problem, and has been told
        return 0
    return plain.write_failed(recipients.columns.headings, rows)


def _copy(ledger: LedgerReader, recipients: RecipientList | None, campaign: Campaign, target: Path) -> Path:
    from mailmerge.recipients.text_list import TextList
    from mailmerge.report import annotated_list

    if recipients is None or campaign.list_given:
        raise ListError(
            "there is no list to copy", code="D153", hint="--copy needs a list that came from a file"
        )
    source = recipients.path
    suffix = source.suffix.lower()
    if target.suffix.lower() != suffix and {suffix, target.suffix.lower()} != {".xlsx", ".xlsm"}:
        raise ListError(
            f"{target} would not be a copy of {recipients.shown}",
            code="D154",
            hint=f"name it {target.with_suffix(suffix).name}",
        )
    if target.exists() and target.samefile(campaign.file.data.source):
        raise ListError(f"{target} is the list itself", code="D154", hint="name another file for the copy")
    try:
        if isinstance(recipients, TextList):
            annotated_list.copy_text(
                source,
                target,
                ledger.results(),
                encoding=recipients.encoding,
                delimiter=recipients.delimiter,
                header_row=recipients.header_row,
            )
        else:
            sheet: str = getattr(recipients, "sheet", "")
            annotated_list.copy_workbook(
                source, target, ledger.results(), sheet=sheet, header_row=recipients.header_row
            )
    except FileError as error:
        raise ListError(error.message, code="D155", hint=error.hint) from error
    except OSError as error:
        raise ListError(f"cannot copy {source}: {error.strerror or error}", code="D155") from error
    return target


# --- what the page says besides the ledger's figures -----------------------------------------------------


def page_facts(
    campaign: Campaign,
    ledger: LedgerReader,
    recipients: RecipientList | None,
    account: Account | None,
    rates: tuple[Rate, ...],
    *,
    stopped: str = "",
) -> Facts:
    """Gather them; *stopped* is what ended the run, in a sentence."""
    from mailmerge.report.report_page import Facts

    rehearsal = ledger.throwaway
    host = account.host if account else ""
    signed_in = f"{host} as {account.user}" if account and account.user else host
    digest = ""
    if recipients is not None and not campaign.list_given:
        with contextlib.suppress(OSError):
            digest = sha256(recipients.path)
    return Facts(
        campaign=campaign.name,
        account="the built-in server" if rehearsal else signed_in,
        server="the built-in server" if rehearsal else host,
        list_name="" if recipients is None else Path(recipients.shown).name,
        list_digest=digest,
        versions=tuple(ledger.versions()),
        rates=tuple(sorted({*rates, *(account.rate if account else ())}, key=lambda rate: rate.seconds)),
        resolve="" if rehearsal else command(campaign, "resolve"),
        again="" if rehearsal else command(campaign, "send"),
        next_at=ledger.next_due(),
        rehearsal=rehearsal,
        stopped=stopped,
        program_version=_program_version(),
    )


def command(campaign: Campaign, name: str) -> str:
    """Write the command line that means this very campaign.

    A campaign that was given by options alone has to be given so again: only what names its ledger is said.
    """
    file = campaign.file
    words = ["mailmerge", name]
    if file.path is None:
        words += ["--list", str(file.data.source)]
        known = Path(file.data.source).stem
    else:
        place = file.folder if file.path.name == "campaign.toml" else file.path
        words += [str(place)] if place != Path() else []
        known = str(file.document.tables.get("name") or file.document.default_name)
    if file.name != known:
        words += ["--name", file.name]
    line = shlex.join(words)
    return f"{line} ... (the other options as before)" if file.path is None and name == "send" else line


def _account(campaign: Campaign) -> Account | None:
    """Find the account as it is now; a report can do without."""
    from mailmerge.campaign.run import SendRequest, find_account

    with contextlib.suppress(MailmergeError):
        return find_account(campaign, SendRequest())
    return None


def _program_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("mailmerge-kit")
    except PackageNotFoundError:
        return ""
