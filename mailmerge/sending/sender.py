"""The send loop: submits messages to its connections, records each intent durably, records the outcomes.

The order is what matters, and it is the same in every mode::

    take a job -> submit (all but its end may be sent) -> record the intent, durably -> release its end
                                                             |
              decide <- outcome <- the server answers  <-----'

1. **Gates before the submission.** Throttle, quota, a pause, the connection's own window: each may delay the
   next message, but never one that was submitted. Waiting after MAIL would make the server wait.
2. **The intent before the end.** A connection reports when only the end of a message is left to send
   (`ReleaseNeeded`). The end is sent once the ledger has the intent on disk, together with all outcomes so
   far; with a window in flight one commit serves all of it. If several workers share a rate, the end then
   waits for its turn, in the order of its connection.
3. **The loop only blocks in a poll**, which ends at the next moment that matters: an outcome that has to be
   recorded, a rate that allows the next message, a slice of time after which a stop must be noticed.

The loop decides nothing: `mailmerge.sending.policy` decides what follows from an outcome. The loop ends when
the queue is empty, or when there is a reason to end; messages in flight get their outcome first.
"""

from __future__ import annotations

import contextlib
import math
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypeVar

from msgspec.structs import replace

from mailmerge.clock import ClockWatch
from mailmerge.errors import AuthError, LedgerError, SessionError, TlsError
from mailmerge.ledger.attempts import IntentRefusedError
from mailmerge.model import Outcome, Status
from mailmerge.sending.connections import ConnectionPool, InFlight, Settled, UnconfirmedRows
from mailmerge.sending.group_commit import OutcomeWriter, ProgressTally
from mailmerge.sending.policy import History
from mailmerge.sending.runs import Again, Context, Reason, RunEnd
from mailmerge.sending.work_queue import HeldEnds, WorkQueue
from mailmerge.smtp.state import Closed, Completed, InStep, ReleaseNeeded, Revised

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Quota, Reservation
    from mailmerge.ledger.attempts import Settlement
    from mailmerge.model import Attempt
    from mailmerge.sending.connections import ConnectionSlot, Transport
    from mailmerge.sending.group_commit import LedgerWriter, OutcomeListener
    from mailmerge.sending.policy import Policy
    from mailmerge.sending.runs import Progress, RunDecision, StopFlag
    from mailmerge.sending.throttle import Pace
    from mailmerge.sending.work_queue import Job
    from mailmerge.smtp.state import Event

_Done = TypeVar("_Done")
_SLICE = 0.2
"""A stop is noticed within this many seconds."""
_GRACE = 30.0
"""Seconds that messages in flight have for their outcome after a stop."""
_GOOD_BYE = 1.0
"""Seconds for the reply to QUIT: nothing depends on it, and others wait for us meanwhile."""
_CLOSE_IF_IDLE = 30.0
"""Before a longer wait, in seconds, a connection is closed: servers close idle ones anyway."""
_TELL_IF_IDLE = 2.0
_LOOK_AGAIN = 1.0  # while nothing may be submitted
_GROUP = 16  # intents that are on their way while more messages are made
_NAP = 0.01  # for an idle connection that clears something up (RSET)


class Sender:
    """Sends the messages of one run; use it once.

    Args:
        ledger: records intents and outcomes.
        connect: returns a connection, not yet opened.
        throttle: decides when the next message may begin.
        clock: the time, and how to wait.
        policy: decides what follows from an outcome.
        stop: set from outside: the run ends, with 30 seconds for what is in flight.
        observe: called at every step.
        random: returns numbers from 0 up to 1, for jitter.
        quota: what the account may still send; None: not counted.
        sessions: how many connections may be open at the same time.
        mark: called now and then with the number of hand-overs in the ledger.
        listener: gets durable outcomes, pauses and new connections; None: nobody listens.
        unwanted: returns whether a message whose turn has come must not be sent after all.
        held_until: returns until when, by the steady clock, nothing may be submitted; 0: it may be now.
        closed_until: the same for the hours in which messages may be sent.
        may_release: returns whether the end of a recorded message may still be sent; None: always, because
            nobody else could take over its row.

    """

    def __init__(  # noqa: PLR0913  each is a replaceable part
        self,
        ledger: LedgerWriter,
        connect: Callable[[], Transport],
        throttle: Pace,
        clock: Clock,
        *,
        policy: Policy,
        stop: StopFlag,
        observe: Callable[[Progress], None],
        random: Callable[[], float],
        quota: Quota | None = None,
        sessions: int = 1,
        mark: Callable[[int], None] | None = None,
        listener: OutcomeListener | None = None,
        unwanted: Callable[[Job], bool] = lambda _job: False,
        held_until: Callable[[], float] = lambda: 0.0,
        closed_until: Callable[[], float] = lambda: 0.0,
        may_release: Callable[[], bool] | None = None,
    ) -> None:
        self._listener = listener
        self._outcomes = OutcomeWriter(ledger, clock, quota=quota, mark=mark, recorded=self._recorded)
        self._pool = ConnectionPool(connect, clock, sessions)
        self._throttle = throttle
        self._clock = clock
        self._policy = policy
        self._history = History()
        self._unwanted = unwanted
        self._held_until = held_until
        self._closed_until = closed_until
        self._may_release = may_release
        self._withheld: list[InFlight] = []
        """Messages whose end may not be sent; nothing behind them on their connection can be either."""
        self._left_alone: set[str] = set()  # keys of rows that other workers have to send
        self._held = 0.0  # the same, as last reported
        self._stop = stop
        self._tally = ProgressTally(observe)
        self._random = random
        self._quota = quota
        self._queue = WorkQueue(())
        self._in_flight: dict[int, InFlight] = {}
        self._unconfirmed = UnconfirmedRows()
        self._submitted = 0
        self._end: RunEnd | None = None
        self._refused = False  # the ledger can record no more intents
        self._ends: HeldEnds[InFlight] = HeldEnds()
        self._needed: list[int] = []  # messages whose intent is to be recorded next
        self._fresh: list[InFlight] = []

    def run(self, jobs: Iterable[Job]) -> RunEnd:
        """Send *jobs*, pulling each one when there is room for it.

        Whatever ends the run, outcomes known by then are recorded and messages in flight get up to 30
        seconds for theirs; only a `KeyboardInterrupt` or similar ends it immediately.

        Raises:
            Exception: what *jobs* or the observer raised, after the messages in flight are settled.

        """
        self._queue = WorkQueue(jobs, self._is_passed_over)
        watch = ClockWatch(self._clock)
        try:
            self._loop(watch)
        except LedgerError as error:
            # Nothing can be recorded any more, so nothing more may be sent: not even what is half written.
            self._end = RunEnd(Reason.LEDGER, error.message, error.hint, error)
        except BaseException:
            # A second signal, or a bug of ours: states stay as they are on disk.
            self._pool.abort()
            raise
        stopped = self._stop.is_set()
        self._pool.close(within=_SLICE if stopped else _GOOD_BYE)
        with contextlib.suppress(LedgerError):
            if self._end is None or self._end.reason is not Reason.LEDGER:
                self._collect(0.0)
            self._outcomes.note_mark()
        if stopped and not self._queue.empty and (self._end is None or self._end.reason is not Reason.LEDGER):
            self._end = RunEnd(Reason.INTERRUPTED, "stopped on request")
        if failure := (self._tally.failure or self._queue.failure):
            raise failure
        notes = (*self._throttle.notes(), *self._history.notes(), *watch.notes())
        return replace(self._end or RunEnd(Reason.FINISHED), counts=self._tally.counts, notes=notes)

    def _loop(self, watch: ClockWatch) -> None:
        grace_until = math.inf
        while True:
            watch.look()
            if self._stop.is_set():
                self._end = RunEnd(Reason.INTERRUPTED, "stopped on request")
            if self._draining and grace_until == math.inf:
                grace_until = self._clock.monotonic() + _GRACE
            self._advance()
            self._fill()
            self._announce()
            if not self._in_flight:
                self._make_durable()
                if self._over():
                    return
                self._idle()
            elif self._clock.monotonic() > grace_until or (self._draining and not self._handed_over()):
                self._cut_off()
            else:
                needed = self._needed + self._collect(self._poll_timeout())
                # In overlap mode the next message's MAIL is sent with the end of this one.
                self._fill()
                self._record(needed)
                self._release()
                if self._withheld:
                    self._take_back()

    def _is_passed_over(self, job: Job) -> bool:
        return job.message.key in self._left_alone or self._history.leaves(job) or self._unwanted(job)

    def _over(self) -> bool:
        return self._end is not None or self._queue.empty

    @property
    def _draining(self) -> bool:
        """Whether nothing more is handed over: messages in flight still get their outcome."""
        return self._refused or self._stop.is_set()

    def _handed_over(self) -> list[InFlight]:
        """Return what was handed over and has no outcome yet."""
        return [one for one in self._in_flight.values() if one.recorded and not one.withheld]

    def _finish(self, end: RunEnd) -> None:
        """End the run for this reason, unless it already has one."""
        if self._end is None:
            self._end = end

    # --- submitting -----------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self._end is None and not self._stop.is_set() and self._submit_next():
            if len(self._fresh) >= _GROUP:
                self._announce()

    def _submit_next(self) -> bool:
        """Submit the next message, if every gate is open."""
        now = self._clock.monotonic()
        if self._history.paused(now) or self._closed_until() > now or self._held_until():
            return False
        if not any(self._could_take(slot) for slot in self._pool):
            return False
        job = self._queue.peek()
        if job is None or self._throttle.delay(self._clock.monotonic(), job.domains) > 0:
            return False
        slot = self._slot_with_room()
        if slot is None or slot.connection is None:
            return False
        reservation = self._reserve(job)
        if self._end is not None:
            return False
        self._queue.take()
        turn = self._throttle.take(self._clock.monotonic(), job.domains)
        token = self._submitted = self._submitted + 1
        attempt = job.attempt(slot.connection.id)
        self._in_flight[token] = InFlight(token, job, slot, attempt, reservation, turn)
        self._fresh.append(self._in_flight[token])
        slot.submitted += 1
        slot.connection.submit(job.message, token)
        return True

    def _could_take(self, slot: ConnectionSlot) -> bool:
        if slot.busy:
            return False
        if slot.connection is None:
            return self._clock.monotonic() >= self._history.retry_at
        return not slot.retiring and slot.connection.can_accept(self._throttle.interval)

    def _slot_with_room(self) -> ConnectionSlot | None:
        """Return a connection with room, opening one if needed; None: none has room now."""
        for slot in self._pool:
            if not self._could_take(slot):
                continue
            if slot.alive() or (not slot.busy and self._stepped(slot, slot.connect)):
                return slot
            if self._end is not None:
                return None
        return None

    def _advance(self) -> None:
        """Continue with connections that are being opened or checked."""
        for slot in self._pool:
            if slot.busy and not self._stop.is_set():
                self._stepped(slot, slot.advance)

    def _stepped(self, slot: ConnectionSlot, step: Callable[[], bool]) -> bool:
        """Do a step, and what follows from it; return whether there is a connection to use."""
        try:
            usable = step()
        except SessionError as error:
            self._failed(error, opening=True)
            return False
        if slot.opened:
            self._history.learn_opened()
        return usable

    def _failed(self, error: SessionError | None, *, opening: bool = False) -> None:
        """Do what follows from a connection that could not be opened, or on which nothing was answered."""
        steady = self._clock.monotonic()
        run = self._policy.decide_failure(error, self._history, self._clock.now(), steady, opening=opening)
        self._history.learn_failure(run, steady)
        if self._listener is not None:
            self._listener.warn(run, error or "nothing was answered on the connection")
        if run.stop is not None:
            self._finish(run.stop)

    def _reserve(self, job: Job) -> Reservation | None:
        """Count the message against the account's limits; None: not counted, or the run ends here."""
        if self._quota is None:
            return None
        recipients = len(job.message.envelope.rcpt_to)
        try:
            if reservation := self._quota.reserve(recipients):
                return reservation
            free = self._quota.free_at(recipients)
            self._finish(RunEnd(Reason.QUOTA, "the account's own limit is reached", next_at=free))
        except LedgerError as error:  # the campaign's ledger works: what is in flight can still be recorded
            self._finish(RunEnd(Reason.LEDGER, error.message, error.hint, error))
        return None

    def _uncount(self, flight: InFlight) -> None:
        """Give back what was reserved for a message that was certainly not handed over."""
        if flight.reservation is not None and self._quota is not None and not flight.recorded:
            with contextlib.suppress(LedgerError):  # then they stay counted
                self._quota.release(flight.reservation)

    # --- waiting --------------------------------------------------------------------------------------

    def _idle(self) -> None:
        """Wait until a gate opens; nothing is in flight, everything is recorded."""
        now = self._clock.monotonic()
        gates = {
            "account": self._history.paused_until,
            "network": now if self._pool.connected else self._history.retry_at,
            "rate": now + self._rate_delay(),
            "hours": self._closed_until(),
        }
        why = max(gates, key=lambda name: gates[name])
        until = gates[why]
        held = self._held_until()
        if held:
            if held != self._held:
                self._tally.waiting("opt-outs", self._clock.now() + timedelta(seconds=held - now))
            until = max(until, now + _LOOK_AGAIN)
        self._held = held
        if until - now > _CLOSE_IF_IDLE:
            self._pool.close(within=_GOOD_BYE)
        if self._pool.busy:
            self._pool.wait(min(_SLICE, until - now) if until > now else _SLICE)
            return
        for slot in self._pool:
            # A connection may still have something to clear up (RSET), or have noticed that it is closed.
            busy = slot.connection is not None and not slot.connection.can_accept()
            self._hear(slot, slot.poll(_NAP if busy else 0.0))
        if until - now > _TELL_IF_IDLE:
            self._tally.waiting(why, self._clock.now() + timedelta(seconds=until - now))
            self._end_if_unseen()
        while not self._stop.is_set() and (rest := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(_SLICE, rest))

    def _rate_delay(self) -> float:
        """Return how many seconds the rates delay the next message, as far as it is known."""
        job = self._queue.head
        return self._throttle.delay(self._clock.monotonic(), job.domains if job else ())

    def _poll_timeout(self) -> float:
        """Return how many seconds a poll may last: until something has to be done without the server."""
        timeout = _SLICE
        commit_in = self._outcomes.commit_in()
        if commit_in is not None:
            timeout = min(timeout, commit_in)
        timeout = min(timeout, self._ends.next_turn - self._clock.monotonic())
        if not self._over() and not self._held_until() and any(map(self._could_take, self._pool)):
            gates = max(self._history.paused_until, self._closed_until())
            timeout = min(timeout, max(self._rate_delay(), gates - self._clock.monotonic(), 0.001))
        return max(timeout, 0.0)

    # --- events of the connections --------------------------------------------------------------------

    def _collect(self, timeout: float) -> list[int]:
        """Process the events of all connections; return the messages whose intent is to be recorded."""
        answer = self._outcomes.answer_at() if self._needed else -1
        polled = self._pool.poll(0.0 if self._needed and answer < 0 else timeout, answer)
        return [token for slot, events in polled for token in self._hear(slot, events)]

    def _hear(self, slot: ConnectionSlot, events: list[Event]) -> list[int]:
        needed = []
        now = self._clock.now()
        for event in events:
            if isinstance(event, ReleaseNeeded):
                needed.append(event.token)
            elif isinstance(event, Completed):
                self._settle(event.token, event.outcome, now)
            elif isinstance(event, InStep):
                for token in event.tokens:
                    self._unconfirmed.pop(token, None)
            elif isinstance(event, Revised):
                self._revise(event.token, event.outcome, now)
            elif isinstance(event, Closed):
                self._closed(slot, event.error)
        if slot.retiring and slot.connection is not None and not slot.connection.in_flight:
            useless, connection = slot.useless, slot.connection.id
            slot.close(within=_GOOD_BYE)
            self._hear(slot, slot.left())
            self._unconfirmed.confirm(connection)
            if useless:
                self._failed(None)
        return needed

    def _closed(self, slot: ConnectionSlot, error: SessionError | None) -> None:
        useless = slot.useless
        if slot.connection is not None:
            self._unconfirmed.confirm(slot.connection.id)
        slot.close(within=_GOOD_BYE)
        if useless or isinstance(error, AuthError | TlsError):
            self._failed(error)

    def _settle(self, token: int, outcome: Outcome, now: datetime) -> None:
        """Record an outcome, and do what follows from it."""
        flight = self._in_flight.pop(token)
        job, slot = flight.job, flight.slot
        fresh = slot.answered == 0 and not slot.retiring
        context = Context(job, flight.attempt.connection, fresh, now, self._clock.monotonic(), self._random)
        decision = self._policy.decide(outcome, self._history, context)
        self._history.learn(outcome, decision, context)
        row = decision.row
        self._unconfirmed[token] = Settled(flight, outcome, row)
        # A message whose connection broke before anything of it was answered leaves no record.
        if outcome.reply or row.again is Again.NO or self._outcomes.is_announced(flight.attempt):
            self._outcomes.settle(flight.attempt, outcome, row, now)
        self._uncount(flight)
        if row.again is Again.NEXT:
            self._queue.put_back(job)
        elif row.again is Again.LAST:
            self._queue.move_to_end(job)
        else:
            self._tally.row(job.message.row, job.address, row.status, outcome, len(self._in_flight))
            self._end_if_unseen()
        if row.status is Status.ACCEPTED:
            self._throttle.recover()
        self._react(slot, decision.run)
        if self._listener is not None:
            self._listener.warn(decision.run, outcome.reply or outcome.reason)

    def _revise(self, token: int, outcome: Outcome, now: datetime) -> None:
        """Replace an outcome by *outcome*: the session has proved out of step."""
        before = self._unconfirmed.pop(token, None)
        if before is None:
            return
        flight, old = before.flight, before.row
        job, slot = flight.job, flight.slot
        if old.again is not Again.NO and not self._queue.remove(job):
            return  # it is in flight again, on another connection
        context = Context(job, flight.attempt.connection, False, now, self._clock.monotonic(), self._random)
        self._history.take_back(before.outcome, flight.attempt.connection)
        decision = self._policy.decide(outcome, self._history, context)
        self._history.learn(outcome, decision, context)
        row = decision.row
        self._outcomes.revise(flight.attempt, outcome, old, row, now)
        if old.again is Again.NO:
            self._tally.take_back(old.status)
        if row.again is Again.NO:
            self._tally.row(job.message.row, job.address, row.status, outcome, len(self._in_flight))
        else:
            self._queue.put_back(job)
        self._react(slot, decision.run)

    def _react(self, slot: ConnectionSlot, run: RunDecision) -> None:
        """Do what an outcome requires of the run; the history already has how long to wait."""
        slot.answered += run.answered
        slot.retiring = slot.retiring or run.retire
        if run.slower:
            self._throttle.halve()
        if run.given_back:
            self._outcomes.give_back([job.message.key for job in run.given_back])
            self._tally.taken_back(Status.DEFERRED, len(run.given_back))
        if run.stop is not None:
            self._finish(run.stop)

    def _end_if_unseen(self) -> None:
        if self._tally.failure is not None:
            self._finish(RunEnd(Reason.INTERRUPTED, "the progress display failed"))

    def _recorded(self, settled: Sequence[Settlement]) -> None:
        if self._listener is not None:
            self._listener.tell(settled)
        if self._listener is not None and self._listener.failure is not None:
            self._finish(RunEnd(Reason.INTERRUPTED, "the program that follows the outcomes failed"))

    # --- intents --------------------------------------------------------------------------------------

    def _announce(self) -> None:
        """Begin to record the intents of what has just been submitted, if that can pass meanwhile."""
        if self._draining or self._outcomes.answer_at() >= 0:
            return
        self._intending(self._outcomes.conclude)
        fresh, self._fresh = self._fresh, []
        if self._outcomes.announces and fresh and not self._refused:
            attempts = [one.attempt for one in fresh if one.token in self._in_flight and not one.recorded]
            self._intending(partial(self._outcomes.announce, attempts))

    def _ripe(self, needed: list[int]) -> list[InFlight]:
        """Return what need not wait for the ledger's answer; the others are kept for later."""
        far = self._outcomes.travelling().union(flight.attempt.key for flight in self._fresh)
        flights = [self._in_flight[token] for token in needed if token in self._in_flight]
        self._needed = [flight.token for flight in flights if flight.attempt.key in far]
        return [flight for flight in flights if flight.attempt.key not in far]

    def _record(self, needed: list[int]) -> None:
        """Record the intents that the connections need, with the outcomes so far."""
        flights = self._ripe(needed)
        if not flights or self._draining:
            if self._outcomes.commit_in() == 0:
                self._make_durable()
            return
        if (refused := self._make_durable([flight.attempt for flight in flights])) is None:
            return
        for flight in flights:
            flight.recorded = not refused or flight.job.message.key not in refused
        self._ends.hold(flights)
        if refused:
            self._left_alone.update(set(refused).intersection(self._outcomes.refused))

    def _release(self) -> None:
        """Release the ends that are recorded and whose turn has come."""
        due = self._ends.due(self._clock.monotonic, self._in_flight)
        for slot in self._pool if due else ():
            mine = [flight for flight in due if flight.slot is slot]
            if not mine or slot.connection is None or self._withhold(mine):
                continue
            slot.connection.release([flight.token for flight in mine])
            self._needed += self._hear(slot, slot.poll(0.0))  # sends it now
            for flight in mine:
                if flight.turn is not None:
                    flight.turn.left(self._clock.monotonic())
        if due and self._end is None and not self._draining:
            self._queue.peek()  # makes the next message while the server is busy with these

    def _withhold(self, flights: Sequence[InFlight]) -> bool:
        """Withhold the ends of all messages of one connection for good, if not all of them may be sent."""
        slot = flights[0].slot
        if (
            (self._may_release is None or self._may_release())
            and all(flight.recorded for flight in flights)
            and not any(flight.slot is slot for flight in self._withheld)
        ):
            return False
        slot.retiring = True
        for flight in flights:
            flight.withheld = True
        self._withheld += flights
        return True

    def _take_back(self) -> None:
        """Cut the connections on which ends were withheld, and queue those messages again.

        Closing is the only way to keep a message from becoming complete. What was sent before gets its
        outcome first.
        """
        leaving = {id(one.slot) for one in self._handed_over()}
        for flight in self._withheld:
            slot = flight.slot
            if id(slot) in leaving or flight.token not in self._in_flight:
                continue
            for event in slot.abort():
                if isinstance(event, Completed) and event.outcome.reply is None:
                    self._withdraw(event.token)
                elif not isinstance(event, Closed):
                    self._hear(slot, [event])
            self._unconfirmed.confirm(flight.attempt.connection)
        self._withheld = [flight for flight in self._withheld if flight.token in self._in_flight]

    def _withdraw(self, token: int) -> None:
        """Queue a message again that was not completed; on disk its row is unchanged."""
        flight = self._in_flight.pop(token)
        self._outcomes.withdraw(flight.attempt, self._clock.now())
        self._uncount(flight)
        self._queue.put_back(flight.job)

    def _make_durable(self, attempts: Sequence[Attempt] = ()) -> Collection[str] | None:
        """Record intents and the outcomes so far; return the keys of those that may not be handed over."""
        return self._intending(partial(self._outcomes.record, attempts))

    def _intending(self, step: Callable[[], _Done]) -> _Done | None:
        """Do a step of recording; None: the run ends here, with all outcomes recorded."""
        try:
            return step()
        except IntentRefusedError as error:
            self._refused = True
            if self._end is None or self._end.reason is not Reason.INTERRUPTED:
                self._end = RunEnd(Reason.LEDGER, error.message, error.hint, error)
            return None

    def _cut_off(self) -> None:
        """Give up what is still unanswered: in doubt if its end may have been sent, else unchanged."""
        now = self._clock.now()
        for slot in self._pool:
            for event in slot.abort():
                if isinstance(event, Completed):
                    self._settle(event.token, event.outcome, now)
        self._in_flight.clear()
