"""The live preview: detects changes of a campaign's files, and serves the new page to this machine.

The server listens on loopback addresses only, answers only requests whose Host is such an address (against
DNS rebinding), and only under a random path. Requests cannot cause anything: all methods but GET and HEAD are
refused, and nothing here can send.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import socket
import threading
from functools import partial
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, BinaryIO, Self

from mailmerge.file_system import stamp_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

MOST_CONNECTIONS = 24
"""Most simultaneous connections; each open page keeps one."""
_REQUEST_SECONDS = 10.0
_BEAT_SECONDS = 15.0
_NONE: Mapping[str, str] = MappingProxyType({})
_HEADERS = {
    "Cache-Control": "no-store",
    "Content-Security-Policy": "frame-ancestors 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


class PreviewServer:
    """Serves the file *page*; call `changed` after it was rewritten. Use it as a context manager.

    Args:
        page: the HTML file.
        port: the port to listen on; 0: any free port.

    Raises:
        OSError: the port is taken.

    """

    def __init__(self, page: Path, *, port: int = 0) -> None:
        self._page = page
        self._token = secrets.token_urlsafe(24)
        self._session = secrets.token_urlsafe(24)
        self._ticket: str | None = None
        """One-time path that opens the page in a browser that we start."""
        self._news = _News()
        self._servers = [_PageServer("127.0.0.1", port, self)]
        self.port = self._servers[0].server_port
        with contextlib.suppress(OSError):  # no IPv6 here, or the port is taken there
            self._servers.append(_PageServer("::1", self.port, self))
        self._threads = [
            threading.Thread(target=partial(server.serve_forever, poll_interval=0.05), daemon=True)
            for server in self._servers
        ]

    @property
    def url(self) -> str:
        """The URL of the page."""
        return f"http://127.0.0.1:{self.port}/{self._token}/"

    def ticket_page(self) -> bytes:
        """Return a page that redirects a browser to the preview, once.

        A list of this machine's processes shows a browser's arguments: they contain the name of a private
        file with this page, not an address that opens the preview.
        """
        self._ticket = secrets.token_urlsafe(24)
        address = f"http://127.0.0.1:{self.port}/start/{self._ticket}"
        return (
            '<!doctype html><meta charset="utf-8"><meta name="referrer" content="no-referrer">'
            f'<meta http-equiv="refresh" content="0;url={address}"><title>Preview</title>'
        ).encode()

    def admit(self, path: str) -> str | None:
        """Redeem the ticket, and return the cookie that replaces it from now on; None: it is another path."""
        ticket, given = self._ticket, path.removeprefix("/start/")
        if ticket is None or given == path or not _same(given, ticket):
            return None
        self._ticket = None
        return f"{self._cookie_name}={self._session}; HttpOnly; SameSite=Lax; Path=/"

    @property
    def _cookie_name(self) -> str:
        return f"mailmerge-{self.port}"  # cookies ignore ports

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._news.close()
        for server in self._servers:
            server.shutdown()
            server.server_close()

    def changed(self) -> None:
        """Notify every open page that a newer one exists."""
        self._news.publish()

    def knows_host(self, host: str) -> bool:
        """Return whether a Host header names this server by a loopback address."""
        return host.lower() in {f"{name}:{self.port}" for name in ("127.0.0.1", "localhost", "[::1]")}

    def knows_origin(self, origin: str | None) -> bool:
        """Return whether a request comes from our own page, or from no page at all."""
        return origin is None or (origin.startswith("http://") and self.knows_host(origin[len("http://") :]))

    def resource(self, path: str, cookies: str = "") -> str | None:
        """Return what is requested under the secret path or with the cookie; None: neither is there."""
        if path in {"/", "/events"}:
            pairs = (pair.strip().partition("=") for pair in cookies.split(";"))
            admitted = any(
                name == self._cookie_name and _same(text, self._session) for name, _, text in pairs
            )
            return path[1:] if admitted else None
        token, _, name = path.lstrip("/").partition("?")[0].partition("/")
        known = _same(token, self._token)
        return name if known and path.startswith("/") and "/" in path[1:] else None

    def open_page(self) -> BinaryIO:
        """Open the current page."""
        return self._page.open("rb")

    def news(self) -> _News:
        """Return the counter that open pages wait on."""
        return self._news


def _same(given: str, secret: str) -> bool:
    return hmac.compare_digest(given.encode("utf-8", "replace"), secret.encode())


class _News:
    """A counter that open pages wait on."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self.version = 0
        self.closed = False

    def publish(self) -> None:
        with self._condition:
            self.version += 1
            self._condition.notify_all()

    def close(self) -> None:
        with self._condition:
            self.closed = True
            self._condition.notify_all()

    def wait(self, seen: int, seconds: float) -> int | None:
        """Wait until the counter exceeds *seen*, at most *seconds*; None: the server is closing."""
        with self._condition:
            self._condition.wait_for(lambda: self.closed or self.version != seen, seconds)
            return None if self.closed else self.version


class _PageServer(ThreadingHTTPServer):
    """One listening socket, with one thread per connection, at most `MOST_CONNECTIONS`."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 16

    def __init__(self, address: str, port: int, preview: PreviewServer) -> None:
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self.preview = preview
        self._free = threading.BoundedSemaphore(MOST_CONNECTIONS)
        super().__init__((address, port), _PageHandler)

    def server_bind(self) -> None:
        """Bind without asking the resolver for a name."""
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: object, client_address: object) -> None:
        """Answer in a separate thread; a connection beyond the limit is closed immediately."""
        assert isinstance(request, socket.socket)
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: object, client_address: object) -> None:
        """Release the connection's slot when its thread ends."""
        assert isinstance(request, socket.socket)
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: object, client_address: object) -> None:
        """Ignore browsers that disconnected."""


class _PageHandler(BaseHTTPRequestHandler):
    server: _PageServer
    server_version = "mailmerge"
    sys_version = ""
    timeout = _REQUEST_SECONDS

    def do_GET(self) -> None:
        """Answer with the page, or with the event stream."""
        preview = self.server.preview
        name = preview.resource(self.path, self.headers.get("Cookie", ""))
        if not preview.knows_host(self.headers.get("Host", "")):
            self._refuse(HTTPStatus.MISDIRECTED_REQUEST)
        elif not preview.knows_origin(self.headers.get("Origin")):
            self._refuse(HTTPStatus.FORBIDDEN)
        elif self.command == "GET" and (cookie := preview.admit(self.path)):
            self._admit(cookie)
        elif name == "":
            self._send_page()
        elif name == "events" and self.command == "GET":
            self._send_events()
        else:
            self._refuse(HTTPStatus.NOT_FOUND)

    do_HEAD = do_GET  # noqa: N815  the base class looks for this name

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse every other method, and anything that is not a request, without repeating any of it."""
        del message, explain
        if code == HTTPStatus.NOT_IMPLEMENTED:
            known = self.server.preview.knows_host(self.headers.get("Host", ""))
            code = HTTPStatus.METHOD_NOT_ALLOWED if known else HTTPStatus.MISDIRECTED_REQUEST
        self._refuse(HTTPStatus(code))

    def _admit(self, cookie: str) -> None:
        self._head(
            HTTPStatus.SEE_OTHER, "text/plain; charset=utf-8", 0, {"Location": "/", "Set-Cookie": cookie}
        )

    def _send_page(self) -> None:
        with self.server.preview.open_page() as page:
            size = page.seek(0, 2)
            page.seek(0)
            self._head(HTTPStatus.OK, "text/html; charset=utf-8", size)
            if self.command == "GET":
                while data := page.read(1 << 18):
                    self.wfile.write(data)

    def _send_events(self) -> None:
        news = self.server.preview.news()
        seen = news.version
        self._head(HTTPStatus.OK, "text/event-stream; charset=utf-8")
        self.wfile.write(b"retry: 1000\nevent: ready\ndata:\n\n")
        while (version := news.wait(seen, _BEAT_SECONDS)) is not None:
            self.wfile.write(b": beat\n\n" if version == seen else b"event: changed\ndata:\n\n")
            seen = version

    def _refuse(self, status: HTTPStatus) -> None:
        text = f"{status.value} {status.phrase}\n".encode()
        self._head(status, "text/plain; charset=utf-8", len(text))
        if self.command != "HEAD":
            self.wfile.write(text)

    def _head(
        self, status: HTTPStatus, kind: str, size: int | None = None, more: Mapping[str, str] = _NONE
    ) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        if size is not None:
            self.send_header("Content-Length", str(size))
        if status is HTTPStatus.METHOD_NOT_ALLOWED:
            self.send_header("Allow", "GET, HEAD")
        for name, value in {**_HEADERS, **more}.items():
            self.send_header(name, value)
        self.end_headers()
        self.close_connection = True

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  the base class names it
        """Write no log: the path is a secret."""


# --- what changed --------------------------------------------------------------------------------------

FileStates = dict[Path, tuple[int, int, int]]
"""Of each file: modification time, size and inode."""

MOST_FILES = 2_000
_NOT_TEMPLATES = frozenset({"out", "node_modules", "__pycache__"})


def file_states(files: Iterable[Path], folders: Iterable[Path]) -> FileStates:
    """Return the states of *files*, and of the files in *folders*, except hidden files and our own output."""
    paths = list(files)
    for folder in folders:
        paths += islice(_inside(folder), MOST_FILES)
    return {path: facts for path in paths if (facts := _facts(path)) is not None}


def _inside(folder: Path) -> Iterator[Path]:
    for where, folders, names in os.walk(folder):
        folders[:] = sorted(name for name in folders if name[0] != "." and name not in _NOT_TEMPLATES)
        yield from (Path(where, name) for name in sorted(names) if name[0] not in ".~")


def _facts(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return stamp_of(found)
