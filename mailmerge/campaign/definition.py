"""What a campaign is before anything is done with it: its file, its list, its folders and its variables.

Every command works on a `Definition`; the facade `Campaign` is one of them with the commands around it.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.plan.composer import Composer, identity
from mailmerge.recipients import open_list

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.campaign.workspace import Workspace
    from mailmerge.config.accounts import Account
    from mailmerge.config.campaign_file import CampaignFile
    from mailmerge.config.environment import Environment
    from mailmerge.recipients import RecipientList
    from mailmerge.suggest import Invocation


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

    @property
    def name(self) -> str:
        """The campaign's name, its identity in the ledger."""
        return self.file.name

    def open_list(self, copy: Path | None = None) -> RecipientList:
        """Open the recipient list, or a private *copy* of it under the list's name.

        Raises:
            ListError: it cannot be read.

        """
        if self.given_list is not None:
            return self.given_list
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

    def identities(self, path: Path) -> Iterator[str]:
        """Tell who the rows of a list are that has the columns of the campaign's own."""
        data = self.file.data
        recipients = open_list(path, key=data.key, types=data.types, defaults=data.defaults)
        composer = self.composer(recipients) if data.key is None else None
        for recipient in recipients:
            yield identity(composer.render(recipient)) if composer else recipient.key or ""

    def composer(self, recipients: RecipientList, account: Account | None = None) -> Composer:
        """Compile the templates for this list.

        Raises:
            TemplateError: with every problem in them.

        """
        return Composer(self.file, recipients.columns, account, list_name=recipients.shown)
