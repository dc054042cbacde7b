"""What a test server received, whichever server it was."""

from __future__ import annotations

import email.parser
import email.policy
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from email.message import EmailMessage


@dataclass(frozen=True)
class Received:
    """One message: its envelope and its content with CRLF line ends, without the server's own lines."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    content: bytes

    def parse(self) -> EmailMessage:
        """Parse the content with the standard library."""
        return email.parser.BytesParser(policy=email.policy.default).parsebytes(self.content)


def split_off_headers(text: bytes, names: tuple[bytes, ...]) -> tuple[dict[bytes, list[bytes]], bytes]:
    """Take the header fields *names* off the top of *text*, as far as they go: values, and the rest."""
    found: dict[bytes, list[bytes]] = {}
    while True:
        name, colon, _ = text.partition(b":")
        if not colon or name not in names:
            return found, text
        field, text = _first_field(text)
        found.setdefault(name, []).append(field.partition(b":")[2].strip())


def _first_field(text: bytes) -> tuple[bytes, bytes]:
    end = text.index(b"\n") + 1
    while text[end : end + 1] in {b" ", b"\t"}:
        end = text.index(b"\n", end) + 1
    return text[:end], text[end:]


def crlf(text: bytes) -> bytes:
    """Return the content with the CRLF line ends that a Unix mail store took away."""
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
