"""Calculating with values: exact decimals, days and durations; the meaning of text is never guessed."""

from __future__ import annotations

import operator
from datetime import datetime, timedelta
from decimal import (
    ROUND_CEILING,
    ROUND_FLOOR,
    ROUND_HALF_EVEN,
    Context,
    Decimal,
    DecimalException,
    DivisionByZero,
    InvalidOperation,
    Overflow,
)
from typing import TYPE_CHECKING, Any

from mailmerge.lazy_re import lazy_re
from mailmerge.values.locale_numbers import locales_reading, typed_hint
from mailmerge.values.value import (
    BadValue,
    Date,
    DateTime,
    Duration,
    Number,
    Truth,
    Value,
    cell_of,
    kind_of,
    name_of,
    not_a,
    plain,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_DIGITS = 28
"""Digits that calculations keep. A cell with more can be shown and compared, but not calculated with."""
LONGEST_TEXT = 1_000_000
"""Most characters that a filter or a method may make."""
LONGEST_REPEAT = 100_000
"""Most characters that ``text * count`` may make, where the count may come from a cell."""

_CONTEXT = Context(
    prec=MOST_DIGITS, rounding=ROUND_HALF_EVEN, traps=[InvalidOperation, DivisionByZero, Overflow]
)
_ROUNDING = {"common": ROUND_HALF_EVEN, "ceil": ROUND_CEILING, "floor": ROUND_FLOOR}
_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
    "**": operator.pow,
}
_EXACTLY: dict[str, Callable[[Decimal, Decimal], Decimal]] = {
    "+": _CONTEXT.add,
    "-": _CONTEXT.subtract,
    "*": _CONTEXT.multiply,
    "/": _CONTEXT.divide,
    "**": _CONTEXT.power,
}
_PLAIN = frozenset({int, float})
_DIVISIONS = frozenset({"/", "//", "%"})
_MOST_BITS = 4096
"""Largest exponent of a power of two integers: it may come from a cell."""
_SUMS = frozenset({"+", "-"})


def calculate(symbol: str, left: Any, right: Any) -> Any:  # noqa: PLR0911  one return per pair of types
    """Return ``left + right`` or another operation; numbers are exact, also those written in a template.

    Raises:
        BadValue: the operation does not exist for these two, or its result cannot be written.

    """
    if left.__class__ is int and right.__class__ is int and symbol != "**":
        return _OPERATORS[symbol](left, right)
    kinds = kind_of(left), kind_of(right)
    if symbol == "%" and kinds[0] is str:  # "%d rows" % 3
        return _formatted(left, right)
    if None in kinds:  # lists, undefined names
        return _OPERATORS[symbol](plain(left), plain(right))
    if str in kinds:
        return _join(symbol, left, right)
    if symbol in _DIVISIONS and kinds[1] in {Number, Duration} and not right:
        raise BadValue("D117", "is zero: nothing can be divided by it", right, "test it first")
    try:
        if kinds != (Number, Number):
            return _with_times(symbol, left, right)
        if symbol == "**" and left.__class__ is int and right.__class__ is int and right >= 0:
            return _power(left, right)
        return Number(_decimal(symbol, _exact(left), _exact(right)))
    except (DecimalException, OverflowError):
        culprit = left if isinstance(left, Value) else right
        raise BadValue("D117", f"is too large for {symbol}", culprit) from None


def repeated(left: Any, right: Any) -> Any:
    """Return ``"-" * 40``: a string in the template, repeated.

    The text of a cell is refused by `calculate`: in a column of numbers it would be ``n/an/a``.

    Raises:
        BadValue: the count is not a whole number, or the result is too long.

    """
    text, count = (left, right) if isinstance(left, str) else (right, left)
    if not isinstance(text, str) or kind_of(count) is not Number or Number.read(text) is not None:
        return calculate("*", left, right)
    times = operator.index(count)
    if times * len(text) > LONGEST_REPEAT:
        raise BadValue("D117", f"would make text of {times * len(text):,} characters", count)
    return text * times


def signed(symbol: str, value: Any) -> Any:
    """Return ``-value`` or ``+value``."""
    kind = kind_of(value)
    if kind is None or value.__class__ in _PLAIN:
        return -value if symbol == "-" else +value
    if kind is not Number and kind is not Duration:
        raise not_a(Number, value)
    return value_of(-plain(value) if symbol == "-" else plain(value))


def absolute(value: Any) -> Any:
    """Return the absolute value of a number or duration."""
    kind = kind_of(value)
    if kind is not Number and kind is not Duration:
        raise not_a(Number, value)
    return value if plain(value) == abs(plain(value)) else signed("-", value)


def rounded(value: Any, digits: int, method: str) -> Any:
    """Round a number to *digits* decimals: *method* is ``common`` (half to even), ``ceil`` or ``floor``."""
    if kind_of(value) is not Number:
        raise not_a(Number, value)
    if isinstance(value, int) and method == "common":
        return round(value, digits)
    try:
        unit = Decimal(1).scaleb(-digits)
        return Number(_exact(value).quantize(unit, rounding=_ROUNDING[method], context=_CONTEXT))
    except (DecimalException, OverflowError):
        raise BadValue("D117", "has too many digits to calculate with", value) from None


def _formatted(text: str, arguments: Any) -> str:
    if "%" not in text and arguments != ():
        raise _no_sum("%", text, arguments)
    if not isinstance(arguments, tuple | dict):
        arguments = (arguments,)
    _refuse_wide(text, arguments)
    if isinstance(arguments, dict):
        arguments = {name: _argument(value) for name, value in arguments.items()}
    else:
        arguments = tuple(map(_argument, arguments))
    try:
        return text % arguments  # type: ignore[no-any-return]
    except (TypeError, ValueError, OverflowError) as error:
        given = arguments.values() if isinstance(arguments, dict) else arguments
        culprit = next((value for value in given if isinstance(value, Value | str)), None)
        if culprit is None:
            raise
        reason = error.reason if isinstance(error, BadValue) else f"does not fit into {text!r}: {error}"
        raise BadValue("D117", reason, culprit, "write {it}|float for %f, {it}|int for %d") from None


_NAME = r"%(?:\((?:[^()%]|\([^()%]*\))*\))?[-#0 +]*"
"""The sign and the name; a name contains no sign, so that none is looked through twice;
a width does not begin with a zero, which is a mark."""
_WIDE = lazy_re(rf"{_NAME}(\*|[1-9][0-9]{{3,}})")
_PRECISE = lazy_re(rf"{_NAME}(?:\*|[1-9][0-9]*)?\.(\*|[0-9]{{4,}})")
"""A width and a precision that may be too large."""


def _refuse_wide(text: str, arguments: Any) -> None:
    """Refuse a width, which may come from a cell (``%*d``), that would fill the memory."""
    found = [*_WIDE.findall(text), *_PRECISE.findall(text)]
    widths: list[Any] = [int(width[:9]) for width in found if width != "*"]
    if "*" in found:
        given = arguments.values() if isinstance(arguments, dict) else arguments
        widths += [abs(plain(value)) for value in given if kind_of(value) is Number]
    for width in widths:
        refuse_long(width, text)


def refuse_long(length: Any, culprit: Any) -> None:
    """Refuse to make text that is longer than any letter: the length may have come from a cell.

    Raises:
        BadValue: *length* is more than `LONGEST_TEXT` characters.

    """
    if length > LONGEST_TEXT:
        raise BadValue("D117", f"would make text of more than {LONGEST_TEXT:,} characters", culprit)


def _argument(value: Any) -> Any:
    return Truth(value) if isinstance(value, bool) else cell_of(value)


def _power(left: int, right: int) -> int:
    if left.bit_length() * right > _MOST_BITS:
        raise BadValue("D117", "is too large for **", right)
    power: int = left**right
    return power


def _decimal(symbol: str, left: Decimal, right: Decimal) -> Decimal:
    if symbol in _EXACTLY:
        return _EXACTLY[symbol](left, right)
    # Like Python's integers, and unlike Decimal: rounded down, and the remainder has the divisor's sign.
    rest = _CONTEXT.remainder(left, right)
    if rest and (rest < 0) is not (right < 0):
        rest = _CONTEXT.add(rest, right)
    if symbol == "%":
        return rest
    return _CONTEXT.divide_int(_CONTEXT.subtract(left, rest), right)


def _with_times(symbol: str, left: Any, right: Any) -> Any:
    kinds = kind_of(left), kind_of(right)
    first, second = plain(left), plain(right)
    if symbol in _SUMS and kinds == (Duration, Duration):
        return Duration(_OPERATORS[symbol](first, second))
    if symbol == "-" and kinds[0] is kinds[1] and kinds[0] in {Date, DateTime}:
        return Duration(first - second)
    if symbol in _SUMS and kinds[0] in {Date, DateTime} and kinds[1] is Duration:
        return _moved(left, second if symbol == "+" else -second)
    if symbol == "+" and kinds[0] is Duration and kinds[1] in {Date, DateTime}:
        return _moved(right, first)
    if symbol == "/" and kinds == (Duration, Duration):
        return Number(_decimal("/", *map(_microseconds, (first, second))))
    if (symbol in "*/" and kinds == (Duration, Number)) or (symbol == "*" and kinds == (Number, Duration)):
        duration, number = (first, second) if kinds[0] is Duration else (second, first)
        return Duration(timedelta(microseconds=int(_decimal(symbol, _microseconds(duration), number))))
    raise _no_sum(symbol, left, right)


def _microseconds(duration: timedelta) -> Decimal:
    return Decimal(duration // timedelta(microseconds=1))


def _moved(moment: Any, duration: timedelta) -> Value:
    start = plain(moment)
    if not isinstance(start, datetime) and (duration.seconds or duration.microseconds):
        raise BadValue("D117", "is a date, and only whole days can be added to it", moment)
    return value_of(start + duration)


def _join(symbol: str, left: Any, right: Any) -> str:
    if symbol == "+" and isinstance(left, str) and isinstance(right, str):
        if Number.read(left) is not None and Number.read(right) is not None:
            reason = "and what is added to it are text: are they to be added as numbers, or joined?"
            raise BadValue(
                "D117",
                reason,
                left,
                "join text with ~; to add numbers, give both |float, or a type in data.types",
            )
        return left + right
    raise _no_sum(symbol, left, right)


def _no_sum(symbol: str, left: Any, right: Any) -> BadValue:
    texts = [value for value in (left, right) if isinstance(value, str)]
    if texts:
        joined = "join text with ~; " if symbol == "+" else ""
        numbers = locales_reading(texts[0])
        hint = joined + (typed_hint(texts[0]) or "")
        if symbol == "*" and not numbers and not any(map(str.isalnum, texts[0])):
            hint = 'to repeat text, write it where it is repeated: "-" * 40'
        if Number.read(texts[0]) is not None and len(numbers) == 1:
            hint = joined + "write {it}|float, or give the column a type in data.types"
        reason = f"is text, not a number to calculate with ({symbol})"
        return BadValue("D117", reason, texts[0], hint.removesuffix("; ") or None)
    culprit = left if isinstance(left, Value) else right
    return BadValue("D117", f"cannot be calculated with: {name_of(left)} {symbol} {name_of(right)}", culprit)


def _exact(value: Any) -> Decimal:
    number: Decimal = plain(value)
    if len(number.as_tuple().digits) > MOST_DIGITS:
        raise BadValue("D117", f"has more than {MOST_DIGITS} digits: too many to calculate with", value)
    return number
