"""Messages for review one by one: as ``.eml`` files, one mbox, or text for a terminal.

The bytes in the files are those that would be sent, except for a Date and a Message-ID that are not made yet:
those of a message that is sent now represent them.
"""

from __future__ import annotations

import contextlib
import re
import stat
import time
from hashlib import sha256
from typing import TYPE_CHECKING

import msgspec

from mailmerge import files
from mailmerge.errors import FileError
from mailmerge.message.builder import with_bcc
from mailmerge.model import OWN_HEADER
from mailmerge.output_folder import RECORD
from mailmerge.text import octets, padded, quoted

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator
    from email.message import EmailMessage
    from email.message import Message as AnyMessage
    from pathlib import Path

    from mailmerge.folders import Folder
    from mailmerge.model import Message

_UNSAFE = re.compile(r"[^A-Za-z0-9@._+-]+")
_NAME_LENGTH = 80
_OUR_NAME = re.compile(r"\d{5,}-[A-Za-z0-9@._+-]+\.eml\Z")
_LARGEST = 1 << 26


_DRAFT = b"X-Unsent: 1\r\n"
"""Outlook opens a file with this field as an unsent message."""
_MADE_BY_SENDER = (b"date:", b"message-id:", OWN_HEADER.lower().encode() + b":")


def write_eml(messages: Iterable[Message], folder: Path, *, unsent: bool = False) -> int:
    """Write each message to ``ROW-ADDRESS.eml`` in *folder*, readable by its owner only; return how many.

    *unsent* makes them drafts for a mail program: with X-Unsent and Bcc, and without Date and Message-ID,
    which the sending program makes, and X-Mailmerge-ID, which would refer to no message of ours.

    An older message must not be mistaken for one of these: files of an earlier call are removed if they are
    unchanged, and a folder with other ``.eml`` files is refused.

    Raises:
        FileError: the folder cannot be written, or contains other messages.

    """
    record = _MessagesRecord(complete=False)
    with files.folder(folder, named=True) as opened:
        opened.sweep()
        _clear(opened)
        _keep(opened, record)
        try:
            for message in messages:
                name = eml_name(message.row, str(message.envelope.rcpt_to[0]))
                digest = sha256()
                with opened.replacing(name) as stream:
                    for segment in (as_draft(message),) if unsent else message.segments:
                        digest.update(segment)
                        stream.write(segment)
                record.files[name] = digest.hexdigest()
        finally:
            record.complete = True
            _keep(opened, record)
    return len(record.files)


def as_draft(message: Message) -> bytes:
    """Return a message as a draft that a mail program will send."""
    head, end, body = with_bcc(message).partition(b"\r\n\r\n")
    fields = re.split(rb"(?<=\r\n)(?![ \t])", head + b"\r\n")
    kept = (field for field in fields if not field.lower().startswith(_MADE_BY_SENDER))
    return _DRAFT + b"".join(kept) + end.removeprefix(b"\r\n") + body


class _MessagesRecord(msgspec.Struct):
    """Record of our messages in a folder, with their SHA-256, as in the folder of results."""

    files: dict[str, str] = msgspec.field(default_factory=dict)
    complete: bool = True
    """False: the program was killed while writing; files with names like ours are ours."""

    def has(self, name: str, folder: Folder) -> bool:
        """Return whether this message of *folder* is ours and unchanged."""
        if name in self.files:
            return self.files[name] == sha256(folder.content(name, _LARGEST)).hexdigest()
        return not self.complete and bool(_OUR_NAME.match(name))


def _keep(folder: Folder, record: _MessagesRecord) -> None:
    with folder.replacing(RECORD) as stream:
        stream.write(msgspec.json.encode(record))


def _clear(folder: Folder) -> None:
    """Remove the messages of an earlier call, which are listed in a record next to them."""
    names = [name for name in folder.names() if name.lower().endswith(".eml") and _is_file(folder, name)]
    record = _MessagesRecord()
    if names:
        with contextlib.suppress(msgspec.DecodeError):
            record = msgspec.json.decode(folder.content(RECORD, _LARGEST), type=_MessagesRecord)
    if others := sorted(name for name in names if not record.has(name, folder)):
        more = f" and {len(others) - 1} more" if len(others) > 1 else ""
        raise FileError(
            folder.path,
            f"it contains messages that were not written by this command: {quoted(others[0])}{more}",
            hint="specify another folder, or move them away: they would pass for messages of this campaign",
        )
    for name in names:
        folder.remove(name)


def _is_file(folder: Folder, name: str) -> bool:
    """Return whether it is a plain file, not a link, a hard link or a pipe, which a message replaces."""
    found = folder.look(name)
    return found is not None and stat.S_ISREG(found.st_mode) and found.st_nlink == 1


def eml_name(number: int, address: str) -> str:
    """Return a file name that is safe on every system, and sorts in order."""
    return f"{number:05d}-{_UNSAFE.sub('_', address)[:_NAME_LENGTH].lstrip('.')}.eml"


def write_mbox(messages: Iterable[Message], path: Path) -> int:
    """Write all messages to one mbox file (in ``mboxo`` format), replacing it; return how many.

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
"""Shown for a header field that is not known yet."""
_SHOWN = ("From", "Sender", "To", "Cc", "Reply-To", "Subject", "Date", "Message-ID")


def message_lines(message: Message, to_come: Container[str] = ()) -> Iterator[str]:
    """Yield the lines that show *message*, to be made printable before they reach a terminal.

    *to_come* names the header fields that are made when it is sent.
    """
    from email import policy
    from email.parser import BytesParser

    parsed = BytesParser(policy=policy.default).parsebytes(message.content)
    yield from _headers(message, to_come)
    envelope = message.envelope
    yield _header("Envelope", f"{envelope.mail_from} -> {', '.join(map(str, envelope.rcpt_to))}")
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
            yield _header(name, MADE_WHEN_SENT)
        elif name != "Content-Transfer-Encoding":
            yield _header(name, make_header(decode_header(" ".join(str(parsed[name]).split()))))


def _header(name: str, value: object) -> str:
    return f"{padded(name, len(OWN_HEADER), right=True)}: {value}"


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
