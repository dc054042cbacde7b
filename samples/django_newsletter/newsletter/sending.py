"""From rows of the database to a campaign, and from its outcomes back to the database."""

from collections.abc import Callable

from django.conf import settings

from mailmerge import Account, Campaign, Settlement
from newsletter.models import Delivery, Mailing, Reader


def campaign_of(mailing: Mailing) -> Campaign:
    """Describe a mailing to all who want it; its state folder knows who has got it already.

    Raises:
        mailmerge.ListError: nobody wants it.

    """
    readers = Reader.objects.filter(subscribed=True).order_by("pk")
    return Campaign.from_rows(
        readers.values("id", "email", "name").iterator(),
        subject=mailing.subject,
        text=mailing.text,
        sender=settings.NEWSLETTER_FROM,
        key="id",  # a reader with a new address is the same reader
        account=Account(
            host=settings.NEWSLETTER_SERVER,
            port=settings.NEWSLETTER_PORT,
            user=settings.NEWSLETTER_USER,
            secret=lambda: settings.NEWSLETTER_SECRET,
            any_from=True,
        ),
        state=settings.NEWSLETTER_STATE / mailing.slug,
        folder=settings.NEWSLETTER_STATE,
    )


def recorder(mailing: Mailing) -> Callable[[Settlement], None]:
    """Make what writes each outcome into the database; the ledger in the state folder knows it already."""

    def record(settlement: Settlement) -> None:
        Delivery.objects.update_or_create(
            mailing=mailing,
            reader_id=int(settlement.attempt.key),
            defaults={"status": str(settlement.status), "reply": str(settlement.outcome.reply or "")},
        )

    return record
