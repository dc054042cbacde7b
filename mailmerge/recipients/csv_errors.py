"""What can be wrong with a text list, put into words.

This is the slow path: it may read the file again to name line and byte, and what the author meant.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.recipient_list import MAX_CELL, CellError, long_cell
from mailmerge.text import excerpt, plural

if TYPE_CHECKING:
    import csv
    from collections.abc import Iterator, Sequence
    from pathlib import Path

_NAMES = {",": "comma", ";": "semicolon", "\t": "tab", "|": "pipe"}
_LEGACY = ("gb18030", "big5", "shift_jis", "cp1252")
"""Common encodings whose reading of a bad cell is shown; only a person can tell which is right."""
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


def bad_bytes(path: Path, shown: str, encoding: str, limit: int) -> list[Diagnostic]:
    """Find the lines that are not in the encoding, and show what others make of the first bad cell."""
    found: list[Diagnostic] = []
    for line, raw, byte in _bad_lines(path, encoding):
        name = encoding.upper().removesuffix("-SIG")
        hint = _readings(raw, byte, encoding) if not found else None
        where = f"byte 0x{raw[byte]:02X} at position {byte + 1} of the line" if raw else "this line"
        place = Place(path=shown, line=line)
        found.append(Diagnostic(code="D105", message=f"{where} is not {name}", hint=hint, place=place))
        if len(found) == limit:
            break
    return found


def _bad_lines(path: Path, encoding: str) -> Iterator[tuple[int, bytes, int]]:
    """Yield line number, the line's bytes and the bad byte's position; no bytes where lines are no bytes."""
    if encoding.startswith(("utf-16", "utf-32")):
        with path.open(encoding=encoding, errors="replace", newline="") as file:
            number = 1
            for number, text in enumerate(file, 1):  # noqa: B007  used when the loop is over
                if "\ufffd" in text:
                    break
            yield number, b"", 0
        return
    with path.open("rb") as binary:
        for number, raw in enumerate(binary, 1):
            try:
                raw.decode(encoding)
            except UnicodeDecodeError as error:
                yield number, raw, error.start


def _readings(raw: bytes, byte: int, encoding: str) -> str:
    advice = "save the list as UTF-8 (in Excel: CSV UTF-8)"
    if not raw:
        return f"the file may be truncated; {advice}"
    ends = [match.start() for match in _CELL_END.finditer(raw)]
    start = max((end + 1 for end in ends if end < byte), default=0)
    stop = min((end for end in ends if end > byte), default=len(raw))
    readings = []
    for codec in _LEGACY:
        try:
            text = raw[start:stop].decode(codec)
        except UnicodeDecodeError:
            continue
        if codec != encoding and text.isprintable():
            readings.append(f'--encoding {codec} reads "{excerpt(text.strip(), 20)}"')
    if not readings:
        return f"{advice}, or name its encoding: --encoding gb18030"
    return f"{advice}, or say which is right: {', '.join(readings)}"
