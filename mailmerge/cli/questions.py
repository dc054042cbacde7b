"""What is asked at a terminal to make a campaign: each answer is checked before the next question."""

from __future__ import annotations

import os
import re
import shlex
from collections import deque
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, get_args
from urllib.parse import unquote, urlsplit
from urllib.request import url2pathname

import click

from mailmerge.cli.output import interactive, note, show_diagnostics
from mailmerge.errors import CampaignFileError, ListError
from mailmerge.options import StockTemplate
from mailmerge.text import padded, width

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailmerge.errors import InputError
    from mailmerge.recipients import RecipientList
    from mailmerge.recipients.encodings import Encoding

READING: Final = ("sheet", "range", "header", "encoding", "delimiter", "hidden", "key", "types")
"""Keys of ``[data]`` that specify how the list is read."""
_QUESTIONS: Final = frozenset({"D200", "D201", "D205", "D240"})
"""Errors whose hint names options, one of which is the answer: a row, a sheet, a table, a delimiter."""
LEAVE: Final = frozenset({"q", "quit", "exit"})
"""Answers that leave."""
HIDDEN: Final = "D121"
"""The error about rows or columns that are hidden."""
_MOST_QUESTIONS: Final = 8


def asked(question: str, default: str = "", *, shown: bool = True) -> str:
    """Ask for a line of text at the terminal; Enter gives *default*."""
    answer: str = click.prompt(question, default=default, show_default=shown and bool(default), err=True)
    return answer.strip()


def dropped_path(text: str) -> Path:
    r"""Read a path as terminals write it when a file is dragged in.

    That is quoted (``'/a b.csv'``, ``"C:\a b.csv"``, PowerShell's ``& 'C:\a b.csv'``), with ``\`` before
    spaces, or as a ``file://`` address.
    """
    text = text.strip()
    if re.match(r"['\"]?file:", text, re.IGNORECASE):
        parts = urlsplit(text.strip("'\""))
        host = f"//{parts.netloc}" if parts.netloc not in {"", "localhost"} else ""
        return Path(url2pathname(host + parts.path))
    if Path(text).exists():
        return Path(text)
    text = re.sub(r"\A&\s+(?=['\"])", "", text)
    if re.fullmatch(r"'(?:[^']|'')*'|\"[^\"]*\"", text) and "\\''" not in text:
        return _at_home(text[1:-1].replace("''", "'") if text[0] == "'" else text[1:-1])
    if os.name != "nt":
        try:
            words = shlex.split(text)
        except ValueError:  # a quote in a name that was typed
            words = []
        if len(words) == 1:
            return _at_home(words[0])
    return _at_home(unquote(text) if "%20" in text and not Path(text).exists() else text)


def _at_home(text: str) -> Path:
    return Path(text).expanduser() if text.startswith("~") else Path(text)


def until_right(ask: Callable[[], Any]) -> Any:
    """Ask until the answer is valid; show each time what is wrong with it."""
    while True:
        try:
            return ask()
        except (CampaignFileError, ListError) as error:
            show_diagnostics(error.diagnostics)


def ask_sender(default: str = "me@example.org", ask: Callable[[str, str], str] = asked) -> str:
    """Ask who the letter is from, until the answer is a mailbox."""
    return str(until_right(lambda: sender_of(ask("Sender", default))))


def sender_of(text: str) -> str:
    """Return the sender that was typed, checked; a template is checked with the campaign.

    Raises:
        CampaignFileError: it is not a mailbox.

    """
    from mailmerge.addresses import AddressError, parse_address_list

    if "{" in text:
        return text
    try:
        if len(parse_address_list(text)) == 1:
            return text
        reason = "it is more than one"
    except AddressError as error:
        reason = str(error)
    raise CampaignFileError(
        f'"{text}" is not a sender: {reason}',
        code="C562",
        hint="write me@example.org, or Me <me@example.org>",
    )


def ask_list(reading: dict[str, Any]) -> RecipientList | None:
    """Ask for the list until it can be opened; return None if a sample is wanted instead."""
    from mailmerge.campaign.scaffold import refuse_without_addresses

    def ask() -> RecipientList | None:
        text = asked("Your list: drag the file here, or type its name (Enter for a sample)")
        if not text:
            return None
        recipients = opened(dropped_path(text), None, reading)
        refuse_without_addresses(recipients)
        return recipients

    found: RecipientList | None = until_right(ask)
    return found


def stock_templates() -> list[str]:
    """Return a line for each stock template: its name, and what it is."""
    from mailmerge.campaign.scaffold import STOCK_TEMPLATES

    widest = max(map(width, STOCK_TEMPLATES))
    return [f"{padded(name, widest)}  {line}" for name, line in STOCK_TEMPLATES.items()]


def ask_template(ask: Callable[[str, str], str] = asked) -> StockTemplate:
    """Ask which stock template to start from, until the answer is one."""
    for line in stock_templates():
        note(f"  {line}")
    names = get_args(StockTemplate)
    while True:
        answer = ask("Template", "letter").lower()
        for name in names:
            if answer == name:
                template: StockTemplate = name
                return template
        note(f'"{answer}" is not one of them: {", ".join(names)}')


def types_of(given: Sequence[str]) -> dict[str, str] | None:
    """Read ``amount=decimal``; return None if nothing was given.

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
    """Open the list by the options in *reading*; a person's answers are added to them."""
    from mailmerge.recipients import open_list
    from mailmerge.recipients.encodings import Unclear

    asks = _MOST_QUESTIONS if interactive() else 0
    while True:
        known = {"area" if name == "range" else name: value for name, value in reading.items()}
        known = {name: value for name, value in known.items() if value is not None}
        # Where nobody can be asked about hidden rows, `check` reports that a decision is needed.
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
        except (CampaignFileError, ListError) as error:
            if not asks:
                raise
            _ask_about(error, reading)
            asks -= 1
        else:
            return recipients


def _ask_about(error: CampaignFileError | ListError, reading: dict[str, Any]) -> None:
    """Ask what was wrong with how a list is read, and put the answer there.

    Raises:
        CampaignFileError, ListError: the error itself, which no answer can cure.

    """
    if wrong := _wrong_name(error):
        show_diagnostics(error.diagnostics)
        answer = asked(f"{wrong.capitalize()} (Enter: the one that is found; Ctrl-C quits)")
        reading[wrong] = answer or None
        return
    choices = _choices(error)
    if not choices:
        raise error
    name, answer = _ask(error.message, choices)
    reading[name] = int(answer) if name == "header" else answer


def _wrong_name(error: InputError) -> str | None:
    """Return the key whose value is a name that the list does not have."""
    if error.code == "D122":
        return "sheet"
    return "key" if error.code == "C420" and "`data.key`" in error.message else None


def _choices(error: InputError) -> list[tuple[str, str]]:
    """Return the options that an error offers, each with a value; an empty list if it is not a question."""
    if error.code == HIDDEN:
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
    while True:
        picked = _or_left(asked(f"Number (1-{len(choices)}, q quits)"))
        if picked.isascii() and picked.isdigit() and 0 < int(picked[:9]) <= len(choices):
            return choices[int(picked) - 1]


def _or_left(answer: str) -> str:
    """Return an answer unless it is q, which leaves as Ctrl-C does."""
    if answer.lower() in LEAVE:
        raise click.Abort
    return answer


def _ask_encoding(shown: str, likely: Sequence[Encoding]) -> str:
    """Ask which encoding a list is in, where only a person can tell."""
    note(f"The encoding of {shown} is not certain. Which line shows its names correctly?")
    widest = max(width(found.name) for found in likely)
    for number, found in enumerate(likely, 1):
        note(f"  {number}  {padded(found.name, widest)}  {', '.join(found.words)}")
    answer = _or_left(asked("Number, or the name of another encoding (q quits)", "1"))
    codecs = {str(number): found.codec for number, found in enumerate(likely, 1)}
    return codecs.get(answer, answer)
