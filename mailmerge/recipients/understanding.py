"""How a list was understood: what program wrote it, which sheet and row it begins in, what is in its columns.

A list says what it found when it was opened; what only all of its rows show is added while they are read. The
plan keeps it, so that whoever reads that plan again is told the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.text import cut, excerpt, padded, plural, width
from mailmerge.values import displayed, name_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.model import Columns
    from mailmerge.values import Cell

_EXAMPLES = 3
_LOOKED_AT = 1000
"""Rows in which examples are looked for."""
_LONGEST_EXAMPLE = 30
"""Characters of an example that are shown."""
_WIDEST = 30
"""Terminal cells of a heading beyond which what comes after it is not lined up."""


class UnderstoodColumn(Struct, frozen=True):
    """A column, and what is in it."""

    heading: str
    name: str
    """As templates write it."""
    types: tuple[str, ...] = ()
    """What its cells are: ``text``, ``number``, ``date`` ..., the first found first; empty: it has none."""
    examples: tuple[str, ...] = ()
    """The displayed texts of its first cells that differ, three at most, shortened."""


class Understanding(Struct, frozen=True):
    """How a list was read."""

    kind: str
    """What it is: ``CSV``, ``XLSX``, ``pandas data frame``."""
    encoding: str = ""
    """Empty: it has none."""
    delimiter: str = ""
    """In words: ``semicolon``, or ``one column``; empty: it has none."""
    sheet: str = ""
    """Empty: it is no workbook."""
    why_sheet: str = ""
    """Why it is this one, where there are others: ``the first of 6``."""
    area: str = ""
    """The part of the sheet that is the list, in words; empty: all of it."""
    selects: str = ""
    """The list that a file of failed rows selects rows of."""
    program: str = ""
    """What wrote it, as it says; empty: it does not say."""
    heading_row: int = 0
    """The number of the row that has the headings; 0: they are in none."""
    upper: int = 0
    """The number of the row above that has the headings of other columns; 0: all are in one row."""
    above: tuple[tuple[int, str], ...] = ()
    """Rows above the headings that are no part of the list: number and text, shortened."""
    addresses: tuple[str, ...] = ()
    """The headings of the columns that have addresses, the likeliest first."""
    rows: int = 0
    """Rows that are recipients."""
    blank: int = 0
    """Blank rows, left out."""
    hidden: int = 0
    """Hidden rows, left out."""
    trimmed: int = 0
    """Cells that began or ended with blanks, which were taken off."""
    columns: tuple[UnderstoodColumn, ...] = ()
    notes: tuple[str, ...] = ()
    """What else was decided, a sentence each."""

    def __str__(self) -> str:
        sheet = f'sheet "{self.sheet}"' if self.sheet else ""
        if sheet and self.why_sheet:
            sheet += f" ({self.why_sheet})"
        headings = f"headings in {self.headings}" if self.above or self.upper else ""
        selects = f"rows of {self.selects}" if self.selects else ""
        return ", ".join(
            filter(None, (self.kind, self.encoding, self.delimiter, sheet, self.area, headings, selects))
        )

    @property
    def headings(self) -> str:
        """Say where the headings are: ``row 4``."""
        return f"rows {self.upper} and {self.heading_row}" if self.upper else f"row {self.heading_row}"

    def noting(self, *notes: str) -> Understanding:
        """Give the same with more *notes*."""
        return replace(self, notes=(*self.notes, *notes))

    def lines(self) -> Iterator[str]:
        """Say it in words, a line each, of which the first words say what it is about."""
        yield f"read as    {self}"
        if self.program:
            yield f"written by {self.program}"
        if self.heading_row:
            yield f"headings   {self.headings}"
        for row, text in self.above:
            yield f"above      row {row}: {text}"
        if self.addresses:
            first, *others = (excerpt(heading, _WIDEST) for heading in self.addresses)
            also = f" (there are others in {', '.join(others)})" if others else ""
            yield f"addresses  in the column {first}{also}"
        yield f"rows       {', '.join(self._rows())}"
        yield from self._columns()
        for note in self.notes:
            yield f"note       {note}"

    def _rows(self) -> Iterator[str]:
        yield plural(self.rows, "recipient")
        if self.blank:
            yield f"{plural(self.blank, 'blank row')} skipped"
        if self.hidden:
            yield f"{plural(self.hidden, 'hidden row')} left out"
        if self.trimmed:
            yield f"blanks taken off the ends of {plural(self.trimmed, 'cell')}"

    def _columns(self) -> Iterator[str]:
        shown = [cut(column.heading, _WIDEST) for column in self.columns]
        widest = max(map(width, shown), default=0)
        begin = "columns   "
        for heading, column in zip(shown, self.columns, strict=True):
            seen = f"{' and '.join(column.types)}: {' | '.join(column.examples)}" if column.types else "empty"
            yield f"{begin} {padded(heading, widest)}  {seen}"
            begin = " " * len(begin)


class ColumnsSeen:
    """Looks at the rows of a list while they are read: what is in its columns.

    Args:
        columns: the list's.

    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.rows = 0
        """How many there were so far."""
        self._kinds: list[dict[str, None]] = [{} for _ in columns.names]
        self._patterns: set[tuple[type, ...]] = set()
        self._textless = list(range(len(columns.names)))
        """Positions of columns without any text so far: a blank cell is of the type of a text, too."""
        self._examples: list[dict[str, None]] = [{} for _ in columns.names]

    def see(self, values: Sequence[Cell]) -> None:
        """Look at the cells of the next row."""
        self.rows += 1
        if self.rows <= _LOOKED_AT:
            self._take_examples(values)
            return
        # A long list has thousands of rows of the same types: each pattern is looked at once.
        pattern = tuple(map(type, values))
        texts = (values[at] and values[at].__class__ is str for at in self._textless)
        if pattern not in self._patterns or any(texts):
            self._patterns.add(pattern)
            self._take_kinds(values)

    def columns(self) -> tuple[UnderstoodColumn, ...]:
        """Give what was found."""
        named = zip(self._columns.headings, self._columns.names, strict=True)
        return tuple(
            UnderstoodColumn(heading, name, tuple(kinds), tuple(examples))
            for (heading, name), kinds, examples in zip(named, self._kinds, self._examples, strict=True)
        )

    def _take_examples(self, values: Sequence[Cell]) -> None:
        self._take_kinds(values)
        for value, examples in zip(values, self._examples, strict=True):
            if len(examples) < _EXAMPLES:
                text = " ".join(str(displayed(value)).split())
                if text:
                    examples[excerpt(text, _LONGEST_EXAMPLE)] = None

    def _take_kinds(self, values: Sequence[Cell]) -> None:
        for at, value in enumerate(values):
            if not isinstance(value, str):
                self._kinds[at][name_of(value)] = None
            elif at in self._textless and value.strip():
                self._kinds[at][name_of(value)] = None
                self._textless.remove(at)
