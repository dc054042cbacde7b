"""The operators of conditions: ``==``, ``<`` and what follows from them, and what counts as true.

A comparison is between values of one type, which are equal if their Python values are, or between a value and
text, which must be one of the value's two texts. The result is never False because of a type: what cannot be
compared is a `BadValue`.

What counts as true matters under ``if``, ``not``, ``and``, ``where`` and in the filters and tests that need
it. Values are clear: FALSE, 0 and 0:00 are false. For text there are two questions that mostly agree: is
there something, and does it mean yes? Blank text is false. ``TRUE`` and ``FALSE``, in any case, are booleans:
sheets write them like this. Any other text that means no (``no``, ``0``, ``nein``, ``否``) is not empty and
means no, so that neither answer is safe: that is an error. Everything else is true.
"""

from __future__ import annotations

import unicodedata
from datetime import date
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from mailmerge.lazy_re import lazy_re
from mailmerge.values import notation
from mailmerge.values.value import (
    BadValue,
    Date,
    DateTime,
    Duration,
    Number,
    Time,
    Truth,
    Value,
    kind_of,
    not_a,
    plain,
    same,
    unlike,
    value_of,
)

if TYPE_CHECKING:
    from collections.abc import Callable


def equal(left: Any, right: Any) -> bool:
    """Return ``left == right`` as templates mean it.

    Raises:
        BadValue: of unlike types, or text could be meant in two ways.

    """
    left_kind, right_kind = kind_of(left), kind_of(right)
    if left_kind is None or right_kind is None:
        return _equal_others(left, right)
    if left_kind is right_kind:
        return bool(left == right) if left_kind is str else same(left, right)
    if left_kind is str:
        return _matches(right, left)
    if right_kind is str:
        return _matches(left, right)
    raise unlike(left, right)


def _matches(value: Any, text: str) -> bool:
    """Return whether *text* is the displayed or canonical text of *value*.

    Text that reads as a value of this type has to agree with that: a number that is 1.005 and shown as 1.01
    is neither equal nor unequal to the text ``1.01``, nor 1.5 to the text ``1.50``. So text that means a
    value is only ever equal to that value, and equality stays transitive.
    """
    found = value_of(value)
    hit = text in (found.displayed, found.canonical)
    meant = found.read(text)
    if meant is None:
        if not hit and _clash_of_days(found.value, text):
            raise _written_differently(value, text, "the same day, but only one of them has a time")
        return hit
    same = bool(meant == found.value)
    if hit and not same:
        reason = f'shows "{found.displayed}" but is {found.canonical}: "{text}" could mean either'
        raise BadValue("D117", reason, value, 'compare its value, or its text: {it}|string == "…"')
    if same and not hit:
        raise _written_differently(value, text, "the same value, written differently")
    return hit


def _written_differently(value: Any, text: str, how: str) -> BadValue:
    shown = value_of(value).displayed
    if isinstance(value, Value):
        return BadValue("D117", f'is "{shown}", and "{text}" is {how}', value, f'compare it with "{shown}"')
    hint = f'compare it with "{text}", or give the column a type in data.types'
    return BadValue("D117", f'is the text "{text}", and {shown} is {how}', text, hint)


def _clash_of_days(value: Any, text: str) -> bool:
    """Return whether one is a date and the other a date and time of that very day."""
    if not isinstance(value, date):
        return False
    moment = notation.read_moment(text)
    return moment is not None and (moment.year, moment.month, moment.day) == (
        value.year,
        value.month,
        value.day,
    )


def _equal_others(left: Any, right: Any) -> bool:
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(equal, left, right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(equal(left[key], right[key]) for key in left)
    containers = (list, tuple, dict)
    if (
        left is not None
        and right is not None
        and isinstance(left, containers) is not isinstance(right, containers)
    ):
        raise unlike(left, right)
    return bool(left == right)


def ordered(operation: Callable[[Any, Any], bool], left: Any, right: Any) -> bool:
    """Return ``<``, ``<=``, ``>`` or ``>=``: by value; text is first read as the other side's type.

    Two texts are compared as numbers if both are numbers, and as text if neither is.

    Raises:
        BadValue: of unlike types, or text does not read as one.

    """
    left_kind, right_kind = kind_of(left), kind_of(right)
    if left_kind is None or right_kind is None:
        return bool(operation(plain(left), plain(right)))
    if left_kind is str and right_kind is str:
        return bool(operation(*_like_texts(left, right)))
    if left_kind is str:
        return bool(operation(_read(right_kind, left), plain(right)))
    if right_kind is str:
        return bool(operation(plain(left), _read(left_kind, right)))
    if left_kind is not right_kind:
        raise unlike(left, right)
    try:
        return bool(operation(plain(left), plain(right)))
    except TypeError:
        raise BadValue("D117", "has a time zone, and what it is compared with does not", left, None) from None


def _like_texts(left: str, right: str) -> tuple[Any, Any]:
    for read in _READERS:
        first, second = read(left), read(right)
        if first is not None and second is not None:
            return first, second
        if (first is None) is not (second is None) and read is notation.read_number:
            raise not_a(Number, left if first is None else right)
    if left.strip()[:1].isdigit() and right.strip()[:1].isdigit():
        # "05.03.2026", "1.234,50": the order of their characters is not that of the dates or sums they mean.
        raise not_a(Number, left)
    return left, right


_READERS: tuple[Callable[[str], Any], ...] = (
    notation.read_number,
    DateTime.read,
    Date.read,
    Time.read,
    Duration.read,
)


def _read(kind: Any, text: str) -> Any:
    found = None if kind is Truth else kind.read(text)
    if found is None:
        raise not_a(kind, text)
    return found


LONGEST_WORD = 20
"""Text longer than this means neither yes nor no: it can only be blank or not."""

_UNIT = r"(?:[$£¥€₣₤₦₩₪₫₱₴₹₺₽₿%]|[a-z]{3}(?![a-z]))"
_NOUGHT = lazy_re(rf"(?:{_UNIT}\s*)?[+-]?0+(?:[.,'\u2019 ]0+)*(?:[.,][-\u2013]*)?(?:\s*{_UNIT})?\Z")
_SPELT_OUT = {"true": True, "false": False}


def truth(value: Any) -> bool:
    """Return whether *value* counts as true in a condition.

    Raises:
        BadValue: it is text that means no.

    """
    if not isinstance(value, str):
        return bool(value)
    word = value.strip()
    if not word or len(word) > LONGEST_WORD:
        return bool(word)
    word = word.casefold()
    if word in _SPELT_OUT:
        return _SPELT_OUT[word]
    if _says_no(word):
        raise BadValue(
            "D117",
            f'is "{value.strip()}", but text that is not empty counts as true',
            value,
            'types = { {key} = "boolean" } in [data], or {it} == "yes"; to test that it is not empty: '
            '{it} != ""',
        )
    return True


def _says_no(word: str) -> bool:
    """Return whether a folded word means no, or is a zero with its unit: ``no.``, ``0,00 €``, ``0 %``."""
    if notation.read_truth(word) is False or (word[0] in "+-.0" and notation.read_number(word) == Decimal(0)):
        return True
    if word.isascii() and "0" not in word and word[-1] not in ".!":
        return False
    word = unicodedata.normalize("NFKC", word).rstrip(".! ")
    return notation.read_truth(word) is False or ("0" in word and _NOUGHT.match(word) is not None)


def present(value: Any) -> bool:
    """Return whether *value* is used, rather than its replacement: ``{{ title or "News" }}``.

    Here only blank text counts as missing, and FALSE.
    """
    if not isinstance(value, str):
        return bool(value)
    if len(value) > LONGEST_WORD:
        return not value.isspace()
    word = value.strip()
    return bool(word) and (len(word) != 5 or word.casefold() != "false")


class Truths(dict[str, bool]):
    """Results of `truth` for short texts: the same few occur again and again."""

    _MOST = 4096

    def __missing__(self, text: str) -> bool:
        answer = truth(text)
        if len(self) >= self._MOST:
            self.clear()
        self[text] = answer
        return answer
