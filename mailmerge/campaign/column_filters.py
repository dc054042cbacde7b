"""How a new campaign's templates print each column: ``amount|money("EUR")`` where the cells show euros.

A filter is written only where nothing is lost by it: it must show the number that the list shows, with as
many decimals and the same currency, and a whole date for a whole date. Every other column is printed as it is
shown in the list. The locale is determined, too: that of the notation in which the numbers are written.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mailmerge.values import BadValue, Date, DateTime, Number, Time, displayed, kind_of
from mailmerge.values.locale_numbers import NOTATIONS, currency_code

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mailmerge.values import Cell
    from mailmerge.values.locale_numbers import Amount

_MOST_SHAPES, _EXAMPLES = 12, 20
_DIGITS = re.compile(r"[\d.,'’ \u00a0\u202f]+")
_TOTALS = re.compile(
    r"total|amount|sum|betrag|gesamt|preis|price|montant|importe|importo|valor|kwota|bedrag|金额|金額",
    re.IGNORECASE,
)
_DUE = re.compile(
    r"due|pay|deadline|fällig|faellig|zahlbar|échéance|echeance|vencimiento|vencimento|scaden|termin|verval|到期|期限",
    re.IGNORECASE,
)
_ENGLISH = "en"


class Printing(Struct, frozen=True):
    """What the templates contain for each column, and which two columns are special."""

    expressions: Mapping[str, str]
    """By the column's name: ``amount|money("EUR")``."""
    locale: str
    """The locale in whose notation the list's numbers are written."""
    amount: str = ""
    """The expression of the column with the amount to be paid; empty: no such column."""
    due: str = ""
    """The expression of the column with the due date."""


class ColumnShapes:
    """What is learnt of a column while the list is read: the types of its cells, and how they are shown."""

    def __init__(self) -> None:
        self.kind: type | None = None
        self.gaps = False
        self._shapes: dict[str, list[Cell]] = {}
        self._mixed = False

    def add(self, value: Cell) -> None:
        """Look at one more cell."""
        if self._mixed:
            return
        shown = displayed(value)
        if not shown.strip():
            self.gaps = True
            return
        kind = kind_of(value)
        if kind is str or (self.kind is not None and kind is not self.kind):
            self._mixed, self.kind = True, None
            return
        self.kind = kind
        examples = self._shapes.setdefault(_DIGITS.sub("0", shown), [])
        if len(examples) < _EXAMPLES:
            examples.append(value)
        elif len(self._shapes) > _MOST_SHAPES and kind is Number:
            self._mixed, self.kind = True, None

    @property
    def examples(self) -> list[Cell]:
        """Some of the cells, of every shape that there is."""
        return [value for values in self._shapes.values() for value in values]

    def notations(self) -> list[str]:
        """Return the locales in whose notation every number of the column is written."""
        shown = [displayed(value) for value in self.examples]
        return [name for name, known in NOTATIONS.items() if all(known.parse(text) for text in shown)]


def printing(spelt: Mapping[str, str], columns: Mapping[str, ColumnShapes]) -> Printing:
    """Decide how each column is printed; *spelt* is how templates write its name."""
    numbers = [column for column in columns.values() if column.kind is Number]
    readings = [found for column in numbers if (found := column.notations())]
    locale = next((name for name in NOTATIONS if all(name in found for found in readings)), _ENGLISH)
    filters = {name: _filters(column, locale) for name, column in columns.items()}
    written = {name: _written(spelt[name], filters[name], gaps=columns[name].gaps) for name in columns}
    money = [name for name in columns if filters[name] and filters[name][0].startswith("money(")]
    days = [name for name in columns if columns[name].kind is Date and filters[name]]
    amount = next(filter(_TOTALS.search, money), money[0] if len(money) == 1 else None)
    due = next(filter(_DUE.search, days), None)
    typed = any(filters[name] for name in columns)
    return Printing(
        expressions={**spelt, **written},
        locale=locale if typed else _ENGLISH,
        amount=written[amount] if amount else "",
        due=written[due] if due else "",
    )


def _written(column: str, filters: Sequence[str], *, gaps: bool) -> str:
    """Return the expression of a column with its filters; an empty cell must not make the row invalid."""
    if gaps:
        filters = [
            f'{name[:-1]}, default="")' if name.endswith(")") else f'{name}(default="")' for name in filters
        ]
    return ' ~ " " ~ '.join(f"{column}|{name}" for name in filters) or column


def _filters(column: ColumnShapes, locale: str) -> list[str]:
    """Return the filters that print a column, in order; none: it is printed as it is shown."""
    examples = column.examples
    if column.kind is Number:
        return _of_numbers(examples, locale)
    if column.kind in {Date, DateTime} and all(_whole_day(value) for value in examples):
        return ["date"] if column.kind is Date else ["date", "time"]
    return ["time"] if column.kind is Time else []


def _of_numbers(examples: Sequence[Cell], locale: str) -> list[str]:
    notation = NOTATIONS[locale]
    shown = [notation.parse(displayed(value)) for value in examples]
    amounts = [amount for amount in shown if amount is not None]
    currencies = {amount.currency for amount in amounts}
    if len(amounts) < len(shown) or len(currencies) != 1 or any(amount.percent for amount in amounts):
        return []
    currency = currencies.pop()
    if currency:
        code = currency_code(currency)
        candidates = [f'money("{code}")'] if code else []
    elif any(amount.group or amount.decimals for amount in amounts):
        candidates = ["number", f"number({max(len(amount.decimals) for amount in amounts)})"]
    else:
        return []  # just as likely the number of a house, a customer or a year
    return next(([name] for name in candidates if _shows_the_same(name, examples, amounts, locale)), [])


def _shows_the_same(written: str, examples: Iterable[Cell], amounts: Iterable[Amount], locale: str) -> bool:
    """Whether a filter prints every number as the list shows it: value, decimals and currency."""
    from mailmerge.render.filters import Filters

    filters = Filters()
    filters.locale = locale
    name, _, argument = written.rstrip(")").partition("(")
    arguments: list[Any] = [argument.strip('"')] if name == "money" else [int(argument)] if argument else []
    method = filters.table()[name]
    for value, amount in zip(examples, amounts, strict=True):
        try:
            printed = NOTATIONS[locale].parse(method(None, value, *arguments))
        except BadValue:
            return False
        if printed is None or (printed.value, len(printed.decimals)) != (amount.value, len(amount.decimals)):
            return False
        if printed.currency != amount.currency and currency_code(printed.currency) != amount.currency:
            return False
    return True


def _whole_day(value: Any) -> bool:
    """Whether a date is shown with its day, month and year: ``March 2026`` is not."""
    numbers = {int(digits) for digits in re.findall(r"\d+", displayed(value))}
    day = value.value
    month = day.month in numbers or re.search(r"[^\W\d]{3}", displayed(value))
    return day.day in numbers and bool({day.year, day.year % 100} & numbers) and bool(month)
