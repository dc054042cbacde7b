"""A TOML file of ours, read whole: tables, places, and the list of problems found in it."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.config.toml_places import TomlPlaces, TomlText, find_places
from mailmerge.errors import CampaignFileError
from mailmerge.model import Diagnostic, Place
from mailmerge.text import did_you_mean, near, printable

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

_PASSWORD_KEYS = frozenset(("password", "passwd", "passphrase", "smtp_password", "smtp_auth"))
_NAMES_OF_COLUMNS = frozenset(("data.types",))
_WHERE_SECRETS_GO = "put it into SMTP_AUTH (environment or .env), or name a password_command in the account"
_AT = r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z"


class TomlProblems:
    """What was found wrong so far, in the order in which a reader of the file meets it."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []

    def add(self, code: str, message: str, hint: str | None = None, place: Place | None = None) -> None:
        """Note one problem."""
        # Quoted keys can contain any character, and messages go to a terminal.
        self._found.append(Diagnostic(code=code, message=printable(message), hint=hint, place=place))

    def add_unknown_variable(self, variable: str, known: Mapping[str, str]) -> None:
        """Note an environment variable that looks like ours and is not."""
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
        """Make the error of a problem that leaves nothing else to look at."""
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
        """Make the empty document of a campaign that is given by options."""
        return cls(None, folder, {}, TomlPlaces())

    @property
    def default_name(self) -> str | None:
        """Name of the campaign if the file gives none: the folder's, or the stem of an odd file name."""
        if self.path is None:
            return None
        return self.folder.resolve().name if self.path.stem == "campaign" else self.path.stem

    @property
    def top(self) -> Place | None:
        """The file as a whole."""
        return Place(str(self.path)) if self.path else None

    def report_passwords(self, problems: TomlProblems, *, planned: Mapping[str, str]) -> None:
        """Note every key for a secret: campaigns are mailed around and kept under version control."""
        for name in _names(self.tables):
            table, _, key = name.rpartition(".")
            if key.lower() not in _PASSWORD_KEYS or table in _NAMES_OF_COLUMNS:
                continue
            if re.sub(r"\[\d+\]", "", name) not in planned:
                place = self.places.keys.get(name)
                message = f"`{name}`: a secret does not belong in this file"
                problems.add("C409", message, _WHERE_SECRETS_GO, place)


def _names(tables: object, table: str = "") -> Iterator[str]:
    if isinstance(tables, dict):
        for key, value in tables.items():
            name = f"{table}.{key}" if table else key
            yield name
            yield from _names(value, name)
    elif isinstance(tables, list):
        for number, value in enumerate(tables):
            yield from _names(value, f"{table}[{number}]")


def read_document(path: Path) -> Document:
    """Read and parse a TOML file.

    Raises:
        CampaignFileError: there is no such file, it is not UTF-8 or not TOML.

    """
    shown = str(path)
    try:
        content = path.read_bytes()
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
        tables = tomllib.loads(text, parse_float=Decimal)
    except tomllib.TOMLDecodeError as error:
        raise _syntax_error(str(error), TomlText(text, shown)) from None
    return Document(path, path.parent, tables, find_places(text, shown))


def _syntax_error(says: str, text: TomlText) -> CampaignFileError:
    match = re.search(_AT, says)
    message = says[: match.start()] if match else says
    place = text.at(int(match[1]), int(match[2])) if match and match[1] else text.end
    hint = None
    if message.startswith("Invalid value"):
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
    """Note that a key does not exist, and say what it may have been meant to be."""
    if _is_password(unknown):
        if unknown.document is None:  # in a file, `report_passwords` has told it
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
        hint = _guess(unknown.plain, unknown.schema)
        problems.add("C401", f"unknown key `{unknown.plain}`{where}", hint, unknown.place)


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
    """Note each key of a section that was written with dots: ``sned.rate = "60/m"``."""
    assert isinstance(unknown.value, dict)
    for inner in unknown.value:
        place = document.places.keys.get(f"{unknown.name}.{inner}")
        name = f"{unknown.plain}.{inner}"
        problems.add("C401", f"unknown key `{name}`", _guess(name, unknown.schema), place)


def _guess(name: str, schema: Mapping[str, Mapping[str, object]]) -> str | None:
    """Give the hint for an unknown key: near names in its section, the same name elsewhere, near ones."""
    section, _, key = name.rpartition(".")
    full = {
        f"{other}.{known}" if other else known: (other, known)
        for other, keys in schema.items()
        for known in keys
    }
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
