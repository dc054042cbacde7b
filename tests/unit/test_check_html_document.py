"""Tags of a body in chunks: however it is cut, and whichever chunks are fixed, the same tags are found."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.check.html_document import HtmlDocument, TagReader
from mailmerge.check.rules.links import addresses

WANTED = re.compile(r"<(?:a|area|form|img)\s", re.IGNORECASE)
HTML = """\
<!DOCTYPE html><html lang="en"><!-- a < b --><body style="color: #333" onload='x > "y"'>
<p title="1 > 0">Dear Kim & Co, 3 < 4 <a class="btn"
  href="https://example.org/?u=1&amp;c=it's>here">Read</a></p>
<IMG alt='say "hi"' src = 'https://cdn.example.org/a.png'><area href=https://example.org/map>
<td bgcolor=red><form action="https://example.org/f"></form><a name="top">Top</a>
<a href="">empty</a> < a href="https://no.example/"> <b title="href=x">
<a href="https://example.org/last?q='quoted'">last</a></body></html>
"""


def read(chunks, fixed):
    """Return the addresses found twice in the same chunks: before and after they were remembered."""
    reader = TagReader(fixed, addresses, WANTED)
    first, second = list(reader.read(chunks)), list(reader.read(chunks))
    assert first == second
    return first


def test_whole():
    """Quotes and angle brackets inside of attributes end nothing."""
    assert [address for _, _, address in read([HTML], {HTML})] == [
        "https://example.org/?u=1&c=it's>here",
        "https://cdn.example.org/a.png",
        "https://example.org/map",
        "https://example.org/f",
        "",
        "https://example.org/last?q='quoted'",
    ]


@given(cuts=st.lists(st.integers(0, len(HTML)), max_size=40), fixed=st.integers(0, 2**42 - 1))
def test_cut_anywhere(cuts, fixed):
    """Chunks may begin in the middle of tags, names and quotes, but not right behind ``<`` or ``=``."""
    cuts = [cut for cut in cuts if not HTML[:cut].rstrip(" ").endswith(("<", "="))]
    edges = [0, *sorted(cuts), len(HTML)]
    chunks = [HTML[start:end] for start, end in pairwise(edges)]
    kept = {chunk for number, chunk in enumerate(chunks) if fixed >> number & 1}

    assert read(chunks, kept) == read([HTML], {HTML})


@pytest.mark.parametrize("value", ["", "x", "https://example.org/a", "&#34;&gt;&lt;a href=&#34;"])
def test_a_value_stays_where_it_is_printed(value):
    """An escaped value is part of its attribute, and of nothing else."""
    start, end = '<p>Hello</p><a href="', '">Go</a><img src="https://example.org/i.png">'

    found = read([start, value, end], {start, end})

    assert [element for element, _, _ in found] == ["a", "img"]
    assert found[0][1] == value


def test_memory_is_bounded():
    """Values are not remembered, nor more fixed chunks than a campaign has."""
    reader = TagReader(frozenset({"<a href='"}), addresses, WANTED)
    for number in range(1000):
        list(reader.read(["<a href='", f"https://example.org/{number}", f"'>{number}</a>"]))

    assert sum(map(len, reader._known.values())) == 1


def test_plain_line_breaks_are_spaces():
    """What is left has the same words and the same places; a line break with attributes is an element."""
    document = HtmlDocument.parse(["<p>one<br>two<br/>three<br />\n<br class=x> <b>four</b></p>"])
    assert document is not None
    places = {str(element.tag): document.spot(element)[0] for element in document.elements}

    assert document.shown_text == "one two three four"
    assert (places["br"], places["b"]) == (document.html.index("<br class"), document.html.index("<b>"))


def test_html_of_too_many_tags_is_not_parsed():
    """A cell that is HTML can have tags without end; line breaks do not count."""
    assert HtmlDocument.parse(["<p>", "<b>" * 20_001]) is None
    assert HtmlDocument.parse(["<p>", "a<br>" * 20_001]) is not None
