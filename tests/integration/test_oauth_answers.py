"""What a token endpoint may answer instead of a token: each is explained, without anything of a secret."""

from __future__ import annotations

import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING

import pytest

from mailmerge.errors import AuthError, ConnectionLost, SessionError
from mailmerge.sign_in.consent import by_code
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


CODE = b'{"device_code": "d", "user_code": "ABCD", "verification_uri": "https://example.org", "interval": 2}'
PENDING = b'{"error": "authorization_pending"}'
TOKEN = b'{"access_token": "fresh", "token_type": "Bearer", "expires_in": 3600}'
SCRIPT: list[tuple[int, bytes]] = []
"""What /script answers, one after the other; 0: it closes the connection without a word."""


class _Endpoint(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        status, body = SCRIPT.pop(0) if self.path == "/script" else ANSWERS[self.path[1:]]
        if not status:
            self.close_connection = True
            return
        self.send_response(status)
        self.send_header("Location", "https://elsewhere.example/")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Log nothing."""


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


def _client(address: str, certificates: Certificates) -> OAuthClient:
    endpoints = Endpoints("Test", address, address, address, ("x",), {}, certificates.ca_file)
    return OAuthClient(endpoints, "id", "CLIENT+SECRET", account="work")


@pytest.mark.parametrize("answer", ANSWERS)
@pytest.mark.parametrize("call", ["refresh", "device"])
def test_what_is_no_token_is_told(port: int, certificates: Certificates, answer: str, call: str) -> None:
    """Trouble of the provider's is worth another try, anything else is not; no answer is an error of ours."""
    pytest.importorskip("authlib")
    address = f"https://localhost:{port}/{answer}"
    client = _client(address, certificates)
    with pytest.raises(SessionError) as caught:
        _ = client.refresh("REFRESH+SECRET") if call == "refresh" else client.begin_device()
    assert type(caught.value) is (ConnectionLost if answer in {"broken", "busy"} else AuthError)
    told = f"{caught.value} {caught.value.hint}"
    assert "CLIENT+SECRET" not in told
    assert "HTTP 0" not in told
    assert call == "device" or "REFRESH+SECRET" not in told


def test_a_code_outlives_a_gap_in_the_network(port: int, certificates: Certificates) -> None:
    """While a person enters the code, no answer makes the questions fewer, as a provider can ask for."""
    pytest.importorskip("authlib")
    slower = b'{"error": "slow_down"}'
    SCRIPT[:] = [
        (200, CODE),
        (400, PENDING),
        (400, slower),
        (0, b""),
        (503, b""),
        (400, PENDING),
        (200, TOKEN),
    ]
    client = _client(f"https://localhost:{port}/script", certificates)
    slept: list[float] = []
    tokens = by_code(client, show=lambda _address, _code: None, sleep=slept.append)
    assert tokens.access == "fresh"
    assert slept == [2, 2, 7, 14, 28, 28]


@pytest.mark.parametrize(
    ("error", "words"),
    [("invalid_scope", "allow the application to send mail"), ("expired_token", "in time")],
)
def test_a_code_that_is_refused_is_told(
    port: int, certificates: Certificates, error: str, words: str
) -> None:
    """A wrong scope names the registration, an old code says to begin again; neither is asked again."""
    pytest.importorskip("authlib")
    SCRIPT[:] = [(200, CODE), (400, f'{{"error": "{error}"}}'.encode())]
    client = _client(f"https://localhost:{port}/script", certificates)
    with pytest.raises(AuthError, match=words) as caught:
        by_code(client, show=lambda _address, _code: None, sleep=lambda _seconds: None)
    assert caught.value.hint
    assert not SCRIPT


def test_an_endpoint_that_stays_silent_is_told(
    port: int, certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once the code has run out, it is the network that is named, not the person."""
    pytest.importorskip("authlib")
    SCRIPT[:] = [(200, CODE), (0, b""), (0, b"")]
    client = _client(f"https://localhost:{port}/script", certificates)
    began = time.time()
    passed = [0.0]

    def sleep(seconds: float) -> None:
        passed[0] += seconds * 300

    monkeypatch.setattr(time, "time", lambda: began + passed[0])
    with pytest.raises(ConnectionLost, match="does not answer"):
        by_code(client, show=lambda _address, _code: None, sleep=sleep)
