"""``mailmerge providers``: what is known about mail providers."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import emit, out
from mailmerge.text import width

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.providers import Provider

_WIDTH = 100
_MARKS = {"confirmed": "published", "assumed": "not confirmed", "ours": "our guess, chosen low"}


@click.command("providers")
@click.argument("name", required=False)
@options_of("providers")
def command(*, name: str | None, as_json: bool) -> int:
    """Show mail providers: servers, limits, and how to sign in.

    Without NAME all of them in short; with NAME everything about one. The limits are estimates where
    the provider publishes none: the server's answer always wins.
    """
    from mailmerge.providers import find_provider, providers

    chosen = [find_provider(name)] if name else list(providers())
    for provider in chosen:
        if as_json:
            emit("provider", **_values(provider))
        elif name:
            for line in _all_about(provider):
                out(line)
        else:
            title = provider.title + " " * (34 - width(provider.title))
            out(f"{provider.name:<16} {title} {provider.servers[0]}")
    if not name and not as_json:
        out("")
        out('mailmerge providers NAME says how to sign in; use it as --account NAME or account = "NAME".')
    return 0


def _values(provider: Provider) -> dict[str, object]:
    return {
        "name": provider.name,
        "title": provider.title,
        "servers": [str(server) for server in provider.servers],
        "regions": {name: [str(server) for server in servers] for name, servers in provider.regions.items()},
        "auth": provider.auth,
        "user": provider.user,
        "secret": provider.secret,
        "rates": [str(rate) for rate in provider.rates],
        "quota": str(provider.quota) if provider.quota else None,
        "max_size": provider.max_size,
        "max_recipients": provider.max_recipients,
        "per_connection": provider.per_connection,
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
        yield f"  {provider.name}-{region:<12} {', or '.join(map(str, servers))}"
    yield f"  User            {provider.user_note}"
    yield f"  Secret          {provider.secret}"
    yield from _limits(provider)
    yield f"  How to get the {provider.secret}:"
    yield from _numbered(provider.steps)
    yield from _numbered(provider.steps_zh)
    yield f"  Page            {provider.page}"
    for note in provider.notes:
        yield from textwrap.wrap(
            note, _WIDTH, initial_indent="  Note            ", subsequent_indent=" " * 18
        )


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
            yield f"  {label:<15} {text}{_mark(provider, key)}"


def _mark(provider: Provider, key: str) -> str:
    mark = provider.marks.get(key)
    return f"   ({_MARKS[mark]})" if mark else ""


def _numbered(steps: tuple[str, ...]) -> Iterator[str]:
    for number, step in enumerate(steps, 1):
        yield from textwrap.wrap(step, _WIDTH, initial_indent=f"    {number}. ", subsequent_indent=" " * 7)
