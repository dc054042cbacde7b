"""What a worker is told, and the jobs of its slots, on a real PostgreSQL."""

from __future__ import annotations

from datetime import UTC, datetime, time, timedelta
from typing import TYPE_CHECKING

import pytest

from mailmerge.errors import LedgerError
from mailmerge.fleet import jobs
from mailmerge.fleet.slot import _window
from mailmerge.fleet.terms import FleetAccount, SendingTerms
from mailmerge.model import Rate
from mailmerge.schedule import Hours

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.ledger.place import ServerPlace
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
    """Whatever is in the database, it is no traceback."""
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


def test_a_job_for_each_session(db):
    """One that waits is not deferred twice; when it has been taken, another one can wait."""
    wanted = jobs.orders(1, 2, TERMS.accounts)
    first, again = jobs.defer(db, wanted), jobs.defer(db, wanted)
    waiting = jobs.waiting(db)
    db.execute("UPDATE mailmerge.procrastinate_jobs SET status = 'doing' WHERE queue_name = 'account work'")
    third = jobs.defer(db, wanted)

    assert (first, again, third) == (3, 0, 2)
    assert waiting == {"relay": 1, "work": 2}
    assert jobs.campaigns_with_jobs(db) == {1}


def test_jobs_of_a_campaign_are_withdrawn(db):
    """Those that run end by themselves, and others' are left alone; one for later does not wait yet."""
    jobs.defer(db, jobs.orders(1, 2, TERMS.accounts))
    jobs.defer(db, jobs.orders(3, 4, TERMS.accounts[:1]), at=datetime.now(UTC) + timedelta(hours=1))

    assert jobs.withdraw(db, 1) == 3
    assert jobs.campaigns_with_jobs(db) == {3}
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
