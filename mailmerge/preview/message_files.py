"""Messages as files: one ``.eml`` per row, or one mbox for all. The bytes are those that would be sent."""

from __future__ import annotations

import re
import time
from typing import TYPE_CHECKING

from mailmerge import files

if TYPE_CHECKING:
    from collections.abc import Iterable
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
        for message in messages:
            with opened.replace(eml_name(message.row, str(message.envelope.rcpt_to[0]))) as stream:
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
