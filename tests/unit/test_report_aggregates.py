"""What the ledger says about its history in figures."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mailmerge.history import Runs, Timeline, Times, Waits
from mailmerge.ledger.attempts import Settlement
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Attempt, Outcome, Phase, Reply, Scope, Status
from plans import people, standing

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.ledger.statistics import Aggregates

START = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
REPLIES = {
    Status.ACCEPTED: Reply(250, ("Ok",), (2, 0, 0)),
    Status.REJECTED: Reply(550, ("no such user",), (5, 1, 1)),
    Status.DEFERRED: Reply(451, ("later",), (4, 7, 1)),
    Status.IN_DOUBT: None,
    Status.PENDING: None,
}


class History:
    """A ledger that is told what happened when, in seconds after ten o'clock."""

    def __init__(self) -> None:
        self.now = START
        self.ledger = Ledger.scratch(None, "spring", now=lambda: self.now)
        self.ledger.note_version("v", {})
        self.standing = standing(self.ledger)

    def list(self, *addresses: str) -> None:
        keys = (f"k{row}" for row, _ in enumerate(addresses, 2))
        rows = zip(people(*keys), addresses, strict=True)
        self.standing = standing(self.ledger, *(replace(row, address=address) for row, address in rows))

    def run(self) -> None:
        self.ledger.start_run("send", "v")

    def attempt(
        self,
        row: int,
        at: float,
        status: Status = Status.ACCEPTED,
        *,
        took: float = 0.1,
        address: str = "a@example.org",
        connection: str = "1",
        number: int = 1,
        scope: Scope = Scope.ROW,
    ) -> None:
        self.now = START + timedelta(seconds=at)
        attempt = Attempt(
            f"k{row}", row, address, number, f"<{row}@x>", START, 1, 100, "d", "f", "r", "v", connection
        )
        self.ledger.attempts.record_intent([attempt])
        outcome = Outcome(status, scope, Phase.CONTENT, REPLIES[status])
        later = self.now + timedelta(seconds=60) if status is Status.DEFERRED else None
        ended = self.now + timedelta(seconds=took)
        self.ledger.attempts.record_outcomes([Settlement(attempt, outcome, status, ended, later)])

    @property
    def figures(self) -> Aggregates:
        return self.standing.aggregates()


@pytest.fixture
def history() -> Iterator[History]:
    made = History()
    yield made
    made.ledger.close()


def test_nothing_is_nothing(history):
    """An empty ledger gives empty figures, not errors."""
    figures = history.figures

    assert figures.timeline() == Timeline()
    assert figures.domains() == ((), 0)
    assert figures.answers() == ()
    assert figures.times() == Times()
    assert figures.waits() == Waits()
    assert figures.runs() == Runs()


def test_bins_hold_every_attempt_once(history):
    """Bins are of one round width, in order, and add up to the attempts."""
    history.run()
    for row in range(300):
        history.attempt(row, row * 1.0, Status.REJECTED if row % 10 == 0 else Status.ACCEPTED)
    timeline = history.figures.timeline()

    assert timeline.width == 5
    assert len(timeline.bins) == 60
    assert [bin_.start for bin_ in timeline.bins] == [START.timestamp() + 5 * n for n in range(60)]
    assert sum(bin_.by_status.get(Status.ACCEPTED, 0) for bin_ in timeline.bins) == 270
    assert sum(bin_.by_status.get(Status.REJECTED, 0) for bin_ in timeline.bins) == 30


@pytest.mark.parametrize("gap", [0.5, 7, 100, 3600, 86_400, 40 * 86_400])
@pytest.mark.parametrize("most", [5, 120])
def test_there_are_never_too_many_bins(history, gap, most):
    """Whatever the pace, the chart stays small and nothing is lost."""
    history.run()
    for row in range(40):
        history.attempt(row, row * gap)
    timeline = history.figures.timeline(most)

    assert len(timeline.bins) <= most
    assert sum(sum(bin_.by_status.values()) for bin_ in timeline.bins) == 40


def test_long_pauses_are_cut_out_and_told(history):
    """A night between two bursts does not flatten them."""
    history.run()
    for row in range(20):
        history.attempt(row, row + (0 if row < 10 else 8 * 3600))
    timeline = history.figures.timeline()

    assert timeline.width == 2
    pauses = [bin_.pause for bin_ in timeline.bins]
    assert len(pauses) == 10
    assert [round(pause / 3600) for pause in pauses if pause] == [8]


def test_new_connections_are_marked_but_not_the_first(history):
    """The connection that opens a run is not a reconnect."""
    history.run()
    for row in range(30):
        history.attempt(row, row, connection="1" if row < 17 else "2")
    marks = [
        (bin_.start - START.timestamp(), bin_.connections)
        for bin_ in history.figures.timeline().bins
        if bin_.connections
    ]

    assert marks == [(17, 1)]


def test_domains_are_sorted_by_failures(history):
    """The part behind the last @ counts, whatever its case; the share of failures decides."""
    history.run()
    addresses = ["a@one.example", "b@ONE.example", '"x@y"@two.example', "c@two.example", "d@three.example"]
    for row, address in enumerate(addresses):
        refused = address.startswith(("c", "d"))
        history.attempt(row, row, Status.REJECTED if refused else Status.ACCEPTED, address=address)
    domains, count = history.figures.domains()

    assert [(domain.name, domain.total, domain.failed_share) for domain in domains] == [
        ("three.example", 1, 1.0),
        ("two.example", 2, 0.5),
        ("one.example", 2, 0.0),
    ]
    assert count == 3
    assert len(history.figures.domains(1)[0]) == 1


def test_answers_have_the_servers_words_and_rows(history):
    """Rows are those of the list as it is now; accepted ones are not named."""
    history.list(*(f"a{row}@example.org" for row in range(20)))
    history.run()
    for row in range(2, 22):
        history.attempt(row, row, Status.REJECTED if row > 5 else Status.ACCEPTED)
    refused, accepted = history.figures.answers()

    assert (refused.code, refused.enhanced, refused.words, refused.count) == (
        550,
        "5.1.1",
        "no such user",
        16,
    )
    assert refused.rows == tuple(range(6, 18))
    assert (accepted.status, accepted.code, accepted.count, accepted.rows) == (Status.ACCEPTED, 250, 4, ())


def test_times_are_percentiles_of_answered_messages(history):
    """What was never answered has no time."""
    history.run()
    for row in range(100):
        history.attempt(row, row * 5, took=(row + 1) / 100)
    history.attempt(100, 600, Status.IN_DOUBT, took=4)
    times = history.figures.times()

    assert times.count == 100
    assert [times.p50, times.p95, times.p99, times.longest] == pytest.approx([0.5, 0.95, 0.99, 1.0], abs=1e-3)


def test_waits_add_up_to_the_run(history):
    """Answering, pace, retries, new connections and pauses of the account fill the time from end to end."""
    history.run()
    history.attempt(2, 0, took=1)
    history.attempt(3, 3, took=1)  # two seconds of pace
    history.attempt(4, 14, took=1, connection="2")  # ten to connect again
    history.attempt(5, 15, Status.DEFERRED, took=1, scope=Scope.ACCOUNT, connection="2")
    history.attempt(6, 116, took=1, connection="2")  # a hundred that the account had to pause
    history.attempt(5, 147, took=1, number=2, connection="3")  # thirty for a further try
    waits = history.figures.waits()

    assert [waits.answer, waits.pace, waits.network, waits.account, waits.retry] == pytest.approx(
        [6, 2, 10, 100, 30], abs=1e-3
    )


def test_overlapping_messages_are_not_counted_twice(history):
    """With several in flight, the time that the server took is that of the whole window."""
    history.run()
    for row in range(10):
        history.attempt(row, row * 0.1, took=2.0)

    assert history.figures.waits().answer == pytest.approx(2.9, abs=1e-3)
    assert history.figures.waits().pace == 0


def test_what_an_earlier_death_left_open_has_no_time(history):
    """A row in doubt since a crash does not turn the pause before the next run into work."""
    history.run()
    history.attempt(2, 0)
    history.now = START + timedelta(seconds=1)
    history.ledger.attempts.record_intent(
        [Attempt("k3", 3, "b@x.org", 1, "<3@x>", START, 1, 1, "d", "f", "r", "v", "1")]
    )
    history.now = START + timedelta(days=1)
    assert history.ledger.repair() == 1

    assert history.figures.waits().answer == pytest.approx(0.1, abs=1e-3)
    assert history.figures.times().count == 1
