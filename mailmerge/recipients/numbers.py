"""Numbers as a person sees them in a sheet: no ``.0``, no binary noise, leading zeros where asked for."""

from __future__ import annotations

import math
import re
from decimal import Decimal
from functools import lru_cache

_SIGNIFICANT = 15
"""Digits that a spreadsheet keeps and shows; a float's further digits are noise (0.1 + 0.2)."""
_LITERAL = re.compile(r'\\(.)|"([^"]*)"|\[\$[^\]]*\]|_.|\*.')


def plain_number(number: float) -> int | Decimal | str:
    """Turn a float into an integer where it is whole, else into the decimal number that was typed."""
    if not math.isfinite(number):
        return str(number)
    if number.is_integer():
        return int(number)
    return Decimal(repr(float(f"{number:.{_SIGNIFICANT}g}")))


def with_leading_zeros(number: int, number_format: str) -> str | None:
    """Write a whole number by a format of zeros, ``00000`` or ``000-0000``; None: it is no such format."""
    pattern = _zeros(number_format)
    if pattern is None or number < 0:
        return None
    digits = list(str(number).rjust(pattern.count("0"), "0"))
    shown = [digits.pop() if char == "0" else char for char in reversed(pattern)]
    return "".join(digits) + "".join(reversed(shown))


@lru_cache(maxsize=256)
def _zeros(number_format: str) -> str | None:
    """Reduce a format to zeros and the separators between them, if it holds nothing else."""
    pattern = _LITERAL.sub(lambda match: match[1] or match[2] or "", number_format.partition(";")[0])
    return pattern if pattern.count("0") > 1 and re.fullmatch(r"0[0 /()-]*0", pattern) else None
