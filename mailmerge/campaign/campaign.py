"""`Campaign`: a list, templates and an account, and everything that can be done with them."""

from __future__ import annotations

import contextlib
import hashlib
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.campaign.composer import Composer, identity
from mailmerge.campaign.plan import Plan
from mailmerge.campaign.preflight import Inspection, Preflight, run_preflight
from mailmerge.campaign.workspace import Workspace, user_state_folder
from mailmerge.check.diagnostics import DiagnosticCollector
from mailmerge.config import campaign_file
from mailmerge.config.environment import Environment
from mailmerge.errors import LedgerError, RowError
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Counts
from mailmerge.recipients import from_dataframe, open_list, parse_rows, sha256
from mailmerge.recipients.selection import Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import pandas as pd

    from mailmerge.campaign.check import OnlineChecks
    from mailmerge.campaign.reporting import Report
    from mailmerge.campaign.results import ReportOptions
    from mailmerge.campaign.run import SendRequest
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.ledger.reader import LedgerReader
    from mailmerge.model import Message, Result
    from mailmerge.recipients import RecipientList
    from mailmerge.sending.runs import Progress, StopFlag


_NO_MESSAGE = {"message.subject": "-", "message.text": "-\n"}
"""Stands for the message where only the ledger is looked at."""


class Campaign:
    """One campaign: what to send, to whom, and what happened so far.

    Args:
        file: what its author said.
        environment: variables for accounts and secrets; default: the process's own and ``.env``.
        out: folder of reports; default: ``out`` in the campaign's folder.
        recipients: the list, where it is not the file that *file* names.

    """

    def __init__(
        self,
        file: CampaignFile,
        *,
        environment: Environment | None = None,
        out: Path | None = None,
        recipients: RecipientList | None = None,
    ) -> None:
        self.file = file
        self.environment = environment or Environment.read(file.folder, os.environ)
        state = user_state_folder(self.environment)
        self.workspace = Workspace(file.folder, out or file.folder / "out", state)
        self.workspace.sweep()
        self._given = recipients

    @classmethod
    def load(
        cls,
        path: Path | str | None = None,
        options: Mapping[str, object] | None = None,
        *,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        out: Path | None = None,
        ledger_only: bool = False,
    ) -> Campaign:
        """Open the campaign in a folder (or its ``.toml`` file), or one that *options* describe alone.

        Args:
            path: folder or file; None: the working directory, unless *options* are a whole campaign.
            options: values by name, such as ``data.source`` or ``message.subject``; None is not said.
            settings: ``section.key=value`` texts.
            environ: environment variables.
            out: folder of reports.
            ledger_only: the message does not matter, so options need not describe one.

        Raises:
            CampaignFileError: with every problem in it.

        """
        given = {name: value for name, value in (options or {}).items() if value is not None}
        if path is None and ledger_only and "data.source" in given:
            return cls.from_options({**_NO_MESSAGE, **given}, settings=settings, environ=environ, out=out)
        if path is None and _is_whole(given):
            return cls.from_options(given, settings=settings, environ=environ, out=out)
        return cls.from_folder(path or ".", given, settings=settings, environ=environ, out=out)

    @classmethod
    def from_folder(
        cls,
        path: Path | str,
        options: Mapping[str, object] | None = None,
        *,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        out: Path | None = None,
    ) -> Campaign:
        """Open the campaign in a folder or in a ``.toml`` file; *options* count before what it says.

        Raises:
            CampaignFileError: with every problem in it.

        """
        path = Path(path)
        folder = path.parent if path.suffix == ".toml" else path
        environment = Environment.read(folder, os.environ if environ is None else environ)
        overrides = campaign_file.Overrides(options or {}, settings, environment)
        return cls(campaign_file.load(path, overrides), environment=environment, out=out)

    @classmethod
    def from_options(
        cls,
        options: Mapping[str, object],
        *,
        settings: Sequence[str] = (),
        environ: Mapping[str, str] | None = None,
        out: Path | None = None,
    ) -> Campaign:
        """Make a campaign without a file; it lives beside its list, ``data.source``.

        Raises:
            CampaignFileError: with every problem in it.

        """
        folder = Path(str(options.get("data.source") or "")).parent
        environment = Environment.read(folder, os.environ if environ is None else environ)
        file = campaign_file.from_options(folder, options, settings=settings, environ=environment)
        return cls(file, environment=environment, out=out)

    @classmethod
    def from_dataframe(
        cls,
        frame: pd.DataFrame,
        *,
        name: str,
        subject: str,
        text: str | None = None,
        html: str | None = None,
        key: str | None = None,
        folder: Path | str = ".",
        options: Mapping[str, object] | None = None,
    ) -> Campaign:
        """Make a campaign of a pandas frame and templates given as texts.

        Args:
            frame: one row a recipient; the column labels are the headings.
            name: the campaign's name, its identity in the ledger.
            subject: template of the subject line.
            text: template of the text part.
            html: template of the HTML part.
            key: the column that tells who a row is; None: the address.
            folder: where the ledger and the reports go.
            options: more values by name, such as ``message.from``, ``account`` or ``send.rate``.

        Raises:
            CampaignFileError: with every problem in it.
            ListError: the frame cannot be a list.

        """
        folder = Path(folder)
        environment = Environment.read(folder, os.environ)
        values = {
            "name": name,
            "data.source": "the data frame",
            "data.key": key,
            "message.subject": subject,
            # A text with a line break is the template itself, not the name of its file.
            "message.text": None if text is None else text.rstrip("\n") + "\n",
            "message.html": None if html is None else html.rstrip("\n") + "\n",
            **(options or {}),
        }
        file = campaign_file.from_options(folder, values, environ=environment)
        data = file.data
        recipients = from_dataframe(frame, key=data.key, types=data.types, defaults=data.defaults)
        return cls(file, environment=environment, recipients=recipients)

    @property
    def name(self) -> str:
        """The campaign's name, its identity in the ledger."""
        return self.file.name

    @property
    def list_given(self) -> bool:
        """Whether the list was handed in as an object, not named in the campaign file."""
        return self._given is not None

    # --- looking -----------------------------------------------------------------------------------------

    def open_list(self, copy: Path | None = None) -> RecipientList:
        """Open the recipient list, or a private *copy* of it under the list's name.

        Raises:
            ListError: it cannot be read.

        """
        if self._given is not None:
            return self._given
        data = self.file.data
        return open_list(
            copy or data.source,
            shown=str(data.source),
            sheet=data.sheet,
            key=data.key,
            hidden=data.hidden,
            encoding=data.encoding,
            types=data.types,
            defaults=data.defaults,
        )

    def check(
        self,
        *,
        progress: Callable[[int], None] = lambda _rows: None,
        online: OnlineChecks | None = None,
    ) -> Plan:
        """Render every row and collect all problems; write nothing, and ask only what *online* wants.

        Raises:
            ListError: the list cannot be read.
            TemplateError: templates that do not compile.

        """
        from mailmerge.campaign import check

        return check.check(self, progress=progress, online=online)

    def existing_ledger(self) -> Path | None:
        """Give the ledger's path if there is one."""
        path = self.workspace.ledger_path
        return path if path.exists() else None

    def assemble(self, recipients: RecipientList, secret: bytes, account: Account | None = None) -> Composer:
        """Compile the templates for this list.

        Raises:
            TemplateError: with every problem in them.

        """
        return Composer(self.file, recipients.columns, secret, account, list_name=recipients.shown)

    def examine(
        self,
        ledger: Ledger,
        recipients: RecipientList,
        composer: Composer | None = None,
        *,
        account: Account | None = None,
        reuse: bool = False,
        progress: Callable[[int], None] = lambda _rows: None,
    ) -> Plan:
        """Run the pre-flight into *ledger* and say what it found.

        With *reuse*, a pre-flight of these very files that an earlier run did is as good as a new one.
        """
        composer = composer or self.assemble(recipients, ledger.secret, account)
        problems = DiagnosticCollector(self.file.check.ignore)
        problems.add((*self.environment.warnings, *recipients.warnings))
        suppressed = Suppressed(self.file.data.suppress)
        max_size = account.max_size if account else None
        digest = self._preflight_digest(recipients, composer, suppressed, max_size) if reuse else ""
        found = Preflight.recalled(ledger.preflight, digest, problems) if digest else None
        if found is None:
            if ledger.preflight:
                ledger.note_preflight("")
            found = run_preflight(
                recipients,
                Inspection(composer, suppressed, max_size, problems),
                ledger,
                problems,
                duplicates=self.file.data.duplicates,
                keyed=self.file.data.key is not None,
                progress=progress,
            )
            if digest and not problems.campaign_errors:
                ledger.note_preflight(found.remembered(digest))
        return Plan(
            campaign=self.name,
            source=recipients.shown,
            dialect=recipients.dialect,
            problems=problems,
            counts=ledger.counts(),
            statuses=Counts(found.statuses),
            rows=found.rows,
            blank_rows=found.blank_rows,
            hidden_rows=found.hidden_rows,
            largest=found.largest,
            sender=found.sender or composer.sender,
            checked_earlier=found.earlier,
            earlier_warnings=found.warnings,
        )

    def _preflight_digest(
        self, recipients: RecipientList, composer: Composer, suppressed: Suppressed, max_size: int | None
    ) -> str:
        """Hash everything that the pre-flight looks at; empty where something cannot be known beforehand."""
        data = self.file.data
        per_row_files = any("{" in rule.path for rule in self.file.attach)
        if self.list_given or per_row_files:
            return ""
        facts = [
            sha256(recipients.path),
            composer.version,
            suppressed.digest.hexdigest(),
            *map(str, (data.sheet, data.key, data.where, data.duplicates, data.hidden, data.encoding)),
            *sorted(self.file.check.ignore),
            *map(str, (sorted(data.types.items()), sorted(data.defaults.items()), max_size)),
        ]
        return hashlib.sha256("\x1f".join(facts).encode()).hexdigest()

    def messages(
        self, *, rows: str | None = None, limit: int | None = None, keep: bool = True
    ) -> Iterator[Message]:
        """Yield the messages as they would be sent, in the list's order; rows that would not are left out.

        Rows that were contacted before get the Date they had then. With *keep* a new campaign gets its
        secret now, so that only the Date of a message is still to come; without, nothing is written.

        Raises:
            RowError: a row that was named in *rows* cannot become a message.

        """
        selection = parse_rows(rows) if rows else None
        recipients = self.open_list()
        composer = self.assemble(recipients, self.workspace.secret_for_showing(self.name, keep=keep))
        dates = self.dates()
        now = datetime.now(UTC).astimezone()
        count = 0
        for recipient in recipients:
            if limit is not None and count >= limit:
                return
            if (selection and recipient.row not in selection) or not composer.selects(recipient):
                continue
            try:
                rendered = composer.render(recipient)
                message = composer.message(rendered, dates.get(identity(rendered), now))
            except RowError:
                if selection:
                    raise
                continue
            count += 1
            yield message

    def dates(self) -> dict[str, datetime]:
        """Give the Date of every message that was handed over before, by the row's key."""
        path = self.existing_ledger()
        if path is None:
            return {}
        with self._looking(path) as ledger:
            entries = (result.delivery for result in ledger.results()) if ledger else iter(())
            return {entry.key: entry.date for entry in entries if entry and entry.date}

    # --- sending -----------------------------------------------------------------------------------------

    def send(
        self,
        request: SendRequest | None = None,
        *,
        confirm: Callable[[Plan], bool] = lambda _plan: True,
        observe: Callable[[Progress], None] = lambda _progress: None,
        stop: StopFlag | None = None,
        clock: Clock | None = None,
    ) -> Report | None:
        """Plan, ask *confirm*, send what is left, write the result files.

        Args:
            request: which rows, and how.
            confirm: is shown the plan; False ends it before anything is sent.
            observe: is told of every step.
            stop: an event that ends the run after the messages in flight.
            clock: replaces the machine's clock.

        Returns:
            The report; None if *confirm* declined or the request was a dry run.

        Raises:
            MailmergeError: nothing was sent.

        """
        from mailmerge.campaign import run

        return run.send(
            self,
            request or run.SendRequest(),
            confirm=confirm,
            observe=observe,
            stop=stop or run.NeverStop(),
            clock=clock,
        )

    # --- after -------------------------------------------------------------------------------------------

    def status(self) -> CampaignStatus:
        """Say where every row stands, from the ledger alone.

        Raises:
            LedgerError: the ledger cannot be read.

        """
        path = self.existing_ledger()
        if path is None:
            return CampaignStatus(Counts())
        with self._looking(path) as ledger:
            if ledger is None:
                return CampaignStatus(Counts())
            last = ledger.last_run()
            return CampaignStatus(
                ledger.counts(),
                next_at=ledger.next_due(),
                last_run=last.started if last else None,
                unfinished=bool(last and last.ended is None),
            )

    def report(self, wanted: ReportOptions | None = None) -> Report:
        """Write the result files and the report page again from the ledger.

        Args:
            wanted: which files; default: those that every run writes.

        Raises:
            LedgerError: there is no ledger, or it cannot be read.
            ListError: there is no list that could be copied.

        """
        from mailmerge.campaign import results

        return results.report(self, wanted or results.ReportOptions())

    def in_doubt(self, rows: str | None = None) -> list[Result]:
        """Give the rows that a person has to decide about."""
        path = self.existing_ledger()
        if path is None:
            return []
        selection = parse_rows(rows) if rows else None
        with self._looking(path) as ledger:
            doubtful = ledger.in_doubt() if ledger else []
        return [result for result in doubtful if selection is None or result.row in selection]

    def resolve(self, rows: str | None, *, as_accepted: bool) -> int:
        """Settle rows in doubt (None: all): accepted, or to be sent again; return how many."""
        with self._changing() as ledger:
            keys = _keys(ledger, rows)
            return ledger.resolve(keys, as_accepted=as_accepted)

    def requeue(self, rows: str | None = None, *, failed: Path | None = None, accepted: bool = False) -> int:
        """Make rejected and expired rows (or accepted ones) pending again; return how many.

        Args:
            rows: which rows of the list as the last run saw it; None: all.
            failed: a ``failed.csv``: the people in it, wherever in the list they are now.
            accepted: accepted rows instead, which will get the message twice.

        Raises:
            ValueError: both *rows* and *failed* are given.
            LedgerError: there is no ledger, or it cannot be written.
            InputError: *failed* cannot be read, or does not tell whom it is about.

        """
        if rows is not None and failed is not None:
            raise ValueError("rows and failed exclude each other")
        with self._changing() as ledger:
            if failed is None:
                return ledger.requeue(_keys(ledger, rows), accepted=accepted)
            from mailmerge.campaign.reporting import keys_in_failed

            keys = keys_in_failed(failed, lambda path: self._identities(path, ledger.secret))
            return ledger.requeue(keys, accepted=accepted)

    def _identities(self, path: Path, secret: bytes) -> Iterator[str]:
        """Tell who the rows of a list are that has the columns of the campaign's own."""
        data = self.file.data
        recipients = open_list(path, key=data.key, types=data.types, defaults=data.defaults)
        composer = self.assemble(recipients, secret) if data.key is None else None
        for recipient in recipients:
            yield identity(composer.render(recipient)) if composer else recipient.key or ""

    def purge(self) -> None:
        """Remove personal data from the ledger, the list's copies, and the files in the out folder."""
        self.workspace.check_folders()  # a campaign is purged once, so not by halves
        with self._changing() as ledger:
            ledger.purge()
        self.workspace.remove_personal_files()

    @contextlib.contextmanager
    def _looking(self, path: Path) -> Iterator[LedgerReader | None]:
        """Open the ledger read-only; None if this campaign is not in it yet."""
        try:
            ledger = Ledger.open_read_only(path, self.name)
        except LedgerError as error:
            if error.code != "L705":
                raise
            yield None
            return
        with ledger:
            yield ledger

    @contextlib.contextmanager
    def _changing(self) -> Iterator[Ledger]:
        """Open the ledger for a person's decision."""
        path = self.workspace.ledger_path
        if not path.exists():
            raise LedgerError(
                f"there is no ledger at {path}", code="L705", hint="nothing was sent from here yet"
            )
        with Ledger.lock(path), Ledger.open(path, self.name, create=False) as ledger:
            ledger.repair()
            yield ledger


def _is_whole(options: Mapping[str, object]) -> bool:
    """Tell whether options describe a campaign that needs no file: list, subject and body."""
    has_body = "message.text" in options or "message.html" in options
    return has_body and "data.source" in options and "message.subject" in options


class CampaignStatus(Struct, frozen=True):
    """Where a campaign stands."""

    counts: Counts
    next_at: datetime | None = None
    """When the first deferred row is due."""
    last_run: datetime | None = None
    unfinished: bool = False
    """The last run is still going on, or was killed."""


def _keys(ledger: Ledger, rows: str | None) -> list[str] | None:
    if rows is None:
        return None
    return ledger.keys_in(parse_rows(rows).ranges)
