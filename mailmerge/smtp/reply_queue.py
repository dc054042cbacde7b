"""The replies that are due, in order: commands put slots in, replies take them out, by number alone.

The queue does not interpret replies; `mailmerge.smtp.session` passes each one, with the step that it answers,
to the handshake or to the transfer. The queue also masks secrets in what is shown of a reply.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from mailmerge.errors import ProtocolError
from mailmerge.masking import MASK, Masker
from mailmerge.smtp.replies import ReplyParser, build_reply, decode, shown
from mailmerge.smtp.state import INTERMEDIATE, STEPS, Step

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from mailmerge.model import Phase, Reply
    from mailmerge.smtp.state import SessionState
    from mailmerge.smtp.transactions import Outbox

    Handler = Callable[["DueReply", Reply], None]

_FEW = 4
_TELLING = 8
"""From this length, in octets, a secret cannot be an ordinary word of a reply."""


class DueReply(NamedTuple):
    """One reply that is due."""

    step: Step
    token: int | None
    """The message that the step belongs to; None: the session."""
    due: int
    """How many octets must have been sent before a reply can be for this step."""
    end: int
    """How many must have been sent until only the server is waited for."""


class ReplyQueue:
    """Sends steps, keeps a slot for the reply to each, and matches replies to slots; no I/O, no clock.

    Args:
        state: decides what may be sent when.
        outbox: receives the commands.
        transcript: called with each line of the conversation, secrets masked.

    """

    def __init__(
        self, state: SessionState, outbox: Outbox, transcript: Callable[[str], None] | None = None
    ) -> None:
        self.answered = 0
        """How many replies were taken so far: a change means that another reply is the next one due."""
        self.masker = Masker()
        self._state = state
        self._outbox = outbox
        self._transcript = transcript
        self._parser = ReplyParser()
        # The greeting is due from the start: the server sends first (RFC 5321 section 3.1).
        self._slots: deque[DueReply] = deque([DueReply(Step.GREETING, None, 0, 0)])

    # --- what is sent ---------------------------------------------------------------------------------

    def ask(self, step: Step, line: bytes, token: int | None = None, *, shown: str | None = None) -> None:
        """Queue one command line, without its line end, and a slot for its reply.

        Raises:
            RuntimeError: *step* may not be sent now.

        """
        self._state.check(step)
        due = self._outbox.put(line + b"\r\n")
        self._slots.append(DueReply(step, token, due, due))
        if self._transcript:
            self._note("C", shown or line.decode("utf-8", "backslashreplace"))

    def say(self, line: bytes) -> int:
        """Queue a line, without its line end, that is part of something larger; return the octets queued."""
        if self._transcript:
            self._note("C", line.decode("ascii"))
        return self._outbox.put(line + b"\r\n")

    def owe(self, step: Step, token: int, due: int, end: int) -> None:
        """Add a slot for the reply to content, which the caller queues; *due* and *end* as in `DueReply`.

        Raises:
            RuntimeError: *step* may not be sent now.

        """
        self._state.check(step)
        self._slots.append(DueReply(step, token, due, end))

    def note_content(self, octets: int) -> None:
        """Write a line about content to the transcript; the content itself is private and long."""
        if self._transcript:
            self._note("C", f"<{octets} octets of content>")

    def _note(self, who: str, text: str) -> None:
        """Write one line of the transcript: ``C`` for us, ``S`` for the server."""
        if self._transcript:
            self._transcript(f"{who}: {text}")

    # --- what is answered -----------------------------------------------------------------------------

    def feed(self, data: bytes) -> Iterator[Reply]:
        """Parse what the server sent, split in any way; yield each reply, for ``take``.

        Raises:
            ProtocolError: these bytes are not SMTP replies.

        """
        return self._parser.feed(data)

    def take(self, reply: Reply) -> tuple[DueReply | None, Reply]:
        """Return the slot that *reply* fills, and the reply with secrets masked.

        No slot: nothing that was sent is unanswered. A command that still waits in our outbox cannot have
        been answered, and such a reply is not kept for it: its sender, perhaps somebody who injects data into
        the connection, cannot have seen the command.

        Raises:
            ProtocolError: the reply has a first digit that this step's reply cannot have.

        """
        if self._transcript:
            self._note_reply(reply)
        if self.masker.active:
            reply = self.masked(reply, shortest=_TELLING)
        if not self._slots or self._slots[0].due > self._outbox.written:
            return None, reply
        slot = self._slots.popleft()
        self.answered += 1
        rule = STEPS[slot.step]
        severity = reply.code // 100
        wrong = severity not in rule.digits or (severity == 3 and reply.code != INTERMEDIATE[rule.phase])
        if wrong and reply.code != 421:
            # The count is wrong, by the server's mistake or ours: no later reply can be trusted.
            raise ProtocolError(
                f"the server answered {slot.step.value} with {reply}", code="S632", reply=reply
            )
        return slot, reply

    @property
    def unread(self) -> bool:
        """Whether octets have arrived that are not part of a complete reply yet."""
        return self._parser.pending

    def forget_plaintext(self) -> None:
        """Start parsing replies from scratch: what came before TLS is discarded (RFC 3207 section 4.2)."""
        self._parser = ReplyParser()

    # --- what is due ----------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._slots)

    @property
    def awaited(self) -> Step | None:
        """The step whose reply is the next one due."""
        return self._slots[0].step if self._slots else None

    @property
    def asked(self) -> bool:
        """Whether that step was sent completely, so that only the server is waited for."""
        return bool(self._slots) and self._outbox.written >= self._slots[0].end

    @property
    def listening(self) -> bool:
        """Whether we only wait for a few replies: then a server's next segment may wait for our ACK."""
        return 0 < len(self._slots) <= _FEW and not self._outbox.pending

    def phases(self) -> dict[int, Phase]:
        """Return, by token, the phase of the next reply that each message under way awaits."""
        found: dict[int, Phase] = {}
        for slot in self._slots:
            if slot.token is not None:
                found.setdefault(slot.token, STEPS[slot.step].phase)
        return found

    def forget_unsaid(self) -> None:
        """Drop the slots of what was not sent and never will be."""
        written = self._outbox.written
        self._slots = deque(slot for slot in self._slots if slot.due <= written)

    def clear(self) -> None:
        """Drop all slots."""
        self._slots.clear()

    # --- secrets --------------------------------------------------------------------------------------

    def _note_reply(self, reply: Reply) -> None:
        if self.awaited is Step.AUTH and reply.severity == 3:
            # A challenge may quote what we sent, or be the server's part of a shared secret.
            self._note("S", f"{reply.code} {MASK}")
            return
        for line in self.masker.mask(reply.raw).split(b"\r\n")[:-1]:
            self._note("S", shown(decode(line)))

    def masked(self, reply: Reply, shortest: int = 0) -> Reply:
        """Return *reply* with every secret of at least *shortest* octets masked in its text.

        Codes stay, and so do words that decide what it means: those are shorter.
        """
        if self.masker.mask(reply.raw, shortest=shortest) == reply.raw:
            return reply
        lines = reply.raw.splitlines(keepends=True)
        return build_reply([line[:4] + self.masker.mask(line[4:], shortest=shortest) for line in lines])
