"""From an account to connections: server, credentials, deadlines and transcript put together."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mailmerge.config.account_secrets import find_secret
from mailmerge.errors import CampaignFileError

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from typing import IO

    from mailmerge.config.account_secrets import Secret
    from mailmerge.config.accounts import Account
    from mailmerge.config.environment import Environment
    from mailmerge.smtp.connection import Connection, Deadlines


def connection_factory(
    account: Account,
    environment: Environment,
    *,
    secret: Callable[[], str] | None = None,
    prompt: Callable[[str], str] | None = None,
    transcript: Callable[[str], None] | None = None,
    deadlines: Deadlines | None = None,
) -> Callable[[], Connection]:
    """Give a function that makes a new connection for *account*; the secret is looked for once.

    *secret* is for callers that know it already.

    Raises:
        AuthError: there is no secret to be found.

    """
    from mailmerge.smtp.connection import Connection, Credentials, Experience, Server

    server = Server(
        host=account.host,
        port=account.port,
        tls=account.tls,
        helo=account.helo,
        ca_file=account.ca_file,
        insecure=account.insecure,
    )
    credentials = None
    if account.auth != "none" and account.user:
        reveal = secret or _finder(account, environment, prompt)
        credentials = Credentials(user=account.user, mechanism=account.auth, secret=reveal)
    experience = Experience(most_mails=account.per_connection)
    return lambda: Connection(
        server,
        credentials,
        pipeline=account.pipeline,
        deadlines=deadlines,
        transcript=transcript,
        experience=experience,
    )


def _finder(
    account: Account, environment: Environment, prompt: Callable[[str], str] | None
) -> Callable[[], str]:
    """Find the secret now, and give a function that hands it out."""
    first: list[Secret] = [find_secret(account, environment, prompt=prompt)]
    kept = first[0]

    def secret() -> str:
        if first:
            return first.pop().reveal()
        # A token may have run out since: ask for another one. A password stays what it was.
        return (
            find_secret(account, environment, prompt=prompt).reveal()
            if account.token_command
            else kept.reveal()
        )

    return secret


class Transcript:
    """Writes the SMTP dialogue to a private file, line by line."""

    def __init__(self, path: Path) -> None:
        try:
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise CampaignFileError(
                f"cannot write the transcript {path}: {error.strerror}",
                code="C482",
                hint="--transcript wants the name of a file",
            ) from error
        self._file: IO[str] = os.fdopen(
            descriptor, "w", encoding="utf-8", errors="backslashreplace", buffering=1
        )

    def write(self, line: str) -> None:
        """Add one line."""
        self._file.write(line + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
