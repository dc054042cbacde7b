"""The main job: list in, messages out, over one session, on every kind of server and sign-in."""

from __future__ import annotations

import socket
import sys
from typing import TYPE_CHECKING

import pytest

from servers.command import CAMPAIGN, EVERYBODY, statuses, subjects
from servers.kept import KeepingSandbox
from servers.programs import wait_until

if TYPE_CHECKING:
    from pathlib import Path

ADDRESSES = list(EVERYBODY)


# --- servers, TLS modes, mechanisms ----------------------------------------------------------------------


@pytest.mark.program("postfix", "saslpasswd2")
@pytest.mark.parametrize(
    ("port", "tls", "mechanism"),
    [
        ("port", "starttls", "PLAIN"),
        ("tls_port", "tls", "PLAIN"),
        ("login_port", "starttls", "LOGIN"),
        ("cram_port", "starttls", "CRAM-MD5"),
    ],
)
def test_postfix_in_every_way(mailmerge, postfix, port, tls, mechanism):
    """A real Postfix accepts the run by STARTTLS and implicit TLS, and each password mechanism signs in."""
    campaign = mailmerge.campaign()
    mailmerge.account(postfix, port=getattr(postfix, port), tls=tls)

    done = mailmerge("send", "spring", "--yes", "--transcript", "dialogue.txt")

    assert done.code == 0, done
    assert subjects(postfix.received(3)) == EVERYBODY
    assert statuses(campaign) == ["accepted"] * 3
    dialogue = (mailmerge.folder / "dialogue.txt").read_text()
    assert f"AUTH {mechanism}" in dialogue
    assert ("STARTTLS" in dialogue) == (tls == "starttls")


@pytest.mark.parametrize("tls", ["starttls", "tls", "none"])
def test_sandbox_in_every_tls_mode(mailmerge, tls):
    """587 STARTTLS, 465 TLS and 25 plain, on a server with PIPELINING and CHUNKING."""
    mailmerge.campaign()
    with KeepingSandbox(tls=tls, user=None if tls == "none" else "me") as server:
        mailmerge.account(server)

        done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert subjects(server.messages) == EVERYBODY


def test_token_from_a_command(mailmerge, sandbox):
    """XOAUTH2 with what ``token_command`` prints; no password is looked for."""
    mailmerge.campaign()
    command = [sys.executable, "-c", f"print({sandbox.password!r})"]
    mailmerge.account(sandbox, auth="token", token_command=command)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]

    done = mailmerge("send", "spring", "--yes", "--transcript", "dialogue.txt")

    assert done.code == 0, done
    assert subjects(sandbox.messages) == EVERYBODY
    assert "AUTH XOAUTH2" in (mailmerge.folder / "dialogue.txt").read_text()


def test_password_from_a_command(mailmerge, aiosmtpd_server):
    """``password_command`` is run without a shell; its first line is the password, spaces and all."""
    mailmerge.campaign()
    command = [sys.executable, "-c", f"print({aiosmtpd_server.password!r}); print('not this')"]
    mailmerge.account(aiosmtpd_server, password_command=command)
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert subjects(aiosmtpd_server.received()) == EVERYBODY


@pytest.mark.parametrize("place", ["environment", ".env"])
def test_account_from_variables(mailmerge, sandbox, place):
    """SMTP_SERVER and its like make an account, from the environment or from ``.env`` beside the campaign."""
    folder = mailmerge.campaign(campaign_toml=CAMPAIGN.replace('account = "test"\n', ""))
    variables = {
        "SMTP_SERVER": sandbox.host,
        "SMTP_PORT": str(sandbox.port),
        "SMTP_TLS": "starttls",
        "SMTP_USER": sandbox.user,
        "SMTP_FROM": "me@example.org",
        "SMTP_AUTH": sandbox.password,
    }
    if place == ".env":
        (folder / ".env").write_text("".join(f"{name}={value}\n" for name, value in variables.items()))
        (folder / ".env").chmod(0o600)
        variables = {}

    done = mailmerge("send", "spring", "--yes", "--ca-file", sandbox.ca_file, **variables)

    assert done.code == 0, done
    assert subjects(sandbox.messages) == EVERYBODY


# --- one session, and nothing twice -----------------------------------------------------------------------


@pytest.mark.program("postfix", "saslpasswd2")
def test_one_session_and_a32(mailmerge, postfix):
    """The whole run takes one connection; the second run opens none and sends nothing."""
    mailmerge.campaign()
    mailmerge.account(postfix)
    before = postfix.connections()

    first = mailmerge("send", "spring", "--yes")
    assert first.code == 0, first
    assert "3 accepted" in first.out
    wait_until(lambda: postfix.connections() > before, "the connection logged")
    second = mailmerge("send", "spring", "--yes")

    assert second.code == 0, second
    assert "3 rows accepted by earlier runs; none will be sent again" in second.err
    assert len(postfix.received(3)) == 3
    assert postfix.connections() == before + 1


def test_a32_without_a_server(mailmerge, sandbox):
    """A finished campaign can be run again although neither server nor secret is there any more."""
    mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes").code == 0
    sandbox.stop()
    del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]

    done = mailmerge("send", "spring", "--yes")

    assert done.code == 0, done
    assert "3 accepted" in done.out


@pytest.mark.program("smtp-sink")
def test_one_then_the_rest(mailmerge, smtp_sink):
    """The ladder: ``--limit 1``, then all; everybody is written to once."""
    campaign = mailmerge.campaign()
    sink = smtp_sink()
    mailmerge.account(sink)

    one = mailmerge("send", "spring", "--yes", "--limit", "1")
    assert one.code == 0, one
    assert [message.rcpt_to[0] for message in sink.received()] == ADDRESSES[:1]
    assert statuses(campaign) == ["accepted", "pending", "pending"]
    rest = mailmerge("send", "spring", "--yes")

    assert rest.code == 0, rest
    assert sorted(message.rcpt_to[0] for message in sink.received()) == sorted(ADDRESSES)
    assert statuses(campaign) == ["accepted"] * 3


def test_rows_where_and_limit(mailmerge, sandbox):
    """``--rows`` counts as the spreadsheet does, ``--where`` is an expression; the rest waits."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)

    assert mailmerge("send", "spring", "--yes", "--rows", "3").code == 0
    assert subjects(sandbox.messages) == {"bo@example.net": "Hello Bo"}
    assert statuses(campaign) == ["pending", "accepted", "pending"]

    chosen = mailmerge("send", "spring", "--yes", "--where", "name == 'Cy'")
    assert chosen.code == 0, chosen
    assert list(subjects(sandbox.messages)) == ["bo@example.net", "cy@example.org"]
    assert statuses(campaign)[0] == "skipped"

    assert mailmerge("send", "spring", "--yes", "--rows", "2,99").code == 0
    assert subjects(sandbox.messages) == EVERYBODY
    assert statuses(campaign) == ["accepted"] * 3


# --- looking only --------------------------------------------------------------------------------------


def test_a33_dry_run_touches_nothing(mailmerge, sandbox):
    """A dry run opens no socket and leaves the ledger's bytes alone; its plan is that of the real run."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    assert mailmerge("send", "spring", "--yes", "--limit", "1").code == 0
    before = contents(campaign)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        mailmerge.account(sandbox, port=port)
        dry = mailmerge("send", "spring", "--dry-run")
        listener.setblocking(False)
        with pytest.raises(BlockingIOError):  # nobody waits in the line
            listener.accept()

    assert dry.code == 0, dry
    assert "2 of 3 rows" in dry.err
    assert "first: bo@example.net, last: cy@example.org" in dry.err
    assert "Dry run: nothing was sent or recorded." in dry.err
    assert contents(campaign) == before
    assert len(sandbox.messages) == 1


def test_first_dry_run_leaves_no_trace(mailmerge, sandbox):
    """Where nothing has been sent yet, check, dry run and preview make neither ledger nor reports."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox)
    before = contents(campaign)

    for command in (
        ("check", "spring"),
        ("send", "spring", "--dry-run"),
        ("preview", "spring", "--terminal"),
    ):
        assert mailmerge(*command).code == 0

    assert contents(campaign) == before
    assert sandbox.messages == []


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("kind", ["alternative", "attachment", "long"])
def test_preview_is_what_was_sent(mailmerge, aiosmtpd_server, kind):
    """Files written after the run are byte for byte what the server took, Date and Message-ID included."""
    toml = CAMPAIGN
    files = {}
    if kind == "alternative":
        toml += 'html = "body.html"\n'
        files["body_html"] = "<p>Dear <b>{{ name }}</b>,</p>\n<p>.dots and ünïcode</p>\n"
    elif kind == "attachment":
        toml += '\n[[attach]]\npath = "terms.pdf"\nname = "Bedingungen für {{ name }}.pdf"\n'
        files["terms_pdf"] = "%PDF-1.4 " + "x" * 5000
    else:
        files["body_txt"] = "." + "ä{{ name }} " * 500 + "\n.\n..\n\nFrom here\n"
    mailmerge.campaign(campaign_toml=toml, **files)
    mailmerge.account(aiosmtpd_server)

    assert mailmerge("send", "spring", "--yes").code == 0
    assert mailmerge("preview", "spring", "--eml", "eml", "--mbox", "all.mbox").code == 0

    shown = [path.read_bytes() for path in sorted((mailmerge.folder / "eml").glob("*.eml"))]
    assert [message.content for message in aiosmtpd_server.received()] == shown
    assert (mailmerge.folder / "all.mbox").read_bytes().count(b"\nMessage-ID: ") == 3
