"""Filters that print values in the reader's language: dates, times, money, numbers, ordinals, plurals.

Forms, categories and names are those of Unicode CLDR, through Babel; only the endings of ordinals are our
own.

Text cells are read strictly: ISO dates and plain numbers. Anything else, and an empty cell, is an error of
the row unless the filter is given a ``default``, because a guess (is 1.234 a thousand or one?) would be sent
to a person.
"""

from __future__ import annotations

import contextlib
from base64 import urlsafe_b64encode
from datetime import date, datetime, time
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TypeVar

from jinja2 import TemplateRuntimeError, Undefined, pass_context, pass_eval_context
from markupsafe import Markup

from mailmerge.model import QR_CODE
from mailmerge.text import near, quoted
from mailmerge.values import MOST_DIGITS, BadValue, Number, displayed, kind_of, notation, plain
from mailmerge.values.locale_numbers import typed_hint

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from decimal import Decimal

    from babel import Locale
    from jinja2.nodes import EvalContext

_LONGEST_CODE = 2331
"""Octets in the largest QR code with error correction level M (ISO/IEC 18004)."""
_NAMED = ("short", "medium", "long", "full")
_CATEGORIES = ("zero", "one", "two", "few", "many", "other")
"""The plural categories of CLDR."""
_POINT = "bs cs da de et fi fo hr hu is lb lv nb nn no pl sk sl sr tr"
_ORDINALS: Mapping[str, Mapping[str, str]] = {
    "ca": {"one": "{}r", "two": "{}n", "few": "{}t", "other": "{}è", "feminine": "{}a"},
    "en": {"one": "{}st", "two": "{}nd", "few": "{}rd", "other": "{}th"},
    "es": {"other": "{}.º", "feminine": "{}.ª"},
    "fr": {"one": "{}er", "other": "{}e", "feminine one": "{}re", "feminine": "{}e"},
    "it": {"other": "{}º", "feminine": "{}ª"},
    "ja": {"other": "第{}"},
    "nl": {"other": "{}e"},
    "pt": {"other": "{}º", "feminine": "{}ª"},
    "sv": {"one": "{}:a", "other": "{}:e"},
    "zh": {"other": "第{}"},
    **{language: {"other": "{}."} for language in _POINT.split()},
}
"""By language and ordinal category of CLDR: ordinals in digits (CLDR, rbnf, digits-ordinal)."""
_OWN_NAMES = "ar ca cs da de el en es fi fr he hu it ja ko nb nl pl pt ro ru sv tr uk zh"
"""Languages whose own names are understood in hints: Deutsch, français."""


_Filter = TypeVar("_Filter", bound="Callable[..., str]")
_METHODS: dict[str, Callable[..., str]] = {}


def _filter(name: str) -> Callable[[_Filter], _Filter]:
    """Register a method of `Filters` as the template filter *name*."""

    def register(method: _Filter) -> _Filter:
        _METHODS[name] = method
        return method

    return register


class Filters:
    """The filters, and the locale of the row that is being rendered."""

    def __init__(self) -> None:
        self.locale = "en"
        """Set before each row: a macro in an imported template sees this, but not the context."""

    def table(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by their names in templates."""
        made = {name: _with_default(name, partial(method, self)) for name, method in _METHODS.items()}
        return {**made, "fallback": _fallback, "qr": _qr}

    @_filter("date")
    def _date(self, value: Any, format: str = "medium") -> str:  # noqa: A002  as templates write it
        day = _to_date(value)
        if format in _NAMED:
            return str(_date_pattern(self.locale, format).apply(day, _locale(self.locale)))
        return str(_own_pattern(format).apply(day, _locale(self.locale)))

    @_filter("time")
    def _time(self, value: Any, format: str = "short") -> str:  # noqa: A002
        moment = _to_time(value)
        if format in _NAMED:
            return str(_time_pattern(self.locale, format).apply(moment, _locale(self.locale)))
        return str(_own_pattern(format).apply(moment, _locale(self.locale)))

    @_filter("number")
    def _number(self, value: Any, digits: int | None = None) -> str:
        number = _to_number(value)
        if digits is None:
            pattern = _number_pattern(self.locale)
            return str(pattern.apply(number, _locale(self.locale), decimal_quantization=False))
        return str(_number_pattern(self.locale, digits).apply(number, _locale(self.locale)))

    @_filter("money")
    def _money(self, value: Any, currency: str) -> str:
        number = _to_number(value)
        _check_currency(currency)
        pattern = _locale(self.locale).currency_formats["standard"]
        return str(pattern.apply(number, _locale(self.locale), currency=currency, currency_digits=True))

    @_filter("ordinal")
    def _ordinal(self, value: Any, *, feminine: bool = False) -> str:
        number = _to_number(value)
        if number != int(number) or number < 0:
            raise BadValue("D114", "is not a whole number", value, "only 0, 1, 2, 3 ... have ordinals")
        locale = _locale(self.locale)
        forms = _ORDINALS.get(locale.language)
        if forms is None:
            reason = f"has no known ordinal in the locale {locale}"
            raise BadValue("D114", reason, value, f"ordinals are known for {', '.join(sorted(_ORDINALS))}")
        category = locale.ordinal_form(int(number))
        wanted = (f"feminine {category}", "feminine") if feminine else ()
        form = next(forms[name] for name in (*wanted, category, "other") if name in forms)
        return form.format(self._number(number))

    @_filter("plural")
    def _plural(self, value: Any, *words: Any, **forms: Any) -> str:
        number = _to_number(value)
        unknown = [name for name in forms if name not in _CATEGORIES]
        if words or unknown or "other" not in forms:
            said = f"plural does not know {quoted(unknown[0])}" if unknown else "plural needs named forms"
            example = 'one="1 book", other="%d books"'
            raise TemplateRuntimeError(
                f"{said}: write |plural({example}); also {', '.join(_CATEGORIES[:-1])}"
            )
        category = _locale(self.locale).plural_form(int(number) if number == int(number) else number)
        category = "zero" if number == 0 and "zero" in forms else category
        form = str(displayed(forms.get(category, forms["other"])))
        return form.replace("%d", self._number(number)) if "%d" in form else form


def _with_default(name: str, method: Callable[..., str]) -> Callable[..., str]:
    """Wrap a filter so that an empty value gives its ``default``, or an error of the row.

    It takes the context, unused, to keep the compiler from folding constants in the first row's locale.
    """

    @pass_context
    def filter_(_context: object, value: Any, *args: Any, default: str | None = None, **options: Any) -> str:
        if not _empty(value):
            return method(value, *args, **options)
        if default is not None:
            return default
        hint = f'write |{name}(..., default="")'
        raise BadValue("D114", f"is empty: nothing for `{name}` to print", value, hint)

    vars(filter_)["method"] = method  # for checks of a call before it happens
    return filter_


def _fallback(value: Any, *others: Any) -> Any:
    """Return the first of the values that is not empty; the last one if all are."""
    if not others:
        raise TemplateRuntimeError('fallback needs a value to print instead: |fallback("friend")')
    return next((one for one in (value, *others) if not _empty(one)), others[-1])


@pass_eval_context
def _qr(context: EvalContext, value: Any, *, size: int = 160, alt: str | None = None) -> str:
    """Return a value as a QR code, *size* pixels wide; in plain text, which has no images, the value.

    *alt* is what a reader without images gets; the default is the value.
    """
    text = "" if _empty(value) else str(displayed(value)).strip()
    if not text:
        raise BadValue(
            "D114", "is empty: nothing for `qr` to show", value, "fill in the cell, or test it first"
        )
    if len(text.encode("utf-8", "surrogatepass")) > _LONGEST_CODE:
        raise BadValue("D114", f"is too long for a QR code: more than {_LONGEST_CODE:,} octets", value)
    if not context.autoescape:
        return text
    data = urlsafe_b64encode(text.encode("utf-8", "replace")).decode("ascii")
    tag = Markup('<img src="{}{}" alt="{}" width="{}" height="{}" style="background:#fff">')
    return tag.format(QR_CODE, data, f"QR code: {text}" if alt is None else alt, int(size), int(size))


def _empty(value: Any) -> bool:
    if isinstance(value, Undefined):
        str(value)  # raises an error with the unknown name
    return value is None or (isinstance(value, str) and not value.strip())


def _to_number(value: Any) -> Decimal:
    if isinstance(value, str):
        number = notation.read_number(value)
    else:
        number = plain(value) if kind_of(value) is Number else None
    if number is None or not number.is_finite():
        hint = typed_hint(value) if isinstance(value, str) else None
        raise BadValue(
            "D114",
            "is not a number",
            value,
            hint or "write it as 1234.50: digits, and a point before decimals",
        )
    if len(number.as_tuple().digits) > MOST_DIGITS or abs(number.adjusted()) > MOST_DIGITS:
        raise BadValue("D114", f"has more than {MOST_DIGITS} digits", value)
    return number


def _to_date(value: Any) -> date:
    day = notation.read_moment(value) if isinstance(value, str) else plain(value)
    if not isinstance(day, date):
        kind = _year_first(value) if isinstance(value, str) else None
        typed = f'set its type in data.types: "date:{kind}"' if kind else "give the column a date type"
        raise BadValue("D114", "is not a date", value, f"write it as 2026-12-31, or {typed}")
    return day


def _year_first(text: str) -> str | None:
    """Return the format of a date that begins with the year, as lists from China and Japan have it."""
    for form in ("%Y/%m/%d", "%Y.%m.%d", "%Y年%m月%d日"):
        with contextlib.suppress(ValueError):
            datetime.strptime(text.strip(), form)  # noqa: DTZ007  only whether it is one
            return form
    return None


def _to_time(value: Any) -> time | datetime:
    moment = plain(value)
    if isinstance(value, str):
        moment = notation.read_time(value) or notation.read_moment(value)
    if not isinstance(moment, time | datetime):
        raise BadValue("D114", "is not a time", value, "write it as 16:30 or 2026-12-31 16:30")
    return moment


@lru_cache(maxsize=64)
def _locale(name: str) -> Locale:
    from babel import Locale, UnknownLocaleError

    try:
        return Locale.parse(name.strip().replace("-", "_"))
    except (UnknownLocaleError, ValueError):
        raise BadValue("D114", "is not a locale", name, _HOW_LOCALES) from None


_HOW_LOCALES = "write it as en_GB, de or zh_CN"


@lru_cache(maxsize=256)
def locale_problem(name: str) -> str | None:
    """Return the hint for a name that is not a locale; None: it is one."""
    try:
        _locale(name)
    except BadValue:
        meant = meant_locale(name)
        return f"did you mean `{meant}`? {_HOW_LOCALES}" if meant else _HOW_LOCALES
    return None


def meant_locale(name: str) -> str | None:
    """Guess the locale that was intended: by the name of a language, or with an unknown country.

    Returns:
        None: nothing to guess from.

    """
    from babel import Locale

    parts = name.strip().replace("-", "_").split("_")
    codes = {language.casefold(): code for code, language in Locale("en").languages.items()}
    codes |= {str(Locale(code).get_display_name()).casefold(): code for code in _OWN_NAMES.split()}
    wanted = name.strip().casefold()
    guesses = [parts[0].lower()] if len(parts) > 1 else []
    guesses += [codes[found] for found in (wanted, *near(wanted, codes)) if found in codes]
    return next((guess for guess in guesses if _is_locale(guess)), None)


def _is_locale(name: str) -> bool:
    try:
        _locale(name)
    except BadValue:
        return False
    return True


@lru_cache(maxsize=256)
def _date_pattern(locale: str, format_: str) -> Any:
    return _locale(locale).date_formats[format_]


@lru_cache(maxsize=256)
def _time_pattern(locale: str, format_: str) -> Any:
    return _locale(locale).time_formats[format_]


@lru_cache(maxsize=256)
def _own_pattern(pattern: str) -> Any:
    from babel.dates import parse_pattern

    return parse_pattern(pattern)


@lru_cache(maxsize=256)
def _number_pattern(locale: str, digits: int | None = None) -> Any:
    from babel.numbers import parse_pattern

    pattern = parse_pattern(_locale(locale).decimal_formats[None].pattern)
    if digits is not None:
        pattern.frac_prec = (digits, digits)
    return pattern


@lru_cache(maxsize=64)
def _check_currency(currency: str) -> None:
    from babel.numbers import is_currency

    if not is_currency(currency):
        raise ValueError(f'"{currency}" is not a currency: write its ISO 4217 code, such as EUR')
