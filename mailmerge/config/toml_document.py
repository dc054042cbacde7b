"""A TOML file of ours, read whole: tables, places, and the list of problems found in it."""

from __future__ import annotations

import re
import tomllib
from decimal import Decimal
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.config.toml_places import TomlPlaces, TomlText, find_places
from mailmerge.config.validation import did_you_mean, near_misses, printable
from mailmerge.errors import CampaignFileError
from mailmerge.model import Diagnostic, Place

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    from mailmerge.config.validation import Kind

_PASSWORD_KEYS = frozenset(("password", "passwd", "passphrase", "smtp_password", "smtp_auth"))
_NAMES_OF_COLUMNS = frozenset(("data.types",))
_AT = r" \(at (?:line (\d+), column (\d+)|end of document)\)\Z"


class Problems:
    """What was found wrong so far, in the order in which a reader of the file meets it."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []

    def add(self, code: str, message: str, hint: str | None = None, place: Place | None = None) -> None:
        """Note one problem."""
        # Quoted keys can hold any character, and messages go to a terminal.
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
    """Plain tables and where everything in them stands."""

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

    def report_passwords(self, problems: Problems, *, planned: Mapping[str, str]) -> None:
        """Note every key that holds a secret: campaigns are mailed around and kept under version control."""
        for name in _names(self.tables):
            table, _, key = name.rpartition(".")
            if key.lower() not in _PASSWORD_KEYS or table in _NAMES_OF_COLUMNS:
                continue
            if re.sub(r"\[\d+\]", "", name) not in planned:
                hint = (
                    "put it into SMTP_AUTH (environment or .env), or name a password_command in the account"
                )
                place = self.places.keys.get(name)
                problems.add("C409", f"`{name}`: a secret does not belong in this file", hint, place)


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
        CampaignFileError: there is no such file, it is no UTF-8 or no TOML.

    """
    shown = str(path)
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise Problems.one("C407", f"no file {shown}") from None
    except OSError as error:
        raise Problems.one("C407", f"cannot read {shown}: {error.strerror}") from None
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        place = Place(shown, content.count(b"\n", 0, error.start) + 1)
        hint = "save the file as UTF-8 (TOML allows nothing else)"
        raise Problems.one("C403", "the text is not UTF-8", hint=hint, place=place) from None
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
        hint = 'texts are written in quotes: name = "value"'
    elif message.startswith("Expected '=' after a key"):
        hint = 'write name = "value", or put a section into brackets: [message]'
    # tomllib may quote the offending character, never a whole value.
    message = f"not TOML: {message[:1].lower()}{message[1:]}"
    return Problems.one("C403", message, hint=hint, place=place)


# --- unknown names ----------------------------------------------------------------------------------------


def tell_unknown(
    problems: Problems,
    document: Document | None,
    name: str,
    value: object,
    *,
    schema: Mapping[str, Mapping[str, Kind]],
    not_yet: Mapping[str, str],
    label: str | None = None,
) -> None:
    """Note that *name* is no key of *schema*, and say what it may have been meant to be.

    Args:
        problems: where to note it.
        document: the file the name stands in; None for options and the environment.
        name: with its table, as `find_places` writes names.
        value: what it holds; a table of an unknown section is told key by key.
        schema: section, key and kind.
        not_yet: names of planned keys, and what they are for.
        label: the option or variable to name in the message.

    """
    plain = re.sub(r"\[\d+\]", "", name)
    section, _, key = plain.rpartition(".")
    if key.lower() in _PASSWORD_KEYS and plain not in not_yet:
        if document is None:
            hint = "put it into SMTP_AUTH (environment or .env), or name a password_command in the account"
            problems.add("C409", f"`{label or plain}`: a secret cannot be given like this", hint)
        return  # in a file it has been told already
    place = document.places.keys.get(name) if document else None
    where = f" in {label.partition(' ')[0]}" if label and label != name else ""
    if plain in not_yet:
        problems.add("C402", f"`{plain}` ({not_yet[plain]}) is not supported yet", "leave it out", place)
    elif isinstance(value, dict) and not section and document and name in document.places.headers:
        known = [f"[{other}]" if other != "attach" else "[[attach]]" for other in schema if other]
        hits = near_misses(name, [other for other in schema if other])
        hint = (
            f"did you mean `[{hits[0]}]`?" if hits and hits[0] != "attach" else "did you mean `[[attach]]`?"
        )
        problems.add(
            "C401", f"unknown section `[{name}]`", hint if hits else f"there are {' '.join(known)}", place
        )
    elif isinstance(value, dict) and not section and document:
        for inner in value:
            place = document.places.keys.get(f"{name}.{inner}")
            guess = _guess(f"{plain}.{inner}", schema)
            problems.add("C401", f"unknown key `{plain}.{inner}`", guess, place)
    else:
        problems.add("C401", f"unknown key `{plain}`{where}", _guess(plain, schema), place)


def _guess(name: str, schema: Mapping[str, Mapping[str, Kind]]) -> str | None:
    """Give the hint for an unknown key: near names in its section, the same name elsewhere, near ones."""
    section, _, key = name.rpartition(".")
    full = {
        f"{other}.{known}" if other else known: (other, known)
        for other, keys in schema.items()
        for known in keys
    }
    if section in schema:
        near = near_misses(key, schema[section])
        if near:
            names = [f"`{section}.{known}`" if section else f"`{known}`" for known in near]
            return f"did you mean {' or '.join(names)}?"
    elsewhere = [other for other, known in full.values() if known == key]
    if elsewhere and section in schema:
        return f"`{key}` belongs {' or '.join(map(_home, elsewhere))}"
    return did_you_mean(name, full)


def _home(section: str) -> str:
    if not section:
        return "at the top of the file"
    return "in [[attach]]" if section == "attach" else f"in [{section}]"
