"""One connection: a non-blocking socket that drives one session, with TLS and the clock.

All I/O is here: `mailmerge.smtp.session` itself does not use sockets, TLS or the time. The socket never
blocks, because with pipelining both sides may want to write at the same time: a client that blocks in a write
while the server blocks writing replies would wait forever (RFC 2920 section 3.1 has clients read while they
write).
"""

from __future__ import annotations

import math
import secrets
import selectors
import socket
import ssl
import time
from typing import TYPE_CHECKING

from mailmerge.errors import AuthError, ConnectionLost, ProtocolError, SessionError, TlsError
from mailmerge.smtp.connect import (
    block,
    certificate_end,
    connect,
    peer_is_local,
    secure,
    speaks_tls,
    tls_context,
)
from mailmerge.smtp.deadlines import Deadlines, DeadlineTimer, Wait
from mailmerge.smtp.endpoint import TLS_MODE_HINT, Endpoint, ServerProfile
from mailmerge.smtp.sasl import Credentials, channel_binding
from mailmerge.smtp.session import Session
from mailmerge.smtp.state import Closed, InStep, Life, Overlap, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator
    from datetime import datetime

    from mailmerge.model import Message, Mode, Pipeline
    from mailmerge.smtp.state import Event

__all__ = ["Connection", "Credentials", "Deadlines", "Endpoint", "ServerProfile"]

_LONG = 60.0
"""How long to wait at most without a deadline, in seconds, before checking again."""
_SYNC_EVERY = 0.8
"""How often a window makes a sync point, in seconds: at most a second's messages are in doubt."""
_READ_OCTETS = 256 * 1024
_WRITE_OCTETS = 64 * 1024
_JOINED_BUFFERS = 1000
_GATHER_BUFFERS = 64
_GATHER_OCTETS = 1 << 20
_GATHERS = hasattr(socket.socket, "sendmsg")  # not on Windows
_QUICK_ACK: int | None = getattr(socket, "TCP_QUICKACK", None)  # only on Linux
_WOULD_BLOCK = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)
# Servers rarely send TLS's close_notify before they close. Nothing is lost by not insisting on it: a reply
# that somebody cut off has no line end, and is never accepted.
_END_OF_STREAM = (ssl.SSLEOFError, ssl.SSLZeroReturnError)


class Connection:
    """Hands messages to one server; ``open`` may be called again after `Closed`.

    Args:
        endpoint: the server.
        credentials: who signs in; None: nobody.
        pipeline: the hand-over mode, see `mailmerge.smtp.transfer`.
        deadlines: how long to wait for each reply.
        transcript: called with each line of the conversation, secrets masked.
        monotonic: the clock, in seconds.
        profile: what other connections to this server have learnt, and where this one records what it learns.
        renewing: prepares the secret for the next sign-in, step by step, if that takes time.

    """

    def __init__(
        self,
        endpoint: Endpoint,
        credentials: Credentials | None = None,
        *,
        pipeline: Pipeline = "auto",
        deadlines: Deadlines | None = None,
        transcript: Callable[[str], None] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        profile: ServerProfile | None = None,
        renewing: Callable[[], Iterator[Wait]] | None = None,
    ) -> None:
        self.endpoint = endpoint
        self.id = ""
        """Identifies the present session in the ledger."""
        self.profile = profile or ServerProfile()
        self._credentials = credentials
        self._renewing = renewing
        self._pipeline: Pipeline = pipeline
        self._deadlines = deadlines or Deadlines()
        self._timer = DeadlineTimer(self._deadlines)
        self._transcript = transcript
        self._monotonic = monotonic
        self._session: Session | None = None
        self._socket: socket.socket | None = None
        self._selector: selectors.BaseSelector | None = None
        self._tls: ssl.SSLContext | None = None
        self._interest = 0
        self._blocked = False
        """Whether the kernel accepted less than we had: writing continues when the socket is writable."""
        self._broken: SessionError | None = None
        """How writing failed; reading continues for what had arrived."""
        self._asked_for_tls = False
        """Whether TLS was already tried on another connection to this silent server."""
        self._moved = False
        """Whether the last pump read or wrote anything."""
        self._round_trip = math.inf
        """The shortest time between a command and its reply, in seconds."""
        self._overlap = Overlap.UNTRIED
        """What has been recorded in the profile."""
        self._in_step = 0.0
        """When the session last was at a sync point."""

    # --- for the sender -------------------------------------------------------------------------------

    @property
    def opened(self) -> bool:
        """Whether there is a session; only ``poll`` notices the end of one."""
        return self._socket is not None

    @property
    def in_flight(self) -> int:
        """Messages submitted and not completed."""
        return self._session.in_flight if self._session else 0

    @property
    def mode(self) -> Mode:
        """How messages are handed over now."""
        return self._session.mode if self._session else "off"

    @property
    def max_size(self) -> int | None:
        """The largest message that the server accepts, in octets; None: it does not specify one."""
        return self._session.max_size if self._session else None

    @property
    def certificate_until(self) -> datetime | None:
        """Until when the server's certificate is valid, in UTC; None: no TLS, or it is not verified."""
        return certificate_end(self._socket)

    @property
    def wants_write(self) -> bool:
        """Whether to wait for the socket to become writable too."""
        return self._blocked

    def fileno(self) -> int:
        """Return the socket's descriptor, for a selector; -1: there is none."""
        return self._socket.fileno() if self._socket else -1

    def can_accept(self, interval: float = 0.0) -> bool:
        """Return whether another message may be submitted now; *interval*: seconds between two."""
        session = self._session
        if not session or not self._socket:
            return False
        if session.in_flight:
            session.learn(self._known())
            sync = self._monotonic() - self._in_step >= _SYNC_EVERY
            session.allow(overlap=self._may_overlap(session, interval), sync=sync)
        return session.can_accept()

    def _may_overlap(self, session: Session, interval: float) -> bool:
        """Return whether a message may begin behind one that is not answered.

        Without that a message takes two round trips, which is enough if the rate is not faster.
        """
        if self._pipeline == "auto" and interval >= 2 * self._round_trip:
            return False
        if session.overlap is Overlap.UNTRIED:
            return self.profile.may_try(self.id)
        return self.profile.borne is not False  # another connection may have found out since

    def _known(self) -> bool | None:
        """Whether the server supports commands behind a message; None: unknown. A window finds out again."""
        borne = self.profile.borne
        return None if borne and self._pipeline == "window" else borne

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand over *message*, called *token* in events; its end waits for ``release``."""
        self._present().submit(message, token)

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages be sent: their intents are durable."""
        self._present().release(tokens)

    def open(self) -> None:
        """Connect, secure, sign in.

        Raises:
            SessionError: what was wrong, with a message for the user; nothing was handed over.

        """
        for wanted in self.opening():
            block(wanted)

    def opening(self) -> Iterator[Wait]:
        """Do what `open` does, step by step: yield what is waited for, and continue when resumed.

        If the generator is closed before its end, the attempt is given up immediately.

        Raises:
            SessionError: as `open` does.

        """
        if self._socket:
            raise RuntimeError("the connection is open already")
        if self._renewing:
            yield from self._renewing()
        while True:
            try:
                yield from self._opening()
            except AuthError as error:
                another = self._credentials.another if self._credentials else None
                if error.code != AuthError.default_code or another is None or not another(error.message):
                    raise
            else:
                return

    def _opening(self) -> Iterator[Wait]:
        try:
            yield from self._begin()
            while not self._present().ready:
                self._pump()
                yield from self._step_forward()
            self._overlap = self._present().overlap
        except BaseException:
            self._drop()
            self._session = None
            raise

    def poll(self, timeout: float) -> list[Event]:
        """Write what may be written, wait up to *timeout* seconds for events, and return them.

        The end of the session is an event too: `Closed` is the last one, and the next call returns nothing.
        """
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

    def probing(self) -> Generator[Wait, None, bool]:
        """Check whether the idle server is still there; if it is not, ``poll`` reports the end.

        Yields what is waited for, as `opening` does; returns whether it is there.
        """
        session = self._present()
        if self._socket and not session.in_flight:
            # A server that timed out has sent a 421 or just closed, and nobody has read that since.
            self._pump()
            if session.ready:
                session.noop()
                self._pump()
            while session.ready and session.awaited:
                yield self._wanted(self._deadlines.liveness)
                self._pump()
        return session.ready

    def close(self, *, within: float = math.inf) -> list[Event]:
        """Send QUIT and close, within the deadline for QUIT or *within* seconds; never fails.

        Messages still in flight are cut off: see ``abort`` for their outcomes.

        Returns:
            The events meanwhile: the server may prove to have been out of step.

        """
        session = self._session
        try:
            if self._socket and session and not session.in_flight:
                session.quit()
                until = self._monotonic() + min(self._deadlines.quit, within)
                while session.life is Life.QUITTING and self._monotonic() < until:
                    self._pump()
                    if session.life is Life.QUITTING:
                        self._wait(max(0.0, until - self._monotonic()))
        except (SessionError, OSError):
            pass
        finally:
            if session:  # nobody polls any more, so it is recorded here
                self._learn_limit(session)
                self._learn_overlap(session)
            self._drop()
        return session.take_events() if session else []

    def abort(self) -> list[Event]:
        """Close immediately; return the outcomes of what was in flight."""
        session = self._session
        if session is None:
            return []
        # No QUIT, and no rest of what is half written: only closing keeps a message from becoming complete.
        session.give_up(ConnectionLost("we closed the connection"))
        self._learn_overlap(session)
        self._drop()
        return session.take_events()

    # --- opening --------------------------------------------------------------------------------------

    def _begin(self) -> Iterator[Wait]:
        endpoint = self.endpoint
        self._blocked, self._broken, self._asked_for_tls = False, None, False
        self._timer = DeadlineTimer(self._deadlines)
        self._round_trip, self._in_step = math.inf, self._monotonic()
        self._session = None
        self._socket = yield from connect(endpoint, self._deadlines.connect, self._monotonic)
        self.id = secrets.token_hex(6)
        local = peer_is_local(self._socket, endpoint)
        session = Session(
            endpoint.host,
            endpoint.helo,
            starttls=endpoint.tls == "starttls",
            private=endpoint.tls == "tls" or local,
            credentials=self._credentials,
            pipeline=self.profile.limit(self._pipeline),
            borne=self._known(),
            not_bearing=self.profile.not_bearing,
            messages_per_connection=self.profile.messages_per_connection,
            transcript=self._transcript,
        )
        if endpoint.tls == "tls":
            yield from self._secure(session)
        self._session = session
        self._listen()

    def _secure(self, session: Session) -> Iterator[Wait]:
        if self._socket is None:
            raise RuntimeError("nothing to secure")
        self._tls = self._tls or tls_context(self.endpoint)
        plain, self._socket = self._socket, None
        try:
            self._socket = secured = yield from secure(
                plain, self._tls, self.endpoint, self._deadlines.tls, self._monotonic
            )
            session.bind(channel_binding(secured.getpeercert(binary_form=True)))
        finally:
            if self._socket is None:
                plain.close()

    def _listen(self) -> None:
        """Register the present socket, which TLS replaces, with the selector."""
        if self._selector:
            self._selector.close()
        self._selector = selectors.DefaultSelector()
        self._interest = selectors.EVENT_READ
        self._selector.register(self._present_socket(), self._interest)
        self._timer.wrote(self._monotonic())

    def _step_forward(self) -> Iterator[Wait]:
        session = self._present()
        if session.handshake_due:
            yield from self._secure(session)
            self._listen()
            session.secured()
        elif session.closed:
            raise session.error or ConnectionLost(f"{self.endpoint.host} closed the connection")
        elif session.awaited is Step.GREETING and not self._asked_for_tls:
            yield self._wanted(self._deadlines.wrong_tls)
            if self._timer.since_written(self._monotonic()) >= self._deadlines.wrong_tls:
                yield from self._check_tls_mode()
        elif not session.ready:
            yield self._wanted(None)

    def _check_tls_mode(self) -> Iterator[Wait]:
        """Try TLS, on another connection, with a silent server.

        A port with implicit TLS waits for us to begin, while we wait for its greeting: without this check the
        user would only get a time-out after five minutes. A slow server is not disturbed by it.
        """
        self._asked_for_tls = True
        endpoint = self.endpoint
        if endpoint.tls == "tls":
            return
        if (yield from speaks_tls(endpoint, self._deadlines.wrong_tls, self._monotonic)):
            raise TlsError(
                f"port {endpoint.port} of {endpoint.host} expects implicit TLS "
                "and sends no plaintext greeting",
                code="S625",
                hint=TLS_MODE_HINT,
            )

    # --- pumping --------------------------------------------------------------------------------------

    def _pump(self) -> None:
        """Read what is there, then write what may be written, then check the deadlines.

        Reading comes first: a reply that is there before its command was sent answers no command.
        """
        session = self._present()
        self._moved = False
        self._read(session)
        if not session.closed and not session.handshake_due:
            self._write(session)
            if not self._moved:  # a deadline that passed while we were busy elsewhere is not the server's
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
            if not session.ready and session.awaited is not Step.GREETING:
                self._round_trip = min(self._round_trip, self._timer.since_written(self._monotonic()))
            session.receive(data)
            if _QUICK_ACK is not None and session.listening:
                self._acknowledge_quickly(connection)
            # No selector will ever report what OpenSSL has decrypted already.
            if not isinstance(connection, ssl.SSLSocket) or not connection.pending():
                return

    @staticmethod
    def _acknowledge_quickly(connection: socket.socket) -> None:
        """Send our ACK immediately: replies in two segments would wait for it (40 ms with Postfix).

        Nagle's algorithm delays the server's second segment until we acknowledge the first, and our kernel
        would delay that acknowledgement. The option only lasts for a moment, so it is set again each time.
        """
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
                return  # TLS needs to read something first: reading is waited for in any case
            except _WOULD_BLOCK:
                self._blocked = True
                return
            except OSError as error:
                # Replies may have arrived before the break, and each is one row less in doubt: continue
                # reading.
                self._broken = self._break(error)
                session.write_failed(self._broken)
                return
            self._moved = True
            self._timer.wrote(self._monotonic())
            session.sent(octets)

    @staticmethod
    def _write_some(connection: socket.socket, session: Session) -> int:
        """Write what may be written now, in as few system calls and TLS records as possible."""
        if isinstance(connection, ssl.SSLSocket) or not _GATHERS:
            return connection.send(b"".join(session.outbox.buffers(_JOINED_BUFFERS, _WRITE_OCTETS)))
        return connection.sendmsg(session.outbox.buffers(_GATHER_BUFFERS, _GATHER_OCTETS))

    def _wait(self, seconds: float | None) -> None:
        """Wait until the socket is ready, *seconds* have passed or a deadline is reached."""
        if self._selector is None:
            return
        interest = selectors.EVENT_READ | (selectors.EVENT_WRITE if self._blocked else 0)
        if interest != self._interest:
            self._selector.modify(self._present_socket(), interest)
            self._interest = interest
        self._selector.select(self._at_most(seconds))

    def _wanted(self, seconds: float | None) -> Wait:
        """Return what `_wait` would wait for."""
        left = self._at_most(seconds)
        return Wait(self.fileno(), to_write=self._blocked, seconds=_LONG if left is None else left)

    def _at_most(self, seconds: float | None) -> float | None:
        """Return how long to wait until the next deadline, *seconds* at most; None: without limit."""
        now = self._monotonic()
        due = self._timer.due(self._present(), now)
        if due is None:
            return seconds
        left = max(0.0, due - now)
        return left if seconds is None else min(seconds, left)

    def _check_deadline(self, session: Session) -> None:
        now = self._monotonic()
        due = self._timer.due(session, now)
        if due is not None and now >= due:
            where = f"{self.endpoint.host}, port {self.endpoint.port}"
            session.lost(self._timer.too_late(session, where))

    # --- the end --------------------------------------------------------------------------------------

    def _end_of_stream(self) -> ConnectionLost:
        session = self._present()
        during = f" while we were waiting for its reply to {session.awaited.value}" if session.awaited else ""
        hint = None
        if session.awaited is Step.GREETING:
            during, hint = " without a greeting", TLS_MODE_HINT
        return ConnectionLost(f"{self.endpoint.host} closed the connection{during}", hint=hint)

    def _break(self, error: OSError) -> ConnectionLost:
        why = error.strerror or str(error)
        return ConnectionLost(f"the connection to {self.endpoint.host} broke: {why}")

    def _learn(self, events: list[Event]) -> None:
        """Record in the profile, for later sessions, what a surprise in this one has shown."""
        session = self._session
        if session is None:
            return
        self._learn_overlap(session)
        for event in events:
            if isinstance(event, InStep):
                self._in_step = self._monotonic()
            if not isinstance(event, Closed):
                continue
            # A time-out or a reply out of place may be caused by this mode: the next session is one mode more
            # careful, so a server that does not support a mode costs one connection and no row.
            if session.distrusts_bdat:
                self.profile.step_down("window")
            elif session.overlap_failure:
                pass  # that is recorded already
            elif isinstance(event.error, ProtocolError) or (event.error and event.error.code == "S613"):
                self.profile.step_down(session.mode)
            self._learn_limit(session)

    def _learn_overlap(self, session: Session) -> None:
        """Record in the profile what the session has found out about commands behind a message."""
        if session.overlap is not self._overlap:
            self._overlap = session.overlap
            if session.overlap_failure:
                self.profile.found(borne=False, failure=session.overlap_failure)
            elif session.overlap is Overlap.PASSED and self._pipeline != "window":
                self.profile.found(borne=True)
        if session.overlap_suspect and self.profile.borne:
            # It has supported it before, and may have closed for any reason: it is tried once more.
            self.profile.found(None)

    def _learn_limit(self, session: Session) -> None:
        limit = session.take_connection_limit()
        if limit:
            self.profile.connection_limit_reached(limit)

    def _drop(self) -> None:
        if self.profile.trying == self.id:
            self.profile.trying = ""  # it can no longer find out, so another connection may
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
