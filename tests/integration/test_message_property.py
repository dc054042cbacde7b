"""Whatever the cells contain, every message reads as one that the standard library would have built."""

from __future__ import annotations

import email
import email.policy
import re
from datetime import UTC, datetime
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import getaddresses

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mailmerge.errors import RowError
from mailmerge.message import MessageBuilder, Thawer
from mailmerge.model import AttachmentRule, Columns, Recipient
from mailmerge.render import MessageTemplates, Renderer, TemplateSource
from mailmerge.text import trimmed

DATE = datetime(2026, 3, 1, 9, 30, 15, 123456, tzinfo=UTC)
COLUMNS = Columns(("name", "email", "text"), ("name", "email", "text"))
HEADERS = ["Date", "Message-ID", "X-Mailmerge-ID", "From", "To", "Subject", "X-Note", "MIME-Version"]
HEADERS += ["Content-Type"]
TEXT = "Dear {{ name }},\n\n{{ text }}\nBye {{ email }}\n"
HTML = "<p>Dear {{ name }}</p><img src='logo.png'><pre>{{ text }}</pre>"
HOSTILE = [
    "Eve\nBcc: victim@x.com",
    "Eve\r\n\r\nbody",
    "=?utf-8?q?Hi=0D=0ABcc=3A_evil=40x.org?=",
    "=?utf-8?b?SGkNCkJjYzogZXZpbEB4Lm9yZw==?= x",
    "=?x?q?y?=",
    "Müller, Jörg",
    'say "hi" \\ there',
    "a <b@evil.org>, c@evil.org",
    "x" * 10_000,
    "ż" * 10_000,
    "wort " * 2_000,
    "half \ud83d",
    "\u202egnp.exe",
    "שלום עולם مرحبا",
    "👩‍👩‍👧‍👦🏳️‍🌈👍🏽é",
    "line\u2028sep\u2029par\x85nel",
    ".\n..\n.hidden\nFrom me\n" + "." * 300,
    "tab\there",
    "trailing blanks  \nmore \t\n",
    "{{ 7*7 }}{% raw %}<script>&amp;",
    " " * 300 + "x",
    "--=_boundary--\n=3D=\n=",
    "a" * 74 + " \nb" + "c" * 75 + "=" * 80,
    *(f"a{chr(c)}b" for c in range(32)),
    "\x7f",
]
cells = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(codec="utf-8"), max_size=120),
    st.text(st.sampled_from('ab =?_.,<>@"\\\n\r\t(){}%-ü王\u200d👍'), max_size=120),
)


@pytest.fixture(scope="module")
def campaign(tmp_path_factory):
    """Return renderer and builder of a campaign that uses every part of a message."""
    base = tmp_path_factory.mktemp("campaign")
    (base / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(range(256)))
    (base / "übersicht.pdf").write_bytes(b"%PDF" + bytes(range(256)) * 9)
    templates = MessageTemplates(
        base=base,
        from_="Bücher & Co. <news@example.org>",
        to=("{{ name }} <{{ email }}>",),
        bcc=("archive@example.org",),
        subject="For {{ name }}: {{ text }}",
        text=TemplateSource("text", source=TEXT),
        html=TemplateSource("html", source=HTML),
        headers=(("X-Note", "{{ text }} for {{ name }}"),),
        attachments=(AttachmentRule("übersicht.pdf", "{{ name }} {{ text }}.pdf", base),),
    )
    renderer = Renderer(templates, COLUMNS)
    builder = MessageBuilder(
        version="v1", base=base, rules=templates.attachments, static=renderer.static_chunks()
    )
    return renderer, builder


def thawed(frozen):
    return Thawer().thaw(frozen, message_id="<1@example.org>", date=DATE)


def lines(text):
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(value):
    return str(make_header(decode_header(re.sub(r"\r?\n(?=[ \t])", "", value))))


def standard(rendered, name, part):
    """Build the same message with the standard library, as far as it can be trusted with the values."""
    message = EmailMessage(policy=email.policy.SMTP)
    if "=?" not in rendered.subject:
        message["Subject"] = rendered.subject
        message["To"] = Address(rendered.to[0].name, addr_spec=str(rendered.to[0].address))
    message.set_content("".join(map(lines, rendered.text)))
    message.add_alternative("".join(map(lines, rendered.html)), subtype="html")
    message.add_attachment(part, maintype="application", subtype="pdf", filename=name)
    return email.message_from_bytes(message.as_bytes(), policy=email.policy.default)


def check_bytes(message):
    """Assert what the wire needs: CRLF, seven bits, short lines, no leading dot, no early end."""
    content = message.content
    rows = content.split(b"\r\n")
    assert content.isascii()
    assert rows[-1] == b""
    assert b"\r" not in content.replace(b"\r\n", b"")
    assert b"\n" not in content.replace(b"\r\n", b"")
    assert max(map(len, rows)) <= 78
    assert not any(row.startswith(b".") for row in rows)
    assert not re.search(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]", content)


@settings(max_examples=80, deadline=None)
@given(name=cells, text=cells)
@example(name=HOSTILE[0], text="x")
@example(name=HOSTILE[2], text=HOSTILE[3])
@example(name=HOSTILE[8], text=HOSTILE[9])
@example(name=HOSTILE[14], text=HOSTILE[16])
@example(name="x", text=HOSTILE[22])
def test_a_message_says_what_the_cells_say(campaign, name, text):
    """Headers, names, bodies and files come back from two parsers as they went in, or the row is invalid."""
    renderer, builder = campaign
    row = Recipient(2, COLUMNS, (name, "kim@example.org", text))
    try:
        rendered = renderer.render(row)
        message = thawed(builder.freeze(rendered, key="k"))
    except RowError as error:
        refused = (error.code, error.row)
        assert refused in {("D112", 2), ("D118", 2)}
        assert re.search("[\x00-\x1f\x7f-\x9f\ud800-\udfff]", name.strip() + text.strip())
        return
    check_bytes(message)
    assert [str(a) for a in message.envelope.rcpt_to] == ["kim@example.org", "archive@example.org"]
    plain = email.message_from_bytes(message.content)
    modern = email.message_from_bytes(message.content, policy=email.policy.default)
    assert plain.keys() == modern.keys() == HEADERS
    assert b"archive@" not in message.content
    assert decoded(plain["Subject"]) == rendered.subject
    assert decoded(plain["X-Note"]) == rendered.headers[0][1]
    [(shown, address)] = getaddresses([plain["To"]])
    assert (decoded(shown), address) == (rendered.to[0].name, "kim@example.org")
    assert modern["To"].addresses[0].addr_spec == "kim@example.org"
    assert len(modern["To"].addresses) == 1
    expected_name = builder_name(f"{trimmed(name)} {trimmed(text)}.pdf")
    part = bytes(b"%PDF" + bytes(range(256)) * 9)
    meant = standard(rendered, expected_name, part)
    for read in (plain, modern):
        bodies = {p.get_content_type(): p for p in read.walk() if not p.is_multipart()}
        assert list(bodies) == ["text/plain", "text/html", "image/png", "application/pdf"]
        for kind in ("plain", "html"):
            got = bytes(bodies[f"text/{kind}"].get_payload(decode=True)).decode()
            want = meant.get_body((kind,)).get_content()
            if kind == "html":
                got = re.sub(r'"cid:[0-9a-f]{32}@mailmerge"', "'logo.png'", got)
            assert lines(got) == lines(want)
        assert bodies["application/pdf"].get_payload(decode=True) == part
        assert bodies["application/pdf"].get_filename() == expected_name
    if "=?" not in name + text:  # the standard library decodes what only looks like an encoded word
        # it also loses and adds spaces where it folds: ours were compared with the text itself above
        assert "".join(decoded(str(meant["Subject"])).split()) == "".join(rendered.subject.split())
        assert meant["To"].addresses[0].addr_spec == "kim@example.org"
        assert next(meant.iter_attachments()).get_filename() == expected_name


def builder_name(text):
    from mailmerge.message.attachments import clean_name

    return clean_name(text)


@settings(max_examples=30, deadline=None)
@given(first=cells, second=cells)
def test_no_row_leaves_anything_behind(campaign, first, second):
    """A message is the same bytes whatever was built before it."""
    renderer, builder = campaign
    row = Recipient(3, COLUMNS, ("Kim", "kim@example.org", second))
    other = Recipient(2, COLUMNS, (first, "lee@example.org", first))

    def build(recipient):
        try:
            return thawed(builder.freeze(renderer.render(recipient), key="k")).content
        except RowError as error:
            return error.message

    before = build(row)
    build(other)
    assert build(row) == before


def test_a_shared_file_is_the_same_object_in_every_message(tmp_path):
    """Attachments are encoded once and handed on as they are."""
    (tmp_path / "a.pdf").write_bytes(b"x" * 1000)
    templates = MessageTemplates(
        base=tmp_path,
        from_="a@example.org",
        to=("{{ email }}",),
        subject="S",
        text=TemplateSource("text", source="Hello"),
        attachments=(AttachmentRule("a.pdf", base=tmp_path),),
    )
    renderer = Renderer(templates, COLUMNS)
    builder = MessageBuilder(
        version="v1",
        base=tmp_path,
        rules=templates.attachments,
        constants=renderer.constant_attachments,
    )
    thawer = Thawer()
    one, two = (
        thawer.thaw(
            builder.freeze(renderer.render(Recipient(n, COLUMNS, ("", f"a{n}@x.org", ""))), key=str(n)),
            message_id="<1@x>",
            date=DATE,
        )
        for n in (2, 3)
    )
    shared = [segment for segment in one.segments if any(segment is other for other in two.segments)]
    assert any(b"a.pdf" in segment for segment in shared)
