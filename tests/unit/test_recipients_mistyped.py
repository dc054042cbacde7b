"""Domains that were mistyped, and those that only look so."""

from __future__ import annotations

import pytest

from mailmerge.recipients.mistyped import domains, is_slip, meant_by

MISTYPED = {
    "gmial.com": "gmail.com",
    "gmai.com": "gmail.com",
    "gmail.co": "gmail.com",
    "gmail.con": "gmail.com",
    "gmaill.com": "gmail.com",
    "hotmial.com": "hotmail.com",
    "hotmai.com": "hotmail.com",
    "hotmal.co.uk": "hotmail.co.uk",
    "yahoo.con": "yahoo.com",
    "yaho.com": "yahoo.com",
    "yahooo.fr": "yahoo.fr",
    "outlok.com": "outlook.com",
    "iclould.com": "icloud.com",
    "example.con": "example.com",
    "mail.example.ogr": "mail.example.org",
    "t-online.ed": "t-online.de",
    "web.ed": "web.de",
    "163.con": "163.com",
    "qq.con": "qq.com",
    "gmx.dee": "gmx.de",
}
REAL = (
    *(
        "gmail.com",
        "gmx.com",
        "gmx.de",
        "gmx.net",
        "ymail.com",
        "mail.com",
        "email.com",
        "hotmail.co.uk",
        "live.cn",
    ),
    *(
        "aol.de",
        "me.com",
        "qq.com",
        "163.com",
        "126.com",
        "yahoo.co.jp",
        "yahoo.co.id",
        "outlook.sa",
        "hotmail.cl",
    ),
    *(
        "cloud.com",
        "wahoo.com",
        "example.com",
        "example.co",
        "example.de",
        "example.bet",
        "arbor.de",
        "never.com",
    ),
    *(
        "mail.ru",
        "yandex.com",
        "web.de",
        "webde.com",
        "gmailer.com",
        "protonmail.com",
        "proton.me",
        "harvard.ed",
    ),
)


@pytest.mark.parametrize(("domain", "meant"), MISTYPED.items())
def test_a_slip_and_what_was_meant(domain: str, meant: str) -> None:
    """One letter of a large provider's name, or an ending that is not a top-level domain."""
    assert meant_by(domain) == meant


@pytest.mark.parametrize("domain", REAL)
def test_a_domain_that_may_well_be_right(domain: str) -> None:
    """Other providers and companies are never questioned."""
    assert meant_by(domain) is None


def test_what_many_rows_have_is_no_slip() -> None:
    """A handful, or one row in a thousand."""
    assert is_slip(5, 10)
    assert not is_slip(6, 10)
    assert is_slip(50, 50_000)
    assert not is_slip(51, 50_000)


def test_domains_of_a_block() -> None:
    """In small letters, also of several addresses in one cell and behind names."""
    cells = ["A@X.org", "B <b@y.example>; c@z.org", ""]
    assert domains("\x1f".join(cells), 3, "\x1f") == ["x.org", "y.example", "z.org"]
    assert domains("a@x.org\x1fb@y.org", 2, "\x1f") == ["x.org", "y.org"]
    assert domains("a@x.org@y.org\x1f", 2, "\x1f") == ["x.org", "y.org"]
