"""``mailmerge init``: a campaign folder from a list."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailmerge.cli.output import interactive, out
from mailmerge.text import plural

if TYPE_CHECKING:
    from mailmerge.campaign.scaffold import Scaffold

_KINDS = ("plain", "newsletter", "invoice", "announcement")
_PATH = click.Path(path_type=Path)


@click.command("init")
@click.argument("folder", type=_PATH, default=Path("campaign"), required=False)
@click.option(
    "--list", "list_file", type=_PATH, metavar="FILE", help="Your list (CSV, TSV, XLSX); it is copied."
)
@click.option("--sheet", metavar="NAME", help="The sheet of a workbook; default: the first.")
@click.option("--template", "kind", type=click.Choice(_KINDS), help="Which stock template to start from.")
@click.option("--from", "sender", metavar="MAILBOX", help="The sender: 'Name <address>'.")
@click.option("--subject", metavar="TEXT", help="The subject line.")
@click.option("--account", metavar="NAME", help="An account of your config, or a preset such as gmail.")
def command(
    *,
    folder: Path,
    list_file: Path | None,
    sheet: str | None,
    kind: str | None,
    sender: str | None,
    subject: str | None,
    account: str | None,
) -> int:
    """Make FOLDER with campaign.toml, templates and your list, ready for `mailmerge check`.

    The columns of the list are put into the templates. What is not given as an option is asked for, if
    there is a terminal.
    """
    from mailmerge.campaign.scaffold import make_campaign, sample_list
    from mailmerge.recipients import open_list

    if interactive():
        if list_file is None:
            answer = click.prompt("Your list (Enter for a sample)", default="", show_default=False, err=True)
            list_file = Path(answer) if answer else None
        kind = kind or click.prompt("Template", type=click.Choice(_KINDS), default="plain", err=True)
        sender = sender or click.prompt("Sender", default="me@example.org", err=True)
        subject = subject or click.prompt("Subject", default="", show_default=False, err=True) or None
    made = make_campaign(
        folder,
        open_list(list_file or sample_list(), sheet=sheet, hidden="send"),
        kind=kind or "plain",
        sender=sender or "me@example.org",
        subject=subject,
        account=account,
        sheet=sheet,
    )
    _tell(made)
    return 0


def _tell(made: Scaffold) -> None:
    columns = ", ".join(made.headings)
    out(f"Read {made.files[-1]} ({made.dialect}): {plural(made.rows, 'row')}; columns: {columns}")
    out(f"Created {made.folder}/: {'  '.join(made.files)}")
    out(f"The messages go to the addresses in column `{made.address_column}`.")
    out(f"Next: mailmerge check {made.folder}")
