"""What came back: mail is read, each report is matched with what was sent, and recorded for its row.

**What we sent comes first.** A report counts for a row only if something in it is known to nobody but the
row's recipient and the servers on the way: our Message-ID, which is keyed with the campaign's secret, our own
field that repeats it, or the name that the server gave the message when it accepted it. Recipient and time
are good enough to record that a message came back, but never to suppress anybody; an address that appears in
running text is only a remark.

Nothing here needs the campaign's lock, so a run may be sending meanwhile; see `mailmerge.ledger.bounces`.
"""

from __future__ import annotations

import re
from itertools import islice
from pathlib import Path  # noqa: TC003  msgspec looks at the types of fields
from typing import TYPE_CHECKING

from msgspec import Struct, field

from mailmerge.bounces.mail_sources import ImapMailbox, letters
from mailmerge.bounces.reasons import HARD, QUOTA, SOFT
from mailmerge.bounces.report import SUCCESS, MailReport, read_report
from mailmerge.campaign.opening import open_beside
from mailmerge.campaign.suppression_store import SharedSuppressionStore, SuppressionStore, store_path
from mailmerge.clock import SystemClock
from mailmerge.errors import CampaignFileError
from mailmerge.ledger.bounces import Returned
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.mail_folders.mail_place import MailPlace, imap_place, named_place

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence
    from datetime import datetime

    from mailmerge.bounces.mail_sources import FoundMessage
    from mailmerge.bounces.report import Failure
    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.opening import OpenCampaign
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.bounces import SentMessage
    from mailmerge.sending.runs import StopFlag

_AT_A_TIME = 100
"""Messages whose rows are looked up together."""
_LATEST = 8 * 86400.0
"""Seconds after a hand-over within which a report that names no message may be about it: mail systems try for
five days, some for a week."""
SOFT_IN_A_ROW = 5
"""Messages to somebody that came back for now, one after another, until they are suppressed."""
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+=/@-]{7,200}")
_A_MOMENT = re.compile(r"\d{1,10}|\d{4}[-./]\d\d[-./]\d\d\S*")
_A_MACHINE = re.compile(
    r"\d{1,3}(?:\.\d{1,3}){3}|(?:[a-z0-9-]+\.)+[a-z]{2,}|[a-z0-9]*-?(?:smtp|mta|mx)[a-z0-9-]*", re.IGNORECASE
)
_NOTES = frozenset({"delayed", SUCCESS, "complaint", SOFT})

OUR_ID, QUEUE_ID, RECIPIENT_AND_DATE, RECIPIENT_AND_TIME, TEXT = (
    "message id",
    "queue id",
    "recipient and date",
    "recipient and time",
    "text",
)
"""The ways to find out which message a report is about, the surest first."""
_SURE = frozenset({OUR_ID, QUEUE_ID})


class BounceRequest(Struct, frozen=True):
    """Where to look for mail that came back; by default, the place that the account's `bounces` names."""

    imap: str | None = None
    """``imap.example.org`` or ``imaps://user@imap.example.org/INBOX``."""
    maildir: Path | None = None
    mbox: Path | None = None
    eml: Path | None = None
    """A file, or a folder of files, with one message each."""
    ask_secret: Callable[[str], str] | None = None


class Told(Struct, frozen=True):
    """What one message of the mailbox meant."""

    name: str
    """Where it is."""
    report: MailReport
    evidence: str = ""
    """How its message was found; empty: it is not about a message of this campaign."""
    returned: tuple[Returned, ...] = ()
    rows: tuple[int, ...] = ()
    suppressed: tuple[str, ...] = ()
    """Addresses that are suppressed because of it."""


class BounceSummary(Struct):
    """The result of reading the mailbox once."""

    looked_at: int = 0
    known: int = 0
    """Messages that were counted earlier."""
    foreign: int = 0
    """Reports about messages that this campaign did not send, or that are forged."""
    other: int = 0
    """Mail that is not a report."""
    waiting: int = 0
    """Reports about messages whose reply a run is still waiting for: they are read again next time."""
    sorts: dict[str, int] = field(default_factory=dict)
    """Rows by what was reported about them: ``hard``, ``soft``, ``policy``, ``quota``, ``delayed`` ..."""
    bounced: int = 0
    suppressed: int = 0
    """How many addresses are new in the suppression store."""
    halted: str = ""
    """Why the campaign must not continue by itself."""

    @property
    def exit_code(self) -> int:
        """5: the campaign is stopped; 3: messages came back; else 0."""
        return 5 if self.halted else 3 if self.bounced else 0


class Postman:
    """Reads the mail about one campaign: each `round` reads all places once.

    Args:
        definition: the campaign.
        request: where the mail is.
        account: who sent, for its mailbox and how to sign in there; None: not known.
        clock: the clock.
        stop: ends a round after the current message.

    Raises:
        CampaignFileError: no place is named, or one cannot be understood.

    """

    def __init__(
        self,
        definition: Definition,
        request: BounceRequest,
        account: Account | None,
        *,
        clock: Clock,
        stop: StopFlag,
    ) -> None:
        self._definition = definition
        self._clock = clock
        self._stop = stop
        self.places = _places(request, account)
        self._sources: list[Callable[[datetime | None], Iterable[FoundMessage]]] = []
        for place in self.places:
            self._sources.append(self._source(place, request, account))

    def _source(
        self, place: MailPlace, request: BounceRequest, account: Account | None
    ) -> Callable[[datetime | None], Iterable[FoundMessage]]:
        if place.form != "imap":
            return lambda _since: letters(place)
        from mailmerge.campaign.connect import mail_server

        mailbox = ImapMailbox(mail_server(place, account, self._definition.environment, request.ask_secret))
        return lambda since: mailbox.letters(since, self._stop.is_set)

    def round(self, tell: Callable[[Told], None]) -> BounceSummary:
        """Read all places once; call *tell* with each message that was not counted before.

        Raises:
            CampaignFileError: a place cannot be read.
            SessionError: the server of an IMAP mailbox cannot be reached, or refuses us.
            LedgerError: the ledger cannot be read or written.

        """
        summary = BounceSummary()
        with open_beside(self._definition, clock=self._clock) as opened:
            since = opened.ledger.bounces.first_handed_over()
            for source in self._sources:
                found = iter(source(since))
                while not self._stop.is_set() and (batch := list(islice(found, _AT_A_TIME))):
                    self._read(opened, batch, summary, tell)
            opened.ledger.bounces.looked()
            summary.halted = opened.ledger.bounces.halted
        return summary

    def _read(
        self,
        opened: OpenCampaign,
        batch: Sequence[FoundMessage],
        summary: BounceSummary,
        tell: Callable[[Told], None],
    ) -> None:
        summary.looked_at += len(batch)
        read = {
            report.mark: (letter.name, report) for letter in batch for report in [read_report(letter.raw)]
        }
        known = opened.ledger.bounces.known(read)
        summary.known += len(batch) - len(read) + len(known)
        fresh = [found for mark, found in read.items() if mark not in known]
        sent = _SentMessages(opened, [report for _, report in fresh], self._clock.now().timestamp())
        for name, report in fresh:
            told = self._take(opened, name, report, sent, summary)
            if told is not None:
                tell(told)

    def _take(
        self, opened: OpenCampaign, name: str, report: MailReport, sent: _SentMessages, summary: BounceSummary
    ) -> Told | None:
        """Record one message; return None if it was counted meanwhile, or is to be read again."""
        evidence, pairs = sent.about(report)
        if any(message.status == "handing_over" for _, message in pairs):
            summary.waiting += 1
            return None
        returned = tuple(_returned(report, failure, message, evidence) for failure, message in pairs)
        suppressed = tuple(self._suppress(opened, report, pairs, returned))
        quota = (one for one in returned if one.sort == QUOTA and one.bounces and one.evidence in _SURE)
        halted = next((one.words or one.reason for one in quota), "")
        if suppressed:
            reason = "complaint" if report.kind == "complaint" else returned[0].sort
            with SuppressionStore(store_path(self._definition.environment)) as store:
                day = self._clock.now().astimezone().date()
                source = f"bounces: {reason} ({self._definition.name})"
                summary.suppressed += store.add(suppressed, day=day, source=source)
            place = self._definition.ledger_place
            if isinstance(place, ServerPlace):  # workers have no store
                SharedSuppressionStore(place).add(suppressed, day=day, source=source)
        if not opened.ledger.bounces.record(report.mark, report.kind, returned, halted=halted):
            summary.known += 1
            return None
        _count(summary, report, returned)
        rows = tuple(message.row for _, message in pairs)
        return Told(name, report, evidence, returned, rows, suppressed)

    def _suppress(
        self,
        opened: OpenCampaign,
        report: MailReport,
        pairs: Sequence[tuple[Failure, SentMessage]],
        returned: Sequence[Returned],
    ) -> Iterator[str]:
        """Yield the addresses to be suppressed: none of them on a guess."""
        registry = opened.registry
        for (failure, message), one in zip(pairs, returned, strict=True):
            if one.evidence not in _SURE or registry is None:
                continue
            own = failure.address == message.address.lower() or failure.final == message.address.lower()
            if report.kind == "complaint" or (one.sort == HARD and own):
                yield message.address.lower()
            elif one.sort == SOFT and one.reason != "copy":
                times = registry.messages.came_back(message.address, message.message_id, message.at)
                if times >= SOFT_IN_A_ROW and own:
                    yield message.address.lower()
            elif one.sort in {SUCCESS, "auto_reply"}:
                registry.messages.arrived(message.address)


def _places(request: BounceRequest, account: Account | None) -> tuple[MailPlace, ...]:
    found = [imap_place(request.imap)] if request.imap is not None else []
    forms = (("maildir", request.maildir), ("mbox", request.mbox), ("eml", request.eml))
    found += [MailPlace(form, path) for form, path in forms if path is not None]  # type: ignore[arg-type]
    if not found and account is not None and account.bounces is not None:
        found = [named_place(account.bounces)]
    if not found:
        raise CampaignFileError(
            "no mailbox to read",
            code="B800",
            hint="name one with --imap, --maildir, --mbox or --eml, or write `bounces` in the account: "
            'bounces = "imaps://imap.example.org/INBOX"',
        )
    return tuple(found)


class _SentMessages:
    """The messages that some reports may be about, looked up together."""

    def __init__(self, opened: OpenCampaign, reports: Sequence[MailReport], now: float) -> None:
        book = opened.ledger.bounces
        self._by_id = book.with_ids({found for report in reports for found in report.ids})
        addresses = {
            address
            for report in reports
            for failure in report.failures
            for address in (failure.address, failure.final)
            if address
        }
        self._by_address = book.to_addresses(addresses)
        self._now = now

    def about(self, report: MailReport) -> tuple[str, list[tuple[Failure, SentMessage]]]:
        """Return which messages a report is about, and how that is known; none if it is not about ours."""
        if report.kind == "other":
            return "", []  # people answer, too
        ours = {found: self._by_id[found] for found in report.ids if found in self._by_id}
        if (returned := next((found for found in report.own_ids if found in ours), "")) and len(ours) > 1:
            ours = {returned: ours[returned]}
        if len({sent.key for sent in ours.values()}) == 1:
            return OUR_ID, _recipients(report, next(iter(ours.values())))
        if ours:  # several messages are named, and none of them is the one that came back
            return "", []
        for evidence, fits in (
            (QUEUE_ID, _names_queue_id),
            (RECIPIENT_AND_DATE, _has_date),
            (RECIPIENT_AND_TIME, self._is_in_time),
            (TEXT, self._is_text),
        ):
            pairs = [
                (failure, sent)
                for failure in report.failures
                for sent in self._candidates(failure)[-1:]
                if fits(report, sent)
            ]
            if pairs:
                return evidence, pairs
        return "", []

    def _candidates(self, failure: Failure) -> list[SentMessage]:
        return self._by_address.get(failure.address) or self._by_address.get(failure.final) or []

    def _is_in_time(self, report: MailReport, sent: SentMessage) -> bool:
        """Return whether it is a machine-readable report that names no other message, and is in time."""
        fits = report.kind == "report" and report.from_machine and not _names_another(report)
        return fits and 0 <= self._now - sent.at <= _LATEST

    def _is_text(self, report: MailReport, sent: SentMessage) -> bool:
        return report.kind == "prose" and not _names_another(report) and 0 <= self._now - sent.at <= _LATEST


def _names_another(report: MailReport) -> bool:
    """Return whether a report about none of our messages says which one it is about."""
    return bool(report.returned_id or report.own_ids)


def _recipients(report: MailReport, sent: SentMessage) -> list[tuple[Failure, SentMessage]]:
    """Pair a report's recipients with the message: the row's own recipient, if that is named."""
    own = sent.address.lower()
    named = [failure for failure in report.failures if own in {failure.address, failure.final}]
    return [(failure, sent) for failure in (named[:1] or report.failures[:1] or [_silent(report)])]


def _silent(report: MailReport) -> Failure:
    from mailmerge.bounces.report import Failure

    return Failure("", "delivered", report.kind, report.kind)


def _names_queue_id(report: MailReport, sent: SentMessage) -> bool:
    """Return whether the report has the name that the server gave the message when it accepted it."""
    said = " ".join(report.references)
    tokens = (token.strip(".") for token in _TOKEN.findall(sent.reply))
    return any(token in said for token in tokens if _names_a_message(token))


def _names_a_message(token: str) -> bool:
    """Return whether a word of a reply may be a message's name: those of machines and times occur often."""
    return (
        len(token) >= 8
        and any(map(str.isdigit, token))
        and _A_MOMENT.fullmatch(token) is None
        and _A_MACHINE.fullmatch(token) is None
    )


def _has_date(report: MailReport, sent: SentMessage) -> bool:
    """Return whether the returned message has our Date to the second: its Message-ID was changed."""
    return report.returned_at is not None and report.returned_at == float(int(sent.date))


def _returned(report: MailReport, failure: Failure, sent: SentMessage, evidence: str) -> Returned:
    """Return what a report means for a row."""
    sort, reason = failure.sort, failure.reason
    copy = (
        sent.recipients > 1
        and bool(failure.address)
        and sent.address.lower()
        not in (
            failure.address,
            failure.final,
        )
    )
    if copy:
        reason = "copy"
    is_report = report.kind in {"report", "prose"}
    bounces = (
        is_report and failure.action == "failed" and sort not in _NOTES and evidence != TEXT and not copy
    )
    return Returned(
        key=sent.key,
        attempt=sent.attempt,
        sort=sort,
        reason=reason,
        evidence=evidence,
        code=failure.code,
        enhanced=failure.enhanced,
        words=failure.words,
        bounces=bounces,
        current=sent.current,
    )


def _count(summary: BounceSummary, report: MailReport, returned: Sequence[Returned]) -> None:
    if not returned:
        if report.kind in {"report", "prose", "complaint"}:
            summary.foreign += 1
        else:
            summary.other += 1
        return
    for one in returned:
        summary.sorts[one.sort] = summary.sorts.get(one.sort, 0) + 1
        summary.bounced += one.bounces and one.current


def postman(
    definition: Definition,
    request: BounceRequest,
    *,
    clock: Clock | None = None,
    stop: StopFlag | None = None,
) -> Postman:
    """Make a `Postman` for the campaign's own account, if it has one: a file can be read without."""
    from mailmerge.campaign.connect import find_account
    from mailmerge.sending.runs import NeverStop

    account = None
    try:
        account = find_account(definition)
    except CampaignFileError:
        if definition.file.account is not None:
            raise
    return Postman(definition, request, account, clock=clock or SystemClock(), stop=stop or NeverStop())
