"""Signing in at a real server: each mechanism that we know, over TLS, by the command line's own way."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailmerge.model import Status
from mailmerge.sandbox import SandboxServer
from reliability.bench import Bench
from reliability.conversing import told
from servers.dovecot import Dovecot

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from servers.certificates import Certificates


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
    assert "Does the server know the certificate" in told(report)
    assert report.exit_code == 6
