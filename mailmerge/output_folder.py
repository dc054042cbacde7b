"""The folder of results, ``out``: what a person has edited there since we wrote it is never overwritten.

Which files are as we wrote them is determined by their SHA-256, kept in ``.written`` next to them: a folder
of results may be copied, moved or deleted as a whole. A file that is not recorded there is somebody else's.
The new one gets a number (``failed-2.csv``), and numbered files of ours that are out of date are removed.
What is not a plain file (a link, a pipe) is replaced, as in `mailmerge.files`: nobody edits there.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from mailmerge import files
from mailmerge.errors import FileError

if TYPE_CHECKING:
    from collections.abc import Iterator

RECORD = ".written"
"""The file in a folder of ours that says which of its files we wrote."""
_LARGEST_RECORD = 1 << 16


class _ResultsRecord(msgspec.Struct):
    list: str = ""
    files: dict[str, str] = msgspec.field(default_factory=dict)


class OutputFolder:
    """One folder of results while files are written into it.

    Args:
        path: the folder; created with the first file.
        source: the list that the results come from, to be remembered; None: keep the earlier one.
        spared: files of ours that are not replaced: the list that is being sent.

    """

    def __init__(self, path: Path, *, source: Path | None = None, spared: Path | None = None) -> None:
        self.path = path
        self.spared = spared
        self.names: dict[str, str] = {}
        """The name of each file that was written, by its usual name."""
        self._ours, self._list = _read(path / RECORD)
        if source is not None:
            self._list = str(source.absolute())

    @property
    def list_path(self) -> Path | None:
        """The list that the latest run was made from: its failed rows are rows of it."""
        return Path(self._list) if self._list else None

    @contextlib.contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield where to write the file *name*; once that is done it is remembered as ours.

        Raises:
            FileError: the folder is not ours, or cannot be written.

        """
        chosen = next(one for one in _numbered(name) if self._may_replace(one))
        path = self.path / chosen
        yield path
        self.names[name] = chosen
        self._ours[chosen] = _digest(path)
        self._remove_outdated(name, chosen)
        self._save()

    def remove(self, name: str) -> None:
        """Remove the file *name*, and numbered ones, if we wrote them.

        Raises:
            FileError: one cannot be removed.

        """
        if self._remove_outdated(name, None):
            self._save()

    def notes(self) -> Iterator[str]:
        """Yield which files were not overwritten."""
        for name, chosen in self.names.items():
            if name != chosen:
                yield f"{self.path / name} is kept as you edited it: the new one is {chosen}"

    def _may_replace(self, name: str) -> bool:
        path = self.path / name
        if not _is_plain(path):
            return True
        if self.spared is not None and self.spared.exists() and self.spared.samefile(path):
            return False
        return self._ours.get(name) == _digest(path)

    def _remove_outdated(self, name: str, newest: str | None) -> bool:
        pattern = re.compile(rf"{re.escape(Path(name).stem)}(-\d+)?{re.escape(Path(name).suffix)}\Z")
        outdated = [one for one in self._ours if pattern.match(one) and one != newest]
        if newest is None and os.path.lexists(self.path / name) and not _is_plain(self.path / name):
            files.remove_file(self.path / name)
        for one in outdated:
            if self._may_replace(one):
                if os.path.lexists(self.path / one):
                    files.remove_file(self.path / one)
                del self._ours[one]
        return bool(outdated)

    def _save(self) -> None:
        # Without it the next run numbers its files, and nothing is lost.
        with contextlib.suppress(FileError):
            files.write_file(self.path / RECORD, msgspec.json.encode(_ResultsRecord(self._list, self._ours)))


def _numbered(name: str) -> Iterator[str]:
    yield name
    path = Path(name)
    number = 2
    while True:
        yield f"{path.stem}-{number}{path.suffix}"
        number += 1


def _is_plain(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.lstat().st_mode)
    except OSError:
        return False


def _digest(path: Path) -> str:
    """Return the hash of a file's bytes; if it cannot be read, a value that no file has."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _read(path: Path) -> tuple[dict[str, str], str]:
    """Read which files are ours, and the list; what is not in our own format is ignored."""
    if not _is_plain(path):
        return {}, ""
    try:
        with path.open("rb") as file:
            found = msgspec.json.decode(file.read(_LARGEST_RECORD), type=_ResultsRecord)
    except (OSError, msgspec.DecodeError):
        return {}, ""
    return {name: digest for name, digest in found.files.items() if digest and "/" not in name}, found.list
