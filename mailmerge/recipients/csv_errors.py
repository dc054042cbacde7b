"""Explains what is wrong with a text list.

This is the slow path: it may read the file again to find the line and byte, and what the author meant.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from mailmerge.model import Diagnostic, Place, Severity
from mailmerge.recipients.address_column import has_address
from mailmerge.recipients.encodings import ADVICE, hint_of, is_mixed, likely_of, unclear, words_of
from mailmerge.recipients.recipient_list import MAX_CELL, MAX_PROBLEMS, CellError, list_error, long_cell
from mailmerge.text import excerpt, plural, quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mailmerge.errors import ListError
    from mailmerge.recipients.dialect import Dialect

_CELL_END = re.compile(rb"[,;|\t\"\r\n]")


def ragged_rows(
    rows: Sequence[tuple[int, int, list[str]]], width: int, dialect: Dialect, address: int, shown: str
) -> list[Diagnostic]:
    """Report rows with more or fewer cells than the header row, and the cause where it can be found.

    Args:
        rows: the rows, with number and line.
        width: the number of cells in the header row.
        dialect: how the list is written.
        address: the position of the address column; -1: unknown.
        shown: the list's name in messages.

    """
    if _have_row_names(rows, width, address):
        row, line, cells = rows[0]
        return [
            Diagnostic(
                code="D101",
                message=f"the rows have {len(cells)} cells, the row of headings has {width}: "
                "they begin with a number that has no heading",
                hint='write it without row names (in R: row.names = FALSE), or begin the header with "no"',
                place=Place(path=shown, line=line),
                row=row,
            )
        ]
    found: list[Diagnostic] = []
    broken = False
    for at, (row, line, cells) in enumerate(rows):
        if broken:  # it continues the previous row
            broken = False
            continue
        following = rows[at + 1] if at + 1 < len(rows) else None
        broken = bool(
            following
            and following[0] == row + 1
            and len(cells) + len(following[2]) - 1 == width
            and not has_address("".join(following[2][address : address + 1]))
        )
        place = Place(path=shown, line=line)
        if broken and following:
            text = f"{cells[-1][-20:]}⏎{following[2][0][:20]}"
            found.append(
                Diagnostic(
                    code="D101",
                    message=f"this row and the next have {len(cells)} and {len(following[2])} cells, "
                    f"the row of headings has {width}: one row with a line break in a cell",
                    hint=f"quote the cell, or remove the line break: {dialect.quote}{excerpt(text)}"
                    f"{dialect.quote}",
                    place=place,
                    row=row,
                )
            )
        else:
            found.append(_ragged(cells, width, dialect, address, place, row))
    return found


def _have_row_names(rows: Sequence[tuple[int, int, list[str]]], width: int, address: int) -> bool:
    """Return whether each row begins with one more cell, a row number: R writes tables this way."""
    if len(rows) < 2 or any(len(cells) != width + 1 for _, _, cells in rows):
        return False
    steps = {row - int(cells[0]) if cells[0].isdecimal() else None for row, _, cells in rows}
    at_address = address < 0 or all("@" in cells[address + 1] for _, _, cells in rows)
    return len(steps) == 1 and None not in steps and at_address


def _ragged(
    cells: Sequence[str], width: int, dialect: Dialect, address: int, place: Place, row: int
) -> Diagnostic:
    sign, name = dialect.delimiter, dialect.name
    if len(cells) > width:
        joined = _joined(cells, width, sign, address)
        text = f"{dialect.quote}{excerpt(joined or f'gold{sign} yearly')}{dialect.quote}"
        hint = f"does a cell contain a {name}? Then quote it: {text}"
        if joined and re.fullmatch(r"[-−]?\d+,\d{1,2}", joined):
            hint = f"is {joined} a number with a decimal comma? Then quote it: {text}, or separate cells by ;"
        if all(not cell.strip() for cell in cells[width:]):
            hint = f"remove the {name} at the end of the row"
    else:
        hint = f"is a cell missing? An empty cell needs its {name} too"
        if len(cells) == 1:
            hint += "; remove a line that is not a row of the list"
    shown = " | ".join(excerpt(cell) for cell in cells[:12]) + (" | …" if len(cells) > 12 else "")
    return Diagnostic(
        code="D101",
        message=f"this row has {plural(len(cells), 'cell')}, the row of headings has {width}",
        hint=f"{hint}. Cells: {shown}",
        place=place,
        row=row,
    )


def _joined(cells: Sequence[str], width: int, sign: str, address: int) -> str:
    """Return the cell whose delimiters are text, if that makes a row as wide as the header; else ""."""
    more = len(cells) - width
    ways = []
    for at in range(width):
        parts = cells[at : at + more + 1]
        row = [*cells[:at], sign.join(parts), *cells[at + more + 1 :]]
        if address >= 0 and not has_address(row[address]):
            continue
        blanks = sum(part.startswith(" ") for part in parts[1:])
        decimals = sign == "," and more == 1 and re.fullmatch(r"[-−]?\d+,\d{1,2}", row[at]) is not None
        ways.append((blanks + decimals, row[at]))
    best = max(ways, default=(0, ""))
    sure = best[0] == more and sum(way[0] == best[0] for way in ways) == 1
    return best[1] if sure or len(ways) == 1 else ""


BLANK_QUOTE = "blank before a quote"
"""The name of this kind of damage."""


class BlankQuote:
    """A quote with a space before it, which does not open a cell: ``Ann, "Lee, Jr."`` would be three cells.

    A well-formed list has none: inside a quoted cell every quote is doubled.
    """

    def __init__(self, delimiter: str, quote: str) -> None:
        self.sign = f"{delimiter} {quote}"
        """Every occurrence contains this string."""
        sign = re.escape(delimiter)
        self._pattern = re.compile(rf"(?:{sign} +{quote})(?![{quote}{sign}\r\n]|\Z)")
        self._cell = re.compile(rf" +({quote}[^{quote}\r\n]*{quote}?)")
        self.search = self._pattern.search

    def lines(self, file: Iterable[str]) -> Iterator[tuple[int, str]]:
        """Yield the number of each line that has one, with the cell."""
        for number, line in enumerate(file, 1):
            found = self.search(line)
            if found:
                cell = self._cell.search(line, found.start())
                yield number, cell[1] if cell else ""

    def problem(self, shown: str, line: int, cell: str) -> Diagnostic:
        """Return the diagnostic for one occurrence."""
        return Diagnostic(
            code="D242",
            message=f"a space before the quote of {excerpt(cell)}: it would not begin a quoted cell",
            hint=f"remove the space: {self.sign[0]}{excerpt(cell)}",
            place=Place(path=shown, line=line),
        )


def unnamed(cell: str, where: str, place: Place, row: int) -> Diagnostic:
    """Report a value in a column without a heading."""
    return Diagnostic(
        code="D108",
        message=f'{where} has no heading, but contains "{excerpt(cell)}" in this row',
        hint="give the column a heading, or empty it",
        place=place,
        row=row,
    )


def is_row_number(cell: str, position: int) -> bool:
    """Return whether a cell without a heading is what pandas and R write before each row."""
    return not position and cell.isdecimal() and cell.isascii()


def row_numbers(place: Place) -> Diagnostic:
    """Warn of a first column without a heading that contains nothing but whole numbers."""
    return Diagnostic(
        code="D244",
        message="the first column has no heading and contains whole numbers: it is not used",
        hint="if templates need it, give it a heading; otherwise write the list without an index "
        "(in pandas: index=False, in R: row.names=FALSE)",
        severity=Severity.WARNING,
        place=place,
    )


def rows_inside(cell: str, row: Sequence[str], dialect: Dialect) -> list[str]:
    """Find the lines in a cell that look like rows of the list, with an address in the address column."""
    address = next((at for at, other in enumerate(row) if other is not cell and has_address(other)), 0)
    found = []
    for line in cell.splitlines()[1:]:
        if "@" in line and dialect.delimiter in line:
            cells: list[str] = next(dialect.reader([line], strict=False), [])
            if abs(len(cells) - len(row)) < 2 and has_address("".join(cells[address : address + 1])):
                found.append(line)
    return found


def swallowed(lines: Sequence[str], place: Place, row: int) -> Diagnostic:
    """Warn of a cell that contains lines which look like rows."""
    what = "another row" if len(lines) == 1 else f"{len(lines)} more rows"
    return Diagnostic(
        code="D243",
        message=f"a cell of this row seems to contain {what} of the list: {quoted(lines[0])}",
        hint="if they are rows, the closing quote of the cell is missing",
        severity=Severity.WARNING,
        place=place,
        row=row,
    )


def damaged_cell(cell: str, place: Place, row: int) -> Diagnostic:
    """Report a cell with a NUL or with U+FFFD, the mark of an earlier wrong decoding."""
    if "\0" in cell:
        return Diagnostic(
            code="D106",
            message=f'a NUL character in "{excerpt(cell)}"',
            hint="the file may be UTF-16 without a byte order mark: try --encoding utf-16-le",
            place=place,
            row=row,
        )
    return Diagnostic(
        code="D106",
        message=f'"{excerpt(cell)}" contains U+FFFD: a character was lost when the list was converted',
        hint="retype the cell, or export the list again as UTF-8",
        place=place,
        row=row,
    )


def fenced(cells: list[str]) -> list[str] | tuple[str | CellError, ...]:
    """Replace cells that no template may use, if any: they make their row invalid, not the list."""
    if not any(len(cell) > MAX_CELL or "\0" in cell or "\ufffd" in cell for cell in cells):
        return cells
    return tuple(map(_fenced, cells))


def _fenced(cell: str) -> str | CellError:
    if len(cell) > MAX_CELL:
        return long_cell(cell)
    if "\0" in cell or "\ufffd" in cell:
        problem = damaged_cell(cell, Place(), 0)
        return CellError(problem.code, problem.message, problem.hint or "", cell.replace("\0", "")[:40])
    return cell


NEVER_CLOSED = "unexpected end of data"
"""The message of the csv module."""
_CSV_ERRORS = (
    (
        NEVER_CLOSED,
        "D104",
        "a quoted cell that begins in this row is never closed",
        'add the closing quote; a quote inside a quoted cell is written twice: "he said ""hi"""',
    ),
    (
        "field larger",
        "D109",
        f"a cell of more than {MAX_CELL:,} characters",
        "a missing closing quote makes the rest of the file one cell",
    ),
    (
        "",
        "D103",
        "text after the closing quote of a cell",
        'a quote inside a quoted cell is written twice: "he said ""hi"""',
    ),
)
"""Messages of the csv module, and ours instead: code, message, hint."""


_ESCAPES = 'some quotes are escaped by backslashes and others are not: write a quote inside a cell twice ("")'


def quoting(said: str, shown: str, row: int, first: int, last: int, *, escapes: bool = False) -> Diagnostic:
    """Report a record that csv cannot parse; it runs from line *first* to *last*.

    Args:
        said: the message of the csv module.
        shown: the list's name in messages.
        row: the record's number.
        first: its first line.
        last: the line in which csv gave up.
        escapes: whether a quote in it is preceded by a backslash.

    """
    code, message, hint = next(rest for words, *rest in _CSV_ERRORS if words in said)
    if escapes:
        hint = _ESCAPES
    if last > first:
        message += f" (the row begins on line {first}, the error is on line {last})"
    return Diagnostic(code=code, message=message, hint=hint, place=Place(path=shown, line=first), row=row)


def not_in_encoding(path: Path, shown: str, encoding: str) -> ListError:
    """Make the error for a list that is not in the encoding in which it is read."""
    if encoding.startswith(("utf-16", "utf-32")):
        return list_error(shown, [_cut(path, shown, encoding)])
    from mailmerge.recipients.plausibility import readings

    words = words_of(path)
    found = readings(words)
    if encoding == "utf-8" and not is_mixed(words, found):  # a long list that is ASCII at first
        return unclear(path, shown, likely_of(words))
    name = encoding.upper().removesuffix("-SIG")
    problems: list[Diagnostic] = []
    for line, raw, byte in islice(_bad_lines(path, encoding), MAX_PROBLEMS):
        message = f"byte 0x{raw[byte]:02X} at position {byte + 1} of the line is not {name}"
        hint = None if problems else _what_it_may_be(raw, byte, encoding, words)
        if hint and encoding.startswith("utf-8") and byte >= len(raw) - 3 and raw[-1:] not in b"\r\n":
            hint = f"the list ends here: if it was cut off, download or copy it again. Otherwise: {hint}"
        problems.append(Diagnostic("D105", message, hint, place=Place(path=shown, line=line)))
    return list_error(shown, problems)


def _cut(path: Path, shown: str, encoding: str) -> Diagnostic:
    with path.open(encoding=encoding, errors="replace", newline="") as file:
        number = 1
        for number, text in enumerate(file, 1):  # noqa: B007  used when the loop is over
            if "\ufffd" in text:
                break
    place = Place(path=shown, line=number)
    hint = f"the file may be truncated; {ADVICE}"
    return Diagnostic("D105", f"this line is not {encoding.upper()}", hint, place=place)


def _bad_lines(path: Path, encoding: str) -> Iterator[tuple[int, bytes, int]]:
    """Yield line number, the line's bytes and the bad byte's position."""
    with path.open("rb") as binary:
        for number, raw in enumerate(binary, 1):
            try:
                raw.decode(encoding)
            except UnicodeDecodeError as error:
                yield number, raw, error.start


def _what_it_may_be(raw: bytes, byte: int, encoding: str, words: list[bytes]) -> str:
    """Return how others read the first bad cell if the rest is UTF-8, else what reads the whole list."""
    from mailmerge.recipients.plausibility import NAMES, readings

    if not (encoding.startswith("utf-8") and is_mixed(words, readings(words))):
        return hint_of(likely_of(words))
    ends = [match.start() for match in _CELL_END.finditer(raw)]
    start = max((end + 1 for end in ends if end < byte), default=0)
    stop = min((end for end in ends if end > byte), default=len(raw))
    cell = raw[start:stop].strip()
    found = readings([cell])
    if not found:
        return ADVICE
    name = NAMES[found[0].codec].partition(" (")[0]
    read = excerpt(found[0].words[0], 20)
    return f'other lines are UTF-8, this one may be {name}: "{read}"; retype the cell, and {ADVICE}'
