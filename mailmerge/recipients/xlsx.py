"""Workbooks (.xlsx, .xlsm), streamed by zipfile and expat; macros are never looked at.

A sheet is read twice: first only what comes before and after the rows (merged cells, links), then the rows as
they are requested.
"""

from __future__ import annotations

import posixpath
import re
import zipfile
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.recipients.workbook import Range, Sheet, SheetRow, Workbook, cell_range
from mailmerge.recipients.xlsx_cells import Cells, SharedTexts, StoredCells, read_formats
from mailmerge.recipients.xlsx_package import TRUE, Package, local, parser_of, reading
from mailmerge.recipients.xlsx_rows import PlainRows, SheetParser

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mailmerge.recipients.recipient_list import SheetCell
    from mailmerge.recipients.xlsx_rows import Reader, Row

_MAX_ENDS = 64 << 20
"""Most bytes of a sheet before and after its rows."""
_MAX_LINKED = 1_000_000
"""Most cells of all links of a sheet."""
_MAX_HIDDEN = 1000
"""Most ranges of hidden columns of a sheet; further ones count as visible."""
_LONG_COLUMN = 8
"""Digits that no number of a column has."""
_ROWS = re.compile(rb"</(?:[\w.-]+:)?sheetData\s*>|<(?:[\w.-]+:)?sheetData(?:\s[^<>]*)?/>")
_OVERLAP = 64
_PLAIN = re.compile(rb"<sheetData[\s/>]")
_UTF_8 = re.compile(rb"""\s*(?:\xef\xbb\xbf)?<\?xml[^>]*\sencoding\s*=\s*["'][uU][tT][fF]-?8["']""")
_AREA = re.compile(
    r"(?:'((?:[^']|'')+)'|([^'!\[\]]+))!(\$?[A-Z]{1,3}\$?[0-9]{1,7}(?::\$?[A-Z]{1,3}\$?[0-9]{1,7})?)\Z"
)


class _Ends(Struct):
    """What comes before and after the rows of a sheet."""

    rows_start: int = 0
    rows_end: int | None = None
    """Where the rows end in the part; None: unknown."""
    plain: bool = True
    """Whether the rows are written as most programs write them: UTF-8, no prefixes, comments or similar."""
    rows: int = 0
    merged: list[str] = field(default_factory=list)
    hidden_columns: list[range] = field(default_factory=list)
    links: list[tuple[str, str]] = field(default_factory=list)
    """Cells, and the id or address that they link to."""


class XlsxWorkbook(Workbook):
    """A workbook in Excel's format, whichever program wrote it."""

    def __init__(self, path: Path, shown: str) -> None:
        self.kind = path.suffix[1:].upper()
        self.shown = shown
        self._package = Package(path, shown)
        self._ends: dict[str, _Ends] = {}
        self._links: dict[str, dict[tuple[int, int], str]] = {}
        self._texts: SharedTexts | None = None
        self._readers = 0
        self._formats: list[str] | None = None
        with reading(self._package):
            self._read_structure()

    def close(self) -> None:
        """Close the file, unless rows are being read; reading opens it again."""
        if self._readers:
            return
        self._package.close()
        if self._texts is not None and not self._texts.complete:
            self._texts = None

    def about_rows(self, sheet: Sheet) -> int:
        """Return the number of rows in the file, including blank ones."""
        return self._look(sheet).rows

    def rows(self, sheet: Sheet) -> Iterator[SheetRow]:
        """Yield the rows that have content, in order."""
        links = self._links.setdefault(sheet.name, {})
        for number, cells, hidden in self._read(sheet, Cells, links):
            yield SheetRow(number, cells, hidden)

    def copies(self, sheet: Sheet) -> Iterator[tuple[int, Sequence[SheetCell]]]:
        """Yield the same rows with their numbers, each cell as the file stores it, for a copy."""
        for number, cells, _ in self._read(sheet, StoredCells, {}):
            yield number, cells

    def merged(self, sheet: Sheet) -> Sequence[Range]:
        """Return the ranges of merged cells."""
        with reading(self._package):
            return [cell_range(sheet.name, name) for name in self._look(sheet).merged]

    def hidden_columns(self, sheet: Sheet) -> Sequence[range]:
        """Return the columns that are hidden, from 1."""
        return self._look(sheet).hidden_columns

    def links(self, sheet: Sheet) -> Mapping[tuple[int, int], str]:
        """Return the targets of links by row and column; complete when the rows have been read."""
        return self._links.get(sheet.name, {})

    # --- how parts belong together

    def _read_structure(self) -> None:
        package = self._package
        roots = package.relations("").values()
        main = next((one.target for one in roots if one.kind == "officeDocument"), "xl/workbook.xml")
        self._relations = package.relations(main)
        self._folder = posixpath.dirname(main)
        found = self._structure = _WorkbookStructure()
        package.parse(main, found.start, found.end)
        related = [(name, visible, self._relations[relation]) for name, visible, relation in found.sheets]
        self.sheets = [
            Sheet(name, visible, relation.target)
            for name, visible, relation in related
            if relation.kind == "worksheet"
        ]
        if 0 <= found.active < len(related):
            self.active = related[found.active][0]
        self.program = self._read_program()
        self.ranges = dict(self._named_ranges())

    def _read_program(self) -> str:
        found: dict[str, str] = {}
        for relation in self._package.relations("").values():
            if relation.kind == "extended-properties" and self._package.find(relation.target):
                self._package.parse(relation.target, lambda *_: None, found.setdefault)
        return found.get("Application", "").strip()[:60]

    def _named_ranges(self) -> Iterator[tuple[str, Range]]:
        known = {sheet.name: sheet for sheet in self.sheets}
        for name, text in self._structure.names:
            area = _AREA.match(text)
            sheet = area and (area[1].replace("''", "'") if area[1] else area[2])
            if area and sheet in known:
                yield name, cell_range(sheet or "", area[3])
        for sheet in self.sheets:
            for relation in self._package.relations(sheet.part).values():
                if relation.kind == "table" and self._package.find(relation.target):
                    yield from self._table(sheet, relation.target)

    def _table(self, sheet: Sheet, part: str) -> Iterator[tuple[str, Range]]:
        found: list[dict[str, str]] = []
        self._package.parse(
            part, lambda tag, attributes: found.append(attributes) if tag == "table" else None
        )
        for table in found[:1]:
            area = cell_range(sheet.name, table["ref"])
            totals = int(table.get("totalsRowCount", 0))
            bottom = max(area.top, area.bottom - totals)
            headed = table.get("headerRowCount", "1") != "0"
            yield (
                table.get("displayName") or table.get("name", ""),
                Range(area.sheet, area.top, area.left, bottom, area.right, headed, totals),
            )

    def _part(self, kind: str, file: str) -> str | None:
        """Find a part that belongs to the whole workbook; None: it has no such part."""
        named = next((one.target for one in self._relations.values() if one.kind == kind), "")
        usual = posixpath.join(self._folder, file)
        return next((part for part in (named, usual) if part and self._package.find(part)), None)

    # --- the ends of a sheet

    def _look(self, sheet: Sheet) -> _Ends:
        if sheet.name not in self._ends:
            with reading(self._package):
                self._ends[sheet.name] = ends = _read_ends(self._package, sheet.part)
                self._links[sheet.name] = dict(self._targets(sheet, ends))
        return self._ends[sheet.name]

    def _targets(self, sheet: Sheet, ends: _Ends) -> Iterator[tuple[tuple[int, int], str]]:
        relations = self._package.relations(sheet.part) if ends.links else {}
        count = 0
        for name, relation in ends.links:
            target = relations.get(relation)
            if target is None or not target.external:
                continue
            area = cell_range(sheet.name, name)
            count += (area.bottom - area.top + 1) * (area.right - area.left + 1)
            if count <= _MAX_LINKED:
                for row in range(area.top, area.bottom + 1):
                    for column in range(area.left, area.right + 1):
                        yield (row, column), target.target

    # --- the rows

    def _read(self, sheet: Sheet, make: type[Cells], links: dict[tuple[int, int], str]) -> Iterator[Row]:
        self._readers += 1
        try:
            yield from self._read_rows(sheet, make, links)
        finally:
            self._readers -= 1

    def _read_rows(self, sheet: Sheet, make: type[Cells], links: dict[tuple[int, int], str]) -> Iterator[Row]:
        package, structure = self._package, self._structure
        ends = self._look(sheet)
        with reading(package):
            maker = make(self._shared_texts(), self._number_formats(), date_1904=structure.date_1904)
            parser = SheetParser(sheet.part, maker, links, recalculated=structure.recalculated)
            plain = ends.plain and make is Cells and not maker.rewritten
            reader: Reader = PlainRows(parser, maker) if plain else parser
            blocks = _stretch(package.blocks(sheet.part), ends.rows_start if plain else 0, ends.rows_end)
        while True:
            with reading(package):
                block = next(blocks, b"")
                found = reader.read(block) if block else reader.finish(whole=ends.rows_end is None)
            yield from found
            if not block:
                return

    def _shared_texts(self) -> SharedTexts:
        if self._texts is None or not (self._texts.complete or self._package.is_open):
            self._texts = SharedTexts(self._package, self._part("sharedStrings", "sharedStrings.xml"))
        return self._texts

    def _number_formats(self) -> list[str]:
        if self._formats is None:
            styles = self._part("styles", "styles.xml")
            self._formats = read_formats(self._package, styles) if styles else []
        return self._formats


class _WorkbookStructure:
    """The facts from the part that represents the whole workbook."""

    def __init__(self) -> None:
        self.sheets: list[tuple[str, bool, str]] = []
        """Name, visibility, and the id of its part."""
        self.active = 0
        self.names: list[tuple[str, str]] = []
        self.date_1904 = False
        self.recalculated = False
        """Whether formulas must be calculated when it is opened, whatever results were saved."""
        self._name = ""

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        """Handle the start of an element."""
        if tag == "sheet":
            relation = next((value for name, value in attributes.items() if name.endswith(":id")), "")
            self.sheets.append(
                (attributes["name"], attributes.get("state", "visible") == "visible", relation)
            )
        elif tag == "workbookPr":
            self.date_1904 = attributes.get("date1904") in TRUE
        elif tag == "calcPr":
            self.recalculated = attributes.get("fullCalcOnLoad") in TRUE
        elif tag == "workbookView":
            self.active = self.active or int(attributes.get("activeTab", 0))
        elif tag == "definedName":
            self._name = "" if attributes.get("hidden") in TRUE else attributes.get("name", "")

    def end(self, tag: str, text: str) -> None:
        """Handle the end of an element."""
        if tag == "definedName" and self._name:
            self.names.append((self._name, text.strip()))


def _stretch(blocks: Iterator[bytes], start: int, end: int | None) -> Iterator[bytes]:
    """Yield the bytes between two offsets of a part that is read in pieces."""
    at = 0
    for block in blocks:
        wanted = block[max(start - at, 0) : None if end is None else max(end - at, 0)]
        at += len(block)
        if wanted:
            yield wanted
        if end is not None and at >= end:
            return


def _read_ends(package: Package, part: str) -> _Ends:
    """Read a sheet without its rows: what comes before and after them is well-formed by itself."""
    ends = _Ends()
    head, tail, carried, at = bytearray(), bytearray(), b"", 0
    begun = False
    for block in package.blocks(part):
        window, start = carried + block, at - len(carried)
        at += len(block)
        carried = window[-_OVERLAP:]
        ends.rows += block.count(b"<row") + block.count(b":row ")
        ends.plain = ends.plain and b"<!" not in window
        if not begun:
            head += block
            begun = b"sheetData" in head
            if begun:
                _begin_rows(ends, head)
        last = list(_ROWS.finditer(window))[-1:] if b"sheetData" in window else []
        if last:
            ends.rows_end = start + last[0].end()
            tail[:] = window[last[0].end() :]
        elif ends.rows_end is not None:
            tail += block
        if len(head) + len(tail) > _MAX_ENDS:
            raise zipfile.BadZipFile(f"{part} is too large")
    if ends.rows_end is not None or not begun:
        _parse_ends(ends, part, bytes(head + tail))
    return ends


def _begin_rows(ends: _Ends, head: bytearray) -> None:
    """Find where the rows begin, and cut off the rest."""
    encoded = b"encoding" not in head or _UTF_8.match(head) is not None
    ends.rows_start = max(head.rfind(b"<", 0, head.find(b"sheetData")), 0)
    ends.plain = ends.plain and encoded and _PLAIN.match(head, ends.rows_start) is not None
    del head[ends.rows_start :]


def _parse_ends(ends: _Ends, part: str, text: bytes) -> None:
    def start(tag: str, attributes: dict[str, str]) -> None:
        name = local(tag)
        if name == "mergeCell":
            ends.merged.append(attributes.get("ref", ""))
        elif name == "col" and (attributes.get("hidden") in TRUE or attributes.get("width") == "0"):
            first, last = attributes.get("min", ""), attributes.get("max", "")
            known = f"{first}{last}".isdecimal() and max(len(first), len(last)) < _LONG_COLUMN
            if first and last and known and len(ends.hidden_columns) < _MAX_HIDDEN:
                ends.hidden_columns.append(range(int(first), int(last) + 1))
        elif name == "hyperlink" and "ref" in attributes:
            target = next((value for key, value in attributes.items() if local(key) == "id"), "")
            ends.links.append((attributes["ref"], target))

    parser = parser_of(part)
    parser.StartElementHandler = start
    parser.Parse(text, True)
