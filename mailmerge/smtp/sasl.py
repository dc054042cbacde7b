"""Sign-in mechanisms (RFC 4954): pure functions of user, secret and challenge.

One mechanism is chosen, once: after a refusal no other is tried, because a second failed sign-in can lock
the account and hides the server's first reply.

SCRAM (RFC 5802, with SHA-256: RFC 7677) comes first: neither the network nor an impostor learns the password,
and the server proves that it knows it too. Its ``-PLUS`` variant also proves that both ends of the sign-in
are the ends of one TLS connection.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import secrets
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from msgspec import Struct

from mailmerge.errors import AuthError, InputError, ProtocolError
from mailmerge.suggest import login_command

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailmerge.model import SignIn


class Credentials(Struct, frozen=True):
    """Who signs in; the secret is asked for only when it is needed, and never shown."""

    user: str
    mechanism: SignIn
    secret: Callable[[], str]
    """Returns the password or token. Called again when a token is refused: then it must return a new one."""
    another: Callable[[str], bool] | None = None
    """Called with the reason of a final refusal; returns whether *secret* has another one. None: never."""
    fresh: Callable[[], str] | None = None
    """Returns a token in place of the one that was refused. None: *secret* does."""

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

    def accepted(self) -> None:
        """Check that the server was allowed to accept the sign-in.

        Raises:
            AuthError: it had to prove that it knows the password, and has not.

        """

    def refusal(self) -> str:
        """Return the reason of a refusal that a challenge contained; empty: none."""


class _SimpleMechanism:
    """What most mechanisms have in common: no proof by the server, no reason in a challenge."""

    def accepted(self) -> None:
        """Accept it: the server has nothing to prove."""

    def refusal(self) -> str:
        """Return nothing: only the reply has a reason."""
        return ""


class PlainMechanism(_SimpleMechanism):
    """PLAIN (RFC 4616)."""

    def __init__(self, user: str, secret: str) -> None:
        self._message = f"\0{user}\0{secret}".encode()

    def initial(self) -> bytes:
        """Return the whole message."""
        return self._message

    def respond(self, challenge: str) -> bytes:  # noqa: ARG002  the challenge is empty
        """Repeat the message for a server that ignored the initial response."""
        return self._message


class LoginMechanism(_SimpleMechanism):
    """LOGIN: never standardised, but often the only one offered; two prompts with any text."""

    def __init__(self, user: str, secret: str) -> None:
        self._answers = [secret.encode(), user.encode()]

    def initial(self) -> None:
        """Wait for the first prompt: not every server accepts the user name with the command."""

    def respond(self, challenge: str) -> bytes:  # noqa: ARG002  prompts differ, their order does not
        """Return the user name, then the secret."""
        if not self._answers:
            raise ProtocolError("the server asks for more than a user name and a password")
        return self._answers.pop()


class CramMd5(_SimpleMechanism):
    """CRAM-MD5 (RFC 2195): the secret itself is never sent."""

    def __init__(self, user: str, secret: str) -> None:
        self._user = user.encode()
        self._secret = secret.encode()

    def initial(self) -> None:
        """Wait for the challenge."""

    def respond(self, challenge: str) -> bytes:
        """Return user name and keyed digest."""
        digest = hmac.new(self._secret, _decode(challenge), "md5").hexdigest()
        return self._user + b" " + digest.encode("ascii")


class _BearerToken(_SimpleMechanism):
    """What the two bearer token mechanisms share: after a refused token, a challenge has the reason."""

    answer = b""

    def __init__(self, message: bytes) -> None:
        self._message = message
        self._told = ""

    def initial(self) -> bytes:
        """Return user and token."""
        return self._message

    def respond(self, challenge: str) -> bytes:
        """Keep the error report, and answer so that the server sends its refusal."""
        self._told = challenge
        return self.answer

    def refusal(self) -> str:
        """Return the status and scope in the error report (RFC 7628 section 3.2.2)."""
        try:
            report = json.loads(base64.b64decode(self._told, validate=True))
        except (ValueError, RecursionError):
            return ""
        if not isinstance(report, dict):
            return ""
        known = ((name, report.get(name)) for name in ("status", "scope"))
        said = [f"{name} {value[:200]}" for name, value in known if isinstance(value, str) and value]
        return ", ".join(said) if all(map(str.isprintable, said)) else ""


class XOAuth2(_BearerToken):
    """XOAUTH2: a bearer token, as Google and Microsoft introduced it."""

    def __init__(self, user: str, secret: str) -> None:
        super().__init__(f"user={user}\1auth=Bearer {secret}\1\1".encode())


class OAuthBearer(_BearerToken):
    """OAUTHBEARER (RFC 7628): a bearer token, as it was standardised."""

    answer = b"\1"  # section 3.2.3

    def __init__(self, user: str, secret: str) -> None:
        super().__init__(f"n,a={_sasl_name(user)},\1auth=Bearer {secret}\1\1".encode())


class External(_SimpleMechanism):
    """EXTERNAL (RFC 4422 appendix A): our TLS client certificate shows who we are."""

    def __init__(self, user: str, secret: str) -> None:
        del secret  # the certificate's key, which TLS has used already
        self._user = user.encode()

    def initial(self) -> bytes:
        """Return the user that we want to act as."""
        return self._user

    def respond(self, challenge: str) -> bytes:  # noqa: ARG002  the challenge is empty
        """Repeat it for a server that ignored the initial response."""
        return self._user


# --- SCRAM ---------------------------------------------------------------------------------------------


class ChannelBinding(Struct, frozen=True):
    """What identifies a TLS connection (RFC 5929 section 4, ``tls-server-end-point``)."""

    data: bytes
    """The digest of the server's certificate."""


_SIGNED_WITH: Final[Mapping[bytes, str]] = {
    bytes.fromhex("2a864886f70d010104"): "sha256",  # MD5 and SHA-1 count as SHA-256: RFC 5929 section 4.1
    bytes.fromhex("2a864886f70d010105"): "sha256",
    bytes.fromhex("2a8648ce3d0401"): "sha256",
    bytes.fromhex("2a864886f70d01010b"): "sha256",
    bytes.fromhex("2a8648ce3d040302"): "sha256",
    bytes.fromhex("2a864886f70d01010c"): "sha384",
    bytes.fromhex("2a8648ce3d040303"): "sha384",
    bytes.fromhex("2a864886f70d01010d"): "sha512",
    bytes.fromhex("2a8648ce3d040304"): "sha512",
}
"""How certificates are signed with RSA or ECDSA, as DER object identifiers (RFC 4055, RFC 5758)."""


def channel_binding(certificate: bytes | None) -> ChannelBinding | None:
    """Return the channel binding for a server's certificate, in DER.

    None: there is none, or it is signed in a way for which no digest is defined (Ed25519, RSA-PSS).
    """
    digest = _SIGNED_WITH.get(_signature_algorithm(certificate or b""))
    return None if digest is None else ChannelBinding(hashlib.new(digest, certificate or b"").digest())


def _signature_algorithm(certificate: bytes) -> bytes:
    """Return the object identifier of its signature (RFC 5280 section 4.1); empty: it has none."""
    whole, _ = _element(certificate)
    _signed, rest = _element(whole)
    algorithm, _ = _element(rest)
    return _element(algorithm)[0]


def _element(octets: bytes) -> tuple[bytes, bytes]:
    """Return the content of the first DER element, and what follows it."""
    if len(octets) < 2:
        return b"", b""
    size, begin = octets[1], 2
    if size >= 0x80:
        begin += size & 0x7F
        size = int.from_bytes(octets[2:begin])
    return octets[begin : begin + size], octets[begin + size :]


_MOST_ROUNDS = 1_000_000
"""The most iterations that a server may require; 4,096 are usual, and more than this only costs us time."""


class Scram(_SimpleMechanism):
    """SCRAM-SHA-256 and SCRAM-SHA-256-PLUS (RFC 5802, RFC 7677).

    Args:
        user: who signs in.
        secret: the password.
        binding: the TLS channel binding, if it is known.
        plus: whether the server offered to check it.
        nonce: replaces the random one, for test vectors.

    """

    def __init__(
        self,
        user: str,
        secret: str,
        binding: ChannelBinding | None = None,
        *,
        plus: bool = False,
        nonce: str = "",
    ) -> None:
        # "y": we support channel binding, but no -PLUS was offered. A server that did offer it sees by this
        # that somebody removed it from the reply to EHLO, and refuses (section 6).
        flag = "p=tls-server-end-point" if plus else "n" if binding is None else "y"
        self._gs2 = f"{flag},,".encode()
        self._bound = self._gs2 + (binding.data if plus and binding else b"")
        self._bare = f"n={_sasl_name(_prepared(user))},r={nonce or secrets.token_urlsafe(24)}"
        self._nonce = self._bare.partition(",r=")[2]
        self._password = _prepared(secret).encode()
        self._signature: bytes | None = None
        self._proved = False

    def initial(self) -> bytes:
        """Return user and nonce."""
        return self._gs2 + self._bare.encode()

    def respond(self, challenge: str) -> bytes:
        """Prove that we know the password; then check the server's proof, and send an empty response."""
        text = _decoded_text(challenge)
        if self._signature is None:
            return self._proof(text)
        fields = _fields(text)
        if "e" in fields:
            return b""  # why it refuses; the reply has the reason
        self._proved = hmac.compare_digest(_octets(fields.get("v", "")), self._signature)
        if not self._proved:
            raise _no_proof()
        return b""

    def _proof(self, first: str) -> bytes:
        fields = _fields(first)
        nonce, rounds = fields.get("r", ""), fields.get("i", "")
        salt = _octets(fields.get("s", ""))
        if (
            "m" in fields  # section 5.1: an extension that must be understood
            or not nonce.startswith(self._nonce)
            or len(nonce) == len(self._nonce)
            or not salt
            or not (rounds.isascii() and rounds.isdigit() and 0 < int(rounds[:9]) <= _MOST_ROUNDS)
            or len(rounds) > 9
        ):
            raise ProtocolError("the server's SCRAM challenge cannot be used")
        salted = hashlib.pbkdf2_hmac("sha256", self._password, salt, int(rounds))
        bare = f"c={base64.b64encode(self._bound).decode()},r={nonce}"
        signed = f"{self._bare},{first},{bare}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        stored = hashlib.sha256(client_key).digest()
        shown = hmac.digest(stored, signed, "sha256")
        proof = bytes(a ^ b for a, b in zip(client_key, shown, strict=True))
        self._signature = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        return f"{bare},p={base64.b64encode(proof).decode()}".encode()

    def accepted(self) -> None:
        """Insist on the server's proof: without it, anybody could have sent 235."""
        if not self._proved:
            raise _no_proof()


def _no_proof() -> AuthError:
    return AuthError(
        "the server accepted the sign-in without proving that it knows the password",
        code="S608",
        hint="Nothing was sent. Check `host`; somebody may be answering in the server's place.",
    )


def _prepared(text: str) -> str:
    """Return a user name or password in the form that is compared (SASLprep, RFC 4013).

    What has no such form, such as a password with a newer emoji, is sent unchanged: a server that accepted it
    when it was chosen compares it unchanged too, as PostgreSQL and Dovecot do.
    """
    if text.isascii():
        return text
    import stringprep
    import unicodedata

    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char for char in text if not stringprep.in_table_b1(char)
    )
    prepared = unicodedata.ucd_3_2_0.normalize("NFKC", mapped)  # of that version of Unicode: RFC 3454
    left_to_right = any(map(stringprep.in_table_d2, prepared))
    right_to_left = [stringprep.in_table_d1(char) for char in prepared]
    mixed = any(right_to_left) and (left_to_right or not (right_to_left[0] and right_to_left[-1]))
    prohibited = any(table(char) for char in prepared for table in _prohibited())
    return text if not prepared or mixed or prohibited else prepared


def _prohibited() -> tuple[Callable[[str], bool], ...]:
    """Return the tables of RFC 4013 section 2.3."""
    import stringprep as tables

    return (
        *(tables.in_table_c12, tables.in_table_c21_c22, tables.in_table_c3, tables.in_table_c4),
        *(tables.in_table_c5, tables.in_table_c6, tables.in_table_c7, tables.in_table_c8),
        *(tables.in_table_c9, tables.in_table_a1),
    )


def _sasl_name(user: str) -> str:
    """Escape the characters that separate the fields of a message (RFC 5802 section 5.1)."""
    return user.replace("=", "=3D").replace(",", "=2C")


def _fields(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if equals:
            found.setdefault(name, value)
    return found


def _octets(text: str) -> bytes:
    try:
        return base64.b64decode(text.encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        return b""


def _decoded_text(challenge: str) -> str:
    try:
        return _decode(challenge).decode()
    except UnicodeDecodeError:
        raise ProtocolError("the server's sign-in challenge is not UTF-8") from None


# --- choosing one --------------------------------------------------------------------------------------


class _MechanismEntry(NamedTuple):
    build: Callable[[str, str], Mechanism]
    """Makes the mechanism from user name and secret."""
    takes: SignIn
    """What it sends to the server."""
    in_clear: bool = False
    """Whether it hides the secret from anybody who reads the connection."""


MECHANISMS: Final[Mapping[str, _MechanismEntry]] = {
    "SCRAM-SHA-256-PLUS": _MechanismEntry(Scram, "password", in_clear=True),
    "SCRAM-SHA-256": _MechanismEntry(Scram, "password", in_clear=True),
    "PLAIN": _MechanismEntry(PlainMechanism, "password"),
    "LOGIN": _MechanismEntry(LoginMechanism, "password"),
    "CRAM-MD5": _MechanismEntry(CramMd5, "password", in_clear=True),
    "XOAUTH2": _MechanismEntry(XOAuth2, "token"),
    "OAUTHBEARER": _MechanismEntry(OAuthBearer, "token"),
    "EXTERNAL": _MechanismEntry(External, "certificate"),
}
"""The mechanisms that we support, the preferred ones first."""
_PLUS: Final = "SCRAM-SHA-256-PLUS"


def choose(offered: Iterable[str], credentials: Credentials, *, private: bool, bound: bool = False) -> str:
    """Return the one mechanism to use.

    Args:
        offered: names from the server's last EHLO reply.
        credentials: those of the account.
        private: whether TLS is on, or the server is on this machine.
        bound: whether the TLS connection has a channel binding.

    Raises:
        AuthError: none is possible; the message lists what was offered.

    """
    names = [name.upper() for name in offered]
    wanted = [
        name
        for name, entry in MECHANISMS.items()
        if entry.takes == credentials.mechanism and (bound or name != _PLUS)
    ]
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
            "the server does not offer sign-in on this connection",
            code="S603",
            hint="Check `port` and `tls`: many servers offer it only after TLS; a relay may not need a user.",
        )
    raise AuthError(
        "the server offers no sign-in method that we support: "
        f"it offers {', '.join(names)}, we support {', '.join(wanted)}",
        code="S603",
        hint=f'Servers that only offer XOAUTH2 expect a token: auth = "oauth", and {login_command()}.'
        if "XOAUTH2" in names
        else "Check that host and port are those for mail submission.",
    )


def start(name: str, user: str, secret: str, binding: ChannelBinding | None = None) -> Mechanism:
    """Begin a sign-in with the mechanism *name*; *binding* is the channel binding of its TLS connection.

    Raises:
        InputError: the secret is empty or contains a control character.

    """
    if MECHANISMS[name].takes != "certificate" and (not secret or any(map(_is_control, secret))):
        raise InputError(
            "the password or token is empty, or contains a line break or control character",
            code="S640",
            hint="Copy it again without the line break.",
        )
    if name.startswith("SCRAM-"):
        return Scram(user, secret, binding, plus=name == _PLUS)
    return MECHANISMS[name].build(user, secret)


def _is_control(character: str) -> bool:
    return ord(character) < 0x20


def _decode(challenge: str) -> bytes:
    try:
        return base64.b64decode(challenge.strip().encode("ascii"), validate=True)
    except (binascii.Error, UnicodeEncodeError):
        raise ProtocolError("the server's sign-in challenge is not base64") from None
