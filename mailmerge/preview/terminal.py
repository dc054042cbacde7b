"""One message as text for a terminal: decoded headers, the text part, and the MIME tree with sizes."""

from __future__ import annotations

from email import policy
from email.header import decode_header, make_header
from email.parser import BytesParser
from typing import TYPE_CHECKING

from mailmerge.text import octets

if TYPE_CHECKING:
    from collections.abc import Iterator
    from email.message import EmailMessage
    from email.message import Message as AnyMessage

    from mailmerge.model import Message

_SHOWN = ("From", "Sender", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID")


def lines(message: Message) -> Iterator[str]:
    """Yield the lines that show *message*; nothing in them can steer a terminal once made printable."""
    parsed = BytesParser(policy=policy.default).parsebytes(message.content)
    yield from _headers(message)
    yield f"{'Envelope':>12}: {message.envelope.mail_from} -> {', '.join(map(str, message.envelope.rcpt_to))}"
    yield ""
    body = parsed.get_body(("plain", "html"))
    if body is not None:
        yield from str(body.get_content()).replace("\r\n", "\n").rstrip("\n").split("\n")
    yield ""
    yield from tree(parsed)


def _headers(message: Message) -> Iterator[str]:
    # The older policy keeps each header as it is in the bytes, so what is shown is what was written.
    parsed: AnyMessage = BytesParser(policy=policy.compat32).parsebytes(message.content)
    names = [name for name in _SHOWN if name in parsed]
    names += [name for name in parsed if name not in names and name not in ("MIME-Version", "Content-Type")]
    for name in names:
        if name != "Content-Transfer-Encoding":
            yield f"{name:>12}: {make_header(decode_header(' '.join(str(parsed[name]).split())))}"


def tree(part: EmailMessage, depth: int = 0) -> Iterator[str]:
    """Yield the MIME structure, one line a part: type, file name, size of its decoded content."""
    name = part.get_filename()
    label = f"{'  ' * depth}{part.get_content_type()}"
    if part.is_multipart():
        yield label
        for child in part.iter_parts():
            yield from tree(child, depth + 1)  # type: ignore[arg-type]
    else:
        content = part.get_payload(decode=True)
        length = len(content) if isinstance(content, bytes) else 0
        yield f"{label}{f'  {name}' if name else ''}  {octets(length)}"
