"""A small SMTP server on loopback that misbehaves on request, and logs all it takes.

Left alone it is a sound server: greeting, EHLO, STARTTLS, AUTH, MAIL, RCPT, DATA, BDAT, RSET, NOOP, QUIT.
Faults are given by verb; the verbs ``connect``, ``content`` (the reply to the final dot) and ``BDAT`` (the
reply to the chunk marked LAST) count as well::

    with FaultServer({"RCPT": {2: say("550 5.1.1 no such user")}, "content": {3: drop}}) as server:
        ...
        assert [message.recipients for message in server.accepted] == [...]

A fault is a function of the `Peer`; it returns the reply, or does something else and returns None.
"""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    Fault = Callable[["Peer"], "bytes | None"]


class Dropped(Exception):
    """The conversation is over."""


@dataclass(frozen=True)
class Accepted:
    """One message the server answered with 250."""

    sender: bytes
    recipients: tuple[bytes, ...]
    content: bytes


@dataclass
class Peer:
    """One client, as its thread sees it."""

    server: FaultServer
    socket: socket.socket
    buffer: bytes = b""
    sender: bytes | None = None
    recipients: list[bytes] = field(default_factory=list)
    chunks: bytes = b""
    pace: float = 0.0
    """Seconds to wait before each read."""

    def send(self, data: bytes) -> None:
        """Write *data* immediately."""
        self.socket.sendall(data)

    def receive(self) -> None:
        """Wait for more bytes; `Dropped` at the end of the stream."""
        if self.pace and self.server.stopping.wait(self.pace):
            raise Dropped
        data = self.socket.recv(65536)
        if not data:
            raise Dropped
        self.buffer += data
        self.server.octets += len(data)

    def line(self) -> bytes:
        """Return the next line without its end."""
        while b"\r\n" not in self.buffer:
            self.receive()
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def exactly(self, count: int) -> bytes:
        """Return the next *count* octets."""
        while len(self.buffer) < count:
            self.receive()
        data, self.buffer = self.buffer[:count], self.buffer[count:]
        return data

    def content(self) -> bytes:
        """Return what comes before the line with a lone dot, its dots unstuffed."""
        pieces = [b"\r\n" + self.buffer]
        self.buffer = b""
        while b"\r\n.\r\n" not in b"".join(pieces[-2:]):
            self.receive()
            pieces.append(self.buffer)
            self.buffer = b""
            if len(pieces[-1]) < 5:
                pieces[-2:] = [b"".join(pieces[-2:])]
        text, _, self.buffer = b"".join(pieces).partition(b"\r\n.\r\n")
        return (text + b"\r\n").replace(b"\r\n.", b"\r\n")[2:]

    def reset(self) -> None:
        """Forget the transaction."""
        self.sender, self.recipients, self.chunks = None, [], b""


# --- faults --------------------------------------------------------------------------------------------


def say(*replies: str | bytes) -> Fault:
    """Answer with these lines instead."""
    data = b"".join((r.encode() if isinstance(r, str) else r) + b"\r\n" for r in replies)
    return lambda _: data


def raw(data: bytes) -> Fault:
    """Answer with exactly these bytes."""
    return lambda _: data


def say_and_drop(reply: str) -> Fault:
    """Answer and close."""

    def fault(peer: Peer) -> None:
        peer.send(reply.encode() + b"\r\n")
        raise Dropped

    return fault


def drop(peer: Peer) -> None:
    """Close without a word."""
    raise Dropped


def abort(peer: Peer) -> None:
    """Send a RST."""
    peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    raise Dropped


def hang(peer: Peer) -> None:
    """Send nothing until the client goes."""
    with contextlib.suppress(Dropped, OSError):
        while True:
            peer.receive()
    raise Dropped


def trickle(reply: str, pause: float) -> Fault:
    """Answer one octet at a time, *pause* seconds apart."""

    def fault(peer: Peer) -> None:
        for octet in reply.encode() + b"\r\n":
            peer.send(bytes([octet]))
            if peer.server.stopping.wait(pause):
                raise Dropped

    return fault


def endless(line: bytes) -> Fault:
    """Repeat *line* until the client goes."""

    def fault(peer: Peer) -> None:
        with contextlib.suppress(OSError):
            while not peer.server.stopping.is_set():
                peer.send(line)
        raise Dropped

    return fault


def slowly(reply: str, pace: float) -> Fault:
    """Answer, then wait *pace* seconds before each read."""

    def fault(peer: Peer) -> bytes:
        peer.pace = pace
        return reply.encode() + b"\r\n"

    return fault


def after(seconds: float, then: Fault) -> Fault:
    """Wait, then do *then*."""

    def fault(peer: Peer) -> bytes | None:
        if peer.server.stopping.wait(seconds):
            raise Dropped
        return then(peer)

    return fault


# --- the server ----------------------------------------------------------------------------------------


class FaultServer:
    """Listens on a free loopback port while it is used as a context manager.

    Args:
        faults: by verb, either one fault for every time or a mapping from the time (1, 2 ..) to a fault.
        extensions: EHLO keywords besides STARTTLS.
        tls: certificate for STARTTLS, or with *implicit* for implicit TLS.
        users: names with their secrets, for AUTH.
        discards: False: like some servers, takes the chunk of a refused BDAT for commands.
        port: where to listen; 0: on a free port.

    """

    def __init__(
        self,
        faults: Mapping[str, Fault | Mapping[int, Fault]] | None = None,
        *,
        extensions: tuple[str, ...] = ("PIPELINING", "SIZE 1000000", "8BITMIME"),
        tls: ssl.SSLContext | None = None,
        implicit: bool = False,
        users: Mapping[str, str] | None = None,
        discards: bool = True,
        port: int = 0,
    ) -> None:
        self.faults = dict(faults or {})
        self.extensions = extensions
        self.tls = tls
        self.implicit = implicit
        self.users = dict(users or {})
        self.discards = discards
        self.accepted: list[Accepted] = []
        self.commands: list[bytes] = []
        """Every command line, of all clients."""
        self.octets = 0
        """Octets received, of all clients (after decryption)."""
        self.stopping = threading.Event()
        self.failures: list[BaseException] = []
        self.seen: Counter[str] = Counter()
        """How often each verb was answered, `connect` and `content` included."""
        self.peers: list[socket.socket] = []
        """Every client's socket; TLS adds a second one for the same client."""
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._start(self._listen)
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self.stop_listening()
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
        if self.failures:
            raise self.failures[0]

    def stop_listening(self) -> None:
        """Accept no more connections; existing ones continue."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def read_little(self) -> None:
        """Keep the receive buffer of later clients small, so that a slow reader is felt."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8192)

    def verbs(self) -> list[str]:
        """Return the verbs received so far."""
        return [command.split(b" ")[0].split(b":")[0].decode("ascii", "replace") for command in self.commands]

    def wait_for(self, condition: Callable[[], bool], seconds: float = 2.0) -> bool:
        """Wait until *condition* is true."""
        until = time.monotonic() + seconds
        while not condition() and time.monotonic() < until:
            time.sleep(0.002)
        return condition()

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _listen(self) -> None:
        while not self.stopping.is_set():
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.peers.append(client)
            self._start(self._serve, client)

    def _serve(self, client: socket.socket) -> None:
        peer = Peer(self, client)
        try:
            if self.tls and self.implicit:
                self._secure(peer)
            self._answer(peer, "connect", b"220 faultd ESMTP\r\n")
            while not self.stopping.is_set():
                line = peer.line()
                self.commands.append(line)
                self._obey(peer, line)
        except (Dropped, OSError):
            pass
        except BaseException as error:  # noqa: BLE001  shown by the test that used the server
            self.failures.append(error)
        finally:
            peer.socket.close()

    def _secure(self, peer: Peer) -> None:
        if self.tls is None:
            raise RuntimeError("no certificate")
        peer.socket = self.tls.wrap_socket(peer.socket, server_side=True)
        self.peers.append(peer.socket)

    def _answer(self, peer: Peer, verb: str, usual: bytes) -> bytes:
        """Send the usual reply, or let the fault have its way; return what was said."""
        reply = self._reply(peer, verb, usual)
        if reply:
            peer.send(reply)
        return reply

    def _reply(self, peer: Peer, verb: str, usual: bytes) -> bytes:
        """Return what is to be said: the usual reply, or what the fault makes of it."""
        self.seen[verb] += 1
        fault = self.faults.get(verb)
        if fault is not None and not callable(fault):
            fault = fault.get(self.seen[verb])
        return (fault(peer) if fault else usual) or b""

    def _obey(self, peer: Peer, line: bytes) -> None:
        verb = line.split(b" ")[0].upper().decode("ascii", "replace")
        handler = getattr(self, f"_do_{verb.lower()}", None)
        if handler is None:
            self._answer(peer, verb, b"500 5.5.2 unknown command\r\n")
        else:
            handler(peer, line)

    # --- commands -------------------------------------------------------------------------------------

    def _do_ehlo(self, peer: Peer, line: bytes) -> None:
        peer.reset()
        offers = list(self.extensions)
        secure = hasattr(peer.socket, "context")
        if self.tls and not secure:
            offers.append("STARTTLS")
        if self.users and (secure or not self.tls):
            offers.append("AUTH PLAIN LOGIN")
        lines = ["faultd", *offers]
        reply = "".join(f"250{'-' if i < len(lines) - 1 else ' '}{text}\r\n" for i, text in enumerate(lines))
        self._answer(peer, "EHLO", reply.encode())

    def _do_starttls(self, peer: Peer, line: bytes) -> None:
        if self._answer(peer, "STARTTLS", b"220 2.0.0 go ahead\r\n").startswith(b"220") and self.tls:
            self._secure(peer)

    def _do_auth(self, peer: Peer, line: bytes) -> None:
        blob = base64.b64decode(line.split()[2]) if len(line.split()) == 3 else b""
        user, _, secret = blob[1:].decode().partition("\0")
        good = self.users.get(user) == secret
        self._answer(peer, "AUTH", b"235 2.7.0 welcome\r\n" if good else b"535 5.7.8 wrong\r\n")

    def _do_mail(self, peer: Peer, line: bytes) -> None:
        reply = self._answer(
            peer, "MAIL", b"250 2.1.0 sender ok\r\n" if peer.sender is None else b"503 5.5.1 again?\r\n"
        )
        if reply.startswith(b"250"):
            peer.sender = _path(line)

    def _do_rcpt(self, peer: Peer, line: bytes) -> None:
        usual = b"250 2.1.5 recipient ok\r\n" if peer.sender is not None else b"503 5.5.1 MAIL first\r\n"
        if self._answer(peer, "RCPT", usual).startswith(b"250"):
            peer.recipients.append(_path(line))

    def _do_data(self, peer: Peer, line: bytes) -> None:
        usual = b"354 go ahead\r\n" if peer.recipients else b"503 5.5.1 no valid recipients\r\n"
        if not self._answer(peer, "DATA", usual).startswith(b"354"):
            return
        self._take(peer, "content", peer.content())

    def _do_bdat(self, peer: Peer, line: bytes) -> None:
        if not peer.recipients and not self.discards:
            self._answer(peer, "BDAT", b"503 5.5.1 no recipients\r\n")
            return
        peer.chunks += peer.exactly(int(line.split()[1]))
        if line.upper().endswith(b" LAST"):
            self._take(peer, "BDAT", peer.chunks)

    def _take(self, peer: Peer, verb: str, content: bytes) -> None:
        usual = b"250 2.0.0 queued as 1\r\n" if peer.recipients else b"503 5.5.1 no recipients\r\n"
        message = Accepted(peer.sender or b"", tuple(peer.recipients), content)
        peer.reset()
        reply = self._reply(peer, verb, usual)
        # Recorded before the reply leaves: a client that has read it may look immediately.
        if reply.startswith(b"250"):
            self.accepted.append(message)
        if reply:
            peer.send(reply)

    def _do_rset(self, peer: Peer, line: bytes) -> None:
        peer.reset()
        self._answer(peer, "RSET", b"250 2.0.0 forgotten\r\n")

    def _do_noop(self, peer: Peer, line: bytes) -> None:
        self._answer(peer, "NOOP", b"250 2.0.0 still here\r\n")

    def _do_quit(self, peer: Peer, line: bytes) -> None:
        self._answer(peer, "QUIT", b"221 2.0.0 bye\r\n")
        raise Dropped


def _path(line: bytes) -> bytes:
    return line.partition(b"<")[2].partition(b">")[0]
