"""``mailmerge completion``: what a shell completes, and the scripts that make it ask us.

bash, zsh and fish are click's own; PowerShell's script is ours. A value that cannot be determined (a
config.toml that cannot be read) is not completed: nothing may be printed between a person's key strokes.
"""

from __future__ import annotations

import os
import tomllib
from typing import TYPE_CHECKING, Any

import click
from click.shell_completion import (
    CompletionItem,
    FishComplete,
    ShellComplete,
    add_completion_class,
    get_completion_class,
)

from mailmerge.cli.options import options_of
from mailmerge.options import CAMPAIGN_FILE

if TYPE_CHECKING:
    from collections.abc import Iterable

VARIABLE = "_MAILMERGE_COMPLETE"
"""The variable that the scripts set when they ask; its value names the shell."""

_POWERSHELL = """\
Register-ArgumentCompleter -Native -CommandName %(prog_name)s -ScriptBlock {
    param($word, $ast, $cursor)
    $before = @($ast.CommandElements | Where-Object { $_.Extent.EndOffset -lt $cursor } | ForEach-Object {
        if ($_ -is [System.Management.Automation.Language.StringConstantExpressionAst]) { $_.Value }
        else { $_.ToString() }
    })
    $env:%(complete_var)s = 'powershell_complete'
    $env:COMP_WORDS = $before -join "`n"
    $env:COMP_WORD = $word.Trim([char[]]"'`"")
    try {
        & %(prog_name)s | ForEach-Object {
            $type, $value, $help = $_ -split "`t", 3
            if ($type -eq 'plain') {
                $plain = $value -match '^[\\w./:=+-]+$'
                $text = if ($plain) { $value } else { "'" + ($value -replace "'", "''") + "'" }
                if (-not $help) { $help = $value }
                [System.Management.Automation.CompletionResult]::new($text, $value, 'ParameterValue', $help)
            }
        }
    } finally {
        Remove-Item -ErrorAction Ignore Env:%(complete_var)s, Env:COMP_WORDS, Env:COMP_WORD
    }
}
"""


class PowerShell(ShellComplete):
    """Completion for PowerShell, which completes files and folders by itself when it gets no answer."""

    name = "powershell"
    source_template = _POWERSHELL

    def get_completion_args(self) -> tuple[list[str], str]:
        """Return the words before the one at the cursor, and the beginning of that one."""
        words = os.environ.get("COMP_WORDS", "").split("\n")[1:]
        return words, os.environ.get("COMP_WORD", "")  # PowerShell has no empty variables

    def format_completion(self, item: CompletionItem) -> str:
        """Return type, value and help of an item, separated by tabs."""
        return f"{item.type}\t{item.value}\t{' '.join((item.help or '').split())}"


class Fish(FishComplete):
    """click's completion for fish, but descriptions are not cut at their first comma."""

    name = "fish"
    source_template = FishComplete.source_template.replace('string split ","', 'string split --max 1 ","')


add_completion_class(PowerShell)
add_completion_class(Fish)


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish", "powershell"]))
@options_of("completion")
@click.pass_context
def completion(context: click.Context, *, shell: str) -> int:
    """Print the completion script for SHELL.

    It completes commands, options and their values: campaigns, accounts, ledgers, providers, codes. To have
    it in every new shell, add the line below to the shell's start-up file.

    \b
    Examples, and the files they belong to:
      eval "$(mailmerge completion bash)"                                   ~/.bashrc
      eval "$(mailmerge completion zsh)"                                    ~/.zshrc, below compinit
      mailmerge completion fish | source                                    ~/.config/fish/config.fish
      mailmerge completion powershell | Out-String | Invoke-Expression      $PROFILE
    """  # noqa: D301  click's own mark
    complete = get_completion_class(shell)
    assert complete is not None
    click.echo(complete(context.find_root().command, {}, "mailmerge", VARIABLE).source())
    return 0


# --- values -------------------------------------------------------------------------------------------


def campaigns(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the folders that have a campaign.toml; if there are none, let the shell complete paths."""
    folder, _, start = begun.rpartition("/")
    found = []
    try:
        with os.scandir(folder + "/" if "/" in begun else ".") as entries:
            found = [
                entry.name
                for entry in entries
                if entry.name.startswith(start) and os.path.isfile(os.path.join(entry.path, CAMPAIGN_FILE))  # noqa: PTH113, PTH118
            ]
    except OSError:
        pass
    place = f"{folder}/" if "/" in begun else ""
    return [CompletionItem(place + name) for name in sorted(found)] or [CompletionItem(begun, type="file")]


def accounts(_ctx: click.Context, param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the accounts of config.toml, and the providers; `--accounts` names several accounts."""
    before, comma, _ = begun.rpartition(",")
    own = [
        CompletionItem(before + comma + name, help="account of your config.toml")
        for name in _configured("accounts")
    ]
    if param.name == "accounts":
        return _beginning(begun, own)
    names = {item.value for item in own}
    return _beginning(begun, [*own, *(item for item in _providers() if item.value not in names)])


def ledgers(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the ledgers of config.toml."""
    return _beginning(begun, [CompletionItem(name) for name in _configured("ledgers")])


def providers(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the mail providers."""
    return _beginning(begun, _providers())


def codes(_ctx: click.Context, _param: click.Parameter, begun: str) -> list[CompletionItem]:
    """Return the codes of problems."""
    from mailmerge.check.catalogue import catalogue

    items = [CompletionItem(code, help=entry.what) for code, entry in catalogue().items()]
    return _beginning(begun.upper(), items)


def _providers() -> list[CompletionItem]:
    from mailmerge.providers import providers as every_provider

    return [CompletionItem(provider.name, help=provider.title) for provider in every_provider()]


def _configured(table: str) -> list[str]:
    """Return the names in a table of config.toml; none where the file cannot be read."""
    from mailmerge.config.accounts import default_config_path
    from mailmerge.config.environment import Environment

    try:
        values: dict[str, Any] = tomllib.loads(
            default_config_path(Environment.read(None)).read_text(encoding="utf-8")
        )
    except (OSError, ValueError):
        return []
    named = values.get(table)
    return sorted(named) if isinstance(named, dict) else []


def _beginning(begun: str, items: Iterable[CompletionItem]) -> list[CompletionItem]:
    return [item for item in items if item.value.startswith(begun)]
