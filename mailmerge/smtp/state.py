"""The one table of the session: what may be said when, and which replies may follow.

A session moves through `State`; what is said is a `Step`. `TABLE` gives for each step the states in
which it may leave, the first digits that its reply may begin with, and the method that takes the
reply. A step outside its states is our bug and raises before a byte is written; a reply outside its
digits is the server's, and closes the connection. So a MAIL in clear where TLS is owed, or content
without its 354, cannot happen by an oversight elsewhere.

Replies belong to steps by count alone (RFC 2920 section 3.1): one `Slot` for each reply that is due.
"""

from __future__ import annotations

import enum
from typing import TYPE_CHECKING, NamedTuple

from msgspec import Struct

from mailmerge.model import Phase

if TYPE_CHECKING:
    from mailmerge.smtp.transactions import Transaction


class State(enum.Enum):
    """How far the session has come."""

    GREETING = "greeting"
    """Connected; the server speaks first."""
    CLEAR = "clear"
    """Greeted, but TLS is owed: nothing private may be said."""
    HANDSHAKE = "handshake"
    """STARTTLS was accepted: the connection must do its part, then call ``secured``."""
    TRUSTED = "trusted"
    """As private as it will be; perhaps not signed in yet."""
    READY = "ready"
    """Messages may be handed over."""
    PARTING = "parting"
    """QUIT was said."""
    MUTE = "mute"
    """The server said 421, or writing failed: we only listen, for replies still under way."""
    GONE = "gone"
    """Over."""

    __hash__ = object.__hash__  # Enum's own is written in Python, and this is looked up for every reply


class Step(enum.Enum):
    """Everything that a reply can answer."""

    GREETING = "the greeting"
    EHLO = "EHLO"
    HELO = "HELO"
    STARTTLS = "STARTTLS"
    AUTH = "AUTH"
    PROOF_MAIL = "MAIL (trial)"
    PROOF_CHUNK = "BDAT (trial)"
    PROOF_RSET = "RSET (trial)"
    PROOF_NOOP = "NOOP (trial)"
    MAIL = "MAIL"
    RCPT = "RCPT"
    DATA = "DATA"
    CONTENT = "the message"
    """The content after DATA with its final dot."""
    CHUNK = "BDAT"
    """The whole content as one BDAT chunk (RFC 3030)."""
    LONE_DOT = "an empty message"
    """The end of a transaction that has no recipients, after an unwanted 354."""
    RSET = "RSET"
    NOOP = "NOOP"
    QUIT = "QUIT"

    __hash__ = object.__hash__


class Rule(Struct, frozen=True):
    """One line of the table."""

    phase: Phase
    states: frozenset[State]
    severities: frozenset[int]
    handler: str


class Slot(NamedTuple):
    """One reply that is due."""

    step: Step
    transaction: Transaction | None
    due: int
    """How many octets must have left before a reply can be meant for this step."""


def _rule(phase: Phase, states: tuple[State, ...], severities: str, handler: str) -> Rule:
    return Rule(phase, frozenset(states), frozenset(map(int, severities)), handler)


_ANY = (State.CLEAR, State.TRUSTED, State.READY)
_READY = (State.READY,)

TABLE: dict[Step, Rule] = {
    Step.GREETING: _rule(Phase.GREETING, (State.GREETING,), "245", "_on_greeting"),
    Step.EHLO: _rule(Phase.EHLO, (State.CLEAR, State.TRUSTED), "245", "_on_ehlo"),
    Step.HELO: _rule(Phase.EHLO, (State.TRUSTED,), "245", "_on_helo"),
    Step.STARTTLS: _rule(Phase.STARTTLS, (State.CLEAR,), "245", "_on_starttls"),
    Step.AUTH: _rule(Phase.AUTH, (State.TRUSTED,), "2345", "_on_auth"),
    Step.PROOF_MAIL: _rule(Phase.MAIL, _READY, "245", "_on_proof"),
    Step.PROOF_CHUNK: _rule(Phase.DATA, _READY, "245", "_on_proof"),
    Step.PROOF_RSET: _rule(Phase.RSET, _READY, "2", "_on_proof"),
    Step.PROOF_NOOP: _rule(Phase.RSET, _READY, "2", "_on_proof"),
    Step.MAIL: _rule(Phase.MAIL, _READY, "245", "_on_mail"),
    Step.RCPT: _rule(Phase.RCPT, _READY, "245", "_on_rcpt"),
    Step.DATA: _rule(Phase.DATA, _READY, "345", "_on_data"),
    Step.CONTENT: _rule(Phase.CONTENT, _READY, "245", "_on_content"),
    Step.CHUNK: _rule(Phase.CONTENT, _READY, "245", "_on_chunk"),
    Step.LONE_DOT: _rule(Phase.RSET, _READY, "245", "_on_nothing"),
    Step.RSET: _rule(Phase.RSET, _READY, "2", "_on_nothing"),
    Step.NOOP: _rule(Phase.RSET, _READY, "245", "_on_nothing"),
    Step.QUIT: _rule(Phase.QUIT, _ANY, "245", "_on_quit"),
}
