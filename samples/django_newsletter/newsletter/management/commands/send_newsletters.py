"""Send every approved mailing to those who have not got it yet: ``python manage.py send_newsletters``."""

from django.core.management.base import BaseCommand, CommandError

from mailmerge import MailmergeError
from newsletter.models import Mailing
from newsletter.sending import campaign_of, recorder


class Command(BaseCommand):
    """Run from cron: what a run leaves over, the next one sends."""

    help = "Send every approved mailing to those who have not got it yet."

    def handle(self, **_options: object) -> None:
        """Send."""
        for mailing in Mailing.objects.filter(approved=True).order_by("pk"):
            try:
                campaign = campaign_of(mailing)
                plan = campaign.plan()
                self.stdout.write(f"{mailing}: {plan.to_send} to send")
                if not plan.to_send:
                    continue
                report = campaign.send(plan, on_outcome=recorder(mailing))
            except MailmergeError as error:
                raise CommandError(f"{mailing}: nothing sent: {error}. {error.hint or ''}") from error
            if report is not None:
                states = ", ".join(f"{number} {status}" for status, number in report.counts.by_status.items())
                self.stdout.write(f"{mailing}: {states}")
