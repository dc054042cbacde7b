"""What to know about a list's place: open elsewhere, in a cloud folder, older than its original."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_CLOUDS: Final = re.compile(
    r"(OneDrive|Dropbox|Google ?Drive|My Drive|iCloud|Mobile Documents|Nextcloud|ownCloud|Box(?: Sync)?"
    r"|pCloud ?Drive|Seafile|MEGA)(?:\Z| |-|\()"
)
"""Names of folders that a program keeps in step with a server."""
_SLACK: Final = 2.0
"""Seconds by which file systems differ in the time that they record for a change."""


def about_list(path: Path, folder: Path, original: Path | None = None) -> Iterator[str]:
    """Yield reasons why a list may differ from what its owner sees.

    Args:
        path: the list.
        folder: the campaign's folder.
        original: what the list was copied from, relative to the folder; None: it is not a copy.

    """
    if original is not None:
        yield from _about_original(path, folder / original)
    for one in (path, *([folder / original] if original is not None else [])):
        if lock := _open_elsewhere(one):
            yield f"{one.name} is open in a spreadsheet program ({lock}): unsaved changes are not read"
    if cloud := next((found[1] for part in path.parts if (found := _CLOUDS.match(part))), None):
        yield f"{path.name} is in a cloud folder ({cloud}): make sure that it is up to date on this machine"
    elif _on_other_device(path, folder):
        yield f"{path.name} is on another drive than the campaign: it has to be connected whenever you send"


def _about_original(copy: Path, original: Path) -> Iterator[str]:
    try:
        newer = original.stat().st_mtime > copy.stat().st_mtime + _SLACK
        if newer and original.read_bytes() != copy.read_bytes():
            yield f"{copy.name} is a copy, and {original} is newer: copy it again if you mean the new one"
    except OSError:  # it was moved or removed: the copy is what counts
        return


def _open_elsewhere(path: Path) -> str | None:
    """Find the file by which Excel or LibreOffice shows that it has a document open."""
    names = (f"~${path.name}", f"~${path.name[2:]}", f".~lock.{path.name}#")
    return next((name for name in names if os.path.lexists(path.parent / name)), None)


def _on_other_device(path: Path, folder: Path) -> bool:
    try:
        here = next(parent for parent in (folder, *folder.resolve().parents) if parent.exists())
        return path.stat().st_dev != here.stat().st_dev
    except (OSError, StopIteration):
        return False
