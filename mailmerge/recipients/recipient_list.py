"""What all lists have in common: a header row, and records (cells as read) that become recipients.

A problem with the list itself raises `ListError`. A problem with one cell makes one row unusable: it is
reported in ``Recipient.problems``, and the list continues.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.errors import CampaignFileError, ListError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import KEY_COLUMN, MARK_COLUMN, OWN_COLUMNS, Columns, Diagnostic, Place, Recipient
from mailmerge.recipients.types import cell_type
from mailmerge.text import HALF_A_CHARACTER, did_you_mean, trimmed
from mailmerge.values import canonical, displayed

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping, Sequence
    from pathlib import Path

    from mailmerge.recipients.types import CellType
    from mailmerge.recipients.understanding import ColumnsSeen, Understanding
    from mailmerge.values import Cell

LEFT_OUT = "D202"
"""A row that is not a recipient."""
NO_RESULT = "#N/A"
"""Replaces a formula that was never calculated: an empty cell would hide that something is missing."""
MAX_PROBLEMS = 20
"""The number of problems that are collected before reading stops."""

MAX_CELL = 131_072
"""Most characters in a cell. Spreadsheets allow 32,767; this is the default limit of the csv module."""
MAX_COLUMNS = 16_384
"""As many columns as a sheet has."""
_MAX_HEADING = 1000

_ADDRESS = lazy_re(r"(?:[^@\s]+@[^@\s]+\.[^@\s.]+|[^<>@]*<[^@\s<>]+@[^@\s<>]+\.[^@\s.<>]+>)\Z")
"""An address alone, or with a name before it."""


# --- the header ----------------------------------------------------------------------------------------


class HeaderRow(Struct, frozen=True):
    """The header row as read, and which of its columns count."""

    row: int
    width: int
    """The cells of the header row as in the file."""
    columns: Columns
    kept: tuple[int, ...]
    """Positions of *columns* in the row, from 0."""
    unnamed: tuple[int, ...]
    """Positions without a heading: their cells must be empty."""
    own: Mapping[str, int] = field(default_factory=dict)
    """Positions of the extra columns of a file of failed rows: not part of the list."""
    above: tuple[tuple[int, str], ...] = ()
    """Rows with content above the headings, which are not part of the list: number and text, shortened."""
    upper: int = 0
    """The number of the row above with the headings of other columns; 0: all are in one row."""

    @property
    def whole(self) -> bool:
        """Whether every cell of a row is kept."""
        return len(self.kept) == self.width


def template_name(heading: str) -> str:
    """Turn a heading into its name in templates: ``First Name`` becomes ``first_name``."""
    kept = "".join(char if f"a{char}".isidentifier() else " " for char in heading.lower())
    name = "_".join(kept.split())
    return f"_{name}" if name[:1].isdigit() or (name and not name.isidentifier()) else name


def read_header(
    cells: Sequence[str],
    row: int,
    place: Callable[[int], Place],
) -> tuple[HeaderRow, list[Diagnostic]]:
    """Determine the columns; *place* returns the place of the cell at a position.

    The problems are returned, not raised, so that the reader can report them with others.
    """
    kept: list[int] = []
    unnamed: list[int] = []
    own: dict[str, int] = {}
    headings: list[str] = []
    names: dict[str, str] = {}
    problems: list[Diagnostic] = []
    if len(cells) > MAX_COLUMNS or any(len(cell) > _MAX_HEADING for cell in cells):
        return HeaderRow(row, 0, Columns((), ()), (), ()), [_beyond(cells, row, place)]
    for position, cell in enumerate(cells):
        heading = _composed(cell)
        if not heading:
            unnamed.append(position)
            continue
        name = template_name(heading) or f"column_{position + 1}"
        if name in OWN_COLUMNS:
            own[name] = position
            continue
        if _ADDRESS.match(heading):
            problems.append(_no_header(heading, row, place(position)))
        elif name in names:
            problems.append(_collision(names[name], heading, name, row, place(position)))
        kept.append(position)
        headings.append(heading)
        names.setdefault(name, heading)
    columns = Columns(tuple(headings), tuple(names))
    return HeaderRow(row, len(cells), columns, tuple(kept), tuple(unnamed), own), problems


def _composed(text: str) -> str:
    """Fold spaces, strip invisible characters from the ends, and compose letters with marks (NFC)."""
    text = " ".join(text.split())
    if text.isascii():
        return text
    import unicodedata

    return unicodedata.normalize("NFC", trimmed(text))


def find_column(columns: Columns, wanted: str, option: str) -> int:
    """Return the position of the column that an option names by heading or by template name.

    Raises:
        CampaignFileError: the list has no such column.

    """
    heading = _composed(wanted)
    if heading in columns.headings:
        return columns.headings.index(heading)
    name = template_name(heading)
    if name in columns.names:
        return columns.names.index(name)
    guess = did_you_mean(name, columns.names) or did_you_mean(heading, columns.headings)
    listed = f"the list has: {', '.join(columns.names)}"
    raise CampaignFileError(
        f"`{option}` names the column {wanted!r}, which the list does not have",
        code="C420",
        hint=f"{guess} {listed}" if guess else listed,
    )


def read_columns(columns: Columns, options: Options, names: frozenset[str]) -> frozenset[int]:
    """Return the positions of the columns that are read: those with these *names*, an option's, or all.

    A template that uses ``row`` may read every column.
    """
    if "row" in names:
        return frozenset(range(len(columns.names)))
    named = [*options.types, *options.defaults, *([options.key] if options.key else [])]
    by_option = {find_column(columns, name, "data") for name in named}
    return frozenset(
        at
        for at, (heading, name) in enumerate(zip(columns.headings, columns.names, strict=True))
        if at in by_option or heading in names or name in names
    )


def _beyond(cells: Sequence[str], row: int, place: Callable[[int], Place]) -> Diagnostic:
    if len(cells) > MAX_COLUMNS:
        message = f"row {row} has {len(cells):,} cells; a list may have at most {MAX_COLUMNS:,} columns"
        return Diagnostic(code="D164", message=message, hint=_REALLY_HEADINGS, place=place(0), row=row)
    at = next(at for at, cell in enumerate(cells) if len(cell) > _MAX_HEADING)
    message = f'"{cells[at][:40]}…" has {len(cells[at]):,} characters; at most {_MAX_HEADING:,} can be used'
    return Diagnostic(code="D164", message=message, hint=_REALLY_HEADINGS, place=place(at), row=row)


_REALLY_HEADINGS = "the first row must contain the headings: is it a table of people?"


def _no_header(heading: str, row: int, place: Place) -> Diagnostic:
    return Diagnostic(
        code="D102",
        message=f'row {row} should contain the headings, but "{heading}" is an address',
        hint='put a row with headings first, such as "email" and "name"',
        place=place,
        row=row,
    )


def _collision(first: str, second: str, name: str, row: int, place: Place) -> Diagnostic:
    if first == second:
        message = f'two columns have the heading "{second}"'
    else:
        message = f'the headings "{first}" and "{second}" are both `{name}` in templates'
    return Diagnostic(code="D107", message=message, hint="rename one of them", place=place, row=row)


# --- the rows ------------------------------------------------------------------------------------------


class CellError(Struct, frozen=True, tag=True, array_like=True):
    """A cell that no template may use, and the text that replaces it."""

    code: str
    message: str
    hint: str
    shown: str


def long_cell(text: str) -> CellError:
    """Return the `CellError` for a cell that is too long to be used."""
    message = f"a cell of {len(text):,} characters; at most {MAX_CELL:,} can be used"
    return CellError("D109", message, "shorten it", f"{text[:40]}…")


class SheetCell(Struct, frozen=True):
    """A cell as a workbook stores it: the plain value, its type in the file, and its number format."""

    value: object
    kind: str
    """The type as in openpyxl: ``s`` text, ``n`` number, ``b`` boolean, ``d`` date or time, ``e`` error."""
    number_format: str = "General"


Record = tuple[int, int | None, "Sequence[Cell | CellError]"]
"""Row number, line in the file (None where there are no lines), cells."""


class MarkedRow(Struct, frozen=True):
    """A row as in the file, and what shows whether it was edited since it was written as a failed one."""

    row: int
    line: int | None
    cells: Sequence[Cell | CellError]
    """All cells, as wide as the header row."""
    mark: str
    """Hash of its present cells."""
    key: str = ""
    """The key in our columns, if the list has them: whose row this is."""
    written: str = ""
    """The mark of the row as we wrote it; empty: we did not write it."""
    origin: str = ""
    """The mark that the row had in the campaign's list: a different one if it was a correction already."""


class LeftOut(Protocol):
    """Rows that are not recipients."""

    def warnings(self) -> list[Diagnostic]:
        """Return warnings that name the rows."""

    def notes(self) -> list[str]:
        """Return how many they are, a sentence for each kind."""


class Options(Struct, frozen=True):
    """What the campaign file specifies about the columns of its list."""

    key: str | None = None
    types: Mapping[str, str] = field(default_factory=dict)
    defaults: Mapping[str, str] = field(default_factory=dict)


class _ColumnReader(Struct, frozen=True):
    """How the cells of one column become values."""

    position: int
    type: CellType | None
    default: Cell | None


class RecipientList(ABC):
    """A list of recipients: can be iterated again, and streams from its file each time.

    Iterating raises `ListError` for what is wrong with the list as a whole.
    """

    path: Path
    shown: str
    """The name of the list in messages."""
    columns: Columns
    understanding: Understanding
    """How the list was read, as far as that is known before its rows are read."""
    warnings: tuple[Diagnostic, ...] = ()
    """What the user should know about how the list was read."""
    blank_rows: int = 0
    """Blank rows skipped so far in the latest iteration."""
    hidden_rows: int = 0
    """Hidden rows left out so far in the latest iteration."""
    addresses: tuple[str, ...] = ()
    """The headings of the columns with addresses, the likeliest first, as far as the first rows show."""
    hidden_columns: frozenset[str] = frozenset()
    """The names of the columns that a workbook hides."""
    others: LeftOut | None = None
    """The detector of rows that are not recipients; None: each row is a recipient."""
    sheet: str = ""
    """The name of a workbook's sheet; empty: this list is not in a workbook."""
    only_texts = False
    """Whether all of its cells are strings."""

    def __init__(self, path: Path, shown: str, header: HeaderRow, options: Options) -> None:
        self.path = path
        self.shown = shown
        self.columns = header.columns
        self.header = header
        self.options = options
        self._key = None if options.key is None else find_column(self.columns, options.key, "data.key")
        self._plain = header.whole and not (options.key or options.types or options.defaults)
        self._plan = self._columns(options)
        self._typed = (
            tuple((column.position, column.type.read) for column in self._plan if column.type)
            if self.only_texts and header.whole and not options.defaults
            else None
        )
        """How strings are converted if each column is kept and none has a default."""
        self._unchanged = header.whole and not (options.types or options.defaults)
        """Whether all cells of a row are its values, unless one is an error."""
        self._unread: frozenset[int] = frozenset()

    def reads(self, names: frozenset[str]) -> None:
        """Set which names and headings are read: a damaged cell elsewhere does not make its row invalid."""
        read = read_columns(self.columns, self.options, names)
        self._unread = frozenset(
            position for index, position in enumerate(self.header.kept) if index not in read
        )

    @property
    def header_row(self) -> int:
        """The number of the row with the headings."""
        return self.header.row

    @abstractmethod
    def _records(self) -> Iterator[Record]:
        """Yield the records below the header, blank ones left out, each as wide as the header."""

    def about_rows(self) -> int:
        """Return roughly how many rows there are, without parsing them; 0: unknown."""
        return 0

    @abstractmethod
    def _place(self, row: int, line: int | None, position: int) -> Place:
        """Return the place of a cell in the user's terms."""

    def __iter__(self) -> Iterator[Recipient]:
        self.blank_rows = self.hidden_rows = 0
        row, columns, typed, key = 0, self.columns, self._typed, self._key
        for record in self._records():
            row, _, cells = record
            if typed is None or cells.__class__ is not list:
                yield self._recipient(record)
                continue
            # Only strings, as in text lists: the fast path, unless a cell does not fit its type. The list
            # belongs to the record; cells that were converted before that one stay as they are.
            values: list[Any] = cells
            try:
                for at, read in typed:
                    cell = values[at]
                    if cell:
                        values[at] = read(cell)
            except ValueError:
                yield self._recipient(record)
                continue
            if key is None:
                yield Recipient(row, columns, tuple(values))
            else:
                problems: list[Diagnostic] = []
                found = self._key_of(row, record[1], values, problems)
                yield Recipient(row, columns, tuple(values), found, tuple(problems))
        if not row:
            raise self._no_rows()

    def _no_rows(self) -> ListError:
        left_out = f" ({self.hidden_rows} hidden rows left out)" if self.hidden_rows else ""
        return ListError(
            f"{self.shown} has headings but no rows{left_out}",
            code="D102",
            hint="each row below the headings is one recipient",
            place=Place(path=self.shown),
        )

    def watched(self, seen: ColumnsSeen) -> Iterator[Recipient]:
        """Yield the rows; *seen* examines their cells."""
        for recipient in self:
            seen.see(recipient.values)
            yield recipient

    def understood(self, seen: ColumnsSeen) -> Understanding:
        """Return how the list was understood, once all rows have been *seen*."""
        found = replace(
            self.understanding,
            heading_row=self.header_row,
            upper=self.header.upper,
            above=self.header.above,
            rows=seen.rows,
            blank=self.blank_rows,
            hidden=self.hidden_rows,
            columns=seen.columns(),
        )
        return found.noting(*self.others.notes()) if self.others else found

    def _tell_others(self) -> None:
        """Report which rows were left out, once all have been read."""
        if self.others is not None:
            kept = (warning for warning in self.warnings if warning.code != LEFT_OUT)
            self.warnings = (*kept, *self.others.warnings())

    def originals(self, rows: Container[int]) -> Iterator[tuple[int, tuple[Cell, ...]]]:
        """Yield the chosen rows with the list's own cells: no types or defaults applied."""
        for row, _, cells in self._records():
            if row in rows:
                found = (cells[position] for position in self.header.kept)
                yield row, tuple(cell.shown if isinstance(cell, CellError) else cell for cell in found)

    @property
    def files(self) -> tuple[Path, ...]:
        """The files that its rows come from."""
        return (self.path,)

    @property
    def campaign_list(self) -> str:
        """The name of the campaign's list: a different one if this list selects rows of it."""
        return self.shown

    @property
    def is_failed_file(self) -> bool:
        """Whether this is a file of failed rows."""
        return KEY_COLUMN in self.header.own and MARK_COLUMN in self.header.own

    def marked(self) -> Iterator[MarkedRow]:
        """Yield the rows as in the file, with what shows whether they were edited."""
        names, kept = self.columns.names, self.header.kept
        key_at, mark_at = (self.header.own.get(name) for name in (KEY_COLUMN, MARK_COLUMN))
        for row, line, cells in self._records():
            mark = row_mark(names, [_shown(cells[position]) for position in kept])
            if key_at is None or mark_at is None:
                yield MarkedRow(row, line, cells, mark)
                continue
            written, _, origin = _shown(cells[mark_at]).strip().partition("-")
            key = self._own_text(_shown(cells[key_at]))
            yield MarkedRow(row, line, cells, mark, key, written, origin or written)

    def _own_text(self, cell: str) -> str:
        """Return the text of a cell in one of our columns: in a workbook it is unchanged."""
        return cell

    def place(self, row: int, line: int | None, position: int) -> Place:
        """Return the place of a cell in the user's terms, by *position* in the header row; -1: the row."""
        return self._place(row, line, position)

    def origin(self, row: int) -> str:  # noqa: ARG002  see `FailedList`
        """Return the mark that a corrected row had in the campaign's list; empty for any other row."""
        return ""

    def own_cells(self, name: str) -> list[str] | None:
        """Return the texts of an extra column of a file of failed rows; None: the list has no such column."""
        position = self.header.own.get(name)
        if position is None:
            return None
        return [_shown(cells[position]) for _, _, cells in self._records()]

    def copies(self, rows: Container[int]) -> Iterator[tuple[int, tuple[SheetCell, ...]]]:
        """Yield the chosen rows for a workbook: with its types and formats, or as strings."""
        for row, cells in self.originals(rows):
            yield row, tuple(SheetCell(displayed(cell), "s") for cell in cells)

    def _columns(self, options: Options) -> tuple[_ColumnReader, ...]:
        types: dict[int, CellType] = {}
        for name, spec in options.types.items():
            types[find_column(self.columns, name, f"data.types.{name}")] = cell_type(spec, name)
        defaults: dict[int, Cell] = {}
        for name, text in options.defaults.items():
            index = find_column(self.columns, name, f"data.defaults.{name}")
            defaults[index] = types[index].default(text, name) if index in types else text
        return tuple(
            _ColumnReader(position, types.get(index), defaults.get(index))
            for index, position in enumerate(self.header.kept)
        )

    def _recipient(self, record: Record) -> Recipient:
        row, line, cells = record
        problems: list[Diagnostic] = []
        if self._unchanged and CellError not in map(type, cells):
            found: list[Any] = list(cells[: len(self._plan)])
            return Recipient(
                row, self.columns, tuple(found), self._key_of(row, line, found, problems), tuple(problems)
            )
        values: list[Cell] = []
        for column in self._plan:
            cell = cells[column.position]
            if isinstance(cell, CellError):
                if column.position not in self._unread:
                    place = self._place(row, line, column.position)
                    problems.append(Diagnostic(cell.code, cell.message, cell.hint, place=place, row=row))
                values.append(cell.shown)
            elif isinstance(cell, str) and not trimmed(cell):
                values.append(cell if column.default is None else column.default)
            elif column.type is None:
                values.append(cell)
            else:
                try:
                    values.append(column.type.read(trimmed(cell) if isinstance(cell, str) else cell))
                except ValueError:
                    place = self._place(row, line, column.position)
                    problems.append(column.type.misfit(cell, place, row))
                    values.append(displayed(cell))
        return Recipient(
            row, self.columns, tuple(values), self._key_of(row, line, values, problems), tuple(problems)
        )

    def _key_of(
        self,
        row: int,
        line: int | None,
        values: Sequence[Cell],
        problems: list[Diagnostic],
    ) -> str | None:
        if self._key is None:
            return None
        key = trimmed(canonical(values[self._key]))
        writable = key.encode("utf-8", "replace").decode()
        if key and key == writable:
            return key
        what = f"contains {HALF_A_CHARACTER}" if key else "is empty"
        problems.append(
            Diagnostic(
                code="D118" if key else "D133",
                message=f'the key column "{self.columns.headings[self._key]}" {what}',
                hint="every row needs its own key: it records who has been written to",
                place=self._place(row, line, self.header.kept[self._key]),
                row=row,
            ),
        )
        return writable


def _shown(cell: Cell | CellError) -> str:
    return cell.shown or NO_RESULT if isinstance(cell, CellError) else canonical(cell)


def row_mark(names: Iterable[str], texts: Iterable[str]) -> str:
    """Return the hash of the canonical texts of a row, by the names of their columns, ignoring spaces."""
    found = sorted(
        f"{name}\x1f{' '.join(text.split())}" for name, text in zip(names, texts, strict=True) if text.strip()
    )
    return hashlib.sha256("\x1e".join(found).encode("utf-8", "surrogatepass")).hexdigest()[:16]


def list_error(shown: str, problems: Sequence[Diagnostic]) -> ListError:
    """Combine all problems that were found together into one error."""
    first = problems[0]
    if len(problems) == 1:
        return ListError(first.message, code=first.code, hint=first.hint, place=first.place, row=first.row)
    least = "at least " if len(problems) >= MAX_PROBLEMS else ""
    return ListError(
        f"{shown} has {least}{len(problems)} problems; the first: {first.message}",
        code=first.code,
        hint=first.hint,
        place=first.place,
        row=first.row,
        problems=problems,
    )
