"""Mistyped domains: valid, but nobody's or somebody else's.

Two rules, both about domains of mailbox providers that very many people use (data of November 2026), so that
no company's own domain is questioned because it looks like another one:

- the end is not a top-level domain, and one slip away from a real one: ``yahoo.con``, ``example.con``,
- the name is one slip (a letter left out, added, changed or swapped with the next, but never the first one)
  away from that of a large mailbox provider: ``gmial.com``, ``hotmai.com``.

A domain in many rows is not a slip.
"""

from __future__ import annotations

from mailmerge.addresses import mail_domains
from mailmerge.lazy_re import lazy_re
from mailmerge.text import one_slip

_NAMES: dict[str, tuple[str, ...]] = {
    "gmail": ("com",),
    "googlemail": ("com",),
    "hotmail": ("com", "co.uk", "fr", "de", "it", "es", "nl", "be", "se", "dk", "no", "com.br", "com.ar"),
    "outlook": ("com", "de", "fr", "es", "it", "com.br", "jp", "co.id", "com.au", "be", "dk", "pt"),
    "yahoo": (
        "com",
        "co.uk",
        "fr",
        "de",
        "it",
        "es",
        "co.jp",
        "co.in",
        "com.br",
        "ca",
        "com.au",
        "com.ar",
        "com.mx",
    ),
    "icloud": ("com",),
    "protonmail": ("com", "ch"),
    "t-online": ("de",),
    "freenet": ("de",),
    "wanadoo": ("fr",),
    "laposte": ("net",),
    "comcast": ("net",),
    "verizon": ("net",),
    "bellsouth": ("net",),
    "sbcglobal": ("net",),
    "btinternet": ("com",),
    "rediffmail": ("com",),
    "seznam": ("cz",),
    "rambler": ("ru",),
    "yandex": ("ru", "com", "ua", "by", "kz"),
}
"""Providers' names that differ much from others, and the domains of their mailboxes."""
_REAL = frozenset(
    {
        "cloud.com",
        "yandex.net",
        "rambler.ua",
        "freenet.am",
    }
)
"""Domains similar to one of those that are correct."""
_FOR_COM = "con cmo ocm vom xom comm coom ccom cpm clm cim cok conm comn com1 c0m coml dom"
_ENDS = {
    **dict.fromkeys(_FOR_COM.split(), "com"),
    **dict.fromkeys(["nte", "ent", "nett", "neet", "bet", "met"], "net"),
    **dict.fromkeys(["ogr", "rog", "orgg", "prg"], "org"),
    **dict.fromkeys(["ed", "dee", "ddw", "dr", "fe"], "de"),
    **dict.fromkeys(["couk", "cok.uk", "co.ukk", "co.uj"], "co.uk"),
    "frr": "fr",
    "itt": "it",
}
"""Ends that are not top-level domains, and the intended ones."""
_ONLY_AT_PROVIDERS = frozenset({"dom", "bet", "met", "ed", "dr", "fe", "ent"})
"""Ends that are top-level domains or similar to some: they are slips only after a provider's name."""
_SHORT = {
    "gmx": "de",
    "web": "de",
    "aol": "com",
    "live": "com",
    "qq": "com",
    "163": "com",
    "126": "com",
    "msn": "com",
}
_FEW = 5
"""Up to this many rows with one domain may be a slip that one person copied."""
_DOMAINS = lazy_re(r"@([a-z0-9.-]+)")
_DOMAIN = lazy_re(r"[a-z0-9-]+(?:\.[a-z0-9-]+)+")


def domains(block: str, cells: int, end: str) -> list[str]:
    """Return the domains of all addresses in a block of *cells*, which are separated by *end*."""
    block = block.lower()
    if block.count("@") == cells:  # the usual case, five times as fast: each cell is one address
        pieces = block.replace("@", end).split(end)
        if all(map(_DOMAIN.fullmatch, set(pieces[1::2]))):
            return pieces[1::2]
    return _DOMAINS.findall(block)


def is_slip(count: int, rows: int) -> bool:
    """Return whether a suspicious domain is rare enough, in a list of this many rows, to be a slip."""
    return count <= max(_FEW, rows // 1000)


def meant_by(domain: str) -> str | None:
    """Return the domain that was probably intended; None if this one may be right."""
    if domain in _REAL or domain in mail_domains():
        return None
    name, _, end = domain.partition(".")
    ends = _NAMES.get(name)
    if ends is None and name in _SHORT:
        ends = (_SHORT[name],)
    if end in _ENDS and (ends is not None or end not in _ONLY_AT_PROVIDERS):
        return f"{name}.{_ENDS[end]}"
    if ends is not None:
        return f"{name}.{ends[0]}" if ends[0] == "com" and end in {"co", "cm", "om", "c"} else None
    *_, last = domain.rpartition(".")
    if last in _ENDS and last not in _ONLY_AT_PROVIDERS and "." in domain:
        return f"{domain[: -len(last)]}{_ENDS[last]}"
    for known, places in _NAMES.items():
        if name[:1] == known[:1] and end in places and one_slip(name, known):
            return f"{known}.{end}"
    return None
