"""The planner's side of its workers: starts them, gives them chunks, and receives the results.

One thread does everything: pipes are written and read when they are ready, between rows that the planner
makes itself. No process is left behind: a worker ends with its input, and is ended with the pool.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import subprocess
import sys
from collections import deque
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from mailmerge.errors import InputError, MailmergeError
from mailmerge.plan.rows import CHUNK as ROWS_OF_A_CHUNK
from mailmerge.plan.rows import DIED, Chunk
from mailmerge.plan.worker_program import CHUNK, FAILED, HEAD, LOOKED_AT, OUT_OF_MEMORY, PACKED, frame

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.model import Recipient
    from mailmerge.plan.path_log import LookedAtPaths
    from mailmerge.plan.rows import ChunkMaker, PackedChunk

COMMAND = ("-P", "-m", "mailmerge.plan.worker_program")
_AHEAD = 2
"""Chunks that a worker has: one that it is making, and one that waits in the pipe."""
_READ = 1 << 18
_LAST_WORDS = 4000
MOST_WAITING = 64
"""Most chunks that are given away or made and whose turn has not come: they are in memory."""
_KEPT = ("PATH", "HOME", "USERPROFILE", "LANG", "LANGUAGE", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "SYSTEMROOT")
_KEPT_PREFIXES = ("LC_", "PYTHON", "COVERAGE_", "DYLD_")


def possible() -> bool:
    """Return whether workers are possible: not where our Python cannot be started by its path."""
    return os.name == "posix" and bool(sys.executable) and not getattr(sys, "frozen", False)


def environment() -> dict[str, str]:
    """Return the environment of a worker: what Python and the C library need, none of our variables."""
    kept = {
        name: value for name, value in os.environ.items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)
    }
    places = [*filter(None, sys.path), os.fspath(Path(__file__).parents[2])]
    same = {"PYTHONPATH": os.pathsep.join(dict.fromkeys(places)), "PYTHONUTF8": str(sys.flags.utf8_mode)}
    return {**kept, **same}


class WorkerProcess:
    """One worker process; what it is told first is the setup, see `mailmerge.plan.worker_program.setup`.

    Raises:
        OSError: it cannot be started.

    """

    def __init__(self) -> None:
        self.process = subprocess.Popen(  # noqa: S603  our own program
            [sys.executable, *COMMAND],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(),
        )
        self._streams = (self.process.stdin, self.process.stdout, self.process.stderr)
        self.orders, self.answers, self.errors = (stream.fileno() for stream in self._streams if stream)
        for pipe in (self.orders, self.answers, self.errors):
            os.set_blocking(pipe, False)
        self.version = ""
        """Its answer to the setup; empty: it is not ready yet."""
        self.chunks: deque[Chunk] = deque()
        """The chunks that it has not answered yet."""
        self._out = bytearray()
        self._in = bytearray()
        self._words = b""

    @property
    def has_room(self) -> bool:
        """Whether another chunk would keep it busy."""
        return bool(self.version) and len(self.chunks) < _AHEAD

    @property
    def is_writing(self) -> bool:
        """Whether part of its input has not been written yet."""
        return bool(self._out)

    def give(self, chunk: Chunk) -> None:
        """Return it a chunk."""
        self.chunks.append(chunk)
        self.tell(CHUNK.encode(chunk))

    def tell(self, content: bytes) -> None:
        """Send a frame, as far as the pipe has room."""
        self._out += frame(content)
        self.write()

    def write(self) -> None:
        """Send more of what is to be sent."""
        with contextlib.suppress(BlockingIOError, BrokenPipeError):  # that it is gone is noticed when reading
            while self._out:
                del self._out[: os.write(self.orders, self._out[:_READ])]

    def read(self) -> Iterator[bytes]:
        """Yield the answers that have arrived.

        Raises:
            EOFError: it has ended.

        """
        with contextlib.suppress(BlockingIOError):
            self._words = (self._words + os.read(self.errors, _READ))[-_LAST_WORDS:]
        with contextlib.suppress(BlockingIOError):
            data = os.read(self.answers, _READ)
            if not data:
                raise EOFError
            self._in += data
        while len(self._in) >= HEAD:
            end = HEAD + int.from_bytes(self._in[:HEAD], "big")
            if len(self._in) < end:
                return
            answer = bytes(self._in[HEAD:end])
            del self._in[:end]
            yield answer

    def end(self) -> str:
        """Wait until it has ended, and return how."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(timeout=5)
        self.kill()
        code = self.process.returncode
        if code == OUT_OF_MEMORY:
            return "it ran out of memory"
        if code < 0:
            with contextlib.suppress(ValueError):
                return f"{signal.Signals(-code).name} ended it"
        words = self._words.decode("utf-8", "replace").strip().splitlines()
        return f"exit code {code}" + (f": {words[-1]}" if words else "")

    def kill(self) -> None:
        """Kill it: it is not needed any more."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        for stream in self._streams:
            with contextlib.suppress(OSError):
                if stream is not None:
                    stream.close()


class WorkerPool:
    """Several workers; use it as a context manager: when it is left, they have ended.

    They load what they need from the moment they exist, but do nothing before `begin`.

    Args:
        count: how many.

    Raises:
        OSError: they cannot be started.

    """

    def __init__(self, count: int) -> None:
        self._version = ""
        self._workers: list[WorkerProcess] = []
        self._done: dict[int, PackedChunk | None] = {}
        self._looked_at: list[LookedAtPaths] = []
        try:
            for _ in range(count):
                self._workers.append(WorkerProcess())
        except BaseException:
            self.close()
            raise
        self._poll = select.poll()
        for worker in self._workers:
            self._poll.register(worker.answers, select.POLLIN)
            self._poll.register(worker.errors, select.POLLIN)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End all of them."""
        for worker in self._workers:
            worker.kill()

    def begin(self, setup: bytes, version: str) -> None:
        """Tell them about the campaign, so that they can be given chunks.

        Args:
            setup: their first frame.
            version: the campaign's: a worker with another one has read other templates than the planner.

        """
        self._version = version
        for worker in self._workers:
            worker.tell(setup)

    @property
    def wants(self) -> bool:
        """Whether a worker has too little to do."""
        return any(worker.has_room for worker in self._workers)

    def give(self, chunk: Chunk) -> None:
        """Return a chunk to the worker that has least to do."""
        with_room = (worker for worker in self._workers if worker.has_room)
        min(with_room, key=lambda worker: len(worker.chunks)).give(chunk)

    def pump(self, *, wait: bool = False) -> None:
        """Receive what has been answered, and send what has not been sent.

        Args:
            wait: until there is something.

        Raises:
            MailmergeError: a worker has ended (C473).

        """
        writing = [worker for worker in self._workers if worker.is_writing]
        for worker in writing:
            self._poll.register(worker.orders, select.POLLOUT)
        found = {pipe for pipe, _ in self._poll.poll(None if wait else 0)}
        for worker in writing:
            self._poll.unregister(worker.orders)
            worker.write()
        for worker in self._workers:
            if worker.answers in found or worker.errors in found:
                self._take(worker)

    def _take(self, worker: WorkerProcess) -> None:
        try:
            for answer in worker.read():
                self._take_answer(worker, answer)
        except EOFError:
            raise self._died(worker) from None

    def _take_answer(self, worker: WorkerProcess, answer: bytes) -> None:
        if not worker.version:
            worker.version = answer.decode("ascii")
            if worker.version != self._version:
                raise InputError(
                    "the templates changed while the list was being planned",
                    code="C474",
                    hint="wait until the program that writes them has finished, then try again",
                )
        elif worker.chunks:
            chunk = worker.chunks.popleft()
            self._done[chunk.n] = None if answer == FAILED else PACKED.decode(answer)
        else:
            self._looked_at.append(LOOKED_AT.decode(answer))

    def _died(self, worker: WorkerProcess) -> MailmergeError:
        at = f" at {worker.chunks[0].extent}" if worker.chunks else ""
        return MailmergeError(f"a process that helped to plan ended{at}: {worker.end()}", code=DIED)

    def is_done(self, n: int) -> bool:
        """Return whether the chunk at place *n* was answered."""
        return n in self._done

    def take(self, n: int) -> PackedChunk | None:
        """Return what the chunk at place *n* became; None: it raised an error."""
        return self._done.pop(n)

    def looked_at(self) -> list[LookedAtPaths]:
        """Return which paths the workers looked at, after all chunks were answered.

        Raises:
            MailmergeError: a worker has ended (C473).

        """
        asked = [worker for worker in self._workers if worker.version]
        for worker in asked:
            worker.tell(b"")
        while len(self._looked_at) < len(asked):
            self.pump(wait=True)
        return self._looked_at


class Helpers(Protocol):
    """Who else makes chunks; `WorkerPool` does."""

    def pump(self, *, wait: bool = False) -> None:
        """Receive what is finished, and send what was given; *wait* until there is something."""

    def give(self, chunk: Chunk) -> None:
        """Send a chunk to a worker; `wants` says when."""

    @property
    def wants(self) -> bool:
        """Whether one of them has too little to do."""

    def is_done(self, n: int) -> bool:
        """Return whether the chunk at place *n* is finished."""

    def take(self, n: int) -> PackedChunk | None:
        """Return what the chunk at place *n* became; None: it raised an error."""


class SharedWork:
    """The rows of a list, made together with others; iterating yields their chunks in the list's order.

    What raises an error is made once more when it is its turn, so that the first error in the list is the one
    that is raised, whichever process met one first.

    Args:
        helpers: the others.
        maker: makes what is made here.
        rows: each with its place in the list.

    """

    def __init__(self, helpers: Helpers, maker: ChunkMaker, rows: Iterator[tuple[int, Recipient]]) -> None:
        self._helpers = helpers
        self._maker = maker
        self._rows = rows
        self._waiting: deque[list[tuple[int, Recipient]]] = deque()
        """Chunks whose turn has not come, in order: the rows with their places."""
        self._own: dict[int, PackedChunk | None] = {}
        self._ended: MailmergeError | None = None

    def __iter__(self) -> Iterator[PackedChunk]:
        waiting = self._waiting
        while True:
            self._share()
            while waiting and self._is_done(waiting[0][0][0]):
                yield self._take(waiting.popleft())
            if self._next():
                self._make(waiting[-1])
            elif not waiting:
                return
            elif not self._is_done(waiting[0][0][0]):
                self._helpers.pump(wait=True)

    def _next(self) -> bool:
        """Take the next chunk off the list, unless too many are waiting; it is the last one that waits."""
        found = list(islice(self._rows, ROWS_OF_A_CHUNK)) if len(self._waiting) < MOST_WAITING else []
        if found:
            self._waiting.append(found)
        return bool(found)

    def _share(self) -> None:
        self._helpers.pump()
        while self._helpers.wants and self._next():
            self._helpers.give(Chunk.of(self._waiting[-1]))

    def _make(self, placed: Sequence[tuple[int, Recipient]]) -> None:
        """Make a chunk here, and serve the workers now and then."""
        n = placed[0][0]
        self._own[n] = None
        with contextlib.suppress(MailmergeError):
            self._own[n] = self._maker.make(placed, self._between)
        if self._ended is not None:
            raise self._ended

    def _between(self) -> None:
        try:
            self._share()
        except MailmergeError as error:  # not of the row that was just made
            self._ended = error
            raise

    def _is_done(self, n: int) -> bool:
        return n in self._own or self._helpers.is_done(n)

    def _take(self, placed: Sequence[tuple[int, Recipient]]) -> PackedChunk:
        n = placed[0][0]
        made = self._own.pop(n) if n in self._own else self._helpers.take(n)
        return self._maker.make(placed) if made is None else made
