"""``mailmerge providers``: what is known about mail providers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import json_option
from mailmerge.cli.output import emit, out

if TYPE_CHECKING:
    from mailmerge.providers import Provider


@click.command("providers")
@click.argument("name", required=False)
@json_option
def command(*, name: str | None, as_json: bool) -> int:
    """Show mail providers: servers, limits, and how to sign in.

    Without NAME all of them in short; with NAME everything about one. The limits are estimates where
    the provider publishes none: the server's answer always wins.
    """
    from mailmerge.providers import find_provider, providers  # noqa: PLC0415  reads the data file

    chosen = [find_provider(name)] if name else list(providers())
    for provider in chosen:
        if as_json:
            emit("provider", **_values(provider))
        elif name:
            _show(provider)
        else:
            server = provider.servers[0]
            out(f"{provider.name:<18} {provider.title:<28} {server.host}:{server.port} {server.tls}")
    return 0


def _values(provider: Provider) -> dict[str, Any]:
    from dataclasses import asdict  # noqa: PLC0415  only for JSON

    return asdict(provider)


def _show(provider: Provider) -> None:
    out(f'{provider.title}  (account = "{provider.name}")')
    for server in provider.servers:
        out(f"  Server    {server.host}:{server.port}  {server.tls}")
    out(f"  Sign-in   {provider.auth}")
