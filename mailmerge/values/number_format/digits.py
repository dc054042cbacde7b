"""Numbers in digits: rounded as a person rounds, grouped, padded, in powers of ten, as fractions.

A spreadsheet keeps 15 significant digits. What a binary number has beyond is noise, and 1.005 is exactly
that: two decimals of it are 1.01, however the nearest binary number would round.
"""

from __future__ import annotations

from decimal import Decimal
from math import ceil
from typing import TYPE_CHECKING

from mailmerge.values.number_format.syntax import FormatPart, UnknownFormat

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from mailmerge.values.number_format.languages import Language

SIGNIFICANT = 15
"""Digits that a spreadsheet keeps and shows."""
MOST_DECIMALS = 127
_PLAIN_UP_TO = 1e11
"""Numbers below this have so few digits to show that only a tie can be rounded wrongly in binary."""
_LARGEST_FRACTION = 10**9
MOST_BELOW = 9
"""Most digits of a denominator."""
_FIRST_INEXACT = 2.0**53
"""Whole numbers below have all their digits."""
_FINEST = -9
MOST_PLACES = 17


def general(number: float) -> str:
    """Return a number as a wide cell without a format shows it: up to 15 digits, all of a whole number.

    An exponent is used where there would be more than 16 decimals or 15 digits before the point.
    """
    size = abs(number)
    if size < _FIRST_INEXACT and number.is_integer():
        return str(int(number))
    if 1e-4 <= size < 1e15:
        return f"{number:.15g}"
    return _general_extreme(number)


def _general_extreme(number: float) -> str:
    exact = Decimal(f"{number:.14e}").normalize()
    power = exact.adjusted()
    digits = len(exact.as_tuple().digits)
    if _FINEST <= power < 0 and digits - power <= MOST_PLACES:
        return f"{exact:f}"
    if power > 0 and abs(number) < _FIRST_INEXACT:  # with decimals that cannot be told apart
        return f"{exact:f}"
    mantissa = f"{exact.scaleb(-power):f}"
    return (
        f"{mantissa}E{power:04}"
        if power <= -100
        else f"{mantissa}E{power:+03}"
        if power < 0
        else f"{mantissa}E+{power:03}"
    )


def general_within(number: float) -> str:
    """Return a number for ``@`` and for ``General`` with text around it, which have less room than a cell."""
    size = abs(number)
    if size > 1e15:
        return f"{number:.14E}"
    if not size or size >= 1e-4:
        return general(number)
    text = f"{Decimal(f'{number:.14e}'):.20f}".rstrip("0").rstrip(".")
    return "0" if text == "-0" else text


def scaled(number: float, places: int) -> int:
    """Return the size of a number times ten to the power of *places*, rounded half up on its 15 digits."""
    size = abs(number)
    if 1e15 <= size < _FIRST_INEXACT and size.is_integer():
        return _cut(int(size), -places)
    digits, power = _taken_apart(size)
    return _cut(digits, 14 - power - places)


def _taken_apart(size: float) -> tuple[int, int]:
    """Return 15 digits, and the power of ten of the first of them."""
    text = f"{size:.14e}"
    return int(text[0] + text[2:16]), int(text[17:])


def _cut(digits: int, drop: int) -> int:
    """Drop digits at the end, rounding half up; or add zeros."""
    if drop <= 0:
        return digits * 10**-drop  # type: ignore[no-any-return]
    if drop > SIGNIFICANT + 1:
        return 0
    return (digits + 5 * 10 ** (drop - 1)) // 10**drop  # type: ignore[no-any-return]


def _split(units: int, decimals: int) -> tuple[str, str]:
    """Return units of the last decimal as the digits before and after the point."""
    text = str(units)
    if not decimals:
        return text, ""
    text = text.rjust(decimals + 1, "0")
    return text[:-decimals], text[-decimals:]


def number_section(parts: Sequence[FormatPart], language: Language) -> Callable[[float], str | None]:
    """Compile a section that shows a number.

    Raises:
        UnknownFormat: its digits are in no order that means anything.

    """
    if any(part.kind == "exponent" for part in parts):
        return _scientific(parts, language)
    digits = [at for at, part in enumerate(parts) if part.kind == "digit"]
    if not digits:
        return _constant(parts)
    for at, part in enumerate(parts):
        if part.kind == "slash" and digits[0] < at and at + 1 < len(parts) and _counts(parts[at + 1]):
            return _fraction(parts, at)
    return _decimal(parts, language)


def _constant(parts: Sequence[FormatPart]) -> Callable[[float], str]:
    if any(part.kind == "letter" for part in parts):
        raise UnknownFormat("has neither digits nor parts of a date")
    text = "".join(part.text for part in parts)
    return lambda number: "-" + text if number < 0 and text else text


class _DigitLayout:
    """Where the digits of a number go: before the point, after it, and the text around and between them."""

    def __init__(self, parts: Sequence[FormatPart], language: Language) -> None:
        self.language = language
        points = [at for at, part in enumerate(parts) if part.kind == "point"]
        last = max((at for at, part in enumerate(parts) if part.kind == "digit"), default=-1)
        point = points[0] if points else last + 1
        self.point = bool(points)
        self.whole: list[FormatPart] = []
        self.behind: list[FormatPart] = []
        self.power = 0
        self.grouped = False
        for at, part in enumerate(parts):
            if part.kind == "percent":
                self.power += 2
            if part.kind == "comma":
                before, after = _beside(parts, at)
                if before and (not after or at > point):
                    self.power -= 3
                    continue
                if before and after:
                    self.grouped = True
                    continue
            if at == point and self.point:
                continue
            (self.whole if at < point else self.behind).append(part)
        self.decimals = sum(part.kind == "digit" for part in self.behind)
        self.first = next((at for at, part in enumerate(self.whole) if part.kind == "digit"), -1)
        self._backwards = [
            (
                part.kind == "digit",
                _PADDING.get(part.text, "") if part.kind == "digit" else part.text,
                at == self.first,
            )
            for at, part in reversed([*enumerate(self.whole)])
        ]
        if self.decimals > MOST_DECIMALS:
            raise UnknownFormat(f"has more than {MOST_DECIMALS} decimals")

    def write(self, units: int, negative: bool) -> str:
        """Put a number of units of the last decimal into its places."""
        whole, behind = _split(units, self.decimals)
        sign = "-" if negative and units else ""
        shown = self._behind(behind)
        point = self.language.point if self.point and (shown or not self.decimals) else ""
        return f"{sign}{self._whole('' if whole == '0' else whole)}{point}{shown}"

    def _whole(self, digits: str) -> str:
        if self.first < 0:
            return "".join([part.text for part in self.whole]) + digits
        out: list[str] = []
        at, count = len(digits), 0
        for is_digit, text, is_first in self._backwards:
            if not is_digit:
                out.append(text)
                continue
            chars = text if at <= 0 else digits[:at] if is_first else digits[at - 1]
            at -= 1
            if not self.grouped:
                out.append(chars)
                continue
            for char in reversed(chars):
                if self.language.groups(count):
                    out.append(self.language.thousands if char != " " else " ")
                out.append(char)
                count += 1
        return "".join(reversed(out))

    def _behind(self, digits: str) -> str:
        significant = len(digits.rstrip("0"))
        out = []
        at = 0
        for part in self.behind:
            if part.kind != "digit":
                out.append(part.text)
                continue
            out.append(digits[at] if at < significant else _PADDING[part.text])
            at += 1
        return "".join(out)


_ZERO = FormatPart("digit", "0")
_PADDING = {"0": "0", "#": "", "?": " "}


def _beside(parts: Sequence[FormatPart], at: int) -> tuple[bool, bool]:
    """Return whether digits come before and after a comma, before anything else does."""
    before = next((part.kind for part in reversed(parts[:at]) if part.kind not in {"comma", "point"}), "")
    after = next((part.kind for part in parts[at:] if part.kind != "comma"), "")
    return before == "digit", after == "digit"


def _decimal(parts: Sequence[FormatPart], language: Language) -> Callable[[float], str]:
    layout = _DigitLayout(parts, language)
    return _quick(layout) or _careful(layout)


def _careful(layout: _DigitLayout) -> Callable[[float], str]:
    places = layout.decimals + layout.power

    def show(number: float) -> str:
        return layout.write(scaled(number, places), number < 0)

    return show


def _quick(layout: _DigitLayout) -> Callable[[float], str] | None:
    """Compile what nearly all formats are: ``0``, ``0.00``, ``#,##0.00``, ``0%``, ``00000``, with text."""
    places = "".join(part.text if part.kind == "digit" else "-" for part in layout.whole).rstrip("-")
    before = places[: len(places) - len(places.lstrip("-"))]
    pattern = places.lstrip("-")
    decimals, power = layout.decimals, layout.power
    if pattern.strip("#0") or not pattern.endswith("0") or "0" in pattern.rstrip("0") or power not in {0, 2}:
        return None
    if any(part.kind == "digit" and part.text != "0" for part in layout.behind[:decimals]) or any(
        part.kind != "digit" for part in layout.behind[:decimals]
    ):
        return None
    zeros = pattern.count("0")
    grouped = layout.grouped
    if (grouped and (zeros > 1 or not layout.language.plain)) or (layout.point and not decimals):
        return None
    start = "".join(part.text for part in layout.whole[: len(before)])
    end = "".join(part.text for part in layout.whole[len(places) :]) + "".join(
        part.text for part in layout.behind[decimals:]
    )
    width = zeros + (decimals + 1 if decimals else 0)
    spec = f"{f'0{width}' if zeros > 1 else ''}{',' if grouped else ''}.{decimals}f"
    whole_spec = f"{f'0{zeros}' if zeros > 1 else ''}{',' if grouped else ''}d"
    scale, factor, unit = 10.0**decimals, 10.0**power, 10**decimals
    swapped = str.maketrans({",": layout.language.thousands, ".": layout.language.point})
    foreign = layout.language.point != "." or layout.language.thousands != ","

    def show(number: float) -> str:
        size = abs(number) * factor
        units = size * scale
        if units < _PLAIN_UP_TO and not 0.4999 < units % 1.0 < 0.5001:
            digits = format(size, spec)
        else:
            whole, behind = divmod(scaled(number, decimals + power), unit)
            digits = format(whole, whole_spec) + (f".{behind:0{decimals}}" if decimals else "")
        if foreign:
            digits = digits.translate(swapped)
        if number < 0 and digits.strip("0.,"):
            return f"-{start}{digits}{end}"
        return f"{start}{digits}{end}"

    return show


def _scientific(parts: Sequence[FormatPart], language: Language) -> Callable[[float], str]:
    at = next(at for at, part in enumerate(parts) if part.kind == "exponent")
    layout = _DigitLayout(parts[:at], language)
    places = [part.text for part in layout.whole if part.kind == "digit"]
    step = len(places)
    behind = list(parts[at + 1 :])
    width = sum(part.kind == "digit" for part in behind)
    if (
        not width
        or not (places or layout.decimals)
        or any(part.kind in {"exponent", "slash"} for part in behind)
    ):
        raise UnknownFormat("has an exponent without digits")
    always = parts[at].text.endswith("+")
    exponent_layout = _DigitLayout([part for part in behind if part.kind != "point"], language)

    def show(number: float) -> str:
        digits, power = _taken_apart(abs(number))
        shift = power % step if step > 1 else 0
        units = _cut(digits, 14 - layout.decimals - shift)
        power -= shift
        if step and units >= limit:  # rounded up: 9.99 to 10.0
            power += step
            units = _cut(digits, 14 - layout.decimals - shift + step)
        mark = "E-" if power < 0 else "E+" if always else "E"
        size = abs(power)
        shown = f"{size:0{width}}" if zeros else exponent_layout.write(size, negative=False)
        return f"{layout.write(units, number < 0)}{mark}{shown}"

    zeros = all(part == _ZERO for part in behind)
    limit = 10 ** (step + layout.decimals)
    return show


def _fraction(parts: Sequence[FormatPart], slash: int) -> Callable[[float], str | None]:
    start = slash
    while start and (parts[start - 1].kind == "digit"):
        start -= 1
    end = slash + 1
    while end < len(parts) and _counts(parts[end]):
        end += 1
    above, below, before, behind = parts[start:slash], parts[slash + 1 : end], parts[:start], parts[end:]
    if not above or not below:
        raise UnknownFormat("has a fraction without digits")
    if len(below) > MOST_BELOW:
        raise UnknownFormat(f"has a denominator of more than {MOST_BELOW} digits")
    fixed_below = _denominator(below)
    largest = 10 ** len(below) - 1
    whole = [at for at, part in enumerate(before) if part.kind == "digit"]
    lead = before[: whole[-1] + 1] if whole else before
    gap = "".join(part.text for part in before[len(lead) :])
    tail = "".join(part.text for part in behind)

    def show(number: float) -> str | None:
        size = abs(number)
        if size >= _LARGEST_FRACTION:
            return None
        units = int(size) if whole else 0
        rest = size - units
        top, bottom = (
            (ceil(rest * fixed_below - 0.5 - _NOISE), fixed_below) if fixed_below else nearest(rest, largest)
        )
        if whole and top == bottom:
            units, top = units + 1, 0
        sign = "-" if number < 0 and (units or top) else ""
        if whole and not top and not any(part.text == "0" for part in above):
            blank = " " if any(part.text == "?" for part in above) else ""
            blank = "".join(" " for part in [*above, *below] if part.text == "?") + (
                gap + blank if blank else ""
            )
            return f"{sign}{_padded(lead, str(units))}{' ' * len(blank)}{tail}"
        head = _padded(lead, str(units) if units else "") if whole else "".join(p.text for p in before)
        if whole and (head or any(part.text != "#" for part in above)):
            head += gap
        under = "".join(p.text for p in below) if fixed_below else _left(below, str(bottom))
        return f"{sign}{head}{_padded(above, str(top))}/{under}{tail}"

    return show


def nearest(number: float, largest: int) -> tuple[int, int]:
    """Find the fraction nearest to a number that is not negative, with a denominator up to *largest*."""
    before, above, below_before, below = 0, 1, 1, 0
    rest = number
    while True:
        whole = int(rest + _NOISE)
        following = below_before + whole * below
        if following > largest:
            break
        before, above, below_before, below = above, before + whole * above, below, following
        rest -= whole
        if rest < _NOISE:
            return above, below
        rest = 1 / rest
    steps = (largest - below_before) // below
    other, other_below = before + steps * above, below_before + steps * below
    if abs(other / other_below - number) < abs(above / below - number):
        return other, other_below
    return above, below


_NOISE = 1e-9


def _counts(part: FormatPart) -> bool:
    """Whether it may be part of a denominator."""
    return part.kind == "digit" or (part.kind == "text" and part.text.isdecimal())


def _denominator(parts: Sequence[FormatPart]) -> int:
    """Return the denominator in the format (``?/16``); 0: it is to be found."""
    text = "".join(part.text for part in parts)
    return int(text) if text.isdigit() and int(text) else 0


def _padded(places: Sequence[FormatPart], digits: str) -> str:
    digits_left = list(digits)
    out: list[str] = []
    first = next((at for at, part in enumerate(places) if part.kind == "digit"), -1)
    for at in range(len(places) - 1, -1, -1):
        part = places[at]
        if part.kind == "comma":
            continue
        if part.kind != "digit":
            out.append(part.text)
            continue
        out.append(digits_left.pop() if digits_left else _PADDING[part.text])
        if at == first:
            out += digits_left[::-1]
    return "".join(reversed(out))


def _left(places: Sequence[FormatPart], digits: str) -> str:
    """Return a denominator: its digits to the left, the rest after it."""
    return digits + "".join(_PADDING[part.text] for part in places[len(digits) :] if part.text != "0")
