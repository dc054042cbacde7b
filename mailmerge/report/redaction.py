"""Results without the people in them, for handing to others: hashes in place of addresses and keys."""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from msgspec.structs import replace

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.model import Result

_ADDRESS = re.compile(r"[^\s<>()\[\]\"',;:@]{1,64}@([\w.-]{1,255})")
_QUOTED = re.compile(r'"[^"]*"')
_LEAST_LOCAL = 3


class Redactor:
    """Replaces what names a person by a hash with the campaign's secret: the same one every time.

    Domains stay, because replies can hardly be understood without them.
    """

    def __init__(self, secret: bytes) -> None:
        self._secret = secret

    def results(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield the results, redacted."""
        return map(self.result, results)

    def result(self, result: Result) -> Result:
        """Redact one result."""
        address = result.address
        delivery = result.delivery
        if delivery is not None:
            delivery = replace(
                delivery,
                key=self._key(delivery.key),
                address=self.address(delivery.address),
                reply=self._words(delivery.reply, address),
                reason=self._words(delivery.reason, address),
            )
        return replace(
            result,
            key=self._key(result.key),
            address=self.address(address),
            # Diagnostics quote cells.
            detail=self._words(_QUOTED.sub('"…"', result.detail), address),
            delivery=delivery,
        )

    def address(self, address: str) -> str:
        """Hash the part before the "@", or all of what is no address."""
        local, at, domain = address.rpartition("@")
        if not address:
            return ""
        return f"{self._hash(address.lower())}{at}{domain}" if local else self._hash(address)

    def words(self, text: str) -> str:
        """Hash every address in a text."""
        return _ADDRESS.sub(lambda found: self.address(found[0]), text)

    def _words(self, text: str, address: str) -> str:
        text = self.words(text)
        local = address.rpartition("@")[0]
        if len(local) < _LEAST_LOCAL:
            return text
        return re.sub(re.escape(local), self._hash(address.lower()), text, flags=re.IGNORECASE)

    def _key(self, key: str) -> str:
        return self.address(key) if "@" in key else self._hash(key) if key else ""

    def _hash(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:12]
