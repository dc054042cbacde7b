"""One rule about refusals: what it looks at, and what it says a refusal means."""

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
    """One line of the table: every condition that is given must hold, of *words* any one."""

    meaning: Meaning
    words: tuple[str, ...] = ()
    enhanced: tuple[str, ...] = ()
    """Enhanced codes; ``5.6.x`` stands for any detail."""
    codes: tuple[int, ...] = ()
    """Reply codes; 4 and 5 stand for any code of that class."""
    phases: tuple[Phase, ...] = ()
    near: tuple[tuple[str, ...], tuple[str, ...]] | None = None
    """Whole words of which one must be close to any of the second: no list of sentences is ever complete."""


def row(status: Status, reason: str, retry_after: float | None = None, hint: str | None = None) -> Meaning:
    """Decide about the row alone."""
    return Meaning(Scope.ROW, status, reason, retry_after, hint=hint)


def pause(reason: str, seconds: float, *, slower: bool = False, hint: str | None = None) -> Meaning:
    """Stop the account for *seconds*: the row was only the messenger."""
    return Meaning(Scope.ACCOUNT, Status.DEFERRED, reason, seconds, slower, hint)


def reconnect(reason: str, seconds: float | None = None) -> Meaning:
    """Begin again with another connection: the row is not to blame."""
    return Meaning(Scope.CONNECTION, Status.PENDING, reason, seconds)


def stop(reason: str, hint: str) -> Meaning:
    """Stop at the first one: nothing changes until a person acts."""
    return Meaning(Scope.CONFIG, Status.PENDING, reason, hint=hint)
