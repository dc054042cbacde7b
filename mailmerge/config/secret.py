"""A secret while it is used: a text that shows itself to nobody who does not ask for it by name."""

from __future__ import annotations

from typing import NoReturn
from weakref import WeakSet

from mailmerge.errors import AuthError
from mailmerge.masking import MASK, mask

_IN_USE: WeakSet[Secret] = WeakSet()
"""Secrets that something refers to, for the one output that nobody composes: the traceback of a bug. Its
frames refer to what the call was using; a call that is over leaves nothing here."""


class Secret:
    """A text that shows itself only to `reveal`: not printed, not formatted, not pickled.

    Raises:
        AuthError: it is empty, or contains a line break or NUL, which no sign-in can carry.

    """

    __slots__ = ("__weakref__", "_given", "_text")

    def __init__(self, text: str, *, origin: str = "it", spaces: str = "keep") -> None:
        self._given = text
        self._text = "".join(text.split()) if spaces == "remove" else text
        # Checked before spaces go: a line break shows that more was copied than the secret.
        if any(char in text for char in "\r\n\0"):
            raise AuthError(
                f"the secret from {origin} contains a line break or NUL",
                code="S604",
                hint="store the secret alone, on a single line",
            )
        if not self._text.strip():
            raise AuthError(f"the secret from {origin} is empty", code="S604")
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise AuthError(
                f"the secret from {origin} is not UTF-8",
                code="S604",
                hint="write it in UTF-8, as its web page shows it",
            )
        _IN_USE.add(self)

    def reveal(self) -> str:
        """Give the secret itself."""
        return self._text

    @property
    def spellings(self) -> tuple[str, ...]:
        """Give the secret as it is used and as it was written: both must stay out of outputs."""
        trimmed = self._given.strip()
        # A very short one would occur in anything; the untrimmed text is masked all the same.
        return tuple({self._text, self._given, trimmed if len(trimmed) >= 4 else self._text})

    def __call__(self) -> str:
        """Give the secret itself: a text that an account was made with is asked for like any other."""
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def mask_known(text: str) -> str:
    """Replace every secret that is in use in *text*."""
    return mask(text, (spelling for secret in list(_IN_USE) for spelling in secret.spellings))
