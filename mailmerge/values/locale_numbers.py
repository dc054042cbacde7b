"""Numbers as people write them: ``1.234,50 €``, ``(1,234.50)``, ``26%``, ``−5``, ``12,34,567.00``.

A `Notation` specifies which sign begins the decimals and which ones separate groups of digits. Text is read
by the one that the campaign names, or by the only one that makes sense of a whole column (`NumberColumn`).
Where two make different numbers of it, the column stays text.

Groups and decimals of locales: Unicode CLDR, through Babel (see `mailmerge.recipients.types`), which is not
needed for the few notations that can be found.
"""

from __future__ import annotations

import re
import unicodedata
from decimal import Decimal
from functools import cache
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.lazy_re import lazy_re
from mailmerge.values.notation import number_text

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 60
"""Most characters of a number with its currency; longer text is not one."""
_CODES = (
    "AED AFN ALL AMD AOA ARS AUD AWG AZN BAM BBD BDT BGN BHD BIF BMD BND BOB BRL BSD BTN BWP BYN BZD CAD CDF "
    "CHF CLP CNY COP CRC CUP CVE CZK DJF DKK DOP DZD EGP ERN ETB EUR FJD FKP GBP GEL GHS GIP GMD GNF GTQ GYD "
    "HKD HNL HRK HTG HUF IDR ILS INR IQD IRR ISK JMD JOD JPY KES KGS KHR KMF KPW KRW KWD KYD KZT LAK LBP LKR "
    "LRD LSL LYD MAD MDL MGA MKD MMK MNT MOP MRU MUR MVR MWK MXN MYR MZN NAD NGN NIO NOK NPR NZD OMR PAB PEN "
    "PGK PHP PKR PLN PYG QAR RON RSD RUB RWF SAR SBD SCR SDG SEK SGD SHP SLE SOS SRD SSP STN SVC SYP SZL THB "
    "TJS TMT TND TOP TRY TTD TWD TZS UAH UGX USD UYU UZS VES VND VUV WST XAF XCD XOF XPF YER ZAR ZMW ZWL RMB"
)
"""ISO 4217, and RMB."""
_LOCAL = (
    "kr kr. zł Kč Ft lei leva лв лв. руб руб. р. грн тг сом din din. дин. ден KM Fr Fr. SFr SFr. Rs Rs. Rp "
    "RM TL Lt Ls Eur EUR. Euro euro euros Dollar 元 円 원 圆 บาท ﷼ د.إ ر.س ج.م"
)
"""What people write instead of a code."""
_ISO_4217 = frozenset(_CODES.split()) - {"RMB"}
_SYMBOL = "[A-Z]{0,3}\\$|[$€£¥₹₽₩₪₫₺₴₱₦₵₡₲₸₼₾₿฿¢¤৳₭₮៛﷼]"
_CURRENCY = "|".join(
    (_SYMBOL, *map(re.escape, sorted((*_CODES.split(), *_LOCAL.split()), key=len, reverse=True)))
)
_CHANGED = {
    **dict.fromkeys(map(ord, "−‐‑‒–—﹣－⁻"), "-"),
    **dict.fromkeys(map(ord, "\u00a0\u202f\u2009\u2007\u2002\u2003\u2008\u205f\u3000\t"), " "),
    **dict.fromkeys(map(ord, "’‘ʼ´`＇"), "'"),
    **dict.fromkeys(map(ord, "\u200b\u200e\u200f\u061c\u202a\u202b\u202c\u2066\u2067\u2068\u2069\ufeff")),
    **dict(zip(map(ord, "．，％＄￥￡（）＋٪"), ".,%$¥£()+%", strict=True)),
}
"""Signs that mean the same in a number; some are invisible and mean nothing."""
_PERCENT = {"": 0, "%": -2, "‰": -3}


class Amount(Struct, frozen=True):
    """A number, and how it was written."""

    value: Decimal
    currency: str
    percent: str
    sign: str
    """``-``, ``+`` or ``(`` before it, ``-`` behind it as ``behind``, or nothing."""
    group: str
    """The sign between groups of digits."""
    whole: str
    """The digits before the decimals, with their groups."""
    decimals: str


class Notation(Struct, frozen=True):
    """How numbers are written: ``,`` and ``.`` in ``1.234,50``."""

    decimal: str
    """Signs of which one may begin the decimals: two where a locale has digits of its own besides ours."""
    groups: str
    """Signs of which one may separate groups of digits; a space means spaces of all kinds."""
    indian: bool = False
    """Whether every group but the last has two digits."""

    def read(self, text: str) -> Decimal | None:
        """Read a number with its sign, groups, currency and percent sign; None: it is not written like that.

        ``26%`` is 0.26, as it is for a spreadsheet.
        """
        plain = _plain(self)(text) if len(text) <= _LONGEST else None
        if plain:
            whole, decimals = plain.groups()
            return Decimal(_ungrouped(whole, self.groups) + (f".{decimals}" if decimals else ""))
        found = self.parse(text)
        return None if found is None else found.value

    def parse(self, text: str) -> Amount | None:
        """Read a number, with how it was written."""
        if len(text) > _LONGEST:
            return None
        text = plainly(text)
        bare = _BARE.fullmatch(text) is not None
        found = _pattern(self, _NO_CURRENCY if bare else _CURRENCY)(text)
        if found is None and bare:
            return None
        if found is None:
            nothing = _NOTHING.fullmatch(text)
            return Amount(Decimal(0), nothing[1], "", "", "", "0", "") if nothing else None
        signs = [found[name] for name in ("before", "inside") if found[name]]
        signs += ["behind"] if found["behind"] == "-" else []
        currencies = [found[name] for name in ("first", "second", "third", "fourth") if found[name]]
        separators = set(found["whole"]) - _DIGITS
        if len(signs) > 1 or len(currencies) > 1 or len(separators) > 1:
            return None
        sign = signs[0] if signs else ""
        if (sign == "(") is not (found["behind"] == ")"):
            return None
        group = separators.pop() if separators else ""
        whole = found["whole"].replace(group, "") if group else found["whole"]
        decimals = found["decimals"] or ""
        value = Decimal(f"{whole or 0}.{decimals}{found['exponent'] or ''}")
        if sign not in {"", "+"}:
            value = value.copy_negate()
        percent = found["percent"] or found["share"] or ""
        if percent:
            value = value.scaleb(_PERCENT[percent])
        return Amount(
            value, currencies[0] if currencies else "", percent, sign, group, found["whole"], decimals
        )


NOTATIONS = {
    "en": Notation(".", ","),
    "de": Notation(",", "."),
    "fr": Notation(",", " "),
    "de_CH": Notation(".", "'"),
    "en_IN": Notation(".", ",", indian=True),
}
"""Those that can be found, each with a locale that uses it."""
_DIGITS = frozenset("0123456789")
_NOTHING = lazy_re(f"(?=.*-)-?[ ]*({_CURRENCY})[ ]*-?")
"""An accountant's zero: ``$ -``."""


_BARE = lazy_re(r"[0-9 ()+,.'eE%-]*")
"""Text that names no currency; searching for one takes a pattern of several hundred names."""
_NO_CURRENCY = "(?!)"


@cache
def _pattern(notation: Notation, currency: str) -> Callable[[str], re.Match[str] | None]:
    groups, decimal = re.escape(notation.groups), f"[{re.escape(notation.decimal)}]"
    whole = "[0-9]*"
    if groups:
        # A number that is written in groups does not begin with a zero: 0.500 is not five hundred.
        whole = rf"[1-9][0-9]{{0,2}}(?:[{groups}][0-9]{{3}})+|{whole}"
    if notation.indian:
        whole = rf"[1-9][0-9]?(?:[{groups}][0-9]{{2}})*[{groups}][0-9]{{3}}|{whole}"
    return re.compile(
        rf"(?P<before>[-+(])?[ ]*(?P<first>{currency})?[ ]*(?P<inside>[-+(])?[ ]*"
        rf"(?P<second>{currency})?[ ]*(?:(?P<percent>[%‰])[ ]*(?=.*[0-9]$))?"
        rf"(?=[0-9]|{decimal}[0-9])(?P<whole>{whole})(?:{decimal}(?:(?P<decimals>[0-9]+)|--?))?"
        r"(?P<exponent>(?<=[0-9])[eE][-+]?[0-9]{1,3})?"
        rf"[ ]*(?P<share>[%‰])?[ ]*(?P<third>{currency})?[ ]*(?P<behind>[-)])?[ ]*(?P<fourth>{currency})?"
    ).fullmatch


@cache
def _plain(notation: Notation) -> Callable[[str], re.Match[str] | None]:
    """Match what most numbers of a list are: digits in groups of three, and decimals."""
    group, decimal = re.escape(notation.groups[:1]), re.escape(notation.decimal[:1])
    return re.compile(
        rf"(-?(?:[1-9][0-9]{{0,2}}(?:{group}[0-9]{{3}})+|[0-9]+))(?:{decimal}([0-9]+))?"
    ).fullmatch


def _ungrouped(whole: str, groups: str) -> str:
    return whole.replace(groups[:1], "") if groups else whole


def plainly(text: str) -> str:
    """Return a number in ASCII: digits of all scripts, minus signs, spaces, apostrophes."""
    text = text.strip()
    if text.isascii():
        return text.replace("`", "'") if "`" in text else text
    text = text.translate(_CHANGED).strip()
    if text.isascii():
        return text
    return "".join(
        str(unicodedata.decimal(char)) if char > "\x7f" and char.isdecimal() else char for char in text
    )


def locales_reading(text: str) -> dict[Decimal, str]:
    """Return each number that text can be in common notations, with a locale that reads it like that."""
    read: dict[Decimal, str] = {}
    for locale, notation in NOTATIONS.items():
        number = notation.read(text)
        if number is not None:
            read.setdefault(number, locale)
    return read


def typed_hint(text: str) -> str | None:
    """Return which type of column makes text a number, as a hint about ``{key}``; None: none does."""
    read = locales_reading(text)
    if not read:
        return None
    types = " or ".join(f'"decimal:{locale}"' for locale in read.values())
    meaning = " or ".join(map(number_text, read))
    return f"types = {{ {{key}} = {types} }} in [data] makes {meaning} of it"


# --- a column ------------------------------------------------------------------------------------------


class Numbers(Struct, frozen=True):
    """What the cells of a column are, if all of them are written as numbers."""

    locale: str = ""
    """The locale whose notation makes sense of all of them: its type is ``decimal:de``. Empty: the column
    stays text."""
    doubt: str = ""
    """Why it stays text, where a person would like to know: two notations make different numbers of it."""


_TEXT = Numbers()
_UNMISTAKABLE = lazy_re(
    _SYMBOL
    + "|EUR|USD|GBP|CHF|JPY|CNY|RMB|SEK|NOK|DKK|PLN|CZK|HUF|BRL|INR|RUB|KRW|AUD|CAD|NZD|MXN|ZAR|SGD|HKD|"
    "TWD|THB|IDR|MYR|PHP|VND|AED|SAR|ILS|UAH|kr|kr\\.|zł|Kč|Ft|руб\\.?|лв\\.?|元|円|원"
)
"""Currencies that make the text next to them a number. ``TOP 10`` and ``COP 26`` are not amounts of money."""
_SAME = {
    "€": "EUR",
    "$": "USD",
    "£": "GBP",
    "¥": "JPY",
    "₹": "INR",
    "₽": "RUB",
    "zł": "PLN",
    "Kč": "CZK",
    "Ft": "HUF",
}


def currency_code(written: str) -> str | None:
    """Return the ISO 4217 code of a currency that a list names by its sign or code; None: it is not certain.

    A dollar sign is taken for US dollars, a yen sign for Japanese yen.
    """
    code = _SAME.get(written, written)
    return code if code in _ISO_4217 else None


_TWO_DECIMALS = lazy_re("([0-9]*)[.]([0-9]{2})")
_EXPONENT = lazy_re("[0-9][eE][-+]?[0-9]")


class NumberColumn:
    """Finds out how the numbers of a column are written, cell by cell; blank ones do not matter.

    All have to be numbers in one notation, and one at least has to show that it is a number and not an id, a
    telephone number, a zip code, a year, a date, a time of day or a version: by decimals, groups, a currency,
    a percent sign or a minus. Where notations that fit disagree about a cell, it is doubtful.
    """

    def __init__(self) -> None:
        self._fits = dict(NOTATIONS)
        self._apart: dict[frozenset[str], tuple[str, Decimal, Decimal]] = {}
        self._shows: set[str] = set()
        """Notations by which a cell is a number beyond doubt."""
        self._currencies: dict[str, str] = {}
        self._percents: set[str] = set()
        self._points: set[int] = set()
        """How many decimals there are after a point."""
        self._no_moment = False

    def takes(self, text: str) -> bool:
        """Read a cell; return False if the column is text."""
        read = {
            name: amount
            for name, notation in self._fits.items()
            if (amount := notation.parse(text)) is not None and not _looks_like_an_id(amount)
        }
        if not read or _EXPONENT.search(text):
            return False
        if len(read) < len(self._fits):
            self._fits = {name: self._fits[name] for name in read}
        first = next(iter(read))
        for name, amount in read.items():
            if amount.value != read[first].value:
                told = (text.strip(), read[first].value, amount.value)
                self._apart.setdefault(frozenset({first, name}), told)
            if self._shows_a_number(amount, NOTATIONS[name]):
                self._shows.add(name)
        some = read[first]
        if some.currency:
            if not _UNMISTAKABLE.fullmatch(some.currency):
                return False
            self._currencies.setdefault(_SAME.get(some.currency, some.currency), some.currency)
        self._percents.add(some.percent)
        return len(self._percents) == 1

    def _shows_a_number(self, amount: Amount, notation: Notation) -> bool:
        if amount.decimals and notation.decimal == "." and not amount.group:
            self._points.add(len(amount.decimals))
            self._no_moment = self._no_moment or not _may_be_a_moment(amount.whole, amount.decimals)
        if amount.currency or amount.percent or amount.sign == "-" or amount.group == "'":
            return True
        if amount.decimals and (amount.group or notation.decimal == "," or amount.sign):
            return True
        return amount.group == "," and (amount.whole.count(",") > 1 or amount.sign == "(")

    @property
    def may_be_moments(self) -> bool:
        """Whether every cell so far may be a time of day or a day as well as a number."""
        return not self._no_moment

    def answer(self) -> Numbers:
        """Return what the column is."""
        if not self._percents:
            return _TEXT
        if len(self._currencies) > 1:
            return Numbers(
                doubt=f"it has amounts in several currencies: {', '.join(self._currencies.values())}"
            )
        for names, (text, one, other) in self._apart.items():
            if names <= self._fits.keys():
                return Numbers(doubt=f'"{text}" is {number_text(one)} or {number_text(other)}')
        # Points alone: 3.10 may be a version, 12.50 a time or a day.
        amounts = self._no_moment and (self._points == {2} or max(self._points) > 3)
        name = next(iter(self._fits))
        return Numbers(name) if amounts or self._fits.keys() & self._shows else _TEXT


def _looks_like_an_id(amount: Amount) -> bool:
    leading = len(amount.whole) > 1 and amount.whole[0] == "0"
    return leading or (amount.sign == "behind" and not amount.decimals)  # 01067; 2- is a school grade


def says_no_moment(text: str) -> bool:
    """Return whether a number with two decimals is neither a time of day nor a day nor a month: ``45.80``."""
    found = _TWO_DECIMALS.fullmatch(text)
    return found is not None and not _may_be_a_moment(*found.groups())


def _may_be_a_moment(whole: str, part: str) -> bool:
    """Return whether it may be a time of day (12.50), a day (24.12) or a month (2026.03)."""
    number, rest = int(whole or 0), int(part)
    return len(part) == 2 and ((number <= 31 and rest <= 59) or (1900 <= number <= 2100 and rest <= 12))
