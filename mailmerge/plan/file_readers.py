"""Processes that read files for the guard; one that takes too long, or ends, is replaced."""

from __future__ import annotations

import contextlib
import queue
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from typing import TYPE_CHECKING, Self

import msgspec

from mailmerge.attachment_guard.extraction import Extract
from mailmerge.attachment_guard.file_reader import HEAD
from mailmerge.plan.workers import environment

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import IO

    from mailmerge.attachment_guard.file_reader import FileToRead

COMMAND = ("-P", "-m", "mailmerge.attachment_guard.file_reader")
_SECONDS = 10.0
"""Seconds for one file, the start of the process included."""
_AHEAD = 64
"""How many files' texts may wait."""


class FileReader:
    """One process; it is started when it is first needed."""

    def __init__(self, seconds: float = _SECONDS) -> None:
        self._seconds = seconds
        self._process: subprocess.Popen[bytes] | None = None

    def read(self, file: FileToRead) -> Extract:
        """Return the text of a file."""
        try:
            process = self._process = self._process or self._start()
        except OSError:
            return Extract("unstarted")
        assert process.stdin is not None
        assert process.stdout is not None
        order = msgspec.msgpack.encode(file)
        late = threading.Event()

        def end() -> None:
            late.set()
            process.kill()

        timer = threading.Timer(self._seconds, end)
        timer.start()
        try:
            with contextlib.suppress(BrokenPipeError):  # that it is gone is noticed when reading
                process.stdin.write(len(order).to_bytes(HEAD, "big") + order)
                process.stdin.flush()
            answer = _read_frame(process.stdout)
        finally:
            timer.cancel()
        if answer is None:
            self.close()
            return Extract("slow" if late.is_set() else "damaged")
        return msgspec.msgpack.decode(answer, type=Extract)

    def _start(self) -> subprocess.Popen[bytes]:
        if not sys.executable or getattr(sys, "frozen", False):
            raise OSError
        return subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment(),
        )

    def close(self) -> None:
        """End the process, if there is one."""
        process, self._process = self._process, None
        if process is None:
            return
        for stream in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=1)
            return
        process.kill()
        process.wait()


class FileReaders:
    """Several of them; use it as a context manager.

    Args:
        count: how many.

    """

    def __init__(self, count: int) -> None:
        self._readers = [FileReader() for _ in range(count)]
        self._idle: queue.SimpleQueue[FileReader] = queue.SimpleQueue()
        for reader in self._readers:
            self._idle.put(reader)
        self._threads = ThreadPoolExecutor(count)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        for reader in self._readers:
            reader.close()

    def read(self, wanted: Iterable[FileToRead]) -> Iterator[tuple[FileToRead, Extract]]:
        """Read files, and yield their texts in the same order."""
        files = iter(wanted)
        while block := list(islice(files, _AHEAD)):
            yield from zip(block, self._threads.map(self._read, block), strict=True)

    def _read(self, file: FileToRead) -> Extract:
        reader = self._idle.get()
        try:
            return reader.read(file)
        finally:
            self._idle.put(reader)


def _read_frame(stream: IO[bytes]) -> bytes | None:
    head = stream.read(HEAD)
    if len(head) < HEAD:
        return None
    length = int.from_bytes(head, "big")
    content = stream.read(length)
    return content if len(content) == length else None
