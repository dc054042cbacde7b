"""Slots of a fleet on a real PostgreSQL: claims, promises, leases, doubts, late outcomes."""

from __future__ import annotations

import threading
import time
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from ledger_rows import ACCEPTED, DEFERRED, IN_DOUBT, NOW, REJECTED, attempt, settled
from mailmerge.clock import VirtualClock
from mailmerge.errors import InUseError, LedgerError
from mailmerge.ledger.attempts import IntentRefusedError, Revision
from mailmerge.ledger.claims import Slot
from mailmerge.ledger.reader import _DEFERRED
from mailmerge.ledger.server_place import ServerPlace
from mailmerge.ledger.shared_suppression import OptOutTable
from mailmerge.ledger.slot_writer import SlotWriter
from mailmerge.ledger.work import (
    QueuedRow,
    Recovered,
    enqueue,
    finish,
    fleet_view,
    is_left,
    recover,
    refuse_while_fleet,
    set_state,
)
from mailmerge.model import Outcome, Phase, Scope, Status
from servers.postgres import CuttingProxy

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.ledger.ledger import Ledger
    from mailmerge.model import Attempt
    from mailmerge.postgres import PostgresDatabase
    from servers.postgres import Postgres

WITHDRAWN = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA, reason="withdrawn")


class Fleet:
    """A campaign that a fleet sends, and the slots that work on it."""

    def __init__(self, place: ServerPlace, ledger: Ledger) -> None:
        self.place = place
        self.ledger = ledger
        self.db: PostgresDatabase = ledger._db  # type: ignore[assignment]
        self.campaign = ledger._id
        self.clock = VirtualClock(NOW)
        self.slots: list[Slot] = []

    def fill(self, rows: int, *, first: int = 2, plan: int = 7) -> int:
        wanted = (
            QueuedRow(n, f"k{n}", n, "example.org", (f"u{n}@example.org",))
            for n in range(first, first + rows)
        )
        return enqueue(self.db, self.campaign, plan, wanted, by="ann", clock=self.clock)

    def slot(self, worker: str = "one", seconds: float = 30.0) -> tuple[Slot, SlotWriter]:
        slot = Slot.open(self.place, worker=worker, account="work", seconds=seconds, clock=self.clock)
        self.slots.append(slot)
        return slot, SlotWriter(slot, self.campaign)

    def claim(self, slot: Slot, count: int) -> list[int]:
        return [row.row for row in slot.claim(self.campaign, count)]

    def silence(self, slot: Slot) -> None:
        """Let a slot's lease run out, by the server's clock."""
        self.db.execute("UPDATE slot SET until = until - 100 WHERE epoch = ?", (slot.epoch,))

    def states(self) -> dict[str, str]:
        return dict(self.db.rows("SELECT key, status FROM delivery ORDER BY key"))

    def queue(self) -> dict[str, int | None]:
        return dict(self.db.rows("SELECT key, epoch FROM work ORDER BY n"))


@pytest.fixture
def proxy(postgres: Postgres) -> Iterator[CuttingProxy]:
    made = CuttingProxy(postgres)
    yield made
    made.close()


@pytest.fixture
def fleet(postgres_ledger: ServerPlace) -> Iterator[Fleet]:
    with postgres_ledger.open_for_writing("spring", now=lambda: NOW) as ledger:
        ledger.note_version("v1", {})
        made = Fleet(postgres_ledger, ledger)
        yield made
        for slot in made.slots:
            slot.db.close()


def test_rows_are_claimed_in_their_order_and_by_one_slot(fleet: Fleet) -> None:
    """Two slots never have the same row."""
    assert fleet.fill(5) == 5
    one, _ = fleet.slot()
    two, _ = fleet.slot("two")
    assert (fleet.claim(one, 2), fleet.claim(two, 2), fleet.claim(one, 9), fleet.claim(two, 9)) == (
        [2, 3], [4, 5], [6], [],
    )  # fmt: skip


def test_a_row_leaves_the_queue_with_its_outcome(fleet: Fleet) -> None:
    """Promised and accepted; what is claimed meanwhile is known to be the slot's."""
    fleet.fill(3)
    slot, writer = fleet.slot()
    fleet.claim(slot, 3)
    assert writer.record_intent([attempt(2), attempt(3)]) == frozenset()
    assert fleet.states() == {"k2": "handing_over", "k3": "handing_over"}
    assert writer.record_intent([attempt(4)], [settled(2, ACCEPTED), settled(3, REJECTED)]) == frozenset()
    writer.record_outcomes([settled(4, ACCEPTED)])
    assert (fleet.states(), fleet.queue()) == ({"k2": "accepted", "k3": "rejected", "k4": "accepted"}, {})
    assert fleet.ledger.handed_over > 0
    early = finish(fleet.db, fleet.campaign)
    slot.close()

    assert early == []
    assert [(one.campaign, one.plan) for one in finish(fleet.db)] == [(fleet.campaign, 7)]


def test_a_row_that_was_sent_meanwhile_is_not_queued_again(fleet: Fleet) -> None:
    """Whoever planned while the last worker finished waits for no worker: nothing is left to send."""
    fleet.fill(3)
    slot, writer = fleet.slot()
    fleet.claim(slot, 3)
    writer.record_intent([attempt(2), attempt(3), attempt(4)])
    writer.record_outcomes([settled(2, ACCEPTED), settled(3, REJECTED)])
    writer.record_outcomes([settled(4, WITHDRAWN)])
    fleet.silence(slot)
    recover(fleet.db)

    assert fleet.fill(3) == 1
    assert fleet.queue() == {"k4": None}


def test_a_campaign_that_a_new_plan_replaces_is_not_over(fleet: Fleet) -> None:
    """A worker that waits for the end of all work stays until the new plan's rows are in the queue."""
    fleet.fill(1)
    set_state(fleet.db, fleet.campaign, "cancelled", by="ann", note="somebody's wish")
    over = not is_left(fleet.db)
    fleet.fill(1)
    seen: list[bool] = []

    def rows() -> Iterator[QueuedRow]:
        with fleet.place.session() as other:
            seen.append(is_left(other))
        yield QueuedRow(2, "k2", 2, "example.org", ("u2@example.org",))

    enqueue(fleet.db, fleet.campaign, 8, rows(), by="ann", clock=fleet.clock)

    assert over
    assert seen == [True]
    assert is_left(fleet.db)


def test_a_row_that_is_not_claimed_is_not_promised(fleet: Fleet) -> None:
    """Nor one that is not in the queue at all; the others of the group are."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    assert fleet.claim(slot, 1) == [2]
    assert writer.record_intent([attempt(2), attempt(3), attempt(9)]) == {"k3", "k9"}
    assert (fleet.states(), writer.refused) == ({"k2": "handing_over"}, {"k3", "k9"})


def test_only_a_row_that_may_be_contacted_is_promised(fleet: Fleet) -> None:
    """Pending, deferred or never contacted: whatever the queue says, no other state is handed over."""
    states = sorted(set(Status) - {Status.PENDING, Status.DEFERRED})
    fleet.fill(len(states) + 2)
    slot, writer = fleet.slot()
    rows = fleet.claim(slot, 99)
    for row, state in zip(rows, states, strict=False):
        fleet.db.execute(
            "INSERT INTO delivery (campaign, key, status, tries, updated, version, attempt) "
            "VALUES (?, ?, ?, 0, 0, 1, 0)",
            (fleet.campaign, f"k{row}", state.value),
        )
    refused = writer.record_intent([attempt(row) for row in rows])
    assert refused == {f"k{row}" for row in rows[: len(states)]}
    assert fleet.db.row("SELECT count(*) FROM attempt") == (2,)


def test_claims_of_a_silent_slot_return_and_its_promises_are_in_doubt(fleet: Fleet) -> None:
    """What it had claimed is claimed by another one, what it had promised by nobody."""
    fleet.fill(4)
    slot, writer = fleet.slot()
    fleet.claim(slot, 3)
    writer.record_intent([attempt(2)])
    assert recover(fleet.db) == Recovered()
    fleet.silence(slot)
    assert recover(fleet.db) == Recovered((slot.epoch,), returned=2, doubts=1)
    other, _ = fleet.slot("two")
    assert fleet.claim(other, 9) == [3, 4, 5]
    assert fleet.states() == {"k2": "in_doubt"}


def test_a_slot_that_was_found_silent_promises_nothing(fleet: Fleet) -> None:
    """It learns so from its next promise; its outcomes are recorded all the same, and late."""
    fleet.fill(4)
    slot, writer = fleet.slot()
    fleet.claim(slot, 3)
    writer.record_intent([attempt(2), attempt(3)])
    fleet.silence(slot)
    recover(fleet.db)
    with pytest.raises(IntentRefusedError):
        writer.record_intent([attempt(4)], [settled(2, ACCEPTED)])
    writer.record_outcomes([settled(3, DEFERRED, next_at=NOW)])
    assert fleet.states() == {"k2": "accepted", "k3": "deferred"}
    assert fleet.queue() == {"k3": None, "k4": None, "k5": None}


def test_a_lease_that_ran_out_is_not_renewed(fleet: Fleet) -> None:
    """Also where nobody has found it yet."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    fleet.silence(slot)
    with pytest.raises(IntentRefusedError):
        writer.record_intent([attempt(2)])
    assert (fleet.states(), writer.over) == ({}, True)


def test_a_late_outcome_changes_nothing_once_the_row_was_handed_over_anew(fleet: Fleet) -> None:
    """A person had it sent again; the earlier attempt is settled, the row is the later one's."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    writer.record_intent([attempt(2)])
    fleet.silence(slot)
    recover(fleet.db)
    fleet.db.execute("UPDATE delivery SET status = 'pending'")
    fleet.fill(1)
    other, second = fleet.slot("two")
    fleet.claim(other, 1)
    second.record_intent([attempt(2)])
    writer.record_outcomes([settled(2, REJECTED)])
    assert fleet.states() == {"k2": "handing_over"}
    found = fleet.db.rows("SELECT status, epoch, previous IS NULL FROM attempt ORDER BY id")
    assert found == [("rejected", slot.epoch, True), ("handing_over", other.epoch, False)]


def test_a_deferred_row_waits_by_the_clock_of_the_server(fleet: Fleet) -> None:
    """For as long as the worker's clock said, however wrong that is; with its history when it is claimed."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2)])
    writer.record_outcomes(
        [settled(2, DEFERRED, next_at=NOW + timedelta(hours=1)), settled(3, DEFERRED, next_at=NOW)]
    )
    (rest,) = fleet.db.row(
        "SELECT next_at - extract(epoch from clock_timestamp()) FROM work WHERE key = 'k2'"
    )
    assert 3590 < rest <= 3600
    (found,) = slot.claim(fleet.campaign, 9)
    assert found.known is not None
    assert (found.key, found.known.attempts, found.known.message_id, found.known.date) == (
        "k3", 1, "<m3@example.org>", attempt(3).date,
    )  # fmt: skip


def test_what_is_in_doubt_of_a_living_slot_is_no_work_any_more(fleet: Fleet) -> None:
    """The connection was lost after the end: only a person decides."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    writer.record_intent([attempt(2)])
    writer.record_outcomes([settled(2, IN_DOUBT)])
    assert (fleet.states(), fleet.queue()) == ({"k2": "in_doubt"}, {})


def test_an_outcome_of_a_session_out_of_step_is_revised(fleet: Fleet) -> None:
    """Accepted becomes in doubt; rejected becomes pending, and is the slot's own again."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2), attempt(3)])
    writer.record_outcomes([settled(2, ACCEPTED), settled(3, REJECTED)])
    writer.revise(Revision(settled(2, IN_DOUBT, counts=False), Status.ACCEPTED, counted=True))
    writer.revise(Revision(settled(3, DEFERRED, Status.PENDING, counts=False), Status.REJECTED, counted=True))
    assert (fleet.states(), fleet.queue()) == ({"k2": "in_doubt", "k3": "pending"}, {"k3": slot.epoch})
    assert writer.record_intent([attempt(3)]) == frozenset()


def test_a_pause_holds_claims_and_promises(fleet: Fleet) -> None:
    """And ends with a word; nothing is lost meanwhile."""
    fleet.fill(3)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    assert set_state(fleet.db, fleet.campaign, "paused", by="ann")
    assert fleet.claim(slot, 1) == []
    assert writer.record_intent([attempt(2)]) == {"k2"}
    assert (writer.state, writer.refused, writer.held_until() > 0) == ("paused", set(), True)
    assert set_state(fleet.db, fleet.campaign, "running")
    fleet.clock.sleep(1)
    assert writer.held_until() == 0
    assert writer.record_intent([attempt(2)]) == frozenset()


def test_a_cancelled_fleet_forgets_what_waits(fleet: Fleet) -> None:
    """It cannot be resumed, only started with a plan."""
    fleet.fill(3)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    assert set_state(fleet.db, fleet.campaign, "cancelled")
    assert not set_state(fleet.db, fleet.campaign, "running")
    assert writer.record_intent([attempt(2)]) == {"k2"}
    assert writer.over
    slot.close()
    assert fleet.fill(3) == 3


def test_a_slot_that_closes_gives_back_what_it_claimed(fleet: Fleet) -> None:
    """In order and immediately; with a promise open it is left to its lease."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2)])
    slot.close()
    assert fleet.queue() == {"k2": slot.epoch, "k3": None}
    other, _ = fleet.slot("two")
    fleet.claim(other, 1)
    other.close()
    ended = fleet.db.rows("SELECT ended IS NOT NULL FROM slot ORDER BY epoch")
    assert ended == [(False,), (True,)]


@pytest.mark.parametrize("promised", [False, True])
def test_a_slot_that_closes_sees_what_an_older_connection_claims_meanwhile(
    fleet: Fleet, promised: bool
) -> None:
    """A claim that was under way when its connection broke is returned; a promise keeps the slot open."""
    fleet.fill(3)
    slot, _ = fleet.slot()
    older = fleet.place.session()
    before = Slot(fleet.place, older, slot.epoch, seconds=30.0, asked=slot._asked, clock=fleet.clock)
    older.execute("BEGIN")
    fleet.claim(before, 2)
    if promised:
        older.execute("COMMIT")
        older.execute("BEGIN")
        older.rows("SELECT 1 FROM mailmerge.slot WHERE epoch = ? FOR UPDATE", (slot.epoch,))
        SlotWriter(before, fleet.campaign).record_intent([attempt(2)])
    closing = threading.Thread(target=slot.close)
    closing.start()
    _until(lambda: fleet.db.row("SELECT count(*) FROM pg_locks WHERE NOT granted") == (1,))
    older.execute("COMMIT")
    closing.join(timeout=20)
    older.close()

    assert not closing.is_alive()
    assert fleet.queue() == {"k2": slot.epoch if promised else None, "k3": None, "k4": None}
    assert fleet.db.row("SELECT ended IS NULL FROM slot WHERE epoch = ?", (slot.epoch,)) == (promised,)


def test_a_new_plan_replaces_what_waits(fleet: Fleet) -> None:
    """What is claimed is left alone."""
    fleet.fill(4)
    slot, _ = fleet.slot()
    fleet.claim(slot, 1)
    assert fleet.fill(2) == 1
    assert fleet.queue() == {"k2": slot.epoch, "k3": None}


def test_another_plan_waits_for_what_is_claimed_of_the_one_before(fleet: Fleet) -> None:
    """Slots claim no more of the earlier plan; once its rows are returned, all are of the new one."""
    fleet.fill(4)
    slot, _ = fleet.slot()
    fleet.claim(slot, 2)
    with pytest.raises(InUseError, match="2 rows of an earlier plan"):
        fleet.fill(4, plan=8)
    assert (slot.keep(fleet.campaign), fleet.queue()) == ("cancelled", {"k2": slot.epoch, "k3": slot.epoch})
    slot.give_back()
    fleet.fill(4, plan=8)
    other, _ = fleet.slot("two")

    assert fleet.db.rows("SELECT DISTINCT plan FROM work") == [(8,)]
    assert fleet.claim(other, 9) == [2, 3, 4, 5]


def test_a_late_deferral_does_not_queue_a_row_of_an_earlier_plan(fleet: Fleet) -> None:
    """The row is deferred, and left to whoever sends next: its message is not that of the new plan."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    writer.record_intent([attempt(2)])
    fleet.silence(slot)
    fleet.fill(1, first=3, plan=8)
    writer.record_outcomes([settled(2, DEFERRED, next_at=NOW)])

    assert (fleet.states(), fleet.queue()) == ({"k2": "deferred"}, {"k3": None})


def test_a_repair_leaves_the_rows_of_living_slots_alone(fleet: Fleet) -> None:
    """Only their lease's end declares a doubt."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2)])
    assert fleet.ledger.repair() == 0
    assert fleet.states() == {"k2": "handing_over"}
    fleet.silence(slot)
    assert fleet.ledger.repair() == 1
    assert fleet.states() == {"k2": "in_doubt"}


def test_a_doubt_is_not_sent_again_while_its_outcome_may_come(fleet: Fleet) -> None:
    """Not before the longest time for a reply has passed since the lease ran out."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    writer.record_intent([attempt(2)])
    fleet.silence(slot)
    recover(fleet.db)
    with pytest.raises(InUseError, match="1 row in doubt may still turn out to be accepted"):
        fleet.ledger.resolve(None, as_accepted=False)
    fleet.db.execute("UPDATE slot SET until = until - 600")
    assert fleet.ledger.resolve(["k2"], as_accepted=False) == 1


def test_sending_alone_is_refused_while_a_fleet_sends(fleet: Fleet) -> None:
    """It says who does; one that was cancelled is waited for until nothing of it can be promised any more."""
    fleet.ledger.refuse_while_fleet()
    fleet.fill(2)
    slot, writer = fleet.slot("office")
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2)])
    with pytest.raises(InUseError, match="running; 1 session of office"):
        fleet.ledger.refuse_while_fleet()
    assert fleet.place.has_fleet("spring")
    set_state(fleet.db, fleet.campaign, "cancelled")
    with pytest.raises(InUseError, match="workers still have 1 row"):
        refuse_while_fleet(fleet.db, fleet.campaign, fleet.clock)
    slot.give_back()
    fleet.ledger.refuse_while_fleet()
    assert (fleet.states(), fleet.place.has_fleet("spring")) == ({"k2": "handing_over"}, False)


def test_a_fleet_with_nothing_left_is_in_nobodys_way(fleet: Fleet) -> None:
    """The last worker died with the last row: what became of it is known, and no worker ever says more."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    writer.record_intent([attempt(2)])
    fleet.silence(slot)
    assert recover(fleet.db).doubts == 1
    fleet.ledger.refuse_while_fleet()
    view = fleet_view(fleet.db, fleet.campaign)
    assert view is not None
    assert view.state == "finished"


def test_the_fleet_can_be_looked_at(fleet: Fleet) -> None:
    """How many rows are where, and who works."""
    assert fleet_view(fleet.db, fleet.campaign) is None
    fleet.fill(5)
    slot, writer = fleet.slot("office")
    fleet.claim(slot, 3)
    writer.record_intent([attempt(2), attempt(3)])
    writer.record_outcomes([settled(3, DEFERRED, next_at=NOW + timedelta(hours=1))])
    view = fleet_view(fleet.db, fleet.campaign)
    assert view is not None
    assert (view.state, view.plan, view.by) == ("running", 7, "ann")
    assert (view.waiting, view.later, view.claimed, view.unsettled) == (2, 1, 2, 1)
    (one,) = view.slots
    assert (one.epoch, one.worker, one.account, one.claimed, one.silent) == (
        slot.epoch,
        "office",
        "work",
        2,
        False,
    )


# --- opt-outs -------------------------------------------------------------------------------------------


def test_g5_whoever_has_opted_out_is_not_claimed(fleet: Fleet) -> None:
    """By address, domain or hash, for the campaign or for all: the row leaves the queue; others follow."""
    fleet.fill(6)
    fleet.db.execute("UPDATE work SET recipients = ARRAY['X@Gone.example', 'b@x.org'] WHERE key = 'k4'")
    everybody = OptOutTable(fleet.db)
    everybody.add(["u2@example.org", "@gone.example"])
    (hashed,) = fleet.db.row("SELECT encode(sha256('u5@example.org'), 'hex')")
    OptOutTable(fleet.db, fleet.campaign).add([f"sha256:{hashed}"])
    OptOutTable(fleet.db, fleet.campaign + 1).add(["u6@example.org"])
    slot, _ = fleet.slot()
    assert (fleet.claim(slot, 1), fleet.claim(slot, 2), fleet.claim(slot, 9)) == ([3], [6, 7], [])
    assert list(fleet.queue()) == ["k3", "k6", "k7"]


def test_g5_whoever_opts_out_after_the_claim_is_not_promised(fleet: Fleet) -> None:
    """The table is checked once more; the row leaves the queue."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    assert fleet.claim(slot, 2) == [2, 3]
    OptOutTable(fleet.db).add(["u2@example.org"])
    assert writer.record_intent([attempt(2), attempt(3)]) == {"k2"}
    assert writer.refused == {"k2"}
    assert fleet.states() == {"k3": "handing_over"}
    slot.give_back()
    assert fleet.claim(slot, 9) == []
    assert list(fleet.queue()) == ["k3"]


def test_no_table_is_read_as_a_whole(fleet: Fleet) -> None:
    """Whatever a slot asks, and however small the tables were when it began."""
    scans = (
        "SELECT relname, seq_scan FROM pg_stat_user_tables WHERE relname IN ('work', 'delivery', 'attempt')"
    )
    fleet.fill(40)
    slot, writer = fleet.slot()
    fleet.db.execute("SELECT pg_stat_force_next_flush()")
    before = sorted(fleet.db.rows(scans))
    for _ in range(12):
        rows = fleet.claim(slot, 3)
        writer.record_intent([attempt(row) for row in rows])
        writer.record_outcomes([settled(row, ACCEPTED if row % 3 else DEFERRED) for row in rows])
    slot.give_back()
    slot.db.execute("SELECT pg_stat_force_next_flush()")
    assert sorted(fleet.db.rows(scans)) == before


def test_deferred_rows_are_found_by_an_index(fleet: Fleet) -> None:
    """A run that waits for the next one asks twice a second, however many rows were contacted."""
    fleet.db.execute(
        "INSERT INTO delivery (campaign, key, status, tries, updated, version, attempt) "
        "SELECT ?, n::text, 'accepted', 0, 0, 1, 0 FROM generate_series(1, 5000) n",
        (fleet.campaign,),
    )
    fleet.db.execute("ANALYZE delivery")
    plan = fleet.db.rows(f"EXPLAIN {_DEFERRED}", (fleet.campaign,))
    assert "delivery_due" in "\n".join(line for (line,) in plan)


# --- promises under way -------------------------------------------------------------------------------


def test_a_promise_is_made_while_others_are_asked_for(fleet: Fleet) -> None:
    """It is on the disk before anybody waits for it, and whatever is asked in between changes nothing."""
    fleet.fill(4)
    slot, writer = fleet.slot()
    fleet.claim(slot, 3)
    end = writer.begin_intent([attempt(2), attempt(3), attempt(9)])
    assert fleet.claim(slot, 1) == [5]
    assert slot.keep(fleet.campaign) == "running"
    assert fleet.states() == {"k2": "handing_over", "k3": "handing_over"}
    assert end() == {"k9"}
    end = writer.begin_intent([attempt(4)], [settled(2, ACCEPTED), settled(3, REJECTED)])
    writer.record_outcomes([])
    assert (end(), writer.backlog) == (frozenset(), 0)
    assert fleet.states() == {"k2": "accepted", "k3": "rejected", "k4": "handing_over"}


def test_rows_are_claimed_ahead_while_others_are_promised(fleet: Fleet) -> None:
    """On another connection, in the same order; what was not promised returns with all the rest."""
    fleet.fill(6)
    OptOutTable(fleet.db, fleet.campaign).add(["u4@example.org"])
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    with fleet.place.session() as other:
        claiming = slot.begin_claim(other, fleet.campaign, 2)
        assert writer.record_intent([attempt(2)]) == frozenset()
        assert [row.row for row in claiming()] == [5]
        assert writer.record_intent([attempt(5)]) == frozenset()
        slot.give_back()
        assert fleet.queue() == {"k2": slot.epoch, "k3": None, "k5": slot.epoch, "k6": None, "k7": None}


def test_a_slot_that_was_found_silent_claims_nothing_ahead(fleet: Fleet) -> None:
    """While it claims it is not found silent, and once it was found it has lost its lease."""
    fleet.fill(3)
    slot, _ = fleet.slot()
    with fleet.place.session() as other:
        with other.transaction():
            other.execute("SELECT epoch FROM slot WHERE epoch = ? FOR KEY SHARE", (slot.epoch,))
            fleet.silence(slot)
            assert recover(fleet.db) == Recovered()
        assert recover(fleet.db) == Recovered((slot.epoch,))
        assert slot.begin_claim(other, fleet.campaign, 2)() == []
    assert slot.lost
    assert set(fleet.queue().values()) == {None}


def test_a_promise_under_way_that_nobody_hears_of_is_never_acted_on(
    fleet: Fleet, proxy: CuttingProxy
) -> None:
    """Also where somebody else notices first, and the database is there again by then."""
    fleet.fill(2)
    conninfo = fleet.place.conninfo.replace(fleet.place.shown.rpartition(":")[2], str(proxy.port))
    fleet.place = ServerPlace(conninfo, fleet.place.shown)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2)])
    proxy.cuts = True
    end = writer.begin_intent([attempt(3)], [settled(2, ACCEPTED)])
    with pytest.raises(LedgerError):
        slot.keep(fleet.campaign)
    assert slot.gone
    assert writer.reconnect()
    assert (sorted(end()), writer.backlog) == (["k3"], 0)
    assert fleet.states() == {"k2": "accepted", "k3": "pending"}
    assert writer.record_intent([attempt(3)]) == frozenset()


class Older:
    """The same slot as it was on an older connection, whose statements may still be under way."""

    def __init__(self, fleet: Fleet, slot: Slot) -> None:
        self.db = fleet.place.session()
        before = Slot(fleet.place, self.db, slot.epoch, seconds=30.0, asked=slot._asked, clock=fleet.clock)
        self.writer = SlotWriter(before, fleet.campaign)
        fleet.slots.append(before)

    def while_under_way(self, fleet: Fleet, step: Callable[[], object], *promised: Attempt) -> None:
        """Promise, and commit that when *step* waits for it."""
        self.db.execute("BEGIN")
        assert self.writer.record_intent(promised) == frozenset()
        waiting = threading.Thread(target=step)
        waiting.start()
        _until(lambda: fleet.db.row("SELECT count(*) FROM pg_locks WHERE NOT granted") == (1,))
        self.db.execute("COMMIT")
        waiting.join(timeout=20)
        assert not waiting.is_alive()


@pytest.mark.parametrize("contacted", [False, True])
@pytest.mark.parametrize("late", [False, True])
def test_a_promise_that_is_committed_after_all_is_taken_back(
    fleet: Fleet, late: bool, contacted: bool
) -> None:
    """Whether it is under way while its message is taken back, or reaches the server only afterwards."""
    fleet.fill(2)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    if contacted:
        writer.record_intent([attempt(2)])
        writer.record_outcomes([settled(2, WITHDRAWN, counts=False)])
    older = Older(fleet, slot)
    number = writer._numbers.take(slot.db)
    older.writer._numbers._next, older.writer._numbers._left = number, 1
    writer._take_back([(number, attempt(2))])
    if late:
        assert writer.reconnect()
        with pytest.raises(LedgerError, match="duplicate key"):
            older.writer.record_intent([attempt(2)])
    else:
        older.while_under_way(fleet, writer.reconnect, attempt(2))

    assert fleet.states() == ({} if late and not contacted else {"k2": "pending"})
    assert fleet.queue() == {"k2": slot.epoch, "k3": slot.epoch}
    assert fleet.db.row("SELECT status FROM attempt WHERE id = ?", (number,)) == ("pending",)
    assert writer.record_intent([attempt(2)]) == frozenset()
    writer.record_outcomes([settled(2, ACCEPTED)])
    assert fleet.states() == {"k2": "accepted"}


def test_what_an_older_connection_promises_is_not_given_back(fleet: Fleet) -> None:
    """Else no lease would ever declare it in doubt."""
    fleet.fill(2)
    slot, _ = fleet.slot()
    fleet.claim(slot, 2)
    Older(fleet, slot).while_under_way(fleet, slot.give_back, attempt(2))
    assert fleet.queue() == {"k2": slot.epoch, "k3": None}


def test_a_promise_is_known_although_the_lease_ran_out_afterwards(fleet: Fleet) -> None:
    """So its message, which does not leave any more, is taken back, and others can send it."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    end = writer.begin_intent([attempt(2)])
    slot.keep(fleet.campaign)
    fleet.silence(slot)
    slot.keep(fleet.campaign)
    assert recover(fleet.db).doubts == 1
    assert (slot.lost, end()) == (True, frozenset())
    assert not writer.may_release()
    writer.record_outcomes([settled(2, WITHDRAWN, counts=False)])
    assert (fleet.states(), fleet.queue()) == ({"k2": "pending"}, {"k2": None})


# --- the database is gone -------------------------------------------------------------------------------


def test_a_database_that_is_gone_takes_no_promise_and_loses_no_outcome(fleet: Fleet) -> None:
    """Outcomes wait here, and nothing is promised; when it is back all is recorded, and work continues."""
    fleet.fill(3)
    slot, writer = fleet.slot()
    fleet.claim(slot, 3)
    writer.record_intent([attempt(2), attempt(3)])
    fleet.db.execute("SELECT pg_terminate_backend(?)", (slot.db.connection.info.backend_pid,))
    assert writer.record_intent([attempt(4)], [settled(2, ACCEPTED)]) == {"k4"}
    assert (slot.gone, writer.refused, writer.over) == (True, set(), False)
    writer.record_outcomes([settled(3, REJECTED)])
    fleet.clock.sleep(1)
    assert writer.held_until() == 0
    assert (writer.backlog, fleet.states()) == (0, {"k2": "accepted", "k3": "rejected"})
    assert writer.record_intent([attempt(4)]) == frozenset()


def test_while_the_database_is_gone_nothing_is_offered(fleet: Fleet) -> None:
    """It is asked again once a second; no more outcomes wait than were in flight."""
    fleet.fill(1)
    slot, writer = fleet.slot()
    fleet.claim(slot, 1)
    writer.record_intent([attempt(2)])
    slot.db.close()
    writer.record_outcomes([settled(2, ACCEPTED)])
    there, slot._place = slot._place, ServerPlace("postgresql://x@127.0.0.1:1/x", "nowhere")
    for _ in range(3):
        fleet.clock.sleep(1)
        assert writer.held_until() > fleet.clock.monotonic()
        assert (writer.backlog, list(writer.record_intent([attempt(3)]))) == (1, ["k3"])
    slot._place = there
    fleet.clock.sleep(1)
    assert (writer.held_until(), writer.backlog, fleet.states()) == (0, 0, {"k2": "accepted"})


def test_a_promise_that_nobody_heard_of_is_taken_back(fleet: Fleet, proxy: CuttingProxy) -> None:
    """It was committed, and is never acted on: pending under its number once that is known, no doubt."""
    fleet.fill(2)
    conninfo = fleet.place.conninfo.replace(fleet.place.shown.rpartition(":")[2], str(proxy.port))
    fleet.place = ServerPlace(conninfo, fleet.place.shown)
    slot, writer = fleet.slot()
    fleet.claim(slot, 2)
    writer.record_intent([attempt(2)])
    proxy.cuts = True
    assert writer.record_intent([attempt(3)], [settled(2, ACCEPTED)]) == {"k3"}
    assert fleet.states() == {"k2": "accepted", "k3": "handing_over"}
    assert writer.reconnect()
    assert fleet.states() == {"k2": "accepted", "k3": "pending"}
    assert writer.record_intent([attempt(3)]) == frozenset()
    assert fleet.db.rows("SELECT key, tries FROM delivery ORDER BY key") == [("k2", 1), ("k3", 0)]


def test_a_database_that_falls_silent_is_gone(fleet: Fleet, proxy: CuttingProxy) -> None:
    """Nobody closes the connection, and nobody answers: a slot does not wait longer than its lease."""
    conninfo = fleet.place.conninfo.replace(fleet.place.shown.rpartition(":")[2], str(proxy.port))
    fleet.place = ServerPlace(conninfo, fleet.place.shown)
    slot, _ = fleet.slot(seconds=0.6)
    proxy.silent = True
    with pytest.raises(LedgerError, match=r"no answer within 0\.3 seconds"):
        slot.claim(fleet.campaign, 1)
    assert slot.gone


def test_the_gate_closes_before_the_lease_ends(fleet: Fleet) -> None:
    """By its own clocks, counted from before it asked; a promise opens it again."""
    fleet.fill(2)
    slot, writer = fleet.slot(seconds=30)
    fleet.claim(slot, 2)
    fleet.clock.sleep(26)
    assert writer.may_release()
    fleet.clock.sleep(2)
    assert not writer.may_release()
    writer.record_intent([attempt(2)])
    assert writer.may_release()
    fleet.silence(slot)
    with pytest.raises(IntentRefusedError):
        writer.record_intent([attempt(3)])
    assert not writer.may_release()


def _until(true: Callable[[], bool]) -> None:
    until = time.monotonic() + 20
    while not true():
        assert time.monotonic() < until
        time.sleep(0.01)
