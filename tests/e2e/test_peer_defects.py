"""Defects that another mail merge tool (2.3.0) was seen to have, each as a test that passes here."""

from __future__ import annotations

import signal

import pytest

from faultd import FaultServer, hang, say
from servers.command import CAMPAIGN, results, statuses
from servers.kept import KeepingSandbox
from servers.mail import Received


def delivered(server: KeepingSandbox) -> list[Received]:
    return [Received(message.mail_from, message.rcpt_to, message.content) for message in server.messages]


def test_d42_line_break_in_a_cell_adds_no_recipient(mailmerge, sandbox):
    """A Bcc smuggled through the subject becomes one line of it, and is told; the victim gets nothing."""
    campaign = mailmerge.campaign(
        people_csv='email,name\neve@example.com,"Eve\nBcc: victim@example.com"\nana@example.com,Ana\n'
    )
    mailmerge.account(sandbox)

    check = mailmerge("check", "spring")
    done = mailmerge("send", "spring", "--yes")

    assert check.code == 0, check
    assert "warning[M222]: `name` contains a line break, which becomes a space in Subject" in check.out
    assert '"Eve\\nBcc: victim@example.com"' in check.out
    assert done.code == 0, done
    assert statuses(campaign) == ["accepted", "accepted"]
    assert sorted(message.rcpt_to for message in sandbox.messages) == [
        ("ana@example.com",),
        ("eve@example.com",),
    ]
    heads = [message.content.partition(b"\r\n\r\n")[0] for message in sandbox.messages]
    assert not any(line.startswith(b"Bcc") for head in heads for line in head.split(b"\r\n"))


def test_non_ascii_sender_and_file_name(mailmerge, sandbox):
    """The display name is encoded and the address is not; file names follow RFC 2231."""
    toml = CAMPAIGN.replace("Me <me@example.org>", "Jürgen Größe <me@example.org>")
    toml += '\n[[attach]]\npath = "body.txt"\nname = "Übersicht für {{ name }}.txt"\n'
    mailmerge.campaign(campaign_toml=toml)
    mailmerge.account(sandbox)

    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0

    (message,) = delivered(sandbox)
    head, _, _ = message.content.partition(b"\r\n\r\n")
    (line,) = [line for line in head.split(b"\r\n") if line.startswith(b"From:")]
    assert line.startswith(b"From: =?utf-8?")
    assert line.endswith(b"?= <me@example.org>")
    assert b"Content-Disposition: attachment;" in message.content
    (part,) = message.parse().iter_attachments()
    assert part.get_filename() == "Übersicht für Ana.txt"
    (sender,) = message.parse()["From"].addresses
    assert (sender.display_name, sender.addr_spec) == ("Jürgen Größe", "me@example.org")


@pytest.mark.parametrize("tls", ["starttls", "tls"])
def test_rcpt_has_no_stray_words(mailmerge, tls):
    """RCPT names the address and nothing more, also with a non-ASCII sender over TLS."""
    mailmerge.campaign(campaign_toml=CAMPAIGN.replace("Me <me@example.org>", "Jürgen <me@example.org>"))
    with KeepingSandbox(tls=tls) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes", "--transcript", "dialogue.txt")

    assert done.code == 0, done
    dialogue = (mailmerge.folder / "dialogue.txt").read_text().splitlines()
    assert [line for line in dialogue if line.startswith("C: RCPT")] == [
        "C: RCPT TO:<ana@example.com>",
        "C: RCPT TO:<bo@example.net>",
        "C: RCPT TO:<cy@example.org>",
    ]


def test_comma_in_a_name_adds_no_recipient(mailmerge, sandbox):
    """``Müller, Jörg`` is one name and one envelope recipient."""
    mailmerge.campaign(people_csv='email,name\njoerg@example.com,"Müller, Jörg"\n')
    mailmerge.account(sandbox)

    assert mailmerge("send", "spring", "--yes").code == 0

    (message,) = delivered(sandbox)
    assert message.rcpt_to == ("joerg@example.com",)
    (to,) = message.parse()["To"].addresses
    assert (to.display_name, to.addr_spec) == ("Müller, Jörg", "joerg@example.com")


def test_doubled_quotes_anywhere_in_the_file(mailmerge, sandbox):
    """Doubled quotes after the first kilobytes are one quote each."""
    filler = "".join(f"p{number}@example.com,plain\n" for number in range(100))
    mailmerge.campaign(people_csv="email,name\n" + filler + 'q@example.com,"he said ""hi"" there"\n')
    mailmerge.account(sandbox)

    assert mailmerge("send", "spring", "--yes", "--rows", "102").code == 0

    (message,) = delivered(sandbox)
    assert message.parse()["Subject"] == 'Hello he said "hi" there'


def test_refused_cc_is_not_called_sent(mailmerge):
    """One of a row's recipients refused: nothing of the row is sent, and it is rejected."""
    campaign = mailmerge.campaign(campaign_toml=CAMPAIGN + 'cc = "boss@example.org"\n')
    with FaultServer({"RCPT": {2: say("550 5.1.1 no such user")}}) as server:
        mailmerge.account(server)
        done = mailmerge("send", "spring", "--yes")

    assert done.code == 3, done
    assert statuses(campaign) == ["rejected", "accepted", "accepted"]
    assert [message.recipients[0] for message in server.accepted] == [b"bo@example.net", b"cy@example.org"]
    assert "550 5.1.1 no such user" in done.out


def test_bad_row_and_duplicate_do_not_stop_the_rest(mailmerge, sandbox):
    """A bad address in row 4 of 5 stops nobody else; who is listed twice gets one message."""
    campaign = mailmerge.campaign(
        people_csv="email,name\nana@example.com,Ana\nANA@example.com,Ana\nnowhere,X\ncy@example.org,Cy\n"
    )
    mailmerge.account(sandbox)

    done = mailmerge("send", "spring", "--yes", "--skip-invalid")

    assert done.code == 3, done
    assert statuses(campaign) == ["accepted", "duplicate", "invalid", "accepted"]
    assert [message.rcpt_to[0] for message in sandbox.messages] == ["ana@example.com", "cy@example.org"]
    assert "row 2" in results(campaign)[1]["detail"]


def test_blank_rows_and_empty_addresses(mailmerge, sandbox):
    """A row of commas is a blank row, skipped and counted; so is a row without an address."""
    campaign = mailmerge.campaign(people_csv="email,name,city\n,,\nana@example.com,Ana,\n\n,Bo,Rome\n")
    mailmerge.account(sandbox)

    check = mailmerge("check", "spring")
    done = mailmerge("send", "spring", "--yes", "--skip-invalid")

    assert "1 of 2 rows can be sent (1 without an address); 2 blank rows skipped." in check.out
    assert done.code == 0, done
    assert [(row["row"], row["status"]) for row in results(campaign)] == [("3", "accepted"), ("5", "skipped")]


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"email,name\nana@example.com\n", "D101"),
        ("email,name\nana@example.com,Zoë\n".encode("latin-1"), "D230"),
    ],
)
def test_short_row_and_latin_1_are_told(mailmerge, data, code):
    """Neither a literal None in the body nor a traceback: the line is named."""
    campaign = mailmerge.campaign()
    (campaign / "people.csv").write_bytes(data)

    done = mailmerge("check", "spring")

    assert done.code == 2
    assert f"error[{code}]" in done.err
    assert "spring/people.csv:2" in done.err


@pytest.mark.parametrize("auth", ["password", "token"])
def test_certificates_are_verified(mailmerge, certificates, auth):
    """STARTTLS with a certificate that nobody vouches for: neither sign-in nor mail."""
    mailmerge.campaign()
    with FaultServer(tls=certificates.server_context(), users={"me": "geheim"}) as server:
        mailmerge.account(server, tls="starttls", auth=auth, user="me")
        done = mailmerge("send", "spring", "--yes", MAILMERGE_SMTP_PASSWORD="geheim")

    assert done.code == 6, done
    assert "error[S621]" in done.err
    assert set(server.verbs()) == {"EHLO", "STARTTLS"}


def test_refused_token_is_seen(mailmerge, sandbox):
    """The server's answer to XOAUTH2 counts: no message follows a refusal."""
    mailmerge.campaign()
    mailmerge.account(sandbox, auth="token")
    mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "stale"

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 6, done
    assert "error[S601]: 127.0.0.1 refused the sign-in: 535" in done.err
    assert sandbox.messages == []


def test_silent_server_can_be_left(mailmerge):
    """A server that hangs blocks nobody forever: one Ctrl-C is enough, since nothing was handed over."""
    campaign = mailmerge.campaign()
    with FaultServer({"MAIL": hang}) as server:
        mailmerge.account(server)
        process = mailmerge.start("send", "spring", "--yes")
        assert server.wait_for(lambda: "MAIL" in server.verbs(), 10)
        process.send_signal(signal.SIGINT)
        done = mailmerge.finish(process, timeout=10)

    assert done.code == 130, done
    assert mailmerge("report", "spring").code == 0
    assert statuses(campaign) == ["pending"] * 3
