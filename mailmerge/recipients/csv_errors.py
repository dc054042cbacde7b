"""What can be wrong with a text list, put into words.

This is the slow path: it may read the file again to name line and byte, and what the author meant.
"""

from __future__ import annotations

import re
from itertools import islice
from typing import TYPE_CHECKING

from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.encodings import ADVICE, hint_of, is_mixed, likely_of, unclear, words_of
from mailmerge.recipients.recipient_list import MAX_CELL, MAX_PROBLEMS, CellError, list_error, long_cell
from mailmerge.text import excerpt, plural

if TYPE_CHECKING:
    import csv
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mailmerge.errors import ListError

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_CELL_END = re.compile(rb"[,;|\t\"\r\n]")


def ragged(cells: Sequence[str], width: int, delimiter: str, place: Place, row: int) -> Diagnostic:
    """Report a row with more or fewer cells than the header."""
    name = _NAMES[delimiter]
    if len(cells) > width:
        hint = f'does a cell contain a {name}? Then quote it: "gold{delimiter} yearly"'
        if all(not cell.strip() for cell in cells[width:]):
            hint = f"remove the {name} at the end of the row"
    else:
        hint = f"is a cell missing? An empty cell needs its {name}, too"
    shown = " | ".join(excerpt(cell) for cell in cells[:12]) + (" | …" if len(cells) > 12 else "")
    return Diagnostic(
        code="D101",
        message=f"this row has {plural(len(cells), 'cell')}, the header has {width}",
        hint=f"{hint}. Cells: {shown}",
        place=place,
        row=row,
    )


def unnamed(cell: str, where: str, place: Place, row: int) -> Diagnostic:
    """Report a value in a column without a heading."""
    return Diagnostic(
        code="D108",
        message=f'{where} has no heading, but this row has "{excerpt(cell)}" in it',
        hint="give the column a heading, or empty it",
        place=place,
        row=row,
    )


def damaged_cell(cell: str, place: Place, row: int) -> Diagnostic:
    """Report a cell with a NUL or with the mark of an earlier wrong decoding."""
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
    """Replace cells that no template may use, if there are any: they cost their row, not the list."""
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


_CSV_ERRORS = (
    (
        "unexpected end of data",
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
"""What the csv module says, and what we say instead: code, message, hint."""


def quoting(error: csv.Error, shown: str, row: int, first: int, last: int) -> Diagnostic:
    """Report a record that csv cannot take apart; it runs from line *first* to *last*."""
    said = str(error)
    code, message, hint = next(rest for words, *rest in _CSV_ERRORS if words in said)
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
    """Say what others make of the first bad cell, where the rest is UTF-8; else what reads the whole list."""
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
