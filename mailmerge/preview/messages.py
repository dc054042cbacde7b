"""Messages to look at one by one: as ``.eml`` files, one mbox, or text for a terminal.

The bytes in the files are those that would be sent, but for a Date and a Message-ID that are yet to be made:
there, those of a message that is sent now stand for them.
"""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.text import octets

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from email.message import EmailMessage
    from email.message import Message as AnyMessage
    from pathlib import Path

    from mailmerge.model import Message

_UNSAFE = re.compile(r"[^A-Za-z0-9@._+-]+")
_NAME_LENGTH = 80


def write_eml(messages: Iterable[Message], folder: Path) -> int:
    """Write each message to ``ROW-ADDRESS.eml`` in *folder*, readable by its owner only; return how many.

    Raises:
        FileError: the folder cannot be written.

    """
    count = 0
    with files.folder(folder, named=True) as opened:
        opened.sweep()
        for message in messages:
            with opened.replacing(eml_name(message.row, str(message.envelope.rcpt_to[0]))) as stream:
                for segment in message.segments:
                    stream.write(segment)
            count += 1
    return count


def eml_name(number: int, address: str) -> str:
    """Make a file name that is safe on every system, and in order."""
    return f"{number:05d}-{_UNSAFE.sub('_', address)[:_NAME_LENGTH].lstrip('.')}.eml"


def write_mbox(messages: Iterable[Message], path: Path) -> int:
    """Write all messages to one mbox file (the ``mboxo`` kind), replacing it; return how many.

    Raises:
        FileError: the file cannot be written.

    """
    count = 0
    with files.replace_file(path, named=True) as stream:
        for message in messages:
            now = time.asctime(time.gmtime()).encode()
            stream.write(b"From MAILER-DAEMON %b\n" % now)
            content = message.content.replace(b"\nFrom ", b"\n>From ")
            stream.write(content if content.endswith(b"\n") else content + b"\n")
            stream.write(b"\n")
            count += 1
    return count


# --- for a terminal ------------------------------------------------------------------------------------

MADE_WHEN_SENT = "made when sent"
"""Stands for a header field that is not known before."""
_SHOWN = ("From", "Sender", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID")


def message_lines(message: Message, to_come: Container[str] = ()) -> Iterator[str]:
    """Yield the lines that show *message*; nothing in them can steer a terminal once made printable.

    *to_come* names the header fields that are made when it is sent.
    """
    from email import policy
    from email.parser import BytesParser

    parsed = BytesParser(policy=policy.default).parsebytes(message.content)
    yield from _headers(message, to_come)
    yield f"{'Envelope':>12}: {message.envelope.mail_from} -> {', '.join(map(str, message.envelope.rcpt_to))}"
    yield ""
    body = parsed.get_body(("plain", "html"))
    if body is not None:
        yield from str(body.get_content()).replace("\r\n", "\n").rstrip("\n").split("\n")
    yield ""
    yield from tree(parsed)


def _headers(message: Message, to_come: Container[str]) -> Iterator[str]:
    from email import policy
    from email.header import decode_header, make_header
    from email.parser import BytesParser

    # The older policy keeps each header as it is in the bytes, so what is shown is what was written.
    parsed: AnyMessage = BytesParser(policy=policy.compat32).parsebytes(message.content)
    names = [name for name in _SHOWN if name in parsed]
    names += [name for name in parsed if name not in names and name not in ("MIME-Version", "Content-Type")]
    for name in names:
        if name in to_come:
            yield f"{name:>12}: {MADE_WHEN_SENT}"
        elif name != "Content-Transfer-Encoding":
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
