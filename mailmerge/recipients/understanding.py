"""How a list was understood: which program wrote it, where it begins, and what its columns contain.

The first part is known when a list is opened; what only all of its rows show is added while they are read.
The plan stores it, and shows the same when it is read again.
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
"""Rows in which examples are searched for."""
_LONGEST_EXAMPLE = 30
"""Characters of an example that are shown."""
_WIDEST = 30
"""Width of a heading in terminal cells beyond which what follows is not aligned."""


class UnderstoodColumn(Struct, frozen=True):
    """A column and its content."""

    heading: str
    name: str
    """The column's name in templates."""
    types: tuple[str, ...] = ()
    """Types of its cells (``text``, ``number``, ``date`` ...) in order of appearance; empty: all blank."""
    examples: tuple[str, ...] = ()
    """The displayed text of its first distinct cells, at most three, shortened."""


class Understanding(Struct, frozen=True):
    """How a list was read."""

    kind: str
    """The kind of list: ``CSV``, ``XLSX``, ``pandas data frame``."""
    encoding: str = ""
    """The text encoding; empty: it has none."""
    delimiter: str = ""
    """Its name: ``semicolon``, or ``one column``; empty: it has none."""
    sheet: str = ""
    """The sheet's name; empty: it is not a workbook."""
    why_sheet: str = ""
    """Why this sheet was chosen, if there are others: ``the first of 6``."""
    area: str = ""
    """A description of the part of the sheet that is the list; empty: the whole sheet."""
    selects: str = ""
    """The list whose rows a file of failed rows selects; empty: this is not such a file."""
    program: str = ""
    """The program that wrote it, according to the file; empty: unknown."""
    heading_row: int = 0
    """The number of the row with the headings; 0: they are not in a row."""
    upper: int = 0
    """The number of the row above with the headings of other columns; 0: all are in one row."""
    above: tuple[tuple[int, str], ...] = ()
    """Rows above the headings that are not part of the list: number and text, shortened."""
    addresses: tuple[str, ...] = ()
    """The headings of the columns with addresses, the likeliest first."""
    rows: int = 0
    """Number of rows that are recipients."""
    blank: int = 0
    """Number of blank rows, which are skipped."""
    hidden: int = 0
    """Number of hidden rows that are left out."""
    trimmed: int = 0
    """Number of cells from which leading or trailing spaces were removed."""
    columns: tuple[UnderstoodColumn, ...] = ()
    notes: tuple[str, ...] = ()
    """Other decisions, a sentence each."""

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
        """Where the headings are: ``row 4``."""
        return f"rows {self.upper} and {self.heading_row}" if self.upper else f"row {self.heading_row}"

    def noting(self, *notes: str) -> Understanding:
        """Return a copy with more *notes*."""
        return replace(self, notes=(*self.notes, *notes))

    def lines(self) -> Iterator[str]:
        """Return it as lines for people, each beginning with its subject."""
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
            yield f"spaces trimmed from {plural(self.trimmed, 'cell')}"

    def _columns(self) -> Iterator[str]:
        shown = [cut(column.heading, _WIDEST) for column in self.columns]
        widest = max(map(width, shown), default=0)
        begin = "columns   "
        for heading, column in zip(shown, self.columns, strict=True):
            seen = f"{' and '.join(column.types)}: {' | '.join(column.examples)}" if column.types else "empty"
            yield f"{begin} {padded(heading, widest)}  {seen}"
            begin = " " * len(begin)


class ColumnsSeen:
    """Records what the columns of a list contain, while its rows are read.

    Args:
        columns: the columns of the list.

    """

    def __init__(self, columns: Columns) -> None:
        self._columns = columns
        self.rows = 0
        """The number of rows so far."""
        self._kinds: list[dict[str, None]] = [{} for _ in columns.names]
        self._patterns: set[tuple[type, ...]] = set()
        self._textless = list(range(len(columns.names)))
        """Positions of columns without any text so far: a blank cell has the type of text too."""
        self._examples: list[dict[str, None]] = [{} for _ in columns.names]

    def see(self, values: Sequence[Cell]) -> None:
        """Record the cells of the next row."""
        self.rows += 1
        if self.rows <= _LOOKED_AT:
            self._take_examples(values)
            return
        # A long list has thousands of rows of the same types: each pattern is examined once.
        pattern = tuple(map(type, values))
        texts = (values[at] and values[at].__class__ is str for at in self._textless)
        if pattern not in self._patterns or any(texts):
            self._patterns.add(pattern)
            self._take_kinds(values)

    def columns(self) -> tuple[UnderstoodColumn, ...]:
        """Return what was found."""
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
