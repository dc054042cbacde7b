"""Messages as files: one ``.eml`` per row, or one mbox for all. The bytes are those that would be sent."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mailmerge.model import Message

_UNSAFE = re.compile(r"[^A-Za-z0-9@._+-]+")
_NAME_LENGTH = 80


def write_eml(messages: Iterable[Message], folder: Path) -> int:
    """Write each message to ``ROW-ADDRESS.eml`` in *folder*, readable by its owner only; return how many.

    Raises:
        OSError: the folder cannot be written.

    """
    folder.mkdir(parents=True, exist_ok=True)
    count = 0
    for message in messages:
        with _private(folder / eml_name(message.row, str(message.envelope.rcpt_to[0]))) as stream:
            for segment in message.segments:
                stream.write(segment)
        count += 1
    return count


def eml_name(number: int, address: str) -> str:
    """Make a file name that is safe on every system, and in order."""
    return f"{number:05d}-{_UNSAFE.sub('_', address)[:_NAME_LENGTH].lstrip('.')}.eml"


def write_mbox(messages: Iterable[Message], path: Path) -> int:
    """Write all messages to one mbox file (the ``mboxo`` kind), replacing it; return how many."""
    import mailbox

    path.parent.mkdir(parents=True, exist_ok=True)
    _private(path).close()
    box = mailbox.mbox(path, create=False)
    count = 0
    try:
        for message in messages:
            box.add(message.content)
            count += 1
        box.flush()
    finally:
        box.close()
    return count


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb")
