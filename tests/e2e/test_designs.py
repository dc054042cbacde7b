"""Designs and drafts of other programs as templates: what is received is what they said."""

from __future__ import annotations

from email import message_from_bytes, policy
from pathlib import Path
from typing import TYPE_CHECKING

from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from email.message import EmailMessage

    from servers.command import Mailmerge

DRAFT = Path(__file__).parents[1] / "data/drafts/thunderbird.eml"
LIST = """email,name,plan,amount,site
ana@example.com,Ana & Co,gold,120,x.example
bo@example.com,,free,7,y.example
"""


def test_a_draft_becomes_messages(mailmerge: Mailmerge) -> None:
    """Subject, both texts, the picture and the attachment of the draft are received by each row."""
    (mailmerge.folder / "people.csv").write_text(LIST)
    with KeepingSandbox(tls="none", user=None) as relay:
        mailmerge.account(relay)
        made = mailmerge("init", "new", "--list", "people.csv", "--from", DRAFT, "--account", "test")
        assert made.code == 0, made
        assert "template tags that the editor had changed" in made.out
        sent = mailmerge("send", "new", "--yes")
        assert sent.code == 0, sent
        first, second = (_read(message.content) for message in relay.messages)

    assert first["Subject"] == "Grüße, Ana & Co!"
    assert second["Subject"] == "Grüße, friend!"
    assert first["From"] == "Büro Müller <office@example.org>"
    assert first["Reply-To"] == "answers@example.org"
    html, text = (first.get_body((kind,)) for kind in ("html", "plain"))
    assert html is not None
    assert text is not None
    page = html.get_content()
    assert "<p>Grüße Ana &amp; Co,<br>" in page
    assert "120!" in page
    assert "gold plan" in text.get_content()
    files = {part.get_filename(): part for part in first.walk() if part.get_filename()}
    assert list(files) == ["logo-büro.png", "Bedingungen für 2026.pdf"]
    identifier = files["logo-büro.png"]["Content-ID"].strip("<>")
    assert f'src="cid:{identifier}"' in page
    assert files["Bedingungen für 2026.pdf"].get_content().startswith(b"%PDF")


def test_a_design_becomes_a_campaign_that_can_be_checked(mailmerge: Mailmerge) -> None:
    """Placeholders are columns, CSS stays, unsubscribing works, and nothing is left to be told."""
    (mailmerge.folder / "people.csv").write_text(LIST)
    (mailmerge.folder / "design.html").write_text(
        "<!doctype html><html lang='en'><head><meta charset='utf-8'><title>News</title>\n"
        "<style>@media screen{#main{color:#222222}}</style></head><body><div id='main'>"
        "<p>Dear *|FNAME|*, your plan is [Plan].</p>"
        "<p>More words of the letter, so that it says something.</p>"
        '<p><a href="*|UNSUB|*">Unsubscribe from this list</a></p></div></body></html>\n'
    )
    columns = LIST.replace("name,plan", "first_name,plan")
    (mailmerge.folder / "people.csv").write_text(columns)
    made = mailmerge(
        *("init", "new", "--list", "people.csv", "--from", "design.html", "--from", "Me <me@example.org>")
    )
    assert made.code == 0, made
    assert "*|FNAME|* -> {{ first_name }}" in made.out
    check = mailmerge("check", "new")
    assert check.code == 0, check
    assert not any(code in check.out + check.err for code in ("H250", "T203", "M210")), check
    shown = mailmerge("preview", "new", "--eml", "out", "--no-open")
    assert shown.code == 0, shown
    message = _read(min((mailmerge.folder / "out").glob("*.eml")).read_bytes())
    body = message.get_body(("html",))
    assert body is not None
    page = body.get_content()
    assert "Dear Ana &amp; Co, your plan is gold." in page
    assert "{#main{color:#222222}}" in page
    assert 'href="mailto:me@example.org?subject=' in page
    assert message["List-Unsubscribe"].startswith("<mailto:me@example.org")


def _read(content: bytes) -> EmailMessage:
    message: EmailMessage = message_from_bytes(content, policy=policy.default)
    return message
