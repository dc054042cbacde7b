"""What a session finds out about the server's pipelining: a trial comes before it is relied on.

`mailmerge.smtp.state` explains why; `mailmerge.smtp.transfer` hands messages over accordingly.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.errors import ConnectionLost
from mailmerge.model import Phase, Scope, Status
from mailmerge.smtp.replies import classify
from mailmerge.smtp.state import Overlap, Step, Trial, Trigger

if TYPE_CHECKING:
    from collections.abc import Mapping

    from mailmerge.errors import SessionError
    from mailmerge.model import Outcome, Reply
    from mailmerge.smtp.reply_queue import DueReply, Handler, ReplyQueue
    from mailmerge.smtp.state import SessionState
    from mailmerge.smtp.transactions import Transaction

_CHUNK = b"XXXX\r\n"
"""Six octets that are not a command: if executed instead of skipped, they cause an extra reply."""
_PASSED = [2, 5, 2, 2]


class BdatTrial:
    """Sends one BDAT that must be refused, and evaluates the replies around it."""

    def __init__(self, state: SessionState, replies: ReplyQueue) -> None:
        self.handlers: Mapping[Step, Handler] = dict.fromkeys(
            (Step.TRIAL_MAIL, Step.TRIAL_CHUNK, Step.TRIAL_RSET, Step.TRIAL_NOOP), self._on_reply
        )
        self._state = state
        self._replies = replies
        self._digits: list[int] = []

    @property
    def possible(self) -> bool:
        """Whether the server offers what a window needs, and the trial has not been run."""
        offers = self._state.offers
        return self._state.trial is Trial.UNTRIED and offers.pipelining and offers.chunking

    def begin(self, sender: bytes) -> None:
        """Send the four commands in one group, as the messages of a window will be (RFC 2920 section 3.1).

        *sender* is the path of the first message, in angle brackets.
        """
        self._digits.clear()
        self._replies.ask(Step.TRIAL_MAIL, b"MAIL FROM:" + sender)
        # No RCPT was sent, so the server has to refuse; the chunk is sent after its command as one line.
        self._replies.ask(Step.TRIAL_CHUNK, b"BDAT %d LAST\r\n%b" % (len(_CHUNK), _CHUNK[:-2]))
        self._replies.ask(Step.TRIAL_RSET, b"RSET")
        self._replies.ask(Step.TRIAL_NOOP, b"NOOP")
        self._state.on(Trigger.TRIAL_SAID)

    def _on_reply(self, slot: DueReply, reply: Reply) -> None:
        self._digits.append(reply.severity)
        if slot.step is Step.TRIAL_NOOP:
            passed = self._digits == _PASSED
            self._state.on(Trigger.TRIAL_PASSED if passed else Trigger.TRIAL_FAILED)


# --- commands behind a message that is not answered ---------------------------------------------------------

PLAIN_HINT = 'if this server does not support pipelining, set pipeline = "off" in its account'

_OUT_OF_PLACE = frozenset({500, 502, 503})
"""RFC 5321 section 4.2.2: not recognised, not implemented, bad sequence of commands."""
_WORDS = (
    "pipelin",
    "synchronis",
    "synchroniz",
    "bad sequence",
    "out of sequence",
    "protocol error",
    "protocol violation",
    "talking too soon",
    "early talker",
)
_EXPLICIT = frozenset({"connection_cap", "quota", "connections"})
"""Reasons that have nothing to do with pipelining."""
_MOST_UNPROVED = 3


class OverlapTrial:
    """Evaluates what happens to a message whose envelope was sent behind another one.

    Args:
        host: the server's name in errors.
        state: the session's state.

    """

    def __init__(self, host: str, state: SessionState) -> None:
        self.failure = ""
        """What the server did that shows that it does not support it; empty: nothing, in this session."""
        self.suspect = False
        """Whether the connection ended behind an overlapped hand-over, though the server had supported it."""
        self._host = host
        self._state = state
        self._refused = 0

    @property
    def unproved(self) -> bool:
        """Whether the server has not passed the trial."""
        return self._state.overlap is not Overlap.PASSED

    def begin(self) -> None:
        """Record that an envelope was sent behind an unanswered message."""
        if self._state.overlap is Overlap.UNTRIED:
            self._state.on(Trigger.OVERLAPPED)

    def borne(self) -> None:
        """Record that the server treated such a message like any other."""
        if self._state.overlap is Overlap.RUNNING:
            self._state.on(Trigger.BORNE)

    def blames(self, outcome: Outcome) -> bool:
        """Return whether an early message was refused because it came early, as far as its reply shows."""
        reply = outcome.reply
        if reply is None or outcome.reason in _EXPLICIT:
            return False
        if reply.code in _OUT_OF_PLACE:
            return True
        text = reply.text[:4000].casefold()
        if any(word in text for word in _WORDS):
            return True
        # The sender was accepted a moment ago, RSET is about no row, and pipelining may have made the server
        # close.
        about_us = reply.code == 421 or outcome.phase in {Phase.MAIL, Phase.RSET}
        return self._state.overlap is Overlap.RUNNING and about_us

    def blames_421(self, reply: Reply) -> bool:
        """Return whether a 421 came in a trial, without text that would explain it."""
        return self._state.overlap is Overlap.RUNNING and self.blames(classify(reply, Phase.RSET))

    def judge(self, outcome: Outcome) -> Outcome:
        """Return what the refusal of an early message means: above all, something about our pipelining."""
        running = self._state.overlap is Overlap.RUNNING
        blamed = bool(self.failure) or (self._state.overlap is not Overlap.UNTRIED and self.blames(outcome))
        if blamed:
            self.fail(f"it answered {outcome.reply}")
        elif running:
            # Perhaps it is about the row: that will be seen when it is sent alone.
            self._refused += 1
            if self._refused < _MOST_UNPROVED:
                self._state.on(Trigger.UNPROVED)
            else:
                self.fail(f"it answered {outcome.reply}, and not for the first time")
        else:
            return outcome
        return replace(
            outcome,
            status=Status.PENDING,
            scope=Scope.CONNECTION,
            reason="pipelining" if self._state.overlap is Overlap.FAILED else "early",
            retry_after=None,
            slower=False,
            hint=PLAIN_HINT,
        )

    def fail(self, failure: str) -> None:
        """Record that the server does not support it."""
        if self._state.overlap is not Overlap.FAILED:
            self._state.on(Trigger.NOT_BORNE)
            self.failure = failure

    def lost(self, reason: str, refusal: Outcome | None) -> None:
        """Record that the connection ended, because of *reason*, with an envelope behind a message.

        *refusal*: how that envelope was refused, if it was.
        """
        if refusal is not None and self._state.overlap is not Overlap.UNTRIED and self.blames(refusal):
            self.fail(f"it answered {refusal.reply}")
        elif self._state.overlap is Overlap.RUNNING:
            self.fail("it stopped answering" if reason == "timeout" else "it closed the connection")
        else:
            self.suspect = True

    def out_of_step(self, error: SessionError | None) -> None:
        """Record that the session proved out of step, because of *error*: in a trial, it has failed."""
        if self._state.overlap is Overlap.RUNNING:
            reply = error.reply if error else None
            self.fail(f"it answered {reply}" if reply else "its replies did not match the commands")

    def at_loss(self, transaction: Transaction, outcome: Outcome) -> Outcome:
        """Return what a lost connection means for a message if one was sent behind another."""
        if outcome.status is Status.IN_DOUBT:
            return replace(outcome, hint=PLAIN_HINT)
        if transaction.early and transaction.refusal is not None:
            return self.judge(outcome)
        if transaction.early and self.failure:
            return replace(outcome, reason="pipelining", hint=PLAIN_HINT)
        return outcome

    def error(self, reply: Reply) -> ConnectionLost:
        """Return the error that ends a session in which a message was refused for coming early."""
        return ConnectionLost(
            f"{self._host} refused a message that came before the last one was answered: {reply}",
            code="S650",
            reply=reply,
            hint=PLAIN_HINT,
        )
