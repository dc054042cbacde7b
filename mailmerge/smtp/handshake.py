"""From the greeting to the first message: EHLO, STARTTLS and sign-in, with another EHLO after each.

In the end the session is either open, with TLS and sign-in as the account requires, or there is an error with
the reason; nothing but EHLO and STARTTLS was ever sent in plaintext.
"""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from mailmerge.errors import AuthError, ProtocolError, SessionError, TlsError
from mailmerge.masking import MASK
from mailmerge.model import Phase, Scope
from mailmerge.smtp import sasl
from mailmerge.smtp.endpoint import TLS_MODE_HINT
from mailmerge.smtp.replies import Extensions, classify, refused_session
from mailmerge.smtp.sign_in_rules import REFUSED_SIGN_IN
from mailmerge.smtp.state import Auth, Life, Overlap, StartTls, Step, Trigger
from mailmerge.suggest import login_command

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mailmerge.model import Reply, SignIn
    from mailmerge.smtp.reply_queue import DueReply, Handler, ReplyQueue
    from mailmerge.smtp.state import SessionState

_MOST_CHALLENGES = 5
"""The most challenges that we answer; no mechanism of ours needs more than two."""
_HINTS: Mapping[SignIn, str] = {
    "certificate": "Does the server accept the certificate in `cert_file`, and may it act as `user`? Without "
    "`user` the server uses the name in the certificate.",
    "token": 'Is the token for `user`, and does it allow sending by SMTP? With auth = "oauth" sign in again '
    f"as that user: {login_command()}.",
}
"""The hint for each mechanism that does not use a password."""
_UNKNOWN_COMMAND = {500, 502, 504}


class Handshake:
    """Brings a session to `Life.OPEN`, or fails with a clear error.

    Args:
        host: the server's name in errors.
        helo: the name that we send in EHLO; ASCII.
        state: the session's state.
        replies: the queue through which steps are sent.
        private: whether the connection is private even without STARTTLS: it uses implicit TLS, or the server
            is on this machine.
        credentials: who signs in; None: nobody.
        not_bearing: words, in lower case, in the greeting or EHLO reply of servers that do not support
            commands behind an unanswered message.

    """

    def __init__(
        self,
        host: str,
        helo: str,
        state: SessionState,
        replies: ReplyQueue,
        *,
        private: bool,
        credentials: sasl.Credentials | None,
        not_bearing: Sequence[str] = (),
    ) -> None:
        self.handlers: Mapping[Step, Handler] = {
            Step.GREETING: self._on_greeting,
            Step.EHLO: self._on_ehlo,
            Step.HELO: self._on_helo,
            Step.STARTTLS: self._on_starttls,
            Step.AUTH: self._on_auth,
        }
        self._host = host
        self._helo = helo.encode("ascii")
        self._state = state
        self._replies = replies
        self._private = private
        self._not_bearing = not_bearing
        self._credentials = credentials
        self._mechanism: sasl.Mechanism | None = None
        self._binding: sasl.ChannelBinding | None = None
        self._challenges = 0
        self._first_refusal: AuthError | None = None
        """How the first token was refused, while a new one is tried."""

    def bind(self, binding: sasl.ChannelBinding | None) -> None:
        """Set the channel binding of this TLS connection; None: it has none."""
        self._binding = binding

    def secured(self) -> None:
        """Record that the TLS handshake succeeded: everything that was learnt before is forgotten.

        RFC 3207 section 4.2: somebody who could change the plaintext could have written the server's offers,
        so they are discarded, and EHLO is sent again.
        """
        self._state.on(Trigger.SECURED)
        self._state.offers = Extensions()
        self._replies.forget_plaintext()
        self._private = True
        self._say_ehlo()

    def in_context(self, error: SessionError) -> SessionError:
        """Return *error*, or a better one if only the handshake can tell what it means."""
        if self._state.life is Life.GREETING and error.code == "S625":
            return TlsError(
                f"{self._host} expects implicit TLS: it sent TLS instead of a plaintext greeting",
                code="S625",
                hint=TLS_MODE_HINT,
            )
        if self._state.auth is Auth.RENEWED and self._first_refusal and not isinstance(error, AuthError):
            # Some servers close when a refused token is followed by another one: the refusal is what matters.
            return self._first_refusal
        return error

    # --- greeting and EHLO ----------------------------------------------------------------------------

    def _say_ehlo(self) -> None:
        self._replies.ask(Step.EHLO, b"EHLO " + self._helo)

    def _recognise(self, reply: Reply) -> None:
        """Check whether *reply* is that of a server known not to support all of PIPELINING."""
        text = " ".join(reply.lines).casefold()
        known = any(words in text for words in self._not_bearing)
        if known and self._state.overlap in {Overlap.UNTRIED, Overlap.PASSED}:
            self._state.on(Trigger.NOT_BORNE)

    def _on_greeting(self, _slot: DueReply, reply: Reply) -> None:
        # RFC 5321 section 3.1: 554, and 421, are greetings of a server that refuses the connection.
        if reply.severity != 2:
            raise refused_session(self._host, "refused the connection", reply, Phase.GREETING)
        self._recognise(reply)
        self._state.on(Trigger.GREETED)
        self._say_ehlo()

    def _on_ehlo(self, _slot: DueReply, reply: Reply) -> None:
        state = self._state
        if reply.severity == 2:
            state.offers = Extensions.from_reply(reply)
            self._recognise(reply)
        elif reply.severity == 5 and (state.auth is Auth.DONE or state.start_tls is StartTls.OWED):
            # After the sign-in, a second EHLO is our own choice (RFC 4954 requires it only if the mechanism
            # adds a security layer). If TLS is still due, HELO would not help: STARTTLS needs EHLO, and is
            # reported as missing. In both cases no extensions are offered.
            state.offers = Extensions()
        elif state.start_tls is not StartTls.OWED and reply.code in _UNKNOWN_COMMAND:
            # RFC 5321 section 3.2: a server without extensions is greeted with HELO.
            self._replies.ask(Step.HELO, b"HELO " + self._helo)
            return
        else:
            raise refused_session(self._host, "refused our EHLO", reply, Phase.EHLO)
        self._go_on()

    def _on_helo(self, _slot: DueReply, reply: Reply) -> None:
        if reply.severity != 2:
            raise refused_session(self._host, "refused our HELO", reply, Phase.EHLO)
        self._go_on()

    def _go_on(self) -> None:
        """Do what is due next: TLS before the sign-in, both before any message."""
        if self._state.start_tls is StartTls.OWED:
            self._start_tls()
        elif self._state.auth is Auth.OWED and self._credentials:
            self._sign_in(self._credentials)
        else:
            self._state.on(Trigger.OPENED)

    # --- TLS ------------------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        # RFC 3207 section 6: an attacker in between only needs to remove this one word from the EHLO reply.
        # So TLS is never "used if offered": if it is required, its absence ends the session.
        if not self._state.offers.starttls:
            raise TlsError(
                f"{self._host} does not offer STARTTLS, so nothing was sent",
                code="S626",
                hint="Something in between may have removed it, or the port is wrong: "
                "port 465 expects implicit TLS.",
            )
        self._replies.ask(Step.STARTTLS, b"STARTTLS")
        self._state.on(Trigger.STARTTLS_SAID)

    def _on_starttls(self, _slot: DueReply, reply: Reply) -> None:
        if reply.code == 421:
            raise refused_session(self._host, "closed the session", reply, Phase.STARTTLS)
        if reply.severity != 2:
            raise TlsError(
                f"{self._host} refused STARTTLS: {reply}",
                code="S627",
                hint="Nothing was sent. Try again later; if it keeps happening, "
                "contact the server's administrator.",
                reply=reply,
            )
        if self._replies.unread:
            # Plaintext octets after the 220 would be read as replies inside TLS: the "STARTTLS command
            # injection" of CVE-2011-0411 and many similar ones, here against the client.
            raise TlsError(
                f"{self._host} sent more plaintext after agreeing to TLS: somebody may be tampering",
                code="S628",
                hint="Nothing was sent. Try another network, and tell the server's administrator.",
            )
        self._state.on(Trigger.STARTTLS_ACCEPTED)

    # --- sign-in --------------------------------------------------------------------------------------

    def _sign_in(self, credentials: sasl.Credentials, *, renewed: bool = False) -> None:
        bound = self._binding is not None
        name = sasl.choose(self._state.offers.auth, credentials, private=self._private, bound=bound)
        secret = credentials.fresh() if renewed and credentials.fresh else credentials.secret()
        self._mechanism = sasl.start(name, credentials.user, secret, self._binding)
        self._challenges = 0
        self._replies.masker.learn(secret.encode())
        line = b"AUTH " + name.encode("ascii")
        initial = self._mechanism.initial()
        if initial is not None:
            line += b" " + (self._encoded(initial) or b"=")  # RFC 4954 section 4: empty, but present
        self._replies.ask(Step.AUTH, line, shown=f"AUTH {name} {MASK}")
        self._state.on(Trigger.AUTH_SAID)

    def _on_auth(self, _slot: DueReply, reply: Reply) -> None:
        if reply.severity == 3 and self._mechanism:
            self._state.on(Trigger.CHALLENGED)
            self._challenges += 1
            if self._challenges > _MOST_CHALLENGES:
                raise ProtocolError("the server keeps asking for more during the sign-in")
            answer = self._mechanism.respond(reply.text)
            self._replies.ask(Step.AUTH, self._encoded(answer), shown=MASK)
        elif reply.severity == 2:
            if self._mechanism:
                self._mechanism.accepted()
            self._state.on(Trigger.AUTH_ACCEPTED)
            self._mechanism = None
            # Servers offer more to those who have signed in: a larger SIZE, other LIMITS.
            self._say_ehlo()
        else:
            self._take_refusal(self._replies.masked(reply))

    def _take_refusal(self, reply: Reply) -> None:
        """Give up, except that a refused token is renewed once.

        No other mechanism is ever tried: a second refusal counts towards locking the account, and its text
        hides the first one's, which explained what was wrong.
        """
        meaning = classify(reply, Phase.AUTH)
        for_now = meaning.scope is not Scope.CONFIG
        told = self._mechanism.refusal() if self._mechanism else ""
        credentials = self._credentials
        shows = credentials.mechanism if credentials else "none"
        error = AuthError(
            f"{self._host} refused the sign-in: {reply}" + (f" ({told})" if told else ""),
            code="S602" if for_now else "S601",
            hint=_HINTS.get(shows, REFUSED_SIGN_IN) if meaning.hint == REFUSED_SIGN_IN else meaning.hint,
            reply=reply,
            retry_after=meaning.retry_after,
            exit_code=5 if for_now else None,
        )
        if credentials is None or credentials.mechanism != "token" or for_now:
            raise error
        if self._state.auth is Auth.RENEWED:
            raise error
        # The token may just have expired: the same mechanism once more, with a new one.
        self._state.on(Trigger.TOKEN_REFUSED)
        self._first_refusal = error
        self._sign_in(credentials, renewed=True)

    def _encoded(self, answer: bytes) -> bytes:
        """Return *answer* in base64 (RFC 4954 section 4), which is masked as a secret from now on."""
        encoded = base64.b64encode(answer)
        self._replies.masker.learn(encoded)
        return encoded
