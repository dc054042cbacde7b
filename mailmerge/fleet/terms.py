"""What a worker must know about a campaign besides its messages; the server has it next to the plan."""

from __future__ import annotations

from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

import msgspec
from msgspec import Struct

from mailmerge.errors import LedgerError
from mailmerge.model import Rate  # noqa: TC001  decoded into
from mailmerge.schedule import Hours, Schedule

if TYPE_CHECKING:
    from typing import Self


class FleetRequest(Struct, frozen=True):
    """The request that workers send a campaign."""

    accounts: tuple[str, ...] = ()
    """The accounts that may send it, by their names in the workers' configuration; none: its own."""
    detach: bool = False
    """Leave as soon as they can begin."""


class FleetAccount(Struct, frozen=True):
    """An account that may send a campaign, by its name in the workers' configuration."""

    name: str
    slots: int
    """How many sessions it may have in all workers together, as far as the planning machine knows."""


class SendingTerms(Struct, frozen=True):
    """How a campaign is to be sent, from the machine that planned it."""

    campaign: str
    senders: tuple[str, ...]
    """The addresses of From: an account that may not send as all of them sends nothing."""
    version: str
    """Digest of the content version that attempts record."""
    accounts: tuple[FleetAccount, ...]
    retry: tuple[float, ...]
    max_rejected: float
    rates: tuple[Rate, ...] = ()
    """The campaign's own; an account's apply in addition."""
    per_domain: tuple[Rate, ...] = ()
    jitter: float = 0.0
    window: tuple[Hours, ...] = ()
    quiet_hours: tuple[Hours, ...] = ()
    timezone: str | None = None
    """None: the account's, or else that of the worker's machine."""
    run: int = 0
    """The run that attempts belong to."""
    keeps_messages: bool = False
    """Whether the messages stay in the database after the workers have sent them."""

    @classmethod
    def decode(cls, kept: bytes) -> Self:
        """Read what `encode` returned.

        Raises:
            LedgerError: it cannot be read.

        """
        try:
            return msgspec.json.decode(kept, type=cls)
        except msgspec.MsgspecError as error:
            raise LedgerError(
                f"how the campaign is to be sent cannot be read: {error}",
                code="L760",
                hint="run `send --fleet` again on the machine that planned it",
            ) from None

    def slots_of(self, account: str) -> int:
        """Return how many sessions an account may have; 0: not set."""
        return next((known.slots for known in self.accounts if known.name == account), 0)

    def encode(self) -> bytes:
        """Return it as JSON."""
        return msgspec.json.encode(self)

    def schedule(self, account_zone: str | None) -> Schedule:
        """Return the hours in which messages may be sent."""
        zone = self.timezone or account_zone
        return Schedule(None, self.window, self.quiet_hours, ZoneInfo(zone) if zone else None)
