"""A9: seen from the kernel, the promise reaches the disk before the end of a message reaches the socket."""

from __future__ import annotations

import re
import subprocess
import sys
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import pytest

from reliability.bench import Bench
from reliability.moody import MoodyServer
from servers.programs import unmeasured

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

ROWS = 12
_CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<fd>\d+)<(?P<what>[^>]*)>(?P<rest>.*)\) += (?P<result>-?\d+)")
_TEXT = re.compile(r'"((?:\\x[0-9a-f]{2})*)"')
_MESSAGE_ID = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_CHUNK = re.compile(rb"BDAT (\d+) LAST\r\n")


@dataclass
class Wire:
    """What went into one socket, and at which line of the trace it was complete up to where."""

    data: bytes = b""
    ends: list[tuple[int, int]] = field(default_factory=list)

    def messages(self) -> Iterator[tuple[bytes, int]]:
        """Yield each message's Message-ID with the line of the trace at which its last octet left."""
        for end in self._ends_of_messages():
            start = max(self.data.rfind(b"MAIL FROM", 0, end), 0)
            found = _MESSAGE_ID.search(self.data, start, end)
            if found:
                yield found[1], next(line for octets, line in self.ends if octets >= end)

    def _ends_of_messages(self) -> Iterator[int]:
        for chunk in _CHUNK.finditer(self.data):
            yield chunk.end() + int(chunk[1])
        for dot in re.finditer(rb"\r\n\.\r\n", self.data):
            yield dot.end()


def _octets(text: str) -> bytes:
    return b"".join(bytes.fromhex(part.replace("\\x", "")) for part in _TEXT.findall(text))


@pytest.mark.program("strace")
@pytest.mark.parametrize(("mode", "sessions"), [("off", 1), ("overlap", 1), ("window", 1), ("window", 2)])
def test_a09_the_promise_is_on_disk_before_the_end_leaves(mode: str, sessions: int, tmp_path: Path) -> None:
    """For each message: its attempt is written, the file is flushed, and only then its last octets go."""
    trace = tmp_path / "trace"
    with MoodyServer(mode=mode) as server:
        bench = Bench(tmp_path, server, rows=ROWS)
        bench.write(send=f'pipeline = "{mode}"\nsessions = {sessions}')
        calls = "trace=pwrite64,write,fdatasync,fsync,sendmsg,sendto"
        strace = ["strace", "-f", "-y", "-xx", "-s", "70000", "-e", calls, "-o", str(trace)]
        command = [sys.executable, "-P", "-m", "mailmerge", "send", "spring", "--yes"]
        environ = {**unmeasured(bench.mailmerge.environ), "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(
            strace + command,
            cwd=tmp_path,
            env=environ,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()
        bench.check()
        assert len(server.accepted) == ROWS

    flushed, wires = _read(trace)
    seen = [pair for wire in wires for pair in wire.messages()]
    assert len({message_id for message_id, _ in seen}) == ROWS
    for message_id, line in seen:
        assert flushed.get(message_id, line) < line, f"{message_id!r} left before its promise was on disk"


@pytest.mark.program("strace")
def test_a09_a_new_ledger_is_on_disk_before_the_server_is_called(tmp_path: Path) -> None:
    """Its folder, its content and its name are flushed, in this order, before anything is sent."""
    trace = tmp_path / "trace"
    with MoodyServer() as server:
        bench = Bench(tmp_path, server)
        calls = "trace=mkdirat,renameat,fdatasync,fsync,connect,sendmsg,sendto"
        done = subprocess.run(
            [
                *("strace", "-f", "-y", "-s", "500", "-e", calls, "-o", str(trace)),
                *(sys.executable, "-P", "-m", "mailmerge", "send", "spring", "--yes"),
            ],
            cwd=tmp_path,
            env=unmeasured(bench.mailmerge.environ),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr.decode()

    draft = r"\.mailmerge-draft-[0-9a-f]+"
    steps = [
        r'mkdirat\(.*"\.mailmerge", 0700\) += 0',
        rf"fsync\(\d+<{bench.folder}>\)",
        rf"f(?:data)?sync\(\d+<{bench.folder}/\.mailmerge/{draft}/ledger\.db>\)",
        rf'renameat\(\d+<[^>]*/{draft}>, "ledger\.db", \d+<{bench.folder}/\.mailmerge>, "ledger\.db"\) += 0',
        rf"fsync\(\d+<{bench.folder}/\.mailmerge>\)",
        r"connect\(.*AF_INET",
    ]
    text, at = trace.read_text("utf-8", "replace"), 0
    for step in steps:
        found = re.compile(step).search(text, at)
        assert found, f"{step} does not follow"
        at = found.end()


def _read(trace: Path) -> tuple[dict[bytes, int], list[Wire]]:
    """Read a trace: at which line each Message-ID in the ledger's journal was flushed, and all sockets."""
    written: set[bytes] = set()
    flushed: dict[bytes, int] = {}
    wires: dict[str, Wire] = {}
    for number, text in enumerate(trace.read_text("ascii").splitlines()):
        call = _CALL.match(text)
        if call is None:
            continue
        path = _octets(f'"{call["what"]}"').decode() if "\\x" in call["what"] else call["what"]
        if path.endswith("ledger.db-wal"):
            if call["name"] in {"fdatasync", "fsync"}:
                flushed |= {message_id: number for message_id in written if message_id not in flushed}
            else:
                written |= set(re.findall(rb"<[0-9a-f]+@example\.org>", _octets(call["rest"])))
        elif call["name"].startswith("send") and int(call["result"]) > 0:
            wire = wires.setdefault(call["what"], Wire())
            wire.data += _octets(call["rest"])[: int(call["result"])]
            wire.ends.append((len(wire.data), number))
    return flushed, list(wires.values())
