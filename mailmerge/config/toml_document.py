"""A TOML file of ours, read whole: tables, places, and the list of problems found in it.

tomllib returns values without positions. `find_places` reads text that tomllib has accepted once more, so it
only has to know where keys and values begin and end, never whether they are valid. Names are written as
users write them: ``message.subject``, ``attach[0].path``, ``message.to[1]``.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.errors import CampaignFileError
from mailmerge.folders import read_plain
from mailmerge.lazy_re import lazy_re
from mailmerge.masking import MASK
from mailmerge.model import Diagnostic, Place
from mailmerge.text import did_you_mean, near, printable
from mailmerge.validation import parse_toml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_MOST_OF_A_FILE = 50_000_000
_GAP = lazy_re(r"(?:[ \t\n]|#[^\n]*)*")
_BLANK = lazy_re(r"[ \t]*")
_STRING = lazy_re(
    r"""(?xs) \"{3} (?: \\. | [^\\] )*? \"{3,5} | '{3} .*? '{3,5}
        | " (?: \\. | [^"\\\n] )* " | ' [^'\n]* ' """
)
_BARE = lazy_re(r"[A-Za-z0-9_-]+")
_SCALAR = lazy_re(r"[^,\]}#\n]+")
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
    """The lines of a TOML file; turns offsets into places."""

    def __init__(self, text: str, shown: str) -> None:
        self.text = text.replace("\r\n", "\n")
        self._shown = shown
        self._starts = [0, *(match.end() for match in re.finditer("\n", self.text))]
        self._shown_lines: dict[int, str] = {}

    def place(self, start: int, end: int) -> Place:
        """Return the place of the characters from *start* to *end*, cut at the end of the first line."""
        line = bisect_right(self._starts, start)
        return self.at(line, start - self._starts[line - 1] + 1, end - start)

    def at(self, line: int, column: int, width: int = 1) -> Place:
        """Return the place at *line* and *column*, both from 1."""
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
    """Blank out what follows ``password =`` and similar keys, for lines that go into messages."""
    return re.sub(_TO_HIDE, lambda match: match[0][: match.start("value") - match.start()] + MASK, source)


def find_places(text: str, shown: str) -> TomlPlaces:
    """Return the places of all keys and values in *text*, which tomllib has accepted."""
    reader = _TomlReader(TomlText(text, shown))
    reader.read_document()
    return TomlPlaces(reader.keys, reader.values, frozenset(reader.headers))


class _TomlReader:
    """One pass over the text; ``pos`` is always at the next unread character."""

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
            self._skip_comma()
        self.pos += 1

    def _read_inline_table(self, name: str) -> None:
        self.pos += 1
        self._skip(_GAP)
        while not self._at("}"):
            self._read_pair(name)
            self._skip_comma()
        self.pos += 1

    def _skip_comma(self) -> None:
        self._skip(_GAP)
        if self._at(","):
            self.pos += 1
            self._skip(_GAP)

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
    """Return the name of *key* inside *table*; the top of the file is the empty table."""
    return f"{table}.{key}" if table else key


_PASSWORD_KEYS = frozenset(("password", "passwd", "passphrase", "smtp_password", "smtp_auth"))
_NAMES_OF_COLUMNS = frozenset(("data.types",))
_OF_ROWS = "attach.password"
"""Passwords of the rows' files: each row's own cell, so not a secret in this file."""
_WHERE_SECRETS_GO = "put it into SMTP_AUTH (environment or .env), or name a password_command in the account"
_AT = r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z"


class TomlProblems:
    """The problems found so far, in the order in which a reader of the file meets them."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []

    def add(self, code: str, message: str, hint: str | None = None, place: Place | None = None) -> None:
        """Add one problem."""
        # Quoted keys can contain any character, and messages go to a terminal.
        self._found.append(Diagnostic(code=code, message=printable(message), hint=hint, place=place))

    def add_unknown_variable(self, variable: str, known: Mapping[str, str]) -> None:
        """Add the problem of an environment variable that looks like ours and is not."""
        self.add("C401", f"unknown environment variable {variable}", did_you_mean(variable, known))

    def raise_if_any(self) -> None:
        """Raise all problems as one error, those of the file first and by line."""
        if not self._found:
            return
        found = sorted(self._found, key=_position)
        first = found[0]
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise CampaignFileError(
            first.message + more, code=first.code, hint=first.hint, place=first.place, problems=found
        )

    @staticmethod
    def one(
        code: str, message: str, *, hint: str | None = None, place: Place | None = None
    ) -> CampaignFileError:
        """Return the error for a problem after which nothing else can be checked."""
        return CampaignFileError(message, code=code, hint=hint, place=place)


def _position(problem: Diagnostic) -> tuple[float, int]:
    place = problem.place
    line = place.line if place and place.line is not None else float("inf")
    return line, (place.column or 0) if place else 0


class Document(Struct, frozen=True):
    """Plain tables, and where everything in them is."""

    path: Path | None
    folder: Path
    tables: Mapping[str, object]
    places: TomlPlaces

    @classmethod
    def without_file(cls, folder: Path) -> Document:
        """Return the empty document of a campaign that is given by options."""
        return cls(None, folder, {}, TomlPlaces())

    @property
    def default_name(self) -> str | None:
        """Name of the campaign if the file sets none: the folder's, or the stem of an unusual file name."""
        if self.path is None:
            return None
        return self.folder.resolve().name if self.path.stem == "campaign" else self.path.stem

    @property
    def top(self) -> Place | None:
        """The file as a whole."""
        return Place(str(self.path)) if self.path else None

    def report_passwords(self, problems: TomlProblems, *, planned: Mapping[str, str]) -> None:
        """Add a problem for every key of a secret: campaigns are mailed and kept under version control."""
        for name, value in _entries(self.tables):
            table, _, key = name.rpartition(".")
            if key.lower() not in _PASSWORD_KEYS or table in _NAMES_OF_COLUMNS:
                continue
            plain = re.sub(r"\[\d+\]", "", name)
            if plain == _OF_ROWS and "{" in str(value):
                continue
            if plain not in planned:
                place = self.places.keys.get(name)
                message = f"`{name}`: a secret does not belong in this file"
                problems.add("C409", message, _WHERE_SECRETS_GO, place)


def _entries(tables: object, table: str = "") -> Iterator[tuple[str, object]]:
    if isinstance(tables, dict):
        for key, value in tables.items():
            name = f"{table}.{key}" if table else key
            yield name, value
            yield from _entries(value, name)
    elif isinstance(tables, list):
        for number, value in enumerate(tables):
            yield from _entries(value, f"{table}[{number}]")


def read_document(path: Path) -> Document:
    """Read and parse a TOML file.

    Raises:
        CampaignFileError: the file does not exist, is not UTF-8 or not TOML.

    """
    shown = str(path)
    try:
        content = read_plain(path, _MOST_OF_A_FILE)
    except FileNotFoundError:
        raise TomlProblems.one("C407", f"no file {shown}") from None
    except OSError as error:
        raise TomlProblems.one("C407", f"cannot read {shown}: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(shown, content.count(b"\n", 0, error.start) + 1)
        hint = "save the file as UTF-8 (TOML allows nothing else)"
        raise TomlProblems.one("C403", "the text is not UTF-8", hint=hint, place=place) from None
    try:
        tables = parse_toml(text)
        places = find_places(text, shown)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), TomlText(text, shown)) from None
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise TomlProblems.one("C403", f"{shown} cannot be read: {reason}") from None
    return Document(path, path.parent, tables, places)


def _syntax_error(says: str, text: TomlText) -> CampaignFileError:
    match = re.search(_AT, says)
    message = says[: match.start()] if match else says
    place = text.at(int(match[1]), int(match[2])) if match and match[1] else text.end
    hint = None
    at_key = message.startswith(("Invalid initial character for a key", "Expected '='"))
    if at_key and place.source and place.column and not place.source[place.column - 1 :][:1].isascii():
        hint = 'names of other letters than a-z are written in quotes: "größe" = "text"'
    elif message.startswith("Invalid value"):
        hint = 'strings are written in quotes: name = "value"'
    elif message.startswith("Expected '=' after a key"):
        hint = 'write name = "value", or put a section into brackets: [message]'
    # tomllib may quote the offending character, never a whole value.
    message = f"not valid TOML: {message[:1].lower()}{message[1:]}"
    return TomlProblems.one("C403", message, hint=hint, place=place)


# --- unknown names ----------------------------------------------------------------------------------------


class UnknownKey(Struct, frozen=True):
    """A key that does not exist, and what is known about where it was written."""

    name: str
    """With its table, as `find_places` writes names."""
    value: object
    schema: Mapping[str, Mapping[str, object]]
    """Sections with their keys."""
    planned: Mapping[str, str]
    """Names of keys that later versions will have, and what they are for."""
    document: Document | None = None
    """The file that it was found in; None for options and the environment."""
    label: str | None = None
    """The option or variable to name in the message."""

    @property
    def plain(self) -> str:
        """The name without the numbers of repeated tables."""
        return re.sub(r"\[\d+\]", "", self.name)

    @property
    def place(self) -> Place | None:
        """Where it is."""
        return self.document.places.keys.get(self.name) if self.document else None


def report_unknown_key(problems: TomlProblems, unknown: UnknownKey) -> None:
    """Add the problem of a key that does not exist, with a hint at what was probably meant."""
    if _is_password(unknown):
        if unknown.document is None:  # in a file, `report_passwords` has reported it
            message = f"`{unknown.label or unknown.plain}`: a secret cannot be given like this"
            problems.add("C409", message, _WHERE_SECRETS_GO)
    elif unknown.plain in unknown.planned:
        message = f"`{unknown.plain}` ({unknown.planned[unknown.plain]}) is not supported yet"
        problems.add("C402", message, "leave it out", unknown.place)
    elif _is_section(unknown) and unknown.document and unknown.name in unknown.document.places.headers:
        problems.add("C401", f"unknown section `[{unknown.name}]`", _section_hint(unknown), unknown.place)
    elif _is_section(unknown) and unknown.document:
        _report_inner_keys(problems, unknown, unknown.document)
    else:
        label = unknown.label
        where = f" in {label.partition(' ')[0]}" if label and label != unknown.name else ""
        hint = _meant(unknown) or _guess(unknown.plain, unknown.schema)
        problems.add("C401", f"unknown key `{unknown.plain}`{where}", hint, unknown.place)


_BODY_WORDS = frozenset({"body", "template", "markdown", "content", "message_body"})


def _meant(unknown: UnknownKey) -> str | None:
    """Return the hint for names that people use for the body: which key it is depends on the file."""
    if unknown.plain.rpartition(".")[2] not in _BODY_WORDS or "message" not in unknown.schema:
        return None
    is_page = str(unknown.value).lower().endswith((".html", ".htm", ".mjml"))
    return f"did you mean `message.{'html' if is_page else 'text'}`?"


def _is_password(unknown: UnknownKey) -> bool:
    key = unknown.plain.rpartition(".")[2]
    return key.lower() in _PASSWORD_KEYS and unknown.plain not in unknown.planned


def _is_section(unknown: UnknownKey) -> bool:
    return isinstance(unknown.value, dict) and "." not in unknown.plain


def _section_hint(unknown: UnknownKey) -> str:
    known = [section for section in unknown.schema if section]
    hits = near(unknown.name, known)
    if hits:
        return f"did you mean `{_header(hits[0])}`?"
    return f"the sections are {' '.join(map(_header, known))}"


def _header(section: str) -> str:
    return "[[attach]]" if section == "attach" else f"[{section}]"


def _report_inner_keys(problems: TomlProblems, unknown: UnknownKey, document: Document) -> None:
    """Add a problem for each key of a section that was written with dots: ``sned.rate = "60/m"``."""
    assert isinstance(unknown.value, dict)
    for inner in unknown.value:
        place = document.places.keys.get(f"{unknown.name}.{inner}")
        name = f"{unknown.plain}.{inner}"
        problems.add("C401", f"unknown key `{name}`", _guess(name, unknown.schema), place)


def _guess(name: str, schema: Mapping[str, Mapping[str, object]]) -> str | None:
    """Return the hint for an unknown key: similar names in its section, the same or similar elsewhere."""
    section, _, key = name.rpartition(".")
    full = {
        f"{other}.{known}" if other else known: (other, known)
        for other, keys in schema.items()
        for known in keys
    }
    if section and key == section:
        return f"in {_header(section)} the keys are written without `{section}.`"
    if section in schema:
        similar = near(key, schema[section])
        if similar:
            names = [f"`{section}.{known}`" if section else f"`{known}`" for known in similar]
            return f"did you mean {' or '.join(names)}?"
    elsewhere = [other for other, known in full.values() if known == key]
    if elsewhere and section in schema:
        return f"`{key}` belongs {' or '.join(map(_home, elsewhere))}"
    return did_you_mean(name, full)


def _home(section: str) -> str:
    return f"in {_header(section)}" if section else "at the top of the file"
