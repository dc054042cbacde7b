"""Sign-in: one mechanism, chosen once, whose secrets nobody sees."""

from __future__ import annotations

import base64
import hashlib
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import scramp
import scramp.core
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from hypothesis import given
from hypothesis import strategies as st
from scramp import ScramException

from dialogues import Talk
from mailmerge.errors import AuthError, InputError, ProtocolError
from mailmerge.masking import Masker
from mailmerge.smtp.connect import tls_context
from mailmerge.smtp.endpoint import Endpoint
from mailmerge.smtp.sasl import ChannelBinding, Credentials, Scram, channel_binding, choose, start

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

PASSWORD = Credentials("tim", "password", lambda: "tanstaaftanstaaf")
TOKEN = Credentials("tim@example.org", "token", lambda: "ya29.token")


@pytest.mark.parametrize(
    ("offered", "credentials", "private", "chosen"),
    [
        (["LOGIN", "PLAIN", "XOAUTH2"], PASSWORD, True, "PLAIN"),
        (["login"], PASSWORD, True, "LOGIN"),
        (["CRAM-MD5", "NTLM"], PASSWORD, True, "CRAM-MD5"),
        (["PLAIN", "CRAM-MD5"], PASSWORD, False, "CRAM-MD5"),
        (["PLAIN", "XOAUTH2"], TOKEN, True, "XOAUTH2"),
        (["PLAIN", "OAUTHBEARER"], TOKEN, True, "OAUTHBEARER"),
        (["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-256-PLUS", "CRAM-MD5"], PASSWORD, True, "SCRAM-SHA-256"),
        (["SCRAM-SHA-256", "PLAIN"], PASSWORD, False, "SCRAM-SHA-256"),
    ],
)
def test_choice(offered: list[str], credentials: Credentials, private: bool, chosen: str) -> None:
    """The best mechanism that is offered, fits the secret and keeps it private is chosen."""
    assert choose(offered, credentials, private=private) == chosen


@pytest.mark.parametrize(
    ("offered", "credentials", "private", "words"),
    [
        (["GSSAPI", "NTLM"], PASSWORD, True, "GSSAPI, NTLM"),
        (["XOAUTH2"], PASSWORD, True, "XOAUTH2"),
        (["PLAIN"], TOKEN, True, "PLAIN"),
        (["PLAIN", "LOGIN"], PASSWORD, False, "in plaintext"),
        (["XOAUTH2"], TOKEN, False, "in plaintext"),
        ([], PASSWORD, True, "does not offer sign-in on"),
    ],
)
def test_c4_nothing_fits(offered: list[str], credentials: Credentials, private: bool, words: str) -> None:
    """Without a safe mechanism nothing is sent, and what was offered is named."""
    with pytest.raises(AuthError, match=words) as caught:
        choose(offered, credentials, private=private)
    assert (caught.value.code, caught.value.exit_code) == ("S603", 6)
    assert caught.value.hint


def test_plain() -> None:
    """PLAIN is the example of RFC 4616."""
    assert start("PLAIN", "tim", "tanstaaf").initial() == b"\0tim\0tanstaaf"


def test_login() -> None:
    """LOGIN gives user, then secret, and nothing more."""
    mechanism = start("LOGIN", "tim", "pass")
    assert mechanism.initial() is None
    assert [mechanism.respond("VXNlcm5hbWU6"), mechanism.respond("whatever")] == [b"tim", b"pass"]
    with pytest.raises(ProtocolError):
        mechanism.respond("")


def test_cram_md5() -> None:
    """CRAM-MD5 is the example of RFC 2195."""
    mechanism = start("CRAM-MD5", "tim", "tanstaaftanstaaf")
    challenge = base64.b64encode(b"<1896.697170952@postoffice.reston.mci.net>").decode()
    assert mechanism.initial() is None
    assert mechanism.respond(challenge) == b"tim b913a602c7eda7a495b4e6e7334d3890"
    with pytest.raises(ProtocolError):
        mechanism.respond("no base64!")


def test_xoauth2() -> None:
    """XOAUTH2 sends user and bearer token, and answers an error report with nothing."""
    mechanism = start("XOAUTH2", "u@x", "tok")
    assert mechanism.initial() == b"user=u@x\1auth=Bearer tok\1\1"
    assert mechanism.respond("eyJzdGF0dXMiOiI0MDAifQ==") == b""


@pytest.mark.parametrize("secret", ["", "line\r\nbreak", "soh\1", "nul\0"])
def test_c8_secrets_without_control_characters(secret: str) -> None:
    """A secret with a line break was pasted wrongly."""
    with pytest.raises(InputError):
        start("PLAIN", "tim", secret)


@pytest.mark.parametrize("user", ["a\r\nb", "a\1b", "a\0"])
def test_c10_users_without_control_characters(user: str) -> None:
    """A user name cannot smuggle a command or a second SASL field."""
    with pytest.raises(InputError):
        Credentials(user, "token", lambda: "x")


def test_c9_masked() -> None:
    """Neither the credentials' text nor what passed the masker shows a secret."""
    masker = Masker()
    masker.learn(b"s3cret")
    shown = masker.mask(
        b"535 s3cret " + base64.b64encode(b"s3cret") + b" " + base64.b64encode(b"s3cret").rstrip(b"=")
    )
    assert b"s3cret" not in shown
    assert base64.b64encode(b"s3cret")[:6] not in shown
    assert "tanstaaf" not in repr(PASSWORD)


# --- SCRAM ---------------------------------------------------------------------------------------------


def challenge(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def test_scram() -> None:
    """SCRAM-SHA-256 is the example of RFC 7677 section 3, and the server's proof is insisted on."""
    scram = Scram("user", "pencil", nonce="rOprNGfwEbeRWgbNEkqO")
    assert scram.initial() == b"n,,n=user,r=rOprNGfwEbeRWgbNEkqO"
    answer = scram.respond(
        challenge("r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,s=W22ZaJ0SNY7soEsUEjb6gQ==,i=4096")
    )
    assert answer == (
        b"c=biws,r=rOprNGfwEbeRWgbNEkqO%hvYDpWUa2RaTCAfuxFIlj)hNlF$k0,"
        b"p=dHzbZapWIk4jUhN+Ute9ytag9zjfMHgsqmmiz7AndVQ="
    )
    with pytest.raises(AuthError, match="without proving") as caught:
        scram.accepted()
    assert caught.value.code == "S608"
    assert scram.respond(challenge("v=6rriTRBi23WpRR/wtup+mMhUZUn/dB5nLTJRsjl95G4=")) == b""
    scram.accepted()


CHANNELS = {
    "no TLS": (None, None),
    "bound": (ChannelBinding(b"digest"), ("tls-server-end-point", b"digest")),
    "the server does not offer it": (ChannelBinding(b"digest"), None),
    "another connection": (ChannelBinding(b"digest"), ("tls-server-end-point", b"other")),
}


@pytest.mark.parametrize("channel", CHANNELS)
@given(
    user=st.sampled_from(["ann", "ann@example.org", "a=b,c", "Jörg", "ⅸ"]),  # the last is two letters: ix
    password=st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1, max_size=20),
    wrong=st.booleans(),
)
def test_scram_with_another_s_server(channel: str, user: str, password: str, wrong: bool) -> None:
    """A server by other authors lets in who knows the password, over the very connection, and nobody else."""
    try:
        prepared = scramp.core.saslprep(user), scramp.core.saslprep(password)
    except ScramException:  # no server by the letter has such a password; others take it as it is
        answer = Scram(user, password, nonce="x").respond(challenge("r=xy,s=c2FsdA==,i=1"))
        assert answer.startswith(b"c=biws,r=xy,p=")
        return
    ours, theirs = CHANNELS[channel]
    mechanism = scramp.ScramMechanism("SCRAM-SHA-256" + ("-PLUS" if theirs else ""))
    known = {prepared[0]: mechanism.make_auth_info(password)}
    server = mechanism.make_server(known.__getitem__, channel_binding=theirs)
    name = choose(
        ["SCRAM-SHA-256", *["SCRAM-SHA-256-PLUS"] * (theirs is not None)],
        PASSWORD,
        private=True,
        bound=ours is not None,
    )
    client = start(name, user, password + "x" * wrong, ours)
    initial = client.initial()
    assert initial is not None
    bad = wrong or (ours and theirs and ours.data != theirs[1])
    try:
        server.set_client_first(initial.decode())
        server.set_client_final(client.respond(challenge(server.get_server_first())).decode())
    except ScramException:
        assert bad
        return
    assert not bad
    client.respond(challenge(server.get_server_final()))
    client.accepted()


@pytest.mark.parametrize(
    "first",
    [
        "",
        "r=other,s=c2FsdA==,i=4096",
        "r=nonce,s=c2FsdA==,i=4096",
        "r=nonce2,s=,i=4096",
        "r=nonce2,s=!,i=4096",
        "r=nonce2,s=c2FsdA==,i=0",
        "r=nonce2,s=c2FsdA==,i=²",
        "r=nonce2,s=c2FsdA==,i=99999999",
        "r=nonce2,s=c2FsdA==,i=" + "9" * 5000,
        "m=ext,r=nonce2,s=c2FsdA==,i=4096",
    ],
)
def test_scram_challenges_that_cannot_be_used(first: str) -> None:
    """A challenge for somebody else, without salt, or that would take minutes to answer ends the session."""
    with pytest.raises(ProtocolError, match="cannot be used"):
        Scram("ann", "s3cret", nonce="nonce").respond(challenge(first))


@pytest.mark.parametrize("final", ["v=d3Jvbmc=", "", "x"])
def test_scram_wrong_proof(final: str) -> None:
    """Nothing is sent to a server that does not know the password."""
    scram = Scram("ann", "s3cret", nonce="nonce")
    scram.respond(challenge("r=nonce2,s=c2FsdA==,i=4096"))
    with pytest.raises(AuthError, match="without proving"):
        scram.respond(challenge(final))


@pytest.mark.parametrize("digest", ["SHA256", "SHA384", "SHA512"])
@pytest.mark.parametrize("key", ["rsa", "ecdsa"])
def test_channel_binding(key: str, digest: str) -> None:
    """The digest of the certificate is that of its signature (RFC 5929 section 4)."""
    data = certificate(KEYS[key](), getattr(hashes, digest)())
    binding = channel_binding(data)
    assert binding is not None
    assert binding.data == hashlib.new(digest.lower(), data).digest()


@pytest.mark.parametrize("data", [None, b"", b"\x30", b"\x30\x85", b"\x30\x03\x30\x01\x00", bytes(300)])
def test_no_channel_binding(data: bytes | None) -> None:
    """Without a certificate, or with something else, nothing is bound."""
    assert channel_binding(data) is None


def test_no_channel_binding_for_ed25519() -> None:
    """No digest is defined for it."""
    assert channel_binding(certificate(ed25519.Ed25519PrivateKey.generate(), None)) is None


KEYS: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ecdsa": lambda: ec.generate_private_key(ec.SECP256R1()),
}


def certificate(key: Any, digest: Any) -> bytes:
    """Make a certificate in DER that is signed with *key* and *digest*."""
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "example.org")])
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), 7, begin, begin + timedelta(days=1))
    return builder.sign(key, digest).public_bytes(Encoding.DER)


# --- bearer tokens and certificates ----------------------------------------------------------------------


def test_oauthbearer() -> None:
    """OAUTHBEARER is the example of RFC 7628 section 4.1, and answers an error report with one octet."""
    mechanism = start("OAUTHBEARER", "user@example.com", "vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==")
    assert mechanism.initial() == (
        b"n,a=user@example.com,\1auth=Bearer vF9dft4qmTc2Nvb3RlckBhbHRhdmlzdGEuY29tCg==\1\1"
    )
    assert mechanism.respond(challenge('{"status":"invalid_token","scope":"example_scope"}')) == b"\1"
    assert mechanism.refusal() == "status invalid_token, scope example_scope"


@pytest.mark.parametrize(
    "report",
    ["", "[]", "{", '{"status": 400}', "[" * 9999, '{"status": "a\\r\\nMAIL FROM:<x@y>"}'],
)
def test_error_reports_that_say_nothing(report: str) -> None:
    """What a server says of a refused token is shown only where it is a word."""
    mechanism = start("XOAUTH2", "u@x", "tok")
    for text in (challenge(report), report):
        mechanism.respond(text)
        assert mechanism.refusal() == ""


def test_external() -> None:
    """EXTERNAL says whom we want to act as; who we are the certificate says."""
    certified = Credentials("ann", "certificate", str)
    assert choose(["PLAIN", "EXTERNAL"], certified, private=True) == "EXTERNAL"
    assert start("EXTERNAL", "ann", "").initial() == b"ann"
    assert start("EXTERNAL", "", "").respond("") == b""


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ({}, "cannot use the certificate in .*me.pem: No such file"),
        ({"me.pem": b"not PEM"}, "cannot use the certificate"),
        ({"me.pem": b"{one}", "me.key": b"{two}"}, "cannot use the certificate in .*me.pem and .*me.key"),
        ({"me.pem": b"{one}{locked}"}, "the private key in .*me.pem is encrypted"),
    ],
)
def test_certificates_that_cannot_be_shown(written: dict[str, bytes], words: str, tmp_path: Path) -> None:
    """A missing, odd or wrong file is told, and nobody is asked for a passphrase in the middle of a run."""
    key = KEYS["ecdsa"]()
    locked = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"secret"))
    other = KEYS["ecdsa"]().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    shown = x509.load_der_x509_certificate(certificate(key, hashes.SHA256())).public_bytes(Encoding.PEM)
    for name, text in written.items():
        filled = text.replace(b"{one}", shown).replace(b"{two}", other).replace(b"{locked}", locked)
        (tmp_path / name).write_bytes(filled)
    key_file = tmp_path / "me.key" if "me.key" in written else None
    endpoint = Endpoint("localhost", 465, "tls", "me", cert_file=tmp_path / "me.pem", key_file=key_file)
    with pytest.raises(InputError, match=words) as caught:
        tls_context(endpoint)
    assert (caught.value.code, bool(caught.value.hint)) == ("S642", True)


def test_the_server_says_why_a_token_is_refused() -> None:
    """The report of the challenge is shown beside the reply."""
    talk = Talk(credentials=TOKEN).ready(b"250-server\r\n250 AUTH XOAUTH2\r\n")
    talk.heard()
    report = challenge('{"status":"400","schemes":"Bearer","scope":"https://mail.google.com/"}')
    for _ in range(2):  # the token is renewed once
        talk.says(f"334 {report}\r\n".encode())
        assert talk.heard() == b"\r\n"
        talk.says(b"535 5.7.8 Username and Password not accepted\r\n")
        talk.heard()
    error = talk.session.error
    assert error is not None
    assert str(error).endswith("not accepted (status 400, scope https://mail.google.com/)")


def test_an_empty_initial_response_is_an_equals_sign() -> None:
    """So that it is not taken for none (RFC 4954 section 4)."""
    talk = Talk(credentials=Credentials("", "certificate", str)).ready(b"250-server\r\n250 AUTH EXTERNAL\r\n")
    assert talk.heard() == b"AUTH EXTERNAL =\r\n"


def test_a_235_without_proof_ends_the_session() -> None:
    """Whoever answers in the server's place could say 235, too."""
    talk = Talk(credentials=PASSWORD).ready(b"250-server\r\n250 AUTH SCRAM-SHA-256 PLAIN\r\n")
    assert talk.heard().startswith(b"AUTH SCRAM-SHA-256 ")
    talk.says(b"235 welcome\r\n")
    assert talk.session.error is not None
    assert talk.session.error.code == "S608"
