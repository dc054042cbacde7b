"""The write path: intents are recorded before the hand-over, outcomes after it.

**The order.** SMTP has no way to ask afterwards whether a message arrived. So the *intent* to hand it over is
durable before its last bytes may be sent, and its *outcome* is recorded when the server has answered. If the
process ends in between, the row stays ``handing_over``, and the next run makes it ``in_doubt``:

    pending --record_intent--> handing_over --record_outcomes--> accepted, rejected, deferred, in_doubt ...
       ^--------------------------------------------------------------------------------------'

Many messages end before they need an intent (a recipient refused at RCPT, a drop before the content): their
attempt and its outcome are written together, and no intent is ever on disk.

**One commit** carries the outcomes so far and the next intents, because a flush of the disk costs more than
everything else we do to a message; with a window in flight one flush serves the whole window.

**A full disk** may stop an intent: nothing is sent then. But the outcome of what was sent already must not be
lost. So the log is first written back into the file, which makes room in it; if that is not enough, a
megabyte of *ballast* next to the ledger is deleted, and the outcomes are recorded in its place, including
those that the server has yet to send. The run still ends.

**A ledger that was deleted or replaced** can still be written to through the open file, but all of it is lost
when we end. So the file is checked before each intent.
"""

from __future__ import annotations

import contextlib
import os
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from mailmerge import files
from mailmerge.errors import FileError, LedgerError
from mailmerge.ledger.databases import AttemptNumbers, file_identity
from mailmerge.model import Attempt, Outcome, Scope, Status
from mailmerge.sqlite import is_full, stamp

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from mailmerge.ledger.databases import LedgerDatabase
    from mailmerge.ledger.lease import Lease

_BALLAST = 1024 * 1024
_REPLY_OCTETS = 2048
"""How much of a reply is kept."""

_INTEND = """
INSERT INTO attempt (id, campaign, previous, run, key, row, address, number, at, message_id, date,
    utc_offset, recipients, size, digest, frozen, row_digest, version, connection, status, rows)
VALUES (?1, ?2, (SELECT attempt FROM delivery WHERE campaign = ?2 AND key = ?4), ?3, ?4, ?5, ?6, ?7, ?8,
    ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)
"""
# The condition is the last line of defence: no row is ever handed over twice, whatever the caller believes.
_HAND_OVER = """
INSERT INTO delivery (campaign, key, status, tries, first_at, updated, version, attempt)
VALUES (?1, ?2, 'handing_over', 0, ?3, ?3, ?4, ?5)
ON CONFLICT (campaign, key) DO UPDATE SET status = 'handing_over', first_at = coalesce(delivery.first_at, ?3),
    updated = ?3, next_at = NULL, version = ?4, attempt = ?5, note = ''
WHERE delivery.status IN ('pending', 'deferred')
"""
_SETTLE_ATTEMPT = """
UPDATE attempt SET status = ?, settled = ?, scope = ?, phase = ?, reason = ?, code = ?, enhanced = ?,
    reply = ?, raw = ? WHERE id = ?
"""
_SETTLE = """
UPDATE delivery SET status = ?, tries = tries + ?, next_at = ?, updated = ?
WHERE campaign = ? AND key = ? AND status = 'handing_over'
"""
# After a lease expired, others found the row in doubt, and a person may have decided to send it again; the
# process that handed it over knows better, until it was handed over again.
_SETTLE_LATE = """
UPDATE delivery SET status = ?, tries = tries + ?, next_at = ?, updated = ?
WHERE campaign = ? AND key = ? AND status IN ('handing_over', 'in_doubt', 'pending') AND attempt = ?
"""
_SETTLE_WITHOUT_INTENT = """
INSERT INTO delivery (campaign, key, status, tries, next_at, first_at, updated, version, attempt)
VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?6, ?7, ?8)
ON CONFLICT (campaign, key) DO UPDATE SET status = ?3, tries = delivery.tries + ?4, next_at = ?5,
    first_at = coalesce(delivery.first_at, ?6), updated = ?6, version = ?7, attempt = ?8, note = ''
WHERE delivery.status IN ('pending', 'deferred')
"""
_GIVE_BACK = """
UPDATE delivery SET status = 'pending', tries = CASE WHEN tries > 0 THEN tries - 1 ELSE 0 END, next_at = NULL,
    updated = ?1
WHERE campaign = ?2 AND key = ?3 AND status IN ('deferred', 'expired')
"""
_REVISE = """
UPDATE delivery SET status = ?1, tries = CASE WHEN tries + ?2 > 0 THEN tries + ?2 ELSE 0 END, next_at = NULL,
    updated = ?3
WHERE campaign = ?4 AND key = ?5 AND status = ?6
RETURNING attempt
"""
_HANDED_OVER = "UPDATE campaign SET handed_over = handed_over + ?, counts = '' WHERE id = ?"


class Settlement(Struct, frozen=True):
    """How one attempt ended, and the resulting state of its row."""

    attempt: Attempt
    outcome: Outcome
    status: Status
    """The row's new state: the outcome's own, or what the retry rules made of it."""
    at: datetime
    next_at: datetime | None = None
    counts: bool = True
    """Whether it uses up one of the row's tries."""

    def __str__(self) -> str:
        about = f"row {self.attempt.row} <{self.attempt.address}>: {self.outcome.status}"
        return f"{about}, {self.outcome.reply}" if self.outcome.reply else about


class IntentRefusedError(LedgerError):
    """Nothing more may be handed over; all outcomes so far are recorded, and later ones can be."""

    @classmethod
    def of(cls, error: LedgerError) -> Self:
        """Make this error from what went wrong."""
        return cls(error.message, code=error.code, hint=error.hint)


class Revision(Struct, frozen=True):
    """The outcome of an attempt that replaces the recorded one: its session proved out of step."""

    settlement: Settlement
    before: Status
    """The state that its row was left in."""
    counted: bool
    """Whether it used up one of the row's tries."""


class AttemptWriter:
    """Writes one campaign's attempts; knows which of them are open, because it is the only writer.

    Args:
        db: the ledger, open for writing.
        campaign: the campaign's number in it.
        now: the clock.
        ballast: the file that keeps some space free; None: this ledger needs none.
        lease: what ensures that only this process hands rows over; None: a lock of the system does.

    """

    def __init__(
        self,
        db: LedgerDatabase,
        campaign: int,
        *,
        now: Callable[[], datetime],
        ballast: Path | None,
        lease: Lease | None = None,
    ) -> None:
        self.refused = ()
        """Keys of rows that we may not send: always empty, because nobody else sends."""
        self.run: int | None = None
        """The run that attempts belong to from now on."""
        known = db.rows("SELECT digest, id FROM version WHERE campaign = ?", (campaign,))
        self.versions: dict[str, int] = dict(known)
        """The campaign versions that attempts may name: digest and number in the file."""
        query = "SELECT handed_over FROM campaign WHERE id = ?"
        self.handed_over = int(db.row(query, (campaign,))[0])
        """How many hand-overs were ever recorded, by any run: only grows, so that an old copy is noticed."""
        self._db = db
        self._campaign = campaign
        self._now = now
        self._ballast = ballast
        self._files = {} if ballast is None else _identities(Path(db.path))
        """The ledger's files as they were opened."""
        self._open: dict[str, int] = {}
        """Keys whose intent has no outcome yet, with the attempt's number."""
        self._lease = lease
        self._numbers = AttemptNumbers()
        self.first_revised: int | None = None
        """The earliest attempt whose outcome was revised; None: none was."""

    begin_intent: None = None
    """See `mailmerge.sending.group_commit.LedgerWriter`: a transaction here takes no time worth hiding."""

    def record_intent(
        self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement] = ()
    ) -> tuple[str, ...]:
        """Record the next hand-overs, and the outcomes so far, in one durable transaction.

        When this returns, it is on disk: only then may the last bytes of *attempts* be sent.

        Returns:
            The keys of those that may not be handed over: none.

        Raises:
            IntentRefusedError: no intent was recorded, and none will be; *outcomes* are.
            LedgerError: the outcomes are not recorded either; the message contains them.
            RuntimeError: a bug of ours: a row that is not pending in a ledger that nobody else changes, or a
                version that was not recorded.

        """
        try:
            if attempts:
                self.refuse_vanished()
            self._try(attempts, outcomes)
        except LedgerError as error:
            if is_full(error.__cause__) and self._works_after_checkpoint(attempts, outcomes):
                return ()
            raise self._rescued(error, outcomes) from error.__cause__
        return ()

    def record_outcomes(self, outcomes: Sequence[Settlement]) -> None:
        """Record the outcomes of attempts; raises as `record_intent` does."""
        self.record_intent((), outcomes)

    def give_back(self, keys: Sequence[str]) -> None:
        """Make deferred rows pending again, and do not count their last try.

        Raises:
            LedgerError: it could not be recorded.

        """
        now = self._now().timestamp()
        with self._db.transaction():
            self._db.executemany(_GIVE_BACK, [(now, self._campaign, key) for key in keys])
            self._db.execute(_HANDED_OVER, (0, self._campaign))

    def _try(self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement]) -> None:
        """Commit all of it, or nothing."""
        opened = dict(self._open)
        try:
            self._commit(attempts, outcomes)
        except BaseException:
            self._open = opened
            raise

    def refuse_vanished(self) -> None:
        """Check that what is recorded here will be found again.

        Raises:
            LedgerError: the ledger's file was deleted or replaced since it was opened.

        """
        if self._files and not self._files.items() <= _identities(Path(self._db.path)).items():
            raise LedgerError(
                f"the ledger was deleted or replaced during this run: {self._db.path}",
                code="L713",
                hint="nothing more was sent",
            )

    def revise(self, revision: Revision) -> None:
        """Replace the recorded outcome of an attempt, in one durable transaction.

        A row whose state has changed since is not touched.

        Raises:
            LedgerError: it cannot be recorded.

        """
        settlement = revision.settlement
        at = settlement.at.timestamp()
        tries = int(settlement.counts) - int(revision.counted)
        row = (settlement.status.value, tries, at, self._campaign, settlement.attempt.key)
        with self._db.transaction():
            for found in self._db.rows(_REVISE, (*row, revision.before.value)):
                outcome = settlement.outcome
                self._db.execute(_SETTLE_ATTEMPT, (outcome.status.value, at, *reached(outcome), found[0]))
                self._db.execute(_HANDED_OVER, (0, self._campaign))
                self.first_revised = min(found[0], self.first_revised or found[0])

    def _commit(self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement]) -> None:
        with self._db.transaction():
            # Outcomes first: a row that was dropped may be handed over again in this very commit.
            if outcomes:
                self._settle(outcomes)
            if attempts:
                if self._lease is not None:
                    self._lease.hold()
                self._intend(attempts)
            self._db.execute(_HANDED_OVER, (len(attempts), self._campaign))
        self.handed_over += len(attempts)

    def _intend(self, attempts: Sequence[Attempt]) -> None:
        now = self._now().timestamp()
        insert, move = [], []
        for attempt in attempts:
            number = self._numbers.take(self._db)
            insert.append(self._cells(number, attempt, now, Status.HANDING_OVER))
            move.append((self._campaign, attempt.key, now, self._version(attempt.version), number))
            self._open[attempt.key] = number
        self._db.executemany(_INTEND, insert)
        if self._db.executemany(_HAND_OVER, move).rowcount != len(attempts):
            if self._lease is not None:
                raise LedgerError(
                    "another process has changed a row that was to be sent",
                    code="L790",
                    hint="nothing more was sent; run the same command again",
                )
            raise RuntimeError("a row was to be handed over that is not pending")

    def _settle(self, outcomes: Sequence[Settlement]) -> None:
        ended: list[tuple[object, ...]] = []
        moved: list[tuple[object, ...]] = []
        without_intent: list[Settlement] = []
        for settlement in outcomes:
            number = self._open.pop(settlement.attempt.key, None)
            if number is None:
                without_intent.append(settlement)
                continue
            at = settlement.at.timestamp()
            change = (settlement.status.value, int(settlement.counts), stamp(settlement.next_at), at)
            moved.append(
                (*change, self._campaign, settlement.attempt.key, *(() if self._lease is None else (number,)))
            )
            ended.append((settlement.outcome.status.value, at, *reached(settlement.outcome), number))
        if moved and self._lease is not None:
            self._db.executemany(_SETTLE_LATE, moved)
        elif moved and self._db.executemany(_SETTLE, moved).rowcount != len(moved):
            raise RuntimeError("a row was settled that was not being handed over")
        ended.extend(map(self._settle_without_intent, without_intent))
        self._db.executemany(_SETTLE_ATTEMPT, ended)

    def _settle_without_intent(self, settlement: Settlement) -> tuple[object, ...]:
        """Insert an attempt that ended before its message needed an intent."""
        attempt, status, at = settlement.attempt, settlement.outcome.status, settlement.at.timestamp()
        number = self._numbers.take(self._db)
        self._db.execute(_INTEND, self._cells(number, attempt, at, status))
        head = (self._campaign, attempt.key, settlement.status.value, int(settlement.counts))
        tail = (stamp(settlement.next_at), at, self._version(attempt.version), number)
        if self._db.execute(_SETTLE_WITHOUT_INTENT, (*head, *tail)).rowcount != 1:
            raise RuntimeError("a row was settled that is neither pending nor being handed over")
        return (status.value, at, *reached(settlement.outcome), number)

    def _cells(self, number: int, attempt: Attempt, at: float, status: Status) -> tuple[object, ...]:
        offset = attempt.date.utcoffset()
        return (
            number,
            self._campaign,
            self.run,
            attempt.key,
            attempt.row,
            attempt.address,
            attempt.number,
            at,
            attempt.message_id,
            attempt.date.timestamp(),
            int(offset.total_seconds()) if offset else 0,
            attempt.recipients,
            attempt.size,
            attempt.digest,
            attempt.frozen,
            attempt.row_digest,
            self._version(attempt.version),
            attempt.connection,
            status.value,
            attempt.rows,
        )

    def _version(self, digest: str) -> int:
        found = self.versions.get(digest)
        if found is None:
            raise RuntimeError("a campaign version must be recorded before it is sent")
        return found

    # --- the full disk --------------------------------------------------------------------------------

    def fill_ballast(self) -> None:
        """Reserve a little space, so that outcomes can be recorded on a full disk.

        Raises:
            LedgerError: there is not enough space; nothing should be sent then.

        """
        if self._ballast is None or files.size(self._ballast) == _BALLAST:
            return
        try:
            # Zeros might not take any space.
            files.write_file(self._ballast, os.urandom(4096) * (_BALLAST // 4096))
        except FileError as error:
            raise LedgerError(
                f"cannot record progress in {self._ballast.parent}: {error.strerror}",
                code="L703",
                hint="a little free space is kept so that nothing is lost on a full disk; free some",
            ) from error

    def _works_after_checkpoint(self, attempts: Sequence[Attempt], outcomes: Sequence[Settlement]) -> bool:
        """Write the log back, which makes room in it, and try again."""
        with contextlib.suppress(LedgerError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._try(attempts, outcomes)
            return True
        return False

    def _rescued(self, error: LedgerError, outcomes: Sequence[Settlement]) -> LedgerError:
        """Record what already happened, in the room that the ballast kept free; return what to raise."""
        if outcomes and is_full(error.__cause__) and self._ballast is not None:
            with contextlib.suppress(FileError):
                files.remove_file(self._ballast)
        try:
            if outcomes:
                self._try((), outcomes)
        except LedgerError:
            pass
        else:
            return IntentRefusedError.of(error)
        lost = "\n".join(f"  {settlement}" for settlement in outcomes)
        return LedgerError(
            f"{error.message}; these outcomes could not be recorded:\n{lost}",
            code=error.code,
            hint="keep this text: the next run lists these rows as in doubt and sends none of them again",
        )


def _identities(path: Path) -> dict[str, tuple[int, int]]:
    """Return which files a ledger is in: device and inode of its file and of its log, if it has one."""
    names = (str(path), f"{path}-wal")
    return {name: found for name in names if (found := file_identity(name)) is not None}


def reached(outcome: Outcome) -> tuple[str, str, str, int | None, str, str, bytes | None]:
    """Return an outcome's columns in the attempt table: scope, phase, reason, code, enhanced, reply, raw."""
    head = (outcome.scope.value, outcome.phase.value, outcome.reason)
    reply = outcome.reply
    if reply is None:
        # No reply was received, so our own reason is recorded instead: for example, how large a message is.
        said = (outcome.hint or "") if outcome.scope is Scope.ROW else ""
        return (*head, None, "", said, None)
    enhanced = "{}.{}.{}".format(*reply.enhanced) if reply.enhanced else ""
    # One lone surrogate in a hostile reply would make the whole commit fail, and 64 KB a row the disk full.
    text = reply.text.encode("utf-8", "replace")
    if len(text) > _REPLY_OCTETS:
        text = text[: _REPLY_OCTETS - 3].decode("utf-8", "ignore").encode() + "…".encode()
    return (*head, reply.code, enhanced, text.decode(), reply.raw[:_REPLY_OCTETS])
