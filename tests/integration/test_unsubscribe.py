"""Unsubscribe tokens: who they are for, what is refused, and how they get into a frozen message."""

from __future__ import annotations

import base64
import hashlib
import json
import quopri
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge import (
    CampaignFileError,
    MailmergeError,
    Plan,
    TemplateError,
    UnsubscribeError,
    UnsubscribeKey,
    verify_unsubscribe,
)
from mailmerge.addresses import Address
from mailmerge.config.unsubscribe_keys import key_path, make_key, read_key
from mailmerge.message import open_token
from mailmerge.message.text_bodies import TextEncoder
from mailmerge.unsubscribe import STAND_IN

DOCS = Path(__file__).parents[2] / "docs" / "unsubscribe.md"
KEY = UnsubscribeKey("club", bytes(range(32)))
ANA = Address.parse("ana@example.org")
TOKEN = KEY.token(ANA)
LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"


@given(st.integers(0, 71), st.sampled_from(LETTERS))
def test_a_token_with_another_letter_is_refused(place, letter):
    """Whichever it is: nobody can unsubscribe somebody else by trying."""
    changed = TOKEN[:place] + letter + TOKEN[place + 1 :]
    if changed == TOKEN:
        return
    with pytest.raises(UnsubscribeError):
        verify_unsubscribe(changed, KEY)


@given(st.text(max_size=100) | st.text(alphabet=LETTERS, min_size=72, max_size=72))
def test_any_text_is_no_token(text):
    """What strangers send is refused with an explanation, never with another error."""
    with pytest.raises(UnsubscribeError) as caught:
        verify_unsubscribe(text, KEY)
    assert caught.value.code in {"M510", "M511", "M512"}


def test_a_token_says_who_and_which_series():
    """Spelling of the address does not matter; another key of the same series does."""
    who = verify_unsubscribe(TOKEN, [UnsubscribeKey("other", bytes(32)), KEY])
    assert (who.series, who.key_id, who.nobody) == ("club", KEY.id, False)
    assert who.address_sha256 == hashlib.sha256(b"ana@example.org").hexdigest()
    assert who.is_for("Ana@EXAMPLE.org")
    assert not who.is_for("bo@example.org")
    with pytest.raises(UnsubscribeError) as caught:
        verify_unsubscribe(TOKEN, UnsubscribeKey("club", bytes(32)))
    assert caught.value.code == "M511"
    assert verify_unsubscribe(STAND_IN, ()).nobody


def test_the_ten_lines_of_the_documentation_say_the_same(tmp_path):
    """They are what somebody runs on a server without mailmerge."""
    blocks = re.findall(r"```python\n(.*?)```", DOCS.read_text("utf-8"), re.DOTALL)
    [code] = [block for block in blocks if "def unsubscribed" in block]
    body = code.partition("def unsubscribed")[2].partition('"""\n')[2].split("\n")
    names: dict[str, object] = {}
    exec(code, names)
    path = tmp_path / "key.json"
    path.write_text(json.dumps({"secret": KEY.secret.hex()}))

    assert len([line for line in body if line.strip()]) <= 10
    assert names["unsubscribed"](TOKEN, path) == verify_unsubscribe(TOKEN, KEY).address_sha256  # type: ignore[operator]
    for wrong in (TOKEN[:-2] + "AB", "A" * 72, TOKEN[:40], STAND_IN):
        with pytest.raises(ValueError):
            names["unsubscribed"](wrong, path)  # type: ignore[operator]


def test_a_key_shows_its_secret_to_nobody():
    """Not where it is printed, not in its id."""
    assert KEY.secret.hex() not in repr(KEY)
    assert repr(KEY.secret) not in f"{KEY}"


def test_a_key_is_a_private_file_that_reads_back(tmp_path):
    """Any text is a series, also one that cannot be a file's name; each has a file of its own."""
    names = ["club", "Club", "../../etc/passwd", "北京", "", "a" * 500, "\ud800"[:0] + "c/b"]
    made = [make_key(tmp_path / "keys", name) for name in names]

    assert len({key.id for key in made}) == len(list((tmp_path / "keys").glob("*.json"))) == len(names)
    for key in made:
        path = key_path(tmp_path / "keys", key.series)
        assert read_key(path) == key
        assert path.stat().st_mode & 0o777 == 0o600
    assert verify_unsubscribe(made[3].token(ANA), tmp_path / "keys").series == "北京"


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"series": 5, "secret": "00"}', '{"series": "x", "secret": "zz"}', "[" * 9000],
)
def test_a_damaged_key_is_told(tmp_path, content):
    """And is not replaced by anything."""
    path = tmp_path / "key.json"
    path.write_text(content)
    path.chmod(0o600)
    with pytest.raises(CampaignFileError, match="is damaged") as caught:
        read_key(path)
    assert caught.value.code == "C513"


WORDS = st.sampled_from(
    ["a ", "word ", "\n", "你好", "=", "ä" * 30, "x" * 80, ".", "From ", "<b>", STAND_IN[:40]]
)


@given(st.lists(WORDS), st.lists(WORDS), st.lists(WORDS))
def test_a_token_in_a_frozen_text_is_the_text_with_that_token(before, between, after):
    """Wherever it is, in whatever encoding: only the token changes, not where lines end."""
    head = b"List-Unsubscribe: <https://example.org/u/" + STAND_IN.encode() + b">\r\n"
    url = f"https://example.org/u/{STAND_IN}"
    chunks = ("".join(before) + "x", url, "".join(between), STAND_IN, "".join(after) + "y")
    encoding, body = TextEncoder().encode(chunks)
    start = b"Content-Type: text/plain\r\nContent-Transfer-Encoding: " + encoding + b"\r\n\r\n"

    filled_head, pieces = open_token.filled(head, (start, body), TOKEN)

    decode = base64.b64decode if encoding == b"base64" else quopri.decodestring
    text = decode(pieces[1]).decode().replace("\r\n", "\n").removesuffix("\n")  # type: ignore[arg-type]
    assert text == "".join(chunks).removesuffix("\n").replace(STAND_IN, TOKEN)
    assert list(map(len, pieces[1].split(b"\r\n"))) == list(map(len, body.split(b"\r\n")))  # type: ignore[union-attr]
    assert filled_head == head.replace(STAND_IN.encode(), TOKEN.encode())


def rows_with(plan: Plan, code: str) -> list[int]:
    """Return the rows in which this was found."""
    return sorted(row for group in plan.problems if group.first.code == code for row in group.rows)


def test_a_header_for_machines_that_is_not_ascii_is_the_campaigns_or_the_rows_error(campaign_factory):
    """It is never an encoded word: what is always the same stops the campaign, a cell only its row."""
    fixed = campaign_factory(message='headers = { List-Id = "Bücher <a.example.org>" }')
    with pytest.raises(TemplateError) as caught:
        fixed.check()
    assert caught.value.code == "M513"

    of_row = campaign_factory(
        rows=["a@x.org,Ana", "b@x.org,Bö"], message='headers = { List-Id = "{{ name }} <a.example.org>" }'
    ).check()
    assert rows_with(of_row, "M513") == [3]


def test_settings_that_contradict_each_other_are_told(campaign_factory):
    """Two of the same header, no https or mailto, a column of the same name, an unset link."""
    unsubscribe = 'unsubscribe = "https://example.org/u/{{ token }}"\n'
    both = unsubscribe + 'headers = { list-unsubscribe = "<https://example.org>" }'
    cases: list[tuple[dict[str, Any], type[MailmergeError], str]] = [
        ({"message": both}, CampaignFileError, "C510"),
        ({"message": 'unsubscribe = "http://example.org/{{ token }}"'}, CampaignFileError, "C510"),
        (
            {"message": unsubscribe, "heading": "email,name,token", "rows": ["a@x.org,A,1"]},
            TemplateError,
            "C511",
        ),
        ({"message": 'subject = "{{ unsubscribe_url }}"\n' + unsubscribe}, TemplateError, "T102"),
        ({"files": {"body.txt": "{{ unsubscribe_url }}"}}, TemplateError, "T102"),
    ]
    for wanted, error, code in cases:
        with pytest.raises(error) as caught:
            campaign_factory(**wanted).check()
        assert caught.value.code == code, wanted


def test_a_value_cannot_add_an_address_to_the_header(campaign_factory):
    """Spaces, commas and brackets of a cell make that row invalid unless they are percent-encoded."""
    rows = ["a@x.org,1", 'b@x.org,"1>, <https://evil.example"', "c@x.org,a b", f"d@x.org,{'x' * 950}"]
    message = 'unsubscribe = "https://example.org/u?id={{ name }}"'
    plan = campaign_factory(rows=rows, message=message).check()
    assert rows_with(plan, "D119") == [3, 4, 5]


@pytest.mark.parametrize(
    ("unsubscribe", "listed", "one_click", "shown"),
    [
        ('"mailto:leave@x.org?subject={{ token }}"', "<mailto:leave@x.org?subject={0}>", False, "mailto:"),
        ('"https://x.org/u/{{ token }}"', "<https://x.org/u/{0}>", True, "https:"),
        (
            '["mailto:a@x.org", "https://x.org/{{ name|urlencode }}"]',
            "<mailto:a@x.org>, <https://x.org/An%20a>",
            True,
            "https:",
        ),
    ],
)
def test_which_headers_there_are(campaign_factory, unsubscribe, listed, one_click, shown):
    """One click needs an https address; bodies show the page rather than the mail address."""
    campaign = campaign_factory(
        {"body.txt": "Leave: {{ unsubscribe_url }}\n"},
        rows=["ana@example.org,An a"],
        message=f"unsubscribe = {unsubscribe}",
    )
    [message] = campaign.messages()
    content = message.content.decode().replace("=\r\n", "").replace("\r\n ", " ")

    assert f"List-Unsubscribe: {listed.format(STAND_IN)}\r\n" in content
    assert ("List-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n" in content) is one_click
    assert f"Leave: {shown}" in content


def test_the_messages_of_a_plan_are_those_that_would_be_sent(campaign_factory):
    """A program that sends them itself sends links that work; what is only shown unsubscribes nobody."""
    campaign_factory.config.write_text('[accounts.me]\nhost = "localhost"\nauth = "none"\ntls = "none"\n')
    campaign = campaign_factory(
        {"body.txt": "Leave: {{ unsubscribe_url }}\n"},
        rows=["ana@example.org,Ana"],
        top='account = "me"',
        message='unsubscribe = "https://x.org/u/{{ token }}"',
    )
    [leaving], [shown] = campaign.plan().messages(), campaign.messages()
    [token] = set(re.findall(r"/u/([\w-]{72})", leaving.content.decode().replace("=\r\n", "")))

    who = verify_unsubscribe(token, campaign_factory.config.parent / "unsubscribe")
    assert (who.series, who.is_for("ana@example.org")) == ("spring", True)
    assert STAND_IN in shown.content.decode()
    assert (leaving.frozen, leaving.size) == (shown.frozen, shown.size)
