"""The types of a cell: plain ``str`` for text, a `Value` for everything else.

A value has three forms: the *displayed text* (what the list shows), the *canonical text* (what identity and
comparison use; no cell format changes it) and the *Python value*. The functions here accept plain Python
values, too: templates write those and calculate them.
"""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mailmerge.values import notation
from mailmerge.values.locale_numbers import typed_hint

if TYPE_CHECKING:
    from collections.abc import Iterator


class BadValue(TypeError):
    """A value cannot be used the way the template wants; becomes a `RowError` with its place.

    Args:
        code: of the diagnostic.
        reason: what is wrong, to follow the value's name: ``is not a number``.
        value: what is to blame, the cell itself where there is one.
        hint: the next step; ``{it}`` becomes the value's name, ``{key}`` the column as TOML writes it.

    """

    def __init__(self, code: str, reason: str, value: object, hint: str | None = None) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason
        self.value = value
        self.hint = hint


EARLY_DATE = "before March 1900"
"""A date that spreadsheet programs count differently."""


class Value(Struct, frozen=True, eq=False, tag=True, array_like=True, gc=False):
    """A cell that is not text.

    Two values are equal if they are of one type and their Python values are equal; a plain Python value of
    that type counts as well. Comparing with anything else is a `BadValue` here, where hash and equality have
    to agree: templates compare with text through `equal`. It has no other operators: Python code uses
    `value`. Nothing in it can refer back to it, so that the garbage collector need not visit a list's cells.
    """

    value: Any
    """The Python value."""
    shown: str | None = None
    """What the list shows, where it is not what `displayed` would write."""
    raw: str | None = None
    """The canonical text, where the cell has more than its format shows: a date cell with a time in it."""
    unsure: str | None = None
    """The number format, where it is not certain what the author of the list saw, or `EARLY_DATE`."""

    @property
    def displayed(self) -> str:
        """What a reader of the list sees."""
        return self._write() if self.shown is None else self.shown

    @property
    def canonical(self) -> str:
        """What identity and comparison use."""
        return self._write_canonical() if self.raw is None else self.raw

    def _write(self) -> str:
        raise NotImplementedError

    def _write_canonical(self) -> str:
        return self._write()

    @staticmethod
    def read(text: str) -> Any:
        """Return text, read strictly, as a Python value of this type, else None."""
        raise NotImplementedError

    # As text.

    def __str__(self) -> str:
        return self.displayed

    def __repr__(self) -> str:
        shown = f", shown as {self.shown!r}" if self.shown is not None else ""
        return f"<{type(self).__name__} {self.canonical}{shown}>"

    def __format__(self, spec: str) -> str:
        return format(self.displayed, spec)

    def __len__(self) -> int:
        return len(self.displayed)

    def __iter__(self) -> Iterator[str]:
        return iter(self.displayed)

    def __getitem__(self, index: Any) -> str:
        return self.displayed[index]

    # As a value.

    def __bool__(self) -> bool:
        return bool(self.value)

    def __hash__(self) -> int:
        return hash(self.value)

    def __eq__(self, other: object) -> bool:
        kind = kind_of(other)
        if kind is None:
            return NotImplemented
        if kind is not type(self):
            raise unlike(self, other)
        # A float is compared as in Python: its hash is that of the binary number.
        return bool(self.value == other) if isinstance(other, float) else same(self, other)

    def __ne__(self, other: object) -> bool:
        equal = self.__eq__(other)
        return equal if equal is NotImplemented else not equal

    def __int__(self) -> int:
        raise not_a(Number, self)

    def __float__(self) -> float:
        raise not_a(Number, self)

    def __index__(self) -> int:
        raise not_a(Number, self)


class Number(Value, frozen=True, eq=False, gc=False):
    """A number, exact: `value` is a Decimal, also of a whole number."""

    value: Decimal

    def _write(self) -> str:
        return notation.number_text(self.value)

    def _write_canonical(self) -> str:
        return notation.canonical_number(self.value)

    @staticmethod
    def read(text: str) -> Decimal | None:
        """Read ``1234.50``."""
        return notation.read_number(text)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if spec else self.displayed

    def __int__(self) -> int:
        if self.value.adjusted() >= notation.LARGEST_EXPONENT:
            raise BadValue("D117", "has too many digits to calculate with", self)
        return int(self.value)

    def __float__(self) -> float:
        # ``%.2f`` goes through here: rounding to a float's 15 digits must not change what is printed.
        number = float(self.value)
        if abs(self.value) >= 10**15 and Decimal(number) != self.value:
            raise BadValue("D117", "has too many digits to calculate with", self)
        return number

    def __index__(self) -> int:
        if self.value != self.value.to_integral_value():
            raise BadValue("D117", "is not a whole number", self, "write {it}|int, or {it}|round|int")
        return int(self)


class Date(Value, frozen=True, eq=False, gc=False):
    """A day."""

    value: date

    def _write(self) -> str:
        return self.value.isoformat()

    @staticmethod
    def read(text: str) -> date | None:
        """Read ``2026-03-05``."""
        return notation.read_date(text)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if "%" in spec else format(self.displayed, spec)


class DateTime(Value, frozen=True, eq=False, gc=False):
    """A day and a time of day."""

    value: datetime

    def _write(self) -> str:
        return notation.moment_text(self.value)

    def _write_canonical(self) -> str:
        return notation.canonical_moment(self.value)

    @staticmethod
    def read(text: str) -> datetime | None:
        """Read ``2026-03-05 09:30``."""
        moment = notation.read_moment(text)
        return moment if isinstance(moment, datetime) else None

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if "%" in spec else format(self.displayed, spec)


class Time(Value, frozen=True, eq=False, gc=False):
    """A time of day."""

    value: time

    def _write(self) -> str:
        return notation.time_text(self.value)

    def _write_canonical(self) -> str:
        return notation.canonical_time(self.value)

    @staticmethod
    def read(text: str) -> time | None:
        """Read ``09:30``."""
        return notation.read_time(text)

    def __format__(self, spec: str) -> str:
        return format(self.value, spec) if "%" in spec else format(self.displayed, spec)


class Duration(Value, frozen=True, eq=False, gc=False):
    """A length of time, as ``[h]:mm`` shows it."""

    value: timedelta

    def _write(self) -> str:
        return notation.duration_text(self.value)

    def _write_canonical(self) -> str:
        return notation.canonical_duration(self.value)

    @staticmethod
    def read(text: str) -> timedelta | None:
        """Read ``26:30``."""
        return notation.read_duration(text)


class Truth(Value, frozen=True, eq=False, gc=False):
    """TRUE or FALSE."""

    value: bool

    def _write(self) -> str:
        return "TRUE" if self.value else "FALSE"

    @staticmethod
    def read(text: str) -> bool | None:
        """Read one of the words for yes and no."""
        return notation.read_truth(text)

    def __bool__(self) -> bool:
        return self.value


Plain = str | int | Decimal | float | bool | date | datetime | time
"""What a campaign file and a caller of the library can pass as values: variables."""
Cell = str | Value
"""What a cell of a list is. An empty cell is the empty string, never ``None``."""

_KINDS: dict[type, type] = {
    str: str,
    Decimal: Number,
    int: Number,
    float: Number,
    date: Date,
    datetime: DateTime,
    time: Time,
    timedelta: Duration,
    bool: Truth,
    **{kind: kind for kind in (Number, Date, DateTime, Time, Duration, Truth)},
}
_SUBCLASSED: tuple[type, ...] = (str, int, float, Decimal, datetime, date, time, timedelta)
_NAMES: dict[type, str] = {
    str: "text",
    Number: "number",
    Date: "date",
    DateTime: "date and time",
    Time: "time",
    Duration: "duration",
    Truth: "yes or no",
    list: "list",
    tuple: "list",
    dict: "table",
}


def kind_of(value: object) -> type | None:
    """Return the type of a template's value: ``str``, a subclass of `Value`, or None for anything else."""
    kind = _KINDS.get(value.__class__)
    if kind is None:
        kind = next((_KINDS[base] for base in _SUBCLASSED if isinstance(value, base)), None)
    return kind


def name_of(value: object) -> str:
    """Return the name of a value's type for people: ``number``."""
    kind = kind_of(value)
    return _NAMES.get(kind or type(value), "value")


def described(value: object) -> str:
    """Return the name of a value's type with its article, if it has one: ``a number``, ``text``."""
    name = name_of(value)
    return name if name == "text" else f"a {name}"


def plain(value: Any) -> Any:
    """Return the Python value: a Decimal for every number, text unchanged."""
    if isinstance(value, Value):
        return value.value
    if isinstance(value, bool):
        return value
    if isinstance(value, float):
        return Decimal(repr(float(value)))  # the number that was written, not its binary neighbour
    return Decimal(value) if isinstance(value, int) else value


def cell_of(value: Any) -> Any:
    """Return a cell's value for a plain Python one, also for those inside lists and tables.

    Strings stay unchanged, and so do integers and booleans: those behave like cells without being one.
    """
    kind = value.__class__
    if kind is dict:
        return {key: cell_of(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return kind(map(cell_of, value))
    if kind in _AS_THEY_ARE or isinstance(value, Value) or kind_of(value) in {None, str}:
        return value
    number = plain(value)
    return value if isinstance(number, Decimal) and not number.is_finite() else value_of(value)


_AS_THEY_ARE = frozenset({str, int, bool})


def displayed(value: Any) -> Any:
    """Return the displayed text; of a list or table, one that contains displayed texts; markup is unchanged.

    Raises:
        BadValue: it cannot be shown: None, NaN or infinity.

    """
    kind = value.__class__
    if kind is str:
        return value
    if isinstance(value, Value):
        return value.displayed
    if value is None:
        raise BadValue("D113", "is empty (None)", value, "test it first, or give a default")
    if kind in _CONTAINERS:
        return _with_texts(value)
    found = kind_of(value)
    return value if found is None or found is str else value_of(value).displayed


_CONTAINERS = frozenset({list, tuple, dict})


def _with_texts(value: Any) -> Any:
    """Return a list or table whose cells are their texts: Python prints what is inside as it keeps it."""
    kind = value.__class__
    if kind is dict:
        return {_with_texts(key): _with_texts(item) for key, item in value.items()}
    if kind in _CONTAINERS:
        return kind(map(_with_texts, value))
    return value.displayed if isinstance(value, Value) else value


def canonical(value: Any) -> str:
    """Return the canonical text of a cell or plain value."""
    return value if isinstance(value, str) else value_of(value).canonical


def value_of(value: Any) -> Value:
    """Return a `Value` for a plain Python value.

    Raises:
        BadValue: it is NaN or infinite.

    """
    if isinstance(value, Value):
        return value
    kind: Any = kind_of(value)
    number = plain(value)
    if kind is Number and not number.is_finite():
        raise BadValue("D113", f"is not a number ({value})", value, "test it first, or give a default")
    if kind is Number and isinstance(value, float):
        number = number.to_integral_value() if number == number.to_integral_value() else number
    found: Value = kind(number if number.__class__ in _KINDS else _without_subclass(number))
    return found


def _without_subclass(value: Any) -> Any:
    """Return the same value in Python's own type, which can be stored: a pandas Timestamp is a datetime."""
    if isinstance(value, Decimal):
        return Decimal(value)
    if isinstance(value, datetime):
        return datetime.combine(date(value.year, value.month, value.day), value.timetz())
    if isinstance(value, date):
        return date(value.year, value.month, value.day)
    if isinstance(value, time):
        return time(value.hour, value.minute, value.second, value.microsecond, value.tzinfo, fold=value.fold)
    return timedelta(value.days, value.seconds, value.microseconds)


def same(left: Any, right: Any) -> bool:
    """Return whether two values of one type are equal."""
    left, right = plain(left), plain(right)
    if isinstance(left, datetime | time) and (left.tzinfo is None) is not (right.tzinfo is None):
        raise BadValue("D117", "has a time zone, and what it is compared with does not", left)
    return bool(left == right)


def unlike(left: Any, right: Any) -> BadValue:
    """Return the error for two values that cannot be compared; the cell among them is to blame, if any."""
    culprit, other = (
        (right, left) if isinstance(right, Value) and not isinstance(left, Value) else (left, right)
    )
    kind = kind_of(culprit)
    hint = f"compare it with {described(culprit)}, such as {_EXAMPLES[kind]}" if kind in _EXAMPLES else None
    if {kind, kind_of(other)} == {Date, DateTime}:
        hint = "use the day of the one that has a time: .date()"
    elif kind is Truth:
        hint = "a yes or no is tested by itself: {it}, or: not {it}"
    return BadValue(
        "D117", f"is {described(culprit)} and cannot be compared with {described(other)}", culprit, hint
    )


def not_a(kind: type, value: object) -> BadValue:
    """Return the error for a value, mostly text, that is not of the required type."""
    if isinstance(value, str) and not value.strip():
        return BadValue("D117", f"is empty, not a {_NAMES[kind]}", value, 'test it first: {it} != "" and …')
    hint = f"write it as {_EXAMPLES[kind]}" if kind in _EXAMPLES else None
    if kind is Number and isinstance(value, str):
        hint = typed_hint(value) or hint
    return BadValue("D117", f"is not a {_NAMES[kind]}", value, hint)


_EXAMPLES: dict[type | None, str] = {
    Number: "1234.50",
    Date: '"2026-12-31"',
    DateTime: '"2026-12-31 16:30"',
    Time: '"16:30"',
    Duration: '"26:30"',
}
