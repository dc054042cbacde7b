"""Text lists whose columns are in no dialect of CSV: several columns that would be read as one cell.

Spreadsheet programs quote whole rows if a CSV file was opened as one column and saved, R separates by spaces,
and database clients align columns. Each of them would be a list of one column that no template can use.
"""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_LOOKED_AT = 60
"""Number of lines that are examined."""
R_HEADINGS = re.compile(r'"[^"]*"(?: "[^"]*")+\s*').fullmatch
"""Quoted headings with spaces between them: in no other dialect may text follow a closing quote."""
_IN_R = 'in R: write.csv(people, "people.csv", row.names = FALSE)'
_WORD = re.compile(r"\S+(?: \S+)*")
_AGAIN = "export the list as CSV from the original program"


def inner_rows(sample: str) -> str | None:
    """Return the text in the quotes of rows that are quoted as a whole; None: not all of them are."""
    lines = [line for line in sample.splitlines() if line.strip()][:_LOOKED_AT]
    if len(lines) < 2 or not all(line[0] == line[-1] == '"' for line in map(str.strip, lines)):
        return None
    rows = [cells for cells in csv.reader(lines, delimiter="\x1f") if cells]
    return "\n".join(cells[0] for cells in rows) if all(len(cells) == 1 for cells in rows) else None


def blank_separated(sample: str, is_address: Callable[[str], bool]) -> tuple[int, str] | None:
    """Return the number of columns and what to do about them if spaces separate them; None: they do not.

    Args:
        sample: the first lines of the list; the last one may be cut off.
        is_address: whether a cell is one address or several.

    """
    lines = [line for line in sample.splitlines() if line.strip()][:_LOOKED_AT]
    head, body = lines[0] if lines else "", [line for line in lines[1:] if "@" in line]
    if not body or "@" in head or any(is_address(line.strip()) for line in body):
        return None
    aligned = _aligned(head, body)
    if aligned:
        return aligned, f"{_AGAIN}; or open it in a spreadsheet program as text of fixed width, and save it"
    headings = _cells(head)
    rows = [_cells(line) for line in body]
    width, widths = len(headings), {len(cells) for cells in rows}
    if width < 2 or len(widths) != 1 or not widths <= {width, width + 1}:
        return None
    more = widths.pop() - width
    columns = [at for at in range(width + more) if all(is_address(cells[at]) for cells in rows)]
    if not columns:
        return None
    return width, f"{_AGAIN} ({_IN_R})" + ("" if more else "; --delimiter blank reads it as it is")


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.strip()], delimiter=" ", skipinitialspace=True), [])


def _aligned(head: str, body: Sequence[str]) -> int:
    """Return the number of columns if the addresses begin below one of several headings; else 0."""
    starts = [word.start() for word in _WORD.finditer(head)]
    if len(starts) < 2:
        return 0
    places = {line.rfind(" ", 0, line.index("@")) + 1 for line in body}
    return len(starts) if len(places) == 1 and places <= set(starts) and "\t" not in head else 0
