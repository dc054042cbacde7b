"""The short way for ordinary links judges as the long way does."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

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
    what = "picture" if element == "img" else "link"
    unusable = links._unusable(what, address)
    expected = (unusable,) if unusable else tuple(links._doubtful(what, address))
    assert links.judge.__wrapped__(element, address) == expected
