"""Answers unsubscribe links and one-click requests (RFC 8058), and appends to a suppression file.

::

    python unsubscribe_server.py --key club-1f2e3d4c.json --file unsubscribed.txt --port 8025

It needs Python 3.11 and nothing else. Let a web server with TLS in front pass ``https://example.org/u/`` on
to it, which also keeps slow clients away. The key is a copy of the file that lies in the folder
``unsubscribe`` beside mailmerge's config.toml; it may be given several times. Campaigns read what it writes:
``suppress = ["unsubscribed.txt"]`` under ``[data]``, or ``mailmerge suppress import unsubscribed.txt``.

A GET only shows a page with a button: programs that scan mail open every link. Only a POST unsubscribes.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import hmac
import json
import os
import re
import threading
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl

if TYPE_CHECKING:
    from collections.abc import Callable

PATH = re.compile(r"(?:/[\w-]+)*/([A-Za-z0-9_-]{72})")
TEST = "Nobody_is_unsubscribed_by_this_it_belongs_to_a_preview_or_a_test_message"
ONE_CLICK = ("List-Unsubscribe", "One-Click")
LARGEST = 4096
PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>{title}</title><style>
body {{ font: 1.1em sans-serif; max-width: 30em; margin: 3em auto; padding: 0 1em }}
button {{ font: inherit; padding: .5em 1em }}</style></head><body><h1>{title}</h1>{body}</body></html>
"""
BUTTON = (
    '<p>You will get no more of these messages.</p><form method="post">'
    '<button name="List-Unsubscribe" value="One-Click">Unsubscribe</button></form>'
)


def unsubscribed(token: str, keys: dict[str, bytes]) -> str:
    """Return the SHA-256 of the address that a token unsubscribes; *keys* are secrets by their id.

    Raises:
        ValueError: it was made up or changed, or its key is not there.

    """
    raw = base64.urlsafe_b64decode(token)
    signed, mac = raw[:37], raw[37:53]
    secret = keys.get(signed[:5].hex(), b"")
    right = hmac.digest(secret, b"mailmerge unsubscribe" + signed, "sha256")[:16]
    if not secret or raw[53:] != b"\x01" or not hmac.compare_digest(mac, right):
        raise ValueError("not a token of ours")
    return signed[5:].hex()


class SuppressionFile:
    """The file that campaigns read: one hash a line, each once, on disk before anybody is told so."""

    def __init__(self, path: Path) -> None:
        """Make the file, so that campaigns can name it from the first day, or take what is there."""
        self._path = path
        self._lock = threading.Lock()
        self._stamp = (0, 0, 0)
        self._known: set[str] = set()
        self._ends_in_line = False
        self._append("")
        self._look()

    def add(self, address_hash: str) -> None:
        """Append somebody who is not in it yet, so that a thousand clicks do not make it longer."""
        with self._lock:
            self._look()
            if address_hash not in self._known:
                line = f"sha256:{address_hash}  # {datetime.now(UTC):%Y-%m-%d %H:%M}\n"
                self._append(f"\n{line}" if self._ends_in_line else line)

    def _look(self) -> None:
        """Read it if it has changed: people edit it, and who was taken out can unsubscribe again."""
        found = self._path.stat() if self._path.exists() else None
        stamp = (found.st_mtime_ns, found.st_size, found.st_ino) if found else (0, 0, 0)
        if stamp != self._stamp:
            text = self._path.read_text("utf-8", "replace") if found else ""
            self._known = set(re.findall(r"^sha256:([0-9a-f]{64})", text, re.MULTILINE))
            self._ends_in_line = text[-1:] not in {"", "\n"}
            self._stamp = stamp

    def _append(self, line: str) -> None:
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        with os.fdopen(handle, "ab") as stream:
            stream.write(line.encode())
            stream.flush()
            os.fsync(stream.fileno())


class Handler(BaseHTTPRequestHandler):
    """One request: nothing of it is ever shown, and its length and its time are limited."""

    timeout = 10
    server_version, sys_version = "unsubscribe", ""
    keys: dict[str, bytes]
    file: SuppressionFile

    def do_GET(self) -> None:
        """Ask; nobody is unsubscribed."""
        self._answer(lambda _address_hash: (200, "Unsubscribe?", BUTTON))

    def do_HEAD(self) -> None:
        """Say what a GET would, without the page."""
        self.do_GET()

    def do_POST(self) -> None:
        """Unsubscribe, if a mail program or the button asks for it."""
        self._answer(self._take)

    def _answer(self, valid: Callable[[str], tuple[int, str, str]]) -> None:
        match = PATH.fullmatch(self.path.partition("?")[0])
        if match is None:
            answer = 404, "This page does not exist", ""
        elif match[1] == TEST:
            answer = 200, "This is a test", "<p>The message was a preview or a test.</p>"
        else:
            try:
                answer = valid(unsubscribed(match[1], self.keys))
            except ValueError:
                answer = 404, "This link does not work", "<p>Please reply to the message instead.</p>"
        self._show(*answer)

    def _take(self, address_hash: str) -> tuple[int, str, str]:
        length = self.headers.get("Content-Length", "")
        if not re.fullmatch(r"[0-9]{1,9}", length):
            return 411, "This request does not say how long it is", ""
        if int(length) > LARGEST:
            return 413, "This request is too long", ""
        if not self._is_one_click(self.rfile.read(int(length))):
            return 400, "This request does not say what it wants", ""
        self.file.add(address_hash)
        return 200, "You are unsubscribed", "<p>You will get no more of these messages.</p>"

    def _is_one_click(self, body: bytes) -> bool:
        """Tell whether a form has the field of RFC 8058, in either way in which forms are sent."""
        text = body.decode("latin-1")
        if self.headers.get_content_type() == "multipart/form-data":
            name, value = ONE_CLICK
            return (
                re.search(rf'name="?{name}"?[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n{value}\r\n', text) is not None
            )
        return ONE_CLICK in parse_qsl(text)

    def _show(self, status: int, title: str, body: str) -> None:
        page = PAGE.format(title=title, body=body).encode()
        self.send_response(status)
        for name, value in (
            ("Content-Type", "text/html; charset=utf-8"),
            ("Content-Length", str(len(page))),
            ("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; form-action 'self'"),
            ("Referrer-Policy", "no-referrer"),
            ("Cache-Control", "no-store"),
            ("X-Robots-Tag", "noindex"),
            ("Connection", "close"),
        ):
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(page)

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Log what happened, and not who: whoever reads the log could use the token."""
        del size
        self.log_message("%s %s", self.command, int(code))


def main() -> None:
    """Serve until somebody ends it."""
    parser = argparse.ArgumentParser(description="Answer unsubscribe links of mailmerge.")
    parser.add_argument("--key", action="append", required=True, type=Path, help="the key's file; repeat it")
    parser.add_argument("--file", required=True, type=Path, help="the suppression file to append to")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", default=8025, type=int)
    given = parser.parse_args()
    for path in given.key:
        secret = bytes.fromhex(json.loads(path.read_text())["secret"])
        Handler.keys = {**getattr(Handler, "keys", {}), _id(secret): secret}
    Handler.file = SuppressionFile(given.file)
    with ThreadingHTTPServer((given.host, given.port), Handler) as server:
        print(f"http://{given.host}:{server.server_port}/u/", flush=True)
        server.serve_forever()


def _id(secret: bytes) -> str:
    return hashlib.sha256(b"mailmerge key id\0" + secret).hexdigest()[:10]


if __name__ == "__main__":
    main()
