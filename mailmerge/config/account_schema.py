"""What ``[accounts.NAME]`` in the user's ``config.toml`` can say."""

from __future__ import annotations

import re
from ipaddress import IPv6Address, ip_address
from typing import TYPE_CHECKING, Final

from mailmerge.addresses import Address, AddressError, Mailbox, parse_address_list
from mailmerge.config.providers import get_provider, near_providers
from mailmerge.config.validation import (
    FLAG,
    LABEL,
    PATH,
    RATE,
    SIZE,
    Fault,
    Kind,
    RefusalError,
    array_of,
    checked,
    one_of,
    one_or_more,
    quote,
    whole,
    wrong_type,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST_NAME = rf"(?=.{{1,253}}\Z)(?:{_LABEL}\.)*{_LABEL}\.?\Z"


def is_address_literal(text: str) -> bool:
    """Tell whether *text* is an IP address as EHLO takes it: ``[192.0.2.1]``, ``[IPv6:2001:db8::1]``."""
    inner = text[1:-1].removeprefix("IPv6:") if text[:1] == "[" and text[-1:] == "]" else ""
    return _is_ip(inner)


def is_host(text: str) -> bool:
    """Tell whether *text* is an ASCII host name or an IP address, without brackets."""
    return bool(re.match(_HOST_NAME, text)) or _is_ip(text)


def is_loopback(host: str) -> bool:
    """Tell whether *host* is this machine."""
    if host.lower().rstrip(".") in ("localhost", "ip6-localhost"):
        return True
    return _is_ip(host) and ip_address(host).is_loopback


def _is_ip(text: str) -> bool:
    try:
        address = ip_address(text)
    except ValueError:
        return False
    return not (isinstance(address, IPv6Address) and address.scope_id)


def _check_host(text: str) -> Fault | None:
    if is_host(text):
        return None
    name, _, port = text.rpartition(":")
    hint = None
    if port.isdecimal() and is_host(name):
        hint = f"give the port apart: {name} and {port}"
    elif "://" in text:
        hint = "leave out what stands before and after the name: smtp.example.org"
    elif text.isprintable() and not text.isascii():
        hint = "write the name in its ASCII form (xn--...)"
    return Fault(f"is no host name: {quote(text)}", "C412", hint)


def _check_helo(text: str) -> Fault | None:
    if is_address_literal(text) or re.match(_HOST_NAME, text):
        return None
    hint = "write a host name, or an address in brackets: [192.0.2.1]"
    return Fault(f"cannot stand after EHLO: {quote(text)}", "C412", hint)


def _check_user(text: str) -> Fault | None:
    if text.isprintable():
        return None
    return Fault(f"holds a line break or another control character: {quote(text)}", "C412")


def _check_provider(text: str) -> Fault | None:
    if get_provider(text):
        return None
    near = near_providers(text)
    hint = f"did you mean `{near[0]}`?" if near else "`mailmerge providers` shows them all"
    return Fault(f"is no provider that is known: {quote(text)}", "C410", hint)


def _read_text(value: object, wants: str) -> str:
    if not isinstance(value, str):
        raise wrong_type(wants, value)
    return value.strip()


def _read_mailbox(value: object) -> Mailbox:
    text = _read_text(value, "a mailbox")
    try:
        mailboxes = parse_address_list(text)
    except AddressError as error:
        hint = f"did you mean {error.suggestion}?" if error.suggestion else None
        raise RefusalError(Fault(f"is no mailbox: {quote(text)}: {error}", hint=hint)) from None
    if len(mailboxes) != 1:
        raise RefusalError(Fault(f"must be exactly one mailbox, not {quote(text)}"))
    if not mailboxes[0].name.isprintable():
        raise RefusalError(Fault("holds a control character in its name", "C412"))
    return mailboxes[0]


def _read_address(value: object) -> Address:
    return _read_mailbox(value).address


def _read_alias(value: object) -> str:
    text = _read_text(value, "an address")
    if not text.startswith("@"):
        return _read_mailbox(text).address.normalised
    return "@" + _read_mailbox(f"postmaster{text}").address.domain


def _read_command(value: object) -> tuple[object, ...]:
    if isinstance(value, str):
        says = "must be an array: the program and each of its arguments apart"
        raise RefusalError(Fault(says, "C404", f"no shell runs it; write {value.split()!r}"))
    command = array_of(LABEL, "an array of texts").read(value)
    assert isinstance(command, tuple)
    if not command:
        raise RefusalError(Fault("names no program"))
    return command


_NEEDS_SIGN_IN = 'fetch the token with a program of yours: auth = "token", token_command = ["program"]'

HOST: Final = checked(LABEL, _check_host)
MAILBOX: Final = Kind("a mailbox", _read_mailbox)

ACCOUNT_SCHEMA: Final[Mapping[str, Kind]] = {
    "provider": checked(LABEL, _check_provider),
    "host": HOST,
    "port": whole(1, 65535),
    "tls": one_of("starttls", "tls", "none"),
    "user": checked(Kind("a text", lambda value: _read_text(value, "a text")), _check_user),
    "auth": one_of(
        "password",
        "token",
        "none",
        later={"oauth-microsoft": _NEEDS_SIGN_IN, "oauth-google": _NEEDS_SIGN_IN},
    ),
    "from": MAILBOX,
    "aliases": one_or_more(Kind("an address or @domain", _read_alias)),
    "any_from": FLAG,
    "return_path": Kind("an address", _read_address),
    "rate": one_or_more(RATE),
    "quota": RATE,
    "max_size": SIZE,
    "max_recipients": whole(1, 100_000),
    "per_connection": whole(1, 1_000_000),
    "pipeline": one_of("auto", "off", "overlap", "window"),
    "sessions": whole(1, 50),
    "helo": checked(LABEL, _check_helo),
    "ca_file": PATH,
    "insecure": FLAG,
    "password_command": Kind("an array of texts", _read_command),
    "token_command": Kind("an array of texts", _read_command),
}
"""Key and kind; also the names by which options override an account."""

NOT_YET: Final[Mapping[str, str]] = {"dkim": "signing of messages"}
