"""How planning accesses the user's files: through an object, so that what it looks at can be recorded.

`FileSystem` is the system's own, and the default everywhere. Planning passes one that records every path,
whether it exists or not (`mailmerge.plan.path_log`): that is how a later command can tell that nothing has
changed. It changes no result.
"""

from __future__ import annotations

# os.path, not Path: this runs on every row
# ruff: noqa: PTH116, PTH118
import os
from itertools import islice
from typing import TYPE_CHECKING

from mailmerge.folders import read_plain

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path


_MOST_OF_A_TEMPLATE = 20_000_000


class FileSystem:
    """Looks at files; nothing is recorded."""

    def looking_for(self, row: int | None) -> int | None:  # noqa: ARG002
        """Set which row's own files are looked for next; return the previous row.

        What is found must be used for this row only, and looked for again for every other one (`used_again`).

        Args:
            row: its number; None: what is found may be used for any row.

        """
        return None

    def stat(self, path: str) -> os.stat_result:
        """Look at what *path* leads to, through links.

        Raises:
            OSError: the system's error, above all `FileNotFoundError`.

        """
        return os.stat(path)

    def exists(self, path: str) -> bool:
        """Return whether something has this very name, if only a link that leads nowhere."""
        return os.path.lexists(path)

    def glob(self, root: str, pattern: str) -> list[str]:
        """Return the sorted names under the folder *root* that match; ``**`` reaches into its folders."""
        import glob

        return sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207

    def used_again(self, root: str, pattern: str) -> None:
        """Record that an earlier result of `glob` is used once more."""

    def read(self, path: Path) -> bytes:
        """Read a template.

        Raises:
            OSError: the system's error, or one of ours because it is not a plain file, or too large.

        """
        return read_plain(path, _MOST_OF_A_TEMPLATE)

    def hashed(self, path: str, facts: os.stat_result, sha256: str) -> None:
        """Record the SHA-256 (hexadecimal) of a file that was read by other means.

        Args:
            path: the file.
            facts: what it was before it was read.
            sha256: of what was read.

        """


FILE_SYSTEM = FileSystem()
"""The system's own."""


class PrivateFiles:
    """What we read or write for ourselves: none of it may get into a message, whatever a cell names.

    Files are recognised by device and inode, too, so that a link or a second name does not hide one.

    Args:
        files: each with its description in messages.
        templates: files of bodies; more are added as they are loaded.
        folders: folders that are ours with everything in them.

    """

    _MOST = 5_000

    def __init__(
        self,
        files: Mapping[str, str] | None = None,
        *,
        templates: Iterable[str] = (),
        folders: Iterable[str] = (),
    ) -> None:
        self._known: dict[tuple[int, int], str] = {}
        self._templates: set[tuple[int, int]] = set()
        self._folders = tuple(os.path.realpath(folder) + os.sep for folder in folders)
        self._in_folders: set[tuple[int, int]] | None = None
        for path, what in (files or {}).items():
            for one in _identity(path):
                self._known.setdefault(one, what)
        for path in templates:
            self.add_template(path)

    def add_template(self, path: str) -> None:
        """Add the file of a template."""
        self._templates.update(_identity(path))

    def what(
        self, root: str, real: str, facts: os.stat_result, named: str = "", *, template: bool = False
    ) -> str | None:
        """Return a description of which file of ours it is; None: it is not ours.

        Args:
            root: the folder that it was looked for in, its links resolved.
            real: the file, its links resolved.
            facts: the result of its `stat`.
            named: its path under *root* as it was given.
            template: whether templates may be used, as other templates may.

        """
        inside = real[len(root.rstrip(os.sep)) + 1 :]
        if any(part.startswith(".") and part.strip(".") for text in (named, inside) for part in _parts(text)):
            return "a hidden file"
        one = facts.st_dev, facts.st_ino
        if one in self._known:
            return self._known[one]
        if not template and one in self._templates:
            return "a template"
        for folder in self._folders:
            if real.startswith(folder):
                return "a file that mailmerge wrote"
        if facts.st_nlink > 1 and one in self._written():
            return "a file that mailmerge wrote"
        return None

    def _written(self) -> set[tuple[int, int]]:
        """Read our folders once, to find a file that has another name somewhere else."""
        if self._in_folders is None:
            paths = (
                os.path.join(parent, name)
                for folder in self._folders
                for parent, _, names in os.walk(folder)
                for name in names
            )
            self._in_folders = {one for path in islice(paths, self._MOST) for one in _identity(path)}
        return self._in_folders


def stamp_of(found: os.stat_result) -> tuple[int, int, int]:
    """Return what changes when a file is edited, or replaced by another one."""
    return found.st_size, found.st_mtime_ns, found.st_ino


def _parts(path: str) -> list[str]:
    return path.replace("\\", "/").split("/")


def _identity(path: str) -> tuple[tuple[int, int], ...]:
    try:
        facts = os.stat(path)
    except (OSError, ValueError):
        return ()
    return ((facts.st_dev, facts.st_ino),)
