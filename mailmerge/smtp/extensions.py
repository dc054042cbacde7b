"""What a server offers: the keywords of its last EHLO reply (RFC 5321 section 4.1.1.1)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from mailmerge.model import Reply


class Extensions(Struct, frozen=True):
    """The offers we can use. Nothing is believed that the last EHLO did not say."""

    starttls: bool = False
    pipelining: bool = False
    chunking: bool = False
    sizes: bool = False
    """MAIL takes a SIZE parameter (RFC 1870)."""
    max_size: int | None = None
    """Largest message in octets; None: not stated."""
    auth: tuple[str, ...] = ()
    max_mails: int | None = None
    """How many MAIL commands one session may hold (RFC 9422); None: not stated."""

    @classmethod
    def from_reply(cls, reply: Reply) -> Extensions:
        """Read a positive EHLO reply; unknown and malformed keywords are passed over."""
        offers: dict[str, list[str]] = {}
        for line in reply.lines[1:]:
            # "AUTH=LOGIN PLAIN" is how servers wrote it before RFC 4954; some still send both.
            keyword, *values = line.replace("AUTH=", "AUTH ", 1).split() or [""]
            offers.setdefault(keyword.upper(), []).extend(values)
        return cls(
            starttls="STARTTLS" in offers,
            pipelining="PIPELINING" in offers,
            chunking="CHUNKING" in offers,
            sizes="SIZE" in offers,
            max_size=_number(offers.get("SIZE", [])[:1]),
            auth=tuple(dict.fromkeys(name.upper() for name in offers.get("AUTH", []))),
            max_mails=_number(
                [value[8:] for value in offers.get("LIMITS", []) if value.upper().startswith("MAILMAX=")]
            ),
        )


def _number(values: list[str]) -> int | None:
    """Return the one number there is; 0 means no limit (RFC 1870 section 4)."""
    text = values[0] if values else ""
    return (int(text) or None) if text.isascii() and text.isdigit() and len(text) < 20 else None
