"""Text and figures as people read them."""

from __future__ import annotations

import html
import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailmerge.text import (
    BLANKS,
    did_you_mean,
    duration,
    excerpt,
    figure,
    guarded,
    near,
    numbers,
    octets,
    plural,
    printable,
    quoted,
    toml_key,
    toml_value,
    unescaped,
    unguarded,
    width,
)


def test_blanks_are_what_python_calls_spaces() -> None:
    """They are written down, not computed whenever the program starts."""
    assert "".join(filter(str.isspace, map(chr, range(0x110000)))) == BLANKS


def test_unseen_characters_become_escapes() -> None:
    """Escape sequences, bidi marks, odd spaces and halves of characters are shown, not obeyed."""
    assert printable("\x1b]0;owned\x07 \u202eevil") == r"\x1b]0;owned\x07 \u202eevil"
    assert printable("a\tb\u00a0c\u2028\ud800\r\n") == r"a\tb\xa0c\u2028\ud800\r\n"


def test_letters_of_every_script_stay() -> None:
    """Nothing that people write is changed, combining marks and pictures included."""
    assert printable("Zoë 張偉 ü–… e\u0301 👍") == "Zoë 張偉 ü–… e\u0301 👍"


def test_an_excerpt_is_cut_with_a_mark() -> None:
    """What is longer than the limit ends in an ellipsis, what is not stays whole."""
    assert excerpt("abcdef", 3) == "abc…"
    assert excerpt("abc", 3) == "abc"
    assert excerpt("a\nb") == r"a\nb"


def test_a_quoted_value_is_one_json_like_word() -> None:
    """Quotes and control characters are escaped as in JSON, and long values are cut."""
    assert quoted('a"b\n\\') == r'"a\"b\n\\"'
    assert quoted("x" * 100, limit=5) == '"xxxx…"'
    assert quoted(12) == '"12"'


def test_wide_characters_take_two_cells() -> None:
    """Combining marks take none, Chinese characters two."""
    assert width("ab") == 2
    assert width("王a") == 3
    assert width("e\u0301") == 1


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("amout", ("amount",)),
        ("First Name", ("first_name",)),
        ("FRIST_NAME", ("first_name",)),
        ("to", ("to",)),
        ("ot", ("to",)),
        ("t", ("to",)),
        ("nothing like it", ()),
    ],
)
def test_near_misses_are_found(name: str, meant: tuple[str, ...]) -> None:
    """Left out, added, changed and swapped letters, other cases and spaces find the name that was meant."""
    assert near(name, ["amount", "first_name", "to", "address"]) == meant


def test_near_misses_come_best_first_and_three_at_most() -> None:
    """One slip outranks what is only similar, and a long list of hits helps nobody."""
    assert near("D11", ["D110", "D112", "D113", "D114", "D210"]) == ("D110", "D112", "D113")


def test_strict_near_misses_leave_names_alone_that_may_be_right() -> None:
    """``gmx.se`` is somebody's domain: only what can hardly be anything else is suggested."""
    domains = ["gmx.de", "gmail.com", "web.de"]

    assert near("gmx.se", domains, strict=True) == ()
    assert near("gmial.com", domains, strict=True) == ("gmail.com",)


def test_a_hint_names_what_may_have_been_meant() -> None:
    """Several candidates are joined by "or"; without any, no hint is given."""
    assert did_you_mean("D11", ["D110", "D112"]) == "did you mean `D110` or `D112`?"
    assert did_you_mean("plan", ["address"]) is None


def test_counts_agree_with_their_nouns() -> None:
    """One is singular, all else is plural, thousands are grouped."""
    assert [plural(n, "row") for n in (0, 1, 2000)] == ["0 rows", "1 row", "2,000 rows"]
    assert plural(2, "address", "addresses") == "2 addresses"


def test_row_numbers_say_whether_there_are_more() -> None:
    """The mark at the end represents the rows that are not named."""
    assert numbers([2, 17]) == "2, 17"
    assert numbers([2, 17], more=True) == "2, 17, ..."


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "under 1 ms"),
        (0.25, "0.25 s"),
        (2.5, "2.5 s"),
        (12, "12 s"),
        (200, "3 min 20 s"),
        (1800, "30 min"),
        (3600, "1 h"),
        (7500, "2 h 05 min"),
        (90_000, "1 d 1 h"),
    ],
)
def test_spans_of_time_have_two_units_at_most(seconds: float, words: str) -> None:
    """The larger the span, the coarser its words."""
    assert duration(seconds) == words


def test_sizes_are_written_in_steps_of_a_thousand() -> None:
    """Small sizes are exact, large ones have one decimal."""
    assert [octets(n) for n in (940, 14_230, 3_100_000)] == ["940 B", "14.2 KB", "3.1 MB"]


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0, "0"),
        (30_000, "30,000"),
        (2021.6, "2,022"),
        (99.96, "100"),
        (33.333, "33.3"),
        (6.0, "6"),
        (0.5, "0.5"),
        (0.012345, "0.0123"),
        (3e7, "30,000,000"),
    ],
)
def test_a_figure_has_no_exponent(value: float, shown: str) -> None:
    """About three digits, for people."""
    assert figure(value) == shown


PARTS = ["=1+1", "+", "-", "@", "'", "\t", "\r", "\n", ";", ",", '"', " ", "a", "\uff1d", "550", "'="]


@given(st.lists(st.sampled_from(PARTS), max_size=8).map("".join))
@example("550 no;=cmd()")
@example('x;"=cmd()')
@example("x\n=cmd()\r\n@cmd")
@example("'=x")
def test_f42_no_reader_of_tables_finds_a_formula(text: str) -> None:
    """Whatever separates cells for a spreadsheet program, none begins like a formula; all comes back."""
    shown = guarded(text)

    assert not re.search(r'(?:\A|[,;\t\r\n][ "]*)[=+@\uff1d-]', shown)
    assert not re.match(r"[\t\r]", shown)
    assert unguarded(shown) == text


def test_f42_plain_text_is_left_alone() -> None:
    """A reply with commas, hyphens and semicolons inside reads as the server wrote it."""
    for text in ("550 5.1.1 no such user; see a-b=c", "a;b", "", "x - y", "mail from + to"):
        assert guarded(text) == text


@pytest.mark.parametrize(
    "value",
    [
        "a\U000e0041b",  # a tag character: invisible, and beyond what four digits can write
        "\u202eevil \u200b\x7f\x00",
        'tab\t, line\nend, "quotes" and \\',
        "Zoë 張偉 👍",
        ["a", "b\U000e0041"],
        {"a key": "a\nb", "other": ["c"]},
        True,
        465,
        1.5,
    ],
)
def test_toml_is_read_back_and_shows_everything(value):
    """What we write into a campaign's file is what is read from it, and nothing in it is invisible."""
    written = toml_value(value)

    assert tomllib.loads(f"{toml_key('a key')} = {written}") == {"a key": value}
    assert written.isprintable()


def test_paths_are_strings_in_toml():
    """A path is written as it is, whatever is in its name."""
    assert tomllib.loads(f"source = {toml_value(Path('lists/my people.csv'))}") == {
        "source": "lists/my people.csv"
    }


@given(
    st.lists(
        st.sampled_from(["&amp;", "&lt;", "&gt;", "&quot;", "&#34;", "&#39;", "lt;", "&", "x", "&copy;"]),
        max_size=12,
    ),
    st.booleans(),
)
def test_many_entities_are_decoded_like_few(pieces, other):
    """Whatever is next to what: also an escaped entity, and one that escaping does not make."""
    text = "".join(pieces) + "&#39;" * 200 + ("&eacute;" if other else "")

    assert unescaped(text) == html.unescape(text)
