"""Texts that recur from message to message, each kept once.

Ten thousand messages differ in a few words. What the page holds of a message is therefore a list of literal
texts and of runs ``[first, count]`` of numbered pieces; whoever reads it joins them again.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

Folded = list["str | list[int]"]

_MOST_CHARACTERS = 8 << 20
_MOST_CANDIDATES = 100_000


class Vocabulary:
    """Numbers the pieces that were met twice; memory is bounded, what does not fit stays literal."""

    def __init__(self) -> None:
        self.pieces: list[str] = []
        self._numbers: dict[str, int] = {}
        self._once: set[str] = set()
        self._room = _MOST_CHARACTERS
        self._room_once = _MOST_CHARACTERS

    def fold(self, pieces: Iterable[str]) -> Folded:
        """Return *pieces*, joined where they are literal, numbered where they recur."""
        folded: Folded = []
        run, following = [0, 0], -1
        for piece in pieces:
            number = self._numbers.get(piece)
            if number is None:
                number = self._number(piece)
            if number is None:
                following = -1
                last = folded[-1] if folded else None
                if isinstance(last, str):
                    folded[-1] = last + piece
                else:
                    folded.append("".join((piece,)))  # noqa: FLY002  Markup becomes str
            elif number == following:
                run[1] += 1
                following += 1
            else:
                run, following = [number, 1], number + 1
                folded.append(run)
        return folded

    def _number(self, piece: str) -> int | None:
        """Give a piece that is met again a number, if there is room."""
        if piece not in self._once:
            if len(self._once) > _MOST_CANDIDATES or self._room_once < len(piece):
                self._once.clear()
                self._room_once = _MOST_CHARACTERS
            self._once.add(piece)
            self._room_once -= len(piece)
            return None
        if self._room < len(piece):
            return None
        self._room -= len(piece)
        self._once.discard(piece)
        self._numbers[piece] = len(self.pieces)
        self.pieces.append("".join((piece,)))  # noqa: FLY002  Markup becomes str
        return len(self.pieces) - 1
