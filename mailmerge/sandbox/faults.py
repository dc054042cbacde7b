"""What the sandbox server should do wrong: pure values, and how they are written on the command line."""

from __future__ import annotations

import enum
import re
from collections import deque
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from mailmerge.errors import CampaignFileError
from mailmerge.providers import sign_in_refusals
from mailmerge.text import quoted
from mailmerge.validation import ValidationError, parse_share, parse_span

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from random import Random


class Cut(enum.Enum):
    """Where the connection of a message is cut."""

    BEFORE = "before the content"
    INSIDE = "half-way through the content"
    AFTER = "after the content, which is discarded"


class Command(enum.StrEnum):
    """The command that a refusal answers."""

    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """The reply to the whole message: after the final dot, or after the last chunk."""


class NoPipelining(enum.StrEnum):
    """How commands are treated that arrive before the message in front of them is answered."""

    BAD_SEQUENCE = "503"
    UNKNOWN = "500"
    SYNCHRONIZATION = "554"
    """Refuse one command and close the connection."""
    CLOSING = "421"
    CRASH = "crash"
    """Accept the message, but do not reply."""
    SILENT = "silent"


EARLY = {
    NoPipelining.BAD_SEQUENCE: "503 5.5.1 Bad sequence of commands",
    NoPipelining.UNKNOWN: "500 5.5.1 Invalid command: Pipelining not supported",
    NoPipelining.SYNCHRONIZATION: "554 5.5.0 Error: SMTP protocol synchronization",
    NoPipelining.CLOSING: "421 4.7.0 Synchronization error, closing connection",
}

_TEXTS = {
    421: "4.3.2 Service shutting down, closing connection",
    450: "4.2.1 Mailbox busy, try again later",
    451: "4.3.0 Local error, try again later",
    452: "4.2.2 Mailbox full, try again later",
    535: "5.7.8 Authentication credentials invalid",
    550: "5.1.1 No such user here",
    552: "5.3.4 Message too big",
    554: "5.7.1 Message refused",
}

CAP = "421 4.7.0 Too many messages in this session, closing connection"
TOO_FAST = "454 4.7.0 Throttling failure: Maximum sending rate exceeded."
GREYLISTED = "450 4.2.0 Greylisted, please try again later"

_MINUTE = 60.0
_SYNTAX = re.compile(
    r"(?:(?P<command>[a-z]+):)?(?P<code>[45]\d\d)(?: (?P<text>[^\r\n]+))?:(?P<share>[^:]+)", re.IGNORECASE
)


class Refusal(Struct, frozen=True):
    """A reply that *command* gets with *probability* (0 to 1) instead of a positive one."""

    code: int
    probability: float
    command: Command = Command.RCPT
    text: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.text or _TEXTS.get(self.code, 'Refused by the rehearsal')}"


class FaultPlan(Struct, frozen=True):
    """How the sandbox server misbehaves; the default is a server without fault."""

    refusals: tuple[Refusal, ...] = ()
    drop_after_data: float = 0.0
    """Share of messages (0 to 1) that are accepted, but whose reply is lost with the connection."""
    drop: float = 0.0
    """Share of messages (0 to 1) that are lost with the connection: at each `Cut` a third of them."""
    per_connection: int | None = None
    """How many messages a connection may have."""
    per_minute: int | None = None
    """How many messages may begin in any minute."""
    greylist: float = 0.0
    """Seconds for which each new recipient is asked to try again later."""
    refused: tuple[str, ...] = ()
    """Recipients, as they are written in RCPT, that do not exist here: ``550 5.1.1``, every time."""
    refuse_sign_in: str | None = None
    """The provider whose reply refuses every sign-in: a preset with a `sign_in_refusal`."""
    delay: float = 0.0
    """Delay before each message's last reply, in seconds."""
    no_pipelining: NoPipelining | None = None
    """How it treats what arrives before the message in front of it is answered; None: like anything else."""
    seed: int | None = None
    """The random seed, which makes faults repeatable; None: different at every start."""

    @classmethod
    def parse(
        cls,
        refusals: Iterable[str] = (),
        *,
        drop_after_data: str = "0%",
        drop: str = "0%",
        greylist: str = "0",
        no_pipelining: str | None = None,
        **more: Any,
    ) -> FaultPlan:
        """Parse command line values: ``450:2%``, ``auth:535:1%``, ``550 5.1.1 Who?:0.5%``, ``5m``.

        *more* are further fields, passed unchanged.

        Raises `CampaignFileError` for anything else.
        """
        provider = more.get("refuse_sign_in")
        if provider is not None and provider not in (known := sign_in_refusals()):
            raise CampaignFileError(
                f"no sign-in refusal recorded for {quoted(provider)}",
                code="C490",
                hint=f"one of {', '.join(known)}",
            )
        return cls(
            refusals=tuple(_refusal(text) for text in refusals),
            drop_after_data=_share(drop_after_data),
            drop=_share(drop),
            greylist=_span(greylist),
            no_pipelining=None if no_pipelining is None else NoPipelining(no_pipelining),
            **more,
        )


class FaultInjector:
    """A `FaultPlan` at work: its random numbers, and what it remembers of the messages so far.

    *monotonic* returns seconds; one object serves all connections of a server.
    """

    def __init__(self, plan: FaultPlan, random: Random, monotonic: Callable[[], float]) -> None:
        self._plan = plan
        self._random = random
        self._monotonic = monotonic
        self._sign_in_refusal = sign_in_refusals()[plan.refuse_sign_in] if plan.refuse_sign_in else None
        self._begun: deque[float] = deque()
        self._first_seen: dict[tuple[str, str], float] = {}

    def no_such_user(self, recipient: str) -> str | None:
        """Return the reply to a recipient that the plan refuses, or None."""
        known = recipient.casefold() not in map(str.casefold, self._plan.refused)
        return None if known else str(Refusal(550, 1.0))

    def refusal(self, command: Command) -> str | None:
        """Return the reply that refuses one *command*, by chance, or None."""
        if command is Command.AUTH and self._sign_in_refusal:
            return self._sign_in_refusal
        for refusal in self._plan.refusals:
            if refusal.command is command and self._random.random() < refusal.probability:
                return str(refusal)
        return None

    def begin(self, messages: int) -> str | None:
        """Return the refusal of another message on a connection with *messages* already, or None."""
        plan, now = self._plan, self._monotonic()
        if plan.per_connection is not None and messages >= plan.per_connection:
            return CAP
        while self._begun and now - self._begun[0] >= _MINUTE:
            self._begun.popleft()
        if plan.per_minute is not None and len(self._begun) >= plan.per_minute:
            return TOO_FAST
        self._begun.append(now)
        return None

    def greylisted(self, sender: str, recipient: str) -> bool:
        """Return whether this pair was seen too recently."""
        if not self._plan.greylist:
            return False
        now = self._monotonic()
        return now - self._first_seen.setdefault((sender, recipient), now) < self._plan.greylist

    def cut(self) -> Cut | None:
        """Return where the connection of one message is cut, by chance, or None."""
        if not self._plan.drop or self._random.random() >= self._plan.drop:
            return None
        return self._random.choice(tuple(Cut))

    def drops(self) -> bool:
        """Return whether the connection is cut before an accepted message's reply, by chance."""
        return self._random.random() < self._plan.drop_after_data


def _refusal(text: str) -> Refusal:
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise CampaignFileError(
            f"{quoted(text)} is not a valid fault",
            code="C490",
            hint="write CODE:SHARE or COMMAND:CODE:SHARE, such as 450:2% or auth:535:1%",
        )
    command = (match["command"] or "rcpt").lower()
    if command not in set(Command):
        raise CampaignFileError(
            f"{quoted(command)} is not a command that can be made to fail",
            code="C490",
            hint=f"one of {', '.join(Command)}",
        )
    return Refusal(
        code=int(match["code"]),
        probability=_share(match["share"]),
        command=Command(command),
        text=match["text"] or "",
    )


def _share(text: str) -> float:
    try:
        share = parse_share(text) if "%" in text else float(text)
    except (ValueError, ValidationError):
        share = -1.0
    if not 0 <= share <= 1:
        raise CampaignFileError(
            f"{quoted(text)} is not a share of messages",
            code="C490",
            hint="write a percentage from 0% to 100%",
        )
    return share


def _span(text: str) -> float:
    try:
        return parse_span(text)
    except ValidationError as error:
        raise CampaignFileError(
            f"{quoted(text)} is not a valid time span", code="C490", hint=error.issues[0].hint
        ) from None
