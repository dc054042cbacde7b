"""Which cells of a workbook are the list: the sheet, and the part that is a table or was specified."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import ListError
from mailmerge.model import Place
from mailmerge.recipients.address_column import address_columns
from mailmerge.recipients.heading_row import LOOKED_AT, find_headings
from mailmerge.recipients.selection import LAST_ROW
from mailmerge.recipients.workbook import Range, cell_range, damaged
from mailmerge.suggest import word
from mailmerge.text import did_you_mean, plural, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from mailmerge.recipients.heading_row import NumberedRow
    from mailmerge.recipients.workbook import Sheet, Workbook

_ROWS: Final = 200
"""Rows with content of a sheet that show whether it has addresses."""
_AREA = re.compile(
    r"(?:(?:'((?:[^']|'')+)'|([^'!:]+))!)?\$?([A-Za-z]{1,3})\$?(\d{0,7}):\$?([A-Za-z]{1,3})\$?(\d{0,7})\Z"
)
"""``B3:F40``, ``B:F``, ``Sheet!B3:F40``, ``'My sheet'!B3:F40``."""


class TableChoice(Struct, frozen=True):
    """The cells of a workbook that are the list."""

    sheet: Sheet
    why: str = ""
    """Why it is this sheet, where there are others."""
    area: Range | None = None
    """The part of the sheet that counts; None: the whole sheet."""
    name: str = ""
    """The table's or range's own name."""
    found: bool = False
    """The area is a table of the sheet that nobody specified: people below it may have been forgotten."""

    @property
    def told(self) -> str:
        """Return which part of the sheet it is; empty: the whole sheet."""
        if self.area is None:
            return ""
        return f"table {self.name} ({self.area.name})" if self.name else f"cells {self.area.name}"


class Heads:
    """The first rows of sheets, as texts; each sheet is read once.

    Args:
        book: the workbook.
        texts: returns the first rows with content of a sheet.

    """

    def __init__(self, book: Workbook, texts: Callable[[Sheet], Iterator[NumberedRow]]) -> None:
        self._book = book
        self._texts = texts
        self._read: dict[str, list[NumberedRow]] = {}

    def rows(self, sheet: Sheet) -> list[NumberedRow]:
        """Return the first rows of a sheet that have content."""
        if sheet.name not in self._read:
            rows: list[NumberedRow] = []
            for row in self._texts(sheet):
                rows.append(row)
                if len(rows) == _ROWS:
                    break
            self._read[sheet.name] = rows
        return self._read[sheet.name]

    def has_addresses(self, sheet: Sheet, area: Range | None = None) -> bool:
        """Return whether a sheet, or a part of it, has a column of addresses."""
        rows = [row for row in (cut(one, area) for one in self.rows(sheet)) if row is not None]
        if not rows:
            return False
        found = find_headings(rows[:LOOKED_AT])
        headings = dict(rows)[found.row]
        columns = address_columns(headings, [cells for number, cells in rows if number > found.row])
        if not columns or not columns[0].addresses:
            return False
        first = columns[0]
        return first.addresses * 2 > first.filled or first.heading.email


def cut(row: NumberedRow, area: Range | None) -> NumberedRow | None:
    """Return the part of a row inside an area; None: nothing with content is inside."""
    number, cells = row
    if area is not None:
        if not area.top <= number <= area.bottom:
            return None
        cells = (
            ["", *[""] * (area.left - 2), *cells[area.left - 1 : area.right]]
            if area.left > 1
            else cells[: area.right]
        )
    return (number, cells) if any(cell.strip() for cell in cells) else None


def choose_table(
    book: Workbook, heads: Heads, *, sheet: str | None, area: str | None, whole: bool
) -> TableChoice:
    """Decide which cells of a workbook are the list.

    Args:
        book: the workbook.
        heads: the first rows of its sheets.
        sheet: the name of the sheet; None: the one with addresses.
        area: a table, a named range or a range of cells; None: the table of the sheet, if it has one.
        whole: do not look for a table: the row of the headings is known.

    Raises:
        ListError: the sheet or range does not exist, or several are possible.

    """
    if not book.sheets:
        raise damaged(book.shown, "it has no worksheet")
    if area is not None:
        return _named(book, heads, sheet, area)
    chosen = _sheet(book, heads, sheet)
    return chosen if whole else _table(book, heads, chosen)


def _sheet(book: Workbook, heads: Heads, wanted: str | None) -> TableChoice:
    if wanted is not None:
        return TableChoice(_by_name(book, wanted))
    visible = [one for one in book.sheets if one.visible]
    unseen = [one for one in book.sheets if not one.visible] if visible else []
    if len(visible) < 2:
        if visible and unseen and not heads.has_addresses(visible[0]):
            _refuse_hidden(book, heads, visible, unseen)
        return TableChoice((visible or [*book.sheets])[0])
    active = [one for one in visible if one.name == book.active]
    ordered = [*active, *(one for one in visible if one.name != book.active)]
    candidates = [one for one in ordered if heads.has_addresses(one)]
    if len(candidates) == 1:
        return TableChoice(candidates[0], f"the only one of {len(visible)} with a column of addresses")
    filled = [one for one in ordered if heads.rows(one)]
    if not candidates:
        _refuse_hidden(book, heads, filled, unseen)
    if not candidates and len(filled) < 2:
        return TableChoice(
            (filled or ordered)[0], f"the only one of {len(visible)} that is not empty" if filled else ""
        )
    raise _several(book, candidates, filled)


def _by_name(book: Workbook, wanted: str) -> Sheet:
    names = {sheet.name: sheet for sheet in book.sheets}
    if wanted in names:
        return names[wanted]
    listed = "the sheets are: " + ", ".join(f'"{name}"' for name in names)
    guess = did_you_mean(wanted, names)
    raise ListError(
        f'{book.shown} has no sheet "{wanted}"',
        code="D122",
        hint=f"{guess} {listed}" if guess else listed,
        place=Place(path=book.shown),
    )


def _refuse_hidden(book: Workbook, heads: Heads, seen: Sequence[Sheet], unseen: Sequence[Sheet]) -> None:
    """Ask for the list if only hidden sheets have addresses."""
    likely = [one for one in unseen if heads.has_addresses(one)]
    if not likely:
        return
    told = ", ".join(quoted(one.name) for one in likely)
    what = (
        f"the only sheet of {book.shown} with a column of addresses, {told}, is hidden"
        if len(likely) == 1
        else f"the only sheets of {book.shown} with a column of addresses are hidden: {told}"
    )
    ways = [f"--sheet {word(one.name)} --hidden skip" for one in likely[:2]]
    ways += [f"--sheet {word(one.name)}" for one in seen[:2] if heads.rows(one)]
    raise ListError(
        what,
        code="D201",
        hint="specify which one is the list: " + " or ".join(ways),
        place=Place(path=book.shown),
    )


def _several(book: Workbook, candidates: Sequence[Sheet], filled: Sequence[Sheet]) -> ListError:
    likely = candidates or filled
    told = ", ".join(
        quoted(one.name) + (" (open when it was saved)" if one.name == book.active else "") for one in likely
    )
    if candidates:
        what = f"{plural(len(likely), 'sheet')} of {book.shown} have a column of addresses: {told}"
    else:
        what = f"none of the {len(likely)} sheets of {book.shown} has a column of addresses: {told}"
    hint = "specify which one is the list: " + " or ".join(f"--sheet {word(one.name)}" for one in likely[:4])
    return ListError(what, code="D201", hint=hint, place=Place(path=book.shown))


# --- a part of the sheet -----------------------------------------------------------------------------------


def _named(book: Workbook, heads: Heads, sheet: str | None, area: str) -> TableChoice:
    ranges = {name.casefold(): (name, found) for name, found in book.ranges.items()}
    if area.strip().casefold() in ranges:
        name, found = ranges[area.strip().casefold()]
        if sheet is not None and sheet != found.sheet:
            raise ListError(
                f'{quoted(name)} is in the sheet "{found.sheet}", not in "{sheet}"',
                code="D206",
                hint="omit the sheet",
                place=Place(path=book.shown),
            )
        return TableChoice(_by_name(book, found.sheet), area=found, name=name)
    match = _AREA.match(area.strip())
    if not match:
        raise _unknown(book, area)
    own = match[1].replace("''", "'") if match[1] else match[2]
    chosen = _sheet(book, heads, own or sheet)
    top, bottom = match[4] or "1", match[6] or str(LAST_ROW - 1)
    found = cell_range(chosen.sheet.name, f"{match[3].upper()}{top}:{match[5].upper()}{bottom}")
    return replace(chosen, area=found)


def _unknown(book: Workbook, area: str) -> ListError:
    known = ", ".join(map(quoted, book.ranges)) if book.ranges else ""
    guess = did_you_mean(area, book.ranges)
    hint = (
        f"its tables and named ranges are: {known}"
        if known
        else "write a range of cells, such as B3:F40 or Sheet!B3:F40"
    )
    return ListError(
        f"{book.shown} has no table or range {quoted(area)}",
        code="D206",
        hint=f"{guess} {hint}" if guess else hint,
        place=Place(path=book.shown),
    )


def _table(book: Workbook, heads: Heads, chosen: TableChoice) -> TableChoice:
    """Choose the table with addresses of a sheet, if the sheet has tables."""
    tables = {name: one for name, one in _tables(book.ranges) if one.sheet == chosen.sheet.name}
    found = {name: one for name, one in tables.items() if heads.has_addresses(chosen.sheet, one)}
    if len(found) > 1:
        told = ", ".join(f"{quoted(name)} ({one.name})" for name, one in found.items())
        ranges = " or ".join(f"--range {word(name)}" for name in [*found][:4])
        hint = f"specify which one is the list: {ranges}"
        what = (
            f"{len(found)} tables of the sheet {quoted(chosen.sheet.name)} have a column of addresses: {told}"
        )
        raise ListError(what, code="D201", hint=hint, place=Place(path=book.shown))
    for name, one in found.items():
        return replace(chosen, area=one, name=name, found=True)
    return chosen


def _tables(ranges: Mapping[str, Range]) -> Iterator[tuple[str, Range]]:
    return ((name, one) for name, one in ranges.items() if one.is_table)
