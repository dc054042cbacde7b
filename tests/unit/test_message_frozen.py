"""Frozen messages: they depend on what is said and to whom, on nothing else, and thaw to the same bytes."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta, timezone
from functools import partial
from typing import TYPE_CHECKING

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from mailmerge import Campaign
from mailmerge.addresses import Address, Mailbox
from mailmerge.errors import RowError, SecretLeak
from mailmerge.masking import Secret
from mailmerge.message import MessageBuilder, Thawer
from mailmerge.model import AttachmentRule, Columns, FrozenMessage, Recipient, Rendered, RenderedAttachment

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.model import Message

DATE = datetime(2026, 3, 1, 9, 30, 15, tzinfo=UTC)
NOBODY = Recipient(7, Columns((), ()), ())
PDF = b"%PDF" + bytes(range(256)) * 9
HTML = "<p>Hello <img src='logo.png'></p>"


def box(text: str, name: str = "") -> Mailbox:
    return Mailbox(name, Address.parse(text))


@pytest.fixture
def base(tmp_path: Path) -> Path:
    """Return a folder with two files to attach and a picture."""
    folder = tmp_path / "spring"
    folder.mkdir()
    (folder / "a.pdf").write_bytes(PDF)
    (folder / "b.txt").write_bytes(b"B")
    (folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return folder


def builder(base: Path, version: str = "v1") -> MessageBuilder:
    return MessageBuilder(version=version, base=base, rules=[AttachmentRule("", base=base)])


WHOLE = Rendered(
    recipient=NOBODY,
    from_=box("me@example.com", "Me"),
    to=(box("kim@example.org", "Kim"),),
    cc=(box("lee@example.org"),),
    bcc=(box("boss@example.org"),),
    reply_to=(box("help@example.com"),),
    sender=box("robot@example.com"),
    subject="Hi",
    text=("Hello ", "Kim"),
    html=(HTML,),
    headers=(("X-Note", "1"),),
    attachments=(RenderedAttachment(0, "a.pdf"), RenderedAttachment(0, "b.txt", "Letter")),
)


@pytest.fixture
def frozen(base: Path) -> FrozenMessage:
    """Freeze a message that has everything."""
    return builder(base).freeze(WHOLE, key="kim")


def thaw(frozen: FrozenMessage, thawer: Thawer | None = None) -> Message:
    return (thawer or Thawer()).thaw(frozen, message_id="<1@example.com>", date=DATE)


# --- the same, whatever is around it ----------------------------------------------------------------------


def test_the_same_date_and_message_id_make_the_same_bytes(frozen: FrozenMessage) -> None:
    """Whoever thaws it, also after it was kept; another Date or Message-ID changes only its own fields."""
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(frozen), type=FrozenMessage)
    thawer = Thawer()
    content = thaw(frozen, thawer).content
    assert kept == frozen
    assert thaw(kept).content == thaw(frozen, thawer).content == content
    later = thawer.thaw(frozen, message_id="<2@example.com>", date=DATE + timedelta(1)).content
    before, after = content.split(b"\r\n", 3), later.split(b"\r\n", 3)
    dates = [b"Date: Sun, 01 Mar 2026 09:30:15 +0000", b"Date: Mon, 02 Mar 2026 09:30:15 +0000"]
    assert before[:3] == [dates[0], b"Message-ID: <1@example.com>", b"X-Mailmerge-ID: 1"]
    assert after[:3] == [dates[1], b"Message-ID: <2@example.com>", b"X-Mailmerge-ID: 2"]
    assert before[3] == after[3]


@pytest.mark.parametrize("minutes", [0, 330, -210, 60 * 14, 0.5, -75.25])
def test_the_size_is_known_before_date_and_message_id_are(base: Path, minutes: float) -> None:
    """It counts both as they will be, in any time zone, and all files."""
    date = DATE.astimezone(timezone(timedelta(minutes=minutes)))
    for rendered in (WHOLE, replace(WHOLE, attachments=(), html=None), replace(WHOLE, text=None)):
        frozen = builder(base).freeze(rendered, key="kim")
        message = Thawer().thaw(frozen, message_id=f"<{'0' * 40}@example.com>", date=date)
        assert frozen.size == message.size == len(message.content)


def test_an_odd_time_zone_is_written_in_whole_minutes(frozen: FrozenMessage) -> None:
    """RFC 5322 has no seconds there; the moment stays the same."""
    odd = DATE.astimezone(timezone(timedelta(hours=1, seconds=15)))
    content = Thawer().thaw(frozen, message_id="<1@x.org>", date=odd).content
    assert content.startswith(b"Date: Sun, 01 Mar 2026 10:30:15 +0100\r\n")


def test_an_account_has_its_return_path_put_in_when_thawed(frozen: FrozenMessage) -> None:
    """What is frozen has the From address; the bytes are the same."""
    bounces = Address.parse("bounces@example.com")
    message = Thawer().thaw(frozen, message_id="<1@example.com>", date=DATE, mail_from=bounces)
    assert str(frozen.envelope.mail_from) == str(thaw(frozen).envelope.mail_from) == "me@example.com"
    assert message.envelope.mail_from == bounces
    assert message.envelope.rcpt_to == frozen.envelope.rcpt_to
    assert message.content == thaw(frozen).content


words = st.lists(st.text(st.characters(codec="utf-8"), max_size=30), min_size=1, max_size=4)


@settings(max_examples=40, deadline=None)
@given(texts=words, order=st.randoms())
def test_freezing_does_not_depend_on_what_was_frozen_before(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], order: object
) -> None:
    """Any order, any builder of the same version: equal messages."""
    base = tmp_path_factory.getbasetemp()
    rows = [replace(WHOLE, text=(text,), html=(text, "<b>"), attachments=()) for text in texts]
    one, other = builder(base), builder(base)
    first = {text: one.freeze(row, key=text) for text, row in zip(texts, rows, strict=True)}
    again = list(zip(texts, rows, strict=True))
    order.shuffle(again)  # type: ignore[attr-defined]
    assert {text: other.freeze(row, key=text) for text, row in again} == first


CAMPAIGN = """
name = "{name}"
[data]
source = "people.csv"
key = "email"
[message]
from = "Me <me@example.com>"
to = "{{{{ name }}}} <{{{{ email }}}}>"
subject = "For {{{{ name }}}}"
text = "body.txt"
html = "body.html"
[[attach]]
path = "a.pdf"
[[attach]]
path = "files/{{{{ name }}}}.txt"
"""


def test_a_campaign_s_folder_name_and_secret_have_no_part_in_it(tmp_path: Path) -> None:
    """The same campaign elsewhere, under another name: every frozen message but for where its files are."""

    def frozen_of(folder: Path, name: str) -> list[FrozenMessage]:
        (folder / "files").mkdir(parents=True)
        (folder / "people.csv").write_text("email,name\nann@example.org,Ann\nbo@example.org,Bo\n")
        (folder / "campaign.toml").write_text(CAMPAIGN.format(name=name))
        (folder / "body.txt").write_text('{% include "part.txt" %}Dear {{ name }}\n')
        (folder / "part.txt").write_text("Hello\n")
        (folder / "body.html").write_text(HTML)
        (folder / "logo.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        for file in ("a.pdf", "files/Ann.txt", "files/Bo.txt"):
            (folder / file).write_text(f"content of {file}")
        definition = Campaign.load(folder, environ={}).definition
        recipients = definition.open_list()
        composer = definition.composer(recipients)
        return [composer.freeze(composer.render(recipient)) for recipient in recipients]

    def without_paths(message: FrozenMessage) -> FrozenMessage:
        return replace(message, files=tuple(replace(file, path=b"") for file in message.files))

    one, two = frozen_of(tmp_path / "one", "spring"), frozen_of(tmp_path / "and/another", "summer")
    assert [len(message.files) for message in one] == [3, 3]
    assert one != two
    assert list(map(without_paths, one)) == list(map(without_paths, two))


# --- the digest --------------------------------------------------------------------------------------------


def changed(**parts: object) -> Callable[[Path], FrozenMessage]:
    return lambda base: builder(base).freeze(replace(WHOLE, **parts), key="kim")


def rewritten(name: str) -> Callable[[Path], FrozenMessage]:
    def freeze(base: Path) -> FrozenMessage:
        (base / name).write_bytes(b"\x89PNG\r\n\x1a\nother")
        return builder(base).freeze(WHOLE, key="kim")

    return freeze


@pytest.mark.parametrize(
    "change",
    [
        changed(subject="Ho"),
        changed(from_=box("me@example.com", "You")),
        changed(from_=box("us@example.com", "Me")),
        changed(sender=None),
        changed(to=(box("kim@example.org", "Kai"),)),
        changed(to=(box("kai@example.org", "Kim"),)),
        changed(cc=()),
        changed(bcc=()),
        changed(bcc=(box("chef@example.org"),)),
        changed(reply_to=()),
        changed(text=("Hello ", "Kai")),
        changed(text=None),
        changed(html=(HTML, "<b>!</b>")),
        changed(headers=(("X-Note", "2"),)),
        changed(headers=(("X-Other", "1"),)),
        changed(attachments=WHOLE.attachments[::-1]),
        changed(attachments=WHOLE.attachments[:1]),
        changed(attachments=(WHOLE.attachments[0], RenderedAttachment(0, "b.txt", "Note"))),
        rewritten("a.pdf"),
        rewritten("logo.png"),
        lambda base: builder(base, "v2").freeze(WHOLE, key="kim"),
    ],
)
def test_the_digest_changes_with_all_that_anybody_sees(
    base: Path, frozen: FrozenMessage, change: Callable[[Path], FrozenMessage]
) -> None:
    """Header fields, texts, files and their names, recipients in no header, boundaries."""
    assert change(base).digest != frozen.digest


def test_the_digest_changes_with_nothing_else(base: Path, tmp_path: Path, frozen: FrozenMessage) -> None:
    """Not with the row's number or key, or where its files are and since when."""
    elsewhere = base.rename(tmp_path / "summer")
    (elsewhere / "a.pdf").rename(elsewhere / "c.pdf")
    (elsewhere / "c.pdf").write_bytes(PDF)
    os.utime(elsewhere / "b.txt", (0, 0))
    files = (RenderedAttachment(0, "c.pdf", "a.pdf"), WHOLE.attachments[1])
    again = builder(elsewhere).freeze(
        replace(WHOLE, recipient=Recipient(8, Columns(("x",), ("x",)), ("y",)), attachments=files), key="lee"
    )
    assert (again.row, again.key) == (8, "lee")
    assert again.digest == frozen.digest


def test_a_type_that_only_the_path_tells_counts(base: Path) -> None:
    """The same bytes under the same name are another attachment if their type is another."""
    for name in ("x.pdf", "x.txt"):
        (base / name).write_bytes(b"same")
    digests = {
        builder(base)
        .freeze(replace(WHOLE, attachments=(RenderedAttachment(0, path, "Doc"),)), key="k")
        .digest
        for path in ("x.pdf", "x.txt")
    }
    assert len(digests) == 2


# --- files between freezing and thawing --------------------------------------------------------------------


def replaced_by_link(path: Path) -> None:
    path.rename(path.with_name("moved"))
    path.symlink_to(path.with_name("moved"))


def remade(path: Path, make: Callable[[Path], object]) -> None:
    path.unlink()
    make(path)


@pytest.mark.parametrize(
    ("happen", "words"),
    [
        (lambda path: path.write_bytes(PDF + b"!"), "changed"),
        (lambda path: path.write_bytes(PDF[::-1]), "changed"),
        (lambda path: path.write_bytes(b""), "changed"),
        (replaced_by_link, "changed"),
        (partial(remade, make=os.mkfifo), "changed"),
        (partial(remade, make=os.mkdir), "changed"),
        (os.unlink, "was removed"),
        (lambda path: path.parent.rename(path.parent.with_name("gone")), "was removed"),
    ],
    ids=["longer", "same length", "empty", "link", "pipe", "folder", "gone", "folder gone"],
)
@pytest.mark.parametrize("read_before", [False, True])
def test_a_file_that_is_not_the_one_that_was_frozen_is_not_sent(
    base: Path, happen: Callable[[Path], object], words: str, read_before: bool
) -> None:
    """Its row is told, with the file's name, whether or not the file had been read and kept before."""
    attached = replace(WHOLE, html=None, attachments=WHOLE.attachments[:1])
    frozen, thawer = builder(base).freeze(attached, key="kim"), Thawer()
    if read_before:
        thaw(frozen, thawer)
    happen(base / "a.pdf")
    with pytest.raises(RowError, match=f'attachment "a.pdf" {words} after') as caught:
        thaw(frozen, thawer)
    assert (caught.value.code, caught.value.row) == ("A306", 7)
    assert caught.value.hint


def test_a_link_of_the_file_s_length_is_not_the_file(base: Path, tmp_path: Path) -> None:
    """What a link says has a length, too: it is as many octets as the path that it leads to."""
    (base / "c.pdf").write_bytes(b"x" * len(str(tmp_path / "secret")))
    frozen = builder(base).freeze(replace(WHOLE, attachments=(RenderedAttachment(0, "c.pdf"),)), key="kim")
    (base / "c.pdf").unlink()
    (base / "c.pdf").symlink_to(tmp_path / "secret")
    with pytest.raises(RowError) as caught:
        thaw(frozen)
    assert caught.value.code == "A306"


def test_an_image_that_changed_is_called_an_image(base: Path, frozen: FrozenMessage) -> None:
    """The words fit what the author knows it as."""
    (base / "logo.png").write_bytes(b"GIF89a")
    with pytest.raises(RowError, match=r'the image "logo.png" changed'):
        thaw(frozen)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_any_more_is_told(base: Path, frozen: FrozenMessage) -> None:
    """It has not changed, so that is not what is said."""
    (base / "a.pdf").chmod(0)
    with pytest.raises(RowError) as caught:
        thaw(frozen)
    assert caught.value.code == "A303"


def test_a_file_that_is_as_it_was_again_is_sent(base: Path, frozen: FrozenMessage) -> None:
    """What counts is what is in it."""
    thawer = Thawer()
    content = thaw(frozen, thawer).content
    (base / "a.pdf").write_bytes(PDF[::-1])
    with pytest.raises(RowError):
        thaw(frozen, thawer)
    (base / "a.pdf").write_bytes(PDF)
    assert thaw(frozen, thawer).content == content


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Note which files are opened."""
    really = os.open
    paths: list[object] = []

    def noting(path: str, *options: int) -> int:
        paths.append(path)
        return really(path, *options)

    monkeypatch.setattr(os, "open", noting)
    return paths


def test_a_shared_file_is_read_once_whether_it_changed_or_not(base: Path, opened: list[object]) -> None:
    """A thousand messages with one brochure do not read it a thousand times, not even to refuse it."""
    rows = [
        builder(base).freeze(replace(WHOLE, html=None, attachments=WHOLE.attachments[:1]), key=key)
        for key in "abcd"
    ]
    thawer = Thawer()
    opened.clear()
    parts = [thaw(row, thawer).segments[-2] for row in rows]
    assert len(opened) == 1
    assert all(part is parts[0] for part in parts)
    (base / "a.pdf").write_bytes(PDF[::-1])
    opened.clear()
    for row in rows:
        with pytest.raises(RowError):
            thaw(row, thawer)
    assert len(opened) == 1


def test_memory_for_encoded_files_is_bounded(base: Path, frozen: FrozenMessage, opened: list[object]) -> None:
    """What was used longest ago is dropped first, and read again when it is needed."""
    thawer = Thawer(keep=2 * len(PDF))
    opened.clear()
    for _ in range(3):
        thaw(frozen, thawer)  # 4 kB of PDF, and two small ones
    assert len(opened) == 3
    small = Thawer(keep=10)
    opened.clear()
    for _ in range(3):
        thaw(frozen, small)
    assert len(opened) == 9


@pytest.mark.skipif(os.name == "nt", reason="names are Unicode there")
def test_a_path_that_is_not_utf_8_can_be_kept(base: Path) -> None:
    """A name in an old encoding, found by a glob, survives being encoded."""
    try:
        (base / os.fsdecode(b"caf\xe9.pdf")).write_bytes(PDF)
    except OSError:
        pytest.skip("this file system has only UTF-8 names")
    attached = replace(WHOLE, attachments=(RenderedAttachment(0, "caf*.pdf"),))
    frozen = builder(base).freeze(attached, key="kim")
    kept = msgspec.msgpack.decode(msgspec.msgpack.encode(frozen), type=FrozenMessage)
    assert kept == frozen
    assert thaw(kept).content == thaw(frozen).content


# --- secrets ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["k7Hq0Zt9Xw2pLmN4", "so-ne-ly-di-gi-ts", "p&ss<w>rd'x\"1234"])
@pytest.mark.parametrize("before", ["", "é" * 20 + " " * 19, "word " * 14])
def test_a_text_without_a_secret_is_searched_for_the_next_one(base: Path, secret: str, before: str) -> None:
    """A short text that was found clean is not, once another secret is in use that it contains."""
    message = builder(base).freeze(replace(WHOLE, text=(f"{before}{secret}",), html=None), key="kim")
    thawer, first = Thawer(), Secret("nobody writes this")
    assert thaw(message, thawer)
    assert thaw(message, thawer)

    second = Secret(secret)

    with pytest.raises(SecretLeak, match="the text"):
        thaw(message, thawer)
    assert first is not second  # both are in use up to here
