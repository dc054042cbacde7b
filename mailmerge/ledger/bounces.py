"""Reports in the sender's mailbox about sent messages: which message each is about, and what it changes.

A report may come while a run is sending, so nothing here needs the campaign's lock: each report is one
transaction of its own, and it moves only rows that a run never touches (accepted, in doubt). The mark of a
message of the mailbox is written in that transaction, so that it counts once, whoever reads it again.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from mailmerge.ledger.databases import CampaignBook
from mailmerge.sqlite import moment

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime


class SentMessage(Struct, frozen=True):
    """An attempt that may have brought a server a message."""

    attempt: int
    key: str
    row: int
    address: str
    message_id: str
    at: float
    """When it was handed over, in seconds since 1970."""
    reply: str
    """What the server said to it."""
    recipients: int
    date: float
    """Its Date, in seconds since 1970."""
    status: str
    """The present status of its row."""
    current: bool
    """Whether it is still the row's message: no new one was made since."""

    @classmethod
    def of(cls, row: tuple[Any, ...]) -> Self:
        """Return one made from a row of the table."""
        values = dict(zip(cls.__struct_fields__, row, strict=True))
        return cls(**{**values, "current": bool(values["current"])})


class Returned(Struct, frozen=True):
    """What one report means for one row."""

    key: str
    attempt: int
    sort: str
    """``hard``, ``soft``, ``policy``, ``quota``, ``unclear``, ``delayed``, ``success``, ``complaint``."""
    reason: str
    evidence: str
    """How the message that it is about was identified."""
    code: int | None = None
    enhanced: str = ""
    words: str = ""
    bounces: bool = False
    """Whether it makes the row bounced; otherwise it is only recorded."""
    current: bool = True
    """Whether it is about the row's present message."""


class MailSummary(Struct, frozen=True):
    """The reports about a campaign so far."""

    read: datetime | None = None
    """When the mailbox was last read; None: never."""
    sorts: Mapping[str, int] = {}
    """How many rows each kind of report is about; a row may be in several."""
    halted: str = ""
    """Why the campaign must not continue by itself; empty: it may."""


_SENT = """
SELECT a.id, a.key, a.row, a.address, a.message_id, a.at, a.reply, a.recipients, a.date, d.status,
    (SELECT c.message_id FROM attempt c WHERE c.id = d.attempt) = a.message_id
FROM attempt a JOIN delivery d ON d.campaign = a.campaign AND d.key = a.key
WHERE a.campaign = ?1 AND a.message_id <> ''
    AND a.status IN ('accepted', 'in_doubt', 'handing_over', 'deferred') AND {} ORDER BY a.id
"""
# The strings come in one parameter: a statement may have only so many. No index serves these queries, because
# it would slow down every message that is sent; they are made for many reports at a time.
_BY_ID = _SENT.format("substr(a.message_id, 2, 40) IN (SELECT value FROM json_each(?2))")
_BY_ADDRESS = _SENT.format("lower(a.address) IN (SELECT value FROM json_each(?2))")
_KNOWN = "SELECT mark FROM mail WHERE campaign = ?1 AND mark IN (SELECT value FROM json_each(?2))"
_MARK = "INSERT INTO mail (campaign, mark, kind, read) VALUES (?, ?, ?, ?) ON CONFLICT DO NOTHING"
_INSERT = """
INSERT INTO bounce (campaign, mark, key, attempt, kind, sort, reason, evidence, read, code, enhanced, words)
VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id
"""
_BOUNCE = """
UPDATE delivery SET status = 'bounced', bounce = ?3, updated = ?4, next_at = NULL, note = ''
WHERE campaign = ?1 AND key = ?2 AND status IN ('accepted', 'in_doubt')
"""
_SETTLE = """
UPDATE delivery SET status = 'accepted', updated = ?3, note = 'accepted: a report in the mailbox proves it'
WHERE campaign = ?1 AND key = ?2 AND status = 'in_doubt'
"""
_NOTE = "UPDATE delivery SET bounce = ?3 WHERE campaign = ?1 AND key = ?2 AND status = 'accepted'"
_REPLY_CHARACTERS = 1000


class BounceBook(CampaignBook):
    """The reports about one campaign; get one from `LedgerReader.bounces`."""

    def known(self, marks: Iterable[str]) -> set[str]:
        """Return which of these messages were counted before."""
        return {mark for (mark,) in self._db.rows(_KNOWN, (self._id, json.dumps([*marks])))}

    def with_ids(self, ids: Iterable[str]) -> dict[str, SentMessage]:
        """Return the latest attempt of each message whose Message-ID begins with one of these 40 digits."""
        return {sent.message_id[1:41]: sent for sent in self._sent(_BY_ID, ids)}

    def to_addresses(self, addresses: Iterable[str]) -> dict[str, list[SentMessage]]:
        """Return the attempts that went to these addresses, which are in lower case, oldest first."""
        found: dict[str, list[SentMessage]] = {}
        for sent in self._sent(_BY_ADDRESS, addresses):
            found.setdefault(sent.address.lower(), []).append(sent)
        return found

    def _sent(self, query: str, wanted: Iterable[str]) -> list[SentMessage]:
        texts = [*wanted]
        if not texts:
            return []
        rows = self._db.rows(query, (self._id, json.dumps(texts)))
        return [SentMessage.of(row) for row in rows]

    def record(self, mark: str, kind: str, returned: Sequence[Returned], *, halted: str = "") -> bool:
        """Record what one message of the mailbox means, durably and once.

        A report about a message proves that the server accepted it, which settles a row in doubt.

        Args:
            mark: identifies the message.
            kind: what it is.
            returned: what it means for rows; empty: it does not concern a row of this campaign.
            halted: why the campaign must not continue by itself.

        Returns:
            False: it had been recorded before.

        """
        now = self._now().timestamp()
        with self._db.transaction():
            if not self._db.execute(_MARK, (self._id, mark, kind, now)).rowcount:
                return False
            for one in returned:
                self._apply(mark, kind, one, now)
            if returned:
                self._db.execute("UPDATE campaign SET counts = '' WHERE id = ?", (self._id,))
            if halted:
                self._db.execute("UPDATE campaign SET halted = ? WHERE id = ?", (halted, self._id))
        return True

    def _apply(self, mark: str, kind: str, one: Returned, now: float) -> None:
        words = one.words[:_REPLY_CHARACTERS].encode("utf-8", "replace").decode()
        about = (one.key, one.attempt, kind, one.sort, one.reason, one.evidence, now, one.code, one.enhanced)
        (number,) = self._db.row(_INSERT, (self._id, mark, *about, words))
        if not one.current:
            return
        row = (self._id, one.key)
        if one.bounces:
            self._db.execute(_BOUNCE, (*row, number, now))
        else:
            self._db.execute(_SETTLE, (*row, now))
            self._db.execute(_NOTE, (*row, number))

    def first_handed_over(self) -> datetime | None:
        """Return when the first message was sent: no report is older; None: none was."""
        (at,) = self._db.row("SELECT min(at) FROM attempt WHERE campaign = ?", (self._id,))
        return moment(at)

    def looked(self) -> None:
        """Record that the mailbox was read."""
        cells = (self._now().timestamp(), self._id)
        with self._db.transaction():
            self._db.execute("UPDATE campaign SET mailbox = ? WHERE id = ?", cells)

    def go_on(self) -> None:
        """Let a halted campaign continue."""
        with self._db.transaction():
            self._db.execute("UPDATE campaign SET halted = '' WHERE id = ?", (self._id,))

    @property
    def halted(self) -> str:
        """Why the campaign must not continue by itself; empty: it may."""
        return str(self._db.row("SELECT halted FROM campaign WHERE id = ?", (self._id,))[0])

    def summary(self) -> MailSummary:
        """Return the number of reports so far."""
        read, halted = self._db.row("SELECT mailbox, halted FROM campaign WHERE id = ?", (self._id,))
        query = (
            "SELECT sort, count(DISTINCT key) FROM bounce WHERE campaign = ? GROUP BY sort ORDER BY 2 DESC"
        )
        sorts = {str(sort): int(count) for sort, count in self._db.rows(query, (self._id,))}
        return MailSummary(moment(read), sorts, str(halted))
