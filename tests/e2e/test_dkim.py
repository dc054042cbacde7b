"""Signed messages: through the command line and a real Postfix, to programs that verify them."""

from __future__ import annotations

import subprocess
from typing import TYPE_CHECKING

import pytest

from campaigns import campaign_toml
from servers import dkim_verifiers
from servers.command import one_error

if TYPE_CHECKING:
    from pathlib import Path

    from servers.command import Mailmerge

UNSUBSCRIBE = (
    'unsubscribe = "https://example.org/u/{{ token }}"\nheaders = { X-Long = "' + "word " * 40 + 'end" }'
)
TEXT = "Dear {{ name }},\n\n.begins with a dot\n\ttab  and   blanks \n\u4f60\n{{ unsubscribe_url }}\n\n\n"
FILE = '[[attach]]\npath = "terms.txt"\n'


@pytest.fixture
def records(mailmerge: Mailmerge) -> dict[str, str]:
    """Make the keys r1 and e1 beside config.toml; give what the DNS would say."""
    from mailmerge import DkimKey
    from mailmerge.message.dkim_keys import public_record

    folder = mailmerge.config.parent
    found = {}
    for name, kind in (("r1", "RSA -pkeyopt rsa_keygen_bits:2048"), ("e1", "ED25519")):
        command = f"openssl genpkey -algorithm {kind} -out {name}.pem"
        subprocess.run(command.split(), cwd=folder, check=True, capture_output=True)
        key = DkimKey(selector=name, key_file=folder / f"{name}.pem")
        found[f"{name}._domainkey.example.org"] = public_record(key)
    return found


def keys(*names: str) -> list[dict[str, str]]:
    """Return the account's keys as config.toml has them."""
    return [{"selector": name, "key_file": f"{name}.pem"} for name in names]


def write(mailmerge: Mailmerge) -> Path:
    """Write a campaign whose messages have what signatures stumble over."""
    toml = campaign_toml(top='account = "test"', message=UNSUBSCRIBE, bodies="text html", rest=FILE)
    html = "<p>{{ name }}</p>\n" * 50 + "<a href='{{ unsubscribe_url }}'>x</a>"
    return mailmerge.campaign(campaign_toml=toml, body_txt=TEXT, body_html=html, terms_txt="a \t b\n\n\n")


@pytest.mark.program("postfix", "saslpasswd2")
def test_what_postfix_delivered_is_signed_by_both_keys(mailmerge, postfix, records, tmp_path):
    """Four programs accept each message; the plan's size is that of what was sent, with the signatures."""
    mailmerge.account(postfix, dkim=keys("r1", "e1"))
    write(mailmerge)

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    delivered = [message.content for message in postfix.received(3)]
    messages = [content[content.index(b"DKIM-Signature:") :] for content in delivered]
    assert all(b"List-Unsubscribe-Post" in message.split(b"bh=")[0] for message in messages)
    for verify in (dkim_verifiers.dkimpy, dkim_verifiers.mailauth):
        assert verify(messages, records) == [["pass", "pass"]] * 3
    assert [verdicts[0] for verdicts in dkim_verifiers.perl(messages, records)] == ["pass"] * 3
    assert dkim_verifiers.opendkim(messages, records, tmp_path) == [["pass"]] * 3


def test_a_key_that_cannot_be_used_is_told_by_check_and_nothing_is_sent(mailmerge, sandbox, records):
    """Who signs is never left out in silence."""
    write(mailmerge)
    mailmerge.account(sandbox, dkim=keys("r1"))
    (mailmerge.config.parent / "r1.pem").chmod(0o644)

    one_error(mailmerge("send", "spring", "--yes"), "C515", "can be read by others", "chmod 600")
    one_error(mailmerge("check", "spring"), "C515", "can be read by others")
    (mailmerge.config.parent / "r1.pem").chmod(0o600)
    assert mailmerge("check", "spring").code == 0
    assert sandbox.messages == []


def test_a_message_with_the_key_in_it_is_not_sent(mailmerge, sandbox, records):
    """Pasted into a body by mistake: the run stops, and nobody gets it."""
    write(mailmerge)
    mailmerge.account(sandbox, dkim=keys("r1"))
    (mailmerge.folder / "spring" / "body.txt").write_text((mailmerge.config.parent / "r1.pem").read_text())

    done = mailmerge("send", "spring", "--yes")

    one_error(done, "C492", "contains a password or token")
    assert (done.code, sandbox.messages) == (6, [])
