"""Sign-in mechanisms (RFC 4954): pure functions of user, secret and challenge.

One mechanism is chosen, once: after a refusal no other is tried, because a second wrong sign-in
brings locks and hides the server's first answer.
"""

from __future__ import annotations

import base64
import binascii
import hmac
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec import Struct

from mailmerge.errors import AuthError, InputError, ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailmerge.model import SignIn


class Credentials(Struct, frozen=True):
    """Who signs in; the secret is asked for only when it is needed, and never shown."""

    user: str
    mechanism: SignIn
    secret: Callable[[], str]
    """Gives the password or token. Called once more when a token is refused: then it must refresh it."""
    another: Callable[[str], bool] | None = None
    """Told why a sign-in was refused for good; says whether *secret* gives another one now. None: never."""

    def __post_init__(self) -> None:
        if not self.user.isprintable():
            raise InputError("the user name contains a line break or control character", code="S640")

    def __repr__(self) -> str:
        return f"Credentials({self.user!r}, {self.mechanism!r})"


class Mechanism(Protocol):
    """One sign-in under way."""

    def initial(self) -> bytes | None:
        """Return what goes with the AUTH command; None: wait for a challenge."""

    def respond(self, challenge: str) -> bytes:
        """Answer the text of a 334 reply."""


class Plain:
    """PLAIN (RFC 4616)."""

    def __init__(self, user: str, secret: str) -> None:
        self._message = f"\0{user}\0{secret}".encode()

    def initial(self) -> bytes:
        """Return the whole message."""
        return self._message

    def respond(self, challenge: str) -> bytes:  # noqa: ARG002  the challenge is empty
        """Repeat the message for a server that ignored the initial response."""
        return self._message


class Login:
    """LOGIN: never standardised, widely the only one offered; two prompts, whatever their words."""

    def __init__(self, user: str, secret: str) -> None:
        self._answers = [secret.encode(), user.encode()]

    def initial(self) -> None:
        """Wait for the first prompt: not every server takes the user name with the command."""

    def respond(self, challenge: str) -> bytes:  # noqa: ARG002  prompts differ, their order does not
        """Return the user name, then the secret."""
        if not self._answers:
            raise ProtocolError("the server asks for more than a user name and a password")
        return self._answers.pop()


class CramMd5:
    """CRAM-MD5 (RFC 2195): the secret itself never travels."""

    def __init__(self, user: str, secret: str) -> None:
        self._user = user.encode()
        self._secret = secret.encode()

    def initial(self) -> None:
        """Wait for the challenge."""

    def respond(self, challenge: str) -> bytes:
        """Return user name and keyed digest."""
        digest = hmac.new(self._secret, _decode(challenge), "md5").hexdigest()
        return self._user + b" " + digest.encode("ascii")


class XOAuth2:
    """XOAUTH2: a bearer token; a refused one brings a challenge that wants an empty answer."""

    def __init__(self, user: str, secret: str) -> None:
        self._message = f"user={user}\1auth=Bearer {secret}\1\1".encode()

    def initial(self) -> bytes:
        """Return user and token."""
        return self._message

    def respond(self, challenge: str) -> bytes:  # noqa: ARG002  an error report for developers
        """Return nothing, so that the server states its refusal."""
        return b""


class _Entry(NamedTuple):
    build: Callable[[str, str], Mechanism]
    """Of user name and secret."""
    takes: SignIn
    """What it shows to the server."""
    in_clear: bool = False
    """It keeps the secret from whoever reads along."""


MECHANISMS: Final[Mapping[str, _Entry]] = {
    "PLAIN": _Entry(Plain, "password"),
    "LOGIN": _Entry(Login, "password"),
    "CRAM-MD5": _Entry(CramMd5, "password", in_clear=True),
    "XOAUTH2": _Entry(XOAuth2, "token"),
}
"""Those that we know, the preferred ones first."""


def choose(offered: Iterable[str], credentials: Credentials, *, private: bool) -> str:
    """Return the one mechanism to use.

    Args:
        offered: names from the server's last EHLO.
        credentials: what we have.
        private: TLS is on, or the server is on this very machine.

    Raises:
        AuthError: none fits; lists what was offered.

    """
    names = [name.upper() for name in offered]
    wanted = [name for name, entry in MECHANISMS.items() if entry.takes == credentials.mechanism]
    safe = [name for name in wanted if private or MECHANISMS[name].in_clear]
    for name in safe:
        if name in names:
            return name
    if any(name in names for name in wanted):
        raise AuthError(
            "signing in would send the secret in plaintext",
            code="S603",
            hint='Set `tls = "starttls"` (port 587) or `tls = "tls"` (port 465).',
        )
    if not names:
        raise AuthError(
            "the server offers no sign-in on this connection",
            code="S603",
            hint="Check port and `tls`: many servers offer it only after TLS; a relay may not need a user.",
        )
    raise AuthError(
        "the server offers no sign-in method that we support: "
        f"it has {', '.join(names)}, we have {', '.join(wanted)}",
        code="S603",
        hint="Servers that offer only XOAUTH2 expect a token: see `token_command`."
        if "XOAUTH2" in names
        else "Check that host and port are those for mail submission.",
    )


def start(name: str, user: str, secret: str) -> Mechanism:
    """Begin a sign-in with the mechanism called *name*.

    Raises:
        InputError: the secret holds a control character.

    """
    if not secret or any(ord(character) < 0x20 for character in secret):
        raise InputError(
            "the password or token is empty, or contains a line break or control character",
            code="S640",
            hint="Copy it again without the line break.",
        )
    return MECHANISMS[name].build(user, secret)


def _decode(challenge: str) -> bytes:
    try:
        return base64.b64decode(challenge.strip().encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ProtocolError("the server's sign-in challenge is not base64") from None
