"""The summary of a run, from every result in one pass: counts, reasons, and the rows worth showing.

Both collectors use constant memory, however many results there are. `Redactor` removes people from results
that are shared with others: hashes replace addresses and keys.
"""

from __future__ import annotations

import hashlib
import hmac
import re
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.history import ROWS_NAMED
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Counts, Result, Status
from mailmerge.text import local_time, numbers, padded

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from datetime import datetime

    from mailmerge.model import Delivery

REPLIES_NAMED = 8
WORDS = {
    status: status.words
    for status in (
        Status.ACCEPTED, Status.REJECTED, Status.DEFERRED, Status.EXPIRED, Status.BOUNCED, Status.IN_DOUBT,
        Status.DRAFTED, Status.PENDING, Status.HANDING_OVER, Status.INVALID, Status.DUPLICATE,
        Status.SUPPRESSED, Status.SKIPPED,
    )
}  # fmt: skip
"""The names of the states, in the order in which people are shown them."""

_UNSAID = {Status.IN_DOUBT: "the reply was lost after the message had been handed over"}
_EXPLAINED = (
    Status.REJECTED,
    Status.EXPIRED,
    Status.BOUNCED,
    Status.IN_DOUBT,
    Status.DEFERRED,
    Status.INVALID,
)


class _ReasonTally(Struct):
    words: str
    count: int = 0
    listed: int = 0
    """How many rows of the list the result covers: a message may be for several."""
    rows: list[int] = field(default_factory=list)
    domains: set[str] = field(default_factory=set)

    def add(self, result: Result) -> None:
        self.count += 1
        if result.row is not None:
            rows = result.rows or (result.row,)
            self.listed += len(rows)
            self.rows += rows[: ROWS_NAMED - len(self.rows)]
        if len(self.domains) <= 1:
            self.domains.add(result.address.rpartition("@")[2])


class Explanation(Struct, frozen=True):
    """Why some rows are in their state."""

    status: Status
    count: int
    words: str
    """The server's words, or ours if it said nothing."""
    rows: str = ""
    """The numbers of the first rows."""


class Summary:
    """Adds up results one by one, in constant memory."""

    def __init__(self) -> None:
        self._counts: dict[Status, int] = {}
        self._reasons: dict[tuple[Status, str], _ReasonTally] = {}
        self._unnamed: dict[Status, int] = {}
        self.gone = 0
        """Rows that were contacted once and have been removed from the list."""

    def add(self, result: Result) -> None:
        """Count one result; of several rows with one message, the first."""
        if result.first is not None:
            return
        status = result.status
        self._counts[status] = self._counts.get(status, 0) + 1
        self.gone += result.row is None
        if status in _EXPLAINED:
            self._explain(result)

    def _explain(self, result: Result) -> None:
        delivery = result.delivery
        if delivery and delivery.code:
            code = f"{delivery.code} {delivery.enhanced}".strip()
            words = _answer(delivery)
        else:
            words = result.detail or (delivery.reply if delivery else "") or _UNSAID.get(result.status, "")
            code = words
        identity = (result.status, code)
        reason = self._reasons.get(identity)
        if reason is None:
            if sum(status is result.status for status, _ in self._reasons) >= REPLIES_NAMED:
                self._unnamed[result.status] = self._unnamed.get(result.status, 0) + 1
                return
            reason = self._reasons[identity] = _ReasonTally(words)
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
            yield f"  {padded(label, 9)} {entry.count:>5,}  {_short(entry.words)}  {entry.rows}".rstrip()
        yield from self.remarks()

    def explanations(self) -> Iterator[Explanation]:
        """Yield each kind of refusal or doubt, grouped by state."""
        for status in _EXPLAINED:
            for (owner, _), reason in self._reasons.items():
                if owner is status:
                    words = " ".join(reason.words.split())
                    yield Explanation(status, reason.count, words, _rows(reason))
            if unnamed := self._unnamed.get(status):
                yield Explanation(status, unnamed, "for other reasons: see results.csv")

    def remarks(self) -> Iterator[str]:
        """Yield further remarks."""
        if self.gone:
            rows = "row counted above is" if self.gone == 1 else "rows counted above are"
            yield f"  {self.gone:,} {rows} not in this list"


def _short(words: str, most: int = 70) -> str:
    return words if len(words) <= most else words[: most - 3] + "..."


def _rows(reason: _ReasonTally) -> str:
    words = ""
    if reason.rows:
        named = numbers(reason.rows, more=max(reason.count, reason.listed) > len(reason.rows))
        words = f"{'row' if len(reason.rows) == reason.count == 1 else 'rows'} {named}"
    if reason.count > 1 and len(reason.domains) == 1:
        words += f" (all @{next(iter(reason.domains))})"
    return words


def _answer(delivery: Delivery) -> str:
    """Return the server's last words about a row, with their code."""
    code = f"{delivery.code or ''} {delivery.enhanced}".strip()
    words = delivery.reply
    return words if delivery.code and words.startswith(str(delivery.code)) else f"{code} {words}".strip()


# --- the status of one row -----------------------------------------------------------------------------

LEFT_OUT = frozenset({Status.INVALID, Status.DUPLICATE, Status.SUPPRESSED, Status.SKIPPED})
"""Rows in these states are not sent, whatever was tried before."""
NOT_KEPT = "changed since; the message that was sent is not kept"
_WHEN = {
    Status.IN_DOUBT: " since",
    Status.HANDING_OVER: " since",
    Status.PENDING: " since",
    Status.DEFERRED: " until",
}
_NEXT = {Status.IN_DOUBT: "see `resolve`", Status.HANDING_OVER: "no reply yet"}


def not_sent(result: Result) -> str:
    """Return why a row that is left out is not sent."""
    why = "excluded by `where`" if result.status is Status.SKIPPED else result.detail or WORDS[result.status]
    return f"Not sent: {why}"


def standing_line(result: Result, now: datetime, *, went_out: bool | None = None) -> str:
    """Return the status of a row in one line.

    Args:
        result: the row.
        now: the current time: times of this day are shown without the date.
        went_out: whether the message shown with it is the one that was sent; None: none is shown.

    """
    status, delivery = result.status, result.delivery
    if status in LEFT_OUT:
        return not_sent(result)
    if delivery is None:
        return "Pending: not sent yet"
    moment = delivery.next_at if status is Status.DEFERRED else delivery.updated
    when = f"{_WHEN.get(status, '')} {local_time(moment, now)}" if moment else ""
    if status is Status.ACCEPTED:
        about = result.detail if went_out is None else "this went out" if went_out else NOT_KEPT
        decided = "" if delivery.code else ", as a person decided"
        return f"Accepted{when}{decided}" + (f"; {about}" if about else "")
    words = _NEXT.get(status) or _answer(delivery) or delivery.reason
    if status is Status.PENDING:  # a person's decision about it outweighs the last reply
        words = delivery.reason or words
    return f"{WORDS[status].capitalize()}{when}" + (f": {words}" if words else "")


# --- rows to show ------------------------------------------------------------------------------------

MOST_ROWS = 5000

_TROUBLE = frozenset(
    {
        Status.IN_DOUBT,
        Status.HANDING_OVER,
        Status.REJECTED,
        Status.EXPIRED,
        Status.BOUNCED,
        Status.DEFERRED,
        Status.INVALID,
    }
)


class RowSample:
    """Receives every result, in order, and keeps the few thousand that a page can show."""

    def __init__(self, most: int = MOST_ROWS) -> None:
        self._most = most
        self._first: list[Result] = []
        self._trouble: list[Result] = []
        self._others: list[Result] = []
        self.total = 0

    def add(self, result: Result) -> None:
        """Consider one result; of several rows with one message, the first is shown."""
        if result.first is not None:
            return
        self.total += 1
        if len(self._first) < self._most:
            self._first.append(result)
        if result.status is Status.ACCEPTED:
            return
        kept = self._trouble if result.status in _TROUBLE else self._others
        if len(kept) < self._most:
            kept.append(result)

    @property
    def whole(self) -> bool:
        """Whether every row is shown."""
        return self.total <= self._most

    @property
    def rows(self) -> Sequence[Result]:
        """The rows to show, in the list's order; of a long list those that need attention come first."""
        if self.whole:
            return self._first
        chosen = [*self._trouble, *self._others[: self._most - len(self._trouble)]]
        # Rows that were removed from the list come last, as everywhere.
        return sorted(chosen, key=lambda result: (result.row is None, result.row or 0))


_AT = r"(?:@|&#64;|&#x40;|&commat;|\uff20)"
_ENCODED_AT = r"(?:[%=+]40|\\x40)"
_ADDRESS = lazy_re(
    r"((?:[^\s<>()\[\]\"',;:@&\uff20]|&(?!#64;|#x40;|commat;)){1,192}?)"
    rf"(?:{_AT}(\w(?:[\w.-]{{0,253}}\w)?)|{_ENCODED_AT}(\w[\w-]{{0,62}}(?:\.[\w-]{{1,63}}){{1,9}}))",
    re.IGNORECASE,
)
_SOME_AT = lazy_re(rf"{_AT}|{_ENCODED_AT}", re.IGNORECASE)
_QUOTED = lazy_re(r'"(?:\\.|[^"\\])*(?:"|\Z)', re.DOTALL)
_ENCODED = lazy_re(r"[%=]([0-9A-F]{2})", re.IGNORECASE)
_LEAST_LOCAL = 3
_LEAST_NAME = 3


class Redactor:
    """Replaces what identifies a person with a hash keyed by the campaign's secret: the same every time.

    Domains are kept, because replies can hardly be understood without them. An address is recognised however
    a server may write it: in other letters, percent-encoded, in quoted-printable, its domain in Unicode or
    not.

    Args:
        secret: the campaign's.
        names: names of the campaign, its list and its folder, to be replaced wherever they occur.

    """

    def __init__(self, secret: bytes, names: Iterable[str] = ()) -> None:
        self._secret = secret
        found = sorted({name for name in names if len(name) >= _LEAST_NAME}, key=len, reverse=True)
        self._names = (
            re.compile(rf"(?<![^\W_])(?:{'|'.join(map(re.escape, found))})(?![^\W_])", re.IGNORECASE)
            if found
            else None
        )

    def results(self, results: Iterable[Result]) -> Iterator[Result]:
        """Yield the results, redacted."""
        return map(self.result, results)

    def result(self, result: Result) -> Result:
        """Redact one result."""
        address = result.address
        delivery = result.delivery
        if delivery is not None:
            delivery = replace(
                delivery,
                key=self._key(delivery.key),
                address=self.address(delivery.address),
                reply=self._words(delivery.reply, address),
                reason=self._words(delivery.reason, address),
            )
        return replace(
            result,
            key=self._key(result.key),
            address=self.address(address),
            # Diagnostics quote cells.
            detail=self._words(_QUOTED.sub('"…"', result.detail), address),
            delivery=delivery,
        )

    def address(self, address: str) -> str:
        """Hash the part before the "@", or all of what is not an address."""
        local, at, domain = address.rpartition("@")
        if not address:
            return ""
        return f"{self._of(address)}{at}{domain}" if local else self._hash(address)

    def name(self, name: str) -> str:
        """Hash the name of a campaign, a list or a folder; a suffix stays."""
        stem, dot, suffix = name.rpartition(".")
        kept = dot + suffix if stem and len(suffix) <= 5 else ""
        return self._hash(name.casefold()) + kept if name else ""

    def words(self, text: str) -> str:
        """Hash every address in *text*, and the names of the campaign."""
        if _SOME_AT.search(text):
            text = _ADDRESS.sub(self._found, text)
        return self._names.sub(lambda found: self.name(found[0]), text) if self._names else text

    def _found(self, match: re.Match[str]) -> str:
        domain = match[2] or match[3]
        return f"{self._of(f'{match[1]}@{domain}')}@{domain}"

    def _of(self, address: str) -> str:
        """Hash one address, however it is written."""
        local, _, domain = address.rpartition("@")
        local = _ENCODED.sub(lambda found: chr(int(found[1], 16)), local).strip('"').lower()
        return self._hash(f"{local}@{_a_labels(domain)}")

    def _words(self, text: str, address: str) -> str:
        local, _, domain = address.rpartition("@")
        if not text or not local:
            return self.words(text)
        if not any(mark in text for mark in "%=+") and local.lower() not in text.lower():
            return self.words(text)
        own, spelt = self._of(address), "".join(map(_any_spelling, local))
        if len(local) < _LEAST_LOCAL:  # such a string may be part of any word: it must precede its domain
            behind = rf"(?=(?:{_AT}|{_ENCODED_AT}|[=_]){re.escape(domain)})"
            return self.words(re.sub(rf"(?<![^\W_]){spelt}{behind}", own, text, flags=re.IGNORECASE))
        return re.sub(spelt, own, self.words(text), flags=re.IGNORECASE)

    def _key(self, key: str) -> str:
        return self.address(key) if "@" in key else self._hash(key) if key else ""

    def _hash(self, text: str) -> str:
        return hmac.new(self._secret, text.encode("utf-8", "replace"), hashlib.sha256).hexdigest()[:12]


def _any_spelling(char: str) -> str:
    """Return a pattern for a character: literal, %-encoded, quoted-printable or xtext (RFC 3461)."""
    if not char.isascii():
        return re.escape(char)
    return rf"(?:{re.escape(char)}|[%=+]{ord(char):02X})"


def _a_labels(domain: str) -> str:
    """Return a domain in its form on the wire, in lower case."""
    if domain.isascii():
        return domain.lower()
    try:
        return domain.lower().encode("idna").decode("ascii")
    except UnicodeError:
        return domain.lower()
