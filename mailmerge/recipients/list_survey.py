"""What only the whole list shows: one pass over the columns that are read, before any row is made.

Blocks of rows come in, and columns are examined a block at a time: ordinary cells pass at the speed of
`str.join` and of searches in the joined string. In the end each column has one type, and the number of
damaged cells and the first of them are known. The same rows give the same results, however they were read.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.lazy_re import lazy_re
from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.junk import HIDDEN_AT, OWN_FIELD, ROUNDED, names_something, search
from mailmerge.recipients.mistyped import domains, is_slip, meant_by
from mailmerge.recipients.recipient_list import find_column
from mailmerge.recipients.types import cell_type, number_type
from mailmerge.text import BLANKS, INVISIBLE, excerpt, plural, quoted, toml_key, trimmed
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth, displayed
from mailmerge.values.locale_numbers import NumberColumn, Numbers, says_no_moment
from mailmerge.values.value import EARLY_DATE

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

    from mailmerge.model import Recipient
    from mailmerge.recipients.junk import JunkKind
    from mailmerge.recipients.recipient_list import RecipientList
    from mailmerge.recipients.types import CellType
    from mailmerge.recipients.understanding import Understanding
    from mailmerge.values import Cell

_AS_ADDRESS, _AS_NAME = "as an address", "as a name"
_MOST_TEXTS = 10_000
"""Different junk texts of one kind remembered per column: with more, the whole column is damaged."""
_MOST_SLIPS = 50
"""The number of suspicious domains that are examined: a list with more has them for a reason."""
_MOST_DOMAINS = 100_000
"""The number of different domains that are counted."""
_FIFTEEN_DIGITS = 10**15
_ENOUGH = 20
"""The numbers of a block with a leading zero that are examined."""
_NUMBER = lazy_re(r"[^\d@/:]{0,12}\d[\d.,'’`´\s]*[^\d@/:]{0,12}")
"""Digits with separators, and a currency: the least that a number is."""
_SHAPE = dict.fromkeys(map(ord, "023456789"), "1")
BLOCK = 1000
"""The number of rows that are examined together."""
FIRST_CELLS = 3
"""The number of cells that a finding names."""
_MIDNIGHT = lazy_re(r"\d{4}-\d\d-\d\d 0?0:00:00")
"""What pandas and openpyxl make of a date that has no time of day."""
_END = "\x1f"
"""Separates the cells of a block: no cell that can be used contains it."""
_MARKS = (*filter(lambda char: char > " ", BLANKS), *INVISIBLE)
_KINDS: dict[type, str] = {
    str: "text", Number: "number", Date: "date", DateTime: "date", Time: "time", Duration: "time",
    Truth: "yes or no",
}  # fmt: skip


class Surveyed(Struct, frozen=True):
    """What the survey of a list found, and its consequences for each row."""

    findings: tuple[Diagnostic, ...] = ()
    """Diagnostics about the list as a whole."""
    notes: tuple[str, ...] = ()
    """The decisions, a sentence each."""
    trimmed: int = 0
    """Number of cells that began or ended with invisible characters."""
    faults: dict[int, dict[str, Diagnostic]] = field(default_factory=dict)
    """By column position and cell text: the diagnostic that makes the row invalid."""
    types: dict[int, CellType] = field(default_factory=dict)
    """By position, the types of undeclared columns with cells of several types."""

    @property
    def changes(self) -> bool:
        """Whether it may change any row."""
        return bool(self.types or self.faults)

    def settled(self, rows: Iterable[Recipient]) -> Iterator[Recipient]:
        """Yield the rows with the survey's decisions applied."""
        for recipient in rows:
            problems = self._problems(recipient) if self.faults else ()
            typed = self._typed(recipient) if self.types else recipient
            yield replace(typed, problems=(*typed.problems, *problems)) if problems else typed

    def _problems(self, recipient: Recipient) -> list[Diagnostic]:
        found = []
        for position, faults in self.faults.items():
            cell = recipient.values[position]
            fault = faults.get(trimmed(cell) if isinstance(cell, str) else displayed(cell))
            if fault is not None:
                found.append(replace(fault, row=recipient.row))
        return found

    def told(self, understanding: Understanding) -> Understanding:
        """Add the decisions to how the list was understood."""
        return replace(understanding, trimmed=self.trimmed).noting(*self.notes)

    def _typed(self, recipient: Recipient) -> Recipient:
        values = list(recipient.values)
        for position, kind in self.types.items():
            cell = values[position]
            if not isinstance(cell, str) or trimmed(cell):
                try:
                    value = kind.read(trimmed(cell) if isinstance(cell, str) else cell)
                    if isinstance(cell, str) and isinstance(value, Number):
                        # Other rows decide its type, but never its identity.
                        value = Number(value.value, value.shown, cell)
                    values[position] = value
                except ValueError:  # then it remains text: a template may print it, but not calculate with it
                    continue
        return replace(recipient, values=tuple(values))


def typed_rows(recipients: RecipientList, read: frozenset[str]) -> Iterator[Recipient]:
    """Yield the rows with the types that the whole list gives its columns, for callers that make only some.

    The list is first read to its end, unless its first rows show that all columns contain only text that is
    not numbers. Other findings of the whole list are not considered.
    """
    survey = ListSurvey(recipients, read)
    rows = iter(recipients)
    while survey.is_open and (block := list(islice(rows, BLOCK))):
        # Other problems of rows that are already invalid do not matter.
        survey.add(
            [recipient.row for recipient in block if not recipient.problems],
            [recipient.values for recipient in block if not recipient.problems],
        )
    types = survey.finish().types if survey.is_open else {}
    return Surveyed(types=types).settled(recipients) if types else iter(recipients)


class ListSurvey:
    """Examines the rows of a list, a block at a time.

    Args:
        recipients: the list.
        read: names and headings of the columns that are read; the others do not matter.
        written: those of them whose displayed text appears in the output.

    """

    def __init__(
        self, recipients: RecipientList, read: frozenset[str], written: frozenset[str] = frozenset()
    ) -> None:
        columns, options = recipients.columns, recipients.options
        if "row" in read:
            read = frozenset(columns.names)  # the template may use the whole row
        typed = {find_column(columns, name, "data.types"): kind for name, kind in options.types.items()}
        key = -1 if options.key is None else find_column(columns, options.key, "data.key")
        self._columns = [
            _ColumnSurvey(
                at,
                heading,
                name,
                typed.get(at),
                is_key=at == key,
                in_workbook=bool(recipients.sheet),
                only_texts=recipients.only_texts,
            )
            for at, (heading, name) in enumerate(zip(columns.headings, columns.names, strict=True))
            if at == key or {heading, name} & read
        ]
        self._written = written
        self._shown = recipients.shown
        self._rows = 0

    def add(self, rows: Sequence[int], values: Sequence[Sequence[Cell]]) -> None:
        """Examine the cells of the next rows, which have these row numbers."""
        self._rows += len(rows)
        for column in self._columns:
            at = column.position
            column.add([cells[at] for cells in values], rows)

    @property
    def is_open(self) -> bool:
        """Whether any column may get a type without a declaration."""
        return any(column.is_open for column in self._columns)

    def finish(self, roles: Callable[[], Mapping[str, str]] = dict) -> Surveyed:
        """Return what was found in all rows together.

        Args:
            roles: returns the uses of names and headings for which damage makes a row invalid; called only if
                there is damage.

        """
        findings: list[Diagnostic] = []
        notes: list[str] = []
        types: dict[int, CellType] = {}
        for column in self._columns:
            findings += self._unsure(column)
            decided = self._type(column, notes, findings)
            if decided:
                types[column.position] = cell_type(decided, column.name)
        faults: dict[int, dict[str, Diagnostic]] = {}
        damaged = [column for column in self._columns if column.junk]
        used = roles() if damaged else {}
        for column in damaged:
            role = used.get(column.name) or used.get(column.heading)
            place = self._place(column)
            for hits in column.junk.values():
                if role is not None:
                    faults.setdefault(column.position, {}).update(hits.faults(column, role, place))
                findings += hits.told(column, role, place)
        for column in self._columns:
            findings += column.mistyped(self._rows, self._place(column))
        trimmed_cells = sum(column.trimmed for column in self._columns)
        faults = {position: found for position, found in faults.items() if found}
        return Surveyed(tuple(findings), tuple(notes), trimmed_cells, faults, types)

    def _type(self, column: _ColumnSurvey, notes: list[str], findings: list[Diagnostic]) -> str | None:
        """Return the type that an undeclared column gets; None: its cells are unchanged."""
        if column.settled:
            return None
        if column.midnights and column.counts == {DateTime: column.midnights}:
            notes.append(f"{column.heading} has no times of day: each is read as a date")
            return "date"
        numbers = column.numbers.answer() if column.numbers else Numbers()
        if column.is_mixed:
            decided = column.type_of_most(numbers.locale)
            if decided is None:
                findings.append(self._mixed(column))
                return None
            how = "as text" if decided == "text" else "as a number where it is one"
            notes.append(f"{column.heading} has {column.mixture()}: each is read {how}")
            return decided
        if numbers.locale:
            first = ", ".join(_cells(column.first[str][:1]))
            notes.append(f"{column.heading} is read as numbers, as {numbers.locale} writes them: {first}")
            return number_type(numbers.locale)
        if numbers.doubt:
            notes.append(f"{column.heading} is read as text: {numbers.doubt}")
        return None

    def _place(self, column: _ColumnSurvey) -> Place:
        return Place(path=self._shown, cell=f'column "{column.heading}"')

    def _unsure(self, column: _ColumnSurvey) -> Iterator[Diagnostic]:
        if not column.unsure:
            return
        from mailmerge.values.number_format import number_format

        place = self._place(column)
        written = not self._written.isdisjoint({column.name, column.heading, "row"})
        for code, shown in column.unsure.items():
            problem = number_format(code).problem
            if code == EARLY_DATE:
                yield Diagnostic(
                    "D172",
                    f"{quoted(column.heading)} has dates before 1 March 1900, "
                    f"which Excel counts one day later: {shown}",
                    "correct them, or enter them as text; a 0 or 1 in a date column is usually not a date",
                    severity=Severity.WARNING,
                    place=place,
                )
            elif not written:
                continue
            elif problem is not None:
                yield Diagnostic(
                    "D170",
                    f"{quoted(column.heading)} has a number format that is not understood: "
                    f"{excerpt(code)} {problem}",
                    f"its numbers are shown without a format ({shown}): choose another format, or write the "
                    "value with a filter: |number, |date",
                    severity=Severity.WARNING,
                    place=place,
                )
            else:
                yield Diagnostic(
                    "D173",
                    f"{quoted(column.heading)} has the computer's own date format, "
                    f"which differs from one to another: it is written as {shown}",
                    f"choose a date format without an asterisk, or write {{{{ {column.name}|date }}}}",
                    severity=Severity.WARNING,
                    place=place,
                )

    def _mixed(self, column: _ColumnSurvey) -> Diagnostic:
        return Diagnostic(
            "D264",
            f"the column {quoted(column.heading)} has cells of several types: {column.mixture()}",
            "a date that was typed as text or shown as a number prints differently from the others",
            severity=Severity.WARNING,
            place=self._place(column),
        )


class _Hits:
    """The cells of a column that are junk of one kind."""

    def __init__(self, kind: JunkKind) -> None:
        self.kind = kind
        self.texts: dict[str, int] = {}
        """The different texts, and how many cells contain each."""
        self.first: list[tuple[int, str]] = []
        self.beyond = 0
        """The number of other cells: there are more different texts than are remembered."""

    def add(self, row: int, text: str) -> None:
        """Count one more."""
        if text not in self.texts and len(self.texts) >= _MOST_TEXTS:
            self.beyond += 1
            return
        self.texts[text] = self.texts.get(text, 0) + 1
        if len(self.first) < FIRST_CELLS:
            self.first.append((row, text))

    def _fault(self, text: str) -> bool:
        """Return whether it makes a row invalid if its column is used where it matters most."""
        return not self.kind.doubtful or self.texts[text] > 1

    def faults(self, column: _ColumnSurvey, role: str, place: Place) -> Iterator[tuple[str, Diagnostic]]:
        """Yield the texts that make a row invalid, with the diagnostic."""
        if self.kind is HIDDEN_AT and role.startswith(_AS_ADDRESS):
            return  # reported like any text that is not an address
        if self.kind is OWN_FIELD and not role.startswith(_AS_NAME):
            return  # reported where a message shows it
        for text in filter(self._fault, self.texts):
            message = f"{quoted(text, 40)} in the column {quoted(column.heading)} is {self.kind.what}"
            yield (
                text,
                Diagnostic(
                    self.kind.code, f"{message}: it would be used {role}", self._hint(column), place=place
                ),
            )

    def told(self, column: _ColumnSurvey, role: str | None, place: Place) -> Iterator[Diagnostic]:
        """Yield diagnostics of the whole column: cells that make no row invalid, and too many of them."""
        if self.beyond and role is not None:
            message = (
                f"the column {quoted(column.heading)} is damaged as a whole: more than {_MOST_TEXTS:,} cells"
            )
            yield Diagnostic(
                self.kind.code, f"{message} are {self.kind.what}", self._hint(column), place=place
            )
        if self.kind is OWN_FIELD or (self.kind is HIDDEN_AT and role and role.startswith(_AS_ADDRESS)):
            return
        told = [text for text in self.texts if role is None or not self._fault(text)]
        count = sum(self.texts[text] for text in told) + (self.beyond if role is None else 0)
        if count:
            first = [cell for cell in self.first if cell[1] in told] or [(0, told[0])]
            named = ", ".join(_cells(first)) + (", ..." if count > len(first) else "")
            yield Diagnostic(
                self.kind.code,
                f"{plural(count, 'cell')} of the column {quoted(column.heading)} "
                f"contain{'s' if count == 1 else ''} {self.kind.what}: {named}",
                self._hint(column),
                severity=Severity.WARNING,
                place=place,
            )

    def _hint(self, column: _ColumnSurvey) -> str:
        return self.kind.hint.format(key=toml_key(column.name))


class _Slip(Struct):
    """A domain that may be mistyped."""

    meant: str
    count: int = 0
    first: list[tuple[int, str]] = field(default_factory=list)


class _ColumnSurvey:
    """What is known of a column so far."""

    def __init__(
        self,
        position: int,
        heading: str,
        name: str,
        declared: str | None,
        *,
        is_key: bool,
        in_workbook: bool,
        only_texts: bool,
    ) -> None:
        self.position = position
        self.heading = heading
        self.name = name
        self.settled = is_key or declared is not None
        """Whether its type is declared, or it is the key, which is never changed."""
        self.midnights = 0
        """How many of its datetimes show midnight to the second, as pandas writes dates."""
        self.unsure: dict[str, str] = {}
        """Number formats with an uncertain display, and the first text of each."""
        self.trimmed = 0
        self.counts: dict[type, int] = {}
        """The number of filled cells of each type."""
        self.first: dict[type, list[tuple[int, str]]] = {}
        """The first cells of each type, with their rows."""
        self.numbers: NumberColumn | None = None if self.settled else NumberColumn()
        """What is known of its numbers; None: it contains other text."""
        self.junk: dict[JunkKind, _Hits] = {}
        self._domains: set[str] = set()
        self.slips: dict[str, _Slip] = {}
        """Domains that may be mistyped."""
        self._means_text = declared == "text"
        self._searched = declared is None or self._means_text
        self._names = is_key or names_something(heading)
        self._in_workbook = in_workbook
        self._only_texts = only_texts

    def add(self, cells: list[Any], rows: Sequence[int]) -> None:
        """Examine the cells of a block of rows."""
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
        if self._searched:
            for at, kind in search(joined, cells, name=self._names):
                if not (kind.meant and self._means_text):
                    self._hit(kind, rows[at], cells[at])
        if "@" in joined:
            self._look_at_domains(joined, cells, rows)
        if not self.settled:
            self._count_texts(cells, rows)
            if self.numbers:
                self._take_numbers(joined, cells)

    def _look_at_domains(self, joined: str, cells: list[str], rows: Sequence[int]) -> None:
        """Examine the domains of addresses, and count those that may be mistyped."""
        found = domains(joined, len(cells), _END)
        new = set(found).difference(self._domains)
        if len(self._domains) < _MOST_DOMAINS:
            self._domains |= new
        slips = ((domain, _Slip(meant)) for domain in sorted(new) if (meant := meant_by(domain)) is not None)
        self.slips |= dict(islice(slips, _MOST_SLIPS - len(self.slips)))
        for domain, slip in self.slips.items():
            count = found.count(domain)
            slip.count += count
            if count and len(slip.first) < FIRST_CELLS:
                named = (at for at, cell in enumerate(cells) if f"@{domain}" in cell.lower())
                slip.first += [(rows[at], cells[at]) for at in islice(named, FIRST_CELLS - len(slip.first))]

    def mistyped(self, rows: int, place: Place) -> Iterator[Diagnostic]:
        """Yield warnings about domains that were probably mistyped, in a list of this many *rows*."""
        for domain, slip in self.slips.items():
            if is_slip(slip.count, rows):
                named = ", ".join(_cells(slip.first)) + (", ..." if slip.count > len(slip.first) else "")
                yield Diagnostic(
                    "D263",
                    f"{plural(slip.count, 'address', 'addresses')} at {domain}: {named}",
                    f'did you mean {slip.meant}? If {domain} is right: [check] ignore = ["D263"]',
                    severity=Severity.WARNING,
                    place=place,
                )

    def _hit(self, kind: JunkKind, row: int, text: str) -> None:
        if kind not in self.junk:
            self.junk[kind] = _Hits(kind)
        self.junk[kind].add(row, text)

    def _take_numbers(self, joined: str, cells: list[str]) -> None:
        """Examine texts that may be numbers: one of each shape in a block, and some with a leading zero."""
        assert self.numbers is not None
        first = next(filter(None, cells), "")
        if not first:
            return
        if not _NUMBER.fullmatch(first):
            self.numbers = None
            return
        shapes = joined.translate(_SHAPE).split(_END)
        if len(shapes) != len(cells):  # a cell contains the character that separates two
            shapes = [cell.translate(_SHAPE) for cell in cells]
        texts = [*dict(zip(shapes, cells, strict=True)).values()]
        texts += islice((cell for cell in cells if cell[:1] == "0"), _ENOUGH)
        if self.numbers.may_be_moments:  # the digits show that, not the shape
            texts += islice((cell for cell in dict.fromkeys(cells) if says_no_moment(cell)), 1)
        if not all(self.numbers.takes(text) for text in texts if text):
            self.numbers = None

    def _add_values(self, cells: list[Any], rows: Sequence[int]) -> None:
        for cell, row in zip(cells, rows, strict=True):
            if cell.__class__ is not str:
                self.counts[cell.__class__] = self.counts.get(cell.__class__, 0) + 1
                self._note(cell.__class__, row, displayed(cell))
                if cell.__class__ is DateTime and _MIDNIGHT.fullmatch(cell.displayed):
                    self.midnights += 1
                if cell.unsure is not None:
                    self.unsure.setdefault(cell.unsure, displayed(cell))
                if self._in_workbook and cell.__class__ is Number and abs(cell.value) >= _FIFTEEN_DIGITS:
                    self._hit(ROUNDED, row, displayed(cell))

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
        """Remember one of the first cells of a type; return False if there are enough."""
        first = self.first.setdefault(kind, [])
        if len(first) < FIRST_CELLS:
            first.append((row, text))
        return len(first) < FIRST_CELLS

    @property
    def is_open(self) -> bool:
        """Whether it may get an undeclared type: it contains numbers, or cells that are not strings."""
        return not self.settled and (self.numbers is not None or not self._only_texts)

    @property
    def is_mixed(self) -> bool:
        """Whether it has cells of several types."""
        return len({_KINDS[kind] for kind in self.counts}) > 1

    def type_of_most(self, locale: str) -> str | None:
        """Return the type as which text and numbers in one column are all read; None: there are other types.

        *locale*: the one whose notation fits all of its texts.
        """
        if not self.counts.keys() <= {str, Number}:
            return None
        if locale:
            return number_type(locale)
        return "decimal" if self.counts[Number] >= self.counts[str] else "text"

    def mixture(self) -> str:
        """Name its types, with their first cells."""
        return " and ".join(
            f"{plural(count, 'cell')} of the type {_KINDS[kind]} ({', '.join(_cells(self.first[kind]))})"
            for kind, count in self.counts.items()
        )


def _may_have_ends(joined: str) -> bool:
    """Return whether a cell of a block may begin or end with an invisible character: the block has one."""
    if any(blank in joined for blank in " \t\r\n"):
        return True
    return not joined.isascii() and any(mark in joined for mark in _MARKS)


def _cells(first: Iterable[tuple[int, str]]) -> Iterator[str]:
    """Name cells: ``"n/a" in row 3``."""
    return (f"{quoted(text, 30)} in row {row}" for row, text in first)
