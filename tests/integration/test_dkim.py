"""DKIM signatures: other programs accept them over every kind of body; keys that are not fit are refused."""

from __future__ import annotations

import shlex
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailmerge import CampaignFileError, DkimKey, OnlineChecks
from mailmerge.check.dkim_record import key_record
from mailmerge.check.online import NoAnswer, NoSuchName
from mailmerge.message.dkim import DkimSignatures, DkimSigner
from mailmerge.message.dkim_keys import public_record, read_signatures
from servers import dkim_verifiers, programs

if TYPE_CHECKING:
    from pathlib import Path

NOW = datetime(2026, 11, 27, 20, 0, tzinfo=UTC)
HEADER = (
    b"Date: Fri, 27 Nov 2026 20:00:00 +0000\r\nMessage-ID: <a@example.org>\r\nFrom: Me <me@example.org>\r\n"
    b"To: =?utf-8?b?w6TDtg==?=\r\n =?utf-8?b?w6TDtg==?= <you@example.net>\r\n"
    b"Subject: a  long\r\n folded  one\r\n"
    b"List-Unsubscribe: <https://example.org/u/x>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
    b'MIME-Version: 1.0\r\nContent-Type: text/plain; charset="utf-8"\r\n'
)
BODIES = [
    b"",
    b"\r\n",
    b"\r\n\r\n\r\n",
    b"one line\r\n",
    b"trailing  blanks \t \r\n\r\n\r\n",
    b"\r\n begins with an empty line\r\n",
    b".dot\r\n..dots\r\n.\r\n",
    b"a\t\ttab \r\n \r\n\t\r\nend\r\n",
    "8 bits: äöü 你好\r\n".encode(),
    b"From me\r\n" + b"x" * 900 + b"\r\n",
    b"large " * 20_000 + b"\r\n",
]


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> tuple[DkimKey, DkimKey]:
    """Return a key of each kind, made as the documentation says."""
    folder = tmp_path_factory.mktemp("dkim")
    made = []
    for name, kind in (("r1", "RSA -pkeyopt rsa_keygen_bits:2048"), ("e1", "ED25519")):
        _openssl(folder, f"genpkey -algorithm {kind} -out {name}.pem")
        made.append(DkimKey(selector=name, key_file=folder / f"{name}.pem"))
    return made[0], made[1]


def _openssl(folder: Path, arguments: str) -> None:
    programs.require("openssl")
    subprocess.run(["openssl", *arguments.split()], cwd=folder, check=True, capture_output=True)


def records(keys: tuple[DkimKey, ...]) -> dict[str, str]:
    """Return what the DNS would answer."""
    return {f"{key.selector}._domainkey.example.org": public_record(key) for key in keys}


def signed(keys: tuple[DkimKey, ...], body: bytes) -> bytes:
    """Return a whole message with its signatures."""
    signatures = read_signatures(keys)
    assert signatures is not None
    return signatures.fields(HEADER, (body,), "me@example.org", NOW) + HEADER + b"\r\n" + body


@pytest.mark.parametrize("program", ["dkimpy", "mailauth", "perl", "opendkim"])
def test_other_programs_accept_both_signatures_and_no_changed_body(program, keys, tmp_path):
    """Empty bodies, blank lines, spaces, tabs, dots, 8 bits, long lines; two support RSA only."""
    known = keys[: 1 if program in {"perl", "opendkim"} else 2]
    ask = getattr(dkim_verifiers, program)
    more = (tmp_path,) if program == "opendkim" else ()
    messages = [signed(known, body) for body in BODIES]
    changed = [message.replace(b"\r\n\r\n", b"\r\n\r\nadded ", 1) for message in messages]
    another_from = [b"From: you@example.com\r\n" + message for message in messages[:1]]

    for verdicts in ask(messages, records(known), *more):
        assert verdicts == ["pass"] * len(known)
    for verdicts in ask([*changed, *another_from], records(known), *more):
        assert "pass" not in verdicts


@given(st.lists(st.sampled_from([b" ", b"\t", b"\r\n", b"a", b".", b"=20", b"xyz "])).map(b"".join))
def test_a_body_in_pieces_has_the_hash_that_the_whole_one_has(body):
    """Where large pieces are kept by themselves and small ones joined, the same octets are hashed."""
    import dkim.canonicalization

    whole = dkim.canonicalization.CanonicalizationPolicy.from_c_value(b"relaxed/relaxed").canonicalize_body(
        body
    )
    taken: list[bytes] = []
    signatures = DkimSignatures([DkimSigner("s", None, "ed25519-sha256", _keep(taken), 64)])
    file = b"--x\r\n" + b"A" * 20_000 + b"\r\n"

    fields = signatures.fields(HEADER, (body,), "me@example.org", NOW)
    parted = signatures.fields(HEADER, (b"--x\r\n", file, body), "me@example.org", NOW)

    assert _hash_in(fields) == _sha256(whole)
    assert _hash_in(parted) == _sha256((b"--x\r\n" + file + whole).rstrip(b"\r\n") + b"\r\n")


def _keep(taken: list[bytes]):
    def sign(data: bytes) -> bytes:
        taken.append(data)
        return bytes(64)

    return sign


def _hash_in(field: bytes) -> bytes:
    return field.partition(b"bh=")[2].partition(b";")[0]


def _sha256(data: bytes) -> bytes:
    import base64
    import hashlib

    return base64.b64encode(hashlib.sha256(data).digest())


def test_from_is_signed_once_more_than_it_is_there_and_all_else_once(keys):
    """Both unsubscribe headers, Date, Message-ID and the MIME fields are covered."""
    field = signed(keys[:1], b"x\r\n").partition(b"\r\nDate:")[0]
    names = b"".join(field.partition(b" h=")[2].partition(b";")[0].split()).decode().split(":")

    assert names == [
        *(line.partition(":")[0] for line in HEADER.decode().split("\r\n") if line[:1] > " "),
        "From",
    ]
    assert max(map(len, field.split(b"\r\n"))) <= 78


def test_the_same_date_makes_the_same_bytes_and_no_more_than_was_counted(keys):
    """A retry goes out as it did before, and the size that was compared with the limit is enough."""
    signatures = read_signatures(keys)
    assert signatures is not None
    names = [line.partition(":")[0] for line in HEADER.decode().split("\r\n") if line[:1] > " "]

    made = signatures.fields(HEADER, (b"x\r\n",), "me@example.org", NOW)

    assert made == signatures.fields(HEADER, (b"x\r\n",), "me@example.org", NOW)
    assert len(made) == signatures.octets(names, "example.org")


UNFIT = [
    ("genpkey -algorithm RSA -pkeyopt rsa_keygen_bits:1024 -out k.pem", "C516", "1,024 bits"),
    ("genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256 -out k.pem", "C517", "neither"),
    ("genpkey -algorithm RSA -aes256 -pass pass:secret -out k.pem", "C515", "encrypted"),
    ("genpkey -algorithm X25519 -out k.pem", "C517", "neither"),
]


@pytest.mark.parametrize(("made", "code", "words"), UNFIT)
def test_a_key_that_is_not_fit_is_refused_with_a_way_out(made, code, words, tmp_path):
    """Too short, another kind, encrypted: before anything is sent."""
    _openssl(tmp_path, made)
    (tmp_path / "k.pem").chmod(0o600)

    with pytest.raises(CampaignFileError, match=words) as caught:
        read_signatures((DkimKey(selector="s", key_file=tmp_path / "k.pem"),))

    assert caught.value.code == code
    assert "openssl" in (caught.value.hint or "")


def test_the_command_that_makes_a_key_writes_where_it_is_looked_for_and_over_nothing(tmp_path):
    """Pasted anywhere, it makes the file that is missing, or another one beside a file that is not fit."""
    key, new = tmp_path / "my keys" / "k.pem", tmp_path / "my keys" / "k-new.pem"
    key.parent.mkdir()
    for made in (key, new):
        with pytest.raises(CampaignFileError) as caught:
            read_signatures((DkimKey(selector="s", key_file=key),))
        command = (caught.value.hint or "").removeprefix("make one: ").partition(", and specify it")[0]
        subprocess.run(shlex.split(command), check=True, capture_output=True)
        assert read_signatures((DkimKey(selector="s", key_file=made),))
        assert {*key.parent.iterdir()} == {key, made}
        key.write_text("nonsense")


@pytest.mark.parametrize(
    ("content", "mode", "words"),
    [
        (None, 0o600, "no such file"),
        ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", 0o600, "the public key"),
        ("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", 0o600, "a certificate"),
        ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n", 0o600, "OpenSSH"),
        ("nonsense", 0o600, "not a private key"),
        ("nonsense", 0o640, "read by others"),
    ],
)
def test_a_file_that_is_not_a_private_key_says_what_it_is(content, mode, words, tmp_path):
    """The error names the file and says how a key is made, or how it is protected."""
    path = tmp_path / "k.pem"
    if content is not None:
        path.write_text(content)
        path.chmod(mode)

    with pytest.raises(CampaignFileError, match=words) as caught:
        read_signatures((DkimKey(selector="s", key_file=path),))

    assert caught.value.code == "C515"
    assert caught.value.hint


def test_a_missing_extra_is_told_with_the_command_that_installs_it(keys, monkeypatch):
    """No message goes out unsigned because a package is not there."""
    monkeypatch.setitem(sys.modules, "cryptography", None)
    with pytest.raises(CampaignFileError, match="DKIM signatures") as caught:
        read_signatures(keys)
    assert caught.value.code == "X902"
    assert "mailmerge-kit[dkim]" in (caught.value.hint or "")


def test_an_algorithm_that_is_not_the_keys_is_refused(keys):
    """Somebody took the wrong file."""
    wrong = DkimKey(selector="s", key_file=keys[0].key_file, algorithm="ed25519-sha256")
    with pytest.raises(CampaignFileError, match="not for ed25519-sha256") as caught:
        read_signatures((wrong,))
    assert caught.value.code == "C517"


@pytest.mark.parametrize(
    ("written", "words"),
    [
        ('{ selector = "s" }', "no `key_file`"),
        ('{ selector = "a b", key_file = "k" }', "valid selector"),
        ('{ selector = "s", key_file = "k", domains = "x" }', "unknown key"),
        ('{ selector = "s", key_file = "k", algorithm = "rsa-sha1" }', "unknown algorithm"),
        ('{ selector = "s", key_file = "k", domain = "a b" }', "not a valid mailbox"),
        ('"s"', "must be a table"),
        ("[]", "empty array"),
    ],
)
def test_what_is_wrong_in_config_toml_is_said_with_its_place(written, words, tmp_path):
    """Each mistake is an error of the account, not of a message."""
    from mailmerge.config.accounts import resolve_account
    from mailmerge.config.environment import Environment

    config = tmp_path / "config.toml"
    config.write_text(f'[accounts.me]\nhost = "smtp.example.org"\nuser = "me"\ndkim = {written}\n')
    with pytest.raises(CampaignFileError, match=words) as caught:
        resolve_account("me", environment=Environment({}), config_path=config)
    assert caught.value.line == 4


RECORD = "v=DKIM1; k=rsa; p=AAAA"


@pytest.mark.parametrize(
    ("records", "told"),
    [
        ([RECORD], None),
        (["v=DKIM1; p=AA AA"], None),
        (["p=AAAA; h=sha256:sha1; s=email; n=note"], None),
        ([RECORD, "google-site-verification=x"], None),
        ([], "M240"),
        (["google-site-verification=x"], "M240"),
        ([RECORD, RECORD], "M241 2 records"),
        (["v=DKIM1; k=rsa; p=BBBB"], "M241 a different key"),
        (["v=DKIM1; k=rsa; p="], "M241 revoked"),
        (["v=DKIM1; k=ed25519; p=AAAA"], "M241 ed25519"),
        (["v=DKIM2; p=AAAA"], "M241 DKIM2"),
        (["p=AAAA; h=sha1"], "M241 sha256"),
        (["p=AAAA; s=other"], "M241 mail"),
        (["v=DKIM1; t=y:s; p=AAAA"], "M242 t=y"),
        (None, "N206"),
    ],
)
def test_the_published_record_is_compared_with_the_key(records, told):
    """Missing, another, revoked, for another kind or purpose: the hint has the record as it must be."""

    def lookup(name, kind):
        assert (name, kind) == ("s._domainkey.example.org", "TXT")
        if records is None:
            raise NoAnswer(name)
        if not records:
            raise NoSuchName(name)
        return records

    found = list(key_record("s._domainkey.example.org", RECORD, lookup))

    if told is None:
        assert found == []
        return
    code, _, words = told.partition(" ")
    assert [finding.code for finding in found] == [code]
    assert words in found[0].message
    assert code not in {"M240", "M241"} or RECORD in (found[0].hint or "")


def test_check_compares_the_records_of_all_keys_of_the_account(keys, campaign_factory):
    """Each key at its own name; a right record is not mentioned."""
    files = ", ".join(f'{{ selector = "{key.selector}", key_file = "{key.key_file}" }}' for key in keys)
    campaign = campaign_factory(top='account = "me"')
    campaign_factory.config.write_text(
        f'[accounts.me]\nhost = "smtp.example.org"\nuser = "me"\nany_from = true\ndkim = [{files}]\n'
    )
    rsa, _ = records(keys).items()

    def lookup(name, kind):
        if (name, kind) == (rsa[0], "TXT"):
            return [rsa[1]]
        raise NoSuchName(name)

    plan = campaign.check(online=OnlineChecks(lookup=lookup))

    [group] = [group for group in plan.problems if group.first.code in {"M240", "M241"}]
    assert group.first.code == "M240"
    assert "e1._domainkey.example.org" in group.first.message
    assert "v=DKIM1; k=ed25519; p=" in (group.first.hint or "")


def test_the_plan_counts_the_signatures(keys, campaign_factory):
    """What is compared with the account's limit is not less than what goes out, and little more."""
    files = ", ".join(f'{{ selector = "{key.selector}", key_file = "{key.key_file}" }}' for key in keys)
    campaign = campaign_factory(top='account = "me"')
    campaign_factory.config.write_text(
        f'[accounts.me]\nhost = "smtp.example.org"\nuser = "me"\nany_from = true\ndkim = [{files}]\n'
    )
    plan = campaign.plan()
    largest = max(message.size for message in plan.messages())
    assert largest <= plan.largest < largest + 100
