"""From an account to connections: server, credentials, deadlines and transcript put together."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

from mailmerge.config.account_secrets import find_secret
from mailmerge.errors import CampaignFileError, FileError
from mailmerge.files import start_file

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

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
    from mailmerge.smtp.connection import Connection, Credentials, Endpoint, ServerProfile

    server = Endpoint(
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
    profile = ServerProfile(messages_per_connection=account.per_connection)
    return lambda: Connection(
        server,
        credentials,
        pipeline=account.pipeline,
        deadlines=deadlines,
        transcript=transcript,
        profile=profile,
    )


def _finder(
    account: Account, environment: Environment, prompt: Callable[[str], str] | None
) -> Callable[[], str]:
    """Find the secret now, and give a function that hands it out; it is forgotten with that function."""
    secret = find_secret(account, environment, prompt=prompt)
    fresh = True

    def reveal() -> str:
        nonlocal secret, fresh
        # A token may have run out since: ask for another one. A password stays what it was.
        if not fresh and account.token_command:
            secret = find_secret(account, environment, prompt=prompt)
        fresh = False
        return secret.reveal()

    return reveal


class Transcript:
    """Writes the SMTP dialogue to a private file, line by line."""

    def __init__(self, path: Path) -> None:
        try:
            file = start_file(path)
        except FileError as error:
            raise CampaignFileError(
                f"cannot write the transcript {path}: {error.strerror}",
                code="C482",
                hint=error.hint or "--transcript wants the name of a file",
            ) from error
        self._file = io.TextIOWrapper(file, "utf-8", errors="backslashreplace", line_buffering=True)

    def write(self, line: str) -> None:
        """Add one line."""
        self._file.write(line + "\n")

    def close(self) -> None:
        """Close the file."""
        self._file.close()
