"""``mailmerge providers``, ``explain`` and ``schema``: what can be looked up without a campaign."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Literal, get_args

import click

from mailmerge.cli.options import completed, options_of
from mailmerge.cli.output import emit, out
from mailmerge.cli.terminal import columns
from mailmerge.options import SchemaName
from mailmerge.text import near, padded

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mailmerge.providers import Provider, ProviderGroup

_OWN_PASSWORD: Mapping[bool | None, str] = {
    True: "   (the account's own works)",
    False: "   (the account's own password is refused)",
}
_TITLE_WIDTH = 38
_WIDE = 92
"""Columns in which a title of that width leaves room for the server."""
_GROUPS: Mapping[ProviderGroup, str] = {
    "mailbox": "Mailboxes at the provider's own domains",
    "organisation": "Mailboxes at your own domain",
    "service": "Services for sending",
}
_MARKS = {"confirmed": "published", "assumed": "not confirmed", "ours": "our guess, chosen low"}


@click.command("providers")
@click.argument("name", required=False, shell_complete=completed("providers"))
@options_of("providers")
def providers(*, name: str | None, as_json: bool) -> int:
    """Show mail providers: servers, limits, and how to sign in.

    Without NAME, lists all of them briefly; with NAME, shows everything about one. The limits are estimates
    where the provider publishes none: the server's answer always wins.

    \b
    Examples:
      mailmerge providers
      mailmerge providers gmail
    """  # noqa: D301  click's own mark
    from mailmerge.providers import find_provider
    from mailmerge.providers import providers as every_provider

    chosen = [find_provider(name)] if name else list(every_provider())
    if as_json:
        for provider in chosen:
            emit("provider", **_values(provider))
    elif name:
        for line in _all_about(chosen[0]):
            out(line)
    else:
        for line in _in_short(chosen):
            out(line)
        out('mailmerge providers NAME shows how to sign in; use it as --account NAME or account = "NAME".')
    return 0


def _in_short(providers: list[Provider]) -> Iterator[str]:
    """Yield one line per provider, grouped by purpose, ordered by name."""
    wide = (columns(sys.stdout) or _WIDE) >= _WIDE
    for group, heading in _GROUPS.items():
        yield f"{heading}:"
        members = [provider for provider in providers if provider.group == group]
        for provider in sorted(members, key=lambda one: one.name):
            title = padded(provider.title, _TITLE_WIDTH if wide else _TITLE_WIDTH - 10)
            yield f"  {padded(provider.name, 16)} {title} {provider.servers[0]}"
        yield ""


def _values(provider: Provider) -> dict[str, object]:
    return {
        "name": provider.name,
        "title": provider.title,
        "servers": [str(server) for server in provider.servers],
        "regions": {name: [str(server) for server in servers] for name, servers in provider.regions.items()},
        "auth": provider.auth,
        "user": provider.user,
        "secret": provider.secret,
        "normal_password": provider.normal_password,
        "signs_unsubscribe": provider.signs_unsubscribe,
        "group": provider.group,
        "domains": provider.domains,
        "rates": [str(rate) for rate in provider.rates],
        "quota": str(provider.quota) if provider.quota else None,
        "max_size": provider.max_size,
        "max_recipients": provider.max_recipients,
        "per_connection": provider.per_connection,
        "sessions": provider.sessions,
        "checked": provider.checked.isoformat(),
        "source": provider.source or provider.page,
        "page": provider.page,
        "steps": provider.steps,
        "notes": provider.notes,
        "marks": dict(provider.marks),
    }


def _all_about(provider: Provider) -> Iterator[str]:
    yield f'{provider.title}   account = "{provider.name}"'
    if provider.aliases:
        yield f"  Also called     {', '.join(provider.aliases)}"
    yield f"  Server          {', or '.join(map(str, provider.servers))}{_mark(provider, 'servers')}"
    for region, servers in provider.regions.items():
        yield f"  {padded(f'{provider.name}-{region}', 15)} {', or '.join(map(str, servers))}"
    yield f"  User            {provider.user_note}"
    yield f"  Secret          {provider.secret}{_OWN_PASSWORD.get(provider.normal_password, '')}"
    if provider.domains:
        yield f"  Addresses at    {', '.join(provider.domains)}"
    yield from _limits(provider)
    if provider.signs_unsubscribe is not None:
        verb = "signs" if provider.signs_unsubscribe else "does not sign"
        yield f"  Unsubscribing   {verb} both headers of one-click unsubscribing (DKIM)"
    yield f"  How to get the {provider.secret}:"
    yield from numbered(provider.steps)
    yield from steps_in_chinese(provider)
    yield f"  Page            {provider.page}"
    yield f"  Checked         {provider.checked}, {provider.source or 'the same page'}"
    for note in provider.notes:
        yield f"  Note            {note}"


def _limits(provider: Provider) -> Iterator[str]:
    limits = (
        ("Pace", "rates", ", ".join(map(str, provider.rates))),
        ("Recipients", "quota", str(provider.quota) if provider.quota else ""),
        (
            "Per message",
            "max_recipients",
            f"{provider.max_recipients} recipients" if provider.max_recipients else "",
        ),
        (
            "Per connection",
            "per_connection",
            f"{provider.per_connection} messages" if provider.per_connection else "",
        ),
        ("Largest message", "max_size", f"{provider.max_size / 1e6:g} MB" if provider.max_size else ""),
    )
    for label, key, text in limits:
        if text:
            yield f"  {padded(label, 15)} {text}{_mark(provider, key)}"


def _mark(provider: Provider, key: str) -> str:
    mark = provider.marks.get(key)
    return f"   ({_MARKS[mark]})" if mark else ""


def numbered(steps: tuple[str, ...]) -> Iterator[str]:
    """Yield *steps* with their numbers."""
    for number, step in enumerate(steps, 1):
        yield f"    {number}. {step}"


def steps_in_chinese(provider: Provider) -> Iterator[str]:
    """Yield the same steps for Chinese readers, behind a heading of their own."""
    if provider.steps_zh:
        yield "  中文步骤："
        yield from numbered(provider.steps_zh)


@click.command("explain")
@click.argument("codes", nargs=-1, metavar="[CODE]...", shell_complete=completed("codes"))
@options_of("explain")
def explain(codes: tuple[str, ...]) -> int:
    """Explain what a code such as D110 means, why it matters, and what to do about it.

    Without a code: list all of them.

    \b
    Example:
      mailmerge explain D110
    """  # noqa: D301  click's own mark
    from mailmerge.check.catalogue import catalogue, page

    entries = catalogue()
    if not codes:
        for entry in entries.values():
            out(f"{entry.code}  {padded(entry.severity, 7)}  {entry.what}")
    for number, code in enumerate(codes):
        if code.upper() not in entries:
            hits = near(code, entries)
            hint = f" Did you mean {' or '.join(hits)}?" if hits else " `mailmerge explain` lists them all."
            raise click.UsageError(f"Unknown code {code!r}.{hint}")
        if number:
            out()
        for line in page(entries[code.upper()]):
            out(line)
    return 0


@click.command("schema")
@click.argument(
    "name", type=click.Choice([*get_args(SchemaName), "output"]), default="campaign", required=False
)
@options_of("schema")
def schema(*, name: SchemaName | Literal["output"]) -> int:
    """Print the JSON Schema of campaign.toml, of your config.toml (accounts), or of --json (output).

    Editors complete and check keys with it. `init` writes the schema next to campaign.toml, whose first line
    names it; this prints the one of the installed version.

    \b
    Examples:
      mailmerge schema > campaign.schema.json
      mailmerge schema accounts > accounts.schema.json
    """  # noqa: D301  click's own mark
    if name == "output":
        import json

        from mailmerge.cli.json_lines import output_schema

        click.echo(json.dumps(output_schema(), indent=2))
        return 0
    from mailmerge.config.option_docs import schema_text

    click.echo(schema_text(name), nl=False)
    return 0
