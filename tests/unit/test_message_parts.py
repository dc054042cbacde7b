"""The pieces of a message: header fields, bodies, files and images, each against its golden form."""

from __future__ import annotations

import base64
import email
import os
import quopri
import re
import socket
from datetime import datetime, timedelta, timezone
from urllib.parse import unquote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mailmerge.addresses import Address, Mailbox
from mailmerge.message import header_fields, verify
from mailmerge.message.attachments import (
    FileStore,
    clean_name,
    guess_type,
)
from mailmerge.message.file_search import FileProblem, FileSearch
from mailmerge.message.inline import InlineImages
from mailmerge.message.text_bodies import TextEncoder, base64_lines, quoted_printable


def box(name, address="kim@example.org"):
    return Mailbox(name, Address.parse(address))


# --- headers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("", b"To: kim@example.org\r\n"),
        ("Kim Lee", b"To: Kim Lee <kim@example.org>\r\n"),
        ("Lee, Kim", b'To: "Lee, Kim" <kim@example.org>\r\n'),
        ('K "x" \\ L', b'To: "K \\"x\\" \\\\ L" <kim@example.org>\r\n'),
        ("Jürgen", b"To: =?utf-8?b?SsO8cmdlbg==?= <kim@example.org>\r\n"),
        ("=?utf-8?q?x?=", b"To: =?utf-8?b?PT91dGYtOD9xP3g/PQ==?= <kim@example.org>\r\n"),
        ("a@evil.org", b'To: "a@evil.org" <kim@example.org>\r\n'),
    ],
)
def test_a_display_name_is_encoded_and_the_address_never(name, field):
    """Bare, quoted or encoded words, whatever is the least."""
    assert header_fields.mailboxes("To", [box(name)]) == field


def test_address_lists_are_folded_between_mailboxes():
    """Each mailbox of a list begins a line."""
    boxes = [box(f"Person Number {n}", f"person{n}@a-rather-long-domain.example.org") for n in range(3)]
    assert header_fields.mailboxes("Cc", boxes) == (
        b"Cc: Person Number 0 <person0@a-rather-long-domain.example.org>,\r\n"
        b" Person Number 1 <person1@a-rather-long-domain.example.org>,\r\n"
        b" Person Number 2 <person2@a-rather-long-domain.example.org>\r\n"
    )


@pytest.mark.parametrize(
    ("name", "value", "field"),
    [
        ("Subject", "Hello", b"Subject: Hello\r\n"),
        ("Subject", "", b"Subject: \r\n"),
        ("Subject", "春天", b"Subject: =?utf-8?b?5pil5aSp?=\r\n"),
        ("Subject", "word " * 15 + "end", b"Subject: " + b"word " * 13 + b"word\r\n word end\r\n"),
        (
            "List-Unsubscribe",
            f"<https://x.org/{'a' * 90}>",
            b"List-Unsubscribe: <https://x.org/" + b"a" * 90 + b">\r\n",
        ),
        ("X-Token", "t" * 90, b"X-Token: " + b"t" * 90 + b"\r\n"),
        ("X-Note", "=?utf-8?q?x?=", b"X-Note: =?utf-8?b?PT91dGYtOD9xP3g/PQ==?=\r\n"),
    ],
)
def test_free_text_fields(name, value, field):
    """As it is where that is possible, folded where it is long, else encoded words."""
    assert header_fields.unstructured(name, value) == field


def test_a_long_word_in_the_subject_is_encoded_to_be_folded():
    """The subject never has a line over 78."""
    field = header_fields.unstructured("Subject", "x" * 200)
    assert max(map(len, field.split(b"\r\n"))) <= 78
    assert field.count(b"=?utf-8?b?") > 3


@settings(max_examples=60, deadline=None)
@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=200), st.integers(0, 70))
def test_encoded_words_are_cut_between_characters(text, column):
    """Each word decodes by itself, is at most 75 long, and the text comes back."""
    words = header_fields.encoded_words(text, column).split(b"\r\n ")
    decoded = [base64.b64decode(word[10:-2]).decode() if word else "" for word in words]
    assert "".join(decoded) == text
    assert all(len(word) <= 75 for word in words)
    assert column + len(words[0]) <= 76


def test_the_date_keeps_its_offset():
    """RFC 5322 in the sender's own time."""
    date = datetime(2026, 3, 1, 9, 5, 7, tzinfo=timezone(timedelta(hours=5, minutes=30)))
    assert header_fields.date_header(date) == b"Date: Sun, 01 Mar 2026 09:05:07 +0530\r\n"
    with pytest.raises(RuntimeError):
        header_fields.date_header(date.replace(tzinfo=None))


def test_a_message_id_is_stable_and_tells_nothing():
    """The same message of a row has the same id in one campaign, and nothing else has."""

    def made(secret=b"s", key="kim@example.org", digest="d" * 64, generation=0, domain="example.com"):
        return header_fields.message_id(secret, key, digest, generation, domain)

    one = made()
    assert one == made()
    others = [made(b"t"), made(key="lee"), made(digest="e" * 64), made(generation=1), made(domain="x.org")]
    assert len({one, *others}) == 6
    assert one.endswith("@example.com>")
    assert "kim" not in one


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("a.pdf", b'Content-Disposition: attachment; filename="a.pdf"\r\n'),
        ("a b.pdf", b'Content-Disposition: attachment; filename="a b.pdf"\r\n'),
        ("发票.pdf", b"Content-Disposition: attachment;\r\n filename*=utf-8''%E5%8F%91%E7%A5%A8.pdf\r\n"),
        ('say "hi".pdf', b"Content-Disposition: attachment;\r\n filename*=utf-8''say%20%22hi%22.pdf\r\n"),
    ],
)
def test_attachment_names_follow_rfc_2231(name, field):
    """Plain names in quotes, all others percent-encoded."""
    assert header_fields.disposition("attachment", name) == field


@pytest.mark.parametrize(
    "name", ["发票" * 40 + ".pdf", "x" * 200 + ".pdf", 'a"b' * 30 + ".pdf", "100%.pdf", "'.pdf"]
)
def test_long_attachment_names_come_back(name):
    """Continuations contain the whole name; no line is over 78."""
    block = header_fields.content_type("application/pdf", name) + header_fields.disposition(
        "attachment", name
    )
    assert max(map(len, block.split(b"\r\n"))) <= 78
    assert email.message_from_bytes(block + b"\r\n").get_filename() == name


@given(st.text(st.characters(codec="utf-8", min_codepoint=32), min_size=1, max_size=120))
def test_no_piece_of_a_name_ends_within_a_character(name):
    """Each continuation of RFC 2231 can be decoded by itself, and together they are the name."""
    field = header_fields.disposition("attachment", name).decode("ascii")
    pieces = re.findall(r"filename(?:\*\d+)?\*=(.*?)(?:;|\r)", field)
    decoded = [unquote(piece, errors="strict") for piece in pieces]
    assert not pieces or "".join(decoded) == "utf-8''" + name


# --- bodies -----------------------------------------------------------------------------------------------

texts = st.text(
    st.one_of(st.sampled_from(" .=\n\r\tFrom x<é王👍"), st.characters(codec="utf-8")), max_size=300
)


@settings(max_examples=100, deadline=None)
@given(st.lists(texts, max_size=6))
def test_chunks_are_encoded_apart_and_read_as_one(chunks):
    """Whatever the cuts, the text comes back, every line is short and none begins with a dot or From."""
    text = "".join(chunks)
    encoding, body = TextEncoder().encode(chunks)
    if encoding == b"quoted-printable":
        decoded = quopri.decodestring(body).decode()
    else:
        decoded = base64.b64decode(body).decode()
    whole = "".join(c.replace("\r\n", "\n").replace("\r", "\n") for c in chunks)
    assert decoded.replace("\r\n", "\n") == whole + ("" if text.endswith(("\n", "\r")) else "\n")
    lines = body.split(b"\r\n")
    assert max(map(len, lines)) <= 76
    assert not any(line.startswith((b".", b"From ")) for line in lines)
    assert body.isascii()


@pytest.mark.parametrize("length", [70, 73, 74, 75, 76, 77, 150, 151])
@pytest.mark.parametrize("end", ["", " ", " \n", "=", "é", ".", "\t\n", "\n"])
def test_no_line_is_over_76_at_any_edge(length, end):
    """The closing soft break and encoded spaces fit, too."""
    encoded = quoted_printable("a" * length + end)
    assert max(map(len, encoded.split(b"\r\n"))) <= 76
    assert quopri.decodestring(encoded).decode().replace("\r\n", "\n") == "a" * length + end


def test_leading_dots_and_from_are_hidden():
    """SMTP needs no dot-stuffing, mbox no escape."""
    assert quoted_printable(".\n..x\nFrom me\nfrom") == (
        b"=2E\r\n=2E=\r\n=2E=\r\nx\r\n=46rom=\r\n me\r\nfrom=\r\n"
    )


def test_base64_where_it_is_smaller():
    """Chinese text is base64, Latin text quoted-printable, and only the message itself decides."""
    encoder = TextEncoder()
    assert encoder.encode(["你好，世界。" * 40])[0] == b"base64"
    assert (
        encoder.encode(["Viele herzliche Grüße aus der schönen Hauptstadt. " * 40])[0] == b"quoted-printable"
    )
    assert encoder.encode(["Hello ", "王", "x" * 500])[0] == b"quoted-printable"


def test_markup_chunks_are_text():
    """HTML chunks come as Markup from the template engine."""
    from markupsafe import Markup

    assert TextEncoder().encode([Markup("<b>"), Markup("ü&amp;")])[1] == b"<b>=\r\n=C3=BC&amp;=\r\n\r\n"


@pytest.mark.parametrize("size", [0, 1, 56, 57, 58, 114, 1000])
def test_base64_lines(size):
    """Lines of 76, a final CRLF, nothing for nothing."""
    data = bytes(range(256)) * 4
    encoded = base64_lines(data[:size])
    assert encoded == base64.encodebytes(data[:size]).replace(b"\n", b"\r\n")


# --- files --------------------------------------------------------------------------------------------------


@pytest.fixture
def base(tmp_path):
    """Return a base folder with a file, a folder, an empty file, a link out, and a secret outside."""
    folder = tmp_path / "files"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.pdf").write_bytes(b"A")
    (folder / "b[1].pdf").write_bytes(b"B")
    (folder / "sub/c.pdf").write_bytes(b"C")
    (folder / "empty.pdf").write_bytes(b"")
    (tmp_path / "secret.txt").write_text("secret")
    (folder / "out.txt").symlink_to(tmp_path / "secret.txt")
    (folder / "up").symlink_to(tmp_path)
    (folder / "loop").symlink_to(folder / "loop")
    (folder / "in.pdf").symlink_to(folder / "a.pdf")
    os.mkfifo(folder / "pipe")
    return folder


@pytest.mark.parametrize(
    ("path", "code"),
    [
        ("../secret.txt", "A302"),
        ("sub/../../secret.txt", "A302"),
        ("/etc/passwd", "A302"),
        ("/proc/self/environ", "A302"),
        ("~/x", "A302"),
        ("\\\\server\\share\\x.pdf", "A302"),
        ("C:\\x.pdf", "A302"),
        ("out.txt", "A302"),
        ("up/secret.txt", "A302"),
        ("up/*.txt", "A302"),
        ("../*", "A302"),
        ("a.pdf\0", "A302"),
        ("a\r\nb.pdf", "A302"),
        ("\udcff.pdf", "A302"),
        ("pipe", "A303"),
        ("sub", "A303"),
        (".", "A303"),
        ("loop", "A303"),
        ("none.pdf", "A301"),
        ("a.pdf/x", "A301"),
        ("none*.pdf", "A301"),
        ("", "A301"),
    ],
)
def test_only_regular_files_inside_the_base_folder(base, path, code):
    """Everything else is refused with a code of its own, and nothing is opened."""
    with pytest.raises(FileProblem) as caught:
        FileSearch().find(base, path)
    assert caught.value.code == code


@pytest.mark.parametrize("path", ["../secret.txt", "/etc/passwd", "out.txt", "up/*.txt"])
def test_a_path_that_leads_out_is_met_with_base(base, path):
    """Whoever keeps the files elsewhere reads how to name their folder."""
    with pytest.raises(FileProblem) as caught:
        FileSearch().find(base, path)
    assert "`base` in [[attach]]" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("a.pdf", ["a.pdf"]),
        ("b[1].pdf", ["b[1].pdf"]),
        ("b[[]1].pdf", ["b[1].pdf"]),
        ("in.pdf", ["a.pdf"]),
        ("[ab]*.pdf", ["a.pdf", "b[1].pdf"]),
        ("**/c.pdf", ["sub/c.pdf"]),
    ],
)
def test_paths_and_globs_are_found(base, path, found):
    """Relative paths, links inside the folder, globs in sorted order."""
    assert FileSearch().find(base, path) == [str(base / name) for name in found]


def test_missing_files_may_be_skipped(base):
    """`missing = skip` skips what is not there, but still refuses what is outside."""
    assert FileSearch().find(base, "none.pdf", "skip") == FileSearch().find(base, "", "skip") == []
    with pytest.raises(FileProblem):
        FileSearch().find(base, "../secret.txt", "skip")


def test_an_empty_file_is_refused(base):
    """Nobody means to attach nothing."""
    with pytest.raises(FileProblem) as caught:
        FileStore().attachment(str(base / "empty.pdf"), "empty.pdf")
    assert caught.value.code == "A304"


def test_the_store_notices_a_changed_file_and_forgets_old_ones(base, monkeypatch):
    """A file is read once per version, and memory is bounded."""
    read = []
    really = os.open

    def noting(path, *options):
        read.append(path)
        return really(path, *options)

    monkeypatch.setattr(os, "open", noting)
    monkeypatch.setattr(FileStore, "_MOST", 2)
    store = FileStore()
    paths = [str(base / name) for name in ("a.pdf", "sub/c.pdf", "b[1].pdf")]
    first = store.attachment(paths[0], "a.pdf")
    assert store.attachment(paths[0], "a.pdf") == first
    assert read == paths[:1]
    (base / "a.pdf").write_bytes(b"AA")
    assert store.attachment(paths[0], "a.pdf").file.size == 2
    assert read == paths[:1] * 2
    for path in (*paths, paths[0]):
        store.attachment(path, "x.pdf")
    assert read == [*paths[:1] * 2, *paths[1:], paths[0]]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("../../etc/passwd", "attachment.-..-etc-passwd"),
        ("..\\x\\evil.exe", "attachment.-x-evil.exe"),
        ("Rechnung 2025/117.pdf", "Rechnung 2025-117.pdf"),
        ("invoice\u202efdp.exe", "invoicefdp.exe"),
        ("a\r\nb.pdf", "a b.pdf"),
        ("\x00", "attachment"),
        ("", "attachment"),
        (".htaccess", "attachment.htaccess"),
        ("  .pdf", "attachment.pdf"),
        ("发票.pdf", "发票.pdf"),
        ("u\u0308.pdf", "ü.pdf"),
        ("x" * 300 + ".pdf", "x" * 236 + ".pdf"),
    ],
)
def test_attachment_names_are_made_harmless(name, shown):
    """Last component only, nothing invisible, nothing that turns text around, not too long."""
    assert clean_name(name) == shown


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("a.pdf", "application/pdf"),
        ("A.PNG", "image/png"),
        ("a.docx", "application/vnd.openxmlformats-officedocument.wordprocessingml.document"),
        ("a.txt", "text/plain"),
        ("a.ics", "text/calendar"),
        ("a.tar.gz", "application/gzip"),
        ("a.eml", "message/rfc822"),
        ("a.mht", "application/octet-stream"),
        ("a.unheard", "application/octet-stream"),
        ("a", "application/octet-stream"),
    ],
)
def test_types_are_guessed_from_the_name(name, kind):
    """The same on every machine; of composite types only a message is not opaque."""
    assert guess_type(name) == kind


# --- images -----------------------------------------------------------------------------------------------


@pytest.fixture
def images(base):
    """Return the image finder over the base folder with a picture in it."""
    (base / "logo 1.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    (base / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return lambda static=(): InlineImages(base, "v1", FileStore(), static)


@pytest.mark.parametrize(
    "tag",
    [
        '<img src="a.png">',
        "<IMG alt='x > y' SRC='a.png'/>",
        '<img alt="Sales > Offers" src="a.png" title="a > b">',
        '<img alt="src=gone.png" title=\' src="gone.png"\' src="a.png">',
        "<img alt=it's src=a.png>",
        "<img width=1 src=a.png>",
        '<td background="a.png">',
        '<v:fill src="sub/../a.png" />',
        '<img src="logo 1.png">',
        '<img src="logo%201.png?v=2">',
        '<!--[if mso]><img src="a.png"><![endif]-->',
        "<IMG\n  SRC = a.png\n>",
        '<img alt="x"src="a.png">',
        '<img src=".\\\\sub\\\\..\\\\a.png">'.replace("\\\\", "\\"),
        '<img src="a.\npng">',
        '<img src="logo&#32;1.png">',
        '<img srcset="a.png 1x, https://x.org/b.png 2x">',
        '<picture><source srcset="a.png" media="(min-width: 600px)"></picture>',
        '<video poster="a.png" src="film.mp4">',
        '<p style="color:red; background:url(a.png)">',
        "<p style='background:URL( \"a.png\" )'>",
        '<p style="background:url(&quot;a.png&quot;)">',
        "<table style=\"background-image:url('logo 1.png')\">",
        "<style>.a { background: #fff url('a.png') no-repeat }</style>",
        '<style type="text/css">@media all { .a { background: url(a.png?v=1) } }</style>',
        '<body background="a.png">',
        '<v:image src="a.png" style="width:1px" />',
        '<img src="file://{base}/a.png">',
        "<img src='{base}/a.png'>",
    ],
)
def test_d46_local_images_become_parts(images, base, tag):
    """Pictures are found however people, their editors and Outlook write them."""
    finder = images()
    tag = tag.replace("{base}", str(base))
    rewritten = finder.rewrite(tag)
    assert "cid:" in rewritten
    assert not re.search(r"(?<!https://x.org/)\b[a1]\.\n?png", rewritten)
    assert len(finder.parts([tag])) == 1


@pytest.mark.parametrize(
    "chunks",
    [
        ('<p>a</p><img alt="Sales > ', "Ann", '" src="', "a.png", '"><p>b</p>'),
        ("<img alt='a > b", "Ann", "' src='", "a.png", "'>"),
        ('<img title="a < b" src="', "a.png", '">'),
        ('<p style="background:url(', "a.png", ')">'),
        ("<p>x</p><style>.a { color:", "red", "} .b { background:url(a.png) }</style>"),
    ],
)
def test_d46_a_tag_in_pieces_is_joined_behind_a_bracket_in_quotes(images, chunks):
    """A ">" in quotes does not end the tag that a value belongs to."""
    finder = images([chunk for chunk in chunks if "<" in chunk or "=" in chunk])
    joined = finder.joined(chunks)

    assert any("cid:" in finder.rewrite(chunk) for chunk in joined)
    assert "".join(joined) == "".join(chunks)


@pytest.mark.parametrize(
    "text",
    [
        '<img src="https://x.org/a.png">',
        '<img src="http://x.org/a.png">',
        '<img src="//x.org/a.png">',
        '<img src="data:image/png;base64,AA">',
        '<img src="cid:x@y">',
        '<img src="file:///etc/passwd">',
        '<img src="C:\\Users\\a.png">',
        "<p style='background:url(https://x.org/a.png)'>",
        "<style>/* url(gone.png) */ @font-face { src: url(x.woff2) }</style>",
        "<p>url(gone.png) <code>style='url(gone.png)'</code></p>",
        '<video src="film.mp4"><source src="film.webm"></video><script src="a.js"></script>',
        '<img src="">',
        '<!-- <img src="gone.png"> -->',
        '<!-- <img src="gone.png"> is never closed',
        "<!--" * 20_000,
        '<a href="a.png">',
        "img src=a.png",
    ],
)
def test_other_links_are_left_alone_and_never_fetched(images, text, monkeypatch):
    """What has a scheme stays a link; no socket is opened."""
    monkeypatch.setattr(socket, "socket", None)
    finder = images()
    assert finder.rewrite(text) == text
    assert finder.parts([text]) == ()


@pytest.mark.parametrize(
    ("source", "code"),
    [
        ("gone.png", "A310"),
        ("../secret.txt", "A311"),
        ("/etc/x.png", "A311"),
        ("a.pdf", "A317"),
        ("page.png", "A317"),
        ("empty.png", "A304"),
    ],
)
def test_what_is_no_image_of_the_campaign_is_an_error(images, base, source, code):
    """A broken picture is noticed before anything is sent, whoever named it."""
    finder = images((f'<img src="{source}">',))
    (base / "page.png").write_text("<html><body>404 not found</body></html>")
    (base / "empty.png").touch()
    with pytest.raises(FileProblem) as caught:
        finder.rewrite(f'<img src="{source}">')
    assert caught.value.code == code
    assert "[[attach]]" not in (caught.value.hint or "")


def test_tags_made_of_several_chunks_are_joined(images):
    """A source that comes from a cell is found as well."""
    finder = images(('<p><img alt="', '"><img src="', '.png">'))
    chunks = ("<p>", '<p><img alt="', "x", '"><img src="', "a", '.png">', "end")
    assert finder.joined(chunks) == ("<p>", '<p><img alt="x"><img src="a.png">', "end")


# --- verification --------------------------------------------------------------------------------------

NAMES = ["From", "To", "Subject"]
GOOD = b"From: a@x.org\r\nTo: b@x.org,\r\n c@x.org\r\nSubject: \r\n"


def test_a_good_header_block_passes():
    """Folded lines and empty values are fine."""
    verify.verify_headers(GOOD, NAMES)
    verify.verify_addresses(b'To: "a, <b@y.org>" <c@x.org>,\r\n d@x.org\r\n', ["c@x.org", "d@x.org"])


@pytest.mark.parametrize(
    "block",
    [
        GOOD + b"Bcc: v@x.org\r\n",
        GOOD.replace(b"Subject", b"Subjekt"),
        GOOD.replace(b"c@x.org\r\n", b"c@x.org\r\nTo: d@x.org\r\n"),
        GOOD.replace(b"b@x", b"b\x00@x"),
        GOOD.replace(b"b@x", "ü@x".encode()),
        GOOD.replace(b"\r\n c", b"\n c"),
        GOOD.replace(b"\r\n c", b"\r c"),
        GOOD.replace(b"\r\n c", b"\r\n\r\n c"),
        GOOD.replace(b" c@", b" c" * 600 + b"@"),
        GOOD[:-2],
        GOOD + b"\r\n",
        GOOD.replace(b"\r\n c", b"\r\n \r\n c"),
    ],
)
def test_any_other_header_block_is_a_bug(block):
    """Another field, a bare line break, a control character or a long line stops everything."""
    with pytest.raises(RuntimeError, match="bug"):
        verify.verify_headers(block, NAMES)


def test_the_address_field_must_match_the_envelope():
    """One address more or less is a bug."""
    with pytest.raises(RuntimeError, match="bug"):
        verify.verify_addresses(b"To: a@x.org, b@x.org\r\n", ["a@x.org"])
    with pytest.raises(RuntimeError, match="bug"):
        verify.verify_bodies([b"\xff\r\n"])
