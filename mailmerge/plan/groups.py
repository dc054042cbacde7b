"""Several rows, one message: which rows of a list share one (``data.group_by``), wherever they are in it.

The rows of a group are collected on disk, so that a long list needs no more memory than a short one. The
first of them represents the message: its place in the list is the message's. A message is sent with all of
its rows or not at all: one that is invalid makes all of them invalid.
"""

from __future__ import annotations

from collections import Counter
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.errors import RowError
from mailmerge.model import Diagnostic, Recipient, Severity
from mailmerge.text import plural, rows_named

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

    from mailmerge.model import Status
    from mailmerge.plan.composer import Composer
    from mailmerge.plan.store import PlanRow, PlanWriter

    Placed = tuple[int, Recipient]

_MOST_REMEMBERED = 200_000
"""How many groups with rows that ``where`` leaves out are remembered, to report them."""
_DIGITS = 8
"""How much of a row's digest distinguishes it from the others of its message."""


class Grouping:
    """Collects the rows of one list that share a message; use it once.

    Args:
        composer: determines which they are.
        writer: the plan's, which has room for them.
        encode: makes octets of a row and its place.
        decode: reads them back.

    """

    def __init__(
        self,
        composer: Composer,
        writer: PlanWriter,
        encode: Callable[[Placed], bytes],
        decode: Callable[[bytes], Placed],
    ) -> None:
        self._composer = composer
        self._writer = writer
        self._encode = encode
        self._decode = decode
        self._left_out: set[int] = set()
        self._moved: dict[str, set[str]] = {}
        """By the key that corrected rows had: the keys that they have now."""
        self._unmoved: set[str] = set()
        """Keys of a file of failed rows that rows still have."""
        self.reduced = 0
        """How many messages are without rows that ``where`` leaves out."""

    def messages(self, rows: Iterable[Recipient], *, corrected: bool = False) -> Iterator[Placed]:
        """Yield each row that represents a message, with its place and the others of its message.

        Args:
            rows: the list's, in its order.
            corrected: it is a file of failed rows, in which rows may have got another key.

        Raises:
            CampaignFileError: an expression is wrong for every row.
            FileError: the disk has no room for them.

        """
        placed = ((n, *self._looked_at(row, corrected=corrected)) for n, row in enumerate(rows))
        octets = ((n, key, self._encode((n, row))) for n, key, row in placed)
        for _, kept in groupby(self._writer.sort(octets), itemgetter(0)):
            yield self._together([self._decode(data) for _, data in kept])

    def _looked_at(self, row: Recipient, *, corrected: bool) -> tuple[bytes, Recipient]:
        """Return the key of a row's group as octets, and the row with that key; none: it is by itself."""
        problems: tuple[Diagnostic, ...] = ()
        selected, key = True, ""
        try:
            selected = self._composer.selects(row)
        except RowError as error:
            problems = error.diagnostics
        try:
            key = self._composer.group(row)
        except RowError as error:
            problems = (*problems, *error.diagnostics) if selected else ()
        if not selected:
            if key and len(self._left_out) < _MOST_REMEMBERED:
                self._left_out.add(hash(key))
            return b"", replace(row, key=None)
        if not key and not problems and not row.problems and self._composer.renderer.address(row):
            problems = (_no_group(row),)
        if corrected:
            self._note_correction(row, key)
        found = replace(row, key=key or None, problems=(*row.problems, *problems))
        return key.encode("utf-8", "surrogatepass"), found

    def _note_correction(self, row: Recipient, key: str) -> None:
        if row.supersedes and row.supersedes != key:
            self._moved.setdefault(row.supersedes, set()).add(key)
        else:
            self._unmoved.add(key)

    def _together(self, placed: list[Placed]) -> Placed:
        (n, first), *others = placed
        self.reduced += first.key is not None and hash(first.key) in self._left_out
        problem = self._torn(first.key or "", [row for _, row in placed])
        if problem is not None:
            first = replace(first, problems=(*first.problems, problem))
        return n, replace(first, others=tuple(others)) if others else first

    def _torn(self, key: str, rows: list[Recipient]) -> Diagnostic | None:
        """Return a problem if a correction has split the rows of one message."""
        if not self._moved:
            return None
        for old in dict.fromkeys((key, *(row.supersedes for row in rows))):
            now = self._moved.get(old, set())
            if len(now) > 1 or (now and old in self._unmoved):
                return Diagnostic(
                    "D183",
                    f"the rows of one message, {old}, would be in several, as they were corrected here",
                    "correct all of its rows in the same way",
                    row=rows[0].row,
                )
        return None


def _no_group(row: Recipient) -> Diagnostic:
    return Diagnostic(
        "D180",
        "`group_by` is empty for this row: which message it belongs to is not known",
        "fill in the cell, or leave the row out with where",
        row=row.row,
    )


def messages_of(
    composer: Composer, rows: Callable[[], Iterable[Recipient]], wanted: Container[int] | None
) -> list[Recipient]:
    """Return the rows that represent a few messages, with the others of each; only those are in memory.

    Args:
        composer: determines which rows share a message.
        rows: returns the list's rows; called twice.
        wanted: row numbers that name a message if one of its rows is among them; None: that of the first row.

    Raises:
        RowError: a row cannot be used as an expression does.
        CampaignFileError: an expression is wrong for every row.

    """
    keys: set[str] = set()
    alone: set[int] = set()
    for row in rows():
        if (wanted is None or row.row in wanted) and composer.selects(row):
            key = composer.group(row)
            keys.add(key)
            alone |= set() if key else {row.row}
            if wanted is None:
                break
    found: dict[str | int, list[Placed]] = {}
    for n, row in enumerate(rows()):
        key = composer.group(row) if composer.selects(row) else ""
        if key in keys if key else row.row in alone:
            found.setdefault(key or row.row, []).append((n, replace(row, key=key or None)))
    return [replace(first, others=tuple(others)) for (_, first), *others in found.values()]


# --- what the ledger keeps of the rows of a message ---------------------------------------------------------


def signature(recipient: Recipient) -> str:
    """Return which rows a message is for: ``12:0a1b2c3d 13:4e5f6071``; empty: for one.

    Each row's number is followed by the first digits of its own digest, so that a later list shows which rows
    are new in it, whatever their numbers are then.
    """
    if not recipient.others:
        return ""
    every = (replace(recipient, others=()), *(other for _, other in recipient.others))
    return " ".join([f"{row.row}:{row.digest()[:_DIGITS]}" for row in every])


def rows_in(text: str) -> tuple[int, ...]:
    """Return the numbers of a signature's rows; a ledger may come from anybody."""
    numbers = (part.partition(":")[0] for part in text.split())
    return tuple(int(number) for number in numbers if number.isascii() and number.isdigit())


def new_rows(now: str, then: str) -> tuple[int, ...]:
    """Return the rows of one signature that are not in an earlier one."""
    known = Counter(part.partition(":")[2][:_DIGITS] for part in then.split())
    found = []
    for part in now.split():
        row, _, digest = part.partition(":")
        digest = digest[:_DIGITS]
        if known[digest]:
            known[digest] -= 1
        else:
            found.append(int(row))
    return tuple(found)


# --- findings about messages that were sent before ---------------------------------------------------------


def grown(row: PlanRow, new: Sequence[int], status: Status) -> Diagnostic:
    """Return a finding about rows that came into a message after it had been sent."""
    are = "is" if len(new) == 1 else "are"
    return Diagnostic(
        "D272",
        f"{rows_named(new)} {are} in no message: that of {rows_named(row.rows)} ({row.address}) was "
        f"{status.words} before",
        "send the new rows alone as another campaign (another name, and a where that selects them), "
        "or all of them again under another name",
        severity=Severity.WARNING,
        row=row.row,
        address=row.address,
    )


def edited_after(rows: Sequence[int], messages: int) -> Diagnostic:
    """Return one finding for what a treasurer's own notes in the list may have done to many rows."""
    if len(rows) == 1:
        told = f"the current content of {rows_named(rows)} is in no message: it was edited or added"
    else:
        told = f"the current content of {rows_named(rows)} is in no message: they were edited or added"
    return Diagnostic(
        "D273",
        f"{told} after {'its message was' if messages == 1 else 'their messages were'} sent",
        "nothing is sent twice; rows that somebody still has to get: send them as another campaign (another "
        "name, and a where that selects them)",
        severity=Severity.WARNING,
        row=rows[0],
    )


def corrected_elsewhere(rows: Sequence[int]) -> Diagnostic:
    """Return a finding about rows that differ from what was sent when they were sent once more."""
    says = "says" if len(rows) == 1 else "say"
    return Diagnostic(
        "D273",
        f"what {rows_named(rows)} {says} now is not what was sent when the message was sent once more",
        "if they were corrected in a file of failed rows, correct the list, too; nothing is sent twice: rows "
        "that were edited since can be sent as another campaign",
        severity=Severity.WARNING,
        row=rows[0],
    )


def shrunk_after(rows: Sequence[PlanRow]) -> Diagnostic:
    """Return a finding about messages that were sent with rows that are gone."""
    first = rows[0]
    kept = f"that of {rows_named(first.rows or (first.row,))} ({first.address})"
    if len(rows) == 1:
        told = f"{kept} was sent with rows that are no longer in it"
    else:
        told = f"{plural(len(rows), 'message')} were sent with rows that are no longer in them, first {kept}"
    return Diagnostic(
        "D274",
        told,
        "nothing is sent again; if what was sent is wrong now, tell these people in another campaign",
        severity=Severity.WARNING,
        row=first.row,
        address=first.address,
    )
