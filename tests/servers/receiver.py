"""A mail server in a process of its own: it takes what a fleet sends, and notes it before it says so.

Run as a script: ``receiver.py LOG SEED SHARE PORTS``; the first line of its output names its ports. Each
message that it has whole is one line of LOG: the time, which port, the Message-ID, the recipient. Of the
messages a *share* meets some misfortune, by seeded dice: a recipient that is deferred, a connection that is
cut before the content, after it, or once the message has been noted and nobody was told. A cut is a line with
``-`` for both.
"""

from __future__ import annotations

import asyncio
import os
import random
import re
import subprocess
import sys
import time
from collections import Counter
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self, cast

if TYPE_CHECKING:
    from typing import IO

_MESSAGE_ID = re.compile(rb"^message-id:\s*(\S+)", re.IGNORECASE | re.MULTILINE)


class _Session(asyncio.Protocol):
    """One client's conversation; commands may come in one piece."""

    def __init__(self, log: int, at: int, dice: random.Random, share: float) -> None:
        self._log = log
        self._at = at
        self._dice = dice
        self._share = share / 4
        self._buffer = b""
        self._recipient = b""
        self._in_content = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._transport.write(b"220 receiver.example ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        while not self._transport.is_closing():
            if self._in_content:
                content, end, rest = self._buffer.partition(b"\r\n.\r\n")
                if not end:
                    return
                self._buffer, self._in_content = rest, False
                self._taken(content)
                continue
            line, end, rest = self._buffer.partition(b"\r\n")
            if not end:
                return
            self._buffer = rest
            self._command(line)

    def _happens(self) -> bool:
        return self._dice.random() < self._share

    def _command(self, line: bytes) -> None:
        verb = line[:4].upper()
        if verb == b"EHLO":
            self._say(b"250-receiver.example\r\n250-PIPELINING\r\n250 8BITMIME")
        elif verb == b"RCPT":
            self._recipient = b"" if self._happens() else line.partition(b"<")[2].partition(b">")[0]
            self._say(b"250 2.1.5 ok" if self._recipient else b"451 4.2.1 the mailbox is busy")
        elif verb == b"DATA" and not self._recipient:
            self._say(b"503 5.5.1 nobody to send to")
        elif verb == b"DATA":
            if self._happens():
                self._cut()
                return
            self._in_content = True
            self._say(b"354 go on")
        elif verb == b"QUIT":
            self._say(b"221 2.0.0 bye")
            self._transport.close()
        else:
            self._say(b"250 2.0.0 ok")

    def _taken(self, content: bytes) -> None:
        if self._happens():
            self._cut()
            return
        found = _MESSAGE_ID.search(content)
        self._note(found[1] if found else b"?", self._recipient)
        self._recipient = b""
        if self._happens():
            self._cut()
        else:
            self._say(b"250 2.0.0 taken")

    def _note(self, name: bytes, recipient: bytes) -> None:
        os.write(self._log, b"%.6f %d %s %s\n" % (time.time(), self._at, name, recipient))

    def _cut(self) -> None:
        self._note(b"-", b"-")
        self._transport.abort()

    def _say(self, reply: bytes) -> None:
        self._transport.write(reply + b"\r\n")


async def _serve(log: int, dice: random.Random, share: float, ports: int) -> None:
    loop = asyncio.get_running_loop()
    servers = [
        await loop.create_server(partial(_Session, log, at, dice, share), "127.0.0.1", 0)
        for at in range(ports)
    ]
    print(*(server.sockets[0].getsockname()[1] for server in servers), flush=True)  # noqa: T201
    await loop.run_in_executor(None, sys.stdin.read)  # until whoever started it has gone


class Taken(NamedTuple):
    """One message that was taken."""

    when: float
    """Seconds since 1970."""
    at: int
    """Which of the ports."""
    message_id: str
    recipient: str


class Receiver:
    """The server's process, and what it has recorded; use it as a context manager."""

    def __init__(self, log: Path, *, seed: int = 0, share: float = 0.0, ports: int = 1) -> None:
        from servers.programs import unmeasured

        self.log = log
        self._read = self._counted = 0
        command = [sys.executable, str(Path(__file__)), str(log), str(seed), str(share), str(ports)]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=unmeasured(), text=True
        )
        said = cast("IO[str]", self._process.stdout).readline()
        self.ports = [int(port) for port in said.split()]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout):
            cast("IO[str]", stream).close()

    def count(self) -> int:
        """Return how many lines the log has by now; only what is new since the last call is read."""
        with self.log.open("rb") as log:
            log.seek(self._read)
            new = log.read()
        self._read += len(new)
        self._counted += new.count(b"\n")
        return self._counted

    def _lines(self) -> list[Taken]:
        rows = (line.split() for line in self.log.read_text("ascii").splitlines())
        return [Taken(float(when), int(at), name, recipient) for when, at, name, recipient in rows]

    def taken(self) -> list[Taken]:
        """Return what was accepted, in that order."""
        return [line for line in self._lines() if line.message_id != "-"]

    def cuts(self) -> Counter[int]:
        """Return how many connections it has cut at each port."""
        return Counter(line.at for line in self._lines() if line.message_id == "-")


def most_in_a_window(moments: list[float], seconds: float) -> int:
    """Return how many of these moments are in the fullest half-open window of that many seconds."""
    ordered, first, most = sorted(moments), 0, 0
    for last, moment in enumerate(ordered):
        while moment - ordered[first] >= seconds:
            first += 1
        most = max(most, last - first + 1)
    return most


def repeated(names: list[str]) -> list[str]:
    """Return those that occur more than once."""
    return [name for name, times in Counter(names).items() if times > 1]


if __name__ == "__main__":
    with Path(sys.argv[1]).open("ab", buffering=0) as file:
        seed, share, ports = int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4])
        asyncio.run(_serve(file.fileno(), random.Random(seed), share, ports))
