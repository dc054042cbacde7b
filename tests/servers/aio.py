"""A plain aiosmtpd with TLS and sign-in: a server that shares no code with our sandbox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from servers.mail import Received
from servers.programs import free_port

if TYPE_CHECKING:
    from servers.certificates import Certificates


class AiosmtpdServer:
    """STARTTLS and sign-in (PLAIN, LOGIN) are required; no PIPELINING, no CHUNKING."""

    host = "127.0.0.1"
    user = "aio"
    password = "pass word"

    def __init__(self, certificates: Certificates) -> None:
        self.ca_file = certificates.ca_file
        self.messages: list[Received] = []
        self._controller = _Controller(
            self,
            hostname=self.host,
            port=free_port(),
            tls_context=certificates.server_context(),
            require_starttls=True,
            auth_required=True,
            authenticator=self._sign_in,
        )
        self._controller.start()

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._controller.port)

    async def handle_DATA(self, _server: SMTP, _session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Keep a message."""
        content = envelope.content
        assert isinstance(content, bytes)
        self.messages.append(Received(envelope.mail_from or "", tuple(envelope.rcpt_tos), content))
        return "250 OK"

    def _sign_in(
        self, _server: SMTP, _session: Session, _envelope: Envelope, _mechanism: str, given: Any
    ) -> AuthResult:
        right = LoginPassword(self.user.encode(), self.password.encode())
        return AuthResult(success=given == right, handled=False)

    def received(self) -> list[Received]:
        """Return the messages so far."""
        return list(self.messages)

    def stop(self) -> None:
        """Cut all connections and end the thread."""
        self._controller.stop()


class _Controller(Controller):
    """aiosmtpd's own, but its stop cuts the connections: from Python 3.12 on it would wait for them."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._connections: list[SMTP] = []

    def factory(self) -> SMTP:
        connection = SMTP(self.handler, **self.SMTP_kwargs)
        self._connections.append(connection)
        return connection

    def cancel_tasks(self, stop_loop: bool = True) -> None:
        for connection in self._connections:
            for transport in (connection.transport, connection._original_transport):
                if transport is not None:
                    transport.abort()  # type: ignore[attr-defined]
        self.loop.call_soon(super().cancel_tasks, stop_loop)
