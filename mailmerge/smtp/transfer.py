"""Messages over an open session: which may begin, what is sent for each, and its outcome.

Four modes, each only if the server's last EHLO reply allows it (`mailmerge.smtp.state` explains why they are
safe):

``off``
    One command, one reply.
``grouped``
    MAIL, RCPT and DATA in one write (RFC 2920), and nothing behind a message until it is answered: two round
    trips a message.
``overlap``
    The end of one content, then MAIL, RCPT and DATA of the next in the same write: one round trip a message,
    and never more than one message in doubt. Only if the rate requires it, and the server has passed a trial.
``window``
    RSET, MAIL, RCPT and the content as one BDAT chunk, back to back without waiting. Only if asked for,
    and only after the server proved in this session that it skips the chunk of a refused BDAT, and that it
    supports a second message behind the first. One message a second goes by DATA: its 354 is a sync point.

A message with several recipients is a barrier in every mode: all RCPT are answered before its content.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.errors import ConnectionLost, ProtocolError
from mailmerge.model import Outcome, Phase, Scope, Status
from mailmerge.smtp.pipelining import BdatTrial, OverlapTrial
from mailmerge.smtp.replies import as_suspicion, classify, refused_session, too_large, unanswered
from mailmerge.smtp.state import (
    Completed,
    Gate,
    InStep,
    Life,
    Overlap,
    ReleaseNeeded,
    Reset,
    Stage,
    Step,
    Trial,
    Trigger,
)
from mailmerge.smtp.transactions import (
    MessageLimit,
    Transaction,
    UnconfirmedOutcomes,
    Window,
    closing,
    needs_stuffing,
    out_of_step,
    split,
    stuffed,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from mailmerge.errors import SessionError
    from mailmerge.model import Message, Mode, Pipeline, Reply
    from mailmerge.smtp.reply_queue import DueReply, Handler, ReplyQueue
    from mailmerge.smtp.state import Event, SessionState
    from mailmerge.smtp.transactions import EndGate, Outbox

_ONE_BY_ONE = ("off", "grouped")
_OVERLAP = 2
"""Messages in flight in overlap: one whose content is unanswered, and the envelope of the next."""


class Transfer:
    """Hands messages over, as fast as mode, server and the caller's releases allow.

    Args:
        host: the server's name in errors.
        state: the session's state.
        replies: the queue through which steps are sent.
        outbox: receives the content.
        events: events are appended here.
        pipeline: the configured mode.
        messages_per_connection: how many messages earlier connections could send; None: no limit was met.

    """

    def __init__(
        self,
        host: str,
        state: SessionState,
        replies: ReplyQueue,
        outbox: Outbox,
        events: list[Event],
        *,
        pipeline: Pipeline | Mode,
        messages_per_connection: int | None,
    ) -> None:
        self._trial = BdatTrial(state, replies)
        self.overlap = OverlapTrial(host, state)
        self.may_overlap = True
        """Whether the caller allows a message to begin behind an unanswered one."""
        self.sync_due = False
        """Whether the next message of a window goes by DATA, because of its 354; before a trial, it does."""
        self.unconfirmed = UnconfirmedOutcomes()
        self.handlers: Mapping[Step, Handler] = {
            Step.MAIL: self._for_message(self._on_mail),
            Step.RCPT: self._for_message(self._on_rcpt),
            Step.DATA: self._for_message(self._on_data),
            Step.CONTENT: self._for_message(self._on_content),
            Step.CHUNK: self._for_message(self._on_chunk),
            Step.EARLY_RSET: self._for_message(self._on_early_rset),
            **dict.fromkeys((Step.LONE_DOT, Step.RSET, Step.NOOP), _ignore),
            **self._trial.handlers,
        }
        self.window = Window()
        self.limit = MessageLimit(state, messages_per_connection)
        self.last_error: SessionError | None = None
        """The error for which sending stopped, if any: how the session ends once it is drained."""
        self._host = host
        self._state = state
        self._replies = replies
        self._outbox = outbox
        self._events = events
        self._pipeline = pipeline
        self._in_flight: dict[int, Transaction] = {}
        """All submitted messages without an outcome, by token."""
        self._waiting: deque[Transaction] = deque()
        self._active: deque[Transaction] = deque()
        """Those whose MAIL was sent, in that order."""
        self._farewell: Reply | None = None
        """The 421 that ended the session."""
        self.given_up = False
        """Whether we end the connection ourselves, which tells nothing about the server."""

    def _for_message(self, handle: Callable[[Transaction, Reply], None]) -> Handler:
        """Return the handler of a step that belongs to a message."""

        def handler(slot: DueReply, reply: Reply) -> None:
            assert slot.token is not None
            handle(self._in_flight[slot.token], reply)

        return handler

    # --- for the session ------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Messages submitted and not completed."""
        return len(self._in_flight)

    @property
    def idle(self) -> bool:
        """Whether nothing is in transit, not even a reply that matters to no message."""
        return not self._in_flight and not self._replies

    @property
    def mode(self) -> Mode:
        """How messages are handed over now."""
        if self._pipeline == "off" or not self._state.offers.pipelining:
            return "off"
        if self._pipeline == "grouped" or self._state.overlap is Overlap.FAILED:
            return "grouped"
        if self._state.trial is Trial.PASSED and not self.window.shut:
            return "window"
        return "overlap"

    def can_accept(self) -> bool:
        """Whether another message may be submitted now."""
        if self._state.life is not Life.OPEN or self.limit.reached(len(self._waiting)):
            return False
        if not self._in_flight:
            return True
        mode = self.mode
        if mode in _ONE_BY_ONE or self._state.overlap is Overlap.RUNNING:
            return False
        if not self.may_overlap or self._trial_is_due():
            return False
        last = self._waiting[-1] if self._waiting else self._active[-1]
        if mode == "window":
            # Behind one that goes by DATA, nothing joins a window before its 354.
            joins = last.by_chunk or (last.stage is Stage.CONTENT and last.synchronises)
            return joins and self.window.has_room(len(self._in_flight)) and self._can_be_followed(last)
        return len(self._in_flight) < _OVERLAP and self._can_be_followed(last)

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand *message* over, as soon as those before it allow it.

        One without content is an envelope that is only tested, in mode ``off``: RSET follows its RCPT.

        Raises:
            RuntimeError: it cannot be accepted now, or the envelope is not made of plain addresses.

        """
        if not self.can_accept() or token in self._in_flight:
            raise RuntimeError("a message was submitted that cannot be accepted now")
        transaction = Transaction(message, token)
        # RFC 1870 section 6.1 lets the server refuse it at MAIL. We do not even try: several servers count
        # it as an error of ours, and one of them stops reading half-way through the content.
        limit = self._state.offers.max_size
        if limit is not None and message.size > limit:
            self._events.append(Completed(token, too_large(message.size, limit)))
            return
        self._in_flight[token] = transaction
        self._waiting.append(transaction)
        if self._state.trial is Trial.UNTRIED and self._trial_is_due():
            self.limit.mails += 1
            self._trial.begin(transaction.sender)

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages be sent; tokens that already have their outcome are ignored.

        Raises:
            RuntimeError: the release of one was not asked for yet.

        """
        for token in tokens:
            transaction = self._in_flight.get(token)
            if transaction:
                transaction.gate.state = transaction.gate.state.after(Trigger.RELEASED)

    def go_on(self) -> None:
        """Begin what may begin, and request the release that blocks the queue."""
        if not self._state.begun:
            return
        while self._waiting:
            mode = self.mode
            if not self._may_begin(mode):
                break
            self._begin(self._waiting.popleft(), mode)
        gate = self._outbox.gate()
        if gate:
            self._ask_release(gate)

    def would_suffer(self) -> bool:
        """Return whether a message would be affected if the connection ended now."""
        if any(self._outbox.written >= transaction.start for transaction in self._active):
            return True
        # A server that closes before it accepted anything must not look like one that times out when idle.
        return bool(self._in_flight) and not self.limit.accepted

    # --- who may begin --------------------------------------------------------------------------------

    def _trial_is_due(self) -> bool:
        if self._pipeline != "window" or self._state.overlap is Overlap.FAILED:
            return False
        return self._trial.possible or self._state.trial is Trial.RUNNING

    def _may_begin(self, mode: Mode) -> bool:
        if self._state.life is not Life.OPEN or self._state.trial is Trial.RUNNING:
            return False
        if not self._active:
            if mode == "off":
                return not self._replies
            # An unanswered empty message is a message too.
            return self._state.overlap is Overlap.PASSED or self._replies.awaited is not Step.LONE_DOT
        if mode in _ONE_BY_ONE or self._state.overlap is Overlap.RUNNING:
            return False
        last = self._active[-1]  # those before it go by BDAT too
        if mode == "window" and self._waiting[0].alone:
            return last.by_chunk or (last.stage is Stage.CONTENT and last.synchronises)
        # An unanswered chunk may still be refused, and a DATA behind it would need the RSET first.
        return last.stage is Stage.CONTENT and not last.by_chunk and self._can_be_followed(last)

    def _can_be_followed(self, last: Transaction) -> bool:
        """Return whether an envelope may be sent behind *last*: in a trial only in one write with its end.

        Otherwise the server might have answered it before the envelope came, which would prove nothing.
        """
        return self._state.overlap is Overlap.PASSED or not last.written_whole(self._outbox.written)

    def _begin(self, transaction: Transaction, mode: Mode) -> None:
        self.limit.mails += 1
        if self._active:
            transaction.early = True
            self.overlap.begin()
        self._active.append(transaction)
        in_window = mode == "window" and transaction.alone
        if in_window and not (self.unconfirmed and (self.sync_due or self.overlap.unproved)):
            self._begin_chunk(transaction)
        else:
            transaction.synchronises = in_window
            if in_window or self._state.reset is Reset.DUE:
                self._say_rset(transaction)
            self._say_mail(transaction)
            self._go_on_with(transaction)
        if self.limit.reached():
            self._state.on(Trigger.RETIRE)

    def _say_rset(self, before: Transaction | None = None) -> None:
        early = before.token if before and before.early else None
        self._replies.ask(Step.RSET if early is None else Step.EARLY_RSET, b"RSET", early)
        if self._state.reset is Reset.DUE:
            self._state.on(Trigger.RSET_SAID)

    def _on_early_rset(self, transaction: Transaction, reply: Reply) -> None:
        if reply.severity != 2:
            self._note_refusal(transaction, reply, Phase.RSET)
        if reply.severity != 2 and self._state.begun:
            raise ProtocolError(f"the server answered RSET with {reply}", code="S632", reply=reply)

    def _say_mail(self, transaction: Transaction) -> None:
        parameters = transaction.parameters(self._state.offers)
        self._replies.ask(Step.MAIL, b"MAIL FROM:%b%b" % (transaction.sender, parameters), transaction.token)
        transaction.stage = transaction.stage.after(Trigger.MAIL_SAID)
        transaction.start = self._outbox.queued
        transaction.unanswered += 1

    def _say_rcpt(self, transaction: Transaction) -> None:
        self._replies.ask(Step.RCPT, b"RCPT TO:" + transaction.unasked.pop(), transaction.token)
        transaction.unanswered += 1

    def _say_data(self, transaction: Transaction) -> None:
        self._replies.ask(Step.DATA, b"DATA", transaction.token)
        transaction.unanswered += 1

    # --- content after DATA (modes off and overlap) ---------------------------------------------------

    def _go_on_with(self, transaction: Transaction) -> None:
        """Send the part of the envelope that may be sent now, or give up."""
        if not self._state.begun:
            return
        together = self.mode != "off"
        while transaction.unasked and (together or not transaction.unanswered):
            if transaction.refusal and transaction.refusal.phase is Phase.MAIL:
                transaction.unasked.clear()
                break
            self._say_rcpt(transaction)
            if together and transaction.alone:
                # RFC 2920 section 3.1: DATA must be the last of a group, so nothing is sent behind it.
                self._say_data(transaction)
        if transaction.unanswered or transaction.unasked:
            return
        if transaction.refusal:
            self._complete(transaction, transaction.refused_outcome())
        elif transaction.message.segments:
            self._say_data(transaction)
        else:
            self._complete(transaction, Outcome(Status.PENDING, Scope.ROW, Phase.RCPT, reason="envelope"))

    def _on_mail(self, transaction: Transaction, reply: Reply) -> None:
        transaction.unanswered -= 1
        if reply.severity != 2:
            self._note_refusal(transaction, reply, Phase.MAIL)
        if not transaction.by_chunk:
            self._go_on_with(transaction)

    def _on_rcpt(self, transaction: Transaction, reply: Reply) -> None:
        transaction.unanswered -= 1
        answered = transaction.taken + len(transaction.refused)
        if reply.severity == 2:
            if transaction.refusal and transaction.refusal.phase is Phase.MAIL:
                # What comes next might be delivered, under any sender. RFC 5321 has no way out of
                # it but to close; more likely one of the two replies was not meant for this message.
                raise ProtocolError(
                    "the server accepted a recipient of a message whose sender it had refused: "
                    f"{transaction.refusal.reply}",
                    code="S632",
                )
            transaction.taken += 1
        else:
            transaction.refused.append((transaction.message.envelope.rcpt_to[answered], reply))
            # "503 need MAIL" tells nothing about this recipient if MAIL itself was refused.
            if not (transaction.refusal and transaction.refusal.phase is Phase.MAIL):
                self._note_refusal(transaction, reply, Phase.RCPT)
        if not transaction.by_chunk:
            self._go_on_with(transaction)

    def _on_data(self, transaction: Transaction, reply: Reply) -> None:
        transaction.unanswered -= 1
        if reply.severity != 3:
            if transaction.refusal is None:
                self._note_refusal(transaction, reply, Phase.DATA)
            self._complete(transaction, transaction.refused_outcome())
            return
        self.sync_due = False  # a 354 is a sync point
        if self.unconfirmed:
            self._events.append(InStep(self.unconfirmed.confirm()))
        if not self._state.begun:
            return
        if transaction.refusal is None:
            if transaction.early:
                self.overlap.borne()
            self._say_content(transaction)
        else:
            self._say_lone_dot(transaction)

    def _say_lone_dot(self, transaction: Transaction) -> None:
        """End a DATA that was accepted although every recipient was refused.

        RFC 2920 section 3.1: the client sends a single dot, and a message without recipients goes nowhere.
        """
        self._replies.ask(Step.LONE_DOT, b".")
        # The end of content clears the server's buffers (RFC 5321 section 4.1.1.4): no RSET behind it.
        self._complete(transaction, transaction.refused_outcome(), forgotten=True)

    def _say_content(self, transaction: Transaction) -> None:
        segments = transaction.message.segments
        if needs_stuffing(segments):
            segments = stuffed(segments)
        # The reply is due from the content's first octet on: a server may refuse it half-way.
        self._queue_content(transaction, Step.CONTENT, self._outbox.queued + 1, segments, closing(segments))

    def _queue_content(
        self, transaction: Transaction, step: Step, due: int, segments: tuple[bytes, ...], end: bytes
    ) -> None:
        """Queue the content, its last octets behind a gate, so that no partial message can be accepted."""
        transaction.end = self._outbox.queued + sum(map(len, segments)) + len(end)
        self._replies.owe(step, transaction.token, due, transaction.end)
        head, tail = split(segments, end)
        for buffer in head:
            self._outbox.put(buffer)
        self._outbox.hold(transaction.gate)
        self._outbox.put(tail)
        transaction.stage = transaction.stage.after(Trigger.CONTENT_QUEUED)
        self._replies.note_content(transaction.message.size)
        if not head:
            self._ask_release(transaction.gate)

    def _ask_release(self, gate: EndGate) -> None:
        """Report, once, that only the end of this message is left to write."""
        if self._state.overlap is Overlap.RUNNING and self._active[-1].gate is gate:
            last = self._active[-1]
            if last.early and (last is not self._active[0] or last.unanswered):
                return  # the second message of a window: it is unknown whether the server supports it
        if gate.state is Gate.SHUT:
            gate.state = gate.state.after(Trigger.END_REACHED)
            self._events.append(ReleaseNeeded(gate.token))

    def _on_content(self, transaction: Transaction, reply: Reply) -> None:
        if transaction.written_whole(self._outbox.written):
            self._complete(transaction, classify(reply, Phase.CONTENT, transaction.message.envelope))
        else:
            self._take_early_reply(transaction, reply)

    def _take_early_reply(self, transaction: Transaction, reply: Reply) -> None:
        """Process a reply to content that is not written whole: the rest of it may not follow."""
        if reply.severity == 2:
            raise ProtocolError(
                f"the server accepted a message before its end: {reply}", code="S632", reply=reply
            )
        outcome = classify(reply, Phase.CONTENT, transaction.message.envelope)
        transaction.refuse(replace(outcome, phase=Phase.DATA))
        self.drain(
            Trigger.EARLY_REFUSAL,
            ConnectionLost(
                f"{self._host} refused a message before its end: {reply}", code="S616", reply=reply
            ),
        )

    # --- content by BDAT (mode window) ----------------------------------------------------------------

    def _begin_chunk(self, transaction: Transaction) -> None:
        transaction.by_chunk = True
        self.window.octets += transaction.message.size
        self._say_rset(transaction)
        self._say_mail(transaction)
        self._say_rcpt(transaction)
        due = self._replies.say(b"BDAT %d LAST" % transaction.message.size)
        # The size is stated: no dot is doubled, and none ends the content (RFC 3030 section 2).
        self._queue_content(transaction, Step.CHUNK, due, transaction.message.segments, b"")

    def _on_chunk(self, transaction: Transaction, reply: Reply) -> None:
        refusal = transaction.refusal
        if not transaction.written_whole(self._outbox.written):
            self._take_early_reply(transaction, reply)
        elif refusal is None:
            if transaction.early and reply.severity == 2:
                self.overlap.borne()
            self._complete(transaction, classify(reply, Phase.CONTENT, transaction.message.envelope))
        elif reply.severity != 2:
            self._complete(transaction, transaction.refused_outcome())
        else:
            # Its envelope was refused, yet it was accepted: whether anybody gets it is unknown. Exim did this
            # without an RSET in between, under the envelope of an earlier message.
            transaction.refusal = None
            raise ProtocolError(
                f"the server accepted a message whose envelope it had refused: {refusal.reply}", code="S632"
            )

    # --- the end of a message -------------------------------------------------------------------------

    def _note_refusal(self, transaction: Transaction, reply: Reply, phase: Phase) -> None:
        outcome = classify(reply, phase, transaction.message.envelope)
        if self.limit.accepted or transaction.taken:
            # We were accepted a moment ago, so what is in flight need not be withdrawn.
            outcome = as_suspicion(outcome)
        transaction.refuse(outcome)
        if transaction.early and self._state.overlap is not Overlap.UNTRIED and self.overlap.blames(outcome):
            # Any further replies only repeat this one: they are not waited for as long as usual.
            self.drain(Trigger.EARLY_REFUSAL, self.overlap.error(reply))
        else:
            self.limit.refused(outcome)

    def _complete(self, transaction: Transaction, outcome: Outcome, *, forgotten: bool = False) -> None:
        if outcome.status is not Status.ACCEPTED and self._suffered(transaction, outcome):
            outcome = self.overlap.judge(outcome)
        self.unconfirmed.add(transaction, outcome, whole=transaction.written_whole(self._outbox.written))
        self._active.remove(transaction)
        del self._in_flight[transaction.token]
        transaction.stage = transaction.stage.after(Trigger.COMPLETED)
        self._events.append(Completed(transaction.token, outcome))
        if transaction.by_chunk:
            self.window.octets -= transaction.message.size
        if outcome.status is Status.ACCEPTED:
            self.limit.accepted += 1
            self.window.accepted()
        else:
            self._after_refusal(transaction, outcome, forgotten=forgotten)
        if not self._in_flight:
            self.window.drained()

    def _after_refusal(self, transaction: Transaction, outcome: Outcome, *, forgotten: bool) -> None:
        self.window.refused()
        if outcome.scope is not Scope.ROW and outcome.reason != "early":
            # The next message would meet the same refusal before anybody could stop it.
            if outcome.scope is Scope.CONNECTION and self._state.life is Life.OPEN:
                self._state.on(Trigger.RETIRE)
            self._withdraw()
        if not self._state.begun:
            return
        if transaction.by_chunk:
            self._state.on(Trigger.CHUNK_REFUSED)
        elif not self._active and not forgotten:
            # In overlap the next one's DATA was sent already: RSET behind it would arrive as its content.
            # It is not needed either, as after an empty message.
            self._say_rset()

    # --- the end of the session -----------------------------------------------------------------------

    def _suffered(self, transaction: Transaction, outcome: Outcome) -> bool:
        """Return whether a refusal may be due to an envelope that was sent behind a message."""
        return transaction.early or (self._active[-1].early and self.overlap.blames(outcome))

    def on_421(self, reply: Reply, *, hurt: bool) -> None:
        """Process a 421: an error if a message was affected or it is about the account, else just the end."""
        self._farewell = reply
        error = refused_session(self._host, "closed the session", reply, Phase.RSET)
        blamed = classify(reply, Phase.RSET).scope is not Scope.CONNECTION
        if self.overlap.blames_421(reply):
            error = self.overlap.error(reply)
        self.drain(Trigger.SHUTDOWN, error if hurt or blamed else None)

    def drain(self, trigger: Trigger, error: SessionError | None) -> None:
        """Stop sending because of *trigger*: only replies that are on their way still count.

        The first reason counts: what follows is its consequence.
        """
        first = self._state.life is not Life.DRAINING
        self._state.on(trigger)
        if first:
            self.last_error = error
            self._replies.forget_unsaid()
            self._withdraw()
            self._outbox.clear()

    def _withdraw(self) -> None:
        """Withdraw the messages that have not begun."""
        for transaction in self._waiting:
            del self._in_flight[transaction.token]
            transaction.stage = transaction.stage.after(Trigger.COMPLETED)
            self._events.append(Completed(transaction.token, self._never_begun()))
        self._waiting.clear()

    def _never_begun(self) -> Outcome:
        reason = "withdrawn" if self._state.begun else "dropped"
        return replace(unanswered(Phase.MAIL, written_whole=False, reason=reason), reply=self._farewell)

    def abandon(self, error: SessionError | None, *, slipped: bool) -> None:
        """Set the outcome of every message: the connection is closed, or about to be.

        *slipped*: the session proved out of step, so outcomes since the last sync point are void.
        """
        reason = "timeout" if error and error.code == "S613" else "dropped"
        phases = self._replies.phases()
        if slipped:
            self._events.extend(self.unconfirmed.revise())
        early = next((transaction for transaction in self._active if transaction.early), None)
        if early and not slipped and not self.given_up:
            self.overlap.lost(reason, early.refusal)
        for transaction in self._active:
            whole = transaction.written_whole(self._outbox.written)
            if slipped:
                outcome = out_of_step(None, whole=whole)
            else:
                outcome = transaction.outcome_at_loss(
                    phases.get(transaction.token, Phase.MAIL),
                    reason,
                    written=self._outbox.written,
                    farewell=self._farewell,
                )
                if early:
                    outcome = self.overlap.at_loss(transaction, outcome)
            del self._in_flight[transaction.token]
            transaction.stage = transaction.stage.after(Trigger.COMPLETED)
            self._events.append(Completed(transaction.token, outcome))
        self._active.clear()
        self._withdraw()


def _ignore(_slot: DueReply, _reply: Reply) -> None:
    """Ignore a reply that changes nothing."""
