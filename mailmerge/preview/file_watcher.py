"""Notices that a campaign's files changed, by looking at them now and then."""

from __future__ import annotations

import os
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

Snapshot = dict[Path, tuple[int, int, int]]
"""Of every file: when it was changed, its size, and which file it is."""

MOST_FILES = 2_000
_NOT_TEMPLATES = frozenset({"out", "node_modules", "__pycache__"})


def snapshot(files: Iterable[Path], folders: Iterable[Path]) -> Snapshot:
    """Look at *files*, and at what is in *folders*, hidden and written files apart."""
    paths = list(files)
    for folder in folders:
        paths += islice(_inside(folder), MOST_FILES)
    return {path: facts for path in paths if (facts := _facts(path)) is not None}


def _inside(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in _NOT_TEMPLATES)
        yield from (Path(where, name) for name in sorted(names) if name[0] not in ".~")


def _facts(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
