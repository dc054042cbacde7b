"""A process that has the program imported and forks a child for each command: a start without its imports.

It runs no command itself, so that no child begins with another's state, and a child continues as
``python -P -m mailmerge`` does: its own arguments, environment, folder and standard streams, fresh random
numbers, an exit by the interpreter (which saves what coverage measured), an exit code from the kernel.

What depends on how the interpreter starts is not for it (`ForkServer.serves`), nor are tests of signals,
terminals, limits, memory and imports: these start a new process.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import io
import json
import os
import pkgutil
import runpy
import selectors
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TextIO

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_AT_START = ("PYTHON", "COVERAGE_", "LC_", "LANG", "LD_", "MALLOC_")
_LEFT_OUT = {"__main__", "dataframe", "openpyxl_workbook", "results_workbook"}  # NumPy would start threads
_ALSO = ("aiosmtpd.smtp", "babel.dates", "babel.numbers", "tinycss2", "zoneinfo")


class Ended(NamedTuple):
    """How a command ended; *code* is negative where a signal ended it."""

    code: int
    out: bytes
    err: bytes


def possible() -> bool:
    """Return whether a descriptor can say that a process has ended: on Linux, unless that is forbidden."""
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):
        return False
    return True


class ForkServer:
    """The tester's end of such a process, started with *environ*; `stop` has to be called."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._at_start = _at_start(environ)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, "-P", __file__, str(theirs.fileno())],
                env=dict(environ),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )

    def serves(self, environ: Mapping[str, str]) -> bool:
        """Return whether the interpreter would start in the same way with this environment."""
        return self._at_start == _at_start(environ)

    def run(
        self, arguments: Sequence[str], *, cwd: Path, environ: Mapping[str, str], stdin: int, timeout: float
    ) -> Ended:
        """Run one command to its end and that of its output.

        Raises:
            subprocess.TimeoutExpired: after *timeout* seconds; it was killed.

        """
        order = {"arguments": list(arguments), "cwd": str(cwd), "environ": dict(environ)}
        asker, theirs = socket.socketpair()
        (out, their_out), (err, their_err) = os.pipe(), os.pipe()
        try:
            with asker:
                with theirs:
                    socket.send_fds(self._control, [b"!"], [theirs.fileno(), stdin, their_out, their_err])
                os.close(their_out)
                os.close(their_err)
                asker.sendall(json.dumps(order).encode())
                asker.shutdown(socket.SHUT_WR)
                told, said, complained = _read_all(timeout, asker.fileno(), out, err)
        finally:
            os.close(out)
            os.close(err)
        _, code = told.split()
        return Ended(int(code), said, complained)

    def stop(self) -> None:
        """End the process."""
        self._control.close()
        self._process.wait(30)


def _at_start(environ: Mapping[str, str]) -> dict[str, str]:
    return {name: text for name, text in environ.items() if name.startswith(_AT_START)}


def _read_all(timeout: float, told: int, *outputs: int) -> list[bytes]:
    """Read all to their ends; what is told begins with the process id."""
    until = time.monotonic() + timeout
    read = dict.fromkeys((told, *outputs), b"")
    with selectors.DefaultSelector() as waiting:
        for descriptor in read:
            waiting.register(descriptor, selectors.EVENT_READ)
        while waiting.get_map():
            ready = waiting.select(max(0.0, until - time.monotonic()))
            for key, _ in ready:
                if data := os.read(key.fd, 1 << 16):
                    read[key.fd] += data
                else:
                    waiting.unregister(key.fd)
            if not ready:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(read[told].split()[0]), signal.SIGKILL)
                raise subprocess.TimeoutExpired("mailmerge", timeout, *(read[one] for one in outputs))
    return list(read.values())


class _Server:
    """The process: hears orders, and tells who gave one the child's process id and its exit code."""

    def __init__(self, control: socket.socket) -> None:
        self._control = control
        self._children: dict[int, tuple[int, socket.socket]] = {}
        self._waiting = selectors.DefaultSelector()
        self._waiting.register(control, selectors.EVENT_READ)

    def serve(self) -> bool:
        """Continue until nobody gives orders any more (False), or return in a new child (True)."""
        while True:
            for key, _ in self._waiting.select():
                if key.fd in self._children:
                    self._ended(key.fd)
                    continue
                _, descriptors, _, _ = socket.recv_fds(self._control, 1, 4)
                if not descriptors:
                    return False
                if self._fork(*descriptors):
                    return True

    def _fork(self, asker: int, *streams: int) -> bool:
        answers = socket.socket(fileno=asker)
        with answers.makefile("rb") as orders:
            order = json.loads(orders.read())
        pid = os.fork()
        if not pid:
            answers.close()
            self._close()
            _become(order, streams)
            return True
        for stream in streams:
            os.close(stream)
        answers.sendall(f"{pid}\n".encode())
        child = os.pidfd_open(pid)
        self._children[child] = pid, answers
        self._waiting.register(child, selectors.EVENT_READ)
        return False

    def _ended(self, child: int) -> None:
        self._waiting.unregister(child)
        os.close(child)
        pid, answers = self._children.pop(child)
        code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        with answers, contextlib.suppress(BrokenPipeError):  # who asked waits no longer
            answers.sendall(f"{code}\n".encode())

    def _close(self) -> None:
        self._waiting.close()
        self._control.close()
        for child, (_, answers) in self._children.items():
            os.close(child)
            answers.close()


def _become(order: Mapping[str, Any], streams: Sequence[int]) -> None:
    """Take what a new process is given."""
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.environ.clear()
    os.environ.update(order["environ"])
    time.tzset()
    os.chdir(order["cwd"])
    sys.argv[1:] = order["arguments"]
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        opened = _stream(number, getattr(sys, name))
        setattr(sys, name, opened)
        setattr(sys, f"__{name}__", opened)


def _stream(number: int, like: TextIO) -> TextIO:
    """Open a standard stream as the interpreter does: what it can do depends on what it is."""
    raw = io.FileIO(number, "wb" if number else "rb", closefd=False)
    return io.TextIOWrapper(
        io.BufferedWriter(raw) if number else io.BufferedReader(raw),
        like.encoding,
        like.errors,
        newline="\n",
        line_buffering=number == 2 or raw.isatty(),
    )


def _import_all() -> None:
    import mailmerge

    for module in pkgutil.walk_packages(mailmerge.__path__, "mailmerge."):
        if module.name.rpartition(".")[2] not in _LEFT_OUT:
            importlib.import_module(module.name)
    for name in _ALSO:
        importlib.import_module(name)


def _measuring() -> Any:
    coverage = sys.modules.get("coverage")
    return coverage.Coverage.current() if coverage else None


def main() -> None:
    """Serve; in a child be the command."""
    with socket.socket(fileno=int(sys.argv[1])) as control:
        os.set_inheritable(control.fileno(), False)
        _import_all()
        assert len(list(Path("/proc/self/task").iterdir())) == 1, "threads do not outlive a fork"
        if measuring := _measuring():
            measuring.save()  # what the imports ran
        gc.freeze()
        child = _Server(control).serve()
    if child:
        if measuring:
            # It would list again all files that it did not run, which takes longer than the rest of it.
            measuring._post_save_work = lambda: None
        runpy.run_module("mailmerge", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main()
