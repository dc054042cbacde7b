"""The client's side of one SMTP session, from the greeting to QUIT, without I/O.

Octets go in through ``receive`` and out through ``outbox``; messages go in through ``submit``, and their
outcomes come out of ``take_events``. The session only connects its parts: `ReplyQueue` knows which replies
are due, `Handshake` opens the session, `Transfer` hands messages over, and `mailmerge.smtp.state` defines
what may follow what. The session passes each reply to the part that it concerns, and decides how the session
ends.

The socket, TLS and the clock belong to `mailmerge.smtp.connection`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from mailmerge.errors import ProtocolError, SessionError
from mailmerge.model import Phase
from mailmerge.smtp.handshake import Handshake
from mailmerge.smtp.replies import refused_session
from mailmerge.smtp.reply_queue import ReplyQueue
from mailmerge.smtp.state import Closed, Life, Overlap, SessionState, StartTls, Step, Trial, Trigger
from mailmerge.smtp.transactions import Outbox
from mailmerge.smtp.transfer import Transfer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from mailmerge.model import Message, Mode, Pipeline, Reply
    from mailmerge.smtp.reply_queue import DueReply, Handler
    from mailmerge.smtp.sasl import ChannelBinding, Credentials
    from mailmerge.smtp.state import Event
    from mailmerge.smtp.transactions import ConnectionLimit

_MAY_BE_IDLE = frozenset({Life.OPEN, Life.RETIRING, Life.QUITTING})
_MAY_BE_TOLD = _MAY_BE_IDLE | {Life.DRAINING}


class Session:
    """One session; see the module's docstring.

    Args:
        host: the server's name in errors.
        helo: the name that we send in EHLO; ASCII.
        starttls: whether STARTTLS is required: nothing but EHLO is sent without it.
        private: whether the connection is private from its first octet on (implicit TLS, or this machine).
        credentials: who signs in; None: nobody.
        pipeline: the configured mode, see `mailmerge.smtp.transfer`.
        borne: whether this server supports commands behind an unanswered message; None: unknown.
        not_bearing: words, in lower case, in the greeting or EHLO reply of servers known not to support it.
        messages_per_connection: how many messages earlier connections could send; None: no limit was met.
        transcript: called with each line of the conversation, secrets masked.

    """

    def __init__(  # noqa: PLR0913  independent facts
        self,
        host: str,
        helo: str,
        *,
        starttls: bool,
        private: bool,
        credentials: Credentials | None = None,
        pipeline: Pipeline | Mode = "auto",
        borne: bool | None = None,
        not_bearing: Sequence[str] = (),
        messages_per_connection: int | None = None,
        transcript: Callable[[str], None] | None = None,
    ) -> None:
        if credentials and credentials.mechanism == "none":
            credentials = None
        self.outbox = Outbox()
        self.error: SessionError | None = None
        """Why the session ended, if it ended with an error."""
        self._host = host
        self._events: list[Event] = []
        self._state = SessionState(starttls=starttls, sign_in=credentials is not None)
        self._replies = ReplyQueue(self._state, self.outbox, transcript)
        self._handshake = Handshake(
            host,
            helo,
            self._state,
            self._replies,
            private=private,
            credentials=credentials,
            not_bearing=not_bearing,
        )
        self._transfer = Transfer(
            host,
            self._state,
            self._replies,
            self.outbox,
            self._events,
            pipeline=pipeline,
            messages_per_connection=messages_per_connection,
        )
        self.learn(borne)
        self._handlers: Mapping[Step, Handler] = {
            **self._handshake.handlers,
            **self._transfer.handlers,
            Step.QUIT: self._on_quit,
        }

    # --- messages -------------------------------------------------------------------------------------

    def learn(self, borne: bool | None) -> None:
        """Record what others have found out: whether this server supports commands behind a message."""
        if borne is not None and self._state.overlap is Overlap.UNTRIED:
            self._state.on(Trigger.BORNE if borne else Trigger.NOT_BORNE)

    @property
    def overlap(self) -> Overlap:
        """Whether this server supports commands behind an unanswered message."""
        return self._state.overlap

    @property
    def overlap_failure(self) -> str:
        """What the server did, in this session, that shows that it does not support them; empty: nothing."""
        return self._transfer.overlap.failure

    @property
    def overlap_suspect(self) -> bool:
        """Whether the session ended behind an overlapped hand-over, with a server that had supported it."""
        return self._transfer.overlap.suspect

    def allow(self, *, overlap: bool, sync: bool) -> None:
        """Set how the next messages may be handed over.

        Args:
            overlap: a message may begin behind one that is not answered.
            sync: in a window, the next message goes by DATA: its 354 is a sync point.

        """
        self._transfer.may_overlap = overlap
        self._transfer.sync_due = sync

    @property
    def in_flight(self) -> int:
        """Messages submitted and not completed."""
        return self._transfer.in_flight

    @property
    def mode(self) -> Mode:
        """How messages are handed over now."""
        return self._transfer.mode

    @property
    def window_size(self) -> int:
        """How many messages may be unanswered now in mode ``window``."""
        return self._transfer.window.messages

    @property
    def max_size(self) -> int | None:
        """The largest message that the server accepts, in octets; None: not stated (RFC 1870 section 4)."""
        return self._state.offers.max_size

    def can_accept(self) -> bool:
        """Whether another message may be submitted now."""
        return self._transfer.can_accept()

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand *message* over, as soon as those before it allow it.

        Raises:
            RuntimeError: it cannot be accepted now, or the envelope is not made of plain addresses.

        """
        self._transfer.submit(message, token)
        self._go_on()

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages be sent: the caller has recorded its intent durably.

        Tokens that already have their outcome are ignored.

        Raises:
            RuntimeError: no `ReleaseNeeded` was reported for one of them.

        """
        self._transfer.release(tokens)
        self._go_on()

    def take_events(self) -> list[Event]:
        """Return what happened since the last call."""
        events = self._events.copy()
        self._events.clear()
        return events

    def take_connection_limit(self) -> ConnectionLimit | None:
        """Return, once, how many messages the server accepted before it required a new connection."""
        limit, self._transfer.limit.met = self._transfer.limit.met, None
        return limit

    # --- its state ------------------------------------------------------------------------------------

    @property
    def life(self) -> Life:
        """How far the session has come."""
        return self._state.life

    @property
    def start_tls(self) -> StartTls:
        """How far STARTTLS has come."""
        return self._state.start_tls

    @property
    def ready(self) -> bool:
        """Whether the handshake is over and commands may still be sent."""
        return self._state.begun

    @property
    def closed(self) -> bool:
        """Whether the session has ended."""
        return self._state.life is Life.CLOSED

    @property
    def handshake_due(self) -> bool:
        """Whether the connection must do the TLS handshake now, and read no plaintext before it."""
        return self._state.start_tls is StartTls.HANDSHAKE and self._state.life is Life.OPENING

    @property
    def distrusts_bdat(self) -> bool:
        """Whether the trial of BDAT failed, or the session ended before it was over."""
        return self._state.trial in {Trial.RUNNING, Trial.FAILED}

    @property
    def awaited(self) -> Step | None:
        """The step whose reply is the next one due."""
        return self._replies.awaited

    @property
    def asked(self) -> bool:
        """Whether that step was sent completely, so that only the server is waited for."""
        return self._replies.asked

    @property
    def answered(self) -> int:
        """How many replies were taken so far: a change means that another reply is the next one due."""
        return self._replies.answered

    @property
    def listening(self) -> bool:
        """Whether we only wait for a few replies: then a server's next segment may wait for our ACK."""
        return self._replies.listening

    # --- for the connection ---------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Process what the server sent, split in any way."""
        try:
            for reply in self._replies.feed(data):
                self._take(reply)
                if self._state.life is Life.CLOSED:
                    return
            self._go_on()
        except SessionError as error:
            self._close(self._handshake.in_context(error))

    def sent(self, octets: int) -> None:
        """Record that the kernel accepted *octets* more of the outbox."""
        self.outbox.sent(octets)
        self._go_on()

    def bind(self, binding: ChannelBinding | None) -> None:
        """Set the connection's TLS channel binding, before the sign-in; None: it has none."""
        self._handshake.bind(binding)

    def secured(self) -> None:
        """Record that the TLS handshake succeeded.

        Raises:
            RuntimeError: none was due.

        """
        self._handshake.secured()

    def write_failed(self, error: SessionError) -> None:
        """Stop sending, because writing failed with *error*: only replies on their way still count.

        When a server closes with octets of ours unread, its kernel resets the connection. Replies that it
        sent before may still be read.
        """
        if self._state.begun:
            self._transfer.drain(Trigger.WRITE_FAILED, error)
            self._go_on()
        else:
            self.lost(error)

    def lost(self, error: SessionError) -> None:
        """Record that the connection was lost; if no reply was awaited, that is not an error."""
        if self._state.life is Life.CLOSED:
            return
        idle = self._state.life in _MAY_BE_IDLE and not self._transfer.would_suffer()
        self._close(None if idle else self._handshake.in_context(error))

    def give_up(self, error: SessionError) -> None:
        """Record that we close the connection with *error*, which tells nothing about the server."""
        self._transfer.given_up = True
        self.lost(error)

    def noop(self) -> None:
        """Send NOOP to check that the server is still there; ``answered`` grows if it is."""
        self._replies.ask(Step.NOOP, b"NOOP")

    def quit(self) -> None:
        """Send QUIT, if nothing is in flight and it may be sent.

        Raises:
            RuntimeError: messages are in flight.

        """
        if self._transfer.in_flight:
            raise RuntimeError("QUIT while messages are in flight")
        if self._state.may_say(Step.QUIT):
            self._replies.ask(Step.QUIT, b"QUIT")
            self._state.on(Trigger.QUIT)

    # --- replies --------------------------------------------------------------------------------------

    def _take(self, reply: Reply) -> None:
        slot, reply = self._replies.take(reply)
        if slot is None:
            self._take_unasked(reply)
            return
        if reply.code == 421 and self._state.begun:
            # It still is this step's reply: the server may answer more steps until it closes.
            self._transfer.on_421(reply, hurt=slot.token is not None)
        self._handlers[slot.step](slot, reply)

    def _take_unasked(self, reply: Reply) -> None:
        """Process a reply that answers nothing: only a 421 may come unsolicited (RFC 5321 section 3.8)."""
        if reply.code != 421:
            raise ProtocolError(f"the server sent an unsolicited reply: {reply}", code="S632", reply=reply)
        if self._state.life in _MAY_BE_TOLD:
            self._transfer.on_421(reply, hurt=self._transfer.would_suffer())
        else:
            raise refused_session(self._host, "closed the session", reply, Phase.EHLO)

    def _on_quit(self, _slot: DueReply, reply: Reply) -> None:
        # Nearly any reply will do; RFC 5321 section 4.1.1.10 has us wait for it, so that the server
        # sees a session that ended as it should.
        if not self._transfer.unconfirmed.fits(reply):
            raise ProtocolError(f"the server answered QUIT with {reply}", code="S632", reply=reply)
        self._close(None)

    # --- continuing, and the end ----------------------------------------------------------------------

    def _go_on(self) -> None:
        """Do what the last replies, octets and releases have made possible."""
        self._transfer.go_on()
        life = self._state.life
        if life is Life.RETIRING and self._transfer.idle:
            self.quit()
        elif life is Life.DRAINING and not self._replies:
            self._close(self._transfer.last_error)

    def _slipped(self, error: SessionError) -> bool:
        """Return whether *error* shows that the session is out of step.

        In a window, a single reply that never comes may be one that was left out long before: every message
        since would have been settled by a reply to the one after it. A trial in which commands were refused
        for coming early is different: that server skips some of them.
        """
        left_out = error.code == "S613" and self._replies.awaited is Step.CHUNK and len(self._replies) == 1
        last = self._transfer.last_error
        refused = self._state.overlap is Overlap.RUNNING and last is not None and last.code == "S650"
        return error.code == "S632" or (left_out and not refused)

    def _close(self, error: SessionError | None) -> None:
        """End the session: every message gets its outcome, then comes `Closed`, exactly once."""
        if self._state.life is Life.CLOSED:
            return
        slipped = error is not None and self._slipped(error)
        if self._state.life is Life.DRAINING:
            error = self._transfer.last_error  # the first error counts, not that the connection then broke
        if slipped:
            self._transfer.overlap.out_of_step(error)
        self.error = error
        self._transfer.abandon(error, slipped=slipped)
        self._state.on(Trigger.CLOSED)
        self.outbox.clear()
        self._replies.clear()
        self._events.append(Closed(error))
