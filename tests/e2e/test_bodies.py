"""Bodies through the command line: what recipients get of Markdown, MJML and HTML without text."""

from __future__ import annotations

import re
from email import message_from_bytes, policy

import pytest

from campaigns import campaign_toml

MARKDOWN = """# Hi {{ name }}

Dear **{{ name }}**, see [your page](https://example.org/{{ plan|urlencode }}).

{% for part in ["one", "two"] %}
- {{ part }} of {{ plan }}
{% endfor %}
"""
PEOPLE = 'name,email,plan\n"*Kim* <b>",kim@example.org,# gold\n'
STYLE = """layout_vars = { colour = "#0b6e4f", footer = "Example Ltd for {{ name }}" }
preheader = "For {{ name }}\""""


def received(relay, mailmerge, body, message=""):
    """Send a campaign whose only body is *body*, and give the parts of what arrives."""
    mailmerge.account(relay)
    name, text = body
    toml = campaign_toml(top='account = "test"', message=message, bodies="").replace(
        "[message]", f'[message]\n{"text" if name.endswith("md") else "html"} = "{name}"'
    )
    files = {"campaign_toml": toml, "people_csv": PEOPLE, name.replace(".", "_"): text}
    mailmerge.campaign(**files)
    done = mailmerge("send", "spring", "--yes")
    assert done.code == 0, done
    [kept] = relay.messages
    parts = message_from_bytes(kept.content, policy=policy.default)
    texts = (part for part in parts.walk() if not part.is_multipart())
    return {part.get_content_type(): part.get_content().replace("\r\n", "\n") for part in texts}


def test_a_markdown_file_is_a_whole_message(mailmerge, relay):
    """Text and HTML arrive from one file, in the letter layout with styles moved; cells are data in both."""
    parts = received(relay, mailmerge, ("body.md", MARKDOWN), STYLE)

    assert parts["text/plain"] == (
        "# Hi *Kim* <b>\n\nDear ***Kim* <b>**, see [your page](https://example.org/%23%20gold).\n\n"
        "- one of # gold\n- two of # gold\n\nExample Ltd for *Kim* <b>\n"
    )
    html = parts["text/html"]
    assert "Hi *Kim* &lt;b&gt;</h1>" in html
    style = "color: #0b6e4f;text-decoration: underline;"
    assert f'<a href="https://example.org/%23%20gold" style="{style}">your page</a>' in html
    assert html.count("<ul") == 1
    assert html.count(" of # gold</li>") == 2
    assert "Example Ltd for *Kim* &lt;b&gt;</p>" in html
    assert "For *Kim* &lt;b&gt;&#847;" in html


def test_mjml_and_a_text_from_it(mailmerge, relay):
    """MJML arrives as HTML, with a text part that nobody wrote."""
    source = (
        "<mjml><mj-body><mj-section><mj-column><mj-text>Dear {{ name }}</mj-text>"
        '<mj-button href="https://example.org/b">Go</mj-button></mj-column></mj-section></mj-body></mjml>'
    )
    parts = received(relay, mailmerge, ("body.mjml", source))

    assert "Dear *Kim* &lt;b&gt;</div>" in parts["text/html"]
    assert parts["text/plain"] == "Dear *Kim* <b>\n\nGo [1]\n\n[1] https://example.org/b\n"


@pytest.mark.parametrize(
    ("name", "message", "words"),
    [
        ("body.txt", 'text = "body.txt"\npreheader = "x"', "error[T112]: `message.preheader` is about HTML"),
        (
            "body.html",
            'html = "body.html"\nlayout_vars = { colour = "red" }',
            "error[T112]: `message.layout_vars`",
        ),
        ("body.md", 'text = "body.md"\nlayout_vars = { color = "red" }', "did you mean `colour`?"),
        ("body.md", 'text = "auto"', "error[C406]: no body: `message.text` is to be made from HTML"),
    ],
)
def test_what_would_be_shown_nowhere_is_refused(mailmerge, name, message, words):
    """An option about HTML or a layout that a message does not have is an error, not silence."""
    files = {"campaign_toml": campaign_toml(message=message, bodies=""), name.replace(".", "_"): "Hello"}
    mailmerge.campaign(**files)

    done = mailmerge("check", "spring")

    assert done.code == 2
    assert words in done.err


def test_each_row_gets_its_language(mailmerge, relay):
    """Body, layout, subject and amounts arrive in the row's language; a new file means planning again."""
    mailmerge.account(relay)
    message = """subject = "{% if lang == 'de' %}Rechnung{% else %}Invoice{% endif %}"
locale = "{{ lang or 'en' }}"
text = "body.{{ lang }}.md\""""
    toml = campaign_toml(top='account = "test"', message=message, bodies="")
    spring = mailmerge.campaign(
        campaign_toml=toml,
        people_csv="email,lang,n\na@example.org,de,1234.5\nb@example.org,en,1234.5\nc@example.org,../en,1\n",
    )
    (spring / "body.de.md").write_text("Es sind **{{ n|number }}**.\n", "utf-8")
    (spring / "body.en.md").write_text("It is **{{ n|number }}**.\n", "utf-8")

    shown = mailmerge("preview", "spring", "--terminal", "--rows", "2,3")
    assert "Pending: not sent yet (body.de.md)" in shown.out
    assert "Pending: not sent yet (body.en.md)" in shown.out
    done = mailmerge("send", "spring", "--yes", "--skip-invalid")
    assert done.code == 3, done
    assert "`lang` is not a locale" in done.err
    received = {}
    for kept in relay.messages:
        parsed = message_from_bytes(kept.content, policy=policy.default)
        html, text = parsed.get_body(("html",)), parsed.get_body(("plain",))
        assert html is not None
        assert text is not None
        received[parsed["Subject"]] = text.get_content().strip(), html.get_content()
    assert {subject: text for subject, (text, _) in received.items()} == {
        "Rechnung": "Es sind **1.234,5**.",
        "Invoice": "It is **1,234.5**.",
    }
    for subject, language, words in (
        ("Rechnung", "de", "Es sind <strong>1.234,5</strong>."),
        ("Invoice", "en", "It is <strong>1,234.5</strong>."),
    ):
        assert f'lang="{language}"' in received[subject][1]
        assert re.sub(' style="[^"]*"', "", received[subject][1]).count(words) == 1

    (spring / "body.it.md").write_text("Sono {{ nn }}.\n", "utf-8")
    checked = mailmerge("check", "spring")
    assert checked.code == 2
    assert "unknown name `nn`" in checked.err
