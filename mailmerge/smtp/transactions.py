"""One message in transit; how many may be in transit, or use one connection; whose outcomes are certain."""

from __future__ import annotations

import re
from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from msgspec.structs import replace

from mailmerge.model import Outcome, Phase, Scope, Status
from mailmerge.smtp.replies import unanswered
from mailmerge.smtp.state import Gate, Revised, Stage, Trial

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mailmerge.addresses import Address
    from mailmerge.model import Message, Reply
    from mailmerge.smtp.replies import Extensions
    from mailmerge.smtp.state import SessionState

Buffer = bytes | memoryview

LAST_CHUNK = 64 * 1024
"""The most octets of a message, its end included, that wait for the release.

Large enough that most messages wait completely: one commit on disk, then one write, instead of two writes.
"""


class EndGate:
    """Comes before the end of message *token*; what is queued behind it waits until it is open."""

    __slots__ = ("state", "token")

    def __init__(self, token: int) -> None:
        self.token = token
        self.state = Gate.SHUT


class Outbox:
    """A queue of buffers and gates that counts what was queued and what was handed to the kernel."""

    def __init__(self) -> None:
        self.queued = 0
        """Octets ever put in."""
        self.written = 0
        """Octets that the connection reported as handed to the kernel."""
        self._queue: deque[Buffer | EndGate] = deque()

    def put(self, data: Buffer) -> int:
        """Append *data*; return the count of octets queued so far."""
        if data:
            self._queue.append(data)
            self.queued += len(data)
        return self.queued

    def hold(self, gate: EndGate) -> None:
        """Append a gate: what follows waits until it is open."""
        self._queue.append(gate)

    def gate(self) -> EndGate | None:
        """Return the gate at the front of the queue, if only that blocks it."""
        while self._queue:
            head = self._queue[0]
            if not isinstance(head, EndGate):
                return None
            if head.state is not Gate.OPEN:
                return head
            self._queue.popleft()
        return None

    def __bool__(self) -> bool:
        """Whether something may be written now."""
        return bool(self._queue) and self.gate() is None

    @property
    def pending(self) -> bool:
        """Whether anything waits to be written, now or behind a gate."""
        return bool(self._queue)

    def buffers(self, count: int, octets: int) -> list[Buffer]:
        """Return what may be written now: at most *count* buffers and *octets* octets."""
        found: list[Buffer] = []
        for item in self._queue:
            if isinstance(item, EndGate):
                if item.state is not Gate.OPEN:
                    break
                continue
            if len(item) >= octets:
                found.append(memoryview(item)[:octets])
                break
            found.append(item)
            octets -= len(item)
            if len(found) == count:
                break
        return found

    def sent(self, octets: int) -> None:
        """Remove *octets* from the front: the kernel has them."""
        self.written += octets
        while octets:
            head = self._queue.popleft()
            if isinstance(head, EndGate):
                continue
            if len(head) > octets:
                self._queue.appendleft(memoryview(head)[octets:])
                return
            octets -= len(head)

    def clear(self) -> None:
        """Drop what was not written; the counts stay."""
        self._queue.clear()


# --- content on the wire ---------------------------------------------------------------------------------


def needs_stuffing(segments: Sequence[bytes]) -> bool:
    """Return whether a line begins with a dot (RFC 5321 section 4.5.2), also across two segments.

    The builder ensures that none does; a line break of any kind counts here, to be safe. Most
    octets are base64 without a dot: those cost one ``memchr``.
    """
    before = b"\n"
    for segment in segments:
        if segment[:1] == b"." and before == b"\n":
            return True
        if b"." in segment and b"\n." in segment:
            return True
        before = segment[-1:] or before
    return False


def stuffed(segments: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return *segments* with the dots that begin a line doubled: a slow path that our messages never take."""
    content = b"".join(segments).replace(b"\n.", b"\n..")
    return (b"." + content if content.startswith(b".") else content,)


def split(segments: Sequence[bytes], end: bytes = b"") -> tuple[list[Buffer], bytes]:
    """Split *segments* plus *end* into what may be sent early and at most the last `LAST_CHUNK` octets.

    Large segments are not copied.
    """
    room = LAST_CHUNK - len(end)
    index = len(segments)
    while index and len(segments[index - 1]) <= room:
        index -= 1
        room -= len(segments[index])
    head: list[Buffer] = list(segments[:index])
    tail: list[Buffer] = list(segments[index:])
    if head and room:
        view = memoryview(head.pop())
        head.append(view[:-room])
        tail.insert(0, view[-room:])
    return head, b"".join((*tail, end))


def closing(segments: Sequence[bytes]) -> bytes:
    """Return what ends the content after DATA: a dot on its own line."""
    ending = b""
    for segment in reversed(segments):
        ending = segment[-2:] + ending
        if len(ending) >= 2:
            break
    return b".\r\n" if not ending or ending.endswith(b"\r\n") else b"\r\n.\r\n"


_WITHIN_A_PATH = re.compile(r"[!-;=?-~]+\Z")
"""Printable ASCII without space and angle brackets."""


_ENVID = re.compile(r"<([!-*,-<>-~]{1,100})>")
"""A Message-ID that is a valid ENVID unchanged (RFC 3461 section 4.4): nothing in it has to be encoded."""


class Transaction:
    """One message, from MAIL to the reply to its content (RFC 5321 section 3.3).

    Raises:
        RuntimeError: the envelope is not made of plain addresses.

    """

    __slots__ = (
        "by_chunk",
        "early",
        "end",
        "gate",
        "message",
        "refusal",
        "refused",
        "sender",
        "stage",
        "start",
        "synchronises",
        "taken",
        "token",
        "unanswered",
        "unasked",
    )

    def __init__(self, message: Message, token: int) -> None:
        self.message = message
        self.token = token
        self.stage = Stage.WAITING
        self.gate = EndGate(token)
        self.by_chunk = False
        """Whether its content goes by BDAT, together with its envelope; decided when it begins."""
        self.early = False
        """Whether its envelope was sent behind a message that was not answered yet."""
        self.synchronises = False
        """Whether it goes by DATA because of its 354, although it could go by BDAT."""
        self.sender = _path(message.envelope.mail_from)
        self.unasked = [_path(address) for address in reversed(message.envelope.rcpt_to)]
        """Recipients whose RCPT was not sent yet, the next one last."""
        self.unanswered = 0
        """Replies to the envelope that are still due."""
        self.taken = 0
        """Recipients that the server has accepted."""
        self.refused: list[tuple[Address, Reply]] = []
        self.refusal: Outcome | None = None
        """The gravest refusal so far: it decides the row."""
        self.start = 0
        """The outbox's count just behind the MAIL command."""
        self.end = 0
        """The outbox's count just behind the last octet of the content, once that is queued."""

    def parameters(self, offers: Extensions) -> bytes:
        """Return the parameters of MAIL, each with a space before it.

        Only what was offered: RFC 5321 section 4.1.1.11 has servers refuse unknown ones. Delivery reports
        quote the ENVID even if a relay changed the Message-ID.
        """
        size = b" SIZE=%d" % self.message.size if offers.sizes else b""
        envid = _ENVID.fullmatch(self.message.message_id) if offers.envids else None
        return size + b" ENVID=" + envid[1].encode() if envid else size

    def written_whole(self, written: int) -> bool:
        """Return whether its last octet is among the *written* ones: from then on the server may have it."""
        return self.stage is Stage.CONTENT and written >= self.end

    @property
    def alone(self) -> bool:
        """Whether there is only one recipient, so that no barrier is needed."""
        return len(self.message.envelope.rcpt_to) == 1

    def refuse(self, outcome: Outcome) -> None:
        """Record a refusal; about the account outranks about the row, permanent outranks temporary."""
        if self.refusal is None or _gravity(outcome) > _gravity(self.refusal):
            self.refusal = outcome

    def refused_outcome(self) -> Outcome:
        """Return what the refusals mean for the row, all refused recipients named.

        Raises:
            RuntimeError: nothing was refused.

        """
        if self.refusal is None:
            raise RuntimeError("nothing was refused")
        return replace(self.refusal, refused=tuple(self.refused))

    def outcome_at_loss(self, phase: Phase, reason: str, *, written: int, farewell: Reply | None) -> Outcome:
        """Return the outcome when the connection ends while it awaits the reply in *phase*.

        RFC 5321 section 4.2.5 has the server take responsibility with its 250, but that reply may not have
        reached us (RFC 1047): once all octets are *written*, the outcome cannot be known.
        """
        if self.refusal:
            return self.refused_outcome()
        whole = self.written_whole(written)
        if phase is Phase.CONTENT and not whole:
            phase = Phase.DATA
        return replace(unanswered(phase, written_whole=whole, reason=reason), reply=farewell)


_SCOPES = (Scope.ROW, Scope.CONNECTION, Scope.ACCOUNT, Scope.CONFIG)


def _gravity(outcome: Outcome) -> tuple[int, bool]:
    return _SCOPES.index(outcome.scope), outcome.status is Status.REJECTED


def _path(address: Address) -> bytes:
    """Return *address* in the form for MAIL and RCPT (RFC 5321 section 4.1.2: a path, in angle brackets).

    Addresses were checked when they were created. This last check before the wire makes sure again that none
    can end its path and add a parameter or a command.
    """
    text = str(address)
    if not _WITHIN_A_PATH.match(text):
        raise RuntimeError(f"not an address for an envelope: {text!a}")
    return b"<%b>" % text.encode("ascii")


# --- how many together, how many at all ----------------------------------------------------------------


class Window:
    """How many BDAT messages may be unanswered: grows with acceptances, shrinks with refusals.

    1, 2, 4 .. 64 messages and 1 MiB. After a refusal everything in flight finishes and the window is halved;
    after three in a row it closes, until a message was accepted in another mode: servers limit the number of
    refused transactions.
    """

    MOST_MESSAGES = 64
    MOST_OCTETS = 1 << 20
    _SHUT_AFTER = 3

    def __init__(self) -> None:
        self.messages = 1
        self.octets = 0
        """Octets in flight."""
        self.draining = False
        self._accepted = 0
        self._refused_in_a_row = 0

    @property
    def shut(self) -> bool:
        """Whether refusals have closed the window for now."""
        return self._refused_in_a_row >= self._SHUT_AFTER

    def has_room(self, in_flight: int) -> bool:
        """Return whether one more message may join *in_flight* others."""
        return not self.draining and in_flight < self.messages and self.octets < self.MOST_OCTETS

    def accepted(self) -> None:
        """Record an accepted message; a whole round of them doubles the window."""
        self._refused_in_a_row = 0
        self._accepted += 1
        if self._accepted >= self.messages:
            self.messages = min(2 * self.messages, self.MOST_MESSAGES)
            self._accepted = 0

    def refused(self) -> None:
        """Record a refused message."""
        self._refused_in_a_row += 1
        self._accepted = 0
        if not self.draining:
            self.messages = max(1, self.messages // 2)
            self.draining = True

    def drained(self) -> None:
        """Record that nothing is in flight."""
        self.draining = False


class ConnectionLimit(NamedTuple):
    """How many messages the server accepted before it required a new connection."""

    messages: int
    stated: bool
    """Whether the server stated that this is its own limit; otherwise it may have been an accident."""


class MessageLimit:
    """How many messages this connection may have: as the server states, or as earlier connections have shown.

    Args:
        state: the session's state, for what the server offers.
        learnt: how many messages earlier connections could send; None: no limit was met.

    """

    def __init__(self, state: SessionState, learnt: int | None) -> None:
        self.mails = 0
        """MAIL commands sent, including the trial's."""
        self.accepted = 0
        self.met: ConnectionLimit | None = None
        self._state = state
        self._learnt = learnt

    def reached(self, more: int = 0) -> bool:
        """Return whether *more* messages after those that have begun would reach the limit."""
        stated = self._state.offers.max_mails
        if stated and self.mails + more >= stated:  # RFC 9422: it counts MAIL commands
            return True
        if not self._learnt:
            return False
        # What was learnt counts messages, hence not the MAIL of the trial.
        trial = self._state.trial is not Trial.UNTRIED
        return self.mails - trial + more >= self._learnt

    def refused(self, outcome: Outcome) -> None:
        """Record a refusal: after accepted messages, one about the connection is a limit."""
        if outcome.scope is Scope.CONNECTION and self.accepted and self.met is None:
            self.met = ConnectionLimit(self.accepted, outcome.reason == "connection_cap")


# --- sync points --------------------------------------------------------------------------------------------


_ANSWERS_QUIT = frozenset({221, 421, 500, 502, 503})
"""What a server may reply to QUIT but hardly to the end of a message."""


class UnconfirmedOutcomes:
    """The outcomes since the last sync point."""

    def __init__(self) -> None:
        self._outcomes: dict[int, tuple[Outcome, bool]] = {}

    def __bool__(self) -> bool:
        return bool(self._outcomes)

    def add(self, transaction: Transaction, outcome: Outcome, *, whole: bool) -> None:
        """Add an outcome; *whole*: whether the server has the whole message."""
        self._outcomes[transaction.token] = (outcome, whole)

    def confirm(self) -> tuple[int, ...]:
        """Return the tokens whose outcomes are now certain."""
        tokens = tuple(self._outcomes)
        self._outcomes.clear()
        return tokens

    def fits(self, reply: Reply) -> bool:
        """Return whether *reply* can be the one to QUIT, rather than one that is still due for a message."""
        if reply.code in _ANSWERS_QUIT or not self._outcomes:
            return True
        ended = [outcome for outcome, whole in self._outcomes.values() if whole]
        answered = [outcome.status for outcome in ended if outcome.phase is Phase.CONTENT]
        if reply.severity == 2:  # some servers do not know that it should be 221
            return all(status is Status.ACCEPTED for status in answered)
        return not answered

    def revise(self) -> list[Revised]:
        """Return what becomes of these outcomes when the session proves out of step."""
        found = []
        for token, (outcome, whole) in self._outcomes.items():
            if whole:
                found.append(Revised(token, out_of_step(outcome.reply, whole=True)))
            elif outcome.status is not Status.PENDING:
                found.append(Revised(token, out_of_step(outcome.reply, whole=False)))
        self._outcomes.clear()
        return found


def out_of_step(reply: Reply | None, *, whole: bool) -> Outcome:
    """Return the outcome of a message in a session that is out of step, whatever *reply* it got, if any."""
    return Outcome(
        Status.IN_DOUBT if whole else Status.PENDING,
        Scope.CONNECTION,
        Phase.CONTENT if whole else Phase.MAIL,
        reply,
        reason="out_of_step",
        hint="the server's replies did not match our commands: nobody knows which message each one was for",
    )
