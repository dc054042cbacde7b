"""What the sandbox server shall do wrong: pure values, and the words of ``--fail`` that make them."""

from __future__ import annotations

import enum
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mailmerge.errors import CampaignFileError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from random import Random


class Command(enum.StrEnum):
    """Where in the conversation a refusal can be placed."""

    EHLO = "ehlo"
    AUTH = "auth"
    MAIL = "mail"
    RCPT = "rcpt"
    DATA = "data"
    CONTENT = "content"
    """The reply to the whole message: after the final dot, or after the last chunk."""


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
_SYNTAX = re.compile(
    r"(?:(?P<command>[a-z]+):)?(?P<code>[45]\d\d)(?: (?P<text>[^\r\n]+))?:(?P<share>[^:]+)", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A reply that *command* gets with *probability* (0 to 1) in place of its good one."""

    code: int
    probability: float
    command: Command = Command.RCPT
    text: str = ""

    def __str__(self) -> str:
        return f"{self.code} {self.text or _TEXTS.get(self.code, 'Refused by the rehearsal')}"


@dataclass(frozen=True, slots=True)
class FaultPlan:
    """How the sandbox server misbehaves; the default is a server without fault."""

    refusals: tuple[Refusal, ...] = ()
    drop_after_data: float = 0.0
    """Share of messages (0 to 1) that are taken, but whose reply is lost with the connection."""
    delay: float = 0.0
    """Seconds that pass before each message's last reply."""
    seed: int | None = None
    """Makes the misfortune repeatable; None: different at every start."""

    @classmethod
    def parse(
        cls,
        refusals: Iterable[str] = (),
        *,
        drop_after_data: str = "0%",
        delay: float = 0.0,
        seed: int | None = None,
    ) -> FaultPlan:
        """Read the words of the command line: ``450:2%``, ``auth:535:1%``, ``550 5.1.1 Who?:0.5%``.

        Raises `CampaignFileError` for anything else.
        """
        return cls(
            refusals=tuple(_refusal(text) for text in refusals),
            drop_after_data=_share(drop_after_data),
            delay=delay,
            seed=seed,
        )

    def refusal(self, command: Command, random: Random) -> str | None:
        """Roll the dice for one *command*: the reply that refuses it, or None."""
        for refusal in self.refusals:
            if refusal.command is command and random.random() < refusal.probability:
                return str(refusal)
        return None

    def drops(self, random: Random) -> bool:
        """Roll the dice for one accepted message: does the connection die before its reply."""
        return random.random() < self.drop_after_data


def _refusal(text: str) -> Refusal:
    match = _SYNTAX.fullmatch(text.strip())
    if match is None:
        raise CampaignFileError(
            f'"{text}" is no fault to rehearse',
            code="C490",
            hint="write CODE:SHARE or COMMAND:CODE:SHARE, such as 450:2% or auth:535:1%",
        )
    command = (match["command"] or "rcpt").lower()
    if command not in set(Command):
        raise CampaignFileError(
            f'"{command}" is no command that can be made to fail',
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
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100 if percent else 1)
    except ValueError:
        share = -1.0
    if rest or not 0 <= share <= 1:
        raise CampaignFileError(
            f'"{text}" is no share of messages', code="C490", hint="write a percentage from 0% to 100%"
        )
    return share
