"""Setting up an account: find it, reach its server, sign in, store the secret, save the account.

Each step is a call of its own, so that a terminal, a window or a script can show and ask what it likes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.addresses import AddressError, parse_address_list
from mailmerge.campaign.connect import connection_factory, token_source
from mailmerge.config.account_secrets import entry_of, secret_store
from mailmerge.config.accounts import account_names, default_config_path, resolve_account
from mailmerge.errors import AuthError, CampaignFileError
from mailmerge.providers import find_provider, provider_for_address
from mailmerge.sign_in.oauth import client_of
from mailmerge.sign_in.tokens import Registration

if TYPE_CHECKING:
    from mailmerge.addresses import Address
    from mailmerge.config.accounts import Account
    from mailmerge.config.environment import Environment
    from mailmerge.providers import Provider
    from mailmerge.sign_in.oauth import OAuthClient, Tokens


class Choice(Struct, frozen=True):
    """Who wants to sign in, as far as one word can tell."""

    name: str
    """What the account is or will be called."""
    known: bool
    """It is in the user's configuration."""
    provider: Provider | None
    address: Address | None
    """Empty if the word was not an address."""


def choose(word: str, environment: Environment) -> Choice:
    """Return what *word* means: an account of the user's, a provider, or an address at one or of an account.

    Raises:
        CampaignFileError: it is none of these.

    """
    names = account_names(default_config_path(environment))
    if word in names:
        return Choice(word, True, None, None)
    if "@" not in word:
        preset = find_provider(word)
        return Choice(preset.name, preset.name in names, preset, None)
    try:
        address = parse_address_list(word)[0].address
    except (AddressError, IndexError) as error:
        raise CampaignFileError(f"{word!r} is not an address: {error}", code="C411") from None
    if own := accounts_of(str(address), environment):
        return Choice(own, True, None, address)
    provider = provider_for_address(address.domain)
    name = provider.name if provider else address.domain.partition(".")[0].lower()
    return Choice(_free(name, names), False, provider, address)


def accounts_of(address: str, environment: Environment) -> str | None:
    """Return the first of the user's own accounts that sends as *address*; None: there is none.

    Raises:
        CampaignFileError: the configuration cannot be read.

    """
    for name in sorted(account_names(default_config_path(environment))):
        try:
            account = resolve_account(name, environment=environment)
        except CampaignFileError:
            continue  # a wrong account is reported to whoever names it
        own = {(account.user or "").lower(), str(account.from_.address).lower() if account.from_ else ""}
        if address.lower() in own:
            return name
    return None


def _free(name: str, names: frozenset[str]) -> str:
    number, found = 2, name
    while found in names:
        found, number = f"{name}-{number}", number + 1
    return found


class Login:
    """One account on its way to working; use its methods in their order.

    Args:
        account: as far as it is known.
        environment: the environment, without a campaign's ``.env``.

    """

    def __init__(self, account: Account, environment: Environment) -> None:
        self.account = account
        self._environment = environment
        self._store = secret_store(environment)
        self._tokens = token_source(account, environment)

    def reach(self) -> tuple[str, ...]:
        """Connect and secure the connection, without signing in; return a sentence for each step.

        Raises:
            SessionError: the server cannot be reached, or the connection is not private.

        """
        account = replace(self.account, auth="none", pipeline="off")
        connection = connection_factory(account, self._environment)()
        try:
            connection.open()
            steps = [f"connected to {account.host}, port {account.port}"]
            if until := connection.certificate_until:
                steps.append(f"TLS is established; the certificate is valid until {until.day} {until:%B %Y}")
        finally:
            connection.close()
        return tuple(steps)

    def try_password(self, password: str) -> None:
        """Sign in once, and hand nothing over.

        Raises:
            AuthError: the server does not accept it.
            SessionError: the connection ended.

        """
        account = replace(self.account, pipeline="off")
        connection = connection_factory(account, self._environment, secret=lambda: password)()
        try:
            connection.open()
        finally:
            connection.close()

    def try_token(self, tokens: Tokens) -> None:
        """Sign in once with a token, and hand nothing over.

        Raises:
            AuthError: the server does not accept it.
            SessionError: the connection ended.

        """
        self.try_password(tokens.access)

    def client_secret(self) -> str:
        """Return the application's secret: what the account's command prints, else what is stored."""
        return self._tokens.client_secret()

    def keep_password(self, password: str, *, in_file: bool) -> str:
        """Store it; return where, in words.

        Raises:
            AuthError: no keyring accepts it, and *in_file* is not set.
            FileError: the file cannot be written.

        """
        return self._store.keep(*entry_of(self.account), password, in_file=in_file)

    def client(self, client_secret: str = "") -> OAuthClient:
        """Return the client that asks the provider for tokens.

        Raises:
            CampaignFileError: the optional packages are not installed, or no token endpoint is known.
            SessionError: the issuer does not publish one.

        """
        return client_of(self.account, client_secret)

    def keep_tokens(self, tokens: Tokens, client_secret: str, *, in_file: bool) -> str:
        """Store what the sign-in returned; return where, in words.

        Raises:
            AuthError: no keyring accepts it, and *in_file* is not set; or it cannot be renewed.
            FileError: a file cannot be written.

        """
        if not tokens.refresh and self.account.grant == "person" and self.account.service_account is None:
            raise AuthError(
                "the provider issued a token that expires soon, and none to renew it with",
                code="S663",
                hint="Does the registration allow offline access (scope offline_access)?",
            )
        return self._tokens.begin(Registration(client_secret), tokens, in_file=in_file)

    def forget(self) -> list[str]:
        """Remove what is stored for the account; return where it was, in words.

        Raises:
            FileError: a file cannot be removed.

        """
        return [*self._store.forget(*entry_of(self.account)), *self._tokens.forget()]
