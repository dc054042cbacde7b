"""Whether links answer: ``check --links``. Names that lead to private addresses are never connected to."""

from __future__ import annotations

import http.client
import ipaddress
import socket
import ssl
import time
from typing import TYPE_CHECKING
from urllib.parse import urljoin, urlsplit

from msgspec import Struct, field

from mailmerge.check.message_view import Finding
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

MOST_LINKS = 100
"""How many different links are tried."""
SECONDS_BETWEEN = 1.0
"""The least time between two requests to one host."""
_TIMEOUT = 10.0
_MOST_REDIRECTS = 4
_NOT_FOR_PROGRAMS = frozenset({401, 403, 405, 429, 501, 999})
"""What servers answer to programs although a browser would see the page."""


class Refused(Exception):
    """The address is not one that this machine should call."""


def is_public(address: str) -> bool:
    """Tell whether an IP address belongs to the internet, not to this machine or network."""
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return (mapped or parsed).is_global and not parsed.is_multicast


def addresses_of(host: str, port: int) -> list[str]:
    """Look up the addresses of a host."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class LinkCheck(Struct):
    """Asks for the head of each page, politely and one at a time; nothing of it is downloaded."""

    public: Callable[[str], bool] = is_public
    lookup: Callable[[str, int], list[str]] = addresses_of
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    context: ssl.SSLContext | None = None
    timeout: float = _TIMEOUT
    _asked: dict[str, float] = field(default_factory=dict)

    def look(self, links: Iterable[str]) -> Iterator[Finding]:
        """Yield what is wrong with each link."""
        for link in links:
            try:
                status = self._status(link)
            except Refused as why:
                hint = "a list must not make this machine connect to others in your network"
                yield Finding("N212", f"not tried: {quoted(link)} ({why})", hint)
            except (OSError, http.client.HTTPException, ValueError) as error:
                yield Finding(
                    "N211", f"{quoted(link)} cannot be reached: {_reason(error)}", "open it in a browser"
                )
            else:
                if status >= 400 and status not in _NOT_FOR_PROGRAMS:
                    yield Finding(
                        "N210", f"{quoted(link)} answers {status}", "correct the link, or fix the page"
                    )

    def _status(self, link: str) -> int:
        for _ in range(_MOST_REDIRECTS + 1):
            status, location = self._head(link)
            if status not in {301, 302, 303, 307, 308} or not location:
                return status
            link = urljoin(link, location)
        raise ValueError("it redirects endlessly")

    def _head(self, link: str) -> tuple[int, str | None]:
        parts = urlsplit(link)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Refused("not http or https")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = self.lookup(parts.hostname, port)
        private = [address for address in addresses if not self.public(address)]
        if private or not addresses:
            raise Refused(f"it leads to the private address {private[0]}" if private else "it has no address")
        self._wait(parts.hostname)
        connection = self._connect(parts.scheme, parts.hostname, port, addresses[0])
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("HEAD", path, headers={"User-Agent": "mailmerge-kit check --links"})
            response = connection.getresponse()
            return response.status, response.getheader("Location")
        finally:
            connection.close()

    def _connect(self, scheme: str, host: str, port: int, address: str) -> http.client.HTTPConnection:
        """Connect to the very address that was judged: a second look-up could give another."""
        plain = socket.create_connection((address, port), self.timeout)
        try:
            if scheme == "https":
                context = self.context or ssl.create_default_context()
                plain = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        connection = http.client.HTTPConnection(host, port, timeout=self.timeout)
        connection.sock = plain
        return connection

    def _wait(self, host: str) -> None:
        before = self._asked.get(host)
        if before is not None:
            rest = before + SECONDS_BETWEEN - self.clock()
            if rest > 0:
                self.sleep(rest)
        self._asked[host] = self.clock()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error) or type(error).__name__
