"""Limits on the output of templates: widths, counts and lengths may come from a cell.

One hostile cell must not fill the memory or take minutes: anything that would produce more than a letter can
contain is refused, and that row is invalid.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from jinja2 import pass_eval_context
from jinja2.filters import FILTERS
from jinja2.sandbox import safe_range
from jinja2.utils import generate_lorem_ipsum

from mailmerge import values
from mailmerge.values import BadValue, Number, Value

if TYPE_CHECKING:
    from collections.abc import Iterable

    from jinja2.nodes import EvalContext

_LETTERS_OF_A_WORD = 8


def refuse_many(count: Any, size: int = 1) -> None:
    """Refuse too many items of a size: their number may have come from a cell.

    Raises:
        BadValue: the result would be longer than any letter.

    """
    if values.kind_of(count) is Number:
        values.refuse_long(abs(values.plain(count)) * size, count)


def batch(value: Any, linecount: int, fill_with: Any = None) -> Any:
    """Group as Jinja2's filter does, but without padding endless groups."""
    if fill_with is not None:
        refuse_many(linecount)
    return FILTERS["batch"](value, linecount, fill_with)


@pass_eval_context
def slice_(context: EvalContext, value: Any, slices: int, fill_with: Any = None) -> Any:
    """Divide as Jinja2's filter does, but not into endless columns."""
    refuse_many(slices)
    return FILTERS["slice"](context, value, slices, fill_with)


def count_range(*args: Any) -> range:
    """Return a range as Jinja2's sandbox allows; a count that comes from a cell must be a whole number.

    Raises:
        BadValue: it is not a whole number, or is too large.

    """
    try:
        return safe_range(*args)
    except BadValue:
        raise
    except (TypeError, ValueError, OverflowError):
        culprits = [arg for arg in args if isinstance(arg, Value | str)]
        if not culprits:
            raise
        hint = "write {it}|int" if isinstance(culprits[0], str) else None
        raise BadValue("D117", "is not a number to count to", culprits[0], hint) from None


def sample_text(n: int = 5, html: bool = True, min: int = 20, max: int = 100) -> str:  # noqa: A002  Jinja2's names
    """Return filler text like Jinja2's ``lipsum``.

    Raises:
        BadValue: it would be longer than any letter.

    """
    refuse_many(n, (abs(int(max)) + 1) * _LETTERS_OF_A_WORD)
    return generate_lorem_ipsum(n, html, min, max)


GROWING = frozenset({"center", "expandtabs", "join", "ljust", "replace", "rjust", "zfill"})
"""Methods of `str` whose result may be longer than string and arguments together."""


def refuse_growth(name: str, text: str, args: tuple[Any, ...]) -> None:
    """Refuse a call whose result would be longer than any letter: a width or a string may come from a cell.

    Raises:
        BadValue: the result would be too long.

    """
    if not args:
        return
    first = args[0]
    if name == "replace":
        if len(args) > 1 and isinstance(first, str) and isinstance(args[1], str):
            values.refuse_long(len(text) + text.count(first) * len(args[1]), args[1])
    elif name == "join":
        if isinstance(first, str | list | tuple):
            values.refuse_long(len(text) * len(first), text)
    elif values.kind_of(first) is Number:
        times = text.count("\t") if name == "expandtabs" else 1
        values.refuse_long(values.plain(first) * times, first)


_LONG_NUMBER = re.compile(r"[0-9]{6,}")


def refuse_wide_format(text: str, given: Iterable[Any]) -> None:
    """Refuse a width in ``"{:>8}"`` that would fill the memory.

    Raises:
        BadValue: the width is too large.

    """
    if _LONG_NUMBER.search(text):
        values.refuse_long(max(int(digits[:9]) for digits in _LONG_NUMBER.findall(text)), text)
    if re.search(r"\{[^{}]*:[^{}]*\{", text):  # a width given as an argument
        for value in given:
            if values.kind_of(value) is Number:
                values.refuse_long(abs(values.plain(value)), value)
