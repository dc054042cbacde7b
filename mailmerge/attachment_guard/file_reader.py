"""A process that reads files for the guard: ``python -P -m mailmerge.attachment_guard.file_reader``.

It receives on its standard input what to read, file by file, and answers on its standard output, in frames:
four octets of length, then data encoded by msgspec. Its memory is limited, and the process that started it
terminates it if it takes too long. It ends with its input.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import sys
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from mailmerge.attachment_guard.extraction import MOST_OCTETS, Extract, extract
from mailmerge.folders import open_to_read

if TYPE_CHECKING:
    from typing import BinaryIO

HEAD = 4
"""Octets that contain the length of a frame."""
_MEMORY = 2 << 30
"""Most octets of address space."""


class FileToRead(Struct, frozen=True, array_like=True):
    """A file, as it was when the message was frozen."""

    path: bytes
    sha256: str
    suffix: str


def read(file: FileToRead) -> Extract:
    """Return the text of a file."""
    try:
        with open_to_read(file.path) as stream:
            data = stream.read(MOST_OCTETS + 1)
    except OSError:
        return Extract("damaged")
    if len(data) > MOST_OCTETS:
        return Extract("large")
    if hashlib.sha256(data).hexdigest() != file.sha256:
        return Extract("damaged")  # it has changed: then it is not sent either
    return extract(data, file.suffix)


def serve(orders: BinaryIO, answers: BinaryIO) -> None:
    """Read the files that *orders* request until they end."""
    while len(head := orders.read(HEAD)) == HEAD:
        content = orders.read(int.from_bytes(head, "big"))
        answer = msgspec.msgpack.encode(read(msgspec.msgpack.decode(content, type=FileToRead)))
        answers.write(len(answer).to_bytes(HEAD, "big") + answer)
        answers.flush()


def _limit() -> None:
    """Confine whatever a file causes to this process."""
    for name in ("SIGINT", "SIGHUP"):  # the parent decides, and closes our input
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    with contextlib.suppress(ImportError, ValueError, OSError):  # not available on Windows
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))


def main() -> int:
    """Serve the process that started this one."""
    own = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # nothing that is printed may get between the frames
    _limit()
    with contextlib.suppress(BrokenPipeError), os.fdopen(own, "wb") as answers:
        serve(sys.stdin.buffer, answers)
    return 0


if __name__ == "__main__":
    sys.exit(main())
