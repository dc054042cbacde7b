"""The client's side of one SMTP session, greeting to QUIT, without I/O.

Bytes go in by ``receive`` and out by ``outbox``; what concerns messages comes back as events. Three
ways of handing messages over, each only where the server's last EHLO allows it:

``off``
    One command, one reply.
``overlap``
    The end of one content, then MAIL, RCPT and DATA of the next in the same write (RFC 2920): one
    round trip a message, and never more than one message in doubt.
``window``
    RSET, MAIL, RCPT and the content as one BDAT chunk, back to back without waiting. Only if asked for,
    and only after the server proved in this session that it discards the chunk of a refused BDAT.

A message with several recipients is a barrier in every mode: all RCPT are answered before its
content, because after 354 the only way back is to close the connection.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from msgspec.structs import replace

from mailmerge.errors import ConnectionLost, ProtocolError
from mailmerge.model import Outcome, Phase, Scope, Status
from mailmerge.smtp.events import Completed, ReleaseNeeded
from mailmerge.smtp.handshake import Opening
from mailmerge.smtp.replies import classify, too_large, unanswered
from mailmerge.smtp.state import TABLE, Slot, State, Step
from mailmerge.smtp.transactions import Transaction, Window, closing, needs_stuffing, split, stuffed

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from mailmerge.addresses import Address
    from mailmerge.errors import SessionError
    from mailmerge.model import Message, Mode, Pipeline, Reply
    from mailmerge.smtp.sasl import Credentials


_FORBIDDEN = frozenset(" <>")
_PROOF = b"XXXX\r\n"
"""The chunk of the trial BDAT: executed as a command it brings a 500 where RSET's 250 is due."""


class Session(Opening):
    """Hands messages over; see the module for the ways to do so."""

    def __init__(
        self,
        host: str,
        helo: str,
        *,
        starttls: bool,
        private: bool,
        credentials: Credentials | None = None,
        pipeline: Pipeline = "auto",
        messages_per_connection: int | None = None,
        transcript: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__(
            host,
            helo,
            starttls=starttls,
            private=private,
            credentials=credentials,
            transcript=transcript,
        )
        self.connection_limit: int | None = None
        """How many messages the server took before it wanted a new connection."""
        self.connection_limit_stated = False
        """Whether it said that this is a rule of its own; else it may have been an accident."""
        self._pipeline = pipeline
        self._messages_per_connection = messages_per_connection
        self._flying: dict[int, Transaction] = {}
        self._waiting: deque[Transaction] = deque()
        self._active: deque[Transaction] = deque()
        self._window = Window()
        self._proof: list[int] | None = None
        self._proven: bool | None = None
        self._mails = 0
        self._accepted = 0
        self._stale = False
        self._retiring = False

    # --- for the sender -------------------------------------------------------------------------------

    @property
    def in_flight(self) -> int:
        """Messages submitted and not completed."""
        return len(self._flying)

    @property
    def mode(self) -> Mode:
        """How messages are handed over just now."""
        if self._pipeline == "off" or not self.offers.pipelining:
            return "off"
        if self._proven and not self._window.shut:
            return "window"
        return "overlap"

    def can_accept(self) -> bool:
        """Whether another message may be submitted now."""
        if self.state is not State.READY or self._retiring or self._limit_reached(len(self._waiting)):
            return False
        if not self._flying:
            return True
        mode = self.mode
        if mode == "off" or self._must_prove():
            return False
        if mode == "overlap":
            return len(self._flying) < 2
        last = self._waiting[-1] if self._waiting else self._active[-1]
        return last.by_chunk and self._window.has_room(len(self._flying))

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand *message* over, as soon as those before it let it.

        Raises:
            RuntimeError: there was no room, or the envelope is no pair of plain addresses.

        """
        if not self.can_accept() or token in self._flying:
            raise RuntimeError("a message was submitted that cannot be accepted now")
        for address in (message.envelope.mail_from, *message.envelope.rcpt_to):
            _check(address)
        limit = self.offers.max_size
        if limit is not None and message.size > limit:
            self._events.append(Completed(token, too_large(message.size, limit)))
            return
        transaction = Transaction(message, token)
        self._flying[token] = transaction
        self._waiting.append(transaction)
        if self._must_prove() and self._proof is None:
            self._begin_proof(message.envelope.mail_from)
        self._settle()

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages go: their promises are durable."""
        for token in tokens:
            transaction = self._flying.get(token)
            if transaction:
                transaction.promised = True
        self._settle()

    def quit(self) -> None:
        """Say QUIT, if nothing is in flight."""
        if self._flying:
            raise RuntimeError("QUIT while messages are in flight")
        if self.state in TABLE[Step.QUIT].states:
            self._ask(Step.QUIT, b"QUIT")
            self.state = State.PARTING

    @property
    def proving(self) -> bool:
        """Whether the trial of BDAT is under way, or has failed."""
        return self._proof is not None or self._proven is False

    def noop(self) -> None:
        """Ask whether the server is still there; ``answered`` grows when it is."""
        self._ask(Step.NOOP, b"NOOP")

    # --- beginning ------------------------------------------------------------------------------------

    def _settle(self) -> None:
        if self.state is State.READY:
            while self._waiting and self._may_begin():
                self._begin(self._waiting.popleft())
            gate = self.outbox.gate()
            if gate:
                self._need_promise(gate)
            done = not self._flying and not self._awaited
            if done and (self._retiring or self._limit_reached(0)):
                self.quit()
        super()._settle()

    def _limit_reached(self, more: int) -> bool:
        stated, learnt = self.offers.max_mails, self._messages_per_connection
        if stated and self._mails + more >= stated:
            return True
        # What was learnt counts messages; what the server states counts the MAIL of the trial, too.
        trial = self._proof is not None or self._proven is not None
        return bool(learnt) and self._mails - trial + more >= (learnt or 0)

    def _may_begin(self) -> bool:
        if self._retiring or self._proof is not None:
            return False
        mode = self.mode
        if mode == "off":
            return not self._active and not self._awaited
        if not self._active:
            return True
        last = self._active[-1]  # those before it are of its kind
        if mode == "window" and self._waiting[0].alone:
            return last.by_chunk
        return last.end is not None and not last.by_chunk

    def _begin(self, transaction: Transaction) -> None:
        self._mails += 1
        self._active.append(transaction)
        if self.mode == "window" and transaction.alone:
            self._begin_chunk(transaction)
            return
        if self._stale:
            self._reset()
        self._ask_mail(transaction)
        transaction.unasked = list(reversed(transaction.message.envelope.rcpt_to))
        self._go_on_with(transaction)

    def _reset(self) -> None:
        self._stale = False
        self._ask(Step.RSET, b"RSET")

    def _ask_mail(self, transaction: Transaction) -> None:
        message = transaction.message
        size = b" SIZE=%d" % message.size if self.offers.sizes else b""
        sender = str(message.envelope.mail_from).encode("ascii")
        self._ask(Step.MAIL, b"MAIL FROM:<%b>%b" % (sender, size), transaction)
        transaction.start = self.outbox.queued
        transaction.unanswered += 1

    def _ask_rcpt(self, transaction: Transaction, address: Address) -> None:
        self._ask(Step.RCPT, b"RCPT TO:<%b>" % str(address).encode("ascii"), transaction)
        transaction.unanswered += 1

    # --- content after DATA (modes off and overlap) ---------------------------------------------------

    def _go_on_with(self, transaction: Transaction) -> None:
        """Say what of the envelope may be said now, or give up."""
        if self.state is not State.READY:
            return
        together = self.mode != "off"
        while transaction.unasked and (together or not transaction.unanswered):
            if transaction.refusal and transaction.refusal.phase is Phase.MAIL:
                transaction.unasked.clear()
                break
            self._ask_rcpt(transaction, transaction.unasked.pop())
            if together and transaction.alone:
                self._ask(Step.DATA, b"DATA", transaction)
                transaction.unanswered += 1
        if transaction.unanswered or transaction.unasked:
            return
        if transaction.refusal:
            self._complete(transaction, self._with_refused(transaction))
        else:
            self._ask(Step.DATA, b"DATA", transaction)
            transaction.unanswered += 1

    def _on_mail(self, slot: Slot, reply: Reply) -> None:
        transaction = _of(slot)
        transaction.unanswered -= 1
        if reply.severity != 2:
            self._note_refusal(transaction, reply, Phase.MAIL)
        if not transaction.by_chunk:
            self._go_on_with(transaction)

    def _on_rcpt(self, slot: Slot, reply: Reply) -> None:
        transaction = _of(slot)
        transaction.unanswered -= 1
        answered = transaction.taken + len(transaction.refused)
        if reply.severity == 2:
            transaction.taken += 1
        else:
            transaction.refused.append((transaction.message.envelope.rcpt_to[answered], reply))
            if not (transaction.refusal and transaction.refusal.phase is Phase.MAIL):
                self._note_refusal(transaction, reply, Phase.RCPT)
        if not transaction.by_chunk:
            self._go_on_with(transaction)

    def _on_data(self, slot: Slot, reply: Reply) -> None:
        transaction = _of(slot)
        transaction.unanswered -= 1
        if reply.severity != 3:
            if transaction.refusal is None:
                self._note_refusal(transaction, reply, Phase.DATA)
            self._complete(transaction, self._with_refused(transaction))
        elif self.state is not State.READY:
            return
        elif transaction.refusal is None:
            self._send_content(transaction)
        elif transaction.taken:
            raise ProtocolError(
                f"the server takes recipients of a message it refused: {transaction.refusal.reply}",
                code="S632",
            )
        else:
            # RFC 2920 section 3.1: an empty message without recipients is how to leave this state.
            due = self.outbox.put(b".\r\n")
            self._awaited.append(Slot(Step.LONE_DOT, None, due))
            self._note("C", ".")
            self._complete(transaction, self._with_refused(transaction))

    def _send_content(self, transaction: Transaction) -> None:
        segments = transaction.message.segments
        if needs_stuffing(segments):
            segments = stuffed(segments)
        self._queue_content(transaction, Step.CONTENT, segments, closing(segments))

    def _queue_content(
        self, transaction: Transaction, step: Step, segments: tuple[bytes, ...], end: bytes
    ) -> None:
        head, tail = split(segments, end)
        slot = Slot(step, transaction, self.outbox.queued + 1)
        for buffer in head:
            self.outbox.put(buffer)
        self.outbox.hold(transaction)
        transaction.end = self.outbox.put(tail)
        self._awaited.append(slot)
        if self._transcript:
            self._note("C", f"<{transaction.message.size} octets of content>")
        if not head:
            self._need_promise(transaction)

    def _need_promise(self, transaction: Transaction) -> None:
        if not transaction.asked:
            transaction.asked = True
            self._events.append(ReleaseNeeded(transaction.token))

    def _on_content(self, slot: Slot, reply: Reply) -> None:
        transaction = _of(slot)
        if transaction.end is None or self.outbox.written < transaction.end:
            self._take_early_reply(transaction, reply)
            return
        self._complete(transaction, classify(reply, Phase.CONTENT))

    def _take_early_reply(self, transaction: Transaction, reply: Reply) -> None:
        """Take a verdict on content that is not written whole: what is left of it may not follow."""
        if reply.severity == 2:
            raise ProtocolError(
                f"the server took a message before its end: {reply}", code="S632", reply=reply
            )
        transaction.refuse(replace(classify(reply, Phase.CONTENT), phase=Phase.DATA))
        self._fall_silent(
            ConnectionLost(f"{self.host} refused a message before its end: {reply}", code="S616", reply=reply)
        )

    # --- content by BDAT (mode window) ----------------------------------------------------------------

    def _must_prove(self) -> bool:
        offers = self.offers
        return self._pipeline == "window" and self._proven is None and offers.pipelining and offers.chunking

    def _begin_proof(self, sender: Address) -> None:
        """Find out, in one write, whether the server discards the chunk of a BDAT that it refuses."""
        self._proof = []
        self._mails += 1
        self._ask(Step.PROOF_MAIL, b"MAIL FROM:<%b>" % str(sender).encode("ascii"))
        self._ask(Step.PROOF_CHUNK, b"BDAT %d LAST\r\n%b" % (len(_PROOF), _PROOF[:-2]))
        self._ask(Step.PROOF_RSET, b"RSET")
        self._ask(Step.PROOF_NOOP, b"NOOP")

    def _on_proof(self, slot: Slot, reply: Reply) -> None:
        if self._proof is None:
            return
        self._proof.append(reply.severity)
        if slot.step is Step.PROOF_NOOP:
            self._proven = self._proof == [2, 5, 2, 2]
            self._proof = None

    def _begin_chunk(self, transaction: Transaction) -> None:
        transaction.by_chunk = True
        self._window.octets += transaction.message.size
        self._reset()
        self._ask_mail(transaction)
        self._ask_rcpt(transaction, transaction.message.envelope.rcpt_to[0])
        line = b"BDAT %d LAST\r\n" % transaction.message.size
        self._note("C", line[:-2].decode("ascii"))
        start = self.outbox.put(line)
        self._queue_content(transaction, Step.CHUNK, transaction.message.segments, b"")
        self._awaited[-1] = Slot(Step.CHUNK, transaction, start)

    def _on_chunk(self, slot: Slot, reply: Reply) -> None:
        transaction = _of(slot)
        refusal = transaction.refusal
        if transaction.end is None or self.outbox.written < transaction.end:
            self._take_early_reply(transaction, reply)
        elif refusal is None:
            self._complete(transaction, classify(reply, Phase.CONTENT))
        elif reply.severity != 2:
            self._complete(transaction, self._with_refused(transaction))
        else:
            # Refused by its envelope, yet taken: whether anybody gets it is unknowable.
            transaction.refusal = None
            raise ProtocolError(
                f"the server took a message whose envelope it had refused: {refusal.reply}", code="S632"
            )

    # --- the end of a message -------------------------------------------------------------------------

    def _note_refusal(self, transaction: Transaction, reply: Reply, phase: Phase) -> None:
        outcome = classify(reply, phase)
        transaction.refuse(outcome)
        if outcome.scope is Scope.CONNECTION and self._accepted and self.connection_limit is None:
            self.connection_limit = self._accepted
            self.connection_limit_stated = outcome.reason == "connection_cap"

    def _with_refused(self, transaction: Transaction) -> Outcome:
        if transaction.refusal is None:
            raise RuntimeError("nothing was refused")
        return replace(transaction.refusal, refused=tuple(transaction.refused))

    def _complete(self, transaction: Transaction, outcome: Outcome) -> None:
        self._active.remove(transaction)
        del self._flying[transaction.token]
        self._events.append(Completed(transaction.token, outcome))
        if transaction.by_chunk:
            self._window.octets -= transaction.message.size
        if outcome.status is Status.ACCEPTED:
            self._accepted += 1
            self._window.accepted()
        else:
            self._after_refusal(transaction, outcome)
        if not self._flying:
            self._window.drained()

    def _after_refusal(self, transaction: Transaction, outcome: Outcome) -> None:
        self._window.refused()
        if outcome.scope is not Scope.ROW:
            # The next message would meet the same refusal before anybody could stop it.
            self._retiring = self._retiring or outcome.scope is Scope.CONNECTION
            self._withdraw()
        if self.state is not State.READY:
            return
        if self._active or transaction.by_chunk:
            # In a window RSET precedes every MAIL; an overlapping MAIL has already left.
            self._stale = self._stale or transaction.by_chunk
        else:
            self._reset()

    def _busy(self) -> bool:
        if any(self.outbox.written >= transaction.start for transaction in self._active):
            return True
        # A server that closes before it took anything at all must not look like one that idles out.
        return bool(self._flying) and not self._accepted

    def _withdraw(self) -> None:
        for transaction in self._waiting:
            del self._flying[transaction.token]
            self._events.append(Completed(transaction.token, self._never_begun()))
        self._waiting.clear()

    def _never_begun(self) -> Outcome:
        reason = "withdrawn" if self.state is State.READY else "dropped"
        return replace(unanswered(Phase.MAIL, written_whole=False, reason=reason), reply=self._farewell)

    def _abandon(self, error: SessionError | None) -> None:
        reason = "timeout" if error and error.code == "S613" else "dropped"
        phases: dict[int, Phase] = {}
        for slot in self._awaited:
            if slot.transaction:
                phases.setdefault(slot.transaction.token, TABLE[slot.step].phase)
        for transaction in self._active:
            outcome = self._outcome_at_loss(transaction, phases.get(transaction.token, Phase.MAIL), reason)
            del self._flying[transaction.token]
            self._events.append(Completed(transaction.token, outcome))
        self._active.clear()
        self._withdraw()

    def _outcome_at_loss(self, transaction: Transaction, phase: Phase, reason: str) -> Outcome:
        if transaction.refusal:
            return self._with_refused(transaction)
        whole = transaction.end is not None and self.outbox.written >= transaction.end
        if phase is Phase.CONTENT and not whole:
            phase = Phase.DATA
        return replace(unanswered(phase, written_whole=whole, reason=reason), reply=self._farewell)


def _of(slot: Slot) -> Transaction:
    if slot.transaction is None:
        raise RuntimeError(f"{slot.step.value} belongs to no transaction")
    return slot.transaction


def _check(address: Address) -> None:
    text = str(address)
    if not (text.isascii() and text.isprintable()) or not _FORBIDDEN.isdisjoint(text):
        raise RuntimeError(f"no address for an envelope: {text!a}")
