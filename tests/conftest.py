"""Real servers on free loopback ports, and a certificate authority; see ``tests/servers``."""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

from servers import programs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from campaigns import CampaignFactory
    from mailmerge import Account
    from mailmerge.ledger.server_place import ServerPlace
    from servers.aio import AiosmtpdServer
    from servers.certificates import Certificates
    from servers.command import Mailmerge
    from servers.kept import KeepingSandbox
    from servers.libreoffice import LibreOffice
    from servers.openid import OpenIdProvider
    from servers.postfix import Postfix
    from servers.postgres import PgBouncer, Postgres
    from servers.sink import SmtpSink

settings.register_profile("dev", max_examples=50, deadline=None)
settings.register_profile("ci", max_examples=60, deadline=None, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") == "true" else "dev")


def pytest_configure() -> None:
    """Let the programs that tests start hear signals, also where we ignore them.

    A script's ``make test &`` ignores SIGINT, ``nohup make test`` SIGHUP. What is ignored is ignored by
    whatever one starts; what has a handler is not. Ours does nothing either.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            signal.signal(number, lambda _number, _frame: None)


LONG = {
    "tests/reliability/test_fleet.py": 110,
    "tests/reliability/test_size.py": 45,
    "tests/reliability/test_links.py::test_e1_every_system_call": 45,
    "tests/browser/test_preview_page.py::test_accessible_and_pictured": 25,
    "tests/browser/test_site.py": 20,
    "tests/e2e/test_guides.py": 60,
    "tests/test_words.py": 15,
    "tests/reliability/test_disk.py": 30,
}
"""Files and tests that take long, and about how many seconds."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let each process begin with its share of what takes long, so that all of them end together.

    pytest-xdist gives each of its processes a slice of the whole, and to one that has nothing left the last
    tests of another. What takes long stays together, because of what such tests share.
    """
    processes = getattr(config, "workerinput", {}).get("workercount", 1)
    starts: list[list[pytest.Item]] = [[] for _ in range(processes)]
    seconds = [0] * processes
    rest = items
    for name in sorted(LONG, key=lambda name: -LONG[name]):
        at = seconds.index(min(seconds))
        found = [item for item in rest if item.nodeid.startswith(name)]
        starts[at] += found
        seconds[at] += LONG[name] if found else 0
        rest = [item for item in rest if not item.nodeid.startswith(name)]
    items[:] = sliced(starts, rest)


def sliced(starts: list[list[pytest.Item]], rest: list[pytest.Item]) -> Iterator[pytest.Item]:
    """Yield all tests, so that each slice of as many as pytest-xdist gives to a process has its start."""
    left = sum(map(len, starts)) + len(rest)
    done = 0
    for at, start in enumerate(starts):
        size = left // (len(starts) - at)
        fill = max(0, size - len(start))
        yield from start
        yield from rest[done : done + fill]
        done += fill
        left -= len(start) + fill
    yield from rest[done:]


def pytest_collection_finish() -> None:
    """Leave what is imported by now out of garbage collection: it stays, and is much to look through."""
    gc.freeze()


@pytest.fixture(scope="session", autouse=True)
def _nobodys_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep tests from meeting, or leaving anything in, the folders of whoever runs them."""
    home = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        for name in ("XDG_STATE_HOME", "XDG_CONFIG_HOME", "XDG_CACHE_HOME"):
            patch.setenv(name, str(home / name))
        patch.setenv("MAILMERGE_CACHE_DIR", str(home / "cache"))
        yield


@pytest.fixture(scope="session", autouse=True)
def _fork_servers() -> Iterator[None]:
    """End the processes that commands were forked from; what these measured is written then."""
    yield
    if command := sys.modules.get("servers.command"):
        command.stop_fork_servers()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test whose ``@pytest.mark.program`` is missing; in CI it fails."""
    for mark in item.iter_markers("program"):
        for program in mark.args:
            programs.require(program)


@pytest.fixture
def campaign_factory(tmp_path: Path) -> CampaignFactory:
    """Small campaigns: ``campaign_factory(rows=["a@x.org,Ann"], data="...").check()``."""
    from campaigns import CampaignFactory

    return CampaignFactory(tmp_path)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """A certificate authority and a certificate for localhost."""
    from servers.certificates import Certificates

    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture
def sandbox() -> Iterator[KeepingSandbox]:
    """Our sandbox server with STARTTLS and sign-in, keeping its messages in ``.messages``."""
    from servers.kept import KeepingSandbox

    with KeepingSandbox() as server:
        yield server


@pytest.fixture
def account(sandbox: KeepingSandbox) -> Account:
    """The sandbox server as an account of a program, with the secret that it wants."""
    from mailmerge import Account

    return Account(
        host="127.0.0.1",
        port=sandbox.port,
        user=sandbox.user,
        secret=sandbox.password,
        ca_file=sandbox.ca_file,
        any_from=True,
    )


@pytest.fixture
def relay() -> Iterator[KeepingSandbox]:
    """The same as a relay on a trusted network is: without TLS, and nobody signs in."""
    from servers.kept import KeepingSandbox

    with KeepingSandbox(tls="none", user=None) as server:
        yield server


@pytest.fixture
def aiosmtpd_server(certificates: Certificates) -> Iterator[AiosmtpdServer]:
    """A plain aiosmtpd with STARTTLS and sign-in."""
    from servers.aio import AiosmtpdServer

    server = AiosmtpdServer(certificates)
    yield server
    server.stop()


@pytest.fixture
def smtp_sink() -> Iterator[Callable[..., SmtpSink]]:
    """Start Postfix's smtp-sink with the options given: ``sink = smtp_sink("-8")``."""
    import shutil
    import tempfile

    programs.require("smtp-sink")
    from servers.sink import SmtpSink

    folder = Path(tempfile.mkdtemp(prefix="smtp-sink-"))
    folder.chmod(0o755)
    sinks: list[SmtpSink] = []

    def start(*options: str) -> SmtpSink:
        sinks.append(SmtpSink(folder, *options))
        return sinks[-1]

    yield start
    for sink in sinks:
        sink.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def running_postfix(certificates: Certificates) -> Iterator[Postfix]:
    """One Postfix for the whole session."""
    programs.require("postfix")
    from servers.postfix import Postfix

    server = Postfix(certificates)
    yield server
    server.stop()


@pytest.fixture
def postfix(running_postfix: Postfix) -> Postfix:
    """A real Postfix with STARTTLS and sign-in, its mailbox empty."""
    running_postfix.clear()
    return running_postfix


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    """A real PostgreSQL server for the whole session."""
    from servers.postgres import Postgres

    with Postgres() as server:
        yield server


@pytest.fixture
def postgres_ledger(postgres: Postgres) -> ServerPlace:
    """A database without a ledger on it."""
    from mailmerge.ledger.server_place import ServerPlace

    return ServerPlace(postgres.new_database(), f"postgresql://127.0.0.1:{postgres.port}")


@pytest.fixture(scope="session")
def pooler(postgres: Postgres) -> Iterator[PgBouncer]:
    """A real PgBouncer in transaction mode before that server."""
    from servers.postgres import PgBouncer

    with PgBouncer(postgres, ignoring="options") as server:
        yield server


@pytest.fixture
def pooled_ledger(postgres: Postgres, pooler: PgBouncer) -> ServerPlace:
    """A database without a ledger on it, by way of a pooler."""
    from mailmerge.ledger.server_place import ServerPlace

    postgres.new_database()
    return ServerPlace(pooler.url(), f"postgresql://127.0.0.1:{pooler.port}")


@pytest.fixture(scope="session")
def openid_provider(
    tmp_path_factory: pytest.TempPathFactory, certificates: Certificates
) -> Iterator[OpenIdProvider]:
    """A real OpenID provider; its tokens last an hour."""
    from servers.openid import OpenIdProvider

    server = OpenIdProvider(tmp_path_factory.mktemp("openid"), certificates)
    yield server
    server.stop()


@pytest.fixture(scope="session")
def libreoffice(tmp_path_factory: pytest.TempPathFactory) -> LibreOffice:
    """LibreOffice, to make workbooks with and to see what it shows of them."""
    from servers.libreoffice import LibreOffice

    return LibreOffice(tmp_path_factory.mktemp("libreoffice"))


@pytest.fixture
def mailmerge(tmp_path: Path) -> Mailmerge:
    """The command, in an empty folder and with a home of its own: ``mailmerge("check", "spring")``."""
    from servers.command import Mailmerge

    return Mailmerge(tmp_path)
