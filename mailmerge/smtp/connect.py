"""From a host name to a connected, non-blocking socket, and to TLS on it; every failure has a clear message.

TLS begins either after STARTTLS (RFC 3207) or with the first octet ("implicit TLS", RFC 8314 section 3.3).
Neither falls back to the other or to plaintext: if the server, or somebody in between, declines TLS, the
session ends. What SMTP sends over the socket is in `mailmerge.smtp.session`.

Nothing here blocks: what has to wait is a generator that yields what it waits for. So a silent server does
not delay other connections, and a run that stops need not wait for it. Only the look-up of a name cannot be
interrupted: it runs in its own thread, which is abandoned.
"""

from __future__ import annotations

import contextlib
import errno
import os
import selectors
import socket
import ssl
import threading
import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, TypeVar

from mailmerge.addresses import is_loopback
from mailmerge.errors import ConnectionLost, InputError, ProtocolError, SessionError, TlsError
from mailmerge.providers import provider_for_host
from mailmerge.smtp.deadlines import Wait
from mailmerge.smtp.endpoint import SUBMISSION_PORTS_HINT, TLS_MODE_HINT
from mailmerge.smtp.replies import decode
from mailmerge.text import figure

if TYPE_CHECKING:
    from collections.abc import Callable, Generator
    from pathlib import Path

    from mailmerge.smtp.endpoint import Endpoint

    Found = list[tuple[int, int, int, str, tuple[object, ...]]]

# Systems differ in which of these they have; all of them mean that the name itself is wrong. Any other
# failure of a look-up (mostly EAI_AGAIN) may be temporary, so it is not the user's mistake.
_NO_SUCH_NAME = {
    getattr(socket, name) for name in ("EAI_NONAME", "EAI_NODATA", "EAI_ADDRFAMILY") if hasattr(socket, name)
}

T = TypeVar("T")

_QUICK, _LOOK_EVERY = 0.005, 0.01
"""How often a look-up is polled, in seconds: most names are found within this time."""


def block(wanted: Wait) -> None:
    """Wait until *wanted* is ready or its time is over, doing nothing else."""
    if wanted.descriptor < 0:
        time.sleep(wanted.seconds)
        return
    with selectors.DefaultSelector() as selector:
        to_write = selectors.EVENT_WRITE if wanted.to_write else 0
        selector.register(wanted.descriptor, selectors.EVENT_READ | to_write)
        selector.select(wanted.seconds)


def connect(
    endpoint: Endpoint, seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> Generator[Wait, None, socket.socket]:
    """Connect to the first address of *endpoint* that accepts; *seconds* is the time for each.

    Raises:
        ConnectionLost: the name does not exist, nothing listens there, or there was no answer.

    """
    failure: OSError | None = None
    for family, kind, protocol, _, address in (yield from _look_up(endpoint)):
        connection = socket.socket(family, kind, protocol)
        try:
            yield from _connect_one(connection, address, seconds, monotonic)
        except OSError as error:
            connection.close()
            # A time-out is more informative than a refusal at another address (often ::1, where nothing
            # listens).
            failure = failure if isinstance(failure, TimeoutError) else error
        except BaseException:
            connection.close()
            raise
        else:
            # We write whole groups of commands together, so Nagle's algorithm could only delay the last one
            # until the server acknowledges the first (RFC 2920 section 3.1 asks clients to avoid that).
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return connection
    raise _not_connected(endpoint, failure, seconds)


def beside(call: Callable[[], T], name: str) -> Generator[Wait, None, T]:
    """Run *call* in a thread, because it cannot be done in steps, and yield until it has ended."""
    given: list[T] = []
    failures: list[Exception] = []

    def work() -> None:
        try:
            given.append(call())
        except Exception as error:  # noqa: BLE001  raised below, in the calling thread
            failures.append(error)

    working = threading.Thread(target=work, name=name, daemon=True)
    working.start()
    working.join(_QUICK)
    while working.is_alive():
        yield Wait(-1, to_write=False, seconds=_LOOK_EVERY)
    for error in failures:
        raise error
    return given[0]


def _look_up(endpoint: Endpoint) -> Generator[Wait, None, Found]:
    def ask() -> Found:
        found = socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)
        return [
            (int(family), int(kind), protocol, name, tuple(address))
            for family, kind, protocol, name, address in found
        ]

    try:
        return (yield from beside(ask, "look-up"))
    except (OSError, UnicodeError) as error:
        raise _not_found(endpoint, error) from None


def _not_found(endpoint: Endpoint, error: Exception) -> Exception:
    # UnicodeError: a label that is empty or longer than 63 octets fails in Python's IDNA codec.
    if isinstance(error, UnicodeError) or (
        isinstance(error, socket.gaierror)
        and error.errno in _NO_SUCH_NAME
        and provider_for_host(endpoint.host)
        is None  # that name exists: some systems report this when they are offline
    ):
        return ConnectionLost(
            f"the host {endpoint.host} does not exist",
            code="S611",
            hint="Check the spelling of `host` (`mailmerge providers` lists the usual ones); or is this "
            "machine offline?",
            exit_code=2,
        )
    if isinstance(error, socket.gaierror):
        return ConnectionLost(
            f"the name {endpoint.host} cannot be looked up right now: {error}",
            code="S614",
            hint="Is this machine online?",
        )
    return error


def _connect_one(
    connection: socket.socket, address: tuple[object, ...], seconds: float, monotonic: Callable[[], float]
) -> Generator[Wait, None, None]:
    connection.setblocking(False)
    result = connection.connect_ex(address)
    if result in {errno.EINPROGRESS, errno.EWOULDBLOCK}:
        yield from wait(connection, selectors.EVENT_WRITE, monotonic() + seconds, monotonic)
        result = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if result:
        raise OSError(result, os.strerror(result))


def peer_is_local(connection: socket.socket, endpoint: Endpoint) -> bool:
    """Return whether the other end of *connection* is on this machine.

    The address that we are connected to decides, never the name: ``localhost`` can resolve to any address.

    Raises:
        ConnectionLost: the other end has closed the connection already.

    """
    try:
        return is_loopback(str(connection.getpeername()[0]))
    except OSError as error:
        raise ConnectionLost(f"the connection to {endpoint.host} broke: {error.strerror or error}") from None


def wait(
    connection: socket.socket, interest: int, until: float, monotonic: Callable[[], float] = time.monotonic
) -> Generator[Wait, None, None]:
    """Wait until *connection* is ready; raise `TimeoutError` at *until*."""
    with selectors.DefaultSelector() as selector:
        selector.register(connection, interest)
        while not selector.select(0):
            left = until - monotonic()
            if left <= 0:
                raise TimeoutError
            yield Wait(connection.fileno(), to_write=interest == selectors.EVENT_WRITE, seconds=left)


def _not_connected(endpoint: Endpoint, failure: OSError | None, seconds: float) -> ConnectionLost:
    where = f"{endpoint.host}, port {endpoint.port}"
    if isinstance(failure, TimeoutError):
        return ConnectionLost(
            f"{where} did not answer within {figure(seconds)} s",
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


# OpenSSL's numbers (X509_V_ERR_...) and names of reasons; Python has no constants for them.
_EXPIRED, _NOT_YET_VALID = 10, 9
_WRONG_NAME = {62, 64}  # host name, IP address
_SELF_SIGNED = {18, 19}  # alone, at the end of a chain
_NO_TLS_AT_ALL = {"WRONG_VERSION_NUMBER", "PACKET_LENGTH_TOO_LONG", "RECORD_LAYER_FAILURE"}
_OLD_TLS = ("PROTOCOL_VERSION", "UNSUPPORTED_PROTOCOL", "VERSION_TOO_LOW", "NO_PROTOCOLS_AVAILABLE")

_ALERT, _HANDSHAKE = 0x15, 0x16
"""The first octets that a TLS server's record can have (RFC 8446 section 5.1)."""
_TLS_OCTETS = bytes((_ALERT, _HANDSHAKE))


def tls_context(endpoint: Endpoint) -> ssl.SSLContext:
    """Return the TLS context for *endpoint*: certificate and host name are verified, TLS 1.2 is the minimum.

    Raises:
        InputError: the file of authorities cannot be read.

    """
    try:
        context = ssl.create_default_context(cafile=endpoint.ca_file)
    except (OSError, ssl.SSLError) as error:
        raise InputError(
            f"cannot read the certificate authorities in {endpoint.ca_file}: {error.strerror or error}",
            code="S642",
            hint="`ca_file` and --ca-file expect a file of certificates in PEM format",
        ) from None
    context.minimum_version = ssl.TLSVersion.TLSv1_2  # RFC 8996: nothing older is secure
    if endpoint.cert_file is not None:
        _show_certificate(context, endpoint.cert_file, endpoint.key_file)
    if endpoint.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _show_certificate(context: ssl.SSLContext, cert_file: Path, key_file: Path | None) -> None:
    def ask_nobody() -> str:
        raise InputError(
            f"the private key in {key_file or cert_file} is encrypted",
            code="S642",
            hint="write a key without a passphrase, readable by you alone: openssl pkey -in KEY -out PLAIN",
        )

    try:
        context.load_cert_chain(cert_file, key_file, password=ask_nobody)
    except (OSError, ssl.SSLError) as error:
        read = cert_file if key_file is None else f"{cert_file} and {key_file}"
        raise InputError(
            f"cannot use the certificate in {read}: {error.strerror or error}",
            code="S642",
            hint="`cert_file` expects a certificate and `key_file` its private key, both in PEM format",
        ) from None


def secure(
    connection: socket.socket,
    context: ssl.SSLContext,
    endpoint: Endpoint,
    seconds: float,
    monotonic: Callable[[], float] = time.monotonic,
) -> Generator[Wait, None, ssl.SSLSocket]:
    """Turn *connection* into a TLS connection; it is closed if that fails.

    Raises:
        TlsError: the certificate, the protocol or the port's TLS mode is wrong.
        ConnectionLost: no answer.

    """
    # `insecure` is allowed for this machine only. The configuration has checked the name; here the
    # address that counts, because a name can be made to point anywhere.
    if endpoint.insecure and not peer_is_local(connection, endpoint):
        connection.close()
        raise TlsError(f"{endpoint.host} is not on this machine, so its certificate must be verified")
    try:
        connection.getpeername()  # fails after a reset, after which ``wrap_socket`` would not clean up
        tls = context.wrap_socket(connection, server_hostname=endpoint.host, do_handshake_on_connect=False)
    except OSError as error:
        raise tls_failure(error, endpoint) from None
    until = monotonic() + seconds
    try:
        yield from _do_handshake(tls, endpoint, until, monotonic)
    except TimeoutError:
        tls.close()
        raise ConnectionLost(
            f"{endpoint.host}, port {endpoint.port}, did not finish the TLS handshake "
            f"within {figure(seconds)} s",
            code="S613",
            hint=TLS_MODE_HINT,
        ) from None
    except OSError as error:
        tls.close()
        raise tls_failure(error, endpoint) from None
    except BaseException:
        tls.close()
        raise
    return tls


def certificate_end(connection: socket.socket | None) -> datetime | None:
    """Return until when the server's certificate is valid, in UTC; None: it has no verified certificate."""
    if not isinstance(connection, ssl.SSLSocket):
        return None
    shown = (connection.getpeercert() or {}).get("notAfter")
    return datetime.fromtimestamp(ssl.cert_time_to_seconds(shown), UTC) if isinstance(shown, str) else None


def speaks_tls(
    endpoint: Endpoint, seconds: float, monotonic: Callable[[], float] = time.monotonic
) -> Generator[Wait, None, bool]:
    """Return whether *endpoint* answers a TLS handshake on another connection; nothing else is sent."""
    hello = ssl.MemoryBIO()
    client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).wrap_bio(
        ssl.MemoryBIO(), hello, server_hostname=endpoint.host
    )
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    try:
        connection = yield from connect(endpoint, seconds, monotonic)
    except SessionError:
        return False
    with connection, contextlib.suppress(OSError):
        connection.send(hello.read())
        yield from wait(connection, selectors.EVENT_READ, monotonic() + seconds, monotonic)
        return connection.recv(1) in {bytes((_ALERT,)), bytes((_HANDSHAKE,))}
    return False


def _do_handshake(
    tls: ssl.SSLSocket, endpoint: Endpoint, until: float, monotonic: Callable[[], float]
) -> Generator[Wait, None, None]:
    answered = _looks_like_tls(tls, endpoint)
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            yield from wait(tls, selectors.EVENT_READ, until, monotonic)
            answered = answered or _looks_like_tls(tls, endpoint)
        except ssl.SSLWantWriteError:
            yield from wait(tls, selectors.EVENT_WRITE, until, monotonic)
        else:
            return


def _looks_like_tls(tls: ssl.SSLSocket, endpoint: Endpoint) -> bool:
    """Peek at the first octets: OpenSSL's error for a plaintext server is of no help to users.

    They are shown to the user, so they are escaped: before TLS is set up, anybody may have written them.
    """
    try:
        start = socket.socket.recv(tls, 64, socket.MSG_PEEK)
    except BlockingIOError:
        return False
    if not start or start[0] in _TLS_OCTETS:
        return True
    shown = ascii(decode(start).split("\r\n")[0])
    if start.startswith(b"HTTP/"):
        raise _FailureError(
            ProtocolError(
                f"a web server answered at {endpoint.host}, port {endpoint.port}: {shown}",
                code="S631",
                hint=SUBMISSION_PORTS_HINT,
            )
        )
    raise _FailureError(
        TlsError(
            f"port {endpoint.port} of {endpoint.host} answered in plaintext, {_expected(endpoint)} was "
            f"expected: {shown}",
            code="S625",
            hint=TLS_MODE_HINT,
        )
    )


def _expected(endpoint: Endpoint) -> str:
    """Return the expected TLS mode in words, the same whether we or OpenSSL saw the plaintext first."""
    return "implicit TLS" if endpoint.tls == "tls" else "TLS"


class _FailureError(OSError):
    """Carries the error to show through the code that closes the socket after any `OSError`."""

    def __init__(self, error: SessionError) -> None:
        super().__init__(str(error))
        self.error = error


def tls_failure(error: OSError, endpoint: Endpoint) -> SessionError:
    """Return the error to show for a handshake that failed."""
    if isinstance(error, _FailureError):
        return error.error
    if isinstance(error, ssl.SSLCertVerificationError):
        return _certificate_failure(error, endpoint)
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError):
        reason = error.reason or str(error)
        if any(word in reason for word in _OLD_TLS):
            return TlsError(
                f"{endpoint.host} supports only TLS older than 1.2 ({reason})",
                code="S624",
                hint="Ask the server's administrator to update it: older TLS is not secure.",
            )
        if reason in _NO_TLS_AT_ALL:
            return TlsError(
                f"port {endpoint.port} of {endpoint.host} answered in plaintext, "
                f"{_expected(endpoint)} was expected",
                code="S625",
                hint=TLS_MODE_HINT,
            )
        return TlsError(f"TLS with {endpoint.host} failed: {reason}", hint=TLS_MODE_HINT)
    return TlsError(
        f"{endpoint.host}, port {endpoint.port}, closed the connection during the TLS handshake",
        hint=TLS_MODE_HINT,
    )


def _certificate_failure(error: ssl.SSLCertVerificationError, endpoint: Endpoint) -> TlsError:
    host = endpoint.host
    if error.verify_code in {_EXPIRED, _NOT_YET_VALID}:
        past = error.verify_code == _EXPIRED
        return TlsError(
            f"the certificate of {host} {'has expired' if past else 'is not valid yet'}",
            code="S622",
            hint="Is this machine's clock right? If so, ask the server's administrator to renew it.",
        )
    if error.verify_code in _WRONG_NAME:
        return TlsError(
            f"the certificate is not for {host}: {error.verify_message.rstrip('.')}",
            code="S623",
            hint="Set `host` to a name in the certificate, "
            "or check whether a proxy or attacker is intercepting the connection.",
        )
    what = "is self-signed" if error.verify_code in _SELF_SIGNED else "is not signed by an authority we trust"
    return TlsError(
        f"the certificate of {host} {what}: {error.verify_message}",
        code="S621",
        hint="If it is your own server, specify its certificate authority with `ca_file`.",
    )
