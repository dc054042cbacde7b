"""What only the whole list shows: one pass over the columns that something reads, before any row is made.

Blocks of rows come in, and columns are looked at a block at a time: what is ordinary passes at the speed of
`str.join` and of searches in what it makes. In the end a column has one type, and it is known how many cells
are damaged and which ones come first. The same rows give the same answers, however they were read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.recipient_list import find_column
from mailmerge.recipients.types import cell_type
from mailmerge.text import BLANKS, INVISIBLE, excerpt, plural, quoted, trimmed
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth, displayed
from mailmerge.values.number_format import number_format

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.model import Recipient
    from mailmerge.recipients.recipient_list import RecipientList
    from mailmerge.recipients.types import CellType
    from mailmerge.recipients.understanding import Understanding
    from mailmerge.values import Cell

BLOCK = 1000
"""Rows that are looked at together."""
FIRST_CELLS = 3
"""How many cells a finding names."""
_END = "\x1f"
"""Stands between the cells of a block: no cell of a letter contains it."""
_MARKS = (*filter(lambda char: char > " ", BLANKS), *INVISIBLE)
_KINDS: dict[type, str] = {
    str: "text", Number: "number", Date: "date", DateTime: "date", Time: "time", Duration: "time",
    Truth: "yes or no",
}  # fmt: skip


class Surveyed(Struct, frozen=True):
    """What the survey of a list found, and what follows for each of its rows."""

    findings: tuple[Diagnostic, ...] = ()
    """Of the list as a whole."""
    notes: tuple[str, ...] = ()
    """What was decided, a sentence each."""
    trimmed: int = 0
    """Cells that began or ended with what nobody sees."""
    types: dict[int, CellType] = field(default_factory=dict)
    """The types of columns that have none by declaration and cells of several, by position."""

    @property
    def changes(self) -> bool:
        """Whether a row may be another one than was read."""
        return bool(self.types)

    def settled(self, rows: Iterable[Recipient]) -> Iterator[Recipient]:
        """Give the rows as they are to be made."""
        for recipient in rows:
            yield self._typed(recipient)

    def told(self, understanding: Understanding) -> Understanding:
        """Add what was decided to how the list was understood."""
        return replace(understanding, trimmed=self.trimmed).noting(*self.notes)

    def _typed(self, recipient: Recipient) -> Recipient:
        values = list(recipient.values)
        for position, kind in self.types.items():
            cell = values[position]
            if not isinstance(cell, str) or trimmed(cell):
                try:
                    values[position] = kind.read(cell)
                except ValueError:  # then it is what it is: a template may print it, and not reckon with it
                    continue
        return replace(recipient, values=tuple(values))


class Survey:
    """Looks at the rows of a list, a block at a time.

    Args:
        recipients: the list.
        read: names and headings of the columns that something reads; the others do not matter.
        written: those of them whose displayed text is written.

    """

    def __init__(
        self, recipients: RecipientList, read: frozenset[str], written: frozenset[str] = frozenset()
    ) -> None:
        columns, options = recipients.columns, recipients.options
        if "row" in read and read.isdisjoint({*columns.headings} - {*columns.names}):
            read = frozenset(columns.names)  # the template may go through all of it
        typed = {find_column(columns, name, "data.types") for name in options.types}
        key = -1 if options.key is None else find_column(columns, options.key, "data.key")
        self._columns = [
            _Column(at, heading, name, settled=at in typed or at == key)
            for at, (heading, name) in enumerate(zip(columns.headings, columns.names, strict=True))
            if at == key or {heading, name} & read
        ]
        self._written = written
        self._shown = recipients.shown

    def add(self, rows: Sequence[int], values: Sequence[Sequence[Cell]]) -> None:
        """Look at the cells of the next rows, which have these numbers."""
        for column in self._columns:
            at = column.position
            column.add([cells[at] for cells in values], rows)

    def finish(self) -> Surveyed:
        """Say what was found in all rows together."""
        findings: list[Diagnostic] = []
        notes: list[str] = []
        types: dict[int, CellType] = {}
        for column in self._columns:
            if column.unsure and not self._written.isdisjoint({column.name, column.heading, "row"}):
                findings += self._unsure(column)
            if column.is_mixed and not column.settled:
                decided = column.type_of_most
                if decided is None:
                    findings.append(self._mixed(column))
                    continue
                types[column.position] = cell_type(decided, column.name)
                how = "as a text" if decided == "text" else "as a number where it is one"
                notes.append(f"{column.heading} has {column.mixture()}: each is read {how}")
        return Surveyed(tuple(findings), tuple(notes), sum(column.trimmed for column in self._columns), types)

    def _unsure(self, column: _Column) -> Iterator[Diagnostic]:
        place = Place(path=self._shown, cell=f'column "{column.heading}"')
        for code, shown in column.unsure.items():
            problem = number_format(code).problem
            if problem is not None:
                yield Diagnostic(
                    "D170",
                    f"{quoted(column.heading)} has a number format that is not understood: "
                    f"{excerpt(code)} {problem}",
                    f"its numbers are shown as without one ({shown}): choose another format, or write the "
                    "value with a filter: |number, |date",
                    severity=Severity.WARNING,
                    place=place,
                )
            else:
                yield Diagnostic(
                    "D173",
                    f"{quoted(column.heading)} has the date format of the computer, "
                    f"which differs from one to another: it is written as {shown}",
                    f"choose a date format without an asterisk, or write {{{{ {column.name}|date }}}}",
                    severity=Severity.WARNING,
                    place=place,
                )

    def _mixed(self, column: _Column) -> Diagnostic:
        return Diagnostic(
            "D264",
            f"the column {quoted(column.heading)} has cells of several types: {column.mixture()}",
            "a date that was typed as a text or shown as a number prints in another way than the others",
            severity=Severity.WARNING,
            place=Place(path=self._shown, cell=f'column "{column.heading}"'),
        )


class _Column:
    """What is known of a column so far."""

    def __init__(self, position: int, heading: str, name: str, *, settled: bool) -> None:
        self.position = position
        self.heading = heading
        self.name = name
        self.settled = settled
        """Whether its type is declared, or it is the key, which is as it stands."""
        self.unsure: dict[str, str] = {}
        """Number formats that do not say for certain what is shown, and the first text of each."""
        self.trimmed = 0
        self.counts: dict[type, int] = {}
        """How many filled cells there are of each type."""
        self.first: dict[type, list[tuple[int, str]]] = {}
        """The first cells of each type, with their rows."""

    def add(self, cells: list[Any], rows: Sequence[int]) -> None:
        """Look at the cells of a block of rows."""
        try:
            joined = _END.join(cells)
        except TypeError:
            self._add_values(cells, rows)
            cells = [cell if cell.__class__ is str else "" for cell in cells]
            joined = _END.join(cells)
        if _may_have_ends(joined):
            clean = list(map(str.strip if joined.isascii() else trimmed, cells))
            if clean != cells:
                self.trimmed += sum(map(str.__ne__, clean, cells))
                cells, joined = clean, _END.join(clean)
        if not self.settled:
            self._count_texts(cells, rows)

    def _add_values(self, cells: list[Any], rows: Sequence[int]) -> None:
        for cell, row in zip(cells, rows, strict=True):
            if cell.__class__ is not str:
                self.counts[cell.__class__] = self.counts.get(cell.__class__, 0) + 1
                self._note(cell.__class__, row, displayed(cell))
                if cell.unsure is not None:
                    self.unsure.setdefault(cell.unsure, displayed(cell))

    def _count_texts(self, cells: list[str], rows: Sequence[int]) -> None:
        filled = len(cells) - cells.count("")
        if not filled:
            return
        if str not in self.counts or len(self.first[str]) < FIRST_CELLS:
            for cell, row in zip(cells, rows, strict=True):
                if cell and not self._note(str, row, cell):
                    break
        self.counts[str] = self.counts.get(str, 0) + filled

    def _note(self, kind: type, row: int, text: str) -> bool:
        """Remember one of the first cells of a type; False: there are enough."""
        first = self.first.setdefault(kind, [])
        if len(first) < FIRST_CELLS:
            first.append((row, text))
        return len(first) < FIRST_CELLS

    @property
    def is_mixed(self) -> bool:
        """Whether it has cells of several types."""
        return len({_KINDS[kind] for kind in self.counts}) > 1

    @property
    def type_of_most(self) -> str | None:
        """Give the type that texts and numbers in one column are all read as; None: there are others."""
        if not self.counts.keys() <= {str, Number}:
            return None
        return "decimal" if self.counts[Number] >= self.counts[str] else "text"

    def mixture(self) -> str:
        """Name its types, with their first cells."""
        return " and ".join(
            f"{plural(count, 'cell')} of the type {_KINDS[kind]} ({', '.join(_cells(self.first[kind]))})"
            for kind, count in self.counts.items()
        )


def _may_have_ends(joined: str) -> bool:
    """Tell whether a cell of a block can begin or end with what nobody sees: there is such a character."""
    if any(blank in joined for blank in " \t\r\n"):
        return True
    return not joined.isascii() and any(mark in joined for mark in _MARKS)


def _cells(first: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Name cells: ``"n/a" in row 3``."""
    return (f"{quoted(text, 30)} in row {row}" for row, text in first)
