"""A list from a pipe (``--list -``), kept in a private file: it is read more than once."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import sys
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import ListError
from mailmerge.plan.cache import INPUT, PlanOwner
from mailmerge.recipients.kinds import MOST_OCTETS, PIPED, find_kind

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.campaign.workspace import Workspace
    from mailmerge.config.campaign_file import CampaignFile

MARK = "-"
"""Its name where a list is named."""
SHOWN = "standard input"
_BLOCK = 1 << 20


class StandardInput:
    """What is read from standard input, once, when it is first needed.

    It is kept in the user's cache folder, as plans are, under the digest of its contents: the same list given
    again is the same file. `purge` removes it, and so do 14 days without use.

    Args:
        cache: the folder that plans are kept in.
        owner: the campaign.

    """

    def __init__(self, cache: Path, owner: PlanOwner) -> None:
        self._folder = cache / INPUT
        self._owner = owner.digest

    @property
    def path(self) -> Path:
        """The file that has it.

        Raises:
            ListError: it is empty, or cannot be kept.

        """
        return _kept(self._folder, self._owner)


@functools.cache  # a process has one standard input, and a campaign may be opened again (preview --watch)
def _kept(folder: Path, owner: str) -> Path:
    stream = sys.stdin.buffer if sys.stdin is not None else None
    if stream is None or stream.isatty():
        raise ListError(
            "the list is to come from standard input, which is a terminal",
            code="D220",
            hint="pipe it in: psql --csv -c 'SELECT …' | mailmerge … --list -",
        )
    digest, size = hashlib.sha256(), 0
    files.private_folder(folder)
    with files.folder(folder) as opened, opened.draft() as copy:
        while block := stream.read(_BLOCK):
            digest.update(block)
            size += len(block)
            if size > MOST_OCTETS:
                raise ListError(f"{SHOWN} has more than {MOST_OCTETS // 10**9} GB", code="D220")
            copy.stream.write(block)
        if not size:
            raise ListError(
                f"{SHOWN} is empty",
                code="D220",
                hint="did the program before the pipe fail? Look at its messages",
            )
        copy.name = f"{owner}-{digest.hexdigest()[:16]}{PIPED}"
    return folder / copy.name


def of(file: CampaignFile, workspace: Workspace) -> StandardInput | None:
    """Return it, if a campaign's list is to come from there: ``-`` names no other file."""
    if file.data.source.name != MARK:
        return None
    return StandardInput(workspace.cache, PlanOwner.of(workspace.folder, file.name))


@contextlib.contextmanager
def passing(cache: Path, stem: str) -> Iterator[tuple[Path, str]]:
    """Yield the file that has it and a file name with this *stem* and its ending; gone when that is copied.

    Raises:
        ListError: it is empty, or not a list.

    """
    path = StandardInput(cache, PlanOwner("", stem)).path
    try:
        yield path, stem + find_kind(path, SHOWN).suffixes[0]
    finally:
        files.remove_file(path)


def is_piped(path: Path) -> bool:
    """Return whether a file is one that a list from standard input is kept in."""
    return path.suffix == PIPED and path.parent.name == INPUT
