"""One connection of the sandbox server: aiosmtpd, plus what fast clients use and aiosmtpd lacks.

Added are PIPELINING (RFC 2920; aiosmtpd reads command by command, so only the EHLO keyword was missing),
CHUNKING (RFC 3030), sign-in by CRAM-MD5 and XOAUTH2, and the faults of a `FaultPlan`. Importing this
module loads asyncio and aiosmtpd.
"""

from __future__ import annotations

import asyncio
import binascii
import contextlib
import hmac
import logging
import re
import secrets
from base64 import b64decode
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from aiosmtpd.smtp import MISSING, SMTP, AuthResult, Envelope, LoginPassword, TLSSetupException
from msgspec import Struct, field

from mailmerge.sandbox.faults import EARLY, GREYLISTED, Command, Cut, NoPipelining

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable

    from aiosmtpd.smtp import Session as Peer

    from mailmerge.sandbox.faults import FaultInjector

_CHUNK = re.compile(r"(?P<size>\d{1,18})(?P<last> +LAST)?", re.IGNORECASE)
_LINE_LIMIT = 998  # RFC 5321 section 4.5.3.1.6, without CRLF
_PIECE = 64 * 1024
_EARLY = 0.02
"""What arrives within this many seconds of a message was sent together with it."""
_log = logging.getLogger(__name__)


class ServerContext(Struct):
    """What all connections of one server share."""

    user: str | None
    password: str
    max_size: int
    tls: ssl.SSLContext | None
    """For STARTTLS; None: the connection uses implicit TLS, or never TLS."""
    injector: FaultInjector
    delay: float
    """Seconds before each message's last reply."""
    no_pipelining: NoPipelining | None
    """How commands are treated that come before the message in front of them is answered; None: normally."""
    keep: Callable[[ServerTransaction, bytes, int], None]
    """Called with each accepted message before its reply is sent: envelope, content, connection number."""
    connections: set[ServerSession] = field(default_factory=set)
    connection_count: int = 0

    def fault(self, command: Command) -> str | None:
        """Return the reply that refuses *command* this time, or None."""
        return self.injector.refusal(command)

    async def clear(self) -> None:
        """Cut every connection and wait until the event loop has closed them."""
        while self.connections:
            for connection in tuple(self.connections):
                connection.abort()
            await asyncio.sleep(0)


class ServerTransaction(Envelope):
    """From MAIL to the reply to the content."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[bytes] = []
        self.chunking = False
        self.broken = False
        """Whether a chunk was refused: only RSET may follow (RFC 3030 section 2)."""
        self.cut: Cut | None = None

    @property
    def size(self) -> int:
        """Octets of the chunks so far."""
        return sum(map(len, self.chunks))


class Handler:
    """aiosmtpd's handler: the reply to each command, faults first."""

    def __init__(self, context: ServerContext) -> None:
        self._context = context

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self, _server: SMTP, session: Peer, _envelope: Envelope, hostname: str, replies: list[str]
    ) -> list[str]:
        """Add our extensions to the list of capabilities."""
        if fault := self._context.fault(Command.EHLO):
            return [fault]
        session.host_name = hostname
        offered = [reply for reply in replies if reply.rstrip() != "250-AUTH"]
        return [offered[0], "250-PIPELINING", "250-CHUNKING", *offered[1:]]

    async def handle_AUTH(self, *_: object) -> Any:  # noqa: N802
        """Refuse the sign-in, or leave it to aiosmtpd."""
        return self._context.fault(Command.AUTH) or MISSING

    async def handle_MAIL(  # noqa: N802
        self,
        server: ServerSession,
        _session: Peer,
        envelope: ServerTransaction,
        address: str,
        options: list[str],
    ) -> str:
        """Begin a transaction."""
        if fault := self._context.injector.begin(server.begun) or self._context.fault(Command.MAIL):
            return fault
        server.begun += 1
        envelope.cut = self._context.injector.cut()
        envelope.mail_from = address
        envelope.mail_options.extend(options)
        return "250 2.1.0 OK"

    async def handle_RCPT(  # noqa: N802
        self, _server: SMTP, _session: Peer, envelope: ServerTransaction, address: str, _options: list[str]
    ) -> str:
        """Accept one more recipient."""
        if envelope.chunking or envelope.broken:
            return "503 5.5.1 Too late for a recipient, send RSET"
        if fault := self._context.injector.no_such_user(address) or self._context.fault(Command.RCPT):
            return fault
        if self._context.injector.greylisted(envelope.mail_from or "", address):
            return GREYLISTED
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"

    async def handle_exception(self, error: Exception) -> str:
        """Return the reply to an exception: a client that disconnects is harmless, all else is our bug."""
        ours = not isinstance(error, (OSError, TLSSetupException))
        _log.log(
            logging.ERROR if ours else logging.DEBUG,
            "the sandbox server failed: %r",
            error,
            exc_info=error if ours else None,
        )
        return "451 4.3.0 The sandbox server failed"


class ServerSession(SMTP):
    """One connection, from greeting to the end."""

    # aiosmtpd takes the reader's buffer from this: as large as a message, else it stops reading from
    # a pipelining client after 2 KB. Line lengths are checked apart.
    line_length_limit = 32 * 1024 * 1024

    def __init__(self, context: ServerContext) -> None:
        super().__init__(
            Handler(context),
            data_size_limit=context.max_size,
            hostname="localhost",
            ident="mailmerge sandbox",
            tls_context=context.tls,
            auth_require_tls=context.tls is not None,
            authenticator=self._sign_in,
            auth_exclude_mechanism=None if context.user else ("CRAM-MD5", "LOGIN", "PLAIN", "XOAUTH2"),
        )
        # aiosmtpd shares these between connections and refuses the tokens that OAuth hands out.
        self.command_size_limits = defaultdict(lambda: 1024, AUTH=12288)
        self._context = context
        context.connection_count += 1
        self._number = context.connection_count
        self.begun = 0
        """How many messages were begun on this connection."""

    # --- the connection itself ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Record the connection; aiosmtpd calls this a second time after STARTTLS."""
        self._context.connections.add(self)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Forget the connection."""
        self._context.connections.discard(self)
        super().connection_lost(error)

    def abort(self) -> None:
        """Cut the connection without a reply."""
        for transport in (self.transport, self._original_transport):
            if isinstance(transport, asyncio.Transport):
                transport.abort()

    async def push(self, status: str | bytes) -> None:
        """Send one reply; 421 is the last one of a connection (RFC 5321 section 3.8)."""
        reply = status.encode() if isinstance(status, str) else status
        await super().push(reply)
        if reply.startswith(b"421"):
            await self._leave()

    async def _leave(self) -> None:
        """Close, and run no command that was pipelined behind."""
        if self.transport is not None:
            self.transport.close()
        raise asyncio.CancelledError

    # --- sign-in ---

    async def check_auth_needed(self, caller_method: str) -> bool:  # noqa: ARG002 - aiosmtpd passes it
        """Answer 530 where TLS or sign-in is missing."""
        obstacle = self._obstacle()
        if obstacle:
            await self.push(obstacle)
        return obstacle is not None

    def _obstacle(self) -> str | None:
        if self.session is None or not self.session.host_name:
            return "503 5.5.1 Send EHLO first"
        if self._context.tls is not None and self.session.ssl is None:
            return "530 5.7.0 Must issue a STARTTLS command first"
        if self._context.user is not None and not self.session.authenticated:
            return "530 5.7.0 Authentication required"
        return None

    def _sign_in(
        self, _server: SMTP, _session: Peer, _envelope: Envelope, _mechanism: str, given: LoginPassword
    ) -> AuthResult:
        right = (str(self._context.user).encode(), self._context.password.encode())
        return AuthResult(success=tuple(given) == right, handled=False)

    async def auth_CRAM__MD5(self, _: SMTP, _args: list[str]) -> AuthResult:  # noqa: N802
        """Sign in by CRAM-MD5 (RFC 2195)."""
        challenge = f"<{secrets.token_hex(8)}@localhost>".encode()
        answer = await self.challenge_auth(challenge)
        if not isinstance(answer, bytes):
            return AuthResult(success=False)
        digest = hmac.new(self._context.password.encode(), challenge, "md5").hexdigest()
        return AuthResult(success=answer == f"{self._context.user} {digest}".encode(), handled=False)

    async def auth_XOAUTH2(self, _: SMTP, args: list[str]) -> AuthResult:  # noqa: N802
        """Sign in with a token, refused the way Google does it: an error document first, then 535."""
        if len(args) == 1:
            blob = await self.challenge_auth(b"")
            if not isinstance(blob, bytes):
                return AuthResult(success=False)
        else:
            try:
                blob = b64decode(args[1], validate=True)
            except binascii.Error:
                await self.push("501 5.5.2 Cannot decode base64")
                return AuthResult(success=False)
        if blob == f"user={self._context.user}\1auth=Bearer {self._context.password}\1\1".encode():
            return AuthResult(success=True)
        answer = await self.challenge_auth(b'{"status":"400","schemes":"Bearer"}')
        return AuthResult(success=False, handled=not isinstance(answer, bytes))

    # --- content ---

    def _create_envelope(self) -> ServerTransaction:
        return ServerTransaction()

    def _current(self) -> ServerTransaction:
        if not isinstance(self.envelope, ServerTransaction):
            raise TypeError("aiosmtpd made an envelope of its own")
        return self.envelope

    async def smtp_DATA(self, arg: str | None) -> None:  # noqa: N802
        """Read the content up to the dot (RFC 5321 section 4.1.1.4)."""
        transaction = self._current()
        refusal = self._obstacle()
        if refusal is None and (transaction.chunking or transaction.broken):
            refusal = "503 5.5.1 DATA does not mix with BDAT, send RSET"
        if refusal is None and not transaction.rcpt_tos:
            refusal = "503 5.5.1 Need RCPT first"
        if refusal is None and arg:
            refusal = "501 5.5.4 DATA takes no argument"
        refusal = refusal or self._context.fault(Command.DATA)
        if refusal:
            await self.push(refusal)
            return
        self._cut_if(Cut.BEFORE)
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        content = await self._read_to_dot()
        await self._finish(content)

    async def smtp_BDAT(self, arg: str | None) -> None:  # noqa: N802
        """Accept or discard one chunk (RFC 3030): its bytes are never read as commands."""
        match = _CHUNK.fullmatch(arg or "")
        if match is None:
            await self.push("421 5.5.4 Syntax: BDAT size [LAST]; cannot tell where the chunk ends")
            return
        transaction = self._current()
        refusal = self._obstacle()
        if refusal is None and transaction.broken:
            refusal = "503 5.5.1 A chunk was refused, send RSET"
        if refusal is None and not transaction.rcpt_tos:
            refusal = "503 5.5.1 Need RCPT first"
        size = int(match["size"])
        if refusal is None and transaction.size + size > self._context.max_size:
            refusal = "552 5.3.4 Message too big"
        if refusal:
            await self._discard(size)
            transaction.broken = True
            transaction.chunks.clear()
            await self.push(refusal)
            return
        self._cut_if(Cut.BEFORE)
        transaction.chunking = True
        if transaction.cut is Cut.INSIDE:
            await self._discard(size // 2)
            self._cut_if(Cut.INSIDE)
        transaction.chunks.append(await self._reader.readexactly(size))
        if match["last"]:
            await self._finish(b"".join(transaction.chunks))
        else:
            await self.push(f"250 2.0.0 {size} octets received")

    async def _read_to_dot(self) -> bytes | None:
        """Return the content of DATA without its dot-stuffing; None: it was too large and discarded."""
        content = bytearray()
        too_big = False
        while True:
            try:
                line = await self._reader.readuntil(b"\r\n")
                self._cut_if(Cut.INSIDE)
            except asyncio.LimitOverrunError as error:
                await self._discard(error.consumed)
                too_big = True
                continue
            if line == b".\r\n":
                return None if too_big else bytes(content)
            too_big = too_big or len(content) + len(line) > self._context.max_size
            if not too_big:
                content += line[1:] if line.startswith(b".") else line

    def _cut_if(self, where: Cut) -> None:
        """Cut the connection here, if the plan says so for this message."""
        if self._current().cut is where:
            self.abort()
            raise asyncio.CancelledError

    async def _discard(self, size: int) -> None:
        while size > 0:
            size -= len(await self._reader.readexactly(min(size, _PIECE)))

    async def _finish(self, content: bytes | None) -> None:
        """Return the reply to a whole message: the transaction ends in any case."""
        self._cut_if(Cut.AFTER)
        transaction = self._current()
        self.envelope = ServerTransaction()
        if self._context.delay:
            await asyncio.sleep(self._context.delay)
        if content is None:
            await self.push("552 5.3.4 Message too big")
        elif max(map(len, content.split(b"\r\n"))) > _LINE_LIMIT:
            await self.push(f"554 5.6.0 A line is longer than {_LINE_LIMIT} octets")
        elif fault := self._context.fault(Command.CONTENT):
            await self.push(fault)
        else:
            self._context.keep(transaction, content, self._number)
            if self._context.no_pipelining is not None:
                await self._finish_strictly(self._context.no_pipelining)
                return
            if self._context.injector.drops():
                self.abort()
                raise asyncio.CancelledError
            await self.push("250 2.0.0 OK")

    async def _finish_strictly(self, kind: NoPipelining) -> None:
        """Accept a message, and refuse everything that has already come behind it."""
        early = b""
        with contextlib.suppress(TimeoutError):
            early = await asyncio.wait_for(self._reader.read(_PIECE), _EARLY)
        if early and kind is NoPipelining.CRASH:
            self.abort()
            raise asyncio.CancelledError
        await self.push("250 2.0.0 OK")
        commands = _commands(early)
        if not commands or kind is NoPipelining.SILENT:
            return
        once = kind in {NoPipelining.SYNCHRONIZATION, NoPipelining.CLOSING}
        for _ in range(1 if once else commands):
            await self.push(EARLY[kind])
        if once:
            await self._leave()


def _commands(octets: bytes) -> int:
    """Return the number of commands in what a client sent, without BDAT chunks."""
    count = 0
    while octets:
        line, _, octets = octets.partition(b"\r\n")
        count += 1
        size = _CHUNK.fullmatch(line[5:].decode("latin-1")) if line[:5].upper() == b"BDAT " else None
        octets = octets[int(size["size"]) :] if size else octets
    return count
