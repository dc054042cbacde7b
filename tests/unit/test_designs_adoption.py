"""Designs of other programs and drafts of mail programs, taken over as templates."""

from __future__ import annotations

from email.message import EmailMessage
from pathlib import Path

import jinja2
import pytest

from mailmerge.campaign.adoption import adopted, described, is_design
from mailmerge.designs.conversion import convert
from mailmerge.designs.draft import read_draft
from mailmerge.designs.names import ListColumns
from mailmerge.errors import CampaignFileError, TemplateError
from mailmerge.model import Columns
from mailmerge.render import MessageTemplates, Renderer, TemplateSource

COLUMNS = Columns(
    ("email", "First Name", "plan", "amount", "site", "if", "Ort"),
    ("email", "first_name", "plan", "amount", "site", "if", "ort"),
)
DRAFT_COLUMNS = Columns(
    ("email", "name", "plan", "amount", "site"), ("email", "name", "plan", "amount", "site")
)
DRAFTS = Path(__file__).parents[1] / "data/drafts"
PNG = b"\x89PNG\r\n\x1a\n"

CONVERTED = {
    "Dear *|FNAME|*,": "Dear {{ first_name }},",
    "*|IF:FNAME|*a*|ELSE:|*b*|END:IF|*": "{% if first_name %}a{% else %}b{% endif %}",
    "*|IF:PLAN=gold|*a*|END:IF|*": "{% if plan == 'gold' %}a{% endif %}",
    "{{ contact.FIRSTNAME }}": "{{ first_name }}",
    "{{First Name}}": "{{ first_name }}",
    "{{{first_name}}}": "{{ first_name }}",
    "{{#if first_name}}A{{else}}B{{/if}}": "{% if first_name %}A{% else %}B{% endif %}",
    "{{ .Subscriber.FirstName }}": "{{ first_name }}",
    "{{ UnsubscribeURL }}": "{{ unsubscribe_url }}",
    '{{ first_name|default:"you" }}': '{{ first_name or "you" }}',
    '{{var:firstname:"pal"}}': '{{ first_name or "pal" }}',
    "{{lead.First Name:default=Friend}}": '{{ first_name or "Friend" }}',
    "[firstname,fallback=there]": '{{ first_name or "there" }}',
    "{city}": "{{ ort }}",
    "[If]": '{{ row["if"] }}',
    "<p>[If]</p>": '<p>{{ row["if"] }}</p>',
    '<p><img alt="[If]" src="a.png"></p>': '<p><img alt="{{ row[\'if\'] }}" src="a.png"></p>',
    '<a href="*|UNSUB|*">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    '<a href="%unsubscribe_url%">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    '<a href="{{ unsubscribe }}">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    '<a href="[[UNSUB_LINK_EN]]">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    '<a href="{{unsubscribe_link}}">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    '<a href="<%asm_group_unsubscribe_raw_url%>">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    '<a href="%UNSUBSCRIBELINK%">u</a>': '<a href="{{ unsubscribe_url }}">u</a>',
    "<p><unsubscribe>Bye</unsubscribe></p>": '<p><a href="{{ unsubscribe_url }}">Bye</a></p>',
    "<p>{% unsubscribe 'Leave' %}</p>": '<p><a href="{{ unsubscribe_url }}">Leave</a></p>',
    '<a href="https://x.org/?e=*|EMAIL|*">x</a>': '<a href="https://x.org/?e={{ email|urlencode }}">x</a>',
    "<style>#a{#b{c:d}}</style><p>{plan}</p>": (
        "{% raw %}<style>#a{#b{c:d}}</style>{% endraw %}<p>{{ plan }}</p>"
    ),
    "<style>p{c:d}</style><p>{#x</p>": '<style>p{c:d}</style><p>{{ "{#" }}x</p>',
    "<p>«<span class=SpellE>First_Name</span>»</p>": "<p>{{ first_name }}</p>",
    "{{ first_name|upper }} {{ amount|money('EUR') }} {# note #}": (
        "{{ first_name|upper }} {{ amount|money('EUR') }} {# note #}"
    ),
}


LEFT = {
    "<!--*|IF:MC_PREVIEW_TEXT|*-->a<!--*|END:IF|*--> *|IF:FNAME|*b*|ELSE:|*c*|END:IF|*": (
        "<!--*|IF:MC_PREVIEW_TEXT|*-->a<!--*|END:IF|*--> {% if first_name %}b{% else %}c{% endif %}"
    ),
    "*|IF:FNAME|**|IF:X1|*a*|ELSEIF:FNAME|*b*|END:IF|**|END:IF|*": (
        "{% if first_name %}*|IF:X1|*a*|ELSEIF:FNAME|*b*|END:IF|*{% endif %}"
    ),
    "*|IF:FNAME|**|INTERESTED:A:b|*x*|ELSE:|*y*|END:INTERESTED|**|END:POLL|**|END:IF|*": (
        "{% if first_name %}*|INTERESTED:A:b|*x*|ELSE:|*y*|END:INTERESTED|**|END:POLL|*{% endif %}"
    ),
    "*|IF:X1|*<style>#a{#b{c:d}}</style><p>x</p>*|END:IF|*": (
        "*|IF:X1|*{% raw %}<style>#a{#b{c:d}}</style>{% endraw %}<p>x</p>*|END:IF|*"
    ),
    "*|ELSE:|*a*|END:IF|*": "*|ELSE:|*a*|END:IF|*",
}


@pytest.mark.parametrize(("design", "template"), LEFT.items())
def test_no_part_of_a_condition_is_translated_without_the_others(design: str, template: str) -> None:
    """What is left of an unknown condition is what was written; known ones beside and around it are whole."""
    made = convert(design, ListColumns(COLUMNS))

    assert made.text == template
    assert made.left
    jinja2.Environment(autoescape=True).parse(made.text)


def test_an_unknown_condition_of_handlebars_stays_whole() -> None:
    """Its else and end stay with it, and are told."""
    made = convert("{{#if (eq a b)}}A{{else}}B{{/if}}", ListColumns(COLUMNS))

    assert made.text == "{{#if (eq a b)}}A{{else}}B{{/if}}"
    assert set(made.left) == {"{{#if (eq a b)}}", "{{else}}", "{{/if}}"}


@pytest.mark.parametrize(("design", "template"), CONVERTED.items())
def test_a_placeholder_becomes_a_column(design: str, template: str) -> None:
    """The template says what the design did, compiles, and says it again where it is converted again."""
    made = convert(design, ListColumns(COLUMNS))

    assert made.text == template
    assert not made.left
    jinja2.Environment(autoescape=True).parse(made.text)
    again = made.text.replace("{% raw %}", "").replace("{% endraw %}", "")
    assert convert(again, ListColumns(COLUMNS)).text == template


def test_what_no_column_is_known_for_is_told_with_its_line() -> None:
    """Nothing is guessed: it stays, and is named."""
    made = convert(
        "a {Plot|yours}\n*|MC:SUBJECT|* {phone} {plot}\n{{ contact.birthday }} {{#each x}}",
        ListColumns(COLUMNS),
    )

    assert made.left == {
        "{Plot|yours}": 1,
        "*|MC:SUBJECT|*": 2,
        "{phone}": 2,
        "{{ contact.birthday }}": 3,
        "{{#each x}}": 3,
    }


WORD = (
    "<p class=MsoNormal>Dear <!--[if supportFields]><span lang=EN-GB><span style='mso-element:field-begin'>"
    "</span> MERGEFIELD\n &quot;First_Name&quot; <span style='mso-element:field-separator'></span></span>"
    "<![endif]--><span lang=EN-GB><span style='mso-no-proof:yes'>«First_Name»</span></span>"
    "<!--[if supportFields]><span lang=EN-GB><span style='mso-element:field-end'></span></span><![endif]-->"
    ",</p>"
)


def test_merge_fields_of_word_become_columns() -> None:
    """The field's code says which column it is; code and text of the field are gone."""
    made = convert(WORD, ListColumns(COLUMNS))

    assert made.text == (
        "<p class=MsoNormal>Dear <span lang=EN-GB><span style='mso-no-proof:yes'>{{ first_name }}</span>"
        "</span>,</p>"
    )


@pytest.mark.parametrize("program", ["thunderbird", "outlook", "apple-mail", "gmail"])
def test_a_draft_is_taken_over_whole(program: str) -> None:
    """Subject, sender, both texts and every file come along, and all tags compile."""
    made = adopted(DRAFTS / f"{program}.eml", DRAFT_COLUMNS)

    assert made.bodies == {"text": "body.txt", "html": "body.html"}
    assert "office@example.org" in made.sender
    assert made.subject
    html, text = made.files["body.html"].decode(), made.files["body.txt"].decode()
    for template in (html, text, made.subject):
        jinja2.Environment(autoescape=True).parse(template)
    assert {name for name in made.files if name.startswith("images/")} == {
        {
            "thunderbird": "images/logo-büro.png",
            "outlook": "images/image001.png",
            "apple-mail": "images/Photo-1.png",
            "gmail": "images/logo.png",
        }[program]
    }
    assert "cid:" not in html + text
    assert "image:" not in text
    assert made.left == []
    assert made.mended > 0


def test_a_draft_of_thunderbird_says_what_it_said() -> None:
    """Encoded words, flowed lines, escaped and parted tags, encoded addresses, long names of files."""
    made = adopted(DRAFTS / "thunderbird.eml", DRAFT_COLUMNS)
    html, text = made.files["body.html"].decode(), made.files["body.txt"].decode()

    assert made.subject == 'Grüße, {{ name or "friend" }}!'
    assert made.reply_to == "answers@example.org"
    assert made.attachments == [("attachments/Bedingungen-für-2026.pdf", "Bedingungen für 2026.pdf")]
    assert text.startswith(
        'Grüße {{ name or "friend" }}, here is a long paragraph that Thunderbird wraps at seventy-two '
        "characters, so that it flows."
    )
    assert '<p>Grüße {{ name or "friend" }},<br>' in html
    assert "?e={{ email }}" in html
    assert "{{ amount }}{% if amount|int > 100 %}!{% endif %}" in html


def test_pictures_between_the_pieces_of_apple_mail_stay_there() -> None:
    """Its parts are one page: the picture comes between the texts."""
    html = adopted(DRAFTS / "apple-mail.eml", DRAFT_COLUMNS).files["body.html"].decode()

    assert html.index("{{ plan }}") < html.index('src="images/Photo-1.png"') < html.index("Terms are below")
    assert html.count("<html") == html.count("</body>") == 1


def test_word_saves_pictures_by_their_place() -> None:
    """A single file web page (.mht) is a message whose parts have addresses; it may contain pictures."""
    data = (
        b"MIME-Version: 1.0\r\nContent-Type: multipart/related; boundary=x\r\n\r\n--x\r\n"
        b"Content-Location: file:///C:/1/letter.htm\r\nContent-Type: text/html; charset=utf-8\r\n\r\n"
        b'<p>{{ name }}</p><img src="letter_files/image001.png">'
        b"<img src='data:image/png;base64,iVBORw0KGgoAAAAA'>"
        b"\r\n--x\r\nContent-Location: letter_files/image001.png\r\nContent-Type: image/png\r\n"
        b"Content-Transfer-Encoding: base64\r\n\r\niVBORw0KGgo=\r\n--x--\r\n"
    )
    draft = read_draft(data)

    assert draft is not None
    assert draft.html is not None
    assert 'src="images/image001.png"' in draft.html
    assert "src='images/image.png'" in draft.html
    assert draft.files == {"images/image001.png": PNG, "images/image.png": PNG + b"\0\0\0\0"}


@pytest.mark.parametrize(
    "data",
    [b"", b"no message", b"\xff\xfe\0", b"Subject: x", b"Content-Type: multipart/mixed; boundary=x\n\n--x"],
)
def test_a_file_that_is_no_draft_is_none(data: bytes) -> None:
    """Whatever it contains, it is an answer and not a traceback."""
    draft = read_draft(data)
    assert draft is None or not draft.files


def test_pictures_come_along_and_secrets_do_not(tmp_path: Path) -> None:
    """Only images in the design's folder are copied, however they are named; the rest is told."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "design"
    (folder / "images").mkdir(parents=True)
    for name in ("images/a b.png", "bg.png", "x.png"):
        (folder / name).write_bytes(PNG)
    (folder / "note.png").write_text("no image")
    design = folder / "design.html"
    design.write_text(
        f"""<meta charset="utf-8"><style>.a{{background:url(bg.png)}}</style><img src='images\\a b.png'>
        <img src="file://{folder}/x.png"><img src="../secret.txt"><img src="note.png"><img src="gone.png">
        <img src="https://x.org/y.png">"""
    )
    made = adopted(design, COLUMNS)

    assert set(made.files) == {"body.html", "images/a b.png", "bg.png", "x.png"}
    assert len([note for note in made.notes if "not taken over" in note]) == 3
    html = made.files["body.html"].decode()
    assert 'src="images/a%20b.png"' in html
    assert '<img src="x.png">' in html


def test_a_page_of_windows_is_read_in_its_encoding(tmp_path: Path) -> None:
    """Word saves windows-1252; the template is UTF-8 and says so."""
    page = tmp_path / "letter.htm"
    page.write_bytes(
        '<meta http-equiv=Content-Type content="text/html; charset=windows-1252">'
        "<p>Grüße “A” {plan}</p>".encode("cp1252")
    )
    html = adopted(page, COLUMNS).files["body.html"].decode()

    assert "charset=utf-8" in html
    assert "Grüße “A” {{ plan }}" in html


@pytest.mark.parametrize(
    ("name", "code"),
    [("x.msg", "T131"), ("x.docx", "C543"), ("x.doc", "T131"), ("x.eml", "T131"), ("y.html", "T130")],
)
def test_what_cannot_become_a_template_is_refused(tmp_path: Path, name: str, code: str) -> None:
    """The hint says how to save it instead."""
    if name.startswith("x"):
        (tmp_path / name).write_bytes(b"\xd0\xcf\x11\xe0")
    with pytest.raises(CampaignFileError) as caught:
        adopted(tmp_path / name, COLUMNS)
    assert caught.value.code == code


def test_a_sender_is_no_design() -> None:
    """``--from`` takes both: a mailbox has an @ and no suffix of a page."""
    assert [
        is_design(text) for text in ("a.html", "mail/x.eml", "design", "me@example.org", "A <a@b.htm>")
    ] == [*(True, True, True, False, False)]


def test_what_was_done_is_said_in_lines(tmp_path: Path) -> None:
    """Placeholders and columns, what is not known, what was put together."""
    (tmp_path / "a.txt").write_text("*|FNAME|* *|X|* {{ plan or “x” }}")
    assert described(adopted(tmp_path / "a.txt", COLUMNS)) == [
        f"Placeholders of {tmp_path / 'a.txt'} are columns now: *|FNAME|* -> {{{{ first_name }}}}",
        "Repaired: 1 template tag that the editor had changed",
        'Unknown: "*|X|*" in body.txt:1',
    ]


def test_a_message_as_a_body_is_told_how_to_become_one(tmp_path: Path) -> None:
    """The error names the command that takes the draft over."""
    draft = tmp_path / "my draft.eml"
    draft.write_bytes((DRAFTS / "gmail.eml").read_bytes())
    templates = MessageTemplates(
        base=tmp_path,
        from_="a@x.org",
        to=("{{ email }}",),
        subject="x",
        html=TemplateSource("my draft.eml", draft),
    )
    with pytest.raises(TemplateError) as caught:
        Renderer(templates, COLUMNS)

    assert caught.value.code == "T132"
    assert f"mailmerge init new --from '{draft}'" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("Offer 1/2.pdf", "Offer 1-2.pdf"),
        ("a\\b\u202ec.pdf", "a-bc.pdf"),
        ("Bill {{ no }}.pdf", "Bill {{ no }}.pdf"),
    ],
)
def test_attachments_of_a_draft_are_named_as_they_will_be_sent(
    tmp_path: Path, written: str, shown: str
) -> None:
    """Without folders; tags in a name are the author's."""
    draft = EmailMessage()
    draft["Subject"], draft["From"] = "Hi", "me@example.org"
    draft.set_content("Hello\n")
    draft.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename=written)
    (tmp_path / "draft.eml").write_bytes(draft.as_bytes())

    [(_, name)] = adopted(tmp_path / "draft.eml", DRAFT_COLUMNS).attachments

    assert name == shown
