"""Addresses that exist only if they are valid: strict addr-specs, IDNA domains, no comments, no routes.

One grammar for list cells, templates and accounts: dot-atom ``@`` domain (RFC 5321 section 4.1.2, without
quoted local parts and address literals). Plain ASCII addresses are recognised here; everything else,
IDNA above all, is decided by email-validator. Lists (`parse_address_list`) add display names and separators,
and nothing else of RFC 5322: no groups, routes or comments. Hosts of accounts are told apart here, too, and
the domains where mailbox providers have their users' addresses: a quick look into ``providers.toml``.
"""

from __future__ import annotations

import re
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.lazy_re import lazy_re
from mailmerge.text import near

if TYPE_CHECKING:
    from collections.abc import Mapping
    from ipaddress import IPv4Address, IPv6Address

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
DOMAIN_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
"""The pattern of one label of a domain name (RFC 1035 section 2.3.4)."""
_PLAIN = lazy_re(rf"({_ATOM}(?:\.{_ATOM})*)@((?:{DOMAIN_LABEL}\.)+{DOMAIN_LABEL})\Z")
_GROUP = lazy_re(r'\s*(?:"[^"]*"|[^"<>@:;,]+):(?:[^;]*;\s*\Z|\s*[^\s<>@]+@[^\s<>@]+\Z)')
_ENCODED_WORD = lazy_re(r"=\?[^?\s]+\?[bBqQ]\?[^?\s]*\?=")
_MAX_LOCAL = 64
_MAX_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3 less the angle brackets


class AddressError(ValueError):
    """This text is not one address; the message explains why, *suggestion* is what may have been meant."""

    def __init__(self, reason: str, suggestion: str | None = None) -> None:
        super().__init__(reason)
        self.suggestion = suggestion


class Address(Struct, frozen=True, eq=False):
    """``local@domain`` as it goes on the wire: ASCII, the domain in A-labels."""

    local: str
    domain: str
    shown: str = ""
    """The domain as the user wrote it, where it differs (Unicode); two spellings are one address."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read exactly one addr-spec; surrounding white space is trimmed.

        Raises:
            AddressError: it is not an address, or needs SMTPUTF8.

        """
        return _parse(text.strip())

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Address):
            return NotImplemented
        return self.local == other.local and self.domain == other.domain

    def __ne__(self, other: object) -> bool:  # a Struct's own one would compare identities
        return not self == other

    def __hash__(self) -> int:
        return hash((self.local, self.domain))

    @property
    def normalised(self) -> str:
        """The form in which two rows are compared: case folded, nothing else is rewritten."""
        return f"{self.local.lower()}@{self.domain.lower()}"


class Mailbox(Struct, frozen=True):
    """A display name (may be empty) and an address."""

    name: str
    address: Address

    def __str__(self) -> str:
        return f"{self.name} <{self.address}>" if self.name else str(self.address)


@lru_cache(maxsize=4096)
def _parse(text: str) -> Address:
    if not text:
        raise AddressError("it is empty")
    match = _PLAIN.match(text)
    if (
        match
        and len(text) <= _MAX_ADDRESS
        and len(match[1]) <= _MAX_LOCAL
        and "--" not in match[2]
        and "=?" not in match[1]
        and not match[2].rpartition(".")[2].isdigit()
    ):
        return Address(match[1], match[2].lower())
    return _parse_unusual(text)


def _parse_unusual(text: str) -> Address:
    _refuse_common_mistakes(text)
    from email_validator import EmailNotValidError, validate_email

    domain = text.rpartition("@")[2]
    try:
        valid = validate_email(
            text,
            check_deliverability=False,
            allow_smtputf8=False,
            globally_deliverable=False,
        )
    except EmailNotValidError as error:
        raise AddressError(_as_clause(str(error)), suggest(text)) from None
    if "." not in domain:
        raise AddressError("the domain has no dot")
    ascii_domain = (valid.ascii_domain or domain).lower()
    _refuse_mapped(domain, valid.domain, text)
    if len(valid.local_part) > _MAX_LOCAL:
        raise AddressError(f"the part before @ is longer than {_MAX_LOCAL} characters")
    if ascii_domain.rpartition(".")[2].isdigit():
        raise AddressError("the domain ends in a number")
    if len(valid.local_part) + 1 + len(ascii_domain) > _MAX_ADDRESS:
        raise AddressError(f"it is longer than {_MAX_ADDRESS} characters")
    return Address(valid.local_part, ascii_domain, "" if ascii_domain == domain.lower() else domain)


def _refuse_mapped(written: str, read: str, text: str) -> None:
    """Refuse a domain in which a character would be mapped to another one; capitals and accents are not.

    UTS 46 takes a circled or a mathematical letter for the plain one: what was read is not what was written.
    """
    import unicodedata

    lower = "".join([char.lower() for char in written])  # letter by letter: a sigma is not final then
    if not written.isascii() and unicodedata.normalize("NFC", lower) != unicodedata.normalize("NFC", read):
        other = next((char for char in written if unicodedata.normalize("NFKC", char) != char), "")
        named = f" ({other})" if other and other.isprintable() else ""
        raise AddressError(
            f"the domain contains a character that means others{named}",
            f"{text.rpartition('@')[0]}@{read}" if _PLAIN.match(f"a@{read}") else None,
        )


def _refuse_unsupported_forms(text: str) -> None:
    """Name the forms of RFC 5322 that no list means: groups, quoted local parts, encoded words."""
    if text[:7].lower() == "mailto:":
        raise AddressError("it begins with mailto:", suggest(text[7:]) or text[7:])
    if _GROUP.match(text):
        raise AddressError("it is a group of addresses: write the addresses themselves, without its name")
    if "=?" in text.rpartition("@")[0] or _ENCODED_WORD.search(text):
        raise AddressError("it contains an encoded word (=?...?=): write the text that it encodes")
    if re.match(r'\s*"(?:\\.|[^"\\])*"@', text):
        raise AddressError("the part before @ is in double quotes, which is not supported")


def _refuse_common_mistakes(text: str) -> None:
    """Name the mistakes that people make in cells before the general validator words them differently."""
    plain = _repaired(text)
    _refuse_unsupported_forms(text)
    if not text.isprintable() or any(mark in text for mark in _INVISIBLE):
        raise AddressError("it contains invisible or control characters", suggest(text))
    if text.translate(_LOOKALIKES) != text or text.endswith("."):
        raise AddressError(
            "it contains a full-width or look-alike character, or ends with a dot", suggest(text)
        )
    if text.count("@") > 1 and re.search(r"[,;\s]", text):
        raise AddressError("it contains more than one address")
    if "@" not in text:
        raise AddressError("it has no @", suggest(text))
    if "<" in text or ">" in text:
        raise AddressError("it contains angle brackets", plain if _PLAIN.match(plain) else None)
    if re.search(r"[,;\s]", text):
        raise AddressError("it contains a space, comma or semicolon", suggest(text))
    if not text.rpartition("@")[0].isascii():
        raise AddressError("the part before @ has non-ASCII letters, which need SMTPUTF8")


def _as_clause(sentence: str) -> str:
    """Turn email-validator's sentence into a clause that can follow a colon."""
    sentence = sentence.rstrip(".")
    return sentence[:1].lower() + sentence[1:]


def suggest(text: str) -> str | None:
    """Return the address that was probably meant, or None if *text* is fine or beyond guessing."""
    plain = _repaired(text)
    if not _PLAIN.match(plain):
        return None
    local, _, domain = plain.rpartition("@")

    known = mail_domains()
    if domain.lower() not in known:
        similar = near(domain, known, strict=True)
        plain = f"{local}@{similar[0]}" if similar else plain
    return plain if plain != text else None


_LONGEST_LIST = 32_768
"""Characters of several addresses in one cell: more than any server accepts for one message."""
_LONGEST_HIDDEN = 1000
"""Characters up to which a hidden address is looked for: in spaces, the time grows with their square."""
_HIDDEN_AT = lazy_re(r"\s*[(\[{<]\s*(?:at|ät|arroba|chez|bei)\s*[)\]}>]\s*", re.IGNORECASE)
_HIDDEN_DOT = lazy_re(r"\s*[(\[{<]\s*(?:dot|punkt|point|punto|ponto)\s*[)\]}>]\s*", re.IGNORECASE)


def _repaired(text: str) -> str:
    """Undo look-alikes, stray spaces, a comma typed for the dot of a domain, and what hides an address."""
    if "@" not in text and len(text) <= _LONGEST_HIDDEN:
        text = _HIDDEN_DOT.sub(".", _HIDDEN_AT.sub("@", text))
    plain = text.translate(_LOOKALIKES).strip().strip("<>.,; ")
    local, at, domain = plain.rpartition("@")
    return f"{local.strip()}{at}{domain.replace(' ', '').replace(',', '.').replace('..', '.')}"


def parse_address_list(text: str) -> tuple[Mailbox, ...]:
    """Read mailboxes separated by ``,`` ``;`` or line breaks; empty items are skipped.

    Each item is an addr-spec, or a name and an addr-spec in angle brackets; a name that contains a separator
    must be in double quotes.

    Raises:
        AddressError: one of the items is not a mailbox; the message quotes it if there are several.

    """
    if len(text) > _LONGEST_LIST:
        raise AddressError(f"it is longer than {_LONGEST_LIST:,} characters")
    if ":" in text and _GROUP.match(text):
        _refuse_unsupported_forms(text)
    items = [item for item in (item.strip() for item in _split(text)) if item]
    mailboxes = []
    for item in items:
        try:
            mailboxes.append(_parse_mailbox(item))
        except AddressError as error:
            if len(items) == 1:
                raise
            raise AddressError(f'in "{item}": {error}', error.suggestion) from None
    return tuple(mailboxes)


def _split(text: str) -> list[str]:
    """Cut at separators outside double quotes."""
    items, quoted, start = [], False, 0
    for match in re.finditer(r'\\.|["\n\r,;]', text, re.DOTALL):
        if match[0] == '"':
            quoted = not quoted
        elif len(match[0]) == 1 and not quoted:
            items.append(text[start : match.start()])
            start = match.end()
    if quoted:
        raise AddressError("a double quote is not closed")
    return [*items, text[start:]]


def _parse_mailbox(item: str) -> Mailbox:
    if not item.endswith(">"):
        return Mailbox("", Address.parse(item))
    name, bracket, address = item[:-1].rpartition("<")
    name = name.strip()
    if not bracket:
        raise AddressError("it contains angle brackets", suggest(item))
    if len(name) > 1 and name[0] == name[-1] == '"':
        name = re.sub(r"\\(.)", r"\1", name[1:-1], flags=re.DOTALL)
    elif re.search(r'[<>"@]', name):
        raise AddressError("a name that contains any of < > @ must be in double quotes")
    return Mailbox(name, Address.parse(address))


_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_LOOKALIKES = {
    **{0xFF01 + i: 0x21 + i for i in range(94)},  # full-width forms
    0x3002: ".",
    0xFF61: ".",
    0xFE52: ".",
    0xFE6B: "@",
    0x00A0: None,
    0x3000: None,
    **{ord(mark): None for mark in _INVISIBLE},
}


# --- hosts ------------------------------------------------------------------------------------------

_HOST_LABEL = r"[A-Za-z0-9_][A-Za-z0-9_-]{0,62}"
_HOST_NAME = rf"(?=.{{1,253}}\Z)(?:{_HOST_LABEL}\.)*{_HOST_LABEL}\.?\Z"


def is_host_name(text: str) -> bool:
    """Return whether *text* is an ASCII host name."""
    return bool(re.match(_HOST_NAME, text))


def is_host(text: str) -> bool:
    """Return whether *text* is an ASCII host name or an IP address, without brackets and scope."""
    return is_host_name(text) or ("%" not in text and _ip_address(text) is not None)


def is_address_literal(text: str) -> bool:
    """Return whether *text* is an IP address as EHLO accepts it: ``[192.0.2.1]``, ``[IPv6:2001:db8::1]``."""
    inner = text[1:-1].removeprefix("IPv6:") if text[:1] == "[" and text[-1:] == "]" else ""
    return "%" not in inner and _ip_address(inner) is not None


def is_loopback(host: str) -> bool:
    """Return whether *host*, a name or an IP address, is this very machine (``::1%lo`` has a scope)."""
    address = _ip_address(host)
    if address is None:
        return host.lower().rstrip(".") in {"localhost", "ip6-localhost"}
    return address.is_loopback


def _ip_address(text: str) -> IPv4Address | IPv6Address | None:
    from ipaddress import ip_address

    try:
        return ip_address(text)
    except ValueError:
        return None


_FACT = lazy_re(r"^(domains|mail_program|free_mail) = (.+)$", re.MULTILINE)


class MailDomain(Struct, frozen=True):
    """What is known about a domain where a provider has its users' mailboxes."""

    mail_program: str | None = None
    """The program that it offers them, by its name at caniemail.com."""
    free_mail: bool = True
    """Anybody can get a mailbox there without paying."""


@cache
def provider_data() -> str:
    """Return the text of ``providers.toml``."""
    return Path(__file__).with_name("providers.toml").read_text(encoding="utf-8")


@cache
def mail_domains() -> Mapping[str, MailDomain]:
    """Return every domain of a provider's mailboxes, whether the provider is a preset or not.

    It is needed in the middle of a run, where parsing the whole file would cost more than everything else:
    hence each of these facts is on a line of its own, where TOML and JSON agree.
    """
    import json

    found: dict[str, MailDomain] = {}
    for table in provider_data().split("\n["):
        facts = {name: json.loads(value) for name, value in _FACT.findall(table)}
        domains = facts.pop("domains", ())
        found.update(dict.fromkeys(domains, MailDomain(**facts)))
    return found
