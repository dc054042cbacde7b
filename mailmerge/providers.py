"""What is known about mail providers: ``providers.toml`` as frozen values.

Everything here is data, and no other module names a provider's domains or hosts. What a provider's replies
mean is in the SMTP session's table of replies.
"""

from __future__ import annotations

import tomllib
from functools import cache
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.addresses import provider_data
from mailmerge.errors import CampaignFileError
from mailmerge.lazy_re import lazy_re
from mailmerge.text import did_you_mean, near
from mailmerge.validation import parse_rate, parse_size

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import date

    from mailmerge.model import Rate, SignIn, TlsMode

Mark = Literal["confirmed", "assumed", "ours"]
ProviderGroup = Literal["mailbox", "organisation", "service"]
"""Mailboxes at the provider's own domains, those at one's own domain, and services for sending."""

_MAILBOXES: Final = "mailboxes"
"""The tables of mailbox providers that are not presets: only their domains are known."""
_HOST = lazy_re(r'"([a-z0-9.{}-]+):[0-9]+ (?:tls|starttls|none)"')
"""A host in the data file, maybe with ``{region}`` in it."""


class ProviderServer(Struct, frozen=True):
    """One server of a provider's submission service."""

    host: str
    port: int
    tls: TlsMode

    def __str__(self) -> str:
        return f"{self.host}:{self.port} {self.tls}"


class OAuthEndpoints(Struct, frozen=True):
    """Where a provider issues tokens (RFC 6749), and what for; ``{tenant}`` is the organisation's."""

    authorize: str
    token: str
    scopes: tuple[str, ...]
    """For sending, and for a refresh token."""
    page: str
    """The provider's own page about it."""
    device: str = ""
    """Where codes for other devices come from (RFC 8628); empty: it has none for mail."""
    application_scopes: tuple[str, ...] = ()
    """For an application that acts in its own right; empty: none may."""
    extra: Mapping[str, str] = field(default_factory=dict)
    """Parameters of the authorization address."""
    wants_secret: bool = False
    """It issues installed applications a secret, and requires it."""


class Provider(Struct, frozen=True):
    """A preset: servers, sign-in, limits, and how to get a password that works."""

    name: str
    title: str
    servers: tuple[ProviderServer, ...]
    """The first one is used; a ``{region}`` in the host must be filled by choosing a region."""
    user: str
    """``address``, ``other``, or the literal text with which everybody signs in."""
    user_note: str
    secret: str
    """The provider's name for what to enter as the password."""
    rates: tuple[Rate, ...]
    """Of messages."""
    quota: Rate | None
    """Of recipients in 24 hours."""
    page: str
    """The provider's own page about signing in."""
    steps: tuple[str, ...]
    checked: date
    """When servers and numbers were last compared with what is published."""
    source: str = ""
    """Where they were read; empty: at `page`."""
    normal_password: bool | None = None
    """Whether the account's own password works; None: it is not known, or it depends."""
    signs_unsubscribe: bool | None = None
    """Whether its DKIM signatures cover both headers of RFC 8058; None: it is not known."""
    service: bool = False
    """It only sends, though an account of it has one sender (`any_from`: any that was verified)."""
    imap: str | None = None
    """The IMAP server of its mailboxes, with TLS at port 993."""
    keeps_sent: bool = False
    """Whether it puts accepted messages into the Sent folder by itself."""
    auth: SignIn = "password"
    steps_zh: tuple[str, ...] = ()
    oauth: OAuthEndpoints | None = None
    """Where ``auth = "oauth"`` gets tokens."""
    oauth_steps: tuple[str, ...] = ()
    """How to register an application."""
    notes: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    """Domains of addresses that belong to it."""
    mail_program: str | None = None
    """The program that it offers its readers, by its name at caniemail.com."""
    free_mail: bool = True
    """Whether anybody can get a mailbox at its domains without paying."""
    sign_in_refusal: str | None = None
    """Code and text of its reply to a wrong password, to rehearse it."""
    max_size: int | None = None
    """In octets, encoded."""
    max_recipients: int | None = None
    """Per message."""
    per_connection: int | None = None
    """Messages after which a new connection is required."""
    sessions: int | None = None
    """Connections at the same time; None: one, to be safe."""
    any_from: bool = False
    """It accepts any sender that was verified with it, not only the account's own address."""
    spaces: Literal["keep", "remove"] = "keep"
    """``remove``: it shows secrets in groups, and the spaces do not belong to them."""
    regions: Mapping[str, tuple[ProviderServer, ...]] = field(default_factory=dict)
    """Names that may follow the provider's own (``zoho-eu``), and the servers there."""
    marks: Mapping[str, Mark] = field(default_factory=dict)
    """How sure each number is; ``ours``: nothing is published, chosen low."""

    @property
    def needs_region(self) -> bool:
        """Whether its servers are only known after choosing a region."""
        return "{" in self.servers[0].host

    @property
    def group(self) -> ProviderGroup:
        """What kind of provider it is."""
        if self.any_from or self.service:
            return "service"
        return "mailbox" if self.domains else "organisation"

    def in_region(self, region: str) -> Provider:
        """Return the same provider in one of its regions."""
        servers = self.regions[region]
        return replace(self, name=f"{self.name}-{region}", servers=servers, regions={}, aliases=())


def providers() -> tuple[Provider, ...]:
    """Return all providers, in the order of the data file."""
    return tuple(_load().values())


def find_provider(name: str) -> Provider:
    """Return the provider of that name, alias, or name and region.

    Raises:
        CampaignFileError: it does not exist; the hint has names that are spelt alike.

    """
    found = get_provider(name)
    if found is None:
        hint = did_you_mean(name, provider_names()) or "`mailmerge providers` shows them all"
        raise CampaignFileError(f'no provider is called "{name}"', code="C410", hint=hint)
    return found


def get_provider(name: str) -> Provider | None:
    """Return the provider of that name, alias, or name and region, if there is one."""
    name = name.strip().lower()
    return (_load_one(name) or _by_name().get(name)) if name else None


def provider_names() -> tuple[str, ...]:
    """Return every name that `find_provider` accepts."""
    return tuple(_by_name())


def provider_for_host(host: str) -> Provider | None:
    """Return the provider that accepts mail at *host*, the one with the lower limits if there are two."""
    host = host.strip().rstrip(".").lower()
    patterns = (pattern.partition("{region}") for pattern in _HOST.findall(provider_data()))
    known = any(host.startswith(start) and host.endswith(end) for start, _, end in patterns)
    return _by_host().get(host) if known else None


def provider_for_address(domain: str) -> Provider | None:
    """Return the provider whose own addresses end with *domain*, to suggest it."""
    return next((found for found in providers() if domain.lower() in found.domains), None)


def near_providers(name: str) -> tuple[str, ...]:
    """Return names of providers that are spelt like *name*."""
    return near(name, provider_names())


def sign_in_refusals() -> Mapping[str, str]:
    """Return the replies in which providers refuse a sign-in, by the names of their presets."""
    known = ((provider.name, provider.sign_in_refusal) for provider in providers())
    return {name: refusal for name, refusal in known if refusal is not None}


# --- the data file -------------------------------------------------------------------------------------


# Most runs need one provider or none, and reading all of them takes 10 ms: hence the search in the text.


@cache
def _load() -> dict[str, Provider]:
    tables = tomllib.loads(provider_data())
    tables.pop(_MAILBOXES)
    return {name: _read(name, {**_shared(tables, table), **table}) for name, table in tables.items()}


@cache
def _load_one(name: str) -> Provider | None:
    tables = _table(name)
    if not tables:
        return None
    models = _table(tables[name].get("like", ""))
    return _read(name, {**_shared(models, tables[name]), **tables[name]})


def _table(name: str) -> dict[str, Any]:
    """Read the table of that name alone; empty: it does not exist."""
    _, header, rest = provider_data().partition(f"\n[{name}]\n")
    return tomllib.loads(header + rest.partition("\n[")[0]) if header else {}


def _shared(tables: Mapping[str, Any], table: Mapping[str, Any]) -> dict[str, Any]:
    """Return what a table takes from the one it is ``like``: how to sign in."""
    model = tables.get(table.get("like", ""), {})
    shared = ("steps", "steps_zh", "page", "oauth", "oauth_steps")
    return {key: model[key] for key in shared if key in model}


def _read(name: str, table: dict[str, Any]) -> Provider:
    table.pop("like", None)
    patterns = tuple(_read_server(text) for text in table.pop("servers"))
    fill = table.pop("region", None)
    regions = {region: _fill(patterns, text) for region, text in table.pop("regions", {}).items()}
    for key in ("steps", "steps_zh", "oauth_steps", "notes", "aliases", "domains"):
        table[key] = tuple(table.get(key, ()))
    if "oauth" in table:
        known = table["oauth"]
        lists = {key: tuple(known[key]) for key in ("scopes", "application_scopes") if key in known}
        table["oauth"] = OAuthEndpoints(**{**known, **lists})
    return Provider(
        name=name,
        servers=patterns if fill is None else _fill(patterns, fill),
        regions=regions,
        rates=tuple(parse_rate(text) for text in table.pop("rates")),
        quota=parse_rate(table.pop("quota")) if "quota" in table else None,
        max_size=parse_size(table.pop("max_size")) if "max_size" in table else None,
        **table,
    )


def _read_server(text: str) -> ProviderServer:
    address, tls = text.split()
    host, _, port = address.rpartition(":")
    return ProviderServer(host, int(port), cast("TlsMode", tls))


def _fill(patterns: tuple[ProviderServer, ...], text: str) -> tuple[ProviderServer, ...]:
    return tuple(replace(server, host=server.host.replace("{region}", text)) for server in patterns)


@cache
def _by_name() -> dict[str, Provider]:
    found = dict(_load())
    for provider in _load().values():
        found.update({f"{provider.name}-{region}": provider.in_region(region) for region in provider.regions})
    for provider in _load().values():
        for alias in provider.aliases:
            found.setdefault(alias, provider)
    return found


@cache
def _by_host() -> dict[str, Provider]:
    found: dict[str, Provider] = {}
    for provider in _by_name().values():
        for server in provider.servers:
            found.setdefault(server.host, provider)
    return found
