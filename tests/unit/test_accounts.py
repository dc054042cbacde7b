"""Accounts and secrets: where they come from, what is refused, and what is never shown."""

import base64
import copy
import json
import os
import pickle
import sys
import time
import tomllib
import traceback
import types
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from click.testing import CliRunner
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from mailmerge.addresses import Address
from mailmerge.campaign.connect import connection_factory
from mailmerge.campaign.login import Choice, choose
from mailmerge.cli.login import _values
from mailmerge.config.account_secrets import find_secret, keyring_service
from mailmerge.config.accounts import (
    Account,
    default_config_path,
    resolve_account,
    sender_allowed,
    write_account,
)
from mailmerge.config.environment import Environment, secrets_hidden
from mailmerge.config.secret_store import SecretStore, keyring_works
from mailmerge.errors import AuthError, CampaignFileError, MailmergeError
from mailmerge.masking import Secret, mask
from mailmerge.model import Diagnostic, Rate

CANARY = "CANARY+s3cret/word="

CONFIG = """\
[accounts.work]
host = "smtp.example.org"
user = "me@example.org"
from = "Accounts <accounts@example.org>"
aliases = ["Help@Example.org", "@news.example.org"]
return_path = "bounces@example.org"
rate = ["60/m", "5000/180s"]
quota = "2000/d"
max_size = "20MiB"
per_connection = 100
sessions = 2
pipeline = "off"
helo = "[192.0.2.1]"
ca_file = "ca.pem"
password_command = ["pass", "smtp/work"]

[accounts.list]
provider = "gmail"
user = "list@example.org"
rate = "5/m"
port = 587

[accounts.relay]
host = "relay.example.org"
port = 25
auth = "none"
"""


Config = Callable[[str], Path]


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Write the user's config.toml and give its path."""

    def write(text: str) -> Path:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return path

    return write


def resolve(
    name: str | None = None,
    variables: dict[str, str] | None = None,
    file: dict[str, str] | None = None,
    *,
    config_path: Path = Path("/nonexistent/config.toml"),
    overrides: dict[str, object] | None = None,
    campaign_from: str | None = None,
) -> Account:
    """Resolve an account without any file of the machine the test runs on."""
    return resolve_account(
        name,
        environment=Environment(variables or {}, file, Path("spring/.env")),
        config_path=config_path,
        overrides=overrides,
        campaign_from=campaign_from,
    )


def told(problem: Diagnostic) -> str:
    """Return a diagnostic as one line: code, place, message, hint."""
    at = f"{problem.place.line}:{problem.place.column}" if problem.place and problem.place.line else "-"
    return f"{problem.code} {at} {problem.message} = {problem.hint or '-'}"


# --- the user's configuration ------------------------------------------------------------------------------


def test_account_from_config(config: Config, tmp_path: Path) -> None:
    """Every key of an account is read."""
    account = resolve("work", config_path=config(CONFIG))
    assert (account.host, account.port, account.tls, account.auth) == (
        *("smtp.example.org", 587, "starttls", "password"),
    )
    assert (account.user, str(account.from_)) == ("me@example.org", "Accounts <accounts@example.org>")
    assert account.aliases == ("help@example.org", "@news.example.org")
    assert str(account.return_path) == "bounces@example.org"
    assert (account.rate, account.quota) == ((Rate(60, 60), Rate(5000, 180)), Rate(2000, 86400))
    assert (account.max_size, account.per_connection, account.sessions) == (20 * 1024 * 1024, 100, 2)
    assert (account.pipeline, account.helo) == ("off", "[192.0.2.1]")
    assert account.ca_file == tmp_path / "ca.pem"
    assert account.password_command == ("pass", "smtp/work")
    assert (account.source, account.provider) == ("config", None)
    assert account.origin == f"[accounts.work] in {tmp_path / 'config.toml'}"


def test_account_on_a_preset(config: Config) -> None:
    """An account may build on a provider and change what it likes."""
    account = resolve("list", config_path=config(CONFIG))
    assert (account.host, account.port, account.tls) == ("smtp.gmail.com", 587, "starttls")
    assert (account.rate, account.quota) == ((Rate(5, 60),), Rate(500, 86400))
    assert (account.max_recipients, account.provider, account.source) == (100, "gmail", "config")


def test_config_beats_preset(config: Config) -> None:
    """An account of the user's own may have a preset's name."""
    path = config('[accounts.gmail]\nhost = "smtp.example.org"\nuser = "me@example.org"\n')
    assert resolve("gmail", config_path=path).host == "smtp.example.org"


def test_relay_without_sign_in(config: Config) -> None:
    """A relay on port 25 is plain and takes any sender, as it knows no user."""
    account = resolve("relay", config_path=config(CONFIG))
    assert (account.tls, account.auth, account.user) == ("none", "none", None)
    assert sender_allowed(account, Address("x", "example.com"))


def test_config_path_comes_from_the_real_environment_only() -> None:
    """A campaign's .env does not choose the user's configuration."""
    name = {"MAILMERGE_CONFIG": "/mine/config.toml"}
    assert default_config_path(Environment(name)) == Path("/mine/config.toml")
    assert default_config_path(Environment({}, name)).name == "config.toml"
    assert default_config_path(Environment({}, name)) != Path("/mine/config.toml")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hots = 'x'", "C401 2:1 unknown key `accounts.a.hots` = did you mean `accounts.a.host`?"),
        ("port = '25'", 'C404 2:8 `accounts.a.port` must be a whole number, not the string "25" = -'),
        ("port = 0", "C405 2:8 `accounts.a.port` must be from 1 to 65535, not 0 = -"),
        (
            "provider = 'gmial'",
            ('C410 2:12 `accounts.a.provider` is not a known provider: "gmial" = did you mean `gmail`?'),
        ),
        (
            "host = 'smtp.x.org:587'",
            (
                'C412 2:8 `accounts.a.host` is not a valid host name: "smtp.x.org:587"'
                " = give the port separately: smtp.x.org and 587"
            ),
        ),
        (
            "host = 'https://x.org/'",
            (
                'C412 2:8 `accounts.a.host` is not a valid host name: "https://x.org/"'
                " = give the name alone: smtp.example.org"
            ),
        ),
        (
            'host = "x.org\\r\\nMAIL"',
            ('C405 2:8 `accounts.a.host` contains a control character: "x.org\\r\\nMAIL" = -'),
        ),
        (
            'user = "me\\r\\nRSET"',
            (
                "C412 2:8 `accounts.a.user` contains a line break or another control"
                ' character: "me\\r\\nRSET" = -'
            ),
        ),
        (
            "helo = 'a b'",
            (
                'C412 2:8 `accounts.a.helo` is not a valid EHLO name: "a b"'
                " = write a host name, or an address in brackets: [192.0.2.1]"
            ),
        ),
        (
            "auth = 'oauth-google'",
            (
                'C405 2:8 `accounts.a.auth` must be one of "password", "oauth", "token", "certificate", '
                '"none", not "oauth-google" = -'
            ),
        ),
        (
            "host = 'smtp.müller.de'",
            (
                'C412 2:8 `accounts.a.host` is not a valid host name: "smtp.müller.de"'
                " = write the name in its ASCII form (xn--...)"
            ),
        ),
        (
            "aliases = ['a@x.org', 5]",
            "C404 2:23 `accounts.a.aliases[1]` must be an address, not the number 5",
        ),
        ("password_command = []", "C405 2:20 `accounts.a.password_command` does not name a program = -"),
        (
            "dkim = {}",
            "C406 2:8 `accounts.a.dkim` has no `selector` = write dkim = { selector =",
        ),
        ("from = 'me@gmial,com'", 'C405 2:8 `accounts.a.from` is not a valid mailbox: "me@gmial,com":'),
        (
            "from = 'a@x.org, b@x.org'",
            ('C405 2:8 `accounts.a.from` must be exactly one mailbox, not "a@x.org, b@x.org" = -'),
        ),
        (
            "password_command = 'pass x'",
            (
                "C404 2:20 `accounts.a.password_command` must be an array: the program,"
                " then each of its arguments = no shell runs it; write ['pass', 'x']"
            ),
        ),
        (
            "max_size = 'big'",
            ('C405 2:12 `accounts.a.max_size` is not a valid size: "big" = write it as "25MB" or in bytes'),
        ),
        ("password = 'CANARY'", "C409 2:1 `accounts.a.password`: a secret does not belong in this file"),
    ],
)
def test_wording_of_config(config: Config, text: str, expected: str) -> None:
    """Each mistake in the user's configuration is told with its place."""
    with pytest.raises(CampaignFileError) as caught:
        resolve("a", config_path=config(f"[accounts.a]\n{text}\n"))
    problems = [told(problem) for problem in caught.value.diagnostics]
    assert len(problems) == 1
    assert problems[0].startswith(expected)
    assert "CANARY" not in repr(caught.value.diagnostics)


def test_long_host_names_are_refused_fast() -> None:
    """A host of the worst shape takes no time to refuse."""
    with pytest.raises(CampaignFileError):
        Account(name="a", host="a" * 60 + "-" * 60 + "!")


def test_account_that_is_no_section(config: Config) -> None:
    """An account must be a table."""
    with pytest.raises(CampaignFileError) as caught:
        resolve("a", config_path=config("[accounts]\na = 5\n"))
    assert [told(problem) for problem in caught.value.diagnostics] == [
        "C404 2:1 `accounts.a` must be a section = write [accounts.a]"
    ]


def test_config_problems_all_at_once(config: Config) -> None:
    """All problems of the account are told together; those of other accounts wait."""
    path = config("[acounts.x]\n[accounts.a]\nport = 0\ntls = 'ssl'\n[accounts.b]\nport = -1\n")
    with pytest.raises(CampaignFileError) as caught:
        resolve("a", config_path=path)
    assert [problem.message for problem in caught.value.diagnostics] == [
        "unknown section `[acounts]`",
        "`accounts.a.port` must be from 1 to 65535, not 0",
        '`accounts.a.tls` must be one of "starttls", "tls", "none", not "ssl"',
    ]


# --- presets -----------------------------------------------------------------------------------------------


def test_preset_takes_its_user_from_the_campaign() -> None:
    """``account = "qq"`` and a constant From are enough."""
    account = resolve("qq", campaign_from="张三 <12345@qq.com>")
    assert (account.host, account.port, account.tls) == ("smtp.qq.com", 465, "tls")
    assert (account.user, account.auth, account.source) == ("12345@qq.com", "password", "preset")
    assert (account.rate, account.quota) == ((Rate(10, 60),), Rate(200, 86400))


@pytest.mark.parametrize(
    ("variables", "user"),
    [
        ({"MAILMERGE_SMTP_USER": "a@gmail.com", "SMTP_USER": "b@gmail.com"}, "a@gmail.com"),
        ({"SMTP_USER": "b@gmail.com", "SMTP_FROM": "c@gmail.com"}, "b@gmail.com"),
        ({"SMTP_FROM": "Me <c@gmail.com>"}, "c@gmail.com"),
        ({"SMTP_SERVER": "smtp.example.org", "SMTP_USER": "b@example.org"}, "d@gmail.com"),
    ],
)
def test_user_of_a_preset(variables: dict[str, str], user: str) -> None:
    """The environment names the preset's user unless it names another server."""
    assert resolve("gmail", variables, campaign_from="d@gmail.com").user == user


def test_preset_with_a_literal_user() -> None:
    """At SendGrid everybody is called apikey, and any verified sender is fine."""
    account = resolve("sendgrid", campaign_from="news@example.org")
    assert (account.user, account.any_from, account.per_connection) == ("apikey", True, 5000)


def test_preset_without_sign_in() -> None:
    """The Workspace relay lets machines in by address."""
    account = resolve("workspace-relay", campaign_from="me@example.org")
    assert (account.auth, account.user, account.any_from) == ("none", None, True)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gmal", 'C410 - no account or preset is called "gmal" = did you mean `gmail`?'),
        ("wrok", 'C410 - no account or preset is called "wrok" = did you mean `work`?'),
        (
            "zzz",
            (
                'C410 - no account or preset is called "zzz" = your accounts: work, list, relay;'
                " presets: see `mailmerge providers`"
            ),
        ),
        (
            "gmail",
            (
                "C411 - the account from the preset gmail has no user: the whole address, such as"
                " name@gmail.com = set SMTP_USER"
            ),
        ),
        (
            "ses",
            (
                "C411 - the account from the preset ses does not name its region of Amazon SES"
                ' = add the region to the name, such as "ses-us-east-1"'
            ),
        ),
        (
            None,
            (
                "C411 - no account to send with = name one of yours with --account: work, list, relay; "
                "`mailmerge login` sets up another one"
            ),
        ),
    ],
)
def test_wording_of_what_is_missing(config: Config, name: str | None, expected: str) -> None:
    """An account that is unknown or incomplete is told with the way out."""
    with pytest.raises(CampaignFileError) as caught:
        resolve(name, config_path=config(CONFIG))
    assert [told(problem) for problem in caught.value.diagnostics] == [expected]


def test_suggests_the_preset_of_the_sender() -> None:
    """Without any account the sender's domain says which preset to take."""
    with pytest.raises(CampaignFileError) as caught:
        resolve(campaign_from="me@foxmail.com")
    assert (
        caught.value.hint
        == "me@foxmail.com is at QQ Mail (QQ 邮箱): mailmerge login me@foxmail.com, or --account qq"
    )


# --- environment and .env ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SMTP_PORT": "465"}, (465, "tls", "password", "me@x.org")),
        ({"SMTP_PORT": "587"}, (587, "starttls", "password", "me@x.org")),
        ({}, (587, "starttls", "password", "me@x.org")),
        ({"SMTP_PORT": "25"}, (25, "none", "none", None)),
        ({"SMTP_PORT": "2525"}, (2525, "starttls", "password", "me@x.org")),
        ({"MAILMERGE_SMTP_TLS": "tls"}, (465, "tls", "password", "me@x.org")),
        ({"SMTP_USER": "bob"}, (587, "starttls", "password", "bob")),
        ({"SMTP_SERVER": "localhost", "SMTP_PORT": "1025"}, (1025, "none", "none", None)),
        (
            {"SMTP_SERVER": "127.0.0.1", "SMTP_PORT": "25", "SMTP_AUTH": "x"},
            (25, "none", "password", "me@x.org"),
        ),
    ],
)
def test_environment_makes_an_account(variables: dict[str, str], expected: tuple[object, ...]) -> None:
    """The variables that people know from tutorials are enough; port and TLS mode follow from each other."""
    account = resolve(variables={"SMTP_SERVER": "mail.x.org", "SMTP_FROM": "me@x.org", **variables})
    assert (account.port, account.tls, account.auth, account.user) == expected
    assert (account.source, str(account.from_)) == ("environment", "me@x.org")


def test_limits_of_a_known_host() -> None:
    """A server that a preset knows has the preset's limits."""
    account = resolve(variables={"SMTP_SERVER": "smtp.163.com", "SMTP_FROM": "me@163.com"})
    assert (account.port, account.tls, account.provider) == (465, "tls", "163")
    assert (account.rate, account.per_connection) == ((Rate(6, 60),), 50)


def test_dotenv_beside_the_campaign(tmp_path: Path) -> None:
    """.env is read for our variables only, never expanded, never overrides, never exported."""
    (tmp_path / ".env").write_text(
        "SMTP_SERVER=smtp.x.org\nexport SMTP_PORT='465'\nSMTP_FROM=me@x.org\n"
        'SMTP_AUTH="pa$HOME ${HOME} #1"\nSMTP_TO=me@x.org\nOTHER=1\n'
    )
    (tmp_path / ".env").chmod(0o600)
    environment = Environment.read(tmp_path, {"SMTP_FROM": "real@x.org", "HOME": "/root"})
    assert dict(environment) == {
        "SMTP_SERVER": "smtp.x.org",
        "SMTP_PORT": "465",
        "SMTP_FROM": "real@x.org",
        "SMTP_AUTH": "pa$HOME ${HOME} #1",
        "SMTP_TO": "me@x.org",
    }
    assert "SMTP_SERVER" not in os.environ
    account = resolve_account(None, environment=environment, config_path=tmp_path / "none.toml")
    assert (account.source, account.user) == (".env", "me@x.org")
    assert account.origin == f"SMTP_SERVER in {tmp_path / '.env'}"
    assert environment.warnings == ()


@pytest.mark.skipif(os.name != "posix", reason="file modes are POSIX's")
@pytest.mark.parametrize(("mode", "count"), [(0o600, 0), (0o640, 1), (0o604, 1)])
def test_c8_readable_dotenv_is_warned_about(tmp_path: Path, mode: int, count: int) -> None:
    """A secret file that others can read causes a warning with the command that corrects it."""
    (tmp_path / ".env").write_text("SMTP_AUTH=CANARY\n")
    (tmp_path / ".env").chmod(mode)
    warnings = Environment.read(tmp_path, {}).warnings
    assert [told(warning) for warning in warnings] == [
        (
            f"C413 - other users of this machine can read the secret in {tmp_path / '.env'}"
            f" = chmod 600 {tmp_path / '.env'}"
        )
    ] * count


@pytest.mark.skipif(os.name != "posix", reason="makes a pipe")
def test_dotenv_that_is_a_pipe_is_told(tmp_path: Path) -> None:
    """Nothing waits for it and nothing is passed over; a folder of this name is somebody's Python."""
    (tmp_path / ".env").mkdir()
    assert Environment.read(tmp_path, {}).path is None
    (tmp_path / ".env").rmdir()
    os.mkfifo(tmp_path / ".env")
    with pytest.raises(CampaignFileError, match="not a plain file"):
        Environment.read(tmp_path, {})


def test_dotenv_without_secret_needs_no_mode(tmp_path: Path) -> None:
    """Server and user are not secret."""
    (tmp_path / ".env").write_text("SMTP_SERVER=smtp.x.org\nSMTP_AUTH=\n")
    (tmp_path / ".env").chmod(0o644)
    assert Environment.read(tmp_path, {}).warnings == ()


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"SMTP_PORT": "abc"}, ['C404 - `SMTP_PORT` must be a whole number, not the string "abc" = -']),
        (
            {"SMTP_SERVER": "smtp.x.org:465", "MAILMERGE_SMTP_TLS": "ssl"},
            [
                (
                    'C412 - `SMTP_SERVER` is not a valid host name: "smtp.x.org:465"'
                    " = give the port separately: smtp.x.org and 465"
                ),
                'C405 - `MAILMERGE_SMTP_TLS` must be one of "starttls", "tls", "none", not "ssl" = -',
            ],
        ),
        (
            {"SMTP_USER": "a\r\nb"},
            ['C412 - `SMTP_USER` contains a line break or another control character: "a\\r\\nb" = -'],
        ),
        (
            {"SMTP_PORT": "25", "SMTP_AUTH": CANARY},
            [
                (
                    "C415 - the password for smtp.x.org would cross the network unencrypted (port 25)"
                    ' = set port 587 with tls = "starttls", or port 465 with tls = "tls";'
                    ' a relay that asks for no password: auth = "none"'
                )
            ],
        ),
    ],
)
def test_wording_of_variables(variables: dict[str, str], expected: list[str]) -> None:
    """A wrong variable is named; one account's problems come together."""
    with pytest.raises(CampaignFileError) as caught:
        resolve(variables={"SMTP_SERVER": "smtp.x.org", "SMTP_FROM": "me@x.org", **variables})
    assert [told(problem) for problem in caught.value.diagnostics] == expected


def test_options_override_an_account(config: Config) -> None:
    """Options win over the account and are named when they are wrong."""
    account = resolve("work", config_path=config(CONFIG), overrides={"ca_file": "x.pem", "user": None})
    assert (account.ca_file, account.user) == (Path("x.pem"), "me@example.org")
    with pytest.raises(CampaignFileError, match=r'^`--pipeline` must be one of .*, not "on"$'):
        resolve("work", config_path=config(CONFIG), overrides={"pipeline": "on"})
    with pytest.raises(CampaignFileError, match=r"insecure is for this machine only"):
        resolve("work", config_path=config(CONFIG), overrides={"insecure": True})


# --- what an account is ------------------------------------------------------------------------------------


@pytest.mark.parametrize("field", ["host", "user", "helo"])
@given(
    before=st.sampled_from(["", "a", "abcde"]),
    bad=st.sampled_from("\r\n\0\x01\x7f\x85\u2028"),
    after=st.sampled_from(["", "z", "vwxyz"]),
)
@settings(max_examples=20)
def test_c10_control_characters_are_refused(field: str, before: str, bad: str, after: str) -> None:
    """No control character gets into host, user or EHLO name, whoever makes the account."""
    values = {"host": "smtp.example.org", "user": "me", field: f"{before}{bad}{after}"}
    with pytest.raises(CampaignFileError) as caught:
        Account(name="a", **values)  # type: ignore[arg-type]
    assert caught.value.code == "C412"
    assert bad not in str(caught.value)


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1", "127.9.9.9", "::1"])
def test_loopback_may_do_without_tls(host: str) -> None:
    """Plain sign-in and unverified certificates are for this machine only."""
    assert Account(name="a", host=host, tls="none", user="me", insecure=True).host == host


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("me@example.org", True),
        ("ME@Example.ORG", True),
        ("accounts@example.org", True),
        ("help@example.org", True),
        ("any@news.example.org", True),
        ("any@sub.news.example.org", False),
        ("other@example.org", False),
        ("me@example.com", False),
    ],
)
def test_sender_must_be_declared(config: Config, address: str, *, allowed: bool) -> None:
    """An account sends as its user, its From and its aliases, and as nobody else."""
    account = resolve("work", config_path=config(CONFIG))
    assert sender_allowed(account, Address.parse(address)) is allowed


# --- secrets -----------------------------------------------------------------------------------------------


def secret_of(
    account: Account, environment: Environment, *, prompt: Callable[[str], str] | None = None
) -> str:
    """Find the account's secret and reveal it."""
    return find_secret(account, environment, prompt=prompt).reveal()


def an_account(**values: object) -> Account:
    """Make an account of the user's own configuration."""
    given_values = {"name": "a", "host": "smtp.example.org", "user": "me", "source": "config", **values}
    return Account(**given_values)  # type: ignore[arg-type]


def printing(text: str) -> tuple[str, ...]:
    """Return a command that prints *text*."""
    return (sys.executable, "-I", "-S", "-c", f"import sys; sys.stdout.write({text!r})")


def test_order_of_secrets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Environment, .env, command, keyring, prompt: the first that has one."""
    keyring = types.ModuleType("keyring")
    keyring.get_password = lambda service, user: f"{service}/{user}"  # type: ignore[attr-defined]
    errors = types.ModuleType("keyring.errors")
    errors.KeyringError = OSError  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    monkeypatch.setitem(sys.modules, "keyring.errors", errors)
    account = an_account(password_command=printing("command\nsecond line"))
    real = {"SMTP_AUTH": "tutorial", "MAILMERGE_SMTP_PASSWORD": "env"}
    file = {"SMTP_AUTH": "dotenv"}
    assert secret_of(account, Environment(real, file)) == "env"
    assert secret_of(account, Environment({"SMTP_AUTH": "tutorial"}, file)) == "tutorial"
    assert secret_of(account, Environment({}, file)) == "dotenv"
    assert secret_of(account, Environment({})) == "command"
    assert secret_of(an_account(), Environment({})) == "mailmerge smtp.example.org/me"
    keyring.get_password = lambda service, user: None  # type: ignore[attr-defined]
    assert secret_of(an_account(), Environment({}), prompt=lambda question: question) == (
        "Password for me at smtp.example.org:587: "
    )
    assert keyring_service(account) == "mailmerge smtp.example.org"


@pytest.fixture
def no_keyring(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the optional package be absent."""
    monkeypatch.setitem(sys.modules, "keyring", None)


@pytest.mark.usefixtures("no_keyring")
def test_no_secret_names_all_ways() -> None:
    """Where no place has the secret, the error lists the places and how to get one."""
    account = resolve("qq", campaign_from="12345@qq.com")
    with pytest.raises(AuthError) as caught:
        find_secret(account, Environment({}))
    assert (caught.value.code, caught.value.exit_code) == ("S605", 6)
    assert str(caught.value) == "no authorization code (授权码) for 12345@qq.com at smtp.qq.com"
    assert caught.value.hint == (
        "set MAILMERGE_SMTP_PASSWORD or SMTP_AUTH in the environment or in .env;"
        " name a password_command in [accounts.qq];"
        " store it in the system keyring: mailmerge login qq;"
        " or run in a terminal and type it;"
        " `mailmerge providers qq` shows how to get one"
    )


@pytest.mark.usefixtures("no_keyring")
@pytest.mark.parametrize(
    ("real", "file", "name", "found"),
    [
        ({"SMTP_AUTH": "mine"}, {"SMTP_SERVER": "evil.example"}, None, None),
        ({"SMTP_AUTH": "mine"}, {"SMTP_SERVER": "evil.example", "SMTP_AUTH": "theirs"}, None, "theirs"),
        ({"SMTP_AUTH": "mine", "SMTP_SERVER": "smtp.x.org"}, {"SMTP_SERVER": "evil.example"}, None, "mine"),
        ({"SMTP_AUTH": "mine", "SMTP_SERVER": "smtp.x.org"}, {}, "gmail", None),
        ({"SMTP_AUTH": "mine", "SMTP_SERVER": "smtp.gmail.com"}, {}, "gmail", "mine"),
        ({"SMTP_AUTH": "mine"}, {}, "gmail", "mine"),
        ({"SMTP_AUTH": "mine", "SMTP_USER": "me@x.org"}, {}, "gmail", "mine"),
        ({}, {"SMTP_AUTH": "theirs"}, "gmail", "theirs"),
        ({"SMTP_SERVER": "smtp.x.org"}, {"SMTP_AUTH": "theirs"}, None, None),
    ],
)
def test_secret_goes_only_to_the_host_of_its_source(
    real: dict[str, str], file: dict[str, str], name: str | None, found: str | None
) -> None:
    """A .env that came with a campaign cannot lead the user's secret to its server."""
    environment = Environment(real, file, Path(".env"))
    account = resolve(name, real, file, campaign_from="me@x.org")
    if found:
        assert secret_of(account, environment) == found
    else:
        with pytest.raises(AuthError, match=r"^no ") as caught:
            find_secret(account, environment)
        assert "is not used: the server" in (caught.value.hint or "")


@pytest.mark.usefixtures("no_keyring")
def test_e9_a_secret_of_another_user_is_not_used() -> None:
    """A password that is named with its user is not tried as somebody else's at another server."""
    environment = Environment({"SMTP_AUTH": "mine", "SMTP_USER": "ana@x.org"})
    with pytest.raises(AuthError, match=r"^no ") as caught:
        find_secret(an_account(user="me"), environment)
    assert "with the user me does not come from there" in (caught.value.hint or "")
    assert secret_of(an_account(user="ana@x.org"), environment) == "mine"


def test_dotenv_cannot_weaken_the_server_of_the_environment() -> None:
    """Port and TLS mode come from the place that names the server."""
    file = {"MAILMERGE_SMTP_TLS": "none", "SMTP_PORT": "25", "SMTP_SERVER": "evil.example"}
    account = resolve(None, {"SMTP_SERVER": "smtp.x.org", "SMTP_FROM": "me@x.org"}, file)
    assert (account.host, account.port, account.tls) == ("smtp.x.org", 587, "starttls")


def test_c8_spaces_of_gmail_are_removed() -> None:
    """Gmail shows app passwords in groups; elsewhere spaces belong to the secret."""
    gmail = resolve("gmail", campaign_from="me@gmail.com")
    environment = Environment({"SMTP_AUTH": " abcd efgh\u00a0ijkl mnop "})
    assert secret_of(gmail, environment) == "abcdefghijklmnop"
    assert secret_of(an_account(), environment) == " abcd efgh\u00a0ijkl mnop "


@pytest.mark.parametrize("text", [f"{CANARY}\n", f"{CANARY}\r\nx", f"a\0{CANARY}"])
def test_c8_line_breaks_are_refused(text: str) -> None:
    """A secret with a line break or NUL is refused without being shown."""
    with pytest.raises(
        AuthError, match=r"^the secret from SMTP_AUTH in the environment contains a line"
    ) as caught:
        find_secret(an_account(), Environment({"SMTP_AUTH": text}))
    assert CANARY not in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (("/nonexistent/pass", CANARY), "the command for the secret, /nonexistent/pass, was not found"),
        (printing(""), f"the command for the secret, {sys.executable}, printed nothing"),
        ((sys.executable, "-I", "-S", "-c", "raise SystemExit(3)"), "ended with status 3"),
    ],
)
def test_command_that_fails(command: tuple[str, ...], words: str) -> None:
    """A command that gives no secret stops the search; its arguments are not shown."""
    with pytest.raises(AuthError) as caught:
        find_secret(an_account(password_command=command), Environment({}), prompt=lambda _: "x")
    assert words in str(caught.value)
    assert caught.value.code == "S606"
    assert CANARY not in f"{caught.value}{caught.value.hint}"


@pytest.mark.usefixtures("no_keyring")
def test_e9_programs_that_are_started_see_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    """The command for a password has the environment of this process, without any password or token."""
    monkeypatch.setenv("SMTP_AUTH", CANARY)
    monkeypatch.setenv("MAILMERGE_SMTP_PASSWORD", CANARY)
    monkeypatch.setenv("HARMLESS", "kept")
    program = (
        "import os; print(os.environ['HARMLESS'], *{'SMTP_AUTH', 'MAILMERGE_SMTP_PASSWORD'} & {*os.environ})"
    )
    account = an_account(password_command=(sys.executable, "-I", "-S", "-c", program))
    assert secret_of(account, Environment({})) == "kept"
    with secrets_hidden():
        assert not {"SMTP_AUTH", "MAILMERGE_SMTP_PASSWORD"} & {*os.environ}
    assert os.environ["SMTP_AUTH"] == CANARY


def test_e9_commands_in_hints_are_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder or a user whose name is a command for the shell is one word of what is to be pasted."""
    monkeypatch.setattr("sys.platform", "linux")
    folder = tmp_path / "spring; touch PWNED #"
    folder.mkdir()
    (folder / ".env").write_text("SMTP_AUTH=x\n")
    (folder / ".env").chmod(0o644)
    [warning] = Environment.read(folder, {}).warnings
    assert warning.hint == f"chmod 600 '{folder}/.env'"
    with pytest.raises(AuthError) as caught:
        find_secret(an_account(user="me; touch PWNED", source="environment"), Environment({}))
    assert "keyring set \"mailmerge smtp.example.org\" 'me; touch PWNED'" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "codes", "words"),
    [
        ("SMTP_SERVER=smtp.example.org\nSMTP_PASSWORD=x\n", ["C414"], "write SMTP_AUTH instead"),
        ("SMTP_HOST=smtp.example.org\n", ["C414"], "write SMTP_SERVER instead"),
        ("SMTP_SERVER=a.example\nSMTP_HOST=a.example\n", [], ""),
        ("SMTP_USER=me\nSMTP_AUTH\n", ["C416"], "NAME=value"),
        ("SMTP_USER=me\n%%%\nSMTP_FROM=me@example.org\n", ["C416"], "NAME=value"),
        ("# mail\nexport SMTP_USER='a b'\n\nSMTP_FROM=me@example.org # me\n", [], ""),
    ],
)
def test_what_env_says_for_other_programs_is_told(
    text: str, codes: list[str], words: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name that other programs read, or a line that nobody can, would be missed in silence."""
    (tmp_path / ".env").write_text(text)
    (tmp_path / ".env").chmod(0o600)
    environment = Environment.read(tmp_path, {})
    warnings = environment.warnings
    assert [warning.code for warning in warnings] == codes
    assert environment.not_used == ()  # no other place would be right for a name that nobody reads
    assert caplog.records == []
    assert all(words in (warning.hint or "") for warning in warnings)


def test_another_name_for_the_server_is_told() -> None:
    """Where no account is found, the variable that was meant is named."""
    with pytest.raises(CampaignFileError) as caught:
        resolve(variables={"SMTP_HOST": "smtp.example.org"})
    assert caught.value.hint == "SMTP_HOST is not read: call it SMTP_SERVER"


@pytest.mark.usefixtures("no_keyring")
def test_another_name_for_the_secret_is_told() -> None:
    """Where no secret is found, the variable that was meant is named, and no section that cannot be."""
    account = an_account(source=".env", name=".env")
    with pytest.raises(AuthError) as caught:
        find_secret(account, Environment({}, {"SMTP_PASSWORD": CANARY}, Path(".env")))
    assert "SMTP_PASSWORD in .env is not read: call it SMTP_AUTH" in str(caught.value.hint)
    assert "[accounts." not in str(caught.value.hint)
    assert CANARY not in str(caught.value.hint)


def test_a_secret_that_is_not_used_says_why_before_the_prompt() -> None:
    """The person who is asked would wonder what became of the password in .env."""
    asked: list[str] = []
    account = an_account(source="config")
    environment = Environment({"SMTP_AUTH": "theirs", "SMTP_SERVER": "elsewhere.example"})

    def ask(question: str) -> str:
        asked.append(question)
        return "typed"

    find_secret(account, environment, prompt=ask)
    assert asked[0].startswith("SMTP_AUTH in the environment is not used: the server smtp.example.org")
    assert asked[0].endswith("Password for me at smtp.example.org:587: ")


def test_token_command_is_asked_again(tmp_path: Path) -> None:
    """Each call fetches a fresh token."""
    script = tmp_path / "token.py"
    script.write_text(
        "import pathlib\np = pathlib.Path(__file__ + '.n')\n"
        "n = int(p.read_text()) + 1 if p.exists() else 1\np.write_text(str(n))\nprint(f'token-{n}')\n"
    )
    account = an_account(auth="token", token_command=(sys.executable, "-I", "-S", str(script)))
    assert [secret_of(account, Environment({})) for _ in range(2)] == ["token-1", "token-2"]


def test_a_slow_token_command_holds_up_no_other_session(tmp_path: Path) -> None:
    """The token for the next connection is fetched beside; one that is there is not asked for again."""
    script = tmp_path / "token.py"
    script.write_text(
        "import pathlib, time\np = pathlib.Path(__file__ + '.n')\n"
        "n = int(p.read_text()) + 1 if p.exists() else 1\np.write_text(str(n))\n"
        "time.sleep(0.4 * (n > 1))\nprint(f'token-{n}')\n"
    )
    command = (sys.executable, "-I", "-S", str(script))
    connect = connection_factory(an_account(auth="token", token_command=command), Environment({}))
    connection = connect()
    credentials, renewing = connection._credentials, connection._renewing
    assert credentials is not None
    assert renewing is not None
    assert credentials.secret() == "token-1"
    began = time.monotonic()
    opening = iter(connect().opening())
    next(opening)
    assert time.monotonic() - began < 0.2
    while script.with_name("token.py.n").read_text() != "2":
        next(opening)
        time.sleep(0.01)
    del opening  # which closes it
    for _ in renewing():
        time.sleep(0.01)
    assert list(renewing()) == []
    assert credentials.secret() == "token-3"


# --- what is never shown -----------------------------------------------------------------------------------


def test_c9_secret_never_shows() -> None:
    """A secret, whatever contains it, and errors about it never print it."""
    environment = Environment({"SMTP_AUTH": CANARY, "SMTP_SERVER": "smtp.x.org"}, {"SMTP_AUTH": CANARY})
    account = resolve(None, dict(environment.real), campaign_from="me@x.org")
    secret = find_secret(account, environment)
    shown = [
        *(str(secret), repr(secret), f"{secret}", f"{secret:>20}", f"{secret!r:.99}", f"{[secret]}"),
        *(repr(environment), str(environment), repr(account)),
    ]
    assert [text for text in shown if CANARY in text] == []
    assert secret.reveal() == CANARY
    for attempt in (pickle.dumps, copy.copy, json.dumps):
        with pytest.raises(TypeError) as caught:
            attempt(secret)
        assert CANARY not in str(caught.value)


def test_c9_errors_never_show_the_secret(config: Config) -> None:
    """Whatever is wrong elsewhere, the secret in the environment is in no error."""
    variables = {"SMTP_AUTH": CANARY, "MAILMERGE_SMTP_PASSWORD": CANARY, "SMTP_SERVER": "smtp.x.org"}
    path = config(f"[accounts.a]\npassword = '{CANARY}'\nport = 0\n[accounts.b]\nhost = ''\n")
    for name, more in ((None, {"SMTP_PORT": "x"}), (None, {}), ("a", {}), ("b", {}), ("gmial", {})):
        with pytest.raises(MailmergeError) as caught:
            resolve(name, {**variables, **more}, config_path=path)
        assert CANARY not in repr(caught.value.diagnostics) + repr(caught.value)


_secrets = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=4, max_size=24).filter(str.strip)


@settings(max_examples=80, deadline=None)
@given(secret=_secrets, lead=st.binary(max_size=5), tail=st.binary(max_size=5))
def test_c9_mask(secret: str, lead: bytes, tail: bytes) -> None:
    """The secret is masked raw, quoted, percent-encoded, and inside base64 at any offset (AUTH PLAIN)."""
    assume(not secret.isascii() or len(set(secret)) > 2)
    raw = secret.encode()
    blobs = [base64.b64encode(lead + raw + tail).decode(), base64.urlsafe_b64encode(lead + raw).decode()]
    forms = [secret, json.dumps(secret)[1:-1], repr(secret)[1:-1], quote(secret), *blobs]
    for form in forms:
        line = mask(f"C: AUTH PLAIN <{form}> 535 no", Secret(secret).spellings)
        assert line == "C: AUTH PLAIN <****> 535 no"


def test_mask_leaves_the_rest_alone() -> None:
    """What is not a secret stays unchanged."""
    blob = base64.b64encode(f"\0me\0{CANARY}".encode()).decode()
    text = f"me@x.org {CANARY} AUTH PLAIN {blob} 250 ok"
    assert mask(text, [CANARY]) == "me@x.org **** AUTH PLAIN **** 250 ok"
    assert mask(text, []) == text
    assert mask("no secrets", ["", "x y"]) == "no secrets"


GMAIL = {"provider": "gmail", "client_id": 'x"y\\z'}


@pytest.mark.parametrize(
    "text",
    [
        "",
        '# mine\n[accounts.work] # my account\n# note\nhost = "a.example" # x\n[accounts.b]\nhost = "b"\n',
        '[accounts."work"]\nhost = "a.example"\n',
        "[ accounts . 'work' ]\nhost = 'a.example'\n",
        '\ufeff[accounts.work]\r\nhost = "a.example"\r\nclient_id = "old"\r\n\r\n[accounts.b]\r\n',
        '[accounts.x]\nhost = "x"\nuser = """\n[accounts.work]\n"""\n',
        '[accounts.work]\nclient_id = "old" # the first\nprovider = "yahoo"',
        '[accounts.b]\nhost = "b"\nclient_id = "another"\n\n[accounts.work]\n',
    ],
)
def test_an_account_is_written_into_whatever_is_there(tmp_path: Path, text: str) -> None:
    """Its keys are what was given, and nothing else in the file has changed."""
    path = tmp_path / "config.toml"
    path.write_bytes(text.encode())
    before = tomllib.loads(text.removeprefix("\ufeff")).get("accounts", {})
    write_account(path, "work", GMAIL)
    assert tomllib.loads(path.read_text("utf-8"))["accounts"] == {
        **before,
        "work": {**before.get("work", {}), **GMAIL},
    }
    kept = [line for line in text.removeprefix("\ufeff").splitlines() if line.startswith("#")]
    assert [line for line in path.read_text("utf-8").splitlines() if line.startswith("#")] == kept


@pytest.mark.parametrize(
    "text",
    [
        'accounts.work.host = "a.example"\n',
        '[accounts]\nwork = {host = "a.example"}\n',
        '[accounts]\nwork.host = "a.example"\n',
        'accounts = {b = {host = "b"}}\n',
    ],
)
def test_an_account_in_another_form_is_left_to_its_owner(tmp_path: Path, text: str) -> None:
    """The file stays as it is, and the error says what to write into it."""
    path = tmp_path / "config.toml"
    path.write_text(text)
    with pytest.raises(CampaignFileError) as caught:
        write_account(path, "work", GMAIL)
    assert 'provider = "gmail"; client_id = ' in str(caught.value.hint)
    assert path.read_text() == text


def test_an_address_of_an_account_means_the_account(tmp_path: Path) -> None:
    """Whoever signs in again gets no second account; one that is wrong is in nobody's way."""
    path = tmp_path / "config.toml"
    path.write_text('[accounts.a]\nhost = 5\n[accounts.mine]\nprovider = "gmail"\nuser = "Me@gmail.com"\n')
    environment = Environment({"MAILMERGE_CONFIG": str(path)})
    assert (choose("me@gmail.com", environment).name, choose("me@gmail.com", environment).known) == (
        "mine",
        True,
    )
    assert choose("bo@gmail.com", environment).name == "gmail"


def test_a_secret_kept_in_a_file_takes_the_place_of_one_in_the_keyring(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The keyring is asked first: what it had would be used for ever."""
    kept = {("mailmerge x", "me"): "old"}
    keyring = types.ModuleType("keyring")
    keyring.get_password = lambda service, user: kept.get((service, user))  # type: ignore[attr-defined]
    keyring.delete_password = lambda service, user: kept.pop((service, user))  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    store = SecretStore(tmp_path)
    store.keep("mailmerge x", "me", "new", in_file=True)
    found = store.find("mailmerge x", "me")
    assert found is not None
    assert found[0] == "new"


def test_a_keyring_that_fails_in_its_own_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows' raises an error of its own for a long secret; nothing of the secret is told."""

    def fails(service: str, user: str, secret: str = "") -> None:
        raise Exception(1783, "CredWrite", f"stub received bad data {secret}")  # noqa: TRY002  as pywintypes.error

    keyring = types.ModuleType("keyring")
    for name in ("get_password", "set_password", "delete_password"):
        setattr(keyring, name, fails)
    monkeypatch.setitem(sys.modules, "keyring", keyring)
    store = SecretStore(tmp_path)
    with pytest.raises(AuthError, match="does not accept the secret") as caught:
        store.keep("mailmerge x", "me", "s3cr3t-token", in_file=False)
    assert "s3cr3t" not in str(caught.value)
    store.keep("mailmerge x", "me", "s3cr3t-token", in_file=True)
    assert store.find("mailmerge x", "me") is not None
    assert len(store.forget("mailmerge x", "me")) == 1
    assert not keyring_works()


@pytest.mark.parametrize(("port", "tls"), [(465, "tls"), (994, "tls"), (2465, "tls"), (587, "starttls")])
def test_login_chooses_the_tls_mode_that_the_port_has(port, tls):
    """What is asked for and written down is what an account without a TLS mode would get."""
    choice = Choice("work", known=False, provider=None, address=Address("ann", "example.org"))
    options = dict.fromkeys(
        ["oauth", *(f"accounts_{key}" for key in ("client_id", "tenant", "issuer", "ca_file"))]
    )
    with CliRunner().isolation(input=f"\n{port}\n"):
        values = _values(choice, options)

    assert (values["port"], values["tls"]) == (port, tls)
