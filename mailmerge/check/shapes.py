"""What many rows have in common: the shape of a body, which is checked once for all of them."""

from __future__ import annotations

from operator import itemgetter
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_Made = TypeVar("_Made")


class Shape:
    """A body without its values: what the rules can check once for all rows that have it.

    Args:
        chunks: the pieces that rendering copied, in order; None for each value.

    """

    __slots__ = ("_made", "chunks", "joined", "values")

    def __init__(self, chunks: tuple[str | None, ...]) -> None:
        self.chunks = chunks
        self.values = tuple([index for index, chunk in enumerate(chunks) if chunk is None])
        """The indices of the values."""
        self.joined = joining(self.values)
        """Joins the values of a row that has this shape."""
        self._made: dict[object, Any] = {}

    def once(self, make: Callable[[Shape], _Made]) -> _Made:
        """Return the result of *make*, which is called once a shape."""
        try:
            made: _Made = self._made[make]
        except KeyError:
            made = self._made[make] = make(self)
        return made


def joining(places: Sequence[int]) -> Callable[[Sequence[str]], str]:
    """Return a function that joins the chunks of a body at these indices."""
    if not places:
        return _nothing
    if len(places) == 1:  # itemgetter would return the chunk itself, and join go through its letters
        only = places[0]
        return lambda chunks: "".join((chunks[only],))
    pick = itemgetter(*places)
    return lambda chunks: "".join(pick(chunks))


def _nothing(_chunks: Sequence[str]) -> str:
    return ""
