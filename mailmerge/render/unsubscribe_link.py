"""The results of ``message.unsubscribe``: the two headers of RFC 8058, and the link that bodies show."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Final

from mailmerge.model import Diagnostic
from mailmerge.option_types import is_structured
from mailmerge.text import quoted
from mailmerge.unsubscribe import STAND_IN

if TYPE_CHECKING:
    from mailmerge.model import Columns
    from mailmerge.render.compiler import Compiled, Compiler

HEADER: Final = "List-Unsubscribe"
ONE_CLICK: Final = ("List-Unsubscribe-Post", "List-Unsubscribe=One-Click")
"""The header that promises that one POST request is enough (RFC 8058 section 3.1)."""
_TOKEN: Final = ("token", "unsubscribe_token")
_NAMES: Final = frozenset(_TOKEN)
_LONGEST: Final = 900
"""Most characters of what cannot be folded: a line has at most 998 (RFC 5322 section 2.1.1)."""
_URI = re.compile(r"(?:https|mailto):[!-+\--;=?-~]+")  # no space, comma or bracket inside


class Unsubscribing:
    """The unsubscribe addresses of one row, in which tokens are still open."""

    def __init__(self, compiler: Compiler, sources: tuple[str, ...], columns: Columns) -> None:
        names = [f"message.unsubscribe[{index}]" for index in range(len(sources))]
        self._entries: list[Compiled] = [
            compiler.option(name, source, more=_NAMES) for name, source in zip(names, sources, strict=True)
        ]
        of_row = {*columns.names, *columns.headings, "row"} - {_TOKEN[1]}
        self._fixed: tuple[str, ...] | None = None
        self._is_fixed = all(of_row.isdisjoint(entry.names) and not entry.reached for entry in self._entries)
        self.has_token = any(not _NAMES.isdisjoint(entry.names) for entry in self._entries)
        """Whether any of them contains a token, which requires a key."""
        if _TOKEN[0] not in columns.names:
            return
        for name, entry in zip(names, self._entries, strict=True):
            if _TOKEN[0] in entry.names:
                compiler.note(
                    Diagnostic(
                        "C511",
                        "`token` in `message.unsubscribe` is also a column of the list",
                        'write {{ unsubscribe_token }} for ours, {{ row["token"]|urlencode }} for the column',
                        place=compiler.sources.place(name, 1, _TOKEN[0]),
                    )
                )

    def uris(self, variables: dict[str, Any]) -> tuple[str, ...]:
        """Return the addresses, without brackets, in the order in which they were written."""
        if self._fixed is not None:
            return self._fixed
        known = {**variables, **dict.fromkeys(_TOKEN, STAND_IN)}
        found = tuple(entry.text(known).strip() for entry in self._entries)
        if self._is_fixed:
            self._fixed = found
        return found


def wrong_uri(uris: tuple[str, ...]) -> str | None:
    """Return the first of *uris* that is not a plain ``https:`` or ``mailto:`` address, or is too long."""
    return next((uri for uri in uris if len(uri) > _LONGEST or not _URI.fullmatch(uri)), None)


def unfit_for_machines(name: str, value: str) -> str | None:
    """Return why a header that machines read cannot have this value, which is never an encoded word."""
    if not is_structured(name):
        return None
    if not value.isascii():
        return f"{name} is read by machines and must be ASCII: {quoted(value)}"
    if any(len(word) > _LONGEST for word in value.split()):
        return f"a word of {name} has more than {_LONGEST} characters: no line can contain it"
    return None


def link(uris: tuple[str, ...]) -> str:
    """Return the link that bodies show: preferably a page, not a mail address."""
    return next((uri for uri in uris if uri.startswith("https:")), uris[0])


def headers(uris: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    """Return the header fields; that for one click only if there is a page."""
    listed = (HEADER, ", ".join([f"<{uri}>" for uri in uris]))
    return (listed, ONE_CLICK) if any(uri.startswith("https:") for uri in uris) else (listed,)
