"""Regular expressions that are compiled when they are first used: most runs need few of them.

Compiling one takes from a tenth of a millisecond to several, and a command imports hundreds.
"""

from __future__ import annotations

import re
from typing import Any, AnyStr, Generic, cast


class _LazyRegex(Generic[AnyStr]):
    """A pattern that is compiled for the first attribute that is used, and then keeps it."""

    def __init__(self, text: AnyStr, flags: int) -> None:
        self._text: AnyStr = text
        self._flags = flags

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # of a copy that is being made
            raise AttributeError(name)
        found = getattr(re.compile(self._text, self._flags), name)
        self.__dict__[name] = found
        return found


def lazy_re(text: AnyStr, flags: int = 0) -> re.Pattern[AnyStr]:
    """Return what behaves like ``re.compile(text, flags)``; an error in *text* is raised at the first use.

    Functions of `re` do not accept it: use its methods.
    """
    return cast("re.Pattern[AnyStr]", _LazyRegex(text, flags))
