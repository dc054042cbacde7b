"""Signing in with tokens: a real OpenID provider gives them, Dovecot's submission server checks them."""

from __future__ import annotations

import json
import signal
import stat
import subprocess
import sys
import threading
import time
from email import message_from_bytes
from typing import TYPE_CHECKING, Any

import pytest
import requests
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailmerge import BounceRequest
from mailmerge.campaign.login import Login
from mailmerge.config.account_secrets import secret_store
from mailmerge.config.accounts import resolve_account
from mailmerge.config.environment import Environment
from mailmerge.errors import AuthError, CampaignFileError, ConnectionLost
from mailmerge.model import Status
from mailmerge.sandbox import SandboxServer
from mailmerge.sign_in import consent
from mailmerge.sign_in.tokens import TokenSource
from reliability.bench import Bench
from reliability.conversing import told
from reports import delivery_report
from servers.command import typed
from servers.dovecot import Dovecot
from servers.openid import OpenIdProvider
from servers.programs import free_port, unmeasured

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from servers.certificates import Certificates
    from servers.command import Mailmerge

USER = "ann"


@pytest.fixture(scope="module")
def relay() -> Iterator[SandboxServer]:
    """The server behind Dovecot, which takes everything."""
    with SandboxServer(tls="none", user=None) as server:
        yield server


@pytest.fixture(scope="module")
def dovecot(
    relay: SandboxServer, certificates: Certificates, openid_provider: OpenIdProvider
) -> Iterator[Dovecot]:
    """Dovecot, which knows people by their tokens only."""
    server = Dovecot(relay.port, certificates=certificates, openid=openid_provider)
    yield server
    server.stop()


@pytest.fixture(scope="module")
def short_lived(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[OpenIdProvider]:
    """A provider whose tokens have always run out when they are looked at again."""
    server = OpenIdProvider(tmp_path_factory.mktemp("short"), certificates, seconds=20)
    yield server
    server.stop()


class Desk:
    """One person's configuration, with the account ``work``."""

    def __init__(self, folder: Path, server: Any, provider: OpenIdProvider, **values: object) -> None:
        self.bench = Bench(folder / "bench", rows=2)
        self.bench.mailmerge.account(
            server,
            **{
                "user": USER,
                "auth": "oauth",
                "issuer": provider.issuer,
                "client_id": provider.installed,
                "ca_file": str(provider.ca_file),
                **values,
            },
        )
        self.provider = provider
        self.environment = Environment.read(None, self.bench.mailmerge.environ)
        self.account = resolve_account("test", environment=self.environment)
        self.login = Login(self.account, self.environment)
        self.state = folder / "bench/home/state"

    def source(self) -> TokenSource:
        """Return tokens as a run does, from what is kept."""
        state = self.bench.mailmerge.environ["MAILMERGE_STATE_DIR"]
        from pathlib import Path

        return TokenSource(self.account, secret_store(self.environment), Path(state))

    def sign_in(self, user: str = USER) -> None:
        """Agree in another browser, and keep what comes of it in a file."""
        tokens = self.agreed(user)
        self.login.keep_tokens(tokens, "", in_file=True)

    def agreed(self, user: str = USER, secret: str = "", *, decline: bool = False) -> Any:
        """Agree, or decline, in another browser."""
        shown: list[str] = []
        return consent.in_another_browser(
            self.login.client(secret),
            user,
            show=shown.append,
            ask=lambda: self.provider.agree(shown[0], user, decline=decline),
        )


@pytest.fixture
def desk(tmp_path: Path, dovecot: Dovecot, openid_provider: OpenIdProvider) -> Desk:
    """Nobody has signed in there yet."""
    return Desk(tmp_path, dovecot, openid_provider)


def soon(seconds: float = 20) -> Callable[[], bool]:
    """Give up where nobody comes."""
    until = time.monotonic() + seconds
    return lambda: time.monotonic() > until


def secrets_of(desk: Desk) -> list[str]:
    """Return every token that is on disk."""
    found = [path.read_text("utf-8") for path in desk.bench.mailmerge.folder.rglob("*.json")]
    texts = [json.loads(text) for text in found if '"secret"' in text or '"access_token"' in text]
    registrations = [json.loads(text["secret"]) for text in texts if "secret" in text]
    values = [value for text in [*texts, *registrations] for value in text.values() if isinstance(value, str)]
    return [value for value in values if len(value) > 30 and not value.startswith("{")]


# --- agreeing ----------------------------------------------------------------------------------------------


def test_a_browser_on_this_machine(desk: Desk, relay: SandboxServer) -> None:
    """The browser comes back to loopback, the run signs in with the token, and no output has it."""
    before = relay.received_count
    answers: list[requests.Response] = []
    visitor = requests.Session()
    visitor.trust_env = False

    def browser(address: str) -> bool:
        def work() -> None:
            home = desk.provider.agree(address)
            port = home.partition("localhost:")[2].partition("?")[0].rstrip("/")
            stray = f"http://localhost:{port}/?code=x&state=somebody-else"
            icon = f"http://localhost:{port}/favicon.ico"
            answers.extend(visitor.get(visited, timeout=5) for visited in (stray, icon, home))

        threading.Thread(target=work).start()
        return True

    shown: list[str] = []
    tokens = consent.in_browser(
        desk.login.client(), USER, show=shown.append, open_browser=browser, give_up=soon()
    )
    place = desk.login.keep_tokens(tokens, "", in_file=True)
    assert [answer.status_code for answer in answers] == [200, 404, 200]
    assert "code_challenge_method=S256" in shown[0]
    assert f"login_hint={USER}" in shown[0]
    report = desk.bench.send(transcript=desk.bench.mailmerge.folder / "talk.txt")
    assert set(desk.bench.states().values()) == {Status.ACCEPTED}, told(report)
    assert relay.received_count == before + 2
    talk = (desk.bench.mailmerge.folder / "talk.txt").read_text("utf-8")
    assert "AUTH XOAUTH2" in talk
    secrets = secrets_of(desk)
    assert len(secrets) == 2  # one of each kind
    assert not any(secret in talk + told(report) + place for secret in secrets)
    for path in (desk.bench.mailmerge.folder / "home").rglob("*.json"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600, path


def test_a_browser_on_another_machine(desk: Desk) -> None:
    """The address where it ended is pasted; the token works immediately."""
    desk.login.try_token(desk.agreed())


def test_a_code_on_another_device(desk: Desk) -> None:
    """It is asked for until the person has entered the code; nobody waits longer than told."""
    slept: list[float] = []

    def show(address: str, code: str) -> None:
        def enter() -> None:
            desk.provider.agree(address, code=code)

        entering.append(threading.Thread(target=enter))

    def sleep(seconds: float) -> None:
        slept.append(seconds)
        if len(slept) == 2:  # after one "pending"
            entering[0].start()
            entering[0].join()

    entering: list[threading.Thread] = []
    tokens = consent.by_code(desk.login.client(), show=show, sleep=sleep)
    desk.login.try_token(tokens)
    assert len(slept) >= 2
    assert min(slept) >= 5


def test_a_code_that_nobody_enters(desk: Desk) -> None:
    """The provider says when it has run out."""
    with pytest.raises(AuthError, match="not entered in time"):
        consent.by_code(desk.login.client(), show=lambda *_: None, sleep=lambda _: time.sleep(1.2))


@pytest.mark.parametrize("how", ["browser", "code"])
def test_declined(desk: Desk, how: str) -> None:
    """Who declines is not signed in, and is told so."""

    def by_code() -> None:
        def show(address: str, code: str) -> None:
            desk.provider.agree(address, code=code, decline=True)

        consent.by_code(desk.login.client(), show=show, sleep=lambda _: None)

    ways = {"browser": lambda: desk.agreed(decline=True), "code": by_code}
    with pytest.raises(AuthError, match="declined") as caught:
        ways[how]()
    assert "mailmerge login test" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("pasted", "words"),
    [
        ("http://localhost:1?code=abc&state=other", "has answered an earlier request"),
        ("http://localhost:1?code=abc", "has answered an earlier request"),
        ("https://login.example.org/", "not the address where a sign-in ends"),
        ("", "not the address where a sign-in ends"),
    ],
)
def test_another_address_is_pasted(desk: Desk, pasted: str, words: str) -> None:
    """An answer to another question, or a page in between, is told from the right one."""
    with pytest.raises(AuthError, match=words):
        consent.in_another_browser(desk.login.client(), USER, show=lambda _: None, ask=lambda: pasted)


def test_an_installed_application_with_a_secret(desk: Desk, dovecot: Dovecot, tmp_path: Path) -> None:
    """Google gives one: it is shown to the token endpoint, kept beside the token, and wanted for renewing."""
    name, secret = desk.provider.with_secret
    other = Desk(tmp_path / "google", dovecot, desk.provider, client_id=name)
    other.login.keep_tokens(other.agreed(secret=secret), secret, in_file=True)
    first = other.source().token()
    assert other.source().token(refused=first.reveal()).reveal() != first.reveal()
    with pytest.raises(AuthError, match="does not know the application"):
        other.agreed(secret="wrong")


# --- renewing ----------------------------------------------------------------------------------------------


def test_a_token_that_still_lasts_is_used_again(desk: Desk) -> None:
    """Runs one after the other ask the provider nothing."""
    desk.sign_in()
    assert desk.source().token().reveal() == desk.source().token().reveal()


def withdraw(desk: Desk) -> str:
    """Put a token that no server takes into the place of the one that is kept, as if it was withdrawn."""
    (cached,) = desk.bench.mailmerge.folder.rglob("token-*.json")
    token = "withdrawn-in-the-meantime"
    cached.write_text(json.dumps({**json.loads(cached.read_text()), "access_token": token}))
    return token


def test_a_refused_token_is_renewed_and_the_sign_in_goes_on(desk: Desk, relay: SandboxServer) -> None:
    """Dovecot refuses a token that the provider does not know; the next one is taken, no row is lost."""
    desk.sign_in()
    before = relay.received_count
    token = withdraw(desk)
    report = desk.bench.send()
    assert set(desk.bench.states().values()) == {Status.ACCEPTED}, told(report)
    assert relay.received_count == before + 2
    assert desk.source().token().reveal() != token


def mailbox_of(server: Dovecot) -> dict[str, str]:
    """Return where the mailbox is: at the same server, for copies, drafts and reports."""
    place = f"imap://{USER}@localhost:{server.imap_port}"
    return {"imap": place, "bounces": place, "copy_to": "imap:Sent"}


def test_an_imap_mailbox_takes_the_same_tokens(
    tmp_path: Path, dovecot: Dovecot, openid_provider: OpenIdProvider
) -> None:
    """Copies, reports and drafts sign in as sending does; a token that is refused is renewed in between."""
    desk = Desk(tmp_path, dovecot, openid_provider, **mailbox_of(dovecot))
    desk.sign_in()
    run = desk.bench.mailmerge
    del run.environ["MAILMERGE_SMTP_PASSWORD"]
    said = told(desk.bench.send())
    copies = [message_from_bytes(copy) for copy in dovecot.kept("Sent")]
    assert sorted(copy["Subject"] for copy in copies) == ["Hello Person 1", "Hello Person 2"], said
    dovecot.keep(delivery_report(copies[0]["Message-ID"], address="p1@example.net"))
    withdraw(desk)
    looked = desk.bench.campaign().bounces(BounceRequest())
    assert (looked.bounced, looked.sorts) == (1, {"hard": 1})
    used = desk.source().token().reveal()
    withdraw(desk)
    drafted = run("drafts", "spring", "--yes", "--name", "next", "--accept-repeats")
    assert (drafted.code, len(dovecot.kept("Drafts"))) == (0, 1), drafted
    assert desk.source().token().reveal() != used
    shown = said + drafted.out + drafted.err
    assert not [secret for secret in (used, *secrets_of(desk)) if secret in shown]


def test_a_token_that_runs_out_between_two_messages(
    tmp_path: Path, dovecot: Dovecot, openid_provider: OpenIdProvider, relay: SandboxServer
) -> None:
    """Each message has a connection of its own: the second one signs in with a token of its own, too."""
    desk = Desk(tmp_path, dovecot, openid_provider, per_connection=1, rate="1/2s")
    desk.sign_in()
    before = relay.received_count
    (cached,) = desk.bench.mailmerge.folder.rglob("token-*.json")
    first = json.loads(cached.read_text())
    cached.write_text(json.dumps({**first, "expires_at": time.time() + 90 + 1.5}))
    report = desk.bench.send(transcript=tmp_path / "talk.txt")
    assert set(desk.bench.states().values()) == {Status.ACCEPTED}, told(report)
    assert relay.received_count == before + 2
    talk = (tmp_path / "talk.txt").read_text("utf-8")
    assert (talk.count("C: AUTH "), talk.count("S: 235 ")) == (2, 2), talk
    renewed = json.loads(cached.read_text())["access_token"]
    assert renewed != first["access_token"]
    assert not [token for token in (renewed, first["access_token"]) if token in talk + told(report)]


def test_rotation_again_and_again(tmp_path: Path, dovecot: Dovecot, short_lived: OpenIdProvider) -> None:
    """Each refresh token is used once; the provider would revoke everything if an old one came back."""
    desk = Desk(tmp_path, dovecot, short_lived)
    desk.sign_in()
    tokens = {desk.source().token().reveal() for _ in range(5)}
    assert len(tokens) == 5


KILLED = """
import os, signal, sys
from pathlib import Path
from mailmerge.config.account_secrets import secret_store
from mailmerge.config.accounts import resolve_account
from mailmerge.config.environment import Environment
from mailmerge.config.secret_store import SecretStore
from mailmerge.sign_in.tokens import TokenSource

environment = Environment.read(None)
store = secret_store(environment)
source = TokenSource(
    resolve_account("test", environment=environment), store, Path(os.environ["MAILMERGE_STATE_DIR"])
)
def at(event, arguments):
    if event == "os.rename" and "secrets" in os.readlink(f"/proc/self/fd/{arguments[2]}"):
        os.kill(os.getpid(), signal.SIGKILL)
if sys.argv[1] == "kill":
    sys.addaudithook(at)
print(source.token(refused=sys.argv[2] if len(sys.argv) > 2 else "").reveal())
"""


def run(desk: Desk, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-c", KILLED, *arguments],
        env=unmeasured(desk.bench.mailmerge.environ),
        stdout=subprocess.PIPE,
        text=True,
    )


def test_killed_between_the_two_writes(tmp_path: Path, dovecot: Dovecot, short_lived: OpenIdProvider) -> None:
    """The old refresh token is dead and the new one not in the store yet: it is not lost."""
    desk = Desk(tmp_path, dovecot, short_lived)
    desk.sign_in()
    for _ in range(3):
        killed = run(desk, "kill")
        assert killed.communicate(timeout=30)[0] == ""
        assert killed.returncode == -signal.SIGKILL
    assert desk.source().token()
    assert desk.source().token()


def test_two_processes_renew_once(desk: Desk) -> None:
    """Both want another token than the refused one: one fetches it, both use it."""
    desk.sign_in()
    refused = desk.source().token().reveal()
    both = [run(desk, "go", refused) for _ in range(2)]
    tokens = {process.communicate(timeout=30)[0].strip() for process in both}
    assert len(tokens) == 1
    assert tokens != {refused}


# --- what can be wrong -------------------------------------------------------------------------------------


def test_nobody_has_signed_in(desk: Desk) -> None:
    """The run stops before it contacts the server, and names the command."""
    report = desk.bench.send()
    assert report.exit_code == 6
    assert "nobody has signed in as ann" in told(report)
    assert "mailmerge login test" in told(report)


def test_the_sign_in_was_revoked(desk: Desk) -> None:
    """The provider does not renew it any more: exit 6, every row is pending, and the way out is named."""
    desk.sign_in()
    for token in secrets_of(desk):
        desk.provider.revoke(token)
    report = desk.bench.send()
    assert set(desk.bench.states().values()) == {Status.PENDING}
    assert report.exit_code == 6
    assert "does not renew the sign-in any more" in told(report)


def test_somebody_else_signed_in(desk: Desk) -> None:
    """The token is another person's: the server refuses it, and the hint speaks of tokens."""
    with pytest.raises(AuthError) as caught:
        desk.login.try_token(desk.agreed("bo"))
    assert "token" in (caught.value.hint or "")


def test_the_provider_is_offline(tmp_path: Path, dovecot: Dovecot, openid_provider: OpenIdProvider) -> None:
    """That is not a refusal: the same command resumes."""
    desk = Desk(tmp_path, dovecot, openid_provider, issuer=f"https://localhost:{free_port()}")
    with pytest.raises(ConnectionLost, match="does not answer") as caught:
        desk.source().token()
    assert caught.value.exit_code == 5


def test_another_certificate_authority(
    tmp_path: Path, dovecot: Dovecot, openid_provider: OpenIdProvider
) -> None:
    """Token calls are verified by the rules of the SMTP connection."""
    desk = Desk(tmp_path, dovecot, openid_provider, ca_file=None)
    with pytest.raises(AuthError, match="certificate of localhost cannot be verified"):
        desk.source().token()


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"client_id": "unknown"}, "does not know the application"),
        ({"issuer": "http://localhost:1"}, "must be an https address"),
        ({"issuer": None}, "does not specify where its tokens come from"),
        ({"client_id": "application", "grant": "application"}, "does not know the application"),
    ],
)
def test_accounts_that_cannot_work(
    tmp_path: Path,
    dovecot: Dovecot,
    openid_provider: OpenIdProvider,
    values: dict[str, object],
    words: str,
) -> None:
    """Each says what to change."""
    desk = Desk(tmp_path, dovecot, openid_provider, **values)
    ask = desk.source().token if "grant" in values else lambda: desk.login.client().begin_device()
    with pytest.raises((AuthError, CampaignFileError), match=words) as caught:
        ask()
    assert caught.value.hint


def test_the_optional_packages_are_missing(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command that installs them is named, before anything else happens."""
    monkeypatch.setitem(sys.modules, "authlib.integrations.requests_client", None)
    with pytest.raises(CampaignFileError, match="optional packages") as caught:
        desk.login.client().begin_device()
    assert caught.value.code == "S660"
    assert "pip install" in (caught.value.hint or "")


def test_others_can_read_the_secret(desk: Desk) -> None:
    """It is not used: the command that closes the file is named."""
    desk.sign_in()
    kept = next((desk.bench.mailmerge.folder / "home/secrets").glob("*.json"))
    kept.chmod(0o644)
    for path in desk.bench.mailmerge.folder.rglob("token-*.json"):
        path.unlink()
    with pytest.raises(AuthError, match="others can read") as caught:
        desk.source().token()
    assert "chmod 600" in (caught.value.hint or "")


# --- other ways ------------------------------------------------------------------------------------------


def test_a_server_that_offers_the_standard_only(
    tmp_path: Path, relay: SandboxServer, certificates: Certificates, openid_provider: OpenIdProvider
) -> None:
    """OAUTHBEARER takes the same token, to send and at the mailbox."""
    server = Dovecot(relay.port, certificates=certificates, openid=openid_provider, mechanisms="oauthbearer")
    try:
        desk = Desk(tmp_path, server, openid_provider, **mailbox_of(server))
        desk.sign_in()
        report = desk.bench.send(transcript=tmp_path / "talk.txt")
        assert set(desk.bench.states().values()) == {Status.ACCEPTED}, told(report)
        assert len(server.kept("Sent")) == 2, told(report)
        assert "AUTH OAUTHBEARER" in (tmp_path / "talk.txt").read_text("utf-8")
    finally:
        server.stop()


def test_a_service_account(tmp_path: Path, dovecot: Dovecot, openid_provider: OpenIdProvider) -> None:
    """What it signs says for whom and what for; the provider verifies it, and another key gets nothing."""
    key = tmp_path / "key.json"
    told_key = {"client_email": "robot@example.org", "private_key": openid_provider.service_key}
    key.write_text(json.dumps({"type": "service_account", **told_key}))
    desk = Desk(
        tmp_path, dovecot, openid_provider, client_id="service", service_account=str(key), scopes=["smtp"]
    )
    assert desk.source().token().reveal() == "for-ann-smtp"
    other = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    pem = other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    for text, words in (
        (json.dumps({**told_key, "private_key": pem}), "Invalid JWT Signature"),
        (
            json.dumps({**told_key, "private_key": "no key"}),
            "private key of robot@example.org cannot be used",
        ),
        ("[]", "is not the key of a service account"),
    ):
        key.write_text(text)
        with pytest.raises(AuthError, match=words):
            desk.source().token(refused="for-ann-smtp")


# --- the command -------------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="there is no pseudo-terminal")
def test_an_application_of_its_own(
    mailmerge: Mailmerge, relay: SandboxServer, certificates: Certificates, openid_provider: OpenIdProvider
) -> None:
    """`login` asks for the secret of the application, tries the token, and keeps it; `send` needs nobody."""
    name, secret = openid_provider.application
    server = Dovecot(relay.port, certificates=certificates, openid=openid_provider, token_name="client_id")
    try:
        mailmerge.account(
            server,
            user=name,
            auth="oauth",
            grant="application",
            issuer=openid_provider.issuer,
            client_id=name,
            scopes=["smtp"],
        )
        del mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
        done = typed(mailmerge, ["login", "test"], [("Client secret", secret), ("only you can read", "y")])
        assert done.code == 0, done
        assert "signed in as application" in done.err
        assert secret not in done.err + done.out
        mailmerge.campaign()
        sent = mailmerge("send", "spring", "--yes")
        assert sent.code == 0, sent
        gone = mailmerge("logout", "test")
        assert "Removed the secrets" in gone.out
        again = mailmerge("send", "spring", "--yes", "--name", "second", "--accept-repeats")
        assert again.code == 6, again
    finally:
        server.stop()
