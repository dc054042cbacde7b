"""`Campaign`: a list, templates and an account, and everything that can be done with them."""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import campaign_file
from mailmerge.campaign.assembly import Assembly, identity
from mailmerge.campaign.plan import Plan
from mailmerge.campaign.preflight import Inspection, run_preflight
from mailmerge.campaign.workspace import Workspace, user_state_folder
from mailmerge.check.problems import Problems
from mailmerge.delivery.ledger import Ledger
from mailmerge.environment import Environment
from mailmerge.errors import LedgerError, ListError, RowError
from mailmerge.model import Counts
from mailmerge.recipients import open_list, parse_rows
from mailmerge.recipients.suppression import Suppressed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mailmerge.accounts import Account
    from mailmerge.campaign_file import CampaignFile
    from mailmerge.model import Message
    from mailmerge.recipients import RecipientList


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
    ) -> Campaign:
        """Open the campaign in a folder (or its ``.toml`` file), or one that *options* describe alone.

        Args:
            path: folder or file; None: the working directory.
            options: values by name, such as ``data.source`` or ``message.subject``.
            settings: ``section.key=value`` texts.
            environ: environment variables.
            out: folder of reports.

        Raises:
            CampaignFileError: with every problem in it.

        """
        environ = os.environ if environ is None else environ
        options = {name: value for name, value in (options or {}).items() if value is not None}
        source = options.get("data.source")
        body = "message.text" in options or "message.html" in options
        alone = path is None and source and body and "message.subject" in options
        path = Path(str(source)).parent if alone else Path(path or ".")
        folder = path.parent if path.suffix == ".toml" else path
        environment = Environment.read(folder, environ)
        if alone:
            file = campaign_file.from_options(folder, options, settings=settings, environ=environment)
        else:
            file = campaign_file.load(path, campaign_file.Overrides(options, settings, environment))
        return cls(file, environment=environment, out=out)

    @property
    def name(self) -> str:
        """The campaign's name, its identity in the ledger."""
        return self.file.name

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

    def check(self, *, progress: Callable[[int], None] = lambda _rows: None) -> Plan:
        """Render every row and collect all problems; open no socket, write nothing.

        Raises:
            ListError: the list cannot be read.
            TemplateError: templates that do not compile.

        """
        with Ledger.scratch(self._existing_ledger(), self.name) as ledger:
            return self.examine(ledger, self.open_list(), progress=progress)

    def _existing_ledger(self) -> Path | None:
        path = self.workspace.ledger_path
        return path if path.exists() else None

    def assemble(self, recipients: RecipientList, secret: bytes, account: Account | None = None) -> Assembly:
        """Compile the templates for this list.

        Raises:
            TemplateError: with every problem in them.

        """
        return Assembly(self.file, recipients.columns, secret, account)

    def examine(
        self,
        ledger: Ledger,
        recipients: RecipientList,
        assembly: Assembly | None = None,
        *,
        account: Account | None = None,
        progress: Callable[[int], None] = lambda _rows: None,
    ) -> Plan:
        """Run the pre-flight into *ledger* and say what it found."""
        assembly = assembly or self.assemble(recipients, ledger.secret, account)
        problems = Problems(self.file.check.ignore)
        problems.add(recipients.warnings)
        suppressed = Suppressed(self.file.data.suppress)
        inspection = Inspection(assembly, suppressed, account.max_size if account else None, problems)
        found = run_preflight(
            recipients,
            inspection,
            ledger,
            problems,
            duplicates=self.file.data.duplicates,
            progress=progress,
        )
        if not found.rows:
            _refuse_empty(recipients)
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
        )

    def messages(self, *, rows: str | None = None, limit: int | None = None) -> Iterator[Message]:
        """Yield the messages as they would be sent, in the list's order.

        Rows that would not be sent are left out; rows that were contacted before get the Date they had
        then, so that their bytes are those that went over the wire.

        Raises:
            RowError: a row that was named in *rows* cannot become a message.

        """
        selection = parse_rows(rows) if rows else None
        recipients = self.open_list()
        assembly = self.assemble(recipients, self.workspace.secret(self.name))
        dates = self._dates()
        now = datetime.now(UTC).astimezone()
        count = 0
        for recipient in recipients:
            if limit is not None and count >= limit:
                return
            if (selection and recipient.row not in selection) or not assembly.selects(recipient):
                continue
            try:
                rendered = assembly.render(recipient)
                message = assembly.message(rendered, dates.get(identity(rendered), now))
            except RowError:
                if selection:
                    raise
                continue
            count += 1
            yield message

    def _dates(self) -> dict[str, datetime]:
        path = self._existing_ledger()
        if path is None:
            return {}
        try:
            with Ledger.open_read_only(path, self.name) as ledger:
                deliveries = (result.delivery for result in ledger.results())
                return {entry.key: entry.date for entry in deliveries if entry and entry.date}
        except LedgerError as error:
            if error.code == "L705":
                return {}
            raise


def _refuse_empty(recipients: RecipientList) -> None:
    raise ListError(
        f"{recipients.shown} has no rows",
        code="D101",
        hint=f"it has a header ({', '.join(recipients.columns.headings[:6])}) and nothing below it",
    )
