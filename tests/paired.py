"""A scripted server at the other end of the real session, without sockets, in virtual time.

What a refusal or a lost connection means for the messages in flight is the session's business, so it is the
real one; scripted is only what a server says, and when it hangs up. Message number *n* comes from
``me+n@example.org``, so that a server can refuse it as early as at MAIL.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from dialogues import Talk
from mailmerge.errors import ConnectionLost

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable, Iterator

    from mailmerge.clock import VirtualClock
    from mailmerge.errors import SessionError
    from mailmerge.model import Message
    from mailmerge.smtp.deadlines import Wait
    from mailmerge.smtp.state import Event

Step = Literal["MAIL", "RCPT", "DATA", "content"]
Mode = Literal["off", "overlap", "window"]

_ROW = re.compile(rb"\+(\d+)@")


class HungUp(Exception):
    """The server closed the connection."""


@dataclass(frozen=True)
class Fate:
    """What the server does to one attempt at a message."""

    step: Step
    """``content`` is the answer to the whole message."""
    reply: str = ""
    """What it says; nothing: it stays silent."""
    hangs_up: bool = False
    """It closes the connection, after what it says if that is something."""


@dataclass
class ScriptedServer:
    """What the server does, and what it saw; it serves one connection after another."""

    clock: VirtualClock
    released: Callable[[set[int]], None] = lambda _rows: None
    """Is told which rows' ends are about to leave."""
    mode: Mode = "off"
    fates: dict[int, list[Fate]] = field(default_factory=dict)
    """Row to fates, one an attempt; whoever is not named is accepted."""
    opening: list[SessionError | None] = field(default_factory=list)
    """What each connection attempt meets; later ones succeed."""
    reachable: Callable[[], bool] = lambda: True
    alive: bool = True
    """What the next probe finds out."""
    connections: int = 0
    opened: int = 0
    probes: int = 0
    closed: int = 0
    begun: list[int] = field(default_factory=list)
    """Rows in the order in which they were submitted ..."""
    times: list[float] = field(default_factory=list)
    """... when ..."""
    on_connection: list[int] = field(default_factory=list)
    """... and on which connection."""
    accepted: list[bytes] = field(default_factory=list)
    """Contents that were answered with 250."""
    answered: list[int] = field(default_factory=list)
    """Rows whose content got any answer."""

    def connect(self) -> PairedConnection:
        """Make a connection, not yet opened."""
        self.connections += 1
        return PairedConnection(self, self.connections)

    def fate(self, row: int) -> Fate | None:
        """Return what is to become of the next attempt at a row."""
        fates = self.fates.get(row)
        return fates.pop(0) if fates else None


class PairedConnection:
    """The real session, its octets carried to the server and back whenever it is polled."""

    wants_write = False
    max_size = None

    def __init__(self, server: ScriptedServer, number: int) -> None:
        self._server = server
        self._number = number
        self.id = f"c{number}"
        self._talk = Talk(pipeline=server.mode)
        self._peer = _Peer(server)
        self._rows: dict[int, int] = {}
        self._readable, self._writable = os.pipe()  # something to wait for, always ready
        os.write(self._writable, b"x")

    @property
    def mode(self) -> str:
        """Return how messages are handed over now."""
        return self._talk.session.mode

    @property
    def in_flight(self) -> int:
        """Messages submitted and not completed."""
        return self._talk.session.in_flight

    def opening(self) -> Iterator[Wait]:
        """Greet, or fail as the script has it."""
        yield from ()
        server = self._server
        error = server.opening.pop(0) if server.opening else None
        if error is None and not server.reachable():
            error = ConnectionLost("no route")
        if error:
            raise error
        self._talk.says(b"220 server.example ready\r\n")
        self._carry()
        server.opened += 1

    def can_accept(self, _interval: float = 0.0) -> bool:
        """Whether another message may be submitted now."""
        return self._talk.session.can_accept()

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand a message over."""
        server = self._server
        server.begun.append(message.row)
        server.times.append(server.clock.monotonic())
        server.on_connection.append(self._number)
        self._rows[token] = message.row
        self._talk.session.submit(message, token)

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages leave."""
        tokens = list(tokens)
        assert tokens
        self._server.released({self._rows[token] for token in tokens})
        self._talk.session.release(tokens)

    def poll(self, timeout: float) -> list[Event]:
        """Carry what is there; if nothing happens, *timeout* seconds pass."""
        self._carry()
        if not self._talk.events:
            self._server.clock.sleep(timeout)
        return self._events()

    def probing(self) -> Generator[Wait, None, bool]:
        """Ask whether the server is still there."""
        yield from ()
        server = self._server
        server.probes += 1
        alive, server.alive = server.alive, True
        if alive:
            self._talk.session.noop()
            self._carry()
        else:
            self._talk.loses()
        return alive

    def fileno(self) -> int:
        """Return what a selector finds ready immediately."""
        return self._readable

    def abort(self) -> list[Event]:
        """Cut the connection; return the outcomes of what was in flight."""
        self._end()
        self._talk.loses()
        return self._events()

    def close(self, *, within: float = 0.0) -> list[Event]:
        """End the session."""
        self._end()
        return self._events()

    def _end(self) -> None:
        self._server.closed += 1
        os.close(self._readable)
        os.close(self._writable)

    def _events(self) -> list[Event]:
        events, self._talk.events = self._talk.events, []
        return events

    def _carry(self) -> None:
        try:
            while octets := self._talk.heard():
                for said in self._peer.hears(octets):
                    self._talk.says(said)
        except HungUp:
            self._talk.loses()


class _Peer:
    """The server's side of one connection: enough SMTP for sound clients, and the script's faults."""

    def __init__(self, server: ScriptedServer) -> None:
        self._server = server
        self._buffer = b""
        self._row = 0
        self._fate: Fate | None = None
        self._sender = False
        self._recipient = False
        self._in_content = False
        """Whether what comes next is a content, up to the dot."""
        self._hanging_up = False

    def hears(self, octets: bytes) -> Iterator[bytes]:
        """Take what came in, and yield what the server says to it."""
        self._buffer += octets
        while (answer := self._next()) is not None:
            if answer:
                yield answer.encode() + b"\r\n"
            if self._hanging_up:
                raise HungUp

    def _next(self) -> str | None:
        """Answer the next command or content; None: it is not there yet."""
        before, found, after = self._buffer.partition(b"\r\n.\r\n" if self._in_content else b"\r\n")
        if not found:
            return None
        if self._in_content:
            self._in_content, self._buffer = False, after
            return self._take(before + b"\r\n")
        if before.startswith(b"BDAT "):
            size = int(before.split()[1])
            if len(after) < size:
                return None
            self._buffer = after[size:]
            return self._take(after[:size]) if self._recipient else "503 5.5.1 no recipients"
        self._buffer = after
        return self._command(before)

    def _command(self, line: bytes) -> str:
        match line[:4]:
            case b"EHLO":
                more = {
                    "off": "",
                    "overlap": "-PIPELINING\r\n250",
                    "window": "-PIPELINING\r\n250-CHUNKING\r\n250",
                }
                return f"250-server.example\r\n250{more[self._server.mode]} 8BITMIME"
            case b"MAIL":
                return self._begin(line)
            case b"RCPT":
                if not self._sender:
                    return "503 5.5.1 MAIL first"
                self._fate = self._server.fate(self._row)
                answer = self._answer("RCPT", "250 2.1.5 ok")
                self._recipient = answer.startswith("250")
                return answer
            case b"DATA":
                answer = (
                    self._answer("DATA", "354 go ahead") if self._recipient else "503 5.5.1 no recipients"
                )
                self._in_content = answer.startswith("354")
                return answer
            case b"RSET":
                self._forget()
        return "250 2.0.0 ok"

    def _begin(self, line: bytes) -> str:
        self._forget()
        row = _ROW.search(line)
        self._row = int(row[1]) if row else 0
        fates = self._server.fates.get(self._row)
        if fates and fates[0].step == "MAIL":
            self._fate = fates.pop(0)
        answer = self._answer("MAIL", "250 2.1.0 ok")
        self._sender = answer.startswith("250")
        return answer

    def _take(self, content: bytes) -> str:
        """Answer a whole content."""
        answer = self._answer("content", "250 2.0.0 queued")
        if answer:
            self._server.answered.append(self._row)
        if answer.startswith("250"):
            self._server.accepted.append(content)
        self._forget()
        return answer

    def _answer(self, step: Step, usual: str) -> str:
        fate = self._fate
        if fate is None or fate.step != step:
            return usual
        self._fate = None
        self._hanging_up = fate.hangs_up
        return fate.reply

    def _forget(self) -> None:
        self._sender = self._recipient = False
        self._fate = None
