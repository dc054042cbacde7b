"""Jinja2's filters and tests for cells: those for text get the displayed text, those for numbers the value.

Filters that are not listed here work on values unchanged (``first``, ``map``, ``defined`` ...); the table in
``docs/values.md`` contains all of them, and a test runs it.
"""

from __future__ import annotations

import operator
import re
from collections import abc
from functools import partial, wraps
from typing import TYPE_CHECKING, Any, NamedTuple

from jinja2 import Undefined, pass_context, pass_environment, pass_eval_context
from jinja2.exceptions import FilterArgumentError
from jinja2.filters import FILTERS, ignore_case, make_attrgetter, make_multi_attrgetter
from markupsafe import Markup, escape

from mailmerge import values
from mailmerge.lazy_re import lazy_re
from mailmerge.render import growth
from mailmerge.values import BadValue, Number, Truth, Value, notation
from mailmerge.values.locale_numbers import typed_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from jinja2 import Environment
    from jinja2.nodes import EvalContext
    from jinja2.runtime import Context

_NONE = object()
_MOST_PLACES = 1000
"""Most places before or after the decimal point for rounding."""
_WORD = lazy_re(r"[^-\s({\[<]+")


def shown(value: Any) -> Any:
    """Return the text that a filter works on: markup and strings unchanged, all else as displayed."""
    return value if isinstance(value, str) else values.displayed(value)


def _of_text(name: str, position: int = 0) -> Callable[..., Any]:
    """Return Jinja2's filter *name*, applied to the displayed text."""
    wrapped: Callable[..., Any] = FILTERS[name]

    @wraps(wrapped)
    def filter_(*args: Any, **options: Any) -> Any:
        before, value, more = args[:position], args[position], map(_option, args[position + 1 :])
        named = {key: _option(item) for key, item in options.items()}
        return wrapped(*before, value if value.__class__ is str else shown(value), *more, **named)

    return filter_


def _option(value: Any) -> Any:
    """Return a cell as an argument for one of Jinja2's filters: a width or a string."""
    if not isinstance(value, Value):
        return value
    return (
        operator.index(value)
        if isinstance(value, Number)
        else value.value
        if isinstance(value, Truth)
        else str(value)
    )


# Methods of `str`, without Jinja2's overhead: templates use these most.


def _upper(value: Any) -> str:
    return (value if value.__class__ is str else shown(value)).upper()


def _lower(value: Any) -> str:
    return (value if value.__class__ is str else shown(value)).lower()


def _capitalize(value: Any) -> str:
    return (value if value.__class__ is str else shown(value)).capitalize()


def _trim(value: Any, chars: str | None = None) -> str:
    return (value if value.__class__ is str else shown(value)).strip(chars)


def _title(value: Any) -> str:
    text = value if value.__class__ is str else shown(value)
    return _WORD.sub(_titled, text)


def _titled(word: re.Match[str]) -> str:
    return word[0][0].upper() + word[0][1:].lower()


def _string(value: Any) -> Any:
    return value if isinstance(value, str) else str(shown(value))


def _escape(value: Any) -> Markup:
    return escape(value if value.__class__ is str else shown(value))


def _length(value: Any) -> int:
    return len(value if values.kind_of(value) is None else shown(value))


@pass_eval_context
def _lines(context: EvalContext, value: Any) -> Any:
    """Keep the lines of a cell apart: in HTML with ``<br>``; elsewhere they already are."""
    text = shown(value)
    if not context.autoescape:
        return text
    return Markup("<br>\n".join(str(escape(text)).splitlines()))  # noqa: S704  its lines are escaped


def _reverse(value: Any) -> Any:
    return FILTERS["reverse"](value if values.kind_of(value) is None else shown(value))


_LONGEST_QUERY = 32_768


def _urlencode(value: Any) -> Any:
    if isinstance(value, abc.Mapping):
        value = {_string(key): _string(item) for key, item in value.items()}
    elif isinstance(value, list | tuple):
        value = [(_string(key), _string(item)) for key, item in value]
    else:
        value = _string(value)
        # Each of its octets becomes three; no program follows an address of such a length.
        if len(value) > _LONGEST_QUERY:
            raise BadValue("D117", f"is too long for an address ({len(value):,} characters)", value)
    return FILTERS["urlencode"](value)


@pass_eval_context
def _xmlattr(context: EvalContext, table: Mapping[str, Any], autospace: bool = True) -> Any:
    texts = {
        key: item if item is None or isinstance(item, Undefined) else shown(item)
        for key, item in table.items()
    }
    return FILTERS["xmlattr"](context, texts, autospace)


@pass_eval_context
def _join(context: EvalContext, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> Any:
    if attribute is not None:
        value = map(make_attrgetter(context.environment, attribute), value)
    # What comes one by one from text is text: a cell may have 131,072 characters.
    texts, between = list(value if isinstance(value, str) else map(shown, value)), shown(d)
    if len(between) > 1:
        values.refuse_long(len(texts) * len(between), between)
    return FILTERS["join"](context, texts, between)


def _growing(name: str, position: int = 0) -> Callable[..., Any]:
    """Return Jinja2's filter *name*, applied to the displayed text unless the result would be too long."""
    filter_ = _of_text(name, position)

    @wraps(filter_)
    def guarded(*args: Any, **options: Any) -> Any:
        text, more = shown(args[position]), (*args[position + 1 :], *options.values())
        if name == "replace":
            growth.refuse_growth(name, text, tuple(map(text_argument, more)))
        else:
            for width in more:
                size = len(width) if isinstance(width, str) else values.plain(width)
                if isinstance(width, str) or values.kind_of(width) is Number:
                    values.refuse_long(size * (text.count("\n") + 1 if name == "indent" else 1), width)
        return filter_(*args, **options)

    return guarded


_MOST_WRAPPED = 32_768
_LONGEST_WORD = 8192


@pass_environment
def _wordwrap(environment: Environment, value: Any, *args: Any, **options: Any) -> Any:
    text = shown(value)
    if len(text) > _LONGEST_WORD:
        # Wrapping text without break points takes time that grows with the square of its length.
        longest = max(map(len, re.findall(r"\S+|\s+", text)))
        if len(text) > _MOST_WRAPPED or longest > _LONGEST_WORD:
            raise BadValue("D117", f"is too long to wrap ({len(text):,} characters)", value)
    return _of_text("wordwrap", 1)(environment, text, *args, **options)


_LINKED = lazy_re(r"://|www\.|@|\.(?:com|edu|gov|info|int|mil|net|org)", re.IGNORECASE)
"""What is in every word that Jinja2 makes a link of."""
_MOST_LINKED = 500
_TO_LAST_SPACE = lazy_re(r".*\s", re.DOTALL)
_SPACE = lazy_re(r"\s")


@pass_eval_context
def _urlize(context: EvalContext, value: Any, *args: Any, **options: Any) -> Any:
    text, link = shown(value), _of_text("urlize", 1)
    if "extra_schemes" in options or len(args) > 4 or len(text) <= _LONGEST_WORD:
        return link(context, text, *args, **options)
    # Each link is looked at by a dozen checks, and no letter has so many.
    linked = list(_LINKED.finditer(text))
    if len(linked) > _MOST_LINKED:
        raise BadValue("D117", f"has too many addresses to make links of them ({len(linked):,})", value)
    # Jinja2 takes long over each word, also of those that cannot be links.
    pieces: list[str] = []
    at = 0
    for found in linked:
        if found.start() < at:  # in the same word
            continue
        space = _TO_LAST_SPACE.match(text, at, found.start())
        start = space.end() if space else at
        end = space.start() if (space := _SPACE.search(text, found.end())) else len(text)
        pieces += (escape(text[at:start]), link(context, text[start:end], *args, **options))
        at = end
    made = "".join((*pieces, escape(text[at:])))
    return Markup(made) if context.autoescape else made  # noqa: S704  all of it is escaped


def _format(value: Any, *args: Any, **options: Any) -> Any:
    if args and options:
        raise FilterArgumentError("can't handle positional and keyword arguments at the same time")
    return values.calculate("%", shown(value), options or args)


@pass_eval_context
def _tojson(context: EvalContext, value: Any, indent: int | None = None) -> Any:
    if indent is not None:
        growth.refuse_many(indent)
    return FILTERS["tojson"](context, value, indent)


def dump_json(value: Any, **options: Any) -> str:
    """Return a value as JSON: numbers as numbers, TRUE and FALSE as such, all else as canonical text."""
    import json

    return json.dumps(value, default=_json, **options)


def _json(value: Any) -> Any:
    kind = values.kind_of(value)
    if kind is None:
        raise TypeError(f"{type(value).__name__} cannot be written as JSON")
    exact = values.plain(value)
    if kind is Truth:
        return exact
    if kind is not Number:
        return values.canonical(value)
    number: int | float = int(exact) if exact == exact.to_integral_value() else float(exact)
    if values.plain(number) != exact:
        raise BadValue("D117", "has too many digits for JSON", value, "write {it}|string|tojson")
    return number


# --- numbers ------------------------------------------------------------------------------------------------


def _number(value: Any, *, exponent: bool = False) -> Any:
    """Read a number strictly; None if it is not one."""
    if isinstance(value, Undefined):
        str(value)  # raises an error with the unknown name
    if isinstance(value, str):
        return notation.read_number(value, exponent=exponent)
    if values.kind_of(value) is Truth:
        return values.plain(int(bool(value)))
    return _finite(values.plain(value)) if values.kind_of(value) is Number else None


def _finite(number: Any) -> Any:
    return number if number.is_finite() else None


def _int(value: Any, default: Any = _NONE, base: int = 10) -> Any:
    if value.__class__ is int:
        return value
    try:
        if isinstance(value, str) and base != 10:
            return int(value, base)
        number = _number(value)
        if number is not None:
            return int(Number(number))
    except (ValueError, BadValue):
        pass
    if default is _NONE:
        raise _no_number(value, "int")
    return default


def _float(value: Any, default: Any = _NONE) -> Any:
    if value.__class__ is float:
        return value
    number = _number(value, exponent=True)
    if number is None:
        if default is _NONE:
            raise _no_number(value, "float")
        return default
    return Number(number.normalize() if abs(number.adjusted()) < values.MOST_DIGITS else number)


def _no_number(value: Any, filter_name: str) -> BadValue:
    what = "is empty, not a number" if isinstance(value, str) and not value.strip() else "is not a number"
    typed = typed_hint(value) if isinstance(value, str) else None
    hint = typed or f"write it as 1234.50, or give a default: |{filter_name}(0)"
    return BadValue("D114", what, value, hint)


def _round(value: Any, precision: int = 0, method: str = "common") -> Any:
    if method not in {"common", "ceil", "floor"}:
        raise FilterArgumentError("method must be common, ceil or floor")
    if isinstance(value, str):  # one cell that is not a number makes the whole column text
        number = _number(value)
        if number is None:
            raise BadValue("D114", "is not a number", value, typed_hint(value) or "write it as 1234.50")
        value = Number(number)
    digits = operator.index(precision)
    if abs(digits) > _MOST_PLACES:
        raise BadValue("D117", "is too many places to round to", precision)
    return values.rounded(value, digits, method)


def _filesizeformat(value: Any, binary: bool = False) -> Any:
    number = _number(value)
    if number is None or values.kind_of(value) is Truth:
        raise BadValue("D114", "is not a number", value, typed_hint(value) or "write it as 1234.50")
    return FILTERS["filesizeformat"](float(number), binary)


@pass_environment
def _sum(
    environment: Environment, iterable: Iterable[Any], attribute: str | int | None = None, start: Any = 0
) -> Any:
    if attribute is not None:
        iterable = map(make_attrgetter(environment, attribute), iterable)
    return values.total(iterable, start, attribute)


# --- conditions, order, groups --------------------------------------------------------------------------


def _default(value: Any, default_value: Any = "", boolean: bool = False) -> Any:
    if value.__class__ is str:
        return default_value if boolean and not values.present(value) else value
    if isinstance(value, Undefined) or (boolean and not values.present(value)):
        return default_value
    return value


def _chosen(name: str, *, wanted: bool, attribute: bool) -> Callable[..., Any]:
    """Make ``select`` and similar filters use our truth test if no test is named."""
    wrapped: Callable[..., Any] = FILTERS[name]
    least = 1 if attribute else 0

    @pass_context
    @wraps(wrapped)
    def filter_(context: Context, value: Iterable[Any], *args: Any, **options: Any) -> Iterator[Any]:
        if len(args) > least or not value:
            yield from wrapped(context, value, *args, **options)
            return
        get = make_attrgetter(context.environment, args[0]) if attribute else _itself
        for item in value:
            if values.truth(get(item)) is wanted:
                yield item

    return filter_


def _itself(value: Any) -> Any:
    return value


def _positions(keys: list[Any], *, reverse: bool = False) -> list[int]:
    order = values.order_keys(keys)
    return sorted(range(len(keys)), key=order.__getitem__, reverse=reverse)


@pass_environment
def _sort(
    environment: Environment,
    value: Iterable[Any],
    reverse: bool = False,
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> list[Any]:
    items = list(value)
    get = make_multi_attrgetter(environment, attribute, postprocess=None if case_sensitive else ignore_case)
    columns = [values.order_keys(column) for column in zip(*map(get, items), strict=True)]
    keys = list(zip(*columns, strict=True))
    return [items[at] for at in sorted(range(len(items)), key=keys.__getitem__, reverse=reverse)]


def _dictsort(
    value: Mapping[Any, Any], case_sensitive: bool = False, by: str = "key", reverse: bool = False
) -> list[tuple[Any, Any]]:
    if by not in {"key", "value"}:
        raise FilterArgumentError('You can only sort by either "key" or "value"')
    items = list(value.items())
    keys = [item[by == "value"] for item in items]
    keys = keys if case_sensitive else list(map(ignore_case, keys))
    return [items[at] for at in _positions(keys, reverse=reverse)]


@pass_environment
def _unique(
    environment: Environment,
    value: Iterable[Any],
    case_sensitive: bool = False,
    attribute: str | int | None = None,
) -> Iterator[Any]:
    items = list(value)
    keys = list(map(make_attrgetter(environment, attribute), items))
    first = values.same_as(keys, fold=not case_sensitive)
    yield from (item for at, item in enumerate(items) if first[at] == at)


class _GroupTuple(NamedTuple):
    grouper: Any
    list: list[Any]


@pass_environment
def _groupby(
    environment: Environment,
    value: Iterable[Any],
    attribute: str | int,
    default: Any = None,
    case_sensitive: bool = False,
) -> list[_GroupTuple]:
    items = list(value)
    keys = list(map(make_attrgetter(environment, attribute, default=default), items))
    groups: dict[int, _GroupTuple] = {}
    for at, first in enumerate(values.same_as(keys, fold=not case_sensitive)):
        groups.setdefault(first, _GroupTuple(keys[first], [])).list.append(items[at])
    found = list(groups.values())
    labels = [group.grouper for group in found]
    return [found[at] for at in _positions(labels if case_sensitive else list(map(ignore_case, labels)))]


def _extreme(last: bool) -> Callable[..., Any]:
    @pass_environment
    def filter_(
        environment: Environment,
        value: Iterable[Any],
        case_sensitive: bool = False,
        attribute: str | int | None = None,
    ) -> Any:
        items = list(value)
        if not items:
            return environment.undefined("No aggregated item, sequence was empty.")
        get = make_attrgetter(environment, attribute, postprocess=None if case_sensitive else ignore_case)
        order = values.order_keys(list(map(get, items)))
        choose = max if last else min
        return items[choose(range(len(items)), key=order.__getitem__)]

    return filter_


@pass_environment
def _attr(environment: Environment, obj: Any, name: str) -> Any:
    if values.kind_of(obj):
        return environment.getattr(obj, name)
    return FILTERS["attr"](environment, obj, name)


# --- tests ----------------------------------------------------------------------------------------------


def _is_in(value: Any, container: Any) -> bool:
    return values.contains(container, value)


def _same_as(value: Any, other: Any) -> bool:
    kinds = values.kind_of(value), values.kind_of(other)
    if None in kinds:
        return value is other
    if kinds[0] is not kinds[1]:
        raise values.unlike(value, other)
    return values.equal(value, other)


def _is_whole(value: Any) -> bool:
    return values.kind_of(value) is Number and values.plain(value) == values.plain(value).to_integral_value()


def _is_fraction(value: Any) -> bool:
    return values.kind_of(value) is Number and not (
        isinstance(value, int) or (isinstance(value, Value) and _is_whole(value))
    )


def _rest(value: Any, divisor: Any) -> Any:
    if values.kind_of(value) is not Number:
        raise BadValue("D117", "is not a number", value, "write {it}|int")
    return values.calculate("%", value, divisor)


def _kind_test(kind: type) -> Callable[[Any], bool]:
    return lambda value: values.kind_of(value) is kind


def filters() -> dict[str, Callable[..., Any]]:
    """Return the replacements for Jinja2's filters that must treat cells differently."""
    of_text = ("center", "forceescape", "pprint", "safe", "striptags", "wordcount")
    with_context = {"replace", "truncate"}
    names = (*of_text, "indent", "replace", "truncate")
    return {
        **{name: _of_text(name, 1 if name in with_context else 0) for name in names},
        **{
            name: _growing(name, 1 if name in with_context else 0) for name in ("center", "indent", "replace")
        },
        "upper": _upper,
        "lower": _lower,
        "title": _title,
        "capitalize": _capitalize,
        "trim": _trim,
        "string": _string,
        "e": _escape,
        "escape": _escape,
        "length": _length,
        "count": _length,
        "lines": _lines,
        "nl2br": _lines,
        "reverse": _reverse,
        "urlencode": _urlencode,
        "xmlattr": _xmlattr,
        "join": _join,
        "format": _format,
        "wordwrap": _wordwrap,
        "urlize": _urlize,
        "tojson": _tojson,
        "batch": growth.batch,
        "slice": growth.slice_,
        "int": _int,
        "float": _float,
        "round": _round,
        "abs": values.absolute,
        "filesizeformat": _filesizeformat,
        "sum": _sum,
        "default": _default,
        "d": _default,
        "select": _chosen("select", wanted=True, attribute=False),
        "reject": _chosen("reject", wanted=False, attribute=False),
        "selectattr": _chosen("selectattr", wanted=True, attribute=True),
        "rejectattr": _chosen("rejectattr", wanted=False, attribute=True),
        "sort": _sort,
        "dictsort": _dictsort,
        "unique": _unique,
        "groupby": _groupby,
        "min": _extreme(last=False),
        "max": _extreme(last=True),
        "attr": _attr,
    }


def tests() -> dict[str, Callable[..., Any]]:
    """Return the replacements for Jinja2's tests that must treat cells differently."""
    compared: dict[str, Callable[..., Any]] = {
        **dict.fromkeys(("eq", "==", "equalto"), values.equal),
        **dict.fromkeys(("ne", "!="), lambda value, other: not values.equal(value, other)),
        **dict.fromkeys(("lt", "<", "lessthan"), partial(values.ordered, operator.lt)),
        **dict.fromkeys(("le", "<="), partial(values.ordered, operator.le)),
        **dict.fromkeys(("gt", ">", "greaterthan"), partial(values.ordered, operator.gt)),
        **dict.fromkeys(("ge", ">="), partial(values.ordered, operator.ge)),
    }
    return {
        **compared,
        "in": _is_in,
        "sameas": _same_as,
        "true": lambda value: values.kind_of(value) is not None and values.equal(value, True),
        "false": lambda value: values.kind_of(value) is not None and values.equal(value, False),
        "boolean": _kind_test(Truth),
        "number": _kind_test(Number),
        "integer": _is_whole,
        "float": _is_fraction,
        "odd": lambda value: _rest(value, 2) == 1,
        "even": lambda value: _rest(value, 2) == 0,
        "divisibleby": lambda value, divisor: _rest(value, divisor) == 0,
        "lower": lambda value: str(shown(value)).islower(),
        "upper": lambda value: str(shown(value)).isupper(),
    }


def text_argument(value: Any) -> Any:
    """Return a cell as an argument for a method of `str`; lists of cells too."""
    if isinstance(value, list | tuple):
        return [text_argument(item) for item in value]
    return value if values.kind_of(value) is None else shown(value)
