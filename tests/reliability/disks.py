"""A small disk of our own: it can be filled and write-protected, and is gone with its mount namespace."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Self

import pytest

from servers import programs
from servers.command import Done

if TYPE_CHECKING:
    from collections.abc import Mapping

_MOUNT = 'mount -t tmpfs -o size="$2" none "$1" && echo ready && exec cat'


class Disk:
    """A tmpfs of *octets* that only a process of ours sees; use it as a context manager.

    `inside` is where commands that are started with `mailmerge` find it, `path` is the same place for
    this process (only for opening files: links are not to be resolved).
    """

    def __init__(self, inside: Path, octets: int) -> None:
        programs.require_root()
        inside.mkdir()
        self.inside = inside
        self._holder = subprocess.Popen(
            ["unshare", "-m", "sh", "-c", _MOUNT, "sh", str(inside), str(octets)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert self._holder.stdout is not None
        if self._holder.stdout.readline() != b"ready\n":
            _, said = self._holder.communicate()
            pytest.skip(f"this machine lets nobody mount: {said.decode()}")
        self.path = Path(f"/proc/{self._holder.pid}/root{inside}")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._holder.communicate(timeout=10)

    def mailmerge(self, *arguments: str, environ: Mapping[str, str]) -> Done:
        """Run the command where the disk is mounted."""
        command = [sys.executable, "-P", "-m", "mailmerge", *arguments]
        done = self._run(*command, environ=environ)
        assert "Traceback" not in done.err, done
        return done

    def _run(self, *command: str, environ: Mapping[str, str] = os.environ) -> Done:
        done = subprocess.run(
            ["nsenter", "-t", str(self._holder.pid), "-m", *command],
            env=programs.unmeasured(environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=60,
            check=False,
        )
        return Done(done.returncode, done.stdout.decode(), done.stderr.decode())

    def protect(self) -> None:
        """Make it read-only."""
        assert self._run("mount", "-o", "remount,ro", str(self.inside)).code == 0

    def fill(self) -> None:
        """Leave no room at all."""
        with (self.path / "junk").open("ab", buffering=0) as junk, contextlib.suppress(OSError):
            while True:
                junk.write(bytes(4096))

    def empty(self) -> None:
        """Take the junk away."""
        (self.path / "junk").unlink()

    def copy(self, name: str, target: Path) -> None:
        """Copy a folder of it out, for a closer look."""
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(self.path / name, target)
