"""Header fields as bytes: encoded words, folding, address lists, file names in parameters.

These rules are kept by construction: lines of at most 78 octets where the text can be broken at all, encoded
words (RFC 2047) of at most 75 octets split between characters, addresses never encoded and never broken, and
text that looks like an encoded word is encoded, so that it shows literally. Nothing here parses a header.
"""

from __future__ import annotations

import hmac
from binascii import b2a_base64
from datetime import timedelta, timezone
from typing import TYPE_CHECKING
from urllib.parse import quote

from mailmerge.lazy_re import lazy_re
from mailmerge.model import OWN_HEADER
from mailmerge.option_types import is_structured

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from mailmerge.addresses import Mailbox

LINE = 78  # RFC 5322 section 2.1.1: what a line should not exceed
_LONGEST_WORD = 990
_PIECE = 60
"""Most octets of a file name in one line."""
_WORD_BYTES = 45  # 60 base64 characters: an encoded word of 72, a line of 73
_SPECIALS = lazy_re(r'[()<>\[\]:;@\\,."]')
_SINGLE_BLANK = lazy_re(r"(?<! ) (?! )")
_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def unstructured(name: str, value: str) -> bytes:
    """Return the field *name* with free text, its line end included.

    Fields that machines read (``List-*``, ``References`` ...) are never encoded, since RFC 2047 has no place
    in them: their values are already ASCII. There, and in ``X-`` fields, a long word stays in one piece.

    Raises:
        UnicodeEncodeError: the value of such a field is not ASCII.

    """
    start = len(name) + 2
    machine_read = is_structured(name)
    if machine_read:
        value = " ".join(value.split())
    plain = value.isascii() and value.isprintable() and value[:1] != " " != value[-1:]
    if plain and ("=?" not in value or machine_read):
        if start + len(value) <= LINE:
            return f"{name}: {value}\r\n".encode("ascii")
        words = _words(value)
        longest = max(map(len, words))
        fits = longest < LINE and start + len(words[0]) <= LINE
        unbroken = machine_read or name[:2] in ("X-", "x-")
        if fits or (unbroken and longest < _LONGEST_WORD - start):
            return f"{name}: {_folded(words, start)}\r\n".encode("ascii")
    if machine_read:
        value.encode("ascii")
        raise RuntimeError(f"bug: a word of {name} is too long for a line")
    return name.encode("ascii") + b": " + encoded_words(value, start) + b"\r\n"


def _words(text: str) -> list[str]:
    """Split *text* where a line may be broken without a parser losing or adding a space: at single spaces.

    RFC 5322 section 2.2.3 would keep a broken run of spaces, but some parsers fold leading spaces of a line
    into one, and some servers remove trailing ones.
    """
    return _SINGLE_BLANK.split(text) if "  " in text else text.split(" ")


def _folded(words: Sequence[str], column: int) -> str:
    """Break between words so that each line stays within `LINE` octets; the first begins at *column*."""
    out = [words[0]]
    column += len(words[0])
    for word in words[1:]:
        if column + 1 + len(word) > LINE:
            out.append("\r\n ")
            column = 0
        else:
            out.append(" ")
        out.append(word)
        column += 1 + len(word)
    return "".join(out)


def encoded_words(text: str, column: int) -> bytes:
    """Return *text* as encoded words in UTF-8 and base64, folded; the first begins at *column*.

    White space between adjacent encoded words vanishes when they are decoded (RFC 2047 section 6.2), so every
    space of the text is inside one.
    """
    data = text.encode("utf-8")
    room = (75 - column - 12) // 4 * 3  # 12 octets for =?utf-8?b??=
    words: list[bytes] = []
    start = 0
    while start < len(data) or not words:
        if room < 4:  # not even one character: begin on the next line
            words.append(b"")
            room = _WORD_BYTES
        end = min(start + room, len(data))
        while end < len(data) and data[end] & 0xC0 == 0x80:
            end -= 1
        words.append(b"=?utf-8?b?" + b2a_base64(data[start:end], newline=False) + b"?=")
        start, room = end, _WORD_BYTES
    return b"\r\n ".join(words)


def mailboxes(name: str, boxes: Sequence[Mailbox]) -> bytes:
    """Return an address field, folded between and inside mailboxes, its line end included."""
    out = [name.encode("ascii"), b": "]
    column = len(name) + 2
    for position, box in enumerate(boxes):
        if position:
            out.append(b",\r\n ")
            column = 1
        phrase, address = _mailbox(box, column)
        column = (len(phrase) - phrase.rfind(b"\n") - 1) if b"\n" in phrase else column + len(phrase)
        if phrase:
            out += (phrase, b" " if column + 1 + len(address) < LINE else b"\r\n ")
        elif column > 1 and column + len(address) >= LINE:
            out.append(b"\r\n ")
        out.append(address)
    out.append(b"\r\n")
    return b"".join(out)


def _mailbox(box: Mailbox, column: int) -> tuple[bytes, bytes]:
    address = f"{box.address.local}@{box.address.domain}".encode("ascii")
    if not box.name:
        return b"", address
    return _phrase(box.name, column), b"<" + address + b">"


def _phrase(name: str, column: int) -> bytes:
    """Return a display name: bare or quoted, folded between its words, or as encoded words."""
    if not (name.isascii() and name.isprintable() and "=?" not in name):
        return encoded_words(name, column)
    phrase = name
    if _SPECIALS.search(name) or "  " in name or name != name.strip():
        phrase = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    if column + len(phrase) < LINE - 4:
        return phrase.encode("ascii")
    words = _words(phrase)
    if column + len(words[0]) > LINE or max(map(len, words)) >= LINE or '"' in (words[0], words[-1]):
        return encoded_words(name, column)
    return _folded(words, column).encode("ascii")


def date_header(date: datetime) -> bytes:
    """Return the Date field for an aware datetime, with its own offset in whole minutes."""
    if date.tzinfo is None:
        raise RuntimeError("a message needs an aware Date")
    offset = date.utcoffset() or timedelta()
    if odd := offset % _MINUTE:  # an old local time, which RFC 5322 section 3.3 cannot write
        date = date.astimezone(timezone(offset - odd))
    day, month = _DAYS[date.weekday()], _MONTHS[date.month - 1]  # strftime would follow the machine's locale
    return f"Date: {day}, {date:%d} {month} {date.year:04} {date:%H:%M:%S %z}\r\n".encode("ascii")


def message_id(secret: bytes, key: str, frozen_digest: str, generation: int, domain: str) -> str:
    """Return a Message-ID that reveals nothing: the same for each attempt to send the same message.

    Args:
        secret: the campaign's secret.
        key: the row's key.
        frozen_digest: the digest of the message (`FrozenMessage.digest`).
        generation: how often the row was requeued or corrected.
        domain: the domain of From.

    """
    about = f"{frozen_digest} {generation} {key}".encode("utf-8", "surrogatepass")
    return f"<{hmac.digest(secret, about, 'sha256')[:_ID_BYTES].hex()}@{domain}>"


def id_fields(message_id: str) -> bytes:
    """Return Message-ID and, for servers that replace it, the field of ours that repeats its first part."""
    about = message_id.encode("ascii")
    return b"Message-ID: %b\r\n%b: %b\r\n" % (about, _OWN_HEADER, about[1:].partition(b"@")[0])


def stamp_size(domain: str) -> int:
    """Return how many octets the fields added on sending will have in a message from *domain*."""
    return _STAMP + len(domain)


_ID_BYTES = 20
_OWN_HEADER = OWN_HEADER.encode("ascii")
_STAMP = len("Date: Thu, 01 Jan 1970 00:00:00 +0000\r\n") + len(id_fields(f"<{'0' * 2 * _ID_BYTES}@>"))
_MINUTE = timedelta(minutes=1)


def disposition(kind: str, name: str) -> bytes:
    """Return Content-Disposition with a file name, per RFC 2231 if it is not plain ASCII."""
    head = f"Content-Disposition: {kind}"
    if _is_plain(name) and len(name) <= LINE - 14:
        return f"{_joined(head, 'filename=' + chr(34) + name + chr(34))}\r\n".encode("ascii")
    characters = [quote(character, safe="!#$&+-.^_`|~", encoding="utf-8") for character in name]
    value = "utf-8''" + "".join(characters)
    if len(value) + len(" filename*=") <= LINE - 1:
        return f"{head};\r\n filename*={value}\r\n".encode("ascii")
    pieces = ["utf-8''"]
    for character in characters:  # some readers decode each piece separately: none ends within a character
        if len(pieces[-1]) + len(character) > _PIECE:
            pieces.append("")
        pieces[-1] += character
    lines = [f" filename*{number}*={piece}" for number, piece in enumerate(pieces)]
    return ";\r\n".join([head, *lines]).encode("ascii") + b"\r\n"


def content_type(kind: str, name: str) -> bytes:
    """Return Content-Type with a ``name``, which older clients read instead of the disposition's.

    A name that is not ASCII is an encoded word in quotes: not standard, but what the large clients send and
    read.
    """
    head = f"Content-Type: {kind}"
    if _is_plain(name) and len(name) <= LINE - 10:
        return f"{_joined(head, 'name=' + chr(34) + name + chr(34))}\r\n".encode("ascii")
    words = encoded_words(name, 7)
    return f'{head};\r\n name="'.encode("ascii") + words + b'"\r\n'


def _is_plain(name: str) -> bool:
    return name.isascii() and name.isprintable() and not set(name) & set('"\\') and "=?" not in name


def _joined(head: str, parameter: str) -> str:
    return f"{head}; {parameter}" if len(head) + 2 + len(parameter) <= LINE else f"{head};\r\n {parameter}"
