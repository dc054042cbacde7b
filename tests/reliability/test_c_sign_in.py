"""C1-C10 through the whole product: sign-in, TLS, and where secrets may come from and go to."""

from __future__ import annotations

import datetime as dt
import ssl
import sys
import warnings
from typing import TYPE_CHECKING

import pytest
import trustme
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from faultd import abort, drop, say, say_and_drop
from mailmerge.errors import MailmergeError
from mailmerge.model import Status
from reliability.bench import Bench, address, taken_order
from reliability.clocks import SkippingClock
from reliability.conversing import PATIENCE, SECRET, USER, Bearer, close_after, server_with, told
from servers.command import one_error

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from faultd import Peer
    from reliability.moody import MoodyServer
    from servers.certificates import Certificates

EVERYBODY = [address(number) for number in (1, 2, 3)]


@pytest.fixture
def secure(tmp_path: Path, certificates: Certificates) -> Iterator[Callable[..., Bench]]:
    """Make a campaign at a server with STARTTLS and sign-in: ``bench = secure({"AUTH": ...})``."""
    servers = []

    def make(faults: dict[str, object] | None = None, **options: object) -> Bench:
        settings = {"tls": certificates.server_context(), "users": {USER: SECRET}, **options}
        server = server_with(faults, **settings)  # type: ignore[arg-type]
        servers.append(server.__enter__())
        bench = Bench(tmp_path / "bench", server)
        bench.account(
            host="localhost", user=USER, auth="password", tls="starttls", ca_file=str(certificates.ca_file)
        )
        bench.mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = SECRET
        return bench

    yield make
    for server in servers:
        server.__exit__(None, None, None)


def untouched(bench: Bench) -> None:
    """Check that nothing was sent and every row waits as before."""
    assert bench.server is not None
    assert bench.server.accepted == []
    assert set(bench.states().values()) == {Status.PENDING}


# --- C1, C2: refused ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "reply",
    [
        "535 Login fail. Please enter your authorization code to login.",
        "535 5.7.8 Username and Password not accepted",
        "534 5.7.9 Application-specific password required",
        "535 5.7.139 SmtpClientAuthentication is disabled for the Tenant",
    ],
)
def test_c01_sign_in_refused(reply: str, secure: Callable[..., Bench]) -> None:
    """Exit 6 with the server's words and a way out; no second mechanism, no second try."""
    bench = secure({"AUTH": say_and_drop(reply)})
    done = bench.mailmerge("send", bench.folder, "--yes")
    assert done.code == 6
    one_error(done, "S601", reply)
    assert bench.server is not None
    assert bench.server.verbs().count("AUTH") == 1
    untouched(bench)


@pytest.mark.parametrize(
    "reply", ["454 4.7.0 Temporary authentication failure", "451 too much fail authentication"]
)
def test_c02_sign_in_refused_for_now(reply: str, secure: Callable[..., Bench]) -> None:
    """Ten minutes between tries, three of them with --wait, one without; exit 5 says when to run again."""
    bench = secure({"AUTH": say(reply)})
    assert bench.server is not None
    clock = SkippingClock(nap=0.0)
    report = bench.send(clock=clock, deadlines=PATIENCE)
    assert (report.exit_code, bench.server.verbs().count("AUTH")) == (5, 1)
    assert reply in told(report)
    assert report.next_at is not None
    assert 590 < (report.next_at - clock.now()).total_seconds() < 610
    report = bench.send(clock=clock, deadlines=PATIENCE, wait=True)
    assert (report.exit_code, bench.server.verbs().count("AUTH")) == (5, 1 + 3)
    assert 1199 <= clock.skipped <= 1200
    untouched(bench)


# --- C3: tokens ---------------------------------------------------------------------------------------------

COUNT_AND_GIVE = """\
import pathlib, sys
calls = pathlib.Path(sys.argv[1])
count = int(calls.read_text()) if calls.exists() else 0
calls.write_text(str(count + 1))
tokens = sys.argv[2:]
token = tokens[min(count, len(tokens) - 1)]
sys.exit("the refresh token was revoked") if token == "fail" else print(token)
"""


def with_tokens(folder: Path, server: Bearer, *tokens: str) -> Bench:
    """Make a campaign whose token command gives these *tokens*, one a call, the last one for ever."""
    bench = Bench(folder / "bench", server)
    script = folder / "give_token.py"
    script.write_text(COUNT_AND_GIVE)
    command = [sys.executable, str(script), str(folder / "calls"), *tokens]
    bench.account(user=USER, auth="token", token_command=command)
    return bench


def test_c03_a_token_runs_out_in_mid_run(tmp_path: Path) -> None:
    """The challenge gets its empty answer, one fresh token is fetched, the row that waited goes."""
    with Bearer() as server:
        server.good = ("first-token",)

        def over(peer: Peer) -> bytes | None:
            if len(server.accepted) == 2:
                server.good = ("fresh-token",)
            return close_after(2)(server)(peer)

        server.change_mood({"taken": over})
        bench = with_tokens(tmp_path, server, "first-token", "first-token", "fresh-token")
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
        assert report.exit_code == 0, told(report)
        assert server.dialogue == ["first-token", "first-token", "answer ''", "fresh-token"]
        assert taken_order(server) == EVERYBODY
        assert bench.check()[Status.ACCEPTED] == 3


@pytest.mark.parametrize(
    ("tokens", "code", "dialogue"),
    [
        (("stale", "stale"), "S601", ["stale", "answer ''"] * 2),
        (("stale", "fail"), "S606", ["stale", "answer ''"]),
    ],
    ids=["still refused", "the command fails"],
)
def test_c03_no_fresh_token(tokens: tuple[str, ...], code: str, dialogue: list[str], tmp_path: Path) -> None:
    """One refresh, then exit 6: the rows wait."""
    with Bearer() as server:
        bench = with_tokens(tmp_path, server, *tokens)
        done = bench.mailmerge("send", bench.folder, "--yes")
        assert done.code == 6
        one_error(done, code)
        assert server.dialogue == dialogue
        untouched(bench)


# --- C4-C7: TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_tls", "words"),
    [
        ("250-faultd\r\n250 AUTH GSSAPI NTLM\r\n", ("GSSAPI, NTLM", "PLAIN, LOGIN, CRAM-MD5")),
        ("250 faultd\r\n", ("does not offer sign-in on this connection",)),
    ],
    ids=["unknown mechanisms", "only before TLS"],
)
def test_c04_no_sign_in_that_we_can_use(
    after_tls: str, words: tuple[str, ...], secure: Callable[..., Bench]
) -> None:
    """Exit 6 names what was offered; what was offered before TLS does not count."""
    bench = secure(
        {
            "EHLO": {
                1: say("250-faultd", "250-STARTTLS", "250 AUTH PLAIN LOGIN"),
                2: say(*after_tls.strip().split("\r\n")),
            }
        }
    )
    assert bench.server is not None
    done = bench.mailmerge("send", bench.folder, "--yes")
    assert done.code == 6
    one_error(done, "S603", *words)
    assert bench.server.verbs() == ["EHLO", "STARTTLS", "EHLO"]
    untouched(bench)


@pytest.mark.parametrize(
    ("faults", "code", "verbs"),
    [
        ({"EHLO": say("250-faultd", "250 AUTH PLAIN LOGIN")}, "S626", ["EHLO"]),
        ({"STARTTLS": say("454 4.7.0 TLS not available")}, "S627", ["EHLO", "STARTTLS"]),
        ({"STARTTLS": say("220 go ahead", "250 AUTH PLAIN LOGIN")}, "S628", ["EHLO", "STARTTLS"]),
    ],
    ids=["C5 stripped", "C5 refused", "C6 injected"],
)
def test_c05_c06_no_way_around_tls(
    faults: dict[str, object], code: str, verbs: list[str], secure: Callable[..., Bench]
) -> None:
    """Exit 6, and not one word of sign-in or mail was said in clear."""
    bench = secure(faults)
    assert bench.server is not None
    done = bench.mailmerge("send", bench.folder, "--yes")
    assert done.code == 6
    one_error(done, code)
    assert bench.server.verbs() == verbs
    untouched(bench)


def context_of(ca: trustme.CA, *names: str, **options: object) -> ssl.SSLContext:
    """Return a server's context with a certificate for *names*."""
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ca.issue_cert(*names, key_type=trustme.KeyType.ECDSA, **options).configure_cert(made)  # type: ignore[arg-type]
    return made


def expired(ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    """Yesterday's certificate."""
    return context_of(ca, "localhost", not_after=dt.datetime.now(dt.UTC) - dt.timedelta(days=1))


def somebody_elses(ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    """A good certificate for another name."""
    return context_of(ca, "mail.example.net")


def unknown(_ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    """A certificate of an authority that nobody knows."""
    return context_of(trustme.CA(key_type=trustme.KeyType.ECDSA), "localhost")


def self_signed(_ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    """A certificate that vouches for itself."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = folder / "own.pem"
    pem.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(pem)
    return made


def old(ca: trustme.CA, folder: Path) -> ssl.SSLContext:
    """A server that supports nothing newer than TLS 1.1."""
    made = context_of(ca, "localhost")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        made.minimum_version = ssl.TLSVersion.TLSv1
        made.maximum_version = ssl.TLSVersion.TLSv1_1
    made.set_ciphers("ALL:@SECLEVEL=0")
    return made


@pytest.mark.parametrize(
    ("make", "code", "words"),
    [
        (expired, "S622", "has expired"),
        (somebody_elses, "S623", "not for localhost"),
        (unknown, "S621", "signed by an authority we trust"),
        (self_signed, "S621", "is self-signed"),
        (old, "S624", "TLS older than 1.2"),
    ],
)
@pytest.mark.parametrize("implicit", [False, True], ids=["starttls", "tls"])
def test_c07_certificates(
    make: Callable[..., ssl.SSLContext],
    code: str,
    words: str,
    implicit: bool,
    secure: Callable[..., Bench],
    tmp_path: Path,
) -> None:
    """Each way to be wrong has its own words; exit 6, and nobody signed in."""
    ca = trustme.CA(key_type=trustme.KeyType.ECDSA)
    ca.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    bench = secure(tls=make(ca, tmp_path), implicit=implicit)
    assert bench.server is not None
    bench.account(
        host="localhost",
        user=USER,
        auth="password",
        tls="tls" if implicit else "starttls",
        ca_file=str(tmp_path / "ca.pem"),
    )
    report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    assert report.exit_code == 6
    shown = told(report)
    assert f"error[{code}]" in shown
    assert words in shown
    assert "AUTH" not in bench.server.verbs()
    untouched(bench)


def test_a22_a_reset_in_a_later_handshake(secure: Callable[..., Bench]) -> None:
    """Once TLS has worked, a handshake that breaks off is the network's fault: the run continues."""

    def agree_and_reset(peer: Peer) -> None:
        peer.send(b"220 go ahead\r\n")
        abort(peer)

    bench = secure({"MAIL": {2: drop}, "STARTTLS": {2: agree_and_reset, 3: agree_and_reset}})
    report = bench.send(clock=SkippingClock(nap=0.0), deadlines=PATIENCE)
    assert report.exit_code == 0, told(report)
    assert taken_order(bench.server) == EVERYBODY  # type: ignore[arg-type]
    assert bench.check()[Status.ACCEPTED] == 3


def test_c07_an_authority_of_ones_own(secure: Callable[..., Bench], certificates: Certificates) -> None:
    """Without --ca-file the certificate is refused, with it accepted; unverified works on loopback only."""
    bench = secure()
    bench.account(host="localhost", user=USER, auth="password", tls="starttls", ca_file=None)
    assert bench.mailmerge("send", bench.folder, "--yes").code == 6
    untouched(bench)
    done = bench.mailmerge("send", bench.folder, "--yes", "--limit", "1", "--ca-file", certificates.ca_file)
    assert done.code == 0, done
    bench.account(host="localhost", user=USER, auth="password", tls="starttls", ca_file=None, insecure=True)
    assert bench.send(clock=SkippingClock(), deadlines=PATIENCE).exit_code == 0
    assert taken_order(bench.server) == EVERYBODY  # type: ignore[arg-type]
    bench.account(
        host="smtp.example.org", user=USER, auth="password", tls="starttls", insecure=True, ca_file=None
    )
    done = bench.mailmerge("send", bench.folder, "--yes")
    assert (done.code, "must be verified" in done.err or "insecure" in done.err) == (2, True), done


# --- C8, C10: secrets and names come in ---------------------------------------------------------------------


def test_c08_no_option_takes_a_secret() -> None:
    """What is typed as an argument shows in `ps` and in the shell's history."""
    from mailmerge.cli import SUMMARIES, cli

    names = set()
    for name in SUMMARIES:
        command = cli.get_command(None, name)  # type: ignore[arg-type]
        assert command is not None
        takes = [parameter for parameter in command.params if not getattr(parameter, "is_flag", False)]
        names |= {option.lstrip("-") for parameter in takes for option in parameter.opts}
    assert len(names) > 40
    assert not {name for name in names if any(word in name for word in ("pass", "secret", "token", "auth"))}


@pytest.mark.parametrize(
    ("given", "mode", "code", "says"),
    [
        (SECRET, 0o600, 0, ""),
        (SECRET, 0o644, 0, "other users of this machine can read the secret"),
        ("two\\nlines", 0o600, 6, "contains a line break"),
    ],
    ids=["private", "readable", "line break"],
)
def test_c08_a_secret_in_a_file(
    given: str, mode: int, code: int, says: str, secure: Callable[..., Bench]
) -> None:
    """A .env that others can read is warned about; a secret with a line break is refused, unshown."""
    bench = secure()
    del bench.mailmerge.environ["MAILMERGE_SMTP_PASSWORD"]
    (bench.folder / ".env").write_text(f'MAILMERGE_SMTP_PASSWORD="{given}"\n')
    (bench.folder / ".env").chmod(mode)
    done = bench.mailmerge("send", bench.folder, "--yes")
    assert done.code == code, done
    assert says in done.err
    if not says:
        assert "can read" not in done.err
    for word in (SECRET, "two"):
        assert word not in done.out + done.err


def test_c08_spaces_of_an_app_password(secure: Callable[..., Bench]) -> None:
    """Gmail shows its app passwords in groups of four: the spaces go, for Gmail alone."""
    bench = secure(users={USER: "abcdefghijklmnop"})
    bench.mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "abcd efgh ijkl mnop"
    assert bench.send(clock=SkippingClock(), deadlines=PATIENCE).exit_code == 6
    settings = bench.mailmerge.config.read_text() + 'provider = "gmail"\n'
    bench.mailmerge.config.write_text(settings)
    report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    assert report.exit_code == 0, told(report)


BREAKS = st.tuples(
    st.text("ab.-@1", max_size=6),
    st.sampled_from(["\r", "\n", "\r\n", "\0"]),
    st.text("ab", min_size=1, max_size=6),
).map("".join)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    name=st.sampled_from(["host", "helo", "user", "from", "return_path", "token user", "campaign from"]),
    text=BREAKS,
)
def test_c10_line_breaks_in_names(name: str, text: str, bench: Bench, server: MoodyServer) -> None:
    """Whatever name of ours contains a line break, we end before the first connection, and say why."""
    bench.write(message="")
    bench.account()
    bench.mailmerge.environ["MAILMERGE_SMTP_PASSWORD"] = "x"
    if name == "token user":
        bench.account(user=f"a{text}", auth="token", token_command=["true"])
    elif name == "campaign from":
        bench.account(any_from=True)
        toml = (bench.folder / "campaign.toml").read_text()
        escaped = "".join(f"\\u{ord(char):04X}" if char < " " else char for char in f"me{text}@example.org")
        (bench.folder / "campaign.toml").write_text(toml.replace("me@example.org", escaped))
    else:
        value = f"me{text}@example.org" if name in {"from", "return_path"} else f"a{text}"
        bench.account(**{name: value}, **({"auth": "password"} if name == "user" else {}))
    try:
        report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    except MailmergeError as error:
        assert error.exit_code == 2  # noqa: PT017  the run may end in either way
    else:
        assert report.counts[Status.INVALID] == 3, told(report)
    assert server.peers == []


def test_c10_a_name_that_is_not_ours(bench: Bench, server: MoodyServer) -> None:
    """Line breaks in an address of the list make the row invalid: nothing of it gets into a command."""
    bench.write(
        people_csv='email,name\n"p1@example.net\r\nDATA",A\np2@example.net,B\n"p3@example.net>\nX",C\n'
    )
    report = bench.send(clock=SkippingClock(), deadlines=PATIENCE)
    assert report.counts[Status.INVALID] == 2, told(report)
    assert taken_order(server) == [address(2)]
    assert all(command.isascii() and b"\n" not in command for command in server.commands)
    assert server.verbs().count("DATA") == 1
