"""What a worker is told, and the jobs of its slots, on a real PostgreSQL."""

from __future__ import annotations

import threading
from datetime import UTC, datetime, time, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from msgspec.structs import replace

from mailmerge import postgres
from mailmerge.clock import VirtualClock
from mailmerge.config.accounts import Account
from mailmerge.errors import LedgerError
from mailmerge.fleet import jobs
from mailmerge.fleet.slot import SlotEnd, SlotRun, WorkerAccount, WorkerSettings, _ClaimSize, _window
from mailmerge.fleet.terms import FleetAccount, SendingTerms
from mailmerge.fleet.worker import FleetWorker
from mailmerge.ledger.work import QueuedRow, enqueue, fleet_view
from mailmerge.model import Rate, Scope
from mailmerge.plan.server_store import GROUP as PLANS
from mailmerge.plan.server_store import own_version
from mailmerge.schedule import Hours
from mailmerge.sending.runs import Reason, RunEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.ledger.server_place import ServerPlace
    from mailmerge.postgres import PostgresDatabase

TERMS = SendingTerms(
    campaign="spring",
    senders=("me@example.org",),
    version="v1",
    accounts=(FleetAccount("work", 2), FleetAccount("relay", 1)),
    retry=(60.0, 300.0),
    max_rejected=0.05,
    rates=(Rate(60, 60.0),),
    window=(Hours(frozenset({0, 1}), time(8), time(18)),),
    timezone="Europe/Berlin",
    run=7,
)


@pytest.fixture
def db(postgres_ledger: ServerPlace) -> Iterator[PostgresDatabase]:
    """A ledger with the tables of jobs."""
    with postgres_ledger.database_to_fill() as db:
        jobs.prepare(db)
        yield db


def test_terms_come_back_as_they_were_written():
    """Rates, hours and accounts included."""
    assert SendingTerms.decode(TERMS.encode()) == TERMS


@pytest.mark.parametrize("kept", [b"", b"{}", b'{"campaign": 3}', TERMS.encode()[:-9], b"\xff"])
def test_terms_that_cannot_be_read_are_told(kept):
    """Whatever is in the database, it never causes a traceback."""
    with pytest.raises(LedgerError) as told:
        SendingTerms.decode(kept)

    assert told.value.code == "L760"


@pytest.mark.parametrize(
    ("rates", "rows"),
    [((), 100), ((Rate(1, 60.0),), 1), ((Rate(60, 1.0),), 100), ((Rate(6, 1.0), Rate(9, 3600.0)), 10)],
)
def test_a_slot_claims_what_it_can_send_soon(rates, rows):
    """At its part of the rate that all share, for five seconds; never nothing, and never more than is set."""
    assert _window(rates, TERMS, 100) == rows


@pytest.mark.parametrize(
    ("seconds", "counts"),
    [
        ((0.0, 0.0, 0.0, 0.0, 0.0), [4, 8, 16, 32, 64, 100]),
        ((0.0, 16.0, 4.0, 0.1), [4, 8, 4, 4, 8]),
        ((0.2, 0.4, 0.8, 8.0), [4, 8, 16, 32, 8]),
    ],
)
def test_a_slow_slot_keeps_few_rows_from_others(seconds, counts):
    """It claims what it sent in two seconds, and begins with a few."""
    clock = VirtualClock(datetime.now(UTC))
    pace = _ClaimSize(100, clock)
    claimed = [pace.next()]
    for passed in seconds:
        pace.begin(claimed[-1])
        clock.sleep(passed)
        claimed.append(pace.next())

    assert claimed == counts
    assert [_ClaimSize(3, clock).next(), _ClaimSize(1, clock).next()] == [3, 1]


def test_a_job_for_each_session(db):
    """One that waits is not deferred twice; when it has been taken, another one can wait."""
    wanted = jobs.orders(1, 2, TERMS.accounts, own_version())
    first, again = jobs.defer(db, wanted), jobs.defer(db, wanted)
    waiting = jobs.waiting(db)
    taken = jobs.queue_of("work", own_version())
    db.execute("UPDATE mailmerge.procrastinate_jobs SET status = 'doing' WHERE queue_name = ?", (taken,))
    third = jobs.defer(db, wanted)

    assert (first, again, third) == (3, 0, 2)
    assert waiting == {"relay": 1, "work": 2}
    assert jobs.without_job(db, wanted) == []


def test_a_job_that_was_lost_is_missed(db):
    """Whatever the campaign's other jobs do: one that waits, runs, or is for later is enough for its slot."""
    wanted = jobs.orders(1, 2, TERMS.accounts, own_version())
    jobs.defer(db, wanted)
    taken = jobs.queue_of("relay", own_version())
    db.execute("UPDATE mailmerge.procrastinate_jobs SET status = 'doing' WHERE queue_name = ?", (taken,))
    db.execute("DELETE FROM mailmerge.procrastinate_jobs WHERE lock = ?", (wanted[0].lock,))

    assert jobs.without_job(db, wanted) == wanted[:1]


def test_jobs_of_a_campaign_are_withdrawn(db):
    """Those that run end by themselves, and others' are left alone; one for later does not wait yet."""
    jobs.defer(db, jobs.orders(1, 2, TERMS.accounts, own_version()))
    jobs.defer(
        db, jobs.orders(3, 4, TERMS.accounts[:1], own_version()), at=datetime.now(UTC) + timedelta(hours=1)
    )

    assert jobs.withdraw(db, 1) == 3
    assert len(jobs.without_job(db, jobs.orders(1, 2, TERMS.accounts, own_version()))) == 3
    assert jobs.without_job(db, jobs.orders(3, 4, TERMS.accounts[:1], own_version())) == []
    assert jobs.waiting(db) == {}


def test_who_is_there_is_known(db):
    """For as long as they said; who was refused is seen a while longer than the worker lives."""
    since = datetime.now(UTC)
    good = jobs.PresentWorker("a", "work", 2, "1.0", since, "")
    refused = jobs.PresentWorker("a", "relay", 1, "1.0", since, "535 no")
    jobs.say_present(db, [good, refused], 60)
    jobs.say_present(db, [jobs.PresentWorker("b", "work", 1, "1.0", since, "")], -1)
    both = jobs.present(db)
    jobs.say_gone(db, "a")

    assert [(one.name, one.account, one.refused) for one in both] == [
        ("a", "relay", "535 no"),
        ("a", "work", ""),
    ]
    assert [one.account for one in jobs.present(db)] == ["relay"]


def test_a_refusal_is_seen_for_a_minute_whatever_is_said_after_it(db):
    """A worker that looks after others once more, and ends, does not hide why it does not send."""
    refused = jobs.PresentWorker("a", "relay", 1, "1.0", datetime.now(UTC), "535 no")
    jobs.say_present(db, [refused], 60)
    jobs.say_present(db, [refused], 0.0)
    jobs.say_gone(db, "a")

    assert [one.refused for one in jobs.present(db)] == ["535 no"]


class Working(NamedTuple):
    """A worker with an account, the ledger, and a campaign that has work."""

    worker: FleetWorker
    account: WorkerAccount
    db: PostgresDatabase
    order: jobs.Order
    said: list[str]

    def ended(self, end: SlotEnd) -> tuple[str, str]:
        """Let a slot end like this; give the state of the campaign, and its note."""
        self.worker._go_on(self.account, self.order, end)
        view = fleet_view(self.db, self.order.campaign)
        assert view is not None
        return view.state, view.note


@pytest.fixture
def working(db, postgres_ledger) -> Working:
    with postgres_ledger.open_for_writing("spring") as ledger:
        number = ledger.number
    enqueue(db, number, 7, [QueuedRow(2, "k2", 2, "example.org")])
    account = WorkerAccount(Account(name="work", host="127.0.0.1"), "work", 1, lambda *_: None)  # type: ignore[arg-type]
    said: list[str] = []
    worker = FleetWorker(
        postgres_ledger,
        [account],
        name="one",
        tell=lambda event: said.append(f"{event.kind}: {event.text}"),
        stop=threading.Event(),
        settings=WorkerSettings(3.0, 100),
    )
    return Working(worker, account, db, jobs.Order(number, 7, "work", 0), said)


def test_what_is_about_a_campaign_pauses_it(working):
    """Rows are refused: whoever else sends them meets the same."""
    assert working.ended(SlotEnd(Reason.BREAKER, "too many")) == ("paused", "too many")
    assert jobs.waiting(working.db) == {}
    assert working.worker._rest_left(working.account) == 0


def test_cut_connections_of_one_machine_are_its_own(working):
    """It takes no jobs for a minute, then two; the job waits for others, and the campaign continues."""
    cut = SlotEnd(Reason.BREAKER, "cut off", scope=Scope.CONNECTION)
    once = working.ended(cut)
    first = working.worker._rest_left(working.account)
    working.ended(cut)
    second = working.worker._rest_left(working.account)
    working.ended(SlotEnd(Reason.FINISHED, counts={"accepted": 1}))

    assert once == ("running", "")
    assert jobs.waiting(working.db) == {"work": 1}
    assert first == pytest.approx(60, abs=5)
    assert second == pytest.approx(120, abs=5)
    assert working.worker._rest_left(working.account) == 0
    assert working.said[0] == ("resting: cut off; others may send it, from here it is tried again in 1 min")


def test_a_network_that_is_gone_is_one_machine_s_own(working):
    """It is tried again from here after four minutes at most; others get the job now."""
    run = SlotRun(
        working.worker._place, working.account, working.order, "one", WorkerSettings(3.0, 100),
        stop=threading.Event(), observe=lambda _: None, database=lambda _: None,
    )  # fmt: skip
    slot: Any = SimpleNamespace(lost=False, gone=False)
    error = LedgerError("the ledger does not let this user do that", code="L721")
    gone = run._ended(RunEnd(Reason.NETWORK, "no route"), slot)
    refused = run._ended(RunEnd(Reason.LEDGER, error.message, error=error), slot)
    rests = []
    for end in (gone, gone, gone, gone, refused):
        assert working.ended(end) == ("running", "")
        rests.append(working.worker._rest_left(working.account))

    assert rests == [pytest.approx(seconds, abs=5) for seconds in (60, 120, 240, 240, 960)]
    assert jobs.waiting(working.db) == {"work": 1}


def test_a_plan_of_another_version_is_left_to_others(working):
    """Its job waits where only workers of that version look; it is theirs again when it is planned again."""
    with working.worker._place.database_to_fill() as db:
        postgres.prepare(db, (PLANS,))
        db.execute(
            "INSERT INTO plan (id, campaign, name, program, made, loaded, size, messages, summary, facts, "
            "dictionary, digest, terms) SELECT 7, ?, 'n', '9.9.9', '', 0, 0, 0, '', '', '', '', ''",
            (working.order.campaign,),
        )
    other = SlotEnd(Reason.FAILED, "another version", foreign=True)
    assert working.ended(other) == ("running", "")
    queues = [queue for (queue,) in working.db.rows("SELECT queue_name FROM procrastinate_jobs")]
    working.worker._look_after_slots()
    working.worker._look_after_slots()
    view = fleet_view(working.db, working.order.campaign)

    assert queues == [jobs.queue_of("work", "9.9.9")]
    assert view is not None
    assert view.state == "running"
    why = f"was planned by mailmerge-kit 9.9.9, and this worker is {own_version()}: left to others"
    assert working.said == [f"other_version: {why}"]
    again = replace(working.order, plan=8, program=own_version())
    assert jobs.defer(working.db, [again]) == 1
    assert working.db.rows("SELECT queue_name FROM procrastinate_jobs") == [
        (jobs.queue_of("work", own_version()),)
    ]


def test_a_refused_account_comes_back_later(working):
    """What may be about the sender is not a fault of the campaign: its job waits for its time."""
    end = SlotEnd(Reason.BREAKER, "no", datetime.now(UTC) + timedelta(minutes=10), scope=Scope.ACCOUNT)

    assert working.ended(end) == ("running", "")
    assert jobs.waiting(working.db) == {}
    assert jobs.without_job(working.db, [working.order]) == []


def test_a_campaign_whose_plan_is_lost_does_not_stop_the_worker(working):
    """It is paused, and says why; all others are looked after."""
    working.worker._look_after_slots()
    view = fleet_view(working.db, working.order.campaign)

    assert view is not None
    assert view.state == "paused"
    assert "plan 7" in view.note
