"""A private copy of the list: the list from which the plan was made is the one that is sent."""

from __future__ import annotations

import contextlib
import hashlib
import os
from typing import TYPE_CHECKING, BinaryIO

from mailmerge import files
from mailmerge.errors import FileError, ListError
from mailmerge.file_system import stamp_of
from mailmerge.model import Place
from mailmerge.recipients.kinds import refuse_name

if TYPE_CHECKING:
    from pathlib import Path

_BLOCK = 1 << 20
_PREFIX = "list-"


def snapshot(source: Path, folder: Path) -> Path:
    """Copy a list to ``folder/list-<hash><suffix>``, readable by its owner only, and return that path.

    The same content always gets the same name, and is not copied again: a large list takes long to write.

    Raises:
        ListError: it cannot be read, it is a lock file, or it changed while it was copied.
        FileError: the copy cannot be written.

    """
    place = Place(path=str(source))
    refuse_name(source, str(source))
    if (kept := _kept(source, folder)) is not None:
        return kept
    with files.folder(folder) as opened, opened.draft() as copy:
        try:
            with source.open("rb") as file:
                digest = _copy(file, copy.stream, source)
        except FileError:  # it is the copy that cannot be written
            raise
        except OSError as error:
            raise ListError(f"{source} cannot be read: {error.strerror}", code="D100", place=place) from error
        copy.name = f"{_PREFIX}{digest[:12]}{source.suffix.lower()}"
    return folder / copy.name


def _kept(source: Path, folder: Path) -> Path | None:
    """Return the copy that an earlier run made of this very content; None: there is none.

    Where something is wrong, copying tells what it is.
    """
    with contextlib.suppress(OSError, FileError), source.open("rb") as file:
        before = stamp_of(os.fstat(file.fileno()))
        for name, found in files.contents(folder).items():
            is_copy = name.startswith(_PREFIX) and name.endswith(source.suffix.lower())
            if not is_copy or found.st_size != before[0]:
                continue
            file.seek(0)
            with files.open_own(folder / name) as copy:
                same = _are_the_same(file, copy)
            if same and before == stamp_of(os.fstat(file.fileno())) == stamp_of(source.stat()):
                return folder / name
    return None


def _are_the_same(one: BinaryIO, other: BinaryIO) -> bool:
    while (block := one.read(_BLOCK)) == other.read(_BLOCK):
        if not block:
            return True
    return False


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file's bytes in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _copy(file: BinaryIO, target: BinaryIO, source: Path) -> str:
    before = stamp_of(os.fstat(file.fileno()))
    sha = hashlib.sha256()
    while block := file.read(_BLOCK):
        sha.update(block)
        target.write(block)
    # The name is checked too: many programs save by replacing the old file with a new one.
    if not before == stamp_of(os.fstat(file.fileno())) == stamp_of(source.stat()):
        raise ListError(
            f"{source} changed while it was being read",
            code="D125",
            hint="wait until the program that writes it has finished, then try again",
            place=Place(path=str(source)),
        )
    return sha.hexdigest()
