"""Numbers in Chinese, Japanese and Korean characters: ``[DBNum1]`` to ``[DBNum4]``.

The tables are those of LibreOffice 7.4. ``General`` writes a number as it is spoken, 一千二百三十四;
in other codes each digit is replaced, as Excel does. Sign, separators and decimal point stay as they are.
"""

from __future__ import annotations

from functools import cache

from msgspec import Struct

_FULL_WIDTH = "０１２３４５６７８９"
_HANGUL = "영일이삼사오육칠팔구"
_PLAIN = "0123456789"


class Numerals(Struct, frozen=True, dict=True):
    """How one language writes numbers."""

    digits: str
    """``0`` to ``9``."""
    tens: str = ""
    """Ten, a hundred, a thousand; empty: numbers are never spoken, only their digits are replaced."""
    powers: str = ""
    """Ten thousand, its square, its cube and so on."""
    gap: str = ""
    """Is written where places are skipped: 一百〇一."""
    elides: bool = False
    """Whether the 一 of ten and of a hundred is left out."""

    def replaced(self, text: str) -> str:
        """Replace each digit of text."""
        return text.translate(dict(zip(map(ord, _PLAIN), self.digits, strict=True)))

    def short(self, number: int) -> str:
        """Write a day, a month or an hour: 三十一, and 十二 without its 一."""
        tens, ones = divmod(number, 10)
        if not self.tens or not tens:
            return self.replaced(str(number))
        return f"{self.digits[tens] if tens > 1 else ''}{self.tens[0]}{self.digits[ones] if ones else ''}"

    def general(self, text: str) -> str:
        """Write what ``General`` shows, as it is spoken; decimals digit by digit, powers of ten in digits."""
        whole, point, decimals = text.partition(".")
        if not whole.isdecimal() or (decimals and not decimals.isdecimal()):
            return text
        spoken = self._spoken(whole) if self.tens else self.replaced(whole)
        return f"{spoken}{point}{self.replaced(decimals)}"

    def _spoken(self, digits: str) -> str:
        out: list[str] = []
        skipped = False
        groups = [digits[max(0, end - 4) : end] for end in range(len(digits), 0, -4)]
        if len(groups) > len(self.powers) + 1:
            return self.replaced(digits)
        for power in range(len(groups) - 1, -1, -1):
            group = groups[power]
            for at, digit in enumerate(group):
                if digit == "0":
                    skipped = True
                    continue
                place = len(group) - at - 1
                if skipped and out:
                    out.append(self.gap)
                skipped = False
                if not (self.elides and digit == "1" and place in {1, 2}):
                    out.append(self.digits[int(digit)])
                out.append(self.tens[place - 1] if place else "")
            if group.strip("0"):
                out.append(self.powers[power - 1] if power else "")
                skipped = False
        return "".join(out) or self.digits[0]


_ORDINARY, _TRADITIONAL_ORDINARY = "〇一二三四五六七八九", "零一二三四五六七八九"
_KNOWN = {
    ("zh", 1): Numerals(_ORDINARY, "十百千", "万亿兆", "〇"),
    ("zh", 2): Numerals("零壹贰叁肆伍陆柒捌玖", "拾佰仟", "万亿兆", "零"),
    ("zh", 3): Numerals(_FULL_WIDTH),
    ("zh-TW", 1): Numerals(_ORDINARY, "十百千", "萬億兆", "〇"),
    ("zh-TW", 2): Numerals("零壹貳參肆伍陸柒捌玖", "拾佰仟", "萬億兆", "零"),
    ("zh-TW", 3): Numerals(_FULL_WIDTH),
    ("ja", 1): Numerals(_ORDINARY, "十百千", "万億兆京", elides=True),
    ("ja", 2): Numerals("零壱弐参四伍六七八九", "拾百阡", "萬億兆京", elides=True),
    ("ja", 3): Numerals(_FULL_WIDTH),
    ("ko", 1): Numerals(_TRADITIONAL_ORDINARY, "十百千", "万億兆"),
    ("ko", 2): Numerals("零壹貳參四伍六七八九", "拾佰阡", "萬億兆", "零"),
    ("ko", 3): Numerals(_FULL_WIDTH, "십백천", "만억조"),
    ("ko", 4): Numerals(_HANGUL, "십백천", "만억조"),
}


@cache
def numerals(kind: int, tag: str) -> Numerals | None:
    """Find the numerals of ``[DBNum1]`` to ``[DBNum4]`` in a language; None: it writes 0 to 9."""
    if tag in {"zh-HK", "zh-MO"}:
        tag = "zh-TW"
    return _KNOWN.get((tag, kind)) or _KNOWN.get((tag.partition("-")[0], kind))
