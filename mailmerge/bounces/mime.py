"""Parsing any message into its parts: bounded in size, depth and number, and never an error.

The standard library's parser recurses once for each level and keeps everything in memory, so a message that
is nested a thousand levels deep crashes it. Reports need little: header fields, text, and inner messages.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import re
from functools import cached_property
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.smtp.replies import decode

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_OCTETS = 1 << 20
"""The most parts of a message; reports come first, and the returned message after them."""
_MOST_PARTS = 60
_MOST_DEPTH = 10
_MOST_HEADER = 128 * 1024
_MOST_TEXT = 200_000
"""The most characters of one part that are searched."""
_FIELD = re.compile(rb"([!-9;-~]{1,80})[ \t]*:[ \t]*(.*)", re.DOTALL)
_PARAMETER = re.compile(r';\s*([\w*-]{1,40})\s*=\s*(?:"((?:\\.|[^"\\]){0,500})"|([^\s;"]{1,500}))')
_WORD = re.compile(
    r"=\?([\w.:-]{1,40})(?:\*[\w-]{0,20})?\?([bBqQ])\?([^?\s]{0,500}(?:\?(?!=)[^?\s]{0,500})*)\?="
)
_BETWEEN_WORDS = re.compile(r"(\?=)\s+(=\?)")
_NO_TEXT = frozenset({"idna", "punycode", "undefined", "unicode_escape", "raw_unicode_escape", "mbcs", "oem"})
_MORE = {
    "gb2312": "gb18030",
    "gbk": "gb18030",
    "x-gbk": "gb18030",
    "ks_c_5601-1987": "cp949",
    "x-sjis": "cp932",
}
"""Charsets that messages declare although they mean a larger one that contains it."""
ENCLOSED = frozenset(
    {"message/rfc822", "message/global", "message/partial", "text/rfc822-headers", "message/global-headers"}
)
"""Types of parts that are another message, or its header."""


class MimePart(Struct, frozen=True, dict=True):
    """One part of a message, or the message itself."""

    fields: tuple[tuple[str, str], ...]
    """Name in lower case, and value, unfolded."""
    type: str
    parameters: dict[str, str]
    body: bytes
    """Without its transfer encoding."""
    enclosed: bool = False
    """Whether it is, or is in, a message that is returned in this one."""

    def field(self, name: str) -> str:
        """Return the first field of this name; empty: it does not exist."""
        return next((value for key, value in self.fields if key == name), "")

    def fields_of(self, name: str) -> list[str]:
        """Return all fields of this name."""
        return [value for key, value in self.fields if key == name]

    @cached_property
    def text(self) -> str:
        """The body as text, without the tags of HTML; empty for other types."""
        if not self.type.startswith(("text/", "message/")):
            return ""
        text = decoded(self.body[: 4 * _MOST_TEXT], self.parameters.get("charset", ""))[:_MOST_TEXT]
        return readable(text) if self.type == "text/html" else text


def take_apart(raw: bytes) -> list[MimePart]:
    """Return the message and its parts in order; of a long or deep one, what is within the limits."""
    raw = raw[:MOST_OCTETS].replace(b"\r\n", b"\n").replace(b"\r", b"\n").lstrip(b"\n")
    if raw.startswith((b"From ", b">From ")):  # of an mbox
        raw = raw.partition(b"\n")[2]
    parts: list[MimePart] = []
    waiting: list[tuple[bytes, str, int, bool]] = [(raw, "text/plain", 0, False)]
    while waiting and len(parts) < _MOST_PARTS:
        entity, default, depth, enclosed = waiting.pop()
        part = _part(entity, default, enclosed=enclosed)
        if depth and not enclosed and _is_message(part):
            part = replace(part, enclosed=True)
        parts.append(part)
        if depth < _MOST_DEPTH:
            inner = list(_inside(part, depth + 1))
            waiting.extend(reversed(inner))
    return parts


def _part(entity: bytes, default: str, *, enclosed: bool) -> MimePart:
    fields, body = split_fields(entity)
    content_type = next((value for name, value in fields if name == "content-type"), "")
    kind, parameters = _content_type(content_type, default)
    encoding = next((value for name, value in fields if name == "content-transfer-encoding"), "")
    if not kind.startswith("multipart/"):
        body = _transfer_decoded(body, encoding.strip().lower())
    return MimePart(fields, kind, parameters, body, enclosed)


def _is_message(part: MimePart) -> bool:
    """Return whether the header of a part is that of a message, although its type does not say so."""
    names = {name for name, _ in part.fields}
    return "from" in names and bool(names & {"received", "message-id"})


def _inside(part: MimePart, depth: int) -> Iterator[tuple[bytes, str, int, bool]]:
    if part.type in ENCLOSED:
        yield part.body.lstrip(b"\n"), "text/plain", depth, True
    elif part.type.startswith("multipart/"):
        default = "message/rfc822" if part.type == "multipart/digest" else "text/plain"
        entities = list(_split(part.body, part.parameters.get("boundary", "")))
        if entities:
            yield from ((entity, default, depth, part.enclosed) for entity in entities)
        else:  # it declares parts but has none: its content may still be read
            yield b"\n" + part.body, default, depth, part.enclosed


def _split(body: bytes, boundary: str) -> Iterator[bytes]:
    if not boundary.strip():
        return
    mark = b"--" + boundary.encode("utf-8", "replace").rstrip()
    lines: list[bytes] | None = None
    for line in body.split(b"\n"):
        if line.startswith(mark) and line.rstrip() in {mark, mark + b"--"}:
            if lines is not None:
                yield b"\n".join(lines)
            if line.rstrip() != mark:
                return
            lines = []
        elif lines is not None:
            lines.append(line)
    if lines:
        yield b"\n".join(lines)


def split_fields(entity: bytes) -> tuple[tuple[tuple[str, str], ...], bytes]:
    """Split a header from what follows; any line that is not a field ends it."""
    fields: list[tuple[str, bytes]] = []
    at = 0
    while at < min(len(entity), _MOST_HEADER):
        end = entity.find(b"\n", at)
        end = len(entity) if end < 0 else end
        line = entity[at:end]
        if not line.strip():
            at = end + 1
            break
        if line[:1] in b" \t" and fields:
            name, value = fields[-1]
            if len(value) < 20_000:
                fields[-1] = name, value + b" " + line.strip()
        elif found := _FIELD.match(line):
            fields.append((found[1].decode("ascii").lower(), found[2].rstrip()))
        else:
            break
        at = end + 1
    return tuple((name, words(decode(value))) for name, value in fields), entity[at:]


def words(value: str) -> str:
    """Decode the encoded words (RFC 2047) of a field."""
    if "=?" not in value:
        return value

    def plain(found: re.Match[str]) -> str:
        octets = found[3].encode("ascii", "ignore")
        if found[2] in "bB":
            return decoded(_from_base64(octets), found[1])
        return decoded(_quoted(octets.replace(b"_", b" ")), found[1])

    return _WORD.sub(plain, _BETWEEN_WORDS.sub(r"\1\2", value))


def _content_type(value: str, default: str) -> tuple[str, dict[str, str]]:
    kind = value.partition(";")[0].strip().lower()
    parameters = {
        found[1].lower(): re.sub(r"\\(.)", r"\1", found[2]) if found[2] is not None else found[3]
        for found in _PARAMETER.finditer(value[:4000])
    }
    return (kind if "/" in kind else default), parameters


def _transfer_decoded(body: bytes, encoding: str) -> bytes:
    if encoding == "base64":
        return _from_base64(body)
    return _quoted(body) if encoding == "quoted-printable" else body


def _from_base64(text: bytes) -> bytes:
    kept = re.sub(rb"[^A-Za-z0-9+/]", b"", text)
    try:
        return base64.b64decode(kept[: len(kept) - (len(kept) % 4 == 1)] + b"=" * (-len(kept) % 4))
    except (binascii.Error, ValueError):
        return text


def _quoted(text: bytes) -> bytes:
    return binascii.a2b_qp(text)


def decoded(octets: bytes, charset: str) -> str:
    """Decode text in its declared charset, else in the one that it looks like; never fails."""
    name = charset.strip().strip("'\"").lower()
    name = _MORE.get(name, name)
    if name and name not in {"us-ascii", "utf-8", "ascii", "unknown-8bit"}:
        try:
            codec = codecs.lookup(name)
            if codec._is_text_encoding and codec.name.replace("-", "_") not in _NO_TEXT:  # noqa: SLF001
                return octets.decode(name, "replace")
        except (LookupError, ValueError):  # the charset does not exist, or its name is not valid
            pass
    return decode(octets)


_INVISIBLE = re.compile(r"<(style|script|head|title)\b", re.IGNORECASE)
_BREAK = re.compile(r"</?(?:br|p|h\d|div|tr|td|th|li)\b[^<>]{0,4000}>", re.IGNORECASE)
_TAG = re.compile(r"<(?![\w.+-]{1,64}@)[!/a-zA-Z][^<>]{0,4000}>")


def readable(page: str) -> str:
    """Return the text of an HTML page, roughly, line by line."""
    from html import unescape

    kept: list[str] = []
    at = 0
    low = page.lower()
    while found := _INVISIBLE.search(page, at):
        kept.append(page[at : found.start()])
        end = low.find(f"</{found[1].lower()}", found.end())
        if end < 0:  # it is never closed: only its own tag is removed
            kept.append(" ")
            at = found.end()
            break
        at = end + len(found[1]) + 2
    kept.append(page[at:])
    text = _TAG.sub("", _BREAK.sub("\n", "".join(kept)))
    return unescape(text).replace("\xa0", " ")
