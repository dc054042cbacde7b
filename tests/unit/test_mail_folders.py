"""Where copies go, and how they are put into maildirs and mboxes."""

from __future__ import annotations

import contextlib
import errno
import mailbox
import os
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from mailmerge.addresses import Address
from mailmerge.campaign.connect import mailbox_place
from mailmerge.config.accounts import Account
from mailmerge.errors import FileError
from mailmerge.mail_folders.keeping import maildir_folder, mbox_folder
from mailmerge.message.builder import with_bcc
from mailmerge.model import Envelope, Message
from mailmerge.option_types import COPY_TO
from mailmerge.validation import ValidationError

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 27, 10, tzinfo=UTC)
ONE = b"Message-ID: <1@example.org>\r\nSubject: One\r\n\r\nHello\r\nFrom here\r\n>From there\r\n"


@pytest.mark.parametrize(
    "text", ["Sent", "imap:", "imap: ", "imaps://example.org/Sent", "pop:Sent", "mbox://x"]
)
def test_what_is_not_a_place_for_copies(text: str) -> None:
    """Only a form with a name is: a server is named by the account."""
    with pytest.raises(ValidationError, match="place for copies"):
        COPY_TO.read(text)


@pytest.mark.parametrize("text", ["imap:Sent", "imap:Archive/2026", "maildir:~/Mail/.Sent", "mbox:sent.mbox"])
def test_what_is_a_place_for_copies(text: str) -> None:
    """The three forms."""
    assert COPY_TO.read(text) == text


@pytest.mark.parametrize(
    ("said", "host", "port"),
    [
        ({"imap": "imap.example.org"}, "imap.example.org", 993),
        ({"imap": "imap://ann@mail.example.org"}, "mail.example.org", 143),
        ({"bounces": "imaps://in.example.org/Bounces", "imap": "imap.example.org"}, "imap.example.org", 993),
        ({"bounces": "imaps://in.example.org/Bounces"}, "in.example.org", 993),
        ({"bounces": "mbox:/var/mail/me", "provider": "fastmail"}, "imap.fastmail.com", 993),
    ],
)
def test_which_server_has_the_mailbox(said: dict[str, str], host: str, port: int) -> None:
    """What the account says of it, that of its bounces, or the provider's."""
    place = mailbox_place(Account(host="smtp.example.org", user="ann", **said))  # type: ignore[arg-type]
    assert place is not None
    assert (place.host, place.port) == (host, port)


def test_nobody_says_which_server_has_the_mailbox() -> None:
    """Then none is guessed: a password would go there."""
    assert mailbox_place(Account(host="smtp.example.org", user="ann")) is None


def test_an_mbox_gives_back_what_was_put_into_it(tmp_path: Path) -> None:
    """Lines that begin with From are quoted, also behind what another program has left without an end."""
    path = tmp_path / "sub" / "sent.mbox"
    with mbox_folder(path) as folder:
        folder.add(ONE, "<1@example.org>", NOW)
        assert folder.contains("<1@example.org>")
        assert not folder.contains("<2@example.org>")
    with path.open("ab") as file:
        file.write(b"From somebody Fri Nov 27 10:00:00 2026\nSubject: Other\n\nno end")
    with mbox_folder(path) as folder:
        folder.add(ONE.replace(b"1@", b"2@"), "<2@example.org>", NOW)
        assert folder.contains("<1@example.org>")
        assert folder.contains("<2@example.org>")
    with contextlib.closing(mailbox.mbox(path, create=False)) as box:
        messages = list(box)
    assert [message["Subject"] for message in messages] == ["One", "Other", "One"]
    assert messages[2].get_payload() == "Hello\n>From here\n>>From there\n"


def test_f14_an_mbox_that_cannot_be_written_whole_is_as_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk nothing of the message stays."""
    path = tmp_path / "sent.mbox"
    with mbox_folder(path) as folder:
        folder.add(ONE, "<1@example.org>", NOW)
        before = path.read_bytes()
        write = os.write
        monkeypatch.setattr(os, "write", lambda handle, data: write(handle, data[:10]))
        with pytest.raises(FileError) as caught:
            folder.add(ONE, "<2@example.org>", NOW)
    assert caught.value.errno == errno.ENOSPC
    assert path.read_bytes() == before


def test_a_file_that_is_no_mbox_is_left_alone(tmp_path: Path) -> None:
    """And so is a link: what it leads to is not ours to write."""
    notes, link = tmp_path / "notes.txt", tmp_path / "link"
    notes.write_bytes(b"mine\n")
    link.symlink_to(notes)
    for path in (notes, link):
        with pytest.raises(FileError), mbox_folder(path):
            pass
    assert notes.read_bytes() == b"mine\n"


def test_a_maildir_gives_back_what_was_put_into_it(tmp_path: Path) -> None:
    """It is found whatever flags a mail program has added since, and what a killed run left is replaced."""
    path = tmp_path / "Mail"
    with maildir_folder(path) as folder:
        folder.add(ONE, "<1@example.org>", NOW)
        assert folder.contains("<1@example.org>")
        assert not folder.contains("<2@example.org>")
    (kept,) = (path / "cur").iterdir()
    kept.rename(kept.with_name(f"{kept.name}R"))
    left = path / "tmp" / kept.name.partition(":")[0]
    left.write_bytes(b"half")
    with maildir_folder(path) as folder:
        assert folder.contains("<1@example.org>")
        folder.add(ONE, "<1@example.org>", NOW)
    assert not list((path / "tmp").iterdir())
    assert [path.read_bytes() for path in (path / "cur").iterdir()] == [ONE.replace(b"\r\n", b"\n")] * 2
    (message,) = mailbox.Maildir(path, create=False)  # two names of one message
    assert set(message.get_flags()) <= {"R", "S"}
    assert message.get_payload() == "Hello\nFrom here\n>From there\n"


def test_who_is_in_bcc_is_told_by_the_envelope() -> None:
    """Whoever is in the envelope and in neither To nor Cc; without one the bytes are those that were sent."""
    content = (
        b'From: me@example.org\r\nTo: "Doe, Jane" <jane@example.org>\r\n'
        b"Cc: a@example.org,\r\n B@example.org\r\nSubject: x\r\n\r\nTo: c@example.org\r\n"
    )

    def kept(*addresses: str) -> bytes:
        envelope = Envelope(Address.parse("me@example.org"), tuple(map(Address.parse, addresses)))
        return with_bcc(Message("<1@example.org>", "k", 2, envelope, (content[:20], content[20:])))

    assert kept("jane@example.org", "a@example.org", "b@example.org") == content
    assert kept("jane@example.org", "c@example.org", "d@example.org") == (
        b"Bcc: c@example.org,\r\n d@example.org\r\n" + content
    )
