"""Sign-in: one mechanism, chosen once, whose secrets nobody sees."""

from __future__ import annotations

import base64

import pytest

from mailmerge.errors import AuthError, InputError, ProtocolError
from mailmerge.masking import Masker
from mailmerge.smtp.sasl import Credentials, choose, start

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
        ([], PASSWORD, True, "offers no sign-in on"),
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
