"""How plausible the words of a list are in each encoding, and in which language they would be written.

A reading costs the bits of a code that gives each letter more bits the rarer it is in a language
(letters.toml). All readings are of the same bytes, so their costs can be compared: a reading that costs n
bits less is 2 to the power of n times as likely. A word costs more where its shape is wrong, too: a capital
inside a word, a symbol between letters, letters of two scripts.
"""

from __future__ import annotations

import math
import re
import tomllib
import unicodedata
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

_WORDS = 240
"""The number of words that decide; more add nothing new."""
_FINALISTS = 12
"""The number of readings that are compared in all languages."""
_OTHERS = 4.0
"""Bits for a word in another language than the list's: a sixteenth of its words may be."""
_ASCII = 5.0
"""Bits for an ASCII letter in a language that does not use them."""
_WEIGHT = 0.3
_WAYS = {"vi": "ăđơư", "ro": "ăâî", "fr": "àâçéèêëîïôùû", "tr": "ğış", "nl": "ëïé"}
"""Letters that an encoding needs if not the whole alphabet: others are written in more than one way."""
_FREQUENT_BITS = 9
_FOREIGN = 13.0
"""Bits for a letter that a language does not have."""
_ODD_CASE = 7.0
_TWO_SCRIPTS = 9.0
_INSIDE = 10.0
"""Bits for a symbol between two letters."""
_HALF_WIDTH = {
    **dict.fromkeys(map(chr, range(0xFF66, 0xFFA0)), 5.7),
    **dict.fromkeys("ｦｧｨｩｪｫ", 10.0),
    "ﾞ": 4.5,
    "ﾟ": 8.0,
    "ｬ": 7.0,
    "ｭ": 7.0,
    "ｮ": 7.0,
    "ｯ": 7.0,
}
"""Half-width katakana: their letters are about as frequent as each other, the small vowels are not."""
_NOT_FIRST = frozenset("ｧｨｩｪｫｬｭｮｯｰﾝﾞﾟ")
_NO_SOUND = re.compile("[^ｳｶ-ﾄﾊ-ﾎ]ﾞ|[^ﾊ-ﾎ]ﾟ")
"""Marks that change the sound of another letter follow only a few letters."""
_RARE = 18.0
"""Bits for what no name contains: box drawing, private use, letters of ancient scripts."""
_ALONE = 6.0

# name for people, codec, bits
_SINGLE = (
    ("Windows-1252 (Western Europe)", "cp1252", 0.0),
    ("Windows-1250 (Central Europe)", "cp1250", 0.0),
    ("Windows-1251 (Cyrillic)", "cp1251", 0.0),
    ("Windows-1253 (Greek)", "cp1253", 0.0),
    ("Windows-1254 (Turkish)", "cp1254", 0.5),
    ("Windows-1255 (Hebrew)", "cp1255", 0.0),
    ("Windows-1256 (Arabic)", "cp1256", 0.0),
    ("Windows-1257 (Baltic)", "cp1257", 0.5),
    ("Windows-1258 (Vietnamese)", "cp1258", 1.0),
    ("Windows-874 (Thai)", "cp874", 0.0),
    ("ISO-8859-1 (Western Europe)", "iso8859-1", 1.0),
    ("ISO-8859-2 (Central Europe)", "iso8859-2", 2.0),
    ("ISO-8859-15 (Western Europe)", "iso8859-15", 2.0),
    ("ISO-8859-5 (Cyrillic)", "iso8859-5", 2.0),
    ("ISO-8859-6 (Arabic)", "iso8859-6", 2.0),
    ("ISO-8859-7 (Greek)", "iso8859-7", 2.0),
    ("ISO-8859-8 (Hebrew)", "iso8859-8", 2.0),
    ("ISO-8859-9 (Turkish)", "iso8859-9", 2.0),
    ("ISO-8859-4 (Baltic)", "iso8859-4", 5.0),
    ("ISO-8859-13 (Baltic)", "iso8859-13", 3.0),
    ("ISO-8859-16 (Romanian)", "iso8859-16", 4.0),
    ("KOI8-R (Russian)", "koi8-r", 1.0),
    ("KOI8-U (Ukrainian)", "koi8-u", 1.5),
    ("Mac Roman", "mac-roman", 2.0),
    ("Mac Central Europe", "mac-latin2", 3.0),
    ("Mac Cyrillic", "mac-cyrillic", 2.5),
    ("Mac Greek", "mac-greek", 4.0),
    ("Mac Turkish", "mac-turkish", 4.0),
    ("DOS 437 (United States)", "cp437", 3.0),
    ("DOS 850 (Western Europe)", "cp850", 2.0),
    ("DOS 852 (Central Europe)", "cp852", 2.0),
    ("DOS 866 (Russian)", "cp866", 2.0),
    ("DOS 737 (Greek)", "cp737", 4.0),
    ("DOS 775 (Baltic)", "cp775", 4.0),
    ("DOS 857 (Turkish)", "cp857", 4.0),
    ("DOS 862 (Hebrew)", "cp862", 4.0),
    ("DOS 858 (Western Europe)", "cp858", 3.0),
    ("DOS 855 (Cyrillic)", "cp855", 5.0),
    ("DOS 860 (Portuguese)", "cp860", 5.0),
    ("DOS 861 (Icelandic)", "cp861", 5.0),
    ("DOS 865 (Nordic)", "cp865", 5.0),
    ("DOS 869 (Greek)", "cp869", 6.0),
    ("DOS 720 (Arabic)", "cp720", 5.0),
    ("Mac Croatian", "mac-croatian", 5.0),
    ("Mac Romanian", "mac-romanian", 5.0),
    ("Mac Icelandic", "mac-iceland", 5.0),
    ("TIS-620 (Thai)", "tis-620", 1.0),
)
MULTIPLE = (
    ("GB18030 (simplified Chinese)", "gb18030", 0.0),
    ("Big5 (traditional Chinese)", "cp950", 0.0),
    ("Big5-HKSCS (traditional Chinese)", "big5hkscs", 1.0),
    ("Shift-JIS (Japanese)", "cp932", 0.0),
    ("EUC-JP (Japanese)", "euc-jp", 2.0),
    ("EUC-KR (Korean)", "cp949", 0.0),
    ("Johab (Korean)", "johab", 5.0),
)
NAMES: Mapping[str, str] = {codec: name for name, codec, _ in (*_SINGLE, *MULTIPLE)}
"""Names for people of the encodings that are considered, by codec."""
_CONTROLS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufdd0-\ufdef\uffff]")


class Reading(Struct, frozen=True):
    """The words of a list decoded in one encoding."""

    codec: str
    bits: float
    """Its cost in bits."""
    words: tuple[str, ...]
    """The deciding words, decoded."""
    double: int = 0
    """How many multi-byte characters they contain; 0: the encoding has none."""

    @property
    def bits_a_character(self) -> float:
        """Its cost divided by its number of characters."""
        return self.bits / max(sum(map(len, self.words)), 1)


def readings(words: Sequence[bytes]) -> list[Reading]:
    """Read the non-ASCII words of a whole list in every encoding that can, the most plausible first.

    Encodings that read all of it alike count as one. Words are separated by ASCII characters that are not
    part of a character in any encoding.
    """
    whole = b"\n".join(words)
    some = sample(words)
    found: list[Reading] = []
    used = bytes(sorted(set(whole)))
    seen: set[str] = set()
    for _, codec, bits in _SINGLE:
        text = _decoded(used, codec)
        if text is not None and text not in seen:
            seen.add(text)
            found.append(Reading(codec, bits, tuple(word.decode(codec) for word in some)))
    for _, codec, bits in MULTIPLE:
        text = _decoded(whole, codec)
        if text is not None and text not in seen:
            seen.add(text)
            decoded = tuple(word.decode(codec) for word in some)
            double = sum(len(raw) - len(word) for raw, word in zip(some, decoded, strict=True))
            found.append(Reading(codec, bits, decoded, double))
    found = sorted(found, key=lambda reading: reading.bits + at_least(reading.words))[:_FINALISTS]
    weighed = (
        Reading(
            reading.codec,
            reading.bits + text_cost(reading.words, reading.codec),
            reading.words,
            reading.double,
        )
        for reading in found
    )
    return sorted(weighed, key=lambda reading: reading.bits)


def sample(words: Sequence[bytes]) -> Sequence[bytes]:
    """Sample as many words as decide from all over the list."""
    return words[:: -(-len(words) // _WORDS)] if len(words) > _WORDS else words


def _decoded(raw: bytes, codec: str) -> str | None:
    try:
        text = raw.decode(codec)
    except UnicodeDecodeError:
        return None
    return None if _CONTROLS.search(text) else text


# --- the cost of text ---------------------------------------------------------------------------------


class _LanguageModel(Struct, frozen=True):
    name: str
    letters: Mapping[str, float]
    script: str
    needed: str
    """Letters that an encoding must have to be used for this language."""


@cache
def _languages() -> tuple[_LanguageModel, ...]:
    with (Path(__file__).parent / "letters.toml").open("rb") as file:
        tables = tomllib.load(file)
    made = []
    for name, table in tables.items():
        alphabet = table.pop("alphabet", "")
        letters = {letter: _weighed(letter, int(bits)) for bits, some in table.items() for letter in some}
        if name == "ja":
            letters |= _HALF_WIDTH
        scripts = [script for script in map(_script, letters) if script != "Latin"]
        script = max(set(scripts), key=scripts.count) if len(scripts) * 2 > len(letters) else "Latin"
        made.append(_LanguageModel(name, letters, script, _needed(name, alphabet, letters, script)))
    return tuple(made)


def _needed(name: str, alphabet: str, letters: Mapping[str, float], script: str) -> str:
    if name in _WAYS or script in _IDEOGRAPHIC:
        return _WAYS.get(name, "")
    frequent = (
        letter for letter, bits in letters.items() if bits <= _FREQUENT_BITS and _script(letter) == script
    )
    return alphabet or "".join(frequent)


def _weighed(letter: str, bits: int) -> float:
    """Weigh ASCII letters lightly: all encodings have them, and place names are not names of people."""
    return _ASCII + _WEIGHT * (bits - _ASCII) if letter.isascii() else float(bits)


@cache
def _cheapest() -> Mapping[str, float]:
    """Return each letter's cost in the language where it is most frequent."""
    found: dict[str, float] = {}
    for language in _languages():
        for letter, bits in language.letters.items():
            found[letter] = min(bits, found.get(letter, bits))
    return found


def at_least(words: Iterable[str]) -> float:
    """Return the least cost of words over all languages."""
    letters = _cheapest()
    return sum(_shape(word) + sum(letters.get(char, _FOREIGN) for char in _letters(word)) for word in words)


def text_cost(words: Sequence[str], codec: str) -> float:
    """Return the cost of words in the language that fits the list best; some may be in another."""
    shapes = sum(map(_shape, words))
    lower = [_letters(word) for word in words]
    able = [language for language in _languages() if _can_write(codec, language.needed)]
    table = [[_spelled(letters, language) for letters in lower] for language in able]
    if not table:
        return shapes + _RARE * len(words)
    anything = [min(costs) + _OTHERS for costs in zip(*table, strict=True)]
    return shapes + min(sum(map(_either, costs, anything)) for costs in table)


def _either(bits: float, other: float) -> float:
    return -math.log2(2**-bits + 2**-other) if max(bits, other) < 900 else min(bits, other)


@cache
def _can_write(codec: str, needed: str) -> bool:
    try:
        needed.encode(codec)
    except UnicodeEncodeError:
        return False
    return True


def _spelled(letters: str, language: _LanguageModel) -> float:
    known = language.letters
    total = 0.0
    for char in letters:
        bits = known.get(char)
        if bits is None:
            bits = _ASCII if char.isascii() else _unlisted(char, language.name, language.script)
        total += bits
    return total


@cache
def _unlisted(char: str, language: str, own: str) -> float:
    """Return the cost of an unlisted letter: standards separate frequent characters from rare ones."""
    script = _script(char)
    if own in _IDEOGRAPHIC and script in _IDEOGRAPHIC:
        codec, first, last = _FREQUENT[language]
        lead = char.encode(codec, "replace")
        if len(lead) == 2:
            return 13.0 if first <= lead[0] <= last else 16.0
        return _RARE
    return _FOREIGN


_FREQUENT = {
    "zh": ("gb2312", 0xB0, 0xD7),  # GB 2312, level 1: the 3,755 most frequent
    "zh_Hant": ("big5", 0xA4, 0xC6),  # Big5, level 1: 5,401
    "ja": ("shift_jis", 0x88, 0x97),  # JIS X 0208, level 1: 2,965
    "ko": ("euc_kr", 0xB0, 0xC8),  # KS X 1001: the 2,350 syllables
}
_IDEOGRAPHIC = frozenset({"Han", "kana", "Hangul"})


# --- the look of a word ----------------------------------------------------------------------------

_SCRIPTS = (
    (0x0250, "Latin"),
    (0x0300, "other"),
    (0x0370, "Latin"),  # combining marks
    (0x0400, "Greek"),
    (0x0500, "Cyrillic"),
    (0x0590, "other"),
    (0x0600, "Hebrew"),
    (0x0700, "Arabic"),
    (0x0E00, "other"),
    (0x0E80, "Thai"),
    (0x1E00, "other"),
    (0x1F00, "Latin"),
    (0x3005, "other"),
    (0x3008, "Han"),
    (0x3041, "other"),
    (0x3100, "kana"),
    (0x3400, "other"),
    (0xA000, "Han"),
    (0xAC00, "other"),
    (0xD7A4, "Hangul"),
    (0xF900, "other"),
    (0xFB00, "Han"),
    (0xFF66, "other"),
    (0xFFA0, "half-width"),
)
_SYMBOLS = {
    **dict.fromkeys("’", 4.0),
    **dict.fromkeys("–“”„‘«»€\xa0…•·", 6.0),
    **dict.fromkeys("—‹›‚£°º§®™©ª´`\u3000・", 7.0),
    **dict.fromkeys("¿¡±²³µ×½¼¾¥¢№，。、：；（）！？「」『』【】《》〈〉￥＠～－＋％／．＆＃＊", 8.0),
    **{chr(char): 8.0 for char in (*range(0xFF10, 0xFF1A), *range(0xFF21, 0xFF3B), *range(0xFF41, 0xFF5B))},
    **dict.fromkeys("\u200e\u200f\u200c\u200d\u064e\u064f\u0650\u0651\u0652\u0e46\u0e4c،؛؟", 8.0),
}
"""Characters in lists other than letters, and their costs."""
_JOINING = frozenset("’\xa0·・－\u3000\u200c\u200d")
"""Symbols that may occur between two letters."""
_WIDE = frozenset("　・－（）「」『』【】《》〈〉，。、：；！？．／＆＠～＋％￥＃＊")


@cache
def _script(char: str) -> str:
    at = ord(char)
    for end, script in _SCRIPTS:
        if at < end:
            return script
    return "other"


def _is_letter(char: str) -> bool:
    return char.isalpha() or bool(unicodedata.combining(char)) or unicodedata.category(char) in {"Mn", "Mc"}


def _letters(word: str) -> str:
    """Return the letters of a word in lower case, without symbols."""
    return "".join(filter(_is_letter, word)).lower() if not word.isalpha() else word.lower()


def _shape(word: str) -> float:
    """Return the cost of what looks wrong in a word, and of its symbols."""
    total = 0.0
    letters = [char for char in word if _is_letter(char)]
    if len(letters) < len(word):
        total += _symbols(word)
    if not letters:
        return total
    scripts = {_script(char) for char in letters if not 0x300 <= ord(char) < 0x370}
    if "other" in scripts:
        total += _RARE * sum(_script(char) == "other" for char in letters)
    plain = scripts - {"other"}
    if not (
        len(plain) < 2 or plain <= {"Han", "kana"} or (plain <= {"Han", "kana", "Latin"} and _apart(word))
    ):
        total += _TWO_SCRIPTS
    if "half-width" in scripts:
        total += _ODD_CASE * ((word[0] in _NOT_FIRST) + len(_NO_SOUND.findall(word)))
    if len(letters) == 1 and not scripts & _IDEOGRAPHIC:
        total += _ALONE
    return total + _case(word)


def _apart(word: str) -> bool:
    """Return whether the letters of the two scripts form two separate pieces: ``株式会社ABC``."""
    return len(re.findall("[A-Za-z]+", word)) == 1


def _case(word: str) -> float:
    """Return the cost of capitals inside a word, and of lower case among capitals."""
    total = 0.0
    before = ""
    for at, char in enumerate(word):
        beside = before.isalpha() and not (before.isascii() and char.isascii())
        if beside and (
            (before.islower() and char.isupper())
            or (at > 1 and before.isupper() and char.islower() and word[at - 2].isalpha())
        ):
            total += _ODD_CASE
        before = char
    return total


def _symbols(word: str) -> float:
    total = 0.0
    for at, char in enumerate(word):
        if _is_letter(char):
            continue
        if char.isascii():
            total += 4.0 if char.isdigit() else 6.0
            if char.isdigit() and at and _is_letter(word[at - 1]) and not word[at - 1].isascii():
                total += 3.0
            continue
        bits = _SYMBOLS.get(char)
        if bits is None:
            total += _RARE
            continue
        total += bits
        between = 0 < at < len(word) - 1 and _is_letter(word[at - 1]) and _is_letter(word[at + 1])
        latin = any(
            beside.isalpha() and _script(beside) == "Latin" for beside in word[max(at - 1, 0) : at + 2]
        )
        if (between and char not in _JOINING and char not in _WIDE) or (latin and char in _WIDE):
            total += _INSIDE
    return total
