"""Whole messages: structure, header order, envelope, and what makes a row invalid."""

from __future__ import annotations

import email
import email.policy
from datetime import UTC, datetime

import pytest
from msgspec.structs import replace

from mailmerge.addresses import Address, Mailbox
from mailmerge.errors import AttachmentError, RowError
from mailmerge.message import MessageBuilder, Thawer
from mailmerge.model import AttachmentRule, Columns, Place, Recipient, Rendered, RenderedAttachment

DATE = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
ROW = Recipient(7, Columns(("photo",), ("photo",)), ("\ud83d",))


def box(text, name=""):
    return Mailbox(name, Address.parse(text))


def rendered(**parts):
    defaults = {"from_": box("me@example.com", "Me"), "to": (box("kim@example.org"),), "subject": "Hi"}
    return Rendered(recipient=ROW, **{**defaults, **parts})


@pytest.fixture
def builder(tmp_path):
    """Build a builder over tmp_path, which contains a PDF and a picture."""
    (tmp_path / "a.pdf").write_bytes(b"%PDF")
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n")

    def make(**options):
        return MessageBuilder(
            **{
                "version": "v1",
                "base": tmp_path,
                "rules": [AttachmentRule("", base=tmp_path)],
                **options,
            }
        )

    return make


def build(builder, content, **options):
    frozen = builder.freeze(content, key="kim")
    return Thawer().thaw(frozen, message_id="<1@example.com>", date=DATE, **options)


def shape(part):
    """Return the MIME tree as nested lists."""
    if part.is_multipart():
        return [part.get_content_subtype(), *map(shape, part.iter_parts())]
    return part.get_content_type()


def read(message):
    return email.message_from_bytes(message.content, policy=email.policy.default)


IMAGE = ("<img src='logo.png'>",)
PDF = (RenderedAttachment(0, "a.pdf"),)


@pytest.mark.parametrize(
    ("parts", "tree"),
    [
        ({"text": ("x",)}, "text/plain"),
        ({"html": ("x",)}, "text/html"),
        ({"text": ("x",), "html": ("y",)}, ["alternative", "text/plain", "text/html"]),
        ({"html": IMAGE}, ["related", "text/html", "image/png"]),
        (
            {"text": ("x",), "html": IMAGE},
            ["alternative", "text/plain", ["related", "text/html", "image/png"]],
        ),
        ({"text": ("x",), "attachments": PDF}, ["mixed", "text/plain", "application/pdf"]),
        (
            {"text": ("x",), "html": IMAGE * 2, "attachments": PDF * 2},
            [
                "mixed",
                ["alternative", "text/plain", ["related", "text/html", "image/png"]],
                "application/pdf",
                "application/pdf",
            ],
        ),
    ],
)
def test_the_structure_is_the_least_that_holds_the_parts(builder, parts, tree):
    """Text first, images beside the HTML that shows them and once, attachments last."""
    message = read(build(builder(), rendered(**parts)))
    assert shape(message) == tree
    assert not [defect for part in message.walk() for defect in part.defects]


def test_a_whole_message(builder):
    """The bytes of a small message, header order included."""
    content = rendered(
        to=(box("kim@example.org", "Kim"),),
        cc=(box("lee@example.org"),),
        bcc=(box("boss@example.com"), box("KIM@example.org")),
        reply_to=(box("help@example.com"),),
        sender=box("robot@example.com"),
        text=("Hello ", "Kim"),
        headers=(("X-A", "1"), ("X-Empty", "")),
    )
    message = build(builder(), content, mail_from=Address.parse("bounces@example.com"))
    assert message.content == (
        b"Date: Sun, 01 Mar 2026 09:30:00 +0000\r\n"
        b"Message-ID: <1@example.com>\r\n"
        b"X-Mailmerge-ID: 1\r\n"
        b"From: Me <me@example.com>\r\n"
        b"Sender: robot@example.com\r\n"
        b"To: Kim <kim@example.org>\r\n"
        b"Cc: lee@example.org\r\n"
        b"Reply-To: help@example.com\r\n"
        b"Subject: Hi\r\n"
        b"X-A: 1\r\n"
        b"MIME-Version: 1.0\r\n"
        b'Content-Type: text/plain; charset="utf-8"\r\n'
        b"Content-Transfer-Encoding: quoted-printable\r\n"
        b"\r\n"
        b"Hello =\r\nKim=\r\n\r\n"
    )
    assert str(message.envelope.mail_from) == "bounces@example.com"
    assert [str(a) for a in message.envelope.rcpt_to] == [
        "kim@example.org",
        "lee@example.org",
        "boss@example.com",
    ]
    assert (message.key, message.row, message.size) == ("kim", 7, len(message.content))


def test_bcc_is_in_the_envelope_only(builder):
    """Not a trace of it in the bytes."""
    message = build(builder(), rendered(text=("x",), bcc=(box("boss@example.com"),)))
    assert b"boss" not in message.content
    assert str(message.envelope.rcpt_to[1]) == "boss@example.com"


def test_the_envelope_sender_is_the_from_address_by_default(builder):
    """Bounces come back to the sender."""
    assert str(build(builder(), rendered(text=("x",))).envelope.mail_from) == "me@example.com"


def test_attachments_take_the_name_they_are_given(builder):
    """A rule's name wins over the file's."""
    content = rendered(text=("x",), attachments=(RenderedAttachment(0, "a.pdf", "Rechnung Müller.pdf"),))
    assert next(read(build(builder(), content)).iter_attachments()).get_filename() == "Rechnung Müller.pdf"


def received(builder, tmp_path, name, content):
    """Return the part that a file is in the message that is received, and whether its size was foreseen."""
    (tmp_path / name).write_bytes(content)
    frozen = builder().freeze(rendered(text=("x",), attachments=(RenderedAttachment(0, name),)), key="kim")
    message = Thawer().thaw(frozen, message_id=f"<{'0' * 40}@example.com>", date=DATE)
    assert len(message.content) == frozen.size
    return next(read(message).iter_attachments())


@pytest.mark.parametrize(
    ("name", "content", "kind"),
    [
        ("a.txt", "Grüße – 你好\n".encode(), 'text/plain; charset="utf-8"'),
        ("a.csv", "\ufeffName;Ort\r\nJörg;Köln\r\n".encode(), 'text/csv; charset="utf-8"'),
        ("a.html", "<p>Zürich</p>".encode(), 'text/html; charset="utf-8"'),
        ("a.ics", "SUMMARY:Fête\r\n".encode(), 'text/calendar; charset="utf-8"'),
        ("a.txt", b"plain\n", 'text/plain; charset="us-ascii"'),
        ("a.txt", "Grüße\n".encode("cp1252"), "application/octet-stream"),
        ("a.csv", "Иван\n".encode("koi8-r"), "application/octet-stream"),
        ("a.txt", "Grüße\n".encode("utf-16"), "application/octet-stream"),
        ("a.txt", "plain\n".encode("utf-16-le"), "application/octet-stream"),
        ("a.txt", "日本\n".encode("iso2022-jp"), "application/octet-stream"),
        ("a.txt", "ä".encode()[:1], "application/octet-stream"),
        ("a.json", '{"a": "ü"}'.encode(), "application/json"),
        ("a.pdf", b"%PDF", "application/pdf"),
    ],
)
def test_a_text_says_its_charset_or_nothing(builder, tmp_path, name, content, kind):
    """UTF-8 and ASCII are named; text in any other encoding is opaque; the bytes are the file's."""
    part = received(builder, tmp_path, name, content)
    said = part["Content-Type"]
    charset = said.params.get("charset")
    assert said.content_type + (f'; charset="{charset}"' if charset else "") == kind
    assert part["Content-Transfer-Encoding"] == "base64"
    assert part.get_payload(decode=True) == content
    assert part.get_filename() == name


MAIL = b"From: a@example.org\nSubject: Hi\n\nText\n"


@pytest.mark.parametrize(
    "content", [MAIL, MAIL.replace(b"\n", b"\r\n"), MAIL.rstrip(), b"X-Mozilla-Status: 0\n" + MAIL]
)
def test_a_saved_message_is_attached_as_one(builder, tmp_path, content):
    """It is message/rfc822, 7-bit and never base64, its lines end with CR and LF."""
    part = received(builder, tmp_path, "a.eml", content)
    assert part.get_content_type() == "message/rfc822"
    assert part["Content-Transfer-Encoding"] == "7bit"
    inner = part.get_payload(0)
    assert inner["Subject"] == "Hi"
    assert inner.get_payload() == ("Text\r\n" if content.endswith(b"\n") else "Text")


@pytest.mark.parametrize(
    "content",
    [
        MAIL + "Grüße\n".encode(),
        MAIL + b"x" * 999 + b"\n",
        MAIL + b"old\rMac\n",
        MAIL + b"\0",
        b"From a@example.org Sun Mar  1 2026\n" + MAIL,
        b"\xef\xbb\xbf" + MAIL,
        b"no message\n",
    ],
)
def test_what_cannot_be_sent_as_a_message_is_opaque(builder, tmp_path, content):
    """8-bit, long lines, lone CR, NUL, and what is not a message: the file arrives byte for byte."""
    part = received(builder, tmp_path, "a.eml", content)
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_payload(decode=True) == content


def test_a_saved_message_of_the_same_campaign_does_not_end_the_one_around_it(builder, tmp_path):
    """It has the same boundaries: it is attached as opaque bytes."""
    same = rendered(text=("x",), html=("y",), attachments=PDF)
    content = build(builder(), same).content
    part = received(builder, tmp_path, "a.eml", content)
    assert part.get_content_type() == "application/octet-stream"
    assert part.get_payload(decode=True) == content


@pytest.mark.parametrize(
    ("parts", "code"),
    [
        ({"text": ("x",), "attachments": (RenderedAttachment(0, "none.pdf"),)}, "A301"),
        ({"text": ("x",), "attachments": (RenderedAttachment(0, "../x"),)}, "A302"),
        ({"html": ("<img src='none.png'>",)}, "A310"),
        ({"text": ("\ud83d",)}, "D118"),
    ],
)
def test_what_makes_a_row_invalid(builder, parts, code):
    """Files and halves of characters are the row's own problem."""
    with pytest.raises(RowError) as caught:
        build(builder(), rendered(**parts))
    assert (caught.value.code, caught.value.row) == (code, 7)


def test_files_of_every_message_are_the_campaigns_problem(builder, tmp_path):
    """A constant attachment or image that is missing stops before the first row."""
    rule = AttachmentRule("none.pdf", base=tmp_path, place=Place("campaign.toml", 31))
    constants = [RenderedAttachment(0, "none.pdf")]
    with pytest.raises(AttachmentError) as caught:
        builder(rules=[rule], constants=constants)
    assert (caught.value.code, caught.value.line) == ("A301", 31)
    with pytest.raises(AttachmentError) as caught:
        builder(static={"html": ("<img src='none.png'>",)})
    assert caught.value.code == "A310"
    assert builder(rules=[replace(rule, missing="skip")], constants=constants)


def test_the_files_digest_follows_content(builder, tmp_path):
    """A changed shared file is a changed campaign."""
    options = {
        "rules": [AttachmentRule("a.pdf", base=tmp_path)],
        "constants": [RenderedAttachment(0, "a.pdf")],
        "static": {"html": IMAGE},
    }
    first = builder(**options).files_digest
    assert builder(**options).files_digest == first
    (tmp_path / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n2")
    second = builder(**options).files_digest
    (tmp_path / "a.pdf").write_bytes(b"%PDF2")
    assert len({first, second, builder(**options).files_digest}) == 3


def test_images_outlive_the_chunk_cache(builder, tmp_path, monkeypatch):
    """When the cache of chunks is emptied, messages still get their images."""
    from mailmerge.message import text_bodies

    monkeypatch.setattr(text_bodies._ChunkCache, "_MOST", 3)
    made = builder(static={"html": IMAGE})
    (tmp_path / "own.gif").write_bytes(b"GIF89a")
    own = "<img src='own.gif'>"
    for number in range(8):
        content = rendered(html=(*IMAGE, f"<b>{number}</b>", own))
        assert shape(read(build(made, content))) == ["related", "text/html", "image/png", "image/gif"]


def test_d41_a_bug_of_ours_costs_one_row(builder):
    """A header that our last check refuses makes this row invalid, with a code of its own."""
    unread = Mailbox("", Address("kim,lee", "example.org"))  # as if it had not been parsed

    with pytest.raises(RowError) as caught:
        build(builder(), rendered(to=(unread,), text=("x",)))

    assert (caught.value.code, caught.value.row) == ("X901", 7)
    assert "bug: an address field differs from the envelope" in caught.value.message
