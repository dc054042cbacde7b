"""A person's consent: in a browser on this machine, in one on another machine, or by a code.

The browser is sent back to an address on this machine's loopback (RFC 8252 section 7.3), where one request is
accepted. If the browser is on another machine, that address does not work; the person copies it from there.
"""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import time
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlsplit

from mailmerge.errors import AuthError, ConnectionLost
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.sign_in.oauth import OAuthClient, Tokens

_MINUTES: Final = 10
"""How many minutes to wait for a browser."""
_SLICE = 0.2
"""A stop is noticed within this many seconds."""
_RAREST = 60.0
"""The most seconds between two requests while the endpoint does not answer."""
_SLOWER = 5.0
"""Seconds added between two requests each time the provider asks for it (RFC 8628 section 3.5)."""
_LONGEST_LINE = 65_536
_SERVED = 50
"""The most requests that are answered: browsers also ask for an icon."""


def in_browser(
    client: OAuthClient,
    user: str,
    *,
    show: Callable[[str], None],
    open_browser: Callable[[str], bool],
    give_up: Callable[[], bool] = lambda: False,
) -> Tokens:
    """Get tokens by a person's consent in a browser on this machine.

    Args:
        client: the client that gets the tokens.
        user: whose consent is needed.
        show: called with the address, for a person whose browser does not open.
        open_browser: opens it.
        give_up: returns whether to stop waiting.

    Raises:
        AuthError: the person declined, or did nothing for ten minutes; or the provider refuses.
        ConnectionLost: the token endpoint does not answer.

    """
    with _Listener() as listener:
        address, state, verifier = client.authorization(listener.address, user)
        show(address)
        open_browser(address)
        answer = listener.answer(state, give_up)
        return client.exchange(answer, listener.address, state, verifier)


def in_another_browser(
    client: OAuthClient, user: str, *, show: Callable[[str], None], ask: Callable[[], str]
) -> Tokens:
    """Get tokens by consent in a browser on another machine: the person pastes the address where it ended.

    Args:
        client: the client that gets the tokens.
        user: whose consent is needed.
        show: called with the address to open.
        ask: asks for the address where the browser ended.

    Raises:
        AuthError: the person declined, or it is another address; or the provider refuses.
        ConnectionLost: the token endpoint does not answer.

    """
    home = "http://localhost:1"  # nothing listens there: only the address bar matters
    address, state, verifier = client.authorization(home, user)
    show(address)
    pasted = ask().strip()
    return client.exchange(_answered(pasted), home, state, verifier)


def by_code(
    client: OAuthClient,
    *,
    show: Callable[[str, str], None],
    sleep: Callable[[float], None] = time.sleep,
    give_up: Callable[[], bool] = lambda: False,
) -> Tokens:
    """Get tokens by a code that a person enters on any device.

    Args:
        client: the client that gets the tokens.
        show: called with the address to open and the code to enter there.
        sleep: waits the seconds between two requests.
        give_up: returns whether to stop asking.

    Raises:
        AuthError: the person declined, or did nothing; or the provider refuses.
        ConnectionLost: an endpoint does not answer, at first or to the last.

    """
    device = client.begin_device()
    show(printable(device.address), printable(device.shown))
    interval = device.interval
    lost: ConnectionLost | None = None
    while time.time() < device.until and not give_up():
        sleep(interval)
        try:
            found = client.ask_device(device)
        except ConnectionLost as error:
            # The person is busy with the code meanwhile: one network failure must not end that
            # (RFC 8628 section 3.5, which also requires longer intervals).
            lost, interval = error, min(2 * interval, _RAREST)
            continue
        lost = None
        if found == "slow_down":
            interval += _SLOWER
        elif found != "pending":
            return found
    if lost is not None:
        raise lost
    raise AuthError("the code was not entered in time", code="S663", hint="Start again.")


def has_browser() -> bool:
    """Return whether a browser can be expected to open on this machine's screen."""
    if os.environ.get("SSH_CONNECTION") or os.environ.get("SSH_TTY"):
        return False
    if sys.platform in {"win32", "darwin"}:
        return True
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _answered(address: str) -> str:
    """Check that an address is one that a sign-in ends at."""
    parts = urlsplit(address)
    if not parts.query or not ("code=" in parts.query or "error=" in parts.query):
        raise AuthError(
            "this is not the address where a sign-in ends",
            code="S663",
            hint="It begins with http://localhost and contains code=: see the browser's address bar.",
        )
    return address


class _Listener:
    """Waits on loopback for the browser to come back."""

    def __init__(self) -> None:
        self._answers: list[str] = []
        answers = self._answers

        class Page(BaseHTTPRequestHandler):
            timeout = 5.0

            def do_GET(self) -> None:
                wanted = self.path.startswith("/?") and len(self.path) < _LONGEST_LINE
                if wanted:
                    answers.append(self.path)
                page = _DONE if wanted else b""
                self.send_response(200 if wanted else 404)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(page)))
                self.send_header("Cache-Control", "no-store")
                self.send_header("Content-Security-Policy", "default-src 'none'")
                self.end_headers()
                self.wfile.write(page)

            def log_message(self, *_: object) -> None:
                """Log nothing: the request contains a code."""

        self._server = HTTPServer(("127.0.0.1", 0), Page)
        self._server.timeout = _SLICE

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._server.server_close()

    @property
    def address(self) -> str:
        """Where the browser is sent back to: Microsoft only accepts this name, Google also the number."""
        return f"http://localhost:{self._server.server_port}"

    def answer(self, state: str, give_up: Callable[[], bool]) -> str:
        """Wait for the browser; requests without *state* are somebody else's."""
        until = time.monotonic() + _MINUTES * 60
        served = 0
        while time.monotonic() < until and served < _SERVED and not give_up():
            before = len(self._answers)
            with contextlib.suppress(socket.timeout, ConnectionError):
                self._server.handle_request()
            for path in self._answers[before:]:
                served += 1
                if f"state={state}" in path:
                    return _answered(self.address + path)
        raise AuthError(
            f"the browser did not come back within {_MINUTES} minutes",
            code="S663",
            hint="Start again; --no-browser works with a browser on another machine.",
        )


_DONE = (
    b"<!doctype html><meta charset=utf-8><title>mailmerge</title>"
    b"<p>mailmerge has received the answer: you can close this window and return to the terminal."
)
