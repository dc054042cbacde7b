"""JSON as a list: one object a line (JSON Lines), consecutive objects, or one array of objects.

The names in all objects together are the headings, in order of first appearance: a member that an object
lacks is an empty cell. So the file is parsed once when it is opened, which also finds its errors, and once
more for its rows; neither keeps it in memory. Numbers are exact: ``12.50`` is shown as that, and no digit of
an identity number is lost.
"""

from __future__ import annotations

import codecs
import json
import re
from decimal import Decimal, InvalidOperation
from typing import TYPE_CHECKING, Any

from mailmerge.errors import ListError
from mailmerge.model import Diagnostic, Place
from mailmerge.recipients.csv_errors import fenced, not_in_encoding
from mailmerge.recipients.recipient_list import (
    MAX_CELL,
    MAX_COLUMNS,
    MAX_PROBLEMS,
    CellError,
    Options,
    RecipientList,
    Record,
    list_error,
    long_cell,
    read_header,
)
from mailmerge.recipients.understanding import Understanding
from mailmerge.text import excerpt, quoted
from mailmerge.values import Number, Truth, canonical

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path
    from typing import TextIO

    from mailmerge.values import Cell

_MAX_OBJECT = 16 << 20
"""Most characters of one object: a longer one is not a person."""
_BLOCK = 1 << 16
_FIRST = 2
"""The row of the first object, as in a spreadsheet, where row 1 has the headings."""
_BLANK = re.compile(r"[ \t\r\n\x1e]*")
_BETWEEN = re.compile(r"[ \t\r\n\x1e]*,?[ \t\r\n\x1e]*")

_Pairs = list[tuple[str, Any]]
_Found = tuple[int, int, "_Pairs"]
"""Row, line and object."""


class JsonList(RecipientList):
    """The objects of a JSON file, one a row."""

    def __init__(self, path: Path, shown: str, options: Options, encoding: str | None = None) -> None:
        self.path = path
        self.shown = shown
        self._encoding = _codec(path, shown, encoding)
        self._form = self._find_form()
        self._positions: dict[str, int] = {}
        self._count = 0
        first: _Pairs | None = None
        for _, _, pairs in self._objects():
            self._count += 1
            first = pairs if self._count == 1 else None
            for name, _ in pairs:
                self._positions.setdefault(name, len(self._positions))
            if len(self._positions) > MAX_COLUMNS:
                break
        self._names = tuple(self._positions)
        if first is not None:
            self._refuse_envelope(first)
            self._refuse_turned(first)
        if not self._names:
            raise ListError(
                f"{shown} is empty",
                code="D102",
                hint='each object is one recipient: {"email": "ann@example.org", "name": "Ann"}',
                place=Place(path=shown),
            )
        header, problems = read_header(self._names, 1, lambda at: self._place(1, None, at))
        if problems:
            raise list_error(shown, problems)
        super().__init__(path, shown, header, options)
        self._plain = False
        kind = {"lines": "JSON lines", "array": "JSON array"}.get(self._form, "JSON objects")
        self.understanding = Understanding(kind, self._encoding.removesuffix("-sig").upper())

    @property
    def header_row(self) -> int:
        """0: each object carries its own names, instead of a heading row."""
        return 0

    def about_rows(self) -> int:
        """Return the number of objects."""
        return self._count

    def _refuse_envelope(self, only: _Pairs) -> None:
        """Refuse a file of one object with the people in a member of it, as web services reply."""
        if any(isinstance(value, str) and "@" in value for _, value in only):
            return
        for name, value in only:
            if isinstance(value, list) and value and isinstance(value[0], _Object):
                raise ListError(
                    f'the file is one object, and the people seem to be in its member "{excerpt(name)}"',
                    code="D218",
                    hint="save the array behind that name, square brackets included, as a file of its own",
                    place=Place(path=self.shown, cell=f'"{excerpt(name)}"'),
                )

    def _refuse_turned(self, only: _Pairs) -> None:
        """Refuse a file of one object that contains a whole table, as pandas writes it by default."""
        members = dict(only)
        columns, rows = members.get("columns"), members.get("data")
        split = isinstance(columns, list) and isinstance(rows, list)
        if split or (only and all(isinstance(value, list | _Object) for _, value in only)):
            raise ListError(
                "the file is one object that contains a whole table, and each recipient must be an object",
                code="D218",
                hint='save it as one object for each row; in pandas: people.to_json("people.json", '
                'orient="records")',
                place=Place(path=self.shown),
            )

    def _records(self) -> Iterator[Record]:
        positions, width = self._positions, len(self._names)
        for row, line, pairs in self._objects():
            cells: list[Cell | CellError] = [""] * width
            seen: set[str] = set()
            for name, value in pairs:
                cell = value if value.__class__ is str else _cell(name, value)
                at = positions[name]
                if name in seen and not _equal(cell, cells[at]):
                    cell = _ambiguous(name)
                seen.add(name)
                cells[at] = cell
            if any(not isinstance(cell, str) or cell.strip() for cell in cells):
                yield row, line, self._fenced(cells)
            else:
                self.blank_rows += 1

    @staticmethod
    def _fenced(cells: list[Cell | CellError]) -> list[Cell | CellError]:
        return [fenced([cell])[0] if cell.__class__ is str else cell for cell in cells]

    def _place(self, row: int, line: int | None, position: int) -> Place:  # noqa: ARG002  lines are closer
        known = 0 <= position < len(self._names)
        return Place(path=self.shown, line=line, cell=f'"{self._names[position]}"' if known else None)

    # --- how the objects are arranged in the file-------------------------------------------------------

    def _find_form(self) -> str:
        """Return whether it is an array, one object a line, or objects in any layout."""
        with self._open() as file:
            start = self._read(file, _BLOCK)
            text = start[_after(_BLANK, start, 0) :]
            if text.startswith("["):
                return "array"
            line = text.partition("\n")[0]
            if len(line) == len(text):
                line += self._read(file, _MAX_OBJECT).partition("\n")[0]
        try:
            _DECODER.decode(line.strip(" \t\r\n\x1e,"))
        except (ValueError, RecursionError):
            # The first of many lines may be the damaged one; an object that continues has begun correctly.
            return "objects" if re.match(r"\{\s*(\"[^\"]*\"\s*:.*[,{\[]\s*)?\Z", line) else "lines"
        return "lines"

    def _objects(self) -> Iterator[_Found]:
        """Yield the objects; all problems are reported together, and none is yielded after the first."""
        problems: list[Diagnostic] = []
        found = self._of_lines(problems) if self._form == "lines" else self._in_sequence(problems)
        try:
            for one in found:
                if not problems:
                    yield one
                if len(problems) >= MAX_PROBLEMS:
                    break
        except UnicodeError:
            raise not_in_encoding(self.path, self.shown, self._encoding) from None
        if problems:
            raise list_error(self.shown, problems[:MAX_PROBLEMS])

    def _of_lines(self, problems: list[Diagnostic]) -> Iterator[_Found]:
        decode = _DECODER.decode
        line = 0
        with self._open() as file:
            while len(problems) < MAX_PROBLEMS and (text := file.readline(_MAX_OBJECT)):
                line += 1
                stripped = text.strip(" \t\r\n\x1e")
                if not stripped:
                    self.blank_rows += 1
                    continue
                if len(text) >= _MAX_OBJECT and not text.endswith("\n"):
                    raise self._too_long(line)
                try:
                    value = decode(stripped)
                except (ValueError, RecursionError) as error:
                    problems.append(self._no_json(error, line, stripped, len(problems)))
                    continue
                if value.__class__ is _Object:
                    yield line + 1, line, value
                else:
                    problems.append(self._no_object(value, line))

    def _in_sequence(self, problems: list[Diagnostic]) -> Iterator[_Found]:
        """Yield consecutive objects, in an array or without one, read piece by piece."""
        array = self._form == "array"
        row = _FIRST
        with self._open() as file:
            window = _TextWindow(file, skip=int(array))
            while len(problems) < MAX_PROBLEMS:
                char = window.next(comma=array and row > _FIRST)
                if not char or (array and char == "]"):
                    problems += self._end_of(array, window)
                    return
                line = window.line
                try:
                    value = window.value()
                except (ValueError, RecursionError) as error:  # nowhere to resume at
                    problems.append(self._no_json(error, line, window.text, len(problems), window.at))
                    return
                if value.__class__ is _Object:
                    yield row, line, value
                elif value is _TOO_LONG:
                    raise self._too_long(line)
                else:
                    problems.append(self._no_object(value, line))
                row += 1

    def _end_of(self, array: bool, window: _TextWindow) -> list[Diagnostic]:
        """Find what is wrong at the end of the file."""
        place = Place(path=self.shown, line=window.line)
        rest = window.text[window.at + 1 :].strip()
        if array and window.at == len(window.text):
            hint = "is the file complete? Download or export it again"
            return [Diagnostic("D218", "the array is never closed", hint, place=place)]
        if rest:
            hint = "a file contains one array, or one object a line"
            message = f"unexpected content after the array: {quoted(excerpt(rest))}"
            return [Diagnostic("D218", message, hint, place=place)]
        return []

    def _open(self) -> TextIO:
        return self.path.open(encoding=self._encoding)

    def _read(self, file: TextIO, size: int) -> str:
        try:
            return file.read(size)
        except UnicodeError:
            raise not_in_encoding(self.path, self.shown, self._encoding) from None

    # --- what can be wrong ---------------------------------------------------------------------------

    def _no_json(self, error: Exception, line: int, text: str, before: int, start: int = 0) -> Diagnostic:
        """Explain why *text*, whose value begins at *start*, is not JSON; the first problem has a hint."""
        if isinstance(error, json.JSONDecodeError):
            line += text.count("\n", start, error.pos)
            column = error.pos - max(text.rfind("\n", start, error.pos), start - 1)
            message = f"this is not JSON: {error.msg} at character {column}"
            hint = f"at: {quoted(text[max(error.pos - 20, start) : error.pos + 20])}"
            if error.pos >= len(text.rstrip()) - 1:
                hint = "is the file complete? The file or the line ends in the middle of an object"
        elif isinstance(error, RecursionError):
            message, hint = "this is nested too deeply", "each object is one recipient"
        else:
            message, hint = f"this is not JSON: {error}", _NO_NUMBER
        place = Place(path=self.shown, line=line)
        return Diagnostic(code="D218", message=message, hint=None if before else hint, place=place)

    def _no_object(self, value: object, line: int) -> Diagnostic:
        return Diagnostic(
            code="D218",
            message=f"each recipient must be an object, not {_named(value)}",
            hint='such as {"email": "ann@example.org", "name": "Ann"}',
            place=Place(path=self.shown, line=line),
        )

    def _too_long(self, line: int) -> ListError:
        return ListError(
            f"an object of more than {_MAX_OBJECT >> 20} MB",
            code="D218",
            hint="each object is one recipient",
            place=Place(path=self.shown, line=line),
        )


def _after(pattern: re.Pattern[str], text: str, at: int) -> int:
    found = pattern.match(text, at)
    return found.end() if found else at


class _TextWindow:
    """The part of a file that contains the object being parsed."""

    def __init__(self, file: TextIO, *, skip: int) -> None:
        self._file = file
        self.text = file.read(_BLOCK)
        self.at = _after(_BLANK, self.text, 0)
        self.line = 1 + self.text.count("\n", 0, self.at)
        self.at += skip

    def next(self, *, comma: bool) -> str:
        """Move to the next value, and return its first character; empty at the end of the file."""
        if self.at > _BLOCK:
            self.text, self.at = self.text[self.at :], 0
        while True:
            after = _after(_BETWEEN if comma else _BLANK, self.text, self.at)
            if after < len(self.text) or not (more := self._file.read(_BLOCK)):
                break
            self.text += more
        self.line += self.text.count("\n", self.at, after)
        self.at = after
        return self.text[after : after + 1]

    def value(self) -> Any:
        """Parse the value that begins here.

        Raises:
            ValueError: it is not JSON.
            RecursionError: it is nested too deeply.

        """
        size = _BLOCK
        while True:
            try:
                value, end = _DECODER.raw_decode(self.text, self.at)
            except ValueError:
                end = len(self.text)  # it may continue
                value = None
                more = self._file.read(size)
                if not more:
                    raise
            else:
                more = self._file.read(size) if end == len(self.text) else ""  # a number may continue
                if not more:
                    self.line += self.text.count("\n", self.at, end)
                    self.at = end
                    return value
            self.text += more
            size *= 2  # doubled, so that a long object costs at most twice its length
            if len(self.text) - self.at > _MAX_OBJECT:
                return _TOO_LONG


_TOO_LONG = object()


class _Object(list[tuple[str, Any]]):
    """The members of an object in order, repeated names included."""


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is not a JSON value")


_DECODER = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=str.encode, parse_float=str.encode, parse_constant=_constant
)
"""Numbers remain strings until their place is known."""
_NO_NUMBER = "write null, or leave the member out"


def _cell(name: str, value: Any) -> Cell | CellError:
    if value is None:
        return ""
    if isinstance(value, bool):
        return Truth(value)
    if isinstance(value, bytes):
        return _number(value.decode())
    return CellError(
        "D135",
        f'"{excerpt(name)}" is {_named(value)}, not one value',
        _nested_hint(name, value),
        "",
    )


def _nested_hint(name: str, value: Any) -> str:
    if isinstance(value, _Object) and value:
        return f'write its members as separate columns, such as "{excerpt(f"{name}_{value[0][0]}")}"'
    return 'join its strings into one: "a, b"'


def _number(text: str) -> Cell | CellError:
    if len(text) > MAX_CELL:
        return long_cell(text)
    try:
        return Number(Decimal(text))
    except InvalidOperation:
        return CellError("D135", f"the number {excerpt(text)} is out of range", "write it as a string", text)


def _equal(one: Cell | CellError, other: Cell | CellError) -> bool:
    if isinstance(one, CellError) or isinstance(other, CellError):
        return False
    return one.__class__ is other.__class__ and canonical(one) == canonical(other)


def _ambiguous(name: str) -> CellError:
    return CellError(
        "D219",
        f'the object has "{excerpt(name)}" more than once, with different values',
        "keep one of them",
        "",
    )


def _named(value: object) -> str:
    if isinstance(value, _Object):
        return "an object"
    if isinstance(value, list):
        return "an array"
    kinds = {str: "a string", bytes: "a number", bool: "true or false"}
    return kinds.get(type(value), "null")


def _codec(path: Path, shown: str, asked: str | None) -> str:
    """Return the codec: UTF-8, or UTF-16 with a mark as PowerShell writes it, or the one specified."""
    from mailmerge.recipients.encodings import find_encoding

    if asked is not None:
        return find_encoding(path, shown, asked).codec
    with path.open("rb") as file:
        start = file.read(4)
    return "utf-16" if start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else "utf-8-sig"
