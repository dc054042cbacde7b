"""Folding: whatever a header says comes back from three parsers, no blank lost and none doubled."""

from __future__ import annotations

import email
import email.policy
import json
import random
import re
import subprocess
from email.header import decode_header, make_header
from email.utils import getaddresses

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mailmerge.addresses import Address, Mailbox
from mailmerge.message import header_fields, verify
from servers import programs

NAMES = ("Subject", "X-Note", "List-Help", "Comments")
SENTENCES = "Arrive and please ring twice.  Of soon was twice shipped at.  Monday was are ring much."
PIECES = [
    *(
        "a",
        "word",
        "Customer-Number:",
        "2025/117,",
        "(at)",
        "=?utf-8?q?x?=",
        "=?",
        '"',
        "\\",
        "<b@c.org>",
        ";",
    ),
    *(
        "x" * 30,
        "y" * 75,
        "z" * 200,
        "https://example.org/" + "p" * 60,
        "ü",
        "Größe",
        "王小明",
        "日本語" * 20,
    ),
    *("👍", "👩‍👩‍👧‍👦🏳️‍🌈", "e\u0301", "a" + "\u0301" * 40, "שלום", "\u00a0", "\u200b"),
]
BLANKS = [" "] * 12 + ["  ", "   ", " " * 40, " " * 80]
texts = (
    st.lists(st.tuples(st.sampled_from(PIECES), st.sampled_from(BLANKS)), min_size=1, max_size=40)
    .map(lambda pairs: "".join(piece + blank for piece, blank in pairs).strip())
    .filter(bool)
)
PARSE = """
import PostalMime from 'postal-mime';
const blocks = JSON.parse(await new Promise(done => {
  let all = ''; process.stdin.on('data', more => all += more); process.stdin.on('end', () => done(all)); }));
const found = [];
for (const block of blocks) {
  const message = await PostalMime.parse(block);
  found.push({subject: message.subject, name: message.to[0].name, address: message.to[0].address,
    headers: Object.fromEntries(message.headers.map(one => [one.key, one.value]))});
}
console.log(JSON.stringify(found));
"""


def names_for(text: str) -> list[str]:
    """Leave out the header that machines read, where it cannot have this text."""
    fits = text.isascii() and max(map(len, text.split(" "))) < 900
    return [name for name in NAMES if fits or name != "List-Help"]


def block(text: str) -> bytes:
    """Write *text* as every kind of header, and as a display name."""
    fields = [header_fields.unstructured(name, text) for name in names_for(text)]
    boxes = [Mailbox(text, Address.parse("kim@example.org")), Mailbox(text, Address.parse("lee@example.org"))]
    return b"".join([*fields, header_fields.mailboxes("To", boxes)])


def unfolded(value: str) -> str:
    return re.sub(r"\r?\n(?=[ \t])", "", value)


def decoded(value: str) -> str:
    return str(make_header(decode_header(unfolded(value))))


@given(texts)
@example(SENTENCES * 4)
@example("a  " * 100 + "a")
@example(" ".join(["word"] * 300))
@example("Worshipful Company of Makers of Playing Cards Education Committee of London")
@example("St. Mary's Parish Council (Hall & Grounds Committee),  Honorary Secretary and Treasurer")
def test_d41_what_a_header_says_comes_back(text: str) -> None:
    """Two parsers read each header as it was; lines are short where they can be; our last check agrees."""
    written = block(text)
    names = names_for(text)
    verify.verify_headers(written, [*names, "To"])
    longest = max(map(len, re.split("(?<! ) (?! )", text)))  # no line is broken inside of these
    for line in written.split(b"\r\n"):
        assert len(line) <= 78 or (len(line) < 998 and longest > 60)
        assert not line.startswith(b" ") or line.strip()
        assert line == line.rstrip(b" ")
    old = email.message_from_bytes(written)
    new = email.message_from_bytes(written, policy=email.policy.default)
    for name in names:
        if name == "List-Help":  # it is never an encoded word, and a run of spaces is one
            assert unfolded(str(old[name])) == " ".join(text.split())
            continue
        assert decoded(str(old[name])) == text
        if "=?" not in text:
            assert str(new[name]) == text
    pairs = getaddresses([unfolded(str(old["To"]))])
    assert [(decoded(name), address) for name, address in pairs] == [
        (text, "kim@example.org"),
        (text, "lee@example.org"),
    ]
    assert [box.addr_spec for box in new["To"].addresses] == ["kim@example.org", "lee@example.org"]


@pytest.mark.parametrize("seed", [20261127])
def test_d41_a_third_parser_reads_it_so(seed: int) -> None:
    """postal-mime, which web clients use, gives back the same headers and names."""
    modules = programs.require_npm("postal-mime")
    dice = random.Random(seed)
    values = [SENTENCES * 4, "a  " * 100 + "a"]
    while len(values) < 300:
        pieces = [
            dice.choice(PIECES) + dice.choice(BLANKS if dice.random() < 0.3 else [" "])
            for _ in range(dice.randrange(1, 40))
        ]
        values.append("".join(pieces).strip() or "x")
    blocks = [(block(text) + b"\r\n\r\n").decode("ascii") for text in values]
    program = programs.require("node")
    done = subprocess.run(
        [program, "--input-type=module", "-e", PARSE],
        input=json.dumps(blocks),
        capture_output=True,
        text=True,
        check=True,
        cwd=modules.parent,
    )
    for text, found in zip(values, json.loads(done.stdout), strict=True):
        assert found["subject"] == text
        assert (found["name"], found["address"]) == (text, "kim@example.org")
        assert decoded(found["headers"]["x-note"]) == text


@pytest.mark.parametrize("length", [60, 70, 75, 90, 140, 300])
@pytest.mark.parametrize("special", ["", ",", "(", '"', "\\"])
@pytest.mark.parametrize("header", ["From", "To", "Reply-To"])
def test_d41_long_names_in_plain_letters_are_not_encoded(length: int, special: str, header: str) -> None:
    """A name of ASCII words is folded as it is, in quotes where it needs them."""
    name = ("Worshipful Company of Makers" + special + " " + "of Playing Cards " * 20)[:length].strip()
    written = header_fields.mailboxes(header, [Mailbox(name, Address.parse("kim@example.org"))])

    assert b"=?" not in written
    assert max(map(len, written.split(b"\r\n"))) <= 78
    assert getaddresses([unfolded(written.decode().partition(":")[2])]) == [(name, "kim@example.org")]


@pytest.mark.parametrize(
    "name",
    [
        "List-Id",
        "list-unsubscribe",
        "Archived-At",
        "Disposition-Notification-To",
        "References",
        "Feedback-ID",
    ],
)
def test_a_header_that_machines_read_is_never_an_encoded_word(name: str) -> None:
    """Long values are folded at spaces, a long address stays whole, and what is not ASCII is refused."""
    address = f"<https://example.org/{'x' * 300}>"
    field = header_fields.unstructured(name, f"{address}, =?utf-8?q?a?= {'<b@example.org>  ' * 10}".strip())

    assert address.encode() in field
    assert b"=?utf-8?q?a?=" in field
    assert all(len(line) <= 78 or address.encode() in line for line in field.split(b"\r\n"))
    with pytest.raises(UnicodeEncodeError):
        header_fields.unstructured(name, "Bücher <news.example.org>")
