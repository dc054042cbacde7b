"""``mailmerge init``: a campaign folder from a list."""

from __future__ import annotations

import os
import shlex
from collections import deque
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import interactive, note, out
from mailmerge.errors import CampaignFileError, ListError
from mailmerge.options import LIST, StockTemplate
from mailmerge.suggest import Invocation, suggested
from mailmerge.text import plural, width

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.campaign.scaffold import Scaffold
    from mailmerge.recipients import RecipientList
    from mailmerge.recipients.encodings import Encoding

READING: Final = ("sheet", "range", "header", "encoding", "delimiter", "hidden", "key", "types")
"""Keys of ``[data]`` that say how the list is read."""
_QUESTIONS: Final = frozenset({"D200", "D201", "D205", "D240"})
"""Errors whose hint names options, one of which is the answer: a row, a sheet, a table, a delimiter."""
_HIDDEN: Final = "D121"
_MOST_QUESTIONS: Final = 8
_PATH = click.Path(path_type=Path)


@click.command("init")
@click.argument("folder", type=_PATH, default=Path("campaign"), required=False)
@options_of("init")
def init(*, folder: Path, kind: Any, **options: Any) -> int:
    """Make FOLDER with campaign.toml, templates and your list, ready for `mailmerge check`.

    Your list is copied, and its columns are put into the templates. What is not given as an option is asked
    for, if there is a terminal. `mailmerge init --template` lists the templates to start from.

    A design that was made for another program, or a draft that you have saved as .eml, is taken over by
    --from: its placeholders become columns, its pictures and attachments are copied.
    """
    if kind == LIST:
        for line in _stock_templates():
            out(line)
        return 0
    from mailmerge.campaign.adoption import is_draft
    from mailmerge.campaign.scaffold import Sending, make_campaign, sample_list
    from mailmerge.campaign.standard_input import MARK, passing
    from mailmerge.plan.cache import user_cache_folder

    source: Path | None = options["data_source"]
    design, sender = origins(options["origins"])
    subject = options["message_subject"]
    if interactive():
        if source is None:
            answer = click.prompt("Your list (Enter for a sample)", default="", show_default=False, err=True)
            source = Path(answer) if answer else None
        kind = kind or (None if design else _ask_template())
        if design is None or not is_draft(design):
            sender = sender or click.prompt("Sender", default="me@example.org", err=True)
            subject = subject or click.prompt("Subject", default="", show_default=False, err=True) or None
        if options["account"] is None:
            from mailmerge.cli.login import offered

            options["account"] = offered(sender or "me@example.org")
    reading = {name: options.get(f"data_{name}") for name in READING}
    reading["types"] = types_of(options["types"])
    with ExitStack() as stack:
        given, shown = source or sample_list(), None
        if given.name == MARK:
            given, shown = stack.enter_context(passing(user_cache_folder(os.environ), "people"))
        made = make_campaign(
            folder,
            opened(given, shown, reading),
            kind=kind or "letter",
            design=design,
            sender=sender,
            subject=subject,
            sending=Sending(options["account"]),
            reading=reading,
        )
    _tell(made)
    return 0


def origins(given: Sequence[str]) -> tuple[Path | None, str | None]:
    """Tell a design or draft from a sender: both are given by ``--from``.

    Raises:
        CampaignFileError: there are two of a kind.

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


def _stock_templates() -> list[str]:
    """Give a line for each stock template: its name, and what it is."""
    from mailmerge.campaign.scaffold import STOCK_TEMPLATES

    widest = max(map(len, STOCK_TEMPLATES))
    return [f"{name:{widest}}  {line}" for name, line in STOCK_TEMPLATES.items()]


def _ask_template() -> StockTemplate:
    for line in _stock_templates():
        note(f"  {line}")
    choice = click.Choice(get_args(StockTemplate))
    answer: StockTemplate = click.prompt(
        "Template", type=choice, default="letter", err=True, show_choices=False
    )
    return answer


def types_of(given: Sequence[str]) -> dict[str, str] | None:
    """Read ``amount=decimal``; None: nothing was given.

    Raises:
        CampaignFileError: one of them is not a column and a type.

    """
    types = {}
    for text in given:
        column, sign, kind = text.rpartition("=")
        if not (sign and column.strip() and kind.strip()):
            raise CampaignFileError(
                f'"{text}" is not a column and its type',
                code="C500",
                hint="write --type amount=decimal, or --type due=date:%d/%m/%Y",
            )
        types[column.strip()] = kind.strip()
    return types or None


def opened(source: Path, shown: str | None, reading: dict[str, Any]) -> RecipientList:
    """Open the list with what is known of how to read it; what a person answers is added to that."""
    from mailmerge.recipients import open_list
    from mailmerge.recipients.encodings import Unclear

    asks = _MOST_QUESTIONS if interactive() else 0
    while True:
        known = {"area" if name == "range" else name: value for name, value in reading.items()}
        known = {name: value for name, value in known.items() if value is not None}
        # Where nobody can be asked about hidden rows, `check` says that they are to be decided about.
        hidden = known.pop("hidden", "refuse" if asks else "send")
        try:
            recipients = open_list(source, shown=shown, hidden=hidden, **known)
            if asks and hidden == "refuse":
                deque(recipients, maxlen=0)
        except Unclear as error:
            if not asks:
                raise
            reading["encoding"] = _ask_encoding(shown or str(source), error.likely)
            asks -= 1
        except ListError as error:
            choices = _choices(error) if asks else []
            if not choices:
                raise
            name, answer = _ask(error.message, choices)
            reading[name] = int(answer) if name == "header" else answer
            asks -= 1
        else:
            return recipients


def _choices(error: ListError) -> list[tuple[str, str]]:
    """Give the options that an error names as ways out, each with a value; none: it is no question."""
    if error.code == _HIDDEN:
        return [("hidden", value) for value in ("skip", "send")]
    if error.code not in _QUESTIONS:
        return []
    words = shlex.split((error.hint or "").replace(",", " "))
    found = [(word[2:], value) for word, value in pairwise(words) if word.startswith("--")]
    # Whether hidden rows go is asked when a hidden sheet was chosen.
    return [(name, value) for name, value in found if name in READING and name != "hidden"]


def _ask(question: str, choices: Sequence[tuple[str, str]]) -> tuple[str, str]:
    note(f"{question}.")
    for number, (name, value) in enumerate(choices, 1):
        note(f"  {number}  {name} {value}")
    picked = click.prompt("Number", type=click.IntRange(1, len(choices)), err=True)
    return choices[picked - 1]


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
    for line in made.adopted:
        out(line)
    out(f"The messages go to the addresses in column `{made.address_column}`.")
    if made.file_column:
        files = f"{made.folder}/attachments/{{{{ {made.file_column} }}}}.pdf"
        out(f"Each row gets the file {files}: put them there.")
    out(f"Next: {suggested(Invocation('init', str(made.folder)), 'check')}")
