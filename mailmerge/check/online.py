"""Checks that need the network: ``check --dns`` and ``check --links``; nothing here runs without them.

The DNS records of the sender's domain and the recipients' domains, and whether links work. Host names that
resolve to private addresses are never connected to.
"""

from __future__ import annotations

import http.client
import io
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal
from urllib.parse import urljoin, urlsplit

from msgspec import Struct, field

from mailmerge.check.message_view import Finding
from mailmerge.text import quoted

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

RecordType = Literal["TXT", "MX", "A", "AAAA"]
Lookup = Callable[[str, RecordType], "list[str]"]
"""Looks up the records of a name, as strings (MX: ``10 host.``); raises `NoSuchName` or `NoAnswer`."""

MOST_DOMAINS = 300
"""How many of the recipients' domains are looked up, those with most rows first."""


class NoSuchName(Exception):
    """The name does not exist."""


class NoAnswer(Exception):
    """The DNS did not answer in time, or with an error."""


def system_lookup(timeout: float = 5.0, server: tuple[str, int] | None = None) -> Lookup:
    """Return a look-up that queries this machine's resolvers, for at most *timeout* seconds a name.

    Args:
        timeout: time for one name, in seconds.
        server: address and port of the only server to query; None: those that the system is set up to use.

    """
    from dns import exception, resolver
    from dns import name as names

    asked = resolver.Resolver(configure=server is None)
    asked.lifetime = timeout
    if server is not None:
        asked.nameservers, asked.port = [server[0]], server[1]
    impossible = (names.EmptyLabel, names.LabelTooLong, names.NameTooLong, names.BadEscape)

    def lookup(name: str, kind: RecordType) -> list[str]:
        try:
            answer = asked.resolve(name, kind, search=False)
        except (resolver.NXDOMAIN, *impossible):
            raise NoSuchName(name) from None
        except resolver.NoAnswer:
            return []
        except (exception.DNSException, OSError, ValueError) as error:
            raise NoAnswer(str(error)) from None
        if kind == "TXT":
            return [b"".join(record.strings).decode("utf-8", "replace") for record in answer]
        return [record.to_text() for record in answer]

    return lookup


def silent(domain: str) -> Finding:
    """Return the finding that the DNS did not answer for *domain*."""
    return Finding("N206", f"the DNS does not answer for {domain}", "try again later")


def takes_no_mail(domain: str, lookup: Lookup) -> str | None:
    """Return why *domain* does not accept mail; None: it does (RFC 5321 section 5.1, RFC 7505).

    Raises:
        NoAnswer: the DNS did not answer.

    """
    try:
        exchangers = lookup(domain, "MX")
        if exchangers:
            null = all(record.split()[-1] == "." for record in exchangers)
            return "it has a null MX record" if null else None
        if lookup(domain, "A") or lookup(domain, "AAAA"):
            return None
    except NoSuchName:
        return "the domain does not exist"
    return "it has neither an MX nor an address record"


def recipient_domains(
    rows: Mapping[str, Sequence[int]], lookup: Lookup
) -> Iterator[tuple[Finding, Sequence[int]]]:
    """Check the recipients' domains, one look-up a domain; yield each finding with its rows."""
    for domain in sorted(rows, key=lambda name: -len(rows[name]))[:MOST_DOMAINS]:
        try:
            reason = takes_no_mail(domain, lookup)
        except NoAnswer:
            yield silent(domain), rows[domain]
            continue
        if reason:
            hint = "these messages will bounce: correct the addresses or leave the rows out"
            yield Finding("N301", f"{domain} does not accept mail: {reason}", hint), rows[domain]


MOST_LINKS = 100
"""How many different links are tried."""
SECONDS_BETWEEN = 1.0
"""The least time between two requests to one host, in seconds."""
_TIMEOUT = 10.0
_MOST_REDIRECTS = 4
_NOT_FOR_PROGRAMS = frozenset({401, 403, 405, 429, 501, 999})
"""Status codes that servers return to programs although a browser would get the page."""


class Refused(Exception):
    """The address is not one that this machine should connect to."""


_INTERNET = ipaddress.ip_network("2000::/3")
"""The addresses assigned to hosts (RFC 4291 section 2.4), without mapped, NAT64 and site-local ones."""
_SPECIAL = tuple(
    map(ipaddress.ip_network, ("2002::/16", "2001::/23", "2001:db8::/32", "3fff::/20", "192.88.99.0/24"))
)
"""6to4 and its relays, Teredo and other protocols, documentation: no public web page is there."""


def is_public(address: str) -> bool:
    """Return whether an IP address belongs to the internet, not to this machine or a private network.

    An IPv6 address that embeds an IPv4 one (mapped, NAT64, 6to4, Teredo) does not count: where it leads is
    decided by a gateway that may be in this network.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    if parsed.version == 6 and parsed not in _INTERNET:
        return False
    special = any(parsed in network for network in _SPECIAL if network.version == parsed.version)
    return parsed.is_global and not special and not parsed.is_multicast


def addresses_of(host: str, port: int) -> list[str]:
    """Look up the addresses of a host; the system's resolver sets no limit to the time that this takes."""
    return [str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]


class _Deadline:
    """The time at which a request with all its redirects must have ended."""

    def __init__(self, clock: Callable[[], float], seconds: float) -> None:
        self._clock = clock
        self.until = clock() + seconds

    def seconds(self) -> float:
        """Return the seconds that are left.

        Raises:
            TimeoutError: no time is left.

        """
        left = self.until - self._clock()
        if left <= 0:
            raise TimeoutError
        return left


class _TimedSocket(io.RawIOBase):
    """A socket whose operations share one deadline: a server cannot prolong it by trickling."""

    def __init__(self, wrapped: socket.socket, left: _Deadline) -> None:
        self._socket = wrapped
        self._left = left

    def sendall(self, data: bytes) -> None:
        """Send all of it."""
        self._socket.settimeout(self._left.seconds())
        self._socket.sendall(data)

    def readable(self) -> bool:
        """Whether it can be read from."""
        return True

    def readinto(self, buffer: Any) -> int:
        """Receive what there is."""
        self._socket.settimeout(self._left.seconds())
        return self._socket.recv_into(buffer)

    def makefile(self, _mode: str) -> io.BufferedReader:
        """Return it as a file object."""
        return io.BufferedReader(self)

    def close(self) -> None:
        """Close the connection."""
        super().close()
        self._socket.close()


class LinkCheck(Struct):
    """Requests the headers of each page, politely and one at a time; no page is downloaded."""

    public: Callable[[str], bool] = is_public
    lookup: Callable[[str, int], list[str]] = addresses_of
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    context: ssl.SSLContext | None = None
    timeout: float = _TIMEOUT
    _asked: dict[str, float] = field(default_factory=dict)

    def look(self, links: Iterable[str]) -> Iterator[Finding]:
        """Yield a finding for each link that does not work."""
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
                        "N210", f"{quoted(link)} returns status {status}", "correct the link, or fix the page"
                    )

    def _status(self, link: str) -> int:
        left = _Deadline(self.clock, self.timeout)
        for _ in range(_MOST_REDIRECTS + 1):
            status, location = self._head(link, left)
            if status not in {301, 302, 303, 307, 308} or not location:
                return status
            link = urljoin(link, location)
        raise ValueError("it redirects endlessly")

    def _head(self, link: str, left: _Deadline) -> tuple[int, str | None]:
        """Request the headers from one server; the target of every redirect is looked up and checked too."""
        parts = urlsplit(link)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise Refused("not http or https")
        port = parts.port or (443 if parts.scheme == "https" else 80)
        addresses = self._addresses(parts.hostname, port, left)
        private = [address for address in addresses if not self.public(address)]
        if private or not addresses:
            raise Refused(
                f"its host resolves to the private address {private[0]}"
                if private
                else "its host has no address"
            )
        self._wait(parts.hostname, left)
        connection = self._connect(parts.scheme, parts.hostname, port, addresses[0], left)
        try:
            path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
            connection.request("HEAD", path, headers={"User-Agent": "mailmerge-kit check --links"})
            response = connection.getresponse()
            return response.status, response.getheader("Location")
        finally:
            connection.close()

    def _addresses(self, host: str, port: int, left: _Deadline) -> list[str]:
        """Look up a host, but wait no longer than *left*: the system's resolver has no deadline."""
        found: list[list[str]] = []
        failed: list[Exception] = []

        def ask() -> None:
            try:
                found.append(self.lookup(host, port))
            except Exception as error:  # noqa: BLE001  raised again by whoever waits
                failed.append(error)

        asking = threading.Thread(target=ask, daemon=True)
        asking.start()
        asking.join(left.seconds())
        if failed:
            raise failed[0]
        if not found:
            raise TimeoutError
        return found[0]

    def _connect(
        self, scheme: str, host: str, port: int, address: str, left: _Deadline
    ) -> http.client.HTTPConnection:
        """Connect to the very address that was checked: a second look-up could return another."""
        plain = socket.create_connection((address, port), left.seconds())
        try:
            plain.settimeout(left.seconds())
            if scheme == "https":
                context = self.context or ssl.create_default_context()
                plain = context.wrap_socket(plain, server_hostname=host)
        except BaseException:
            plain.close()
            raise
        connection = http.client.HTTPConnection(host, port)
        connection.sock = _TimedSocket(plain, left)
        return connection

    def _wait(self, host: str, left: _Deadline) -> None:
        before = self._asked.get(host)
        if before is not None:
            rest = before + SECONDS_BETWEEN - self.clock()
            if rest > 0:
                left.until += rest  # the server must not pay for our politeness
                self.sleep(rest)
        self._asked[host] = self.clock()


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not valid ({error.verify_message})"
    if isinstance(error, TimeoutError):
        return "the server did not answer in time"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error) or type(error).__name__
