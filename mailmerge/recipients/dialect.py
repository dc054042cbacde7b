"""How a text list is written: what separates and quotes its cells, found by consistency over the whole file.

The start of a file decides if exactly one delimiter makes its rows equally wide: every later row must be as
wide, or is an error. Otherwise the whole file is counted. If two fit equally well, none is chosen.
"""

from __future__ import annotations

import contextlib
import csv
import io
import re
from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any, TextIO

from msgspec import Struct

from mailmerge.errors import ListError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

SAMPLE = 32_768
"""Number of characters at the start that may decide."""
DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "pipe", ",": "comma"}
"""Ordered from the rarest in running text to the most frequent."""
_RARE = {
    "\x1f": "unit separator",
    "\x01": "Ctrl-A",
    "^": "caret",
    "~": "tilde",
    "¦": "broken bar",
    "；": "full-width semicolon",
    "，": "full-width comma",
}
"""Considered only if no common one fits: written manually, by Hive and by old databases."""
_NAMES = {**DELIMITERS, **_RARE, ":": "colon", " ": "blank"}
_STATED = lazy_re(r'\ufeff?"?sep=(?P<sign>[^\r\n"])"?(?:(?P=sign)|\s)*\Z', re.IGNORECASE)
"""The first line that tells Excel the delimiter; neither Excel nor LibreOffice takes it for a row."""
_LOOKED_AT = 60
"""Number of rows, or of lines, that are examined."""
_ADDRESSES_LOOKED_AT = 20
_ESCAPES_LOOKED_FOR = 4 << 20
"""Bytes in which the first escaped quote is searched for: the first row must be available without delay.

One that comes later is an error.
"""
_LONGEST_ADDRESS = 500
_ESCAPED = '\\"'
_ADDRESS = r"(?:[^<>@]*<)?[^\s@,;|^~<>\"]+@[^\s@,;|^~<>\"]+>?"
_ADDRESSES = lazy_re(rf"{_ADDRESS}(?:[,;] *{_ADDRESS})*")
"""Roughly what an address is: with the remains of another delimiter around it, a cell does not match."""


def delimiter_name(sign: str) -> str:
    """Return the name of a delimiter for people: ``semicolon``."""
    return _NAMES.get(sign) or f'"{sign}"'


def read_delimiter(text: str) -> str:
    r"""Read a delimiter as a person writes it: ``;``, ``semicolon``, ``tab``, ``\t``.

    Raises:
        ListError: it is neither a name nor one character that can be a delimiter.

    """
    name = text.strip().casefold()
    found = next((sign for sign, known in _NAMES.items() if known == name), None)
    sign = found or {"\\t": "\t", "space": " "}.get(name) or text
    if len(sign) != 1 or sign in '\r\n"\\\ufffd\0' or sign.isalnum():
        raise ListError(
            f'"{text}" cannot be a delimiter',
            code="D241",
            hint="use comma, semicolon, tab, pipe, or a single character",
        )
    return sign


class Dialect(Struct, frozen=True):
    """How the cells of a text list are separated and quoted."""

    delimiter: str = ","
    one_column: bool = False
    """Whether each row is one cell."""
    quote: str = '"'
    escape: str | None = None
    """A backslash where it escapes quotes inside quoted cells, as in MySQL."""
    spaced: bool = False
    """Whether a space follows each delimiter, also before quotes."""
    stated: bool = False
    """Whether the first line states the delimiter, and is not a row."""

    @property
    def name(self) -> str:
        """The delimiter's name for people."""
        return "one column" if self.one_column else delimiter_name(self.delimiter)

    def reader(self, lines: Iterable[str], *, strict: bool = True) -> Any:
        """Return a csv reader for this dialect."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            skipinitialspace=self.spaced,
            strict=strict,
        )

    def notes(self) -> Iterator[str]:
        """Return what is unusual about it, a sentence each."""
        if self.stated:
            yield f'the first line states that cells are separated by a {self.name} ("sep="); it is not a row'
        if self.quote != '"':
            yield f"cells are quoted by {self.quote}"
        if self.escape:
            yield "quotes inside cells are escaped by a backslash"


def find_dialect(open_text: Callable[[], TextIO], shown: str, asked: str | None = None) -> Dialect:
    """Find out how a list is written.

    Args:
        open_text: opens the list at its start.
        shown: its name in messages.
        asked: the delimiter that the user specifies.

    Raises:
        ListError: two delimiters fit equally well, or the one specified by the user or the file does not fit.
        UnicodeError: the content is not valid in its encoding.

    """
    sign = None if asked is None else read_delimiter(asked)
    with open_text() as file:
        first = file.readline(1000)
        found = _STATED.match(first)
        sample = ("" if found else first) + file.read(SAMPLE)
        whole = not file.read(1)
    stated = found["sign"] if found else None

    def lines() -> Iterator[str]:
        with open_text() as file:
            if found:
                file.readline()
            yield from file

    fits = _ranked(sample, whole=whole)
    if sign is not None or stated is not None:
        delimiter = sign or stated or ""
        _refuse_unfit(delimiter, fits, sample, shown, asked=sign is not None)
        one_column = _Fit(delimiter, sample, whole=whole).width < 2
    else:
        if not whole and not _is_decided(fits):
            for fit in fits:
                fit.count(lines())
            fits = sorted(fits, key=lambda fit: fit.rank, reverse=True)
        if len(fits) > 1 and fits[0].rank == fits[1].rank:
            raise _undecided(fits[0], fits[1], shown)
        delimiter, one_column = _chosen(fits)
        if one_column or _R_HEADINGS.fullmatch(sample.lstrip().partition("\n")[0]):
            _refuse_crammed(sample, shown)
    if one_column:  # its cells may contain characters that are delimiters elsewhere
        delimiter = next((sign for sign in ",;\t|" if not any(sign in line for line in lines())), "\x1f")
    quote, spaced = _quoting(sample, delimiter)
    dialect = Dialect(delimiter, one_column, quote, None, spaced, stated is not None)
    if whole:
        escapes = _ESCAPED in sample
    else:
        with open_text() as file:
            escapes = _has_escapes(file)
    return _with_escapes(dialect, lines) if escapes else dialect


def find_delimiter(text: str) -> tuple[str, bool]:
    """Find the delimiter of text, and whether it has only one column; if two fit, the rarer one."""
    return _chosen(_ranked(text[:SAMPLE], whole=len(text) <= SAMPLE))


def _chosen(fits: list[_Fit]) -> tuple[str, bool]:
    return (fits[0].delimiter, False) if fits else (",", True)


def _ranked(sample: str, *, whole: bool) -> list[_Fit]:
    """Return the delimiters that split the sample into columns, the best first."""
    for signs in (DELIMITERS, _RARE):
        fits = [_Fit(sign, sample, whole=whole) for sign in signs if sign in sample]
        fits = [fit for fit in fits if fit.width > 1 and (not fit.titles or fit.addresses)]
        if signs is _RARE:  # they occur in running text too
            fits = [fit for fit in fits if fit.is_certain]
        if fits:
            return sorted(fits, key=lambda fit: fit.rank, reverse=True)
    return []


def _is_decided(fits: list[_Fit]) -> bool:
    """Return whether later rows cannot change which one is the best."""
    if not fits or fits[0].share < 1:
        return False
    return len(fits) < 2 or fits[0].rank[:2] > fits[1].rank[:2]


def _is_address(cell: str) -> bool:
    return "@" in cell and len(cell) < _LONGEST_ADDRESS and _ADDRESSES.fullmatch(cell) is not None


class _Fit:
    """How well a delimiter fits the content of a file, or its start."""

    def __init__(self, delimiter: str, sample: str, *, whole: bool) -> None:
        self.delimiter = delimiter
        first = list(islice(self._records(io.StringIO(sample, newline="")), _LOOKED_AT))
        self.titles = next((at for at, cells in enumerate(first) if len(cells) > 1), 0)
        """Number of rows of one cell above the first row of several."""
        self._table = first[self.titles :]
        self.count(io.StringIO(sample, newline=""), whole=whole)
        self.addresses = self._has_addresses()
        """Whether a column contains whole addresses."""

    def count(self, lines: Iterable[str], *, whole: bool = True) -> None:
        """Count the widths of the rows; if it is not the *whole* text, the last one may be cut off."""
        found: list[int] = []
        with contextlib.suppress(csv.Error):  # what came before the error counts
            found.extend(map(len, csv.reader(lines, delimiter=self.delimiter)))
        widths = Counter(found if whole or len(found) < 2 else found[:-1])
        widths[1] -= self.titles
        del widths[0]
        self.rows = widths.total()
        self.width = max(widths, key=lambda width: widths[width], default=0)
        if self.width < 2 and self._table:
            self.width = len(self._table[0])
        self.share = widths[self.width] / self.rows if self.rows else 1.0

    @property
    def rank(self) -> tuple[bool, float, int]:
        """The sort key: the greater, the better."""
        return self.addresses, self.share, -self.titles

    @property
    def is_certain(self) -> bool:
        """Whether even a character that also occurs in running text is certainly the delimiter.

        All rows are equally wide, or most of them, with headings and a column of addresses: in the others a
        comma of a sentence is an error.
        """
        if self.share == 1:
            return self.addresses or self.rows > 1
        return self.share > 0.5 and self.addresses and len(self._table[0]) == self.width > 2

    def _records(self, lines: Iterable[str]) -> Iterator[list[str]]:
        try:
            for cells in csv.reader(lines, delimiter=self.delimiter):
                if cells and (cells[0] or any(map(str.strip, cells))):
                    yield cells
        except csv.Error:  # what came before the error counts
            return

    def _has_addresses(self) -> bool:
        """Return whether a column contains whole addresses below the first row."""
        if not self._table:
            return False
        header, rows = self._table[0], [cells for cells in self._table[1:] if len(cells) == self.width]
        rows = rows[:_ADDRESSES_LOOKED_AT]
        for column in range(min(self.width, 200)):
            cells = [cell for row in rows if (cell := row[column].strip())]
            if cells and sum(map(_is_address, cells)) * 2 > len(cells):
                return column >= len(header) or not _is_address(header[column])
        return False


# --- quotes ------------------------------------------------------------------------------------------------


def _quoting(sample: str, delimiter: str) -> tuple[str, bool]:
    """Return the character that quotes cells, and whether a space follows each delimiter."""
    head = next((line for line in sample.splitlines() if line.strip()), "")
    sign = re.escape(delimiter)
    if re.fullmatch(rf"'[^']*'(?:{sign}'[^']*')*\s*", head):
        return "'", False
    spaced = rf'(?:"[^"]*"|[^"{sign}]*)(?:{sign} +(?=[^ ])(?:"[^"]*"|[^"{sign}]*))+'
    return '"', delimiter != " " and re.fullmatch(spaced, head) is not None and f'{delimiter} "' in sample


def _has_escapes(file: TextIO) -> bool:
    """Return whether a list has backslashes before quotes, searching bytes where possible."""
    if not isinstance(file, io.TextIOWrapper) or file.encoding.lower().startswith(("utf-16", "utf-32")):
        return any(_ESCAPED in line for line in file)
    pattern, rest = _ESCAPED.encode(), b""
    for _ in range(_ESCAPES_LOOKED_FOR >> 16):
        block = file.buffer.read(1 << 16)
        # Most lists contain no backslash, and searching for one character is ten times as fast as for two.
        if (b"\\" in block and pattern in block) or (rest == b"\\" and block[:1] == b'"'):
            return True
        rest = block[-1:]
    return False


def _with_escapes(dialect: Dialect, lines: Callable[[], Iterator[str]]) -> Dialect:
    r"""Find out whether ``\"`` is an escaped quote: only if the list can't be read otherwise."""
    escaped = Dialect(
        dialect.delimiter, dialect.one_column, dialect.quote, "\\", dialect.spaced, dialect.stated
    )
    escapable = re.escape(dialect.quote + dialect.delimiter)
    other = re.compile(rf"(?<!\\)(?:\\\\)*\\(?![\\{escapable}\r\n])").search
    if _can_be_read(dialect, lines()) or any(map(other, lines())) or not _can_be_read(escaped, lines()):
        return dialect
    return escaped


def _can_be_read(dialect: Dialect, lines: Iterator[str]) -> bool:
    try:
        widths = Counter(map(len, dialect.reader(lines)))
    except csv.Error:
        return False
    del widths[0]
    return len(widths) < 2


# --- columns that no delimiter separates -------------------------------------------------------------------
#
# Spreadsheet programs quote whole rows if a CSV file was opened as one column and saved, R separates by
# spaces, and database clients align columns. Each of them would be a list of one column that no template can
# use.

_R_HEADINGS = lazy_re(r'"[^"]*"(?: "[^"]*")+\s*')
"""Quoted headings with spaces between them: in no other dialect may text follow a closing quote."""
_IN_R = 'in R: write.csv(people, "people.csv", row.names = FALSE)'
_HEADING_WORD = lazy_re(r"\S+(?: \S+)*")
_EXPORT_AGAIN = "export the list as CSV from the original program"


def _inner_rows(sample: str) -> str | None:
    """Return the text in the quotes of rows that are quoted as a whole; None: not all of them are."""
    lines = [line for line in sample.splitlines() if line.strip()][:_LOOKED_AT]
    if len(lines) < 2 or not all(line[0] == line[-1] == '"' for line in map(str.strip, lines)):
        return None
    rows = [cells for cells in csv.reader(lines, delimiter="\x1f") if cells]
    return "\n".join(cells[0] for cells in rows) if all(len(cells) == 1 for cells in rows) else None


def _blank_separated(sample: str) -> tuple[int, str] | None:
    """Return the number of columns and what to do about them if spaces separate them; None: they do not.

    The last line of the *sample* may be cut off.
    """
    lines = [line for line in sample.splitlines() if line.strip()][:_LOOKED_AT]
    head, body = lines[0] if lines else "", [line for line in lines[1:] if "@" in line]
    if not body or "@" in head or any(_is_address(line.strip()) for line in body):
        return None
    aligned = _aligned(head, body)
    if aligned:
        hint = f"{_EXPORT_AGAIN}; or open it in a spreadsheet program as text of fixed width, and save it"
        return aligned, hint
    headings = _cells(head)
    rows = [_cells(line) for line in body]
    width, widths = len(headings), {len(cells) for cells in rows}
    if width < 2 or len(widths) != 1 or not widths <= {width, width + 1}:
        return None
    more = widths.pop() - width
    columns = [at for at in range(width + more) if all(_is_address(cells[at]) for cells in rows)]
    if not columns:
        return None
    return width, f"{_EXPORT_AGAIN} ({_IN_R})" + ("" if more else "; --delimiter blank reads it as it is")


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True), [])


def _aligned(head: str, body: Sequence[str]) -> int:
    """Return the number of columns if the addresses begin below one of several headings; else 0."""
    starts = [word.start() for word in _HEADING_WORD.finditer(head)]
    if len(starts) < 2:
        return 0
    places = {line.rfind(" ", 0, line.index("@")) + 1 for line in body}
    return len(starts) if len(places) == 1 and places <= set(starts) and "\t" not in head else 0


# --- what cannot be decided --------------------------------------------------------------------------------


def _undecided(one: _Fit, other: _Fit, shown: str) -> ListError:
    names = [delimiter_name(fit.delimiter) for fit in (one, other)]
    options = " or ".join(f"--delimiter {name}" for name in names)
    return ListError(
        f"{shown} can be read with a {names[0]} between its cells, which makes {one.width} columns, "
        f"or with a {names[1]}, which makes {other.width}",
        code="D240",
        hint=f"specify which one it is: {options}",
        place=Place(path=shown),
    )


def _refuse_crammed(sample: str, shown: str) -> None:
    """Refuse a list whose columns would be read as one cell."""
    found = _blank_separated(sample)
    if found:
        message = f"{shown} has {found[0]} columns that are separated by spaces, and would be read as one"
        raise ListError(message, code="D245", hint=found[1], place=Place(path=shown, line=1))
    rows = _inner_rows(sample)
    fits = _ranked(rows, whole=True) if rows else []
    if fits and fits[0].share == 1 and fits[0].addresses and not fits[0].titles:
        raise ListError(
            f"each row of {shown} is one quoted cell, with {fits[0].width} columns in it that are separated "
            f"by a {delimiter_name(fits[0].delimiter)}",
            code="D245",
            hint=f'{_EXPORT_AGAIN}; or remove the quotes around each row, and write "" inside it as "',
            place=Place(path=shown, line=1),
        )


def _refuse_unfit(sign: str, fits: list[_Fit], sample: str, shown: str, *, asked: bool) -> None:
    """Refuse a specified delimiter that makes a single column of a list that another one fits."""
    if sign in sample or not fits or fits[0].share < 1:
        return
    right = delimiter_name(fits[0].delimiter)
    who = "you specified it" if asked else 'its first line specifies it ("sep=")'
    hint = f"--delimiter {right}" if asked else f"correct the first line, or --delimiter {right}"
    raise ListError(
        f"the cells of {shown} are not separated by a {delimiter_name(sign)}, although {who}: it has "
        f"{fits[0].width} columns separated by a {right}",
        code="D241",
        hint=hint,
        place=Place(path=shown, line=None if asked else 1),
    )
