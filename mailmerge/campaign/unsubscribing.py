"""The key of a campaign's unsubscribe links: found, or made by the first plan that needs it.

That a series has one is also recorded in the user's state folder, so that a lost key is reported and never
replaced by another one: otherwise links in sent messages would silently stop working.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.config.unsubscribe_keys import key_path, keys_folder, make_key, read_key
from mailmerge.errors import CampaignFileError
from mailmerge.folders import read_plain
from mailmerge.ledger.locks import Lock, LockWait
from mailmerge.model import Status

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.campaign.definition import Definition
    from mailmerge.model import Counts
    from mailmerge.plan.composer import Composer
    from mailmerge.unsubscribe import UnsubscribeKey

_NOTED = "unsubscribe"
_WAIT = 10.0


class _KeyLock(Lock):
    """Only one process makes a key at a time."""

    code = "C514"


def unsubscribe_key(definition: Definition) -> UnsubscribeKey:
    """Return the key of the campaign's series; it is made if the series never had one.

    Raises:
        CampaignFileError: it is lost (C512), cannot be read or is damaged (C513).
        FileError: it cannot be written.
        InUseError: another process is making it, for more than ten seconds.

    """
    series = definition.file.message.series or definition.name
    folder = _folder(definition)
    path = key_path(folder, series)
    noted = definition.workspace.user_state / _NOTED / f"{path.stem}.id"
    try:
        return _the_noted(read_key(path), path, noted)
    except FileNotFoundError:
        files.private_folder(folder)
        with _KeyLock(folder / ".lock", f"the unsubscribe keys {folder}", wait=LockWait(_WAIT)):
            return _made(folder, series, noted)


def _made(folder: Path, series: str, noted: Path) -> UnsubscribeKey:
    path = key_path(folder, series)
    try:
        return _the_noted(read_key(path), path, noted)  # another process has made it meanwhile
    except FileNotFoundError:
        pass
    if key_id := _id_in(noted):
        raise CampaignFileError(
            f"the unsubscribe key of {series!r} ({key_id}) is lost: {path} does not exist",
            code="C512",
            hint="restore the file from a backup: only with it do the links in sent messages work; without "
            'one, series = "NEW NAME" under [message] begins with a new key',
        )
    key = make_key(folder, series)
    _note(key, noted)
    return key


def _id_in(noted: Path) -> str:
    """Return the id of the key that links were made with; empty: this machine has made none."""
    try:
        return read_plain(noted, 1000).decode("ascii", "replace").strip()
    except FileNotFoundError:
        return ""


def _note(key: UnsubscribeKey, noted: Path) -> None:
    files.private_folder(noted.parent)
    files.write_file(noted, f"{key.id}\n".encode())


def _the_noted(key: UnsubscribeKey, path: Path, noted: Path) -> UnsubscribeKey:
    """Make sure that a key is the one that links in earlier messages have; record a new one."""
    known = _id_in(noted)
    if not known:
        _note(key, noted)
    elif known != key.id:
        raise CampaignFileError(
            f"{path} has another unsubscribe key ({key.id}) than the links in earlier messages ({known})",
            code="C512",
            hint="restore the right file from a backup: only with it do those links work; without one, "
            'series = "NEW NAME" under [message] begins with a new key',
        )
    return key


def _folder(definition: Definition) -> Path:
    """Return the folder of keys; if a program named a place for everything, they are there."""
    workspace = definition.workspace
    if definition.given_list is not None and workspace.cache.is_relative_to(workspace.folder):
        return workspace.folder / _NOTED
    return keys_folder(definition.environment)


def key_to_copy(definition: Definition, composer: Composer, counts: Counts) -> Iterator[str]:
    """Yield which key the links need, until a message was accepted: each series has its own."""
    if composer.needs_key and not counts[Status.ACCEPTED]:
        key = unsubscribe_key(definition)
        path = key_path(_folder(definition), key.series)
        yield f"unsubscribe links of {key.series!r}: whatever answers them needs a copy of {path}"


def going_out(definition: Definition, composer: Composer) -> Composer:
    """Return the composer of messages that leave this machine: their unsubscribe links work.

    Raises:
        CampaignFileError, FileError, InUseError: as `unsubscribe_key`.

    """
    return composer.with_tokens(unsubscribe_key(definition)) if composer.needs_key else composer
