"""The send loop against a scripted server: order of promises, and what each kind of answer leads to."""

from __future__ import annotations

import os
import threading
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING

import pytest

from mailmerge.addresses import Address
from mailmerge.clock import VirtualClock
from mailmerge.errors import AuthError, ConnectionLost, LedgerError, SessionError, TlsError
from mailmerge.ledger.account_usage import AccountUsage
from mailmerge.ledger.ledger import Ledger
from mailmerge.model import Envelope, Listed, Message, Outcome, Phase, Rate, Reply, Scope, Status
from mailmerge.options import SendOptions
from mailmerge.sending.backoff import RetryPolicy
from mailmerge.sending.policy import Policy
from mailmerge.sending.runs import Progress, Reason, RunEnd
from mailmerge.sending.sender import Sender
from mailmerge.sending.throttle import Throttle
from mailmerge.sending.work_queue import Job
from mailmerge.smtp.events import Closed, Completed, Event, ReleaseNeeded
from mailmerge.validation import parse_rate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from mailmerge.sending.group_commit import LedgerWriter

NOW = datetime(2026, 11, 22, 10, 0, tzinfo=UTC)
SENDER = Address.parse("me@example.org")

OK = Outcome(Status.ACCEPTED, Scope.ROW, Phase.CONTENT, Reply(250, ("queued",)))
REJECTED = Outcome(Status.REJECTED, Scope.ROW, Phase.CONTENT, Reply(554, ("no",)), "other")
NO_SUCH_USER = Outcome(Status.REJECTED, Scope.ROW, Phase.RCPT, Reply(550, ("no such user",)), "recipient")
GREYLISTED = Outcome(Status.DEFERRED, Scope.ROW, Phase.RCPT, Reply(451, ("greylist",)), "greylist", 300.0)
QUOTA = Outcome(Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(550, ("daily limit",)), "quota", 86400.0)
WRONG_SENDER = Outcome(
    Status.PENDING, Scope.CONFIG, Phase.MAIL, Reply(553, ("must equal",)), "sender", hint="fix"
)
TOO_FAST = Outcome(
    Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(454, ("rate",)), "rate", 5.0, slower=True
)
PAUSE = Outcome(Status.DEFERRED, Scope.ACCOUNT, Phase.MAIL, Reply(421, ("unusual rate",)), "rate", 900.0)
CLOSING = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, Reply(421, ("closing",)), "server")
CAP = Outcome(Status.PENDING, Scope.CONNECTION, Phase.MAIL, Reply(451, ("MI:DMC",)), "connection_cap")
DROPPED_BEFORE = Outcome(Status.PENDING, Scope.CONNECTION, Phase.DATA, reason="dropped")
DROPPED_AFTER = Outcome(Status.IN_DOUBT, Scope.CONNECTION, Phase.CONTENT, reason="dropped")
SILENCE = "silence"

EARLY = (Phase.MAIL, Phase.RCPT, Phase.DATA)


@dataclass
class Server:
    """What the scripted server does, and what it saw."""

    clock: VirtualClock
    ledger: Ledger
    window: int = 1
    fates: dict[int, list[Outcome | str]] = field(default_factory=dict)
    """Row to answers, one per attempt; rows not named are accepted."""
    opening: list[SessionError | None] = field(default_factory=list)
    """What each connection attempt meets; later ones succeed."""
    reachable: Callable[[], bool] = lambda: True
    connections: int = 0
    opened: int = 0
    probes: int = 0
    closed: int = 0
    begun: list[int] = field(default_factory=list)
    accepted: list[bytes] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    on_connection: list[int] = field(default_factory=list)
    wires: list[ScriptedWire] = field(default_factory=list)
    alive: bool = True
    """What a probe finds out."""

    def connect(self) -> ScriptedWire:
        self.connections += 1
        self.wires.append(ScriptedWire(self, self.connections))
        return self.wires[-1]

    def fate(self, row: int) -> Outcome | str:
        answers = self.fates.get(row)
        return answers.pop(0) if answers else OK


class ScriptedWire:
    """A wire without a network: a poll brings messages to their end, and answers those that are promised."""

    def __init__(self, server: Server, number: int) -> None:
        self._server = server
        self.id = f"c{number}"
        self._number = number
        self.mode = "window" if server.window > 1 else "off"
        self.max_size = None
        self._flying: dict[int, tuple[Message, Outcome | str]] = {}
        self._asked: set[int] = set()
        self._promised: set[int] = set()
        self._gone = False
        self._read, self._write = os.pipe()
        os.write(self._write, b"x")

    @property
    def in_flight(self) -> int:
        return len(self._flying)

    def open(self) -> None:
        server = self._server
        error = server.opening.pop(0) if server.opening else None
        if error is None and not server.reachable():
            error = ConnectionLost("no route")
        if error:
            raise error
        server.opened += 1

    def can_accept(self) -> bool:
        return not self._gone and len(self._flying) < self._server.window

    def submit(self, message: Message, token: int) -> None:
        assert self.can_accept()
        self._server.begun.append(message.row)
        self._server.times.append(self._server.clock.monotonic())
        self._server.on_connection.append(self._number)
        self._flying[token] = (message, self._server.fate(message.row))

    def release(self, tokens: Iterable[int]) -> None:
        tokens = list(tokens)
        assert tokens
        promised = {
            result.key for result in self._server.ledger.results() if result.status is Status.HANDING_OVER
        }
        assert {self._flying[token][0].key for token in tokens} <= promised
        self._promised.update(tokens)

    def poll(self, timeout: float) -> list[Event]:
        events: list[Event] = []
        for token, (message, fate) in list(self._flying.items()):
            if isinstance(fate, Outcome) and (token in self._promised or fate.phase in EARLY):
                if fate is OK:
                    assert token in self._promised
                    self._server.accepted.append(message.content)
                del self._flying[token]
                events.append(Completed(token, fate))
                if fate.scope is Scope.CONNECTION and fate.reason in {"dropped", "server"}:
                    self._gone = True
                    events += self._drop_all()
                    return events
            elif token not in self._asked:
                self._asked.add(token)
                events.append(ReleaseNeeded(token))
        if not events:
            self._server.clock.sleep(timeout)
        return events

    def _drop_all(self) -> list[Event]:
        dropped = [Completed(token, DROPPED_BEFORE) for token in self._flying if token not in self._promised]
        dropped += [Completed(token, DROPPED_AFTER) for token in self._flying if token in self._promised]
        self._flying.clear()
        return [*dropped, Closed(ConnectionLost("dropped"))]

    def probe(self) -> bool:
        self._server.probes += 1
        alive, self._server.alive = self._server.alive, True
        return alive

    def fileno(self) -> int:
        return self._read

    wants_write = False

    def abort(self) -> list[Event]:
        self.close()
        return self._drop_all()[:-1]

    def close(self) -> None:
        self._server.closed += 1
        os.close(self._read)
        os.close(self._write)


@dataclass
class Bench:
    """One ledger, one server, one clock; several runs."""

    ledger: Ledger
    server: Server
    clock: VirtualClock
    stop: threading.Event = field(default_factory=threading.Event)
    steps: list[Progress] = field(default_factory=list)
    pulled: int = 0
    recorder: LedgerWriter | None = None
    """Stands in for the ledger where a test counts commits."""

    def work(self) -> Iterator[Job]:
        for delivery in self.ledger.due(self.clock.now()):
            self.pulled += 1
            yield Job(
                message(delivery.row, delivery.date or self.clock.now()),
                delivery.attempts + 1,
                delivery.address,
                delivery.date or self.clock.now(),
                "r",
                "v1",
                delivery.first_attempt,
            )

    def run(self, work: Iterable[Job] | None = None, rates: str = "", **more) -> RunEnd:
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
        return sender.run(self.work() if work is None else work)

    def states(self) -> dict[int | None, str]:
        return {result.row: result.status.value for result in self.ledger.results()}


def message(row: int, date: datetime) -> Message:
    envelope = Envelope(SENDER, (Address.parse(f"u{row}@example.org"),))
    content = f"Date: {date:%c}\r\n\r\nrow {row}\r\n".encode()
    return Message(f"<m{row}@example.org>", f"k{row}", row, envelope, (content,))


@pytest.fixture
def bench():
    clock = VirtualClock(NOW)
    with Ledger.scratch(None, "x", now=clock.now) as ledger:
        ledger.note_version("v1", {})
        made = Bench(ledger, Server(clock, ledger), clock)
        listed(made, 5)
        yield made


def listed(bench: Bench, rows: int) -> None:
    with bench.ledger.new_listing() as listing:
        for row in range(2, 2 + rows):
            listing.add(Listed(row, f"k{row}", f"u{row}@example.org", Status.PENDING))


# --- the good case --------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 2, 64])
def test_all_rows_in_list_order_over_one_connection(bench: Bench, window: int) -> None:
    """Every row once, the promise before its end, in every mode."""
    listed(bench, 150)
    bench.server.window = window
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
    """Alone: last outcome with the next intent; in a window: one commit for all of it."""
    commits = []

    class Counting:
        handed_over = 0

        def record_intent(self, attempts, outcomes=()) -> None:
            commits.append((len(attempts), len(outcomes)))
            bench.ledger.attempts.record_intent(attempts, outcomes)

        def record_outcomes(self, outcomes) -> None:
            self.record_intent((), outcomes)

    bench.recorder = Counting()
    bench.run()
    assert commits == [(1, 0), (1, 1), (1, 1), (1, 1), (1, 1), (0, 1)]
    commits.clear()
    listed(bench, 128 + 5)
    bench.server.window = 64
    bench.run()
    assert commits == [(64, 0), (64, 64), (0, 64)]
    assert bench.ledger.attempts.handed_over == 133


def test_messages_are_pulled_as_there_is_room(bench: Bench) -> None:
    """The generator is never further ahead than the window and one."""
    listed(bench, 50)
    bench.server.window = 4
    ahead = []

    def watched() -> Iterator[Job]:
        for work in bench.work():
            ahead.append(bench.pulled - len(bench.server.accepted))
            yield work

    bench.run(watched())
    assert max(ahead) <= 5


def test_the_mark_follows(bench: Bench) -> None:
    """The high-water mark is told at the start, once a second, and at the end."""
    marks: list[int] = []
    bench.run(rates="1/s", mark=marks.append)
    assert marks[-1] == 5
    assert marks == sorted(marks)


def test_several_sessions_share_the_work(bench: Bench) -> None:
    """Each connection has its own messages in flight; nobody is written to twice."""
    listed(bench, 20)
    end = bench.run(sessions=3)
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 20}
    assert sorted(bench.server.begun) == list(range(2, 22))
    assert set(bench.server.on_connection) == {1, 2, 3}


# --- rows -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("window", [1, 64])
def test_b8_a_refused_row_does_not_stop_the_others(bench: Bench, window: int) -> None:
    """Rejected at RCPT or after the content, deferred: recorded, and on with the next."""
    bench.server.window = window
    bench.server.fates = {3: [NO_SUCH_USER], 4: [REJECTED], 5: [GREYLISTED]}
    end = bench.run()
    assert end.reason is Reason.FINISHED
    assert bench.states() == {2: "accepted", 3: "rejected", 4: "rejected", 5: "deferred", 6: "accepted"}
    assert bench.ledger.next_due() == NOW + timedelta(seconds=330)
    assert bench.ledger.attempts.handed_over == 3


def test_a29_4yz_for_ever_expires(bench: Bench) -> None:
    """Eight tries, each when due, then `expired` with the last reply."""
    bench.server.fates = {2: [GREYLISTED] * 20}
    for _ in range(8):
        bench.run()
        bench.clock.sleep(86400 / 2)
    assert bench.states()[2] == "expired" or bench.server.begun.count(2) < 8
    bench.run()
    assert bench.states()[2] == "expired"


def test_a6_dropped_before_the_end_is_sent_again(bench: Bench) -> None:
    """The same bytes, in the same place of the order, over a new connection; no try is used up."""
    bench.server.fates = {3: [DROPPED_BEFORE]}
    end = bench.run()
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    assert bench.server.begun == [2, 3, 3, 4, 5, 6]
    assert bench.server.opened == 2
    result = list(bench.ledger.results())[1]
    assert result.delivery is not None
    assert result.delivery.attempts == 1


def test_a4_dropped_after_the_end_is_in_doubt(bench: Bench) -> None:
    """Not sent again, also not in the next run; the other rows go on over a new connection."""
    bench.server.fates = {3: [DROPPED_AFTER]}
    bench.run()
    bench.run()
    assert bench.states() == {2: "accepted", 3: "in_doubt", 4: "accepted", 5: "accepted", 6: "accepted"}
    assert bench.server.begun.count(3) == 1


def test_a_drop_in_a_window_sorts_the_rows(bench: Bench) -> None:
    """Promised ones are in doubt, the others go out once, in list order."""
    bench.server.window = 64
    bench.server.fates = {4: [DROPPED_BEFORE]}
    bench.run()
    states = bench.states()
    assert set(states.values()) <= {"accepted", "in_doubt"}
    assert states[4] == "accepted"
    assert len(bench.server.accepted) == len(set(bench.server.accepted))


def test_a4_three_doubts_in_a_row_stop_the_run(bench: Bench) -> None:
    """Something between us and the server cuts connections: a person must look."""
    bench.server.fates = {row: [DROPPED_AFTER] for row in (2, 3, 4)}
    end = bench.run()
    assert end.reason is Reason.BREAKER
    assert bench.states() == {2: "in_doubt", 3: "in_doubt", 4: "in_doubt", 5: "pending", 6: "pending"}


def test_ten_rejects_stop_the_run(bench: Bench) -> None:
    """The breaker leaves the other rows untouched."""
    listed(bench, 20)
    bench.server.fates = {row: [REJECTED] for row in range(2, 22)}
    end = bench.run()
    assert (end.reason, len(bench.server.begun)) == (Reason.BREAKER, 10)
    assert bench.ledger.counts()[Status.PENDING] == 10


def test_a_row_that_ends_every_connection_is_set_aside(bench: Bench) -> None:
    """Some filters drop the connection for a content; after five times the others go on."""
    bench.server.fates = {3: [DROPPED_BEFORE] * 50}
    end = bench.run()
    assert end.reason is Reason.FINISHED
    assert bench.server.begun.count(3) == 5
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

        counted: list[tuple[int, int]] = []
        bench.recorder = SimpleNamespace(
            record_intent=record, record_outcomes=lambda outcomes: record((), outcomes), handed_over=0
        )
        bench.server.window = 2
        end = bench.run(quota=usage.quota("me", (), bench.clock))
        assert end.reason is Reason.FINISHED
        assert counted
        assert all(promised <= used for promised, used in counted)
        assert counted[-1] == (5, 5)


def test_b10_a_refused_sender_stops_at_the_first(bench: Bench) -> None:
    """Exactly one MAIL, the row stays pending, the fix is handed on."""
    bench.server.fates = {2: [WRONG_SENDER]}
    end = bench.run()
    assert (end.reason, end.hint, bench.server.begun) == (Reason.REFUSED, "fix", [2])
    assert "553 must equal" in end.message
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
    """Refused three times: stop, nothing offered; a third success goes on."""
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


def test_b6_421_three_times_in_a_row_ends_the_run(bench: Bench) -> None:
    """The server does not want us now; with progress in between it may close as it likes."""
    bench.server.fates = {2: [CLOSING] * 3}
    assert bench.run().reason is Reason.NETWORK
    bench.server.fates = {row: [CLOSING] for row in range(2, 7)}
    assert dict(bench.run().counts.by_status) == {Status.ACCEPTED: 5}


def test_b7_a_cap_per_connection_means_the_next_one(bench: Bench) -> None:
    """The row goes out once more over a new connection, at once and without using up a try."""
    bench.server.fates = {4: [CAP]}
    end = bench.run()
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 5}
    assert bench.server.begun == [2, 3, 4, 4, 5, 6]
    assert bench.server.on_connection == [1, 1, 1, 2, 2, 2]
    assert bench.clock.monotonic() < 1


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


@pytest.mark.parametrize("window", [1, 64])
def test_the_throttle_spaces_the_offers(bench: Bench, window: int) -> None:
    """60/m: one a second, however much room the connection has; the clock is the only one to wait."""
    bench.server.window = window
    listed(bench, 30)
    bench.run(rates="60/m")
    gaps = [b - a for a, b in zip(bench.server.times, bench.server.times[1:], strict=False)]
    assert min(gaps) >= 0.97
    assert bench.server.times[-1] == pytest.approx(29, rel=0.03)


# --- stopping -------------------------------------------------------------------------------------------


def test_a24_a_stop_finishes_what_is_in_flight(bench: Bench) -> None:
    """No new message is begun; what was begun gets its outcome."""
    bench.server.window = 3
    listed(bench, 30)

    def observe(step) -> None:
        bench.stop.set()

    end = bench.run(observe=observe)
    assert end.reason is Reason.INTERRUPTED
    assert len(bench.server.begun) == 3
    assert dict(end.counts.by_status) == {Status.ACCEPTED: 3}
    assert bench.ledger.counts()[Status.PENDING] == 27


def test_a24_after_thirty_seconds_the_silent_ones_are_in_doubt(bench: Bench) -> None:
    """A server that never answers cannot hold the run; the promised row is in doubt, the others pending."""
    bench.server.fates = {3: [SILENCE]}

    def observe(step) -> None:
        bench.stop.set()

    bench.server.window = 2
    end = bench.run(observe=observe)
    assert end.reason is Reason.INTERRUPTED
    assert 30 <= bench.clock.monotonic() < 31
    assert bench.states()[3] == "in_doubt"
    assert bench.states()[6] == "pending"


def test_a10_a_failing_ledger_lets_nothing_more_leave(bench: Bench) -> None:
    """The message waiting for its promise is never ended."""
    bench.ledger._db.execute("PRAGMA query_only = ON")
    end = bench.run()
    assert (end.reason, bench.server.accepted) == (Reason.LEDGER, [])
    assert isinstance(end.error, LedgerError)
    assert bench.server.closed == 1


def test_a_failing_template_settles_what_is_in_flight_first(bench: Bench) -> None:
    """The exception comes out after the outcomes are recorded."""
    bench.server.window = 64

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

    bench.server.window = 2
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
