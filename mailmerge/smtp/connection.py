"""One connection: a non-blocking socket that pumps one session and minds the clock."""

from __future__ import annotations

import secrets
import selectors
import socket
import ssl
import time
from typing import TYPE_CHECKING

from mailmerge.errors import ConnectionLost, ProtocolError, SessionError, TlsError
from mailmerge.smtp.connect import connect, peer_is_local
from mailmerge.smtp.endpoint import TLS_MODE_HINT, Deadlines, Endpoint, ServerProfile
from mailmerge.smtp.events import Closed
from mailmerge.smtp.sasl import Credentials
from mailmerge.smtp.session import Session
from mailmerge.smtp.state import Life, Step
from mailmerge.smtp.tls import secure, speaks_tls, tls_context

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mailmerge.model import Message, Mode, Pipeline
    from mailmerge.smtp.events import Event

__all__ = ["Connection", "Credentials", "Deadlines", "Endpoint", "ServerProfile"]

_READ_OCTETS = 256 * 1024
_WRITE_OCTETS = 64 * 1024
_JOINED_BUFFERS = 1000
_GATHER_BUFFERS = 64
_GATHER_OCTETS = 1 << 20
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
_END_OF_STREAM = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Connection:
    """Hands messages to one server; ``open`` may be called again after `Closed`.

    Args:
        server: where to.
        credentials: who signs in; None: nobody.
        pipeline: how messages may be handed over, see `mailmerge.smtp.session`.
        deadlines: how long to wait for what.
        transcript: takes each line of the dialogue, secrets masked.
        monotonic: the clock, in seconds.
        profile: what other connections to this server have learnt; is learnt from, too.

    """

    def __init__(
        self,
        server: Endpoint,
        credentials: Credentials | None = None,
        *,
        pipeline: Pipeline = "auto",
        deadlines: Deadlines | None = None,
        transcript: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        profile: ServerProfile | None = None,
    ) -> None:
        self.server = server
        self.id = ""
        """Names the present session in the ledger."""
        self.profile = profile or ServerProfile()
        self._credentials = credentials
        self._pipeline: Pipeline = pipeline
        self._deadlines = deadlines or Deadlines()
        self._transcript = transcript
        self._monotonic = monotonic
        self._session: Session | None = None
        self._socket: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._tls: ssl.SSLContext | None = None
        self._interest = 0
        self._blocked = False
        self._broken: SessionError | None = None
        self._doubted = False
        """Whether we asked the silent server for TLS already."""
        self._watched: tuple[int, Step | None, bool, Life] | None = None
        self._since = 0.0
        self._progress = 0.0
        self._moved = False
        """Whether the last pump read or wrote anything."""

    # --- for the sender -------------------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        """Whether there is a session; the end of one is seen by ``poll``."""
        return self._socket is not None

    @property
    def in_flight(self) -> int:
        """Messages submitted and not completed."""
        return self._session.in_flight if self._session else 0

    @property
    def mode(self) -> Mode:
        """How messages are handed over just now."""
        return self._session.mode if self._session else "off"

    @property
    def max_size(self) -> int | None:
        """Largest message the server takes, in octets; None: it does not say."""
        return self._session.max_size if self._session else None

    @property
    def wants_write(self) -> bool:
        """Whether the socket must be waited for to become writable, too."""
        return self._blocked

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector; -1: there is none."""
        return self._socket.fileno() if self._socket else -1

    def can_accept(self) -> bool:
        """Whether another message may be submitted now."""
        return bool(self._socket and self._session and self._session.can_accept())

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand over *message*, known as *token* in events; its end waits for ``release``."""
        self._present().submit(message, token)

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages go: their intents are durable."""
        self._present().release(tokens)

    def open(self) -> None:
        """Connect, secure, sign in.

        Raises:
            SessionError: what was wrong, in words for the user; nothing was handed over.

        """
        if self._socket:
            raise RuntimeError("the connection is open already")
        try:
            self._begin()
            while not self._present().ready:
                self._pump()
                self._step_forward()
        except BaseException:
            self._drop()
            self._session = None
            raise

    def poll(self, timeout: float) -> list[Event]:
        """Write what may be written, wait up to *timeout* seconds for news, return it."""
        session = self._session
        if session is None:
            return []
        until = self._monotonic() + timeout
        while True:
            events = session.take_events()
            if not events and self._socket:
                self._pump()
                events = session.take_events()
            if session.closed:
                self._drop()
            if events or not self._socket:
                self._learn(events)
                return events
            remaining = until - self._monotonic()
            if remaining <= 0:
                return []
            self._wait(remaining)

    def probe(self) -> bool:
        """Ask the idle server whether it is still there; if it is not, ``poll`` reports the end."""
        session = self._present()
        if self._socket and not session.in_flight:
            self._pump()  # a farewell may have been waiting all along
            if session.ready:
                session.noop()
                self._pump()
            while session.ready and session.awaited:
                self._wait(self._deadlines.liveness)
                self._pump()
        return session.ready

    def close(self) -> None:
        """Say QUIT and close, within the deadline for QUIT; never fails.

        Messages still in flight are cut off: see ``abort`` for their outcomes.
        """
        session = self._session
        try:
            if self._socket and session and not session.in_flight:
                session.quit()
                until = self._monotonic() + self._deadlines.quit
                while session.life is Life.QUITTING and self._monotonic() < until:
                    self._pump()
                    if session.life is Life.QUITTING:
                        self._wait(max(0.0, until - self._monotonic()))
        except (SessionError, OSError):
            pass
        finally:
            if session:  # nobody polls any more, so it is learnt here
                self._learn_cap(session)
            self._drop()

    def abort(self) -> list[Event]:
        """Close at once; return the outcomes of what was in flight."""
        session = self._session
        if session is None:
            return []
        session.lost(ConnectionLost("we closed the connection"))
        self._drop()
        return session.take_events()

    # --- opening --------------------------------------------------------------------------------------

    def _begin(self) -> None:
        server = self.server
        self._blocked, self._broken, self._watched, self._doubted = False, None, None, False
        self._session = None
        self._socket = connect(server, self._deadlines.connect, self._monotonic)
        self.id = secrets.token_hex(6)
        local = peer_is_local(self._socket, server)
        session = Session(
            server.host,
            server.helo,
            starttls=server.tls == "starttls",
            private=server.tls == "tls" or local,
            credentials=self._credentials,
            pipeline=self.profile.limit(self._pipeline),
            messages_per_connection=self.profile.messages_per_connection,
            transcript=self._transcript,
        )
        if server.tls == "tls":
            self._secure()
        self._session = session
        self._listen()

    def _secure(self) -> None:
        if self._socket is None:
            raise RuntimeError("nothing to secure")
        self._tls = self._tls or tls_context(self.server)
        plain, self._socket = self._socket, None
        try:
            self._socket = secure(plain, self._tls, self.server, self._deadlines.tls, self._monotonic)
        finally:
            if self._socket is None:
                plain.close()

    def _listen(self) -> None:
        """Watch the present socket, which TLS replaces."""
        if self._selector:
            self._selector.close()
        self._selector = selectors.DefaultSelector()
        self._interest = selectors.EVENT_READ
        self._selector.register(self._present_socket(), self._interest)
        self._progress = self._monotonic()

    def _step_forward(self) -> None:
        session = self._present()
        if session.handshake_due:
            self._secure()
            self._listen()
            session.secured()
        elif session.closed:
            raise session.error or ConnectionLost(f"{self.server.host} closed the connection")
        elif session.awaited is Step.GREETING and not self._doubted:
            self._wait(self._deadlines.wrong_tls)
            if self._monotonic() - self._progress >= self._deadlines.wrong_tls:
                self._doubt_mode()
        elif not session.ready:
            self._wait(None)

    def _doubt_mode(self) -> None:
        """Ask a server that is silent whether it waits for TLS: such ports never greet in clear."""
        self._doubted = True
        server = self.server
        if server.tls != "tls" and speaks_tls(server, self._deadlines.wrong_tls, self._monotonic):
            raise TlsError(
                f"port {server.port} of {server.host} expects implicit TLS and sends no plaintext greeting",
                code="S625",
                hint=TLS_MODE_HINT,
            )

    # --- pumping --------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Read what is there, then write what may be written, then look at the clock.

        Reading comes first: a reply that waits before its command has left belongs to no command.
        """
        session = self._present()
        self._moved = False
        self._read(session)
        if not session.closed and not session.handshake_due:
            self._write(session)
            if not self._moved:
                self._check_deadline(session)
        if session.closed:
            self._drop()

    def _read(self, session: Session) -> None:
        connection = self._present_socket()
        while not session.closed and not session.handshake_due:
            try:
                data = connection.recv(_READ_OCTETS)
            except _WOULD_BLOCK:
                return
            except _END_OF_STREAM:
                data = b""
            except OSError as error:
                session.lost(self._broken or self._break(error))
                return
            if not data:
                session.lost(self._broken or self._end_of_stream())
                return
            self._moved = True
            session.receive(data)
            if _QUICK_ACK is not None and session.listening:
                self._acknowledge_quickly(connection)
            if not isinstance(connection, ssl.SSLSocket) or not connection.pending():
                return

    @staticmethod
    def _acknowledge_quickly(connection: socket.socket) -> None:
        """Send our ACK at once: replies in two segments would wait for it (40 ms with Postfix)."""
        if _QUICK_ACK is not None:
            try:
                connection.setsockopt(socket.IPPROTO_TCP, _QUICK_ACK, 1)
            except OSError:
                return

    def _write(self, session: Session) -> None:
        connection = self._present_socket()
        self._blocked = False
        while session.outbox:
            try:
                octets = self._write_some(connection, session)
            except ssl.SSLWantReadError:
                return
            except _WOULD_BLOCK:
                self._blocked = True
                return
            except OSError as error:
                # Replies may have arrived before the break: they still count.
                self._broken = self._break(error)
                session.write_failed(self._broken)
                return
            self._moved = True
            self._progress = self._monotonic()
            session.sent(octets)

    @staticmethod
    def _write_some(connection: socket.socket, session: Session) -> int:
        if isinstance(connection, ssl.SSLSocket):
            return connection.send(b"".join(session.outbox.buffers(_JOINED_BUFFERS, _WRITE_OCTETS)))
        if not hasattr(connection, "sendmsg"):
            return connection.send(b"".join(session.outbox.buffers(_JOINED_BUFFERS, _WRITE_OCTETS)))
        return connection.sendmsg(session.outbox.buffers(_GATHER_BUFFERS, _GATHER_OCTETS))

    def _wait(self, seconds: float | None) -> None:
        """Wait until the socket is ready, *seconds* are over or a deadline is reached."""
        if self._selector is None:
            return
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._blocked else 0)
        if interest != self._interest:
            self._selector.modify(self._present_socket(), interest)
            self._interest = interest
        due = self._due(self._present())
        if due is not None:
            left = max(0.0, due - self._monotonic())
            seconds = left if seconds is None else min(seconds, left)
        self._selector.select(seconds)

    # --- the clock ------------------------------------------------------------------------------------

    def _due(self, session: Session) -> float | None:
        """Return when patience ends; None: nothing is owed to us just now."""
        step = session.awaited
        watched = (session.answered, step, session.asked, session.life)
        if watched != self._watched:
            self._watched = watched
            self._since = self._monotonic()
        if session.life is Life.DRAINING:
            return self._since + self._deadlines.drain
        if step is None:
            return None
        if session.asked:
            return self._since + self._deadlines.of(step)
        if session.outbox:
            return max(self._since, self._progress) + self._deadlines.progress
        return None  # it is we who wait for a release

    def _check_deadline(self, session: Session) -> None:
        due = self._due(session)
        if due is not None and self._monotonic() >= due:
            session.lost(self._too_late(session))

    def _too_late(self, session: Session) -> SessionError:
        where = f"{self.server.host}, port {self.server.port},"
        step = session.awaited
        if step is Step.GREETING:
            seconds = self._deadlines.greeting
            return ConnectionLost(f"{where} said nothing in {seconds:g} s", code="S613", hint=TLS_MODE_HINT)
        if step is None or not session.asked:
            return ConnectionLost(
                f"{where} took nothing more of what we sent for {self._deadlines.progress:g} s", code="S613"
            )
        return ConnectionLost(
            f"{where} did not answer {step.value} within {self._deadlines.of(step):g} s", code="S613"
        )

    # --- the end --------------------------------------------------------------------------------------

    def _end_of_stream(self) -> ConnectionLost:
        session = self._present()
        during = f" while we waited for its reply to {session.awaited.value}" if session.awaited else ""
        hint = None
        if session.awaited is Step.GREETING:
            during, hint = " without a greeting", TLS_MODE_HINT
        return ConnectionLost(f"{self.server.host} closed the connection{during}", hint=hint)

    def _break(self, error: OSError) -> ConnectionLost:
        why = error.strerror or str(error)
        return ConnectionLost(f"the connection to {self.server.host} broke: {why}")

    def _learn(self, events: list[Event]) -> None:
        """Remember for later sessions what a surprise has taught in this one."""
        session = self._session
        if session is None:
            return
        for event in events:
            if not isinstance(event, Closed):
                continue
            if session.distrusts_bdat:
                self.profile.step_down("window")
            elif isinstance(event.error, ProtocolError) or (event.error and event.error.code == "S613"):
                self.profile.step_down(session.mode)
            self._learn_cap(session)

    def _learn_cap(self, session: Session) -> None:
        limit = session.take_connection_limit()
        if limit:
            self.profile.connection_limit_reached(limit)

    def _drop(self) -> None:
        if self._selector:
            self._selector.close()
            self._selector = None
        if self._socket:
            self._socket.close()
            self._socket = None

    def _present(self) -> Session:
        if self._session is None:
            raise RuntimeError("the connection is not open")
        return self._session

    def _present_socket(self) -> socket.socket:
        if self._socket is None:
            raise RuntimeError("the connection is not open")
        return self._socket
