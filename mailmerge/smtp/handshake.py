"""From the greeting to the first message: EHLO, STARTTLS, sign-in, EHLO again after each."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from mailmerge.errors import AuthError, ProtocolError, SessionError, TlsError
from mailmerge.masking import MASK
from mailmerge.model import Phase, Scope
from mailmerge.smtp import sasl
from mailmerge.smtp.extensions import Extensions
from mailmerge.smtp.replies import ReplyParser, build_reply, classify
from mailmerge.smtp.reply_queue import Dialogue
from mailmerge.smtp.state import State, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.model import Reply
    from mailmerge.smtp.state import Slot

_MOST_CHALLENGES = 5


class Opening(Dialogue):
    """Brings a connection to `State.READY`, or fails with a clear error and nothing said in clear."""

    def __init__(
        self,
        host: str,
        helo: str,
        *,
        starttls: bool,
        private: bool,
        credentials: sasl.Credentials | None = None,
        transcript: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(host, transcript)
        self.offers = Extensions()
        """What the last EHLO offered."""
        self._helo = helo.encode("ascii")
        self._owes_tls = starttls
        self._private = private
        self._credentials = credentials if credentials and credentials.mechanism != "none" else None
        self._mechanism: sasl.Mechanism | None = None
        self._challenges = 0
        self._signed_in = False
        self._token_renewed = False
        self._sign_in_refusal: AuthError | None = None

    def secured(self) -> None:
        """Take note that the TLS handshake succeeded: all that was learnt before it is forgotten."""
        if self.state is not State.HANDSHAKE:
            raise RuntimeError("no handshake was due")
        self.offers = Extensions()
        self._parser = ReplyParser()
        self._owes_tls = False
        self._private = True
        self.state = State.TRUSTED
        self._ask(Step.EHLO, b"EHLO " + self._helo)

    def _on_greeting(self, slot: Slot, reply: Reply) -> None:  # noqa: ARG002  the step is known
        if reply.severity != 2:
            raise self._refused("refused the connection", reply, Phase.GREETING)
        self.state = State.CLEAR if self._owes_tls else State.TRUSTED
        self._ask(Step.EHLO, b"EHLO " + self._helo)

    def _on_ehlo(self, slot: Slot, reply: Reply) -> None:  # noqa: ARG002
        if reply.severity == 2:
            self.offers = Extensions.from_reply(reply)
        elif reply.severity == 5 and (self._signed_in or self._owes_tls):
            self.offers = Extensions()  # it does not tell, so nothing is believed
        elif self.state is State.TRUSTED and reply.code in {500, 502, 504}:
            self._ask(Step.HELO, b"HELO " + self._helo)
            return
        else:
            raise self._refused("refused our EHLO", reply, Phase.EHLO)
        self._go_on()

    def _on_helo(self, slot: Slot, reply: Reply) -> None:  # noqa: ARG002
        if reply.severity != 2:
            raise self._refused("refused our HELO", reply, Phase.EHLO)
        self._go_on()

    def _go_on(self) -> None:
        if self._owes_tls:
            self._start_tls()
        elif self._credentials and not self._signed_in:
            self._sign_in(self._credentials)
        else:
            self.state = State.READY

    # --- TLS ------------------------------------------------------------------------------------------

    def _start_tls(self) -> None:
        if not self.offers.starttls:
            raise TlsError(
                f"{self.host} offers no STARTTLS, so nothing was sent",
                code="S626",
                hint="Somebody between may have removed it, or the port is wrong: TLS at once is port 465.",
            )
        self._ask(Step.STARTTLS, b"STARTTLS")

    def _on_starttls(self, slot: Slot, reply: Reply) -> None:  # noqa: ARG002
        if reply.code == 421:
            raise self._refused("closed the session", reply, Phase.STARTTLS)
        if reply.severity != 2:
            raise TlsError(
                f"{self.host} refused STARTTLS: {reply}",
                code="S627",
                hint="Nothing was sent. Try again later; if it stays so, tell the server's keeper.",
                reply=reply,
            )
        if self._parser.pending:
            raise TlsError(
                f"{self.host} sent more in clear after it had agreed to TLS: somebody may be tampering",
                code="S628",
                hint="Nothing was sent. Try another network, and tell the server's keeper.",
            )
        self.state = State.HANDSHAKE

    # --- sign-in --------------------------------------------------------------------------------------

    def _sign_in(self, credentials: sasl.Credentials) -> None:
        name = sasl.choose(self.offers.auth, credentials, private=self._private)
        secret = credentials.secret()
        self._mechanism = sasl.start(name, credentials.user, secret)
        self._challenges = 0
        self._masker.learn(secret.encode())
        line = b"AUTH " + name.encode("ascii")
        initial = self._mechanism.initial()
        if initial is not None:
            line += b" " + self._hidden(initial)
        self._ask(Step.AUTH, line, shown=f"AUTH {name} {MASK}")

    def _on_auth(self, slot: Slot, reply: Reply) -> None:  # noqa: ARG002
        if reply.severity == 3 and self._mechanism:
            self._challenges += 1
            if self._challenges > _MOST_CHALLENGES:
                raise ProtocolError("the server's sign-in does not end")
            answer = self._mechanism.respond(reply.text)
            self._ask(Step.AUTH, self._hidden(answer), shown=MASK)
        elif reply.severity == 2:
            self._signed_in = True
            self._mechanism = None
            self._ask(Step.EHLO, b"EHLO " + self._helo)
        else:
            self._take_sign_in_refusal(self._masked(reply))

    def _take_sign_in_refusal(self, reply: Reply) -> None:
        meaning = classify(reply, Phase.AUTH)
        for_now = meaning.scope is not Scope.CONFIG
        error = AuthError(
            f"{self.host} refused the sign-in: {reply}",
            code="S602" if for_now else "S601",
            hint=meaning.hint,
            reply=reply,
            retry_after=meaning.retry_after,
            exit_code=5 if for_now else None,
        )
        credentials = self._credentials
        renew = credentials and credentials.mechanism == "token" and not for_now and not self._token_renewed
        if not renew or credentials is None:
            raise error
        # A token may just have run out: the same mechanism once more, with a fresh one.
        self._token_renewed = True
        self._sign_in_refusal = error
        self._sign_in(credentials)

    def _hidden(self, answer: bytes) -> bytes:
        encoded = base64.b64encode(answer)
        self._masker.learn(encoded)
        return encoded

    def _masked(self, reply: Reply) -> Reply:
        lines = reply.raw.splitlines(keepends=True)
        masked = [line[:4] + self._masker.mask(line[4:]) for line in lines]
        return reply if masked == lines else build_reply(masked)

    def _in_context(self, error: SessionError) -> SessionError:
        if self.state is State.TRUSTED and self._sign_in_refusal and not isinstance(error, AuthError):
            return self._sign_in_refusal
        return super()._in_context(error)
