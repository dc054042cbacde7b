"""Leases: which process may work on a campaign whose ledger is on a server, and until when.

A lease is renewed as long as its holder lives. A process that takes over an expired one makes what was being
handed over in doubt, and never sends it; the process that lost it finds out in the transaction of its next
intent, before anything is sent. So no clock decides what is sent: a wrong one can only make a row in doubt
too early.
"""

# ruff: noqa: S608  every piece of SQL here is a constant of this module

from __future__ import annotations

import contextlib
import os
import platform
import secrets
import sys
import threading
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Self

from mailmerge.errors import InUseError, LedgerError
from mailmerge.ledger.locks import NO_WAIT
from mailmerge.postgres import NOW
from mailmerge.text import local_time

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.ledger.databases import LedgerDatabase
    from mailmerge.ledger.locks import LockWait

SECONDS = 30.0
"""How long a lease is valid after it was last renewed, in seconds."""
_RENEWED_EVERY = SECONDS / 3
_ASKED_EVERY = 0.25
_TELL_FROM = 1.0
_TAKE = f"""
INSERT INTO lease (campaign, owner, holder, since, until) VALUES (?1, ?2, ?3, {NOW}, {NOW} + {SECONDS})
ON CONFLICT (campaign) DO UPDATE SET owner = excluded.owner, holder = excluded.holder, since = excluded.since,
    until = excluded.until WHERE lease.until < {NOW} RETURNING owner
"""
_RENEW = f"UPDATE lease SET until = {NOW} + {SECONDS} WHERE campaign = ?1 AND owner = ?2"
_RELEASE = "DELETE FROM lease WHERE campaign = ?1 AND owner = ?2"
_HOLDER = f"SELECT holder, since FROM lease WHERE campaign = ?1 AND until >= {NOW}"


class Lease:
    """The lease of one process on a campaign; use it as a context manager.

    Args:
        connect: opens a connection to the ledger.
        campaign: its name.
        wait: how to wait for another holder.

    """

    def __init__(
        self, connect: Callable[[], LedgerDatabase], campaign: str, *, wait: LockWait = NO_WAIT
    ) -> None:
        self._connect = connect
        self._campaign = campaign
        self._wait = wait
        self._owner = secrets.token_hex(16)
        self._ended = threading.Event()
        self._renewing: threading.Thread | None = None
        self.db: LedgerDatabase | None = None
        """The connection in whose transactions the lease is checked; the ledger's own."""

    def acquire(self) -> None:
        """Acquire the lease, and renew it until it is released.

        Raises:
            InUseError: another process has it; the message says which and since when.
            LedgerError: the database cannot be reached.

        """
        began, told = time.monotonic(), False
        holder = f"pid {os.getpid()} on {platform.node()}"
        db = self._connect()
        try:
            while db.row(_TAKE, (self._campaign, self._owner, holder)) is None:
                if self._ended_the_dead(db):
                    continue
                passed = time.monotonic() - began
                if passed >= self._wait.seconds or self._wait.give_up():
                    raise self._in_use(db)
                if not told and passed >= _TELL_FROM:
                    told = True
                    self._wait.tell(datetime.now(UTC) + timedelta(seconds=self._wait.seconds - passed))
                time.sleep(_ASKED_EVERY)
        finally:
            db.close()
        self._renewing = threading.Thread(target=self._renew, name="lease", daemon=True)
        self._renewing.start()

    def hold(self) -> None:
        """Make sure, in the ledger's transaction, that the lease is ours until that has been committed.

        Raises:
            LedgerError: another process has taken over; nothing may be handed over.

        """
        if self.db is None or not self.db.execute(_RENEW, (self._campaign, self._owner)).rowcount:
            raise LedgerError(
                "this process was silent for too long, and another one has taken over the campaign",
                code="L723",
                hint="nothing more was sent from here; what was in flight is in doubt until it is known",
            )

    def release(self) -> None:
        """Release it; never raises."""
        self._ended.set()
        if self._renewing is not None:
            self._renewing.join()
            with contextlib.suppress(LedgerError):
                db = self._connect()
                try:
                    db.execute(_RELEASE, (self._campaign, self._owner))
                finally:
                    db.close()

    def __enter__(self) -> Self:
        self.acquire()
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def _renew(self) -> None:
        while not self._ended.wait(_RENEWED_EVERY):
            with contextlib.suppress(LedgerError):  # the next intent finds out what that means
                db = self._connect()
                try:
                    db.execute(_RENEW, (self._campaign, self._owner))
                finally:
                    db.close()

    def _ended_the_dead(self, db: LedgerDatabase) -> bool:
        """End the lease of a process of this machine that no longer exists: nobody needs to wait for it."""
        found = db.row(_HOLDER, (self._campaign,))
        if found is None or not _is_dead(found[0]):
            return False
        statement = "DELETE FROM lease WHERE campaign = ?1 AND holder = ?2"
        return bool(db.execute(statement, (self._campaign, found[0])).rowcount)

    def _in_use(self, db: LedgerDatabase) -> InUseError:
        holder, since = db.row(_HOLDER, (self._campaign,)) or ("another process", None)
        at = (
            ""
            if since is None
            else f" since {local_time(datetime.fromtimestamp(since, UTC), datetime.now(UTC))}"
        )
        return InUseError(
            f"this campaign is in use by {holder}{at}",
            code="L707",
            hint="wait until it has finished, or stop it with Ctrl-C there",
        )


def _is_dead(holder: str) -> bool:
    """Return whether the holder of a lease is known to have ended: a process of this machine."""
    pid, _, host = holder.removeprefix("pid ").partition(" on ")
    return host == platform.node() and pid.isdecimal() and not _is_alive(int(pid))


def _is_alive(pid: int) -> bool:
    if sys.platform == "win32":  # there the signal is not a question
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except OSError:
        return True
    return True


def is_held(db: LedgerDatabase, campaign: str) -> bool:
    """Return whether a process works on a campaign now."""
    found = db.row(_HOLDER, (campaign,))
    return found is not None and not _is_dead(found[0])
