"""A fleet on one machine: a database, a receiver, workers in processes, and what may befall all of them."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

from campaigns import TO_PEOPLE, campaign_toml
from mailmerge.campaign import Campaign
from mailmerge.campaign.opening import open_standing
from mailmerge.model import Counts, Status
from reliability.bench import people
from servers.command import Mailmerge
from servers.programs import unmeasured
from servers.receiver import Receiver, repeated
from servers.stalling import StallingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path
    from random import Random

    from mailmerge.model import Result
    from servers.command import Done
    from servers.postgres import Postgres

LEASE = 2.0
"""Seconds that the workers' leases last here."""
SLOTS = 3
IN_FLIGHT = {"off": 1, "overlap": 2, "window": 96}
"""How many rows a session in this mode may have promised without an answer, at most."""
NAME = "spring"


@dataclass
class Machine:
    """One worker, with a home, a configuration and an account of its own."""

    account: str
    mailmerge: Mailmerge
    ledger: str
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    said: list[str] = field(default_factory=list)

    @property
    def alive(self) -> bool:
        """Whether its process is there."""
        return self.process is not None and self.process.poll() is None

    def start(self) -> None:
        """Start the worker; it ends when nothing is left to send."""
        self.starts += 1
        log = self.mailmerge.folder / f"worker-{self.starts}.log"
        with log.open("wb") as output:
            self.process = subprocess.Popen(
                self.mailmerge.command("worker", "--accounts", self.account, "--until-done"),
                cwd=self.mailmerge.folder,
                env=unmeasured({**self.mailmerge.environ, "MAILMERGE_LEDGER": self.ledger}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    def signal(self, number: int) -> None:
        """Send it a signal, if it is there."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def waker(self) -> Callable[[], None]:
        """Return what lets the present process continue, if it is there by then."""
        process = self.process
        return lambda: (
            None if process is None or process.poll() is not None else process.send_signal(signal.SIGCONT)
        )

    def end(self) -> None:
        """Kill it, and wait for that."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGKILL)
        if self.process is not None:
            self.process.wait()

    @property
    def log(self) -> str:
        """What its processes have said."""
        logs = sorted(self.mailmerge.folder.glob("worker-*.log"))
        return "\n".join(log.read_text("utf-8", "replace") for log in logs)


class Fleet:
    """A campaign that a planner hands to workers; use it as a context manager.

    Args:
        folder: an empty folder.
        postgres: has the ledger.
        receiver: takes the messages, at a port for each worker.
        rows: how long the list is.
        modes: how the account of each worker hands messages over: ``off``, ``overlap``, ``window``.
        account: further settings of all accounts.
        send: further lines of the campaign's ``[send]``.

    """

    def __init__(
        self,
        folder: Path,
        postgres: Postgres,
        receiver: Receiver,
        *,
        rows: int,
        modes: tuple[str, ...] = ("off", "overlap", "window"),
        account: Mapping[str, object] | None = None,
        send: str = 'retry = "2s"',
    ) -> None:
        self.rows = rows
        self.receiver = receiver
        self.postgres = postgres
        self.url = postgres.new_database()
        self.database = StallingProxy(postgres.port)
        """Between the first worker and the database."""
        self.network = StallingProxy(receiver.ports[-1])
        """Between the last worker and the receiver."""
        self.planner = Mailmerge(folder / "planner", patience=60 + rows / 1000)
        self._stack = contextlib.ExitStack()
        self._stack.enter_context(self.database)
        self._stack.enter_context(self.network)
        self.machines: list[Machine] = []
        accounts = []
        for number, mode in enumerate(modes):
            last = number == len(modes) - 1
            port = self.network.port if last and number else receiver.ports[number]
            text = "".join(
                f"{key} = {value}\n"
                for key, value in {
                    "host": '"127.0.0.1"', "port": port, "tls": '"none"', "auth": '"none"',
                    "any_from": "true", "sessions": SLOTS, "pipeline": f'"{mode}"', **(account or {}),
                }.items()
            )  # fmt: skip
            accounts.append(f"[accounts.{mode}]\n{text}")
            own = Mailmerge(folder / f"worker{number}")
            own.config.write_text(accounts[-1])
            own.environ["MAILMERGE_FLEET_LEASE"] = str(LEASE)
            ledger = (
                self.url.replace(f":{postgres.port}/", f":{self.database.port}/") if not number else self.url
            )
            self.machines.append(Machine(mode, own, ledger))
        self.planner.config.write_text("\n".join(accounts))
        self.planner.environ["MAILMERGE_LEDGER"] = self.url
        toml = campaign_toml(
            top=f'account = "{modes[0]}"', message=TO_PEOPLE, send=f'max_rejected = "100%"\n{send}'
        )
        self.planner.campaign(NAME, people_csv=people(rows), campaign_toml=toml)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for machine in self.machines:
            machine.end()
        self._stack.close()

    def begin(self) -> None:
        """Plan the campaign, and leave it to the workers."""
        accounts = ",".join(machine.account for machine in self.machines)
        done = self.planner("send", NAME, "--fleet", "--detach", "--yes", "--accounts", accounts)
        assert done.code == 0, done

    def start(self) -> None:
        """Start all workers."""
        for machine in self.machines:
            machine.start()

    def taken(self) -> int:
        """Return how many messages were accepted so far."""
        return self.receiver.count()

    def finish(self, seconds: float = 60) -> None:
        """Let calm workers send what is left, and wait for their end."""
        for machine in self.machines:
            machine.signal(signal.SIGCONT)
        self.database.go_on()
        self.network.go_on()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            for machine in self.machines:
                if not machine.alive and not (machine.process and machine.process.returncode == 0):
                    machine.start()
            if not any(machine.alive for machine in self.machines):
                return
            time.sleep(0.1)
        raise AssertionError("\n".join(machine.log[-2000:] for machine in self.machines))

    def status(self) -> Done:
        """Ask the planner's machine how things are."""
        return self.planner("status", NAME)

    def results(self) -> list[Result]:
        """Return every row of the list with its status."""
        campaign = Campaign.load(self.planner.folder / NAME, environ=self.planner.environ)
        with open_standing(campaign.definition) as standing:
            assert standing is not None
            return list(standing.results())

    @property
    def doubts_by_cuts(self) -> int:
        """How many doubts the receiver's cut connections explain."""
        cuts = self.receiver.cuts()
        return sum(cuts[at] * IN_FLIGHT[machine.account] for at, machine in enumerate(self.machines))

    def check(self, most_doubts: int) -> Counts:
        """Judge by what the receiver has: nobody twice, nobody lost, every doubt listed."""
        taken = self.receiver.taken()
        assert repeated([message.message_id for message in taken]) == []
        assert repeated([message.recipient for message in taken]) == []
        arrived = {message.recipient for message in taken}
        results = self.results()
        assert len({result.row for result in results}) == len(results) == self.rows
        states = Counter(result.status for result in results)
        for result in results:
            where = f"row {result.row} <{result.address}> is {result.status}"
            if result.status is Status.ACCEPTED:
                assert result.address in arrived, f"{where}, and never arrived"
            else:
                assert result.status is Status.IN_DOUBT, where
        assert states[Status.IN_DOUBT] <= most_doubts, states
        if states[Status.IN_DOUBT]:
            listed = set(re.findall(r"p\d+@example\.net", self.planner("resolve", NAME).out))
            assert listed == {result.address for result in results if result.status is Status.IN_DOUBT}
        return Counts(dict(states))


@dataclass
class Faults:
    """What befell a fleet, and how many doubts that explains."""

    kills: int = 0
    stops: int = 0
    cuts: int = 0
    crashes: int = 0
    doubts: int = 0

    def __str__(self) -> str:
        return (
            f"{self.kills} kills, {self.stops} stops, {self.cuts} cuts of connections, "
            f"{self.crashes} crashes of the database"
        )


def torment(fleet: Fleet, dice: Random, *, seconds: float, faults: int, crashes: int) -> Faults:
    """Kill, stop, cut off and crash at random, about *faults* times, until little is left."""
    befell, until, seen = Faults(), time.monotonic() + seconds, 0
    silence = LEASE * 1.75
    everybody = sum(SLOTS * IN_FLIGHT[machine.account] for machine in fleet.machines)
    while time.monotonic() < until and fleet.taken() < fleet.rows * 0.97:
        # Not so often that nothing gets done between two of them.
        pause = time.monotonic() + dice.uniform(1.5, 2.5)
        while time.monotonic() < pause and fleet.taken() < seen + fleet.rows / faults:
            time.sleep(0.05)
        seen = fleet.taken()
        machine = dice.choice(fleet.machines)
        if not machine.alive:
            machine.start()
            continue
        concerned = SLOTS * IN_FLIGHT[machine.account]
        point = dice.random()
        if point < 0.5:
            machine.end()
            befell.kills += 1
            befell.doubts += concerned
            machine.start()
        elif point < 0.7:
            machine.signal(signal.SIGSTOP)
            _later(silence, machine.waker())
            befell.stops += 1
            befell.doubts += concerned
        elif point < 0.9:
            proxy, owner = dice.choice(
                [(fleet.database, fleet.machines[0]), (fleet.network, fleet.machines[-1])]
            )
            proxy.stall()
            _later(silence, proxy.go_on)
            befell.cuts += 1
            befell.doubts += SLOTS * IN_FLIGHT[owner.account]
        elif befell.crashes < crashes:
            fleet.postgres.crash()
            befell.crashes += 1
            befell.doubts += everybody
    return befell


def _later(seconds: float, act: Callable[[], object]) -> None:
    timer = threading.Timer(seconds, act)
    timer.daemon = True
    timer.start()
