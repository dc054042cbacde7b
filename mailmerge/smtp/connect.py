"""From a host name to a connected, perhaps encrypted, non-blocking socket; every failure in plain words."""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import ssl
import time
from typing import TYPE_CHECKING

from mailmerge.addresses import is_loopback
from mailmerge.errors import ConnectionLost, InputError, ProtocolError, SessionError, TlsError
from mailmerge.smtp.replies import decode
from mailmerge.smtp.reply_queue import TLS_MODE_HINT

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.smtp.endpoint import Endpoint

_NO_SUCH_NAME = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}
_EXPIRED, _NOT_YET_VALID = 10, 9
_WRONG_NAME = {62, 64}
_SELF_SIGNED = {18, 19}
_NO_TLS_AT_ALL = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
_OLD_TLS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE")


def connect(
    server: Endpoint, seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> socket.socket:
    """Connect to the first address of *server* that takes us, *seconds* for each.

    Raises:
        ConnectionLost: no such name, nobody there, or no answer.

    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in _look_up(server):
        connection = socket.socket(family, kind, protocol)
        try:
            _connect_one(connection, address, seconds, monotonic)
        except OSError as error:
            connection.close()
            failure = failure if isinstance(failure, TimeoutError) else error
        except BaseException:
            connection.close()
            raise
        else:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise _not_connected(server, failure, seconds)


def _look_up(server: Endpoint) -> list[tuple[int, int, int, str, tuple[object, ...]]]:
    try:
        found = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)
    except (socket.gaierror, UnicodeError) as error:
        unknown = isinstance(error, UnicodeError) or error.errno in _NO_SUCH_NAME
        if unknown:
            raise ConnectionLost(
                f"there is no host called {server.host}",
                code="S611",
                hint="Check the spelling of `host`; `mailmerge providers` lists the usual ones.",
                exit_code=2,
            ) from None
        raise ConnectionLost(
            f"the name {server.host} cannot be looked up just now: {error}",
            code="S614",
            hint="Is this machine online?",
        ) from None
    return [(int(f), int(k), p, name, tuple(address)) for f, k, p, name, address in found]


def peer_is_here(connection: socket.socket, server: Endpoint) -> bool:
    """Whether the other end of *connection* is on this very machine.

    Raises:
        ConnectionLost: it has gone already.

    """
    try:
        return is_loopback(str(connection.getpeername()[0]))
    except OSError as error:
        raise ConnectionLost(f"the connection to {server.host} broke: {error.strerror or error}") from None


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


def wait(
    connection: socket.socket, interest: int, until: float, monotonic: Callable[[], float] = time.monotonic
) -> None:
    """Wait until *connection* is ready; raise `TimeoutError` at *until*."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, interest)
        while not selector.select(max(0.0, until - monotonic())):
            if monotonic() >= until:
                raise TimeoutError


def _not_connected(server: Endpoint, failure: OSError | None, seconds: float) -> ConnectionLost:
    where = f"{server.host}, port {server.port}"
    if isinstance(failure, TimeoutError):
        return ConnectionLost(
            f"{where} does not answer within {seconds:g} s",
            code="S613",
            hint="Some networks block mail ports: try port 587 or 465, or another network.",
        )
    if failure is not None and failure.errno == errno.ECONNREFUSED:
        return ConnectionLost(
            f"{where}: the connection was refused",
            code="S612",
            hint="Is the port right? Mail is usually handed in at 465 or 587.",
        )
    why = failure.strerror if failure else "it has no address"
    return ConnectionLost(f"{where} cannot be reached: {why}", code="S614", hint="Is this machine online?")


def speaks_tls(server: Endpoint, seconds: float, monotonic: Callable[[], float] = time.monotonic) -> bool:
    """Tell whether *server* answers the first words of TLS on another connection; nothing else is said."""
    hello = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
        ssl.MemoryBIO(), hello, server_hostname=server.host
    )
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    try:
        connection = connect(server, seconds, monotonic)
    except SessionError:
        return False
    with connection, contextlib.suppress(OSError):
        connection.send(hello.read())
        wait(connection, selectors.EVENT_READ, monotonic() + seconds, monotonic)
        return connection.recv(1) in {b"\x15", b"\x16"}
    return False


# --- TLS -------------------------------------------------------------------------------------------------


def tls_context(server: Endpoint) -> ssl.SSLContext:
    """Return the rules for TLS with *server*: certificate and name verified, TLS 1.2 at least.

    Raises:
        InputError: the file of authorities cannot be read.

    """
    try:
        context = ssl.create_default_context(cafile=server.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"cannot read the certificate authorities in {server.ca_file}: {error.strerror or error}",
            code="S642",
            hint="--ca-file and ca_file want a file of certificates in PEM form",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if server.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def handshake(
    connection: socket.socket,
    context: ssl.SSLContext,
    server: Endpoint,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> ssl.SSLSocket:
    """Turn *connection* into a TLS connection; it is closed if that fails.

    Raises:
        TlsError: the certificate, the protocol or the port's TLS mode is wrong.
        ConnectionLost: no answer.

    """
    if server.insecure and not peer_is_here(connection, server):
        connection.close()
        raise TlsError(f"{server.host} is not on this machine, so its certificate must be verified")
    try:
        connection.getpeername()  # fails after a reset, which ``wrap_socket`` would not clear up behind
        secure = context.wrap_socket(connection, server_hostname=server.host, do_handshake_on_connect=False)
    except OSError as error:
        raise _tls_failure(error, server) from None
    until = monotonic() + seconds
    try:
        _shake(secure, server, until, monotonic)
    except TimeoutError:
        secure.close()
        raise ConnectionLost(
            f"{server.host}, port {server.port}, did not finish the TLS handshake within {seconds:g} s",
            code="S613",
            hint=TLS_MODE_HINT,
        ) from None
    except OSError as error:
        secure.close()
        raise _tls_failure(error, server) from None
    except BaseException:
        secure.close()
        raise
    return secure


def _shake(secure: ssl.SSLSocket, server: Endpoint, until: float, monotonic: Callable[[], float]) -> None:
    answered = _looks_like_tls(secure, server)
    while True:
        try:
            secure.do_handshake()
        except ssl.SSLWantReadError:
            wait(secure, selectors.EVENT_READ, until, monotonic)
            answered = answered or _looks_like_tls(secure, server)
        except ssl.SSLWantWriteError:
            wait(secure, selectors.EVENT_WRITE, until, monotonic)
        else:
            return


def _looks_like_tls(secure: ssl.SSLSocket, server: Endpoint) -> bool:
    """Look at the first octets: a server that speaks in clear deserves a better word than OpenSSL's."""
    try:
        start = socket.socket.recv(secure, 64, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    if not start or start[0] in b"\x15\x16":
        return True
    shown = ascii(decode(start).split("\r\n")[0])
    if start.startswith(b"HTTP/"):
        raise _As(
            ProtocolError(
                f"a web server answers at {server.host}, port {server.port}: {shown}",
                code="S631",
                hint="Mail is usually handed in at port 465 or 587.",
            )
        )
    raise _As(
        TlsError(
            f"port {server.port} of {server.host} answered in clear, TLS at once was expected: {shown}",
            code="S625",
            hint=TLS_MODE_HINT,
        )
    )


class _As(OSError):
    """Carries the error to show through code that closes the socket."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(str(error))
        self.error = error


def _tls_failure(error: OSError, server: Endpoint) -> SessionError:
    if isinstance(error, _As):
        return error.error
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_failure(error, server)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = error.reason or str(error)
        if any(word in reason for word in _OLD_TLS):
            return TlsError(
                f"{server.host} speaks only TLS older than 1.2 ({reason})",
                code="S624",
                hint="The server must be updated: older TLS protects nothing.",
            )
        if reason in _NO_TLS_AT_ALL:
            return TlsError(
                f"port {server.port} of {server.host} answered in clear, TLS was expected",
                code="S625",
                hint=TLS_MODE_HINT,
            )
        return TlsError(f"TLS with {server.host} failed: {reason}", hint=TLS_MODE_HINT)
    return TlsError(
        f"{server.host}, port {server.port}, closed the connection during the TLS handshake",
        hint=TLS_MODE_HINT,
    )


def _certificate_failure(error: ssl.SSLCertVerificationError, server: Endpoint) -> TlsError:
    host = server.host
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        past = error.verify_code == _EXPIRED
        return TlsError(
            f"the certificate of {host} {'has expired' if past else 'is not valid yet'}",
            code="S622",
            hint="Is this machine's clock right? If so, the server's keeper must renew it.",
        )
    if error.verify_code in _WRONG_NAME:
        return TlsError(
            f"the certificate shown is not for {host}: {error.verify_message.rstrip('.')}",
            code="S623",
            hint="Write `host` as the certificate has it, or see whether somebody stands between.",
        )
    what = "is self-signed" if error.verify_code in _SELF_SIGNED else "is signed by nobody we trust"
    return TlsError(
        f"the certificate of {host} {what}: {error.verify_message}",
        code="S621",
        hint="If it is your own server, give its authority with `ca_file`.",
    )
