"""Passwords, authorization codes and tokens: find them, keep them as long as a call needs them.

A secret that a program passed with its account is the only one used for that account. Otherwise:
environment, ``.env``, the account's command, the system keyring, a prompt. No option accepts a secret.
A secret from the environment or ``.env`` is sent only to the server that the same place names; if it names
none, to a preset or to an account in the user's own configuration, never to a server that somebody else's
``.env`` named.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING

from mailmerge.config.environment import applies_to_host, child_environment, meant
from mailmerge.config.secret_store import SecretStore
from mailmerge.errors import AuthError
from mailmerge.masking import Secret
from mailmerge.options import ACCOUNT, SECRET
from mailmerge.suggest import login_command, word

if TYPE_CHECKING:
    import subprocess
    from collections.abc import Callable, Iterator, Mapping

    from mailmerge.config.accounts import Account
    from mailmerge.config.environment import Environment

_COMMAND_SECONDS = 30.0
_SLICE = 0.2
"""Seconds within which a stop is noticed."""


def find_secret(
    account: Account,
    environment: Environment,
    *,
    prompt: Callable[[str], str] | None = None,
    give_up: Callable[[], bool] = lambda: False,
) -> Secret:
    """Return the account's password or token; call it again for a fresh one.

    Args:
        account: who signs in, with a user and with ``auth`` other than ``none``.
        environment: the environment and ``.env``.
        prompt: asks a person for a line without echo; None if nobody can be asked.
        give_up: returns True when not to wait any longer for the account's command.

    Raises:
        AuthError: none was found, its command fails, or it cannot be a secret.

    """
    if account.auth == "certificate" or not account.signs_in:
        raise RuntimeError(f"account {account.name} signs in without a secret")
    provider = account.preset
    spaces = provider.spaces if provider else "keep"
    if account.secret is not None:
        return _handed_over(account.secret, spaces)
    notes: list[str] = []
    for values, place in ((environment.real, "the environment"), (environment.file, str(environment.path))):
        name = next((name for name in SECRET.environment if name in values), None)
        if name and _is_for(values, account):
            return Secret(values[name], origin=f"{name} in {place}", spaces=spaces)
        notes += _not_used(values, place, account, name)
    command = account.token_command if account.auth == "token" else account.password_command
    if command:
        return Secret(printed_by(command, give_up), origin=f"the command {command[0]}", spaces=spaces)
    if account.auth == "password" and (found := secret_store(environment).find(*entry_of(account))):
        kept, place = found
        return Secret(kept, origin=place, spaces=spaces)
    what = provider.secret if provider else ("token" if account.auth == "token" else "password")
    if prompt:
        question = f"{what[:1].upper()}{what[1:]} for {account.user} at {account.host}:{account.port}: "
        question = "".join(f"{note}\n" for note in notes) + question
        return Secret(prompt(question), origin="the prompt", spaces=spaces)
    raise _nothing_found(account, what, notes)


def _is_for(values: Mapping[str, str], account: Account) -> bool:
    """Return whether the secret among *values* belongs to the account: to its host and its user."""
    user = next((values[name] for name in ACCOUNT["user"].environment if name in values), account.user)
    return user == account.user and applies_to_host(values, account.host, account.source)


def _handed_over(given: str | Callable[[], str], spaces: str) -> Secret:
    text: object = given if isinstance(given, str) else given()
    if not isinstance(text, str):
        raise AuthError(f"the account's secret must be a string, not {type(text).__name__}", code="S604")
    return Secret(text, origin="the account", spaces=spaces)


def secret_store(environment: Environment) -> SecretStore:
    """Return the store of secrets between runs: the keyring, or files next to ``config.toml``."""
    from mailmerge.config.accounts import default_config_path

    return SecretStore(default_config_path(environment).with_name("secrets"))


def entry_of(account: Account) -> tuple[str, str]:
    """Return service and user under which the store has the account's password."""
    return keyring_service(account), account.user or ""


def keyring_service(account: Account) -> str:
    """Return the service under which the keyring has this account's secret; its user is the account's."""
    return f"mailmerge {account.host}"


def _keeping(account: Account) -> str:
    """Return the command that stores the password; an account from the environment has no name."""
    if account.source in {"config", "preset"}:
        return login_command(account.name)
    return f'keyring set "{keyring_service(account)}" {word(account.user or "")}'


def _not_used(values: Mapping[str, str], place: str, account: Account, name: str | None) -> Iterator[str]:
    """Yield why no secret of the environment was taken: the one of this *name*, or those misspelt."""
    if name:
        yield (
            f"{name} in {place} is not used: the server {account.host} with the user {account.user} "
            "does not come from there"
        )
        return
    for other in sorted(values):
        if meant(other) == "SMTP_AUTH":
            yield f"{other} in {place} is not read: call it SMTP_AUTH"


def _nothing_found(account: Account, what: str, notes: list[str]) -> AuthError:
    command = "token_command" if account.auth == "token" else "password_command"
    named = account.source in {"config", "preset"}
    section = f"[accounts.{account.name}]" if named else "an account of your config.toml"
    ways = (
        "set MAILMERGE_SMTP_PASSWORD or SMTP_AUTH in the environment or in .env",
        f"name a {command} in {section}",
        f"store it in the system keyring: {_keeping(account)}",
        "or run in a terminal and type it",
    )
    more = [f"`mailmerge providers {account.provider}` shows how to get one"] if account.provider else []
    return AuthError(
        f"no {what} for {account.user} at {account.host}",
        code="S605",
        hint="; ".join((*ways, *notes, *more)),
    )


def printed_by(command: tuple[str, ...], give_up: Callable[[], bool]) -> str:
    """Return the first line that *command* prints; its own messages go to the terminal."""
    import subprocess

    def failed(what: str) -> AuthError:
        return AuthError(
            f"the command for the secret, {command[0]}, {what}",
            code="S606",
            hint="run it yourself: the secret must be the first line of its output",
        )

    try:
        # The argv comes from the user's own configuration, and no shell reads it.
        process = subprocess.Popen(  # noqa: S603
            command, stdout=subprocess.PIPE, env=child_environment()
        )
    except FileNotFoundError:
        raise failed("was not found") from None
    except OSError as error:
        raise failed(f"could not be started: {error.strerror}") from None
    with process:
        try:
            printed = _printed(process, failed, give_up)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise failed(f"ended with status {process.returncode}")
    first = printed.partition(b"\n")[0].removesuffix(b"\r")
    try:
        text = first.decode("utf-8")
    except UnicodeDecodeError:
        raise failed("printed something that is not UTF-8") from None
    if not text:
        raise failed("printed nothing")
    return text


def _printed(
    process: subprocess.Popen[bytes], failed: Callable[[str], AuthError], give_up: Callable[[], bool]
) -> bytes:
    import subprocess

    until = time.monotonic() + _COMMAND_SECONDS
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            return process.communicate(timeout=_SLICE)[0]
        if give_up():
            raise failed("was stopped on request")
        if time.monotonic() >= until:
            raise failed(f"did not end within {_COMMAND_SECONDS:.0f} seconds")
