"""``mailmerge suppress``: the people whom none of this user's campaigns writes to."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import emit, out
from mailmerge.recipients.address_column import HASH
from mailmerge.text import padded, plural

if TYPE_CHECKING:
    from datetime import date

    from mailmerge.campaign.suppression_store import SharedSuppressionStore, SuppressionStore


@click.group("suppress")
def suppress() -> None:
    """Keep the list of people whom no campaign of yours may write to.

    It is a file in your configuration folder, next to config.toml, and applies to every campaign, in addition
    to the files of `data.suppress`. A running campaign sees a change within a second.

    With --ledger it is the list in that ledger, which applies to all campaigns that its workers send.

    \b
    Example:
      mailmerge suppress add kim@example.org
    """  # noqa: D301  click's own mark


@suppress.command("add")
@click.argument("who", nargs=-1, required=True, metavar="ADDRESS...")
@options_of("suppress add")
def add(*, who: tuple[str, ...], ledger: str | None) -> int:
    """Never write to ADDRESS again; @example.org means everybody there, sha256:HASH one address by its hash.

    The hash is the SHA-256 of the lower-case address, in 64 hex digits.

    \b
    Example:
      mailmerge suppress add kim@example.org @example.net
    """  # noqa: D301  click's own mark
    with _store(ledger) as store:
        new = store.add(who, day=_today())
    known = len(who) - new
    out(
        f"Added {plural(new, 'entry', 'entries')}"
        + (f" ({known:,} known before)" if known > 0 else "")
        + f": {store.path}"
    )
    return 0


@suppress.command("remove")
@click.argument("who", nargs=-1, required=True, metavar="ADDRESS...")
@options_of("suppress remove")
def remove(*, who: tuple[str, ...], ledger: str | None) -> int:
    """Let campaigns write to ADDRESS again.

    \b
    Example:
      mailmerge suppress remove kim@example.org
    """  # noqa: D301  click's own mark
    with _store(ledger) as store:
        gone = store.remove(who)
    out(f"Removed {plural(gone, 'entry', 'entries')}: {store.path}")
    return 0


@suppress.command("import")
@click.argument(
    "files", nargs=-1, required=True, metavar="FILE...", type=click.Path(path_type=Path, dir_okay=False)
)
@options_of("suppress import")
def import_(*, files: tuple[Path, ...], ledger: str | None) -> int:
    """Add everybody in FILE: one address per line, CSV or XLSX, such as an export of opt-outs.

    It may contain SHA-256 hashes instead of addresses.

    A row without an address is an error, and nothing is added then.

    \b
    Example:
      mailmerge suppress import unsubscribed.csv
    """  # noqa: D301  click's own mark
    with _store(ledger) as store:
        for path in files:
            found, new = store.add_file(path, day=_today())
            out(f"{path}: {plural(len(found), 'entry', 'entries')}, {new:,} of them new")
    return 0


@suppress.command("list")
@options_of("suppress list")
def list_(*, as_json: bool, ledger: str | None) -> int:
    """List the addresses, domains and hashes, with the date on which they were added.

    \b
    Example:
      mailmerge suppress list
    """  # noqa: D301  click's own mark
    store = _store(ledger)
    entries = store.entries()
    for stored in entries:
        if as_json:
            emit("suppressed", entry=stored.entry, added=stored.added, source=stored.source)
        else:
            out("  ".join(filter(None, (f"{padded(stored.entry, 40)}", stored.added, stored.source))))
    if not as_json:
        out(
            f"{_counted([stored.entry for stored in entries])} in {store.path}"
            if entries
            else f"Nobody: {store.path} has no entries."
        )
    return 0


def _counted(entries: list[str]) -> str:
    domains = sum(entry.startswith("@") for entry in entries)
    hashes = sum(entry.startswith(HASH) for entry in entries)
    addresses = len(entries) - domains - hashes
    kinds = [(addresses, "address", "addresses"), (domains, "domain", "domains"), (hashes, "hash", "hashes")]
    return ", ".join(plural(count, *names) for count, *names in kinds if count)


def _store(ledger: str | None) -> SuppressionStore | SharedSuppressionStore:
    from mailmerge.campaign.suppression_store import SharedSuppressionStore, SuppressionStore, store_path
    from mailmerge.config.environment import Environment

    environment = Environment.read(None)
    if ledger is not None:
        from mailmerge.campaign.shared_ledger import named
        from mailmerge.config.accounts import default_config_path

        return SharedSuppressionStore(named(ledger, default_config_path(environment), typed=True))
    return SuppressionStore(store_path(environment))


def _today() -> date:
    return datetime.now().astimezone().date()
