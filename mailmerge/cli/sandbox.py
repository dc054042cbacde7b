"""``mailmerge sandbox``: the built-in server, for practice with `send` and what comes after it."""

from __future__ import annotations

import errno
import os
import re
import threading
from typing import TYPE_CHECKING, Any

import click

from mailmerge import files
from mailmerge.cli.options import options_of
from mailmerge.cli.output import note, out
from mailmerge.errors import CampaignFileError, FileError

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


class ReceivedFiles:
    """The messages that arrive, numbered in order and kept as files where a folder is given.

    Numbers continue those that the folder has already, and no file in it is ever replaced.
    """

    def __init__(self, folder: Path | None) -> None:
        """Make the *folder* if necessary; raises FileError."""
        self._folder = folder
        self._count = 0
        if folder is not None:
            files.named_folder(folder).close()
            numbers = (
                re.match(r"(\d{5,9})-.*\.eml\Z", each.name, re.ASCII | re.DOTALL) for each in folder.iterdir()
            )
            self._count = max((int(found[1]) for found in numbers if found), default=0)

    def add(self, message: ReceivedMessage) -> int:
        """Keep a message, and return its number; raises FileError."""
        from mailmerge.preview.messages import eml_name

        number = self._count + 1
        while self._folder is not None:
            path = self._folder / eml_name(number, message.rcpt_to[0])
            try:
                files.create_file(path, message.content, mode=0o600)
                break
            except FileError as error:
                if error.errno != errno.EEXIST:
                    raise
                number += 1  # of another server that keeps its messages here
        self._count = number
        return number


@click.command("sandbox")
@options_of("sandbox")
def sandbox(*, sandbox_port: int, keep: Path | None, **options: Any) -> int:
    """Run the built-in server until Ctrl-C, to practise `send` and what comes after it.

    It accepts mail from this machine only, without a password, and passes none of it on. Put the lines
    that it prints first into a file .env next to a campaign.toml that names no account: `send` then uses it.
    Rows that it accepts count as accepted: practise with a copy of your campaign, or `purge` it before you
    send for real. The options of `rehearse` make it misbehave here, too.

    \b
    Example:
      mailmerge sandbox --refuse nobody@example.net --keep received
    """  # noqa: D301  click's own mark
    from mailmerge.sandbox import FaultPlan, SandboxServer

    faults = FaultPlan.parse(options.pop("refusals"), **{name: options.pop(name) for name in FAULTS})
    kept = ReceivedFiles(keep)

    def received(message: ReceivedMessage) -> None:
        """Show a message, in the server's thread, before its reply leaves."""
        try:
            number = kept.add(message)
        except FileError as error:  # the client is answered that the server failed
            note(f"{error}: the message to {message.rcpt_to[0]} was not accepted")
            raise
        out(f"{number:>7,}  {', '.join(message.rcpt_to)}")

    server = SandboxServer(faults=faults, keep=received, tls="none", user=None, port=sandbox_port)
    try:
        server.start()
    except OSError as error:
        raise CampaignFileError(
            f"cannot listen on port {sandbox_port}: {os.strerror(error.errno or 0)}",
            code="C490",
            hint="name another one with --port",
        ) from None
    try:
        out(f"Listening on {server.host}:{server.port}. Mail sent here goes no further. Ctrl-C stops it.")
        out("A campaign that names no account uses it with these lines in .env next to campaign.toml:")
        for name, value in (("SERVER", server.host), ("PORT", server.port), ("TLS", "none")):
            out(f"  SMTP_{name}={value}")
        threading.Event().wait()
    finally:
        server.stop()
    return 0
