"""The tester's end of the warm process: orders senders, kills them, hears how they ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

from servers.programs import unmeasured

if TYPE_CHECKING:
    from typing import IO

    from reliability.bench import Bench

KILLED = -signal.SIGKILL


class Warm:
    """Starts senders in a moment; use it as a context manager, *log* gets what they say."""

    def __init__(self, log: Path) -> None:
        self.log = log
        self.calls = 0
        """How many system calls the latest sender counted, if it was asked to and lived."""
        self._pid = 0
        with log.open("wb") as output:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("warm.py"))],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=output,
                env=unmeasured(),
                text=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        with contextlib.suppress(ProcessLookupError):
            if self._pid:
                os.kill(self._pid, signal.SIGKILL)
        self._input.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._output.close()

    @property
    def _input(self) -> IO[str]:
        assert self._process.stdin is not None
        return self._process.stdin

    @property
    def _output(self) -> IO[str]:
        assert self._process.stdout is not None
        return self._process.stdout

    def start(self, bench: Bench, *, ahead: float = 0.0, die_at: int = 0, count: bool = False) -> int:
        """Fork a sender and give its process id; `end` has to be called."""
        order = {
            "folder": str(bench.folder),
            "environ": bench.mailmerge.environ,
            "ahead": ahead,
            "die_at": die_at,
            "count": count or bool(die_at),
        }
        self._input.write(json.dumps(order) + "\n")
        self._input.flush()
        self._pid = int(self._answer("pid")[0])
        return self._pid

    def end(self) -> int:
        """Wait until the sender has ended: its exit code, or minus the signal that killed it."""
        code, calls = self._answer("end")
        self._pid = 0
        self.calls = int(calls)
        said = self.log.read_text("utf-8", "replace")
        assert "Traceback" not in said, said[-4000:]
        return int(code)

    def run(self, bench: Bench, *, ahead: float = 0.0, die_at: int = 0, count: bool = False) -> int:
        """Fork a sender, wait for its end."""
        self.start(bench, ahead=ahead, die_at=die_at, count=count)
        return self.end()

    def kill(self) -> bool:
        """Kill the present sender; tell whether there was one."""
        pid = self._pid
        with contextlib.suppress(ProcessLookupError):
            if pid:
                os.kill(pid, signal.SIGKILL)
                return True
        return False

    def _answer(self, word: str) -> list[str]:
        line = self._output.readline().split()
        assert line[:1] == [word], (line, self.log.read_text("utf-8", "replace")[-4000:])
        return line[1:]
