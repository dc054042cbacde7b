"""What a run has learnt from its server so far: everything that a decision may depend on besides the outcome.

`mailmerge.sending.policy` reads it to decide and never changes it; the sender lets it learn each decision
once that was carried out. Counts "in a row" end where something went well.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailmerge.model import Scope, Status
from mailmerge.text import plural

if TYPE_CHECKING:
    from collections.abc import Iterator

    from mailmerge.model import Outcome
    from mailmerge.sending.runs import Context, Decision, RunDecision
    from mailmerge.sending.work_queue import Job

LAST = 200
"""How many of the latest accepted and rejected rows a share is taken of."""
LONG_PAUSE = 60.0
"""Seconds up to which a wait is simply obeyed; longer ones need ``--wait``."""


class History:
    """One run's memory."""

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
        # In a row, since a connection last brought a message to an answer:
        self.setbacks = 0
        """Connections that failed, or were of no use."""
        self.setback_since = 0.0
        self.closings = 0
        """Connections that the server closed with 421 before it answered anything."""
        self.put_off = 0
        """Sign-ins that the server refused for now, since one succeeded."""
        # In the whole run:
        self.connected = False
        """Whether any connection was ever made."""
        self.protocol_errors = 0
        self.lost: str | None = None
        """The connection that left the latest row in doubt."""
        self.drops: dict[str, int] = {}
        """How often each row's content ended its connection without a word, by key."""
        self.latest: deque[bool] = deque(maxlen=LAST)
        """The latest accepted and rejected rows: whether each was rejected."""
        self._blocked: dict[str, int] = {}
        # Until when to wait, in seconds of the steady clock:
        self.paused_until = float("-inf")
        """Nothing is submitted before."""
        self.retry_at = float("-inf")
        """No connection is made before."""

    # --- looking back ---------------------------------------------------------------------------------

    def paused(self, steady: float) -> bool:
        """Return whether the server's order to wait still holds."""
        return steady < self.paused_until

    def rejected_of_last(self) -> int:
        """Count the rejected among the latest rows but the very oldest, which the next one will push out."""
        full = len(self.latest) == LAST
        return sum(self.latest) - (self.latest[0] if full else False)

    def leaves(self, job: Job) -> bool:
        """Return whether *job* is left as it is, because its domain refuses us; it is counted then."""
        if not self._blocked:
            return False
        domain = next((domain for domain in job.domains if domain in self._blocked), None)
        if domain is not None:
            self._blocked[domain] += 1
        return domain is not None

    def notes(self) -> Iterator[str]:
        """Yield a sentence about each domain whose rows were left."""
        for domain, rows in self._blocked.items():
            if rows:
                left = f"{plural(rows, 'more row')} for that domain {'was' if rows == 1 else 'were'}"
                yield f"{domain} refuses mail from this sender: {left} not attempted"

    # --- learning -------------------------------------------------------------------------------------

    def learn(self, outcome: Outcome, decision: Decision, context: Context) -> None:
        """Take note of an outcome and of what was decided about it."""
        run = decision.run
        if run.answered:
            self.setbacks = self.closings = 0
        if outcome.status is Status.ACCEPTED:
            self.rejected = self.contents = self.doubts = self.orders = self.long_pauses = 0
            self.latest.append(False)
            return
        self._learn_refusal(outcome, context)
        if run.closing:
            self.closings += 1
        if run.pause:
            self.orders += 1
            self.long_pauses += run.pause > LONG_PAUSE
            self.paused_until = context.steady + run.pause
        if run.dropped:
            self.drops[context.job.message.key] = self.drops.get(context.job.message.key, 0) + 1
        for domain in run.blocked:
            self._blocked.setdefault(domain, 0)

    def _learn_refusal(self, outcome: Outcome, context: Context) -> None:
        if outcome.status is Status.IN_DOUBT:
            self.doubts += context.connection != self.lost
            self.lost = context.connection
        elif outcome.scope is Scope.ROW or outcome.status is Status.REJECTED:
            self.contents = self.contents + 1 if outcome.reason == "content" else 0
            if outcome.status is Status.REJECTED:
                self.latest.append(True)
                self.rejected += 1
                self.protocol_errors += outcome.reason == "protocol"

    def learn_opened(self) -> None:
        """Take note of a connection that was made."""
        self.connected = True
        self.put_off = 0

    def learn_failure(self, run: RunDecision, steady: float) -> None:
        """Take note of a connection that failed, or was of no use, and of what was decided about that."""
        if run.reconnect:
            if not self.setbacks:
                self.setback_since = steady
            self.setbacks += 1
            self.retry_at = steady + run.reconnect
        if run.pause:
            self.put_off += 1
            self.paused_until = steady + run.pause
