"""Test messages: what a row would get, sent to oneself; no row's state changes."""

from __future__ import annotations

import secrets
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.addresses import Address, AddressError, Mailbox
from mailmerge.campaign.connect import (
    Transcript,
    connection_factory,
    find_account,
    hand_over_unless,
    open_unless,
)
from mailmerge.campaign.opening import Access, open_run
from mailmerge.campaign.preflight import check_sender
from mailmerge.clock import SystemClock
from mailmerge.errors import AuthError, CampaignFileError, LedgerError, SessionError, TlsError
from mailmerge.ledger.locks import LockWait
from mailmerge.model import Counts, Message, Status
from mailmerge.plan.composer import identifier
from mailmerge.plan.groups import messages_of
from mailmerge.recipients import parse_rows
from mailmerge.recipients.list_survey import typed_rows
from mailmerge.sending.runs import Reason, RunEnd
from mailmerge.sending.throttle import Throttle, all_rates
from mailmerge.suggest import suggested
from mailmerge.text import rows_named
from mailmerge.unsubscribe import STAND_IN

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from mailmerge.campaign.definition import Definition
    from mailmerge.campaign.run import SendRequest
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.account_usage import AccountQuota
    from mailmerge.model import Recipient, Rendered
    from mailmerge.sending.runs import StopFlag
    from mailmerge.smtp.connection import Connection

HEADER = "X-Mailmerge-Test"
_UNSUBSCRIBE = frozenset({"list-unsubscribe", "list-unsubscribe-post"})
_LEFT_OUT = _UNSUBSCRIBE | {"disposition-notification-to"}
"""Headers left out of tests: a click would count as the recipient's, a receipt would be about them."""


class TrialMessage(Struct, frozen=True):
    """One row's message, addressed to oneself."""

    message: Message
    meant_for: str
    """Who would get it otherwise."""
    left_out: tuple[str, ...]
    """The headers that the row's own message has and this one does not."""
    rows: tuple[int, ...] = ()
    """The rows that it is for."""


class TrialResult(Struct, frozen=True):
    """What happened to one test message."""

    row: int
    status: Status
    reply: str
    to: str
    meant_for: str
    left_out: tuple[str, ...] = ()
    """The headers that the row's own message has and the test does not."""
    rows: tuple[int, ...] = ()
    """All rows that the message is for; *row* is the first of them."""


class TrialReport(Struct, frozen=True):
    """What happened to all test messages: those without a result were not sent."""

    results: tuple[TrialResult, ...]
    end: RunEnd
    """Why no more were sent."""
    left: int = 0
    """How many were not sent."""


def send_tests(
    definition: Definition, request: SendRequest, me: str | None, *, stop: StopFlag
) -> TrialReport:
    """Send the messages of the chosen rows (default: the first) to *me*.

    Raises:
        MailmergeError: nothing was sent.

    """
    mine = _mine(me or definition.environment.real.get("SMTP_TO"))
    account = find_account(definition, ca_file=request.ca_file)
    messages = list(_messages(definition, request, account, mine))
    if not messages:
        raise CampaignFileError(
            "no row was chosen that could be sent",
            code="C484",
            hint=f"to see why: {suggested(definition.invocation, 'check')}",
        )
    clock = SystemClock()
    wait = LockWait(request.wait_lock, stop.is_set)
    with open_run(definition, Access.TRIAL, clock=clock, wait=wait) as opened:
        opened.lock_account(account, wait=wait)
        if request.begun is not None:
            request.begun()
        with Transcript(request.transcript) as transcript:
            connection = connection_factory(
                account,
                definition.environment,
                prompt=request.ask_secret,
                transcript=transcript.write,
                deadlines=request.deadlines,
                give_up=stop.is_set,
            )()
            throttle = Throttle(all_rates(account.rate, definition.file.send.rate))
            trial = _TestRun(connection, throttle, opened.quota(account), clock, stop)
            opened.ledger.start_run("test")
            end = trial.run(messages)
            end = replace(end, notes=(*end.notes, *transcript.notes()))
            counts = {str(status): count for status, count in end.counts.by_status.items()}
            opened.ledger.finish_run(str(end.reason), counts)
        return TrialReport(tuple(trial.results), end, len(messages) - len(trial.results))


_STOPPED = RunEnd(Reason.INTERRUPTED, "stopped on request")


class _TestRun:
    """Sends test messages one after another; whatever ends that, the results so far are kept."""

    def __init__(
        self,
        connection: Connection,
        throttle: Throttle,
        quota: AccountQuota | None,
        clock: Clock,
        stop: StopFlag,
    ) -> None:
        self._connection = connection
        self._throttle = throttle
        self._quota = quota
        self._clock = clock
        self._stop = stop
        self.results: list[TrialResult] = []

    def run(self, messages: Sequence[TrialMessage]) -> RunEnd:
        """Send them, and return why it ended."""
        end = RunEnd(Reason.FINISHED)
        try:
            if not open_unless(self._connection, self._stop.is_set):
                end = _STOPPED
                messages = ()
            for test in messages:
                held = self._held_back() or self._send(test)
                if held is not None:
                    end = held
                    break
        except (SessionError, LedgerError) as error:
            end = RunEnd(_reason(error), error.message, error.hint, error)
        finally:
            self._connection.close()
        statuses = [result.status for result in self.results]
        return replace(end, counts=Counts({status: statuses.count(status) for status in {*statuses}}))

    def _held_back(self) -> RunEnd | None:
        """Check whether another message may be sent, and count it; None: it may."""
        if self._stop.is_set():
            return _STOPPED
        if self._quota is None:
            return None
        if self._quota.reserve(1) is None:
            error = CampaignFileError("the account's own limit is reached", code="C483")
            return RunEnd(Reason.QUOTA, error=error, next_at=self._quota.free_at(1))
        self._quota.commit()
        return None

    def _send(self, test: TrialMessage) -> RunEnd | None:
        """Send one; return why nothing more is sent, or None if more may be."""
        self._throttle_down()
        message = test.message
        outcome = hand_over_unless(self._connection, message, self._stop.is_set)
        if outcome is None:
            return _STOPPED
        if outcome.status is Status.ACCEPTED and self._quota is not None:
            self._quota.forget_refusal()
        reply = str(outcome.reply or outcome.reason)
        to = str(message.envelope.rcpt_to[0])
        self.results.append(
            TrialResult(message.row, outcome.status, reply, to, test.meant_for, test.left_out, test.rows)
        )
        return None

    def _throttle_down(self) -> None:
        """Wait until the rates allow the next one, or until a stop."""
        until = self._clock.monotonic() + self._throttle.delay(self._clock.monotonic())
        while (left := until - self._clock.monotonic()) > 0 and not self._stop.is_set():
            self._clock.sleep(min(left, 0.2))
        self._throttle.take(self._clock.monotonic())


def _reason(error: SessionError | LedgerError) -> Reason:
    if isinstance(error, LedgerError):
        return Reason.LEDGER
    return Reason.REFUSED if isinstance(error, AuthError | TlsError) else Reason.NETWORK


def _mine(text: str | None) -> Address:
    if not text:
        raise CampaignFileError(
            "no address to send the test to", code="C485", hint="add --to you@example.org, or set SMTP_TO"
        )
    try:
        return Address.parse(text)
    except AddressError as error:
        raise CampaignFileError(
            f"{text!r} is not a valid address: {error}", code="C485", hint=error.suggestion
        ) from None


def _unsubscribes_nobody(rendered: Rendered) -> bool:
    """Return whether each address in List-Unsubscribe has our token, which is a test's until it is sent."""
    values = [value for name, value in rendered.headers if name.lower() == "list-unsubscribe"]
    return bool(values) and all(STAND_IN in uri for value in values for uri in value.split(","))


def _messages(
    definition: Definition, request: SendRequest, account: Account, mine: Address
) -> Iterator[TrialMessage]:
    selection = parse_rows(request.rows) if request.rows else None
    recipients = definition.open_list()
    composer, secret = definition.composer(recipients, account), secrets.token_bytes(32)
    used = composer.renderer.used_names
    rows: Iterable[Recipient] = typed_rows(recipients, used)
    if composer.groups:
        rows = messages_of(composer, lambda: typed_rows(recipients, used), selection)
    for recipient in rows:
        if selection is not None and not selection.names(recipient.row, recipient.rows):
            continue
        rendered = composer.render(recipient)
        check_sender(definition, account, str(rendered.from_.address))
        meant_for = ", ".join(str(mailbox.address) for mailbox in rendered.to)
        dropped = _LEFT_OUT - _UNSUBSCRIBE if _unsubscribes_nobody(rendered) else _LEFT_OUT
        kept = tuple((name, value) for name, value in rendered.headers if name.lower() not in dropped)
        copies = (("Cc", rendered.cc), ("Bcc", rendered.bcc))
        left_out = [name for name, boxes in copies if boxes]
        left_out += [name for name, value in rendered.headers if value and name.lower() in dropped]
        test = replace(
            rendered,
            to=(Mailbox("", mine),),
            cc=(),
            bcc=(),
            headers=(*kept, (HEADER, rows_named(recipient.rows))),
        )
        # It belongs to no row: not even the Message-ID is the one that the row's message will have.
        frozen = composer.freeze(test, key=secrets.token_hex(8))
        message = composer.thaw(
            frozen, message_id=identifier(secret, frozen), date=datetime.now().astimezone()
        )
        yield TrialMessage(message, meant_for, tuple(left_out), recipient.rows)
        if selection is None:
            return
