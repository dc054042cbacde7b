"""Locks between processes: one writer per campaign, one session per account.

The operating system keeps them, so a killed process leaves no lock behind. The file's text only shows who has
the lock; the file is never deleted, because that is how two processes come to have one. If a person deletes
it anyway, the lock on the campaign's folder still works.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from mailmerge import files
from mailmerge.errors import FileError, InUseError, LedgerError
from mailmerge.folders import open_to_read
from mailmerge.ledger.databases import file_identity, identity_of, unusable
from mailmerge.text import local_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.folders import Folder

if sys.platform == "win32":
    import msvcrt

    _FAR = 1 << 30
    """Windows locks are mandatory: lock a byte far behind the text, which others must be able to read."""

    def _try_lock(handle: int) -> None:
        os.lseek(handle, _FAR, os.SEEK_SET)
        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)

else:
    import fcntl

    def _try_lock(handle: int) -> None:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)


_GLANCE = 0.1
"""Seconds for which a process that only reads may have the lock."""
_TELL_FROM = 1.0
"""Seconds after which a wait is reported: a run that is about to end is not worth a message."""


def _ignore(_until: datetime) -> None:
    """Ignore the report of a wait."""


class LockWait(Struct, frozen=True):
    """How to wait for a lock that another process has."""

    seconds: float = 0.0
    """How many seconds at most."""
    give_up: Callable[[], bool] = lambda: False
    """Returns whether to stop waiting."""
    tell: Callable[[datetime], None] = _ignore
    """Called once with the time until which it waits at most."""


NO_WAIT = LockWait()


class Lock:
    """A file that one process has locked; use it as a context manager.

    Args:
        path: the file.
        what: what it protects, for messages.
        wait: how to wait for another process.

    """

    code = "L707"

    def __init__(self, path: Path, what: str, *, wait: LockWait = NO_WAIT) -> None:
        self.path = path
        self._what = what
        self._wait = wait
        self._handle: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            InUseError: another process has it; the message says which and since when.
            LedgerError: the lock file cannot be created.

        """
        if self._handle is not None:
            raise RuntimeError("the lock is already taken")
        began = time.monotonic()
        deadline = began + max(self._wait.seconds, _GLANCE)
        told = False
        handle = self._open()
        while not self._taken(handle):
            if time.monotonic() >= deadline or self._wait.give_up():
                text = self._read(handle)
                os.close(handle)
                raise self._in_use(text)
            if not told and time.monotonic() >= began + _TELL_FROM:
                told = True
                self._wait.tell(datetime.now(UTC) + timedelta(seconds=deadline - time.monotonic()))
            time.sleep(0.02)
        self._handle = handle
        about = json.dumps({"pid": os.getpid(), "since": datetime.now(UTC).isoformat(timespec="seconds")})
        # Only information: if it cannot be written, the lock works anyway.
        with contextlib.suppress(OSError):
            os.lseek(handle, 0, os.SEEK_SET)
            os.ftruncate(handle, 0)
            os.write(handle, about.encode())

    def is_held(self) -> bool:
        """Return whether a process has the lock now; nothing is created, and nothing stays locked."""
        try:
            with contextlib.suppress(OSError), open_to_read(str(self.path)) as file:
                return not self._taken(file.fileno())
            return not self._guard_is_free()
        finally:
            self._let_guard_go()

    def _taken(self, handle: int) -> bool:
        """Try to lock the file, and what else guards it; return whether it worked."""
        try:
            _try_lock(handle)
        except OSError:
            return False
        return self._guard_is_free()

    def _guard_is_free(self) -> bool:
        """Take the lock that still works if the file is deleted; False: another process has it."""
        return True

    def _let_guard_go(self) -> None:
        """Release that lock."""

    def release(self) -> None:
        """Release the lock; without it, nothing happens."""
        self._let_guard_go()
        handle, self._handle = self._handle, None
        if handle is not None:
            os.close(handle)

    def refuse_lost(self) -> None:
        """Check that nobody else can have taken the lock.

        Raises:
            LedgerError: a person deleted or replaced the file, so that another process could.

        """
        if self._handle is not None and file_identity(self.path) != identity_of(os.fstat(self._handle)):
            raise LedgerError(
                f"{self.path}, which says that {self._what} is in use, was deleted or replaced",
                code=self.code,
                hint="nothing more was sent; run the same command again",
            )

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
    """One process works on the campaigns of a folder's ledger.

    It also locks the folder, because a person may delete the file.
    """

    def __init__(self, folder: Path, *, wait: LockWait = NO_WAIT) -> None:
        super().__init__(folder / "lock", "this campaign", wait=wait)
        self._guard: Folder | None = None

    def _guard_is_free(self) -> bool:
        if self._guard is None:
            with contextlib.suppress(OSError):
                guard = files.folder(self.path.parent, make=False)
                try:
                    # Windows does not have such a lock, and does not delete a file that is open.
                    if guard.at is not None:
                        _try_lock(guard.at)
                except BlockingIOError:
                    guard.close()
                    return False
                except OSError:  # neither do some network disks
                    guard.close()
                    raise
                self._guard = guard
        return True

    def _let_guard_go(self) -> None:
        guard, self._guard = self._guard, None
        if guard is not None:
            guard.close()


class AccountLock(Lock):
    """One process sends with an account: this ensures "one session per account".

    All accounts share one folder, so the file alone is the lock: a sender checks it before each commit.
    """

    code = "L711"

    def __init__(self, folder: Path, account: str, *, wait: LockWait = NO_WAIT) -> None:
        name = hashlib.sha256(account.encode("utf-8", "replace")).hexdigest()[:16]
        path = folder / f"account-{name}.lock"
        super().__init__(path, f"the account {account}", wait=wait)
