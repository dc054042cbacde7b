"""Who we send as: an account from the user's configuration, a preset, the environment or ``.env``.

An `Account` holds everything but the secret, which `account_secrets` finds when it is needed.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.addresses import AddressError, parse_address_list
from mailmerge.config.account_schema import ACCOUNT_SCHEMA, NOT_YET, is_address_literal, is_host, is_loopback
from mailmerge.config.environment import speaks_for
from mailmerge.config.providers import get_provider, near_providers, provider_for_address, provider_for_host
from mailmerge.config.toml_document import Document, Problems, read_document, tell_unknown
from mailmerge.config.validation import RefusalError, near_misses, quote, read_typed
from mailmerge.errors import CampaignFileError

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mailmerge.addresses import Address, Mailbox
    from mailmerge.config.environment import Environment
    from mailmerge.config.providers import Auth, Provider, Tls
    from mailmerge.model import Rate

Source = Literal["config", "preset", "environment", ".env", "option"]

_TLS_BY_PORT: Final[Mapping[int, Tls]] = {465: "tls", 994: "tls", 2465: "tls", 25: "none"}
_DEFAULT_PORT = 587
_VARIABLES: Final = {"host": "SERVER", "port": "PORT", "tls": "TLS"}


class Account(Struct, frozen=True):
    """A way to a submission service, whose addresses it may use, and what it takes.

    Raises:
        CampaignFileError: host, user or EHLO name could smuggle something into the session, or a password
            would cross the network in clear.

    """

    name: str
    host: str
    port: int = _DEFAULT_PORT
    tls: Tls = "starttls"
    user: str | None = None
    auth: Auth = "password"
    provider: str | None = None
    """The preset's name, if it is one or builds on one."""
    from_: Mailbox | None = None
    aliases: tuple[str, ...] = ()
    """Normalised addresses that it may send as; ``@example.org`` is every address there."""
    any_from: bool = False
    return_path: Address | None = None
    """The envelope's sender where it is not From's address."""
    rates: tuple[Rate, ...] = ()
    """Of messages; every one holds."""
    quota: Rate | None = None
    """Of recipients."""
    max_size: int | None = None
    """In octets, encoded."""
    max_recipients: int | None = None
    """Per message."""
    per_connection: int | None = None
    """Messages after which a new connection is made."""
    pipeline: Literal["auto", "off", "overlap", "window"] = "auto"
    sessions: int = 1
    helo: str = "[127.0.0.1]"
    """Our name in EHLO; the default tells nothing about this machine."""
    ca_file: Path | None = None
    insecure: bool = False
    """Accept any certificate: on loopback only."""
    password_command: tuple[str, ...] = ()
    token_command: tuple[str, ...] = ()
    source: Source = "option"
    """Where the host came from: a secret goes only to a host of the same source."""
    origin: str = ""
    """The same in words, for messages."""

    def __post_init__(self) -> None:
        if not is_host(self.host):
            raise CampaignFileError(f"{quote(self.host)} is no host name", code="C412")
        if self.user is not None and not self.user.isprintable():
            raise CampaignFileError(f"the user {quote(self.user)} holds a control character", code="C412")
        if not (is_host(self.helo) or is_address_literal(self.helo)):
            raise CampaignFileError(f"{quote(self.helo)} cannot stand after EHLO", code="C412")
        if is_loopback(self.host):
            return
        if self.insecure:
            raise CampaignFileError(
                f"insecure is for this machine only, and {self.host} is another one",
                code="C415",
                hint="name the server's own certificate authority: ca_file, --ca-file",
            )
        if self.tls == "none" and self.auth != "none":
            raise CampaignFileError(
                f"the password for {self.host} would cross the network in clear (port {self.port}, no TLS)",
                code="C415",
                hint='set port 587 with tls = "starttls", or port 465 with tls = "tls"; '
                'a relay that asks for no password: auth = "none"',
            )

    @property
    def preset(self) -> Provider | None:
        """What is known about its provider."""
        return get_provider(self.provider) if self.provider else None


def sender_allowed(account: Account, address: Address) -> bool:
    """Tell whether the account may send as *address*: it has declared it, or takes any verified one."""
    if account.any_from:
        return True
    wanted = address.normalised
    declared = {(account.user or "").lower(), *account.aliases}
    if account.from_:
        declared.add(account.from_.address.normalised)
    return wanted in declared or f"@{address.domain.lower()}" in declared


# --- finding the account -----------------------------------------------------------------------------------


def resolve_account(
    name: str | None,
    *,
    environment: Environment,
    config_path: Path | None = None,
    overrides: Mapping[str, object] | None = None,
    campaign_from: str | None = None,
) -> Account:
    """Find the account called *name*, or the one that the environment describes.

    Args:
        name: in the user's configuration, or a preset; None: ``SMTP_SERVER`` and its like decide.
        environment: the environment and the campaign's ``.env``.
        config_path: the user's configuration; default: ``MAILMERGE_CONFIG``, else the user's config folder.
        overrides: keys of an account with values from options; None is as good as not there.
        campaign_from: ``message.from``, whose address is the user of a preset where nothing else says so.

    Raises:
        CampaignFileError: there is no such account, or it is wrong or incomplete; all problems at once.

    """
    document = _read_config(config_path or default_config_path(environment))
    if name is None:
        draft = _from_environment(environment, campaign_from, document)
    elif document and name in _account_tables(document):
        draft = _from_config(name, document)
    elif provider := get_provider(name):
        draft = _Draft(name, {"provider": provider.name}, "preset", f"the preset {provider.name}")
    else:
        raise _unknown_account(name, document, environment)
    _override(draft, overrides or {})
    return _finish(draft, environment, campaign_from)


def list_accounts(environment: Environment, config_path: Path | None = None) -> tuple[str, ...]:
    """Give the names of the accounts in the user's configuration."""
    return tuple(_account_tables(_read_config(config_path or default_config_path(environment))))


def default_config_path(environment: Environment) -> Path:
    """Give the place of the user's ``config.toml``."""
    if named := environment.real.get("MAILMERGE_CONFIG"):
        return Path(named)
    from platformdirs import user_config_path

    return user_config_path("mailmerge", appauthor=False) / "config.toml"


class _Draft(Struct):
    """What is known of an account so far, in the words of `ACCOUNT_SCHEMA`."""

    name: str
    values: dict[str, Any]
    source: Source
    origin: str


# --- from the user's configuration -----------------------------------------------------------------------


def _read_config(path: Path) -> Document | None:
    return read_document(path) if path.exists() else None


def _account_tables(document: Document | None) -> Mapping[str, object]:
    accounts = document.tables.get("accounts") if document else None
    return accounts if isinstance(accounts, dict) else {}


def _from_config(name: str, document: Document) -> _Draft:
    problems = Problems()
    table = f"accounts.{name}"
    schema = {"accounts": {}, table: ACCOUNT_SCHEMA}
    not_yet = {f"{table}.{key}": what for key, what in NOT_YET.items()}
    document.report_passwords(problems, planned={})
    for other, value in document.tables.items():
        if other != "accounts":
            tell_unknown(problems, document, other, value, schema={"accounts": {}}, not_yet={})
    account = _account_tables(document)[name]
    values: dict[str, Any] = {}
    if not isinstance(account, dict):
        place = document.places.keys.get(table)
        problems.add("C404", f"`{table}` must be a section", f"write [{table}]", place)
        account = {}
    for key, value in account.items():
        at = f"{table}.{key}"
        kind = ACCOUNT_SCHEMA.get(key)
        if kind is None:
            tell_unknown(problems, document, at, value, schema=schema, not_yet=not_yet)
            continue
        try:
            values[key] = kind.read(value)
        except RefusalError as refusal:
            for fault in refusal.faults:
                place = document.places.values.get(at + fault.at) or document.places.values.get(at)
                problems.add(fault.code, f"`{at}{fault.at}` {fault.says}", fault.hint, place)
    problems.raise_if_any()
    if "ca_file" in values:
        values["ca_file"] = document.folder / values["ca_file"].expanduser()
    return _Draft(name, values, "config", f"[{table}] in {document.path}")


def _unknown_account(name: str, document: Document | None, environment: Environment) -> CampaignFileError:
    known = tuple(_account_tables(document))
    near = tuple(dict.fromkeys((*near_misses(name, known), *near_providers(name))))[:3]
    if near:
        hint = f"did you mean {' or '.join(f'`{other}`' for other in near)}?"
    elif any(server in environment for server in ("MAILMERGE_SMTP_SERVER", "SMTP_SERVER")):
        hint = "leave the account out to use the server that SMTP_SERVER names"
    else:
        accounts = f"your accounts: {', '.join(known)}; " if known else ""
        hint = f"{accounts}presets: see `mailmerge providers`"
    return CampaignFileError(f"no account or preset is called {quote(name)}", code="C410", hint=hint)


# --- from the environment ---------------------------------------------------------------------------------


def _from_environment(
    environment: Environment, campaign_from: str | None, document: Document | None
) -> _Draft:
    places: tuple[tuple[Mapping[str, str], Source, str], ...] = (
        (environment.real, "environment", "the environment"),
        (environment.file, ".env", str(environment.path)),
    )
    for values, source, place in places:
        named_by = _variable(values, "SERVER")
        if named_by is None:
            continue
        draft = _Draft(source, {}, source, f"{named_by} in {place}")
        problems = Problems()
        # Port and TLS mode come from where the server comes from: nobody else may weaken them.
        for key, part in _VARIABLES.items():
            if variable := _variable(values, part):
                _read_variable(draft, key, variable, values[variable], problems)
        problems.raise_if_any()
        return draft
    raise _no_account(campaign_from, _account_tables(document))


def _no_account(campaign_from: str | None, known: Iterable[str]) -> CampaignFileError:
    address = _address_in(campaign_from)
    provider = provider_for_address(address.domain) if address else None
    if provider:
        hint = f"{address} is at {provider.title}: --account {provider.name}"
    elif names := ", ".join(known):
        hint = f"name one of yours with --account: {names}"
    else:
        hint = "name a preset with --account (see `mailmerge providers`), or set SMTP_SERVER"
    return CampaignFileError("no account to send with", code="C411", hint=hint)


def _variable(values: Mapping[str, str], part: str) -> str | None:
    """Give the variable that holds *part*: ours before the common one."""
    names = (f"MAILMERGE_SMTP_{part}", f"SMTP_{part}")
    return next((name for name in names if name in values), None)


def _read_variable(draft: _Draft, key: str, variable: str, text: str, problems: Problems) -> None:
    try:
        draft.values[key] = read_typed(ACCOUNT_SCHEMA[key], text.strip(" \t"))
    except RefusalError as refusal:
        for fault in refusal.faults:
            problems.add(fault.code, f"`{variable}` {fault.says}", fault.hint)


def _override(draft: _Draft, overrides: Mapping[str, object]) -> None:
    problems = Problems()
    for key, value in overrides.items():
        if value is None:
            continue
        label = f"--{key.replace('_', '-')}"
        if key not in ACCOUNT_SCHEMA:
            raise RuntimeError(f"{key} is no key of an account")
        try:
            draft.values[key] = ACCOUNT_SCHEMA[key].read(value)
        except RefusalError as refusal:
            for fault in refusal.faults:
                problems.add(fault.code, f"`{label}` {fault.says}", fault.hint)
    problems.raise_if_any()
    if overrides.get("host") is not None:
        draft.source, draft.origin = "option", "--host"


# --- putting it together ----------------------------------------------------------------------------------


def _finish(draft: _Draft, environment: Environment, campaign_from: str | None) -> Account:
    values = draft.values
    provider = get_provider(values.get("provider", "")) or provider_for_host(values.get("host", ""))
    _fill_server(draft, provider)
    _fill_user(draft, provider, environment, campaign_from)
    renamed = {"from": "from_", "rate": "rates"}
    known = {renamed.get(key, key): value for key, value in values.items()}
    known["provider"] = provider.name if provider else None
    if provider:
        for limit in ("rates", "quota", "max_size", "max_recipients", "per_connection", "any_from"):
            known.setdefault(limit, getattr(provider, limit))
    if known["auth"] == "none" and not provider and "from_" not in known:
        known.setdefault("any_from", True)  # a relay that trusts this machine: it declares no address
    return Account(name=draft.name, source=draft.source, origin=draft.origin, **known)


def _fill_server(draft: _Draft, provider: Provider | None) -> None:
    values = draft.values
    if "host" not in values:
        if provider is None:
            raise _incomplete(draft, "has no host", 'write host = "smtp.example.org" or provider = "gmail"')
        if provider.needs_region:
            region = next(iter(provider.regions))
            hint = f'add the region to the name, such as "{provider.name}-{region}"'
            raise _incomplete(draft, f"does not say in which region of {provider.title} it is", hint)
        fits = [
            server
            for server in provider.servers
            if values.get("port", server.port) == server.port and values.get("tls", server.tls) == server.tls
        ]
        server = fits[0] if fits else replace(provider.servers[0], port=values.get("port", _DEFAULT_PORT))
        values["host"] = server.host
        if fits:
            values.update(port=server.port, tls=server.tls)
    preferred = provider.servers[0].port if provider else _DEFAULT_PORT
    if "port" not in values:
        values["port"] = {"tls": 465, "none": 25}.get(values.get("tls", ""), preferred)
    unusual: Tls = "none" if is_loopback(values["host"]) and values["port"] != _DEFAULT_PORT else "starttls"
    values.setdefault("tls", _TLS_BY_PORT.get(values["port"], unusual))


def _fill_user(
    draft: _Draft, provider: Provider | None, environment: Environment, campaign_from: str | None
) -> None:
    values = draft.values
    problems = Problems()
    named = False
    for place in (environment.real, environment.file):
        if not _describes(place, draft):
            continue
        for key, part in (("user", "USER"), ("from", "FROM")):
            variable = _variable(place, part)
            if variable and key not in values:
                _read_variable(draft, key, variable, place[variable], problems)
                named = named or key == "user"
        named = named or any(name in place for name in ("MAILMERGE_SMTP_PASSWORD", "SMTP_AUTH"))
    problems.raise_if_any()
    _fill_auth(draft, provider, named=named)
    if values["auth"] == "none" or "user" in values:
        return
    if provider and provider.user not in ("address", "other"):
        values["user"] = provider.user
        return
    sender = values["from"].address if "from" in values else _address_in(campaign_from)
    if sender is None or (provider and provider.user == "other"):
        note = f": {provider.user_note}" if provider else ""
        where = f"write user in [accounts.{draft.name}]" if draft.source == "config" else "set SMTP_USER"
        raise _incomplete(draft, f"has no user{note}", f"{where}, or message.from" if not note else where)
    values["user"] = str(sender)


def _describes(place: Mapping[str, str], draft: _Draft) -> bool:
    """Tell whether user and From in *place* are those of this account."""
    return speaks_for(place, draft.values["host"], draft.source)


def _fill_auth(draft: _Draft, provider: Provider | None, *, named: bool) -> None:
    """Choose how to sign in where nobody said so; *named*: the environment holds a user or a secret."""
    values = draft.values
    if "auth" in values:
        return
    if "token_command" in values:
        values["auth"] = "token"
    elif "password_command" in values:
        values["auth"] = "password"
    elif provider:
        values["auth"] = provider.auth
    elif "user" in values or named:
        values["auth"] = "password"
    else:
        values["auth"] = "none" if values["tls"] == "none" else "password"


def _incomplete(draft: _Draft, what: str, hint: str) -> CampaignFileError:
    return CampaignFileError(f"the account from {draft.origin} {what}", code="C411", hint=hint)


def _address_in(mailbox: str | None) -> Address | None:
    """Give the address in a constant ``message.from``; a template has none yet."""
    try:
        mailboxes = parse_address_list(mailbox or "")
    except AddressError:
        return None
    return mailboxes[0].address if mailboxes else None
