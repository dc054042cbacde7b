"""OpenDocument spreadsheets (.ods and .fods), streamed: the file contains the displayed text of every cell.

One pass when the file is opened finds the sheets, merged cells, names and styles; another one yields the rows
of a sheet. Both see the file a block at a time. One pass for both would have to keep all cells in memory:
which sheet is the list depends on every sheet, all of them are in one part, and the ranges that can name the
list come after the last one. OpenDocument 1.3, part 3; places where LibreOffice differs from the standard are
marked.
"""

from __future__ import annotations

import re
import zipfile
from contextlib import contextmanager
from datetime import date, datetime, time
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from mailmerge.errors import ListError
from mailmerge.model import Place
from mailmerge.recipients.cells import DAY_0
from mailmerge.recipients.opendocument_rows import MAX_ROWS, TEXT, Rows, count
from mailmerge.recipients.opendocument_styles import NUMBER, OFFICE, STYLE, TABLE, Styles
from mailmerge.recipients.recipient_list import MAX_COLUMNS, SheetCell
from mailmerge.recipients.workbook import Range, Sheet, SheetRow, Workbook, cell_position
from mailmerge.recipients.xlsx_package import check_sizes, reading

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path
    from typing import IO

    from mailmerge.recipients.opendocument_rows import StyledCell

_CONFIG = "urn:oasis:names:tc:opendocument:xmlns:config:1.0 "
_META = "urn:oasis:names:tc:opendocument:xmlns:meta:1.0 "
_MANIFEST = "urn:oasis:names:tc:opendocument:xmlns:manifest:1.0 "
_HREF = "http://www.w3.org/1999/xlink href"

_BLOCK = 1 << 16
_MAX_RANGES = 100_000
_MAX_HIDDEN = 1000
"""Most ranges of hidden columns of a sheet; further ones count as visible."""
_ADDRESS = re.compile(r"\$?('(?:[^']|'')*'|[^.'$:]*)\.(\$?[A-Z]{1,3}\$?[0-9]{1,7})\Z")


class OpenDocument(Workbook):
    """A spreadsheet in the format of LibreOffice, zipped or *flat* (one XML file)."""

    def __init__(self, path: Path, shown: str, *, flat: bool) -> None:
        self.kind = "FODS" if flat else "ODS"
        self.shown = shown
        self._path = path
        self._flat = flat
        styles = Styles()
        if not flat:
            self._look_around(styles)
        self._found = structure = _SpreadsheetStructure(styles)
        with self._parsing(structure.parser) as file:
            while block := file.read(_BLOCK):
                structure.parser.Parse(block)
            structure.parser.Parse(b"", True)
        self.program = self.program or structure.program
        self.active = self.active or structure.active
        self.sheets = structure.sheets()
        self.ranges = structure.ranges

    def _look_around(self, styles: Styles) -> None:
        """Examine the package, and collect the facts from its smaller parts."""
        with reading(self.shown), zipfile.ZipFile(self._path) as archive:
            names = frozenset(archive.namelist())
            check_sizes(archive, self.shown)
            if "META-INF/manifest.xml" in names:
                manifest = self._facts(archive, "META-INF/manifest.xml", styles)
                if manifest.encrypted or "encrypted-package" in names:
                    raise ListError(
                        f"{self.shown} is encrypted",
                        code="D120",
                        hint="open it with its password and save a copy without one",
                        place=Place(path=self.shown),
                    )
            for part in sorted(names & {"meta.xml", "settings.xml", "styles.xml"}):
                facts = self._facts(archive, part, styles)
                self.program = self.program or facts.program
                self.active = self.active or facts.active

    @staticmethod
    def _facts(archive: zipfile.ZipFile, part: str, styles: Styles) -> _PackageFacts:
        facts = _PackageFacts(styles)
        with archive.open(part) as file:
            while block := file.read(_BLOCK):
                facts.parser.Parse(block)
        facts.parser.Parse(b"", True)
        return facts

    @contextmanager
    def _parsing(self, parser: Any) -> Iterator[IO[bytes]]:
        """Open the part with the cells; anything wrong with it becomes one kind of error."""
        parser.StartDoctypeDeclHandler = _refuse_doctype
        with reading(self.shown):
            if self._flat:
                with self._path.open("rb") as file:
                    yield file
            else:
                with zipfile.ZipFile(self._path) as archive, archive.open("content.xml") as part:
                    yield part

    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""
        for number, hidden, raw in self._raw_rows(sheet):
            yield SheetRow(number, [cell.value if cell else "" for cell in raw], hidden)

    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as an Excel workbook stores it."""
        for number, _, raw in self._raw_rows(sheet):
            yield number, [cell.copy() if cell else SheetCell(None, "n") for cell in raw]

    def about_rows(self, sheet: Sheet) -> int:
        """Return the number of the last row with content."""
        return self._found.last_row[int(sheet.part)]

    def merged(self, sheet: Sheet) -> Sequence[Range]:
        """Return the ranges of merged cells."""
        return self._found.merged[int(sheet.part)]

    def hidden_columns(self, sheet: Sheet) -> Sequence[range]:
        """Return the columns that are hidden, from 1."""
        return self._found.hidden_columns[int(sheet.part)]

    def links(self, sheet: Sheet) -> Mapping[tuple[int, int], str]:
        """Return the targets of links by row and column."""
        return self._found.links[int(sheet.part)]

    def _raw_rows(self, sheet: Sheet) -> Iterator[tuple[int, bool, list[StyledCell | None]]]:
        reader = Rows(int(sheet.part), self._found.styles, self._found.null_date)
        parser, ready = reader.parser, reader.ready
        with self._parsing(parser) as file:
            while block := file.read(_BLOCK):
                parser.Parse(block)
                while ready:
                    number, repeated, hidden, cells = ready.popleft()
                    for row in range(number, number + repeated):
                        yield row, hidden, list(cells)
                if reader.done:
                    return


def _refuse_doctype(*_: object) -> None:
    raise ValueError("the file declares a document type")


class _PackageFacts:
    """Facts from the smaller parts of a package."""

    def __init__(self, styles: Styles) -> None:
        self.styles = styles
        self.program = ""
        self.active = ""
        self.encrypted = False
        self._name = ""
        self.parser = expat.ParserCreate(namespace_separator=" ")
        self.parser.buffer_text = True
        self.parser.StartElementHandler = self.start
        self.parser.EndElementHandler = self.end
        self.parser.CharacterDataHandler = self.text
        self.parser.StartDoctypeDeclHandler = _refuse_doctype

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        if tag.startswith((STYLE, NUMBER)):
            self.styles.start(tag, attributes)
        elif tag == f"{_MANIFEST}encryption-data":
            self.encrypted = True
        self._name = attributes.get(f"{_CONFIG}name", "") if tag.startswith(_CONFIG) else tag

    def end(self, tag: str) -> None:
        if tag.startswith((STYLE, NUMBER)):
            self.styles.end(tag)
        self._name = ""

    def text(self, text: str) -> None:
        self.styles.text(text)
        if self._name == f"{_META}generator":
            self.program = text[:100].partition("$")[0].partition("/")[0].strip()
        elif self._name == "ActiveTable":
            self.active = text


class _SpreadsheetStructure(_PackageFacts):
    """One pass over everything except the text of cells."""

    def __init__(self, styles: Styles) -> None:
        super().__init__(styles)
        self.null_date = DAY_0
        self.merged: list[list[Range]] = []
        self.hidden_columns: list[list[range]] = []
        self.links: list[dict[tuple[int, int], str]] = []
        self.last_row: list[int] = []
        self.ranges: dict[str, Range] = {}
        self._tables: list[tuple[str, str]] = []
        self._depth = 0
        """Nesting depth of tables: those inside a cell are not sheets."""
        self._row = self._column = 0
        self._ended = 0
        self._handlers = {
            f"{TABLE}table": self._start_table,
            f"{TABLE}table-column": self._start_column,
            f"{TABLE}table-row": self._start_row,
            f"{TABLE}table-cell": self._start_cell,
            f"{TABLE}covered-table-cell": self._start_cell,
            f"{TEXT}a": self._link,
            f"{TABLE}null-date": self._start_null_date,
            f"{TABLE}database-range": self._start_range,
            f"{TABLE}named-range": self._start_range,
        }

    def sheets(self) -> list[Sheet]:
        hidden = self.styles.hidden_tables
        return [Sheet(name, style not in hidden, str(at)) for at, (name, style) in enumerate(self._tables)]

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        handler = self._handlers.get(tag)
        if handler is not None:
            handler(attributes)
        elif not self._tables:
            super().start(tag, attributes)

    def end(self, tag: str) -> None:
        if tag == f"{TABLE}table":
            self._depth -= 1
        elif not self._tables:
            super().end(tag)

    def text(self, text: str) -> None:
        if not self._tables:
            super().text(text)

    def _start_table(self, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > 1:
            return
        if len(self._tables) >= MAX_COLUMNS:
            raise ValueError("more sheets than any workbook has")
        self.parser.CharacterDataHandler = None  # the content of cells is not examined here
        self._tables.append((attributes.get(f"{TABLE}name", ""), attributes.get(f"{TABLE}style-name", "")))
        self.merged.append([])
        self.hidden_columns.append([])
        self.links.append({})
        self.last_row.append(0)
        self._row = self._ended = self._column = 0

    def _start_column(self, attributes: dict[str, str]) -> None:
        if self._depth == 1:
            first = self._column + 1
            self._column += count(attributes, f"{TABLE}number-columns-repeated", MAX_COLUMNS)
            if (
                attributes.get(f"{TABLE}visibility", "visible") != "visible"
                and len(self.hidden_columns[-1]) < _MAX_HIDDEN
            ):
                self.hidden_columns[-1].append(range(first, self._column + 1))

    def _start_row(self, attributes: dict[str, str]) -> None:
        if self._depth == 1:
            self._row = self._ended + 1
            self._ended += count(attributes, f"{TABLE}number-rows-repeated", MAX_ROWS)
            self._column = 0

    def _start_cell(self, attributes: dict[str, str]) -> None:
        if self._depth != 1:
            return
        first = self._column + 1
        self._column += count(attributes, f"{TABLE}number-columns-repeated", MAX_COLUMNS)
        if f"{OFFICE}value-type" in attributes or f"{TABLE}formula" in attributes:
            self.last_row[-1] = min(self._ended, MAX_ROWS)
        wide = count(attributes, f"{TABLE}number-columns-spanned", MAX_COLUMNS)
        high = count(attributes, f"{TABLE}number-rows-spanned", MAX_ROWS)
        if (wide > 1 or high > 1) and len(self.merged[-1]) < _MAX_RANGES:
            name, row = self._tables[-1][0], self._row
            self.merged[-1].append(Range(name, row, first, row + high - 1, first + wide - 1))

    def _link(self, attributes: dict[str, str]) -> None:
        links = self.links[-1] if self.links else {}
        if self._depth == 1 and len(links) < MAX_ROWS:
            links.setdefault((self._row, self._column), attributes.get(_HREF, ""))

    def _start_null_date(self, attributes: dict[str, str]) -> None:
        day = attributes.get(f"{TABLE}date-value-type") or attributes.get(f"{TABLE}date-value", "")
        self.null_date = datetime.combine(date.fromisoformat(day[:10]), time()) if day else DAY_0

    def _start_range(self, attributes: dict[str, str]) -> None:
        name = attributes.get(f"{TABLE}name", "")
        target = attributes.get(f"{TABLE}target-range-address") or attributes.get(
            f"{TABLE}cell-range-address", ""
        )
        found = _range(target)
        if found and name and not name.startswith("__Anonymous") and len(self.ranges) < _MAX_RANGES:
            self.ranges.setdefault(name, found)


def _range(address: str) -> Range | None:
    """Read ``$'My sheet'.$A$1:.$C$5``; None if it is not a range of one sheet."""
    at = address.rfind(":")
    first, last = (address[:at], address[at + 1 :]) if at > 0 else (address, address)
    start, end = _ADDRESS.match(first), _ADDRESS.match(last)
    if not start or not end or (end[1] and end[1] != start[1]):
        return None
    sheet = start[1][1:-1].replace("''", "'") if start[1].startswith("'") else start[1]
    (top, left), (bottom, right) = cell_position(start[2]), cell_position(end[2])
    return Range(sheet, min(top, bottom), min(left, right), max(top, bottom), max(left, right))
