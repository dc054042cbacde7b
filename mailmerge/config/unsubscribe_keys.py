"""The user's keys for unsubscribe tokens: one file for each series, which only its owner can read.

They are next to ``config.toml`` and outlive campaigns, ledgers and plans: the links of a message must work
for as long as anybody has it. A server that verifies tokens gets a copy of the series' file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import stat
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mailmerge import files
from mailmerge.errors import CampaignFileError
from mailmerge.folders import read_plain
from mailmerge.suggest import word
from mailmerge.unsubscribe import SECRET_SIZE, UnsubscribeKey, Unsubscription, verify_token

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.config.environment import Environment

_FOLDER = "unsubscribe"
_LARGEST = 10_000
"""Octets of a key's file; a larger one is not ours."""


def keys_folder(environment: Environment) -> Path:
    """Return the folder of the user's keys: next to ``config.toml``."""
    from mailmerge.config.accounts import default_config_path

    return default_config_path(environment).with_name(_FOLDER)


def key_path(folder: Path, series: str) -> Path:
    """Return the file of a series' key; any string is a series."""
    readable = re.sub(r"[^a-z0-9]+", "-", series.lower())[:40].strip("-")
    digest = hashlib.sha256(series.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return folder / f"{readable or 'series'}-{digest}.json"


def read_key(path: Path) -> UnsubscribeKey:
    """Read the file of a key.

    Raises:
        FileNotFoundError: it does not exist.
        CampaignFileError: it cannot be read, others can read it, or it is damaged (C513).

    """
    try:
        content = read_plain(path, _LARGEST)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise _unfit(path, f"cannot be read: {error.strerror or error}") from None
    if sys.platform != "win32":  # there, the folder's access rights apply
        if stat.S_IMODE(path.stat().st_mode) & 0o027:  # a server's group may read its copy
            raise _unfit(path, "can be read by others", f"run: chmod 600 {word(str(path))}")
    try:
        said = json.loads(content)
        key = UnsubscribeKey(said["series"], bytes.fromhex(said["secret"]))
    except (ValueError, KeyError, TypeError, RecursionError):
        raise _unfit(path, "is damaged") from None
    if not isinstance(key.series, str) or len(key.secret) != SECRET_SIZE:
        raise _unfit(path, "is damaged")
    return key


def make_key(folder: Path, series: str) -> UnsubscribeKey:
    """Make the key of a series, and its file; the caller has checked that it does not exist.

    Raises:
        FileError: it cannot be written.

    """
    key = UnsubscribeKey(series, os.urandom(SECRET_SIZE))
    entry = {"series": series, "id": key.id, "secret": key.secret.hex()}
    files.private_folder(folder)
    files.write_file(key_path(folder, series), (json.dumps(entry) + "\n").encode())
    return key


def verify_unsubscribe(
    token: str, keys: Path | str | UnsubscribeKey | Iterable[UnsubscribeKey] | None = None
) -> Unsubscription:
    """Return whom the token of an unsubscribe link unsubscribes, and from which series.

    Args:
        token: as in the link. It may come from anybody: nothing about it is trusted.
        keys: a key's file, or a folder of them; or the keys themselves. Default: the folder
            ``unsubscribe`` in the user's configuration folder.

    Returns:
        The series, and the SHA-256 of the address in its normalised form, which suppression files accept. It
        may be nobody: check `Unsubscription.nobody`.

    Raises:
        UnsubscribeError: it is not a token (M510), was made with another key (M511), or was changed or made
            up (M512).
        CampaignFileError: a key cannot be read (C513).

    """
    if keys is None:
        from mailmerge.config.environment import Environment

        keys = keys_folder(Environment.read(None))
    if isinstance(keys, UnsubscribeKey):
        keys = (keys,)
    elif isinstance(keys, Path | str):
        keys = _keys_at(Path(keys))
    return verify_token(token, keys)


def _keys_at(path: Path) -> Iterator[UnsubscribeKey]:
    """Read a file, or all files of a folder, when the first key is needed."""
    for file in sorted(path.glob("*.json")) if path.is_dir() else [path]:
        try:
            yield read_key(file)
        except FileNotFoundError:
            raise _unfit(file, "does not exist") from None


def _unfit(path: Path, what: str, hint: str | None = None) -> CampaignFileError:
    hint = hint or "restore the file from a backup: without it, links in messages that were sent do not work"
    return CampaignFileError(f"the unsubscribe key {path} {what}", code="C513", hint=hint)
