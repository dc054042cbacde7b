"""Addresses that exist only if they are valid: strict addr-specs, IDNA domains, no comments, no routes.

One grammar for list cells, templates and accounts: dot-atom ``@`` domain (RFC 5321 section 4.1.2, without
quoted local parts and address literals). Plain ASCII addresses are recognised here; everything else,
IDNA above all, is decided by email-validator.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from functools import lru_cache

_ATOM = r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
_PLAIN = re.compile(rf"({_ATOM}(?:\.{_ATOM})*)@((?:{_LABEL}\.)+{_LABEL})\Z")
_MAX_LOCAL = 64
_MAX_ADDRESS = 254  # RFC 5321 section 4.5.3.1.3 less the angle brackets


class AddressError(ValueError):
    """This text is not one address; the message says why, *suggestion* what may have been meant."""

    def __init__(self, reason: str, suggestion: str | None = None) -> None:
        super().__init__(reason)
        self.suggestion = suggestion


@dataclass(frozen=True, slots=True)
class Address:
    """``local@domain`` as it goes on the wire: ASCII, the domain in A-labels."""

    local: str
    domain: str
    shown: str = field(default="", compare=False)
    """The domain as the user wrote it, where it differs (Unicode)."""

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read exactly one addr-spec; surrounding white space is trimmed.

        Raises:
            AddressError: it is not an address, or needs SMTPUTF8.

        """
        return _parse(text.strip())

    def __str__(self) -> str:
        return f"{self.local}@{self.domain}"

    @property
    def normalised(self) -> str:
        """The form in which two rows are compared: case folded, nothing else is rewritten."""
        return f"{self.local.lower()}@{self.domain.lower()}"


@dataclass(frozen=True, slots=True)
class Mailbox:
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
        and not match[2].rpartition(".")[2].isdigit()
    ):
        return Address(match[1], match[2].lower())
    return _parse_unusual(text)


def _parse_unusual(text: str) -> Address:
    from email_validator import EmailNotValidError, validate_email  # noqa: PLC0415  24 ms to import

    plain = text.translate(_LOOKALIKES).strip().rstrip(".")
    suggestion = plain if plain != text and _PLAIN.match(plain) else None
    if not text.isprintable() or any(mark in text for mark in _INVISIBLE):
        raise AddressError("it holds invisible or control characters", suggestion)
    if text != plain:
        raise AddressError("it holds a full-width or look-alike character, or ends with a dot", suggestion)
    local, _, domain = text.rpartition("@")
    if local and not local.isascii():
        raise AddressError("the part before @ has letters outside ASCII, which needs SMTPUTF8")
    try:
        valid = validate_email(
            text,
            check_deliverability=False,
            allow_smtputf8=False,
            globally_deliverable=False,
        )
    except EmailNotValidError as error:
        raise AddressError(str(error).rstrip(".")) from None
    if "." not in domain:
        raise AddressError("the domain has no dot")
    ascii_domain = valid.ascii_domain or domain
    return Address(valid.local_part, ascii_domain.lower(), "" if ascii_domain == domain else domain)


_INVISIBLE = "\u200b\u200c\u200d\u2060\ufeff\u00ad"
_LOOKALIKES = {
    **{0xFF01 + i: 0x21 + i for i in range(94)},  # full-width forms
    0x3002: ".",
    0xFE52: ".",
    0xFE6B: "@",
    0x00A0: None,
    0x3000: None,
    **{ord(mark): None for mark in _INVISIBLE},
}
