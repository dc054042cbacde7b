"""What values a setting may have, and messages about what is wrong with them.

A `ValueType` reads one plain TOML value into ours or refuses it with `ValidationError`. The message of an
issue continues the name of the key: ```send.rate` is not a valid rate: "fast"``. The same types read files,
options of the command line and the environment, and describe themselves as JSON Schema.
"""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from msgspec import Struct

from mailmerge.errors import CampaignFileError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import UNITS, Rate
from mailmerge.schedule import Hours, moment_of
from mailmerge.text import did_you_mean, joined_columns, quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailmerge.values import Plain

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_UNIT_WORDS = {
    **dict.fromkeys(("s", "sec", "second"), "s"),
    **dict.fromkeys(("m", "min", "minute"), "m"),
    **dict.fromkeys(("h", "hour"), "h"),
    **dict.fromkeys(("d", "day"), "d"),
}
_RATE = r"\s*(\d{1,9})\s*/\s*(\d{0,6})\s*([a-z]+?)s?\s*\Z"
_SPAN = r"\s*(\d{1,9}(?:\.\d{1,6})?)\s*([smhd]?)\s*\Z"
_SHARE = r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*\Z"
_SIZE = r"\s*(\d{1,9})\s*([kKmM]i?)?[bB]?\s*\Z"
_FACTORS = {"": 1, "k": 1000, "m": 1_000_000, "ki": 1024, "mi": 1_048_576}


class ValidationIssue(Struct, frozen=True):
    """One thing that is wrong inside a value; *path* leads to it: ``[1]``, ``.first`` or nothing."""

    message: str
    code: str = "C405"
    hint: str | None = None
    path: str = ""


class ValidationError(Exception):
    """The value cannot be used; it has one issue or, in arrays and tables, several."""

    def __init__(self, *issues: ValidationIssue) -> None:
        super().__init__("; ".join(issue.message for issue in issues))
        self.issues = issues


def _write_plainly(value: object) -> object:
    """Return a value as TOML writes it, if that is a plain value."""
    if isinstance(value, list | tuple):
        return [_write_plainly(item) for item in value]
    return str(value) if isinstance(value, Path | Rate) else value


class ValueType(Struct, Generic[T_co], frozen=True):
    """A type of values: *read* turns a plain TOML value into ours or raises `ValidationError`."""

    expected: str
    """Continues "must be": ``a string``."""
    read: Callable[[object], T_co]
    schema: Mapping[str, object]
    """JSON Schema of the TOML values that are accepted. The command line reads it, too: ``enum`` has the
    words to choose from, ``array`` may be repeated, ``boolean`` is a switch, and the shell completes the
    formats ``path`` and ``file``."""
    entries: ValueType[Any] | None = None
    """For tables: the type of each entry."""
    write: Callable[[Any], object] = _write_plainly
    """Turns a value back into what TOML would have, to show defaults."""


# --- saying what is wrong ---------------------------------------------------------------------------


def describe(value: object) -> str:
    """Return how a message names a TOML value: ``the string "two"``, ``an array``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the string {quoted(value)}"
    for types, words in _WORDS:
        if isinstance(value, types):
            return words.format(value)
    return type(value).__name__


_WORDS: tuple[tuple[tuple[type, ...], str], ...] = (
    ((int, float, Decimal), "the number {}"),
    ((date, time), "the date or time {}"),
    ((dict,), "a table"),
    ((list, tuple), "an array"),
)


def wrong_type(expected: str, value: object, hint: str | None = None) -> ValidationError:
    """Return the error for a value of another type."""
    return ValidationError(ValidationIssue(f"must be {expected}, not {describe(value)}", "C404", hint))


def require_types(made: object, types: Mapping[str, ValueType[Any]], what: str) -> None:
    """Check attributes of *made*, which a program may have given as no file may; *what* names it.

    Raises:
        CampaignFileError: one of them is not of its type.

    """
    for key, kind in types.items():
        try:
            kind.read(getattr(made, key))
        except ValidationError as error:
            hint = error.issues[0].hint
            raise CampaignFileError(f"`{key}` of {what} {error}", code="C405", hint=hint) from None


# --- strings ----------------------------------------------------------------------------------------


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        hint = (
            f'write "{value}"' if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
        )
        raise wrong_type("a string", value, hint)
    if "\0" in value:
        raise ValidationError(ValidationIssue("contains a NUL character"))
    return value


def _read_filled_text(value: object) -> str:
    text = _read_text(value)
    if not text.strip():
        raise ValidationError(ValidationIssue("is empty"))
    return text


def _read_label(value: object) -> str:
    text = _read_filled_text(value).strip()
    if not text.isprintable():
        raise ValidationError(ValidationIssue(f"contains a control character: {quoted(text)}"))
    return text


def _read_group_by(value: object) -> str:
    if isinstance(value, list):
        names = [text for text in value if isinstance(text, str) and text.isidentifier()]
        hint = None
        if names and len(names) == len(value):
            hint = joined_columns(names) if names[1:] else f'write "{names[0]}"'
        raise wrong_type(
            "a string", value, hint or "write one Jinja expression, such as the name of a column"
        )
    return _read_filled_text(value)


def _read_path(value: object) -> Path:
    return Path(_read_label(value))


_FILLED: Mapping[str, object] = {"type": "string", "pattern": r"\S"}

TEXT = ValueType("a string", _read_text, {"type": "string"})
FILLED_TEXT = ValueType("a string", _read_filled_text, _FILLED)
LABEL = ValueType("a string", _read_label, _FILLED)
GROUP_BY = ValueType("a string", _read_group_by, _FILLED)
PATH = ValueType("the name of a file or folder", _read_path, {**_FILLED, "format": "path"})
FILE = ValueType("the name of a file", _read_path, {**_FILLED, "format": "file"})


def one_of(*words: str, later: Mapping[str, str] | None = None) -> ValueType[Any]:
    """Return the type of one of a few words; *later* are words that later versions will accept.

    Annotate the result with the `typing.Literal` of these words: type checkers cannot infer it.
    """
    choice = f"one of {', '.join(map(quoted, words))}"

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(choice, value)
        if later and value in later:
            raise ValidationError(ValidationIssue(f"cannot be {quoted(value)} yet", "C402", later[value]))
        if value not in words:
            hint = did_you_mean(value, words)
            raise ValidationError(ValidationIssue(f"must be {choice}, not {quoted(value)}", hint=hint))
        return value

    return ValueType(choice, read, {"enum": list(words)})


def checked(kind: ValueType[str], check: Callable[[str], ValidationIssue | None]) -> ValueType[str]:
    """Return the type of those values of *kind* in whose text *check* finds nothing wrong."""

    def read(value: object) -> str:
        text = kind.read(value)
        if issue := check(text):
            raise ValidationError(issue)
        return text

    return ValueType(kind.expected, read, kind.schema)


# --- numbers, rates, times ----------------------------------------------------------------------------


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        hint = "write it without quotes" if value in ("true", "false") else None
        raise wrong_type("true or false", value, hint)
    return value


FLAG = ValueType("true or false", _read_flag, {"type": "boolean"})


def _read_integer(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise wrong_type("a whole number", value)
    return value


INTEGER = ValueType("a whole number", _read_integer, {"type": "integer"})


def whole(least: int, most: int | None = None) -> ValueType[int]:
    """Return the type of whole numbers from *least* to *most*, both included."""
    allowed = f"from {least} to {most}" if most is not None else f"at least {least}"

    def read(value: object) -> int:
        number = _read_integer(value)
        if number < least or (most is not None and number > most):
            raise ValidationError(ValidationIssue(f"must be {allowed}, not {value}"))
        return number

    bounds = {"minimum": least} if most is None else {"minimum": least, "maximum": most}
    return ValueType("a whole number", read, {"type": "integer", **bounds})


def _read_number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal):
        raise wrong_type("a number", value)
    return float(value)


NUMBER = ValueType("a number", _read_number, {"type": "number"})


def parse_rate(text: str) -> Rate:
    """Read a rate: ``60/m``, ``2000/day``, ``5000/180s``.

    Raises:
        ValidationError: it is not a rate, or allows nothing.

    """
    match = re.match(_RATE, text.lower())
    if match is None or match[3] not in _UNIT_WORDS:
        hint = 'write a number, a slash and a unit, such as "60/m", "2000/d" or "5000/180s" (s, m, h, d)'
        raise ValidationError(ValidationIssue(f"is not a valid rate: {quoted(text)}", hint=hint))
    count, length = int(match[1]), int(match[2] or 1)
    if count == 0 or length == 0:
        message = f"must allow at least one message, not {quoted(text)}"
        raise ValidationError(ValidationIssue(message, hint='the slowest is "1/d"'))
    return Rate(count, length * UNITS[_UNIT_WORDS[match[3]]])


def _read_hours(value: object) -> Hours:
    if not isinstance(value, str):
        raise wrong_type("hours", value, 'write "08:00-18:00" or "Mon-Fri 08:00-18:00"')
    try:
        return Hours.parse(value)
    except ValueError as error:
        message = f"does not contain valid hours: {quoted(value)}"
        raise ValidationError(ValidationIssue(message, hint=str(error))) from None


def _read_zone(value: object) -> str:
    if not isinstance(value, str):
        raise wrong_type("a time zone", value)
    from zoneinfo import ZoneInfo

    try:
        ZoneInfo(value)
    except (OSError, ValueError, LookupError):
        message = f"is not a known time zone: {quoted(value)}"
        hint = "write one such as Europe/Berlin, or UTC"
        raise ValidationError(ValidationIssue(message, hint=hint)) from None
    return value


def _read_moment(value: object) -> str:
    text = value.isoformat() if isinstance(value, datetime) else value
    if not isinstance(text, str):
        raise wrong_type("a time", value)
    try:
        moment_of(text, datetime.now(UTC), None)
    except ValueError as error:
        message = f"is not a time to begin at: {quoted(text)}"
        raise ValidationError(ValidationIssue(message, hint=str(error))) from None
    return text


def _read_rate(value: object) -> Rate:
    if not isinstance(value, str):
        raise wrong_type("a rate", value, 'write it as a string, such as "60/m"')
    return parse_rate(value)


def parse_span(text: str) -> float:
    """Read a span of time in seconds: ``30s``, ``5m``, ``1.5h``, ``2d``; a bare number counts seconds.

    Raises:
        ValidationError: it is not one.

    """
    match = re.match(_SPAN, text.lower())
    if match is None:
        hint = "write it as 30s, 5m, 1h or 2d"
        raise ValidationError(ValidationIssue(f"is not a valid time span: {quoted(text)}", hint=hint))
    return float(match[1]) * UNITS[match[2] or "s"]


def _read_pauses(value: object) -> tuple[float, ...]:
    if isinstance(value, list | tuple):
        parts = [_read_text(part) for part in value]
    elif isinstance(value, str):
        parts = [] if value.strip() == "never" else value.split(",")
    else:
        raise wrong_type("a string", value, 'write the pauses, such as "1m, 5m, 1h", or "never"')
    return tuple(map(_pause, parts))


def _write_pauses(pauses: Iterable[float]) -> str:
    units = [(unit, seconds) for unit, seconds in reversed(UNITS.items())]
    written = [
        next(
            f"{_digits(pause / seconds)}{unit}"
            for unit, seconds in units
            if pause % seconds == 0 or unit == "s"
        )
        for pause in pauses
    ]
    return ", ".join(written) or "never"


def _pause(text: str) -> float:
    try:
        # A bare number is refused: it could be seconds or minutes.
        seconds = 0.0 if text.strip()[-1:].isdigit() else parse_span(text)
    except ValidationError:
        seconds = 0.0
    if not seconds:
        hint = 'write the pauses before each new try, such as "1m, 5m, 1h" (s, m, h, d), or "never"'
        raise ValidationError(
            ValidationIssue(f"contains an invalid pause: {quoted(text.strip())}", hint=hint)
        )
    return seconds


def parse_share(text: str) -> float:
    """Read a percentage as a share from 0 to 1: ``5%``, ``0.5%``.

    Raises:
        ValidationError: it is not one.

    """
    match = re.match(_SHARE, text)
    share = float(match[1]) / 100 if match else -1.0
    if not 0.0 <= share <= 1.0:
        message = f"is not a percentage from 0% to 100%: {quoted(text)}"
        raise ValidationError(ValidationIssue(message, hint='write it with its sign, such as "5%"'))
    return share


def percent(share: float) -> str:
    """Write a share from 0 to 1 as a percentage with the digits that were typed: ``0.5%``, ``0.00001%``."""
    return f"{_digits(Decimal(f'{share * 100:.12g}'))}%"


def _digits(number: Decimal | float) -> str:
    """Write a number with all its digits and no exponent."""
    return f"{Decimal(str(number)).normalize():f}"


def _read_share(value: object) -> float:
    try:
        share = parse_share(value) if isinstance(value, str) else 0.0
    except ValidationError:
        share = 0.0
    if not share:
        message = f"must be a percentage above 0%, not {describe(value)}"
        raise ValidationError(ValidationIssue(message, hint='write it with its sign, such as "5%"'))
    return share


def parse_size(text: str) -> int:
    """Read a size in octets: ``25MB`` (millions), ``20MiB`` or plain digits.

    Raises:
        ValidationError: it is not a size, or it is 0.

    """
    match = re.match(_SIZE, text)
    size = int(match[1]) * _FACTORS[(match[2] or "").lower()] if match else 0
    if size == 0:
        message = f"is not a valid size: {quoted(text)}"
        raise ValidationError(ValidationIssue(message, hint='write it as "25MB" or in bytes'))
    return size


def _read_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong_type("a size", value, 'write it as "25MB" or in bytes')
    return parse_size(str(value))


def _matching(pattern: str) -> Mapping[str, object]:
    """Return the schema of strings that match all of *pattern*, which is lower case."""
    return {"type": "string", "pattern": f"^{pattern}$"}


_SPAN_PATTERN = r"\s*\d+(\.\d+)?\s*[smhdSMHD]\s*"

HOURS = ValueType("hours such as Mon-Fri 08:00-18:00", _read_hours, {"type": "string"}, write=str)
TIME_ZONE = ValueType("a time zone such as Europe/Berlin", _read_zone, {"type": "string"})
MOMENT = ValueType("a time such as 2026-12-01 09:00", _read_moment, {"type": "string"}, write=str)
RATE = ValueType("a rate", _read_rate, _matching(r"\s*\d+\s*/\s*\d*\s*[a-zA-Z]+\s*"))
PAUSES = ValueType(
    "a list of pauses",
    _read_pauses,
    {
        "anyOf": [
            _matching(rf"(\s*never\s*|{_SPAN_PATTERN}(,{_SPAN_PATTERN})*)"),
            {"type": "array", "items": _matching(_SPAN_PATTERN)},
        ]
    },
    write=_write_pauses,
)
SHARE = ValueType("a percentage", _read_share, _matching(r"\s*\d{1,3}(\.\d+)?\s*%\s*"), write=percent)
SIZE = ValueType(
    "a size",
    _read_size,
    {"anyOf": [{"type": "integer", "minimum": 1}, _matching(r"\s*\d+\s*([kKmM]i?)?[bB]?\s*")]},
)


# --- plain values, arrays, tables ---------------------------------------------------------------------


def _read_plain(value: object) -> Plain:
    if isinstance(value, str | bool | int | date | time):
        return value
    if isinstance(value, Decimal | float) and Decimal(value).is_finite():
        return value
    raise wrong_type("a string, a number, a date or true/false", value)


PLAIN = ValueType(
    "a string, a number, a date or true/false", _read_plain, {"type": ["string", "number", "boolean"]}
)


def one_or_more(kind: ValueType[T]) -> ValueType[tuple[T, ...]]:
    """Return the type of a single value or an array of them, read as a tuple."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            return (kind.read(value),)
        if not value:
            raise ValidationError(ValidationIssue("must not be an empty array"))
        return _read_items(kind, value)

    several = {"type": "array", "items": kind.schema, "minItems": 1}
    return ValueType(f"{kind.expected} or an array of them", read, {"anyOf": [kind.schema, several]})


def array_of(kind: ValueType[T], expected: str) -> ValueType[tuple[T, ...]]:
    """Return the type of arrays, read as a tuple."""

    def read(value: object) -> tuple[T, ...]:
        if not isinstance(value, list | tuple):
            raise wrong_type(expected, value)
        return _read_items(kind, value)

    return ValueType(expected, read, {"type": "array", "items": kind.schema})


def _read_items(kind: ValueType[T], items: Iterable[object]) -> tuple[T, ...]:
    issues: list[ValidationIssue] = []
    found = [
        part for index, item in enumerate(items) for part in _read_part(kind, item, f"[{index}]", issues)
    ]
    if issues:
        raise ValidationError(*issues)
    return tuple(found)


def table_of(
    kind: ValueType[T], check_name: Callable[[str], ValidationIssue | None] | None = None
) -> ValueType[Mapping[str, T]]:
    """Return the type of tables whose entries are all of one type."""

    def read(value: object) -> Mapping[str, T]:
        if not isinstance(value, dict):
            raise wrong_type("a table", value, 'write { name = "value" }')
        issues: list[ValidationIssue] = []
        found: dict[str, T] = {}
        for name, entry in value.items():
            path = f".{name}"
            if check_name and (issue := check_name(name)):
                issues.append(ValidationIssue(issue.message, issue.code, issue.hint, path))
            else:
                found.update((name, part) for part in _read_part(kind, entry, path, issues))
        if issues:
            raise ValidationError(*issues)
        return found

    return ValueType("a table", read, {"type": "object", "additionalProperties": kind.schema}, entries=kind)


def _read_part(kind: ValueType[T], value: object, path: str, issues: list[ValidationIssue]) -> tuple[T, ...]:
    """Read one part of an array or table; empty if it is wrong, which is added to *issues*."""
    try:
        return (kind.read(value),)
    except ValidationError as error:
        issues += [
            ValidationIssue(issue.message, issue.code, issue.hint, path + issue.path)
            for issue in error.issues
        ]
        return ()


# --- values that were typed, not written into a TOML file --------------------------------------------


_CHAIN = lazy_re(r"""(?:\.[ \t]*["']?[\w-]+["']?[ \t]*){500}""")
"""A key of this many parts keeps tomllib busy for seconds."""
_LARGEST_TOML = 4 << 20


def parse_toml(text: str) -> dict[str, Any]:
    """Read TOML, floats as decimals.

    Raises:
        ValueError: it is not valid TOML (`tomllib.TOMLDecodeError`, with a place in its message), or it is
            nested, chained or long beyond what anybody writes.

    """
    import tomllib

    if len(text) > _LARGEST_TOML:
        raise ValueError(f"it has more than {_LARGEST_TOML >> 20} million characters")
    if text.count(".") >= 500 and _CHAIN.search(text):
        raise ValueError("a key has too many parts")
    try:
        return tomllib.loads(text, parse_float=Decimal)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except tomllib.TOMLDecodeError:
        raise
    except ValueError:
        raise ValueError("a number has too many digits") from None


def read_typed(kind: ValueType[T], text: str) -> T:
    """Read a value from ``--set`` or the environment: as TOML if that fits the type, else as bare text."""
    candidates: list[object] = []
    try:
        parsed = parse_toml(f"value = {text}")
    except ValueError:
        pass
    else:
        candidates = [parsed["value"]] if len(parsed) == 1 else []
    errors = []
    for candidate in (*candidates, text):
        try:
            return kind.read(candidate)
        except ValidationError as error:
            errors.append(error)
    raise errors[0]
