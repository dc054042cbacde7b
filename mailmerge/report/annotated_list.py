"""A copy of the user's own list with three more columns: the outcome of each row."""

from __future__ import annotations

import csv
import re
import zipfile
from typing import IO, TYPE_CHECKING
from xml.parsers import expat
from xml.sax.saxutils import escape, quoteattr

from mailmerge import files
from mailmerge.errors import ListError
from mailmerge.model import OWN_COLUMNS
from mailmerge.recipients.kinds import PIPED, TEXT, XLSX, find_kind
from mailmerge.recipients.recipient_list import MAX_COLUMNS, SheetCell
from mailmerge.recipients.text_list import TextList
from mailmerge.recipients.workbook import cell_name, cell_position
from mailmerge.recipients.xlsx import XlsxWorkbook
from mailmerge.recipients.xlsx_package import blocks, part_key, reading
from mailmerge.report.result_files import cell_text, text_cell, workbook_text

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

    from mailmerge.model import Result
    from mailmerge.recipients.dialect import Dialect
    from mailmerge.recipients.recipient_list import RecipientList
    from mailmerge.recipients.workbook import Sheet

_WIDTHS = {"mailmerge_status": 16, "mailmerge_code": 12, "mailmerge_reply": 60}
COPY_COLUMNS = tuple(name for name in OWN_COLUMNS if name in _WIDTHS)
"""Status, code, and the server's words or why there are none."""


def suffixes(recipients: RecipientList) -> tuple[str, ...]:
    """Return the suffixes that a copy may have: text and Excel workbooks keep theirs, others become .xlsx."""
    kind, suffix = find_kind(recipients.path, recipients.shown), recipients.path.suffix.lower()
    if kind is TEXT:
        return (suffix,) if suffix in kind.suffixes and suffix != PIPED else (".csv", ".txt")
    return (".xlsx", ".xlsm") if kind is XLSX else (".xlsx",)


def copy_list(recipients: RecipientList, target: Path, results: Iterable[Result]) -> int:
    """Copy a list of any kind, and return the number of rows marked.

    Args:
        recipients: the list, which came from a file.
        target: the copy, with one of its `suffixes`.
        results: one for each row, in the list's order.

    Raises:
        OSError: one of the files cannot be read or written.
        ListError: the list cannot be read.

    """
    header = recipients.header
    if isinstance(recipients, TextList):
        return copy_text(
            recipients.path,
            target,
            results,
            encoding=recipients.encoding,
            dialect=recipients.dialect,
            header_row=recipients.header_row,
        )
    if find_kind(recipients.path, recipients.shown) is XLSX:
        return copy_workbook(
            recipients.path,
            target,
            results,
            sheet=recipients.sheet,
            header_row=header.row,
            column=header.own[COPY_COLUMNS[0]] + 1 if COPY_COLUMNS[0] in header.own else None,
        )
    rows = recipients.copies(_Below(recipients.header_row))
    return copy_rows(
        target, results, sheet=recipients.sheet or "list", headings=recipients.columns.headings, rows=rows
    )


class _Below:
    """Contains the number of every row below a given one."""

    def __init__(self, row: int) -> None:
        self._row = row

    def __contains__(self, row: object) -> bool:
        return isinstance(row, int) and row > self._row


def copy_text(
    source: Path, target: Path, results: Iterable[Result], *, encoding: str, dialect: Dialect, header_row: int
) -> int:
    """Copy a text list, its own cells byte for byte, and return the number of rows marked.

    Args:
        source: the list.
        target: the copy.
        results: one for each row, in the list's order.
        encoding: of both.
        dialect: of both.
        header_row: number of the record with the headings, from 1.

    Raises:
        OSError: one of the files cannot be read or written.

    """
    marks = _Marks(results)
    with (
        source.open(encoding=encoding, newline="") as file,
        files.replace_text(target, encoding=encoding, named=True) as stream,
    ):
        if dialect.stated:
            stream.write(file.readline())
        ours: list[int] = []
        for row, (cells, raw) in enumerate(_records(file, dialect), 1):
            if row < header_row or not any(map(str.strip, cells)):
                stream.write(raw)
                continue
            if row == header_row:
                names = [cell.strip().lower() for cell in cells]
                ours = [names.index(name) for name in COPY_COLUMNS if name in names]
                added: tuple[str, ...] = COPY_COLUMNS
            else:
                added = tuple(map(text_cell, marks.of(row)))
            stream.write(_extended(raw, cells, ours, added, dialect))
    return marks.count


def _records(file: Iterable[str], dialect: Dialect) -> Iterator[tuple[list[str], str]]:
    """Yield each record with the exact text from which it was read."""
    taken: list[str] = []

    def lines() -> Iterator[str]:
        for line in file:
            taken.append(line)
            yield line

    for cells in dialect.reader(lines()):
        yield cells, "".join(taken)
        taken.clear()


def _extended(raw: str, cells: list[str], ours: list[int], added: Iterable[str], dialect: Dialect) -> str:
    """Append our cells to a record; those of an earlier copy are dropped."""
    text = raw.rstrip("\r\n")
    end = raw[len(text) :]
    if ours:
        text = _written([cell for at, cell in enumerate(cells) if at not in ours], dialect)
    return text + dialect.delimiter + _written(added, dialect) + end


def _written(cells: Iterable[str], dialect: Dialect) -> str:
    lines: list[str] = []
    writer = csv.writer(
        _LineSink(lines),
        delimiter=dialect.delimiter,
        quotechar=dialect.quote,
        escapechar=dialect.escape,
        doublequote=dialect.escape is None,
        lineterminator="",
    )
    writer.writerow(cells)
    return "".join(lines)


class _LineSink:
    """The part of a file's interface that `csv.writer` needs."""

    def __init__(self, lines: list[str]) -> None:
        self._lines = lines

    def write(self, text: str) -> None:
        """Store a line."""
        self._lines.append(text)


def copy_workbook(
    source: Path, target: Path, results: Iterable[Result], *, sheet: str, header_row: int, column: int | None
) -> int:
    """Copy a workbook with all of its content, and return the number of rows marked.

    Our cells are inserted into the XML of the list's sheet; all else is copied byte for byte, so formulas
    keep their results, and charts, rules and comments are unchanged.

    Args:
        source: the list.
        target: the copy; macros are kept only in an ``.xlsm``.
        results: one for each row, in the list's order.
        sheet: name of the sheet that is the list.
        header_row: the row with the headings.
        column: the first of our columns, from 1, if an earlier copy added them; None: after everything in the
            sheet from the row of the headings on.

    Raises:
        OSError: one of the files cannot be read or written.
        ListError: the list cannot be read as a workbook.

    """
    book = XlsxWorkbook(source, str(source))
    chosen = next(one for one in book.sheets if one.name == sheet)
    first = _free_column(book, chosen, header_row) if column is None else column
    book.close()
    if first + len(COPY_COLUMNS) - 1 > MAX_COLUMNS:
        raise ListError(f'the sheet "{sheet}" has no room for {len(COPY_COLUMNS)} columns', code="D155")
    part = part_key(chosen.part)
    marks = _Marks(results)
    with (
        reading(str(source)),
        zipfile.ZipFile(source) as archive,
        files.replace_file(target, named=True) as stream,
        zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as made,
    ):
        macros = target.suffix.lower() == ".xlsm"
        for info in archive.infolist():
            if not macros and _MACROS.search(info.filename):
                continue
            name = part_key(info.filename)
            with archive.open(info) as old, made.open(_entry_like(info), "w") as new:
                if name == part:
                    _SheetXml(new, header_row, first, marks).copy(old)
                else:
                    _copy_part(name, old, new, macros=macros)
    return marks.count


def _entry_like(info: zipfile.ZipInfo) -> zipfile.ZipInfo:
    """Return an entry with the name, date and rights of another."""
    entry = zipfile.ZipInfo(info.filename, info.date_time)
    entry.compress_type = zipfile.ZIP_DEFLATED if info.compress_type else zipfile.ZIP_STORED
    entry.external_attr = info.external_attr
    return entry


def _copy_part(name: str, old: IO[bytes], new: IO[bytes], *, macros: bool) -> None:
    """Copy a part that is not the sheet; without *macros* nothing may refer to them."""
    if name == _TYPES:
        new.write(_content_types(old.read(), macros=macros))
    elif not macros and name.endswith("workbook.xml.rels"):
        new.write(_without(old.read(), b"vbaProject"))
    else:
        while piece := old.read(_PIECE):
            new.write(piece)


def _free_column(book: XlsxWorkbook, sheet: Sheet, header_row: int) -> int:
    """Find the first column after all content in the row of the headings or below."""
    cells = (len(row.cells) for row in book.rows(sheet) if row.number >= header_row)
    merged = (one.right for one in book.merged(sheet) if one.bottom >= header_row)
    return max((*cells, *merged), default=0) + 1


_PIECE = 1 << 16
_TYPES = "[content_types].xml"
_MACROS = re.compile(r"(?:^|[/\\])vba(?:Project|Data)[^/\\]*\Z", re.IGNORECASE)
_ENTRY = re.compile(rb"<(?:\w+:)?(?:Default|Override|Relationship)\s[^<>]*/>")
_WITH_MACROS = b"application/vnd.ms-excel.sheet.macroEnabled.main+xml"
_PLAIN = b"application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"


def _content_types(content: bytes, *, macros: bool) -> bytes:
    """Return the content types for a workbook with or without macros: programs compare them with its name."""
    was, now = (_PLAIN, _WITH_MACROS) if macros else (_WITH_MACROS, _PLAIN)
    if was not in content:
        return content
    content = content.replace(was, now)
    return content if macros else _without(content, b"vba")


def _without(content: bytes, word: bytes) -> bytes:
    """Remove entries from a small XML file if one of their attributes contains a word."""
    return _ENTRY.sub(lambda found: b"" if word in found[0] else found[0], content)


_START_TAG = re.compile(rb"""<(?:[^<>"']|"[^"]*"|'[^']*')*>""")
_SPANS = re.compile(rb"""\sspans\s*=\s*(?:"[^"]*"|'[^']*')""")
_REF = re.compile(rb"""(\sref\s*=\s*["'])([^"']*)""")
_OTHER_WIDTHS = frozenset({"min", "max", "width", "customWidth", "bestFit", "hidden"})


class _SheetXml:
    """A sheet's XML with our columns inserted; everything else stays byte for byte."""

    def __init__(self, out: IO[bytes], header_row: int, column: int, marks: _Marks) -> None:
        self._out = out
        self._header_row = header_row
        self._first, self._last = column, column + len(COPY_COLUMNS) - 1
        self._marks = marks
        self._buffer = bytearray()
        self._base = 0  # where the buffer begins in the part
        self._done = 0  # everything before this is written, or left out
        self._seen = 0  # everything before this has been examined
        self._look = False  # set `_seen` at the next element
        self._row = self._cells = 0
        self._texts: tuple[str, ...] = ()  # still to be put into this row
        self._styles: dict[int, str] = {}  # of our cells, by column, and of the heading next to them
        self._leaving_out = False
        self._widths: list[dict[str, str]] | None = None  # those of the sheet, while they are read
        self._has_widths = False
        self._parser = expat.ParserCreate()
        self._parser.StartElementHandler = self._start
        self._parser.EndElementHandler = self._end

    def copy(self, part: IO[bytes]) -> None:
        """Read the sheet from *part* and write it."""
        for block in blocks(part):
            self._buffer += block
            self._look = True
            self._parser.Parse(block)
            if not self._leaving_out and self._widths is None:
                self._keep(self._seen)
            del self._buffer[: self._done - self._base]
            self._base = self._done
        self._parser.Parse(b"", True)
        self._keep(self._base + len(self._buffer))

    # --- copying or dropping a stretch of the part

    def _keep(self, end: int) -> None:
        if end > self._done:
            self._out.write(self._buffer[self._done - self._base : end - self._base])
            self._done = end

    def _tag(self) -> tuple[int, bytes]:
        """Return where the reported tag begins, and the tag; empty: the end of an empty element."""
        index = self._parser.CurrentByteIndex
        found = _START_TAG.match(self._buffer, index - self._base)
        return index, found[0] if found else b""

    def _put(self, text: str) -> None:
        self._out.write(text.encode("ascii", "xmlcharrefreplace"))

    def _leave_out_end(self) -> None:
        index, tag = self._tag()
        self._done = index + len(tag) if tag.startswith(b"</") else index

    # --- the existing content

    def _start(self, tag: str, attributes: dict[str, str]) -> None:
        if self._look:
            self._seen = self._parser.CurrentByteIndex
            self._look = False
        prefix, _, name = tag.rpartition(":")
        if name == "c":
            self._start_cell(prefix, attributes)
        elif name == "row":
            self._start_row(attributes)
        elif name == "dimension":
            self._rewrite(lambda old: _REF.sub(self._wider, old, count=1))
        elif name == "cols":
            self._keep(self._parser.CurrentByteIndex)
            self._widths = []
        elif name == "col" and self._widths is not None:
            self._widths.append(attributes)
        elif name == "sheetData" and not self._has_widths:
            self._keep(self._parser.CurrentByteIndex)
            self._put_widths(prefix, [])

    def _end(self, tag: str) -> None:
        prefix, _, name = tag.rpartition(":")
        if name == "c" and self._leaving_out:
            self._leave_out_end()
            self._leaving_out = False
        elif name == "row" and any(self._texts):
            self._keep(self._parser.CurrentByteIndex)
            self._put_cells(prefix)
        elif name == "cols" and self._widths is not None:
            self._leave_out_end()
            self._put_widths(prefix, self._widths)
            self._widths = None

    def _rewrite(self, change: Callable[[bytes], bytes]) -> None:
        index, tag = self._tag()
        self._keep(index)
        self._out.write(change(tag))
        self._done = index + len(tag)

    def _wider(self, found: re.Match[bytes]) -> bytes:
        start, _, end = found[2].decode("ascii", "replace").partition(":")
        try:
            row, column = cell_position(end or start)
        except ValueError:
            return found[0]
        return found[1] + f"{start}:{cell_name(row, max(column, self._last))}".encode()

    # --- rows and cells

    def _start_row(self, attributes: dict[str, str]) -> None:
        self._row = int(attributes.get("r", self._row + 1))
        self._cells = 0
        self._texts = ()
        if self._row < self._header_row:
            return
        self._styles.clear()
        self._texts = COPY_COLUMNS if self._row == self._header_row else self._marks.of(self._row)
        if not any(self._texts):
            return
        # A row may state where its cells begin and end, as an aid for readers: that is wrong now.
        self._rewrite(lambda tag: _SPANS.sub(b"", tag))

    def _start_cell(self, prefix: str, attributes: dict[str, str]) -> None:
        self._cells += 1
        if self._row < self._header_row:
            return
        name = attributes.get("r")
        if name is not None:
            self._cells = cell_position(name)[1]
        if self._cells < self._first - 1:
            return
        if self._cells < self._first:
            if self._row == self._header_row:
                self._styles[0] = attributes.get("s", "")
        elif self._cells <= self._last:
            self._keep(self._parser.CurrentByteIndex)
            self._styles[self._cells] = attributes.get("s", "")
            self._leaving_out = True
        elif any(self._texts):
            self._keep(self._parser.CurrentByteIndex)
            self._put_cells(prefix)

    def _put_cells(self, prefix: str) -> None:
        at = f"{prefix}:" if prefix else ""
        for column, text in enumerate(self._texts, self._first):
            if text:
                style = self._styles.get(0) or self._styles.get(column)
                styled = f" s={quoteattr(style)}" if style else ""
                shown = escape(workbook_text(cell_text(text)), {"\r": "&#13;"})
                self._put(
                    f'<{at}c r="{cell_name(self._row, column)}" t="inlineStr"{styled}><{at}is>'
                    f'<{at}t xml:space="preserve">{shown}</{at}t></{at}is></{at}c>'
                )
        self._texts = ()

    def _put_widths(self, prefix: str, found: Iterable[dict[str, str]]) -> None:
        """Write the widths of columns: ours get our widths, and otherwise keep their look."""
        widths = {self._first + at: _WIDTHS[name] for at, name in enumerate(COPY_COLUMNS)}
        columns: list[tuple[int, int, dict[str, str]]] = []
        ours = {column: {"width": str(width), "customWidth": "1"} for column, width in widths.items()}
        for one in found:
            least, most = int(one.get("min", 0)), int(one.get("max", 0))
            columns += [
                (start, end, one)
                for start, end in ((least, min(most, self._first - 1)), (max(least, self._last + 1), most))
                if start <= end
            ]
            for column in range(max(least, self._first), min(most, self._last) + 1):
                kept = {name: value for name, value in one.items() if name not in _OTHER_WIDTHS}
                ours[column] = {**kept, **ours[column]}
        columns += [(column, column, one) for column, one in ours.items()]
        at = f"{prefix}:" if prefix else ""
        self._put(f"<{at}cols>")
        for start, end, one in sorted(columns, key=lambda column: column[0]):
            named = {**one, "min": str(start), "max": str(end)}
            self._put(f"<{at}col {' '.join(f'{name}={quoteattr(value)}' for name, value in named.items())}/>")
        self._put(f"</{at}cols>")
        self._has_widths = True


# --- a list of another kind ------------------------------------------------------------------------------


def copy_rows(
    target: Path,
    results: Iterable[Result],
    *,
    sheet: str,
    headings: Iterable[str],
    rows: Iterable[tuple[int, Iterable[SheetCell]]],
) -> int:
    """Write the rows of a list that cannot be copied as such into a new workbook; return the rows marked.

    Args:
        target: the workbook.
        results: one for each row, in the list's order.
        sheet: name of its only sheet.
        headings: of the list's columns.
        rows: their numbers and cells, in the list's order.

    Raises:
        FileError: it cannot be written.
        ListError: the list cannot be read.

    """
    from mailmerge.report.results_workbook import write_copies

    marks = _Marks(results)
    marked = ([*cells, *(SheetCell(cell_text(text), "s") for text in marks.of(row))] for row, cells in rows)
    write_copies(target, sheet, [*headings, *COPY_COLUMNS], marked)
    return marks.count


class _Marks:
    """The cells to add to each row; both sides come in the list's order."""

    def __init__(self, results: Iterable[Result]) -> None:
        self._results = (result for result in results if result.row is not None)
        self._next = next(self._results, None)
        self.count = 0

    def of(self, row: int) -> tuple[str, str, str]:
        """Return the three texts for a row: empty ones for a row that the ledger does not list."""
        result = self._next
        while result is not None and (result.row or 0) < row:
            result = self._next = next(self._results, None)
        if result is None or result.row != row:
            return "", "", ""
        self.count += 1
        delivery = result.delivery
        code = f"{delivery.code or ''} {delivery.enhanced}".strip() if delivery else ""
        return result.status.value, code, (delivery.reply if delivery else "") or result.detail
