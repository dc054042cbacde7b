"""One run: plan, throttle, connections and sender put together around one ledger.

Sending, rehearsing and testing differ only in what they hand in: which ledger, which clock, which server.
"""

from __future__ import annotations

import random
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct, field
from msgspec.structs import replace

from mailmerge.campaign.composer import identity
from mailmerge.errors import ListError, RowError
from mailmerge.sending.runs import Work

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from mailmerge.campaign.composer import Composer
    from mailmerge.campaign.plan import Plan
    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.ledger.account_usage import AccountQuota
    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import Delivery, Rate, Recipient
    from mailmerge.options import SendOptions
    from mailmerge.recipients import RecipientList, RowSelection
    from mailmerge.sending.connections import Wire
    from mailmerge.sending.runs import Progress, RunEnd, StopFlag
    from mailmerge.sending.throttle import Throttle

_PAGE = 1000


class Delivering(Struct):
    """The parts of one run."""

    ledger: Ledger
    recipients: RecipientList
    composer: Composer
    account: Account
    send: SendOptions
    clock: Clock
    stop: StopFlag
    rates: tuple[Rate, ...] = ()
    quota: AccountQuota | None = None
    history: Iterable[float] = ()
    selection: RowSelection | None = None
    limit: int | None = None
    sessions: int = 1
    skipped: list[RowError] = field(default_factory=list)

    def chosen(self) -> Iterator[Delivery]:
        """Yield the deliveries of this run, in the list's order."""
        after, count = 0, 0
        now = self.clock.now()
        while batch := self.ledger.due(now, after_row=after, limit=_PAGE):
            for delivery in batch:
                if self.limit is not None and count >= self.limit:
                    return
                if self.selection is None or delivery.row in self.selection:
                    count += 1
                    yield delivery
            after = batch[-1].row

    def complete(self, plan: Plan) -> Plan:
        """Add to the plan what this run would send."""
        to_send, first, last = 0, "", ""
        for delivery in self.chosen():
            to_send += 1
            first = first or delivery.address
            last = delivery.address
        account = self.account
        return replace(
            plan,
            counts=self.ledger.counts(),
            to_send=to_send,
            first=first,
            last=last,
            via=f"{account.host} as {account.user}" if account.user else account.host,
            rates=self.rates,
            per_domain=self.send.per_domain,
            pipeline=account.pipeline,
            sessions=self.sessions,
            quota=account.quota,
            quota_used=self._quota_used(),
            deferred_until=self.ledger.next_due(),
            in_doubt=rows_in_doubt(self.ledger),
        )

    def _quota_used(self) -> int:
        left = self.quota.left() if self.quota else None
        return 0 if left is None or self.account.quota is None else self.account.quota.count - left

    def work(self) -> Iterator[Work]:
        """Yield the messages of this run, each rendered when the sender asks for it."""
        wanted = self.chosen()
        delivery = next(wanted, None)
        if delivery is None:
            return
        for recipient in self.recipients:
            if recipient.row < delivery.row:
                continue
            work = self._work(recipient, delivery)
            if work:
                yield work
            delivery = next(wanted, None)
            if delivery is None:
                return

    def _work(self, recipient: Recipient, delivery: Delivery) -> Work | None:
        try:
            rendered = self.composer.render(recipient)
            if recipient.row != delivery.row or identity(rendered) != delivery.key:
                raise ListError(
                    f"{self.recipients.shown} changed while it was being sent (row {delivery.row})",
                    code="D125",
                    hint="run the same command again: it continues with the list as it is now",
                )
            date = delivery.date or self.clock.now().astimezone().replace(microsecond=0)
            message = self.composer.message(rendered, date)
        except RowError as error:
            # It was fine in the pre-flight: an attachment has gone since. The row stays pending.
            self.skipped.append(error)
            return None
        return Work(
            message=message,
            number=delivery.attempts + 1,
            address=delivery.address,
            date=date,
            row_digest=recipient.digest(),
            version=self.composer.version,
            first_attempt=delivery.first_attempt,
        )

    def run(
        self,
        connect: Callable[[], Wire],
        observe: Callable[[Progress], None],
        *,
        wait: bool = False,
        mark: Callable[[int], None] | None = None,
    ) -> RunEnd:
        """Send, and say why it ended; the messages are made as they are needed."""
        from mailmerge.sending.circuit_breaker import Breaker
        from mailmerge.sending.retry import RetryPolicy
        from mailmerge.sending.sender import Sender

        self.ledger.note_version(self.composer.version, self.composer.parts)
        sender = Sender(
            self.ledger.attempts,
            connect,
            self._throttle(),
            self.clock,
            usage=self.quota,
            retry=RetryPolicy(self.send.retry),
            breaker=Breaker(self.send.max_rejected),
            stop=self.stop,
            observe=observe,
            random=random.random,
            sessions=self.sessions,
            wait=wait,
            mark=mark,
        )
        return sender.run(self.work())

    def _throttle(self) -> Throttle:
        from mailmerge.sending.throttle import Throttle

        per_domain = self.send.per_domain
        now, steady = self.clock.now(), self.clock.monotonic()
        earlier = self.ledger.recent(now - longest_window(per_domain)) if per_domain else ()
        return Throttle(
            self.rates,
            self.history,
            jitter=self.send.jitter,
            random=random.random,
            per_domain=per_domain,
            domain_history=[
                (address.rpartition("@")[2].lower(), steady - (now - moment).total_seconds())
                for address, moment in earlier
            ],
        )


def throttle_history(moments: Iterable[datetime], clock: Clock) -> Iterator[float]:
    """Translate wall-clock times into the clock's steady seconds."""
    now, steady = clock.now(), clock.monotonic()
    for moment in moments:
        yield steady - (now - moment).total_seconds()


def longest_window(rates: Iterable[Rate]) -> timedelta:
    """Give the span that a warm start has to look back."""
    return timedelta(seconds=max((rate.seconds for rate in rates), default=0.0))


def rows_in_doubt(ledger: Ledger, most: int = 12) -> tuple[int, ...]:
    """Give the numbers of the first rows that a person has to decide about."""
    return tuple(result.row for result in ledger.in_doubt(most) if result.row is not None)
