"""Locks between processes: one writer per campaign, one session per account.

The operating system holds them, so a killed process leaves nothing behind. The file's text only tells
others who has it; it is never deleted, because deleting a lock file is how two holders come about.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Self

from mailmerge import files
from mailmerge.errors import FileError, InUseError
from mailmerge.ledger.databases import unusable
from mailmerge.text import local_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30
    """Windows locks are mandatory: lock a byte far behind the text, which others must read."""

    def _try_lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


class Lock:
    """A file that one process holds; use it as a context manager."""

    code = "L707"

    def __init__(
        self, path: Path, what: str, *, wait: float = 0.0, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        self.path = path
        self._what = what
        self._wait = wait
        self._give_up = give_up
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InUseError: another process has it; says which and since when.
            LedgerError: the lock file cannot be made.

        """
        if self._handle is not None:
            raise RuntimeError("the lock is already held")
        deadline = time.monotonic() + self._wait
        handle = self._open()
        while True:
            try:
                _try_lock(handle)
                break
            except OSError as error:
                if time.monotonic() >= deadline or self._give_up():
                    text = self._read(handle)
                    os.close(handle)
                    raise self._in_use(text) from error
                time.sleep(0.05)
        self._handle = handle
        about = json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")})
        # Only information: if it cannot be written, the lock holds all the same.
        with contextlib.suppress(OSError):
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
            os.write(handle, about.encode())

    def release(self) -> None:
        """Return the lock back; without it, nothing happens."""
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _open(self) -> int:
        try:
            return files.open_in_place(self.path)
        except FileError as error:
            raise unusable(error) from error

    @staticmethod
    def _read(handle: int) -> str:
        with contextlib.suppress(OSError):
            os.lseek(handle, 0, os.SEEK_SET)
            return os.read(handle, 4096).decode("utf-8", "replace")
        return ""

    def _in_use(self, text: str) -> InUseError:
        by = "another process"
        with contextlib.suppress(ValueError, TypeError, KeyError, AttributeError):
            about = json.loads(text)
            since = local_time(datetime.fromisoformat(about["since"]), datetime.now(UTC))
            by = f"pid {int(about['pid'])} since {since}"
        return InUseError(
            f"{self._what} is in use by {by}",
            code=self.code,
            hint="wait until it has finished, or stop it with Ctrl-C there",
        )


class CampaignLock(Lock):
    """One process works on the campaigns of a folder's ledger."""

    def __init__(
        self, folder: Path, *, wait: float = 0.0, give_up: Callable[[], bool] = lambda: False
    ) -> None:
        super().__init__(folder / "lock", "this campaign", wait=wait, give_up=give_up)


class AccountLock(Lock):
    """One process sends with an account: that is what makes "one session per account" true."""

    code = "L711"

    def __init__(
        self,
        folder: Path,
        account: str,
        *,
        wait: float = 0.0,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        name = hashlib.sha256(account.encode("utf-8", "replace")).hexdigest()[:16]
        super().__init__(
            folder / f"account-{name}.lock", f"the account {account}", wait=wait, give_up=give_up
        )
