"""Text as words that can be compared, however a program wrote them.

Ligatures, full-width letters and decomposed accents are normalised (NFKC), apostrophes, soft hyphens and
invisible characters are removed, and words that were hyphenated at the end of a line are joined again. Names
are compared without accents and with ä, ae and a as one; keys are compared letter by letter.
"""

from __future__ import annotations

import re
import unicodedata
from typing import TYPE_CHECKING, NamedTuple

from mailmerge.lazy_re import lazy_re

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping, Sequence

SHORTEST = 3
"""Least number of characters of a key that is worth searching for."""
UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7a3\uf900-\ufaff"
"""Letters of scripts that need nothing between words."""
_LOCAL = lazy_re(r"([\w.+%'-]{1,64})\s{0,2}\Z")
_DOMAIN = lazy_re(r"\s{0,2}([^\W_][\w-]{0,62}(?:\.[\w-]{1,63}){1,8})")
_WORD = lazy_re(r"([^\W_]+)([\W_]*)")
_INVISIBLE = lazy_re("[\u00ad\u200b-\u200f\u2060\ufeff]")
_DIVIDED = lazy_re("(?<=[^\\W\\d_])(?:[-\u2010\u2011\x02\ufffe][ \t]*\r?\n[ \t]*|[\x02\ufffe])(?=[^\\W\\d_])")
_LOOSE_ACCENT = lazy_re("(?<=[^\\W\\d_])[ ]?[\u00a8\u00b4\u02c6\u02dc\u00b8\u02da\u02c7][ ]?(?=[^\\W\\d_])")
_APOSTROPHE = lazy_re("(?<=[^\\W\\d_])['\u2018\u2019\u02bc`](?=[^\\W\\d_])")
_UNSPACED_GAP = lazy_re(f"(?<=[{UNSPACED}])[ \t\u3000]+(?=[{UNSPACED}])")
_SPACED = lazy_re(r"(?<!\S)(?:\S[ \t]{1,3}){3,}\S(?!\S)")
_ACCENTS = lazy_re("[\u0300-\u036f]")
_UMLAUT = lazy_re("([aou])e")
_LETTERS = str.maketrans(
    {"ø": "o", "œ": "o", "æ": "a", "ł": "l", "đ": "d", "ð": "d", "þ": "th", "ı": "i", "ħ": "h"}
)


def word_set(text: str) -> frozenset[str]:
    """Return the words of a constant."""
    return frozenset(text.split())


class Words(NamedTuple):
    """Text split into words."""

    words: list[str]
    """The words as written."""
    gaps: list[str]
    """The text after each word."""


def whole(text: str) -> str:
    """Return text with comparable characters; words hyphenated at the end of a line are joined."""
    return _DIVIDED.sub("", plain(text))


def plain(text: str) -> str:
    """Return text with comparable characters."""
    if text.isascii():
        return _APOSTROPHE.sub("", text) if "'" in text or "`" in text else text
    text = _LOOSE_ACCENT.sub("", _INVISIBLE.sub("", text))
    return _APOSTROPHE.sub("", unicodedata.normalize("NFKC", text))


def is_divided(text: str) -> bool:
    """Return whether words may be hyphenated at the end of a line; a double name may be, too."""
    return _DIVIDED.search(text) is not None


def words_of(text: str) -> Words:
    """Split text into words."""
    found = _WORD.findall(text)
    return Words([word for word, _ in found], [gap for _, gap in found])


def spaced_runs(text: str) -> list[str]:
    """Return the letter-spaced parts of text, without the spaces."""
    return [compact(run) for run in _SPACED.findall(text)]


def unspaced_runs(text: str) -> list[str]:
    """Return the parts of text in scripts without spaces, with any spaces in them removed."""
    return re.findall(f"[{UNSPACED}]+", _UNSPACED_GAP.sub("", text))


def is_unspaced(name: str) -> bool:
    """Return whether a name is in such a script."""
    return re.fullmatch(f"[{UNSPACED}]+", name.translate({ord(c): None for c in " \u3000·・"})) is not None


def name_form(word: str) -> str:
    """Return a word of a name in the form in which it is compared."""
    word = word.casefold()
    if not word.isascii():
        word = _ACCENTS.sub("", unicodedata.normalize("NFD", word)).translate(_LETTERS)
    return _UMLAUT.sub(r"\1", word)


def key_form(word: str) -> str:
    """Return a word of a key for comparison: programs write 117 and 00117 for the same, but 4 is not 004."""
    word = word.casefold()
    short = word.lstrip("0") if word.isdecimal() else word
    return short if len(short) >= SHORTEST else word


def compact(text: str) -> str:
    """Return only the letters and digits of text."""
    return "".join(words_of(text).words)


def divided_by_addresses(text: str) -> tuple[list[str], str]:
    """Return the addresses in text, in lower case, and the text without them."""
    addresses, rest, end = [], [], 0
    at = text.find("@")
    while at >= 0:
        local = _LOCAL.search(text, max(end, at - 66), at)
        domain = _DOMAIN.match(text, at + 1)
        if local and domain:
            addresses.append(f"{local[1].strip(chr(39))}@{domain[1]}".lower())
            rest.append(text[end : local.start()])
            end = domain.end()
        at = text.find("@", max(end, at + 1))
    return addresses, " ".join([*rest, text[end:]]) if addresses else text


# --- which words are certain ---------------------------------------------------------------------------

_PARTICLES = word_set(
    "van von vom der den de da di du la le del della dos das do zu zum zur ten ter te af av bin ibn al el e y"
)
_MONEY = lazy_re(r"\s?(?:[%‰$€£¥₹]|(?:eur|usd|chf|gbp|sek|nok|dkk|pln|czk|huf|jpy|cny|inr)\b)", re.IGNORECASE)
_JOINING = frozenset("-/\\._+@&$€£¥")
_BETWEEN_DIGITS = frozenset(".,:'’")
_BETWEEN_WORDS = lazy_re(r"[\s,.;|\-\"()/&]{1,8}\Z")


def sequences(
    words: Sequence[str], index: Mapping[str, int], lengths: Mapping[str, Collection[int]]
) -> Iterator[tuple[int, int, int]]:
    """Yield the tokens of an index that occur in *words*, each with its begin and end."""
    for start, word in enumerate(words):
        if word in lengths:
            for end in (start + length for length in lengths[word]):
                token = index.get(" ".join(words[start:end]))
                if token is not None and end <= len(words):
                    yield token, start, end


def is_name(found: Words, start: int, end: int) -> bool:
    """Return whether words are certainly a name: capitals, and nothing that makes it part of a longer one."""
    words, gaps = found
    if any(word[0].islower() and word not in _PARTICLES for word in (words[start], words[end - 1])):
        return False
    if start and gaps[start - 1] in {"-", "'", "’"}:
        return False
    if end < len(words) and gaps[end - 1] in {"-", "'", "’"}:
        return False
    return all(_BETWEEN_WORDS.match(gap) for gap in gaps[start : end - 1])


def is_key(found: Words, start: int, end: int) -> bool:
    """Return whether words are certainly a key, not a piece of another number, an amount or a date."""
    words, gaps = found
    if end - start > 1 and words[start].islower():
        return False
    if start:
        before, gap = words[start - 1], gaps[start - 1]
        if gap[-1:] in _JOINING - {"."} or (gap in _BETWEEN_DIGITS and before[-1:].isdecimal()):
            return False
    after = gaps[end - 1]
    if end < len(words):
        if after in _JOINING - {"."}:
            return False
        if after in _BETWEEN_DIGITS and words[end][:1].isdecimal():
            return False
    rest = after + (words[end] if end < len(words) else "")
    return _MONEY.match(rest) is None or not words[end - 1].isdecimal()
