"""Servers with TLS, sign-in and odd manners of speech, and what a run told its user."""

from __future__ import annotations

import base64
import re
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from typing import TYPE_CHECKING

from msgspec.structs import replace

from faultd import Accepted, Dropped
from mailmerge.cli.report_view import show_report
from mailmerge.smtp.connection import Deadlines
from reliability.moody import MoodyServer

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Mapping

    from faultd import Fault, Peer
    from mailmerge.campaign.results import Report

PATIENCE = Deadlines(**dict.fromkeys(Deadlines.__struct_fields__, 10.0))
USER, SECRET = "ann@example.org", "s3cret-Pass word"


def impatient(*phases: str, seconds: float = 0.15) -> Deadlines:
    """Return short deadlines for *phases* only, so that a busy machine fails no other."""
    return replace(PATIENCE, **dict.fromkeys(phases, seconds))


def server_with(
    faults: Mapping[str, Fault | Mapping[int, Fault]] | None = None,
    *,
    kind: type[MoodyServer] = MoodyServer,
    mode: str = "overlap",
    extensions: tuple[str, ...] | None = None,
    tls: ssl.SSLContext | None = None,
    implicit: bool = False,
    users: Mapping[str, str] | None = None,
) -> MoodyServer:
    """Make a server that may have TLS, sign-in and extensions of its own."""
    server = kind(faults, mode=mode)
    server.tls, server.implicit = tls, implicit
    server.users = dict(users or {})
    if extensions is not None:
        server.extensions = extensions
    return server


def told(report: Report) -> str:
    """Return all that the command line would show of a report."""
    shown = StringIO()
    with redirect_stdout(shown), redirect_stderr(shown):
        show_report(report)
    return shown.getvalue()


def only_first(fault: Fault) -> dict[int, Fault]:
    """Strike once."""
    return {1: fault}


class Caps:
    """A fault for MAIL: each connection takes so many messages, then it is told to come again."""

    def __init__(self, most: int, refuse: Fault) -> None:
        self._most = most
        self._refuse = refuse

    def __call__(self, peer: Peer) -> bytes | None:
        """Count by connection."""
        count = vars(peer)["mails"] = vars(peer).get("mails", 0) + 1
        return self._refuse(peer) if count > self._most else b"250 2.1.0 sender ok\r\n"


class Chopped(MoodyServer):
    """Sends everything one octet per segment."""

    def _answer(self, peer: Peer, verb: str, usual: bytes) -> bytes:
        say, peer.send = peer.send, lambda data: [say(data[i : i + 1]) for i in range(len(data))]  # type: ignore[assignment, method-assign]
        try:
            return super()._answer(peer, verb, usual)
        finally:
            peer.send = say  # type: ignore[method-assign]


class Glued(MoodyServer):
    """Sends nothing before it has read everything available, then sends everything together."""

    def _serve(self, client: object) -> None:
        super()._serve(_Hoarding(client))  # type: ignore[arg-type]


class _Hoarding:
    """A socket that keeps back what is sent until somebody waits for more."""

    def __init__(self, socket: object) -> None:
        self._socket = socket
        self._held = b""

    def sendall(self, data: bytes) -> None:
        self._held += data

    def recv(self, size: int) -> bytes:
        self._let_go()
        data: bytes = self._socket.recv(size)  # type: ignore[attr-defined]
        return data

    def close(self) -> None:
        self._let_go()
        self._socket.close()  # type: ignore[attr-defined]

    def _let_go(self) -> None:
        held, self._held = self._held, b""
        self._socket.sendall(held)  # type: ignore[attr-defined]


class Lax(MoodyServer):
    """Takes any kind of line end around a dot for the end of a message, as some servers did."""

    _END = re.compile(rb"(?:\r\n|\n|\r)\.(?:\r\n|\n|\r)")

    def _do_data(self, peer: Peer, line: bytes) -> None:
        if not self._answer(peer, "DATA", b"354 go ahead\r\n").startswith(b"354"):
            return
        while not (end := self._END.search(peer.buffer)):
            peer.receive()
        content, peer.buffer = peer.buffer[: end.start()] + b"\r\n", peer.buffer[end.end() :]
        self._take(peer, "content", content)


class Bearer(MoodyServer):
    """Signs in by XOAUTH2; which tokens are good may change at any time."""

    good: tuple[str, ...] = ()

    def __init__(self, faults: Mapping[str, Fault] | None = None, *, mode: str = "overlap") -> None:
        super().__init__(faults, mode=mode)
        self.extensions = ("PIPELINING", "AUTH XOAUTH2")
        self.dialogue: list[str] = []
        """Each token that was shown, and each answer to a challenge."""

    def _do_auth(self, peer: Peer, line: bytes) -> None:
        blob = base64.b64decode(line.split()[2]).decode()
        token = blob.partition("auth=Bearer ")[2].rstrip("\1")
        self.dialogue.append(token)
        if token in self.good:
            peer.send(b"235 2.7.0 welcome\r\n")
            return
        peer.send(b"334 " + base64.b64encode(b'{"status":"401","schemes":"bearer"}') + b"\r\n")
        self.dialogue.append(f"answer {peer.line().decode()!r}")
        peer.send(b"535 5.7.8 Username and Password not accepted\r\n")


def close_after(count: int) -> Callable[[MoodyServer], Fault]:
    """Make a fault for ``taken``: the *count*-th message is confirmed, then the session is over."""

    def make(server: MoodyServer) -> Fault:
        def fault(peer: Peer) -> bytes | None:
            if len(server.accepted) != count:
                return b"250 2.0.0 taken\r\n"
            peer.send(b"250 2.0.0 taken\r\n421 4.3.2 session is over\r\n")
            raise Dropped

        return fault

    return make


def bodies(taken: list[Accepted]) -> list[str]:
    """Return the texts of the messages, as a mail program shows them."""
    from servers.mail import Received

    messages = (Received("", (), one.content).parse() for one in taken)
    return [message.get_content() for message in messages]
