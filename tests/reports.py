"""Reports that mail systems might send back, made for a test: delivery reports, complaints, answers."""

from __future__ import annotations

from textwrap import dedent


def delivery_report(  # noqa: PLR0913  each is named where it matters
    message_id: str = "",
    *,
    address: str = "bo@example.net",
    action: str = "failed",
    status: str = "5.1.1",
    said: str = "smtp; 550 5.1.1 <bo@example.net>: no such user here",
    original: str = "",
    fields: str = "",
    returned: str | None = None,
    number: int = 1,
) -> bytes:
    """Make a report in the form of RFC 3464; *returned* is the header of the message that came back."""
    if returned is None:
        returned = f"From: me@example.org\nTo: {address}\nSubject: Hello\n"
        returned += f"Message-ID: {message_id}\n" if message_id else ""
    to = f"Original-Recipient: rfc822;{original}\n" if original else ""
    return (
        f"Return-Path: <>\nFrom: MAILER-DAEMON@mx.example.org (Mail Delivery System)\nTo: me@example.org\n"
        f"Subject: Undelivered Mail Returned to Sender\nMessage-ID: <report{number}@mx.example.org>\n"
        "Date: Fri, 27 Nov 2026 10:00:00 +0000\nMIME-Version: 1.0\n"
        'Content-Type: multipart/report; report-type=delivery-status; boundary="=_b"\n\n'
        "--=_b\nContent-Type: text/plain; charset=us-ascii\n\nYour message could not be delivered.\n\n"
        "--=_b\nContent-Type: message/delivery-status\n\n"
        f"Reporting-MTA: dns; mx.example.org\n{fields}\n"
        f"Final-Recipient: rfc822; {address}\n{to}Action: {action}\nStatus: {status}\n"
        f"Diagnostic-Code: {said}\n\n"
        f"--=_b\nContent-Type: text/rfc822-headers\n\n{returned}\n--=_b--\n"
    ).encode()


def complaint(message_id: str, *, kind: str = "abuse", address: str = "bo@example.net") -> bytes:
    """Make a complaint in the form of RFC 5965."""
    return dedent(f"""\
        From: feedback@mail.example.net
        To: me@example.org
        Subject: complaint about a message
        Message-ID: <complaint@mail.example.net>
        Content-Type: multipart/report; report-type=feedback-report; boundary=c

        --c
        Content-Type: text/plain

        This is an email abuse report.

        --c
        Content-Type: message/feedback-report

        Feedback-Type: {kind}
        User-Agent: Some-Feedback/1.0
        Version: 1
        Original-Rcpt-To: {address}

        --c
        Content-Type: message/rfc822

        From: me@example.org
        To: {address}
        Message-ID: {message_id}

        hello
        --c--
        """).encode()


def answer(message_id: str) -> bytes:
    """Make the answer of somebody who is away (RFC 3834)."""
    return dedent(f"""\
        From: Bo <bo@example.net>
        To: me@example.org
        Subject: Out of office: Hello
        Auto-Submitted: auto-replied
        In-Reply-To: {message_id}
        Message-ID: <away@example.net>

        I am away until Monday. For orders write to orders@example.net.
        """).encode()
