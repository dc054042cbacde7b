"""Test messages: what a row would get, sent to oneself; no row's state changes."""

from __future__ import annotations

import contextlib
import secrets
from datetime import datetime
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.addresses import Address, AddressError, Mailbox
from mailmerge.campaign.connect import connection_factory
from mailmerge.campaign.run import account_key, all_rates, find_account, open_ledger, open_transcript
from mailmerge.campaign.send_one import hand_over
from mailmerge.clock import SystemClock
from mailmerge.errors import CampaignFileError, SessionError
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.locks import AccountLock
from mailmerge.recipients import parse_rows
from mailmerge.sending.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.campaign.campaign import Campaign
    from mailmerge.campaign.run import SendRequest
    from mailmerge.config.accounts import Account
    from mailmerge.model import Message, Status
    from mailmerge.sending.runs import StopFlag

HEADER = "X-Mailmerge-Test"


class TestResult(Struct, frozen=True):
    """What became of one test message."""

    __test__ = False  # not a test of ours, whatever its name

    row: int
    status: Status
    reply: str
    to: str
    meant_for: str


class TestReport(Struct, frozen=True):
    """What became of all test messages."""

    __test__ = False

    results: tuple[TestResult, ...]
    error: SessionError | None = None


def send_tests(campaign: Campaign, request: SendRequest, me: str | None, *, stop: StopFlag) -> TestReport:
    """Send the messages of the chosen rows (default: the first) to *me*.

    Raises:
        MailmergeError: nothing was sent.

    """
    mine = _mine(me or campaign.environment.get("SMTP_TO"))
    account = find_account(campaign, request)
    messages = list(_messages(campaign, request, account, mine))
    if not messages:
        raise CampaignFileError(
            "no row was chosen that could be sent", code="C484", hint="see `mailmerge check`"
        )
    clock = SystemClock()
    with contextlib.ExitStack() as stack:
        ledger = open_ledger(campaign, stack, clock)
        usage = stack.enter_context(AccountUsage(campaign.workspace.user_state / "usage.db"))
        stack.enter_context(AccountLock(campaign.workspace.user_state, account_key(account)))
        transcript = open_transcript(request, stack)
        limits = (account.quota,) if account.quota else ()
        quota = usage.quota(account_key(account), limits, clock)
        throttle = Throttle(all_rates(account, campaign.file.send.rate))
        ledger.start_run("test")
        connection = connection_factory(
            account,
            campaign.environment,
            prompt=request.ask_secret,
            transcript=transcript,
        )()
        results: list[TestResult] = []
        error: SessionError | None = None
        try:
            connection.open()
            for message, meant_for in messages:
                if stop.is_set():
                    break
                if quota.reserve(1) is None:
                    raise CampaignFileError("the account's own limit is reached", code="C483")
                quota.commit()
                clock.sleep(throttle.delay(clock.monotonic()))
                throttle.take(clock.monotonic())
                outcome = hand_over(connection, message)
                reply = str(outcome.reply or outcome.reason)
                results.append(TestResult(message.row, outcome.status, reply, str(mine), meant_for))
        except SessionError as failed:
            error = failed
        finally:
            connection.close()
        counts = {
            str(status): sum(r.status is status for r in results) for status in {r.status for r in results}
        }
        ledger.finish_run("finished" if error is None else "refused", counts)
        return TestReport(tuple(results), error)


def _mine(text: str | None) -> Address:
    if not text:
        raise CampaignFileError(
            "whom is the test for?", code="C485", hint="add --to you@example.org, or set SMTP_TO"
        )
    try:
        return Address.parse(text)
    except AddressError as error:
        raise CampaignFileError(
            f"{text!r} is not an address: {error}", code="C485", hint=error.suggestion
        ) from None


def _messages(
    campaign: Campaign, request: SendRequest, account: Account, mine: Address
) -> Iterator[tuple[Message, str]]:
    selection = parse_rows(request.rows) if request.rows else None
    recipients = campaign.open_list()
    composer = campaign.assemble(recipients, secrets.token_bytes(32), account)
    for recipient in recipients:
        if selection is not None and recipient.row not in selection:
            continue
        rendered = composer.render(recipient)
        meant_for = ", ".join(str(mailbox.address) for mailbox in rendered.to)
        test = replace(
            rendered,
            to=(Mailbox("", mine),),
            cc=(),
            bcc=(),
            headers=(*rendered.headers, (HEADER, f"row {recipient.row}")),
        )
        yield composer.test_message(test, secrets.token_hex(8), datetime.now().astimezone()), meant_for
        if selection is None:
            return
