"""The options that several commands share, each written once and meaning the same everywhere."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mailmerge.campaign import Campaign

Function = TypeVar("Function", bound="Callable[..., Any]")
_PATH = click.Path(path_type=Path)


_CAMPAIGN = click.argument("campaign", type=_PATH, default=None, required=False)
_LEDGER = {
    "list_file": click.option(
        "--list", "list_file", type=_PATH, metavar="FILE", help="The list (CSV, TSV, XLSX)."
    ),
    "name": click.option("--name", metavar="NAME", help="The campaign's name in the ledger."),
    "settings": click.option(
        "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Override a key of campaign.toml."
    ),
    "out": click.option("--out", type=_PATH, metavar="DIR", help="Where reports are written; default: out/."),
}
_MESSAGE = {
    "sheet": click.option("--sheet", metavar="NAME", help="The sheet of a workbook; default: the first."),
    "key": click.option(
        "--key", metavar="COLUMN", help="The column that tells who a row is; default: the address."
    ),
    "hidden": click.option(
        "--hidden", type=click.Choice(["refuse", "skip", "send"]), help="What to do with hidden rows."
    ),
    "encoding": click.option(
        "--encoding", metavar="NAME", help="Encoding of a text list, if it is not UTF-8."
    ),
    "where": click.option(
        "--where", metavar="EXPR", help="Only rows for which this Jinja expression is true."
    ),
    "duplicates": click.option(
        "--duplicates",
        type=click.Choice(["first", "error", "allow"]),
        help="Rows that repeat an address; default: only the first is sent.",
    ),
    "suppress": click.option(
        "--suppress", multiple=True, type=_PATH, metavar="FILE", help="Never write to the addresses in it."
    ),
    "from_": click.option("--from", "from_", metavar="MAILBOX", help="The sender: 'Name <address>'."),
    "to": click.option(
        "--to", multiple=True, metavar="TEMPLATE", help="The recipient; default: {{ email }}."
    ),
    "cc": click.option("--cc", multiple=True, metavar="TEMPLATE", help="Copies."),
    "bcc": click.option(
        "--bcc", multiple=True, metavar="TEMPLATE", help="Blind copies: in the envelope only."
    ),
    "reply_to": click.option("--reply-to", multiple=True, metavar="TEMPLATE", help="Where answers go."),
    "subject": click.option("--subject", metavar="TEMPLATE", help="The subject line."),
    "text": click.option("--text", metavar="FILE", type=_PATH, help="Template of the text part."),
    "html": click.option("--html", metavar="FILE", type=_PATH, help="Template of the HTML part."),
    "attach": click.option(
        "--attach", multiple=True, metavar="PATH", help="Attach this file; may be a template."
    ),
    "account": click.option(
        "--account", metavar="NAME", help="An account of your config, or a preset like gmail."
    ),
}


def campaign_options(*, without: tuple[str, ...] = ()) -> Callable[[Function], Function]:
    """Give a command the campaign argument and everything that describes a campaign."""
    return _decorated([*_MESSAGE.items(), *_LEDGER.items()], without)


def ledger_options(function: Function) -> Function:
    """Give a command what it takes to find a campaign's ledger."""
    return _decorated(_LEDGER.items(), ())(function)


def _decorated(
    options: Iterable[tuple[str, Callable[[Any], Any]]], without: tuple[str, ...]
) -> Callable[[Function], Function]:
    chosen = [option for name, option in options if name not in without]

    def decorate(function: Function) -> Function:
        for option in reversed(chosen):
            function = option(function)
        decorated: Function = _CAMPAIGN(function)
        return decorated

    return decorate


rows_option = click.option(
    "--rows", metavar="2-50,77", help="Only these rows, numbered as the spreadsheet shows them (header = 1)."
)
limit_option = click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N messages.")
json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line.")
quiet_option = click.option("-q", "--quiet", is_flag=True, help="Only results and problems.")
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
skip_invalid_option = click.option(
    "--skip-invalid", is_flag=True, help="With --yes: go on although some rows are invalid."
)
transcript_option = click.option(
    "--transcript", type=_PATH, metavar="FILE", help="Write the SMTP dialogue there, secrets masked."
)
rate_option = click.option("--rate", multiple=True, metavar="60/m", help="Pace; several hold together.")
pipeline_option = click.option(
    "--pipeline",
    type=click.Choice(["auto", "off", "overlap", "window"]),
    help="How many messages may be in flight at once; auto: as the server offers.",
)
ca_file_option = click.option(
    "--ca-file", type=_PATH, metavar="FILE", help="Trust this certificate authority for the server."
)


def load_campaign(options: dict[str, Any], *, ledger_only: bool = False) -> Campaign:
    """Take the shared options out of *options* and open the campaign they describe.

    Raises:
        CampaignFileError: there is no campaign, or its file or an option is wrong.

    """
    from mailmerge.campaign import Campaign

    values = {name: options.pop(option, None) for option, name in _NAMES.items()}
    # An option that may be repeated and was not given is an empty tuple: as good as not there.
    given = {name: _plain(value) for name, value in values.items() if value not in (None, ())}
    settings = options.pop("settings")
    return Campaign.load(
        options.pop("campaign"), given, settings=settings, out=options.pop("out"), ledger_only=ledger_only
    )


def _plain(value: Any) -> Any:
    """Give paths as texts and what may be repeated as lists: the values a campaign file could hold."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value


_NAMES = {
    "list_file": "data.source",
    "sheet": "data.sheet",
    "key": "data.key",
    "hidden": "data.hidden",
    "encoding": "data.encoding",
    "where": "data.where",
    "duplicates": "data.duplicates",
    "suppress": "data.suppress",
    "name": "name",
    "from_": "message.from",
    "to": "message.to",
    "cc": "message.cc",
    "bcc": "message.bcc",
    "reply_to": "message.reply_to",
    "subject": "message.subject",
    "text": "message.text",
    "html": "message.html",
    "attach": "attach",
    "account": "account",
    "rate": "send.rate",
    "max_rejected": "send.max_rejected",
    "pipeline": "send.pipeline",
}
"""Parameters of the commands, and what they are called in a campaign file."""
