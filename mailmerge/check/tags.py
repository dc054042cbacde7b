"""The tags of a body that comes in chunks: those of a fixed chunk are read once for the whole campaign.

Nearly all of a body is the same in every row, and so are nearly all of its tags. `TagReader` remembers for
each fixed chunk which whole tags it holds and whether a tag is still open at its end. Per row, only a tag
that a value is part of has to be put together, and not even that where plain values (a token, a number) are
known to make no difference.
"""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING, Generic, NamedTuple, TypeVar

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Sequence

_Found = TypeVar("_Found")
_MOST = 10_000

# Where a chunk ends: between tags, inside of a tag, or inside of an attribute in one kind of quotes.
_BETWEEN, _TAG, _DOUBLE, _SINGLE = "", ">", '"', "'"
_START = re.compile(r"<(?=[a-zA-Z])")
_PLAIN = re.compile(r"[A-Za-z0-9_.~-]*", re.ASCII)
"""Values that cannot end anything or lead anywhere else."""
_WITHIN = re.compile(r""">|=\s*(["'])""")


class _Read(NamedTuple, Generic[_Found]):
    """What one chunk does to the tag that is open before it, and what it holds itself."""

    closing: str
    """The end of the tag that was open."""
    found: tuple[_Found, ...]
    """What its whole tags bring."""
    opening: str
    """The beginning of a tag that stays open; or, without *closing*, all of it if one was open before."""
    end: str
    """Where it ends."""


class TagReader(Generic[_Found]):
    """Finds something in the tags of one row after the other.

    Args:
        fixed: the chunks that are the same in many rows.
        find: looks at one whole tag.
        wanted: matches the beginning of the tags to look at.
        settled: says of a tag that holds nothing to find, by its fixed pieces, whether that is so whatever
            plain values stand between them.

    """

    def __init__(
        self,
        fixed: Container[str],
        find: Callable[[str], Iterable[_Found]],
        wanted: re.Pattern[str],
        settled: Callable[[Sequence[str]], bool] = lambda _pieces: False,
    ) -> None:
        self._fixed = fixed
        self._find = find
        self._wanted = wanted
        self._settles = settled
        self._settled: dict[tuple[str, ...], bool] = {}
        self._plain: set[str] = set()
        self._known: dict[str, dict[str, _Read[_Found]]] = {
            end: {} for end in (_BETWEEN, _TAG, _DOUBLE, _SINGLE)
        }

    def read(self, chunks: Iterable[str]) -> Iterator[_Found]:
        """Yield what is found in the tags of one body."""
        where = _BETWEEN
        pieces: list[str] = [""]  # the open tag; plain values stand between them
        values: list[str] = []
        for chunk in chunks:
            read = self._known[where].get(chunk)
            if read is None:
                if chunk in self._fixed:
                    read = self._read(chunk, where)
                    if len(self._known[where]) < _MOST:
                        self._known[where][chunk] = read
                elif where == _BETWEEN and "<" not in chunk:
                    continue
                elif self._is_plain(chunk):
                    values.append(chunk)
                    pieces.append("")
                    continue
                else:
                    read = self._read(chunk, where)
            if read.closing:
                pieces[-1] += read.closing
                yield from self._look_between(pieces, values)
                pieces, values = [""], []
            if read.found:
                yield from read.found
            pieces[-1] += read.opening
            where = read.end

    def _is_plain(self, value: str) -> bool:
        if value in self._plain:
            return True
        if not _PLAIN.fullmatch(value):
            return False
        if len(self._plain) >= _MOST:
            self._plain.clear()
        self._plain.add(value)
        return True

    def _look_between(self, pieces: Sequence[str], values: Sequence[str]) -> Iterable[_Found]:
        key = tuple(pieces)
        if self._settled.get(key):
            return ()
        tag = "".join(chain.from_iterable(zip(pieces, (*values, ""), strict=True)))
        found = tuple(self._look(tag))
        if not found and key not in self._settled and len(self._settled) < _MOST:
            self._settled[key] = not self._wanted.match(tag) or self._settles(pieces)
        return found

    def _read(self, chunk: str, where: str) -> _Read[_Found]:
        at, closing = 0, ""
        if where != _BETWEEN:
            at, where = _end_of_tag(chunk, 0, where)
            if where != _BETWEEN:
                return _Read("", (), chunk, where)
            closing = chunk[:at]
        found: list[_Found] = []
        while start := _START.search(chunk, at):
            at, where = _end_of_tag(chunk, start.end(), _TAG)
            if where != _BETWEEN:
                return _Read(closing, tuple(found), chunk[start.start() :], where)
            found += self._look(chunk[start.start() : at])
        return _Read(closing, tuple(found), "", _BETWEEN)

    def _look(self, tag: str) -> Iterable[_Found]:
        return self._find(tag) if self._wanted.match(tag) else ()


def _end_of_tag(text: str, at: int, where: str) -> tuple[int, str]:
    """Return where the tag ends that *at* is inside of; or the end of *text*, and what it is inside of."""
    while True:
        if where != _TAG:
            at = text.find(where, at) + 1
            if not at:
                return len(text), where
        if not (found := _WITHIN.search(text, at)):
            return len(text), _TAG
        at = found.end()
        if not found[1]:
            return at, _BETWEEN
        where = found[1]
