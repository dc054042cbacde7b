"""From a host name to a connected, non-blocking socket; every failure in plain words.

Nothing is said here: what TLS does with the socket is in `mailmerge.smtp.tls`, what SMTP says on it in
`mailmerge.smtp.session`.
"""

from __future__ import annotations

import errno
import os
import selectors
import socket
import time
from typing import TYPE_CHECKING

from mailmerge.addresses import is_loopback
from mailmerge.errors import ConnectionLost
from mailmerge.smtp.endpoint import SUBMISSION_PORTS_HINT

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.smtp.endpoint import Endpoint

# Which of these a system has differs; all of them say that the name itself is wrong. Every other failure
# of a look-up (EAI_AGAIN above all) may pass, so it is not the user's mistake.
_NO_SUCH_NAME = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}


def connect(
    endpoint: Endpoint, seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> socket.socket:
    """Connect to the first address of *endpoint* that takes us, *seconds* for each.

    Raises:
        ConnectionLost: no such name, nobody there, or no answer.

    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in _look_up(endpoint):
        connection = socket.socket(family, kind, protocol)
        try:
            _connect_one(connection, address, seconds, monotonic)
        except OSError as error:
            connection.close()
            # A time-out tells more than a refusal at another address (often ::1, where nobody listens).
            failure = failure if isinstance(failure, TimeoutError) else error
        except BaseException:
            connection.close()
            raise
        else:
            # We write whole groups of commands at once, so Nagle's algorithm could only delay the last one
            # until the server acknowledges the first (RFC 2920 section 3.1 asks clients to avoid that).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise _not_connected(endpoint, failure, seconds)


def _look_up(endpoint: Endpoint) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        # UnicodeError: a label that is empty or longer than 63 octets fails in Python's IDNA codec.
        unknown = isinstance(error, UnicodeError) or error.errno in _NO_SUCH_NAME
        if unknown:
            raise ConnectionLost(
                f"there is no host called {endpoint.host}",
                code="S611",
                hint="Check the spelling of `host`; `mailmerge providers` lists the usual ones.",
                exit_code=2,
            ) from None
        raise ConnectionLost(
            f"the name {endpoint.host} cannot be looked up right now: {error}",
            code="S614",
            hint="Is this machine online?",
        ) from None
    return [(int(f), int(k), p, name, tuple(address)) for f, k, p, name, address in found]


def _connect_one(
    connection: socket.socket, address: tuple[object, ...], seconds: float, monotonic: Callable[[], float]
) -> None:
    connection.setblocking(False)
    result = connection.connect_ex(address)
    if result in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
        wait(connection, selectors.EVENT_WRITE, monotonic() + seconds, monotonic)
        result = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if result:
        raise OSError(result, os.strerror(result))


def peer_is_local(connection: socket.socket, endpoint: Endpoint) -> bool:
    """Whether the other end of *connection* is on this very machine.

    The address that we are connected to decides, never the name: ``localhost`` is whatever the resolver
    says it is.

    Raises:
        ConnectionLost: the other end has gone already.

    """
    try:
        return is_loopback(str(connection.getpeername()[0]))
    except OSError as error:
        raise ConnectionLost(f"the connection to {endpoint.host} broke: {error.strerror or error}") from None


def wait(
    connection: socket.socket, interest: int, until: float, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Wait until *connection* is ready; raise `TimeoutError` at *until*."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, interest)
        while not selector.select(max(0.0, until - monotonic())):
            if monotonic() >= until:
                raise TimeoutError


def _not_connected(endpoint: Endpoint, failure: OSError | None, seconds: float) -> ConnectionLost:
    where = f"{endpoint.host}, port {endpoint.port}"
    if isinstance(failure, TimeoutError):
        return ConnectionLost(
            f"{where} did not answer within {seconds:g} s",
            code="S613",
            hint="Some networks block mail ports: try port 587 or 465, or another network.",
        )
    if failure is not None and failure.errno == errno.ECONNREFUSED:
        return ConnectionLost(
            f"{where}: the connection was refused",
            code="S612",
            hint=f"Is the port right? {SUBMISSION_PORTS_HINT}",
        )
    why = failure.strerror if failure else "it has no address"
    return ConnectionLost(f"{where} cannot be reached: {why}", code="S614", hint="Is this machine online?")
