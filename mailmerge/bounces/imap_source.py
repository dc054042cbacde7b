"""Reading an IMAP mailbox: nothing in it is changed, and nothing is marked as read.

The mailbox is opened with EXAMINE and messages are fetched with BODY.PEEK (RFC 3501 sections 6.3.2 and
6.4.5). First only the fields that distinguish a report from other mail are fetched, and then the first
megabyte of those that may be one: personal letters are not read.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from mailmerge.bounces.mail_sources import FoundMessage
from mailmerge.bounces.mime import MOST_OCTETS, split_fields
from mailmerge.bounces.report import may_be_report

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from datetime import datetime

    from mailmerge.mail_folders.imap import ImapServer

_AT_A_TIME = 200
_FIELDS = (
    "FROM SUBJECT RETURN-PATH CONTENT-TYPE AUTO-SUBMITTED PRECEDENCE X-FAILED-RECIPIENTS IN-REPLY-TO "
    "REFERENCES X-AUTOREPLY X-AUTORESPOND X-AUTORESPONDER X-VACATION FEEDBACK-TYPE"
)


class ImapMailbox:
    """A mailbox to read; each read makes one connection.

    Args:
        server: the mailbox's server.

    """

    def __init__(self, server: ImapServer) -> None:
        self._server = server
        self._seen: set[tuple[int, int]] = set()
        """What was read before: UIDVALIDITY and UID."""

    def letters(self, since: datetime | None, stopped: Callable[[], bool]) -> Iterator[FoundMessage]:
        """Yield the messages that may be reports, without those that were read before.

        Args:
            since: only what arrived on this day or later.
            stopped: returns whether to stop reading.

        Raises:
            CampaignFileError: the optional package is missing, or the folder does not exist.
            SessionError: the server cannot be reached, is not who it should be, or refuses us.

        """
        with self._server.signed_in() as client:
            yield from self._look(client, since, stopped)

    def _look(
        self, client: Any, since: datetime | None, stopped: Callable[[], bool]
    ) -> Iterator[FoundMessage]:
        place = self._server.place
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
                    yield FoundMessage(f"{place} uid {uid}", raw[:MOST_OCTETS])
            self._seen.update((validity, uid) for uid in uids[start : start + _AT_A_TIME])
            if stopped():
                return

    @staticmethod
    def _candidates(client: Any, uids: Sequence[int]) -> list[int]:
        """Return which messages may be reports, judging by their header fields."""
        found = client.fetch(uids, [f"BODY.PEEK[HEADER.FIELDS ({_FIELDS})]"])
        return [
            uid
            for uid in uids
            if may_be_report(split_fields(_octets(found.get(uid, {})).replace(b"\r\n", b"\n"))[0])
        ]


def _octets(fetched: dict[bytes, Any]) -> bytes:
    """Return the one item of a response that is a body."""
    return next(
        (value for name, value in fetched.items() if name.startswith(b"BODY[") and isinstance(value, bytes)),
        b"",
    )
