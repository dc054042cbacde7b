"""A fleet: real worker processes on a real PostgreSQL, judged by what the server received."""

from __future__ import annotations

import contextlib
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from mailmerge.campaign.shared_ledger import server
from mailmerge.plan.server_store import head_digest
from servers.command import CAMPAIGN, one_error, statuses
from servers.kept import KeepingSandbox

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from servers.command import Mailmerge
    from servers.postgres import Postgres


class Workers:
    """Worker processes; those that a test leaves running are ended after it."""

    def __init__(self, mailmerge: Mailmerge) -> None:
        self._mailmerge = mailmerge
        self._started: list[subprocess.Popen[bytes]] = []

    def start(self, *options: str, accounts: str = "test", **environ: str) -> subprocess.Popen[bytes]:
        """Start one, with a short lease."""
        process = self._mailmerge.start(
            "worker",
            "--ledger",
            "office",
            "--accounts",
            accounts,
            *options,
            MAILMERGE_FLEET_LEASE="3",
            **environ,  # type: ignore[arg-type]
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        """Kill what is left; what it said is shown with a test that failed."""
        for process in self._started:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            _, said = process.communicate()
            sys.stdout.write(
                f"worker {process.pid}, exit code {process.returncode}:\n{(said or b'').decode()}\n"
            )


@pytest.fixture
def database(postgres: Postgres) -> str:
    """The address of an empty database."""
    return postgres.new_database()


@pytest.fixture
def shared(mailmerge: Mailmerge, database: str, relay: KeepingSandbox) -> Mailmerge:
    """The command with an account of two sessions and a ledger."""
    mailmerge.account(relay, sessions=2)
    with mailmerge.config.open("a") as file:
        file.write(f'\n[ledgers.office]\nurl = "{database}"\n')
    return mailmerge


@pytest.fixture
def workers(shared: Mailmerge) -> Iterator[Workers]:
    """Starts worker processes."""
    started = Workers(shared)
    yield started
    started.close()


def paced(rate: str) -> str:
    """Write the campaign file with a rate for all workers."""
    return f'{CAMPAIGN}\n[send]\nrate = "{rate}"\n'


def people(count: int) -> str:
    """Write a list of so many rows."""
    return "email,name\n" + "".join(f"u{number}@example.org,U{number}\n" for number in range(count))


def arrived(relay: KeepingSandbox) -> Counter[str]:
    """Count the messages by recipient."""
    return Counter(recipient for message in list(relay.messages) for recipient in message.rcpt_to)


def until(true: Callable[[], object], seconds: float = 20) -> None:
    """Wait for something to become true."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.02)


def ended(process: subprocess.Popen[bytes]) -> tuple[int, str]:
    """Wait for a worker to end by itself; give its exit code and what it said."""
    _, said = process.communicate(timeout=30)
    assert b"Traceback" not in said, said.decode()
    return process.returncode, said.decode()


def send(mailmerge: Mailmerge, *options: str):
    return mailmerge("send", "spring", "--yes", "--ledger", "office", "--fleet", *options)


def test_a_worker_that_is_stopped_gives_everything_back(shared, relay, workers):
    """SIGTERM in the middle: it finishes what is in flight, the other sends the rest; each arrives once."""
    folder = shared.campaign(people_csv=people(60), campaign_toml=paced("60/s"))
    first, second = workers.start(), workers.start("--json")
    sending = shared.start("send", "spring", "--yes", "--ledger", "office", "--fleet")
    until(lambda: len(relay.messages) > 10)
    first.send_signal(signal.SIGTERM)
    code, said = ended(first)
    done = shared.finish(sending)
    until(lambda: "spring: finished" in shared("fleet", "spring", "--ledger", "office").out)
    second.send_signal(signal.SIGINT)
    interrupted, said_by_second = ended(second)

    assert code == 143, said
    assert done.code == 0, done
    assert interrupted == 130, said_by_second
    assert arrived(relay) == Counter({f"u{number}@example.org": 1 for number in range(60)})
    assert statuses(folder) == ["accepted"] * 60
    assert "@example.org" not in said + said_by_second


def test_a_campaign_is_paused_resumed_and_taken_back(shared, relay, workers):
    """From any folder by its name; while workers have it there are tests, and no runs; cancelled, a run."""
    folder = shared.campaign(people_csv=people(60), campaign_toml=paced("20/s"))
    detached = send(shared, "--detach")
    worker = workers.start()
    until(lambda: len(relay.messages) > 3)
    paused = shared("pause", "spring", "--ledger", "office", cwd=shared.folder / "home")
    count = len(relay.messages)
    busy = shared("send", "spring", "--yes", "--ledger", "office")
    tried = shared("test", "spring", "--ledger", "office", "--to", "me@example.org")
    still = len(relay.messages)
    resumed = shared("resume", "spring", "--ledger", "office", cwd=shared.folder / "home")
    until(lambda: len(relay.messages) > still + 3)
    cancelled = shared("cancel", "spring", "--ledger", "office")
    again = shared("resume", "spring", "--ledger", "office")
    worker.send_signal(signal.SIGTERM)
    code, said = ended(worker)
    rest = shared("send", "spring", "--yes", "--ledger", "office", "--rate", "1000/s")

    assert (detached.code, paused.code, resumed.code, cancelled.code, again.code) == (0, 0, 0, 0, 2)
    assert "mailmerge pause spring --ledger office" in detached.err
    assert "brought a ledger" not in rest.out + rest.err
    assert busy.code == 7, busy
    assert tried.code == 0, tried
    assert still <= count + 3
    assert code == 143, said
    assert rest.code == 0, rest
    everybody = ["me@example.org", *(f"u{number}@example.org" for number in range(60))]
    assert arrived(relay) == Counter(everybody)
    assert statuses(folder) == ["accepted"] * 60


def test_an_account_that_is_refused_is_left_to_others(shared, workers):
    """Whoever is not let in says so and stops asking; another worker with the right secret sends all."""
    with KeepingSandbox() as server:
        config = shared.config.read_text("utf-8")
        shared.account(server)
        ledgers = config[config.index("[ledgers") :]
        with shared.config.open("a") as file:
            file.write(f"\n{ledgers}")
        folder = shared.campaign(people_csv=people(5))
        wrong = workers.start(MAILMERGE_SMTP_PASSWORD="wrong")
        refused = send(shared)
        code, said = ended(wrong)
        right = workers.start("--until-done")
        done = send(shared)

        assert refused.code == 6, refused
        assert code == 6, said
        assert "not used here any more" in said
        assert done.code == 0, done
        assert ended(right)[0] == 0
        assert len(server.messages) == 5
        assert statuses(folder) == ["accepted"] * 5


def test_a_fleet_needs_a_ledger_and_names(mailmerge, relay):
    """What is missing is said before anything is planned; a worker says at its start what it lacks."""
    mailmerge.account(relay)
    mailmerge.campaign()
    file = mailmerge("send", "spring", "--yes", "--fleet")
    alone = mailmerge("send", "spring", "--yes", "--detach")
    nameless = mailmerge("worker", "--accounts", "test")
    nobody = mailmerge("worker", "--ledger", "office")
    with mailmerge.config.open("a") as config:
        config.write('\n[ledgers.office]\nurl = "postgresql://127.0.0.1:1/mail"\n')
    down = mailmerge("worker", "--ledger", "office", "--accounts", "test", "--check")

    assert (file.code, alone.code, nameless.code, nobody.code, down.code) == (2, 2, 2, 2, 8)
    one_error(file, "C580", "a fleet needs a ledger that machines share")
    one_error(nameless, "C580", "no ledger is named")
    one_error(nobody, "C581", "no account is named")
    one_error(down, "L720", "127.0.0.1:1")
    assert not relay.messages


def test_whoever_follows_may_leave(shared, relay, workers):
    """Ctrl-C leaves the workers to themselves and says how to watch and pause them; again, it follows."""
    folder = shared.campaign(people_csv=people(20))
    relay.hold_after = 3
    worker = workers.start()
    sending = shared.start("send", "spring", "--yes", "--ledger", "office", "--fleet")
    until(lambda: len(relay.messages) > 2)
    sending.send_signal(signal.SIGINT)
    left = shared.finish(sending)
    seen = shared("status", "spring", "--ledger", "office")
    relay.go_on.set()
    done = send(shared)
    worker.send_signal(signal.SIGTERM)

    assert left.code == 130, left
    assert "mailmerge fleet spring --ledger office --watch" in left.err + left.out
    assert "mailmerge pause spring --ledger office" in left.err + left.out
    assert "Workers: running" in seen.out, seen
    assert "(it was killed)" not in seen.out
    assert done.code == 0, done
    assert ended(worker)[0] == 143
    assert statuses(folder) == ["accepted"] * 20
    assert max(arrived(relay).values()) == 1


def test_a_worker_that_was_taken_for_dead_registers_again(shared, database, relay, workers):
    """Others removed it from the list of workers while it was stopped: it says so, and continues."""
    shared.campaign(people_csv=people(3))
    assert send(shared, "--detach", "--at", "23:59").code == 0
    worker = workers.start()
    with server(database).database_to_fill() as db:
        until(lambda: db.row("SELECT count(*) FROM procrastinate_workers") == (1,))
        db.execute("DELETE FROM procrastinate_workers")
        db.execute("UPDATE procrastinate_jobs SET scheduled_at = NULL")
    until(lambda: len(relay.messages) == 3)
    worker.send_signal(signal.SIGTERM)
    code, said = ended(worker)

    assert code == 143
    assert "others took its jobs; it registers again" in said
    assert "cannot be reached" not in said


def test_a_worker_of_another_version_sends_nothing(shared, database, relay, workers):
    """It says which versions there are, and leaves the campaign to others, who continue it."""
    shared.campaign(people_csv=people(3))
    assert send(shared, "--detach").code == 0
    with server(database).database_to_fill() as db:
        name, own, *head = db.row("SELECT name, program, made, size, summary, facts, dictionary FROM plan")
        db.execute("UPDATE plan SET program = ?, digest = ?", ("9.9.9", head_digest(name, "9.9.9", *head)))
    worker = workers.start("-v")
    until(lambda: "does not send spring" in shared("fleet", "spring", "--ledger", "office").out)
    shown = shared("fleet", "spring", "--ledger", "office")
    sent_before = len(relay.messages)
    with server(database).database_to_fill() as db:  # as if a worker of its version came
        db.execute("UPDATE plan SET program = ?, digest = ?", (own, head_digest(name, own, *head)))
    until(lambda: len(relay.messages) == 3)
    worker.send_signal(signal.SIGTERM)
    code, said = ended(worker)

    assert (code, sent_before) == (143, 0)
    assert "spring: running" in shown.out, shown
    assert "no worker of version 9.9.9, which planned it, is running" in shown.out
    assert "does not send spring (planned by 9.9.9): this worker is version" in shown.out
    assert "spring: was planned by mailmerge-kit 9.9.9, and this worker is" in said


def test_the_demo_shows_a_fleet():
    """Two workers, PostgreSQL and a server start, send each row once, and are gone at the end."""
    script = Path(__file__).parents[2] / "scripts" / "fleet-demo"
    done = subprocess.run(
        [sys.executable, script, "20"], capture_output=True, text=True, check=False, timeout=60
    )

    assert done.returncode == 0, done
    assert "20 accepted" in done.stdout
    assert "receiver: 20 messages" in done.stdout
    assert "fleet-demo: finished" in done.stdout
    assert done.stderr.count("finishing the messages in flight") == 2
