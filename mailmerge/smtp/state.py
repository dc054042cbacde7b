"""What may be sent when: every state of an SMTP session, and every transition between states.

Rule 1: everything that decides what may be sent next, or what a reply means, is a state in this file and
changes only along `TRANSITIONS`. A transition that is not in the table is a bug of ours and raises before an
octet is written. Other files have only values: what the server offers, counts and sizes, replies to quote.

The picture
-----------

Eight small machines, not one large one. Six belong to the session::

    Life      GREETING -> OPENING -> OPEN -> RETIRING -> QUITTING -> CLOSED    (CLOSED from anywhere)
                                       |         |           |          ^
                                       +---------+-----------+--> DRAINING
    StartTls  UNUSED | OWED -> ASKED -> HANDSHAKE -> DONE
    Auth      UNUSED | OWED -> ASKED -> DONE,   or   ASKED -> RENEWED -> DONE
    Trial     UNTRIED -> RUNNING -> PASSED | FAILED
    Overlap   UNTRIED <-> RUNNING -> PASSED | FAILED,   PASSED -> FAILED
    Reset     NOT_DUE <-> DUE

Two belong to each message::

    Stage     WAITING -> ENVELOPE -> CONTENT -> DONE
    Gate      SHUT -> REQUESTED -> OPEN

`Life` is how far the session has come. It cannot become OPEN while `StartTls` or `Auth` is OWED, and no step
of a message is allowed outside of OPEN and RETIRING: so an oversight in some other file cannot cause a MAIL
in plaintext where TLS is required, or before the sign-in. `STEPS` lists the states in which each command may
be sent and the first digits that its reply may have; a reply with another digit is the server's mistake and
ends the session, because from then on nobody knows which command a reply answers.

What may arrive before a message is answered
--------------------------------------------

Every server that offers PIPELINING accepts MAIL, RCPT and DATA in one write, because the client must wait for
the 354 in any case. Not every server accepts commands between the end of a message and its reply, although
RFC 2920 section 3.1 allows them: some answer 503 to each of these commands, some refuse and close, some do
not answer, and Dovecot's submission server crashes. So nothing is sent behind a hand-over (mode ``grouped``)
unless the rate requires it, and then `Overlap` finds out with one message::

    end of one message, MAIL, RCPT, DATA of the next    in one write
    2yz 2yz 2yz 354                                     PASSED: the server supports it
    a refusal in place of one of the last three         FAILED, or not proved: the row may be to blame
    no more replies, or no connection                   FAILED

If the row whose envelope came early was refused in a trial, it is given back as not attempted: only a refusal
outside of the trial is certainly about the row. The row before it is in doubt if the connection ended without
its reply: it is the only row that an unknown server can cost. In a window, the end of the second message is
not sent until the first one is answered, so the cost is one row there too.

Sync points
-----------

An extra, missing or misplaced reply is noticed when a step gets a reply that it cannot have; until then, rows
may have been settled by replies that were not theirs. A 354 proves that the count is right: no other step can
have it, and DATA can have no other. So it is a sync point: what was settled before it is certain. If a
session proves out of step, what was settled since the last sync point is not certain: a message that was
written whole is then in doubt, whatever the reply was; any other is pending. BDAT has no 354. So in a window
one message a second goes by DATA: it follows the chunks in the same group of commands, and what comes behind
it waits for the 354, and so for all replies before it. At an unknown server so does the message in front of
the trial: only that one can be in doubt if the trial fails.

The reply to QUIT is the last evidence: it must be 221, and not one that could belong to the last message.

Replies belong to commands by their number alone
------------------------------------------------

With pipelining, several replies are due at the same time. RFC 2920 section 3.1 requires the client to count
them: text and code do not show which command a reply answers. So each command that is sent puts one slot into
a queue, and each reply takes the first one out. A reply that arrives before its command was sent (RFC 5321
has only one such reply, 421) does not answer any of our commands. Either the server is out of step or
somebody is injecting data into the connection: the session ends, and no later reply is trusted.

What a 421 does
---------------

RFC 5321 section 3.8 lets a server that must close reply 421 to any command, or without one. It still is the
reply to its command: the server may answer what was pipelined behind it (Exim does, for a dozen messages),
and those replies decide whether a row is sent again. Where a 421 leads:

- GREETING, OPENING: it refuses that step (greeting, EHLO, STARTTLS, AUTH); CLOSED, with the error.
- OPEN, RETIRING: DRAINING. We send nothing more, and wait up to 5 s for replies that are on their way. An
  idle session ends without an error: the server may close at any time. If a message was affected, or the
  reply is about the account, the 421 is the error, and the reply to every message that got no other.
- QUITTING: as the reply to QUIT it is as good as 221. Unsolicited, because the server timed out before it saw
  our QUIT: DRAINING, then CLOSED.
- DRAINING: the last 421 is the one that is shown; nothing else changes.

A write error leads to DRAINING as well: what the kernel had accepted may be answered, and each reply that
still arrives is one row less in doubt. So does a refusal before the end of the content: after 354, the only
way not to complete the message is to stop sending (RFC 5321 section 4.1.1.4 has no abort).

Why overlap has two messages in flight and never more
---------------------------------------------

RFC 2920 section 3.1 allows content to be the *first* thing in a group of commands and DATA to be the
*last*: content and final dot of one message, then MAIL, RCPT and DATA of the next, in one write. The next
content cannot follow before the 354 that answers its DATA (servers that check this drop the connection, and
a server that answers DATA with 5yz would execute the content as commands). So the second message never gets
further than its envelope while the first is unanswered: one round trip a message, and at most one message in
doubt.

What the trial proves
---------------------

With BDAT (RFC 3030) no reply has to be waited for: the size of the content goes before it, so a server can
skip the chunk of a BDAT that it refuses, and RFC 3030 section 2 requires it to. Some do not: they answer 503
and execute the chunk as commands, so that a cell of the list could issue SMTP commands. Before the first
message of a window, one harmless chunk is refused on purpose, in one write::

    MAIL FROM:<sender>      2yz
    BDAT 6 LAST             5yz   no RCPT came before: it must be refused
    XXXX<CR><LF>                  skipped; a server that executes it gives one reply more: 500
    RSET                    2yz
    NOOP                    2yz

Exactly these four replies: PASSED. Anything else: FAILED, and the session continues without BDAT, or ends if
the count is wrong. No message has begun, so no row is affected.

A refused BDAT leaves the server's state "indeterminate" (RFC 3030 section 2), so RSET goes before every MAIL
of a window; without it Exim has taken messages under the envelope of a refused one. `Reset` remembers this
for the message that goes by DATA next.

Why several recipients are a barrier
------------------------------------

A client that pipelines RCPT and content cannot take the content back when one RCPT is refused, so some of the
recipients would get the message. With a single recipient that cannot happen. With several, the message waits:
every RCPT is answered before DATA is sent, and one refusal refuses the row, followed by RSET.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING

from msgspec import Struct

from mailmerge.model import Phase
from mailmerge.smtp.replies import Extensions

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Self

    from mailmerge.errors import SessionError
    from mailmerge.model import Outcome


class Trigger(enum.Enum):
    """Everything that can cause a transition; each trigger belongs to exactly one machine."""

    GREETED = "greeting 2yz"
    OPENED = "last EHLO or HELO answered, nothing else due"
    RETIRE = "connection refused a message, or limit reached"
    QUIT = "QUIT sent"
    SHUTDOWN = "421"
    EARLY_REFUSAL = "refused before the end of the content"
    WRITE_FAILED = "write error"
    CLOSED = "the end"

    STARTTLS_SAID = "STARTTLS sent"
    STARTTLS_ACCEPTED = "220"
    SECURED = "TLS handshake done"

    AUTH_SAID = "AUTH sent"
    CHALLENGED = "334"
    TOKEN_REFUSED = "token refused"  # noqa: S105  not a secret
    AUTH_ACCEPTED = "235"

    TRIAL_SAID = "trial sent"
    TRIAL_PASSED = "2yz 5yz 2yz 2yz"
    TRIAL_FAILED = "any other four replies"

    OVERLAPPED = "sent behind a message"
    BORNE = "354, or the chunk accepted"
    UNPROVED = "refused, perhaps because of the row"
    NOT_BORNE = "refused for coming early, connection lost, or no reply"

    CHUNK_REFUSED = "BDAT refused"
    RSET_SAID = "RSET sent"

    MAIL_SAID = "MAIL sent"
    CONTENT_QUEUED = "content queued"
    COMPLETED = "outcome known"

    END_REACHED = "only the end is left"
    RELEASED = "released by the caller"

    __hash__ = object.__hash__  # Enum's own is written in Python, and this is looked up for every message


class StateMachine(enum.Enum):
    """The states of one machine; `TRANSITIONS` lists which can follow which."""

    __hash__ = object.__hash__

    def after(self, trigger: Trigger) -> Self:
        """Return the state that *trigger* leads to.

        Raises:
            RuntimeError: the table has no such transition, which is a bug of ours.

        """
        try:
            return TRANSITIONS[self, trigger]  # type: ignore[return-value]  # a test says so
        except KeyError:
            raise RuntimeError(f"{type(self).__name__} {self.name} cannot take {trigger.name}") from None


class Life(StateMachine):
    """How far the session has come (RFC 5321 sections 3.1 and 3.8)."""

    GREETING = "greeting"
    """Connected; the server greets first."""
    OPENING = "opening"
    """Greeted: EHLO, STARTTLS and sign-in are under way."""
    OPEN = "open"
    """Messages are handed over."""
    RETIRING = "retiring"
    """No message begins any more; those that have begun are finished, then QUIT is sent."""
    QUITTING = "quitting"
    """QUIT was sent."""
    DRAINING = "draining"
    """Nothing more is sent; replies that are still on their way count."""
    CLOSED = "closed"
    """The connection is closed; every message has its outcome."""


class StartTls(StateMachine):
    """TLS by STARTTLS (RFC 3207); implicit TLS is set up before the session begins."""

    UNUSED = "unused"
    """Not needed: the connection is private already, or need not be."""
    OWED = "owed"
    """Required and not done: only EHLO and STARTTLS may be sent."""
    ASKED = "asked"
    """STARTTLS was sent: nothing may be sent before its reply, which decides whether TLS follows."""
    HANDSHAKE = "handshake"
    """The reply was 220: the connection must do the TLS handshake and call ``secured``."""
    DONE = "done"
    """TLS is on; everything that the server had sent before is forgotten (RFC 3207 section 4.2)."""


class Auth(StateMachine):
    """The sign-in (RFC 4954): one mechanism, one attempt, and a second one if a token has expired."""

    UNUSED = "unused"
    """Nobody signs in."""
    OWED = "owed"
    """Not signed in yet."""
    ASKED = "asked"
    """AUTH was sent."""
    RENEWED = "renewed"
    """A token was refused and a new one is tried: the last attempt."""
    DONE = "done"
    """Signed in."""


class Trial(StateMachine):
    """Whether this server skips the chunk of a refused BDAT (RFC 3030 section 2)."""

    UNTRIED = "untried"
    """Unknown: no message goes by BDAT."""
    RUNNING = "running"
    """The trial was sent; no message begins until its last reply has arrived."""
    PASSED = "passed"
    """Messages may go by BDAT without waiting."""
    FAILED = "failed"
    """No message goes by BDAT, in this session and in later ones to this server."""


class Overlap(StateMachine):
    """Whether this server supports commands behind an unanswered message (RFC 2920 section 3.1)."""

    UNTRIED = "untried"
    """Unknown: the first commands behind a message are the trial."""
    RUNNING = "running"
    """They were sent; no message begins until they are answered."""
    PASSED = "passed"
    """The next message begins before the last is answered, if the rate requires it."""
    FAILED = "failed"
    """Nothing is sent behind a message, in this session and in later ones to this server."""


class Reset(StateMachine):
    """Whether RSET must go before the next MAIL (RFC 3030 section 2, RFC 5321 section 4.1.1.5)."""

    NOT_DUE = "not due"
    """The server remembers no envelope of ours, or the next group begins with RSET anyway."""
    DUE = "due"
    """A BDAT was refused: what the server still remembers of it is unknown."""


class Stage(StateMachine):
    """How far one message has come."""

    WAITING = "waiting"
    """Submitted; nothing of it was sent."""
    ENVELOPE = "envelope"
    """MAIL was sent."""
    CONTENT = "content"
    """The content is queued, behind the gate of its end."""
    DONE = "done"
    """It has its outcome."""


class Gate(StateMachine):
    """Whether the end of one message may be sent: only after that can the server have it complete."""

    SHUT = "shut"
    """Not everything before the end has been sent."""
    REQUESTED = "requested"
    """`ReleaseNeeded` was reported."""
    OPEN = "open"
    """The caller has recorded its intent durably."""


TRANSITIONS: Mapping[tuple[StateMachine, Trigger], StateMachine] = {
    (Life.GREETING, Trigger.GREETED): Life.OPENING,
    (Life.OPENING, Trigger.OPENED): Life.OPEN,
    (Life.OPEN, Trigger.RETIRE): Life.RETIRING,
    # RFC 5321 section 4.1.1.10 allows QUIT at any time, but a handshake that fails ends with an error, and
    # a server that refused us, or may not be the one we meant, is owed no QUIT.
    (Life.OPEN, Trigger.QUIT): Life.QUITTING,
    (Life.RETIRING, Trigger.QUIT): Life.QUITTING,
    (Life.OPEN, Trigger.SHUTDOWN): Life.DRAINING,
    (Life.RETIRING, Trigger.SHUTDOWN): Life.DRAINING,
    (Life.QUITTING, Trigger.SHUTDOWN): Life.DRAINING,
    (Life.DRAINING, Trigger.SHUTDOWN): Life.DRAINING,
    (Life.OPEN, Trigger.WRITE_FAILED): Life.DRAINING,
    (Life.RETIRING, Trigger.WRITE_FAILED): Life.DRAINING,
    (Life.OPEN, Trigger.EARLY_REFUSAL): Life.DRAINING,
    (Life.RETIRING, Trigger.EARLY_REFUSAL): Life.DRAINING,
    (Life.DRAINING, Trigger.EARLY_REFUSAL): Life.DRAINING,
    (Life.GREETING, Trigger.CLOSED): Life.CLOSED,
    (Life.OPENING, Trigger.CLOSED): Life.CLOSED,
    (Life.OPEN, Trigger.CLOSED): Life.CLOSED,
    (Life.RETIRING, Trigger.CLOSED): Life.CLOSED,
    (Life.QUITTING, Trigger.CLOSED): Life.CLOSED,
    (Life.DRAINING, Trigger.CLOSED): Life.CLOSED,
    (StartTls.OWED, Trigger.STARTTLS_SAID): StartTls.ASKED,
    (StartTls.ASKED, Trigger.STARTTLS_ACCEPTED): StartTls.HANDSHAKE,
    (StartTls.HANDSHAKE, Trigger.SECURED): StartTls.DONE,
    (Auth.OWED, Trigger.AUTH_SAID): Auth.ASKED,
    (Auth.ASKED, Trigger.CHALLENGED): Auth.ASKED,
    (Auth.ASKED, Trigger.AUTH_ACCEPTED): Auth.DONE,
    (Auth.ASKED, Trigger.TOKEN_REFUSED): Auth.RENEWED,
    (Auth.RENEWED, Trigger.AUTH_SAID): Auth.RENEWED,
    (Auth.RENEWED, Trigger.CHALLENGED): Auth.RENEWED,
    (Auth.RENEWED, Trigger.AUTH_ACCEPTED): Auth.DONE,
    (Trial.UNTRIED, Trigger.TRIAL_SAID): Trial.RUNNING,
    (Trial.RUNNING, Trigger.TRIAL_PASSED): Trial.PASSED,
    (Trial.RUNNING, Trigger.TRIAL_FAILED): Trial.FAILED,
    (Overlap.UNTRIED, Trigger.OVERLAPPED): Overlap.RUNNING,
    (Overlap.RUNNING, Trigger.BORNE): Overlap.PASSED,
    (Overlap.RUNNING, Trigger.UNPROVED): Overlap.UNTRIED,
    (Overlap.RUNNING, Trigger.NOT_BORNE): Overlap.FAILED,
    (Overlap.PASSED, Trigger.NOT_BORNE): Overlap.FAILED,
    # Found out by another session or an earlier run, or listed in our data file:
    (Overlap.UNTRIED, Trigger.BORNE): Overlap.PASSED,
    (Overlap.UNTRIED, Trigger.NOT_BORNE): Overlap.FAILED,
    (Reset.NOT_DUE, Trigger.CHUNK_REFUSED): Reset.DUE,
    (Reset.DUE, Trigger.CHUNK_REFUSED): Reset.DUE,
    (Reset.DUE, Trigger.RSET_SAID): Reset.NOT_DUE,
    (Stage.WAITING, Trigger.MAIL_SAID): Stage.ENVELOPE,
    (Stage.ENVELOPE, Trigger.CONTENT_QUEUED): Stage.CONTENT,
    (Stage.WAITING, Trigger.COMPLETED): Stage.DONE,
    (Stage.ENVELOPE, Trigger.COMPLETED): Stage.DONE,
    (Stage.CONTENT, Trigger.COMPLETED): Stage.DONE,
    (Gate.SHUT, Trigger.END_REACHED): Gate.REQUESTED,
    (Gate.REQUESTED, Trigger.RELEASED): Gate.OPEN,
    (Gate.OPEN, Trigger.RELEASED): Gate.OPEN,  # once more does no harm
}
"""The state that each trigger leads to from each state; what is missing here cannot happen."""

MACHINE_OF: Mapping[Trigger, type[StateMachine]] = {trigger: type(state) for state, trigger in TRANSITIONS}
"""The machine that each trigger belongs to."""


class Step(enum.Enum):
    """Everything that a reply can answer."""

    GREETING = "the greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    TRIAL_MAIL = "MAIL (trial)"
    TRIAL_CHUNK = "BDAT (trial)"
    TRIAL_RSET = "RSET (trial)"
    TRIAL_NOOP = "NOOP (trial)"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "the message"
    """The content after DATA with its final dot."""
    CHUNK = "BDAT"
    """The whole content as one BDAT chunk."""
    LONE_DOT = "an empty message"
    """The end of a transaction without recipients, after an unwanted 354."""
    RSET = "RSET"
    EARLY_RSET = "RSET (behind a message)"
    """The first command behind a message in a window."""
    NOOP = "NOOP"
    QUIT = "QUIT"

    __hash__ = object.__hash__


class StepRule(Struct, frozen=True):
    """When one step may be sent, and which replies it may have."""

    phase: Phase
    """The phase of the message, or of the session, that awaits this reply."""
    life: frozenset[Life]
    start_tls: frozenset[StartTls]
    digits: frozenset[int]
    """First digits that its reply may have; 421 may answer anything (RFC 5321 section 4.2.1)."""
    source: str


_OPENING = frozenset({Life.OPENING})
_OPEN = frozenset({Life.OPEN})
_BEGUN = frozenset({Life.OPEN, Life.RETIRING})
_SETTLED = frozenset({StartTls.UNUSED, StartTls.DONE})
_DONE_OR_NOT = frozenset({2, 4, 5})


def _open_step(
    phase: Phase, source: str, *, life: frozenset[Life] = _BEGUN, digits: frozenset[int] = _DONE_OR_NOT
) -> StepRule:
    return StepRule(phase, life, _SETTLED, digits, source)


# RSET and NOOP "always" succeed (RFC 5321 sections 4.1.1.5 and 4.1.1.9). For RSET we insist: a server that
# refuses it still has the envelope that it should forget. A NOOP outside the trial may get any reply: some
# servers count them and refuse, which proves as well as 250 that the server is there.
_MUST_SUCCEED = frozenset({2})

INTERMEDIATE: Mapping[Phase, int] = {Phase.AUTH: 334, Phase.DATA: 354}
"""The intermediate reply of each phase that has one (RFC 4954 section 4, RFC 5321 section 4.3.2)."""

STEPS: Mapping[Step, StepRule] = {
    Step.GREETING: StepRule(
        Phase.GREETING, frozenset({Life.GREETING}), frozenset(StartTls), _DONE_OR_NOT, "RFC 5321 section 3.1"
    ),
    Step.EHLO: StepRule(
        Phase.EHLO, _OPENING, _SETTLED | {StartTls.OWED}, _DONE_OR_NOT, "RFC 5321 section 4.1.1.1"
    ),
    Step.HELO: StepRule(Phase.EHLO, _OPENING, _SETTLED, _DONE_OR_NOT, "RFC 5321 section 3.2"),
    Step.STARTTLS: StepRule(
        Phase.STARTTLS, _OPENING, frozenset({StartTls.OWED}), _DONE_OR_NOT, "RFC 3207 section 4"
    ),
    Step.AUTH: StepRule(Phase.AUTH, _OPENING, _SETTLED, frozenset({2, 3, 4, 5}), "RFC 4954 section 4"),
    Step.TRIAL_MAIL: _open_step(Phase.MAIL, "RFC 5321 section 4.1.1.2", life=_OPEN),
    Step.TRIAL_CHUNK: _open_step(Phase.DATA, "RFC 3030 section 2", life=_OPEN),
    Step.TRIAL_RSET: _open_step(Phase.RSET, "RFC 5321 section 4.1.1.5", life=_OPEN, digits=_MUST_SUCCEED),
    Step.TRIAL_NOOP: _open_step(Phase.RSET, "RFC 5321 section 4.1.1.9", life=_OPEN, digits=_MUST_SUCCEED),
    Step.MAIL: _open_step(Phase.MAIL, "RFC 5321 section 4.1.1.2, RFC 1870", life=_OPEN),
    Step.RCPT: _open_step(Phase.RCPT, "RFC 5321 section 4.1.1.3"),
    # 250 to DATA would mean that the server accepted a message without its content: it is out of step.
    Step.DATA: _open_step(Phase.DATA, "RFC 5321 section 4.1.1.4", digits=frozenset({3, 4, 5})),
    Step.CONTENT: _open_step(Phase.CONTENT, "RFC 5321 section 4.1.1.4"),
    Step.CHUNK: _open_step(Phase.CONTENT, "RFC 3030 section 2"),
    Step.LONE_DOT: _open_step(Phase.RSET, "RFC 2920 section 3.1"),
    Step.RSET: _open_step(Phase.RSET, "RFC 5321 section 4.1.1.5", digits=_MUST_SUCCEED),
    # Only a server that does not support commands behind a message may refuse this one.
    Step.EARLY_RSET: _open_step(Phase.RSET, "RFC 5321 section 4.1.1.5", life=_OPEN),
    Step.NOOP: _open_step(Phase.RSET, "RFC 5321 section 4.1.1.9"),
    Step.QUIT: _open_step(Phase.QUIT, "RFC 5321 section 4.1.1.10"),
}
"""When each step may be sent, and which replies it may have."""


class SessionState:
    """The six machines of one session, and what the server offered last. Only ``on`` changes their states."""

    __slots__ = ("auth", "begun", "life", "offers", "overlap", "reset", "start_tls", "trial")

    def __init__(self, *, starttls: bool, sign_in: bool) -> None:
        self.life = Life.GREETING
        self.start_tls = StartTls.OWED if starttls else StartTls.UNUSED
        self.auth = Auth.OWED if sign_in else Auth.UNUSED
        self.trial = Trial.UNTRIED
        self.overlap = Overlap.UNTRIED
        self.reset = Reset.NOT_DUE
        self.begun = False
        """Whether messages may be under way: `life` is OPEN or RETIRING."""
        self.offers = Extensions()
        """What the last EHLO offered; nothing else counts (RFC 5321 section 4.1.1.1)."""

    def on(self, trigger: Trigger) -> None:
        """Change the state of the machine that *trigger* belongs to.

        Raises:
            RuntimeError: no such transition leaves its present state.

        """
        if trigger is Trigger.OPENED and not self._nothing_is_owed():
            raise RuntimeError(f"open with StartTls {self.start_tls.name} and Auth {self.auth.name}")
        machine = MACHINE_OF[trigger]
        if machine is Life:
            self.life = self.life.after(trigger)
            self.begun = self.life in _BEGUN
        elif machine is Reset:
            self.reset = self.reset.after(trigger)
        elif machine is StartTls:
            self.start_tls = self.start_tls.after(trigger)
        elif machine is Auth:
            self.auth = self.auth.after(trigger)
        elif machine is Overlap:
            self.overlap = self.overlap.after(trigger)
        elif machine is Trial:
            self.trial = self.trial.after(trigger)
        else:
            raise RuntimeError(f"{trigger.name} is about one message, not about the session")

    def _nothing_is_owed(self) -> bool:
        return self.start_tls in _SETTLED and self.auth in {Auth.UNUSED, Auth.DONE}

    def may_say(self, step: Step) -> bool:
        """Return whether *step* may be sent now."""
        rule = STEPS[step]
        return self.life in rule.life and self.start_tls in rule.start_tls

    def check(self, step: Step) -> None:
        """Raise `RuntimeError` if *step* may not be sent now: a bug of ours, found before it is written."""
        rule = STEPS[step]
        if self.life not in rule.life or self.start_tls not in rule.start_tls:
            raise RuntimeError(
                f"{step.value} may not be sent in Life {self.life.name}, StartTls {self.start_tls.name}"
            )


# --- what a connection reports to its caller -------------------------------------------------------------


class ReleaseNeeded(Struct, frozen=True):
    """Only the end of message *token* is not sent yet: with it, the server would have the message complete.

    The caller records durably that it is about to hand the message over, then calls ``release``. So no crash
    can leave a message that the server accepted and that nothing on disk mentions.
    """

    token: int


class Completed(Struct, frozen=True):
    """Message *token* has its outcome."""

    token: int
    outcome: Outcome


class InStep(Struct, frozen=True):
    """A sync point was reached: the outcomes of these messages are certain."""

    tokens: tuple[int, ...]


class Revised(Struct, frozen=True):
    """The session proved out of step: this replaces the outcome that message *token* had."""

    token: int
    outcome: Outcome


class Closed(Struct, frozen=True):
    """The connection is closed; every submitted message had its `Completed` before this event."""

    error: SessionError | None


Event = ReleaseNeeded | Completed | InStep | Revised | Closed
