"""From rendered text back to the author's: which template, line and column a piece of a message came from."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate
from typing import TYPE_CHECKING, Protocol

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.model import Place

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

_LEAST = 8
"""A shorter piece of a line may stand anywhere: it says nothing about where it came from."""


class PlaceFinder(Protocol):
    """Gives the place of a line of a template, named as the user named it."""

    def __call__(self, name: str, line: int = 1, word: str | None = None) -> Place:
        """Return the place."""


def _no_place(name: str, line: int = 1, word: str | None = None) -> Place:
    return Place(path=name, line=line, width=len(word or " "))


class Origin(Struct):
    """The templates of a campaign as their author wrote them.

    Args:
        texts: sources by the name that templates know each other under.
        place: says where a line of such a source is, in the user's terms.
        fixed: the texts that rendering copies as they are.

    """

    texts: Mapping[str, str] = field(default_factory=dict)
    place: PlaceFinder = _no_place
    fixed: frozenset[str] = frozenset()
    _found: dict[str, Place | None] = field(default_factory=dict)

    def of(self, piece: str) -> Place | None:
        """Find *piece* in the templates; None: a value of the row is part of it."""
        if piece not in self._found:
            if len(self._found) > 2000:
                self._found.clear()
            self._found[piece] = self._search(piece)
        return self._found[piece]

    def inside(self, name: str, start: int, width: int) -> Place:
        """Give the place of *width* characters at *start* of the template called *name*."""
        return self._at(name, self.texts[name], start, width)

    def _search(self, piece: str, width: int | None = None, ahead: int = 0) -> Place | None:
        """Find *piece*; point at *width* characters of it, *ahead* characters after its start."""
        if not piece:
            return None
        for name, text in self.texts.items():
            start = text.find(piece)
            if start >= 0:
                return self._at(name, text, start + ahead, len(piece) if width is None else width)
        return None

    def _at(self, name: str, text: str, start: int, width: int) -> Place:
        begin = text.rfind("\n", 0, start) + 1
        line = text.count("\n", 0, start) + 1
        place = self.place(name, line)
        if place.source is None or place.source != text[begin:].partition("\n")[0].rstrip("\r"):
            return place  # an option: the campaign file's own line
        return replace(place, column=start - begin + 1, width=max(1, width))

    def at(self, chunks: Sequence[str], offset: int, width: int) -> Place | None:
        """Say where the text at *offset* of the joined *chunks* was written; None: in a cell."""
        ends = list(accumulate(map(len, chunks)))
        index = bisect_right(ends, offset)
        if index >= len(chunks) or chunks[index] not in self.fixed:
            return None
        chunk = chunks[index]
        inside = offset - (ends[index] - len(chunk))
        whole = self._search(chunk, width, inside)
        if whole is not None:
            return whole
        # Tags such as {%- trim the text beside them: then a line of it is looked for alone.
        begin = chunk.rfind("\n", 0, inside) + 1
        line = chunk[begin:].partition("\n")[0]
        bare = line.strip()
        if len(bare) < _LEAST:
            return None
        return self._search(bare, width, max(0, inside - begin - line.index(bare)))
