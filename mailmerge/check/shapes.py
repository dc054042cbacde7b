"""What many rows have in common: the shape of a body, which is judged once for all of them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Made = TypeVar("_Made")


class Shape:
    """A body with its values left out: what the rules can judge once for all the rows that have it.

    Args:
        chunks: what rendering copied, in its order; None for each value.

    """

    __slots__ = ("_made", "chunks", "joined", "values")

    def __init__(self, chunks: tuple[str | None, ...]) -> None:
        self.chunks = chunks
        self.values = tuple([index for index, chunk in enumerate(chunks) if chunk is None])
        """Where the values are."""
        self.joined = joining(self.values)
        """Joins the values of a row that has this shape."""
        self._made: dict[object, Any] = {}

    def once(self, make: Callable[[Shape], _Made]) -> _Made:
        """Return what *make* makes of it; it is called once a shape."""
        try:
            made: _Made = self._made[make]
        except KeyError:
            made = self._made[make] = make(self)
        return made


def joining(places: Sequence[int]) -> Callable[[Sequence[str]], str]:
    """Make what joins the chunks at these *places* of a body."""
    if not places:
        return _nothing
    pick = itemgetter(*places)  # of one place, it gives that chunk
    return lambda chunks: "".join(pick(chunks))


def _nothing(_chunks: Sequence[str]) -> str:
    return ""
