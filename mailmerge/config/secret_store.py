"""Where secrets are stored between runs: the system's keyring, else a file that only its owner can read.

One secret is one entry: of a service (an account's server) and a user. In the folder of secrets each has a
file of its own, so that two programs that store different ones never undo each other's work.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
import sys
from typing import TYPE_CHECKING, Final

from mailmerge import files
from mailmerge.errors import AuthError
from mailmerge.folders import read_plain
from mailmerge.masking import MASK
from mailmerge.suggest import login_command, word
from mailmerge.text import printable

if TYPE_CHECKING:
    from pathlib import Path
    from types import ModuleType

KEYRING: Final = "the system keyring"
"""The name of the place of a secret that is not in a file."""
_LARGEST = 1_000_000
"""Octets of a file with one secret; a larger file is not ours."""


class SecretStore:
    """The user's secrets.

    Args:
        folder: for the files of those that are not in a keyring; made when the first one is stored.

    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find(self, service: str, user: str) -> tuple[str, str] | None:
        """Return a secret, and in words where it was stored; None: it is not stored.

        Raises:
            AuthError: others can read its file, or it is damaged.

        """
        if (kept := _from_keyring(service, user)) is not None:
            return kept, KEYRING
        path = self._path(service, user)
        try:
            content = read_plain(path, _LARGEST)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise AuthError(f"cannot read {path}: {error.strerror or error}", code="S665") from None
        _refuse_shared(path)
        try:
            secret = json.loads(content)["secret"]
        except (ValueError, KeyError, TypeError, RecursionError):
            secret = None
        if not isinstance(secret, str):
            raise AuthError(
                f"the file {path} does not contain a secret",
                code="S665",
                hint=f"remove it, and store the secret again: {login_command()}",
            )
        return secret, str(path)

    def keep(self, service: str, user: str, secret: str, *, in_file: bool) -> str:
        """Store a secret in place of an earlier one; return in words where it is now.

        Args:
            service: the server it is for.
            user: who signs in with it.
            secret: the secret itself.
            in_file: write a file, even if there is a keyring.

        Raises:
            AuthError: no keyring accepts it, and *in_file* is not set.
            FileError: the file cannot be written.

        """
        if not in_file:
            _to_keyring(service, user, secret)
            files.remove_file(self._path(service, user))
            return KEYRING
        path = self._path(service, user)
        entry = {"service": service, "user": user, "secret": secret}
        files.private_folder(path.parent)
        files.write_file(path, json.dumps(entry, ensure_ascii=False).encode())
        _remove_from_keyring(service, user)  # an older one there would be found first
        return str(path)

    def forget(self, service: str, user: str) -> list[str]:
        """Remove a secret wherever it is stored; return in words where it was.

        Raises:
            FileError: its file cannot be removed.

        """
        places = [KEYRING] if _remove_from_keyring(service, user) else []
        path = self._path(service, user)
        if path.exists():
            files.remove_file(path)
            places.append(str(path))
        return places

    def _path(self, service: str, user: str) -> Path:
        name = hashlib.sha256(f"{service}\0{user}".encode("utf-8", "replace")).hexdigest()[:16]
        return self.folder / f"{name}.json"


def _refuse_shared(path: Path) -> None:
    if sys.platform == "win32":  # there, the folder's access rights apply
        return
    found = path.stat()
    if found.st_uid != os.geteuid():
        raise AuthError(
            f"the secret in {path} belongs to another user",
            code="S665",
            hint=f"remove the file, and store the secret again: {login_command()}",
        )
    if stat.S_IMODE(found.st_mode) & 0o077:
        raise AuthError(
            f"others can read the secret in {path}", code="S665", hint=f"run: chmod 600 {word(str(path))}"
        )


# --- the system's keyring: an optional package ---------------------------------------------------------


def keyring_works() -> bool:
    """Return whether the optional package is installed and finds a keyring that works."""
    keyring = _keyring()
    if keyring is None:
        return False
    try:
        return bool(keyring.get_keyring().priority > 0)
    except Exception:  # noqa: BLE001  a keyring that fails, in whatever way, is none
        return False


def _keyring() -> ModuleType | None:
    try:
        import keyring
    except ImportError:
        return None
    module: ModuleType = keyring
    return module


def _from_keyring(service: str, user: str) -> str | None:
    keyring = _keyring()
    if keyring is None:
        return None
    try:
        kept: str | None = keyring.get_password(service, user)
    except Exception:  # noqa: BLE001  backends raise what their systems do: D-Bus, Windows, their own
        return None  # no keyring on this machine, or locked: the next place is tried
    return kept


def _to_keyring(service: str, user: str, secret: str) -> None:
    keyring = _keyring()
    if keyring is None:
        raise AuthError(
            "the system keyring cannot be used: the optional package is not installed",
            code="S665",
            hint='install it: pip install "mailmerge-kit[keyring]"',
        )
    try:
        keyring.set_password(service, user, secret)
    except Exception as error:  # noqa: BLE001  Windows refuses more than 2,560 octets, with an error of its own
        why = printable(str(error).replace(secret, MASK))[:200] or type(error).__name__
        raise AuthError(f"the system keyring does not accept the secret: {why}", code="S665") from None


def _remove_from_keyring(service: str, user: str) -> bool:
    keyring = _keyring()
    if keyring is None or _from_keyring(service, user) is None:
        return False
    try:
        keyring.delete_password(service, user)
    except Exception:  # noqa: BLE001  as above
        return False
    return True
