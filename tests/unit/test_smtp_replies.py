"""Replies: parsing however the bytes are cut, and what every refusal we know of means."""

from __future__ import annotations

import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge.errors import ProtocolError
from mailmerge.model import Outcome, Phase, Reply, Scope, Status
from mailmerge.smtp.replies import ReplyParser, classify, too_large, unanswered

ROW, CONNECTION, ACCOUNT, CONFIG = Scope.ROW, Scope.CONNECTION, Scope.ACCOUNT, Scope.CONFIG
PENDING, DEFERRED, REJECTED = Status.PENDING, Status.DEFERRED, Status.REJECTED
AUTH, MAIL, RCPT, DATA, CONTENT = Phase.AUTH, Phase.MAIL, Phase.RCPT, Phase.DATA, Phase.CONTENT
HOUR, DAY = 3600, 86400


def parse(data: bytes) -> list[Reply]:
    """Parse *data* at once."""
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
    """What is no reply, or does not end, is a protocol error."""
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
    ("530 5.7.0 Must issue a STARTTLS command first", MAIL, CONFIG, PENDING, "auth", None),
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
    ("450 4.0.0 something", RCPT, ROW, DEFERRED, "refused", None),
    ("554 5.0.0 something", CONTENT, ROW, REJECTED, "refused", None),
]  # fmt: skip


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
