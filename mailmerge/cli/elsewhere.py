"""Command lines of awdeorio's mailmerge, translated to commands of ours and shown."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailmerge.cli.output import note
from mailmerge.convert.awdeorio import DATABASE, SERVER, TEMPLATE
from mailmerge.options import CAMPAIGN_FILE
from mailmerge.suggest import Invocation, suggested

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_CRON: Final = "it asks before it sends; where nobody can answer, as in cron, add --yes"


@click.command(
    "elsewhere",
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True},
    add_help_option=False,
)
@click.option("--sample", is_flag=True)
@click.option("--dry-run/--no-dry-run", default=True)
@click.option("--no-limit", is_flag=True)
@click.option("--limit", default=1, type=click.IntRange(0))
@click.option("--resume", default=1, type=click.IntRange(1))
@click.option("--template", type=click.Path(path_type=Path))
@click.option("--database", type=click.Path(path_type=Path))
@click.option("--config", type=click.Path(path_type=Path))
@click.option("--output-format", type=click.Choice(["colorized", "text", "raw"]), default="colorized")
@click.option("--no-color", is_flag=True)
@click.pass_context
def _old(context: click.Context, /, **given: Any) -> tuple[dict[str, Any], list[str]]:
    return given, context.args


def translated(arguments: Sequence[str]) -> list[str]:
    """Translate a command line of awdeorio's mailmerge to ours, and show it on stderr.

    Args:
        arguments: a folder or a template, if there is one, and then its options; other options are ours, and
            are kept.

    Raises:
        click.UsageError: a value is not valid.

    """
    folder, rest = None, list(arguments)
    if rest and not rest[0].startswith("-"):
        folder = Path(rest.pop(0))
        if folder.is_file():
            folder, rest = None, ["--template", str(folder), *rest]
    given, others = _old.main(rest, prog_name="mailmerge", standalone_mode=False)
    if given["sample"]:
        return _said(["init"], others)
    command = _command(given)
    campaign, *more = _campaign(given, folder)
    if given["output_format"] == "raw":
        files = suggested(Invocation("preview", campaign), "preview", "--eml", "DIR")
        note(f"--output-format raw: {files} writes the messages byte for byte.")
    if command != "send":
        others = [word for word in others if word != "--yes"]
    if given["no_color"]:
        others = ["--color", "never", *others]
    asks = command == "send" and "--yes" not in others
    return _said([command, campaign], [*more, *_rows(given), *others], f"; {_CRON}" if asks else "")


def _said(words: list[str], more: list[str], remark: str = "") -> list[str]:
    command, campaign = words[0], words[1] if len(words) > 1 else None
    note(f"This is now: {suggested(Invocation(command, campaign), command, *more)}{remark}")
    return [*words, *more]


def _command(given: dict[str, Any]) -> str:
    if given["limit"] == 0 and not given["no_limit"]:
        return "check"  # nothing was sent then, whatever the other options
    return "preview" if given["dry_run"] else "send"


def _campaign(given: dict[str, Any], folder: Path | None) -> Iterator[str]:
    """Yield the arguments for the campaign: a folder, or a template in it, and files that are elsewhere."""
    here = folder or Path()
    named = given["template"]
    template: Path = here / (named or TEMPLATE)
    if named is None or template.name == TEMPLATE:
        yield str(template.parent)
    else:
        yield str(template)
    if (template.parent / CAMPAIGN_FILE).exists() and named is None:
        return
    for flag, key, usual in (("--list", "database", DATABASE), ("--server-conf", "config", SERVER)):
        file = here / (given[key] or usual)
        beside = template.parent / usual
        if os.path.normpath(file) != os.path.normpath(beside) and (given[key] or file.exists()):
            yield from (flag, str(file))


def _rows(given: dict[str, Any]) -> Iterator[str]:
    """Yield the arguments for the rows: messages were counted from 1, rows have the spreadsheet's numbers."""
    limited = not given["no_limit"]
    if limited and given["limit"] == 0:
        return
    showing = given["dry_run"]
    if showing:
        yield "--terminal"
    if given["resume"] > 1 or (showing and not limited):
        yield from ("--rows", f"{given['resume'] + 1}-")
    if limited and not (showing and given["limit"] == 1 and given["resume"] == 1):
        yield from ("--limit", str(given["limit"]))
