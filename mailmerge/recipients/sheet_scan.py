"""What openpyxl's streaming reader does not tell: hidden rows, merged cells, formulas without value.

One pass over the sheet's XML, before it is read. It sees which cells have content, not what that is.
"""

from __future__ import annotations

import re
import zipfile
from typing import TYPE_CHECKING
from xml.parsers import expat

from msgspec import Struct, field

from mailmerge.recipients.xlsx_package import reading

if TYPE_CHECKING:
    from pathlib import Path

MAX_GAP = 1000
"""So many blank rows end a list; what stands below them is no part of it."""
_BLOCK = 65_536
_REFERENCE = re.compile(r"\$?([A-Z]{1,3})\$?([0-9]{1,7})\Z")


class Traits(Struct):
    """What a pass over a sheet found; rows and columns count from 1."""

    first_row: int = 0
    """The first row with content; 0: there is none."""
    last_row: int = 0
    hidden: list[int] = field(default_factory=list)
    """Rows with content that are hidden by hand, by a filter or by a collapsed group."""
    merged: list[str] = field(default_factory=list)
    """Ranges such as ``B3:B5``."""
    uncached: dict[int, list[int]] = field(default_factory=dict)
    """Row to columns of formulas that were never calculated."""
    stray: str | None = None
    """The first cell below more blank rows than a list may have."""


def read_traits(path: Path, part: str, shown: str) -> Traits:
    """Go through one sheet of a workbook.

    Raises:
        ListError: the sheet is damaged, or not written in order.

    """
    scan = _Scan()
    with reading(shown), zipfile.ZipFile(path) as archive, archive.open(part) as file:
        while block := file.read(_BLOCK):
            scan.feed(block)
        scan.close()
    return scan.traits


def cell_name(row: int, column: int) -> str:
    """Name a cell: row 31, column 1 is ``A31``."""
    letters = ""
    while column:
        column, rest = divmod(column - 1, 26)
        letters = chr(ord("A") + rest) + letters
    return f"{letters}{row}"


def cell_position(name: str) -> tuple[int, int]:
    """Row and column of a cell's name.

    Raises:
        ValueError: it is no such name.

    """
    match = _REFERENCE.match(name)
    if not match:
        raise ValueError(f"{name!r} names no cell")
    column = 0
    for letter in match[1]:
        column = column * 26 + ord(letter) - ord("A") + 1
    return int(match[2]), column


class _Scan:
    """Expat handlers; only elements begin here, as ends would cost as much again."""

    def __init__(self) -> None:
        self.traits = Traits()
        self._row = 0
        self._column = 0
        self._hidden = False
        self._content = ""  # name of the row's first cell with content
        self._cell = ""
        self._type = ""
        self._formula = False
        self._in_value = False
        self._value = ""
        self._names: dict[str, str] = {}
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.StartDoctypeDeclHandler = self._refuse

    def feed(self, block: bytes) -> None:
        self._parser.Parse(block)

    def close(self) -> None:
        self._parser.Parse(b"", True)
        self._end_row()

    def _refuse(self, *_: object) -> None:
        raise ValueError("the sheet declares a document type")

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        name = self._names.get(tag)
        if name is None:
            name = self._names[tag] = tag.rpartition(":")[2]
        if name == "c":
            if self._formula:
                self._end_formula()
            self._column += 1
            self._cell = attributes.get("r", "")
            self._type = attributes.get("t", "")
        elif name in ("v", "is"):
            self._in_value = True
            self._content = self._content or self._cell or cell_name(self._row, self._column)
        elif name == "f":
            self._formula = True
            self._in_value = False
            self._value = ""
            self._content = self._content or self._cell or cell_name(self._row, self._column)
            self._parser.CharacterDataHandler = self._text
        elif name == "row":
            self._end_row()
            self._start_row(attributes)
        elif name == "mergeCell":
            self.traits.merged.append(attributes.get("ref", ""))

    def _text(self, text: str) -> None:
        if self._in_value:
            self._value += text

    def _start_row(self, attributes: dict[str, str]) -> None:
        row = int(attributes.get("r", self._row + 1))
        if row <= self._row:
            raise ValueError(f"row {row} comes after row {self._row}")
        self._row = row
        self._column = 0
        self._hidden = attributes.get("hidden") in ("1", "true") or attributes.get("ht") == "0"

    def _end_formula(self) -> None:
        self._parser.CharacterDataHandler = None
        self._formula = False
        # A text result may be empty; a result of any other type, or none, may not.
        if not self._value.strip() and self._type != "str":
            column = cell_position(self._cell)[1] if self._cell else self._column
            self.traits.uncached.setdefault(self._row, []).append(column)

    def _end_row(self) -> None:
        if self._formula:
            self._end_formula()
        traits = self.traits
        if not self._content or traits.stray:
            return
        if self._row - traits.last_row > MAX_GAP:
            traits.stray = self._content
        else:
            traits.first_row = traits.first_row or self._row
            traits.last_row = self._row
            if self._hidden:
                traits.hidden.append(self._row)
        self._content = ""
