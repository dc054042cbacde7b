"""From the table of options to the flags of the commands, and from flags to a campaign."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from mailmerge.options import CAMPAIGN, LIST, every_option
from mailmerge.suggest import Invocation

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mailmerge.campaign import Campaign
    from mailmerge.option_types import Option
    from mailmerge.options import Color

Function = TypeVar("Function", bound="Callable[..., Any]")


def completed(values: str) -> Callable[[click.Context, click.Parameter, str], Any]:
    """Return a completer that imports *values* of `mailmerge.cli.completion` only when a shell asks."""

    def complete(context: click.Context, parameter: click.Parameter, begun: str) -> Any:
        completion = import_module("mailmerge.cli.completion")
        return getattr(completion, values)(context, parameter, begun)

    return complete


campaign_argument = click.argument(
    "campaign",
    type=click.Path(path_type=Path),
    default=None,
    required=False,
    shell_complete=completed("campaigns"),
)
_VALUES = {"account": "accounts", "accounts": "accounts", "ledger": "ledgers"}
"""What completes an option's value, by the name of its parameter."""


def options_of(command: str) -> Callable[[Function], Function]:
    """Return a decorator that adds to a command's function every flag that the table lists for it."""
    options = [option for option in every_option() if command in option.commands]

    def decorate(function: Function) -> Function:
        for option in reversed(options):
            function = _click_option(option)(function)
        return function

    return decorate


def _click_option(option: Option) -> Callable[[Function], Function]:
    flag, _, metavar = (option.flag or "").partition(" ")
    spellings = [flag] if "/--no-" in flag else flag.split("/")
    settings: dict[str, Any] = {"help": option.sentence, "metavar": metavar or None}
    settings |= _value_settings(option.type.schema)
    if option.parameter in _VALUES:
        settings["shell_complete"] = completed(_VALUES[option.parameter])
    if metavar.startswith("["):  # the value is optional
        settings |= {"is_flag": False, "flag_value": LIST}
    if option.parameter == "color":
        settings |= {"callback": _choose_colours, "expose_value": False, "is_eager": True}
    # An option that a file may set keeps its default for when no file sets it.
    if option.section is None and not settings.get("multiple"):
        settings["default"] = option.default
    return click.option(*spellings, option.parameter, **settings)


def _choose_colours(_context: click.Context, _parameter: click.Parameter, value: Color) -> None:
    from mailmerge.cli.terminal import choose_colours

    choose_colours(value)


def _value_settings(schema: Mapping[str, Any]) -> dict[str, Any]:  # noqa: PLR0911  one for each kind
    """Translate what *schema* allows into click's arguments: type, switch, and whether it may be repeated."""
    forms = schema.get("anyOf", [schema])
    value = forms[0]
    if len(forms) == 2 and forms[1] == {"type": "array", "items": value, "minItems": 1}:
        return {**_value_settings(value), "multiple": True}
    if len(forms) == 2 and "enum" in forms[1]:
        return {"type": _NumberOr(value["minimum"], value["maximum"], forms[1]["enum"])}
    if "enum" in value:
        return {"type": click.Choice(value["enum"])}
    if "format" in value:
        return {"type": _path(dir_okay=value["format"] == "path")}
    if value["type"] == "boolean":
        return {"is_flag": True}
    if value["type"] == "integer" and len(forms) == 1 and "minimum" in value:
        return {"type": click.IntRange(value.get("minimum"), value.get("maximum"))}
    return {"type": {"number": click.FLOAT, "integer": click.INT}.get(value["type"], click.STRING)}


@cache
def _path(*, dir_okay: bool) -> click.Path:
    """Return the type of a path: click looks for translations of its name whenever one is made."""
    return click.Path(path_type=Path, dir_okay=dir_okay)


class _NumberOr(click.IntRange):
    """A whole number in a range, or one of some words."""

    def __init__(self, least: int, most: int, words: Sequence[str]) -> None:
        super().__init__(least, most)
        self._words = words

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """Read what was given."""
        if value in self._words:
            return value
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter:
            words = " or ".join(self._words)
            self.fail(
                f"{str(value)!r} is neither {words} nor a number from {self.min} to {self.max}", param, ctx
            )

    def get_metavar(self, param: click.Parameter, ctx: click.Context) -> str | None:  # noqa: ARG002
        """Return None: the option has its own."""
        return None


def load_campaign(options: dict[str, Any], *, ledger_only: bool = False, stored: bool = False) -> Campaign:
    """Take everything out of *options* that describes a campaign, and open it.

    *stored*: its messages may also come from the database that has its ledger.

    Raises:
        CampaignFileError: the campaign does not exist, or its file or an option is not valid.

    """
    from mailmerge.campaign import Campaign

    names = {option.parameter: option.name for keys in CAMPAIGN.values() for option in keys.values()}
    names["attach"] = "attach"
    values = {name: options.pop(parameter) for parameter, name in names.items() if parameter in options}
    # A flag that may be repeated and was not given is an empty tuple: the same as not there.
    given = {name: _plain(value) for name, value in values.items() if value not in (None, ())}
    context = click.get_current_context()
    server = options.pop("server_conf", None)
    if server is not None:
        from mailmerge.convert.awdeorio import read_server

        server, rate = read_server(server)
        if rate:
            given.setdefault("send.rate", f"{rate}/m")
    campaign = Campaign.load(
        options.pop("campaign"),
        given,
        settings=options.pop("settings"),
        out=options.pop("out"),
        ledger_only=ledger_only or (stored and "data.source" not in given),
        invocation=Invocation.parsed(context.info_name or "", context.params),
    )
    if server is not None:
        from mailmerge.campaign.elsewhere import sent_by

        campaign.definition = sent_by(campaign.definition, server)
    return campaign


def _plain(value: Any) -> Any:
    """Return paths as strings and repeated options as lists: the values that a campaign file could have."""
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return str(value) if isinstance(value, Path) else value
