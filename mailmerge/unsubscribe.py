"""Tokens of unsubscribe links: who clicked, in a form that nobody can forge.

A token is 72 characters of the URL-safe base64 alphabet (RFC 4648 section 5), which no part of a URL and no
mail address has to escape. They encode 54 octets::

    5   the key's id: it names the series
    32  SHA-256 of the recipient's address, normalised (lower case, the domain in A-labels)
    16  the beginning of HMAC-SHA256 over ``mailmerge unsubscribe`` and the 37 octets before
    1   the version, 1

Every token has the same length, so a message is frozen with `STAND_IN` in its place: what is frozen depends
neither on the key nor on the series, and the size and the line breaks are those of what is sent. The
placeholder itself is what tests, previews and rehearsals show: it unsubscribes nobody.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from typing import TYPE_CHECKING, Final

from msgspec import Struct

from mailmerge.addresses import Address
from mailmerge.errors import MailmergeError

if TYPE_CHECKING:
    from collections.abc import Iterable

STAND_IN: Final = "Nobody_is_unsubscribed_by_this_it_belongs_to_a_preview_or_a_test_message"
"""Takes the place of a token until a message is sent. It has no hyphen, at which programs break lines."""
SECRET_SIZE: Final = 32
"""Octets of a key."""
_ABOUT = b"mailmerge unsubscribe"
_ID, _HASH, _MAC = 5, 32, 16
_SIGNED = _ID + _HASH
_VERSION = b"\x01"
_TOKEN = re.compile(r"[A-Za-z0-9_-]{72}")


class UnsubscribeError(MailmergeError):
    """A token is not one of ours, or was made with a key that is not available; nobody is unsubscribed."""

    default_code = "M510"


class UnsubscribeKey(Struct, frozen=True):
    """What the tokens of one series are made and verified with; its secret is never shown."""

    series: str
    """What recipients unsubscribe from: a campaign, or several under one name."""
    secret: bytes
    """32 random octets."""

    @property
    def id(self) -> str:
        """What identifies this key, 10 hex digits; it reveals nothing about the secret."""
        return hashlib.sha256(b"mailmerge key id\0" + self.secret).hexdigest()[: 2 * _ID]

    def token(self, address: Address) -> str:
        """Make the token of a recipient."""
        signed = bytes.fromhex(self.id) + hashlib.sha256(address.normalised.encode("ascii")).digest()
        return urlsafe_b64encode(signed + self._mac(signed) + _VERSION).decode("ascii")

    def _mac(self, signed: bytes) -> bytes:
        return hmac.digest(self.secret, _ABOUT + signed, "sha256")[:_MAC]

    def made(self, signed: bytes, mac: bytes) -> bool:
        """Return whether a token was made with this key; it takes the same time whatever the answer is."""
        return hmac.compare_digest(self._mac(signed), mac)

    def __repr__(self) -> str:
        return f"UnsubscribeKey(series={self.series!r}, id={self.id!r})"


class Unsubscription(Struct, frozen=True):
    """The content of a token: who wants no more messages of which series."""

    series: str
    """The key's; empty in the token of a test."""
    key_id: str
    address_sha256: str
    """SHA-256 of the normalised address, 64 hex digits, as in suppression files; empty: nobody."""

    @property
    def nobody(self) -> bool:
        """Whether it is the token of a test, a preview or a rehearsal: nobody is to be unsubscribed."""
        return not self.address_sha256

    def is_for(self, address: str) -> bool:
        """Return whether this is the address that unsubscribes.

        Raises:
            AddressError: *address* is not valid.

        """
        return address_digest(Address.parse(address)) == self.address_sha256


def address_digest(address: Address) -> str:
    """Return the SHA-256 of a normalised address, 64 hex digits; suppression files accept it instead."""
    return hashlib.sha256(address.normalised.encode("ascii")).hexdigest()


def verify_token(token: str, keys: Iterable[UnsubscribeKey]) -> Unsubscription:
    """Return who a token unsubscribes.

    Args:
        token: as in the link, from anybody.
        keys: those that it may have been made with.

    Raises:
        UnsubscribeError: it is not a token (M510), its key is not among *keys* (M511), or it was changed
            or made up (M512).

    """
    if token == STAND_IN:
        return Unsubscription("", "", "")
    raw = urlsafe_b64decode(token) if _TOKEN.fullmatch(token) else b""
    if raw[_SIGNED + _MAC :] != _VERSION:
        raise UnsubscribeError("this is not an unsubscribe token of ours")
    signed, mac = raw[:_SIGNED], raw[_SIGNED : _SIGNED + _MAC]
    key_id = signed[:_ID].hex()
    found = [key for key in keys if key.id == key_id]
    if not found:
        raise UnsubscribeError(
            f"the unsubscribe token was made with another key: {key_id}",
            code="M511",
            hint="the keys are in the folder `unsubscribe` next to the sender's config.toml",
        )
    if not found[0].made(signed, mac):
        raise UnsubscribeError("the unsubscribe token was changed or made up", code="M512")
    return Unsubscription(found[0].series, key_id, signed[_ID:].hex())
