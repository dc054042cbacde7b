"""From a campaign to connections: account, server, credentials, deadlines and transcript put together."""

from __future__ import annotations

import contextlib
import io
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec.structs import replace

from mailmerge.addresses import is_loopback
from mailmerge.campaign.workspace import user_state_folder
from mailmerge.config.accounts import resolve_account
from mailmerge.errors import CampaignFileError, FileError, LedgerError
from mailmerge.files import start_file

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.campaign.definition import Definition
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.config.environment import Environment
    from mailmerge.ledger.account_usage import AccountUsage
    from mailmerge.mail_folders.imap import ImapServer
    from mailmerge.mail_folders.mail_place import MailPlace
    from mailmerge.masking import Secret
    from mailmerge.model import Message, Outcome, SignIn
    from mailmerge.sign_in.tokens import TokenSource
    from mailmerge.smtp.connection import Connection, Deadlines
    from mailmerge.smtp.deadlines import Wait
    from mailmerge.smtp.endpoint import ServerProfile

_SLICE = 0.2
"""Seconds within which a stop is noticed."""


def find_account(definition: Definition, *, ca_file: Path | None = None) -> Account:
    """Return the campaign's account; *ca_file* is trusted in addition to the account's own certificates.

    Raises:
        CampaignFileError: it does not exist, or is not valid.

    """
    file = definition.file
    if (given := definition.given_account) is not None:
        return replace(given, ca_file=ca_file or given.ca_file, pipeline=file.send.pipeline or given.pipeline)
    sender = file.message.from_
    return resolve_account(
        file.account,
        environment=definition.environment,
        overrides={"ca_file": None if ca_file is None else str(ca_file), "pipeline": file.send.pipeline},
        campaign_from=sender if sender and "{" not in sender else None,
        flags=definition.invocation.typed,
    )


def connection_factory(
    account: Account,
    environment: Environment,
    *,
    secret: Callable[[], str] | None = None,
    prompt: Callable[[str], str] | None = None,
    transcript: Callable[[str], None] | None = None,
    deadlines: Deadlines | None = None,
    give_up: Callable[[], bool] = lambda: False,
    profile: ServerProfile | None = None,
) -> Callable[[], Connection]:
    """Return a function that makes a new connection for *account*.

    The secret is looked for when the first connection is made: a run that contacts nobody needs none. That
    call raises `AuthError` if none is found. *secret* is for callers that have it already, *profile* for
    those who know the server, or want to know what was learnt about it; *give_up* returns True when not to
    wait any longer for the program that prints the secret.
    """
    from mailmerge.smtp.connection import Connection, Credentials, Endpoint

    server = Endpoint(
        host=account.host,
        port=account.port,
        tls=account.tls,
        helo=account.helo,
        ca_file=account.ca_file,
        insecure=account.insecure,
        cert_file=account.cert_file,
        key_file=account.key_file,
    )
    if account.auth == "certificate":
        secret = str
    shows: SignIn = "token" if account.auth == "oauth" else account.auth
    profile = profile or server_profile(account)
    reveal = secret
    another: Callable[[str], bool] | None = None
    fresh: Callable[[], str] | None = None
    renewing: Callable[[], Iterator[Wait]] | None = None

    def connect() -> Connection:
        nonlocal reveal, another, fresh, renewing
        if account.signs_in and reveal is None:
            finder = _SecretFinder(account, environment, prompt, give_up)
            reveal, another, fresh = finder.reveal, finder.another, finder.fresh
            renewing = finder.renewing
        return Connection(
            server,
            Credentials(account.user or "", shows, reveal, another, fresh)
            if account.signs_in and reveal
            else None,
            pipeline=account.pipeline,
            deadlines=deadlines,
            transcript=transcript,
            profile=profile,
            renewing=renewing,
        )

    return connect


def server_profile(
    account: Account, usage: AccountUsage | None = None, clock: Clock | None = None
) -> ServerProfile:
    """Return what is known about an account's server, and remember in *usage* what is learnt."""
    from mailmerge.smtp.endpoint import ServerProfile

    profile = ServerProfile(messages_per_connection=account.per_connection, not_bearing=not_bearing())
    if usage is not None and clock is not None:

        def remember(borne: bool) -> None:
            with contextlib.suppress(LedgerError):  # then it is learnt again
                usage.note_borne(account.host, account.port, clock.now(), borne=borne)

        with contextlib.suppress(LedgerError):
            profile.borne = usage.borne(account.host, account.port, clock.now())
        profile.remember = remember
    return profile


@cache
def not_bearing() -> tuple[str, ...]:
    """Return lower-case words of servers that do not support the pipelining that they offer."""
    import tomllib

    import mailmerge.smtp

    text = (Path(mailmerge.smtp.__file__).parent / "pipelining.toml").read_text("utf-8")
    return tuple(server["words"] for server in tomllib.loads(text)["server"])


def pipelining_note(account: Account, profile: ServerProfile, *, remembered: bool) -> str:
    """Return a note that the server does not accept commands behind a message, if this run learnt it."""
    if not profile.failure:
        return ""
    again = "it is tried again after 30 days" if remembered else "it is not tried again in this run"
    return (
        f"{account.host}:{account.port} does not accept the next message before it has answered the last "
        f"({profile.failure}): the others were sent one after another, and {again}; "
        f'pipeline = "off" in the account avoids the trial'
    )


def mail_server(
    place: MailPlace, account: Account | None, environment: Environment, prompt: Callable[[str], str] | None
) -> ImapServer:
    """Return the IMAP server of a mailbox, with the secret that belongs to its host.

    Raises:
        CampaignFileError: no user is named who could sign in there.

    """
    from mailmerge.config.accounts import Account
    from mailmerge.mail_folders.imap import ImapServer

    user = place.user or (account.user if account else None)
    if user is None:
        raise CampaignFileError(
            f"no user is named to sign in at {place.host}",
            code="B801",
            hint=f"write imaps://USER@{place.host}, or name the account: --account NAME",
        )
    named = account if account is not None and _is_mailbox_of(place, account) else None
    by_token = account is not None and account.auth in {"token", "oauth"}
    # Signing in there as the account's own user uses the account's own secret, wherever that is kept.
    if named is not None and named.user == user and named.auth in {"password", "token", "oauth"}:
        keeper = named
    else:
        keeper = Account(
            host=place.host,
            port=place.port,
            tls=place.tls,
            user=user,
            auth="token" if by_token else "password",
            provider=account.provider if account else None,
            secret=named.secret if named else None,
            password_command=named.password_command if named else (),
            token_command=named.token_command if named else (),
            source=named.source if named else "option",
        )
    finder = cache(lambda: _SecretFinder(keeper, environment, prompt, lambda: False))
    insecure = account.insecure if account and is_loopback(place.host) else False
    ca_file = account.ca_file if account else None
    return ImapServer(
        place,
        user,
        lambda: finder().reveal(),
        token=by_token,
        fresh=(lambda: finder().fresh()) if by_token else None,
        ca_file=ca_file,
        insecure=insecure,
    )


def _is_mailbox_of(place: MailPlace, account: Account) -> bool:
    """Return whether an account itself names this place as its mailbox, so that its secret may go there."""
    own = mailbox_place(account)
    return (
        account.bounces is not None
        or place.host == account.host
        or (own is not None and own.host == place.host)
    )


def mailbox_place(account: Account) -> MailPlace | None:
    """Return which IMAP server has an account's mailbox; None: none is configured.

    Raises:
        CampaignFileError: the account's setting cannot be understood.

    """
    from mailmerge.mail_folders.mail_place import imap_place, named_place

    if account.imap is not None:
        return imap_place(account.imap)
    if account.bounces is not None and (place := named_place(account.bounces)).form == "imap":
        return place
    preset = account.preset
    return imap_place(preset.imap) if preset is not None and preset.imap else None


_PASSWORDS = 3
"""How many passwords a person may type: more would lock accounts."""


class _SecretFinder:
    """Finds the secret now, and returns it; it is forgotten with this object.

    What a program's own callable returns is forgotten with the sign-in that asked for it.
    """

    def __init__(
        self,
        account: Account,
        environment: Environment,
        prompt: Callable[[str], str] | None,
        give_up: Callable[[], bool],
    ) -> None:
        self._account = account
        self._environment = environment
        self._prompt = prompt
        self._give_up = give_up
        self._asked = 0
        self._fresh = 1
        """How many sign-ins may use the current token."""
        self._tokens = token_source(account, environment, give_up) if account.auth == "oauth" else None
        self._secret = None if account.secret is not None else self._find("")

    def reveal(self) -> str:
        """Return the secret; a token may have expired since the last time, a password stays the same."""
        if self._secret is None:
            from mailmerge.config.account_secrets import find_secret

            return find_secret(self._account, self._environment).reveal()
        if not self._fresh and self._renews:
            self._secret = self._find("")
        self._fresh = max(0, self._fresh - 1)
        return self._secret.reveal()

    def renewing(self) -> Iterator[Wait]:
        """Fetch a fresh token for the next sign-in while other sessions continue: its command may be slow."""
        if self._secret is not None and not self._fresh and self._renews:
            from mailmerge.smtp.connect import beside

            self._secret = yield from beside(lambda: self._find(""), "token")
            self._fresh += 1

    @property
    def _renews(self) -> bool:
        return bool(self._tokens or self._account.token_command)

    def fresh(self) -> str:
        """Return a token in place of the one that the server has refused."""
        if self._tokens is not None and self._secret is not None:
            self._secret = self._tokens.token(refused=self._secret.reveal())
            return self._secret.reveal()
        return self.reveal()

    def another(self, why: str) -> bool:
        """Ask for another password, if the one that was refused was typed by a person: a few times."""
        if not 0 < self._asked < _PASSWORDS:
            return False
        self._secret = self._find(f"{why}\n")
        return True

    def _find(self, before: str) -> Secret:
        from mailmerge.config.account_secrets import find_secret

        if self._tokens is not None:
            return self._tokens.token()
        prompt = self._prompt

        def ask(question: str) -> str:
            assert prompt is not None
            self._asked += 1
            return prompt(before + question)

        return find_secret(
            self._account, self._environment, prompt=ask if prompt else None, give_up=self._give_up
        )


def token_source(
    account: Account, environment: Environment, give_up: Callable[[], bool] = lambda: False
) -> TokenSource:
    """Return what keeps and renews the tokens of an account with ``auth = "oauth"``."""
    from mailmerge.config.account_secrets import secret_store
    from mailmerge.sign_in.tokens import TokenSource

    folder = user_state_folder(environment.real)
    return TokenSource(account, secret_store(environment), folder, give_up=give_up)


def open_unless(connection: Connection, give_up: Callable[[], bool]) -> bool:
    """Open a connection; return False, with nothing open, as soon as *give_up* returns True.

    Raises:
        SessionError: it cannot be opened.

    """
    from mailmerge.smtp.connect import block

    for wanted in connection.opening():
        if give_up():
            return False
        block(wanted._replace(seconds=min(wanted.seconds, _SLICE)))
    return not give_up()


def searching(connect: Callable[[], Connection], again: Callable[[], object]) -> Callable[[], Connection]:
    """Make connections as *connect* does, and then search the latest message *again*.

    It was made before the secret was known: now it is searched for the secret.
    """

    def connected() -> Connection:
        connection = connect()
        again()
        return connection

    return connected


def hand_over(connection: Connection, message: Message) -> Outcome:
    """Send one message over an open connection and wait for its outcome.

    Raises:
        SessionError: the connection ended before the message was begun.

    """
    outcome = hand_over_unless(connection, message, lambda: False)
    assert outcome is not None
    return outcome


def hand_over_unless(connection: Connection, message: Message, give_up: Callable[[], bool]) -> Outcome | None:
    """Do what `hand_over` does, unless *give_up* returns True before the message is handed over.

    Returns:
        The outcome; None: it was given up, and the connection with it.

    Raises:
        SessionError: the connection ended before the message was begun.

    """
    from mailmerge.smtp.state import Closed, Completed, ReleaseNeeded

    connection.submit(message, 0)
    outcome: Outcome | None = None
    released = False
    while outcome is None:
        if not released and give_up():
            connection.abort()
            return None
        for event in connection.poll(_SLICE):
            match event:
                case ReleaseNeeded(token):
                    if not give_up():
                        released = True
                        connection.release([token])
                case Completed(outcome=found):
                    outcome = found
                case Closed(error) if outcome is None and error is not None:
                    raise error
    return outcome


class Transcript:
    """The private file that the SMTP dialogue is written to, line by line; after a write error it ends early.

    Use it as a context manager.

    Args:
        path: the file; None: nothing is written.

    Raises:
        CampaignFileError: it cannot be written.

    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._file: io.TextIOWrapper | None = None
        self._failure: OSError | None = None
        if path is None:
            return
        try:
            raw = start_file(path)
        except FileError as error:
            raise CampaignFileError(
                f"cannot write the transcript {path}: {error.strerror}",
                code="C482",
                hint=error.hint or "--transcript expects the name of a file",
            ) from error
        self._file = io.TextIOWrapper(raw, "utf-8", errors="backslashreplace", line_buffering=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._close()

    @property
    def write(self) -> Callable[[str], None] | None:
        """The function that writes a line; None: no transcript is wanted."""
        return None if self._file is None else self._write

    def notes(self) -> Iterator[str]:
        """Yield a note if part of it is missing."""
        self._close()
        if self._failure is not None:
            why = self._failure.strerror or self._failure
            yield f"the transcript {self._path} ends early, it could not be written: {why}"

    def _write(self, line: str) -> None:
        if self._file is not None:
            try:
                self._file.writelines((line, "\n"))
            except OSError as error:
                self._failure = error
                self._close()

    def _close(self) -> None:
        file, self._file = self._file, None
        if file is not None:
            try:
                file.close()
            except OSError as error:
                self._failure = self._failure or error
