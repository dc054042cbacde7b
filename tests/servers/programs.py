"""Programs that tests start: found or skipped, run in a group of their own, always stopped."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_SBIN = "/usr/sbin:/usr/local/sbin:/sbin"
_NPM = Path(__file__).parents[2] / "build" / "npm" / "node_modules"


def find(program: str) -> str | None:
    """Path of *program*, also where only root has it on the PATH."""
    return shutil.which(program) or shutil.which(program, path=_SBIN)


def require(program: str) -> str:
    """Path of *program*; where it is missing the test is skipped, in CI it fails."""
    path = find(program)
    if path is None:
        refuse(f"{program} is not installed (scripts/install-test-programs)")
    assert path is not None
    return path


def require_npm(package: str) -> Path:
    """Folder of the npm packages; where *package* is missing the test is skipped, in CI it fails."""
    if not (_NPM / package).is_dir():
        refuse(f"{package} is not installed (scripts/install-test-programs)")
    return _NPM


def require_root() -> None:
    """Skip where we are not root, in CI fail."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        refuse("only root can run this server")


def refuse(reason: str) -> None:
    """Skip on a developer's machine; fail in CI, where a skipped test would be a silent hole."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def unmeasured(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Leave out of *environ* what makes coverage measure a process.

    For a process that runs other code than the installed package, whose imports or system calls are watched,
    or that is killed or denied room for files: its measurements would be foreign, in the way or torn. And for
    one that does much of what other tests have measured: it takes half the time.
    """
    return {name: text for name, text in environ.items() if not name.startswith("COVERAGE_")}


def free_port() -> int:
    """Return a loopback port that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until(condition: Callable[[], bool], what: str, timeout: float = 15.0) -> None:
    """Wait until *condition* holds, or fail with *what* did not happen."""
    deadline = time.monotonic() + timeout
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail(f"{what}: not within {timeout:g} s", pytrace=False)
        time.sleep(0.01)


def listens(port: int) -> bool:
    """Return whether somebody accepts connections on a loopback *port*."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


class Program:
    """A child process in its own group, its output in a file; `stop` ends the whole group."""

    def __init__(self, arguments: Sequence[str], log: Path, *, cwd: Path | None = None) -> None:
        self.log = log
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=cwd,
                start_new_session=True,
            )

    def wait_for_port(self, port: int) -> None:
        """Return when *port* takes connections; fail with the program's output if it ends before."""

        def ready() -> bool:
            if self.process.poll() is not None:
                pytest.fail(
                    f"{self.process.args!r} ended:\n{self.log.read_text('utf-8', 'replace')}", pytrace=False
                )
            return listens(port)

        wait_until(ready, f"port {port} open")

    def stop(self) -> None:
        """End the process and what it started; stopping twice does no harm."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, number)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(5)
                if number == signal.SIGTERM:
                    continue  # the children that outlive their parent get the second signal
        self.process.wait(5)
