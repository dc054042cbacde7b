"""The sources of bounces: a maildir, an mbox, files of single messages, or an IMAP mailbox.

Nothing is changed there, and nothing is marked as read. Of each message the first megabyte is read; anything
but a regular file is skipped.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, Any, BinaryIO

from msgspec import Struct

from mailmerge.bounces.mime import MOST_OCTETS, split_fields
from mailmerge.bounces.report import may_be_report
from mailmerge.errors import CampaignFileError
from mailmerge.folders import open_to_read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from mailmerge.mail_folders.imap import ImapServer
    from mailmerge.mail_folders.mail_place import MailPlace


class FoundMessage(Struct, frozen=True):
    """One message that was found."""

    name: str
    """Where it was found, for people."""
    raw: bytes
    """Its first megabyte."""


def letters(place: MailPlace) -> Iterator[FoundMessage]:
    """Yield the messages of a place on this machine, as they are found.

    Raises:
        CampaignFileError: it cannot be read.

    """
    try:
        if place.form == "maildir":
            yield from _of_maildir(place.path)
        elif place.form == "mbox":
            yield from _of_mbox(place.path)
        else:
            yield from _of_files(place.path)
    except OSError as error:
        raise CampaignFileError(
            f"cannot read {place.path}: {error.strerror or error}", code="B802", hint="is the path right?"
        ) from error


def _of_maildir(folder: Path) -> Iterator[FoundMessage]:
    found = [folder / name for name in ("cur", "new") if (folder / name).is_dir()]
    if not found:
        folder.stat()  # reports that it does not exist
        raise CampaignFileError(
            f"{folder} is not a maildir: it has no folder cur or new",
            code="B802",
            hint="--eml takes a folder of single messages, --mbox a file",
        )
    for part in found:
        yield from _in_folder(part)


def _of_files(path: Path) -> Iterator[FoundMessage]:
    if path.is_dir():
        yield from _in_folder(path)
        return
    letter = _of_file(path.resolve())
    if letter is None:
        path.stat()
        raise CampaignFileError(f"{path} is not a file", code="B802", hint="name a file or a folder of files")
    yield letter


def _in_folder(folder: Path) -> Iterator[FoundMessage]:
    with os.scandir(folder) as entries:
        plain = (entry for entry in entries if entry.is_file(follow_symlinks=False))
        names = sorted(entry.name for entry in plain if not entry.name.startswith("."))
    for name in names:
        if (letter := _of_file(folder / name)) is not None:
            yield letter


def _of_file(path: Path) -> FoundMessage | None:
    """Read a regular file; None: it is not one, or was moved meanwhile, as mail programs do."""
    try:
        file = open_to_read(str(path))
    except FileNotFoundError:
        return None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            return None
        return FoundMessage(str(path), file.read(MOST_OCTETS))


_ENVELOPE = re.compile(rb"From \S+.{0,80}\d\d:\d\d")
"""The line with which a message begins in an mbox; other lines with that word are content."""


def _of_mbox(path: Path) -> Iterator[FoundMessage]:
    if not path.is_file():
        path.stat()
        raise CampaignFileError(f"{path} is not an mbox file", code="B802", hint="--maildir takes a folder")
    with path.open("rb") as file:
        for number, raw in enumerate(_in_mbox(file), 1):
            yield FoundMessage(f"{path}:{number}", raw)


def _in_mbox(file: BinaryIO) -> Iterator[bytes]:
    """Yield the messages, each truncated after a megabyte."""
    kept: list[bytes] = []
    size, blank, begun = 0, True, False
    while line := file.readline(MOST_OCTETS):
        if blank and _ENVELOPE.match(line):
            if begun:
                yield b"".join(kept)
            kept, size, begun = [], 0, True
        elif begun and size < MOST_OCTETS:
            kept.append(line)
            size += len(line)
        blank = not line.strip()
    if begun:
        yield b"".join(kept)


# --- an IMAP mailbox ---------------------------------------------------------------------------------------

_AT_A_TIME = 200
_FIELDS = (
    "FROM SUBJECT RETURN-PATH CONTENT-TYPE AUTO-SUBMITTED PRECEDENCE X-FAILED-RECIPIENTS IN-REPLY-TO "
    "REFERENCES X-AUTOREPLY X-AUTORESPOND X-AUTORESPONDER X-VACATION FEEDBACK-TYPE"
)


class ImapMailbox:
    """A mailbox to read; each read makes one connection.

    It is opened with EXAMINE and messages are fetched with BODY.PEEK (RFC 3501 sections 6.3.2 and 6.4.5).
    First only the fields that distinguish a report from other mail are fetched, and then the first megabyte
    of those that may be one: personal letters are not read.

    Args:
        server: the mailbox's server.

    """

    def __init__(self, server: ImapServer) -> None:
        self._server = server
        self._seen: set[tuple[int, int]] = set()
        """What was read before: UIDVALIDITY and UID."""

    def letters(self, since: datetime | None, stopped: Callable[[], bool]) -> Iterator[FoundMessage]:
        """Yield the messages that may be reports, without those that were read before.

        Args:
            since: only what arrived on this day or later.
            stopped: returns whether to stop reading.

        Raises:
            CampaignFileError: the optional package is missing, or the folder does not exist.
            SessionError: the server cannot be reached, is not who it should be, or refuses us.

        """
        with self._server.signed_in() as client:
            yield from self._look(client, since, stopped)

    def _look(
        self, client: Any, since: datetime | None, stopped: Callable[[], bool]
    ) -> Iterator[FoundMessage]:
        place = self._server.place
        chosen = client.select_folder(place.folder, readonly=True)
        validity = int(chosen.get(b"UIDVALIDITY", 0))
        found = client.search(["SINCE", since.date()] if since else ["ALL"])
        uids = [uid for uid in found if (validity, uid) not in self._seen]
        for start in range(0, len(uids), _AT_A_TIME):
            for uid in self._candidates(client, uids[start : start + _AT_A_TIME]):
                if stopped():
                    return
                fetched = client.fetch([uid], [f"BODY.PEEK[]<0.{MOST_OCTETS}>"])
                raw = _octets(fetched.get(uid, {}))
                if raw:
                    yield FoundMessage(f"{place} uid {uid}", raw[:MOST_OCTETS])
            self._seen.update((validity, uid) for uid in uids[start : start + _AT_A_TIME])
            if stopped():
                return

    @staticmethod
    def _candidates(client: Any, uids: Sequence[int]) -> list[int]:
        """Return which messages may be reports, judging by their header fields."""
        found = client.fetch(uids, [f"BODY.PEEK[HEADER.FIELDS ({_FIELDS})]"])
        return [
            uid
            for uid in uids
            if may_be_report(split_fields(_octets(found.get(uid, {})).replace(b"\r\n", b"\n"))[0])
        ]


def _octets(fetched: dict[bytes, Any]) -> bytes:
    """Return the one item of a response that is a body."""
    return next(
        (value for name, value in fetched.items() if name.startswith(b"BODY[") and isinstance(value, bytes)),
        b"",
    )
