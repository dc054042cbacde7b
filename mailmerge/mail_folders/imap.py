"""The IMAP server of the user's mailbox: how it is reached, and who signs in (RFC 3501)."""

from __future__ import annotations

import contextlib
import ssl
import threading
from typing import TYPE_CHECKING, Any

from mailmerge.addresses import is_loopback
from mailmerge.errors import AuthError, CampaignFileError, ConnectionLost, SessionError, TlsError
from mailmerge.smtp.connect import tls_context, tls_failure
from mailmerge.smtp.endpoint import Endpoint
from mailmerge.suggest import login_command
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from mailmerge.mail_folders.mail_place import MailPlace

_SECONDS = 60.0
_SLICE = 0.2
_GRACE = 3.0
"""Seconds that the server has for its response after a stop."""
_BOTH_WAYS = 2
"""`socket.SHUT_RDWR`."""


class ImapServer:
    """A server to sign in to; each sign-in makes one connection.

    Args:
        place: its host, port and folder.
        user: who signs in.
        secret: returns the password or token.
        token: whether it is an OAuth token.
        fresh: returns another token in place of the one that was refused; None: there is none.
        ca_file: certificate authorities to trust besides the system's.
        insecure: whether to accept any certificate: for servers on this machine.

    """

    def __init__(
        self,
        place: MailPlace,
        user: str,
        secret: Callable[[], str],
        *,
        token: bool = False,
        fresh: Callable[[], str] | None = None,
        ca_file: Path | None = None,
        insecure: bool = False,
    ) -> None:
        self.place = place
        self._user = user
        self._secret = secret
        self._token = token
        self._fresh = fresh
        self._endpoint = Endpoint(
            host=place.host,
            port=place.port,
            tls=place.tls,
            helo="[127.0.0.1]",
            ca_file=ca_file,
            insecure=insecure,
        )

    @contextlib.contextmanager
    def signed_in(self, give_up: Callable[[], bool] = lambda: False) -> Iterator[Any]:
        """Return an ``imapclient.IMAPClient`` that is signed in; it is closed with the context.

        A few seconds after *give_up* returns true the connection is cut, whatever the server is doing.

        Raises:
            CampaignFileError: the optional package is missing.
            SessionError: the server cannot be reached, is not who it should be, or refuses us, now or inside
                the context.

        """
        try:
            import imapclient
            from imapclient.exceptions import IMAPClientError, LoginError
        except ImportError:
            raise CampaignFileError(
                "an IMAP mailbox needs the package IMAPClient",
                code="B803",
                hint='install it: pip install "mailmerge-kit[imap]"',
            ) from None
        try:
            with contextlib.ExitStack() as stack:
                secret = self._secret()
                client = stack.enter_context(self._connected(imapclient, give_up))
                refusal = self._sign_in(client, secret, LoginError)
                if refusal and self._fresh is not None and (other := self._fresh()) != secret:
                    stack.close()  # after a refusal, the server may ignore another sign-in on this connection
                    client = stack.enter_context(self._connected(imapclient, give_up))
                    refusal = self._sign_in(client, other, LoginError)
                if refusal:
                    raise self._refused(refusal)
                if client.has_capability("ID"):  # 163.com and 126.com refuse clients that do not send ID
                    client.id_({"name": "mailmerge-kit"})
                yield client
        except (ssl.SSLError, OSError) as error:
            raise self._failure(error) from error
        except IMAPClientError as error:
            raise ConnectionLost(
                f"the IMAP server {self.place.host} answered: {said(error)}",
                code="B804",
                hint="is the folder's name right?" if "EXAMINE" in str(error).upper() else None,
            ) from error

    @contextlib.contextmanager
    def _connected(self, imapclient: Any, give_up: Callable[[], bool]) -> Iterator[Any]:
        client = self._connect(imapclient)
        try:
            with _cut_when(give_up, client):
                yield client
        finally:
            client.shutdown()

    def _connect(self, imapclient: Any) -> Any:
        place, context = self.place, tls_context(self._endpoint)
        client = imapclient.IMAPClient(
            place.host,
            place.port,
            ssl=place.tls == "tls",
            ssl_context=context if place.tls == "tls" else None,
            timeout=_SECONDS,
        )
        if place.tls == "starttls":
            if client.has_capability("STARTTLS"):
                client.starttls(context)
            elif not is_loopback(place.host):
                client.shutdown()
                raise TlsError(
                    f"{place.host}:{place.port} does not offer STARTTLS: the password would cross the "
                    "network in clear",
                    code="S620",
                    hint=f"write imaps://{place.host}",
                )
        return client

    def _sign_in(self, client: Any, secret: str, login_error: type[Exception]) -> str:
        """Sign in; return the server's response if it refused, else an empty string."""
        try:
            if not self._token:
                client.login(self._user, secret)
            elif client.has_capability("AUTH=OAUTHBEARER") and not client.has_capability("AUTH=XOAUTH2"):
                client.oauthbearer_login(self._user, secret)  # the standard, RFC 7628
            else:
                client.oauth2_login(self._user, secret)
        except login_error as error:
            return said(error) or "no"
        return ""

    def _refused(self, words: str) -> AuthError:
        return AuthError(
            f"the IMAP server {self.place.host} does not accept the user {self._user}: {words}",
            code="B805",
            hint="is the token this user's, and does it cover IMAP (`scopes` of the account)? "
            f"If not, sign in again: {login_command()}"
            if self._token
            else "IMAP may have to be turned on in the mailbox's settings; many providers require an app "
            "password",
        )

    def _failure(self, error: OSError) -> SessionError:
        place = self.place
        if isinstance(error, ssl.SSLError):
            return tls_failure(error, self._endpoint)
        why = error.strerror or str(error) or "it did not answer"
        return ConnectionLost(
            f"the IMAP server {place.host}:{place.port} cannot be reached: {printable(why)}",
            code="B804",
            hint="are host and port right, and is this machine online?",
        )


@contextlib.contextmanager
def _cut_when(give_up: Callable[[], bool], client: Any) -> Iterator[None]:
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_SLICE):
            if give_up():
                if not ended.wait(_GRACE):
                    with contextlib.suppress(OSError):
                        client.socket().shutdown(_BOTH_WAYS)
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        ended.set()
        watching.join()


def said(error: Exception) -> str:
    """Return the server's text in an error."""
    text = error.args[0] if error.args else ""
    return printable(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))[:300]
