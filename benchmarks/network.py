"""A line with a round-trip time: two network namespaces of our own, or a delaying proxy on the loopback.

Nothing here reaches further than this machine: the namespaces have no way out.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Iterator

SOURCES = Path(__file__).parent / "servers"


class Network(Protocol):
    """Where servers and clients live."""

    name: str
    host: str
    """The address that servers listen on."""
    shapes: bool
    """Whether the line can be given a rate, too."""

    def on_server(self) -> list[str]:
        """Return what to put before a command that serves."""
        ...

    def on_client(self) -> list[str]:
        """Return what to put before a client's command."""
        ...

    def set_line(self, rtt_ms: float, mbit: float = 0) -> None:
        """Set the line's delay and rate; 0 ms is the loopback."""
        ...

    def reach(self, port: int) -> tuple[str, int]:
        """Return where a client finds the server that listens on *port*."""
        ...


class Processes(contextlib.ExitStack):
    """Child processes that end with us."""

    def start(self, command: list[str], log: Path, **options: object) -> subprocess.Popen[bytes]:
        """Start one, its output in a file."""
        with log.open("wb") as output:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, **options
            )  # type: ignore[call-overload]
        self.callback(stop, process)
        return process


def stop(process: subprocess.Popen[bytes]) -> None:
    """End a child process."""
    process.terminate()
    try:
        process.wait(5)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def compiled(name: str, folder: Path) -> Path:
    """Compile one of our C programs."""
    program = folder / name
    source = SOURCES / f"{name}.c"
    if not program.exists() or program.stat().st_mtime < source.stat().st_mtime:
        subprocess.run(["cc", "-O2", "-o", str(program), str(source)], check=True, capture_output=True)
    return program


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


class Namespaces:
    """Two namespaces joined by a delay line: real TCP over a real round trip. Needs root and TUN."""

    name = "two network namespaces"
    host = "10.99.0.2"
    shapes = True

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._mark = f"mm{os.getpid()}"
        self._rtt = 0.0
        self._line: subprocess.Popen[bytes] | None = None
        self._program = folder / "tundelay"

    def open(self) -> None:
        """Make the namespaces; whatever goes wrong, ``close`` removes what there is."""
        compiled("tundelay", self._folder)
        for end in ("s", "c"):
            _run("ip", "netns", "add", self._mark + end)
            _run("ip", "-n", self._mark + end, "link", "set", "lo", "up")
            self._tune(self._mark + end)
        _run("ip", "-n", self._mark + "s", "addr", "add", f"{self.host}/32", "dev", "lo")

    @staticmethod
    def _tune(namespace: str) -> None:
        """Use plain congestion control: newer ones pace small messages by what they saw before."""
        for name, value in (("tcp_congestion_control", "reno"), ("tcp_no_metrics_save", "1")):
            path = f"/proc/sys/net/ipv4/{name}"
            _run("ip", "netns", "exec", namespace, "sh", "-c", f"echo {value} >{path}")

    def close(self) -> None:
        """Take everything down."""
        self._cut()
        for end in ("s", "c"):
            subprocess.run(["ip", "netns", "del", self._mark + end], check=False, capture_output=True)

    def _cut(self) -> None:
        if self._line is not None:
            stop(self._line)
            self._line = None

    def on_server(self) -> list[str]:
        """Return what to put before a command that serves."""
        return ["ip", "netns", "exec", self._mark + "s"]

    def on_client(self) -> list[str]:
        """Return what to put before a client's command: without a delay it shares the server's loopback."""
        return ["ip", "netns", "exec", self._mark + ("c" if self._rtt else "s")]

    def set_line(self, rtt_ms: float, mbit: float = 0) -> None:
        """Lay a new line."""
        self._cut()
        self._rtt = rtt_ms
        if not rtt_ms:
            return
        ours, theirs = f"{self._mark}a", f"{self._mark}b"
        log = self._folder / "line.log"
        command = [str(self._program), ours, theirs, str(round(rtt_ms * 500)), str(mbit)]
        with log.open("wb") as output:
            self._line = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)
        until = time.monotonic() + 5
        while b"ready" not in log.read_bytes():
            if time.monotonic() > until:
                raise RuntimeError(log.read_text() or "the delay line does not start")
            time.sleep(0.02)
        for device, end in ((ours, "c"), (theirs, "s")):
            _run("ip", "link", "set", device, "netns", self._mark + end)
        client, server = self._mark + "c", self._mark + "s"
        _run("ip", "-n", client, "addr", "add", "10.99.0.1/32", "peer", self.host, "dev", ours)
        for end, device in ((client, ours), (server, theirs)):
            _run("ip", "-n", end, "link", "set", device, "mtu", "1500", "txqueuelen", "20000", "up")
        _run("ip", "-n", server, "route", "replace", "10.99.0.1/32", "dev", theirs, "src", self.host)

    def reach(self, port: int) -> tuple[str, int]:
        """Return where a client finds a server."""
        return self.host, port


class Loopback:
    """The loopback, with a delaying proxy in front of each server."""

    name = "the loopback, delayed by a proxy"
    host = "127.0.0.1"
    shapes = False

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._rtt = 0.0
        self._proxies = Processes()
        self._ports: dict[int, int] = {}

    def close(self) -> None:
        """End the proxies."""
        self._proxies.close()
        self._ports.clear()

    def on_server(self) -> list[str]:
        """Return nothing: everything runs here."""
        return []

    on_client = on_server

    def set_line(self, rtt_ms: float, mbit: float = 0) -> None:
        """Use new proxies from now on."""
        if mbit:
            raise RuntimeError("a proxy cannot narrow the line")
        self.close()
        self._rtt = rtt_ms

    def reach(self, port: int) -> tuple[str, int]:
        """Return where a client finds a server, starting a proxy for it if needed."""
        if not self._rtt:
            return self.host, port
        if port not in self._ports:
            listen = self._ports[port] = free_port()
            command = [sys.executable, SOURCES / "delayproxy.py", listen, self.host, port, self._rtt]
            self._proxies.start([str(part) for part in command], self._folder / f"proxy-{port}.log")
            wait_for(lambda: listens(self.host, listen), f"the proxy for port {port}")
        return self.host, self._ports[port]


@contextlib.contextmanager
def network(folder: Path) -> Iterator[Network]:
    """Make the truest network that this machine and user allow."""
    made: Namespaces | Loopback | None = None
    if not os.geteuid() and os.access("/dev/net/tun", os.W_OK) and shutil.which("ip"):
        made = Namespaces(folder)
        try:
            made.open()
            made.set_line(1)
        except (OSError, RuntimeError, subprocess.CalledProcessError) as error:
            made.close()
            made = None
            print(f"no network namespaces: {error}", file=sys.stderr)
    made = made or Loopback(folder)
    try:
        made.set_line(0)
        yield made
    finally:
        made.close()


def listens(host: str, port: int) -> bool:
    """Return whether somebody takes connections there."""
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=1):
        return True
    return False


def wait_for(condition: object, what: str, seconds: float = 15) -> None:
    """Wait until *condition* is true.

    Raises:
        RuntimeError: it did not in time.

    """
    until = time.monotonic() + seconds
    while not condition():  # type: ignore[operator]
        if time.monotonic() > until:
            raise RuntimeError(f"{what} does not start")
        time.sleep(0.05)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
