"""The header of a list: which columns there are, and how templates can write their names."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.errors import CampaignFileError
from mailmerge.model import OWN_COLUMNS, Columns, Diagnostic, Place
from mailmerge.text import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_ADDRESS = r"[^@\s]+@[^@\s]+\.[^@\s.]+\Z"


class Header(Struct, frozen=True):
    """The header row as read, and what of it counts."""

    row: int
    width: int
    """Cells in the header row as it stands in the file."""
    columns: Columns
    kept: tuple[int, ...]
    """Positions of *columns* in the row, from 0."""
    unnamed: tuple[int, ...]
    """Positions without a heading: their cells must stay empty."""

    @property
    def whole(self) -> bool:
        """Whether every cell of a row is kept."""
        return len(self.kept) == self.width


def template_name(heading: str) -> str:
    """Turn a heading into the name that a template writes: ``First Name`` becomes ``first_name``."""
    kept = "".join(char if f"a{char}".isidentifier() else " " for char in heading.lower())
    name = "_".join(kept.split())
    return f"_{name}" if name[:1].isdigit() or (name and not name.isidentifier()) else name


def read_header(
    cells: Sequence[str],
    row: int,
    place: Callable[[int], Place],
) -> tuple[Header, list[Diagnostic]]:
    """Work out the columns; *place* names the cell at a position.

    The problems are returned, not raised, so that the reader can show them with others.
    """
    kept: list[int] = []
    unnamed: list[int] = []
    headings: list[str] = []
    names: list[str] = []
    problems: list[Diagnostic] = []
    for position, cell in enumerate(cells):
        heading = _composed(cell)
        if not heading:
            unnamed.append(position)
            continue
        name = template_name(heading) or f"column_{position + 1}"
        if name in OWN_COLUMNS:
            continue
        if re.match(_ADDRESS, heading):
            problems.append(_no_header(heading, row, place(position)))
        elif name in names:
            problems.append(_collision(headings[names.index(name)], heading, name, row, place(position)))
        kept.append(position)
        headings.append(heading)
        names.append(name)
    columns = Columns(tuple(headings), tuple(names))
    return Header(row, len(cells), columns, tuple(kept), tuple(unnamed)), problems


def _composed(text: str) -> str:
    """Fold blanks, and bring letters with marks into the form in which they compare equal (NFC)."""
    text = " ".join(text.split())
    if text.isascii():
        return text
    import unicodedata

    return unicodedata.normalize("NFC", text)


def find_column(columns: Columns, wanted: str, option: str) -> int:
    """Position of the column that an option names by heading or by template name.

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


def _no_header(heading: str, row: int, place: Place) -> Diagnostic:
    return Diagnostic(
        code="D102",
        message=f'row {row} should hold the headings, but "{heading}" is an address',
        hint='put a row with headings first, such as "email" and "name"',
        place=place,
        row=row,
    )


def _collision(first: str, second: str, name: str, row: int, place: Place) -> Diagnostic:
    if first == second:
        message = f'two columns have the heading "{second}"'
    else:
        message = f'the headings "{first}" and "{second}" are both `{name}` in a template'
    return Diagnostic(code="D107", message=message, hint="rename one of them", place=place, row=row)
