"""A fleet on a real PostgreSQL meets every misfortune in random order; the receiver says what arrived."""

from __future__ import annotations

import random
from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from ledger_rows import ACCEPTED, DEFERRED, DROPPED, IN_DOUBT, NOW, REJECTED, attempt, settled
from mailmerge.clock import VirtualClock
from mailmerge.errors import InUseError, LedgerError
from mailmerge.ledger.attempts import IntentRefusedError, Settlement
from mailmerge.ledger.claims import Slot
from mailmerge.ledger.slot_writer import SlotWriter
from mailmerge.ledger.work import LONGEST_REPLY, QueuedRow, enqueue, recover, set_state

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.postgres import PostgresDatabase

ROWS, LEASE = 60, 30.0


class Unheard:
    """A connection over which nothing comes back: what was asked is done, or is not."""

    def __init__(self, db: PostgresDatabase, *, done: bool) -> None:
        self._db = db
        self._done = done

    def send(self, statements: Sequence[tuple[str, Sequence[object]]]) -> None:
        if self._done:
            self._db.send(statements)
            self._db.receive()
        self._db.close()

    def receive(self) -> list[list[Any]]:
        raise LedgerError("the network is gone", code="L720")

    def __getattr__(self, name: str) -> Any:
        return getattr(self._db, name)


class Worker:
    """A slot, what it has claimed, and what it has under way; its clock is its own."""

    def __init__(self, world: World) -> None:
        ahead = world.random.uniform(-60, 60)
        self.clock = VirtualClock(NOW + timedelta(seconds=ahead))
        self.slot = Slot.open(world.place, worker="w", account="a", seconds=LEASE, clock=self.clock)
        self.writer = SlotWriter(self.slot, world.campaign)
        self.jobs: list[int] = []
        self.promised: list[int] = []
        self.unsettled: list[Settlement] = []


class World:
    """A campaign, its workers, the receiver, and a person who decides."""

    def __init__(self, place: ServerPlace, seed: int) -> None:
        self.random = random.Random(seed)
        self.place = place
        self.ledger = place.open_for_writing("spring", now=lambda: NOW)
        self.ledger.note_version("v1", {})
        self.db: PostgresDatabase = self.ledger._db  # type: ignore[assignment]
        self.campaign = self.ledger._id
        self.workers: list[Worker] = []
        self.arrived: Counter[int] = Counter()
        self.allowed: Counter[int] = Counter(dict.fromkeys(range(ROWS), 1))
        self.released: Counter[int] = Counter()

    def fill(self) -> None:
        """Queue all that is pending, as the command that sends does."""
        done = {
            key
            for (key,) in self.db.rows("SELECT key FROM delivery WHERE status NOT IN ('pending', 'deferred')")
        }
        rows = (QueuedRow(n, f"k{n}", n, "x.org") for n in range(ROWS) if f"k{n}" not in done)
        enqueue(self.db, self.campaign, 1, rows)

    # --- what workers do ------------------------------------------------------------------------------

    def claim(self, worker: Worker) -> None:
        if not (worker.slot.gone or worker.slot.lost):
            worker.jobs += [row.row for row in worker.slot.claim(self.campaign, self.random.randint(1, 9))]

    def promise(self, worker: Worker) -> None:
        group = worker.jobs[: self.random.randint(1, 5)]
        outcomes, worker.unsettled = worker.unsettled, []
        try:
            refused = worker.writer.record_intent([attempt(row) for row in group], outcomes)
        except IntentRefusedError:
            return
        promised = [row for row in group if f"k{row}" not in refused]
        worker.promised += promised
        left_alone = {row for row in group if f"k{row}" in worker.writer.refused}
        worker.jobs = [row for row in worker.jobs if row not in promised and row not in left_alone]

    def release(self, worker: Worker) -> None:
        """Let ends leave, or take them back; the server answers as it likes, or not at all."""
        for row in worker.promised:
            if not worker.writer.may_release():
                worker.unsettled.append(settled(row, DROPPED, counts=False))
                worker.jobs.append(row)
                continue
            self.released[row] += 1
            outcome = self.random.choice([ACCEPTED] * 6 + [REJECTED, DEFERRED, DROPPED, IN_DOUBT])
            if outcome is ACCEPTED or (outcome is IN_DOUBT and self.random.random() < 0.5):
                self.arrived[row] += 1
            if outcome is DROPPED:
                worker.jobs.append(row)
            if outcome is not IN_DOUBT and outcome is not ACCEPTED:
                self.released[row] -= 1
            due = NOW if outcome is DEFERRED else None
            worker.unsettled.append(settled(row, outcome, counts=outcome is not DROPPED, next_at=due))
        worker.promised = []

    def settle(self, worker: Worker) -> None:
        outcomes, worker.unsettled = worker.unsettled, []
        worker.writer.record_outcomes(outcomes)

    def give_back(self, worker: Worker) -> None:
        if not (worker.slot.gone or worker.slot.lost or worker.promised or worker.unsettled):
            worker.slot.give_back()
            worker.jobs = []

    # --- what happens to them -------------------------------------------------------------------------

    def die(self, worker: Worker) -> None:
        worker.slot.db.close()
        self.workers.remove(worker)

    def lose_database(self, worker: Worker) -> None:
        if not worker.slot.gone and not isinstance(worker.slot.db, Unheard):
            worker.slot.db = Unheard(worker.slot.db, done=self.random.random() < 0.5)  # type: ignore[assignment]

    def close(self, worker: Worker) -> None:
        self.release(worker)
        self.settle(worker)
        if worker.writer.reconnect() or worker.writer.reconnect():
            worker.slot.close()
            self.workers.remove(worker)

    def time(self, _worker: Worker) -> None:
        self.pass_time(self.random.choice([3.0, 10.0, 29.0, 40.0]))

    def pass_time(self, seconds: float) -> None:
        """Let time pass for the server and for everybody: leases end earlier."""
        self.db.execute("UPDATE slot SET until = until - ?", (seconds,))
        for worker in self.workers:
            worker.clock.sleep(seconds)

    def recover(self, _worker: Worker) -> None:
        recover(self.db)

    def pause(self, _worker: Worker) -> None:
        set_state(self.db, self.campaign, "paused")

    def resume(self, _worker: Worker) -> None:
        set_state(self.db, self.campaign, "running")

    def look(self, worker: Worker) -> None:
        worker.writer.held_until()

    def decide(self, _worker: Worker) -> None:
        """A person has rows in doubt sent again, where that is not refused, and starts the fleet again."""
        doubts = [
            int(key[1:]) for (key,) in self.db.rows("SELECT key FROM delivery WHERE status = 'in_doubt'")
        ]
        chosen = [row for row in doubts if self.random.random() < 0.3]
        try:
            self.ledger.resolve([f"k{row}" for row in chosen], as_accepted=False)
        except InUseError:
            return
        self.allowed.update(chosen)
        self.fill()

    def step(self) -> None:
        if len(self.workers) < 4 and self.random.random() < 0.3:
            self.workers.append(Worker(self))
        if not self.workers:
            return
        usual = [self.claim, self.promise, self.release, self.settle]
        rare = [
            self.die, self.lose_database, self.close, self.time, self.recover, self.pause, self.resume,
            self.look, self.decide, self.give_back,
        ]  # fmt: skip
        what = self.random.choice(usual * 3 + rare + [self.resume] * 2)
        worker = self.random.choice(self.workers)
        try:
            what(worker)
        except LedgerError as error:
            if error.code != "L720":  # a claim that was not heard
                raise

    # --- the end --------------------------------------------------------------------------------------

    def finish(self) -> None:
        """One calm worker does the rest, when everybody else is done or gone for good."""
        for worker in list(self.workers):
            self.random.choice([self.die, self.close])(worker)
        self.pass_time(LONGEST_REPLY + 100)
        recover(self.db)
        set_state(self.db, self.campaign, "running")
        calm = Worker(self)
        self.workers = [calm]
        for _ in range(500):
            self.claim(calm)
            if not calm.jobs and not calm.unsettled:
                break
            self.promise(calm)
            self.release(calm)
        self.settle(calm)
        calm.slot.close()


@pytest.mark.parametrize("seed", [20, 37, None])
def test_whatever_happens_nobody_has_it_twice_and_nobody_is_forgotten(
    postgres_ledger: ServerPlace, seed: int | None
) -> None:
    """Deaths, lost leases, unheard commits, late outcomes, decisions: each row ends as one outcome."""
    seed = random.randrange(1_000_000) if seed is None else seed
    print(f"seed {seed}")  # noqa: T201  shown where it fails
    world = World(postgres_ledger, seed)
    with world.ledger:
        world.fill()
        for _ in range(200):
            world.step()
            assert not {row: n for row, n in world.released.items() if n > world.allowed[row]}
        world.finish()
        states = {int(key[1:]): state for key, state in world.db.rows("SELECT key, status FROM delivery")}
        assert world.db.rows("SELECT key FROM work") == []
        assert sorted(states) == list(range(ROWS))
        assert set(states.values()) <= {"accepted", "rejected", "in_doubt"}
        for row, state in states.items():
            assert world.arrived[row] <= world.allowed[row]
            # Who was told that it arrived has it; who has it was accepted, or is in doubt.
            if state == "accepted":
                assert world.arrived[row] > 0
            elif state == "rejected":
                assert world.arrived[row] == 0 or world.allowed[row] > 1
        open_ = world.db.row("SELECT count(*) FROM attempt WHERE status = 'handing_over'")
        assert open_ == (0,)
