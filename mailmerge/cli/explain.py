"""``mailmerge explain CODE``: the page of a code."""

from __future__ import annotations

import click

from mailmerge.cli.output import out
from mailmerge.text import near


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...")
def command(codes: tuple[str, ...]) -> int:
    """Explain what a code such as D110 means, why it matters, and what to do about it.

    Without a code: list all of them.
    """
    from mailmerge.check.catalogue import catalogue, page

    entries = catalogue()
    if not codes:
        for entry in entries.values():
            out(f"{entry.code}  {entry.severity:<7}  {entry.what}")
    for number, code in enumerate(codes):
        if code.upper() not in entries:
            hits = near(code, entries)
            hint = f" Did you mean {' or '.join(hits)}?" if hits else " `mailmerge explain` lists them all."
            raise click.UsageError(f"There is no code {code!r}.{hint}")
        if number:
            out()
        for line in page(entries[code.upper()]):
            out(line)
    return 0
