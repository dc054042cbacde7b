"""What an outcome means for its row and for the run: one pure decision per message."""

from __future__ import annotations

import enum
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.model import Scope, Status

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from mailmerge.model import Outcome
    from mailmerge.sending.retry import RetryPolicy

_DAY = 86400.0
_PAUSE = 900.0


class Effect(enum.Enum):
    """What the run must do about an outcome, beyond recording it."""

    GO_ON = enum.auto()
    RECONNECT = enum.auto()
    PAUSE = enum.auto()
    STOP_QUOTA = enum.auto()
    STOP_REFUSED = enum.auto()


class Verdict(Struct, frozen=True):
    """Where an outcome leaves its row, and what the run does next."""

    status: Status
    effect: Effect = Effect.GO_ON
    next_at: datetime | None = None
    counts: bool = True
    """Whether a try is used up: only what is about the row itself does."""
    again: bool = False
    """Whether the row is to be offered again in this run."""
    pause: float = 0.0
    """Seconds to wait before the next message."""


def judge(  # noqa: PLR0911  one return per case reads as the table it is
    outcome: Outcome,
    *,
    tries: int,
    first: datetime,
    now: datetime,
    retry: RetryPolicy,
    random: Callable[[], float],
) -> Verdict:
    """Decide: *tries* are those used up including this one, *first* is when the first one was."""
    if outcome.status is Status.ACCEPTED:
        return Verdict(Status.ACCEPTED)
    if outcome.status is Status.IN_DOUBT:
        return Verdict(Status.IN_DOUBT, Effect.RECONNECT, counts=False)
    if outcome.scope is Scope.CONFIG:
        return Verdict(Status.PENDING, Effect.STOP_REFUSED, counts=False)
    if outcome.scope is Scope.ACCOUNT and outcome.reason == "quota":
        next_at = now + timedelta(seconds=outcome.retry_after or _DAY)
        return Verdict(Status.DEFERRED, Effect.STOP_QUOTA, next_at, counts=False)
    if outcome.scope is Scope.ACCOUNT:
        pause = outcome.retry_after or _PAUSE
        return Verdict(Status.PENDING, Effect.PAUSE, counts=False, again=True, pause=pause)
    if outcome.scope is Scope.CONNECTION and outcome.status is Status.REJECTED:
        return Verdict(Status.REJECTED, Effect.RECONNECT)
    if outcome.scope is Scope.CONNECTION or outcome.status is Status.PENDING:
        pause = outcome.retry_after or 0.0
        return Verdict(Status.PENDING, Effect.RECONNECT, counts=False, again=True, pause=pause)
    if outcome.status is Status.REJECTED:
        return Verdict(Status.REJECTED)
    later = retry.next_at(tries, first, now, random, asked=outcome.retry_after)
    return Verdict(Status.EXPIRED) if later is None else Verdict(Status.DEFERRED, next_at=later)
