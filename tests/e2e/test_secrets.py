"""Secrets while they are used and after: never shown, not even by a bug of ours, and never kept."""

from __future__ import annotations

import gc
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from mailmerge import Account, send_message
from mailmerge.campaign.connect import connection_factory
from mailmerge.config.environment import Environment
from mailmerge.masking import mask_known

if TYPE_CHECKING:
    from pathlib import Path

    from servers.command import Mailmerge
    from servers.kept import KeepingSandbox

CANARY = "CANARY+s3cret/word="
BROKEN_LOOKUP = """\
import os, socket, sys
from mailmerge.cli import run
def broken(*_arguments, **_more):
    raise RuntimeError("looking up " + os.environ["MAILMERGE_SMTP_PASSWORD"])
socket.getaddrinfo = broken
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def account(sandbox: KeepingSandbox) -> Account:
    """The sandbox as an account of the user's own configuration."""
    return Account(
        name="test",
        host="127.0.0.1",
        port=sandbox.port,
        user=sandbox.user,
        ca_file=sandbox.ca_file,
        any_from=True,
        source="config",
    )


@pytest.mark.parametrize(
    "command", [("send", "--yes"), ("test", "--to", "me@example.org"), ("check", "--smtp")]
)
def test_a_bug_of_ours_never_shows_the_secret(
    mailmerge: Mailmerge, sandbox: KeepingSandbox, command: tuple[str, ...]
) -> None:
    """Where a traceback is printed while a secret is in use, it is masked in it."""
    campaign = mailmerge.campaign()
    mailmerge.account(sandbox, host="localhost")
    done = subprocess.run(
        [sys.executable, "-P", "-c", BROKEN_LOOKUP, command[0], str(campaign), *command[1:]],
        env={**mailmerge.environ, "MAILMERGE_SMTP_PASSWORD": CANARY},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )

    assert done.returncode == 1, done.stderr
    assert "RuntimeError: looking up ****" in done.stderr
    assert CANARY not in done.stdout + done.stderr


def test_a_secret_is_known_as_long_as_it_is_used(account: Account) -> None:
    """What can sign in has the secret; when it goes, nothing of the program knows the secret any more."""
    environment = Environment({"SMTP_AUTH": CANARY})
    for _ in range(3):
        connect = connection_factory(account, environment)
        connection = connect()
        assert mask_known(f"<{CANARY}>") == "<****>"
        del connect, connection
        gc.collect()
        assert mask_known(f"<{CANARY}>") == f"<{CANARY}>"


def test_a_message_from_a_script_leaves_no_secret_behind(
    account: Account, sandbox: KeepingSandbox, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A server that sends one message after the other does not collect their secrets."""
    monkeypatch.setenv("MAILMERGE_SMTP_PASSWORD", sandbox.password)
    monkeypatch.chdir(tmp_path)
    for _ in range(3):
        outcome = send_message("ana@example.com", "Hello", "Hello", from_="me@example.org", account=account)
        assert outcome.status == "accepted"
    gc.collect()
    assert len(sandbox.messages) == 3
    assert mask_known(sandbox.password) == sandbox.password
    assert list(tmp_path.iterdir()) == []
