"""The rows of a sheet's XML: most by one regular expression, anything written differently by expat."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Protocol

from mailmerge.recipients.cells import text_cell, uncalculated
from mailmerge.recipients.recipient_list import MAX_COLUMNS
from mailmerge.recipients.workbook import Range, cell_name, cell_position, cell_range
from mailmerge.recipients.xlsx_cells import EMPTY, NOT_CALCULATED, StoredCells
from mailmerge.recipients.xlsx_package import TRUE, local, parser_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.recipients.xlsx_cells import Cells

"""Most cells of a row."""
_MAX_ROW = 9_999_999_999
_MAX_ARRAYS = 1000
_LONGEST_ROW = 4 << 20
"""Bytes of a row beyond which the expression is not used to read it."""
_WITH_BLANKS = frozenset({"str", "inlineStr"})
_FILLING = frozenset({"array", "dataTable"})
"""Most formulas whose results fill other cells too."""
_BLANKS = frozenset({9, 10, 13})
_NUMBERS = frozenset({None, "", "n"})
_LINK_FORMULA = re.compile(r'HYPERLINK\s*\(\s*"([^"]+)"', re.IGNORECASE)
_END = b"</row>"
_ROW = re.compile(r'\s*<row((?: [\w:]+="[^"<&]*")*) ?>')
_ATTRIBUTE = re.compile(r' ([\w:]+)="([^"<&]*)"')
_ENTITY = "&(?:amp|lt|gt|quot|apos|#[0-9]{1,7}|#x[0-9A-Fa-f]{1,6});"
_LETTERS = "[^<&\\x00-\\x08\\x0b-\\x1f\\ufffe\\uffff]*"
_TEXT = f"{_LETTERS}(?:{_ENTITY}{_LETTERS})*"
_CELL = (
    r'<c r="([A-Z]{1,3})([0-9]{1,10})"(?: s="([0-9]{1,6})")?(?: t="(n|s|b|e|str|inlineStr)")?'
    rf'(?: ?/>|></c>|>(<f(?: [\w:]+="[^"<&]*")*(?: ?/>|>{_TEXT}</f>))?'
    rf'<v(?: xml:space="preserve")?>({_TEXT})</v></c>'
    rf'|><is><t(?: xml:space="preserve")?>({_TEXT})</t></is></c>)'
)
_ENTITIES = re.compile(_ENTITY)
_CELLS = re.compile(f"{_CELL}|(?s:(.+))")
"""Cells one after another; what follows the last that is plain is one more find."""


class Reader(Protocol):
    """Reads a sheet in pieces, and returns its rows."""

    def read(self, block: bytes) -> list[Row]:
        """Return the rows that end in this piece of the sheet."""

    def finish(self, *, whole: bool) -> list[Row]:
        """Return the remaining rows; *whole*: the end of the part has been read as well."""


Row = tuple[int, list[Any], bool]
"""Number, cells, whether it is hidden."""


class _ColumnNumbers(dict[str, int]):
    """Cache of column numbers by letters."""

    def __missing__(self, letters: str) -> int:
        found = self[letters] = cell_position(f"{letters.upper()}1")[1] if letters.isalpha() else 0
        if not found:
            raise ValueError(f"{letters!r} is not a column of this row")
        return found


class SheetParser:
    """Expat handlers of a sheet.

    Most cells are found by the starts of elements alone, as ends would cost as much again: a cell is made
    when the next one begins. Ends matter only where text may end with spaces.
    """

    def __init__(
        self, part: str, make: Cells, links: dict[tuple[int, int], str], *, recalculated: bool
    ) -> None:
        self._make = make
        self._copies = make if isinstance(make, StoredCells) else None
        self._empty = "" if self._copies is None else EMPTY
        self._texts = make.texts.texts
        self._rewritten = make.rewritten if self._copies is None else {}
        self._links = links
        self.recalculated = recalculated
        self._arrays: list[Range] = []
        self._done: list[Row] = []
        self.row = 0
        """The number of the row that began last."""
        self._digits, self._cut = "0", -1
        self._hidden = False
        self._cells: list[Any] = []
        self._count = 0
        self._attributes: dict[str, str] = {}
        self._letters: list[str] = []
        self._has_value = self._is_formula = False
        self._formula = ""
        self._value: str | None = None  # of a string, known at its end
        self._phonetic = 0
        self._columns = _ColumnNumbers()
        self._names: dict[str, str] = {}
        self._starts: dict[str, Callable[[dict[str, str]], None]] = {
            "c": self._start_cell,
            "v": self._start_value,
            "f": self._start_formula,
            "is": self._start_inline,
            "row": self._start_row,
        }
        self._parser = parser_of(part)
        self._parser.StartElementHandler = self._start

    def read(self, block: bytes) -> list[Row]:
        """Return the rows that end in this piece of the sheet."""
        self._parser.Parse(block)
        found, self._done = self._done, []
        return found

    def finish(self, *, whole: bool) -> list[Row]:
        """Return the last row; *whole*: the end of the part has been read as well."""
        if whole:
            self._parser.Parse(b"", True)
        return self.take()

    def take(self) -> list[Row]:
        """Return the rows that have ended; the next piece begins with a row."""
        self._parser.CharacterDataHandler = None  # makes expat release what it has buffered
        self._end_row()
        found, self._done = self._done, []
        return found

    def fills(self, row: int) -> bool:
        """Whether formulas of other rows may fill cells of this one."""
        return bool(self._arrays) and any(one.top <= row <= one.bottom for one in self._arrays)

    # --- elements

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = local(tag)
        start = self._starts.get(name)
        if start is not None:
            start(attributes)

    def _start_cell(self, attributes: dict[str, str]) -> None:
        if self._has_value or self._is_formula:
            self._end_cell()
        if "r" not in attributes:
            self._name_cell(attributes)
        self._attributes = attributes
        self._count += 1
        if self._count > MAX_COLUMNS:
            raise ValueError(f"row {self.row} has more than {MAX_COLUMNS:,} cells")

    def _start_value(self, _: dict[str, str]) -> None:
        if self._is_formula:
            self._formula = "".join(self._letters)
        self._letters.clear()
        self._has_value = True
        if self._attributes.get("t") in _WITH_BLANKS:
            self._parser.EndElementHandler = self._end_text

    def _start_row(self, attributes: dict[str, str]) -> None:
        self._end_row()
        row = int(attributes.get("r", self.row + 1))
        if row <= self.row:
            raise ValueError(f"row {row} comes after row {self.row}")
        if row > _MAX_ROW:
            raise ValueError("the row number is too large")
        self.row = row
        self._digits = str(row)
        self._cut = -len(self._digits)
        self._hidden = _is_hidden(attributes)
        self._attributes = {}
        self._count = 0
        self._parser.CharacterDataHandler = self._letters.append

    def _name_cell(self, attributes: dict[str, str]) -> None:
        """Name a cell after the one before it."""
        before = self._attributes.get("r")
        column = self._columns[before[: self._cut]] if before else 0
        attributes["r"] = cell_name(self.row, column + 1)

    def _start_formula(self, attributes: dict[str, str]) -> None:
        if self._has_value and self._value is None:
            self._value = "".join(self._letters)
        self._is_formula = True
        self._letters.clear()
        area = attributes.get("ref", "")
        if self.recalculated and attributes.get("t") in _FILLING and ":" in area:
            self._arrays = [one for one in self._arrays if one.bottom >= self.row]
            self._arrays.append(cell_range("", area))
            if len(self._arrays) > _MAX_ARRAYS:
                raise ValueError("too many formulas fill other cells")

    def _end_text(self, tag: str) -> None:
        if self._names[tag] == "v":
            self._value = "".join(self._letters)
            self._parser.EndElementHandler = None

    # --- inline strings, with runs of different looks

    def _start_inline(self, _: dict[str, str]) -> None:
        self._has_value = True
        self._letters.clear()
        self._phonetic = 0
        self._attributes["t"] = "inlineStr"
        self._parser.StartElementHandler = self._start_stretch
        self._parser.EndElementHandler = self._end_stretch
        self._parser.CharacterDataHandler = None

    def _start_stretch(self, tag: str, _: dict[str, str]) -> None:
        name = self._names.setdefault(tag, local(tag))
        if name == "t" and not self._phonetic:
            self._parser.CharacterDataHandler = self._letters.append
        elif name == "rPh":
            self._phonetic += 1

    def _end_stretch(self, tag: str) -> None:
        name = self._names[tag]
        if name == "t":
            self._parser.CharacterDataHandler = None
        elif name == "rPh":
            self._phonetic -= 1
        elif name == "is":
            self._value = "".join(self._letters)
            self._parser.StartElementHandler = self._start
            self._parser.EndElementHandler = None
            self._parser.CharacterDataHandler = self._letters.append

    # --- cells and rows

    def _end_cell(self) -> None:
        attributes = self._attributes
        text = self._value
        if text is not None:
            self._value = None
        else:
            letters = self._letters
            text = letters[0] if len(letters) == 1 else "".join(letters)
        if not self._has_value:  # this text is the formula
            text = ""
        kind = attributes.get("t")
        cell: Any
        if self._copies is not None:
            cell = self._copies.raw(kind, text, attributes.get("s"))
        elif kind == "s":
            try:
                at = int(text)
                cell = self._texts[at] if at >= 0 else self._make.shared(text)
            except (IndexError, ValueError):
                cell = self._make.shared(text)
        elif kind is None or kind == "n":
            cell = self._make.numbers[attributes.get("s")][text]
        else:
            cell = self._make.other(kind, text, attributes.get("s"))
        self._has_value = False
        name = attributes["r"]
        if not name.endswith(self._digits):
            raise ValueError(f"the cell {name[:20]} is in row {self.row}")
        column = self._columns[name[: self._cut]]
        if self._is_formula or self._arrays:
            cell = self._result(cell, kind, text, column)
        if cell.__class__ is not str or cell:
            self._put(cell, column)

    def _put(self, cell: Any, column: int) -> None:
        if self._rewritten and cell.__class__ is str:
            write = self._rewritten.get(self._attributes.get("s"))
            cell = write(cell).strip() if write else cell
        cells = self._cells
        missing = column - len(cells) - 1
        if missing > 0:
            cells.extend([self._empty] * missing)
        if missing >= 0:
            cells.append(cell)
        elif cells[column - 1] is self._empty:
            cells[column - 1] = cell
        else:
            raise ValueError(f"the cell {cell_name(self.row, column)} occurs twice")

    def _result(self, cell: Any, kind: str | None, text: str, column: int) -> Any:
        """Return the saved result of a formula, or an error if it was not saved."""
        if not self._is_formula and not any(
            one.top <= self.row <= one.bottom and one.left <= column <= one.right for one in self._arrays
        ):
            return cell
        self._is_formula = False
        formula, self._formula = self._formula, ""
        return self.result(cell, kind, text, formula, (self.row, column))

    def result(self, cell: Any, kind: str | None, text: str, formula: str, at: tuple[int, int]) -> Any:
        """Return what a cell with a formula shows, by its type and text; *at* is its row and column."""
        link = _LINK_FORMULA.search(formula)
        if link:
            self._links[at] = link[1]
        empty = not text if kind == "str" else not text.strip()
        never = empty and kind != "str"
        if never or (self.recalculated and (empty or (kind in _NUMBERS and _is_zero(text)))):
            return uncalculated() if self._copies is None else NOT_CALCULATED
        return cell

    def _end_row(self) -> None:
        if self._has_value or self._is_formula:
            self._end_cell()
        if self._cells:
            self._done.append((self.row, self._cells, self._hidden))
            self._cells = []


_NAMED = {"&amp;": "&", "&lt;": "<", "&gt;": ">", "&quot;": '"', "&apos;": "'"}


def _character(entity: re.Match[str]) -> str:
    """Return the character of an XML entity."""
    name = entity[0]
    if name in _NAMED:
        return _NAMED[name]
    code = int(name[3:-1], 16) if name[2] == "x" else int(name[2:-1])
    if not (code in _BLANKS or 0x20 <= code < 0xD800 or 0xE000 <= code < 0xFFFE or 0xFFFF < code < 0x110000):
        raise ValueError(f"{name} is not a character")
    return chr(code)


def _is_hidden(attributes: dict[str, str]) -> bool:
    return attributes.get("hidden") in TRUE or _is_zero(attributes.get("ht", "1"))


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:
        return False


class PlainRows:
    """Rows as most programs write them, parsed by one regular expression; others go to the XML parser.

    The sheet has neither comments nor other encodings than UTF-8, so whatever looks like a tag is one.
    """

    def __init__(self, parser: SheetParser, make: Cells) -> None:
        self._parser = parser
        self._make = make
        self._texts = make.texts.texts
        self._columns = _ColumnNumbers()
        self._rest = b""
        self._begun = self._given_up = False

    def read(self, block: bytes) -> list[Row]:
        """Return the rows that end in this piece, which is the first of the rows or follows it."""
        if self._given_up:
            return self._parser.read(block)
        block = self._rest + block
        if not self._begun:
            start, mark, block = block.partition(b">")
            self._begun = bool(mark)
            if not mark or start.endswith(b"/"):
                self._rest = b"" if mark else start
                return []
            self._parser.read(b"<sheetData>")
        rows, end, self._rest = block.rpartition(_END)
        if not end and len(block) > _LONGEST_ROW:
            self._given_up = True
            return self._parser.read(block)
        found: list[Row] = []
        if end:
            for row in rows.decode().split("</row>"):
                self._read_row(row, found)
        return found

    def finish(self, *, whole: bool) -> list[Row]:
        """Return the remaining rows."""
        if not self._given_up and self._begun:
            self._parser.read(self._rest)
        return self._parser.finish(whole=whole)

    def _read_row(self, text: str, found: list[Row]) -> None:
        parser = self._parser
        start = _ROW.match(text)
        if start is not None:
            attributes = dict(_ATTRIBUTE.findall(start[1]))
            digits = attributes.get("r") or str(parser.row + 1)
            row = int(digits) if digits.isdecimal() and len(digits) < 11 else 0
            if row > parser.row and not parser.fills(row):
                cells = self._cells(text, start.end(), digits)
                if cells is not None:
                    parser.row = row
                    if cells:
                        hidden = len(attributes) > 1 and _is_hidden(attributes)
                        found.append((row, cells, hidden))
                    return
        parser.read(f"{text}</row>".encode())
        found += parser.take()

    def _cells(self, text: str, at: int, digits: str) -> list[Any] | None:  # noqa: C901, PLR0912  the hot loop
        """Return the cells of a row; None: not all are plain, in order, of this row, or fill no others."""
        cells: list[Any] = []
        columns, texts, make = self._columns, self._texts, self._make
        numbers, recalculated = make.numbers, self._parser.recalculated
        at, found, escaped = 0, _CELLS.findall(text, at), "&" in text
        if found and found[-1][-1]:
            return None
        for letters, row, style, kind, formula, value, letter, _ in found:
            if escaped and ("&" in value or "&" in letter):
                value, letter = _plain(value), _plain(letter)  # noqa: PLW2901
            if value:
                if not kind or kind == "n":
                    cell = numbers[style or None][value]
                elif kind == "s":
                    try:
                        cell = texts[_index(value)]
                    except (IndexError, ValueError):
                        cell = make.shared(value)
                elif kind == "inlineStr":
                    return None
                else:
                    cell = make.other(kind, value, style)
            elif letter:
                cell = text_cell(letter)
            elif formula:
                cell = ""
            else:
                continue
            column = columns[letters]
            if formula and (
                not value
                or formula[2] == " "
                or "YPERLINK" in formula.upper()
                or (recalculated and kind in _NUMBERS and not "1" <= value[0] <= "9")
            ):
                if formula[2] == " " and any(one in formula for one in _FILLING):
                    return None
                cell = self._parser.result(cell, kind, value, _plain(formula), (int(row), column))
            if cell.__class__ is str and not cell:
                continue
            at += 1
            if column != at or row != digits:
                if column < at or row != digits:
                    return None
                cells.extend([""] * (column - at))
                at = column
            cells.append(cell)
        return cells


def _plain(text: str) -> str:
    return _ENTITIES.sub(_character, text)


def _index(text: str) -> int:
    at = int(text)
    if at < 0:
        raise IndexError("that text does not exist")
    return at
