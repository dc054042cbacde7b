"""The send loop: offers messages to its connections, promises them in the ledger, records the outcomes.

The order is the whole point. A message is offered (everything but its end may travel), its promise is made
durable together with the outcomes so far, only then may its end leave. Throttle, quota and the connection's
own window are independent gates in front of the offer; what was offered is never held back afterwards.
"""

from __future__ import annotations

import bisect
import contextlib
import select
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.clock import ClockWatch
from mailmerge.errors import AuthError, LedgerError, SessionError, TlsError
from mailmerge.model import Counts, Outcome, Phase, Status
from mailmerge.sending.backoff import ReconnectBackoff, ServerPause
from mailmerge.sending.connections import Flight, Line, Wire
from mailmerge.sending.domain_blocks import DomainBlocks
from mailmerge.sending.group_commit import LedgerWriter, OutcomeWriter
from mailmerge.sending.policy import Effect, Verdict, judge
from mailmerge.sending.runs import Progress, Reason, RunEnd, StopFlag, Work
from mailmerge.smtp.events import Closed, Completed, ReleaseNeeded

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.ledger.account_usage import Quota, Reservation
    from mailmerge.sending.circuit_breaker import Breaker, Trip
    from mailmerge.sending.retry import RetryPolicy
    from mailmerge.sending.throttle import Throttle
    from mailmerge.smtp.events import Event

_SLICE = 0.2
"""Seconds within which a stop is noticed."""
_GRACE = 30.0
_CLOSE_IF_IDLE = 30.0
_TELL_IF_IDLE = 2.0
_SIGN_IN_AGAIN = 600.0
_SHORT_WAIT = 60.0
_DROPS_OF_ONE_ROW = 5
_NAP = 0.01  # for an idle connection that clears something up (RSET)


class Sender:
    """Sends the messages of one run; use it once."""

    def __init__(  # noqa: PLR0913  each is one replaceable part
        self,
        ledger: LedgerWriter,
        connect: Callable[[], Wire],
        throttle: Throttle,
        clock: Clock,
        *,
        usage: Quota | None,
        retry: RetryPolicy,
        breaker: Breaker,
        stop: StopFlag,
        observe: Callable[[Progress], None],
        random: Callable[[], float],
        sessions: int = 1,
        wait: bool = False,
        mark: Callable[[int], None] | None = None,
    ) -> None:
        self._books = OutcomeWriter(ledger, clock, mark, usage)
        self._throttle = throttle
        self._clock = clock
        self._usage = usage
        self._retry = retry
        self._breaker = breaker
        self._stop = stop
        self._observe = observe
        self._random = random
        self._wait = wait
        self._lines = [Line(connect, clock) for _ in range(sessions)]
        self._reconnecting = ReconnectBackoff()
        self._work: Iterator[Work] = iter(())
        self._again: list[Work] = []
        """Rows to be offered once more, in list order; they go before the others."""
        self._exhausted = False
        self._failure: Exception | None = None
        self._flights: dict[int, Flight] = {}
        self._needed: list[int] = []
        self._token = 0
        self._counts: dict[Status, int] = {}
        self._end: RunEnd | None = None
        self._grace_until: float | None = None
        self._pausing = ServerPause(wait=wait)
        self._put_off = 0
        self._drops: dict[str, int] = {}
        self._watch = ClockWatch(clock)
        self._closed_domains = DomainBlocks()

    def run(self, work: Iterable[Work]) -> RunEnd:
        """Send *work*, pulling each message when there is room for it.

        Whatever ends the run, outcomes known by then are recorded and messages in flight get up to 30
        seconds for theirs; only a `KeyboardInterrupt` or its like leaves at once.

        Raises:
            Exception: what *work* raised, after the messages in flight are settled.

        """
        self._work = iter(work)
        try:
            self._loop()
        except LedgerError as error:
            # Nothing can be recorded any more, so nothing more may leave: not even what is half written.
            self._end = RunEnd(Reason.LEDGER, error.message, error.hint, error)
        except BaseException:
            # A second signal, or a mistake of ours: states stay as they are on disk.
            for line in self._lines:
                line.abort()
            raise
        self._close_lines()
        with contextlib.suppress(LedgerError):
            self._books.note_mark()
        if self._failure is not None:
            raise self._failure
        end = self._end or RunEnd(Reason.FINISHED)
        notes = (*self._throttle.notes(), *self._closed_domains.notes(), *self._watch.notes())
        return replace(end, counts=Counts(dict(self._counts)), notes=notes)

    def _close_lines(self) -> None:
        for line in self._lines:
            line.close()

    # --- the loop -------------------------------------------------------------------------------------

    def _loop(self) -> None:
        while True:
            self._look_at_stop()
            self._fill()
            if not self._flights:
                self._books.record()
                if self._over():
                    return
                self._idle()
                continue
            if self._grace_until is not None and self._clock.monotonic() > self._grace_until:
                self._give_up()
                continue
            self._collect(self._poll_timeout())
            # In overlap mode the next message's MAIL rides with the end of this one.
            self._fill()
            self._keep_promises()

    def _over(self) -> bool:
        return self._end is not None or (self._exhausted and not self._again)

    def _look_at_stop(self) -> None:
        self._watch.look()
        if self._stop.is_set() and (self._end is None or self._end.reason is not Reason.INTERRUPTED):
            self._end = RunEnd(Reason.INTERRUPTED, "stopped on request")
            self._grace_until = self._clock.monotonic() + _GRACE

    def _finish(self, end: RunEnd) -> None:
        """End the run for this reason, unless there already is one."""
        if self._end is None:
            self._end = end

    # --- offering -------------------------------------------------------------------------------------

    def _fill(self) -> None:
        while self._end is None and not self._stop.is_set() and self._offer_one():
            pass

    def _offer_one(self) -> bool:
        """Offer the next message, if every gate is open."""
        if not self._pausing.over(self._clock.monotonic()):
            return False
        if not any(self._could_take(line) for line in self._lines):
            return False
        work = self._peek()
        if work is None or self._rate_delay() > 0:
            return False
        line = self._line_with_room()
        if line is None or line.wire is None:
            return False
        reservation = self._reserve(work)
        if self._end is not None:
            return False
        self._again.pop(0)
        self._throttle.take(self._clock.monotonic(), work.domains)
        self._token += 1
        self._flights[self._token] = Flight(work, line, line.wire.id, reservation)
        line.offered += 1
        line.wire.submit(work.message, self._token)
        return True

    def _reserve(self, work: Work) -> Reservation | None:
        """Count the message against the account's limits; None: there are none, or the run ends here."""
        if self._usage is None:
            return None
        recipients = len(work.message.envelope.rcpt_to)
        try:
            if reservation := self._usage.reserve(recipients):
                return reservation
            free = self._usage.free_at(recipients)
            self._finish(RunEnd(Reason.QUOTA, "the account's own limit is reached", next_at=free))
        except LedgerError as error:  # the ledger itself is well: what is in flight can still be recorded
            self._finish(RunEnd(Reason.LEDGER, error.message, error.hint, error))
        return None

    def _peek(self) -> Work | None:
        """Give the next message without taking it; at most one is ever pulled ahead."""
        while self._again or not self._exhausted:
            if not self._again:
                self._pull()
            elif self._closed_domains.closed(self._again[0]):
                self._again.pop(0)
            else:
                break
        return self._again[0] if self._again else None

    def _pull(self) -> None:
        try:
            self._again.append(next(self._work))
        except StopIteration:
            self._exhausted = True
        except Exception as error:  # noqa: BLE001  raised again once everything in flight is settled
            self._failure = error
            self._exhausted = True

    def _rate_delay(self) -> float:
        """Tell how long the rates hold back the next message, as far as it is known."""
        domains = self._again[0].domains if self._again else ()
        return self._throttle.delay(self._clock.monotonic(), domains)

    def _could_take(self, line: Line) -> bool:
        if line.wire is None:
            return self._clock.monotonic() >= self._reconnecting.retry_at
        return not line.retiring and line.wire.can_accept()

    def _line_with_room(self) -> Line | None:
        """Find a connection with room, opening one where that is needed."""
        for line in self._lines:
            if not self._could_take(line):
                continue
            if line.alive() or self._open(line):
                return line
            if self._end is not None:
                return None
        return None

    def _open(self, line: Line) -> bool:
        try:
            line.open()
        except SessionError as error:
            self._not_opened(error)
            return False
        self._reconnecting.connected = True
        self._put_off = 0
        return True

    def _not_opened(self, error: SessionError) -> None:
        # A handshake that broke off, where TLS has worked before, says nothing about TLS.
        cut_off = self._reconnecting.connected and error.code == TlsError.default_code
        if error.exit_code == 5 and (isinstance(error, AuthError) or error.retry_after):
            self._open_later(error)
        elif isinstance(error, AuthError | TlsError) and not cut_off:
            self._finish(RunEnd(Reason.REFUSED, error.message, error.hint, error))
        elif error.exit_code == 2 and not self._reconnecting.connected:
            self._finish(RunEnd(Reason.NETWORK, error.message, error.hint, error))
        else:
            self._setback(error)

    def _open_later(self, error: SessionError) -> None:
        """Obey a server that does not want us for the moment: three times at most."""
        self._put_off += 1
        wait = error.retry_after or _SIGN_IN_AGAIN
        if self._put_off < 3 and (self._wait or wait <= _SHORT_WAIT):
            self._pausing.until = self._clock.monotonic() + wait
            return
        later = self._clock.now() + timedelta(seconds=wait)
        self._finish(RunEnd(Reason.ACCOUNT_PAUSE, error.message, error.hint, error, later))

    def _setback(self, error: SessionError | None) -> None:
        if not self._reconnecting.setback(self._clock.monotonic()):
            message = error.message if error else "the connection was lost again and again"
            self._finish(RunEnd(Reason.NETWORK, message, error.hint if error else None, error))

    # --- waiting --------------------------------------------------------------------------------------

    def _idle(self) -> None:
        """Wait until a gate opens; nothing is in flight, everything is recorded."""
        now = self._clock.monotonic()
        gates = {
            "account": self._pausing.until,
            "network": self._reconnecting.retry_at if all(line.wire is None for line in self._lines) else now,
            "rate": now + self._rate_delay(),
        }
        why = max(gates, key=lambda name: gates[name])
        until = gates[why]
        if until - now > _CLOSE_IF_IDLE:
            self._close_lines()
        for line in self._lines:
            # A connection may still have something to clear up (RSET), or have noticed that it is closed.
            self._take_events(line, 0.0 if line.wire is None or line.wire.can_accept() else _NAP)
        if until - now > _TELL_IF_IDLE:
            later = self._clock.now() + timedelta(seconds=until - now)
            self._tell(Progress(Counts(dict(self._counts)), 0, waiting=why, until=later))
        while not self._stop.is_set() and (rest := until - self._clock.monotonic()) > 0:
            self._clock.sleep(min(_SLICE, rest))

    def _poll_timeout(self) -> float:
        now = self._clock.monotonic()
        timeout = _SLICE
        commit_in = self._books.commit_in()
        if commit_in is not None:
            timeout = min(timeout, commit_in)
        if not self._over() and any(self._could_take(line) for line in self._lines):
            timeout = min(timeout, max(self._rate_delay(), self._pausing.until - now, 0.001))
        return max(timeout, 0.0)

    # --- what the connections say ---------------------------------------------------------------------

    def _collect(self, timeout: float) -> None:
        lines = [line for line in self._lines if line.wire is not None]
        if len(lines) == 1:
            self._take_events(lines[0], timeout)
            return
        heard = [self._take_events(line, 0.0) for line in lines]
        if not any(heard):
            wires = [line.wire for line in lines if line.wire is not None and line.wire.fileno() >= 0]
            select.select(wires, [wire for wire in wires if wire.wants_write], [], timeout)

    def _take_events(self, line: Line, timeout: float) -> bool:
        wire = line.wire
        if wire is None:
            return False
        events = wire.poll(timeout)
        if events:
            line.touch()
            now = self._clock.now()
            for event in events:
                self._on_event(line, event, now)
        if line.retiring and not wire.in_flight:
            self._retire(line)
        return bool(events)

    def _retire(self, line: Line) -> None:
        """End a connection; one that brought no message to an answer is a setback."""
        useless = line.wire is not None and line.offered > 0 and line.answered == 0
        line.close()
        if useless:
            self._setback(None)

    def _on_event(self, line: Line, event: Event, now: datetime) -> None:
        if isinstance(event, ReleaseNeeded):
            self._needed.append(event.token)
        elif isinstance(event, Completed):
            self._on_completed(event, now)
        elif isinstance(event, Closed):
            self._on_closed(line, event)

    def _on_closed(self, line: Line, event: Closed) -> None:
        useless = line.offered > 0 and line.answered == 0
        line.close()
        if isinstance(event.error, AuthError | TlsError):
            self._not_opened(event.error)
        elif useless:
            self._setback(event.error)

    def _on_completed(self, event: Completed, now: datetime) -> None:
        flight = self._flights.pop(event.token)
        work, outcome = flight.work, event.outcome
        verdict = judge(
            outcome,
            tries=work.number,
            first=work.first_attempt or now,
            now=now,
            retry=self._retry,
            random=self._random,
        )
        verdict = self._spare_the_others(work, outcome, verdict, now)
        if flight.promised or outcome.reply is not None or not verdict.again:
            self._books.settle(flight.work.attempt(flight.connection), outcome, verdict, now)
        if flight.reservation is not None and self._usage is not None and not flight.promised:
            with contextlib.suppress(LedgerError):  # then they stay counted
                self._usage.release(flight.reservation)
        if verdict.again:
            bisect.insort(self._again, work, key=lambda again: again.message.row)
        else:
            self._count(work, verdict.status, outcome)
        self._answered(flight.line, verdict)
        self._closed_domains.learn(work, outcome)
        trip = self._breaker.note(outcome, flight.connection)
        self._react(flight.line, outcome, verdict, trip)

    def _spare_the_others(self, work: Work, outcome: Outcome, verdict: Verdict, now: datetime) -> Verdict:
        """Set a row aside whose content ends every connection, as some filters do, so that others go on."""
        if not verdict.again or outcome.reply is not None or outcome.phase not in {Phase.DATA, Phase.CONTENT}:
            return verdict
        key = work.message.key
        self._drops[key] = self._drops.get(key, 0) + 1
        if self._drops[key] < _DROPS_OF_ONE_ROW:
            return verdict
        later = self._retry.next_at(work.number, work.first_attempt or now, now, self._random)
        status = Status.EXPIRED if later is None else Status.DEFERRED
        return Verdict(status, Effect.RECONNECT, later)

    def _count(self, work: Work, status: Status, outcome: Outcome) -> None:
        self._counts[status] = self._counts.get(status, 0) + 1
        counts, in_flight = Counts(dict(self._counts)), len(self._flights)
        self._tell(Progress(counts, in_flight, work.message.row, work.address, status, outcome))

    def _tell(self, progress: Progress) -> None:
        try:
            self._observe(progress)
        except Exception as error:  # noqa: BLE001  raised again once everything in flight is settled
            self._failure = self._failure or error
            self._finish(RunEnd(Reason.INTERRUPTED, "the progress display failed"))

    def _answered(self, line: Line, verdict: Verdict) -> None:
        if verdict.effect is not Effect.GO_ON:
            return
        line.answered += 1
        self._reconnecting.progress()
        if verdict.status is Status.ACCEPTED:
            self._pausing.progress()
            self._throttle.recover()

    def _react(self, line: Line, outcome: Outcome, verdict: Verdict, trip: Trip | None) -> None:
        """Do what an outcome asks of the whole run."""
        if outcome.slower and self._pausing.over(self._clock.monotonic()):
            self._throttle.halve()
        if trip is not None:
            self._finish(RunEnd(Reason.BREAKER, trip.reason, trip.hint, outcome=outcome))
        if verdict.effect is Effect.STOP_REFUSED:
            message = f"the server refused: {outcome.reply}" if outcome.reply else "the server refused"
            self._finish(RunEnd(Reason.REFUSED, message, outcome.hint, outcome=outcome))
        elif verdict.effect is Effect.STOP_QUOTA:
            message = f"account limit reached: {outcome.reply}" if outcome.reply else "account limit reached"
            self._finish(RunEnd(Reason.QUOTA, message, outcome.hint, None, verdict.next_at, outcome))
        elif verdict.effect is Effect.PAUSE:
            self._pause(outcome, verdict.pause)
        elif verdict.effect is Effect.RECONNECT:
            self._leave(line, outcome, verdict.pause)

    def _leave(self, line: Line, outcome: Outcome, pause: float) -> None:
        """Use this connection no more, once what is in flight on it is settled."""
        closing = outcome.reply is not None and outcome.reply.code == 421
        if closing and not line.retiring and line.answered == 0 and not self._reconnecting.closing():
            message = f"the server keeps closing the connection: {outcome.reply}"
            self._finish(RunEnd(Reason.NETWORK, message, outcome.hint, outcome=outcome))
        line.retiring = True
        if pause:
            self._pause(outcome, pause)

    def _pause(self, outcome: Outcome, seconds: float) -> None:
        now = self._clock.monotonic()
        if not self._pausing.over(now) or self._end is not None:
            return  # the rest of the window got the same answer
        rest = self._pausing.order(seconds, now)
        trip = self._breaker.note_pause() if self._pausing.ordered > _SHORT_WAIT else None
        if rest is None and trip is None:
            return
        later = self._clock.now() + timedelta(seconds=max(rest or 0.0, seconds))
        message = (
            f"the server asks for a pause: {outcome.reply}" if outcome.reply else "the account must pause"
        )
        hint = outcome.hint or (trip.hint if trip else None)
        self._finish(RunEnd(Reason.ACCOUNT_PAUSE, message, hint, None, later, outcome))

    # --- promises and records -------------------------------------------------------------------------

    def _keep_promises(self) -> None:
        """Make the promises that the connections need, durable first, with the outcomes so far."""
        needed = [token for token in self._needed if token in self._flights]
        self._needed.clear()
        if not needed:
            if self._books.commit_in() == 0:
                self._books.record()
            return
        flights = [self._flights[token] for token in needed]
        self._books.record([flight.work.attempt(flight.connection) for flight in flights])
        for line in self._lines:
            tokens = [token for token, flight in zip(needed, flights, strict=True) if flight.line is line]
            if tokens and line.wire is not None:
                for token in tokens:
                    self._flights[token].promised = True
                line.wire.release(tokens)

    def _give_up(self) -> None:
        """Cut off what is still unanswered: in doubt if its end may have left, else as it was."""
        now = self._clock.now()
        for line in self._lines:
            for event in line.abort():
                if isinstance(event, Completed):
                    self._on_completed(event, now)
        self._flights.clear()
        self._needed.clear()
