"""The spine of a session: steps out, replies in, matched by count, ending in exactly one `Closed`."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from mailmerge.errors import ConnectionLost, ProtocolError, SessionError, TlsError
from mailmerge.masking import MASK, Masker
from mailmerge.model import Phase, Scope
from mailmerge.smtp.endpoint import TLS_MODE_HINT
from mailmerge.smtp.events import Closed
from mailmerge.smtp.outbox import Outbox
from mailmerge.smtp.replies import ReplyParser, build_reply, classify, decode
from mailmerge.smtp.state import TABLE, Slot, State, Step

if TYPE_CHECKING:
    from collections.abc import Callable

    from mailmerge.model import Reply
    from mailmerge.smtp.events import Event
    from mailmerge.smtp.transactions import Transaction

_FEW = 4
_TELLING = 8
"""Octets from which a secret is no ordinary word of a reply."""


class Dialogue:
    """Sends steps and takes replies as `mailmerge.smtp.state.TABLE` allows; no I/O, no clock."""

    def __init__(self, host: str, transcript: Callable[[str], None] | None = None) -> None:
        self.host = host
        self.state = State.GREETING
        self.outbox = Outbox()
        self.answered = 0
        """Replies taken so far: a change means that another reply is the next one awaited."""
        self.error: SessionError | None = None
        """Why the session ended, if it did so badly."""
        self._awaited: deque[Slot] = deque([Slot(Step.GREETING, None, 0)])
        self._events: list[Event] = []
        self._parser = ReplyParser()
        self._masker = Masker()
        self._transcript = transcript
        self._farewell: Reply | None = None
        self._parting: SessionError | None = None
        self._handlers = {step: getattr(self, rule.handler) for step, rule in TABLE.items()}

    # --- for the connection ---------------------------------------------------------------------------

    @property
    def awaited(self) -> Step | None:
        """The step whose reply is the next one due."""
        return self._awaited[0].step if self._awaited else None

    @property
    def asked(self) -> bool:
        """Whether that step has left completely, so that only the server is to be waited for."""
        if not self._awaited:
            return False
        slot = self._awaited[0]
        transaction = slot.transaction
        if slot.step in {Step.CONTENT, Step.CHUNK} and transaction and transaction.end:
            return self.outbox.written >= transaction.end
        return self.outbox.written >= slot.due

    @property
    def waiting(self) -> bool:
        """Whether we only listen for a few replies: a server's next segment may wait for our ACK then."""
        return 0 < len(self._awaited) <= _FEW and not self.outbox.pending

    @property
    def ready(self) -> bool:
        """Whether messages may be handed over."""
        return self.state is State.READY

    def take_events(self) -> list[Event]:
        """Return what happened since the last call."""
        events, self._events = self._events, []
        return events

    def receive(self, data: bytes) -> None:
        """Take what the server sent, however it was cut."""
        try:
            for reply in self._parser.feed(data):
                self._take(reply)
                if self.state is State.GONE:
                    return
            self._settle()
        except SessionError as error:
            self._fail(self._in_context(error))

    def sent(self, octets: int) -> None:
        """Take note that the kernel has *octets* more of the outbox."""
        self.outbox.sent(octets)
        self._settle()

    def mute(self, error: SessionError) -> None:
        """Say no more, for writing failed with *error*: only replies under way still count."""
        if self.state is State.READY:
            self._fall_silent(error)
            self._settle()
        else:
            self.lost(error)

    def lost(self, error: SessionError) -> None:
        """Take note that the connection is gone; while nothing is awaited that is no error."""
        if self.state is State.GONE:
            return
        idle = self.state in {State.READY, State.PARTING} and not self._busy()
        self._fail(None if idle else self._in_context(error))

    # --- for the layers above -------------------------------------------------------------------------

    def _ask(
        self, step: Step, line: bytes, transaction: Transaction | None = None, *, shown: str | None = None
    ) -> None:
        """Queue one command line, without its line end, and await its reply."""
        if self.state not in TABLE[step].states:
            raise RuntimeError(f"{step.value} may not be said in state {self.state.value}")
        due = self.outbox.put(line + b"\r\n")
        self._awaited.append(Slot(step, transaction, due))
        if self._transcript:
            self._note("C", shown or line.decode("utf-8", "backslashreplace"))

    def _note(self, who: str, text: str) -> None:
        if self._transcript:
            self._transcript(f"{who}: {text}")

    def _take(self, reply: Reply) -> None:
        if self._transcript:
            self._note_reply(reply)
        reply = self._without_secrets(reply)
        if not self._awaited or self._awaited[0].due > self.outbox.written:
            self._take_unasked(reply)
            return
        slot = self._awaited.popleft()
        self.answered += 1
        rule = TABLE[slot.step]
        if reply.severity not in rule.severities and reply.code != 421:
            raise ProtocolError(
                f"the server answers {slot.step.value} with {reply}", code="S632", reply=reply
            )
        if reply.code == 421 and self.state is State.READY:
            # It is this step's reply all the same: the server may answer on until it closes.
            self._take_leave(reply, hurt=slot.transaction is not None)
        self._handlers[slot.step](slot, reply)

    def _take_unasked(self, reply: Reply) -> None:
        if reply.code != 421:
            raise ProtocolError(f"the server said, unasked: {reply}", code="S632", reply=reply)
        if self.state in {State.READY, State.PARTING, State.MUTE}:
            self._take_leave(reply, hurt=self._busy())
        else:
            raise self._refused("closed the session", reply, Phase.EHLO)

    def _take_leave(self, reply: Reply, *, hurt: bool) -> None:
        """Take a 421: an error if a message suffered or the account is blamed, else just the end."""
        self._farewell = reply
        error = self._refused("closed the session", reply, Phase.RSET)
        blamed = classify(reply, Phase.RSET).scope is not Scope.CONNECTION
        self._fall_silent(error if hurt or blamed else None)

    def _note_reply(self, reply: Reply) -> None:
        if self.awaited is Step.AUTH and reply.severity == 3:
            self._note("S", f"{reply.code} {MASK}")
            return
        for line in self._masker.mask(reply.raw).split(b"\r\n")[:-1]:
            self._note("S", decode(line))

    def _without_secrets(self, reply: Reply) -> Reply:
        """Blank what a server repeats of a secret: codes stay, and words that mean something are shorter."""
        if self._masker.mask(reply.raw, shortest=_TELLING) == reply.raw:
            return reply
        lines = reply.raw.splitlines(keepends=True)
        return build_reply([line[:4] + self._masker.mask(line[4:], shortest=_TELLING) for line in lines])

    def _refused(self, what: str, reply: Reply, phase: Phase) -> ConnectionLost:
        """Return the error for a server that will not begin, or not go on."""
        meaning = classify(reply, phase) if reply.severity in {4, 5} else None
        return ConnectionLost(
            f"{self.host} {what}: {reply}",
            code="S615",
            reply=reply,
            hint=meaning.hint if meaning else None,
            retry_after=meaning.retry_after if meaning else None,
        )

    def _in_context(self, error: SessionError) -> SessionError:
        if self.state is State.GREETING and error.code == "S625":
            return TlsError(
                f"{self.host} expects implicit TLS: it sent TLS instead of a plaintext greeting",
                code="S625",
                hint=TLS_MODE_HINT,
            )
        return error

    # --- the end --------------------------------------------------------------------------------------

    def _busy(self) -> bool:
        """Whether a message would suffer if the connection ended now."""
        return False

    def _fall_silent(self, error: SessionError | None) -> None:
        if self.state is State.MUTE:
            return
        self.state = State.MUTE
        self._parting = error
        written = self.outbox.written
        self._awaited = deque(slot for slot in self._awaited if slot.due <= written)
        self._withdraw()
        self.outbox.clear()

    def _withdraw(self) -> None:
        """Take back what was not begun."""

    def _settle(self) -> None:
        """Go on where the last replies have made room."""
        if self.state is State.MUTE and not self._awaited:
            self._fail(self._parting)

    def _fail(self, error: SessionError | None) -> None:
        """End the session: every message gets its outcome, then comes `Closed`."""
        if self.state is State.GONE:
            return
        if self.state is State.MUTE:
            error = self._parting
        self.error = error
        self._abandon(error)
        self.state = State.GONE
        self.outbox.clear()
        self._awaited.clear()
        self._events.append(Closed(error))

    def _abandon(self, error: SessionError | None) -> None:
        """Complete what was in flight."""

    def _on_nothing(self, slot: Slot, reply: Reply) -> None:
        """Take a reply that changes nothing."""

    def _on_quit(self, slot: Slot, reply: Reply) -> None:  # noqa: ARG002  any answer will do
        self._fail(None)
