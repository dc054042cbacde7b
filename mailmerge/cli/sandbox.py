"""``mailmerge sandbox``: the built-in server, for practice with `send` and what comes after it."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import click

from mailmerge.cli.options import options_of
from mailmerge.cli.output import out
from mailmerge.errors import CampaignFileError

if TYPE_CHECKING:
    from pathlib import Path

    from mailmerge.sandbox import ReceivedMessage

FAULTS = (
    "drop_after_data",
    "drop",
    "refused",
    "per_connection",
    "per_minute",
    "greylist",
    "refuse_sign_in",
    "delay",
    "no_pipelining",
    "seed",
)
"""Options that make the built-in server misbehave, besides ``--fail``."""


@click.command("sandbox")
@options_of("sandbox")
def sandbox(*, sandbox_port: int, keep: Path | None, **options: Any) -> int:
    """Run the built-in server until Ctrl-C, to practise `send` and what comes after it.

    It accepts mail from this machine only, without a password, and passes none of it on. The lines that it
    prints first, in a file .env beside a campaign.toml that names no account, let `send` use it. Rows that
    it accepted are accepted: practise with a copy of your campaign, or `purge` it before you send for real.
    It misbehaves by the options that `rehearse` has, too.

    \b
    Example:
      mailmerge sandbox --refuse nobody@example.net --keep received
    """  # noqa: D301  click's own mark
    from mailmerge import files
    from mailmerge.preview.messages import eml_name
    from mailmerge.sandbox import FaultPlan, SandboxServer

    faults = FaultPlan.parse(options.pop("refusals"), **{name: options.pop(name) for name in FAULTS})
    count = 0
    if keep is not None:
        files.named_folder(keep).close()

    def received(message: ReceivedMessage) -> None:
        """Show a message, in the server's thread, before its reply leaves."""
        nonlocal count
        count += 1
        if keep is not None:
            files.write_file(keep / eml_name(count, message.rcpt_to[0]), message.content)
        out(f"{count:>7,}  {', '.join(message.rcpt_to)}")

    server = SandboxServer(faults=faults, keep=received, tls="none", user=None, port=sandbox_port)
    try:
        server.start()
    except OSError as error:
        raise CampaignFileError(
            f"cannot listen on port {sandbox_port}: {error.strerror}",
            code="C490",
            hint="name another one with --port",
        ) from None
    try:
        out(f"Listening on {server.host}:{server.port}. What arrives here goes no further. Ctrl-C ends it.")
        out("A campaign that names no account sends to it with this in the .env beside its campaign.toml:")
        for name, value in (("SERVER", server.host), ("PORT", server.port), ("TLS", "none")):
            out(f"  SMTP_{name}={value}")
        threading.Event().wait()
    finally:
        server.stop()
    return 0
