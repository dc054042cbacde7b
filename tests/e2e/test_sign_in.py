"""Signing in at a real server: each mechanism that we know, over TLS, by the command line's own way."""

from __future__ import annotations

import tomllib
from typing import TYPE_CHECKING

import pytest

from mailmerge.model import Status
from mailmerge.sandbox import SandboxServer
from reliability.bench import Bench
from reliability.conversing import told
from servers.command import typed
from servers.dovecot import Dovecot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers.certificates import Certificates
    from servers.command import Mailmerge


@pytest.fixture(scope="module")
def relay() -> Iterator[SandboxServer]:
    """The server behind it, which takes everything."""
    with SandboxServer(tls="none", user=None) as server:
        yield server


@pytest.fixture(scope="module", params=["scram-sha-256 plain", "cram-md5", "login", "external"])
def dovecot(
    request: pytest.FixtureRequest, relay: SandboxServer, certificates: Certificates
) -> Iterator[Dovecot]:
    """Dovecot, which knows one mechanism, or a better one beside another."""
    server = Dovecot(relay.port, certificates=certificates, mechanisms=request.param)
    yield server
    server.stop()


def test_each_mechanism(dovecot: Dovecot, certificates: Certificates, tmp_path: Path) -> None:
    """The best one that it offers is used, and the secret is in no transcript."""
    bench = Bench(tmp_path / "bench", rows=1)
    own = {}
    if dovecot.mechanisms == "external":
        ann = certificates.authority.issue_cert(common_name=dovecot.user)
        ann.private_key_and_cert_chain_pem.write_to_path(str(tmp_path / "ann.pem"))
        own = {"cert_file": str(tmp_path / "ann.pem")}
    bench.mailmerge.account(dovecot, **own)
    report = bench.send(transcript=tmp_path / "talk.txt")
    talk = (tmp_path / "talk.txt").read_text("utf-8")
    assert f"AUTH {dovecot.mechanisms.split()[0].upper()}" in talk, told(report)
    assert dovecot.password not in talk
    assert set(bench.states().values()) == {Status.ACCEPTED}, told(report)


@pytest.mark.parametrize("dovecot", ["external"], indirect=True)
def test_a_certificate_for_somebody_else(
    dovecot: Dovecot, certificates: Certificates, tmp_path: Path
) -> None:
    """The server refuses it, and the hint speaks of the certificate, not of a password."""
    bench = Bench(tmp_path / "bench", rows=1)
    bo = certificates.authority.issue_cert(common_name="bo")
    bo.private_key_pem.write_to_path(str(tmp_path / "bo.key"))
    bo.cert_chain_pems[0].write_to_path(str(tmp_path / "bo.pem"))
    files = {"cert_file": str(tmp_path / "bo.pem"), "key_file": str(tmp_path / "bo.key")}
    bench.mailmerge.account(dovecot, **files)
    report = bench.send()
    assert "Does the server accept the certificate" in told(report)
    assert report.exit_code == 6


needs_terminal = pytest.mark.skipif("sys.platform == 'win32'")


@needs_terminal
def test_login_from_an_address_to_an_account_that_works(mailmerge: Mailmerge) -> None:
    """Server, certificate, a wrong password, the right one, where it is kept; then a run needs nobody."""
    with SandboxServer(user="ann@example.org") as server:
        answers = [
            ("Server for outgoing mail", "127.0.0.1"),
            ("Port", str(server.port)),
            ("Password for ann@example.org", "wrong"),
            ("Password for ann@example.org", server.password),
            ("only you can read", "y"),
        ]
        arguments = ["login", "ann@example.org", "--ca-file", str(server.ca_file)]
        done = typed(mailmerge, arguments, answers)
        assert done.code == 0, done
        assert "refused the sign-in" in done.err
        assert "the certificate is valid until" in done.err
        assert server.password not in done.out + done.err
        kept = next((mailmerge.config.parent / "secrets").glob("*.json"))
        assert kept.stat().st_mode & 0o777 == 0o600
        account = tomllib.loads(mailmerge.config.read_text())["accounts"]["example"]
        assert (account["host"], account["user"]) == ("127.0.0.1", "ann@example.org")
        campaign = mailmerge.campaign()
        text = (campaign / "campaign.toml").read_text().replace('account = "test"', 'account = "example"')
        (campaign / "campaign.toml").write_text(text)
        assert "is ready. Nothing was sent." in mailmerge("check", "spring", "--smtp").err
        gone = mailmerge("logout", "example")
        assert (gone.code, kept.exists()) == (0, False)


@needs_terminal
def test_login_asks_three_times(mailmerge: Mailmerge) -> None:
    """More would lock the account; nothing is kept, and the account stays written down for the next try."""
    with SandboxServer() as server:
        mailmerge.account(server)
        del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
        done = typed(mailmerge, ["login", "test"], [("Password for", "wrong")] * 3)
    assert done.code == 6, done
    assert "error[S601]" in done.err
    assert not (mailmerge.config.parent / "secrets").exists()


@needs_terminal
def test_login_writes_nothing_down_that_no_server_answers_to(mailmerge: Mailmerge) -> None:
    """A wrong server leaves the configuration as it was: the next try asks for it again."""
    answers = [("Server for outgoing mail", "127.0.0.1"), ("Port", "1")]
    done = typed(mailmerge, ["login", "ann@example.org"], answers)
    assert done.code not in {0, 1}, done
    assert "Wrote" not in done.err
    assert not mailmerge.config.exists()


def test_login_needs_a_terminal(mailmerge: Mailmerge) -> None:
    """A script is told what it can set instead."""
    done = mailmerge("login", "me@gmail.com")
    assert done.code == 2
    assert "MAILMERGE_SMTP_PASSWORD" in done.err


@needs_terminal
@pytest.mark.parametrize(("who", "words"), [("me@", "is not an address"), ("gmial", "did you mean `gmail`?")])
def test_login_with_something_else(mailmerge: Mailmerge, who: str, words: str) -> None:
    """What cannot be an account is told, with what comes near it."""
    done = typed(mailmerge, ["login", who], [])
    assert done.code == 2, done
    assert words in done.err


@needs_terminal
def test_init_offers_to_sign_in(mailmerge: Mailmerge) -> None:
    """Where the sender's provider is known; whoever declines gets the campaign all the same."""
    answers = [
        ("Your list", ""),
        ("Template", "plain"),
        ("Sender", "me@gmail.com"),
        ("Subject", "Hi"),
        ("Sign in at Gmail as me@gmail.com now?", "n"),
    ]
    done = typed(mailmerge, ["init", "spring"], answers)
    assert done.code == 0, done
    assert (mailmerge.folder / "spring/campaign.toml").exists()


@needs_terminal
def test_init_takes_the_account_that_sends_as_the_sender(mailmerge: Mailmerge) -> None:
    """It is known already: nobody is asked, and campaign.toml names it."""
    mailmerge.config.write_text('[accounts.mine]\nprovider = "gmail"\nuser = "me@gmail.com"\n')
    answers = [("Your list", ""), ("Template", "plain"), ("Sender", "me@gmail.com"), ("Subject", "Hi")]
    done = typed(mailmerge, ["init", "spring"], answers)
    assert done.code == 0, done
    assert 'account = "mine"' in (mailmerge.folder / "spring/campaign.toml").read_text()
