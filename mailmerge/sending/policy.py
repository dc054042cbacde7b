"""What an outcome means, for its row and for the run: one decision for each message, as a pure function.

**Whose fault decides who suffers.** The reply rules have already determined whom a refusal is about (its
scope). What follows from that is `Policy.decide`, which reads as this table:

====================  ==================================  ==================================================
the outcome           its row                             the run
====================  ==================================  ==================================================
accepted              accepted                            continues; everything "in a row" is reset
in doubt              in doubt, never sent again by us    another connection; the third in a row ends it
about our set-up      pending                             ends: nothing changes until a person acts
perhaps about it      deferred                            continues; ends once three domains confirm it
account: quota        deferred until that is over         ends: no other row can be sent either
account: else         pending, again behind all others    pauses; a long pause ends it unless asked to wait
came early            pending, again in this run          another connection, if that was the cause
out of step           pending, again in this run          another connection; what was settled is revised
connection: rejected  rejected                            another connection
connection: else      pending, again behind all others    another connection, after a pause if requested
the second time       deferred                            continues, if others were accepted in between
row: rejected         rejected                            continues
row: deferred         deferred, or expired                continues
====================  ==================================  ==================================================

Only what is about the row itself uses up one of its tries.

There are three kinds of growing waits before trying again: after a refused row, after a lost connection, and
after a server's request for a pause. Times are seconds of a steady clock if a wait is short, wall-clock times
if it may last longer than the run.

**Who is meant by a refusal at RCPT?** Many servers only refuse there our sender, our EHLO name or our right
to relay. Before anything was accepted in the run it is about us. Later, or if the server quotes another one,
it may still be about the row, which is deferred; as soon as rows of three domains got it in a row it is about
us after all, and those rows are pending again as if they had not been tried.

**When refusals stop being about rows** and start being about us, the circuit breaker ends the run and leaves
the other rows unchanged: see `Policy._tripped`.

**One row never blocks the others.** Some recipients always get a reply that sounds like a server in trouble
(421, "451 4.3.0 temporary lookup failure", "452 4.3.1"). A row that got such a reply goes behind all others.
If it gets one again there although others were accepted in between, it was the row: it is deferred. If none
was, it was the server; a row that is alone by then is not tried a fourth time. A pause that such a reply asks
for is obeyed once a second row got one too.

**A row whose connection is closed** without a reply, as some content filters do, would end one connection
after the other. So from the second time on it goes behind all others, and the fifth time it counts as refused
for now.

Nothing here uses a clock, a random source or a connection: the time and a source of numbers are passed in;
what the run has learnt is its `History`, which is only read.
"""

from __future__ import annotations

from collections import deque
from datetime import timedelta
from typing import TYPE_CHECKING

from msgspec import Struct
from msgspec.structs import replace

from mailmerge.errors import AuthError, TlsError
from mailmerge.model import Phase, Scope, Status
from mailmerge.sending.runs import (
    Again,
    Decision,
    Reason,
    RowDecision,
    RunDecision,
    RunEnd,
    ended_by,
    in_trouble,
)
from mailmerge.sending.throttle import pause_length
from mailmerge.smtp.replies import as_suspicion, is_suspicion
from mailmerge.text import plural, quoted
from mailmerge.validation import percent

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from datetime import datetime

    from mailmerge.errors import SessionError
    from mailmerge.model import Outcome
    from mailmerge.sending.runs import Context
    from mailmerge.sending.work_queue import Job

_JITTER = 0.2

# Reconnecting: 1, 2, 4 .. 60 s, for ten minutes in all; a server that was never reached is given up sooner,
# because a person who just typed the command waits for it.
_TRIES_AT_START = 3
_LONGEST_RECONNECT = 60.0
_RECONNECT_FOR = 600.0


class RetryPolicy(Struct, frozen=True):
    """Waits between a row's tries, how many tries, and how long at most since the first."""

    delays: tuple[float, ...]
    """Seconds after the first, second ... try; the last one repeats. None at all: nothing is tried again."""
    tries: int = 8
    give_up_after: timedelta = timedelta(hours=48)

    def next_at(
        self,
        tries: int,
        first: datetime,
        now: datetime,
        random: Callable[[], float],
        *,
        asked: float | None = None,
    ) -> datetime | None:
        """Return when to try again after *tries* tries, the first of them at *first*.

        Args:
            tries: how many tries the row has used up, this one included.
            first: when the first of them was.
            now: the time of the refusal.
            random: returns a number from 0 up to 1.
            asked: seconds that the server, or our rule for its reply, asks us to wait.

        Returns:
            The time, or None: the row has expired.

        """
        if not self.delays or tries >= self.tries or now - first >= self.give_up_after:
            return None
        delay = self.delays[min(max(tries, 1), len(self.delays)) - 1]
        delay *= 1 + _JITTER * (2 * random() - 1)
        if asked is not None:
            # A stated time means at least that long.
            delay = max(delay, asked * (1 + _JITTER * random()))
        return now + timedelta(seconds=delay)


def reconnect_delay(setbacks: int, since: float, now: float, *, connected: bool) -> float | None:
    """Return how long to wait before the next connection.

    Args:
        setbacks: connections in a row that failed or on which no message was answered, this one included.
        since: when the first of them did, in seconds of the steady clock.
        now: the present time, by the same clock.
        connected: whether any connection of this run was ever opened.

    Returns:
        Seconds, or None: it is time to give up.

    """
    delay = min(_LONGEST_RECONNECT, 2.0 ** min(setbacks - 1, 6))
    if not connected:
        return delay if setbacks < _TRIES_AT_START else None
    return delay if now + delay - since <= _RECONNECT_FOR else None


LAST = 200
"""How many of the latest accepted and rejected rows the share is computed from."""
LONG_PAUSE = 60.0
"""Up to this many seconds a pause is simply obeyed; longer ones need ``--wait``."""


class History:
    """What one run has learnt so far."""

    def __init__(self) -> None:
        # In a row, since a row was last accepted:
        self.rejected = 0
        self.contents = 0
        """Contents that were refused, with no other refusal in between."""
        self.doubts = 0
        """Connections that were lost with messages handed over and not answered."""
        self.orders = 0
        """Pauses that the server ordered ..."""
        self.long_pauses = 0
        """... and those of them that were long."""
        # In a row, since a message was last answered:
        self.setbacks = 0
        """Connections that failed, or on which nothing was answered."""
        self.setback_since = 0.0
        self.closings = 0
        """Connections that the server closed with 421 before it answered anything."""
        self.put_off = 0
        """Sign-ins that the server refused for now, since one succeeded."""
        # In the whole run:
        self.connected = False
        """Whether any connection was ever opened."""
        self.protocol_errors = 0
        self.lost: str | None = None
        """The connection that left the latest row in doubt."""
        self.out_of_step = 0
        """Connections that proved out of step after a row had seemed accepted, which is now in doubt ..."""
        self.astray: str | None = None  # ... and the latest of them
        self.drops: dict[str, int] = {}
        """How often the connection was closed without a reply after each row's content, by key."""
        self.latest: deque[bool] = deque(maxlen=LAST)
        """The latest accepted and rejected rows: whether each was rejected."""
        self.accepted = 0
        """Rows that were accepted."""
        self.suspicions: dict[str, Job] = {}
        """Rows refused in a row for a reason that seems to be about us, by key."""
        self.confirmed = False
        """Rows of it that are pending again: others in flight with the same refusal are the same case."""
        self.troubled: dict[str, int] = {}
        """Rows that got a reply about the server or the account, by key: how many were accepted by then."""
        self.troubles = 0
        """Such replies since a row was last accepted."""
        self.same_row = ""
        """The row that got the latest of them, by key ..."""
        self.same_times = 0
        """... and how many it got in a row: with others to send it gets one at a time."""
        self._set_aside: list[tuple[Job, Outcome]] = []
        self._blocked: dict[str, int] = {}
        # Until when to wait, in seconds of the steady clock:
        self.paused_until = float("-inf")
        """Nothing is submitted before."""
        self.retry_at = float("-inf")
        """No connection is opened before."""

    # --- looking back ---------------------------------------------------------------------------------

    def paused(self, steady: float) -> bool:
        """Return whether the server's request to wait still applies."""
        return steady < self.paused_until

    def rejected_of_last(self) -> int:
        """Return the rejected among the latest rows, without the oldest, which the next one will replace."""
        full = len(self.latest) == LAST
        return sum(self.latest) - (self.latest[0] if full else False)

    def leaves(self, job: Job) -> bool:
        """Return whether *job* is not attempted, because its domain refuses us; if so, count it."""
        if not self._blocked:
            return False
        domain = next((domain for domain in job.domains if domain in self._blocked), None)
        if domain is not None:
            self._blocked[domain] += 1
        return domain is not None

    def notes(self) -> Iterator[str]:
        """Yield a sentence about each row that was deferred as the cause, and each domain left out."""
        for job, outcome in self._set_aside[:_SET_ASIDE_NAMED]:
            yield (
                f"row {job.message.row} ({job.address}) was deferred: the server answered "
                f"{quoted(outcome.reply)} each time, and accepted others"
            )
        for domain, rows in self._blocked.items():
            if rows:
                left = f"{plural(rows, 'more row')} for that domain {'was' if rows == 1 else 'were'}"
                yield f"{domain} refuses mail from this sender: {left} not attempted"

    def only(self, key: str) -> bool:
        """Return whether only this row is left, and has got replies about the server again and again."""
        return self.same_row == key and self.same_times + 1 >= _TIMES_OF_ONE_ROW

    # --- learning -------------------------------------------------------------------------------------

    def learn(self, outcome: Outcome, decision: Decision, context: Context) -> None:
        """Record an outcome and what was decided about it."""
        run = decision.run
        if run.answered:
            self.setbacks = self.closings = self.same_times = 0
        if outcome.status is Status.ACCEPTED:
            self.accepted += 1
            self.suspicions.clear()
            self.troubles = 0
            self.rejected = self.contents = self.doubts = self.orders = self.long_pauses = 0
            self.latest.append(False)
            return
        self._learn_refusal(outcome, run, context)
        if run.closing:
            self.closings += 1
        if run.pause:
            self.orders += 1
            self.long_pauses += run.pause > LONG_PAUSE
            self.paused_until = context.steady + run.pause
        if run.dropped:
            self.drops[context.job.message.key] = self.drops.get(context.job.message.key, 0) + 1
        if in_trouble(outcome):
            self.troubled[context.job.message.key] = self.accepted
            self.troubles += 1
            self.same_times = self.same_times + 1 if self.same_row == context.job.message.key else 1
            self.same_row = context.job.message.key
        if run.set_aside:
            self._set_aside.append((context.job, outcome))
        for domain in run.blocked:
            self._blocked.setdefault(domain, 0)

    def take_back(self, outcome: Outcome, connection: str) -> None:
        """Forget an outcome that was not what it seemed to be."""
        if outcome.status is Status.ACCEPTED:
            self.accepted -= 1
            self.out_of_step += connection != self.astray
            self.astray = connection
        elif outcome.status is Status.REJECTED:
            self.rejected = max(0, self.rejected - 1)
            self.protocol_errors -= outcome.reason == "protocol"
            if self.latest and self.latest[-1]:
                self.latest.pop()

    def _learn_refusal(self, outcome: Outcome, run: RunDecision, context: Context) -> None:
        if outcome.status is Status.IN_DOUBT:
            self.doubts += context.connection != self.lost
            self.lost = context.connection
        elif run.given_back:
            self.confirmed = True
        elif run.suspicion:
            self.suspicions[context.job.message.key] = context.job
        elif outcome.scope is Scope.ROW or outcome.status is Status.REJECTED:
            self.suspicions.clear()
            self.contents = self.contents + 1 if outcome.reason == "content" else 0
            if outcome.status is Status.REJECTED:
                self.latest.append(True)
                self.rejected += 1
                self.protocol_errors += outcome.reason == "protocol"

    def learn_opened(self) -> None:
        """Record a connection that was opened."""
        self.connected = True
        self.put_off = 0

    def learn_failure(self, run: RunDecision, steady: float) -> None:
        """Record a connection that failed, or without any reply, and what was decided about it."""
        if run.reconnect:
            if not self.setbacks:
                self.setback_since = steady
            self.setbacks += 1
            self.retry_at = steady + run.reconnect
        if run.pause:
            self.put_off += 1
            self.paused_until = steady + run.pause


_PAUSE = 900.0
"""Seconds to pause if neither the server nor our rule for its reply specifies how long."""
_SIGN_IN_AGAIN = 600.0
_SIGN_INS = 3
_CLOSINGS = 3
_DROPS_BEFORE_LAST = 2
_DROPS_OF_ONE_ROW = 5

# The circuit breaker's limits.
_REJECTED_IN_A_ROW = 10
_DOUBTS_IN_A_ROW = 3
_ACCEPTED_PER_MISSTEP = 20
_CONTENTS_IN_A_ROW = 3
_PROTOCOL_ERRORS = 2
_LONG_PAUSES_IN_A_ROW = 4
_DOMAINS_THAT_CONFIRM = 3
_SET_ASIDE_NAMED = 5
_TROUBLES_AT_ONCE = 10
_TIMES_OF_ONE_ROW = 3
_IN_VAIN = f"the server asked us to wait {_LONG_PAUSES_IN_A_ROW} times without accepting a message in between"


_ACCEPTED = Decision(RowDecision(Status.ACCEPTED))
_REJECTED = RowDecision(Status.REJECTED)
_IN_DOUBT = RowDecision(Status.IN_DOUBT, counts=False)
_PENDING = RowDecision(Status.PENDING, counts=False)
_NEXT = RowDecision(Status.PENDING, counts=False, again=Again.NEXT)
_LAST = RowDecision(Status.PENDING, counts=False, again=Again.LAST)


class Policy:
    """The rules of one run.

    Args:
        retry: when a deferred row is tried again.
        max_rejected: the share, from 0 to 1, of the last 200 rows that may be rejected.
        wait: whether to obey long pauses too, instead of ending the run.

    """

    def __init__(self, retry: RetryPolicy, *, max_rejected: float, wait: bool = False) -> None:
        self._retry = retry
        self._max_rejected = max_rejected
        # Rounded, because 29 % of 200 must be 58, and not a little less.
        self._limit = round(max_rejected * LAST, 6)
        self._wait = wait

    # --- messages -------------------------------------------------------------------------------------

    def decide(self, outcome: Outcome, history: History, context: Context) -> Decision:  # noqa: C901, PLR0911  a table
        """Decide about one outcome; *history* is what came before it."""
        outcome = _weighed(outcome, history, context)
        match (outcome.status, outcome.scope, outcome.reason):
            case (Status.ACCEPTED, _, _):
                return _ACCEPTED
            case (Status.IN_DOUBT, _, _):
                stop = self._lost_too_often(outcome, history, context)
                return Decision(_IN_DOUBT, RunDecision(retire=True, stop=stop))
            case (_, Scope.CONFIG, _):
                stop = ended_by(Reason.REFUSED, "the server refused", outcome)
                return Decision(_PENDING, RunDecision(stop=stop))
            case (_, Scope.ACCOUNT, "quota"):
                later = context.now + timedelta(seconds=outcome.retry_after or _PAUSE)
                stop = ended_by(Reason.QUOTA, "account limit reached", outcome, later)
                return Decision(RowDecision(Status.DEFERRED, later, counts=False), RunDecision(stop=stop))
            case (Status.PENDING, _, "early"):
                return Decision(_NEXT, RunDecision(answered=True))
            case (Status.PENDING, _, "pipelining" | "out_of_step"):
                return Decision(_NEXT, RunDecision(answered=True, retire=True))
            case _ if self._was_the_row(outcome, history, context):
                retire = outcome.scope is Scope.CONNECTION
                return Decision(
                    self._later(outcome, context), RunDecision(answered=True, retire=retire, set_aside=True)
                )
            case (_, Scope.ACCOUNT, _):
                row = _LAST if in_trouble(outcome) else _NEXT
                return Decision(row, self._pause(outcome, outcome.retry_after or _PAUSE, history, context))
            case (Status.REJECTED, Scope.CONNECTION, _):
                return Decision(_REJECTED, RunDecision(retire=True, stop=self._tripped(outcome, history)))
            case (_, Scope.CONNECTION, _) | (Status.PENDING, _, _):
                return self._over_another_connection(outcome, history, context)
            case (Status.REJECTED, _, _):
                return Decision(_REJECTED, self._refused(outcome, history, context))
            case _:
                return self._deferred(outcome, history, context)

    def _deferred(self, outcome: Outcome, history: History, context: Context) -> Decision:
        """Defer the row, if the reply is about the row."""
        if is_suspicion(outcome):
            return self._suspected(outcome, history, context)
        return Decision(self._later(outcome, context), self._refused(outcome, history, context))

    def _later(self, outcome: Outcome, context: Context) -> RowDecision:
        """Defer a row, or let it expire."""
        job = context.job
        first = job.first_attempt or context.now
        later = self._retry.next_at(job.number, first, context.now, context.random, asked=outcome.retry_after)
        return RowDecision(Status.EXPIRED) if later is None else RowDecision(Status.DEFERRED, later)

    def _suspected(self, outcome: Outcome, history: History, context: Context) -> Decision:
        """Defer the row; once enough others got the same refusal, it is not about rows any more."""
        if history.confirmed:
            return Decision(_PENDING)
        job = context.job
        before = [one for one in history.suspicions.values() if one.message.key != job.message.key]
        if len(job.domains.union(*(one.domains for one in before))) >= _DOMAINS_THAT_CONFIRM:
            said = f"the server refused rows of {_DOMAINS_THAT_CONFIRM} domains in a row"
            stop = ended_by(Reason.REFUSED, said, outcome)
            return Decision(_PENDING, RunDecision(answered=True, given_back=tuple(before), stop=stop))
        run = RunDecision(answered=True, suspicion=True)
        if len(before) + 1 >= _REJECTED_IN_A_ROW:
            said = f"{_REJECTED_IN_A_ROW} rows in a row were refused for what may be about the sender"
            stop = replace(ended_by(Reason.BREAKER, said, outcome), scope=Scope.ACCOUNT)
            run = replace(run, stop=stop)
        return Decision(self._later(outcome, context), run)

    def _refused(self, outcome: Outcome, history: History, context: Context) -> RunDecision:
        """Continue after a refusal that was about the row, or about its domain."""
        blocked: frozenset[str] = frozenset()
        if outcome.reason == "domain":
            named = frozenset(address.domain.lower() for address, _ in outcome.refused)
            blocked = named or context.job.domains
        return RunDecision(answered=True, blocked=blocked, stop=self._tripped(outcome, history))

    @staticmethod
    def _was_the_row(outcome: Outcome, history: History, context: Context) -> bool:
        """Return whether a reply that sounds like a server in trouble was about this row alone."""
        key = context.job.message.key
        accepted = history.troubled.get(key)
        if accepted is None or not in_trouble(outcome):
            return False
        return history.accepted > accepted or (history.accepted > 0 and history.only(key))

    def _over_another_connection(self, outcome: Outcome, history: History, context: Context) -> Decision:
        row = _LAST if in_trouble(outcome) else _NEXT
        silent = outcome.reply is None and outcome.phase in {Phase.RCPT, Phase.DATA, Phase.CONTENT}
        if silent:
            drops = history.drops.get(context.job.message.key, 0) + 1
            if drops >= _DROPS_OF_ONE_ROW:
                row = self._later(outcome, context)
            elif drops >= _DROPS_BEFORE_LAST:
                row = _LAST
        # 421 at the first message means "not now"; after some answered messages a server may simply close.
        code = outcome.reply.code if outcome.reply else 0
        closing = context.fresh and code == 421
        # The first rows that get it tell little about the server: the next one need not wait.
        new = context.job.message.key not in history.troubled and history.troubles < _TROUBLES_AT_ONCE
        answered = new and outcome.reason == "server" and code not in {0, 421}
        # One row that is asked to wait may be that row's fault.
        asked = outcome.retry_after if history.troubles else None
        rest = self._pause(outcome, asked, history, context) if asked else RunDecision()
        stop = rest.stop
        if closing and history.closings + 1 >= _CLOSINGS:
            stop = ended_by(Reason.NETWORK, "the server keeps closing the connection", outcome)
        elif in_trouble(outcome) and stop is None and history.only(context.job.message.key):
            stop = ended_by(Reason.NETWORK, "the server does not accept messages at the moment", outcome)
        run = replace(rest, answered=answered, retire=True, dropped=silent, closing=closing, stop=stop)
        return Decision(row, run)

    def _pause(self, outcome: Outcome, asked: float, history: History, context: Context) -> RunDecision:
        """Obey a request to wait; the first one counts, the rest of a window gets the same reply."""
        if history.paused(context.steady):
            return RunDecision()
        seconds = pause_length(asked, history.orders)
        long = seconds > LONG_PAUSE
        in_vain = long and history.long_pauses + 1 >= _LONG_PAUSES_IN_A_ROW
        if not in_vain and (self._wait or not long):
            return RunDecision(slower=outcome.slower, pause=seconds)
        said = "the server asks for a pause" if outcome.reply else "the account must pause"
        later = context.now + timedelta(seconds=seconds)
        stop = ended_by(Reason.ACCOUNT_PAUSE, said, outcome, later, _IN_VAIN if in_vain else None)
        return RunDecision(slower=outcome.slower, stop=stop)

    # --- the circuit breaker --------------------------------------------------------------------------

    def _lost_too_often(self, outcome: Outcome, history: History, context: Context) -> RunEnd | None:
        """Return the end of a run that lost too many connections; one counts once, whatever was in flight."""
        # Each connection may have accepted rows first, so that "in a row" would never be reached.
        often = history.accepted < _ACCEPTED_PER_MISSTEP * history.out_of_step
        if often and history.out_of_step >= _DOUBTS_IN_A_ROW:
            return RunEnd(
                Reason.BREAKER,
                f"on {history.out_of_step} connections the replies did not match the commands",
                "decide about the rows in doubt; record the session with --transcript FILE",
                scope=Scope.CONNECTION,
            )
        if context.connection == history.lost or history.doubts + 1 < _DOUBTS_IN_A_ROW:
            return None
        return RunEnd(
            Reason.BREAKER,
            f"{_DOUBTS_IN_A_ROW} connections in a row were lost with messages handed over and not answered",
            "decide about the rows in doubt; check whether a firewall or proxy cuts connections",
            outcome=outcome,
            scope=Scope.CONNECTION,
        )

    def _tripped(self, outcome: Outcome, history: History) -> RunEnd | None:
        """Return the end of the run if a refusal is one too many; None: it continues."""
        trip: tuple[str, str] | None = None
        if outcome.reason == "content" and history.contents + 1 >= _CONTENTS_IN_A_ROW:
            trip = (
                f"the server refused the content of {_CONTENTS_IN_A_ROW} messages in a row",
                "it looks like spam to the server: change the text or the links, and start with a few rows",
            )
        elif outcome.status is not Status.REJECTED:
            trip = None
        elif outcome.reason == "protocol" and history.protocol_errors + 1 >= _PROTOCOL_ERRORS:
            trip = (
                "the server reported two protocol errors",
                "rerun with --transcript FILE to see the session",
            )
        elif history.rejected + 1 >= _REJECTED_IN_A_ROW:
            trip = (
                f"{_REJECTED_IN_A_ROW} rows in a row were rejected",
                "look at the replies before continuing",
            )
        elif history.rejected_of_last() + 1 > self._limit:
            trip = (
                f"more than {percent(self._max_rejected)} of the last {LAST} rows were rejected",
                "clean the list, or allow more with send.max_rejected",
            )
        return RunEnd(Reason.BREAKER, *trip, outcome=outcome) if trip else None

    # --- connections ----------------------------------------------------------------------------------

    def decide_failure(
        self, error: SessionError | None, history: History, now: datetime, steady: float, *, opening: bool
    ) -> RunDecision:
        """Decide about a connection that could not be opened, or that ended before anything was answered.

        Args:
            error: why; None: it was closed on purpose.
            history: what came before.
            now: the time.
            steady: the same moment in seconds of the steady clock.
            opening: whether it could not be opened.

        """
        if error is not None and (opening or isinstance(error, AuthError | TlsError)):
            if error.exit_code == 5 and (isinstance(error, AuthError) or error.retry_after):
                return self._put_off(error, history, now)
            # If TLS has worked before, a handshake that broke off tells nothing about TLS.
            cut_off = history.connected and error.code == TlsError.default_code
            if isinstance(error, AuthError | TlsError) and not cut_off:
                return RunDecision(stop=RunEnd(Reason.REFUSED, error.message, error.hint, error))
            if error.exit_code == 2 and not history.connected:
                return RunDecision(stop=RunEnd(Reason.NETWORK, error.message, error.hint, error))
        since = history.setback_since if history.setbacks else steady
        delay = reconnect_delay(history.setbacks + 1, since, steady, connected=history.connected)
        if delay is not None:
            return RunDecision(reconnect=delay)
        message = error.message if error else "the connection was lost repeatedly"
        return RunDecision(stop=RunEnd(Reason.NETWORK, message, error.hint if error else None, error))

    def _put_off(self, error: SessionError, history: History, now: datetime) -> RunDecision:
        """Obey, a few times, a server that refuses us for now."""
        wait = error.retry_after or _SIGN_IN_AGAIN
        if history.put_off + 1 < _SIGN_INS and (self._wait or wait <= LONG_PAUSE):
            return RunDecision(pause=wait)
        later = now + timedelta(seconds=wait)
        return RunDecision(stop=RunEnd(Reason.ACCOUNT_PAUSE, error.message, error.hint, error, later))


def _weighed(outcome: Outcome, history: History, context: Context) -> Outcome:
    """Return a refusal about us as a suspicion if the server accepted others, in this run or of this row."""
    beside = 0 < len(outcome.refused) < len(context.job.message.envelope.rcpt_to)
    return as_suspicion(outcome) if history.accepted or beside else outcome
