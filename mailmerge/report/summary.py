"""What a run came to, in a few lines: the counts, and for what went wrong the replies and the rows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.model import Counts, Result, Status

if TYPE_CHECKING:
    from collections.abc import Iterator

ROWS_NAMED = 12
REPLIES_NAMED = 8
WORDS = {
    Status.ACCEPTED: "accepted",
    Status.REJECTED: "rejected",
    Status.DEFERRED: "deferred",
    Status.EXPIRED: "expired",
    Status.IN_DOUBT: "in doubt",
    Status.PENDING: "waiting",
    Status.HANDING_OVER: "being handed over",
    Status.INVALID: "invalid",
    Status.DUPLICATE: "repeat an earlier address",
    Status.SUPPRESSED: "suppressed",
    Status.SKIPPED: "not selected",
}
"""How each state is called in sentences for people."""

_UNSAID = {Status.IN_DOUBT: "the answer was lost after the message had been handed over"}
_EXPLAINED = (Status.REJECTED, Status.EXPIRED, Status.IN_DOUBT, Status.DEFERRED, Status.INVALID)


class _Reason(Struct):
    words: str
    count: int = 0
    rows: list[int] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)

    def add(self, result: Result) -> None:
        self.count += 1
        if result.row is not None and len(self.rows) < ROWS_NAMED:
            self.rows.append(result.row)
        if len(self.domains) <= 1:
            self.domains.add(result.address.rpartition("@")[2])


class Explanation(Struct, frozen=True):
    """Why some rows are in the state they are in."""

    status: Status
    count: int
    words: str
    """The server's, or ours where it said nothing."""
    rows: str = ""
    """The first rows, as a phrase."""


class Summary:
    """Adds up results one by one; flat in memory however many there are."""

    def __init__(self) -> None:
        self._counts: dict[Status, int] = {}
        self._reasons: dict[tuple[Status, str], _Reason] = {}
        self._unnamed: dict[Status, int] = {}
        self.gone = 0
        """Rows that were contacted once and are no longer in the list."""

    def add(self, result: Result) -> None:
        """Count one result."""
        status = result.status
        self._counts[status] = self._counts.get(status, 0) + 1
        self.gone += result.row is None
        if status in _EXPLAINED:
            self._explain(result)

    def _explain(self, result: Result) -> None:
        delivery = result.delivery
        if delivery and delivery.code:
            code = f"{delivery.code} {delivery.enhanced}".strip()
            words = (
                delivery.reply
                if delivery.reply.startswith(str(delivery.code))
                else f"{code} {delivery.reply}"
            )
        else:
            words = result.detail or (delivery.reply if delivery else "") or _UNSAID.get(result.status, "")
            code = words
        identity = (result.status, code)
        reason = self._reasons.get(identity)
        if reason is None:
            if sum(status is result.status for status, _ in self._reasons) >= REPLIES_NAMED:
                self._unnamed[result.status] = self._unnamed.get(result.status, 0) + 1
                return
            reason = self._reasons[identity] = _Reason(words)
        reason.add(result)

    @property
    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(dict(self._counts))

    def headline(self) -> str:
        """All counts in one line: ``1,194 accepted   5 rejected``."""
        order = [*WORDS]
        parts = [f"{self._counts[s]:,} {WORDS[s]}" for s in order if self._counts.get(s)]
        return "   ".join(parts) or "no rows"

    def lines(self) -> Iterator[str]:
        """Yield one line for each kind of refusal or doubt, naming rows and the server's words."""
        before = None
        for entry in self.explanations():
            label = WORDS[entry.status] if entry.status is not before else ""
            before = entry.status
            yield f"  {label:<9} {entry.count:>5,}  {_short(entry.words)}  {entry.rows}".rstrip()
        yield from self.remarks()

    def explanations(self) -> Iterator[Explanation]:
        """Yield each kind of refusal or doubt, those of one state behind each other."""
        for status in _EXPLAINED:
            for (owner, _), reason in self._reasons.items():
                if owner is status:
                    words = " ".join(reason.words.split())
                    yield Explanation(status, reason.count, words, _rows(reason))
            if unnamed := self._unnamed.get(status):
                yield Explanation(status, unnamed, "for other reasons: see results.csv")

    def remarks(self) -> Iterator[str]:
        """Yield what else is to be said."""
        if self.gone:
            rows = "row counted above is" if self.gone == 1 else "rows counted above are"
            yield f"  {self.gone:,} {rows} no longer in the list"


def _short(words: str, most: int = 70) -> str:
    return words if len(words) <= most else words[: most - 3] + "..."


def _rows(reason: _Reason) -> str:
    more = ", ..." if reason.count > len(reason.rows) else ""
    rows = (
        f"row{'s' if reason.count != 1 else ''} {', '.join(map(str, reason.rows))}{more}"
        if reason.rows
        else ""
    )
    if reason.count > 1 and len(reason.domains) == 1:
        rows += f" (all @{next(iter(reason.domains))})"
    return rows
