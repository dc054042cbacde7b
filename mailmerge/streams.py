"""The standard streams: no file of ours takes the place of a closed one, and one that fails stops no run.

If our output is closed, or its disk is full, what would be shown is lost; what matters is in the ledger. So a
stream that cannot be written is ignored from then on. That is reported once, on standard error; not for a
pipe whose reader has gone away, such as ``head``.
"""

from __future__ import annotations

import contextlib
import errno
import io
import os
import sys
from typing import TextIO

_IN, _OUT, _ERROR = 0, 1, 2


def protect_streams() -> None:
    """Make sure that all three exist, and that writing never fails; called before anything is opened."""
    closed = [descriptor for descriptor in (_IN, _OUT, _ERROR) if not _is_open(descriptor)]
    for descriptor in closed:
        point_nowhere(descriptor)
    if sys.stdin is None:
        sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(_IN, closefd=False)), encoding="utf-8")
    sys.stdout, sys.stderr = _unfailing(_OUT, sys.stdout), _unfailing(_ERROR, sys.stderr)
    if _OUT in closed:
        _say("it is closed")


def point_nowhere(descriptor: int) -> None:
    """Discard what is written to a standard stream from now on, and read nothing from it."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    if nowhere != descriptor:
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def _is_open(descriptor: int) -> bool:
    try:
        os.fstat(descriptor)
    except OSError:
        return False
    return True


def _unfailing(descriptor: int, stream: TextIO | None) -> TextIO:
    raw = _Unfailing(descriptor)
    return io.TextIOWrapper(
        io.BufferedWriter(raw),
        encoding=stream.encoding if stream else "utf-8",
        errors="backslashreplace",
        line_buffering=descriptor == _ERROR or raw.isatty(),
        write_through=bool(getattr(stream, "write_through", False)),
    )


class _Unfailing(io.FileIO):
    """A standard stream; what cannot be written is lost, and so is all that follows."""

    def __init__(self, descriptor: int) -> None:
        super().__init__(descriptor, "wb", closefd=False)

    def write(self, data: object) -> int:
        try:
            return super().write(data)  # type: ignore[arg-type]
        except OSError as error:
            point_nowhere(self.fileno())
            if self.fileno() == _OUT and error.errno != errno.EPIPE:
                _say(error.strerror or str(error))
            return memoryview(data).nbytes  # type: ignore[arg-type]


def _say(why: str) -> None:
    text = f"warning: standard output cannot be written: {why}; what it would have shown is lost\n"
    with contextlib.suppress(OSError):
        os.write(_ERROR, text.encode())
