"""``mailmerge login`` and ``logout``: from an address to an account that works, and back."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from mailmerge.cli.options import completed, options_of
from mailmerge.cli.output import interactive, note, out, show_diagnostics
from mailmerge.cli.reference import numbered, steps_in_chinese
from mailmerge.errors import AuthError, CampaignFileError, MailmergeError
from mailmerge.masking import Secret
from mailmerge.suggest import Invocation, suggested

if TYPE_CHECKING:
    from mailmerge.campaign.login import Choice, Login
    from mailmerge.config.accounts import Account
    from mailmerge.config.environment import Environment
    from mailmerge.providers import Provider
    from mailmerge.sign_in.oauth import OAuthClient, Tokens

_KEYS: Final = ("client_id", "tenant", "issuer", "ca_file")
"""Keys of an account that options can set."""
_TRIES: Final = 3
"""How many passwords a person may type: more would lock accounts."""


@click.command("login")
@click.argument(
    "who", required=False, metavar="[ACCOUNT|PROVIDER|ADDRESS]", shell_complete=completed("accounts")
)
@options_of("login")
def login(*, who: str | None, **options: Any) -> int:
    """Set up an account: connect to its server, sign in, store the secret, and add it to your config.toml.

    Name one of your accounts, a provider (see `mailmerge providers`) or your address. The password or token
    is stored in the system keyring or, after asking, in a private file.

    \b
    Examples:
      mailmerge login me@gmail.com
      mailmerge login microsoft365 --client-id 11112222-bbbb-3333 --tenant example.org
      mailmerge login work --device
    """  # noqa: D301  click's own mark
    from mailmerge.config.environment import Environment

    if not interactive():
        raise CampaignFileError(
            "login asks questions, and this is not running in a terminal",
            code="C411",
            hint="run it in a terminal; programs set MAILMERGE_SMTP_PASSWORD or `password_command`",
        )
    who = who or _of_this_folder() or click.prompt("Your address, provider or account", err=True)
    name = _set_up(who, options, Environment.read(None))
    again = suggested(Invocation("login", given={"account": (name,)}), "check", "--smtp")
    out(f'Use it: account = "{name}" in campaign.toml, or --account {name}. Try it: {again}')
    return 0


def _of_this_folder() -> str | None:
    """Return who sends the campaign in this folder, if there is one: its account, or the address in From."""
    from mailmerge.campaign.campaign import Campaign

    try:
        file = Campaign.load(Path()).definition.file
    except MailmergeError:
        return None
    if file.account:
        return file.account
    sender = file.message.from_
    return _address_of(sender) if sender and "{" not in sender else None


def offered(sender: str, *, ask: bool = False) -> str | None:
    """Offer to sign in as *sender*; return the account's name, or None for "not now".

    An account that sends as this sender is used without a question. Where the provider is not known, signing
    in is only offered if *ask* is true: the server has to be typed.
    """
    from mailmerge.campaign.login import accounts_of
    from mailmerge.config.environment import Environment
    from mailmerge.providers import provider_for_address

    address = _address_of(sender)
    provider = provider_for_address(address.rpartition("@")[2]) if address else None
    if address is None:
        return None
    environment = Environment.read(None)
    if known := accounts_of(address, environment):
        note(f"Your account {known} sends as {address}.")
        return known
    if provider is None and not ask:
        return None
    where = provider.title if provider else "your mail server"
    if not click.confirm(f"Sign in at {where} as {address} now?", default=ask, err=True):
        return None
    nothing = dict.fromkeys(
        ("oauth", "device", "no_browser", "in_file", *(f"accounts_{key}" for key in _KEYS))
    )
    try:
        return _set_up(address, nothing, environment)
    except MailmergeError as error:  # the campaign is made anyway
        show_diagnostics(error.diagnostics)
        return None


def _address_of(sender: str) -> str | None:
    from mailmerge.addresses import AddressError, parse_address_list

    try:
        return str(parse_address_list(sender)[0].address)
    except (AddressError, IndexError):
        return None


def _set_up(who: str, options: dict[str, Any], environment: Environment) -> str:
    """Go from an address to an account that works; return its name."""
    from mailmerge.campaign.login import Login, choose
    from mailmerge.config.accounts import (
        account_of,
        default_config_path,
        resolve_account,
        write_account,
    )

    choice = choose(who, environment)
    values = _values(choice, options)
    path = default_config_path(environment)
    if choice.known:
        account = resolve_account(choice.name, environment=environment, overrides=values)
    else:
        account = account_of(choice.name, values, environment=environment, path=path)
    for step in Login(account, environment).reach():
        note(f"  {step}")
    if values:  # only what reached a server is worth writing
        write_account(path, choice.name, values)
        note(f"Wrote [accounts.{choice.name}] to {path}.")
    if account.auth == "oauth":
        account = _with_client(account, environment, path)
        place = _sign_in_by_oauth(Login(account, environment), options)
    elif account.auth == "password":
        place = _sign_in_by_password(Login(account, environment), options)
    else:
        raise CampaignFileError(
            f'account {account.name} signs in with auth = "{account.auth}": it needs no secret',
            code="C411",
            hint="check --smtp tries it",
        )
    out(f"{account.user} is signed in at {account.host}. The secret is stored in {place}.")
    return choice.name


@click.command("logout")
@click.argument("who", metavar="ACCOUNT", shell_complete=completed("accounts"))
@options_of("logout")
def logout(*, who: str) -> int:
    """Remove the secrets that `login` stored for ACCOUNT; the account itself stays in config.toml.

    \b
    Example:
      mailmerge logout work
    """  # noqa: D301  click's own mark
    from mailmerge.campaign.login import Login
    from mailmerge.config.accounts import resolve_account
    from mailmerge.config.environment import Environment

    environment = Environment.read(None)
    account = resolve_account(who, environment=environment)
    places = Login(account, environment).forget()
    out(
        f"Removed the secrets of {account.name} from: {', '.join(places)}."
        if places
        else "Nothing was stored."
    )
    if places and account.auth == "oauth":
        out("The provider still lists the application; remove it there to revoke its access.")
    return 0


# --- what the account is -----------------------------------------------------------------------------------


def _values(choice: Choice, options: dict[str, Any]) -> dict[str, object]:
    """Ask for what is not known yet, and return the keys to be written."""
    values: dict[str, object] = {}
    provider = choice.provider
    if not choice.known:
        address = str(choice.address or "")
        if provider is not None:
            values["provider"] = provider.name
            _show_steps(provider, oauth=options["oauth"] or provider.auth == "oauth")
        else:
            from mailmerge.config.accounts import IMPLICIT_TLS_PORTS

            domain = address.rpartition("@")[2]
            values["host"] = click.prompt("Server for outgoing mail", default=f"smtp.{domain}", err=True)
            values["port"] = click.prompt("Port (587 or 465)", default=587, type=int, err=True)
            values["tls"] = "tls" if values["port"] in IMPLICIT_TLS_PORTS else "starttls"
        if provider is None or provider.user in {"address", "other"}:
            what = provider.user_note if provider and provider.user == "other" else "Your address there"
            if not address or (provider is not None and provider.user == "other"):
                values["user"] = click.prompt(what, err=True)
            else:
                values["user"] = address
        values["from"] = address or str(values.get("user", ""))
    if options["oauth"]:
        values["auth"] = "oauth"
    for key in _KEYS:
        if given := options[f"accounts_{key}"]:
            values[key] = str(given.absolute() if isinstance(given, Path) else given)
    return {key: value for key, value in values.items() if value != ""}


def _show_steps(provider: Provider, *, oauth: bool) -> None:
    steps = provider.oauth_steps if oauth else provider.steps
    what = "register an application once" if oauth else f"how to get the {provider.secret}"
    note(f"{provider.title}: {what}")
    for line in (*numbered(steps), *(() if oauth else steps_in_chinese(provider))):
        note(line)
    note(f"  Page: {provider.oauth.page if oauth and provider.oauth else provider.page}")


# --- signing in ------------------------------------------------------------------------------------------


def _sign_in_by_password(login: Login, options: dict[str, Any]) -> str:
    """Ask for the password until the server accepts it, and store it; return where."""
    account = login.account
    what = account.preset.secret if account.preset else "password"
    spaces = account.preset.spaces if account.preset else "keep"
    for left in reversed(range(_TRIES)):
        typed = click.prompt(f"{what[:1].upper()}{what[1:]} for {account.user}", hide_input=True, err=True)
        secret = Secret(typed, origin="the prompt", spaces=spaces)
        try:
            login.try_password(secret.reveal())
        except AuthError as error:
            if not left or error.code != "S601":  # the server has refused this password
                raise
            note(f"  {error}")
            if error.hint:
                note(f"   = hint: {error.hint}")
        else:
            note(f"  signed in as {account.user}")
            return _kept(partial(login.keep_password, secret.reveal()), options)
    raise AssertionError


def _with_client(account: Account, environment: Environment, path: Path) -> Account:
    """Ask for the client ID of the application that the user registered, unless the account has it."""
    from mailmerge.config.accounts import resolve_account, write_account

    if account.client_id or account.service_account:
        return account
    given = click.prompt("Client ID of the application that you registered", err=True)
    write_account(path, account.name, {"client_id": given.strip()})
    return resolve_account(account.name, environment=environment)


def _sign_in_by_oauth(login: Login, options: dict[str, Any]) -> str:
    account = login.account
    secret = _client_secret(login)
    client = login.client(secret)
    tokens = client.without_person(account) or _agreed(client, account.user or "", options)
    note(f"  {client.endpoints.title} issued a token")
    login.try_token(tokens)
    note(f"  signed in as {account.user}")
    return _kept(partial(login.keep_tokens, tokens, secret), options)


def _client_secret(login: Login) -> str:
    """Return the application's secret if it has one: stored, printed by a program, or typed."""
    account = login.account
    if account.service_account is not None or account.password_command:
        return login.client_secret()
    known = account.preset.oauth if account.preset else None
    wanted = account.grant == "application" or (known.wants_secret if known else bool(account.issuer))
    if not wanted:
        return ""
    kept = login.client_secret()
    empty = "the stored one" if kept else "it has none"
    typed: str = click.prompt(
        f"Client secret of the application (empty: {empty})", default="", show_default=False,
        hide_input=True, err=True,
    )  # fmt: skip
    return typed.strip() or kept


def _agreed(client: OAuthClient, user: str, options: dict[str, Any]) -> Tokens:
    """Let the person consent: in the browser here, by a code, or in a browser elsewhere."""
    import webbrowser

    from mailmerge.sign_in import consent

    here = consent.has_browser() and not options["no_browser"] and not options["device"]
    if here:
        note("A browser opens. If it does not, open this address in one on this machine:")
        return consent.in_browser(client, user, show=_show_address, open_browser=webbrowser.open)
    if client.endpoints.device and not options["no_browser"]:

        def show(address: str, code: str) -> None:
            note(f"Open {address} on any device, and enter the code {code}")

        return consent.by_code(client, show=show)
    if options["device"]:
        raise CampaignFileError(
            f"{client.endpoints.title} does not offer codes for other devices",
            code="C411",
            hint="use --no-browser: open the address elsewhere, and paste the address where it ends",
        )
    note(
        "Open this address in a browser on any machine, and agree. It then shows an error, or an empty page, "
        "at an address that begins with http://localhost:1 - copy that whole address and paste it here."
    )
    return consent.in_another_browser(
        client,
        user,
        show=_show_address,
        ask=lambda: str(click.prompt("Address where it ended", err=True, hide_input=True)),
    )


def _show_address(address: str) -> None:
    note(address)


def _kept(keep: Any, options: dict[str, Any]) -> str:
    """Store a secret in the keyring, else, if the person agrees, in a private file; return where."""
    from mailmerge.config.secret_store import keyring_works

    if not options["in_file"] and keyring_works():
        try:
            return str(keep(in_file=False))
        except AuthError as error:
            note(f"  {error}")
    elif not options["in_file"]:
        note("No system keyring was found (it needs the optional package keyring, and a running keyring).")
    if options["in_file"] or click.confirm(
        "Store it in a file that only you can read?", default=True, err=True
    ):
        return str(keep(in_file=True))
    raise CampaignFileError(
        "nothing was stored", code="C411", hint="the next `send` asks for it, or set `password_command`"
    )
