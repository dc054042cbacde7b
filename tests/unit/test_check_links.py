"""The short way for ordinary links judges as the long way does."""

from __future__ import annotations

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from mailmerge.check.html_document import TagReader
from mailmerge.check.rules import links

PARTS = [
    *(
        "https://",
        "http://",
        "HTTPS://",
        "www.",
        "bit.ly",
        "t.co",
        "example.com",
        "a.local",
        "x.internal",
        "localhost",
    ),
    *(
        "127.0.0.1",
        "10.0.0.1",
        "1.2.3.com",
        ":80",
        ":x",
        "/",
        "?a=b",
        "#x",
        " ",
        "{{ x }}",
        "%7B%7B",
        "<",
        '"',
        "ü",
    ),
    *("@", "user:pw@", "[::1]", "\\", "\n", "\t", "-", ".", "..", "cdn", "&", "|", "~", "`", "^"),
]


@pytest.mark.parametrize(
    "address",
    [
        "https://example.org",
        "https://news.example.org/a/1?u=2a4f&c=spring#top",
        "https://www.example.org:8443/~me",
    ],
)
def test_ordinary_links_are_fine(address):
    """A whole https address of a public name raises nothing."""
    assert links.judge("a", address) == ()


@given(
    start=st.sampled_from(["https://", ""]),
    parts=st.lists(st.sampled_from(PARTS), max_size=6),
    element=st.sampled_from(["a", "img"]),
)
def test_short_way_judges_as_the_long_way(start, parts, element):
    """Whatever an address is made of, looking only at its form never hides a finding."""
    address = start + "".join(parts)
    what = "an image" if element == "img" else "a link"
    unusable = links._unusable(what, address)
    expected = (unusable,) if unusable else tuple(links._doubtful(what, address))
    assert links.judge.__wrapped__(element, address) == expected


BEFORE = [
    '<a href="https://example.org/?u=',
    '<a class="btn" href="https://example.org/?u=',
    "<a href='https://example.org/?u=",
    '<a href="https://',
    '<a href="https://bit.ly/',
    '<a href="https://example.org/?a=1&',
    '<a href="https://example.org/?a=1&#',
    '<a href="',
    '<a title="',
    '<img src="https://cdn.example.org/',
    '<td class="',
]
AFTER = ['">', "'>", '&amp;c=1">', '" class="x">', ';b=2">', '.local/x">', '%7B%7B">', '" href="x">']
VALUES = ["", "abc", "34", "quot", "x.local", "bit.ly", "a b", "&#34;", "&lt;", "7B", "12.5", "é", "%7B%7B"]


def judged(html):
    """Return what is wrong with the links of a whole body, address by address."""
    return [
        (address, found.code)
        for element, _, address in links.addresses(html)
        for found in links.judge(element, address)
    ]


@given(
    before=st.sampled_from(BEFORE),
    after=st.sampled_from(AFTER),
    middle=st.sampled_from(["", "/", "&amp;d=", "&"]),
    rows=st.lists(st.tuples(st.sampled_from(VALUES), st.sampled_from(VALUES)), min_size=1, max_size=6),
)
def test_rows_before_make_no_difference(before, after, middle, rows):
    """Whatever plain values went by, each row's links are judged as if they were the first."""
    assume(("'" in before) == ("'" in after))
    reader = TagReader(
        {before, middle, after}, links._bad_addresses, links._WITH_ADDRESS, links._any_value_will_do
    )
    for first, second in rows:
        chunks = [before, first, middle, second, after, "Go</a>"]

        found = [(address, finding.code) for _, address, finding in reader.read(chunks)]

        assert found == judged("".join(chunks))
