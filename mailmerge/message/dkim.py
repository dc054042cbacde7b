"""DKIM signatures (RFC 6376, 8301, 8463): relaxed/relaxed, RSA and Ed25519, made when a message is sent.

All header fields that the message has at that time are signed, From once more than it occurs, so that nobody
can add another one. The time in the signature is that of Date: the same Date makes the same bytes.
"""

from __future__ import annotations

import hashlib
import re
from binascii import b2a_base64
from functools import lru_cache
from typing import TYPE_CHECKING, Final

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence
    from datetime import datetime

    from mailmerge.option_types import Algorithm

_LINE: Final = 76
_NEXT_FIELD: Final = re.compile(rb"\r\n(?![ \t])")
_NOT_SIGNED: Final = frozenset((b"bcc", b"return-path", b"received", b"comments", b"keywords"))
"""Fields that servers remove, add or change (RFC 6376 section 5.4.1)."""
_LARGE: Final = 1 << 14
_MOST_KEPT: Final = 64 << 20


class DkimSigner(Struct, frozen=True):
    """One key with the name under which its public half is published."""

    selector: str
    domain: str | None
    """The signing domain, in ASCII; None: the domain of From."""
    algorithm: Algorithm
    sign: Callable[[bytes], bytes]
    """Signs octets: RSA signs their SHA-256, Ed25519 its input, which is a SHA-256 (RFC 8463 section 3)."""
    size: int
    """Length of a signature in octets."""
    guard: object = None
    """Guard that keeps the key out of messages for the life of this object."""

    def __repr__(self) -> str:
        return f"DkimSigner({self.selector!r}, {self.domain!r}, {self.algorithm!r})"


class DkimSignatures:
    """Makes the signatures of a run's messages, one for each key."""

    def __init__(self, signers: Sequence[DkimSigner]) -> None:
        self._signers = tuple(signers)
        self._canonical: dict[int, tuple[bytes, bytes]] = {}
        """Hashes of large pieces, by identity: files of several messages are the same object in each."""
        self._kept = 0

    def fields(self, header: bytes, body: Iterable[bytes], sender: str, date: datetime) -> bytes:
        """Return the header fields to insert before the message.

        Args:
            header: all its header fields, each once, with the CRLF of the last one.
            body: its pieces; no run of spaces continues from one into the next.
            sender: the address of From.
            date: the time in Date.

        """
        body_hash = b2a_base64(self._body_hash(body), newline=False)
        fields = [field for field in _NEXT_FIELD.split(header) if field]
        signed = [(name, field) for field in fields if (name := _name(field)).lower() not in _NOT_SIGNED]
        names = _names(tuple(name for name, _ in signed))
        relaxed = b"".join([_relaxed(field) for _, field in signed])
        moment = b"%d" % int(date.timestamp())
        made = []
        for signer in self._signers:
            domain = signer.domain or sender.rpartition("@")[2]
            start = _start(signer.algorithm, domain, signer.selector, moment, names, body_hash)
            # The field itself counts without its value and its line end (RFC 6376 section 3.7).
            data = relaxed + _relaxed(start)[:-2]
            signature = signer.sign(
                data if signer.algorithm == "rsa-sha256" else hashlib.sha256(data).digest()
            )
            made.append(start + _folded(b2a_base64(signature, newline=False)) + b"\r\n")
        return b"".join(made)

    def octets(self, names: Iterable[str], domain: str) -> int:
        """Return how many octets `fields` adds at most to messages from *domain* with these headers."""
        named = _names(tuple(name.encode("ascii") for name in names))
        total = 0
        for signer in self._signers:
            digest = b2a_base64(bytes(32), newline=False)
            signing = signer.domain or domain
            start = _start(signer.algorithm, signing, signer.selector, b"0" * 10, named, digest)
            total += len(start) + len(_folded(b2a_base64(bytes(signer.size), newline=False))) + 2
        return total

    def _body_hash(self, body: Iterable[bytes]) -> bytes:
        """Hash the body in ``relaxed`` form: runs of spaces become one, trailing ones are removed."""
        pieces: list[bytes] = []
        small: list[bytes] = []
        for piece in body:
            if len(piece) < _LARGE:
                small.append(piece)
                continue
            pieces += (_relaxed_text(b"".join(small)), self._large(piece))
            small = []
        pieces.append(_relaxed_text(b"".join(small)))
        while pieces and not pieces[-1].strip(b"\r\n"):  # empty lines at the end do not count
            pieces.pop()
        if pieces:
            pieces[-1] = pieces[-1].rstrip(b"\r\n") + b"\r\n"
        sha = hashlib.sha256()
        for piece in pieces:
            sha.update(piece)
        return sha.digest()

    def _large(self, piece: bytes) -> bytes:
        known = self._canonical.get(id(piece))
        if known is not None and known[0] is piece:
            return known[1]
        made = _relaxed_text(piece)
        if self._kept > _MOST_KEPT:
            self._canonical.clear()
            self._kept = 0
        self._canonical[id(piece)] = (piece, made)
        self._kept += len(piece)
        return made


def _relaxed_text(text: bytes) -> bytes:
    if b"\t" in text:
        text = text.replace(b"\t", b" ")
    while b"  " in text:
        text = text.replace(b"  ", b" ")
    return text.replace(b" \r\n", b"\r\n") if b" \r\n" in text else text


def _name(field: bytes) -> bytes:
    return field.partition(b":")[0]


@lru_cache(maxsize=512)
def _relaxed(field: bytes) -> bytes:
    """Canonicalise a header field: lower-case name, unfolded, runs of spaces become one, none at the ends."""
    name, _, value = field.partition(b":")
    return name.lower() + b":" + b" ".join(value.split()) + b"\r\n"


@lru_cache(maxsize=64)
def _names(names: tuple[bytes, ...]) -> bytes:
    """Write the names of the signed fields, folded; From is listed once more than in the message."""
    lines, line = [], b" h=" + names[0]
    for name in (*names[1:], b"From"):
        if len(line) + 1 + len(name) >= _LINE:
            lines.append(line)
            line = b" :" + name
        else:
            line += b":" + name
    return b"\r\n".join([*lines, line])


def _start(
    algorithm: Algorithm, domain: str, selector: str, moment: bytes, names: bytes, body_hash: bytes
) -> bytes:
    """Write the field up to its value; each line can be folded there by the rules of its tags."""
    who = b" d=%b; s=%b;" % (domain.encode("ascii"), selector.encode("ascii"))
    return b"DKIM-Signature: v=1; a=%b; c=relaxed/relaxed; t=%b;\r\n%b\r\n%b;\r\n bh=%b;\r\n b=" % (
        algorithm.encode("ascii"),
        moment,
        who,
        names,
        body_hash,
    )


def _folded(value: bytes) -> bytes:
    first = _LINE - len(" b=")
    lines = [value[:first], *(value[at : at + _LINE - 1] for at in range(first, len(value), _LINE - 1))]
    return b"\r\n ".join(lines)
