"""What a token endpoint may answer instead of a token: each is told in words, and nothing of a secret is."""

from __future__ import annotations

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from mailmerge.errors import AuthError, ConnectionLost, SessionError
from mailmerge.sign_in.oauth import Endpoints, OAuthClient

if TYPE_CHECKING:
    from collections.abc import Iterator

    from servers.certificates import Certificates

ANSWERS: dict[str, tuple[int, bytes]] = {
    "html": (200, b"<html>sign in</html>"),
    "garbage": (200, b"\xff\xfe{{{"),
    "empty": (200, b""),
    "list": (200, b"[]"),
    "number": (200, b'{"access_token": 5}'),
    "deep": (200, b"[" * 200_000),
    "elsewhere": (302, b""),
    "broken": (500, b"oops"),
    "busy": (503, b'{"error": "temporarily_unavailable"}'),
    "quoted": (400, b'{"error": "invalid_grant", "error_description": "no REFRESH+SECRET of CLIENT+SECRET"}'),
}


class _Endpoint(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = ANSWERS[self.path[1:]]
        self.send_response(status)
        self.send_header("Location", "https://elsewhere.example/")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def port(certificates: Certificates) -> Iterator[int]:
    """A token endpoint on loopback."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    rules = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificates.authority.issue_cert("localhost").configure_cert(rules)
    server.socket = rules.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server.server_port
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("call", ["refresh", "device"])
def test_what_is_no_token_is_told(port: int, certificates: Certificates, answer: str, call: str) -> None:
    """Trouble of the provider's is worth another try, anything else is not; no answer is an error of ours."""
    pytest.importorskip("authlib")
    address = f"https://localhost:{port}/{answer}"
    client = OAuthClient(
        Endpoints("Test", address, address, address, ("x",), {}, certificates.ca_file),
        "id",
        "CLIENT+SECRET",
        account="work",
    )
    with pytest.raises(SessionError) as caught:
        _ = client.refresh("REFRESH+SECRET") if call == "refresh" else client.begin_device()
    assert type(caught.value) is (ConnectionLost if answer in {"broken", "busy"} else AuthError)
    told = f"{caught.value} {caught.value.hint}"
    assert "CLIENT+SECRET" not in told
    assert "HTTP 0" not in told
    assert call == "device" or "REFRESH+SECRET" not in told
