"""``mailmerge convert``: a campaign folder from what another program made."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import out
from mailmerge.errors import CampaignFileError
from mailmerge.suggest import Invocation, suggested

if TYPE_CHECKING:
    from mailmerge.campaign.conversion import Conversion

_PATH = click.Path(path_type=Path)


@click.command("convert")
@click.argument("source", type=_PATH, default=Path())
@options_of("convert")
def convert(*, source: Path, server_conf: Path | None, into: Path | None, **_more: Any) -> int:
    """Write a campaign folder from SOURCE, which another program made; nothing is overwritten.

    SOURCE is a folder or a template of awdeorio's mailmerge. It says what was taken over, and what was not.
    """
    from mailmerge.campaign.conversion import convert_template, find_template

    template = find_template(source)
    if template is None:
        raise CampaignFileError(
            f"{source} is nothing that can be converted",
            code="C542",
            hint="name a folder with mailmerge_template.txt, or a template that begins with TO: and SUBJECT:",
        )
    _tell(convert_template(template, into, server_conf))
    return 0


def _tell(made: Conversion) -> None:
    out(f"Created {made.folder}/: {'  '.join(made.files)}")
    for line in made.changed:
        out(f"Now: {line}.")
    for line in made.left:
        out(f"Not taken over: {line}.")
    out(f"Next: {suggested(Invocation('convert', str(made.folder)), 'check')}")
