"""Keep secrets out of everything that is shown.

`mask` finds a secret in each form in which a text of ours may quote it, and is for what is written once.
`Masker` knows the forms in which a session used its secrets, and is quick enough for every line of it.
"""

from __future__ import annotations

import base64
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

MASK: Final = "****"
"""What is shown instead of a secret, whatever its length."""
_SHORTEST_MASKED = 4


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
    """Give the base64 of *data* at each of its three alignments, without digits that neighbours share."""
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
    """Remembers every form in which a secret was used, and blanks them in what is shown."""

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
