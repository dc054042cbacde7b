"""Look-ups: ``in``, ``table[value]``, and what sorts, groups and finds repeats in a list of values.

A value is looked up by its displayed text, then by its canonical text. Where both find something, and not the
same, it is unclear which was meant: that is a `BadValue`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mailmerge.values import notation
from mailmerge.values.arithmetic import calculate
from mailmerge.values.comparison import equal, ordered
from mailmerge.values.locale_numbers import locales_reading, typed_hint
from mailmerge.values.value import (
    BadValue,
    Duration,
    Number,
    Value,
    canonical,
    described,
    displayed,
    kind_of,
    plain,
)

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

MISSING = object()
"""What `find` returns for a key that does not exist."""


def find(table: Mapping[Any, Any], key: Any) -> Any:
    """Return what *table* has under *key*, else `MISSING`.

    Raises:
        BadValue: the key's texts find different things.

    """
    kind = kind_of(key)
    if kind is None:
        return table.get(key, MISSING)
    if kind is str and (key in table or all(item.__class__ is str for item in table)):
        return table.get(key, MISSING)
    found = [item for item in table if kind_of(item) is not None and _names(item, key)]
    if len(found) > 1:
        raise _ambiguous(key, *found[:2])
    return table[found[0]] if found else MISSING


def _names(item: Any, key: Any) -> bool:
    """Return whether *item*, a key of a table, is meant by *key*."""
    if kind_of(item) is kind_of(key):
        return equal(item, key)
    if not isinstance(item, str) and not isinstance(key, str):
        return False
    return bool({displayed(item), canonical(item)} & {displayed(key), canonical(key)})


def contains(container: Any, item: Any) -> bool:
    """Return ``item in container``: a part of some text, a key of a table, or an item that is `equal`.

    Raises:
        BadValue: of unlike types, or the item's texts find different things.

    """
    kind = kind_of(container)
    if kind is not None:
        return _is_part(container, kind, item)
    if isinstance(container, Mapping):
        return find(container, item) is not MISSING
    if isinstance(container, list | tuple | range | set | frozenset) or hasattr(container, "__iter__"):
        return any(equal(other, item) for other in container)
    return item in container


def _is_part(container: Any, kind: type, item: Any) -> bool:
    if kind_of(item) is None:
        return item in container  # raises what Jinja2 raises
    if kind is not str and not isinstance(container, Value):
        raise BadValue("D117", f"is {described(container)}: nothing can be in it", container)
    wholes = displayed(container), canonical(container)
    parts = displayed(item), canonical(item)
    if parts[0] in wholes[0]:
        return True
    if parts[1] in wholes[0] or parts[0] in wholes[1]:
        raise _ambiguous(*((item, *parts) if parts[1] in wholes[0] else (container, *wholes)))
    return False


def same_as(values: Sequence[Any], *, fold: bool = False) -> list[int]:
    """Return for each value the position of the first one that is equal to it; text without case with *fold*.

    Raises:
        BadValue: two share one of their texts and are not equal.

    """
    first: dict[Any, int] = {}
    found = []
    for position, value in enumerate(values):
        texts = _texts(value, fold=fold)
        earlier = sorted({first[text] for text in texts if text in first})
        if len(earlier) > 1:
            raise _ambiguous(value, values[earlier[0]], values[earlier[1]])
        if earlier and not (fold and isinstance(value, str)) and not _equal(value, values[earlier[0]], fold):
            raise _ambiguous(value, values[earlier[0]], value)
        found.append(earlier[0] if earlier else position)
        for text in texts:
            first.setdefault(text, found[-1])
    return found


def _equal(value: Any, other: Any, fold: bool) -> bool:
    return (fold and isinstance(other, str)) or equal(value, other)


def _texts(value: Any, *, fold: bool) -> set[Any]:
    if kind_of(value) is None:
        return {value}
    texts = {displayed(value), canonical(value)}
    return {text.lower() for text in texts} if fold else texts


def order_keys(values: Sequence[Any]) -> list[Any]:
    """Return for each value what to sort it by: Python values of one type.

    Texts are sorted as numbers if all are numbers; among values of another type they have to read as those.

    Raises:
        BadValue: they are of unlike types, or could be meant to be sorted in two ways.

    """
    kinds = {kind_of(value) for value in values}
    if None in kinds:
        return list(values)
    typed = kinds - {str}
    if len(typed) > 1:
        first = next(value for value in values if isinstance(value, Value))
        other = next(value for value in values if kind_of(value) not in {kind_of(first), str})
        ordered(lambda _left, _right: True, first, other)  # raises: they do not compare
    if not typed:
        return _text_keys(values)
    [kind] = typed
    sample = next(value for value in values if kind_of(value) is kind)
    for value in values:
        ordered(lambda _left, _right: True, value, sample)
    return [kind.read(value) if isinstance(value, str) else plain(value) for value in values]  # type: ignore[union-attr]


def _text_keys(texts: Sequence[str]) -> list[Any]:
    numbers = [notation.read_number(text) for text in texts]
    if all(number is not None for number in numbers):
        return numbers
    pairs = sorted((text, number) for text, number in zip(texts, numbers, strict=True) if number is not None)
    in_text_order = [number for _, number in pairs]
    if in_text_order != sorted(in_text_order):
        odd = next(text for text, number in zip(texts, numbers, strict=True) if number is None)
        raise BadValue(
            "D117", "is not a number, and what it is sorted with is", odd, "give them a type in data.types"
        )
    return list(texts)


def _ambiguous(key: Any, first: Any, second: Any) -> BadValue:
    return BadValue(
        "D117",
        f'could mean "{displayed(first)}" as well as "{displayed(second)}" here',
        key,
        "look up its value, {it}.value, or its text, {it}|string",
    )


def total(values: Iterable[Any], start: Any = 0, attribute: object = None) -> Any:
    """Return the sum of numbers or durations; *attribute* is their name in the template, for messages.

    Raises:
        BadValue: one of them is text, or they cannot be added up.

    """
    for value in values:
        if isinstance(value, str) and not isinstance(start, str):
            raise _no_addend(value, attribute)
        if isinstance(value, Duration) and start.__class__ is int and start == 0:
            start = value
        else:
            start = calculate("+", start, value)
    return start


def _no_addend(text: str, attribute: object) -> BadValue:
    """Return the error for a column to be added up with this text in it."""
    if not text.strip():
        named = f'selectattr("{attribute}")|sum(attribute="{attribute}")' if attribute else "select|sum"
        hint = f"fill it in, or leave empty cells out: |{named}"
        return BadValue("D117", "is empty, not a number to add up", text, hint)
    hint = typed_hint(text) or "write it as 1234.50, or leave it out"
    if Number.read(text) is not None and len(locales_reading(text)) <= 1:
        hint = 'types = { {key} = "decimal" } in [data] makes numbers of the column'
    return BadValue("D117", "is text, not a number to add up", text, hint)
