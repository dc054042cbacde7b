"""What every ledger promises, in a file and on a server: states, duplicates, counts, what people decide."""

from __future__ import annotations

import os
from collections import Counter
from datetime import datetime, timedelta, timezone
from random import Random
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from ledger_rows import (
    ACCEPTED,
    DEFERRED,
    DROPPED,
    IN_DOUBT,
    NOW,
    REJECTED,
    attempt,
    attempts,
    due,
    fill,
    first_delivery,
    last_run,
    look,
    person,
    send,
    settled,
    states,
    write_list,
)
from mailmerge.ledger.attempts import IntentRefusedError, Revision, Settlement
from mailmerge.ledger.place import FilePlace
from mailmerge.model import Outcome, Phase, Reply, Scope, Status
from plans import people

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from mailmerge.ledger.ledger import Ledger
    from mailmerge.ledger.server_place import ServerPlace


@pytest.fixture(params=["file", "server"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """A ledger that knows one version of the campaign's message."""
    if request.param == "file":
        place: FilePlace | ServerPlace = FilePlace(tmp_path / ".mailmerge" / "ledger.db")
    else:
        place = request.getfixturevalue("postgres_ledger")
    with place.lock("spring") as lock, place.open_for_writing("spring", now=lambda: NOW, lock=lock) as opened:
        opened.note_version("v1", {"subject": "a", "template": "b"})
        yield opened


def test_a16_rows_are_known_by_key(ledger: Ledger) -> None:
    """Sorted, grown and shrunk lists: nobody twice, nobody forgotten, the gone ones listed."""
    fill(ledger, 4)
    send(ledger, 2)
    send(ledger, 3)
    write_list(ledger, *map(person, people("k5", "k9", "k3")))
    assert [delivery.key for delivery in due(ledger, NOW)] == ["k5", "k9"]
    assert states(ledger) == {2: Status.PENDING, 3: Status.PENDING, 4: Status.ACCEPTED, None: Status.ACCEPTED}
    assert [delivery.key for delivery in look(ledger).gone()] == ["k2"]
    assert ledger.counts().total == 4
    assert [result.address for result in look(ledger).results() if result.row is None] == ["u2@example.org"]


def test_a17_a_corrected_address_gets_another_chance(ledger: Ledger) -> None:
    """With a key column, a rejected row whose address was corrected is pending again; others are not."""
    fill(ledger, 3)
    send(ledger, 2, REJECTED)
    send(ledger, 3, REJECTED)
    second, third = people("k2", "k3")
    write_list(
        ledger, replace(second, address="U2@example.org"), replace(third, address="mended@example.org")
    )
    assert states(ledger) == {2: Status.REJECTED, 3: Status.PENDING}
    ledger.attempts.record_intent([attempt(3, address="mended@example.org")])


def test_what_happened_outlives_what_the_list_says(ledger: Ledger) -> None:
    """An accepted row that is suppressed now stays accepted; a deferred one becomes suppressed."""
    fill(ledger, 3)
    send(ledger, 2)
    send(ledger, 3, DEFERRED, next_at=NOW + timedelta(hours=1))
    fill(ledger, 3, Status.SUPPRESSED)
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.SUPPRESSED, 4: Status.SUPPRESSED}
    assert due(ledger, NOW + timedelta(days=1)) == []
    assert look(ledger).next_due() is None


def test_promises_and_outcomes_share_a_commit(ledger: Ledger) -> None:
    """The outcome of one row and the intent of the next are recorded together."""
    fill(ledger, 2)
    ledger.attempts.record_intent([attempt(2)])
    ledger.attempts.record_intent([attempt(3)], [settled(2, ACCEPTED)])
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.HANDING_OVER}
    assert ledger.attempts.handed_over == 2


@pytest.mark.parametrize("seed", range(3))
def test_what_is_asked_for_is_what_reading_every_row_finds(ledger: Ledger, seed: int) -> None:
    """Whatever happened to the rows: counts, those in some states, and the versions that were sent."""
    random = Random(seed)
    fates = [ACCEPTED, ACCEPTED, ACCEPTED, REJECTED, DEFERRED, IN_DOUBT, DROPPED]
    fill(ledger, 60)
    for row in range(2, 62):
        if random.random() < 0.1:
            ledger.note_version("v2", {"subject": "b"})
        version = random.choice([*ledger.attempts.versions])
        outcome = random.choice(fates)
        send(ledger, row, outcome, version=version, next_at=NOW if outcome is DEFERRED else None)
        if random.random() < 0.05:
            random.choice([ledger.requeue, ledger.found_drafts])([f"k{random.randint(2, row)}"])
        every = [*ledger.contacted(*Status)]

        assert ledger.states().by_status == Counter(found.status for found in every)
        chosen = random.sample([*Status], 3)
        assert [*ledger.contacted(*chosen)] == [found for found in every if found.status in chosen]
        assert dict(ledger.waiting()) == {
            found.key: found.status for found in every if found.status in {Status.PENDING, Status.DEFERRED}
        }
        got_it = [found for found in every if found.status in {Status.ACCEPTED, Status.DRAFTED}]
        sent_by = Counter(found.version for found in got_it)
        assert {known.digest: known.accepted for known in ledger.versions()} == sent_by
    ledger.attempts.record_intent([attempt(99)])

    assert (ledger.states()[Status.HANDING_OVER], ledger.repair(), ledger.repair()) == (1, 1, 0)
    assert "k99" in {delivery.key for delivery in ledger.contacted(Status.IN_DOUBT)}


@pytest.mark.parametrize("killed", [False, True], ids=["accepted", "killed"])
def test_repair_finds_rows_that_a_corrected_one_has_superseded(ledger: Ledger, killed: bool) -> None:
    """Also where the run that sent the corrected one came to no end."""
    fill(ledger, 3)
    send(ledger, 2, REJECTED)
    send(ledger, 4, REJECTED)
    ledger.correct({"k2": "k3", "k4": "k9"})
    if killed:
        ledger.attempts.record_intent([attempt(3)])
    else:
        send(ledger, 3)

    assert (ledger.repair(), ledger.repair()) == (int(killed), 0)
    found = Status.IN_DOUBT if killed else Status.ACCEPTED
    assert ledger.statuses(["k2", "k3", "k4"]) == {
        "k2": Status.DUPLICATE, "k3": found, "k4": Status.REJECTED,
    }  # fmt: skip
    assert ledger.superseded(["k2", "k4"]) == {"k2": "k3"}


def test_what_the_server_said_is_kept(ledger: Ledger) -> None:
    """The report sees reply, code, phase, Date and Message-ID of the last attempt."""
    fill(ledger, 1)
    send(ledger, 2, REJECTED)
    (result,) = look(ledger).results()
    delivery = result.delivery
    assert delivery is not None
    assert (delivery.code, delivery.enhanced, delivery.reply) == (550, "5.1.1", "no such user")
    assert (delivery.phase, delivery.reason, delivery.attempts) == ("rcpt", "recipient", 1)
    assert delivery.date == attempt(2).date
    assert delivery.date.utcoffset() == timedelta(hours=1)
    assert (delivery.message_id, delivery.version, delivery.row_digest) == (
        "<m2@example.org>",
        "v1",
        "r" * 16,
    )


def test_no_row_is_promised_twice(ledger: Ledger) -> None:
    """Whatever the caller believes, only a pending row is handed over; else all is undone.

    Where others can change it, that is not a bug of ours.
    """
    fill(ledger, 3)
    send(ledger, 2)
    shared = ledger.attempts._lease is not None
    refusal = pytest.raises(
        IntentRefusedError if shared else RuntimeError, match=r"changed a row|not pending"
    )
    with refusal:
        ledger.attempts.record_intent([attempt(3), attempt(2)])
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.PENDING, 4: Status.PENDING}
    ledger.attempts.record_intent([attempt(3)])
    with refusal:
        ledger.attempts.record_intent([attempt(3)])
    assert ledger.attempts.handed_over == 2


def test_outcomes_without_promise_are_kept(ledger: Ledger) -> None:
    """A recipient refused before the content never needed a promise; every attempt is kept all the same."""
    fill(ledger, 1)
    ledger.attempts.record_outcomes([settled(2, DROPPED, counts=False), settled(2, DEFERRED, next_at=NOW)])
    ledger.attempts.record_intent([attempt(2, number=2)])
    ledger.attempts.record_outcomes([settled(2, ACCEPTED)])
    assert attempts(ledger, "status", "number", "raw") == [
        ("pending", 1, None),
        ("deferred", 1, b""),
        ("accepted", 2, b"250 .."),
    ]
    assert first_delivery(ledger).attempts == 2
    assert ledger.attempts.handed_over == 1


def test_a_dropped_promise_goes_back_to_pending(ledger: Ledger) -> None:
    """Nothing of it was taken: the row is offered again, and may be promised again in the same commit."""
    fill(ledger, 1)
    ledger.attempts.record_intent([attempt(2)])
    ledger.attempts.record_intent([attempt(2)], [settled(2, DROPPED, counts=False)])
    assert states(ledger) == {2: Status.HANDING_OVER}
    ledger.attempts.record_outcomes([settled(2, ACCEPTED)])
    assert attempts(ledger, "status", "previous") == [("pending", None), ("accepted", 1)]


def test_deferred_rows_come_back_when_due(ledger: Ledger) -> None:
    """Not before; and `next_due` says when."""
    fill(ledger, 2)
    later = NOW + timedelta(minutes=5)
    send(ledger, 3, DEFERRED, next_at=later)
    assert [delivery.row for delivery in due(ledger, NOW)] == [2]
    assert look(ledger).next_due() == later
    found = due(ledger, later)
    assert [(d.row, d.attempts, d.first_attempt) for d in found] == [(2, 0, None), (3, 1, NOW)]


def test_hostile_replies_can_be_recorded(ledger: Ledger) -> None:
    """A lone surrogate or NUL in a reply must not lose the outcome; it comes back fit to be shown."""
    fill(ledger, 1)
    odd = Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550, ("\udcff\x00\x1b]0;x",), raw=b"\xff"))
    send(ledger, 2, odd)
    assert first_delivery(ledger).reply == r"?\x00\x1b]0;x"


def test_two_kilobytes_of_a_reply_are_kept(ledger: Ledger) -> None:
    """A server may say 64 KB for each row; the beginning is what matters."""
    fill(ledger, 1)
    long = Reply(550, ("ü" * 30_000,), raw=b"550 " + b"x" * 60_000)
    send(ledger, 2, Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, long))
    reply = first_delivery(ledger).reply
    assert (len(reply.encode()), reply[-1]) == (2047, "…")
    assert len(str(long)) < 2_100


def test_an_unknown_version_is_our_mistake(ledger: Ledger) -> None:
    """Versions are recorded before anything is sent with them."""
    with pytest.raises(RuntimeError, match="version"):
        ledger.attempts.record_intent([attempt(2, version="v9")])


def test_a18_versions_tell_what_changed(ledger: Ledger) -> None:
    """How many rows went out with which version, and which parts differ now."""
    fill(ledger, 4)
    send(ledger, 2)
    send(ledger, 3)
    ledger.note_version("v2", {"subject": "a", "template": "c"})
    send(ledger, 4, version="v2")
    send(ledger, 5, REJECTED, version="v2")
    assert [(v.digest, v.accepted) for v in ledger.versions()] == [("v1", 2), ("v2", 1)]
    assert ledger.versions()[0].changed({"subject": "a", "template": "c", "from": "x"}) == (
        "template",
        "from",
    )


def test_runs_are_recorded(ledger: Ledger) -> None:
    """Kind, version, end and counts; test runs apart from real ones."""
    assert ledger.last_run() is None
    ledger.start_run("send", "v1")
    fill(ledger, 1)
    send(ledger, 2)
    assert last_run(ledger).ended is None
    ledger.finish_run("finished", {"accepted": 1})
    number = ledger.start_run("test")
    run = last_run(ledger)
    assert (run.kind, run.pid, run.version, run.reason, run.counts) == (
        "send",
        os.getpid(),
        "v1",
        "finished",
        {"accepted": 1},
    )
    assert attempts(ledger, "run") == [(run.id,)]
    assert last_run(ledger, "test").id == number


def test_doubts_are_resolved_by_a_person(ledger: Ledger) -> None:
    """As accepted, or to be sent again; only rows in doubt, and one by one if asked."""
    fill(ledger, 4)
    ledger.attempts.record_intent([attempt(row) for row in (2, 3, 4)])
    ledger.repair()
    assert ledger.resolve(["k2", "k2", "k5", "nobody"], as_accepted=True) == 1
    assert ledger.resolve(None, as_accepted=False) == 2
    assert states(ledger) == {2: Status.ACCEPTED, 3: Status.PENDING, 4: Status.PENDING, 5: Status.PENDING}
    assert first_delivery(ledger).reason == "resolved as accepted"
    first = due(ledger, NOW)[0]
    assert (first.message_id, first.date) == ("<m3@example.org>", attempt(3).date)
    ledger.attempts.record_intent([attempt(3)])


def test_a_late_answer_settles_what_was_to_be_sent_again(postgres_ledger: ServerPlace) -> None:
    """Whoever handed a row over knows better than the person who was asked meanwhile: nobody has it twice."""
    with (
        postgres_ledger.lock("spring") as lock,
        postgres_ledger.open_for_writing("spring", now=lambda: NOW, lock=lock) as silent,
    ):
        silent.note_version("v1", {"subject": "a", "template": "b"})
        fill(silent, 2)
        silent.attempts.record_intent([attempt(2), attempt(3)])
        with postgres_ledger.open_for_writing("spring", now=lambda: NOW) as other:
            assert other.repair() == 2
            other.resolve(None, as_accepted=False)
        silent.attempts.record_outcomes([settled(2, ACCEPTED)])

        assert states(silent) == {2: Status.ACCEPTED, 3: Status.PENDING}


def test_requeue_gives_back_all_tries(ledger: Ledger) -> None:
    """Rejected and expired rows; accepted ones only on their own demand."""
    fill(ledger, 4)
    send(ledger, 2, REJECTED)
    send(ledger, 3, DEFERRED, status=Status.EXPIRED)
    send(ledger, 4)
    assert ledger.requeue(["k4"]) == 0
    assert ledger.requeue(None) == 2
    assert ledger.requeue(["k4"], accepted=True) == 1
    assert {(d.row, d.attempts, d.first_attempt) for d in due(ledger, NOW)} == {
        (r, 0, None) for r in (2, 3, 4, 5)
    }


def test_a_requeued_row_is_of_another_generation(ledger: Ledger) -> None:
    """Each requeue counts; a row in doubt that is sent again is the very same message, so that does not."""
    fill(ledger, 4)
    send(ledger, 2, REJECTED)
    send(ledger, 3, IN_DOUBT)
    ledger.requeue(None)
    ledger.resolve(None, as_accepted=False)
    assert [(row.row, row.generation) for row in due(ledger, NOW)] == [(2, 1), (3, 0), (4, 0), (5, 0)]
    send(ledger, 2)
    ledger.requeue(["k2"], accepted=True)
    again = ledger.deliveries(["k2"]).get("k2")
    assert again is not None
    assert again.generation == 2


def test_what_is_recorded_of_one_row(ledger: Ledger) -> None:
    """By its key; with the row number that it had when it was contacted last."""
    fill(ledger, 2)
    send(ledger, 2)
    assert ledger.deliveries(["k2"]).get("k2") == first_delivery(ledger)
    assert ledger.deliveries(["k3"]).get("k3") is None


def test_a_message_that_went_out_before_is_found_with_its_first_date(ledger: Ledger) -> None:
    """By its Message-ID, however many other messages the row had meanwhile; another one has no Date yet."""
    fill(ledger, 2)
    dates = [datetime(2026, 11, day, 11, 0, tzinfo=timezone(timedelta(hours=day))) for day in range(1, 5)]
    for message_id, date in zip(["<x>", "<y>", "<x>", "<y>"], dates, strict=True):
        tried = replace(attempt(2), message_id=message_id, date=date)
        ledger.attempts.record_outcomes([Settlement(tried, DEFERRED, Status.DEFERRED, NOW)])
    delivery = ledger.deliveries(["k2"]).get("k2")
    assert delivery is not None
    found = [ledger.date_of(delivery, message_id) for message_id in ("<x>", "<y>", "<z>")]
    assert found == [dates[0], dates[3], None]
    assert found[0] is not None
    assert found[0].utcoffset() == timedelta(hours=1)
    other = due(ledger, NOW)[0]
    assert (other.key, ledger.date_of(other, "<x>")) == ("k3", None)


def test_attempts_that_follow_each_other_in_a_circle_end(ledger: Ledger) -> None:
    """In a damaged file, too."""
    fill(ledger, 2)
    send(ledger, 2, DEFERRED)
    ledger._db.execute("UPDATE attempt SET previous = id")
    delivery = ledger.deliveries(["k2"]).get("k2")
    assert delivery is not None
    assert ledger.date_of(delivery, "<other>") is None


def test_b31_an_outcome_is_taken_back(ledger: Ledger) -> None:
    """Accepted becomes in doubt, deferred pending with its try given back; a row that moved on stays."""
    slipped = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT, reason="out_of_step")
    given_back = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, reason="out_of_step")
    ledger.attempts.record_intent([attempt(1), attempt(2)])
    ledger.attempts.record_outcomes([settled(1, ACCEPTED), settled(2, DEFERRED, next_at=NOW)])
    ledger.attempts.revise(Revision(settled(1, slipped, counts=False), Status.ACCEPTED, counted=True))
    ledger.attempts.revise(Revision(settled(2, given_back, counts=False), Status.DEFERRED, counted=True))
    ledger.attempts.revise(Revision(settled(2, slipped, counts=False), Status.ACCEPTED, counted=True))
    rows = ledger._db.rows("SELECT status, tries, next_at FROM delivery ORDER BY key")
    assert rows == [("in_doubt", 0, None), ("pending", 0, None)]
    reasons = ledger._db.rows("SELECT status, reason FROM attempt ORDER BY id")
    assert reasons == [("in_doubt", "out_of_step"), ("pending", "out_of_step")]
