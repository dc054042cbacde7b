"""What a key of a TOML file may hold, and how to say what is wrong with it.

A `Kind` reads one plain TOML value into ours or refuses it. The words of a `Refusal` continue the name of
the key: ```send.rate` is not a rate: "fast"``. The same kinds read files, options and the environment.
"""

from __future__ import annotations

import re
import tomllib
from datetime import date, time
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.model import Rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailmerge.model import Value

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_UNIT_WORDS = {
    **dict.fromkeys(("s", "sec", "second"), "s"),
    **dict.fromkeys(("m", "min", "minute"), "m"),
    **dict.fromkeys(("h", "hour"), "h"),
    **dict.fromkeys(("d", "day"), "d"),
}
_RATE = r"\s*(\d{1,9})\s*/\s*(\d{0,6})\s*([a-z]+?)s?\s*\Z"
_SPAN = r"(\d{1,6})\s*([smhd])\Z"
_SIZE = r"\s*(\d{1,9})\s*([kKmM]i?)?[bB]?\s*\Z"
_FACTORS = {"": 1, "k": 1000, "m": 1_000_000, "ki": 1024, "mi": 1_048_576}


class Fault(Struct, frozen=True):
    """One thing that is wrong inside a value; *at* leads to it: ``[1]``, ``.first`` or nothing."""

    says: str
    code: str = "C405"
    hint: str | None = None
    at: str = ""


class RefusalError(Exception):
    """The value cannot be used; it has one fault or, in arrays and tables, several."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(fault.says for fault in faults))
        self.faults = faults


class Kind(Struct, frozen=True):
    """A sort of values: *read* turns a plain TOML value into ours or raises `RefusalError`."""

    wants: str
    read: Callable[[object], object]
    entries: Kind | None = None
    """For tables: what each entry may hold."""


# --- saying what is wrong ---------------------------------------------------------------------------


def describe(value: object) -> str:
    """Name a TOML value in a message: ``the text "two"``, ``an array``."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f"the text {quote(value)}"
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


def quote(text: str) -> str:
    """Give *text* in double quotes on one line, control characters visible, cut at 60 characters."""
    return f'"{printable(text if len(text) <= 60 else text[:57] + "...")}"'


def printable(text: str) -> str:
    """Give *text* with every control character as its escape."""
    if text.isprintable():
        return text
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text
    )


def wrong_type(wants: str, value: object, hint: str | None = None) -> RefusalError:
    """Make the refusal of a value of another type."""
    return RefusalError(Fault(f"must be {wants}, not {describe(value)}", "C404", hint))


def near_misses(word: str, known: Iterable[str]) -> tuple[str, ...]:
    """Give at most three of the *known* names that *word* may have been meant to be, best first."""
    import difflib

    ranked = []
    for name in known:
        ratio = difflib.SequenceMatcher(None, word.lower(), name.lower()).ratio()
        slip = _one_slip(word.lower(), name.lower())
        if slip or ratio >= 0.7:
            ranked.append((not slip, -ratio, name))
    ranked.sort()
    surely = [name for far, _, name in ranked if not far]
    return tuple(surely or [name for _, _, name in ranked])[:3]


def did_you_mean(word: str, known: Iterable[str]) -> str | None:
    """Give the hint that names the near misses, if there are any."""
    names = [f"`{name}`" for name in near_misses(word, known)]
    return f"did you mean {' or '.join(names)}?" if names else None


def _one_slip(one: str, other: str) -> bool:
    """Tell whether one letter was left out, added, changed or swapped (difflib is blind in short words)."""
    if one == other:
        return True
    if len(one) > len(other):
        one, other = other, one
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), len(one))
    if len(one) < len(other):
        return one[at:] == other[at + 1 :]
    swapped = one[:at] + one[at + 1 : at + 2] + one[at : at + 1] + one[at + 2 :]
    return one[at + 1 :] == other[at + 1 :] or swapped == other


# --- texts ------------------------------------------------------------------------------------------


def _read_text(value: object) -> str:
    if not isinstance(value, str):
        hint = (
            f'write "{value}"' if isinstance(value, int | Decimal) and not isinstance(value, bool) else None
        )
        raise wrong_type("a text", value, hint)
    if "\0" in value:
        raise RefusalError(Fault("holds a NUL character"))
    return value


def _read_filled_text(value: object) -> str:
    text = _read_text(value)
    if not text.strip():
        raise RefusalError(Fault("is empty"))
    return text


def _read_label(value: object) -> str:
    text = _read_filled_text(value).strip()
    if not text.isprintable():
        raise RefusalError(Fault(f"holds a control character: {quote(text)}"))
    return text


def _read_path(value: object) -> Path:
    return Path(_read_label(value))


TEXT = Kind("a text", _read_text)
FILLED_TEXT = Kind("a text", _read_filled_text)
LABEL = Kind("a text", _read_label)
PATH = Kind("the name of a file", _read_path)


def one_of(*words: str, later: Mapping[str, str] | None = None) -> Kind:
    """Make the kind that takes one of a few words; *later* are words that will be known one day."""
    choice = ", ".join(f'"{word}"' for word in words)

    def read(value: object) -> str:
        if not isinstance(value, str):
            raise wrong_type(f"one of {choice}", value)
        if later and value in later:
            raise RefusalError(Fault(f"cannot be {quote(value)} yet", "C402", later[value]))
        if value not in words:
            hint = did_you_mean(value, words)
            raise RefusalError(Fault(f"must be one of {choice}, not {quote(value)}", hint=hint))
        return value

    return Kind(f"one of {choice}", read)


def checked(kind: Kind, check: Callable[[str], Fault | None]) -> Kind:
    """Make the kind that takes what *kind* takes unless *check* finds a fault in its text."""

    def read(value: object) -> object:
        result = kind.read(value)
        if fault := check(str(result)):
            raise RefusalError(fault)
        return result

    return Kind(kind.wants, read)


# --- numbers, rates, times ----------------------------------------------------------------------------


def _read_flag(value: object) -> bool:
    if not isinstance(value, bool):
        hint = "write it without quotes" if value in ("true", "false") else None
        raise wrong_type("true or false", value, hint)
    return value


FLAG = Kind("true or false", _read_flag)


def whole(least: int, most: int) -> Kind:
    """Make the kind that takes whole numbers from *least* to *most*."""

    def read(value: object) -> int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise wrong_type("a whole number", value)
        if not least <= value <= most:
            raise RefusalError(Fault(f"must be from {least} to {most}, not {value}"))
        return value

    return Kind("a whole number", read)


def parse_rate(text: str) -> Rate:
    """Read a rate: ``60/m``, ``2000/day``, ``5000/180s``.

    Raises:
        RefusalError: it is no rate, or it allows nothing.

    """
    match = re.match(_RATE, text.lower())
    if match is None or match[3] not in _UNIT_WORDS:
        hint = 'write a number, a slash and a unit, such as "60/m", "2000/d" or "5000/180s" (s, m, h, d)'
        raise RefusalError(Fault(f"is not a rate: {quote(text)}", hint=hint))
    count, length = int(match[1]), int(match[2] or 1)
    if count == 0 or length == 0:
        raise RefusalError(Fault(f"allows nothing at all: {quote(text)}", hint='the slowest is "1/d"'))
    return Rate(count, float(length * _UNITS[_UNIT_WORDS[match[3]]]))


def _read_rate(value: object) -> Rate:
    if not isinstance(value, str):
        raise wrong_type("a rate", value, 'write it as a text, such as "60/m"')
    return parse_rate(value)


def _read_pauses(value: object) -> tuple[float, ...]:
    if isinstance(value, list | tuple):
        parts = [_read_text(part) for part in value]
    elif isinstance(value, str):
        parts = [] if value.strip() == "never" else value.split(",")
    else:
        raise wrong_type("a text", value, 'write the pauses, such as "1m, 5m, 1h", or "never"')
    pauses = []
    for part in parts:
        match = re.match(_SPAN, part.strip().lower())
        if not match or int(match[1]) == 0:
            hint = 'write the pauses before each new try, such as "1m, 5m, 1h" (s, m, h, d), or "never"'
            raise RefusalError(Fault(f"has no pause in {quote(part.strip())}", hint=hint))
        pauses.append(float(int(match[1]) * _UNITS[match[2]]))
    return tuple(pauses)


def _read_share(value: object) -> float:
    match = re.fullmatch(r"\s*(\d{1,3}(?:\.\d+)?)\s*%\s*", value) if isinstance(value, str) else None
    share = float(match[1]) / 100 if match else 0.0
    if not 0.0 < share <= 1.0:
        says = f"must be a percentage above 0, not {describe(value)}"
        raise RefusalError(Fault(says, hint='write it with its sign, such as "5%"'))
    return share


def parse_size(text: str) -> int:
    """Read a size in octets: ``25MB`` (millions), ``20MiB`` or plain digits.

    Raises:
        RefusalError: it is no size, or nothing.

    """
    match = re.match(_SIZE, text)
    size = int(match[1]) * _FACTORS[(match[2] or "").lower()] if match else 0
    if size == 0:
        raise RefusalError(Fault(f"is not a size: {quote(text)}", hint='write it as "25MB" or in bytes'))
    return size


def _read_size(value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong_type("a size", value, 'write it as "25MB" or in bytes')
    return parse_size(str(value))


RATE = Kind("a rate", _read_rate)
PAUSES = Kind("a list of pauses", _read_pauses)
SHARE = Kind("a percentage", _read_share)
SIZE = Kind("a size", _read_size)


# --- plain values, arrays, tables ---------------------------------------------------------------------


def _read_plain(value: object) -> Value:
    if isinstance(value, str | bool | int | date | time):
        return value
    if isinstance(value, Decimal | float) and Decimal(value).is_finite():
        return value
    raise wrong_type("a text, a number, a date or true/false", value)


PLAIN = Kind("a text, a number, a date or true/false", _read_plain)


def one_or_more(kind: Kind) -> Kind:
    """Make the kind that takes a single value or an array of them and gives a tuple."""

    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            return (kind.read(value),)
        if not value:
            raise RefusalError(Fault("is an empty array"))
        return _read_items(kind, value)

    return Kind(f"{kind.wants} or an array of them", read)


def array_of(kind: Kind, wants: str) -> Kind:
    """Make the kind that takes an array only and gives a tuple."""

    def read(value: object) -> tuple[object, ...]:
        if not isinstance(value, list | tuple):
            raise wrong_type(wants, value)
        return _read_items(kind, value)

    return Kind(wants, read)


def _read_items(kind: Kind, items: Iterable[object]) -> tuple[object, ...]:
    faults: list[Fault] = []
    found = [_read_part(kind, item, f"[{index}]", faults) for index, item in enumerate(items)]
    if faults:
        raise RefusalError(*faults)
    return tuple(found)


def table_of(kind: Kind, check_name: Callable[[str], Fault | None] | None = None) -> Kind:
    """Make the kind that takes a table whose entries are all of one kind."""

    def read(value: object) -> dict[str, object]:
        if not isinstance(value, dict):
            raise wrong_type("a table", value, 'write { name = "value" }')
        faults: list[Fault] = []
        found: dict[str, object] = {}
        for name, entry in value.items():
            at = f".{name}"
            if check_name and (fault := check_name(name)):
                faults.append(Fault(fault.says, fault.code, fault.hint, at))
            else:
                found[name] = _read_part(kind, entry, at, faults)
        if faults:
            raise RefusalError(*faults)
        return found

    return Kind("a table", read, entries=kind)


def _read_part(kind: Kind, value: object, at: str, faults: list[Fault]) -> object:
    try:
        return kind.read(value)
    except RefusalError as refusal:
        faults += [Fault(fault.says, fault.code, fault.hint, at + fault.at) for fault in refusal.faults]
        return None


# --- values that were typed, not written into a TOML file --------------------------------------------


def read_typed(kind: Kind, text: str) -> object:
    """Read a value from ``--set`` or the environment: as TOML if that fits the kind, else as bare text."""
    candidates: list[object] = []
    try:
        parsed = tomllib.loads(f"value = {text}", parse_float=Decimal)
    except tomllib.TOMLDecodeError:
        pass
    else:
        candidates = [parsed["value"]] if len(parsed) == 1 else []
    refusals = []
    for candidate in (*candidates, text):
        try:
            return kind.read(candidate)
        except RefusalError as refusal:
            refusals.append(refusal)
    raise refusals[0]
