"""The sandbox server's life: a thread with its own event loop, one listening socket."""

from __future__ import annotations

import contextlib
import logging
import secrets
import threading
import time
from concurrent.futures import Future
from pathlib import Path
from typing import TYPE_CHECKING, Self

from msgspec import Struct

from mailmerge.sandbox.faults import FaultInjector, FaultPlan

if TYPE_CHECKING:
    import asyncio
    import ssl
    from collections.abc import Callable

    from mailmerge.model import TlsMode
    from mailmerge.sandbox.protocol import ServerTransaction

_HERE = Path(__file__).parent
_NO_FAULTS = FaultPlan()
_log = logging.getLogger(__name__)


class ReceivedMessage(Struct, frozen=True):
    """One message that the server accepted, byte for byte as it was received."""

    mail_from: str
    rcpt_to: tuple[str, ...]
    content: bytes
    connection: int
    """The number of its connection, from 1."""


class SandboxServer:
    """An SMTP server in a background thread, on loopback unless *host* is another address; a context manager.

    *keep* is called in the server's thread with every accepted message, before its reply is sent. Without
    *user* the server accepts mail from anyone, as a relay on a trusted network does. *monotonic* is the
    clock, in seconds, for faults that depend on time. *port* 0 means any free one. A server can only be
    started once.
    """

    ca_file = _HERE / "loopback.pem"
    """The certificate that a client has to trust: it is its own authority."""

    def __init__(  # noqa: PLR0913  independent settings
        self,
        *,
        tls: TlsMode = "starttls",
        user: str | None = "sandbox",
        password: str | None = None,
        faults: FaultPlan = _NO_FAULTS,
        keep: Callable[[ReceivedMessage], None] | None = None,
        max_size: int = 32 * 1024 * 1024,
        monotonic: Callable[[], float] = time.monotonic,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        self.host = host
        self.tls = tls
        self.user = user
        self.password = secrets.token_urlsafe(12) if password is None else password
        self.faults = faults
        self.max_size = max_size
        self.received_count = 0
        self._monotonic = monotonic
        self._keep = keep
        self._wanted = port
        self._port: int | None = None
        self._thread: threading.Thread | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None

    @property
    def port(self) -> int:
        """The port that it listens on, known once it has started."""
        if self._port is None:
            raise RuntimeError("the sandbox server has not been started")
        return self._port

    def start(self) -> None:
        """Listen, and return once connections are accepted; raises OSError."""
        if self._thread is not None:
            raise RuntimeError("a sandbox server can only be started once")
        # aiosmtpd logs every sign-in as a warning about itself, which users should not see.
        logging.getLogger("mail.log").addHandler(logging.NullHandler())
        listening: Future[int] = Future()
        self._thread = threading.Thread(target=self._run, args=(listening,), name="sandbox", daemon=True)
        self._thread.start()
        self._port = listening.result()

    def stop(self) -> None:
        """Cut all connections and return when the thread has ended; stopping twice does no harm."""
        if self._thread is None or not self._thread.is_alive():
            return
        if self._loop is not None and self._stopping is not None:
            self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _run(self, listening: Future[int]) -> None:
        import asyncio

        try:
            asyncio.run(self._serve(listening))
        except BaseException as error:
            if listening.done():
                raise
            listening.set_exception(error)

    async def _serve(self, listening: Future[int]) -> None:
        import asyncio
        import random
        import socket

        from mailmerge.sandbox.protocol import ServerContext, ServerSession

        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        self._loop.set_exception_handler(_note_failure)
        tls = self._tls_context()
        context = ServerContext(
            user=self.user,
            password=self.password,
            max_size=self.max_size,
            tls=tls if self.tls == "starttls" else None,
            injector=FaultInjector(
                self.faults,
                random.Random(self.faults.seed),  # noqa: S311  chance, not secrecy
                self._monotonic,
            ),
            delay=self.faults.delay,
            no_pipelining=self.faults.no_pipelining,
            keep=self._received,
        )
        listener = socket.create_server((self.host, self._wanted))
        server = await self._loop.create_server(
            lambda: ServerSession(context), sock=listener, ssl=tls if self.tls == "tls" else None
        )
        listening.set_result(listener.getsockname()[1])
        await self._stopping.wait()
        with contextlib.suppress(NotImplementedError):  # Windows has no readers to remove
            self._loop.remove_reader(listener)
        await asyncio.sleep(0)  # a connection accepted a moment ago gets its transport, so that it can be cut
        server.close()  # no wait_closed(): it would wait for handshakes that nobody finishes
        await context.clear()

    def _tls_context(self) -> ssl.SSLContext | None:
        import ssl

        if self.tls == "none":
            return None
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.ca_file, _HERE / "loopback.key")
        return context

    def _received(self, transaction: ServerTransaction, content: bytes, connection: int) -> None:
        if self._keep is not None:
            sender, recipients = transaction.mail_from or "", tuple(transaction.rcpt_tos)
            self._keep(ReceivedMessage(sender, recipients, content, connection))
        self.received_count += 1


def _note_failure(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    """Log what asyncio would print, except that a client cut its connection, which is normal here."""
    error = context.get("exception")
    daily = not isinstance(error, Exception) or isinstance(error, OSError)
    _log.log(logging.DEBUG if daily else logging.ERROR, "%s: %r", context.get("message"), error)
