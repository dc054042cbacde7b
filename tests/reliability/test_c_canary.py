"""C9: a password and a token, and every place where they must not turn up."""

from __future__ import annotations

import base64
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from faultd import hang
from reliability.bench import Bench
from reliability.canary import PASSWORD, TOKEN, forms, leaks
from reliability.conversing import USER, Bearer, server_with

if TYPE_CHECKING:
    from collections.abc import Iterator

    from faultd import Fault, Peer
    from servers.certificates import Certificates
    from servers.command import Done

EVERY_COMMAND = [
    ("check",),
    ("check", "--json"),
    ("preview", "--terminal"),
    ("preview", "--no-open"),
    ("preview", "--eml", "eml"),
    ("rehearse",),
    ("test", "--to", USER, "--transcript", "test.txt"),
    ("send", "--dry-run", "--json"),
    ("send", "--yes", "--json", "--transcript", "send.txt"),
    ("status", "--json"),
    ("report",),
    ("resolve",),
    ("requeue",),
    ("purge", "--yes"),
]


def echo(secret: str, *, code: bytes = b"535") -> Fault:
    """Repeat what was said: the line, the secret as it is, and in base64 with and without the user."""

    def fault(peer: Peer) -> bytes:
        line = peer.server.commands[-1]
        known = forms(secret, USER)
        words = b" ".join((known["AUTH PLAIN"], base64.b64encode(secret.encode()), secret.encode()))
        return code + b"-5.7.8 you said " + line + b"\r\n" + code + b" 5.7.8 " + words + b"\r\n"

    return fault


def shown(*runs: Done) -> dict[str, bytes]:
    """Return the outputs of these runs."""
    return {
        f"{name} of run {n}": getattr(run, name).encode()
        for n, run in enumerate(runs)
        for name in ("out", "err")
    }


@pytest.fixture
def bench(tmp_path: Path, certificates: Certificates) -> Iterator[Bench]:
    """A campaign at a server with TLS where the password is good."""
    with server_with(tls=certificates.server_context(), users={USER: PASSWORD}) as server:
        bench = Bench(tmp_path / "bench", server)
        bench.account(
            host="localhost", user=USER, auth="password", tls="starttls", ca_file=str(certificates.ca_file)
        )
        bench.mailmerge.environ |= {"MAILMERGE_SMTP_PASSWORD": PASSWORD, "SMTP_AUTH": TOKEN}
        yield bench


def test_c09_the_search_finds() -> None:
    """The search itself works: each form is found where it is."""
    for secret in (PASSWORD, TOKEN):
        for name, form in forms(secret, USER).items():
            assert len(form) > 15, name
    text = b"x" + forms(PASSWORD, USER)["AUTH PLAIN"]
    found = [name for name, form in forms(PASSWORD, USER).items() if form in text]
    assert "AUTH PLAIN" in found
    assert any(name.startswith("base64 behind") for name in found)


def test_c09_all_commands(bench: Bench, certificates: Certificates, tmp_path: Path) -> None:
    """Every command, with every file it writes: nothing, of secret and keys, at a server that takes them."""
    key_file = tmp_path / "dkim.pem"
    command = ["openssl", "genpkey", "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048", "-out"]
    subprocess.run([*command, key_file], check=True, capture_output=True)
    bench.account(
        host="localhost",
        user=USER,
        auth="password",
        tls="starttls",
        ca_file=str(certificates.ca_file),
        dkim={"selector": "s", "key_file": str(key_file)},
    )
    bench.write(message='unsubscribe = "https://example.org/u/{{ token }}"')
    runs = [bench.mailmerge(command, bench.folder, *options) for command, *options in EVERY_COMMAND]
    assert [run.code for run in runs if run.code not in {0, 2, 3}] == []
    assert "235 2.7.0 welcome" in (bench.mailmerge.folder / "send.txt").read_text()
    assert leaks(USER, [PASSWORD, TOKEN], shown(*runs), bench.mailmerge.folder) == []
    [unsubscribe_key] = (bench.mailmerge.config.parent / "unsubscribe").glob("*.json")
    keys = [*key_file.read_text().splitlines()[1:-1], json.loads(unsubscribe_key.read_text())["secret"]]
    places = {str(path): path.read_bytes() for path in bench.mailmerge.folder.rglob("*") if path.is_file()}
    del places[str(unsubscribe_key)]
    for form in (form for key in keys for form in (key.encode(), repr(key.encode())[2:-1].encode())):
        assert [place for place, content in {**places, **shown(*runs)}.items() if form in content] == []


@pytest.mark.parametrize("verb", ["AUTH", "MAIL", "RCPT", "refuse", "taken", "EHLO"])
def test_c09_a_server_that_tells_everything(verb: str, bench: Bench) -> None:
    """A server that repeats the secret in its replies does not get it into our files or on the screen."""
    assert bench.server is not None
    code = {"AUTH": b"535", "taken": b"250", "EHLO": b"250"}.get(verb, b"550")
    fault = echo(PASSWORD, code=code)
    bench.server.change_mood(
        {verb: {3: fault} if verb == "EHLO" else fault}
    )  # the third one is after sign-in
    run = bench.mailmerge("send", bench.folder, "--yes", "--json", "--transcript", "t.txt")
    words = run.out + run.err + (bench.mailmerge.folder / "t.txt").read_text()
    assert "you said" in words
    assert leaks(USER, [PASSWORD], shown(run), bench.mailmerge.folder) == []


@pytest.mark.parametrize("good", [True, False])
def test_c09_a_token(good: bool, tmp_path: Path) -> None:
    """The same for a token that a program gives, accepted or refused."""
    with Bearer() as server:
        server.good = (TOKEN,) if good else ()
        bench = Bench(tmp_path / "bench", server)
        (tmp_path / "token").write_text(TOKEN + "\n")
        bench.account(user=USER, auth="token", token_command=["cat", str(tmp_path / "token")])
        run = bench.mailmerge("send", bench.folder, "--yes", "--json", "--transcript", "t.txt")
        assert run.code == (0 if good else 6)
        assert server.dialogue[0] == TOKEN
        assert leaks(USER, [TOKEN], shown(run), bench.mailmerge.folder) == []


BREAKS = """\
import socket, ssl, sys
def send(self, data, *more):
    if b"AUTH" in data:
        raise {error}
    return real(self, data, *more)
real = ssl.SSLSocket.send
ssl.SSLSocket.send = send
sys.argv[0] = "mailmerge"
from mailmerge.__main__ import main
main()
"""


@pytest.mark.parametrize(
    "error",
    ["KeyError(data)", "RuntimeError(data.decode())", "ValueError(repr([data]))"],
)
def test_c09_a_bug_of_ours(error: str, bench: Bench) -> None:
    """Even a traceback whose error quotes the very line with the secret does not show it; exit 1."""
    done = subprocess.run(
        [sys.executable, "-P", "-c", BREAKS.format(error=error), "send", str(bench.folder), "--yes"],
        cwd=bench.mailmerge.folder,
        env=bench.mailmerge.environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 1, done
    assert b"Traceback" in done.stderr
    assert error.partition("(")[0].encode() in done.stderr
    texts = {"out": done.stdout, "err": done.stderr}
    assert leaks(USER, [PASSWORD], texts, bench.mailmerge.folder) == []


def test_c09_no_core(bench: Bench) -> None:
    """A process that has a secret leaves no core behind, whatever the shell allows."""
    import resource

    assert bench.server is not None
    bench.server.change_mood({"MAIL": hang})
    before = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (before[1], before[1]))
    try:
        process = bench.mailmerge.start("send", bench.folder, "--yes")
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, before)
    assert bench.server.wait_for(lambda: "MAIL" in bench.server.verbs(), 20)  # type: ignore[union-attr]
    limits = Path(f"/proc/{process.pid}/limits")
    found = limits.read_text() if limits.exists() else ""
    process.kill()
    process.communicate()
    assert not found or "Max core file size        0 " in found, found


def test_c09_a_password_of_odd_octets(bench: Bench) -> None:
    """Octets that are not UTF-8 are refused with an explanation, unshown."""
    environ = {os.fsencode(name): os.fsencode(value) for name, value in bench.mailmerge.environ.items()}
    environ[b"MAILMERGE_SMTP_PASSWORD"] = b"\xff" + PASSWORD.encode()
    done = subprocess.run(
        [sys.executable, "-P", "-m", "mailmerge", "send", str(bench.folder), "--yes"],
        cwd=bench.mailmerge.folder,
        env=environ,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, b"Traceback" in done.stderr) == (6, False), done.stderr.decode()
    assert leaks(USER, [PASSWORD], {"out": done.stdout, "err": done.stderr}, bench.mailmerge.folder) == []
