"""Keep secrets out of everything that is shown.

`mask` finds a secret in each form in which our output may quote it, and is for what is written once.
`Masker` has the forms in which a session used its secrets, and is quick enough for every line of it. A
`Secret` is a string that is only shown by an explicit call.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final, NoReturn
from weakref import WeakSet

from mailmerge.errors import AuthError

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "****"
"""What is shown instead of a secret, whatever its length."""
_SHORTEST_MASKED = 4
_SHORTEST_SEARCHED = 12


def mask(text: str, secrets: Iterable[str]) -> str:
    """Replace every secret in *text*: raw, escaped, percent-encoded, or inside any base64 (AUTH PLAIN)."""
    for secret in sorted(filter(None, set(secrets)), key=len, reverse=True):
        text = _pattern(secret).sub(MASK, text)
    return text


def _pattern(secret: str) -> re.Pattern[str]:
    import json
    from urllib.parse import quote as percent_quote

    plain = {secret, json.dumps(secret)[1:-1], json.dumps(secret, ensure_ascii=False)[1:-1]}
    plain |= {repr(secret)[1:-1], percent_quote(secret), percent_quote(secret, safe="")}
    parts = [re.escape(form) for form in sorted(plain, key=len, reverse=True)]
    data = secret.encode("utf-8", "surrogatepass")
    for altchars in (b"+/", b"-_"):
        parts += [
            rf"[A-Za-z0-9+/_-]*{re.escape(core)}[A-Za-z0-9+/_-]*={{0,2}}" for core in _cores(data, altchars)
        ]
    return re.compile("|".join(parts))


def _cores(data: bytes, altchars: bytes) -> set[str]:
    """Return the base64 of *data* at each of its three alignments, without digits that neighbours share."""
    cores = set()
    for lead in range(3):
        whole = base64.b64encode(bytes(lead) + data, altchars).decode("ascii").rstrip("=")
        first = (lead * 8 + 5) // 6
        last = (lead + len(data)) * 8 // 6
        core = whole[first:last]
        if len(core) >= 4:  # shorter ones would occur in anything
            cores.add(core)
    return cores


class Masker:
    """Remembers every form in which a secret was used, and masks them in what is shown."""

    def __init__(self) -> None:
        self.active = False
        """Whether there is anything to blank."""
        self._forms: tuple[bytes, ...] = ()

    def learn(self, *secrets: bytes) -> None:
        """Mask *secrets*, raw and in base64, from now on."""
        forms = set(self._forms)
        for secret in secrets:
            if len(secret) >= _SHORTEST_MASKED:
                forms |= {secret, base64.b64encode(secret), base64.b64encode(secret).rstrip(b"=")}
        self._forms = tuple(sorted(forms, key=len, reverse=True))
        self.active = bool(forms)

    def mask(self, data: bytes, *, shortest: int = _SHORTEST_MASKED) -> bytes:
        """Return *data* without the secrets of at least *shortest* octets."""
        for form in self._forms:
            if len(form) >= shortest and form in data:
                data = data.replace(form, MASK.encode("ascii"))
        return data


_IN_USE: WeakSet[Secret] = WeakSet()
"""Secrets that something refers to, for the one output that nobody composes: the traceback of a bug. Its
frames refer to what the call was using; a call that is over leaves nothing here."""


class Secret:
    """A string that is only shown by `reveal`: not printed, not formatted, not pickled.

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
        """Return the secret itself."""
        return self._text

    @property
    def spellings(self) -> tuple[str, ...]:
        """The secret as it is used and as it was written: both must stay out of outputs."""
        trimmed = self._given.strip()
        # A very short one would occur in anything; the untrimmed text is masked anyway.
        return tuple({self._text, self._given, trimmed if len(trimmed) >= 4 else self._text})

    def __call__(self) -> str:
        """Return the secret itself: a string that an account was made with is called like a function."""
        return self._text

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK!r})"

    def __format__(self, spec: str) -> str:
        return format(MASK, spec)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret is not pickled")


def secret_of(given: object) -> object:
    """Return a string that a program gave as a `Secret`; a function that returns one, or None, as it is.

    Raises:
        AuthError: it is neither, or no sign-in can carry the string.

    """
    if isinstance(given, str):
        return Secret(given, origin="the account")
    if given is None or isinstance(given, Secret) or callable(given):
        return given
    wrong = f"must be a string or a function that returns one, not {type(given).__name__}"
    raise AuthError(f"the account's secret {wrong}", code="S604")


class Unsent:
    """A string that no message may contain while something refers to this object; it is never shown."""

    __slots__ = ("__weakref__", "_spellings")

    def __init__(self, text: str) -> None:
        self._spellings = (text, text.strip(), "".join(text.split()))
        _UNSENT.add(self)

    @property
    def spellings(self) -> tuple[str, ...]:
        """The string as it was written and as it may be used."""
        return self._spellings

    def __repr__(self) -> str:
        return f"Unsent({MASK!r})"


_UNSENT: WeakSet[Unsent] = WeakSet()


def in_use() -> tuple[bytes, ...]:
    """Return every secret that something refers to and that is too long to occur in anything by chance."""
    if not _IN_USE and not _UNSENT:
        return ()
    kept: list[Secret | Unsent] = [*_IN_USE, *_UNSENT]
    spellings = {spelling for secret in kept for spelling in secret.spellings}
    long = (spelling for spelling in spellings if len(spelling) >= _SHORTEST_SEARCHED)
    return tuple(sorted(spelling.encode("utf-8", "replace") for spelling in long))


def mask_known(text: str) -> str:
    """Replace every secret that is in use in *text*."""
    return mask(text, (spelling for secret in list(_IN_USE) for spelling in secret.spellings))
