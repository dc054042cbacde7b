"""Addresses: what is one, what is not and why, and lists of them."""

from __future__ import annotations

import pytest
from email_validator import EmailNotValidError, validate_email
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.addresses import (
    Address,
    AddressError,
    Mailbox,
    is_address_literal,
    is_host,
    is_loopback,
    parse_address_list,
    suggest,
)

NOT_ADDRESSES = [
    ("a@x.org, b@y.org", "more than one address"),
    ("a@x.org b@y.org", "more than one address"),
    ("a@b)c@evil.org", "invalid characters"),
    ("a@b<c@evil.org>", "angle brackets"),
    ("a>b@x.org", "angle brackets"),
    ("a@xn--.org", "a period and a hyphen"),
    ("Kim <kim@x.org>", "angle brackets"),
    ('"x@gmail.com x"@internal', "in double quotes"),
    ('"kim"@x.org', "quot"),
    ("friends: a@b.org;", "a group of addresses"),
    ("undisclosed-recipients:;", "a group of addresses"),
    ('"a group": a@b.org, c@b.org;', "a group of addresses"),
    ("mailto:a@b.org", "begins with mailto:"),
    ('"john doe"@x.org', "in double quotes"),
    ('"a@b"@x.org', "in double quotes"),
    ("=?utf-8?q?kim?=@x.org", "encoded word"),
    ("=?x@x.org", "encoded word"),
    ("kim@ⓔxample.org", "means others (ⓔ)"),
    ("kim@𝐞xample.org", "means others (𝐞)"),
    ("kim@ﬁne.org", "means others (ﬁ)"),
    ("kim@exªmple.org", "means others (ª)"),
    ("<@relay.org:a@b.org>", "angle brackets"),
    ("a(comment)@b.org", "invalid characters"),
    ("a@[1.2.3.4]", "bracketed IP"),
    ("a@1.2.3.4", "ends in a number"),
    ("a@b", "no dot"),
    ("", "empty"),
    ("   ", "empty"),
    ("kim", "no @"),
    ("@x.org", ""),
    ("kim@", ""),
    (".a@x.org", "start with a period"),
    ("a..b@x.org", "two periods"),
    ("a" * 65 + "@x.org", "longer than 64"),
    ("a" * 64 + "@" + "x" * 63 + "." + "y" * 63 + "." + "z" * 58 + ".org", "too long"),
    ("a@" + ".".join(["x" * 60] * 5) + ".org", "too long"),
    ("kim@x_y.org", "invalid characters"),
    ("kim@-x.org", "hyphen"),
    ("kim@x.org\r\nBcc: v@x.org", "invisible or control"),
    ("kim@x.org\x00", "invisible or control"),
    ("=?utf-8?q?kim=40x.org?=", "encoded word"),
]


@pytest.mark.parametrize(("text", "reason"), NOT_ADDRESSES)
def test_d43_text_that_is_not_one_address(text, reason):
    """Whatever is not exactly one addr-spec is refused, with the reason."""
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert reason in str(caught.value)


@pytest.mark.parametrize(
    ("text", "suggestion"),
    [
        ("kim＠x.org", "kim@x.org"),
        ("kim@x.org．", "kim@x.org"),
        ("kim１@x.org", "kim1@x.org"),
        ("kim@x。org", "kim@x.org"),
        ("kim@x｡org", "kim@x.org"),
        ("kim@x﹒org", "kim@x.org"),
        ("kim﹫x.org", "kim@x.org"),
        ("kim\u3000@x.org", "kim@x.org"),
        ("kim\u00a0@x.org", "kim@x.org"),
        ("kim\u200b@x.org", "kim@x.org"),
        ("\ufeffkim@x.org", "kim@x.org"),
        ("kim@x.org.", "kim@x.org"),
        ("kim@gmial,com", "kim@gmail.com"),
        ("kim@gmail .com", "kim@gmail.com"),
        ("<kim@x.org>", "kim@x.org"),
        ("kim(at)x.org", "kim@x.org"),
        ("kim [AT] x [dot] org", "kim@x.org"),
        ("kim.lee {ät} x {punkt} org", "kim.lee@x.org"),
    ],
)
def test_look_alikes_are_refused_with_a_correction(text, suggestion):
    """Full-width forms, invisible characters and stray dots are never silently rewritten."""
    with pytest.raises(AddressError) as caught:
        Address.parse(text)
    assert caught.value.suggestion == suggestion


@pytest.mark.parametrize("local", ["k" * 64, "kim", "k"])
def test_an_address_may_be_as_long_as_rfc_5321_allows(local):
    """64 octets before the @, 254 in all."""
    labels = ("x." * 125)[: 254 - len(local) - len("@y.org")]
    text = f"{local}@{labels}y.org"

    assert len(text) == 254
    assert str(Address.parse(text)) == text
    with pytest.raises(AddressError):
        Address.parse(text.replace("@", "@w"))


def test_spellings_of_a_domain_are_one_address():
    """Equal are addresses with the same octets on the wire; nothing else equals an address."""
    kim = Address.parse("kim@bücher.example")

    assert kim == Address.parse("kim@xn--bcher-kva.example")
    assert len({kim, Address.parse("kim@xn--bcher-kva.example")}) == 1
    assert kim != Address.parse("bo@bücher.example")
    assert kim != Address.parse("kim@buecher.example")
    assert kim != "kim@xn--bcher-kva.example"


def test_suggest_knows_common_domains():
    """A near miss of a well-known domain is corrected, anything else is left alone."""
    assert suggest("kim@gmial.com") == "kim@gmail.com"
    assert suggest("kim@outlok.com") == "kim@outlook.com"
    assert suggest("kim@gmail.com") is None
    assert suggest("kim@example.org") is None
    assert suggest("nonsense") is None
    assert suggest("kim@ymail.com") is None


@pytest.mark.parametrize(
    ("host", "here"),
    [
        ("localhost", True),
        ("LOCALHOST.", True),
        ("ip6-localhost", True),
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::1%lo", True),
        ("127.0.0.1%lo", False),
        ("localhost.example.org", False),
        ("fe80::1%lo", False),
        ("192.0.2.1", False),
        ("", False),
    ],
)
def test_this_machine_is_known(host, here):
    """Names and addresses of the loopback interface, with a scope or without, and nothing else."""
    assert is_loopback(host) is here


@pytest.mark.parametrize(
    ("text", "host", "literal"),
    [
        ("smtp.example.org", True, False),
        ("xn--mller-kva.de.", True, False),
        ("192.0.2.1", True, False),
        ("2001:db8::1", True, False),
        ("::1%lo", False, False),
        ("[192.0.2.1]", False, True),
        ("[192.0.2.1", False, False),
        ("192.0.2.1]", False, False),
        ("[IPv6:2001:db8::1]", False, True),
        ("[IPv6:fe80::1%lo]", False, False),
        ("smtp.example.org:25", False, False),
        ("a b", False, False),
        ("m\u00fcller.de", False, False),
        ("a" * 64 + ".org", False, False),
        ("", False, False),
    ],
)
def test_hosts_and_address_literals_are_told_apart(text, host, literal):
    """A host goes into the account, a literal into EHLO; neither may contain a space, a port or a scope."""
    assert (is_host(text), is_address_literal(text)) == (host, literal)


@pytest.mark.parametrize(
    ("text", "wire"),
    [
        ("Kim.O'Neil+x@Example.ORG", "Kim.O'Neil+x@example.org"),
        ("kim@müller.example", "kim@xn--mller-kva.example"),
        ("kim@straße.de", "kim@xn--strae-oqa.de"),
        ("kim@例子.中国", "kim@xn--fsqu00a.xn--fiqs8s"),
        ("kim@mu\u0308ller.example", "kim@xn--mller-kva.example"),
        ("kim@xn--mller-kva.example", "kim@xn--mller-kva.example"),
        ("a" * 64 + "@x.org", "a" * 64 + "@x.org"),
        (" kim@x.org\t", "kim@x.org"),
    ],
)
def test_domains_go_out_as_a_labels(text, wire):
    """The wire form is ASCII, the local part as written, the domain in lower case."""
    assert str(Address.parse(text)) == wire


def test_the_unicode_domain_is_kept_for_people():
    """Reports can show both forms of an international domain."""
    assert Address.parse("kim@müller.example").shown == "müller.example"
    assert Address.parse("kim@example.org").shown == ""


def test_a_local_part_outside_ascii_is_refused():
    """It would need SMTPUTF8."""
    with pytest.raises(AddressError, match="SMTPUTF8"):
        Address.parse("jörg@example.org")


def test_normalised_folds_case_and_nothing_else():
    """Dots and tags are part of the identity."""
    assert Address.parse("Kim.X+y@Example.org").normalised == "kim.x+y@example.org"


@settings(max_examples=150, deadline=None)
@given(st.from_regex(r"[a-z0-9.!#'+=_\-\"( ]{1,12}@[a-z0-9.\-_\[]{1,14}", fullmatch=True))
def test_nothing_is_accepted_that_email_validator_refuses(text):
    """Our quick path and the general validator agree on what is an address."""
    try:
        ours = str(Address.parse(text))
    except AddressError:
        return
    try:
        theirs = validate_email(text.strip(), check_deliverability=False, globally_deliverable=False)
    except EmailNotValidError as error:
        pytest.fail(f"accepted {text!r} as {ours}: {error}")
    assert ours.lower() == theirs.normalized.lower()


def mailbox(name, address):
    return Mailbox(name, Address.parse(address))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a@x.org", [("", "a@x.org")]),
        (
            "a@x.org, b@y.org;c@z.org\nd@z.org",
            [("", f"{c}") for c in ("a@x.org", "b@y.org", "c@z.org", "d@z.org")],
        ),
        ("a@x.org;\r\n", [("", "a@x.org")]),
        (
            '"Müller, Jörg" <j@x.org>; Kim Lee <k@x.org>',
            [("Müller, Jörg", "j@x.org"), ("Kim Lee", "k@x.org")],
        ),
        (r'"say \"hi\"; now" <a@x.org>', [('say "hi"; now', "a@x.org")]),
        ('"a@evil.org" <b@x.org>', [("a@evil.org", "b@x.org")]),
        (" , ;", []),
        ("", []),
    ],
)
def test_lists(text, expected):
    """Separators are , ; and line breaks outside quotes; empty items do no harm."""
    assert parse_address_list(text) == tuple(mailbox(*item) for item in expected)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Müller, Jörg <j@x.org>", 'in "Müller"'),
        ("a@x.org b@y.org", "more than one"),
        ('"open <a@x.org>', "not closed"),
        ("a@evil.org <b@x.org>", "double quotes"),
        ("a@x.org, nonsense", 'in "nonsense"'),
        ("Kim <k@x.org> x", "angle brackets"),
        ("k@x.org>", "angle brackets"),
    ],
)
def test_lists_are_strict(text, reason):
    """One bad item refuses the list, and the message quotes it."""
    with pytest.raises(AddressError) as caught:
        parse_address_list(text)
    assert reason in str(caught.value)


def test_two_spellings_of_a_domain_are_one_address() -> None:
    """What is equal is not unequal either, whatever was shown of it."""
    one, other = (
        Address("me", "xn--bcher-kva.example"),
        Address("me", "xn--bcher-kva.example", "bücher.example"),
    )

    assert one == other
    assert not one != other  # noqa: SIM202  that is the question
    assert one != Address("You", "xn--bcher-kva.example")


def test_a_long_text_is_not_searched_for_a_hidden_address():
    """A cell of spaces would take minutes; nobody hides an address in so many."""
    assert suggest(" " * 100 + "ann (at) example (dot) org") == "ann@example.org"
    assert suggest(" " * 60_000 + "ann (at) example (dot) org") is None


def test_a_list_of_addresses_has_a_limit():
    """A thousand of them are read; a cell without end is refused before it is."""
    assert len(parse_address_list(",".join(f"user{number}@example.org" for number in range(1000)))) == 1000
    with pytest.raises(AddressError, match="longer than 32,768 characters"):
        parse_address_list("a@example.org," * 3000)
