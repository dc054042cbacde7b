"""An IMAP mailbox, looked at: nothing in it is changed, and nothing is marked as read.

The mailbox is opened with EXAMINE and messages are fetched with BODY.PEEK (RFC 3501 sections 6.3.2 and
6.4.5). First only the fields that tell a report from other mail are fetched, and then the first megabyte of
those that may be one: other people's letters are not read.
"""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

from mailmerge.addresses import is_loopback
from mailmerge.bounces.mime import MOST_OCTETS, split_fields
from mailmerge.bounces.report import may_be_report
from mailmerge.bounces.sources import Letter
from mailmerge.errors import AuthError, CampaignFileError, ConnectionLost, SessionError, TlsError
from mailmerge.smtp.connect import tls_context, tls_failure
from mailmerge.smtp.endpoint import Endpoint
from mailmerge.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime
    from pathlib import Path

    from mailmerge.bounces.sources import Place

_SECONDS = 60.0
_AT_A_TIME = 200
_FIELDS = (
    "FROM SUBJECT RETURN-PATH CONTENT-TYPE AUTO-SUBMITTED PRECEDENCE X-FAILED-RECIPIENTS IN-REPLY-TO "
    "REFERENCES X-AUTOREPLY X-AUTORESPOND FEEDBACK-TYPE"
)


class ImapMailbox:
    """A mailbox to look into; each look makes one connection.

    Args:
        place: which one.
        user: who signs in.
        secret: gives the password or token.
        token: whether it is an OAuth token.
        ca_file: trusted beside the system's authorities.
        insecure: accept any certificate: for servers on this machine.

    """

    def __init__(
        self,
        place: Place,
        user: str,
        secret: Callable[[], str],
        *,
        token: bool = False,
        ca_file: Path | None = None,
        insecure: bool = False,
    ) -> None:
        self._place = place
        self._user = user
        self._secret = secret
        self._token = token
        self._endpoint = Endpoint(
            host=place.host,
            port=place.port,
            tls=place.tls,
            helo="[127.0.0.1]",
            ca_file=ca_file,
            insecure=insecure,
        )
        self._seen: set[tuple[int, int]] = set()
        """What an earlier look has read: UIDVALIDITY and UID."""

    def letters(self, since: datetime | None, stopped: Callable[[], bool]) -> Iterator[Letter]:
        """Yield the messages that may be reports, those that an earlier look has read left out.

        Args:
            since: only what arrived on this day or later.
            stopped: says when to look no further.

        Raises:
            CampaignFileError: the optional package is missing, or there is no such folder.
            SessionError: the server cannot be reached, is not who it should be, or refuses us.

        """
        try:
            import imapclient
            from imapclient.exceptions import IMAPClientError, LoginError
        except ImportError:
            raise CampaignFileError(
                "reading an IMAP mailbox needs the package IMAPClient",
                code="B803",
                hint='install it: pip install "mailmerge-kit[imap]"',
            ) from None
        place = self._place
        try:
            client = self._connected(imapclient)
            try:
                self._sign_in(client, LoginError)
                yield from self._look(client, since, stopped)
            finally:
                client.shutdown()
        except (ssl.SSLError, OSError) as error:
            raise self._failure(error) from error
        except IMAPClientError as error:
            raise ConnectionLost(
                f"the IMAP server {place.host} answered: {_said(error)}",
                code="B804",
                hint="is the folder's name right?" if "EXAMINE" in str(error).upper() else None,
            ) from error

    def _connected(self, imapclient: Any) -> Any:
        place, context = self._place, tls_context(self._endpoint)
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

    def _sign_in(self, client: Any, login_error: type[Exception]) -> None:
        try:
            if self._token:
                client.oauth2_login(self._user, self._secret())
            else:
                client.login(self._user, self._secret())
        except login_error as error:
            raise AuthError(
                f"the IMAP server {self._place.host} does not accept the user {self._user}: {_said(error)}",
                code="B805",
                hint="IMAP may have to be turned on in the mailbox's settings; many providers require an app "
                "password",
            ) from None
        if client.has_capability("ID"):  # 163.com and 126.com refuse whoever does not say
            client.id_({"name": "mailmerge-kit"})

    def _look(self, client: Any, since: datetime | None, stopped: Callable[[], bool]) -> Iterator[Letter]:
        place = self._place
        chosen = client.select_folder(place.folder, readonly=True)
        validity = int(chosen.get(b"UIDVALIDITY", 0))
        found = client.search(["SINCE", since.date()] if since else ["ALL"])
        uids = [uid for uid in found if (validity, uid) not in self._seen]
        for start in range(0, len(uids), _AT_A_TIME):
            for uid in self._candidates(client, uids[start : start + _AT_A_TIME]):
                if stopped():
                    return
                fetched = client.fetch([uid], [f"BODY.PEEK[]<0.{MOST_OCTETS}>"])
                raw = _octets(fetched.get(uid, {}))
                if raw:
                    yield Letter(f"{place} uid {uid}", raw[:MOST_OCTETS])
            self._seen.update((validity, uid) for uid in uids[start : start + _AT_A_TIME])
            if stopped():
                return

    @staticmethod
    def _candidates(client: Any, uids: Sequence[int]) -> list[int]:
        """Tell which messages may be reports, from their header."""
        found = client.fetch(uids, [f"BODY.PEEK[HEADER.FIELDS ({_FIELDS})]"])
        return [
            uid
            for uid in uids
            if may_be_report(split_fields(_octets(found.get(uid, {})).replace(b"\r\n", b"\n"))[0])
        ]

    def _failure(self, error: OSError) -> SessionError:
        place = self._place
        if isinstance(error, ssl.SSLError):
            return tls_failure(error, self._endpoint)
        why = error.strerror or str(error) or "it did not answer"
        return ConnectionLost(
            f"the IMAP server {place.host}:{place.port} cannot be reached: {printable(why)}",
            code="B804",
            hint="are host and port right, and is this machine online?",
        )


def _octets(fetched: dict[bytes, Any]) -> bytes:
    """Give the one item of a reply that is a body."""
    return next(
        (value for name, value in fetched.items() if name.startswith(b"BODY[") and isinstance(value, bytes)),
        b"",
    )


def _said(error: Exception) -> str:
    text = error.args[0] if error.args else ""
    return printable(text.decode("utf-8", "replace") if isinstance(text, bytes) else str(text))[:300]
