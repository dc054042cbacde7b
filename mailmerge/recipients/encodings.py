"""Which encoding a text list is in: decided by evidence, and asked where there is not enough of it.

In this order: a byte order mark; the zero bytes of UTF-16 and UTF-32; escape sequences of ISO-2022; UTF-8,
which text in other encodings does not match by chance; otherwise a multi-byte encoding that reads the whole
file, and is so much more plausible than any other that it can't be chance. Single-byte encodings read any
file: only a person can tell which of them it is, and is shown the names in it.
"""

from __future__ import annotations

import codecs
import re
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from mailmerge.errors import ListError
from mailmerge.lazy_re import lazy_re
from mailmerge.model import Place
from mailmerge.text import excerpt

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mailmerge.recipients.plausibility import Reading

_START = 1 << 20
"""Bytes that decide whether it is UTF-8; if they are ASCII alone, later bytes can only be refused."""
_BLOCK = 1 << 20
_CHANCE = 40
"""Bytes beyond which no other encoding is valid UTF-8 by chance."""
_MOST_WORDS = 200_000
CERTAIN = 20.0
"""Bits by which a reading must be better than any other to be chosen: one chance in a million.

Of 21,741 generated lists of one to ten names in 70 encodings of 31 locales, wrong multi-byte readings that
came first did so by 15 bits at most, except for half-width katakana (24).
"""
FEWEST = 4
"""Number of multi-byte characters below which no encoding is chosen."""
PLAUSIBLE = 11.0
"""Bits per character above which a reading is not text in its language.

Names and addresses take 7 to 11; lists in an encoding that is not considered, such as EBCDIC, 11.1 or more.
"""
_SHOWN = 3
"""Number of readings, and of words of each, that are shown to a person."""
_BOMS = (
    (codecs.BOM_UTF8, "utf-8-sig", "UTF-8 with BOM"),
    (codecs.BOM_UTF32_LE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF32_BE, "utf-32", "UTF-32"),
    (codecs.BOM_UTF16_LE, "utf-16", "UTF-16"),
    (codecs.BOM_UTF16_BE, "utf-16", "UTF-16"),
)
_WIDE = ("utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be")
_ESCAPED = ("iso2022_jp_2", "iso2022_jp_3", "iso2022_kr")
_NO_CHARACTER_SETS = frozenset(
    {"idna", "punycode", "raw-unicode-escape", "raw_unicode_escape", "undefined", "unicode-escape"}
    | {"unicode_escape"}
)
"""Python codecs that decode bytes or escapes, and are not encodings of a list."""
_FOREIGN = (
    (b"PK\x03\x04", "a workbook or zip file", ".xlsx"),
    (b"\xd0\xcf\x11\xe0", "an old .xls workbook", ".xls"),
)
_SEPARATORS = bytes(range(0x30)) + bytes(range(0x3A, 0x40))
"""Bytes that are not part of a longer character in any encoding: they separate words."""
_APART = bytes.maketrans(_SEPARATORS, b" " * len(_SEPARATORS))
_NO_TEXT = lazy_re("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ufffd-\uffff]")
_SOME = 0.1
"""Least share of ASCII characters in a list in UTF-16: separators, addresses. By chance it is low."""
_HALF_WIDTH = frozenset(map(chr, range(0xFF61, 0xFFA0)))
_PAIRS = lazy_re(b"(?:[\xc2-\xdf][\x80-\xbf]){2,}")
ADVICE = "save it as UTF-8 (in Excel: CSV UTF-8)"


class Encoding(Struct, frozen=True):
    """The encoding of a list."""

    codec: str
    """Python's name; ``utf-8-sig``, ``utf-16`` or ``utf-32`` if there is a byte order mark."""
    name: str
    """The name for people."""
    words: tuple[str, ...] = ()
    """Some of its words that show whether it is right; none if no other encoding is possible."""

    def __str__(self) -> str:
        return f"{self.name} ({', '.join(self.words)})" if self.words else self.name


class Unclear(ListError):
    """The encoding of a list cannot be decided without a person.

    Attributes:
        likely: the encodings that can read all of it, with some of its words, the likeliest first.

    """

    likely: tuple[Encoding, ...] = ()


def find_encoding(path: Path, shown: str, asked: str | None) -> Encoding:
    """Find the encoding of a text file; *asked* is the one that the user specifies.

    Raises:
        Unclear: only a person can decide.
        ListError: it is not text, the encoding does not exist, or the file contradicts it.

    """
    with path.open("rb") as file:
        start = file.read(_START)
        _refuse_foreign(start, shown)
        marked = next((Encoding(codec, name) for bom, codec, name in _BOMS if start.startswith(bom)), None)
        if asked is not None:
            return _as_asked(start, shown, asked, marked)
        return (
            marked
            or _wide(start)
            or _escaped(start, file)
            or _in_utf_8(start, path, shown)
            or _legacy(path, shown)
        )


def words_of(path: Path) -> list[bytes]:
    """Return the distinct words of a file that are not ASCII, those of its first line last."""
    words: dict[bytes, None] = {}
    with path.open("rb") as file:
        headings = _words(file.readline())
        for block in _blocks(file):
            if not block.isascii():
                words.update(dict.fromkeys(_words(block)))
                if len(words) > _MOST_WORDS:
                    break
    words.update(dict.fromkeys(headings))
    return list(words)


def _words(block: bytes) -> list[bytes]:
    return list(dict.fromkeys(word for word in block.translate(_APART).split() if not word.isascii()))


def possible_texts(path: Path, raw: bytes) -> Iterator[str]:
    """Yield the possible texts of a file, for a reader to whom only ASCII matters, such as addresses.

    One if the encoding is known. Otherwise, the likeliest first, one for each multi-byte encoding that may be
    right and one for the likeliest single-byte one; if there is such, also one with a mark for each byte that
    is not ASCII: the ASCII content is the same in all single-byte encodings.

    Raises:
        ListError: it is not text.

    """
    try:
        codec = find_encoding(path, str(path), None).codec
    except Unclear:
        from mailmerge.recipients.plausibility import MULTIPLE, readings
    else:
        yield raw.decode(codec, "strict" if codec.startswith(("utf-16", "utf-32")) else "replace")
        return
    several = {codec for _, codec, _ in MULTIPLE}
    found = readings(words_of(path))
    likely = [reading.codec for reading in found if reading.bits < found[0].bits + CERTAIN]
    single = next((codec for codec in likely if codec not in several), None)
    yield from (raw.decode(codec) for codec in likely if codec in several or codec == single)
    if single is not None:
        yield raw.decode("ascii", "replace")


def likely_of(words: Sequence[bytes]) -> tuple[Encoding, ...]:
    """Return the likeliest encodings of all these words, each with some in which they differ."""
    from mailmerge.recipients.plausibility import readings

    return _shown(readings(words), words)


def hint_of(likely: Sequence[Encoding]) -> str:
    """Return a hint that names the encodings that may be right, with their readings."""
    tried = "; ".join(f'--encoding {found.codec} reads "{", ".join(found.words)}"' for found in likely)
    if not tried:
        return ADVICE
    return (
        f"its names tell which is right: {tried}. Or {ADVICE}" if len(likely) > 1 else f"{tried}. Or {ADVICE}"
    )


def is_utf_8(path: Path) -> bool:
    """Return whether bytes begin as UTF-8 and contain characters that are not ASCII."""
    with path.open("rb") as file:
        start = _whole_lines(file.read(_START))
    return not start.isascii() and _reads(start, "utf-8")


def _whole_lines(start: bytes) -> bytes:
    return start[: start.rfind(b"\n") + 1] or start if len(start) == _START else start


# --- what the file says itself -------------------------------------------------------------------------


def _refuse_foreign(start: bytes, shown: str) -> None:
    for magic, kind, suffix in _FOREIGN:
        if start.startswith(magic):
            raise ListError(
                f"{shown} is {kind}, not text",
                code="D120",
                hint=f"rename it to {shown.rpartition('.')[0]}{suffix}, or save it as CSV (UTF-8)",
                place=Place(path=shown),
            )


def _as_asked(start: bytes, shown: str, asked: str, marked: Encoding | None) -> Encoding:
    try:
        codec = codecs.lookup(asked).name
        "".encode(codec if codec not in _NO_CHARACTER_SETS else "")
    except (LookupError, ValueError):  # ValueError: NUL, or a codec that always fails
        raise ListError(
            f'"{asked}" is not a known encoding',
            code="D127",
            hint="use a name such as utf-8, gb18030, big5, shift_jis, euc_kr, cp1252 or cp1251",
        ) from None
    if marked is None:
        if codec in {"utf-16", "utf-32"}:
            raise ListError(
                f"{shown} does not begin with the byte order mark that {codec.upper()} requires",
                code="D127",
                hint=f"if it is {codec.upper()} nevertheless, specify which one: {codec}-le or {codec}-be",
                place=Place(path=shown),
            )
        return Encoding(codec, _called(codec), _words_as(_whole_lines(start), shown, codec))
    if codec.replace("-", "_").startswith(marked.codec.partition("-sig")[0].replace("-", "_")):
        return marked
    raise ListError(
        f"{shown} begins with the byte order mark of {marked.name.removesuffix(' with BOM')}, not of {asked}",
        code="D127",
        hint="leave the encoding out",
        place=Place(path=shown),
    )


def _words_as(start: bytes, shown: str, codec: str) -> tuple[str, ...]:
    """Return some words of a file, decoded in the encoding that was specified.

    Raises:
        ListError: they are UTF-8, and valid in the other encoding only by chance.

    """
    if start.isascii() or codec.startswith(("utf", "iso2022")):
        return ()
    headings, _, body = start.partition(b"\n")
    words = list(dict.fromkeys((*_words(body), *_words(headings))))
    right = [word for word in words if _reads(word, codec)]
    if all(_reads(word, "utf-8") for word in words):
        from mailmerge.recipients.plausibility import MULTIPLE, sample, text_cost

        some = sample(words)
        doubt = CERTAIN if any(codec == several for _, several, _ in MULTIPLE) else CERTAIN / 4
        here, there = [word.decode(codec, "replace") for word in some], _decoded(some, "utf-8")
        if text_cost(here, codec) > text_cost(there, "utf-8") + doubt:
            raise ListError(
                f'{shown} is UTF-8 ("{_examples(there)[0]}"), not {codec} ("{_examples(here)[0]}")',
                code="D127",
                hint="leave the encoding out",
                place=Place(path=shown),
            )
    return _examples(sorted(_decoded(right[:_CHANCE], codec), key=lambda word: not word.isalpha()))


def _called(codec: str) -> str:
    from mailmerge.recipients.plausibility import NAMES

    return NAMES.get(codec, codec.upper()).partition(" (")[0]


def _wide(start: bytes) -> Encoding | None:
    """Find UTF-16 or UTF-32 without a byte order mark by the zero bytes of ASCII characters."""
    if b"\0" not in start:
        return None
    for codec in _WIDE[::-1]:
        width = 2 if "16" in codec else 4
        try:
            text = start[: len(start) // width * width].decode(codec, "strict")
        except UnicodeDecodeError as error:
            if error.start < len(start) - 4:
                continue
            text = start[: error.start].decode(codec)
        ascii_share = len(text.encode("ascii", "ignore")) / max(len(text), 1)
        if ascii_share > _SOME and re.search("[\n\r,;\t]", text) and not _NO_TEXT.search(text):
            return Encoding(codec, f"{codec.upper()} without BOM", _examples(_foreign_words(text)))
    return None


def _escaped(start: bytes, rest: BinaryIO) -> Encoding | None:
    """Find the encodings of mail programs that switch character sets by escape sequences."""
    if b"\x1b$" not in start or not start.isascii():
        return None
    raw = start + rest.read()
    for codec in _ESCAPED:
        if _reads(raw, codec) and not _NO_TEXT.search(text := raw.decode(codec)):
            return Encoding(codec, codec.upper().replace("_", "-"), _examples(_foreign_words(text)))
    return None


def _in_utf_8(start: bytes, path: Path, shown: str) -> Encoding | None:
    if not start.isascii():
        try:
            start.decode("utf-8")
        except UnicodeDecodeError as error:
            if error.reason != "unexpected end of data" or len(start) < _START:
                return None
        _refuse_chance(start, path, shown)
    return Encoding("utf-8", "UTF-8")


def _refuse_chance(start: bytes, path: Path, shown: str) -> None:
    """Refuse a few words that may be UTF-8 by chance, as one in forty short names in GB18030 is.

    Only words in which each character has two bytes can be. A second such name in the list is as rare again.
    """
    words = _words(start) if len(start) < _START else []
    raw = b"".join(words)
    if len(raw) > _CHANCE or not _PAIRS.fullmatch(raw):
        return
    from mailmerge.recipients.plausibility import readings, text_cost

    text = _decoded(words, "utf-8")
    found = readings(words)
    other = next((reading for reading in found if reading.double), None)
    if other is None or other.bits_a_character > PLAUSIBLE or not all(map(str.isalpha, text)):
        return
    if other.bits < text_cost(text, "utf-8") + CERTAIN / 2:
        likely = (Encoding("utf-8", "UTF-8", _examples(text)), *_shown(found, words))
        raise unclear(path, shown, likely)


# --- what only plausibility tells ----------------------------------------------------------------------


def _legacy(path: Path, shown: str) -> Encoding:
    from mailmerge.recipients.plausibility import readings

    words = words_of(path)
    found = readings(words)
    if is_mixed(words, found):
        return Encoding("utf-8", "UTF-8")  # and lines that are not are reported while it is read
    likely = _shown(found, words)
    if _is_certain(found):
        return Encoding(found[0].codec, _called(found[0].codec), likely[0].words)
    raise unclear(path, shown, likely)


def _is_certain(found: Sequence[Reading]) -> bool:
    """Return whether the first reading cannot be chance."""
    best = found[0]
    margin = found[1].bits - best.bits if len(found) > 1 else CERTAIN
    # Half-width katakana have one byte each: Thai can be read as these.
    narrow = sum(char in _HALF_WIDTH for word in best.words for char in word)
    several = best.double >= FEWEST and best.double * 2 >= narrow
    return several and margin >= CERTAIN and best.bits_a_character < PLAUSIBLE


def is_mixed(words: Sequence[bytes], found: Sequence[Reading]) -> bool:
    """Return whether some words are certainly UTF-8, while others are not."""
    valid = [word for word in words if _reads(word, "utf-8")]
    if not found or len(valid) == len(words):
        return True
    if not valid:
        return False
    from mailmerge.recipients.plausibility import readings, sample, text_cost

    less = CERTAIN / 2
    if len(words) == len(sample(words)):  # all words were weighed together: weigh them as two encodings too
        others = readings([word for word in words if not _reads(word, "utf-8")])
        apart = text_cost(_decoded(valid, "utf-8"), "utf-8") + others[0].bits if others else found[0].bits
        if apart + less < found[0].bits:
            return True
    some = sample(valid)
    codec = found[0].codec
    return text_cost(_decoded(some, "utf-8"), "utf-8") + less < text_cost(_decoded(some, codec), codec)


def unclear(path: Path, shown: str, likely: tuple[Encoding, ...]) -> Unclear:
    """Return the error that asks a person which encoding is right."""
    with path.open("rb") as file:
        line = next((number for number, raw in enumerate(file, 1) if not raw.isascii()), None)
    first, *others = [found.name for found in likely]
    less = f", less likely {' or '.join(others)}" if others else ""
    error = Unclear(
        f"the encoding of {shown} is not certain: probably {first}{less}",
        code="D230",
        hint=hint_of(likely),
        place=Place(path=shown, line=line),
    )
    error.likely = likely
    return error


def _shown(found: Sequence[Reading], words: Sequence[bytes]) -> tuple[Encoding, ...]:
    """Name the first readings, each with the same words, in which they differ."""
    from mailmerge.recipients.plausibility import NAMES

    best = [reading for reading in found[:_SHOWN] if reading.bits < found[0].bits + 2 * CERTAIN]
    some = list(words[:400])
    texts = [_decoded(some, reading.codec) for reading in best]
    differ = [len({text[at] for text in texts}) for at in range(len(some))]
    # Names before amounts, and of these the most telling words.
    chosen = sorted(range(len(some)), key=lambda at: (not texts[0][at].isalpha(), -differ[at]))[:_SHOWN]
    return tuple(
        Encoding(reading.codec, NAMES[reading.codec], _examples(text[at] for at in chosen))
        for reading, text in zip(best, texts, strict=True)
    )


def _examples(words: Iterable[str]) -> tuple[str, ...]:
    found = dict.fromkeys(excerpt(word, 20) for word in words)
    return tuple(found)[:_SHOWN]


def _foreign_words(text: str) -> list[str]:
    return [word for word in re.split(r"[\s\x00-/:-?]+", text[:20_000]) if not word.isascii()]


def _decoded(words: Iterable[bytes], codec: str) -> list[str]:
    return [word.decode(codec) for word in words]


def _reads(raw: bytes, codec: str) -> bool:
    try:
        raw.decode(codec)
    except UnicodeDecodeError:
        return False
    return True


def _blocks(file: BinaryIO) -> Iterator[bytes]:
    """Yield a file in blocks of whole lines."""
    while block := file.read(_BLOCK) + file.readline():
        yield block
