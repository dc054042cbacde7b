"""Junk: what programs leave in cells is named, and what people write is left alone."""

from __future__ import annotations

import contextlib

import pytest

from mailmerge.recipients.junk import _CODE_PAGES, garbled, names_something, search


def found(text: str, *, name: bool = False) -> list[str]:
    """Return the codes that are reported for a cell."""
    return [kind.code for _, kind in search(text, [text], name=name)]


JUNK = {
    "D255": (
        "#REF!",
        "#N/A",
        "#DIV/0!",
        "#BEZUG!",
        "#NV",
        "#WERT!",
        "#VALEUR!",
        "#¡VALOR!",
        "#ССЫЛКА!",
        "########",
        "###",
        "Err:502",
    ),
    "D256": (
        "nan",
        "NaN",
        "NaT",
        "None",
        "NULL",
        "null",
        "<NA>",
        "NA",
        "undefined",
        "[object Object]",
        "nan nan",
        "\\N",
    ),
    "D257": ("1.38E+10", "1,38E+10", "4.5E+15", "-1E+12"),
    "D258": (
        "JÃ¶rg",
        "Ana Leeâ€™s",
        "MÃ¼ller",
        "Å�".replace("\ufffd", "\x81") + "ukasz",
        "锟斤拷",
        "JÃ¶rg Müller",
        "JÃƒÂ¶rg",
    ),
    "D259": (
        '="00716"',
        "M&uuml;ller",
        "O&#39;Brien",
        "A &amp; B",
        "J\\u00f6rg",
        "J%C3%B6rg",
        "'00716",
    ),
    "D260": (
        "*|FNAME|*",
        "%%name%%",
        "«First_Name»",
        "${name}",
        "{!Contact.Name}",
        "[[name]]",
        "<<First Name>>",
        "{{ name }}",
    ),
    "D261": ("ana(at)example.com", "ana [at] example [dot] com", "ana{at}example.com"),
}


@pytest.mark.parametrize(("code", "text"), [(code, text) for code, texts in JUNK.items() for text in texts])
def test_what_programs_leave_in_cells_is_named(code: str, text: str) -> None:
    """Each kind has its code, whatever column it is in."""
    assert found(text) == [code]


PEOPLE = (
    *(
        "Müller",
        "Jörg",
        "João",
        "NÃO",
        "GÓŁ",
        "Łódź",
        "Őrsi",
        "Nguyễn",
        "Şahin",
        "Đặng",
        "Åse",
        "Ñandú",
        "L’Été",
    ),
    *("„Spaß“", "“CAFÉ”", "NAÏ…", "Ñ…", "Ü…", "A4 – Übersicht", "Rock ‘n’ Roll", "100 €", "20 °C", "Œuvre"),
    *(
        "Её",
        "Артём",
        "Ірина",
        "Київ",
        "«Ромашка»",
        "« Paris »",
        "«NZZ»",
        "Ελένη",
        "王小明",
        "小",
        "佐藤 縁",
        "김철수",
    ),
    *(
        "O'Brien",
        "R&D",
        "AT&T; Inc",
        "Müller & Söhne",
        "#1",
        "##",
        "C#",
        "#WIN!",
        "12:50",
        "Err: none",
        "Nancy",
    ),
    *(
        "Nonette",
        "1.50",
        "716.0",
        "6.02E+3",
        "E+10",
        "100 %",
        "50%C",
        "[sic]",
        "(at home)",
        "look at this",
        "{a}",
    ),
    *(
        "https://x.org/J%C3%B6rg",
        "a=b",
        "=)",
        "<3",
        "C:\\users",
        "A*|B",
        "-",
        "n/a",
        "Nulla",
        "Nano",
        "x_y_z",
    ),
)


@pytest.mark.parametrize("text", PEOPLE)
def test_what_people_write_is_no_junk(text: str) -> None:
    """Names, prices, addresses and signs in many scripts are left alone."""
    assert found(text) == []


@pytest.mark.parametrize(
    "name",
    [
        "Jörg Müller",
        "Ana Lee’s",
        "Łukasz Żółć",
        "Şahin Öztürk",
        "Дмитрий",
        "François",
        "Nguyễn",
        "Zoë",
        "Ñandú",
    ],
)
@pytest.mark.parametrize("page", ["latin-1", "cp1252", *_CODE_PAGES])
def test_utf_8_that_was_read_in_another_encoding_is_garbled(name: str, page: str) -> None:
    """Whatever code page it was, as far as that page has a character for each octet."""
    with contextlib.suppress(UnicodeDecodeError):
        assert garbled(name.encode().decode(page).strip()) is not None


@pytest.mark.parametrize(
    ("text", "meant"), [("J枚rg", "Jörg"), ("Jﾃｶrg", "Jörg"), ("J철rg", "Jörg"), ("JÃ¶rg", "Jörg")]
)
def test_what_was_meant_by_a_garbled_text(text: str, meant: str) -> None:
    """East Asian encodings leave letters among Latin ones that nobody writes there."""
    assert garbled(text) == meant


@pytest.mark.parametrize("text", ["716.0", "716,0", "6.02E+3", "1e5"])
def test_ids_have_neither_decimals_nor_exponents(text: str) -> None:
    """A number that is a name of something is never written so, one to reckon with may be."""
    assert found(text, name=True) == ["D257"]
    assert found(text) == []


@pytest.mark.parametrize(
    "heading",
    [
        "id",
        "Phone",
        "Phone Number",
        "zip",
        "Kunden-Nr.",
        "Kundennummer",
        "CustomerID",
        "order_id",
        "Tel.",
        "手机",
        "Account No",
    ],
)
def test_headings_of_ids_and_telephone_numbers(heading: str) -> None:
    """They are known in the words of many languages."""
    assert names_something(heading)


@pytest.mark.parametrize(
    "heading", ["amount", "Betrag", "first", "Note", "city", "video", "paid", "valid", "Casino"]
)
def test_headings_of_other_columns(heading: str) -> None:
    """Words that merely contain one of these are others."""
    assert not names_something(heading)


def test_a_block_names_the_places_of_its_cells() -> None:
    """Only the cells that are junk come up, each by its place."""
    cells = ["Ana", "#REF!", "", "O'Brien & Co", "nan", "JÃ¶rg"]
    assert [(at, kind.code) for at, kind in search("\x1f".join(cells), cells, name=False)] == [
        (4, "D256"),
        (1, "D255"),
        (5, "D258"),
    ]
