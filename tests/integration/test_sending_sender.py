"""The send loop with the real session against a scripted server: what comes when, what answers lead to."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest
from msgspec.structs import replace

from mailmerge.addresses import Address
from mailmerge.clock import VirtualClock
from mailmerge.errors import AuthError, ConnectionLost, LedgerError, SessionError, TlsError
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.attempts import IntentRefusedError
from mailmerge.ledger.claims import Promising
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Envelope, Message, Rate, Reply, Status
from mailmerge.options import SendOptions
from mailmerge.sending.policy import Policy, RetryPolicy
from mailmerge.sending.runs import Progress, Reason, RunEnd
from mailmerge.sending.sender import Sender
from mailmerge.sending.throttle import Throttle
from mailmerge.sending.work_queue import Job
from mailmerge.validation import parse_rate
from paired import Fate, ScriptedServer
from plans import people, standing

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mailmerge.sending.group_commit import LedgerWriter
    from mailmerge.sending.runs import StopFlag
    from paired import Mode

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
MODES: tuple[Mode, ...] = ("off", "overlap", "window")

REJECTED = Fate("content", "554 5.0.0 no")
NO_SUCH_USER = Fate("RCPT", "550 5.1.1 no such user")
GREYLISTED = Fate("RCPT", "451 4.7.1 greylisted")
QUOTA = Fate("MAIL", "550 5.4.5 daily sending quota exceeded")
WRONG_SENDER = Fate("MAIL", "553 mail from must equal authorized user")
TOO_FAST = Fate("MAIL", "454 Throttling failure: maximum sending rate exceeded")
PAUSE = Fate("MAIL", "451 MI:SFQ")
CLOSING = Fate("MAIL", "421 4.3.2 closing", hangs_up=True)
CAP = Fate("MAIL", "451 MI:DMC")
DROPPED_BEFORE = Fate("DATA", hangs_up=True)
DROPPED_AFTER = Fate("content", hangs_up=True)
SILENCE = Fate("content")


@dataclass
class Bench:
    """One ledger, one server, one clock; several runs."""

    ledger: Ledger
    server: ScriptedServer
    clock: VirtualClock
    stop: StopFlag = field(default_factory=threading.Event)
    steps: list[Progress] = field(default_factory=list)
    pulled: int = 0
    ends_left: list[int] = field(default_factory=list)
    """Rows whose end was released, in that order."""
    recorder: LedgerWriter | None = None
    """Replaces the ledger where a test counts commits."""

    def __post_init__(self) -> None:
        self.standing = standing(self.ledger)

    def work(self) -> Iterator[Job]:
        for row in self.standing.due(self.clock.now()):
            self.pulled += 1
            known = row.delivery
            date = (known.date if known else None) or self.clock.now()
            yield Job(
                message(row.planned.row, date),
                (known.attempts if known else 0) + 1,
                row.planned.address,
                date,
                "r",
                "v1",
                known.first_attempt if known else None,
            )

    def run(
        self, work: Iterable[Job] | None = None, rates: str = "", limit: int | None = None, **more
    ) -> RunEnd:
        observe = more.pop("observe", self.steps.append)
        options, wait = SendOptions(), more.pop("wait", False)
        policy = Policy(RetryPolicy(options.retry), max_rejected=options.max_rejected, wait=wait)
        sender = Sender(
            self.recorder or self.ledger.attempts,
            self.server.connect,
            more.pop("throttle", None) or Throttle([parse_rate(rates)] if rates else ()),
            self.clock,
            policy=policy,
            stop=self.stop,
            observe=observe,
            random=lambda: 0.5,
            **more,
        )
        return sender.run(islice(self.work(), limit) if work is None else work)

    def released(self, rows: set[int]) -> None:
        """Whose end leaves now is on disk as being handed over."""
        self.ends_left += rows
        assert rows <= {row for row, state in self.states().items() if state == "handing_over"}

    def states(self) -> dict[int | None, str]:
        return {result.row: result.status.value for result in self.standing.results()}


def message(row: int, date: datetime) -> Message:
    envelope = Envelope(Address.parse(f"me+{row}@example.org"), (Address.parse(f"u{row}@example.org"),))
    content = f"Date: {date:%c}\r\n\r\nrow {row}\r\n".encode()
    return Message(f"<m{row}@example.org>", f"k{row}", row, envelope, (content,))


@pytest.fixture
def bench():
    clock = VirtualClock(NOW)
    with Ledger.scratch(None, "x", now=clock.now) as ledger:
        ledger.note_version("v1", {})
        made = Bench(ledger, ScriptedServer(clock), clock)
        made.server.released = made.released
        listed(made, 5)
        yield made


def listed(bench: Bench, rows: int) -> None:
    rows_of = people(*(f"k{row}" for row in range(2, 2 + rows)))
    bench.standing = standing(
        bench.ledger, *(replace(row, address=f"u{row.row}@example.org") for row in rows_of)
    )


# --- the good case --------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_all_rows_in_list_order_over_one_connection(bench: Bench, mode: Mode) -> None:
    """Every row once, the promise before its end, in every mode."""
    listed(bench, 150)
    bench.server.mode = mode
    end = bench.run()
    assert end == RunEnd(Reason.FINISHED, counts=end.counts)
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 150}
    assert bench.server.begun == list(range(2, 152))
    assert (bench.server.opened, bench.server.closed) == (1, 1)
    assert len(bench.server.accepted) == 150
    assert set(bench.states().values()) == {"accepted"}


def test_a32_nothing_due_opens_no_connection(bench: Bench) -> None:
    """Run again when finished: no connection, nothing sent."""
    bench.run()
    bench.server.begun.clear()
    assert bench.run().reason is Reason.FINISHED
    assert (bench.server.connections, bench.server.begun) == (1, [])


def test_promises_and_outcomes_are_committed_together(bench: Bench) -> None:
    """Alone: the last outcome with the next intent; in a window: one commit for all of it."""
    commits = []

    class Counting:
        handed_over, refused, begin_intent = 0, (), None

        def record_intent(self, attempts, outcomes=()) -> tuple[str, ...]:
            commits.append((len(attempts), len(outcomes)))
            return bench.ledger.attempts.record_intent(attempts, outcomes)

        def record_outcomes(self, outcomes) -> None:
            self.record_intent((), outcomes)

        def give_back(self, keys) -> None:
            bench.ledger.attempts.give_back(keys)

        def revise(self, revision) -> None:
            raise AssertionError("nothing is out of step")

    bench.recorder = Counting()
    bench.run()
    assert commits == [(1, 0), (1, 1), (1, 1), (1, 1), (1, 1), (0, 1)]
    commits.clear()
    listed(bench, 512 + 5)
    bench.server.mode = "window"
    bench.run()
    intents, outcomes = zip(*commits, strict=True)
    assert (sum(intents), sum(outcomes), max(intents), max(outcomes)) == (512, 512, 64, 64)
    assert [outcomes[0], *intents[:-1]] == [0, *outcomes[1:]]
    assert bench.ledger.attempts.handed_over == 517


def test_messages_are_pulled_as_there_is_room(bench: Bench) -> None:
    """The generator is never further ahead of the server than what is in flight, and one."""
    listed(bench, 50)
    bench.server.mode = "overlap"
    ahead = []

    def watched() -> Iterator[Job]:
        for work in bench.work():
            ahead.append(bench.pulled - len(bench.server.accepted))
            yield work

    bench.run(watched())
    assert 2 <= max(ahead) <= 3


@pytest.mark.parametrize("distant", [False, True])
def test_the_mark_follows(bench: Bench, distant: bool) -> None:
    """The high-water mark is told at the start, once a second while messages go out, and at the end."""
    listed(bench, 50)
    bench.recorder = Distant(bench.ledger, set(), set()) if distant else None
    marks: list[tuple[float, int]] = []
    bench.run(rates="10/s", mark=lambda mark: marks.append((bench.clock.monotonic(), mark)))
    times, counts = zip(*marks, strict=True)
    assert times == pytest.approx([0, 1, 2, 3, 4, 4.9], abs=0.15)
    assert counts == (1, 11, 21, 31, 41, 50)


def test_several_sessions_share_the_work(bench: Bench) -> None:
    """Each connection has its own messages in flight; nobody is written to twice."""
    listed(bench, 20)
    end = bench.run(sessions=3)
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 20}
    assert sorted(bench.server.begun) == list(range(2, 22))
    assert set(bench.server.on_connection) == {1, 2, 3}


# --- rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_b8_a_refused_row_does_not_stop_the_others(bench: Bench, mode: Mode) -> None:
    """Recorded, and on with the next; in a window all ends have left before the recipients are answered."""
    bench.server.mode = mode
    bench.server.fates = {3: [NO_SUCH_USER], 4: [REJECTED], 5: [GREYLISTED]}
    end = bench.run()
    assert end.reason is Reason.FINISHED
    assert bench.states() == {2: "accepted", 3: "rejected", 4: "rejected", 5: "deferred", 6: "accepted"}
    assert bench.standing.next_due() == NOW + timedelta(seconds=330)
    assert bench.ledger.attempts.handed_over == (5 if mode == "window" else 3)


def test_a29_4yz_for_ever_expires(bench: Bench) -> None:
    """Eight tries, each when it is due, then `expired` with the last reply."""
    bench.server.fates = {2: [GREYLISTED] * 20}
    states = []
    for _ in range(9):
        bench.run()
        states.append((bench.server.begun.count(2), bench.states()[2]))
        if due := bench.standing.next_due():
            bench.clock.sleep((due - bench.clock.now()).total_seconds())
    assert states == [*((tries, "deferred") for tries in range(1, 8)), (8, "expired"), (8, "expired")]
    expired = next(bench.standing.results()).delivery
    assert expired is not None
    assert expired.reply == "greylisted"


def test_a6_dropped_before_the_end_is_sent_again(bench: Bench) -> None:
    """The same bytes, in the same place of the order, over a new connection; no try is used up."""
    bench.server.fates = {3: [DROPPED_BEFORE]}
    end = bench.run()
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    assert bench.server.begun == [2, 3, 3, 4, 5, 6]
    assert bench.server.opened == 2
    result = list(bench.standing.results())[1]
    assert result.delivery is not None
    assert result.delivery.attempts == 1


def test_a4_dropped_after_the_end_is_in_doubt(bench: Bench) -> None:
    """Not sent again, nor in the next run; the other rows continue over a new connection."""
    bench.server.fates = {3: [DROPPED_AFTER]}
    bench.run()
    bench.run()
    assert bench.states() == {2: "accepted", 3: "in_doubt", 4: "accepted", 5: "accepted", 6: "accepted"}
    assert bench.server.begun.count(3) == 1


def test_a_drop_in_a_window_sorts_the_rows(bench: Bench) -> None:
    """Whose end had left unanswered is in doubt; all the others are accepted, once each."""
    listed(bench, 200)
    bench.server.mode = "window"
    bench.server.fates = {100: [DROPPED_AFTER]}
    end = bench.run()
    doubtful = {row for row, state in bench.states().items() if state == "in_doubt"}
    assert end.reason is Reason.FINISHED
    assert 100 in doubtful
    assert 3 < len(doubtful) < 64
    assert sorted(bench.server.answered) == sorted(set(range(2, 202)) - doubtful)
    assert {row for row, state in bench.states().items() if state == "accepted"} == set(bench.server.answered)
    assert sorted(bench.ends_left) == list(range(2, 202))


def test_a4_three_doubts_in_a_row_stop_the_run(bench: Bench) -> None:
    """Something between us and the server cuts connections: a person must look."""
    bench.server.fates = {row: [DROPPED_AFTER] for row in (2, 3, 4)}
    end = bench.run()
    assert end.reason is Reason.BREAKER
    assert bench.states() == {2: "in_doubt", 3: "in_doubt", 4: "in_doubt", 5: "pending", 6: "pending"}


def test_one_lost_connection_is_one_misfortune(bench: Bench) -> None:
    """However many messages were in flight on it: a window full of doubts does not end the run."""
    listed(bench, 200)
    bench.server.mode = "window"
    bench.server.fates = {50: [DROPPED_AFTER], 120: [DROPPED_AFTER]}
    end = bench.run()
    assert end.reason is Reason.FINISHED
    assert end.counts[Status.IN_DOUBT] > 3
    assert end.counts.total == 200


def test_ten_rejects_stop_the_run(bench: Bench) -> None:
    """The breaker leaves the other rows untouched."""
    listed(bench, 20)
    bench.server.fates = {row: [REJECTED] for row in range(2, 22)}
    end = bench.run()
    assert (end.reason, len(bench.server.begun)) == (Reason.BREAKER, 10)
    assert bench.ledger.counts()[Status.PENDING] == 10


def test_a_row_that_ends_every_connection_is_set_aside(bench: Bench) -> None:
    """Some filters drop the connection for a content: after the second time the others go first."""
    bench.server.fates = {3: [DROPPED_BEFORE] * 50}
    end = bench.run()
    assert end.reason is Reason.FINISHED
    assert bench.server.begun == [2, 3, 3, 4, 5, 6, 3, 3, 3]
    assert bench.states() == {2: "accepted", 3: "deferred", 4: "accepted", 5: "accepted", 6: "accepted"}


# --- account and set-up ---------------------------------------------------------------------------------


def test_a25_a_quota_refusal_ends_the_run_and_the_next_day_begins_there(bench: Bench) -> None:
    """No further MAIL, the row deferred, the time to run again; then on at that row."""
    listed(bench, 50)
    bench.server.fates = {30: [QUOTA]}
    end = bench.run()
    assert (end.reason, end.next_at) == (Reason.QUOTA, NOW + timedelta(days=1))
    assert bench.server.begun[-1] == 30
    assert bench.states()[30] == "deferred"
    bench.clock.sleep(86400)
    bench.server.begun.clear()
    assert bench.run().reason is Reason.FINISHED
    assert bench.server.begun == list(range(30, 52))


def test_a26_the_own_cap_stops_without_asking_the_server(bench: Bench, tmp_path) -> None:
    """The fourth message is not offered; the run says when it may be."""
    with AccountUsage(tmp_path / "usage.db") as usage:
        quota = usage.quota("me", [Rate(3, 86400)], bench.clock)
        bench.server.fates = {3: [NO_SUCH_USER]}
        end = bench.run(quota=quota)
        assert (end.reason, bench.server.begun) == (Reason.QUOTA, [2, 3, 4, 5])
        assert end.next_at == NOW + timedelta(days=1)
        assert usage.used("me", NOW - timedelta(days=1)) == 3


def test_messages_are_counted_before_they_can_be_complete(bench: Bench, tmp_path) -> None:
    """Also where no limit is asked: whatever was promised is in the account's count by then."""
    with AccountUsage(tmp_path / "usage.db") as usage, AccountUsage(tmp_path / "usage.db") as other:

        def record(attempts, outcomes=()):
            bench.ledger.attempts.record_intent(attempts, outcomes)
            counted.append((bench.ledger.attempts.handed_over, other.used("me", NOW - timedelta(days=1))))
            return ()

        counted: list[tuple[int, int]] = []
        bench.recorder = SimpleNamespace(
            begin_intent=None,
            record_intent=record,
            record_outcomes=lambda outcomes: record((), outcomes),
            handed_over=0,
        )
        bench.server.mode = "overlap"
        end = bench.run(quota=usage.quota("me", (), bench.clock))
        assert end.reason is Reason.FINISHED
        assert counted
        assert all(promised <= used for promised, used in counted)
        assert counted[-1] == (5, 5)


def test_b10_a_refused_sender_stops_at_the_first(bench: Bench) -> None:
    """Exactly one MAIL, the row stays pending, the fix is handed on."""
    bench.server.fates = {2: [WRONG_SENDER]}
    end = bench.run()
    assert (end.reason, bench.server.begun) == (Reason.REFUSED, [2])
    assert "553 mail from must equal" in end.message
    assert "Send from the account's own address" in (end.hint or "")
    assert set(bench.states().values()) == {"pending"}


def test_a27_too_fast_halves_the_rate_and_tries_the_row_again(bench: Bench) -> None:
    """After 5 and 10 seconds, without the user's doing; no row is lost."""
    bench.server.fates = {3: [TOO_FAST, TOO_FAST]}
    throttle = Throttle([Rate(10, 1)])
    end = bench.run(throttle=throttle)
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    first, second, third = (
        at for at, row in zip(bench.server.times, bench.server.begun, strict=True) if row == 3
    )
    assert [second - first, third - second] == pytest.approx([5, 10])
    assert throttle.interval == pytest.approx(0.4)
    listed(bench, 105)
    bench.run(throttle=throttle)
    assert throttle.interval == pytest.approx(0.4 / 1.1**2)


def test_a_longer_pause_ends_the_run_unless_asked_to_wait(bench: Bench) -> None:
    """Exit with the time to run again, or wait with the connection closed."""
    bench.server.fates = {3: [PAUSE, PAUSE]}
    end = bench.run()
    assert (end.reason, end.next_at) == (Reason.ACCOUNT_PAUSE, NOW + timedelta(minutes=15))
    assert bench.states()[3] == "pending"
    end = bench.run(wait=True)
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 4}
    assert [step.waiting for step in bench.steps if step.waiting] == ["account"]


# --- connections ----------------------------------------------------------------------------------------


def test_a23_three_tries_at_the_start(bench: Bench) -> None:
    """Refused three times: stop, nothing offered; if the third succeeds, the run continues."""
    lost = ConnectionLost("connection refused")
    bench.server.opening = [lost, lost, lost]
    end = bench.run()
    assert (end.reason, end.error, bench.server.connections) == (Reason.NETWORK, lost, 3)
    bench.server.opening = [lost, lost]
    assert bench.run().reason is Reason.FINISHED


def test_a23_an_unknown_name_stops_at_once(bench: Bench) -> None:
    """A name that does not exist is not asked for again."""
    unknown = ConnectionLost("no such host", exit_code=2)
    bench.server.opening = [unknown]
    end = bench.run()
    assert (end.reason, end.error, bench.server.connections) == (Reason.NETWORK, unknown, 1)


@pytest.mark.parametrize("error", [AuthError("535 no", reply=Reply(535)), TlsError("self-signed")])
def test_c1_sign_in_and_tls_failures_stop_at_once(bench: Bench, error: SessionError) -> None:
    """No second try: a person must act."""
    bench.server.opening = [error]
    end = bench.run()
    assert (end.reason, end.error, bench.server.connections) == (Reason.REFUSED, error, 1)


def test_c2_a_temporary_refusal_to_sign_in_is_waited_for(bench: Bench) -> None:
    """Ten minutes apart, three times in all, if asked to wait; else the time to run again."""
    later = AuthError("454 later", reply=Reply(454), exit_code=5)
    bench.server.opening = [later]
    end = bench.run()
    assert (end.reason, end.next_at) == (Reason.ACCOUNT_PAUSE, NOW + timedelta(minutes=10))
    bench.server.opening = [later, later]
    assert bench.run(wait=True).reason is Reason.FINISHED
    assert bench.clock.monotonic() == pytest.approx(1200)


def test_a22_ten_minutes_without_network_end_the_run(bench: Bench) -> None:
    """Rows before the end stay pending, the reconnects get rarer, then resumable stop."""
    bench.server.fates = {3: [DROPPED_BEFORE]}
    bench.server.reachable = lambda: bench.server.opened == 0
    end = bench.run()
    assert end.reason is Reason.NETWORK
    assert 500 < bench.clock.monotonic() <= 600
    assert bench.states()[3] == "pending"
    bench.server.reachable = lambda: True
    assert bench.run().reason is Reason.FINISHED


def test_a22_connections_that_are_of_no_use_get_rarer(bench: Bench) -> None:
    """A server that hangs up at every first message is tried for ten minutes, as one that is not there."""
    bench.server.fates = {row: [Fate("MAIL", hangs_up=True)] * 100 for row in range(2, 7)}
    end = bench.run()
    gaps = [later - earlier for earlier, later in pairwise(bench.server.times)]
    assert end.reason is Reason.NETWORK
    assert gaps[:8] == pytest.approx([1, 2, 4, 8, 16, 32, 60, 60], abs=0.1)
    assert 500 < bench.clock.monotonic() <= 600
    assert set(bench.states().values()) == {"pending"}


@pytest.mark.parametrize("mode", MODES)
def test_b6_421_three_times_in_a_row_ends_the_run(bench: Bench, mode: Mode) -> None:
    """At the first message of a connection, however many it strikes; after an answer it may close."""
    bench.server.mode = mode
    bench.server.fates = {row: [CLOSING] * 3 for row in range(2, 7)}
    assert (bench.run().reason, bench.server.opened) == (Reason.NETWORK, 3)
    bench.server.fates = {2: [CLOSING] * 2}
    assert dict(bench.run(limit=1).counts.by_status) == {Status.ACCEPTED: 1}
    bench.server.fates = {4: [CLOSING] * 2}
    assert dict(bench.run(limit=2).counts.by_status) == {Status.ACCEPTED: 2}
    listed(bench, 9)
    bench.server.fates = {row: [CLOSING] for row in (6, 8, 10)}
    assert dict(bench.run().counts.by_status) == {Status.ACCEPTED: 6}


def test_b7_a_cap_per_connection_means_the_next_one(bench: Bench) -> None:
    """The row goes out once more over a new connection, behind the others and without using up a try."""
    bench.server.fates = {4: [CAP]}
    end = bench.run()
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    assert bench.server.begun == [2, 3, 4, 5, 6, 4]
    assert bench.server.on_connection == [1, 1, 1, 2, 2, 2]
    assert bench.clock.monotonic() < 1


POISON = (
    "451 4.3.0 <u@example.org>: temporary lookup failure",
    "421 4.3.2 closing",
    "452 4.3.1 insufficient system storage",
    "450 MI:DMC",
    "432 4.3.2 concurrent connections limit exceeded",
    "450 4.3.2 not now",
    "451 MI:SFQ",
)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("row", [2, 17])
@pytest.mark.parametrize("reply", POISON)
def test_b22_one_poisoned_row_never_blocks_the_others(bench: Bench, reply: str, row: int, mode: Mode) -> None:
    """Wherever it is in the list: all others are accepted, it is deferred with one try, and that is said."""
    listed(bench, 30)
    bench.server.mode = mode
    fate = Fate("RCPT", reply, hangs_up=reply.startswith("421"))
    bench.server.fates = {row: [fate] * 50}
    end = bench.run(wait=reply == "451 MI:SFQ")
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 29, Status.DEFERRED: 1}
    deferred = next(result.delivery for result in bench.standing.results() if result.row == row)
    assert deferred is not None
    assert (deferred.status, deferred.attempts) == (Status.DEFERRED, 1)
    assert [note for note in end.notes if f"row {row} " in note and reply[:20] in note]


@pytest.mark.parametrize("reply", POISON)
def test_b22_a_poisoned_row_at_the_end(bench: Bench, reply: str) -> None:
    """All others are accepted; it is deferred, or the run ends with the row pending, within minutes."""
    listed(bench, 30)
    bench.server.fates = {31: [Fate("RCPT", reply, hangs_up=reply.startswith("421"))] * 50}
    bench.run()
    states = [*bench.states().values()]
    assert (states[:29], states[29] in {"pending", "deferred"}) == (["accepted"] * 29, True)
    assert bench.clock.monotonic() < 300


def test_b22_poisoned_rows_at_the_head_of_the_list(bench: Bench) -> None:
    """As many as one broken domain may have there: the row behind them goes within seconds."""
    listed(bench, 10)
    fate = Fate("RCPT", "451 4.3.0 temporary lookup failure")
    bench.server.fates = {row: [fate] * 50 for row in range(2, 11)}
    end = bench.run()
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 1, Status.DEFERRED: 9}
    assert bench.clock.monotonic() < 10


def test_b22_a_poisoned_row_that_is_alone_ends_its_run_soon(bench: Bench) -> None:
    """Nothing was accepted, so it may be the server: three tries within seconds, no try used up, exit 5."""
    listed(bench, 1)
    bench.server.fates = {2: [Fate("RCPT", "451 4.3.0 temporary lookup failure")] * 50}
    end = bench.run()
    assert (end.reason, bench.server.begun) == (Reason.NETWORK, [2, 2, 2])
    assert "451 4.3.0" in end.message
    assert (bench.states(), bench.clock.monotonic() < 10) == ({2: "pending"}, True)


@pytest.mark.parametrize("reply", ["451 4.3.0 temporary lookup failure", "452 4.3.1 no storage"])
def test_b22_a_server_in_trouble_is_no_row_s_fault(bench: Bench, reply: str) -> None:
    """Where nothing was accepted in between nobody is deferred, and nobody's try is used up."""
    listed(bench, 30)
    bench.server.fates = {row: [Fate("RCPT", reply)] * 50 for row in range(2, 32)}
    end = bench.run()
    assert end.reason in {Reason.NETWORK, Reason.ACCOUNT_PAUSE}
    assert set(bench.states().values()) == {"pending"}


def test_b17_a_long_pause_closes_the_connection(bench: Bench) -> None:
    """Over thirty seconds: QUIT and connect again; over five: ask first."""
    bench.run(rates="1/m")
    assert (bench.server.opened, bench.server.probes) == (5, 0)
    listed(bench, 10)
    bench.run(rates="6/m")
    assert (bench.server.opened, bench.server.probes) == (6, 4)


def test_a21_a_dead_connection_is_replaced_before_the_next_message(bench: Bench) -> None:
    """The probe finds it out, so no message is lost to it."""

    def slept() -> Iterator[Job]:
        for work in bench.work():
            if work.message.row == 4:
                bench.clock.sleep(600)
                bench.server.alive = False
            yield work

    end = bench.run(slept())
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    assert bench.server.on_connection == [1, 1, 2, 2, 2]


# --- pace -----------------------------------------------------------------------------------------------


def test_short_waits_are_not_told(bench: Bench) -> None:
    """A message a second is not reported; what takes longer than two seconds is, with its end."""
    bench.run(rates="1/s")
    assert [step for step in bench.steps if step.waiting] == []
    listed(bench, 10)
    began = bench.clock.now()
    bench.run(rates="20/m")
    told = [step for step in bench.steps if step.waiting]
    assert {step.waiting for step in told} == {"rate"}
    ends = [(step.until - began).total_seconds() for step in told if step.until]
    assert ends == pytest.approx([3, 6, 9, 12], abs=0.1)


@pytest.mark.parametrize("mode", MODES)
def test_the_throttle_spaces_the_messages(bench: Bench, mode: Mode) -> None:
    """60/m: one a second, however much room the connection has; the clock is the only one to wait."""
    bench.server.mode = mode
    listed(bench, 30)
    bench.run(rates="60/m")
    gaps = [b - a for a, b in zip(bench.server.times, bench.server.times[1:], strict=False)]
    assert min(gaps) >= 0.97
    assert bench.server.times[-1] == pytest.approx(29, rel=0.03)


class SharedPace(Throttle):
    """A pace whose messages end at moments of their own, one a second."""

    def __init__(self) -> None:
        super().__init__(())
        self.left: list[float] = []

    def take(self, now, domains=()):
        """Return the next moment."""
        super().take(now, domains)
        at, pace = len(self._recent), self

        class Turn:
            def wait(self, now):
                return at - now

            def left(self, now):
                pace.left.append(now)

        return Turn()


@pytest.mark.parametrize("mode", MODES)
def test_an_end_waits_for_its_turn(bench: Bench, mode: Mode) -> None:
    """Where a rate is shared, a message that is recorded leaves when its turn has come, in order."""
    bench.server.mode = mode
    pace = SharedPace()
    assert bench.run(throttle=pace).reason is Reason.FINISHED
    assert pace.left == pytest.approx([1, 2, 3, 4, 5], abs=0.05)
    assert bench.ends_left == [2, 3, 4, 5, 6]


# --- stopping -------------------------------------------------------------------------------------------


def test_a24_a_stop_finishes_what_is_in_flight(bench: Bench) -> None:
    """No new message is begun; what was begun gets its outcome."""
    bench.server.mode = "window"
    listed(bench, 30)
    bench.stop = stop = threading.Event()

    def observe(step) -> None:
        if step.counts[Status.ACCEPTED] == 4:
            stop.set()

    end = bench.run(observe=observe)
    assert end.reason is Reason.INTERRUPTED
    assert 4 < len(bench.server.begun) < 30
    assert dict(end.counts.by_status) == {Status.ACCEPTED: len(bench.server.begun)}
    assert bench.ledger.counts()[Status.PENDING] == 30 - len(bench.server.begun)


class StopAt:
    """A stop at a moment of virtual time."""

    def __init__(self, clock: VirtualClock, moment: float) -> None:
        self._clock = clock
        self._moment = moment

    def is_set(self) -> bool:
        """Return whether that moment has come."""
        return self._clock.monotonic() >= self._moment


def test_a24_a_stop_is_noticed_while_nothing_happens(bench: Bench) -> None:
    """Within a fifth of a second, in a pause between two messages and before a message is handed over."""
    bench.stop = StopAt(bench.clock, 10.1)
    assert bench.run(rates="1/m").reason is Reason.INTERRUPTED
    assert 10.1 <= bench.clock.monotonic() <= 10.31
    assert len(bench.server.accepted) == 1


def test_a24_after_thirty_seconds_the_silent_ones_are_in_doubt(bench: Bench) -> None:
    """A server that never answers cannot block the run; the promised row is in doubt, the others pending."""
    bench.server.fates = {3: [SILENCE]}
    bench.stop = StopAt(bench.clock, 0.1)
    end = bench.run()
    assert end.reason is Reason.INTERRUPTED
    assert 30 <= bench.clock.monotonic() < 31
    assert bench.states()[3] == "in_doubt"
    assert bench.states()[6] == "pending"


def test_a24_nothing_is_handed_over_after_a_stop(bench: Bench) -> None:
    """A message that was begun, but whose end has not left, is abandoned immediately: it stays as it was."""
    bench.stop = stop = threading.Event()
    bench.server.mode = "overlap"
    end = bench.run(observe=lambda _step: stop.set())
    assert (end.reason, bench.server.answered) == (Reason.INTERRUPTED, [2])
    assert bench.clock.monotonic() < 1
    assert [*bench.states().values()] == ["accepted", *["pending"] * 4]


@pytest.mark.parametrize("mode", MODES)
def test_an_end_whose_time_is_over_does_not_leave(bench: Bench, mode: Mode) -> None:
    """It comes back as never handed over, on disk, too, and goes out when it may."""
    answers = iter([True, False, False])
    bench.server.mode = mode
    end = bench.run(may_release=lambda: next(answers, True))
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    assert sorted(bench.ends_left) == sorted(bench.server.answered) == [2, 3, 4, 5, 6]
    withheld = bench.ledger._db.rows("SELECT DISTINCT reason FROM attempt WHERE status = 'pending'")
    assert withheld == [("withdrawn",)]
    assert max(row.delivery.attempts for row in bench.standing.results() if row.delivery) == 1


class Choosy:
    """A ledger that leaves some rows to others, and promises some only later."""

    begin_intent = None

    def __init__(self, ledger: Ledger, others: set[str], later: set[str]) -> None:
        self._ledger = ledger
        self.refused = others
        self.later = later
        self.give_back = ledger.attempts.give_back
        self.revise = ledger.attempts.revise
        self.record_outcomes = ledger.attempts.record_outcomes

    @property
    def handed_over(self) -> int:
        """That of the ledger."""
        return self._ledger.attempts.handed_over

    def record_intent(self, attempts, outcomes=()) -> set[str]:
        """Promise what is not refused."""
        refused = {one.key for one in attempts} & (self.refused | self.later)
        self.later = self.later - refused
        self._ledger.attempts.record_intent([one for one in attempts if one.key not in refused], outcomes)
        return refused


class Distant(Choosy):
    """The same a round trip away: intents are begun when their messages are submitted."""

    def begin_intent(self, attempts, outcomes=()):  # type: ignore[override]
        """Promise immediately; it is heard of later."""
        refused = self.record_intent(attempts, outcomes)
        return Promising(lambda: frozenset(refused))


ALWAYS_READABLE = os.open(os.devnull, os.O_RDONLY)


class Far(Distant):
    """The same farther away: an answer is there when it has been looked for three times."""

    def begin_intent(self, attempts, outcomes=()):  # type: ignore[override]
        """Promise immediately; it is heard of later, and others can be sent meanwhile."""
        refused = frozenset(self.record_intent(attempts, outcomes))
        looked = iter([ALWAYS_READABLE] * 3)
        return Promising(lambda: refused, lambda: next(looked, -1))


@pytest.mark.parametrize("kind", [Choosy, Distant, Far])
@pytest.mark.parametrize("mode", MODES)
def test_rows_that_others_send_are_left_alone(bench: Bench, mode: Mode, kind: type[Choosy]) -> None:
    """Nothing of them leaves, and the rest goes out, also what was refused only for now."""
    bench.server.mode = mode
    bench.recorder = kind(bench.ledger, {"k3"}, {"k5"})
    end = bench.run()
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 4}
    assert sorted(bench.server.answered) == sorted(bench.ends_left) == [2, 4, 5, 6]
    assert bench.states()[3] == "pending"


def test_messages_are_handed_over_while_other_intents_are_on_their_way(bench: Bench) -> None:
    """An answer is not waited for before it is there, and no end leaves before its own intent is heard of."""
    heard: set[int] = set()
    early: list[int] = []

    class Noting(Far):
        """It notes what is heard of, and what was asked for too early."""

        def begin_intent(self, attempts, outcomes=()):  # type: ignore[override]
            """See `Far`."""
            far = super().begin_intent(attempts, outcomes)

            def end() -> frozenset[str]:
                rows = {each.row for each in attempts}
                early.extend(rows if far.answer_at() >= 0 else ())
                heard.update(rows)
                return frozenset(far.end())

            return Promising(end, far.answer_at)

    def released(rows: set[int]) -> None:
        bench.released(rows)
        assert rows <= heard

    listed(bench, 200)
    bench.server.mode = "window"
    bench.recorder = Noting(bench.ledger, set(), set())
    bench.server.released = released
    assert dict(bench.run().counts.by_status) == {Status.ACCEPTED: 200}
    assert (len(heard), early) == (200, [])


@pytest.mark.parametrize("mode", MODES)
def test_an_announced_intent_whose_message_never_left_is_taken_back(bench: Bench, mode: Mode) -> None:
    """It is on the disk when the connection drops, or the recipient is refused: no row stays behind it."""
    bench.server.mode = mode
    bench.server.fates = {3: [DROPPED_BEFORE], 5: [NO_SUCH_USER]}
    bench.recorder = Distant(bench.ledger, set(), set())
    bench.run()
    assert [*bench.states().values()] == ["accepted"] * 3 + ["rejected", "accepted"]
    assert len(bench.server.accepted) == 4


def test_intents_that_are_refused_cost_no_outcome(bench: Bench) -> None:
    """What was handed over before still gets its answer, and that is recorded; nothing else leaves."""

    class Refusing:
        """A ledger that takes two intents, and outcomes for ever."""

        handed_over, refused, begin_intent = 0, (), None

        def record_intent(self, attempts, outcomes=()) -> tuple[str, ...]:
            if len(bench.ends_left) >= 2:
                bench.ledger.attempts.record_outcomes(outcomes)
                raise IntentRefusedError("the ledger was deleted", code="L713")
            return bench.ledger.attempts.record_intent(attempts, outcomes)

        def record_outcomes(self, outcomes) -> None:
            bench.ledger.attempts.record_outcomes(outcomes)

        def give_back(self, keys) -> None:
            bench.ledger.attempts.give_back(keys)

        def revise(self, revision) -> None:
            raise AssertionError("nothing is out of step")

    bench.server.mode = "window"
    bench.recorder = Refusing()
    end = bench.run()
    assert end.reason is Reason.LEDGER
    assert end.error is not None
    assert end.error.code == "L713"
    taken = len(bench.server.accepted)
    assert 2 <= taken < 5
    assert [*bench.states().values()] == ["accepted"] * taken + ["pending"] * (5 - taken)


def test_a10_a_failing_ledger_lets_nothing_more_leave(bench: Bench) -> None:
    """The message waiting for its promise is never ended."""
    bench.ledger._db.execute("PRAGMA query_only = ON")
    end = bench.run()
    assert (end.reason, bench.server.accepted) == (Reason.LEDGER, [])
    assert isinstance(end.error, LedgerError)
    assert bench.server.closed == 1


def test_a_failing_template_settles_what_is_in_flight_first(bench: Bench) -> None:
    """The exception comes out after the outcomes are recorded."""
    bench.server.mode = "window"

    def broken() -> Iterator[Job]:
        for work in bench.work():
            if work.message.row == 5:
                raise ZeroDivisionError
            yield work

    with pytest.raises(ZeroDivisionError):
        bench.run(broken())
    assert bench.states() == {2: "accepted", 3: "accepted", 4: "accepted", 5: "pending", 6: "pending"}


def test_a35_a_failing_display_loses_no_outcome(bench: Bench) -> None:
    """A closed pipe ends the run, with everything in flight recorded."""

    def observe(step) -> None:
        raise BrokenPipeError

    bench.server.mode = "overlap"
    with pytest.raises(BrokenPipeError):
        bench.run(observe=observe)
    assert list(bench.states().values()) == ["accepted", "accepted", "pending", "pending", "pending"]


def test_a24_a_second_signal_leaves_at_once(bench: Bench) -> None:
    """KeyboardInterrupt is not held up by politeness or by the disk: states stay as they are there."""

    def observe(step) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        bench.run(observe=observe)
    assert bench.states()[2] == "handing_over"
    assert bench.server.closed == 1


def test_b31_what_a_session_out_of_step_settled_is_taken_back(bench: Bench) -> None:
    """A refusal that may be another row's is in doubt, in the ledger and in the counts; others continue."""
    bench.server.mode = "overlap"
    bench.server.fates = {3: [Fate("content", "554 5.7.1 no\r\n250 2.0.0 queued")]}
    end = bench.run()
    assert bench.states() == {2: "accepted", 3: "in_doubt", 4: "accepted", 5: "accepted", 6: "accepted"}
    assert (end.counts[Status.IN_DOUBT], end.counts[Status.REJECTED], end.counts[Status.ACCEPTED]) == (
        1,
        0,
        4,
    )
