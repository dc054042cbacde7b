"""Access tokens for sign-ins: a stored one, or a new one, fetched once for all processes.

Some providers issue a new refresh token with each access token and refuse the old one from then on. The new
one is written to disk before anything else is done with it, and stays there until the store has it: a process
that is killed between the two writes loses nothing. One process at a time renews; the others use its tokens.
"""

from __future__ import annotations

import hashlib
import time
from typing import TYPE_CHECKING

import msgspec
from msgspec import Struct

from mailmerge import files
from mailmerge.config.account_secrets import keyring_service, printed_by
from mailmerge.config.secret_store import KEYRING
from mailmerge.errors import AuthError, FileError
from mailmerge.folders import read_plain
from mailmerge.ledger.locks import Lock, LockWait
from mailmerge.masking import Secret
from mailmerge.sign_in.oauth import client_of
from mailmerge.suggest import login_command

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from mailmerge.config.accounts import Account
    from mailmerge.config.secret_store import SecretStore
    from mailmerge.sign_in.oauth import Tokens

_SPARE = 90.0
"""Seconds that a token must still be valid to be used."""
_LARGEST = 1_000_000
_WAIT = 60.0
"""Seconds to wait for another process that renews."""


class Registration(Struct, frozen=True):
    """The application's data, and the result of the sign-in: kept in the secret store."""

    client_secret: str = ""
    refresh_token: str = ""

    def __repr__(self) -> str:
        return "Registration()"


class _Cached(Struct, frozen=True):
    """What is in the state folder between runs; a private file."""

    access_token: str = ""
    expires_at: float = 0.0
    refresh_token: str = ""
    """A newer refresh token than the store has; empty: the store has the newest."""

    def __repr__(self) -> str:
        return "_Cached()"


class _RenewalLock(Lock):
    """One process renews the tokens of an account at a time."""

    code = "L711"


class TokenSource:
    """Provides the access tokens of one account with ``auth = "oauth"``.

    Args:
        account: who signs in.
        store: where its refresh token is kept.
        folder: the user's state folder, for the token itself and the lock.
        give_up: returns whether to stop waiting for another process.

    """

    def __init__(
        self,
        account: Account,
        store: SecretStore,
        folder: Path,
        *,
        give_up: Callable[[], bool] = lambda: False,
    ) -> None:
        self._account = account
        self._store = store
        self._give_up = give_up
        name = hashlib.sha256(f"{account.host}\0{account.user}".encode("utf-8", "replace")).hexdigest()[:16]
        self._path = folder / f"token-{name}.json"
        self._lock_path = folder / f"token-{name}.lock"

    def token(self, *, refused: str = "") -> Secret:
        """Return a token that is still valid; *refused* is one that the server did not accept.

        Raises:
            AuthError: nobody has signed in, or the provider no longer renews it.
            ConnectionLost: the provider does not answer.
            InUseError: another process is renewing, and does not finish.

        """
        cached = self._read()
        if self._usable(cached, refused):
            return self._secret(cached.access_token)
        what = f"the sign-in of {self._account.user}"
        with _RenewalLock(self._lock_path, what, wait=LockWait(_WAIT, self._give_up)):
            cached = self._read()
            if not self._usable(cached, refused):
                cached = self._renewed(cached)
        return self._secret(cached.access_token)

    def begin(self, registration: Registration, tokens: Tokens, *, in_file: bool) -> str:
        """Store the result of a new sign-in; return where, for a person.

        Raises:
            AuthError: no keyring accepts it, and *in_file* is not set.
            FileError: a file cannot be written.

        """
        with _RenewalLock(self._lock_path, f"the sign-in of {self._account.user}", wait=LockWait(_WAIT)):
            kept = msgspec.structs.replace(registration, refresh_token=tokens.refresh)
            place = self._keep(kept, in_file=in_file)
            self._write(_Cached(tokens.access, tokens.expires_at))
        return place

    def forget(self) -> list[str]:
        """Remove the tokens; return where they were, for a person.

        Raises:
            FileError: a file cannot be removed.

        """
        places = self._store.forget(token_service(self._account), self._account.user or "")
        if self._path.exists():
            files.remove_file(self._path)
            places.append(str(self._path))
        return places

    def client_secret(self) -> str:
        """Return the application's secret: the output of the account's command, else the stored one.

        Raises:
            AuthError: the command fails, or the stored secret is damaged or can be read by others.

        """
        return self._client_secret(self._registration()[0])

    def _client_secret(self, kept: Registration) -> str:
        command = self._account.password_command
        return printed_by(command, self._give_up) if command else kept.client_secret

    # --- renewing -------------------------------------------------------------------------------------

    def _renewed(self, cached: _Cached) -> _Cached:
        account = self._account
        kept, in_file = self._registration()
        client = client_of(account, self._client_secret(kept))
        tokens = client.without_person(account)
        if tokens is None:
            refresh = cached.refresh_token or kept.refresh_token
            if not refresh:
                raise AuthError(
                    f"nobody has signed in as {account.user} at {client.endpoints.title} yet",
                    code="S661",
                    hint=f"sign in: {login_command(account.name)}",
                )
            tokens = client.refresh(refresh)
            newest = tokens.refresh or refresh
            if newest != kept.refresh_token:
                self._write(_Cached(tokens.access, tokens.expires_at, newest))
                try:
                    self._keep(msgspec.structs.replace(kept, refresh_token=newest), in_file=in_file)
                except (AuthError, FileError):
                    return _Cached(tokens.access, tokens.expires_at, newest)  # it stays in the file for now
        renewed = _Cached(tokens.access, tokens.expires_at)
        self._write(renewed)
        return renewed

    def _usable(self, cached: _Cached, refused: str) -> bool:
        token = cached.access_token
        return bool(token) and token != refused and cached.expires_at > time.time() + _SPARE

    def _secret(self, token: str) -> Secret:
        return Secret(token, origin="the provider")

    def _registration(self) -> tuple[Registration, bool]:
        """Return what is stored, and whether it is stored in a file."""
        found = self._store.find(token_service(self._account), self._account.user or "")
        if found is None:
            return Registration(), False
        text, place = found
        try:
            return msgspec.json.decode(text.encode(), type=Registration), place != KEYRING
        except msgspec.DecodeError:
            raise AuthError(
                f"the sign-in stored in {place} is damaged",
                code="S665",
                hint=f"sign in again: {login_command(self._account.name)}",
            ) from None

    def _keep(self, registration: Registration, *, in_file: bool) -> str:
        text = msgspec.json.encode(registration).decode()
        return self._store.keep(token_service(self._account), self._account.user or "", text, in_file=in_file)

    def _read(self) -> _Cached:
        try:
            return msgspec.json.decode(read_plain(self._path, _LARGEST), type=_Cached)
        except (OSError, msgspec.DecodeError):
            return _Cached()  # none is stored, or none that can be read: another one is fetched

    def _write(self, cached: _Cached) -> None:
        files.write_file(self._path, msgspec.json.encode(cached))


def token_service(account: Account) -> str:
    """Return the name under which the store keeps an account's sign-in."""
    return f"{keyring_service(account)} oauth"
