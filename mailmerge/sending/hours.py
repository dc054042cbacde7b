"""The gate that is open when the schedule of a run lets messages out."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

from mailmerge.errors import CampaignFileError
from mailmerge.schedule import Schedule, moment_of

if TYPE_CHECKING:
    from datetime import datetime

    from mailmerge.clock import Clock
    from mailmerge.config.accounts import Account
    from mailmerge.options import SendOptions

_LOOK_AGAIN = 30.0
"""Seconds after which the wall clock is looked at again: it may have been put right."""


def schedule_of(send: SendOptions, account: Account, now: datetime, *, begun: bool = False) -> Schedule:
    """Put together when the messages of a campaign may go out.

    Args:
        send: what the campaign says.
        account: whose clock it is, where the campaign does not say it.
        now: decides which 09:00 is meant.
        begun: the time to begin at has come, and some messages went out: the next 09:00 is not waited for.

    Raises:
        CampaignFileError: they never may.

    """
    name = send.timezone or account.timezone
    zone = ZoneInfo(name) if name else None
    start = None if begun or send.at is None else moment_of(send.at, now, zone)
    schedule = Schedule(start, send.window, send.quiet_hours, zone)
    if schedule.is_never_open(now):
        raise CampaignFileError(
            f"there is no hour of the week at which anything may go out: {schedule.told()}",
            code="C405",
            hint="make send.quiet_hours shorter than send.window, or than the day",
        )
    return schedule


class HoursGate:
    """Tells the sender until when nothing may be offered; asks the schedule only where it can have changed.

    Args:
        schedule: when messages may go out.
        clock: the time.

    """

    def __init__(self, schedule: Schedule, clock: Clock) -> None:
        self._schedule = schedule
        self._clock = clock
        self._holds_until = 0.0 if schedule else math.inf
        self._opens = 0.0

    def __call__(self) -> float:
        """Give the steady clock's time at which the gate opens; in the past: it is open."""
        now = self._clock.monotonic()
        if now >= self._holds_until:
            wall = self._clock.now()
            opens = self._schedule.open_from(wall)
            holds: datetime = opens or self._schedule.closes_at(wall)
            self._holds_until = now + min((holds - wall).total_seconds(), _LOOK_AGAIN)
            self._opens = now + (opens - wall).total_seconds() if opens else 0.0
        return self._opens
