"""Who we send as: an account from the user's configuration, a preset, the environment or ``.env``.

An `Account` found this way has everything but the secret, which `account_secrets` finds when it is needed.
A program that makes one itself can pass the secret with it.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import Struct
from msgspec.structs import force_setattr, replace

from mailmerge.addresses import (
    AddressError,
    is_address_literal,
    is_host,
    is_loopback,
    parse_address_list,
)
from mailmerge.config.environment import applies_to_host, meant
from mailmerge.config.toml_document import (
    Document,
    TomlProblems,
    UnknownKey,
    read_document,
    report_unknown_key,
)
from mailmerge.errors import CampaignFileError
from mailmerge.files import replace_text
from mailmerge.folders import read_plain
from mailmerge.masking import MASK, secret_of
from mailmerge.option_types import fields_of
from mailmerge.options import ACCOUNT, CONFIG_FILE, PLANNED, SECRET, AccountOptions
from mailmerge.providers import get_provider, near_providers, provider_for_address, provider_for_host
from mailmerge.suggest import login_command
from mailmerge.text import near, quoted, toml_key
from mailmerge.validation import ValidationError, ValidationIssue, parse_toml, read_typed, require_types

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from mailmerge.addresses import Address
    from mailmerge.config.environment import Environment
    from mailmerge.model import TlsMode
    from mailmerge.providers import Provider

Source = Literal["config", "preset", "environment", ".env", "option", "folder"]

IMPLICIT_TLS_PORTS: Final = frozenset({465, 994, 2465})
"""Where TLS begins with the first octet (RFC 8314 section 3.3), and ports that providers offer beside 465."""
_TLS_BY_PORT: Final[Mapping[int, TlsMode]] = {25: "none", **dict.fromkeys(IMPLICIT_TLS_PORTS, "tls")}
_DEFAULT_PORT: Final = 587
_LARGEST_CONFIG: Final = 50_000_000
_SERVER_KEYS: Final = ("host", "port", "tls")
"""Keys that only the place that names the server may set: nobody else may weaken them."""
_SENDER_KEYS: Final = ("user", "from")
_CHECKED: Final = {key: ACCOUNT[key].type for key in ("port", "tls", "auth", "pipeline")}
"""What a program may have written as no file may: a word for TLS that is none of ours is not "none"."""


class Account(AccountOptions):
    """A submission service with its sign-in, the addresses that it may use, and its limits.

    One that a program makes is complete by itself: nothing is looked up or filled in from a provider.

    Raises:
        AuthError: *secret* is empty, contains a line break or NUL, or is neither a string nor a function.
        CampaignFileError: port, tls, auth or pipeline cannot be that; host, user or EHLO name could inject
            something into the session, or a password would cross the network unencrypted.

    """

    name: str = ""
    """Its name in messages; default: the host."""
    secret: str | Callable[[], str] | None = None
    """Password or token, or a function that returns one, which is called at each sign-in and whose result is
    not kept. None: looked for where `account_secrets` describes. It is sent to *host* and to the mailbox that
    *imap* or *bounces* names, or the provider's, nowhere else, and is never shown."""
    source: Source = "option"
    """Where the host came from: a secret goes only to a host from the same source."""
    origin: str = ""
    """The same in words, for messages."""

    def __post_init__(self) -> None:
        require_types(self, _CHECKED, "an account")
        force_setattr(self, "secret", secret_of(self.secret))
        if not self.name:
            force_setattr(self, "name", self.host)
        if not is_host(self.host):
            raise CampaignFileError(f"{quoted(self.host)} is not a valid host name", code="C412")
        if self.user is not None and not self.user.isprintable():
            raise CampaignFileError(f"the user {quoted(self.user)} contains a control character", code="C412")
        if not (is_host(self.helo) or is_address_literal(self.helo)):
            raise CampaignFileError(f"{quoted(self.helo)} is not a valid EHLO name", code="C412")
        if self.auth == "certificate" and self.cert_file is None:
            raise CampaignFileError(
                f"account {self.name} signs in with a certificate, but has no `cert_file`",
                code="C411",
                hint='write cert_file = "me.pem", and key_file where the private key is in another file',
            )
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
                f"the password for {self.host} would cross the network unencrypted (port {self.port})",
                code="C415",
                hint='set port 587 with tls = "starttls", or port 465 with tls = "tls"; '
                'a relay that asks for no password: auth = "none"',
            )

    def __repr__(self) -> str:
        shown = ((name, getattr(self, name)) for name in self.__struct_fields__ if name != "secret")
        masked = [] if self.secret is None else [f"secret={MASK!r}"]
        return f"Account({', '.join([f'{name}={value!r}' for name, value in shown] + masked)})"

    @property
    def signs_in(self) -> bool:
        """Whether it signs in at all: a certificate identifies it without a user."""
        return self.auth == "certificate" or (self.auth != "none" and bool(self.user))

    @property
    def preset(self) -> Provider | None:
        """What is known about its provider."""
        return get_provider(self.provider) if self.provider else None


def sender_allowed(account: Account, address: Address) -> bool:
    """Return whether the account may send as *address*: it has declared it, or accepts any verified one."""
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
    flags: bool = True,
) -> Account:
    """Find the account called *name*, or the one that the environment describes.

    Args:
        name: in the user's configuration, or a preset; None: ``SMTP_SERVER`` and similar variables decide.
        environment: the environment and the campaign's ``.env``.
        config_path: the user's configuration; default: ``MAILMERGE_CONFIG``, else the user's config folder.
        overrides: keys of an account with values from options; None means not given.
        flags: hints name the flags of the command line; otherwise the names that a program uses.
        campaign_from: ``message.from``, whose address is the user of a preset if nothing else sets one.

    Raises:
        CampaignFileError: the account does not exist, or is not valid or incomplete; all problems together.

    """
    document = _read_config(config_path or default_config_path(environment))
    if name is None:
        draft = _from_environment(environment, campaign_from, document, "--account" if flags else "account=")
    elif document and name in _account_tables(document):
        draft = _from_config(name, document)
    elif provider := get_provider(name):
        draft = _UnfinishedAccount(name, {"provider": provider.name}, "preset", f"the preset {provider.name}")
    else:
        raise _unknown_account(name, document, environment)
    _override(draft, overrides or {})
    return _finish(draft, environment, campaign_from)


def default_config_path(environment: Environment) -> Path:
    """Return the place of the user's ``config.toml``."""
    for variable in CONFIG_FILE.environment:
        if named := environment.real.get(variable):
            return Path(named)
    from platformdirs import user_config_path

    return user_config_path("mailmerge", appauthor=False) / "config.toml"


def account_names(config_path: Path) -> frozenset[str]:
    """Return the names of the accounts in the user's configuration.

    Raises:
        CampaignFileError: it cannot be read.

    """
    return frozenset(_account_tables(_read_config(config_path)))


def account_of(name: str, values: Mapping[str, object], *, environment: Environment, path: Path) -> Account:
    """Return the account that *values* make, as `write_account` would write them into *path*.

    Raises:
        CampaignFileError: a value is not valid, or something is missing.

    """
    draft = _UnfinishedAccount(name, _read_all(values), "config", f"[accounts.{name}] in {path}")
    return _finish(draft, environment, None)


def account_of_folder(
    values: Mapping[str, object], *, environment: Environment, origin: str, campaign_from: str | None
) -> Account:
    """Return the account that a file next to a campaign describes; it may come from anybody.

    Only a secret stored for exactly this host and user, or typed by a person, is sent to its host.

    Raises:
        CampaignFileError: a value is not valid, or something is missing.

    """
    draft = _UnfinishedAccount(str(values["host"]), _read_all(values), "folder", origin)
    sender = _address_in(campaign_from)
    if sender is not None:
        draft.values.setdefault("aliases", (sender.normalised,))
    elif campaign_from is not None:  # each row has its own
        draft.values.setdefault("any_from", True)
    return _finish(draft, environment, campaign_from)


def write_account(config_path: Path, name: str, values: Mapping[str, object]) -> None:
    """Write keys of an account into the user's configuration; everything else in it stays unchanged.

    Args:
        config_path: the file; created if it does not exist.
        name: the account, new or known.
        values: its keys, as the file has them; they replace those that it has already.

    Raises:
        CampaignFileError: a value is not valid, the file cannot be read, or it has no place for them.
        FileError: it cannot be written.

    """
    _read_all(values)
    document = _read_config(config_path)
    text = read_plain(config_path, _LARGEST_CONFIG).decode("utf-8-sig") if document else ""
    accounts = dict(_account_tables(document))
    known = accounts.get(name)
    accounts[name] = {**(known if isinstance(known, dict) else {}), **values}
    wanted = {**(document.tables if document else {}), "accounts": accounts}
    for edited in _edited(text, name, values):
        try:
            fits = parse_toml(edited) == wanted
        except ValueError:
            continue
        if fits:
            with replace_text(config_path, named=True) as file:
                file.write(edited)
            return
    lines = "; ".join(f"{key} = {_toml(value)}" for key, value in values.items())
    raise CampaignFileError(
        f"{config_path} has no section [accounts.{toml_key(name)}] of its own that can be added to",
        code="C411",
        hint=f"add it to the account yourself: {lines}",
    )


def _edited(text: str, name: str, values: Mapping[str, object]) -> Iterator[str]:
    """Yield what the file may become: a line that looks like the section's header may be part of a string."""
    lines = re.split(r"(?<=\n)", text)
    for number, line in enumerate(lines):
        if _only(line) == {"accounts": {name: {}}}:
            yield "".join((*lines[:number], *_section(lines[number:], values)))
    before = text if not text or text.endswith("\n\n") else text.rstrip("\n") + "\n\n"
    yield before + "".join(_section([f"[accounts.{toml_key(name)}]\n"], values))


def _section(lines: list[str], values: Mapping[str, object]) -> Iterator[str]:
    """Yield a section, from its header on, with these keys: in place of its own lines, else at its top."""
    end = next((at for at, line in enumerate(lines[1:], 1) if line.lstrip().startswith("[")), len(lines))
    own = {key: at for at, line in enumerate(lines[1:end], 1) for key in (_only(line) or ()) if key in values}
    ends = "\r\n" if lines[0].endswith("\r\n") else "\n"
    yield lines[0].rstrip("\r\n") + ends
    yield from (f"{key} = {_toml(value)}{ends}" for key, value in values.items() if key not in own)
    places = {at: key for key, at in own.items()}
    for at, line in enumerate(lines[1:], 1):
        yield f"{places[at]} = {_toml(values[places[at]])}{ends}" if at in places else line


def _only(line: str) -> Mapping[str, object] | None:
    """Read a line by itself; None: it is not a complete statement."""
    try:
        return parse_toml(line)
    except ValueError:
        return None


def _read_all(values: Mapping[str, object]) -> dict[str, Any]:
    problems = TomlProblems()
    found: dict[str, Any] = {}
    for key, value in values.items():
        try:
            found[key] = _read(key, value)
        except ValidationError as error:
            for issue in error.issues:
                problems.add(issue.code, f"`{key}` {issue.message}", issue.hint)
    problems.raise_if_any()
    return found


def _toml(value: object) -> str:
    import json

    text = json.dumps(value, ensure_ascii=False)  # strings, numbers and lists are the same in TOML
    return text.replace("\x7f", "\\u007f")


class _UnfinishedAccount(Struct):
    """What is known about an account so far, by its keys."""

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


def _from_config(name: str, document: Document) -> _UnfinishedAccount:
    problems = TomlProblems()
    table = f"accounts.{name}"
    document.report_passwords(problems, planned={})
    for other, value in document.tables.items():
        if other not in {"accounts", "ledgers"}:
            report_unknown_key(problems, UnknownKey(other, value, {"accounts": {}}, {}, document))
    account = _account_tables(document)[name]
    values: dict[str, Any] = {}
    if not isinstance(account, dict):
        place = document.places.keys.get(table)
        problems.add("C404", f"`{table}` must be a section", f"write [{table}]", place)
        account = {}
    planned = {key.replace("accounts", table, 1): what for key, what in PLANNED.items()}
    for key, value in account.items():
        at = f"{table}.{key}"
        if key not in ACCOUNT:
            unknown = UnknownKey(at, value, {"accounts": {}, table: ACCOUNT}, planned, document)
            report_unknown_key(problems, unknown)
            continue
        try:
            values[key] = _read(key, value)
        except ValidationError as error:
            for issue in error.issues:
                place = document.places.values.get(at + issue.path) or document.places.values.get(at)
                problems.add(issue.code, f"`{at}{issue.path}` {issue.message}", issue.hint, place)
    problems.raise_if_any()
    for key in ("ca_file", "cert_file", "key_file", "service_account"):
        if key in values:
            values[key] = document.folder / values[key].expanduser()
    keys = values.get("dkim", ())
    values["dkim"] = tuple(replace(one, key_file=document.folder / one.key_file.expanduser()) for one in keys)
    return _UnfinishedAccount(name, values, "config", f"[{table}] in {document.path}")


def _read(key: str, value: object) -> object:
    """Read the value of a key; a provider must be a known one."""
    found = ACCOUNT[key].type.read(value)
    if key == "provider" and not get_provider(str(found)):
        similar = near_providers(str(found))
        hint = f"did you mean `{similar[0]}`?" if similar else "`mailmerge providers` shows them all"
        raise ValidationError(ValidationIssue(f"is not a known provider: {quoted(str(found))}", "C410", hint))
    return found


def _unknown_account(name: str, document: Document | None, environment: Environment) -> CampaignFileError:
    known = tuple(_account_tables(document))
    similar = tuple(dict.fromkeys((*near(name, known), *near_providers(name))))[:3]
    if similar:
        hint = f"did you mean {' or '.join(f'`{other}`' for other in similar)}?"
    elif any(server in environment for server in ACCOUNT["host"].environment):
        hint = "leave the account out to use the server that SMTP_SERVER names"
    else:
        accounts = f"your accounts: {', '.join(known)}; " if known else ""
        hint = f"{accounts}presets: see `mailmerge providers`"
    return CampaignFileError(f"no account or preset is called {quoted(name)}", code="C410", hint=hint)


# --- from the environment ---------------------------------------------------------------------------------


def _from_environment(
    environment: Environment, campaign_from: str | None, document: Document | None, way: str
) -> _UnfinishedAccount:
    places: tuple[tuple[Mapping[str, str], Source, str], ...] = (
        (environment.real, "environment", "the environment"),
        (environment.file, ".env", str(environment.path)),
    )
    for values, source, place in places:
        named_by = _variable(values, "host")
        if named_by is None:
            continue
        draft = _UnfinishedAccount(source, {}, source, f"{named_by} in {place}")
        problems = TomlProblems()
        for key in _SERVER_KEYS:
            if variable := _variable(values, key):
                _read_variable(draft, key, variable, values[variable], problems)
        problems.raise_if_any()
        return draft
    raise _no_account(campaign_from, _account_tables(document), way, environment)


def _no_account(
    campaign_from: str | None, known: Iterable[str], way: str, environment: Environment
) -> CampaignFileError:
    address = _address_in(campaign_from)
    provider = provider_for_address(address.domain) if address else None
    typed = way.startswith("--")  # a program cannot answer what login asks
    if misnamed := [name for name in environment if meant(name) == "SMTP_SERVER"]:
        hint = f"{misnamed[0]} is not read: call it SMTP_SERVER"
    elif provider:
        login = f"{login_command(str(address))}, or " if typed else ""
        hint = f"{address} is at {provider.title}: {login}{way} {provider.name}"
    elif names := ", ".join(known):
        hint = f"name one of yours with {way}: {names}"
        hint += f"; `{login_command()}` sets up another one" if typed else ""
    else:
        hint = f"`{login_command()}` sets one up; or " if typed else ""
        hint += f"name a preset with {way} (see `mailmerge providers`), or set SMTP_SERVER"
    return CampaignFileError("no account to send with", code="C411", hint=hint)


def _variable(values: Mapping[str, str], key: str) -> str | None:
    """Return the variable that sets *key*: ours before the common one."""
    return next((name for name in ACCOUNT[key].environment if name in values), None)


def _read_variable(
    draft: _UnfinishedAccount, key: str, variable: str, text: str, problems: TomlProblems
) -> None:
    try:
        draft.values[key] = read_typed(ACCOUNT[key].type, text.strip(" \t"))
    except ValidationError as error:
        for issue in error.issues:
            problems.add(issue.code, f"`{variable}` {issue.message}", issue.hint)


def _override(draft: _UnfinishedAccount, overrides: Mapping[str, object]) -> None:
    problems = TomlProblems()
    for key, value in overrides.items():
        if value is None:
            continue
        option = ACCOUNT[key]
        label = option.long_flag if option.flag else f"--{key.replace('_', '-')}"
        try:
            draft.values[key] = _read(key, value)
        except ValidationError as error:
            for issue in error.issues:
                problems.add(issue.code, f"`{label}` {issue.message}", issue.hint)
    problems.raise_if_any()
    if overrides.get("host") is not None:
        draft.source, draft.origin = "option", "--host"


# --- putting it together ----------------------------------------------------------------------------------


def _finish(draft: _UnfinishedAccount, environment: Environment, campaign_from: str | None) -> Account:
    values = draft.values
    provider = get_provider(values.get("provider", "")) or provider_for_host(values.get("host", ""))
    _fill_server(draft, provider)
    _fill_user(draft, provider, environment, campaign_from)
    known = fields_of(values)
    known["provider"] = provider.name if provider else None
    if provider:
        known.setdefault("rate", provider.rates)
        for limit in ("quota", "max_size", "max_recipients", "per_connection", "any_from"):
            known.setdefault(limit, getattr(provider, limit))
    if known["auth"] == "none" and not provider and "from_" not in known:
        known.setdefault("any_from", True)  # a relay that trusts this machine: it declares no address
    return Account(name=draft.name, source=draft.source, origin=draft.origin, **known)


def _fill_server(draft: _UnfinishedAccount, provider: Provider | None) -> None:
    values = draft.values
    if "host" not in values:
        if provider is None:
            raise _incomplete(draft, "has no host", 'write host = "smtp.example.org" or provider = "gmail"')
        if provider.needs_region:
            region = next(iter(provider.regions))
            hint = f'add the region to the name, such as "{provider.name}-{region}"'
            raise _incomplete(draft, f"does not name its region of {provider.title}", hint)
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
    unusual: TlsMode = (
        "none" if is_loopback(values["host"]) and values["port"] != _DEFAULT_PORT else "starttls"
    )
    values.setdefault("tls", _TLS_BY_PORT.get(values["port"], unusual))


def _read_sender(draft: _UnfinishedAccount, environment: Environment) -> bool:
    """Read who signs in from the environment; return whether a user or a secret for this server is there."""
    values, problems = draft.values, TomlProblems()
    named = False
    for place in (environment.real, environment.file):
        if not applies_to_host(place, values["host"], draft.source):
            continue
        for key in _SENDER_KEYS:
            variable = _variable(place, key)
            if variable and key not in values:
                _read_variable(draft, key, variable, place[variable], problems)
                named = named or key == "user"
        named = named or any(name in place for name in SECRET.environment)
    problems.raise_if_any()
    return named


def _fill_user(
    draft: _UnfinishedAccount, provider: Provider | None, environment: Environment, campaign_from: str | None
) -> None:
    values = draft.values
    named = _read_sender(draft, environment)
    _fill_auth(draft, provider, named=named)
    if values["auth"] in {"none", "certificate"} or "user" in values:
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


def _fill_auth(draft: _UnfinishedAccount, provider: Provider | None, *, named: bool) -> None:
    """Choose how to sign in if nothing is configured; *named*: the environment has a user or a secret."""
    values = draft.values
    if "auth" in values:
        return
    if "token_command" in values:
        values["auth"] = "token"
    elif "cert_file" in values:
        values["auth"] = "certificate"
    elif "password_command" in values:
        values["auth"] = "password"
    elif provider:
        values["auth"] = provider.auth
    elif "user" in values or named:
        values["auth"] = "password"
    else:
        values["auth"] = "none" if values["tls"] == "none" else "password"


def _incomplete(draft: _UnfinishedAccount, what: str, hint: str) -> CampaignFileError:
    return CampaignFileError(f"the account from {draft.origin} {what}", code="C411", hint=hint)


def _address_in(mailbox: str | None) -> Address | None:
    """Return the address in a constant ``message.from``; a template has none yet."""
    try:
        mailboxes = parse_address_list(mailbox or "")
    except AddressError:
        return None
    return mailboxes[0].address if mailboxes else None
