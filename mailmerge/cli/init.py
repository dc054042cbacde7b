"""``mailmerge init``: a campaign folder from a list."""

from __future__ import annotations

import os
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import interactive, note, out
from mailmerge.options import StockTemplate
from mailmerge.suggest import Invocation, suggested
from mailmerge.text import plural, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.campaign.scaffold import Scaffold
    from mailmerge.recipients.encodings import Encoding

_PATH = click.Path(path_type=Path)


@click.command("init")
@click.argument("folder", type=_PATH, default=Path("campaign"), required=False)
@options_of("init")
def init(
    *,
    folder: Path,
    kind: StockTemplate | None,
    account: str | None,
    data_source: Path | None,
    data_sheet: str | None,
    data_encoding: str | None,
    message_from: str | None,
    message_subject: str | None,
) -> int:
    """Make FOLDER with campaign.toml, templates and your list, ready for `mailmerge check`.

    Your list is copied, and its columns are put into the templates. What is not given as an option is asked
    for, if there is a terminal.
    """
    from mailmerge.campaign.scaffold import make_campaign, sample_list
    from mailmerge.campaign.standard_input import MARK, passing
    from mailmerge.plan.cache import user_cache_folder
    from mailmerge.recipients import open_list
    from mailmerge.recipients.encodings import Unclear

    if interactive():
        if data_source is None:
            answer = click.prompt("Your list (Enter for a sample)", default="", show_default=False, err=True)
            data_source = Path(answer) if answer else None
        choice = click.Choice(get_args(StockTemplate))
        kind = kind or click.prompt("Template", type=choice, default="plain", err=True)
        message_from = message_from or click.prompt("Sender", default="me@example.org", err=True)
        message_subject = (
            message_subject or click.prompt("Subject", default="", show_default=False, err=True) or None
        )
    with ExitStack() as stack:
        given, shown = data_source or sample_list(), None
        if given.name == MARK:
            given, shown = stack.enter_context(passing(user_cache_folder(os.environ), "people"))
        opened = partial(open_list, given, shown=shown, sheet=data_sheet, hidden="send")
        try:
            recipients = opened(encoding=data_encoding)
        except Unclear as error:
            if not interactive():
                raise
            data_encoding = _ask_encoding(shown or str(given), error.likely)
            recipients = opened(encoding=data_encoding)
        made = make_campaign(
            folder,
            recipients,
            kind=kind or "plain",
            sender=message_from or "me@example.org",
            subject=message_subject,
            account=account,
            sheet=data_sheet,
            encoding=data_encoding,
        )
    _tell(made)
    return 0


def _ask_encoding(shown: str, likely: Sequence[Encoding]) -> str:
    """Ask which encoding a list is in, of which only a person can say it."""
    note(f"The encoding of {shown} is not certain. Which line shows its names as they are?")
    widest = max(width(found.name) for found in likely)
    for number, found in enumerate(likely, 1):
        note(f"  {number}  {found.name}{' ' * (widest - width(found.name))}  {', '.join(found.words)}")
    answer = click.prompt("Number, or the name of another encoding", default="1", err=True).strip()
    codecs = {str(number): found.codec for number, found in enumerate(likely, 1)}
    return codecs.get(answer, answer)


def _tell(made: Scaffold) -> None:
    columns = ", ".join(made.headings)
    out(f"Read {made.files[-1]} ({made.read_as}): {plural(made.rows, 'row')}; columns: {columns}")
    out(f"Created {made.folder}/: {'  '.join(made.files)}")
    out(f"The messages go to the addresses in column `{made.address_column}`.")
    if made.file_column:
        files = f"{made.folder}/attachments/{{{{ {made.file_column} }}}}.pdf"
        out(f"Each row gets the file {files}: put them there.")
    out(f"Next: {suggested(Invocation('init', str(made.folder)), 'check')}")
