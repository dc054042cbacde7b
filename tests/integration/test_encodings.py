"""The encodings of text lists: whatever a list is in, nothing is read wrongly in silence."""

from __future__ import annotations

import random
import tomllib
import unicodedata
from collections import Counter
from pathlib import Path

import pytest

from mailmerge.errors import ListError
from mailmerge.recipients import open_list
from mailmerge.recipients.encodings import Unclear, find_encoding

NAMES = tomllib.loads((Path(__file__).parents[1] / "data" / "names.toml").read_text("utf-8"))
PAIRS = [(locale, encoding) for locale, table in NAMES.items() for encoding in table["encodings"]]
DOUBLE = {"gb18030", "big5", "big5hkscs", "euc-jp", "cp949", "johab"}
SEED = 11


def people(locale, encoding, rows, chance):
    """Make a list of so many people, as bytes."""
    given, family = (written_in(encoding, NAMES[locale][kind].split()) for kind in ("given", "family"))
    names = [(chance.choice(given), chance.choice(family)) for _ in range(rows)]
    if all(b"".join(name).isascii() for name in names):
        names[-1] = next((a, b) for a in given for b in family if not (a + b).isascii())
    lines = (b"%d@example.org,%s,%s\n" % (number, *name) for number, name in enumerate(names))
    return b"email,given,family\n" + b"".join(lines)


def written_in(encoding, names):
    """Encode the names that can be."""
    found = []
    for name in names:
        text = written_for_1258(name) if encoding == "cp1258" else name
        if text.encode(encoding, "ignore").decode(encoding) == text:
            found.append(text.encode(encoding))
    return found


def written_for_1258(text):
    """Put the tones behind their letters, as Windows-1258 has them."""
    found = []
    for char in text:
        parts = unicodedata.normalize("NFD", char)
        tones = "".join(part for part in parts if part in "\u0300\u0301\u0303\u0309\u0323")
        found.append(unicodedata.normalize("NFC", "".join(p for p in parts if p not in tones)) + tones)
    return "".join(found)


def outcome(path, raw, encoding):
    """Return what becomes of a list: taken, asked with the right one first, asked otherwise, or wrong."""
    path.write_bytes(raw)
    truth = raw.decode(encoding)
    assert not raw.isascii()
    try:
        found = find_encoding(path, "people.csv", None)
    except Unclear as error:
        right = [raw.decode(likely.codec) == truth for likely in error.likely]
        return "asked, first" if right[0] else "asked, listed" if any(right) else "asked, not listed"
    return "taken" if raw.decode(found.codec, "replace") == truth else "WRONG"


def measured(folder, rows, lists):
    """Count what becomes of generated lists, by locale and encoding."""
    chance = random.Random(SEED)
    path = folder / "people.csv"
    return {
        (locale, encoding): Counter(
            outcome(path, people(locale, encoding, rows, chance), encoding) for _ in range(lists)
        )
        for locale, encoding in PAIRS
    }


@pytest.mark.parametrize(
    ("rows", "lists", "taken", "first", "listed"),
    [(3, 6, 0.95, 0.94, 0.99), (10, 3, 1.0, 0.97, 1.0), (100, 1, 1.0, 1.0, 1.0)],
)
def test_no_list_is_read_wrongly_in_silence(tmp_path, rows, lists, taken, first, listed):
    """Lists of 26 sets of names in 80 ways: none is wrong; several bytes a character are mostly taken."""
    found = measured(tmp_path, rows, lists)
    total: Counter[str] = sum(found.values(), Counter())
    several: Counter[str] = sum(
        (count for (_, encoding), count in found.items() if encoding in DOUBLE), Counter()
    )
    asked = total["asked, first"] + total["asked, listed"] + total["asked, not listed"]

    assert total["WRONG"] == 0, (SEED, found)
    assert several["taken"] >= taken * several.total(), (SEED, several)
    assert total["asked, first"] >= first * asked, (SEED, total)
    assert total["asked, first"] + total["asked, listed"] >= listed * asked, (SEED, total)


def test_one_byte_a_character_is_never_taken(tmp_path):
    """However many names a list has: which of these encodings it is in is for a person to confirm."""
    for (locale, encoding), count in measured(tmp_path, 10, 1).items():
        if encoding not in {*DOUBLE, "cp932"}:
            assert count["taken"] == 0, (SEED, locale, encoding)


LOOK_ALIKES = {
    "capitals": ("MÜLLER\nJÄGER\n", "cp1252"),
    "capitals of a Mac": ("MÜLLER\nJÄGER\nGROßE\n", "mac-roman"),
    "one letter": ("Zoë\n", "cp1252"),
    "only what Word writes": ("O’Brien\n“Tiny” Tim\nnow – later\n", "cp1252"),
    "only a currency": ("50 €\n20 €\n", "cp1252"),
    "a currency in numbers": ("50€\n1.234,50€\n", "cp1252"),
    "Hungarian": ("Erdős\nSzűcs\nGergő\n", "cp1250"),
    "Turkish": ("Işık\nDoğan\nŞahin\n", "cp1254"),
    "Thai, that half-width katakana may be": ("บุญญามี,วิลาสินี\nปาริตา,นาคสุทิน\nอรุณี,ถนัดอักษร\n", "cp874"),
    "even words of Russian": ("Иван\nОльга Ли\nМарк\n", "koi8-r"),
    "half-width katakana": ("ﾔﾏﾀﾞ ﾀﾛｳ\nｽｽﾞｷ ﾊﾅｺ\n", "cp932"),
    "one Chinese name": ("王小明\n", "gb18030"),
    "a Chinese name that is UTF-8 by chance": ("肖小\n", "gb18030"),
    "a Korean name that is UTF-8 by chance": ("채철\n", "cp949"),
}


@pytest.mark.parametrize(("names", "encoding"), LOOK_ALIKES.values(), ids=LOOK_ALIKES)
def test_what_looks_like_something_else_is_asked_with_the_right_one(tmp_path, names, encoding):
    """What little or misleading text cannot tell is asked, and the right encoding is among those shown."""
    raw = f"email,name\n{names}".encode(encoding)
    assert outcome(tmp_path / "people.csv", raw, encoding).startswith(("asked, first", "asked, listed"))


@pytest.mark.parametrize(
    "word", ["Öberg", "é", "Ångström", "à", "µ", "Ян", "Ω", "محمد", "כהן", "Ä Ö", "€", "小"]
)
def test_a_single_word_in_utf_8_is_utf_8(tmp_path, word):
    """A list of which one word is not ASCII is read without a question."""
    path = tmp_path / "people.csv"
    path.write_text(f"email,name\na@x.org,{word}\n", encoding="utf-8")
    assert find_encoding(path, "people.csv", None).codec == "utf-8"


@pytest.mark.parametrize("encoding", ["cp500", "cp037", "mac_arabic", "hp_roman8", "iso8859_10", "kz1048"])
def test_an_encoding_that_is_not_looked_for_is_never_read_as_another(tmp_path, encoding):
    """EBCDIC and other rare encodings are refused: what other encodings make of them is not text."""
    path = tmp_path / "people.csv"
    names = (
        "محمد,العلي"
        if encoding == "mac_arabic"
        else "Иванов,Ольга"
        if encoding == "kz1048"
        else "Jörg,Müller"
    )
    path.write_bytes(f"email,given,family\na@x.org,{names}\n".encode(encoding) * 20)
    with pytest.raises(ListError):
        list(open_list(path))


def test_what_was_found_is_stated_with_names(tmp_path):
    """What was taken without asking is said with words of the list that show whether it is right."""
    path = tmp_path / "people.csv"
    path.write_bytes("email,name\na@x.org,王小明\nb@x.org,張國榮\nc@x.org,陳美玲\n".encode("big5"))
    assert open_list(path).understanding.encoding == "Big5 (王小明, 張國榮, 陳美玲)"


def test_a_long_list_is_decided_by_a_part_of_its_words(tmp_path):
    """All bytes of a list are looked at: one that another encoding does not have decides."""
    lines = [f"p{at}@x.org,Müller{chr(97 + at % 26)},Jörg\n" for at in range(3000)]
    path = tmp_path / "people.csv"
    path.write_bytes(("email,name,given\n" + "".join(lines) + "z@x.org,Dvořák,Ž\n").encode("cp1250"))
    with pytest.raises(Unclear) as caught:
        find_encoding(path, "people.csv", None)
    assert caught.value.likely[0].codec == "cp1250"
