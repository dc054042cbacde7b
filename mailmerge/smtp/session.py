"""The client's side of one SMTP session, greeting to QUIT, without I/O.

Octets go in by ``receive`` and out by ``outbox``; messages go in by ``submit``, and what becomes of them
comes out by ``take_events``. The session itself only puts its parts together: `ReplyQueue` knows which
replies are owed, `Handshake` brings the session to where messages may be handed over, `Transfer` hands them
over, and `mailmerge.smtp.state` says what may follow what. It hands each reply to the part that it
concerns, and it decides how the session ends.

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
    from mailmerge.smtp.reply_queue import Handler, Slot
    from mailmerge.smtp.sasl import ChannelBinding, Credentials
    from mailmerge.smtp.state import Event
    from mailmerge.smtp.transactions import ConnectionLimit

_MAY_BE_IDLE = frozenset({Life.OPEN, Life.RETIRING, Life.QUITTING})
_MAY_BE_TOLD = _MAY_BE_IDLE | {Life.DRAINING}


class Session:
    """One session; see the module.

    Args:
        host: how errors call the server.
        helo: the name that we give in EHLO; ASCII.
        starttls: TLS by STARTTLS is wanted: nothing but EHLO is said without it.
        private: nobody else can read the connection from its first octet on (TLS, or this machine).
        credentials: who signs in; None: nobody.
        pipeline: the mode that is wanted, see `mailmerge.smtp.transfer`.
        borne: whether this server bears commands behind a message that it has not answered; None: not known.
        not_bearing: words, in lower case, of the greeting or EHLO reply of servers known not to bear it.
        messages_per_connection: how many messages earlier connections could bring; None: no limit met.
        transcript: takes each line of the conversation, secrets masked.

    """

    def __init__(  # noqa: PLR0913  each is a fact of its own
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
        """Why the session ended, if it did so badly."""
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
        """Take note of what others have found out: whether this server bears commands behind a message."""
        if borne is not None and self._state.overlap is Overlap.UNTRIED:
            self._state.on(Trigger.BORNE if borne else Trigger.NOT_BORNE)

    @property
    def overlap(self) -> Overlap:
        """Whether this server bears commands behind a message that it has not answered."""
        return self._state.overlap

    @property
    def overlap_failure(self) -> str:
        """What the server did, in this session, that shows that it does not bear them; empty: nothing."""
        return self._transfer.overlap.failure

    @property
    def overlap_suspect(self) -> bool:
        """Whether the session ended behind an overlapped hand-over, at a server that had borne it."""
        return self._transfer.overlap.suspect

    def allow(self, *, overlap: bool, sync: bool) -> None:
        """Say how the next messages may be handed over.

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
        """How messages are handed over just now."""
        return self._transfer.mode

    @property
    def window_size(self) -> int:
        """How many messages may be unanswered in mode ``window``, as things stand."""
        return self._transfer.window.messages

    @property
    def max_size(self) -> int | None:
        """Largest message the server takes, in octets; None: it does not say (RFC 1870 section 4)."""
        return self._state.offers.max_size

    def can_accept(self) -> bool:
        """Whether another message may be submitted now."""
        return self._transfer.can_accept()

    def submit(self, message: Message, token: int) -> None:
        """Begin to hand *message* over, as soon as those before it let it.

        Raises:
            RuntimeError: it cannot be accepted now, or the envelope is not made of plain addresses.

        """
        self._transfer.submit(message, token)
        self._go_on()

    def release(self, tokens: Iterable[int]) -> None:
        """Let the ends of these messages go: the caller has recorded its intent durably.

        Tokens that have their outcome already are passed over.

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
        """Return, once, how many messages the server took before it wanted a new connection."""
        limit, self._transfer.limit.met = self._transfer.limit.met, None
        return limit

    # --- the state of things --------------------------------------------------------------------------

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
        """Whether the handshake is over and we may still speak."""
        return self._state.begun

    @property
    def closed(self) -> bool:
        """Whether the session is over."""
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
        """The step whose reply is the next one owed."""
        return self._replies.awaited

    @property
    def asked(self) -> bool:
        """Whether that step has left completely, so that only the server is to be waited for."""
        return self._replies.asked

    @property
    def answered(self) -> int:
        """Replies taken so far: a change means that another reply is the next one owed."""
        return self._replies.answered

    @property
    def listening(self) -> bool:
        """Whether we only wait for a few replies: a server's next segment may wait for our ACK then."""
        return self._replies.listening

    # --- for the connection ---------------------------------------------------------------------------

    def receive(self, data: bytes) -> None:
        """Take what the server sent, however it was cut."""
        try:
            for reply in self._replies.feed(data):
                self._take(reply)
                if self._state.life is Life.CLOSED:
                    return
            self._go_on()
        except SessionError as error:
            self._close(self._handshake.in_context(error))

    def sent(self, octets: int) -> None:
        """Take note that the kernel has *octets* more of the outbox."""
        self.outbox.sent(octets)
        self._go_on()

    def bind(self, binding: ChannelBinding | None) -> None:
        """Take what tells the connection's TLS from others, before anybody signs in; None: nothing does."""
        self._handshake.bind(binding)

    def secured(self) -> None:
        """Take note that the TLS handshake succeeded.

        Raises:
            RuntimeError: none was due.

        """
        self._handshake.secured()

    def write_failed(self, error: SessionError) -> None:
        """Say no more, for writing failed with *error*: only replies under way still count.

        A server that closes with our octets unread makes its kernel reset the connection. Whatever it had
        answered before may still be read.
        """
        if self._state.begun:
            self._transfer.drain(Trigger.WRITE_FAILED, error)
            self._go_on()
        else:
            self.lost(error)

    def lost(self, error: SessionError) -> None:
        """Take note that the connection is gone; while nothing is awaited that is no error."""
        if self._state.life is Life.CLOSED:
            return
        idle = self._state.life in _MAY_BE_IDLE and not self._transfer.would_suffer()
        self._close(None if idle else self._handshake.in_context(error))

    def give_up(self, error: SessionError) -> None:
        """Take note that we close the connection with *error*, which says nothing about the server."""
        self._transfer.given_up = True
        self.lost(error)

    def noop(self) -> None:
        """Ask whether the server is still there; ``answered`` grows when it is."""
        self._replies.ask(Step.NOOP, b"NOOP")

    def quit(self) -> None:
        """Say QUIT, if nothing is in flight and it may be said.

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
            # It is this step's reply all the same: the server may answer on until it closes.
            self._transfer.on_421(reply, hurt=slot.transaction is not None)
        self._handlers[slot.step](slot, reply)

    def _take_unasked(self, reply: Reply) -> None:
        """Take a reply that answers nothing: 421 alone may come like this (RFC 5321 section 3.8)."""
        if reply.code != 421:
            raise ProtocolError(f"the server sent an unsolicited reply: {reply}", code="S632", reply=reply)
        if self._state.life in _MAY_BE_TOLD:
            self._transfer.on_421(reply, hurt=self._transfer.would_suffer())
        else:
            raise refused_session(self._host, "closed the session", reply, Phase.EHLO)

    def _on_quit(self, _slot: Slot, reply: Reply) -> None:
        # Nearly any answer will do; RFC 5321 section 4.1.1.10 wants us to wait for it, so that the server
        # sees a session that ended as it should.
        if not self._transfer.unconfirmed.fits(reply):
            raise ProtocolError(f"the server answered QUIT with {reply}", code="S632", reply=reply)
        self._close(None)

    # --- going on, and the end ------------------------------------------------------------------------

    def _go_on(self) -> None:
        """Do what the last replies, octets and releases have made possible."""
        self._transfer.go_on()
        life = self._state.life
        if life is Life.RETIRING and self._transfer.idle:
            self.quit()
        elif life is Life.DRAINING and not self._replies:
            self._close(self._transfer.last_error)

    def _slipped(self, error: SessionError) -> bool:
        """Whether *error* shows that the session is out of step.

        In a window a single reply that never comes may be one that was left out long before: every message
        since would have been settled by a reply to the next one.
        """
        left_out = error.code == "S613" and self._replies.awaited is Step.CHUNK and len(self._replies) == 1
        return error.code == "S632" or left_out

    def _close(self, error: SessionError | None) -> None:
        """End the session: every message gets its outcome, then comes `Closed`, exactly once."""
        if self._state.life is Life.CLOSED:
            return
        slipped = error is not None and self._slipped(error)
        if self._state.life is Life.DRAINING:
            error = self._transfer.last_error  # what ended it; that the connection then broke is no news
        self.error = error
        self._transfer.abandon(error, slipped=slipped)
        self._state.on(Trigger.CLOSED)
        self.outbox.clear()
        self._replies.clear()
        self._events.append(Closed(error))
