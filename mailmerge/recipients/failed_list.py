"""A file of failed rows as a list: it selects rows of the campaign's list, and corrects some of them.

Each row of the file has its key and a mark, a hash of its cells as they were written. Compared with its
present hash, and those of the list's rows, there are four cases:

| in the file | in the list | result |
| --- | --- | --- |
| as it was written | there | the list's row, as the list has it now |
| as it was written | gone | an error: the list has lost it |
| edited | as it was when the file was written, or edited in the same way | the row with the file's cells |
| edited | edited otherwise, or gone | an error, with both places |

A row without a mark was added by a person, and is a row like that of any list. A mark is made from canonical
text: a change of format, spaces, order of columns or order of rows is not an edit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.recipient_list import MarkedRow, RecipientList, SheetCell
from mailmerge.text import rows_named

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterator, Sequence
    from pathlib import Path

    from mailmerge.model import Recipient
    from mailmerge.recipients.recipient_list import CellError, Record
    from mailmerge.values import Cell


class _Chosen(Struct, frozen=True):
    """A row of the file, and its counterpart in the campaign's list."""

    row: MarkedRow
    base: MarkedRow | None = None
    """The row of the campaign's list that it selects or corrects."""
    corrects: bool = False
    """Whether its own cells count, not those of *base*."""
    supersedes: str = ""
    """The key that the row had before it was edited."""
    problem: Diagnostic | None = None


class FailedList(RecipientList):
    """The rows of a file of failed rows; their numbers are those of the file. All are read on opening.

    Args:
        written: the file.
        campaign: the campaign's own list.
        identify: returns the key of a row of that list, or None if it has none. Called only for rows that are
            not in the list as they were when the file was written, or if *together*. together: rows with the
            same key share a message, which is sent with all of them.

    Raises:
        ListError: one of the two files cannot be read.

    """

    def __init__(
        self,
        written: RecipientList,
        campaign: RecipientList,
        identify: Callable[[Recipient], str | None],
        *,
        together: bool = False,
    ) -> None:
        super().__init__(written.path, written.shown, campaign.header, campaign.options)
        self._plain = False
        self._written = written
        self._campaign = campaign
        self.sheet = campaign.sheet
        self.addresses = campaign.addresses
        self.understanding = replace(written.understanding, selects=campaign.shown)
        self._chosen = {chosen.row.row: chosen for chosen in self._choose(identify)}
        if together:
            self._refuse_without_others(identify)
        self.warnings = (*campaign.warnings, *written.warnings)
        own = {name: position for position, name in enumerate(written.columns.names)}
        self._own = tuple(own.get(name) for name in self.columns.names)

    @property
    def header_row(self) -> int:
        """The number of the file's row with the headings."""
        return self._written.header_row

    @property
    def files(self) -> tuple[Path, ...]:
        """The paths of both files."""
        return (*self._written.files, *self._campaign.files)

    @property
    def campaign_list(self) -> str:
        """The name of the list whose rows this file selects."""
        return self._campaign.shown

    def origin(self, row: int) -> str:
        """Return the mark that a corrected row had in the campaign's list; empty for any other row."""
        chosen = self._chosen.get(row)
        return chosen.base.mark if chosen and chosen.corrects and chosen.base else ""

    def _choose(self, identify: Callable[[Recipient], str | None]) -> Iterator[_Chosen]:
        rows = list(self._written.marked())
        wanted = {mark for row in rows for mark in (row.mark, row.origin)}
        by_mark: dict[str, MarkedRow] = {}
        for kept in self._campaign.marked():
            if kept.mark in wanted:
                by_mark.setdefault(kept.mark, kept)
        lost = {row.key for row in rows if row.origin not in by_mark and row.mark not in by_mark} - {""}
        by_key = self._find(lost, identify) if lost else {}
        for row in rows:
            yield self._what(row, by_mark, by_key)

    def _what(self, row: MarkedRow, by_mark: dict[str, MarkedRow], by_key: dict[str, MarkedRow]) -> _Chosen:
        if not row.written:
            return _Chosen(row, corrects=True)
        edited = row.mark != row.written
        supersedes = row.key if edited else ""
        if row.mark in by_mark:
            return _Chosen(row, by_mark[row.mark], supersedes=supersedes)
        if row.origin in by_mark:
            return _Chosen(row, by_mark[row.origin], corrects=True, supersedes=supersedes)
        now = by_key.get(row.key)
        if edited or row.origin != row.written:
            return _Chosen(row, corrects=True, problem=self._edited_twice(row, now))
        return _Chosen(row, now) if now else _Chosen(row, corrects=True, problem=self._gone(row))

    def _refuse_without_others(self, identify: Callable[[Recipient], str | None]) -> None:
        """Make rows invalid whose message lacks other rows that the campaign's list has for it."""
        keys = {chosen.row.key for chosen in self._chosen.values() if chosen.row.key}
        here = {chosen.base.row for chosen in self._chosen.values() if chosen.base}
        missing: dict[str, list[int]] = {}
        for recipient in self._campaign:
            key = identify(recipient)
            if key in keys and recipient.row not in here:
                missing.setdefault(key, []).append(recipient.row)
        for row, chosen in self._chosen.items():
            lost = missing.get(chosen.row.key)
            if lost and chosen.problem is None:
                self._chosen[row] = replace(chosen, problem=self._incomplete(chosen.row, lost))

    def _incomplete(self, row: MarkedRow, lost: Sequence[int]) -> Diagnostic:
        return Diagnostic(
            code="D183",
            message=f"the message is also for {rows_named(lost)} of {self._campaign.shown}, "
            f"which {'is' if len(lost) == 1 else 'are'} not in this file",
            hint="keep all rows of a message in the file, or delete all of them",
            place=self._place_of(row),
            row=row.row,
        )

    def _find(
        self, keys: Container[str], identify: Callable[[Recipient], str | None]
    ) -> dict[str, MarkedRow]:
        found: dict[str, MarkedRow] = {}
        for recipient, row in zip(self._campaign, self._campaign.marked(), strict=True):
            key = identify(recipient)
            if key is not None and key in keys:
                found.setdefault(key, row)
        return found

    def _place_of(self, row: MarkedRow) -> Place:
        return Place(path=self.shown, line=row.line, cell=None if row.line else f"row {row.row}")

    def _edited_twice(self, row: MarkedRow, now: MarkedRow | None) -> Diagnostic:
        where = f"row {now.row} there" if now else "the original row has gone"
        return Diagnostic(
            code="D156",
            message=f"{row.key or 'this row'} was edited here and in {self._campaign.shown} ({where})",
            hint="decide on one version: make them equal, or remove the row here",
            place=self._place_of(row),
            row=row.row,
        )

    def _gone(self, row: MarkedRow) -> Diagnostic:
        return Diagnostic(
            code="D157",
            message=f"{row.key or 'this row'} was removed from {self._campaign.shown}",
            hint="correct the row here, or remove it",
            place=self._place_of(row),
            row=row.row,
        )

    def _records(self) -> Iterator[Record]:
        for number, chosen in self._chosen.items():
            yield number, chosen.row.line, self._cells(chosen)

    def _cells(self, chosen: _Chosen) -> list[Cell | CellError]:
        """Arrange the cells as in the campaign's list; columns that the file lacks come from the list."""
        base = chosen.base
        cells: list[Cell | CellError] = list(base.cells) if base else [""] * self.header.width
        if chosen.corrects:
            for position, own in zip(self.header.kept, self._own, strict=True):
                if own is not None:
                    cells[position] = chosen.row.cells[self._written.header.kept[own]]
        return cells

    def _recipient(self, record: Record) -> Recipient:
        recipient = super()._recipient(record)
        chosen = self._chosen[record[0]]
        if not (chosen.supersedes or chosen.problem):
            return recipient
        problems = (*([chosen.problem] if chosen.problem else []), *recipient.problems)
        return replace(recipient, supersedes=chosen.supersedes, problems=problems)

    def copies(self, rows: Container[int]) -> Iterator[tuple[int, tuple[SheetCell, ...]]]:
        """Yield the chosen rows with types and formats: the list's, where it has them."""
        wanted = {number: chosen for number, chosen in self._chosen.items() if number in rows}
        base = dict(self._campaign.copies({chosen.base.row for chosen in wanted.values() if chosen.base}))
        own = dict(self._written.copies({number for number, chosen in wanted.items() if chosen.corrects}))
        empty = (SheetCell(None, "n"),) * len(self.columns.names)
        for number, chosen in wanted.items():
            cells = base[chosen.base.row] if chosen.base else empty
            if chosen.corrects:
                places = zip(cells, self._own, strict=True)
                cells = tuple(cell if at is None else own[number][at] for cell, at in places)
            yield number, cells

    def _place(self, row: int, line: int | None, position: int) -> Place:
        own = self._own[self.header.kept.index(position)] if position in self.header.kept else None
        return self._written.place(row, line, -1 if own is None else self._written.header.kept[own])
