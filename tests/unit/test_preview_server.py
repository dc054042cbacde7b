"""The server behind ``preview --watch``: to whom it answers, and what it refuses."""

from __future__ import annotations

import http.client
import re
import socket
import threading
from typing import TYPE_CHECKING

import pytest

from mailmerge.preview import live as preview_server
from mailmerge.preview.live import PreviewServer, file_states

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    page = tmp_path_factory.mktemp("server") / "preview.html"
    page.write_bytes(b"<p>the page</p>")
    with PreviewServer(page) as running:
        yield running


def path_of(server: PreviewServer) -> str:
    return "/" + server.url.split("/", 3)[3]


def ask(
    server: PreviewServer, method: str = "GET", path: str | None = None, **headers: str
) -> tuple[int, bytes, dict[str, str]]:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(method, path_of(server) if path is None else path, headers=names)
    response = connection.getresponse()
    answer = response.status, response.read(), dict(response.getheaders())
    connection.close()
    return answer


def test_gives_the_page_under_its_secret_path(server):
    """The page is there under the token, with headers that keep it to itself and no word of CORS."""
    status, body, headers = ask(server)

    assert (status, body) == (200, b"<p>the page</p>")
    assert headers["Content-Type"] == "text/html; charset=utf-8"
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert headers["Referrer-Policy"] == "no-referrer"
    assert headers["Cache-Control"] == "no-store"
    assert headers["Content-Security-Policy"] == "frame-ancestors 'none'"
    assert not [name for name in headers if name.lower().startswith("access-control")]
    assert ask(server, "HEAD")[:2] == (200, b"")


@pytest.mark.parametrize(
    "path", ["/", "/preview.html", "/wrong/", "/wrong/events", "//", "/../", "/%00/", "*"]
)
def test_a_guessed_path_finds_nothing(server, path):
    """Without the token there is nothing, whatever is asked for."""
    status, body, _ = ask(server, path=path)

    assert status == 404
    assert b"the page" not in body


def test_the_token_alone_opens_nothing_else(server):
    """Under the token there are the page and its news, and no file of the disk."""
    assert ask(server, path=path_of(server) + "preview.html")[0] == 404
    assert ask(server, path=path_of(server) + "../preview.html")[0] == 404
    assert ask(server, path=path_of(server).rstrip("/"))[0] == 404


@pytest.mark.parametrize(
    "host", ["evil.test", "evil.test:{port}", "127.0.0.1", "127.0.0.1:1", "", "localhost.evil.test:{port}"]
)
@pytest.mark.parametrize("method", ["GET", "POST"])
def test_another_host_name_is_misdirected(server, method, host):
    """A name that was pointed here, as DNS rebinding does, is answered with 421 even with the right path."""
    status, body, _ = ask(server, method, Host=host.format(port=server.port))

    assert status == 421
    assert b"the page" not in body


@pytest.mark.parametrize("host", ["127.0.0.1:{port}", "localhost:{port}", "LOCALHOST:{port}", "[::1]:{port}"])
def test_loopback_names_are_known(server, host):
    """This machine may be called by any of its loopback names."""
    assert ask(server, Host=host.format(port=server.port))[0] == 200


@pytest.mark.parametrize(
    "origin", ["http://evil.test", "https://127.0.0.1:{port}", "http://127.0.0.1:1", "null", "file://"]
)
def test_other_pages_may_not_ask(server, origin):
    """A request in the name of another page is refused, for the page and for its news."""
    origin = origin.format(port=server.port)

    assert ask(server, Origin=origin)[0] == 403
    assert ask(server, path=path_of(server) + "events", Origin=origin)[0] == 403


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT", "SEND"])
def test_nothing_can_be_asked_to_happen(server, method):
    """Only GET and HEAD are served, even with token and our own Origin."""
    status, body, headers = ask(server, method, Origin=f"http://127.0.0.1:{server.port}")

    assert status == 405
    assert headers["Allow"] == "GET, HEAD"
    assert b"the page" not in body


def test_listens_on_loopback_only(server):
    """The sockets are bound to 127.0.0.1 and ::1."""
    bound = {listening.server_address[0] for listening in server._servers}

    assert bound <= {"127.0.0.1", "::1"}
    assert "127.0.0.1" in bound


def test_tells_open_pages_of_a_change(tmp_path):
    """The stream begins immediately and reports a newer page; it ends with the server."""
    with PreviewServer(tmp_path / "preview.html") as server:
        follow(server)


def follow(server: PreviewServer) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    connection.request("GET", path_of(server) + "events")
    stream = connection.getresponse()

    assert stream.getheader("Content-Type") == "text/event-stream; charset=utf-8"
    assert [stream.readline() for _ in range(4)] == [b"retry: 1000\n", b"event: ready\n", b"data:\n", b"\n"]
    server.changed()
    assert [stream.readline() for _ in range(3)] == [b"event: changed\n", b"data:\n", b"\n"]
    threading.Timer(0.05, server._news.close).start()
    assert stream.read() == b""
    connection.close()


def test_too_many_connections_are_closed(tmp_path, monkeypatch):
    """Idle callers take a bounded number of places; the next one is turned away immediately."""
    monkeypatch.setattr(preview_server, "MOST_CONNECTIONS", 2)
    with PreviewServer(tmp_path / "preview.html") as server:
        idle = [socket.create_connection(("127.0.0.1", server.port), 5) for _ in range(2)]
        with socket.create_connection(("127.0.0.1", server.port), 5) as one_too_many:
            one_too_many.settimeout(5)
            assert one_too_many.recv(10) == b""
        for each in idle:
            each.close()


def test_nonsense_is_refused_without_being_repeated(server):
    """What is not HTTP gets a short answer that repeats none of it."""
    with socket.create_connection(("127.0.0.1", server.port), 5) as caller:
        caller.sendall(b"<script> nonsense here now\r\n\r\n")
        answer = caller.makefile("rb").read()

    assert b"400 Bad Request" in answer
    assert b"script" not in answer


# --- what --watch looks at ----------------------------------------------------------------------------


def test_snapshot_sees_edits_new_files_and_removals(tmp_path):
    """Every change of a campaign's files shows; what we write ourselves, and hidden files, do not."""

    def look() -> dict[Path, tuple[int, int, int]]:
        return file_states([tmp_path / "elsewhere.csv"], [tmp_path / "spring"])

    for name in ("spring/.mailmerge", "spring/out", "spring/parts"):
        (tmp_path / name).mkdir(parents=True)
    body = tmp_path / "spring/parts/body.html"
    body.write_text("one", "utf-8")
    first = look()

    for name in (
        "spring/out/preview.html",
        "spring/.mailmerge/ledger.db",
        "spring/.body.swp",
        "spring/~$list.xlsx",
    ):
        (tmp_path / name).write_text("ours", "utf-8")
    assert look() == first
    body.write_text("three", "utf-8")
    second = look()
    assert second != first
    (tmp_path / "elsewhere.csv").write_text("email\n", "utf-8")
    third = look()
    assert third != second
    body.unlink()
    assert look() != third


def test_e9_a_ticket_opens_the_page_once_and_a_cookie_keeps_it_open(server):
    """What a browser is started with leads there once; the page and its news then need the cookie."""
    page = server.ticket_page().decode()
    [start] = re.findall(r"url=http://127\.0\.0\.1:\d+(/start/[\w-]{32})", page)
    assert server.url.split("/")[3] not in page
    assert ask(server, path="/start/wrong")[0] == ask(server, "HEAD", path=start)[0] == 404

    status, _, headers = ask(server, path=start)
    cookie = headers["Set-Cookie"].partition(";")[0]
    assert (status, headers["Location"]) == (303, "/")
    assert headers["Set-Cookie"].endswith("; HttpOnly; SameSite=Lax; Path=/")
    assert ask(server, path=start)[0] == 404
    assert ask(server, path="/", Cookie=f"other=1; {cookie}")[:2] == (200, b"<p>the page</p>")
    for wrong in ("", cookie[:-1], cookie.partition("=")[0] + "=", f"x{cookie}"):
        assert ask(server, path="/", Cookie=wrong)[0] == ask(server, path="/events", Cookie=wrong)[0] == 404
