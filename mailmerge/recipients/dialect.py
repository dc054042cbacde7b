"""How a text list is written: what separates and quotes its cells, found by consistency over the whole file.

The start of a file decides where one delimiter alone makes its rows equally wide: every later row has to be
as wide, or is an error. Else the whole file is counted. Where two fit equally well nothing is chosen.
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
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

SAMPLE = 32_768
"""Characters that decide, if they can."""
DELIMITERS = {"\t": "tab", ";": "semicolon", "|": "pipe", ",": "comma"}
"""The rarer in running text, the earlier."""
_RARE = {
    "\x1f": "unit separator",
    "\x01": "Ctrl-A",
    "^": "caret",
    "~": "tilde",
    "¦": "broken bar",
    "；": "full-width semicolon",
    "，": "full-width comma",
}
"""Looked at where no common one fits: they are written by hand, by Hive and by old databases."""
_NAMES = {**DELIMITERS, **_RARE, ":": "colon", " ": "blank"}
_STATED = re.compile(r'\ufeff?"?sep=(?P<sign>[^\r\n"])"?(?:(?P=sign)|\s)*\Z', re.IGNORECASE)
"""The first line by which Excel is told the delimiter; it is no row, in Excel and LibreOffice alike."""
_LOOKED_AT = 60
"""Rows whose cells are looked at."""
_ADDRESSES_LOOKED_AT = 20
_ESCAPES_LOOKED_FOR = 4 << 20
"""Bytes in which the first escaped quote is looked for: the first row has to be there at once. One that comes
later is an error."""
_LONGEST_ADDRESS = 500
_ESCAPED = '\\"'
_ADDRESS = r"(?:[^<>@]*<)?[^\s@,;|^~<>\"]+@[^\s@,;|^~<>\"]+>?"
_ADDRESSES = re.compile(rf"{_ADDRESS}(?:[,;] *{_ADDRESS})*").fullmatch
"""About what an address is: what a cell of another delimiter has around it is none."""


def delimiter_name(sign: str) -> str:
    """Name a delimiter for people: ``semicolon``."""
    return _NAMES.get(sign) or f'"{sign}"'


def read_delimiter(text: str) -> str:
    r"""Read a delimiter as a person says it: ``;``, ``semicolon``, ``tab``, ``\t``.

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
            hint="use comma, semicolon, tab, pipe, or one sign",
        )
    return sign


class Dialect(Struct, frozen=True):
    """How the cells of a text list are separated and quoted."""

    delimiter: str = ","
    one_column: bool = False
    """Whether each row is one cell."""
    quote: str = '"'
    escape: str | None = None
    """A backslash, where quotes inside of quoted cells are escaped by it, as MySQL does."""
    spaced: bool = False
    """Whether a blank follows each delimiter, also before quotes."""
    stated: bool = False
    """Whether the first line says what the delimiter is, and is no row."""

    @property
    def name(self) -> str:
        """The delimiter in words."""
        return "one column" if self.one_column else delimiter_name(self.delimiter)

    def reader(self, lines: Iterable[str], *, strict: bool = True) -> Any:
        """Take records apart."""
        return csv.reader(
            lines,
            delimiter=self.delimiter,
            quotechar=self.quote,
            escapechar=self.escape,
            skipinitialspace=self.spaced,
            strict=strict,
        )

    def notes(self) -> Iterator[str]:
        """Say what is unusual about it."""
        if self.stated:
            yield f'the first line says that cells are separated by a {self.name} ("sep="); it is no row'
        if self.quote != '"':
            yield f"cells are quoted by {self.quote}"
        if self.escape:
            yield "quotes inside of cells are escaped by a backslash"


def find_dialect(open_text: Callable[[], TextIO], shown: str, asked: str | None = None) -> Dialect:
    """Find out how a list is written.

    Args:
        open_text: opens the list from its start.
        shown: its name in messages.
        asked: the delimiter that the user names.

    Raises:
        ListError: two delimiters fit equally well, or the one that is asked for or stated does not fit.
        UnicodeError: it is not in its encoding.

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
    if one_column:  # its cells may contain what is a delimiter elsewhere
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
    """Find the delimiter of a text, and whether there is but one column; where two fit, the rarer one."""
    return _chosen(_ranked(text[:SAMPLE], whole=len(text) <= SAMPLE))


def _chosen(fits: list[_Fit]) -> tuple[str, bool]:
    return (fits[0].delimiter, False) if fits else (",", True)


def _ranked(sample: str, *, whole: bool) -> list[_Fit]:
    """Give the delimiters by which the sample has columns, the best first."""
    for signs in (DELIMITERS, _RARE):
        fits = [_Fit(sign, sample, whole=whole) for sign in signs if sign in sample]
        fits = [fit for fit in fits if fit.width > 1 and (not fit.titles or fit.addresses)]
        if signs is _RARE:  # they are in running text, too
            fits = [fit for fit in fits if fit.is_certain]
        if fits:
            return sorted(fits, key=lambda fit: fit.rank, reverse=True)
    return []


def _is_decided(fits: list[_Fit]) -> bool:
    """Tell whether no later row can change which one is the best."""
    if not fits or fits[0].share < 1:
        return False
    return len(fits) < 2 or fits[0].rank[:2] > fits[1].rank[:2]


def _is_address(cell: str) -> bool:
    return "@" in cell and len(cell) < _LONGEST_ADDRESS and _ADDRESSES(cell) is not None


class _Fit:
    """What a delimiter makes of a text, or of its start."""

    def __init__(self, delimiter: str, sample: str, *, whole: bool) -> None:
        self.delimiter = delimiter
        first = list(islice(self._records(io.StringIO(sample, newline="")), _LOOKED_AT))
        self.titles = next((at for at, cells in enumerate(first) if len(cells) > 1), 0)
        """Rows of one cell above the first row of several."""
        self._table = first[self.titles :]
        self.count(io.StringIO(sample, newline=""), whole=whole)
        self.addresses = self._has_addresses()
        """Whether a column has whole addresses."""

    def count(self, lines: Iterable[str], *, whole: bool = True) -> None:
        """Count how wide the rows are; where it is not the *whole* text, the last one may be cut off."""
        found: list[int] = []
        with contextlib.suppress(csv.Error):  # what came before counts
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
        """What makes it better than another."""
        return self.addresses, self.share, -self.titles

    @property
    def is_certain(self) -> bool:
        """Whether even a sign that running text has too can be nothing else.

        All rows are equally wide, or most of them, with headings and a column of addresses: a comma of a
        sentence in the others is an error of theirs.
        """
        if self.share == 1:
            return self.addresses or self.rows > 1
        return self.share > 0.5 and self.addresses and len(self._table[0]) == self.width > 2

    def _records(self, lines: Iterable[str]) -> Iterator[list[str]]:
        try:
            for cells in csv.reader(lines, delimiter=self.delimiter):
                if cells and (cells[0] or any(map(str.strip, cells))):
                    yield cells
        except csv.Error:  # what came before counts
            return

    def _has_addresses(self) -> bool:
        """Tell whether there is a column of whole addresses under the first row."""
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
    """Give the sign that quotes cells, and whether a blank follows each delimiter."""
    head = next((line for line in sample.splitlines() if line.strip()), "")
    sign = re.escape(delimiter)
    if re.fullmatch(rf"'[^']*'(?:{sign}'[^']*')*\s*", head):
        return "'", False
    spaced = rf'(?:"[^"]*"|[^"{sign}]*)(?:{sign} +(?=[^ ])(?:"[^"]*"|[^"{sign}]*))+'
    return '"', delimiter != " " and re.fullmatch(spaced, head) is not None and f'{delimiter} "' in sample


def _has_escapes(file: TextIO) -> bool:
    """Tell whether a list has backslashes before quotes, searching in bytes where that is possible."""
    if not isinstance(file, io.TextIOWrapper) or file.encoding.lower().startswith(("utf-16", "utf-32")):
        return any(_ESCAPED in line for line in file)
    pattern, rest = _ESCAPED.encode(), b""
    for _ in range(_ESCAPES_LOOKED_FOR >> 16):
        block = file.buffer.read(1 << 16)
        # There is mostly no backslash at all, and one sign is found ten times as quickly as two.
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


# --- what cannot be decided --------------------------------------------------------------------------------


def _undecided(one: _Fit, other: _Fit, shown: str) -> ListError:
    names = [delimiter_name(fit.delimiter) for fit in (one, other)]
    options = " or ".join(f"--delimiter {name}" for name in names)
    return ListError(
        f"{shown} can be read with a {names[0]} between its cells, which makes {one.width} columns, "
        f"or with a {names[1]}, which makes {other.width}",
        code="D240",
        hint=f"say which one it is: {options}",
        place=Place(path=shown),
    )


def _refuse_unfit(sign: str, fits: list[_Fit], sample: str, shown: str, *, asked: bool) -> None:
    """Refuse a delimiter that is named where it makes one column of a list that another one fits."""
    if sign in sample or not fits or fits[0].share < 1:
        return
    right = delimiter_name(fits[0].delimiter)
    who = "it is asked for" if asked else 'its first line says so ("sep=")'
    hint = f"--delimiter {right}" if asked else f"correct the first line, or --delimiter {right}"
    raise ListError(
        f"no cells of {shown} are separated by a {delimiter_name(sign)}, although {who}: it has "
        f"{fits[0].width} columns separated by a {right}",
        code="D241",
        hint=hint,
        place=Place(path=shown, line=None if asked else 1),
    )
