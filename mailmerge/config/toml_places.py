"""Find where keys and values are in a TOML text: tomllib gives values without positions.

The text has been accepted by tomllib before, so this reader has to know where things begin and end, never
whether they are right. Names are written as users write them: ``message.subject``, ``attach[0].path``,
``message.to[1]``.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.masking import MASK
from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Mapping

_GAP = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = re.compile(r"[ \t]*")
_STRING = re.compile(
    r"""(?xs) \"{3} (?: \\. | [^\\] )*? \"{3,5} | '{3} .*? '{3,5}
        | " (?: \\. | [^"\\\n] )* " | ' [^'\n]* ' """
)
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_SCALAR = re.compile(r"[^,\]}#\n]+")
_TO_HIDE = r"""(?ix) (?<![\w-]) ["']? [\w-]*?
        (?: password | passwd | passphrase | secret | token | smtp_auth ) ["']?
        \s* [=:] \s* (?P<value> \S .*)"""


class TomlPlaces(Struct, frozen=True):
    """Places by name, of the keys themselves and of their values."""

    keys: Mapping[str, Place] = field(default_factory=dict)
    values: Mapping[str, Place] = field(default_factory=dict)
    headers: frozenset[str] = frozenset()
    """Names of the tables that were opened by a ``[header]`` line."""


class TomlText:
    """A TOML text cut into lines, which turns offsets into places."""

    def __init__(self, text: str, shown: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self._shown = shown
        self._starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        self._shown_lines: dict[int, str] = {}

    def place(self, start: int, end: int) -> Place:
        """Give the place of the characters from *start* to *end*, cut at the end of the first line."""
        line = bisect_right(self._starts, start)
        return self.at(line, start - self._starts[line - 1] + 1, end - start)

    def at(self, line: int, column: int, width: int = 1) -> Place:
        """Give the place at *line* and *column*, both from 1."""
        start = self._starts[line - 1]
        end = self._starts[line] - 1 if line < len(self._starts) else len(self.text)
        if line not in self._shown_lines:
            self._shown_lines[line] = hide_secrets(self.text[start:end])
        width = max(1, min(width, end - start - column + 1))
        return Place(self._shown, line, column, width, self._shown_lines[line])

    @property
    def end(self) -> Place:
        """The end of the last line that is not empty."""
        end = len(self.text.rstrip())
        return self.place(end, end)


def hide_secrets(source: str) -> str:
    """Blank out what follows ``password =`` and its like, for lines that go into messages."""
    return re.sub(_TO_HIDE, lambda match: match[0][: match.start("value") - match.start()] + MASK, source)


def find_places(text: str, shown: str) -> TomlPlaces:
    """Give the places of all keys and values in *text*, which tomllib has accepted."""
    reader = _Reader(TomlText(text, shown))
    reader.read_document()
    return TomlPlaces(reader.keys, reader.values, frozenset(reader.headers))


class _Reader:
    """One pass over the text; ``pos`` is always at the next character that was not looked at."""

    def __init__(self, toml: TomlText) -> None:
        self.toml = toml
        self.text = toml.text
        self.pos = 0
        self.keys: dict[str, Place] = {}
        self.values: dict[str, Place] = {}
        self.headers: set[str] = set()
        self._lengths: dict[str, int] = {}

    def read_document(self) -> None:
        table = ""
        self._skip(_GAP)
        while self.pos < len(self.text):
            if self._at("["):
                table = self._read_header()
            else:
                self._read_pair(table)
            self._skip(_GAP)

    def _read_header(self) -> str:
        start = self.pos
        repeated = self.text.startswith("[[", self.pos)
        self.pos += 2 if repeated else 1
        name = ""
        parts = self._read_key()
        for number, (part, _, end) in enumerate(parts, 1):
            name = join_name(name, part)
            self.headers.add(name)
            self.keys.setdefault(name, self.toml.place(parts[0][1], end))
            if repeated and number == len(parts):
                self._lengths[name] = self._lengths.get(name, 0) + 1
            if name in self._lengths:
                name += f"[{self._lengths[name] - 1}]"
        self.pos += 2 if repeated else 1
        self.headers.add(name)
        self.keys[name] = self.values[name] = self.toml.place(start, self.pos)
        return name

    def _read_pair(self, table: str) -> None:
        name = table
        parts = self._read_key()
        first = parts[0][1]
        for part, _, end in parts:
            name = join_name(name, part)
            self.keys.setdefault(name, self.toml.place(first, end))
        self._skip(_BLANK)
        self.pos += 1  # the equals sign
        self._skip(_BLANK)
        self._read_value(name)

    def _read_key(self) -> list[tuple[str, int, int]]:
        parts = []
        while True:
            self._skip(_BLANK)
            start = self.pos
            if match := _STRING.match(self.text, start):
                part = tomllib.loads(f"key = {match[0]}")["key"]
            else:
                match = _BARE.match(self.text, start)
                if match is None:
                    raise RuntimeError(f"no TOML key at offset {start}: was the text checked before?")
                part = match[0]
            self.pos = match.end()
            parts.append((part, start, self.pos))
            self._skip(_BLANK)
            if not self._at("."):
                return parts
            self.pos += 1

    def _read_value(self, name: str) -> None:
        start = self.pos
        if self._at("["):
            self._read_items(name)
        elif self._at("{"):
            self._read_inline_table(name)
        elif match := _STRING.match(self.text, start) or _SCALAR.match(self.text, start):
            self.pos = start + len(match[0].rstrip())
        self.values[name] = self.toml.place(start, self.pos)

    def _read_items(self, name: str) -> None:
        self.pos += 1
        self._skip(_GAP)
        index = 0
        while not self._at("]"):
            self._read_value(f"{name}[{index}]")
            index += 1
            self._skip(_GAP)
            if self._at(","):
                self.pos += 1
                self._skip(_GAP)
        self.pos += 1

    def _read_inline_table(self, name: str) -> None:
        self.pos += 1
        self._skip(_GAP)
        while not self._at("}"):
            self._read_pair(name)
            self._skip(_GAP)
            if self._at(","):
                self.pos += 1
                self._skip(_GAP)
        self.pos += 1

    def _at(self, mark: str) -> bool:
        if self.pos >= len(self.text):
            # A loop that looks for a closing bracket would never end.
            raise RuntimeError("the TOML text ends too early: was it checked before?")
        return self.text.startswith(mark, self.pos)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        match = pattern.match(self.text, self.pos)
        if match:
            self.pos = match.end()


def join_name(table: str, key: str) -> str:
    """Give the name of *key* inside *table*; the top of the file is the empty table."""
    return f"{table}.{key}" if table else key
