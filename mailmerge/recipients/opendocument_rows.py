"""The rows of one sheet of an OpenDocument spreadsheet, from the elements of its XML.

OpenDocument 1.3, part 3: 9.1.4 (cells, repeated and covered ones), 6.1.2 (white space), 19.385 (values).
"""

from __future__ import annotations

import re
from collections import deque
from datetime import datetime, timedelta
from typing import TYPE_CHECKING
from xml.parsers import expat

from msgspec import Struct

from mailmerge.recipients.cells import error_cell, exact_number, uncalculated
from mailmerge.recipients.opendocument_styles import EMPTY_STYLE, OFFICE, TABLE
from mailmerge.recipients.recipient_list import (
    MAX_CELL,
    MAX_COLUMNS,
    NO_RESULT,
    CellError,
    SheetCell,
    long_cell,
)
from mailmerge.values import Date, DateTime, Duration, Number, Time, Truth, canonical

if TYPE_CHECKING:
    from mailmerge.recipients.opendocument_styles import DataStyle, Styles
    from mailmerge.values import Cell

TEXT = "urn:oasis:names:tc:opendocument:xmlns:text:1.0 "
_DRAW = "urn:oasis:names:tc:opendocument:xmlns:drawing:1.0 "
_CALC = "urn:org:documentfoundation:names:experimental:calc:xmlns:calcext:1.0 "

MAX_ROWS = 1 << 20
"""The most rows of a sheet, in every program."""
_MAX_REPEATED = 4_000_000
"""The most cells with content that a file may produce by repeating some."""
_ERROR = re.compile(r"#[^\s#]+[!?]|#N/?[A-Z]+|Err:[0-9]{3}")
"""How errors are displayed, in any language: ``#N/A``, ``#NV``, ``#DIV/0!``, ``Err:502``."""
_SPACES = re.compile(r"[ \t\r\n]+")
_INDENTED = re.compile(r"[ \t]*[\r\n][ \t\r\n]*\Z")
"""The end of a paragraph that a program has indented; a single space there counts for LibreOffice."""
_PERIOD = re.compile(
    r"(-?)P(?:([0-9]+)D)?(?:T(?:([0-9]+)H)?(?:([0-9]+)M)?(?:([0-9]+)(?:[.,]([0-9]+))?S)?)?\Z"
)


def count(attributes: dict[str, str], name: str, most: int) -> int:
    """Read a repeat count; anything beyond *most* has no content in any file.

    Raises:
        ValueError: it is not a number.

    """
    text = attributes.get(name)
    if text is None:
        return 1
    if len(text) > 9 or not text.isdecimal() or not text.isascii():
        raise ValueError(f"{text[:20]!r} is not a number of rows or columns")
    return min(max(int(text), 1), most)


class StyledCell(Struct):
    """A cell with content."""

    value: Cell | CellError
    style: DataStyle

    def copy(self) -> SheetCell:
        """Convert it to what openpyxl must write for Excel to show the same."""
        value = self.value
        if isinstance(value, CellError):
            return SheetCell(value.shown or NO_RESULT, "e")
        if isinstance(value, str):
            return SheetCell(value, "s")
        if isinstance(value, Truth):
            return SheetCell(value.value, "b")
        if isinstance(value, Number):
            number = value.value
            plain = int(number) if number == number.to_integral_value() else float(number)
            return SheetCell(plain, "n", self.style.excel)
        exact = value.value
        if value.raw is not None and isinstance(value, Date | Time):
            exact = datetime.fromisoformat(value.raw) if "-" in value.raw else exact
        return SheetCell(exact, "d", self.style.excel)


_IGNORED = (_DRAW, f"{OFFICE}annotation", f"{TEXT}note", f"{TEXT}ruby-text", f"{TABLE}shapes")
_SPACE, _TAB, _BREAK = "\x00", "\x01", "\x02"
"""Placeholders for significant white space until the rest has been folded: XML can't contain them."""
_COUNTS = str.maketrans({_SPACE: " ", _TAB: "\t", _BREAK: "\n"})


class Rows:
    """Expat handlers that make the rows of one sheet."""

    def __init__(self, wanted: int, styles: Styles, null_date: datetime) -> None:
        self.ready: deque[tuple[int, int, bool, list[StyledCell | None]]] = deque()
        """First row number, repeat count, whether hidden, cells."""
        self.done = False
        self._wanted = wanted
        self._styles = styles
        self._null_date = null_date
        self._table = -1
        self._depth = 0
        self._groups: list[bool] = []
        self._columns: list[tuple[int, str]] = []
        self._number = 1
        self._repeated = 0
        self._hidden = False
        self._row_style = ""
        self._cells: list[StyledCell | None] = []
        self._column = 0
        self._made = 0
        self._cell: dict[str, str] | None = None
        self._paragraphs: list[str] = []
        self._parts: list[str] | None = None
        self._size = 0
        self._ignored = 0
        """Nesting depth in elements that are not text of a cell: notes, drawings, tables inside it."""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self._starts = {
            f"{TABLE}table-row": self._start_row,
            f"{TABLE}table-cell": self._start_cell,
            f"{TABLE}covered-table-cell": self._start_covered,
            f"{TABLE}table-column": self._start_column,
            f"{TABLE}table-row-group": self._start_group,
            f"{TEXT}p": self._start_paragraph,
            f"{TEXT}s": self._start_spaces,
            f"{TEXT}tab": self._start_tab,
            f"{TEXT}line-break": self._start_break,
        }
        self._ends = {
            f"{TABLE}table-row": self._end_row,
            f"{TABLE}table-cell": self._end_cell,
            f"{TABLE}table-row-group": self._end_group,
            f"{TEXT}p": self._end_paragraph,
        }

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._ignored:
            self._ignored += 1
        elif tag == f"{TABLE}table":
            self._depth += 1
            if self._depth == 1:
                self._table += 1
            else:
                self._ignored = 1  # a table inside a cell
        elif self._table == self._wanted and self._depth == 1:
            found = self._starts.get(tag)
            if found is not None:
                found(attributes)
            elif tag.startswith(_IGNORED):
                self._ignored = 1

    def _end(self, tag: str) -> None:
        if self._ignored:
            self._ignored -= 1
            if not self._ignored and tag == f"{TABLE}table":
                self._depth -= 1
        elif tag == f"{TABLE}table":
            self._depth -= 1
            if self._table == self._wanted:
                self.done = True
        elif self._table == self._wanted and self._depth == 1:
            found = self._ends.get(tag)
            if found is not None:
                found()

    def _start_group(self, attributes: dict[str, str]) -> None:
        self._groups.append(attributes.get(f"{TABLE}display") == "false")

    def _end_group(self) -> None:
        self._groups.pop()

    def _start_column(self, attributes: dict[str, str]) -> None:
        before = self._columns[-1][0] if self._columns else 0
        last = before + count(attributes, f"{TABLE}number-columns-repeated", MAX_COLUMNS)
        if before < MAX_COLUMNS:
            self._columns.append((last, attributes.get(f"{TABLE}default-cell-style-name", "")))

    def _start_row(self, attributes: dict[str, str]) -> None:
        self._repeated = count(attributes, f"{TABLE}number-rows-repeated", MAX_ROWS)
        shown = attributes.get(f"{TABLE}visibility", "visible") == "visible"
        self._hidden = not shown or any(self._groups)
        self._row_style = attributes.get(f"{TABLE}default-cell-style-name", "")
        self._cells = []
        self._column = 0

    def _end_row(self) -> None:
        if self._cells:
            self._made += (self._repeated - 1) * sum(cell is not None for cell in self._cells)
            if self._number + self._repeated - 1 > MAX_ROWS:
                raise ValueError(f"there is content below row {MAX_ROWS:,}")
            self._refuse_repeated()
            self.ready.append((self._number, self._repeated, self._hidden, self._cells))
        self._number += self._repeated

    def _refuse_repeated(self) -> None:
        if self._made > _MAX_REPEATED:
            raise ValueError(f"more than {_MAX_REPEATED:,} cells would come from repetition")

    def _start_covered(self, attributes: dict[str, str]) -> None:
        """Skip it: what a merged cell covers is not shown."""
        self._column += count(attributes, f"{TABLE}number-columns-repeated", MAX_COLUMNS)

    def _start_cell(self, attributes: dict[str, str]) -> None:
        self._cell = attributes
        self._paragraphs = []
        self._size = 0

    def _end_cell(self) -> None:
        attributes, self._cell = self._cell, None
        if attributes is None:
            return
        repeated = count(attributes, f"{TABLE}number-columns-repeated", MAX_COLUMNS)
        first = self._column
        self._column += repeated
        if (
            not self._paragraphs
            and len(attributes) < 4
            and not (f"{OFFICE}value-type" in attributes or f"{TABLE}formula" in attributes)
        ):
            return
        cell = self._make(attributes, first)
        if cell is None:
            return
        if self._column > MAX_COLUMNS:
            raise ValueError(f"row {self._number} has more than {MAX_COLUMNS:,} cells")
        cells = self._cells
        if first > len(cells):
            cells.extend([None] * (first - len(cells)))
        cells.append(cell)
        if repeated > 1:
            self._made += repeated - 1
            self._refuse_repeated()
            cells.extend([cell] * (repeated - 1))

    # --- text ----------------------------------------------------------------------------------------

    def _start_paragraph(self, _attributes: dict[str, str]) -> None:
        if self._cell is not None:
            self._parts = []
            self.parser.CharacterDataHandler = self._add

    def _end_paragraph(self) -> None:
        parts, self._parts = self._parts, None
        self.parser.CharacterDataHandler = None
        if parts is not None:
            text = parts[0] if len(parts) == 1 else "".join(parts)
            if text.isalnum() and text.isascii():  # nothing to fold
                self._paragraphs.append(text)
            else:
                folded = _SPACES.sub(" ", _INDENTED.sub("", text)).lstrip(" ")
                self._paragraphs.append(folded.translate(_COUNTS))

    def _start_spaces(self, attributes: dict[str, str]) -> None:
        self._add(_SPACE * count(attributes, f"{TEXT}c", MAX_CELL + 1))

    def _start_tab(self, _attributes: dict[str, str]) -> None:
        self._add(_TAB)

    def _start_break(self, _attributes: dict[str, str]) -> None:
        self._add(_BREAK)

    def _add(self, text: str) -> None:
        if self._parts is not None and not self._ignored and self._size <= MAX_CELL:
            self._size += len(text)
            self._parts.append(text)

    # --- values --------------------------------------------------------------------------------------

    def _style(self, attributes: dict[str, str], column: int) -> DataStyle:
        name = attributes.get(f"{TABLE}style-name") or self._row_style
        if not name:
            name = next((style for last, style in self._columns if column < last), "")
        return self._styles.of(name)

    def _make(self, attributes: dict[str, str], column: int) -> StyledCell | None:
        shown = "\n".join(self._paragraphs) if len(self._paragraphs) != 1 else self._paragraphs[0]
        kind = attributes.get(f"{OFFICE}value-type")
        formula = f"{TABLE}formula" in attributes
        if self._size > MAX_CELL:
            return StyledCell(long_cell(shown), EMPTY_STYLE)
        if formula and (attributes.get(f"{_CALC}value-type") == "error" or _ERROR.fullmatch(shown)):
            return StyledCell(error_cell(shown or "#VALUE!"), EMPTY_STYLE)
        if kind is None or kind == "string":
            if formula and kind is None and not self._paragraphs:  # an empty result is an empty paragraph
                return StyledCell(uncalculated(), EMPTY_STYLE)
            text = shown or attributes.get(f"{OFFICE}string-value", "")
            if len(text) > MAX_CELL:
                return StyledCell(long_cell(text), EMPTY_STYLE)
            return StyledCell(text, EMPTY_STYLE) if text else None
        style = self._style(attributes, column)
        given = shown.strip() if self._paragraphs else None  # room for a bracket or minus is column layout
        value: Cell
        if kind in {"float", "percentage", "currency"}:
            value = _number(
                attributes[f"{OFFICE}value"], given, unformatted=formula and style.excel == "General"
            )
        elif kind == "boolean":
            value = Truth(attributes[f"{OFFICE}boolean-value"] == "true", given)
        elif kind == "date":
            value = _moment(attributes[f"{OFFICE}date-value"], given, style)
        elif kind == "time":
            value = _time(attributes[f"{OFFICE}time-value"], given, style, self._null_date)
        else:
            value = shown
        return StyledCell(value, style) if value.__class__ is not str or value else None


def _number(text: str, shown: str | None, *, unformatted: bool) -> Cell:
    """Read a number; a boolean if an *unformatted* result shows a word.

    LibreOffice saves TRUE and comparisons this way if they came from another program's workbook.
    """
    number = exact_number(float(text))
    if number is None:
        return shown or ""
    if unformatted and shown is not None and shown.isalpha() and number in {0, 1}:
        return Truth(bool(number), shown)
    return Number(number, shown)


def _moment(text: str, shown: str | None, style: DataStyle) -> Cell:
    """Read a date or a date and time; what the format hides still belongs to the cell's identity."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        return shown or text  # before the year 1 or after 9999: not a date in Python's calendar
    moment = (moment.replace(tzinfo=None) + timedelta(milliseconds=500)).replace(microsecond=0)
    if style.has_time if style.is_date else "T" in text:
        if style.is_date and not style.has_date:
            return Time(moment.time(), shown, canonical(moment))
        return DateTime(moment, shown)
    exact, day = canonical(moment), moment.date()
    return Date(day, shown, exact if exact != canonical(day) else None)


def _time(text: str, shown: str | None, style: DataStyle, null_date: datetime) -> Cell:
    """Read a duration: a time of day if the format restarts after 24 hours."""
    found = _PERIOD.match(text)
    if found is None:
        return shown or text
    days, hours, minutes, seconds = (int(part or 0) for part in found.groups()[1:5])
    fraction = float(f"0.{found[6] or 0}")
    try:
        length = timedelta(days=days, hours=hours, minutes=minutes, seconds=round(seconds + fraction))
        length = -length if found[1] else length
        if style.elapsed or (length < timedelta() and not style.is_date):
            return Duration(length, shown)
        moment = null_date + length
    except OverflowError:
        return shown or text
    whole = timedelta() <= length < timedelta(days=1)
    return Time(moment.time(), shown, None if whole else canonical(moment))
