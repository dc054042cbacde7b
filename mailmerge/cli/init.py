"""``mailmerge init``: a campaign folder from a list."""

from __future__ import annotations

import os
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import interactive, out
from mailmerge.cli.questions import (
    READING,
    ask_list,
    ask_sender,
    ask_template,
    asked,
    opened,
    sender_of,
    stock_templates,
    types_of,
)
from mailmerge.errors import CampaignFileError
from mailmerge.options import LIST, StockTemplate
from mailmerge.suggest import Invocation, suggested
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.campaign.scaffold import Scaffold
    from mailmerge.recipients import RecipientList

_PATH = click.Path(path_type=Path)


@click.command("init")
@click.argument("folder", type=_PATH, default=Path("campaign"), required=False)
@options_of("init")
def init(*, folder: Path, kind: Any, copy_list: bool, **options: Any) -> int:
    """Create FOLDER with campaign.toml and templates for your list, ready for `mailmerge check`.

    The list stays where it is: campaign.toml names it by its path, and its columns are put into the
    templates. --copy copies it into the folder. In a terminal, the command asks for what is not given as an
    option. `mailmerge init --template` lists the templates to start from.

    --from imports a design made for another program, or a draft saved as .eml: its placeholders become
    columns, its pictures and attachments are copied.

    \b
    Example:
      mailmerge init spring --list people.xlsx --from "Me <me@example.org>" --subject "News for spring"
    """  # noqa: D301  click's own mark
    if kind == LIST:
        for line in stock_templates():
            out(line)
        return 0
    from mailmerge.campaign.scaffold import (
        Sending,
        make_campaign,
        refuse_campaign,
        sample_list,
    )
    from mailmerge.campaign.standard_input import MARK, passing
    from mailmerge.plan.cache import user_cache_folder

    refuse_campaign(folder)
    design, sender = origins(options["origins"])
    reading = {name: options.get(f"data_{name}") for name in READING}
    reading["types"] = types_of(options["types"])
    source: Path | None = options["data_source"]
    with ExitStack() as stack:
        recipients: RecipientList | None
        if source is not None and source.name == MARK:
            source, shown = stack.enter_context(passing(user_cache_folder(os.environ), "people"))
            recipients, copy_list = opened(source, shown, reading), True
        else:
            recipients = _list_of(source, reading)
        told = _Details(kind, sender, options["message_subject"], options["account"])
        if interactive():
            told = _asked(told, design)
        made = make_campaign(
            folder,
            recipients or opened(sample_list(), None, reading),
            kind=design or told.kind or "letter",
            sender=told.sender,
            subject=told.subject,
            sending=Sending(told.account),
            reading=reading,
            copy=copy_list or recipients is None,
        )
    tell(made)
    return 0


class _Details(NamedTuple):
    """What is known about the campaign besides its list."""

    kind: StockTemplate | None
    sender: str | None
    subject: str | None
    account: str | None


def _list_of(source: Path | None, reading: dict[str, Any]) -> RecipientList | None:
    """Open the list that was named, or ask for one; None: it is neither, and nobody can be asked."""
    from mailmerge.campaign.scaffold import refuse_without_addresses

    if source is None:
        return ask_list(reading) if interactive() else None
    recipients = opened(source, None, reading)
    refuse_without_addresses(recipients)
    return recipients


def _asked(told: _Details, design: Path | None) -> _Details:
    """Ask for what was not given."""
    from mailmerge.campaign.adoption import is_draft
    from mailmerge.cli.login import offered

    kind, sender, subject, account = told
    kind = kind or (None if design else ask_template())
    if design is None or not is_draft(design):
        sender = sender_of(sender) if sender else ask_sender()
        subject = subject or asked("Subject") or None
    if account is None:
        account = offered(sender or "me@example.org")
    return _Details(kind, sender, subject, account)


def origins(given: Sequence[str]) -> tuple[Path | None, str | None]:
    """Split the values of ``--from`` into a design or draft and a sender.

    Raises:
        CampaignFileError: there are two designs or two senders.

    """
    from mailmerge.campaign.adoption import is_design

    designs = [text for text in given if is_design(text)]
    senders = [text for text in given if not is_design(text)]
    if len(designs) > 1 or len(senders) > 1:
        raise CampaignFileError(
            "--from names more than one design, or more than one sender",
            code="C500",
            hint="give one file, and one mailbox: --from design.html --from 'Me <me@example.org>'",
        )
    return (Path(designs[0]) if designs else None), (senders[0] if senders else None)


def tell(made: Scaffold) -> None:
    """Show what was made, from which list, and what comes next."""
    columns = ", ".join(made.headings)
    out(f"Read {made.source} ({made.read_as}): {plural(made.rows, 'row')}; columns: {columns}")
    out(f"Created {made.folder}/: {'  '.join(made.files)}")
    for line in (*made.adopted, *made.warnings):
        out(line)
    out(f"The messages go to the addresses in column `{made.address_column}`.")
    if made.file_column:
        files = f"{made.folder}/attachments/{{{{ {made.file_column} }}}}.pdf"
        out(f"Each row gets the file {files}: put them there.")
    out(f"Next: {suggested(Invocation('init', str(made.folder)), 'check')}")
