"""The sources of bounces: a maildir, an mbox, files of single messages, or an IMAP mailbox.

Nothing is changed there. Of each message the first megabyte is read; anything but a regular file is skipped.
"""

from __future__ import annotations

import os
import re
import stat
from typing import TYPE_CHECKING, BinaryIO

from msgspec import Struct

from mailmerge.bounces.mime import MOST_OCTETS
from mailmerge.errors import CampaignFileError
from mailmerge.folders import open_to_read

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

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
