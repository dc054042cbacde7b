"""A page that shows what a mailing would send, before anybody sends it."""

import email
import email.policy
from itertools import islice

from django.contrib.auth.decorators import permission_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render

from mailmerge import MailmergeError, Message
from newsletter.models import Mailing
from newsletter.sending import campaign_of


@permission_required("newsletter.change_mailing", raise_exception=True)
def mailing_plan(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the plan and its first messages; a POST approves the mailing, for the next run of the command.

    Sending takes longer than a request should, so that it is the command's work.
    """
    mailing = get_object_or_404(Mailing, slug=slug)
    try:
        plan = campaign_of(mailing).plan()
        messages = [_shown(message) for message in islice(plan.messages(), 3)]
    except MailmergeError as error:
        return render(request, "newsletter/plan.html", {"mailing": mailing, "error": error}, status=422)
    if request.method == "POST":
        Mailing.objects.filter(pk=mailing.pk).update(approved=True)
        return redirect("plan", slug=slug)
    problems = [group.first for group in plan.problems]
    facts = {"mailing": mailing, "plan": plan, "messages": messages, "problems": problems}
    return render(request, "newsletter/plan.html", facts)


def _shown(message: Message) -> dict[str, str]:
    """Take a message apart, from the octets that go out, as a mail program does."""
    parsed = email.message_from_bytes(message.content, policy=email.policy.default)
    body = parsed.get_body(("plain",))
    text = body.get_content() if body else ""
    return {"to": str(parsed["To"]), "subject": str(parsed["Subject"]), "text": text}
