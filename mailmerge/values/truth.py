"""What counts as true, for ``if``, ``not``, ``and``, ``where`` and the filters and tests that ask.

A value answers for itself: FALSE, 0 and 0:00 are false. A text is asked two things that mostly agree: is
there something, and does it say yes? A blank text is false. ``TRUE`` and ``FALSE``, in any case, are what
they say: so sheets write them. Any other text that says no (``no``, ``0``, ``nein``, ``否``) has something in
it and says no, so that neither answer is safe: that is an error. What is left is true.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from mailmerge.values import notation
from mailmerge.values.value import BadValue

LONGEST_WORD = 20
"""A text longer than this says neither yes nor no: all it can be asked is whether it is blank."""

_SPELT_OUT = {"true": True, "false": False}


def truth(value: Any) -> bool:
    """Say whether *value* counts as true where a condition is asked for.

    Raises:
        BadValue: it is a text that says no.

    """
    if not isinstance(value, str):
        return bool(value)
    word = value.strip()
    if not word or len(word) > LONGEST_WORD:
        return bool(word)
    word = word.casefold()
    if word in _SPELT_OUT:
        return _SPELT_OUT[word]
    if notation.read_truth(word) is False or (word[0] in "+-.0" and notation.read_number(word) == Decimal(0)):
        raise BadValue(
            "D117",
            f'says "{value.strip()}", but a text that is not empty counts as true',
            value,
            'types = { {it} = "boolean" } in [data], or {it} == "yes"; to ask if it is empty: {it} != ""',
        )
    return True


def present(value: Any) -> bool:
    """Say whether *value* is used as it is, where another stands ready: ``{{ title or "News" }}``.

    Here a text is only asked whether there is something; FALSE is not.
    """
    if not isinstance(value, str):
        return bool(value)
    if len(value) > LONGEST_WORD:
        return not value.isspace()
    word = value.strip()
    return bool(word) and (len(word) != 5 or word.casefold() != "false")


class Truths(dict[str, bool]):
    """Answers of `truth` for short texts: the same few are asked about again and again."""

    _MOST = 4096

    def __missing__(self, text: str) -> bool:
        answer = truth(text)
        if len(self) >= self._MOST:
            self.clear()
        self[text] = answer
        return answer
