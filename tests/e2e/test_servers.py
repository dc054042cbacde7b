"""The test bed itself: each server takes a message over TLS with sign-in, and misbehaves as asked."""

from __future__ import annotations

import smtplib
import ssl

import pytest

from mailmerge.errors import CampaignFileError
from mailmerge.sandbox import Command, FaultPlan, Refusal, SandboxServer
from servers.kept import KeepingSandbox

CONTENT = b"From: a@example.org\r\nTo: b@example.net\r\nSubject: Hi\r\n\r\n.a dot\r\n..two\r\nend\r\n"


def signed_in(server, *, tls_from_start: bool = False, port: int | None = None) -> smtplib.SMTP:
    """Connect to *server* with the standard library and sign in."""
    context = ssl.create_default_context(cafile=server.ca_file)
    if tls_from_start:
        client: smtplib.SMTP = smtplib.SMTP_SSL(server.host, port or server.port, context=context, timeout=10)
    else:
        client = smtplib.SMTP(server.host, port or server.port, timeout=10)
        client.starttls(context=context)
    client.login(server.user, server.password)
    return client


def codes(client: smtplib.SMTP, count: int) -> list[int]:
    return [client.getreply()[0] for _ in range(count)]


def test_sandbox_takes_a_message_byte_for_byte(sandbox):
    """What DATA carried is what the sandbox kept, without its dot-stuffing."""
    with signed_in(sandbox) as client:
        client.sendmail("a@example.org", ["b@example.net", "c@example.net"], CONTENT)

    (message,) = sandbox.messages
    assert message.content == CONTENT
    assert message.mail_from == "a@example.org"
    assert message.rcpt_to == ("b@example.net", "c@example.net")
    assert sandbox.received_count == 1


def test_sandbox_offers_what_fast_clients_use(sandbox):
    """PIPELINING, CHUNKING, SIZE and 8BITMIME are advertised, sign-in only under TLS."""
    with smtplib.SMTP(sandbox.host, sandbox.port, timeout=10) as client:
        client.ehlo()
        before = set(client.esmtp_features)
        client.starttls(context=ssl.create_default_context(cafile=sandbox.ca_file))
        client.ehlo()

        assert {"pipelining", "chunking", "size", "8bitmime", "starttls"} <= before
        assert "auth" not in before
        assert client.esmtp_features["auth"].split() == ["CRAM-MD5", "LOGIN", "PLAIN", "XOAUTH2"]
        assert "starttls" not in client.esmtp_features


@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
def test_sandbox_in_every_tls_mode(tls):
    """STARTTLS, TLS from the first byte, and no TLS for a relay without sign-in."""
    with KeepingSandbox(tls=tls, user=None if tls == "none" else "me") as server:
        if tls == "none":
            client = smtplib.SMTP(server.host, server.port, timeout=10)
        else:
            client = signed_in(server, tls_from_start=tls == "tls")
        with client:
            client.sendmail("a@example.org", ["b@example.net"], CONTENT)

        assert [message.content for message in server.messages] == [CONTENT]


def test_sandbox_wants_tls_then_sign_in(sandbox):
    """Without TLS and without sign-in, MAIL gets 530; a wrong password gets 535."""
    context = ssl.create_default_context(cafile=sandbox.ca_file)
    with smtplib.SMTP(sandbox.host, sandbox.port, timeout=10) as client:
        client.ehlo()
        assert client.mail("a@example.org") == (530, b"5.7.0 Must issue a STARTTLS command first")
        client.starttls(context=context)
        client.ehlo()
        assert client.mail("a@example.org") == (530, b"5.7.0 Authentication required")
        with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
            client.login(sandbox.user, "wrong")

    assert caught.value.smtp_code == 535


@pytest.mark.parametrize("mechanism", ["PLAIN", "LOGIN", "CRAM-MD5"])
def test_sandbox_signs_in_by(sandbox, mechanism):
    """Each mechanism of the standard library is accepted."""
    with smtplib.SMTP(sandbox.host, sandbox.port, timeout=10) as client:
        client.starttls(context=ssl.create_default_context(cafile=sandbox.ca_file))
        client.ehlo()
        client.user, client.password = sandbox.user, sandbox.password
        method = getattr(client, "auth_" + mechanism.lower().replace("-", "_"))

        assert client.auth(mechanism, method)[0] == 235


@pytest.mark.parametrize("code", [235, 535])
def test_sandbox_signs_in_by_token(sandbox, code):
    """XOAUTH2 takes the password as a token, and sends its error document before it refuses."""
    with smtplib.SMTP(sandbox.host, sandbox.port, timeout=10) as client:
        client.starttls(context=ssl.create_default_context(cafile=sandbox.ca_file))
        client.ehlo()
        given = sandbox.password if code == 235 else "wrong"
        blob = f"user={sandbox.user}\1auth=Bearer {given}\1\1"

        answers = iter([blob, ""])
        if code == 535:
            with pytest.raises(smtplib.SMTPAuthenticationError) as caught:
                client.auth("XOAUTH2", lambda _challenge=None: next(answers))
            assert caught.value.smtp_code == code
        else:
            assert client.auth("XOAUTH2", lambda _challenge=None: next(answers))[0] == code


def test_sandbox_discards_the_chunk_of_a_refused_bdat(sandbox):
    """The octets of a chunk without recipients are never run as commands."""
    with signed_in(sandbox) as client:
        client.send(b"MAIL FROM:<a@example.org>\r\nBDAT 6 LAST\r\nNOOP\r\nRSET\r\nNOOP\r\n")

        assert codes(client, 4) == [250, 503, 250, 250]


def test_sandbox_takes_a_pipelined_window_of_chunks(sandbox):
    """Twenty transactions in one write: each is answered in order, a refused one costs no other."""
    body = b"\r\n".join(bytes(range(256)).replace(b"\r\n", b"") for _ in range(40))
    good = b"RSET\r\nMAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\nBDAT %d\r\n" % len(body)
    with signed_in(sandbox) as client:
        client.send((good + body + b"BDAT 0 LAST\r\n") * 20)
        assert codes(client, 100) == [250] * 100
        client.send(
            b"MAIL FROM:<a@example.org>\r\nBDAT 3\r\nabcRCPT TO:<b@example.net>\r\nBDAT 3 LAST\r\nabcRSET\r\n"
        )
        assert codes(client, 5) == [250, 503, 503, 503, 250]

    assert [message.content for message in sandbox.messages] == [body] * 20


@pytest.mark.parametrize("chunked", [True, False])
def test_sandbox_refuses_what_is_too_big_and_goes_on(chunked):
    """A message over SIZE gets 552 without being kept in memory, and the session lives on."""
    body = b"x" * 98 + b"\r\n"
    with (
        SandboxServer(tls="none", user=None, max_size=1000) as server,
        smtplib.SMTP(server.host, server.port) as client,
    ):
        client.ehlo()
        client.send(b"MAIL FROM:<a@example.org>\r\nRCPT TO:<b@example.net>\r\n")
        assert codes(client, 2) == [250, 250]
        if chunked:
            client.send(b"BDAT 2000 LAST\r\n" + body * 20)
        else:
            assert client.docmd("DATA")[0] == 354
            client.send(body * 20 + b".\r\n")

        assert codes(client, 1) == [552]
        assert client.rset()[0] == 250
        assert client.sendmail("a@example.org", ["b@example.net"], body) == {}
        assert server.received_count == 1


def test_sandbox_refuses_overlong_lines(sandbox):
    """A line of more than 998 octets is refused, as RFC 5321 lets servers do."""
    with signed_in(sandbox) as client, pytest.raises(smtplib.SMTPDataError) as caught:
        client.sendmail("a@example.org", ["b@example.net"], b"x" * 999 + b"\r\n")

    assert caught.value.smtp_code == 554


def test_sandbox_faults_follow_the_plan():
    """A certain refusal hits every command, and its text may be in any language."""
    plan = FaultPlan(refusals=(Refusal(550, 1.0, Command.RCPT, "5.7.1 垃圾邮件"),))
    with SandboxServer(tls="none", user=None, faults=plan) as server:
        client = smtplib.SMTP(server.host, server.port, timeout=10)
        client.ehlo()
        client.mail("a@example.org")
        assert client.rcpt("b@example.net") == (550, "5.7.1 垃圾邮件".encode())
        client.close()


def test_sandbox_hangs_up_after_421():
    """421 is the last reply of a connection: what was pipelined behind it is not run."""
    plan = FaultPlan(refusals=(Refusal(421, 1.0, Command.MAIL),))
    with SandboxServer(tls="none", user=None, faults=plan) as server:
        client = smtplib.SMTP(server.host, server.port, timeout=10)
        client.ehlo()
        client.send(b"MAIL FROM:<a@example.org>\r\nNOOP\r\nNOOP\r\n")

        assert client.getreply()[0] == 421
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.getreply()
        client.close()


def test_sandbox_drops_after_taking_the_message():
    """With certain drops the message counts as taken though its reply never came."""
    with SandboxServer(tls="none", user=None, faults=FaultPlan(drop_after_data=1.0)) as server:
        client = smtplib.SMTP(server.host, server.port, timeout=10)
        with pytest.raises(smtplib.SMTPServerDisconnected):
            client.sendmail("a@example.org", ["b@example.net"], CONTENT)
        client.close()

        assert server.received_count == 1


def test_sandbox_stops_with_clients_connected():
    """Stopping cuts idle clients and failed handshakes immediately, and twice is as good as once."""
    with SandboxServer(tls="tls") as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            smtplib.SMTP_SSL(server.host, server.port, context=ssl.create_default_context(), timeout=10)
        client = signed_in(server, tls_from_start=True)
        server.stop()
    client.close()


@pytest.mark.parametrize(
    ("text", "refusal"),
    [
        ("450:2%", Refusal(450, 0.02)),
        ("auth:535:1%", Refusal(535, 0.01, Command.AUTH)),
        ("550 5.1.1 Who?:0.5", Refusal(550, 0.5, text="5.1.1 Who?")),
        ("CONTENT:554:100%", Refusal(554, 1.0, Command.CONTENT)),
    ],
)
def test_fault_plan_reads_the_command_line(text, refusal):
    """CODE:SHARE, with a command before it or text after the code."""
    assert FaultPlan.parse([text]).refusals == (refusal,)


@pytest.mark.parametrize(
    "text", ["", "450", "250:1%", "450:101%", "450:-1%", "vrfy:450:1%", "450:x", "450:1%%"]
)
def test_fault_plan_refuses_nonsense(text):
    """Anything else is an error of the command line, with a hint."""
    with pytest.raises(CampaignFileError) as caught:
        FaultPlan.parse([text])

    assert caught.value.hint


def test_fault_plan_is_repeatable():
    """The same seed gives the same misfortune."""

    def results(seed: int) -> list[bool]:
        plan = FaultPlan.parse(["rcpt:450:50%"], seed=seed)
        with (
            SandboxServer(tls="none", user=None, faults=plan) as server,
            smtplib.SMTP(server.host, server.port, timeout=10) as client,
        ):
            client.ehlo()
            client.mail("a@example.org")
            return [client.rcpt("b@example.net")[0] == 250 for _ in range(30)]

    assert results(7) == results(7)
    assert len(set(results(7))) == 2


def test_aiosmtpd_server(aiosmtpd_server):
    """The plain aiosmtpd takes a message over STARTTLS with sign-in."""
    with signed_in(aiosmtpd_server) as client:
        client.sendmail("a@example.org", ["b@example.net"], CONTENT)

    (message,) = aiosmtpd_server.received()
    assert message.content == CONTENT
    assert message.rcpt_to == ("b@example.net",)


@pytest.mark.program("smtp-sink")
def test_smtp_sink(smtp_sink):
    """smtp-sink keeps what it takes, and refuses what its options say."""
    sink = smtp_sink()
    with smtplib.SMTP(sink.host, sink.port, timeout=10) as client:
        client.sendmail("a@example.org", ["b@example.net", "c@example.net"], CONTENT)
    refusing = smtp_sink("-f", "RCPT")
    with (
        smtplib.SMTP(refusing.host, refusing.port, timeout=10) as client,
        pytest.raises(smtplib.SMTPRecipientsRefused),
    ):
        client.sendmail("a@example.org", ["b@example.net"], CONTENT)

    (message,) = sink.received()
    assert message.content == CONTENT
    assert message.mail_from == "a@example.org"
    assert message.rcpt_to == ("b@example.net", "c@example.net")


@pytest.mark.program("postfix", "saslpasswd2")
@pytest.mark.parametrize("tls_from_start", [False, True])
def test_postfix(postfix, tls_from_start):
    """A real Postfix takes mail under TLS with sign-in, offers what we use, and refuses whom it should."""
    port = postfix.tls_port if tls_from_start else postfix.port
    with signed_in(postfix, tls_from_start=tls_from_start, port=port) as client:
        assert {"pipelining", "chunking", "size"} <= set(client.esmtp_features)
        refused = client.sendmail("a@example.org", ["b@example.net", "reject@example.com"], CONTENT)

    assert refused == {
        "reject@example.com": (550, b"5.1.1 <reject@example.com>: Recipient address rejected: no such user")
    }
    (message,) = postfix.received(1)
    assert message.mail_from == "a@example.org"
    assert message.rcpt_to == ("b@example.net",)
    assert message.parse()["Subject"] == "Hi"
    assert message.content.endswith(b"\r\n\r\n.a dot\r\n..two\r\nend\r\n")


@pytest.mark.program("postfix", "saslpasswd2")
def test_postfix_wants_sign_in(postfix):
    """Nobody relays through it unsigned, and a wrong password is refused."""
    with smtplib.SMTP(postfix.host, postfix.port, timeout=10) as client:
        client.starttls(context=ssl.create_default_context(cafile=postfix.ca_file))
        with pytest.raises(smtplib.SMTPRecipientsRefused):
            client.sendmail("a@example.org", ["b@example.net"], CONTENT)
        with pytest.raises(smtplib.SMTPAuthenticationError):
            client.login(postfix.user, "wrong")
