"""Replies: parsing however the bytes are cut, and what every refusal we know of means."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.addresses import Address
from mailmerge.errors import ProtocolError
from mailmerge.model import Envelope, Outcome, Phase, Reply, Scope, Status
from mailmerge.smtp.replies import ReplyParser, classify, too_large, unanswered

ROW, CONNECTION, ACCOUNT, CONFIG = Scope.ROW, Scope.CONNECTION, Scope.ACCOUNT, Scope.CONFIG
PENDING, DEFERRED, REJECTED = Status.PENDING, Status.DEFERRED, Status.REJECTED
AUTH, MAIL, RCPT, DATA, CONTENT = Phase.AUTH, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.CONTENT
HOUR, DAY = 3600, 86400


def parse(data: bytes) -> list[Reply]:
    """Parse *data* in one piece."""
    return list(ReplyParser().feed(data))


# --- parsing ---------------------------------------------------------------------------------------------


def test_one_line() -> None:
    """A reply has a code, an enhanced code and its text."""
    (reply,) = parse(b"250 2.1.0 Sender ok\r\n")
    assert (reply.code, reply.enhanced, reply.text, reply.severity) == (250, (2, 1, 0), "Sender ok", 2)
    assert reply.raw == b"250 2.1.0 Sender ok\r\n"
    assert str(reply) == "250 2.1.0 Sender ok"


def test_many_lines() -> None:
    """Lines of one reply belong together; each repeats the enhanced code."""
    (reply,) = parse(
        b"550-5.4.5 Daily user sending limit exceeded.\r\n550-5.4.5  See\r\n550 5.4.5 help x\r\n"
    )
    assert reply.lines == ("Daily user sending limit exceeded.", "See", "help x")
    assert reply.enhanced == (5, 4, 5)


@pytest.mark.parametrize(
    ("line", "enhanced", "text"),
    [
        (b"250\r\n", None, ""),
        (b"250 \r\n", None, ""),
        (b"220 2.3.4.5 ready\r\n", None, "2.3.4.5 ready"),
        (b"550 4.1.1 class differs\r\n", None, "4.1.1 class differs"),
        (b"561 Honeypot\r\n", None, "Honeypot"),
        (b"550 5.1.1\r\n", (5, 1, 1), ""),
        ("550 用户不存在\r\n".encode(), None, "用户不存在"),
        ("550 用户不存在\r\n".encode("gbk"), None, "用户不存在"),
        (b"550 caf\xe9\r\n", None, "café"),
    ],
)
def test_b4_unusual_but_sound(line: bytes, enhanced: tuple[int, int, int] | None, text: str) -> None:
    """Short replies, foreign codes and foreign encodings are read; the raw bytes are kept."""
    (reply,) = parse(line)
    assert (reply.enhanced, reply.text, reply.raw) == (enhanced, text, line)


@pytest.mark.parametrize(
    "data",
    [
        b"2xx ok\r\n",
        b"\r\n",
        b"25\r\n",
        b"2500 ok\r\n",
        b"150 ok\r\n",
        b"650 ok\r\n",
        b"250 only LF\n",
        b"250 NUL \0\r\n",
        b"250-a\r\n550 b\r\n",
        b"250-a\r\nb\r\n",
        b"HTTP/1.1 400 Bad Request\r\n",
        b"\x16\x03\x01",
        b"250-x\r\n" * 101,
        b"250 " + b"x" * 70_000,
        b"250 " + b"x" * 70_000 + b"\r\n",
        (b"250-" + b"x" * 1000 + b"\r\n") * 70,
    ],
)
def test_b3_b4_no_reply(data: bytes) -> None:
    """What is not a reply, or does not end, is a protocol error."""
    with pytest.raises(ProtocolError):
        parse(data)


def test_complete_replies_come_before_the_error() -> None:
    """Replies before the garbage are given out first."""
    assert [r if isinstance(r, str) else r.code for r in run([b"250 a\r\n550 b\r\nbad\r\n"])] == [
        250,
        550,
        "S630",
    ]


def run(pieces: list[bytes]) -> list[Reply | str]:
    """Return the replies to *pieces*, and the error if there was one."""
    parser = ReplyParser()
    found: list[Reply | str] = []
    try:
        for piece in pieces:
            found.extend(parser.feed(piece))
    except ProtocolError as error:
        found.append(error.code)
    return found


lines = st.one_of(
    st.sampled_from(
        [b"250 ok\r\n", b"250-a\r\n250-b\r\n250 c\r\n", b"550 5.1.1 no\r\n", b"bad\r\n", b"\0", b"\x15"]
    ),
    st.binary(max_size=12),
)


@given(st.lists(lines, max_size=6).map(b"".join), st.lists(st.integers(0, 100), max_size=6))
def test_b15_any_split_is_the_same(data: bytes, cuts: list[int]) -> None:
    """However bytes are cut, the same replies come out; garbage raises nothing but ProtocolError."""
    points = sorted({min(cut, len(data)) for cut in cuts} | {0, len(data)})
    pieces = [data[a:b] for a, b in itertools.pairwise(points)]
    octets = [data[i : i + 1] for i in range(len(data))]
    whole = [reply for reply in run([data]) if isinstance(reply, Reply)]
    assert [reply for reply in run(pieces) if isinstance(reply, Reply)] == whole
    assert run(octets) == run([data])


# --- meaning: every row of the table ---------------------------------------------------------------------

TABLE = [
    # connection
    ("421 Service closing", MAIL, CONNECTION, PENDING, "server", None),
    ("421 4.3.0 try later", MAIL, CONNECTION, PENDING, "server", None),
    ("421 4.4.5 system busy", RCPT, CONNECTION, PENDING, "server", None),
    ("451 4.3.0 temporary problem", CONTENT, CONNECTION, PENDING, "server", None),
    ("421 4.7.0 mx Error: too many errors", RCPT, CONNECTION, PENDING, "errors", None),
    ("450 MI:DMC", MAIL, CONNECTION, PENDING, "connection_cap", None),
    ("451 RP:DRC", MAIL, CONNECTION, PENDING, "connection_cap", None),
    ("421 Too many messages in this session", MAIL, CONNECTION, PENDING, "connection_cap", None),
    ("452 4.3.1 Insufficient system storage", MAIL, CONNECTION, PENDING, "storage", 600),
    ("452 no space", CONTENT, CONNECTION, PENDING, "storage", 600),
    # account, for now
    ("421 4.7.0 IP not in whitelist", MAIL, ACCOUNT, DEFERRED, "rate", 900),
    ("421 4.7.28 unusual rate of mail", CONTENT, ACCOUNT, DEFERRED, "rate", 900),
    ("421 4.7.0 Try again later, closing connection.", MAIL, ACCOUNT, DEFERRED, "rate", 900),
    ("432 4.3.2 Concurrent connections limit exceeded", MAIL, ACCOUNT, DEFERRED, "connections", 60),
    ("432 4.3.2 STOREDRV; sender thread limit exceeded", CONTENT, ACCOUNT, DEFERRED, "connections", 60),
    ("450 4.2.1 Peak SMTP relay limit exceeded for customer", CONTENT, ACCOUNT, DEFERRED, "rate", 600),
    ("421 4.4.2 Message submission rate for this client exceeded", MAIL, ACCOUNT, DEFERRED, "rate", 600),
    ("451 MI:SFQ", MAIL, ACCOUNT, DEFERRED, "rate", 900),
    ("421 HL:ICC", MAIL, ACCOUNT, DEFERRED, "rate", 1800),
    ("421 HL:IFC", MAIL, ACCOUNT, DEFERRED, "rate", 1800),
    ("421 HL:REP", MAIL, ACCOUNT, DEFERRED, "rate", 1800),
    ("421 HL:MEP", MAIL, ACCOUNT, DEFERRED, "rate", 1800),
    ("454 Throttling failure: Maximum sending rate exceeded.", CONTENT, ACCOUNT, DEFERRED, "rate", 5),
    ("454 4.7.0 Temporary authentication failure", AUTH, ACCOUNT, DEFERRED, "auth_later", 600),
    ("451 too much fail authentication", AUTH, ACCOUNT, DEFERRED, "auth_later", 600),
    ("454 4.7.0 Too many login attempts, please try again later", AUTH, ACCOUNT, DEFERRED, "auth_later", 600),
    *[
        (f"550 {who} frequency limited", CONTENT, ACCOUNT, DEFERRED, "rate", HOUR)
        for who in ("Domain", "Sender", "Connection", "Ip")
    ],
    ("554 5.7.1 blocked using zen.spamhaus.org", RCPT, ACCOUNT, DEFERRED, "blocklist", 4 * HOUR),
    ("550 5.7.1 your network is on our list (S3150)", MAIL, ACCOUNT, DEFERRED, "blocklist", 4 * HOUR),
    ("554 HL:IPB", MAIL, ACCOUNT, DEFERRED, "blocklist", 4 * HOUR),
    # quota
    *[
        (text, CONTENT, ACCOUNT, DEFERRED, "quota", DAY)
        for text in (
            "550 5.4.5 Daily user sending limit exceeded.",
            "550 5.4.5 something new",
            "550 5.4.5 Daily SMTP relay limit exceeded for customer",
            "550 5.7.1 Mail relay limit exceeded",
            "550 5.7.1 you have exceeded your daily sending limit",
            "554 5.2.0 STOREDRV.Submission.Exception:SubmissionQuotaExceededException",
            "454 Throttling failure: Daily message quota exceeded.",
            "552 Daily sending quota exceeded",
            "552 Monthly sending quota exceeded",
            "552 Not enough sending quota",
            "554 MI:STC",
            "452 4.5.3 daily limit reached",
            "451 daily limit reached",
            "451 Maximum credits exceeded",
        )
    ],
    # config: a person must act
    ("550 5.4.6 Unusual sending activity detected", CONTENT, CONFIG, PENDING, "blocked", None),
    ("554 5.1.8 Sender blocked", MAIL, CONFIG, PENDING, "blocked", None),
    ("551 Main account unavailable", MAIL, CONFIG, PENDING, "blocked", None),
    ("554 HL:IHU", MAIL, CONFIG, PENDING, "blocked", None),
    ("436 MAIL FROM doesn't conform with authentication", MAIL, CONFIG, PENDING, "sender", None),
    ("553 Mail from must equal authorized user", MAIL, CONFIG, PENDING, "sender", None),
    ("501 mail from address must be same as authorization user", MAIL, CONFIG, PENDING, "sender", None),
    ("553 Relaying disallowed as me@x.example", RCPT, CONFIG, PENDING, "sender", None),
    ("554 5.2.0 Submission.Exception:SendAsDeniedException", CONTENT, CONFIG, PENDING, "sender", None),
    ("550 5.7.60 SMTP; no permission to send as this sender", CONTENT, CONFIG, PENDING, "sender", None),
    ("554 DT:SUM", CONTENT, CONFIG, PENDING, "sender", None),
    ("554 Message rejected: Email address is not verified.", CONTENT, CONFIG, PENDING, "sender", None),
    ("554 Access denied: User is not authorized", CONTENT, CONFIG, PENDING, "sender", None),
    ("550 from address does not match a verified Sender", CONTENT, CONFIG, PENDING, "sender", None),
    ("550 no", MAIL, CONFIG, PENDING, "sender", None),
    ("535 5.7.8 Username and Password not accepted", AUTH, CONFIG, PENDING, "auth", None),
    ("534 5.7.9 Application-specific password required", AUTH, CONFIG, PENDING, "auth", None),
    ("535 5.7.139 SmtpClientAuthentication is disabled", AUTH, CONFIG, PENDING, "auth", None),
    ("535 Login fail.", AUTH, CONFIG, PENDING, "auth", None),
    ("535 Error: authentication failed", AUTH, CONFIG, PENDING, "auth", None),
    ("550 5.7.30 Basic authentication is not supported", AUTH, CONFIG, PENDING, "auth", None),
    ("554 smtp auth error limit exceeded", AUTH, CONFIG, PENDING, "auth", None),
    ("535 5.7.139 Authentication unsuccessful, SMTP AUTH disabled", AUTH, CONFIG, PENDING, "auth", None),
    ("530 5.7.0 Must issue a STARTTLS command first", MAIL, CONFIG, PENDING, "tls", None),
    ("530 5.7.57 Client not authenticated to send mail", MAIL, CONFIG, PENDING, "auth", None),
    # rows
    ("450 4.2.1 The user is receiving mail too quickly", RCPT, ROW, DEFERRED, "recipient_rate", HOUR),
    ("450 4.2.1 receiving too quickly", RCPT, ROW, DEFERRED, "recipient_rate", HOUR),
    ("450 4.2.0 Greylisted", RCPT, ROW, DEFERRED, "greylist", 300),
    ("451 please try again later", RCPT, ROW, DEFERRED, "greylist", 300),
    ("451 DT:SPM please try again", CONTENT, ROW, DEFERRED, "content", 120),
    ("452 4.5.3 Too many recipients", RCPT, ROW, DEFERRED, "recipients", None),
    ("452 too many", RCPT, ROW, DEFERRED, "recipients", None),
    ("452 4.2.2 over quota", RCPT, ROW, DEFERRED, "full", 6 * HOUR),
    ("552 5.2.2 mailbox full", RCPT, ROW, REJECTED, "full", None),
    ("550 5.1.1 no such user", RCPT, ROW, REJECTED, "recipient", None),
    ("550 5.1.2 bad host", RCPT, ROW, REJECTED, "recipient", None),
    ("501 5.1.3 bad address syntax", RCPT, ROW, REJECTED, "recipient", None),
    ("551 user not local", RCPT, ROW, REJECTED, "recipient", None),
    ("553 mailbox name not allowed", RCPT, ROW, REJECTED, "recipient", None),
    ("559 Invalid rcptto", RCPT, ROW, REJECTED, "recipient", None),
    ("561 Honeypot", RCPT, ROW, REJECTED, "recipient", None),
    ("550 5.7.515 Access denied, level not met", CONTENT, ROW, REJECTED, "domain", None),
    ("550-5.7.26 This mail is unauthenticated", CONTENT, ROW, REJECTED, "domain", None),
    ("550 not accepted due to domain's DMARC policy", CONTENT, ROW, REJECTED, "domain", None),
    ("554 DT:SPM", CONTENT, ROW, REJECTED, "content", None),
    ("550 this looks like spam", CONTENT, ROW, REJECTED, "content", None),
    ("554 content rejected as spam", CONTENT, ROW, REJECTED, "content", None),
    ("554 5.7.1 virus found", CONTENT, ROW, REJECTED, "content", None),
    ("554 5.6.0 bad content", CONTENT, ROW, REJECTED, "content", None),
    ("552 5.7.0 potential security issue in an attachment", CONTENT, ROW, REJECTED, "content", None),
    ("552 5.3.4 message too big", MAIL, ROW, REJECTED, "size", None),
    ("552 5.2.3 too long", CONTENT, ROW, REJECTED, "size", None),
    ("557 message length", CONTENT, ROW, REJECTED, "size", None),
    ("500 what?", DATA, ROW, REJECTED, "protocol", None),
    ("501 syntax error", DATA, ROW, REJECTED, "protocol", None),
    ("504 parameter not implemented", RCPT, ROW, REJECTED, "protocol", None),
    ("502 not implemented", RCPT, ROW, REJECTED, "protocol", None),
    ("555 parameter unknown", MAIL, ROW, REJECTED, "protocol", None),
    ("503 bad sequence", DATA, CONNECTION, REJECTED, "protocol", None),
    ("554 5.5.1 invalid command in this state", DATA, ROW, REJECTED, "protocol", None),
    ("450 4.0.0 something", RCPT, ROW, DEFERRED, "refused", None),
    ("554 5.0.0 something", CONTENT, ROW, REJECTED, "refused", None),
]  # fmt: skip


HINTS = [
    ("530 5.7.0 Must issue a STARTTLS command first", MAIL, "tls", "requires TLS"),
    ("530 5.7.0 Must issue a STARTTLS command first. x7-20 - gsmtp", AUTH, "tls", "requires TLS"),
    ("530 STARTTLS required", RCPT, "tls", "requires TLS"),
    ("538 5.7.11 Encryption required for requested authentication mechanism", AUTH, "tls", "requires TLS"),
    ("523 5.7.10 Encryption Needed", AUTH, "tls", "requires TLS"),
    ("554 5.7.3 TLS is required for this service", MAIL, "tls", "requires TLS"),
    ("530 5.7.57 Client not authenticated to send mail", MAIL, "auth", "only after a sign-in: set `user`"),
    ("530 5.7.1 Authentication required", MAIL, "relay", "check `user`"),
    ("535 5.7.8 Username and Password not accepted", AUTH, "auth", "Check the user name and the secret"),
    ("535 Error: authentication failed", AUTH, "auth", "Check the user name and the secret"),
    ("534 5.7.9 Application-specific password required", AUTH, "auth", "requires an app password"),
    (
        "534 5.7.14 Please log in via your web browser and then try again",
        AUTH,
        "auth",
        "on its website first",
    ),
    ("535 Login Fail. Please enter your authorization code to login", AUTH, "auth", "authorization code"),
    (
        "535 5.7.139 Authentication unsuccessful, SmtpClientAuthentication is disabled for the Tenant",
        AUTH,
        "auth",
        "SMTP AUTH is off",
    ),
    ("535 5.7.139 Authentication unsuccessful, basic authentication is disabled", AUTH, "auth", "use OAuth2"),
    (
        "535 5.7.139 Authentication unsuccessful, the user credentials were incorrect",
        AUTH,
        "auth",
        "mailmerge login microsoft365",
    ),
    (
        "535 5.7.139 Authentication unsuccessful, the request did not meet the criteria to be authenticated",
        AUTH,
        "auth",
        "security defaults",
    ),
    ("525 5.7.13 User Account Disabled", AUTH, "auth", "disabled or locked"),
    ("535 Your account has been suspended", AUTH, "auth", "disabled or locked"),
    ("432 4.7.12 A password transition is needed", AUTH, "auth", "password has expired"),
    ("535 5.7.0 (#AUTH005) Too many bad auth attempts", AUTH, "auth", "use an app password, and wait"),
    ("535 5.7.0 Too many failed attempts", AUTH, "auth_later", "wait ten minutes"),
    ("454 4.7.0 Too many login attempts, please try again later", AUTH, "auth_later", "wait ten minutes"),
    ("454 4.7.0 Temporary authentication failure", AUTH, "auth_later", "cannot check sign-ins now"),
    ("504 5.7.4 Unrecognized authentication type", AUTH, "auth", "does not support this sign-in method"),
    ("503 5.5.1 AUTH command used when not advertised", AUTH, "auth", "does not allow sign-in"),
    ("502 5.5.2 Command not recognized", AUTH, "auth", "does not allow sign-in"),
    ("550 5.7.30 not accepted due to DKIM failing", CONTENT, "domain", "DKIM did not pass"),
    (
        "550 5.7.26 Your email has been blocked because the sender is unauthenticated",
        CONTENT,
        "domain",
        "Neither",
    ),
    (
        "421 4.7.26 Your email has been rate limited because it is unauthenticated",
        CONTENT,
        "domain",
        "Neither",
    ),
    (
        "550 5.7.26 Unauthenticated email from x.org is not accepted due to domain's DMARC policy",
        CONTENT,
        "domain",
        "DMARC's policy forbids",
    ),
    (
        "550 5.7.27 Your email has been blocked because SPF authentication didn't pass",
        CONTENT,
        "domain",
        "SPF did not pass",
    ),
    (
        "421 4.7.27 rate limited because SPF authentication didn't pass for this message",
        CONTENT,
        "domain",
        "SPF did not pass",
    ),
    (
        "550 5.7.27 domain of sender address x@y.org has a null MX",
        MAIL,
        "sender",
        "the account's own address",
    ),
    (
        "421 4.7.29 rate limited because this message wasn't sent over a TLS connection",
        CONTENT,
        "domain",
        "has to use TLS",
    ),
    ("550 5.7.29 ARC validation failure", CONTENT, "domain", "SPF, DKIM and DMARC"),
    (
        "421 4.7.30 rate limited because DKIM authentication didn't pass",
        CONTENT,
        "domain",
        "DKIM did not pass",
    ),
    ("550 5.7.30 REQUIRETLS support required", CONTENT, "domain", "SPF, DKIM and DMARC"),
    (
        "550 5.7.31 blocked because the sending domain has no DMARC record",
        CONTENT,
        "domain",
        "needs a DMARC record",
    ),
    ("550 5.7.40 the DMARC record doesn't specify a DMARC policy", CONTENT, "domain", "needs a DMARC record"),
    ("421 4.7.40 the sending domain doesn't have a DMARC record", CONTENT, "domain", "needs a DMARC record"),
    (
        "550 5.7.32 the From: header (RFC5322) in this message isn't aligned with either",
        CONTENT,
        "domain",
        "From has to be at the domain",
    ),
    (
        "550 5.7.25 The IP address sending this message does not have a PTR record",
        CONTENT,
        "domain",
        "no PTR record",
    ),
    (
        "450 4.7.25 Client host rejected: cannot find your hostname, [192.0.2.1]",
        RCPT,
        "client",
        "from this machine",
    ),
    (
        "550 5.7.515 Access denied, sending domain x.org does not meet the required authentication level",
        CONTENT,
        "domain",
        "does not ask for one-click",
    ),
    ("421 4.7.28 Gmail has detected an unusual rate of unsolicited mail", CONTENT, "rate", ""),
]


@pytest.mark.parametrize(("text", "phase", "reason", "words"), HINTS)
def test_a_hint_fits_the_reply_that_it_belongs_to(text: str, phase: Phase, reason: str, words: str) -> None:
    """What servers say about signing in, and what to do about just that."""
    (reply,) = parse(f"{text}\r\n".encode())
    meaning = classify(reply, phase)
    assert meaning.reason == reason
    assert words in (meaning.hint or "")


@pytest.mark.parametrize(("text", "phase", "scope", "status", "reason", "retry_after"), TABLE)
def test_meaning(
    text: str, phase: Phase, scope: Scope, status: Status, reason: str, retry_after: float | None
) -> None:
    """Every refusal we know of has its scope, status, reason and pause."""
    (reply,) = parse(text.replace("550-", "550 ").encode() + b"\r\n")
    outcome = classify(reply, phase)
    assert (outcome.scope, outcome.status, outcome.reason) == (scope, status, reason)
    assert outcome.retry_after == retry_after
    assert outcome.reply is reply
    assert outcome.phase is phase
    if scope is CONFIG:
        assert outcome.hint


ME, ANN = Address.parse("office@example.org"), Address.parse("ann@one.example")
SENT = Envelope(ME, (ANN,))
ABOUT_US = [
    # Postfix, and what is built on it: Zimbra, mailcow, iRedMail, Yandex ...
    ("553 5.7.1 <office@example.org>: Sender address rejected: not owned by user info@example.org", "sender"),
    ("553 5.7.1 <office@example.org>: Sender address rejected: not logged in", "sender"),
    ("553 5.7.1 Sender address rejected: not owned by auth user.", "sender"),
    ("504 5.5.2 <office>: Sender address rejected: need fully-qualified address", "sender"),
    ("550 5.1.8 <office@example.org>: Sender address rejected: Domain not found", "sender"),
    ("450 4.1.8 <office@example.org>: Sender address rejected: Domain not found", "sender"),
    ("554 5.7.1 <office@example.org>: Sender address rejected: Access denied", "sender"),
    ("554 5.7.1 <ann@one.example>: Relay access denied", "relay"),
    ("454 4.7.1 <ann@one.example>: Relay access denied", "relay"),
    ("554 5.7.1 <unknown[203.0.113.7]>: Client host rejected: Access denied", "client"),
    ("450 4.7.25 Client host rejected: cannot find your hostname, [203.0.113.7]", "client"),
    ("504 5.5.2 <pc7>: Helo command rejected: need fully-qualified hostname", "helo"),
    ("450 4.7.1 <pc7.local>: Helo command rejected: Host not found", "helo"),
    # Exim
    ("550 relay not permitted", "relay"),
    ("550 Sender verify failed", "sender"),
    ("550 Access denied - Invalid HELO name (See RFC2821 4.1.1.1)", "helo"),
    # Exchange
    ("550 5.7.54 SMTP; Unable to relay recipient in non-accepted domain", "relay"),
    ("550 5.7.1 Client does not have permissions to send as this sender", "sender"),
    ("550 5.7.60 SMTP; Client does not have permissions to send as this sender", "sender"),
    ("530 5.7.57 SMTP; Client was not authenticated to send anonymous mail during MAIL FROM", "relay"),
    ("550 5.7.1 Client does not have permissions to submit to this server", "client"),
    # sendmail
    ("550 5.7.1 <ann@one.example>... Relaying denied. Proper authentication required.", "relay"),
    ("550 5.7.1 Relaying denied. IP name lookup failed [203.0.113.7]", "relay"),
    ("451 4.1.8 Domain of sender address office@example.org does not resolve", "sender"),
    ("551 5.7.1 we do not relay", "relay"),
    # qmail
    ("553 sorry, that domain isn't in my list of allowed rcpthosts (#5.7.1)", "relay"),
    ("553 sorry, your envelope sender is in my badmailfrom list (#5.7.1)", "sender"),
    # Courier, hMailServer, MailEnable, MDaemon
    ("513 Relaying denied.", "relay"),
    ("530 SMTP authentication is required.", "relay"),
    ("503 This mail server requires authentication when attempting to send to a non-local address", "relay"),
    # providers
    ("553 Relaying disallowed as office@example.org", "sender"),
    ("553 Sender is not allowed to relay emails", "relay"),
    ("550 Sender address is not allowed.", "sender"),
    ("550 5.7.0 From address is not one of your addresses", "sender"),
    ("551 5.7.1 Not authorised to send from this header address", "sender"),
    ("550 not local sender over smtp", "sender"),
    ("553 Mail from must equal authorized user", "sender"),
    ("501 mail from address must be same as authorization user", "sender"),
    ("436 MAIL FROM doesn't conform with authentication", "sender"),
    # words that nobody has collected, but what is meant is close to that it is not wanted
    ("554 5.7.1 Relaying mail to remote hosts not allowed for you", "relay"),
    ("551 this is not an open relay", "relay"),
    ("550 5.7.1 Relaying from 203.0.113.7 to ann@one.example is forbidden", "relay"),
    ("503 AUTH first", "relay"),
    ("550 You can not send from this address", "sender"),
    ("550 5.7.1 From address is not authorized", "sender"),
    ("550 HELO should be a FQDN or address literal", "helo"),
    ("550 5.7.1 Client host [203.0.113.7] blocked", "client"),
    ("550 Your IP address is not allowed to send mail", "client"),
    ("550 5.7.1 Unauthorized use of sender address", "sender"),
    ("550 5.7.1 Mail from address must match authenticated user", "sender"),
    ("550 Sorry, sender and authenticated user do not match", "sender"),
    ("550 5.7.1 Unconfigured Sending Domain <example.org>", "sender"),
    ("550 SMTP AUTH is required for message submission on port 587", "relay"),
    ("550 User is not allowed to send mail. Use SMTP AUTH", "relay"),
    ("550 Unauthenticated senders not allowed", "relay"),
    ("550 5.7.57 Client not authenticated to send mail", "relay"),
    ("525 5.7.1 Unauthorized IP address", "client"),
    ("554 Bad DNS PTR resource record.", "client"),
    ("550 #5.7.1 Your access to submit messages to this e-mail system has been rejected.", "client"),
    # in the language of the server's administrator
    ("550 5.7.1 Absenderadresse wird nicht akzeptiert", "sender"),
    ("550 5.7.1 Adresse de l'expéditeur refusée", "sender"),
    ("550 5.7.1 Dirección del remitente rechazada", "sender"),
    ("550 5.7.1 Endereço do remetente não permitido", "sender"),
    ("550 5.7.1 Indirizzo mittente rifiutato", "sender"),
    ("550 5.7.1 Afzenderadres geweigerd", "sender"),
    ("550 5.7.1 Adres nadawcy odrzucony", "sender"),
    ("550 5.7.1 Адрес отправителя отклонён: не принадлежит пользователю", "sender"),
    ("553 发件人地址与登录用户不符", "sender"),
    ("550 5.7.1 送信者アドレスが許可されていません", "sender"),
    ("550 5.7.1 발신자 주소가 거부되었습니다", "sender"),
    ("550 5.7.1 Relay-Zugriff verweigert", "relay"),
    ("554 5.7.1 Relais refusé: accès interdit", "relay"),
    ("550 5.7.1 Ретрансляция запрещена", "relay"),
    ("554 拒绝中继", "relay"),
    ("550 Authentification requise", "relay"),
    ("553 需要身份验证", "relay"),
    # no words that anybody knows, but our address and no other
    ("550 5.1.0 <office@example.org> is not welcome here", "sender"),
    ("550 office@example.org: no such user", "sender"),
    ("554 5.7.1 <OFFICE@example.org>: you may not use this", "sender"),
]  # fmt: skip


@pytest.mark.parametrize("phase", [MAIL, RCPT])
@pytest.mark.parametrize(("text", "reason"), ABOUT_US)
def test_a_refusal_about_us_is_known_in_any_phase(text: str, reason: str, phase: Phase) -> None:
    """Sender, relaying, client and EHLO name, whatever digit: nobody's row is rejected or deferred."""
    (reply,) = parse(text.encode() + b"\r\n")
    outcome = classify(reply, phase, SENT)
    assert (outcome.scope, outcome.status, outcome.reason) == (CONFIG, PENDING, reason)
    named = {
        "sender": ("`from`", "`aliases`"),
        "relay": ("`user`", "`port`"),
        "client": ("`user`", "`port`"),
        "helo": ("`helo`",),
    }
    assert all(word in str(outcome.hint) for word in named[reason])


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        ("550 5.1.1 <ann@one.example>: Recipient address rejected: User unknown", REJECTED, "recipient"),
        ("554 5.7.1 <ann@one.example>: Recipient address rejected: Access denied", REJECTED, "recipient"),
        ("554 5.7.1 Recipient address rejected: sender not allowed to write to it", REJECTED, "recipient"),
        ("450 4.2.0 <ann@one.example>: Recipient address rejected: Greylisted", DEFERRED, "greylist"),
        ("450 4.1.1 Recipient address rejected: unverified address: wait", DEFERRED, "refused"),
        ("550 5.7.1 RESOLVER.RST.AuthRequired; authentication required", REJECTED, "recipient"),
        ("550 5.7.133 sender not authenticated for group", REJECTED, "recipient"),
        ("550 5.7.124 Sender not in allowed-senders list", REJECTED, "recipient"),
        ("550 the From address is not allowed to write to this mailbox", REJECTED, "recipient"),
        ("550 Dieses Postfach nimmt keine Nachrichten von diesem Absender an", REJECTED, "refused"),
        ("550 Le destinataire n'accepte pas cet expéditeur: refusé", REJECTED, "refused"),
        ("450 Получатель не принимает письма этого отправителя", DEFERRED, "refused"),
        ("550 收件人拒绝了发件人的邮件", REJECTED, "refused"),
        ("550 5.1.1 Empfänger unbekannt", REJECTED, "recipient"),
        ("550 用户不存在", REJECTED, "refused"),
        ("550 relay1.example.org: not allowed", REJECTED, "refused"),
        ("550 5.1.1 no relay to mailbox: user unknown", REJECTED, "recipient"),
        ("550 5.7.1 office@example.org may not write to ann@one.example", REJECTED, "refused"),
        ("550 5.1.0 notoffice@example.org is unknown", REJECTED, "recipient"),
        ("550 5.1.99 something new", REJECTED, "recipient"),
        ("550 5.7.30 Gmail requires DKIM", REJECTED, "domain"),
        ("550 5.7.27 SPF did not pass", REJECTED, "domain"),
        ("550 5.7.99 something new", REJECTED, "refused"),
        ("450 4.7.99 something new", DEFERRED, "refused"),
    ],
)  # fmt: skip
def test_a_refusal_about_one_recipient_stays_with_it(text: str, status: Status, reason: str) -> None:
    """What is said to be about the recipient, or names it, is; an unknown enhanced code is its class."""
    (reply,) = parse(text.encode() + b"\r\n")
    outcome = classify(reply, RCPT, SENT)
    assert (outcome.scope, outcome.status, outcome.reason) == (ROW, status, reason)


def test_a_letter_to_oneself_that_is_refused_is_about_the_recipient() -> None:
    """Our address in the reply says nothing where it is the recipient's, too."""
    (reply,) = parse(b"550 5.1.1 <office@example.org>: mailbox unavailable\r\n")
    assert classify(reply, RCPT, Envelope(ME, (ME,))).scope is ROW


_PROBE = "<ann@one.example>: Recipient address rejected: undeliverable address: host mx.one.example said:"


@pytest.mark.parametrize(
    ("text", "status", "reason"),
    [
        (f"550 5.1.1 {_PROBE} 550 5.1.1 no such user (in reply to RCPT TO)", REJECTED, "recipient"),
        (f"450 4.1.1 {_PROBE} 550 5.1.1 no such user (in reply to RCPT TO)", DEFERRED, "recipient"),
        (f"550 5.1.1 {_PROBE} 554 5.7.1 Client host rejected: Access denied", DEFERRED, "client"),
        (f"550 5.1.1 {_PROBE} 554 blocked using zen.spamhaus.org", DEFERRED, "blocklist"),
        (f"550 5.1.1 {_PROBE} 553 <office@example.org> Sender address rejected", DEFERRED, "sender"),
        (f"550 5.1.1 {_PROBE} 421 4.7.0 unusual rate of mail", DEFERRED, "refused"),
        ("550 5.1.8 host mx.one.example said: 550 5.1.8 bad outbound sender", DEFERRED, "sender"),
        ("550 5.4.5 mx.one.example responded with: 550 5.4.5 daily limit", DEFERRED, "refused"),
    ],
)  # fmt: skip
def test_b21_what_is_quoted_is_another_server_s_opinion(text: str, status: Status, reason: str) -> None:
    """It concerns one row, and a refusal about us is not final for it."""
    (reply,) = parse(text.encode() + b"\r\n")
    outcome = classify(reply, RCPT, SENT)
    assert (outcome.scope, outcome.status, outcome.reason) == (ROW, status, reason)


def test_own_words_before_a_quote_are_the_server_s() -> None:
    """A sender that our server itself refuses is our set-up, whomever it asked."""
    (reply,) = parse(
        b"550 5.1.7 <office@example.org>: Sender address rejected: undeliverable address: "
        b"host mx.example.org said: 550 5.1.1 no such user\r\n"
    )
    assert classify(reply, RCPT, SENT).scope is CONFIG


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("550 5.4.5 Daily sending limit exceeded, try again in 3 hours", 3 * HOUR),
        ("552 daily limit reached: retry after 90 minutes", 5400),
        ("452 daily limit, resets in 20s", 60),
        ("550 daily limit of 500 in 365 days", 7 * DAY),
        ("550 5.4.5 Daily user sending limit exceeded.", DAY),
        ("550 exceeded your hourly limit", HOUR),
        ("451 limit of 100 emails per hour reached", HOUR),
    ],
)
def test_a_quota_lasts_as_long_as_the_reply_says(text: str, seconds: float) -> None:
    """Else an hour or a day, as its words have it; never less than a minute, nor more than a week."""
    (reply,) = parse(text.encode() + b"\r\n")
    outcome = classify(reply, CONTENT)
    assert (outcome.reason, outcome.retry_after) == ("quota", seconds)


@pytest.mark.parametrize(
    ("text", "slower"),
    [
        ("454 Throttling failure: Maximum sending rate exceeded.", True),
        ("450 4.2.1 Peak SMTP relay limit exceeded", True),
        ("421 4.4.2 submission rate", True),
        ("450 4.2.0 Greylisted", False),
        ("550 5.4.5 Daily user sending limit exceeded.", False),
    ],
)
def test_slower(text: str, slower: bool) -> None:
    """Replies about our speed halve it; others do not."""
    (reply,) = parse(text.encode() + b"\r\n")
    assert classify(reply, CONTENT).slower is slower


def test_accepted_and_misuse() -> None:
    """2yz to the content is acceptance; elsewhere it is nothing to classify."""
    (reply,) = parse(b"250 2.0.0 queued as 4F2\r\n")
    assert classify(reply, CONTENT) == Outcome(Status.ACCEPTED, ROW, CONTENT, reply)
    with pytest.raises(RuntimeError):
        classify(reply, MAIL)


def test_no_reply_and_too_large() -> None:
    """What was written whole is in doubt, the rest pending; too large names both numbers."""
    assert unanswered(RCPT, written_whole=False).status is PENDING
    assert unanswered(CONTENT, written_whole=True).status is Status.IN_DOUBT
    outcome = too_large(2000, 1000)
    assert (outcome.status, outcome.reason) == (REJECTED, "size")
    assert "2000" in str(outcome.hint)
    assert "1000" in str(outcome.hint)


@given(st.integers(400, 599), st.text(max_size=40), st.sampled_from(list(Phase)))
def test_every_refusal_has_a_meaning(code: int, text: str, phase: Phase) -> None:
    """No refusal is without an outcome that names a reason."""
    outcome = classify(Reply(code=code, lines=(text,)), phase)
    assert outcome.reason
    assert outcome.status in {PENDING, DEFERRED, REJECTED}


def test_adversarial_replies_are_classified_in_linear_time() -> None:
    """A reply of the greatest length is read and classified in linear time."""
    data = b"550 " + b"try again lates " * 4000 + b"\r\n"
    began = time.perf_counter()
    (reply,) = parse(data)
    classify(reply, CONTENT)
    assert time.perf_counter() - began < 0.05
