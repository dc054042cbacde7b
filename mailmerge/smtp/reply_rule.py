"""One rule about refusals: its conditions, and what a refusal that meets them means."""

from __future__ import annotations

from msgspec import Struct

from mailmerge.model import Phase, Scope, Status

MINUTE = 60.0
HOUR = 60 * MINUTE
DAY = 24 * HOUR


class Meaning(Struct, frozen=True):
    """What a refusal means; the fields are those of `mailmerge.model.Outcome`."""

    scope: Scope
    status: Status
    reason: str
    retry_after: float | None = None
    slower: bool = False
    hint: str | None = None


class ReplyRule(Struct, frozen=True):
    """One line of the table: every given condition must be met; of *words*, any one."""

    meaning: Meaning
    words: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    """Enhanced status codes; ``5.6.x`` means any detail."""
    codes: tuple[int, ...] = ()
    """Reply codes; 4 and 5 mean any code of that class."""
    phases: tuple[Phase, ...] = ()
    near: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Whole words, one of the first close to one of the second: no list of sentences is ever complete."""


def row(status: Status, reason: str, retry_after: float | None = None, hint: str | None = None) -> Meaning:
    """Return a meaning that concerns only the row."""
    return Meaning(Scope.ROW, status, reason, retry_after, hint=hint)


def pause(reason: str, seconds: float, *, slower: bool = False, hint: str | None = None) -> Meaning:
    """Return a meaning that pauses the account for *seconds*: the row is not at fault."""
    return Meaning(Scope.ACCOUNT, Status.DEFERRED, reason, seconds, slower, hint)


def reconnect(reason: str, seconds: float | None = None) -> Meaning:
    """Return a meaning that asks for another connection: the row is not at fault."""
    return Meaning(Scope.CONNECTION, Status.PENDING, reason, seconds)


def stop(reason: str, hint: str) -> Meaning:
    """Return a meaning that stops the run at the first such reply: nothing changes until a person acts."""
    return Meaning(Scope.CONFIG, Status.PENDING, reason, hint=hint)
