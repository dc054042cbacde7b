"""Rules for links and images: addresses that cannot work make the row invalid, bad ones get a warning."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import TYPE_CHECKING, Final
from urllib.parse import unquote, urlsplit

from msgspec.structs import replace

from mailmerge.check.html_document import TagReader
from mailmerge.check.message_view import Finding, about
from mailmerge.check.rules import each_document, each_message
from mailmerge.model import QR_CODE, Place
from mailmerge.text import quoted, unescaped

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from mailmerge.check.html_document import HtmlDocument
    from mailmerge.check.message_view import MessageView, SourceLocator
    from mailmerge.model import Rendered

MOST_LINKS = 60

_ATTRIBUTE = re.compile(
    r"""<(a|area|form|img)\s(?:(?:[^<>]|<(?!(?:a|area|form|img)\s))*?\s)??(?:href|src|action)\s*=\s*("[^"]*"|'[^']*'|[^\s"'>]+)""",
    re.IGNORECASE,
)
"""An unclosed tag ends where the next of these tags begins, so that no input takes long to search."""
_WITH_ADDRESS = re.compile(r"<(?:a|area|form|img)\s", re.IGNORECASE)
_SCHEME = re.compile(r"([a-zA-Z][a-zA-Z0-9+.-]*):")
_PICTURES = frozenset({"data", QR_CODE.removesuffix(":")})
_FINE = frozenset({"mailto", "tel", "sms", "whatsapp", "geo", "webcal", "xmpp", "sip", "sips", "cid"})
_PLAINLY_FINE = re.compile(
    r"https://(?:www\.)?((?:[a-z0-9-]+\.)+[a-z]{2,24})(?::\d+)?(?:[/?#][!#$&-;=?-z|~]*)?\Z", re.ASCII
)
"""What most links look like: no space, quote, angle bracket, brace or percent sign, and a host name."""
_FINE_SO_FAR = re.compile(
    r"""<(?:a|area|form|img)(?:\s+[a-zA-Z-]+\s*=\s*"[^"<>]*")*\s+(?:href|src|action)\s*=\s*"
        https://(?:www\.)?((?:[a-z0-9-]+\.)+[a-z]{2,24})(?::\d+)?[/?#][!#$&-;=?-z|~]*""",
    re.ASCII | re.VERBOSE,
)
_FINE_REST = re.compile(r"""[!#$&-;=?-z|~]*(?:"[^>]*>)?""", re.ASCII)
_HALF_ENTITY = re.compile(r"&#?\w*\Z")
_HEXADECIMAL = re.compile(r"0[xX][0-9a-fA-F]{0,16}")
_OCTAL = re.compile(r"0[0-7]{1,24}")
_DECIMAL = re.compile(r"[1-9][0-9]{0,19}|0", re.ASCII)
_FOUR: Final = 4
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_NEARBY = (".localhost", ".local", ".internal", ".home.arpa", ".lan", ".localdomain", ".intranet")
_MARKUP = re.compile(r"\{\{|\}\}|\{%|%\}|%7B%7B", re.IGNORECASE)
_IN_TEXT = re.compile(r"https?://[^\s<>\"']+", re.IGNORECASE)
_LEAVES = re.compile(r"unsub|opt-?out|abmeld|desinscri|/u/|leave|remove", re.IGNORECASE)
_HOSTLIKE = re.compile(
    r"www\.|(?:[\w-]+\.)+(?!html?\b|php\b|aspx?\b|pdf\b|txt\b|jpe?g\b|png\b)[a-z]{2,}(?:/|\Z)"
)
_DOMAIN_TEXT = re.compile(r"(?:https?://)?((?:[a-z0-9-]+\.)+[a-z]{2,24})(?:[/?#]\S*)?", re.IGNORECASE)
SHORTENERS = frozenset(
    """bit.ly tinyurl.com t.co goo.gl ow.ly is.gd buff.ly rebrand.ly cutt.ly rb.gy shorturl.at t.ly
    tiny.cc bl.ink lnkd.in dwz.cn t.cn url.cn suo.im""".split()  # noqa: SIM905
)


def addresses(source: str) -> Iterator[tuple[str, str, str]]:
    """Yield the element, the attribute as written, and the address of every link and image in HTML."""
    for match in _ATTRIBUTE.finditer(source):
        written = match[2]
        bare = written[1:-1] if written[0] in "\"'" else written
        yield match[1].lower(), bare, unescaped(bare).strip() if "&" in bare else bare.strip()


def all_links(rendered: Rendered) -> Iterator[str]:
    """Yield the http and https links of a message, except those that might unsubscribe somebody."""
    kept = " ".join(value for name, value in rendered.headers if name.lower().startswith("list-"))
    found = [address for element, _, address in addresses("".join(rendered.html or ())) if element == "a"]
    found += [match[0].rstrip(".,;:!?)") for match in _IN_TEXT.finditer("".join(rendered.text or ()))]
    for link in dict.fromkeys(found):
        web = link.lower().startswith(("http://", "https://"))
        if web and link not in kept and not _LEAVES.search(link):
            yield link


@each_message
def addresses_in_html(view: MessageView) -> Iterator[Finding]:
    """Check every address in a row's HTML; the same address is only checked once."""
    tags = view.sources.once(_tag_reader)
    html, shape = view.rendered.html or (), view.html_shape
    for written, address, found in tags.read(html) if shape is None else tags.read_shaped(html, shape):
        if found.code == "H302" and _is_embedded(view, address):
            continue
        place = view.sources.of(written) if written.strip() else None
        if place is None and (column := view.column_in(address)):
            place = Place(cell=column)
        yield replace(found, place=place)


def _is_embedded(view: MessageView, address: str) -> bool:
    """Return whether a full path led into the template folder, so that the image is part of the message."""
    name = unescaped(unquote(address)).replace("\\", "/").rpartition("/")[2]
    return any(file.content_id and file.name == name for file in view.message.files)


def _tag_reader(sources: SourceLocator) -> TagReader[tuple[str, str, Finding]]:
    return TagReader(sources.fixed, _bad_addresses, _WITH_ADDRESS, _any_value_will_do)


def _any_value_will_do(pieces: Sequence[str]) -> bool:
    """Return whether values are only after the host of a plainly valid address, and in no entity."""
    start = _FINE_SO_FAR.fullmatch(pieces[0])
    if start is None or not _is_public(start[1]) or any(map(_HALF_ENTITY.search, pieces[:-1])):
        return False
    return all(map(_FINE_REST.fullmatch, pieces[1:]))


def _is_public(host: str) -> bool:
    return host not in SHORTENERS and not host.endswith(_NEARBY)


def _bad_addresses(tag: str) -> Iterator[tuple[str, str, Finding]]:
    for element, written, address in addresses(tag):
        for found in judge(element, address):
            yield written, address, found


@lru_cache(maxsize=2048)
def judge(element: str, address: str) -> tuple[Finding, ...]:
    """Return what is wrong with one address: of a link, or of an image (*element* ``img``)."""
    fine = _PLAINLY_FINE.match(address)
    if fine and _is_public(fine[1]):
        return ()
    what = "an image" if element == "img" else "a link"
    error = _unusable(what, address)
    if error:
        return (error,)
    return tuple(_doubtful(what, address))


def _unusable(what: str, address: str) -> Finding | None:  # noqa: PLR0911  one return for each reason
    shown = quoted(address)
    if _MARKUP.search(address):
        hint = "it came from a cell or from escaped text: cells are never rendered"
        return Finding("H304", f"{what} contains template markup: {shown}", hint)
    scheme = _SCHEME.match(address)
    if scheme is None:
        return _without_scheme(what, address)
    kind = scheme[1].lower()
    if kind == "cid":
        return Finding(
            "H305",
            f"{what} refers to a part that the message does not have: {shown}",
            'write <img src="logo.png">: the file is embedded automatically',
        )
    if kind in _FINE or (kind in _PICTURES and what == "an image"):
        return None
    if what == "an image" and (kind == "file" or len(kind) == 1):
        hint = 'copy it into the campaign\'s folder and use its path there: <img src="logo.png">'
        return Finding("H302", f"an image is on a local disk, which no reader can access: {shown}", hint)
    if kind not in {"http", "https"}:
        hint = "mail programs remove it or warn about it: use https"
        return Finding("H302", f"{what} has the scheme {kind}: {shown}", hint)
    if re.search(r"[\s<>\"\x00-\x1f\x7f]", address):
        hint = "percent-encode values in the template: {{ value|urlencode }}"
        return Finding("H304", f"{what} contains a space or a character that must be encoded: {shown}", hint)
    host = _host(address)
    if host is None:
        return Finding("H301", f"{what} has no host: {shown}", "write the full address, https://host/path")
    if _nearby(host):
        hint = "only this machine or network can open it: write the public address"
        return Finding("H303", f"{what} leads to this machine or a private network: {shown}", hint)
    return None


def _without_scheme(what: str, address: str) -> Finding | None:
    if what == "an image" or address.startswith("#"):
        return None  # images in the template folder become parts of the message
    shown = quoted(address)
    if not address:
        return Finding(
            "H301", "a link leads nowhere: its address is empty", "fill in the cell, or leave the link out"
        )
    if _HOSTLIKE.match(address):
        return Finding("H301", f"a link has no scheme: {shown}", f"write https://{address}")
    return Finding(
        "H301",
        f"a link is relative, but a message has no base address: {shown}",
        "write the full https address",
    )


def _doubtful(what: str, address: str) -> Iterator[Finding]:
    scheme = _SCHEME.match(address)
    if scheme is None or scheme[1].lower() not in {"http", "https"}:
        return
    host = _host(address) or ""
    shown = quoted(address)
    if scheme[1].lower() == "http":
        code = "H206" if what == "an image" else "H211"
        hint = (
            "many mail programs do not show such images"
            if what == "an image"
            else "most servers support https today"
        )
        yield Finding(code, f"{what} is not encrypted: {shown}", f"{hint}: write https")
    if host.removeprefix("www.") in SHORTENERS:
        hint = "filters distrust shortened links because nobody sees where they lead: use the real address"
        yield Finding("H209", f"{what} hides behind a shortener: {shown}", hint)
    if _ip(host):
        yield Finding(
            "H210", f"{what} uses a bare IP address: {shown}", "filters treat it as spam: use a host name"
        )


@lru_cache(maxsize=512)
def _host(address: str) -> str | None:
    try:
        return (urlsplit(address).hostname or "").rstrip(".") or None
    except ValueError:
        return None


def _ip(host: str) -> IPv4Address | IPv6Address | None:
    """Return the IP address that browsers read a host as, however it is written; None: it is a name.

    Numbers may be decimal, octal or hexadecimal, and fewer than four: ``2130706433`` and ``0x7f.1`` are
    127.0.0.1 (URL Standard, sections 3.5 and 4.4). For an IPv6 address that embeds an IPv4 one, it is that
    one.
    """
    host = unicodedata.normalize("NFKC", unquote(host)).replace("\u3002", ".").removesuffix(".")
    if ":" in host:
        try:
            address = ipaddress.IPv6Address(host)
        except ValueError:
            return None
        inside = address.ipv4_mapped or address.sixtofour
        if inside is None and address in _NAT64:
            inside = IPv4Address(int(address) & 0xFFFFFFFF)
        return inside or address
    pieces = host.split(".")
    numbers = [_number(piece) for piece in pieces]
    if numbers[-1] is None or len(numbers) > _FOUR:
        return None
    value = 0
    for number, place in zip(numbers[:-1], (24, 16, 8), strict=False):
        if number is None or number > 255:
            return None
        value += number << place
    if numbers[-1] >= 1 << (8 * (5 - len(numbers))):
        return None
    return IPv4Address(value + numbers[-1])


def _number(text: str) -> int | None:
    if _HEXADECIMAL.fullmatch(text):
        return int(text[2:] or "0", 16)
    if _OCTAL.fullmatch(text):
        return int(text, 8)
    return int(text) if _DECIMAL.fullmatch(text) else None


def _nearby(host: str) -> bool:
    """Return whether a host is this machine, or in a private network."""
    address = _ip(host)
    if address is not None:
        return not address.is_global
    return host.endswith(_NEARBY) or host == "localhost"


@each_document
def disguised(document: HtmlDocument) -> Iterator[Finding]:
    """Find link texts that show one domain while the link leads to another."""
    for link in document.all("a"):
        host = _host(unescaped(link.get("href") or "").strip())
        shown = _DOMAIN_TEXT.fullmatch(document.words(link)) if host else None
        if host is None or shown is None:
            continue
        named = shown[1].lower().removeprefix("www.")
        related = host.endswith("." + named) or named.endswith("." + host.removeprefix("www."))
        if host != named and not related:
            yield about(
                document,
                link,
                "H208",
                f"a link shows {named} but leads to {host}",
                "phishing looks like this: use a description, or the real address",
            )


@each_document
def many(document: HtmlDocument) -> Iterator[Finding]:
    """Find HTML with more links than any letter needs."""
    count = sum(1 for link in document.all("a") if link.get("href"))
    if count > MOST_LINKS:
        yield Finding(
            "H207",
            f"the HTML has {count} links",
            f"filters count links: more than {MOST_LINKS} look like spam",
        )
