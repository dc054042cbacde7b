"""What a campaign is before anything is done with it: its file, its list, its folders and its variables.

Every command works on a `Definition`; the facade `Campaign` adds the commands to one.
"""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.campaign.outside import refuse_links_out
from mailmerge.campaign.standard_input import SHOWN, is_piped
from mailmerge.campaign.workspace import folder_of_name, user_state_folder
from mailmerge.config.environment import Environment
from mailmerge.errors import CampaignFileError, RowError, TemplateError
from mailmerge.ledger.place import FilePlace
from mailmerge.options import CAMPAIGN_FILE, MessageOptions
from mailmerge.output_folder import OutputFolder
from mailmerge.plan.cache import PlanCache, PlanOwner
from mailmerge.plan.composer import Composer, identity, recipe
from mailmerge.recipients import is_failed_text, is_utf_8, open_list
from mailmerge.suggest import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from mailmerge.campaign.standard_input import StandardInput
    from mailmerge.campaign.workspace import Workspace
    from mailmerge.config.accounts import Account
    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.ledger.place import LedgerPlace
    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.model import Recipient
    from mailmerge.recipients import RecipientList


NO_MESSAGE: Mapping[str, object] = {"message.subject": "-", "message.text": "-\n"}
"""Takes the message's place where only the ledger is read."""


def is_whole(options: Mapping[str, object]) -> bool:
    """Return whether options describe a campaign that needs no file: list, subject and body."""
    has_body = "message.text" in options or "message.html" in options
    return has_body and "data.source" in options and "message.subject" in options


def named_alone(options: Mapping[str, object], environ: Mapping[str, str]) -> bool:
    """Return whether only the name and the ledger of a campaign are known: its folder is not here.

    Raises:
        CampaignFileError: its ledger is named, and nothing else.

    """
    says_where = "ledger" in options or bool(environ.get("MAILMERGE_LEDGER"))
    if not says_where or "data.source" in options or Path(CAMPAIGN_FILE).exists():
        return False
    if "name" not in options:
        raise CampaignFileError(
            "which campaign? The ledger is named, but not the campaign, and no campaign.toml is here",
            code="C407",
            hint="--name NAME, its name in the ledger; the command `fleet` lists those that workers have",
        )
    return True


def by_ledger(options: Mapping[str, object], environ: Mapping[str, str]) -> dict[str, object]:
    """Return the options of a campaign of which only the name and the ledger are known; see `named_alone`.

    It has a folder of its own for the little that is kept here.
    """
    environment = Environment.read(Path(), environ)
    folder = folder_of_name(user_state_folder(environment), str(options["name"]))
    return {**NO_MESSAGE, "data.source": str(folder / "list"), **options}


def ledger_of(file: CampaignFile, environment: Environment, invocation: Invocation) -> ServerPlace | None:
    """Return the database that has a campaign's ledger; None: it is a file in its folder.

    Raises:
        CampaignFileError: its name is not known, or its source is not to be trusted.

    """
    if not file.ledger:
        return None
    from mailmerge.campaign import shared_ledger
    from mailmerge.config.accounts import default_config_path

    settings = invocation.given.get("settings", ())
    given = "ledger" in invocation.given or any(text.startswith("ledger=") for text in settings)
    where = default_config_path(environment)
    return shared_ledger.ledger_of(file, where, environment.real, given=given, typed=invocation.typed)


class Definition(Struct, frozen=True):
    """One campaign as its author described it."""

    file: CampaignFile
    environment: Environment
    """Variables for accounts and secrets."""
    workspace: Workspace
    invocation: Invocation
    """How a command line names it, for the commands that are suggested."""
    given_list: RecipientList | None = None
    """The list, where it was handed in as an object and not named in the campaign file."""
    given_account: Account | None = None
    """The account, where it was handed in as an object."""
    piped: StandardInput | None = None
    """Where the list is kept, if it is to come from standard input."""
    given_ledger: ServerPlace | None = None
    """The server that has its ledger; None: a file in its folder."""
    only_ledger: bool = False
    """Only its name and its ledger are known here: what was planned is in the database, too."""

    @property
    def name(self) -> str:
        """The campaign's name, its identity in the ledger."""
        return self.file.name

    @property
    def ledger_place(self) -> LedgerPlace:
        """Where its ledger is."""
        return self.given_ledger or FilePlace(self.workspace.ledger_path)

    @property
    def is_lost(self) -> bool:
        """Whether its ledger is on a server that does not answer now."""
        return self.given_ledger is not None and self.given_ledger.is_out_of_reach()

    @property
    def named(self) -> frozenset[str]:
        """The parameters that whoever runs the campaign has given, which override its file."""
        own = ("data_source",) if self.given_list is not None else ()
        return frozenset((*self.invocation.given, *own))

    @property
    def source(self) -> Path:
        """The file that the list is read from.

        Raises:
            ListError: standard input, where it is to come from, is empty.

        """
        return self.piped.path if self.piped else self.file.data.source

    @property
    def plan_cache(self) -> PlanCache:
        """Its kept plans."""
        workspace = self.workspace
        return PlanCache(workspace.cache, PlanOwner.of(workspace.folder, self.name))

    def shown(self, path: Path) -> str:
        """Return a list's name for messages."""
        return SHOWN if is_piped(path) else str(path)

    def open_list(self, copy: Path | None = None) -> RecipientList:
        """Open the recipient list, or a private *copy* of it under the list's name.

        Raises:
            ListError: it cannot be read.

        """
        if self.given_list is not None:
            return self.given_list
        refuse_links_out(self.file, self.environment, self.named)
        if self.piped is not None:
            recipients = self._open(copy or self.source, shown=SHOWN)
        else:
            recipients = self._open(copy or self.file.data.source, shown=str(self.file.data.source))
        own = self.own_list if recipients.is_failed_file else None
        if own is None or (copy is not None and not own.exists()):
            return recipients
        if own.exists() and own.samefile(recipients.path):
            return recipients
        from mailmerge.recipients.failed_list import FailedList

        # The encoding may be that of the file of failed rows alone, which a spreadsheet program has saved.
        campaign = self._open(own, shown=self.shown(own), perhaps=True)
        together = self.file.data.group_by is not None
        return FailedList(recipients, campaign, self._identifier(campaign), together=together)

    @property
    def counted(self) -> str:
        """What its figures count: a ``row``, or with ``data.group_by`` a ``message`` for one or several."""
        return "row" if self.file.data.group_by is None else "message"

    @property
    def own_list(self) -> Path | None:
        """The list of the latest run, or else that of the campaign file, whatever is used instead of it."""
        document = self.file.document
        data = document.tables.get("data")
        source = data.get("source") if isinstance(data, dict) else None
        declared = document.folder / Path(source).expanduser() if isinstance(source, str) else None
        latest = OutputFolder(self.workspace.out).list_path
        if latest is None or (declared is not None and declared.absolute() == latest):
            return declared
        here = Path.cwd()
        return latest.relative_to(here) if latest.is_relative_to(here) else latest

    def _open(self, path: Path, *, shown: str, perhaps: bool = False) -> RecipientList:
        data = self.file.data
        ours = bool(data.encoding or data.delimiter) and is_failed_text(path)
        known = ours or (perhaps and data.encoding is not None and is_utf_8(path))
        return open_list(
            path,
            shown=shown,
            sheet=data.sheet,
            area=data.range,
            header=data.header,
            key=data.key,
            hidden=data.hidden,
            encoding=None if known else data.encoding,
            delimiter=None if ours else data.delimiter,
            types=data.types,
            defaults=data.defaults,
        )

    def _identifier(self, recipients: RecipientList) -> Callable[[Recipient], str | None]:
        """Return a function from a row to its key; the templates are compiled at the first call."""
        if self.file.data.group_by is None and self.file.data.key is not None:
            return lambda recipient: recipient.key
        composers: list[Composer] = []

        def identify(recipient: Recipient) -> str | None:
            if not composers:
                composers.append(self.composer(recipients))
            try:
                composer = composers[0]
                return (
                    (composer.group(recipient) or None)
                    if composer.groups
                    else identity(composer.render(recipient))
                )
            except (RowError, TemplateError):
                return None

        return identify

    def identities(self, path: Path) -> Iterator[str]:
        """Yield the keys of the rows of a list that has the columns of the campaign's own."""
        data = self.file.data
        recipients = open_list(path, key=data.key, types=data.types, defaults=data.defaults)
        composer = self.composer(recipients) if data.key is None or data.group_by else None
        for recipient in recipients:
            if composer is not None and composer.groups:
                yield composer.group(recipient)
            else:
                yield identity(composer.render(recipient)) if composer else recipient.key or ""

    def file_for(self, recipients: RecipientList) -> CampaignFile:
        """Return the campaign file; if it does not set `to`, with the list's addresses as recipients."""
        message = self.file.message
        unsaid = message.to == MessageOptions.options["to"].default
        if not unsaid or "email" in recipients.columns.names or not recipients.addresses:
            return self.file
        to = f"{{{{ row[{json.dumps(recipients.addresses[0], ensure_ascii=False)}] }}}}"
        return replace(self.file, message=replace(message, to=(to,)))

    def account_of_sender(self) -> Account | None:
        """Return the account, if the sender comes from it; None: the campaign sets it, or nobody does."""
        from mailmerge.config.accounts import resolve_account

        if self.file.message.from_ is not None or self.given_account is not None:
            return self.given_account
        typed = self.invocation.typed
        with contextlib.suppress(CampaignFileError):
            return resolve_account(self.file.account, environment=self.environment, flags=typed)
        return None

    def composer(self, recipients: RecipientList, account: Account | None = None) -> Composer:
        """Compile the templates for this list.

        Raises:
            TemplateError: with every problem in them.

        """
        documents = self.plan_cache.documents
        account = account or self.account_of_sender()
        made = recipe(self.file_for(recipients), account, out=self.workspace.out, documents=documents)
        composer = Composer(made, recipients.columns, list_name=recipients.shown).sent_by(account)
        recipients.reads(composer.renderer.used_names)
        return composer


def by_name(file: CampaignFile, out: Path | None) -> Invocation:
    """Return how to name a campaign that was given as an object: a file may not be able to express it."""
    if file.path is not None:
        place = file.folder if file.path.name == CAMPAIGN_FILE else file.path
        return Invocation.programmed(place, {"name": file.name}, out=out)
    named = {"data.source": file.folder / file.data.source, "name": file.name}
    return replace(Invocation.programmed(None, named, out=out), unsaid=True)
