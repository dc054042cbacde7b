"""How planning looks at the user's files: through an object, so that somebody can note what it looked at.

`FileSystem` is the system's own, and what everybody uses by default. Whoever plans hands in one that notes
every path, whether there was anything or not (`mailmerge.plan.path_log`): that is how a later command can
tell that nothing has changed. It changes no answer.
"""

from __future__ import annotations

# os.path, not Path: this runs on every row
# ruff: noqa: PTH116
import os
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path


class FileSystem:
    """Looks at files; nothing is noted."""

    def stat(self, path: str) -> os.stat_result:
        """Look at what *path* leads to, through links.

        Raises:
            OSError: as the system says, `FileNotFoundError` above all.

        """
        return os.stat(path)

    def exists(self, path: str) -> bool:
        """Say whether something has this very name, if only a link that leads nowhere."""
        return os.path.lexists(path)

    def glob(self, root: str, pattern: str) -> list[str]:
        """Give the sorted names under the folder *root* that match; ``**`` reaches into its folders."""
        import glob

        return sorted(glob.glob(pattern, root_dir=root, recursive=True))  # noqa: PTH207

    def read(self, path: Path) -> bytes:
        """Read a file.

        Raises:
            OSError: as the system says.

        """
        return path.read_bytes()

    def hashed(self, path: str, facts: os.stat_result, sha256: str) -> None:
        """Be told of the SHA-256 (hexadecimal) of a file that was read by other means.

        Args:
            path: the file.
            facts: what it was before it was read.
            sha256: of what was read.

        """


FILE_SYSTEM = FileSystem()
"""The system's own."""
